//! Bringing pages in.

use super::PageCache;
use super::pages::{CHUNK, Slot};
use crate::frame::{self, Contents, Pinned};
use abi::{Errno, Result};
use hal::{PAGE_SHIFT, PAGE_SIZE, Pfn};

/// How much to read beside the page asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ahead {
    /// Nothing.
    None,
    /// A reader that wants this many pages; sequential reading reads further.
    Reader(u64),
    /// The surroundings (page faults).
    Around,
    /// The whole chunk (executable code).
    Chunk,
}

/// The bytes of `n` frames, to be filled or looked at by memcpy-like code.
///
/// # Safety
/// The caller holds a reference to each frame.
pub(super) unsafe fn bytes<'a>(first: Pfn, n: usize) -> &'a mut [u8] {
    // SAFETY: in the memory file, which stays mapped; the frames stay
    // allocated by the caller's promise. A guest that maps them may change
    // bytes meanwhile; users only copy them and attach no meaning.
    unsafe { core::slice::from_raw_parts_mut(first.as_ptr(), n * PAGE_SIZE) }
}

impl PageCache {
    /// The page, brought in if need be. [`Errno::ENXIO`]: behind the end of the
    /// file. [`Errno::ENOMEM`]; errors of the source. May sleep.
    pub(crate) fn page(&self, index: u64, ahead: Ahead, spare: bool) -> Result<Pinned> {
        loop {
            // First: pages made ahead (fallocate) may lie behind the end.
            if index >= self.size_pages() {
                return Err(Errno::ENXIO);
            }
            let loading = {
                let mut pages = self.pages.lock();
                if let Some(p) = pages.pin(index) {
                    return Ok(p);
                }
                matches!(pages.slot(index), Slot::Loading)
            };
            if loading {
                self.wait_loaded(index);
                continue;
            }
            if self.is_memory() {
                self.make(index, ahead, spare)?;
            } else {
                self.fill(index, ahead, spare)?;
            }
        }
    }

    /// Waits until the page is not being read any more.
    pub(super) fn wait_loaded(&self, index: u64) {
        // Wake-up proof: the slot changes under the lock of the pages before `ready` is woken.
        self.ready
            .wait_uninterruptible(|| match self.pages.lock().slot(index) {
                Slot::Loading => None,
                _ => Some(()),
            });
    }

    /// Frames for `n` pages from `first` on, or for page `index` alone when memory is
    /// short: (first page, pages, frames). `None`: there are no such pages, or room was made; it makes sense to look again.
    fn frames_for(
        &self,
        (first, n): (u64, u64),
        index: u64,
        contents: Contents,
        spare: bool,
    ) -> Result<Option<(u64, u64, Pfn)>> {
        if n == 0 {
            return Ok(None);
        }
        let take = |n| frame::alloc_user(n, self.kind(), contents, spare);
        match take(n as usize) {
            Some(run) => Ok(Some((first, n, run))),
            None => match take(1) {
                Some(run) => Ok(Some((index, 1, run))),
                None if frame::make_room() => Ok(None),
                None => Err(Errno::ENOMEM),
            },
        }
    }

    /// Makes pages of zeros for a hole of a memory file.
    fn make(&self, index: u64, ahead: Ahead, spare: bool) -> Result {
        let n = if self.extents && ahead != Ahead::None && !frame::is_tight() {
            16
        } else {
            1
        };
        let pages = self.absent_around(index, n);
        let Some((first, n, run)) = self.frames_for(pages, index, Contents::Zero, spare)? else {
            return Ok(());
        };
        self.insert_run(first, n, run, false);
        Ok(())
    }

    /// Puts a run of frames in the slots that are still absent and within the
    /// file; drops the others. Returns how many of the first were taken without a gap.
    pub(super) fn insert_run(&self, first: u64, n: u64, run: Pfn, loading: bool) -> u64 {
        let mut unused = 0u64;
        let mut prefix = None;
        {
            let mut pages = self.pages.lock();
            // Under the lock: truncation sets the size before it takes pages out.
            let end = self.size_pages();
            for i in 0..n {
                let stop = loading && prefix.is_some();
                if !stop && first + i < end && matches!(pages.slot(first + i), Slot::Absent) {
                    pages.insert(first + i, run.add(i as usize), loading);
                } else {
                    unused |= 1 << i;
                    prefix.get_or_insert(i);
                }
            }
            if loading {
                // The reader's own reference, so that truncation may drop the cache's.
                for i in 0..prefix.unwrap_or(n) {
                    frame::get(run.add(i as usize));
                }
            }
        }
        for i in 0..n {
            if unused >> i & 1 != 0 {
                frame::put(run.add(i as usize));
            }
        }
        prefix.unwrap_or(n)
    }

    /// The absent slots around `index` within the aligned window of `window`
    /// pages (a power of two) and the file: (first, count); count 0 if it is not absent.
    fn absent_around(&self, index: u64, window: u64) -> (u64, u64) {
        let lo = index & !(window - 1);
        let hi = (lo + window).min(self.size_pages()).max(index + 1);
        let pages = self.pages.lock();
        let absent = |i: u64| matches!(pages.slot(i), Slot::Absent);
        if !absent(index) {
            return (index, 0);
        }
        let mut first = index;
        while first > lo && absent(first - 1) {
            first -= 1;
        }
        let mut end = index + 1;
        while end < hi && absent(end) {
            end += 1;
        }
        (first, end - first)
    }

    /// Pages to read for a miss at `index`: (first, count).
    fn window(&self, index: u64, ahead: Ahead) -> (u64, u64) {
        let total = self.size_pages();
        match ahead {
            Ahead::None => (index, 1),
            Ahead::Around => self.absent_around(index, 16),
            Ahead::Chunk => self.absent_around(index, CHUNK),
            Ahead::Reader(want) => {
                let want = want.clamp(1, CHUNK);
                let room = self.absent_end(index) - index;
                let mut pages = self.pages.lock();
                let n = if total <= CHUNK {
                    CHUNK
                } else if pages.ahead.0 == index {
                    want.max(pages.ahead.1 * 2).min(CHUNK)
                } else {
                    want.max(4)
                };
                pages.ahead = (index + n.min(room), n);
                (index, n.min(room))
            }
        }
    }

    /// End of the absent slots from `index` on, within its chunk and the file.
    fn absent_end(&self, index: u64) -> u64 {
        let hi = ((index / CHUNK + 1) * CHUNK)
            .min(self.size_pages())
            .max(index + 1);
        let pages = self.pages.lock();
        let mut end = index;
        while end < hi && matches!(pages.slot(end), Slot::Absent) {
            end += 1;
        }
        end.max(index + 1)
    }

    /// Reads pages from the source. `Ok` says that it makes sense to look again.
    fn fill(&self, index: u64, ahead: Ahead, spare: bool) -> Result {
        let Some(source) = self.source.as_ref() else {
            return Err(Errno::EIO);
        };
        let pages = self.window(index, ahead);
        let Some((first, n, run)) = self.frames_for(pages, index, Contents::Undefined, spare)?
        else {
            return Ok(());
        };
        let n = self.insert_run(first, n, run, true);
        if n == 0 {
            return Ok(());
        }
        // SAFETY: `insert_run` took a reference to each of the first `n` frames.
        let buf = unsafe { bytes(run, n as usize) };
        let result = source.read_pages(first << PAGE_SHIFT, buf);
        let mut lost = 0u64;
        {
            let mut pages = self.pages.lock();
            for i in 0..n {
                let mine = pages.loaded(first + i, run.add(i as usize), result.is_ok());
                if mine && result.is_err() {
                    lost |= 1 << i;
                }
            }
        }
        self.ready.wake_all();
        for i in 0..n {
            let p = run.add(i as usize);
            frame::put(p);
            if lost >> i & 1 != 0 {
                frame::put(p);
            }
        }
        match result {
            Ok(()) => Ok(()),
            // The error may belong to a page that was only read ahead.
            Err(_) if n > 1 => self.fill(index, Ahead::None, spare),
            Err(e) => Err(e),
        }
    }
}
