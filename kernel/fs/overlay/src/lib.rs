//! overlay: a writable view made of a lower and an upper file system.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
