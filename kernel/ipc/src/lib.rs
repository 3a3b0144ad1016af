//! Descriptor-based communication.
//!
//! - [`Ipc`]: the root object; makes every kind of descriptor below.
//! - [`pipe`]: pipes and fifos; [`splice`]: moving data between pipes and files.
//! - [`poll`]: waiting for several files: poll(2), select(2).
//! - [`epoll`]: epoll(7). [`eventfd`], [`timerfd`], [`signalfd`]: event descriptors.
//! - [`inotify`]: inotify(7), on the events of `vfs::notify`.
//!
//! - [`sysv`]: System V shared memory, semaphores and message queues.
//!
//! Neighbours: `vfs` (files, anonymous inodes, readiness), `sync` (wait queues,
//! timers). The layers above install the files that [`Ipc`] makes in descriptor tables.
//!
//! # Lock order
//! ```text
//! Ipc::nest (sleeping)          structure of nested epolls
//!   Epoll::scan (sleeping)      one epoll_wait at a time
//!   Ring (sleeping)             contents of a pipe; held across user copies
//!     level IPC                 item tables, timer state
//!       level WAIT              ready lists, wait queues
//! ```
//! Conditions that waiters check (`ready` closures, `poll`) read atomics or take
//! spin locks; they never take a sleeping lock.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod epoll;
pub mod eventfd;
pub mod inotify;
pub mod pipe;
pub mod poll;
mod root;
pub mod signalfd;
pub mod splice;
pub mod sysv;
#[cfg(test)]
mod tests;
pub mod timerfd;

pub use root::Ipc;
