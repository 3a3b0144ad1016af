//! futex(2).

use crate::Ctx;
use abi::{Errno, Result};

/// Futex state of a task.
#[derive(Default)]
pub(crate) struct TaskFutex {}

/// All futex buckets of a machine.
pub struct FutexTable {}

impl FutexTable {
    pub(crate) fn new() -> FutexTable {
        FutexTable {}
    }
}

/// futex(2) with its raw arguments: `timeout` is a guest address or `val2` as the operation has it.
pub fn futex(
    cx: &Ctx,
    addr: u64,
    op: u32,
    val: u32,
    timeout: u64,
    addr2: u64,
    val3: u32,
) -> Result<u64> {
    let _ = (cx, addr, op, val, timeout, addr2, val3);
    Err(Errno::ENOSYS)
}

/// set_robust_list(2).
pub fn set_robust_list(cx: &Ctx, head: u64, len: u64) -> Result {
    let _ = (cx, head, len);
    Err(Errno::ENOSYS)
}

/// get_robust_list(2): head address and length. [`Errno::ESRCH`], [`Errno::EPERM`].
pub fn get_robust_list(cx: &Ctx, tid: i32) -> Result<(u64, u64)> {
    let _ = (cx, tid);
    Err(Errno::ENOSYS)
}
