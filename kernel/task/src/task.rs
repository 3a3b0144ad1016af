//! [`Task`]: a thread; [`current`].

use crate::Kernel;
use crate::level;
use crate::process::{Process, Usage};
use crate::sched::{SchedEntity, SchedParams, stack::KernelStack};
use crate::signal::Pending;
use abi::{SigInfo, SigSet, SigStack};
use alloc::sync::{Arc, Weak};
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use hal::arch::{NUMBER, SyscallWords};
use hal::cpu::{self, SavedStack, Waiter};
use hal::{UserContext, UserRegs};
use mm::{Mm, MmUser};
use sync::SpinLock;
use sync::timer::TimerCallback;
use vfs::{Cred, FdTable, FdUser, FsContext};

/// The task that this code runs as. The reference holds while this code runs
/// on the task's stack; keep [`Task::arc`] for longer.
///
/// # Panics
/// On a stack without a task (boot before the scheduler).
pub fn current() -> &'static Task {
    match cpu::current_waiter().as_any().downcast_ref::<Task>() {
        Some(t) => t,
        None => panic!("the current waiter is no task"),
    }
}

/// Values of [`Task::state`].
pub(crate) mod state {
    /// On a run queue or running.
    pub const RUNNING: u32 = 0;
    /// Waits; signals end it.
    pub const INTERRUPTIBLE: u32 = 1;
    /// Waits whatever comes.
    pub const UNINTERRUPTIBLE: u32 = 2;
    /// Stopped by job control.
    pub const STOPPED: u32 = 4;
    /// Ended; never runs again.
    pub const DEAD: u32 = 8;
    /// Waits; only the end of the process ends it.
    pub const KILLABLE: u32 = 16;
}

/// Bits of [`Task::flags`].
pub(crate) mod flag {
    /// A signal (or the end of the group, or a stop) waits to be handled.
    pub const SIGPENDING: u32 = 1;
    /// The blocked mask to restore if no handler ran is in `saved_mask`.
    pub const RESTORE_MASK: u32 = 2;
    /// Registers were replaced: do not store the result of the system call.
    pub const KEEP_REGS: u32 = 4;
    /// Exiting: signals are not delivered any more.
    pub const EXITING: u32 = 8;
    /// A thread of the kernel: no user mode, no address space.
    pub const KERNEL: u32 = 0x10;
    /// Called exit; ends on its way to user mode.
    pub const EXIT: u32 = 0x20;
    /// Forked but never run execve (accounting).
    pub const FORKNOEXEC: u32 = 0x40;
    /// Address space, descriptors or places are others than before.
    pub const NEW_CONTEXT: u32 = 0x80;
    /// Has let go of its futexes for good: nobody may wait for it. Set under the lock of the PI owners.
    pub const FUTEX_DEAD: u32 = 0x100;
    /// Was preempted or moved: see [`crate::rseq`].
    pub const RSEQ: u32 = 0x200;
}

/// How to continue an interrupted system call through restart_syscall(2).
pub type Restart = alloc::boxed::Box<dyn FnOnce(&crate::Ctx) -> abi::Result<u64> + Send + Sync>;

/// Under [`Task::sig`].
#[derive(Default)]
pub(crate) struct TaskSignals {
    pub pending: Pending,
    /// Mask to restore after sigsuspend and the like.
    pub saved_mask: SigSet,
    pub altstack: SigStack,
    /// Signals sigtimedwait waits for: they count as deliverable while blocked.
    pub waiting: SigSet,
    /// Kill this thread alone is not possible; this remembers a forced signal that must not be ignored.
    pub forced: Option<SigInfo>,
}

/// A thread.
pub struct Task {
    /// The machine.
    pub kernel: &'static Kernel,
    /// Thread group.
    pub process: Arc<Process>,
    this: Weak<Task>,
    pub(crate) tid: AtomicI32,
    pub(crate) flags: AtomicU32,
    pub(crate) state: AtomicU32,
    /// Scheduler's part.
    pub(crate) sched: SchedEntity,
    pub(crate) stack: KernelStack,
    pub(crate) saved_sp: SavedStack,
    /// Only the task itself touches them, or others while it cannot run.
    pub(crate) regs: UserRegs,
    comm: SpinLock<[u8; 16], { level::LEAF }>,
    cred: SpinLock<Arc<Cred>, { level::LEAF }>,
    mm: SpinLock<Option<MmUser>, { level::LEAF }>,
    files: SpinLock<Option<FdUser>, { level::LEAF }>,
    fs: SpinLock<Option<Arc<FsContext>>, { level::LEAF }>,
    pub(crate) sig: SpinLock<TaskSignals, { level::THREAD }>,
    /// Blocked signals; only the task itself changes them.
    pub(crate) blocked: AtomicU64,
    /// CLONE_CHILD_CLEARTID address.
    pub clear_child_tid: AtomicU64,
    /// Robust futex list head, set_robust_list(2).
    pub robust_list: AtomicU64,
    /// rseq(2).
    pub(crate) rseq: crate::rseq::Rseq,
    /// personality(2).
    pub personality: AtomicU32,
    /// PR_SET_PDEATHSIG.
    pub pdeath_signal: AtomicI32,
    /// PR_SET_KEEPCAPS lives in the securebits of the credentials; PR_SET_TIMERSLACK in ns.
    pub timer_slack_ns: AtomicU64,
    /// I/O priority, ioprio_set(2).
    pub ioprio: AtomicU32,
    pub(crate) utime: AtomicU64,
    pub(crate) stime: AtomicU64,
    /// Monotonic time at which `utime`/`stime` were last brought up to date.
    pub(crate) stamp: AtomicU64,
    pub(crate) nvcsw: AtomicU64,
    pub(crate) nivcsw: AtomicU64,
    pub(crate) minflt: AtomicU64,
    pub(crate) majflt: AtomicU64,
    /// Ended with this wait status (zombie leaders).
    pub(crate) exit_status: AtomicI32,
    /// vfork(2): the parent waits here until exec or exit.
    pub(crate) vfork_done: SpinLock<Option<Arc<VforkWait>>, { level::LEAF }>,
    pub(crate) restart: SpinLock<Option<Restart>, { level::LEAF }>,
    pub(crate) entry: SpinLock<Option<KernelFn>, { level::LEAF }>,
    /// Monotonic time of the start, ns.
    pub start_ns: u64,
    /// Has left the process's thread list.
    pub(crate) gone: AtomicBool,
}

/// What a vfork parent waits for.
pub(crate) struct VforkWait {
    pub done: AtomicBool,
    pub parent: Arc<Task>,
}

/// What a thread of the kernel does.
pub(crate) type KernelFn = alloc::boxed::Box<dyn FnOnce() + Send + Sync>;

/// What a new task takes over.
pub(crate) struct NewTask {
    pub tid: i32,
    pub comm: [u8; 16],
    pub cred: Arc<Cred>,
    pub mm: Option<Arc<Mm>>,
    pub files: Option<Arc<FdTable>>,
    pub fs: Option<Arc<FsContext>>,
    pub blocked: SigSet,
    pub sched: SchedParams,
    pub affinity: u64,
    pub flags: u32,
    pub personality: u32,
    pub regs: UserContext,
}

impl Task {
    /// A task that does not run yet and is in no table.
    pub(crate) fn new(
        kernel: &'static Kernel,
        process: Arc<Process>,
        n: NewTask,
        stack: KernelStack,
    ) -> Arc<Task> {
        let now = kernel.now();
        Arc::new_cyclic(|this| Task {
            kernel,
            process,
            this: this.clone(),
            tid: AtomicI32::new(n.tid),
            flags: AtomicU32::new(n.flags),
            state: AtomicU32::new(state::RUNNING),
            sched: SchedEntity::new(n.sched, n.affinity),
            stack,
            saved_sp: SavedStack(AtomicU64::new(0)),
            regs: UserRegs::new(n.regs),
            comm: SpinLock::new(n.comm),
            cred: SpinLock::new(n.cred),
            mm: SpinLock::new(n.mm.map(MmUser::new)),
            files: SpinLock::new(n.files.map(FdUser::new)),
            fs: SpinLock::new(n.fs),
            sig: SpinLock::new(TaskSignals::default()),
            blocked: AtomicU64::new(n.blocked.0),
            clear_child_tid: AtomicU64::new(0),
            robust_list: AtomicU64::new(0),
            rseq: crate::rseq::Rseq::new(),
            personality: AtomicU32::new(n.personality),
            pdeath_signal: AtomicI32::new(0),
            timer_slack_ns: AtomicU64::new(50_000),
            ioprio: AtomicU32::new(0),
            utime: AtomicU64::new(0),
            stime: AtomicU64::new(0),
            stamp: AtomicU64::new(now),
            nvcsw: AtomicU64::new(0),
            nivcsw: AtomicU64::new(0),
            minflt: AtomicU64::new(0),
            majflt: AtomicU64::new(0),
            exit_status: AtomicI32::new(0),
            vfork_done: SpinLock::new(None),
            restart: SpinLock::new(None),
            entry: SpinLock::new(None),
            start_ns: now,
            gone: AtomicBool::new(false),
        })
    }
    /// A reference that owns.
    pub fn arc(&self) -> Arc<Task> {
        match self.this.upgrade() {
            Some(t) => t,
            None => unreachable!("a borrowed task is alive"),
        }
    }
    /// Thread id.
    pub fn tid(&self) -> i32 {
        self.tid.load(Ordering::Relaxed)
    }
    /// Whether it is the leader of its process.
    pub fn is_leader(&self) -> bool {
        self.tid() == self.process.pid()
    }
    /// Whether it is a thread of the kernel.
    pub fn is_kernel(&self) -> bool {
        self.flag(flag::KERNEL)
    }
    /// Name, at most 15 bytes, without its NUL.
    pub fn comm(&self) -> alloc::vec::Vec<u8> {
        let c = *self.comm.lock();
        c.iter().copied().take_while(|b| *b != 0).collect()
    }
    pub(crate) fn comm_bytes(&self) -> [u8; 16] {
        *self.comm.lock()
    }
    /// Sets the name (cut to 15 bytes).
    pub fn set_comm(&self, name: &[u8]) {
        let mut c = [0u8; 16];
        for (d, s) in c.iter_mut().zip(name.iter().take(15)) {
            *d = *s;
        }
        *self.comm.lock() = c;
    }
    /// Credentials.
    pub fn cred(&self) -> Arc<Cred> {
        self.cred.lock().clone()
    }
    /// Replaces the credentials; only for the task itself.
    pub fn set_cred(&self, cred: Arc<Cred>) {
        let old = core::mem::replace(&mut *self.cred.lock(), cred);
        drop(old);
    }
    /// Address space; `None` for kernel tasks and the dead.
    pub fn mm(&self) -> Option<Arc<Mm>> {
        self.mm.lock().as_ref().map(|u| u.mm().clone())
    }
    pub(crate) fn set_mm(&self, mm: Option<Arc<Mm>>) -> Option<MmUser> {
        self.set_flag(flag::NEW_CONTEXT);
        core::mem::replace(&mut *self.mm.lock(), mm.map(MmUser::new))
    }
    /// Whether other tasks run in its address space.
    pub(crate) fn shares_mm(&self) -> bool {
        self.mm.lock().as_ref().is_some_and(|u| u.mm().is_shared())
    }
    /// Descriptor table; `None` for kernel tasks and the dead.
    pub fn files(&self) -> Option<Arc<FdTable>> {
        self.files.lock().as_ref().map(|u| (**u).clone())
    }
    /// Replaces the table (unshare, close_range); returns the old one.
    pub fn set_files(&self, files: Option<Arc<FdTable>>) -> Option<FdUser> {
        self.set_flag(flag::NEW_CONTEXT);
        core::mem::replace(&mut *self.files.lock(), files.map(FdUser::new))
    }
    /// Root, working directory, umask; `None` for the dead.
    pub fn fs(&self) -> Option<Arc<FsContext>> {
        self.fs.lock().clone()
    }
    /// Replaces them (unshare); returns the old one.
    pub fn set_fs(&self, fs: Option<Arc<FsContext>>) -> Option<Arc<FsContext>> {
        self.set_flag(flag::NEW_CONTEXT);
        core::mem::replace(&mut *self.fs.lock(), fs)
    }
    /// Blocked signals.
    pub fn blocked(&self) -> SigSet {
        SigSet(self.blocked.load(Ordering::Acquire))
    }
    /// Whether an expiry of this timer waits for this thread.
    pub(crate) fn timer_pending(&self, signo: i32, id: i32) -> bool {
        self.sig.lock().pending.has_timer(signo, id)
    }
    /// Signals pending for this thread alone (/proc/PID/status SigPnd).
    pub fn pending(&self) -> SigSet {
        self.sig.lock().pending.set()
    }
    /// Letter of the state as in /proc/PID/stat: R, S, D, T, Z, X; I for idle kernel tasks.
    pub fn state_char(&self) -> char {
        if self.gone.load(Ordering::Relaxed) {
            return 'Z';
        }
        match self.state.load(Ordering::Relaxed) {
            state::RUNNING => 'R',
            state::INTERRUPTIBLE => 'S',
            state::UNINTERRUPTIBLE | state::KILLABLE => 'D',
            state::STOPPED => 'T',
            _ => 'Z',
        }
    }
    /// User and system time in ns.
    pub fn cpu_time(&self) -> (u64, u64) {
        let mut t = (
            self.utime.load(Ordering::Relaxed),
            self.stime.load(Ordering::Relaxed),
        );
        // A running task's clock has moved on since its last stamp.
        if self.sched.on_cpu.load(Ordering::Relaxed) {
            let now = self.kernel.now();
            let d = now.saturating_sub(self.stamp.load(Ordering::Relaxed));
            if self.sched.in_user.load(Ordering::Relaxed) {
                t.0 += d;
            } else {
                t.1 += d;
            }
        }
        t
    }
    /// Usage of this thread (RUSAGE_THREAD).
    pub fn usage(&self) -> Usage {
        let (utime, stime) = self.cpu_time();
        Usage {
            utime,
            stime,
            minflt: self.minflt.load(Ordering::Relaxed),
            majflt: self.majflt.load(Ordering::Relaxed),
            nvcsw: self.nvcsw.load(Ordering::Relaxed),
            nivcsw: self.nivcsw.load(Ordering::Relaxed),
            ..Usage::default()
        }
    }
    /// vCPU it runs or last ran on.
    pub fn last_cpu(&self) -> u32 {
        self.sched.cpu.load(Ordering::Relaxed)
    }
    /// Number of the system call that it is in or has made last, if it came to the kernel by one.
    pub fn current_syscall(&self) -> Option<u64> {
        // SAFETY: an aligned word of the task's. Whoever writes to it meanwhile does so by one store.
        #[expect(unsafe_code)]
        let nr = unsafe { AtomicU64::from_ptr(&raw mut (*self.regs.get()).gp[NUMBER]) };
        let nr = nr.load(Ordering::Relaxed);
        (nr != u64::MAX).then_some(nr)
    }
    /// The system call in the registers. Only for the current task.
    pub fn syscall(&self) -> &SyscallWords {
        // SAFETY: as for `with_regs`.
        #[expect(unsafe_code)]
        unsafe {
            self.regs.syscall()
        }
    }
    /// Access to the user registers. Only for the current task (or before it first runs).
    pub(crate) fn with_regs<T>(&self, f: impl FnOnce(&mut UserContext) -> T) -> T {
        // SAFETY: only the task itself comes here (or its creator before it is
        // on a run queue), never re-entrantly: `f` is given no way to the task.
        #[expect(unsafe_code)]
        f(unsafe { &mut *self.regs.get() })
    }
    pub(crate) fn set_keep_regs(&self) {
        self.set_flag(flag::KEEP_REGS);
    }
    pub(crate) fn flag(&self, f: u32) -> bool {
        self.flags.load(Ordering::Acquire) & f != 0
    }
    pub(crate) fn set_flag(&self, f: u32) {
        self.flags.fetch_or(f, Ordering::AcqRel);
    }
    pub(crate) fn clear_flag(&self, f: u32) -> bool {
        self.flags.fetch_and(!f, Ordering::AcqRel) & f != 0
    }
    /// Sets how restart_syscall(2) continues; return [`abi::Errno::ERESTART_RESTARTBLOCK`] afterwards.
    pub fn set_restart(&self, r: Restart) {
        let old = self.restart.lock().replace(r);
        drop(old);
    }
}

impl Waiter for Task {
    fn prepare_wait(&self, interruptible: bool) {
        let s = if interruptible {
            state::INTERRUPTIBLE
        } else {
            state::UNINTERRUPTIBLE
        };
        self.state.store(s, Ordering::SeqCst);
    }
    fn wait(&self, deadline_ns: Option<u64>) {
        crate::sched::wait(self, deadline_ns);
    }
    fn cancel_wait(&self) -> bool {
        self.state.swap(state::RUNNING, Ordering::SeqCst) == state::RUNNING
    }
    fn wake(&self) -> bool {
        crate::sched::wake(self, state::INTERRUPTIBLE | state::UNINTERRUPTIBLE)
    }
    fn interrupted(&self) -> bool {
        self.flag(flag::SIGPENDING)
    }
    fn may_wait(&self) -> bool {
        self.state.load(Ordering::SeqCst) == state::RUNNING
    }
    fn yield_if_needed(&self) {
        crate::sched::preempt_point(self);
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl TimerCallback for Task {
    fn expired(&self, _now_ns: u64) {
        self.wake();
    }
}
