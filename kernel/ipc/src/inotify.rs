//! inotify(7): events on files as a stream of records.

use crate::Ipc;
use abi::{Errno, Result};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::fmt::Write;
use core::sync::atomic::{AtomicUsize, Ordering};
use mm::io::Sink;
use sync::{Mutex, SpinLock, WaitQueue, level};
use vfs::file::Caller;
use vfs::notify::{self, Watch, Watcher, event};
use vfs::text::{Text, try_vec};
use vfs::{File, FileOps, OpenFlags, Path, PollEvents, PollTable};

/// All events that can be asked for.
const ALL_EVENTS: u32 = 0xfff;
const IN_Q_OVERFLOW: u32 = 0x4000;
const IN_IGNORED: u32 = 0x8000;
const IN_MASK_CREATE: u32 = 0x1000_0000;
const IN_MASK_ADD: u32 = 0x2000_0000;
const IN_ONESHOT: u32 = 0x8000_0000;
/// Size of `struct inotify_event`; names are padded to multiples of it.
const HEAD: usize = 16;
/// Most records in a queue (`/proc/sys/fs/inotify/max_queued_events`).
const MAX_EVENTS: usize = 16384;
/// Most watches of one instance.
const MAX_WATCHES: usize = 65536;
const FIONREAD: u32 = 0x541b;

#[derive(PartialEq, Eq)]
struct Record {
    wd: i32,
    mask: u32,
    cookie: u32,
    /// Without padding; empty: no name.
    name: Vec<u8>,
}

impl Record {
    fn padded(&self) -> usize {
        match self.name.len() {
            0 => 0,
            n => (n + 1).next_multiple_of(HEAD),
        }
    }
    fn bytes(&self) -> Vec<u8> {
        let mut b = Vec::with_capacity(HEAD + self.padded());
        b.extend_from_slice(&self.wd.to_ne_bytes());
        b.extend_from_slice(&self.mask.to_ne_bytes());
        b.extend_from_slice(&self.cookie.to_ne_bytes());
        b.extend_from_slice(&(self.padded() as u32).to_ne_bytes());
        b.extend_from_slice(&self.name);
        b.resize(HEAD + self.padded(), 0);
        b
    }
}

struct Entry {
    mask: u32,
    watch: Watch,
}

struct Inner {
    last_wd: i32,
    watches: BTreeMap<i32, Entry>,
    queue: VecDeque<Record>,
}

/// An inotify instance.
pub struct Inotify {
    this: Weak<Inotify>,
    inner: SpinLock<Inner, { level::IPC }>,
    /// Records in the queue, for `poll` and waiters.
    len: AtomicUsize,
    queue: Arc<WaitQueue>,
    /// One reader at a time, so that records stay in order.
    reading: Mutex<()>,
    /// Changes of the watches.
    changing: Mutex<()>,
}

impl Inotify {
    fn push(&self, inner: &mut Inner, record: Record) {
        // Equal neighbours are one event.
        if inner.queue.back() == Some(&record) {
            return;
        }
        let lost = Record {
            wd: -1,
            mask: IN_Q_OVERFLOW,
            cookie: 0,
            name: Vec::new(),
        };
        if inner.queue.back() == Some(&lost) {
            return;
        }
        // Without memory for more, the last event makes room for the news that some are missing.
        if inner.queue.try_reserve(1).is_err() {
            inner.queue.pop_back();
        }
        let full = inner.queue.len() >= MAX_EVENTS || inner.queue.len() == inner.queue.capacity();
        if inner.queue.len() < inner.queue.capacity() {
            inner.queue.push_back(if full { lost } else { record });
        }
        self.len.store(inner.queue.len(), Ordering::Release);
    }
    fn wake(&self) {
        self.queue
            .wake_key((PollEvents::IN | PollEvents::RDNORM).bits());
    }
    /// Takes a watch away and says so. The watch is dropped by the caller, without a lock.
    fn ignore(&self, inner: &mut Inner, wd: i32) -> Option<Entry> {
        let gone = inner.watches.remove(&wd)?;
        let record = Record {
            wd,
            mask: IN_IGNORED,
            cookie: 0,
            name: Vec::new(),
        };
        self.push(inner, record);
        Some(gone)
    }

    /// inotify_add_watch(2) for a place that the caller may read: the watch descriptor.
    /// [`Errno::EINVAL`], [`Errno::EEXIST`], [`Errno::ENOSPC`].
    pub fn add_watch(&self, path: &Path, mask: u32) -> Result<i32> {
        if mask & ALL_EVENTS == 0 || mask & IN_MASK_ADD != 0 && mask & IN_MASK_CREATE != 0 {
            return Err(Errno::EINVAL);
        }
        let keep = mask & (ALL_EVENTS | IN_ONESHOT);
        let inode = path.inode()?;
        let _changing = self.changing.lock();
        let (wd, full) = {
            let mut inner = self.inner.lock();
            let same = inner
                .watches
                .iter_mut()
                .find(|(_, e)| Arc::ptr_eq(e.watch.inode(), inode));
            if let Some((wd, e)) = same {
                if mask & IN_MASK_CREATE != 0 {
                    return Err(Errno::EEXIST);
                }
                e.mask = if mask & IN_MASK_ADD != 0 {
                    e.mask | keep
                } else {
                    keep
                };
                (Some((*wd, e.mask)), false)
            } else {
                (None, inner.watches.len() >= MAX_WATCHES)
            }
        };
        if let Some((wd, mask)) = wd {
            // Register anew with the other mask; the old registration goes without a lock held.
            let watch = self.watch(path, wd, mask)?;
            let old = {
                let mut inner = self.inner.lock();
                inner
                    .watches
                    .get_mut(&wd)
                    .map(|e| core::mem::replace(&mut e.watch, watch))
            };
            drop(old);
            return Ok(wd);
        }
        if full {
            return Err(Errno::ENOSPC);
        }
        let wd = {
            let mut inner = self.inner.lock();
            inner.last_wd = inner.last_wd.checked_add(1).ok_or(Errno::ENOSPC)?;
            inner.last_wd
        };
        let watch = self.watch(path, wd, keep)?;
        let entry = Entry { mask: keep, watch };
        self.inner.lock().watches.insert(wd, entry);
        Ok(wd)
    }
    fn watch(&self, path: &Path, wd: i32, mask: u32) -> Result<Watch> {
        let to: Weak<dyn Watcher> = self.this.clone();
        // The end of the file ends the watch, asked for or not.
        notify::watch(path, wd, mask & ALL_EVENTS | event::DELETE_SELF, to)
    }
    /// inotify_rm_watch(2). [`Errno::EINVAL`].
    pub fn remove_watch(&self, wd: i32) -> Result {
        let _changing = self.changing.lock();
        let gone = {
            let mut inner = self.inner.lock();
            self.ignore(&mut inner, wd)
        };
        self.wake();
        gone.map(drop).ok_or(Errno::EINVAL)
    }
    /// The next record if it fits into `room` bytes; `Err`: it does not.
    fn take(&self, room: usize) -> Option<Result<Record>> {
        let mut inner = self.inner.lock();
        let first = inner.queue.front()?;
        if HEAD + first.padded() > room {
            return Some(Err(Errno::EINVAL));
        }
        let r = inner.queue.pop_front()?;
        self.len.store(inner.queue.len(), Ordering::Release);
        Some(Ok(r))
    }
}

impl Watcher for Inotify {
    fn event(&self, wd: i32, mask: u32, cookie: u32, name: Option<&[u8]>) {
        let record = Record {
            wd,
            mask,
            cookie,
            name: name.unwrap_or_default().to_vec(),
        };
        let gone = {
            let mut inner = self.inner.lock();
            let Some(wanted) = inner.watches.get(&wd).map(|e| e.mask) else {
                return;
            };
            let hit = wanted & mask & ALL_EVENTS != 0;
            if hit {
                self.push(&mut inner, record);
            }
            let ends = mask & event::DELETE_SELF != 0 && name.is_none();
            if ends || hit && wanted & IN_ONESHOT != 0 {
                self.ignore(&mut inner, wd)
            } else {
                None
            }
        };
        self.wake();
        drop(gone);
    }
}

impl FileOps for Inotify {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn read(&self, f: &File, _cx: &dyn Caller, _pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        let mut done = 0;
        loop {
            {
                let _reading = self.reading.lock();
                while let Some(next) = self.take(dst.remaining()) {
                    let record = match next {
                        Ok(r) => r,
                        Err(_) if done > 0 => return Ok(done),
                        Err(e) => return Err(e),
                    };
                    let bytes = record.bytes();
                    if dst.put(&bytes).unwrap_or(0) < bytes.len() {
                        let mut inner = self.inner.lock();
                        inner.queue.push_front(record);
                        self.len.store(inner.queue.len(), Ordering::Release);
                        return if done > 0 {
                            Ok(done)
                        } else {
                            Err(Errno::EFAULT)
                        };
                    }
                    done += bytes.len();
                }
            }
            if done > 0 {
                return Ok(done);
            }
            if f.nonblock() {
                return Err(Errno::EAGAIN);
            }
            // Wake-up proof: `len` changes before the queue is woken.
            self.queue
                .wait(|| (self.len.load(Ordering::Acquire) > 0).then_some(()))?;
        }
    }
    fn poll(&self, _f: &File, table: Option<&mut PollTable<'_>>) -> PollEvents {
        if let Some(t) = table {
            t.add(self.queue.clone());
        }
        if self.len.load(Ordering::Acquire) > 0 {
            PollEvents::IN | PollEvents::RDNORM
        } else {
            PollEvents::empty()
        }
    }
    fn ioctl(&self, _f: &File, cx: &dyn Caller, cmd: u32, arg: u64) -> Result<u64> {
        if cmd != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let bytes: usize = {
            let inner = self.inner.lock();
            inner.queue.iter().map(|r| HEAD + r.padded()).sum()
        };
        cx.mm().ok_or(Errno::EFAULT)?.put(arg, &(bytes as i32))?;
        Ok(0)
    }
    fn fdinfo(&self, _f: &File, out: &mut Text) -> core::fmt::Result {
        let list: Result<Vec<(i32, u32, u64)>> = {
            let inner = self.inner.lock();
            let each = inner.watches.iter();
            try_vec(each.map(|(wd, e)| (*wd, e.mask, e.watch.inode().ino())))
        };
        for (wd, mask, ino) in list.map_err(|_| core::fmt::Error)? {
            writeln!(
                out,
                "inotify wd:{wd:x} ino:{ino:x} mask:{mask:x} ignored_mask:0"
            )?;
        }
        Ok(())
    }
    fn anon_name(&self) -> Option<Vec<u8>> {
        Some(b"anon_inode:inotify".to_vec())
    }
}

/// The inotify instance behind a file, if it is one.
pub fn as_inotify(f: &File) -> Option<&Inotify> {
    f.ops.as_any().downcast_ref()
}

impl Ipc {
    /// inotify_init1(2). `flags`: IN_NONBLOCK (IN_CLOEXEC is the caller's); else [`Errno::EINVAL`].
    pub fn inotify(&self, cx: &dyn Caller, flags: u32) -> Result<Arc<File>> {
        let flags = OpenFlags::from_bits_retain(flags);
        let may = OpenFlags::NONBLOCK | OpenFlags::CLOEXEC;
        if !flags.difference(may).is_empty() {
            return Err(Errno::EINVAL);
        }
        let ops = Arc::new_cyclic(|this| Inotify {
            this: this.clone(),
            inner: SpinLock::new(Inner {
                last_wd: 0,
                watches: BTreeMap::new(),
                queue: VecDeque::new(),
            }),
            len: AtomicUsize::new(0),
            queue: Arc::new(WaitQueue::new()),
            reading: Mutex::new(()),
            changing: Mutex::new(()),
        });
        self.anon_file(cx, ops, flags & OpenFlags::NONBLOCK)
    }
}
