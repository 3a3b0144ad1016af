//! A mutex for tables of this crate that kernel paths use: no libc, no
//! thread-local storage, no poisoning. Held for short sections without host calls.

#![expect(unsafe_code, reason = "hands out the protected value")]

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};
use host_sys::time::{futex_wait, futex_wake};

const FREE: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;

/// A mutex on a host futex.
pub struct HostMutex<T> {
    state: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the lock gives access to one thread at a time.
unsafe impl<T: Send> Sync for HostMutex<T> {}

impl<T> HostMutex<T> {
    /// An unlocked mutex.
    pub const fn new(value: T) -> HostMutex<T> {
        HostMutex {
            state: AtomicU32::new(FREE),
            value: UnsafeCell::new(value),
        }
    }
    /// Takes the lock.
    pub fn lock(&self) -> Guard<'_, T> {
        let fast = self
            .state
            .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed);
        if fast.is_err() {
            // Wake-up proof: a waiter leaves CONTENDED behind before it sleeps
            // on that value, and an unlock that finds CONTENDED wakes one.
            while self.state.swap(CONTENDED, Ordering::Acquire) != FREE {
                let _ = futex_wait(&self.state, CONTENDED, None);
            }
        }
        Guard { mutex: self }
    }
}

/// The lock, held.
pub struct Guard<'a, T> {
    mutex: &'a HostMutex<T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the lock is held.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        if self.mutex.state.swap(FREE, Ordering::Release) == CONTENDED {
            futex_wake(&self.mutex.state, 1);
        }
    }
}
