//! Proof that the kernel needs no std: this crate brings the only panic handler and
//! allocator there are and names every kernel crate.
#![no_std]

use core::alloc::{GlobalAlloc, Layout};

extern crate abi;
extern crate boot;
extern crate devfs;
extern crate hal;
extern crate hostfs;
extern crate ipc;
extern crate kernel_syscall;
extern crate mm;
extern crate net;
extern crate overlay;
extern crate procfs;
extern crate sync;
extern crate sysfs;
extern crate task;
extern crate tmpfs;
extern crate tty;
extern crate vfs;

struct Nothing;

// SAFETY: never gives memory out, so there is nothing to get wrong.
unsafe impl GlobalAlloc for Nothing {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }
    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: Nothing = Nothing;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
