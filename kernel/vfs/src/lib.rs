//! The virtual file system.
//!
//! - [`inode`]: [`inode::Inode`], [`inode::SuperBlock`]: what a file system implements;
//!   [`state`]: what the VFS keeps with an inode; [`generic`]: open files for file systems to use;
//!   [`pseudo`]: file systems made of generated text.
//! - [`mod@file`]: [`file::FileOps`] (what an open file does) and [`file::File`] (the open file description);
//!   `rw`: read, write, seek and readdir of a [`File`].
//! - [`path`]: dentries, places, what a process sees; `dcache`: the dentry cache; [`mount`]: mounts.
//! - [`namei`]: operations on names; `walk`: the path walk; `open`: open(2); `attr`: chmod, chown,
//!   truncate, utimensat; [`xattr`]: extended attributes; [`cred`]: credentials and permission checks.
//! - [`anon`]: inodes without a name, for pipes, sockets and event descriptors.
//! - [`device`]: drivers behind device nodes, fifos; [`notify`]: events for inotify; [`poll`]: readiness.
//! - [`fdtable`]: descriptors; [`locks`]: file locks.
//!
//! # Lock order
//! Sleeping locks, outermost first:
//! ```text
//! MountNs::change             changes of the mount tree
//! Shared::rename              renames between two directories
//!   directory lock            lookups in a file system read, changes of names write; an ancestor before what is below it
//!     InodeState::lock        write(2), truncation, mode, owner, xattrs of one inode
//! File::pos                   before InodeState::lock
//! ```
//! Spin locks: mount table and shards of the dentry cache (`DENTRY`), in them
//! the place of a dentry or mount (`DENTRY + 1`); descriptor tables, locks and
//! watches of an inode (`INODE`). Nothing is dropped under a spin lock that could free an inode.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
#[cfg(test)]
use hal_fake as _;

pub mod anon;
mod attr;
pub mod cred;
mod dcache;
pub mod device;
pub mod fdtable;
pub mod file;
pub mod generic;
pub mod inode;
pub mod locks;
pub mod mount;
pub mod namei;
pub mod notify;
mod open;
pub mod path;
pub mod poll;
pub mod pseudo;
pub mod rw;
pub mod shared;
pub mod state;
pub mod text;
pub mod users;
mod walk;
pub mod xattr;

pub use cred::Cred;
pub use fdtable::{FdTable, FdUser};
pub use file::{File, FileOps, OpenFlags};
pub use inode::{Attr, FileType, Inode, InodeRef, NewNode, SetAttr, SuperBlock};
pub use mount::{Mount, MountNs};
pub use path::{Dentry, FsContext, Path};
pub use poll::{PollEvents, PollTable};
