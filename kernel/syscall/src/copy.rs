//! Data between files, space and durability: sendfile(2), copy_file_range(2), fallocate(2), fsync(2).

use crate::args::{Fd, Out};
use crate::cx::{self, mm};
use crate::file::{file_room, pipe_signal, write};
use crate::flags::{Fadvice, FallocFlags, SyncRangeFlags, Whence};
use abi::io::MAX_RW_COUNT;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec;
use mm::Mm;
use mm::io::{SliceSink, SliceSource};
use task::Ctx;
use vfs::mount::MountFlags;
use vfs::{File, FileType, OpenFlags};

/// Bytes moved at a time.
const CHUNK: usize = 64 << 10;

/// An offset in guest memory: `None` for a null pointer. [`Errno::EINVAL`] if negative.
pub fn offset_in(mm: &Mm, p: Out<i64>) -> Result<Option<u64>> {
    match p.get_opt(mm)? {
        Some(v) => u64::try_from(v).map(Some).map_err(|_| Errno::EINVAL),
        None => Ok(None),
    }
}

/// Stores an offset that was moved on.
pub fn offset_out(mm: &Mm, p: Out<i64>, v: Option<u64>) -> Result {
    match v {
        Some(v) => p.put_opt(mm, &(v as i64)),
        None => Ok(()),
    }
}

/// Copies from a file to anything: `sendfile(2)`.
pub fn sys_sendfile(
    cx: &Ctx,
    out_fd: Fd,
    in_fd: Fd,
    offset: Out<i64>,
    count: u64,
) -> Result<usize> {
    let mm = mm(cx);
    let mut off = offset_in(mm, offset)?;
    let input = cx::file(cx, in_fd)?;
    if !input.flags().readable() {
        return Err(Errno::EBADF);
    }
    let output = cx::file(cx, out_fd)?;
    if !output.flags().writable() {
        return Err(Errno::EBADF);
    }
    let mut count = bounded(count)?;
    if output.seekable() {
        let pos = *output.pos.lock();
        count = file_room(cx, &output, pos, count)?;
    }
    let n = pipe_signal(
        cx,
        ipc::splice::sendfile(cx, &output, &input, &mut off, count),
    )?;
    offset_out(mm, offset, off)?;
    Ok(n)
}

/// A count of bytes to move. [`Errno::EINVAL`] if negative.
pub fn bounded(count: u64) -> Result<usize> {
    if count > i64::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    Ok(usize::try_from(count)
        .unwrap_or(usize::MAX)
        .min(MAX_RW_COUNT))
}

/// Copies between regular files: `copy_file_range(2)`.
pub fn sys_copy_file_range(
    cx: &Ctx,
    fd_in: Fd,
    off_in: Out<i64>,
    fd_out: Fd,
    off_out: Out<i64>,
    len: u64,
    flags: u32,
) -> Result<usize> {
    let input = cx::file(cx, fd_in)?;
    let output = cx::file(cx, fd_out)?;
    let mm = mm(cx);
    // By the file's own seek: a host stream's position is the host's.
    let own = |f: &File| f.seek(0, Whence::SEEK_CUR);
    let from = offset_in(mm, off_in)?;
    let to = offset_in(mm, off_out)?;
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let kinds = (input.inode.file_type(), output.inode.file_type());
    if kinds.0 == FileType::Dir || kinds.1 == FileType::Dir {
        return Err(Errno::EISDIR);
    }
    if kinds != (FileType::Regular, FileType::Regular) {
        return Err(Errno::EINVAL);
    }
    if !input.flags().readable()
        || !output.flags().writable()
        || output.flags().contains(OpenFlags::APPEND)
    {
        return Err(Errno::EBADF);
    }
    let len = bounded(len)?;
    let mut src = from.map_or_else(|| own(&input), Ok)?;
    let mut dst = to.map_or_else(|| own(&output), Ok)?;
    if src.checked_add(len as u64).is_none() || dst.checked_add(len as u64).is_none() {
        return Err(Errno::EOVERFLOW);
    }
    let left = input.inode.attr()?.size.saturating_sub(src);
    let len = len.min(usize::try_from(left).unwrap_or(usize::MAX));
    let len = file_room(cx, &output, dst, len)?;
    let overlap = src < dst.saturating_add(len as u64) && dst < src.saturating_add(len as u64);
    if Arc::ptr_eq(&input.inode, &output.inode) && overlap && len > 0 {
        return Err(Errno::EINVAL);
    }
    let done = copy(cx, &input, &mut src, &output, &mut dst, len)?;
    if from.is_some() {
        offset_out(mm, off_in, Some(src))?;
    } else {
        input.seek(src as i64, Whence::SEEK_SET)?;
    }
    if to.is_some() {
        offset_out(mm, off_out, Some(dst))?;
    } else {
        output.seek(dst as i64, Whence::SEEK_SET)?;
    }
    Ok(done)
}

fn copy(
    cx: &Ctx,
    input: &File,
    src: &mut u64,
    output: &File,
    dst: &mut u64,
    len: usize,
) -> Result<usize> {
    let mut buf = vec![0; len.min(CHUNK)];
    let mut done = 0;
    while done < len {
        let want = (len - done).min(buf.len());
        let step = input
            .ops
            .read(input, cx, *src, &mut SliceSink::new(&mut buf[..want]))
            .and_then(|got| {
                let mut from = SliceSource::new(&buf[..got.min(want)]);
                write(cx, output, Some(*dst), &mut from)
            });
        match step {
            Ok(0) => break,
            Ok(n) => {
                done += n;
                *src += n as u64;
                *dst += n as u64;
            }
            Err(e) if done == 0 => return Err(e),
            Err(_) => break,
        }
        hal::cpu::current_waiter().yield_if_needed();
    }
    Ok(done)
}

/// Allocates or frees space of a file: `fallocate(2)`.
pub fn sys_fallocate(cx: &Ctx, fd: Fd, mode: FallocFlags, offset: i64, len: i64) -> Result {
    let f = cx::file(cx, fd)?;
    if offset < 0 || len <= 0 {
        return Err(Errno::EINVAL);
    }
    type F = FallocFlags;
    if mode.beyond(F::ALL) {
        return Err(Errno::EOPNOTSUPP);
    }
    let op = mode.0 & !F::FALLOC_FL_KEEP_SIZE;
    let keep = mode.has(F::FALLOC_FL_KEEP_SIZE);
    match op {
        0 | F::FALLOC_FL_ZERO_RANGE => {}
        F::FALLOC_FL_PUNCH_HOLE if keep => {}
        F::FALLOC_FL_PUNCH_HOLE => return Err(Errno::EOPNOTSUPP),
        F::FALLOC_FL_UNSHARE_RANGE => {}
        F::FALLOC_FL_COLLAPSE_RANGE | F::FALLOC_FL_INSERT_RANGE if !keep => {}
        F::FALLOC_FL_COLLAPSE_RANGE | F::FALLOC_FL_INSERT_RANGE => return Err(Errno::EINVAL),
        _ => return Err(Errno::EOPNOTSUPP),
    }
    if !f.flags().writable() {
        return Err(Errno::EBADF);
    }
    if f.flags().contains(OpenFlags::APPEND) && op != 0 {
        return Err(Errno::EPERM);
    }
    match f.inode.file_type() {
        FileType::Fifo => return Err(Errno::ESPIPE),
        FileType::Dir => return Err(Errno::EISDIR),
        FileType::Regular | FileType::Block => {}
        _ => return Err(Errno::ENODEV),
    }
    let end = offset.checked_add(len).ok_or(Errno::EFBIG)? as u64;
    if op == 0 && !keep && end > f.inode.attr()?.size {
        let from = f.inode.attr()?.size;
        let grow = usize::try_from(end - from).unwrap_or(usize::MAX);
        if file_room(cx, &f, from, grow)? < grow {
            cx::send_self(cx, abi::signal::SIGXFSZ);
            return Err(Errno::EFBIG);
        }
    }
    f.fallocate(cx, mode.0, offset as u64, len as u64)
}

/// Makes a file durable: `fsync(2)`.
pub fn sys_fsync(cx: &Ctx, fd: Fd) -> Result {
    let f = cx::file(cx, fd)?;
    f.ops.fsync(&f, false)
}

/// Makes a file's data durable: `fdatasync(2)`.
pub fn sys_fdatasync(cx: &Ctx, fd: Fd) -> Result {
    let f = cx::file(cx, fd)?;
    f.ops.fsync(&f, true)
}

/// Writes everything back: `sync(2)`.
pub fn sys_sync(cx: &Ctx) -> Result {
    cx.kernel().mounts().sync_all();
    Ok(())
}

/// Writes a file system back: `syncfs(2)`.
pub fn sys_syncfs(cx: &Ctx, fd: Fd) -> Result {
    let f = cx::file(cx, fd)?;
    match &f.path {
        Some(p) if p.mnt.flags().contains(MountFlags::RDONLY) => Ok(()),
        Some(p) => p.mnt.sb.sync(),
        None => Ok(()),
    }
}

/// Writes a range back: `sync_file_range(2)`.
pub fn sys_sync_file_range(
    cx: &Ctx,
    fd: Fd,
    offset: i64,
    nbytes: i64,
    flags: SyncRangeFlags,
) -> Result {
    let f = cx::file(cx, fd)?;
    if flags.beyond(SyncRangeFlags::ALL)
        || offset < 0
        || nbytes < 0
        || offset.checked_add(nbytes).is_none()
    {
        return Err(Errno::EINVAL);
    }
    match f.inode.file_type() {
        FileType::Regular | FileType::Block | FileType::Dir | FileType::Symlink => {}
        _ => return Err(Errno::ESPIPE),
    }
    if flags.0 == 0 {
        return Ok(());
    }
    f.ops.fsync(&f, true)
}

/// Announces reading: `readahead(2)`. The page cache reads ahead by itself.
pub fn sys_readahead(cx: &Ctx, fd: Fd, _offset: i64, _count: u64) -> Result {
    let f = cx::file(cx, fd)?;
    if !f.flags().readable() {
        return Err(Errno::EBADF);
    }
    match f.inode.file_type() {
        FileType::Regular | FileType::Block if f.seekable() => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

/// Announces an access pattern: `posix_fadvise(2)`.
pub fn sys_fadvise64(cx: &Ctx, fd: Fd, _offset: i64, len: i64, advice: Fadvice) -> Result {
    let f = cx::file(cx, fd)?;
    if f.inode.file_type() == FileType::Fifo {
        return Err(Errno::ESPIPE);
    }
    if len < 0 || !(Fadvice::POSIX_FADV_NORMAL..=Fadvice::POSIX_FADV_NOREUSE).contains(&advice.0) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}
