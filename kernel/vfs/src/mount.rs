//! Mounts and the table of file-system types.

use crate::file::Caller;
use crate::inode::SuperBlock;
use crate::path::Path;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;

bitflags::bitflags! {
    /// Flags of mount(2) that belong to a mount (MS_* values).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct MountFlags: u64 {
        /// `MS_RDONLY`
        const RDONLY = 1;
        /// `MS_NOSUID`
        const NOSUID = 2;
        /// `MS_NODEV`
        const NODEV = 4;
        /// `MS_NOEXEC`
        const NOEXEC = 8;
        /// `MS_NOATIME`
        const NOATIME = 1024;
        /// `MS_NODIRATIME`
        const NODIRATIME = 2048;
        /// `MS_RELATIME`
        const RELATIME = 1 << 21;
    }
}

/// A file system at a place in the tree.
pub struct Mount {
    /// File system.
    pub sb: Arc<dyn SuperBlock>,
}

impl Mount {
    /// Flags now.
    pub fn flags(&self) -> MountFlags {
        MountFlags::empty()
    }
    /// Number as in /proc/PID/mountinfo.
    pub fn id(&self) -> u64 {
        0
    }
    /// The root of the mount as a path.
    pub fn root(self: &Arc<Self>) -> Path {
        unreachable!("no mount exists yet")
    }
}

/// All mounts that a process sees.
pub struct MountNs {
    _private: (),
}

/// One line of /proc/PID/mounts and mountinfo.
#[expect(missing_docs)]
pub struct MountInfo {
    pub id: u64,
    pub parent_id: u64,
    pub dev: u64,
    /// Path of the mount's root within its file system.
    pub root: Vec<u8>,
    /// Mount point as seen from the given root.
    pub target: Vec<u8>,
    pub flags: MountFlags,
    pub fs_type: &'static str,
    pub source: Vec<u8>,
    pub options: Vec<u8>,
}

impl MountNs {
    /// A namespace whose root is `sb`.
    pub fn new(sb: Arc<dyn SuperBlock>, source: &[u8], flags: MountFlags) -> Arc<MountNs> {
        let _ = (sb, source, flags);
        Arc::new(MountNs { _private: () })
    }
    /// Root of the tree.
    pub fn root(&self) -> Path {
        unreachable!("no mount exists yet")
    }
    /// Mounts `sb` on directory (or file, for binds) `at`.
    pub fn mount(
        &self,
        at: &Path,
        sb: Arc<dyn SuperBlock>,
        source: &[u8],
        flags: MountFlags,
    ) -> Result<Arc<Mount>> {
        let _ = (at, sb, source, flags);
        Err(Errno::ENOSYS)
    }
    /// MS_BIND (`recursive`: MS_REC).
    pub fn bind(&self, from: &Path, at: &Path, recursive: bool) -> Result<Arc<Mount>> {
        let _ = (from, at, recursive);
        Err(Errno::ENOSYS)
    }
    /// MS_MOVE.
    pub fn move_mount(&self, from: &Path, to: &Path) -> Result {
        let _ = (from, to);
        Err(Errno::ENOSYS)
    }
    /// MS_REMOUNT, with MS_BIND only the mount's flags.
    pub fn remount(&self, at: &Path, flags: MountFlags, data: &[u8]) -> Result {
        let _ = (at, flags, data);
        Err(Errno::ENOSYS)
    }
    /// umount2(2): `detach` = MNT_DETACH. [`Errno::EBUSY`], [`Errno::EINVAL`].
    pub fn unmount(&self, at: &Path, detach: bool) -> Result {
        let _ = (at, detach);
        Err(Errno::ENOSYS)
    }
    /// pivot_root(2).
    pub fn pivot_root(&self, new_root: &Path, put_old: &Path) -> Result {
        let _ = (new_root, put_old);
        Err(Errno::ENOSYS)
    }
    /// The mounts below `root`, in mount order.
    pub fn list(&self, root: &Path) -> Vec<MountInfo> {
        let _ = root;
        Vec::new()
    }
    /// sync(2) of all file systems.
    pub fn sync_all(&self) {}
}

/// A row of the table of file-system types: for mount(2) and /proc/filesystems.
#[derive(Clone, Copy)]
pub struct FsType {
    /// Name.
    pub name: &'static str,
    /// Needs a block device.
    pub needs_dev: bool,
    /// Makes a file system from source and data of mount(2).
    pub mount: fn(cx: &dyn Caller, source: &[u8], data: &[u8]) -> Result<Arc<dyn SuperBlock>>,
}
