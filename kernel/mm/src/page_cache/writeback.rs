//! Writing dirty pages back, and giving clean ones up.

use super::fill::bytes;
use super::pages::CHUNK;
use super::registry::Effort;
use super::{PageCache, yield_if_needed};
use crate::frame::{self, Pinned, Release};
use abi::Result;
use alloc::vec::Vec;
use hal::{PAGE_SHIFT, PAGE_SIZE};

impl PageCache {
    /// Writes dirty pages back to the source.
    pub fn sync(&self) -> Result {
        self.sync_range(0, u64::MAX >> PAGE_SHIFT)
    }

    /// Writes the dirty pages of `[first, end)` back. Pages that fail stay dirty.
    pub(crate) fn sync_range(&self, first: u64, end: u64) -> Result {
        let Some(source) = self.source.clone() else {
            return Ok(());
        };
        let mut result = Ok(());
        let mut at = first;
        loop {
            // One chunk at a time.
            let mut batch: Vec<(u64, Pinned)> = Vec::new();
            {
                let mut pages = self.pages.lock();
                if pages.dirty == 0 {
                    break;
                }
                let mut cleaned = 0;
                for (c, k) in pages.chunks.range_mut(at / CHUNK..) {
                    if c * CHUNK >= end {
                        break;
                    }
                    let mut m = k.dirty & k.present;
                    let base = c * CHUNK;
                    for b in 0..CHUNK as u32 {
                        let i = base + b as u64;
                        if i < at || i >= end {
                            m &= !(1 << b);
                        }
                    }
                    if m == 0 {
                        continue;
                    }
                    k.dirty &= !m;
                    while m != 0 {
                        let b = m.trailing_zeros();
                        m &= m - 1;
                        frame::get(k.frame(b));
                        batch.push((base + b as u64, Pinned::from_ref(k.frame(b))));
                        cleaned += 1;
                    }
                    break;
                }
                pages.dirty -= cleaned;
            }
            let (Some(lo), Some(hi)) = (batch.first(), batch.last()) else {
                break;
            };
            let (lo, hi) = (lo.0, hi.0 + 1);
            // Writes from here on make the page dirty again, so what is read now is not lost.
            self.each_mapper(|mm| mm.protect_pages(self.id(), lo, hi));
            let size = self.size();
            for (i, p) in &batch {
                let pos = i << PAGE_SHIFT;
                let len = size.saturating_sub(pos).min(PAGE_SIZE as u64) as usize;
                if len == 0 {
                    continue;
                }
                // SAFETY: `p` is a reference to the frame.
                let r = source.write_pages(pos, &unsafe { bytes(p.pfn(), 1) }[..len]);
                if let Err(e) = r {
                    self.pages.lock().set_dirty(*i, p.pfn());
                    result = result.and(Err(e));
                }
            }
            at = hi;
            yield_if_needed();
        }
        result
    }

    /// Gives up to about `want` clean pages back; how many.
    pub(super) fn reclaim(&self, want: usize, effort: Effort) -> usize {
        if self.pages.lock().resident == 0 {
            return 0;
        }
        match effort {
            Effort::Mapped => self.unmap(0, u64::MAX >> PAGE_SHIFT, false, false),
            Effort::Dirty => {
                if self.pages.lock().dirty == 0 || self.sync().is_err() {
                    return 0;
                }
                self.unmap(0, u64::MAX >> PAGE_SHIFT, false, false);
            }
            Effort::Cold | Effort::Unmapped => {}
        }
        let mut freed = 0;
        let mut at = 0;
        let mut release = Release::new();
        loop {
            let mut pages = self.pages.lock();
            let mut gone = 0;
            let mut next = None;
            let mut empty: Vec<u64> = Vec::new();
            for (looked, (c, k)) in pages.chunks.range_mut(at..).enumerate() {
                if looked == 64 || freed + gone as usize >= want {
                    next = Some(*c);
                    break;
                }
                let mut m = k.present & !k.dirty;
                if effort == Effort::Cold {
                    let hot = core::mem::take(&mut k.hot);
                    m &= !hot;
                }
                while m != 0 {
                    let b = m.trailing_zeros();
                    m &= m - 1;
                    // New references are made under this lock only (page
                    // tables copy theirs, but then there is more than one).
                    if frame::refs(k.frame(b)) == 1 {
                        k.present &= !(1 << b);
                        k.hot &= !(1 << b);
                        release.put(k.frame(b));
                        gone += 1;
                    }
                }
                if k.present | k.loading == 0 {
                    empty.push(*c);
                }
            }
            for c in empty {
                pages.chunks.remove(&c);
            }
            pages.resident -= gone;
            drop(pages);
            freed += gone as usize;
            match next {
                Some(c) if freed < want => at = c,
                _ => break,
            }
            yield_if_needed();
        }
        drop(release);
        crate::frame::trim_if_needed();
        freed
    }
}
