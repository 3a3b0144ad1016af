//! Descriptor flags, locks and generic device requests: fcntl(2), flock(2), ioctl(2).

use crate::args::{Fd, Hex};
use crate::cx::{self, mm};
use crate::flags::{FcntlArg, FcntlCmd, FlockOp, IoctlCmd};
use crate::memfd;
use abi::io::{FOwnerEx, Flock};
use abi::{Errno, Result};
use alloc::sync::Arc;
use task::Ctx;
use task::sigio::Async;
use vfs::file::{Caller, OwnerKind};
use vfs::locks::{self, LockKind, RangeLock};
use vfs::{File, FileType, OpenFlags};

type C = FcntlCmd;

const FD_CLOEXEC: i32 = 1;

/// Works on a descriptor: `fcntl(2)`.
pub fn sys_fcntl(cx: &Ctx, fd: Fd, cmd: FcntlCmd, arg: FcntlArg) -> Result<u64> {
    let f = cx::any_file(cx, fd)?;
    let arg = arg.0;
    match cmd.0 {
        C::F_DUPFD | C::F_DUPFD_CLOEXEC => {
            let min = arg as u32 as u64;
            let limit = cx::limit(cx, crate::flags::Resource::RLIMIT_NOFILE);
            if min >= limit || min > i32::MAX as u64 {
                return Err(Errno::EINVAL);
            }
            let cloexec = cmd.0 == C::F_DUPFD_CLOEXEC;
            let new = cx.files().install(f, min as i32, limit, cloexec)?;
            return Ok(new as u64);
        }
        C::F_DUPFD_QUERY => {
            let other = cx::any_file(cx, Fd(arg as i32))?;
            return Ok(u64::from(Arc::ptr_eq(&f, &other)));
        }
        C::F_GETFD => return Ok(if cx.files().cloexec(fd.0)? { 1 } else { 0 }),
        C::F_SETFD => {
            let on = arg as i32 & FD_CLOEXEC != 0;
            cx.files().set_cloexec(fd.0, on)?;
            return Ok(0);
        }
        C::F_GETFL => return Ok(u64::from(f.flags().bits())),
        _ => {}
    }
    if f.flags().contains(OpenFlags::PATH) {
        return Err(Errno::EBADF);
    }
    match cmd.0 {
        C::F_SETFL => set_flags(cx, fd, &f, OpenFlags::from_bits_retain(arg as u32)).map(|()| 0),
        C::F_GETLK | C::F_OFD_GETLK => get_lock(cx, &f, cmd, arg).map(|()| 0),
        C::F_SETLK | C::F_SETLKW | C::F_OFD_SETLK | C::F_OFD_SETLKW => {
            set_lock(cx, &f, cmd, arg).map(|()| 0)
        }
        C::F_GETOWN => {
            let o = *f.owner.lock();
            let sign = if o.kind == OwnerKind::Group { -1 } else { 1 };
            Ok((sign * i64::from(o.id)) as u64)
        }
        C::F_SETOWN => {
            let who = arg as i32;
            match who.checked_abs().ok_or(Errno::EINVAL)? {
                id if who < 0 => set_owner(cx, &f, OwnerKind::Group, id),
                id => set_owner(cx, &f, OwnerKind::Process, id),
            }
            .map(|()| 0)
        }
        C::F_GETOWN_EX => {
            let o = *f.owner.lock();
            let (kind, pid) = (o.kind as i32, o.id);
            mm(cx).put(arg, &FOwnerEx { kind, pid })?;
            Ok(0)
        }
        C::F_SETOWN_EX => {
            let ex: FOwnerEx = mm(cx).get(arg)?;
            if ex.pid < 0 {
                return Err(Errno::EINVAL);
            }
            let kind = match ex.kind {
                0 => OwnerKind::Thread,
                1 => OwnerKind::Process,
                2 => OwnerKind::Group,
                _ => return Err(Errno::EINVAL),
            };
            set_owner(cx, &f, kind, ex.pid).map(|()| 0)
        }
        C::F_GETOWNER_UIDS => {
            let ids = [f.cred.uid, f.cred.euid];
            mm(cx).put(arg, &ids)?;
            Ok(0)
        }
        C::F_GETSIG => Ok(f.owner.lock().signal as u64),
        C::F_SETSIG => {
            if arg > 64 {
                return Err(Errno::EINVAL);
            }
            f.owner.lock().signal = arg as i32;
            Ok(0)
        }
        // There are no leases: none is held, none is given.
        C::F_GETLEASE => Ok(2),
        C::F_SETLEASE => Err(if arg == 2 {
            Errno::EAGAIN
        } else {
            Errno::EINVAL
        }),
        C::F_SETPIPE_SZ => {
            let p = ipc::pipe::as_pipe(&f).ok_or(Errno::EBADF)?;
            Ok(p.pipe.set_size(cx, u64::from(arg as u32))? as u64)
        }
        C::F_GETPIPE_SZ => {
            let p = ipc::pipe::as_pipe(&f).ok_or(Errno::EBADF)?;
            Ok(p.pipe.size() as u64)
        }
        C::F_ADD_SEALS => {
            let seals = u32::try_from(arg).map_err(|_| Errno::EINVAL)?;
            memfd::add_seals(cx, &f, seals).map(|()| 0)
        }
        C::F_GET_SEALS => memfd::seals(&f).map(u64::from),
        C::F_GET_RW_HINT => {
            mm(cx).put(arg, &0u64)?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// F_SETFL. O_NOATIME is for the owner. [`Errno::EPERM`].
fn set_flags(cx: &Ctx, fd: Fd, f: &Arc<File>, mut new: OpenFlags) -> Result {
    if new.difference(f.flags()).contains(OpenFlags::NOATIME) && !cx.cred().owns(f.inode.perm()?) {
        return Err(Errno::EPERM);
    }
    // Only what others make ready can tell of it.
    if !matches!(
        f.inode.file_type(),
        FileType::Fifo | FileType::Socket | FileType::Char
    ) {
        new.remove(OpenFlags::ASYNC);
    }
    f.set_flags(new)?;
    let mut signals = f.signals.lock();
    if !new.contains(OpenFlags::ASYNC) {
        *signals = None;
    } else if signals.is_none() {
        // A terminal tells its user, even unasked.
        if f.inode.file_type() == FileType::Char && f.owner.lock().id == 0 {
            set_owner(cx, f, OwnerKind::Process, cx.process().pid())?;
        }
        *signals = Some(Async::new(cx.kernel(), f, fd.0));
    }
    Ok(())
}

/// F_SETOWN. [`Errno::ESRCH`].
fn set_owner(cx: &Ctx, f: &File, kind: OwnerKind, id: i32) -> Result {
    let pids = &cx.kernel().pids;
    let exists = match kind {
        _ if id == 0 => true,
        OwnerKind::Group => pids.group_exists(id),
        _ => pids.task(id).is_some(),
    };
    if !exists {
        return Err(Errno::ESRCH);
    }
    let cred = cx.cred();
    let mut o = f.owner.lock();
    (o.kind, o.id, o.uid, o.euid) = (kind, id, cred.uid, cred.euid);
    Ok(())
}

/// `struct flock` as a range. [`Errno::EINVAL`], [`Errno::EOVERFLOW`].
fn range(cx: &Ctx, f: &Arc<File>, l: &Flock, ofd: bool) -> Result<RangeLock> {
    let base = match l.whence {
        0 => 0,
        1 => i64::try_from(*f.pos.lock()).map_err(|_| Errno::EOVERFLOW)?,
        2 => i64::try_from(f.inode.attr()?.size).map_err(|_| Errno::EOVERFLOW)?,
        _ => return Err(Errno::EINVAL),
    };
    let start = base.checked_add(l.start).ok_or(Errno::EOVERFLOW)?;
    if start < 0 {
        return Err(Errno::EINVAL);
    }
    let (start, end) = match l.len {
        0 => (start, u64::MAX),
        n if n > 0 => (
            start,
            start.checked_add(n - 1).ok_or(Errno::EOVERFLOW)? as u64,
        ),
        n => {
            let first = start.checked_add(n).ok_or(Errno::EINVAL)?;
            if first < 0 {
                return Err(Errno::EINVAL);
            }
            (first, (start - 1) as u64)
        }
    };
    let kind = match l.kind {
        0 => LockKind::Read,
        1 => LockKind::Write,
        2 => LockKind::Unlock,
        _ => return Err(Errno::EINVAL),
    };
    Ok(RangeLock {
        kind,
        start: start as u64,
        end,
        owner: if ofd {
            locks::ofd_owner(f)
        } else {
            cx::table_owner(cx)
        },
        pid: if ofd { -1 } else { cx.pid() },
    })
}

fn get_lock(cx: &Ctx, f: &Arc<File>, cmd: FcntlCmd, arg: u64) -> Result {
    let ofd = cmd.0 == C::F_OFD_GETLK;
    let mm = mm(cx);
    let mut l: Flock = mm.get(arg)?;
    if !matches!(l.kind, 0 | 1) || ofd && l.pid != 0 {
        return Err(Errno::EINVAL);
    }
    match locks::get_range(f, range(cx, f, &l, ofd)?)? {
        None => l.kind = 2,
        Some(held) => {
            l.kind = if held.kind == LockKind::Read { 0 } else { 1 };
            l.whence = 0;
            l.start = held.start as i64;
            l.len = if held.end >= i64::MAX as u64 {
                0
            } else {
                (held.end - held.start + 1) as i64
            };
            l.pid = held.pid;
        }
    }
    mm.put(arg, &l)
}

fn set_lock(cx: &Ctx, f: &Arc<File>, cmd: FcntlCmd, arg: u64) -> Result {
    let ofd = matches!(cmd.0, C::F_OFD_SETLK | C::F_OFD_SETLKW);
    let wait = matches!(cmd.0, C::F_SETLKW | C::F_OFD_SETLKW);
    let l: Flock = mm(cx).get(arg)?;
    if ofd && l.pid != 0 {
        return Err(Errno::EINVAL);
    }
    let lock = range(cx, f, &l, ofd)?;
    match lock.kind {
        LockKind::Read if !f.flags().readable() => return Err(Errno::EBADF),
        LockKind::Write if !f.flags().writable() => return Err(Errno::EBADF),
        _ => {}
    }
    locks::set_range(f, lock, wait)
}

/// Locks a whole file: `flock(2)`.
pub fn sys_flock(cx: &Ctx, fd: Fd, op: FlockOp) -> Result {
    let kind = match op.0 & !FlockOp::LOCK_NB {
        FlockOp::LOCK_SH => LockKind::Read,
        FlockOp::LOCK_EX => LockKind::Write,
        FlockOp::LOCK_UN => LockKind::Unlock,
        _ => return Err(Errno::EINVAL),
    };
    let f = cx::file(cx, fd)?;
    locks::flock(&f, kind, !op.has(FlockOp::LOCK_NB))
}

/// Asks a device: `ioctl(2)`. What does not depend on the device is done here.
pub fn sys_ioctl(cx: &Ctx, fd: Fd, request: IoctlCmd, arg: Hex) -> Result<u64> {
    type R = IoctlCmd;
    let f = cx::file(cx, fd)?;
    let arg = arg.0;
    let mm = mm(cx);
    let kind = f.inode.file_type();
    match request.0 {
        R::FIOCLEX | R::FIONCLEX => {
            cx.files().set_cloexec(fd.0, request.0 == R::FIOCLEX)?;
        }
        R::FIONBIO => switch(cx, fd, &f, OpenFlags::NONBLOCK, mm.get::<i32>(arg)?)?,
        R::FIOASYNC => switch(cx, fd, &f, OpenFlags::ASYNC, mm.get::<i32>(arg)?)?,
        R::FIOQSIZE => match kind {
            FileType::Regular | FileType::Dir | FileType::Symlink => {
                mm.put(arg, &f.inode.attr()?.size)?;
            }
            _ => return Err(Errno::ENOTTY),
        },
        R::FIGETBSZ if matches!(kind, FileType::Regular | FileType::Dir) => {
            mm.put(arg, &(f.inode.attr()?.blksize as i32))?;
        }
        R::FIONREAD if kind == FileType::Regular => {
            let left = f.inode.attr()?.size as i64 - *f.pos.lock() as i64;
            mm.put(arg, &(left as i32))?;
        }
        // No file here shares blocks.
        R::FICLONE if kind == FileType::Regular => return Err(Errno::EOPNOTSUPP),
        cmd => return f.ops.ioctl(&f, cx, cmd, arg),
    }
    Ok(0)
}

fn switch(cx: &Ctx, fd: Fd, f: &Arc<File>, flag: OpenFlags, on: i32) -> Result {
    let mut flags = f.flags();
    flags.set(flag, on != 0);
    set_flags(cx, fd, f, flags)
}
