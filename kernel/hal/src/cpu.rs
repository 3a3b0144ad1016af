//! Kernel stacks, the per-vCPU block and interrupts.
//!
//! Kernel code always runs on a *kernel stack*: [`KSTACK_SIZE`] bytes of the
//! memory file, aligned to their size, with a [`StackHead`] at the lowest
//! address. The stack pointer thus leads to everything a piece of kernel code
//! may ask about its surroundings, without thread-local storage.
//!
//! Kernel code is never preempted involuntarily. An interrupt sets a bit in
//! [`CpuBlock::pending`] and, if the CPU is running guest code or idle, makes
//! it come back to the kernel, which looks at the bits.

use crate::mem;
use core::any::Any;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// Number of a vCPU, from 0.
pub type CpuId = u32;
/// Largest number of vCPUs of a machine.
pub const MAX_CPUS: usize = 64;

/// Size and alignment of a kernel stack, in bytes. Debug builds need more.
pub const KSTACK_SIZE: usize = if cfg!(debug_assertions) {
    128 << 10
} else {
    64 << 10
};
/// Value of [`StackHead::magic`]; a different value means the stack ran over.
pub const KSTACK_MAGIC: u64 = 0x4c4f_4447_4552_5354;

/// Interrupt: the clock's deadline has passed.
pub const IRQ_TIMER: u32 = 1 << 0;
/// Interrupt: another CPU wants this one to look at its run queue.
pub const IRQ_RESCHED: u32 = 1 << 1;
/// Interrupt: a device has completed something; ask [`crate::dev::Devices::take_events`].
pub const IRQ_DEVICE: u32 = 1 << 2;
/// Interrupt: something about the task running in guest mode changed (signal).
pub const IRQ_NOTIFY: u32 = 1 << 3;
/// Interrupt: kernel code has left work for a moment without locks.
pub const IRQ_ASYNC: u32 = 1 << 4;
/// Interrupt: somebody looks whether pending interrupts are taken. Nothing else is to be done.
pub const IRQ_PING: u32 = 1 << 5;

/// What a vCPU is doing, kept in [`CpuBlock::mode`].
pub mod mode {
    /// Running kernel code.
    pub const KERNEL: u32 = 0;
    /// Running guest code, or about to.
    pub const USER: u32 = 1;
    /// Waiting in [`crate::engine::Engine::idle`], or about to.
    pub const IDLE: u32 = 2;
}

/// The part of a vCPU's state that interrupt senders and the engine share.
#[repr(C, align(64))]
pub struct CpuBlock {
    /// Number of this vCPU.
    pub id: CpuId,
    /// One of the constants in [`mode`].
    pub mode: AtomicU32,
    /// Pending interrupts (`IRQ_*`).
    pub pending: AtomicU32,
    /// The engine's own: what embodies this vCPU.
    pub engine: AtomicU64,
    /// The clock's programmed deadline, in ns of the monotonic clock; `u64::MAX` = none.
    pub deadline: AtomicU64,
}

impl CpuBlock {
    /// A block for vCPU `id`, in kernel mode, nothing pending.
    pub fn new(id: CpuId) -> CpuBlock {
        CpuBlock {
            id,
            mode: AtomicU32::new(mode::KERNEL),
            pending: AtomicU32::new(0),
            engine: AtomicU64::new(0),
            deadline: AtomicU64::new(u64::MAX),
        }
    }
    /// Takes all pending interrupts.
    #[inline]
    pub fn take_pending(&self) -> u32 {
        if self.pending.load(Ordering::Relaxed) == 0 {
            0
        } else {
            self.pending.swap(0, Ordering::AcqRel)
        }
    }
}

/// A thread of kernel control as the layers below the scheduler see it: enough
/// to wait and to be woken. Implemented by `task::Task` (and by host threads in
/// the tests).
///
/// Waiting is: `prepare_wait`, put oneself on the queue, check the condition,
/// `wait`. A `wake` after `prepare_wait` makes the next `wait` return at once,
/// so no wake-up is lost.
pub trait Waiter: Send + Sync {
    /// Announces a wait. `interruptible`: signals end it as well.
    fn prepare_wait(&self, interruptible: bool);
    /// Gives up the CPU until woken, or until `deadline_ns` of the monotonic
    /// clock. Only the thread itself calls this.
    fn wait(&self, deadline_ns: Option<u64>);
    /// Takes the announcement back; only the thread itself calls this. Whether
    /// somebody has ended the wait already.
    fn cancel_wait(&self) -> bool;
    /// Ends the current or announced wait. Any thread, any CPU; takes only
    /// run-queue locks. Whether there was one.
    fn wake(&self) -> bool;
    /// Whether a signal is pending that ends an interruptible wait.
    fn interrupted(&self) -> bool;
    /// Whether it may wait, spin locks aside: it has not announced a wait already.
    fn may_wait(&self) -> bool;
    /// Voluntary preemption point: runs another task if the scheduler wants to.
    fn yield_if_needed(&self);
    /// For the layers above, which know the concrete type.
    fn as_any(&self) -> &dyn Any;
}

/// Lowest bytes of every kernel stack.
#[repr(C, align(64))]
pub struct StackHead {
    /// [`KSTACK_MAGIC`].
    pub magic: u64,
    /// The vCPU that runs on this stack at the moment.
    pub cpu: AtomicPtr<CpuBlock>,
    /// Levels of the spin locks held (bit n = level n); debug builds only.
    pub held: AtomicU64,
    /// Number of spin locks held. Without a meaning on the stacks of host threads.
    pub lock_depth: AtomicU32,
    /// Allocations on this stack never wait: it is an idle task's, or makes memory free right now.
    pub relieving: AtomicBool,
    /// The machine has this one vCPU: nobody else runs kernel code, and locks need no atomic changes.
    pub alone: bool,
    /// Whose stack this is. Set before the stack first runs, never changed while it can run.
    pub waiter: Option<&'static dyn Waiter>,
}

impl StackHead {
    /// A head for the stack of `waiter`.
    pub fn new(waiter: Option<&'static dyn Waiter>) -> StackHead {
        StackHead {
            magic: KSTACK_MAGIC,
            cpu: AtomicPtr::new(core::ptr::null_mut()),
            held: AtomicU64::new(0),
            lock_depth: AtomicU32::new(0),
            relieving: AtomicBool::new(false),
            alone: false,
            waiter,
        }
    }
}

/// A saved stack pointer of a stack that is not running.
#[derive(Debug)]
#[repr(transparent)]
pub struct SavedStack(pub AtomicU64);

// Provided at link time by arch-um, or by hal-fake in the tests. They are plain
// functions because every lock and every allocation needs them.
unsafe extern "Rust" {
    /// Head for the calling host thread, on a stack that is no kernel stack.
    fn lodger_hal_host_head() -> &'static StackHead;
    /// Saves the running context to `*save` and continues the one in `load`.
    fn lodger_hal_switch(save: &SavedStack, load: &SavedStack);
    /// Lays out a first frame on the stack at `[base, base + KSTACK_SIZE)`.
    fn lodger_hal_init_stack(base: *mut u8, entry: extern "C" fn(usize) -> !, arg: usize) -> u64;
    /// Blocks the host thread while `*word == val` (contended locks only). May return early.
    fn lodger_hal_futex_wait(word: &AtomicU32, val: u32);
    /// Wakes up to `n` host threads in `lodger_hal_futex_wait` on `word`.
    fn lodger_hal_futex_wake(word: &AtomicU32, n: u32);
}

/// Head of the kernel stack that this code runs on.
#[inline]
pub fn current_stack() -> &'static StackHead {
    let here = MaybeUninit::<u8>::uninit();
    let at = here.as_ptr().addr();
    if !mem::is_direct_map(at) {
        // SAFETY: no preconditions.
        return unsafe { lodger_hal_host_head() };
    }
    // A look at the own address instead of a call: every lock comes here twice.
    let head: *const StackHead = core::ptr::with_exposed_provenance(at & !(KSTACK_SIZE - 1));
    // SAFETY: stacks in the memory file are kernel stacks, which are aligned and
    // start with their head; it lives as long as the stack runs.
    unsafe { &*head }
}

/// The waiter (task) that this code runs as.
///
/// # Panics
/// On a stack without one: the boot stack before the scheduler exists.
#[inline]
pub fn current_waiter() -> &'static dyn Waiter {
    current_stack().waiter.expect("kernel stack without a task")
}

/// The vCPU that this code runs on. Stays true until the next wait.
#[inline]
pub fn current_cpu() -> &'static CpuBlock {
    let p = current_stack().cpu.load(Ordering::Relaxed);
    // SAFETY: set by whoever switched to this stack to a block that lives as
    // long as the machine; never null while the stack runs.
    unsafe { &*p }
}

/// Switches from the running stack to `load`, leaving the running one in `save`.
///
/// # Safety
/// `load` must hold a stack pointer saved by this function or made by
/// [`init_stack`], used by nobody else, and both stacks must stay allocated.
/// The caller must have set the new stack's `StackHead::cpu`.
pub unsafe fn switch_stack(save: &SavedStack, load: &SavedStack) {
    // SAFETY: the caller's promise.
    unsafe { lodger_hal_switch(save, load) }
}

/// Prepares a stack so that switching to it calls `entry(arg)`.
///
/// # Safety
/// `base` must point to [`KSTACK_SIZE`] writable, aligned bytes of the memory
/// file with a [`StackHead`] at the start, and nothing may be running there.
pub unsafe fn init_stack(
    base: *mut u8,
    entry: extern "C" fn(usize) -> !,
    arg: usize,
) -> SavedStack {
    // SAFETY: the caller's promise.
    SavedStack(AtomicU64::new(unsafe {
        lodger_hal_init_stack(base, entry, arg)
    }))
}

/// Blocks the vCPU's host thread while `*word == val`; for contended spin locks.
pub fn futex_wait(word: &AtomicU32, val: u32) {
    // SAFETY: no preconditions; `word` is borrowed for the whole call.
    unsafe { lodger_hal_futex_wait(word, val) }
}

/// Wakes host threads blocked in [`futex_wait`] on `word`.
pub fn futex_wake(word: &AtomicU32, n: u32) {
    // SAFETY: no preconditions.
    unsafe { lodger_hal_futex_wake(word, n) }
}
