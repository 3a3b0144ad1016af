//! What a task does about its signals on the way to user mode.

use super::send::death_status;
use super::{
    Default_, SA_NODEFER, SA_ONSTACK, SA_RESETHAND, SA_RESTART, SIGCONT, UNBLOCKABLE,
    default_action, recalc,
};
use crate::exit::{self, cld};
use crate::process::{Report, Stop};
use crate::task::{flag, state};
use crate::{Task, oom, sched};
use abi::signal::{SIGSEGV, SIGSTOP};
use abi::{Errno, SigAction, SigInfo, SigSet};
use core::sync::atomic::Ordering;
use hal::arch::{SignalDelivery, UserMem};
use hal::{PAGE_SIZE, Prot};
use mm::Mm;
use mm::aspace::FaultError;

/// Whether the task goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Handled {
    Done,
    Exit,
}

/// A system call that a signal interrupted, and how it is to be continued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Interrupted {
    kind: Errno,
    nr: u64,
}

/// Number of restart_syscall(2).
const NR_RESTART_SYSCALL: u64 = 219;

impl Interrupted {
    pub(crate) fn from_errno(e: Errno, nr: u64) -> Option<Interrupted> {
        matches!(
            e,
            Errno::ERESTARTSYS
                | Errno::ERESTARTNOINTR
                | Errno::ERESTARTNOHAND
                | Errno::ERESTART_RESTARTBLOCK
        )
        .then_some(Interrupted { kind: e, nr })
    }
    /// Without a handler: the call is made again.
    pub(crate) fn restart(self, t: &Task) {
        let arch = t.kernel.platform.arch();
        let nr = if self.kind == Errno::ERESTART_RESTARTBLOCK {
            NR_RESTART_SYSCALL
        } else {
            self.nr
        };
        t.with_regs(|r| arch.restart_syscall(r, nr));
    }
    /// A handler runs first: the call is made again after it, or has failed with EINTR (which is set already).
    fn before_handler(self, t: &Task, act: &SigAction) {
        let again = match self.kind {
            Errno::ERESTARTNOINTR => true,
            Errno::ERESTARTSYS => act.flags & SA_RESTART != 0,
            _ => false,
        };
        if again {
            let arch = t.kernel.platform.arch();
            t.with_regs(|r| arch.restart_syscall(r, self.nr));
        }
    }
}

/// Guest memory for what the kernel writes of its own accord: signal frames, the area of rseq(2). For the current task. Where
/// memory is short it waits as for a page that the program touches itself: a handler is no reason to die of that.
pub(crate) struct FrameMem<'a> {
    pub(crate) task: &'a Task,
    pub(crate) mm: &'a Mm,
}

/// How often memory is waited for.
const TRIES: u32 = 100;

impl FrameMem<'_> {
    fn access(
        &self,
        addr: u64,
        len: usize,
        access: Prot,
        copy: &mut dyn FnMut() -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        for _ in 0..TRIES {
            if copy().is_ok() {
                return Ok(());
            }
            let limits = self.task.process.mm_limits(self.task);
            let end = addr.saturating_add(len as u64);
            let mut page = addr & !(PAGE_SIZE as u64 - 1);
            while page < end {
                match self.mm.fault(page, access, &limits) {
                    Ok(()) => page += PAGE_SIZE as u64,
                    Err(FaultError::Oom) if oom::kill_something() => break,
                    Err(_) => return Err(Errno::EFAULT),
                }
            }
        }
        Err(Errno::EFAULT)
    }
}

impl UserMem for FrameMem<'_> {
    fn read(&mut self, addr: u64, buf: &mut [u8]) -> Result<(), Errno> {
        let (mm, len) = (self.mm, buf.len());
        self.access(addr, len, Prot::READ, &mut || mm.read(addr, buf))
    }
    fn write(&mut self, addr: u64, buf: &[u8]) -> Result<(), Errno> {
        let mm = self.mm;
        self.access(addr, buf.len(), Prot::WRITE, &mut || mm.write(addr, buf))
    }
}

enum Next {
    Exit,
    Stop,
    Signal(SigInfo),
    Nothing,
}

/// Handles all that is pending: sets up handlers, stops, or ends the task.
pub(crate) fn handle(t: &'static Task, mut interrupted: Option<Interrupted>) -> Handled {
    loop {
        match next(t) {
            Next::Exit => return Handled::Exit,
            Next::Stop => stop_here(t),
            Next::Nothing => break,
            Next::Signal(info) => {
                let signo = info.signo;
                let hand = t.process.sighand();
                let act = hand.get(signo);
                match act.handler {
                    1 => {}
                    0 => match default_action(signo) {
                        Default_::Ignore => {}
                        Default_::Stop => start_stop(t, signo),
                        Default_::Core | Default_::Terminate => {
                            exit::start_group_exit(&t.process, death_status(&t.process, signo));
                            return Handled::Exit;
                        }
                    },
                    _ => {
                        if let Some(i) = interrupted.take() {
                            i.before_handler(t, &act);
                        }
                        run_handler(t, &info, &act);
                    }
                }
            }
        }
    }
    if let Some(i) = interrupted {
        i.restart(t);
    }
    super::mask::restore_mask(t);
    Handled::Done
}

/// The next thing to do.
fn next(t: &Task) -> Next {
    let mut i = t.process.inner.lock();
    if i.group_exit.is_some() {
        return Next::Exit;
    }
    if i.exec_thread.is_some_and(|x| x != t.tid()) {
        return Next::Exit;
    }
    if let Some(info) = t.sig.lock().forced.take() {
        return Next::Signal(info);
    }
    if i.stop != Stop::Running {
        return Next::Stop;
    }
    let want = SigSet(!t.blocked().0);
    let mut info = t.sig.lock().pending.take(want);
    if info.is_none() {
        info = i.pending.take(want);
    }
    recalc(t, &i);
    drop(i);
    match info {
        Some(s) => Next::Signal(s),
        None => Next::Nothing,
    }
}

/// Takes one pending signal of `from` (sigtimedwait, signalfd), whether blocked or not.
pub(crate) fn dequeue(t: &Task, from: SigSet) -> Option<SigInfo> {
    let from = from.minus(UNBLOCKABLE);
    let mut i = t.process.inner.lock();
    let mut info = t.sig.lock().pending.take(from);
    if info.is_none() {
        info = i.pending.take(from);
    }
    if info.is_some() && core::ptr::eq(t, crate::current()) {
        recalc(t, &i);
    }
    drop(i);
    info
}

/// Points the registers to the handler.
fn run_handler(t: &'static Task, info: &SigInfo, act: &SigAction) {
    let Some(mm) = t.mm() else { return };
    let engine = t.kernel.platform.engine();
    let arch = t.kernel.platform.arch();
    let (altstack, mask) = {
        let s = t.sig.lock();
        let mask = if t.flag(flag::RESTORE_MASK) {
            s.saved_mask
        } else {
            t.blocked()
        };
        (s.altstack, mask)
    };
    let delivery = SignalDelivery {
        info,
        action: act,
        mask,
        altstack,
    };
    let pushed = crate::rseq::interrupt(t, &mm).and_then(|()| {
        t.with_regs(|r| {
            engine.sync_regs(r);
            arch.push_signal(r, &mut FrameMem { task: t, mm: &mm }, &delivery)
        })
    });
    if pushed.is_err() {
        // No room for the frame, or a broken restartable sequence: SIGSEGV, and for SIGSEGV itself no second try.
        if info.signo == SIGSEGV {
            t.process.sighand().set(SIGSEGV, SigAction::default());
        }
        super::force(t, SigInfo::new(SIGSEGV, super::SI_KERNEL));
        return;
    }
    if act.flags & SA_RESETHAND != 0 {
        t.process
            .sighand()
            .set(info.signo, SigAction { handler: 0, ..*act });
    }
    const SS_AUTODISARM: i32 = 1 << 31;
    if act.flags & SA_ONSTACK != 0 && altstack.flags & SS_AUTODISARM != 0 {
        t.sig.lock().altstack = Default::default();
    }
    let mut blocked = t.blocked().union(act.mask);
    if act.flags & SA_NODEFER == 0 {
        blocked = blocked.with(info.signo);
    }
    t.clear_flag(flag::RESTORE_MASK);
    super::set_blocked(t, blocked);
}

/// A stop signal with its default action: the whole process is to stop.
fn start_stop(t: &Task, signo: i32) {
    let p = &t.process;
    // The terminal's stops do nothing to those whom nobody could continue.
    if signo != SIGSTOP && t.kernel.pids.group_orphaned(p.pgid()) {
        return;
    }
    let mut i = p.inner.lock();
    // SIGCONT or the end came in between.
    let cont = SigSet::of(SIGCONT);
    if i.group_exit.is_some()
        || i.stop != Stop::Running
        || !i.pending.set().minus(SigSet(!cont.0)).is_empty()
    {
        return;
    }
    i.stop = Stop::Stopping(signo, i.threads.len());
    for other in &i.threads {
        if !core::ptr::eq(&**other, t) {
            other.set_flag(flag::SIGPENDING);
            sched::wake(other, state::INTERRUPTIBLE);
            sched::notify(other);
        }
    }
    t.set_flag(flag::SIGPENDING);
}

/// Takes part in a stop: returns when continued or killed.
fn stop_here(t: &Task) {
    let p = &t.process;
    let mut told = None;
    {
        let mut i = p.inner.lock();
        match i.stop {
            Stop::Running => return,
            Stop::Stopping(sig, n) if n <= 1 => {
                i.stop = Stop::Stopped(sig);
                i.report = Report::Stopped(sig);
                told = Some(sig);
            }
            Stop::Stopping(sig, n) => i.stop = Stop::Stopping(sig, n - 1),
            Stop::Stopped(_) => {}
        }
        // Wake-up proof: SIGCONT and SIGKILL change the state under the lock that we hold.
        t.state.store(state::STOPPED, Ordering::SeqCst);
    }
    if let Some(sig) = told {
        // The state is STOPPED already; sending takes no sleeping lock.
        exit::notify_parent(p, cld::STOPPED, sig);
    }
    sched::schedule();
    t.state.store(state::RUNNING, Ordering::SeqCst);
    let i = p.inner.lock();
    recalc(t, &i);
}
