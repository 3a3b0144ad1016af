//! Opening, closing and duplicating descriptors: open(2), openat2(2), close(2), dup(2), close_range(2), memfd_create(2).

use crate::args::{DirFd, Fd, In, Mode, PathPtr};
use crate::cx::{self, CWD, mm};
use crate::flags::{CloneFlags, CloseRangeFlags, DupFlags, OpenArg, OpenMode, Resource};
use abi::io::OpenHow;
use abi::{Errno, Result};
use task::Ctx;
use vfs::OpenFlags;
use vfs::fdtable::close_file;
use vfs::namei::WalkFlags;
use zerocopy::{FromZeros, IntoBytes};

/// Permission bits that open(2) takes.
const MODE_BITS: u32 = 0o7777;
/// Flags that mean something together with O_PATH.
const PATH_FLAGS: OpenFlags = OpenFlags::DIRECTORY
    .union(OpenFlags::NOFOLLOW)
    .union(OpenFlags::PATH)
    .union(OpenFlags::CLOEXEC);
/// All flags of open(2), the access mode included.
const OPEN_FLAGS: u32 = 0o3 | 0o37777700;

/// Opens a file: `open(2)`.
pub fn sys_open(cx: &Ctx, path: PathPtr, flags: OpenArg, mode: OpenMode) -> Result<i32> {
    sys_openat(cx, CWD, path, flags, mode)
}

/// Creates a file: `creat(2)`.
pub fn sys_creat(cx: &Ctx, path: PathPtr, mode: Mode) -> Result<i32> {
    let flags = OpenFlags::CREAT | OpenFlags::WRONLY | OpenFlags::TRUNC;
    sys_openat(cx, CWD, path, OpenArg(flags.bits()), OpenMode(mode.0))
}

/// Opens a file relative to a directory: `openat(2)`. Unknown flags are ignored.
pub fn sys_openat(
    cx: &Ctx,
    dir: DirFd,
    path: PathPtr,
    flags: OpenArg,
    mode: OpenMode,
) -> Result<i32> {
    let mut flags = OpenFlags::from_bits_retain(flags.0 & OPEN_FLAGS) | OpenFlags::LARGEFILE;
    if flags.contains(OpenFlags::PATH) {
        flags &= PATH_FLAGS;
    }
    let creates = flags.intersects(OpenFlags::CREAT | OpenFlags::TMPFILE);
    let mode = if creates { mode.0 & MODE_BITS } else { 0 };
    open(cx, dir, path, flags, mode, WalkFlags::empty())
}

fn check_flags(flags: OpenFlags) -> Result {
    if flags.contains(OpenFlags::TMPFILE)
        && (!flags.contains(OpenFlags::DIRECTORY)
            || !flags.writable()
            || flags.contains(OpenFlags::CREAT))
    {
        return Err(Errno::EINVAL);
    }
    if flags.contains(OpenFlags::CREAT | OpenFlags::DIRECTORY) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

fn open(
    cx: &Ctx,
    dir: DirFd,
    path: PathPtr,
    mut flags: OpenFlags,
    mode: u32,
    walk: WalkFlags,
) -> Result<i32> {
    check_flags(flags)?;
    if flags.contains(OpenFlags::SYNC) {
        flags |= OpenFlags::DSYNC;
    }
    let name = cx::path(cx, path)?;
    // Nothing is made, truncated or waited for if there is no number for it.
    let limit = cx::limit(cx, crate::flags::Resource::RLIMIT_NOFILE);
    if !name.is_empty() {
        cx.files().check_room(limit)?;
    }
    // With a root of its own even an absolute path starts at the directory.
    let scoped = walk.intersects(WalkFlags::BENEATH | WalkFlags::IN_ROOT);
    let at = if scoped {
        cx.walk(dir.0)?
    } else {
        cx.walk_at(dir.0, &name)?
    };
    let file = at.open(&name, flags, mode, walk)?;
    cx.install(file, flags.contains(OpenFlags::CLOEXEC))
}

/// Opens a file with resolution rules: `openat2(2)`.
pub fn sys_openat2(
    cx: &Ctx,
    dir: DirFd,
    path: PathPtr,
    how: In<OpenHow>,
    size: u64,
) -> Result<i32> {
    let how = sized::<OpenHow>(cx, how.0, size, 24)?;
    if how.flags & !u64::from(OPEN_FLAGS) != 0 {
        return Err(Errno::EINVAL);
    }
    let flags = OpenFlags::from_bits_retain(how.flags as u32);
    if how.mode & !u64::from(MODE_BITS) != 0 {
        return Err(Errno::EINVAL);
    }
    if how.mode != 0 && !flags.intersects(OpenFlags::CREAT | OpenFlags::TMPFILE) {
        return Err(Errno::EINVAL);
    }
    if flags.contains(OpenFlags::PATH) && !flags.difference(PATH_FLAGS).is_empty() {
        return Err(Errno::EINVAL);
    }
    let mut walk = WalkFlags::empty();
    for (bit, w) in [
        (1, WalkFlags::NO_XDEV),
        (2, WalkFlags::NO_MAGICLINKS),
        (4, WalkFlags::NO_SYMLINKS),
        (8, WalkFlags::BENEATH),
        (16, WalkFlags::IN_ROOT),
    ] {
        if how.resolve & bit != 0 {
            walk |= w;
        }
    }
    // RESOLVE_CACHED: whether a walk would wait is not known.
    if how.resolve & !0x3f != 0 || walk.contains(WalkFlags::BENEATH | WalkFlags::IN_ROOT) {
        return Err(Errno::EINVAL);
    }
    if how.resolve & 0x20 != 0 {
        return Err(Errno::EAGAIN);
    }
    open(
        cx,
        dir,
        path,
        flags | OpenFlags::LARGEFILE,
        how.mode as u32,
        walk,
    )
}

/// Copies in a structure that grows over time (clone3, openat2): sizes up to a
/// page, unknown members zero. [`Errno::EINVAL`] below `least` bytes, [`Errno::E2BIG`].
pub fn sized<T: FromZeros + IntoBytes + zerocopy::FromBytes>(
    cx: &Ctx,
    addr: u64,
    size: u64,
    least: usize,
) -> Result<T> {
    let size = usize::try_from(size).map_err(|_| Errno::E2BIG)?;
    if size < least {
        return Err(Errno::EINVAL);
    }
    if size > hal::PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    let mm = mm(cx);
    let mut v = T::new_zeroed();
    let known = size.min(size_of::<T>());
    mm.read(addr, &mut v.as_mut_bytes()[..known])?;
    let mut rest = [0u8; 256];
    let mut at = known;
    while at < size {
        let n = (size - at).min(rest.len());
        mm.read(addr.wrapping_add(at as u64), &mut rest[..n])?;
        if rest[..n].iter().any(|b| *b != 0) {
            return Err(Errno::E2BIG);
        }
        at += n;
    }
    Ok(v)
}

/// Closes a descriptor: `close(2)`.
pub fn sys_close(cx: &Ctx, fd: Fd) -> Result {
    let file = cx.files().remove(fd.0)?;
    close_file(file, cx::table_owner(cx));
    Ok(())
}

/// Closes a range of descriptors: `close_range(2)`.
pub fn sys_close_range(cx: &Ctx, first: u32, last: u32, flags: CloseRangeFlags) -> Result {
    if flags.beyond(CloseRangeFlags::ALL) || first > last {
        return Err(Errno::EINVAL);
    }
    if flags.has(CloseRangeFlags::CLOSE_RANGE_UNSHARE) {
        task::clone::unshare(cx, CloneFlags::CLONE_FILES)?;
    }
    // The table may be another one now.
    let cx = &Ctx::of(cx.task());
    let files = cx.files();
    let owner = cx::table_owner(cx);
    let Ok(mut next) = i32::try_from(first) else {
        return Ok(());
    };
    while let Some(fd) = files.next_open(next) {
        if fd as u32 > last {
            break;
        }
        if flags.has(CloseRangeFlags::CLOSE_RANGE_CLOEXEC) {
            // It may have been closed by another thread meanwhile.
            let _ = files.set_cloexec(fd, true);
        } else if let Ok(file) = files.remove(fd) {
            close_file(file, owner);
        }
        next = fd + 1;
        hal::cpu::current_waiter().yield_if_needed();
    }
    Ok(())
}

/// Duplicates a descriptor: `dup(2)`.
pub fn sys_dup(cx: &Ctx, old: Fd) -> Result<i32> {
    let file = cx::any_file(cx, old)?;
    let limit = cx::limit(cx, Resource::RLIMIT_NOFILE);
    cx.files().install(file, 0, limit, false)
}

/// Duplicates to a given descriptor: `dup2(2)`.
pub fn sys_dup2(cx: &Ctx, old: Fd, new: Fd) -> Result<i32> {
    if old == new {
        cx::any_file(cx, old)?;
        return Ok(new.0);
    }
    replace(cx, old, new, false)
}

/// Duplicates to a given descriptor, with flags: `dup3(2)`.
pub fn sys_dup3(cx: &Ctx, old: Fd, new: Fd, flags: DupFlags) -> Result<i32> {
    if flags.beyond(DupFlags::O_CLOEXEC) || old == new {
        return Err(Errno::EINVAL);
    }
    replace(cx, old, new, flags.has(DupFlags::O_CLOEXEC))
}

fn replace(cx: &Ctx, old: Fd, new: Fd, cloexec: bool) -> Result<i32> {
    let limit = cx::limit(cx, Resource::RLIMIT_NOFILE);
    if new.0 < 0 || new.0 as u64 >= limit {
        return Err(Errno::EBADF);
    }
    let file = cx::any_file(cx, old)?;
    if let Some(gone) = cx.files().install_at(file, new.0, limit, cloexec)? {
        close_file(gone, cx::table_owner(cx));
    }
    Ok(new.0)
}
