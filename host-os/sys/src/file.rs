//! Files and directories by descriptor. Nothing here follows a symbolic link
//! unless its flags say so, and every path is relative to a directory descriptor.

use crate::raw::{Result, call3, call6};
use core::ffi::CStr;
use core::mem::MaybeUninit;

/// `struct open_how` of openat2(2).
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// openat(2).
pub fn openat(dir: i32, path: &CStr, flags: i32, mode: u32) -> Result<i32> {
    let args = [
        dir as isize as usize,
        path.as_ptr() as usize,
        flags as usize,
        mode as usize,
        0,
        0,
    ];
    // SAFETY: reads the NUL-terminated path.
    Ok(unsafe { call6(libc::SYS_openat, args)? } as i32)
}

/// openat2(2) with `RESOLVE_*` flags. `ENOSYS` before Linux 5.6.
pub fn openat2(dir: i32, path: &CStr, flags: i32, mode: u32, resolve: u64) -> Result<i32> {
    let how = OpenHow {
        flags: flags as u32 as u64,
        mode: mode as u64,
        resolve,
    };
    let args = [
        dir as isize as usize,
        path.as_ptr() as usize,
        &raw const how as usize,
        size_of::<OpenHow>(),
        0,
        0,
    ];
    // SAFETY: reads the path and the structure.
    Ok(unsafe { call6(libc::SYS_openat2, args)? } as i32)
}

/// fstatat(2).
pub fn statat(dir: i32, path: &CStr, flags: i32) -> Result<libc::stat> {
    let mut st = MaybeUninit::<libc::stat>::uninit();
    let args = [
        dir as isize as usize,
        path.as_ptr() as usize,
        st.as_mut_ptr() as usize,
        flags as usize,
        0,
        0,
    ];
    // SAFETY: on success the whole structure has been written; on x86-64 libc's
    // layout is the kernel's.
    unsafe {
        call6(libc::SYS_newfstatat, args)?;
        Ok(st.assume_init())
    }
}

/// fstat(2).
pub fn fstat(fd: i32) -> Result<libc::stat> {
    let mut st = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: as in `statat`.
    unsafe {
        call3(libc::SYS_fstat, fd as usize, st.as_mut_ptr() as usize, 0)?;
        Ok(st.assume_init())
    }
}

/// fstatfs(2).
pub fn fstatfs(fd: i32) -> Result<libc::statfs> {
    let mut st = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: as in `statat`.
    unsafe {
        call3(libc::SYS_fstatfs, fd as usize, st.as_mut_ptr() as usize, 0)?;
        Ok(st.assume_init())
    }
}

/// readlinkat(2); an empty path reads the link that `dir` refers to.
pub fn readlinkat(dir: i32, path: &CStr, buf: &mut [u8]) -> Result<usize> {
    let args = [
        dir as isize as usize,
        path.as_ptr() as usize,
        buf.as_mut_ptr() as usize,
        buf.len(),
        0,
        0,
    ];
    // SAFETY: writes at most `buf.len()` bytes to `buf`.
    unsafe { call6(libc::SYS_readlinkat, args) }
}

/// getdents64(2): fills `buf` with records, 0 at the end.
pub fn getdents(fd: i32, buf: &mut [u8]) -> Result<usize> {
    // SAFETY: writes at most `buf.len()` bytes to `buf`.
    unsafe {
        call3(
            libc::SYS_getdents64,
            fd as usize,
            buf.as_mut_ptr() as usize,
            buf.len(),
        )
    }
}

/// mknodat(2).
pub fn mknodat(dir: i32, path: &CStr, mode: u32, dev: u64) -> Result {
    let args = [
        dir as isize as usize,
        path.as_ptr() as usize,
        mode as usize,
        dev as usize,
        0,
        0,
    ];
    // SAFETY: reads the path.
    unsafe { call6(libc::SYS_mknodat, args)? };
    Ok(())
}

/// mkdirat(2).
pub fn mkdirat(dir: i32, path: &CStr, mode: u32) -> Result {
    // SAFETY: reads the path.
    unsafe {
        call3(
            libc::SYS_mkdirat,
            dir as isize as usize,
            path.as_ptr() as usize,
            mode as usize,
        )?
    };
    Ok(())
}

/// symlinkat(2).
pub fn symlinkat(target: &CStr, dir: i32, path: &CStr) -> Result {
    // SAFETY: reads both paths.
    unsafe {
        call3(
            libc::SYS_symlinkat,
            target.as_ptr() as usize,
            dir as isize as usize,
            path.as_ptr() as usize,
        )?
    };
    Ok(())
}

/// linkat(2) without following a final symbolic link.
pub fn linkat(old_dir: i32, old: &CStr, new_dir: i32, new: &CStr) -> Result {
    let args = [
        old_dir as isize as usize,
        old.as_ptr() as usize,
        new_dir as isize as usize,
        new.as_ptr() as usize,
        0,
        0,
    ];
    // SAFETY: reads both paths.
    unsafe { call6(libc::SYS_linkat, args)? };
    Ok(())
}

/// unlinkat(2); `AT_REMOVEDIR` for directories.
pub fn unlinkat(dir: i32, path: &CStr, flags: i32) -> Result {
    // SAFETY: reads the path.
    unsafe {
        call3(
            libc::SYS_unlinkat,
            dir as isize as usize,
            path.as_ptr() as usize,
            flags as usize,
        )?
    };
    Ok(())
}

/// renameat2(2).
pub fn renameat2(old_dir: i32, old: &CStr, new_dir: i32, new: &CStr, flags: u32) -> Result {
    let args = [
        old_dir as isize as usize,
        old.as_ptr() as usize,
        new_dir as isize as usize,
        new.as_ptr() as usize,
        flags as usize,
        0,
    ];
    // SAFETY: reads both paths.
    unsafe { call6(libc::SYS_renameat2, args)? };
    Ok(())
}

/// fchmodat2(2) (Linux 6.6, else `ENOSYS`).
pub fn fchmodat2(dir: i32, path: &CStr, mode: u32, flags: i32) -> Result {
    const SYS_FCHMODAT2: libc::c_long = 452;
    let args = [
        dir as isize as usize,
        path.as_ptr() as usize,
        mode as usize,
        flags as usize,
        0,
        0,
    ];
    // SAFETY: reads the path.
    unsafe { call6(SYS_FCHMODAT2, args)? };
    Ok(())
}

/// fchmod(2).
pub fn fchmod(fd: i32, mode: u32) -> Result {
    // SAFETY: no memory involved.
    unsafe { call3(libc::SYS_fchmod, fd as usize, mode as usize, 0)? };
    Ok(())
}

/// fchownat(2); `u32::MAX` keeps an id.
pub fn fchownat(dir: i32, path: &CStr, uid: u32, gid: u32, flags: i32) -> Result {
    let args = [
        dir as isize as usize,
        path.as_ptr() as usize,
        uid as usize,
        gid as usize,
        flags as usize,
        0,
    ];
    // SAFETY: reads the path.
    unsafe { call6(libc::SYS_fchownat, args)? };
    Ok(())
}

/// utimensat(2): access and modification time in ns since 1970; `None` keeps.
pub fn utimensat(
    dir: i32,
    path: &CStr,
    atime_ns: Option<i64>,
    mtime_ns: Option<i64>,
    flags: i32,
) -> Result {
    let spec = |t: Option<i64>| match t {
        Some(ns) => libc::timespec {
            tv_sec: ns.div_euclid(1_000_000_000),
            tv_nsec: ns.rem_euclid(1_000_000_000),
        },
        None => libc::timespec {
            tv_sec: 0,
            tv_nsec: libc::UTIME_OMIT,
        },
    };
    let times = [spec(atime_ns), spec(mtime_ns)];
    let args = [
        dir as isize as usize,
        path.as_ptr() as usize,
        times.as_ptr() as usize,
        flags as usize,
        0,
        0,
    ];
    // SAFETY: reads the path and both times.
    unsafe { call6(libc::SYS_utimensat, args)? };
    Ok(())
}

/// fsync(2).
pub fn fsync(fd: i32) -> Result {
    // SAFETY: no memory involved.
    unsafe { call3(libc::SYS_fsync, fd as usize, 0, 0)? };
    Ok(())
}

/// lseek(2).
pub fn lseek(fd: i32, offset: i64, whence: u32) -> Result<u64> {
    // SAFETY: no memory involved.
    Ok(unsafe {
        call3(
            libc::SYS_lseek,
            fd as usize,
            offset as usize,
            whence as usize,
        )?
    } as u64)
}

/// flock(2).
pub fn flock(fd: i32, op: i32) -> Result {
    // SAFETY: no memory involved.
    unsafe { call3(libc::SYS_flock, fd as usize, op as usize, 0)? };
    Ok(())
}

/// fcntl(2) with a number as its argument.
pub fn fcntl(fd: i32, op: i32, arg: usize) -> Result<usize> {
    debug_assert!(
        matches!(
            op,
            libc::F_GETFL
                | libc::F_SETFL
                | libc::F_GETFD
                | libc::F_SETFD
                | libc::F_DUPFD_CLOEXEC
                | libc::F_ADD_SEALS
        ),
        "fcntl operation with a pointer"
    );
    // SAFETY: the operations named above take numbers.
    unsafe { call3(libc::SYS_fcntl, fd as usize, op as usize, arg) }
}

/// fgetxattr(2); an empty `buf` asks for the length.
pub fn fgetxattr(fd: i32, name: &CStr, buf: &mut [u8]) -> Result<usize> {
    let args = [
        fd as usize,
        name.as_ptr() as usize,
        buf.as_mut_ptr() as usize,
        buf.len(),
        0,
        0,
    ];
    // SAFETY: reads the name, writes at most `buf.len()` bytes to `buf`.
    unsafe { call6(libc::SYS_fgetxattr, args) }
}

/// flistxattr(2); an empty `buf` asks for the length.
pub fn flistxattr(fd: i32, buf: &mut [u8]) -> Result<usize> {
    // SAFETY: writes at most `buf.len()` bytes to `buf`.
    unsafe {
        call3(
            libc::SYS_flistxattr,
            fd as usize,
            buf.as_mut_ptr() as usize,
            buf.len(),
        )
    }
}

/// getxattrat(2) (Linux 6.13, else `ENOSYS`) without following a final link.
pub fn getxattrat(dir: i32, path: &CStr, name: &CStr, buf: &mut [u8]) -> Result<usize> {
    #[repr(C)]
    struct XattrArgs {
        value: u64,
        size: u32,
        flags: u32,
    }
    const SYS_GETXATTRAT: libc::c_long = 464;
    let xa = XattrArgs {
        value: buf.as_mut_ptr() as u64,
        size: buf.len().min(u32::MAX as usize) as u32,
        flags: 0,
    };
    let args = [
        dir as isize as usize,
        path.as_ptr() as usize,
        (libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) as usize,
        name.as_ptr() as usize,
        &raw const xa as usize,
        size_of::<XattrArgs>(),
    ];
    // SAFETY: reads path, name and structure, writes at most `size` bytes to `buf`.
    unsafe { call6(SYS_GETXATTRAT, args) }
}

/// listxattrat(2) (Linux 6.13, else `ENOSYS`) without following a final link.
pub fn listxattrat(dir: i32, path: &CStr, buf: &mut [u8]) -> Result<usize> {
    const SYS_LISTXATTRAT: libc::c_long = 465;
    let args = [
        dir as isize as usize,
        path.as_ptr() as usize,
        (libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) as usize,
        buf.as_mut_ptr() as usize,
        buf.len(),
        0,
    ];
    // SAFETY: reads the path, writes at most `buf.len()` bytes to `buf`.
    unsafe { call6(SYS_LISTXATTRAT, args) }
}

/// Sets this process's umask(2); returns the one before.
pub fn umask(mask: u32) -> u32 {
    // SAFETY: no memory involved; cannot fail.
    unsafe { call3(libc::SYS_umask, mask as usize, 0, 0) }.unwrap_or(0) as u32
}
