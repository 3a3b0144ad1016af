//! Trees of the host's file system, for the guest's root and binds.
//!
//! A [`HostTree`] is opened once, as a descriptor of its top directory. Every
//! operation goes from there through checked plain names ([`path`]); a
//! directory is reached by openat2(2) with `RESOLVE_BENEATH` and
//! `RESOLVE_NO_SYMLINKS` (one name at a time with `O_NOFOLLOW` where the host
//! has no openat2), the last name by calls that do not follow links. So neither
//! a path nor a race with changes on the host leads out of the tree; only the
//! host's own mounts are crossed.
//!
//! - [`path`]: checks of paths.
//! - [`fds`]: directory cache and open-file table, shared by all trees.
//! - `read`: the operations that read. `write`: those that change the host.
//!
//! What the caller may not read on the host cannot be read here: all calls are
//! made with the caller's own rights.

pub mod fds;
pub mod path;
mod read;
#[cfg(test)]
mod tests;
mod write;

use crate::dir::fds::{Fds, HostFd, Recipe};
use crate::dir::path::Name;
use abi::Errno;
use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, Ordering};
use hal::dev::{HostDir, HostDirEntry, HostFile, HostStat};
use host_sys::{file, mount};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

pub(crate) use read::{host_stat, list};

/// This host has openat2(2).
static OPENAT2: AtomicBool = AtomicBool::new(true);

/// Does without openat2(2) from now on: a filter of host calls cannot see its flags.
pub(crate) fn give_up_openat2() {
    OPENAT2.store(false, Ordering::Relaxed);
}

/// Whether openat2(2) may be used.
pub(crate) fn uses_openat2() -> bool {
    OPENAT2.load(Ordering::Relaxed)
}

/// The host's error number in the guest's terms: the same number. Ends the machine
/// if the host could not reach our memory: addresses given to it are valid, so it
/// found no room for a page of the memory file, and what the call was to do is not done.
pub(crate) fn errno(e: host_sys::Errno) -> Errno {
    if i32::from(e.0) == libc::EFAULT {
        crate::shutdown::no_room();
    }
    Errno(e.0)
}

/// A directory tree (or a single file) of the host.
pub struct HostTree {
    id: u32,
    /// Top directory, or the directory that holds the file.
    top: Arc<HostFd>,
    /// The tree is this one file in `top`.
    file: Option<Box<[u8]>>,
    /// The top is the host's own root.
    host_root: bool,
    writable: bool,
    fds: Arc<Fds>,
}

impl HostTree {
    /// Opens the tree at `at`. `id` must be different for each tree on `fds`.
    /// Symbolic links in `at` itself are followed.
    pub fn open(at: &Path, writable: bool, id: u32, fds: Arc<Fds>) -> std::io::Result<HostTree> {
        let real = at.canonicalize()?;
        let (dir, file) = if real.is_dir() {
            (real.as_path(), None)
        } else {
            let name = real.file_name().map(|n| n.as_bytes().into());
            (real.parent().unwrap_or(Path::new("/")), name)
        };
        let c = CString::new(dir.as_os_str().as_bytes())?;
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let fd = host_sys::fd::open(&c, flags, 0)
            .map_err(|e| std::io::Error::from_raw_os_error(i32::from(e.0)))?;
        // Searchable: else nothing inside could ever be looked at.
        file::statat(fd, c".", 0).map_err(|e| std::io::Error::from_raw_os_error(i32::from(e.0)))?;
        Ok(HostTree {
            id,
            top: Arc::new(HostFd::new(fd)),
            host_root: file.is_none() && real == Path::new("/"),
            file,
            writable,
            fds,
        })
    }

    /// From now on reaches the tree through a copy of its mounts, which no name leads to
    /// and which has nothing above: read-only and without access times unless the tree is
    /// writable, and without devices. Mounts that the host makes later are not seen. Needs
    /// `CAP_SYS_ADMIN`, Linux 5.12.
    pub(crate) fn detach(&mut self) -> host_sys::Result {
        let mut attributes = mount::NO_DEV | mount::NO_SUID;
        if !self.writable {
            attributes |= mount::READ_ONLY | mount::NO_ATIME;
        }
        let copy = mount::copy(self.top.get(), c"", attributes)?;
        self.top = Arc::new(HostFd::new(copy));
        Ok(())
    }

    /// Descriptor of the top directory, or of the directory that holds the file.
    pub fn top(&self) -> i32 {
        self.top.get()
    }

    /// Name of the only file, if the tree is one.
    pub(crate) fn only_file(&self) -> Option<&[u8]> {
        self.file.as_deref()
    }

    /// Whether the tree is the host's own root directory.
    pub(crate) fn is_host_root(&self) -> bool {
        self.host_root
    }

    /// Whether files may be changed through it.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Whether the tree is a directory (else a single file).
    pub fn is_dir(&self) -> bool {
        self.file.is_none()
    }

    /// Runs `f`; if the host is out of descriptors, gives some back and tries again.
    fn retry<T>(&self, mut f: impl FnMut() -> host_sys::Result<T>) -> Result<T, Errno> {
        use host_sys::Errno as E;
        loop {
            match f() {
                Err(E::EMFILE | E::ENFILE) if self.fds.relieve() => {}
                Err(E::EINTR) => {}
                r => return r.map_err(errno),
            }
        }
    }

    /// Descriptor of the directory at `dir` (checked).
    fn dir(&self, dir: &[u8]) -> Result<Arc<HostFd>, Errno> {
        if dir.is_empty() {
            return Ok(self.top.clone());
        }
        let now = host_sys::time::monotonic_ns();
        if let Some(fd) = self.fds.dir(self.id, dir, now) {
            return Ok(fd);
        }
        let fd = self.retry(|| self.walk(dir))?;
        let fd = Arc::new(HostFd::new(fd));
        self.fds.put_dir(self.id, dir, fd.clone(), now);
        Ok(fd)
    }

    /// Opens the directory at `dir` from the top.
    fn walk(&self, dir: &[u8]) -> host_sys::Result<i32> {
        use host_sys::Errno as E;
        const FLAGS: i32 = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        if OPENAT2.load(Ordering::Relaxed) {
            let c = CString::new(dir).map_err(|_| E::EINVAL)?;
            let resolve =
                libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
            match file::openat2(self.top.get(), &c, FLAGS, 0, resolve) {
                // Sandboxes around us may refuse the unknown call with EPERM.
                Err(E::ENOSYS | E::EPERM) => OPENAT2.store(false, Ordering::Relaxed),
                Err(E::EAGAIN) => {}
                r => return r,
            }
        }
        let mut at = self.top.clone();
        for name in dir.split(|&b| b == b'/') {
            let name = Name::new(name).map_err(|e| E(e.0))?;
            let fd = file::openat(at.get(), name.as_cstr(), FLAGS, 0)?;
            at = Arc::new(HostFd::new(fd));
        }
        file::fcntl(at.get(), libc::F_DUPFD_CLOEXEC, 0).map(|fd| fd as i32)
    }

    /// Calls `f` with the directory that holds `path` and the last name. The
    /// name is empty for the top of the tree itself.
    fn at<T>(
        &self,
        path: &[u8],
        mut f: impl FnMut(i32, &CStr) -> host_sys::Result<T>,
    ) -> Result<T, Errno> {
        if let Some(file) = &self.file {
            if !path.is_empty() {
                path::check(path)?;
                return Err(Errno::ENOTDIR);
            }
            let name = Name::new(file)?;
            return self.retry(|| f(self.top.get(), name.as_cstr()));
        }
        let (dir, name) = path::split(path)?;
        let name = Name::new(name)?;
        let dir = self.dir(dir)?;
        self.retry(|| f(dir.get(), name.as_cstr()))
    }

    /// Descriptor of an open file, opening it again if it was closed behind its index.
    fn fd(&self, f: HostFile) -> Result<Arc<HostFd>, Errno> {
        match self.fds.get(self.id, f)? {
            Ok(fd) => Ok(fd),
            Err(recipe) => {
                let (fd, st) = self.open_regular(&recipe.path, recipe.write)?;
                if (st.st_dev, st.st_ino) != recipe.id {
                    return Err(Errno::ESTALE);
                }
                self.fds.reopened(self.id, f, Arc::new(fd))
            }
        }
    }
}

/// What the kernel sees.
impl HostDir for HostTree {
    fn stat(&self, path: &[u8]) -> Result<HostStat, Errno> {
        self.stat_path(path)
    }
    fn read_dir(&self, path: &[u8]) -> Result<Vec<HostDirEntry>, Errno> {
        self.entries(path)
    }
    fn read_link(&self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        self.link_target(path)
    }
    fn open(&self, path: &[u8], write: bool) -> Result<HostFile, Errno> {
        if write && !self.writable {
            return Err(Errno::EROFS);
        }
        let (fd, st) = self.open_regular(path, write)?;
        let recipe = Recipe {
            tree: self.id,
            path: path.into(),
            write,
            id: (st.st_dev, st.st_ino),
        };
        self.fds.insert(recipe, Arc::new(fd))
    }
    fn read(&self, file: HostFile, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        let fd = self.fd(file)?;
        read::read_full(fd.get(), buf, offset)
    }
    fn stat_file(&self, file: HostFile) -> Result<HostStat, Errno> {
        let fd = self.fd(file)?;
        let st = file::fstat(fd.get()).map_err(errno)?;
        Ok(read::host_stat(&st))
    }
    fn close(&self, file: HostFile) {
        self.fds.remove(self.id, file);
    }
    fn statfs(&self) -> Result<[u64; 5], Errno> {
        read::statfs(self.top.get())
    }
    fn get_xattr(&self, path: &[u8], name: &[u8]) -> Result<Vec<u8>, Errno> {
        self.xattr(path, name)
    }
    fn list_xattr(&self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        self.xattr_names(path)
    }
    fn write(&self, file: HostFile, buf: &[u8], offset: u64) -> Result<usize, Errno> {
        self.write_file(file, buf, offset)
    }
    fn truncate(&self, path: &[u8], size: u64) -> Result<(), Errno> {
        self.set_size(path, size)
    }
    fn create(&self, path: &[u8], mode: u32) -> Result<(), Errno> {
        self.make(path, mode)
    }
    fn symlink(&self, path: &[u8], target: &[u8]) -> Result<(), Errno> {
        self.make_link(path, target)
    }
    fn link(&self, old: &[u8], new: &[u8]) -> Result<(), Errno> {
        self.hard_link(old, new)
    }
    fn remove(&self, path: &[u8], dir: bool) -> Result<(), Errno> {
        self.unlink(path, dir)
    }
    fn rename(&self, old: &[u8], new: &[u8], flags: u32) -> Result<(), Errno> {
        self.move_to(old, new, flags)
    }
    fn set_attr(
        &self,
        path: &[u8],
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        atime_ns: Option<i64>,
        mtime_ns: Option<i64>,
    ) -> Result<(), Errno> {
        self.set_attributes(path, mode, (uid, gid), (atime_ns, mtime_ns))
    }
    fn fsync(&self, file: HostFile) -> Result<(), Errno> {
        let fd = self.fd(file)?;
        file::fsync(fd.get()).map_err(errno)
    }
}
