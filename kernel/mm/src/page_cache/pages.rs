//! The table of a file's pages: chunks of 32 pages by index.

use crate::frame::{self, Pinned};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use hal::Pfn;

/// Pages of a chunk: the most that is read ahead at once (128 KiB).
pub(crate) const CHUNK: u64 = 32;

/// State of [`CHUNK`] pages; bit n of each word is page n.
pub(super) struct Chunk {
    pfn: [u32; CHUNK as usize],
    /// Has valid contents.
    pub(super) present: u32,
    /// Has a frame that is being read into.
    pub(super) loading: u32,
    /// Must be written back.
    pub(super) dirty: u32,
    /// Used since the clock hand came by.
    pub(super) hot: u32,
}

impl Chunk {
    fn is_empty(&self) -> bool {
        self.present | self.loading == 0
    }
    pub(super) fn frame(&self, bit: u32) -> Pfn {
        Pfn(self.pfn[bit as usize])
    }
}

/// What is known about a page.
pub(super) enum Slot {
    Absent,
    Loading,
    Present(Pfn),
}

/// The pages of a file.
pub(crate) struct Pages {
    pub(super) chunks: BTreeMap<u64, Box<Chunk>>,
    pub(super) resident: u64,
    pub(super) dirty: u64,
    /// Page that a sequential reader asks for next, and pages read at the last miss.
    pub(super) ahead: (u64, u64),
}

fn split(index: u64) -> (u64, u32) {
    (index / CHUNK, (index % CHUNK) as u32)
}

impl Pages {
    pub(super) const fn new() -> Pages {
        Pages {
            chunks: BTreeMap::new(),
            resident: 0,
            dirty: 0,
            ahead: (0, 0),
        }
    }

    pub(super) fn slot(&self, index: u64) -> Slot {
        let (c, b) = split(index);
        match self.chunks.get(&c) {
            Some(k) if k.present >> b & 1 != 0 => Slot::Present(k.frame(b)),
            Some(k) if k.loading >> b & 1 != 0 => Slot::Loading,
            _ => Slot::Absent,
        }
    }

    /// The frame of a page that has valid contents.
    pub(crate) fn present(&self, index: u64) -> Option<Pfn> {
        match self.slot(index) {
            Slot::Present(p) => Some(p),
            _ => None,
        }
    }

    /// Takes a reference to a valid page and notes the use.
    pub(super) fn pin(&mut self, index: u64) -> Option<Pinned> {
        let (c, b) = split(index);
        let k = self.chunks.get_mut(&c)?;
        if k.present >> b & 1 == 0 {
            return None;
        }
        k.hot |= 1 << b;
        let p = k.frame(b);
        frame::get(p);
        Some(Pinned::from_ref(p))
    }

    /// Calls `f(index, frame)` for the valid pages of `[first, end)`, all in one chunk or not.
    pub(crate) fn for_present(&mut self, first: u64, end: u64, mut f: impl FnMut(u64, Pfn)) {
        if first >= end {
            return;
        }
        let (c0, _) = split(first);
        let (c1, _) = split(end - 1);
        for (c, k) in self.chunks.range_mut(c0..=c1) {
            let mut m = k.present & mask_of(*c, first, end);
            k.hot |= m;
            while m != 0 {
                let b = m.trailing_zeros();
                m &= m - 1;
                f(c * CHUNK + b as u64, k.frame(b));
            }
        }
    }

    /// Puts a frame (and its reference) in an absent slot.
    pub(super) fn insert(&mut self, index: u64, pfn: Pfn, loading: bool) {
        let (c, b) = split(index);
        let k = self.chunks.entry(c).or_insert_with(|| {
            Box::new(Chunk {
                pfn: [0; CHUNK as usize],
                present: 0,
                loading: 0,
                dirty: 0,
                hot: 0,
            })
        });
        debug_assert!((k.present | k.loading) >> b & 1 == 0, "page slot in use");
        k.pfn[b as usize] = pfn.0;
        k.hot |= 1 << b;
        if loading {
            k.loading |= 1 << b;
        } else {
            k.present |= 1 << b;
            self.resident += 1;
        }
    }

    /// Ends the loading of a slot if it still is the one with `pfn`: valid, or gone (the reference is the caller's then).
    pub(super) fn loaded(&mut self, index: u64, pfn: Pfn, ok: bool) -> bool {
        let (c, b) = split(index);
        let Some(k) = self.chunks.get_mut(&c) else {
            return false;
        };
        if k.loading >> b & 1 == 0 || k.frame(b) != pfn {
            return false;
        }
        k.loading &= !(1 << b);
        if ok {
            k.present |= 1 << b;
            self.resident += 1;
        } else if k.is_empty() {
            self.chunks.remove(&c);
        }
        true
    }

    /// Marks a valid page with frame `pfn` dirty; whether there is such a page.
    pub(crate) fn set_dirty(&mut self, index: u64, pfn: Pfn) -> bool {
        let (c, b) = split(index);
        let Some(k) = self.chunks.get_mut(&c) else {
            return false;
        };
        if k.present >> b & 1 == 0 || k.frame(b) != pfn {
            return false;
        }
        if k.dirty >> b & 1 == 0 {
            k.dirty |= 1 << b;
            self.dirty += 1;
        }
        true
    }

    /// Takes up to `max` pages of `[first, end)` out, valid or loading; their references go to `f`.
    /// `clean`: only valid pages that are not dirty, and loading ones. Returns where to go on, `None` at the end.
    pub(super) fn remove(
        &mut self,
        first: u64,
        end: u64,
        clean: bool,
        max: usize,
        mut f: impl FnMut(Pfn),
    ) -> Option<u64> {
        if first >= end {
            return None;
        }
        let mut at = first;
        let mut left = max as u64;
        while left >= CHUNK {
            let (c0, _) = split(at);
            let (c1, _) = split(end - 1);
            let (&c, k) = self.chunks.range_mut(c0..=c1).next()?;
            let mut m = (k.present | k.loading) & mask_of(c, at, end);
            if clean {
                m &= !k.dirty;
            }
            self.resident -= (m & k.present).count_ones() as u64;
            self.dirty -= (m & k.dirty).count_ones() as u64;
            k.present &= !m;
            k.loading &= !m;
            k.dirty &= !m;
            k.hot &= !m;
            left -= m.count_ones() as u64;
            while m != 0 {
                let b = m.trailing_zeros();
                m &= m - 1;
                f(k.frame(b));
            }
            if k.is_empty() {
                self.chunks.remove(&c);
            }
            at = (c + 1) * CHUNK;
            if at >= end {
                return None;
            }
        }
        Some(at)
    }

    /// First page >= `index` that has (`data`) or has not a frame, below `end`.
    pub(super) fn next(&self, index: u64, end: u64, data: bool) -> Option<u64> {
        let (c0, _) = split(index);
        if data {
            for (c, k) in self.chunks.range(c0..) {
                let m = k.present & mask_of(*c, index, end);
                if m != 0 {
                    return Some(c * CHUNK + m.trailing_zeros() as u64);
                }
                if c * CHUNK >= end {
                    break;
                }
            }
            return None;
        }
        let mut at = index;
        while at < end {
            let (c, _) = split(at);
            let Some(k) = self.chunks.get(&c) else {
                return Some(at);
            };
            let m = !k.present & mask_of(c, at, end);
            if m != 0 {
                return Some(c * CHUNK + m.trailing_zeros() as u64);
            }
            at = (c + 1) * CHUNK;
        }
        None
    }
}

/// Bits of the pages of chunk `c` that lie in `[first, end)`.
fn mask_of(c: u64, first: u64, end: u64) -> u32 {
    let base = c * CHUNK;
    let lo = first.saturating_sub(base).min(CHUNK);
    let hi = end.saturating_sub(base).min(CHUNK);
    if lo >= hi {
        return 0;
    }
    let upto = |n: u64| if n == 32 { u32::MAX } else { (1u32 << n) - 1 };
    upto(hi) & !upto(lo)
}
