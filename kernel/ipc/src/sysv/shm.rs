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
    attached: SpinLock<Attached, { level::IPC }>,
    times: [AtomicI64; 3],
    creator: AtomicI32,
    last: AtomicI32,
}

/// Who is attached to a segment.
#[derive(Default)]
struct Attached {
    /// Files that stand for attachments; each mapping holds one.
    files: Vec<Weak<File>>,
    /// Was removed (IPC_RMID): ends with its last attachment.
    doomed: bool,
    /// Has ended: nobody may attach any more.
    ended: bool,
}

impl Attached {
    fn count(&mut self) -> u64 {
        self.files.retain(|w| w.strong_count() > 0);
        self.files.iter().map(|w| w.strong_count() as u64).sum()
    }
    /// Whether it ends now.
    fn end(&mut self) -> bool {
        self.ended |= self.doomed && self.count() == 0;
        self.ended
    }
}

/// `SHM_DEST` in the mode of a segment that was removed.
const DEST: u32 = 0o1000;

/// The file behind an attached segment, as /proc/PID/maps shows it.
pub struct ShmFile {
    segment: Arc<Object<Segment>>,
    ipc: Weak<Ipc>,
}

impl Drop for ShmFile {
    fn drop(&mut self) {
        // The file itself is counted no more.
        if self.segment.value.attached.lock().end()
            && let Some(ipc) = self.ipc.upgrade()
        {
            ipc.sysv.shm.forget(&self.segment);
        }
    }
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
        self.attached.lock().count()
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
                attached: SpinLock::default(),
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
    /// IPC_RMID of shmctl(2): the segment ends when nobody is attached; until then its identifier is good, but not its key.
    pub fn shm_remove(&self, cx: &dyn Caller, id: i32) -> Result {
        let o = self.shm.find(id)?;
        o.check_owner(&cx.cred())?;
        let ends = {
            let mut a = o.value.attached.lock();
            a.doomed = true;
            a.end()
        };
        if ends {
            self.shm.forget(&o);
        } else {
            let mut p = o.perm.lock();
            p.key = 0;
            p.mode |= DEST;
        }
        Ok(())
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
            ipc: self.this.clone(),
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
        let mut a = s.attached.lock();
        if a.ended {
            drop(a);
            return Err(Errno::EIDRM);
        }
        // As many as there are, at least.
        a.count();
        a.files.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        a.files.push(Arc::downgrade(&file));
        drop(a);
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
