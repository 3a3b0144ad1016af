//! What handlers ask of the caller: its memory, descriptors, places and limits.

use crate::args::{DirFd, Fd, In, PathPtr};
use abi::{Errno, Result, SigInfo, SigSet, raw};
use alloc::sync::Arc;
use alloc::vec::Vec;
use ipc::Ipc;
use mm::Mm;
use sync::Held;
use task::signal::SI_USER;
use task::{Ctx, Process, Task};
use vfs::namei::{Walk, WalkFlags};
use vfs::{File, Path};

/// `AT_FDCWD`, for calls without a directory argument.
pub const CWD: DirFd = DirFd(raw::AT_FDCWD);

/// The file behind a descriptor. [`Errno::EBADF`], also for O_PATH.
pub fn file(cx: &Ctx, fd: Fd) -> Result<Arc<File>> {
    cx.files().get_io(fd.0)
}

/// As [`file()`], for calls that close no descriptor.
#[inline]
pub fn hold(cx: &Ctx, fd: Fd) -> Result<Held<File>> {
    cx.hold(fd.0)
}

/// The file behind a descriptor, O_PATH included.
pub fn any_file(cx: &Ctx, fd: Fd) -> Result<Arc<File>> {
    cx.files().get(fd.0)
}

/// Identity of the descriptor table, which owns POSIX locks.
pub fn table_owner(cx: &Ctx) -> usize {
    Arc::as_ptr(cx.files()).addr()
}

/// Soft limit of a resource.
pub fn limit(cx: &Ctx, resource: u32) -> u64 {
    cx.process().rlimit(resource).cur
}

/// Whether the caller has a capability.
pub fn capable(cx: &Ctx, n: u32) -> bool {
    cx.cred().capable(n)
}

/// Copies a path in. [`Errno::EFAULT`], [`Errno::ENAMETOOLONG`].
pub fn path(cx: &Ctx, p: PathPtr) -> Result<Vec<u8>> {
    cx.mm().read_cstr(p.0, abi::io::PATH_MAX - 1)
}

/// Checks that a buffer lies in the addresses of a program, as Linux does before it looks. [`Errno::EFAULT`].
pub fn check_range(addr: u64, len: u64) -> Result {
    match addr.checked_add(len) {
        Some(end) if end <= mm::user::ADDR_END => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

/// A walk that starts at the working directory.
pub fn here(cx: &Ctx) -> Walk<'_> {
    Walk {
        cx,
        fs: cx.fs(),
        ns: cx.kernel().mounts(),
        base: None,
    }
}

/// The place of an open file. [`Errno::ENOTDIR`] if it has none (a pipe cannot start a walk).
pub fn place(f: &File) -> Result<Path> {
    f.path.clone().ok_or(Errno::ENOTDIR)
}

/// Copies a path in and finds it.
pub fn lookup(cx: &Ctx, dir: DirFd, p: PathPtr, flags: WalkFlags) -> Result<Path> {
    let name = path(cx, p)?;
    cx.walk_at(dir.0, &name)?.lookup(&name, flags)
}

/// Walk flags of `AT_SYMLINK_NOFOLLOW` and `AT_EMPTY_PATH`.
pub fn walk_flags(flags: u32) -> WalkFlags {
    let mut w = WalkFlags::empty();
    if flags & raw::AT_SYMLINK_NOFOLLOW == 0 {
        w |= WalkFlags::FOLLOW;
    }
    if flags & raw::AT_EMPTY_PATH != 0 {
        w |= WalkFlags::EMPTY;
    }
    w
}

/// The caller's memory.
pub fn mm(cx: &Ctx) -> &Arc<Mm> {
    cx.mm()
}

/// Sends a signal to the calling thread, as the kernel does for a limit or a broken pipe.
pub fn send_self(cx: &Ctx, signo: i32) {
    let info = SigInfo::from_process(signo, SI_USER, cx.process().pid(), cx.cred().uid, 0);
    task::signal::send_task(&cx.task().arc(), info);
}

/// The machine's pipes, event descriptors and epolls. [`Errno::ENOSYS`] if it has none.
pub fn ipc(cx: &Ctx) -> Result<Arc<Ipc>> {
    let slot = cx.kernel().slots.ipc.get().cloned();
    slot.and_then(|s| s.downcast::<Ipc>().ok())
        .ok_or(Errno::ENOSYS)
}

/// Runs a call with a signal mask of its own if `mask` is not NULL (ppoll, pselect, epoll_pwait).
pub fn with_mask<T>(
    cx: &Ctx,
    mask: In<SigSet>,
    size: u64,
    f: impl FnOnce() -> Result<T>,
) -> Result<T> {
    if mask.is_null() {
        return f();
    }
    if size != size_of::<SigSet>() as u64 {
        return Err(Errno::EINVAL);
    }
    let set = mask.get(cx.mm())?;
    task::signal::set_temporary_mask(cx.task(), set);
    let r = f();
    if !matches!(r, Err(Errno::EINTR | Errno::ERESTARTNOHAND)) {
        task::signal::restore_mask(cx.task());
    }
    r
}

/// The task `tid`, or the caller for 0. [`Errno::ESRCH`].
pub fn task_of(cx: &Ctx, tid: i32) -> Result<Arc<Task>> {
    if tid == 0 {
        return Ok(cx.task().arc());
    }
    cx.kernel().pids.task(tid).ok_or(Errno::ESRCH)
}

/// The process of thread `pid`, or the caller's for 0. [`Errno::ESRCH`].
pub fn process_of(cx: &Ctx, pid: i32) -> Result<Arc<Process>> {
    if pid == 0 {
        return Ok(cx.process().clone());
    }
    let task = cx.kernel().pids.task(pid).ok_or(Errno::ESRCH)?;
    Ok(task.process.clone())
}
