//! Limits and usage of resources: getrlimit(2), prlimit(2), getrusage(2), times(2).

use crate::args::{In, Out};
use crate::cx::mm;
use crate::flags::{Resource, UsageWho};
use abi::process::{RLIM_NLIMITS, Rlimit, Rusage};
use abi::time::{NSEC_PER_SEC, Tms, USER_HZ};
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use task::{Ctx, Process};
use vfs::cred::cap;

fn known(r: Resource) -> Result<u32> {
    if (r.0 as usize) < RLIM_NLIMITS {
        Ok(r.0)
    } else {
        Err(Errno::EINVAL)
    }
}

/// Reads a limit: `getrlimit(2)`.
pub fn sys_getrlimit(cx: &Ctx, resource: Resource, rlim: Out<Rlimit>) -> Result {
    let r = known(resource)?;
    rlim.put(mm(cx), &cx.process().rlimit(r))
}

/// Sets a limit: `setrlimit(2)`.
pub fn sys_setrlimit(cx: &Ctx, resource: Resource, rlim: In<Rlimit>) -> Result {
    let new = rlim.get(mm(cx))?;
    change(cx, cx.process(), resource, Some(new)).map(drop)
}

fn change(cx: &Ctx, p: &Process, resource: Resource, new: Option<Rlimit>) -> Result<Rlimit> {
    let r = known(resource)?;
    let Some(new) = new else {
        return Ok(p.rlimit(r));
    };
    if new.cur > new.max {
        return Err(Errno::EINVAL);
    }
    if r == Resource::RLIMIT_NOFILE && new.max > cx.kernel().sysctl.nr_open.load(Ordering::Relaxed)
    {
        return Err(Errno::EPERM);
    }
    if new.max > p.rlimit(r).max {
        cx.require(cap::SYS_RESOURCE)?;
    }
    Ok(p.set_rlimit(r, new))
}

/// Reads and sets a limit of a process: `prlimit(2)`.
pub fn sys_prlimit64(
    cx: &Ctx,
    pid: i32,
    resource: Resource,
    new: In<Rlimit>,
    old: Out<Rlimit>,
) -> Result {
    let mm = mm(cx);
    let new = new.get_opt(mm)?;
    let p: Arc<Process> = if pid == 0 {
        cx.process().clone()
    } else {
        let t = cx.kernel().pids.task(pid).ok_or(Errno::ESRCH)?;
        if !Arc::ptr_eq(&t.process, cx.process()) {
            let (me, it) = (cx.cred(), t.cred());
            let same = [it.uid, it.euid, it.suid].iter().all(|u| *u == me.uid)
                && [it.gid, it.egid, it.sgid].iter().all(|g| *g == me.gid);
            if !same && !me.capable(cap::SYS_RESOURCE) {
                return Err(Errno::EPERM);
            }
        }
        t.process.clone()
    };
    let was = change(cx, &p, resource, new)?;
    old.put_opt(mm, &was)
}

/// Used resources: `getrusage(2)`.
pub fn sys_getrusage(cx: &Ctx, who: UsageWho, usage: Out<Rusage>) -> Result {
    let u = match who.0 {
        UsageWho::RUSAGE_SELF => cx.process().usage(),
        UsageWho::RUSAGE_CHILDREN => cx.process().children_usage(),
        UsageWho::RUSAGE_THREAD => {
            let mut u = cx.task().usage();
            u.maxrss_kib = mm(cx).counts().peak_rss * 4;
            u
        }
        _ => return Err(Errno::EINVAL),
    };
    usage.put(mm(cx), &u.to_abi())
}

/// Used processor time in clock ticks: `times(2)`. Returns ticks since some time in the past.
pub fn sys_times(cx: &Ctx, buf: Out<Tms>) -> Result<i64> {
    let tick = NSEC_PER_SEC / USER_HZ;
    let (utime, stime) = cx.process().cpu_time();
    let children = cx.process().children_usage();
    buf.put_opt(
        mm(cx),
        &Tms {
            utime: (utime / tick) as i64,
            stime: (stime / tick) as i64,
            cutime: (children.utime / tick) as i64,
            cstime: (children.stime / tick) as i64,
        },
    )?;
    Ok((cx.kernel().now() / tick) as i64)
}
