//! The virtual file system.
//!
//! - [`inode`]: [`inode::Inode`], [`inode::SuperBlock`]: what a file system implements.
//! - [`file`]: [`file::FileOps`] (what an open file does) and [`file::File`] (the open file description).
//! - [`cred`]: credentials and permission checks.
//! - [`poll`]: readiness.
//! - dentries, mounts, path walk, file locks, descriptor tables: see their modules.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod cred;
pub mod file;
pub mod inode;
pub mod path;
pub mod poll;

pub use cred::Cred;
pub use file::{File, FileOps, OpenFlags};
pub use inode::{Attr, FileType, Inode, InodeRef, NewNode, SetAttr, SuperBlock};
pub use poll::{PollEvents, PollTable};
