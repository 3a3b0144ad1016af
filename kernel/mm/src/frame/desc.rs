//! Page descriptors: what the kernel knows about each frame.
//!
//! The table is as long as memory is but read as zero by the host until
//! touched, and all zero is a valid descriptor: a frame nobody used yet.

use crate::state::state;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use hal::Pfn;

/// What a frame is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Kind {
    /// Free, or part of the machine.
    None = 0,
    /// Kernel heap.
    Heap = 1,
    /// Page tables.
    Table = 2,
    /// Kernel stacks and other runs.
    Run = 3,
    /// Private guest memory.
    Anon = 4,
    /// A page of a file that can be read again.
    File = 5,
    /// A page of a file that exists in memory only.
    Shmem = 6,
}

/// Number of kinds.
pub(crate) const KINDS: usize = 7;

const KIND: u32 = 0xf;
const ORDER_SHIFT: u32 = 8;
/// First frame of a free block.
const FREE: u32 = 1 << 16;
/// The free block is on the dirty list.
const DIRTY: u32 = 1 << 17;

/// Descriptor of one frame.
#[repr(C)]
pub(crate) struct Desc {
    /// References of a guest page: page table entries, the page cache, transient users.
    pub(crate) refs: AtomicU32,
    flags: AtomicU32,
    /// Links of the list that the frame is on.
    pub(crate) next: AtomicU32,
    pub(crate) prev: AtomicU32,
    /// The user's word: slab state, used entries of a page table.
    pub(crate) data: AtomicU64,
}

const _: () = assert!(size_of::<Desc>() <= 32);

/// Descriptor of `pfn`.
pub(crate) fn desc(pfn: u32) -> &'static Desc {
    let st = state();
    debug_assert!((pfn as usize) < st.frames, "no such frame");
    // SAFETY: the table has a descriptor for every frame; frame numbers come
    // from the allocator only.
    unsafe { &*st.map.add(pfn as usize) }
}

impl Desc {
    pub(crate) fn kind(&self) -> Kind {
        match self.flags.load(Relaxed) & KIND {
            1 => Kind::Heap,
            2 => Kind::Table,
            3 => Kind::Run,
            4 => Kind::Anon,
            5 => Kind::File,
            6 => Kind::Shmem,
            _ => Kind::None,
        }
    }
    pub(crate) fn set_kind(&self, k: Kind) {
        self.flags.store(k as u32, Relaxed);
    }
    /// The order if a free block of that order starts here.
    pub(super) fn free_order(&self) -> Option<u32> {
        let f = self.flags.load(Relaxed);
        (f & FREE != 0).then_some(f >> ORDER_SHIFT & 0xff)
    }
    pub(super) fn free_dirty(&self) -> bool {
        self.flags.load(Relaxed) & DIRTY != 0
    }
    pub(super) fn set_free(&self, order: u32, dirty: bool) {
        let d = if dirty { DIRTY } else { 0 };
        self.flags.store(FREE | d | order << ORDER_SHIFT, Relaxed);
    }
    pub(super) fn clear_free(&self) {
        self.flags.store(0, Relaxed);
    }
}

/// Calls `f(word, mask)` for the words of the dirty map that cover the frames.
fn words(first: u32, n: usize, mut f: impl FnMut(&AtomicU64, u64)) {
    let base = state().dirty;
    let mut i = first as usize;
    let end = i + n;
    while i < end {
        let bit = i % 64;
        let k = (64 - bit).min(end - i);
        let mask = if k == 64 {
            u64::MAX
        } else {
            ((1u64 << k) - 1) << bit
        };
        // SAFETY: the map has a bit for every frame.
        f(unsafe { &*base.add(i / 64) }, mask);
        i += k;
    }
}

/// Number of frames of the run that may hold other bytes than zero.
pub(super) fn count_dirty(first: u32, n: usize) -> usize {
    let mut c = 0;
    words(first, n, |w, m| {
        c += (w.load(Relaxed) & m).count_ones() as usize
    });
    c
}

/// Notes that the run may hold anything from now on.
pub(super) fn mark_dirty(first: u32, n: usize) {
    words(first, n, |w, m| {
        if w.load(Relaxed) & m != m {
            w.fetch_or(m, Relaxed);
        }
    });
}

/// Notes that the run reads as zero.
pub(super) fn mark_clean(first: u32, n: usize) {
    words(first, n, |w, m| {
        w.fetch_and(!m, Relaxed);
    });
}

/// Makes the run, owned by the caller, read as zero.
pub(super) fn zero(first: u32, n: usize) {
    let mut at = first;
    words(first, n, |w, m| {
        let dirty = w.load(Relaxed) & m;
        let k = m.count_ones();
        let shift = m.trailing_zeros();
        let mut d = dirty >> shift;
        let mut pos = 0;
        // Run by run of set bits.
        while d != 0 {
            let skip = d.trailing_zeros();
            pos += skip;
            d >>= skip;
            let len = d.trailing_ones();
            // SAFETY: frames of the run, which the caller owns.
            unsafe {
                core::ptr::write_bytes(Pfn(at + pos).as_ptr(), 0, (len as usize) * hal::PAGE_SIZE)
            };
            pos += len;
            d = if len == 64 { 0 } else { d >> len };
        }
        at += k;
    });
}
