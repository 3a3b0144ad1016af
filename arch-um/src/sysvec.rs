//! A growable array in the host's memory, whatever stack it is used on.
//!
//! Engine code runs on kernel stacks, where the global allocator is the
//! machine's own heap. What the engine keeps under its locks must not go there:
//! an allocation could make the kernel free memory and so call the engine again.

use core::alloc::Layout;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use host_sys::arena;
use std::alloc::{GlobalAlloc, System, handle_alloc_error};

/// Memory of the host, or of the heap that the processes of `kml` share.
///
/// # Safety
/// As [`GlobalAlloc::alloc`].
unsafe fn take(layout: Layout) -> *mut u8 {
    if arena::is_on() {
        return arena::alloc(layout);
    }
    // SAFETY: the caller's promise.
    unsafe { System.alloc(layout) }
}

/// # Safety
/// As [`GlobalAlloc::dealloc`].
unsafe fn give(p: *mut u8, layout: Layout) {
    // SAFETY: the caller's promise; the address tells where it came from.
    unsafe {
        match arena::contains(p.addr()) {
            true => arena::dealloc(p, layout),
            false => System.dealloc(p, layout),
        }
    }
}

pub(crate) struct SysVec<T: Copy> {
    ptr: NonNull<T>,
    len: usize,
    cap: usize,
}

// SAFETY: owns its elements like a Vec.
unsafe impl<T: Copy + Send> Send for SysVec<T> {}
// SAFETY: as above.
unsafe impl<T: Copy + Sync> Sync for SysVec<T> {}

impl<T: Copy> SysVec<T> {
    pub(crate) const fn new() -> SysVec<T> {
        SysVec {
            ptr: NonNull::dangling(),
            len: 0,
            cap: 0,
        }
    }

    fn layout(cap: usize) -> Layout {
        Layout::array::<T>(cap).unwrap_or(Layout::new::<T>())
    }

    fn grow(&mut self) {
        let cap = (self.cap * 2).max(16);
        let new = Self::layout(cap);
        // SAFETY: the old block came from the same allocator with this layout;
        // sizes are not zero.
        let p = unsafe {
            if self.cap == 0 {
                take(new)
            } else {
                let p = take(new);
                if !p.is_null() {
                    let old = Self::layout(self.cap);
                    p.copy_from_nonoverlapping(self.ptr.as_ptr().cast(), old.size());
                    give(self.ptr.as_ptr().cast(), old);
                }
                p
            }
        };
        match NonNull::new(p.cast::<T>()) {
            Some(p) => self.ptr = p,
            None => handle_alloc_error(new),
        }
        self.cap = cap;
    }

    pub(crate) fn push(&mut self, v: T) {
        self.insert(self.len, v);
    }

    pub(crate) fn insert(&mut self, at: usize, v: T) {
        assert!(at <= self.len);
        if self.len == self.cap {
            self.grow();
        }
        // SAFETY: there is room for one more, and `at` is within the elements or just behind.
        unsafe {
            let p = self.ptr.as_ptr().add(at);
            p.copy_to(p.add(1), self.len - at);
            p.write(v);
        }
        self.len += 1;
    }

    /// Removes the elements `from..to`.
    pub(crate) fn remove_range(&mut self, from: usize, to: usize) {
        assert!(from <= to && to <= self.len);
        // SAFETY: both ends are within the elements.
        unsafe {
            let p = self.ptr.as_ptr();
            p.add(to).copy_to(p.add(from), self.len - to);
        }
        self.len -= to - from;
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        self.len = self.len.checked_sub(1)?;
        // SAFETY: was the last element.
        Some(unsafe { self.ptr.as_ptr().add(self.len).read() })
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }
}

impl<T: Copy> Deref for SysVec<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `len` elements are initialised.
        unsafe { core::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl<T: Copy> DerefMut for SysVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, borrowed alone.
        unsafe { core::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl<T: Copy> Drop for SysVec<T> {
    fn drop(&mut self) {
        if self.cap != 0 {
            // SAFETY: allocated by `grow` with this layout.
            unsafe { give(self.ptr.as_ptr().cast(), Self::layout(self.cap)) };
        }
    }
}

/// `n` values in the host's memory that live for ever.
pub(crate) fn leak_slice<T>(n: usize, mut make: impl FnMut(usize) -> T) -> &'static [T] {
    let Ok(layout) = Layout::array::<T>(n.max(1)) else {
        panic!("an impossible size")
    };
    assert!(size_of::<T>() != 0);
    // SAFETY: not of size zero; all elements are written before the slice is made.
    unsafe {
        let p = take(layout).cast::<T>();
        if p.is_null() {
            handle_alloc_error(layout);
        }
        for i in 0..n {
            p.add(i).write(make(i));
        }
        core::slice::from_raw_parts(p, n)
    }
}

/// A value in the host's memory that lives for ever.
pub(crate) fn leak<T>(v: T) -> &'static T {
    let mut v = Some(v);
    match leak_slice(1, |_| v.take()).first() {
        Some(Some(v)) => v,
        _ => unreachable!("one value was written"),
    }
}
