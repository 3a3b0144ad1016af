//! Places in the tree: [`Dentry`], [`Path`], and what a process sees of it: [`FsContext`].

use crate::inode::InodeRef;
use crate::mount::Mount;
use alloc::sync::Arc;
use alloc::vec::Vec;
use sync::{SpinLock, level};

/// A name in a directory and the inode it leads to; negative if there is none.
pub struct Dentry {
    inode: Option<InodeRef>,
}

impl Dentry {
    /// The inode; `None` for a negative dentry.
    pub fn inode(&self) -> Option<InodeRef> {
        self.inode.clone()
    }
    /// Name in the parent; empty for a root.
    pub fn name(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// A dentry on a mount.
#[derive(Clone)]
pub struct Path {
    /// Mount.
    pub mnt: Arc<Mount>,
    /// Place in its file system.
    pub dentry: Arc<Dentry>,
}

/// Root, working directory and umask: shared by threads, copied by fork (CLONE_FS).
pub struct FsContext {
    inner: SpinLock<FsInner, { level::DENTRY }>,
}

#[derive(Clone)]
struct FsInner {
    root: Path,
    cwd: Path,
    umask: u32,
}

impl FsContext {
    /// With the given root and working directory, umask 022.
    pub fn new(root: Path, cwd: Path) -> Arc<FsContext> {
        Arc::new(FsContext {
            inner: SpinLock::new(FsInner {
                root,
                cwd,
                umask: 0o022,
            }),
        })
    }
    /// A copy (fork without CLONE_FS).
    pub fn duplicate(&self) -> Arc<FsContext> {
        let inner = self.inner.lock().clone();
        Arc::new(FsContext {
            inner: SpinLock::new(inner),
        })
    }
    /// Root directory.
    pub fn root(&self) -> Path {
        self.inner.lock().root.clone()
    }
    /// Working directory.
    pub fn cwd(&self) -> Path {
        self.inner.lock().cwd.clone()
    }
    /// Sets the root (chroot).
    pub fn set_root(&self, p: Path) {
        let old = core::mem::replace(&mut self.inner.lock().root, p);
        drop(old);
    }
    /// Sets the working directory.
    pub fn set_cwd(&self, p: Path) {
        let old = core::mem::replace(&mut self.inner.lock().cwd, p);
        drop(old);
    }
    /// File mode creation mask.
    pub fn umask(&self) -> u32 {
        self.inner.lock().umask
    }
    /// Sets it; returns the old one.
    pub fn set_umask(&self, m: u32) -> u32 {
        core::mem::replace(&mut self.inner.lock().umask, m & 0o777)
    }
}
