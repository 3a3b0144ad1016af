//! Policies, priorities and affinity: sched(7).

use super::{RR_SLICE_NS, SLICE_NS, balance};
use crate::Task;
use abi::{Errno, Result};
use core::sync::atomic::Ordering;
use hal::cpu;

/// Scheduling policy, sched(7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
#[expect(missing_docs)]
pub enum Policy {
    Normal = 0,
    Fifo = 1,
    RoundRobin = 2,
    Batch = 3,
    Idle = 5,
}

impl Policy {
    /// From its number. [`Errno::EINVAL`].
    pub fn from_number(n: u32) -> Result<Policy> {
        Ok(match n {
            0 => Policy::Normal,
            1 => Policy::Fifo,
            2 => Policy::RoundRobin,
            3 => Policy::Batch,
            5 => Policy::Idle,
            _ => return Err(Errno::EINVAL),
        })
    }
    /// SCHED_FIFO or SCHED_RR.
    pub fn is_realtime(self) -> bool {
        matches!(self, Policy::Fifo | Policy::RoundRobin)
    }
}

/// Parameters of a task's scheduling.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SchedParams {
    /// Policy.
    pub policy: Policy,
    /// -20 to 19.
    pub nice: i32,
    /// 1 to 99 for the real-time policies, else 0.
    pub priority: i32,
    /// SCHED_RESET_ON_FORK.
    pub reset_on_fork: bool,
}

impl Default for SchedParams {
    fn default() -> Self {
        SchedParams {
            policy: Policy::Normal,
            nice: 0,
            priority: 0,
            reset_on_fork: false,
        }
    }
}

impl SchedParams {
    /// What a child gets.
    pub(crate) fn for_child(self) -> SchedParams {
        if !self.reset_on_fork {
            return self;
        }
        SchedParams {
            policy: if self.policy.is_realtime() {
                Policy::Normal
            } else {
                self.policy
            },
            nice: if self.policy.is_realtime() {
                0
            } else {
                self.nice.max(0)
            },
            priority: 0,
            reset_on_fork: false,
        }
    }
}

/// Parameters of a task.
pub fn params(task: &Task) -> SchedParams {
    let s = &task.sched;
    SchedParams {
        policy: Policy::from_number(s.policy.load(Ordering::Relaxed)).unwrap_or(Policy::Normal),
        nice: s.nice.load(Ordering::Relaxed),
        priority: s.priority.load(Ordering::Relaxed),
        reset_on_fork: s.reset_on_fork.load(Ordering::Relaxed),
    }
}

/// Priority that it runs with: 1 to 99 = real-time, its own or that of a task that waits for
/// a PI futex of it; 0 = a fair task.
pub fn effective_priority(task: &Task) -> i32 {
    task.sched.rt_priority()
}

/// Sets what those who wait for the task's PI futexes lend it (0 = nothing). Whether its
/// effective priority has changed.
pub(crate) fn set_boost(task: &Task, boost: i32) -> bool {
    let s = &task.sched;
    let old = s.rt_priority();
    let new = s.priority.load(Ordering::Relaxed).max(boost);
    if new == old {
        s.boost.store(boost, Ordering::Relaxed);
        return false;
    }
    // Who falls back had its turn before those it falls back to.
    change(task, new < old, || s.boost.store(boost, Ordering::Relaxed));
    true
}

/// Sets parameters (checked by the caller); takes effect at once.
pub fn set_params(task: &Task, p: SchedParams) {
    let effective = effective_priority(task);
    change(task, false, || {
        let s = &task.sched;
        s.policy.store(p.policy as u32, Ordering::Relaxed);
        s.nice.store(p.nice.clamp(-20, 19), Ordering::Relaxed);
        let priority = if p.policy.is_realtime() {
            p.priority
        } else {
            0
        };
        s.priority.store(priority, Ordering::Relaxed);
        s.reset_on_fork.store(p.reset_on_fork, Ordering::Relaxed);
    });
    if effective_priority(task) != effective {
        crate::futex::priority_changed(task);
    }
}

/// Changes what a task's place in its queue depends on; `front`: it then comes before its equals.
fn change(task: &Task, front: bool, f: impl FnOnce()) {
    let sched = &task.kernel.sched;
    loop {
        let c = task.sched.cpu.load(Ordering::Acquire);
        let rq = sched.rq(c);
        let mut q = rq.inner.lock();
        if task.sched.cpu.load(Ordering::Acquire) != c {
            continue;
        }
        let same = |t: &alloc::sync::Arc<Task>| core::ptr::eq(&**t, task);
        let waiting = q.rt.take(same).or_else(|| q.fair.take(same));
        f();
        if let Some(t) = waiting {
            let v = task.sched.vruntime.load(Ordering::Relaxed);
            let v = v.max(q.fair.min_vruntime);
            task.sched.vruntime.store(v, Ordering::Relaxed);
            q.enqueue(t, front);
        }
        if !task.sched.on_rq.load(Ordering::Relaxed) {
            return;
        }
        drop(q);
        rq.need_resched.store(true, Ordering::SeqCst);
        if let Some(b) = sched.block(c)
            && !core::ptr::eq(b, cpu::current_cpu())
        {
            task.kernel.platform.engine().interrupt(b, cpu::IRQ_RESCHED);
        }
        return;
    }
}

/// Affinity mask: bit n = vCPU n, existing ones only.
pub fn affinity(task: &Task) -> u64 {
    task.sched.affinity.load(Ordering::Relaxed) & task.kernel.sched.online()
}

/// Sets it; [`Errno::EINVAL`] if no existing vCPU is left. Moves the task if it must.
pub fn set_affinity(task: &Task, mask: u64) -> Result {
    let sched = &task.kernel.sched;
    let mask = mask & sched.online();
    if mask == 0 {
        return Err(Errno::EINVAL);
    }
    task.sched.affinity.store(mask, Ordering::SeqCst);
    loop {
        let c = task.sched.cpu.load(Ordering::Acquire);
        if mask >> c & 1 != 0 {
            return Ok(());
        }
        let rq = sched.rq(c);
        let mut q = rq.inner.lock();
        if task.sched.cpu.load(Ordering::Acquire) != c {
            continue;
        }
        if !task.sched.on_rq.load(Ordering::Relaxed) {
            // Asleep: the wake-up will choose.
            return Ok(());
        }
        let same = |t: &alloc::sync::Arc<Task>| core::ptr::eq(&**t, task);
        let Some(t) = q.rt.take(same).or_else(|| q.fair.take(same)) else {
            // Running there: it moves itself on its way to user mode.
            drop(q);
            rq.need_resched.store(true, Ordering::SeqCst);
            if let Some(b) = sched.block(c)
                && !core::ptr::eq(b, cpu::current_cpu())
            {
                task.kernel.platform.engine().interrupt(b, cpu::IRQ_RESCHED);
            }
            return Ok(());
        };
        rq.nr.fetch_sub(1, Ordering::SeqCst);
        let floor = q.fair.min_vruntime;
        let target = balance::any_allowed(sched, task);
        task.sched.cpu.store(target, Ordering::Release);
        drop(q);
        let rq = sched.rq(target);
        let q = rq.inner.lock();
        super::activate(sched, rq, q, t, target, task.kernel.now(), floor);
        return Ok(());
    }
}

/// On the way to user mode: whether the current task runs on a vCPU that it may not use.
pub(crate) fn misplaced(task: &Task) -> bool {
    let mask = task.sched.affinity.load(Ordering::Relaxed) & task.kernel.sched.online();
    mask != 0 && mask >> cpu::current_cpu().id & 1 == 0
}

/// sched_rr_get_interval(2): ns.
pub fn rr_interval_ns(task: &Task) -> u64 {
    match params(task).policy {
        Policy::Fifo => 0,
        Policy::RoundRobin => RR_SLICE_NS,
        _ => SLICE_NS,
    }
}
