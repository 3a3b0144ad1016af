//! All caches of files that can be read again, and taking memory from them.

use super::PageCache;
use crate::state::state;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::ops::Bound;

/// Caches by address, and where the clock hand stands.
pub(crate) struct Registry {
    caches: BTreeMap<usize, Weak<PageCache>>,
    hand: usize,
}

impl Registry {
    pub(crate) const fn new() -> Registry {
        Registry {
            caches: BTreeMap::new(),
            hand: 0,
        }
    }
    /// The next live cache behind the hand, going round.
    fn next(&mut self) -> Option<(usize, Option<Arc<PageCache>>)> {
        let (k, w) = self
            .caches
            .range((Bound::Excluded(self.hand), Bound::Unbounded))
            .next()
            .or_else(|| self.caches.first_key_value())?;
        self.hand = *k;
        Some((*k, w.upgrade()))
    }
}

pub(super) fn register(key: usize, cache: Weak<PageCache>) {
    state().caches.lock().caches.insert(key, cache);
}

pub(super) fn unregister(key: usize) {
    let gone = state().caches.lock().caches.remove(&key);
    drop(gone);
}

/// How hard to look for pages to free.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Effort {
    /// Unmapped pages not used since the last look.
    Cold,
    /// Any unmapped page.
    Unmapped,
    /// Mapped pages too.
    Mapped,
    /// Dirty pages, after writing them back.
    Dirty,
}

/// Frees about `target` clean pages of files. Returns how many. May sleep; no
/// spin lock held. Address spaces that are being changed are passed over.
pub(crate) fn reclaim(target: usize) -> usize {
    use Effort::*;
    reclaim_by(target, &[Cold, Unmapped, Mapped, Dirty])
}

/// As [`reclaim`], but pages that nobody maps only: takes no sleeping lock and does not wait.
pub(crate) fn reclaim_clean(target: usize) -> usize {
    reclaim_by(target, &[Effort::Cold, Effort::Unmapped])
}

fn reclaim_by(target: usize, efforts: &[Effort]) -> usize {
    let mut freed = 0;
    for &effort in efforts {
        let rounds = state().caches.lock().caches.len();
        for _ in 0..rounds {
            if freed >= target {
                return freed;
            }
            let next = state().caches.lock().next();
            match next {
                None => break,
                Some((_, None)) => {}
                Some((_, Some(c))) => freed += c.reclaim(target - freed, effort),
            }
        }
        if freed >= target.min(32) {
            break;
        }
    }
    freed
}
