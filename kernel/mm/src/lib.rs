//! Physical memory, kernel heap, page tables, address spaces, page cache.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
