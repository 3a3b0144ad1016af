//! File systems made of generated text: procfs, sysfs.
//!
//! A file system implements [`Node`] for its places; this module turns nodes
//! into inodes and open files. A file's text is made when it is read from
//! position 0 and kept for the rest of that pass, so that a reader with a small
//! buffer sees one consistent text.

use crate::cred::{Cred, Perm};
use crate::file::{Caller, File, FileOps, MmapBacking, OpenFlags, Traits};
use crate::inode::{
    Attr, DirEmit, FileType, Inode, InodeRef, MagicLink, SetAttr, StatFs, SuperBlock, TimeNs,
};
use crate::state::InodeState;
use abi::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use mm::io::{Sink, Source, put_at};
use sync::Mutex;

/// Most bytes that one write to a file passes on.
const MAX_WRITE: usize = 64 << 10;

/// One place of a pseudo file system.
pub trait Node: Send + Sync {
    /// Type.
    fn file_type(&self) -> FileType;
    /// Permission bits.
    fn mode(&self) -> u32;
    /// Inode number; equal for equal places.
    fn ino(&self) -> u64;
    /// Owner: uid, gid.
    fn owner(&self) -> (u32, u32) {
        (0, 0)
    }
    /// Number of links; directories: 2 + subdirectories, as far as known.
    fn nlink(&self) -> u32 {
        if self.file_type() == FileType::Dir {
            2
        } else {
            1
        }
    }
    /// Whether the current task may do anything whatever the permission bits say.
    fn open_to_current(&self) -> bool {
        false
    }
    /// Whether what the node shows is still there (its process lives).
    fn exists(&self) -> bool {
        true
    }
    /// Directory: the entry `name`.
    fn lookup(&self, _name: &[u8]) -> Result<Arc<dyn Node>> {
        Err(Errno::ENOENT)
    }
    /// A process's directory: its pid, or that it is gone. It serves as a pidfd.
    fn process(&self) -> Option<Result<i32>> {
        None
    }
    /// Directory: all entries, in an order that holds still: (name, type, inode number).
    /// Those whose names are numbers may come and go between calls; they are the last, ascending.
    fn list(&self) -> Result<Vec<(Vec<u8>, FileType, u64)>> {
        Ok(Vec::new())
    }
    /// Regular file: called at open; refuses with an errno.
    fn may_open(&self, _cx: &dyn Caller, _flags: OpenFlags) -> Result {
        Ok(())
    }
    /// Regular file: the whole text.
    fn read(&self, _cx: &dyn Caller) -> Result<Vec<u8>> {
        Err(Errno::EINVAL)
    }
    /// Regular file that is not text: reads at a position itself. `None`: use [`Node::read`].
    fn read_at(&self, _cx: &dyn Caller, _pos: u64, _dst: &mut dyn Sink) -> Option<Result<usize>> {
        None
    }
    /// Regular file: takes what one write(2) brought (at most 64 KiB).
    fn write(&self, _cx: &dyn Caller, _pos: u64, _data: &[u8]) -> Result<usize> {
        Err(Errno::EINVAL)
    }
    /// Symbolic link: its text.
    fn read_link(&self) -> Result<Vec<u8>> {
        Err(Errno::EINVAL)
    }
    /// Symbolic link that leads to an object.
    fn magic_link(&self) -> Option<Result<MagicLink>> {
        None
    }
}

/// A mounted pseudo file system.
pub struct PseudoFs {
    fs_type: &'static str,
    magic: u64,
    dev: u64,
    born: TimeNs,
    volatile: bool,
    root: Arc<dyn Node>,
    this: Weak<PseudoFs>,
}

impl PseudoFs {
    /// A file system around `root`. `volatile`: nodes may vanish ([`Node::exists`]); `born`: time stamps, ns since 1970.
    pub fn new(
        fs_type: &'static str,
        magic: u64,
        dev: u64,
        born: TimeNs,
        volatile: bool,
        root: Arc<dyn Node>,
    ) -> Arc<PseudoFs> {
        Arc::new_cyclic(|this| PseudoFs {
            fs_type,
            magic,
            dev,
            born,
            volatile,
            root,
            this: this.clone(),
        })
    }
    fn inode(&self, node: Arc<dyn Node>) -> Result<InodeRef> {
        let fs = self.this.upgrade().ok_or(Errno::ESTALE)?;
        Ok(Arc::new(PseudoInode {
            fs,
            node,
            state: InodeState::new(),
        }))
    }
}

impl SuperBlock for PseudoFs {
    fn fs_type(&self) -> &'static str {
        self.fs_type
    }
    fn root(&self) -> InodeRef {
        match self.this.upgrade() {
            Some(fs) => Arc::new(PseudoInode {
                fs,
                node: self.root.clone(),
                state: InodeState::new(),
            }),
            None => unreachable!("called through an Arc of itself"),
        }
    }
    fn magic(&self) -> u64 {
        self.magic
    }
    fn dev(&self) -> u64 {
        self.dev
    }
    fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs {
            bsize: 4096,
            namelen: 255,
            ..StatFs::default()
        })
    }
    fn volatile(&self) -> bool {
        self.volatile
    }
}

/// Inode of a [`Node`].
pub struct PseudoInode {
    fs: Arc<PseudoFs>,
    node: Arc<dyn Node>,
    state: InodeState,
}

impl PseudoInode {
    /// The node.
    pub fn node(&self) -> &Arc<dyn Node> {
        &self.node
    }
}

impl Inode for PseudoInode {
    fn super_block(&self) -> Arc<dyn SuperBlock> {
        self.fs.clone()
    }
    fn attr(&self) -> Result<Attr> {
        let (uid, gid) = self.node.owner();
        let kind = self.node.file_type();
        Ok(Attr {
            dev: self.fs.dev,
            ino: self.node.ino(),
            mode: kind.mode_bits() | self.node.mode(),
            nlink: self.node.nlink(),
            uid,
            gid,
            rdev: 0,
            size: 0,
            blksize: 1024,
            blocks: 0,
            atime: self.fs.born,
            mtime: self.fs.born,
            ctime: self.fs.born,
            btime: self.fs.born,
        })
    }
    fn file_type(&self) -> FileType {
        self.node.file_type()
    }
    fn ino(&self) -> u64 {
        self.node.ino()
    }
    fn perm(&self) -> Result<Perm> {
        let (uid, gid) = self.node.owner();
        let bits = if self.node.open_to_current() {
            0o777
        } else {
            self.node.mode()
        };
        Ok(Perm {
            mode: self.node.file_type().mode_bits() | bits,
            uid,
            gid,
        })
    }
    fn state(&self) -> Option<&InodeState> {
        Some(&self.state)
    }
    /// O_TRUNC of a writable file does nothing; everything else is refused.
    fn set_attr(&self, set: &SetAttr) -> Result {
        let only_size = set.mode.is_none()
            && set.uid.is_none()
            && set.gid.is_none()
            && set.atime.is_none()
            && set.mtime.is_none();
        if only_size && self.node.mode() & 0o222 != 0 {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn lookup(&self, name: &[u8]) -> Result<InodeRef> {
        if self.node.file_type() != FileType::Dir {
            return Err(Errno::ENOTDIR);
        }
        self.fs.inode(self.node.lookup(name)?)
    }
    fn revalidate(&self, name: &[u8], child: Option<&InodeRef>) -> bool {
        match child.and_then(|c| c.as_any().downcast_ref::<PseudoInode>()) {
            Some(c) => c.node.exists(),
            // A name that was absent may have come.
            None => self.node.lookup(name).is_err(),
        }
    }
    fn absence_is_final(&self) -> bool {
        self.fs.volatile
    }
    fn create(
        &self,
        _name: &[u8],
        _node: crate::inode::NewNode<'_>,
        _mode: u32,
        _cred: &Cred,
    ) -> Result<InodeRef> {
        Err(Errno::EACCES)
    }
    fn read_link(&self) -> Result<Vec<u8>> {
        self.node.read_link()
    }
    fn magic_link(&self) -> Option<Result<MagicLink>> {
        self.node.magic_link()
    }
    fn open(
        &self,
        _this: &InodeRef,
        flags: OpenFlags,
        cx: &dyn Caller,
    ) -> Result<Arc<dyn FileOps>> {
        if !self.node.exists() {
            return Err(Errno::ENOENT);
        }
        match self.node.file_type() {
            FileType::Dir => Ok(Arc::new(OpenDir {
                node: self.node.clone(),
            })),
            FileType::Regular => {
                self.node.may_open(cx, flags)?;
                Ok(Arc::new(OpenText {
                    node: self.node.clone(),
                    text: Mutex::new(None),
                }))
            }
            _ => Err(Errno::ELOOP),
        }
    }
}

struct OpenText {
    node: Arc<dyn Node>,
    /// Made at the last read from position 0.
    text: Mutex<Option<Vec<u8>>>,
}

impl FileOps for OpenText {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn traits(&self) -> Traits {
        Traits::FILE
    }
    fn read(&self, _f: &File, cx: &dyn Caller, pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        if let Some(r) = self.node.read_at(cx, pos, dst) {
            return r;
        }
        let mut text = self.text.lock();
        if pos == 0 || text.is_none() {
            *text = Some(self.node.read(cx)?);
        }
        match text.as_ref() {
            Some(t) => put_at(dst, t, pos),
            None => Ok(0),
        }
    }
    fn write(&self, _f: &File, cx: &dyn Caller, pos: u64, src: &mut dyn Source) -> Result<usize> {
        let mut data = alloc::vec![0; src.remaining().min(MAX_WRITE)];
        let n = src.take(&mut data)?;
        data.truncate(n);
        self.node.write(cx, pos, &data)
    }
    fn mmap(&self, _f: &File, _shared: bool) -> Result<MmapBacking> {
        Err(Errno::ENODEV)
    }
}

struct OpenDir {
    node: Arc<dyn Node>,
}

/// Position of the entry `0` of a directory.
const NUMBERED: u64 = 1 << 32;

/// Position of the entry `name`, number `index` in its directory.
fn position(index: usize, name: &[u8]) -> u64 {
    match core::str::from_utf8(name).map(str::parse::<u32>) {
        Ok(Ok(n)) => NUMBERED + u64::from(n),
        _ => crate::generic::FIRST_COOKIE + index as u64,
    }
}

impl FileOps for OpenDir {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn traits(&self) -> Traits {
        Traits::FILE
    }
    fn read(&self, _f: &File, _cx: &dyn Caller, _pos: u64, _dst: &mut dyn Sink) -> Result<usize> {
        Err(Errno::EISDIR)
    }
    fn read_dir(&self, f: &File, pos: u64, emit: &mut DirEmit<'_>) -> Result {
        if !crate::generic::emit_dots(f, pos, emit) {
            return Ok(());
        }
        for (i, (name, kind, ino)) in self.node.list()?.iter().enumerate() {
            let at = position(i, name);
            if at >= pos && !emit(name, *ino, *kind, at + 1) {
                break;
            }
        }
        Ok(())
    }
}
