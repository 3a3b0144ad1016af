//! Runs of frames set aside for the heap.
//!
//! Most objects are allocated infallibly. One of several frames can find free memory in
//! pieces, on a stack that cannot wait or whose waiting did not help; these few runs are
//! for it. They are never on a list of the buddy allocator.

use super::desc::{Kind, desc};
use crate::state::state;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{AcqRel, Relaxed};
use hal::Pfn;

/// Frames of each.
pub(super) const LEN: usize = 16;
/// How many there are.
const RUNS: usize = 8;
/// Order of the block that they are cut from.
pub(super) const ORDER: u32 = (LEN * RUNS).ilog2();

/// All zero: there are none.
#[derive(Default)]
pub(crate) struct Aside {
    /// First frame of the block, 0 = none.
    pub(super) first: u32,
    /// Bit n: run n is in use.
    taken: AtomicU32,
}

/// The run that frame `pfn` is in, and whether it is its first frame.
fn run_of(pfn: Pfn) -> Option<(u32, bool)> {
    let first = state().aside.first;
    let at = pfn.0.checked_sub(first).filter(|_| first != 0)? as usize;
    (at < LEN * RUNS).then_some(((at / LEN) as u32, at % LEN == 0))
}

/// A run for `n` frames of the heap. `None`: `n` is one or too many, or all are in use.
pub(super) fn take(n: usize, zeroed: bool) -> Option<Pfn> {
    let a = &state().aside;
    if a.first == 0 || !(2..=LEN).contains(&n) {
        return None;
    }
    let free = |taken: u32| {
        let run = taken.trailing_ones();
        (run < RUNS as u32).then_some(taken | 1 << run)
    };
    let before = a.taken.fetch_update(AcqRel, Relaxed, free).ok()?;
    let pfn = a.first + before.trailing_ones() * LEN as u32;
    Some(super::put_to_use(pfn, n, Kind::Heap, zeroed))
}

/// Gives back `n` frames of such a run, all that are left of it or its end. `false`: they are not of one.
pub(super) fn give(first: Pfn, n: usize) -> bool {
    let Some((run, whole)) = run_of(first) else {
        return false;
    };
    let st = state();
    st.used[Kind::Heap as usize].fetch_sub(n as i64, Relaxed);
    if whole {
        desc(first.0).set_kind(Kind::None);
        st.aside.taken.fetch_and(!(1 << run), AcqRel);
    }
    true
}
