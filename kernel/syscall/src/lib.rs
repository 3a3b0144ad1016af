//! System calls: the table, argument decoding, the handlers by family.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
