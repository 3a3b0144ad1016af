//! Events on files for inotify(7).
//!
//! The ipc layer's inotify registers a [`Watcher`] with [`watch`]; the VFS
//! calls it. While nobody watches anything, an event costs one atomic load.
//! Events on a file also go to watchers of the directory it was opened in, with its name.

use crate::inode::InodeRef;
use crate::path::{Dentry, Path};
use crate::shared::Shared;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::Ordering;
use sync::{SpinLock, level};

/// Event bits of inotify(7).
#[expect(missing_docs)]
pub mod event {
    pub const ACCESS: u32 = 0x1;
    pub const MODIFY: u32 = 0x2;
    pub const ATTRIB: u32 = 0x4;
    pub const CLOSE_WRITE: u32 = 0x8;
    pub const CLOSE_NOWRITE: u32 = 0x10;
    pub const OPEN: u32 = 0x20;
    pub const MOVED_FROM: u32 = 0x40;
    pub const MOVED_TO: u32 = 0x80;
    pub const CREATE: u32 = 0x100;
    pub const DELETE: u32 = 0x200;
    pub const DELETE_SELF: u32 = 0x400;
    pub const MOVE_SELF: u32 = 0x800;
    pub const ISDIR: u32 = 0x4000_0000;
}

/// Receives events. Called with no spin lock held.
pub trait Watcher: Send + Sync {
    /// `wd`: as given to [`watch`]; `cookie` ties MOVED_FROM to MOVED_TO; `name`: entry of the watched directory.
    fn event(&self, wd: i32, mask: u32, cookie: u32, name: Option<&[u8]>);
}

struct Entry {
    wd: i32,
    mask: u32,
    to: Weak<dyn Watcher>,
}

/// The watches on one inode by number. There may be very many.
#[derive(Default)]
pub(crate) struct Watches(SpinLock<BTreeMap<u64, Entry>, { level::INODE }>);

/// Watchers that are told of an event between two looks at the list.
const BATCH: usize = 16;

/// A registered watch; ends when dropped. Keeps the inode alive.
pub struct Watch {
    shared: Arc<Shared>,
    inode: InodeRef,
    id: u64,
}

/// Watches what `path` leads to for the events in `mask`. Files without [`crate::Inode::state`] never have events.
pub fn watch(path: &Path, wd: i32, mask: u32, to: Weak<dyn Watcher>) -> abi::Result<Watch> {
    let shared = path.mnt.shared().clone();
    let inode = path.dentry.inode().ok_or(abi::Errno::ENOENT)?;
    let id = shared.next_id();
    if let Some(state) = inode.state() {
        let mut list = state.rare_or_new().watches.0.lock();
        list.insert(id, Entry { wd, mask, to });
        state.watch_mask.fetch_or(mask, Ordering::Relaxed);
    }
    shared.watches.fetch_add(1, Ordering::Relaxed);
    Ok(Watch { shared, inode, id })
}

impl Watch {
    /// What is watched.
    pub fn inode(&self) -> &InodeRef {
        &self.inode
    }
    /// Watches for other events from now on.
    pub fn set_mask(&self, mask: u32) {
        self.edit(|list, id| {
            if let Some(e) = list.get_mut(&id) {
                e.mask = mask;
            }
        });
    }
    fn edit(&self, f: impl FnOnce(&mut BTreeMap<u64, Entry>, u64)) {
        let Some(state) = self.inode.state() else {
            return;
        };
        let Some(rare) = state.rare() else { return };
        let mut list = rare.watches.0.lock();
        f(&mut list, self.id);
        let all = list.values().fold(0, |m, e| m | e.mask);
        state.watch_mask.store(all, Ordering::Relaxed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut gone = None;
        self.edit(|list, id| gone = list.remove(&id));
        self.shared.watches.fetch_sub(1, Ordering::Relaxed);
        drop(gone);
    }
}

impl Shared {
    /// Whether anybody watches anything.
    fn watched(&self) -> bool {
        self.watches.load(Ordering::Relaxed) != 0
    }
    /// An event on the entry `name` of directory `dir`.
    pub(crate) fn notify_dir(&self, dir: &InodeRef, mask: u32, cookie: u32, name: &[u8]) {
        if self.watched() {
            send(dir, mask, cookie, Some(name));
        }
    }
    /// An event on an inode itself.
    pub(crate) fn notify_inode(&self, inode: &InodeRef, mask: u32) {
        if self.watched() {
            send(inode, mask, 0, None);
        }
    }
    /// An event on a file: for itself and for the directory it is in.
    pub(crate) fn notify_dentry(&self, dentry: &Dentry, mask: u32) {
        if self.watched() {
            self.notify_dentry_slow(dentry, mask);
        }
    }
    #[cold]
    fn notify_dentry_slow(&self, dentry: &Dentry, mask: u32) {
        let Some(inode) = dentry.inode_ref() else {
            return;
        };
        let dir_bit = if inode.file_type() == crate::FileType::Dir {
            event::ISDIR
        } else {
            0
        };
        if let Some(parent) = dentry.parent()
            && let Some(dir) = parent.inode_ref()
        {
            send(dir, mask | dir_bit, 0, Some(&dentry.name()));
        }
        send(inode, mask | dir_bit, 0, None);
    }
}

/// Whether somebody waits for the end of this inode.
pub(crate) fn end_is_watched(inode: &InodeRef) -> bool {
    inode
        .state()
        .is_some_and(|s| s.watch_mask.load(Ordering::Relaxed) & event::DELETE_SELF != 0)
}

/// The last user of an unlinked name of `inode` has gone. If it was the last name, that is its end.
pub(crate) fn name_ended(inode: &InodeRef) {
    if end_is_watched(inode)
        && (inode.file_type() == crate::FileType::Dir
            || inode.attr().map_or(true, |a| a.nlink == 0))
    {
        send(inode, event::DELETE_SELF, 0, None);
    }
}

fn send(inode: &InodeRef, mask: u32, cookie: u32, name: Option<&[u8]>) {
    let Some(state) = inode.state() else { return };
    if state.watch_mask.load(Ordering::Relaxed) & mask == 0 {
        return;
    }
    let Some(rare) = state.rare() else { return };
    let mut at = 0;
    loop {
        let mut to = [const { None }; BATCH];
        {
            let list = rare.watches.0.lock();
            let hit = list
                .range(at..)
                .filter(|(_, e)| e.mask & mask & !event::ISDIR != 0);
            for (slot, (id, e)) in to.iter_mut().zip(hit) {
                *slot = Some((e.wd, e.to.clone()));
                at = *id + 1;
            }
        }
        let full = to.iter().all(Option::is_some);
        for (wd, w) in to.into_iter().flatten() {
            if let Some(w) = w.upgrade() {
                w.event(wd, mask, cookie, name);
            }
        }
        if !full {
            return;
        }
    }
}
