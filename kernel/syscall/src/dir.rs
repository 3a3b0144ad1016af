//! Directories: getdents(2), the working directory and the root of a process.

use crate::args::{BytesOut, Fd, PathPtr, Ptr};
use crate::cx::{self, CWD, mm};
use abi::stat::{DIRENT_HEAD, DIRENT64_HEAD};
use abi::{Errno, Result};
use alloc::vec::Vec;
use task::Ctx;
use vfs::cred::cap;
use vfs::namei::WalkFlags;
use vfs::{FileType, Path};

/// Most bytes of entries that one call gives.
const MAX_BATCH: usize = 64 << 10;

/// Reads directory entries: `getdents64(2)`.
pub fn sys_getdents64(cx: &Ctx, fd: Fd, buf: Ptr, count: u32) -> Result<usize> {
    read_entries(cx, fd, buf, count, |out, name, ino, kind, next| {
        let len = (DIRENT64_HEAD + name.len() + 1).next_multiple_of(8);
        out.extend_from_slice(&ino.to_le_bytes());
        out.extend_from_slice(&next.to_le_bytes());
        out.extend_from_slice(&(len as u16).to_le_bytes());
        out.push(kind as u8);
        out.extend_from_slice(name);
        len
    })
}

/// Reads directory entries in the old format, the type in the last byte: `getdents(2)`.
pub fn sys_getdents(cx: &Ctx, fd: Fd, buf: Ptr, count: u32) -> Result<usize> {
    read_entries(cx, fd, buf, count, |out, name, ino, kind, next| {
        let start = out.len();
        let len = (DIRENT_HEAD + name.len() + 2).next_multiple_of(8);
        out.extend_from_slice(&ino.to_le_bytes());
        out.extend_from_slice(&next.to_le_bytes());
        out.extend_from_slice(&(len as u16).to_le_bytes());
        out.extend_from_slice(name);
        out.resize(start + len - 1, 0);
        out.push(kind as u8);
        len
    })
}

/// `format` appends one entry and gives its padded length.
fn read_entries(
    cx: &Ctx,
    fd: Fd,
    buf: Ptr,
    count: u32,
    format: impl Fn(&mut Vec<u8>, &[u8], u64, FileType, u64) -> usize,
) -> Result<usize> {
    let f = cx::file(cx, fd)?;
    if f.inode.file_type() != FileType::Dir {
        return Err(Errno::ENOTDIR);
    }
    let room = (count as usize).min(MAX_BATCH);
    let mut out: Vec<u8> = Vec::new();
    let mut full = false;
    f.read_dir(cx, &mut |name, ino, kind, next| {
        let start = out.len();
        let len = format(&mut out, name, ino, kind, next);
        out.resize(start + len, 0);
        if out.len() > room {
            out.truncate(start);
            full = true;
            return false;
        }
        true
    })?;
    if out.is_empty() {
        return if full { Err(Errno::EINVAL) } else { Ok(0) };
    }
    mm(cx).write(buf.0, &out)?;
    Ok(out.len())
}

/// Path of the working directory: `getcwd(2)`. Returns its length with the NUL.
pub fn sys_getcwd(cx: &Ctx, buf: BytesOut, size: u64) -> Result<usize> {
    let walk = cx::here(cx);
    let cwd = cx.fs().cwd();
    if cwd.dentry.is_deleted() {
        return Err(Errno::ENOENT);
    }
    let mut text = walk.name_of(&cwd);
    text.push(0);
    if text.len() > abi::io::PATH_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    if text.len() as u64 > size {
        return Err(Errno::ERANGE);
    }
    mm(cx).write(buf.0, &text)?;
    Ok(text.len())
}

/// A directory that the caller may enter.
fn enterable(cx: &Ctx, path: PathPtr) -> Result<Path> {
    let p = cx::lookup(cx, CWD, path, WalkFlags::FOLLOW | WalkFlags::DIRECTORY)?;
    cx::here(cx).access(&p, 1, false)?;
    Ok(p)
}

/// Sets the working directory: `chdir(2)`.
pub fn sys_chdir(cx: &Ctx, path: PathPtr) -> Result {
    let p = enterable(cx, path)?;
    cx.fs().set_cwd(p);
    Ok(())
}

/// Sets the working directory to an open one: `fchdir(2)`.
pub fn sys_fchdir(cx: &Ctx, fd: Fd) -> Result {
    let f = cx::any_file(cx, fd)?;
    let p = cx::place(&f)?;
    if f.inode.file_type() != FileType::Dir {
        return Err(Errno::ENOTDIR);
    }
    cx::here(cx).access(&p, 1, false)?;
    cx.fs().set_cwd(p);
    Ok(())
}

/// Sets the root directory: `chroot(2)`.
pub fn sys_chroot(cx: &Ctx, path: PathPtr) -> Result {
    let p = enterable(cx, path)?;
    cx.require(cap::SYS_CHROOT)?;
    cx.fs().set_root(p);
    Ok(())
}
