//! Sending signals.

use super::{Default_, Room, SI_TKILL, SI_USER, STOPS, SigHand, default_action};
use crate::exit::{self, cld};
use crate::process::{ProcInner, Process, Report, Stop};
use crate::task::{flag, state};
use crate::{Ctx, Kernel, Task, cred, sched};
use abi::signal::{SIGCONT, SIGKILL, SIGPIPE};
use abi::{Errno, Result, SigInfo, SigSet};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;

/// To whom within a process.
#[derive(Clone, Copy)]
enum To<'a> {
    Anybody,
    Thread(&'a Task),
}

/// Whose place in the queue a signal takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// One of those of the receiver's user.
    OfUser,
    /// That of a timer, which has counted since it was made.
    OfTimer,
}

/// Sends to a process, from the kernel: no permission check.
pub fn send_process(p: &Arc<Process>, info: SigInfo) {
    let _ = send(p, To::Anybody, info, Place::OfUser);
}

/// As [`send_process`]; [`Errno::EAGAIN`] if a real-time signal finds no room.
pub(crate) fn queue_process(p: &Arc<Process>, info: SigInfo) -> Result {
    send(p, To::Anybody, info, Place::OfUser)
}

/// As [`queue_process`], for one thread.
pub(crate) fn queue_task(t: &Arc<Task>, info: SigInfo) -> Result {
    send(&t.process, To::Thread(t), info, Place::OfUser)
}

/// Sends the signal of a timer of timer_create(2) to a thread, or to any of the process.
pub(crate) fn send_timer(p: &Arc<Process>, thread: Option<&Task>, info: SigInfo) {
    let to = thread.map_or(To::Anybody, To::Thread);
    let _ = send(p, to, info, Place::OfTimer);
}

/// Sends to one thread, from the kernel: no permission check.
pub fn send_task(t: &Arc<Task>, info: SigInfo) {
    let _ = send(&t.process, To::Thread(t), info, Place::OfUser);
}

/// Sends to all members of a process group, from the kernel (terminals). May be called with locks up to
/// [`sync::level::IPC`] held. Whether there was a member.
pub fn send_group(kernel: &Kernel, pgid: i32, info: SigInfo) -> bool {
    let members = kernel.pids.group(pgid);
    for p in &members {
        send_process(p, info);
    }
    !members.is_empty()
}

/// SIGPIPE for the calling thread: a write to a broken pipe or socket.
pub fn sigpipe(cx: &Ctx) {
    let info = SigInfo::from_process(SIGPIPE, SI_USER, cx.process().pid(), cx.cred().uid, 0);
    send_task(&cx.task().arc(), info);
}

/// Ends a process with a signal that asks nobody.
pub(crate) fn kill_process(p: &Process, signo: i32) {
    exit::start_group_exit(p, signo);
}

/// A signal caused by the running program itself, which it cannot put off:
/// blocked or ignored, it kills.
pub(crate) fn force(t: &Task, info: SigInfo) {
    let p = &t.process;
    let hand = p.sighand();
    let signo = info.signo;
    let i = p.inner.lock();
    let act = hand.get(signo);
    if act.handler == 1 || t.blocked().has(signo) {
        hand.set(signo, abi::SigAction::default());
        t.blocked
            .store(t.blocked().without(signo).0, Ordering::Release);
    }
    t.sig.lock().forced = Some(info);
    t.set_flag(flag::SIGPENDING);
    drop(i);
}

/// Queues `info`. [`Errno::EAGAIN`]: too many queued signals.
fn send(p: &Arc<Process>, to: To<'_>, info: SigInfo, place: Place) -> Result {
    let signo = info.signo;
    if !(1..=64).contains(&signo) {
        return Ok(());
    }
    let hand = p.sighand();
    let limit = p.rlimit(abi::raw::RLIMIT_SIGPENDING).cur;
    let mut continued = false;
    {
        let mut guard = p.inner.lock();
        let i = &mut *guard;
        if i.threads.is_empty() || i.threads.iter().all(|t| t.is_kernel()) {
            return Ok(());
        }
        if signo == SIGKILL {
            exit::end_group(i, SIGKILL);
            return Ok(());
        }
        if i.group_exit.is_some() {
            return Ok(());
        }
        if STOPS.has(signo) {
            discard_everywhere(i, SigSet::of(SIGCONT));
        } else if signo == SIGCONT {
            discard_everywhere(i, STOPS);
            continued = continue_group(i);
        }
        if !is_ignored(i, &hand, to, signo) {
            let uid = match to {
                To::Thread(t) => t.cred().uid,
                To::Anybody => i.threads.first().map_or(0, |t| t.cred().uid),
            };
            let room = |must| match place {
                Place::OfTimer => Room::Place(None),
                Place::OfUser => match p.kernel.queued_signals.take_one(uid, limit, must) {
                    None => Room::Full,
                    share => Room::Place(share),
                },
            };
            match to {
                To::Anybody => i.pending.push(info, room)?,
                To::Thread(t) => t.sig.lock().pending.push(info, room)?,
            }
            if wake_receiver(i, to, signo) && hand.get(signo).handler == 0 && ends(signo) {
                exit::end_group(i, signo);
            }
        }
    }
    if continued {
        exit::notify_parent(p, cld::CONTINUED, SIGCONT);
    }
    p.signal_events.wake_key(vfs::PollEvents::IN.bits());
    Ok(())
}

fn discard_everywhere(i: &mut ProcInner, set: SigSet) {
    i.pending.discard(set);
    for t in &i.threads {
        t.sig.lock().pending.discard(set);
    }
}

/// SIGCONT: whether the process was stopped (its parent is to be told).
fn continue_group(i: &mut ProcInner) -> bool {
    let was = core::mem::replace(&mut i.stop, Stop::Running);
    if was == Stop::Running {
        return false;
    }
    for t in &i.threads {
        sched::wake(t, state::STOPPED);
    }
    let stopped = matches!(was, Stop::Stopped(_));
    if stopped {
        i.report = Report::Continued;
    }
    stopped
}

/// Whether the signal would do nothing. A blocked signal is kept: its action may change.
fn is_ignored(i: &ProcInner, hand: &SigHand, to: To<'_>, signo: i32) -> bool {
    if !hand.ignores(signo) {
        return false;
    }
    let wants = |t: &Task| t.blocked().has(signo) || t.sig.lock().waiting.has(signo);
    match to {
        To::Thread(t) => !wants(t),
        To::Anybody => !i.threads.iter().any(|t| wants(t)),
    }
}

/// Whether a process that has nothing else to handle ends at once, wherever its threads are: all
/// that kill without a core file.
fn ends(signo: i32) -> bool {
    matches!(default_action(signo), Default_::Terminate)
}

/// Chooses who takes the signal and makes that thread look. Whether it is
/// the first thing that the thread will do.
fn wake_receiver(i: &ProcInner, to: To<'_>, signo: i32) -> bool {
    let takes = |t: &Task| {
        !t.flag(flag::EXITING) && (!t.blocked().has(signo) || t.sig.lock().waiting.has(signo))
    };
    let kick = |t: &Task| {
        let takes = !t.blocked().has(signo);
        let first = takes && !t.flag(flag::SIGPENDING) && i.stop == Stop::Running;
        if takes {
            t.set_flag(flag::SIGPENDING);
        }
        sched::wake(t, state::INTERRUPTIBLE);
        sched::notify(t);
        first
    };
    match to {
        To::Thread(t) => takes(t) && kick(t),
        To::Anybody => {
            // The leader if it can, else a thread that sleeps, else anyone.
            let mut best: Option<&Arc<Task>> = None;
            for t in &i.threads {
                if takes(t) {
                    if t.is_leader() {
                        best = Some(t);
                        break;
                    }
                    let idle = t.state.load(Ordering::Relaxed) == state::INTERRUPTIBLE;
                    if best.is_none() || idle {
                        best = Some(t);
                    }
                }
            }
            best.is_some_and(|t| kick(t))
        }
    }
}

/// Whether `cx` may send `signo` to `p`.
fn permitted(cx: &Ctx, p: &Process, signo: i32) -> bool {
    if core::ptr::eq(p, &**cx.process()) {
        return true;
    }
    let Some(target) = p.any_thread().or_else(|| p.leader()) else {
        return false;
    };
    cred::may_signal(&cx.cred(), &target.cred())
        || signo == SIGCONT && p.sid() == cx.process().sid()
}

fn user_info(cx: &Ctx, signo: i32, code: i32) -> SigInfo {
    SigInfo::from_process(signo, code, cx.process().pid(), cx.cred().uid, 0)
}

/// kill(2), every form of `pid`.
pub fn kill(cx: &Ctx, pid: i32, signo: i32) -> Result {
    if !(0..=64).contains(&signo) {
        return Err(Errno::EINVAL);
    }
    let pids = &cx.kernel().pids;
    let info = user_info(cx, signo, SI_USER);
    let one = |p: &Arc<Process>| -> Result {
        if !permitted(cx, p, signo) {
            return Err(Errno::EPERM);
        }
        if signo == 0 {
            return Ok(());
        }
        send(p, To::Anybody, info, Place::OfUser)
    };
    let targets = match pid {
        1.. => {
            let p = pids.process(pid);
            // A tid of another thread names its process as well.
            let p = p.or_else(|| pids.task(pid).map(|t| t.process.clone()));
            return one(&p.ok_or(Errno::ESRCH)?);
        }
        0 => pids.group(cx.process().pgid()),
        -1 => {
            let me = cx.process().pid();
            pids.processes()
                .filter(|p| p.pid() > 1 && p.pid() != me)
                .collect()
        }
        i32::MIN => return Err(Errno::ESRCH),
        _ => pids.group(-pid),
    };
    if targets.is_empty() {
        return Err(Errno::ESRCH);
    }
    let mut result = Err(Errno::EPERM);
    for p in &targets {
        match one(p) {
            Ok(()) => result = Ok(()),
            Err(e) if result.is_err() => result = Err(e),
            Err(_) => {}
        }
    }
    result
}

fn find_thread(cx: &Ctx, tgid: Option<i32>, tid: i32) -> Result<Arc<Task>> {
    if tid <= 0 || tgid.is_some_and(|g| g <= 0) {
        return Err(Errno::EINVAL);
    }
    let t = cx.kernel().pids.task(tid).ok_or(Errno::ESRCH)?;
    if tgid.is_some_and(|g| g != t.process.pid()) {
        return Err(Errno::ESRCH);
    }
    Ok(t)
}

/// tgkill(2); `tgid` = `None`: tkill(2).
pub fn tgkill(cx: &Ctx, tgid: Option<i32>, tid: i32, signo: i32) -> Result {
    let t = find_thread(cx, tgid, tid)?;
    if !(0..=64).contains(&signo) {
        return Err(Errno::EINVAL);
    }
    if !permitted(cx, &t.process, signo) {
        return Err(Errno::EPERM);
    }
    if signo == 0 || t.gone.load(Ordering::Acquire) {
        return Ok(());
    }
    let info = user_info(cx, signo, SI_TKILL);
    send(&t.process, To::Thread(&t), info, Place::OfUser)
}

/// rt_sigqueueinfo(2) (`tid` `None`), rt_tgsigqueueinfo(2).
pub fn queue_info(cx: &Ctx, pid: i32, tid: Option<i32>, info: SigInfo) -> Result {
    let own = pid == cx.process().pid();
    // Nobody may pretend to be the kernel or kill(2) towards others.
    if (info.code >= 0 || info.code == SI_TKILL) && !own {
        return Err(Errno::EPERM);
    }
    let signo = info.signo;
    if !(0..=64).contains(&signo) {
        return Err(Errno::EINVAL);
    }
    let (p, t) = match tid {
        Some(tid) => {
            let t = find_thread(cx, Some(pid), tid)?;
            (t.process.clone(), Some(t))
        }
        None => (cx.kernel().pids.process(pid).ok_or(Errno::ESRCH)?, None),
    };
    if !permitted(cx, &p, signo) {
        return Err(Errno::EPERM);
    }
    if signo == 0 {
        return Ok(());
    }
    match &t {
        Some(t) => send(&p, To::Thread(t), info, Place::OfUser),
        None => send(&p, To::Anybody, info, Place::OfUser),
    }
}

/// core(5): no core is made under a limit below this.
const CORE_MIN: u64 = 4096;

/// Wait status of a process that signal `signo` kills.
pub(crate) fn death_status(p: &Process, signo: i32) -> i32 {
    let core = default_action(signo) == Default_::Core
        && p.rlimit(abi::raw::RLIMIT_CORE).cur >= CORE_MIN
        && p.dumpable.load(Ordering::Relaxed) == 1;
    signo | if core { 0x80 } else { 0 }
}
