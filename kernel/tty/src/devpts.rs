//! devpts: /dev/pts, one instance a machine.

use crate::pty::{MAX_PTYS, PTS_MAJOR};
use abi::stat::makedev;
use abi::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use mm::io::{Sink, Source};
use sync::{Once, SpinLock, level};
use vfs::file::{Caller, Traits};
use vfs::inode::{DirEmit, SetAttr, StatFs, TimeNs};
use vfs::{Attr, Cred, File, FileOps, FileType, Inode, InodeRef, OpenFlags, SuperBlock};

/// `f_type` of statfs(2).
pub const MAGIC: u64 = 0x1cd1;
/// Group of slaves: `tty` on every distribution.
const TTY_GID: u32 = 5;
/// Inode number of slave N is N plus this.
const FIRST_INO: u64 = 3;

/// The file system.
pub struct DevPts {
    this: Weak<DevPts>,
    dev: u64,
    root: Once<Arc<PtsInode>>,
    slaves: SpinLock<BTreeMap<u32, Arc<PtsInode>>, { level::INODE }>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    /// /dev/pts/ptmx.
    Ptmx,
    Slave(u32),
}

struct Meta {
    mode: u32,
    uid: u32,
    gid: u32,
    times: [TimeNs; 3],
}

/// An inode: the directory, `ptmx` or a slave.
pub struct PtsInode {
    fs: Weak<DevPts>,
    place: Place,
    meta: SpinLock<Meta, { level::INODE }>,
}

impl PtsInode {
    fn new(
        fs: &Weak<DevPts>,
        place: Place,
        mode: u32,
        uid: u32,
        gid: u32,
        now: TimeNs,
    ) -> Arc<Self> {
        Arc::new(PtsInode {
            fs: fs.clone(),
            place,
            meta: SpinLock::new(Meta {
                mode,
                uid,
                gid,
                times: [now; 3],
            }),
        })
    }
    fn fs(&self) -> Arc<DevPts> {
        match self.fs.upgrade() {
            Some(f) => f,
            None => unreachable!("the terminals of a machine live as long as it"),
        }
    }
}

impl DevPts {
    /// An empty one; `now`: ns since 1970.
    pub fn new(dev: u64, now: TimeNs) -> Arc<DevPts> {
        let fs = Arc::new_cyclic(|this| DevPts {
            this: this.clone(),
            dev,
            root: Once::new(),
            slaves: SpinLock::new(BTreeMap::new()),
        });
        let root = PtsInode::new(&fs.this, Place::Root, 0o755, 0, 0, now);
        let _ = fs.root.set(root);
        fs
    }
    /// A slave appears, owned by whoever opened the master.
    pub(crate) fn add(&self, index: u32, cred: &Cred, now: TimeNs) {
        let i = PtsInode::new(
            &self.this,
            Place::Slave(index),
            0o620,
            cred.fsuid,
            TTY_GID,
            now,
        );
        let old = self.slaves.lock().insert(index, i);
        drop(old);
    }
    /// A slave vanishes.
    pub(crate) fn remove(&self, index: u32) {
        let old = self.slaves.lock().remove(&index);
        drop(old);
    }
    fn list(&self) -> Vec<(Vec<u8>, u64, FileType)> {
        let mut v = Vec::new();
        v.push((b"ptmx".to_vec(), FIRST_INO - 1, FileType::Char));
        let numbers: Vec<u32> = self.slaves.lock().keys().copied().collect();
        for n in numbers {
            v.push((
                format!("{n}").into_bytes(),
                n as u64 + FIRST_INO,
                FileType::Char,
            ));
        }
        v
    }
}

impl SuperBlock for DevPts {
    fn fs_type(&self) -> &'static str {
        "devpts"
    }
    fn root(&self) -> InodeRef {
        match self.root.get() {
            Some(r) => r.clone(),
            None => unreachable!("set when it is made"),
        }
    }
    fn magic(&self) -> u64 {
        MAGIC
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
    fn options(&self) -> Vec<u8> {
        b"gid=5,mode=620,ptmxmode=666".to_vec()
    }
    fn volatile(&self) -> bool {
        true
    }
}

impl Inode for PtsInode {
    fn super_block(&self) -> Arc<dyn SuperBlock> {
        self.fs()
    }
    fn attr(&self) -> Result<Attr> {
        let rdev = match self.place {
            Place::Root => 0,
            Place::Ptmx => makedev(5, 2),
            Place::Slave(n) => makedev(PTS_MAJOR, n),
        };
        let dev = self.fs().dev;
        let m = self.meta.lock();
        Ok(Attr {
            dev,
            ino: self.ino(),
            mode: self.file_type().mode_bits() | m.mode,
            nlink: if self.place == Place::Root { 2 } else { 1 },
            uid: m.uid,
            gid: m.gid,
            rdev,
            size: 0,
            blksize: 1024,
            blocks: 0,
            atime: m.times[0],
            mtime: m.times[1],
            ctime: m.times[2],
            btime: 0,
        })
    }
    fn file_type(&self) -> FileType {
        match self.place {
            Place::Root => FileType::Dir,
            _ => FileType::Char,
        }
    }
    fn ino(&self) -> u64 {
        match self.place {
            Place::Root => 1,
            Place::Ptmx => FIRST_INO - 1,
            Place::Slave(n) => n as u64 + FIRST_INO,
        }
    }
    fn set_attr(&self, set: &SetAttr) -> Result {
        let mut m = self.meta.lock();
        if let Some(mode) = set.mode {
            m.mode = mode & 0o7777;
        }
        if let Some(uid) = set.uid {
            m.uid = uid;
        }
        if let Some(gid) = set.gid {
            m.gid = gid;
        }
        if let Some(t) = set.atime {
            m.times[0] = t;
        }
        if let Some(t) = set.mtime {
            m.times[1] = t;
        }
        Ok(())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn lookup(&self, name: &[u8]) -> Result<InodeRef> {
        if self.place != Place::Root {
            return Err(Errno::ENOTDIR);
        }
        let fs = self.fs();
        if name == b"ptmx" {
            let now = self.meta.lock().times[1];
            return Ok(PtsInode::new(&self.fs, Place::Ptmx, 0o666, 0, 0, now));
        }
        let n: u32 = core::str::from_utf8(name)
            .ok()
            .filter(|s| s.len() == 1 || !s.starts_with(['0', '+']))
            .and_then(|s| s.parse().ok())
            .filter(|n| *n < MAX_PTYS)
            .ok_or(Errno::ENOENT)?;
        let found = fs.slaves.lock().get(&n).cloned();
        Ok(found.ok_or(Errno::ENOENT)?)
    }
    fn revalidate(&self, name: &[u8], child: Option<&InodeRef>) -> bool {
        match (self.lookup(name), child) {
            (Ok(new), Some(old)) => {
                name == b"ptmx" || core::ptr::addr_eq(Arc::as_ptr(&new), Arc::as_ptr(old))
            }
            (Err(_), None) => true,
            _ => false,
        }
    }
    /// Slaves and `ptmx` are opened through the table of devices.
    fn open(
        &self,
        _this: &InodeRef,
        _flags: OpenFlags,
        _cx: &dyn Caller,
    ) -> Result<Arc<dyn FileOps>> {
        match self.place {
            Place::Root => Ok(Arc::new(PtsDir(self.fs()))),
            _ => Err(Errno::ENXIO),
        }
    }
}

/// The open directory.
struct PtsDir(Arc<DevPts>);

impl FileOps for PtsDir {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn read(&self, _f: &File, _cx: &dyn Caller, _pos: u64, _dst: &mut dyn Sink) -> Result<usize> {
        Err(Errno::EISDIR)
    }
    fn write(
        &self,
        _f: &File,
        _cx: &dyn Caller,
        _pos: u64,
        _src: &mut dyn Source,
    ) -> Result<usize> {
        Err(Errno::EISDIR)
    }
    fn traits(&self) -> Traits {
        Traits::FILE
    }
    fn read_dir(&self, f: &File, pos: u64, emit: &mut DirEmit<'_>) -> Result {
        if !vfs::generic::emit_dots(f, pos, emit) {
            return Ok(());
        }
        // Positions from 2 on are inode numbers, which ascend.
        for (name, ino, kind) in self.0.list() {
            if ino >= pos && !emit(&name, ino, kind, ino + 1) {
                break;
            }
        }
        Ok(())
    }
    fn fsync(&self, _f: &File, _data_only: bool) -> Result {
        Ok(())
    }
}
