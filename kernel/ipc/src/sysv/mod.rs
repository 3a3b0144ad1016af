//! System V IPC, sysvipc(7): shared memory, semaphore sets, message queues.
//!
//! [`Table`] finds objects by key and identifier; [`Object`] is what they have
//! in common: owner, mode, whether it was removed.

pub mod msg;
pub mod sem;
pub mod shm;

use abi::sysv::{IPC_CREAT, IPC_EXCL, IpcPerm};
use abi::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use sync::{Mutex, SpinLock, level};
use vfs::Cred;
use vfs::cred::cap;
use vfs::file::Caller;

/// Bits of an identifier that are the index; above them a sequence number.
const INDEX_BITS: u32 = 15;
/// `CAP_IPC_OWNER`.
const CAP_IPC_OWNER: u32 = 15;
/// Asks for reading or writing of an object.
pub const READ: u32 = 0o444;
/// See [`READ`].
pub const WRITE: u32 = 0o222;

/// The System V objects of a machine.
#[derive(Default)]
pub struct SysV {
    /// Shared memory segments.
    pub shm: Table<shm::Segment>,
    /// Semaphore sets.
    pub sem: Table<sem::Set>,
    /// Bytes of all semaphores and adjustments.
    pub(crate) sems: Arc<AtomicUsize>,
    /// Semaphore adjustments at exit, by process.
    pub(crate) undo: sem::Undos,
    /// Message queues.
    pub msg: Table<msg::Queue>,
    /// Bytes of all messages.
    pub(crate) messages: Arc<AtomicUsize>,
}

/// Bytes that count among all of their kind: objects belong to no process, so nobody's end
/// gives their memory back.
pub(crate) struct Charge {
    bytes: usize,
    all: Arc<AtomicUsize>,
}

impl Charge {
    /// `None` beyond a sixteenth of memory.
    pub(crate) fn new(all: &Arc<AtomicUsize>, bytes: usize) -> Option<Charge> {
        let most = (mm::frame::stats().total as usize).saturating_mul(hal::PAGE_SIZE) / 16;
        let before = all.fetch_add(bytes, Ordering::Relaxed);
        let all = all.clone();
        let charge = Charge { bytes, all };
        (before.saturating_add(bytes) <= most).then_some(charge)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// An object with owner and mode.
pub struct Object<T> {
    perm: SpinLock<IpcPerm, { level::IPC }>,
    removed: AtomicBool,
    /// Identifier.
    pub id: i32,
    /// The thing itself.
    pub value: T,
}

impl<T> Object<T> {
    /// Owner and mode.
    pub fn perm(&self) -> IpcPerm {
        *self.perm.lock()
    }
    /// Whether it was removed: [`Errno::EIDRM`] is due.
    pub fn removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }
    /// [`Errno::EACCES`] unless `cred` has the access `want` ([`READ`], [`WRITE`]).
    pub fn check(&self, cred: &Cred, want: u32) -> Result {
        let p = self.perm();
        let granted = if cred.euid == p.cuid || cred.euid == p.uid {
            p.mode >> 6
        } else if cred.in_group(p.cgid) || cred.in_group(p.gid) {
            p.mode >> 3
        } else {
            p.mode
        };
        let want = want >> 6 | want >> 3 | want;
        if want & !granted & 7 == 0 || cred.capable(CAP_IPC_OWNER) {
            Ok(())
        } else {
            Err(Errno::EACCES)
        }
    }
    /// [`Errno::EPERM`] unless `cred` may change or remove the object.
    fn check_owner(&self, cred: &Cred) -> Result {
        let p = self.perm();
        if cred.euid == p.uid || cred.euid == p.cuid || cred.capable(cap::SYS_ADMIN) {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }
    /// IPC_SET: new owner and mode.
    pub fn set_perm(&self, cred: &Cred, new: &IpcPerm) -> Result {
        self.check_owner(cred)?;
        let mut p = self.perm.lock();
        p.uid = new.uid;
        p.gid = new.gid;
        p.mode = p.mode & !0o777 | new.mode & 0o777;
        Ok(())
    }
}

struct Inner<T> {
    objects: BTreeMap<u32, Arc<Object<T>>>,
    seq: u16,
}

/// Objects of one kind.
pub struct Table<T> {
    inner: Mutex<Inner<T>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table {
            inner: Mutex::new(Inner {
                objects: BTreeMap::new(),
                seq: 0,
            }),
        }
    }
}

impl<T> Table<T> {
    /// shmget(2) and its like: the identifier for `key` (0 = IPC_PRIVATE). `fits`: checks an existing object; `make`: makes a new one.
    /// [`Errno::ENOENT`], [`Errno::EEXIST`], [`Errno::EACCES`], [`Errno::ENOSPC`].
    pub fn get(
        &self,
        cx: &dyn Caller,
        key: i32,
        flags: i32,
        max: u32,
        fits: impl FnOnce(&T) -> Result,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<i32> {
        let cred = cx.cred();
        let mut inner = self.inner.lock();
        if key != 0 {
            let found = inner.objects.values().find(|o| o.perm().key == key);
            if let Some(o) = found {
                if flags & IPC_CREAT != 0 && flags & IPC_EXCL != 0 {
                    return Err(Errno::EEXIST);
                }
                fits(&o.value)?;
                o.check(&cred, flags as u32 & 0o777)?;
                return Ok(o.id);
            }
            if flags & IPC_CREAT == 0 {
                return Err(Errno::ENOENT);
            }
        }
        let index = (0..max)
            .find(|i| !inner.objects.contains_key(i))
            .ok_or(Errno::ENOSPC)?;
        let value = make()?;
        let seq = inner.seq;
        inner.seq = seq.wrapping_add(1) & 0x7fff;
        let id = ((seq as u32) << INDEX_BITS | index) as i32;
        let perm = IpcPerm {
            key,
            uid: cred.euid,
            gid: cred.egid,
            cuid: cred.euid,
            cgid: cred.egid,
            mode: flags as u32 & 0o777,
            seq,
            ..IpcPerm::default()
        };
        let o = Object {
            perm: SpinLock::new(perm),
            removed: AtomicBool::new(false),
            id,
            value,
        };
        inner.objects.insert(index, Arc::new(o));
        Ok(id)
    }
    /// The object `id`. [`Errno::EINVAL`], [`Errno::EIDRM`].
    pub fn find(&self, id: i32) -> Result<Arc<Object<T>>> {
        let id = u32::try_from(id).map_err(|_| Errno::EINVAL)?;
        let inner = self.inner.lock();
        let index = id & ((1 << INDEX_BITS) - 1);
        let o = inner.objects.get(&index).ok_or(Errno::EINVAL)?;
        if o.id as u32 != id {
            return Err(Errno::EIDRM);
        }
        Ok(o.clone())
    }
    /// The object at `index` (SHM_STAT and its like). [`Errno::EINVAL`].
    pub fn at_index(&self, index: i32) -> Result<Arc<Object<T>>> {
        let index = u32::try_from(index).map_err(|_| Errno::EINVAL)?;
        let inner = self.inner.lock();
        let index = index & ((1 << INDEX_BITS) - 1);
        inner.objects.get(&index).cloned().ok_or(Errno::EINVAL)
    }
    /// IPC_RMID: takes the object out; the caller tells those who wait for it.
    pub fn remove(&self, cx: &dyn Caller, id: i32) -> Result<Arc<Object<T>>> {
        let o = self.find(id)?;
        o.check_owner(&cx.cred())?;
        self.forget(&o);
        Ok(o)
    }
    /// Takes an object out that has ended.
    fn forget(&self, o: &Arc<Object<T>>) {
        let index = o.id as u32 & ((1 << INDEX_BITS) - 1);
        let mut inner = self.inner.lock();
        let same = inner.objects.get(&index).is_some_and(|x| Arc::ptr_eq(x, o));
        let gone = if same {
            inner.objects.remove(&index)
        } else {
            None
        };
        drop(inner);
        drop(gone);
        o.removed.store(true, Ordering::Release);
    }
    /// All objects, ascending by index.
    pub fn all(&self) -> Vec<Arc<Object<T>>> {
        self.inner.lock().objects.values().cloned().collect()
    }
    /// Highest index in use; 0 if there is none.
    pub fn highest(&self) -> i32 {
        let inner = self.inner.lock();
        inner.objects.keys().next_back().map_or(0, |i| *i as i32)
    }
}

/// Seconds since 1970.
pub(crate) fn seconds(cx: &dyn Caller) -> i64 {
    cx.realtime_ns().div_euclid(1_000_000_000)
}
