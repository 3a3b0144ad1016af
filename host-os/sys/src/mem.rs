//! Mappings of this process.

use crate::raw::{Result, call3, call6};

/// mmap(2).
///
/// # Safety
/// With `MAP_FIXED`, nothing else may use `[addr, addr + len)`.
pub unsafe fn mmap(
    addr: usize,
    len: usize,
    prot: i32,
    flags: i32,
    fd: i32,
    offset: u64,
) -> Result<usize> {
    let args = [
        addr,
        len,
        prot as usize,
        flags as usize,
        fd as isize as usize,
        offset as usize,
    ];
    // SAFETY: the caller's promise.
    unsafe { call6(libc::SYS_mmap, args) }
}

/// munmap(2).
///
/// # Safety
/// Nothing may use the range any more.
pub unsafe fn munmap(addr: usize, len: usize) -> Result {
    // SAFETY: the caller's promise.
    unsafe { call3(libc::SYS_munmap, addr, len, 0)? };
    Ok(())
}

/// mprotect(2).
///
/// # Safety
/// Uses of the range must fit the new rights.
pub unsafe fn mprotect(addr: usize, len: usize, prot: i32) -> Result {
    // SAFETY: the caller's promise.
    unsafe { call3(libc::SYS_mprotect, addr, len, prot as usize)? };
    Ok(())
}

/// madvise(2).
///
/// # Safety
/// The caller owns the contents of the range.
pub unsafe fn madvise(addr: usize, len: usize, advice: i32) -> Result {
    // SAFETY: the caller's promise.
    unsafe { call3(libc::SYS_madvise, addr, len, advice as usize)? };
    Ok(())
}
