//! A reference that is counted only if need be.

use alloc::sync::Arc;
use core::mem::ManuallyDrop;
use core::ops::Deref;

/// For the length of a call: a reference to what an [`Arc`] holds. Counting is an atomic change, which costs as much as a
/// short call itself; where somebody else's reference surely stays, none is needed.
pub struct Held<T> {
    arc: ManuallyDrop<Arc<T>>,
    counted: bool,
}

impl<T> Held<T> {
    /// With a reference of its own.
    pub fn counted(arc: Arc<T>) -> Held<T> {
        Held {
            arc: ManuallyDrop::new(arc),
            counted: true,
        }
    }
    /// Without.
    ///
    /// # Safety
    /// The reference behind `arc` is not dropped while this value lives.
    pub unsafe fn uncounted(arc: &Arc<T>) -> Held<T> {
        // SAFETY: the copy is never dropped, nor used longer than the original, as the caller promises.
        let copy = unsafe { core::ptr::read(arc) };
        Held {
            arc: ManuallyDrop::new(copy),
            counted: false,
        }
    }
}

impl<T> Deref for Held<T> {
    type Target = Arc<T>;
    #[inline]
    fn deref(&self) -> &Arc<T> {
        &self.arc
    }
}

impl<T> Drop for Held<T> {
    #[inline]
    fn drop(&mut self) {
        if self.counted {
            // SAFETY: the value's own reference, dropped once.
            unsafe { ManuallyDrop::drop(&mut self.arc) };
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn counts_are_as_said() {
        let a = Arc::new(7);
        let h = Held::counted(a.clone());
        // SAFETY: `a` stays.
        let u = unsafe { Held::uncounted(&a) };
        assert_eq!((**h, **u, Arc::strong_count(&a)), (7, 7, 2));
        let more = Arc::clone(&u);
        drop((h, u));
        assert_eq!(Arc::strong_count(&a), 2);
        drop(more);
        assert_eq!(Arc::strong_count(&a), 1);
    }
}
