//! Changes that writable trees pass through to the host.

use crate::check_writable;
use crate::inode::HostInode;
use abi::{Errno, Result};
use alloc::sync::Arc;
use vfs::cred::{Cred, new_owner};
use vfs::inode::{InodeRef, NewNode, SetAttr};
use vfs::{FileType, Inode};

/// renameat2(2).
const RENAME_EXCHANGE: u32 = 2;
/// `S_IFREG`.
const REGULAR: u32 = 0o100_000;

fn own(inode: &InodeRef) -> Result<&HostInode> {
    inode.as_any().downcast_ref().ok_or(Errno::EXDEV)
}

impl HostInode {
    pub(crate) fn change_attr(&self, set: &SetAttr) -> Result {
        let core = self.core();
        check_writable(core)?;
        let path = self.path()?;
        if let Some(size) = set.size {
            // The host first: it may refuse.
            self.write_back()?;
            core.dir.truncate(&path, size)?;
            if let Some(c) = self.cache_if_any() {
                c.truncate(size)?;
            }
        }
        if set.mtime.is_some() {
            // Else writing the pages later would change the time again.
            self.write_back()?;
        }
        let SetAttr {
            mode,
            uid,
            gid,
            atime,
            mtime,
            ..
        } = *set;
        if uid.is_some() || gid.is_some() {
            core.dir.set_attr(&path, None, uid, gid, None, None)?;
        }
        if mode.is_some() || atime.is_some() || mtime.is_some() {
            core.dir.set_attr(&path, mode, None, None, atime, mtime)?;
        }
        self.look(true)
    }

    pub(crate) fn create_node(
        &self,
        name: &[u8],
        node: NewNode<'_>,
        mode: u32,
        cred: &Cred,
    ) -> Result<InodeRef> {
        let core = self.core();
        check_writable(core)?;
        let is_dir = matches!(node, NewNode::Dir);
        let (uid, gid, mode) = new_owner(self.perm()?, cred, mode, is_dir);
        let path = self.child_path(name)?;
        let made = match node {
            NewNode::Symlink(target) => {
                core.dir.symlink(&path, target)?;
                None
            }
            NewNode::Regular => Some(REGULAR | mode),
            NewNode::Dir => Some(FileType::Dir.mode_bits() | mode),
            NewNode::Special(t) => Some(t.mode_bits() | mode),
            // They would be the host's devices.
            NewNode::Device(..) => return Err(Errno::EPERM),
        };
        if let Some(m) = made {
            core.dir.create(&path, m)?;
            // The host's umask has no say in the machine.
            core.dir
                .set_attr(&path, Some(mode), None, None, None, None)?;
        }
        self.names_changed();
        let st = core.dir.stat(&path)?;
        if (st.uid, st.gid) != (uid, gid) {
            // An unprivileged user's files stay the user's.
            match core
                .dir
                .set_attr(&path, None, Some(uid), Some(gid), None, None)
            {
                Ok(()) | Err(Errno::EPERM) => {}
                Err(e) => return Err(e),
            }
        }
        let st = core.dir.stat(&path)?;
        Ok(core.inode(&st, Some(self.data()), name))
    }

    pub(crate) fn link_node(&self, name: &[u8], target: &InodeRef) -> Result {
        check_writable(self.core())?;
        let t = own(target)?;
        self.core().dir.link(&t.path()?, &self.child_path(name)?)?;
        self.names_changed();
        t.look(true)
    }

    pub(crate) fn remove_name(&self, name: &[u8], dir: bool) -> Result {
        let core = self.core();
        check_writable(core)?;
        let path = self.child_path(name)?;
        let victim = core.known(&path);
        core.dir.remove(&path, dir)?;
        if let Some(v) = victim {
            v.unlinked();
        }
        self.names_changed();
        Ok(())
    }

    pub(crate) fn rename_name(&self, old: &[u8], dir: &InodeRef, new: &[u8], flags: u32) -> Result {
        let core = self.core();
        check_writable(core)?;
        let to = own(dir)?;
        if !Arc::ptr_eq(core, to.core()) {
            return Err(Errno::EXDEV);
        }
        let (from, into) = (self.child_path(old)?, to.child_path(new)?);
        let victim = core.known(&into).filter(|_| flags & RENAME_EXCHANGE == 0);
        core.dir.rename(&from, &into, flags)?;
        if let Some(v) = victim {
            v.unlinked();
        }
        self.names_changed();
        to.names_changed();
        // The inodes learn their new places.
        for (path, dir, name) in [(into, to, new), (from, self, old)] {
            if let Ok(st) = core.dir.stat(&path) {
                core.inode(&st, Some(dir.data()), name);
            }
        }
        Ok(())
    }
}
