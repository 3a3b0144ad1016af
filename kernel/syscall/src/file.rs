//! Reading and writing: read(2), write(2) and their vector and positional forms, lseek(2).

use crate::args::{Bytes, BytesOut, Fd, Hex, Iov, IovOut};
use crate::cx::{self, mm};
use crate::flags::{Resource, RwFlags, Whence};
use abi::io::{IOV_MAX, IoVec};
use abi::{Errno, Result, signal};
use mm::Mm;
use mm::io::{Sink, Source};
use mm::user::UserIo;
use sync::Held;
use task::Ctx;
use vfs::{File, FileType, OpenFlags};

/// Writes at `pos` or at the file's own position, within RLIMIT_FSIZE. EPIPE also sends SIGPIPE, the limit SIGXFSZ.
pub fn write(cx: &Ctx, f: &File, pos: Option<u64>, src: &mut dyn Source) -> Result<usize> {
    write_with(cx, f, pos, src, f.flags().contains(OpenFlags::APPEND))
}

/// As [`write()`], appending or not.
fn write_with(
    cx: &Ctx,
    f: &File,
    pos: Option<u64>,
    src: &mut dyn Source,
    append: bool,
) -> Result<usize> {
    let limit = cx::limit(cx, Resource::RLIMIT_FSIZE);
    match f.write_with(cx, pos, src, limit, append) {
        Err(Errno::EFBIG) if limit <= i64::MAX as u64 => {
            cx::send_self(cx, signal::SIGXFSZ);
            Err(Errno::EFBIG)
        }
        Err(Errno::EPIPE) if net::file::as_socket(f).is_some_and(|s| !s.raises_sigpipe()) => {
            Err(Errno::EPIPE)
        }
        r => pipe_signal(cx, r).map(|n| count_write(cx, n)),
    }
}

/// How many of `count` bytes RLIMIT_FSIZE allows at `pos` of a regular file. [`Errno::EFBIG`] with SIGXFSZ.
pub fn file_room(cx: &Ctx, f: &File, pos: u64, count: usize) -> Result<usize> {
    if count == 0 || f.inode.file_type() != FileType::Regular {
        return Ok(count);
    }
    let limit = cx::limit(cx, Resource::RLIMIT_FSIZE);
    if pos >= limit {
        cx::send_self(cx, signal::SIGXFSZ);
        return Err(Errno::EFBIG);
    }
    match limit.min(i64::MAX as u64).checked_sub(pos) {
        None | Some(0) => Err(Errno::EFBIG),
        Some(room) => Ok(count.min(usize::try_from(room).unwrap_or(usize::MAX))),
    }
}

/// Passes a result on; EPIPE of a stream also sends SIGPIPE.
pub fn pipe_signal<T>(cx: &Ctx, r: Result<T>) -> Result<T> {
    if matches!(r, Err(Errno::EPIPE)) {
        cx::send_self(cx, signal::SIGPIPE);
    }
    r
}

/// The vectors of readv(2). [`Errno::EINVAL`], [`Errno::EFAULT`].
pub fn vectors(mm: &Mm, addr: u64, count: u64) -> Result<UserIo<'_>> {
    if count > IOV_MAX as u64 {
        return Err(Errno::EINVAL);
    }
    let iov = mm.get_vec::<IoVec>(addr, count as usize)?;
    UserIo::from_iov(mm, iov)
}

fn one(mm: &Mm, addr: u64, count: u64) -> Result<UserIo<'_>> {
    cx::check_range(addr, count)?;
    UserIo::new(mm, addr, count)
}

/// Counts a read for /proc/PID/io.
fn count_read(cx: &Ctx, n: usize) -> usize {
    let [rchar, _, syscr, ..] = &cx.process().io;
    sync::count([(rchar, n as u64), (syscr, 1)]);
    n
}

/// Counts a write for /proc/PID/io.
fn count_write(cx: &Ctx, n: usize) -> usize {
    let [_, wchar, _, syscw, ..] = &cx.process().io;
    sync::count([(wchar, n as u64), (syscw, 1)]);
    n
}

/// Offset of a positional call. [`Errno::EINVAL`] if negative.
fn offset(v: i64) -> Result<u64> {
    u64::try_from(v).map_err(|_| Errno::EINVAL)
}

/// The file of a positional call. [`Errno::ESPIPE`].
fn seekable(cx: &Ctx, fd: Fd) -> Result<Held<File>> {
    let f = cx::hold(cx, fd)?;
    if f.seekable() {
        Ok(f)
    } else {
        Err(Errno::ESPIPE)
    }
}

/// Reads from a descriptor: `read(2)`.
pub fn sys_read(cx: &Ctx, fd: Fd, buf: BytesOut, count: u64) -> Result<usize> {
    let f = cx::hold(cx, fd)?;
    f.check_readable()?;
    let mm = mm(cx);
    f.read(cx, &mut one(mm, buf.0, count)?)
        .map(|n| count_read(cx, n))
}

/// Writes to a descriptor: `write(2)`.
pub fn sys_write(cx: &Ctx, fd: Fd, buf: Bytes, count: u64) -> Result<usize> {
    let f = cx::hold(cx, fd)?;
    f.check_writable()?;
    let mm = mm(cx);
    write(cx, &f, None, &mut one(mm, buf.0, count)?)
}

/// Reads at an offset: `pread64(2)`.
pub fn sys_pread64(cx: &Ctx, fd: Fd, buf: BytesOut, count: u64, pos: i64) -> Result<usize> {
    let pos = offset(pos)?;
    let f = seekable(cx, fd)?;
    f.check_readable()?;
    let mm = mm(cx);
    f.read_at(cx, pos, &mut one(mm, buf.0, count)?)
        .map(|n| count_read(cx, n))
}

/// Writes at an offset: `pwrite64(2)`. As on Linux, O_APPEND wins over the offset.
pub fn sys_pwrite64(cx: &Ctx, fd: Fd, buf: Bytes, count: u64, pos: i64) -> Result<usize> {
    let pos = offset(pos)?;
    let f = seekable(cx, fd)?;
    f.check_writable()?;
    let mm = mm(cx);
    write(cx, &f, Some(pos), &mut one(mm, buf.0, count)?)
}

/// Reads into several buffers: `readv(2)`.
pub fn sys_readv(cx: &Ctx, fd: Fd, iov: IovOut, iovcnt: u64) -> Result<usize> {
    let f = cx::hold(cx, fd)?;
    f.check_readable()?;
    let mm = mm(cx);
    let mut io = vectors(mm, iov.0, iovcnt)?;
    if Sink::remaining(&io) == 0 {
        return Ok(0);
    }
    f.read(cx, &mut io).map(|n| count_read(cx, n))
}

/// Writes from several buffers: `writev(2)`.
pub fn sys_writev(cx: &Ctx, fd: Fd, iov: Iov, iovcnt: u64) -> Result<usize> {
    let f = cx::hold(cx, fd)?;
    f.check_writable()?;
    let mm = mm(cx);
    let mut io = vectors(mm, iov.0, iovcnt)?;
    if Source::remaining(&io) == 0 {
        return Ok(0);
    }
    write(cx, &f, None, &mut io)
}

/// Reads into several buffers at an offset: `preadv(2)`. The low word holds the whole offset.
pub fn sys_preadv(cx: &Ctx, fd: Fd, iov: IovOut, n: u64, low: i64, _high: Hex) -> Result<usize> {
    let pos = offset(low)?;
    let f = seekable(cx, fd)?;
    f.check_readable()?;
    let mm = mm(cx);
    f.read_at(cx, pos, &mut vectors(mm, iov.0, n)?)
        .map(|n| count_read(cx, n))
}

/// Writes from several buffers at an offset: `pwritev(2)`.
pub fn sys_pwritev(cx: &Ctx, fd: Fd, iov: Iov, n: u64, low: i64, _high: Hex) -> Result<usize> {
    let pos = offset(low)?;
    let f = seekable(cx, fd)?;
    f.check_writable()?;
    let mm = mm(cx);
    write(cx, &f, Some(pos), &mut vectors(mm, iov.0, n)?)
}

/// Flags of preadv2(2) that are honoured; the others ask for what cannot be promised.
const HONOURED: u32 = RwFlags::RWF_HIPRI
    | RwFlags::RWF_DSYNC
    | RwFlags::RWF_SYNC
    | RwFlags::RWF_APPEND
    | RwFlags::RWF_NOAPPEND;

/// Reads with flags: `preadv2(2)`. Offset −1 is the file's own position.
pub fn sys_preadv2(
    cx: &Ctx,
    fd: Fd,
    iov: IovOut,
    n: u64,
    low: i64,
    high: Hex,
    flags: RwFlags,
) -> Result<usize> {
    if low < -1 {
        return Err(Errno::EINVAL);
    }
    let f = cx::file(cx, fd)?;
    f.check_readable()?;
    if flags.beyond(HONOURED) {
        return Err(Errno::EOPNOTSUPP);
    }
    match low {
        -1 => sys_readv(cx, fd, iov, n),
        _ => sys_preadv(cx, fd, iov, n, low, high),
    }
}

/// Writes with flags: `pwritev2(2)`. Offset −1 is the file's own position.
pub fn sys_pwritev2(
    cx: &Ctx,
    fd: Fd,
    iov: Iov,
    n: u64,
    low: i64,
    _high: Hex,
    flags: RwFlags,
) -> Result<usize> {
    let (f, pos) = match low {
        -1 => (cx::hold(cx, fd)?, None),
        _ => {
            let pos = offset(low)?;
            (seekable(cx, fd)?, Some(pos))
        }
    };
    f.check_writable()?;
    if flags.beyond(HONOURED) {
        return Err(Errno::EOPNOTSUPP);
    }
    let both = RwFlags::RWF_APPEND | RwFlags::RWF_NOAPPEND;
    if flags.0 & both == both {
        return Err(Errno::EINVAL);
    }
    let append = (f.flags().contains(OpenFlags::APPEND) || flags.has(RwFlags::RWF_APPEND))
        && !flags.has(RwFlags::RWF_NOAPPEND);
    let mm = mm(cx);
    let mut src = vectors(mm, iov.0, n)?;
    let done = write_with(cx, &f, pos, &mut src, append)?;
    let sync = flags.has(RwFlags::RWF_SYNC);
    if done > 0 && f.seekable() && (sync || flags.has(RwFlags::RWF_DSYNC)) {
        f.ops.fsync(&f, !sync)?;
    }
    Ok(done)
}

/// Moves the file position: `lseek(2)`.
pub fn sys_lseek(cx: &Ctx, fd: Fd, offset: i64, whence: Whence) -> Result<u64> {
    let f = cx::hold(cx, fd)?;
    if whence.0 > Whence::SEEK_HOLE {
        return Err(Errno::EINVAL);
    }
    // Event descriptors have a position that never moves.
    let anonymous = f.path.is_none() && f.inode.file_type() == FileType::Char;
    if anonymous && !f.seekable() {
        return Ok(0);
    }
    f.seek(offset, whence.0)
}
