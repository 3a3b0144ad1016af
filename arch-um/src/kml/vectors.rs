//! The vector state and the FS base of a task, which stay in its thread's registers until somebody asks.

use super::KmlEngine;
use super::thread::Thread;
use crate::x86_64::kml::{self, Block, XSAVE, vectors};
use crate::x86_64::regs::{FS_BASE, clean_base};
use crate::x86_64::{cpuid, fpu};
use core::sync::atomic::Ordering::Relaxed;
use hal::UserContext;
use hal::cpu;

/// XSAVE areas are aligned to so many bytes.
const XSAVE_ALIGN: usize = 64;

/// What of the vector state is switched, and how.
pub(crate) struct Components {
    all: u64,
    /// Those that are moved register by register, which takes far less time than XSAVE and XRSTOR, as long as x87 and all
    /// others are in their initial state: what libc uses. 0: the CPU does not tell what is.
    quick: u64,
}

impl Components {
    /// Of this host.
    pub(crate) fn new() -> Components {
        let all = fpu::host().features;
        let mut quick = fpu::SSE;
        if cpuid::has_avx512() {
            quick |= all & (vectors::OPMASK | vectors::HIGH);
        }
        Components {
            all,
            quick: if cpuid::tells_in_use() { quick } else { 0 },
        }
    }

    /// Those of the live state that are not in their initial state.
    fn in_use(&self) -> u64 {
        match self.quick {
            0 => self.all,
            _ => vectors::in_use() & self.all,
        }
    }

    fn is_quick(&self, used: u64) -> bool {
        self.quick != 0 && used & !self.quick == 0
    }
}

impl KmlEngine {
    /// Copies the vector state and the FS base from the thread's registers to `cx`, if they are there.
    pub(crate) fn fetch_fp(&self, cx: &mut UserContext) {
        let name = core::mem::take(&mut cx.home);
        if name == 0 {
            return;
        }
        let v = &self.vcpus[cpu::current_cpu().id as usize];
        let t = v.current();
        if name != home(t) {
            debug_assert!(false, "a vector state in another thread's registers");
            return;
        }
        let Some(b) = t.block() else { return };
        cx.gp[FS_BASE] = kml::fs_base();
        let host = fpu::host();
        let mut dirty = fpu::in_use(&cx.fp);
        cx.fp.resize(host.size, 0);
        let used = self.components.in_use();
        t.leave_vectors(used);
        if self.components.is_quick(used) {
            let mxcsr = vectors::mxcsr();
            host.make_plain(&mut cx.fp, b.xmm(), mxcsr, used);
            // SAFETY: on the block's thread, where the state lives; these components are in use, so the
            // CPU has them, and the buffer is as long as a whole state.
            unsafe { vectors::save(used, |part| host.part(&mut cx.fp, part)) };
        } else {
            let own = cx.fp.as_mut_ptr();
            let area = match own.addr() % XSAVE_ALIGN {
                0 => own,
                _ => core::ptr::with_exposed_provenance_mut(b.at() + XSAVE),
            };
            // SAFETY: as above; either area is larger than a state, and aligned.
            unsafe {
                area.add(fpu::LEGACY)
                    .write_bytes(0, fpu::MIN_SIZE - fpu::LEGACY);
                vectors::save_all(b, area, (used | fpu::FP_SSE) & self.components.all);
                if area != own {
                    area.copy_to_nonoverlapping(own, host.size);
                    dirty = u64::MAX;
                }
            }
            host.clean(&mut cx.fp);
        }
        fpu::mark_in_use(&mut cx.fp);
        host.normalize(&mut cx.fp, dirty);
    }

    /// Loads the vector state and the FS base of `cx`.
    pub(crate) fn load_fp(&self, t: &Thread, b: &'static Block, cx: &mut UserContext) {
        let host = fpu::host();
        let spare: *mut u8 = core::ptr::with_exposed_provenance_mut(b.at() + XSAVE);
        // SAFETY: the block's area, larger than a state; only this thread uses it.
        let spare = unsafe { core::slice::from_raw_parts_mut(spare, host.size) };
        let own = &mut cx.fp[..];
        let area = if own.len() < fpu::MIN_SIZE {
            host.make_initial(spare);
            spare
        } else if own.len() >= host.size && own.as_ptr().addr() % XSAVE_ALIGN == 0 {
            host.clean(own);
            own
        } else {
            let n = own.len().min(spare.len());
            spare[..n].copy_from_slice(&own[..n]);
            host.clean(spare);
            spare
        };
        // Kernel code changes none but xmm registers.
        let live = t.left_vectors();
        let live = live.unwrap_or_else(|| self.components.in_use());
        let quick = fpu::without_x87(area).filter(|u| self.components.is_quick(u | live));
        // SAFETY: on the block's thread; the state was cleaned of what the CPU refuses, and is whole. The CPU has what
        // is in use.
        unsafe {
            match quick {
                Some(used) => {
                    vectors::load_xmm(b, fpu::xmm(area), fpu::mxcsr(area));
                    vectors::load(used, live, |part| host.part(area, part));
                }
                None => {
                    let new = live | fpu::in_use(area) | fpu::FP_SSE;
                    vectors::load_all(b, area.as_ptr(), new & self.components.all);
                }
            }
        }
        let fs = clean_base(cx.gp[FS_BASE]);
        if kml::fs_base() != fs {
            kml::set_fs_base(fs);
        }
        t.count_owner();
        cx.home = home(t);
    }
}

/// Name of the vector state and the FS base in `t`'s registers.
pub(crate) fn home(t: &Thread) -> u64 {
    (t.tid.load(Relaxed) as u64) << 40 | t.owner() << 1 | 1
}
