//! [`hal::UserSpace`] of the engine `kml`: one guest address space and its user process.

use super::KmlEngine;
use super::heat::Why;
use super::process::{Process, Vcpu};
use super::thread::Thread;
use crate::lock::HostLock;
use crate::queue::{Queue, When};
use crate::sysvec::SysVec;
use crate::x86_64::kml;
use core::any::Any;
use core::sync::atomic::Ordering::{Relaxed, Release, SeqCst};
use hal::cpu::{self, CpuBlock, mode};
use hal::engine::Direct;
use hal::{MapOp, Mappings, UserSpace};
use host_sys::mem;
use std::sync::Weak;

/// A guest address space. Lock order: a process's map lock, then the queue's.
pub(crate) struct Space {
    engine: &'static KmlEngine,
    pub(crate) queue: Queue,
    pub(crate) process: &'static Process,
    /// Tells where trampolines may be, and what may be copied.
    mappings: HostLock<Option<Weak<dyn Mappings>>>,
}

impl Space {
    pub(crate) fn new(engine: &'static KmlEngine, process: &'static Process) -> Space {
        Space {
            engine,
            queue: Queue::new(),
            process,
            mappings: HostLock::new(None),
        }
    }

    /// Whether the guest's mappings say yes. A no, unlike an answer that cannot be had now, is why some calls trap.
    pub(crate) fn allows(&self, no: Why, ask: impl FnOnce(&dyn Mappings) -> Option<bool>) -> bool {
        let guest = self.mappings.lock().as_ref().and_then(Weak::upgrade);
        let answer = guest.and_then(|g| ask(&*g));
        if answer == Some(false) {
            self.process.heat.tell(no);
        }
        answer == Some(true)
    }

    /// The thread of vCPU `cpu`, the caller's, if that is in this space's process.
    #[inline]
    fn thread_here(&self, cpu: &CpuBlock) -> Option<&'static Thread> {
        let t = Vcpu::here(cpu);
        let here = t.process().is_some_and(|p| core::ptr::eq(p, self.process));
        here.then_some(t)
    }

    /// Whether the calling vCPU's thread is in this space's process.
    fn is_here(&self) -> bool {
        self.thread_here(cpu::current_cpu()).is_some()
    }

    /// Lets `copy` access guest memory as the guest would, if its mappings are here, up to date, and the guest's.
    fn as_guest(&self, addr: u64, len: usize, copy: impl FnOnce() -> bool) -> Direct {
        let end = addr.saturating_add(len as u64);
        let cpu = cpu::current_cpu();
        let Some(block) = self.thread_here(cpu).and_then(Thread::block) else {
            return Direct::Elsewhere;
        };
        if self.process.heat.room.overlaps(addr, end) {
            return Direct::Elsewhere;
        }
        // As in `run_guest`: who takes a page away from now on changes the mappings, and waits for
        // that, before the frame is somebody else's. The mode stays USER meanwhile.
        let in_call = block.is_in_call();
        block.set_in_call(false);
        let was = cpu.mode.load(Relaxed);
        if was != mode::USER {
            cpu.mode.store(mode::USER, SeqCst);
        }
        let done = match self.is_stale() {
            true => Direct::Elsewhere,
            false if copy() => Direct::Done,
            false => Direct::Fault,
        };
        if was != mode::USER {
            cpu.mode.store(was, Release);
        }
        block.set_in_call(in_call);
        done
    }

    /// Whether another vCPU may be running guest code here.
    fn is_running(&self) -> bool {
        let me = cpu::current_cpu();
        self.engine.vcpus.iter().any(|v| {
            let here = v.try_current().and_then(|t| t.process());
            here.is_some_and(|p| core::ptr::eq(p, self.process))
                && v.cpu_block()
                    .is_some_and(|b| b.mode.load(SeqCst) == mode::USER && !core::ptr::eq(b, me))
        })
    }

    /// Whether there are changes that guest code must not run before.
    pub(crate) fn is_stale(&self) -> bool {
        self.queue.dirty.load(SeqCst) || self.queue.busy.load(SeqCst)
    }

    /// In process `p`, this space's: carries out what is queued.
    pub(crate) fn apply_here(&self, p: &Process) {
        let mut map = p.map.lock();
        let mut ops = SysVec::new();
        let drop_all = self.queue.take(&mut ops);
        let mut failed = false;
        if drop_all {
            p.drop_all(&mut map);
        }
        if p.heat.evict.swap(false, SeqCst) {
            self.engine.evict(p, &mut map);
        }
        for op in ops.iter() {
            match *op {
                MapOp::Map {
                    addr,
                    len,
                    pfn,
                    prot,
                    populate,
                } => {
                    if !map.map(addr, addr + len, pfn, prot) {
                        continue;
                    }
                    p.heat.forget(addr, addr + len);
                    let populate = if populate { libc::MAP_POPULATE } else { 0 };
                    let flags = libc::MAP_SHARED | libc::MAP_FIXED | populate;
                    let (fd, offset) = (self.engine.mem_fd, pfn.file_offset());
                    // SAFETY: below USER_END are only the guest's mappings.
                    let r = unsafe {
                        mem::mmap(
                            addr as usize,
                            len as usize,
                            prot.bits() as i32,
                            flags,
                            fd,
                            offset,
                        )
                    };
                    failed |= r.is_err();
                }
                MapOp::Unmap { addr, len } => {
                    if map.unmap(addr, addr + len) {
                        p.heat.forget(addr, addr + len);
                        // SAFETY: as above.
                        failed |= unsafe { mem::munmap(addr as usize, len as usize) }.is_err();
                    }
                }
                MapOp::Protect { addr, len, prot } => {
                    p.heat.forget_kept(addr, addr + len);
                    map.protect(addr, addr + len, prot, |s, e| {
                        let prot = prot.bits() as i32;
                        // SAFETY: as above.
                        let r = unsafe { mem::mprotect(s as usize, (e - s) as usize, prot) };
                        failed |= r.is_err();
                    });
                }
            }
            if failed || map.len() > self.engine.map_limit {
                failed = false;
                p.drop_all(&mut map);
            }
        }
        self.queue.busy.store(false, SeqCst);
    }

    /// Brings the mappings up to date, from whatever process.
    fn apply(&self) {
        match self.is_here() {
            true => self.apply_here(self.process),
            false => self.process.apply_there(self),
        }
    }

    fn empty(&self) {
        self.queue.forget();
        match self.is_here() {
            true => self.process.wipe_here(),
            false => self.process.wipe_there(),
        }
    }
}

impl UserSpace for Space {
    fn queue(&self, ops: &[MapOp]) {
        let (min_addr, frames) = (self.engine.min_addr, self.engine.options.frames);
        self.queue.add(ops, When::BeforeNextRun, min_addr, frames);
    }

    fn flush(&self) {
        if self.queue.dirty.load(SeqCst) && self.is_running() {
            self.apply();
        } else {
            // Another vCPU may have taken the queue and not be done.
            drop(self.process.map.lock());
        }
    }

    fn clear(&self) {
        self.empty();
    }

    fn copy_in(&self, addr: u64, buf: &mut [u8]) -> Direct {
        let to = buf.as_mut_ptr().expose_provenance();
        // SAFETY: the buffer is the caller's; guest memory is what is below USER_END.
        self.as_guest(addr, buf.len(), || unsafe {
            kml::copy(to, addr as usize, buf.len())
        })
    }

    fn copy_out(&self, addr: u64, buf: &[u8]) -> Direct {
        let from = buf.as_ptr().expose_provenance();
        // SAFETY: as above.
        self.as_guest(addr, buf.len(), || unsafe {
            kml::copy(addr as usize, from, buf.len())
        })
    }

    fn alive(&self) -> bool {
        !self.process.dead.load(SeqCst)
    }

    fn set_mappings(&self, of: Weak<dyn Mappings>) {
        *self.mappings.lock() = Some(of);
    }

    fn claim(&self, start: u64, end: u64) {
        let heat = &self.process.heat;
        if heat.room.overlaps(start, end) {
            heat.evict.store(true, SeqCst);
            self.apply();
        }
    }

    fn keep_code(&self) {
        let heat = &self.process.heat;
        // Who exchanges a page has the map locked, and looks at the switch then: from the second line on
        // either that is seen here, or the switch there.
        let news = heat.turn_off(Why::Asked);
        drop(self.process.map.lock());
        if news && heat.has_exchanged() {
            heat.evict.store(true, SeqCst);
            self.apply();
        }
    }

    fn notice(&self) -> Option<&'static str> {
        self.process.heat.notice()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.empty();
        self.engine.release(self.process);
    }
}
