//! Futexes: futex(2), futex_waitv(2), robust lists.

use crate::args::{Hex, Out, Ptr};
use crate::cx::mm;
use crate::flags::{ClockId, FutexOp};
use abi::Result;
use task::Ctx;

/// Waits for, wakes or locks a word of memory: `futex(2)`.
pub fn sys_futex(
    cx: &Ctx,
    uaddr: Ptr,
    op: FutexOp,
    val: u32,
    timeout: Ptr,
    uaddr2: Ptr,
    val3: Hex,
) -> Result<u64> {
    task::futex::futex(cx, uaddr.0, op.0, val, timeout.0, uaddr2.0, val3.0 as u32)
}

/// Waits for any of several words of memory: `futex_waitv(2)`.
pub fn sys_futex_waitv(
    cx: &Ctx,
    waiters: Ptr,
    nr: u32,
    flags: u32,
    timeout: Ptr,
    clock: ClockId,
) -> Result<u64> {
    task::futex::waitv(cx, waiters.0, nr, flags, timeout.0, clock.0)
}

/// Notes the list of robust futexes: `set_robust_list(2)`.
pub fn sys_set_robust_list(cx: &Ctx, head: Ptr, len: u64) -> Result {
    task::futex::set_robust_list(cx, head.0, len)
}

/// Reads the list of robust futexes of a thread: `get_robust_list(2)`.
pub fn sys_get_robust_list(cx: &Ctx, pid: i32, head: Out<u64>, len: Out<u64>) -> Result {
    let (h, n) = task::futex::get_robust_list(cx, pid)?;
    let mm = mm(cx);
    len.put(mm, &n)?;
    head.put(mm, &h)
}
