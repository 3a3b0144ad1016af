//! Flag words and enumerations of system calls, with the names that traces show.
//!
//! A row of this table gives the handler a typed word and `--strace` its
//! symbols. Values come from the exported kernel headers unless given.
#![allow(dead_code, reason = "a row lists all names, handlers use some")]

use crate::args::Arg;
use crate::decode::{Describe, Line};
use abi::raw;

macro_rules! value {
    ($flag:ident) => {
        raw::$flag as u64
    };
    ($flag:ident $v:expr) => {
        $v as u64
    };
}

/// Words made of bits.
macro_rules! flags {
    ($($(#[$m:meta])* $name:ident: $t:ty { $($flag:ident $(= $v:expr)?)* })*) => { $(
        $(#[$m])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name(pub $t);
        #[allow(missing_docs)]
        impl $name {
            $(pub const $flag: $t = value!($flag $($v)?) as $t;)*
            /// All bits of the table.
            pub const ALL: $t = 0 $(| Self::$flag)*;
            const NAMES: &'static [(&'static str, u64)] = &[$((stringify!($flag), Self::$flag as u64)),*];
            /// Whether any bit of `bits` is set.
            pub const fn has(self, bits: $t) -> bool {
                self.0 & bits != 0
            }
            /// Whether there are bits outside `known`.
            pub const fn beyond(self, known: $t) -> bool {
                self.0 & !known != 0
            }
        }
        impl Arg for $name {
            fn from_reg(v: u64) -> Self {
                $name(v as $t)
            }
            fn show(line: &mut Line<'_>, args: &[u64; 6], i: usize) {
                line.flags((args[i] as $t) as u64 & (u64::MAX >> (64 - <$t>::BITS)), Self::NAMES);
            }
        }
    )* };
}

/// Words with one of several values.
macro_rules! enums {
    ($($(#[$m:meta])* $name:ident: $t:ty { $($flag:ident $(= $v:expr)?)* })*) => { $(
        $(#[$m])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name(pub $t);
        #[allow(missing_docs)]
        impl $name {
            $(pub const $flag: $t = value!($flag $($v)?) as $t;)*
            const NAMES: &'static [(&'static str, u64)] = &[$((stringify!($flag), Self::$flag as u64)),*];
        }
        impl Arg for $name {
            fn from_reg(v: u64) -> Self {
                $name(v as $t)
            }
            fn show(line: &mut Line<'_>, args: &[u64; 6], i: usize) {
                line.choice((args[i] as $t) as i64, Self::NAMES);
            }
        }
    )* };
}

flags! {
    /// rseq(2).
    RseqFlags: u32 { RSEQ_FLAG_UNREGISTER = 1 }
    /// `pipe2(2)`.
    PipeFlags: u32 { O_NONBLOCK O_CLOEXEC O_DIRECT }
    /// `dup3(2)`.
    DupFlags: u32 { O_CLOEXEC }
    /// `close_range(2)`.
    CloseRangeFlags: u32 { CLOSE_RANGE_UNSHARE = 2 CLOSE_RANGE_CLOEXEC = 4 }
    /// `*at` calls.
    AtFlags: u32 {
        AT_SYMLINK_NOFOLLOW AT_SYMLINK_FOLLOW AT_NO_AUTOMOUNT AT_EMPTY_PATH
        AT_STATX_FORCE_SYNC AT_STATX_DONT_SYNC
    }
    /// `unlinkat(2)`.
    UnlinkFlags: u32 { AT_REMOVEDIR }
    /// `faccessat2(2)`.
    AccessFlags: u32 { AT_SYMLINK_NOFOLLOW AT_EACCESS AT_EMPTY_PATH }
    /// Mode of `access(2)`.
    AccessMode: u32 { X_OK = 1 W_OK = 2 R_OK = 4 }
    /// `renameat2(2)`.
    RenameFlags: u32 { RENAME_NOREPLACE RENAME_EXCHANGE RENAME_WHITEOUT }
    /// `statx(2)` mask.
    StatxMask: u32 {
        STATX_TYPE STATX_MODE STATX_NLINK STATX_UID STATX_GID STATX_ATIME STATX_MTIME STATX_CTIME
        STATX_INO STATX_SIZE STATX_BLOCKS STATX_BTIME STATX_MNT_ID STATX_DIOALIGN
        STATX_MNT_ID_UNIQUE STATX_SUBVOL = 0x8000
    }
    /// `preadv2(2)`.
    RwFlags: u32 { RWF_HIPRI RWF_DSYNC RWF_SYNC RWF_NOWAIT RWF_APPEND RWF_NOAPPEND = 0x20 RWF_ATOMIC = 0x40 }
    /// `splice(2)`.
    SpliceFlags: u32 { SPLICE_F_MOVE SPLICE_F_NONBLOCK SPLICE_F_MORE SPLICE_F_GIFT }
    /// `fallocate(2)`.
    FallocFlags: u32 {
        FALLOC_FL_KEEP_SIZE FALLOC_FL_PUNCH_HOLE FALLOC_FL_COLLAPSE_RANGE FALLOC_FL_ZERO_RANGE
        FALLOC_FL_INSERT_RANGE FALLOC_FL_UNSHARE_RANGE
    }
    /// `sync_file_range(2)`.
    SyncRangeFlags: u32 { SYNC_FILE_RANGE_WAIT_BEFORE SYNC_FILE_RANGE_WRITE SYNC_FILE_RANGE_WAIT_AFTER }
    /// `setxattr(2)`.
    XattrFlags: i32 { XATTR_CREATE XATTR_REPLACE }
    /// `mount(2)`.
    MountArg: u64 {
        MS_RDONLY MS_NOSUID MS_NODEV MS_NOEXEC MS_SYNCHRONOUS MS_REMOUNT MS_MANDLOCK MS_DIRSYNC
        MS_NOSYMFOLLOW MS_NOATIME MS_NODIRATIME MS_BIND MS_MOVE MS_REC MS_SILENT MS_POSIXACL
        MS_UNBINDABLE MS_PRIVATE MS_SLAVE MS_SHARED MS_RELATIME MS_KERNMOUNT MS_I_VERSION
        MS_STRICTATIME MS_LAZYTIME
    }
    /// `umount2(2)`.
    UmountFlags: u32 { MNT_FORCE MNT_DETACH MNT_EXPIRE UMOUNT_NOFOLLOW }
    /// `epoll_create1(2)`.
    EpollFlags: u32 { EPOLL_CLOEXEC }
    /// `eventfd2(2)`.
    EventfdFlags: u32 { EFD_SEMAPHORE EFD_CLOEXEC EFD_NONBLOCK }
    /// `signalfd4(2)`.
    SignalfdFlags: u32 { SFD_CLOEXEC = 0o2000000 SFD_NONBLOCK = 0o4000 }
    /// `timerfd_create(2)`.
    TimerfdFlags: u32 { TFD_CLOEXEC TFD_NONBLOCK }
    /// `timerfd_settime(2)`.
    TimerfdSet: u32 { TFD_TIMER_ABSTIME TFD_TIMER_CANCEL_ON_SET }
    /// `clock_nanosleep(2)`, `timer_settime(2)`.
    TimerFlags: u32 { TIMER_ABSTIME }
    /// `inotify_init1(2)`.
    InotifyFlags: u32 { IN_CLOEXEC = 0o2000000 IN_NONBLOCK = 0o4000 }
    /// `inotify_add_watch(2)`.
    InotifyMask: u32 {
        IN_ACCESS IN_MODIFY IN_ATTRIB IN_CLOSE_WRITE IN_CLOSE_NOWRITE IN_OPEN IN_MOVED_FROM
        IN_MOVED_TO IN_CREATE IN_DELETE IN_DELETE_SELF IN_MOVE_SELF IN_ONLYDIR IN_DONT_FOLLOW
        IN_EXCL_UNLINK IN_MASK_CREATE IN_MASK_ADD IN_ONESHOT
    }
    /// `memfd_create(2)`.
    MemfdFlags: u32 {
        MFD_CLOEXEC MFD_ALLOW_SEALING MFD_HUGETLB MFD_NOEXEC_SEAL MFD_EXEC
    }
    /// Rights of memory.
    ProtArg: u64 { PROT_READ PROT_WRITE PROT_EXEC PROT_SEM PROT_GROWSDOWN PROT_GROWSUP }
    /// `mremap(2)`.
    RemapFlags: u64 { MREMAP_MAYMOVE MREMAP_FIXED MREMAP_DONTUNMAP }
    /// `msync(2)`.
    MsyncFlags: i32 { MS_ASYNC MS_INVALIDATE MS_SYNC }
    /// `mlockall(2)`.
    MlockFlags: i32 { MCL_CURRENT MCL_FUTURE MCL_ONFAULT }
    /// `mlock2(2)`.
    Mlock2Flags: i32 { MLOCK_ONFAULT }
    /// `wait4(2)`, `waitid(2)`.
    WaitFlags: u32 {
        WNOHANG WSTOPPED WEXITED WCONTINUED WNOWAIT __WNOTHREAD __WALL __WCLONE
    }
    /// `clone(2)`; the low byte is the exit signal.
    CloneFlags: u64 {
        CLONE_NEWTIME CLONE_VM CLONE_FS CLONE_FILES CLONE_SIGHAND CLONE_PIDFD CLONE_PTRACE
        CLONE_VFORK CLONE_PARENT CLONE_THREAD CLONE_NEWNS CLONE_SYSVSEM CLONE_SETTLS
        CLONE_PARENT_SETTID CLONE_CHILD_CLEARTID CLONE_DETACHED CLONE_UNTRACED
        CLONE_CHILD_SETTID CLONE_NEWCGROUP CLONE_NEWUTS CLONE_NEWIPC CLONE_NEWUSER
        CLONE_NEWPID CLONE_NEWNET CLONE_IO CLONE_CLEAR_SIGHAND CLONE_INTO_CGROUP
    }
    /// `getrandom(2)`.
    RandomFlags: u32 { GRND_NONBLOCK GRND_RANDOM GRND_INSECURE }
    /// `accept4(2)`.
    SockFlags: u32 { SOCK_NONBLOCK = 0o4000 SOCK_CLOEXEC = 0o2000000 }
    /// `send(2)`, `recv(2)`.
    MsgFlags: u32 {
        MSG_OOB = 1 MSG_PEEK = 2 MSG_DONTROUTE = 4 MSG_CTRUNC = 8 MSG_PROBE = 0x10 MSG_TRUNC = 0x20
        MSG_DONTWAIT = 0x40 MSG_EOR = 0x80 MSG_WAITALL = 0x100 MSG_FIN = 0x200 MSG_SYN = 0x400
        MSG_CONFIRM = 0x800 MSG_RST = 0x1000 MSG_ERRQUEUE = 0x2000 MSG_NOSIGNAL = 0x4000
        MSG_MORE = 0x8000 MSG_WAITFORONE = 0x10000 MSG_ZEROCOPY = 0x400_0000
        MSG_FASTOPEN = 0x2000_0000 MSG_CMSG_CLOEXEC = 0x4000_0000
    }
    /// `pidfd_open(2)`.
    PidfdFlags: u32 { PIDFD_NONBLOCK = 0o4000 PIDFD_THREAD = 0o200 }
    /// `flock(2)`.
    FlockOp: u32 { LOCK_SH LOCK_EX LOCK_NB LOCK_UN LOCK_MAND }
    /// `execveat(2)`.
    ExecFlags: u32 { AT_SYMLINK_NOFOLLOW AT_EMPTY_PATH }
    /// `name_to_handle_at(2)`.
    HandleFlags: u32 { AT_SYMLINK_FOLLOW AT_EMPTY_PATH }
}

enums! {
    /// `lseek(2)`.
    Whence: u32 { SEEK_SET SEEK_CUR SEEK_END SEEK_DATA SEEK_HOLE }
    /// `fcntl(2)` commands.
    FcntlCmd: u32 {
        F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_GETLK F_SETLK F_SETLKW F_SETOWN F_GETOWN F_SETSIG
        F_GETSIG F_SETOWN_EX F_GETOWN_EX F_GETOWNER_UIDS F_OFD_GETLK F_OFD_SETLK F_OFD_SETLKW
        F_SETLEASE F_GETLEASE F_CANCELLK F_DUPFD_QUERY F_CREATED_QUERY = 1028 F_DUPFD_CLOEXEC F_NOTIFY F_SETPIPE_SZ
        F_GETPIPE_SZ F_ADD_SEALS F_GET_SEALS F_GET_RW_HINT F_SET_RW_HINT F_GET_FILE_RW_HINT
        F_SET_FILE_RW_HINT
    }
    /// `ioctl(2)` requests known everywhere.
    IoctlCmd: u32 {
        TCGETS = 0x5401 TCSETS = 0x5402 TCSETSW = 0x5403 TCSETSF = 0x5404 TCSBRK = 0x5409
        TCXONC = 0x540a TCFLSH = 0x540b TIOCEXCL = 0x540c TIOCNXCL = 0x540d TIOCSCTTY = 0x540e
        TIOCGPGRP = 0x540f TIOCSPGRP = 0x5410 TIOCOUTQ = 0x5411 TIOCSTI = 0x5412
        TIOCGWINSZ = 0x5413 TIOCSWINSZ = 0x5414 FIONREAD = 0x541b TIOCPKT = 0x5420
        FIONBIO = 0x5421 TIOCNOTTY = 0x5422 TIOCGSID = 0x5429 TCGETS2 = 0x802c_542a
        TIOCGPTN = 0x8004_5430 TIOCSPTLCK = 0x4004_5431 TIOCGPTPEER = 0x5441 FIONCLEX = 0x5450
        FIOCLEX = 0x5451 FIOASYNC = 0x5452 FIOQSIZE = 0x5460 FIOGETOWN = 0x8903
        FIOSETOWN = 0x8901 SIOCGPGRP = 0x8904 SIOCSPGRP = 0x8902 FIBMAP = 1 FIGETBSZ = 2
        FS_IOC_GETFLAGS = 0x8008_6601 FS_IOC_SETFLAGS = 0x4008_6602 FICLONE = 0x4004_9409
        BLKGETSIZE64 = 0x8008_1272
    }
    /// `fadvise64(2)`.
    Fadvice: i32 {
        POSIX_FADV_NORMAL POSIX_FADV_RANDOM POSIX_FADV_SEQUENTIAL POSIX_FADV_WILLNEED
        POSIX_FADV_DONTNEED POSIX_FADV_NOREUSE
    }
    /// `madvise(2)`.
    Madvice: i32 {
        MADV_NORMAL MADV_RANDOM MADV_SEQUENTIAL MADV_WILLNEED MADV_DONTNEED MADV_FREE MADV_REMOVE
        MADV_DONTFORK MADV_DOFORK MADV_MERGEABLE MADV_UNMERGEABLE MADV_HUGEPAGE MADV_NOHUGEPAGE
        MADV_DONTDUMP MADV_DODUMP MADV_WIPEONFORK MADV_KEEPONFORK MADV_COLD MADV_PAGEOUT
        MADV_POPULATE_READ MADV_POPULATE_WRITE MADV_DONTNEED_LOCKED MADV_COLLAPSE MADV_HWPOISON
    }
    /// `epoll_ctl(2)`.
    EpollOp: i32 { EPOLL_CTL_ADD EPOLL_CTL_DEL EPOLL_CTL_MOD }
    /// Clocks.
    ClockId: i32 {
        CLOCK_REALTIME CLOCK_MONOTONIC CLOCK_PROCESS_CPUTIME_ID CLOCK_THREAD_CPUTIME_ID
        CLOCK_MONOTONIC_RAW CLOCK_REALTIME_COARSE CLOCK_MONOTONIC_COARSE CLOCK_BOOTTIME
        CLOCK_REALTIME_ALARM CLOCK_BOOTTIME_ALARM CLOCK_TAI
    }
    /// `getitimer(2)`.
    ItimerId: i32 { ITIMER_REAL ITIMER_VIRTUAL ITIMER_PROF }
    /// `getrlimit(2)`.
    Resource: u32 {
        RLIMIT_CPU RLIMIT_FSIZE RLIMIT_DATA RLIMIT_STACK RLIMIT_CORE RLIMIT_RSS RLIMIT_NPROC
        RLIMIT_NOFILE RLIMIT_MEMLOCK RLIMIT_AS RLIMIT_LOCKS RLIMIT_SIGPENDING RLIMIT_MSGQUEUE
        RLIMIT_NICE RLIMIT_RTPRIO RLIMIT_RTTIME
    }
    /// `getrusage(2)`.
    UsageWho: i32 { RUSAGE_SELF RUSAGE_CHILDREN RUSAGE_THREAD }
    /// `rt_sigprocmask(2)`.
    MaskHow: i32 { SIG_BLOCK SIG_UNBLOCK SIG_SETMASK }
    /// `waitid(2)`.
    IdType: i32 { P_ALL P_PID P_PGID P_PIDFD }
    /// `getpriority(2)`.
    PrioWhich: i32 { PRIO_PROCESS PRIO_PGRP PRIO_USER }
    /// `ioprio_get(2)`.
    IoprioWho: i32 { IOPRIO_WHO_PROCESS = 1 IOPRIO_WHO_PGRP = 2 IOPRIO_WHO_USER = 3 }
    /// `sched_setscheduler(2)`.
    Policy: i32 {
        SCHED_OTHER = 0 SCHED_FIFO SCHED_RR SCHED_BATCH SCHED_IDLE SCHED_DEADLINE
    }
    /// `arch_prctl(2)`.
    ArchCode: i32 {
        ARCH_SET_GS = 0x1001 ARCH_SET_FS = 0x1002 ARCH_GET_FS = 0x1003 ARCH_GET_GS = 0x1004
        ARCH_GET_CPUID = 0x1011 ARCH_SET_CPUID = 0x1012
    }
    /// `shutdown(2)`.
    ShutHow: i32 { SHUT_RD = 0 SHUT_WR = 1 SHUT_RDWR = 2 }
    /// Address families.
    Family: i32 {
        AF_UNSPEC = 0 AF_UNIX = 1 AF_INET = 2 AF_INET6 = 10 AF_NETLINK = 16 AF_PACKET = 17
        AF_VSOCK = 40
    }
    /// Levels of socket options.
    SockLevel: i32 {
        SOL_IP = 0 SOL_SOCKET = 1 SOL_TCP = 6 SOL_UDP = 17 SOL_IPV6 = 41 SOL_NETLINK = 270
    }
    /// `membarrier(2)`.
    MembarrierCmd: i32 {
        MEMBARRIER_CMD_QUERY = 0 MEMBARRIER_CMD_GLOBAL = 1 MEMBARRIER_CMD_GLOBAL_EXPEDITED = 2
        MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED = 4 MEMBARRIER_CMD_PRIVATE_EXPEDITED = 8
        MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED = 16
        MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE = 32
        MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE = 64
        MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ = 128
        MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ = 256
        MEMBARRIER_CMD_GET_REGISTRATIONS = 512
    }
    /// `kcmp(2)`.
    KcmpType: i32 {
        KCMP_FILE = 0 KCMP_VM = 1 KCMP_FILES = 2 KCMP_FS = 3 KCMP_SIGHAND = 4 KCMP_IO = 5
        KCMP_SYSVSEM = 6 KCMP_EPOLL_TFD = 7
    }
    /// `prctl(2)` options.
    PrctlOp: i32 {
        PR_SET_PDEATHSIG = 1 PR_GET_PDEATHSIG = 2 PR_GET_DUMPABLE = 3 PR_SET_DUMPABLE = 4
        PR_GET_UNALIGN = 5 PR_SET_UNALIGN = 6 PR_GET_KEEPCAPS = 7 PR_SET_KEEPCAPS = 8
        PR_GET_FPEMU = 9 PR_SET_FPEMU = 10 PR_GET_FPEXC = 11 PR_SET_FPEXC = 12 PR_GET_TIMING = 13
        PR_SET_TIMING = 14 PR_SET_NAME = 15 PR_GET_NAME = 16 PR_GET_ENDIAN = 19 PR_SET_ENDIAN = 20
        PR_GET_SECCOMP = 21 PR_SET_SECCOMP = 22 PR_CAPBSET_READ = 23 PR_CAPBSET_DROP = 24
        PR_GET_TSC = 25 PR_SET_TSC = 26 PR_GET_SECUREBITS = 27 PR_SET_SECUREBITS = 28
        PR_SET_TIMERSLACK = 29 PR_GET_TIMERSLACK = 30 PR_TASK_PERF_EVENTS_DISABLE = 31
        PR_TASK_PERF_EVENTS_ENABLE = 32 PR_MCE_KILL = 33 PR_MCE_KILL_GET = 34 PR_SET_MM = 35
        PR_SET_CHILD_SUBREAPER = 36 PR_GET_CHILD_SUBREAPER = 37 PR_SET_NO_NEW_PRIVS = 38
        PR_GET_NO_NEW_PRIVS = 39 PR_GET_TID_ADDRESS = 40 PR_SET_THP_DISABLE = 41
        PR_GET_THP_DISABLE = 42 PR_CAP_AMBIENT = 47 PR_GET_SPECULATION_CTRL = 52
        PR_SET_SPECULATION_CTRL = 53 PR_SET_IO_FLUSHER = 57 PR_GET_IO_FLUSHER = 58
        PR_SET_SYSCALL_USER_DISPATCH = 59 PR_SCHED_CORE = 62 PR_SET_MDWE = 65 PR_GET_MDWE = 66
        PR_SET_MEMORY_MERGE = 67 PR_GET_MEMORY_MERGE = 68 PR_SET_VMA = 0x5356_4d41
        PR_SET_PTRACER = 0x5961_6d61 PR_SET_KEEP_CODE = 0x4c44_0001 PR_GET_KEEP_CODE = 0x4c44_0002
    }
}

/// Flags of `open(2)`: the access mode is an enumeration, the rest bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenArg(pub u32);

impl OpenArg {
    const BITS: &'static [(&'static str, u64)] = &[
        ("O_CREAT", raw::O_CREAT as u64),
        ("O_EXCL", raw::O_EXCL as u64),
        ("O_NOCTTY", raw::O_NOCTTY as u64),
        ("O_TRUNC", raw::O_TRUNC as u64),
        ("O_APPEND", raw::O_APPEND as u64),
        ("O_NONBLOCK", raw::O_NONBLOCK as u64),
        ("O_SYNC", raw::O_SYNC as u64),
        ("O_DSYNC", raw::O_DSYNC as u64),
        ("O_ASYNC", raw::FASYNC as u64),
        ("O_DIRECT", raw::O_DIRECT as u64),
        ("O_LARGEFILE", raw::O_LARGEFILE as u64),
        ("O_TMPFILE", raw::O_TMPFILE as u64),
        ("O_DIRECTORY", raw::O_DIRECTORY as u64),
        ("O_NOFOLLOW", raw::O_NOFOLLOW as u64),
        ("O_NOATIME", raw::O_NOATIME as u64),
        ("O_CLOEXEC", raw::O_CLOEXEC as u64),
        ("O_PATH", raw::O_PATH as u64),
    ];
    /// Appends the text of `v`.
    pub fn describe(line: &mut Line<'_>, v: u32) {
        line.text(match v & 3 {
            0 => "O_RDONLY",
            1 => "O_WRONLY",
            2 => "O_RDWR",
            _ => "O_ACCMODE",
        });
        let rest = u64::from(v & !3);
        if rest != 0 {
            line.text("|");
            line.flags(rest, Self::BITS);
        }
    }
}

impl Arg for OpenArg {
    fn from_reg(v: u64) -> Self {
        OpenArg(v as u32)
    }
    fn show(line: &mut Line<'_>, args: &[u64; 6], i: usize) {
        Self::describe(line, args[i] as u32);
    }
}

/// Flags of `mmap(2)`: two bits of type, the rest flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapArg(pub u64);

#[allow(missing_docs)]
impl MapArg {
    pub const TYPE: u64 = 0xf;
    pub const SHARED: u64 = raw::MAP_SHARED as u64;
    pub const PRIVATE: u64 = raw::MAP_PRIVATE as u64;
    pub const SHARED_VALIDATE: u64 = raw::MAP_SHARED_VALIDATE as u64;
    pub const FIXED: u64 = raw::MAP_FIXED as u64;
    pub const ANONYMOUS: u64 = raw::MAP_ANONYMOUS as u64;
    pub const LOW32: u64 = 0x40;
    pub const GROWSDOWN: u64 = raw::MAP_GROWSDOWN as u64;
    pub const LOCKED: u64 = raw::MAP_LOCKED as u64;
    pub const NORESERVE: u64 = raw::MAP_NORESERVE as u64;
    pub const POPULATE: u64 = raw::MAP_POPULATE as u64;
    pub const NONBLOCK: u64 = raw::MAP_NONBLOCK as u64;
    pub const HUGETLB: u64 = raw::MAP_HUGETLB as u64;
    pub const SYNC: u64 = 0x80000;
    pub const FIXED_NOREPLACE: u64 = raw::MAP_FIXED_NOREPLACE as u64;
    const BITS: &'static [(&'static str, u64)] = &[
        ("MAP_FIXED", Self::FIXED),
        ("MAP_ANONYMOUS", Self::ANONYMOUS),
        ("MAP_32BIT", Self::LOW32),
        ("MAP_GROWSDOWN", Self::GROWSDOWN),
        ("MAP_DENYWRITE", 0x800),
        ("MAP_EXECUTABLE", 0x1000),
        ("MAP_LOCKED", Self::LOCKED),
        ("MAP_NORESERVE", Self::NORESERVE),
        ("MAP_POPULATE", Self::POPULATE),
        ("MAP_NONBLOCK", Self::NONBLOCK),
        ("MAP_STACK", raw::MAP_STACK as u64),
        ("MAP_HUGETLB", Self::HUGETLB),
        ("MAP_SYNC", Self::SYNC),
        ("MAP_FIXED_NOREPLACE", Self::FIXED_NOREPLACE),
    ];
    /// Whether any bit of `bits` is set.
    pub const fn has(self, bits: u64) -> bool {
        self.0 & bits != 0
    }
}

impl Arg for MapArg {
    fn from_reg(v: u64) -> Self {
        MapArg(v)
    }
    fn show(line: &mut Line<'_>, args: &[u64; 6], i: usize) {
        let v = args[i];
        match v & Self::TYPE {
            1 => line.text("MAP_SHARED"),
            2 => line.text("MAP_PRIVATE"),
            3 => line.text("MAP_SHARED_VALIDATE"),
            t => line.put(format_args!("{t:#x}")),
        }
        let rest = v & !Self::TYPE;
        if rest != 0 {
            line.text("|");
            line.flags(rest, Self::BITS);
        }
    }
}

/// Type of a socket with its flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SockType(pub u32);

impl Arg for SockType {
    fn from_reg(v: u64) -> Self {
        SockType(v as u32)
    }
    fn show(line: &mut Line<'_>, args: &[u64; 6], i: usize) {
        let v = args[i] as u32;
        match v & 0xf {
            1 => line.text("SOCK_STREAM"),
            2 => line.text("SOCK_DGRAM"),
            3 => line.text("SOCK_RAW"),
            5 => line.text("SOCK_SEQPACKET"),
            t => line.put(format_args!("{t:#x}")),
        }
        let rest = u64::from(v & !0xf);
        if rest != 0 {
            line.text("|");
            line.flags(rest, SockFlags::NAMES);
        }
    }
}

/// First argument of `clone(2)`: flags and exit signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CloneArg(pub u64);

impl CloneArg {
    /// Appends the text of `v`.
    pub fn describe(line: &mut Line<'_>, v: u64) {
        if v & !0xff != 0 {
            line.flags(v & !0xff, CloneFlags::NAMES);
            if v & 0xff != 0 {
                line.text("|");
            }
        }
        if v & 0xff != 0 || v == 0 {
            line.signal((v & 0xff) as i32);
        }
    }
}

impl Arg for CloneArg {
    fn from_reg(v: u64) -> Self {
        CloneArg(v)
    }
    fn show(line: &mut Line<'_>, args: &[u64; 6], i: usize) {
        Self::describe(line, args[i]);
    }
}

/// Operation of `futex(2)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FutexOp(pub u32);

impl Arg for FutexOp {
    fn from_reg(v: u64) -> Self {
        FutexOp(v as u32)
    }
    fn show(line: &mut Line<'_>, args: &[u64; 6], i: usize) {
        const NAMES: &[&str] = &[
            "FUTEX_WAIT",
            "FUTEX_WAKE",
            "FUTEX_FD",
            "FUTEX_REQUEUE",
            "FUTEX_CMP_REQUEUE",
            "FUTEX_WAKE_OP",
            "FUTEX_LOCK_PI",
            "FUTEX_UNLOCK_PI",
            "FUTEX_TRYLOCK_PI",
            "FUTEX_WAIT_BITSET",
            "FUTEX_WAKE_BITSET",
            "FUTEX_WAIT_REQUEUE_PI",
            "FUTEX_CMP_REQUEUE_PI",
            "FUTEX_LOCK_PI2",
        ];
        let v = args[i] as u32;
        match NAMES.get((v & 0x7f) as usize) {
            Some(n) => line.text(n),
            None => line.put(format_args!("{:#x}", v & 0x7f)),
        }
        if v & 0x80 != 0 {
            line.text("_PRIVATE");
        }
        if v & 0x100 != 0 {
            line.text("|FUTEX_CLOCK_REALTIME");
        }
    }
}

/// Mode of `open(2)`: means something only if a file may be created.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenMode(pub u32);

impl Arg for OpenMode {
    fn from_reg(v: u64) -> Self {
        OpenMode(v as u32)
    }
    fn show(line: &mut Line<'_>, args: &[u64; 6], i: usize) {
        const CREATES: u64 = (raw::O_CREAT | (raw::O_TMPFILE & !raw::O_DIRECTORY)) as u64;
        let flags = i.checked_sub(1).and_then(|f| args.get(f));
        if flags.is_some_and(|f| f & CREATES != 0) {
            line.put(format_args!("0{:03o}", args[i] as u32));
        }
    }
}

/// Argument of `fcntl(2)`: what it is depends on the command before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FcntlArg(pub u64);

impl Arg for FcntlArg {
    fn from_reg(v: u64) -> Self {
        FcntlArg(v)
    }
    fn show(line: &mut Line<'_>, args: &[u64; 6], i: usize) {
        type C = FcntlCmd;
        let v = args[i];
        let cmd = i.checked_sub(1).and_then(|c| args.get(c)).copied();
        match cmd.unwrap_or(0) as u32 {
            C::F_GETFD
            | C::F_GETFL
            | C::F_GETOWN
            | C::F_GETSIG
            | C::F_GETLEASE
            | C::F_GETPIPE_SZ
            | C::F_GET_SEALS => {}
            C::F_SETFD => line.flags(v, &[("FD_CLOEXEC", 1)]),
            C::F_SETFL => OpenArg::describe(line, v as u32),
            C::F_GETLK
            | C::F_SETLK
            | C::F_SETLKW
            | C::F_OFD_GETLK
            | C::F_OFD_SETLK
            | C::F_OFD_SETLKW => line.structure::<abi::io::Flock>(v),
            C::F_SETSIG => line.signal(v as i32),
            C::F_GETOWN_EX
            | C::F_SETOWN_EX
            | C::F_GETOWNER_UIDS
            | C::F_GET_RW_HINT
            | C::F_SET_RW_HINT => line.pointer(v),
            _ => line.put(format_args!("{}", v as i32)),
        }
    }
}

/// The descriptors of `poll(2)`; the next argument is their number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PollFds(pub u64);

/// Event bits of poll(2), which epoll(7) shares.
const POLL_NAMES: &[(&str, u64)] = &[
    ("POLLIN", 1),
    ("POLLPRI", 2),
    ("POLLOUT", 4),
    ("POLLERR", 8),
    ("POLLHUP", 0x10),
    ("POLLNVAL", 0x20),
    ("POLLRDNORM", 0x40),
    ("POLLRDBAND", 0x80),
    ("POLLWRNORM", 0x100),
    ("POLLWRBAND", 0x200),
    ("POLLRDHUP", 0x2000),
];

impl Arg for PollFds {
    const OUT: bool = true;
    fn from_reg(v: u64) -> Self {
        PollFds(v)
    }
    fn show(line: &mut Line<'_>, args: &[u64; 6], i: usize) {
        let n = args.get(i + 1).copied().unwrap_or(0);
        line.list::<abi::io::PollFd>(args[i], u64::from(n as u32));
    }
}

impl Describe for abi::io::PollFd {
    fn describe(&self, line: &mut Line<'_>) {
        line.put(format_args!("{{fd={}, events=", self.fd));
        line.flags(u64::from(self.events as u16), POLL_NAMES);
        if self.revents != 0 {
            line.text(", revents=");
            line.flags(u64::from(self.revents as u16), POLL_NAMES);
        }
        line.text("}");
    }
}

/// The events that `epoll_wait(2)` gives; the result is their number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpollEvents(pub u64);

impl Arg for EpollEvents {
    const OUT: bool = true;
    fn from_reg(v: u64) -> Self {
        EpollEvents(v)
    }
    fn show(line: &mut Line<'_>, args: &[u64; 6], i: usize) {
        match line.result() {
            Ok(n) => line.list::<abi::io::EpollEvent>(args[i], n),
            Err(_) => line.pointer(args[i]),
        }
    }
}

impl Describe for abi::io::EpollEvent {
    fn describe(&self, line: &mut Line<'_>) {
        const NAMES: &[(&str, u64)] = &[
            ("EPOLLIN", 1),
            ("EPOLLPRI", 2),
            ("EPOLLOUT", 4),
            ("EPOLLERR", 8),
            ("EPOLLHUP", 0x10),
            ("EPOLLRDNORM", 0x40),
            ("EPOLLWRNORM", 0x100),
            ("EPOLLRDHUP", 0x2000),
            ("EPOLLEXCLUSIVE", 1 << 28),
            ("EPOLLWAKEUP", 1 << 29),
            ("EPOLLONESHOT", 1 << 30),
            ("EPOLLET", 1 << 31),
        ];
        line.text("{events=");
        line.flags(u64::from(self.events), NAMES);
        let data = u64::from(self.data[0]) | u64::from(self.data[1]) << 32;
        line.put(format_args!(", data={data:#x}}}"));
    }
}
