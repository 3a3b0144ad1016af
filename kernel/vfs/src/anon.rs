//! Inodes without a name: those of pipes, sockets, event descriptors and the like.
//!
//! Each kind lives in a file system of its own that is never mounted
//! ([`AnonFs`]); [`AnonRoot`] bundles them and hangs off the kernel's root object.

use crate::cred::Cred;
use crate::file::{Caller, FileOps, OpenFlags};
use crate::inode::{Attr, FileType, Inode, InodeRef, SetAttr, StatFs, SuperBlock, TimeNs};
use crate::state::InodeState;
use abi::{Errno, Result};
use alloc::sync::{Arc, Weak};
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};
use sync::{SpinLock, level};

/// A never-mounted file system of anonymous inodes.
pub struct AnonFs {
    fs_type: &'static str,
    magic: u64,
    dev: u64,
    next_ino: AtomicU64,
    this: Weak<AnonFs>,
}

impl AnonFs {
    /// An empty one; `dev` as in `st_dev`.
    pub fn new(fs_type: &'static str, magic: u64, dev: u64) -> Arc<AnonFs> {
        Arc::new_cyclic(|this| AnonFs {
            fs_type,
            magic,
            dev,
            next_ino: AtomicU64::new(2),
            this: this.clone(),
        })
    }
    /// A new inode. `mode`: what stat(2) shows, type bits included (anonymous
    /// inodes proper have none); `kind`: how generic code treats it.
    pub fn inode(
        self: &Arc<Self>,
        kind: FileType,
        mode: u32,
        cred: &Cred,
        now: TimeNs,
    ) -> Arc<AnonInode> {
        Arc::new(AnonInode {
            fs: self.clone(),
            ino: self.next_ino.fetch_add(1, Ordering::Relaxed),
            kind,
            attr: SpinLock::new(AnonAttr {
                mode,
                uid: cred.fsuid,
                gid: cred.fsgid,
                atime: now,
                mtime: now,
                ctime: now,
            }),
            slot: SpinLock::new(None),
            state: InodeState::new(),
        })
    }
}

impl SuperBlock for AnonFs {
    fn fs_type(&self) -> &'static str {
        self.fs_type
    }
    fn root(&self) -> InodeRef {
        match self.this.upgrade() {
            Some(fs) => Arc::new(AnonInode {
                fs,
                ino: 1,
                kind: FileType::Dir,
                attr: SpinLock::new(AnonAttr {
                    mode: FileType::Dir.mode_bits() | 0o500,
                    uid: 0,
                    gid: 0,
                    atime: 0,
                    mtime: 0,
                    ctime: 0,
                }),
                slot: SpinLock::new(None),
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
}

/// The file systems of anonymous inodes of a machine.
pub struct AnonRoot {
    /// Pipes.
    pub pipefs: Arc<AnonFs>,
    /// Sockets.
    pub sockfs: Arc<AnonFs>,
    /// Everything else: eventfd, epoll, timerfd, signalfd, inotify, pidfd.
    pub anon_inodefs: Arc<AnonFs>,
}

impl AnonRoot {
    /// Empty ones.
    pub fn new() -> Arc<AnonRoot> {
        Arc::new(AnonRoot {
            pipefs: AnonFs::new("pipefs", 0x5049_5045, abi::stat::makedev(0, 14)),
            sockfs: AnonFs::new("sockfs", 0x534f_434b, abi::stat::makedev(0, 8)),
            anon_inodefs: AnonFs::new("anon_inodefs", 0x0904_1934, abi::stat::makedev(0, 15)),
        })
    }
    /// A fifo inode for a pipe.
    pub fn pipe_inode(&self, cx: &dyn Caller) -> Arc<AnonInode> {
        let mode = FileType::Fifo.mode_bits() | 0o600;
        self.pipefs
            .inode(FileType::Fifo, mode, &cx.cred(), cx.realtime_ns())
    }
    /// A socket inode.
    pub fn socket_inode(&self, cx: &dyn Caller) -> Arc<AnonInode> {
        let mode = FileType::Socket.mode_bits() | 0o777;
        self.sockfs
            .inode(FileType::Socket, mode, &cx.cred(), cx.realtime_ns())
    }
    /// An inode for anything else; stat(2) shows mode 0600 without a type.
    /// Generic code sees a character device: a stream, never a regular file.
    pub fn anon_inode(&self, cx: &dyn Caller) -> Arc<AnonInode> {
        self.anon_inodefs
            .inode(FileType::Char, 0o600, &cx.cred(), cx.realtime_ns())
    }
}

struct AnonAttr {
    mode: u32,
    uid: u32,
    gid: u32,
    atime: TimeNs,
    mtime: TimeNs,
    ctime: TimeNs,
}

/// An inode without a name.
pub struct AnonInode {
    fs: Arc<AnonFs>,
    ino: u64,
    kind: FileType,
    attr: SpinLock<AnonAttr, { level::INODE }>,
    slot: SpinLock<Option<Arc<dyn Any + Send + Sync>>, { level::INODE }>,
    state: InodeState,
}

impl Inode for AnonInode {
    fn super_block(&self) -> Arc<dyn SuperBlock> {
        self.fs.clone()
    }
    fn attr(&self) -> Result<Attr> {
        let a = self.attr.lock();
        Ok(Attr {
            dev: self.fs.dev,
            ino: self.ino,
            mode: a.mode,
            nlink: 1,
            uid: a.uid,
            gid: a.gid,
            rdev: 0,
            size: 0,
            blksize: 4096,
            blocks: 0,
            atime: a.atime,
            mtime: a.mtime,
            ctime: a.ctime,
            btime: 0,
        })
    }
    fn file_type(&self) -> FileType {
        self.kind
    }
    fn ino(&self) -> u64 {
        self.ino
    }
    fn state(&self) -> Option<&InodeState> {
        Some(&self.state)
    }
    fn set_attr(&self, set: &SetAttr) -> Result {
        if set.size.is_some() {
            return Err(Errno::EINVAL);
        }
        let mut a = self.attr.lock();
        if let Some(m) = set.mode {
            a.mode = a.mode & !0o7777 | m & 0o7777;
        }
        if let Some(u) = set.uid {
            a.uid = u;
        }
        if let Some(g) = set.gid {
            a.gid = g;
        }
        if let Some(t) = set.atime {
            a.atime = t;
        }
        if let Some(t) = set.mtime {
            a.mtime = t;
        }
        Ok(())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    /// Fifos are opened by the ipc layer through [`Inode::fifo_slot`]; nothing else can be opened again.
    fn open(
        &self,
        _this: &InodeRef,
        _flags: OpenFlags,
        _cx: &dyn Caller,
    ) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ENXIO)
    }
    fn socket_slot(
        &self,
    ) -> Option<&SpinLock<Option<Arc<dyn Any + Send + Sync>>, { level::INODE }>> {
        matches!(self.kind, FileType::Fifo | FileType::Socket).then_some(&self.slot)
    }
}
