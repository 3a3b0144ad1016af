//! execve(2), execveat(2).

use crate::Ctx;
use abi::{Errno, Result};
use alloc::vec::Vec;

/// execveat(2) with pointers of the guest; execve(2) is `dirfd` = AT_FDCWD, `flags` = 0.
pub fn execveat(
    cx: &Ctx,
    dirfd: i32,
    path: &[u8],
    argv: u64,
    envp: u64,
    flags: u32,
) -> Result<u64> {
    let _ = (cx, dirfd, path, argv, envp, flags);
    Err(Errno::ENOSYS)
}

/// execve with strings of the kernel (the first program).
pub fn exec_kernel(cx: &Ctx, path: &[u8], argv: Vec<Vec<u8>>, envp: Vec<Vec<u8>>) -> Result {
    let _ = (cx, path, argv, envp);
    Err(Errno::ENOSYS)
}
