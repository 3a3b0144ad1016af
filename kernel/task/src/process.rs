//! [`Process`]: a thread group, with what its threads share; [`Session`].

use crate::level;
use crate::signal::{Pending, SigHand};
use crate::timer::ProcessTimers;
use crate::{Kernel, Task};
use abi::process::{RLIM_INFINITY, RLIM_NLIMITS, Rlimit};
use abi::raw;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use mm::aspace::MmLimits;
use sync::{SpinLock, WaitQueue};

/// A session, credentials(7): process groups with one controlling terminal.
pub struct Session {
    /// Session id: pid of the process that made it.
    pub sid: i32,
    /// Controlling terminal, owned by the tty layer. Its foreground process group is the terminal's.
    tty: SpinLock<Option<Arc<dyn Any + Send + Sync>>, { level::LEAF }>,
}

impl Session {
    /// Without a terminal.
    pub fn new(sid: i32) -> Arc<Session> {
        Arc::new(Session {
            sid,
            tty: SpinLock::new(None),
        })
    }
    /// The controlling terminal.
    pub fn tty(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.tty.lock().clone()
    }
    /// Sets or clears the controlling terminal; returns the old one.
    pub fn set_tty(
        &self,
        tty: Option<Arc<dyn Any + Send + Sync>>,
    ) -> Option<Arc<dyn Any + Send + Sync>> {
        core::mem::replace(&mut *self.tty.lock(), tty)
    }
}

/// Used resources, getrusage(2). Times in ns.
#[derive(Clone, Copy, Default, Debug)]
#[expect(missing_docs)]
pub struct Usage {
    pub utime: u64,
    pub stime: u64,
    pub maxrss_kib: u64,
    pub minflt: u64,
    pub majflt: u64,
    pub inblock: u64,
    pub oublock: u64,
    pub nvcsw: u64,
    pub nivcsw: u64,
}

impl Usage {
    /// Adds `o`; the maximum of the resident sizes.
    pub fn add(&mut self, o: &Usage) {
        self.utime += o.utime;
        self.stime += o.stime;
        self.maxrss_kib = self.maxrss_kib.max(o.maxrss_kib);
        self.minflt += o.minflt;
        self.majflt += o.majflt;
        self.inblock += o.inblock;
        self.oublock += o.oublock;
        self.nvcsw += o.nvcsw;
        self.nivcsw += o.nivcsw;
    }
    /// As `struct rusage`.
    pub fn to_abi(&self) -> abi::process::Rusage {
        abi::process::Rusage {
            utime: abi::time::Timeval::from_ns(self.utime),
            stime: abi::time::Timeval::from_ns(self.stime),
            maxrss_kib: self.maxrss_kib as i64,
            minflt: self.minflt as i64,
            majflt: self.majflt as i64,
            inblock: self.inblock as i64,
            oublock: self.oublock as i64,
            nvcsw: self.nvcsw as i64,
            nivcsw: self.nivcsw as i64,
            ..Default::default()
        }
    }
}

/// What a stop or continue left for the parent to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Report {
    None,
    /// Stopped by this signal.
    Stopped(i32),
    Continued,
}

/// Group stop, signal(7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    Running,
    /// Threads are on their way to stop for this signal; so many have not stopped yet.
    Stopping(i32, usize),
    Stopped(i32),
}

/// State under [`Process::inner`].
pub(crate) struct ProcInner {
    /// Living threads.
    pub threads: Vec<Arc<Task>>,
    /// Signals sent to the process.
    pub pending: Pending,
    /// Wait status with which the whole group is ending.
    pub group_exit: Option<i32>,
    /// Thread that is alone left by exec, while it waits for the others.
    pub exec_thread: Option<i32>,
    pub stop: Stop,
    pub report: Report,
    /// Usage of threads that are gone.
    pub dead_threads: Usage,
    /// Usage of children that were waited for, with theirs.
    pub children: Usage,
    /// Wait status of the leader (while other threads live) or of the process.
    pub exit_status: i32,
}

/// A process (thread group).
pub struct Process {
    /// The machine.
    pub kernel: &'static Kernel,
    pid: i32,
    this: Weak<Process>,
    pub(crate) ppid: AtomicI32,
    pub(crate) pgid: AtomicI32,
    session: SpinLock<Arc<Session>, { level::LEAF }>,
    pub(crate) inner: SpinLock<ProcInner, { level::PROCESS }>,
    pub(crate) sighand: SpinLock<Arc<SigHand>, { level::LEAF }>,
    /// Woken when a child (of this process) changes state: wait(2).
    pub(crate) child_events: Arc<WaitQueue>,
    /// Woken when this process has ended (pidfd) and when its threads have (exec).
    pub(crate) exit_events: Arc<WaitQueue>,
    /// Woken when a signal is queued to the process or a thread (signalfd, sigtimedwait).
    pub(crate) signal_events: Arc<WaitQueue>,
    rlimits: SpinLock<[Rlimit; RLIM_NLIMITS], { level::LEAF }>,
    pub(crate) timers: ProcessTimers,
    /// Signal for the parent at the end; -1: none (CLONE_THREAD never has one of its own).
    pub(crate) exit_signal: AtomicI32,
    /// Thread of the parent that made it (__WNOTHREAD); 0 = none in particular.
    pub(crate) parent_tid: AtomicI32,
    /// The thread that leads; exec may change it.
    pub(crate) leader: SpinLock<Weak<Task>, { level::LEAF }>,
    /// Has ended; only the exit status is left.
    pub(crate) zombie: AtomicBool,
    /// Threads that have not ended.
    pub(crate) live_threads: AtomicU32,
    /// Has called execve since its fork (setpgid(2)).
    pub(crate) did_exec: AtomicBool,
    /// Has given the session's controlling terminal up (TIOCNOTTY); its children have none either.
    pub gave_up_tty: AtomicBool,
    /// PR_SET_CHILD_SUBREAPER.
    pub child_subreaper: AtomicBool,
    /// /proc/PID/oom_score_adj.
    pub oom_score_adj: AtomicI32,
    /// PR_SET_DUMPABLE.
    pub dumpable: AtomicU32,
    /// Chosen by the OOM killer.
    pub(crate) oom_victim: AtomicBool,
    /// Bytes read and written, for /proc/PID/io: rchar, wchar, syscr, syscw, read_bytes, write_bytes.
    pub io: [AtomicU64; 6],
    /// Monotonic time of the start, ns.
    pub start_ns: u64,
}

/// Default limits of the first process: (current, maximum) by number.
pub(crate) fn default_rlimits(memory_bytes: u64) -> [Rlimit; RLIM_NLIMITS] {
    let unlimited = Rlimit {
        cur: RLIM_INFINITY,
        max: RLIM_INFINITY,
    };
    let mut l = [unlimited; RLIM_NLIMITS];
    let mut set = |n: u32, cur: u64, max: u64| {
        if let Some(e) = l.get_mut(n as usize) {
            *e = Rlimit { cur, max };
        }
    };
    let threads = (memory_bytes / (256 << 10)).clamp(64, 15000);
    set(raw::RLIMIT_STACK, 8 << 20, RLIM_INFINITY);
    set(raw::RLIMIT_CORE, 0, RLIM_INFINITY);
    set(raw::RLIMIT_NPROC, threads, threads);
    set(raw::RLIMIT_NOFILE, 1024, 1 << 20);
    set(raw::RLIMIT_MEMLOCK, 8 << 20, 8 << 20);
    set(raw::RLIMIT_SIGPENDING, threads, threads);
    set(raw::RLIMIT_MSGQUEUE, 819_200, 819_200);
    set(raw::RLIMIT_NICE, 0, 0);
    set(raw::RLIMIT_RTPRIO, 0, 0);
    l
}

impl Process {
    /// A process without threads, not yet in any table. `like`: the process that forks it.
    pub(crate) fn new(
        kernel: &'static Kernel,
        pid: i32,
        session: Arc<Session>,
        pgid: i32,
        sighand: Arc<SigHand>,
        like: Option<&Process>,
    ) -> Arc<Process> {
        let rlimits = match like {
            Some(p) => *p.rlimits.lock(),
            None => default_rlimits((kernel.platform.mem().frames() as u64) << 12),
        };
        Arc::new_cyclic(|this| Process {
            kernel,
            pid,
            this: this.clone(),
            ppid: AtomicI32::new(0),
            pgid: AtomicI32::new(pgid),
            session: SpinLock::new(session),
            inner: SpinLock::new(ProcInner {
                threads: Vec::new(),
                pending: Pending::default(),
                group_exit: None,
                exec_thread: None,
                stop: Stop::Running,
                report: Report::None,
                dead_threads: Usage::default(),
                children: Usage::default(),
                exit_status: 0,
            }),
            sighand: SpinLock::new(sighand),
            child_events: Arc::new(WaitQueue::new()),
            exit_events: Arc::new(WaitQueue::new()),
            signal_events: Arc::new(WaitQueue::new()),
            rlimits: SpinLock::new(rlimits),
            timers: ProcessTimers::new(),
            exit_signal: AtomicI32::new(abi::signal::SIGCHLD),
            parent_tid: AtomicI32::new(0),
            leader: SpinLock::new(Weak::new()),
            zombie: AtomicBool::new(false),
            live_threads: AtomicU32::new(0),
            did_exec: AtomicBool::new(false),
            gave_up_tty: AtomicBool::new(
                like.is_some_and(|p| p.gave_up_tty.load(Ordering::Relaxed)),
            ),
            child_subreaper: AtomicBool::new(false),
            oom_score_adj: AtomicI32::new(
                like.map_or(0, |p| p.oom_score_adj.load(Ordering::Relaxed)),
            ),
            dumpable: AtomicU32::new(like.map_or(1, |p| p.dumpable.load(Ordering::Relaxed))),
            oom_victim: AtomicBool::new(false),
            io: Default::default(),
            start_ns: kernel.now(),
        })
    }
    /// A reference that owns.
    pub fn arc(&self) -> Arc<Process> {
        match self.this.upgrade() {
            Some(p) => p,
            None => unreachable!("a borrowed process is alive"),
        }
    }
    /// Process id (thread-group id).
    pub fn pid(&self) -> i32 {
        self.pid
    }
    /// Parent's process id; 0 for the first process.
    pub fn ppid(&self) -> i32 {
        self.ppid.load(Ordering::Relaxed)
    }
    /// Process group.
    pub fn pgid(&self) -> i32 {
        self.pgid.load(Ordering::Relaxed)
    }
    /// Session.
    pub fn session(&self) -> Arc<Session> {
        self.session.lock().clone()
    }
    /// Session id.
    pub fn sid(&self) -> i32 {
        self.session.lock().sid
    }
    pub(crate) fn set_session(&self, s: Arc<Session>) -> Arc<Session> {
        core::mem::replace(&mut *self.session.lock(), s)
    }
    /// The parent.
    pub fn parent(&self) -> Option<Arc<Process>> {
        self.kernel.pids.process(self.ppid())
    }
    /// Living threads, oldest first.
    pub fn threads(&self) -> Vec<Arc<Task>> {
        loop {
            // A long list is not allocated under the lock, where nothing can wait for memory.
            let n = self.live_threads.load(Ordering::Relaxed) as usize + 8;
            let mut all = Vec::with_capacity(n);
            let inner = self.inner.lock();
            if inner.threads.len() <= n {
                all.extend_from_slice(&inner.threads);
                return all;
            }
        }
    }
    /// The thread whose tid is the pid, while it lives or is a zombie.
    pub fn leader(&self) -> Option<Arc<Task>> {
        self.kernel.pids.task(self.pid)
    }
    /// As [`Process::leader`], without the table's lock.
    pub(crate) fn leader_locked(&self) -> Option<Arc<Task>> {
        self.leader.lock().upgrade()
    }
    /// Some living thread, the leader if possible: for what all threads share in practice.
    pub fn any_thread(&self) -> Option<Arc<Task>> {
        self.inner.lock().threads.first().cloned()
    }
    /// Whether it has ended and waits to be waited for.
    pub fn is_zombie(&self) -> bool {
        self.zombie.load(Ordering::Acquire)
    }
    /// Wait status once it is a zombie.
    pub fn exit_status(&self) -> i32 {
        let i = self.inner.lock();
        i.group_exit.unwrap_or(i.exit_status)
    }
    /// Signal actions.
    pub fn sighand(&self) -> Arc<SigHand> {
        self.sighand.lock().clone()
    }
    /// One resource limit (`RLIMIT_*`); no limit for unknown numbers.
    pub fn rlimit(&self, resource: u32) -> Rlimit {
        self.rlimits
            .lock()
            .get(resource as usize)
            .copied()
            .unwrap_or(Rlimit {
                cur: RLIM_INFINITY,
                max: RLIM_INFINITY,
            })
    }
    /// Sets a limit (checked by the caller); returns the old one.
    pub fn set_rlimit(&self, resource: u32, new: Rlimit) -> Rlimit {
        let old = {
            let mut l = self.rlimits.lock();
            match l.get_mut(resource as usize) {
                Some(e) => core::mem::replace(e, new),
                None => return new,
            }
        };
        if resource == raw::RLIMIT_CPU {
            self.timers.cpu_limit_changed(self, new);
        }
        old
    }
    /// Limits for mm calls of one of its threads.
    pub fn mm_limits(&self, task: &Task) -> MmLimits {
        let l = self.rlimits.lock();
        let get = |n: u32| l.get(n as usize).map_or(RLIM_INFINITY, |r| r.cur);
        let mut lim = MmLimits {
            address_space: get(raw::RLIMIT_AS),
            data: get(raw::RLIMIT_DATA),
            stack: get(raw::RLIMIT_STACK),
            memlock: get(raw::RLIMIT_MEMLOCK),
        };
        drop(l);
        if task.cred().capable(vfs::cred::cap::IPC_LOCK) {
            lim.memlock = RLIM_INFINITY;
        }
        lim
    }
    /// User and system time of all threads, living and dead, in ns.
    pub fn cpu_time(&self) -> (u64, u64) {
        let i = self.inner.lock();
        let mut t = (i.dead_threads.utime, i.dead_threads.stime);
        for th in &i.threads {
            let (u, s) = th.cpu_time();
            t.0 += u;
            t.1 += s;
        }
        t
    }
    /// Usage of all its threads (RUSAGE_SELF).
    pub fn usage(&self) -> Usage {
        let (mut u, mm) = {
            let i = self.inner.lock();
            let mut u = i.dead_threads;
            for th in &i.threads {
                u.add(&th.usage());
            }
            (u, i.threads.first().cloned())
        };
        if let Some(mm) = mm.and_then(|t| t.mm()) {
            u.maxrss_kib = u.maxrss_kib.max(mm.counts().peak_rss * 4);
        }
        u
    }
    /// Usage of children that were waited for (RUSAGE_CHILDREN).
    pub fn children_usage(&self) -> Usage {
        self.inner.lock().children
    }
    /// Children, ascending by pid.
    pub fn children(&self) -> Vec<Arc<Process>> {
        self.kernel.pids.children(self.pid)
    }
    /// Number of living threads.
    pub fn thread_count(&self) -> usize {
        self.live_threads.load(Ordering::Relaxed) as usize
    }
    /// Whether execve was called since the fork.
    pub fn did_exec(&self) -> bool {
        self.did_exec.load(Ordering::Relaxed)
    }
    /// Signals pending for the process as a whole (/proc/PID/status ShdPnd).
    pub fn shared_pending(&self) -> abi::SigSet {
        self.inner.lock().pending.set()
    }
    /// Whether an expiry of this timer waits for the process.
    pub(crate) fn timer_pending(&self, signo: i32, id: i32) -> bool {
        self.inner.lock().pending.has_timer(signo, id)
    }
    /// Queue that is woken when this process has ended.
    pub fn exit_queue(&self) -> Arc<WaitQueue> {
        self.exit_events.clone()
    }
}
