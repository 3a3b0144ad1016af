//! Sockets.
//!
//! - [`NetNs`]: the root object: what the sockets of a machine have in common;
//!   the table of families ([`FAMILIES`]).
//! - [`socket`]: the [`Socket`] trait, one implementation a family.
//! - [`mod@file`]: sockets as open files; making and accepting them.
//! - [`control`]: control messages as bytes. [`options`]: SOL_SOCKET.
//! - [`unix`]: the unix family, unix(7).
//!
//! Neighbours: `vfs` (files, path walk for pathname sockets), `sync`. The layer
//! above copies addresses and control messages from and to user memory.
//!
//! # Lock order
//! ```text
//! InFlight registry (sleeping)   descriptors on their way; never with a queue locked
//!   Rx (sleeping)                receive queue of one socket; held across user copies
//!     level IPC                  state of one socket; name table. Never two at once
//!       level WAIT               wait queues
//! ```
//! A message that holds descriptors is dropped with no lock held.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod control;
pub mod file;
mod ns;
pub mod options;
pub mod socket;
pub mod unix;

pub use file::{SocketFile, accept, as_socket, create, pair};
pub use ns::{FAMILIES, Family, NetNs};
pub use socket::{Control, Received, RecvArgs, SendArgs, SockCx, Socket};
