//! Signals, signal(7).
//!
//! - [`send`]: sending, permission rules, what a signal does on arrival.
//! - [`deliver`]: what a task does about its signals on the way to user mode.
//! - [`mask`]: masks, waiting for signals, alternate stacks, sigreturn.
//!
//! Life of a signal: [`send`] takes the process's lock, applies what happens at
//! once (SIGCONT continues, ignored ones vanish), queues it to the process or a
//! thread, picks a thread that does not block it, sets that thread's
//! `SIGPENDING` flag, ends its interruptible wait and kicks it out of user mode.
//! The thread comes by [`deliver::handle`] before it runs guest code again.
//!
//! The flag is set and cleared under the process's lock, from the queues and
//! the mask ([`recalc`]), so it is never lost.

pub(crate) mod deliver;
mod mask;
pub(crate) mod send;

pub use mask::{
    altstack, pending, restart_syscall, restore_mask, set_blocked, set_temporary_mask, sigreturn,
    suspend, timed_wait,
};
pub(crate) use send::{force, kill_process, queue_process, queue_task, send_timer};
pub use send::{kill, queue_info, send_group, send_process, send_task, sigpipe, tgkill};

use crate::process::ProcInner;
use crate::task::{flag, state};
use crate::{Ctx, Task, level, sched};
use abi::signal::*;
use abi::{Errno, Result, SigAction, SigInfo, SigSet};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use sync::SpinLock;
use vfs::file::SignalSource;
use vfs::poll::QueueOwner;
use vfs::users::Share;

/// `si_code` of kill(2).
pub const SI_USER: i32 = 0;
/// `si_code` of the kernel.
pub const SI_KERNEL: i32 = 0x80;
/// `si_code` of a timer of timer_create(2).
const SI_TIMER: i32 = -2;
/// `si_code` of sigqueue(3).
pub const SI_QUEUE: i32 = -1;
/// `si_code` of tgkill(2).
pub const SI_TKILL: i32 = -6;

pub(crate) const SA_NOCLDSTOP: u64 = 1;
pub(crate) const SA_NOCLDWAIT: u64 = 2;
pub(crate) const SA_ONSTACK: u64 = 0x0800_0000;
pub(crate) const SA_RESTART: u64 = 0x1000_0000;
pub(crate) const SA_NODEFER: u64 = 0x4000_0000;
pub(crate) const SA_RESETHAND: u64 = 0x8000_0000;

/// Signals that can be neither blocked, caught nor ignored.
pub(crate) const UNBLOCKABLE: SigSet = SigSet::of(SIGKILL).with(SIGSTOP);
/// Signals that stop by default.
pub(crate) const STOPS: SigSet = SigSet::of(SIGSTOP)
    .with(SIGTSTP)
    .with(SIGTTIN)
    .with(SIGTTOU);
/// Signals that are ignored by default.
const IGNORED: SigSet = SigSet::of(SIGCHLD)
    .with(SIGCONT)
    .with(SIGURG)
    .with(SIGWINCH);
/// Signals that dump core by default.
const CORE: SigSet = SigSet::of(SIGQUIT)
    .with(SIGILL)
    .with(SIGTRAP)
    .with(SIGABRT)
    .with(SIGBUS)
    .with(SIGFPE)
    .with(SIGSEGV)
    .with(SIGXCPU)
    .with(SIGXFSZ)
    .with(SIGSYS);
/// Signals of the program's own making; they are taken before all others.
const SYNCHRONOUS: SigSet = SigSet::of(SIGSEGV)
    .with(SIGBUS)
    .with(SIGILL)
    .with(SIGTRAP)
    .with(SIGFPE)
    .with(SIGSYS);

/// What a signal does by default.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Default_ {
    Ignore,
    Stop,
    Core,
    Terminate,
}

pub(crate) fn default_action(signo: i32) -> Default_ {
    if IGNORED.has(signo) {
        Default_::Ignore
    } else if STOPS.has(signo) {
        Default_::Stop
    } else if CORE.has(signo) {
        Default_::Core
    } else {
        Default_::Terminate
    }
}

/// What a signal finds in the queue.
pub(crate) enum Room {
    /// A place, and what it counts; a timer's is its own.
    Place(Option<Share>),
    Full,
}

/// Queued signals. Standard signals are queued once, real-time ones as often as they are sent.
#[derive(Default)]
pub struct Pending {
    /// With what each counts for the receiver's user.
    queue: VecDeque<(SigInfo, Option<Share>)>,
    set: SigSet,
}

impl Pending {
    /// Signals in the queue.
    pub fn set(&self) -> SigSet {
        self.set
    }
    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }
    /// Whether an expiry of timer `id` waits here: one signal a timer, however many
    /// timers share the number. Standard signals are one in any case.
    pub(crate) fn has_timer(&self, signo: i32, id: i32) -> bool {
        if signo < SIGRTMIN {
            return self.set.has(signo);
        }
        let of_timer = |i: &SigInfo| i.code == SI_TIMER && i.fields[0] as i32 == id;
        (self.queue.iter()).any(|(i, _)| i.signo == signo && of_timer(i))
    }
    /// Queues a signal. `room(must)` gives a place in the queue, or `None` if the limit is reached and it
    /// need not be; without a place only the fact is kept, and [`Errno::EAGAIN`] for a real-time signal
    /// that carries information of its sender.
    pub(crate) fn push(&mut self, info: SigInfo, room: impl FnOnce(bool) -> Room) -> Result {
        let signo = info.signo;
        let standard = signo < SIGRTMIN;
        if standard && self.set.has(signo) {
            return Ok(());
        }
        // Where the kernel has no memory for it, as if the limit were reached.
        let place = match self.queue.try_reserve(1) {
            Ok(()) => room(standard && info.code >= 0),
            Err(_) => Room::Full,
        };
        match place {
            Room::Place(share) => self.queue.push_back((info, share)),
            Room::Full if !standard && ![SI_USER, SI_KERNEL].contains(&info.code) => {
                return Err(Errno::EAGAIN);
            }
            Room::Full => {}
        }
        self.set = self.set.with(signo);
        Ok(())
    }
    /// Takes the next signal of `from`: synchronous ones first, then by number, then by arrival.
    pub(crate) fn take(&mut self, from: SigSet) -> Option<SigInfo> {
        let have = SigSet(self.set.0 & from.0);
        let signo = SigSet(have.0 & SYNCHRONOUS.0).first().or(have.first())?;
        let at = self.queue.iter().position(|(i, _)| i.signo == signo);
        let info = at
            .and_then(|i| self.queue.remove(i))
            .map_or(SigInfo::new(signo, SI_USER), |(info, _)| info);
        if !self.queue.iter().any(|(i, _)| i.signo == signo) {
            self.set = self.set.without(signo);
        }
        Some(info)
    }
    /// Forgets all signals of `what`.
    pub(crate) fn discard(&mut self, what: SigSet) {
        if self.set.0 & what.0 != 0 {
            self.set = self.set.minus(what);
            self.queue.retain(|(i, _)| !what.has(i.signo));
        }
    }
}

/// Signal actions; shared with CLONE_SIGHAND.
pub struct SigHand {
    actions: SpinLock<[SigAction; 64], { level::ACTIONS }>,
}

impl SigHand {
    /// All default.
    pub fn new() -> Arc<SigHand> {
        Arc::new(SigHand {
            actions: SpinLock::new([SigAction::default(); 64]),
        })
    }
    /// A copy (fork). `clear`: handlers become default (CLONE_CLEAR_SIGHAND, exec).
    pub(crate) fn copy(&self, clear: bool) -> Arc<SigHand> {
        let mut a = *self.actions.lock();
        if clear {
            for act in &mut a {
                let handler = if act.handler == 1 { 1 } else { 0 };
                *act = SigAction {
                    handler,
                    ..SigAction::default()
                };
            }
        }
        Arc::new(SigHand {
            actions: SpinLock::new(a),
        })
    }
    /// Action of `signo` (1..=64).
    pub fn get(&self, signo: i32) -> SigAction {
        let i = (signo.clamp(1, 64) - 1) as usize;
        self.actions.lock().get(i).copied().unwrap_or_default()
    }
    pub(crate) fn set(&self, signo: i32, act: SigAction) -> SigAction {
        let i = (signo.clamp(1, 64) - 1) as usize;
        let mut a = self.actions.lock();
        match a.get_mut(i) {
            Some(e) => core::mem::replace(e, act),
            None => act,
        }
    }
    /// Ignored and caught signals (/proc/PID/status).
    pub fn sets(&self) -> (SigSet, SigSet) {
        let a = self.actions.lock();
        let (mut ign, mut caught) = (SigSet::EMPTY, SigSet::EMPTY);
        for (i, act) in a.iter().enumerate() {
            match act.handler {
                0 => {}
                1 => ign = ign.with(i as i32 + 1),
                _ => caught = caught.with(i as i32 + 1),
            }
        }
        (ign, caught)
    }
    /// Whether the signal has no effect: ignored, or default and ignored by default.
    pub(crate) fn ignores(&self, signo: i32) -> bool {
        match self.get(signo).handler {
            0 => default_action(signo) == Default_::Ignore,
            1 => true,
            _ => false,
        }
    }
}

/// Sets or clears a thread's `SIGPENDING` from what is pending. Under the process's lock.
pub(crate) fn recalc(t: &Task, i: &ProcInner) -> bool {
    let s = t.sig.lock();
    let have = s.pending.set().union(i.pending.set());
    let due = !have.minus(t.blocked()).is_empty()
        || s.forced.is_some()
        || i.group_exit.is_some()
        || i.exec_thread.is_some_and(|x| x != t.tid())
        || i.stop != crate::process::Stop::Running;
    if due {
        t.set_flag(flag::SIGPENDING);
    } else {
        t.clear_flag(flag::SIGPENDING);
    }
    due
}

/// After a thread has left: whoever is left takes the process's signals.
pub(crate) fn retarget(i: &ProcInner) {
    if i.pending.is_empty() {
        return;
    }
    for t in &i.threads {
        if !i.pending.set().minus(t.blocked()).is_empty() {
            t.set_flag(flag::SIGPENDING);
            sched::wake(t, state::INTERRUPTIBLE);
            sched::notify(t);
        }
    }
}

/// rt_sigaction(2): sets if `new` is there; returns the old action. [`Errno::EINVAL`].
pub fn action(cx: &Ctx, signo: i32, new: Option<SigAction>) -> Result<SigAction> {
    if !(1..=64).contains(&signo) || new.is_some() && UNBLOCKABLE.has(signo) {
        return Err(Errno::EINVAL);
    }
    let p = cx.process();
    let hand = p.sighand();
    let Some(mut new) = new else {
        return Ok(hand.get(signo));
    };
    new.mask = new.mask.minus(UNBLOCKABLE);
    let i = p.inner.lock();
    let old = hand.set(signo, new);
    drop(i);
    if hand.ignores(signo) {
        // Pending ones are discarded, blocked or not.
        let mut i = p.inner.lock();
        let set = SigSet::of(signo);
        i.pending.discard(set);
        for t in &i.threads {
            t.sig.lock().pending.discard(set);
        }
        for t in &i.threads {
            recalc(t, &i);
        }
    }
    Ok(old)
}

/// Whether `signo` is blocked or ignored by the calling thread (terminals ask for SIGTTIN and SIGTTOU).
pub fn blocked_or_ignored(t: &Task, signo: i32) -> bool {
    t.blocked().has(signo) || t.process.sighand().get(signo).handler == 1
}

/// Pending signals of a task, for signalfd(2).
pub struct TaskSignalSource {
    task: Arc<Task>,
}

impl TaskSignalSource {
    /// Of `task`.
    pub fn new(task: Arc<Task>) -> TaskSignalSource {
        TaskSignalSource { task }
    }
}

impl SignalSource for TaskSignalSource {
    fn take(&self, mask: SigSet) -> Option<SigInfo> {
        deliver::dequeue(&self.task, mask)
    }
    fn pending(&self) -> SigSet {
        let shared = self.task.process.shared_pending();
        self.task.pending().union(shared)
    }
    fn queue(&self) -> Arc<dyn QueueOwner> {
        self.task.process.signal_events.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rt(signo: i32, value: u64) -> SigInfo {
        SigInfo::from_process(signo, SI_QUEUE, 1, 0, value)
    }

    #[test]
    fn queue_order() {
        let mut p = Pending::default();
        for i in [
            rt(40, 1),
            rt(34, 2),
            rt(40, 3),
            SigInfo::new(SIGUSR1, 0),
            SigInfo::new(SIGUSR1, 0),
            SigInfo::new(SIGHUP, 0),
            SigInfo::new(SIGSEGV, 1),
        ] {
            p.push(i, |_| Room::Place(None)).unwrap();
        }
        let all = SigSet(u64::MAX);
        let order: alloc::vec::Vec<_> = core::iter::from_fn(|| p.take(all))
            .map(|i| (i.signo, i.fields[1]))
            .collect();
        assert_eq!(
            order,
            [
                (SIGSEGV, 0),
                (SIGHUP, 0),
                (SIGUSR1, 0),
                (34, 2),
                (40, 1),
                (40, 3)
            ]
        );
        assert!(p.is_empty());
    }

    #[test]
    fn without_room() {
        let mut p = Pending::default();
        assert_eq!(p.push(rt(40, 1), |_| Room::Full), Err(Errno::EAGAIN));
        p.push(SigInfo::new(SIGTERM, 0), |must| {
            assert!(must);
            Room::Full
        })
        .unwrap();
        p.push(SigInfo::new(41, SI_USER), |must| {
            assert!(!must);
            Room::Full
        })
        .unwrap();
        assert!(p.queue.is_empty());
        assert_eq!(p.take(SigSet(u64::MAX)).map(|i| i.signo), Some(SIGTERM));
        assert_eq!(p.take(SigSet(u64::MAX)).map(|i| i.signo), Some(41));
        assert_eq!(p.take(SigSet(u64::MAX)), None);
    }

    #[test]
    fn masks_and_discard() {
        let mut p = Pending::default();
        p.push(SigInfo::new(SIGTSTP, 0), |_| Room::Place(None))
            .unwrap();
        p.push(SigInfo::new(SIGINT, 0), |_| Room::Place(None))
            .unwrap();
        assert_eq!(p.take(SigSet::of(SIGQUIT)), None);
        p.discard(STOPS);
        assert_eq!(p.take(SigSet::of(SIGTSTP)), None);
        assert!(p.take(SigSet::of(SIGINT)).is_some());
    }
}
