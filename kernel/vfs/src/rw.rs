//! Reading, writing and seeking of open files: what read(2), write(2), lseek(2) and getdents(2) do before and after [`FileOps`].
//!
//! [`FileOps`]: crate::file::FileOps

use crate::attr::{drop_capability, keeps_atime, mode_after_write};
use crate::file::{Caller, File, OpenFlags};
use crate::inode::{DirEmit, FileType, SetAttr};
use crate::mount::MountFlags;
use crate::notify::event;
use abi::{Errno, Result};
use mm::io::{Sink, Source};

const SEEK_SET: u32 = 0;
const SEEK_CUR: u32 = 1;
const SEEK_END: u32 = 2;
/// lseek(2) SEEK_DATA.
pub const SEEK_DATA: u32 = 3;
/// lseek(2) SEEK_HOLE.
pub const SEEK_HOLE: u32 = 4;

impl File {
    /// read(2): at the file position, which moves on. [`Errno::EBADF`] if not open for reading.
    pub fn read(&self, cx: &dyn Caller, dst: &mut dyn Sink) -> Result<usize> {
        self.check_readable()?;
        if !self.moves() {
            let n = self.ops.read(self, cx, 0, dst)?;
            self.after_read(cx, n);
            return Ok(n);
        }
        let mut pos = self.pos.lock();
        check_end(*pos, dst.remaining())?;
        let n = self.ops.read(self, cx, *pos, dst)?;
        *pos = pos.saturating_add(n as u64);
        drop(pos);
        self.after_read(cx, n);
        Ok(n)
    }
    /// pread(2). [`Errno::ESPIPE`].
    pub fn read_at(&self, cx: &dyn Caller, pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        if pos > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        if !self.seekable() {
            return Err(Errno::ESPIPE);
        }
        self.check_readable()?;
        check_end(pos, dst.remaining())?;
        let n = self.ops.read(self, cx, pos, dst)?;
        self.after_read(cx, n);
        Ok(n)
    }
    /// write(2): at the file position, which moves on, or at the end with O_APPEND.
    pub fn write(&self, cx: &dyn Caller, src: &mut dyn Source) -> Result<usize> {
        self.write_limited(cx, None, src, u64::MAX)
    }
    /// pwrite(2); as on Linux, O_APPEND still appends. [`Errno::ESPIPE`].
    pub fn write_at(&self, cx: &dyn Caller, pos: u64, src: &mut dyn Source) -> Result<usize> {
        self.write_limited(cx, Some(pos), src, u64::MAX)
    }
    /// Either, with RLIMIT_FSIZE: no byte of a regular file is written at or behind `limit`; [`Errno::EFBIG`]
    /// if none can be (the caller then sends SIGXFSZ).
    pub fn write_limited(
        &self,
        cx: &dyn Caller,
        pos: Option<u64>,
        src: &mut dyn Source,
        limit: u64,
    ) -> Result<usize> {
        let append = self.flags().contains(OpenFlags::APPEND);
        self.write_with(cx, pos, src, limit, append)
    }
    /// As [`File::write_limited`]; whether to append is the caller's choice (pwritev2(2)).
    pub fn write_with(
        &self,
        cx: &dyn Caller,
        pos: Option<u64>,
        src: &mut dyn Source,
        limit: u64,
        append: bool,
    ) -> Result<usize> {
        if pos.is_some_and(|p| p > i64::MAX as u64) {
            return Err(Errno::EINVAL);
        }
        if pos.is_some() && !self.seekable() {
            return Err(Errno::ESPIPE);
        }
        self.check_writable()?;
        if !self.moves() {
            if let Some(p) = pos {
                check_end(p, src.remaining())?;
            }
            let n = self.ops.write(self, cx, pos.unwrap_or(0), src)?;
            self.after_write(n);
            return Ok(n);
        }
        match pos {
            Some(p) => Ok(self.write_locked(cx, p, src, limit, append)?.0),
            None => {
                let mut pos = self.pos.lock();
                let (n, end) = self.write_locked(cx, *pos, src, limit, append)?;
                *pos = end;
                Ok(n)
            }
        }
    }
    /// Writes under the inode's write lock. Returns the count and the position behind.
    fn write_locked(
        &self,
        cx: &dyn Caller,
        pos: u64,
        src: &mut dyn Source,
        limit: u64,
        append: bool,
    ) -> Result<(usize, u64)> {
        check_end(pos, src.remaining())?;
        let regular = self.inode.file_type() == FileType::Regular;
        let lock = self.inode.state().map(|s| s.lock.write());
        let mut pos = pos;
        if append && regular {
            pos = self.size()?;
        }
        // A device hears of an empty write too: /dev/full refuses it.
        if regular && src.remaining() == 0 {
            return Ok((0, pos));
        }
        let limit = limit.min(i64::MAX as u64);
        if regular && pos >= limit {
            return Err(Errno::EFBIG);
        }
        if regular {
            self.before_write(cx)?;
        }
        let room = usize::try_from(limit.saturating_sub(pos)).unwrap_or(usize::MAX);
        let n = if regular && room < src.remaining() {
            let mut part = LimitedSource::new(src, room);
            self.ops.write(self, cx, pos, &mut part)?
        } else {
            self.ops.write(self, cx, pos, src)?
        };
        drop(lock);
        if n > 0 && regular && self.flags().intersects(OpenFlags::DSYNC | OpenFlags::SYNC) {
            self.ops
                .fsync(self, !self.flags().contains(OpenFlags::SYNC))?;
        }
        self.after_write(n);
        Ok((n, pos.saturating_add(n as u64)))
    }
    /// Takes set-user-ID, set-group-ID and file capabilities away.
    pub(crate) fn before_write(&self, cx: &dyn Caller) -> Result {
        let p = self.inode.perm()?;
        if p.mode & 0o6111 == 0 {
            return Ok(());
        }
        if let Some(mode) = mode_after_write(cx, p) {
            self.inode.set_attr(&SetAttr {
                mode: Some(mode),
                ..SetAttr::default()
            })?;
        }
        drop_capability(&self.inode);
        Ok(())
    }
    /// [`Errno::EBADF`] if the file is not open for reading.
    #[inline]
    pub fn check_readable(&self) -> Result {
        if self.flags().readable() {
            Ok(())
        } else {
            Err(Errno::EBADF)
        }
    }
    /// [`Errno::EBADF`] if the file is not open for writing.
    #[inline]
    pub fn check_writable(&self) -> Result {
        if self.flags().writable() {
            Ok(())
        } else {
            Err(Errno::EBADF)
        }
    }
    /// Size of the file now.
    pub fn size(&self) -> Result<u64> {
        Ok(self.inode.attr()?.size)
    }
    /// lseek(2).
    pub fn seek(&self, offset: i64, whence: u32) -> Result<u64> {
        if self.flags().contains(OpenFlags::PATH) {
            return Err(Errno::EBADF);
        }
        if !self.seekable() {
            return Err(Errno::ESPIPE);
        }
        let mut pos = self.pos.lock();
        let new = match self.ops.seek(self, offset, whence) {
            Some(r) => r?,
            None => {
                let base = match whence {
                    SEEK_SET => 0,
                    SEEK_CUR => *pos as i64,
                    SEEK_END => i64::try_from(self.size()?).map_err(|_| Errno::EOVERFLOW)?,
                    // Without knowledge of holes: all is data, with a hole at the end.
                    SEEK_DATA | SEEK_HOLE => {
                        let size = self.size()?;
                        let at = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
                        if at >= size {
                            return Err(Errno::ENXIO);
                        }
                        *pos = if whence == SEEK_DATA { at } else { size };
                        return Ok(*pos);
                    }
                    _ => return Err(Errno::EINVAL),
                };
                let to = base.checked_add(offset).ok_or(Errno::EINVAL)?;
                u64::try_from(to).map_err(|_| Errno::EINVAL)?
            }
        };
        *pos = new;
        Ok(new)
    }
    /// getdents64(2): entries from the file position on; it moves behind the last one taken.
    /// `emit` returns `false` if the entry does not fit; that one is given again next time.
    pub fn read_dir(&self, cx: &dyn Caller, emit: &mut DirEmit<'_>) -> Result {
        self.check_readable()?;
        let mut pos = self.pos.lock();
        if let Some(p) = &self.path
            && p.dentry.is_deleted()
        {
            return Err(Errno::ENOENT);
        }
        let mut next = *pos;
        self.ops
            .read_dir(self, *pos, &mut |name, ino, kind, behind| {
                let taken = emit(name, ino, kind, behind);
                if taken {
                    next = behind;
                }
                taken
            })?;
        *pos = next;
        drop(pos);
        self.after_read(cx, 1);
        Ok(())
    }
    /// Sends an event about this file.
    pub(crate) fn notify(&self, mask: u32) {
        if let Some(p) = &self.path {
            p.mnt.shared().notify_dentry(&p.dentry, mask);
        }
    }
    /// What follows a read: atime, event. Also for readers that bypass [`File::read`] (mmap, splice, exec).
    pub fn after_read(&self, cx: &dyn Caller, n: usize) {
        let Some(p) = &self.path else { return };
        if self.notes_reads() && !keeps_atime(self) {
            let m = p.mnt.flags();
            let keeps = m.intersects(MountFlags::NOATIME | MountFlags::RDONLY)
                || m.contains(MountFlags::NODIRATIME) && p.dentry.is_dir();
            if !keeps {
                self.inode.accessed(cx, m.contains(MountFlags::RELATIME));
            }
        }
        if n > 0 {
            self.notify(event::ACCESS);
        }
    }
    fn after_write(&self, n: usize) {
        if n > 0 {
            self.notify(event::MODIFY);
        }
    }
}

/// Positions end at the largest `off_t`. [`Errno::EINVAL`].
fn check_end(pos: u64, count: usize) -> Result {
    match pos.checked_add(count as u64) {
        Some(end) if end <= i64::MAX as u64 => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

/// Limits a [`Source`] to the next `left` bytes.
pub(crate) struct LimitedSource<'a> {
    inner: &'a mut dyn Source,
    left: usize,
}

impl<'a> LimitedSource<'a> {
    pub fn new(inner: &'a mut dyn Source, left: usize) -> Self {
        LimitedSource { inner, left }
    }
}

impl Source for LimitedSource<'_> {
    fn remaining(&self) -> usize {
        self.inner.remaining().min(self.left)
    }
    fn take(&mut self, buf: &mut [u8]) -> Result<usize> {
        let n = buf.len().min(self.left);
        let k = self.inner.take(&mut buf[..n])?;
        self.left -= k;
        Ok(k)
    }
    fn untake(&mut self, n: usize) {
        self.inner.untake(n);
        self.left = self.left.saturating_add(n);
    }
}
