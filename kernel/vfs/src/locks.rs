//! File locks: fcntl(2) POSIX and open-file-description locks, flock(2), leases are not there.

use crate::file::File;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Kind of lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockKind {
    /// Shared.
    Read,
    /// Exclusive.
    Write,
    /// None.
    Unlock,
}

/// A byte-range lock; `end` inclusive, `u64::MAX` = to the end of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs)]
pub struct RangeLock {
    pub kind: LockKind,
    pub start: u64,
    pub end: u64,
    /// Identity of the owner: the descriptor table (POSIX) or the file description (OFD).
    pub owner: usize,
    /// For F_GETLK; −1 for OFD locks.
    pub pid: i32,
}

/// F_SETLK, F_SETLKW (`wait`), and the OFD forms. [`Errno::EAGAIN`], [`Errno::EDEADLK`], ERESTARTSYS.
pub fn set_range(file: &Arc<File>, lock: RangeLock, wait: bool) -> Result {
    let _ = (file, lock, wait);
    Err(Errno::ENOLCK)
}

/// F_GETLK: the first lock in the way.
pub fn get_range(file: &Arc<File>, lock: RangeLock) -> Result<Option<RangeLock>> {
    let _ = (file, lock);
    Err(Errno::ENOLCK)
}

/// flock(2). [`Errno::EWOULDBLOCK`] as EAGAIN.
pub fn flock(file: &Arc<File>, kind: LockKind, wait: bool) -> Result {
    let _ = (file, kind, wait);
    Err(Errno::ENOLCK)
}

/// Lines of /proc/locks.
pub fn list() -> Vec<RangeLock> {
    Vec::new()
}
