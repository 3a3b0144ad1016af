//! Copies of code that an engine runs in place of a file's pages.
//!
//! An engine asks ([`hal::Mappings::is_steady`]) before it copies a page. It may while nobody maps the
//! file for writing. Whoever changes the file, or begins to map it for writing, does that first, and then takes the pages out of all
//! address spaces if copies have been allowed. One of the two sees the other: the engine says that there will be a
//! copy before it reads the page; the writer writes before he looks for copies.

use super::PageCache;
use core::sync::atomic::Ordering::SeqCst;
use core::sync::atomic::{AtomicU32, AtomicU64, fence};

#[derive(Default)]
pub(super) struct Copies {
    /// VMAs through which the file can be written.
    writers: AtomicU32,
    /// How often a copy has been allowed.
    allowed: AtomicU64,
    /// How many of these, from the first on, are gone.
    gone: AtomicU64,
}

impl Copies {
    pub(super) fn add_writers(&self, n: u32) {
        self.writers.fetch_add(n, SeqCst);
    }
    pub(super) fn remove_writers(&self, n: u32) {
        self.writers.fetch_sub(n, SeqCst);
    }
}

impl PageCache {
    /// Whether the engine may copy a page of the file that it is about to read. Takes no lock.
    pub(crate) fn allow_copy(&self) -> bool {
        let c = &self.copies;
        if c.writers.load(SeqCst) > 0 {
            return false;
        }
        c.allowed.fetch_add(1, SeqCst);
        fence(SeqCst);
        c.writers.load(SeqCst) == 0
    }

    /// What the file holds has changed, or can from now on without a call. When it returns, nothing is run that was copied
    /// before. Takes the VMAs of all who map the file, for reading.
    pub(crate) fn changed(&self) {
        let c = &self.copies;
        fence(SeqCst);
        let allowed = c.allowed.load(SeqCst);
        if c.gone.load(SeqCst) >= allowed {
            return;
        }
        self.each_mapper(|mm| {
            mm.unmap_pages(self.id(), 0, u64::MAX >> hal::PAGE_SHIFT, false, true);
            // Another writer may have taken them out, and not be done.
            mm.space().flush();
        });
        c.gone.fetch_max(allowed, SeqCst);
    }
}
