//! Rights that a process gives up: capabilities, host calls.

use crate::raw::{Result, call3};
use crate::task;

/// Numbers of capabilities(7).
pub mod cap {
    #![expect(missing_docs)]
    pub const CHOWN: u32 = 0;
    pub const DAC_OVERRIDE: u32 = 1;
    pub const DAC_READ_SEARCH: u32 = 2;
    pub const FOWNER: u32 = 3;
    pub const FSETID: u32 = 4;
    pub const SYS_CHROOT: u32 = 18;
    pub const SYS_ADMIN: u32 = 21;
    pub const SYS_NICE: u32 = 23;
}

/// `_LINUX_CAPABILITY_VERSION_3`, and whom it is about: the calling thread.
const HEADER: [u32; 2] = [0x2008_0522, 0];

/// The calling thread's effective and permitted capabilities, a bit each; capget(2).
pub fn capabilities() -> Result<(u64, u64)> {
    let mut sets = [0u32; 6];
    // SAFETY: reads the header, writes two structures of three words.
    unsafe {
        call3(
            libc::SYS_capget,
            HEADER.as_ptr() as usize,
            sets.as_mut_ptr() as usize,
            0,
        )?
    };
    let join = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
    Ok((join(sets[0], sets[3]), join(sets[1], sets[4])))
}

/// Leaves the calling thread the capabilities in `keep`, which it has; capset(2).
/// `EPERM`: it does not have some in `keep`.
pub fn keep_capabilities(keep: u64) -> Result {
    let (low, high) = (keep as u32, (keep >> 32) as u32);
    let sets = [low, low, 0, high, high, 0];
    // SAFETY: reads the header and two structures of three words.
    unsafe {
        call3(
            libc::SYS_capset,
            HEADER.as_ptr() as usize,
            sets.as_ptr() as usize,
            0,
        )?
    };
    Ok(())
}

/// No program that this thread executes gets more rights than it has.
pub fn no_new_privileges() -> Result {
    // SAFETY: a number, about this thread only.
    unsafe { task::prctl(libc::PR_SET_NO_NEW_PRIVS, 1)? };
    Ok(())
}

/// Puts the calling thread, and with `all_threads` the whole process, under a seccomp(2)
/// filter. `EINVAL`: not a filter. `ESRCH`: a thread has got another filter.
pub fn filter_calls(program: &[libc::sock_filter], all_threads: bool) -> Result {
    const SET_MODE_FILTER: usize = 1;
    let fprog = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_ptr().cast_mut(),
    };
    let mut flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    if all_threads {
        flags |= libc::SECCOMP_FILTER_FLAG_TSYNC | libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
    }
    // SAFETY: reads the program.
    unsafe {
        call3(
            libc::SYS_seccomp,
            SET_MODE_FILTER,
            flags as usize,
            &raw const fprog as usize,
        )?
    };
    Ok(())
}
