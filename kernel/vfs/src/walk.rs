//! The path walk: from text to a place, path_resolution(7).
//!
//! A walk keeps the place it is at and a stack of the texts of symbolic links
//! it is in, so deep nesting costs no kernel stack. A component found in the
//! dentry cache costs a hash, a look at one shard and a permission check; only
//! a miss takes the directory's lock and asks the file system.

use crate::cred::{Access, Cred};
use crate::inode::{FileType, InodeRef};
use crate::namei::{Walk, WalkFlags};
use crate::path::{Dentry, Name, Path};
use crate::{dcache, file::File};
use abi::io::{NAME_MAX, PATH_MAX};
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::Ordering;

/// Most symbolic links followed in one walk.
const LINKS_MAX: u32 = 40;

/// The last component of a path whose other components have been walked.
pub(crate) enum Last {
    /// There is none: the path is a root, or ends in a magic link.
    None,
    /// `.`
    Dot,
    /// `..`
    DotDot,
    /// A name.
    Name(Name),
}

/// A walk in progress.
pub(crate) struct Walker<'a> {
    w: &'a Walk<'a>,
    pub cred: Arc<Cred>,
    flags: WalkFlags,
    root: Option<Path>,
    pub cur: Path,
    /// Text of the symbolic links being walked, and how far.
    links: Vec<(Vec<u8>, usize)>,
    count: u32,
    seq: u64,
    /// A slash follows the last component.
    pub trailing: bool,
}

impl<'a> Walker<'a> {
    /// Starts at the right place for `path`.
    pub fn new(w: &'a Walk<'a>, path: &[u8], flags: WalkFlags) -> Result<Walker<'a>> {
        if path.is_empty() && !flags.contains(WalkFlags::EMPTY) {
            return Err(Errno::ENOENT);
        }
        if path.len() >= PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let mut cred = w.cx.cred();
        if flags.contains(WalkFlags::REAL_IDS) {
            cred = Arc::new(cred.with_real_ids());
        }
        let base = || w.base.clone().unwrap_or_else(|| w.fs.cwd());
        let scoped = flags.intersects(WalkFlags::BENEATH | WalkFlags::IN_ROOT);
        let absolute = path.first() == Some(&b'/');
        if absolute && flags.contains(WalkFlags::BENEATH) {
            return Err(Errno::EXDEV);
        }
        let root = scoped.then(base);
        let cur = match &root {
            Some(r) => r.clone(),
            None if absolute => w.fs.root(),
            None => base(),
        };
        let seq = cur.mnt.shared().rename_seq.load(Ordering::Acquire);
        Ok(Walker {
            w,
            cred,
            flags,
            root,
            cur,
            links: Vec::new(),
            count: 0,
            seq,
            trailing: false,
        })
    }

    fn root(&mut self) -> Path {
        let w = self.w;
        self.root.get_or_insert_with(|| w.fs.root()).clone()
    }

    /// Walks all of `path`, following a link at its end if `follow` or if a slash follows it.
    pub fn full(&mut self, path: &[u8], follow: bool) -> Result {
        let mut pos = 0;
        self.run(path, &mut pos, Some(follow)).map(|_| ())
    }

    /// Walks all but the last component of `path`, which is returned.
    pub fn parent(&mut self, path: &[u8]) -> Result<Last> {
        let mut pos = 0;
        self.run(path, &mut pos, None)
    }

    /// Goes on into the symbolic link `inode` that the last component turned out to be: to its parent.
    pub fn parent_of_link(&mut self, inode: &InodeRef) -> Result<Last> {
        let trailing = self.trailing;
        if self.enter_link(inode)? {
            return Ok(Last::None);
        }
        let mut pos = 0;
        let last = self.run(&[], &mut pos, None)?;
        self.trailing |= trailing;
        Ok(last)
    }

    /// `whole`: walk the last component too, and whether to follow a link there.
    fn run(&mut self, path: &[u8], pos: &mut usize, whole: Option<bool>) -> Result<Last> {
        loop {
            let Some((start, end)) = self.next(path, pos) else {
                return Ok(Last::None);
            };
            let (last, trailing) = self.rest(path, *pos);
            self.search()?;
            if end - start > NAME_MAX {
                return Err(Errno::ENAMETOOLONG);
            }
            let text: &[u8] = match self.links.last() {
                Some((t, _)) => t,
                None => path,
            };
            let name = text.get(start..end).unwrap_or(&[]);
            if last {
                self.trailing = trailing;
                if whole.is_none() {
                    return Ok(match name {
                        b"." => Last::Dot,
                        b".." => Last::DotDot,
                        n => Last::Name(Name::new(n)),
                    });
                }
            }
            match name {
                b"." => {}
                b".." => self.dot_dot()?,
                name => {
                    let child = child(&self.cur, name)?;
                    let Some(inode) = child.inode_ref() else {
                        return Err(Errno::ENOENT);
                    };
                    match inode.file_type() {
                        FileType::Symlink if !last || trailing || whole == Some(true) => {
                            // Last, but in the middle of the path: walked whole.
                            if self.enter_link(inode)? && last {
                                return Ok(Last::None);
                            }
                        }
                        kind => {
                            if !last && kind != FileType::Dir {
                                return Err(Errno::ENOTDIR);
                            }
                            self.enter(child)?;
                        }
                    }
                }
            }
        }
    }

    /// The next component of the innermost text: its range.
    fn next(&mut self, path: &[u8], top: &mut usize) -> Option<(usize, usize)> {
        loop {
            let (text, pos): (&[u8], &mut usize) = match self.links.last_mut() {
                Some((t, p)) => (t, p),
                None => (path, &mut *top),
            };
            let mut start = *pos;
            while text.get(start) == Some(&b'/') {
                start += 1;
            }
            let mut end = start;
            while text.get(end).is_some_and(|&c| c != b'/') {
                end += 1;
            }
            *pos = end;
            if end > start {
                return Some((start, end));
            }
            self.links.pop()?;
        }
    }

    /// Whether no component follows, and whether slashes do.
    fn rest(&self, path: &[u8], top: usize) -> (bool, bool) {
        let mut trailing = false;
        let texts = self.links.iter().map(|(t, p)| (&t[..], *p));
        for (text, pos) in texts.chain([(path, top)]) {
            let rest = text.get(pos..).unwrap_or(&[]);
            trailing |= !rest.is_empty();
            if rest.iter().any(|&c| c != b'/') {
                return (false, false);
            }
        }
        (true, trailing)
    }

    /// Checks that the current place is a directory that may be searched.
    fn search(&self) -> Result {
        let inode = self.cur.inode()?;
        if !self.cur.dentry.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        self.cred.check(inode.perm()?, Access::EXEC)
    }

    /// Makes a child of the current directory the current place.
    pub fn enter(&mut self, child: Arc<Dentry>) -> Result {
        self.cur.dentry = child;
        if self.cur.dentry.is_mounted() {
            let before = self.cur.mnt.id();
            self.w.ns.follow(&mut self.cur);
            if self.cur.mnt.id() != before && self.flags.contains(WalkFlags::NO_XDEV) {
                return Err(Errno::EXDEV);
            }
        }
        Ok(())
    }

    pub fn dot_dot(&mut self) -> Result {
        let root = self.root();
        loop {
            if self.cur == root {
                if self.flags.contains(WalkFlags::BENEATH) {
                    return Err(Errno::EXDEV);
                }
                break;
            }
            if !Arc::ptr_eq(&self.cur.dentry, self.cur.mnt.root_dentry()) {
                if let Some(p) = self.cur.dentry.parent() {
                    self.cur.dentry = p;
                }
                break;
            }
            let Some(place) = self.cur.mnt.place() else {
                break;
            };
            if self.flags.contains(WalkFlags::NO_XDEV) {
                return Err(Errno::EXDEV);
            }
            self.cur = place;
        }
        if self.cur.dentry.is_mounted() {
            self.w.ns.follow(&mut self.cur);
        }
        // A rename may have moved the place out of the scope: openat2(2) EAGAIN.
        if self
            .flags
            .intersects(WalkFlags::BENEATH | WalkFlags::IN_ROOT)
            && self.cur.mnt.shared().rename_seq.load(Ordering::Acquire) != self.seq
        {
            return Err(Errno::EAGAIN);
        }
        Ok(())
    }

    /// Starts on the text of a link. `true`: it was a magic one, and the walk is where it leads.
    fn enter_link(&mut self, inode: &InodeRef) -> Result<bool> {
        self.count += 1;
        if self.count > LINKS_MAX || self.flags.contains(WalkFlags::NO_SYMLINKS) {
            return Err(Errno::ELOOP);
        }
        if let Some(to) = inode.magic_link() {
            if self.flags.contains(WalkFlags::NO_MAGICLINKS) {
                return Err(Errno::ELOOP);
            }
            if self
                .flags
                .intersects(WalkFlags::BENEATH | WalkFlags::IN_ROOT)
            {
                return Err(Errno::EXDEV);
            }
            let to = self.place_of(to?)?;
            if self.flags.contains(WalkFlags::NO_XDEV) && to.mnt.id() != self.cur.mnt.id() {
                return Err(Errno::EXDEV);
            }
            self.cur = to;
            return Ok(true);
        }
        let text = inode.read_link()?;
        if text.is_empty() {
            return Err(Errno::ENOENT);
        }
        if text.first() == Some(&b'/') {
            if self.flags.contains(WalkFlags::BENEATH) {
                return Err(Errno::EXDEV);
            }
            let root = self.root();
            if self.flags.contains(WalkFlags::NO_XDEV) && root.mnt.id() != self.cur.mnt.id() {
                return Err(Errno::EXDEV);
            }
            self.cur = root;
        }
        self.links.push((text, 0));
        Ok(false)
    }

    /// What a magic link leads to: a path, or an open file.
    fn place_of(&self, to: Arc<dyn Any + Send + Sync>) -> Result<Path> {
        let to = match to.downcast::<Path>() {
            Ok(p) => return Ok(Path::clone(&p)),
            Err(other) => other,
        };
        let file = to.downcast::<File>().map_err(|_| Errno::ENOENT)?;
        Ok(match &file.path {
            Some(p) => p.clone(),
            None => Path::anonymous(
                &self.cur,
                file.inode.clone(),
                &file.ops.anon_name().unwrap_or_default(),
            ),
        })
    }
}

/// The dentry of `name` in `parent`, from the cache or the file system. Takes the directory's lock on a miss.
pub(crate) fn child(parent: &Path, name: &[u8]) -> Result<Arc<Dentry>> {
    if let Some(d) = cached(parent, name)? {
        return Ok(d);
    }
    let _g = parent.dentry.dir_lock()?.read();
    lookup_locked(parent, name)
}

/// As [`child`]; the caller holds the directory's lock for writing. [`Errno::ENOENT`] in a removed directory.
pub(crate) fn child_locked(parent: &Path, name: &[u8]) -> Result<Arc<Dentry>> {
    if parent.dentry.is_deleted() {
        return Err(Errno::ENOENT);
    }
    match cached(parent, name)? {
        Some(d) => Ok(d),
        None => lookup_locked(parent, name),
    }
}

fn cached(parent: &Path, name: &[u8]) -> Result<Option<Arc<Dentry>>> {
    let inst = &parent.mnt.inst;
    let hash = dcache::hash(&parent.dentry, name);
    let Some(d) = inst.shared.dcache.find(hash, &parent.dentry, name) else {
        return Ok(None);
    };
    if inst.volatile && !d.is_mounted() {
        let dir = parent.inode()?;
        let child = d.inode_ref();
        if !dir.revalidate(name, child)
            || child.is_none() && d.generation() != dir.names_generation()
        {
            inst.shared.dcache.remove(&d);
            return Ok(None);
        }
    }
    Ok(Some(d))
}

fn lookup_locked(parent: &Path, name: &[u8]) -> Result<Arc<Dentry>> {
    if parent.dentry.is_deleted() {
        return Err(Errno::ENOENT);
    }
    let cache = &parent.mnt.inst.shared.dcache;
    let hash = dcache::hash(&parent.dentry, name);
    if let Some(d) = cache.find(hash, &parent.dentry, name) {
        return Ok(d);
    }
    let dir = parent.inode()?;
    let generation = dir.names_generation();
    let d = match dir.lookup(name) {
        Ok(i) => Dentry::new(&parent.dentry, name, Some(i)),
        Err(Errno::ENOENT) => Dentry::new_negative(&parent.dentry, name, generation),
        Err(e) => return Err(e),
    };
    Ok(cache.insert(&d, false))
}
