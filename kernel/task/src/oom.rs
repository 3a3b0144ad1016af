//! The OOM killer: what happens when memory is used up and the page cache has
//! nothing left to give.
//!
//! The process with the highest [`score`] gets SIGKILL. It is marked as victim,
//! so that its own faults fail at once and its memory comes back soon; until it
//! has, nobody else is killed.

use crate::{Process, signal};
use abi::SigInfo;
use abi::signal::SIGKILL;
use alloc::format;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use hal::platform::LogLevel;

/// `oom_score_adj` that exempts a process.
const NEVER: i32 = -1000;

/// Memory of a process in frames, page tables included.
fn footprint(p: &Process) -> u64 {
    let Some(mm) = p.any_thread().and_then(|t| t.mm()) else {
        return 0;
    };
    let c = mm.counts();
    c.rss_anon + c.rss_file + c.rss_shmem + c.page_tables
}

/// Frames a process counts for, its `oom_score_adj` in thousandths of all memory added.
fn points(p: &Process, total: u64) -> i64 {
    let adj = i64::from(p.oom_score_adj.load(Ordering::Relaxed));
    footprint(p) as i64 + adj * (total as i64 / 1000)
}

/// Badness of a process as /proc/PID/oom_score shows it, 0 to 2000.
pub fn score(p: &Process) -> u32 {
    let total = mm::frame::stats().total.max(1);
    let points = points(p, total) * 1000 / total as i64;
    ((points + 1000) * 2 / 3).clamp(0, 2000) as u32
}

/// Gives up to `n` unused dentries and their inodes back.
pub(crate) fn shrink_caches(n: usize) -> usize {
    crate::current().kernel.mounts().shared().shrink(n)
}

/// Kills the process that is worth it most. Whether there is hope that memory
/// comes back; not for the victim itself, which has to end for that.
pub(crate) fn kill_something() -> bool {
    let me = crate::current();
    if me.process.oom_victim.load(Ordering::Acquire) {
        return false;
    }
    let kernel = me.kernel;
    let all = kernel.pids.processes();
    let living =
        |p: &&Arc<Process>| !p.is_zombie() && p.any_thread().is_some_and(|t| !t.is_kernel());
    if all
        .iter()
        .filter(living)
        .any(|p| p.oom_victim.load(Ordering::Acquire))
    {
        return true;
    }
    let total = mm::frame::stats().total;
    let victim = all
        .iter()
        .filter(living)
        .filter(|p| p.oom_score_adj.load(Ordering::Relaxed) != NEVER)
        .max_by_key(|p| points(p, total));
    let Some(p) = victim else {
        kernel.log(
            LogLevel::Error,
            "out of memory and no process to kill".into(),
        );
        return false;
    };
    // Two vCPUs may choose at once; one of them kills.
    if p.oom_victim.swap(true, Ordering::AcqRel) {
        return true;
    }
    let comm = p.any_thread().map(|t| t.comm()).unwrap_or_default();
    kernel.log(
        LogLevel::Warn,
        format!(
            "out of memory: killed process {} ({}), {} KiB",
            p.pid(),
            alloc::string::String::from_utf8_lossy(&comm),
            footprint(p) * 4
        ),
    );
    // All processes that share the address space must go for it to come back.
    let mm = p.any_thread().and_then(|t| t.mm());
    if let Some(mm) = &mm {
        mm.set_oom_victim();
    }
    for q in all.iter().filter(living) {
        let same = match (&mm, q.any_thread().and_then(|t| t.mm())) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, &b),
            _ => false,
        };
        if same || Arc::ptr_eq(p, q) {
            signal::send_process(q, SigInfo::new(SIGKILL, signal::SI_KERNEL));
        }
    }
    true
}
