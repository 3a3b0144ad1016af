//! Timers of a process: alarm(2), setitimer(2), timer_create(2), RLIMIT_CPU.

use crate::{Ctx, Process};
use abi::process::Rlimit;
use abi::time::{Itimerspec, Sigevent};
use abi::{Errno, Result};

/// Timers of a process.
pub(crate) struct ProcessTimers {}

impl ProcessTimers {
    pub(crate) fn new() -> ProcessTimers {
        ProcessTimers {}
    }
    pub(crate) fn cpu_limit_changed(&self, p: &Process, new: Rlimit) {
        let _ = (p, new);
    }
}

/// Which interval timer: ITIMER_REAL 0, VIRTUAL 1, PROF 2. Value and interval in ns.
pub fn getitimer(cx: &Ctx, which: i32) -> Result<(u64, u64)> {
    let _ = (cx, which);
    Err(Errno::ENOSYS)
}

/// Sets one (value 0 disarms); returns the old value and interval in ns.
pub fn setitimer(cx: &Ctx, which: i32, value: u64, interval: u64) -> Result<(u64, u64)> {
    let _ = (cx, which, value, interval);
    Err(Errno::ENOSYS)
}

/// timer_create(2); `event` `None`: SIGALRM. Returns the id.
pub fn timer_create(cx: &Ctx, clock: i32, event: Option<Sigevent>) -> Result<i32> {
    let _ = (cx, clock, event);
    Err(Errno::ENOSYS)
}

/// timer_settime(2): returns the old setting.
pub fn timer_settime(cx: &Ctx, id: i32, flags: i32, new: Itimerspec) -> Result<Itimerspec> {
    let _ = (cx, id, flags, new);
    Err(Errno::ENOSYS)
}

/// timer_gettime(2).
pub fn timer_gettime(cx: &Ctx, id: i32) -> Result<Itimerspec> {
    let _ = (cx, id);
    Err(Errno::ENOSYS)
}

/// timer_getoverrun(2).
pub fn timer_getoverrun(cx: &Ctx, id: i32) -> Result<i32> {
    let _ = (cx, id);
    Err(Errno::ENOSYS)
}

/// timer_delete(2).
pub fn timer_delete(cx: &Ctx, id: i32) -> Result {
    let _ = (cx, id);
    Err(Errno::ENOSYS)
}
