//! [`hal::UserSpace`]: one guest address space and the user process that holds it.

use super::SeccompEngine;
use super::process::{Changes, Process, Queue, Use};
use crate::lock::HostLock;
use crate::sysvec::SysVec;
use core::any::Any;
use core::ptr;
use core::sync::atomic::Ordering::{Acquire, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicPtr};
use hal::{MapOp, PAGE_SIZE, USER_END, UserSpace};

/// Changes queued before everything is dropped instead.
const QUEUE_MAX: usize = 512;

/// When changes have to be carried out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    BeforeNextRun,
    /// Together with others that have to be.
    WithOthers,
}

/// A guest address space. Lock order: a process's map lock, then the queue's.
pub(crate) struct Space {
    engine: &'static SeccompEngine,
    pub(crate) queue: Queue,
    /// The user process; null after [`UserSpace::clear`] had to end it, until the next run.
    process: AtomicPtr<Process>,
}

impl Space {
    pub(crate) fn new(engine: &'static SeccompEngine, process: &'static Process) -> Space {
        Space {
            engine,
            queue: Queue {
                changes: HostLock::new(Changes {
                    drop_all: false,
                    ops: SysVec::new(),
                }),
                dirty: AtomicBool::new(false),
                busy: AtomicBool::new(false),
            },
            process: AtomicPtr::new(ptr::from_ref(process).cast_mut()),
        }
    }

    /// The user process, if there is one.
    pub(crate) fn process(&self) -> Option<&'static Process> {
        // SAFETY: null, or made from a reference that lives for ever.
        unsafe { self.process.load(Acquire).as_ref() }
    }

    /// The user process, held.
    pub(crate) fn hold(&self) -> Option<Use> {
        loop {
            let held = Use::new(self.process()?);
            // Given up in between: its slot may be another space's already.
            if self.process().is_some_and(|p| ptr::eq(p, *held)) {
                return Some(held);
            }
        }
    }

    /// Takes `process` for this space, unless another vCPU was faster.
    pub(crate) fn attach(&self, process: &'static Process) {
        let new = ptr::from_ref(process).cast_mut();
        let null = ptr::null_mut();
        if self
            .process
            .compare_exchange(null, new, SeqCst, SeqCst)
            .is_err()
        {
            self.engine.release(process);
        }
    }

    /// Gives up process `p` of this space, which dies.
    pub(crate) fn replace(&self, p: &'static Process) {
        p.kill();
        p.wait_until_dead();
        let old = ptr::from_ref(p).cast_mut();
        if self
            .process
            .compare_exchange(old, ptr::null_mut(), SeqCst, SeqCst)
            .is_ok()
        {
            self.engine.let_go(p);
        }
    }

    /// Adds changes to the queue.
    fn add(&self, ops: &[MapOp], when: When) {
        let mut q = self.queue.changes.lock();
        for op in ops {
            if !valid(op, self.engine.min_addr, self.engine.frames) {
                debug_assert!(false, "impossible mapping {op:x?}");
                continue;
            }
            if let Some(last) = q.ops.last_mut()
                && merge(last, op)
            {
                continue;
            }
            if q.ops.len() >= QUEUE_MAX {
                q.ops.clear();
                q.drop_all = true;
            }
            q.ops.push(*op);
        }
        // Under the queue's lock, so that whoever takes the queue answers for it.
        if q.drop_all || when == When::BeforeNextRun && !q.ops.is_empty() {
            self.queue.dirty.store(true, SeqCst);
        }
    }

    /// Empties the space. True: its process is clean, or there is none. False:
    /// it had to be ended, or had died.
    fn empty(&self) -> bool {
        {
            let mut q = self.queue.changes.lock();
            q.ops.clear();
            q.drop_all = false;
            self.queue.dirty.store(false, SeqCst);
        }
        let Some(p) = self.process() else {
            return true;
        };
        {
            let mut m = p.map.lock();
            if m.settle(p).is_ok() && p.all_parked_soon(true) {
                p.wipe(&mut m, self.engine.frame());
                self.queue.busy.store(false, SeqCst);
                return true;
            }
        }
        // Dead, or hijacked. Its memory is gone when the host process is.
        p.kill();
        p.wait_until_dead();
        false
    }
}

impl UserSpace for Space {
    fn queue(&self, ops: &[MapOp]) {
        self.add(ops, When::BeforeNextRun);
    }

    fn queue_ahead(&self, ops: &[MapOp]) {
        self.add(ops, When::WithOthers);
    }

    fn flush(&self) {
        let (dirty, busy) = (&self.queue.dirty, &self.queue.busy);
        if !dirty.load(SeqCst) && !busy.load(SeqCst) {
            return;
        }
        let Some(p) = self.hold() else {
            return;
        };
        let p = *p;
        let mut m = p.map.lock();
        let mut done = m.settle(p);
        if done.is_ok() {
            busy.store(false, SeqCst);
            // Nobody runs here, and who will be let go next brings the queue first.
            if !dirty.load(SeqCst) || p.all_parked_soon(false) {
                return;
            }
            done = m
                .apply(p, &self.queue, self.engine.map_limit, None)
                .map(|_| ());
        }
        if done.is_err() {
            drop(m);
            p.wait_until_dead();
        }
    }

    fn clear(&self) {
        let clean = self.empty();
        if let Some(p) = self.process()
            && !(clean && p.refresh(self.engine.frame(), self.engine.proc_dir).is_ok())
        {
            self.replace(p);
        }
    }

    fn alive(&self) -> bool {
        self.process().is_none_or(|p| !p.dead.load(SeqCst))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let clean = self.empty();
        if let Some(p) = self.process() {
            if clean {
                self.engine.release(p);
            } else {
                self.engine.let_go(p);
            }
        }
    }
}

/// Whether the host can be asked for `op`, in a machine of `frames` frames.
pub(crate) fn valid(op: &MapOp, min_addr: u64, frames: u64) -> bool {
    let page = PAGE_SIZE as u64;
    let (MapOp::Map { addr, len, .. }
    | MapOp::Unmap { addr, len }
    | MapOp::Protect { addr, len, .. }) = *op;
    let range = len != 0
        && addr % page == 0
        && len % page == 0
        && addr.checked_add(len).is_some_and(|end| end <= USER_END);
    match *op {
        MapOp::Map { pfn, .. } => {
            range && addr >= min_addr && u64::from(pfn.0) + len / page <= frames
        }
        _ => range,
    }
}

/// Extends `last` by `op` if they are of one kind and adjacent.
pub(crate) fn merge(last: &mut MapOp, op: &MapOp) -> bool {
    match (last, *op) {
        (
            MapOp::Map {
                addr,
                len,
                pfn,
                prot,
                populate,
            },
            MapOp::Map {
                addr: a,
                len: l,
                pfn: f,
                prot: p,
                populate: q,
            },
        ) => {
            let next = pfn.file_offset() + *len == f.file_offset();
            let fits = *addr + *len == a && next && *prot == p && *populate == q;
            if fits {
                *len += l;
            }
            fits
        }
        (MapOp::Unmap { addr, len }, MapOp::Unmap { addr: a, len: l }) => {
            let fits = *addr + *len == a;
            if fits {
                *len += l;
            }
            fits
        }
        (
            MapOp::Protect { addr, len, prot },
            MapOp::Protect {
                addr: a,
                len: l,
                prot: p,
            },
        ) => {
            let fits = *addr + *len == a && *prot == p;
            if fits {
                *len += l;
            }
            fits
        }
        _ => false,
    }
}
