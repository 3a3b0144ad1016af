//! Timers: alarm(2), setitimer(2), timer_create(2).

use crate::args::{In, Out};
use crate::cx::mm;
use crate::flags::{ClockId, ItimerId, TimerFlags};
use abi::time::{Itimerspec, Itimerval, NSEC_PER_SEC, Sigevent, Timeval};
use abi::{Errno, Result};
use task::{Ctx, timer};

fn known(which: ItimerId) -> Result<i32> {
    if (ItimerId::ITIMER_REAL..=ItimerId::ITIMER_PROF).contains(&which.0) {
        Ok(which.0)
    } else {
        Err(Errno::EINVAL)
    }
}

/// As a timeval; what is left of a microsecond counts.
fn timeval((value, interval): (u64, u64)) -> Itimerval {
    let up = |ns: u64| Timeval::from_ns(ns.saturating_add(999));
    Itimerval {
        interval: Timeval::from_ns(interval),
        value: if value == 0 {
            Timeval::default()
        } else {
            up(value)
        },
    }
}

/// Reads an interval timer: `getitimer(2)`.
pub fn sys_getitimer(cx: &Ctx, which: ItimerId, value: Out<Itimerval>) -> Result {
    let now = timer::getitimer(cx, known(which)?)?;
    value.put(mm(cx), &timeval(now))
}

/// Sets an interval timer: `setitimer(2)`. NULL disarms.
pub fn sys_setitimer(cx: &Ctx, which: ItimerId, new: In<Itimerval>, old: Out<Itimerval>) -> Result {
    let mm = mm(cx);
    let new = new.get_opt(mm)?.unwrap_or_default();
    let (value, interval) = (new.value.to_ns()?, new.interval.to_ns()?);
    let was = timer::setitimer(cx, known(which)?, value, interval)?;
    old.put_opt(mm, &timeval(was))
}

/// Sends SIGALRM after some seconds: `alarm(2)`. Returns the seconds the last one had left.
pub fn sys_alarm(cx: &Ctx, seconds: u32) -> Result<u32> {
    let ns = u64::from(seconds) * NSEC_PER_SEC;
    let (left, _) = timer::setitimer(cx, ItimerId::ITIMER_REAL, ns, 0)?;
    // Rounded, but a pending alarm is never 0.
    let s = left / NSEC_PER_SEC + u64::from(left % NSEC_PER_SEC >= NSEC_PER_SEC / 2);
    let s = if left > 0 { s.max(1) } else { 0 };
    Ok(u32::try_from(s).unwrap_or(u32::MAX))
}

/// Makes a timer: `timer_create(2)`.
pub fn sys_timer_create(cx: &Ctx, clock: ClockId, sevp: In<Sigevent>, timerid: Out<i32>) -> Result {
    let mm = mm(cx);
    let event = sevp.get_opt(mm)?;
    let id = timer::timer_create(cx, clock.0, event)?;
    timerid.put(mm, &id).inspect_err(|_| {
        // Nobody knows it: it goes.
        let _ = timer::timer_delete(cx, id);
    })
}

/// Arms a timer: `timer_settime(2)`.
pub fn sys_timer_settime(
    cx: &Ctx,
    id: i32,
    flags: TimerFlags,
    new: In<Itimerspec>,
    old: Out<Itimerspec>,
) -> Result {
    if new.is_null() {
        return Err(Errno::EINVAL);
    }
    let mm = mm(cx);
    let new = new.get(mm)?;
    let was = timer::timer_settime(cx, id, flags.0 as i32, new)?;
    old.put_opt(mm, &was)
}

/// Reads a timer: `timer_gettime(2)`.
pub fn sys_timer_gettime(cx: &Ctx, id: i32, value: Out<Itimerspec>) -> Result {
    let now = timer::timer_gettime(cx, id)?;
    value.put(mm(cx), &now)
}

/// Missed expirations of the last signal: `timer_getoverrun(2)`.
pub fn sys_timer_getoverrun(cx: &Ctx, id: i32) -> Result<i32> {
    timer::timer_getoverrun(cx, id)
}

/// Removes a timer: `timer_delete(2)`.
pub fn sys_timer_delete(cx: &Ctx, id: i32) -> Result {
    timer::timer_delete(cx, id)
}
