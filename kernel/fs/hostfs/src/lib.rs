//! hostfs: a host directory as a read-only file system.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
