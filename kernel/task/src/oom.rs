//! The OOM killer: what happens when memory is used up and the page cache has
//! nothing left to give.
//!
//! The process with the highest [`score`] gets SIGKILL. It is marked as victim,
//! so that its own faults fail at once and its memory comes back soon; until it
//! has, nobody else is killed. Processes that end anyway are victims before others. The
//! machine's command is spared as long as others have more than a quarter of its memory, and
//! if it has hardly any itself: then the memory belongs to no process, and calls fail.

use crate::{Kernel, Process, signal};
use abi::SigInfo;
use abi::signal::SIGKILL;
use alloc::format;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use hal::platform::LogLevel;

/// `oom_score_adj` that exempts a process.
const NEVER: i32 = -1000;

/// Memory of a process in frames: its pages, page tables and kernel stacks, and a
/// frame for each open file, so that a process that hoards objects of the kernel is found.
/// Takes spin locks only: who calls for memory may hold any other.
fn footprint(p: &Process) -> u64 {
    let Some(task) = p.any_thread() else {
        return 0;
    };
    let pages = task.mm().map_or(0, |mm| mm.footprint());
    let files = task.files().map_or(0, |f| f.len() as u64);
    let stacks = u64::from(p.live_threads.load(Ordering::Relaxed))
        * (hal::cpu::KSTACK_SIZE / hal::PAGE_SIZE) as u64;
    pages + files + stacks
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

/// Whether `p` is a process of guests that has not ended yet.
fn lives(p: &Process) -> bool {
    !p.is_zombie() && p.any_thread().is_some_and(|t| !t.is_kernel())
}

fn is_victim(p: &Process) -> bool {
    p.oom_victim.load(Ordering::Acquire)
}

/// The process to be killed next: one that ends anyway if there is any, then the one with
/// the most points.
fn choose(kernel: &Kernel) -> Option<Arc<Process>> {
    let total = mm::frame::stats().total;
    let weigh = |p: Arc<Process>| {
        let n = points(&p, total);
        if p.inner.lock().group_exit.is_some() {
            return Some((true, n, p));
        }
        if p.oom_score_adj.load(Ordering::Relaxed) == NEVER {
            return None;
        }
        // The machine ends with its command.
        if p.pid() == kernel.main_pid.load(Ordering::Relaxed) {
            return (n > total as i64 / 8).then_some((false, n / 4, p));
        }
        Some((false, n, p))
    };
    let all = kernel.pids.processes().filter(|p| lives(p));
    let best = all.filter_map(weigh).max_by_key(|(ends, n, _)| (*ends, *n));
    best.map(|(.., p)| p)
}

/// Kills the process that is worth it most. Whether there is hope that memory
/// comes back; not for the victim itself, which has to end for that. Allocates
/// nothing but a line of the log, when the victim has its signal.
pub(crate) fn kill_something() -> bool {
    let me = crate::current();
    if is_victim(&me.process) {
        return false;
    }
    let kernel = me.kernel;
    if kernel.pids.processes().any(|p| is_victim(&p) && lives(&p)) {
        return true;
    }
    let Some(p) = choose(kernel) else {
        if !kernel.oom_helpless.swap(true, Ordering::Relaxed) {
            kernel.log(
                LogLevel::Error,
                "out of memory and no process to kill".into(),
            );
        }
        return false;
    };
    // Two vCPUs may choose at once; one of them kills.
    if p.oom_victim.swap(true, Ordering::AcqRel) {
        return true;
    }
    kernel.oom_helpless.store(false, Ordering::Relaxed);
    // All processes that share the address space must go for it to come back.
    let mm = p.any_thread().and_then(|t| t.mm());
    if let Some(mm) = &mm {
        mm.set_oom_victim();
    }
    let ends = p.inner.lock().group_exit.is_some();
    for q in kernel.pids.processes().filter(|q| lives(q)) {
        let same = match (&mm, q.any_thread().and_then(|t| t.mm())) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, &b),
            _ => false,
        };
        if same || Arc::ptr_eq(&p, &q) {
            signal::send_process(&q, SigInfo::new(SIGKILL, signal::SI_KERNEL));
        }
    }
    if !ends {
        report(kernel, &p);
    }
    !Arc::ptr_eq(&p, &me.process)
}

/// One line in the log.
fn report(kernel: &Kernel, p: &Process) {
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
}
