//! splice(2), tee(2), vmsplice(2), sendfile(2): data between pipes and files, by copying.

use crate::pipe::{Pipe, as_pipe};
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec;
use mm::io::{Sink, SliceSink, SliceSource, Source};
use vfs::file::Caller;
use vfs::{File, FileType, OpenFlags};

/// `SPLICE_F_NONBLOCK`.
pub const NONBLOCK: u32 = 2;
/// `SPLICE_F_MOVE | NONBLOCK | MORE | GIFT`.
const ALL_FLAGS: u32 = 0xf;
/// Bytes moved at a time.
const CHUNK: usize = 64 << 10;

/// Position of a file end: an explicit offset, or the file's own.
fn with_pos<T>(
    f: &File,
    offset: &mut Option<u64>,
    op: impl FnOnce(&mut u64) -> Result<T>,
) -> Result<T> {
    match offset {
        Some(o) => op(o),
        None if f.moves() => op(&mut f.pos.lock()),
        None => op(&mut 0),
    }
}

fn read_once(f: &File, cx: &dyn Caller, pos: &mut u64, buf: &mut [u8]) -> Result<usize> {
    let mut sink = SliceSink::new(buf);
    let n = if f.seekable() {
        f.read_at(cx, *pos, &mut sink)?
    } else {
        f.read(cx, &mut sink)?
    };
    *pos = pos.saturating_add(n as u64);
    Ok(n)
}

/// Writes all of `data` if it can; the count, or the error if nothing was written.
fn write_all(f: &File, cx: &dyn Caller, pos: &mut u64, data: &[u8]) -> Result<usize> {
    let mut done = 0;
    while done < data.len() {
        let mut src = SliceSource::new(&data[done..]);
        let written = if f.seekable() {
            f.write_at(cx, *pos, &mut src)
        } else {
            f.write(cx, &mut src)
        };
        match written {
            Ok(0) => break,
            Ok(n) => {
                done += n;
                *pos = pos.saturating_add(n as u64);
            }
            Err(e) if done == 0 => return Err(e),
            Err(_) => break,
        }
    }
    Ok(done)
}

fn check_ends(input: &File, output: &File) -> Result {
    if !input.flags().readable() || !output.flags().writable() {
        return Err(Errno::EBADF);
    }
    Ok(())
}

/// splice(2). Offsets are moved on. Errors as there.
pub fn splice(
    cx: &dyn Caller,
    input: &Arc<File>,
    in_off: &mut Option<u64>,
    output: &Arc<File>,
    out_off: &mut Option<u64>,
    len: usize,
    flags: u32,
) -> Result<usize> {
    if flags & !ALL_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    check_ends(input, output)?;
    let nonblock = flags & NONBLOCK != 0;
    match (as_pipe(input), as_pipe(output)) {
        (Some(a), Some(b)) => {
            if in_off.is_some() || out_off.is_some() {
                return Err(Errno::ESPIPE);
            }
            if Arc::ptr_eq(&a.pipe, &b.pipe) {
                return Err(Errno::EINVAL);
            }
            let nb = nonblock || input.nonblock() || output.nonblock();
            pipe_to_pipe(&a.pipe, &b.pipe, len, nb)
        }
        (Some(a), None) => {
            if in_off.is_some() || out_off.is_some() && !output.seekable() {
                return Err(Errno::ESPIPE);
            }
            if output.flags().contains(OpenFlags::APPEND) {
                return Err(Errno::EINVAL);
            }
            let nb = nonblock || input.nonblock();
            with_pos(output, out_off, |pos| {
                pipe_to_file(cx, &a.pipe, output, pos, len, nb)
            })
        }
        (None, Some(b)) => {
            if out_off.is_some() || in_off.is_some() && !input.seekable() {
                return Err(Errno::ESPIPE);
            }
            let nb = nonblock || output.nonblock();
            with_pos(input, in_off, |pos| {
                let room = b.pipe.wait_room(nb)?;
                let mut buf = vec![0; len.min(room).min(CHUNK)];
                let n = read_once(input, cx, pos, &mut buf)?;
                b.pipe.push(&buf[..n.min(buf.len())])?;
                Ok(n)
            })
        }
        (None, None) => Err(Errno::EINVAL),
    }
}

fn pipe_to_pipe(a: &Pipe, b: &Pipe, len: usize, nonblock: bool) -> Result<usize> {
    let room = b.wait_room(nonblock)?;
    let mut buf = vec![0; len.min(room).min(CHUNK)];
    let n = a.read(&mut SliceSink::new(&mut buf), nonblock)?;
    b.push(&buf[..n.min(buf.len())])?;
    Ok(n)
}

fn pipe_to_file(
    cx: &dyn Caller,
    pipe: &Pipe,
    out: &File,
    pos: &mut u64,
    len: usize,
    nonblock: bool,
) -> Result<usize> {
    let mut buf = vec![0; len.min(CHUNK)];
    let mut done = 0;
    while done < len {
        let want = (len - done).min(buf.len());
        let got = match pipe.read(&mut SliceSink::new(&mut buf[..want]), nonblock || done > 0) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if done == 0 => return Err(e),
            Err(_) => break,
        };
        let written = write_all(out, cx, pos, &buf[..got]);
        let n = *written.as_ref().unwrap_or(&0);
        done += n;
        if n < got {
            pipe.unread(&buf[n..got])?;
            return if done > 0 { Ok(done) } else { written };
        }
    }
    Ok(done)
}

/// tee(2): copies from one pipe to the other without taking.
pub fn tee(input: &Arc<File>, output: &Arc<File>, len: usize, flags: u32) -> Result<usize> {
    if flags & !ALL_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    check_ends(input, output)?;
    let (Some(a), Some(b)) = (as_pipe(input), as_pipe(output)) else {
        return Err(Errno::EINVAL);
    };
    if Arc::ptr_eq(&a.pipe, &b.pipe) {
        return Err(Errno::EINVAL);
    }
    let nonblock = flags & NONBLOCK != 0 || input.nonblock() || output.nonblock();
    let room = b.pipe.wait_room(nonblock)?;
    let data = a.pipe.peek(len.min(room).min(CHUNK), nonblock)?;
    b.pipe.push(&data)?;
    Ok(data.len())
}

/// vmsplice(2) from memory into a pipe. [`Errno::EBADF`] if `f` is no pipe open for writing.
pub fn vmsplice_in(f: &Arc<File>, src: &mut dyn Source, flags: u32) -> Result<usize> {
    if flags & !ALL_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let p = as_pipe(f).ok_or(Errno::EBADF)?;
    p.pipe
        .write(src, flags & NONBLOCK != 0 || f.nonblock(), false)
}

/// vmsplice(2) from a pipe into memory.
pub fn vmsplice_out(f: &Arc<File>, dst: &mut dyn Sink, flags: u32) -> Result<usize> {
    if flags & !ALL_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let p = as_pipe(f).ok_or(Errno::EBADF)?;
    p.pipe.read(dst, flags & NONBLOCK != 0 || f.nonblock())
}

/// sendfile(2): from a seekable file to anything. The offset is moved on.
pub fn sendfile(
    cx: &dyn Caller,
    output: &Arc<File>,
    input: &Arc<File>,
    offset: &mut Option<u64>,
    len: usize,
) -> Result<usize> {
    check_ends(input, output)?;
    if offset.is_some() && !input.seekable() {
        return Err(Errno::ESPIPE);
    }
    if !matches!(input.inode.file_type(), FileType::Regular | FileType::Block)
        || output.flags().contains(OpenFlags::APPEND)
    {
        return Err(Errno::EINVAL);
    }
    with_pos(input, offset, |in_pos| {
        let mut none = None;
        if core::ptr::eq(&**input, &**output) {
            // One description has one position, which is locked already.
            none = Some(*in_pos);
        }
        with_pos(output, &mut none, |out_pos| {
            let mut buf = vec![0; len.min(CHUNK)];
            let mut done = 0;
            while done < len {
                let want = (len - done).min(buf.len());
                let mut pos = *in_pos;
                let got = match read_once(input, cx, &mut pos, &mut buf[..want]) {
                    Ok(0) => break,
                    Ok(n) => n.min(want),
                    Err(e) if done == 0 => return Err(e),
                    Err(_) => break,
                };
                match write_all(output, cx, out_pos, &buf[..got]) {
                    Ok(n) => {
                        done += n;
                        *in_pos = in_pos.saturating_add(n as u64);
                        if n < got {
                            break;
                        }
                    }
                    Err(e) if done == 0 => return Err(e),
                    Err(_) => break,
                }
                hal::cpu::current_waiter().yield_if_needed();
            }
            Ok(done)
        })
    })
}
