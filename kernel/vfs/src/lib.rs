//! The virtual file system.
//!
//! - [`inode`]: [`inode::Inode`], [`inode::SuperBlock`]: what a file system implements.
//! - [`file`]: [`file::FileOps`] (what an open file does) and [`file::File`] (the open file description).
//! - [`cred`]: credentials and permission checks.
//! - [`device`]: drivers behind device nodes, fifos.
//! - [`poll`]: readiness.
//! - [`anon`]: inodes without a name, for pipes, sockets and event descriptors.
//! - [`pseudo`]: file systems made of generated text.
//! - [`path`]: dentries, places, what a process sees; [`mount`]: mounts; [`namei`]: path walk and operations on names.
//! - [`fdtable`]: descriptors; [`locks`]: file locks.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod anon;
pub mod cred;
pub mod device;
pub mod fdtable;
pub mod file;
pub mod inode;
pub mod locks;
pub mod mount;
pub mod namei;
pub mod path;
pub mod poll;
pub mod pseudo;

pub use cred::Cred;
pub use fdtable::FdTable;
pub use file::{File, FileOps, OpenFlags};
pub use inode::{Attr, FileType, Inode, InodeRef, NewNode, SetAttr, SuperBlock};
pub use mount::{Mount, MountNs};
pub use path::{Dentry, FsContext, Path};
pub use poll::{PollEvents, PollTable};
