//! Physical frames.

use abi::Result;
use hal::{Pfn, Platform};

/// Numbers for /proc/meminfo, sysinfo(2), the OOM decision. In frames of 4 KiB.
#[derive(Clone, Copy, Default, Debug)]
#[expect(missing_docs)]
pub struct MemStats {
    pub total: u64,
    pub free: u64,
    /// Page cache of files that can be read again (reclaimable).
    pub cached: u64,
    /// tmpfs and shared anonymous memory.
    pub shmem: u64,
    pub anon: u64,
    /// Kernel heap.
    pub slab: u64,
    pub page_tables: u64,
    pub kernel_stacks: u64,
    pub mapped: u64,
}

/// Sets up the frame allocator and the heap in the memory file, once per
/// machine, before anything allocates on a kernel stack. Touches only what it
/// must: a fresh machine of 4 GiB costs a few pages.
///
/// # Safety
/// The memory file is mapped at [`hal::mem::MEM_BASE`], reads as zero, and nobody else uses it.
pub unsafe fn init(platform: &'static dyn Platform) -> Result {
    let _ = platform;
    Ok(())
}

/// Current numbers.
pub fn stats() -> MemStats {
    MemStats::default()
}

/// A contiguous run of `n` frames (a power of two, naturally aligned), contents
/// undefined; for kernel stacks and the like. `None`: no memory (after reclaim).
pub fn alloc_run(n: usize) -> Option<Pfn> {
    let _ = n;
    None
}

/// Gives a run back.
pub fn free_run(first: Pfn, n: usize) {
    let _ = (first, n);
}

/// Called (from any task, no lock held) when memory is short and page cache
/// reclaim did not help: kill something. Returns whether waiting makes sense. Set by the task layer.
pub type OomHandler = fn() -> bool;

/// Sets the handler.
pub fn set_oom_handler(h: OomHandler) {
    let _ = h;
}
