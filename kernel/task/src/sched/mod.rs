//! Run queues, scheduling classes, switching, placement.

pub mod stack;

use crate::{Kernel, Task, kernel::CpuTimes};
use abi::Result;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

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

/// Scheduler's part of a task.
pub(crate) struct SchedEntity {
    pub cpu: AtomicU32,
    pub on_cpu: AtomicBool,
    pub in_user: AtomicBool,
    pub affinity: AtomicU64,
}

impl SchedEntity {
    pub(crate) fn new(p: SchedParams, affinity: u64) -> SchedEntity {
        let _ = p;
        SchedEntity {
            cpu: AtomicU32::new(0),
            on_cpu: AtomicBool::new(false),
            in_user: AtomicBool::new(false),
            affinity: AtomicU64::new(affinity),
        }
    }
}

/// All run queues of a machine.
pub struct Scheduler {}

impl Scheduler {
    pub(crate) fn new(ncpus: u32) -> Scheduler {
        let _ = ncpus;
        Scheduler {}
    }
    pub(crate) fn cpu_times(&self, kernel: &Kernel, cpu: u32) -> CpuTimes {
        let _ = (kernel, cpu);
        CpuTimes::default()
    }
    /// Runnable tasks, running ones included.
    pub fn runnable(&self) -> usize {
        0
    }
}

/// Exponentially decaying numbers of runnable tasks.
#[derive(Default)]
pub(crate) struct LoadAvg {
    values: [u64; 3],
}

impl LoadAvg {
    pub(crate) fn values(&self) -> [u64; 3] {
        self.values
    }
}

/// Parameters of a task.
pub fn params(task: &Task) -> SchedParams {
    let _ = task;
    SchedParams::default()
}

/// Sets parameters (checked by the caller); takes effect at once.
pub fn set_params(task: &Task, p: SchedParams) {
    let _ = (task, p);
}

/// Affinity mask: bit n = vCPU n.
pub fn affinity(task: &Task) -> u64 {
    let _ = task;
    1
}

/// Sets it; [`abi::Errno::EINVAL`] if no existing vCPU is left. Moves the task if it must.
pub fn set_affinity(task: &Task, mask: u64) -> Result {
    let _ = (task, mask);
    Ok(())
}

/// sched_yield(2).
pub fn yield_now() {}

/// sched_rr_get_interval(2): ns.
pub fn rr_interval_ns(task: &Task) -> u64 {
    let _ = task;
    0
}

/// Waits until woken, or the deadline; the state has been announced.
pub(crate) fn wait(task: &Task, deadline_ns: Option<u64>) {
    let _ = (task, deadline_ns);
}

/// Makes a task runnable whose state is one of `states`; whether it was.
pub(crate) fn wake(task: &Task, states: u32) -> bool {
    let _ = (task, states);
    false
}

/// Runs another task if this vCPU should.
pub(crate) fn preempt_point(task: &Task) {
    let _ = task;
}
