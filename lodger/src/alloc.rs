//! The global allocator: kernel code gets memory of the memory file, everything
//! else the host's.
//!
//! Where code runs is told by its stack: kernel stacks lie in the memory file.
//! Where memory came from is told by its address. So kernel objects always lie
//! in the memory file, and kernel code may free memory of either kind.

use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicBool, Ordering};
use hal::mem::is_direct_map;
use host_sys::arena;
use std::alloc::System as Libc;

/// The host's memory: libc's, or in the engine `kml` the heap that all processes
/// of the machine share.
struct Host;

#[allow(non_upper_case_globals)]
const System: Host = Host;

// SAFETY: each request goes to exactly one of two sound allocators, and a
// block goes back to the one it came from, by its address.
unsafe impl GlobalAlloc for Host {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if arena::is_on() {
            return arena::alloc(layout);
        }
        // SAFETY: the caller's promise.
        unsafe { Libc.alloc(layout) }
    }
    #[inline]
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe {
            match arena::contains(p.addr()) {
                true => arena::dealloc(p, layout),
                false => Libc.dealloc(p, layout),
            }
        }
    }
    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise; a fresh block is zeroed.
        unsafe {
            if !arena::is_on() {
                return Libc.alloc_zeroed(layout);
            }
            let p = arena::alloc(layout);
            if !p.is_null() {
                p.write_bytes(0, layout.size());
            }
            p
        }
    }
    #[inline]
    unsafe fn realloc(&self, p: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise; copies what both blocks hold.
        unsafe {
            if !arena::contains(p.addr()) && !arena::is_on() {
                return Libc.realloc(p, layout, new_size);
            }
            let new = Layout::from_size_align_unchecked(new_size, layout.align());
            let to = self.alloc(new);
            if !to.is_null() {
                to.copy_from_nonoverlapping(p, layout.size().min(new_size));
                self.dealloc(p, layout);
            }
            to
        }
    }
}

/// After a crash the kernel's heap may be locked or broken: it is left alone.
static KERNEL_HEAP_LOST: AtomicBool = AtomicBool::new(false);

/// From now on nothing is taken from or given to the kernel's heap.
pub fn abandon_kernel_heap() {
    KERNEL_HEAP_LOST.store(true, Ordering::Relaxed);
}

/// Whether this code runs on a kernel stack.
#[inline(always)]
pub fn on_kernel_stack() -> bool {
    let here = 0u8;
    is_direct_map((&raw const here).addr())
}

#[inline(always)]
fn use_kernel_heap() -> bool {
    on_kernel_stack() && !KERNEL_HEAP_LOST.load(Ordering::Relaxed)
}

/// See the module.
pub struct Allocator;

// SAFETY: each request goes to exactly one of two sound allocators, and a
// block goes back to the one it came from, by its address.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if use_kernel_heap() {
            mm::heap::alloc(layout)
        } else {
            // SAFETY: the caller's promise.
            unsafe { System.alloc(layout) }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if use_kernel_heap() {
            mm::heap::alloc_zeroed(layout)
        } else {
            // SAFETY: the caller's promise.
            unsafe { System.alloc_zeroed(layout) }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if !is_direct_map(ptr.addr()) {
            // SAFETY: not the kernel heap's, so the system's.
            unsafe { System.dealloc(ptr, layout) }
        } else if use_kernel_heap() {
            // SAFETY: the kernel heap's; the caller's promise.
            unsafe { mm::heap::dealloc(ptr, layout) }
        }
        // Else it is lost: the heap cannot be entered from a host stack, where
        // such memory turns up only while a vCPU's thread is started.
    }

    #[inline]
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !is_direct_map(ptr.addr()) {
            // SAFETY: not the kernel heap's, so the system's.
            return unsafe { System.realloc(ptr, layout, new_size) };
        }
        if use_kernel_heap() {
            // SAFETY: the kernel heap's; the caller's promise.
            return unsafe { mm::heap::realloc(ptr, layout, new_size) };
        }
        // SAFETY: the caller promises that the new layout is valid.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: a fresh block; copies what both hold.
        unsafe {
            let p = System.alloc(new);
            if !p.is_null() {
                p.copy_from_nonoverlapping(ptr, layout.size().min(new_size));
            }
            p
        }
    }
}
