//! A sleeping lock between host threads: one futex word, no thread-local
//! storage, no poison. Never taken in a signal handler.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};
use host_sys::time::{futex_wait, futex_wake};

const FREE: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;

pub(crate) struct HostLock<T> {
    word: AtomicU32,
    data: UnsafeCell<T>,
}

// SAFETY: the lock hands the data to one thread at a time.
unsafe impl<T: Send> Sync for HostLock<T> {}

pub(crate) struct Guard<'a, T> {
    lock: &'a HostLock<T>,
}

impl<T> HostLock<T> {
    pub(crate) const fn new(data: T) -> HostLock<T> {
        HostLock {
            word: AtomicU32::new(FREE),
            data: UnsafeCell::new(data),
        }
    }

    pub(crate) fn lock(&self) -> Guard<'_, T> {
        let w = &self.word;
        if w.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            // A sleeper always leaves the word at CONTENDED, so whoever frees
            // the lock wakes one; a change between swap and sleep ends the sleep.
            while w.swap(CONTENDED, Ordering::Acquire) != FREE {
                let _ = futex_wait(w, CONTENDED, None);
            }
        }
        Guard { lock: self }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        if self.lock.word.swap(FREE, Ordering::Release) == CONTENDED {
            futex_wake(&self.lock.word, 1);
        }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: this thread holds the lock.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this thread holds the lock, and the guard is borrowed alone.
        unsafe { &mut *self.lock.data.get() }
    }
}
