//! read(2) and write(2) through the cache.

use super::fill::{Ahead, bytes};
use super::pages::{CHUNK, Slot};
use super::{MAX_FILE_SIZE, PageCache, yield_if_needed};
use crate::frame::{self, Contents, Pinned};
use crate::io::{Sink, Source};
use abi::{Errno, Result};
use core::sync::atomic::Ordering;
use hal::{PAGE_SHIFT, PAGE_SIZE, Pfn};

const PAGE: u64 = PAGE_SIZE as u64;
/// Pages moved at once.
const BATCH: usize = 16;

impl PageCache {
    /// Copies from `pos` to `dst` up to the end of the file; reads ahead. 0 at the end.
    pub fn read(&self, pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        let mut done = 0usize;
        loop {
            let at = pos.saturating_add(done as u64);
            let size = self.size();
            if at >= size || dst.remaining() == 0 {
                return Ok(done);
            }
            let want = (size - at).min(dst.remaining() as u64) as usize;
            match self.read_some(at, want, dst) {
                Ok(0) => return Ok(done),
                Ok(n) => done += n,
                Err(e) => return if done > 0 { Ok(done) } else { Err(e) },
            }
            yield_if_needed();
        }
    }

    /// Copies part of what is wanted: at least something, 0 if `dst` takes no more.
    fn read_some(&self, at: u64, want: usize, dst: &mut dyn Sink) -> Result<usize> {
        let index = at >> PAGE_SHIFT;
        let off = (at & (PAGE - 1)) as usize;
        // A run of contiguous frames, referenced.
        let mut run: Option<(Pfn, usize)> = None;
        let most = (off + want).div_ceil(PAGE_SIZE).min(BATCH);
        {
            let mut pages = self.pages.lock();
            for i in 0..most as u64 {
                let Some(p) = pages.pin(index + i) else { break };
                match &mut run {
                    None => run = Some((p.into_ref(), 1)),
                    Some((first, n)) if first.add(*n) == p.pfn() => {
                        p.into_ref();
                        *n += 1;
                    }
                    Some(_) => {
                        // Given back behind the lock's end: not the last reference.
                        drop(p);
                        break;
                    }
                }
            }
        }
        if run.is_none() {
            let hole = self.is_memory() && matches!(self.pages.lock().slot(index), Slot::Absent);
            if hole {
                let end = {
                    let pages = self.pages.lock();
                    pages
                        .next(index, index + CHUNK, true)
                        .unwrap_or(index + CHUNK)
                };
                let n = want.min(((end - index) as usize * PAGE_SIZE).saturating_sub(off));
                return if n == 0 { Ok(0) } else { dst.put_zeros(n) };
            }
            let p = self.page(index, Ahead::Reader(most as u64), false);
            match p {
                Ok(p) => run = Some((p.into_ref(), 1)),
                // Truncated meanwhile.
                Err(Errno::ENXIO) => return Ok(0),
                Err(e) => return Err(e),
            }
        }
        let Some((first, n)) = run else { return Ok(0) };
        let len = want.min(n * PAGE_SIZE - off);
        // SAFETY: a reference to each of the `n` frames is held until `put_run`.
        let r = dst.put(&unsafe { bytes(first, n) }[off..off + len]);
        frame::put_run(first, n);
        match r {
            Ok(0) => Err(Errno::EFAULT),
            r => r,
        }
    }

    /// Copies `src` to `pos`, growing the file. Short count if memory runs out half-way ([`Errno::ENOSPC`] if at once).
    /// The caller holds the inode's write lock (writes are atomic among each other).
    pub fn write(&self, pos: u64, src: &mut dyn Source) -> Result<usize> {
        if src.remaining() == 0 {
            return Ok(0);
        }
        if pos >= MAX_FILE_SIZE {
            return Err(Errno::EFBIG);
        }
        self.zero_tail(pos);
        if let Some(h) = self.dirty_hook() {
            h.dirtied();
        }
        let done = self.write_all(pos, src);
        self.changed();
        done
    }

    fn write_all(&self, pos: u64, src: &mut dyn Source) -> Result<usize> {
        let mut done = 0usize;
        loop {
            let at = pos + done as u64;
            let want = src
                .remaining()
                .min(usize::try_from(MAX_FILE_SIZE - at).unwrap_or(usize::MAX));
            if want == 0 {
                return Ok(done);
            }
            match self.write_some(at, want, src) {
                Ok(0) => {
                    return if done > 0 {
                        Ok(done)
                    } else {
                        Err(Errno::EFAULT)
                    };
                }
                Ok(n) => done += n,
                Err(e) => return if done > 0 { Ok(done) } else { Err(e) },
            }
            yield_if_needed();
        }
    }

    /// Zeroes what lies between the end of the file and `pos` in the last page:
    /// a mapping may have left bytes there.
    pub(super) fn zero_tail(&self, pos: u64) {
        let size = self.size();
        let off = (size & (PAGE - 1)) as usize;
        if pos <= size || off == 0 {
            return;
        }
        let page = self.pages.lock().pin(size >> PAGE_SHIFT);
        if let Some(p) = page {
            let end = (pos - (size - off as u64)).min(PAGE) as usize;
            frame::zero_frame(p.pfn(), off, end - off);
        }
    }

    fn grow(&self, end: u64) {
        self.size.fetch_max(end, Ordering::AcqRel);
    }

    /// Writes part of what is wanted; 0: the source's memory faulted.
    fn write_some(&self, at: u64, want: usize, src: &mut dyn Source) -> Result<usize> {
        let index = at >> PAGE_SHIFT;
        let off = (at & (PAGE - 1)) as usize;
        let page = self.pages.lock().pin(index);
        if let Some(p) = page {
            return self.write_page(p, at, off, want, src);
        }
        let loading = matches!(self.pages.lock().slot(index), Slot::Loading);
        if loading {
            self.wait_loaded(index);
            let page = self.pages.lock().pin(index);
            if let Some(p) = page {
                return self.write_page(p, at, off, want, src);
            }
        }
        // Whole new pages need not be read first, nor zeroed.
        let whole = if off == 0 {
            let end = self.size();
            // The last page is whole too if the write reaches the end of the file.
            if at + want as u64 >= end {
                want.div_ceil(PAGE_SIZE)
            } else {
                want / PAGE_SIZE
            }
        } else {
            0
        };
        if whole > 0 {
            let room = (CHUNK - index % CHUNK) as usize;
            if let Some(n) = self.write_new(at, want, whole.min(room), src)? {
                return Ok(n);
            }
        }
        let p = if index >= self.size_pages() || self.is_memory() {
            self.new_zero(index)?
        } else {
            match self.page(index, Ahead::None, false) {
                Err(Errno::ENOMEM) => return Err(Errno::ENOSPC),
                r => r?,
            }
        };
        self.write_page(p, at, off, want, src)
    }

    fn write_page(
        &self,
        p: Pinned,
        at: u64,
        off: usize,
        want: usize,
        src: &mut dyn Source,
    ) -> Result<usize> {
        let len = want.min(PAGE_SIZE - off);
        // SAFETY: `p` is a reference to the frame.
        let n = src.take(&mut unsafe { bytes(p.pfn(), 1) }[off..off + len])?;
        self.grow(at + n as u64);
        if !self.is_memory() {
            self.pages.lock().set_dirty(at >> PAGE_SHIFT, p.pfn());
        }
        Ok(n)
    }

    /// A page of zeros at `index`, which may lie behind the end of the file.
    fn new_zero(&self, index: u64) -> Result<Pinned> {
        loop {
            if let Some(p) = frame::alloc_user(1, self.kind(), Contents::Zero, false) {
                let mut pages = self.pages.lock();
                if matches!(pages.slot(index), Slot::Absent) {
                    pages.insert(index, p, false);
                } else {
                    drop(pages);
                    frame::put(p);
                    pages = self.pages.lock();
                }
                match pages.pin(index) {
                    Some(p) => return Ok(p),
                    None => {
                        drop(pages);
                        self.wait_loaded(index);
                        continue;
                    }
                }
            }
            if !frame::make_room() {
                return Err(Errno::ENOSPC);
            }
        }
    }

    /// Writes to up to `n` absent pages from the page at `at` on. `None`: no run of frames to be had.
    fn write_new(
        &self,
        at: u64,
        want: usize,
        n: usize,
        src: &mut dyn Source,
    ) -> Result<Option<usize>> {
        let index = at >> PAGE_SHIFT;
        let n = {
            let pages = self.pages.lock();
            (0..n as u64)
                .take_while(|i| matches!(pages.slot(index + i), Slot::Absent))
                .count()
        };
        if n == 0 {
            return Ok(None);
        }
        let n = if frame::is_tight() { 1 } else { n };
        let Some(run) = frame::alloc_user(n, self.kind(), Contents::Undefined, false) else {
            return Ok(None);
        };
        let len = want.min(n * PAGE_SIZE);
        // SAFETY: the frames are new and ours.
        let buf = unsafe { bytes(run, n) };
        let mut got = match src.take(&mut buf[..len]) {
            Ok(got) => got,
            Err(e) => {
                frame::put_run(run, n);
                return Err(e);
            }
        };
        let mut used = got.div_ceil(PAGE_SIZE);
        let tail = got % PAGE_SIZE;
        if tail != 0 {
            let new_end = at + got as u64;
            if got < len && !self.is_memory() && new_end < self.size() {
                // The rest of the page is in the file: go the other way for it.
                src.untake(tail);
                got -= tail;
                used -= 1;
            } else {
                buf[got..used * PAGE_SIZE].fill(0);
            }
        }
        let mut lost = false;
        {
            let mut pages = self.pages.lock();
            for i in 0..used as u64 {
                if matches!(pages.slot(index + i), Slot::Absent) {
                    let p = run.add(i as usize);
                    pages.insert(index + i, p, false);
                    if !self.is_memory() {
                        pages.set_dirty(index + i, p);
                    }
                } else if i == 0 {
                    lost = true;
                    break;
                } else {
                    // A fault brought the page in: end before it.
                    let keep = i as usize * PAGE_SIZE;
                    src.untake(got - keep);
                    got = keep;
                    used = i as usize;
                    break;
                }
            }
            if lost {
                used = 0;
            } else {
                self.grow(at + got as u64);
            }
        }
        if lost {
            src.untake(got);
            got = 0;
        }
        if used < n {
            frame::put_run(run.add(used), n - used);
        }
        Ok(if lost || (got == 0 && used == 0 && tail != 0) {
            None
        } else {
            Some(got)
        })
    }

    /// Takes over the pages of `other` by copying (copy-up), `len` bytes at most.
    pub fn copy_from(&self, other: &PageCache, len: u64) -> Result {
        let len = len.min(other.size());
        let mut at = 0u64;
        while at < len {
            let index = at >> PAGE_SHIFT;
            if other.is_memory() {
                let next = other.pages.lock().next(index, super::pages_of(len), true);
                match next {
                    None => break,
                    Some(i) if i > index => {
                        at = i << PAGE_SHIFT;
                        continue;
                    }
                    Some(_) => {}
                }
            }
            let mut from = CacheSource {
                cache: other,
                pos: at,
                end: len.min(((index / CHUNK + 1) * CHUNK) << PAGE_SHIFT),
                error: None,
            };
            let n = self.write(at, &mut from);
            if let Some(e) = from.error {
                return Err(e);
            }
            match n? {
                0 => return Err(Errno::EIO),
                n => at += n as u64,
            }
        }
        self.grow(len);
        Ok(())
    }
}

/// The bytes of another cache.
struct CacheSource<'a> {
    cache: &'a PageCache,
    pos: u64,
    end: u64,
    error: Option<Errno>,
}

impl Source for CacheSource<'_> {
    fn remaining(&self) -> usize {
        (self.end - self.pos) as usize
    }
    fn take(&mut self, buf: &mut [u8]) -> Result<usize> {
        let len = buf.len().min(self.remaining());
        let mut sink = crate::io::SliceSink::new(&mut buf[..len]);
        match self.cache.read(self.pos, &mut sink) {
            Ok(n) => {
                self.pos += n as u64;
                Ok(n)
            }
            Err(e) => {
                self.error = Some(e);
                Err(e)
            }
        }
    }
    fn untake(&mut self, n: usize) {
        self.pos -= n as u64;
    }
}
