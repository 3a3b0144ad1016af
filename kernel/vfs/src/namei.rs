//! Operations on names: create, link, remove, rename, access, getcwd.
//!
//! All of them check permissions with the caller's credentials, in Linux's
//! order, and return what the man page of the call says.

use crate::cred::{Access, Cred, cap};
use crate::file::{Caller, File, OpenFlags};
use crate::inode::{Attr, FileType, InodeRef, NewNode, StatFs};
use crate::mount::MountNs;
use crate::notify::{self, event};
use crate::path::{Dentry, FsContext, Name, Path};
use crate::shared::Shared;
use crate::walk::{Last, Walker, child, child_locked};
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;

pub use crate::attr::{Change, Touch, set_attr_of};

/// Where a walk starts and who walks.
pub struct Walk<'a> {
    /// Caller.
    pub cx: &'a dyn Caller,
    /// Its root and working directory.
    pub fs: &'a FsContext,
    /// Its mounts.
    pub ns: &'a MountNs,
    /// Where relative paths start: `None` = working directory (AT_FDCWD).
    pub base: Option<Path>,
}

bitflags::bitflags! {
    /// How to walk.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct WalkFlags: u32 {
        /// Follow a symbolic link in the last component.
        const FOLLOW = 1;
        /// The result must be a directory.
        const DIRECTORY = 2;
        /// An empty path means the base itself (AT_EMPTY_PATH).
        const EMPTY = 4;
        /// openat2(2) RESOLVE_NO_XDEV.
        const NO_XDEV = 8;
        /// RESOLVE_NO_MAGICLINKS.
        const NO_MAGICLINKS = 0x10;
        /// RESOLVE_NO_SYMLINKS.
        const NO_SYMLINKS = 0x20;
        /// RESOLVE_BENEATH.
        const BENEATH = 0x40;
        /// RESOLVE_IN_ROOT.
        const IN_ROOT = 0x80;
        /// Check with the real instead of the file-system ids (access(2)).
        const REAL_IDS = 0x100;
    }
}

/// renameat2(2) flags.
const RENAME_NOREPLACE: u32 = 1;
const RENAME_EXCHANGE: u32 = 2;
const RENAME_WHITEOUT: u32 = 4;

/// Where a new name goes: its directory, the name, whether a slash follows it.
struct Target<'a> {
    dir: Path,
    name: Name,
    trailing: bool,
    walker: Walker<'a>,
}

impl<'w> Walk<'w> {
    /// Finds an existing file.
    pub fn lookup(&self, path: &[u8], flags: WalkFlags) -> Result<Path> {
        let mut w = Walker::new(self, path, flags)?;
        w.full(path, flags.contains(WalkFlags::FOLLOW))?;
        if (w.trailing || flags.contains(WalkFlags::DIRECTORY)) && !w.cur.dentry.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        Ok(w.cur)
    }

    /// Walks to the directory of a name that is to be created. [`Errno::EEXIST`] for `.`, `..` and `/`.
    fn target(&self, path: &[u8]) -> Result<Target<'_>> {
        let mut walker = Walker::new(self, path, WalkFlags::empty())?;
        let Last::Name(name) = walker.parent(path)? else {
            return Err(Errno::EEXIST);
        };
        Ok(Target {
            dir: walker.cur.clone(),
            trailing: walker.trailing,
            name,
            walker,
        })
    }

    /// Makes a new name with `make`, under the directory's lock. `admit` may refuse before permissions are looked at.
    fn create_with(
        &self,
        path: &[u8],
        is_dir: bool,
        admit: impl FnOnce(&Target<'_>) -> Result,
        make: impl FnOnce(&Target<'_>, &InodeRef) -> Result<InodeRef>,
    ) -> Result<Path> {
        let t = self.target(path)?;
        let name = t.name.as_bytes();
        let lock = t.dir.dentry.dir_lock()?.write();
        if child_locked(&t.dir, name)?.inode_ref().is_some() {
            return Err(Errno::EEXIST);
        }
        if t.trailing && !is_dir {
            return Err(Errno::ENOENT);
        }
        let dir = t.dir.inode()?;
        if dir.absence_is_final() {
            return Err(Errno::ENOENT);
        }
        t.dir.mnt.check_writable()?;
        admit(&t)?;
        let cred = &t.walker.cred;
        cred.check(dir.perm()?, Access::WRITE | Access::EXEC)?;
        let inode = make(&t, dir)?;
        let dentry = instantiate(&t.dir, name, inode);
        drop(lock);
        let bit = if is_dir { event::ISDIR } else { 0 };
        t.dir
            .mnt
            .shared()
            .notify_dir(dir, event::CREATE | bit, 0, name);
        Ok(Path {
            mnt: t.dir.mnt.clone(),
            dentry,
        })
    }

    /// mkdir(2).
    pub fn mkdir(&self, path: &[u8], mode: u32) -> Result {
        let mode = mode & 0o1777 & !self.fs.umask();
        self.create_with(path, true, no_objection, |t, dir| {
            dir.create(t.name.as_bytes(), NewNode::Dir, mode, &t.walker.cred)
        })?;
        Ok(())
    }
    /// mknod(2): `mode` with type bits, device number.
    pub fn mknod(&self, path: &[u8], mode: u32, dev: u64) -> Result<Path> {
        let node = if mode >> 12 & 0xf == 0 {
            NewNode::Regular
        } else {
            match FileType::from_mode(mode) {
                Some(FileType::Regular) => NewNode::Regular,
                Some(FileType::Dir) => return Err(Errno::EPERM),
                Some(t @ (FileType::Char | FileType::Block)) => NewNode::Device(t, dev),
                Some(t @ (FileType::Fifo | FileType::Socket)) => NewNode::Special(t),
                _ => return Err(Errno::EINVAL),
            }
        };
        let bits = mode & 0o7777 & !self.fs.umask();
        self.create_with(path, false, no_objection, |t, dir| {
            if matches!(node, NewNode::Device(..)) && !t.walker.cred.capable(cap::MKNOD) {
                return Err(Errno::EPERM);
            }
            dir.create(t.name.as_bytes(), node, bits, &t.walker.cred)
        })
    }
    /// symlink(2).
    pub fn symlink(&self, target: &[u8], path: &[u8]) -> Result {
        if target.is_empty() {
            return Err(Errno::ENOENT);
        }
        if target.len() >= abi::io::PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        self.create_with(path, false, no_objection, |t, dir| {
            dir.create(
                t.name.as_bytes(),
                NewNode::Symlink(target),
                0o777,
                &t.walker.cred,
            )
        })?;
        Ok(())
    }
    /// link(2) of `old` (found before) to `path`.
    pub fn link(&self, old: &Path, path: &[u8]) -> Result {
        let inode = old.inode()?.clone();
        let admit = |t: &Target<'_>| {
            if t.dir.mnt.id() != old.mnt.id() {
                return Err(Errno::EXDEV);
            }
            may_link(&t.walker.cred, &inode)
        };
        self.create_with(path, false, admit, |t, dir| {
            if inode.file_type() == FileType::Dir {
                return Err(Errno::EPERM);
            }
            dir.link(t.name.as_bytes(), &inode)?;
            Ok(inode.clone())
        })?;
        old.mnt.shared().notify_inode(&inode, event::ATTRIB);
        Ok(())
    }
    /// unlink(2).
    pub fn unlink(&self, path: &[u8]) -> Result {
        let mut w = Walker::new(self, path, WalkFlags::empty())?;
        let Last::Name(name) = w.parent(path)? else {
            return Err(Errno::EISDIR);
        };
        self.remove(&w, name.as_bytes(), false)
    }
    /// rmdir(2).
    pub fn rmdir(&self, path: &[u8]) -> Result {
        let mut w = Walker::new(self, path, WalkFlags::empty())?;
        let name = match w.parent(path)? {
            Last::Name(name) => name,
            Last::Dot => return Err(Errno::EINVAL),
            Last::DotDot => return Err(Errno::ENOTEMPTY),
            Last::None => return Err(Errno::EBUSY),
        };
        self.remove(&w, name.as_bytes(), true)
    }
    fn remove(&self, w: &Walker<'_>, name: &[u8], is_dir: bool) -> Result {
        let at = &w.cur;
        at.mnt.check_writable()?;
        let lock = at.dentry.dir_lock()?.write();
        let victim = child_locked(at, name)?;
        let inode = victim.inode_ref().ok_or(Errno::ENOENT)?;
        if w.trailing && !is_dir {
            return Err(if victim.is_dir() {
                Errno::EISDIR
            } else {
                Errno::ENOTDIR
            });
        }
        let dir = at.inode()?;
        may_delete(w, dir, inode, is_dir)?;
        if victim.is_mounted() {
            return Err(Errno::EBUSY);
        }
        if is_dir {
            // Nothing may be created in it from here on.
            let inner = victim.dir_lock()?.write();
            dir.rmdir(name)?;
            victim.set_deleted();
            drop(inner);
        } else {
            dir.unlink(name)?;
            victim.set_deleted();
        }
        let shared = at.mnt.shared();
        shared.dcache.remove(&victim);
        forget_inside(shared, &victim);
        drop(lock);
        let bit = if is_dir { event::ISDIR } else { 0 };
        // The number of links has changed.
        if !is_dir {
            shared.notify_inode(inode, event::ATTRIB);
        }
        shared.notify_dir(dir, event::DELETE | bit, 0, name);
        // IN_DELETE_SELF comes when nobody uses the victim any more.
        Ok(())
    }
    /// renameat2(2); `to` has a start of its own.
    pub fn rename(&self, old: &[u8], to: &Walk<'_>, new: &[u8], flags: u32) -> Result {
        if flags & !(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT) != 0
            || flags & RENAME_EXCHANGE != 0 && flags & (RENAME_NOREPLACE | RENAME_WHITEOUT) != 0
        {
            return Err(Errno::EINVAL);
        }
        let mut from = Walker::new(self, old, WalkFlags::empty())?;
        let old_last = from.parent(old)?;
        let mut into = Walker::new(to, new, WalkFlags::empty())?;
        let new_last = into.parent(new)?;
        if from.cur.mnt.id() != into.cur.mnt.id() {
            return Err(Errno::EXDEV);
        }
        let Last::Name(old_name) = old_last else {
            return Err(Errno::EBUSY);
        };
        let Last::Name(new_name) = new_last else {
            return Err(if flags & RENAME_NOREPLACE != 0 {
                Errno::EEXIST
            } else {
                Errno::EBUSY
            });
        };
        from.cur.mnt.check_writable()?;
        if flags & RENAME_WHITEOUT != 0 && !from.cred.capable(cap::MKNOD) {
            return Err(Errno::EPERM);
        }
        Rename {
            from,
            into,
            old_name,
            new_name,
            flags,
        }
        .run()
    }
    /// access(2) of a found file: `mask` R 4, W 2, X 1. `real`: with real ids.
    pub fn access(&self, path: &Path, mask: u32, real: bool) -> Result {
        if mask & !7 != 0 {
            return Err(Errno::EINVAL);
        }
        let inode = path.inode()?;
        let mut cred = self.cx.cred();
        if real {
            cred = Arc::new(cred.with_real_ids());
        }
        let want = Access::from_bits_truncate(mask);
        let p = inode.perm()?;
        if want.contains(Access::EXEC)
            && inode.file_type() == FileType::Regular
            && path.mnt.flags().contains(crate::mount::MountFlags::NOEXEC)
        {
            return Err(Errno::EACCES);
        }
        if want.contains(Access::WRITE) && writes_to_fs(inode.file_type()) {
            path.mnt.check_writable()?;
        }
        if want.is_empty() {
            return Ok(());
        }
        cred.check(p, want)
    }
    /// Absolute path as seen from this process's root (getcwd(2), /proc/PID/cwd): with ` (deleted)` if unlinked, `(unreachable)` prefix if outside.
    pub fn name_of(&self, path: &Path) -> Vec<u8> {
        name_of(path, &self.fs.root())
    }
    /// Opens what a path leads to (no walk): exec, /proc/PID/fd, O_TMPFILE.
    pub fn open_path(&self, path: &Path, oflags: OpenFlags) -> Result<Arc<File>> {
        crate::open::open_place(self.cx, path, oflags)
    }
}

/// Every new name is fine.
fn no_objection(_: &Target<'_>) -> Result {
    Ok(())
}

/// Whether writing to a file of this type changes its file system.
pub(crate) fn writes_to_fs(t: FileType) -> bool {
    matches!(t, FileType::Regular | FileType::Dir | FileType::Symlink)
}

/// `fs.protected_hardlinks`: others' files get names only if they are harmless. [`Errno::EPERM`].
fn may_link(cred: &Cred, inode: &InodeRef) -> Result {
    let perm = inode.perm()?;
    let special = perm.mode & 0o4000 != 0 || perm.mode & 0o2010 == 0o2010;
    let harmless = inode.file_type() == FileType::Regular
        && !special
        && cred.check(perm, Access::READ | Access::WRITE).is_ok();
    if harmless || cred.owns(perm) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// Permission to remove the name of `victim` from `dir`.
fn may_delete(w: &Walker<'_>, dir: &InodeRef, victim: &InodeRef, is_dir: bool) -> Result {
    let p = dir.perm()?;
    w.cred.check(p, Access::WRITE | Access::EXEC)?;
    if p.mode & 0o1000 != 0 {
        let v = victim.perm()?;
        if w.cred.fsuid != v.uid && w.cred.fsuid != p.uid && !w.cred.capable(cap::FOWNER) {
            return Err(Errno::EPERM);
        }
    }
    match (is_dir, victim.file_type() == FileType::Dir) {
        (true, false) => Err(Errno::ENOTDIR),
        (false, true) => Err(Errno::EISDIR),
        _ => Ok(()),
    }
}

/// Enters a new positive dentry in place of a negative one. The caller holds the directory's lock.
pub(crate) fn instantiate(dir: &Path, name: &[u8], inode: InodeRef) -> Arc<Dentry> {
    let d = Dentry::new(&dir.dentry, name, Some(inode));
    dir.mnt.shared().dcache.insert(&d, true)
}

struct Rename<'a> {
    from: Walker<'a>,
    into: Walker<'a>,
    old_name: Name,
    new_name: Name,
    flags: u32,
}

impl Rename<'_> {
    fn run(&self) -> Result {
        let (od, nd) = (&self.from.cur, &self.into.cur);
        let same = Arc::ptr_eq(&od.dentry, &nd.dentry);
        let shared = od.mnt.shared();
        // Two directories: the rename lock keeps the tree's shape, so that
        // "ancestor first" orders the directory locks.
        let tree = (!same).then(|| shared.rename.lock());
        let (a, b) = if same || nd.dentry.is_within(&od.dentry) {
            (od, nd)
        } else if od.dentry.is_within(&nd.dentry) || nd.dentry.addr() < od.dentry.addr() {
            (nd, od)
        } else {
            (od, nd)
        };
        let _first = a.dentry.dir_lock()?.write();
        let _second = match same {
            true => None,
            false => Some(b.dentry.dir_lock()?.write()),
        };
        let (old_name, new_name) = (self.old_name.as_bytes(), self.new_name.as_bytes());
        let old = child_locked(od, old_name)?;
        let old_inode = old.inode_ref().ok_or(Errno::ENOENT)?;
        let new = child_locked(nd, new_name)?;
        let exchange = self.flags & RENAME_EXCHANGE != 0;
        if self.flags & RENAME_NOREPLACE != 0 && new.inode_ref().is_some() {
            return Err(Errno::EEXIST);
        }
        if exchange {
            if new.inode_ref().is_none() {
                return Err(Errno::ENOENT);
            }
            if self.into.trailing && !new.is_dir() {
                return Err(Errno::ENOTDIR);
            }
        }
        if !old.is_dir() && (self.from.trailing || !exchange && self.into.trailing) {
            return Err(Errno::ENOTDIR);
        }
        if old.is_dir() && nd.dentry.is_within(&old) {
            return Err(Errno::EINVAL);
        }
        if new.is_dir() && od.dentry.is_within(&new) {
            return Err(if exchange {
                Errno::EINVAL
            } else {
                Errno::ENOTEMPTY
            });
        }
        if let Some(i) = new.inode_ref()
            && Arc::ptr_eq(i, old_inode)
        {
            return Ok(());
        }
        self.check(&old, &new, same)?;
        if old.is_mounted() || new.is_mounted() {
            return Err(Errno::EBUSY);
        }
        let ndir = nd.inode()?;
        // A directory that is replaced takes no more entries.
        let victim = match (&new.inode_ref(), exchange) {
            (Some(_), false) if new.is_dir() => Some(new.dir_lock()?.write()),
            _ => None,
        };
        od.inode()?.rename(old_name, ndir, new_name, self.flags)?;
        if new.inode_ref().is_some() && !exchange {
            new.set_deleted();
        }
        drop(victim);
        let cache = &shared.dcache;
        cache.remove(&new);
        if !exchange {
            forget_inside(shared, &new);
        }
        cache.remove(&old);
        old.set_place(nd.dentry.clone(), self.new_name.clone());
        cache.insert(&old, true);
        if exchange {
            new.set_place(od.dentry.clone(), self.old_name.clone());
            cache.insert(&new, true);
        } else {
            cache.forget(&od.dentry, old_name);
        }
        shared
            .rename_seq
            .fetch_add(1, core::sync::atomic::Ordering::AcqRel);
        drop(_second);
        drop(_first);
        drop(tree);
        self.notify(&old, &new)
    }

    fn check(&self, old: &Arc<Dentry>, new: &Arc<Dentry>, same: bool) -> Result {
        let (odir, ndir) = (self.from.cur.inode()?, self.into.cur.inode()?);
        let old_inode = old.inode_ref().ok_or(Errno::ENOENT)?;
        let exchange = self.flags & RENAME_EXCHANGE != 0;
        may_delete(&self.from, odir, old_inode, old.is_dir())?;
        match new.inode_ref() {
            None => self
                .into
                .cred
                .check(ndir.perm()?, Access::WRITE | Access::EXEC)?,
            Some(n) => {
                let is_dir = if exchange { new.is_dir() } else { old.is_dir() };
                may_delete(&self.into, ndir, n, is_dir)?;
            }
        }
        // A directory that gets another parent has its `..` rewritten.
        if !same {
            if old.is_dir() {
                self.from.cred.check(old_inode.perm()?, Access::WRITE)?;
            }
            if exchange
                && new.is_dir()
                && let Some(n) = new.inode_ref()
            {
                self.into.cred.check(n.perm()?, Access::WRITE)?;
            }
        }
        Ok(())
    }

    fn notify(&self, old: &Arc<Dentry>, new: &Arc<Dentry>) -> Result {
        let shared = self.from.cur.mnt.shared();
        if shared.watches.load(core::sync::atomic::Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let (odir, ndir) = (self.from.cur.inode()?, self.into.cur.inode()?);
        let bit = |d: &Dentry| if d.is_dir() { event::ISDIR } else { 0 };
        let (on, nn) = (self.old_name.as_bytes(), self.new_name.as_bytes());
        let cookie = shared.next_id() as u32;
        shared.notify_dir(odir, event::MOVED_FROM | bit(old), cookie, on);
        shared.notify_dir(ndir, event::MOVED_TO | bit(old), cookie, nn);
        let exchange = self.flags & RENAME_EXCHANGE != 0;
        let victim = new.inode_ref().filter(|_| !exchange);
        if let Some(i) = victim {
            shared.notify_inode(i, event::ATTRIB);
        }
        if let Some(i) = old.inode_ref() {
            shared.notify_inode(i, event::MOVE_SELF);
        }
        if victim.is_none()
            && let Some(i) = new.inode_ref()
        {
            let cookie = shared.next_id() as u32;
            shared.notify_dir(ndir, event::MOVED_FROM | bit(new), cookie, nn);
            shared.notify_dir(odir, event::MOVED_TO | bit(new), cookie, on);
            shared.notify_inode(i, event::MOVE_SELF);
        }
        Ok(())
    }
}

/// Names that were looked for in a directory that is removed would keep it: whoever watches it waits for its end.
fn forget_inside(shared: &Shared, victim: &Dentry) {
    if victim.is_dir() && victim.inode_ref().is_some_and(notify::end_is_watched) {
        shared.dcache.remove_children(victim);
    }
}

/// Path of `p` below `root`, and whether it lies below it at all (else the path from its topmost mount).
pub(crate) fn name_below(p: &Path, root: &Path) -> (Vec<u8>, bool) {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let mut cur = p.clone();
    let inside = loop {
        if cur == *root {
            break true;
        }
        if Arc::ptr_eq(&cur.dentry, cur.mnt.root_dentry()) {
            match cur.mnt.place() {
                Some(place) => cur = place,
                None => break false,
            }
            continue;
        }
        match cur.dentry.parent() {
            Some(parent) => {
                parts.push(cur.dentry.name());
                cur.dentry = parent;
            }
            None => {
                parts.push(cur.dentry.name());
                break false;
            }
        }
    };
    let mut out = Vec::new();
    for part in parts.iter().rev() {
        out.push(b'/');
        out.extend_from_slice(part);
    }
    if out.is_empty() {
        out.push(b'/');
    }
    (out, inside)
}

/// As [`Walk::name_of`], for a given root.
pub fn name_of(path: &Path, root: &Path) -> Vec<u8> {
    // Pipes and the like have a name but no place.
    if Arc::ptr_eq(&path.mnt, &path.mnt.shared().anon_mount()) {
        return path.dentry.name();
    }
    let (mut name, inside) = name_below(path, root);
    if !inside {
        name.splice(0..0, b"(unreachable)".iter().copied());
    }
    if path.dentry.is_deleted() {
        name.extend_from_slice(b" (deleted)");
    }
    name
}

/// stat(2) of a place.
pub fn stat(path: &Path) -> Result<Attr> {
    path.inode()?.attr()
}

/// statfs(2) of a place.
pub fn statfs(path: &Path) -> Result<StatFs> {
    path.mnt.sb.statfs()
}

/// Finds one name in a directory without a permission check, for file systems that lead to places (procfs).
pub fn lookup_one(dir: &Path, name: &[u8]) -> Result<Path> {
    let dentry = child(dir, name)?;
    dentry.inode_ref().ok_or(Errno::ENOENT)?;
    Ok(Path {
        mnt: dir.mnt.clone(),
        dentry,
    })
}
