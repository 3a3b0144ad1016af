//! Signals, signal(7): sending, queues, delivery, masks, stops.

use crate::{Ctx, Process, Task, level};
use abi::{Errno, Result, SigAction, SigInfo, SigSet, SigStack};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use sync::SpinLock;
use vfs::file::SignalSource;
use vfs::poll::QueueOwner;

/// `si_code` of kill(2).
pub const SI_USER: i32 = 0;
/// `si_code` of the kernel.
pub const SI_KERNEL: i32 = 0x80;
/// `si_code` of sigqueue(3).
pub const SI_QUEUE: i32 = -1;
/// `si_code` of tgkill(2).
pub const SI_TKILL: i32 = -6;

/// Queued signals.
#[derive(Default)]
pub struct Pending {
    queue: VecDeque<SigInfo>,
    set: SigSet,
}

impl Pending {
    /// Signals in the queue.
    pub fn set(&self) -> SigSet {
        self.set
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
    /// Action of `signo` (1..=64).
    pub fn get(&self, signo: i32) -> SigAction {
        let i = (signo.max(1) as usize - 1).min(63);
        self.actions.lock()[i]
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
}

/// Sends to a process, from the kernel: no permission check.
pub fn send_process(p: &Arc<Process>, info: SigInfo) {
    let _ = (p, info);
}

/// Sends to one thread, from the kernel: no permission check.
pub fn send_task(t: &Arc<Task>, info: SigInfo) {
    let _ = (t, info);
}

/// Sends to all members of a process group, from the kernel (terminals). May be called with locks up to
/// [`sync::level::IPC`] held. Whether there was a member.
pub fn send_group(kernel: &crate::Kernel, pgid: i32, info: SigInfo) -> bool {
    let _ = (kernel, pgid, info);
    false
}

/// SIGPIPE for the calling thread: a write to a broken pipe or socket.
pub fn sigpipe(cx: &Ctx) {
    send_task(
        &cx.task().arc(),
        SigInfo::from_process(
            abi::signal::SIGPIPE,
            SI_USER,
            cx.process().pid(),
            cx.cred().uid,
            0,
        ),
    );
}

/// A signal caused by the running program itself, which cannot be ignored or blocked: SIGSEGV, SIGBUS, SIGSYS...
pub fn force(t: &Task, info: SigInfo) {
    let _ = (t, info);
}

/// kill(2), every form of `pid`.
pub fn kill(cx: &Ctx, pid: i32, signo: i32) -> Result {
    let _ = (cx, pid, signo);
    Err(Errno::ENOSYS)
}

/// tgkill(2); `tgid` = `None`: tkill(2).
pub fn tgkill(cx: &Ctx, tgid: Option<i32>, tid: i32, signo: i32) -> Result {
    let _ = (cx, tgid, tid, signo);
    Err(Errno::ENOSYS)
}

/// rt_sigqueueinfo(2) (`tid` `None`), rt_tgsigqueueinfo(2).
pub fn queue_info(cx: &Ctx, pid: i32, tid: Option<i32>, info: SigInfo) -> Result {
    let _ = (cx, pid, tid, info);
    Err(Errno::ENOSYS)
}

/// rt_sigaction(2): sets if `new` is there; returns the old action. [`Errno::EINVAL`].
pub fn action(cx: &Ctx, signo: i32, new: Option<SigAction>) -> Result<SigAction> {
    let _ = (cx, signo, new);
    Err(Errno::ENOSYS)
}

/// Replaces the mask of the calling thread (SIGKILL and SIGSTOP are dropped from it); returns the old one.
pub fn set_blocked(t: &Task, set: SigSet) -> SigSet {
    let _ = set;
    t.blocked()
}

/// Sets a mask for the rest of this system call (ppoll, pselect, epoll_pwait); it is put back on the
/// way out, after handlers have been set up if the call ends with EINTR. See [`restore_mask`].
pub fn set_temporary_mask(t: &Task, set: SigSet) {
    let _ = (t, set);
}

/// Puts the mask back at once: the call that had set a temporary one ends without having been interrupted.
pub fn restore_mask(t: &Task) {
    let _ = t;
}

/// Pending signals of thread and process that are blocked: sigpending(2).
pub fn pending(t: &Task) -> SigSet {
    t.pending()
}

/// rt_sigsuspend(2). Never `Ok`.
pub fn suspend(cx: &Ctx, mask: SigSet) -> Result<u64> {
    let _ = (cx, mask);
    Err(Errno::ENOSYS)
}

/// rt_sigtimedwait(2): `deadline_ns` monotonic, `None` = forever. [`Errno::EAGAIN`] at the deadline, [`Errno::EINTR`].
pub fn timed_wait(cx: &Ctx, set: SigSet, deadline_ns: Option<u64>) -> Result<SigInfo> {
    let _ = (cx, set, deadline_ns);
    Err(Errno::ENOSYS)
}

/// sigaltstack(2): sets if `new` is there; returns the old one (with SS_ONSTACK if in use).
pub fn altstack(cx: &Ctx, new: Option<SigStack>) -> Result<SigStack> {
    let _ = (cx, new);
    Err(Errno::ENOSYS)
}

/// rt_sigreturn(2). Replaces the registers.
pub fn sigreturn(cx: &Ctx) -> Result<u64> {
    let _ = cx;
    Err(Errno::ENOSYS)
}

/// restart_syscall(2).
pub fn restart_syscall(cx: &Ctx) -> Result<u64> {
    let _ = cx;
    Err(Errno::EINTR)
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
        let _ = mask;
        None
    }
    fn pending(&self) -> SigSet {
        pending(&self.task)
    }
    fn queue(&self) -> Arc<dyn QueueOwner> {
        self.task.process.signal_events.clone()
    }
}
