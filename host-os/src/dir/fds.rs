//! The host descriptors behind all trees of a machine: a bounded cache of
//! directories, and a table of open files whose descriptors are closed and
//! reopened behind their indices.
//!
//! Both hand out [`Arc`]s, so a descriptor that is evicted while another vCPU
//! uses it is closed when that use ends.

use crate::dir::path::is_under;
use crate::lock::HostMutex;
use abi::Errno;
use core::sync::atomic::{AtomicBool, Ordering};
use hal::dev::HostFile;
use std::sync::Arc;

/// Ways of a set of the directory cache.
const WAYS: usize = 4;
/// How long a cached directory is trusted to be where its path says. Bounds
/// how late a directory that was moved or replaced on the host is noticed.
pub const DIR_TTL_NS: u64 = 100_000_000;

/// A host descriptor; closed on drop.
pub struct HostFd(i32);

impl HostFd {
    /// Takes over `fd`.
    pub fn new(fd: i32) -> HostFd {
        HostFd(fd)
    }
    /// Its number.
    pub fn get(&self) -> i32 {
        self.0
    }
}

impl Drop for HostFd {
    fn drop(&mut self) {
        host_sys::fd::close(self.0);
    }
}

/// A cached directory.
struct DirEntry {
    tree: u32,
    path: Box<[u8]>,
    fd: Arc<HostFd>,
    opened_ns: u64,
    used: u64,
}

struct Dirs {
    /// Sets of [`WAYS`] entries.
    entries: Vec<Option<DirEntry>>,
    tick: u64,
}

/// An open file: what is needed to open it again.
#[derive(Clone)]
pub struct Recipe {
    /// Tree it belongs to.
    pub tree: u32,
    /// Path in the tree.
    pub path: Box<[u8]>,
    /// Open for writing too.
    pub write: bool,
    /// Device and inode number: a different file at the path is not this one.
    pub id: (u64, u64),
}

struct Slot {
    recipe: Recipe,
    fd: Option<Arc<HostFd>>,
    /// Position in `Files::open`, if `fd` is there.
    pos: usize,
    used: AtomicBool,
    /// The name is gone: the descriptor cannot be opened again.
    pinned: bool,
}

struct Files {
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    /// Slots that hold a descriptor, in no order.
    open: Vec<u32>,
    /// Where the search for a victim goes on.
    hand: usize,
}

/// Descriptors of all trees of a machine.
pub struct Fds {
    dirs: HostMutex<Dirs>,
    files: HostMutex<Files>,
    max_open: usize,
}

fn hash(tree: u32, path: &[u8]) -> usize {
    // FNV-1a: short keys, no secret needed (a guest that makes its own sets collide only slows itself).
    let mut h = 0xcbf2_9ce4_8422_2325u64 ^ u64::from(tree);
    for &b in path {
        h = (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
    }
    (h ^ (h >> 32)) as usize
}

impl Fds {
    /// Tables that hold at most about `budget` host descriptors.
    pub fn new(budget: usize) -> Fds {
        let dirs = (budget / 4).clamp(WAYS, 256) / WAYS * WAYS;
        Fds {
            dirs: HostMutex::new(Dirs {
                entries: (0..dirs).map(|_| None).collect(),
                tick: 0,
            }),
            files: HostMutex::new(Files {
                slots: Vec::new(),
                free: Vec::new(),
                open: Vec::new(),
                hand: 0,
            }),
            max_open: budget.saturating_sub(dirs).max(4),
        }
    }

    /// The cached descriptor of a directory, if it is fresh.
    pub fn dir(&self, tree: u32, path: &[u8], now_ns: u64) -> Option<Arc<HostFd>> {
        let mut d = self.dirs.lock();
        d.tick += 1;
        let tick = d.tick;
        let set = hash(tree, path) % (d.entries.len() / WAYS) * WAYS;
        let e = d.entries[set..set + WAYS]
            .iter_mut()
            .flatten()
            .find(|e| e.tree == tree && *e.path == *path)?;
        if now_ns.saturating_sub(e.opened_ns) > DIR_TTL_NS {
            return None;
        }
        e.used = tick;
        Some(e.fd.clone())
    }

    /// Remembers a directory's descriptor.
    pub fn put_dir(&self, tree: u32, path: &[u8], fd: Arc<HostFd>, now_ns: u64) {
        let mut entry = Some(DirEntry {
            tree,
            path: path.into(),
            fd,
            opened_ns: now_ns,
            used: 0,
        });
        {
            let mut d = self.dirs.lock();
            d.tick += 1;
            if let Some(e) = &mut entry {
                e.used = d.tick;
            }
            let set = hash(tree, path) % (d.entries.len() / WAYS) * WAYS;
            let same = |e: &DirEntry| e.tree == tree && *e.path == *path;
            let victim = d.entries[set..set + WAYS]
                .iter_mut()
                .min_by_key(|e| match e {
                    Some(e) if same(e) => (0, 0),
                    None => (1, 0),
                    Some(e) => (2, e.used),
                });
            if let Some(v) = victim {
                core::mem::swap(v, &mut entry);
            }
        }
        // The victim is closed here, outside the lock.
        drop(entry);
    }

    /// Forgets directories of a tree at and below `top` (they moved or are gone).
    pub fn forget_dirs(&self, tree: u32, top: &[u8]) {
        self.drop_dirs(|e| e.tree == tree && is_under(&e.path, top));
    }

    fn drop_dirs(&self, which: impl Fn(&DirEntry) -> bool) -> usize {
        let mut gone = Vec::new();
        for e in &mut self.dirs.lock().entries {
            if e.as_ref().is_some_and(&which) {
                gone.push(e.take());
            }
        }
        gone.len()
    }

    /// The host is out of descriptors: gives some back. False if there was nothing to give.
    pub fn relieve(&self) -> bool {
        let dirs = self.drop_dirs(|_| true);
        let mut gone = Vec::new();
        {
            let mut f = self.files.lock();
            for _ in 0..f.open.len().div_ceil(2) {
                match f.evict() {
                    Some(fd) => gone.push(fd),
                    None => break,
                }
            }
        }
        dirs + gone.len() > 0
    }

    /// Enters an open file. [`Errno::ENFILE`] if the table is full, [`Errno::ENOMEM`].
    pub fn insert(&self, recipe: Recipe, fd: Arc<HostFd>) -> Result<HostFile, Errno> {
        let victim;
        let index;
        {
            let mut f = self.files.lock();
            f.open.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            index = match f.free.pop() {
                Some(i) => i,
                None => {
                    let i = u32::try_from(f.slots.len()).map_err(|_| Errno::ENFILE)?;
                    f.slots.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                    // So that `remove` needs no memory.
                    let spare = f.slots.len() + 1 - f.free.len();
                    f.free.try_reserve(spare).map_err(|_| Errno::ENOMEM)?;
                    f.slots.push(None);
                    i
                }
            };
            victim = (f.open.len() >= self.max_open).then(|| f.evict()).flatten();
            let pos = f.open.len();
            f.open.push(index);
            f.slots[index as usize] = Some(Slot {
                recipe,
                fd: Some(fd),
                pos,
                used: AtomicBool::new(true),
                pinned: false,
            });
        }
        drop(victim);
        Ok(HostFile(index))
    }

    /// The descriptor of an open file, or the recipe to open it again.
    /// [`Errno::EBADF`]: no such file in `tree`.
    pub fn get(&self, tree: u32, file: HostFile) -> Result<Result<Arc<HostFd>, Recipe>, Errno> {
        let f = self.files.lock();
        let s = f.slot(tree, file)?;
        s.used.store(true, Ordering::Relaxed);
        Ok(match &s.fd {
            Some(fd) => Ok(fd.clone()),
            None => Err(s.recipe.clone()),
        })
    }

    /// Whether an open file may be written.
    pub fn is_writable(&self, tree: u32, file: HostFile) -> Result<bool, Errno> {
        Ok(self.files.lock().slot(tree, file)?.recipe.write)
    }

    /// Gives a reopened descriptor to its slot. The descriptor to use: another
    /// vCPU may have been faster.
    pub fn reopened(
        &self,
        tree: u32,
        file: HostFile,
        fd: Arc<HostFd>,
    ) -> Result<Arc<HostFd>, Errno> {
        let victim;
        {
            let mut f = self.files.lock();
            if let Some(there) = &f.slot(tree, file)?.fd {
                return Ok(there.clone());
            }
            f.open.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            victim = (f.open.len() >= self.max_open).then(|| f.evict()).flatten();
            let pos = f.open.len();
            f.open.push(file.0);
            if let Some(Some(s)) = f.slots.get_mut(file.0 as usize) {
                s.fd = Some(fd.clone());
                s.pos = pos;
            }
        }
        drop(victim);
        Ok(fd)
    }

    /// Releases an index.
    pub fn remove(&self, tree: u32, file: HostFile) {
        let mut f = self.files.lock();
        if f.slot(tree, file).is_err() {
            return;
        }
        let fd = f.detach(file.0);
        f.slots[file.0 as usize] = None;
        f.free.push(file.0);
        drop(f);
        drop(fd);
    }

    /// Open files of a tree at `path`.
    pub fn at(&self, tree: u32, path: &[u8]) -> Vec<HostFile> {
        let f = self.files.lock();
        let here = |s: &Slot| s.recipe.tree == tree && !s.pinned && *s.recipe.path == *path;
        (0..f.slots.len())
            .filter(|&i| f.slots[i].as_ref().is_some_and(here))
            .map(|i| HostFile(i as u32))
            .collect()
    }

    /// The names of these files are about to go: keep their descriptors.
    pub fn pin(&self, files: &[HostFile], pinned: bool) {
        let mut f = self.files.lock();
        for file in files {
            if let Some(Some(s)) = f.slots.get_mut(file.0 as usize) {
                s.pinned = pinned;
            }
        }
    }

    /// A file or directory of a tree was renamed: so are the open files at and below it.
    pub fn renamed(&self, tree: u32, old: &[u8], new: &[u8]) {
        let mut f = self.files.lock();
        for s in f.slots.iter_mut().flatten() {
            let r = &mut s.recipe;
            if r.tree == tree && !s.pinned && is_under(&r.path, old) {
                r.path = [new, &r.path[old.len()..]].concat().into();
            }
        }
    }

    /// Descriptors held for files at the moment.
    #[cfg(test)]
    pub fn open_files(&self) -> usize {
        self.files.lock().open.len()
    }
}

impl Files {
    fn slot(&self, tree: u32, file: HostFile) -> Result<&Slot, Errno> {
        match self.slots.get(file.0 as usize) {
            Some(Some(s)) if s.recipe.tree == tree => Ok(s),
            _ => Err(Errno::EBADF),
        }
    }

    /// Takes the descriptor out of a slot.
    fn detach(&mut self, index: u32) -> Option<Arc<HostFd>> {
        let s = self.slots.get_mut(index as usize)?.as_mut()?;
        let fd = s.fd.take()?;
        let pos = s.pos;
        self.open.swap_remove(pos);
        if let Some(&moved) = self.open.get(pos) {
            if let Some(Some(m)) = self.slots.get_mut(moved as usize) {
                m.pos = pos;
            }
        }
        Some(fd)
    }

    /// Takes the descriptor of a file that was not used lately (second chance).
    fn evict(&mut self) -> Option<Arc<HostFd>> {
        for _ in 0..2 * self.open.len() {
            self.hand = if self.hand + 1 < self.open.len() {
                self.hand + 1
            } else {
                0
            };
            let index = *self.open.get(self.hand)?;
            let Some(Some(s)) = self.slots.get(index as usize) else {
                continue;
            };
            if s.pinned || s.used.swap(false, Ordering::Relaxed) {
                continue;
            }
            return self.detach(index);
        }
        None
    }
}
