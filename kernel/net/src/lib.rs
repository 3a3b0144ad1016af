//! Sockets: the unix family.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
