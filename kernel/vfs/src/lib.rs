//! Virtual file system: inodes, dentries, mounts, path walk, open files, poll, file locks.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
