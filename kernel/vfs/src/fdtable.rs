//! Descriptor tables.

use crate::file::File;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Open files of a process by number; shared with CLONE_FILES.
pub struct FdTable {
    _private: (),
}

impl FdTable {
    /// Empty.
    pub fn new() -> Arc<FdTable> {
        Arc::new(FdTable { _private: () })
    }
    /// A copy (fork).
    pub fn duplicate(&self) -> Arc<FdTable> {
        FdTable::new()
    }
    /// The file behind `fd`. [`Errno::EBADF`]. O_PATH files too.
    pub fn get(&self, fd: i32) -> Result<Arc<File>> {
        let _ = fd;
        Err(Errno::EBADF)
    }
    /// As [`FdTable::get`] but [`Errno::EBADF`] for O_PATH files.
    pub fn get_io(&self, fd: i32) -> Result<Arc<File>> {
        self.get(fd)
    }
    /// Installs at the lowest free number ≥ `min` and < `limit` (RLIMIT_NOFILE). [`Errno::EMFILE`].
    pub fn install(&self, file: Arc<File>, min: i32, limit: u64, cloexec: bool) -> Result<i32> {
        let _ = (file, min, limit, cloexec);
        Err(Errno::EMFILE)
    }
    /// dup2: installs at exactly `fd`; returns what was there (the caller closes it with [`close_file`]).
    pub fn install_at(
        &self,
        file: Arc<File>,
        fd: i32,
        limit: u64,
        cloexec: bool,
    ) -> Result<Option<Arc<File>>> {
        let _ = (file, fd, limit, cloexec);
        Err(Errno::EBADF)
    }
    /// Takes it out. [`Errno::EBADF`]. The caller then calls [`close_file`].
    pub fn remove(&self, fd: i32) -> Result<Arc<File>> {
        let _ = fd;
        Err(Errno::EBADF)
    }
    /// close-on-exec flag.
    pub fn cloexec(&self, fd: i32) -> Result<bool> {
        let _ = fd;
        Err(Errno::EBADF)
    }
    /// Sets it.
    pub fn set_cloexec(&self, fd: i32, on: bool) -> Result {
        let _ = (fd, on);
        Err(Errno::EBADF)
    }
    /// Takes out all with close-on-exec (exec).
    pub fn take_cloexec(&self) -> Vec<Arc<File>> {
        Vec::new()
    }
    /// Takes out everything (exit).
    pub fn take_all(&self) -> Vec<Arc<File>> {
        Vec::new()
    }
    /// Open numbers, ascending.
    pub fn numbers(&self) -> Vec<i32> {
        Vec::new()
    }
}

/// What close(2) does with a file taken out of a table: drops the POSIX locks of `owner` (the table's process), flushes.
pub fn close_file(file: Arc<File>, owner: usize) {
    let _ = owner;
    file.ops.flush(&file);
}
