//! Inodes of the view.

use crate::Core;
use crate::dir::{Changes, Known};
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use mm::PageCache;
use sync::{Mutex, Once, SpinLock, level};
use tmpfs::TmpInode;
use vfs::cred::{Cred, Perm, new_owner};
use vfs::file::{Caller, FileOps, OpenFlags};
use vfs::generic::{DirFile, FileData, RegularFile};
use vfs::inode::{Attr, InodeRef, NewNode, SetAttr, TimeNs};
use vfs::state::InodeState;
use vfs::{FileType, Inode, SuperBlock};

type Slot = SpinLock<Option<Arc<dyn Any + Send + Sync>>, { level::INODE }>;

/// Where an inode is to be entered when it changes.
enum Home {
    /// Found as this name of this directory's lower one.
    Found(Arc<OvlInode>, Arc<[u8]>),
    /// Entered already, or the root, or without a name.
    Entered,
}

/// An inode of an overlay.
pub struct OvlInode {
    pub(crate) core: Arc<Core>,
    ino: u64,
    kind: FileType,
    lower: Option<InodeRef>,
    /// Attributes, and contents once `data_up` is set.
    upper: Once<Arc<TmpInode>>,
    pub(crate) data_up: AtomicBool,
    /// Directory: changed names.
    pub(crate) dir: Option<Box<Changes>>,
    home: SpinLock<Home, { level::INODE }>,
    /// Names more (or fewer) than the lower inode has.
    links: AtomicI64,
    /// The index has it under the lower number.
    indexed: bool,
    pub(crate) copying: Mutex<()>,
    state: InodeState,
    slot: Once<Box<Slot>>,
    this: Weak<OvlInode>,
}

impl OvlInode {
    fn make(
        core: &Arc<Core>,
        ino: u64,
        kind: FileType,
        lower: Option<InodeRef>,
        upper: Option<Arc<TmpInode>>,
        home: Home,
        indexed: bool,
    ) -> Arc<OvlInode> {
        let data_up = lower.is_none();
        let once = Once::new();
        if let Some(u) = upper {
            let _ = once.set(u);
        }
        Arc::new_cyclic(|this| OvlInode {
            core: core.clone(),
            ino,
            kind,
            lower,
            upper: once,
            data_up: AtomicBool::new(data_up),
            dir: (kind == FileType::Dir).then(|| Box::new(Changes::new())),
            home: SpinLock::new(home),
            links: AtomicI64::new(0),
            indexed,
            copying: Mutex::new(()),
            state: InodeState::new(),
            slot: Once::new(),
            this: this.clone(),
        })
    }
    /// For a lower inode, under its number; `home`: where it was found.
    pub(crate) fn of_lower(
        core: &Arc<Core>,
        lower: InodeRef,
        home: Option<(Arc<OvlInode>, Arc<[u8]>)>,
    ) -> Arc<OvlInode> {
        let home = home.map_or(Home::Entered, |(d, n)| Home::Found(d, n));
        OvlInode::make(
            core,
            lower.ino(),
            lower.file_type(),
            Some(lower),
            None,
            home,
            true,
        )
    }
    /// For a lower inode whose number is taken.
    pub(crate) fn of_foreign(
        core: &Arc<Core>,
        lower: InodeRef,
        home: (Arc<OvlInode>, Arc<[u8]>),
    ) -> Arc<OvlInode> {
        OvlInode::make(
            core,
            core.new_ino(),
            lower.file_type(),
            Some(lower),
            None,
            Home::Found(home.0, home.1),
            false,
        )
    }
    /// For a new file.
    pub(crate) fn of_upper(core: &Arc<Core>, upper: Arc<TmpInode>) -> Arc<OvlInode> {
        OvlInode::make(
            core,
            core.new_ino(),
            upper.file_type(),
            None,
            Some(upper),
            Home::Entered,
            false,
        )
    }
    pub(crate) fn lower(&self) -> Option<&InodeRef> {
        self.lower.as_ref()
    }
    pub(crate) fn lower_ino(&self) -> u64 {
        self.lower.as_ref().map_or(self.ino, |l| l.ino())
    }
    pub(crate) fn upper(&self) -> Option<&Arc<TmpInode>> {
        self.upper.get()
    }
    pub(crate) fn set_upper(&self, u: Arc<TmpInode>) {
        let _ = self.upper.set(u);
    }
    /// Whether the contents are above.
    pub(crate) fn has_data(&self) -> bool {
        self.data_up.load(Ordering::Acquire)
    }
    pub(crate) fn this(&self) -> Result<Arc<OvlInode>> {
        self.this.upgrade().ok_or(Errno::ESTALE)
    }
    /// What it counts in its directory's number of subdirectories.
    pub(crate) fn dirs(&self) -> i64 {
        i64::from(self.kind == FileType::Dir)
    }
    /// Whether it is what a lookup that found `lower` below an unchanged name means.
    /// A changed inode is entered where it belongs, so it is reached this way by
    /// another hard link only; else the host has used the number again.
    pub(crate) fn stands_for(&self, lower: &InodeRef) -> bool {
        if lower.file_type() != self.kind {
            return false;
        }
        if self.upper().is_none() || self.kind == FileType::Dir {
            return true;
        }
        let entered = matches!(*self.home.lock(), Home::Entered);
        !entered || lower.attr().is_ok_and(|a| a.nlink > 1)
    }
    fn set_home(&self, home: Home) {
        let old = core::mem::replace(&mut *self.home.lock(), home);
        drop(old);
    }
    /// Enters the inode, and the directories above, in the changes of their homes: it has changed.
    pub(crate) fn pin(&self) {
        let Ok(mut node) = self.this() else { return };
        loop {
            let (dir, name) = match &*node.home.lock() {
                Home::Entered => return,
                Home::Found(d, n) => (d.clone(), n.clone()),
            };
            let entered = match &dir.dir {
                Some(c) => c.put_if_unchanged(&name, &node),
                None => false,
            };
            node.set_home(Home::Entered);
            // The name has changed meanwhile and is no longer this inode's; it may have others.
            if !entered {
                node.keep_links();
            }
            node = dir;
        }
    }
    /// One more name. [`Errno::ENOENT`] if the last one is gone.
    pub(crate) fn add_link(&self) -> Result {
        match (&self.lower, self.upper()) {
            (None, Some(u)) => u.add_link(),
            (Some(l), _) => {
                if self.nlink(l.attr()?.nlink) == 0 {
                    return Err(Errno::ENOENT);
                }
                self.links.fetch_add(1, Ordering::Relaxed);
                self.keep_links();
                Ok(())
            }
            (None, None) => Err(Errno::EIO),
        }
    }
    /// One name less.
    pub(crate) fn drop_link(&self) {
        match (&self.lower, self.upper()) {
            (None, Some(u)) => u.drop_link(),
            _ => {
                self.links.fetch_sub(1, Ordering::Relaxed);
                if let Some(u) = self.upper() {
                    u.touch_ctime();
                }
                self.keep_links();
            }
        }
    }
    /// A changed inode with lower names that have not been looked at is held by
    /// nothing else: the index keeps it while it has names.
    fn keep_links(&self) {
        let Some(lower) = self.lower.as_ref().filter(|_| self.dir.is_none()) else {
            return;
        };
        let changed = self.upper().is_some() || self.links.load(Ordering::Relaxed) != 0;
        let named = lower.attr().is_ok_and(|a| self.nlink(a.nlink) > 0);
        if let Ok(this) = self.this() {
            self.core.keep(this, self.indexed && changed && named);
        }
    }
    fn nlink(&self, below: u32) -> u32 {
        let names = i64::from(below).saturating_add(self.links.load(Ordering::Relaxed));
        let n = match &self.dir {
            None => names,
            // Removed.
            Some(_) if self.links.load(Ordering::Relaxed) < 0 || below == 0 => 0,
            // A file system that does not count subdirectories.
            Some(_) if self.lower.is_some() && below < 2 => 1,
            Some(c) => i64::from(below).saturating_add(c.subdirs()).max(2),
        };
        u32::try_from(n).unwrap_or(0)
    }
    fn detach(&mut self) -> Vec<Arc<OvlInode>> {
        let mut out = match &mut self.dir {
            Some(c) => c.take_all(),
            None => Vec::new(),
        };
        if let Home::Found(d, _) = core::mem::replace(self.home.get_mut(), Home::Entered) {
            out.push(d);
        }
        out
    }
}

impl Drop for OvlInode {
    /// Lets go of the directories above and the inodes below without recursion: trees may be very deep.
    fn drop(&mut self) {
        if self.indexed {
            self.core.forget(self.lower_ino());
        }
        let mut work = self.detach();
        while let Some(other) = work.pop() {
            if let Some(mut inode) = Arc::into_inner(other) {
                work.append(&mut inode.detach());
            }
        }
    }
}

impl FileData for OvlInode {
    fn read_cache(&self) -> Result<Arc<PageCache>> {
        if self.has_data() {
            return self.upper().ok_or(Errno::EIO)?.read_cache();
        }
        let lower = self.lower().ok_or(Errno::EIO)?;
        lower.page_cache().ok_or(Errno::EINVAL)
    }
    fn write_cache(&self) -> Result<Arc<PageCache>> {
        self.copy_up_data(u64::MAX)?.write_cache()
    }
    fn reserve(&self, pos: u64, len: usize) -> Result<usize> {
        self.upper().ok_or(Errno::EIO)?.reserve(pos, len)
    }
    fn written(&self, now: TimeNs) {
        if let Some(u) = self.upper() {
            u.written(now);
        }
    }
    fn mapped_for_write(&self, cache: &Arc<PageCache>) {
        if let Some(u) = self.upper() {
            u.mapped_for_write(cache);
        }
    }
    fn sync(&self, _data_only: bool) -> Result {
        Ok(())
    }
    fn holes(&self) -> bool {
        true
    }
}

fn own(inode: &InodeRef) -> Result<&OvlInode> {
    inode.as_any().downcast_ref().ok_or(Errno::EXDEV)
}

impl Inode for OvlInode {
    fn super_block(&self) -> Arc<dyn SuperBlock> {
        match self.core.fs() {
            Some(fs) => fs,
            // Unmounted, and kept by an open file alone.
            None => self.core.upper.clone(),
        }
    }
    fn attr(&self) -> Result<Attr> {
        let mut a = match (self.upper(), &self.lower) {
            (Some(u), None) => {
                let a = u.attr()?;
                Attr {
                    nlink: self.nlink(a.nlink),
                    ..a
                }
            }
            (Some(u), Some(l)) => {
                let below = l.attr()?;
                let mut a = u.attr()?;
                if !self.has_data() && self.kind != FileType::Symlink {
                    a.size = below.size;
                    a.blocks = below.blocks;
                }
                a.nlink = self.nlink(below.nlink);
                a.btime = below.btime;
                a
            }
            (None, Some(l)) => {
                let a = l.attr()?;
                Attr {
                    nlink: self.nlink(a.nlink),
                    ..a
                }
            }
            (None, None) => return Err(Errno::EIO),
        };
        a.dev = self.core.dev;
        a.ino = self.ino;
        Ok(a)
    }
    fn perm(&self) -> Result<Perm> {
        match (self.upper(), &self.lower) {
            (Some(u), _) => u.perm(),
            (None, Some(l)) => l.perm(),
            (None, None) => Err(Errno::EIO),
        }
    }
    fn state(&self) -> Option<&InodeState> {
        Some(&self.state)
    }
    fn accessed(&self, cx: &dyn Caller, relative: bool) {
        // Nothing is copied up for the time of a read.
        if let Some(u) = self.upper() {
            u.accessed(cx, relative);
        }
    }
    fn file_type(&self) -> FileType {
        self.kind
    }
    fn ino(&self) -> u64 {
        self.ino
    }
    fn set_attr(&self, set: &SetAttr) -> Result {
        if let Some(size) = set.size {
            if self.kind != FileType::Regular {
                return Err(Errno::EINVAL);
            }
            self.copy_up_data(size)?.set_attr(set)
        } else {
            self.copy_up()?.set_attr(set)
        }
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn lookup(&self, name: &[u8]) -> Result<InodeRef> {
        Ok(self.find(name)?)
    }
    fn revalidate(&self, name: &[u8], child: Option<&InodeRef>) -> bool {
        let Some(changes) = &self.dir else {
            return false;
        };
        match (changes.get(name), child) {
            (Known::Gone, c) => c.is_none(),
            (Known::Here(_), None) => false,
            (Known::Here(i), Some(c)) => core::ptr::addr_eq(Arc::as_ptr(&i), Arc::as_ptr(c)),
            (Known::Lower, c) => {
                let Some(lower) = &self.lower else {
                    return c.is_none();
                };
                match c {
                    None => lower.revalidate(name, None),
                    Some(c) => match own(c).ok().and_then(|i| i.lower()) {
                        Some(l) => lower.revalidate(name, Some(l)),
                        None => false,
                    },
                }
            }
        }
    }
    fn names_generation(&self) -> u64 {
        self.lower.as_ref().map_or(0, |l| l.names_generation())
    }
    fn create(&self, name: &[u8], node: NewNode<'_>, mode: u32, cred: &Cred) -> Result<InodeRef> {
        let is_dir = matches!(node, NewNode::Dir);
        let (uid, gid, mode) = new_owner(self.perm()?, cred, mode, is_dir);
        Ok(self.create_node(name, &node, mode, uid, gid)?)
    }
    fn create_unnamed(&self, mode: u32, cred: &Cred) -> Result<InodeRef> {
        let (uid, gid, mode) = new_owner(self.perm()?, cred, mode, false);
        let upper = self
            .core
            .upper
            .new_node(&NewNode::Regular, mode, uid, gid)?;
        upper.set_unnamed();
        Ok(OvlInode::of_upper(&self.core, upper))
    }
    fn link(&self, name: &[u8], target: &InodeRef) -> Result {
        self.link_node(name, &own(target)?.this()?)
    }
    fn unlink(&self, name: &[u8]) -> Result {
        self.remove_name(name, false)
    }
    fn rmdir(&self, name: &[u8]) -> Result {
        self.remove_name(name, true)
    }
    fn rename(&self, old: &[u8], dir: &InodeRef, new: &[u8], flags: u32) -> Result {
        self.rename_name(old, own(dir)?, new, flags)
    }
    fn read_link(&self) -> Result<Vec<u8>> {
        match (self.upper(), &self.lower) {
            (Some(u), _) => u.read_link(),
            (None, Some(l)) => l.read_link(),
            (None, None) => Err(Errno::EIO),
        }
    }
    fn open(
        &self,
        _this: &InodeRef,
        flags: OpenFlags,
        cx: &dyn Caller,
    ) -> Result<Arc<dyn FileOps>> {
        let this = self.this()?;
        match self.kind {
            FileType::Regular => {
                if let (None, Some(u)) = (&self.lower, self.upper()) {
                    if flags.contains(OpenFlags::EXCL) {
                        u.set_unlinkable();
                    }
                } else if !self.has_data()
                    && !flags.contains(OpenFlags::TRUNC)
                    && let Some(l) = &self.lower
                {
                    // What cannot be read below cannot be opened, for writing either.
                    l.open(l, OpenFlags::empty(), cx)?;
                }
                Ok(Arc::new(RegularFile(this)))
            }
            FileType::Dir => Ok(Arc::new(DirFile::new(this)?)),
            FileType::Symlink => Err(Errno::ELOOP),
            _ => Err(Errno::ENXIO),
        }
    }
    fn page_cache(&self) -> Option<Arc<PageCache>> {
        self.read_cache().ok()
    }
    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        match (self.upper(), &self.lower) {
            (Some(u), _) => u.get_xattr(name),
            (None, Some(l)) => l.get_xattr(name),
            (None, None) => Err(Errno::EIO),
        }
    }
    fn set_xattr(&self, name: &[u8], value: &[u8], flags: u32) -> Result {
        self.copy_up()?.set_xattr(name, value, flags)
    }
    fn list_xattr(&self) -> Result<Vec<Vec<u8>>> {
        match (self.upper(), &self.lower) {
            (Some(u), _) => u.list_xattr(),
            (None, Some(l)) => l.list_xattr(),
            (None, None) => Err(Errno::EIO),
        }
    }
    fn remove_xattr(&self, name: &[u8]) -> Result {
        self.get_xattr(name)?;
        self.copy_up()?.remove_xattr(name)
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
