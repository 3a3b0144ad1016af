//! Contents of host files: [`HostData`] reads and writes pages for the page cache.

use crate::{Core, Key};
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use hal::dev::HostFile;
use mm::page_cache::PageSource;
use sync::{SpinLock, level};

#[derive(Clone, Copy, Default)]
struct Open {
    read: Option<HostFile>,
    write: Option<HostFile>,
}

/// Deepest directory that has a path.
const DEPTH_MAX: usize = 4096;

/// A name in a directory; the root has none.
struct Place {
    dir: Option<Arc<HostData>>,
    name: Box<[u8]>,
}

/// Where a host file was last seen and how it is open there. Outlives the inode while pages are mapped.
pub(crate) struct HostData {
    core: Arc<Core>,
    key: Key,
    place: SpinLock<Place, { level::INODE }>,
    open: SpinLock<Open, { level::INODE }>,
}

impl HostData {
    /// `dir`: `None` for the root of the tree.
    pub fn new(
        core: &Arc<Core>,
        key: Key,
        dir: Option<Arc<HostData>>,
        name: &[u8],
    ) -> Arc<HostData> {
        Arc::new(HostData {
            core: core.clone(),
            key,
            place: SpinLock::new(Place {
                dir,
                name: name.into(),
            }),
            open: SpinLock::new(Open::default()),
        })
    }
    /// The path in the tree. [`Errno::ESTALE`], [`Errno::ENAMETOOLONG`].
    pub fn path(&self) -> Result<Vec<u8>> {
        self.path_of(None)
    }
    /// The path of `name` in this directory, or of the file itself.
    pub fn path_of(&self, name: Option<&[u8]>) -> Result<Vec<u8>> {
        // Built from its end.
        let mut rev: Vec<u8> = Vec::with_capacity(128);
        if let Some(n) = name {
            rev.extend(n.iter().rev());
        }
        let mut holder: Option<Arc<HostData>> = None;
        for _ in 0..DEPTH_MAX {
            let at = holder.as_deref().unwrap_or(self);
            let p = at.place.lock();
            let Some(dir) = p.dir.clone() else {
                drop(p);
                rev.reverse();
                return Ok(rev);
            };
            if !rev.is_empty() {
                rev.push(b'/');
            }
            rev.extend(p.name.iter().rev());
            drop(p);
            holder = Some(dir);
        }
        Err(Errno::ENAMETOOLONG)
    }
    /// Whether `other` is this directory or above it.
    fn is_within(&self, other: &HostData) -> bool {
        let mut holder: Option<Arc<HostData>> = None;
        for _ in 0..DEPTH_MAX {
            let at = holder.as_deref().unwrap_or(self);
            if core::ptr::eq(at, other) {
                return true;
            }
            let Some(dir) = at.place.lock().dir.clone() else {
                return false;
            };
            holder = Some(dir);
        }
        true
    }
    /// Whether the file was last seen as `name` in `dir`.
    pub fn is_at(&self, dir: &Arc<HostData>, name: &[u8]) -> bool {
        let p = self.place.lock();
        p.dir.as_ref().is_some_and(|d| Arc::ptr_eq(d, dir)) && *p.name == *name
    }
    /// The file was seen as `name` in `dir`.
    pub fn seen_as(&self, dir: &Arc<HostData>, name: &[u8]) {
        let same =
            |p: &Place| p.dir.as_ref().is_none_or(|d| Arc::ptr_eq(d, dir)) && *p.name == *name;
        if same(&self.place.lock()) {
            return;
        }
        // One at a time, so that no two make a circle.
        let _one = self.core.moving.lock();
        // The host has turned a tree over while part of it was known by its old place: keep that.
        if self.place.lock().dir.is_none() || dir.is_within(self) {
            return;
        }
        let new = Place {
            dir: Some(dir.clone()),
            name: name.into(),
        };
        let old = core::mem::replace(&mut *self.place.lock(), new);
        drop(old);
    }
    /// Opens the host file if it is not open. The host's error (EACCES) for what the machine's owner may not do.
    pub fn open(&self, write: bool) -> Result<HostFile> {
        let now = *self.open.lock();
        let have = if write {
            now.write
        } else {
            now.write.or(now.read)
        };
        if let Some(f) = have {
            return Ok(f);
        }
        let dir = self.core.dir;
        let f = dir.open(&self.path()?, write)?;
        // Something else may have taken the name.
        match dir.stat_file(f) {
            Ok(st) if (st.dev, st.ino) == self.key => {}
            Ok(_) => {
                dir.close(f);
                return Err(Errno::ESTALE);
            }
            Err(e) => {
                dir.close(f);
                return Err(e);
            }
        }
        let mut o = self.open.lock();
        let slot = if write { &mut o.write } else { &mut o.read };
        let (keep, spare) = match *slot {
            Some(first) => (first, Some(f)),
            None => {
                *slot = Some(f);
                (f, None)
            }
        };
        drop(o);
        if let Some(s) = spare {
            dir.close(s);
        }
        Ok(keep)
    }
    /// fsync(2) of the host file, if it was written.
    pub fn fsync(&self) -> Result {
        let f = self.open.lock().write;
        f.map_or(Ok(()), |f| self.core.dir.fsync(f))
    }
}

impl Drop for HostData {
    fn drop(&mut self) {
        // The directories above, without recursion.
        let mut next = self.place.get_mut().dir.take();
        while let Some(d) = next {
            next = Arc::into_inner(d).and_then(|mut d| d.place.get_mut().dir.take());
        }
        let o = *self.open.get_mut();
        for f in [o.read, o.write].into_iter().flatten() {
            self.core.dir.close(f);
        }
    }
}

impl PageSource for HostData {
    fn read_pages(&self, pos: u64, buf: &mut [u8]) -> Result {
        let f = self.open(false)?;
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..)
            && !rest.is_empty()
        {
            match self
                .core
                .dir
                .read(f, rest, pos.saturating_add(done as u64))?
            {
                0 => {
                    rest.fill(0);
                    break;
                }
                n => done += n,
            }
        }
        Ok(())
    }
    fn write_pages(&self, pos: u64, data: &[u8]) -> Result {
        let f = self.open(true)?;
        let mut done = 0;
        while let Some(rest) = data.get(done..)
            && !rest.is_empty()
        {
            match self
                .core
                .dir
                .write(f, rest, pos.saturating_add(done as u64))?
            {
                0 => return Err(Errno::EIO),
                n => done += n,
            }
        }
        Ok(())
    }
}
