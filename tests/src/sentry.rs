//! Watches over a run from outside: which host calls do guests get through?
//!
//! The run is started under a seccomp filter that hands calls from guest addresses and
//! from the engine's part of user processes to this process. The host applies the
//! severest answer of all filters, and a trap or a kill by the engine's own is
//! severer: so what arrives here is what the engine would have let through.

use crate::machine::Run;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::sync::mpsc::{Receiver, channel};

const ALLOW: u32 = 0x7fff_0000;
const NOTIFY: u32 = 0x7fc0_0000;
/// End of the addresses of guests.
const USER_END: u64 = 0x5000_0000_0000;
const VSYSCALL: u64 = 0xffff_ffff_ff60_0000;

/// Where the engine's code makes its host calls, in their order there.
#[derive(Clone, Copy, Debug)]
pub struct Sites {
    /// The region of the engine in user processes.
    pub region: (u64, u64),
    /// Behind the call of the interpreter of lists, for the mapper and for new threads.
    pub interpret: u64,
    /// Behind the mapper's wait.
    pub mapper: u64,
    /// Behind a thread's report.
    pub wake: u64,
    /// Behind a thread's wait.
    pub wait: u64,
    /// Behind the return from a signal.
    pub sigreturn: u64,
}

/// A host call that a guest thread got through.
#[derive(Clone, Copy, Debug)]
pub struct Escape {
    /// Its number.
    pub nr: i32,
    /// Its instruction set.
    pub arch: u32,
    /// Where it was made.
    pub ip: u64,
    /// Its first arguments.
    pub args: [u64; 3],
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// Calls that must not be.
    pub escapes: Vec<Escape>,
    /// Calls by lists, as they should be.
    pub lists: u64,
}

/// Jumps of the filter: indices of instructions, patched when all are there.
struct Filter(Vec<libc::sock_filter>);

impl Filter {
    fn push(&mut self, code: u16, k: u32) -> usize {
        let insn = libc::sock_filter {
            code,
            jt: 0,
            jf: 0,
            k,
        };
        self.0.push(insn);
        self.0.len() - 1
    }
    fn load(&mut self, at: u32) {
        self.push(0x20, at);
    }
    /// Answers `verdict` if the number at `at` is in `[from, to)`, all in one block of 4 GiB.
    fn range(&mut self, from: u64, to: u64, body: impl FnOnce(&mut Filter)) {
        self.load(12);
        let high = self.push(0x15, (from >> 32) as u32);
        self.load(8);
        let low = self.push(0x35, from as u32);
        let end = self.push(0x25, (to - 1) as u32);
        let begin = self.0.len();
        body(self);
        let n = (self.0.len() - begin) as u8;
        self.0[high].jf = n + 3;
        self.0[low].jf = n + 1;
        self.0[end].jt = n;
    }
    fn answer(&mut self, verdict: u32) {
        self.push(0x06, verdict);
    }
    /// Allows call `nr` that returns to `ip`.
    fn site(&mut self, ip: u64, nr: libc::c_long) {
        self.load(8);
        let here = self.push(0x15, ip as u32);
        self.load(4);
        let native = self.push(0x15, 0xc000_003e);
        self.load(0);
        let same = self.push(0x15, nr as u32);
        self.answer(ALLOW);
        self.0[here].jf = 5;
        self.0[native].jf = 3;
        self.0[same].jf = 1;
    }
}

fn filter(s: &Sites) -> Vec<libc::sock_filter> {
    let mut f = Filter(vec![]);
    f.range(s.region.0, s.region.1, |f| {
        f.site(s.mapper, libc::SYS_futex);
        f.site(s.wake, libc::SYS_futex);
        f.site(s.wait, libc::SYS_futex);
        f.site(s.sigreturn, libc::SYS_rt_sigreturn);
        f.answer(NOTIFY);
    });
    f.range(VSYSCALL, VSYSCALL + 0x1000, |f| f.answer(NOTIFY));
    // Below the end of guest addresses.
    f.load(12);
    let above = f.push(0x35, (USER_END >> 32) as u32);
    f.answer(NOTIFY);
    f.answer(ALLOW);
    f.0[above].jt = 1;
    f.0
}

/// Layout of `struct seccomp_notif`, and of the answer.
#[repr(C)]
#[derive(Default)]
struct Notification {
    id: u64,
    pid: u32,
    flags: u32,
    nr: i32,
    arch: u32,
    ip: u64,
    args: [u64; 6],
}

#[repr(C)]
struct Answer {
    id: u64,
    val: i64,
    error: i32,
    flags: u32,
}

const RECV: libc::c_ulong = 0xc050_2100;
const SEND: libc::c_ulong = 0xc018_2101;
const CONTINUE: u32 = 1;

/// Lets `run` be watched; the report comes when all its processes have ended.
pub fn watch(run: &mut Run, sites: Sites) -> std::io::Result<Receiver<Report>> {
    let mut pair = [0; 2];
    // SAFETY: fills the array.
    if unsafe {
        libc::socketpair(
            libc::AF_UNIX,
            libc::SOCK_STREAM | libc::SOCK_CLOEXEC,
            0,
            pair.as_mut_ptr(),
        )
    } != 0
    {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: both are new and nobody else's.
    let (ours, theirs) = unsafe { (OwnedFd::from_raw_fd(pair[0]), OwnedFd::from_raw_fd(pair[1])) };
    let program = filter(&sites);
    let end = theirs.as_raw_fd();
    // SAFETY: raw calls only, on memory that the closure owns.
    unsafe {
        run.raw().pre_exec(move || {
            let p = libc::sock_fprog {
                len: program.len() as u16,
                filter: program.as_ptr().cast_mut(),
            };
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            let listener = libc::syscall(libc::SYS_seccomp, 1, 8, &raw const p);
            if listener < 0 {
                return Err(std::io::Error::last_os_error());
            }
            send_fd(end, listener as i32);
            Ok(())
        });
    }
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let Some(listener) = receive_fd(ours.as_raw_fd()) else {
            return;
        };
        let _ = tell.send(listen(listener.as_raw_fd(), &sites));
    });
    // The other end is inherited by the child; ours must stay until it is started.
    std::mem::forget(theirs);
    Ok(told)
}

/// Answers calls until nobody is left who could make one.
fn listen(fd: i32, sites: &Sites) -> Report {
    let mut report = Report::default();
    loop {
        let mut p = libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one valid entry.
        if unsafe { libc::poll(&mut p, 1, -1) } < 0 {
            continue;
        }
        if p.revents & libc::POLLIN == 0 {
            return report;
        }
        let mut n = Notification::default();
        // SAFETY: the structure has the size that the request's number tells.
        if unsafe { libc::ioctl(fd, RECV, &raw mut n) } != 0 {
            continue;
        }
        let fine = n.ip == sites.interpret && is_of_a_list(n.pid as i32, n.nr);
        if fine {
            report.lists += 1;
        } else if report.escapes.len() < 20 {
            report.escapes.push(Escape {
                nr: n.nr,
                arch: n.arch,
                ip: n.ip,
                args: [n.args[0], n.args[1], n.args[2]],
            });
        }
        let answer = Answer {
            id: n.id,
            val: 0,
            error: if fine { 0 } else { -libc::EPERM },
            flags: if fine { CONTINUE } else { 0 },
        };
        // SAFETY: as above. The caller may have died meanwhile.
        unsafe { libc::ioctl(fd, SEND, &raw const answer) };
    }
}

/// Whether the interpreter of lists may make this call: anything of its own in a process's first
/// thread; in others only what they start with.
fn is_of_a_list(tid: i32, nr: i32) -> bool {
    let start = [
        libc::SYS_rt_sigprocmask,
        libc::SYS_sigaltstack,
        libc::SYS_close_range,
        libc::SYS_seccomp,
        libc::SYS_exit_group,
    ];
    let mapper = [
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mprotect,
        libc::SYS_pwrite64,
        libc::SYS_futex,
        libc::SYS_clone,
        libc::SYS_prctl,
        libc::SYS_getppid,
        libc::SYS_exit_group,
    ];
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
    let group = status.lines().find_map(|l| l.strip_prefix("Tgid:"));
    let first = group.is_none_or(|g| g.trim() == tid.to_string());
    let nr = libc::c_long::from(nr);
    start.contains(&nr) || (first && mapper.contains(&nr))
}

/// Passes a descriptor on. Raw calls only.
fn send_fd(socket: i32, fd: i32) {
    let mut control = [0u64; 3];
    let mut byte = 0u8;
    let mut data = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    // SAFETY: all-zero is an empty message; the pointers are to locals of sufficient size.
    unsafe {
        let mut m: libc::msghdr = std::mem::zeroed();
        m.msg_iov = &mut data;
        m.msg_iovlen = 1;
        m.msg_control = control.as_mut_ptr().cast();
        m.msg_controllen = libc::CMSG_LEN(4) as usize;
        let c = libc::CMSG_FIRSTHDR(&m);
        (*c).cmsg_level = libc::SOL_SOCKET;
        (*c).cmsg_type = libc::SCM_RIGHTS;
        (*c).cmsg_len = libc::CMSG_LEN(4) as usize;
        libc::CMSG_DATA(c).cast::<i32>().write_unaligned(fd);
        libc::sendmsg(socket, &m, 0);
    }
}

fn receive_fd(socket: i32) -> Option<OwnedFd> {
    let mut control = [0u64; 3];
    let mut byte = 0u8;
    let mut data = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    // SAFETY: as in `send_fd`; the descriptor received is ours.
    unsafe {
        let mut m: libc::msghdr = std::mem::zeroed();
        m.msg_iov = &mut data;
        m.msg_iovlen = 1;
        m.msg_control = control.as_mut_ptr().cast();
        m.msg_controllen = size_of_val(&control);
        if libc::recvmsg(socket, &mut m, libc::MSG_CMSG_CLOEXEC) != 1 {
            return None;
        }
        let c = libc::CMSG_FIRSTHDR(&m);
        if c.is_null() || (*c).cmsg_type != libc::SCM_RIGHTS {
            return None;
        }
        let fd = libc::CMSG_DATA(c).cast::<i32>().read_unaligned();
        Some(OwnedFd::from_raw_fd(fd))
    }
}
