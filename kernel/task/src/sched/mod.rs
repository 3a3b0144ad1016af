//! Run queues, scheduling classes, switching.
//!
//! Each vCPU has a [`RunQueue`]. A task is on at most one queue, that of
//! `SchedEntity::cpu`; that queue's lock guards the move. The lock is held
//! across the switch of stacks and released by the task that is switched to
//! ([`finish_switch`]), so whoever gets the lock and finds a task off the queue
//! knows that it has left its stack.
//!
//! Wake-up proof: a waiter announces itself by storing its state, then looks at
//! its condition, then calls [`wait`]. A waker changes the condition, then
//! changes the state back by compare-and-swap; exactly one wins. The winner
//! takes the lock of the task's queue: either the task is still on the queue
//! (then [`schedule`] sees the state `RUNNING` and does not take it off), or it
//! is off and off its stack, and the winner puts it on a queue.
//!
//! - [`times`]: user and system time.
//! - [`throttle`]: what the real-time classes leave to the others.
//! - [`queue`]: the classes' queues. [`balance`]: which vCPU. [`idle`]: when there is nothing to run. [`stack`]: kernel stacks. [`load`]: load averages.

mod balance;
mod idle;
mod load;
mod params;
mod queue;
pub(crate) mod stack;
mod throttle;
mod times;

pub(crate) use idle::idle_loop;
pub(crate) use load::LoadAvg;
pub(crate) use params::misplaced;
pub(crate) use params::set_boost;
pub use params::{
    Policy, SchedParams, affinity, effective_priority, params, rr_interval_ns, set_affinity,
    set_params,
};
pub use throttle::RtLimits;

use crate::task::{flag, state};
use crate::{Kernel, Task, current, kernel::CpuTimes, level};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{
    AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
use hal::cpu::{self, CpuBlock, IRQ_NOTIFY, IRQ_RESCHED};
use queue::{FairQueue, RtQueue};
use sync::{Once, SpinLock};
use throttle::RtBudget;
use times::{account, add};
pub(crate) use times::{accounted, is_in_user, note_mode, user_transition};

/// Time a fair task runs before an equal gets its turn.
pub(crate) const SLICE_NS: u64 = 4_000_000;
/// Quantum of SCHED_RR.
pub(crate) const RR_SLICE_NS: u64 = 100_000_000;
/// Clock interrupt while tasks wait and another vCPU idles.
const BALANCE_TICK_NS: u64 = 1_000_000;
/// Lead that a woken task needs to preempt the running one.
const WAKEUP_GRANULARITY_NS: u64 = 1_000_000;
/// Credit of a task that has slept.
const SLEEPER_CREDIT_NS: u64 = 3_000_000;

/// Scheduler's part of a task. What is not atomic by nature changes under the lock of the task's queue.
pub(crate) struct SchedEntity {
    pub cpu: AtomicU32,
    pub on_rq: AtomicBool,
    pub on_cpu: AtomicBool,
    pub in_user: AtomicBool,
    /// The run queue of the vCPU that it runs on.
    queue: AtomicPtr<RunQueue>,
    pub affinity: AtomicU64,
    pub policy: AtomicU32,
    pub nice: AtomicI32,
    pub priority: AtomicI32,
    /// Real-time priority that waiters for its PI futexes lend it; 0 = none.
    pub boost: AtomicI32,
    pub reset_on_fork: AtomicBool,
    pub vruntime: AtomicU64,
    /// When it last began to run or was last charged.
    pub exec_start: AtomicU64,
    /// When its present turn began.
    pub turn_start: AtomicU64,
    /// Run time since it last slept.
    pub run_since_wake: AtomicU64,
    /// Running average of the run time between two sleeps: what it needs a CPU for.
    pub burst: AtomicU64,
    /// Since when it waits for a CPU.
    pub queued_at: AtomicU64,
    /// Leaves its vCPU for another one: woken as soon as it is off its stack.
    pub migrate: AtomicBool,
}

impl SchedEntity {
    /// Says on whose vCPU it is about to run.
    fn set_queue(&self, rq: &RunQueue) {
        let at = core::ptr::from_ref(rq).cast_mut();
        self.queue.store(at, Ordering::Relaxed);
    }
    pub(crate) fn new(p: SchedParams, affinity: u64) -> SchedEntity {
        SchedEntity {
            cpu: AtomicU32::new(0),
            on_rq: AtomicBool::new(false),
            on_cpu: AtomicBool::new(false),
            in_user: AtomicBool::new(false),
            queue: AtomicPtr::new(core::ptr::null_mut()),
            affinity: AtomicU64::new(affinity),
            policy: AtomicU32::new(p.policy as u32),
            nice: AtomicI32::new(p.nice),
            priority: AtomicI32::new(p.priority),
            boost: AtomicI32::new(0),
            reset_on_fork: AtomicBool::new(p.reset_on_fork),
            vruntime: AtomicU64::new(0),
            exec_start: AtomicU64::new(0),
            turn_start: AtomicU64::new(0),
            run_since_wake: AtomicU64::new(0),
            burst: AtomicU64::new(0),
            queued_at: AtomicU64::new(0),
            migrate: AtomicBool::new(false),
        }
    }
    /// Real-time priority, lent or its own; 0 = a fair task.
    fn rt_priority(&self) -> i32 {
        (self.priority.load(Ordering::Relaxed)).max(self.boost.load(Ordering::Relaxed))
    }
    fn weight(&self) -> u64 {
        if self.policy.load(Ordering::Relaxed) == Policy::Idle as u32 {
            queue::IDLE_WEIGHT
        } else {
            queue::weight(self.nice.load(Ordering::Relaxed))
        }
    }
}

/// Under the lock of a [`RunQueue`].
struct Rq {
    current: Option<Arc<Task>>,
    idle_task: Option<Arc<Task>>,
    /// Whom [`finish_switch`] has to let go.
    prev: Option<Arc<Task>>,
    fair: FairQueue<Arc<Task>>,
    rt: RtQueue<Arc<Task>>,
    budget: RtBudget,
}

/// Tasks of one vCPU.
pub(crate) struct RunQueue {
    block: Once<&'static CpuBlock>,
    inner: SpinLock<Rq, { level::RUNQUEUE }>,
    /// The running task should give way at the next occasion.
    need_resched: AtomicBool,
    /// In the idle loop with nothing to run.
    idle: AtomicBool,
    /// Runnable tasks, the running one included.
    nr: AtomicUsize,
    /// Times by kind: user, nice, system, idle.
    times: [AtomicU64; 4],
    /// Since when it idles; 0 = it does not.
    idle_since: AtomicU64,
    /// Engine ticks when times were last brought up to date.
    accounted: AtomicU64,
}

/// All run queues of a machine.
pub struct Scheduler {
    rqs: Vec<RunQueue>,
    pub(crate) stacks: stack::StackPool,
    online: AtomicU64,
    /// Tasks in uninterruptible sleep (load average).
    blocked: AtomicUsize,
    /// What real-time tasks may use.
    pub rt_limits: RtLimits,
}

impl Scheduler {
    pub(crate) fn new(ncpus: u32) -> Scheduler {
        let rqs = (0..ncpus.max(1))
            .map(|_| RunQueue {
                block: Once::new(),
                inner: SpinLock::new(Rq {
                    current: None,
                    idle_task: None,
                    prev: None,
                    fair: FairQueue::new(),
                    rt: RtQueue::new(),
                    budget: RtBudget::default(),
                }),
                need_resched: AtomicBool::new(false),
                idle: AtomicBool::new(false),
                nr: AtomicUsize::new(0),
                times: Default::default(),
                idle_since: AtomicU64::new(0),
                accounted: AtomicU64::new(0),
            })
            .collect();
        Scheduler {
            rqs,
            stacks: stack::StackPool::new(ncpus),
            online: AtomicU64::new(0),
            blocked: AtomicUsize::new(0),
            rt_limits: RtLimits::default(),
        }
    }
    pub(crate) fn rq(&self, cpu: u32) -> &RunQueue {
        match self.rqs.get(cpu as usize) {
            Some(rq) => rq,
            None => panic!("no vCPU {cpu}"),
        }
    }
    /// The block of a vCPU that has been started.
    pub(crate) fn block(&self, cpu: u32) -> Option<&'static CpuBlock> {
        self.rq(cpu).block.get().copied()
    }
    /// Mask of the vCPUs that run.
    pub fn online(&self) -> u64 {
        self.online.load(Ordering::Acquire)
    }
    pub(crate) fn cpu_times(&self, kernel: &Kernel, cpu: u32) -> CpuTimes {
        let Some(rq) = self.rqs.get(cpu as usize) else {
            return CpuTimes::default();
        };
        let get = |i: usize| rq.times.get(i).map_or(0, |t| t.load(Ordering::Relaxed));
        let since = rq.idle_since.load(Ordering::Relaxed);
        let now_idle = if since == 0 {
            0
        } else {
            kernel.now().saturating_sub(since)
        };
        CpuTimes {
            user: get(0),
            nice: get(1),
            system: get(2),
            idle: get(3) + now_idle,
        }
    }
    /// Runnable tasks, running ones included.
    pub fn runnable(&self) -> usize {
        self.rqs.iter().map(|r| r.nr.load(Ordering::Relaxed)).sum()
    }
    /// Tasks in uninterruptible sleep.
    pub fn blocked(&self) -> usize {
        self.blocked.load(Ordering::Relaxed)
    }
    /// Registers a vCPU's block and its idle task, before it runs its first task.
    pub(crate) fn add_cpu(&self, block: &'static CpuBlock, idle: Arc<Task>) {
        let rq = self.rq(block.id);
        let _ = rq.block.set(block);
        idle.sched.set_queue(rq);
        idle.sched.cpu.store(block.id, Ordering::Relaxed);
        idle.sched.on_cpu.store(true, Ordering::Relaxed);
        let mut q = rq.inner.lock();
        q.idle_task = Some(idle.clone());
        q.current = Some(idle);
        drop(q);
        if block.id == 0 {
            self.set_online(0);
        }
    }
    /// The vCPU takes tasks from now on.
    pub(crate) fn set_online(&self, cpu: u32) {
        self.online.fetch_or(1 << cpu, Ordering::AcqRel);
    }
}

impl Rq {
    fn is_idle(&self, t: &Arc<Task>) -> bool {
        self.idle_task.as_ref().is_some_and(|i| Arc::ptr_eq(i, t))
    }
    /// Charges the running task for its time up to `now`.
    fn charge(&mut self, limits: &RtLimits, now: u64) {
        let mut realtime = 0;
        let running = match &self.current {
            Some(t) if !self.is_idle(t) => {
                let s = &t.sched;
                let d = now.saturating_sub(s.exec_start.load(Ordering::Relaxed));
                s.exec_start.store(now, Ordering::Relaxed);
                add(&s.run_since_wake, d);
                if s.rt_priority() > 0 {
                    realtime = d;
                    None
                } else {
                    let v = d.saturating_mul(queue::NICE_0_WEIGHT) / s.weight();
                    Some(add(&s.vruntime, v))
                }
            }
            _ => None,
        };
        self.fair.advance(running);
        self.budget.charge(limits, now, realtime);
    }
    /// Whether the real-time tasks have had their share and fair ones wait for theirs.
    fn throttled(&self) -> bool {
        self.budget.spent() && self.fair.len() > 0
    }
    /// Puts a runnable task among the waiting ones. `front`: it was preempted.
    fn enqueue(&mut self, t: Arc<Task>, front: bool) {
        let p = t.sched.rt_priority();
        if p > 0 {
            self.rt.push(p, t, front);
        } else {
            let v = t.sched.vruntime.load(Ordering::Relaxed);
            self.fair.push(v, t);
        }
    }
    fn pick(&mut self) -> Option<Arc<Task>> {
        let fair_first = if self.throttled() {
            self.fair.pop()
        } else {
            None
        };
        fair_first
            .or_else(|| self.rt.pop())
            .or_else(|| self.fair.pop())
    }
    fn waiting(&self) -> usize {
        self.rt.len() + self.fair.len()
    }
    /// Whether `t`, newly runnable, should run before the running task.
    fn preempts(&self, t: &Task) -> bool {
        let Some(cur) = &self.current else {
            return true;
        };
        if self.is_idle(cur) {
            return true;
        }
        let (a, b) = (t.sched.rt_priority(), cur.sched.rt_priority());
        if (a > 0) != (b > 0) && self.budget.spent() {
            // The fair one first, until the period ends.
            return a == 0;
        }
        if a > 0 || b > 0 {
            return a > b;
        }
        let policy = |t: &Task| t.sched.policy.load(Ordering::Relaxed);
        if policy(cur) == Policy::Idle as u32 && policy(t) != Policy::Idle as u32 {
            return true;
        }
        if policy(t) != Policy::Normal as u32 {
            return false;
        }
        let (v, c) = (
            t.sched.vruntime.load(Ordering::Relaxed),
            cur.sched.vruntime.load(Ordering::Relaxed),
        );
        v.saturating_add(WAKEUP_GRANULARITY_NS) < c
    }
}

/// The run queue of the vCPU that `task`, the current one, runs on.
#[inline]
fn queue_of(task: &Task) -> &'static RunQueue {
    // SAFETY: set before the task first runs, to a queue that lives as long as the machine.
    #[expect(unsafe_code)]
    unsafe {
        &*task.sched.queue.load(Ordering::Relaxed)
    }
}

/// Whether the current task may go on in user mode, in which its time counts, with nothing else to be done: whoever
/// finds it [`misplaced`] asks for another look.
#[inline]
pub(crate) fn is_quiet(task: &Task) -> bool {
    let rq = queue_of(task);
    is_in_user(task)
        && !rq.need_resched.load(Ordering::Relaxed)
        && rq.nr.load(Ordering::Relaxed) < 2
}

/// Whether no other task waits for this vCPU, so that no tick is needed.
pub(crate) fn is_alone(task: &Task) -> bool {
    queue_of(task).nr.load(Ordering::Relaxed) < 2
}

/// Waits until woken, or until the deadline; the state has been announced.
pub(crate) fn wait(task: &Task, deadline_ns: Option<u64>) {
    if task.state.load(Ordering::SeqCst) == state::RUNNING {
        return;
    }
    match deadline_ns {
        Some(d) if d < u64::MAX => {
            let id = task.kernel.timers.add(d, task.arc());
            schedule();
            task.kernel.timers.cancel(id);
        }
        _ => schedule(),
    }
}

/// Runs the next task of this vCPU; returns when the calling task runs again.
/// With the state announced as waiting, the caller leaves the queue until it is woken.
pub(crate) fn schedule() {
    let me = current();
    let kernel = me.kernel;
    if cfg!(debug_assertions) {
        let depth = cpu::current_stack().lock_depth.load(Ordering::Relaxed);
        assert!(depth == 0, "waiting with a spin lock held");
    }
    let block = cpu::current_cpu();
    let rq = kernel.sched.rq(block.id);
    let now = kernel.now();
    let mut q = rq.inner.lock();
    rq.need_resched.store(false, Ordering::Relaxed);
    q.charge(&kernel.sched.rt_limits, now);
    let Some(prev) = q.current.take() else {
        panic!("nothing runs here");
    };
    let idle = q.is_idle(&prev);
    let mut st = prev.state.load(Ordering::SeqCst);
    if st == state::INTERRUPTIBLE && prev.flag(flag::SIGPENDING) {
        prev.state.store(state::RUNNING, Ordering::SeqCst);
        st = state::RUNNING;
    }
    if idle {
        if let Some(c) = rq.times.get(3) {
            let since = rq.idle_since.swap(0, Ordering::Relaxed);
            if since != 0 {
                c.fetch_add(now.saturating_sub(since), Ordering::Relaxed);
            }
        }
    } else {
        account(rq, &prev, now);
        if st == state::RUNNING {
            let quantum = prev.sched.policy.load(Ordering::Relaxed) == Policy::RoundRobin as u32
                && now.saturating_sub(prev.sched.turn_start.load(Ordering::Relaxed)) >= RR_SLICE_NS;
            prev.sched.queued_at.store(now, Ordering::Relaxed);
            q.enqueue(prev.clone(), !quantum);
        } else {
            prev.sched.on_rq.store(false, Ordering::Relaxed);
            rq.nr.fetch_sub(1, Ordering::SeqCst);
            let run = prev.sched.run_since_wake.swap(0, Ordering::Relaxed);
            let old = prev.sched.burst.load(Ordering::Relaxed);
            prev.sched
                .burst
                .store((old * 3 + run) / 4, Ordering::Relaxed);
            if st == state::UNINTERRUPTIBLE {
                kernel.sched.blocked.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    let next = match q.pick().or_else(|| q.idle_task.clone()) {
        Some(t) => t,
        None => panic!("vCPU {} has no idle task", block.id),
    };
    let s = &next.sched;
    s.exec_start.store(now, Ordering::Relaxed);
    s.turn_start.store(now, Ordering::Relaxed);
    next.stamp.store(now, Ordering::Relaxed);
    if q.is_idle(&next) {
        rq.idle_since.store(now.max(1), Ordering::Relaxed);
    }
    if Arc::ptr_eq(&prev, &next) {
        q.current = Some(next);
        return;
    }
    if !idle {
        if st == state::RUNNING {
            prev.nivcsw.fetch_add(1, Ordering::Relaxed);
        } else {
            prev.nvcsw.fetch_add(1, Ordering::Relaxed);
        }
        kernel
            .counters
            .context_switches
            .fetch_add(1, Ordering::Relaxed);
        if prev.rseq.is_registered() && (st == state::RUNNING || prev.current_syscall().is_none()) {
            prev.set_flag(flag::RSEQ);
        }
        prev.with_regs(|r| {
            let engine = kernel.platform.engine();
            // Nobody else can begin to share the space while the task is off the CPU.
            if r.home != 0 && (!engine.keeps_fp() || prev.shares_mm()) {
                engine.sync_regs(r);
            }
        });
    }
    assert!(prev.stack.intact(), "kernel stack overflow");
    next.sched.on_cpu.store(true, Ordering::SeqCst);
    next.stack.set_cpu(block);
    next.sched.set_queue(rq);
    if next.rseq.is_elsewhere(block.id) {
        next.set_flag(flag::RSEQ);
    }
    let (save, load) = (
        core::ptr::from_ref(&prev.saved_sp),
        core::ptr::from_ref(&next.saved_sp),
    );
    q.current = Some(next);
    q.prev = Some(prev);
    q.hand_over();
    // SAFETY: both tasks are kept alive by the run queue (`prev`, `current`);
    // the queue's lock, which we hold on, keeps everybody else off them.
    // `next` was switched out by this function or prepared by `stack`.
    #[expect(unsafe_code)]
    unsafe {
        cpu::switch_stack(&*save, &*load)
    };
    finish_switch();
}

/// Second half of a switch, on the stack that was switched to: releases the
/// queue's lock and lets the previous task go.
pub(crate) fn finish_switch() {
    let kernel = current().kernel;
    let rq = kernel.sched.rq(cpu::current_cpu().id);
    // SAFETY: `schedule` (or the start of this vCPU) handed the lock over to this stack.
    #[expect(unsafe_code)]
    let mut q = unsafe { rq.inner.take_over() };
    let prev = q.prev.take();
    if let Some(p) = &prev {
        p.sched.on_cpu.store(false, Ordering::SeqCst);
    }
    drop(q);
    if let Some(p) = &prev
        && p.sched.migrate.swap(false, Ordering::Relaxed)
    {
        wake(p, state::UNINTERRUPTIBLE);
    }
    // Perhaps the last reference to a dead task: its stack goes with it.
    drop(prev);
}

/// Continues the current task on a vCPU that it may use.
pub fn obey_affinity() {
    while misplaced(current()) {
        migrate();
    }
}

/// Moves the current task to a vCPU that it may use.
pub(crate) fn migrate() {
    let me = current();
    me.sched.migrate.store(true, Ordering::Relaxed);
    me.state.store(state::UNINTERRUPTIBLE, Ordering::SeqCst);
    schedule();
}

/// Makes a task runnable whose state is one of `states`; whether it was.
pub(crate) fn wake(task: &Task, states: u32) -> bool {
    let mut st = task.state.load(Ordering::SeqCst);
    loop {
        if st & states == 0 {
            return false;
        }
        match task
            .state
            .compare_exchange(st, state::RUNNING, Ordering::SeqCst, Ordering::SeqCst)
        {
            Ok(_) => break,
            Err(s) => st = s,
        }
    }
    let sched = &task.kernel.sched;
    let now = task.kernel.now();
    loop {
        let c = task.sched.cpu.load(Ordering::Acquire);
        let rq = sched.rq(c);
        let q = rq.inner.lock();
        if task.sched.cpu.load(Ordering::Acquire) != c {
            continue;
        }
        if task.sched.on_rq.load(Ordering::Relaxed) {
            return true;
        }
        if st == state::UNINTERRUPTIBLE {
            sched.blocked.fetch_sub(1, Ordering::Relaxed);
        }
        let target = balance::select_cpu(sched, task, c);
        let from = q.fair.min_vruntime;
        task.sched.cpu.store(target, Ordering::Release);
        if target == c {
            activate(sched, rq, q, task.arc(), target, now, from);
        } else {
            drop(q);
            let rq = sched.rq(target);
            let q = rq.inner.lock();
            activate(sched, rq, q, task.arc(), target, now, from);
        }
        return true;
    }
}

/// Puts a new task on a queue for the first time.
pub(crate) fn start(task: &Arc<Task>) {
    let sched = &task.kernel.sched;
    let now = task.kernel.now();
    let mut target = cpu::current_cpu().id;
    if task.sched.affinity.load(Ordering::Relaxed) >> target & 1 == 0 {
        target = balance::any_allowed(sched, task);
    }
    task.sched.cpu.store(target, Ordering::Release);
    let rq = sched.rq(target);
    let q = rq.inner.lock();
    // A child starts behind its parent, without a sleeper's credit.
    let v = q.fair.min_vruntime.saturating_add(SLEEPER_CREDIT_NS);
    task.sched.vruntime.store(v, Ordering::Relaxed);
    activate(sched, rq, q, task.clone(), target, now, 0);
}

/// Puts `t` on the locked queue `q` of `target` and makes the vCPU look if it
/// should. `from`: floor of the queue that its virtual runtime refers to (0: of this one).
fn activate(
    sched: &Scheduler,
    rq: &RunQueue,
    mut q: sync::SpinGuard<'_, Rq, { level::RUNQUEUE }>,
    t: Arc<Task>,
    target: u32,
    now: u64,
    from: u64,
) {
    q.charge(&sched.rt_limits, now);
    let s = &t.sched;
    let floor = q.fair.min_vruntime;
    let mut v = s.vruntime.load(Ordering::Relaxed);
    if from != 0 {
        v = v.saturating_sub(from).saturating_add(floor);
    }
    v = v.max(floor.saturating_sub(SLEEPER_CREDIT_NS));
    s.vruntime.store(v, Ordering::Relaxed);
    s.on_rq.store(true, Ordering::Relaxed);
    s.queued_at.store(now, Ordering::Relaxed);
    let preempt = q.preempts(&t);
    let kernel = t.kernel;
    q.enqueue(t, false);
    let nr = rq.nr.fetch_add(1, Ordering::SeqCst) + 1;
    if preempt {
        rq.need_resched.store(true, Ordering::SeqCst);
    }
    drop(q);
    fence(Ordering::SeqCst);
    let here = cpu::current_cpu().id == target;
    // Wake-up proof for idle vCPUs: it sets `idle`, then looks at `nr`; we have
    // raised `nr` and look at `idle` (both sequentially consistent). The engine
    // looks at the pending bits after it has said that it idles.
    if !here && (preempt || nr == 2 || rq.idle.load(Ordering::SeqCst)) {
        if let Some(b) = sched.block(target) {
            kernel.platform.engine().interrupt(b, IRQ_RESCHED);
        }
    }
}

/// Makes a task that may be running guest code look at its flags soon.
pub(crate) fn notify(task: &Task) {
    fence(Ordering::SeqCst);
    if !task.sched.on_cpu.load(Ordering::SeqCst) {
        return;
    }
    let c = task.sched.cpu.load(Ordering::Relaxed);
    if let Some(b) = task.kernel.sched.block(c)
        && !core::ptr::eq(b, cpu::current_cpu())
    {
        task.kernel.platform.engine().interrupt(b, IRQ_NOTIFY);
    }
}

/// Asks this vCPU to choose anew before it returns to user mode.
pub(crate) fn set_need_resched(kernel: &Kernel, cpu: u32) {
    kernel
        .sched
        .rq(cpu)
        .need_resched
        .store(true, Ordering::SeqCst);
}

/// Whether the current task should give way.
pub(crate) fn need_resched(task: &Task) -> bool {
    queue_of(task).need_resched.load(Ordering::Relaxed)
}

/// Runs another task if this vCPU should; handles pending interrupts first.
pub(crate) fn preempt_point(task: &Task) {
    if cpu::current_stack().lock_depth.load(Ordering::Relaxed) != 0
        || task.state.load(Ordering::Relaxed) != state::RUNNING
    {
        return;
    }
    let block = cpu::current_cpu();
    if block.pending.load(Ordering::Relaxed) != 0 {
        crate::run::interrupts(task.kernel, block.take_pending());
    }
    if need_resched(task) {
        schedule();
    }
    if mm::frame::nearly_empty() {
        mm::frame::wait_for_frames();
    }
}

/// sched_yield(2): behind all others of the same priority.
pub fn yield_now() {
    let me = current();
    let rq = me.kernel.sched.rq(cpu::current_cpu().id);
    {
        let q = rq.inner.lock();
        if q.waiting() == 0 {
            return;
        }
        if me.sched.rt_priority() > 0 {
            // An old turn goes to the end of its priority, as RR does.
            drop(q);
            return yield_rt(me);
        }
        if let Some(v) = q
            .fair
            .iter()
            .map(|t| t.sched.vruntime.load(Ordering::Relaxed))
            .max()
        {
            let mine = me.sched.vruntime.load(Ordering::Relaxed);
            me.sched
                .vruntime
                .store(mine.max(v.saturating_add(1)), Ordering::Relaxed);
        }
    }
    schedule();
}

fn yield_rt(me: &Task) {
    let policy = me
        .sched
        .policy
        .swap(Policy::RoundRobin as u32, Ordering::Relaxed);
    me.sched.turn_start.store(0, Ordering::Relaxed);
    schedule();
    me.sched.policy.store(policy, Ordering::Relaxed);
}

/// The scheduler's part of a clock interrupt on this vCPU.
pub(crate) fn tick(kernel: &Kernel, now: u64) {
    let id = cpu::current_cpu().id;
    let rq = kernel.sched.rq(id);
    let mut kick = false;
    {
        let mut q = rq.inner.lock();
        q.charge(&kernel.sched.rt_limits, now);
        if q.waiting() > 0
            && let Some(cur) = &q.current
            && !q.is_idle(cur)
        {
            let turn = now.saturating_sub(cur.sched.turn_start.load(Ordering::Relaxed));
            let p = cur.sched.rt_priority();
            let over = if p > 0 {
                q.throttled()
                    || q.rt.first_priority().is_some_and(|o| {
                        o > p
                            || o == p
                                && turn >= RR_SLICE_NS
                                && cur.sched.policy.load(Ordering::Relaxed)
                                    == Policy::RoundRobin as u32
                    })
            } else {
                q.rt.len() > 0 && !q.budget.spent()
                    || turn >= SLICE_NS
                        && q.fair
                            .first_vruntime()
                            .is_some_and(|v| v <= cur.sched.vruntime.load(Ordering::Relaxed))
            };
            if over {
                rq.need_resched.store(true, Ordering::Relaxed);
            }
            kick = true;
        }
    }
    if kick {
        balance::kick_idle(kernel, id, now);
    }
    kernel.load.lock().sample(
        now,
        (kernel.sched.runnable() + kernel.sched.blocked()) as u64,
    );
}

/// When this vCPU's clock should next interrupt for the scheduler's sake.
pub(crate) fn next_tick(kernel: &Kernel, now: u64) -> Option<u64> {
    let rq = kernel.sched.rq(cpu::current_cpu().id);
    if rq.nr.load(Ordering::Relaxed) < 2 {
        return None;
    }
    Some(
        now.saturating_add(if balance::somebody_idles(&kernel.sched) {
            BALANCE_TICK_NS
        } else {
            SLICE_NS
        }),
    )
}

/// Makes the clock interrupt in time if tasks wait; on the way to user mode.
pub(crate) fn program_tick(kernel: &Kernel, now: u64) {
    let block = cpu::current_cpu();
    let Some(want) = next_tick(kernel, now) else {
        return;
    };
    if block.deadline.load(Ordering::Relaxed) > want {
        kernel.platform.engine().set_timer(block, Some(want));
    }
}
