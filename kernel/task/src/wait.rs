//! wait4(2), waitid(2).

use crate::{Ctx, process::Usage};
use abi::{Errno, Result};
use alloc::sync::Arc;

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
    PidFd(Arc<crate::Process>, bool),
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

/// Waits for a change of a child. [`Errno::ECHILD`], ERESTARTSYS.
pub fn wait(cx: &Ctx, who: WaitFor, options: WaitOptions) -> Result<Option<Waited>> {
    let _ = (cx, who, options);
    Err(Errno::ENOSYS)
}
