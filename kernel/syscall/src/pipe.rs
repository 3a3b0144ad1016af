//! Pipes: pipe(2).

use crate::args::Out;
use crate::cx::{self, mm};
use crate::decode::FdPair;
use crate::flags::PipeFlags;
use abi::{Errno, Result};
use alloc::sync::Arc;
use task::Ctx;
use vfs::fdtable::close_file;
use vfs::{File, OpenFlags};

/// Makes a pipe: `pipe(2)`.
pub fn sys_pipe(cx: &Ctx, fds: Out<FdPair>) -> Result {
    sys_pipe2(cx, fds, PipeFlags(0))
}

/// Makes a pipe, with flags: `pipe2(2)`.
pub fn sys_pipe2(cx: &Ctx, fds: Out<FdPair>, flags: PipeFlags) -> Result {
    if flags.beyond(PipeFlags::ALL) {
        return Err(Errno::EINVAL);
    }
    let open = OpenFlags::from_bits_retain(flags.0 & !PipeFlags::O_CLOEXEC);
    let pair = cx::ipc(cx)?.pipe(cx, open)?;
    install_pair(cx, pair, flags.has(PipeFlags::O_CLOEXEC), fds)
}

/// Installs two files and stores their descriptors; both or none.
pub fn install_pair(
    cx: &Ctx,
    (a, b): (Arc<File>, Arc<File>),
    cloexec: bool,
    fds: Out<FdPair>,
) -> Result {
    let first = cx.install(a, cloexec)?;
    let second = cx.install(b, cloexec);
    let stored = second.and_then(|second| {
        let r = fds.put(mm(cx), &FdPair(first, second));
        r.inspect_err(|_| close(cx, second))
    });
    stored.inspect_err(|_| close(cx, first))
}

fn close(cx: &Ctx, fd: i32) {
    if let Ok(f) = cx.files().remove(fd) {
        close_file(f, cx::table_owner(cx));
    }
}
