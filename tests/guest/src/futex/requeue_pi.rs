//! FUTEX_WAIT_REQUEUE_PI and FUTEX_CMP_REQUEUE_PI: condition variables over PI locks.

use super::pi::{marks, pi, until_asleep_in_futex};
use super::{W, Waiters, fx, shared, word};
use crate::prelude::*;

/// Waits on `cond` (of value `val`) until it owns `lock`.
fn wait_requeue(cond: &AtomicU32, val: u32, t: *const timespec, lock: &AtomicU32) -> R {
    fx(cond, FUTEX_WAIT_REQUEUE_PI, val, t, lock, 0)
}

/// Wakes `wake` waiters of `cond` and moves up to `moved` to `lock`.
fn cmp_requeue(cond: &AtomicU32, wake: u32, moved: usize, lock: &AtomicU32, val: u32) -> R {
    raw!(
        SYS_futex,
        cond.as_ptr(),
        FUTEX_CMP_REQUEUE_PI,
        wake,
        moved,
        lock.as_ptr(),
        val
    )
}

/// Waiters that own the lock when they are let through, and say so.
fn waiters(n: usize) -> Waiters {
    Waiters::start(n, || {
        let r = wait_requeue(&W[0], 0, null(), &W[1]);
        if r.failed() {
            return r;
        }
        if W[1].load(SeqCst) & FUTEX_TID_MASK != gettid() as u32 {
            return R(1000);
        }
        pi(&W[1], FUTEX_UNLOCK_PI)
    })
}

pub fn requeue_pi() {
    pi(&W[1], FUTEX_LOCK_PI).v();
    let w = waiters(4);
    say!("all wait {} {}", w.done(), marks(&W[1]));
    say!("other value {}", cmp_requeue(&W[0], 1, 10, &W[1], 5));
    // While the lock is held, the one to wake is moved as well.
    say!(
        "one and one {} done {} {}",
        cmp_requeue(&W[0], 1, 1, &W[1], 0),
        w.done(),
        marks(&W[1])
    );
    say!(
        "one and none {} done {}",
        cmp_requeue(&W[0], 1, 0, &W[1], 0),
        w.done()
    );
    say!(
        "unlock {} done {}",
        pi(&W[1], FUTEX_UNLOCK_PI),
        w.done_are(3)
    );
    say!("rest {} {}", cmp_requeue(&W[0], 1, 10, &W[1], 0), w.join());
    say!(
        "nobody {} {:#x}",
        cmp_requeue(&W[0], 1, 10, &W[1], 0),
        W[1].load(SeqCst) & FUTEX_TID_MASK
    );
}

pub fn requeue_pi_free() {
    // Nobody owns the lock: the first waiter gets it at once.
    for (n, moved) in [(1, 0), (1, 5), (3, 0), (3, 1), (3, 5)] {
        W[1].store(0, SeqCst);
        let held = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let w = {
            let held = held.clone();
            Waiters::start(n, move || {
                let r = wait_requeue(&W[0], 0, null(), &W[1]);
                held.lock().unwrap().push(format!("{r} {}", marks(&W[1])));
                pi(&W[1], FUTEX_UNLOCK_PI)
            })
        };
        let moved_now = cmp_requeue(&W[0], 1, moved, &W[1], 0);
        say!(
            "{n}, {moved}: {moved_now} done {}",
            w.done_are(moved_now.0 as usize)
        );
        say!("rest {}", cmp_requeue(&W[0], 1, 10, &W[1], 0));
        say!("{}", w.join());
        say!("{:?}", held.lock().unwrap());
    }
    // A dead owner's mark stays.
    W[1].store(FUTEX_OWNER_DIED, SeqCst);
    let w = waiters(1);
    say!("died {} {}", cmp_requeue(&W[0], 1, 0, &W[1], 0), w.join());
}

pub fn requeue_pi_errors() {
    let t = ts(0);
    say!(
        "same word {} {}",
        wait_requeue(&W[0], 0, &t, &W[0]),
        cmp_requeue(&W[0], 1, 1, &W[0], 0)
    );
    say!(
        "wake two {} none {}",
        cmp_requeue(&W[0], 2, 1, &W[1], 0),
        cmp_requeue(&W[0], 0, 1, &W[1], 0)
    );
    say!("negative {}", cmp_requeue(&W[0], 1, usize::MAX, &W[1], 0));
    say!("value differs {}", wait_requeue(&W[0], 7, &t, &W[1]));
    let p = W[0].as_ptr() as usize;
    say!(
        "unaligned {} {}",
        raw!(SYS_futex, p, FUTEX_WAIT_REQUEUE_PI, 0, 0, p + 6, 0),
        raw!(SYS_futex, p, FUTEX_CMP_REQUEUE_PI, 1, 1, p + 6, 0)
    );
    say!(
        "null {} {}",
        raw!(SYS_futex, p, FUTEX_WAIT_REQUEUE_PI, 0, 0, 0, 0),
        raw!(SYS_futex, p, FUTEX_CMP_REQUEUE_PI, 1, 1, 0, 0)
    );
    let bad = timespec {
        tv_sec: 0,
        tv_nsec: -1,
    };
    say!("bad time {}", wait_requeue(&W[0], 0, &bad, &W[1]));
    // Who waits to be moved is not to be woken, nor to be moved to another word.
    pi(&W[1], FUTEX_LOCK_PI).v();
    let w = waiters(1);
    say!("wake {}", fx(&W[0], FUTEX_WAKE, 1, null(), null(), 0));
    say!("other lock {}", cmp_requeue(&W[0], 1, 1, &W[2], 0));
    say!(
        "plain requeue {}",
        raw!(
            SYS_futex,
            W[0].as_ptr(),
            FUTEX_REQUEUE,
            1,
            1,
            W[1].as_ptr(),
            0
        )
    );
    say!(
        "plain compare {}",
        raw!(
            SYS_futex,
            W[0].as_ptr(),
            FUTEX_CMP_REQUEUE,
            1,
            1,
            W[1].as_ptr(),
            0
        )
    );
    // No such owner.
    let owned = W[1].load(SeqCst);
    W[1].store(99999, SeqCst);
    say!("owner unknown {}", cmp_requeue(&W[0], 1, 1, &W[1], 0));
    W[1].store(owned, SeqCst);
    say!("done {}", w.done());
    say!(
        "{} {} {}",
        cmp_requeue(&W[0], 1, 1, &W[1], 0),
        pi(&W[1], FUTEX_UNLOCK_PI),
        w.join()
    );
    // A plain waiter is not to be moved to a lock.
    let w = Waiters::start(1, || fx(&W[0], FUTEX_WAIT, 0, null(), null(), 0));
    say!("plain waiter {}", cmp_requeue(&W[0], 1, 1, &W[1], 0));
    say!(
        "{} {}",
        fx(&W[0], FUTEX_WAKE, 1, null(), null(), 0),
        w.join()
    );
    // Who owns the lock and waits for it.
    let w = Waiters::start(1, || {
        W[1].store(0, SeqCst);
        pi(&W[1], FUTEX_LOCK_PI).v();
        let r = wait_requeue(&W[0], 0, &later(100), &W[1]);
        pi(&W[1], FUTEX_UNLOCK_PI).v();
        r
    });
    say!("its own lock {}", cmp_requeue(&W[0], 1, 1, &W[1], 0));
    say!("{}", w.join());
}

fn later(ms: i64) -> timespec {
    let mut t: timespec = zero();
    unsafe { clock_gettime(CLOCK_MONOTONIC, &mut t) };
    let n = t.tv_sec * 1_000_000_000 + t.tv_nsec + ms * 1_000_000;
    timespec {
        tv_sec: n / 1_000_000_000,
        tv_nsec: n % 1_000_000_000,
    }
}

pub fn requeue_pi_ends() {
    // Time is up: before it was moved, and after.
    say!("timeout {}", wait_requeue(&W[0], 0, &later(20), &W[1]));
    pi(&W[1], FUTEX_LOCK_PI).v();
    let w = Waiters::start(1, || wait_requeue(&W[0], 0, &later(1500), &W[1]));
    say!("moved {}", cmp_requeue(&W[0], 1, 0, &W[1], 0));
    say!("timeout {} {}", w.join(), marks(&W[1]));
    say!("unlock {}", pi(&W[1], FUTEX_UNLOCK_PI));
    // Signals: before it is moved the wait goes on, after that it ends.
    let base = shared(4096);
    let (cond, lock) = (word(base), word(base + 4));
    pi(lock, FUTEX_LOCK_PI).v();
    let out = pipe();
    let w = fork(|| {
        handle(SIGUSR1, nop, 0);
        let r = wait_requeue(cond, 0, null(), lock);
        write(out[1], format!("{r} {}", marks(lock)).as_bytes());
        0
    });
    until_asleep_in_futex(w);
    unsafe { kill(w, SIGUSR1) };
    ms(10);
    until_asleep_in_futex(w);
    say!("moved {}", cmp_requeue(cond, 1, 0, lock, 0));
    unsafe { kill(w, SIGUSR1) };
    say!("{} {}", wait(w), read(out[0], 100));
    say!("unlock {} {}", pi(lock, FUTEX_UNLOCK_PI), marks(lock));
    // Killed when moved: no heir.
    pi(lock, FUTEX_LOCK_PI).v();
    let w = fork(|| wait_requeue(cond, 0, null(), lock).err());
    until_asleep_in_futex(w);
    say!("moved {}", cmp_requeue(cond, 1, 0, lock, 0));
    unsafe { kill(w, SIGKILL) };
    say!(
        "{} unlock {} {}",
        wait(w),
        pi(lock, FUTEX_UNLOCK_PI),
        marks(lock)
    );
    // The owner dies while one waits that was moved.
    let up = Gate::new();
    lock.store(0, SeqCst);
    let w = fork(|| {
        let r = wait_requeue(cond, 0, null(), lock);
        say!("{r} {}", marks(lock));
        0
    });
    until_asleep_in_futex(w);
    let owner = fork(|| {
        pi(lock, FUTEX_LOCK_PI).v();
        up.open();
        say!("moved {}", cmp_requeue(cond, 1, 0, lock, 0));
        0
    });
    up.pass();
    say!("{} {}", wait(owner), wait(w));
}

/// A condition variable whose waiters are moved to the lock: producers and consumers.
pub fn requeue_pi_condition() {
    static ITEMS: AtomicU32 = AtomicU32::new(0);
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    const N: u32 = 400;
    let lock = || {
        let me = gettid() as u32;
        if W[1].compare_exchange(0, me, SeqCst, SeqCst).is_err() {
            pi(&W[1], FUTEX_LOCK_PI).v();
        }
    };
    let unlock = || {
        let me = gettid() as u32;
        if W[1].compare_exchange(me, 0, SeqCst, SeqCst).is_err() {
            pi(&W[1], FUTEX_UNLOCK_PI).v();
        }
    };
    let consumers: Vec<_> = (0..3)
        .map(|_| {
            std::thread::spawn(move || {
                loop {
                    lock();
                    while ITEMS.load(SeqCst) == 0 && TAKEN.load(SeqCst) < N {
                        let seq = W[0].load(SeqCst);
                        unlock();
                        let r = wait_requeue(&W[0], seq, null(), &W[1]);
                        if r.failed() {
                            lock();
                        }
                    }
                    if TAKEN.load(SeqCst) >= N {
                        unlock();
                        return;
                    }
                    ITEMS.fetch_sub(1, SeqCst);
                    TAKEN.fetch_add(1, SeqCst);
                    if TAKEN.load(SeqCst) == N {
                        let seq = W[0].fetch_add(1, SeqCst) + 1;
                        cmp_requeue(&W[0], 1, 100, &W[1], seq).v();
                    }
                    unlock();
                }
            })
        })
        .collect();
    let producers: Vec<_> = (0..2)
        .map(|_| {
            std::thread::spawn(move || {
                for _ in 0..N / 2 {
                    lock();
                    ITEMS.fetch_add(1, SeqCst);
                    let seq = W[0].fetch_add(1, SeqCst) + 1;
                    cmp_requeue(&W[0], 1, 0, &W[1], seq).v();
                    unlock();
                }
            })
        })
        .collect();
    producers.into_iter().for_each(|t| t.join().unwrap());
    consumers.into_iter().for_each(|t| t.join().unwrap());
    say!(
        "taken {} left {} {}",
        TAKEN.load(SeqCst),
        ITEMS.load(SeqCst),
        W[1].load(SeqCst) & FUTEX_TID_MASK
    );
}
