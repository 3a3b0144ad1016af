//! Physical memory, kernel heap, page tables, address spaces, page cache.
#![no_std]
extern crate alloc;

pub mod io;
