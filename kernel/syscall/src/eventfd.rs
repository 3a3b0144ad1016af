//! Event descriptors: eventfd(2), signalfd(2), timerfd_create(2).

use crate::args::{Fd, In, Out};
use crate::cx::{self, mm};
use crate::flags::{ClockId, EventfdFlags, SignalfdFlags, TimerfdFlags, TimerfdSet};
use abi::time::Itimerspec;
use abi::{Errno, Result, SigSet};
use ipc::signalfd::as_signalfd;
use ipc::timerfd::as_timerfd;
use task::Ctx;

/// Makes a counter: `eventfd(2)`.
pub fn sys_eventfd(cx: &Ctx, count: u32) -> Result<i32> {
    sys_eventfd2(cx, count, EventfdFlags(0))
}

/// Makes a counter, with flags: `eventfd2(2)`.
pub fn sys_eventfd2(cx: &Ctx, count: u32, flags: EventfdFlags) -> Result<i32> {
    type F = EventfdFlags;
    if flags.beyond(F::ALL) {
        return Err(Errno::EINVAL);
    }
    let file = cx::ipc(cx)?.eventfd(cx, count, flags.0 & !F::EFD_CLOEXEC)?;
    cx.install(file, flags.has(F::EFD_CLOEXEC))
}

/// Makes a descriptor that gives signals, or changes its set: `signalfd(2)`.
pub fn sys_signalfd(cx: &Ctx, fd: Fd, mask: In<SigSet>, size: u64) -> Result<i32> {
    sys_signalfd4(cx, fd, mask, size, SignalfdFlags(0))
}

/// As `signalfd`, with flags: `signalfd4(2)`.
pub fn sys_signalfd4(
    cx: &Ctx,
    fd: Fd,
    mask: In<SigSet>,
    size: u64,
    flags: SignalfdFlags,
) -> Result<i32> {
    type F = SignalfdFlags;
    if size != size_of::<SigSet>() as u64 {
        return Err(Errno::EINVAL);
    }
    let mask = mask.get(mm(cx))?;
    if flags.beyond(F::ALL) {
        return Err(Errno::EINVAL);
    }
    if fd.0 == -1 {
        let file = cx::ipc(cx)?.signalfd(cx, mask, flags.0 & !F::SFD_CLOEXEC)?;
        return cx.install(file, flags.has(F::SFD_CLOEXEC));
    }
    let file = cx::file(cx, fd)?;
    as_signalfd(&file).ok_or(Errno::EINVAL)?.set_mask(mask);
    Ok(fd.0)
}

/// Makes a timer behind a descriptor: `timerfd_create(2)`.
pub fn sys_timerfd_create(cx: &Ctx, clock: ClockId, flags: TimerfdFlags) -> Result<i32> {
    type F = TimerfdFlags;
    if flags.beyond(F::ALL) {
        return Err(Errno::EINVAL);
    }
    let file = cx::ipc(cx)?.timerfd(cx, clock.0, flags.0 & !F::TFD_CLOEXEC)?;
    cx.install(file, flags.has(F::TFD_CLOEXEC))
}

/// Arms a timer: `timerfd_settime(2)`.
pub fn sys_timerfd_settime(
    cx: &Ctx,
    fd: Fd,
    flags: TimerfdSet,
    new: In<Itimerspec>,
    old: Out<Itimerspec>,
) -> Result {
    let mm = mm(cx);
    let new = new.get(mm)?;
    if flags.beyond(TimerfdSet::ALL) {
        return Err(Errno::EINVAL);
    }
    new.value.to_ns()?;
    new.interval.to_ns()?;
    let file = cx::file(cx, fd)?;
    let was = as_timerfd(&file).ok_or(Errno::EINVAL)?.set(flags.0, &new)?;
    old.put_opt(mm, &was)
}

/// Reads a timer: `timerfd_gettime(2)`.
pub fn sys_timerfd_gettime(cx: &Ctx, fd: Fd, value: Out<Itimerspec>) -> Result {
    let file = cx::file(cx, fd)?;
    let now = as_timerfd(&file).ok_or(Errno::EINVAL)?.get();
    value.put(mm(cx), &now)
}
