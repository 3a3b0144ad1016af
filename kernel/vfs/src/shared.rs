//! What all mounts of a machine share: [`Shared`].

use crate::anon::AnonFs;
use crate::dcache::DentryCache;
use crate::inode::SuperBlock;
use crate::locks::LockTable;
use crate::mount::{FsInstance, Mount, MountFlags};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use sync::{Mutex, Once, SpinLock, level};

/// The VFS's state of a machine. Reached from every mount.
pub struct Shared {
    pub(crate) dcache: DentryCache,
    /// Held by renames that change the shape of the tree.
    pub(crate) rename: Mutex<()>,
    /// Counts renames, for scoped path walks.
    pub(crate) rename_seq: AtomicU64,
    /// Number of inotify watches.
    pub(crate) watches: AtomicUsize,
    pub(crate) lock_table: LockTable,
    instances: SpinLock<Vec<Weak<FsInstance>>, { level::DENTRY }>,
    ids: AtomicU64,
    anon: Once<Arc<Mount>>,
}

impl Shared {
    pub(crate) fn new() -> Arc<Shared> {
        Arc::new(Shared {
            dcache: DentryCache::new(),
            rename: Mutex::new(()),
            rename_seq: AtomicU64::new(0),
            watches: AtomicUsize::new(0),
            lock_table: LockTable::default(),
            instances: SpinLock::new(Vec::new()),
            ids: AtomicU64::new(1),
            anon: Once::new(),
        })
    }
    /// A number never given before.
    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }
    /// The instance of a file system: one, however often it is mounted.
    pub(crate) fn instance(self: &Arc<Self>, sb: &Arc<dyn SuperBlock>) -> Arc<FsInstance> {
        let new = FsInstance::new(self.clone(), sb.clone());
        let mut gone = Vec::new();
        let mut list = self.instances.lock();
        let mut found = None;
        list.retain(|w| match w.upgrade() {
            Some(i) => {
                if core::ptr::addr_eq(Arc::as_ptr(&i.sb), Arc::as_ptr(sb)) {
                    found = Some(i);
                } else {
                    gone.push(i);
                }
                true
            }
            None => false,
        });
        if found.is_none() {
            list.push(Arc::downgrade(&new));
        }
        drop(list);
        found.unwrap_or(new)
    }
    /// The mount of files that have no place in any tree (pipes, sockets) but are reached through /proc/PID/fd.
    pub(crate) fn anon_mount(self: &Arc<Self>) -> Arc<Mount> {
        loop {
            if let Some(m) = self.anon.get() {
                return m.clone();
            }
            let sb: Arc<dyn SuperBlock> =
                AnonFs::new("anon_inodefs", 0x0904_1934, abi::stat::makedev(0, 13));
            let mnt = Mount::new(self.instance(&sb), None, b"none", MountFlags::empty());
            let _ = self.anon.set(mnt);
        }
    }
    /// Gives up to `n` unused dentries (and with them inodes and clean pages) back. The number freed.
    pub fn shrink(&self, n: usize) -> usize {
        self.dcache.shrink(n)
    }
}
