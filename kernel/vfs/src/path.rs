//! Places in the tree: [`Dentry`], [`Path`], and what a process sees of it: [`FsContext`].

use crate::inode::{FileType, InodeRef};
use crate::mount::Mount;
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use sync::{RwLock, SpinLock, level};

const INLINE: usize = 30;

/// A file name; short ones are held inline.
#[derive(Clone)]
pub(crate) enum Name {
    Short(u8, [u8; INLINE]),
    Long(Box<[u8]>),
}

impl Name {
    pub fn new(s: &[u8]) -> Name {
        if s.len() <= INLINE {
            let mut b = [0; INLINE];
            b[..s.len()].copy_from_slice(s);
            Name::Short(s.len() as u8, b)
        } else {
            Name::Long(s.into())
        }
    }
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Name::Short(n, b) => &b[..usize::from(*n).min(INLINE)],
            Name::Long(b) => b,
        }
    }
}

const REFERENCED: u32 = 1;
const DELETED: u32 = 2;

struct Place {
    parent: Option<Arc<Dentry>>,
    name: Name,
}

/// A name in a directory and the inode it leads to; negative if there is none.
///
/// The inode never changes: creating a file replaces the negative dentry, and a
/// removed file's dentry stays as it is but leaves the cache. Name and parent change by rename.
pub struct Dentry {
    inode: Option<InodeRef>,
    /// Directories: held for reading by lookups in the file system, for writing by changes of its names.
    dir: Option<Box<RwLock<()>>>,
    place: SpinLock<Place, { level::DENTRY + 1 }>,
    hash: AtomicU64,
    instance: u32,
    /// Negative: the directory's [`crate::Inode::names_generation`] when the name was looked for.
    generation: u64,
    flags: AtomicU32,
    /// Number of mounts on it.
    mounts: AtomicU32,
}

impl Dentry {
    fn make(
        inode: Option<InodeRef>,
        parent: Option<Arc<Dentry>>,
        name: Name,
        instance: u32,
        generation: u64,
    ) -> Arc<Dentry> {
        let dir = match &inode {
            Some(i) if i.file_type() == FileType::Dir => Some(Box::new(RwLock::new(()))),
            _ => None,
        };
        Arc::new(Dentry {
            inode,
            dir,
            place: SpinLock::new(Place { parent, name }),
            hash: AtomicU64::new(0),
            instance,
            generation,
            flags: AtomicU32::new(REFERENCED),
            mounts: AtomicU32::new(0),
        })
    }
    /// Root of a file system.
    pub(crate) fn new_root(inode: InodeRef, instance: u32) -> Arc<Dentry> {
        Dentry::make(Some(inode), None, Name::new(b""), instance, 0)
    }
    /// An entry of `parent`, not in the cache yet.
    pub(crate) fn new(parent: &Arc<Dentry>, name: &[u8], inode: Option<InodeRef>) -> Arc<Dentry> {
        Dentry::make(
            inode,
            Some(parent.clone()),
            Name::new(name),
            parent.instance,
            0,
        )
    }
    /// The absence of a name.
    pub(crate) fn new_negative(parent: &Arc<Dentry>, name: &[u8], generation: u64) -> Arc<Dentry> {
        Dentry::make(
            None,
            Some(parent.clone()),
            Name::new(name),
            parent.instance,
            generation,
        )
    }
    /// A file without a place, under a name for /proc.
    pub(crate) fn new_anon(inode: InodeRef, name: &[u8], instance: u32) -> Arc<Dentry> {
        Dentry::make(Some(inode), None, Name::new(name), instance, 0)
    }
    /// The inode; `None` for a negative dentry.
    pub fn inode(&self) -> Option<InodeRef> {
        self.inode.clone()
    }
    /// As [`Dentry::inode`], borrowed.
    pub fn inode_ref(&self) -> Option<&InodeRef> {
        self.inode.as_ref()
    }
    /// Name in the parent; empty for a root.
    pub fn name(&self) -> Vec<u8> {
        let name = self.place.lock().name.clone();
        name.as_bytes().to_vec()
    }
    /// The directory it is in; `None` for the root of a file system.
    pub fn parent(&self) -> Option<Arc<Dentry>> {
        self.place.lock().parent.clone()
    }
    pub(crate) fn place(&self) -> Option<(Arc<Dentry>, Name)> {
        let p = self.place.lock();
        Some((p.parent.clone()?, p.name.clone()))
    }
    /// Moves it; the caller holds the rename lock and has taken it out of the cache.
    pub(crate) fn set_place(&self, parent: Arc<Dentry>, name: Name) {
        let new = Place {
            parent: Some(parent),
            name,
        };
        let old = core::mem::replace(&mut *self.place.lock(), new);
        drop(old);
    }
    /// Whether it has been unlinked.
    pub fn is_deleted(&self) -> bool {
        self.flags.load(Ordering::Acquire) & DELETED != 0
    }
    pub(crate) fn set_deleted(&self) {
        self.flags.fetch_or(DELETED, Ordering::Release);
    }
    pub(crate) fn set_referenced(&self) {
        if self.flags.load(Ordering::Relaxed) & REFERENCED == 0 {
            self.flags.fetch_or(REFERENCED, Ordering::Relaxed);
        }
    }
    pub(crate) fn take_referenced(&self) -> bool {
        let set = self.flags.load(Ordering::Relaxed) & REFERENCED != 0;
        if set {
            self.flags.fetch_and(!REFERENCED, Ordering::Relaxed);
        }
        set
    }
    /// Whether something is mounted on it, in some namespace.
    pub fn is_mounted(&self) -> bool {
        self.mounts.load(Ordering::Relaxed) != 0
    }
    pub(crate) fn count_mount(&self, on: bool) {
        if on {
            self.mounts.fetch_add(1, Ordering::Relaxed);
        } else {
            self.mounts.fetch_sub(1, Ordering::Relaxed);
        }
    }
    /// The directory's lock. [`Errno::ENOTDIR`].
    pub(crate) fn dir_lock(&self) -> Result<&RwLock<()>> {
        self.dir.as_deref().ok_or(Errno::ENOTDIR)
    }
    pub(crate) fn is_dir(&self) -> bool {
        self.dir.is_some()
    }
    pub(crate) fn addr(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }
    pub(crate) fn hash(&self) -> u64 {
        self.hash.load(Ordering::Relaxed)
    }
    pub(crate) fn set_hash(&self, h: u64) {
        self.hash.store(h, Ordering::Relaxed);
    }
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }
    pub(crate) fn instance(&self) -> u32 {
        self.instance
    }
    /// Whether `self` is `other` or lies below it. The caller holds the rename lock, or takes the answer as a hint.
    pub(crate) fn is_within(self: &Arc<Dentry>, other: &Arc<Dentry>) -> bool {
        let mut d = self.clone();
        loop {
            if Arc::ptr_eq(&d, other) {
                return true;
            }
            match d.parent() {
                Some(p) => d = p,
                None => return false,
            }
        }
    }
}

impl Drop for Dentry {
    /// Tells of the end of an unlinked file: nobody has it open, mapped, or as a directory to be in.
    /// Drops a chain of parents without recursion: paths may be very deep.
    fn drop(&mut self) {
        if *self.flags.get_mut() & DELETED != 0
            && let Some(inode) = &self.inode
        {
            crate::notify::name_ended(inode);
        }
        let mut next = self.place.get_mut().parent.take();
        while let Some(p) = next {
            next = match Arc::into_inner(p) {
                Some(mut d) => d.place.get_mut().parent.take(),
                None => None,
            };
        }
    }
}

/// A dentry on a mount.
#[derive(Clone)]
pub struct Path {
    /// Mount.
    pub mnt: Arc<Mount>,
    /// Place in its file system.
    pub dentry: Arc<Dentry>,
}

impl Path {
    /// The inode. [`Errno::ENOENT`].
    pub fn inode(&self) -> Result<&InodeRef> {
        self.dentry.inode_ref().ok_or(Errno::ENOENT)
    }
    /// A place for a file that has none in the tree (pipe, socket), so that /proc/PID/fd can lead to it. `any`: some path of the machine.
    pub fn anonymous(any: &Path, inode: InodeRef, name: &[u8]) -> Path {
        let mnt = any.mnt.shared().anon_mount();
        let dentry = Dentry::new_anon(inode, name, mnt.instance_id());
        Path { mnt, dentry }
    }
}

impl PartialEq for Path {
    fn eq(&self, o: &Path) -> bool {
        Arc::ptr_eq(&self.dentry, &o.dentry) && Arc::ptr_eq(&self.mnt, &o.mnt)
    }
}

/// Root, working directory and umask: shared by threads, copied by fork (CLONE_FS).
pub struct FsContext {
    inner: SpinLock<FsInner, { level::DENTRY }>,
}

#[derive(Clone)]
struct FsInner {
    root: Path,
    cwd: Path,
    umask: u32,
}

impl FsContext {
    /// With the given root and working directory, umask 022.
    pub fn new(root: Path, cwd: Path) -> Arc<FsContext> {
        Arc::new(FsContext {
            inner: SpinLock::new(FsInner {
                root,
                cwd,
                umask: 0o022,
            }),
        })
    }
    /// A copy (fork without CLONE_FS).
    pub fn duplicate(&self) -> Arc<FsContext> {
        let inner = self.inner.lock().clone();
        Arc::new(FsContext {
            inner: SpinLock::new(inner),
        })
    }
    /// Root directory.
    pub fn root(&self) -> Path {
        self.inner.lock().root.clone()
    }
    /// Working directory.
    pub fn cwd(&self) -> Path {
        self.inner.lock().cwd.clone()
    }
    /// Sets the root (chroot).
    pub fn set_root(&self, p: Path) {
        let old = core::mem::replace(&mut self.inner.lock().root, p);
        drop(old);
    }
    /// Sets the working directory.
    pub fn set_cwd(&self, p: Path) {
        let old = core::mem::replace(&mut self.inner.lock().cwd, p);
        drop(old);
    }
    /// pivot_root(2): root and working directory that were `old` become `new`.
    pub fn replace(&self, old: &Path, new: &Path) {
        if self.root() == *old {
            self.set_root(new.clone());
        }
        if self.cwd() == *old {
            self.set_cwd(new.clone());
        }
    }
    /// File mode creation mask.
    pub fn umask(&self) -> u32 {
        self.inner.lock().umask
    }
    /// Sets it; returns the old one.
    pub fn set_umask(&self, m: u32) -> u32 {
        core::mem::replace(&mut self.inner.lock().umask, m & 0o777)
    }
}
