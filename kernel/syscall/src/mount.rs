//! Mounts: mount(2), umount2(2), pivot_root(2).

use crate::args::{PathPtr, Ptr};
use crate::cx::{self, CWD, mm};
use crate::flags::{MountArg, UmountFlags};
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use task::Ctx;
use vfs::cred::cap;
use vfs::mount::MountFlags;
use vfs::namei::WalkFlags;
use vfs::{FileType, Path};

type F = MountArg;

/// A string argument that may be NULL. [`Errno::EINVAL`] if too long.
fn string(cx: &Ctx, p: PathPtr) -> Result<Option<Vec<u8>>> {
    if p.0 == 0 {
        return Ok(None);
    }
    match mm(cx).read_cstr(p.0, abi::io::PATH_MAX - 1) {
        Err(Errno::ENAMETOOLONG) => Err(Errno::EINVAL),
        r => r.map(Some),
    }
}

/// Options: a string of at most a page.
fn options(cx: &Ctx, p: Ptr) -> Result<Vec<u8>> {
    if p.0 == 0 {
        return Ok(Vec::new());
    }
    let mut buf = alloc::vec![0; hal::PAGE_SIZE];
    let n = mm(cx).read_partial(p.0, &mut buf, false);
    if n == 0 {
        return Err(Errno::EFAULT);
    }
    buf.truncate(n);
    let end = buf.iter().position(|b| *b == 0).unwrap_or(n);
    buf.truncate(end);
    Ok(buf)
}

fn mount_flags(f: F) -> MountFlags {
    let mut out = MountFlags::from_bits_truncate(f.0)
        & (MountFlags::RDONLY
            | MountFlags::NOSUID
            | MountFlags::NODEV
            | MountFlags::NOEXEC
            | MountFlags::NOATIME
            | MountFlags::NODIRATIME);
    if !f.has(F::MS_NOATIME | F::MS_STRICTATIME) {
        out |= MountFlags::RELATIME;
    }
    if f.has(F::MS_STRICTATIME) {
        out.remove(MountFlags::NOATIME);
    }
    out
}

/// Whether a place is the root of its mount.
fn is_mount_root(p: &Path) -> bool {
    Arc::ptr_eq(&p.dentry, &p.mnt.root().dentry)
}

/// Mounts, binds, moves or changes a mount: `mount(2)`.
pub fn sys_mount(
    cx: &Ctx,
    source: PathPtr,
    target: PathPtr,
    fstype: PathPtr,
    flags: MountArg,
    data: Ptr,
) -> Result {
    const MAGIC_MASK: u64 = 0xffff_0000;
    const MAGIC: u64 = 0xc0ed_0000;
    let fstype = string(cx, fstype)?;
    let source_name = string(cx, source)?;
    let data = options(cx, data)?;
    let at = cx::lookup(cx, CWD, target, WalkFlags::FOLLOW)?;
    cx.require(cap::SYS_ADMIN)?;
    let flags = if flags.0 & MAGIC_MASK == MAGIC {
        MountArg(flags.0 & !MAGIC_MASK)
    } else {
        flags
    };
    let ns = cx.kernel().mounts();
    const PROPAGATION: u64 = F::MS_SHARED | F::MS_PRIVATE | F::MS_SLAVE | F::MS_UNBINDABLE;
    if flags.has(F::MS_REMOUNT) {
        if !is_mount_root(&at) {
            return Err(Errno::EINVAL);
        }
        return if flags.has(F::MS_BIND) {
            ns.remount_bind(&at, mount_flags(flags))
        } else {
            ns.remount(&at, mount_flags(flags), &data)
        };
    }
    if flags.has(F::MS_BIND) {
        let from = source_path(cx, source_name.as_deref())?;
        return ns.bind(&from, &at, flags.has(F::MS_REC)).map(drop);
    }
    if flags.has(PROPAGATION) {
        if flags.0 & !(PROPAGATION | F::MS_REC | F::MS_SILENT) != 0
            || (flags.0 & PROPAGATION).count_ones() != 1
            || !is_mount_root(&at)
        {
            return Err(Errno::EINVAL);
        }
        // Every mount is private, which a slave without a master is too.
        return if flags.has(F::MS_PRIVATE | F::MS_SLAVE) {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        };
    }
    if flags.has(F::MS_MOVE) {
        let from = source_path(cx, source_name.as_deref())?;
        return ns.move_mount(&from, &at);
    }
    let fstype = fstype.ok_or(Errno::EINVAL)?;
    let row = cx
        .kernel()
        .fs_types()
        .iter()
        .find(|t| t.name.as_bytes() == fstype)
        .copied()
        .ok_or(Errno::ENODEV)?;
    let kind = at.inode()?.file_type();
    let source = source_name.unwrap_or_else(|| b"none".to_vec());
    let sb = (row.mount)(cx, &source, &data)?;
    if kind != FileType::Dir {
        return Err(Errno::ENOTDIR);
    }
    ns.mount(&at, sb, &source, mount_flags(flags)).map(drop)
}

fn source_path(cx: &Ctx, name: Option<&[u8]>) -> Result<Path> {
    match name {
        None | Some([]) => Err(Errno::EINVAL),
        Some(n) => cx::here(cx).lookup(n, WalkFlags::FOLLOW),
    }
}

/// Takes a mount away: `umount2(2)`.
pub fn sys_umount2(cx: &Ctx, target: PathPtr, flags: UmountFlags) -> Result {
    type U = UmountFlags;
    if flags.beyond(U::ALL) {
        return Err(Errno::EINVAL);
    }
    let follow = if flags.has(U::UMOUNT_NOFOLLOW) {
        WalkFlags::empty()
    } else {
        WalkFlags::FOLLOW
    };
    let at = cx::lookup(cx, CWD, target, follow)?;
    cx.require(cap::SYS_ADMIN)?;
    if !is_mount_root(&at) || flags.has(U::MNT_EXPIRE) {
        return Err(Errno::EINVAL);
    }
    cx.kernel().mounts().unmount(&at, flags.has(U::MNT_DETACH))
}

/// Makes another mount the root: `pivot_root(2)`.
pub fn sys_pivot_root(cx: &Ctx, new_root: PathPtr, put_old: PathPtr) -> Result {
    cx.require(cap::SYS_ADMIN)?;
    let dir = WalkFlags::FOLLOW | WalkFlags::DIRECTORY;
    let new = cx::lookup(cx, CWD, new_root, dir)?;
    let put = cx::lookup(cx, CWD, put_old, dir)?;
    let old = cx.fs().root();
    cx.kernel().mounts().pivot_root(&new, &put)?;
    for p in cx.kernel().pids.processes() {
        for t in p.threads() {
            if let Some(fs) = t.fs() {
                fs.replace(&old, &new);
            }
        }
    }
    Ok(())
}
