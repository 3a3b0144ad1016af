//! An empty root directory, so that absolute names lead nowhere.
//!
//! Only where root starts the machine: a user would need a user namespace, in which host
//! files lose their owners.

use super::rights::has;
use crate::dir::fds::HostFd;
use host_sys::mount;
use host_sys::rights::cap;

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Root {
    /// Empty from now on.
    Empty,
    /// Needs more rights than this process has.
    NotOurs,
    /// The host refuses although the rights are there.
    Refused,
}

/// Makes an empty directory that nothing can be made in the root of this process.
pub(crate) fn empty() -> Root {
    if !has(cap::SYS_ADMIN) || !has(cap::SYS_CHROOT) {
        return Root::NotOurs;
    }
    let attributes = mount::READ_ONLY | mount::NO_SUID | mount::NO_DEV | mount::NO_EXEC;
    let entered = mount::detached(c"tmpfs", attributes).and_then(|fd| {
        let top = HostFd::new(fd);
        mount::enter(top.get())
    });
    match entered {
        Ok(()) => Root::Empty,
        Err(_) => Root::Refused,
    }
}
