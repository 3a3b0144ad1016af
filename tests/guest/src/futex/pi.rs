//! Priority-inheritance futexes: ownership, its end, circles, boosts.

use super::{W, Waiters, fx, shared, word};
use crate::prelude::*;

pub fn pi(a: &AtomicU32, op: i32) -> R {
    fx(a, op, 0, null(), null(), 0)
}

pub fn pi_basic() {
    let a = &W[0];
    say!(
        "lock {} owner {}",
        pi(a, FUTEX_LOCK_PI),
        a.load(SeqCst) == gettid() as u32
    );
    say!(
        "again {} try {}",
        pi(a, FUTEX_LOCK_PI),
        pi(a, FUTEX_TRYLOCK_PI)
    );
    let r = std::thread::spawn(|| (pi(&W[0], FUTEX_TRYLOCK_PI), pi(&W[0], FUTEX_UNLOCK_PI)))
        .join()
        .unwrap();
    say!("other thread: try {} unlock {}", r.0, r.1);
    say!(
        "unlock {} word {}",
        pi(a, FUTEX_UNLOCK_PI),
        a.load(SeqCst) & !FUTEX_WAITERS
    );
    say!("unlock again {}", pi(a, FUTEX_UNLOCK_PI));
    let t = ts(0);
    pi(a, FUTEX_LOCK_PI);
    let r = std::thread::spawn(move || fx(&W[0], FUTEX_LOCK_PI, 0, &t, null(), 0))
        .join()
        .unwrap();
    say!("timeout {r}");
    pi(a, FUTEX_UNLOCK_PI);
}

pub fn pi_contention() {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let t: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                for _ in 0..300 {
                    let me = gettid() as u32;
                    if W[1].compare_exchange(0, me, SeqCst, SeqCst).is_err() {
                        pi(&W[1], FUTEX_LOCK_PI).v();
                    }
                    let v = COUNT.load(SeqCst);
                    if v % 50 == 0 {
                        std::thread::yield_now();
                    }
                    COUNT.store(v + 1, SeqCst);
                    if W[1].compare_exchange(me, 0, SeqCst, SeqCst).is_err() {
                        pi(&W[1], FUTEX_UNLOCK_PI).v();
                    }
                }
            })
        })
        .collect();
    t.into_iter().for_each(|t| t.join().unwrap());
    say!("{} word {}", COUNT.load(SeqCst), W[1].load(SeqCst));
}

pub fn pi_errors() {
    W[2].store(99999, SeqCst);
    say!("owner unknown {}", pi(&W[2], FUTEX_LOCK_PI));
    W[2].store(0, SeqCst);
    say!("unlock free {}", pi(&W[2], FUTEX_UNLOCK_PI));
    let p = W[2].as_ptr() as usize;
    say!(
        "unaligned {} null {}",
        raw!(SYS_futex, p + 1, FUTEX_LOCK_PI, 0, 0, 0, 0),
        raw!(SYS_futex, 0, FUTEX_LOCK_PI, 0, 0, 0, 0)
    );
}

/// The mark bits of a word, and whose it is.
pub fn marks(a: &AtomicU32) -> String {
    let v = a.load(SeqCst);
    let owner = match v & FUTEX_TID_MASK {
        0 => "free",
        t if t == gettid() as u32 => "mine",
        _ => "other",
    };
    let waiters = if v & FUTEX_WAITERS != 0 {
        " waiters"
    } else {
        ""
    };
    let died = if v & FUTEX_OWNER_DIED != 0 {
        " died"
    } else {
        ""
    };
    format!("{owner}{waiters}{died}")
}

/// Waits until a thread of this process sleeps in the kernel.
pub fn until_thread_asleep(tid: i32) {
    let me = unsafe { getpid() };
    for _ in 0..5000 {
        let s = std::fs::read_to_string(format!("/proc/{me}/task/{tid}/stat")).unwrap_or_default();
        if s.contains(") S") {
            return;
        }
        ms(1);
    }
    say!("never asleep");
}

/// A thread that owns the word until it is told to end, without unlocking.
fn dying_owner(a: &'static AtomicU32) -> (std::thread::JoinHandle<()>, Gate) {
    let (up, end) = (Gate::new(), Gate::new());
    let t = std::thread::spawn(move || {
        pi(a, FUTEX_LOCK_PI).v();
        up.open();
        end.pass();
    });
    up.pass();
    (t, end)
}

/// Locks, tells with which marks, and unlocks.
fn lock_and_tell(a: &AtomicU32, tell: impl FnOnce(String)) -> i32 {
    let r = pi(a, FUTEX_LOCK_PI);
    tell(format!("{r} {}", marks(a)));
    pi(a, FUTEX_UNLOCK_PI).err()
}

pub fn pi_owner_dies() {
    for waiters in [1, 3] {
        let a = &W[0];
        a.store(0, SeqCst);
        let (t, end) = dying_owner(a);
        let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let w = {
            let told = told.clone();
            Waiters::start(waiters, move || {
                let e = lock_and_tell(&W[0], |s| told.lock().unwrap().push(s));
                R(-e as i64)
            })
        };
        say!("{waiters} wait, done {} {}", w.done(), marks(a));
        end.open();
        t.join().unwrap();
        say!("{}", w.join());
        for s in told.lock().unwrap().iter() {
            say!("{s}");
        }
        say!("word {:#x}", a.load(SeqCst));
    }
    // Nobody waited: there is no owner to be found.
    let a = &W[0];
    let (t, end) = dying_owner(a);
    end.open();
    t.join().unwrap();
    say!("nobody waited: {} {}", marks(a), pi(a, FUTEX_LOCK_PI));
    say!(
        "try {} unlock {}",
        pi(a, FUTEX_TRYLOCK_PI),
        pi(a, FUTEX_UNLOCK_PI)
    );
}

pub fn pi_owner_dies_shared() {
    let a = word(shared(4096));
    for how in ["exits", "is killed"] {
        a.store(0, SeqCst);
        let up = Gate::new();
        let owner = fork(|| {
            pi(a, FUTEX_LOCK_PI).v();
            up.open();
            until_asleep(unsafe { getppid() });
            if how == "exits" {
                return 0;
            }
            unsafe { raise(SIGKILL) };
            1
        });
        up.pass();
        let r = pi(a, FUTEX_LOCK_PI);
        say!("owner {how}: {r} {} {}", marks(a), wait(owner));
        say!("unlock {} {:#x}", pi(a, FUTEX_UNLOCK_PI), a.load(SeqCst));
    }
    // Waiters in two processes, at two addresses.
    let q = sys!(mremap(a.as_ptr().cast(), 0, 4096, MREMAP_MAYMOVE)).v() as usize;
    let (up, end) = (Gate::new(), Gate::new());
    let owner = fork(|| {
        pi(a, FUTEX_LOCK_PI).v();
        up.open();
        end.pass();
        0
    });
    up.pass();
    let out = pipe();
    let tell = |a: &AtomicU32| {
        lock_and_tell(a, |s| {
            write(out[1], format!("{s}\n").as_bytes());
        })
    };
    let first = fork(|| tell(word(q)));
    until_asleep_in_futex(first);
    let second = fork(|| tell(a));
    until_asleep_in_futex(second);
    say!("both wait: {}", marks(a));
    end.open();
    say!("{} {} {}", wait(owner), wait(first), wait(second));
    close(out[1]);
    say!("{}", read(out[0], 1000));
    say!("word {:#x}", a.load(SeqCst));
}

/// A process that owns `a`, which is on its robust list (or is what it is about to lock).
fn robust_owner(base: usize, pending: bool, end: Gate) -> i32 {
    let up = Gate::new();
    let pid = fork(|| unsafe {
        let h = base as *mut usize;
        let e = (base + 64) as *mut usize;
        // Bit 0 of a link says that it leads to a PI lock.
        *h = if pending { h as usize } else { e as usize | 1 };
        *h.add(1) = 16;
        *h.add(2) = if pending { e as usize | 1 } else { 0 };
        *e = h as usize;
        raw!(SYS_set_robust_list, h, 24).v();
        pi(word(base + 80), FUTEX_LOCK_PI).v();
        up.open();
        end.pass();
        0
    });
    up.pass();
    pid
}

pub fn pi_owner_dies_robust() {
    let base = shared(4096);
    let a = word(base + 80);
    for pending in [false, true] {
        a.store(0, SeqCst);
        let end = Gate::new();
        let owner = robust_owner(base, pending, end);
        let waiter = fork(|| lock_and_tell(a, |s| say!("waiter: {s}")));
        until_asleep_in_futex(waiter);
        end.open();
        say!("{} {} {:#x}", wait(owner), wait(waiter), a.load(SeqCst));
        let end = Gate::new();
        let owner = robust_owner(base, pending, end);
        end.open();
        say!("nobody waits: {} {}", wait(owner), marks(a));
        let r = pi(a, FUTEX_LOCK_PI);
        say!("lock {r} {}", marks(a));
        say!("unlock {} {:#x}", pi(a, FUTEX_UNLOCK_PI), a.load(SeqCst));
    }
}

pub fn pi_owner_executes() {
    let a = word(shared(4096));
    let up = Gate::new();
    let owner = fork(|| {
        pi(a, FUTEX_LOCK_PI).v();
        up.open();
        until_asleep(unsafe { getppid() });
        let p = me();
        exec(&p, &["guest", "--tool", "exit", "7"], &[]);
        1
    });
    up.pass();
    let r = pi(a, FUTEX_LOCK_PI);
    say!("{r} {} {}", marks(a), wait(owner));
}

pub fn pi_circles() {
    for n in [2usize, 3, 5] {
        // Thread i owns word i and wants word i + 1; the last one closes the circle.
        let up = Gate::new();
        W.iter().for_each(|w| w.store(0, SeqCst));
        let tids: &'static [AtomicI32; 8] = Box::leak(Box::new([const { AtomicI32::new(0) }; 8]));
        let go = Gate::new();
        let t: Vec<_> = (0..n - 1)
            .map(|i| {
                std::thread::spawn(move || {
                    pi(&W[i], FUTEX_LOCK_PI).v();
                    tids[i].store(gettid(), SeqCst);
                    up.open();
                    go.pass();
                    let r = pi(&W[i + 1], FUTEX_LOCK_PI);
                    let u = (pi(&W[i + 1], FUTEX_UNLOCK_PI), pi(&W[i], FUTEX_UNLOCK_PI));
                    format!("{r} {} {}", u.0, u.1)
                })
            })
            .collect();
        pi(&W[n - 1], FUTEX_LOCK_PI).v();
        for _ in 1..n {
            up.pass();
        }
        (1..n).for_each(|_| go.open());
        for i in 0..n - 1 {
            until_thread_asleep_in_futex(tids[i].load(SeqCst));
        }
        say!("{n}: closes the circle {}", pi(&W[0], FUTEX_LOCK_PI));
        say!(
            "again {} unlock {}",
            pi(&W[0], FUTEX_LOCK_PI),
            pi(&W[n - 1], FUTEX_UNLOCK_PI)
        );
        for t in t {
            say!("{}", t.join().unwrap());
        }
        let left: Vec<u32> = W.iter().map(|w| w.load(SeqCst)).collect();
        say!("{left:?}");
    }
}

/// Waits until a thread of this process sleeps in futex(2).
pub fn until_thread_asleep_in_futex(tid: i32) {
    until_in_futex(&format!("/proc/self/task/{tid}"));
    until_thread_asleep(tid);
}

/// Waits until a child sleeps in futex(2).
pub fn until_asleep_in_futex(pid: i32) {
    until_in_futex(&format!("/proc/{pid}"));
    until_asleep(pid);
}

fn until_in_futex(dir: &str) {
    for _ in 0..5000 {
        let s = std::fs::read_to_string(format!("{dir}/syscall")).unwrap_or_default();
        if s.starts_with(&format!("{SYS_futex} ")) {
            return;
        }
        ms(1);
    }
    say!("never in futex");
}

pub fn pi_plain_calls() {
    let a = &W[0];
    pi(a, FUTEX_LOCK_PI).v();
    let w = Waiters::start(1, || {
        let r = pi(&W[0], FUTEX_LOCK_PI);
        pi(&W[0], FUTEX_UNLOCK_PI).v();
        r
    });
    let two = |op: i32, n: usize| {
        let v = a.load(SeqCst);
        raw!(SYS_futex, a.as_ptr(), op, 1, n, W[1].as_ptr(), v)
    };
    say!("wake {}", fx(a, FUTEX_WAKE, 1, null(), null(), 0));
    say!(
        "wake of a set {}",
        fx(a, FUTEX_WAKE_BITSET, 1, null(), null(), 1)
    );
    say!(
        "requeue {} {}",
        two(FUTEX_REQUEUE, 1),
        two(FUTEX_CMP_REQUEUE, 1)
    );
    // Sets the second word, 0 = 0.
    let op = raw!(SYS_futex, a.as_ptr(), FUTEX_WAKE_OP, 1, 1, W[1].as_ptr(), 0);
    say!("wake op {op}");
    let op = raw!(
        SYS_futex,
        W[1].as_ptr(),
        FUTEX_WAKE_OP,
        1,
        1,
        a.as_ptr(),
        1 << 28
    );
    say!("wake op, second {op}");
    say!("done {}", w.done());
    pi(a, FUTEX_UNLOCK_PI).v();
    say!("{}", w.join());
    // The other way round: somebody waits without wanting to own.
    let v = 0x3fff_0000u32;
    W[2].store(v, SeqCst);
    let w = Waiters::start(1, move || fx(&W[2], FUTEX_WAIT, v, null(), null(), 0));
    say!(
        "lock of a plain word {} try {}",
        pi(&W[2], FUTEX_LOCK_PI),
        pi(&W[2], FUTEX_TRYLOCK_PI)
    );
    W[2].store(gettid() as u32, SeqCst);
    say!("unlock of it {}", pi(&W[2], FUTEX_UNLOCK_PI));
    say!(
        "wake {} {}",
        fx(&W[2], FUTEX_WAKE, 1, null(), null(), 0),
        w.join()
    );
}

pub fn pi_mark_bits() {
    let a = &W[0];
    a.store(0, SeqCst);
    pi(a, FUTEX_LOCK_PI).v();
    say!("locked: {}", marks(a));
    std::thread::spawn(|| say!("try {} {}", pi(&W[0], FUTEX_TRYLOCK_PI), marks(&W[0])))
        .join()
        .unwrap();
    say!("unlock {} {}", pi(a, FUTEX_UNLOCK_PI), marks(a));
    for v in [
        FUTEX_WAITERS,
        FUTEX_OWNER_DIED,
        FUTEX_WAITERS | FUTEX_OWNER_DIED,
    ] {
        a.store(v, SeqCst);
        say!(
            "free with {v:#x}: try {} {}",
            pi(a, FUTEX_TRYLOCK_PI),
            marks(a)
        );
        say!("unlock {} {}", pi(a, FUTEX_UNLOCK_PI), marks(a));
        a.store(v, SeqCst);
        say!("lock {} {}", pi(a, FUTEX_LOCK_PI), marks(a));
        say!("unlock {} {}", pi(a, FUTEX_UNLOCK_PI), marks(a));
    }
    // Handed over: by whom, is no matter; whether more wait, is.
    for n in [1, 2] {
        pi(a, FUTEX_LOCK_PI).v();
        let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let w = {
            let seen = seen.clone();
            Waiters::start(n, move || {
                let r = pi(&W[0], FUTEX_LOCK_PI);
                seen.lock().unwrap().push(marks(&W[0]));
                pi(&W[0], FUTEX_UNLOCK_PI).v();
                r
            })
        };
        say!("{n} wait: {}", marks(a));
        say!("unlock {} {}", pi(a, FUTEX_UNLOCK_PI), w.join());
        say!("{:?} then {}", seen.lock().unwrap(), marks(a));
    }
    // The word was changed by hand while somebody waits.
    pi(a, FUTEX_LOCK_PI).v();
    let held = a.load(SeqCst);
    let w = Waiters::start(1, || {
        let r = pi(&W[0], FUTEX_LOCK_PI);
        pi(&W[0], FUTEX_UNLOCK_PI).v();
        r
    });
    let contended = a.load(SeqCst);
    let other = std::thread::spawn(move || {
        W[0].store(gettid() as u32, SeqCst);
        let r = (pi(&W[0], FUTEX_UNLOCK_PI), pi(&W[0], FUTEX_LOCK_PI));
        W[0].store(1, SeqCst);
        let s = (pi(&W[0], FUTEX_UNLOCK_PI), pi(&W[0], FUTEX_LOCK_PI));
        W[0].store(0, SeqCst);
        let t = (pi(&W[0], FUTEX_UNLOCK_PI), pi(&W[0], FUTEX_LOCK_PI));
        format!("{} {}, {} {}, {} {}", r.0, r.1, s.0, s.1, t.0, t.1)
    });
    say!("changed: {}", other.join().unwrap());
    W[0].store(contended, SeqCst);
    say!(
        "{} {} {}",
        held == gettid() as u32,
        pi(a, FUTEX_UNLOCK_PI),
        w.join()
    );
}

pub fn pi_timeouts() {
    const LOCK_PI2: i32 = 13;
    let abs = |clock, add: i64| {
        let mut t: timespec = zero();
        unsafe { clock_gettime(clock, &mut t) };
        let n = t.tv_sec * 1_000_000_000 + t.tv_nsec + add * 1_000_000;
        timespec {
            tv_sec: n / 1_000_000_000,
            tv_nsec: n % 1_000_000_000,
        }
    };
    let a = &W[0];
    pi(a, FUTEX_LOCK_PI).v();
    std::thread::spawn(move || {
        let a = &W[0];
        for (n, op, clock) in [
            ("lock", FUTEX_LOCK_PI, CLOCK_REALTIME),
            ("lock2", LOCK_PI2, CLOCK_MONOTONIC),
            (
                "lock2 real",
                LOCK_PI2 | FUTEX_CLOCK_REALTIME,
                CLOCK_REALTIME,
            ),
        ] {
            let (r, when) = took(29, || {
                let t = abs(clock, 30);
                fx(a, op, 0, &t, null(), 0)
            });
            say!("{n} {r} {when} {}", marks(a));
        }
        let t = abs(CLOCK_REALTIME, 10);
        say!(
            "lock with a clock {}",
            fx(a, FUTEX_LOCK_PI | FUTEX_CLOCK_REALTIME, 0, &t, null(), 0)
        );
        say!(
            "unlock with a clock {}",
            pi(a, FUTEX_UNLOCK_PI | FUTEX_CLOCK_REALTIME)
        );
        let bad = timespec {
            tv_sec: 0,
            tv_nsec: 1_000_000_000,
        };
        say!(
            "bad time {} {}",
            fx(a, FUTEX_LOCK_PI, 0, &bad, null(), 0),
            fx(a, LOCK_PI2, 0, &bad, null(), 0)
        );
        say!(
            "try looks at no time {}",
            fx(a, FUTEX_TRYLOCK_PI, 0, &bad, null(), 0)
        );
        let past = ts(0);
        say!("past {}", fx(a, FUTEX_LOCK_PI, 0, &past, null(), 0));
    })
    .join()
    .unwrap();
    say!("unlock {} {}", pi(a, FUTEX_UNLOCK_PI), marks(a));
    say!(
        "free, past {} {}",
        fx(a, FUTEX_LOCK_PI, 0, &ts(0), null(), 0),
        pi(a, FUTEX_UNLOCK_PI)
    );
}

pub fn pi_signals() {
    // A handler does not end the wait, with or without SA_RESTART.
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let a = word(shared(4096));
    let seen = word(a.as_ptr() as usize + 64);
    SEEN.store(seen.as_ptr() as usize, SeqCst);
    extern "C" fn count(_: i32, _: *mut siginfo_t, _: *mut c_void) {
        word(SEEN.load(SeqCst)).fetch_add(1, SeqCst);
    }
    for flags in [0, SA_RESTART] {
        seen.store(0, SeqCst);
        pi(a, FUTEX_LOCK_PI).v();
        let w = fork(|| {
            handle(SIGUSR1, count, flags);
            let r = pi(a, FUTEX_LOCK_PI);
            say!("{r} {} handled {}", marks(a), seen.load(SeqCst));
            pi(a, FUTEX_UNLOCK_PI).err()
        });
        for n in 0..3 {
            until_asleep_in_futex(w);
            unsafe { kill(w, SIGUSR1) };
            while seen.load(SeqCst) <= n {
                ms(1);
            }
        }
        until_asleep_in_futex(w);
        let u = pi(a, FUTEX_UNLOCK_PI);
        say!("{} unlock {u} {}", wait(w), marks(a));
    }
    // A killed waiter is no heir.
    pi(a, FUTEX_LOCK_PI).v();
    let w = fork(|| pi(a, FUTEX_LOCK_PI).err());
    until_asleep_in_futex(w);
    unsafe { kill(w, SIGKILL) };
    say!("{} {}", wait(w), marks(a));
    say!("unlock {} {}", pi(a, FUTEX_UNLOCK_PI), marks(a));
}
