//! Descriptors. They are plain numbers here; who owns one closes it.

use crate::raw::{Result, call3, call6};
use core::ffi::CStr;
use core::mem::MaybeUninit;

/// read(2).
pub fn read(fd: i32, buf: &mut [u8]) -> Result<usize> {
    // SAFETY: writes at most `buf.len()` bytes to `buf`.
    unsafe {
        call3(
            libc::SYS_read,
            fd as usize,
            buf.as_mut_ptr() as usize,
            buf.len(),
        )
    }
}

/// write(2).
pub fn write(fd: i32, buf: &[u8]) -> Result<usize> {
    // SAFETY: reads `buf` only.
    unsafe {
        call3(
            libc::SYS_write,
            fd as usize,
            buf.as_ptr() as usize,
            buf.len(),
        )
    }
}

/// Reads one 8-byte word, as eventfd(2) gives it.
pub fn read_u64(fd: i32) -> Result<u64> {
    let mut v = 0u64;
    // SAFETY: writes 8 bytes to `v`.
    unsafe { call3(libc::SYS_read, fd as usize, &raw mut v as usize, 8)? };
    Ok(v)
}

/// Writes one 8-byte word, as eventfd(2) takes it.
pub fn write_u64(fd: i32, v: u64) -> Result {
    // SAFETY: reads 8 bytes of `v`.
    unsafe { call3(libc::SYS_write, fd as usize, &raw const v as usize, 8)? };
    Ok(())
}

/// pread(2).
pub fn pread(fd: i32, buf: &mut [u8], offset: u64) -> Result<usize> {
    let args = [
        fd as usize,
        buf.as_mut_ptr() as usize,
        buf.len(),
        offset as usize,
        0,
        0,
    ];
    // SAFETY: writes at most `buf.len()` bytes to `buf`.
    unsafe { call6(libc::SYS_pread64, args) }
}

/// pwrite(2).
pub fn pwrite(fd: i32, buf: &[u8], offset: u64) -> Result<usize> {
    let args = [
        fd as usize,
        buf.as_ptr() as usize,
        buf.len(),
        offset as usize,
        0,
        0,
    ];
    // SAFETY: reads `buf` only.
    unsafe { call6(libc::SYS_pwrite64, args) }
}

/// close(2).
pub fn close(fd: i32) {
    // SAFETY: the caller owns the descriptor.
    let _ = unsafe { call3(libc::SYS_close, fd as usize, 0, 0) };
}

/// close_range(2): closes `first..=last`.
pub fn close_range(first: u32, last: u32) -> Result {
    // SAFETY: the caller owns the descriptors.
    unsafe { call3(libc::SYS_close_range, first as usize, last as usize, 0)? };
    Ok(())
}

/// dup3(2) with flags.
pub fn dup3(old: i32, new: i32, flags: i32) -> Result<i32> {
    // SAFETY: descriptors only; the caller owns `new`.
    Ok(unsafe { call3(libc::SYS_dup3, old as usize, new as usize, flags as usize)? } as i32)
}

/// eventfd2(2).
pub fn eventfd(initial: u32, flags: i32) -> Result<i32> {
    // SAFETY: creates a descriptor only.
    Ok(unsafe { call3(libc::SYS_eventfd2, initial as usize, flags as usize, 0)? } as i32)
}

/// memfd_create(2).
pub fn memfd_create(name: &CStr, flags: u32) -> Result<i32> {
    // SAFETY: reads the NUL-terminated name.
    Ok(unsafe {
        call3(
            libc::SYS_memfd_create,
            name.as_ptr() as usize,
            flags as usize,
            0,
        )?
    } as i32)
}

/// open(2).
pub fn open(path: &CStr, flags: i32, mode: u32) -> Result<i32> {
    let args = [
        libc::AT_FDCWD as isize as usize,
        path.as_ptr() as usize,
        flags as usize,
        mode as usize,
        0,
        0,
    ];
    // SAFETY: reads the NUL-terminated path.
    Ok(unsafe { call6(libc::SYS_openat, args)? } as i32)
}

/// ftruncate(2).
pub fn ftruncate(fd: i32, len: u64) -> Result {
    // SAFETY: no memory involved; the owner of the file's mappings keeps them within it.
    unsafe { call3(libc::SYS_ftruncate, fd as usize, len as usize, 0)? };
    Ok(())
}

/// Gives the blocks of a range back to the file system; they read as zero.
pub fn punch_hole(fd: i32, offset: u64, len: u64) -> Result {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    let args = [
        fd as usize,
        mode as usize,
        offset as usize,
        len as usize,
        0,
        0,
    ];
    // SAFETY: the caller owns the contents of the range.
    unsafe { call6(libc::SYS_fallocate, args)? };
    Ok(())
}

/// socketpair(2), unix domain, of the given type and flags.
pub fn socketpair(kind: i32) -> Result<[i32; 2]> {
    let mut fds = [0i32; 2];
    let args = [
        libc::AF_UNIX as usize,
        kind as usize,
        0,
        fds.as_mut_ptr() as usize,
        0,
        0,
    ];
    // SAFETY: writes two descriptors to `fds`.
    unsafe { call6(libc::SYS_socketpair, args)? };
    Ok(fds)
}

/// Sends `data` with the descriptors `fds` (at most 8) in one message; unix(7).
pub fn send_fds(sock: i32, data: &[u8], fds: &[i32]) -> Result<usize> {
    #[repr(C, align(8))]
    struct Control {
        len: usize,
        level: i32,
        kind: i32,
        fds: [i32; 8],
    }
    assert!(fds.len() <= 8, "too many descriptors in one message");
    let mut control = Control {
        len: 16 + 4 * fds.len(),
        level: libc::SOL_SOCKET,
        kind: libc::SCM_RIGHTS,
        fds: [0; 8],
    };
    control.fds[..fds.len()].copy_from_slice(fds);
    let iov = libc::iovec {
        iov_base: data.as_ptr().cast_mut().cast(),
        iov_len: data.len(),
    };
    // SAFETY: all-zero is a valid msghdr.
    let mut msg: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    msg.msg_iov = (&raw const iov).cast_mut();
    msg.msg_iovlen = 1;
    if !fds.is_empty() {
        msg.msg_control = (&raw mut control).cast();
        msg.msg_controllen = (16 + 4 * fds.len()).next_multiple_of(8);
    }
    let flags = libc::MSG_NOSIGNAL;
    // SAFETY: reads the message, its one vector and the control block, all alive here.
    unsafe {
        call3(
            libc::SYS_sendmsg,
            sock as usize,
            &raw const msg as usize,
            flags as usize,
        )
    }
}
