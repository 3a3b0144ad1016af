//! Resource limits and usage.

use crate::prelude::*;

tests![
    get_and_set,
    raise_and_lower,
    prlimit_calls,
    cpu_limit,
    data_and_stack,
    inheritance,
    nice_and_priority,
    usage,
    proc_limits,
    sigpending_of_user,
    sigpending_of_ready_files
];

fn get_l(w: u32) -> (u64, u64) {
    let mut l: rlimit = zero();
    sys!(getrlimit(w, &mut l)).v();
    (l.rlim_cur, l.rlim_max)
}

fn set_l(w: u32, c: u64, m: u64) -> R {
    sys!(setrlimit(
        w,
        &rlimit {
            rlim_cur: c,
            rlim_max: m
        }
    ))
}

fn get_and_set() {
    for w in [
        RLIMIT_CPU,
        RLIMIT_FSIZE,
        RLIMIT_DATA,
        RLIMIT_STACK,
        RLIMIT_CORE,
        RLIMIT_RSS,
        RLIMIT_NPROC,
        RLIMIT_NOFILE,
        RLIMIT_MEMLOCK,
        RLIMIT_AS,
        RLIMIT_LOCKS,
        RLIMIT_SIGPENDING,
        RLIMIT_MSGQUEUE,
        RLIMIT_NICE,
        RLIMIT_RTPRIO,
        RLIMIT_RTTIME,
    ] {
        let (c, m) = get_l(w);
        let half = c.min(1 << 20) / 2;
        say!(
            "{w}: ordered {} set {} read back {}",
            c <= m,
            set_l(w, half, m),
            get_l(w) == (half, m)
        );
        set_l(w, c, m).v();
    }
    say!(
        "16 {} bad pointer {}",
        raw!(SYS_getrlimit, 16, &raw const *&0u64),
        raw!(SYS_getrlimit, 0, 8)
    );
}

fn raise_and_lower() {
    say!("above the hard limit {}", set_l(RLIMIT_NOFILE, 200, 100));
    say!(
        "lower {} {:?}",
        set_l(RLIMIT_NOFILE, 50, 100),
        get_l(RLIMIT_NOFILE)
    );
    say!("soft up {}", set_l(RLIMIT_NOFILE, 100, 100));
    if !is_root() {
        say!("hard up {}", set_l(RLIMIT_NOFILE, 100, 101));
    } else {
        // CAP_SYS_RESOURCE may be missing on the host.
        say!("hard up EPERM");
    }
}

fn prlimit_calls() {
    let g = Gate::new();
    let pid = fork(|| {
        g.pass();
        (get_l(RLIMIT_NOFILE).0 != 33) as i32
    });
    let new = rlimit {
        rlim_cur: 33,
        rlim_max: 100,
    };
    let mut old: rlimit = zero();
    say!("{}", sys!(prlimit(pid, RLIMIT_NOFILE, &new, &mut old)));
    say!("{}", old.rlim_cur > 33);
    g.open();
    say!("{}", wait(pid));
    say!(
        "nobody {} bad {}",
        sys!(prlimit(99999, RLIMIT_NOFILE, null(), &mut old)),
        sys!(prlimit(0, 99, null(), &mut old))
    );
    let r = sys!(prlimit(1, RLIMIT_NOFILE, null(), &mut old));
    say!(
        "init {}",
        if is_root() {
            r.failed()
        } else {
            r.err() != EPERM
        }
    );
}

fn cpu_limit() {
    let st = run(|| {
        set_l(RLIMIT_CPU, 1, 2).v();
        loop {
            std::hint::spin_loop()
        }
    });
    say!("{st}");
    static N: AtomicI32 = AtomicI32::new(0);
    extern "C" fn note(_: i32, _: *mut siginfo_t, _: *mut c_void) {
        N.fetch_add(1, SeqCst);
    }
    let st = run(|| {
        handle(SIGXCPU, note, 0);
        set_l(RLIMIT_CPU, 1, 10).v();
        while N.load(SeqCst) == 0 {
            std::hint::spin_loop();
        }
        5
    });
    say!("handled {st}");
}

fn data_and_stack() {
    set_l(RLIMIT_DATA, 8 << 20, RLIM_INFINITY).v();
    let m = |len: usize| {
        sys!(mmap(
            null_mut(),
            len,
            PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS,
            -1,
            0
        ))
        .ok()
    };
    say!("{} {}", m(64 << 20), m(1 << 20));
    set_l(RLIMIT_STACK, 256 << 10, RLIM_INFINITY).v();
    say!(
        "exec with a small stack {}",
        run(|| exec(c"/bin/sh", &["sh", "-c", "ulimit -s"], &[]).err())
    );
    let big: Vec<String> = (0..100).map(|_| "x".repeat(1000)).collect();
    let mut a = vec!["true"];
    a.extend(big.iter().map(|s| s.as_str()));
    say!(
        "a quarter of it for arguments {}",
        run(|| exec(c"/bin/true", &a, &[]).err()) == St(E2BIG << 8)
    );
}

fn inheritance() {
    set_l(RLIMIT_NOFILE, 77, 88).v();
    say!(
        "{:?} {}",
        get_l(RLIMIT_NOFILE),
        run(|| get_l(RLIMIT_NOFILE).0 as i32)
    );
    say!(
        "{}",
        run(|| exec(c"/bin/sh", &["sh", "-c", "ulimit -Sn; ulimit -Hn"], &[]).err())
    );
    let t = std::thread::spawn(|| set_l(RLIMIT_NOFILE, 60, 88))
        .join()
        .unwrap();
    say!(
        "of the process, not the thread {t} {:?}",
        get_l(RLIMIT_NOFILE)
    );
}

fn nice_and_priority() {
    let prio = |w, who| {
        unsafe { *__errno_location() = 0 };
        let v = unsafe { getpriority(w, who) };
        if v == -1 && errno() != 0 {
            errno_name(errno()).to_string()
        } else {
            v.to_string()
        }
    };
    let base = niceness();
    say!(
        "{} {}",
        sys!(setpriority(PRIO_PROCESS, 0, base + 5)),
        niceness() - base
    );
    say!(
        "beyond {} {}",
        sys!(setpriority(PRIO_PROCESS, 0, 100)),
        prio(PRIO_PROCESS, 0)
    );
    let r = sys!(setpriority(PRIO_PROCESS, 0, 0));
    say!(
        "back {}",
        if is_root() {
            r.failed()
        } else {
            r.err() != EACCES
        }
    );
    say!(
        "child {}",
        run(|| {
            let a = unsafe { getpriority(PRIO_PROCESS, getppid() as u32) };
            (unsafe { getpriority(PRIO_PROCESS, 0) } != a) as i32
        })
    );
    say!(
        "nobody {} which {} group {} user {}",
        prio(PRIO_PROCESS, 99999),
        prio(9, 0),
        prio(PRIO_PGRP, 0).len() < 4,
        prio(PRIO_USER, 0).len() < 4
    );
    say!(
        "raw is 20 - nice {}",
        raw!(SYS_getpriority, PRIO_PROCESS, 0).0 >= 1
    );
}

fn usage() {
    let mut a: rusage = zero();
    sys!(getrusage(RUSAGE_SELF, &mut a)).v();
    say!("maxrss {}", a.ru_maxrss > 100);
    let p = sys!(mmap(
        null_mut(),
        64 << 20,
        PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS,
        -1,
        0
    ))
    .v() as *mut u8;
    for i in 0..16384 {
        unsafe { p.add(i * 4096).write_volatile(1) };
    }
    let mut b: rusage = zero();
    sys!(getrusage(RUSAGE_SELF, &mut b)).v();
    say!(
        "grew {} faults {}",
        b.ru_maxrss > a.ru_maxrss + 50_000,
        b.ru_minflt > a.ru_minflt
    );
    for _ in 0..5 {
        ms(1);
    }
    sys!(getrusage(RUSAGE_SELF, &mut b)).v();
    say!("voluntary switches {}", b.ru_nvcsw > a.ru_nvcsw);
}

fn proc_limits() {
    set_l(RLIMIT_NOFILE, 123, 456).v();
    let s = std::fs::read_to_string("/proc/self/limits").unwrap();
    let l = s.lines().find(|l| l.starts_with("Max open files")).unwrap();
    say!("{:?}", l.split_whitespace().collect::<Vec<_>>());
    say!(
        "{} {:?}",
        s.lines().count(),
        s.lines()
            .next()
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>()
    );
}

/// Becomes a user that nobody else is.
fn become_user(uid: u32) {
    sys!(setgroups(0, null())).v();
    sys!(setresgid(uid, uid, uid)).v();
    sys!(setresuid(uid, uid, uid)).v();
}

fn queue(pid: i32, signo: i32) -> R {
    let v = sigval {
        sival_ptr: 7 as *mut c_void,
    };
    sys!(sigqueue(pid, signo, v))
}

/// Queued signals and their limit, as /proc shows them.
fn sig_q() -> String {
    let s = std::fs::read_to_string("/proc/self/status").unwrap();
    let l = s.lines().find(|l| l.starts_with("SigQ:"));
    l.unwrap_or("none").replace('\t', " ")
}

fn take(signo: i32) -> String {
    let mut i: siginfo_t = zero();
    let r = sys!(sigtimedwait(&set(&[signo]), &mut i, &ts(0)));
    if r.failed() {
        return r.to_string();
    }
    let value = unsafe { i.si_value().sival_ptr } as usize;
    format!("code {} value {value}", i.si_code)
}

fn sigpending_of_user() {
    if !is_root() {
        return skip_root();
    }
    let rt = SIGRTMIN() + 1;
    let st = run(|| {
        become_user(54_322);
        set_l(RLIMIT_SIGPENDING, 6, 6).v();
        block(&[rt, SIGUSR1, SIGUSR2]);
        let me = unsafe { getpid() };
        say!("{}", sig_q());
        say!(
            "three {} {} {}",
            queue(me, rt),
            queue(me, rt),
            queue(me, rt)
        );
        say!("{}", sig_q());
        let (up, end) = (Gate::new(), Gate::new());
        // Another process of the same user: the rest is all it gets.
        let other = fork(|| {
            let me = unsafe { getpid() };
            let r: Vec<String> = (0..5).map(|_| queue(me, rt).to_string()).collect();
            say!("other {r:?} {}", sig_q());
            // What asks for no queue, and what may do without.
            say!("kill {} {}", sys!(kill(me, SIGUSR1)), sys!(kill(me, rt)));
            say!("queue {} {}", queue(me, SIGUSR2), sig_q());
            say!("told {} {}", take(SIGUSR1), take(SIGUSR2));
            up.open();
            end.pass();
            0
        });
        up.pass();
        say!("full {} {}", queue(me, rt), queue(other, rt));
        let mut id: timer_t = zero();
        say!(
            "timer {}",
            sys!(timer_create(CLOCK_MONOTONIC, null_mut(), &mut id))
        );
        say!("take {} {}", take(rt), sig_q());
        say!(
            "timer {} {}",
            sys!(timer_create(CLOCK_MONOTONIC, null_mut(), &mut id)),
            sig_q()
        );
        say!("full {}", queue(me, rt));
        say!("deleted {} {}", sys!(timer_delete(id)), sig_q());
        end.open();
        say!("{} {}", wait(other), sig_q());
        // Not the limit that somebody else has.
        let st = run(|| {
            set_l(RLIMIT_SIGPENDING, 1, 1).v();
            let me = unsafe { getpid() };
            say!("smaller limit {} {}", queue(me, rt), sig_q());
            0
        });
        say!("{st} {}", sig_q());
        0
    });
    say!("{st}");
    // The owner of the receiver counts, whoever sends.
    let up = Gate::new();
    let end = Gate::new();
    let user = fork(|| {
        block(&[rt]);
        become_user(54_324);
        set_l(RLIMIT_SIGPENDING, 2, 2).v();
        up.open();
        end.pass();
        say!(
            "received {} {} {} {}",
            sig_q(),
            take(rt),
            take(rt),
            take(rt)
        );
        0
    });
    up.pass();
    say!(
        "root sends {} {} {}",
        queue(user, rt),
        queue(user, rt),
        queue(user, rt)
    );
    end.open();
    say!("{}", wait(user));
}

fn sigpending_of_ready_files() {
    // SIGIO instead of the signal that finds no room.
    let rt = SIGRTMIN() + 2;
    block(&[rt, SIGIO]);
    let p = pair(SOCK_STREAM);
    sys!(fcntl(p[0], F_SETSIG, rt)).v();
    sys!(fcntl(p[0], F_SETOWN, getpid())).v();
    sys!(fcntl(p[0], F_SETFL, O_ASYNC | O_RDWR)).v();
    write(p[1], b"x");
    say!("room {}", pending());
    say!("{}", take(rt).split(' ').next().unwrap());
    set_l(RLIMIT_SIGPENDING, 0, 0).v();
    write(p[1], b"x");
    say!("no room {}", pending());
}
