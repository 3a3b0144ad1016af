//! Job control: controlling terminals, foreground groups, hang-up; credentials(7), setsid(2).

use crate::tty::{READABLE, SI_KERNEL, Tty, WRITABLE};
use abi::signal::{SIGCONT, SIGHUP, SIGTTIN};
use abi::{Errno, Result, SigInfo};
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::Ordering;
use task::{Ctx, Process, Session};
use vfs::PollEvents;
use vfs::cred::cap;
use vfs::file::Caller;

/// The controlling terminal of a session.
pub fn tty_of(session: &Session) -> Option<Arc<Tty>> {
    session.tty()?.downcast::<Tty>().ok()
}

/// The controlling terminal of a process: the session's, unless it gave that up.
pub fn tty_of_process(p: &Process) -> Option<Arc<Tty>> {
    if p.gave_up_tty.load(Ordering::Acquire) {
        return None;
    }
    tty_of(&p.session())
}

/// Device number and foreground group of the session's terminal, for /proc/PID/stat.
pub fn session_info(session: &Session) -> Option<(u64, i32)> {
    let t = tty_of(session)?;
    let pgrp = t.foreground();
    Some((t.dev, if pgrp > 0 { pgrp } else { -1 }))
}

/// To be called when the leader of a session ends: the terminal hangs up and is free again.
pub fn session_exit(session: &Arc<Session>) {
    if let Some(t) = tty_of(session) {
        t.leave(true);
    }
}

/// What becomes of output that the host has not taken when the terminal hangs up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Output {
    /// The line is there, its other end reads on.
    Kept,
    Dropped,
}

impl Tty {
    /// Whether this is the controlling terminal of `p`.
    pub fn controls(&self, p: &Process) -> bool {
        tty_of_process(p).is_some_and(|t| core::ptr::eq(&*t, self))
    }
    /// What a background process gets for touching its terminal: SIGTTIN for a read, SIGTTOU for a change.
    pub fn check_job(&self, cx: &dyn Caller, signo: i32) -> Result {
        let Some(cx) = Ctx::from_caller(cx) else {
            return Ok(());
        };
        let p = cx.process();
        let (fg, mine) = (self.foreground(), p.pgid());
        if fg == 0 || fg == mine || !self.controls(p) {
            return Ok(());
        }
        let ignored = p.sighand().get(signo).handler == 1;
        if ignored || cx.task().blocked().has(signo) {
            return if signo == SIGTTIN {
                Err(Errno::EIO)
            } else {
                Ok(())
            };
        }
        if self.kernel.pids.group_orphaned(mine) {
            return Err(Errno::EIO);
        }
        task::signal::send_group(self.kernel, mine, SigInfo::new(signo, SI_KERNEL));
        Err(Errno::ERESTARTSYS)
    }

    /// Becomes the controlling terminal of the process's session. Its group is in the foreground.
    pub fn take_control(self: &Arc<Self>, p: &Process) {
        let session = p.session();
        {
            let mut s = self.state.lock();
            s.session = Some(Arc::downgrade(&session));
            s.sid = session.sid;
            s.pgrp = p.pgid();
        }
        let any: Arc<dyn Any + Send + Sync> = self.clone();
        let old = session.set_tty(Some(any));
        drop(old);
        p.gave_up_tty.store(false, Ordering::Release);
    }
    /// open(2) without O_NOCTTY: a session leader without a terminal takes a free one.
    pub(crate) fn take_if_free(self: &Arc<Self>, cx: &dyn Caller) {
        let Some(cx) = Ctx::from_caller(cx) else {
            return;
        };
        let p = cx.process();
        let session = p.session();
        if session.sid == p.pid() && session.tty().is_none() && self.session().is_none() {
            self.take_control(p);
        }
    }
    /// The session that it controls, if that still exists.
    pub fn session(&self) -> Option<Arc<Session>> {
        let weak = self.state.lock().session.clone();
        let session = weak?.upgrade()?;
        tty_of(&session)
            .is_some_and(|t| core::ptr::eq(&*t, self))
            .then_some(session)
    }
    /// TIOCSCTTY. `steal`: from another session, by root.
    pub(crate) fn set_controlling(
        self: &Arc<Self>,
        cx: &dyn Caller,
        readable: bool,
        steal: bool,
    ) -> Result {
        let cx = Ctx::from_caller(cx).ok_or(Errno::EPERM)?;
        let p = cx.process();
        let session = p.session();
        let leader = session.sid == p.pid();
        if leader && self.controls(p) {
            return Ok(());
        }
        if !leader || session.tty().is_some() {
            return Err(Errno::EPERM);
        }
        let admin = cx.cred().capable(cap::SYS_ADMIN);
        if let Some(other) = self.session() {
            if !steal || !admin {
                return Err(Errno::EPERM);
            }
            let old = other.set_tty(None);
            drop(old);
        }
        if !readable && !admin {
            return Err(Errno::EPERM);
        }
        self.take_control(p);
        Ok(())
    }
    /// Takes the terminal from its session. `exit`: the session leader has ended, so the terminal hangs up.
    pub(crate) fn leave(&self, exit: bool) {
        let pgrp = self.foreground();
        // Files on a pseudo-terminal live on: its other side decides.
        if exit && !self.line.is_pty() {
            self.hang_up_files(Output::Kept);
        }
        self.release_session();
        self.signal_group(pgrp, SIGHUP);
        if !exit {
            self.signal_group(pgrp, SIGCONT);
        }
    }
    fn release_session(&self) {
        let session = self.session();
        {
            let mut s = self.state.lock();
            s.session = None;
            s.sid = 0;
            s.pgrp = 0;
        }
        if let Some(session) = session {
            let old = session.set_tty(None);
            drop(old);
        }
    }
    /// Every open file on it is dead from now on.
    fn hang_up_files(&self, output: Output) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        {
            let mut s = self.state.lock();
            s.pending.clear();
            s.ldisc.flush_input();
            s.ldisc.start();
            if output == Output::Dropped && !self.line.is_pty() {
                s.ldisc.flush_output();
            }
        }
        let gone = PollEvents::HUP.bits() | PollEvents::ERR.bits();
        self.read_wait.wake_key(READABLE | gone);
        self.write_wait.wake_key(WRITABLE | gone);
    }
    /// The line has gone: files are dead, the session leader is told, the terminal is free.
    pub fn hang_up(&self) {
        let session = self.session();
        self.hang_up_files(Output::Dropped);
        self.release_session();
        if let Some(session) = session
            && let Some(leader) = self.kernel.pids.process(session.sid)
        {
            task::signal::send_process(&leader, SigInfo::new(SIGHUP, SI_KERNEL));
            task::signal::send_process(&leader, SigInfo::new(SIGCONT, SI_KERNEL));
        }
    }
    /// TIOCSPGRP.
    pub(crate) fn set_foreground(&self, cx: &dyn Caller, pgrp: i32) -> Result {
        let cx = Ctx::from_caller(cx).ok_or(Errno::ENOTTY)?;
        let p = cx.process();
        if !self.controls(p) {
            return Err(Errno::ENOTTY);
        }
        if pgrp < 0 {
            return Err(Errno::EINVAL);
        }
        if !self.kernel.pids.group_exists(pgrp) {
            return Err(Errno::ESRCH);
        }
        if !self.kernel.pids.group_in_session(pgrp, p.sid()) {
            return Err(Errno::EPERM);
        }
        self.state.lock().pgrp = pgrp;
        Ok(())
    }
    /// Whether the caller may ask who is in the foreground: it is its terminal.
    pub(crate) fn require_control(&self, cx: &dyn Caller) -> Result {
        let cx = Ctx::from_caller(cx).ok_or(Errno::ENOTTY)?;
        if self.controls(cx.process()) {
            Ok(())
        } else {
            Err(Errno::ENOTTY)
        }
    }
    /// TIOCNOTTY.
    pub(crate) fn give_up(&self, cx: &dyn Caller) -> Result {
        self.require_control(cx)?;
        let cx = Ctx::from_caller(cx).ok_or(Errno::ENOTTY)?;
        let p = cx.process();
        if p.sid() == p.pid() {
            self.leave(false);
        } else {
            p.gave_up_tty.store(true, Ordering::Release);
        }
        Ok(())
    }
    pub(crate) fn opened(&self) -> bool {
        self.opens.load(Ordering::Acquire) > 0
    }
}
