//! Directories.

use crate::inode::{Body, TmpInode};
use crate::own;
use abi::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use sync::{SpinLock, level};
use vfs::generic::{DirData, FIRST_COOKIE};
use vfs::inode::{DirEmit, InodeRef, NewNode};
use vfs::{FileType, Inode};

/// Entries that readdir copies in one go.
const BATCH: usize = 64;
/// renameat2(2) flags.
const RENAME_NOREPLACE: u32 = 1;
const RENAME_EXCHANGE: u32 = 2;
const RENAME_WHITEOUT: u32 = 4;

#[derive(Clone)]
struct Entry {
    cookie: u64,
    inode: Arc<TmpInode>,
}

/// The entries of a directory.
pub(crate) struct DirBody(SpinLock<Entries, { level::INODE }>);

struct Entries {
    names: BTreeMap<Arc<[u8]>, Entry>,
    order: BTreeMap<u64, Arc<[u8]>>,
    next: u64,
    subdirs: u32,
}

impl DirBody {
    pub fn new() -> DirBody {
        DirBody(SpinLock::new(Entries {
            names: BTreeMap::new(),
            order: BTreeMap::new(),
            next: FIRST_COOKIE,
            subdirs: 0,
        }))
    }
    pub fn get(&self, name: &[u8]) -> Option<Arc<TmpInode>> {
        let d = self.0.lock();
        d.names.get(name).map(|e| e.inode.clone())
    }
    pub fn len(&self) -> usize {
        self.0.lock().names.len()
    }
    pub fn subdirs(&self) -> u32 {
        self.0.lock().subdirs
    }
    /// Enters a name, replacing what is there; `cookie`: to keep.
    fn put(&self, name: &[u8], inode: Arc<TmpInode>, cookie: Option<u64>) -> Option<Arc<TmpInode>> {
        let key: Arc<[u8]> = name.into();
        let is_dir = u32::from(inode.file_type() == FileType::Dir);
        let mut d = self.0.lock();
        let cookie = cookie.unwrap_or_else(|| {
            d.next += 1;
            d.next - 1
        });
        let old = d.names.insert(key.clone(), Entry { cookie, inode });
        if let Some(e) = &old {
            d.order.remove(&e.cookie);
            d.subdirs -= u32::from(e.inode.file_type() == FileType::Dir);
        }
        d.order.insert(cookie, key);
        d.subdirs += is_dir;
        drop(d);
        old.map(|e| e.inode)
    }
    fn take(&self, name: &[u8]) -> Option<(u64, Arc<TmpInode>)> {
        let mut d = self.0.lock();
        let e = d.names.remove(name)?;
        let key = d.order.remove(&e.cookie);
        d.subdirs -= u32::from(e.inode.file_type() == FileType::Dir);
        drop(d);
        drop(key);
        Some((e.cookie, e.inode))
    }
    fn cookie(&self, name: &[u8]) -> Option<u64> {
        self.0.lock().names.get(name).map(|e| e.cookie)
    }
    /// All children, taken out, when the directory itself goes.
    pub fn take_all(&mut self) -> Vec<Arc<TmpInode>> {
        let d = self.0.get_mut();
        d.order.clear();
        core::mem::take(&mut d.names)
            .into_values()
            .map(|e| e.inode)
            .collect()
    }
}

impl DirData for TmpInode {
    type Kept = ();
    fn list(&self, _kept: &mut (), from: u64, emit: &mut DirEmit<'_>) -> Result {
        let dir = self.dir()?;
        let mut from = from;
        let mut batch: Vec<(Arc<[u8]>, u64, FileType, u64)> = Vec::with_capacity(BATCH);
        loop {
            {
                let d = dir.0.lock();
                for (&cookie, name) in d.order.range(from..).take(BATCH) {
                    if let Some(e) = d.names.get(name) {
                        batch.push((name.clone(), e.inode.ino(), e.inode.file_type(), cookie));
                    }
                }
            }
            if batch.is_empty() {
                return Ok(());
            }
            for (name, ino, kind, cookie) in batch.drain(..) {
                from = cookie + 1;
                if !emit(&name, ino, kind, from) {
                    return Ok(());
                }
            }
            hal::cpu::current_waiter().yield_if_needed();
        }
    }
    fn end_cookie(&self) -> u64 {
        self.dir().map_or(0, |d| d.0.lock().next)
    }
}

impl TmpInode {
    pub(crate) fn dir(&self) -> Result<&DirBody> {
        match self.body() {
            Body::Dir(d) => Ok(d),
            _ => Err(Errno::ENOTDIR),
        }
    }
    pub(crate) fn dir_lookup(&self, name: &[u8]) -> Result<InodeRef> {
        Ok(self.dir()?.get(name).ok_or(Errno::ENOENT)?)
    }
    pub(crate) fn dir_insert_new(
        &self,
        name: &[u8],
        make: impl FnOnce() -> Result<Arc<TmpInode>>,
    ) -> Result<Arc<TmpInode>> {
        let dir = self.dir()?;
        if dir.get(name).is_some() {
            return Err(Errno::EEXIST);
        }
        let inode = make()?;
        dir.put(name, inode.clone(), None);
        self.names_changed();
        Ok(inode)
    }
    pub(crate) fn dir_link(&self, name: &[u8], target: &InodeRef) -> Result {
        let t = own(target)?.this()?;
        if t.file_type() == FileType::Dir {
            return Err(Errno::EPERM);
        }
        self.dir_insert_new(name, || {
            t.add_link()?;
            Ok(t)
        })?;
        Ok(())
    }
    pub(crate) fn dir_unlink(&self, name: &[u8]) -> Result {
        let dir = self.dir()?;
        let inode = dir.get(name).ok_or(Errno::ENOENT)?;
        if inode.file_type() == FileType::Dir {
            return Err(Errno::EISDIR);
        }
        dir.take(name);
        inode.drop_link();
        self.names_changed();
        Ok(())
    }
    pub(crate) fn dir_rmdir(&self, name: &[u8]) -> Result {
        let dir = self.dir()?;
        let inode = dir.get(name).ok_or(Errno::ENOENT)?;
        if inode.dir()?.len() != 0 {
            return Err(Errno::ENOTEMPTY);
        }
        dir.take(name);
        inode.drop_link();
        self.names_changed();
        Ok(())
    }
    pub(crate) fn dir_rename(&self, old: &[u8], to: &InodeRef, new: &[u8], flags: u32) -> Result {
        let to = own(to)?;
        let same = core::ptr::eq(self, to);
        let (from_dir, to_dir) = (self.dir()?, to.dir()?);
        let inode = from_dir.get(old).ok_or(Errno::ENOENT)?;
        let target = to_dir.get(new);
        if flags & RENAME_EXCHANGE != 0 {
            let other = target.ok_or(Errno::ENOENT)?;
            let (a, b) = (from_dir.cookie(old), to_dir.cookie(new));
            to_dir.put(new, inode.clone(), b);
            from_dir.put(old, other.clone(), a);
            inode.touch_ctime();
            other.touch_ctime();
            self.names_changed();
            to.names_changed();
            return Ok(());
        }
        if let Some(t) = &target {
            if flags & RENAME_NOREPLACE != 0 {
                return Err(Errno::EEXIST);
            }
            match (inode.file_type(), t.file_type()) {
                (FileType::Dir, FileType::Dir) if t.dir()?.len() != 0 => {
                    return Err(Errno::ENOTEMPTY);
                }
                (FileType::Dir, FileType::Dir) => {}
                (FileType::Dir, _) => return Err(Errno::ENOTDIR),
                (_, FileType::Dir) => return Err(Errno::EISDIR),
                _ => {}
            }
        }
        let whiteout = if flags & RENAME_WHITEOUT != 0 {
            let node = NewNode::Device(FileType::Char, 0);
            Some(self.new_sibling(&node, 0, 0, 0)?)
        } else {
            None
        };
        // Seen twice for a moment, never missing. Within a directory the entry
        // keeps its cookie, so that a reader of the directory meets it once.
        let cookie = from_dir.cookie(old);
        if same {
            from_dir.take(old);
            to_dir.put(new, inode.clone(), cookie);
        } else {
            to_dir.put(new, inode.clone(), None);
            from_dir.take(old);
        }
        if let Some(w) = whiteout {
            from_dir.put(old, w, None);
        }
        if let Some(t) = target {
            t.drop_link();
        }
        inode.touch_ctime();
        self.names_changed();
        to.names_changed();
        Ok(())
    }
}
