//! Memory that the kernel process shares with its user processes, for the
//! engine `kml`: a heap at a fixed address, and this program's own variables.
//!
//! Blocks have a power of two as size and alignment; a freed block is kept for
//! the next one of its size. All state lies in this program's variables, which
//! [`share`] puts into shared memory as well. Off until [`start`].

use crate::raw::{Errno, Result};
use crate::time::{futex_wait_shared, futex_wake_shared};
use crate::{fd, mem};
use core::alloc::Layout;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

/// Address of the heap.
pub const BASE: usize = 0x6200_0000_0000;
/// Largest size of the heap, in bytes.
pub const SIZE: usize = 64 << 30;
const MIN_SHIFT: u32 = 5;
const CLASSES: usize = 37;

static ON: AtomicBool = AtomicBool::new(false);
static LOCK: AtomicU32 = AtomicU32::new(0);
static NEXT: AtomicUsize = AtomicUsize::new(BASE);
/// First free block of each size; a free block starts with the address of the next.
static FREE: [AtomicUsize; CLASSES] = [const { AtomicUsize::new(0) }; CLASSES];

/// Whether [`start`] has been called.
#[inline]
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Whether `addr` lies in the heap.
#[inline]
pub fn contains(addr: usize) -> bool {
    (BASE..BASE + SIZE).contains(&addr)
}

/// Maps the heap. Processes forked from now on share it.
pub fn start() -> Result {
    let file = fd::memfd_create(c"lodger-heap", libc::MFD_CLOEXEC)?;
    fd::ftruncate(file, SIZE as u64)?;
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE;
    // SAFETY: NOREPLACE: nothing that exists is replaced.
    let got = unsafe { mem::mmap(BASE, SIZE, prot, flags, file, 0) };
    fd::close(file);
    if got? != BASE {
        return Err(Errno::EEXIST);
    }
    ON.store(true, Ordering::SeqCst);
    Ok(())
}

/// Makes the pages from `start` to `end` shared with processes forked from now on.
///
/// # Safety
/// Private, writable pages of this process, which has one thread.
pub unsafe fn share(start: usize, end: usize) -> Result {
    let file = fd::memfd_create(c"lodger-data", libc::MFD_CLOEXEC)?;
    let len = end - start;
    fd::ftruncate(file, len as u64)?;
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_FIXED;
    let from: *const u8 = core::ptr::with_exposed_provenance(start);
    // SAFETY: the caller's promise: the range is readable, and nobody changes
    // it between the copy and the exchange of the pages.
    unsafe {
        let mut done = 0;
        while done < len {
            let rest = core::slice::from_raw_parts(from.add(done), len - done);
            done += fd::pwrite(file, rest, done as u64)?;
        }
        mem::mmap(start, len, prot, flags, file, 0)?;
    }
    fd::close(file);
    Ok(())
}

struct Held;

fn lock() -> Held {
    if LOCK
        .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
        .is_err()
    {
        while LOCK.swap(2, Ordering::Acquire) != 0 {
            let _ = futex_wait_shared(&LOCK, 2, None);
        }
    }
    Held
}

impl Drop for Held {
    fn drop(&mut self) {
        if LOCK.swap(0, Ordering::Release) == 2 {
            futex_wake_shared(&LOCK);
        }
    }
}

fn class(layout: Layout) -> u32 {
    let size = layout.size().max(layout.align()).max(1 << MIN_SHIFT);
    size.next_power_of_two().trailing_zeros() - MIN_SHIFT
}

/// A block; null if the heap is full.
pub fn alloc(layout: Layout) -> *mut u8 {
    let class = class(layout);
    let size = 1usize << (class + MIN_SHIFT);
    let Some(head) = FREE.get(class as usize) else {
        return core::ptr::null_mut();
    };
    let _held = lock();
    let first = head.load(Ordering::Relaxed);
    if first != 0 {
        let p: *mut usize = core::ptr::with_exposed_provenance_mut(first);
        // SAFETY: a free block, which starts with the next one's address.
        head.store(unsafe { p.read() }, Ordering::Relaxed);
        return p.cast();
    }
    let at = NEXT.load(Ordering::Relaxed).next_multiple_of(size);
    if at + size > BASE + SIZE {
        return core::ptr::null_mut();
    }
    NEXT.store(at + size, Ordering::Relaxed);
    core::ptr::with_exposed_provenance_mut(at)
}

/// Takes a block back.
///
/// # Safety
/// From [`alloc`] with the same layout, and not used any more.
pub unsafe fn dealloc(p: *mut u8, layout: Layout) {
    let Some(head) = FREE.get(class(layout) as usize) else {
        return;
    };
    let _held = lock();
    // SAFETY: the caller's promise: the block is free, and has room for an address.
    unsafe { p.cast::<usize>().write(head.load(Ordering::Relaxed)) };
    head.store(p.expose_provenance(), Ordering::Relaxed);
}

/// Bytes that a block of `layout` really has.
pub fn room(layout: Layout) -> usize {
    1 << (class(layout) + MIN_SHIFT)
}
