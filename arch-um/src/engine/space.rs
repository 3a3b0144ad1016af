//! [`hal::UserSpace`]: one guest address space and the user process that holds it.

use super::SeccompEngine;
use super::process::{Process, Use};
use crate::queue::{Queue, When};
use core::any::Any;
use core::ptr;
use core::sync::atomic::AtomicPtr;
use core::sync::atomic::Ordering::{Acquire, SeqCst};
use hal::{MapOp, UserSpace};

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
            queue: Queue::new(),
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

    fn add(&self, ops: &[MapOp], when: When) {
        let (min_addr, frames) = (self.engine.min_addr, self.engine.frames);
        self.queue.add(ops, when, min_addr, frames);
    }

    /// Empties the space. True: its process is clean, or there is none. False:
    /// it had to be ended, or had died.
    fn empty(&self) -> bool {
        self.queue.forget();
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
            && !(clean && p.refresh(self.engine.proc_dir).is_ok())
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
