//! Names in directories: mkdir(2), mknod(2), link(2), symlink(2), unlink(2), rename(2), readlink(2).

use crate::args::{BytesOut, Dev, DirFd, Fd, Mode, PathPtr};
use crate::cx::{self, CWD, mm};
use crate::flags::{AtFlags, RenameFlags, UnlinkFlags};
use abi::{Errno, Result};
use task::Ctx;
use vfs::FileType;
use vfs::cred::cap;
use vfs::namei::WalkFlags;

/// Makes a directory: `mkdir(2)`.
pub fn sys_mkdir(cx: &Ctx, path: PathPtr, mode: Mode) -> Result {
    sys_mkdirat(cx, CWD, path, mode)
}

/// Makes a directory relative to another: `mkdirat(2)`.
pub fn sys_mkdirat(cx: &Ctx, dir: DirFd, path: PathPtr, mode: Mode) -> Result {
    let name = cx::path(cx, path)?;
    cx.walk_at(dir.0, &name)?.mkdir(&name, mode.0 & 0o1777)
}

/// Makes a node: `mknod(2)`.
pub fn sys_mknod(cx: &Ctx, path: PathPtr, mode: Mode, dev: Dev) -> Result {
    sys_mknodat(cx, CWD, path, mode, dev)
}

/// Makes a node relative to a directory: `mknodat(2)`.
pub fn sys_mknodat(cx: &Ctx, dir: DirFd, path: PathPtr, mode: Mode, dev: Dev) -> Result {
    let mode = mode.0 & 0o177_777;
    let mode = match mode >> 12 {
        0 => mode | FileType::Regular.mode_bits(),
        4 => return Err(Errno::EPERM),
        _ => match FileType::from_mode(mode) {
            None | Some(FileType::Symlink) => return Err(Errno::EINVAL),
            Some(_) => mode,
        },
    };
    let name = cx::path(cx, path)?;
    let walk = cx.walk_at(dir.0, &name)?;
    walk.mknod(&name, mode, u64::from(dev.0)).map(drop)
}

/// Removes a directory: `rmdir(2)`.
pub fn sys_rmdir(cx: &Ctx, path: PathPtr) -> Result {
    let name = cx::path(cx, path)?;
    cx::here(cx).rmdir(&name)
}

/// Removes a name: `unlink(2)`.
pub fn sys_unlink(cx: &Ctx, path: PathPtr) -> Result {
    let name = cx::path(cx, path)?;
    cx::here(cx).unlink(&name)
}

/// Removes a name relative to a directory: `unlinkat(2)`.
pub fn sys_unlinkat(cx: &Ctx, dir: DirFd, path: PathPtr, flags: UnlinkFlags) -> Result {
    if flags.beyond(UnlinkFlags::ALL) {
        return Err(Errno::EINVAL);
    }
    let name = cx::path(cx, path)?;
    let walk = cx.walk_at(dir.0, &name)?;
    if flags.has(UnlinkFlags::AT_REMOVEDIR) {
        walk.rmdir(&name)
    } else {
        walk.unlink(&name)
    }
}

/// Makes a symbolic link: `symlink(2)`.
pub fn sys_symlink(cx: &Ctx, target: PathPtr, path: PathPtr) -> Result {
    sys_symlinkat(cx, target, CWD, path)
}

/// Makes a symbolic link relative to a directory: `symlinkat(2)`.
pub fn sys_symlinkat(cx: &Ctx, target: PathPtr, dir: DirFd, path: PathPtr) -> Result {
    let target = cx::path(cx, target)?;
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    let name = cx::path(cx, path)?;
    cx.walk_at(dir.0, &name)?.symlink(&target, &name)
}

/// Makes one more name: `link(2)`.
pub fn sys_link(cx: &Ctx, old: PathPtr, new: PathPtr) -> Result {
    sys_linkat(cx, CWD, old, CWD, new, AtFlags(0))
}

/// Makes one more name, relative to directories: `linkat(2)`.
pub fn sys_linkat(
    cx: &Ctx,
    old_dir: DirFd,
    old: PathPtr,
    new_dir: DirFd,
    new: PathPtr,
    flags: AtFlags,
) -> Result {
    if flags.beyond(AtFlags::AT_SYMLINK_FOLLOW | AtFlags::AT_EMPTY_PATH) {
        return Err(Errno::EINVAL);
    }
    let mut walk = WalkFlags::empty();
    if flags.has(AtFlags::AT_SYMLINK_FOLLOW) {
        walk |= WalkFlags::FOLLOW;
    }
    let old_name = cx::path(cx, old)?;
    if flags.has(AtFlags::AT_EMPTY_PATH) {
        if old_name.is_empty() && !cx::capable(cx, cap::DAC_READ_SEARCH) {
            return Err(Errno::ENOENT);
        }
        walk |= WalkFlags::EMPTY;
    }
    let old = cx.walk_at(old_dir.0, &old_name)?.lookup(&old_name, walk)?;
    let name = cx::path(cx, new)?;
    let to = cx.walk_at(new_dir.0, &name)?;
    to.link(&old, &name)
}

/// Moves a name: `rename(2)`.
pub fn sys_rename(cx: &Ctx, old: PathPtr, new: PathPtr) -> Result {
    sys_renameat2(cx, CWD, old, CWD, new, RenameFlags(0))
}

/// Moves a name, relative to directories: `renameat(2)`.
pub fn sys_renameat(
    cx: &Ctx,
    old_dir: DirFd,
    old: PathPtr,
    new_dir: DirFd,
    new: PathPtr,
) -> Result {
    sys_renameat2(cx, old_dir, old, new_dir, new, RenameFlags(0))
}

/// Moves or exchanges names: `renameat2(2)`.
pub fn sys_renameat2(
    cx: &Ctx,
    old_dir: DirFd,
    old: PathPtr,
    new_dir: DirFd,
    new: PathPtr,
    flags: RenameFlags,
) -> Result {
    type F = RenameFlags;
    if flags.beyond(F::ALL)
        || flags.has(F::RENAME_EXCHANGE) && flags.has(F::RENAME_NOREPLACE | F::RENAME_WHITEOUT)
    {
        return Err(Errno::EINVAL);
    }
    let old = cx::path(cx, old)?;
    let new = cx::path(cx, new)?;
    let from = cx.walk_at(old_dir.0, &old)?;
    let to = cx.walk_at(new_dir.0, &new)?;
    from.rename(&old, &to, &new, flags.0)
}

/// Reads a symbolic link: `readlink(2)`.
pub fn sys_readlink(cx: &Ctx, path: PathPtr, buf: BytesOut, size: i32) -> Result<usize> {
    sys_readlinkat(cx, CWD, path, buf, size)
}

/// Reads a symbolic link relative to a directory: `readlinkat(2)`. An empty path is the link behind `dir`.
pub fn sys_readlinkat(
    cx: &Ctx,
    dir: DirFd,
    path: PathPtr,
    buf: BytesOut,
    size: i32,
) -> Result<usize> {
    if size <= 0 {
        return Err(Errno::EINVAL);
    }
    let name = cx::path(cx, path)?;
    let inode = if name.is_empty() {
        if dir == CWD {
            return Err(Errno::ENOENT);
        }
        let inode = cx::any_file(cx, Fd(dir.0))?.inode.clone();
        if inode.file_type() != FileType::Symlink {
            return Err(Errno::ENOENT);
        }
        inode
    } else {
        let walk = cx.walk_at(dir.0, &name)?;
        let p = walk.lookup(&name, WalkFlags::empty())?;
        p.dentry.inode().ok_or(Errno::ENOENT)?
    };
    if inode.file_type() != FileType::Symlink {
        return Err(Errno::EINVAL);
    }
    let text = inode.read_link()?;
    let n = text.len().min(size as usize);
    mm(cx).write(buf.0, &text[..n])?;
    Ok(n)
}
