//! Rewriting call sites: copies of pages with jumps in them, beside the pristine frames.
//!
//! A page with a site has a copy and a page of trampolines in the *text file*. Both
//! depend on the page's contents only, so all processes use them. A page gets a new copy
//! for each new site; trampolines are added in place. A process maps the copy over the
//! page when calls there have trapped [`WARM`] times, the trampolines [`REACH`] above it,
//! which is beyond what guests can map. Reads of the file, and the page tables, know the
//! pristine frame only. The descriptor cannot write, so no change of rights can either.

use super::KmlEngine;
use super::space::Space;
use crate::lock::HostLock;
use crate::sysvec::SysVec;
use crate::x86_64::kml::REACH;
use crate::x86_64::patch::{self, SLOT, SLOTS};
use crate::x86_64::regs::{RAX, RIP};
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32};
use hal::{PAGE_SIZE, Pfn, Prot, USER_END, UserContext};
use host_sys::{Errno, fd, mem};

/// Where the text file is mapped, for the kernel.
const TEXT: usize = 0x6380_0000_0000;
/// Frames of the text file.
const FRAMES: usize = 1 << 16;
/// Traps in a page of a process before it is exchanged there.
const WARM: u8 = 3;
/// Pages exchanged in one process at most: each costs three of the host's mappings.
const PAGES: u32 = 100;

/// Descriptor of the text file that cannot write.
static TEXT_FD: AtomicI32 = AtomicI32::new(-1);

/// Makes the text file. Early: reaches it by a name.
pub(super) fn open_text() -> host_sys::Result {
    const MFD_EXEC: u32 = 0x10;
    let name = c"lodger-text";
    let file = fd::memfd_create(name, libc::MFD_CLOEXEC | MFD_EXEC)
        .or_else(|_| fd::memfd_create(name, libc::MFD_CLOEXEC))?;
    fd::ftruncate(file, (FRAMES * PAGE_SIZE) as u64)?;
    let path = format!("/proc/self/fd/{file}\0");
    let path = core::ffi::CStr::from_bytes_with_nul(path.as_bytes()).map_err(|_| Errno::EINVAL)?;
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE;
    // SAFETY: NOREPLACE: nothing that exists is replaced.
    let at = unsafe { mem::mmap(TEXT, FRAMES * PAGE_SIZE, prot, flags, file, 0) }?;
    if at != TEXT {
        return Err(Errno::EEXIST);
    }
    let read_only = fd::open(path, libc::O_RDONLY | libc::O_CLOEXEC, 0)?;
    fd::close(file);
    TEXT_FD.store(read_only, Relaxed);
    Ok(())
}

/// A page with sites.
#[derive(Clone, Copy)]
struct Page {
    copy: u32,
    trampolines: u32,
    sites: u8,
    starts: [u16; 64],
}

const _: () = assert!(SLOTS >= 64);

struct Text {
    used: u32,
    pages: SysVec<Page>,
}

/// All rewritten pages of the machine.
pub(crate) struct Patches {
    text: HostLock<Text>,
    /// Number of the page with sites of each frame, from 1; 0 = none.
    by_frame: &'static [AtomicU32],
    on: AtomicBool,
}

/// How often a process's pages have trapped.
pub(crate) struct Heat {
    /// This process keeps its sites.
    off: AtomicBool,
    traps: [AtomicU8; 256],
    exchanged: AtomicU32,
}

impl Heat {
    pub(crate) fn new() -> Heat {
        Heat {
            off: AtomicBool::new(false),
            traps: [const { AtomicU8::new(0) }; 256],
            exchanged: AtomicU32::new(0),
        }
    }
    /// For a process that is empty now.
    pub(crate) fn reset(&self) {
        self.off.store(false, Relaxed);
        if self.exchanged.swap(0, Relaxed) != 0 || self.traps.iter().any(|t| t.load(Relaxed) != 0) {
            self.traps.iter().for_each(|t| t.store(0, Relaxed));
        }
    }
    fn is_warm(&self, page: u64) -> bool {
        let i = (page >> 12) as usize % self.traps.len();
        let n = self.traps[i].load(Relaxed).saturating_add(1);
        self.traps[i].store(n, Relaxed);
        n >= WARM && !self.off.load(Relaxed) && self.exchanged.load(Relaxed) < PAGES
    }
}

fn frame(n: u32) -> &'static mut [u8] {
    let p: *mut u8 = core::ptr::with_exposed_provenance_mut(TEXT + n as usize * PAGE_SIZE);
    // SAFETY: within the mapped text file; frames are handed out once, and
    // the kernel's accesses are under the text's lock.
    unsafe { core::slice::from_raw_parts_mut(p, PAGE_SIZE) }
}

impl Text {
    fn take(&mut self) -> Option<u32> {
        let n = self.used;
        if n as usize >= FRAMES {
            return None;
        }
        self.used += 1;
        Some(n)
    }

    /// Whether the copy is still that of `pristine`.
    fn is_current(p: &Page, pristine: &[u8]) -> bool {
        let copy = frame(p.copy);
        let sites = &p.starts[..p.sites as usize];
        let same = |i: usize| {
            let patched = sites
                .iter()
                .any(|&s| (s as usize..s as usize + 5).contains(&i));
            patched || copy[i] == pristine[i]
        };
        copy.chunks(64)
            .zip(pristine.chunks(64))
            .enumerate()
            .all(|(c, (a, b))| a == b || (c * 64..c * 64 + 64).all(same))
    }
}

impl Patches {
    pub(crate) fn new(frames: u64, on: bool) -> Patches {
        Patches {
            text: HostLock::new(Text {
                used: 0,
                pages: SysVec::new(),
            }),
            by_frame: crate::sysvec::leak_slice(frames as usize, |_| AtomicU32::new(0)),
            on: AtomicBool::new(on && TEXT_FD.load(Relaxed) >= 0),
        }
    }

    /// Copy and trampolines of the page in frame `pfn`, the site whose call ended at `after` among them.
    fn with_site(&self, pfn: Pfn, after: usize, rax: u64) -> Option<(u32, u32)> {
        let entry = self.by_frame.get(pfn.0 as usize)?;
        // SAFETY: a frame that a user process has mapped; others may write
        // there, as to any memory of a guest: bytes are looked at once.
        let pristine = unsafe { core::slice::from_raw_parts(pfn.as_ptr(), PAGE_SIZE) };
        let start = patch::site(pristine, after, rax)?;
        let mut text = self.text.lock();
        let known = (entry.load(Relaxed) as usize).checked_sub(1);
        let known = known.and_then(|i| Some((i, *text.pages.get(i)?)));
        let known = known.filter(|(_, p)| Text::is_current(p, pristine));
        let (i, mut page) = match known {
            Some((_, p)) if p.starts[..p.sites as usize].contains(&(start as u16)) => {
                return Some((p.copy, p.trampolines));
            }
            Some((i, p)) => (Some(i), p),
            None => {
                let trampolines = text.take()?;
                (
                    None,
                    Page {
                        copy: u32::MAX,
                        trampolines,
                        sites: 0,
                        starts: [0; 64],
                    },
                )
            }
        };
        let slot = page.sites as usize;
        if slot >= page.starts.len() {
            return Some((page.copy, page.trampolines));
        }
        let copy = text.take()?;
        let code = patch::trampoline(start, slot, &pristine[start..start + 5]);
        frame(page.trampolines)[slot * SLOT..(slot + 1) * SLOT].copy_from_slice(&code);
        let old: &[u8] = if page.copy == u32::MAX {
            pristine
        } else {
            frame(page.copy)
        };
        let new = frame(copy);
        new.copy_from_slice(old);
        new[start..start + 5].copy_from_slice(&patch::jump(start, slot));
        page.starts[slot] = start as u16;
        page.sites += 1;
        page.copy = copy;
        match i.and_then(|i| text.pages.get_mut(i)) {
            Some(p) => *p = page,
            None => {
                text.pages.push(page);
                entry.store(text.pages.len() as u32, Relaxed);
            }
        }
        Some((page.copy, page.trampolines))
    }
}

impl KmlEngine {
    /// In this process, from now on, all calls trap. Trampolines stay: another thread may be in one.
    pub(crate) fn restore_sites(&self, space: &Space) {
        let p = space.process;
        if p.heat.off.swap(true, Relaxed) {
            return;
        }
        let mut map = p.map.lock();
        if p.heat.exchanged.load(Relaxed) > 0 {
            map.clear();
            // SAFETY: only the guest's mappings are there; they come back by faults.
            let _ = unsafe { mem::munmap(0, USER_END as usize) };
        }
    }

    /// A call of guest code in this process has trapped: next time it may be a jump.
    pub(crate) fn consider(&self, space: &Space, cx: &UserContext) {
        let (after, p) = (cx.gp[RIP], space.process);
        let page = after.wrapping_sub(1) & !(PAGE_SIZE as u64 - 1);
        let near = (USER_END - REACH..USER_END).contains(&page);
        if !near || !self.patches.on.load(Relaxed) || !p.heat.is_warm(page) {
            return;
        }
        let map = p.map.lock();
        let Some((pfn, prot)) = map.at(page) else {
            return;
        };
        if prot != Prot::READ | Prot::EXEC {
            return;
        }
        let after = (after - page) as usize;
        let Some((copy, trampolines)) = self.patches.with_site(pfn, after, cx.gp[RAX]) else {
            return;
        };
        p.heat.exchanged.fetch_add(1, Relaxed);
        let text = TEXT_FD.load(Relaxed);
        let rights = libc::PROT_READ | libc::PROT_EXEC;
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        for (at, n) in [(page + REACH, trampolines), (page, copy)] {
            let offset = u64::from(n) * PAGE_SIZE as u64;
            // SAFETY: the first is beyond what guests have; the second is the
            // guest's page, which gets the same code.
            if unsafe { mem::mmap(at as usize, PAGE_SIZE, rights, flags, text, offset) }.is_err() {
                return;
            }
        }
    }
}
