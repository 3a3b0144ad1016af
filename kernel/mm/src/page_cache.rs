//! The pages of one file.

use crate::io::{Sink, Source};
use abi::{Errno, Result};
use alloc::sync::Arc;

/// Where the pages of a file come from and go to. Called with no spin lock held; may sleep.
pub trait PageSource: Send + Sync {
    /// Fills `buf` (a whole number of pages) from byte offset `pos`; what lies behind the end of the file becomes zero.
    fn read_pages(&self, pos: u64, buf: &mut [u8]) -> Result;
    /// Writes dirty bytes back. Only for writable sources.
    fn write_pages(&self, _pos: u64, _data: &[u8]) -> Result {
        Err(Errno::EROFS)
    }
}

/// The pages of one file. Mappings, read and write all see the same frames.
pub struct PageCache {
    _private: (),
}

impl PageCache {
    /// Pages of a file that exists in memory only (tmpfs, shared anonymous memory): holes read as zero.
    pub fn new_memory() -> Arc<PageCache> {
        Arc::new(PageCache { _private: () })
    }
    /// Pages of a file behind `source`, `size` bytes long. Clean pages may be reclaimed.
    pub fn new_backed(source: Arc<dyn PageSource>, size: u64) -> Arc<PageCache> {
        let _ = (source, size);
        Arc::new(PageCache { _private: () })
    }
    /// File size in bytes.
    pub fn size(&self) -> u64 {
        0
    }
    /// Resident pages.
    pub fn resident(&self) -> u64 {
        0
    }
    /// Copies from `pos` to `dst` up to the end of the file; reads ahead. 0 at the end.
    pub fn read(&self, pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        let _ = (pos, dst);
        Err(Errno::EIO)
    }
    /// Copies `src` to `pos`, growing the file. Short count if memory runs out half-way ([`Errno::ENOSPC`] if at once).
    /// The caller holds the inode's write lock (writes are atomic among each other).
    pub fn write(&self, pos: u64, src: &mut dyn Source) -> Result<usize> {
        let _ = (pos, src);
        Err(Errno::EIO)
    }
    /// Sets the size. Pages behind the end are unmapped everywhere and freed; the tail of the last page is zeroed.
    pub fn truncate(&self, size: u64) -> Result {
        let _ = size;
        Err(Errno::EIO)
    }
    /// fallocate(2) FALLOC_FL_PUNCH_HOLE: zeroes the range, freeing whole pages.
    pub fn punch_hole(&self, pos: u64, len: u64) -> Result {
        let _ = (pos, len);
        Err(Errno::EIO)
    }
    /// fallocate(2): makes pages for the range (memory files); does not change the size.
    pub fn allocate(&self, pos: u64, len: u64) -> Result {
        let _ = (pos, len);
        Err(Errno::EIO)
    }
    /// lseek(2) SEEK_DATA / SEEK_HOLE for memory files. [`Errno::ENXIO`].
    pub fn next_data(&self, pos: u64) -> Result<u64> {
        Ok(pos)
    }
    /// See [`PageCache::next_data`].
    pub fn next_hole(&self, pos: u64) -> Result<u64> {
        let _ = pos;
        Ok(self.size())
    }
    /// Writes dirty pages back to the source.
    pub fn sync(&self) -> Result {
        Ok(())
    }
    /// Forgets clean pages and takes a new size (the file behind changed).
    pub fn invalidate(&self, size: u64) {
        let _ = size;
    }
    /// Takes over the pages of `other` by copying (copy-up), `len` bytes at most.
    pub fn copy_from(&self, other: &PageCache, len: u64) -> Result {
        let _ = (other, len);
        Err(Errno::EIO)
    }
    /// Called before the first write through a shared mapping and before any write(2) that dirties pages; `None` = nothing to do. Sets mtime.
    pub fn set_dirty_hook(&self, hook: Arc<dyn DirtyHook>) {
        let _ = hook;
    }
}

/// Told when a page of a file is about to become dirty through a mapping.
pub trait DirtyHook: Send + Sync {
    /// A write through a shared mapping (mtime changes).
    fn dirtied(&self);
}
