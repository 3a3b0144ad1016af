//! File locks: fcntl(2) POSIX and open-file-description locks, flock(2), leases are not there.
//!
//! Locks hang on the inode ([`crate::state::InodeState`]). POSIX and description
//! locks exclude each other by range; flock(2) locks are a world of their own.

use crate::file::File;
use crate::inode::Inode;
use crate::shared::Shared;
use crate::text::try_vec;
use abi::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use sync::{SpinLock, WaitQueue, level};

/// Most locks on one inode; more: [`Errno::ENOLCK`].
const LOCKS_MAX: usize = 64 << 10;
/// Longest chain of waiting owners that is searched for a deadlock.
const CHAIN_MAX: usize = 128;

/// Kind of lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockKind {
    /// Shared.
    Read,
    /// Exclusive.
    Write,
    /// None.
    Unlock,
}

/// A byte-range lock; `end` inclusive, `u64::MAX` = to the end of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs)]
pub struct RangeLock {
    pub kind: LockKind,
    pub start: u64,
    pub end: u64,
    /// Identity of the owner: the descriptor table (POSIX) or the file description (OFD: [`ofd_owner`]).
    pub owner: usize,
    /// For F_GETLK; −1 for OFD locks.
    pub pid: i32,
}

/// Owner of a description's OFD and flock(2) locks.
pub fn ofd_owner(file: &File) -> usize {
    core::ptr::from_ref(file).addr()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    Posix,
    Ofd,
    Flock,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    class: Class,
    lock: RangeLock,
}

impl Held {
    fn overlaps(&self, l: &RangeLock) -> bool {
        self.lock.start <= l.end && l.start <= self.lock.end
    }
    /// Whether it keeps `o` from being taken.
    fn blocks(&self, o: &Held) -> bool {
        (self.class == Class::Flock) == (o.class == Class::Flock)
            && !(self.class == o.class && self.lock.owner == o.lock.owner)
            && self.overlaps(&o.lock)
            && (self.lock.kind == LockKind::Write || o.lock.kind == LockKind::Write)
    }
    fn is_of(&self, o: &Held) -> bool {
        self.class == o.class && self.lock.owner == o.lock.owner
    }
}

/// The locks on an inode.
#[derive(Default)]
pub(crate) struct LockSet {
    held: SpinLock<Vec<Held>, { level::INODE }>,
    /// Woken when a lock goes away or becomes weaker.
    queue: WaitQueue,
}

impl LockSet {
    /// Takes the lock, or says which one is in the way. Unlocking always works.
    fn try_take(&self, new: &Held) -> Result<Result<(), RangeLock>> {
        let mut held = self.held.lock();
        if new.lock.kind != LockKind::Unlock
            && let Some(b) = held.iter().find(|h| h.blocks(new))
        {
            return Ok(Err(b.lock));
        }
        if held.len() + 2 > LOCKS_MAX || held.try_reserve(2).is_err() {
            return Err(Errno::ENOLCK);
        }
        let weaker = apply(&mut held, new);
        drop(held);
        if weaker {
            // Wake-up proof: waiters are on the queue before they try again,
            // and the list was changed before this.
            self.queue.wake_all();
        }
        Ok(Ok(()))
    }
    /// Drops everything that `gone` names.
    fn remove(&self, gone: impl Fn(&Held) -> bool) {
        let mut held = self.held.lock();
        let before = held.len();
        held.retain(|h| !gone(h));
        let changed = held.len() != before;
        drop(held);
        if changed {
            self.queue.wake_all();
        }
    }
    fn is_empty(&self) -> bool {
        self.held.lock().is_empty()
    }
}

/// Cuts the owner's locks out of the range and puts the new one in, joined with
/// its neighbours of the same kind. Whether something became weaker.
fn apply(held: &mut Vec<Held>, new: &Held) -> bool {
    let mut weaker = false;
    let mut lock = new.lock;
    let mut rest: Vec<Held> = Vec::new();
    held.retain(|h| {
        if !h.is_of(new) {
            return true;
        }
        let touches = h.lock.start <= lock.end.saturating_add(1)
            && lock.start <= h.lock.end.saturating_add(1);
        if !touches {
            return true;
        }
        if h.lock.kind == new.lock.kind {
            lock.start = lock.start.min(h.lock.start);
            lock.end = lock.end.max(h.lock.end);
            return false;
        }
        if !h.overlaps(&new.lock) {
            return true;
        }
        weaker |= new.lock.kind != LockKind::Write;
        if h.lock.start < new.lock.start {
            let mut left = *h;
            left.lock.end = new.lock.start - 1;
            rest.push(left);
        }
        if h.lock.end > new.lock.end {
            let mut right = *h;
            right.lock.start = new.lock.end + 1;
            rest.push(right);
        }
        false
    });
    held.append(&mut rest);
    if new.lock.kind != LockKind::Unlock {
        held.push(Held {
            class: new.class,
            lock,
        });
    }
    weaker
}

struct Wait {
    id: u64,
    owner: usize,
    blocker: usize,
}

/// Who waits for whom, and which inodes have locks; one a machine.
#[derive(Default)]
pub(crate) struct LockTable {
    waits: SpinLock<Vec<Wait>, { level::INODE }>,
    inodes: SpinLock<Vec<Weak<dyn Inode>>, { level::INODE }>,
    ids: AtomicU64,
}

impl LockTable {
    /// Notes that `owner` waits for `blocker`; [`Errno::EDEADLK`] if that closes a circle.
    fn wait_for(&self, id: u64, owner: usize, blocker: usize) -> Result {
        let mut waits = self.waits.lock();
        waits.retain(|w| w.id != id);
        let mut at = blocker;
        for _ in 0..CHAIN_MAX {
            if at == owner {
                return Err(Errno::EDEADLK);
            }
            match waits.iter().find(|w| w.owner == at) {
                Some(w) => at = w.blocker,
                None => break,
            }
        }
        waits.push(Wait { id, owner, blocker });
        Ok(())
    }
    fn done(&self, id: u64) {
        self.waits.lock().retain(|w| w.id != id);
    }
    fn note(&self, inode: &Arc<dyn Inode>) {
        let mut dead = Vec::new();
        let mut list = self.inodes.lock();
        let mut known = false;
        let mut i = 0;
        while i < list.len() {
            known |= core::ptr::addr_eq(list[i].as_ptr(), Arc::as_ptr(inode));
            if list[i].strong_count() == 0 {
                dead.push(list.swap_remove(i));
            } else {
                i += 1;
            }
        }
        if !known {
            list.push(Arc::downgrade(inode));
        }
        drop(list);
        drop(dead);
    }
}

fn shared(file: &File) -> Option<&Arc<Shared>> {
    file.path.as_ref().map(|p| p.mnt.shared())
}

/// Takes a lock, waiting if asked to.
fn take(file: &Arc<File>, new: Held, wait: bool) -> Result {
    let state = file.inode.state().ok_or(Errno::ENOLCK)?;
    if new.lock.kind == LockKind::Unlock && state.rare().is_none() {
        return Ok(());
    }
    let set = &state.rare_or_new().locks;
    let table = shared(file).map(|s| &s.lock_table);
    let result = match set.try_take(&new)? {
        Ok(()) => Ok(()),
        Err(_) if !wait => Err(Errno::EAGAIN),
        Err(_) => {
            let id = table.map_or(0, |t| t.ids.fetch_add(1, Ordering::Relaxed));
            let r = set.queue.wait(|| match set.try_take(&new) {
                Ok(Ok(())) => Some(Ok(())),
                Ok(Err(b)) => match table {
                    Some(t) if new.class == Class::Posix && b.pid >= 0 => {
                        t.wait_for(id, new.lock.owner, b.owner).err().map(Err)
                    }
                    _ => None,
                },
                Err(e) => Some(Err(e)),
            });
            if let Some(t) = table {
                t.done(id);
            }
            r.and_then(|r| r)
        }
    };
    if result.is_ok()
        && new.lock.kind != LockKind::Unlock
        && let Some(t) = table
    {
        t.note(&file.inode);
    }
    result
}

fn held(lock: RangeLock) -> Held {
    Held {
        class: if lock.pid < 0 {
            Class::Ofd
        } else {
            Class::Posix
        },
        lock,
    }
}

/// F_SETLK, F_SETLKW (`wait`), and the OFD forms. [`Errno::EAGAIN`], [`Errno::EDEADLK`], [`Errno::EBADF`], ERESTARTSYS.
pub fn set_range(file: &Arc<File>, lock: RangeLock, wait: bool) -> Result {
    if lock.start > lock.end {
        return Err(Errno::EINVAL);
    }
    match lock.kind {
        LockKind::Read => file.check_readable()?,
        LockKind::Write => file.check_writable()?,
        LockKind::Unlock => {}
    }
    take(file, held(lock), wait)
}

/// F_GETLK: the first lock in the way.
pub fn get_range(file: &Arc<File>, lock: RangeLock) -> Result<Option<RangeLock>> {
    let Some(rare) = file.inode.state().and_then(|s| s.rare()) else {
        return Ok(None);
    };
    let new = held(lock);
    let list = rare.locks.held.lock();
    Ok(list
        .iter()
        .filter(|h| h.blocks(&new))
        .map(|h| h.lock)
        .min_by_key(|l| l.start))
}

/// flock(2). EWOULDBLOCK as [`Errno::EAGAIN`].
pub fn flock(file: &Arc<File>, kind: LockKind, wait: bool) -> Result {
    let owner = ofd_owner(file);
    let lock = |kind| Held {
        class: Class::Flock,
        lock: RangeLock {
            kind,
            start: 0,
            end: u64::MAX,
            owner,
            pid: file_pid(file),
        },
    };
    // A change of kind gives the old lock up first, as flock(2) says.
    if let Some(rare) = file.inode.state().and_then(|s| s.rare())
        && kind != LockKind::Unlock
    {
        rare.locks
            .remove(|h| h.class == Class::Flock && h.lock.owner == owner && h.lock.kind != kind);
    }
    take(file, lock(kind), wait)
}

/// Who is shown as the holder of a flock(2) lock in /proc/locks.
fn file_pid(file: &File) -> i32 {
    file.owner.lock().id
}

/// close(2): the POSIX locks of `owner` on the file go.
pub(crate) fn release_posix(file: &File, owner: usize) {
    if let Some(rare) = file.inode.state().and_then(|s| s.rare())
        && !rare.locks.is_empty()
    {
        rare.locks
            .remove(|h| h.class == Class::Posix && h.lock.owner == owner);
    }
}

/// The description is gone: its OFD and flock(2) locks go.
pub(crate) fn release(file: &File) {
    if let Some(rare) = file.inode.state().and_then(|s| s.rare())
        && !rare.locks.is_empty()
    {
        let owner = ofd_owner(file);
        rare.locks
            .remove(|h| h.class != Class::Posix && h.lock.owner == owner);
    }
}

/// A line of /proc/locks.
#[derive(Clone, Copy, Debug)]
pub struct LockInfo {
    /// `POSIX`, `OFDLCK` or `FLOCK`.
    pub class: &'static str,
    /// The lock.
    pub lock: RangeLock,
    /// Device number of the file system.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

/// Lines of /proc/locks. [`Errno::ENOMEM`].
pub fn list(shared: &Shared) -> Result<Vec<LockInfo>> {
    let inodes: Vec<Arc<dyn Inode>> = {
        let list = shared.lock_table.inodes.lock();
        try_vec(list.iter().filter_map(Weak::upgrade))?
    };
    let mut out = Vec::new();
    for inode in inodes {
        let Some(rare) = inode.state().and_then(|s| s.rare()) else {
            continue;
        };
        let dev = inode.attr().map_or(0, |a| a.dev);
        let held = try_vec(rare.locks.held.lock().iter().cloned())?;
        out.try_reserve(held.len()).map_err(|_| Errno::ENOMEM)?;
        out.extend(held.iter().map(|h| LockInfo {
            class: match h.class {
                Class::Posix => "POSIX",
                Class::Ofd => "OFDLCK",
                Class::Flock => "FLOCK",
            },
            lock: h.lock,
            dev,
            ino: inode.ino(),
        }));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn h(kind: LockKind, start: u64, end: u64, owner: usize) -> Held {
        held(RangeLock {
            kind,
            start,
            end,
            owner,
            pid: 1,
        })
    }
    fn ranges(v: &[Held]) -> Vec<(LockKind, u64, u64)> {
        let mut r: Vec<_> = v
            .iter()
            .map(|h| (h.lock.kind, h.lock.start, h.lock.end))
            .collect();
        r.sort_by_key(|x| x.1);
        r
    }

    #[test]
    fn unlocking_the_middle_splits() {
        let mut v = Vec::new();
        apply(&mut v, &h(LockKind::Write, 0, u64::MAX, 1));
        assert!(apply(&mut v, &h(LockKind::Unlock, 10, 19, 1)));
        assert_eq!(
            ranges(&v),
            [(LockKind::Write, 0, 9), (LockKind::Write, 20, u64::MAX)]
        );
    }
    #[test]
    fn neighbours_of_one_kind_join() {
        let mut v = Vec::new();
        apply(&mut v, &h(LockKind::Read, 0, 9, 1));
        apply(&mut v, &h(LockKind::Read, 20, 29, 1));
        apply(&mut v, &h(LockKind::Read, 10, 19, 1));
        assert_eq!(ranges(&v), [(LockKind::Read, 0, 29)]);
    }
    #[test]
    fn a_change_of_kind_cuts() {
        let mut v = Vec::new();
        apply(&mut v, &h(LockKind::Write, 0, 29, 1));
        assert!(apply(&mut v, &h(LockKind::Read, 10, 19, 1)));
        assert_eq!(
            ranges(&v),
            [
                (LockKind::Write, 0, 9),
                (LockKind::Read, 10, 19),
                (LockKind::Write, 20, 29)
            ]
        );
    }
    #[test]
    fn circles_are_found() {
        let t = LockTable::default();
        assert!(t.wait_for(1, 1, 2).is_ok());
        assert!(t.wait_for(2, 2, 3).is_ok());
        assert_eq!(t.wait_for(3, 3, 1), Err(Errno::EDEADLK));
        t.done(1);
        assert!(t.wait_for(3, 3, 1).is_ok());
    }
}
