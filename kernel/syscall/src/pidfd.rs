//! Processes as descriptors: pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2), process_madvise(2).

use crate::args::{Fd, In, Sig};
use crate::cx::{self, mm};
use crate::flags::{Madvice, PidfdFlags};
use abi::io::{IOV_MAX, IoVec};
use abi::{Errno, Result, SigInfo};
use alloc::sync::Arc;
use task::{Ctx, Task, pidfd};
use vfs::cred::cap;

/// Opens a process: `pidfd_open(2)`.
pub fn sys_pidfd_open(cx: &Ctx, pid: i32, flags: PidfdFlags) -> Result<i32> {
    type F = PidfdFlags;
    if flags.beyond(F::PIDFD_NONBLOCK) || pid <= 0 {
        return Err(Errno::EINVAL);
    }
    let file = pidfd::open(cx, pid, flags.has(F::PIDFD_NONBLOCK))?;
    cx.install(file, true)
}

/// Sends a signal to an open process: `pidfd_send_signal(2)`.
pub fn sys_pidfd_send_signal(cx: &Ctx, fd: Fd, sig: Sig, info: In<SigInfo>, flags: u32) -> Result {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let f = cx::file(cx, fd)?;
    let info = info.get_opt(mm(cx))?;
    if info.is_some_and(|i| i.signo != sig.0) {
        return Err(Errno::EINVAL);
    }
    pidfd::send_signal(cx, &f, sig.0, info)
}

/// A living thread of an open process.
fn thread(cx: &Ctx, fd: Fd) -> Result<Arc<Task>> {
    let f = cx::file(cx, fd)?;
    pidfd::process_of(&f)?.any_thread().ok_or(Errno::ESRCH)
}

/// Duplicates a descriptor of another process: `pidfd_getfd(2)`.
pub fn sys_pidfd_getfd(cx: &Ctx, fd: Fd, target: i32, flags: u32) -> Result<i32> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let t = thread(cx, fd)?;
    if !task::cred::may_inspect(cx.task(), &t) {
        return Err(Errno::EPERM);
    }
    let file = t.files().ok_or(Errno::ESRCH)?.get(target)?;
    cx.install(file, true)
}

/// Gives advice about memory of another process: `process_madvise(2)`. Returns the bytes advised.
pub fn sys_process_madvise(
    cx: &Ctx,
    fd: Fd,
    iov: In<IoVec>,
    vlen: u64,
    advice: Madvice,
    flags: u32,
) -> Result<u64> {
    if flags != 0 || vlen > IOV_MAX as u64 {
        return Err(Errno::EINVAL);
    }
    let list = iov.get_vec(mm(cx), vlen as usize, IOV_MAX, Errno::EINVAL)?;
    let t = thread(cx, fd)?;
    type A = Madvice;
    match advice.0 {
        A::MADV_COLD | A::MADV_PAGEOUT | A::MADV_WILLNEED | A::MADV_COLLAPSE => {}
        _ => return Err(Errno::EINVAL),
    }
    if !task::cred::may_inspect(cx.task(), &t) {
        return Err(Errno::EPERM);
    }
    if !Arc::ptr_eq(&t.process, cx.process()) {
        cx.require(cap::SYS_NICE)?;
    }
    let target = t.mm().ok_or(Errno::ESRCH)?;
    let mut done = 0u64;
    for v in list {
        match crate::mem::advise(&target, v.base, v.len, advice) {
            Ok(()) => done = done.saturating_add(v.len),
            Err(e) if done == 0 => return Err(e),
            Err(_) => break,
        }
    }
    Ok(done)
}
