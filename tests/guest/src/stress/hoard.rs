//! Makes the kernel keep objects until it has no memory left: `hoard KIND [SECONDS]`.
//!
//! One process after another makes objects of the kind until a call fails, and
//! keeps them. It ends when nothing more can be made or the time is up.

use crate::prelude::*;
use std::sync::atomic::AtomicBool;

/// Most processes that hoard at once.
const WORKERS: usize = 400;

/// A way to use up memory; returns when the next call fails.
type Fill = fn(u32);

const KINDS: &[(&str, Fill)] = &[
    ("fds", fds),
    ("tables", tables),
    ("pipes", pipes),
    ("sockets", sockets),
    ("passed", passed),
    ("inotify", inotify),
    ("files", files),
    ("xattrs", xattrs),
    ("names", names),
    ("mappings", mappings),
    ("threads", threads),
    ("processes", processes),
    ("epoll", epoll),
    ("sem", sem),
    ("shm", shm),
    ("msg", msg),
    ("timers", timers),
    ("timerfds", timerfds),
    ("signals", signals),
    ("locks", locks),
    ("args", args),
    ("ttys", ttys),
    ("memfds", memfds),
    ("futexes", futexes),
    ("polls", polls),
];

fn raise(what: u32) {
    let mut l: rlimit = zero();
    unsafe {
        getrlimit(what as _, &mut l);
        l.rlim_cur = l.rlim_max;
        setrlimit(what as _, &l);
    }
}

/// Calls `make` until it fails for good.
fn until_failure(mut make: impl FnMut() -> bool) {
    while make() {}
}

fn fds(_: u32) {
    until_failure(|| !sys!(eventfd(0, 0)).failed());
}

/// A large table of descriptors, copied with every fork.
fn tables(_: u32) {
    let max = unsafe { sysconf(_SC_OPEN_MAX) } as i32;
    sys!(dup2(2, max - 1));
    until_failure(|| {
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            forever();
        }
        pid > 0
    });
}

fn pipes(_: u32) {
    until_failure(|| {
        let mut p = [0; 2];
        if sys!(pipe2(p.as_mut_ptr(), O_NONBLOCK)).failed() {
            return false;
        }
        while !write(p[1], &[1; 4096]).failed() {}
        true
    });
}

fn sockets(_: u32) {
    until_failure(|| {
        let mut p = [0; 2];
        let r = sys!(socketpair(
            AF_UNIX,
            SOCK_STREAM | SOCK_NONBLOCK,
            0,
            p.as_mut_ptr()
        ));
        while !r.failed() && !write(p[0], &[1; 4096]).failed() {}
        !r.failed()
    });
}

/// Descriptors in flight: pairs that are sent over themselves and closed.
fn passed(_: u32) {
    until_failure(|| {
        let mut p = [0; 2];
        if sys!(socketpair(
            AF_UNIX,
            SOCK_DGRAM | SOCK_NONBLOCK,
            0,
            p.as_mut_ptr()
        ))
        .failed()
        {
            return false;
        }
        let mut sent = false;
        for _ in 0..8 {
            sent |= send_fds(p[0], &[p[0], p[1], p[0], p[1], p[0], p[1], p[0], p[1]]);
        }
        sent
    });
}

fn send_fds(to: i32, fds: &[i32]) -> bool {
    let mut byte = [0u8];
    let mut iov = iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    let mut control = [0u64; 32];
    let len = size_of_val(fds) as u32;
    let mut m: msghdr = zero();
    m.msg_iov = &mut iov;
    m.msg_iovlen = 1;
    m.msg_control = control.as_mut_ptr().cast();
    unsafe {
        m.msg_controllen = CMSG_SPACE(len) as _;
        let c = CMSG_FIRSTHDR(&m);
        (*c).cmsg_level = SOL_SOCKET;
        (*c).cmsg_type = SCM_RIGHTS;
        (*c).cmsg_len = CMSG_LEN(len) as _;
        CMSG_DATA(c).copy_from(fds.as_ptr().cast(), len as usize);
    }
    !sys!(sendmsg(to, &m, 0)).failed()
}

/// Watches, and events that nobody reads.
fn inotify(n: u32) {
    let dir = format!("/dev/shm/i{n}");
    mkdir(&dir);
    let watched = cs(&dir);
    until_failure(|| {
        let fd = sys!(inotify_init1(0));
        let w = sys!(inotify_add_watch(
            fd.v() as i32,
            watched.as_ptr(),
            IN_ALL_EVENTS
        ));
        for i in 0..200 {
            unlink(&format!("{dir}/{i}-{}", "x".repeat(200)));
            put_quietly(&format!("{dir}/{i}-{}", "x".repeat(200)), b"");
        }
        !fd.failed() && !w.failed()
    });
}

fn put_quietly(path: &str, data: &[u8]) -> bool {
    let fd = open_mode(path, O_CREAT | O_WRONLY, 0o600);
    if fd.failed() {
        return false;
    }
    let r = write(fd.fd(), data);
    close(fd.fd());
    !r.failed()
}

fn files(n: u32) {
    let dir = format!("/dev/shm/f{n}");
    mkdir(&dir);
    let mut i = 0;
    until_failure(|| {
        i += 1;
        put_quietly(&format!("{dir}/{i}"), b"")
    });
}

fn xattrs(n: u32) {
    let dir = format!("/dev/shm/x{n}");
    mkdir(&dir);
    let path = cs(&dir);
    let value = vec![1u8; 60_000];
    let mut i = 0;
    until_failure(|| {
        i += 1;
        let name = cs(&format!("user.{i}"));
        !sys!(setxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0
        ))
        .failed()
    });
}

/// Names that do not exist are remembered too.
fn names(n: u32) {
    let mut i = 0;
    until_failure(|| {
        i += 1;
        stat(&format!("/dev/shm/none-{n}-{i}-{}", "x".repeat(200)));
        i < 300_000
    });
}

fn mappings(_: u32) {
    let mut i = 0;
    until_failure(|| {
        i += 1;
        let prot = if i % 2 == 0 { PROT_READ } else { PROT_NONE };
        !sys!(mmap(
            null_mut(),
            4096,
            prot,
            MAP_PRIVATE | MAP_ANONYMOUS,
            -1,
            0
        ))
        .failed()
    });
}

fn threads(_: u32) {
    until_failure(|| {
        std::thread::Builder::new()
            .stack_size(16 << 10)
            .spawn(|| forever())
            .is_ok()
    });
}

fn processes(_: u32) {
    until_failure(|| {
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            forever();
        }
        pid > 0
    });
}

fn epoll(_: u32) {
    let target = sys!(eventfd(0, 0)).v() as i32;
    until_failure(|| {
        let e = sys!(epoll_create1(0));
        let mut ev = epoll_event {
            events: EPOLLIN as u32,
            u64: 0,
        };
        !e.failed() && !sys!(epoll_ctl(e.v() as i32, EPOLL_CTL_ADD, target, &mut ev)).failed()
    });
}

fn sem(_: u32) {
    until_failure(|| !sys!(semget(IPC_PRIVATE, 250, 0o600)).failed());
}

fn shm(_: u32) {
    until_failure(|| !sys!(shmget(IPC_PRIVATE, 4096, 0o600)).failed());
}

fn msg(_: u32) {
    let m = [1u64; 513];
    until_failure(|| {
        let q = sys!(msgget(IPC_PRIVATE, 0o600));
        if q.failed() {
            return false;
        }
        while !sys!(msgsnd(q.v() as i32, m.as_ptr().cast(), 4096, IPC_NOWAIT)).failed() {}
        while !sys!(msgsnd(q.v() as i32, m.as_ptr().cast(), 0, IPC_NOWAIT)).failed() {}
        true
    });
}

fn timers(_: u32) {
    raise(RLIMIT_SIGPENDING as u32);
    until_failure(|| {
        let mut id = 0i32;
        !raw!(SYS_timer_create, CLOCK_MONOTONIC, 0, &mut id as *mut i32).failed()
    });
}

fn timerfds(_: u32) {
    until_failure(|| {
        let fd = sys!(timerfd_create(CLOCK_MONOTONIC, 0));
        if fd.failed() {
            return false;
        }
        let spec = itimerspec {
            it_interval: ts(1000),
            it_value: ts(1000),
        };
        !sys!(timerfd_settime(fd.v() as i32, 0, &spec, null_mut())).failed()
    });
}

fn signals(_: u32) {
    raise(RLIMIT_SIGPENDING as u32);
    block(&[SIGRTMIN()]);
    until_failure(|| {
        let v = sigval {
            sival_ptr: null_mut(),
        };
        !sys!(sigqueue(getpid(), SIGRTMIN(), v)).failed()
    });
}

fn locks(n: u32) {
    let path = format!("/dev/shm/l{n}");
    let fd = open_mode(&path, O_CREAT | O_RDWR, 0o600);
    let mut i = 0;
    until_failure(|| {
        let mut l: flock = zero();
        l.l_type = if i % 2 == 0 { F_WRLCK } else { F_RDLCK } as _;
        l.l_start = i;
        l.l_len = 1;
        i += 1;
        // Each new range is compared with those there are.
        !sys!(fcntl(fd.v() as i32, F_SETLK, &l)).failed() && i < 100_000
    });
}

/// Programs with as long arguments as are allowed.
fn args(_: u32) {
    let me = me();
    let long = "x".repeat(100_000);
    let mut words = vec!["guest", "--tool", "hoard", "park"];
    words.resize(24, &long);
    until_failure(|| {
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            exec(&me, &words, &[]);
            unsafe { _exit(1) };
        }
        pid > 0
    });
}

fn ttys(_: u32) {
    until_failure(|| {
        let m = open("/dev/ptmx", O_RDWR | O_NONBLOCK | O_NOCTTY);
        if m.failed() {
            return false;
        }
        while !write(m.fd(), &[b'x'; 512]).failed() {}
        true
    });
}

fn memfds(_: u32) {
    until_failure(|| {
        let fd = sys!(memfd_create(c"m".as_ptr(), 0));
        !fd.failed() && !write(fd.fd(), b"x").failed()
    });
}

/// Threads that wait for many words each.
fn futexes(_: u32) {
    until_failure(|| {
        std::thread::Builder::new()
            .stack_size(32 << 10)
            .spawn(|| {
                let words = [0u32; 128];
                let list: Vec<[u64; 3]> = words
                    .iter()
                    .map(|w| [0, (w as *const u32).addr() as u64, 2])
                    .collect();
                raw!(SYS_futex_waitv, list.as_ptr(), list.len(), 0, 0, 0);
                forever()
            })
            .is_ok()
    });
}

/// Threads in poll(2) with as many descriptors as there may be.
fn polls(_: u32) {
    let max = unsafe { sysconf(_SC_OPEN_MAX) } as usize;
    let fd = sys!(eventfd(0, 0)).v() as i32;
    let list = vec![
        pollfd {
            fd,
            events: POLLIN,
            revents: 0,
        };
        max.min(50_000)
    ];
    let list: &'static [pollfd] = list.leak();
    until_failure(|| {
        std::thread::Builder::new()
            .stack_size(16 << 10)
            .spawn(|| {
                sys!(poll(list.as_ptr().cast_mut(), list.len() as u64, -1));
                forever()
            })
            .is_ok()
    });
}

static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn stop(_: i32, _: *mut siginfo_t, _: *mut c_void) {
    STOP.store(true, SeqCst);
}

pub fn main(args: &[String]) -> i32 {
    let kind = args.first().map_or("fds", |s| s.as_str());
    if kind == "park" {
        forever();
    }
    let Some((_, fill)) = KINDS.iter().find(|k| k.0 == kind) else {
        say!("no such kind");
        return 2;
    };
    let seconds = args.get(1).and_then(|s| s.parse().ok()).unwrap_or(20);
    unsafe { setpgid(0, 0) };
    // The one that tells the end is not the one to be killed.
    put_quietly("/proc/self/oom_score_adj", b"-1000");
    raise(RLIMIT_NOFILE as u32);
    raise(RLIMIT_NPROC as u32);
    handle(SIGALRM, stop, 0);
    unsafe { alarm(seconds) };
    let (mut made, mut ended) = (0, 0);
    while !STOP.load(SeqCst) && (made as usize) < WORKERS {
        let mut p = [0; 2];
        if sys!(pipe(p.as_mut_ptr())).failed() {
            break;
        }
        let pid = unsafe { libc::fork() };
        if pid < 0 {
            break;
        }
        if pid == 0 {
            close(p[0]);
            put_quietly("/proc/self/oom_score_adj", b"0");
            fill(made);
            write(p[1], b"x");
            forever();
        }
        close(p[1]);
        made += 1;
        // It has come to an end, or the OOM killer to it.
        let mut b = 0u8;
        let r = sys!(read(p[0], (&raw mut b).cast(), 1));
        close(p[0]);
        if r.0 == 0 {
            ended += 1;
        }
    }
    set_action(SIGTERM, SIG_IGN);
    unsafe { kill(0, SIGTERM) };
    for n in 0..400u32 {
        for d in ["i", "f", "x", "l"] {
            let _ = std::fs::remove_dir_all(format!("/dev/shm/{d}{n}"));
            let _ = std::fs::remove_file(format!("/dev/shm/{d}{n}"));
        }
    }
    say!("hoarded {kind}");
    eprintln!("{made} processes, {ended} killed");
    0
}
