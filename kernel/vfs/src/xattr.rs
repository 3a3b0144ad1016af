//! Extended attributes, xattr(7): name spaces and who may do what.

use crate::cred::{Access, cap};
use crate::file::{Caller, File};
use crate::inode::{FileType, InodeRef};
use crate::mount::Mount;
use crate::notify::event;
use crate::path::Path;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// File capabilities.
pub const CAPABILITY: &[u8] = b"security.capability";
/// Longest value.
pub const VALUE_MAX: usize = 64 << 10;
const CAP_SETFCAP: u32 = 31;

/// What an attribute hangs on: a place, or an open file.
#[derive(Clone, Copy)]
pub enum On<'a> {
    /// A place.
    Path(&'a Path),
    /// An open file (fgetxattr(2)).
    File(&'a File),
}

impl On<'_> {
    fn inode(&self) -> Result<&InodeRef> {
        match self {
            On::Path(p) => p.inode(),
            On::File(f) => Ok(&f.inode),
        }
    }
    fn mount(&self) -> Option<&Arc<Mount>> {
        match self {
            On::Path(p) => Some(&p.mnt),
            On::File(f) => f.path.as_ref().map(|p| &p.mnt),
        }
    }
    fn changed(&self) {
        let p = match self {
            On::Path(p) => Some(*p),
            On::File(f) => f.path.as_ref(),
        };
        if let Some(p) = p {
            p.mnt.shared().notify_dentry(&p.dentry, event::ATTRIB);
        }
    }
}

/// Checks name and permission.
fn check(cx: &dyn Caller, on: On<'_>, name: &[u8], write: bool) -> Result {
    if name.is_empty() || name.len() > 255 {
        return Err(Errno::ERANGE);
    }
    let inode = on.inode()?;
    let cred = cx.cred();
    if write && let Some(m) = on.mount() {
        m.check_writable()?;
    }
    if let Some(rest) = name.strip_prefix(b"user.") {
        if rest.is_empty() {
            return Err(Errno::EINVAL);
        }
        if !matches!(inode.file_type(), FileType::Regular | FileType::Dir) {
            return Err(if write { Errno::EPERM } else { Errno::ENODATA });
        }
        let p = inode.perm()?;
        if write && p.is_dir() && p.mode & 0o1000 != 0 && !cred.owns(p) {
            return Err(Errno::EPERM);
        }
        cred.check(p, if write { Access::WRITE } else { Access::READ })
    } else if name.starts_with(b"trusted.") {
        if !cred.capable(cap::SYS_ADMIN) {
            return Err(if write { Errno::EPERM } else { Errno::ENODATA });
        }
        Ok(())
    } else if name.starts_with(b"security.") {
        let need = if name == CAPABILITY {
            CAP_SETFCAP
        } else {
            cap::SYS_ADMIN
        };
        if write && !cred.capable(need) {
            return Err(Errno::EPERM);
        }
        Ok(())
    } else {
        // system.posix_acl_* and unknown name spaces.
        Err(Errno::EOPNOTSUPP)
    }
}

/// getxattr(2): the value.
pub fn get(cx: &dyn Caller, on: On<'_>, name: &[u8]) -> Result<Vec<u8>> {
    check(cx, on, name, false)?;
    on.inode()?.get_xattr(name)
}

/// setxattr(2); `flags`: XATTR_CREATE 1, XATTR_REPLACE 2.
pub fn set(cx: &dyn Caller, on: On<'_>, name: &[u8], value: &[u8], flags: u32) -> Result {
    if flags & !3 != 0 {
        return Err(Errno::EINVAL);
    }
    if value.len() > VALUE_MAX {
        return Err(Errno::E2BIG);
    }
    check(cx, on, name, true)?;
    let inode = on.inode()?;
    {
        let _lock = inode.state().map(|s| s.lock.write());
        inode.set_xattr(name, value, flags)?;
    }
    on.changed();
    Ok(())
}

/// removexattr(2).
pub fn remove(cx: &dyn Caller, on: On<'_>, name: &[u8]) -> Result {
    check(cx, on, name, true)?;
    let inode = on.inode()?;
    {
        let _lock = inode.state().map(|s| s.lock.write());
        inode.remove_xattr(name)?;
    }
    on.changed();
    Ok(())
}

/// listxattr(2): the names, NUL-terminated one after the other.
pub fn list(cx: &dyn Caller, on: On<'_>) -> Result<Vec<u8>> {
    let admin = cx.cred().capable(cap::SYS_ADMIN);
    let mut out = Vec::new();
    for name in on.inode()?.list_xattr()? {
        if name.starts_with(b"trusted.") && !admin {
            continue;
        }
        out.extend_from_slice(&name);
        out.push(0);
    }
    Ok(out)
}
