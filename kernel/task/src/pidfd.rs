//! pidfd_open(2), pidfd_send_signal(2).

use crate::{Ctx, Process};
use abi::{Errno, Result};
use alloc::sync::Arc;
use vfs::File;

/// A file that stands for a process. [`Errno::ESRCH`], [`Errno::EINVAL`].
pub fn open(cx: &Ctx, pid: i32, nonblock: bool) -> Result<Arc<File>> {
    let _ = (cx, pid, nonblock);
    Err(Errno::ENOSYS)
}

/// The process behind a pidfd; [`Errno::EBADF`] if `file` is none.
pub fn process_of(file: &File) -> Result<Arc<Process>> {
    let _ = file;
    Err(Errno::EBADF)
}

/// pidfd_send_signal(2); `info` as given by the caller, if any.
pub fn send_signal(cx: &Ctx, file: &File, signo: i32, info: Option<abi::SigInfo>) -> Result {
    let _ = (cx, file, signo, info);
    Err(Errno::ENOSYS)
}
