//! Operations that read: stat, directories, links, files, extended attributes.

use super::{HostTree, errno};
use crate::dir::fds::HostFd;
use crate::dir::path::{Name, PATH_MAX};
use abi::Errno;
use hal::dev::{HostDirEntry, HostStat};
use host_sys::Errno as E;
use host_sys::{fd, file};
use std::ffi::CStr;

/// Bytes of directory records read at once.
const DIR_BUF: usize = 32 << 10;
/// Largest value of an extended attribute, xattr(7).
const XATTR_MAX: usize = 64 << 10;
const NOFOLLOW: i32 = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH;

/// A stat structure in the kernel's terms.
pub(crate) fn host_stat(st: &libc::stat) -> HostStat {
    let ns = |s: i64, ns: i64| s.saturating_mul(1_000_000_000).saturating_add(ns);
    HostStat {
        dev: st.st_dev,
        ino: st.st_ino,
        mode: st.st_mode,
        nlink: st.st_nlink as u32,
        uid: st.st_uid,
        gid: st.st_gid,
        rdev: st.st_rdev,
        size: st.st_size as u64,
        blocks: st.st_blocks as u64,
        atime_ns: ns(st.st_atime, st.st_atime_nsec),
        mtime_ns: ns(st.st_mtime, st.st_mtime_nsec),
        ctime_ns: ns(st.st_ctime, st.st_ctime_nsec),
    }
}

/// Opens a file or directory for reading without leaving a trace in its access
/// time where the host lets us (owner or root).
fn open_quietly(dir: i32, name: &CStr, flags: i32) -> host_sys::Result<i32> {
    let flags = flags | libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NONBLOCK;
    match file::openat(dir, name, flags | libc::O_NOATIME, 0) {
        Err(E::EPERM) => file::openat(dir, name, flags, 0),
        r => r,
    }
}

/// pread(2) until `buf` is full or the file ends.
pub(super) fn read_full(fd: i32, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
    if i64::try_from(offset).is_err() {
        return Err(Errno::EINVAL);
    }
    let mut done = 0;
    while done < buf.len() {
        let at = offset.saturating_add(done as u64);
        match fd::pread(fd, &mut buf[done..], at) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(E::EINTR) => {}
            Err(_) if done > 0 => break,
            Err(e) => return Err(errno(e)),
        }
    }
    Ok(done)
}

/// Numbers of the file system at `fd`, in blocks of 4096 bytes.
pub(super) fn statfs(fd: i32) -> Result<[u64; 5], Errno> {
    let s = file::fstatfs(fd).map_err(errno)?;
    let unit = if s.f_frsize > 0 {
        s.f_frsize
    } else {
        s.f_bsize
    } as u64;
    let blocks = |n: u64| (u128::from(n) * u128::from(unit) / 4096).min(u64::MAX.into()) as u64;
    Ok([
        blocks(s.f_blocks),
        blocks(s.f_bfree),
        blocks(s.f_bavail),
        s.f_files,
        s.f_ffree,
    ])
}

/// A vector of `n` zero bytes, or ENOMEM.
fn buffer(n: usize) -> Result<Vec<u8>, Errno> {
    let mut v = Vec::new();
    v.try_reserve_exact(n).map_err(|_| Errno::ENOMEM)?;
    v.resize(n, 0);
    Ok(v)
}

impl HostTree {
    pub(super) fn stat_path(&self, path: &[u8]) -> Result<HostStat, Errno> {
        let st = self.at(path, |dir, name| file::statat(dir, name, NOFOLLOW))?;
        Ok(host_stat(&st))
    }

    pub(super) fn link_target(&self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        let mut buf = buffer(PATH_MAX + 1)?;
        let n = self.at(path, |dir, name| {
            // With an empty path the call would read what `dir` itself names: the top, never a link.
            if name.is_empty() {
                return Err(E::EINVAL);
            }
            file::readlinkat(dir, name, &mut buf)
        })?;
        buf.truncate(n);
        buf.shrink_to_fit();
        Ok(buf)
    }

    pub(super) fn entries(&self, path: &[u8]) -> Result<Vec<HostDirEntry>, Errno> {
        let fd = self.at(path, |dir, name| {
            let name = if name.is_empty() { c"." } else { name };
            open_quietly(
                dir,
                name,
                libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW,
            )
        })?;
        list(HostFd::new(fd).get())
    }

    /// Opens a regular file. Anything else is refused before it is opened:
    /// opening devices and pipes has effects on the host.
    pub(super) fn open_regular(
        &self,
        path: &[u8],
        write: bool,
    ) -> Result<(HostFd, libc::stat), Errno> {
        let fd = self.at(path, |dir, name| {
            if name.is_empty() {
                return Err(E::EISDIR);
            }
            only_regular(&file::statat(dir, name, NOFOLLOW)?)?;
            if write {
                let flags = libc::O_RDWR | libc::O_NOFOLLOW | libc::O_CLOEXEC;
                let flags = flags | libc::O_NOCTTY | libc::O_NONBLOCK;
                // A file that may be written but not read.
                match file::openat(dir, name, flags, 0) {
                    Err(E::EACCES) => {
                        let flags = flags & !libc::O_RDWR | libc::O_WRONLY;
                        file::openat(dir, name, flags, 0)
                    }
                    r => r,
                }
            } else {
                open_quietly(dir, name, libc::O_RDONLY | libc::O_NOFOLLOW)
            }
        })?;
        let fd = HostFd::new(fd);
        let st = file::fstat(fd.get()).map_err(errno)?;
        only_regular(&st).map_err(errno)?;
        Ok((fd, st))
    }

    pub(super) fn xattr(&self, path: &[u8], name: &[u8]) -> Result<Vec<u8>, Errno> {
        // XATTR_NAME_MAX is 255 as well.
        let attr = Name::new(name).map_err(|e| match e {
            Errno::ENAMETOOLONG => Errno::ERANGE,
            e => e,
        })?;
        self.xattr_call(
            path,
            |dir, file_name, buf| file::getxattrat(dir, file_name, attr.as_cstr(), buf),
            |fd, buf| file::fgetxattr(fd, attr.as_cstr(), buf),
        )
        .and_then(|v| v.ok_or(Errno::ENODATA))
    }

    pub(super) fn xattr_names(&self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        let v = self.xattr_call(path, file::listxattrat, file::flistxattr)?;
        Ok(v.unwrap_or_default())
    }

    /// An attribute call by path, or where the host lacks that, on a
    /// descriptor. `None`: not an object whose attributes can be reached that way.
    fn xattr_call(
        &self,
        path: &[u8],
        by_path: impl Fn(i32, &CStr, &mut [u8]) -> host_sys::Result<usize>,
        by_fd: impl Fn(i32, &mut [u8]) -> host_sys::Result<usize>,
    ) -> Result<Option<Vec<u8>>, Errno> {
        // Most attributes are absent or short.
        let mut buf = buffer(256)?;
        loop {
            let r = self.at(path, |dir, name| {
                // The call wants more than an O_PATH descriptor: the top by name.
                let name = if name.is_empty() { c"." } else { name };
                by_path(dir, name, &mut buf)
            });
            let r = match r {
                Err(Errno::ENOSYS) => self.xattr_by_fd(path, &mut buf, &by_fd)?,
                Ok(n) => Ok(Some(n)),
                Err(e) => Err(e),
            };
            match r {
                Ok(None) => return Ok(None),
                Ok(Some(n)) => {
                    buf.truncate(n);
                    return Ok(Some(buf));
                }
                Err(Errno::ERANGE) if buf.len() < XATTR_MAX => buf = buffer(XATTR_MAX)?,
                Err(e) => return Err(e),
            }
        }
    }

    fn xattr_by_fd(
        &self,
        path: &[u8],
        buf: &mut [u8],
        by_fd: &impl Fn(i32, &mut [u8]) -> host_sys::Result<usize>,
    ) -> Result<Result<Option<usize>, Errno>, Errno> {
        let fd = self.at(path, |dir, name| {
            let name = if name.is_empty() { c"." } else { name };
            let kind = file::statat(dir, name, NOFOLLOW)?.st_mode & libc::S_IFMT;
            if kind != libc::S_IFREG && kind != libc::S_IFDIR {
                return Ok(None);
            }
            match open_quietly(dir, name, libc::O_RDONLY | libc::O_NOFOLLOW) {
                Err(E::EACCES) => Ok(None),
                r => r.map(Some),
            }
        })?;
        let Some(fd) = fd.map(HostFd::new) else {
            return Ok(Ok(None));
        };
        Ok(by_fd(fd.get(), buf).map(Some).map_err(errno))
    }
}

fn only_regular(st: &libc::stat) -> host_sys::Result {
    match st.st_mode & libc::S_IFMT {
        libc::S_IFREG => Ok(()),
        libc::S_IFDIR => Err(E::EISDIR),
        libc::S_IFLNK => Err(E::ELOOP),
        _ => Err(E::ENXIO),
    }
}

/// Everything in the directory `fd` but `.` and `..`.
pub(crate) fn list(fd: i32) -> Result<Vec<HostDirEntry>, Errno> {
    let mut buf = buffer(DIR_BUF)?;
    let mut out = Vec::new();
    loop {
        let n = match file::getdents(fd, &mut buf) {
            Ok(0) => return Ok(out),
            Ok(n) => n,
            Err(E::EINTR) => continue,
            Err(e) => return Err(errno(e)),
        };
        take_entries(buf.get(..n).ok_or(Errno::EIO)?, &mut out)?;
    }
}

/// Decodes `struct linux_dirent64` records: ino (8), offset (8), length (2), type (1), name, NUL.
fn take_entries(mut records: &[u8], out: &mut Vec<HostDirEntry>) -> Result<(), Errno> {
    while let (Some(head), true) = (records.get(..19), records.len() > 19) {
        let ino = u64::from_ne_bytes(head[..8].try_into().map_err(|_| Errno::EIO)?);
        let len = usize::from(u16::from_ne_bytes([head[16], head[17]]));
        let record = records.get(19..len).ok_or(Errno::EIO)?;
        let name = record.split(|&b| b == 0).next().unwrap_or_default();
        if !matches!(name, b"." | b"..") {
            let mut copy = Vec::new();
            copy.try_reserve_exact(name.len())
                .map_err(|_| Errno::ENOMEM)?;
            copy.extend_from_slice(name);
            out.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            out.push(HostDirEntry {
                name: copy,
                ino,
                kind: head[18],
            });
        }
        records = records.get(len..).unwrap_or_default();
    }
    Ok(())
}
