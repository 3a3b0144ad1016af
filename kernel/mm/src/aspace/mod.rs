//! Guest address spaces.
//!
//! - here: [`Mm`], its life, taking pages out.
//! - `vma`: the VMAs: what is where, with which rights.
//! - `pt`: the page table: which frame is where. The truth; the host's
//!   mappings ([`UserSpace`]) are a TLB that may lose entries but never keeps
//!   one that the page table has not, beyond the next flush.
//! - `fault`: page faults. `access`: the kernel's access to guest memory.
//! - `map`, `remap`, `advise`: the system calls. `fork`. `info`: for /proc.
//!
//! # Locks
//! The VMAs are under a sleeping lock, the page table under a spin lock:
//!
//! ```text
//! VMAs of a space (sleeping; two spaces only parent → new child)
//!   pages of a file (spin)
//!     page table of a space (spin): entries, and the order of the host's requests
//! ```
//! Page faults and accesses read-lock the VMAs; only changes of the VMAs and
//! fork write-lock them. The page cache takes entries out with just the VMAs read-locked.
//! A frame taken out of a page table is released after [`UserSpace::flush`].
//! Objects that a VMA holds are dropped after the lock of the VMAs has been released.

mod access;
mod advise;
mod fault;
mod fork;
mod info;
mod map;
mod ops;
pub(crate) mod pt;
mod remap;
mod vma;

pub use fork::Writers;

use crate::PageCache;
use crate::frame::{self, Gathered, Release};
use abi::Result;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::Ordering::{AcqRel, Relaxed};
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64};
use hal::{Engine, Mappings, PAGE_SIZE, Prot, USER_END, UserSpace};
use ops::{Ops, When};
use pt::{Owner, PageTable, Step};
use sync::{RwLock, SpinLock, level};
use vma::{Gone, VmaSet};

const PAGE: u64 = PAGE_SIZE as u64;
/// Pages taken out of a page table with its lock held once.
const BATCH: usize = 4096;

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

impl VmFlags {
    /// Whether a file can be written through such a mapping.
    pub(crate) fn is_writer(self) -> bool {
        self.contains(VmFlags::SHARED | VmFlags::MAYWRITE)
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
    /// MAP_FIXED_NOREPLACE: [`abi::Errno::EEXIST`].
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
    me: Weak<Mm>,
    engine: &'static dyn Engine,
    space: Arc<dyn UserSpace>,
    vmas: RwLock<VmaSet>,
    pt: SpinLock<PageTable, { level::MM }>,
    exe: SpinLock<Option<Arc<dyn Any + Send + Sync>>, { level::LEAF }>,
    /// Pages by [`Owner`].
    rss: [AtomicI64; 4],
    peak: AtomicU64,
    min_flt: AtomicU64,
    maj_flt: AtomicU64,
    /// RLIMIT_STACK as last heard of, for growth by the kernel's accesses.
    stack_limit: AtomicU64,
    victim: AtomicBool,
    /// See [`MmUser`].
    users: AtomicU32,
    /// What the program has registered for with membarrier(2); fork keeps it.
    pub membarrier: AtomicU32,
    /// See [`Mm::keep_code`].
    keeps_code: AtomicBool,
}

/// A task's own reference to the space it runs in. What is mapped goes with the last one; others
/// only keep the space, empty.
pub struct MmUser(Arc<Mm>);

impl MmUser {
    /// One more task runs in `mm`.
    pub fn new(mm: Arc<Mm>) -> MmUser {
        mm.users.fetch_add(1, Relaxed);
        MmUser(mm)
    }
    /// The space.
    pub fn mm(&self) -> &Arc<Mm> {
        &self.0
    }
}

impl Drop for MmUser {
    fn drop(&mut self) {
        if self.0.users.fetch_sub(1, AcqRel) == 1 {
            self.0.release();
        }
    }
}

impl Mappings for Mm {
    fn is_vacant(&self, start: u64, end: u64) -> Option<bool> {
        Some(self.vmas.try_read()?.is_free(start, end))
    }
    fn is_steady(&self, addr: u64) -> Option<bool> {
        let vmas = self.vmas.try_read()?;
        let show = &vmas.find(addr)?.show;
        Some(show.file().is_none_or(|f| f.cache.allow_copy()))
    }
}

impl Mm {
    /// Whether more than one task runs in it. Only such a task can make it so.
    pub fn is_shared(&self) -> bool {
        self.users.load(Relaxed) > 1
    }
    /// An empty space.
    pub fn new(engine: &'static dyn Engine) -> Result<Arc<Mm>> {
        let space = engine.new_space()?;
        let mm = Arc::new_cyclic(|me: &Weak<Mm>| Mm {
            me: me.clone(),
            engine,
            vmas: RwLock::new(VmaSet::new(space.clone())),
            space,
            pt: SpinLock::new(PageTable::new()),
            exe: SpinLock::new(None),
            rss: [const { AtomicI64::new(0) }; 4],
            peak: AtomicU64::new(0),
            min_flt: AtomicU64::new(0),
            maj_flt: AtomicU64::new(0),
            stack_limit: AtomicU64::new(8 << 20),
            victim: AtomicBool::new(false),
            users: AtomicU32::new(0),
            membarrier: AtomicU32::new(0),
            keeps_code: AtomicBool::new(false),
        });
        mm.space.set_mappings(mm.me.clone());
        Ok(mm)
    }
    /// From now on the engine leaves the program's code as it is, here and in what comes of this
    /// space by fork and exec.
    pub fn keep_code(&self) {
        self.keeps_code.store(true, Relaxed);
        self.space.keep_code();
    }
    /// Whether [`Mm::keep_code`] has been called.
    pub fn keeps_code(&self) -> bool {
        self.keeps_code.load(Relaxed)
    }
    /// Gives everything back (exit, exec). Later calls find an empty space. Idempotent; also done on drop.
    pub fn release(&self) {
        let (gone, exe) = {
            let mut vmas = self.vmas.write();
            let gone = vmas.take_all();
            vmas.brk = 0;
            self.space.clear();
            self.free_tables();
            (gone, self.exe.lock().take())
        };
        drop(gone);
        drop(exe);
        frame::trim_if_needed();
    }
    /// Frees all page tables and what they map. The host has no mappings any more.
    fn free_tables(&self) {
        let mut pt = core::mem::replace(&mut *self.pt.lock(), PageTable::new());
        let mut release = Release::new();
        let mut counts = [0; 4];
        pt.update(0, USER_END, |_, pte| {
            counts[pte.owner() as usize] -= 1;
            if pte.owner() != Owner::Special {
                release.put(pte.pfn());
            }
            Step::Clear
        });
        drop(release);
        self.count(counts);
    }
    /// The host's side, for [`Engine::run`].
    pub fn space(&self) -> &dyn UserSpace {
        &*self.space
    }
    /// The file being executed (`Arc<vfs::File>`), for /proc/PID/exe.
    pub fn exe(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.exe.lock().clone()
    }
    /// Sets it.
    pub fn set_exe(&self, file: Option<Arc<dyn Any + Send + Sync>>) {
        let old = core::mem::replace(&mut *self.exe.lock(), file);
        drop(old);
    }
    /// Has mappings without a wish start `bytes` further down, a random distance of exec's.
    pub fn lower_mappings(&self, bytes: u64) {
        let mut vmas = self.vmas.write();
        let top = vmas.top.saturating_sub(bytes);
        vmas.set_top(top);
    }
    /// Marks the process as chosen by the OOM killer: its faults give [`FaultError::Oom`] at once, allocations may use the reserve.
    pub fn set_oom_victim(&self) {
        self.victim.store(true, Relaxed);
    }

    fn ops(&self) -> Ops<'_> {
        Ops::new(&*self.space, When::Now)
    }
    fn is_victim(&self) -> bool {
        self.victim.load(Relaxed)
    }
    /// Adds to the numbers of pages by owner.
    fn count(&self, delta: [i64; 4]) {
        let mut total = 0;
        for (c, d) in self.rss.iter().zip(delta).take(3) {
            if d != 0 {
                total += c.fetch_add(d, Relaxed) + d;
            } else {
                total += c.load(Relaxed);
            }
        }
        let files = delta[Owner::File as usize] + delta[Owner::Shmem as usize];
        if files != 0 {
            crate::state::state().mapped.fetch_add(files, Relaxed);
        }
        self.peak.fetch_max(total.max(0) as u64, Relaxed);
    }

    /// Takes all pages of `[start, end)` out. The VMAs are locked, for writing or (madvise) reading.
    fn zap(&self, start: u64, end: u64) {
        self.zap_if(start, end, |_, _| true);
    }

    /// Takes the pages of `[start, end)` out that `want` is true for.
    fn zap_if(&self, start: u64, end: u64, want: impl Fn(u64, pt::Pte) -> bool) {
        let mut at = Some(start);
        let mut gathered = Gathered::default();
        while let Some(from) = at {
            let mut counts = [0; 4];
            let mut n = 0;
            {
                let mut pt = self.pt.lock();
                let mut ops = self.ops();
                at = pt.update(from, end, |a, pte| {
                    if !want(a, pte) {
                        return Step::Keep;
                    }
                    ops.unmap_sparse(a, PAGE);
                    counts[pte.owner() as usize] -= 1;
                    n += 1;
                    if pte.owner() != Owner::Special {
                        gathered.add(pte.pfn());
                    }
                    if gathered.is_full() || n >= BATCH {
                        Step::ClearStop
                    } else {
                        Step::Clear
                    }
                });
            }
            if n > 0 {
                self.space.flush();
                gathered.release();
                self.count(counts);
            }
            if at.is_some() {
                crate::page_cache::yield_if_needed();
            }
        }
    }

    /// Takes the pages `[first, end)` of a file out, for truncation and reclaim.
    /// `private`: copies in private mappings too. `wait`: also if the space is being changed right now.
    pub(crate) fn unmap_pages(
        &self,
        cache: usize,
        first: u64,
        end: u64,
        private: bool,
        wait: bool,
    ) {
        self.for_file(cache, first, end, wait, |start, end| {
            self.zap_if(start, end, |_, pte| {
                private || matches!(pte.owner(), Owner::File | Owner::Shmem)
            });
        });
    }

    /// Takes the right to write the pages `[first, end)` of a file away, so that the next write is noticed.
    pub(crate) fn protect_pages(&self, cache: usize, first: u64, end: u64) {
        let mut any = false;
        self.for_file(cache, first, end, true, |start, end| {
            let mut pt = self.pt.lock();
            let mut ops = self.ops();
            pt.update(start, end, |a, pte| {
                let prot = pte.prot();
                if pte.owner() == Owner::Anon || !prot.contains(Prot::WRITE) {
                    return Step::Keep;
                }
                any = true;
                let prot = prot - Prot::WRITE;
                ops.protect(a, PAGE, prot, 0);
                Step::Set(pte.with_prot(prot).cleaned())
            });
        });
        if any {
            self.space.flush();
        }
    }

    /// Calls `f(start, end)` for each range that shows pages of `[first, end)` of a file.
    fn for_file(
        &self,
        cache: usize,
        first: u64,
        end: u64,
        wait: bool,
        mut f: impl FnMut(u64, u64),
    ) {
        let vmas = if wait {
            self.vmas.read()
        } else {
            match self.vmas.try_read() {
                Some(g) => g,
                None => return,
            }
        };
        for v in vmas.iter() {
            let Some(file) = v.show.file() else { continue };
            if file.cache.id() != cache {
                continue;
            }
            let base = v.index(file, v.start);
            let lo = first.max(base);
            let hi = end.min(base + v.pages());
            if lo < hi {
                f(v.start + (lo - base) * PAGE, v.start + (hi - base) * PAGE);
            }
        }
    }
}

impl Drop for Mm {
    fn drop(&mut self) {
        // After `release` the host has nothing any more.
        if self.pt.get_mut().tables() > 0 {
            self.space.clear();
            self.free_tables();
        }
        let gone: Gone = self.vmas.get_mut().take_all();
        drop(gone);
    }
}

impl core::fmt::Debug for Mm {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Mm")
    }
}
