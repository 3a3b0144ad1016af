//! Open regular files and directories, for file systems to use.
//!
//! - [`RegularFile`]: read, write and mmap through a page cache; the inode
//!   implements [`FileData`].
//! - [`DirFile`]: readdir; the inode implements [`DirData`].

use crate::file::{Caller, File, FileOps, MmapBacking, Traits};
use crate::inode::{DirEmit, FileType, SetAttr, TimeNs};
use crate::notify::event;
use crate::rw::{SEEK_DATA, SEEK_HOLE};
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::any::Any;
use mm::PageCache;
use mm::io::{Sink, Source};
use sync::Mutex;

/// fallocate(2) modes.
const KEEP_SIZE: u32 = 1;
const PUNCH_HOLE: u32 = 2;
const ZERO_RANGE: u32 = 0x10;

/// A regular file's contents.
pub trait FileData: Send + Sync + 'static {
    /// Pages to read from.
    fn read_cache(&self) -> Result<Arc<PageCache>>;
    /// Pages to write to (an overlay copies the file up here).
    fn write_cache(&self) -> Result<Arc<PageCache>> {
        self.read_cache()
    }
    /// Asked before bytes are written: how many of `len` bytes at `pos` there is room for, at least 1. [`Errno::ENOSPC`].
    fn reserve(&self, _pos: u64, len: usize) -> Result<usize> {
        Ok(len)
    }
    /// The contents have changed at time `now`: mtime, ctime, accounts.
    fn written(&self, now: TimeNs);
    /// It is about to be mapped shared and writable: later changes come through the page cache's dirty hook.
    fn mapped_for_write(&self, _cache: &Arc<PageCache>) {}
    /// fsync(2).
    fn sync(&self, _data_only: bool) -> Result {
        self.read_cache()?.sync()
    }
    /// Whether there are holes (files in memory): fallocate(2), SEEK_HOLE.
    fn holes(&self) -> bool {
        false
    }
    /// close(2).
    fn closed(&self, _f: &File) {}
}

/// An open regular file.
pub struct RegularFile<T: FileData>(pub Arc<T>);

impl<T: FileData> FileOps for RegularFile<T> {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn traits(&self) -> Traits {
        Traits::FILE
    }
    fn read(&self, _f: &File, _cx: &dyn Caller, pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        self.0.read_cache()?.read(pos, dst)
    }
    fn write(&self, _f: &File, cx: &dyn Caller, pos: u64, src: &mut dyn Source) -> Result<usize> {
        let cache = self.0.write_cache()?;
        let len = src.remaining();
        if len == 0 {
            return Ok(0);
        }
        let room = self.0.reserve(pos, len)?;
        let n = if room < len {
            cache.write(pos, &mut crate::rw::LimitedSource::new(src, room))
        } else {
            cache.write(pos, src)
        };
        self.0.written(cx.realtime_ns());
        n
    }
    fn seek(&self, _f: &File, offset: i64, whence: u32) -> Option<Result<u64>> {
        if !self.0.holes() || !matches!(whence, SEEK_DATA | SEEK_HOLE) {
            return None;
        }
        Some(self.seek_hole(offset, whence))
    }
    fn mmap(&self, f: &File, shared: bool) -> Result<MmapBacking> {
        if shared && f.flags().writable() {
            let cache = self.0.write_cache()?;
            self.0.mapped_for_write(&cache);
            return Ok(MmapBacking::Cache(cache));
        }
        Ok(MmapBacking::Cache(self.0.read_cache()?))
    }
    fn fsync(&self, _f: &File, data_only: bool) -> Result {
        self.0.sync(data_only)
    }
    fn fallocate(&self, f: &File, mode: u32, offset: u64, len: u64) -> Result {
        if !self.0.holes() {
            return Err(Errno::EOPNOTSUPP);
        }
        let cache = self.0.write_cache()?;
        let end = offset.checked_add(len).ok_or(Errno::EFBIG)?;
        match mode {
            0 | KEEP_SIZE | ZERO_RANGE | 0x11 => {
                if mode & ZERO_RANGE != 0 {
                    cache.punch_hole(offset, len)?;
                }
                let want = usize::try_from(len).map_err(|_| Errno::ENOSPC)?;
                if self.0.reserve(offset, want)? < want {
                    return Err(Errno::ENOSPC);
                }
                cache.allocate(offset, len)?;
                if mode & KEEP_SIZE == 0 && end > cache.size() {
                    f.inode.set_attr(&SetAttr {
                        size: Some(end),
                        ..SetAttr::default()
                    })?;
                }
                Ok(())
            }
            m if m == PUNCH_HOLE | KEEP_SIZE => cache.punch_hole(offset, len),
            _ => Err(Errno::EOPNOTSUPP),
        }
    }
    fn flush(&self, f: &File) {
        self.0.closed(f);
    }
}

impl<T: FileData> RegularFile<T> {
    fn seek_hole(&self, offset: i64, whence: u32) -> Result<u64> {
        let at = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
        let cache = self.0.read_cache()?;
        if at >= cache.size() {
            return Err(Errno::ENXIO);
        }
        if whence == SEEK_DATA {
            cache.next_data(at)
        } else {
            cache.next_hole(at)
        }
    }
}

impl File {
    /// fallocate(2) with its checks; the lengths are not 0 and not negative.
    pub fn fallocate(&self, cx: &dyn Caller, mode: u32, offset: u64, len: u64) -> Result {
        if len == 0 || offset > i64::MAX as u64 || len > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        if mode & !0x7f != 0 || mode & PUNCH_HOLE != 0 && mode & KEEP_SIZE == 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        self.check_writable()?;
        match self.inode.file_type() {
            FileType::Regular => {}
            FileType::Fifo => return Err(Errno::ESPIPE),
            FileType::Dir => return Err(Errno::EISDIR),
            _ => return Err(Errno::ENODEV),
        }
        if offset.saturating_add(len) > i64::MAX as u64 {
            return Err(Errno::EFBIG);
        }
        {
            let _lock = self.inode.state().map(|s| s.lock.write());
            self.before_write(cx)?;
            self.ops.fallocate(self, mode, offset, len)?;
            self.inode.set_attr(&SetAttr {
                mtime: Some(cx.realtime_ns()),
                ..SetAttr::default()
            })?;
        }
        self.notify(event::MODIFY);
        Ok(())
    }
}

/// A directory's entries.
pub trait DirData: Send + Sync + 'static {
    /// What an open directory keeps between calls (a listing of the host, say).
    type Kept: Default + Send + Sync;
    /// Emits entries other than `.` and `..` from cookie `from` on, in the order of their cookies. Cookies are
    /// ≥ [`FIRST_COOKIE`], and an entry keeps its cookie while it exists. No spin lock is held while emitting.
    fn list(&self, kept: &mut Self::Kept, from: u64, emit: &mut DirEmit<'_>) -> Result;
    /// Starts a pass over the directory; at open, and when it is read from the start again. [`Errno::EACCES`] for what the host refuses.
    fn begin(&self) -> Result<Self::Kept> {
        Ok(Self::Kept::default())
    }
    /// A cookie behind all present entries: one pass over the directory ends there, however many are added meanwhile.
    fn end_cookie(&self) -> u64 {
        u64::MAX
    }
}

struct Pass<K> {
    end: u64,
    kept: K,
    /// Nothing has been read of it.
    fresh: bool,
}

/// An open directory.
pub struct DirFile<T: DirData> {
    dir: Arc<T>,
    pass: Mutex<Pass<T::Kept>>,
}

impl<T: DirData> DirFile<T> {
    /// Opens `dir`.
    pub fn new(dir: Arc<T>) -> Result<DirFile<T>> {
        Ok(DirFile {
            pass: Mutex::new(Pass {
                end: dir.end_cookie(),
                kept: dir.begin()?,
                fresh: true,
            }),
            dir,
        })
    }
}

/// First cookie that is free for entries: 0 is `.`, 1 is `..`.
pub const FIRST_COOKIE: u64 = 2;

impl<T: DirData> FileOps for DirFile<T> {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn traits(&self) -> Traits {
        Traits::FILE
    }
    fn read(&self, _f: &File, _cx: &dyn Caller, _pos: u64, _dst: &mut dyn Sink) -> Result<usize> {
        Err(Errno::EISDIR)
    }
    fn fsync(&self, _f: &File, _data_only: bool) -> Result {
        Ok(())
    }
    fn read_dir(&self, f: &File, pos: u64, emit: &mut DirEmit<'_>) -> Result {
        let mut pass = self.pass.lock();
        if pos == 0 && !pass.fresh {
            *pass = Pass {
                end: self.dir.end_cookie(),
                kept: self.dir.begin()?,
                fresh: true,
            };
        }
        pass.fresh = false;
        if !emit_dots(f, pos, emit) {
            return Ok(());
        }
        let Pass { end, kept, .. } = &mut *pass;
        self.dir.list(
            kept,
            pos.max(FIRST_COOKIE),
            &mut |name, ino, kind, behind| behind <= *end && emit(name, ino, kind, behind),
        )
    }
}

/// Emits `.` and `..` as far as they lie at or behind `pos`. `false`: the buffer is full.
pub fn emit_dots(f: &File, pos: u64, emit: &mut DirEmit<'_>) -> bool {
    if pos == 0 && !emit(b".", f.inode.ino(), FileType::Dir, 1) {
        return false;
    }
    pos > 1 || emit(b"..", parent_ino(f), FileType::Dir, FIRST_COOKIE)
}

/// Inode number of the directory above an open one, across mounts.
pub(crate) fn parent_ino(f: &File) -> u64 {
    let Some(p) = &f.path else {
        return f.inode.ino();
    };
    let mut p = p.clone();
    while Arc::ptr_eq(&p.dentry, p.mnt.root_dentry()) {
        match p.mnt.place() {
            Some(place) => p = place,
            None => return f.inode.ino(),
        }
    }
    let parent = p.dentry.parent();
    match parent.as_ref().and_then(|d| d.inode_ref()) {
        Some(i) => i.ino(),
        None => f.inode.ino(),
    }
}
