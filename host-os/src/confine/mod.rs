//! The kernel process's own cage: what it gives up before the guest's first instruction,
//! so that whoever takes it over from inside has little of the host.
//!
//! In two steps, because rights and files are a matter of threads, and threads need
//! calls that are not needed later:
//!
//! 1. [`enter`], while there is one thread, after everything is open that has a name:
//!    `root`: names lead nowhere (where root starts the machine); `rights`: capabilities,
//!    new privileges; `files`: Landlock. Before that [`detach`], for machines that write.
//! 2. [`limit_calls`], as the last thing before the guest: `calls`, a seccomp filter
//!    for all threads, built by `bpf`.
//!
//! Neither can be undone. `docs/trust.md` says what is left to a guest that broke out.

mod bpf;
mod calls;
mod files;
mod rights;
mod root;

pub use calls::Handles;

use crate::dir::HostTree;
use crate::log;
use files::Lack;
use hal::platform::LogLevel;
use host_sys::Errno;

/// Why the process is not confined although it should be.
#[derive(Debug)]
#[expect(missing_docs)]
pub enum Error {
    Rights(Errno),
    Files(Errno),
    Calls(Errno),
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (what, why) = match self {
            Error::Rights(e) => ("rights", e),
            Error::Files(e) => ("files", e),
            Error::Calls(e) => ("host calls", e),
        };
        let why = crate::mem::text(*why);
        write!(f, "cannot confine the kernel process's {what}: {why}")
    }
}

impl core::error::Error for Error {}

/// What [`detach`] could do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attributes {
    /// Those of files outside writable trees cannot be changed.
    Safe,
    /// They are as open as the user's rights make them.
    Open,
}

/// Where files are to be changed in some of `trees`: makes the others read-only for this
/// process, which Landlock does not do for modes, owners and times; and where there is no
/// Landlock. An ordinary user may not.
pub fn detach(trees: &mut [HostTree]) -> Attributes {
    let needed = trees.iter().any(|t| t.is_writable()) || host_sys::landlock::abi().is_err();
    if !needed || !rights::has(host_sys::rights::cap::SYS_ADMIN) {
        return Attributes::Safe;
    }
    match trees.iter_mut().try_for_each(HostTree::detach) {
        Ok(()) => Attributes::Safe,
        Err(_) => Attributes::Open,
    }
}

/// Gives up rights and files: reaches `trees`, reads files below the directories
/// `readable` (descriptors, −1 = none). One log line says what this host cannot do.
/// This process has one thread.
pub fn enter(
    trees: &[&'static HostTree],
    readable: &[i32],
    attributes: Attributes,
) -> Result<(), Error> {
    let writes = trees.iter().any(|t| t.is_writable());
    let mut open = Vec::new();
    if attributes == Attributes::Open {
        open.push("setting of modes and owners (it refuses copies of mounts)");
    }
    if root::empty() == root::Root::Refused {
        open.push("names of files (it refuses an empty root)");
    }
    rights::drop(writes).map_err(Error::Rights)?;
    match files::restrict(trees, readable).map_err(Error::Files)? {
        Lack::None => {}
        Lack::Signals => open.push("signals (its Landlock is older than version 6)"),
        Lack::All => {
            crate::dir::give_up_openat2();
            open.push("files and signals (it has no Landlock, or an old one)");
        }
    }
    if !open.is_empty() {
        let what = open.join(", ");
        let line = format!("this host does not confine the kernel process's {what}");
        log::line(LogLevel::Warn, &line);
    }
    Ok(())
}

/// The filter for the terminal's guardian: it waits, and sets the terminal at descriptor 0.
pub(crate) fn guardian_calls() -> Vec<libc::sock_filter> {
    bpf::program(&calls::guardian_rows(), bpf::Answer::Kill)
}

/// Limits the host calls that the kernel makes in user processes which share its image: for
/// their ancestor, which passes the filter on. This process has one thread and leads the
/// group of the user processes.
pub fn limit_user_calls(h: &Handles) -> Result<(), Errno> {
    let group = host_sys::task::getpid();
    let rows = calls::user_rows(&Handles { group, ..*h });
    let program = bpf::program(&rows, bpf::Answer::Trap);
    host_sys::rights::filter_calls(&program, false)
}

/// Limits the host calls of all threads of this process, and of those to come.
pub fn limit_calls(h: &Handles) -> Result<(), Error> {
    host_sys::rights::filter_calls(&calls::filter(h), true).map_err(Error::Calls)
}
