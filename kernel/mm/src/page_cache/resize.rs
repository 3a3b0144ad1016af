//! Truncation, holes, allocation.

use super::pages::Slot;
use super::{MAX_FILE_SIZE, PageCache, pages_of, yield_if_needed};
use crate::frame::{self, Contents};
use crate::state::state;
use abi::{Errno, Result};
use core::sync::atomic::Ordering;
use hal::{PAGE_SHIFT, PAGE_SIZE};

const PAGE: u64 = PAGE_SIZE as u64;
/// Behind every page of every file.
const END: u64 = (MAX_FILE_SIZE >> PAGE_SHIFT) + 2;

impl PageCache {
    /// Sets the size. Pages behind the end are unmapped everywhere and freed; the tail of the last page is zeroed.
    pub fn truncate(&self, size: u64) -> Result {
        if size > MAX_FILE_SIZE {
            return Err(Errno::EFBIG);
        }
        let old = self.size();
        if size >= old {
            self.zero_tail(size);
            self.size.store(size, Ordering::Release);
            self.changed();
            return Ok(());
        }
        self.size.store(size, Ordering::Release);
        let keep = pages_of(size);
        // Pages of mappings may exist up to the end of the old last page only.
        self.drop_pages(keep, END, true, false);
        let off = (size & (PAGE - 1)) as usize;
        if off != 0 {
            self.zero_part(size >> PAGE_SHIFT, off, PAGE_SIZE - off);
            self.changed();
        }
        Ok(())
    }

    /// Zeroes a part of a page if it is resident.
    fn zero_part(&self, index: u64, off: usize, len: usize) {
        let loading = matches!(self.pages.lock().slot(index), Slot::Loading);
        if loading {
            self.wait_loaded(index);
        }
        let page = self.pages.lock().pin(index);
        if let Some(p) = page {
            frame::zero_frame(p.pfn(), off, len);
            if !self.is_memory() {
                self.pages.lock().set_dirty(index, p.pfn());
            }
        }
    }

    /// fallocate(2) FALLOC_FL_PUNCH_HOLE: zeroes the range, freeing whole pages.
    /// [`Errno::EOPNOTSUPP`] for files that are more than memory.
    pub fn punch_hole(&self, pos: u64, len: u64) -> Result {
        if !self.is_memory() {
            return Err(Errno::EOPNOTSUPP);
        }
        let end = pos.checked_add(len).ok_or(Errno::EFBIG)?.min(self.size());
        if pos >= end {
            return Ok(());
        }
        let (first, last) = (pages_of(pos), end >> PAGE_SHIFT);
        if first < last {
            self.drop_pages(first, last, false, false);
        }
        let (i, j) = (pos >> PAGE_SHIFT, end >> PAGE_SHIFT);
        let (a, b) = ((pos & (PAGE - 1)) as usize, (end & (PAGE - 1)) as usize);
        if i == j {
            self.zero_part(i, a, b - a);
        } else {
            if a != 0 {
                self.zero_part(i, a, PAGE_SIZE - a);
            }
            if b != 0 {
                self.zero_part(j, 0, b);
            }
            // The end of the file inside its last page: nothing of it is left.
            if end == self.size() && b != 0 && i < j && first <= j {
                self.drop_pages(j, j + 1, false, false);
            }
        }
        self.changed();
        Ok(())
    }

    /// fallocate(2): makes pages for the range (memory files); does not change the size.
    pub fn allocate(&self, pos: u64, len: u64) -> Result {
        let end = pos.checked_add(len).ok_or(Errno::EFBIG)?;
        if end > MAX_FILE_SIZE {
            return Err(Errno::EFBIG);
        }
        if !self.is_memory() {
            return Err(Errno::EOPNOTSUPP);
        }
        let (first, last) = (pos >> PAGE_SHIFT, pages_of(end));
        let st = state();
        let free = st.free.load(Ordering::Relaxed).saturating_sub(st.reserve) as u64;
        let have = self.resident();
        if (last - first).saturating_sub(have) > free {
            return Err(Errno::ENOSPC);
        }
        let mut at = first;
        while at < last {
            let next = self.pages.lock().next(at, last, false);
            let Some(i) = next else { break };
            let p =
                frame::alloc_user(1, self.kind(), Contents::Zero, false).ok_or(Errno::ENOSPC)?;
            {
                let mut pages = self.pages.lock();
                if matches!(pages.slot(i), Slot::Absent) {
                    pages.insert(i, p, false);
                    at = i + 1;
                    continue;
                }
            }
            frame::put(p);
            at = i + 1;
            yield_if_needed();
        }
        Ok(())
    }

    /// lseek(2) SEEK_DATA / SEEK_HOLE for memory files. [`Errno::ENXIO`].
    pub fn next_data(&self, pos: u64) -> Result<u64> {
        let size = self.size();
        if pos >= size {
            return Err(Errno::ENXIO);
        }
        if !self.is_memory() {
            return Ok(pos);
        }
        let i = self
            .pages
            .lock()
            .next(pos >> PAGE_SHIFT, pages_of(size), true)
            .ok_or(Errno::ENXIO)?;
        Ok(pos.max(i << PAGE_SHIFT))
    }

    /// See [`PageCache::next_data`].
    pub fn next_hole(&self, pos: u64) -> Result<u64> {
        let size = self.size();
        if pos >= size {
            return Err(Errno::ENXIO);
        }
        if !self.is_memory() {
            return Ok(size);
        }
        let i = self
            .pages
            .lock()
            .next(pos >> PAGE_SHIFT, pages_of(size), false);
        Ok(i.map_or(size, |i| pos.max(i << PAGE_SHIFT)))
    }

    /// Forgets clean pages and takes a new size (the file behind changed).
    pub fn invalidate(&self, size: u64) {
        self.size.store(size.min(MAX_FILE_SIZE), Ordering::Release);
        if self.is_memory() {
            return;
        }
        self.drop_pages(0, END, false, true);
    }
}
