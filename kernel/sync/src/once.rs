//! [`Once`]: a value that is set one time and then only read.

use crate::base::atomic::{AtomicU8, Ordering};
use core::cell::UnsafeCell;

/// Empty until [`Once::set`].
pub struct Once<T> {
    state: AtomicU8,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: the value is written once, before the state says that it may be read.
unsafe impl<T: Send> Send for Once<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Once<T> {}

impl<T> Once<T> {
    constructor! {
    /// No value yet.
    pub fn new() -> Once<T> {
        Once {
            state: AtomicU8::new(0),
            value: UnsafeCell::new(None),
        }
    }
    }
    /// Sets the value; gives it back if there is one already.
    pub fn set(&self, v: T) -> Result<(), T> {
        if self
            .state
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            return Err(v);
        }
        // SAFETY: state 1 is reached by one caller only, and readers wait for 2.
        unsafe { *self.value.get() = Some(v) };
        self.state.store(2, Ordering::Release);
        Ok(())
    }
    /// The value if it is set.
    pub fn get(&self) -> Option<&T> {
        if self.state.load(Ordering::Acquire) != 2 {
            return None;
        }
        // SAFETY: state 2: written, never written again.
        unsafe { (*self.value.get()).as_ref() }
    }
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self::new()
    }
}
