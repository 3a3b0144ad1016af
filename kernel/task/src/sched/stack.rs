//! Kernel stacks: runs of frames, a few of them kept for reuse.
#![expect(unsafe_code)]

use crate::{Task, level};
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::AtomicU64;
use hal::cpu::{self, CpuBlock, KSTACK_SIZE, SavedStack, StackHead, Waiter};
use hal::{PAGE_SIZE, Pfn};
use sync::SpinLock;

const FRAMES: usize = KSTACK_SIZE / PAGE_SIZE;
/// Stacks kept for reuse.
const KEPT: usize = 16;

/// Stacks of tasks that are gone, for new ones.
pub(crate) struct StackPool {
    free: SpinLock<([Option<Pfn>; KEPT], usize), { level::LEAF }>,
    /// See [`StackHead::alone`].
    alone: bool,
}

impl StackPool {
    /// For a machine with `ncpus` vCPUs.
    pub(crate) fn new(ncpus: u32) -> StackPool {
        StackPool {
            free: SpinLock::new(([None; KEPT], 0)),
            alone: ncpus == 1,
        }
    }
    /// A stack. [`Errno::ENOMEM`].
    pub(crate) fn alloc(&'static self) -> Result<KernelStack> {
        let kept = {
            let mut g = self.free.lock();
            let (slots, n) = &mut *g;
            match n.checked_sub(1) {
                Some(i) => {
                    *n = i;
                    slots.get_mut(i).and_then(Option::take)
                }
                None => None,
            }
        };
        let base = match kept {
            Some(p) => p,
            None => mm::frame::alloc_run(FRAMES).ok_or(Errno::ENOMEM)?,
        };
        Ok(KernelStack { base, pool: self })
    }
    fn free(&self, base: Pfn) {
        {
            let mut g = self.free.lock();
            let (slots, n) = &mut *g;
            if let Some(s) = slots.get_mut(*n) {
                *s = Some(base);
                *n += 1;
                return;
            }
        }
        mm::frame::free_run(base, FRAMES);
    }
}

/// A kernel stack; given back on drop, when nothing runs on it any more.
pub(crate) struct KernelStack {
    base: Pfn,
    pool: &'static StackPool,
}

impl KernelStack {
    /// Writes the stack's head and first frame, so that switching to it calls `entry` with the task's address.
    pub(crate) fn prepare(&self, task: &Arc<Task>, entry: extern "C" fn(usize) -> !) -> SavedStack {
        let raw = Arc::as_ptr(task);
        // SAFETY: the task owns this stack, and code runs on the stack only
        // while the task exists: the last reference is dropped after the last
        // switch away (`sched::finish_switch`).
        let waiter: &'static dyn Waiter = unsafe { &*raw };
        let base = self.base.as_ptr();
        let mut head = StackHead::new(Some(waiter));
        head.alone = self.pool.alone;
        // SAFETY: the run of frames is ours, KSTACK_SIZE bytes and aligned to
        // that; nothing runs there yet.
        unsafe {
            base.cast::<StackHead>().write(head);
            cpu::init_stack(base, entry, raw.expose_provenance())
        }
    }
    /// Says which vCPU is about to run on it.
    pub(crate) fn set_cpu(&self, cpu: &CpuBlock) {
        // SAFETY: `prepare` wrote a head there, which lives as long as the stack.
        let head = unsafe { &*self.base.as_ptr().cast::<StackHead>() };
        head.cpu.store(
            core::ptr::from_ref(cpu).cast_mut(),
            core::sync::atomic::Ordering::Relaxed,
        );
    }
    /// Whether the head is intact: the stack did not run over.
    pub(crate) fn intact(&self) -> bool {
        // SAFETY: as in `set_cpu`.
        unsafe { (*self.base.as_ptr().cast::<StackHead>()).magic == cpu::KSTACK_MAGIC }
    }
}

impl Drop for KernelStack {
    fn drop(&mut self) {
        self.pool.free(self.base);
    }
}

/// A place for a stack pointer.
pub(crate) fn no_stack() -> SavedStack {
    SavedStack(AtomicU64::new(0))
}
