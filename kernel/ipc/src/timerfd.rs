//! timerfd_create(2): timers as something to read.
//!
//! An interval timer is armed for its next expiry only once the last one has
//! been read: what passed meanwhile is counted at the read, so a short interval
//! costs nothing while nobody looks.

use crate::Ipc;
use abi::time::{Itimerspec, Timespec};
use abi::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::fmt::Write;
use mm::io::Sink;
use sync::timer::{TimerCallback, TimerId};
use sync::{SpinLock, WaitQueue, level};
use vfs::file::Caller;
use vfs::text::Text;
use vfs::{File, FileOps, OpenFlags, PollEvents, PollTable};

const CLOCK_REALTIME: i32 = 0;
const CLOCK_MONOTONIC: i32 = 1;
const CLOCK_BOOTTIME: i32 = 7;
const CLOCK_REALTIME_ALARM: i32 = 8;
const CLOCK_BOOTTIME_ALARM: i32 = 9;
/// `CAP_WAKE_ALARM`.
const CAP_WAKE_ALARM: u32 = 35;
const TFD_TIMER_ABSTIME: u32 = 1;
const TFD_TIMER_CANCEL_ON_SET: u32 = 2;

#[derive(Default)]
struct Inner {
    /// Next expiry on the monotonic clock; `None` = disarmed.
    next: Option<u64>,
    /// The same on the real-time clock, for absolute timers of that clock.
    wall: Option<u64>,
    interval: u64,
    /// Expiries that nobody has read.
    ticks: u64,
    /// In the timer queue.
    armed: Option<TimerId>,
    /// The real-time clock was set, and the timer is to tell.
    cancelled: bool,
    cancel_on_set: bool,
    flags: u32,
}

/// The part of a timerfd that the timer queue knows.
pub struct TimerState {
    this: Weak<TimerState>,
    ipc: Arc<Ipc>,
    clock: i32,
    inner: SpinLock<Inner, { level::IPC }>,
    queue: Arc<WaitQueue>,
}

impl TimerState {
    fn is_realtime(&self) -> bool {
        matches!(self.clock, CLOCK_REALTIME | CLOCK_REALTIME_ALARM)
    }
    /// Counts what has expired by `now` and moves on to the next expiry.
    fn advance(t: &mut Inner, now: u64) {
        let Some(next) = t.next.filter(|n| *n <= now) else {
            return;
        };
        if t.interval == 0 {
            t.ticks = t.ticks.saturating_add(1);
            t.next = None;
            t.wall = None;
            return;
        }
        let n = (now - next) / t.interval + 1;
        let step = n.saturating_mul(t.interval);
        t.ticks = t.ticks.saturating_add(n);
        t.next = Some(next.saturating_add(step));
        t.wall = t.wall.map(|w| w.saturating_add(step));
    }
    /// Puts the timer in the queue if it should be there. `t` is locked: levels IPC, then TIMER.
    fn arm(&self, t: &mut Inner) {
        if let Some(id) = t.armed.take() {
            self.ipc.timers.cancel(id);
        }
        if t.ticks == 0
            && let (Some(next), Some(this)) = (t.next, self.this.upgrade())
        {
            t.armed = Some(self.ipc.timers.add(next, this));
        }
    }
    fn take(&self) -> Option<Result<u64>> {
        let mut t = self.inner.lock();
        if core::mem::take(&mut t.cancelled) {
            t.ticks = 0;
            return Some(Err(Errno::ECANCELED));
        }
        Self::advance(&mut t, self.ipc.timers.now());
        if t.ticks == 0 {
            return None;
        }
        let n = core::mem::take(&mut t.ticks);
        self.arm(&mut t);
        Some(Ok(n))
    }
    fn clock_was_set(&self) {
        let wake = {
            let mut t = self.inner.lock();
            if let Some(wall) = t.wall {
                t.next = Some(self.wall_to_monotonic(wall));
                self.arm(&mut t);
            }
            if t.cancel_on_set {
                t.cancelled = true;
            }
            t.cancel_on_set
        };
        if wake {
            self.queue.wake_key(PollEvents::IN.bits());
        }
    }
    fn wall_to_monotonic(&self, wall: u64) -> u64 {
        let clock = self.ipc.platform.clock();
        let offset = clock.realtime_ns() as i128 - clock.monotonic_ns() as i128;
        (wall as i128 - offset).clamp(0, u64::MAX as i128 - 1) as u64
    }
}

impl TimerCallback for TimerState {
    fn expired(&self, now_ns: u64) {
        {
            let mut t = self.inner.lock();
            t.armed = None;
            Self::advance(&mut t, now_ns);
            if t.ticks == 0 {
                // Set anew meanwhile.
                self.arm(&mut t);
                return;
            }
        }
        self.queue
            .wake_key((PollEvents::IN | PollEvents::RDNORM).bits());
    }
}

/// A timerfd.
pub struct TimerFd(Arc<TimerState>);

impl Drop for TimerFd {
    fn drop(&mut self) {
        let armed = {
            let mut t = self.0.inner.lock();
            t.next = None;
            t.armed.take()
        };
        if let Some(id) = armed {
            self.0.ipc.timers.cancel(id);
        }
    }
}

fn remaining(t: &Inner, now: u64) -> Itimerspec {
    let value = match t.next {
        Some(next) => next.saturating_sub(now).max(1),
        None => 0,
    };
    Itimerspec {
        interval: Timespec::from_ns(t.interval),
        value: Timespec::from_ns(value),
    }
}

impl TimerFd {
    /// timerfd_gettime(2).
    pub fn get(&self) -> Itimerspec {
        let s = &self.0;
        let mut t = s.inner.lock();
        let now = s.ipc.timers.now();
        TimerState::advance(&mut t, now);
        remaining(&t, now)
    }
    /// timerfd_settime(2): the old setting. [`Errno::EINVAL`].
    pub fn set(&self, flags: u32, new: &Itimerspec) -> Result<Itimerspec> {
        if flags & !(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET) != 0 {
            return Err(Errno::EINVAL);
        }
        let (value, interval) = (new.value.to_ns()?, new.interval.to_ns()?);
        let s = &self.0;
        let now = s.ipc.timers.now();
        let (next, wall) = match (value, flags & TFD_TIMER_ABSTIME != 0, s.is_realtime()) {
            (0, _, _) => (None, None),
            (v, false, _) => (Some(now.saturating_add(v)), None),
            (v, true, false) => (Some(v), None),
            (v, true, true) => (Some(s.wall_to_monotonic(v)), Some(v)),
        };
        let cancel = flags & TFD_TIMER_CANCEL_ON_SET != 0
            && flags & TFD_TIMER_ABSTIME != 0
            && s.is_realtime();
        let (old, was_cancelled) = {
            let mut t = s.inner.lock();
            TimerState::advance(&mut t, now);
            let old = remaining(&t, now);
            let was_cancelled = cancel && core::mem::take(&mut t.cancelled);
            t.ticks = 0;
            t.next = next;
            t.wall = wall;
            t.interval = interval;
            t.flags = flags;
            t.cancel_on_set = cancel;
            t.cancelled = false;
            s.arm(&mut t);
            (old, was_cancelled)
        };
        if wall.is_some() || cancel {
            let mut all = s.ipc.realtime.lock();
            all.retain(|w| w.strong_count() > 0);
            if !all.iter().any(|w| Weak::ptr_eq(w, &s.this)) {
                all.push(s.this.clone());
            }
        }
        if was_cancelled {
            return Err(Errno::ECANCELED);
        }
        Ok(old)
    }
}

impl FileOps for TimerFd {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn read(&self, f: &File, _cx: &dyn Caller, _pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        if dst.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let n = match self.0.take() {
            Some(r) => r?,
            None if f.nonblock() => return Err(Errno::EAGAIN),
            // Wake-up proof: expiry counts the tick before it wakes the queue.
            None => self.0.queue.wait(|| self.0.take())??,
        };
        if dst.put(&n.to_ne_bytes())? < 8 {
            return Err(Errno::EFAULT);
        }
        Ok(8)
    }
    fn poll(&self, _f: &File, table: Option<&mut PollTable<'_>>) -> PollEvents {
        if let Some(t) = table {
            t.add(self.0.queue.clone());
        }
        let t = self.0.inner.lock();
        if t.ticks > 0 || t.cancelled {
            PollEvents::IN
        } else {
            PollEvents::empty()
        }
    }
    fn fdinfo(&self, _f: &File, out: &mut Text) -> core::fmt::Result {
        let (ticks, flags) = {
            let t = self.0.inner.lock();
            (t.ticks, t.flags)
        };
        let s = self.get();
        writeln!(
            out,
            "clockid: {}\nticks: {ticks}\nsettime flags: {flags:02o}\nit_value: ({}, {})\nit_interval: ({}, {})",
            self.0.clock, s.value.sec, s.value.nsec, s.interval.sec, s.interval.nsec
        )
    }
    fn anon_name(&self) -> Option<Vec<u8>> {
        Some(b"anon_inode:[timerfd]".to_vec())
    }
}

/// The timerfd behind a file, if it is one.
pub fn as_timerfd(f: &File) -> Option<&TimerFd> {
    f.ops.as_any().downcast_ref()
}

impl Ipc {
    /// timerfd_create(2). `flags`: TFD_NONBLOCK (TFD_CLOEXEC is the caller's). [`Errno::EINVAL`], [`Errno::EPERM`].
    pub fn timerfd(self: &Arc<Self>, cx: &dyn Caller, clock: i32, flags: u32) -> Result<Arc<File>> {
        let may = OpenFlags::NONBLOCK | OpenFlags::CLOEXEC;
        let known = matches!(
            clock,
            CLOCK_REALTIME
                | CLOCK_MONOTONIC
                | CLOCK_BOOTTIME
                | CLOCK_REALTIME_ALARM
                | CLOCK_BOOTTIME_ALARM
        );
        if flags & !may.bits() != 0 || !known {
            return Err(Errno::EINVAL);
        }
        if matches!(clock, CLOCK_REALTIME_ALARM | CLOCK_BOOTTIME_ALARM)
            && !cx.cred().capable(CAP_WAKE_ALARM)
        {
            return Err(Errno::EPERM);
        }
        let state = Arc::new_cyclic(|this| TimerState {
            this: this.clone(),
            ipc: self.clone(),
            clock,
            inner: SpinLock::new(Inner::default()),
            queue: Arc::new(WaitQueue::new()),
        });
        let f = OpenFlags::from_bits_retain(flags) & OpenFlags::NONBLOCK;
        self.anon_file(cx, Arc::new(TimerFd(state)), f | OpenFlags::RDWR)
    }
    /// To be called after the real-time clock was set: timers of that clock follow, TFD_TIMER_CANCEL_ON_SET tells.
    pub fn clock_was_set(&self) {
        let all: Vec<_> = {
            let mut all = self.realtime.lock();
            all.retain(|w| w.strong_count() > 0);
            all.iter().filter_map(Weak::upgrade).collect()
        };
        for t in all {
            t.clock_was_set();
        }
    }
}
