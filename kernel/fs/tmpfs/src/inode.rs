//! Inodes.

use crate::dir::DirBody;
use crate::{Core, PAGE, TmpFs};
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use mm::PageCache;
use mm::page_cache::DirtyHook;
use sync::{Once, SpinLock, level};
use vfs::cred::{Cred, Perm, new_owner};
use vfs::file::{Caller, FileOps, OpenFlags};
use vfs::generic::{DirFile, FileData, RegularFile};
use vfs::inode::{Attr, InodeRef, NewNode, SetAttr, TimeNs, relatime};
use vfs::state::InodeState;
use vfs::text::try_vec;
use vfs::{FileType, Inode, SuperBlock};

/// Most bytes of names and values of extended attributes of one inode.
const XATTRS_MAX: usize = 256 << 10;
/// XATTR_CREATE, XATTR_REPLACE of setxattr(2).
const XATTR_CREATE: u32 = 1;
const XATTR_REPLACE: u32 = 2;

pub(crate) enum Body {
    Regular(Arc<PageCache>),
    Dir(DirBody),
    Symlink(Box<[u8]>),
    /// Fifo, socket, device: type and device number.
    Special(FileType, u64),
}

impl Body {
    pub fn new_dir() -> Body {
        Body::Dir(DirBody::new())
    }
}

#[derive(Clone, Copy)]
struct Meta {
    perm: Perm,
    nlink: u32,
    atime: TimeNs,
    mtime: TimeNs,
    ctime: TimeNs,
    btime: TimeNs,
}

type Slot = SpinLock<Option<Arc<dyn Any + Send + Sync>>, { level::INODE }>;

/// What few inodes need.
#[derive(Default)]
struct Rare {
    xattrs: SpinLock<BTreeMap<Vec<u8>, Vec<u8>>, { level::INODE }>,
    /// Bound socket, or the pipe of a fifo.
    slot: Slot,
}

/// An inode of a tmpfs.
pub struct TmpInode {
    core: Arc<Core>,
    ino: u64,
    body: Body,
    meta: SpinLock<Meta, { level::INODE }>,
    /// Pages counted as used by this file.
    charged: AtomicU64,
    /// Made by O_TMPFILE without O_EXCL: may get a first name.
    linkable: AtomicBool,
    state: InodeState,
    rare: Once<Box<Rare>>,
    this: Weak<TmpInode>,
}

impl TmpInode {
    /// `perm.mode` with type bits. The caller has counted the inode.
    pub(crate) fn make(core: &Arc<Core>, ino: u64, perm: Perm, body: Body) -> Arc<TmpInode> {
        let now = core.now();
        let nlink = if matches!(body, Body::Dir(_)) { 2 } else { 1 };
        Arc::new_cyclic(|this| TmpInode {
            core: core.clone(),
            ino,
            body,
            meta: SpinLock::new(Meta {
                perm,
                nlink,
                atime: now,
                mtime: now,
                ctime: now,
                btime: now,
            }),
            charged: AtomicU64::new(0),
            linkable: AtomicBool::new(false),
            state: InodeState::new(),
            rare: Once::new(),
            this: this.clone(),
        })
    }
    /// A new inode without a name, counted.
    pub(crate) fn new(
        core: &Arc<Core>,
        node: &NewNode<'_>,
        mode: u32,
        uid: u32,
        gid: u32,
    ) -> Result<Arc<TmpInode>> {
        core.take_inode()?;
        let (kind, body) = match node {
            NewNode::Regular => (FileType::Regular, Body::Regular(PageCache::new_memory())),
            NewNode::Dir => (FileType::Dir, Body::new_dir()),
            NewNode::Symlink(t) => (FileType::Symlink, Body::Symlink((*t).into())),
            NewNode::Special(t) => (*t, Body::Special(*t, 0)),
            NewNode::Device(t, dev) => (*t, Body::Special(*t, *dev)),
        };
        let perm = Perm {
            mode: kind.mode_bits() | mode & 0o7777,
            uid,
            gid,
        };
        Ok(TmpInode::make(core, core.new_ino(), perm, body))
    }
    pub(crate) fn new_sibling(
        &self,
        node: &NewNode<'_>,
        mode: u32,
        uid: u32,
        gid: u32,
    ) -> Result<Arc<TmpInode>> {
        TmpInode::new(&self.core, node, mode, uid, gid)
    }
    pub(crate) fn body(&self) -> &Body {
        &self.body
    }
    pub(crate) fn this(&self) -> Result<Arc<TmpInode>> {
        self.this.upgrade().ok_or(Errno::ENOENT)
    }
    /// An entry was added or removed.
    pub fn names_changed(&self) {
        let now = self.core.now();
        let mut m = self.meta.lock();
        m.mtime = now;
        m.ctime = now;
    }
    /// Something about the inode changed.
    pub fn touch_ctime(&self) {
        let now = self.core.now();
        self.meta.lock().ctime = now;
    }
    /// One more name. [`Errno::ENOENT`] if the last one is gone.
    pub fn add_link(&self) -> Result {
        let now = self.core.now();
        let mut m = self.meta.lock();
        if m.nlink == 0 && !self.linkable.load(Ordering::Relaxed) {
            return Err(Errno::ENOENT);
        }
        m.nlink = m.nlink.checked_add(1).ok_or(Errno::EMLINK)?;
        m.ctime = now;
        Ok(())
    }
    /// One name less; a directory loses both of its own.
    pub fn drop_link(&self) {
        let now = self.core.now();
        let is_dir = matches!(self.body, Body::Dir(_));
        let mut m = self.meta.lock();
        m.nlink = if is_dir { 0 } else { m.nlink.saturating_sub(1) };
        m.ctime = now;
    }
    /// Sets all times at once (a copy of another file).
    pub fn set_times(&self, atime: TimeNs, mtime: TimeNs, ctime: TimeNs) {
        let mut m = self.meta.lock();
        m.atime = atime;
        m.mtime = mtime;
        m.ctime = ctime;
    }
    /// Has no name yet, but may get one (O_TMPFILE).
    pub fn set_unnamed(&self) {
        self.meta.lock().nlink = 0;
        self.linkable.store(true, Ordering::Relaxed);
    }
    /// Never gets a name (O_TMPFILE with O_EXCL).
    pub fn set_unlinkable(&self) {
        self.linkable.store(false, Ordering::Relaxed);
    }
    /// Pages of a regular file.
    pub fn cache(&self) -> Option<&Arc<PageCache>> {
        match &self.body {
            Body::Regular(c) => Some(c),
            _ => None,
        }
    }
    /// Brings the account in line with the pages there are.
    pub fn recharge(&self) {
        if let Body::Regular(c) = &self.body {
            let new = c.resident();
            let old = self.charged.swap(new, Ordering::Relaxed);
            let used = &self.core.used_pages;
            if new >= old {
                used.fetch_add(new - old, Ordering::Relaxed);
            } else {
                used.fetch_sub(old - new, Ordering::Relaxed);
            }
        }
    }
    fn rare(&self) -> &Rare {
        loop {
            if let Some(r) = self.rare.get() {
                return r;
            }
            let _ = self.rare.set(Box::default());
            core::hint::spin_loop();
        }
    }
    fn take_children(&mut self) -> Vec<Arc<TmpInode>> {
        match &mut self.body {
            Body::Dir(d) => d.take_all(),
            _ => Vec::new(),
        }
    }
    fn size(&self) -> u64 {
        match &self.body {
            Body::Regular(c) => c.size(),
            Body::Dir(d) => 40 + 20 * d.len() as u64,
            Body::Symlink(t) => t.len() as u64,
            Body::Special(..) => 0,
        }
    }
}

impl Drop for TmpInode {
    /// Gives everything below back without recursion: trees may be very deep.
    fn drop(&mut self) {
        if let Body::Regular(_) = self.body {
            let n = self.charged.load(Ordering::Relaxed);
            self.core.used_pages.fetch_sub(n, Ordering::Relaxed);
        }
        self.core.used_inodes.fetch_sub(1, Ordering::Relaxed);
        let mut work = self.take_children();
        while let Some(child) = work.pop() {
            if let Some(mut inode) = Arc::into_inner(child) {
                work.append(&mut inode.take_children());
            }
        }
    }
}

impl FileData for TmpInode {
    fn read_cache(&self) -> Result<Arc<PageCache>> {
        self.cache().cloned().ok_or(Errno::EINVAL)
    }
    fn reserve(&self, pos: u64, len: usize) -> Result<usize> {
        let cache = self.cache().ok_or(Errno::EINVAL)?;
        let end = pos.checked_add(len as u64).ok_or(Errno::EFBIG)?;
        let free = self.core.free_pages();
        if free > len as u64 / PAGE + 1 {
            return Ok(len);
        }
        // Near the limit: only pages that are not there yet count.
        let (mut at, mut left) = (pos & !(PAGE - 1), free);
        while at < end {
            let hole = cache.next_hole(at).map_or(at, |h| h.div_ceil(PAGE) * PAGE);
            if hole > at {
                at = hole;
                continue;
            }
            if left == 0 {
                break;
            }
            left -= 1;
            at += PAGE;
        }
        match at.min(end).saturating_sub(pos) {
            0 => Err(Errno::ENOSPC),
            n => Ok(n as usize),
        }
    }
    fn written(&self, now: TimeNs) {
        self.recharge();
        let mut m = self.meta.lock();
        m.mtime = now;
        m.ctime = now;
    }
    fn mapped_for_write(&self, cache: &Arc<PageCache>) {
        cache.set_dirty_hook(Arc::new(MappedWrite(self.this.clone())));
    }
    fn sync(&self, _data_only: bool) -> Result {
        Ok(())
    }
    fn holes(&self) -> bool {
        true
    }
}

/// Sets the times of a file written through a mapping.
struct MappedWrite(Weak<TmpInode>);

impl DirtyHook for MappedWrite {
    fn dirtied(&self) {
        if let Some(i) = self.0.upgrade() {
            i.written(i.core.now());
        }
    }
}

impl Inode for TmpInode {
    fn super_block(&self) -> Arc<dyn SuperBlock> {
        match self.core.fs.upgrade() {
            Some(fs) => fs,
            // Unmounted, and kept by an open file alone.
            None => Arc::new(TmpFs {
                core: self.core.clone(),
                root: TmpInode::make(&self.core, 1, self.meta.lock().perm, Body::new_dir()),
                mode: 0,
            }),
        }
    }
    fn attr(&self) -> Result<Attr> {
        let size = self.size();
        let (pages, rdev) = match &self.body {
            Body::Regular(c) => (c.resident(), 0),
            Body::Special(_, dev) => (0, *dev),
            _ => (0, 0),
        };
        let subdirs = match &self.body {
            Body::Dir(d) => d.subdirs(),
            _ => 0,
        };
        let m = *self.meta.lock();
        Ok(Attr {
            dev: self.core.dev,
            ino: self.ino,
            mode: m.perm.mode,
            nlink: if m.nlink == 0 {
                0
            } else {
                m.nlink.saturating_add(subdirs)
            },
            uid: m.perm.uid,
            gid: m.perm.gid,
            rdev,
            size,
            blksize: PAGE as u32,
            blocks: pages.saturating_mul(PAGE / 512),
            atime: m.atime,
            mtime: m.mtime,
            ctime: m.ctime,
            btime: m.btime,
        })
    }
    fn perm(&self) -> Result<Perm> {
        Ok(self.meta.lock().perm)
    }
    fn state(&self) -> Option<&InodeState> {
        Some(&self.state)
    }
    fn accessed(&self, cx: &dyn Caller, relative: bool) {
        let about_now = cx.coarse_realtime_ns();
        let is_due = |m: &Meta| relatime(m.atime, m.mtime, m.ctime, about_now);
        if !relative || is_due(&self.meta.lock()) {
            let now = cx.realtime_ns();
            self.meta.lock().atime = now;
        }
    }
    fn file_type(&self) -> FileType {
        match &self.body {
            Body::Regular(_) => FileType::Regular,
            Body::Dir(_) => FileType::Dir,
            Body::Symlink(_) => FileType::Symlink,
            Body::Special(t, _) => *t,
        }
    }
    fn ino(&self) -> u64 {
        self.ino
    }
    fn set_attr(&self, set: &SetAttr) -> Result {
        let now = self.core.now();
        if let Some(size) = set.size {
            let cache = self.cache().ok_or(Errno::EINVAL)?;
            cache.truncate(size)?;
            self.recharge();
        }
        let mut m = self.meta.lock();
        if let Some(mode) = set.mode {
            m.perm.mode = m.perm.mode & !0o7777 | mode & 0o7777;
        }
        if let Some(uid) = set.uid {
            m.perm.uid = uid;
        }
        if let Some(gid) = set.gid {
            m.perm.gid = gid;
        }
        if set.size.is_some() {
            m.mtime = now;
        }
        if let Some(t) = set.atime {
            m.atime = t;
        }
        if let Some(t) = set.mtime {
            m.mtime = t;
        }
        m.ctime = now;
        Ok(())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn lookup(&self, name: &[u8]) -> Result<InodeRef> {
        self.dir_lookup(name)
    }
    fn create(&self, name: &[u8], node: NewNode<'_>, mode: u32, cred: &Cred) -> Result<InodeRef> {
        let is_dir = matches!(node, NewNode::Dir);
        let (uid, gid, mode) = new_owner(self.perm()?, cred, mode, is_dir);
        let new = self.dir_insert_new(name, || self.new_sibling(&node, mode, uid, gid))?;
        Ok(new)
    }
    fn create_unnamed(&self, mode: u32, cred: &Cred) -> Result<InodeRef> {
        self.dir()?;
        let (uid, gid, mode) = new_owner(self.perm()?, cred, mode, false);
        let new = self.new_sibling(&NewNode::Regular, mode, uid, gid)?;
        new.set_unnamed();
        Ok(new)
    }
    fn link(&self, name: &[u8], target: &InodeRef) -> Result {
        self.dir_link(name, target)
    }
    fn unlink(&self, name: &[u8]) -> Result {
        self.dir_unlink(name)
    }
    fn rmdir(&self, name: &[u8]) -> Result {
        self.dir_rmdir(name)
    }
    fn rename(&self, old: &[u8], dir: &InodeRef, new: &[u8], flags: u32) -> Result {
        self.dir_rename(old, dir, new, flags)
    }
    fn read_link(&self) -> Result<Vec<u8>> {
        match &self.body {
            Body::Symlink(t) => Ok(t.to_vec()),
            _ => Err(Errno::EINVAL),
        }
    }
    fn open(
        &self,
        _this: &InodeRef,
        flags: OpenFlags,
        _cx: &dyn Caller,
    ) -> Result<Arc<dyn FileOps>> {
        let this = self.this()?;
        match &self.body {
            Body::Regular(_) => {
                if flags.contains(OpenFlags::EXCL) {
                    this.set_unlinkable();
                }
                Ok(Arc::new(RegularFile(this)))
            }
            Body::Dir(_) => Ok(Arc::new(DirFile::new(this)?)),
            Body::Symlink(_) => Err(Errno::ELOOP),
            Body::Special(..) => Err(Errno::ENXIO),
        }
    }
    fn page_cache(&self) -> Option<Arc<PageCache>> {
        self.cache().cloned()
    }
    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        let Some(rare) = self.rare.get() else {
            return Err(Errno::ENODATA);
        };
        let x = rare.xattrs.lock();
        x.get(name).cloned().ok_or(Errno::ENODATA)
    }
    fn set_xattr(&self, name: &[u8], value: &[u8], flags: u32) -> Result {
        let key = name.to_vec();
        let mut kept = Vec::new();
        kept.try_reserve_exact(value.len())
            .map_err(|_| Errno::ENOMEM)?;
        kept.extend_from_slice(value);
        let mut x = self.rare().xattrs.lock();
        let old = x.contains_key(name);
        if old && flags & XATTR_CREATE != 0 {
            return Err(Errno::EEXIST);
        }
        if !old && flags & XATTR_REPLACE != 0 {
            return Err(Errno::ENODATA);
        }
        let used: usize = x
            .iter()
            .filter(|(k, _)| k.as_slice() != name)
            .map(|(k, v)| k.len() + v.len())
            .sum();
        if used + key.len() + kept.len() > XATTRS_MAX {
            return Err(Errno::ENOSPC);
        }
        let gone = x.insert(key, kept);
        drop(x);
        drop(gone);
        self.touch_ctime();
        Ok(())
    }
    fn list_xattr(&self) -> Result<Vec<Vec<u8>>> {
        Ok(match self.rare.get() {
            Some(r) => try_vec(r.xattrs.lock().keys().cloned())?,
            None => Vec::new(),
        })
    }
    fn remove_xattr(&self, name: &[u8]) -> Result {
        let Some(rare) = self.rare.get() else {
            return Err(Errno::ENODATA);
        };
        let old = rare.xattrs.lock().remove(name);
        old.ok_or(Errno::ENODATA)?;
        self.touch_ctime();
        Ok(())
    }
    fn socket_slot(&self) -> Option<&Slot> {
        match &self.body {
            Body::Special(FileType::Fifo | FileType::Socket, _) => Some(&self.rare().slot),
            _ => None,
        }
    }
}
