//! clone(2), clone3(2), pidfds, posix_spawn, threads and processes mixed.

use crate::prelude::*;

fn clone_raw(flags: u64, ptid: *mut i32, ctid: *mut i32) -> R {
    raw!(SYS_clone, flags, 0, ptid, ctid, 0)
}

/// clone without a new stack, as fork does it.
fn child_of(flags: u64, f: impl FnOnce() -> i32) -> i32 {
    let r = clone_raw(flags | SIGCHLD as u64, null_mut(), null_mut());
    if r.0 == 0 {
        let c = f();
        unsafe { _exit(c) }
    }
    r.v() as i32
}

pub fn clone_flags() {
    say!("plain {}", wait(child_of(0, || 5)));
    say!(
        "thread without vm {}",
        clone_raw(CLONE_THREAD as u64, null_mut(), null_mut())
    );
    say!(
        "sighand without vm {}",
        clone_raw(CLONE_SIGHAND as u64, null_mut(), null_mut())
    );
    say!(
        "thread without sighand {}",
        clone_raw((CLONE_THREAD | CLONE_VM) as u64, null_mut(), null_mut())
    );
    say!(
        "fs and newns {}",
        clone_raw((CLONE_FS | CLONE_NEWNS) as u64, null_mut(), null_mut())
    );
    say!(
        "pidfd with parent_settid {}",
        clone_raw(
            (CLONE_PIDFD | CLONE_PARENT_SETTID) as u64,
            null_mut(),
            null_mut()
        )
    );
    say!(
        "pidfd bad pointer {}",
        clone_raw(
            CLONE_PIDFD as u64 | SIGCHLD as u64,
            8 as *mut i32,
            null_mut()
        )
    );
}

static SHARED: AtomicI32 = AtomicI32::new(0);

fn with_stack(flags: i32, f: extern "C" fn(*mut c_void) -> i32, arg: usize) -> R {
    let size = 256 << 10;
    let stack = Box::leak(vec![0u8; size].into_boxed_slice());
    let top = (stack.as_mut_ptr() as usize + size) & !15;
    sys!(clone(f, top as *mut c_void, flags, arg as *mut c_void))
}

extern "C" fn add(arg: *mut c_void) -> i32 {
    SHARED.fetch_add(arg as usize as i32, SeqCst);
    3
}

pub fn clone_vm() {
    let pid = with_stack(CLONE_VM | SIGCHLD, add, 40).fd();
    say!("shared {} {}", wait(pid), SHARED.load(SeqCst));
    let pid = with_stack(SIGCHLD, add, 2).fd();
    say!("copied {} {}", wait(pid), SHARED.load(SeqCst));
    let pid = with_stack(CLONE_VM | CLONE_VFORK | SIGCHLD, add, 2).fd();
    say!("vfork {} {}", SHARED.load(SeqCst), wait(pid));
}

extern "C" fn opener(_: *mut c_void) -> i32 {
    open("/dev/null", O_RDONLY).0 as i32
}

pub fn clone_files() {
    let next = open("/dev/null", O_RDONLY).fd();
    close(next);
    let st = wait(with_stack(CLONE_FILES | SIGCHLD, opener, 0).fd());
    say!(
        "same number {} open here {}",
        st == St(next << 8),
        sys!(fcntl(next, F_GETFD))
    );
    close(next);
    let st = wait(with_stack(SIGCHLD, opener, 0).fd());
    say!(
        "same number {} open here {}",
        st == St(next << 8),
        sys!(fcntl(next, F_GETFD))
    );
}

extern "C" fn mover(_: *mut c_void) -> i32 {
    unsafe { umask(0o077) };
    sys!(chdir(c"/".as_ptr())).err()
}

pub fn clone_fs() {
    let here = std::env::current_dir().unwrap();
    let same = || std::env::current_dir().unwrap() == here;
    unsafe { umask(0o022) };
    say!(
        "{} {} umask {:o}",
        wait(with_stack(SIGCHLD, mover, 0).fd()),
        same(),
        unsafe { umask(0o022) }
    );
    say!(
        "{} {} umask {:o}",
        wait(with_stack(CLONE_FS | SIGCHLD, mover, 0).fd()),
        same(),
        unsafe { umask(0o022) }
    );
}

pub fn clone_tids() {
    let (mut p, mut c) = (0i32, 0i32);
    let r = clone_raw(
        (CLONE_PARENT_SETTID | CLONE_CHILD_SETTID) as u64 | SIGCHLD as u64,
        &mut p,
        &mut c,
    );
    if r.0 == 0 {
        let ok = unsafe { (&raw const c).read_volatile() } == unsafe { getpid() };
        unsafe { _exit(ok as i32) }
    }
    let pid = r.v() as i32;
    say!(
        "parent's word {} child's word here {} child {}",
        p == pid,
        c,
        wait(pid)
    );
    say!("settid bad pointer {}", {
        let r = clone_raw(
            CLONE_CHILD_SETTID as u64 | SIGCHLD as u64,
            null_mut(),
            8 as *mut i32,
        );
        if r.0 == 0 {
            unsafe { _exit(4) }
        }
        wait(r.v() as i32)
    });
}

#[repr(C)]
struct Args3([u64; 11]);

pub fn clone3_errors() {
    let c3 = |a: &Args3, n: usize| {
        let r = raw!(SYS_clone3, a.0.as_ptr(), n);
        if r.0 == 0 {
            unsafe { _exit(6) }
        }
        r
    };
    // flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup
    let a = |flags: u64, signal: u64, stack: u64, size: u64| {
        Args3([flags, 0, 0, 0, signal, stack, size, 0, 0, 0, 0])
    };
    let r = c3(&a(0, SIGCHLD as u64, 0, 0), 88);
    say!("fork {}", wait(r.v() as i32));
    let r = c3(&a(0, SIGCHLD as u64, 0, 0), 64);
    say!("first version {}", wait(r.v() as i32));
    say!(
        "small {} large {}",
        c3(&a(0, 0, 0, 0), 56),
        c3(&a(0, 0, 0, 0), 5000)
    );
    say!("bad signal {}", c3(&a(0, 65, 0, 0), 88));
    say!("signal in flags {}", c3(&a(SIGCHLD as u64, 0, 0, 0), 88));
    say!(
        "stack without size {} size without stack {}",
        c3(&a(0, 17, 0x10000, 0), 88),
        c3(&a(0, 17, 0, 4096), 88)
    );
    say!(
        "thread with a signal {}",
        c3(
            &a((CLONE_THREAD | CLONE_SIGHAND | CLONE_VM) as u64, 17, 0, 0),
            88
        )
    );
    say!("detached {}", c3(&a(CLONE_DETACHED as u64, 17, 0, 0), 88));
    say!(
        "sighand and clear {}",
        c3(
            &a(CLONE_SIGHAND as u64 | CLONE_VM as u64 | 1 << 32, 17, 0, 0),
            88
        )
    );
    say!("unknown {}", c3(&a(1 << 40, 17, 0, 0), 88));
    say!("bad pointer {}", raw!(SYS_clone3, 8, 88));
    handle(SIGUSR1, nop, 0);
    let r = raw!(
        SYS_clone3,
        Args3([1 << 32, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0]).0.as_ptr(),
        88
    );
    if r.0 == 0 {
        unsafe {
            kill(getpid(), SIGUSR1);
            _exit(0)
        }
    }
    say!("CLEAR_SIGHAND {}", wait(r.v() as i32));
}

pub fn clone_thread_errors() {
    say!(
        "tgkill other group {}",
        sys!(syscall(
            SYS_tgkill,
            unsafe { getppid() },
            unsafe { getpid() },
            0
        ))
    );
    say!(
        "tgkill unknown {}",
        sys!(syscall(SYS_tgkill, unsafe { getpid() }, 99999, 0))
    );
    say!("tkill self {}", sys!(syscall(SYS_tkill, gettid(), 0)));
    let h = std::thread::spawn(|| {
        let t = gettid();
        let same = unsafe { getpid() } != t;
        say!("own tid {} getpgid of tid {}", same, sys!(getpgid(t)).ok());
        say!("wait for a thread {}", sys!(waitpid(t, null_mut(), 0)));
        t
    });
    let t = h.join().unwrap();
    // The thread is about to vanish; its number no longer names anything.
    for _ in 0..1000 {
        if sys!(syscall(SYS_tkill, t, 0)).failed() {
            break;
        }
        ms(1);
    }
    say!("gone {}", sys!(syscall(SYS_tkill, t, 0)));
}

pub fn clone_exit_signal() {
    handle(SIGUSR1, nop, 0);
    block(&[SIGUSR1, SIGCHLD]);
    let r = clone_raw(SIGUSR1 as u64, null_mut(), null_mut());
    if r.0 == 0 {
        unsafe { _exit(2) }
    }
    let pid = r.v() as i32;
    let mut st = 0;
    say!(
        "wait sees no clone child {}",
        sys!(waitpid(pid, &mut st, 0))
    );
    say!(
        "__WCLONE {} {}",
        sys!(waitpid(pid, &mut st, __WCLONE)).0 == pid as i64,
        St(st)
    );
    say!("pending {}", pending());
    let r = clone_raw(0, null_mut(), null_mut());
    if r.0 == 0 {
        unsafe { _exit(3) }
    }
    say!(
        "__WALL {} {}",
        sys!(waitpid(r.v() as i32, &mut st, __WALL)).ok(),
        St(st)
    );
    say!("pending {}", pending());
}

fn pidfd_open(pid: i32, flags: u32) -> R {
    raw!(SYS_pidfd_open, pid, flags)
}

pub fn pidfd_basic() {
    let g = Gate::new();
    let pid = fork(|| {
        g.pass();
        13
    });
    let fd = pidfd_open(pid, 0).fd();
    let mut p = pollfd {
        fd,
        events: POLLIN,
        revents: 0,
    };
    say!("running {}", sys!(poll(&mut p, 1, 0)));
    say!("cloexec {}", sys!(fcntl(fd, F_GETFD)));
    g.open();
    say!(
        "ended {} {}",
        sys!(poll(&mut p, 1, 5000)),
        p.revents & POLLIN
    );
    let mut i: siginfo_t = zero();
    say!(
        "waitid {} {}",
        sys!(waitid(P_PIDFD, fd as u32, &mut i, WEXITED)),
        unsafe { i.si_status() }
    );
    say!(
        "again {}",
        sys!(waitid(P_PIDFD, fd as u32, &mut i, WEXITED))
    );
    say!("signal {}", raw!(SYS_pidfd_send_signal, fd, 0, 0, 0));
    say!("read {}", read(fd, 1));
    say!(
        "unknown {} zero {} negative {} flags {}",
        pidfd_open(99999, 0),
        pidfd_open(0, 0),
        pidfd_open(-1, 0),
        pidfd_open(unsafe { getpid() }, 1)
    );
    say!("not a pidfd {}", sys!(waitid(P_PIDFD, 0, &mut i, WEXITED)));
    let mut slot = -1i32;
    let r = clone_raw(CLONE_PIDFD as u64 | SIGCHLD as u64, &mut slot, null_mut());
    if r.0 == 0 {
        unsafe { _exit(1) }
    }
    say!(
        "CLONE_PIDFD {} {}",
        slot >= 0,
        sys!(waitid(P_PIDFD, slot as u32, &mut i, WEXITED))
    );
}

pub fn pidfd_signals() {
    let pid = fork(|| {
        loop {
            ms(1000)
        }
    });
    let fd = pidfd_open(pid, 0).fd();
    say!(
        "0 {} bad {}",
        raw!(SYS_pidfd_send_signal, fd, 0, 0, 0),
        raw!(SYS_pidfd_send_signal, fd, 65, 0, 0)
    );
    say!(
        "flags {}",
        raw!(SYS_pidfd_send_signal, fd, SIGTERM, 0, 0x100)
    );
    say!(
        "term {} {}",
        raw!(SYS_pidfd_send_signal, fd, SIGTERM, 0, 0),
        wait(pid)
    );
    say!("not a pidfd {}", raw!(SYS_pidfd_send_signal, 1, 0, 0, 0));
}

/// The directory of a process in /proc stands for it, too.
pub fn pidfd_of_proc() {
    let pid = fork(|| {
        loop {
            ms(1000)
        }
    });
    let dir = |what: &str, flags| open(&format!("/proc/{pid}{what}"), flags | O_DIRECTORY).fd();
    let send = |fd: i32, signo| raw!(SYS_pidfd_send_signal, fd, signo, 0, 0);
    let fd = dir("", O_RDONLY);
    say!("directory {} bad {}", send(fd, 0), send(fd, 65));
    say!("path only {}", send(dir("", O_PATH), 0));
    say!("thread {}", send(dir(&format!("/task/{pid}"), O_RDONLY), 0));
    say!("another {}", send(dir("/task", O_RDONLY), 0));
    say!("file {}", send(open("/proc/self/stat", O_RDONLY).fd(), 0));
    let mut p = pollfd {
        fd,
        events: POLLIN,
        revents: 0,
    };
    say!("poll {}", sys!(poll(&mut p, 1, 0)));
    say!("term {} {}", send(fd, SIGTERM), wait(pid));
    say!("gone {}", send(fd, 0));
}

pub fn pidfd_getfd_call() {
    let (g, up) = (Gate::new(), Gate::new());
    put("f", b"theirs");
    let pid = fork(|| {
        let fd = open("f", O_RDONLY).fd();
        sys!(dup2(fd, 45)).v();
        up.open();
        g.pass();
        0
    });
    up.pass();
    let fd = pidfd_open(pid, 0).fd();
    let got = raw!(SYS_pidfd_getfd, fd, 45, 0);
    say!("{} {}", got.ok(), read(got.fd(), 10));
    say!(
        "closed {} flags {}",
        raw!(SYS_pidfd_getfd, fd, 46, 0),
        raw!(SYS_pidfd_getfd, fd, 45, 1)
    );
    g.open();
    say!("{}", wait(pid));
}

pub fn spawn_posix() {
    unsafe {
        let mut fa: posix_spawn_file_actions_t = zero();
        posix_spawn_file_actions_init(&mut fa);
        posix_spawn_file_actions_addopen(&mut fa, 5, c"out".as_ptr(), RDWR, 0o644);
        posix_spawn_file_actions_adddup2(&mut fa, 5, 1);
        let mut at: posix_spawnattr_t = zero();
        posix_spawnattr_init(&mut at);
        posix_spawnattr_setflags(
            &mut at,
            (POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK) as i16,
        );
        let mask = set(&[SIGUSR1]);
        posix_spawnattr_setsigmask(&mut at, &mask);
        let args = [
            c"sh".as_ptr() as *mut i8,
            c"-c".as_ptr() as *mut i8,
            c"echo spawned; exit 6".as_ptr() as *mut i8,
            null_mut(),
        ];
        let env = [null_mut()];
        let mut pid = 0;
        let e = posix_spawn(
            &mut pid,
            c"/bin/sh".as_ptr(),
            &fa,
            &at,
            args.as_ptr(),
            env.as_ptr(),
        );
        say!("{} {} {}", errno_name(e), wait(pid), get("out"));
        let e = posix_spawn(
            &mut pid,
            c"/missing".as_ptr(),
            null(),
            null(),
            args.as_ptr(),
            env.as_ptr(),
        );
        say!("{}", errno_name(e));
        say!("no child left {}", sys!(waitpid(-1, null_mut(), WNOHANG)));
    }
    let out = std::process::Command::new("/bin/sh")
        .args(["-c", "cat; echo err >&2; exit 3"])
        .stdin(std::fs::File::open("out").unwrap())
        .output()
        .unwrap();
    say!(
        "{:?} {} {}",
        out.status.code(),
        show(&out.stdout),
        show(&out.stderr)
    );
}

pub fn fork_in_thread() {
    let st = std::thread::spawn(|| {
        run(|| {
            let n = std::fs::read_dir("/proc/self/task").unwrap().count();
            let same = unsafe { getpid() } == gettid();
            n as i32 * 10 + same as i32
        })
    })
    .join()
    .unwrap();
    say!("one thread in the child {st}");
    let stop = AtomicI32::new(0);
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                let mut v = vec![0u8; 4096];
                while stop.load(SeqCst) == 0 {
                    v = vec![v[0] + 1 - 1; 4096];
                }
            });
        }
        let bad = (0..40).filter(|i| run(|| *i) != St(i << 8)).count();
        stop.store(1, SeqCst);
        say!("forks beside busy threads, bad {bad}");
    });
}

pub fn exit_with_threads() {
    let st = run(|| {
        std::thread::spawn(|| {
            loop {
                std::hint::spin_loop()
            }
        });
        std::thread::spawn(|| {
            let p = pipe();
            read(p[0], 1)
        });
        ms(5);
        14
    });
    say!("{st}");
    let st = run(|| {
        // The first thread ends alone; the process goes on.
        std::thread::spawn(|| {
            ms(30);
            unsafe { _exit(15) }
        });
        unsafe { syscall(SYS_exit, 1) };
        0
    });
    say!("{st}");
    let st = run(|| {
        std::thread::spawn(|| unsafe {
            kill(getpid(), SIGTERM);
        });
        loop {
            std::hint::spin_loop()
        }
    });
    say!("{st}");
}

pub fn set_tid_address_clear() {
    // The kernel clears the word and wakes it when a thread of a shared mm ends.
    static WORD: AtomicI32 = AtomicI32::new(1);
    extern "C" fn body(_: *mut c_void) -> i32 {
        unsafe { syscall(SYS_set_tid_address, WORD.as_ptr()) };
        ms(20);
        unsafe { syscall(SYS_exit, 0) };
        0
    }
    let pid = with_stack(CLONE_VM | SIGCHLD, body, 0).fd();
    let t = ts(5000);
    while WORD.load(SeqCst) != 0 {
        let r = raw!(SYS_futex, WORD.as_ptr(), FUTEX_WAIT, 1, &raw const t);
        if r.err() == ETIMEDOUT {
            say!("nobody woke us");
            break;
        }
    }
    say!("cleared {} {}", WORD.load(SeqCst), wait(pid));
}

pub fn unshare_files() {
    say!(
        "files {} fs {} both {}",
        sys!(unshare(CLONE_FILES)),
        sys!(unshare(CLONE_FS)),
        sys!(unshare(CLONE_FILES | CLONE_FS))
    );
    say!("unknown {}", sys!(unshare(0x1)));
    std::thread::spawn(|| say!("thread {}", sys!(unshare(CLONE_VM | CLONE_THREAD)).failed()))
        .join()
        .unwrap();
    std::thread::spawn(|| {
        sys!(unshare(CLONE_FS)).v();
        sys!(chdir(c"/".as_ptr())).v();
    })
    .join()
    .unwrap();
    say!(
        "cwd stays {}",
        std::env::current_dir().unwrap() != std::path::Path::new("/")
    );
}

pub fn nproc_limit() {
    let st = run(|| {
        if is_root() {
            sys!(setgroups(0, null())).v();
            sys!(setgid(54321)).v();
            sys!(setuid(54321)).v();
            let lim = rlimit {
                rlim_cur: 5,
                rlim_max: 5,
            };
            sys!(setrlimit(RLIMIT_NPROC, &lim)).v();
            let mut n = 0;
            let g = Gate::new();
            let e = loop {
                let r = sys!(fork());
                if r.0 == 0 {
                    g.pass();
                    unsafe { _exit(0) }
                }
                if r.failed() {
                    break r;
                }
                n += 1;
                if n > 20 {
                    break R(0);
                }
            };
            for _ in 0..n {
                g.open();
            }
            while sys!(waitpid(-1, null_mut(), 0)).0 > 0 {}
            if n != 4 || e.err() != EAGAIN {
                say!("{n} {e}");
            }
        } else {
            let lim = rlimit {
                rlim_cur: 0,
                rlim_max: 0,
            };
            sys!(setrlimit(RLIMIT_NPROC, &lim)).v();
            let e = sys!(fork());
            if e.err() != EAGAIN {
                say!("{e}");
            }
        }
        0
    });
    say!("{st}");
}
