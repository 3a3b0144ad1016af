//! epoll(7).
//!
//! An [`Epoll`] holds one [`Item`] a file of interest. The item is a callback on
//! the file's wait queues: a wake puts it on the ready list, which costs the
//! same however many files there are. [`Epoll::wait`] asks only the files on
//! that list. An item holds its file weakly: when the description ends, its
//! release hook takes the item out.

use crate::Ipc;
use abi::io::EpollEvent;
use abi::{Errno, Result};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use sync::{Mutex, Once, SpinLock, WaitQueue, WakeCallback, level};
use vfs::file::{Caller, ReleaseHook};
use vfs::poll::Registration;
use vfs::text::{Text, try_vec};
use vfs::{File, FileOps, FileType, OpenFlags, PollEvents, PollTable};

const EPOLLEXCLUSIVE: u32 = 1 << 28;
const EPOLLWAKEUP: u32 = 1 << 29;
const EPOLLONESHOT: u32 = 1 << 30;
const EPOLLET: u32 = 1 << 31;
/// Bits of `events` that say how, not what.
const HOW: u32 = EPOLLEXCLUSIVE | EPOLLWAKEUP | EPOLLONESHOT | EPOLLET;
/// What may come with EPOLLEXCLUSIVE.
const EXCLUSIVE_OK: u32 = PollEvents::IN.bits()
    | PollEvents::OUT.bits()
    | PollEvents::ERR.bits()
    | PollEvents::HUP.bits()
    | EPOLLWAKEUP
    | EPOLLET
    | EPOLLEXCLUSIVE;
const ALWAYS: u32 = PollEvents::ERR.bits() | PollEvents::HUP.bits();
/// Most epolls in a chain.
const MAX_NEST: u32 = 5;
/// Most interests of a machine (`/proc/sys/fs/epoll/max_user_watches`).
const MAX_WATCHES: usize = 1 << 18;

/// What epoll_ctl(2) does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CtlOp {
    /// EPOLL_CTL_ADD.
    Add(EpollEvent),
    /// EPOLL_CTL_MOD.
    Mod(EpollEvent),
    /// EPOLL_CTL_DEL.
    Del,
}

type Key = (usize, i32);

/// One file of interest.
struct Item {
    this: Weak<Item>,
    key: Key,
    file: Weak<File>,
    epoll: Weak<Epoll>,
    ipc: Arc<Ipc>,
    events: AtomicU32,
    data: AtomicU64,
    /// On the ready list; changed under that list's lock.
    queued: AtomicBool,
    removed: AtomicBool,
    registrations: Once<Vec<Registration>>,
    /// The file is an epoll itself.
    nested: bool,
}

impl WakeCallback for Item {
    fn woken(&self, key: u32) -> bool {
        let events = self.events.load(Ordering::Acquire);
        if events & !HOW == 0 || key != 0 && key & (events | ALWAYS) == 0 {
            return false;
        }
        if let (Some(this), Some(epoll)) = (self.this.upgrade(), self.epoll.upgrade()) {
            let waits = epoll.queue.has_waiters();
            epoll.push(this);
            return waits;
        }
        false
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        self.ipc.watches.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Item {
    /// What of the interest is there; `None` if the file is gone.
    fn poll(&self) -> Option<u32> {
        if self.removed.load(Ordering::Acquire) {
            return None;
        }
        let file = self.file.upgrade()?;
        let events = self.events.load(Ordering::Acquire);
        if events & !HOW == 0 {
            return Some(0);
        }
        Some(file.poll(None).bits() & (events & !HOW | ALWAYS))
    }
}

/// An epoll instance.
pub struct Epoll {
    this: Weak<Epoll>,
    ipc: Arc<Ipc>,
    items: SpinLock<BTreeMap<Key, Arc<Item>>, { level::IPC }>,
    ready: SpinLock<VecDeque<Arc<Item>>, { level::WAIT }>,
    ready_len: AtomicUsize,
    /// Tasks in epoll_wait, and those who poll the epoll itself.
    queue: Arc<WaitQueue>,
    scan: Mutex<()>,
    /// Epolls that hold this one.
    parents: SpinLock<Vec<Weak<Epoll>>, { level::IPC }>,
}

impl Epoll {
    /// Puts an item on the ready list and wakes one waiter.
    fn push(&self, item: Arc<Item>) {
        {
            let mut ready = self.ready.lock();
            if item.queued.swap(true, Ordering::AcqRel) {
                drop(ready);
                return;
            }
            ready.push_back(item);
            self.ready_len.store(ready.len(), Ordering::Release);
        }
        self.queue
            .wake(1, (PollEvents::IN | PollEvents::RDNORM).bits());
    }
    fn pop(&self) -> Option<Arc<Item>> {
        let mut ready = self.ready.lock();
        let item = ready.pop_front()?;
        item.queued.store(false, Ordering::Release);
        self.ready_len.store(ready.len(), Ordering::Release);
        Some(item)
    }

    /// epoll_ctl(2) for `file`, known to the caller as `fd`.
    pub fn ctl(&self, op: CtlOp, file: &Arc<File>, fd: i32) -> Result {
        let target = as_epoll(file);
        if pollable(file).is_err() {
            return Err(Errno::EPERM);
        }
        if target.is_some_and(|t| core::ptr::eq(t, self)) {
            return Err(Errno::EINVAL);
        }
        let key = (Arc::as_ptr(file) as usize, fd);
        match op {
            CtlOp::Add(ev) => {
                if ev.events & EPOLLEXCLUSIVE != 0
                    && (target.is_some() || ev.events & !EXCLUSIVE_OK != 0)
                {
                    return Err(Errno::EINVAL);
                }
                match target {
                    None => self.add(key, file, ev),
                    Some(inner) => {
                        let ipc = self.ipc.clone();
                        let _nest = ipc.nest.lock();
                        self.check_nesting(inner)?;
                        let room = inner.parents.lock().try_reserve(1);
                        room.map_err(|_| Errno::ENOMEM)?;
                        self.add(key, file, ev)?;
                        let mut parents = inner.parents.lock();
                        if !parents.iter().any(|p| Weak::ptr_eq(p, &self.this)) {
                            parents.push(self.this.clone());
                        }
                        Ok(())
                    }
                }
            }
            CtlOp::Mod(ev) => {
                let item = self.items.lock().get(&key).cloned().ok_or(Errno::ENOENT)?;
                if ev.events & EPOLLEXCLUSIVE != 0
                    || item.events.load(Ordering::Relaxed) & EPOLLEXCLUSIVE != 0
                {
                    return Err(Errno::EINVAL);
                }
                item.data.store(data_of(&ev), Ordering::Relaxed);
                // Proof that no wake is lost: a wake before this store found the
                // old interest, but the poll below sees what it announced.
                // Errors and hang-up need no asking; without them it would count as disabled.
                item.events.store(ev.events | ALWAYS, Ordering::SeqCst);
                if item.poll().is_some_and(|e| e != 0) {
                    self.push(item);
                }
                Ok(())
            }
            CtlOp::Del => {
                let item = self.items.lock().remove(&key).ok_or(Errno::ENOENT)?;
                self.forget(&item);
                if let Some(inner) = target
                    && !self.items.lock().keys().any(|k| k.0 == key.0)
                {
                    let mut parents = inner.parents.lock();
                    parents.retain(|p| !Weak::ptr_eq(p, &self.this));
                }
                Ok(())
            }
        }
    }
    fn add(&self, key: Key, file: &Arc<File>, ev: EpollEvent) -> Result {
        let ipc = &self.ipc;
        if self.items.lock().contains_key(&key) {
            return Err(Errno::EEXIST);
        }
        if ipc.watches.fetch_add(1, Ordering::Relaxed) >= MAX_WATCHES {
            ipc.watches.fetch_sub(1, Ordering::Relaxed);
            return Err(Errno::ENOSPC);
        }
        let item = Arc::new_cyclic(|this| Item {
            this: this.clone(),
            key,
            file: Arc::downgrade(file),
            epoll: self.this.clone(),
            ipc: ipc.clone(),
            events: AtomicU32::new(ev.events | ALWAYS),
            data: AtomicU64::new(data_of(&ev)),
            queued: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            registrations: Once::new(),
            nested: as_epoll(file).is_some(),
        });
        // Whatever becomes ready later finds room on the list.
        {
            let wanted = self.items.lock().len() + 1;
            let mut ready = self.ready.lock();
            let more = wanted.saturating_sub(ready.len());
            ready.try_reserve(more).map_err(|_| Errno::ENOMEM)?;
        }
        let taken = {
            let mut items = self.items.lock();
            let taken = items.contains_key(&key);
            if !taken {
                items.insert(key, item.clone());
            }
            taken
        };
        if taken {
            return Err(Errno::EEXIST);
        }
        let hook: Weak<dyn ReleaseHook> = self.this.clone();
        file.add_release_hook(hook);
        let weak = Arc::downgrade(&item);
        let callback: Weak<dyn WakeCallback> = weak;
        let exclusive = ev.events & EPOLLEXCLUSIVE != 0;
        let mut regs = Vec::new();
        let got = file.poll(Some(&mut PollTable::new(&mut |owner| {
            regs.push(Registration::new(owner, callback.clone(), exclusive))
        })));
        let _ = item.registrations.set(regs);
        if got.bits() & (ev.events & !HOW | ALWAYS) != 0 {
            self.push(item);
        }
        Ok(())
    }
    /// Takes a removed item off the ready list.
    fn forget(&self, item: &Arc<Item>) {
        item.removed.store(true, Ordering::Release);
        item.events.store(0, Ordering::Release);
        if item.queued.load(Ordering::Acquire) {
            let mut ready = self.ready.lock();
            let at = ready.iter().position(|i| Arc::ptr_eq(i, item));
            let gone = at.and_then(|i| ready.remove(i));
            self.ready_len.store(ready.len(), Ordering::Release);
            drop(ready);
            drop(gone);
        }
    }

    /// [`Errno::ELOOP`] if `inner` leads back here or the chain gets too long. Caller holds `Ipc::nest`.
    fn check_nesting(&self, inner: &Epoll) -> Result {
        let mut seen = BTreeMap::new();
        let down = inner.depth_down(self, &mut seen, 1)?;
        let mut seen = BTreeMap::new();
        let up = self.depth_up(&mut seen, 1)?;
        if up + down > MAX_NEST {
            return Err(Errno::ELOOP);
        }
        Ok(())
    }
    fn nested(&self) -> Result<Vec<Arc<Epoll>>> {
        let files: Vec<Weak<File>> = {
            let items = self.items.lock();
            let nested = items.values().filter(|i| i.nested);
            try_vec(nested.map(|i| i.file.clone()))?
        };
        let open = files.iter().filter_map(Weak::upgrade);
        try_vec(open.filter_map(|f| as_epoll(&f).and_then(|e| e.this.upgrade())))
    }
    fn depth_down(
        &self,
        outer: &Epoll,
        seen: &mut BTreeMap<usize, u32>,
        level: u32,
    ) -> Result<u32> {
        if core::ptr::eq(self, outer) || level > MAX_NEST {
            return Err(Errno::ELOOP);
        }
        let me = self as *const Epoll as usize;
        if let Some(d) = seen.get(&me) {
            return Ok(*d);
        }
        let mut depth = 1;
        for e in self.nested()? {
            depth = depth.max(1 + e.depth_down(outer, seen, level + 1)?);
        }
        seen.insert(me, depth);
        Ok(depth)
    }
    fn depth_up(&self, seen: &mut BTreeMap<usize, u32>, level: u32) -> Result<u32> {
        if level > MAX_NEST {
            return Err(Errno::ELOOP);
        }
        let me = self as *const Epoll as usize;
        if let Some(d) = seen.get(&me) {
            return Ok(*d);
        }
        let parents: Vec<Arc<Epoll>> = {
            let mut p = self.parents.lock();
            p.retain(|w| w.strong_count() > 0);
            try_vec(p.iter().filter_map(Weak::upgrade))?
        };
        let mut depth = 1;
        for p in parents {
            depth = depth.max(1 + p.depth_up(seen, level + 1)?);
        }
        seen.insert(me, depth);
        Ok(depth)
    }

    /// epoll_pwait2(2): appends up to `max` events to `out`, waiting for the first until `deadline_ns` (monotonic;
    /// 0 = do not wait). Nothing appended: time is up. [`Errno::EINTR`].
    pub fn wait(&self, max: usize, deadline_ns: Option<u64>, out: &mut Vec<EpollEvent>) -> Result {
        loop {
            self.collect(max, out)?;
            if !out.is_empty() || deadline_ns == Some(0) {
                return Ok(());
            }
            // Wake-up proof: `ready_len` changes before the queue is woken.
            let r = sync::wait_event(&[&self.queue], true, deadline_ns, true, || {
                (self.ready_len.load(Ordering::Acquire) > 0).then_some(())
            });
            match r {
                Ok(()) => {}
                Err(Errno::ETIMEDOUT) => return self.collect(max, out),
                Err(_) => return Err(Errno::EINTR),
            }
        }
    }
    fn collect(&self, max: usize, out: &mut Vec<EpollEvent>) -> Result {
        if self.ready_len.load(Ordering::Acquire) == 0 {
            // Somebody else may hold the only ready item while it reports it.
            drop(self.scan.lock());
            if self.ready_len.load(Ordering::Acquire) == 0 {
                return Ok(());
            }
        }
        // Level-triggered items go back behind the others, after the scan.
        let mut again: Vec<Arc<Item>> = Vec::new();
        {
            let _scan = self.scan.lock();
            while out.len() < max {
                let Some(item) = self.pop() else { break };
                let Some(got) = item.poll().filter(|e| *e != 0) else {
                    continue;
                };
                let how = item.events.load(Ordering::Acquire);
                let data = item.data.load(Ordering::Relaxed);
                out.push(EpollEvent {
                    events: got,
                    data: [data as u32, (data >> 32) as u32],
                });
                if how & EPOLLONESHOT != 0 {
                    item.events.store(how & HOW, Ordering::Release);
                } else if how & EPOLLET == 0 {
                    again.push(item);
                }
                hal::cpu::current_waiter().yield_if_needed();
            }
            let mut ready = self.ready.lock();
            for item in again.drain(..) {
                if !item.removed.load(Ordering::Acquire)
                    && !item.queued.swap(true, Ordering::AcqRel)
                {
                    ready.push_back(item);
                }
            }
            self.ready_len.store(ready.len(), Ordering::Release);
        }
        // What is left over is for the next waiter.
        if self.ready_len.load(Ordering::Acquire) > 0 {
            self.queue
                .wake(1, (PollEvents::IN | PollEvents::RDNORM).bits());
        }
        Ok(())
    }
    /// Whether epoll_wait would report something. Stale items leave the list.
    fn any_ready(&self) -> bool {
        for _ in 0..self.ready_len.load(Ordering::Acquire) {
            let Some(item) = self.pop() else { return false };
            if item.poll().is_some_and(|e| e != 0) {
                let mut ready = self.ready.lock();
                if !item.queued.swap(true, Ordering::AcqRel) {
                    ready.push_front(item);
                    self.ready_len.store(ready.len(), Ordering::Release);
                }
                return true;
            }
        }
        false
    }
}

fn data_of(ev: &EpollEvent) -> u64 {
    ev.data[0] as u64 | (ev.data[1] as u64) << 32
}

/// [`Errno::EPERM`] for files that are always ready: regular files and directories.
fn pollable(file: &File) -> Result {
    if !file.ops.pollable() {
        return Err(Errno::EPERM);
    }
    match file.inode.file_type() {
        FileType::Regular | FileType::Dir | FileType::Block | FileType::Symlink => {
            Err(Errno::EPERM)
        }
        _ => Ok(()),
    }
}

impl ReleaseHook for Epoll {
    fn released(&self, file: *const File) {
        let addr = file as usize;
        // One at a time: this must not fail for want of memory.
        loop {
            let gone = {
                let mut items = self.items.lock();
                let mut of_file = items.range((addr, i32::MIN)..=(addr, i32::MAX));
                let key = of_file.next().map(|(k, _)| *k);
                key.and_then(|k| items.remove(&k))
            };
            match gone {
                Some(item) => self.forget(&item),
                None => return,
            }
        }
    }
}

impl FileOps for Epoll {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn poll(&self, _f: &File, table: Option<&mut PollTable<'_>>) -> PollEvents {
        if let Some(t) = table {
            t.add(self.queue.clone());
        }
        if self.any_ready() {
            PollEvents::IN | PollEvents::RDNORM
        } else {
            PollEvents::empty()
        }
    }
    fn fdinfo(&self, _f: &File, out: &mut Text) -> core::fmt::Result {
        let items: Result<Vec<Arc<Item>>> = try_vec(self.items.lock().values().cloned());
        for i in items.map_err(|_| core::fmt::Error)? {
            let (ino, dev) = match i.file.upgrade() {
                Some(f) => (f.inode.ino(), f.inode.super_block().dev()),
                None => continue,
            };
            writeln!(
                out,
                "tfd: {:8} events: {:8x} data: {:16x}  pos:0 ino:{ino:x} sdev:{dev:x}",
                i.key.1,
                i.events.load(Ordering::Relaxed),
                i.data.load(Ordering::Relaxed),
            )?;
        }
        Ok(())
    }
    fn anon_name(&self) -> Option<Vec<u8>> {
        Some(b"anon_inode:[eventpoll]".to_vec())
    }
}

/// The epoll behind a file, if it is one.
pub fn as_epoll(f: &File) -> Option<&Epoll> {
    f.ops.as_any().downcast_ref()
}

impl Ipc {
    /// epoll_create1(2), without its flags.
    pub fn epoll(self: &Arc<Self>, cx: &dyn Caller) -> Result<Arc<File>> {
        let ops = Arc::new_cyclic(|this| Epoll {
            this: this.clone(),
            ipc: self.clone(),
            items: SpinLock::new(BTreeMap::new()),
            ready: SpinLock::new(VecDeque::new()),
            ready_len: AtomicUsize::new(0),
            queue: Arc::new(WaitQueue::new()),
            scan: Mutex::new(()),
            parents: SpinLock::new(Vec::new()),
        });
        self.anon_file(cx, ops, OpenFlags::RDWR)
    }
}
