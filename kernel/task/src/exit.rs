//! exit(2), exit_group(2), the end of threads and processes.

use crate::pid::Tree;
use crate::process::{ProcInner, Process, Report, Stop};
use crate::signal::{self, SA_NOCLDSTOP, SA_NOCLDWAIT};
use crate::task::{flag, state};
use crate::{Ctx, Kernel, Task, futex, sched};
use abi::signal::{SIGCHLD, SIGCONT, SIGHUP};
use abi::{Result, SigInfo};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

/// `si_code` values of SIGCHLD.
pub(crate) mod cld {
    pub const EXITED: i32 = 1;
    pub const KILLED: i32 = 2;
    pub const DUMPED: i32 = 3;
    pub const STOPPED: i32 = 5;
    pub const CONTINUED: i32 = 6;
}

/// exit(2): the calling thread ends on its way back to user mode, with exit
/// code `code` (low 8 bits). The caller returns the result.
pub fn exit_thread(cx: &Ctx, code: i32) -> Result<u64> {
    let t = cx.task();
    t.exit_status.store((code & 0xff) << 8, Ordering::Relaxed);
    t.set_flag(flag::EXIT);
    Ok(0)
}

/// exit_group(2): the same for the whole process.
pub fn exit_group(cx: &Ctx, code: i32) -> Result<u64> {
    let t = cx.task();
    start_group_exit(&t.process, (code & 0xff) << 8);
    t.set_flag(flag::EXIT);
    Ok(0)
}

/// Makes all threads of a process end; `status` as of wait(2). The first one to call decides the status.
pub(crate) fn start_group_exit(p: &Process, status: i32) {
    end_group(&mut p.inner.lock(), status);
}

/// As [`start_group_exit`], for who has the process locked.
pub(crate) fn end_group(i: &mut ProcInner, status: i32) {
    if i.group_exit.is_some() {
        return;
    }
    i.group_exit = Some(status);
    i.stop = Stop::Running;
    for t in &i.threads {
        kick_dying(t);
    }
}

/// Makes a thread notice that its process ends.
pub(crate) fn kick_dying(t: &Task) {
    t.set_flag(flag::SIGPENDING);
    sched::wake(t, state::INTERRUPTIBLE | state::STOPPED | state::KILLABLE);
    sched::notify(t);
}

/// The end of the current task. Nothing of its program runs any more, and
/// nothing is held by the frames below.
pub(crate) fn finish(task: &'static Task) -> ! {
    release(task);
    let last = leave_process(task);
    if last {
        end_process(task);
    }
    task.state.store(state::DEAD, Ordering::SeqCst);
    sched::schedule();
    unreachable!("a dead task ran")
}

/// Lets go of everything that may need to wait.
fn release(task: &'static Task) {
    task.set_flag(flag::EXITING);
    leave_futexes(task);
    release_mm(task);
    drop(task.set_files(None));
    drop(task.set_fs(None));
    let restart = task.restart.lock().take();
    drop(restart);
    if task.process.live_threads.load(Ordering::Relaxed) == 1 {
        task.process.timers.exit(task.kernel);
    }
}

/// Lets go of the futexes the task owns; exit and exec do it before they leave the address space.
pub(crate) fn leave_futexes(task: &Task) {
    futex::robust::exit(task);
    // Nobody is left to see the word cleared if the space is ours alone.
    if task.shares_mm() {
        futex::robust::clear_child_tid(task);
    }
}

/// Leaves the address space, as exit and exec do.
pub(crate) fn release_mm(task: &Task) {
    if let Some(user) = task.set_mm(None) {
        let peak = user.mm().counts().peak_rss * 4;
        let mut i = task.process.inner.lock();
        i.dead_threads.maxrss_kib = i.dead_threads.maxrss_kib.max(peak);
        drop(i);
        drop(user);
    }
    vfork_done(task);
}

/// The parent of a vfork may go on.
pub(crate) fn vfork_done(task: &Task) {
    let w = task.vfork_done.lock().take();
    if let Some(w) = w {
        // Wake-up proof: the parent announces its state before it looks at `done`.
        w.done.store(true, Ordering::SeqCst);
        sched::wake(&w.parent, state::KILLABLE);
    }
}

/// Takes the task out of its process; whether it was the last thread.
fn leave_process(task: &'static Task) -> bool {
    let p = &task.process;
    let usage = task.usage();
    let mut stopped = None;
    let last;
    let mut gone = None;
    {
        let mut tree = task.kernel.pids.tree.lock();
        let mut i = p.inner.lock();
        i.dead_threads.add(&usage);
        if let Some(k) = i.threads.iter().position(|t| core::ptr::eq(&**t, task)) {
            gone = Some(i.threads.remove(k));
        }
        if task.is_leader() || i.group_exit.is_some() {
            i.exit_status = task.exit_status.load(Ordering::Relaxed);
        }
        task.gone.store(true, Ordering::Release);
        // A thread on its way to a stop counts as stopped.
        if let Stop::Stopping(sig, n) = i.stop
            && !i.threads.is_empty()
        {
            if n <= 1 {
                i.stop = Stop::Stopped(sig);
                i.report = Report::Stopped(sig);
                stopped = Some(sig);
            } else {
                i.stop = Stop::Stopping(sig, n - 1);
            }
        }
        last = p.live_threads.fetch_sub(1, Ordering::AcqRel) == 1;
        // Signals that were meant for anybody go to those who are left.
        signal::retarget(&i);
        let heir = i.threads.first().map(|t| t.tid());
        drop(i);
        if let Some(heir) = heir {
            tree.adopt_within(p.pid(), task.tid(), heir);
        }
        if !task.is_leader() {
            tree.tasks.remove(&task.tid());
        }
    }
    drop(gone);
    p.exit_events.wake_all();
    if let Some(sig) = stopped {
        notify_parent(p, cld::STOPPED, sig);
    }
    last
}

/// The last thread of a process has ended.
fn end_process(task: &'static Task) {
    let kernel = task.kernel;
    let p = &task.process;
    if let Some(hook) = kernel.process_exit.get() {
        hook(p);
    }
    let session = p.session();
    if session.sid == p.pid() {
        if let Some(hook) = kernel.session_exit.get() {
            hook(&session);
        }
    }
    let uid = task.cred().uid;
    let status = p.exit_status();
    let mut to_hup: Vec<i32> = Vec::new();
    let mut adopted_zombies = Vec::new();
    let mut death_signals: Vec<(Arc<Process>, i32)> = Vec::new();
    let parent;
    let mut reaped = (None, None);
    {
        let mut tree = kernel.pids.tree.lock();
        reparent_children(
            &mut tree,
            p,
            &mut to_hup,
            &mut adopted_zombies,
            &mut death_signals,
        );
        // Our own group may become orphaned by our end.
        let mine = p.pgid();
        let parent_pid = p.ppid();
        parent = tree.procs.get(&parent_pid).map(|n| n.process.clone());
        if let Some(par) = &parent
            && par.pgid() != mine
            && par.sid() == session.sid
            && tree.group_orphaned(mine, Some(p.pid()))
            && group_has_stopped(&tree, mine, p.pid())
        {
            to_hup.push(mine);
        }
        let sig = p.exit_signal.load(Ordering::Relaxed);
        let auto = match &parent {
            None => true,
            Some(par) => {
                let act = par.sighand().get(SIGCHLD);
                par.pid() == 1 && p.pid() != kernel.main_pid.load(Ordering::Relaxed)
                    || sig == SIGCHLD && (act.handler == 1 || act.flags & SA_NOCLDWAIT != 0)
            }
        };
        p.zombie.store(true, Ordering::Release);
        if auto {
            reaped = tree.remove_process(p.pid());
        }
    }
    for (child, sig) in death_signals {
        signal::send_process(
            &child,
            SigInfo::from_process(sig, signal::SI_USER, p.pid(), uid, 0),
        );
    }
    for pgid in to_hup {
        signal::send_group(kernel, pgid, SigInfo::new(SIGHUP, signal::SI_KERNEL));
        signal::send_group(kernel, pgid, SigInfo::new(SIGCONT, signal::SI_KERNEL));
    }
    for z in adopted_zombies {
        reap_adopted(kernel, &z);
    }
    p.exit_events.wake_all();
    if let Some(par) = parent {
        let sig = p.exit_signal.load(Ordering::Relaxed);
        if sig > 0 {
            let (code, st) = status_code(status);
            signal::send_process(&par, child_info(p, sig, code, st, uid));
        }
        par.child_events.wake_all();
    }
    drop(reaped);
}

/// `CLD_*` code and `si_status` of a wait status.
pub(crate) fn status_code(status: i32) -> (i32, i32) {
    if status & 0x7f == 0 {
        (cld::EXITED, status >> 8 & 0xff)
    } else if status & 0x80 != 0 {
        (cld::DUMPED, status & 0x7f)
    } else {
        (cld::KILLED, status & 0x7f)
    }
}

fn child_info(p: &Process, sig: i32, code: i32, status: i32, uid: u32) -> SigInfo {
    let (u, s) = p.cpu_time();
    const TICK: u64 = abi::time::NSEC_PER_SEC / abi::time::USER_HZ;
    let mut info = SigInfo::child(code, p.pid(), uid, status, u / TICK, s / TICK);
    info.signo = sig;
    info
}

/// Tells the parent that the process has stopped or continued. No lock is held.
pub(crate) fn notify_parent(p: &Process, code: i32, status: i32) {
    let Some(par) = p.parent() else { return };
    let act = par.sighand().get(SIGCHLD);
    if act.flags & SA_NOCLDSTOP == 0 && act.handler != 1 {
        let uid = p.any_thread().map_or(0, |t| t.cred().uid);
        signal::send_process(&par, child_info(p, SIGCHLD, code, status, uid));
    }
    par.child_events.wake_all();
}

fn group_has_stopped(tree: &Tree, pgid: i32, without: i32) -> bool {
    tree.groups.get(&pgid).is_some_and(|set| {
        set.iter().filter(|m| **m != without).any(|m| {
            tree.procs
                .get(m)
                .is_some_and(|n| matches!(n.process.inner.lock().stop, Stop::Stopped(_)))
        })
    })
}

/// Gives the children to the nearest living sub-reaper among the ancestors, or to pid 1.
fn reparent_children(
    tree: &mut Tree,
    p: &Process,
    to_hup: &mut Vec<i32>,
    zombies: &mut Vec<Arc<Process>>,
    death_signals: &mut Vec<(Arc<Process>, i32)>,
) {
    let children: Vec<i32> = match tree.procs.get_mut(&p.pid()) {
        Some(n) => core::mem::take(&mut n.children).into_iter().collect(),
        None => return,
    };
    if children.is_empty() {
        return;
    }
    let mut reaper = 1;
    let mut up = p.ppid();
    for _ in 0..tree.procs.len() {
        let Some(n) = tree.procs.get(&up) else { break };
        if n.process.child_subreaper.load(Ordering::Relaxed) && !n.process.is_zombie() {
            reaper = up;
            break;
        }
        up = n.process.ppid();
    }
    for c in children {
        let Some(child) = tree.procs.get(&c).map(|n| n.process.clone()) else {
            continue;
        };
        child.ppid.store(reaper, Ordering::Relaxed);
        child.parent_tid.store(reaper, Ordering::Relaxed);
        child.exit_signal.store(SIGCHLD, Ordering::Relaxed);
        if let Some(n) = tree.procs.get_mut(&reaper) {
            n.children.insert(c);
        }
        if child.is_zombie() {
            zombies.push(child);
            continue;
        }
        let sig = child
            .inner
            .lock()
            .threads
            .iter()
            .map(|t| t.pdeath_signal.load(Ordering::Relaxed))
            .find(|s| *s != 0);
        if let Some(sig) = sig {
            death_signals.push((child.clone(), sig));
        }
        let g = child.pgid();
        if g != p.pgid()
            && child.sid() == p.sid()
            && !to_hup.contains(&g)
            && tree.group_orphaned(g, None)
            && group_has_stopped(tree, g, 0)
        {
            to_hup.push(g);
        }
    }
}

/// A zombie got a new parent: pid 1 reaps it at once, a sub-reaper is told.
fn reap_adopted(kernel: &Kernel, z: &Arc<Process>) {
    let ppid = z.ppid();
    if ppid == 1 && z.pid() != kernel.main_pid.load(Ordering::Relaxed) {
        let gone = kernel.pids.tree.lock().remove_process(z.pid());
        drop(gone);
        return;
    }
    if let Some(par) = kernel.pids.process(ppid) {
        let (code, st) = status_code(z.exit_status());
        let uid = z.leader().map_or(0, |t| t.cred().uid);
        signal::send_process(&par, child_info(z, SIGCHLD, code, st, uid));
        par.child_events.wake_all();
    }
}
