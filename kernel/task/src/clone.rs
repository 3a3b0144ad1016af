//! fork(2), vfork(2), clone(2), clone3(2), unshare(2).

use crate::process::{Process, Stop};
use crate::signal::SigHand;
use crate::task::{NewTask, VforkWait, flag, state};
use crate::{Ctx, Kernel, Task, pidfd, run, sched};
use abi::process::CloneArgs;
use abi::{Errno, Result, SigSet};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use hal::UserContext;
use hal::cpu::Waiter;
use mm::aspace::Writers;
use vfs::cred::cap;
use vfs::{FdTable, File, FsContext};

bitflags::bitflags! {
    /// Flags of clone(2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct CloneFlags: u64 {
        /// `CLONE_VM`
        const VM = 0x100;
        /// `CLONE_FS`
        const FS = 0x200;
        /// `CLONE_FILES`
        const FILES = 0x400;
        /// `CLONE_SIGHAND`
        const SIGHAND = 0x800;
        /// `CLONE_PIDFD`
        const PIDFD = 0x1000;
        /// `CLONE_PTRACE`
        const PTRACE = 0x2000;
        /// `CLONE_VFORK`
        const VFORK = 0x4000;
        /// `CLONE_PARENT`
        const PARENT = 0x8000;
        /// `CLONE_THREAD`
        const THREAD = 0x1_0000;
        /// `CLONE_NEWNS`
        const NEWNS = 0x2_0000;
        /// `CLONE_SYSVSEM`
        const SYSVSEM = 0x4_0000;
        /// `CLONE_SETTLS`
        const SETTLS = 0x8_0000;
        /// `CLONE_PARENT_SETTID`
        const PARENT_SETTID = 0x10_0000;
        /// `CLONE_CHILD_CLEARTID`
        const CHILD_CLEARTID = 0x20_0000;
        /// `CLONE_DETACHED`
        const DETACHED = 0x40_0000;
        /// `CLONE_UNTRACED`
        const UNTRACED = 0x80_0000;
        /// `CLONE_CHILD_SETTID`
        const CHILD_SETTID = 0x100_0000;
        /// `CLONE_NEWCGROUP`
        const NEWCGROUP = 0x200_0000;
        /// `CLONE_NEWUTS`
        const NEWUTS = 0x400_0000;
        /// `CLONE_NEWIPC`
        const NEWIPC = 0x800_0000;
        /// `CLONE_NEWUSER`
        const NEWUSER = 0x1000_0000;
        /// `CLONE_NEWPID`
        const NEWPID = 0x2000_0000;
        /// `CLONE_NEWNET`
        const NEWNET = 0x4000_0000;
        /// `CLONE_IO`
        const IO = 0x8000_0000;
        /// `CLONE_CLEAR_SIGHAND` (clone3)
        const CLEAR_SIGHAND = 1 << 32;
        /// `CLONE_INTO_CGROUP` (clone3)
        const INTO_CGROUP = 1 << 33;
        /// `CLONE_NEWTIME` (clone3, unshare)
        const NEWTIME = 0x80;
    }
}

/// Flags that make namespaces; there is one of each.
const NAMESPACES: CloneFlags = CloneFlags::NEWNS
    .union(CloneFlags::NEWCGROUP)
    .union(CloneFlags::NEWUTS)
    .union(CloneFlags::NEWIPC)
    .union(CloneFlags::NEWUSER)
    .union(CloneFlags::NEWPID)
    .union(CloneFlags::NEWNET)
    .union(CloneFlags::NEWTIME);

/// Namespaces cannot be made: without the privilege EPERM, as on Linux; with it EINVAL,
/// as from a Linux that was built without them.
fn refuse_namespaces(cx: &Ctx, flags: CloneFlags) -> Result {
    if !flags.intersects(NAMESPACES) {
        return Ok(());
    }
    if !flags.contains(CloneFlags::NEWUSER) && !cx.cred().capable(cap::SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    Err(Errno::EINVAL)
}

/// Checks the flags and what goes with them, in Linux's order.
fn check(cx: &Ctx, args: &CloneArgs, legacy: bool) -> Result<CloneFlags> {
    use CloneFlags as F;
    let flags = F::from_bits(args.flags).ok_or(Errno::EINVAL)?;
    if !legacy {
        if flags.contains(F::DETACHED) || args.exit_signal > 64 {
            return Err(Errno::EINVAL);
        }
        if (args.stack == 0) != (args.stack_size == 0)
            || args
                .stack
                .checked_add(args.stack_size)
                .is_none_or(|e| e > hal::USER_END)
        {
            return Err(Errno::EINVAL);
        }
        if flags.intersects(F::THREAD | F::PARENT) && args.exit_signal != 0 {
            return Err(Errno::EINVAL);
        }
        if flags.contains(F::SIGHAND | F::CLEAR_SIGHAND) || flags.contains(F::INTO_CGROUP) {
            return Err(Errno::EINVAL);
        }
        if args.set_tid_size > 32 || (args.set_tid == 0) != (args.set_tid_size == 0) {
            return Err(Errno::EINVAL);
        }
    }
    if flags.contains(F::NEWNS | F::FS) || flags.contains(F::NEWUSER | F::FS) {
        return Err(Errno::EINVAL);
    }
    if flags.contains(F::THREAD) && !flags.contains(F::SIGHAND) {
        return Err(Errno::EINVAL);
    }
    if flags.contains(F::SIGHAND) && !flags.contains(F::VM) {
        return Err(Errno::EINVAL);
    }
    if flags.contains(F::THREAD) && flags.intersects(F::NEWUSER | F::NEWPID) {
        return Err(Errno::EINVAL);
    }
    if flags.contains(F::PIDFD) {
        // clone(2) returns the pidfd through the parent's tid pointer.
        if flags.contains(F::DETACHED) || legacy && flags.contains(F::PARENT_SETTID) {
            return Err(Errno::EINVAL);
        }
        // A pidfd stands for a process.
        if flags.contains(F::THREAD) {
            return Err(Errno::EINVAL);
        }
    }
    // The first process has no siblings.
    if flags.contains(F::PARENT) && cx.process().ppid() == 0 {
        return Err(Errno::EINVAL);
    }
    refuse_namespaces(cx, flags)?;
    Ok(flags)
}

/// The tid that set_tid asks for.
fn wanted_tid(cx: &Ctx, args: &CloneArgs) -> Result<Option<i32>> {
    if args.set_tid_size == 0 {
        return Ok(None);
    }
    // One pid namespace: one number.
    if args.set_tid_size > 1 {
        return Err(Errno::EINVAL);
    }
    let tid: i32 = cx.mm().get(args.set_tid)?;
    if tid < 1 {
        return Err(Errno::EINVAL);
    }
    // CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN.
    if !cx.cred().capable(40) {
        cx.require(cap::SYS_ADMIN)?;
    }
    Ok(Some(tid))
}

/// Number of processes of a user, for RLIMIT_NPROC.
fn user_tasks(kernel: &Kernel, uid: u32) -> u64 {
    kernel
        .pids
        .processes()
        .flat_map(|p| p.threads())
        .filter(|t| t.cred().uid == uid)
        .count() as u64
}

/// Gives a reserved tid back unless the task came into being.
struct TidGuard {
    kernel: &'static Kernel,
    tid: i32,
}

impl Drop for TidGuard {
    fn drop(&mut self) {
        self.kernel.pids.free(self.tid);
    }
}

/// Makes a child as clone3(2) says; returns its tid in the caller's eyes.
/// For clone(2), fork(2) and vfork(2) the syscall layer fills `args` (with
/// `stack` = the stack pointer itself and `stack_size` 0: `legacy`). `set_tid` is a guest address.
pub fn clone(cx: &Ctx, args: &CloneArgs, legacy: bool) -> Result<u64> {
    use CloneFlags as F;
    let flags = check(cx, args, legacy)?;
    let want = wanted_tid(cx, args)?;
    let kernel = cx.kernel();
    let me = cx.task();
    let cred = me.cred();
    // A signal that is pending now would be seen by both: handle it first.
    if me.interrupted() {
        return Err(Errno::ERESTARTNOINTR);
    }
    let limit = cx.process().rlimit(abi::raw::RLIMIT_NPROC).cur;
    if limit != u64::MAX
        && !cred.capable(cap::SYS_RESOURCE)
        && !cred.capable(cap::SYS_ADMIN)
        && cred.uid != 0
        && user_tasks(kernel, cred.uid) >= limit
    {
        return Err(Errno::EAGAIN);
    }
    if kernel.pids.counts().0 >= kernel.sysctl.threads_max.load(Ordering::Relaxed) as usize {
        return Err(Errno::EAGAIN);
    }
    let stack = kernel.sched.stacks.alloc()?;
    let max = kernel.sysctl.pid_max.load(Ordering::Relaxed);
    let tid = match want {
        Some(t) => kernel.pids.alloc_exact(t, max)?,
        None => kernel.pids.alloc(max)?,
    };
    let guard = TidGuard { kernel, tid };

    let mm = me.mm().ok_or(Errno::EINVAL)?;
    let child_mm = if flags.contains(F::VM) {
        mm.clone()
    } else {
        let writers = match mm.is_shared() {
            true => Writers::Others,
            false => Writers::None,
        };
        mm.fork(writers)?
    };
    let files = share(flags.contains(F::FILES), me.files(), FdTable::duplicate)?;
    let fs = share(flags.contains(F::FS), me.fs(), |f| Ok(f.duplicate()))?;
    let regs = child_registers(cx, args, flags, legacy)?;
    let process = if flags.contains(F::THREAD) {
        cx.process().clone()
    } else {
        new_process(cx, tid, args, flags)
    };
    let new = NewTask {
        tid,
        comm: me.comm_bytes(),
        cred,
        mm: Some(child_mm.clone()),
        files: Some(files),
        fs: Some(fs),
        blocked: me.blocked(),
        sched: sched::params(me).for_child(),
        affinity: me.sched.affinity.load(Ordering::Relaxed),
        flags: flag::FORKNOEXEC,
        personality: me.personality.load(Ordering::Relaxed),
        regs,
    };
    let child = Task::new(kernel, process.clone(), new, stack);
    inherit(me, &child, flags);
    if flags.contains(F::CHILD_CLEARTID) {
        child
            .clear_child_tid
            .store(args.child_tid, Ordering::Relaxed);
    }
    let vfork = flags.contains(F::VFORK).then(|| {
        Arc::new(VforkWait {
            done: AtomicBool::new(false),
            parent: me.arc(),
        })
    });
    *child.vfork_done.lock() = vfork.clone();
    prepare_stack(&child);

    // From here on nothing may fail but for reasons that undo everything.
    let pidfd = if flags.contains(F::PIDFD) {
        Some(reserve_pidfd(cx, &process, args, legacy)?)
    } else {
        None
    };
    if let Err(e) = publish(cx, &child, &process, flags) {
        if let Some((fd, _)) = pidfd
            && let Ok(f) = cx.files().remove(fd)
        {
            drop::<Arc<File>>(f);
        }
        return Err(e);
    }
    drop(guard);
    if flags.contains(F::PARENT_SETTID) {
        let _ = mm.put(args.parent_tid, &tid);
    }
    if flags.contains(F::CHILD_SETTID) {
        let _ = child_mm.put(args.child_tid, &tid);
    }
    drop(mm);
    drop(child_mm);
    kernel.counters.forks.fetch_add(1, Ordering::Relaxed);
    sched::start(&child);
    drop(child);
    if let Some(v) = vfork {
        wait_for_vfork(me, &v);
    }
    Ok(tid as u64)
}

fn share<T>(
    same: bool,
    own: Option<Arc<T>>,
    copy: impl Fn(&T) -> Result<Arc<T>>,
) -> Result<Arc<T>> {
    let own = own.ok_or(Errno::EINVAL)?;
    if same { Ok(own) } else { copy(&own) }
}

/// Registers of the child: those of the parent, returning 0.
fn child_registers(
    cx: &Ctx,
    args: &CloneArgs,
    flags: CloneFlags,
    legacy: bool,
) -> Result<UserContext> {
    let platform = cx.kernel().platform;
    let arch = platform.arch();
    let mut regs = UserContext::new();
    cx.with_regs(|r| {
        platform.engine().sync_regs(r);
        regs.gp = r.gp;
        regs.fp = r.fp.clone();
        regs.home = 0;
    });
    regs.gp[hal::arch::RESULT] = 0;
    if args.stack != 0 {
        let top = if legacy {
            args.stack
        } else {
            args.stack
                .checked_add(args.stack_size)
                .ok_or(Errno::EINVAL)?
        };
        arch.set_sp(&mut regs, top);
    }
    if flags.contains(CloneFlags::SETTLS) {
        if args.tls >= hal::USER_END {
            return Err(Errno::EPERM);
        }
        arch.set_tls(&mut regs, args.tls);
    }
    Ok(regs)
}

fn new_process(cx: &Ctx, pid: i32, args: &CloneArgs, flags: CloneFlags) -> Arc<Process> {
    let me = cx.process();
    let hand = me.sighand();
    let hand: Arc<SigHand> = if flags.contains(CloneFlags::SIGHAND) {
        hand
    } else {
        hand.copy(flags.contains(CloneFlags::CLEAR_SIGHAND))
    };
    let p = Process::new(cx.kernel(), pid, me.session(), me.pgid(), hand, Some(me));
    let sig = if flags.contains(CloneFlags::PARENT) {
        me.exit_signal.load(Ordering::Relaxed)
    } else {
        args.exit_signal as i32
    };
    p.exit_signal.store(sig, Ordering::Relaxed);
    p
}

/// What the child takes over beside the big things.
fn inherit(me: &Task, child: &Task, flags: CloneFlags) {
    child
        .timer_slack_ns
        .store(me.timer_slack_ns.load(Ordering::Relaxed), Ordering::Relaxed);
    child
        .ioprio
        .store(me.ioprio.load(Ordering::Relaxed), Ordering::Relaxed);
    // Threads and copies that run on another stack start without an alternate one.
    if !flags.contains(CloneFlags::VM) || flags.contains(CloneFlags::VFORK) {
        let alt = me.sig.lock().altstack;
        child.sig.lock().altstack = alt;
    }
    if !flags.contains(CloneFlags::VM) {
        child.rseq.copy(&me.rseq);
    }
    // Short bursts are expected of the child as of the parent.
    let burst = me.sched.burst.load(Ordering::Relaxed).min(500_000);
    child.sched.burst.store(burst, Ordering::Relaxed);
}

/// Makes the pidfd and tells the caller its number.
fn reserve_pidfd(
    cx: &Ctx,
    process: &Arc<Process>,
    args: &CloneArgs,
    legacy: bool,
) -> Result<(i32, u64)> {
    let file = pidfd::file_of(cx, process.clone(), false);
    let at = if legacy { args.parent_tid } else { args.pidfd };
    let fd = cx.install(file, true)?;
    if let Err(e) = cx.mm().put(at, &fd) {
        if let Ok(f) = cx.files().remove(fd) {
            drop(f);
        }
        return Err(e);
    }
    Ok((fd, at))
}

/// Enters the child into the tables. [`Errno::ERESTARTNOINTR`]: a signal came meanwhile.
fn publish(cx: &Ctx, child: &Arc<Task>, process: &Arc<Process>, flags: CloneFlags) -> Result {
    let me = cx.process();
    let thread = flags.contains(CloneFlags::THREAD);
    let mut tree = cx.kernel().pids.tree.lock();
    let mut mine = me.inner.lock();
    if mine.group_exit.is_some()
        || mine.exec_thread.is_some()
        || mine.stop != Stop::Running
        || cx.task().interrupted()
    {
        return Err(Errno::ERESTARTNOINTR);
    }
    if thread {
        mine.threads.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        mine.threads.push(child.clone());
        me.live_threads.fetch_add(1, Ordering::AcqRel);
        drop(mine);
    } else {
        drop(mine);
        let mut i = process.inner.lock();
        i.threads.push(child.clone());
        process.live_threads.store(1, Ordering::Release);
        drop(i);
        *process.leader.lock() = Arc::downgrade(child);
        let ppid = if flags.contains(CloneFlags::PARENT) {
            me.ppid()
        } else {
            me.pid()
        };
        process.ppid.store(ppid, Ordering::Relaxed);
        process.parent_tid.store(cx.task().tid(), Ordering::Relaxed);
        tree.insert_process(process);
    }
    tree.insert_task(child);
    drop(tree);
    if !thread {
        let limit = process.rlimit(abi::raw::RLIMIT_CPU);
        if limit.cur != u64::MAX || limit.max != u64::MAX {
            process.timers.cpu_limit_changed(process, limit);
        }
    }
    Ok(())
}

/// vfork(2): waits until the child has called exec or ended; only the end of our own process ends the wait.
fn wait_for_vfork(me: &'static Task, v: &VforkWait) {
    loop {
        // Wake-up proof: `done` is set, then we are woken; we announce, then look.
        me.state.store(state::KILLABLE, Ordering::SeqCst);
        if v.done.load(Ordering::SeqCst) || me.process.inner.lock().group_exit.is_some() {
            me.state.store(state::RUNNING, Ordering::SeqCst);
            return;
        }
        sched::schedule();
    }
}

/// Writes the first frame of the task's kernel stack.
pub(crate) fn prepare_stack(t: &Arc<Task>) {
    let sp = t.stack.prepare(t, run::task_entry);
    t.saved_sp
        .0
        .store(sp.0.load(Ordering::Relaxed), Ordering::Relaxed);
}

/// unshare(2): CLONE_FS, CLONE_FILES, CLONE_SYSVSEM; namespaces: [`Errno::EPERM`]/[`Errno::EINVAL`].
pub fn unshare(cx: &Ctx, flags: u64) -> Result {
    use CloneFlags as F;
    let flags = F::from_bits(flags).ok_or(Errno::EINVAL)?;
    let known = F::FS | F::FILES | F::SYSVSEM | F::THREAD | F::SIGHAND | F::VM | NAMESPACES;
    if !known.contains(flags) {
        return Err(Errno::EINVAL);
    }
    if flags.intersects(F::THREAD | F::SIGHAND | F::VM) && cx.process().thread_count() > 1 {
        return Err(Errno::EINVAL);
    }
    refuse_namespaces(cx, flags)?;
    let t = cx.task();
    if flags.contains(F::FS)
        && let Some(fs) = t.fs()
    {
        drop(t.set_fs(Some(fs.duplicate())));
    }
    if flags.contains(F::FILES)
        && let Some(files) = t.files()
        && files.is_shared()
    {
        let own = files.duplicate()?;
        drop(files);
        drop(t.set_files(Some(own)));
    }
    Ok(())
}

/// Starts a process of the kernel: no program, no address space. Its pid is the next free one.
pub(crate) fn kernel_process(
    kernel: &'static Kernel,
    name: &[u8],
    fs: Option<Arc<FsContext>>,
    files: Option<Arc<FdTable>>,
    f: impl FnOnce() + Send + Sync + 'static,
) -> Result<Arc<Task>> {
    let stack = kernel.sched.stacks.alloc()?;
    let pid = kernel
        .pids
        .alloc(kernel.sysctl.pid_max.load(Ordering::Relaxed))?;
    let session = crate::Session::new(pid);
    let process = Process::new(kernel, pid, session, pid, SigHand::new(), None);
    let t = kernel_task(kernel, process.clone(), pid, name, fs, files, stack);
    *t.entry.lock() = Some(alloc::boxed::Box::new(f));
    prepare_stack(&t);
    *process.leader.lock() = Arc::downgrade(&t);
    process.inner.lock().threads.push(t.clone());
    process.live_threads.store(1, Ordering::Release);
    {
        let mut tree = kernel.pids.tree.lock();
        let parent = if pid == 1 { 0 } else { 1 };
        process.ppid.store(parent, Ordering::Relaxed);
        tree.insert_process(&process);
        tree.insert_task(&t);
    }
    Ok(t)
}

/// A task of the kernel that is in no table.
pub(crate) fn kernel_task(
    kernel: &'static Kernel,
    process: Arc<Process>,
    tid: i32,
    name: &[u8],
    fs: Option<Arc<FsContext>>,
    files: Option<Arc<FdTable>>,
    stack: sched::stack::KernelStack,
) -> Arc<Task> {
    let new = NewTask {
        tid,
        comm: [0; 16],
        cred: Arc::new(vfs::Cred::root()),
        mm: None,
        files,
        fs,
        blocked: SigSet(u64::MAX),
        sched: sched::SchedParams::default(),
        affinity: u64::MAX,
        flags: flag::KERNEL,
        personality: 0,
        regs: UserContext::new(),
    };
    let t = Task::new(kernel, process, new, stack);
    t.set_comm(name);
    t
}
