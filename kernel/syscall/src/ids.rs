//! Who is who: process and thread ids, process groups, sessions; kcmp(2).

use crate::args::Ptr;
use crate::cx::{self, process_of};
use crate::flags::KcmpType;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use task::{Ctx, Task};

/// Process id: `getpid(2)`.
pub fn sys_getpid(cx: &Ctx) -> Result<i32> {
    Ok(cx.process().pid())
}

/// Thread id: `gettid(2)`.
pub fn sys_gettid(cx: &Ctx) -> Result<i32> {
    Ok(cx.task().tid())
}

/// Parent's process id: `getppid(2)`.
pub fn sys_getppid(cx: &Ctx) -> Result<i32> {
    Ok(cx.process().ppid())
}

/// Process group of the caller: `getpgrp(2)`.
pub fn sys_getpgrp(cx: &Ctx) -> Result<i32> {
    Ok(cx.process().pgid())
}

/// Process group of a process: `getpgid(2)`.
pub fn sys_getpgid(cx: &Ctx, pid: i32) -> Result<i32> {
    Ok(process_of(cx, pid)?.pgid())
}

/// Moves a process to a group: `setpgid(2)`.
pub fn sys_setpgid(cx: &Ctx, pid: i32, pgid: i32) -> Result {
    cx.kernel().pids.setpgid(cx.process(), pid, pgid)
}

/// Session of a process: `getsid(2)`.
pub fn sys_getsid(cx: &Ctx, pid: i32) -> Result<i32> {
    Ok(process_of(cx, pid)?.sid())
}

/// Starts a session: `setsid(2)`.
pub fn sys_setsid(cx: &Ctx) -> Result<i32> {
    cx.kernel().pids.setsid(cx.process())
}

/// Notes the word to clear at the end of the thread: `set_tid_address(2)`.
pub fn sys_set_tid_address(cx: &Ctx, tidptr: Ptr) -> Result<i32> {
    cx.task().clear_child_tid.store(tidptr.0, Ordering::Relaxed);
    Ok(cx.task().tid())
}

/// Orders two objects by identity as kcmp(2) does: 0 equal, 1 less, 2 greater.
fn order<T: ?Sized>(a: &Arc<T>, b: &Arc<T>) -> i32 {
    // The order must be stable, but must not show addresses.
    const SCRAMBLE: usize = 0x9e37_79b9_7f4a_7c15;
    let key = |p: *const ()| p.addr().wrapping_mul(SCRAMBLE);
    let (a, b) = (key(Arc::as_ptr(a).cast()), key(Arc::as_ptr(b).cast()));
    match a.cmp(&b) {
        core::cmp::Ordering::Equal => 0,
        core::cmp::Ordering::Less => 1,
        core::cmp::Ordering::Greater => 2,
    }
}

/// Whether two processes share something: `kcmp(2)`.
pub fn sys_kcmp(
    cx: &Ctx,
    pid1: i32,
    pid2: i32,
    kind: KcmpType,
    idx1: u64,
    idx2: u64,
) -> Result<i32> {
    type K = KcmpType;
    let find = |pid: i32| -> Result<Arc<Task>> {
        if pid <= 0 {
            return Err(Errno::ESRCH);
        }
        cx::task_of(cx, pid)
    };
    let (a, b) = (find(pid1)?, find(pid2)?);
    for t in [&a, &b] {
        if !task::cred::may_inspect(cx.task(), t) {
            return Err(Errno::EPERM);
        }
    }
    let both = |r: Option<i32>| r.ok_or(Errno::ESRCH);
    match kind.0 {
        K::KCMP_FILE => {
            let file = |t: &Task, i: u64| {
                let fd = i32::try_from(i).map_err(|_| Errno::EBADF)?;
                t.files().ok_or(Errno::EBADF)?.get(fd)
            };
            Ok(order(&file(&a, idx1)?, &file(&b, idx2)?))
        }
        K::KCMP_VM => both(a.mm().zip(b.mm()).map(|(x, y)| order(&x, &y))),
        K::KCMP_FILES => both(a.files().zip(b.files()).map(|(x, y)| order(&x, &y))),
        K::KCMP_FS => both(a.fs().zip(b.fs()).map(|(x, y)| order(&x, &y))),
        K::KCMP_SIGHAND => Ok(order(&a.process.sighand(), &b.process.sighand())),
        K::KCMP_IO | K::KCMP_SYSVSEM => Err(Errno::EOPNOTSUPP),
        _ => Err(Errno::EINVAL),
    }
}
