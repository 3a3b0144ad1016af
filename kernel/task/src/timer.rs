//! Timers of a process: alarm(2), setitimer(2), timer_create(2), RLIMIT_CPU.
//!
//! All of them are [`Timer`]s in one table. A timer on real or monotonic time is
//! armed in the machine's timer queue for its deadline. One on CPU time is armed
//! for the earliest moment at which that much CPU time can have been used, and
//! armed again for the rest if it has not. Arming happens outside the table's
//! lock; a generation number tells a callback that its timer was set anew.

use crate::clock::{Clock, CpuKind, monotonic_of};
use crate::level;
use crate::{Ctx, Kernel, Process, Task, signal};
use abi::process::{RLIM_INFINITY, Rlimit};
use abi::signal::{SIGALRM, SIGKILL, SIGPROF, SIGVTALRM, SIGXCPU};
use abi::time::{Itimerspec, NSEC_PER_SEC, Sigevent, Timespec};
use abi::{Errno, Result, SigInfo, raw};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use sync::SpinLock;
use sync::timer::{TimerCallback, TimerId};
use vfs::users::Share;

/// Shortest wait before CPU time is looked at again.
const CPU_POLL_NS: u64 = 1_000_000;
/// Shortest time between two interrupts for one timer.
const MIN_INTERVAL_NS: u64 = 50_000;
/// Largest overrun that is reported, DELAYTIMER_MAX.
const OVERRUN_MAX: u64 = i32::MAX as u64;

/// Names a timer of a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Which {
    /// setitimer(2): ITIMER_REAL, VIRTUAL, PROF.
    Interval(u32),
    /// RLIMIT_CPU.
    CpuLimit,
    /// timer_create(2).
    Posix(i32),
}

/// What expiry does.
#[derive(Clone)]
enum Notify {
    Nothing,
    /// Signal of the kernel to the process.
    Process(i32),
    /// SI_TIMER to the process, or to one thread: signal, value.
    Event(i32, u64, Option<Weak<Task>>),
    /// SIGXCPU each second, SIGKILL at this CPU time.
    Limit(u64),
}

struct Timer {
    clock: Clock,
    notify: Notify,
    /// Next expiry in the clock's time; `None`: disarmed.
    at: Option<u64>,
    interval: u64,
    generation: u64,
    armed: Option<TimerId>,
    /// Expiries since the signal was queued, and those of the signal last queued.
    overrun: u64,
    reported: u64,
    /// Its signal's place in the queue, of a timer of timer_create(2).
    _place: Option<Share>,
}

#[derive(Default)]
struct Table {
    timers: BTreeMap<Which, Timer>,
    next_id: i32,
    generation: u64,
}

/// Timers of a process.
#[derive(Default)]
pub(crate) struct ProcessTimers {
    table: SpinLock<Table, { level::TASK }>,
}

/// Told by the timer queue.
struct Expiry {
    process: Weak<Process>,
    which: Which,
    generation: u64,
}

impl TimerCallback for Expiry {
    fn expired(&self, _now_ns: u64) {
        if let Some(p) = self.process.upgrade() {
            p.timers.expired(&p, self.which, self.generation);
        }
    }
}

/// When the timer queue is to look at a timer, in monotonic time.
fn look_at(k: &Kernel, clock: &Clock, at: u64) -> u64 {
    match clock {
        Clock::Monotonic => at,
        Clock::Realtime => monotonic_of(k, at),
        Clock::Process(..) | Clock::Thread(..) => {
            // All vCPUs together can use this much in less real time.
            let left = at.saturating_sub(clock.now(k)) / u64::from(k.ncpus().max(1));
            k.now().saturating_add(left.max(CPU_POLL_NS))
        }
    }
}

impl ProcessTimers {
    pub(crate) fn new() -> ProcessTimers {
        ProcessTimers::default()
    }
    /// Arms `which` in the queue for what the table says. No lock held.
    fn arm(&self, p: &Arc<Process>, which: Which) {
        let (clock, at, interval, generation, old) = {
            let mut t = self.table.lock();
            t.generation += 1;
            let generation = t.generation;
            let Some(timer) = t.timers.get_mut(&which) else {
                return;
            };
            timer.generation = generation;
            (
                timer.clock.clone(),
                timer.at,
                timer.interval,
                generation,
                timer.armed.take(),
            )
        };
        let queue = &p.kernel.timers;
        if let Some(old) = old {
            queue.cancel(old);
        }
        let Some(at) = at else { return };
        let expiry = Expiry {
            process: Arc::downgrade(p),
            which,
            generation,
        };
        let mut look = look_at(p.kernel, &clock, at);
        if interval != 0 && interval < MIN_INTERVAL_NS {
            // Expires more often than it is worth an interrupt: the rest is overrun.
            look = look.max(p.kernel.now().saturating_add(MIN_INTERVAL_NS));
        }
        let id = queue.add(look, Arc::new(expiry));
        let stale = {
            let mut t = self.table.lock();
            match t.timers.get_mut(&which) {
                Some(timer) if timer.generation == generation => {
                    timer.armed = Some(id);
                    false
                }
                _ => true,
            }
        };
        if stale {
            queue.cancel(id);
        }
    }
    fn expired(&self, p: &Arc<Process>, which: Which, generation: u64) {
        let k = p.kernel;
        let clock = {
            let t = self.table.lock();
            match t.timers.get(&which) {
                Some(timer) if timer.generation == generation => timer.clock.clone(),
                _ => return,
            }
        };
        let now = clock.now(k);
        let (notify, missed) = {
            let mut t = self.table.lock();
            let Some(timer) = t.timers.get_mut(&which) else {
                return;
            };
            let (true, Some(at)) = (timer.generation == generation, timer.at) else {
                return;
            };
            if now < at {
                (Notify::Nothing, 0)
            } else {
                let missed = (now - at).checked_div(timer.interval).unwrap_or(0);
                timer.at = (timer.interval > 0)
                    .then(|| at.saturating_add(timer.interval.saturating_mul(missed + 1)));
                (timer.notify.clone(), missed)
            }
        };
        self.notify(p, which, notify, missed, now);
        self.arm(p, which);
    }
    fn notify(&self, p: &Arc<Process>, which: Which, notify: Notify, missed: u64, now: u64) {
        match notify {
            Notify::Nothing => {}
            Notify::Process(signo) => {
                signal::send_process(p, SigInfo::new(signo, signal::SI_KERNEL));
            }
            Notify::Limit(hard) => {
                let signo = if now >= hard { SIGKILL } else { SIGXCPU };
                signal::send_process(p, SigInfo::new(signo, signal::SI_KERNEL));
            }
            Notify::Event(signo, value, thread) => {
                let Which::Posix(id) = which else { return };
                let thread = thread.map(|t| t.upgrade());
                let waiting = match &thread {
                    Some(Some(t)) => t.timer_pending(signo, id),
                    Some(None) => return,
                    None => p.timer_pending(signo, id),
                };
                let overrun = {
                    let mut t = self.table.lock();
                    let Some(timer) = t.timers.get_mut(&which) else {
                        return;
                    };
                    timer.overrun = timer.overrun.saturating_add(missed);
                    if waiting {
                        // The signal of an earlier expiry still waits: one signal, more overrun.
                        timer.overrun = timer.overrun.saturating_add(1);
                        return;
                    }
                    timer.reported = core::mem::take(&mut timer.overrun).min(OVERRUN_MAX);
                    timer.reported
                };
                let info = SigInfo::timer(signo, id, overrun as i32, value);
                signal::send_timer(p, thread.flatten().as_deref(), info);
            }
        }
    }
    /// Value and interval left, in the clock's ns; 0 = disarmed.
    fn left(&self, k: &Kernel, which: Which) -> Option<(u64, u64)> {
        let (clock, at, interval) = {
            let t = self.table.lock();
            let timer = t.timers.get(&which)?;
            (timer.clock.clone(), timer.at, timer.interval)
        };
        // An armed timer never shows 0.
        let left = at.map_or(0, |at| at.saturating_sub(clock.now(k)).max(1));
        Some((left, interval))
    }
    /// Sets a timer of the table and arms it.
    fn set(&self, p: &Arc<Process>, which: Which, at: Option<u64>, interval: u64) {
        {
            let mut t = self.table.lock();
            let Some(timer) = t.timers.get_mut(&which) else {
                return;
            };
            timer.at = at;
            timer.interval = interval;
            timer.overrun = 0;
            timer.reported = 0;
        }
        self.arm(p, which);
    }
    fn insert(&self, which: Which, clock: Clock, notify: Notify, place: Option<Share>) {
        let timer = Timer {
            clock,
            notify,
            at: None,
            interval: 0,
            generation: 0,
            armed: None,
            overrun: 0,
            reported: 0,
            _place: place,
        };
        let old = self.table.lock().timers.insert(which, timer);
        drop(old);
    }
    fn remove(&self, k: &Kernel, which: Which) -> bool {
        let gone = self.table.lock().timers.remove(&which);
        if let Some(id) = gone.as_ref().and_then(|t| t.armed) {
            k.timers.cancel(id);
        }
        gone.is_some()
    }
    fn remove_all(&self, k: &Kernel, keep: impl Fn(Which) -> bool) {
        let all: alloc::vec::Vec<Which> = self.table.lock().timers.keys().copied().collect();
        for which in all.into_iter().filter(|w| !keep(*w)) {
            self.remove(k, which);
        }
    }
    /// The process ends: nothing fires any more.
    pub(crate) fn exit(&self, k: &Kernel) {
        self.remove_all(k, |_| false);
    }
    /// exec deletes the timers of timer_create(2).
    pub(crate) fn exec(&self, k: &Kernel) {
        self.remove_all(k, |w| !matches!(w, Which::Posix(_)));
    }
    /// RLIMIT_CPU was set; also called for a new process that inherits one.
    pub(crate) fn cpu_limit_changed(&self, p: &Process, new: Rlimit) {
        if new.cur == RLIM_INFINITY && new.max == RLIM_INFINITY {
            self.remove(p.kernel, Which::CpuLimit);
            return;
        }
        let p = p.arc();
        let soft = new.cur.min(new.max).max(1).saturating_mul(NSEC_PER_SEC);
        let hard = new.max.saturating_mul(NSEC_PER_SEC);
        let clock = Clock::Process(p.clone(), CpuKind::Total);
        self.remove(p.kernel, Which::CpuLimit);
        self.insert(Which::CpuLimit, clock, Notify::Limit(hard), None);
        self.set(&p, Which::CpuLimit, Some(soft), NSEC_PER_SEC);
    }
}

fn interval_timer(which: i32) -> Result<(Which, i32)> {
    match u32::try_from(which) {
        Ok(n @ raw::ITIMER_REAL) => Ok((Which::Interval(n), SIGALRM)),
        Ok(n @ raw::ITIMER_VIRTUAL) => Ok((Which::Interval(n), SIGVTALRM)),
        Ok(n @ raw::ITIMER_PROF) => Ok((Which::Interval(n), SIGPROF)),
        _ => Err(Errno::EINVAL),
    }
}

/// Which interval timer: ITIMER_REAL 0, VIRTUAL 1, PROF 2. Value and interval in ns.
pub fn getitimer(cx: &Ctx, which: i32) -> Result<(u64, u64)> {
    let (which, _) = interval_timer(which)?;
    Ok(cx
        .process()
        .timers
        .left(cx.kernel(), which)
        .unwrap_or_default())
}

/// Sets one (value 0 disarms); returns the old value and interval in ns.
pub fn setitimer(cx: &Ctx, which: i32, value: u64, interval: u64) -> Result<(u64, u64)> {
    let (w, signo) = interval_timer(which)?;
    let p = cx.process();
    let old = p.timers.left(cx.kernel(), w);
    let clock = match w {
        Which::Interval(raw::ITIMER_REAL) => Clock::Monotonic,
        Which::Interval(raw::ITIMER_VIRTUAL) => Clock::Process(p.clone(), CpuKind::User),
        _ => Clock::Process(p.clone(), CpuKind::Total),
    };
    if value == 0 {
        p.timers.remove(cx.kernel(), w);
        return Ok(old.unwrap_or_default());
    }
    let at = clock.now(cx.kernel()).saturating_add(value);
    if old.is_none() {
        p.timers.insert(w, clock, Notify::Process(signo), None);
    }
    p.timers.set(p, w, Some(at), interval);
    Ok(old.unwrap_or_default())
}

/// Who is told of a `struct sigevent`. [`Errno::EINVAL`].
fn notify_of(cx: &Ctx, ev: &Sigevent) -> Result<Notify> {
    /// SIGEV_THREAD_ID, a flag.
    const THREAD_ID: i32 = raw::SIGEV_THREAD_ID as i32;
    match ev.notify & !THREAD_ID {
        n if n == raw::SIGEV_NONE as i32 && ev.notify & THREAD_ID == 0 => Ok(Notify::Nothing),
        n if n == raw::SIGEV_SIGNAL as i32 || n == raw::SIGEV_THREAD as i32 => {
            if !(1..=64).contains(&ev.signo) {
                return Err(Errno::EINVAL);
            }
            let thread = if ev.notify & THREAD_ID != 0 {
                let t = cx.kernel().pids.task(ev.tid).ok_or(Errno::EINVAL)?;
                if !Arc::ptr_eq(&t.process, cx.process()) {
                    return Err(Errno::EINVAL);
                }
                Some(Arc::downgrade(&t))
            } else {
                None
            };
            Ok(Notify::Event(ev.signo, ev.value, thread))
        }
        _ => Err(Errno::EINVAL),
    }
}

/// timer_create(2); `event` `None`: SIGALRM. Returns the id.
pub fn timer_create(cx: &Ctx, clock: i32, event: Option<Sigevent>) -> Result<i32> {
    let which_clock = Clock::from_id(cx, clock)?;
    if let Ok(raw::CLOCK_MONOTONIC_RAW | raw::CLOCK_MONOTONIC_COARSE | raw::CLOCK_REALTIME_COARSE) =
        u32::try_from(clock)
    {
        return Err(Errno::EOPNOTSUPP);
    }
    let notify = match &event {
        Some(ev) => Some(notify_of(cx, ev)?),
        None => None,
    };
    let p = cx.process();
    let limit = p.rlimit(raw::RLIMIT_SIGPENDING).cur;
    let queued = &cx.kernel().queued_signals;
    let place = queued.take_one(cx.cred().uid, limit, false);
    let place = place.ok_or(Errno::EAGAIN)?;
    let id = {
        let mut t = p.timers.table.lock();
        loop {
            let id = t.next_id;
            t.next_id = id.checked_add(1).unwrap_or(0);
            if !t.timers.contains_key(&Which::Posix(id)) {
                break id;
            }
        }
    };
    // By default the signal carries the timer's id.
    let notify = notify.unwrap_or(Notify::Event(SIGALRM, id as u64, None));
    (p.timers).insert(Which::Posix(id), which_clock, notify, Some(place));
    Ok(id)
}

fn spec((left, interval): (u64, u64)) -> Itimerspec {
    Itimerspec {
        interval: Timespec::from_ns(interval),
        value: Timespec::from_ns(left),
    }
}

/// timer_settime(2): returns the old setting.
pub fn timer_settime(cx: &Ctx, id: i32, flags: i32, new: Itimerspec) -> Result<Itimerspec> {
    let value = new.value.to_ns()?;
    let interval = new.interval.to_ns()?;
    let p = cx.process();
    let which = Which::Posix(id);
    let old = p.timers.left(cx.kernel(), which).ok_or(Errno::EINVAL)?;
    let clock = {
        let t = p.timers.table.lock();
        t.timers.get(&which).ok_or(Errno::EINVAL)?.clock.clone()
    };
    let at = match value {
        0 => None,
        v if flags & raw::TIMER_ABSTIME as i32 != 0 => Some(v),
        v => Some(clock.now(cx.kernel()).saturating_add(v)),
    };
    p.timers.set(p, which, at, interval);
    Ok(spec(old))
}

/// timer_gettime(2).
pub fn timer_gettime(cx: &Ctx, id: i32) -> Result<Itimerspec> {
    let t = cx.process().timers.left(cx.kernel(), Which::Posix(id));
    t.map(spec).ok_or(Errno::EINVAL)
}

/// timer_getoverrun(2).
pub fn timer_getoverrun(cx: &Ctx, id: i32) -> Result<i32> {
    let t = cx.process().timers.table.lock();
    let timer = t.timers.get(&Which::Posix(id)).ok_or(Errno::EINVAL)?;
    Ok(timer.reported as i32)
}

/// timer_delete(2).
pub fn timer_delete(cx: &Ctx, id: i32) -> Result {
    if cx.process().timers.remove(cx.kernel(), Which::Posix(id)) {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}
