//! Handlers, masks, dispositions.

use crate::prelude::*;

pub(super) static COUNT: AtomicI32 = AtomicI32::new(0);

static LOG: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

pub(super) extern "C" fn count(_: i32, _: *mut siginfo_t, _: *mut c_void) {
    COUNT.fetch_add(1, SeqCst);
}

/// Logs signal number and value.
pub(super) extern "C" fn log(n: i32, i: *mut siginfo_t, _: *mut c_void) {
    let at = COUNT.fetch_add(1, SeqCst) as usize;
    let v = unsafe { (*i).si_value().sival_ptr as u64 };
    LOG[at % 64].store((n as u64) << 32 | v & 0xffff_ffff, SeqCst);
}

pub(super) fn logged() -> String {
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

pub(super) fn own_pid() -> i32 {
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
    sys!(kill(own_pid(), SIGUSR1)).v();
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

pub(super) extern "C" fn note_mask(_: i32, _: *mut siginfo_t, _: *mut c_void) {
    let mut m = 0u64;
    unsafe { syscall(SYS_rt_sigprocmask, SIG_BLOCK, 0, &raw mut m, 8) };
    INSIDE.store(m, SeqCst);
}

pub(super) fn inside() -> String {
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
    let parent = own_pid();
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
