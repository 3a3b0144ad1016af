//! Copy-up.

use crate::inode::OvlInode;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use tmpfs::TmpInode;
use vfs::generic::FileData;
use vfs::inode::{InodeRef, NewNode};
use vfs::{FileType, Inode};

impl OvlInode {
    /// The upper inode, made with the lower one's attributes if need be. Contents stay below.
    pub(crate) fn copy_up(&self) -> Result<&Arc<TmpInode>> {
        if let Some(u) = self.upper() {
            return Ok(u);
        }
        {
            let _one = self.copying.lock();
            if self.upper().is_none() {
                self.make_upper()?;
            }
        }
        self.pin();
        self.upper().ok_or(Errno::EIO)
    }

    /// The upper inode, with the contents: the first `len` bytes of them.
    pub(crate) fn copy_up_data(&self, len: u64) -> Result<&Arc<TmpInode>> {
        let upper = self.copy_up()?;
        if self.has_data() {
            return Ok(upper);
        }
        let _one = self.copying.lock();
        if self.has_data() {
            return Ok(upper);
        }
        let lower = self.lower().ok_or(Errno::EIO)?;
        let from = lower.page_cache().ok_or(Errno::EINVAL)?;
        let cache = upper.cache().ok_or(Errno::EINVAL)?;
        let len = len.min(from.size());
        if len > 0 {
            let want = usize::try_from(len).map_err(|_| Errno::ENOSPC)?;
            if upper.reserve(0, want)? < want {
                return Err(Errno::ENOSPC);
            }
            if let Err(e) = cache.copy_from(&from, len) {
                // Half a copy must not be taken for the file.
                cache.truncate(0)?;
                upper.recharge();
                return Err(e);
            }
            upper.recharge();
        }
        self.data_up.store(true, Ordering::Release);
        Ok(upper)
    }

    fn make_upper(&self) -> Result {
        let lower = self.lower().ok_or(Errno::EIO)?;
        let a = lower.attr()?;
        let target;
        let node = match self.file_type() {
            FileType::Regular => NewNode::Regular,
            FileType::Dir => NewNode::Dir,
            FileType::Symlink => {
                target = lower.read_link()?;
                NewNode::Symlink(&target)
            }
            t @ (FileType::Fifo | FileType::Socket) => NewNode::Special(t),
            t @ (FileType::Char | FileType::Block) => NewNode::Device(t, a.rdev),
        };
        let new = self
            .core
            .upper
            .new_node(&node, a.mode & 0o7777, a.uid, a.gid)?;
        copy_xattrs(lower, &new)?;
        new.set_times(a.atime, a.mtime, a.ctime);
        self.set_upper(new);
        Ok(())
    }
}

fn copy_xattrs(from: &InodeRef, to: &TmpInode) -> Result {
    let names = match from.list_xattr() {
        Ok(n) => n,
        // Names that may not be read are not there for us.
        Err(Errno::EOPNOTSUPP | Errno::EACCES | Errno::EPERM | Errno::ENOENT) => return Ok(()),
        Err(e) => return Err(e),
    };
    for name in names {
        match from.get_xattr(&name) {
            Ok(v) => to.set_xattr(&name, &v, 0)?,
            Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::EACCES | Errno::EPERM) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
