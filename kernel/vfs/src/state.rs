//! What the VFS keeps with an inode: [`InodeState`].

use crate::inode::InodeRef;
use crate::locks::LockSet;
use crate::notify::Watches;
use abi::{Errno, Result};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use sync::{Once, RwLock};

/// The VFS's part of an inode. A file system with real inodes embeds one in
/// each and returns it from [`crate::Inode::state`]; it must live as long as the inode is known to anybody.
#[derive(Default)]
pub struct InodeState {
    /// Write lock: held exclusively by write(2), truncation and changes of mode or owner.
    /// Reads and page faults do not take it.
    pub lock: RwLock<()>,
    /// > 0: descriptions open for writing; < 0: programs running from the file.
    writers: AtomicI32,
    /// Union of the watched events, 0 = nobody watches.
    pub(crate) watch_mask: AtomicU32,
    rare: Once<Box<Rare>>,
}

/// What most inodes never need.
#[derive(Default)]
pub(crate) struct Rare {
    pub locks: LockSet,
    pub watches: Watches,
}

impl InodeState {
    /// Nothing locked, nobody writes or watches.
    pub const fn new() -> InodeState {
        InodeState {
            lock: RwLock::new(()),
            writers: AtomicI32::new(0),
            watch_mask: AtomicU32::new(0),
            rare: Once::new(),
        }
    }
    /// The rare part if it exists.
    pub(crate) fn rare(&self) -> Option<&Rare> {
        self.rare.get().map(|b| &**b)
    }
    /// The rare part, made if need be.
    pub(crate) fn rare_or_new(&self) -> &Rare {
        loop {
            if let Some(r) = self.rare.get() {
                return r;
            }
            // A concurrent setter wins; it stores in a moment.
            let _ = self.rare.set(Box::default());
            core::hint::spin_loop();
        }
    }
}

/// The right to write to a file, or (`deny`) to run it: the two exclude each other, open(2) ETXTBSY.
pub(crate) struct WriteAccess {
    inode: InodeRef,
    step: i32,
}

impl WriteAccess {
    /// Counts a writer. [`Errno::ETXTBSY`].
    pub fn write(inode: &InodeRef) -> Result<Option<WriteAccess>> {
        Self::get(inode, 1)
    }
    /// Counts a running program. [`Errno::ETXTBSY`].
    pub fn deny(inode: &InodeRef) -> Result<Option<WriteAccess>> {
        Self::get(inode, -1)
    }
    fn get(inode: &InodeRef, step: i32) -> Result<Option<WriteAccess>> {
        let Some(state) = inode.state() else {
            return Ok(None);
        };
        state
            .writers
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| {
                (n == 0 || (n > 0) == (step > 0)).then_some(n + step)
            })
            .map_err(|_| Errno::ETXTBSY)?;
        Ok(Some(WriteAccess {
            inode: inode.clone(),
            step,
        }))
    }
}

impl Drop for WriteAccess {
    fn drop(&mut self) {
        if let Some(state) = self.inode.state() {
            state.writers.fetch_sub(self.step, Ordering::AcqRel);
        }
    }
}
