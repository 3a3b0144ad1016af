//! Attributes of files: stat(2), statx(2), statfs(2), access(2), chmod(2), chown(2), utimensat(2), truncate(2).

use crate::args::{DirFd, Fd, Id, In, Mode, Out, PathPtr};
use crate::cx::{self, CWD, mm, walk_flags};
use crate::flags::{AccessFlags, AccessMode, AtFlags, StatxMask};
use abi::stat::{Stat, Statfs, Statx, StatxTime, major, minor};
use abi::time::{Timespec, Timeval, Utimbuf};
use abi::{Errno, Result};
use alloc::sync::Arc;
use task::Ctx;
use vfs::mount::MountFlags;
use vfs::namei::{self, Change, Touch, WalkFlags};
use vfs::{Attr, FileType, Path};

fn to_stat(a: &Attr) -> Stat {
    Stat {
        dev: a.dev,
        ino: a.ino,
        nlink: u64::from(a.nlink),
        mode: a.mode,
        uid: a.uid,
        gid: a.gid,
        rdev: a.rdev,
        size: a.size as i64,
        blksize: i64::from(a.blksize),
        blocks: a.blocks as i64,
        atime: Timespec::from_ns_signed(a.atime),
        mtime: Timespec::from_ns_signed(a.mtime),
        ctime: Timespec::from_ns_signed(a.ctime),
        ..Stat::default()
    }
}

/// Attributes by path: `stat(2)`.
pub fn sys_stat(cx: &Ctx, path: PathPtr, buf: Out<Stat>) -> Result {
    let p = cx::lookup(cx, CWD, path, WalkFlags::FOLLOW)?;
    buf.put(mm(cx), &to_stat(&namei::stat(&p)?))
}

/// Attributes by path, of the link itself: `lstat(2)`.
pub fn sys_lstat(cx: &Ctx, path: PathPtr, buf: Out<Stat>) -> Result {
    let p = cx::lookup(cx, CWD, path, WalkFlags::empty())?;
    buf.put(mm(cx), &to_stat(&namei::stat(&p)?))
}

/// Attributes of an open file: `fstat(2)`.
pub fn sys_fstat(cx: &Ctx, fd: Fd, buf: Out<Stat>) -> Result {
    let f = cx::any_file(cx, fd)?;
    buf.put(mm(cx), &to_stat(&f.inode.attr()?))
}

/// What a directory, a path and `AT_EMPTY_PATH` name: attributes and the place if there is one.
fn attributes(cx: &Ctx, dir: DirFd, path: PathPtr, flags: u32) -> Result<(Attr, Option<Path>)> {
    let empty_ok = flags & AtFlags::AT_EMPTY_PATH != 0;
    let name = if path.0 == 0 && empty_ok {
        alloc::vec::Vec::new()
    } else {
        cx::path(cx, path)?
    };
    if name.is_empty() && empty_ok && dir != CWD {
        // Also for files without a place: pipes, sockets.
        let f = cx::any_file(cx, Fd(dir.0))?;
        return Ok((f.inode.attr()?, f.path.clone()));
    }
    let p = cx.walk_at(dir.0, &name)?.lookup(&name, walk_flags(flags))?;
    Ok((namei::stat(&p)?, Some(p)))
}

/// Attributes relative to a directory: `fstatat(2)`.
pub fn sys_newfstatat(
    cx: &Ctx,
    dir: DirFd,
    path: PathPtr,
    buf: Out<Stat>,
    flags: AtFlags,
) -> Result {
    type F = AtFlags;
    let sync = F::AT_STATX_FORCE_SYNC | F::AT_STATX_DONT_SYNC;
    if flags.beyond(F::AT_SYMLINK_NOFOLLOW | F::AT_NO_AUTOMOUNT | F::AT_EMPTY_PATH | sync) {
        return Err(Errno::EINVAL);
    }
    let (attr, _) = attributes(cx, dir, path, flags.0)?;
    buf.put(mm(cx), &to_stat(&attr))
}

/// Attributes as asked for: `statx(2)`.
pub fn sys_statx(
    cx: &Ctx,
    dir: DirFd,
    path: PathPtr,
    flags: AtFlags,
    mask: StatxMask,
    buf: Out<Statx>,
) -> Result {
    type F = AtFlags;
    let sync = F::AT_STATX_FORCE_SYNC | F::AT_STATX_DONT_SYNC;
    if mask.0 & 0x8000_0000 != 0 || flags.0 & sync == sync {
        return Err(Errno::EINVAL);
    }
    if flags.beyond(F::AT_SYMLINK_NOFOLLOW | F::AT_NO_AUTOMOUNT | F::AT_EMPTY_PATH | sync) {
        return Err(Errno::EINVAL);
    }
    let (a, place) = attributes(cx, dir, path, flags.0)?;
    let time = |ns| {
        let t = Timespec::from_ns_signed(ns);
        StatxTime {
            sec: t.sec,
            nsec: t.nsec as u32,
            pad: 0,
        }
    };
    // STATX_BASIC_STATS.
    let mut known = 0x7ff;
    if a.btime != 0 {
        known |= StatxMask::STATX_BTIME;
    }
    const MOUNT_ROOT: u64 = 0x2000;
    let mut attributes = 0;
    let mut mnt_id = 0;
    if let Some(p) = &place {
        let unique = mask.has(StatxMask::STATX_MNT_ID_UNIQUE);
        known |= if unique {
            StatxMask::STATX_MNT_ID_UNIQUE
        } else {
            StatxMask::STATX_MNT_ID
        };
        mnt_id = p.mnt.id();
        if Arc::ptr_eq(&p.dentry, &p.mnt.root().dentry) {
            attributes |= MOUNT_ROOT;
        }
    }
    let out = Statx {
        mask: known,
        blksize: a.blksize,
        attributes,
        nlink: a.nlink,
        uid: a.uid,
        gid: a.gid,
        mode: a.mode as u16,
        ino: a.ino,
        size: a.size,
        blocks: a.blocks,
        attributes_mask: MOUNT_ROOT,
        atime: time(a.atime),
        btime: time(a.btime),
        ctime: time(a.ctime),
        mtime: time(a.mtime),
        rdev_major: major(a.rdev),
        rdev_minor: minor(a.rdev),
        dev_major: major(a.dev),
        dev_minor: minor(a.dev),
        mnt_id,
        ..Statx::default()
    };
    buf.put(mm(cx), &out)
}

fn statfs_of(p: &Path) -> Result<Statfs> {
    let s = namei::statfs(p)?;
    let flags = p.mnt.flags();
    // ST_VALID, and the ST_* bits of the mount.
    let mut st = 0x20;
    for (m, bit) in [
        (MountFlags::RDONLY, 1),
        (MountFlags::NOSUID, 2),
        (MountFlags::NODEV, 4),
        (MountFlags::NOEXEC, 8),
        (MountFlags::NOATIME, 0x400),
        (MountFlags::NODIRATIME, 0x800),
        (MountFlags::RELATIME, 0x1000),
    ] {
        if flags.contains(m) {
            st |= bit;
        }
    }
    let dev = p.mnt.sb.dev();
    Ok(Statfs {
        f_type: p.mnt.sb.magic() as i64,
        bsize: s.bsize as i64,
        blocks: s.blocks,
        bfree: s.bfree,
        bavail: s.bavail,
        files: s.files,
        ffree: s.ffree,
        fsid: [dev as i32, (dev >> 32) as i32],
        namelen: s.namelen as i64,
        frsize: s.bsize as i64,
        flags: st,
        spare: [0; 4],
    })
}

/// The file system at a path: `statfs(2)`.
pub fn sys_statfs(cx: &Ctx, path: PathPtr, buf: Out<Statfs>) -> Result {
    let p = cx::lookup(cx, CWD, path, WalkFlags::FOLLOW)?;
    buf.put(mm(cx), &statfs_of(&p)?)
}

/// The file system of an open file: `fstatfs(2)`.
pub fn sys_fstatfs(cx: &Ctx, fd: Fd, buf: Out<Statfs>) -> Result {
    let f = cx::any_file(cx, fd)?;
    let out = match &f.path {
        Some(p) => statfs_of(p)?,
        None => {
            let sb = f.inode.super_block();
            let s = sb.statfs()?;
            Statfs {
                f_type: sb.magic() as i64,
                bsize: s.bsize as i64,
                namelen: s.namelen as i64,
                frsize: s.bsize as i64,
                flags: 0x20,
                ..Statfs::default()
            }
        }
    };
    buf.put(mm(cx), &out)
}

/// Checks access with the real ids: `access(2)`.
pub fn sys_access(cx: &Ctx, path: PathPtr, mode: AccessMode) -> Result {
    sys_faccessat2(cx, CWD, path, mode, AccessFlags(0))
}

/// Checks access relative to a directory: `faccessat(2)` without flags.
pub fn sys_faccessat(cx: &Ctx, dir: DirFd, path: PathPtr, mode: AccessMode) -> Result {
    sys_faccessat2(cx, dir, path, mode, AccessFlags(0))
}

/// Checks access with flags: `faccessat2(2)`.
pub fn sys_faccessat2(
    cx: &Ctx,
    dir: DirFd,
    path: PathPtr,
    mode: AccessMode,
    flags: AccessFlags,
) -> Result {
    if mode.beyond(AccessMode::ALL) || flags.beyond(AccessFlags::ALL) {
        return Err(Errno::EINVAL);
    }
    let real = !flags.has(AccessFlags::AT_EACCESS);
    let mut w = walk_flags(flags.0);
    if real {
        w |= WalkFlags::REAL_IDS;
    }
    let name = cx::path(cx, path)?;
    let walk = cx.walk_at(dir.0, &name)?;
    let p = walk.lookup(&name, w)?;
    walk.access(&p, mode.0, real)
}

fn change(cx: &Ctx, dir: DirFd, path: PathPtr, flags: WalkFlags, c: Change) -> Result {
    let name = cx::path(cx, path)?;
    let walk = cx.walk_at(dir.0, &name)?;
    let p = walk.lookup(&name, flags)?;
    walk.set_attr(&p, c)
}

/// Sets permission bits: `chmod(2)`.
pub fn sys_chmod(cx: &Ctx, path: PathPtr, mode: Mode) -> Result {
    sys_fchmodat(cx, CWD, path, mode)
}

/// Sets permission bits of an open file: `fchmod(2)`.
pub fn sys_fchmod(cx: &Ctx, fd: Fd, mode: Mode) -> Result {
    let f = cx::file(cx, fd)?;
    namei::set_attr_of(cx, &f, Change::Mode(mode.0 & 0o7777))
}

/// Sets permission bits relative to a directory: `fchmodat(2)` without flags.
pub fn sys_fchmodat(cx: &Ctx, dir: DirFd, path: PathPtr, mode: Mode) -> Result {
    change(
        cx,
        dir,
        path,
        WalkFlags::FOLLOW,
        Change::Mode(mode.0 & 0o7777),
    )
}

/// Sets permission bits with flags: `fchmodat2(2)`.
pub fn sys_fchmodat2(cx: &Ctx, dir: DirFd, path: PathPtr, mode: Mode, flags: AtFlags) -> Result {
    if flags.beyond(AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_EMPTY_PATH) {
        return Err(Errno::EINVAL);
    }
    let name = cx::path(cx, path)?;
    let walk = cx.walk_at(dir.0, &name)?;
    let p = walk.lookup(&name, walk_flags(flags.0))?;
    let kind = p.dentry.inode().ok_or(Errno::ENOENT)?.file_type();
    if kind == FileType::Symlink {
        return Err(Errno::EOPNOTSUPP);
    }
    walk.set_attr(&p, Change::Mode(mode.0 & 0o7777))
}

/// Sets the owner: `chown(2)`.
pub fn sys_chown(cx: &Ctx, path: PathPtr, owner: Id, group: Id) -> Result {
    sys_fchownat(cx, CWD, path, owner, group, AtFlags(0))
}

/// Sets the owner of a link itself: `lchown(2)`.
pub fn sys_lchown(cx: &Ctx, path: PathPtr, owner: Id, group: Id) -> Result {
    let flags = AtFlags(AtFlags::AT_SYMLINK_NOFOLLOW);
    sys_fchownat(cx, CWD, path, owner, group, flags)
}

/// Sets the owner of an open file: `fchown(2)`.
pub fn sys_fchown(cx: &Ctx, fd: Fd, owner: Id, group: Id) -> Result {
    let f = cx::file(cx, fd)?;
    namei::set_attr_of(cx, &f, Change::Owner(owner.get(), group.get()))
}

/// Sets the owner relative to a directory: `fchownat(2)`.
pub fn sys_fchownat(
    cx: &Ctx,
    dir: DirFd,
    path: PathPtr,
    owner: Id,
    group: Id,
    flags: AtFlags,
) -> Result {
    if flags.beyond(AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_EMPTY_PATH) {
        return Err(Errno::EINVAL);
    }
    let c = Change::Owner(owner.get(), group.get());
    change(cx, dir, path, walk_flags(flags.0), c)
}

/// Sets the file mode creation mask: `umask(2)`.
pub fn sys_umask(cx: &Ctx, mask: Mode) -> Result<u32> {
    Ok(cx.fs().set_umask(mask.0 & 0o777))
}

/// `tv_nsec` of "now".
const UTIME_NOW: i64 = 0x3fff_ffff;
/// `tv_nsec` of "leave".
const UTIME_OMIT: i64 = 0x3fff_fffe;

fn touch(t: Timespec) -> Result<Touch> {
    Ok(match t.nsec {
        UTIME_NOW => Touch::Now,
        UTIME_OMIT => Touch::Keep,
        _ => Touch::At(t.to_ns_signed()?),
    })
}

fn set_times(
    cx: &Ctx,
    dir: DirFd,
    path: PathPtr,
    times: Option<[Touch; 2]>,
    flags: AtFlags,
) -> Result {
    let [a, m] = times.unwrap_or([Touch::Now; 2]);
    let c = Change::Times(a, m);
    if path.0 == 0 && dir != CWD {
        if flags.0 != 0 {
            return Err(Errno::EINVAL);
        }
        let f = cx::file(cx, Fd(dir.0))?;
        return namei::set_attr_of(cx, &f, c);
    }
    if flags.beyond(AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_EMPTY_PATH) {
        return Err(Errno::EINVAL);
    }
    change(cx, dir, path, walk_flags(flags.0), c)
}

/// Sets time stamps in nanoseconds: `utimensat(2)`.
pub fn sys_utimensat(
    cx: &Ctx,
    dir: DirFd,
    path: PathPtr,
    times: In<[Timespec; 2]>,
    flags: AtFlags,
) -> Result {
    let times = match times.get_opt(mm(cx))? {
        Some([a, m]) if a.nsec == UTIME_OMIT && m.nsec == UTIME_OMIT => return Ok(()),
        Some([a, m]) => Some([touch(a)?, touch(m)?]),
        None => None,
    };
    set_times(cx, dir, path, times, flags)
}

fn timevals(cx: &Ctx, times: In<[Timeval; 2]>) -> Result<Option<[Touch; 2]>> {
    let at = |t: Timeval| {
        if !(0..1_000_000).contains(&t.usec) {
            return Err(Errno::EINVAL);
        }
        let spec = Timespec {
            sec: t.sec,
            nsec: t.usec * 1000,
        };
        spec.to_ns_signed().map(Touch::At)
    };
    match times.get_opt(mm(cx))? {
        Some([a, m]) => Ok(Some([at(a)?, at(m)?])),
        None => Ok(None),
    }
}

/// Sets time stamps in microseconds, relative to a directory: `futimesat(2)`.
pub fn sys_futimesat(cx: &Ctx, dir: DirFd, path: PathPtr, times: In<[Timeval; 2]>) -> Result {
    let times = timevals(cx, times)?;
    set_times(cx, dir, path, times, AtFlags(0))
}

/// Sets time stamps in microseconds: `utimes(2)`.
pub fn sys_utimes(cx: &Ctx, path: PathPtr, times: In<[Timeval; 2]>) -> Result {
    let times = timevals(cx, times)?;
    set_times(cx, CWD, path, times, AtFlags(0))
}

/// Sets time stamps in seconds: `utime(2)`.
pub fn sys_utime(cx: &Ctx, path: PathPtr, times: In<Utimbuf>) -> Result {
    let at = |sec| {
        let t = Timespec { sec, nsec: 0 };
        t.to_ns_signed().map(Touch::At)
    };
    let times = match times.get_opt(mm(cx))? {
        Some(t) => Some([at(t.actime)?, at(t.modtime)?]),
        None => None,
    };
    set_times(cx, CWD, path, times, AtFlags(0))
}

fn size(length: i64) -> Result<u64> {
    u64::try_from(length).map_err(|_| Errno::EINVAL)
}

/// Sets the size of a file: `truncate(2)`.
pub fn sys_truncate(cx: &Ctx, path: PathPtr, length: i64) -> Result {
    let length = size(length)?;
    let name = cx::path(cx, path)?;
    let walk = cx::here(cx);
    let p = walk.lookup(&name, WalkFlags::FOLLOW)?;
    match p.dentry.inode().ok_or(Errno::ENOENT)?.file_type() {
        FileType::Dir => return Err(Errno::EISDIR),
        FileType::Regular => {}
        _ => return Err(Errno::EINVAL),
    }
    within_limit(cx, length)?;
    walk.set_attr(&p, Change::Size(length))
}

/// Sets the size of an open file: `ftruncate(2)`.
pub fn sys_ftruncate(cx: &Ctx, fd: Fd, length: i64) -> Result {
    let length = size(length)?;
    let f = cx::file(cx, fd)?;
    if f.inode.file_type() != FileType::Regular || !f.flags().writable() {
        return Err(Errno::EINVAL);
    }
    within_limit(cx, length)?;
    namei::set_attr_of(cx, &f, Change::Size(length))
}

/// RLIMIT_FSIZE of a new size. [`Errno::EFBIG`] with SIGXFSZ.
fn within_limit(cx: &Ctx, length: u64) -> Result {
    if length > cx::limit(cx, crate::flags::Resource::RLIMIT_FSIZE) {
        cx::send_self(cx, abi::signal::SIGXFSZ);
        return Err(Errno::EFBIG);
    }
    Ok(())
}
