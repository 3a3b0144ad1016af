//! Bad descriptors, bad pointers, bad arguments, for many calls at once.

use crate::prelude::*;

pub fn ebadf_table() {
    let mut b = [0u8; 512];
    let p = b.as_mut_ptr();
    let path = open("/", O_PATH).fd();
    let row = |n: &str, f: &dyn Fn(i32) -> R| say!("{n}: {} {} {}", f(-1), f(9999), f(path).ok());
    row("read", &|fd| raw!(SYS_read, fd, p, 1));
    row("write", &|fd| raw!(SYS_write, fd, p, 1));
    row("close", &|fd| {
        if fd < 0 || fd > 1000 { close(fd) } else { R(0) }
    });
    row("fstat", &|fd| raw!(SYS_fstat, fd, p));
    row("fstatfs", &|fd| raw!(SYS_fstatfs, fd, p));
    row("lseek", &|fd| raw!(SYS_lseek, fd, 0, 0));
    row("ioctl", &|fd| raw!(SYS_ioctl, fd, TCGETS, p));
    row("getdents64", &|fd| raw!(SYS_getdents64, fd, p, 512));
    row("fsync", &|fd| raw!(SYS_fsync, fd));
    row("flock", &|fd| raw!(SYS_flock, fd, LOCK_SH));
    row("fchmod", &|fd| raw!(SYS_fchmod, fd, 0o755));
    row("fchown", &|fd| raw!(SYS_fchown, fd, -1i64, -1i64));
    row("fgetxattr", &|fd| {
        raw!(SYS_fgetxattr, fd, c"user.a".as_ptr(), p, 10)
    });
    row("epoll_wait", &|fd| raw!(SYS_epoll_wait, fd, p, 1, 0));
    row("accept", &|fd| raw!(SYS_accept, fd, 0, 0));
    row("send", &|fd| raw!(SYS_sendto, fd, p, 1, 0, 0, 0));
    row("getsockname", &|fd| raw!(SYS_getsockname, fd, p, p));
    row("sendfile", &|fd| raw!(SYS_sendfile, fd, fd, 0, 1));
    row("splice", &|fd| raw!(SYS_splice, fd, 0, fd, 0, 1, 0));
    row("timerfd_gettime", &|fd| raw!(SYS_timerfd_gettime, fd, p));
    row("inotify_rm", &|fd| raw!(SYS_inotify_rm_watch, fd, 1));
    row("fallocate", &|fd| raw!(SYS_fallocate, fd, 0, 0, 1));
    row("copy_file_range", &|fd| {
        raw!(SYS_copy_file_range, fd, 0, fd, 0, 1, 0)
    });
    row("preadv", &|fd| raw!(SYS_preadv, fd, p, 0, 0, 0));
    row("vmsplice", &|fd| raw!(SYS_vmsplice, fd, p, 0, 0));
    row("pidfd_send_signal", &|fd| {
        raw!(SYS_pidfd_send_signal, fd, 0, 0, 0)
    });
    row("mmap", &|fd| {
        raw!(SYS_mmap, 0, 4096, PROT_READ, MAP_PRIVATE, fd, 0)
    });
    row("futimens", &|fd| raw!(SYS_utimensat, fd, 0, 0, 0));
    row("syncfs", &|fd| raw!(SYS_syncfs, fd));
    row("readahead", &|fd| raw!(SYS_readahead, fd, 0, 1));
    row("fadvise", &|fd| raw!(SYS_fadvise64, fd, 0, 1, 0));
}

pub fn efault_table() {
    let bad: [usize; 4] = [
        8,
        0x5000_0000_0000 - 4096,
        0xffff_8000_0000_0000,
        usize::MAX - 7,
    ];
    put("f", b"some content here");
    let fd = open("f", O_RDWR).fd();
    let s = pair(SOCK_STREAM);
    let ep = sys!(epoll_create1(0)).fd();
    let row = |n: &str, f: &dyn Fn(usize) -> R| {
        let v: Vec<String> = bad.iter().map(|&p| f(p).to_string()).collect();
        say!("{n}: {}", v.join(" "));
    };
    row("read", &|p| {
        sys!(lseek(fd, 0, SEEK_SET));
        raw!(SYS_read, fd, p, 5)
    });
    row("write", &|p| raw!(SYS_write, fd, p, 5));
    row("read 0", &|p| raw!(SYS_read, fd, p, 0));
    row("open", &|p| raw!(SYS_openat, AT_FDCWD, p, 0, 0));
    row("stat", &|p| raw!(SYS_newfstatat, AT_FDCWD, p, p, 0));
    row("fstat", &|p| raw!(SYS_fstat, fd, p));
    row("statx", &|p| {
        raw!(SYS_statx, AT_FDCWD, c"f".as_ptr(), 0, 0xfff, p)
    });
    row("getcwd", &|p| raw!(SYS_getcwd, p, 500));
    row("readlink", &|p| raw!(SYS_readlinkat, AT_FDCWD, p, p, 10));
    row("rename", &|p| {
        raw!(SYS_renameat2, AT_FDCWD, p, AT_FDCWD, p, 0)
    });
    row("pipe", &|p| raw!(SYS_pipe2, p, 0));
    row("poll", &|p| raw!(SYS_poll, p, 1, 0));
    row("select", &|p| raw!(SYS_select, 5, p, 0, 0, 0));
    row("epoll_ctl", &|p| {
        raw!(SYS_epoll_ctl, ep, EPOLL_CTL_ADD, s[0], p)
    });
    row("sendto", &|p| {
        raw!(SYS_sendto, s[0], p, 5, MSG_NOSIGNAL, 0, 0)
    });
    row("sendmsg", &|p| raw!(SYS_sendmsg, s[0], p, 0));
    row("bind", &|p| raw!(SYS_bind, s[0], p, 10));
    row("nanosleep", &|p| raw!(SYS_nanosleep, p, 0));
    row("clock_gettime", &|p| raw!(SYS_clock_gettime, 1, p));
    row("sigaction", &|p| raw!(SYS_rt_sigaction, SIGUSR1, p, 0, 8));
    row("sigaction old", &|p| {
        raw!(SYS_rt_sigaction, SIGUSR1, 0, p, 8)
    });
    row("sigprocmask", &|p| raw!(SYS_rt_sigprocmask, 0, p, 0, 8));
    row("sigaltstack", &|p| raw!(SYS_sigaltstack, p, 0));
    row("uname", &|p| raw!(SYS_uname, p));
    row("sysinfo", &|p| raw!(SYS_sysinfo, p));
    row("getrusage", &|p| raw!(SYS_getrusage, 0, p));
    row("setrlimit", &|p| raw!(SYS_setrlimit, RLIMIT_CORE, p));
    row("execve", &|p| raw!(SYS_execve, p, 0, 0));
    row("futex", &|p| raw!(SYS_futex, p & !3, FUTEX_WAIT, 0, 0));
    row("getrandom", &|p| raw!(SYS_getrandom, p, 8, 0));
    // The number alone, whatever it is here.
    row("getgroups", &|p| R(raw!(SYS_getgroups, 0, p).0.min(0)));
    row("sched_getaffinity", &|p| {
        raw!(SYS_sched_getaffinity, 0, 128, p)
    });
    row("times", &|p| {
        raw!(SYS_times, p)
            .ok()
            .replace("ok", "0")
            .parse()
            .map(R)
            .unwrap_or(R(-(EFAULT as i64)))
    });
    row("set_robust_list size", &|p| raw!(SYS_set_robust_list, p, 3));
    row("prctl name", &|p| raw!(SYS_prctl, PR_SET_NAME, p));
    row("mincore", &|p| raw!(SYS_mincore, 0x1000, 4096, p));
}

pub fn einval_table() {
    let mut b = [0u8; 256];
    let p = b.as_mut_ptr();
    say!(
        "mmap length 0: {}",
        raw!(
            SYS_mmap,
            0,
            0,
            PROT_READ,
            MAP_PRIVATE | MAP_ANONYMOUS,
            -1i64,
            0
        )
    );
    say!("munmap unaligned: {}", raw!(SYS_munmap, 0x1001, 4096));
    say!(
        "mprotect unaligned: {}",
        raw!(SYS_mprotect, 0x1001, 4096, 0)
    );
    say!("madvise advice: {}", raw!(SYS_madvise, 0x10000, 4096, 999));
    say!(
        "sigaction size: {}",
        raw!(SYS_rt_sigaction, SIGUSR1, 0, 0, 4)
    );
    say!("sigaction 0: {}", raw!(SYS_rt_sigaction, 0, 0, 0, 8));
    say!("sigaction 65: {}", raw!(SYS_rt_sigaction, 65, 0, 0, 8));
    say!(
        "sigaction kill: {}",
        raw!(SYS_rt_sigaction, SIGKILL, p, 0, 8)
    );
    say!("sigprocmask how: {}", raw!(SYS_rt_sigprocmask, 9, p, 0, 8));
    say!("kill 65: {}", raw!(SYS_kill, 0, 65));
    say!("tgkill 0: {}", raw!(SYS_tgkill, 0, 0, 0));
    say!("nanosleep nsec: {}", {
        let t = timespec {
            tv_sec: 0,
            tv_nsec: 1_000_000_000,
        };
        raw!(SYS_nanosleep, &raw const t, 0)
    });
    say!("nanosleep sec: {}", {
        let t = timespec {
            tv_sec: -1,
            tv_nsec: 0,
        };
        raw!(SYS_nanosleep, &raw const t, 0)
    });
    say!("clock 99: {}", raw!(SYS_clock_gettime, 99, p));
    say!("epoll_create 0: {}", raw!(SYS_epoll_create, 0));
    say!("epoll_create1 flags: {}", raw!(SYS_epoll_create1, 1));
    say!("eventfd2 flags: {}", raw!(SYS_eventfd2, 0, 2));
    say!("timerfd clock: {}", raw!(SYS_timerfd_create, 99, 0));
    say!("signalfd size: {}", raw!(SYS_signalfd4, -1i64, p, 4, 0));
    say!("inotify flags: {}", raw!(SYS_inotify_init1, 3));
    say!("socket family: {}", raw!(SYS_socket, 99, SOCK_STREAM, 0));
    say!("socket type: {}", raw!(SYS_socket, AF_UNIX, 77, 0));
    say!(
        "socketpair proto: {}",
        raw!(SYS_socketpair, AF_UNIX, SOCK_STREAM, 99, p)
    );
    say!("waitid type: {}", raw!(SYS_waitid, 9, 0, p, WEXITED, 0));
    say!("waitid no option: {}", raw!(SYS_waitid, P_ALL, 0, p, 0, 0));
    say!("wait4 option: {}", raw!(SYS_wait4, -1i64, 0, 0x800, 0));
    say!("getrlimit 99: {}", raw!(SYS_getrlimit, 99, p));
    say!("getpriority which: {}", raw!(SYS_getpriority, 9, 0));
    say!("setpriority which: {}", raw!(SYS_setpriority, 9, 0, 0));
    say!("prctl 9999: {}", raw!(SYS_prctl, 9999, 0, 0, 0, 0));
    say!("getitimer 9: {}", raw!(SYS_getitimer, 9, p));
    say!("sched policy: {}", raw!(SYS_sched_get_priority_max, 77));
    say!(
        "sched_getaffinity len: {}",
        raw!(SYS_sched_getaffinity, 0, 3, p)
    );
    say!("getrandom flags: {}", raw!(SYS_getrandom, p, 8, 0xff));
    say!("membarrier cmd: {}", raw!(SYS_membarrier, 0x7000, 0, 0));
    say!("futex cmd: {}", raw!(SYS_futex, p, 100, 0, 0, 0, 0));
    say!("flock op: {}", raw!(SYS_flock, 0, 77));
    say!("lseek whence: {}", raw!(SYS_lseek, 0, 0, 55));
    say!("getcwd 0: {}", raw!(SYS_getcwd, p, 0));
    say!(
        "umount flags: {}",
        raw!(SYS_umount2, c"/proc".as_ptr(), 0x1000).failed()
    );
    say!(
        "renameat2 flags: {}",
        raw!(
            SYS_renameat2,
            AT_FDCWD,
            c"a".as_ptr(),
            AT_FDCWD,
            c"b".as_ptr(),
            0x80
        )
    );
    say!(
        "unlinkat flags: {}",
        raw!(SYS_unlinkat, AT_FDCWD, c"a".as_ptr(), 0x1)
    );
    say!(
        "fstatat flags: {}",
        raw!(SYS_newfstatat, AT_FDCWD, c".".as_ptr(), p, 0x1)
    );
    say!(
        "linkat flags: {}",
        raw!(
            SYS_linkat,
            AT_FDCWD,
            c"a".as_ptr(),
            AT_FDCWD,
            c"b".as_ptr(),
            0x1
        )
    );
    say!(
        "statx flags: {}",
        raw!(SYS_statx, AT_FDCWD, c".".as_ptr(), 0x6000, 0xfff, p)
    );
    say!(
        "statx mask: {}",
        raw!(SYS_statx, AT_FDCWD, c".".as_ptr(), 0, 0x8000_0000usize, p)
    );
    say!("no such call: {}", raw!(5000));
    say!("call -1: {}", raw!(-1i64));
}

pub fn write_readonly() {
    put("f", b"x");
    let r = open("f", O_RDONLY).fd();
    say!("write: {}", write(r, b"y"));
    say!("fallocate: {}", sys!(fallocate(r, 0, 0, 1)));
    say!("ftruncate: {}", sys!(ftruncate(r, 0)));
    say!("fchmod: {}", sys!(fchmod(r, 0o600)));
    say!("{}", describe("f"));
    say!("proc version: {}", open("/proc/version", O_WRONLY).failed());
    say!("create in proc: {}", open("/proc/nothing", RDWR));
    say!("mkdir in proc: {}", mkdir("/proc/nothing"));
    say!("unlink in proc: {}", unlink("/proc/version"));
}
