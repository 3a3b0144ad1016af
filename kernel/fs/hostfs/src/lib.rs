//! hostfs: a host directory tree as a file system, read-only or passed through.
//!
//! - [`HostFs`]: the super block over a [`HostDir`].
//! - `inode`: inodes, one for each host file (device, inode number), so that
//!   hard links share pages and locks. An inode knows the path it was last seen at.
//! - `data`: contents: the host file behind a page cache.
//! - `change`: what writable trees pass through.
//!
//! The host may change files at any time. What was learnt from the host is
//! believed for [`VALID_NS`]; then the next use asks again, and pages of a file
//! whose size or times differ are forgotten. Device nodes, fifos and sockets
//! are names only: opening them leads to the machine's drivers, never to the host's.
//!
//! No spin lock (level `INODE`, one at a time) is held over a call to the host.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

mod change;
mod data;
mod inode;

pub use inode::HostInode;

use data::HostData;

use abi::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::hash::{BuildHasherDefault, Hasher};
use core::sync::atomic::{AtomicBool, Ordering};
use hal::dev::{Clock, HostDir, HostStat};
use hashbrown::HashMap;
use sync::{Mutex, SpinLock, level};
use vfs::inode::{InodeRef, StatFs};
use vfs::{FileType, SuperBlock};

/// How long the host's answers are believed, in ns.
pub const VALID_NS: u64 = 1_000_000_000;
/// `f_type` of statfs(2), as User-Mode Linux's hostfs has it.
pub const MAGIC: u64 = 0x00c0_ffee;

/// Identity of a host file: device and inode number.
pub(crate) type Key = (u64, u64);

#[derive(Default)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
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
}

struct Table {
    inodes: HashMap<Key, Weak<HostInode>, BuildHasherDefault<KeyHasher>>,
    /// Host devices met so far; the root's is the first.
    devs: Vec<u64>,
}

/// What all inodes share.
pub(crate) struct Core {
    pub dir: &'static dyn HostDir,
    pub clock: &'static dyn Clock,
    pub dev: u64,
    pub writable: bool,
    /// Something was written since the last write-back of the whole tree.
    pub dirty: AtomicBool,
    table: SpinLock<Table, { level::INODE }>,
    /// Held while a known file gets another place.
    pub moving: Mutex<()>,
    fs: Weak<HostFs>,
}

/// A host directory tree as a file system.
pub struct HostFs {
    core: Arc<Core>,
    root: Arc<HostInode>,
}

impl HostFs {
    /// The tree `dir`; `dev` as in `st_dev`. The host's error if its root cannot be looked at.
    pub fn new(
        dir: &'static dyn HostDir,
        clock: &'static dyn Clock,
        dev: u64,
        writable: bool,
    ) -> Result<Arc<HostFs>> {
        let st = dir.stat(b"")?;
        Ok(Arc::new_cyclic(|this| {
            let core = Arc::new(Core {
                dir,
                clock,
                dev,
                writable,
                dirty: AtomicBool::new(false),
                table: SpinLock::new(Table {
                    inodes: HashMap::default(),
                    devs: alloc::vec![st.dev],
                }),
                moving: Mutex::new(()),
                fs: this.clone(),
            });
            let root = core.inode(&st, None, b"");
            HostFs { core, root }
        }))
    }
}

impl HostFs {
    /// Gives what was written, through mappings too, to the host if anything was since the last time.
    pub fn write_back(&self) -> Result {
        if !self.core.dirty.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        self.each(HostInode::write_back)
    }
    /// Calls `f` for all inodes of a writable tree. The first error.
    fn each(&self, f: impl Fn(&HostInode) -> Result) -> Result {
        if !self.core.writable {
            return Ok(());
        }
        let mut all: Vec<Arc<HostInode>> = Vec::new();
        let n = self.core.table.lock().inodes.len();
        all.try_reserve(n).map_err(|_| Errno::ENOMEM)?;
        {
            let t = self.core.table.lock();
            all.extend(t.inodes.values().filter_map(Weak::upgrade).take(n));
        }
        let mut result = Ok(());
        for i in all {
            result = result.and(f(&i));
        }
        if result.is_err() {
            self.core.dirty.store(true, Ordering::Release);
        }
        result
    }
}

impl Core {
    pub fn now(&self) -> u64 {
        self.clock.monotonic_ns()
    }
    /// Inode number inside the machine: the host's on the root's device, made different on others.
    pub fn ino(&self, dev: u64, ino: u64) -> u64 {
        let index = {
            let mut t = self.table.lock();
            match t.devs.iter().position(|d| *d == dev) {
                Some(i) => i,
                None => {
                    t.devs.push(dev);
                    t.devs.len() - 1
                }
            }
        };
        ino ^ (index as u64) << 48
    }
    /// The inode of a host file, now seen as `name` in `dir` (`None`: the root).
    pub fn inode(
        self: &Arc<Self>,
        st: &HostStat,
        dir: Option<&Arc<HostData>>,
        name: &[u8],
    ) -> Arc<HostInode> {
        let key = (st.dev, st.ino);
        let kind = FileType::from_mode(st.mode).unwrap_or(FileType::Regular);
        let known = self.table.lock().inodes.get(&key).and_then(Weak::upgrade);
        // The host may have given the number of a deleted file to another one.
        if let Some(i) = known
            && i.kind() == kind
        {
            if let Some(d) = dir {
                i.data().seen_as(d, name);
            }
            i.refresh(st);
            return i;
        }
        let ino = self.ino(st.dev, st.ino);
        let new = HostInode::make(self, st, kind, ino, dir.cloned(), name);
        let mut t = self.table.lock();
        // Two at once: the first stays.
        let there = t.inodes.get(&key).and_then(Weak::upgrade);
        let first = match there {
            Some(i) if i.kind() == kind => i,
            _ => {
                t.inodes.insert(key, Arc::downgrade(&new));
                new.clone()
            }
        };
        drop(t);
        first
    }
    /// The inode of what is at `path` now, if it is in use.
    pub fn known(&self, path: &[u8]) -> Option<Arc<HostInode>> {
        let st = self.dir.stat(path).ok()?;
        let t = self.table.lock();
        t.inodes.get(&(st.dev, st.ino)).and_then(Weak::upgrade)
    }
    /// An inode is gone.
    pub fn forget(&self, key: Key) {
        let mut t = self.table.lock();
        if t.inodes.get(&key).is_some_and(|w| w.strong_count() == 0) {
            t.inodes.remove(&key);
        }
    }
    pub fn super_block(&self) -> Option<Arc<HostFs>> {
        self.fs.upgrade()
    }
}

impl SuperBlock for HostFs {
    fn fs_type(&self) -> &'static str {
        "hostfs"
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
    fn statfs(&self) -> Result<StatFs> {
        let [blocks, bfree, bavail, files, ffree] = self.core.dir.statfs()?;
        Ok(StatFs {
            bsize: hal::PAGE_SIZE as u64,
            blocks,
            bfree,
            bavail,
            files,
            ffree,
            namelen: abi::io::NAME_MAX as u64,
        })
    }
    fn sync(&self) -> Result {
        self.each(HostInode::sync_all)
    }
    fn volatile(&self) -> bool {
        true
    }
}

/// Read-only trees refuse changes. The mount says so first; this is for the paths that have none.
pub(crate) fn check_writable(core: &Core) -> Result {
    if core.writable {
        Ok(())
    } else {
        Err(Errno::EROFS)
    }
}
