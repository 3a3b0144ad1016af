//! wait4(2), waitid(2).

use crate::exit::{cld, status_code};
use crate::process::{Report, Usage};
use crate::{Ctx, Process, Task};
use abi::signal::SIGCHLD;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;

bitflags::bitflags! {
    /// Options of wait4(2) and waitid(2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct WaitOptions: u32 {
        /// Do not wait.
        const NOHANG = 1;
        /// WUNTRACED / WSTOPPED.
        const STOPPED = 2;
        /// WEXITED; wait4 always sets it.
        const EXITED = 4;
        /// WCONTINUED.
        const CONTINUED = 8;
        /// Leave the child in a waitable state.
        const NOWAIT = 0x0100_0000;
        /// Only children of the calling thread.
        const NOTHREAD = 0x2000_0000;
        /// All children, clone ones too.
        const ALL = 0x4000_0000;
        /// Only clone children.
        const CLONE = 0x8000_0000;
    }
}

/// Which children to wait for.
#[derive(Clone)]
pub enum WaitFor {
    /// Any.
    Any,
    /// One by pid.
    Pid(i32),
    /// Members of a process group.
    Group(i32),
    /// The process of a pidfd; `nonblock`: the descriptor has O_NONBLOCK ([`Errno::EAGAIN`]).
    PidFd(Arc<Process>, bool),
}

/// What happened to a child.
#[derive(Clone, Copy, Debug)]
pub struct Waited {
    /// Its pid; 0 = nothing yet (WNOHANG).
    pub pid: i32,
    /// Its real uid.
    pub uid: u32,
    /// `CLD_*` code.
    pub code: i32,
    /// Status as wait4(2) stores it.
    pub status: i32,
    /// Its usage and that of its waited-for children.
    pub usage: Usage,
}

impl Waited {
    /// `si_status` of waitid(2): the exit code or the signal.
    pub fn si_status(&self) -> i32 {
        match self.code {
            1 => self.status >> 8 & 0xff,
            5 => self.status >> 8 & 0xff,
            6 => abi::signal::SIGCONT,
            _ => self.status & 0x7f,
        }
    }
}

/// What a look at the children found.
enum Found {
    /// No child that fits.
    Nobody,
    /// Children, but nothing has happened to them.
    Nothing,
    Event(Waited, Option<Reaped>),
}

/// A zombie taken out of the table.
type Reaped = (Option<crate::pid::Node>, Option<Arc<Task>>);

impl WaitFor {
    fn fits(&self, p: &Arc<Process>) -> bool {
        match self {
            WaitFor::Any => true,
            WaitFor::Pid(pid) => p.pid() == *pid,
            WaitFor::Group(g) => p.pgid() == *g,
            WaitFor::PidFd(q, _) => Arc::ptr_eq(p, q),
        }
    }
}

/// Waits for a change of a child. `None`: nothing yet, with [`WaitOptions::NOHANG`]. [`Errno::ECHILD`],
/// ERESTARTSYS, [`Errno::EAGAIN`] (a pidfd with O_NONBLOCK).
///
pub fn wait(cx: &Ctx, who: WaitFor, options: WaitOptions) -> Result<Option<Waited>> {
    let who = match who {
        WaitFor::Group(0) => WaitFor::Group(cx.process().pgid()),
        w => w,
    };
    let p = cx.process();
    // Wake-up proof: a child changes its state before it wakes the parent's
    // queue; we are on the queue before we look.
    p.child_events.wait(|| match look(cx, &who, options) {
        Found::Nothing if options.contains(WaitOptions::NOHANG) => Some(Ok(None)),
        Found::Nothing if matches!(who, WaitFor::PidFd(_, true)) => Some(Err(Errno::EAGAIN)),
        Found::Nothing => None,
        Found::Nobody => Some(Err(Errno::ECHILD)),
        Found::Event(w, gone) => {
            drop(gone);
            Some(Ok(Some(w)))
        }
    })?
}

fn look(cx: &Ctx, who: &WaitFor, options: WaitOptions) -> Found {
    let parent = cx.process();
    let kernel = parent.kernel;
    let me = cx.task().tid();
    let mut tree = kernel.pids.tree.lock();
    let Some(node) = tree.procs.get(&parent.pid()) else {
        return Found::Nobody;
    };
    let mut any = false;
    let mut event = None;
    for c in &node.children {
        let Some(child) = tree.procs.get(c).map(|n| &n.process) else {
            continue;
        };
        if !who.fits(child)
            || options.contains(WaitOptions::NOTHREAD)
                && child.parent_tid.load(Ordering::Relaxed) != me
        {
            continue;
        }
        let is_clone = child.exit_signal.load(Ordering::Relaxed) != SIGCHLD;
        if !options.contains(WaitOptions::ALL) && is_clone != options.contains(WaitOptions::CLONE) {
            continue;
        }
        any = true;
        if let Some(w) = child_event(child, options) {
            let end = child.is_zombie();
            event = Some((w, end, child.clone()));
            break;
        }
    }
    match event {
        None if any => Found::Nothing,
        None => Found::Nobody,
        Some((w, end, child)) => {
            if !end || options.contains(WaitOptions::NOWAIT) {
                return Found::Event(w, None);
            }
            let gone = tree.remove_process(child.pid());
            drop(tree);
            parent.inner.lock().children.add(&w.usage);
            Found::Event(w, Some(gone))
        }
    }
}

/// What there is to report about a child. Takes a report of a stop, unless told to leave it.
fn child_event(child: &Process, options: WaitOptions) -> Option<Waited> {
    let uid = |p: &Process| {
        let t = p.leader_locked();
        t.map_or(0, |t| t.cred().uid)
    };
    if child.is_zombie() {
        if !options.contains(WaitOptions::EXITED) {
            return None;
        }
        let (status, usage) = {
            let i = child.inner.lock();
            let mut u = i.dead_threads;
            u.add(&i.children);
            (i.group_exit.unwrap_or(i.exit_status), u)
        };
        return Some(Waited {
            pid: child.pid(),
            uid: uid(child),
            code: status_code(status).0,
            status,
            usage,
        });
    }
    let mut i = child.inner.lock();
    let (code, status) = match i.report {
        Report::Stopped(sig) if options.contains(WaitOptions::STOPPED) => {
            (cld::STOPPED, sig << 8 | 0x7f)
        }
        Report::Continued if options.contains(WaitOptions::CONTINUED) => (cld::CONTINUED, 0xffff),
        _ => return None,
    };
    if !options.contains(WaitOptions::NOWAIT) {
        i.report = Report::None;
    }
    let mut usage = i.dead_threads;
    for t in &i.threads {
        usage.add(&t.usage());
    }
    usage.add(&i.children);
    drop(i);
    Some(Waited {
        pid: child.pid(),
        uid: uid(child),
        code,
        status,
        usage,
    })
}
