//! Operations that change the host, on trees that allow it (`--bind` without `:ro`).

use super::{HostTree, errno};
use crate::dir::fds::HostFd;
use abi::Errno;
use hal::dev::HostFile;
use host_sys::Errno as E;
use host_sys::{fd, file};
use std::ffi::{CStr, CString};

const NOFOLLOW: i32 = libc::AT_SYMLINK_NOFOLLOW;

impl HostTree {
    fn check_writable(&self) -> Result<(), Errno> {
        if self.writable {
            Ok(())
        } else {
            Err(Errno::EROFS)
        }
    }

    /// As [`HostTree::at`] on a writable tree, for a name below the top.
    fn change<T>(
        &self,
        path: &[u8],
        mut f: impl FnMut(i32, &CStr) -> host_sys::Result<T>,
    ) -> Result<T, Errno> {
        self.check_writable()?;
        if path.is_empty() {
            return Err(Errno::EBUSY);
        }
        self.at(path, |dir, name| f(dir, name))
    }

    pub(super) fn write_file(&self, f: HostFile, buf: &[u8], offset: u64) -> Result<usize, Errno> {
        self.check_writable()?;
        if !self.fds.is_writable(self.id, f)? {
            return Err(Errno::EBADF);
        }
        if i64::try_from(offset).is_err() {
            return Err(Errno::EINVAL);
        }
        let fd = self.fd(f)?;
        let mut done = 0;
        while done < buf.len() {
            match fd::pwrite(fd.get(), &buf[done..], offset.saturating_add(done as u64)) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(E::EINTR) => {}
                Err(_) if done > 0 => break,
                Err(e) => return Err(errno(e)),
            }
        }
        Ok(done)
    }

    pub(super) fn set_size(&self, path: &[u8], size: u64) -> Result<(), Errno> {
        self.check_writable()?;
        let (fd, _) = self.open_regular(path, true)?;
        file_size(fd.get(), size)
    }

    pub(super) fn make(&self, path: &[u8], mode: u32) -> Result<(), Errno> {
        self.change(path, |dir, name| match mode & libc::S_IFMT {
            libc::S_IFDIR => file::mkdirat(dir, name, mode & 0o7777),
            // Sockets and pipes are names only: the guest's kernel gives them meaning.
            0 | libc::S_IFREG | libc::S_IFIFO | libc::S_IFSOCK => file::mknodat(dir, name, mode, 0),
            // Device nodes would be the host's devices.
            _ => Err(E::EPERM),
        })
    }

    pub(super) fn make_link(&self, path: &[u8], target: &[u8]) -> Result<(), Errno> {
        let target = CString::new(target).map_err(|_| Errno::EINVAL)?;
        self.change(path, |dir, name| file::symlinkat(&target, dir, name))
    }

    pub(super) fn hard_link(&self, old: &[u8], new: &[u8]) -> Result<(), Errno> {
        self.pair(old, new, file::linkat)
    }

    /// Calls `f` with directory and name of two paths.
    fn pair<T>(
        &self,
        old: &[u8],
        new: &[u8],
        f: impl Fn(i32, &CStr, i32, &CStr) -> host_sys::Result<T>,
    ) -> Result<T, Errno> {
        self.check_writable()?;
        // Held across the inner step, so that its number stays valid.
        let (dir, name) = crate::dir::path::split(old)?;
        if name.is_empty() || new.is_empty() {
            return Err(Errno::EBUSY);
        }
        let old_name = crate::dir::path::Name::new(name)?;
        let old_dir = self.dir(dir)?;
        self.at(new, |nd, nn| f(old_dir.get(), old_name.as_cstr(), nd, nn))
    }

    /// Opens the files at `path` whose descriptors are closed, and keeps them:
    /// the name is about to go.
    fn hold_open(&self, path: &[u8]) -> Vec<HostFile> {
        let files = self.fds.at(self.id, path);
        self.fds.pin(&files, true);
        for f in &files {
            // A file that cannot be opened any more is lost to its users already.
            let _ = self.fd(*f);
        }
        files
    }

    pub(super) fn unlink(&self, path: &[u8], dir: bool) -> Result<(), Errno> {
        self.check_writable()?;
        crate::dir::path::check(path)?;
        let held = if dir {
            Vec::new()
        } else {
            self.hold_open(path)
        };
        let flags = if dir { libc::AT_REMOVEDIR } else { 0 };
        let r = self.change(path, |d, name| file::unlinkat(d, name, flags));
        if r.is_err() {
            self.fds.pin(&held, false);
        } else if dir {
            self.fds.forget_dirs(self.id, path);
        }
        r
    }

    pub(super) fn move_to(&self, old: &[u8], new: &[u8], flags: u32) -> Result<(), Errno> {
        self.check_writable()?;
        crate::dir::path::check(old)?;
        crate::dir::path::check(new)?;
        let exchange = flags & libc::RENAME_EXCHANGE != 0;
        let replaced = if exchange || old == new {
            Vec::new()
        } else {
            self.hold_open(new)
        };
        let r = self.pair(old, new, |od, on, nd, nn| {
            file::renameat2(od, on, nd, nn, flags)
        });
        if r.is_err() || same_file(self, old, new) {
            self.fds.pin(&replaced, false);
            return r;
        }
        self.fds.forget_dirs(self.id, old);
        self.fds.forget_dirs(self.id, new);
        if exchange {
            // A name no path can have stands in between.
            let aside = b"\0aside";
            self.fds.renamed(self.id, old, aside);
            self.fds.renamed(self.id, new, old);
            self.fds.renamed(self.id, aside, new);
        } else {
            self.fds.renamed(self.id, old, new);
        }
        r
    }

    pub(super) fn set_attributes(
        &self,
        path: &[u8],
        mode: Option<u32>,
        (uid, gid): (Option<u32>, Option<u32>),
        (atime_ns, mtime_ns): (Option<i64>, Option<i64>),
    ) -> Result<(), Errno> {
        self.check_writable()?;
        self.at(path, |dir, name| {
            let name = if name.is_empty() { c"." } else { name };
            // chown(2) clears set-id bits, so it comes before chmod(2).
            if uid.is_some() || gid.is_some() {
                let keep = u32::MAX;
                file::fchownat(
                    dir,
                    name,
                    uid.unwrap_or(keep),
                    gid.unwrap_or(keep),
                    NOFOLLOW,
                )?;
            }
            if let Some(mode) = mode {
                change_mode(dir, name, mode & 0o7777)?;
            }
            if atime_ns.is_some() || mtime_ns.is_some() {
                file::utimensat(dir, name, atime_ns, mtime_ns, NOFOLLOW)?;
            }
            Ok(())
        })
    }
}

/// Whether a rename did nothing because both names are the same file.
fn same_file(tree: &HostTree, old: &[u8], new: &[u8]) -> bool {
    match (tree.stat_path(old), tree.stat_path(new)) {
        (Ok(a), Ok(b)) => (a.dev, a.ino) == (b.dev, b.ino),
        _ => false,
    }
}

fn file_size(fd: i32, size: u64) -> Result<(), Errno> {
    if i64::try_from(size).is_err() {
        return Err(Errno::EINVAL);
    }
    fd::ftruncate(fd, size).map_err(errno)
}

/// chmod(2) that does not follow a link put in the way.
fn change_mode(dir: i32, name: &CStr, mode: u32) -> host_sys::Result {
    match file::fchmodat2(dir, name, mode, NOFOLLOW) {
        // Before Linux 6.6: through a descriptor, which needs read permission.
        Err(E::ENOSYS | E::EPERM) => {}
        r => return r,
    }
    let kind = file::statat(dir, name, NOFOLLOW)?.st_mode & libc::S_IFMT;
    if kind != libc::S_IFREG && kind != libc::S_IFDIR {
        return Err(E::EOPNOTSUPP);
    }
    let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let fd = HostFd::new(file::openat(dir, name, flags, 0)?);
    file::fchmod(fd.get(), mode)
}
