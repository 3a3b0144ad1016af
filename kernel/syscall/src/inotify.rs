//! Events on files: inotify(7).

use crate::args::{Fd, PathPtr};
use crate::cx;
use crate::flags::{InotifyFlags, InotifyMask};
use abi::{Errno, Result};
use ipc::inotify::as_inotify;
use task::Ctx;
use vfs::namei::WalkFlags;

/// Makes an instance: `inotify_init(2)`.
pub fn sys_inotify_init(cx: &Ctx) -> Result<i32> {
    sys_inotify_init1(cx, InotifyFlags(0))
}

/// Makes an instance, with flags: `inotify_init1(2)`.
pub fn sys_inotify_init1(cx: &Ctx, flags: InotifyFlags) -> Result<i32> {
    type F = InotifyFlags;
    if flags.beyond(F::ALL) {
        return Err(Errno::EINVAL);
    }
    let file = cx::ipc(cx)?.inotify(cx, flags.0 & !F::IN_CLOEXEC)?;
    cx.install(file, flags.has(F::IN_CLOEXEC))
}

/// Watches a file: `inotify_add_watch(2)`.
pub fn sys_inotify_add_watch(cx: &Ctx, fd: Fd, path: PathPtr, mask: InotifyMask) -> Result<i32> {
    type M = InotifyMask;
    const EVENTS: u32 = 0xfff;
    if !mask.has(EVENTS) {
        return Err(Errno::EINVAL);
    }
    let f = cx::file(cx, fd)?;
    if mask.has(M::IN_MASK_ADD) && mask.has(M::IN_MASK_CREATE) {
        return Err(Errno::EINVAL);
    }
    let instance = as_inotify(&f).ok_or(Errno::EINVAL)?;
    let mut walk = WalkFlags::empty();
    if !mask.has(M::IN_DONT_FOLLOW) {
        walk |= WalkFlags::FOLLOW;
    }
    if mask.has(M::IN_ONLYDIR) {
        walk |= WalkFlags::DIRECTORY;
    }
    let p = cx::lookup(cx, cx::CWD, path, walk)?;
    // R_OK.
    cx::here(cx).access(&p, 4, false)?;
    instance.add_watch(&p, mask.0)
}

/// Stops watching: `inotify_rm_watch(2)`.
pub fn sys_inotify_rm_watch(cx: &Ctx, fd: Fd, wd: i32) -> Result {
    let f = cx::file(cx, fd)?;
    as_inotify(&f).ok_or(Errno::EINVAL)?.remove_watch(wd)
}
