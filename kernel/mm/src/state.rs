//! The root of memory management: one structure at a fixed place in the memory file.

use crate::frame::aside::Aside;
use crate::frame::buddy::Buddy;
use crate::frame::desc::Desc;
use crate::heap::Slabs;
use crate::page_cache::registry::Registry;
use core::sync::atomic::{AtomicI64, AtomicU32, AtomicUsize};
use hal::mem::MEM_BASE;
use hal::{PAGE_SIZE, Platform};
use sync::{SpinLock, level};

/// Frame in which the state starts. The machine keeps at most this many frames to itself.
pub(crate) const STATE_PFN: usize = 64;
/// Frames set aside for the state.
pub(crate) const STATE_FRAMES: usize = 2;
const ADDR: usize = MEM_BASE + STATE_PFN * PAGE_SIZE;

/// All zero is a valid state: a machine without memory.
#[repr(C)]
pub(crate) struct State {
    /// `None` until [`crate::frame::init`].
    pub(crate) platform: Option<&'static dyn Platform>,
    /// Frames of the machine.
    pub(crate) frames: usize,
    /// Frames that guest pages leave to the kernel.
    pub(crate) reserve: usize,
    /// Dirty free frames above which memory goes back to the host, and down to which.
    pub(crate) trim_high: usize,
    pub(crate) trim_low: usize,
    /// Page descriptors, one a frame.
    pub(crate) map: *const Desc,
    /// One bit a frame: may hold other bytes than zero.
    pub(crate) dirty: *const core::sync::atomic::AtomicU64,
    /// Free frames; written under the buddy lock.
    pub(crate) free: AtomicUsize,
    /// Dirty free frames; written under the buddy lock.
    pub(crate) dirty_free: AtomicUsize,
    /// Frames in use, by kind.
    pub(crate) used: [AtomicI64; crate::frame::desc::KINDS],
    /// Page table entries of files in all address spaces.
    pub(crate) mapped: AtomicI64,
    /// The task layer's OOM handler, 0 = none.
    pub(crate) oom: AtomicUsize,
    /// The task layer's shrinker, 0 = none.
    pub(crate) shrinker: AtomicUsize,
    /// Serialises reclaim: number of tasks in it.
    pub(crate) reclaiming: AtomicU32,
    pub(crate) buddy: SpinLock<Buddy, { level::FRAME }>,
    pub(crate) aside: Aside,
    pub(crate) slabs: Slabs,
    pub(crate) caches: SpinLock<Registry, { level::PAGE_CACHE }>,
}

// SAFETY: the pointers lead to tables of atomics that live as long as the machine.
unsafe impl Sync for State {}

const _: () = assert!(size_of::<State>() <= STATE_FRAMES * PAGE_SIZE);

/// The state of this machine.
pub(crate) fn state() -> &'static State {
    // SAFETY: the memory file is mapped at MEM_BASE before any kernel code runs;
    // zero bytes are a valid `State`, and `init` replaces them before there is a second user.
    unsafe { &*core::ptr::with_exposed_provenance(ADDR) }
}

/// Where `init` puts the state.
pub(crate) fn place() -> *mut State {
    core::ptr::with_exposed_provenance_mut(ADDR)
}
