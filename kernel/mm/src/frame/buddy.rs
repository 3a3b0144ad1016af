//! The buddy allocator.
//!
//! Free blocks of 2^order frames, naturally aligned, on one list per order and
//! state: *clean* (reads as zero: never used, or given back to the host) or
//! *dirty*. Frames from `hw` on have never been used and are on no list.

use super::desc::{count_dirty, desc};
use crate::state::{State, state};
use core::sync::atomic::Ordering::Relaxed;

/// Largest block: 16 MiB.
pub(crate) const MAX_ORDER: u32 = 12;
/// Smallest block worth giving back to the host: 64 KiB.
const TRIM_ORDER: u32 = 4;

/// Free lists. All zero is empty.
pub(crate) struct Buddy {
    /// First frame of each list, 0 = empty; `[0]` clean, `[1]` dirty.
    heads: [[u32; MAX_ORDER as usize + 1]; 2],
    /// Bit n: the list of order n is not empty.
    filled: [u32; 2],
    /// First frame never used.
    hw: u32,
    /// End of memory.
    end: u32,
}

impl Buddy {
    pub(super) const fn new(hw: u32, end: u32) -> Buddy {
        Buddy {
            heads: [[0; MAX_ORDER as usize + 1]; 2],
            filled: [0; 2],
            hw,
            end,
        }
    }

    fn push(&mut self, pfn: u32, order: u32, dirty: bool) {
        let head = &mut self.heads[dirty as usize][order as usize];
        let d = desc(pfn);
        d.set_free(order, dirty);
        d.prev.store(0, Relaxed);
        d.next.store(*head, Relaxed);
        if *head != 0 {
            desc(*head).prev.store(pfn, Relaxed);
        }
        *head = pfn;
        self.filled[dirty as usize] |= 1 << order;
    }

    fn unlink(&mut self, pfn: u32, order: u32) -> bool {
        let d = desc(pfn);
        let dirty = d.free_dirty();
        let (next, prev) = (d.next.load(Relaxed), d.prev.load(Relaxed));
        if next != 0 {
            desc(next).prev.store(prev, Relaxed);
        }
        if prev != 0 {
            desc(prev).next.store(next, Relaxed);
        } else {
            self.heads[dirty as usize][order as usize] = next;
            if next == 0 {
                self.filled[dirty as usize] &= !(1 << order);
            }
        }
        d.clear_free();
        dirty
    }

    /// Puts the next block of never used memory on a list.
    fn grow(&mut self) -> bool {
        let left = self.end - self.hw;
        if left == 0 {
            return false;
        }
        let order = self.hw.trailing_zeros().min(left.ilog2()).min(MAX_ORDER);
        let pfn = self.hw;
        self.hw += 1 << order;
        self.push(pfn, order, false);
        true
    }

    /// Smallest order >= `order` with a block on list `dirty`.
    fn lookup(&self, dirty: bool, order: u32) -> Option<u32> {
        let m = self.filled[dirty as usize] >> order;
        (m != 0).then(|| order + m.trailing_zeros())
    }

    /// Takes a block. `want_dirty`: rather memory that the host has already given us.
    pub(super) fn take(&mut self, order: u32, want_dirty: bool) -> Option<u32> {
        if order > MAX_ORDER {
            return None;
        }
        let (dirty, mut o) = loop {
            if let Some(o) = self.lookup(want_dirty, order) {
                break (want_dirty, o);
            }
            if want_dirty {
                if let Some(o) = self.lookup(false, order) {
                    break (false, o);
                }
                if !self.grow() {
                    return None;
                }
            } else if !self.grow() {
                break (true, self.lookup(true, order)?);
            }
        };
        let pfn = self.heads[dirty as usize][o as usize];
        self.unlink(pfn, o);
        while o > order {
            o -= 1;
            let upper = pfn + (1 << o);
            let d = dirty && count_dirty(upper, 1 << o) > 0;
            self.push(upper, o, d);
        }
        let n = 1usize << order;
        let st = state();
        st.free.store(st.free.load(Relaxed) - n, Relaxed);
        if dirty {
            let c = count_dirty(pfn, n);
            st.dirty_free
                .store(st.dirty_free.load(Relaxed) - c, Relaxed);
        }
        Some(pfn)
    }

    /// Gives any run of frames back.
    pub(super) fn give(&mut self, first: u32, n: usize) {
        let st = state();
        let mut at = first;
        let end = first + n as u32;
        while at < end {
            let order = at.trailing_zeros().min((end - at).ilog2()).min(MAX_ORDER);
            self.give_block(st, at, order);
            at += 1 << order;
        }
    }

    fn give_block(&mut self, st: &State, pfn: u32, order: u32) {
        let n = 1usize << order;
        let c = count_dirty(pfn, n);
        st.free.store(st.free.load(Relaxed) + n, Relaxed);
        st.dirty_free
            .store(st.dirty_free.load(Relaxed) + c, Relaxed);
        debug_assert!(desc(pfn).free_order().is_none(), "frame freed twice");
        let (mut pfn, mut order, mut dirty) = (pfn, order, c > 0);
        while order < MAX_ORDER {
            let buddy = pfn ^ (1 << order);
            if buddy as u64 + (1u64 << order) > self.hw as u64
                || desc(buddy).free_order() != Some(order)
            {
                break;
            }
            dirty |= self.unlink(buddy, order);
            pfn = pfn.min(buddy);
            order += 1;
        }
        self.push(pfn, order, dirty);
    }

    /// Takes a large dirty block off its list, to be given back to the host. It counts as used meanwhile.
    pub(super) fn take_for_trim(&mut self) -> Option<(u32, usize)> {
        let m = self.filled[1];
        if m >> TRIM_ORDER == 0 {
            return None;
        }
        let order = 31 - m.leading_zeros();
        let pfn = self.heads[1][order as usize];
        self.unlink(pfn, order);
        let n = 1usize << order;
        let st = state();
        st.free.store(st.free.load(Relaxed) - n, Relaxed);
        let c = count_dirty(pfn, n);
        st.dirty_free
            .store(st.dirty_free.load(Relaxed) - c, Relaxed);
        Some((pfn, n))
    }
}
