//! One import for the tests: libc's names, with the helpers of [`crate::common`] in front of them.

pub use crate::common::{
    Gate, R, RDWR, St, block, chmod, chown, close, cs, describe, errno, errno_name, exec, forever,
    fork, fstat, get, gettid, handle, is_root, kind, link, ls, me, members, mkdir, ms, niceness,
    nop, now_ms, open, open_mode, pair, pending, pipe, pipe2, put, read, rename, rmdir, run, set,
    set_action, show, sig, skip_root, stat, symlink, took, ts, unblock, unlink, until_asleep,
    until_state, wait, wait_opt, write, zero,
};
pub use libc::*;
pub use std::ptr::{null, null_mut};
pub use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};

pub const F_SETSIG: i32 = 10;
pub const F_GETSIG: i32 = 11;
