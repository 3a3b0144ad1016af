//! dup, fcntl, close-on-exec, limits, /proc/self/fd.

use crate::prelude::*;

pub fn dup_shares() {
    put("f", b"0123456789");
    let a = open("f", O_RDWR).fd();
    let b = sys!(dup(a)).fd();
    say!("next number: {}", b - a);
    say!("{} {} {}", read(a, 3), read(b, 3), read(a, 3));
    sys!(fcntl(a, F_SETFL, O_APPEND));
    say!(
        "flags shared: {}",
        sys!(fcntl(b, F_GETFL)).0 & O_APPEND as i64 != 0
    );
    sys!(fcntl(a, F_SETFD, FD_CLOEXEC));
    say!("cloexec not shared: {}", sys!(fcntl(b, F_GETFD)));
    close(a);
    say!("after close: {}", write(b, b"x"));
    let st = run(|| {
        sys!(lseek(b, 2, SEEK_SET));
        0
    });
    say!(
        "{st}; position set by the child: {}",
        sys!(lseek(b, 0, SEEK_CUR))
    );
}

pub fn dup_variants() {
    let fd = open("f", RDWR).fd();
    say!("dup2 same: {}", sys!(dup2(fd, fd)).0 == fd as i64);
    say!("dup2 same closed: {}", sys!(dup2(50, 50)));
    say!("dup2 to 40: {}", sys!(dup2(fd, 40)));
    say!("dup2 bad: {}", sys!(dup2(-1, 41)));
    say!("dup2 to negative: {}", sys!(dup2(fd, -1)));
    say!("dup2 to huge: {}", sys!(dup2(fd, 1 << 30)));
    say!("dup3 same: {}", sys!(dup3(fd, fd, 0)));
    say!(
        "dup3 cloexec: {} {}",
        sys!(dup3(fd, 42, O_CLOEXEC)),
        sys!(fcntl(42, F_GETFD))
    );
    say!("dup3 bad flag: {}", sys!(dup3(fd, 43, O_APPEND)));
    let p = pipe();
    say!("dup2 over open: {}", sys!(dup2(fd, p[1])).ok());
    say!("pipe sees eof: {}", read(p[0], 5));
    say!("dup bad: {}", sys!(dup(12345)));
}

pub fn fcntl_dup() {
    let fd = open("f", RDWR).fd();
    say!("from 30: {}", sys!(fcntl(fd, F_DUPFD, 30)));
    say!("again: {}", sys!(fcntl(fd, F_DUPFD, 30)));
    say!(
        "cloexec: {} {}",
        sys!(fcntl(fd, F_DUPFD_CLOEXEC, 30)),
        sys!(fcntl(32, F_GETFD))
    );
    say!("negative: {}", sys!(fcntl(fd, F_DUPFD, -1)));
    say!("huge: {}", sys!(fcntl(fd, F_DUPFD, 1 << 30)));
    say!("bad: {}", sys!(fcntl(999, F_DUPFD, 0)));
    close(30);
    say!("lowest free: {}", sys!(fcntl(fd, F_DUPFD, 30)));
}

pub fn fcntl_flags() {
    let fd = open("f", RDWR).fd();
    let shown = |fd| sys!(fcntl(fd, F_GETFL)).0 & (O_ACCMODE | O_APPEND | O_NONBLOCK) as i64;
    say!("initial {:#o}", shown(fd));
    say!(
        "set: {}",
        sys!(fcntl(fd, F_SETFL, O_NONBLOCK | O_APPEND | O_WRONLY))
    );
    say!("access mode stays {:#o}", shown(fd));
    say!("getfd {}", sys!(fcntl(fd, F_GETFD)));
    sys!(fcntl(fd, F_SETFD, FD_CLOEXEC));
    say!("getfd {}", sys!(fcntl(fd, F_GETFD)));
    say!("unknown: {}", sys!(fcntl(fd, 9999)));
    say!("bad fd: {}", sys!(fcntl(-1, F_GETFL)));
    let p = pipe2(O_NONBLOCK | O_CLOEXEC);
    say!("pipe2 {:#o} {}", shown(p[0]), sys!(fcntl(p[1], F_GETFD)));
    say!("pipe2 bad flag: {}", {
        let mut q = [0; 2];
        sys!(pipe2(q.as_mut_ptr(), O_APPEND))
    });
    say!("ioctl FIONBIO: {}", sys!(ioctl(p[0], FIONBIO as _, &0i32)));
    say!("now {:#o}", shown(p[0]));
    say!(
        "ioctl FIOCLEX: {} {}",
        sys!(ioctl(fd, FIOCLEX as _)),
        sys!(fcntl(fd, F_GETFD))
    );
    say!(
        "ioctl FIONCLEX: {} {}",
        sys!(ioctl(fd, FIONCLEX as _)),
        sys!(fcntl(fd, F_GETFD))
    );
    say!(
        "owner: {} {}",
        sys!(fcntl(p[0], F_SETOWN, getpid_())),
        sys!(fcntl(p[0], F_GETOWN)).0 == getpid_() as i64
    );
    say!(
        "sig: {} {}",
        sys!(fcntl(p[0], F_SETSIG, SIGUSR1)),
        sys!(fcntl(p[0], F_GETSIG))
    );
    say!("pipe size: {}", sys!(fcntl(p[0], F_GETPIPE_SZ)));
}

fn getpid_() -> i32 {
    unsafe { getpid() }
}

pub fn close_range_forms() {
    let fd = open("f", RDWR).fd();
    for n in [20, 21, 22, 23, 24] {
        sys!(dup2(fd, n)).v();
    }
    let alive = || {
        (20..25)
            .map(|n| {
                if sys!(fcntl(n, F_GETFD)).failed() {
                    '-'
                } else {
                    '+'
                }
            })
            .collect::<String>()
    };
    say!("{}", alive());
    say!("21..22: {} {}", raw!(SYS_close_range, 21, 22, 0), alive());
    say!("backwards: {}", raw!(SYS_close_range, 24, 20, 0));
    say!("flags: {}", raw!(SYS_close_range, 20, 24, 0x80));
    say!(
        "cloexec: {} {}",
        raw!(SYS_close_range, 20, u32::MAX, CLOSE_RANGE_CLOEXEC),
        alive()
    );
    say!("flag set: {}", sys!(fcntl(23, F_GETFD)));
    say!(
        "all: {} {}",
        raw!(SYS_close_range, 20, u32::MAX, 0),
        alive()
    );
    say!("double close: {} {}", close(fd), close(fd));
}

pub fn cloexec() {
    put("f", b"inherited");
    let keep = open("f", O_RDONLY).fd();
    let gone = open("f", O_RDONLY | O_CLOEXEC).fd();
    sys!(dup2(keep, 8)).v();
    sys!(dup3(gone, 9, O_CLOEXEC)).v();
    let st = run(|| {
        exec(
            c"/bin/sh",
            &[
                "sh",
                "-c",
                "cat <&8; echo; (cat <&9) 2>/dev/null || echo closed",
            ],
            &["PATH=/bin:/usr/bin"],
        )
        .err()
    });
    say!("{st}");
}

pub fn fd_links() {
    put("f", b"x");
    let fd = open("f", O_RDONLY).fd();
    let link = |fd: i32| {
        let p = std::fs::read_link(format!("/proc/self/fd/{fd}"))
            .map(|p| p.to_string_lossy().into_owned());
        p.unwrap_or_else(|e| errno_name(e.raw_os_error().unwrap()).into())
    };
    say!("file: {}", link(fd).ends_with("/f"));
    rename("f", "g");
    say!("renamed: {}", link(fd).ends_with("/g"));
    unlink("g");
    say!("deleted: {}", link(fd).ends_with("/g (deleted)"));
    let p = pipe();
    say!(
        "pipe: {} same {}",
        link(p[0]).starts_with("pipe:["),
        link(p[0]) == link(p[1])
    );
    say!(
        "socket: {}",
        link(pair(SOCK_STREAM)[0]).starts_with("socket:[")
    );
    say!("eventfd: {}", link(sys!(eventfd(0, 0)).fd()));
    say!("epoll: {}", link(sys!(epoll_create1(0)).fd()));
    say!(
        "timerfd: {}",
        link(sys!(timerfd_create(CLOCK_MONOTONIC, 0)).fd())
    );
    say!("null: {}", link(open("/dev/null", O_RDWR).fd()));
    say!("none: {}", link(500));
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
    say!(
        "fdinfo: {:?}",
        info.lines()
            .filter(|l| l.starts_with("pos") || l.starts_with("flags"))
            .collect::<Vec<_>>()
    );
}

pub fn fd_limit() {
    let lim = rlimit {
        rlim_cur: 32,
        rlim_max: 64,
    };
    sys!(setrlimit(RLIMIT_NOFILE, &lim)).v();
    let mut last = 0;
    let err = loop {
        let r = open("/dev/null", O_RDONLY);
        if r.failed() {
            break r;
        }
        last = r.fd();
    };
    say!("last {last} then {err}");
    let mut p = [0; 2];
    say!("pipe: {}", sys!(pipe(p.as_mut_ptr())));
    say!(
        "socketpair: {}",
        sys!(socketpair(AF_UNIX, SOCK_STREAM, 0, p.as_mut_ptr()))
    );
    say!("dup: {}", sys!(dup(0)));
    say!("dup2 to 31: {}", sys!(dup2(0, 31)));
    say!("dup2 to 32: {}", sys!(dup2(0, 32)));
    say!("F_DUPFD 32: {}", sys!(fcntl(0, F_DUPFD, 32)));
    say!("epoll: {}", sys!(epoll_create1(0)));
    say!("eventfd: {}", sys!(eventfd(0, 0)));
    close(last);
    say!("pipe with one free: {}", sys!(pipe(p.as_mut_ptr())));
    say!("one: {}", open("/dev/null", O_RDONLY));
}

pub fn unlinked_open() {
    put("f", b"still here");
    let fd = open("f", O_RDWR).fd();
    say!("unlink: {}", unlink("f"));
    say!("links {}", fstat(fd).st_nlink);
    say!("read: {}", read(fd, 20));
    say!("write: {}", write(fd, b"!"));
    say!("open: {}", open("f", O_RDONLY));
    put("f", b"new");
    say!(
        "other inode: {}",
        fstat(fd).st_ino != stat("f").unwrap().st_ino
    );
    let again = open(&format!("/proc/self/fd/{fd}"), O_RDONLY).fd();
    say!("through /proc: {}", read(again, 20));
    let st = run(|| {
        say!("child: {}", sys!(lseek(fd, 0, SEEK_SET)));
        0
    });
    say!("{st}");
}

pub fn file_size_limit() {
    let lim = rlimit {
        rlim_cur: 1000,
        rlim_max: RLIM_INFINITY,
    };
    let st = run(|| {
        sys!(setrlimit(RLIMIT_FSIZE, &lim)).v();
        let fd = open("f", RDWR).fd();
        say!("crossing: {}", write(fd, &[1; 1500]));
        write(fd, b"x");
        0
    });
    say!("{st}");
    let st = run(|| {
        sys!(setrlimit(RLIMIT_FSIZE, &lim)).v();
        set_action(SIGXFSZ, SIG_IGN);
        let fd = open("g", RDWR).fd();
        say!("crossing: {}", write(fd, &[1; 1500]));
        say!("beyond: {}", write(fd, b"x"));
        say!("ftruncate: {}", sys!(ftruncate(fd, 2000)));
        say!("ftruncate less: {}", sys!(ftruncate(fd, 10)));
        0
    });
    say!("{st}");
}
