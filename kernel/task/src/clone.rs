//! fork(2), vfork(2), clone(2), clone3(2).

use crate::Ctx;
use abi::process::CloneArgs;
use abi::{Errno, Result};

/// Makes a child as clone3(2) says; returns its tid in the caller's eyes.
/// For clone(2), fork(2) and vfork(2) the syscall layer fills `args` (with
/// `stack` = the stack pointer itself and `stack_size` 0: `legacy`). `set_tid` is a guest address.
pub fn clone(cx: &Ctx, args: &CloneArgs, legacy: bool) -> Result<u64> {
    let _ = (cx, args, legacy);
    Err(Errno::ENOSYS)
}

/// unshare(2): CLONE_FS, CLONE_FILES, CLONE_SYSVSEM; namespaces: [`Errno::EPERM`]/[`Errno::EINVAL`].
pub fn unshare(cx: &Ctx, flags: u64) -> Result {
    let _ = (cx, flags);
    Err(Errno::ENOSYS)
}
