//! The pages of one file.
//!
//! - here: [`PageCache`], size, registration of mappings, hooks.
//! - `pages`: the table of pages.
//! - `fill`: bringing pages in, reading ahead.
//! - `rw`: read(2), write(2), copy.
//! - `resize`: truncate, holes, allocation.
//! - `copies`: copies of code that the engine runs.
//! - `writeback`: dirty pages; giving clean pages back.
//! - `registry`: all caches of the machine.
//!
//! A page's frame has one reference from the cache, one from each page table
//! entry and one from each transient user, who takes it under the lock of the
//! table and then works without any lock. A page is put into page tables only
//! with the table of pages locked, so whoever takes it out of the cache first
//! and then unmaps it everywhere leaves no mapping behind.
//!
//! Lock order: an address space's VMAs (sleeping) → pages → page tables. A
//! [`PageSource`] is called with no lock of this crate but that of the VMAs (for reading) held.

mod copies;
pub(crate) mod fill;
pub(crate) mod pages;
pub(crate) mod registry;
mod resize;
mod rw;
mod writeback;

use crate::Mm;
use crate::frame::{Gathered, Kind};
use abi::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use copies::Copies;
use core::ops::Bound::{Excluded, Unbounded};
use core::sync::atomic::{AtomicU64, Ordering};
use hal::{PAGE_SHIFT, PAGE_SIZE};
use pages::Pages;
use sync::{SpinGuard, SpinLock, WaitQueue, level};

/// Largest file size in bytes.
pub const MAX_FILE_SIZE: u64 = i64::MAX as u64;

/// Where the pages of a file come from and go to. Called with no spin lock
/// held; may sleep. Must not take a lock that is held while user memory is
/// accessed (the inode's lock of read and write): page faults come here.
pub trait PageSource: Send + Sync {
    /// Fills `buf` (a whole number of pages) from byte offset `pos`; what lies behind the end of the file becomes zero.
    fn read_pages(&self, pos: u64, buf: &mut [u8]) -> Result;
    /// Writes dirty bytes back. Only for writable sources.
    fn write_pages(&self, _pos: u64, _data: &[u8]) -> Result {
        Err(Errno::EROFS)
    }
}

/// Told when a page of a file is about to become dirty through a mapping.
pub trait DirtyHook: Send + Sync {
    /// A write through a shared mapping (mtime changes). Must not sleep on a lock that is held over user accesses.
    fn dirtied(&self);
}

/// The pages of one file. Mappings, read and write all see the same frames.
pub struct PageCache {
    source: Option<Arc<dyn PageSource>>,
    /// Shared anonymous memory: nobody looks at its holes, so pages are made in extents.
    extents: bool,
    size: AtomicU64,
    pages: SpinLock<Pages, { level::PAGE_CACHE }>,
    /// Waits for pages that are being read.
    ready: WaitQueue,
    /// Address spaces that map the file, by address, with the number of their VMAs.
    maps: SpinLock<BTreeMap<usize, (Weak<Mm>, u32)>, { level::PAGE_CACHE }>,
    hook: SpinLock<Option<Arc<dyn DirtyHook>>, { level::LEAF }>,
    copies: Copies,
}

/// Number of pages that `bytes` reach into.
pub(crate) fn pages_of(bytes: u64) -> u64 {
    (bytes >> PAGE_SHIFT) + (bytes & (PAGE_SIZE as u64 - 1) != 0) as u64
}

impl PageCache {
    fn new(source: Option<Arc<dyn PageSource>>, size: u64, extents: bool) -> Arc<PageCache> {
        let backed = source.is_some();
        let cache = Arc::new(PageCache {
            source,
            extents,
            size: AtomicU64::new(size.min(MAX_FILE_SIZE)),
            pages: SpinLock::new(Pages::new()),
            ready: WaitQueue::new(),
            maps: SpinLock::new(BTreeMap::new()),
            hook: SpinLock::new(None),
            copies: Copies::default(),
        });
        if backed {
            registry::register(cache.id(), Arc::downgrade(&cache));
        }
        cache
    }
    /// Pages of a file that exists in memory only (tmpfs, shared anonymous memory): holes read as zero.
    pub fn new_memory() -> Arc<PageCache> {
        Self::new(None, 0, false)
    }
    /// Shared anonymous memory of `size` bytes.
    pub(crate) fn new_anon(size: u64) -> Arc<PageCache> {
        Self::new(None, size, true)
    }
    /// Pages of a file behind `source`, `size` bytes long. Clean pages may be reclaimed.
    pub fn new_backed(source: Arc<dyn PageSource>, size: u64) -> Arc<PageCache> {
        Self::new(Some(source), size, false)
    }
    /// File size in bytes.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }
    /// Resident pages.
    pub fn resident(&self) -> u64 {
        self.pages.lock().resident
    }
    /// Called before the first write through a shared mapping and before any write(2) that dirties pages; `None` = nothing to do. Sets mtime.
    pub fn set_dirty_hook(&self, hook: Arc<dyn DirtyHook>) {
        let old = self.hook.lock().replace(hook);
        drop(old);
    }

    /// Identity for futexes and statistics.
    pub(crate) fn id(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }
    /// Whether pages exist in memory only.
    pub(crate) fn is_memory(&self) -> bool {
        self.source.is_none()
    }
    pub(crate) fn is_shared_anon(&self) -> bool {
        self.extents
    }
    /// Makes shared anonymous memory at least `size` bytes long.
    pub(crate) fn grow_anon(&self, size: u64) {
        self.size.fetch_max(size, Ordering::AcqRel);
    }
    fn kind(&self) -> Kind {
        if self.is_memory() {
            Kind::Shmem
        } else {
            Kind::File
        }
    }
    pub(crate) fn size_pages(&self) -> u64 {
        pages_of(self.size())
    }
    /// The table of pages, locked: to put pages into page tables.
    pub(crate) fn lock_pages(&self) -> SpinGuard<'_, Pages, { level::PAGE_CACHE }> {
        self.pages.lock()
    }
    /// The hook to be called after the caller has let go of its locks.
    pub(crate) fn dirty_hook(&self) -> Option<Arc<dyn DirtyHook>> {
        self.hook.lock().clone()
    }

    /// Notes a VMA of `mm`; `writer`: the file can be written through it.
    pub(crate) fn add_mapping(&self, id: usize, mm: &Weak<Mm>, writer: bool) {
        self.copies.add_writers(writer as u32);
        let mut maps = self.maps.lock();
        maps.entry(id).or_insert_with(|| (mm.clone(), 0)).1 += 1;
    }
    /// Forgets a VMA of the address space with that id.
    pub(crate) fn remove_mapping(&self, id: usize, writer: bool) {
        self.copies.remove_writers(writer as u32);
        let mut gone = None;
        {
            let mut maps = self.maps.lock();
            if let Some(e) = maps.get_mut(&id) {
                e.1 -= 1;
                if e.1 == 0 {
                    gone = maps.remove(&id);
                }
            }
        }
        drop(gone);
    }
    /// Address spaces that map the file.
    /// Those that begin to map it meanwhile may be passed over. Needs no memory, so it cannot fail.
    fn each_mapper(&self, mut f: impl FnMut(&Mm)) {
        const BATCH: usize = 16;
        let mut from = None;
        loop {
            let mut batch = [const { None }; BATCH];
            {
                let maps = self.maps.lock();
                let rest = (from.map_or(Unbounded, Excluded), Unbounded);
                for (slot, (id, e)) in batch.iter_mut().zip(maps.range(rest)) {
                    *slot = Some(e.0.clone());
                    from = Some(*id);
                }
            }
            let more = batch.iter().all(Option::is_some);
            for mm in batch.iter().flatten().filter_map(Weak::upgrade) {
                f(&mm);
            }
            if !more {
                return;
            }
        }
    }
    /// Takes the pages `[first, end)` out of all address spaces. `private`: their private copies too.
    /// `wait`: for address spaces that are being changed; else they are passed over.
    fn unmap(&self, first: u64, end: u64, private: bool, wait: bool) {
        self.each_mapper(|mm| mm.unmap_pages(self.id(), first, end, private, wait));
    }
    /// Takes the pages `[first, end)` out of the cache and out of all address spaces.
    fn drop_pages(&self, first: u64, end: u64, private: bool, clean: bool) {
        let mut at = Some(first);
        let mut gathered = Gathered::default();
        let mut any = false;
        while let Some(next) = at {
            at = self
                .pages
                .lock()
                .remove(next, end, clean, Gathered::FULL, |p| gathered.add(p));
            any |= !gathered.is_empty();
            // The page tables have references of their own.
            gathered.release();
            yield_if_needed();
        }
        if any || private {
            self.unmap(first, end, private, true);
        }
        self.ready.wake_all();
        crate::frame::trim_if_needed();
    }
}

impl Drop for PageCache {
    fn drop(&mut self) {
        if self.source.is_some() {
            registry::unregister(self.id());
        }
        let mut gathered = Gathered::default();
        let pages = self.pages.get_mut();
        let mut at = Some(0);
        while let Some(next) = at {
            at = pages.remove(next, u64::MAX >> PAGE_SHIFT, false, Gathered::FULL, |p| {
                gathered.add(p)
            });
            gathered.release();
        }
    }
}

/// Preemption point of long loops; none on the boot stack.
pub(crate) fn yield_if_needed() {
    if let Some(w) = hal::cpu::current_stack().waiter {
        w.yield_if_needed();
    }
}
