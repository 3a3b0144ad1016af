//! Contents of host files: [`HostData`] reads and writes pages for the page cache.

use crate::{Core, Key};
use abi::{Errno, Result};
use alloc::sync::Arc;
use hal::dev::HostFile;
use mm::page_cache::PageSource;
use sync::{SpinLock, level};

#[derive(Clone, Copy, Default)]
struct Open {
    read: Option<HostFile>,
    write: Option<HostFile>,
}

/// Where a host file is and how it is open there. Outlives the inode while pages are mapped.
pub(crate) struct HostData {
    core: Arc<Core>,
    key: Key,
    path: SpinLock<Arc<[u8]>, { level::INODE }>,
    open: SpinLock<Open, { level::INODE }>,
}

impl HostData {
    pub fn new(core: &Arc<Core>, key: Key, path: Arc<[u8]>) -> Arc<HostData> {
        Arc::new(HostData {
            core: core.clone(),
            key,
            path: SpinLock::new(path),
            open: SpinLock::new(Open::default()),
        })
    }
    pub fn path(&self) -> Arc<[u8]> {
        self.path.lock().clone()
    }
    /// The file was seen at this path.
    pub fn set_path(&self, path: Arc<[u8]>) {
        let mut p = self.path.lock();
        if **p != *path {
            let old = core::mem::replace(&mut *p, path);
            drop(p);
            drop(old);
        }
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
        let f = dir.open(&self.path(), write)?;
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
