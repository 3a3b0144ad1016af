//! Locks with levels, wait queues, timers.
//!
//! - [`SpinLock`]: short critical sections. Spins briefly, then blocks the
//!   vCPU's host thread (the holder may have been descheduled by the host).
//!   Nothing that sleeps, copies user memory or calls the host may happen inside.
//! - [`Mutex`], [`RwLock`]: sleeping locks. The task gives up its vCPU.
//! - [`WaitQueue`]: tasks (and poll callbacks) waiting for a condition.
//! - [`timer::TimerQueue`]: callbacks at a time of the monotonic clock.
//! - [`Once`]: a value set once.
//!
//! # Lock order
//! The level is part of a spin lock's type; in debug builds taking a lock whose
//! level is not above every level held panics. Levels, outermost first:
//!
//! ```text
//! 8  dentry, mount tables        (vfs)
//! 16 inode, file, page cache     (vfs, file systems)
//! 24 sockets, pipes, ttys        (ipc, net, tty)
//! 32 process, signals, futexes   (task)
//! 40 wait queues                 (sync)
//! 44 timers                      (sync)
//! 48 run queues                  (task)
//! 52 pages of a file             (mm)
//! 56 page tables                 (mm)
//! 60 leaf: logs, counters, queues of mapping requests
//! 61 heap                        (mm; so that any lock may be held while allocating)
//! 62 frames                      (mm)
//! ```
//!
//! In a machine with one vCPU all of them do without atomic changes ([`hal::cpu::StackHead::alone`]).
//!
//! `tests/loom.rs` runs the primitives through all interleavings of small programs.
#![cfg_attr(not(loom), no_std)]
extern crate alloc;

/// A function that is `const`, but for loom, whose atomics are not made at compile time.
#[cfg(not(loom))]
macro_rules! constructor {
    ($(#[$m:meta])* pub fn $($rest:tt)*) => { $(#[$m])* pub const fn $($rest)* };
}
#[cfg(loom)]
macro_rules! constructor {
    ($(#[$m:meta])* pub fn $($rest:tt)*) => { $(#[$m])* pub fn $($rest)* };
}

#[cfg(loom)]
#[path = "model.rs"]
pub mod base;
#[cfg(not(loom))]
mod base {
    //! What the primitives stand on.
    pub(crate) use crate::timer::monotonic_ns;
    pub(crate) use core::hint;
    pub(crate) use core::sync::atomic;
    pub(crate) use hal::cpu;
}
mod alone;
mod held;
mod mutex;
mod once;
mod spin;
#[cfg(not(loom))]
pub mod timer;
mod wait;

pub use alone::count;
pub use held::Held;
pub use mutex::{Mutex, MutexGuard, ReadGuard, RwLock, WriteGuard};
pub use once::Once;
pub use spin::{SpinGuard, SpinLock};
pub use wait::{WaitEntry, WaitQueue, WakeCallback, wait_event};

/// Names for the levels of the lock order above.
#[expect(missing_docs)]
pub mod level {
    pub const DENTRY: u8 = 8;
    pub const INODE: u8 = 16;
    pub const IPC: u8 = 24;
    pub const TASK: u8 = 32;
    pub const WAIT: u8 = 40;
    pub const TIMER: u8 = 44;
    pub const RUNQUEUE: u8 = 48;
    pub const PAGE_CACHE: u8 = 52;
    pub const MM: u8 = 56;
    pub const LEAF: u8 = 60;
    pub const HEAP: u8 = 61;
    pub const FRAME: u8 = 62;
}
