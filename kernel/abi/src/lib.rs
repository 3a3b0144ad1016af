//! Linux ABI: numbers, error codes and structures that cross the boundary to guest programs.
//!
//! Layouts and numbers are those of x86-64 Linux as the man pages and the
//! exported kernel headers give them. Structures derive `zerocopy` traits, so
//! they become bytes without unsafe code. One module per family:
//! [`errno`], [`signal`], [`time`], [`stat`], [`process`], [`io`], [`ioctl`], and others as their users need them.
#![no_std]
#![forbid(unsafe_code)]

pub mod errno;
pub mod io;
pub mod ioctl;
pub mod process;
pub mod signal;
pub mod stat;
pub mod sysv;
pub mod time;

pub use errno::{Errno, Result};
pub use linux_raw_sys::general as raw;
pub use signal::{SigAction, SigInfo, SigSet, SigStack};
