//! The file behind the stub regions, and the kernel process's view of it.
//!
//! Page 0 is the code, page 1 the constants. Then follow *slots* of equal size,
//! one per user process: control pages, then one area per vCPU. Slot 0 is the
//! zygote's. Only pages in use take memory.
//!
//! User processes can write parts of it at any time, so nothing here is ever
//! borrowed: words are atomics, everything else is copied.

use crate::Error;
use crate::x86_64::{filter, stub};
use core::sync::atomic::{AtomicU32, AtomicU64};
use host_sys::{fd, mem};

/// Number of slots, so one more than user processes at a time.
pub(crate) const SLOTS: u32 = 16384;
const FIRST_SLOT: u64 = 0x1_0000;

#[derive(Debug)]
pub(crate) struct StubFile {
    pub(crate) fd: i32,
    base: usize,
    stride: u64,
    pub(crate) ncpus: u32,
}

impl StubFile {
    pub(crate) fn create(ncpus: u32) -> Result<StubFile, Error> {
        let fail = |what| move |e| Error::Host(what, e);
        let stride = stub::CTRL_LEN + u64::from(ncpus) * stub::AREA_SIZE;
        let size = FIRST_SLOT + u64::from(SLOTS) * stride;
        let file = fd::memfd_create(c"lodger-stub", libc::MFD_CLOEXEC)
            .map_err(fail("make the shared memory of the user processes"))?;
        fd::ftruncate(file, size).map_err(fail("size the shared memory of the user processes"))?;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the host's choice.
        let base = unsafe { mem::mmap(0, size as usize, prot, flags, file, 0) }
            .map_err(fail("map the shared memory of the user processes"))?;
        let file = StubFile {
            fd: file,
            base,
            stride,
            ncpus,
        };
        file.all().write(0, stub::code());
        // Constants: struct sock_fprog, then the instructions.
        let strict = filter::strict(ncpus);
        let constants = Slot {
            base: base + 0x1000,
        };
        constants.write(0, &(strict.len() as u64).to_ne_bytes());
        constants.write(8, &(stub::CONSTANTS + 64).to_ne_bytes());
        constants.write(64, filter::as_bytes(&strict));
        Ok(file)
    }

    fn all(&self) -> Slot {
        Slot { base: self.base }
    }

    /// Offset of slot `n` in the file.
    pub(crate) fn offset(&self, n: u32) -> u64 {
        FIRST_SLOT + u64::from(n) * self.stride
    }

    /// Offset of vCPU `cpu`'s area in the file.
    pub(crate) fn area_offset(&self, n: u32, cpu: u32) -> u64 {
        self.offset(n) + stub::CTRL_LEN + u64::from(cpu) * stub::AREA_SIZE
    }

    /// Control pages of slot `n`.
    pub(crate) fn slot(&self, n: u32) -> Slot {
        assert!(n < SLOTS);
        Slot {
            base: self.base + self.offset(n) as usize,
        }
    }

    /// Area of vCPU `cpu` in slot `n`.
    pub(crate) fn area(&self, n: u32, cpu: u32) -> Slot {
        assert!(n < SLOTS && cpu < self.ncpus);
        Slot {
            base: self.base + self.area_offset(n, cpu) as usize,
        }
    }
}

/// A stretch of the mapping: control pages or an area (both 32 KiB). Offsets
/// are the constants of `stub` or learned and checked at the start, never the guest's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    base: usize,
}

impl Slot {
    fn at(self, offset: u64, len: usize) -> *mut u8 {
        assert!(offset as usize + len <= stub::AREA_SIZE as usize);
        core::ptr::with_exposed_provenance_mut(self.base + offset as usize)
    }
    pub(crate) fn u32(self, offset: u64) -> &'static AtomicU32 {
        // SAFETY: within the mapping, which stays for ever; offsets are aligned.
        unsafe { AtomicU32::from_ptr(self.at(offset, 4).cast()) }
    }
    pub(crate) fn u64(self, offset: u64) -> &'static AtomicU64 {
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(self.at(offset, 8).cast()) }
    }
    /// Copies `bytes` there.
    pub(crate) fn write(self, offset: u64, bytes: &[u8]) {
        let to = self.at(offset, bytes.len());
        // SAFETY: within the mapping; nothing is borrowed there.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }
    /// Copies from there. What a hostile guest writes meanwhile may be torn.
    pub(crate) fn read(self, offset: u64, bytes: &mut [u8]) {
        let from = self.at(offset, bytes.len());
        // SAFETY: as above.
        unsafe { from.copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) }
    }
    /// Fills with zeros.
    pub(crate) fn zero(self, offset: u64, len: usize) {
        // SAFETY: as above.
        unsafe { self.at(offset, len).write_bytes(0, len) }
    }
}
