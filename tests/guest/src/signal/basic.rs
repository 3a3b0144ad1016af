//! Sending, blocking, waiting.

use crate::prelude::*;

static COUNT: AtomicI32 = AtomicI32::new(0);
static LOG: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

extern "C" fn count(_: i32, _: *mut siginfo_t, _: *mut c_void) {
    COUNT.fetch_add(1, SeqCst);
}

/// Logs signal number and value.
extern "C" fn log(n: i32, i: *mut siginfo_t, _: *mut c_void) {
    let at = COUNT.fetch_add(1, SeqCst) as usize;
    let v = unsafe { (*i).si_value().sival_ptr as u64 };
    LOG[at % 64].store((n as u64) << 32 | v & 0xffff_ffff, SeqCst);
}

fn logged() -> String {
    let n = COUNT.swap(0, SeqCst) as usize;
    let v: Vec<String> = LOG[..n.min(64)]
        .iter()
        .map(|l| {
            let l = l.load(SeqCst);
            format!("{}:{}", sig((l >> 32) as i32), l as u32)
        })
        .collect();
    v.join(" ")
}

fn me_() -> i32 {
    unsafe { getpid() }
}

pub fn dispositions() {
    let get = |n| {
        let mut old: sigaction = zero();
        let r = sys!(sigaction(n, null(), &mut old));
        if r.failed() {
            r.to_string()
        } else {
            format!(
                "{} {:#x}",
                if old.sa_sigaction == SIG_DFL {
                    "default"
                } else if old.sa_sigaction == SIG_IGN {
                    "ignored"
                } else {
                    "handler"
                },
                old.sa_flags & !0x400_0000
            )
        }
    };
    say!("{} {}", get(SIGTERM), get(SIGKILL));
    set_action(SIGTERM, SIG_IGN);
    say!("{}", get(SIGTERM));
    handle(SIGTERM, count, SA_RESTART | SA_ONSTACK);
    say!("{}", get(SIGTERM));
    say!("0 {} 65 {} -1 {}", get(0), get(65), get(-1));
    let mut sa: sigaction = zero();
    sa.sa_sigaction = SIG_IGN;
    for n in [SIGKILL, SIGSTOP] {
        say!("{} {}", sig(n), sys!(sigaction(n, &sa, null_mut())));
    }
    sa.sa_mask = set(&[SIGKILL, SIGSTOP, SIGUSR1, 40]);
    sys!(sigaction(SIGUSR2, &sa, null_mut())).v();
    let mut old: sigaction = zero();
    sys!(sigaction(SIGUSR2, null(), &mut old)).v();
    say!("mask drops the unblockable {}", members(&old.sa_mask));
}

pub fn handler_runs() {
    handle(SIGUSR1, count, 0);
    for _ in 0..5 {
        sys!(raise(SIGUSR1)).v();
    }
    say!("raise {}", COUNT.swap(0, SeqCst));
    sys!(kill(me_(), SIGUSR1)).v();
    say!(
        "kill, delivered before it returns {}",
        COUNT.swap(0, SeqCst)
    );
    let pid = fork(|| {
        unsafe { kill(getppid(), SIGUSR1) };
        0
    });
    wait(pid);
    say!("from a child {}", COUNT.swap(0, SeqCst));
    set_action(SIGUSR1, SIG_DFL);
    say!("default again {}", run(|| unsafe { raise(SIGUSR1) }));
}

pub fn masks() {
    let mut old = zero();
    sys!(sigprocmask(
        SIG_SETMASK,
        &set(&[SIGUSR1, SIGTERM, 40, SIGKILL, SIGSTOP]),
        &mut old
    ))
    .v();
    say!("initial {}", members(&old));
    sys!(sigprocmask(SIG_BLOCK, &set(&[SIGUSR2]), &mut old)).v();
    say!("set {}", members(&old));
    sys!(sigprocmask(SIG_UNBLOCK, &set(&[SIGTERM, SIGINT]), &mut old)).v();
    say!("blocked {}", members(&old));
    sys!(sigprocmask(99, null(), &mut old)).v();
    say!("how is ignored without a set {}", members(&old));
    say!("bad how {}", sys!(sigprocmask(99, &set(&[]), null_mut())));
    handle(SIGUSR1, count, 0);
    unsafe { raise(SIGUSR1) };
    say!("held {} {}", COUNT.load(SeqCst), pending());
    unblock(&[SIGUSR1]);
    say!("delivered {} {}", COUNT.load(SeqCst), pending());
}

static INSIDE: AtomicU64 = AtomicU64::new(0);

extern "C" fn note_mask(_: i32, _: *mut siginfo_t, _: *mut c_void) {
    let mut m = 0u64;
    unsafe { syscall(SYS_rt_sigprocmask, SIG_BLOCK, 0, &raw mut m, 8) };
    INSIDE.store(m, SeqCst);
}

fn inside() -> String {
    let m = INSIDE.load(SeqCst);
    let v: Vec<String> = (1..65).filter(|n| m >> (n - 1) & 1 == 1).map(sig).collect();
    format!("{{{}}}", v.join(" "))
}

pub fn mask_during_handler() {
    let mut sa: sigaction = zero();
    sa.sa_sigaction = note_mask as *const () as usize;
    sa.sa_flags = SA_SIGINFO;
    sa.sa_mask = set(&[SIGUSR2, SIGHUP]);
    sys!(sigaction(SIGUSR1, &sa, null_mut())).v();
    block(&[SIGALRM]);
    unsafe { raise(SIGUSR1) };
    say!("in the handler {}", inside());
    let mut now = zero();
    sys!(sigprocmask(SIG_BLOCK, null(), &mut now));
    say!("after {}", members(&now));
    sa.sa_flags |= SA_NODEFER;
    sys!(sigaction(SIGUSR1, &sa, null_mut())).v();
    unsafe { raise(SIGUSR1) };
    say!("nodefer {}", inside());
}

static DEPTH: AtomicI32 = AtomicI32::new(0);
static MAXD: AtomicI32 = AtomicI32::new(0);

extern "C" fn reraise(n: i32, _: *mut siginfo_t, _: *mut c_void) {
    let d = DEPTH.fetch_add(1, SeqCst) + 1;
    MAXD.fetch_max(d, SeqCst);
    if COUNT.fetch_add(1, SeqCst) < 4 {
        unsafe { raise(n) };
    }
    DEPTH.fetch_sub(1, SeqCst);
}

pub fn nodefer_resethand() {
    handle(SIGUSR1, reraise, 0);
    unsafe { raise(SIGUSR1) };
    say!(
        "one after another: runs {} depth {}",
        COUNT.swap(0, SeqCst),
        MAXD.swap(0, SeqCst)
    );
    handle(SIGUSR1, reraise, SA_NODEFER);
    unsafe { raise(SIGUSR1) };
    say!(
        "nested: runs {} depth {}",
        COUNT.swap(0, SeqCst),
        MAXD.swap(0, SeqCst)
    );
    handle(SIGUSR1, count, SA_RESETHAND);
    unsafe { raise(SIGUSR1) };
    let mut old: sigaction = zero();
    sys!(sigaction(SIGUSR1, null(), &mut old));
    say!(
        "reset: runs {} default {}",
        COUNT.swap(0, SeqCst),
        old.sa_sigaction == SIG_DFL
    );
    say!(
        "second one kills {}",
        run(|| {
            handle(SIGUSR1, count, SA_RESETHAND);
            unsafe { raise(SIGUSR1) };
            unsafe { raise(SIGUSR1) }
        })
    );
}

pub fn pending_set() {
    block(&[SIGUSR1, SIGUSR2, SIGTERM, 40]);
    say!("{}", pending());
    for n in [SIGUSR2, SIGTERM, 40, SIGUSR2] {
        unsafe { kill(getpid(), n) };
    }
    say!("{}", pending());
    set_action(SIGTERM, SIG_IGN);
    say!("ignoring drops it {}", pending());
    unsafe { kill(getpid(), SIGTERM) };
    say!("blocked and ignored {}", pending());
    say!(
        "child starts empty {}",
        run(|| {
            say!("{}", pending());
            0
        })
    );
    set_action(SIGUSR2, SIG_IGN);
    set_action(40, SIG_IGN);
    say!("{}", pending());
}

pub fn standard_not_queued() {
    handle(SIGUSR1, count, 0);
    block(&[SIGUSR1]);
    for _ in 0..10 {
        unsafe { kill(getpid(), SIGUSR1) };
    }
    unblock(&[SIGUSR1]);
    say!("{}", COUNT.load(SeqCst));
    block(&[SIGUSR1]);
    unsafe {
        kill(getpid(), SIGUSR1);
        raise(SIGUSR1);
    }
    unblock(&[SIGUSR1]);
    say!(
        "one for the thread, one for the process {}",
        COUNT.load(SeqCst) - 1
    );
}

fn queue(n: i32, v: usize) -> R {
    sys!(sigqueue(
        getpid(),
        n,
        sigval {
            sival_ptr: v as *mut c_void
        }
    ))
}

pub fn realtime_queue() {
    handle(40, log, 0);
    block(&[40]);
    for v in 1..=5 {
        say!("{}", queue(40, v));
    }
    say!("{}", pending());
    unblock(&[40]);
    say!("{}", logged());
}

pub fn realtime_order() {
    for n in [SIGUSR1, SIGUSR2, 35, 40, 64] {
        let mut sa: sigaction = zero();
        sa.sa_sigaction = log as *const () as usize;
        sa.sa_flags = SA_SIGINFO;
        unsafe { sigfillset(&mut sa.sa_mask) };
        sys!(sigaction(n, &sa, null_mut())).v();
    }
    let all = [SIGUSR1, SIGUSR2, 35, 40, 64];
    block(&all);
    for (i, n) in [64, 40, SIGUSR2, 35, 40, SIGUSR1, 64]
        .into_iter()
        .enumerate()
    {
        queue(n, i).v();
    }
    unblock(&all);
    say!("lowest first, first in first out: {}", logged());
}

pub fn sigqueue_value() {
    handle(SIGUSR1, log, 0);
    queue(SIGUSR1, 12345);
    say!("{}", logged());
    say!(
        "0 {} bad {} nobody {}",
        queue(0, 0),
        queue(65, 0),
        sys!(sigqueue(
            99999,
            0,
            sigval {
                sival_ptr: null_mut()
            }
        ))
    );
    let mut i: siginfo_t = zero();
    i.si_code = SI_USER;
    i.si_signo = SIGUSR1;
    let other = fork(|| {
        loop {
            ms(1000)
        }
    });
    say!(
        "forged kernel code to another {}",
        raw!(SYS_rt_sigqueueinfo, other, SIGUSR1, &raw const i)
    );
    i.si_code = SI_TKILL;
    say!(
        "forged tkill {}",
        raw!(SYS_rt_sigqueueinfo, other, SIGUSR1, &raw const i)
    );
    i.si_code = SI_QUEUE;
    say!(
        "queue {} {}",
        raw!(SYS_rt_sigqueueinfo, other, SIGTERM, &raw const i),
        wait(other)
    );
    say!(
        "bad pointer {}",
        raw!(SYS_rt_sigqueueinfo, me_(), SIGUSR1, 8)
    );
    say!(
        "tgsigqueueinfo {} {}",
        raw!(
            SYS_rt_tgsigqueueinfo,
            me_(),
            gettid(),
            SIGUSR1,
            &raw const i
        ),
        COUNT.load(SeqCst)
    );
}

static INFO: [AtomicI32; 4] = [const { AtomicI32::new(0) }; 4];

extern "C" fn take(n: i32, i: *mut siginfo_t, _: *mut c_void) {
    unsafe {
        INFO[0].store(n, SeqCst);
        INFO[1].store((*i).si_code, SeqCst);
        INFO[2].store((*i).si_pid(), SeqCst);
        INFO[3].store((*i).si_uid() as i32, SeqCst);
    }
}

pub fn siginfo_sources() {
    for n in [SIGUSR1, SIGALRM, SIGPIPE, SIGIO, SIGCHLD] {
        handle(n, take, 0);
    }
    let show = |who: i32| {
        let v: Vec<i32> = INFO.iter().map(|i| i.swap(-99, SeqCst)).collect();
        let pid = if v[2] == who {
            "sender"
        } else if v[2] == 0 {
            "0"
        } else {
            "other"
        };
        format!("{} code {} pid {pid}", sig(v[0]), v[1])
    };
    unsafe { kill(getpid(), SIGUSR1) };
    say!(
        "kill {} uid {}",
        show(me_()),
        unsafe { getuid() } == getuid_of()
    );
    unsafe { raise(SIGUSR1) };
    say!("raise {}", show(me_()));
    queue(SIGUSR1, 1);
    say!("sigqueue {}", show(me_()));
    let t = itimerval {
        it_interval: zero(),
        it_value: timeval {
            tv_sec: 0,
            tv_usec: 5000,
        },
    };
    sys!(setitimer(ITIMER_REAL, &t, null_mut())).v();
    unsafe { pause() };
    say!("itimer {}", show(me_()));
    let p = pipe();
    close(p[0]);
    write(p[1], b"x");
    say!("pipe {}", show(me_()));
    let pid = fork(|| unsafe { kill(getppid(), SIGUSR1) });
    wait(pid);
    let v = INFO[0].load(SeqCst);
    say!("last one is one of two: {}", v == SIGCHLD || v == SIGUSR1);
}

fn getuid_of() -> u32 {
    INFO[3].load(SeqCst) as u32;
    unsafe { getuid() }
}

pub fn sigwait_forms() {
    block(&[SIGUSR1, SIGUSR2, 40]);
    unsafe { kill(getpid(), SIGUSR2) };
    let mut n = 0;
    say!(
        "sigwait {} {}",
        unsafe { sigwait(&set(&[SIGUSR1, SIGUSR2]), &mut n) },
        sig(n)
    );
    queue(40, 7);
    queue(40, 8);
    let mut i: siginfo_t = zero();
    let r = sys!(sigwaitinfo(&set(&[40]), &mut i));
    say!(
        "{} code {} value {}",
        sig(r.0 as i32),
        i.si_code,
        unsafe { i.si_value().sival_ptr } as usize
    );
    let r = sys!(sigwaitinfo(&set(&[40]), null_mut()));
    say!("{}", sig(r.0 as i32));
    let pid = fork(|| {
        ms(20);
        unsafe { kill(getppid(), SIGUSR1) };
        0
    });
    let r = sys!(sigwaitinfo(&set(&[SIGUSR1]), &mut i));
    say!(
        "{} from the child {} {}",
        sig(r.0 as i32),
        unsafe { i.si_pid() } == pid,
        wait(pid)
    );
    handle(SIGHUP, count, 0);
    let parent = me_();
    let pid = fork(|| {
        until_asleep(parent);
        unsafe { kill(parent, SIGHUP) };
        0
    });
    say!(
        "another one's handler {} ran {}",
        sys!(sigwaitinfo(&set(&[SIGUSR1]), &mut i)),
        COUNT.load(SeqCst)
    );
    wait(pid);
}

pub fn sigtimedwait_timeouts() {
    block(&[SIGUSR1]);
    let t = ts(30);
    let (r, when) = took(30, || sys!(sigtimedwait(&set(&[SIGUSR1]), null_mut(), &t)));
    say!("{r} {when}");
    let z = ts(0);
    say!(
        "poll {}",
        sys!(sigtimedwait(&set(&[SIGUSR1]), null_mut(), &z))
    );
    unsafe { raise(SIGUSR1) };
    say!(
        "poll {}",
        sig(sys!(sigtimedwait(&set(&[SIGUSR1]), null_mut(), &z)).0 as i32)
    );
    let bad = timespec {
        tv_sec: 0,
        tv_nsec: -1,
    };
    say!(
        "bad {}",
        sys!(sigtimedwait(&set(&[SIGUSR1]), null_mut(), &bad))
    );
    say!("size {}", raw!(SYS_rt_sigtimedwait, &raw const z, 0, 0, 4));
    say!(
        "empty set {}",
        sys!(sigtimedwait(&set(&[]), null_mut(), &z))
    );
}

pub fn sigsuspend_swaps() {
    handle(SIGUSR1, count, 0);
    handle(SIGUSR2, note_mask, 0);
    block(&[SIGUSR1, SIGUSR2]);
    unsafe { raise(SIGUSR1) };
    say!(
        "{} ran {}",
        sys!(sigsuspend(&set(&[SIGUSR2]))),
        COUNT.load(SeqCst)
    );
    let mut now = zero();
    sys!(sigprocmask(SIG_BLOCK, null(), &mut now));
    say!("mask restored {}", members(&now));
    unsafe { raise(SIGUSR2) };
    sys!(sigsuspend(&set(&[SIGHUP])));
    say!("in the handler {}", inside());
    say!("size {}", raw!(SYS_rt_sigsuspend, 8, 3));
}

pub fn pause_returns() {
    handle(SIGALRM, count, SA_RESTART);
    let (r, when) = took(900, || {
        unsafe { alarm(1) };
        sys!(pause())
    });
    say!("{r} {when} {}", COUNT.load(SeqCst));
    set_action(SIGUSR1, SIG_IGN);
    let parent = me_();
    let pid = fork(|| {
        until_asleep(parent);
        unsafe { kill(parent, SIGUSR1) };
        ms(20);
        unsafe { kill(parent, SIGALRM) };
        0
    });
    say!(
        "an ignored one does not end it {} {}",
        sys!(pause()),
        COUNT.load(SeqCst)
    );
    wait(pid);
}

pub fn kill_targets() {
    let kids: Vec<i32> = (0..3)
        .map(|_| {
            fork(|| {
                loop {
                    ms(1000)
                }
            })
        })
        .collect();
    for k in &kids {
        sys!(setpgid(*k, kids[0])).v();
    }
    say!("group {}", sys!(kill(-kids[0], SIGTERM)));
    for k in &kids {
        say!("{}", wait(*k));
    }
    say!("empty group {}", sys!(kill(-kids[0], 0)));
    handle(SIGUSR1, count, 0);
    say!(
        "own group by 0 {} {}",
        sys!(kill(0, SIGUSR1)),
        COUNT.load(SeqCst)
    );
    say!(
        "killpg {} {}",
        sys!(killpg(getpgrp(), SIGUSR1)),
        COUNT.load(SeqCst)
    );
    say!(
        "nobody {} int min {}",
        sys!(kill(99999, SIGTERM)),
        sys!(kill(i32::MIN, 0))
    );
    say!(
        "signal 0 to init {}",
        matches!(sys!(kill(1, 0)).err(), 0 | EPERM)
    );
}

pub fn kill_rights() {
    if !is_root() {
        say!("init {}", sys!(kill(1, SIGTERM)));
        return skip_root();
    }
    say!("init EPERM");
    let target = fork(|| {
        loop {
            ms(1000)
        }
    });
    let st = run(|| {
        sys!(setuid(1000)).v();
        say!(
            "root's process: term {} 0 {}",
            sys!(kill(target, SIGTERM)),
            sys!(kill(target, 0))
        );
        say!("CONT in the same session {}", sys!(kill(target, SIGCONT)));
        let mine = fork(|| {
            loop {
                ms(1000)
            }
        });
        say!("own {} {}", sys!(kill(mine, SIGTERM)), wait(mine));
        0
    });
    say!("{st}");
    unsafe { kill(target, SIGKILL) };
    say!("{}", wait(target));
}

pub fn stop_continue() {
    let p = pipe();
    let pid = fork(|| {
        let mut n = 0u8;
        loop {
            n = n.wrapping_add(1);
            write(p[1], &[n]);
            ms(2);
        }
    });
    read(p[0], 1);
    for s in [SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU] {
        unsafe { kill(pid, s) };
        let st = wait_opt(pid, WUNTRACED);
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let at = state.rfind(')').unwrap() + 2;
        sys!(fcntl(p[0], F_SETFL, O_NONBLOCK));
        read(p[0], 4096);
        ms(15);
        say!(
            "{st} state {} silent {}",
            &state[at..at + 1],
            read(p[0], 10)
        );
        sys!(fcntl(p[0], F_SETFL, 0));
        unsafe { kill(pid, SIGCONT) };
        say!(
            "{} talks {}",
            wait_opt(pid, WCONTINUED),
            read(p[0], 1).len() > 2
        );
    }
    unsafe { kill(pid, SIGKILL) };
    say!("{}", wait(pid));
}

pub fn stop_discards() {
    let g = Gate::new();
    let pid = fork(|| {
        handle(SIGCONT, count, 0);
        handle(SIGUSR1, count, 0);
        block(&[SIGTSTP, SIGCONT]);
        unsafe {
            raise(SIGTSTP);
            say!("pending {}", pending());
            raise(SIGCONT);
            say!("CONT removes stops {}", pending());
            raise(SIGTSTP);
            say!("a stop removes CONT {}", pending());
            raise(SIGCONT);
        }
        unblock(&[SIGTSTP, SIGCONT]);
        say!("CONT handled {}", COUNT.load(SeqCst));
        g.open();
        while COUNT.load(SeqCst) < 2 {
            ms(1);
        }
        0
    });
    g.pass();
    unsafe {
        kill(pid, SIGSTOP);
    }
    say!("{}", wait_opt(pid, WUNTRACED));
    unsafe {
        kill(pid, SIGUSR1);
        ms(5);
    }
    let mut st = 0;
    say!(
        "a handler does not run while stopped {}",
        sys!(waitpid(pid, &mut st, WNOHANG))
    );
    unsafe { kill(pid, SIGCONT) };
    say!("{}", wait(pid));
}

pub fn ignored_stays() {
    set_action(SIGUSR1, SIG_IGN);
    unsafe { raise(SIGUSR1) };
    say!("alive");
    let st = run(|| {
        exec(
            c"/bin/sh",
            &["sh", "-c", "kill -USR1 $$; echo survived"],
            &["PATH=/bin:/usr/bin"],
        )
        .err()
    });
    say!("{st}");
    let t0 = now_ms();
    let parent = me_();
    let pid = fork(|| {
        until_asleep(parent);
        unsafe { kill(parent, SIGUSR1) };
        0
    });
    ms(60);
    say!(
        "a sleep is not cut short {} {}",
        now_ms() - t0 >= 60,
        wait(pid)
    );
}

pub fn default_actions() {
    for n in 1..65 {
        if [SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, 32, 33].contains(&n) {
            continue;
        }
        say!(
            "{}",
            run(|| {
                unsafe { syscall(SYS_kill, getpid(), n) };
                0
            })
        );
    }
}

pub fn fork_inherits() {
    handle(SIGUSR1, count, 0);
    block(&[SIGUSR2]);
    unsafe { raise(SIGUSR2) };
    unsafe { alarm(1) };
    let st = run(|| {
        unsafe { raise(SIGUSR1) };
        let mut m = zero();
        sys!(sigprocmask(SIG_BLOCK, null(), &mut m));
        say!(
            "handler {} mask {} pending {} alarm {}",
            COUNT.load(SeqCst),
            members(&m),
            pending(),
            unsafe { alarm(0) }
        );
        0
    });
    say!("{st} {}", unsafe { alarm(0) });
}

pub fn alarm_calls() {
    unsafe {
        say!("{} {} {}", alarm(100), alarm(50) >= 99, alarm(0) >= 49);
        say!("{}", alarm(0));
        handle(SIGALRM, count, 0);
        let (r, when) = took(900, || {
            alarm(1);
            sleep(10)
        });
        say!("{} {when} {}", r >= 8, COUNT.load(SeqCst));
    }
    say!(
        "default {}",
        run(|| {
            set_action(SIGALRM, SIG_DFL);
            unsafe { alarm(1) };
            loop {
                ms(1000)
            }
        })
    );
}

pub fn itimers() {
    handle(SIGALRM, count, 0);
    handle(SIGVTALRM, count, 0);
    handle(SIGPROF, count, 0);
    let tv = |us| timeval {
        tv_sec: 0,
        tv_usec: us,
    };
    let t = itimerval {
        it_interval: tv(5000),
        it_value: tv(5000),
    };
    sys!(setitimer(ITIMER_REAL, &t, null_mut())).v();
    let end = now_ms() + 3000;
    while COUNT.load(SeqCst) < 5 && now_ms() < end {
        ms(100);
    }
    let mut old: itimerval = zero();
    sys!(setitimer(ITIMER_REAL, &zero(), &mut old)).v();
    say!(
        "real, repeated {} interval {}",
        COUNT.swap(0, SeqCst) >= 5,
        old.it_interval.tv_usec
    );
    sys!(getitimer(ITIMER_REAL, &mut old)).v();
    say!("off {} {}", old.it_value.tv_sec, old.it_value.tv_usec);
    for which in [ITIMER_VIRTUAL, ITIMER_PROF] {
        let t = itimerval {
            it_interval: zero(),
            it_value: tv(10000),
        };
        sys!(setitimer(which, &t, null_mut())).v();
        let end = now_ms() + 4000;
        let mut x = 0u64;
        while COUNT.load(SeqCst) == 0 && now_ms() < end {
            for i in 0..100_000u64 {
                x = std::hint::black_box(x + i);
            }
        }
        say!("cpu time {}", COUNT.swap(0, SeqCst));
    }
    say!(
        "bad {} {}",
        sys!(setitimer(9, &t, null_mut())),
        sys!(setitimer(
            ITIMER_REAL,
            &itimerval {
                it_interval: zero(),
                it_value: tv(1_000_000)
            },
            null_mut()
        ))
    );
}

pub fn raise_abort() {
    say!("abort {}", run(|| unsafe { abort() }));
    say!(
        "abort with a handler {}",
        run(|| {
            handle(SIGABRT, count, 0);
            unsafe { abort() }
        })
    );
    say!(
        "abort blocked and ignored {}",
        run(|| {
            block(&[SIGABRT]);
            set_action(SIGABRT, SIG_IGN);
            unsafe { abort() }
        })
    );
}

pub fn sigpipe_kinds() {
    let broken = || {
        let p = pipe();
        close(p[0]);
        p[1]
    };
    say!(
        "pipe {}",
        run(|| {
            write(broken(), b"x");
            0
        })
    );
    set_action(SIGPIPE, SIG_IGN);
    say!("ignored {}", write(broken(), b"x"));
    let s = pair(SOCK_STREAM);
    close(s[0]);
    say!(
        "socket {} nosignal {}",
        write(s[1], b"x"),
        sys!(send(s[1], b"x".as_ptr().cast(), 1, MSG_NOSIGNAL))
    );
    set_action(SIGPIPE, SIG_DFL);
    say!(
        "socket write {}",
        run(|| {
            write(s[1], b"x");
            0
        })
    );
    say!(
        "socket nosignal {}",
        run(|| sys!(send(s[1], b"x".as_ptr().cast(), 1, MSG_NOSIGNAL)).err()) == St(EPIPE << 8)
    );
    handle(SIGPIPE, count, 0);
    say!("handled {} {}", write(broken(), b"x"), COUNT.load(SeqCst));
    say!("empty write {}", write(broken(), b""));
}

pub fn old_action() {
    let first = unsafe { signal(SIGUSR1, count as *const () as usize) };
    let second = unsafe { signal(SIGUSR1, SIG_IGN) };
    let third = unsafe { signal(SIGUSR1, SIG_DFL) };
    say!(
        "{} {} {}",
        first == SIG_DFL,
        second == count as *const () as usize,
        third == SIG_IGN
    );
    say!("{}", unsafe { signal(SIGKILL, SIG_IGN) } == SIG_ERR);
}

pub fn unblockable() {
    let mut all = zero();
    unsafe { sigfillset(&mut all) };
    sys!(sigprocmask(SIG_SETMASK, &all, null_mut())).v();
    let mut now = zero();
    sys!(sigprocmask(SIG_BLOCK, null(), &mut now)).v();
    say!(
        "kill {} stop {} term {}",
        unsafe { sigismember(&now, SIGKILL) },
        unsafe { sigismember(&now, SIGSTOP) },
        unsafe { sigismember(&now, SIGTERM) }
    );
    let pid = fork(|| {
        loop {
            ms(1000)
        }
    });
    unsafe { kill(pid, SIGSTOP) };
    say!("{}", wait_opt(pid, WUNTRACED));
    unsafe { kill(pid, SIGKILL) };
    say!("{}", wait(pid));
    // A fault is delivered even when blocked: by death.
    say!(
        "blocked fault {}",
        run(|| {
            handle(SIGSEGV, count, 0);
            block(&[SIGSEGV]);
            unsafe { std::ptr::write_volatile(16 as *mut u8, 1) };
            0
        })
    );
    say!(
        "ignored fault {}",
        run(|| {
            set_action(SIGSEGV, SIG_IGN);
            unblock(&[SIGSEGV]);
            unsafe { std::ptr::write_volatile(16 as *mut u8, 1) };
            0
        })
    );
}

pub fn ppoll_mask() {
    handle(SIGUSR1, count, 0);
    block(&[SIGUSR1]);
    unsafe { raise(SIGUSR1) };
    let t = ts(2000);
    say!(
        "ppoll {} ran {}",
        sys!(ppoll(null_mut(), 0, &t, &set(&[]))),
        COUNT.load(SeqCst)
    );
    unsafe { raise(SIGUSR1) };
    let z = ts(0);
    say!(
        "ready first? ppoll without time {} ran {}",
        sys!(ppoll(null_mut(), 0, &z, &set(&[]))),
        COUNT.load(SeqCst)
    );
    unblock(&[SIGUSR1]);
    block(&[SIGUSR1]);
    COUNT.store(0, SeqCst);
    unsafe { raise(SIGUSR1) };
    say!(
        "pselect {} ran {}",
        sys!(pselect(
            0,
            null_mut(),
            null_mut(),
            null_mut(),
            &t,
            &set(&[])
        )),
        COUNT.load(SeqCst)
    );
    let ep = sys!(epoll_create1(0)).fd();
    let mut ev: [epoll_event; 1] = zero();
    unsafe { raise(SIGUSR1) };
    say!(
        "epoll_pwait {} ran {}",
        sys!(epoll_pwait(ep, ev.as_mut_ptr(), 1, 2000, &set(&[]))),
        COUNT.load(SeqCst)
    );
    let mut now = zero();
    sys!(sigprocmask(SIG_BLOCK, null(), &mut now));
    say!("mask {}", members(&now));
}

pub fn queue_limit() {
    let lim = rlimit {
        rlim_cur: 10,
        rlim_max: 10,
    };
    sys!(setrlimit(RLIMIT_SIGPENDING, &lim)).v();
    block(&[40, SIGUSR1]);
    let mut n = 0;
    let e = loop {
        let r = queue(40, n);
        if r.failed() || n > 100 {
            break r;
        }
        n += 1;
    };
    say!("bounded {} {e}", n <= 10);
    say!(
        "kill still works {} {}",
        sys!(kill(me_(), SIGUSR1)),
        pending()
    );
}

pub fn sigchld_default() {
    handle(SIGCHLD, count, 0);
    block(&[SIGCHLD]);
    for _ in 0..5 {
        let pid = fork(|| 0);
        wait(pid);
    }
    say!("{}", pending());
    unblock(&[SIGCHLD]);
    say!("merged {}", COUNT.load(SeqCst));
}
