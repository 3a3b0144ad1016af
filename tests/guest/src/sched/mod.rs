//! Scheduling classes, affinity, yielding.

use crate::prelude::*;

tests![
    affinity,
    affinity_errors,
    policies,
    policy_errors,
    attr_calls,
    yielding,
    priorities_range,
    getcpu_agrees,
    rr_interval,
    fairness,
    child_inherits,
    sleeping_beauty,
    membarrier,
    realtime_leaves_some,
    realtime_limits,
];

fn cpus() -> Vec<usize> {
    let mut s: cpu_set_t = zero();
    sys!(sched_getaffinity(0, size_of::<cpu_set_t>(), &mut s)).v();
    (0..1024).filter(|c| unsafe { CPU_ISSET(*c, &s) }).collect()
}

fn set_to(c: &[usize]) -> R {
    let mut s: cpu_set_t = zero();
    c.iter().for_each(|c| unsafe { CPU_SET(*c, &mut s) });
    sys!(sched_setaffinity(0, size_of::<cpu_set_t>(), &s))
}

fn affinity() {
    let all = cpus();
    say!("some {}", !all.is_empty());
    say!("first {} {}", set_to(&all[..1]), cpus() == all[..1]);
    say!("runs there {}", sys!(sched_getcpu()).0 as usize == all[0]);
    let st = run(|| (cpus().len() != 1) as i32);
    say!("inherited {st}");
    say!("back {} {}", set_to(&all), cpus() == all);
    for c in &all {
        set_to(&[*c]).v();
        if sys!(sched_getcpu()).0 as usize != *c {
            say!("not on {c}");
        }
    }
    set_to(&all).v();
}

fn affinity_errors() {
    let mut s: cpu_set_t = zero();
    say!("empty {}", set_to(&[]));
    say!("absent {}", set_to(&[1000]));
    say!(
        "nobody {} {}",
        sys!(sched_getaffinity(99999, 128, &mut s)),
        sys!(sched_setaffinity(99999, 128, &s))
    );
    say!(
        "short {} odd {}",
        raw!(SYS_sched_getaffinity, 0, 0, &raw mut s),
        raw!(SYS_sched_getaffinity, 0, 9, &raw mut s)
    );
    say!(
        "pointer {} {}",
        raw!(SYS_sched_getaffinity, 0, 128, 8),
        raw!(SYS_sched_setaffinity, 0, 8, 8)
    );
    say!(
        "length is told {}",
        raw!(SYS_sched_getaffinity, 0, 128, &raw mut s).0 >= 8
    );
}

fn policies() {
    say!("{}", sys!(sched_getscheduler(0)));
    let mut p: sched_param = zero();
    say!("{} {}", sys!(sched_getparam(0, &mut p)), p.sched_priority);
    for (n, pol) in [
        ("batch", SCHED_BATCH),
        ("idle", SCHED_IDLE),
        ("other", SCHED_OTHER),
    ] {
        say!(
            "{n} {} {}",
            sys!(sched_setscheduler(0, pol, &p)),
            sys!(sched_getscheduler(0))
        );
    }
    if !is_root() {
        p.sched_priority = 10;
        say!("fifo {}", sys!(sched_setscheduler(0, SCHED_FIFO, &p)));
        return;
    }
    say!("fifo EPERM");
    for pol in [SCHED_FIFO, SCHED_RR] {
        p.sched_priority = 10;
        let r = sys!(sched_setscheduler(0, pol, &p));
        p.sched_priority = 0;
        sys!(sched_getparam(0, &mut p));
        if r.failed() || sys!(sched_getscheduler(0)).0 != pol as i64 || p.sched_priority != 10 {
            say!("real time {pol} {r}");
        }
    }
    p.sched_priority = 0;
    sys!(sched_setscheduler(0, SCHED_OTHER, &p)).v();
    let r = sys!(sched_setscheduler(0, SCHED_OTHER | SCHED_RESET_ON_FORK, &p));
    if r.failed() || sys!(sched_getscheduler(0)).0 != (SCHED_OTHER | SCHED_RESET_ON_FORK) as i64 {
        say!("reset on fork {r}");
    }
}

fn policy_errors() {
    let mut p: sched_param = zero();
    say!("bad policy {}", sys!(sched_setscheduler(0, 77, &p)));
    p.sched_priority = 5;
    say!(
        "priority for other {}",
        sys!(sched_setscheduler(0, SCHED_OTHER, &p))
    );
    p.sched_priority = 0;
    say!(
        "no priority for fifo {}",
        sys!(sched_setscheduler(0, SCHED_FIFO, &p))
    );
    say!(
        "nobody {} {} negative {}",
        sys!(sched_getscheduler(99999)),
        sys!(sched_setscheduler(99999, SCHED_OTHER, &p)),
        sys!(sched_getscheduler(-1))
    );
    say!("null {}", sys!(sched_getparam(0, null_mut())));
}

fn attr_calls() {
    let mut a = [0u32; 14];
    say!(
        "{} size {}",
        raw!(SYS_sched_getattr, 0, a.as_mut_ptr(), 56, 0),
        a[0] >= 48
    );
    let base = niceness();
    say!("policy {} nice {}", a[1], a[4] as i32 - base);
    say!(
        "small {} flags {}",
        raw!(SYS_sched_getattr, 0, a.as_mut_ptr(), 20, 0),
        raw!(SYS_sched_getattr, 0, a.as_mut_ptr(), 56, 1)
    );
    let mut b = [0u32; 14];
    b[0] = 48;
    b[4] = (base + 3) as u32;
    say!(
        "set nice {} {}",
        raw!(SYS_sched_setattr, 0, b.as_mut_ptr(), 0),
        niceness() - base
    );
}

fn yielding() {
    say!("{}", sys!(sched_yield()));
    let turn = AtomicU32::new(0);
    std::thread::scope(|s| {
        for me in 0..3 {
            let turn = &turn;
            s.spawn(move || {
                for _ in 0..100 {
                    while turn.load(SeqCst) % 3 != me {
                        std::thread::yield_now();
                    }
                    turn.fetch_add(1, SeqCst);
                }
            });
        }
    });
    say!("{}", turn.load(SeqCst));
}

fn priorities_range() {
    for (n, p) in [
        ("other", SCHED_OTHER),
        ("fifo", SCHED_FIFO),
        ("rr", SCHED_RR),
        ("batch", SCHED_BATCH),
        ("idle", SCHED_IDLE),
        ("bad", 99),
    ] {
        say!(
            "{n} {} {}",
            sys!(sched_get_priority_min(p)),
            sys!(sched_get_priority_max(p))
        );
    }
}

fn getcpu_agrees() {
    let all = cpus();
    let (mut c, mut n) = (0u32, 0u32);
    say!("{}", raw!(SYS_getcpu, &raw mut c, &raw mut n, 0));
    say!("known {} node {n}", all.contains(&(c as usize)));
    say!(
        "null {} pointer {}",
        raw!(SYS_getcpu, 0, 0, 0),
        raw!(SYS_getcpu, 8, 0, 0)
    );
    say!(
        "online {}",
        unsafe { sysconf(_SC_NPROCESSORS_ONLN) } as usize >= all.len()
    );
}

fn rr_interval() {
    let mut t: timespec = zero();
    say!("{} {}", sys!(sched_rr_get_interval(0, &mut t)), t.tv_sec);
    say!(
        "negative {} nobody {}",
        sys!(sched_rr_get_interval(-1, &mut t)),
        sys!(sched_rr_get_interval(99999, &mut t))
    );
}

fn fairness() {
    // Two busy processes on one CPU both make progress.
    let all = cpus();
    set_to(&all[..1]).v();
    let m = sys!(mmap(
        null_mut(),
        4096,
        PROT_READ | PROT_WRITE,
        MAP_SHARED | MAP_ANONYMOUS,
        -1,
        0
    ))
    .v() as usize;
    let word = |i: usize| unsafe { &*((m + i * 64) as *const AtomicU64) };
    let kids: Vec<i32> = (0..2)
        .map(|i| {
            fork(|| {
                let end = now_ms() + 400;
                while now_ms() < end {
                    word(i).fetch_add(1, SeqCst);
                }
                0
            })
        })
        .collect();
    for k in kids {
        say!("{}", wait(k));
    }
    let (a, b) = (word(0).load(SeqCst) as f64, word(1).load(SeqCst) as f64);
    say!(
        "both {} neither starves {}",
        a > 0.0 && b > 0.0,
        a.min(b) / a.max(b) > 0.2
    );
}

fn child_inherits() {
    let base = niceness();
    sys!(setpriority(PRIO_PROCESS, 0, base + 3)).v();
    let p: sched_param = zero();
    sys!(sched_setscheduler(0, SCHED_BATCH, &p)).v();
    say!(
        "{}",
        run(|| {
            let s = unsafe { sched_getscheduler(0) };
            (niceness() - base) * 10 + s
        })
    );
}

fn sleeping_beauty() {
    // A sleeper is woken soon although others spin.
    let stop = AtomicU32::new(0);
    std::thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| while stop.load(SeqCst) == 0 {});
        }
        let mut worst = 0;
        for _ in 0..10 {
            let t = now_ms();
            ms(5);
            worst = worst.max(now_ms() - t);
        }
        stop.store(1, SeqCst);
        say!("in time {}", worst < 1000);
    });
}

fn membarrier() {
    let call = |cmd: i32, flags: i32| raw!(SYS_membarrier, cmd, flags, 0);
    let query = call(0, 0).v();
    say!("query {:#b} {}", query & 0b11111, call(0, 1));
    say!("unregistered {} {}", call(8, 0), call(8, 1));
    say!("global {} {} {}", call(1, 0), call(1, 1), call(2, 0));
    say!("register {} {}", call(16, 0), call(8, 0));
    say!("register {} {}", call(4, 0), call(2, 0));
    say!("unknown {} {}", call(1 << 20, 0), call(3, 0));
    say!("forked {}", run(|| -call(8, 0).0 as i32));
}

fn realtime_leaves_some() {
    // A real-time task that never sleeps leaves others on its CPU a twentieth.
    let mut p: sched_param = zero();
    p.sched_priority = 1;
    if sys!(sched_setscheduler(0, SCHED_FIFO, &p)).failed() {
        say!("fair some true real time most true");
        return;
    }
    p.sched_priority = 0;
    sys!(sched_setscheduler(0, SCHED_OTHER, &p)).v();
    let all = cpus();
    set_to(&all[..1]).v();
    let m = sys!(mmap(
        null_mut(),
        4096,
        PROT_READ | PROT_WRITE,
        MAP_SHARED | MAP_ANONYMOUS,
        -1,
        0
    ))
    .v() as usize;
    let stop = unsafe { &*(m as *const AtomicU64) };
    let used = || {
        let mut t: timespec = zero();
        unsafe { clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &mut t) };
        t.tv_sec * 1000 + t.tv_nsec / 1_000_000
    };
    let up = Gate::new();
    // The fair one measures the time by its own use, the other by the clock.
    let fair = fork(|| {
        up.pass();
        while stop.load(SeqCst) == 0 {}
        (used() / 4).min(250) as i32
    });
    let hog = fork(|| {
        let mut p: sched_param = zero();
        p.sched_priority = 10;
        sys!(sched_setscheduler(0, SCHED_FIFO, &p)).v();
        up.open();
        let end = now_ms() + 2000;
        while now_ms() < end {}
        let mine = used();
        stop.store(1, SeqCst);
        (mine / 10).min(250) as i32
    });
    let (hog, fair) = (wait(hog).0 >> 8, wait(fair).0 >> 8);
    // In units of 4 ms and 10 ms, of two seconds: about a twentieth, and the rest.
    say!(
        "fair some {} real time most {}",
        if (1..=150).contains(&fair) {
            "true".into()
        } else {
            format!("{fair}")
        },
        if hog >= 130 {
            "true".into()
        } else {
            format!("{hog}")
        }
    );
}

fn realtime_limits() {
    let (period, runtime) = (
        "/proc/sys/kernel/sched_rt_period_us",
        "/proc/sys/kernel/sched_rt_runtime_us",
    );
    say!("{} {}", get(period), get(runtime));
    let set = |p: &str, v: &str| {
        let fd = open(p, O_WRONLY);
        if fd.failed() {
            return fd;
        }
        let r = write(fd.fd(), v.as_bytes());
        close(fd.fd());
        r
    };
    // What is refused, and what changes nothing.
    say!("runtime {} {}", set(runtime, "-2"), set(runtime, "1000001"));
    say!("period {} {}", set(period, "0"), set(period, "900000"));
    say!(
        "the same {} {}",
        set(period, "1000000\n"),
        set(runtime, "950000\n")
    );
    say!("{} {}", get(period), get(runtime));
}
