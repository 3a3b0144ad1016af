//! Mounts and the table of file-system types.
//!
//! A [`MountNs`] holds a tree of [`Mount`]s: a table from (mount, dentry) to
//! the mount on top. A mount knows the place it is mounted on. Changes of the
//! tree are serialised by a sleeping lock; path walks only look at the table.

use crate::file::Caller;
use crate::inode::SuperBlock;
use crate::path::{Dentry, Path};
use crate::shared::Shared;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::BuildHasherDefault;
use core::sync::atomic::{AtomicU64, Ordering};
use hashbrown::HashMap;
use sync::{Mutex, SpinLock, level};

bitflags::bitflags! {
    /// Flags of mount(2) that belong to a mount (MS_* values).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct MountFlags: u64 {
        /// `MS_RDONLY`
        const RDONLY = 1;
        /// `MS_NOSUID`
        const NOSUID = 2;
        /// `MS_NODEV`
        const NODEV = 4;
        /// `MS_NOEXEC`
        const NOEXEC = 8;
        /// `MS_NOATIME`
        const NOATIME = 1024;
        /// `MS_NODIRATIME`
        const NODIRATIME = 2048;
        /// `MS_RELATIME`
        const RELATIME = 1 << 21;
        /// `MS_STRICTATIME`; without it and `NOATIME`, `RELATIME` is the default.
        const STRICTATIME = 1 << 24;
    }
}

/// Most mounts of a namespace; more: [`Errno::ENOSPC`].
const MOUNTS_MAX: usize = 100_000;

/// A file system in use: one, however often it is mounted.
pub(crate) struct FsInstance {
    pub sb: Arc<dyn SuperBlock>,
    pub root: Arc<Dentry>,
    pub shared: Arc<Shared>,
    pub volatile: bool,
    id: u32,
    /// [`MountFlags::RDONLY`] for the file system as a whole.
    flags: AtomicU64,
}

impl FsInstance {
    pub fn new(shared: Arc<Shared>, sb: Arc<dyn SuperBlock>) -> Arc<FsInstance> {
        let id = shared.next_id() as u32;
        Arc::new(FsInstance {
            root: Dentry::new_root(sb.root(), id),
            volatile: sb.volatile(),
            sb,
            shared,
            id,
            flags: AtomicU64::new(0),
        })
    }
}

impl Drop for FsInstance {
    fn drop(&mut self) {
        self.shared.dcache.remove_instance(self.id);
    }
}

/// A file system at a place in the tree.
pub struct Mount {
    /// File system.
    pub sb: Arc<dyn SuperBlock>,
    pub(crate) inst: Arc<FsInstance>,
    root: Arc<Dentry>,
    id: u64,
    source: Vec<u8>,
    flags: AtomicU64,
    /// What it is mounted on; `None`: the root of a tree, or detached.
    place: SpinLock<Option<Path>, { level::DENTRY + 1 }>,
}

impl Mount {
    /// `root`: for a bind mount, the directory that it shows.
    pub(crate) fn new(
        inst: Arc<FsInstance>,
        root: Option<Arc<Dentry>>,
        source: &[u8],
        flags: MountFlags,
    ) -> Arc<Mount> {
        Arc::new(Mount {
            sb: inst.sb.clone(),
            root: root.unwrap_or_else(|| inst.root.clone()),
            id: inst.shared.next_id(),
            inst,
            source: source.to_vec(),
            flags: AtomicU64::new(with_default_atime(flags).bits()),
            place: SpinLock::new(None),
        })
    }
    /// Flags now.
    pub fn flags(&self) -> MountFlags {
        MountFlags::from_bits_truncate(
            self.flags.load(Ordering::Relaxed) | self.inst.flags.load(Ordering::Relaxed),
        )
    }
    /// [`Errno::EROFS`] if nothing may be written here.
    pub(crate) fn check_writable(&self) -> Result {
        if self.flags().contains(MountFlags::RDONLY) {
            return Err(Errno::EROFS);
        }
        Ok(())
    }
    /// Number as in /proc/PID/mountinfo.
    pub fn id(&self) -> u64 {
        self.id
    }
    /// The root of the mount as a path.
    pub fn root(self: &Arc<Self>) -> Path {
        Path {
            mnt: self.clone(),
            dentry: self.root.clone(),
        }
    }
    pub(crate) fn root_dentry(&self) -> &Arc<Dentry> {
        &self.root
    }
    /// What it is mounted on.
    pub fn place(&self) -> Option<Path> {
        self.place.lock().clone()
    }
    fn set_place(&self, p: Option<Path>) {
        let old = core::mem::replace(&mut *self.place.lock(), p);
        drop(old);
    }
    /// The VFS's state of the machine.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.inst.shared
    }
    pub(crate) fn instance_id(&self) -> u32 {
        self.inst.id
    }
    /// Path of the mount's root within its file system.
    fn root_name(&self) -> Vec<u8> {
        let mut parts = Vec::new();
        let mut d = self.root.clone();
        while let Some(p) = d.parent() {
            parts.push(d.name());
            d = p;
        }
        if parts.is_empty() {
            return b"/".to_vec();
        }
        let mut out = Vec::new();
        for p in parts.iter().rev() {
            out.push(b'/');
            out.extend_from_slice(p);
        }
        out
    }
}

fn with_default_atime(flags: MountFlags) -> MountFlags {
    if flags.intersects(MountFlags::NOATIME | MountFlags::STRICTATIME) {
        flags.difference(MountFlags::RELATIME)
    } else {
        flags | MountFlags::RELATIME
    }
}

/// Hashes (mount number, dentry address).
#[derive(Default)]
pub(crate) struct PlaceHasher(u64);

impl core::hash::Hasher for PlaceHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.write_u64(u64::from(b));
        }
    }
    fn write_u64(&mut self, v: u64) {
        self.0 = (self.0 ^ v)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29);
    }
    fn write_usize(&mut self, v: usize) {
        self.write_u64(v as u64);
    }
}

/// A hash map without a random seed (seeds live in statics, which a kernel must not have).
pub(crate) type FixedMap<K, V> = HashMap<K, V, BuildHasherDefault<PlaceHasher>>;

struct Tree {
    root: Arc<Mount>,
    on: FixedMap<(u64, usize), Arc<Mount>>,
}

/// All mounts that a process sees.
pub struct MountNs {
    shared: Arc<Shared>,
    tree: SpinLock<Tree, { level::DENTRY }>,
    /// Serialises changes of the tree.
    change: Mutex<()>,
}

/// One line of /proc/PID/mounts and mountinfo.
#[expect(missing_docs)]
pub struct MountInfo {
    pub id: u64,
    pub parent_id: u64,
    pub dev: u64,
    /// Path of the mount's root within its file system.
    pub root: Vec<u8>,
    /// Mount point as seen from the given root.
    pub target: Vec<u8>,
    pub flags: MountFlags,
    pub fs_type: &'static str,
    pub source: Vec<u8>,
    pub options: Vec<u8>,
}

impl MountNs {
    /// A namespace whose root is `sb`.
    pub fn new(sb: Arc<dyn SuperBlock>, source: &[u8], flags: MountFlags) -> Arc<MountNs> {
        let shared = Shared::new();
        let root = Mount::new(shared.instance(&sb), None, source, flags);
        Arc::new(MountNs {
            shared,
            tree: SpinLock::new(Tree {
                root,
                on: FixedMap::default(),
            }),
            change: Mutex::new(()),
        })
    }
    /// The VFS's state of the machine.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
    /// Root of the tree.
    pub fn root(&self) -> Path {
        let root = self.tree.lock().root.clone();
        self.top(root.root())
    }
    /// The mount on a dentry.
    pub(crate) fn mounted_on(&self, mnt: &Arc<Mount>, dentry: &Arc<Dentry>) -> Option<Arc<Mount>> {
        let tree = self.tree.lock();
        tree.on.get(&(mnt.id, dentry.addr())).cloned()
    }
    /// Follows mounts on a place to the root of the topmost one.
    pub(crate) fn top(&self, mut p: Path) -> Path {
        self.follow(&mut p);
        p
    }
    /// As [`MountNs::top`], in place.
    pub(crate) fn follow(&self, p: &mut Path) {
        while p.dentry.is_mounted() {
            let Some(m) = self.mounted_on(&p.mnt, &p.dentry) else {
                break;
            };
            p.dentry = m.root_dentry().clone();
            p.mnt = m;
        }
    }
    /// Puts `mnt` on `at`. The caller holds `change`.
    fn attach(&self, mnt: &Arc<Mount>, at: &Path) -> Result {
        let mut tree = self.tree.lock();
        if tree.on.len() >= MOUNTS_MAX {
            return Err(Errno::ENOSPC);
        }
        at.dentry.count_mount(true);
        let old = tree.on.insert((at.mnt.id, at.dentry.addr()), mnt.clone());
        drop(tree);
        debug_assert!(old.is_none());
        mnt.set_place(Some(at.clone()));
        Ok(())
    }
    /// Takes `mnt` off its place. The caller holds `change`.
    fn detach(&self, mnt: &Arc<Mount>) {
        if let Some(p) = mnt.place() {
            let gone = self.tree.lock().on.remove(&(p.mnt.id, p.dentry.addr()));
            if gone.is_some() {
                p.dentry.count_mount(false);
            }
            mnt.set_place(None);
        }
    }
    /// All mounts, oldest first, the root included.
    fn all(&self) -> Vec<Arc<Mount>> {
        let mut all: Vec<Arc<Mount>> = {
            let tree = self.tree.lock();
            let mut v = Vec::with_capacity(tree.on.len() + 1);
            v.push(tree.root.clone());
            v.extend(tree.on.values().cloned());
            v
        };
        all.sort_by_key(|m| m.id);
        all
    }
    /// Whether `mnt` belongs to this tree.
    fn is_here(&self, mnt: &Arc<Mount>) -> bool {
        let root = self.tree.lock().root.clone();
        let mut m = mnt.clone();
        loop {
            if Arc::ptr_eq(&m, &root) {
                return true;
            }
            match m.place() {
                Some(p) => m = p.mnt,
                None => return false,
            }
        }
    }
    /// Whether something may be mounted at `at`; `dir`: whether it is a directory.
    fn check_place(&self, at: &Path, dir: bool) -> Result {
        if at.dentry.inode_ref().is_none() || at.dentry.is_deleted() {
            return Err(Errno::ENOENT);
        }
        if at.dentry.is_dir() != dir {
            return Err(Errno::ENOTDIR);
        }
        if !self.is_here(&at.mnt) {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }
    /// Mounts `sb` on directory (or file, for binds) `at`.
    pub fn mount(
        &self,
        at: &Path,
        sb: Arc<dyn SuperBlock>,
        source: &[u8],
        flags: MountFlags,
    ) -> Result<Arc<Mount>> {
        let _c = self.change.lock();
        let at = self.top(at.clone());
        let mnt = Mount::new(self.shared.instance(&sb), None, source, flags);
        self.check_place(&at, mnt.root.is_dir())?;
        // mount(2): EBUSY if the same file system is already there.
        if Arc::ptr_eq(&at.mnt.inst, &mnt.inst) && Arc::ptr_eq(&at.dentry, &mnt.root) {
            return Err(Errno::EBUSY);
        }
        self.attach(&mnt, &at)?;
        Ok(mnt)
    }
    /// MS_BIND (`recursive`: MS_REC).
    pub fn bind(&self, from: &Path, at: &Path, recursive: bool) -> Result<Arc<Mount>> {
        let _c = self.change.lock();
        if !self.is_here(&from.mnt) {
            return Err(Errno::EINVAL);
        }
        let at = self.top(at.clone());
        let mnt = copy(from);
        self.check_place(&at, mnt.root.is_dir())?;
        // Copies of what is mounted below, parents before children.
        let mut below: Vec<(Arc<Mount>, Arc<Mount>)> = Vec::new();
        if recursive {
            below.push((from.mnt.clone(), mnt.clone()));
            for m in self.all() {
                let Some(p) = m.place() else { continue };
                if Arc::ptr_eq(&p.mnt, &from.mnt) && !p.dentry.is_within(&from.dentry) {
                    continue;
                }
                let Some((_, parent)) = below.iter().find(|(old, _)| Arc::ptr_eq(old, &p.mnt))
                else {
                    continue;
                };
                let new = copy(&m.root());
                new.set_place(Some(Path {
                    mnt: parent.clone(),
                    dentry: p.dentry,
                }));
                below.push((m, new));
            }
        }
        self.attach(&mnt, &at)?;
        for (_, new) in below.iter().skip(1) {
            if let Some(p) = new.place() {
                self.attach(new, &p)?;
            }
        }
        Ok(mnt)
    }
    /// MS_MOVE.
    pub fn move_mount(&self, from: &Path, to: &Path) -> Result {
        let _c = self.change.lock();
        let mnt = &from.mnt;
        if !Arc::ptr_eq(&from.dentry, &mnt.root) || mnt.place().is_none() || !self.is_here(mnt) {
            return Err(Errno::EINVAL);
        }
        let to = self.top(to.clone());
        self.check_place(&to, mnt.root.is_dir())?;
        let mut m = to.mnt.clone();
        loop {
            if Arc::ptr_eq(&m, mnt) {
                return Err(Errno::ELOOP);
            }
            match m.place() {
                Some(p) => m = p.mnt,
                None => break,
            }
        }
        self.detach(mnt);
        self.attach(mnt, &to)
    }
    /// MS_REMOUNT: options of the file system, flags of the mount, RDONLY of both.
    pub fn remount(&self, at: &Path, flags: MountFlags, data: &[u8]) -> Result {
        let _c = self.change.lock();
        if !Arc::ptr_eq(&at.dentry, &at.mnt.root) || !self.is_here(&at.mnt) {
            return Err(Errno::EINVAL);
        }
        at.mnt.sb.remount(data)?;
        if flags.contains(MountFlags::RDONLY) {
            at.mnt.sb.sync()?;
        }
        at.mnt
            .flags
            .store(with_default_atime(flags).bits(), Ordering::Relaxed);
        let ro = flags & MountFlags::RDONLY;
        at.mnt.inst.flags.store(ro.bits(), Ordering::Relaxed);
        Ok(())
    }
    /// MS_REMOUNT | MS_BIND: only the mount's flags.
    pub fn remount_bind(&self, at: &Path, flags: MountFlags) -> Result {
        let _c = self.change.lock();
        if !Arc::ptr_eq(&at.dentry, &at.mnt.root) || !self.is_here(&at.mnt) {
            return Err(Errno::EINVAL);
        }
        at.mnt
            .flags
            .store(with_default_atime(flags).bits(), Ordering::Relaxed);
        Ok(())
    }
    /// umount2(2): `detach` = MNT_DETACH. [`Errno::EBUSY`], [`Errno::EINVAL`].
    /// `at` must be the caller's only reference to the mount.
    pub fn unmount(&self, at: &Path, detach: bool) -> Result {
        let _c = self.change.lock();
        let mnt = &at.mnt;
        if !Arc::ptr_eq(&at.dentry, &mnt.root) || !self.is_here(mnt) {
            return Err(Errno::EINVAL);
        }
        if mnt.place().is_none() {
            return Err(Errno::EBUSY);
        }
        if !detach {
            // The table's and the caller's; mounts and open files on it hold more.
            if Arc::strong_count(mnt) > 2 {
                return Err(Errno::EBUSY);
            }
            mnt.sb.sync()?;
            self.detach(mnt);
            return Ok(());
        }
        // Children before parents, so that nothing is left in the table.
        for m in self.all().iter().rev() {
            let mut up = m.clone();
            loop {
                if Arc::ptr_eq(&up, mnt) {
                    self.detach(m);
                    break;
                }
                match up.place() {
                    Some(p) => up = p.mnt,
                    None => break,
                }
            }
        }
        Ok(())
    }
    /// pivot_root(2). The caller then moves roots and working directories
    /// that were the old root ([`crate::FsContext::replace`]).
    pub fn pivot_root(&self, new_root: &Path, put_old: &Path) -> Result {
        let _c = self.change.lock();
        let old = self.tree.lock().root.clone();
        let new = &new_root.mnt;
        if !new_root.dentry.is_dir() || !put_old.dentry.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        if Arc::ptr_eq(new, &old) || Arc::ptr_eq(&put_old.mnt, &old) {
            return Err(Errno::EBUSY);
        }
        if !Arc::ptr_eq(&new_root.dentry, &new.root) || !self.is_here(new) {
            return Err(Errno::EINVAL);
        }
        // put_old must be at or below new_root.
        let mut p = put_old.clone();
        while !Arc::ptr_eq(&p.mnt, new) {
            p = p.mnt.place().ok_or(Errno::EINVAL)?;
        }
        self.detach(new);
        self.tree.lock().root = new.clone();
        self.attach(&old, put_old)
    }
    /// The mounts below `root`, in mount order.
    pub fn list(&self, root: &Path) -> Vec<MountInfo> {
        let mut out = Vec::new();
        for m in self.all() {
            let place = m.place();
            // Mounts outside the process's root are not shown.
            let (target, true) = crate::namei::name_below(&m.root(), root) else {
                continue;
            };
            out.push(MountInfo {
                id: m.id,
                parent_id: place.map_or(m.id, |p| p.mnt.id),
                dev: m.sb.dev(),
                root: m.root_name(),
                target,
                flags: m.flags(),
                fs_type: m.sb.fs_type(),
                source: m.source.clone(),
                options: m.sb.options(),
            });
        }
        out
    }
    /// sync(2) of all file systems.
    pub fn sync_all(&self) {
        let mut done: Vec<u32> = Vec::new();
        for m in self.all() {
            if !done.contains(&m.inst.id) {
                done.push(m.inst.id);
                // sync(2) reports nothing; fsync(2) does.
                let _ = m.sb.sync();
            }
        }
    }
}

/// A mount that shows what `p` shows.
fn copy(p: &Path) -> Arc<Mount> {
    Mount::new(
        p.mnt.inst.clone(),
        Some(p.dentry.clone()),
        &p.mnt.source,
        MountFlags::from_bits_truncate(p.mnt.flags.load(Ordering::Relaxed)),
    )
}

/// A row of the table of file-system types: for mount(2) and /proc/filesystems.
#[derive(Clone, Copy)]
pub struct FsType {
    /// Name.
    pub name: &'static str,
    /// Needs a block device.
    pub needs_dev: bool,
    /// Makes a file system from source and data of mount(2).
    pub mount: fn(cx: &dyn Caller, source: &[u8], data: &[u8]) -> Result<Arc<dyn SuperBlock>>,
}
