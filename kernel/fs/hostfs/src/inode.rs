//! Inodes of host files.

use crate::data::HostData;
use crate::{Core, HostFs, Key, VALID_NS, check_writable};
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use hal::dev::{HostDirEntry, HostStat};
use mm::PageCache;
use mm::page_cache::DirtyHook;
use sync::{Mutex, Once, SpinLock, level};
use vfs::cred::{Cred, Perm};
use vfs::file::{Caller, File, FileOps, OpenFlags};
use vfs::generic::{DirData, DirFile, FIRST_COOKIE, FileData, RegularFile};
use vfs::inode::{Attr, DirEmit, InodeRef, NewNode, SetAttr, TimeNs};
use vfs::state::InodeState;
use vfs::{FileType, Inode, SuperBlock};

/// How long the host's answer is believed when a file is opened, in ns.
const OPEN_VALID_NS: u64 = 20_000_000;
/// A time stamp this close to the moment it was looked at may hide a later change.
const TICK_NS: i64 = 50_000_000;

type Slot = SpinLock<Option<Arc<dyn Any + Send + Sync>>, { level::INODE }>;

#[derive(Clone, Copy)]
struct Seen {
    stat: HostStat,
    /// Monotonic time of the last look.
    at: u64,
    /// Wall-clock time of it.
    wall: i64,
}

/// An inode of a host file.
pub struct HostInode {
    core: Arc<Core>,
    key: Key,
    kind: FileType,
    ino: u64,
    data: Arc<HostData>,
    seen: SpinLock<Seen, { level::INODE }>,
    /// Directory: see [`Inode::names_generation`].
    generation: AtomicU64,
    cache: Mutex<Option<Arc<PageCache>>>,
    /// Fast copy of `cache`.
    ready: Once<Arc<PageCache>>,
    /// There may be written pages that the host does not have yet.
    dirty: AtomicBool,
    /// The host may not have everything that was written on its disk.
    unsynced: AtomicBool,
    state: InodeState,
    slot: Once<Box<Slot>>,
    this: Weak<HostInode>,
}

impl HostInode {
    pub(crate) fn make(
        core: &Arc<Core>,
        st: &HostStat,
        kind: FileType,
        ino: u64,
        dir: Option<Arc<HostData>>,
        name: &[u8],
    ) -> Arc<HostInode> {
        let key = (st.dev, st.ino);
        Arc::new_cyclic(|this| HostInode {
            core: core.clone(),
            key,
            kind,
            ino,
            data: HostData::new(core, key, dir, name),
            seen: SpinLock::new(Seen {
                stat: *st,
                at: core.now(),
                wall: wall(core),
            }),
            generation: AtomicU64::new(1),
            cache: Mutex::new(None),
            ready: Once::new(),
            dirty: AtomicBool::new(false),
            unsynced: AtomicBool::new(false),
            state: InodeState::new(),
            slot: Once::new(),
            this: this.clone(),
        })
    }
    pub(crate) fn kind(&self) -> FileType {
        self.kind
    }
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }
    pub(crate) fn data(&self) -> &Arc<HostData> {
        &self.data
    }
    pub(crate) fn path(&self) -> Result<Vec<u8>> {
        self.data.path()
    }
    pub(crate) fn child_path(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.data.path_of(Some(name))
    }

    /// Takes what the host says now; forgets what it contradicts.
    pub(crate) fn refresh(&self, st: &HostStat) {
        self.take_stat(st, false);
    }
    /// `own`: times and size are as our own writes have left them.
    fn take_stat(&self, st: &HostStat, own: bool) {
        let (now, wall) = (self.core.now(), wall(&self.core));
        let old = {
            let mut s = self.seen.lock();
            let old = *s;
            *s = Seen {
                stat: *st,
                at: now,
                wall,
            };
            old
        };
        let o = &old.stat;
        let changed = o.mtime_ns != st.mtime_ns
            || o.ctime_ns != st.ctime_ns
            || o.size != st.size
            || old.wall.saturating_sub(o.mtime_ns) < TICK_NS;
        match self.kind {
            FileType::Dir if changed => {
                self.generation.fetch_add(1, Ordering::Relaxed);
            }
            FileType::Regular
                if (o.mtime_ns, o.size) != (st.mtime_ns, st.size)
                    || changed && !self.core.writable && o.ctime_ns != st.ctime_ns =>
            {
                // Our own writes change the times as well.
                if !own
                    && !self.dirty.load(Ordering::Acquire)
                    && let Some(c) = self.ready.get()
                {
                    c.invalidate(st.size);
                }
            }
            _ => {}
        }
    }
    /// Asks the host, if its last answer is too old (`always`: anyway).
    pub(crate) fn look(&self, always: bool) -> Result {
        self.look_within(if always { 0 } else { VALID_NS })
    }
    /// Asks the host, if its last answer is older than this.
    fn look_within(&self, valid_ns: u64) -> Result {
        if self.core.now().wrapping_sub(self.seen.lock().at) < valid_ns {
            return Ok(());
        }
        match self.core.dir.stat(&self.path()?) {
            Ok(st) if (st.dev, st.ino) == self.key => {
                self.refresh(&st);
                Ok(())
            }
            // The name is gone or somebody else's: what is known of the file stays true, as far as we can tell.
            Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
            Err(e) => Err(e),
        }
    }
    /// Own changes of names: cached absences made before hold no more.
    pub(crate) fn names_changed(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.seen.lock().at = self.core.now().wrapping_sub(VALID_NS);
    }
    /// A name was removed by us. Other names ask the host at their next use.
    pub(crate) fn unlinked(&self) {
        let old = self.core.now().wrapping_sub(VALID_NS);
        let mut s = self.seen.lock();
        s.stat.nlink = match self.kind {
            FileType::Dir => 0,
            _ => s.stat.nlink.saturating_sub(1),
        };
        s.at = old;
    }
    fn this(&self) -> Result<Arc<HostInode>> {
        self.this.upgrade().ok_or(Errno::ESTALE)
    }
    pub(crate) fn cache(&self) -> Result<Arc<PageCache>> {
        if let Some(c) = self.ready.get() {
            return Ok(c.clone());
        }
        if self.kind != FileType::Regular {
            return Err(Errno::EINVAL);
        }
        let mut slot = self.cache.lock();
        if let Some(c) = &*slot {
            return Ok(c.clone());
        }
        let size = self.seen.lock().stat.size;
        let c = PageCache::new_backed(self.data.clone(), size);
        *slot = Some(c.clone());
        let _ = self.ready.set(c.clone());
        Ok(c)
    }
    pub(crate) fn cache_if_any(&self) -> Option<&Arc<PageCache>> {
        self.ready.get()
    }
    /// Writes dirty pages to the host and takes the new times.
    pub(crate) fn write_back(&self) -> Result {
        if !self.dirty.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        if let Some(c) = self.ready.get()
            && let Err(e) = c.sync()
        {
            self.mark_dirty();
            return Err(e);
        }
        if let Ok(st) = self.core.dir.stat(&self.path()?)
            && (st.dev, st.ino) == self.key
        {
            self.take_stat(&st, true);
        }
        Ok(())
    }
    pub(crate) fn mark_dirty(&self) {
        self.dirty.store(true, Ordering::Release);
        self.unsynced.store(true, Ordering::Release);
        self.core.dirty.store(true, Ordering::Release);
    }
    /// As [`HostInode::write_back`], and on to the host's disk.
    pub(crate) fn sync_all(&self) -> Result {
        self.write_back()?;
        if self.unsynced.swap(false, Ordering::AcqRel)
            && let Err(e) = self.data.fsync()
        {
            self.unsynced.store(true, Ordering::Release);
            return Err(e);
        }
        Ok(())
    }
}

fn wall(core: &Core) -> i64 {
    i64::try_from(core.clock.realtime_ns()).unwrap_or(i64::MAX)
}

impl Drop for HostInode {
    fn drop(&mut self) {
        if self.dirty.load(Ordering::Relaxed)
            && let Some(c) = self.ready.get()
        {
            // Nobody is left to tell; fsync(2) is there for those who want to know.
            let _ = c.sync();
        }
        self.core.forget(self.key);
    }
}

impl FileData for HostInode {
    fn read_cache(&self) -> Result<Arc<PageCache>> {
        self.cache()
    }
    fn write_cache(&self) -> Result<Arc<PageCache>> {
        check_writable(&self.core)?;
        self.mark_dirty();
        self.cache()
    }
    fn written(&self, now: TimeNs) {
        self.mark_dirty();
        let mut s = self.seen.lock();
        s.stat.mtime_ns = now;
        s.stat.ctime_ns = now;
    }
    fn mapped_for_write(&self, cache: &Arc<PageCache>) {
        cache.set_dirty_hook(Arc::new(MappedWrite(self.this.clone())));
    }
    fn sync(&self, _data_only: bool) -> Result {
        self.unsynced.store(true, Ordering::Release);
        self.sync_all()
    }
    fn closed(&self, f: &File) {
        if f.flags().writable() {
            // close(2) does not wait for the disk, but the host's other readers see the data from here on.
            let _ = self.write_back();
        }
    }
}

struct MappedWrite(Weak<HostInode>);

impl DirtyHook for MappedWrite {
    fn dirtied(&self) {
        if let Some(i) = self.0.upgrade() {
            i.mark_dirty();
        }
    }
}

impl DirData for HostInode {
    type Kept = Option<Vec<HostDirEntry>>;
    fn begin(&self) -> Result<Option<Vec<HostDirEntry>>> {
        Ok(Some(self.core.dir.read_dir(&self.path()?)?))
    }
    fn list(
        &self,
        kept: &mut Option<Vec<HostDirEntry>>,
        from: u64,
        emit: &mut DirEmit<'_>,
    ) -> Result {
        let list = match kept {
            Some(l) => l,
            None => kept.insert(self.core.dir.read_dir(&self.path()?)?),
        };
        let start = usize::try_from(from - FIRST_COOKIE).unwrap_or(usize::MAX);
        for (i, e) in list.iter().enumerate().skip(start) {
            let kind = match FileType::from_mode(u32::from(e.kind) << 12) {
                Some(k) => k,
                // The host's file system does not tell types with names.
                None => match self.core.dir.stat(&self.child_path(&e.name)?) {
                    Ok(st) => FileType::from_mode(st.mode).unwrap_or(FileType::Regular),
                    Err(_) => continue,
                },
            };
            let ino = self.core.ino(self.key.0, e.ino);
            if !emit(&e.name, ino, kind, FIRST_COOKIE + i as u64 + 1) {
                break;
            }
        }
        Ok(())
    }
}

impl Inode for HostInode {
    fn super_block(&self) -> Arc<dyn SuperBlock> {
        match self.core.super_block() {
            Some(fs) => fs,
            // Unmounted, and kept by an open file alone.
            None => Arc::new(HostFs {
                core: self.core.clone(),
                root: HostInode::make(
                    &self.core,
                    &self.seen.lock().stat,
                    self.kind,
                    self.ino,
                    None,
                    b"",
                ),
            }),
        }
    }
    fn attr(&self) -> Result<Attr> {
        self.look(false)?;
        let st = self.seen.lock().stat;
        let size = match self.ready.get() {
            Some(c) if self.core.writable => c.size(),
            _ => st.size,
        };
        Ok(Attr {
            dev: self.core.dev,
            ino: self.ino,
            mode: st.mode,
            nlink: st.nlink,
            uid: st.uid,
            gid: st.gid,
            rdev: st.rdev,
            size,
            blksize: hal::PAGE_SIZE as u32,
            blocks: st.blocks,
            atime: st.atime_ns,
            mtime: st.mtime_ns,
            ctime: st.ctime_ns,
            btime: st.ctime_ns,
        })
    }
    fn perm(&self) -> Result<Perm> {
        let s = self.seen.lock();
        Ok(Perm {
            mode: s.stat.mode,
            uid: s.stat.uid,
            gid: s.stat.gid,
        })
    }
    fn state(&self) -> Option<&InodeState> {
        Some(&self.state)
    }
    fn file_type(&self) -> FileType {
        self.kind
    }
    fn ino(&self) -> u64 {
        self.ino
    }
    fn set_attr(&self, set: &SetAttr) -> Result {
        self.change_attr(set)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn lookup(&self, name: &[u8]) -> Result<InodeRef> {
        if self.kind != FileType::Dir {
            return Err(Errno::ENOTDIR);
        }
        let st = self.core.dir.stat(&self.child_path(name)?)?;
        Ok(self.core.inode(&st, Some(&self.data), name))
    }
    fn revalidate(&self, name: &[u8], child: Option<&InodeRef>) -> bool {
        let Some(child) = child else {
            return self.look(false).is_ok();
        };
        let Some(c) = child.as_any().downcast_ref::<HostInode>() else {
            return false;
        };
        // Seen lately, and by this name: a file that moved is fresh at its new place only.
        if self.core.now().wrapping_sub(c.seen.lock().at) < VALID_NS
            && c.data.is_at(&self.data, name)
        {
            return true;
        }
        let Ok(path) = self.child_path(name) else {
            return false;
        };
        match self.core.dir.stat(&path) {
            Ok(st) if (st.dev, st.ino) == c.key && FileType::from_mode(st.mode) == Some(c.kind) => {
                c.data.seen_as(&self.data, name);
                c.refresh(&st);
                true
            }
            _ => false,
        }
    }
    fn names_generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }
    fn create(&self, name: &[u8], node: NewNode<'_>, mode: u32, cred: &Cred) -> Result<InodeRef> {
        self.create_node(name, node, mode, cred)
    }
    fn link(&self, name: &[u8], target: &InodeRef) -> Result {
        self.link_node(name, target)
    }
    fn unlink(&self, name: &[u8]) -> Result {
        self.remove_name(name, false)
    }
    fn rmdir(&self, name: &[u8]) -> Result {
        self.remove_name(name, true)
    }
    fn rename(&self, old: &[u8], dir: &InodeRef, new: &[u8], flags: u32) -> Result {
        self.rename_name(old, dir, new, flags)
    }
    fn read_link(&self) -> Result<Vec<u8>> {
        if self.kind != FileType::Symlink {
            return Err(Errno::EINVAL);
        }
        self.core.dir.read_link(&self.path()?)
    }
    fn open(
        &self,
        _this: &InodeRef,
        flags: OpenFlags,
        _cx: &dyn Caller,
    ) -> Result<Arc<dyn FileOps>> {
        let this = self.this()?;
        match self.kind {
            FileType::Regular => {
                // Asks the host for the right now, not at the first read, and sees its latest changes.
                self.look_within(OPEN_VALID_NS)?;
                if flags.writable() {
                    check_writable(&self.core)?;
                    self.data.open(true)?;
                } else {
                    self.data.open(false)?;
                }
                Ok(Arc::new(RegularFile(this)))
            }
            FileType::Dir => Ok(Arc::new(DirFile::new(this)?)),
            FileType::Symlink => Err(Errno::ELOOP),
            _ => Err(Errno::ENXIO),
        }
    }
    fn page_cache(&self) -> Option<Arc<PageCache>> {
        self.cache().ok()
    }
    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.core.dir.get_xattr(&self.path()?, name)
    }
    fn list_xattr(&self) -> Result<Vec<Vec<u8>>> {
        let names = match self.core.dir.list_xattr(&self.path()?) {
            Ok(n) => n,
            Err(Errno::EOPNOTSUPP) => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        // Access control lists of the host are not obeyed here, so they are not shown.
        Ok(names
            .split(|&c| c == 0)
            .filter(|n| !n.is_empty() && !n.starts_with(b"system."))
            .map(<[u8]>::to_vec)
            .collect())
    }
    fn socket_slot(&self) -> Option<&Slot> {
        if !matches!(self.kind, FileType::Fifo | FileType::Socket) {
            return None;
        }
        loop {
            if let Some(s) = self.slot.get() {
                return Some(s);
            }
            let _ = self.slot.set(Box::new(SpinLock::new(None)));
            core::hint::spin_loop();
        }
    }
}
