//! Data through pipes: splice(2), tee(2), vmsplice(2).

use crate::args::{Fd, Iov, Out};
use crate::copy::{bounded, offset_in, offset_out};
use crate::cx::{self, mm};
use crate::file::{pipe_signal, vectors};
use crate::flags::SpliceFlags;
use abi::{Errno, Result};
use mm::io::Source;
use task::Ctx;

/// Moves data between a pipe and a file: `splice(2)`.
pub fn sys_splice(
    cx: &Ctx,
    fd_in: Fd,
    off_in: Out<i64>,
    fd_out: Fd,
    off_out: Out<i64>,
    len: u64,
    flags: SpliceFlags,
) -> Result<usize> {
    if len == 0 {
        return Ok(0);
    }
    if flags.beyond(SpliceFlags::ALL) {
        return Err(Errno::EINVAL);
    }
    let input = cx::file(cx, fd_in)?;
    let output = cx::file(cx, fd_out)?;
    let mm = mm(cx);
    // An offset of a pipe is an error before its value matters.
    if ipc::pipe::as_pipe(&input).is_some() && !off_in.is_null()
        || ipc::pipe::as_pipe(&output).is_some() && !off_out.is_null()
    {
        return Err(Errno::ESPIPE);
    }
    let mut to = offset_in(mm, off_out)?;
    let mut from = offset_in(mm, off_in)?;
    let len = bounded(len)?;
    let n = pipe_signal(
        cx,
        ipc::splice::splice(cx, &input, &mut from, &output, &mut to, len, flags.0),
    )?;
    offset_out(mm, off_out, to)?;
    offset_out(mm, off_in, from)?;
    Ok(n)
}

/// Copies from pipe to pipe: `tee(2)`.
pub fn sys_tee(cx: &Ctx, fd_in: Fd, fd_out: Fd, len: u64, flags: SpliceFlags) -> Result<usize> {
    if flags.beyond(SpliceFlags::ALL) {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let input = cx::file(cx, fd_in)?;
    let output = cx::file(cx, fd_out)?;
    pipe_signal(
        cx,
        ipc::splice::tee(&input, &output, bounded(len)?, flags.0),
    )
}

/// Moves memory into a pipe, or out of it: `vmsplice(2)`.
pub fn sys_vmsplice(cx: &Ctx, fd: Fd, iov: Iov, count: u64, flags: SpliceFlags) -> Result<usize> {
    if flags.beyond(SpliceFlags::ALL) {
        return Err(Errno::EINVAL);
    }
    let f = cx::file(cx, fd)?;
    let (read, write) = (f.flags().readable(), f.flags().writable());
    if !read && !write {
        return Err(Errno::EBADF);
    }
    let mm = mm(cx);
    let mut io = vectors(mm, iov.0, count)?;
    if Source::remaining(&io) == 0 {
        return Ok(0);
    }
    if write {
        pipe_signal(cx, ipc::splice::vmsplice_in(&f, &mut io, flags.0))
    } else {
        ipc::splice::vmsplice_out(&f, &mut io, flags.0)
    }
}
