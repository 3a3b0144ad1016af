//! open(2) and what exec opens.

use crate::cred::Access;
use crate::file::{Caller, File, FileOps, OpenFlags};
use crate::inode::{FileType, InodeRef, NewNode, SetAttr};
use crate::mount::MountFlags;
use crate::namei::{Walk, WalkFlags, instantiate, writes_to_fs};
use crate::notify::event;
use crate::path::{Dentry, Path};
use crate::state::WriteAccess;
use crate::walk::{Last, Walker, child, child_locked};
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::any::Any;

impl Walk<'_> {
    /// open(2), openat2(2) incl. O_CREAT, O_TMPFILE, O_PATH; `mode` before umask.
    pub fn open(
        &self,
        path: &[u8],
        oflags: OpenFlags,
        mode: u32,
        flags: WalkFlags,
    ) -> Result<Arc<File>> {
        let mut oflags = oflags;
        if oflags.contains(OpenFlags::PATH) {
            oflags &=
                OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW | OpenFlags::CLOEXEC;
        }
        if oflags.contains(OpenFlags::TMPFILE) {
            return self.open_tmpfile(path, oflags, mode, flags);
        }
        if oflags.contains(OpenFlags::CREAT) {
            if oflags.contains(OpenFlags::DIRECTORY) {
                return Err(Errno::EINVAL);
            }
            return self.open_create(path, oflags, mode, flags);
        }
        let mut w = Walker::new(self, path, flags)?;
        match self.open_existing(&mut w, path, oflags) {
            // The host has put another file there: look again, once.
            Err(Errno::ESTALE) => {
                w.cur.mnt.shared().dcache.remove(&w.cur.dentry);
                let mut w = Walker::new(self, path, flags)?;
                self.open_existing(&mut w, path, oflags)
            }
            r => r,
        }
    }

    fn open_existing(
        &self,
        w: &mut Walker<'_>,
        path: &[u8],
        oflags: OpenFlags,
    ) -> Result<Arc<File>> {
        w.full(path, !oflags.contains(OpenFlags::NOFOLLOW))?;
        if (w.trailing || oflags.contains(OpenFlags::DIRECTORY)) && !w.cur.dentry.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        open_place(self.cx, &w.cur, oflags)
    }

    fn open_tmpfile(
        &self,
        path: &[u8],
        oflags: OpenFlags,
        mode: u32,
        flags: WalkFlags,
    ) -> Result<Arc<File>> {
        if !oflags.contains(OpenFlags::DIRECTORY)
            || oflags.contains(OpenFlags::CREAT)
            || !oflags.writable()
        {
            return Err(Errno::EINVAL);
        }
        let mut w = Walker::new(self, path, flags)?;
        w.full(path, !oflags.contains(OpenFlags::NOFOLLOW))?;
        let dir = w.cur.inode()?;
        if !w.cur.dentry.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        w.cur.mnt.check_writable()?;
        w.cred.check(dir.perm()?, Access::WRITE | Access::EXEC)?;
        let mode = mode & 0o7777 & !self.fs.umask();
        let inode = dir.create_unnamed(mode, &w.cred)?;
        // Shown by /proc as a deleted file of that directory.
        let name = alloc::format!("#{}", inode.ino());
        let dentry = Dentry::new(&w.cur.dentry, name.as_bytes(), Some(inode));
        dentry.set_deleted();
        let place = Path {
            mnt: w.cur.mnt.clone(),
            dentry,
        };
        let keep = oflags.difference(OpenFlags::DIRECTORY | OpenFlags::TMPFILE);
        open_checked(self.cx, &place, keep.difference(OpenFlags::TRUNC))
    }

    fn open_create(
        &self,
        path: &[u8],
        oflags: OpenFlags,
        mode: u32,
        flags: WalkFlags,
    ) -> Result<Arc<File>> {
        let excl = oflags.contains(OpenFlags::EXCL);
        let mut w = Walker::new(self, path, flags)?;
        let mut last = w.parent(path)?;
        loop {
            let name = match last {
                Last::Name(name) => name,
                _ if excl => return Err(Errno::EEXIST),
                // A magic link may have led to a file.
                Last::None if !w.cur.dentry.is_dir() => {
                    return open_place(self.cx, &w.cur, oflags);
                }
                _ => return Err(Errno::EISDIR),
            };
            if w.trailing {
                return Err(Errno::EISDIR);
            }
            let found = child(&w.cur, name.as_bytes())?;
            let Some(inode) = found.inode() else {
                match self.create_locked(&w, name.as_bytes(), oflags, mode)? {
                    Some(file) => return Ok(file),
                    // Somebody else has made it: look again.
                    None => {
                        last = Last::Name(name);
                        continue;
                    }
                }
            };
            if excl {
                return Err(Errno::EEXIST);
            }
            if inode.file_type() == FileType::Symlink {
                if oflags.contains(OpenFlags::NOFOLLOW) {
                    return Err(Errno::ELOOP);
                }
                last = w.parent_of_link(&inode)?;
                continue;
            }
            w.enter(found)?;
            if w.cur.dentry.is_dir() {
                return Err(Errno::EISDIR);
            }
            return open_place(self.cx, &w.cur, oflags);
        }
    }

    /// Creates and opens a regular file; `None`: the name has come to exist meanwhile.
    fn create_locked(
        &self,
        w: &Walker<'_>,
        name: &[u8],
        oflags: OpenFlags,
        mode: u32,
    ) -> Result<Option<Arc<File>>> {
        let lock = w.cur.dentry.dir_lock()?.write();
        if child_locked(&w.cur, name)?.inode_ref().is_some() {
            return Ok(None);
        }
        let dir = w.cur.inode()?;
        if dir.absence_is_final() {
            return Err(Errno::ENOENT);
        }
        w.cur.mnt.check_writable()?;
        w.cred.check(dir.perm()?, Access::WRITE | Access::EXEC)?;
        let mode = mode & 0o7777 & !self.fs.umask();
        let inode = dir.create(name, NewNode::Regular, mode, &w.cred)?;
        let dentry = instantiate(&w.cur, name, inode);
        drop(lock);
        w.cur.mnt.shared().notify_dir(dir, event::CREATE, 0, name);
        let place = Path {
            mnt: w.cur.mnt.clone(),
            dentry,
        };
        // A new file may be opened whatever its mode says.
        open_checked(self.cx, &place, oflags.difference(OpenFlags::TRUNC)).map(Some)
    }

    /// Opens the program at `path` for execve(2): it may be executed, lies on a mount that allows it, and nobody
    /// writes to it; nobody can open it for writing while the result lives. [`Errno::EACCES`], [`Errno::ETXTBSY`].
    pub fn open_exec(&self, path: &Path) -> Result<Arc<File>> {
        let inode = path.inode()?;
        if inode.file_type() == FileType::Symlink {
            return Err(Errno::ELOOP);
        }
        if inode.file_type() != FileType::Regular || path.mnt.flags().contains(MountFlags::NOEXEC) {
            return Err(Errno::EACCES);
        }
        let cred = self.cx.cred();
        cred.check(inode.perm()?, Access::EXEC)?;
        let access = WriteAccess::deny(inode)?;
        let flags = OpenFlags::LARGEFILE;
        let ops = inode.open(inode, flags, self.cx)?;
        let file = File::with_access(ops, inode.clone(), Some(path.clone()), flags, cred, access);
        path.mnt.shared().notify_dentry(&path.dentry, event::OPEN);
        Ok(file)
    }
}

/// Opens a place after checking that the caller may.
pub(crate) fn open_place(cx: &dyn Caller, path: &Path, oflags: OpenFlags) -> Result<Arc<File>> {
    let inode = path.inode()?;
    let kind = inode.file_type();
    if oflags.contains(OpenFlags::PATH) {
        let ops: Arc<dyn FileOps> = Arc::new(PathOnly);
        return Ok(File::new(
            ops,
            inode.clone(),
            Some(path.clone()),
            oflags,
            cx.cred(),
        ));
    }
    if oflags.contains(OpenFlags::DIRECTORY) && kind != FileType::Dir {
        return Err(Errno::ENOTDIR);
    }
    let mut want = match oflags.bits() & 3 {
        0 => Access::READ,
        1 => Access::WRITE,
        _ => Access::READ | Access::WRITE,
    };
    if oflags.contains(OpenFlags::TRUNC) {
        want |= Access::WRITE;
    }
    match kind {
        FileType::Symlink => return Err(Errno::ELOOP),
        FileType::Dir if want.contains(Access::WRITE) => return Err(Errno::EISDIR),
        FileType::Char | FileType::Block if path.mnt.flags().contains(MountFlags::NODEV) => {
            return Err(Errno::EACCES);
        }
        _ => {}
    }
    if want.contains(Access::WRITE) && writes_to_fs(kind) {
        path.mnt.check_writable()?;
    }
    let perm = inode.perm()?;
    let cred = cx.cred();
    cred.check(perm, want)?;
    if oflags.contains(OpenFlags::NOATIME) && !cred.owns(perm) {
        return Err(Errno::EPERM);
    }
    open_checked(cx, path, oflags)
}

/// Opens without a permission check.
fn open_checked(cx: &dyn Caller, path: &Path, oflags: OpenFlags) -> Result<Arc<File>> {
    let inode = path.inode()?;
    let regular = inode.file_type() == FileType::Regular;
    let trunc = regular && oflags.contains(OpenFlags::TRUNC);
    let access = match regular && (oflags.writable() || trunc) {
        true => WriteAccess::write(inode)?,
        false => None,
    };
    let ops = open_ops(cx, path, inode, oflags)?;
    if trunc {
        crate::attr::truncate(cx, inode, 0)?;
        path.mnt.shared().notify_dentry(&path.dentry, event::MODIFY);
    }
    let file = File::with_access(
        ops,
        inode.clone(),
        Some(path.clone()),
        oflags,
        cx.cred(),
        access.filter(|_| oflags.writable()),
    );
    path.mnt.shared().notify_dentry(&path.dentry, event::OPEN);
    Ok(file)
}

/// Finds the behaviour: the file system's, a driver's, a pipe's.
fn open_ops(
    cx: &dyn Caller,
    path: &Path,
    inode: &InodeRef,
    oflags: OpenFlags,
) -> Result<Arc<dyn FileOps>> {
    let placed = !Arc::ptr_eq(&path.mnt, &path.mnt.shared().anon_mount());
    match inode.file_type() {
        FileType::Socket => Err(Errno::ENXIO),
        kind @ (FileType::Char | FileType::Block) if placed => {
            let rdev = inode.attr()?.rdev;
            let opened = match cx.devices() {
                Some(table) => table.open(kind, rdev, inode, oflags, cx),
                None => Err(Errno::ENXIO),
            };
            match opened {
                // A file system may have drivers of its own.
                Err(Errno::ENXIO) => inode.open(inode, oflags, cx),
                r => r,
            }
        }
        FileType::Fifo => cx
            .devices()
            .ok_or(Errno::ENXIO)?
            .open_fifo(inode, oflags, cx),
        _ => inode.open(inode, oflags, cx),
    }
}

/// An O_PATH file: it only names a place.
struct PathOnly;

impl FileOps for PathOnly {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn read(
        &self,
        _f: &File,
        _cx: &dyn Caller,
        _pos: u64,
        _dst: &mut dyn mm::io::Sink,
    ) -> Result<usize> {
        Err(Errno::EBADF)
    }
    fn write(
        &self,
        _f: &File,
        _cx: &dyn Caller,
        _pos: u64,
        _src: &mut dyn mm::io::Source,
    ) -> Result<usize> {
        Err(Errno::EBADF)
    }
    fn fsync(&self, _f: &File, _data_only: bool) -> Result {
        Err(Errno::EBADF)
    }
    fn ioctl(&self, _f: &File, _cx: &dyn Caller, _cmd: u32, _arg: u64) -> Result<u64> {
        Err(Errno::EBADF)
    }
    fn mmap(&self, _f: &File, _shared: bool) -> Result<crate::file::MmapBacking> {
        Err(Errno::EBADF)
    }
    fn read_dir(&self, _f: &File, _pos: u64, _emit: &mut crate::inode::DirEmit<'_>) -> Result {
        Err(Errno::EBADF)
    }
}

/// Helper of truncation: only the size.
pub(crate) fn size_only(size: u64) -> SetAttr {
    SetAttr {
        size: Some(size),
        ..SetAttr::default()
    }
}
