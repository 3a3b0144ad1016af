//! Terminals.
//!
//! - [`init`], [`open_streams`], [`mount_devpts`], [`session_info`]: what boot calls.
//! - [`Terminals`]: the root object; registers the drivers, takes device events.
//! - [`tty`]: [`Tty`], a terminal: settings, input, output, who controls it.
//! - [`ldisc`]: the line discipline, a state machine of its own; [`termios`]: settings.
//! - [`job`]: job control: sessions, foreground groups, hang-up; [`ioctl`]: ioctl_tty(2).
//! - [`pty`], [`devpts`]: pseudo-terminals. [`console`]: the host terminal.
//! - [`stream`]: host pipes and files as descriptors 0 to 2.
//!
//! Neighbours: `task` (sessions, signals), `vfs` (files, device table), `hal` (console, streams).
//!
//! # Lock order
//! ```text
//! level IPC    state of one terminal; table of pseudo-terminals. Never two at once
//!   level TASK and inner   signals to process groups are sent after the lock is released
//!   level WAIT             wait queues
//! ```
//! The host is called with no lock held: [`console`] takes bytes out first.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

mod boot;
pub mod console;
pub mod devpts;
pub mod ioctl;
pub mod job;
pub mod ldisc;
pub mod pty;
mod root;
pub mod stream;
pub mod termios;
#[cfg(test)]
mod tests;
pub mod tty;

pub use boot::{finish_output, init, mount_devpts, open_streams};
pub use job::{session_exit, session_info};
pub use root::Terminals;
pub use tty::Tty;
