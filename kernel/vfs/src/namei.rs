//! Path walk and the operations on names, path_resolution(7).
//!
//! All of them check permissions with the caller's credentials and return what the man page of the call says.

use crate::file::{Caller, File, OpenFlags};
use crate::inode::{Attr, SetAttr, StatFs};
use crate::mount::MountNs;
use crate::path::{FsContext, Path};
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Where a walk starts and who walks.
pub struct Walk<'a> {
    /// Caller.
    pub cx: &'a dyn Caller,
    /// Its root and working directory.
    pub fs: &'a FsContext,
    /// Its mounts.
    pub ns: &'a MountNs,
    /// Where relative paths start: `None` = working directory (AT_FDCWD).
    pub base: Option<Path>,
}

bitflags::bitflags! {
    /// How to walk.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct WalkFlags: u32 {
        /// Follow a symbolic link in the last component.
        const FOLLOW = 1;
        /// The result must be a directory.
        const DIRECTORY = 2;
        /// An empty path means the base itself (AT_EMPTY_PATH).
        const EMPTY = 4;
        /// openat2(2) RESOLVE_NO_XDEV.
        const NO_XDEV = 8;
        /// RESOLVE_NO_MAGICLINKS.
        const NO_MAGICLINKS = 0x10;
        /// RESOLVE_NO_SYMLINKS.
        const NO_SYMLINKS = 0x20;
        /// RESOLVE_BENEATH.
        const BENEATH = 0x40;
        /// RESOLVE_IN_ROOT.
        const IN_ROOT = 0x80;
        /// Check with the real instead of the file-system ids (access(2)).
        const REAL_IDS = 0x100;
    }
}

impl Walk<'_> {
    /// Finds an existing file.
    pub fn lookup(&self, path: &[u8], flags: WalkFlags) -> Result<Path> {
        let _ = (path, flags);
        Err(Errno::ENOSYS)
    }
    /// open(2), openat2(2) incl. O_CREAT, O_TMPFILE, O_PATH; `mode` before umask.
    pub fn open(
        &self,
        path: &[u8],
        oflags: OpenFlags,
        mode: u32,
        flags: WalkFlags,
    ) -> Result<Arc<File>> {
        let _ = (path, oflags, mode, flags);
        Err(Errno::ENOSYS)
    }
    /// Opens what a path leads to (no walk): exec, /proc/PID/fd, O_TMPFILE.
    pub fn open_path(&self, path: &Path, oflags: OpenFlags) -> Result<Arc<File>> {
        let _ = (path, oflags);
        Err(Errno::ENOSYS)
    }
    /// mkdir(2).
    pub fn mkdir(&self, path: &[u8], mode: u32) -> Result {
        let _ = (path, mode);
        Err(Errno::ENOSYS)
    }
    /// mknod(2): `mode` with type bits, device number.
    pub fn mknod(&self, path: &[u8], mode: u32, dev: u64) -> Result<Path> {
        let _ = (path, mode, dev);
        Err(Errno::ENOSYS)
    }
    /// symlink(2).
    pub fn symlink(&self, target: &[u8], path: &[u8]) -> Result {
        let _ = (target, path);
        Err(Errno::ENOSYS)
    }
    /// link(2) of `old` (found before) to `path`.
    pub fn link(&self, old: &Path, path: &[u8]) -> Result {
        let _ = (old, path);
        Err(Errno::ENOSYS)
    }
    /// unlink(2).
    pub fn unlink(&self, path: &[u8]) -> Result {
        let _ = path;
        Err(Errno::ENOSYS)
    }
    /// rmdir(2).
    pub fn rmdir(&self, path: &[u8]) -> Result {
        let _ = path;
        Err(Errno::ENOSYS)
    }
    /// renameat2(2); `to` has a start of its own.
    pub fn rename(&self, old: &[u8], to: &Walk<'_>, new: &[u8], flags: u32) -> Result {
        let _ = (old, to, new, flags);
        Err(Errno::ENOSYS)
    }
    /// access(2) of a found file: `mask` R 4, W 2, X 1. `real`: with real ids.
    pub fn access(&self, path: &Path, mask: u32, real: bool) -> Result {
        let _ = (path, mask, real);
        Err(Errno::ENOSYS)
    }
    /// Attribute changes with permission checks: chmod(2), chown(2), truncate(2), utimensat(2) (`Touch`).
    pub fn set_attr(&self, path: &Path, change: Change) -> Result {
        let _ = (path, change);
        Err(Errno::ENOSYS)
    }
    /// Absolute path as seen from this process's root (getcwd(2), /proc/PID/cwd): with ` (deleted)` if unlinked, `(unreachable)` prefix if outside.
    pub fn name_of(&self, path: &Path) -> Vec<u8> {
        let _ = path;
        Vec::new()
    }
}

/// What [`Walk::set_attr`] changes.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// chmod(2).
    Mode(u32),
    /// chown(2); `None` keeps.
    Owner(Option<u32>, Option<u32>),
    /// truncate(2).
    Size(u64),
    /// utimensat(2): access and modification time.
    Times(Touch, Touch),
}

/// One time of utimensat(2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Touch {
    /// UTIME_OMIT.
    Keep,
    /// UTIME_NOW.
    Now,
    /// A given time, ns since 1970.
    At(i64),
}

/// stat(2) of a place.
pub fn stat(path: &Path) -> Result<Attr> {
    path.dentry.inode().ok_or(Errno::ENOENT)?.attr()
}

/// statfs(2) of a place.
pub fn statfs(path: &Path) -> Result<StatFs> {
    path.mnt.sb.statfs()
}

/// As [`Walk::set_attr`] for an open file (ftruncate(2), fchmod(2)); no walk.
pub fn set_attr_of(cx: &dyn Caller, file: &File, change: Change) -> Result {
    let _ = (cx, file, change, SetAttr::default());
    Err(Errno::ENOSYS)
}
