//! tmpfs: a file system in the page cache, tmpfs(5).
//!
//! - [`TmpFs`]: the super block: limits and accounts.
//! - [`TmpInode`]: an inode; file contents are a memory page cache.
//! - `dir`: directories: names in a tree, and a second tree by cookie for readdir.
//! - `options`: mount options.
//!
//! The VFS serialises changes of names by its directory locks. Spin locks here
//! (level `INODE`) protect one inode's fields each and are never nested.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

mod dir;
mod inode;
mod options;

pub use inode::TmpInode;
pub use options::Options;

use abi::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};
use hal::dev::Clock;
use vfs::cred::Perm;
use vfs::file::Caller;
use vfs::inode::{InodeRef, NewNode, StatFs, TimeNs};
use vfs::mount::FsType;
use vfs::{FileType, SuperBlock};

/// `f_type` of statfs(2).
pub const MAGIC: u64 = 0x0102_1994;
const PAGE: u64 = hal::PAGE_SIZE as u64;

/// Row for the table of file-system types.
pub const FS_TYPE: FsType = FsType {
    name: "tmpfs",
    needs_dev: false,
    mount,
};

fn mount(cx: &dyn Caller, _source: &[u8], data: &[u8]) -> Result<Arc<dyn SuperBlock>> {
    let devices = cx.devices().ok_or(Errno::ENODEV)?;
    let cred = cx.cred();
    let mut o = Options {
        uid: cred.fsuid,
        gid: cred.fsgid,
        ..Options::default()
    };
    o.parse(data)?;
    Ok(TmpFs::new(devices.clock(), devices.next_anon_dev(), &o))
}

/// Limits, accounts and clock: what all inodes share.
pub(crate) struct Core {
    clock: &'static dyn Clock,
    dev: u64,
    /// Limits; 0 = none.
    max_pages: AtomicU64,
    max_inodes: AtomicU64,
    used_pages: AtomicU64,
    used_inodes: AtomicU64,
    next_ino: AtomicU64,
    fs: Weak<TmpFs>,
}

impl Core {
    pub(crate) fn now(&self) -> TimeNs {
        i64::try_from(self.clock.realtime_ns()).unwrap_or(i64::MAX)
    }
    /// Counts an inode. [`Errno::ENOSPC`].
    fn take_inode(&self) -> Result {
        let max = self.max_inodes.load(Ordering::Relaxed);
        let n = self.used_inodes.fetch_add(1, Ordering::Relaxed);
        if max != 0 && n >= max {
            self.used_inodes.fetch_sub(1, Ordering::Relaxed);
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }
    /// Pages that may still be used.
    fn free_pages(&self) -> u64 {
        match self.max_pages.load(Ordering::Relaxed) {
            0 => u64::MAX,
            max => max.saturating_sub(self.used_pages.load(Ordering::Relaxed)),
        }
    }
    fn new_ino(&self) -> u64 {
        self.next_ino.fetch_add(1, Ordering::Relaxed)
    }
}

/// A mounted tmpfs.
pub struct TmpFs {
    core: Arc<Core>,
    root: Arc<TmpInode>,
    mode: u32,
}

impl TmpFs {
    /// An empty file system; `dev` as in `st_dev`.
    pub fn new(clock: &'static dyn Clock, dev: u64, o: &Options) -> Arc<TmpFs> {
        Arc::new_cyclic(|this| {
            let core = Arc::new(Core {
                clock,
                dev,
                max_pages: AtomicU64::new(o.pages()),
                max_inodes: AtomicU64::new(o.inodes()),
                used_pages: AtomicU64::new(0),
                used_inodes: AtomicU64::new(1),
                next_ino: AtomicU64::new(2),
                fs: this.clone(),
            });
            let perm = Perm {
                mode: FileType::Dir.mode_bits() | o.mode & 0o7777,
                uid: o.uid,
                gid: o.gid,
            };
            let root = TmpInode::make(&core, 1, perm, inode::Body::new_dir());
            TmpFs {
                core,
                root,
                mode: o.mode & 0o7777,
            }
        })
    }
    /// An inode without a name, counted and limited like any other; for file
    /// systems that keep their changes in a tmpfs (overlay). `mode`: permission bits.
    pub fn new_node(
        &self,
        node: &NewNode<'_>,
        mode: u32,
        uid: u32,
        gid: u32,
    ) -> Result<Arc<TmpInode>> {
        TmpInode::new(&self.core, node, mode, uid, gid)
    }
    /// The file system's clock, ns since 1970.
    pub fn now(&self) -> TimeNs {
        self.core.now()
    }
}

impl SuperBlock for TmpFs {
    fn fs_type(&self) -> &'static str {
        "tmpfs"
    }
    fn root(&self) -> InodeRef {
        self.root.clone()
    }
    fn magic(&self) -> u64 {
        MAGIC
    }
    fn dev(&self) -> u64 {
        self.core.dev
    }
    fn statfs(&self) -> Result<StatFs> {
        let c = &self.core;
        let blocks = c.max_pages.load(Ordering::Relaxed);
        let files = c.max_inodes.load(Ordering::Relaxed);
        let bfree = blocks.saturating_sub(c.used_pages.load(Ordering::Relaxed));
        Ok(StatFs {
            bsize: PAGE,
            blocks,
            bfree,
            bavail: bfree,
            files,
            ffree: files.saturating_sub(c.used_inodes.load(Ordering::Relaxed)),
            namelen: abi::io::NAME_MAX as u64,
        })
    }
    fn options(&self) -> Vec<u8> {
        let c = &self.core;
        let mut out = alloc::format!(
            "size={}k",
            c.max_pages.load(Ordering::Relaxed) * (PAGE >> 10)
        );
        if self.mode != 0o1777 {
            out.push_str(&alloc::format!(",mode={:o}", self.mode));
        }
        out.into_bytes()
    }
    /// New limits; they may not be below what is in use.
    fn remount(&self, data: &[u8]) -> Result {
        let c = &self.core;
        let mut o = Options {
            size: Some(c.max_pages.load(Ordering::Relaxed).saturating_mul(PAGE)),
            nr_inodes: Some(c.max_inodes.load(Ordering::Relaxed)),
            ..Options::default()
        };
        o.parse(data)?;
        let (pages, inodes) = (o.pages(), o.inodes());
        if pages != 0 && pages < c.used_pages.load(Ordering::Relaxed)
            || inodes != 0 && inodes < c.used_inodes.load(Ordering::Relaxed)
        {
            return Err(Errno::EINVAL);
        }
        c.max_pages.store(pages, Ordering::Relaxed);
        c.max_inodes.store(inodes, Ordering::Relaxed);
        Ok(())
    }
}

/// The `TmpInode` behind an inode of this file system. [`Errno::EXDEV`].
pub(crate) fn own(inode: &InodeRef) -> Result<&TmpInode> {
    let any: &dyn Any = inode.as_any();
    any.downcast_ref().ok_or(Errno::EXDEV)
}
