//! Clocks and sleeping: clock_gettime(2), clock_settime(2), nanosleep(2), adjtimex(2).

use crate::args::{In, Out};
use crate::cx::mm;
use crate::flags::{ClockId, TimerFlags};
use abi::time::{NSEC_PER_SEC, Timespec, Timeval, Timex, Timezone};
use abi::{Errno, Result};
use task::{Ctx, clock};
use vfs::cred::cap;

/// Seconds since 1970: `time(2)`.
pub fn sys_time(cx: &Ctx, tloc: Out<i64>) -> Result<i64> {
    let now = (cx.kernel().realtime() / NSEC_PER_SEC) as i64;
    tloc.put_opt(mm(cx), &now)?;
    Ok(now)
}

/// Time since 1970: `gettimeofday(2)`.
pub fn sys_gettimeofday(cx: &Ctx, tv: Out<Timeval>, tz: Out<Timezone>) -> Result {
    let mm = mm(cx);
    tv.put_opt(mm, &Timeval::from_ns(cx.kernel().realtime()))?;
    tz.put_opt(mm, &Timezone::default())
}

/// Sets the time: `settimeofday(2)`. A time zone is accepted if it is UTC.
pub fn sys_settimeofday(cx: &Ctx, tv: In<Timeval>, tz: In<Timezone>) -> Result {
    let mm = mm(cx);
    let time = tv.get_opt(mm)?;
    if let Some(t) = time
        && !(0..=1_000_000).contains(&t.usec)
    {
        return Err(Errno::EINVAL);
    }
    let zone = tz.get_opt(mm)?;
    let ns = time.map(Timeval::to_ns).transpose()?;
    cx.require(cap::SYS_TIME)?;
    if zone.is_some_and(|z| z.minuteswest != 0) {
        return Err(Errno::EINVAL);
    }
    match ns {
        Some(ns) => set_clock(cx, ClockId::CLOCK_REALTIME, ns),
        None => Ok(()),
    }
}

/// Sets a clock and tells the timers that follow it.
fn set_clock(cx: &Ctx, id: i32, ns: u64) -> Result {
    clock::set(cx, id, ns)?;
    if let Ok(ipc) = crate::cx::ipc(cx) {
        ipc.clock_was_set();
    }
    Ok(())
}

/// Sets a clock: `clock_settime(2)`.
pub fn sys_clock_settime(cx: &Ctx, id: ClockId, tp: In<Timespec>) -> Result {
    let known = (0..=ClockId::CLOCK_TAI).contains(&id.0) || id.0 < 0;
    if !known {
        return Err(Errno::EINVAL);
    }
    let ns = tp.get(mm(cx))?.to_ns()?;
    set_clock(cx, id.0, ns)
}

/// Reads a clock: `clock_gettime(2)`.
pub fn sys_clock_gettime(cx: &Ctx, id: ClockId, tp: Out<Timespec>) -> Result {
    let ns = clock::read(cx, id.0)?;
    tp.put(mm(cx), &Timespec::from_ns(ns))
}

/// Resolution of a clock: `clock_getres(2)`.
pub fn sys_clock_getres(cx: &Ctx, id: ClockId, res: Out<Timespec>) -> Result {
    let ns = clock::resolution(cx, id.0)?;
    res.put_opt(mm(cx), &Timespec::from_ns(ns))
}

/// Sleeps: `nanosleep(2)`.
pub fn sys_nanosleep(cx: &Ctx, req: In<Timespec>, rem: Out<Timespec>) -> Result<u64> {
    clock::nanosleep(cx, ClockId::CLOCK_MONOTONIC, false, req.0, rem.0)
}

/// Sleeps by a clock: `clock_nanosleep(2)`.
pub fn sys_clock_nanosleep(
    cx: &Ctx,
    id: ClockId,
    flags: TimerFlags,
    req: In<Timespec>,
    rem: Out<Timespec>,
) -> Result<u64> {
    let absolute = flags.has(TimerFlags::TIMER_ABSTIME);
    clock::nanosleep(cx, id.0, absolute, req.0, rem.0)
}

/// Reads the state of the clock's discipline: `adjtimex(2)`. Changes are refused.
pub fn sys_adjtimex(cx: &Ctx, buf: Out<Timex>) -> Result<i32> {
    sys_clock_adjtime(cx, ClockId(ClockId::CLOCK_REALTIME), buf)
}

/// As `adjtimex`, by clock: `clock_adjtime(2)`.
pub fn sys_clock_adjtime(cx: &Ctx, id: ClockId, buf: Out<Timex>) -> Result<i32> {
    /// `ADJ_OFFSET_SS_READ`: reads the remaining offset.
    const READ_OFFSET: u32 = 0xa001;
    const STA_UNSYNC: i32 = 0x40;
    const TIME_ERROR: i32 = 5;
    let mm = mm(cx);
    let t = buf.get(mm)?;
    match id.0 {
        ClockId::CLOCK_REALTIME => {}
        1..=ClockId::CLOCK_TAI => return Err(Errno::EOPNOTSUPP),
        _ => return Err(Errno::EINVAL),
    }
    if t.modes != 0 && t.modes != READ_OFFSET {
        cx.require(cap::SYS_TIME)?;
        return Err(Errno::EOPNOTSUPP);
    }
    let now = Timeval::from_ns(cx.kernel().realtime());
    let out = Timex {
        modes: t.modes,
        maxerror: 16_000_000,
        esterror: 16_000_000,
        status: STA_UNSYNC,
        constant: 2,
        precision: 1,
        tolerance: 32_768_000,
        time: now,
        tick: 10_000,
        ..Timex::default()
    };
    buf.put(mm, &out)?;
    Ok(TIME_ERROR)
}
