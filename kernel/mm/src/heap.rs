//! The kernel heap. The binary's global allocator calls these for code that runs on kernel stacks.
//!
//! Objects up to 2 KiB come from slabs: frames cut into objects of one size. A slab is a
//! single frame, so that memory that is free but in pieces serves as well as any. Free
//! objects of a slab are linked through their first bytes; the slab's state is in the
//! descriptor of its frame. Larger objects are runs of frames. Every operation is O(1), and takes its class's
//! lock and perhaps the buddy's, so that any other lock may be held.

use crate::frame::{self, Kind, desc};
use core::alloc::Layout;
use core::sync::atomic::Ordering::Relaxed;
use hal::{PAGE_SIZE, Pfn};
use sync::{SpinLock, level};

/// Object sizes, such that little of a frame is left over. Powers of two are aligned to themselves.
const SIZES: [u16; 16] = [
    16, 32, 48, 64, 96, 128, 160, 192, 256, 320, 400, 512, 816, 1024, 1360, 2048,
];
/// Class of each size, in steps of 16 bytes.
const CLASS_OF: [u8; 129] = {
    let mut t = [0u8; 129];
    let mut i = 0;
    let mut c = 0;
    while i <= 128 {
        while (SIZES[c] as usize) < i * 16 {
            c += 1;
        }
        t[i] = c as u8;
        i += 1;
    }
    t
};
/// Empty slabs that a class keeps.
const KEEP_EMPTY: u32 = 1;
/// Pattern of a free object's second word, debug builds only.
const FREE_MARK: u64 = 0xfee1_dead_0bad_cafe;
const POISON: u8 = 0x6b;

struct Class {
    /// First frame of the slabs that have free objects, 0 = none.
    partial: u32,
    /// Slabs on the list without any object in use.
    empty: u32,
}

/// All slab classes. All zero is empty.
pub(crate) struct Slabs {
    classes: [SpinLock<Class, { level::HEAP }>; SIZES.len()],
}

impl Slabs {
    pub(crate) const fn new() -> Slabs {
        Slabs {
            classes: [const {
                SpinLock::new(Class {
                    partial: 0,
                    empty: 0,
                })
            }; SIZES.len()],
        }
    }
}

/// State of a slab, packed into its descriptor's word.
#[derive(Clone, Copy)]
struct Slab {
    /// First free object + 1 in units of 16 bytes, 0 = none.
    free: u16,
    /// Objects in use.
    used: u16,
    /// Objects ever handed out; those behind have not been touched.
    fresh: u16,
    /// Objects it holds.
    total: u16,
}

impl Slab {
    fn load(pfn: u32) -> Slab {
        let v = desc(pfn).data.load(Relaxed);
        Slab {
            free: v as u16,
            used: (v >> 16) as u16,
            fresh: (v >> 32) as u16,
            total: (v >> 48) as u16,
        }
    }
    fn store(self, pfn: u32) {
        desc(pfn).data.store(
            self.free as u64
                | (self.used as u64) << 16
                | (self.fresh as u64) << 32
                | (self.total as u64) << 48,
            Relaxed,
        );
    }
}

/// The class for a layout; `None`: a run of frames.
fn class_of(layout: Layout) -> Option<usize> {
    let mut size = layout.size();
    if layout.align() > 16 {
        size = size.max(layout.align()).checked_next_power_of_two()?;
    }
    (size <= 2048).then(|| CLASS_OF[size.div_ceil(16)] as usize)
}

fn pages(size: usize) -> usize {
    size.div_ceil(PAGE_SIZE)
}

/// Frames of a large object.
fn run_len(layout: Layout) -> usize {
    pages(layout.size()).max(layout.align() / PAGE_SIZE)
}

impl Class {
    fn push(&mut self, pfn: u32) {
        let d = desc(pfn);
        d.prev.store(0, Relaxed);
        d.next.store(self.partial, Relaxed);
        if self.partial != 0 {
            desc(self.partial).prev.store(pfn, Relaxed);
        }
        self.partial = pfn;
    }
    fn unlink(&mut self, pfn: u32) {
        let d = desc(pfn);
        let (next, prev) = (d.next.load(Relaxed), d.prev.load(Relaxed));
        if next != 0 {
            desc(next).prev.store(prev, Relaxed);
        }
        if prev != 0 {
            desc(prev).next.store(next, Relaxed);
        } else {
            self.partial = next;
        }
    }
    /// Takes an object of `size` bytes off the first slab.
    fn take(&mut self, size: usize) -> Option<*mut u8> {
        let pfn = self.partial;
        if pfn == 0 {
            return None;
        }
        let mut s = Slab::load(pfn);
        let base = Pfn(pfn).as_ptr();
        let p;
        if s.free != 0 {
            // SAFETY: the offset of a free object of this slab, whose first
            // bytes hold the next offset.
            unsafe {
                p = base.add((s.free as usize - 1) * 16);
                s.free = p.cast::<u16>().read();
                if cfg!(debug_assertions) {
                    let mark = p.add(8).cast::<u64>();
                    assert!(
                        mark.read() == FREE_MARK ^ p.addr() as u64,
                        "heap: {p:p} was written after it was freed"
                    );
                    mark.write(0);
                }
            }
        } else {
            // SAFETY: `fresh < total` for a slab on the list without free objects.
            p = unsafe { base.add(s.fresh as usize * size) };
            s.fresh += 1;
        }
        if s.used == 0 {
            self.empty -= 1;
        }
        s.used += 1;
        s.store(pfn);
        if s.free == 0 && s.fresh == s.total {
            self.unlink(pfn);
        }
        Some(p)
    }
}

/// Memory of the memory file for `layout`; null if there is none left.
pub fn alloc(layout: Layout) -> *mut u8 {
    let Some(c) = class_of(layout) else {
        return alloc_large(layout, false);
    };
    let size = SIZES[c] as usize;
    let class = &crate::state::state().slabs.classes[c];
    if let Some(p) = class.lock().take(size) {
        return p;
    }
    let Some(slab) = frame::alloc_heap(1, false) else {
        return core::ptr::null_mut();
    };
    Slab {
        free: 0,
        used: 0,
        fresh: 0,
        total: (PAGE_SIZE / size) as u16,
    }
    .store(slab.0);
    let mut k = class.lock();
    k.push(slab.0);
    k.empty += 1;
    k.take(size).unwrap_or(core::ptr::null_mut())
}

/// [`alloc()`], zeroed.
pub fn alloc_zeroed(layout: Layout) -> *mut u8 {
    if class_of(layout).is_none() {
        return alloc_large(layout, true);
    }
    let p = alloc(layout);
    if !p.is_null() {
        // SAFETY: just allocated with at least this size.
        unsafe { p.write_bytes(0, layout.size()) };
    }
    p
}

fn alloc_large(layout: Layout, zeroed: bool) -> *mut u8 {
    // A run is aligned to the power of two that holds it, so to `align` as well.
    frame::alloc_heap(run_len(layout), zeroed).map_or(core::ptr::null_mut(), Pfn::as_ptr)
}

/// Gives memory back.
///
/// # Safety
/// `ptr` came from [`alloc()`] with the same layout and is used no more.
pub unsafe fn dealloc(ptr: *mut u8, layout: Layout) {
    let Some(c) = class_of(layout) else {
        frame::free_raw(Pfn::of_addr(ptr.addr()), run_len(layout), Kind::Heap);
        return;
    };
    let size = SIZES[c] as usize;
    let pfn = Pfn::of_addr(ptr.addr()).0;
    let off = ptr.addr() % PAGE_SIZE;
    if cfg!(debug_assertions) {
        assert!(
            desc(pfn).kind() == Kind::Heap && off % size == 0,
            "heap: {ptr:p} is no object of {size} bytes"
        );
    }
    let mut gone = false;
    {
        let mut k = crate::state::state().slabs.classes[c].lock();
        if cfg!(debug_assertions) {
            // SAFETY: the object is the caller's, of `size` bytes; the class is locked.
            unsafe { check_not_free(ptr, size, pfn) };
        }
        let mut s = Slab::load(pfn);
        if s.free == 0 && s.fresh == s.total {
            k.push(pfn);
        }
        // SAFETY: the object is free from here on, and ours.
        unsafe {
            ptr.cast::<u16>().write(s.free);
            if cfg!(debug_assertions) {
                ptr.add(8)
                    .cast::<u64>()
                    .write(FREE_MARK ^ ptr.addr() as u64);
            }
        }
        s.free = (off / 16) as u16 + 1;
        s.used -= 1;
        if s.used == 0 {
            if k.empty >= KEEP_EMPTY {
                k.unlink(pfn);
                gone = true;
            } else {
                k.empty += 1;
            }
        }
        s.store(pfn);
    }
    if gone {
        frame::free_raw(Pfn(pfn), 1, Kind::Heap);
    }
}

/// Debug builds: poisons an object about to be freed, and panics if it is free already.
///
/// # Safety
/// `ptr` points to an object of `size` bytes in the slab at `pfn`, whose class is locked.
unsafe fn check_not_free(ptr: *mut u8, size: usize, pfn: u32) {
    // SAFETY: within the object, which has at least 16 bytes.
    let mark = unsafe { ptr.add(8).cast::<u64>().read() };
    if mark == FREE_MARK ^ ptr.addr() as u64 {
        // Very likely a double free; the list of free objects knows.
        let mut at = Slab::load(pfn).free;
        while at != 0 {
            // SAFETY: offsets on the list are those of free objects of the slab.
            let p = unsafe { Pfn(pfn).as_ptr().add((at as usize - 1) * 16) };
            assert!(p != ptr, "heap: {ptr:p} freed twice");
            // SAFETY: as above; the first bytes hold the next offset.
            at = unsafe { p.cast::<u16>().read() };
        }
    }
    // SAFETY: the caller's object.
    unsafe { ptr.write_bytes(POISON, size) };
}

/// Grows or shrinks, moving if need be; null (and `ptr` still valid) if there is no memory.
///
/// # Safety
/// As for [`dealloc`], if the result is not null.
pub unsafe fn realloc(ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
    let Ok(new) = Layout::from_size_align(new_size, layout.align()) else {
        return core::ptr::null_mut();
    };
    match (class_of(layout), class_of(new)) {
        (Some(a), Some(b)) if a == b => return ptr,
        (None, None) => {
            let (a, b) = (run_len(layout), run_len(new));
            if b <= a {
                if b < a {
                    frame::free_raw(Pfn::of_addr(ptr.addr()).add(b), a - b, Kind::Heap);
                }
                return ptr;
            }
        }
        _ => {}
    }
    let p = alloc(new);
    if !p.is_null() {
        // SAFETY: both are at least this long and do not overlap; `ptr` is the caller's to free.
        unsafe {
            core::ptr::copy_nonoverlapping(ptr, p, layout.size().min(new_size));
            dealloc(ptr, layout);
        }
    }
    p
}
