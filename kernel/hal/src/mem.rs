//! Physical frames and the direct map.
//!
//! All physical memory is one file, mapped whole and shared at
//! [`MEM_BASE`] in the kernel process. Frame `n` of the machine is therefore
//! at `MEM_BASE + n * 4096`. Frame 0 holds the machine's header page.

use crate::{PAGE_SHIFT, PAGE_SIZE};

/// Address at which the memory file is mapped in the kernel process (and, in
/// the `kml` engine, in every user process).
pub const MEM_BASE: usize = 0x6000_0000_0000;
/// Largest supported memory file: 1 TiB.
pub const MEM_MAX: usize = 1 << 40;

/// Number of a physical frame.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct Pfn(pub u32);

impl Pfn {
    /// Address of the frame in the direct map.
    pub fn as_ptr(self) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(MEM_BASE + ((self.0 as usize) << PAGE_SHIFT))
    }
    /// Byte offset of the frame in the memory file.
    pub fn file_offset(self) -> u64 {
        (self.0 as u64) << PAGE_SHIFT
    }
    /// The frame that holds the direct-map address `addr`.
    pub fn of_addr(addr: usize) -> Pfn {
        Pfn(((addr - MEM_BASE) >> PAGE_SHIFT) as u32)
    }
    /// The frame `n` frames further on.
    #[expect(clippy::should_implement_trait)]
    pub fn add(self, n: usize) -> Pfn {
        Pfn(self.0 + n as u32)
    }
}

/// Whether `addr` lies in the direct map.
#[inline]
pub fn is_direct_map(addr: usize) -> bool {
    (MEM_BASE..MEM_BASE + MEM_MAX).contains(&addr)
}

/// Host side of physical memory.
pub trait PhysMem: Send + Sync {
    /// Number of frames of the machine. Frames `0..reserved_frames()` are in
    /// use from the start (header page).
    fn frames(&self) -> usize;
    /// Frames at the start that the machine itself keeps.
    fn reserved_frames(&self) -> usize;
    /// Gives the contents of `n` frames from `first` back to the host. They
    /// read as zero afterwards.
    fn discard(&self, first: Pfn, n: usize);
}

const _: () = assert!(PAGE_SIZE == 1 << PAGE_SHIFT);
