//! Handlers, masks, alternate stacks.

use crate::raw::{Result, call3, call6};

/// The kernel's `struct sigaction`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Action {
    /// Address of the handler, `SIG_DFL` or `SIG_IGN`.
    pub handler: usize,
    /// `SA_*`; a handler needs `SA_RESTORER` (0x0400_0000).
    pub flags: u64,
    /// Address of code that calls rt_sigreturn(2).
    pub restorer: usize,
    /// Signals blocked while the handler runs.
    pub mask: u64,
}

/// `SA_RESTORER`, which libc does not export.
pub const SA_RESTORER: u64 = 0x0400_0000;

/// The bit of `signo` in a mask.
pub const fn bit(signo: i32) -> u64 {
    1 << (signo - 1)
}

/// rt_sigaction(2). Returns the action before.
///
/// # Safety
/// The handler must do only what a signal handler may do, and the restorer must return.
pub unsafe fn set_action(signo: i32, action: &Action) -> Result<Action> {
    let mut old = Action {
        handler: 0,
        flags: 0,
        restorer: 0,
        mask: 0,
    };
    let args = [
        signo as usize,
        &raw const *action as usize,
        &raw mut old as usize,
        8,
        0,
        0,
    ];
    // SAFETY: reads and writes one structure each; the caller answers for the handler.
    unsafe { call6(libc::SYS_rt_sigaction, args)? };
    Ok(old)
}

/// rt_sigprocmask(2) with `SIG_SETMASK`; returns the mask before.
pub fn set_mask(mask: u64) -> u64 {
    change_mask(libc::SIG_SETMASK, mask)
}

/// Blocks the signals in `mask` for this thread; returns the mask before.
pub fn block(mask: u64) -> u64 {
    change_mask(libc::SIG_BLOCK, mask)
}

/// Unblocks the signals in `mask` for this thread; returns the mask before.
pub fn unblock(mask: u64) -> u64 {
    change_mask(libc::SIG_UNBLOCK, mask)
}

fn change_mask(how: i32, mask: u64) -> u64 {
    let mut old = 0u64;
    let args = [
        how as usize,
        &raw const mask as usize,
        &raw mut old as usize,
        8,
        0,
        0,
    ];
    // SAFETY: reads and writes 8 bytes each; cannot fail with these arguments.
    let _ = unsafe { call6(libc::SYS_rt_sigprocmask, args) };
    old
}

/// sigaltstack(2) of this thread.
///
/// # Safety
/// The memory must stay valid, and be used for nothing else, as long as it is set.
pub unsafe fn set_altstack(base: usize, size: usize) -> Result {
    let ss = libc::stack_t {
        ss_sp: core::ptr::with_exposed_provenance_mut(base),
        ss_flags: 0,
        ss_size: size,
    };
    // SAFETY: reads the structure; the caller answers for the memory.
    unsafe { call3(libc::SYS_sigaltstack, &raw const ss as usize, 0, 0)? };
    Ok(())
}

/// The action of `signo`, unchanged.
pub fn action(signo: i32) -> Result<Action> {
    let mut old = Action {
        handler: 0,
        flags: 0,
        restorer: 0,
        mask: 0,
    };
    let args = [signo as usize, 0, &raw mut old as usize, 8, 0, 0];
    // SAFETY: writes one structure.
    unsafe { call6(libc::SYS_rt_sigaction, args)? };
    Ok(old)
}

/// Ignores `signo` from now on.
pub fn ignore(signo: i32) -> Result {
    let action = Action {
        handler: libc::SIG_IGN,
        flags: 0,
        restorer: 0,
        mask: 0,
    };
    // SAFETY: no handler.
    unsafe { set_action(signo, &action)? };
    Ok(())
}
