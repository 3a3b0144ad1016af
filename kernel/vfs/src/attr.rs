//! Changes of attributes: chmod(2), chown(2), truncate(2), utimensat(2).

use crate::cred::{Access, Perm, cap};
use crate::file::{Caller, File, OpenFlags};
use crate::inode::{FileType, InodeRef, SetAttr};
use crate::namei::Walk;
use crate::notify::event;
use crate::open::size_only;
use crate::path::Path;
use crate::state::WriteAccess;
use crate::xattr::CAPABILITY;
use abi::{Errno, Result};

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

const SUID: u32 = 0o4000;
const SGID: u32 = 0o2000;

impl Walk<'_> {
    /// Attribute changes with permission checks: chmod(2), chown(2), truncate(2), utimensat(2) (`Touch`).
    pub fn set_attr(&self, path: &Path, change: Change) -> Result {
        let inode = path.inode()?;
        if let Change::Size(size) = change {
            match inode.file_type() {
                FileType::Regular => {}
                FileType::Dir => return Err(Errno::EISDIR),
                _ => return Err(Errno::EINVAL),
            }
            path.mnt.check_writable()?;
            self.cx.cred().check(inode.perm()?, Access::WRITE)?;
            let _writer = WriteAccess::write(inode)?;
            truncate(self.cx, inode, size)?;
            path.mnt.shared().notify_dentry(&path.dentry, event::MODIFY);
            return Ok(());
        }
        path.mnt.check_writable()?;
        change_inode(self.cx, inode, change)?;
        path.mnt.shared().notify_dentry(&path.dentry, event::ATTRIB);
        Ok(())
    }
}

/// As [`Walk::set_attr`] for an open file (ftruncate(2), fchmod(2)); no walk.
pub fn set_attr_of(cx: &dyn Caller, file: &File, change: Change) -> Result {
    if let Some(p) = &file.path
        && !matches!(change, Change::Size(_))
    {
        p.mnt.check_writable()?;
    }
    let mask = match change {
        Change::Size(size) => {
            if file.inode.file_type() != FileType::Regular || !file.flags().writable() {
                return Err(Errno::EINVAL);
            }
            truncate(cx, &file.inode, size)?;
            event::MODIFY
        }
        c => {
            change_inode(cx, &file.inode, c)?;
            event::ATTRIB
        }
    };
    file.notify(mask);
    Ok(())
}

/// Sets the size, with what else a truncation changes.
pub(crate) fn truncate(cx: &dyn Caller, inode: &InodeRef, size: u64) -> Result {
    if size > i64::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    let _lock = inode.state().map(|s| s.lock.write());
    let mut set = size_only(size);
    set.mode = mode_after_write(cx, inode.perm()?);
    drop_capability(inode);
    inode.set_attr(&set)
}

/// The mode that a write by this caller leaves, if it is another: without set-user-ID and set-group-ID.
pub(crate) fn mode_after_write(cx: &dyn Caller, p: Perm) -> Option<u32> {
    let mut kill = 0;
    if p.mode & SUID != 0 {
        kill |= SUID;
    }
    if p.mode & (SGID | 0o10) == SGID | 0o10 {
        kill |= SGID;
    }
    if kill == 0 || cx.cred().capable(cap::FSETID) {
        return None;
    }
    Some(p.mode & 0o7777 & !kill)
}

/// Removes file capabilities, capabilities(7), if there may be some.
pub(crate) fn drop_capability(inode: &InodeRef) {
    // Only programs have them; for others the question would cost too much.
    if inode.perm().is_ok_and(|p| p.mode & 0o111 != 0) && inode.get_xattr(CAPABILITY).is_ok() {
        // The file is about to change; a capability that cannot be removed is an error of the change itself.
        let _ = inode.remove_xattr(CAPABILITY);
    }
}

fn change_inode(cx: &dyn Caller, inode: &InodeRef, change: Change) -> Result {
    let _lock = inode.state().map(|s| s.lock.write());
    let cred = cx.cred();
    let p = inode.perm()?;
    let mut set = SetAttr::default();
    match change {
        Change::Mode(mode) => {
            if inode.file_type() == FileType::Symlink {
                return Err(Errno::EOPNOTSUPP);
            }
            if !cred.owns(p) {
                return Err(Errno::EPERM);
            }
            let mut mode = mode & 0o7777;
            if mode & SGID != 0 && !cred.in_group(p.gid) && !cred.capable(cap::FSETID) {
                mode &= !SGID;
            }
            set.mode = Some(mode);
        }
        Change::Owner(uid, gid) => {
            let chown = cred.capable(cap::CHOWN);
            if uid.is_some_and(|u| !(chown || cred.fsuid == p.uid && u == p.uid)) {
                return Err(Errno::EPERM);
            }
            if gid.is_some_and(|g| {
                !(chown || cred.fsuid == p.uid && (cred.in_group(g) || g == p.gid))
            }) {
                return Err(Errno::EPERM);
            }
            set.uid = uid;
            set.gid = gid;
            if inode.file_type() != FileType::Dir {
                let mut mode = p.mode & 0o7777 & !SUID;
                if p.mode & 0o10 != 0 {
                    mode &= !SGID;
                }
                if mode != p.mode & 0o7777 {
                    set.mode = Some(mode);
                }
                drop_capability(inode);
            }
        }
        Change::Times(atime, mtime) => {
            match (atime, mtime) {
                (Touch::Keep, Touch::Keep) => return Ok(()),
                (Touch::Now, Touch::Now) if !cred.owns(p) => cred.check(p, Access::WRITE)?,
                (Touch::Now, Touch::Now) => {}
                _ if !cred.owns(p) => return Err(Errno::EPERM),
                _ => {}
            }
            let now = cx.realtime_ns();
            let value = |t: Touch| match t {
                Touch::Keep => None,
                Touch::Now => Some(now),
                Touch::At(ns) => Some(ns),
            };
            set.atime = value(atime);
            set.mtime = value(mtime);
        }
        Change::Size(_) => return Err(Errno::EINVAL),
    }
    inode.set_attr(&set)
}

/// Whether reads of a file opened with these flags leave its atime alone.
pub(crate) fn keeps_atime(file: &File) -> bool {
    file.flags().contains(OpenFlags::NOATIME)
}
