//! Which vCPU runs a task.
//!
//! Waking across vCPUs costs far more than a switch, so a woken task that uses
//! little time stays with its waker: the waker is about to sleep. Tasks that
//! use long stretches of CPU time go to idle vCPUs, when they wake, or when they
//! have waited in a queue for a while (the clock interrupt of the busy vCPU then
//! wakes an idle one, which pulls).

use super::Scheduler;
use crate::{Kernel, Task};
use core::sync::atomic::Ordering;
use hal::cpu::{self, IRQ_RESCHED};

/// A task that runs longer than this between two sleeps is worth a vCPU of its own.
const LONG_BURST_NS: u64 = 1_000_000;
/// A task that has waited this long may be pulled.
const MIN_WAIT_NS: u64 = 400_000;

fn allowed(sched: &Scheduler, task: &Task) -> u64 {
    let online = sched.online();
    let mask = task.sched.affinity.load(Ordering::Relaxed) & online;
    if mask == 0 { online } else { mask }
}

/// Some vCPU that the task may use, an idle one if possible.
pub(super) fn any_allowed(sched: &Scheduler, task: &Task) -> u32 {
    let mask = allowed(sched, task);
    let mut best = mask.trailing_zeros();
    let mut least = usize::MAX;
    for c in (0..64).filter(|c| mask >> c & 1 != 0) {
        let nr = sched.rq(c).nr.load(Ordering::Relaxed);
        if nr < least {
            least = nr;
            best = c;
        }
    }
    best
}

/// Where a woken task goes; `last` is where it ran before.
pub(super) fn select_cpu(sched: &Scheduler, task: &Task, last: u32) -> u32 {
    let mask = allowed(sched, task);
    let here = cpu::current_cpu().id;
    let may = |c: u32| mask >> c & 1 != 0;
    let free = |c: u32| may(c) && sched.rq(c).nr.load(Ordering::Relaxed) == 0;
    let burst = task.sched.burst.load(Ordering::Relaxed);
    if !may(here) {
        return if free(last) || may(last) && burst < LONG_BURST_NS {
            last
        } else {
            any_allowed(sched, task)
        };
    }
    if free(here) {
        return here;
    }
    if burst < LONG_BURST_NS {
        // Short bursts stay unless a queue has built up here.
        let nr = sched.rq(here).nr.load(Ordering::Relaxed);
        return if nr > 2 && free(last) { last } else { here };
    }
    if free(last) {
        return last;
    }
    let best = any_allowed(sched, task);
    if free(best) {
        best
    } else if may(last) {
        last
    } else {
        here
    }
}

/// Whether a vCPU idles.
pub(super) fn somebody_idles(sched: &Scheduler) -> bool {
    sched.rqs.len() > 1
        && sched
            .rqs
            .iter()
            .any(|r| r.block.get().is_some() && r.nr.load(Ordering::Relaxed) == 0)
}

/// Wakes an idle vCPU if a task has waited here for long.
pub(super) fn kick_idle(kernel: &Kernel, id: u32, now: u64) {
    let sched = &kernel.sched;
    if !somebody_idles(sched) {
        return;
    }
    let mut mask = 0;
    {
        let q = sched.rq(id).inner.lock();
        for t in q.fair.iter() {
            let waited = now.saturating_sub(t.sched.queued_at.load(Ordering::Relaxed));
            if waited >= MIN_WAIT_NS {
                mask |= allowed(sched, t);
            }
        }
    }
    for c in (0..64).filter(|c| mask >> c & 1 != 0 && *c != id) {
        if sched.rq(c).idle.load(Ordering::SeqCst)
            && let Some(b) = sched.block(c)
        {
            kernel.platform.engine().interrupt(b, IRQ_RESCHED);
            return;
        }
    }
}

/// Takes a waiting task from a busy vCPU to `id`, which has nothing to do.
pub(super) fn pull(kernel: &Kernel, id: u32) -> bool {
    let sched = &kernel.sched;
    if sched.rqs.len() < 2 {
        return false;
    }
    let now = kernel.now();
    for c in (0..sched.rqs.len() as u32).filter(|c| *c != id) {
        let rq = sched.rq(c);
        if rq.nr.load(Ordering::Relaxed) < 2 {
            continue;
        }
        let (t, floor) = {
            let mut q = rq.inner.lock();
            let fits = |t: &alloc::sync::Arc<Task>| {
                allowed(sched, t) >> id & 1 != 0
                    && now.saturating_sub(t.sched.queued_at.load(Ordering::Relaxed)) >= MIN_WAIT_NS
            };
            let Some(t) = q.rt.take(fits).or_else(|| q.fair.take(fits)) else {
                continue;
            };
            rq.nr.fetch_sub(1, Ordering::SeqCst);
            // Off every queue, but no waker may act on it: its state is RUNNING.
            t.sched.cpu.store(id, Ordering::Release);
            (t, q.fair.min_vruntime)
        };
        let rq = sched.rq(id);
        let mut q = rq.inner.lock();
        let v = t.sched.vruntime.load(Ordering::Relaxed);
        let v = v.saturating_sub(floor).saturating_add(q.fair.min_vruntime);
        t.sched.vruntime.store(v, Ordering::Relaxed);
        q.enqueue(t, false);
        rq.nr.fetch_add(1, Ordering::SeqCst);
        return true;
    }
    false
}
