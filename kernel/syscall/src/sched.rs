//! Scheduling: policies, priorities, affinity; sched(7), getpriority(2), ioprio_get(2).

use crate::args::{In, Out, Ptr};
use crate::cx::{mm, task_of};
use crate::flags::{IoprioWho, Policy, PrioWhich, Resource};
use abi::process::SchedAttr;
use abi::time::Timespec;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use task::sched::{self, SchedParams};
use task::{Ctx, Task};
use vfs::cred::cap;
use zerocopy::IntoBytes;

/// `SCHED_RESET_ON_FORK`.
const RESET_ON_FORK: i32 = 0x4000_0000;

/// Gives the processor away: `sched_yield(2)`.
pub fn sys_sched_yield(_cx: &Ctx) -> Result {
    sched::yield_now();
    Ok(())
}

/// Whether the caller may change the scheduling of `t`: same user or the capability. [`Errno::EPERM`].
fn may_change(cx: &Ctx, t: &Task) -> Result {
    let (me, it) = (cx.cred(), t.cred());
    if me.euid == it.euid || me.euid == it.uid || me.capable(cap::SYS_NICE) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// The thread of a sched_* call. [`Errno::EINVAL`] for negative numbers, [`Errno::ESRCH`].
fn target(cx: &Ctx, pid: i32) -> Result<Arc<Task>> {
    if pid < 0 {
        return Err(Errno::EINVAL);
    }
    task_of(cx, pid)
}

fn policy_of(v: i32) -> Result<sched::Policy> {
    Ok(match v {
        0 => sched::Policy::Normal,
        1 => sched::Policy::Fifo,
        2 => sched::Policy::RoundRobin,
        3 => sched::Policy::Batch,
        5 => sched::Policy::Idle,
        _ => return Err(Errno::EINVAL),
    })
}

fn real_time(p: sched::Policy) -> bool {
    matches!(p, sched::Policy::Fifo | sched::Policy::RoundRobin)
}

/// Sets parameters after the checks of sched(7), "Privileges and resource limits".
fn apply(cx: &Ctx, t: &Task, new: SchedParams) -> Result {
    let range = if real_time(new.policy) { 1..=99 } else { 0..=0 };
    if !range.contains(&new.priority) {
        return Err(Errno::EINVAL);
    }
    let old = sched::params(t);
    if !cx.cred().capable(cap::SYS_NICE) {
        if !real_time(new.policy) && new.nice < old.nice && !nice_allowed(t, new.nice) {
            return Err(Errno::EPERM);
        }
        if real_time(new.policy) {
            let max = t.process.rlimit(Resource::RLIMIT_RTPRIO).cur;
            let raises = new.priority as u64 > max && new.priority > old.priority;
            if new.policy != old.policy && max == 0 || raises {
                return Err(Errno::EPERM);
            }
        }
        let idle = |p| p == sched::Policy::Idle;
        if idle(old.policy) && !idle(new.policy) && !nice_allowed(t, old.nice) {
            return Err(Errno::EPERM);
        }
        may_change(cx, t)?;
        if old.reset_on_fork && !new.reset_on_fork {
            return Err(Errno::EPERM);
        }
    }
    sched::set_params(t, new);
    Ok(())
}

/// RLIMIT_NICE: 20 − nice may be as much as the limit.
fn nice_allowed(t: &Task, nice: i32) -> bool {
    (20 - nice) as u64 <= t.process.rlimit(Resource::RLIMIT_NICE).cur
}

/// Sets the static priority: `sched_setparam(2)`.
pub fn sys_sched_setparam(cx: &Ctx, pid: i32, param: In<i32>) -> Result {
    if param.is_null() || pid < 0 {
        return Err(Errno::EINVAL);
    }
    let priority = param.get(mm(cx))?;
    let t = target(cx, pid)?;
    let new = SchedParams {
        priority,
        ..sched::params(&t)
    };
    apply(cx, &t, new)
}

/// Reads the static priority: `sched_getparam(2)`.
pub fn sys_sched_getparam(cx: &Ctx, pid: i32, param: Out<i32>) -> Result {
    if param.is_null() {
        return Err(Errno::EINVAL);
    }
    let t = target(cx, pid)?;
    param.put(mm(cx), &sched::params(&t).priority)
}

/// Sets policy and priority: `sched_setscheduler(2)`.
pub fn sys_sched_setscheduler(cx: &Ctx, pid: i32, policy: Policy, param: In<i32>) -> Result {
    if policy.0 < 0 || param.is_null() || pid < 0 {
        return Err(Errno::EINVAL);
    }
    let priority = param.get(mm(cx))?;
    let t = target(cx, pid)?;
    let new = SchedParams {
        policy: policy_of(policy.0 & !RESET_ON_FORK)?,
        priority,
        reset_on_fork: policy.0 & RESET_ON_FORK != 0,
        ..sched::params(&t)
    };
    apply(cx, &t, new)
}

/// Reads the policy: `sched_getscheduler(2)`.
pub fn sys_sched_getscheduler(cx: &Ctx, pid: i32) -> Result<i32> {
    let p = sched::params(&*target(cx, pid)?);
    let reset = if p.reset_on_fork { RESET_ON_FORK } else { 0 };
    Ok(p.policy as i32 | reset)
}

/// Sets all parameters: `sched_setattr(2)`.
pub fn sys_sched_setattr(cx: &Ctx, pid: i32, attr: In<SchedAttr>, flags: u32) -> Result {
    /// `SCHED_FLAG_RESET_ON_FORK`, `SCHED_FLAG_KEEP_POLICY`, `SCHED_FLAG_KEEP_PARAMS`.
    const RESET: u64 = 1;
    const KEEP_POLICY: u64 = 8;
    const KEEP_PARAMS: u64 = 0x10;
    const KNOWN: u64 = 0x7f;
    if attr.is_null() || pid < 0 || flags != 0 {
        return Err(Errno::EINVAL);
    }
    let mm = mm(cx);
    let size: u32 = mm.get(attr.0)?;
    let size = if size == 0 { 48 } else { size };
    let a = match crate::open::sized::<SchedAttr>(cx, attr.0, u64::from(size), 48) {
        Err(Errno::EINVAL | Errno::E2BIG) => {
            mm.put(attr.0, &(size_of::<SchedAttr>() as u32))?;
            return Err(Errno::E2BIG);
        }
        r => r?,
    };
    let t = target(cx, pid)?;
    let old = sched::params(&t);
    let policy = if a.flags & KEEP_POLICY != 0 {
        old.policy
    } else {
        policy_of(i32::try_from(a.policy).map_err(|_| Errno::EINVAL)?)?
    };
    // Utilisation clamps and deadline flags ask for what is not there.
    if a.flags & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    if a.flags & !(RESET | KEEP_POLICY | KEEP_PARAMS) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let keep = a.flags & KEEP_PARAMS != 0;
    let new = SchedParams {
        policy,
        nice: if keep || real_time(policy) {
            old.nice
        } else {
            a.nice.clamp(-20, 19)
        },
        priority: if keep {
            old.priority
        } else {
            i32::try_from(a.priority).map_err(|_| Errno::EINVAL)?
        },
        reset_on_fork: a.flags & RESET != 0,
    };
    apply(cx, &t, new)
}

/// Reads all parameters: `sched_getattr(2)`.
pub fn sys_sched_getattr(
    cx: &Ctx,
    pid: i32,
    attr: Out<SchedAttr>,
    size: u32,
    flags: u32,
) -> Result {
    let least = 48;
    if attr.is_null() || pid < 0 || flags != 0 || size < least || size > 4096 {
        return Err(Errno::EINVAL);
    }
    let t = target(cx, pid)?;
    let p = sched::params(&t);
    let known = (size as usize).min(size_of::<SchedAttr>());
    let rt = real_time(p.policy);
    let a = SchedAttr {
        size: known as u32,
        policy: p.policy as u32,
        flags: u64::from(p.reset_on_fork),
        nice: if rt { 0 } else { p.nice },
        priority: p.priority as u32,
        util_max: 1024,
        ..SchedAttr::default()
    };
    mm(cx).write(attr.0, a.as_bytes().get(..known).unwrap_or(&[]))
}

fn range(policy: Policy) -> Result<(i32, i32)> {
    match policy.0 {
        Policy::SCHED_FIFO | Policy::SCHED_RR => Ok((1, 99)),
        Policy::SCHED_OTHER | Policy::SCHED_BATCH | Policy::SCHED_IDLE | Policy::SCHED_DEADLINE => {
            Ok((0, 0))
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Highest priority of a policy: `sched_get_priority_max(2)`.
pub fn sys_sched_get_priority_max(_cx: &Ctx, policy: Policy) -> Result<i32> {
    Ok(range(policy)?.1)
}

/// Lowest priority of a policy: `sched_get_priority_min(2)`.
pub fn sys_sched_get_priority_min(_cx: &Ctx, policy: Policy) -> Result<i32> {
    Ok(range(policy)?.0)
}

/// Time slice: `sched_rr_get_interval(2)`.
pub fn sys_sched_rr_get_interval(cx: &Ctx, pid: i32, tp: Out<Timespec>) -> Result {
    let t = target(cx, pid)?;
    tp.put(mm(cx), &Timespec::from_ns(sched::rr_interval_ns(&t)))
}

/// Sets where a thread may run: `sched_setaffinity(2)`.
pub fn sys_sched_setaffinity(cx: &Ctx, pid: i32, len: u32, mask: Ptr) -> Result {
    let mut word = [0u8; 8];
    let n = (len as usize).min(word.len());
    mm(cx).read(mask.0, &mut word[..n])?;
    let t = task_of(cx, pid)?;
    let (me, it) = (cx.cred(), t.cred());
    if me.euid != it.euid && me.euid != it.uid && !me.capable(cap::SYS_NICE) {
        return Err(Errno::EPERM);
    }
    sched::set_affinity(&t, u64::from_le_bytes(word))
}

/// Reads where a thread may run: `sched_getaffinity(2)`. Returns the size of the mask.
pub fn sys_sched_getaffinity(cx: &Ctx, pid: i32, len: u32, mask: Ptr) -> Result<usize> {
    if len % 8 != 0 || u64::from(len) * 8 < u64::from(cx.kernel().ncpus()) {
        return Err(Errno::EINVAL);
    }
    let t = task_of(cx, pid)?;
    mm(cx).put(mask.0, &sched::affinity(&t))?;
    Ok(8)
}

/// The processor of the caller: `getcpu(2)`. There is one node.
pub fn sys_getcpu(cx: &Ctx, cpu: Out<u32>, node: Out<u32>, _cache: Ptr) -> Result {
    let mm = mm(cx);
    cpu.put_opt(mm, &hal::cpu::current_cpu().id)?;
    node.put_opt(mm, &0)
}

/// Threads named by `which` and `who` of getpriority(2).
fn threads(cx: &Ctx, which: i32, who: i32) -> Result<Vec<Arc<Task>>> {
    let pids = &cx.kernel().pids;
    Ok(match which {
        PrioWhich::PRIO_PROCESS => task_of(cx, who).into_iter().collect(),
        PrioWhich::PRIO_PGRP => {
            let pgid = if who == 0 { cx.process().pgid() } else { who };
            pids.group(pgid).iter().flat_map(|p| p.threads()).collect()
        }
        PrioWhich::PRIO_USER => {
            let uid = if who == 0 { cx.cred().uid } else { who as u32 };
            pids.processes()
                .flat_map(|p| p.threads())
                .filter(|t| t.cred().uid == uid)
                .collect()
        }
        _ => return Err(Errno::EINVAL),
    })
}

/// Reads the nice value: `getpriority(2)`. As 20 − nice, so that it is no error.
pub fn sys_getpriority(cx: &Ctx, which: PrioWhich, who: i32) -> Result<i32> {
    threads(cx, which.0, who)?
        .iter()
        .map(|t| 20 - sched::params(t).nice)
        .max()
        .ok_or(Errno::ESRCH)
}

/// Sets the nice value: `setpriority(2)`.
pub fn sys_setpriority(cx: &Ctx, which: PrioWhich, who: i32, prio: i32) -> Result {
    let nice = prio.clamp(-20, 19);
    let mut result = Err(Errno::ESRCH);
    for t in threads(cx, which.0, who)? {
        let one = may_change(cx, &t).and_then(|()| {
            let old = sched::params(&t);
            if nice < old.nice && !nice_allowed(&t, nice) && !cx.cred().capable(cap::SYS_NICE) {
                return Err(Errno::EACCES);
            }
            sched::set_params(&t, SchedParams { nice, ..old });
            Ok(())
        });
        result = match (result, one) {
            (Err(Errno::ESRCH), one) => one,
            (r, Ok(())) => r,
            (_, e) => e,
        };
    }
    result
}

/// Class of an I/O priority is in the bits above these.
const IOPRIO_SHIFT: i32 = 13;

/// Sets the I/O priority: `ioprio_set(2)`.
pub fn sys_ioprio_set(cx: &Ctx, which: IoprioWho, who: i32, ioprio: i32) -> Result {
    let (class, level) = (ioprio >> IOPRIO_SHIFT, ioprio & ((1 << IOPRIO_SHIFT) - 1));
    match class {
        0 if level != 0 => return Err(Errno::EINVAL),
        0 | 3 => {}
        1 if !cx.cred().capable(cap::SYS_ADMIN) && !cx.cred().capable(cap::SYS_NICE) => {
            return Err(Errno::EPERM);
        }
        1 | 2 if level & 7 != level => return Err(Errno::EINVAL),
        1 | 2 => {}
        _ => return Err(Errno::EINVAL),
    }
    let all = io_threads(cx, which, who)?;
    if all.is_empty() {
        return Err(Errno::ESRCH);
    }
    for t in all {
        may_change(cx, &t)?;
        t.ioprio.store(ioprio as u32, Ordering::Relaxed);
    }
    Ok(())
}

/// Reads the I/O priority: `ioprio_get(2)`.
pub fn sys_ioprio_get(cx: &Ctx, which: IoprioWho, who: i32) -> Result<u32> {
    io_threads(cx, which, who)?
        .iter()
        .map(|t| t.ioprio.load(Ordering::Relaxed))
        .map(|p| if p == 0 { default_ioprio() } else { p })
        .min()
        .ok_or(Errno::ESRCH)
}

/// Best effort, level 4.
fn default_ioprio() -> u32 {
    2 << IOPRIO_SHIFT | 4
}

fn io_threads(cx: &Ctx, which: IoprioWho, who: i32) -> Result<Vec<Arc<Task>>> {
    let which = match which.0 {
        IoprioWho::IOPRIO_WHO_PROCESS => PrioWhich::PRIO_PROCESS,
        IoprioWho::IOPRIO_WHO_PGRP => PrioWhich::PRIO_PGRP,
        IoprioWho::IOPRIO_WHO_USER => PrioWhich::PRIO_USER,
        _ => return Err(Errno::EINVAL),
    };
    threads(cx, which, who)
}
