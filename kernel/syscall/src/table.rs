//! The table of system calls: the truth about numbers, arguments, handlers and support.
//!
//! One row a call: `293 pipe2(fds: Out<FdPair>, flags: PipeFlags) => pipe::sys_pipe2, Full`.
//! From the row come dispatch, the trace text and the support page
//! (`docs/syscalls.md`). A call that is left out on purpose has a row in the
//! second table with its error and the reason; a number without any row is
//! logged once and gives ENOSYS.

use crate::args::{
    Arg, Bytes, BytesOut, Dev, DirFd, Fd, Hex, Id, In, Iov, IovOut, Mode, Out, PathPtr, Ptr, Sig,
    SockAddr, StrVec,
};
use crate::decode::{FdPair, Line, WaitStatus};
use crate::flags::*;
use crate::*;
use abi::io::{EpollEvent, IoVec, MsgHdr, OpenHow};
use abi::process::{CapData, CapHeader, CloneArgs, Rlimit, Rusage, SchedAttr, Sysinfo, Utsname};
use abi::stat::{Stat, Statfs, Statx};
use abi::time::{
    Itimerspec, Itimerval, Sigevent, Timespec, Timeval, Timex, Timezone, Tms, Utimbuf,
};
use abi::{Errno, SigAction, SigInfo, SigSet, SigStack};

/// Numbers below this have a place in the table.
pub const COUNT: usize = 463;

use core::cell::Cell;
pub use task::Handler;
use task::{Call, Outcome};

/// How far a call is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Support {
    /// As the man page says.
    Full,
    /// With what is missing.
    Partial(&'static str),
    /// Not there: the error it gives and why.
    Absent(Errno, &'static str),
}

/// One argument of a row.
#[derive(Clone, Copy)]
pub struct ArgDesc {
    /// Name as in the man page.
    pub name: &'static str,
    /// Filled by the kernel: shown after the call.
    pub out: bool,
    /// Appends its trace text.
    pub show: fn(&mut Line<'_>, &[u64; 6], usize),
}

/// A system call.
#[derive(Clone, Copy)]
pub struct Row {
    /// Number.
    pub nr: u16,
    /// Name.
    pub name: &'static str,
    /// Arguments in order.
    pub args: &'static [ArgDesc],
    /// How far it is there.
    pub support: Support,
    /// The handler behind argument decoding.
    pub call: Handler,
}

impl Row {
    /// Whether the result is an address (traces show it in hexadecimal).
    pub fn returns_address(&self) -> bool {
        matches!(self.name, "mmap" | "brk" | "mremap" | "shmat")
    }
}

/// A successful result.
pub trait Word {
    /// The register.
    fn word(self) -> u64;
}

impl Word for () {
    fn word(self) -> u64 {
        0
    }
}

/// What the handler of a row gives.
#[inline]
pub(crate) fn word_of<T: Word>(result: Result<T>) -> Outcome {
    match result {
        Ok(v) => Ok(v.word()),
        Err(e) => Err(e.0.into()),
    }
}

macro_rules! words {
    ($($t:ty)*) => { $(
        impl Word for $t {
            fn word(self) -> u64 {
                self as i64 as u64
            }
        }
    )* };
}
words! { i32 u32 i64 u64 usize }

macro_rules! calls {
    ($($nr:literal $name:ident($($arg:ident: $ty:ty),*) => $handler:path, $kind:ident $(($why:literal))?;)*) => {
        const CALLS: &[Row] = &[$(
            Row {
                nr: $nr,
                name: stringify!($name),
                args: &[$(ArgDesc {
                    name: stringify!($arg),
                    out: <$ty as Arg>::OUT,
                    show: <$ty as Arg>::show,
                }),*],
                support: Support::$kind $(($why))?,
                call: |cx, args| {
                    #[allow(unused_mut, reason = "a call may have no arguments")]
                    let mut rest = args.iter().map(Cell::get);
                    $(let $arg: $ty = Arg::from_reg(rest.next().unwrap_or(0));)*
                    let _ = rest;
                    word_of($handler(cx $(, $arg)*))
                },
            },
        )*];
    };
}

macro_rules! absent {
    ($($nr:literal $name:ident => $errno:ident, $why:literal;)*) => {
        const ABSENT: &[Row] = &[$(
            Row {
                nr: $nr,
                name: stringify!($name),
                args: &[],
                support: Support::Absent(Errno::$errno, $why),
                call: |_, _| Err(Errno::$errno.0 as u64),
            },
        )*];
    };
}

calls! {
    0 read(fd: Fd, buf: BytesOut, count: u64) => file::sys_read, Full;
    1 write(fd: Fd, buf: Bytes, count: u64) => file::sys_write, Full;
    2 open(path: PathPtr, flags: OpenArg, mode: OpenMode) => open::sys_open, Full;
    3 close(fd: Fd) => open::sys_close, Full;
    4 stat(path: PathPtr, buf: Out<Stat>) => stat::sys_stat, Full;
    5 fstat(fd: Fd, buf: Out<Stat>) => stat::sys_fstat, Full;
    6 lstat(path: PathPtr, buf: Out<Stat>) => stat::sys_lstat, Full;
    7 poll(fds: PollFds, nfds: u32, timeout: i32) => poll::sys_poll, Full;
    8 lseek(fd: Fd, offset: i64, whence: Whence) => file::sys_lseek, Full;
    9 mmap(addr: Ptr, length: u64, prot: ProtArg, flags: MapArg, fd: Fd, offset: Hex) => mem::sys_mmap, Partial("no huge pages");
    10 mprotect(addr: Ptr, len: u64, prot: ProtArg) => mem::sys_mprotect, Full;
    11 munmap(addr: Ptr, len: u64) => mem::sys_munmap, Full;
    12 brk(addr: Ptr) => mem::sys_brk, Full;
    13 rt_sigaction(signum: Sig, act: In<SigAction>, oldact: Out<SigAction>, sigsetsize: u64) => signal::sys_rt_sigaction, Full;
    14 rt_sigprocmask(how: MaskHow, set: In<SigSet>, oldset: Out<SigSet>, sigsetsize: u64) => signal::sys_rt_sigprocmask, Full;
    15 rt_sigreturn() => signal::sys_rt_sigreturn, Full;
    16 ioctl(fd: Fd, request: IoctlCmd, arg: Hex) => fcntl::sys_ioctl, Full;
    17 pread64(fd: Fd, buf: BytesOut, count: u64, offset: i64) => file::sys_pread64, Full;
    18 pwrite64(fd: Fd, buf: Bytes, count: u64, offset: i64) => file::sys_pwrite64, Full;
    19 readv(fd: Fd, iov: IovOut, iovcnt: u64) => file::sys_readv, Full;
    20 writev(fd: Fd, iov: Iov, iovcnt: u64) => file::sys_writev, Full;
    21 access(path: PathPtr, mode: AccessMode) => stat::sys_access, Full;
    22 pipe(fds: Out<FdPair>) => pipe::sys_pipe, Full;
    23 select(nfds: i32, readfds: Ptr, writefds: Ptr, exceptfds: Ptr, timeout: Out<Timeval>) => poll::sys_select, Full;
    24 sched_yield() => sched::sys_sched_yield, Full;
    25 mremap(old_address: Ptr, old_size: u64, new_size: u64, flags: RemapFlags, new_address: Ptr) => mem::sys_mremap, Full;
    26 msync(addr: Ptr, length: u64, flags: MsyncFlags) => mem::sys_msync, Full;
    27 mincore(addr: Ptr, length: u64, vec: Ptr) => mem::sys_mincore, Full;
    28 madvise(addr: Ptr, length: u64, advice: Madvice) => mem::sys_madvise, Full;
    29 shmget(key: i32, size: u64, shmflg: i32) => sysv::sys_shmget, Partial("no huge pages");
    30 shmat(shmid: i32, shmaddr: Ptr, shmflg: i32) => sysv::sys_shmat, Full;
    31 shmctl(shmid: i32, cmd: i32, buf: Ptr) => sysv::sys_shmctl, Full;
    32 dup(oldfd: Fd) => open::sys_dup, Full;
    33 dup2(oldfd: Fd, newfd: Fd) => open::sys_dup2, Full;
    34 pause() => signal::sys_pause, Full;
    35 nanosleep(duration: In<Timespec>, rem: Out<Timespec>) => time::sys_nanosleep, Full;
    36 getitimer(which: ItimerId, value: Out<Itimerval>) => timer::sys_getitimer, Full;
    37 alarm(seconds: u32) => timer::sys_alarm, Full;
    38 setitimer(which: ItimerId, new_value: In<Itimerval>, old_value: Out<Itimerval>) => timer::sys_setitimer, Full;
    39 getpid() => ids::sys_getpid, Full;
    40 sendfile(out_fd: Fd, in_fd: Fd, offset: Out<i64>, count: u64) => copy::sys_sendfile, Full;
    41 socket(domain: Family, kind: SockType, protocol: i32) => socket::sys_socket, Partial("AF_UNIX only");
    42 connect(fd: Fd, addr: SockAddr, addrlen: u32) => socket::sys_connect, Full;
    43 accept(fd: Fd, addr: Ptr, addrlen: Out<u32>) => socket::sys_accept, Full;
    44 sendto(fd: Fd, buf: Bytes, len: u64, flags: MsgFlags, addr: SockAddr, addrlen: u32) => socket::sys_sendto, Full;
    45 recvfrom(fd: Fd, buf: BytesOut, len: u64, flags: MsgFlags, addr: Ptr, addrlen: Out<u32>) => socket::sys_recvfrom, Full;
    46 sendmsg(fd: Fd, msg: In<MsgHdr>, flags: MsgFlags) => message::sys_sendmsg, Full;
    47 recvmsg(fd: Fd, msg: Out<MsgHdr>, flags: MsgFlags) => message::sys_recvmsg, Full;
    48 shutdown(fd: Fd, how: ShutHow) => socket::sys_shutdown, Full;
    49 bind(fd: Fd, addr: SockAddr, addrlen: u32) => socket::sys_bind, Full;
    50 listen(fd: Fd, backlog: i32) => socket::sys_listen, Full;
    51 getsockname(fd: Fd, addr: Ptr, addrlen: Out<u32>) => socket::sys_getsockname, Full;
    52 getpeername(fd: Fd, addr: Ptr, addrlen: Out<u32>) => socket::sys_getpeername, Full;
    53 socketpair(domain: Family, kind: SockType, protocol: i32, sv: Out<FdPair>) => socket::sys_socketpair, Full;
    54 setsockopt(fd: Fd, level: SockLevel, optname: i32, optval: Ptr, optlen: u32) => socket::sys_setsockopt, Full;
    55 getsockopt(fd: Fd, level: SockLevel, optname: i32, optval: Ptr, optlen: Out<u32>) => socket::sys_getsockopt, Full;
    56 clone(flags: CloneArg, stack: Ptr, parent_tid: Ptr, child_tid: Ptr, tls: Hex) => process::sys_clone, Partial("no namespaces");
    57 fork() => process::sys_fork, Full;
    58 vfork() => process::sys_vfork, Full;
    59 execve(path: PathPtr, argv: StrVec, envp: Ptr) => process::sys_execve, Full;
    60 exit(status: i32) => process::sys_exit, Full;
    61 wait4(pid: i32, wstatus: Out<WaitStatus>, options: WaitFlags, rusage: Out<Rusage>) => process::sys_wait4, Full;
    62 kill(pid: i32, sig: Sig) => signal::sys_kill, Full;
    63 uname(buf: Out<Utsname>) => sys::sys_uname, Full;
    64 semget(key: i32, nsems: i32, semflg: i32) => sysv::sys_semget, Full;
    65 semop(semid: i32, sops: Ptr, nsops: u64) => sysv::sys_semop, Full;
    66 semctl(semid: i32, semnum: i32, cmd: i32, arg: Ptr) => sysv::sys_semctl, Full;
    67 shmdt(shmaddr: Ptr) => sysv::sys_shmdt, Full;
    68 msgget(key: i32, msgflg: i32) => sysv::sys_msgget, Full;
    69 msgsnd(msqid: i32, msgp: Ptr, msgsz: u64, msgflg: i32) => sysv::sys_msgsnd, Full;
    70 msgrcv(msqid: i32, msgp: Ptr, msgsz: u64, msgtyp: i64, msgflg: i32) => sysv::sys_msgrcv, Partial("no MSG_COPY");
    71 msgctl(msqid: i32, cmd: i32, buf: Ptr) => sysv::sys_msgctl, Full;
    72 fcntl(fd: Fd, cmd: FcntlCmd, arg: FcntlArg) => fcntl::sys_fcntl, Partial("no leases, no F_NOTIFY");
    73 flock(fd: Fd, op: FlockOp) => fcntl::sys_flock, Full;
    74 fsync(fd: Fd) => copy::sys_fsync, Full;
    75 fdatasync(fd: Fd) => copy::sys_fdatasync, Full;
    76 truncate(path: PathPtr, length: i64) => stat::sys_truncate, Full;
    77 ftruncate(fd: Fd, length: i64) => stat::sys_ftruncate, Full;
    78 getdents(fd: Fd, buf: Ptr, count: u32) => dir::sys_getdents, Full;
    79 getcwd(buf: BytesOut, size: u64) => dir::sys_getcwd, Full;
    80 chdir(path: PathPtr) => dir::sys_chdir, Full;
    81 fchdir(fd: Fd) => dir::sys_fchdir, Full;
    82 rename(oldpath: PathPtr, newpath: PathPtr) => names::sys_rename, Full;
    83 mkdir(path: PathPtr, mode: Mode) => names::sys_mkdir, Full;
    84 rmdir(path: PathPtr) => names::sys_rmdir, Full;
    85 creat(path: PathPtr, mode: Mode) => open::sys_creat, Full;
    86 link(oldpath: PathPtr, newpath: PathPtr) => names::sys_link, Full;
    87 unlink(path: PathPtr) => names::sys_unlink, Full;
    88 symlink(target: PathPtr, linkpath: PathPtr) => names::sys_symlink, Full;
    89 readlink(path: PathPtr, buf: BytesOut, size: i32) => names::sys_readlink, Full;
    90 chmod(path: PathPtr, mode: Mode) => stat::sys_chmod, Full;
    91 fchmod(fd: Fd, mode: Mode) => stat::sys_fchmod, Full;
    92 chown(path: PathPtr, owner: Id, group: Id) => stat::sys_chown, Full;
    93 fchown(fd: Fd, owner: Id, group: Id) => stat::sys_fchown, Full;
    94 lchown(path: PathPtr, owner: Id, group: Id) => stat::sys_lchown, Full;
    95 umask(mask: Mode) => stat::sys_umask, Full;
    96 gettimeofday(tv: Out<Timeval>, tz: Out<Timezone>) => time::sys_gettimeofday, Full;
    97 getrlimit(resource: Resource, rlim: Out<Rlimit>) => limits::sys_getrlimit, Full;
    98 getrusage(who: UsageWho, usage: Out<Rusage>) => limits::sys_getrusage, Full;
    99 sysinfo(info: Out<Sysinfo>) => sys::sys_sysinfo, Full;
    100 times(buf: Out<Tms>) => limits::sys_times, Full;
    102 getuid() => cred::sys_getuid, Full;
    103 syslog(kind: i32, buf: Ptr, len: i32) => sys::sys_syslog, Partial("reading lines away and clearing are refused");
    104 getgid() => cred::sys_getgid, Full;
    105 setuid(uid: Id) => cred::sys_setuid, Full;
    106 setgid(gid: Id) => cred::sys_setgid, Full;
    107 geteuid() => cred::sys_geteuid, Full;
    108 getegid() => cred::sys_getegid, Full;
    109 setpgid(pid: i32, pgid: i32) => ids::sys_setpgid, Full;
    110 getppid() => ids::sys_getppid, Full;
    111 getpgrp() => ids::sys_getpgrp, Full;
    112 setsid() => ids::sys_setsid, Full;
    113 setreuid(ruid: Id, euid: Id) => cred::sys_setreuid, Full;
    114 setregid(rgid: Id, egid: Id) => cred::sys_setregid, Full;
    115 getgroups(size: i32, list: Ptr) => cred::sys_getgroups, Full;
    116 setgroups(size: i32, list: Ptr) => cred::sys_setgroups, Full;
    117 setresuid(ruid: Id, euid: Id, suid: Id) => cred::sys_setresuid, Full;
    118 getresuid(ruid: Out<u32>, euid: Out<u32>, suid: Out<u32>) => cred::sys_getresuid, Full;
    119 setresgid(rgid: Id, egid: Id, sgid: Id) => cred::sys_setresgid, Full;
    120 getresgid(rgid: Out<u32>, egid: Out<u32>, sgid: Out<u32>) => cred::sys_getresgid, Full;
    121 getpgid(pid: i32) => ids::sys_getpgid, Full;
    122 setfsuid(uid: Id) => cred::sys_setfsuid, Full;
    123 setfsgid(gid: Id) => cred::sys_setfsgid, Full;
    124 getsid(pid: i32) => ids::sys_getsid, Full;
    125 capget(header: Out<CapHeader>, data: Out<[CapData; 2]>) => cred::sys_capget, Full;
    126 capset(header: Out<CapHeader>, data: In<[CapData; 2]>) => cred::sys_capset, Full;
    127 rt_sigpending(set: Out<SigSet>, sigsetsize: u64) => signal::sys_rt_sigpending, Full;
    128 rt_sigtimedwait(set: In<SigSet>, info: Out<SigInfo>, timeout: In<Timespec>, sigsetsize: u64) => signal::sys_rt_sigtimedwait, Full;
    129 rt_sigqueueinfo(tgid: i32, sig: Sig, info: In<SigInfo>) => signal::sys_rt_sigqueueinfo, Full;
    130 rt_sigsuspend(mask: In<SigSet>, sigsetsize: u64) => signal::sys_rt_sigsuspend, Full;
    131 sigaltstack(ss: In<SigStack>, old_ss: Out<SigStack>) => signal::sys_sigaltstack, Full;
    132 utime(path: PathPtr, times: In<Utimbuf>) => stat::sys_utime, Full;
    133 mknod(path: PathPtr, mode: Mode, dev: Dev) => names::sys_mknod, Full;
    135 personality(persona: Hex) => sys::sys_personality, Partial("PER_LINUX, ADDR_NO_RANDOMIZE");
    137 statfs(path: PathPtr, buf: Out<Statfs>) => stat::sys_statfs, Full;
    138 fstatfs(fd: Fd, buf: Out<Statfs>) => stat::sys_fstatfs, Full;
    140 getpriority(which: PrioWhich, who: i32) => sched::sys_getpriority, Full;
    141 setpriority(which: PrioWhich, who: i32, prio: i32) => sched::sys_setpriority, Full;
    142 sched_setparam(pid: i32, param: In<i32>) => sched::sys_sched_setparam, Full;
    143 sched_getparam(pid: i32, param: Out<i32>) => sched::sys_sched_getparam, Full;
    144 sched_setscheduler(pid: i32, policy: Policy, param: In<i32>) => sched::sys_sched_setscheduler, Partial("no SCHED_DEADLINE");
    145 sched_getscheduler(pid: i32) => sched::sys_sched_getscheduler, Full;
    146 sched_get_priority_max(policy: Policy) => sched::sys_sched_get_priority_max, Full;
    147 sched_get_priority_min(policy: Policy) => sched::sys_sched_get_priority_min, Full;
    148 sched_rr_get_interval(pid: i32, tp: Out<Timespec>) => sched::sys_sched_rr_get_interval, Full;
    149 mlock(addr: Ptr, len: u64) => mem::sys_mlock, Full;
    150 munlock(addr: Ptr, len: u64) => mem::sys_munlock, Full;
    151 mlockall(flags: MlockFlags) => mem::sys_mlockall, Full;
    152 munlockall() => mem::sys_munlockall, Full;
    153 vhangup() => sys::sys_vhangup, Partial("EPERM without the capability, else ENOTTY");
    155 pivot_root(new_root: PathPtr, put_old: PathPtr) => mount::sys_pivot_root, Full;
    157 prctl(option: PrctlOp, arg2: Hex, arg3: Hex, arg4: Hex, arg5: Hex) => prctl::sys_prctl, Partial("what a program on one machine asks for; the rest EINVAL");
    158 arch_prctl(code: ArchCode, addr: Hex) => process::sys_arch_prctl, Partial("FS and GS base");
    159 adjtimex(buf: Out<Timex>) => time::sys_adjtimex, Partial("reads only");
    160 setrlimit(resource: Resource, rlim: In<Rlimit>) => limits::sys_setrlimit, Full;
    161 chroot(path: PathPtr) => dir::sys_chroot, Full;
    162 sync() => copy::sys_sync, Full;
    163 acct(path: PathPtr) => sys::sys_acct, Partial("EPERM without the capability, else ENOSYS");
    164 settimeofday(tv: In<Timeval>, tz: In<Timezone>) => time::sys_settimeofday, Partial("the time zone is UTC");
    165 mount(source: PathPtr, target: PathPtr, fstype: PathPtr, flags: MountArg, data: Ptr) => mount::sys_mount, Partial("no propagation between mounts");
    166 umount2(target: PathPtr, flags: UmountFlags) => mount::sys_umount2, Partial("MNT_EXPIRE is refused");
    167 swapon(path: PathPtr, flags: Hex) => sys::sys_swapon, Partial("EPERM without the capability, else ENOSYS");
    168 swapoff(path: PathPtr) => sys::sys_swapoff, Partial("EPERM without the capability, else ENOSYS");
    169 reboot(magic: Hex, magic2: Hex, cmd: Hex, arg: Ptr) => sys::sys_reboot, Partial("a restart ends the machine");
    170 sethostname(name: Bytes, len: i32) => sys::sys_sethostname, Full;
    171 setdomainname(name: Bytes, len: i32) => sys::sys_setdomainname, Full;
    186 gettid() => ids::sys_gettid, Full;
    187 readahead(fd: Fd, offset: i64, count: u64) => copy::sys_readahead, Partial("checks only; reads ahead by itself");
    188 setxattr(path: PathPtr, name: PathPtr, value: Ptr, size: u64, flags: XattrFlags) => xattr::sys_setxattr, Full;
    189 lsetxattr(path: PathPtr, name: PathPtr, value: Ptr, size: u64, flags: XattrFlags) => xattr::sys_lsetxattr, Full;
    190 fsetxattr(fd: Fd, name: PathPtr, value: Ptr, size: u64, flags: XattrFlags) => xattr::sys_fsetxattr, Full;
    191 getxattr(path: PathPtr, name: PathPtr, value: BytesOut, size: u64) => xattr::sys_getxattr, Full;
    192 lgetxattr(path: PathPtr, name: PathPtr, value: BytesOut, size: u64) => xattr::sys_lgetxattr, Full;
    193 fgetxattr(fd: Fd, name: PathPtr, value: BytesOut, size: u64) => xattr::sys_fgetxattr, Full;
    194 listxattr(path: PathPtr, list: BytesOut, size: u64) => xattr::sys_listxattr, Full;
    195 llistxattr(path: PathPtr, list: BytesOut, size: u64) => xattr::sys_llistxattr, Full;
    196 flistxattr(fd: Fd, list: BytesOut, size: u64) => xattr::sys_flistxattr, Full;
    197 removexattr(path: PathPtr, name: PathPtr) => xattr::sys_removexattr, Full;
    198 lremovexattr(path: PathPtr, name: PathPtr) => xattr::sys_lremovexattr, Full;
    199 fremovexattr(fd: Fd, name: PathPtr) => xattr::sys_fremovexattr, Full;
    200 tkill(tid: i32, sig: Sig) => signal::sys_tkill, Full;
    201 time(tloc: Out<i64>) => time::sys_time, Full;
    202 futex(uaddr: Ptr, op: FutexOp, val: u32, timeout: Ptr, uaddr2: Ptr, val3: Hex) => futex::sys_futex, Partial("no FUTEX_FD");
    203 sched_setaffinity(pid: i32, cpusetsize: u32, mask: Ptr) => sched::sys_sched_setaffinity, Full;
    204 sched_getaffinity(pid: i32, cpusetsize: u32, mask: Ptr) => sched::sys_sched_getaffinity, Full;
    213 epoll_create(size: i32) => epoll::sys_epoll_create, Full;
    217 getdents64(fd: Fd, buf: Ptr, count: u32) => dir::sys_getdents64, Full;
    218 set_tid_address(tidptr: Ptr) => ids::sys_set_tid_address, Full;
    219 restart_syscall() => signal::sys_restart_syscall, Full;
    220 semtimedop(semid: i32, sops: Ptr, nsops: u64, timeout: In<Timespec>) => sysv::sys_semtimedop, Full;
    221 fadvise64(fd: Fd, offset: i64, len: i64, advice: Fadvice) => copy::sys_fadvise64, Partial("checks only");
    222 timer_create(clock: ClockId, sevp: In<Sigevent>, timerid: Out<i32>) => timer::sys_timer_create, Full;
    223 timer_settime(timerid: i32, flags: TimerFlags, new_value: In<Itimerspec>, old_value: Out<Itimerspec>) => timer::sys_timer_settime, Full;
    224 timer_gettime(timerid: i32, value: Out<Itimerspec>) => timer::sys_timer_gettime, Full;
    225 timer_getoverrun(timerid: i32) => timer::sys_timer_getoverrun, Full;
    226 timer_delete(timerid: i32) => timer::sys_timer_delete, Full;
    227 clock_settime(clock: ClockId, tp: In<Timespec>) => time::sys_clock_settime, Full;
    228 clock_gettime(clock: ClockId, tp: Out<Timespec>) => time::sys_clock_gettime, Full;
    229 clock_getres(clock: ClockId, res: Out<Timespec>) => time::sys_clock_getres, Full;
    230 clock_nanosleep(clock: ClockId, flags: TimerFlags, t: In<Timespec>, remain: Out<Timespec>) => time::sys_clock_nanosleep, Full;
    231 exit_group(status: i32) => process::sys_exit_group, Full;
    232 epoll_wait(epfd: Fd, events: EpollEvents, maxevents: i32, timeout: i32) => epoll::sys_epoll_wait, Full;
    233 epoll_ctl(epfd: Fd, op: EpollOp, fd: Fd, event: In<EpollEvent>) => epoll::sys_epoll_ctl, Full;
    234 tgkill(tgid: i32, tid: i32, sig: Sig) => signal::sys_tgkill, Full;
    235 utimes(path: PathPtr, times: In<[Timeval; 2]>) => stat::sys_utimes, Full;
    237 mbind(addr: Ptr, len: u64, mode: Hex, nodemask: Ptr, maxnode: u64, flags: u32) => numa::sys_mbind, Partial("one node");
    238 set_mempolicy(mode: i32, nodemask: Ptr, maxnode: u64) => numa::sys_set_mempolicy, Partial("one node");
    239 get_mempolicy(mode: Out<i32>, nodemask: Ptr, maxnode: u64, addr: Ptr, flags: u64) => numa::sys_get_mempolicy, Partial("one node");
    247 waitid(idtype: IdType, id: i32, info: Out<SigInfo>, options: WaitFlags, rusage: Out<Rusage>) => process::sys_waitid, Full;
    251 ioprio_set(which: IoprioWho, who: i32, ioprio: i32) => sched::sys_ioprio_set, Partial("kept, without effect");
    252 ioprio_get(which: IoprioWho, who: i32) => sched::sys_ioprio_get, Full;
    253 inotify_init() => inotify::sys_inotify_init, Full;
    254 inotify_add_watch(fd: Fd, path: PathPtr, mask: InotifyMask) => inotify::sys_inotify_add_watch, Partial("IN_EXCL_UNLINK has no effect");
    255 inotify_rm_watch(fd: Fd, wd: i32) => inotify::sys_inotify_rm_watch, Full;
    257 openat(dirfd: DirFd, path: PathPtr, flags: OpenArg, mode: OpenMode) => open::sys_openat, Full;
    258 mkdirat(dirfd: DirFd, path: PathPtr, mode: Mode) => names::sys_mkdirat, Full;
    259 mknodat(dirfd: DirFd, path: PathPtr, mode: Mode, dev: Dev) => names::sys_mknodat, Full;
    260 fchownat(dirfd: DirFd, path: PathPtr, owner: Id, group: Id, flags: AtFlags) => stat::sys_fchownat, Full;
    261 futimesat(dirfd: DirFd, path: PathPtr, times: In<[Timeval; 2]>) => stat::sys_futimesat, Full;
    262 newfstatat(dirfd: DirFd, path: PathPtr, buf: Out<Stat>, flags: AtFlags) => stat::sys_newfstatat, Full;
    263 unlinkat(dirfd: DirFd, path: PathPtr, flags: UnlinkFlags) => names::sys_unlinkat, Full;
    264 renameat(olddirfd: DirFd, oldpath: PathPtr, newdirfd: DirFd, newpath: PathPtr) => names::sys_renameat, Full;
    265 linkat(olddirfd: DirFd, oldpath: PathPtr, newdirfd: DirFd, newpath: PathPtr, flags: AtFlags) => names::sys_linkat, Full;
    266 symlinkat(target: PathPtr, newdirfd: DirFd, linkpath: PathPtr) => names::sys_symlinkat, Full;
    267 readlinkat(dirfd: DirFd, path: PathPtr, buf: BytesOut, size: i32) => names::sys_readlinkat, Full;
    268 fchmodat(dirfd: DirFd, path: PathPtr, mode: Mode) => stat::sys_fchmodat, Full;
    269 faccessat(dirfd: DirFd, path: PathPtr, mode: AccessMode) => stat::sys_faccessat, Full;
    270 pselect6(nfds: i32, readfds: Ptr, writefds: Ptr, exceptfds: Ptr, timeout: Out<Timespec>, sigmask: Ptr) => poll::sys_pselect6, Full;
    271 ppoll(fds: PollFds, nfds: u32, timeout: Out<Timespec>, sigmask: In<SigSet>, sigsetsize: u64) => poll::sys_ppoll, Full;
    272 unshare(flags: CloneFlags) => process::sys_unshare, Partial("CLONE_FILES and CLONE_FS; no namespaces");
    273 set_robust_list(head: Ptr, len: u64) => futex::sys_set_robust_list, Full;
    274 get_robust_list(pid: i32, head: Out<u64>, len: Out<u64>) => futex::sys_get_robust_list, Full;
    275 splice(fd_in: Fd, off_in: Out<i64>, fd_out: Fd, off_out: Out<i64>, len: u64, flags: SpliceFlags) => splice::sys_splice, Full;
    276 tee(fd_in: Fd, fd_out: Fd, len: u64, flags: SpliceFlags) => splice::sys_tee, Full;
    277 sync_file_range(fd: Fd, offset: i64, nbytes: i64, flags: SyncRangeFlags) => copy::sys_sync_file_range, Full;
    278 vmsplice(fd: Fd, iov: Iov, count: u64, flags: SpliceFlags) => splice::sys_vmsplice, Partial("copies");
    280 utimensat(dirfd: DirFd, path: PathPtr, times: In<[Timespec; 2]>, flags: AtFlags) => stat::sys_utimensat, Full;
    281 epoll_pwait(epfd: Fd, events: EpollEvents, maxevents: i32, timeout: i32, sigmask: In<SigSet>, sigsetsize: u64) => epoll::sys_epoll_pwait, Full;
    282 signalfd(fd: Fd, mask: In<SigSet>, sizemask: u64) => eventfd::sys_signalfd, Full;
    283 timerfd_create(clock: ClockId, flags: TimerfdFlags) => eventfd::sys_timerfd_create, Full;
    284 eventfd(count: u32) => eventfd::sys_eventfd, Full;
    285 fallocate(fd: Fd, mode: FallocFlags, offset: i64, len: i64) => copy::sys_fallocate, Full;
    286 timerfd_settime(fd: Fd, flags: TimerfdSet, new_value: In<Itimerspec>, old_value: Out<Itimerspec>) => eventfd::sys_timerfd_settime, Full;
    287 timerfd_gettime(fd: Fd, value: Out<Itimerspec>) => eventfd::sys_timerfd_gettime, Full;
    288 accept4(fd: Fd, addr: Ptr, addrlen: Out<u32>, flags: SockFlags) => socket::sys_accept4, Full;
    289 signalfd4(fd: Fd, mask: In<SigSet>, sizemask: u64, flags: SignalfdFlags) => eventfd::sys_signalfd4, Full;
    290 eventfd2(count: u32, flags: EventfdFlags) => eventfd::sys_eventfd2, Full;
    291 epoll_create1(flags: EpollFlags) => epoll::sys_epoll_create1, Full;
    292 dup3(oldfd: Fd, newfd: Fd, flags: DupFlags) => open::sys_dup3, Full;
    293 pipe2(fds: Out<FdPair>, flags: PipeFlags) => pipe::sys_pipe2, Full;
    294 inotify_init1(flags: InotifyFlags) => inotify::sys_inotify_init1, Full;
    295 preadv(fd: Fd, iov: IovOut, iovcnt: u64, pos_l: i64, pos_h: Hex) => file::sys_preadv, Full;
    296 pwritev(fd: Fd, iov: Iov, iovcnt: u64, pos_l: i64, pos_h: Hex) => file::sys_pwritev, Full;
    297 rt_tgsigqueueinfo(tgid: i32, tid: i32, sig: Sig, info: In<SigInfo>) => signal::sys_rt_tgsigqueueinfo, Full;
    299 recvmmsg(fd: Fd, msgvec: Ptr, vlen: u32, flags: MsgFlags, timeout: Out<Timespec>) => message::sys_recvmmsg, Full;
    302 prlimit64(pid: i32, resource: Resource, new_limit: In<Rlimit>, old_limit: Out<Rlimit>) => limits::sys_prlimit64, Full;
    305 clock_adjtime(clock: ClockId, buf: Out<Timex>) => time::sys_clock_adjtime, Partial("reads only");
    306 syncfs(fd: Fd) => copy::sys_syncfs, Full;
    307 sendmmsg(fd: Fd, msgvec: Ptr, vlen: u32, flags: MsgFlags) => message::sys_sendmmsg, Full;
    308 setns(fd: Fd, nstype: Hex) => process::sys_setns, Partial("no namespaces");
    309 getcpu(cpu: Out<u32>, node: Out<u32>, cache: Ptr) => sched::sys_getcpu, Full;
    310 process_vm_readv(pid: i32, local_iov: In<IoVec>, liovcnt: u64, remote_iov: In<IoVec>, riovcnt: u64, flags: u64) => vmcopy::sys_process_vm_readv, Full;
    311 process_vm_writev(pid: i32, local_iov: In<IoVec>, liovcnt: u64, remote_iov: In<IoVec>, riovcnt: u64, flags: u64) => vmcopy::sys_process_vm_writev, Full;
    312 kcmp(pid1: i32, pid2: i32, kind: KcmpType, idx1: u64, idx2: u64) => ids::sys_kcmp, Partial("no KCMP_IO, KCMP_SYSVSEM, KCMP_EPOLL_TFD");
    314 sched_setattr(pid: i32, attr: In<SchedAttr>, flags: u32) => sched::sys_sched_setattr, Partial("no SCHED_DEADLINE, no utilisation clamps");
    315 sched_getattr(pid: i32, attr: Out<SchedAttr>, size: u32, flags: u32) => sched::sys_sched_getattr, Full;
    316 renameat2(olddirfd: DirFd, oldpath: PathPtr, newdirfd: DirFd, newpath: PathPtr, flags: RenameFlags) => names::sys_renameat2, Full;
    318 getrandom(buf: BytesOut, buflen: u64, flags: RandomFlags) => random::sys_getrandom, Full;
    319 memfd_create(name: PathPtr, flags: MemfdFlags) => memfd::sys_memfd_create, Partial("no huge pages");
    322 execveat(dirfd: DirFd, path: PathPtr, argv: StrVec, envp: Ptr, flags: ExecFlags) => process::sys_execveat, Full;
    324 membarrier(cmd: MembarrierCmd, flags: u32, cpu_id: i32) => mem::sys_membarrier, Partial("no SYNC_CORE, no RSEQ");
    325 mlock2(addr: Ptr, len: u64, flags: Mlock2Flags) => mem::sys_mlock2, Full;
    326 copy_file_range(fd_in: Fd, off_in: Out<i64>, fd_out: Fd, off_out: Out<i64>, len: u64, flags: u32) => copy::sys_copy_file_range, Full;
    327 preadv2(fd: Fd, iov: IovOut, iovcnt: u64, pos_l: i64, pos_h: Hex, flags: RwFlags) => file::sys_preadv2, Partial("RWF_NOWAIT is refused");
    328 pwritev2(fd: Fd, iov: Iov, iovcnt: u64, pos_l: i64, pos_h: Hex, flags: RwFlags) => file::sys_pwritev2, Partial("RWF_NOWAIT, RWF_ATOMIC are refused");
    329 pkey_mprotect(addr: Ptr, len: u64, prot: ProtArg, pkey: i32) => mem::sys_pkey_mprotect, Partial("as on a CPU without protection keys");
    330 pkey_alloc(flags: u32, rights: Hex) => mem::sys_pkey_alloc, Partial("as on a CPU without protection keys");
    331 pkey_free(pkey: i32) => mem::sys_pkey_free, Partial("as on a CPU without protection keys");
    332 statx(dirfd: DirFd, path: PathPtr, flags: AtFlags, mask: StatxMask, buf: Out<Statx>) => stat::sys_statx, Full;
    334 rseq(rseq: Ptr, rseq_len: u32, flags: RseqFlags, sig: u32) => rseq::sys_rseq, Full;
    424 pidfd_send_signal(pidfd: Fd, sig: Sig, info: In<SigInfo>, flags: u32) => pidfd::sys_pidfd_send_signal, Full;
    434 pidfd_open(pid: i32, flags: PidfdFlags) => pidfd::sys_pidfd_open, Partial("no PIDFD_THREAD");
    435 clone3(args: In<CloneArgs>, size: u64) => process::sys_clone3, Partial("no namespaces, no cgroups");
    436 close_range(first: u32, last: u32, flags: CloseRangeFlags) => open::sys_close_range, Full;
    437 openat2(dirfd: DirFd, path: PathPtr, how: In<OpenHow>, size: u64) => open::sys_openat2, Partial("RESOLVE_CACHED is refused");
    438 pidfd_getfd(pidfd: Fd, targetfd: i32, flags: u32) => pidfd::sys_pidfd_getfd, Full;
    439 faccessat2(dirfd: DirFd, path: PathPtr, mode: AccessMode, flags: AccessFlags) => stat::sys_faccessat2, Full;
    440 process_madvise(pidfd: Fd, iov: In<IoVec>, vlen: u64, advice: Madvice, flags: u32) => pidfd::sys_process_madvise, Full;
    441 epoll_pwait2(epfd: Fd, events: EpollEvents, maxevents: i32, timeout: In<Timespec>, sigmask: In<SigSet>, sigsetsize: u64) => epoll::sys_epoll_pwait2, Full;
    449 futex_waitv(waiters: Ptr, nr: u32, flags: u32, timeout: Ptr, clock: ClockId) => futex::sys_futex_waitv, Full;
    452 fchmodat2(dirfd: DirFd, path: PathPtr, mode: Mode, flags: AtFlags) => stat::sys_fchmodat2, Full;
}

absent! {
    101 ptrace => ENOSYS, "no tracing of processes";
    134 uselib => ENOSYS, "removed from current Linux configurations";
    136 ustat => ENOSYS, "obsolete; statfs(2) is there";
    139 sysfs => ENOSYS, "obsolete; /proc/filesystems is there";
    154 modify_ldt => ENOSYS, "no 16-bit or 32-bit segments";
    156 _sysctl => ENOSYS, "removed from Linux 5.5";
    172 iopl => ENOSYS, "no ports";
    173 ioperm => ENOSYS, "no ports";
    174 create_module => ENOSYS, "removed from Linux 2.6";
    175 init_module => ENOSYS, "no modules";
    176 delete_module => ENOSYS, "no modules";
    177 get_kernel_syms => ENOSYS, "removed from Linux 2.6";
    178 query_module => ENOSYS, "removed from Linux 2.6";
    179 quotactl => ENOSYS, "no quotas";
    180 nfsservctl => ENOSYS, "removed from Linux 3.1";
    181 getpmsg => ENOSYS, "never in Linux";
    182 putpmsg => ENOSYS, "never in Linux";
    183 afs_syscall => ENOSYS, "never in Linux";
    184 tuxcall => ENOSYS, "never in Linux";
    185 security => ENOSYS, "never in Linux";
    205 set_thread_area => ENOSYS, "32-bit only";
    206 io_setup => ENOSYS, "no asynchronous I/O";
    207 io_destroy => ENOSYS, "no asynchronous I/O";
    208 io_getevents => ENOSYS, "no asynchronous I/O";
    209 io_submit => ENOSYS, "no asynchronous I/O";
    210 io_cancel => ENOSYS, "no asynchronous I/O";
    211 get_thread_area => ENOSYS, "32-bit only";
    212 lookup_dcookie => ENOSYS, "removed from Linux 6.7";
    214 epoll_ctl_old => ENOSYS, "never in Linux";
    215 epoll_wait_old => ENOSYS, "never in Linux";
    216 remap_file_pages => ENOSYS, "obsolete; mmap(2) does it";
    236 vserver => ENOSYS, "never in Linux";
    240 mq_open => ENOSYS, "no POSIX message queues";
    241 mq_unlink => ENOSYS, "no POSIX message queues";
    242 mq_timedsend => ENOSYS, "no POSIX message queues";
    243 mq_timedreceive => ENOSYS, "no POSIX message queues";
    244 mq_notify => ENOSYS, "no POSIX message queues";
    245 mq_getsetattr => ENOSYS, "no POSIX message queues";
    246 kexec_load => ENOSYS, "no other kernel to start";
    248 add_key => ENOSYS, "no key rings";
    249 request_key => ENOSYS, "no key rings";
    250 keyctl => ENOSYS, "no key rings";
    256 migrate_pages => ENOSYS, "one memory node";
    279 move_pages => ENOSYS, "one memory node";
    298 perf_event_open => ENOSYS, "no performance counters";
    300 fanotify_init => ENOSYS, "no fanotify";
    301 fanotify_mark => ENOSYS, "no fanotify";
    303 name_to_handle_at => EOPNOTSUPP, "no file handles";
    304 open_by_handle_at => EOPNOTSUPP, "no file handles";
    313 finit_module => ENOSYS, "no modules";
    317 seccomp => ENOSYS, "no filters";
    320 kexec_file_load => ENOSYS, "no other kernel to start";
    321 bpf => ENOSYS, "no BPF";
    323 userfaultfd => ENOSYS, "no user-space fault handling";
    333 io_pgetevents => ENOSYS, "no asynchronous I/O";
    335 uretprobe => ENOSYS, "no probes";
    425 io_uring_setup => ENOSYS, "no io_uring";
    426 io_uring_enter => ENOSYS, "no io_uring";
    427 io_uring_register => ENOSYS, "no io_uring";
    428 open_tree => ENOSYS, "mount(2) only";
    429 move_mount => ENOSYS, "mount(2) only";
    430 fsopen => ENOSYS, "mount(2) only";
    431 fsconfig => ENOSYS, "mount(2) only";
    432 fsmount => ENOSYS, "mount(2) only";
    433 fspick => ENOSYS, "mount(2) only";
    442 mount_setattr => ENOSYS, "mount(2) only";
    443 quotactl_fd => ENOSYS, "no quotas";
    444 landlock_create_ruleset => ENOSYS, "no Landlock";
    445 landlock_add_rule => ENOSYS, "no Landlock";
    446 landlock_restrict_self => ENOSYS, "no Landlock";
    447 memfd_secret => ENOSYS, "no secret memory";
    448 process_mrelease => ENOSYS, "an exiting process frees its memory itself";
    450 set_mempolicy_home_node => ENOSYS, "one memory node";
    451 cachestat => ENOSYS, "no statistics of the page cache";
    453 map_shadow_stack => ENOSYS, "no shadow stacks";
    454 futex_wake => ENOSYS, "futex(2) only";
    455 futex_wait => ENOSYS, "futex(2) only";
    456 futex_requeue => ENOSYS, "futex(2) only";
    457 statmount => ENOSYS, "/proc/self/mountinfo only";
    458 listmount => ENOSYS, "/proc/self/mountinfo only";
    459 lsm_get_self_attr => ENOSYS, "no security modules";
    460 lsm_set_self_attr => ENOSYS, "no security modules";
    461 lsm_list_modules => ENOSYS, "no security modules";
    462 mseal => ENOSYS, "no sealing of mappings";
}

/// First number of the gap that no system call has, and the first behind it.
pub const UNASSIGNED: core::ops::Range<u16> = 336..424;

type ByNumber = [Option<Call>; COUNT];

/// `t` with the calls of `rows`, none of them brief.
const fn enter(mut t: ByNumber, rows: &[Row]) -> ByNumber {
    let mut i = 0;
    while i < rows.len() {
        t[rows[i].nr as usize] = Some(Call {
            handler: rows[i].call,
            brief_below: 0,
        });
        i += 1;
    }
    t
}

const fn calls() -> ByNumber {
    let mut t = enter(enter([None; COUNT], CALLS), ABSENT);
    let mut i = 0;
    while i < BRIEF.len() {
        if let Some(call) = &mut t[BRIEF[i] as usize] {
            call.brief_below = u64::MAX;
        }
        i += 1;
    }
    i = 0;
    while i < MOVING.len() {
        if let Some(call) = &mut t[MOVING[i] as usize] {
            call.brief_below = BRIEF_BYTES + 1;
        }
        i += 1;
    }
    t
}

/// All calls by number.
pub static BY_NUMBER: ByNumber = calls();

/// The handler of number `nr`.
#[inline]
pub fn handler(nr: u64) -> Option<Handler> {
    let call = BY_NUMBER.get(usize::try_from(nr).ok()?)?.as_ref();
    call.map(|c| c.handler)
}

/// Calls that look something up: so short that their time is not worth a look at the clock.
const BRIEF: [u32; 18] = [
    abi::raw::__NR_fstat,
    abi::raw::__NR_lseek,
    abi::raw::__NR_dup,
    abi::raw::__NR_umask,
    abi::raw::__NR_rt_sigaction,
    abi::raw::__NR_rt_sigprocmask,
    abi::raw::__NR_sigaltstack,
    abi::raw::__NR_getpid,
    abi::raw::__NR_gettid,
    abi::raw::__NR_getppid,
    abi::raw::__NR_getpgrp,
    abi::raw::__NR_getuid,
    abi::raw::__NR_geteuid,
    abi::raw::__NR_getgid,
    abi::raw::__NR_getegid,
    abi::raw::__NR_getcpu,
    abi::raw::__NR_clock_gettime,
    abi::raw::__NR_gettimeofday,
];

/// Calls that are as short if they move few bytes.
const MOVING: [u32; 4] = [
    abi::raw::__NR_read,
    abi::raw::__NR_write,
    abi::raw::__NR_pread64,
    abi::raw::__NR_pwrite64,
];
const BRIEF_BYTES: u64 = 4096;

/// All rows, those of absent calls last.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    CALLS.iter().chain(ABSENT)
}

/// The row of number `nr`; for traces and logs.
pub fn row(nr: u64) -> Option<&'static Row> {
    rows().find(|r| u64::from(r.nr) == nr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn every_number_has_one_row() {
        let mut numbers: Vec<_> = rows().map(|r| r.nr).collect();
        numbers.sort_unstable();
        let expected: Vec<_> = (0..COUNT as u16)
            .filter(|n| !UNASSIGNED.contains(n))
            .collect();
        assert_eq!(numbers, expected);
    }

    /// Brief calls are carried out even when memory for the kernel is short.
    #[test]
    fn brief_calls_make_no_objects() {
        for nr in BRIEF.iter().chain(&MOVING) {
            assert!(!crate::shortage::makes_objects(*nr), "{nr}");
        }
    }

    #[test]
    fn names_are_those_of_linux() {
        // A sample across the table; the numbers are the exported headers'.
        for (nr, name) in [
            (abi::raw::__NR_read, "read"),
            (abi::raw::__NR_rt_sigreturn, "rt_sigreturn"),
            (abi::raw::__NR_getdents64, "getdents64"),
            (abi::raw::__NR_newfstatat, "newfstatat"),
            (abi::raw::__NR_prlimit64, "prlimit64"),
            (abi::raw::__NR_statx, "statx"),
            (abi::raw::__NR_clone3, "clone3"),
            (abi::raw::__NR_epoll_pwait2, "epoll_pwait2"),
            (abi::raw::__NR_fchmodat2, "fchmodat2"),
            (abi::raw::__NR_mseal, "mseal"),
        ] {
            assert_eq!(row(u64::from(nr)).map(|r| r.name), Some(name));
        }
    }

    #[test]
    fn numbers_outside_have_no_handler() {
        for nr in [336, 400, 423, COUNT as u64, 0x4000_0000, u64::MAX] {
            assert!(handler(nr).is_none(), "{nr}");
        }
        assert!(rows().all(|r| handler(u64::from(r.nr)).is_some()));
    }

    #[test]
    fn no_row_has_more_than_six_arguments() {
        assert!(rows().all(|r| r.args.len() <= 6));
    }
}
