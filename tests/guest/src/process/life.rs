//! From fork to wait.

use crate::prelude::*;

pub fn fork_values() {
    let me = unsafe { getpid() };
    let p = pipe();
    let pid = fork(|| {
        let v = unsafe { [getpid(), getppid(), gettid()] };
        write(p[1], unsafe {
            std::slice::from_raw_parts(v.as_ptr().cast(), 12)
        });
        3
    });
    let mut v = [0i32; 3];
    sys!(read(p[0], v.as_mut_ptr().cast(), 12)).v();
    say!(
        "child's pid {} parent {} tid {}",
        v[0] == pid,
        v[1] == me,
        v[2] == pid
    );
    say!("{}", wait(pid));
    say!("larger than 1 {}", pid > 1);
}

pub fn fork_copies() {
    let mut local = 1;
    let heap = vec![5u8; 100_000];
    let st = run(|| {
        local += 1;
        (local + heap[99_999] as i32) * 2
    });
    say!("{st} {local}");
    let st = run(|| {
        let st = run(|| {
            let st = run(|| 1);
            WEXITSTATUS(st.0) + 1
        });
        WEXITSTATUS(st.0) + 1
    });
    say!("{st}");
}

pub fn fork_descriptors() {
    put("f", b"0123456789");
    let fd = open("f", O_RDONLY).fd();
    let st = run(|| {
        read(fd, 4);
        close(fd);
        0
    });
    say!(
        "{st} shared position: {} open here: {}",
        sys!(lseek(fd, 0, SEEK_CUR)),
        read(fd, 2)
    );
    let st = run(|| {
        let n = open("f", O_RDONLY).fd();
        (n == fd + 1) as i32
    });
    say!("{st}; not opened here: {}", sys!(fcntl(fd + 1, F_GETFD)));
}

pub fn exit_codes() {
    for c in [0, 1, 42, 127, 255] {
        say!("{c}: {}", run(|| c));
    }
    say!("256: {}", run(|| 256));
    say!("-1: {}", run(|| -1));
    say!(
        "exit_group 300: {}",
        run(|| unsafe { syscall(SYS_exit_group, 300) } as i32)
    );
    say!("exit 5: {}", run(|| unsafe { syscall(SYS_exit, 5) } as i32));
    for s in [
        SIGTERM, SIGKILL, SIGABRT, SIGSEGV, SIGUSR1, SIGHUP, SIGPIPE, SIGALRM, SIGSYS, 34, 64,
    ] {
        say!("{}: {}", sig(s), run(|| unsafe { kill(getpid(), s) }));
    }
    for s in [SIGCHLD, SIGURG, SIGWINCH, SIGCONT] {
        say!(
            "{} ignored: {}",
            sig(s),
            run(|| unsafe { kill(getpid(), s) })
        );
    }
    say!(
        "division: {}",
        run(|| {
            unsafe {
                std::arch::asm!("xor edx, edx", "mov eax, 1", "xor ecx, ecx", "div ecx", out("eax") _, out("ecx") _, out("edx") _)
            };
            0
        })
    );
    say!("abort: {}", run(|| unsafe { abort() }));
}

pub fn exit_groups() {
    let p = pipe();
    let pid = fork(|| {
        for _ in 0..4 {
            std::thread::spawn(|| {
                loop {
                    ms(1000)
                }
            });
        }
        std::thread::spawn(|| unsafe { syscall(SYS_exit_group, 9) });
        loop {
            ms(1000)
        }
    });
    say!("{}", wait(pid));
    close(p[1]);
    say!("end of pipe {}", read(p[0], 1));
}

pub fn wait_basic() {
    let a = fork(|| 1);
    let b = fork(|| 2);
    say!("b {} a {}", wait(b), wait(a));
    let mut st = 0;
    say!("nobody {}", sys!(waitpid(-1, &mut st, 0)));
    let c = fork(|| 3);
    say!("any {}", sys!(waitpid(-1, &mut st, 0)).0 == c as i64);
    say!("no status wanted {}", {
        let d = fork(|| 4);
        sys!(waitpid(d, null_mut(), 0)).0 == d as i64
    });
    let mut ru: rusage = zero();
    let e = fork(|| 5);
    say!(
        "wait4 {} {}",
        raw!(SYS_wait4, e, &raw mut st, 0, &raw mut ru).0 == e as i64,
        St(st)
    );
    let (_, when) = took(50, || {
        let f = fork(|| {
            ms(60);
            0
        });
        wait(f)
    });
    say!("blocked {when}");
}

pub fn wait_nohang() {
    let g = Gate::new();
    let pid = fork(|| {
        g.pass();
        7
    });
    let mut st = 0;
    say!(
        "running {} {}",
        sys!(waitpid(pid, &mut st, WNOHANG)),
        sys!(waitpid(-1, &mut st, WNOHANG))
    );
    g.open();
    let mut r = R(0);
    while r.0 == 0 {
        r = sys!(waitpid(pid, &mut st, WNOHANG));
    }
    say!("{} {}", r.0 == pid as i64, St(st));
    say!("after {}", sys!(waitpid(pid, &mut st, WNOHANG)));
}

pub fn wait_groups() {
    let g = Gate::new();
    let a = fork(|| {
        g.pass();
        1
    });
    sys!(setpgid(a, a)).v();
    let b = fork(|| {
        g.pass();
        2
    });
    let mut st = 0;
    g.open();
    g.open();
    say!(
        "group of a {} {}",
        sys!(waitpid(-a, &mut st, 0)).0 == a as i64,
        St(st)
    );
    say!("again {}", sys!(waitpid(-a, &mut st, 0)));
    say!(
        "own group {} {}",
        sys!(waitpid(0, &mut st, 0)).0 == b as i64,
        St(st)
    );
    say!("no such group {}", sys!(waitpid(-99999, &mut st, 0)));
}

pub fn wait_errors() {
    let mut st = 0;
    say!(
        "no child {} not mine {} myself {}",
        sys!(waitpid(-1, &mut st, 0)),
        sys!(waitpid(1, &mut st, 0)),
        sys!(waitpid(unsafe { getpid() }, &mut st, 0))
    );
    let pid = fork(|| 1);
    say!("options {}", sys!(waitpid(pid, &mut st, 0x1000)));
    say!("bad pointer {}", raw!(SYS_wait4, pid, 8, 0, 0));
    say!("int min {}", sys!(waitpid(i32::MIN, &mut st, 0)));
    say!(
        "reaped by the failed call {}",
        sys!(waitpid(pid, &mut st, 0)).failed()
    );
    handle(SIGUSR1, nop, 0);
    let child = fork(|| {
        loop {
            ms(1000)
        }
    });
    let me = unsafe { getpid() };
    let helper = fork(|| {
        until_asleep(me);
        unsafe { kill(me, SIGUSR1) };
        0
    });
    say!("interrupted {}", sys!(waitpid(child, &mut st, 0)));
    say!("{}", wait(helper));
    unsafe { kill(child, SIGKILL) };
    say!("{}", wait(child));
}

fn info(r: R, i: &siginfo_t) -> String {
    if r.failed() {
        return r.to_string();
    }
    let (pid, status) = unsafe { (i.si_pid(), i.si_status()) };
    if pid == 0 {
        return "nothing".into();
    }
    let code = match i.si_code {
        CLD_EXITED => "exited",
        CLD_KILLED => "killed",
        CLD_DUMPED => "killed",
        CLD_STOPPED => "stopped",
        CLD_CONTINUED => "continued",
        CLD_TRAPPED => "trapped",
        _ => "?",
    };
    format!("{} {code} {status}", sig(i.si_signo))
}

pub fn waitid_forms() {
    let mut i: siginfo_t = zero();
    let pid = fork(|| 11);
    let r = sys!(waitid(P_PID, pid as u32, &mut i, WEXITED));
    say!("{} pid {}", info(r, &i), unsafe { i.si_pid() } == pid);
    let pid = fork(|| unsafe { kill(getpid(), SIGTERM) });
    let r = sys!(waitid(P_ALL, 0, &mut i, WEXITED));
    say!("{} pid {}", info(r, &i), unsafe { i.si_pid() } == pid);
    let g = Gate::new();
    let pid = fork(|| {
        g.pass();
        1
    });
    let r = sys!(waitid(P_ALL, 0, &mut i, WEXITED | WNOHANG));
    say!("nohang {}", info(r, &i));
    let r = sys!(waitid(
        P_PGID,
        unsafe { getpgrp() } as u32,
        &mut i,
        WEXITED | WNOHANG
    ));
    say!("pgid {}", info(r, &i));
    g.open();
    let r = sys!(waitid(P_PGID, 0, &mut i, WEXITED));
    say!("pgid 0 {} {}", info(r, &i), unsafe { i.si_pid() } == pid);
    say!("none {}", sys!(waitid(P_ALL, 0, &mut i, WEXITED)));
    say!("null info {}", {
        let p = fork(|| 2);
        sys!(waitid(P_PID, p as u32, null_mut(), WEXITED))
    });
    say!("unknown type {}", sys!(waitid(77, 0, &mut i, WEXITED)));
    say!("pid 0 {}", sys!(waitid(P_PID, 0, &mut i, WEXITED)));
}

pub fn wait_stopped() {
    let mut i: siginfo_t = zero();
    let mut st = 0;
    let pid = fork(|| forever());
    unsafe { kill(pid, SIGSTOP) };
    say!("{}", wait_opt(pid, WUNTRACED));
    say!(
        "reported once {}",
        sys!(waitpid(pid, &mut st, WUNTRACED | WNOHANG))
    );
    unsafe { kill(pid, SIGCONT) };
    say!("{}", wait_opt(pid, WCONTINUED));
    unsafe { kill(pid, SIGTSTP) };
    let r = sys!(waitid(P_PID, pid as u32, &mut i, WSTOPPED | WNOWAIT));
    say!("{}", info(r, &i));
    let r = sys!(waitid(P_PID, pid as u32, &mut i, WSTOPPED));
    say!("{}", info(r, &i));
    unsafe { kill(pid, SIGTERM) };
    say!(
        "terminated while stopped: {}",
        sys!(waitpid(pid, &mut st, WNOHANG))
    );
    unsafe { kill(pid, SIGCONT) };
    let r = sys!(waitid(P_PID, pid as u32, &mut i, WCONTINUED | WEXITED));
    say!("{}", info(r, &i).split(' ').next().unwrap());
    sys!(waitid(P_PID, pid as u32, &mut i, WEXITED | WNOHANG));
    let pid = fork(|| forever());
    unsafe { kill(pid, SIGSTOP) };
    wait_opt(pid, WUNTRACED);
    unsafe { kill(pid, SIGKILL) };
    say!("SIGKILL while stopped {}", wait(pid));
}

pub fn wait_nowait() {
    let mut i: siginfo_t = zero();
    let pid = fork(|| 6);
    for _ in 0..3 {
        let r = sys!(waitid(P_PID, pid as u32, &mut i, WEXITED | WNOWAIT));
        say!("{}", info(r, &i));
    }
    say!("{}", wait(pid));
    let r = sys!(waitid(P_PID, pid as u32, &mut i, WEXITED | WNOWAIT));
    say!("{}", info(r, &i));
}

pub fn zombies() {
    let pid = fork(|| 4);
    let mut i: siginfo_t = zero();
    sys!(waitid(P_PID, pid as u32, &mut i, WEXITED | WNOWAIT)).v();
    say!(
        "signal 0 {} kill {}",
        sys!(kill(pid, 0)),
        sys!(kill(pid, SIGKILL))
    );
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    say!("state {}", &stat[stat.rfind(')').unwrap() + 2..][..1]);
    say!(
        "cmdline {:?}",
        std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap()
    );
    say!(
        "maps {:?}",
        std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap()
    );
    say!(
        "getpgid {}",
        sys!(getpgid(pid)).0 == unsafe { getpgrp() } as i64
    );
    say!("{}", wait(pid));
    say!(
        "signal 0 {} proc {}",
        sys!(kill(pid, 0)),
        describe(&format!("/proc/{pid}"))
    );
}

pub fn orphans() {
    let p = pipe();
    let st = run(|| {
        let parent = unsafe { getpid() };
        fork(|| {
            while unsafe { getppid() } == parent {
                ms(1);
            }
            write(p[1], b"adopted");
            0
        });
        0
    });
    say!("{st} {}", read(p[0], 20));
    // The grandchild is nobody's child here.
    let mut s = 0;
    say!("{}", sys!(waitpid(-1, &mut s, 0)));
}

pub fn subreaper() {
    sys!(prctl(PR_SET_CHILD_SUBREAPER, 1)).v();
    let me = unsafe { getpid() };
    let p = pipe();
    let st = run(|| {
        let parent = unsafe { getpid() };
        fork(|| {
            while unsafe { getppid() } == parent {
                ms(1);
            }
            write(
                p[1],
                if unsafe { getppid() } == me {
                    b"mine"
                } else {
                    b"lost"
                },
            );
            21
        });
        0
    });
    say!("{st} {}", read(p[0], 20));
    let mut s = 0;
    say!("{} {}", sys!(waitpid(-1, &mut s, 0)).ok(), St(s));
    let mut on = 0i32;
    say!("{} {on}", sys!(prctl(PR_GET_CHILD_SUBREAPER, &mut on)));
    say!(
        "not inherited {}",
        run(|| {
            let mut on = 5i32;
            unsafe { prctl(PR_GET_CHILD_SUBREAPER, &mut on) };
            on
        })
    );
}

pub fn sigchld_ignored() {
    set_action(SIGCHLD, SIG_IGN);
    let pid = fork(|| 3);
    let mut st = 0;
    say!("wait {}", sys!(waitpid(pid, &mut st, 0)));
    say!("gone {}", sys!(kill(pid, 0)));
    set_action(SIGCHLD, SIG_DFL);
    say!("default {}", run(|| 3));
    let mut sa: sigaction = zero();
    sa.sa_flags = SA_NOCLDWAIT;
    sys!(sigaction(SIGCHLD, &sa, null_mut())).v();
    let pid = fork(|| 3);
    say!("NOCLDWAIT {}", sys!(waitpid(pid, &mut st, 0)));
}

static SEEN: AtomicI32 = AtomicI32::new(0);
static WHAT: [AtomicI32; 4] = [const { AtomicI32::new(0) }; 4];

extern "C" fn on_child(_: i32, i: *mut siginfo_t, _: *mut c_void) {
    unsafe {
        WHAT[0].store((*i).si_code, SeqCst);
        WHAT[1].store((*i).si_pid(), SeqCst);
        WHAT[2].store((*i).si_status(), SeqCst);
        WHAT[3].store((*i).si_uid() as i32, SeqCst);
    }
    SEEN.fetch_add(1, SeqCst);
}

pub fn sigchld_info() {
    handle(SIGCHLD, on_child, SA_RESTART);
    let uid = unsafe { getuid() } as i32;
    let shown = |pid| {
        format!(
            "code {} pid {} status {} uid {}",
            WHAT[0].load(SeqCst),
            WHAT[1].load(SeqCst) == pid,
            WHAT[2].load(SeqCst),
            WHAT[3].load(SeqCst) == uid
        )
    };
    let seen = |n| {
        for _ in 0..2000 {
            if SEEN.load(SeqCst) >= n {
                return;
            }
            ms(1);
        }
    };
    let pid = fork(|| 9);
    seen(1);
    say!("{}", shown(pid));
    wait(pid);
    let pid = fork(|| forever());
    unsafe { kill(pid, SIGSTOP) };
    seen(2);
    say!("{}", shown(pid));
    unsafe { kill(pid, SIGCONT) };
    seen(3);
    say!("{}", shown(pid));
    unsafe { kill(pid, SIGKILL) };
    seen(4);
    say!("{}", shown(pid));
    wait(pid);
    say!("signals {}", SEEN.load(SeqCst));
}

pub fn no_cldstop() {
    handle(SIGCHLD, on_child, SA_RESTART | SA_NOCLDSTOP);
    let pid = fork(|| forever());
    unsafe { kill(pid, SIGSTOP) };
    say!("{}", wait_opt(pid, WUNTRACED));
    unsafe { kill(pid, SIGCONT) };
    say!("{}", wait_opt(pid, WCONTINUED));
    say!("signals {}", SEEN.load(SeqCst));
    unsafe { kill(pid, SIGKILL) };
    say!("{}", wait(pid));
    say!("signals {}", SEEN.load(SeqCst));
}

static FLAG: AtomicI32 = AtomicI32::new(0);

pub fn vfork_blocks() {
    let t0 = now_ms();
    #[allow(deprecated)]
    let pid = unsafe { vfork() };
    if pid == 0 {
        // Same memory, and the parent waits.
        FLAG.store(77, SeqCst);
        let t = ts(50);
        unsafe {
            nanosleep(&t, null_mut());
            _exit(5)
        }
    }
    say!(
        "memory shared {} waited {}",
        FLAG.load(SeqCst),
        now_ms() - t0 >= 49
    );
    say!("{}", wait(pid));
}

pub fn vfork_exec() {
    for i in 0..20 {
        let me = me();
        let code = cs(&format!("{i}"));
        let args = [
            c"guest".as_ptr(),
            c"--tool".as_ptr(),
            c"exit".as_ptr(),
            code.as_ptr(),
            null(),
        ];
        let env = [null()];
        #[allow(deprecated)]
        let pid = unsafe { vfork() };
        if pid == 0 {
            unsafe {
                execve(me.as_ptr(), args.as_ptr(), env.as_ptr());
                _exit(99)
            }
        }
        let st = wait(pid);
        if st != St(i << 8) {
            say!("{i}: {st}");
        }
    }
    #[allow(deprecated)]
    let pid = unsafe { vfork() };
    if pid == 0 {
        unsafe {
            execve(c"/nonexistent".as_ptr(), null(), null());
            _exit(*__errno_location())
        }
    }
    say!("failed exec {}", wait(pid) == St(ENOENT << 8));
    #[allow(deprecated)]
    let pid = unsafe { vfork() };
    if pid == 0 {
        unsafe {
            kill(getpid(), SIGKILL);
            _exit(0)
        }
    }
    say!("killed {}", wait(pid));
}

pub fn pids_unique() {
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let pid = fork(|| 0);
        seen.insert(pid);
        wait(pid);
    }
    say!("{}", seen.len());
}

pub fn many_children() {
    let n = 60;
    let g = Gate::new();
    let kids: Vec<i32> = (0..n)
        .map(|i| {
            fork(|| {
                g.pass();
                i
            })
        })
        .collect();
    for _ in 0..n {
        g.open();
    }
    let mut sum = 0;
    let mut st = 0;
    for _ in 0..n {
        sys!(waitpid(-1, &mut st, 0)).v();
        sum += WEXITSTATUS(st);
    }
    say!("{sum} {}", kids.len());
    say!("{}", sys!(waitpid(-1, &mut st, 0)));
}

pub fn deep_forks() {
    fn go(n: i32) -> i32 {
        if n == 0 {
            return 1;
        }
        let st = run(|| go(n - 1));
        WEXITSTATUS(st.0) + 1
    }
    say!("{}", go(30));
}

pub fn process_groups() {
    let me = unsafe { getpid() };
    say!("leader of own group {}", unsafe { getpgrp() } == me);
    let g = Gate::new();
    let child = fork(|| {
        g.pass();
        (unsafe { getpgrp() } != unsafe { getpid() }) as i32
    });
    say!("inherits {}", sys!(getpgid(child)).0 == me as i64);
    say!(
        "own group {} {}",
        sys!(setpgid(child, 0)),
        sys!(getpgid(child)).0 == child as i64
    );
    say!("back {}", sys!(setpgid(child, me)));
    say!("own again {}", sys!(setpgid(child, child)));
    say!("no such group {}", sys!(setpgid(child, 99999)));
    say!(
        "negative {} no such process {}",
        sys!(setpgid(child, -1)),
        sys!(setpgid(99999, 0))
    );
    say!("not my child {}", sys!(setpgid(1, 0)));
    g.open();
    say!("{}", wait(child));
    let (r, g) = (Gate::new(), Gate::new());
    let child = fork(|| {
        unsafe { setsid() };
        r.open();
        g.pass();
        0
    });
    r.pass();
    say!("other session {}", sys!(setpgid(child, 0)));
    g.open();
    wait(child);
    let p = pipe2(O_CLOEXEC);
    let me = crate::common::me();
    let child = fork(|| exec(&me, &["guest", "--tool", "spin", "300"], &[]).err());
    close(p[1]);
    read(p[0], 1);
    say!("after exec {}", sys!(setpgid(child, child)));
    unsafe { kill(child, SIGKILL) };
    say!("{}", wait(child));
}

pub fn sessions() {
    let me = unsafe { getpid() };
    say!("leader of a group cannot {}", sys!(setsid()));
    let st = run(|| {
        let old = unsafe { getsid(0) };
        let r = sys!(setsid());
        let pid = unsafe { getpid() };
        say!(
            "new {} sid {} pgrp {} old {}",
            r.0 == pid as i64,
            unsafe { getsid(0) } == pid,
            unsafe { getpgrp() } == pid,
            old != pid
        );
        say!(
            "again {} leader's setpgid {}",
            sys!(setsid()),
            sys!(setpgid(0, 0))
        );
        say!("tty {}", open("/dev/tty", O_RDWR));
        let st = run(|| (unsafe { getsid(0) } != pid) as i32);
        say!("{st}");
        0
    });
    say!("{st}");
    say!(
        "getsid(child of none) {} same {}",
        sys!(getsid(99999)),
        sys!(getsid(me)).0 == unsafe { getsid(0) } as i64
    );
}

pub fn getpgid_errors() {
    say!(
        "{} {} {}",
        sys!(getpgid(99999)),
        sys!(getpgid(-1)),
        sys!(getsid(-1))
    );
    say!("{} {}", sys!(getpgid(0)).ok(), sys!(getpgid(1)).ok());
    say!(
        "kill nobody {} group {}",
        sys!(kill(99999, 0)),
        sys!(kill(-99999, 0))
    );
    say!("bad signal {} {}", sys!(kill(0, -1)), sys!(kill(0, 100)));
}

pub fn pdeathsig() {
    let p = pipe();
    let st = run(|| {
        let ready = Gate::new();
        fork(|| {
            close(p[0]);
            sys!(prctl(PR_SET_PDEATHSIG, SIGKILL)).v();
            ready.open();
            loop {
                ms(1000);
            }
        });
        ready.pass();
        0
    });
    close(p[1]);
    say!("{st} died with its parent {}", read(p[0], 1));
    let mut s = 9i32;
    say!("{} {s}", sys!(prctl(PR_GET_PDEATHSIG, &mut s)));
    say!("bad {}", sys!(prctl(PR_SET_PDEATHSIG, 99)));
    sys!(prctl(PR_SET_PDEATHSIG, SIGUSR1));
    say!(
        "cleared by fork {}",
        run(|| {
            let mut s = 9i32;
            unsafe { prctl(PR_GET_PDEATHSIG, &mut s) };
            s
        })
    );
}

pub fn rusage_children() {
    let st = run(|| {
        let mut t: timespec = zero();
        while t.tv_sec == 0 && t.tv_nsec < 80_000_000 {
            unsafe { clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &mut t) };
        }
        0
    });
    let mut ru: rusage = zero();
    say!("{st} {}", sys!(getrusage(RUSAGE_CHILDREN, &mut ru)));
    let us = ru.ru_utime.tv_sec * 1_000_000
        + ru.ru_utime.tv_usec
        + ru.ru_stime.tv_sec * 1_000_000
        + ru.ru_stime.tv_usec;
    say!("some time {}", us >= 75_000);
    say!(
        "self {} thread {} bad {}",
        sys!(getrusage(RUSAGE_SELF, &mut ru)),
        sys!(getrusage(RUSAGE_THREAD, &mut ru)),
        sys!(getrusage(7, &mut ru))
    );
    let mut t: tms = zero();
    say!(
        "times {} children {}",
        sys!(times(&mut t)).ok(),
        t.tms_cutime + t.tms_cstime > 0
    );
}

pub fn wait_by_thread() {
    let pid = fork(|| {
        ms(20);
        8
    });
    let st = std::thread::spawn(move || wait(pid)).join().unwrap();
    say!("other thread reaps {st}");
    let pid = std::thread::spawn(|| fork(|| 9)).join().unwrap();
    say!("child of a finished thread {}", wait(pid));
    let pid = fork(|| 10);
    let r = std::thread::spawn(move || {
        let mut st = 0;
        sys!(waitpid(pid, &mut st, __WNOTHREAD)).to_string()
    })
    .join()
    .unwrap();
    say!("not this thread's {r}");
    say!("{}", wait(pid));
}
