//! Shared memory segments, shmget(2), shmop(2).

use super::{Object, SysV, seconds};
use crate::Ipc;
use abi::sysv::ShmidDs;
use abi::{Errno, Result};
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicI32, AtomicI64, Ordering};
use mm::PageCache;
use sync::{SpinLock, level};
use vfs::file::{Caller, MmapBacking};
use vfs::{File, FileOps, OpenFlags};

/// Most segments (`kernel.shmmni`).
pub const MAX_SEGMENTS: u32 = 4096;
/// Largest segment in bytes.
pub const MAX_SIZE: u64 = 1 << 46;

/// A segment.
pub struct Segment {
    /// Size in bytes as asked for.
    pub size: u64,
    /// Its pages.
    pub cache: Arc<PageCache>,
    /// Files that stand for attachments; each mapping holds one.
    attached: SpinLock<Vec<Weak<File>>, { level::IPC }>,
    times: [AtomicI64; 3],
    creator: AtomicI32,
    last: AtomicI32,
}

/// The file behind an attached segment, as /proc/PID/maps shows it.
pub struct ShmFile {
    segment: Arc<Object<Segment>>,
}

impl FileOps for ShmFile {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn mmap(&self, _f: &File, _shared: bool) -> Result<MmapBacking> {
        Ok(MmapBacking::Cache(self.segment.value.cache.clone()))
    }
    fn anon_name(&self) -> Option<Vec<u8>> {
        Some(format!("/SYSV{:08x} (deleted)", self.segment.perm().key).into_bytes())
    }
}

impl Segment {
    /// Attachments now.
    pub fn attachments(&self) -> u64 {
        let mut all = self.attached.lock();
        all.retain(|w| w.strong_count() > 0);
        all.iter().map(|w| w.strong_count() as u64).sum()
    }
}

/// `struct shmid_ds` of a segment.
pub fn stat(o: &Object<Segment>) -> ShmidDs {
    let s = &o.value;
    let [a, d, c] = &s.times;
    ShmidDs {
        perm: o.perm(),
        segsz: s.size,
        atime: a.load(Ordering::Relaxed),
        dtime: d.load(Ordering::Relaxed),
        ctime: c.load(Ordering::Relaxed),
        cpid: s.creator.load(Ordering::Relaxed),
        lpid: s.last.load(Ordering::Relaxed),
        nattch: s.attachments(),
        unused: [0; 2],
    }
}

impl SysV {
    /// shmget(2). [`Errno::EINVAL`] for a bad size.
    pub fn shmget(&self, cx: &dyn Caller, key: i32, size: u64, flags: i32) -> Result<i32> {
        let fits = |s: &Segment| {
            if size > s.size {
                Err(Errno::EINVAL)
            } else {
                Ok(())
            }
        };
        let make = || {
            if size == 0 || size > MAX_SIZE {
                return Err(Errno::EINVAL);
            }
            let cache = PageCache::new_memory();
            cache.truncate(size.next_multiple_of(hal::PAGE_SIZE as u64))?;
            Ok(Segment {
                size,
                cache,
                attached: SpinLock::new(Vec::new()),
                times: [
                    AtomicI64::new(0),
                    AtomicI64::new(0),
                    AtomicI64::new(seconds(cx)),
                ],
                creator: AtomicI32::new(cx.pid()),
                last: AtomicI32::new(0),
            })
        };
        self.shm.get(cx, key, flags, MAX_SEGMENTS, fits, make)
    }
}

impl Ipc {
    /// The file for one attachment of a segment; the mapping keeps it.
    pub fn shm_file(
        &self,
        cx: &dyn Caller,
        segment: &Arc<Object<Segment>>,
        write: bool,
    ) -> Result<Arc<File>> {
        let ops = Arc::new(ShmFile {
            segment: segment.clone(),
        });
        let flags = if write {
            OpenFlags::RDWR
        } else {
            OpenFlags::empty()
        };
        let file = self.anon_file(cx, ops, flags)?;
        let s = &segment.value;
        s.times[0].store(seconds(cx), Ordering::Relaxed);
        s.last.store(cx.pid(), Ordering::Relaxed);
        let mut all = s.attached.lock();
        all.retain(|w| w.strong_count() > 0);
        all.push(Arc::downgrade(&file));
        Ok(file)
    }
}

/// Notes that the caller detaches the segment behind `file`. `false`: it is none.
pub fn detaching(cx: &dyn Caller, file: &File) -> bool {
    let Some(s) = file.ops.as_any().downcast_ref::<ShmFile>() else {
        return false;
    };
    let s = &s.segment.value;
    s.times[1].store(seconds(cx), Ordering::Relaxed);
    s.last.store(cx.pid(), Ordering::Relaxed);
    true
}
