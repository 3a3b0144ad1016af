//! futex(2).

use crate::prelude::*;

mod pi;
mod pi_boost;
mod requeue_pi;
use pi::*;
use pi_boost::*;
use requeue_pi::*;

tests![
    wait_basics,
    wake_counts,
    timeouts,
    bitsets,
    requeue,
    wake_op,
    errors,
    across_processes,
    private_and_shared,
    file_backed,
    pi_basic,
    pi_contention,
    pi_errors,
    pi_owner_dies,
    pi_owner_dies_shared,
    pi_owner_dies_robust,
    pi_owner_executes,
    pi_circles,
    pi_plain_calls,
    pi_mark_bits,
    pi_timeouts,
    pi_signals,
    pi_order,
    pi_boost,
    pi_boost_chain,
    pi_inversion,
    pi_crowd,
    requeue_pi,
    requeue_pi_free,
    requeue_pi_errors,
    requeue_pi_ends,
    requeue_pi_condition,
    robust_list,
    interrupted,
    waitv,
    ping_pong,
    stress,
];

static W: [AtomicU32; 8] = [const { AtomicU32::new(0) }; 8];

fn fx(a: &AtomicU32, op: i32, val: u32, t: *const timespec, b: *const AtomicU32, v3: u32) -> R {
    raw!(SYS_futex, a.as_ptr(), op, val, t, b, v3)
}

fn wait_on(a: &AtomicU32, val: u32) -> R {
    fx(a, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, val, null(), null(), 0)
}

fn wake(a: &AtomicU32, n: u32) -> R {
    fx(a, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, n, null(), null(), 0)
}

/// Waiting threads that report what ended the wait.
struct Waiters(Vec<std::thread::JoinHandle<R>>);

impl Waiters {
    fn start(n: usize, f: impl Fn() -> R + Send + Clone + 'static) -> Waiters {
        let up = std::sync::Arc::new(AtomicI32::new(0));
        let w: Vec<_> = (0..n)
            .map(|_| {
                let (f, there) = (f.clone(), up.clone());
                let h = std::thread::spawn(move || {
                    there.store(gettid(), SeqCst);
                    f()
                });
                while up.load(SeqCst) == 0 {
                    std::hint::spin_loop();
                }
                let tid = up.swap(0, SeqCst);
                // The next one queues behind it.
                let me = unsafe { getpid() };
                for _ in 0..5000 {
                    let s = std::fs::read_to_string(format!("/proc/{me}/task/{tid}/stat"))
                        .unwrap_or_default();
                    if s.contains(") S") {
                        break;
                    }
                    ms(1);
                }
                h
            })
            .collect();
        Waiters(w)
    }
    fn done(&self) -> usize {
        ms(20);
        self.0.iter().filter(|h| h.is_finished()).count()
    }
    /// As [`Waiters::done`], when that many have had the time.
    fn done_are(&self, n: usize) -> usize {
        let end = now_ms() + 5000;
        while now_ms() < end && self.0.iter().filter(|h| h.is_finished()).count() < n {
            ms(1);
        }
        self.done()
    }
    fn join(self) -> String {
        let v: Vec<String> = self
            .0
            .into_iter()
            .map(|h| h.join().unwrap().to_string())
            .collect();
        v.join(" ")
    }
}

fn wait_basics() {
    say!("value differs {}", wait_on(&W[0], 5));
    say!("nobody to wake {}", wake(&W[0], 1));
    let w = Waiters::start(1, || wait_on(&W[0], 0));
    say!("asleep {}", w.done());
    say!("woken {} {}", wake(&W[0], 1), w.join());
    let w = Waiters::start(1, || wait_on(&W[0], 0));
    W[0].store(1, SeqCst);
    say!("a store alone wakes nobody {}", w.done());
    say!("{} {}", wake(&W[0], 10), w.join());
    say!("again {}", wait_on(&W[0], 0));
}

fn wake_counts() {
    let w = Waiters::start(5, || wait_on(&W[1], 0));
    say!("two {} done {}", wake(&W[1], 2), w.done());
    say!("zero {} done {}", wake(&W[1], 0), w.done());
    say!("rest {} {}", wake(&W[1], u32::MAX >> 1), w.join());
    let w = Waiters::start(3, || wait_on(&W[1], 0));
    say!("other word {} done {}", wake(&W[2], 10), w.done());
    say!("{} {}", wake(&W[1], 3), w.join());
}

fn timeouts() {
    let t = ts(30);
    let (r, when) = took(30, || fx(&W[0], FUTEX_WAIT, 0, &t, null(), 0));
    say!("relative {r} {when}");
    let z = ts(0);
    say!("zero {}", fx(&W[0], FUTEX_WAIT, 0, &z, null(), 0));
    let abs = |clock, add: i64| {
        let mut t: timespec = zero();
        unsafe { clock_gettime(clock, &mut t) };
        let n = t.tv_sec * 1_000_000_000 + t.tv_nsec + add * 1_000_000;
        timespec {
            tv_sec: n / 1_000_000_000,
            tv_nsec: n % 1_000_000_000,
        }
    };
    let (r, when) = took(29, || {
        let t = abs(CLOCK_MONOTONIC, 30);
        fx(&W[0], FUTEX_WAIT_BITSET, 0, &t, null(), !0)
    });
    say!("monotonic {r} {when}");
    let (r, when) = took(29, || {
        let t = abs(CLOCK_REALTIME, 30);
        fx(
            &W[0],
            FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME,
            0,
            &t,
            null(),
            !0,
        )
    });
    say!("real time {r} {when}");
    // A machine may be younger than a second.
    let t = abs(CLOCK_MONOTONIC, -20);
    say!("past {}", fx(&W[0], FUTEX_WAIT_BITSET, 0, &t, null(), !0));
    say!(
        "bad nsec {}",
        fx(
            &W[0],
            FUTEX_WAIT,
            0,
            &timespec {
                tv_sec: 0,
                tv_nsec: 1_000_000_000
            },
            null(),
            0
        )
    );
    say!(
        "negative {}",
        fx(
            &W[0],
            FUTEX_WAIT,
            0,
            &timespec {
                tv_sec: -1,
                tv_nsec: 0
            },
            null(),
            0
        )
    );
    say!(
        "value is checked before time {}",
        fx(&W[0], FUTEX_WAIT, 9, &z, null(), 0)
    );
    say!("huge {}", {
        let t = timespec {
            tv_sec: i64::MAX,
            tv_nsec: 0,
        };
        fx(&W[0], FUTEX_WAIT, 9, &t, null(), 0)
    });
}

fn bitsets() {
    let a = Waiters::start(1, || fx(&W[3], FUTEX_WAIT_BITSET, 0, null(), null(), 1));
    let b = Waiters::start(1, || fx(&W[3], FUTEX_WAIT_BITSET, 0, null(), null(), 6));
    let wakeb = |m| fx(&W[3], FUTEX_WAKE_BITSET, 10, null(), null(), m);
    say!("no bit {} {}{}", wakeb(8), a.done(), b.done());
    say!("bit 2 {} {}{}", wakeb(2), a.done(), b.done());
    say!(
        "plain wake takes any {} {}{}",
        fx(&W[3], FUTEX_WAKE, 10, null(), null(), 0),
        a.done(),
        b.done()
    );
    say!("{} {}", a.join(), b.join());
    say!(
        "zero {} {}",
        fx(&W[3], FUTEX_WAIT_BITSET, 0, null(), null(), 0),
        wakeb(0)
    );
}

fn requeue() {
    let w = Waiters::start(4, || fx(&W[4], FUTEX_WAIT, 0, null(), null(), 0));
    // The timeout slot carries the number to move.
    let rq = |op, wake: u32, moved: usize, v3: u32| {
        raw!(SYS_futex, W[4].as_ptr(), op, wake, moved, W[5].as_ptr(), v3)
    };
    say!("value differs {}", rq(FUTEX_CMP_REQUEUE, 1, 1, 9));
    say!(
        "wake one, move two {} done {}",
        rq(FUTEX_CMP_REQUEUE, 1, 2, 0),
        w.done()
    );
    say!(
        "left on the first {} done {}",
        fx(&W[4], FUTEX_WAKE, 10, null(), null(), 0),
        w.done()
    );
    say!(
        "moved {} {}",
        fx(&W[5], FUTEX_WAKE, 10, null(), null(), 0),
        w.join()
    );
    let w = Waiters::start(3, || fx(&W[4], FUTEX_WAIT, 0, null(), null(), 0));
    say!(
        "plain requeue {} done {}",
        rq(FUTEX_REQUEUE, 0, 10, 0),
        w.done()
    );
    say!(
        "{} {}",
        fx(&W[5], FUTEX_WAKE, 10, null(), null(), 0),
        w.join()
    );
    say!("negative {}", rq(FUTEX_CMP_REQUEUE, u32::MAX, 1, 0));
    let bad = raw!(SYS_futex, W[4].as_ptr(), FUTEX_CMP_REQUEUE, 1, 1, 8, 0);
    say!("bad second {bad}");
}

fn wake_op() {
    W[6].store(0, SeqCst);
    W[7].store(5, SeqCst);
    let a = Waiters::start(1, || fx(&W[6], FUTEX_WAIT, 0, null(), null(), 0));
    let b = Waiters::start(1, || fx(&W[7], FUTEX_WAIT, 5, null(), null(), 0));
    let enc = |op: u32, cmp: u32, oparg: u32, cmparg: u32| {
        (op << 28) | (cmp << 24) | (oparg << 12) | cmparg
    };
    let wo = |e: u32| {
        raw!(
            SYS_futex,
            W[6].as_ptr(),
            FUTEX_WAKE_OP,
            1,
            1,
            W[7].as_ptr(),
            e
        )
    };
    // add 3; wake the second only if it was equal to 9.
    say!(
        "{} value {} {}{}",
        wo(enc(1, 0, 3, 9)),
        W[7].load(SeqCst),
        a.done(),
        b.done()
    );
    // or 16; wake the second if it was 8.
    say!("{} value {}", wo(enc(2, 0, 16, 8)), W[7].load(SeqCst));
    say!("{} {}", a.join(), b.join());
    for (n, e) in [
        ("set", enc(0, 0, 7, 0)),
        ("andn", enc(3, 0, 2, 0)),
        ("xor", enc(4, 0, 12, 0)),
        ("shift", enc(9, 0, 5, 0)),
    ] {
        say!("{n} {} {}", wo(e), W[7].load(SeqCst));
    }
    say!(
        "bad op {} bad cmp {}",
        wo(enc(7, 0, 0, 0)),
        wo(enc(0, 9, 0, 0))
    );
}

fn errors() {
    let p = W[0].as_ptr() as usize;
    let op = |a: usize, op: i32| raw!(SYS_futex, a, op, 0, 0, 0, 0);
    say!(
        "unaligned {} {}",
        op(p + 1, FUTEX_WAIT),
        op(p + 2, FUTEX_WAKE)
    );
    say!(
        "null {} kernel {}",
        op(0, FUTEX_WAIT),
        op(0xffff_8000_0000_0000, FUTEX_WAIT)
    );
    say!(
        "unmapped wake private {} shared {}",
        op(0x10000, FUTEX_WAKE | FUTEX_PRIVATE_FLAG),
        op(0x10000, FUTEX_WAKE)
    );
    say!("unknown {} {}", op(p, 77), op(p, -1));
    say!(
        "realtime on wake {}",
        op(p, FUTEX_WAKE | FUTEX_CLOCK_REALTIME)
    );
    let ro = sys!(mmap(
        null_mut(),
        4096,
        PROT_READ,
        MAP_PRIVATE | MAP_ANONYMOUS,
        -1,
        0
    ))
    .v() as usize;
    let t = ts(1);
    say!(
        "read-only wait {}",
        raw!(SYS_futex, ro, FUTEX_WAIT, 0, &raw const t, 0, 0)
    );
    let none = sys!(mmap(
        null_mut(),
        4096,
        PROT_NONE,
        MAP_PRIVATE | MAP_ANONYMOUS,
        -1,
        0
    ))
    .v() as usize;
    say!(
        "no access {}",
        raw!(SYS_futex, none, FUTEX_WAIT, 0, &raw const t, 0, 0)
    );
    say!(
        "bad timeout pointer {}",
        raw!(SYS_futex, p, FUTEX_WAIT, 0, 8, 0, 0)
    );
}

fn shared(len: usize) -> usize {
    sys!(mmap(
        null_mut(),
        len,
        PROT_READ | PROT_WRITE,
        MAP_SHARED | MAP_ANONYMOUS,
        -1,
        0
    ))
    .v() as usize
}

fn word(p: usize) -> &'static AtomicU32 {
    unsafe { &*(p as *const AtomicU32) }
}

fn across_processes() {
    let p = word(shared(4096));
    let pid = fork(|| {
        let r = fx(p, FUTEX_WAIT, 0, null(), null(), 0);
        (r.failed() && r.err() != EAGAIN) as i32
    });
    until_asleep(pid);
    say!("{} {}", fx(p, FUTEX_WAKE, 1, null(), null(), 0), wait(pid));
    // The same page at another address in the child.
    let q = sys!(mremap(p.as_ptr().cast(), 0, 4096, MREMAP_MAYMOVE)).v() as usize;
    let pid = fork(|| fx(word(q + 8), FUTEX_WAIT, 0, null(), null(), 0).err());
    until_asleep(pid);
    say!(
        "{} {}",
        fx(
            word(p.as_ptr() as usize + 8),
            FUTEX_WAKE,
            1,
            null(),
            null(),
            0
        ),
        wait(pid)
    );
}

fn private_and_shared() {
    // Private anonymous memory: after fork the words are different ones.
    let pid = fork(|| {
        let t = ts(100);
        fx(&W[0], FUTEX_WAIT, 0, &t, null(), 0).err()
    });
    until_asleep(pid);
    say!(
        "{} {}",
        fx(&W[0], FUTEX_WAKE, 10, null(), null(), 0),
        wait(pid) == St(ETIMEDOUT << 8)
    );
    // A private waiter is not found by a shared wake.
    let p = shared(4096);
    let w = Waiters::start(1, move || {
        fx(
            word(p),
            FUTEX_WAIT | FUTEX_PRIVATE_FLAG,
            0,
            null(),
            null(),
            0,
        )
    });
    say!(
        "shared wake {}",
        fx(word(p), FUTEX_WAKE, 10, null(), null(), 0)
    );
    say!(
        "private wake {} {}",
        fx(
            word(p),
            FUTEX_WAKE | FUTEX_PRIVATE_FLAG,
            10,
            null(),
            null(),
            0
        ),
        w.join()
    );
}

fn file_backed() {
    put("f", &[0; 8192]);
    let fd = open("f", O_RDWR).fd();
    let m = || {
        sys!(mmap(
            null_mut(),
            8192,
            PROT_READ | PROT_WRITE,
            MAP_SHARED,
            fd,
            0
        ))
        .v() as usize
    };
    let a = m();
    let pid = fork(|| {
        let b = m();
        fx(word(b + 4096), FUTEX_WAIT, 0, null(), null(), 0).err()
    });
    until_asleep(pid);
    say!(
        "{} {}",
        fx(word(a + 4096), FUTEX_WAKE, 1, null(), null(), 0),
        wait(pid)
    );
}

fn robust_list() {
    let base = shared(4096);
    // head: next, futex offset, pending; one entry whose lock word lies 16 bytes behind it.
    let pid = fork(|| unsafe {
        let h = base as *mut usize;
        let e = (base + 64) as *mut usize;
        *h = e as usize;
        *h.add(1) = 16;
        *h.add(2) = 0;
        *e = h as usize;
        word(base + 80).store(gettid() as u32 | FUTEX_WAITERS, SeqCst);
        let r = raw!(SYS_set_robust_list, h, 24);
        if r.failed() {
            return 1;
        }
        let mut got = 0usize;
        let mut len = 0usize;
        let r = raw!(SYS_get_robust_list, 0, &raw mut got, &raw mut len);
        if r.failed() || got != base || len != 24 {
            return 2;
        }
        ms(30);
        0
    });
    let v = loop {
        let v = word(base + 80).load(SeqCst);
        if v != 0 {
            break v;
        }
        ms(1);
    };
    let r = fx(word(base + 80), FUTEX_WAIT, v, null(), null(), 0);
    say!("woken {} {}", r.0 == 0 || r.err() == EAGAIN, wait(pid));
    say!("owner died {:#x}", word(base + 80).load(SeqCst));
    say!("bad length {}", raw!(SYS_set_robust_list, base, 23));
    say!(
        "of nobody {}",
        raw!(SYS_get_robust_list, 99999, base, base + 8)
    );
}

fn interrupted() {
    handle(SIGUSR1, nop, 0);
    let me = unsafe { getpid() };
    let poke = || {
        fork(|| {
            until_asleep(me);
            unsafe { kill(me, SIGUSR1) };
            0
        })
    };
    let k = poke();
    say!("wait {} {}", wait_on(&W[0], 0), wait(k));
    handle(SIGUSR1, nop, SA_RESTART);
    let t = ts(150);
    let k = poke();
    let (r, when) = took(150, || fx(&W[0], FUTEX_WAIT, 0, &t, null(), 0));
    say!("with SA_RESTART and a timeout {r} {when} {}", wait(k));
}

fn waitv() {
    #[repr(C)]
    struct Waiter {
        val: u64,
        uaddr: u64,
        flags: u32,
        reserved: u32,
    }
    const SIZE_U32: u32 = 2;
    let w = |i: usize, val: u64, flags: u32| Waiter {
        val,
        uaddr: W[i].as_ptr() as u64,
        flags,
        reserved: 0,
    };
    let call = |v: &[Waiter], n: usize, fl: u32, t: *const timespec| {
        raw!(449, v.as_ptr(), n, fl, t, CLOCK_MONOTONIC)
    };
    let v = [w(0, 0, SIZE_U32 | 128), w(1, 0, SIZE_U32 | 128)];
    let mut now: timespec = zero();
    unsafe { clock_gettime(CLOCK_MONOTONIC, &mut now) };
    now.tv_nsec = (now.tv_nsec + 10_000_000).min(999_999_999);
    say!("timeout {}", call(&v, 2, 0, &now));
    say!(
        "value differs {}",
        call(
            &[w(0, 0, SIZE_U32 | 128), w(1, 7, SIZE_U32 | 128)],
            2,
            0,
            null()
        )
    );
    say!(
        "none {} flags {} too many {}",
        call(&v, 0, 0, null()),
        call(&v, 2, 1, null()),
        call(&v, 129, 0, null())
    );
    say!("bad size flag {}", call(&[w(0, 0, 0x40)], 1, 0, null()));
    let t = std::thread::spawn(move || {
        let v = [
            w(0, 0, SIZE_U32 | 128),
            w(1, 0, SIZE_U32 | 128),
            w(2, 0, SIZE_U32 | 128),
        ];
        raw!(449, v.as_ptr(), 3, 0, 0, 0)
    });
    let mut n = R(0);
    while n.0 == 0 {
        n = wake(&W[1], 1);
        ms(1);
    }
    say!("woken {n} index {}", t.join().unwrap());
}

fn ping_pong() {
    let base = shared(4096);
    let (a, b) = (word(base), word(base + 64));
    let step = |mine: &AtomicU32, other: &AtomicU32, n: u32| {
        while mine.load(SeqCst) < n {
            fx(mine, FUTEX_WAIT, n - 1, null(), null(), 0);
        }
        other.store(n, SeqCst);
        fx(other, FUTEX_WAKE, 1, null(), null(), 0);
    };
    let pid = fork(|| {
        (1..=2000).for_each(|n| step(a, b, n));
        0
    });
    for n in 1..=2000 {
        a.store(n, SeqCst);
        fx(a, FUTEX_WAKE, 1, null(), null(), 0);
        while b.load(SeqCst) < n {
            fx(b, FUTEX_WAIT, n - 1, null(), null(), 0);
        }
    }
    say!("{} {}", wait(pid), b.load(SeqCst));
}

fn stress() {
    // A hand-made mutex, contended by threads of two processes.
    let base = shared(4096);
    let (lock, count) = (word(base), word(base + 64));
    let work = || {
        for _ in 0..2000 {
            if lock.compare_exchange(0, 1, SeqCst, SeqCst).is_err() {
                while lock.swap(2, SeqCst) != 0 {
                    fx(lock, FUTEX_WAIT, 2, null(), null(), 0);
                }
            }
            let v = count.load(SeqCst);
            count.store(v + 1, SeqCst);
            if lock.swap(0, SeqCst) == 2 {
                fx(lock, FUTEX_WAKE, 1, null(), null(), 0);
            }
        }
    };
    let pid = fork(|| {
        std::thread::scope(|s| {
            s.spawn(work);
            s.spawn(work);
        });
        0
    });
    std::thread::scope(|s| {
        s.spawn(work);
        s.spawn(work);
    });
    say!("{} {}", wait(pid), count.load(SeqCst));
}
