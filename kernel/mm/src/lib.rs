//! Physical memory, kernel heap, page tables, address spaces, page cache.
//!
//! - [`frame`]: physical frames: buddy allocator over page descriptors, statistics.
//! - [`heap`]: the kernel heap (slabs over frames), behind the global allocator.
//! - [`page_cache`]: [`PageCache`]: the pages of one file, and where they come from.
//! - [`aspace`]: [`Mm`]: a guest address space: VMAs, page table, faults, fork.
//! - [`user`]: access to guest memory: [`user::UserIo`], typed reads and writes.
//! - [`io`]: byte streams to and from a caller's memory.
#![no_std]
extern crate alloc;

pub mod aspace;
pub mod frame;
pub mod heap;
pub mod io;
pub mod page_cache;
mod state;
pub mod user;

pub use aspace::{Mm, MmUser};
pub use page_cache::PageCache;
