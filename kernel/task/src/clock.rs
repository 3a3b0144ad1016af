//! Clocks: clock_gettime(2), clock_nanosleep(2).

use crate::Ctx;
use abi::{Errno, Result};

/// Reads a clock in ns (CLOCK_REALTIME, MONOTONIC, BOOTTIME, RAW, COARSE ones, TAI, CPU-time clocks of
/// this and other processes). [`Errno::EINVAL`].
pub fn read(cx: &Ctx, clock: i32) -> Result<u64> {
    let _ = (cx, clock);
    Err(Errno::ENOSYS)
}

/// Resolution of a clock in ns. [`Errno::EINVAL`].
pub fn resolution(cx: &Ctx, clock: i32) -> Result<u64> {
    let _ = (cx, clock);
    Err(Errno::ENOSYS)
}

/// clock_settime(2). [`Errno::EPERM`], [`Errno::EINVAL`].
pub fn set(cx: &Ctx, clock: i32, ns: u64) -> Result {
    let _ = (cx, clock, ns);
    Err(Errno::ENOSYS)
}

/// Deadline on the monotonic clock for a time `ns` of `clock` (absolute). [`Errno::EINVAL`], [`Errno::EOPNOTSUPP`].
pub fn deadline(cx: &Ctx, clock: i32, ns: u64) -> Result<u64> {
    let _ = (cx, clock, ns);
    Err(Errno::ENOSYS)
}

/// clock_nanosleep(2), nanosleep(2): the whole call with guest addresses, restart included.
pub fn nanosleep(cx: &Ctx, clock: i32, absolute: bool, request: u64, remain: u64) -> Result<u64> {
    let _ = (cx, clock, absolute, request, remain);
    Err(Errno::ENOSYS)
}
