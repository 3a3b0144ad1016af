//! Mounts that no name leads to, and the root of this process.

use crate::fd;
use crate::raw::{Result, call3, call6};
use core::ffi::CStr;

const SYS_OPEN_TREE: libc::c_long = 428;
const SYS_FSOPEN: libc::c_long = 430;
const SYS_FSCONFIG: libc::c_long = 431;
const SYS_FSMOUNT: libc::c_long = 432;
const SYS_MOUNT_SETATTR: libc::c_long = 442;

/// `MOUNT_ATTR_RDONLY` of mount_setattr(2).
pub const READ_ONLY: u64 = 0x1;
/// `MOUNT_ATTR_NOSUID`.
pub const NO_SUID: u64 = 0x2;
/// `MOUNT_ATTR_NODEV`.
pub const NO_DEV: u64 = 0x4;
/// `MOUNT_ATTR_NOEXEC`.
pub const NO_EXEC: u64 = 0x8;
/// `MOUNT_ATTR_NOATIME`.
pub const NO_ATIME: u64 = 0x10;
/// All ways to keep access times.
const ATIME_MASK: u64 = 0x70;

/// A new empty file system of type `kind`, mounted nowhere: a descriptor of its top.
pub fn detached(kind: &CStr, attributes: u64) -> Result<i32> {
    const CLOEXEC: usize = 1;
    const CREATE: usize = 6;
    // SAFETY: reads the name; makes descriptors.
    unsafe {
        let fs = call3(SYS_FSOPEN, kind.as_ptr() as usize, CLOEXEC, 0)? as i32;
        let made = call6(SYS_FSCONFIG, [fs as usize, CREATE, 0, 0, 0, 0])
            .and_then(|_| call3(SYS_FSMOUNT, fs as usize, CLOEXEC, attributes as usize));
        fd::close(fs);
        Ok(made? as i32)
    }
}

/// A copy, mounted nowhere, of the mount at `path` below `dir`, from there on and with all
/// mounts below, with `attributes` added: a descriptor of its top.
pub fn copy(dir: i32, path: &CStr, attributes: u64) -> Result<i32> {
    const CLONE: i32 = 1;
    const AT_RECURSIVE: i32 = 0x8000;
    let flags = CLONE | libc::O_CLOEXEC | AT_RECURSIVE | libc::AT_EMPTY_PATH;
    // SAFETY: reads the path.
    let top = unsafe {
        call3(
            SYS_OPEN_TREE,
            dir as isize as usize,
            path.as_ptr() as usize,
            flags as usize,
        )?
    } as i32;
    let clear = if attributes & ATIME_MASK != 0 {
        ATIME_MASK
    } else {
        0
    };
    // struct mount_attr: set, clear, propagation, user namespace.
    let attr = [attributes, clear, libc::MS_PRIVATE, 0];
    let args = [
        top as usize,
        c"".as_ptr() as usize,
        (libc::AT_EMPTY_PATH | AT_RECURSIVE) as usize,
        attr.as_ptr() as usize,
        size_of_val(&attr),
        0,
    ];
    // SAFETY: reads the structure.
    match unsafe { call6(SYS_MOUNT_SETATTR, args) } {
        Ok(_) => Ok(top),
        Err(e) => {
            fd::close(top);
            Err(e)
        }
    }
}

/// Makes the directory `dir` this process's root and working directory; fchdir(2), chroot(2).
pub fn enter(dir: i32) -> Result {
    // SAFETY: no memory but a constant path.
    unsafe {
        call3(libc::SYS_fchdir, dir as usize, 0, 0)?;
        call3(libc::SYS_chroot, c".".as_ptr() as usize, 0, 0)?;
    }
    Ok(())
}
