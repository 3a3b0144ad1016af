//! Descriptors on their way through sockets (SCM_RIGHTS).
//!
//! A message holds references to open files. A socket that is referred to only
//! by messages in queues that nobody can read is lost, and so is what its own
//! queue holds. [`UnixNs::collect`] finds such sockets: those whose
//! every reference is in flight, less those reachable from others.

use super::connect::drain;
use super::queue::Message;
use super::{UnixNs, UnixSocket};
use crate::NetNs;
use crate::file::SocketFile;
use abi::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use sync::{Mutex, SpinLock, level};
use vfs::File;

/// Most descriptors on their way in a machine.
const MAX_IN_FLIGHT: usize = 1 << 16;

struct Entry {
    file: Weak<File>,
    socket: Weak<UnixSocket>,
    /// References from messages.
    count: usize,
}

/// Unix sockets on their way, by address of their file.
#[derive(Default)]
pub(super) struct InFlight {
    sockets: Mutex<BTreeMap<usize, Entry>>,
    /// Mirror of the number of sockets, and the number of all files on their way.
    socket_count: AtomicUsize,
    total: AtomicUsize,
    closes: AtomicUsize,
}

/// Files to be dropped, one after the other: dropping a socket drops the files
/// in its queue, which must not recurse.
#[derive(Default)]
pub(super) struct Graveyard {
    files: SpinLock<Vec<Arc<File>>, { level::IPC }>,
    busy: AtomicBool,
}

fn unix_of(file: &File) -> Option<&UnixSocket> {
    let s: &SocketFile = file.ops.as_any().downcast_ref()?;
    s.socket.as_any().downcast_ref()
}

/// The descriptors of one message.
pub(super) struct Rights {
    files: Vec<Arc<File>>,
    ns: Arc<NetNs>,
}

impl Rights {
    /// Sends `files` on their way. [`Errno::ETOOMANYREFS`].
    pub(super) fn new(ns: &Arc<NetNs>, files: Vec<Arc<File>>) -> Result<Rights> {
        let fly = &ns.unix.inflight;
        let before = fly.total.fetch_add(files.len(), Ordering::Relaxed);
        if before + files.len() > MAX_IN_FLIGHT {
            fly.total.fetch_sub(files.len(), Ordering::Relaxed);
            return Err(Errno::ETOOMANYREFS);
        }
        for f in &files {
            let Some(s) = unix_of(f) else { continue };
            let mut sockets = fly.sockets.lock();
            let e = sockets
                .entry(Arc::as_ptr(f) as usize)
                .or_insert_with(|| Entry {
                    file: Arc::downgrade(f),
                    socket: s.this.clone(),
                    count: 0,
                });
            e.count += 1;
            fly.socket_count.store(sockets.len(), Ordering::Relaxed);
        }
        Ok(Rights {
            files,
            ns: ns.clone(),
        })
    }
    fn land(&mut self) -> Vec<Arc<File>> {
        let files = core::mem::take(&mut self.files);
        let fly = &self.ns.unix.inflight;
        fly.total.fetch_sub(files.len(), Ordering::Relaxed);
        for f in &files {
            if unix_of(f).is_none() {
                continue;
            }
            let mut sockets = fly.sockets.lock();
            let key = Arc::as_ptr(f) as usize;
            if let Some(e) = sockets.get_mut(&key) {
                e.count -= 1;
                if e.count == 0 {
                    sockets.remove(&key);
                }
            }
            fly.socket_count.store(sockets.len(), Ordering::Relaxed);
        }
        files
    }
    /// They have arrived.
    pub(super) fn take(mut self) -> Vec<Arc<File>> {
        self.land()
    }
    /// References to them, for MSG_PEEK.
    pub(super) fn peek(&self) -> Vec<Arc<File>> {
        self.files.clone()
    }
    fn sockets(&self) -> impl Iterator<Item = usize> {
        self.files
            .iter()
            .filter(|f| unix_of(f).is_some())
            .map(|f| Arc::as_ptr(f) as usize)
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        let files = self.land();
        self.ns.unix.bury(files);
    }
}

struct Candidate {
    socket: Arc<UnixSocket>,
    /// References that no candidate's queue accounts for.
    outside: usize,
    /// Candidates in its queue.
    holds: Vec<usize>,
    reachable: bool,
}

impl UnixNs {
    /// Drops files, without recursion however they hang together.
    pub fn bury(&self, files: Vec<Arc<File>>) {
        if files.is_empty() {
            return;
        }
        let g = &self.graveyard;
        g.files.lock().extend(files);
        // Proof that nothing stays: whoever finds `busy` set has pushed before;
        // the busy one looks again after it has cleared the flag.
        while !g.busy.swap(true, Ordering::AcqRel) {
            loop {
                let batch = core::mem::take(&mut *g.files.lock());
                if batch.is_empty() {
                    break;
                }
                drop(batch);
            }
            g.busy.store(false, Ordering::Release);
            core::sync::atomic::fence(Ordering::SeqCst);
            if g.files.lock().is_empty() {
                return;
            }
        }
    }

    /// Collects if enough has been closed since the last time (`closed`: sockets closed now).
    pub(super) fn collect_if_due(&self, closed: usize) {
        let flying = self.inflight.socket_count.load(Ordering::Relaxed);
        if flying == 0 {
            return;
        }
        let n = self
            .inflight
            .closes
            .fetch_add(closed.max(1), Ordering::Relaxed);
        if n.saturating_mul(16) >= flying {
            self.inflight.closes.store(0, Ordering::Relaxed);
            self.collect();
        }
    }

    /// Frees sockets that only reach each other.
    pub fn collect(&self) {
        let lost: Vec<Message>;
        let mut all: BTreeMap<usize, Candidate> = BTreeMap::new();
        {
            // While the registry is locked nothing is sent or arrives, so a
            // candidate cannot be taken from one queue and put into another.
            let sockets = self.inflight.sockets.lock();
            for (key, e) in sockets.iter() {
                if e.file.strong_count() == e.count
                    && let Some(socket) = e.socket.upgrade()
                {
                    let c = Candidate {
                        socket,
                        outside: e.count,
                        holds: Vec::new(),
                        reachable: false,
                    };
                    all.insert(*key, c);
                }
            }
            let keys: Vec<usize> = all.keys().copied().collect();
            for key in &keys {
                let mut holds = Vec::new();
                if let Some(c) = all.get(key) {
                    each_queue(&c.socket, &mut |s| {
                        for m in &s.rx.lock().messages {
                            holds.extend(m.rights.iter().flat_map(|r| r.sockets()));
                        }
                    });
                }
                holds.retain(|h| all.contains_key(h));
                for h in &holds {
                    if let Some(c) = all.get_mut(h) {
                        c.outside = c.outside.saturating_sub(1);
                    }
                }
                if let Some(c) = all.get_mut(key) {
                    c.holds = holds;
                }
            }
            let mut todo: Vec<usize> = all
                .iter()
                .filter(|(_, c)| c.outside > 0)
                .map(|(k, _)| *k)
                .collect();
            while let Some(key) = todo.pop() {
                if let Some(c) = all.get_mut(&key)
                    && !c.reachable
                {
                    c.reachable = true;
                    todo.extend_from_slice(&c.holds);
                }
            }
            let mut found = Vec::new();
            for c in all.values().filter(|c| !c.reachable) {
                each_queue(&c.socket, &mut |s| found.extend(drain(s)));
            }
            lost = found;
        }
        drop(lost);
        drop(all);
    }
}

/// Calls `f` for a socket and the connections that wait in it.
fn each_queue(s: &UnixSocket, f: &mut dyn FnMut(&UnixSocket)) {
    f(s);
    let pending: Vec<Arc<UnixSocket>> = s.state.lock().pending.iter().cloned().collect();
    for p in &pending {
        f(p);
    }
}
