//! The primitives under loom: small programs in all their interleavings, up to a bound of
//! involuntary switches for the larger ones. A lost wake-up is a deadlock that loom reports;
//! data under a lock are a cell in which it sees races.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release -p lodger-sync --test loom --target-dir target/loom
//! ```
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use loom::thread;
use sync::{Mutex, Once, RwLock, SpinLock, WaitQueue, level};

fn explore(preemptions: usize, program: impl Fn() + Sync + Send + 'static) {
    let mut b = loom::model::Builder::new();
    b.preemption_bound = Some(preemptions);
    b.max_branches = 20_000;
    b.check(program);
}

/// Adds one, in two steps.
fn count(n: &UnsafeCell<u32>) {
    // SAFETY: the caller holds the lock; loom notices if not.
    n.with_mut(|n| unsafe { *n += 1 });
}
fn value(n: &UnsafeCell<u32>) -> u32 {
    // SAFETY: as above.
    n.with(|n| unsafe { *n })
}

/// Runs `f` in `n` threads, this one among them.
fn together(n: usize, f: impl Fn() + Clone + 'static) {
    let others: Vec<_> = (1..n).map(|_| thread::spawn(f.clone())).collect();
    f();
    others.into_iter().for_each(|t| t.join().unwrap());
}

type Spin = SpinLock<UnsafeCell<u32>, { level::LEAF }>;

#[test]
fn spin_lock_excludes() {
    for (threads, preemptions) in [(2, 4), (3, 2)] {
        explore(preemptions, move || {
            let lock = Arc::new(Spin::new(UnsafeCell::new(0)));
            let l = lock.clone();
            together(threads, move || count(&l.lock()));
            assert_eq!(value(&lock.lock()), threads as u32);
        });
    }
}

#[test]
fn spin_lock_is_handed_over() {
    explore(4, || {
        let lock = Arc::new(Spin::new(UnsafeCell::new(0)));
        let l = lock.clone();
        together(2, move || {
            let g = l.lock();
            count(&g);
            g.hand_over();
            // SAFETY: handed over just now, to nobody else.
            let g = unsafe { l.take_over() };
            count(&g);
        });
        let busy = lock.try_lock().map(|g| value(&g));
        assert_eq!(busy, Some(4));
    });
}

#[test]
fn mutex_excludes_and_wakes() {
    for (threads, preemptions) in [(2, 3), (3, 1)] {
        explore(preemptions, move || {
            let lock = Arc::new(Mutex::new(UnsafeCell::new(0)));
            let l = lock.clone();
            together(threads, move || count(&l.lock()));
            assert_eq!(value(&lock.lock()), threads as u32);
        });
    }
}

#[test]
fn rwlock_readers_and_writers() {
    explore(2, || {
        let lock = Arc::new(RwLock::new(UnsafeCell::new(0)));
        let (reader, writer) = (lock.clone(), lock.clone());
        let r = thread::spawn(move || value(&reader.read()));
        let w = thread::spawn(move || count(&writer.write()));
        assert!(value(&lock.read()) <= 1);
        assert!(r.join().unwrap() <= 1);
        w.join().unwrap();
        assert_eq!(value(&lock.write()), 1);
    });
}

#[test]
fn once_is_set_by_one() {
    explore(4, || {
        let once = Arc::new(Once::new());
        let other = once.clone();
        let t = thread::spawn(move || other.set(UnsafeCell::new(7)).is_ok());
        let mine = once.set(UnsafeCell::new(7)).is_ok();
        if let Some(v) = once.get() {
            assert_eq!(value(v), 7);
        }
        assert!(t.join().unwrap() ^ mine);
        assert!(once.get().is_some());
    });
}

#[test]
fn no_wake_up_is_lost() {
    explore(3, || {
        let shared = Arc::new((AtomicUsize::new(0), WaitQueue::new()));
        let s = shared.clone();
        let t = thread::spawn(move || {
            s.0.store(1, Relaxed);
            s.1.wake_all();
        });
        let got = shared.1.wait(|| (shared.0.load(Relaxed) == 1).then_some(5));
        assert_eq!(got, Ok(5));
        t.join().unwrap();
        assert!(!shared.1.has_waiters());
    });
}

#[test]
fn a_wake_up_for_others_hides_none() {
    explore(3, || {
        let shared = Arc::new((AtomicUsize::new(0), WaitQueue::new()));
        let s = shared.clone();
        let t = thread::spawn(move || {
            for n in [1, 2] {
                s.0.store(n, Relaxed);
                s.1.wake_all();
            }
        });
        let got = shared.1.wait(|| (shared.0.load(Relaxed) == 2).then_some(5));
        assert_eq!(got, Ok(5));
        t.join().unwrap();
    });
}

/// Takes one of the things there are, waiting for it.
fn take(s: &(AtomicUsize, WaitQueue)) -> bool {
    let one = || {
        s.0.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1))
            .ok()
    };
    s.1.wait_exclusive(one).is_ok()
}

#[test]
fn each_thing_wakes_one_waiter() {
    explore(2, || {
        let shared = Arc::new((AtomicUsize::new(0), WaitQueue::new()));
        let (a, b) = (shared.clone(), shared.clone());
        let takers = [
            thread::spawn(move || take(&a)),
            thread::spawn(move || take(&b)),
        ];
        for _ in 0..2 {
            shared.0.fetch_add(1, Relaxed);
            shared.1.wake_one();
        }
        for t in takers {
            assert!(t.join().unwrap());
        }
    });
}

#[test]
fn who_is_interrupted_passes_the_wake_up_on() {
    explore(2, || {
        let shared = Arc::new((AtomicUsize::new(0), WaitQueue::new()));
        let (a, b) = (shared.clone(), shared.clone());
        let interrupted = thread::spawn(move || {
            sync::base::cpu::current_task().interrupt();
            take(&a)
        });
        let patient = thread::spawn(move || take(&b));
        shared.0.fetch_add(1, Relaxed);
        shared.1.wake_one();
        // The thing goes to one of them; if the first has it, there is another.
        if interrupted.join().unwrap() {
            shared.0.fetch_add(1, Relaxed);
            shared.1.wake_one();
        }
        assert!(patient.join().unwrap());
    });
}
