//! Physical memory, kernel heap, page tables, address spaces, page cache.
#![no_std]
extern crate alloc;

pub mod io;

/// An address space.
pub struct Mm {
    _private: (),
}

/// Pages of a file.
pub struct PageCache {
    _private: (),
}
