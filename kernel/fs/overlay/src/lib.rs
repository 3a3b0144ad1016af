//! overlay: a writable view of a read-only file system; changes go to a tmpfs.
//!
//! - [`OverlayFs`]: the super block over a lower file system and a [`TmpFs`].
//! - [`OvlInode`]: an inode of the view. It has a lower inode, an upper one, or both.
//! - `dir`: what differs from the lower directory: new names and removed ones.
//! - `copy`: copy-up, of attributes first and of contents at the first write.
//!
//! # How it works
//! The upper side is a store of nameless tmpfs inodes. The names are here: each
//! directory has a map of *changes* over its lower directory, in which a name
//! leads to an inode or is *gone*. Moving a lower file or directory enters its
//! inode under another name, so nothing is copied and everything below moves along.
//!
//! An inode made from a lower one keeps the lower number, and an index by lower
//! number finds it again: all hard links of a lower file stay one inode,
//! before and after it is copied up.
//!
//! While an inode is unchanged nothing holds it but its users; it can be made
//! again from the lower one. It then remembers its *home*, the directory and
//! name where it was found. When it changes, `OvlInode::pin` enters it, and all
//! directories above, in the changes of their homes.
//!
//! # Locks
//! `OvlInode::copying` (sleeping) serialises copy-up of one inode, inside the
//! VFS's locks; the copy-up of two inodes is never nested. Spin locks (level
//! `INODE`), one at a time: a directory's changes, an inode's home, the index.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

mod copy;
mod dir;
mod inode;

pub use inode::OvlInode;

use abi::Result;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::hash::{BuildHasherDefault, Hasher};
use core::sync::atomic::{AtomicU64, Ordering};
use hashbrown::HashMap;
use sync::{SpinLock, level};
use tmpfs::TmpFs;
use vfs::SuperBlock;
use vfs::inode::{InodeRef, StatFs};

/// `f_type` of statfs(2).
pub const MAGIC: u64 = 0x794c_7630;
/// Numbers of inodes without a lower one; lower ones are smaller.
const FIRST_OWN_INO: u64 = 1 << 44;

#[derive(Default)]
pub(crate) struct InoHasher(u64);

impl Hasher for InoHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.write_u64(u64::from(b));
        }
    }
    fn write_u64(&mut self, v: u64) {
        let p = u128::from(self.0 ^ v) * 0x9e37_79b9_7f4a_7c15;
        self.0 = p as u64 ^ (p >> 64) as u64;
    }
}

type Index = HashMap<u64, Weak<OvlInode>, BuildHasherDefault<InoHasher>>;

/// What all inodes share.
pub(crate) struct Core {
    pub upper: Arc<TmpFs>,
    pub dev: u64,
    index: SpinLock<Index, { level::INODE }>,
    /// Changed inodes with several lower names, by lower number.
    kept: SpinLock<BTreeMap<u64, Arc<OvlInode>>, { level::INODE }>,
    next_ino: AtomicU64,
    fs: Weak<OverlayFs>,
}

/// A writable view.
pub struct OverlayFs {
    core: Arc<Core>,
    lower: Arc<dyn SuperBlock>,
    root: Arc<OvlInode>,
}

impl OverlayFs {
    /// A view of `lower` with changes in `upper`, which should be used for nothing else; `dev` as in `st_dev`.
    pub fn new(lower: Arc<dyn SuperBlock>, upper: Arc<TmpFs>, dev: u64) -> Arc<OverlayFs> {
        Arc::new_cyclic(|this| {
            let core = Arc::new(Core {
                upper,
                dev,
                index: SpinLock::new(Index::default()),
                kept: SpinLock::new(BTreeMap::new()),
                next_ino: AtomicU64::new(FIRST_OWN_INO),
                fs: this.clone(),
            });
            let root = OvlInode::of_lower(&core, lower.root(), None);
            core.index
                .lock()
                .insert(root.lower_ino(), Arc::downgrade(&root));
            OverlayFs { core, lower, root }
        })
    }
}

impl Core {
    pub fn new_ino(&self) -> u64 {
        self.next_ino.fetch_add(1, Ordering::Relaxed)
    }
    pub fn fs(&self) -> Option<Arc<OverlayFs>> {
        self.fs.upgrade()
    }
    /// The inode of a lower one that was found as `name` in `dir`.
    pub fn wrap(
        self: &Arc<Self>,
        lower: InodeRef,
        dir: &Arc<OvlInode>,
        name: &[u8],
    ) -> Result<Arc<OvlInode>> {
        let number = lower.ino();
        let known = self.index.lock().get(&number).and_then(Weak::upgrade);
        if let Some(i) = known {
            if i.stands_for(&lower) {
                return Ok(i);
            }
            // The lower number means another file now: this one gets a number of our own.
            let i = OvlInode::of_foreign(self, lower, (dir.clone(), name.into()));
            return Ok(i);
        }
        let new = OvlInode::of_lower(self, lower, Some((dir.clone(), name.into())));
        let mut index = self.index.lock();
        // Two at once: the first stays.
        let first = match index.get(&number).and_then(Weak::upgrade) {
            Some(i) => i,
            None => {
                index.insert(number, Arc::downgrade(&new));
                new.clone()
            }
        };
        drop(index);
        Ok(first)
    }
    /// Holds an inode, or lets go of it.
    pub fn keep(&self, inode: Arc<OvlInode>, on: bool) {
        let ino = inode.lower_ino();
        let old = if on {
            self.kept.lock().insert(ino, inode)
        } else {
            self.kept.lock().remove(&ino)
        };
        drop(old);
    }
    /// An inode made from lower number `ino` is gone.
    pub fn forget(&self, ino: u64) {
        let mut index = self.index.lock();
        if index.get(&ino).is_some_and(|w| w.strong_count() == 0) {
            index.remove(&ino);
        }
    }
}

impl Drop for OverlayFs {
    fn drop(&mut self) {
        // They hold the core, which holds them.
        let kept = core::mem::take(&mut *self.core.kept.lock());
        drop(kept);
    }
}

impl SuperBlock for OverlayFs {
    fn fs_type(&self) -> &'static str {
        "overlay"
    }
    fn root(&self) -> InodeRef {
        self.root.clone()
    }
    fn magic(&self) -> u64 {
        MAGIC
    }
    fn dev(&self) -> u64 {
        self.core.dev
    }
    /// Room is what the upper side has.
    fn statfs(&self) -> Result<StatFs> {
        self.core.upper.statfs()
    }
    fn options(&self) -> Vec<u8> {
        b"lowerdir=/,upperdir=/,workdir=/".to_vec()
    }
    fn remount(&self, data: &[u8]) -> Result {
        self.core.upper.remount(data)
    }
    fn volatile(&self) -> bool {
        self.lower.volatile()
    }
}
