//! [`SpinLock`]: mutual exclusion for short sections.

use crate::alone;
use crate::base::atomic::{AtomicU32, Ordering};
use crate::base::{cpu, hint};
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

const FREE: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;
/// Tries before the host thread blocks: about the length of a short section.
const SPINS: u32 = if cfg!(loom) { 1 } else { 100 };

/// A lock for short sections; `L` is its level in the order (see the crate's page).
pub struct SpinLock<T: ?Sized, const L: u8> {
    state: AtomicU32,
    data: UnsafeCell<T>,
}

// SAFETY: the lock hands out one reference at a time.
unsafe impl<T: ?Sized + Send, const L: u8> Send for SpinLock<T, L> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send, const L: u8> Sync for SpinLock<T, L> {}

impl<T, const L: u8> SpinLock<T, L> {
    constructor! {
    /// A free lock around `data`.
    pub fn new(data: T) -> Self {
        SpinLock {
            state: AtomicU32::new(FREE),
            data: UnsafeCell::new(data),
        }
    }
    }
    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

impl<T: ?Sized, const L: u8> SpinLock<T, L> {
    /// Waits for the lock.
    ///
    /// # Panics
    /// Debug builds: if a lock of the same or an inner level is held.
    #[inline]
    pub fn lock(&self) -> SpinGuard<'_, T, L> {
        enter::<L>();
        if !alone::replace(&self.state, FREE, HELD) {
            self.lock_slow();
        }
        SpinGuard { lock: self }
    }

    /// Takes the lock if it is free. Exempt from the order.
    #[inline]
    pub fn try_lock(&self) -> Option<SpinGuard<'_, T, L>> {
        if !alone::replace(&self.state, FREE, HELD) {
            return None;
        }
        enter_unordered::<L>();
        Some(SpinGuard { lock: self })
    }

    /// Continues to hold a lock that [`SpinGuard::hand_over`] left held.
    ///
    /// # Safety
    /// The lock was handed over, and to the caller alone.
    pub unsafe fn take_over(&self) -> SpinGuard<'_, T, L> {
        enter_unordered::<L>();
        SpinGuard { lock: self }
    }

    /// The value, without locking, from the only owner.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }

    #[cold]
    fn lock_slow(&self) {
        for _ in 0..SPINS {
            hint::spin_loop();
            if self.state.load(Ordering::Relaxed) == FREE
                && self
                    .state
                    .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
            {
                return;
            }
        }
        // Wake-up proof: whoever stores CONTENDED sleeps only while the word is
        // CONTENDED, and the holder that swaps CONTENDED out wakes one sleeper,
        // which stores CONTENDED again before it owns the lock.
        while self.state.swap(CONTENDED, Ordering::Acquire) != FREE {
            cpu::futex_wait(&self.state, CONTENDED);
        }
    }
}

impl<T: Default, const L: u8> Default for SpinLock<T, L> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T, const L: u8> core::fmt::Debug for SpinLock<T, L> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("SpinLock")
    }
}

/// Access to the value while the lock is held.
pub struct SpinGuard<'a, T: ?Sized, const L: u8> {
    lock: &'a SpinLock<T, L>,
}

impl<T: ?Sized, const L: u8> SpinGuard<'_, T, L> {
    /// Leaves the lock held, for [`SpinLock::take_over`] on the kernel stack
    /// that is switched to next.
    pub fn hand_over(self) {
        leave::<L>();
        core::mem::forget(self);
    }
}

impl<T: ?Sized, const L: u8> Deref for SpinGuard<'_, T, L> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: this guard proves that the lock is held by us.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized, const L: u8> DerefMut for SpinGuard<'_, T, L> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and the guard is borrowed mutably.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T: ?Sized, const L: u8> Drop for SpinGuard<'_, T, L> {
    #[inline]
    fn drop(&mut self) {
        if alone::is_alone() {
            // Nobody can be waiting.
            self.lock.state.store(FREE, Ordering::Release);
        } else if self.lock.state.swap(FREE, Ordering::Release) == CONTENDED {
            cpu::futex_wake(&self.lock.state, 1);
        }
        leave::<L>();
    }
}

#[inline]
fn enter<const L: u8>() {
    if cfg!(all(debug_assertions, not(loom))) {
        let s = cpu::current_stack();
        let held = s.held.load(Ordering::Relaxed);
        assert!(
            held >> L == 0,
            "lock order: level {L} taken with levels {held:#x} held"
        );
    }
    enter_unordered::<L>();
}

#[inline]
fn enter_unordered<const L: u8>() {
    if cfg!(loom) {
        return;
    }
    let s = cpu::current_stack();
    if cfg!(debug_assertions) {
        s.held.fetch_or(1 << L, Ordering::Relaxed);
    }
    // Only code on this stack writes the counter.
    let depth = s.lock_depth.load(Ordering::Relaxed);
    s.lock_depth.store(depth.wrapping_add(1), Ordering::Relaxed);
}

#[inline]
fn leave<const L: u8>() {
    if cfg!(loom) {
        return;
    }
    let s = cpu::current_stack();
    if cfg!(debug_assertions) {
        s.held.fetch_and(!(1 << L), Ordering::Relaxed);
    }
    let depth = s.lock_depth.load(Ordering::Relaxed);
    s.lock_depth.store(depth.wrapping_sub(1), Ordering::Relaxed);
}
