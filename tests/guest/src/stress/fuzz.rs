//! `fuzz SEED SECONDS`: random system calls with half-valid arguments.
//!
//! The first process only starts workers, kills them after a while and counts.
//! Started as root it lets the workers be user 65534, so that none of their calls
//! can reach it. It ends with 0, or with 3 if a killed worker does not go away.

use crate::prelude::*;
use std::ffi::CStr;

const NOBODY: u32 = 65534;
const WORKERS: usize = 3;
const ARENA: usize = 64 << 10;
const VICTIM: usize = 1 << 20;
const HIGH: u64 = 0x5000_0000_0000;

/// A random number generator: splitmix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// Signatures: one letter an argument, see [`Fuzzer::arg`].
const CALLS: &[(c_long, &str)] = &[
    (SYS_read, "fbn"),
    (SYS_write, "fbn"),
    (SYS_open, "pxm"),
    (SYS_openat, "fpxm"),
    (SYS_openat, "dpom"),
    (SYS_openat, "dpom"),
    (SYS_openat2, "dpsi"),
    (SYS_close, "f"),
    (SYS_close_range, "ffi"),
    (SYS_stat, "pb"),
    (SYS_fstat, "fb"),
    (SYS_lstat, "pb"),
    (SYS_newfstatat, "dpbx"),
    (SYS_statx, "dpxxb"),
    (SYS_poll, "sit"),
    (SYS_ppoll, "siTbn"),
    (SYS_select, "issst"),
    (SYS_pselect6, "isssTs"),
    (SYS_lseek, "fli"),
    (SYS_mmap, "anrMfl"),
    (SYS_mmap, "anrMfl"),
    (SYS_mprotect, "anr"),
    (SYS_munmap, "an"),
    (SYS_mremap, "annia"),
    (SYS_msync, "ani"),
    (SYS_mincore, "anb"),
    (SYS_madvise, "ani"),
    (SYS_mlock, "an"),
    (SYS_munlock, "an"),
    (SYS_mlockall, "i"),
    (SYS_brk, "l"),
    (SYS_rt_sigaction, "Sssn"),
    (SYS_rt_sigprocmask, "isbn"),
    (SYS_rt_sigpending, "bn"),
    (SYS_rt_sigtimedwait, "sbTn"),
    (SYS_rt_sigqueueinfo, "PSs"),
    (SYS_rt_tgsigqueueinfo, "PPSs"),
    (SYS_sigaltstack, "ss"),
    (SYS_ioctl, "fIs"),
    (SYS_ioctl, "fxs"),
    (SYS_pread64, "fbnl"),
    (SYS_pwrite64, "fbnl"),
    (SYS_readv, "fsi"),
    (SYS_writev, "fsi"),
    (SYS_preadv, "fsill"),
    (SYS_pwritev, "fsill"),
    (SYS_preadv2, "fsilli"),
    (SYS_pwritev2, "fsilli"),
    (SYS_access, "pi"),
    (SYS_faccessat, "dpi"),
    (SYS_pipe, "b"),
    (SYS_pipe2, "bo"),
    (SYS_sched_yield, ""),
    (SYS_dup, "f"),
    (SYS_dup2, "ff"),
    (SYS_dup3, "ffo"),
    (SYS_nanosleep, "Tb"),
    (SYS_clock_nanosleep, "iiTb"),
    (SYS_getitimer, "ib"),
    (SYS_setitimer, "isb"),
    (SYS_alarm, "i"),
    (SYS_sendfile, "ffsn"),
    (SYS_splice, "fsfsni"),
    (SYS_tee, "ffni"),
    (SYS_vmsplice, "fsii"),
    (SYS_copy_file_range, "fsfsni"),
    (SYS_socket, "iii"),
    (SYS_socket, "1ii"),
    (SYS_socketpair, "1iib"),
    (SYS_connect, "fui"),
    (SYS_accept, "fbs"),
    (SYS_accept4, "fbso"),
    (SYS_sendto, "fbnxui"),
    (SYS_recvfrom, "fbnxbs"),
    (SYS_sendmsg, "fsx"),
    (SYS_recvmsg, "fsx"),
    (SYS_sendmmsg, "fsii"),
    (SYS_recvmmsg, "fsiiT"),
    (SYS_shutdown, "fi"),
    (SYS_bind, "fui"),
    (SYS_listen, "fi"),
    (SYS_getsockname, "fbs"),
    (SYS_getpeername, "fbs"),
    (SYS_setsockopt, "f1isi"),
    (SYS_getsockopt, "f1ibs"),
    (SYS_clone, "xaass"),
    (SYS_fork, ""),
    (SYS_clone3, "si"),
    (SYS_wait4, "Pbib"),
    (SYS_waitid, "iPbib"),
    (SYS_kill, "PS"),
    (SYS_tkill, "PS"),
    (SYS_tgkill, "PPS"),
    (SYS_uname, "b"),
    (SYS_fcntl, "fis"),
    (SYS_fcntl, "fFi"),
    (SYS_fcntl, "fFf"),
    (SYS_flock, "fi"),
    (SYS_fsync, "f"),
    (SYS_truncate, "pl"),
    (SYS_ftruncate, "fl"),
    (SYS_fallocate, "fill"),
    (SYS_getdents64, "fbn"),
    (SYS_getcwd, "bn"),
    (SYS_chdir, "p"),
    (SYS_fchdir, "f"),
    (SYS_rename, "pp"),
    (SYS_renameat2, "dpdpi"),
    (SYS_mkdir, "pm"),
    (SYS_mkdirat, "dpm"),
    (SYS_rmdir, "p"),
    (SYS_link, "pp"),
    (SYS_linkat, "dpdpx"),
    (SYS_unlink, "p"),
    (SYS_unlinkat, "dpx"),
    (SYS_symlink, "pp"),
    (SYS_symlinkat, "pdp"),
    (SYS_readlink, "pbn"),
    (SYS_readlinkat, "dpbn"),
    (SYS_mknod, "pmi"),
    (SYS_mknodat, "dpmi"),
    (SYS_chmod, "pm"),
    (SYS_fchmod, "fm"),
    (SYS_chown, "pii"),
    (SYS_utimensat, "dpsi"),
    (SYS_statfs, "pb"),
    (SYS_fstatfs, "fb"),
    (SYS_setxattr, "pssni"),
    (SYS_fsetxattr, "fssni"),
    (SYS_getxattr, "psbn"),
    (SYS_listxattr, "pbn"),
    (SYS_removexattr, "ps"),
    (SYS_gettimeofday, "bb"),
    (SYS_clock_gettime, "ib"),
    (SYS_clock_settime, "is"),
    (SYS_clock_getres, "ib"),
    (SYS_getrlimit, "ib"),
    (SYS_setrlimit, "is"),
    (SYS_prlimit64, "Piss"),
    (SYS_getrusage, "ib"),
    (SYS_sysinfo, "b"),
    (SYS_times, "b"),
    (SYS_umask, "m"),
    (SYS_setuid, "i"),
    (SYS_setresuid, "iii"),
    (SYS_setgroups, "is"),
    (SYS_getgroups, "ib"),
    (SYS_setpgid, "PP"),
    (SYS_getpgid, "P"),
    (SYS_getsid, "P"),
    (SYS_setsid, ""),
    (SYS_capget, "sb"),
    (SYS_capset, "ss"),
    (SYS_prctl, "iiiii"),
    (SYS_prctl, "isiii"),
    (SYS_arch_prctl, "xl"),
    (SYS_sched_setaffinity, "Pns"),
    (SYS_sched_getaffinity, "Pnb"),
    (SYS_sched_setscheduler, "Pis"),
    (SYS_sched_setparam, "Ps"),
    (SYS_sched_setattr, "Psi"),
    (SYS_sched_getattr, "Pbni"),
    (SYS_setpriority, "iPi"),
    (SYS_getpriority, "iP"),
    (SYS_futex, "siiTsi"),
    (SYS_futex, "wiiTwi"),
    (SYS_futex, "wiiTwi"),
    (SYS_set_robust_list, "sn"),
    (SYS_get_robust_list, "Pbb"),
    (SYS_set_tid_address, "s"),
    (SYS_rseq, "siii"),
    (SYS_epoll_create1, "o"),
    (SYS_epoll_ctl, "fifs"),
    (SYS_epoll_ctl, "fifs"),
    (SYS_epoll_wait, "fbit"),
    (SYS_epoll_pwait, "fbitsn"),
    (SYS_eventfd2, "io"),
    (SYS_timerfd_create, "io"),
    (SYS_timerfd_settime, "fisb"),
    (SYS_timerfd_gettime, "fb"),
    (SYS_signalfd4, "fsno"),
    (SYS_inotify_init1, "o"),
    (SYS_inotify_add_watch, "fpx"),
    (SYS_inotify_rm_watch, "fi"),
    (SYS_memfd_create, "si"),
    (SYS_timer_create, "isb"),
    (SYS_timer_settime, "iisb"),
    (SYS_timer_gettime, "ib"),
    (SYS_timer_delete, "i"),
    (SYS_timer_getoverrun, "i"),
    (SYS_getrandom, "bni"),
    (SYS_pidfd_open, "Pi"),
    (SYS_pidfd_send_signal, "fSsi"),
    (SYS_pidfd_getfd, "ffi"),
    (SYS_process_vm_readv, "Psisii"),
    (SYS_process_vm_writev, "Psisii"),
    (SYS_membarrier, "ii"),
    (SYS_readahead, "fln"),
    (SYS_fadvise64, "flni"),
    (SYS_sync_file_range, "flni"),
    (SYS_mount, "pppxs"),
    (SYS_umount2, "pi"),
    (SYS_pivot_root, "pp"),
    (SYS_chroot, "p"),
    (SYS_unshare, "x"),
    (SYS_setns, "fi"),
    (SYS_name_to_handle_at, "dpsbi"),
    (SYS_personality, "i"),
    (SYS_execve, "pss"),
    (SYS_execveat, "dpssi"),
    (SYS_exit, "i"),
    (SYS_rt_sigsuspend, "sn"),
    (SYS_pause, ""),
    (SYS_getcpu, "bbb"),
    (SYS_kcmp, "PPiii"),
    (SYS_ptrace, "iPas"),
    (SYS_process_madvise, "fsiii"),
    (SYS_acct, "p"),
    (SYS_sethostname, "sn"),
    (SYS_syslog, "ibn"),
    (SYS_vhangup, ""),
    (SYS_add_key, "ssbni"),
    (SYS_bpf, "isn"),
    (SYS_shmget, "inx"),
    (SYS_semget, "iix"),
    (SYS_mq_open, "sxms"),
];

const PATHS: &[&CStr] = &[
    c"",
    c".",
    c"..",
    c"/",
    c"/tmp",
    c"a",
    c"b",
    c"a/b",
    c"a/b/c",
    c"l",
    c"l/l",
    c"./a/../b",
    c"/dev/null",
    c"/dev/zero",
    c"/dev/full",
    c"/dev/random",
    c"/dev/tty",
    c"/dev/ptmx",
    c"/dev/pts/0",
    c"/proc/self",
    c"/proc/self/fd",
    c"/proc/self/maps",
    c"/proc/self/mem",
    c"/proc/self/status",
    c"/proc/self/task",
    c"/proc/self/exe",
    c"/proc/self/fd/3",
    c"/proc/self/fd/7",
    c"/proc/self/cwd",
    c"/proc/self/root/tmp",
    c"/proc/self/environ",
    c"/proc/self/stat",
    c"/proc/self/oom_score_adj",
    c"/proc/thread-self/stat",
    c"/proc/1/maps",
    c"/proc/1/mem",
    c"/proc/sys/kernel/pid_max",
    c"/proc/mounts",
    c"/proc/stat",
    c"/proc/meminfo",
    c"/sys",
    c"/dev/shm/x",
    c"/dev/fd/5",
    c"/etc/passwd",
    c"/bin/true",
    c"/usr/bin/true",
    c"/usr/bin",
    c"/usr/lib",
    c"/nowhere/at/all",
    c"s",
];

/// Memory for arguments of one thread.
struct Fuzzer {
    rng: Rng,
    arena: usize,
    victim: usize,
    parent: i32,
}

fn map(len: usize) -> usize {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS;
    let at = unsafe { mmap(null_mut(), len, PROT_READ | PROT_WRITE, flags, -1, 0) };
    if at == MAP_FAILED {
        unsafe { _exit(0) }
    }
    at as usize
}

impl Fuzzer {
    fn new(seed: u64, parent: i32) -> Fuzzer {
        let arena = map(ARENA + 4096);
        unsafe { mprotect((arena + ARENA) as *mut c_void, 4096, PROT_NONE) };
        Fuzzer {
            rng: Rng(seed),
            arena,
            victim: map(VICTIM),
            parent,
        }
    }

    fn number(&mut self) -> u64 {
        match self.rng.below(12) {
            0 => 0,
            1 => u64::MAX,
            2 => self.rng.next(),
            3 => 1 << self.rng.below(64),
            4 => (1u64 << self.rng.below(64)).wrapping_sub(1),
            5 => i64::MAX as u64,
            6 => u64::MAX - self.rng.below(8192),
            7 => u64::from(self.rng.next() as u32),
            8 => i32::MAX as u64,
            9 => HIGH.wrapping_sub(self.rng.below(8192)),
            _ => self.rng.below(300),
        }
    }

    fn small(&mut self) -> u64 {
        match self.rng.below(8) {
            0 => self.number(),
            1 => self.rng.below(70),
            _ => self.rng.below(8),
        }
    }

    fn bits(&mut self) -> u64 {
        match self.rng.below(6) {
            0 => 0,
            1 => self.number(),
            2 => 1 << self.rng.below(32),
            3 => (1 << self.rng.below(32)) | (1 << self.rng.below(32)),
            4 => self.rng.next() & self.rng.next() & self.rng.next() & 0xffff_ffff,
            _ => self.rng.below(16),
        }
    }

    fn fd(&mut self) -> u64 {
        match self.rng.below(20) {
            0 => self.number(),
            1 => AT_FDCWD as u64,
            _ => self.rng.below(40),
        }
    }

    fn buffer(&mut self) -> u64 {
        let a = self.arena as u64;
        match self.rng.below(16) {
            0 => 0,
            1 => a + ARENA as u64 - self.rng.below(64),
            2 => self.rng.pick(&[
                HIGH - 8,
                HIGH,
                HIGH + 4096,
                u64::MAX - 7,
                1 << 47,
                0x7fff_ffff_f000,
                0xffff_8000_0000_0000,
                1,
            ]),
            3 => self.victim as u64 + self.rng.below(VICTIM as u64),
            _ => a + (self.rng.below(ARENA as u64 / 2) & !7),
        }
    }

    /// Fills a structure with what structures hold: numbers, pointers, lengths, descriptors.
    fn structure(&mut self) -> u64 {
        let at = self.arena + (self.rng.below(ARENA as u64 - 512) & !7) as usize;
        let style = self.rng.below(6);
        for i in 0..24 {
            let v = match style {
                0 if i % 2 == 0 => self.buffer(),
                0 => self.rng.below(9000),
                1 => self.rng.below(3),
                2 => self.small(),
                3 => self.fd() & 0xffff_ffff | self.bits() << 32,
                4 => {
                    if self.rng.chance(50) {
                        self.buffer()
                    } else {
                        self.small()
                    }
                }
                _ => self.number(),
            };
            unsafe { ((at + 8 * i) as *mut u64).write_unaligned(v) };
        }
        at as u64
    }

    fn time(&mut self) -> u64 {
        if self.rng.chance(10) {
            return self.structure();
        }
        let at = self.arena + (self.rng.below(ARENA as u64 - 64) & !7) as usize;
        let ns = self.rng.below(3_000_000);
        unsafe {
            (at as *mut u64).write_unaligned(0);
            ((at + 8) as *mut u64).write_unaligned(ns);
            ((at + 16) as *mut u64).write_unaligned(0);
            ((at + 24) as *mut u64).write_unaligned(ns / 2);
        }
        at as u64
    }

    fn path(&mut self) -> u64 {
        if self.rng.chance(4) {
            return self.structure();
        }
        let p: &CStr = self.rng.pick(PATHS);
        p.as_ptr() as u64
    }

    fn process(&mut self) -> u64 {
        let me = unsafe { getpid() } as u64;
        match self.rng.below(10) {
            0 => self.number(),
            1 => 0,
            2 => me,
            3 => gettid() as u64,
            4 => 0u64.wrapping_sub(me),
            5 => self.parent as u64,
            6 if self.rng.chance(10) => u64::MAX,
            _ => me + self.rng.below(6),
        }
    }

    fn arg(&mut self, letter: u8) -> u64 {
        if self.rng.chance(4) {
            return self.number();
        }
        match letter {
            b'f' => self.fd(),
            b'd' if self.rng.chance(60) => AT_FDCWD as u64,
            b'd' => self.fd(),
            b'b' => self.buffer(),
            b's' => self.structure(),
            b'n' => match self.rng.below(8) {
                0 => self.number(),
                1 => 8,
                2 => 4096 << self.rng.below(6),
                3 => self.rng.below(64),
                4 => 1 << self.rng.below(40),
                _ => self.rng.below(5000),
            },
            b'l' => match self.rng.below(4) {
                0 => self.number(),
                1 => self.rng.below(1 << 24),
                2 => 4096 * self.rng.below(64),
                _ => self.rng.below(5000),
            },
            b'p' => self.path(),
            b'm' => 0o700 | self.rng.below(0o1_000_000) * u64::from(self.rng.chance(20)),
            b'x' => self.bits(),
            b'o' => {
                let all = [
                    O_CREAT,
                    O_NONBLOCK,
                    O_CLOEXEC,
                    O_APPEND,
                    O_TRUNC,
                    O_DIRECTORY,
                    O_PATH,
                ];
                let mut o = self.rng.below(3);
                for f in all {
                    if self.rng.chance(25) {
                        o |= f as u64;
                    }
                }
                o
            }
            b'r' => self.rng.below(8),
            b'M' => {
                let base = self.rng.pick(&[MAP_PRIVATE, MAP_SHARED]) as u64;
                let anon = if self.rng.chance(60) {
                    MAP_ANONYMOUS
                } else {
                    0
                } as u64;
                let fixed = if self.rng.chance(40) { MAP_FIXED } else { 0 } as u64;
                let rare = if self.rng.chance(10) {
                    self.bits() & 0xfffff
                } else {
                    0
                };
                base | anon | fixed | rare
            }
            b'a' => match self.rng.below(20) {
                0 => self.number(),
                1 => 0,
                _ => self.victim as u64 + (self.rng.below(VICTIM as u64) & !4095),
            },
            b't' => self.rng.below(4),
            b'T' => self.time(),
            b'S' => match self.rng.below(6) {
                0 => self.number(),
                1 => self.rng.below(65),
                2 => 0,
                _ => self
                    .rng
                    .pick(&[SIGALRM, SIGUSR1, SIGUSR2, SIGCHLD, SIGCONT, SIGURG, 34, 40])
                    as u64,
            },
            b'P' => self.process(),
            b'1' => 1,
            b'u' => {
                let at = self.arena + 8 * self.rng.below(32) as usize;
                unsafe {
                    (at as *mut u16).write(1);
                    ((at + 2) as *mut u8).write(b'0' * self.rng.below(2) as u8);
                    ((at + 3) as *mut u8).write(b'a' + self.rng.below(3) as u8);
                    ((at + 4) as *mut u8).write(0);
                }
                at as u64
            }
            b'w' => self.arena as u64 + 4 * self.rng.below(4),
            b'F' => self.rng.pick(&[
                0, 1, 2, 3, 4, 5, 8, 9, 10, 15, 1024, 1025, 1026, 1030, 1031, 1032,
            ]),
            b'I' => 0x5400 + self.rng.below(0x60),
            _ => self.small(),
        }
    }

    fn call(&mut self) {
        let (nr, args) = if self.rng.chance(3) {
            let nr = self.rng.below(470) as c_long;
            (
                nr,
                core::array::from_fn(|_| self.arg(b"fbspix"[(nr % 6) as usize])),
            )
        } else {
            let (nr, letters) = self.rng.pick(CALLS);
            let mut args = [0; 6];
            for (a, l) in args.iter_mut().zip(letters.bytes()) {
                *a = self.arg(l);
            }
            (nr, args)
        };
        let rare = [
            SYS_exit,
            SYS_exit_group,
            SYS_execve,
            SYS_execveat,
            SYS_rt_sigreturn,
            SYS_pause,
        ];
        if rare.contains(&nr) && !self.rng.chance(8) {
            return;
        }
        // A child on another stack would run Rust code with no stack of its own.
        if nr == SYS_vfork || (nr == SYS_clone && args[1] != 0 && args[0] & CLONE_VM as u64 != 0) {
            return;
        }
        let [a, b, c, d, e, f] = args;
        unsafe { syscall(nr, a, b, c, d, e, f) };
    }
}

fn worker(seed: u64, parent: i32, calls: &'static AtomicU64) -> ! {
    unsafe {
        setsid();
        let null = open_raw(c"/dev/null", O_RDWR);
        for fd in 0..3 {
            dup2(null, fd);
        }
        for (what, limit) in [
            (RLIMIT_NOFILE, 40),
            (RLIMIT_FSIZE, 4 << 20),
            (RLIMIT_AS, 1 << 30),
            (RLIMIT_CORE, 0),
        ] {
            let l = rlimit {
                rlim_cur: limit,
                rlim_max: limit,
            };
            setrlimit(what, &l);
        }
        if geteuid() == 0 {
            let l = rlimit {
                rlim_cur: 40,
                rlim_max: 40,
            };
            setrlimit(RLIMIT_NPROC, &l);
            setgroups(0, null_mut());
            setresgid(NOBODY, NOBODY, NOBODY);
            setresuid(NOBODY, NOBODY, NOBODY);
        }
        let dir = format!("/tmp/fuzz.{}\0", getpid());
        libc::mkdir(dir.as_ptr().cast(), 0o700);
        chdir(dir.as_ptr().cast());
        for s in [SIGALRM, SIGUSR1, SIGUSR2, SIGCHLD, SIGPIPE, SIGXFSZ] {
            handle(s, nop, 0);
        }
        let every = itimerval {
            it_interval: timeval {
                tv_sec: 0,
                tv_usec: 4000,
            },
            it_value: timeval {
                tv_sec: 0,
                tv_usec: 4000,
            },
        };
        setitimer(ITIMER_REAL, &every, null_mut());
    }
    let run = move |seed| {
        let mut f = Fuzzer::new(seed, parent);
        loop {
            f.call();
            calls.fetch_add(1, SeqCst);
        }
    };
    for n in 1..3 {
        let _ = std::thread::Builder::new()
            .stack_size(128 << 10)
            .spawn(move || run(seed ^ n << 56));
    }
    run(seed)
}

unsafe fn open_raw(path: &CStr, flags: i32) -> i32 {
    unsafe { libc::open(path.as_ptr(), flags) }
}

/// Collects children until there are none. Whether that worked in time.
fn collect() -> bool {
    for _ in 0..2000 {
        unsafe {
            if geteuid() == 0 {
                kill(-1, SIGKILL);
            }
            loop {
                match waitpid(-1, null_mut(), WNOHANG) {
                    0 => break,
                    -1 if errno() == ECHILD => return true,
                    _ => {}
                }
            }
        }
        ms(5);
    }
    false
}

pub fn main(args: &[String]) -> i32 {
    let number = |i: usize, d| args.get(i).and_then(|s| s.parse().ok()).unwrap_or(d);
    let (seed, seconds): (u64, u64) = (number(0, 1), number(1, 10));
    let mut rng = Rng(seed);
    let page = unsafe {
        let flags = MAP_SHARED | MAP_ANONYMOUS;
        mmap(null_mut(), 4096, PROT_READ | PROT_WRITE, flags, -1, 0)
    };
    // SAFETY: a page of zeros that stays mapped.
    let calls: &'static AtomicU64 = unsafe { &*page.cast() };
    unsafe { prctl(PR_SET_CHILD_SUBREAPER, 1) };
    let me = unsafe { getpid() };
    let end = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    let mut rounds = 0;
    while std::time::Instant::now() < end {
        let mut children = vec![];
        for _ in 0..WORKERS {
            let seed = rng.next();
            match unsafe { libc::fork() } {
                0 => worker(seed, me, calls),
                pid => children.push(pid),
            }
        }
        ms(100 + rng.below(500));
        for &pid in children.iter().filter(|p| **p > 0) {
            unsafe { kill(pid, SIGKILL) };
        }
        if !collect() {
            say!("HANG: killed processes do not end, seed {seed}, round {rounds}");
            return 3;
        }
        rounds += 1;
    }
    say!("rounds {rounds} calls {}", calls.load(SeqCst));
    0
}
