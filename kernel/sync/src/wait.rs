//! [`WaitQueue`]: tasks and callbacks waiting for a condition.

use crate::base::atomic::{AtomicUsize, Ordering};
use crate::base::{cpu, monotonic_ns};
use crate::{SpinLock, alone, level};
use abi::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::ops::Bound::{Excluded, Included};
use hal::cpu::Waiter;

/// Called when a queue is woken; for poll and epoll. Runs with the queue's
/// lock released, under whatever the waker holds: it may take locks of level
/// [`level::WAIT`] and inner only.
pub trait WakeCallback: Send + Sync {
    /// `key`: readiness bits that the waker announces (poll(2)), 0 = unknown.
    /// Whether that woke somebody: if not, an exclusive callback leaves it to the next one.
    fn woken(&self, key: u32) -> bool;
}

enum Kind {
    Task(&'static dyn Waiter),
    Callback(Weak<dyn WakeCallback>),
}

struct Entry {
    exclusive: bool,
    kind: Kind,
}

/// Callbacks that a wake-up calls between two looks at the list.
const CALLBACKS: usize = 16;

/// Who waits for something to change.
pub struct WaitQueue {
    len: AtomicUsize,
    entries: SpinLock<Entries, { level::WAIT }>,
}

#[derive(Default)]
struct Entries {
    next_id: usize,
    /// In the order of arrival. There may be very many: no large piece of memory is needed.
    list: BTreeMap<usize, Entry>,
}

/// Names a callback registered with [`WaitQueue::add_callback`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitEntry(usize);

impl WaitQueue {
    constructor! {
    /// Nobody waits.
    pub fn new() -> WaitQueue {
        WaitQueue {
            len: AtomicUsize::new(0),
            entries: SpinLock::new(Entries {
                next_id: 0,
                list: BTreeMap::new(),
            }),
        }
    }
    }

    /// Waits until `ready` gives a value. A pending signal ends it with [`Errno::ERESTARTSYS`].
    /// `ready` may take locks; it is evaluated outside the queue's lock.
    pub fn wait<T>(&self, ready: impl FnMut() -> Option<T>) -> Result<T> {
        wait_event(&[self], true, None, false, ready)
    }
    /// As [`WaitQueue::wait`]; a wake of one wakes only one such waiter.
    pub fn wait_exclusive<T>(&self, ready: impl FnMut() -> Option<T>) -> Result<T> {
        wait_event(&[self], true, None, true, ready)
    }
    /// As [`WaitQueue::wait`], until `deadline_ns` (monotonic): then [`Errno::ETIMEDOUT`].
    pub fn wait_until<T>(
        &self,
        deadline_ns: Option<u64>,
        ready: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        wait_event(&[self], true, deadline_ns, false, ready)
    }
    /// Waits whatever signals come.
    pub fn wait_uninterruptible<T>(&self, ready: impl FnMut() -> Option<T>) -> T {
        let mut ready = ready;
        loop {
            if let Ok(v) = wait_event(&[self], false, None, false, &mut ready) {
                return v;
            }
        }
    }

    /// Wakes all non-exclusive waiters and up to `n` exclusive ones.
    #[inline]
    pub fn wake(&self, n: usize, key: u32) {
        // A waiter is on the list before it checks its condition; whoever
        // changed the condition before this load either sees it here, or the
        // waiter sees the change (both sides order store before load).
        alone::barrier();
        if self.len.load(Ordering::Relaxed) != 0 {
            self.wake_waiting(n, key);
        }
    }
    #[cold]
    fn wake_waiting(&self, n: usize, key: u32) {
        let mut left = n;
        // Of exclusive callbacks one is enough, however many tasks are to be woken.
        let mut used = false;
        // Entries that come during the walk need no wake-up: they look at the condition themselves.
        let (mut at, last) = (0, self.entries.lock().next_id);
        while at < last {
            let mut callbacks = [const { None }; CALLBACKS];
            at = self.wake_some(at, last, &mut left, &mut callbacks);
            for (c, exclusive) in callbacks.into_iter().flatten() {
                if !exclusive {
                    c.woken(key);
                } else if !used && left > 0 {
                    used = c.woken(key);
                }
            }
        }
    }
    /// Wakes tasks behind entry `from`, up to `last`, and gathers callbacks until
    /// there is no room. The entry it came to.
    fn wake_some(
        &self,
        from: usize,
        last: usize,
        left: &mut usize,
        callbacks: &mut [Option<(Arc<dyn WakeCallback>, bool)>; CALLBACKS],
    ) -> usize {
        let entries = self.entries.lock();
        let mut gathered = 0;
        for (id, e) in entries.list.range((Excluded(from), Included(last))) {
            if e.exclusive && *left == 0 {
                continue;
            }
            match &e.kind {
                // Who does not wait (yet, or any more) is about to look for itself.
                Kind::Task(w) => {
                    if w.wake() && e.exclusive {
                        *left -= 1;
                    }
                }
                Kind::Callback(c) => {
                    let Some(slot) = callbacks.get_mut(gathered) else {
                        return *id - 1;
                    };
                    *slot = c.upgrade().map(|c| (c, e.exclusive));
                    gathered += 1;
                }
            }
        }
        last
    }
    /// Wakes everybody.
    #[inline]
    pub fn wake_all(&self) {
        self.wake(usize::MAX, 0);
    }
    /// Wakes everybody, announcing poll bits.
    #[inline]
    pub fn wake_key(&self, key: u32) {
        self.wake(usize::MAX, key);
    }
    /// Wakes one exclusive waiter (and all others).
    #[inline]
    pub fn wake_one(&self) {
        self.wake(1, 0);
    }
    /// Whether somebody is on the queue.
    pub fn has_waiters(&self) -> bool {
        self.len.load(Ordering::Relaxed) != 0
    }

    /// Puts a callback on the queue. It stays until [`WaitQueue::remove`].
    /// `exclusive`: a wake-up goes to one such callback that has a use for it.
    pub fn add_callback(&self, c: Weak<dyn WakeCallback>, exclusive: bool) -> WaitEntry {
        self.add(Kind::Callback(c), exclusive)
    }
    fn add(&self, kind: Kind, exclusive: bool) -> WaitEntry {
        let mut e = self.entries.lock();
        e.next_id += 1;
        let id = e.next_id;
        e.list.insert(id, Entry { exclusive, kind });
        self.len.store(e.list.len(), Ordering::SeqCst);
        WaitEntry(id)
    }
    /// Takes an entry off the queue.
    pub fn remove(&self, entry: WaitEntry) {
        let mut e = self.entries.lock();
        let gone = e.list.remove(&entry.0);
        self.len.store(e.list.len(), Ordering::SeqCst);
        drop(e);
        drop(gone);
    }
}

impl Default for WaitQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("WaitQueue")
    }
}

/// Waits on several queues at once until `ready` gives a value.
///
/// Errors: [`Errno::ERESTARTSYS`] if `interruptible` and a signal is pending,
/// [`Errno::ETIMEDOUT`] at the deadline (monotonic ns). No spin lock may be held.
pub fn wait_event<T>(
    queues: &[&WaitQueue],
    interruptible: bool,
    deadline_ns: Option<u64>,
    exclusive: bool,
    mut ready: impl FnMut() -> Option<T>,
) -> Result<T> {
    if let Some(v) = ready() {
        return Ok(v);
    }
    let me = cpu::current_waiter();
    let mut entries: [Option<WaitEntry>; 4] = [None; 4];
    assert!(queues.len() <= entries.len());
    for (q, e) in queues.iter().zip(&mut entries) {
        *e = Some(q.add(Kind::Task(me), exclusive));
    }
    let (result, woken) = loop {
        me.prepare_wait(interruptible);
        crate::base::atomic::fence(Ordering::SeqCst);
        if let Some(v) = ready() {
            break (Ok(v), me.cancel_wait());
        }
        if interruptible && me.interrupted() {
            break (Err(Errno::ERESTARTSYS), me.cancel_wait());
        }
        if let Some(d) = deadline_ns
            && monotonic_ns() >= d
        {
            break (Err(Errno::ETIMEDOUT), me.cancel_wait());
        }
        me.wait(deadline_ns);
    };
    for (q, e) in queues.iter().zip(&entries) {
        if let Some(e) = e {
            q.remove(*e);
        }
    }
    // An exclusive wake-up that we have not used goes to the next one: because we leave
    // with an error, or because what it announced came while we took something else.
    if exclusive && woken {
        for q in queues {
            q.wake_one();
        }
    }
    result
}
