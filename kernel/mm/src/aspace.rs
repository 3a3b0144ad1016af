//! Guest address spaces.

use crate::PageCache;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use hal::{Engine, Prot, UserSpace};

bitflags::bitflags! {
    /// Properties of a VMA beside its rights.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct VmFlags: u32 {
        /// MAP_SHARED.
        const SHARED = 1;
        /// MAP_GROWSDOWN: the stack.
        const GROWSDOWN = 2;
        /// mlock(2)ed.
        const LOCKED = 4;
        /// MADV_DONTFORK.
        const DONTFORK = 8;
        /// MADV_WIPEONFORK.
        const WIPEONFORK = 0x10;
        /// MADV_DONTDUMP.
        const DONTDUMP = 0x20;
        /// MAP_NORESERVE.
        const NORESERVE = 0x40;
        /// PROT_WRITE may be given by mprotect (file opened for writing, or private).
        const MAYWRITE = 0x80;
        /// PROT_EXEC may be given by mprotect (not on a noexec mount).
        const MAYEXEC = 0x100;
        /// Part of the machine (vDSO, vvar): fork keeps it.
        const SPECIAL = 0x200;
    }
}

/// What a mapping shows.
#[derive(Clone)]
pub enum Backing {
    /// Zero pages. With [`VmFlags::SHARED`] the mm makes a memory page cache of its own.
    Anon,
    /// A file from byte `offset` (a multiple of the page size) on.
    File {
        /// Pages.
        cache: Arc<PageCache>,
        /// Offset in bytes.
        offset: u64,
        /// Keeps the open file alive and names it (the vfs's `Arc<File>`); for /proc/PID/maps.
        owner: Option<Arc<dyn Any + Send + Sync>>,
    },
}

/// mmap(2) as the syscall layer has checked it.
#[derive(Clone)]
pub struct MapRequest {
    /// Hint, or the exact address if `fixed`.
    pub addr: u64,
    /// Length in bytes, > 0; rounded up to pages.
    pub len: u64,
    /// Rights.
    pub prot: Prot,
    /// Properties.
    pub flags: VmFlags,
    /// Exact address.
    pub fixed: Fixed,
    /// MAP_POPULATE.
    pub populate: bool,
    /// What is mapped.
    pub backing: Backing,
}

/// How binding the address of a [`MapRequest`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fixed {
    /// A hint.
    No,
    /// MAP_FIXED: replaces what is there.
    Replace,
    /// MAP_FIXED_NOREPLACE: [`Errno::EEXIST`].
    NoReplace,
}

/// Signal for an access that cannot be resolved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultError {
    /// SIGSEGV, `si_code` SEGV_MAPERR (1) or SEGV_ACCERR (2).
    Segv(i32),
    /// SIGBUS, BUS_ADRERR: behind the end of the file, or an I/O error.
    Bus,
    /// No memory: the OOM killer has chosen this process, or there is nothing to kill.
    Oom,
}

/// Limits that mm calls obey; the task layer passes them in from the process's rlimits.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs)]
pub struct MmLimits {
    pub address_space: u64,
    pub data: u64,
    pub stack: u64,
    pub memlock: u64,
}

/// One VMA as /proc/PID/maps and smaps show it.
#[derive(Clone)]
#[expect(missing_docs)]
pub struct VmaInfo {
    pub start: u64,
    pub end: u64,
    pub prot: Prot,
    pub flags: VmFlags,
    pub offset: u64,
    /// `Arc<vfs::File>` of the mapping, if any.
    pub owner: Option<Arc<dyn Any + Send + Sync>>,
    /// `[heap]`, `[stack]`, `[vdso]`, `[vvar]`.
    pub name: Option<&'static str>,
    pub resident_pages: u64,
    pub dirty_pages: u64,
}

/// Addresses that exec notes down, for /proc/PID/{stat,cmdline,environ,auxv} and brk(2).
#[derive(Clone, Default, Debug)]
#[expect(missing_docs)]
pub struct Layout {
    pub start_code: u64,
    pub end_code: u64,
    pub start_data: u64,
    pub end_data: u64,
    pub start_brk: u64,
    pub start_stack: u64,
    pub arg_start: u64,
    pub arg_end: u64,
    pub env_start: u64,
    pub env_end: u64,
    pub auxv: Vec<u64>,
}

/// Page counts of a process.
#[derive(Clone, Copy, Default, Debug)]
#[expect(missing_docs)]
pub struct MmCounts {
    pub total_vm: u64,
    pub rss_anon: u64,
    pub rss_file: u64,
    pub rss_shmem: u64,
    pub peak_rss: u64,
    pub data_vm: u64,
    pub stack_vm: u64,
    pub exec_vm: u64,
    pub locked_vm: u64,
    pub page_tables: u64,
    pub min_flt: u64,
    pub maj_flt: u64,
}

/// A guest address space. All methods may sleep; none may be called with a spin lock held.
pub struct Mm {
    _private: (),
}

impl Mm {
    /// An empty space.
    pub fn new(engine: &'static dyn Engine) -> Result<Arc<Mm>> {
        let _ = engine;
        Err(Errno::ENOMEM)
    }
    /// A copy for fork(2): private pages copy-on-write.
    pub fn fork(&self) -> Result<Arc<Mm>> {
        Err(Errno::ENOMEM)
    }
    /// Gives everything back (exit, exec). Later calls find an empty space. Idempotent; also done on drop.
    pub fn release(&self) {}
    /// The host's side, for [`Engine::run`].
    pub fn space(&self) -> Arc<dyn UserSpace> {
        unreachable!("no address space exists yet")
    }
    /// mmap(2). Returns the address.
    pub fn map(&self, req: MapRequest, limits: &MmLimits) -> Result<u64> {
        let _ = (req, limits);
        Err(Errno::ENOMEM)
    }
    /// Maps ready-made kernel pages (vDSO, vvar) read-only (`prot`), named as in /proc/PID/maps. The frames stay the kernel's.
    pub fn map_special(
        &self,
        addr: u64,
        first: hal::Pfn,
        pages: u64,
        prot: Prot,
        name: &'static str,
    ) -> Result {
        let _ = (addr, first, pages, prot, name);
        Err(Errno::ENOMEM)
    }
    /// munmap(2).
    pub fn unmap(&self, addr: u64, len: u64) -> Result {
        let _ = (addr, len);
        Err(Errno::EINVAL)
    }
    /// mprotect(2).
    pub fn protect(&self, addr: u64, len: u64, prot: Prot) -> Result {
        let _ = (addr, len, prot);
        Err(Errno::EINVAL)
    }
    /// mremap(2); `flags` and `new_addr` as there.
    pub fn remap(
        &self,
        old: u64,
        old_len: u64,
        new_len: u64,
        flags: u32,
        new_addr: u64,
        limits: &MmLimits,
    ) -> Result<u64> {
        let _ = (old, old_len, new_len, flags, new_addr, limits);
        Err(Errno::EINVAL)
    }
    /// madvise(2).
    pub fn advise(&self, addr: u64, len: u64, advice: i32) -> Result {
        let _ = (addr, len, advice);
        Err(Errno::EINVAL)
    }
    /// brk(2): the new or unchanged break.
    pub fn brk(&self, addr: u64, limits: &MmLimits) -> u64 {
        let _ = (addr, limits);
        0
    }
    /// msync(2), `flags` as there.
    pub fn msync(&self, addr: u64, len: u64, flags: i32) -> Result {
        let _ = (addr, len, flags);
        Err(Errno::EINVAL)
    }
    /// mincore(2): one byte a page.
    pub fn mincore(&self, addr: u64, len: u64) -> Result<Vec<u8>> {
        let _ = (addr, len);
        Err(Errno::EINVAL)
    }
    /// mlock(2), munlock(2).
    pub fn lock(&self, addr: u64, len: u64, lock: bool, limits: &MmLimits) -> Result {
        let _ = (addr, len, lock, limits);
        Err(Errno::EINVAL)
    }
    /// mlockall(2) flags; 0 = munlockall(2).
    pub fn lock_all(&self, flags: i32, limits: &MmLimits) -> Result {
        let _ = (flags, limits);
        Err(Errno::EINVAL)
    }
    /// Resolves a page fault of the guest so that the access succeeds when tried again.
    pub fn fault(&self, addr: u64, access: Prot, limits: &MmLimits) -> Result<(), FaultError> {
        let _ = (addr, access, limits);
        Err(FaultError::Segv(1))
    }
    /// Copies from guest memory. [`Errno::EFAULT`].
    pub fn read(&self, addr: u64, buf: &mut [u8]) -> Result {
        let _ = (addr, buf);
        Err(Errno::EFAULT)
    }
    /// Copies to guest memory. [`Errno::EFAULT`].
    pub fn write(&self, addr: u64, buf: &[u8]) -> Result {
        let _ = (addr, buf);
        Err(Errno::EFAULT)
    }
    /// As much as is accessible: the number of bytes copied (ptrace, /proc/PID/mem with `force`: regardless of rights, private copy).
    pub fn read_partial(&self, addr: u64, buf: &mut [u8], force: bool) -> usize {
        let _ = (addr, buf, force);
        0
    }
    /// See [`Mm::read_partial`].
    pub fn write_partial(&self, addr: u64, buf: &[u8], force: bool) -> usize {
        let _ = (addr, buf, force);
        0
    }
    /// Reads a NUL-terminated string of at most `max` bytes without its NUL. [`Errno::EFAULT`], [`Errno::ENAMETOOLONG`].
    pub fn read_cstr(&self, addr: u64, max: usize) -> Result<Vec<u8>> {
        let _ = (addr, max);
        Err(Errno::EFAULT)
    }
    /// Atomic operation on an aligned 32-bit word of guest memory (futex): applies `f` to the old value until
    /// it can be exchanged; `f` gives `None` to leave it. Returns the old value. [`Errno::EFAULT`].
    pub fn update_u32(&self, addr: u64, f: &mut dyn FnMut(u32) -> Option<u32>) -> Result<u32> {
        let _ = (addr, f);
        Err(Errno::EFAULT)
    }
    /// Loads an aligned word *without* faulting or sleeping (may be called with spin locks up to `level::TASK`
    /// held); `None` if it is not resident: call [`Mm::update_u32`] first and try again.
    pub fn peek_u32(&self, addr: u64) -> Option<u32> {
        let _ = addr;
        None
    }
    /// Identity of a futex word: (object, byte offset); private ones use the mm itself. Shared mappings of the
    /// same page of the same file agree across spaces. [`Errno::EFAULT`].
    pub fn futex_key(&self, addr: u64, private: bool) -> Result<(usize, u64)> {
        let _ = (addr, private);
        Err(Errno::EFAULT)
    }
    /// All VMAs, ascending. `pages`: count resident pages too.
    pub fn vmas(&self, pages: bool) -> Vec<VmaInfo> {
        let _ = pages;
        Vec::new()
    }
    /// Counts.
    pub fn counts(&self) -> MmCounts {
        MmCounts::default()
    }
    /// What exec noted down.
    pub fn layout(&self) -> Layout {
        Layout::default()
    }
    /// Notes down; `start_brk` also starts the heap.
    pub fn set_layout(&self, layout: Layout) {
        let _ = layout;
    }
    /// The file being executed (`Arc<vfs::File>`), for /proc/PID/exe.
    pub fn exe(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }
    /// Sets it.
    pub fn set_exe(&self, file: Option<Arc<dyn Any + Send + Sync>>) {
        let _ = file;
    }
    /// Marks the process as chosen by the OOM killer: its faults give [`FaultError::Oom`] at once, allocations may use the reserve.
    pub fn set_oom_victim(&self) {}
}
