//! Raw host system calls, each with its safety note.
//!
//! Kernel paths of the machine run on stacks and in signal contexts where libc
//! is not welcome (errno lives in thread-local storage), so every call is made
//! with the instruction itself. Arguments are plain; results are
//! [`Result`]s that carry the host's error number. A call that may be
//! interrupted returns [`Errno::EINTR`] unless its text says otherwise.
//!
//! - [`raw`]: the instruction, the error type.
//! - [`fd`]: descriptors: read, write, eventfd, memfd, sockets, files.
//! - [`mod@file`]: files and directories: open, stat, xattrs, links.
//! - [`event`]: poll, epoll, signalfd; reads and writes that do not wait; randomness.
//! - [`tty`]: terminals of the host.
//! - [`misc`]: what is asked once, at the start.
//! - [`mem`]: maps, unmaps, protects. [`arena`]: a heap that processes share.
//! - [`task`]: processes and threads: clone, wait, kill, affinity, limits.
//! - [`signal`]: handlers, masks, alternate stacks.
//! - [`time`]: clocks, timers, futexes.
//! - [`rights`], [`landlock`], [`mount`]: what a process gives up.
//!
//! Neighbours: `arch-um` and `host-os` above, nothing below but the host.
#![no_std]

pub mod arena;
pub mod event;
pub mod fd;
pub mod file;
pub mod landlock;
pub mod mem;
pub mod misc;
pub mod mount;
pub mod raw;
pub mod rights;
pub mod signal;
pub mod task;
pub mod time;
pub mod tty;

pub use raw::{Errno, Result};
