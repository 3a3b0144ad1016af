//! The kernel heap. The binary's global allocator calls these for code that runs on kernel stacks.

use core::alloc::Layout;

/// Memory of the memory file for `layout`; null if there is none left.
pub fn alloc(layout: Layout) -> *mut u8 {
    let _ = layout;
    core::ptr::null_mut()
}

/// Gives memory back.
///
/// # Safety
/// `ptr` came from [`alloc`] with the same layout and is used no more.
pub unsafe fn dealloc(ptr: *mut u8, layout: Layout) {
    let _ = (ptr, layout);
}

/// Grows or shrinks, moving if need be; null (and `ptr` still valid) if there is no memory.
///
/// # Safety
/// As for [`dealloc`], if the result is not null.
pub unsafe fn realloc(ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
    let _ = (ptr, layout, new_size);
    core::ptr::null_mut()
}
