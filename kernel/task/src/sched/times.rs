//! Time in user and system mode.

use super::{RunQueue, queue_of};
use crate::Task;
use core::sync::atomic::{AtomicU64, Ordering};

/// Brings the task's times up to date at `now`.
///
/// Only the vCPU that the task runs on writes these words.
pub(super) fn account(rq: &RunQueue, t: &Task, now: u64) {
    let d = now.saturating_sub(t.stamp.load(Ordering::Relaxed));
    t.stamp.store(now, Ordering::Relaxed);
    let i = if t.sched.in_user.load(Ordering::Relaxed) {
        add(&t.utime, d);
        usize::from(t.sched.nice.load(Ordering::Relaxed) > 0)
    } else {
        add(&t.stime, d);
        2
    };
    if let Some(c) = rq.times.get(i) {
        add(c, d);
    }
    let engine = t.kernel.platform.engine();
    if engine.short_ticks() != 0 {
        rq.accounted.store(engine.ticks(), Ordering::Relaxed);
    }
}

/// Adds to a word that nobody else writes meanwhile. Gives the sum.
pub(super) fn add(word: &AtomicU64, n: u64) -> u64 {
    let sum = word.load(Ordering::Relaxed) + n;
    word.store(sum, Ordering::Relaxed);
    sum
}

/// The current task goes to user mode (`true`) or comes back. Returns the time.
pub(crate) fn user_transition(t: &Task, user: bool) -> u64 {
    let now = t.kernel.now();
    account(queue_of(t), t, now);
    t.sched.in_user.store(user, Ordering::Relaxed);
    now
}

/// The current task goes to user mode or comes back, so shortly after the last
/// [`user_transition`] that its times are brought up to date later.
pub(crate) fn note_mode(t: &Task, user: bool) {
    t.sched.in_user.store(user, Ordering::Relaxed);
}

/// Engine ticks when the times of what this vCPU runs were last brought up to date.
pub(crate) fn accounted(t: &Task) -> u64 {
    queue_of(t).accounted.load(Ordering::Relaxed)
}

/// Whether the current task's time counts as that of user mode.
pub(crate) fn is_in_user(t: &Task) -> bool {
    t.sched.in_user.load(Ordering::Relaxed)
}
