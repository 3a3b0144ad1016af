//! tmpfs: a file system in the page cache.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
