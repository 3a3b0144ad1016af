//! Calls of the host that the standard library bends: it drops trailing slashes, and has no renameat2.

use super::check;
use abi::Result;
use std::ffi::CStr;

pub fn euid() -> u32 {
    // SAFETY: a plain call.
    unsafe { libc::geteuid() }
}
pub fn egid() -> u32 {
    // SAFETY: a plain call.
    unsafe { libc::getegid() }
}
pub fn mkdir(p: &CStr, mode: u32) -> Result {
    // SAFETY: a plain call with a valid string.
    check(unsafe { libc::mkdir(p.as_ptr(), mode) })
}
pub fn truncate(p: &CStr, size: u64) -> Result {
    // SAFETY: a plain call with a valid string.
    check(unsafe { libc::truncate(p.as_ptr(), size as i64) })
}
pub fn unlink(p: &CStr) -> Result {
    // SAFETY: a plain call with a valid string.
    check(unsafe { libc::unlink(p.as_ptr()) })
}
pub fn rmdir(p: &CStr) -> Result {
    // SAFETY: a plain call with a valid string.
    check(unsafe { libc::rmdir(p.as_ptr()) })
}
pub fn link(a: &CStr, b: &CStr) -> Result {
    // SAFETY: a plain call with valid strings.
    check(unsafe { libc::link(a.as_ptr(), b.as_ptr()) })
}
pub fn symlink(target: &CStr, p: &CStr) -> Result {
    // SAFETY: a plain call with valid strings.
    check(unsafe { libc::symlink(target.as_ptr(), p.as_ptr()) })
}
pub fn rename(a: &CStr, b: &CStr, flags: u32) -> Result {
    let here = libc::AT_FDCWD;
    // SAFETY: a plain call with valid strings.
    check(unsafe { libc::renameat2(here, a.as_ptr(), here, b.as_ptr(), flags) })
}
