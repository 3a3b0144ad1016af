//! Everything that touches the host except CPU and MMU: memory file, host
//! directories, consoles, clocks, entropy.
//!
//! - [`platform`]: [`platform::HostPlatform`]: all of it put together as [`hal::Platform`].
//! - [`mem`]: the memory file.
//! - [`dir`]: trees of the host's file system.
//! - [`console`], `guardian`: the host terminal, and the process that gives it back.
//! - [`streams`]: stdin, stdout, stderr.
//! - [`event`], `io`, [`signals`]: device events and the thread that makes them.
//! - [`clock`], [`entropy`], [`log`], [`limits`].
//! - [`confine`]: what this process gives up before the guest's first instruction.
//! - [`shutdown`]: every way out.
//!
//! Most of it runs on kernel stacks, called by the kernel: such code makes raw
//! calls ([`host_sys`]), uses no thread-local storage, and allocates from the
//! kernel's heap like its callers. Kernel objects name host resources by index only.
//!
//! Locks, outer to inner: the console's claim; the directory cache or the
//! open-file table (never both). The kernel's spin locks are not held by callers.
//!
//! Neighbours: `hal` and `host-os/sys` below, the `lodger` command above.
#![deny(unsafe_code)]

pub mod clock;
pub mod confine;
pub mod console;
pub mod dir;
pub mod entropy;
pub mod event;
mod guardian;
mod io;
pub mod limits;
mod lock;
pub mod log;
pub mod mem;
pub mod platform;
pub mod shutdown;
pub mod signals;
pub mod streams;
