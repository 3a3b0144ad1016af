//! What is asked once, when a machine starts.

use crate::raw::{Errno, Result, call3, call6};

/// `ADDR_NO_RANDOMIZE` of personality(2).
pub const ADDR_NO_RANDOMIZE: u64 = 0x004_0000;

/// personality(2); `u64::MAX` only asks. Returns the one before.
pub fn personality(persona: u64) -> Result<u64> {
    // SAFETY: no memory involved; takes effect at the next exec.
    Ok(unsafe { call3(libc::SYS_personality, persona as usize, 0, 0)? } as u64)
}

/// Whether this host has seccomp filters that can raise SIGSYS.
pub fn has_seccomp_trap() -> bool {
    const SECCOMP_GET_ACTION_AVAIL: usize = 2;
    let action: u32 = libc::SECCOMP_RET_TRAP;
    // SAFETY: reads 4 bytes.
    let r = unsafe {
        call3(
            libc::SYS_seccomp,
            SECCOMP_GET_ACTION_AVAIL,
            0,
            &raw const action as usize,
        )
    };
    r.is_ok()
}

/// Bytes of RAM of the host, sysinfo(2).
pub fn total_ram() -> Result<u64> {
    let mut info = [0u64; 16];
    // SAFETY: writes 112 bytes to `info`.
    unsafe { call3(libc::SYS_sysinfo, info.as_mut_ptr() as usize, 0, 0)? };
    // Words: uptime, three loads, total RAM, …; behind them: unit in bytes.
    let unit = (info[13] & 0xffff_ffff).max(1);
    info[4].checked_mul(unit).ok_or(Errno::EINVAL)
}

/// In the child of a fork: starts a session without a terminal.
pub fn setsid() -> Result {
    // SAFETY: no memory involved.
    unsafe { call3(libc::SYS_setsid, 0, 0, 0)? };
    Ok(())
}

/// Makes the calling process a process group of its own.
pub fn new_group() -> Result {
    // SAFETY: no memory involved.
    unsafe { call3(libc::SYS_setpgid, 0, 0, 0)? };
    Ok(())
}

/// fork(2) of a process that has one thread. 0 in the child.
///
/// # Safety
/// No other thread may exist. The child shares every descriptor.
pub unsafe fn fork() -> Result<i32> {
    let args = [libc::SIGCHLD as usize, 0, 0, 0, 0, 0];
    // SAFETY: as fork(2): no shared memory, no new stack; the caller's promise for the rest.
    Ok(unsafe { call6(libc::SYS_clone, args)? } as i32)
}

/// As [`fork`], but the two share descriptors and working directory from then on.
///
/// # Safety
/// As for [`fork`].
pub unsafe fn fork_sharing_files() -> Result<i32> {
    let flags = libc::CLONE_FILES | libc::CLONE_FS | libc::SIGCHLD;
    // SAFETY: as in `fork`.
    Ok(unsafe { call6(libc::SYS_clone, [flags as usize, 0, 0, 0, 0, 0])? } as i32)
}

/// As [`fork_sharing_files`]; the new process is a child of this one's parent.
///
/// # Safety
/// As for [`fork`].
pub unsafe fn fork_sibling() -> Result<i32> {
    let flags = libc::CLONE_FILES | libc::CLONE_FS | libc::CLONE_PARENT | libc::SIGCHLD;
    // SAFETY: as in `fork`.
    Ok(unsafe { call6(libc::SYS_clone, [flags as usize, 0, 0, 0, 0, 0])? } as i32)
}
