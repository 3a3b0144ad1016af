//! Files in memory without a name, and their seals: memfd_create(2), fcntl(2) F_ADD_SEALS.

use crate::args::PathPtr;
use crate::cx::mm;
use crate::flags::MemfdFlags;
use abi::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use mm::PageCache;
use mm::aspace::VmFlags;
use mm::io::{Sink, Source};
use sync::{SpinLock, level};
use task::Ctx;
use vfs::file::{Caller, MmapBacking, Traits};
use vfs::generic::{FileData, RegularFile};
use vfs::inode::{StatFs, TimeNs};
use vfs::state::InodeState;
use vfs::{
    Attr, File, FileOps, FileType, Inode, InodeRef, OpenFlags, PollEvents, PollTable, SetAttr,
    SuperBlock,
};

/// Seals of fcntl(2).
mod seal {
    pub const SEAL: u32 = 1;
    pub const SHRINK: u32 = 2;
    pub const GROW: u32 = 4;
    pub const WRITE: u32 = 8;
    pub const FUTURE_WRITE: u32 = 0x10;
    pub const EXEC: u32 = 0x20;
    pub const ALL: u32 = 0x3f;
}

/// The file system of all memory files.
pub struct MemFs {
    this: Weak<MemFs>,
    next_ino: AtomicU64,
}

impl MemFs {
    /// Without files.
    pub fn new() -> Arc<MemFs> {
        Arc::new_cyclic(|this| MemFs {
            this: this.clone(),
            next_ino: AtomicU64::new(1),
        })
    }
    fn arc(&self) -> Arc<MemFs> {
        match self.this.upgrade() {
            Some(fs) => fs,
            None => unreachable!("called through an Arc of itself"),
        }
    }
    fn inode(&self, cx: &dyn Caller, mode: u32, seals: u32) -> Arc<MemInode> {
        let now = cx.realtime_ns();
        let cred = cx.cred();
        let fs = self.arc();
        let ino = self.next_ino.fetch_add(1, Ordering::Relaxed);
        Arc::new_cyclic(|this| MemInode {
            this: this.clone(),
            fs,
            ino,
            state: InodeState::new(),
            cache: PageCache::new_memory(),
            seals: AtomicU32::new(seals),
            meta: SpinLock::new(Meta {
                mode,
                uid: cred.fsuid,
                gid: cred.fsgid,
                atime: now,
                mtime: now,
                ctime: now,
            }),
        })
    }
}

impl SuperBlock for MemFs {
    fn fs_type(&self) -> &'static str {
        "tmpfs"
    }
    fn root(&self) -> InodeRef {
        // Never mounted: nobody can come here. A file of its own, so as not to fail.
        Arc::new_cyclic(|this| MemInode {
            this: this.clone(),
            fs: self.arc(),
            ino: 0,
            state: InodeState::new(),
            cache: PageCache::new_memory(),
            seals: AtomicU32::new(seal::SEAL),
            meta: SpinLock::new(Meta::default()),
        })
    }
    fn magic(&self) -> u64 {
        0x0102_1994
    }
    fn dev(&self) -> u64 {
        1
    }
    fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs {
            bsize: 4096,
            namelen: 255,
            ..StatFs::default()
        })
    }
}

#[derive(Default)]
struct Meta {
    mode: u32,
    uid: u32,
    gid: u32,
    atime: TimeNs,
    mtime: TimeNs,
    ctime: TimeNs,
}

/// A memory file.
pub struct MemInode {
    this: Weak<MemInode>,
    fs: Arc<MemFs>,
    ino: u64,
    state: InodeState,
    cache: Arc<PageCache>,
    seals: AtomicU32,
    meta: SpinLock<Meta, { level::INODE }>,
}

impl MemInode {
    fn sealed(&self, bits: u32) -> bool {
        self.seals.load(Ordering::Acquire) & bits != 0
    }
    fn check_size(&self, size: u64) -> Result {
        let old = self.cache.size();
        if size < old && self.sealed(seal::SHRINK) || size > old && self.sealed(seal::GROW) {
            return Err(Errno::EPERM);
        }
        Ok(())
    }
}

impl FileData for MemInode {
    fn read_cache(&self) -> Result<Arc<PageCache>> {
        Ok(self.cache.clone())
    }
    fn reserve(&self, pos: u64, len: usize) -> Result<usize> {
        if self.sealed(seal::WRITE | seal::FUTURE_WRITE) {
            return Err(Errno::EPERM);
        }
        if self.sealed(seal::GROW) {
            let room = self.cache.size().saturating_sub(pos);
            return match len.min(usize::try_from(room).unwrap_or(usize::MAX)) {
                0 => Err(Errno::EPERM),
                n => Ok(n),
            };
        }
        Ok(len)
    }
    fn written(&self, now: TimeNs) {
        let mut m = self.meta.lock();
        m.mtime = now;
        m.ctime = now;
    }
    fn sync(&self, _data_only: bool) -> Result {
        Ok(())
    }
    fn holes(&self) -> bool {
        true
    }
}

impl Inode for MemInode {
    fn super_block(&self) -> Arc<dyn SuperBlock> {
        self.fs.clone()
    }
    fn attr(&self) -> Result<Attr> {
        let m = self.meta.lock();
        Ok(Attr {
            dev: self.fs.dev(),
            ino: self.ino,
            mode: FileType::Regular.mode_bits() | m.mode,
            nlink: 0,
            uid: m.uid,
            gid: m.gid,
            rdev: 0,
            size: self.cache.size(),
            blksize: 4096,
            blocks: self.cache.resident() * 8,
            atime: m.atime,
            mtime: m.mtime,
            ctime: m.ctime,
            btime: 0,
        })
    }
    fn file_type(&self) -> FileType {
        FileType::Regular
    }
    fn ino(&self) -> u64 {
        self.ino
    }
    fn state(&self) -> Option<&InodeState> {
        Some(&self.state)
    }
    fn accessed(&self, cx: &dyn Caller, _relative: bool) {
        let now = cx.realtime_ns();
        self.meta.lock().atime = now;
    }
    fn set_attr(&self, set: &SetAttr) -> Result {
        if let Some(mode) = set.mode
            && self.sealed(seal::EXEC)
            && (mode ^ self.meta.lock().mode) & 0o111 != 0
        {
            return Err(Errno::EPERM);
        }
        if let Some(size) = set.size {
            self.check_size(size)?;
            self.cache.truncate(size)?;
        }
        let mut m = self.meta.lock();
        m.mode = set.mode.map_or(m.mode, |v| v & 0o7777);
        m.uid = set.uid.unwrap_or(m.uid);
        m.gid = set.gid.unwrap_or(m.gid);
        m.atime = set.atime.unwrap_or(m.atime);
        m.mtime = set.mtime.unwrap_or(m.mtime);
        Ok(())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn open(
        &self,
        _this: &InodeRef,
        _flags: OpenFlags,
        _cx: &dyn Caller,
    ) -> Result<Arc<dyn FileOps>> {
        let inode = self.this.upgrade().ok_or(Errno::ESTALE)?;
        Ok(MemFile::new(inode, Vec::new()))
    }
    fn page_cache(&self) -> Option<Arc<PageCache>> {
        Some(self.cache.clone())
    }
}

/// An open memory file.
struct MemFile {
    data: RegularFile<MemInode>,
    name: Vec<u8>,
}

impl MemFile {
    fn new(inode: Arc<MemInode>, name: Vec<u8>) -> Arc<MemFile> {
        Arc::new(MemFile {
            data: RegularFile(inode),
            name,
        })
    }
}

impl FileOps for MemFile {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn read(&self, f: &File, cx: &dyn Caller, pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        self.data.read(f, cx, pos, dst)
    }
    fn write(&self, f: &File, cx: &dyn Caller, pos: u64, src: &mut dyn Source) -> Result<usize> {
        self.data.write(f, cx, pos, src)
    }
    fn traits(&self) -> Traits {
        Traits::FILE
    }
    fn seek(&self, f: &File, offset: i64, whence: u32) -> Option<Result<u64>> {
        self.data.seek(f, offset, whence)
    }
    fn poll(&self, f: &File, table: Option<&mut PollTable<'_>>) -> PollEvents {
        self.data.poll(f, table)
    }
    fn mmap(&self, f: &File, shared: bool) -> Result<MmapBacking> {
        self.data.mmap(f, shared)
    }
    fn fsync(&self, f: &File, data_only: bool) -> Result {
        self.data.fsync(f, data_only)
    }
    fn fallocate(&self, f: &File, mode: u32, offset: u64, len: u64) -> Result {
        const KEEP_SIZE: u32 = 1;
        const PUNCH_HOLE: u32 = 2;
        let inode = &self.data.0;
        if mode & PUNCH_HOLE != 0 && inode.sealed(seal::WRITE | seal::FUTURE_WRITE) {
            return Err(Errno::EPERM);
        }
        let end = offset.saturating_add(len);
        if mode & (KEEP_SIZE | PUNCH_HOLE) == 0 && end > inode.cache.size() {
            inode.check_size(end)?;
        }
        self.data.fallocate(f, mode, offset, len)
    }
    fn anon_name(&self) -> Option<Vec<u8>> {
        Some(self.name.clone())
    }
}

/// The memory file behind a descriptor. [`Errno::EINVAL`] for all other files, which have no seals.
fn inode_of(f: &File) -> Result<&MemInode> {
    f.inode
        .as_any()
        .downcast_ref::<MemInode>()
        .ok_or(Errno::EINVAL)
}

/// F_GET_SEALS.
pub fn seals(f: &File) -> Result<u32> {
    Ok(inode_of(f)?.seals.load(Ordering::Acquire))
}

/// F_ADD_SEALS. [`Errno::EPERM`] if sealed against it or not open for writing, [`Errno::EBUSY`] while
/// somebody could write through a mapping.
pub fn add_seals(cx: &Ctx, f: &File, new: u32) -> Result {
    if !f.flags().writable() {
        return Err(Errno::EPERM);
    }
    if new & !seal::ALL != 0 {
        return Err(Errno::EINVAL);
    }
    let inode = inode_of(f)?;
    let _lock = inode.state.lock.write();
    if inode.sealed(seal::SEAL) {
        return Err(Errno::EPERM);
    }
    if new & seal::WRITE != 0 && !inode.sealed(seal::WRITE) && mapped_writable(cx, inode) {
        return Err(Errno::EBUSY);
    }
    let mut new = new;
    if new & seal::EXEC != 0 && inode.meta.lock().mode & 0o111 != 0 {
        new |= seal::SHRINK | seal::GROW | seal::WRITE | seal::FUTURE_WRITE;
    }
    inode.seals.fetch_or(new, Ordering::AcqRel);
    Ok(())
}

/// Whether any process has a shared mapping of the file that may be written.
fn mapped_writable(cx: &Ctx, inode: &MemInode) -> bool {
    let same = |owner: &Arc<dyn Any + Send + Sync>| {
        owner
            .downcast_ref::<File>()
            .and_then(|f| inode_of(f).ok())
            .is_some_and(|i| core::ptr::eq(i, inode))
    };
    cx.kernel().pids.processes().any(|p| {
        let mm = p.any_thread().and_then(|t| t.mm());
        mm.is_some_and(|mm| {
            // Without memory to look, it may be.
            mm.vmas(false).map_or(true, |all| {
                all.iter().any(|v| {
                    v.flags.contains(VmFlags::SHARED | VmFlags::MAYWRITE)
                        && v.owner.as_ref().is_some_and(same)
                })
            })
        })
    })
}

/// What seals allow a shared mapping. [`Errno::EPERM`] if it is to be written at once.
pub fn check_map(f: &File, write: bool, vm: &mut VmFlags) -> Result {
    let Ok(inode) = inode_of(f) else {
        return Ok(());
    };
    if inode.sealed(seal::WRITE | seal::FUTURE_WRITE) {
        if write {
            return Err(Errno::EPERM);
        }
        vm.remove(VmFlags::MAYWRITE);
    }
    Ok(())
}

/// Makes a file in memory: `memfd_create(2)`.
pub fn sys_memfd_create(cx: &Ctx, name: PathPtr, flags: MemfdFlags) -> Result<i32> {
    type F = MemfdFlags;
    let huge_size = 0x3f << 26;
    if flags.beyond(
        F::ALL
            | if flags.has(F::MFD_HUGETLB) {
                huge_size
            } else {
                0
            },
    ) {
        return Err(Errno::EINVAL);
    }
    if flags.has(F::MFD_EXEC) && flags.has(F::MFD_NOEXEC_SEAL) {
        return Err(Errno::EINVAL);
    }
    // NAME_MAX less "memfd:".
    let name = match mm(cx).read_cstr(name.0, 249) {
        Err(Errno::ENAMETOOLONG) => return Err(Errno::EINVAL),
        r => r?,
    };
    if flags.has(F::MFD_HUGETLB) {
        return Err(Errno::ENOMEM);
    }
    let (mode, seals) = if flags.has(F::MFD_NOEXEC_SEAL) {
        (0o666, seal::EXEC)
    } else if flags.has(F::MFD_ALLOW_SEALING) {
        (0o777, 0)
    } else {
        (0o777, seal::SEAL)
    };
    let inode = crate::state::of(cx).memfs.inode(cx, mode, seals);
    let mut shown = b"/memfd:".to_vec();
    shown.extend_from_slice(&name);
    shown.extend_from_slice(b" (deleted)");
    let ops = MemFile::new(inode.clone(), shown);
    let open = OpenFlags::RDWR | OpenFlags::LARGEFILE;
    let file = File::new(ops, inode, None, open, cx.cred());
    cx.install(file, flags.has(F::MFD_CLOEXEC))
}
