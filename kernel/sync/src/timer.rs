//! Callbacks at a time of the monotonic clock.
//!
//! One [`TimerQueue`] a machine. It programs the clock of the vCPU that adds
//! the earliest deadline; the clock interrupt calls [`TimerQueue::run`].

use crate::{SpinLock, level};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use hal::cpu;

/// Called once at (or soon after) its deadline, on some vCPU, with no lock held.
/// May take locks of level [`level::IPC`] and inner; must not sleep.
pub trait TimerCallback: Send + Sync {
    /// `now_ns`: the monotonic clock.
    fn expired(&self, now_ns: u64);
}

/// Names an armed timer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct TimerId {
    deadline_ns: u64,
    seq: u64,
}

struct Timers {
    seq: u64,
    map: BTreeMap<TimerId, Arc<dyn TimerCallback>>,
}

/// All armed timers of a machine.
pub struct TimerQueue {
    platform: &'static dyn hal::Platform,
    timers: SpinLock<Timers, { level::TIMER }>,
}

impl TimerQueue {
    /// An empty queue on `platform`'s clock.
    pub fn new(platform: &'static dyn hal::Platform) -> TimerQueue {
        TimerQueue {
            platform,
            timers: SpinLock::new(Timers {
                seq: 0,
                map: BTreeMap::new(),
            }),
        }
    }
    /// Monotonic time in nanoseconds.
    pub fn now(&self) -> u64 {
        self.platform.clock().monotonic_ns()
    }
    /// Arms a timer.
    pub fn add(&self, deadline_ns: u64, callback: Arc<dyn TimerCallback>) -> TimerId {
        let id;
        let earliest;
        {
            let mut t = self.timers.lock();
            t.seq += 1;
            id = TimerId {
                deadline_ns,
                seq: t.seq,
            };
            t.map.insert(id, callback);
            earliest = t.map.first_key_value().is_some_and(|(k, _)| *k == id);
        }
        if earliest {
            self.program();
        }
        id
    }
    /// Disarms a timer; whether it had not fired yet.
    pub fn cancel(&self, id: TimerId) -> bool {
        let gone = self.timers.lock().map.remove(&id);
        gone.is_some()
    }
    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<u64> {
        self.timers
            .lock()
            .map
            .first_key_value()
            .map(|(k, _)| k.deadline_ns)
    }
    /// Makes this vCPU's clock fire no later than the earliest deadline. An
    /// earlier deadline that is programmed already stays (the scheduler's slice).
    pub fn program(&self) {
        if let Some(d) = self.next_deadline() {
            let cpu = cpu::current_cpu();
            if d < cpu.deadline.load(core::sync::atomic::Ordering::Relaxed) {
                self.platform.engine().set_timer(cpu, Some(d));
            }
        }
    }
    /// Calls what has expired. For the clock interrupt and the idle loop. The caller re-programs the clock.
    pub fn run(&self) {
        let now = self.now();
        loop {
            let mut due: Vec<Arc<dyn TimerCallback>> = Vec::new();
            {
                let mut t = self.timers.lock();
                while let Some((k, _)) = t.map.first_key_value() {
                    if k.deadline_ns > now || due.len() >= 64 {
                        break;
                    }
                    if let Some((_, c)) = t.map.pop_first() {
                        due.push(c);
                    }
                }
            }
            if due.is_empty() {
                return;
            }
            for c in due {
                c.expired(now);
            }
        }
    }
}

// Provided at link time by the task layer's platform pointer, or by hal-fake.
unsafe extern "Rust" {
    fn lodger_monotonic_ns() -> u64;
}

/// Monotonic time in nanoseconds, for code that has no clock at hand.
pub fn monotonic_ns() -> u64 {
    // SAFETY: no preconditions.
    unsafe { lodger_monotonic_ns() }
}
