//! What can go wrong while the engine starts.

use core::fmt;
use host_sys::Errno;

/// Why the engine cannot start. The text reads as the message for the user.
#[derive(Debug)]
pub enum Error {
    /// The host has no seccomp filters, or forbids them.
    NoSeccomp(Errno),
    /// CPU or host do not let programs read and write the FS and GS bases.
    NoFsgsbase,
    /// The host refused a step of the start.
    Host(&'static str, Errno),
    /// The first process of the machine ended before it was ready.
    ZygoteDied,
    /// The first process of the machine does not answer.
    ZygoteSilent,
    /// The host's signal frames are not as expected.
    Frame(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoSeccomp(e) => write!(f, "this host does not allow seccomp filters ({e})"),
            Error::NoFsgsbase => f.write_str(
                "this host's CPU or kernel lacks FSGSBASE (Linux 5.9 or later and a CPU of 2013 or later are needed)",
            ),
            Error::Host(what, e) => write!(f, "cannot {what}: {e}"),
            Error::ZygoteDied => f.write_str("the first user process ended during the start"),
            Error::ZygoteSilent => f.write_str("the first user process does not answer"),
            Error::Frame(what) => write!(f, "unexpected signal frame of this host: {what}"),
        }
    }
}

impl std::error::Error for Error {}
