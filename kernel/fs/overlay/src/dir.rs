//! Directories: the changes over the lower one.

use crate::inode::OvlInode;
use abi::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use sync::{SpinLock, level};
use vfs::cred::Cred;
use vfs::file::{Caller, File, OpenFlags};
use vfs::generic::{DirData, FIRST_COOKIE};
use vfs::inode::{DirEmit, InodeRef, NewNode};
use vfs::{FileType, Inode};

/// Cookies of changed names start here; lower cookies are smaller.
const UPPER_COOKIES: u64 = 1 << 62;
/// Entries that readdir copies in one go.
const BATCH: usize = 64;
/// renameat2(2) flags.
const RENAME_NOREPLACE: u32 = 1;
const RENAME_EXCHANGE: u32 = 2;
const RENAME_WHITEOUT: u32 = 4;

struct Change {
    cookie: u64,
    /// `None`: the lower name is gone.
    inode: Option<Arc<OvlInode>>,
}

/// What is known of a name.
pub(crate) enum Known {
    /// Unchanged: as in the lower directory.
    Lower,
    /// Gone.
    Gone,
    /// Leads here.
    Here(Arc<OvlInode>),
}

/// Changed names of a directory.
pub(crate) struct Changes(SpinLock<Inner, { level::INODE }>);

struct Inner {
    names: BTreeMap<Arc<[u8]>, Change>,
    /// Names that lead somewhere, by cookie.
    order: BTreeMap<u64, Arc<[u8]>>,
    next: u64,
    /// Subdirectories more (or fewer) than the lower directory has.
    subdirs: i64,
}

impl Changes {
    pub fn new() -> Changes {
        Changes(SpinLock::new(Inner {
            names: BTreeMap::new(),
            order: BTreeMap::new(),
            next: UPPER_COOKIES,
            subdirs: 0,
        }))
    }
    pub fn get(&self, name: &[u8]) -> Known {
        match self.0.lock().names.get(name) {
            None => Known::Lower,
            Some(Change { inode: None, .. }) => Known::Gone,
            Some(Change { inode: Some(i), .. }) => Known::Here(i.clone()),
        }
    }
    /// Enters a name unless it is changed already. Whether it now leads to `inode`.
    pub fn put_if_unchanged(&self, name: &Arc<[u8]>, inode: &Arc<OvlInode>) -> bool {
        let mut c = self.0.lock();
        if let Some(there) = c.names.get(name) {
            matches!(&there.inode, Some(i) if Arc::ptr_eq(i, inode))
        } else {
            let cookie = c.next;
            c.next += 1;
            c.order.insert(cookie, name.clone());
            c.names.insert(
                name.clone(),
                Change {
                    cookie,
                    inode: Some(inode.clone()),
                },
            );
            true
        }
    }
    /// Enters a name (`Some`), marks it as gone (`None`), or forgets the change (`gone` false).
    fn set(
        &self,
        name: &[u8],
        inode: Option<Arc<OvlInode>>,
        gone: bool,
        cookie: Option<u64>,
        subdirs: i64,
    ) {
        let key: Arc<[u8]> = name.into();
        let mut c = self.0.lock();
        let old = c.names.remove(name);
        let mut old_name = None;
        if let Some(o) = &old {
            old_name = c.order.remove(&o.cookie);
        }
        if inode.is_some() || gone {
            let cookie = cookie.unwrap_or_else(|| {
                c.next += 1;
                c.next - 1
            });
            if inode.is_some() {
                c.order.insert(cookie, key.clone());
            }
            c.names.insert(key, Change { cookie, inode });
        }
        c.subdirs += subdirs;
        drop(c);
        drop((old, old_name));
    }
    fn cookie(&self, name: &[u8]) -> Option<u64> {
        let c = self.0.lock();
        let e = c.names.get(name)?;
        e.inode.as_ref().map(|_| e.cookie)
    }
    pub fn subdirs(&self) -> i64 {
        self.0.lock().subdirs
    }
    /// Number of names that lead somewhere.
    pub fn len(&self) -> usize {
        self.0.lock().order.len()
    }
    fn end(&self) -> u64 {
        self.0.lock().next
    }
    /// All inodes, taken out, when the directory itself goes.
    pub fn take_all(&mut self) -> Vec<Arc<OvlInode>> {
        let c = self.0.get_mut();
        c.order.clear();
        core::mem::take(&mut c.names)
            .into_values()
            .filter_map(|e| e.inode)
            .collect()
    }
}

/// The kernel itself, as the one who lists lower directories.
struct Kernel;

impl Caller for Kernel {
    fn cred(&self) -> Arc<Cred> {
        Arc::new(Cred::root())
    }
    fn mm(&self) -> Option<Arc<mm::Mm>> {
        None
    }
    fn pid(&self) -> i32 {
        0
    }
    fn realtime_ns(&self) -> i64 {
        0
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn open_lower(lower: &InodeRef) -> Result<Arc<File>> {
    let flags = OpenFlags::DIRECTORY;
    let ops = lower.open(lower, flags, &Kernel)?;
    Ok(File::new(ops, lower.clone(), None, flags, Kernel.cred()))
}

/// What an open directory keeps.
#[derive(Default)]
pub struct Kept {
    lower: Option<Arc<File>>,
    /// Changes made later than this cookie came after the pass began: the
    /// lower listing still shows those names, the list of changes does not.
    end: Option<u64>,
}

impl DirData for OvlInode {
    type Kept = Kept;
    fn begin(&self) -> Result<Kept> {
        Ok(Kept {
            lower: self.lower().map(open_lower).transpose()?,
            end: Some(self.changes()?.end()),
        })
    }
    fn list(&self, kept: &mut Kept, from: u64, emit: &mut DirEmit<'_>) -> Result {
        let changes = self.changes()?;
        let end = *kept.end.get_or_insert_with(|| changes.end());
        if from < UPPER_COOKIES
            && let Some(lower) = self.lower()
        {
            let f = match &kept.lower {
                Some(f) => f.clone(),
                None => kept.lower.insert(open_lower(lower)?).clone(),
            };
            let mut full = false;
            f.ops.read_dir(&f, from, &mut |name, ino, kind, behind| {
                if name == b"." || name == b".." {
                    return true;
                }
                let (ino, kind) = match changes.get(name) {
                    Known::Lower => (ino, kind),
                    Known::Gone => return true,
                    Known::Here(i) => {
                        if changes.cookie(name).is_some_and(|c| c < end) {
                            return true;
                        }
                        (i.ino(), i.file_type())
                    }
                };
                full = !emit(name, ino, kind, behind);
                !full
            })?;
            if full {
                return Ok(());
            }
        }
        self.list_changes(from.max(UPPER_COOKIES), end, emit)
    }
}

impl OvlInode {
    pub(crate) fn changes(&self) -> Result<&Changes> {
        self.dir.as_deref().ok_or(Errno::ENOTDIR)
    }
    fn list_changes(&self, from: u64, end: u64, emit: &mut DirEmit<'_>) -> Result {
        let changes = self.changes()?;
        let mut from = from;
        let mut batch: Vec<(Arc<[u8]>, u64, FileType, u64)> = Vec::new();
        loop {
            {
                let c = changes.0.lock();
                if from < end {
                    for (&cookie, name) in c.order.range(from..end).take(BATCH) {
                        if let Some(i) = c.names.get(name).and_then(|e| e.inode.as_ref()) {
                            batch.push((name.clone(), i.ino(), i.file_type(), cookie));
                        }
                    }
                }
            }
            if batch.is_empty() {
                return Ok(());
            }
            for (name, ino, kind, cookie) in batch.drain(..) {
                from = cookie + 1;
                if !emit(&name, ino, kind, from) {
                    return Ok(());
                }
            }
            hal::cpu::current_waiter().yield_if_needed();
        }
    }
    /// Finds a name.
    pub(crate) fn find(&self, name: &[u8]) -> Result<Arc<OvlInode>> {
        let changes = self.changes()?;
        match changes.get(name) {
            Known::Here(i) => return Ok(i),
            Known::Gone => return Err(Errno::ENOENT),
            Known::Lower => {}
        }
        let lower = self.lower().ok_or(Errno::ENOENT)?.lookup(name)?;
        let found = self.core.wrap(lower, &self.this()?, name)?;
        // It may have been changed, and entered, meanwhile.
        match changes.get(name) {
            Known::Here(i) => Ok(i),
            Known::Gone => Err(Errno::ENOENT),
            Known::Lower => Ok(found),
        }
    }
    /// Finds a name that is about to go, and whether the lower directory has it.
    fn find_to_remove(&self, name: &[u8]) -> Result<(Arc<OvlInode>, bool)> {
        match self.changes()?.get(name) {
            Known::Here(i) => Ok((i, self.lower_has(name)?)),
            Known::Gone => Err(Errno::ENOENT),
            Known::Lower => Ok((self.find(name)?, true)),
        }
    }
    /// Whether the lower directory has the name, so that its removal must be noted.
    fn lower_has(&self, name: &[u8]) -> Result<bool> {
        let Some(lower) = self.lower() else {
            return Ok(false);
        };
        if let Known::Gone = self.changes()?.get(name) {
            return Ok(true);
        }
        match lower.lookup(name) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(false),
            Err(e) => Err(e),
        }
    }
    /// Whether nothing is in the directory.
    fn is_empty(&self) -> Result<bool> {
        let changes = self.changes()?;
        if changes.len() != 0 {
            return Ok(false);
        }
        let Some(lower) = self.lower() else {
            return Ok(true);
        };
        let f = match open_lower(lower) {
            Ok(f) => f,
            Err(Errno::ENOENT) => return Ok(true),
            Err(e) => return Err(e),
        };
        let mut empty = true;
        f.ops.read_dir(&f, FIRST_COOKIE, &mut |name, _, _, _| {
            if name != b"." && name != b".." && matches!(changes.get(name), Known::Lower) {
                empty = false;
            }
            empty
        })?;
        Ok(empty)
    }
    /// Makes the directory ready for a change of its names.
    fn prepare(&self) -> Result {
        self.copy_up()?;
        Ok(())
    }
    fn names_changed(&self) {
        if let Some(u) = self.upper() {
            u.names_changed();
        }
    }
    pub(crate) fn create_node(
        &self,
        name: &[u8],
        node: &NewNode<'_>,
        mode: u32,
        uid: u32,
        gid: u32,
    ) -> Result<Arc<OvlInode>> {
        let changes = self.changes()?;
        if let Known::Here(_) = changes.get(name) {
            return Err(Errno::EEXIST);
        }
        self.prepare()?;
        let upper = self.core.upper.new_node(node, mode, uid, gid)?;
        let new = OvlInode::of_upper(&self.core, upper);
        changes.set(name, Some(new.clone()), true, None, new.dirs());
        self.names_changed();
        Ok(new)
    }
    pub(crate) fn link_node(&self, name: &[u8], target: &Arc<OvlInode>) -> Result {
        let changes = self.changes()?;
        if target.file_type() == FileType::Dir {
            return Err(Errno::EPERM);
        }
        if let Known::Here(_) = changes.get(name) {
            return Err(Errno::EEXIST);
        }
        self.prepare()?;
        // From here on both names are entered.
        target.pin();
        target.add_link()?;
        changes.set(name, Some(target.clone()), true, None, 0);
        self.names_changed();
        Ok(())
    }
    pub(crate) fn remove_name(&self, name: &[u8], is_dir: bool) -> Result {
        let changes = self.changes()?;
        let (victim, gone) = self.find_to_remove(name)?;
        if is_dir {
            if !victim.is_empty()? {
                return Err(Errno::ENOTEMPTY);
            }
        } else if victim.file_type() == FileType::Dir {
            return Err(Errno::EISDIR);
        }
        self.prepare()?;
        changes.set(name, None, gone, None, -victim.dirs());
        victim.drop_link();
        self.names_changed();
        Ok(())
    }
    pub(crate) fn rename_name(&self, old: &[u8], to: &OvlInode, new: &[u8], flags: u32) -> Result {
        let same = core::ptr::eq(self, to);
        let (here, there) = (self.changes()?, to.changes()?);
        let (inode, gone) = self.find_to_remove(old)?;
        let target = match to.find(new) {
            Ok(t) => Some(t),
            Err(Errno::ENOENT) => None,
            Err(e) => return Err(e),
        };
        let dirs = inode.dirs();
        if flags & RENAME_EXCHANGE != 0 {
            let other = target.ok_or(Errno::ENOENT)?;
            self.prepare()?;
            to.prepare()?;
            inode.pin();
            other.pin();
            let more = dirs - other.dirs();
            let (a, b) = (here.cookie(old), there.cookie(new));
            there.set(new, Some(inode.clone()), true, b, more);
            here.set(old, Some(other.clone()), true, a, -more);
            self.names_changed();
            to.names_changed();
            return Ok(());
        }
        if let Some(t) = &target {
            if flags & RENAME_NOREPLACE != 0 {
                return Err(Errno::EEXIST);
            }
            match (inode.file_type(), t.file_type()) {
                (FileType::Dir, FileType::Dir) if !t.is_empty()? => {
                    return Err(Errno::ENOTEMPTY);
                }
                (FileType::Dir, FileType::Dir) => {}
                (FileType::Dir, _) => return Err(Errno::ENOTDIR),
                (_, FileType::Dir) => return Err(Errno::EISDIR),
                _ => {}
            }
        }
        self.prepare()?;
        to.prepare()?;
        let whiteout = if flags & RENAME_WHITEOUT != 0 {
            let node = NewNode::Device(FileType::Char, 0);
            let upper = self.core.upper.new_node(&node, 0, 0, 0)?;
            Some(OvlInode::of_upper(&self.core, upper))
        } else {
            None
        };
        // If it was found under another name (a hard link), that one stays.
        inode.pin();
        // Within a directory a changed entry keeps its cookie, so that a reader meets it once.
        let cookie = here.cookie(old).filter(|_| same);
        let replaced = target.as_ref().map_or(0, |t| t.dirs());
        if same {
            here.set(old, whiteout, gone, None, 0);
            there.set(new, Some(inode.clone()), true, cookie, -replaced);
        } else {
            // Seen twice for a moment, never missing.
            there.set(new, Some(inode.clone()), true, None, dirs - replaced);
            here.set(old, whiteout, gone, None, -dirs);
        }
        if let Some(t) = target {
            t.drop_link();
        }
        if let Some(u) = inode.upper() {
            u.touch_ctime();
        }
        self.names_changed();
        to.names_changed();
        Ok(())
    }
}
