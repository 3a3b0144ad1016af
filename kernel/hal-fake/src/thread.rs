//! Host threads as kernel stacks, and real kernel stacks.

use crate::machine;
use hal::cpu::{CpuBlock, KSTACK_SIZE, MAX_CPUS, SavedStack, StackHead, Waiter};
use std::any::Any;
use std::cell::OnceCell;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// The waiter of a host thread.
#[derive(Default)]
pub struct ThreadWaiter {
    /// It has announced a wait that nobody has ended.
    waits: Mutex<bool>,
    changed: Condvar,
    interrupted: AtomicBool,
}

impl ThreadWaiter {
    /// Makes interruptible waits end.
    pub fn set_interrupted(&self, on: bool) {
        self.interrupted.store(on, Ordering::SeqCst);
        if on {
            self.wake();
        }
    }
}

impl Waiter for ThreadWaiter {
    fn prepare_wait(&self, _interruptible: bool) {
        *self.waits.lock().unwrap() = true;
    }
    fn wait(&self, deadline_ns: Option<u64>) {
        let mut waits = self.waits.lock().unwrap();
        while *waits && deadline_ns.is_none_or(|d| machine().now() < d) {
            let (w, t) = self
                .changed
                .wait_timeout(waits, Duration::from_millis(1))
                .unwrap();
            waits = w;
            if t.timed_out()
                && *waits
                && let Some(d) = deadline_ns
            {
                machine().advance_to(d);
            }
        }
    }
    fn cancel_wait(&self) -> bool {
        !mem::take(&mut *self.waits.lock().unwrap())
    }
    fn wake(&self) -> bool {
        let waited = mem::take(&mut *self.waits.lock().unwrap());
        self.changed.notify_all();
        waited
    }
    fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }
    fn may_wait(&self) -> bool {
        true
    }
    fn yield_if_needed(&self) {}
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The waiter of the calling host thread.
pub fn current() -> &'static ThreadWaiter {
    hal::cpu::current_waiter()
        .as_any()
        .downcast_ref()
        .expect("a host thread")
}

/// Waiting threads look at the clock by themselves, each millisecond.
pub(crate) fn nudge() {}

fn new_head() -> &'static StackHead {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let id = NEXT.fetch_add(1, Ordering::Relaxed) % MAX_CPUS as u32;
    let waiter: &'static ThreadWaiter = Box::leak(Box::default());
    let block: &'static CpuBlock = Box::leak(Box::new(CpuBlock::new(id)));
    let head = Box::leak(Box::new(StackHead::new(Some(waiter))));
    head.cpu
        .store(std::ptr::from_ref(block).cast_mut(), Ordering::Relaxed);
    head
}

thread_local! {
    static HEAD: OnceCell<&'static StackHead> = const { OnceCell::new() };
}

#[unsafe(no_mangle)]
fn lodger_hal_host_head() -> &'static StackHead {
    HEAD.with(|h| *h.get_or_init(new_head))
}

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".globl lodger_fake_switch",
    "lodger_fake_switch:",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov [rdi], rsp",
    "mov rsp, rsi",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
    ".globl lodger_fake_start",
    "lodger_fake_start:",
    "mov rdi, r13",
    "call r12",
    "ud2",
);

#[cfg(target_arch = "x86_64")]
unsafe extern "C" {
    fn lodger_fake_switch(save: *mut u64, load: u64);
    fn lodger_fake_start();
}

#[cfg(target_arch = "x86_64")]
#[unsafe(no_mangle)]
fn lodger_hal_switch(save: &SavedStack, load: &SavedStack) {
    // SAFETY: the contract of `hal::cpu::switch_stack`.
    unsafe { lodger_fake_switch(save.0.as_ptr(), load.0.load(Ordering::Relaxed)) }
}

#[cfg(target_arch = "x86_64")]
#[unsafe(no_mangle)]
fn lodger_hal_init_stack(base: *mut u8, entry: extern "C" fn(usize) -> !, arg: usize) -> u64 {
    // r15 r14 r13 r12 rbx rbp, return address; aligned to 16 bytes behind it.
    // SAFETY: within the stack, which the caller owns.
    unsafe {
        let frame = base.add(KSTACK_SIZE - 16 - 56).cast::<u64>();
        frame.add(0).write(0);
        frame.add(1).write(0);
        frame.add(2).write(arg as u64);
        frame.add(3).write(entry as usize as u64);
        frame.add(4).write(0);
        frame.add(5).write(0);
        frame
            .add(6)
            .write(lodger_fake_start as *const () as usize as u64);
        frame.expose_provenance() as u64
    }
}

#[unsafe(no_mangle)]
fn lodger_hal_futex_wait(word: &AtomicU32, val: u32) {
    // SAFETY: the word is borrowed for the call.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            val,
            std::ptr::null::<libc::timespec>(),
        );
    }
}

#[unsafe(no_mangle)]
fn lodger_hal_futex_wake(word: &AtomicU32, n: u32) {
    // SAFETY: the word is borrowed for the call.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, n);
    }
}

#[unsafe(no_mangle)]
fn lodger_monotonic_ns() -> u64 {
    machine().now()
}
