//! Clocks: clock_gettime(2), clock_nanosleep(2).

use crate::{Ctx, Kernel, Process, Task};
use abi::time::Timespec;
use abi::{Errno, Result, raw};
use alloc::boxed::Box;
use alloc::sync::Arc;

/// Resolution of the coarse clocks: that of a 250 Hz tick.
const COARSE_NS: u64 = 4_000_000;

/// What time a clock shows.
#[derive(Clone)]
pub(crate) enum Clock {
    /// Since boot.
    Monotonic,
    /// Since 1970, may be set.
    Realtime,
    /// CPU time of a process: user, or user and system.
    Process(Arc<Process>, CpuKind),
    /// CPU time of a thread.
    Thread(Arc<Task>, CpuKind),
}

/// Which CPU time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CpuKind {
    /// In user mode.
    User,
    /// In user mode and in the kernel.
    Total,
}

impl CpuKind {
    pub(crate) fn of(self, (user, system): (u64, u64)) -> u64 {
        match self {
            CpuKind::User => user,
            CpuKind::Total => user.saturating_add(system),
        }
    }
}

impl Clock {
    /// The clock behind a `clockid_t`. [`Errno::EINVAL`].
    pub(crate) fn from_id(cx: &Ctx, id: i32) -> Result<Clock> {
        if id < 0 {
            return cpu_clock(cx, id);
        }
        Ok(match id as u32 {
            raw::CLOCK_REALTIME
            | raw::CLOCK_REALTIME_COARSE
            | raw::CLOCK_REALTIME_ALARM
            | raw::CLOCK_TAI => Clock::Realtime,
            raw::CLOCK_MONOTONIC
            | raw::CLOCK_MONOTONIC_RAW
            | raw::CLOCK_MONOTONIC_COARSE
            | raw::CLOCK_BOOTTIME
            | raw::CLOCK_BOOTTIME_ALARM => Clock::Monotonic,
            raw::CLOCK_PROCESS_CPUTIME_ID => Clock::Process(cx.process().clone(), CpuKind::Total),
            raw::CLOCK_THREAD_CPUTIME_ID => Clock::Thread(cx.task().arc(), CpuKind::Total),
            _ => return Err(Errno::EINVAL),
        })
    }
    /// Time now, in ns.
    pub(crate) fn now(&self, k: &Kernel) -> u64 {
        match self {
            Clock::Monotonic => k.now(),
            Clock::Realtime => k.realtime(),
            Clock::Process(p, kind) => kind.of(p.cpu_time()),
            Clock::Thread(t, kind) => kind.of(t.cpu_time()),
        }
    }
}

/// A CPU-time clock as clock_getcpuclockid(3) encodes it: the inverted pid above
/// three bits: 4 for a thread, and 0 user and system by ticks, 1 user, 2 exact.
fn cpu_clock(cx: &Ctx, id: i32) -> Result<Clock> {
    const THREAD: i32 = 4;
    let pid = !(id >> 3);
    let kind = match id & 3 {
        1 => CpuKind::User,
        0 | 2 => CpuKind::Total,
        _ => return Err(Errno::EINVAL),
    };
    let pids = &cx.kernel().pids;
    if id & THREAD != 0 {
        let t = match pid {
            0 => cx.task().arc(),
            tid => pids.task(tid).ok_or(Errno::EINVAL)?,
        };
        if !Arc::ptr_eq(&t.process, cx.process()) {
            return Err(Errno::EINVAL);
        }
        return Ok(Clock::Thread(t, kind));
    }
    let p = match pid {
        0 => cx.process().clone(),
        pid => pids.process(pid).ok_or(Errno::EINVAL)?,
    };
    Ok(Clock::Process(p, kind))
}

/// Reads a clock in ns (CLOCK_REALTIME, MONOTONIC, BOOTTIME, RAW, COARSE ones, TAI, CPU-time clocks of
/// this and other processes). [`Errno::EINVAL`].
pub fn read(cx: &Ctx, clock: i32) -> Result<u64> {
    let now = Clock::from_id(cx, clock)?.now(cx.kernel());
    Ok(now - now % granule(clock))
}

/// Resolution of a clock in ns. [`Errno::EINVAL`].
pub fn resolution(cx: &Ctx, clock: i32) -> Result<u64> {
    Clock::from_id(cx, clock)?;
    Ok(granule(clock))
}

/// Steps in which a clock advances, ns. The vDSO knows them too.
fn granule(clock: i32) -> u64 {
    match u32::try_from(clock) {
        Ok(raw::CLOCK_REALTIME_COARSE | raw::CLOCK_MONOTONIC_COARSE) => COARSE_NS,
        _ => 1,
    }
}

/// The real-time clock can be set to less than this, so that it goes on for thirty years at least.
const SET_MAX_NS: u64 = i64::MAX as u64 - 30 * 365 * 24 * 3600 * 1_000_000_000;

/// clock_settime(2). [`Errno::EPERM`]; [`Errno::EINVAL`], also for a time before the machine's start.
pub fn set(cx: &Ctx, clock: i32, ns: u64) -> Result {
    if clock != raw::CLOCK_REALTIME as i32 || ns >= SET_MAX_NS {
        return Err(Errno::EINVAL);
    }
    cx.require(vfs::cred::cap::SYS_TIME)?;
    if ns < cx.kernel().now() {
        return Err(Errno::EINVAL);
    }
    let platform = cx.kernel().platform;
    let c = platform.clock();
    c.adjust_realtime(ns.wrapping_sub(c.realtime_ns()) as i64);
    platform.arch().update_vvar(c);
    Ok(())
}

/// Deadline on the monotonic clock for a time `ns` of `clock` (absolute). [`Errno::EINVAL`], [`Errno::EOPNOTSUPP`].
///
/// A later change of the real-time clock does not move the deadline.
pub fn deadline(cx: &Ctx, clock: i32, ns: u64) -> Result<u64> {
    let k = cx.kernel();
    match Clock::from_id(cx, clock)? {
        Clock::Monotonic => Ok(ns),
        Clock::Realtime => Ok(monotonic_of(k, ns)),
        Clock::Process(..) | Clock::Thread(..) => Err(Errno::EOPNOTSUPP),
    }
}

/// The monotonic time at which the real-time clock will show `ns`.
pub(crate) fn monotonic_of(k: &Kernel, ns: u64) -> u64 {
    let (real, mono) = (k.realtime(), k.now());
    if ns >= real {
        mono.saturating_add(ns - real)
    } else {
        mono.saturating_sub(real - ns)
    }
}

/// clock_nanosleep(2), nanosleep(2): the whole call with guest addresses, restart included.
pub fn nanosleep(cx: &Ctx, clock: i32, absolute: bool, request: u64, remain: u64) -> Result<u64> {
    let which = Clock::from_id(cx, clock)?;
    match (&which, u32::try_from(clock)) {
        (Clock::Thread(..), _) => return Err(Errno::EINVAL),
        (Clock::Process(..), _) => return Err(Errno::EOPNOTSUPP),
        // These clocks have no timers.
        (
            _,
            Ok(raw::CLOCK_MONOTONIC_RAW | raw::CLOCK_MONOTONIC_COARSE | raw::CLOCK_REALTIME_COARSE),
        ) => return Err(Errno::EOPNOTSUPP),
        _ => {}
    }
    let ns = cx.mm().get::<Timespec>(request)?.to_ns()?;
    if absolute {
        let until = deadline(cx, clock, ns)?;
        return sleep(until).map_err(|_| Errno::ERESTARTNOHAND);
    }
    relative_sleep(cx, cx.kernel().now().saturating_add(ns), remain)
}

fn relative_sleep(cx: &Ctx, until: u64, remain: u64) -> Result<u64> {
    if sleep(until).is_ok() {
        return Ok(0);
    }
    let left = until.saturating_sub(cx.kernel().now());
    if left == 0 {
        return Ok(0);
    }
    if remain != 0 {
        cx.mm().put(remain, &Timespec::from_ns(left))?;
    }
    cx.task()
        .set_restart(Box::new(move |cx| relative_sleep(cx, until, remain)));
    Err(Errno::ERESTART_RESTARTBLOCK)
}

/// Sleeps until `deadline_ns` of the monotonic clock; an error if a signal came first.
fn sleep(deadline_ns: u64) -> Result<u64> {
    match sync::wait_event::<()>(&[], true, Some(deadline_ns), false, || None) {
        Err(Errno::ETIMEDOUT) | Ok(()) => Ok(0),
        Err(e) => Err(e),
    }
}
