//! What the primitives stand on when loom explores their interleavings: its
//! atomics, host threads that sleep on words, and tasks that are its threads.

#![expect(missing_docs, reason = "only the tests of this crate see it")]

pub use loom::hint;
pub use loom::sync::atomic;

/// Deadlines are not explored.
pub fn monotonic_ns() -> u64 {
    0
}

pub mod cpu {
    use core::any::Any;
    use hal::cpu::Waiter;
    use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
    use loom::sync::{Condvar, Mutex};
    use std::boxed::Box;

    loom::lazy_static! {
        /// All sleepers share one queue: each may wake up without a reason, as on the host.
        static ref SLEEP: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
    }
    loom::thread_local! {
        static ME: &'static Task = Box::leak(Box::new(Task {
            waits: Mutex::new(false),
            ended: Condvar::new(),
            interrupted: AtomicBool::new(false),
        }));
    }

    /// Sleeps while `word` is `val`.
    pub fn futex_wait(word: &AtomicU32, val: u32) {
        let guard = SLEEP.0.lock().expect("nobody panics with it");
        if word.load(SeqCst) == val {
            drop(SLEEP.1.wait(guard));
        }
    }
    pub fn futex_wake(_word: &AtomicU32, _n: u32) {
        let _guard = SLEEP.0.lock().expect("nobody panics with it");
        SLEEP.1.notify_all();
    }

    /// A task: one of loom's threads.
    pub struct Task {
        /// Not loom's park(), which forgets an unpark() that comes before some other wait.
        waits: Mutex<bool>,
        ended: Condvar,
        interrupted: AtomicBool,
    }
    impl Task {
        /// As a signal does.
        pub fn interrupt(&self) {
            self.interrupted.store(true, SeqCst);
            self.wake();
        }
    }
    impl Waiter for Task {
        fn prepare_wait(&self, _interruptible: bool) {
            *self.waits.lock().expect("nobody panics with it") = true;
        }
        fn wait(&self, _deadline_ns: Option<u64>) {
            let mut waits = self.waits.lock().expect("nobody panics with it");
            while *waits {
                waits = self.ended.wait(waits).expect("nobody panics with it");
            }
        }
        fn cancel_wait(&self) -> bool {
            !core::mem::take(&mut *self.waits.lock().expect("nobody panics with it"))
        }
        fn wake(&self) -> bool {
            let waited = core::mem::take(&mut *self.waits.lock().expect("nobody panics with it"));
            self.ended.notify_all();
            waited
        }
        fn interrupted(&self) -> bool {
            self.interrupted.load(SeqCst)
        }
        fn may_wait(&self) -> bool {
            true
        }
        fn yield_if_needed(&self) {}
        fn as_any(&self) -> &dyn Any {
            self
        }
    }

    pub fn current_task() -> &'static Task {
        ME.with(|t| *t)
    }
    pub fn current_waiter() -> &'static dyn Waiter {
        current_task()
    }
    pub fn current_stack() -> &'static hal::cpu::StackHead {
        unreachable!("lock levels are not checked here")
    }
}
