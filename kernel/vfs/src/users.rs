//! What a user has, in all its processes together: for the limits that count by real user id.

use crate::Cred;
use crate::cred::cap;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use sync::{SpinLock, level};

/// Users that are remembered before those that have nothing are forgotten.
const KEEP: usize = 64;

/// An amount for each user.
#[derive(Default)]
pub struct PerUser(SpinLock<BTreeMap<u32, Arc<AtomicU64>>, { level::LEAF }>);

impl PerUser {
    /// What user `uid` has.
    pub fn of(&self, uid: u32) -> Arc<AtomicU64> {
        let mut map = self.0.lock();
        if map.len() > KEEP && !map.contains_key(&uid) {
            // A share of an amount holds it, so whoever is alone with it has nothing.
            map.retain(|_, total| Arc::strong_count(total) > 1);
        }
        map.entry(uid).or_default().clone()
    }
    /// Adds 1 if user `uid` then has `limit` at most, or if it `must` be.
    pub fn take_one(&self, uid: u32, limit: u64, must: bool) -> Option<Share> {
        let share = Share::new(self.of(uid), 1);
        (must || share.total() <= limit).then_some(share)
    }
}

/// A part of what a user has, given back on drop.
pub struct Share {
    total: Arc<AtomicU64>,
    n: u64,
}

impl Share {
    /// `n` more.
    pub fn new(total: Arc<AtomicU64>, n: u64) -> Share {
        total.fetch_add(n, Ordering::AcqRel);
        Share { total, n }
    }
    /// All that the user has.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Acquire)
    }
    /// Becomes a share of `n`.
    pub fn resize(&mut self, n: u64) {
        if n > self.n {
            self.total.fetch_add(n - self.n, Ordering::AcqRel);
        } else {
            self.total.fetch_sub(self.n - n, Ordering::AcqRel);
        }
        self.n = n;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.total.fetch_sub(self.n, Ordering::AcqRel);
    }
}

/// Limits of pipes, pipe(7), and what each user has of them.
pub struct PipeLimits {
    /// `fs.pipe-max-size` in bytes.
    pub max_size: AtomicU64,
    /// `fs.pipe-user-pages-soft`; 0 = none.
    pub soft: AtomicU64,
    /// `fs.pipe-user-pages-hard`; 0 = none.
    pub hard: AtomicU64,
    /// Pages that the pipes of a user may fill.
    pub pages: PerUser,
}

impl Default for PipeLimits {
    fn default() -> PipeLimits {
        PipeLimits {
            max_size: AtomicU64::new(1 << 20),
            soft: AtomicU64::new(16384),
            hard: AtomicU64::new(0),
            pages: PerUser::default(),
        }
    }
}

impl PipeLimits {
    /// Whether `total` pages are more than `limit` lets this user have.
    fn over(limit: &AtomicU64, total: u64, cred: &Cred) -> bool {
        let limit = limit.load(Ordering::Relaxed);
        limit != 0
            && total > limit
            && !cred.capable(cap::SYS_RESOURCE)
            && !cred.capable(cap::SYS_ADMIN)
    }
    /// Whether a user with `total` pages gets small pipes only.
    pub fn over_soft(&self, total: u64, cred: &Cred) -> bool {
        PipeLimits::over(&self.soft, total, cred)
    }
    /// Whether a user with `total` pages gets no more pipes.
    pub fn over_hard(&self, total: u64, cred: &Cred) -> bool {
        PipeLimits::over(&self.hard, total, cred)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        let all = PerUser::default();
        let mut a = Share::new(all.of(1), 10);
        let b = Share::new(all.of(1), 5);
        assert_eq!((a.total(), b.total()), (15, 15));
        a.resize(2);
        assert_eq!(b.total(), 7);
        assert!(all.take_one(1, 7, false).is_none());
        assert!(all.take_one(1, 8, false).is_some());
        let more = all.take_one(1, 0, true);
        assert_eq!(b.total(), 8);
        drop((a, more));
        assert_eq!(b.total(), 5);
        for uid in 2..500 {
            all.of(uid);
        }
        assert!(all.0.lock().len() <= KEEP + 2);
        assert_eq!(all.of(1).load(Ordering::Relaxed), 5);
    }
}
