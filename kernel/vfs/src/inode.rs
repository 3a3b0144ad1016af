//! What a file system implements: [`Inode`] and [`SuperBlock`].
//!
//! The VFS has checked permissions, name lengths, read-only mounts and the
//! existence rules that need only the dentry cache before it calls; a file
//! system checks what only it can know. All methods may sleep.

use crate::cred::{Cred, Perm};
use crate::file::{Caller, FileOps, OpenFlags};
use crate::state::InodeState;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use mm::PageCache;

/// Shared reference to an inode.
pub type InodeRef = Arc<dyn Inode>;

/// Type of a file; values are `S_IFMT` bits of `st_mode` >> 12, which are also the `DT_*` values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[expect(missing_docs)]
pub enum FileType {
    Fifo = 1,
    Char = 2,
    Dir = 4,
    Block = 6,
    Regular = 8,
    Symlink = 10,
    Socket = 12,
}

impl FileType {
    /// From `st_mode`.
    pub fn from_mode(mode: u32) -> Option<FileType> {
        Some(match mode >> 12 & 0xf {
            1 => FileType::Fifo,
            2 => FileType::Char,
            4 => FileType::Dir,
            6 => FileType::Block,
            8 => FileType::Regular,
            10 => FileType::Symlink,
            12 => FileType::Socket,
            _ => return None,
        })
    }
    /// The `S_IFMT` bits.
    pub fn mode_bits(self) -> u32 {
        (self as u32) << 12
    }
}

/// Time stamp in nanoseconds since 1970.
pub type TimeNs = i64;

/// Attributes of an inode, stat(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs)]
pub struct Attr {
    /// Device number of the file system (`st_dev`), Linux's userspace encoding.
    pub dev: u64,
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    /// Device number of a device node.
    pub rdev: u64,
    pub size: u64,
    pub blksize: u32,
    /// In units of 512 bytes.
    pub blocks: u64,
    pub atime: TimeNs,
    pub mtime: TimeNs,
    pub ctime: TimeNs,
    pub btime: TimeNs,
}

/// Whether MS_RELATIME of mount(2) lets a read at `now` change atime: it is not newer than the other times, or a day old.
pub fn relatime(atime: TimeNs, mtime: TimeNs, ctime: TimeNs, now: TimeNs) -> bool {
    const DAY_NS: i64 = 86_400_000_000_000;
    atime <= mtime || atime <= ctime || now.saturating_sub(atime) >= DAY_NS
}

impl Attr {
    /// Type of the file (regular if the mode holds none).
    pub fn file_type(&self) -> FileType {
        FileType::from_mode(self.mode).unwrap_or(FileType::Regular)
    }
}

/// Changes to attributes; `None` leaves as is. `ctime` is set by the file system whenever something changes.
#[derive(Clone, Copy, Default, Debug)]
#[expect(missing_docs)]
pub struct SetAttr {
    /// Permission bits (07777).
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<TimeNs>,
    pub mtime: Option<TimeNs>,
}

/// What to create in a directory.
#[derive(Clone, Debug)]
pub enum NewNode<'a> {
    /// An empty regular file.
    Regular,
    /// A directory.
    Dir,
    /// A symbolic link to this target.
    Symlink(&'a [u8]),
    /// Fifo or socket.
    Special(FileType),
    /// Character or block device with its number.
    Device(FileType, u64),
}

/// One directory entry as `readdir` gives it. Return `false` to stop (buffer full).
/// Arguments: name, inode number, type, offset to continue *behind* this entry.
pub type DirEmit<'a> = dyn FnMut(&[u8], u64, FileType, u64) -> bool + 'a;

/// A mounted file system.
pub trait SuperBlock: Send + Sync {
    /// Name as in /proc/filesystems.
    fn fs_type(&self) -> &'static str;
    /// Root directory.
    fn root(&self) -> InodeRef;
    /// `f_type` magic of statfs(2).
    fn magic(&self) -> u64;
    /// `st_dev`.
    fn dev(&self) -> u64;
    /// statfs(2): block size, blocks, free, available, files, files free, name length.
    fn statfs(&self) -> Result<StatFs>;
    /// sync(2).
    fn sync(&self) -> Result {
        Ok(())
    }
    /// Mount options as in /proc/mounts, without the leading `rw`.
    fn options(&self) -> Vec<u8> {
        Vec::new()
    }
    /// New mount options (remount). Default: accept anything the mount flags express.
    fn remount(&self, _data: &[u8]) -> Result {
        Ok(())
    }
    /// Whether names of this file system may change behind the kernel's back
    /// (then dentries are revalidated by [`Inode::revalidate`]).
    fn volatile(&self) -> bool {
        false
    }
}

/// Numbers for statfs(2).
#[derive(Clone, Copy, Default, Debug)]
#[expect(missing_docs)]
pub struct StatFs {
    pub bsize: u64,
    pub blocks: u64,
    pub bfree: u64,
    pub bavail: u64,
    pub files: u64,
    pub ffree: u64,
    pub namelen: u64,
}

/// Result of following a "magic" link such as /proc/PID/fd/N: not a path but the thing itself.
pub type MagicLink = Arc<dyn Any + Send + Sync>;

/// A file, directory, link or device of a file system.
pub trait Inode: Send + Sync {
    /// Its file system.
    fn super_block(&self) -> Arc<dyn SuperBlock>;
    /// Attributes.
    fn attr(&self) -> Result<Attr>;
    /// Just the type; never changes.
    fn file_type(&self) -> FileType;
    /// Number; never changes.
    fn ino(&self) -> u64;
    /// What permission checks need; on the path of every walk, so make it fast.
    fn perm(&self) -> Result<Perm> {
        let a = self.attr()?;
        Ok(Perm {
            mode: a.mode,
            uid: a.uid,
            gid: a.gid,
        })
    }
    /// The VFS's part of the inode. Without one there are no locks, no ETXTBSY and no inotify events.
    fn state(&self) -> Option<&InodeState> {
        None
    }
    /// The contents were read now: sets atime; if `relative`, only as MS_RELATIME of mount(2) says.
    fn accessed(&self, _cx: &dyn Caller, _relative: bool) {}
    /// Changes attributes.
    fn set_attr(&self, _set: &SetAttr) -> Result {
        Err(Errno::EPERM)
    }
    /// For downcasts within a file system.
    fn as_any(&self) -> &dyn Any;

    /// Directory: finds `name` (never `.` or `..`). [`Errno::ENOENT`].
    fn lookup(&self, _name: &[u8]) -> Result<InodeRef> {
        Err(Errno::ENOTDIR)
    }
    /// Directory: whether a cached result of `lookup` still holds (volatile file systems).
    fn revalidate(&self, _name: &[u8], _child: Option<&InodeRef>) -> bool {
        true
    }
    /// Directory: a number that changes whenever names may have appeared behind the kernel's back. A
    /// cached absence of a name holds only while it stays the same (volatile file systems).
    fn names_generation(&self) -> u64 {
        0
    }
    /// Directory: looking up a name that is not there ends a call that would make it with ENOENT, before any
    /// question of permission, as below /proc.
    fn absence_is_final(&self) -> bool {
        false
    }
    /// Directory: creates `name` with permission bits `mode` (umask applied) for owner `cred.fsuid`/`fsgid`
    /// (set-group-ID directories pass on their group). [`Errno::EEXIST`].
    fn create(
        &self,
        _name: &[u8],
        _node: NewNode<'_>,
        _mode: u32,
        _cred: &Cred,
    ) -> Result<InodeRef> {
        Err(Errno::EPERM)
    }
    /// Directory: an unnamed regular file (O_TMPFILE).
    fn create_unnamed(&self, _mode: u32, _cred: &Cred) -> Result<InodeRef> {
        Err(Errno::EOPNOTSUPP)
    }
    /// Directory: one more name for `target`, an inode of the same file system.
    fn link(&self, _name: &[u8], _target: &InodeRef) -> Result {
        Err(Errno::EPERM)
    }
    /// Directory: removes the name of something that is not a directory.
    fn unlink(&self, _name: &[u8]) -> Result {
        Err(Errno::EPERM)
    }
    /// Directory: removes an empty directory. [`Errno::ENOTEMPTY`].
    fn rmdir(&self, _name: &[u8]) -> Result {
        Err(Errno::EPERM)
    }
    /// Directory: moves `old` of this directory to `new` of `dir` (same file system), replacing what
    /// is there by the rules of rename(2). `flags`: RENAME_NOREPLACE 1, RENAME_EXCHANGE 2, RENAME_WHITEOUT 4.
    fn rename(&self, _old: &[u8], _dir: &InodeRef, _new: &[u8], _flags: u32) -> Result {
        Err(Errno::EPERM)
    }
    /// Symbolic link: its target.
    fn read_link(&self) -> Result<Vec<u8>> {
        Err(Errno::EINVAL)
    }
    /// Symbolic link in procfs that leads to an object: a `vfs::path::Path` wrapped in `Any`.
    fn magic_link(&self) -> Option<Result<MagicLink>> {
        None
    }
    /// Makes the behaviour of an open file. Called once per open, after all checks,
    /// before O_TRUNC is carried out through `set_attr`. May sleep (fifo). The opener's `cx` is the same as in [`FileOps`].
    fn open(&self, this: &InodeRef, flags: OpenFlags, cx: &dyn Caller) -> Result<Arc<dyn FileOps>>;
    /// Page cache of a regular file, for mmap, exec and generic read/write.
    fn page_cache(&self) -> Option<Arc<PageCache>> {
        None
    }
    /// Extended attribute. [`Errno::ENODATA`], [`Errno::EOPNOTSUPP`].
    fn get_xattr(&self, _name: &[u8]) -> Result<Vec<u8>> {
        Err(Errno::EOPNOTSUPP)
    }
    /// Sets one. `flags`: XATTR_CREATE 1, XATTR_REPLACE 2.
    fn set_xattr(&self, _name: &[u8], _value: &[u8], _flags: u32) -> Result {
        Err(Errno::EOPNOTSUPP)
    }
    /// Names.
    fn list_xattr(&self) -> Result<Vec<Vec<u8>>> {
        Ok(Vec::new())
    }
    /// Removes one.
    fn remove_xattr(&self, _name: &[u8]) -> Result {
        Err(Errno::EOPNOTSUPP)
    }
    /// Unix socket bound to this inode, kept by the net layer.
    fn socket_slot(
        &self,
    ) -> Option<&sync::SpinLock<Option<Arc<dyn Any + Send + Sync>>, { sync::level::INODE }>> {
        None
    }
    /// Fifo state, kept by the ipc layer (one pipe per fifo inode).
    fn fifo_slot(
        &self,
    ) -> Option<&sync::SpinLock<Option<Arc<dyn Any + Send + Sync>>, { sync::level::INODE }>> {
        self.socket_slot()
    }
}
