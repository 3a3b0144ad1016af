//! Descriptors on their way through sockets (SCM_RIGHTS).
//!
//! A message holds references to open files. A socket that is referred to only
//! by messages in queues that nobody can read is lost, and so is what its own
//! queue holds. [`UnixNs::collect`] finds such sockets: those whose
//! every reference is in flight, less those reachable from others. It runs when
//! memory is short, among other times, and so takes none.

use super::connect::drain;
use super::{UnixNs, UnixSocket};
use crate::NetNs;
use crate::file::SocketFile;
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::Bound::{Excluded, Unbounded};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use sync::{Mutex, SpinLock, level};
use vfs::File;

/// Most descriptors on their way in a machine.
const MAX_IN_FLIGHT: usize = 1 << 16;

/// Address of a file.
type Key = usize;

struct Entry {
    file: Weak<File>,
    socket: Weak<UnixSocket>,
    /// References from messages.
    count: usize,
    mark: Mark,
    /// Of `count`, those that are not in the queue of a candidate.
    outside: usize,
    /// The next socket whose queue is to be followed.
    next: Option<Key>,
}

/// What [`UnixNs::collect`] knows of a socket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// It is referred to by more than messages, or was when last looked at.
    InUse,
    /// Only messages refer to it.
    Candidate,
    /// One of these messages can be read, perhaps after others.
    Reachable,
    /// None of them can.
    Lost,
}

type Sockets = BTreeMap<Key, Entry>;

/// Unix sockets on their way.
#[derive(Default)]
pub(super) struct InFlight {
    sockets: Mutex<Sockets>,
    /// Descriptors seen by MSG_PEEK, so far.
    peeks: AtomicUsize,
    /// Mirror of the number of sockets, and the number of all files on their way.
    socket_count: AtomicUsize,
    total: AtomicUsize,
    closes: AtomicUsize,
}

/// Files to be dropped, one after the other: dropping a socket drops the files
/// in its queue, which must not recurse.
#[derive(Default)]
pub(super) struct Graveyard {
    parcels: SpinLock<Option<Box<Parcel>>, { level::IPC }>,
    busy: AtomicBool,
}

/// Files that are dropped together.
#[derive(Default)]
struct Parcel {
    files: Vec<Arc<File>>,
    next: Option<Box<Parcel>>,
}

fn unix_of(file: &File) -> Option<&UnixSocket> {
    let s: &SocketFile = file.ops.as_any().downcast_ref()?;
    s.socket.as_any().downcast_ref()
}

fn key_of(file: &Arc<File>) -> Key {
    Arc::as_ptr(file) as Key
}

/// The descriptors of one message.
pub(super) struct Rights {
    /// Taken when they land.
    parcel: Option<Box<Parcel>>,
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
            let e = sockets.entry(key_of(f)).or_insert_with(|| Entry {
                file: Arc::downgrade(f),
                socket: s.this.clone(),
                count: 0,
                mark: Mark::InUse,
                outside: 0,
                next: None,
            });
            e.count += 1;
            fly.socket_count.store(sockets.len(), Ordering::Relaxed);
        }
        Ok(Rights {
            parcel: Some(Box::new(Parcel { files, next: None })),
            ns: ns.clone(),
        })
    }
    fn land(&mut self) -> Option<Box<Parcel>> {
        let parcel = self.parcel.take()?;
        let fly = &self.ns.unix.inflight;
        fly.total.fetch_sub(parcel.files.len(), Ordering::Relaxed);
        for f in &parcel.files {
            if unix_of(f).is_none() {
                continue;
            }
            let mut sockets = fly.sockets.lock();
            let key = key_of(f);
            if let Some(e) = sockets.get_mut(&key) {
                e.count -= 1;
                if e.count == 0 {
                    sockets.remove(&key);
                }
            }
            fly.socket_count.store(sockets.len(), Ordering::Relaxed);
        }
        Some(parcel)
    }
    /// They have arrived.
    pub(super) fn take(mut self) -> Vec<Arc<File>> {
        self.land().map(|p| p.files).unwrap_or_default()
    }
    fn files(&self) -> &[Arc<File>] {
        self.parcel.as_ref().map_or(&[], |p| &p.files)
    }
    /// References to them, for MSG_PEEK.
    pub(super) fn peek(&self) -> Vec<Arc<File>> {
        let files = self.files().to_vec();
        // From here on a collector that has not seen the references gives up.
        self.ns.unix.inflight.peeks.fetch_add(1, Ordering::AcqRel);
        files
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        if let Some(parcel) = self.land() {
            self.ns.unix.bury_parcel(parcel);
        }
    }
}

impl UnixNs {
    /// Drops files, without recursion however they hang together.
    pub fn bury(&self, files: Vec<Arc<File>>) {
        if !files.is_empty() {
            self.bury_parcel(Box::new(Parcel { files, next: None }));
        }
    }

    fn bury_parcel(&self, mut parcel: Box<Parcel>) {
        let g = &self.graveyard;
        {
            let mut all = g.parcels.lock();
            parcel.next = all.take();
            *all = Some(parcel);
        }
        // Proof that nothing stays: whoever finds `busy` set has pushed before;
        // the busy one looks again after it has cleared the flag.
        while !g.busy.swap(true, Ordering::AcqRel) {
            while let Some(mut p) = g.take() {
                p.files.clear();
            }
            g.busy.store(false, Ordering::Release);
            core::sync::atomic::fence(Ordering::SeqCst);
            if g.parcels.lock().is_none() {
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
        let fly = &self.inflight;
        {
            let mut sockets = fly.sockets.lock();
            let peeks = fly.peeks.load(Ordering::Acquire);
            mark(&mut sockets);
            // Nothing that is in a candidate's queue can have been taken out meanwhile: whoever takes
            // something needs the candidate's file, and gets it from a message, for which
            // the registry's lock is needed, or by a peek.
            let certain = fly.peeks.load(Ordering::Acquire) == peeks;
            for e in sockets.values_mut().filter(|e| e.mark == Mark::Candidate) {
                e.mark = if certain { Mark::Lost } else { Mark::InUse };
            }
        }
        let next_lost = |at| next_socket(&fly.sockets.lock(), at, Mark::Lost);
        let mut at = 0;
        while let Some((key, lost)) = next_lost(at) {
            at = key;
            // What is lost stays so: it is only in the queues of the lost.
            each_queue(&lost, &mut |s| drop(drain(s)));
        }
    }
}

impl Graveyard {
    fn take(&self) -> Option<Box<Parcel>> {
        let mut all = self.parcels.lock();
        let mut p = all.take()?;
        *all = p.next.take();
        Some(p)
    }
}

/// Marks every socket as in use, reachable or, if it is neither, as a candidate.
fn mark(sockets: &mut Sockets) {
    for e in sockets.values_mut() {
        let only_messages = e.file.strong_count() == e.count;
        e.mark = if only_messages {
            Mark::Candidate
        } else {
            Mark::InUse
        };
        e.outside = e.count;
    }
    let mut at = 0;
    while let Some((key, socket)) = next_socket(sockets, at, Mark::Candidate) {
        at = key;
        each_held(&socket, &mut |held| {
            if let Some(e) = sockets.get_mut(&held) {
                e.outside = e.outside.saturating_sub(1);
            }
        });
    }
    let mut todo = None;
    for (key, e) in sockets.iter_mut() {
        if e.mark == Mark::Candidate && e.outside > 0 {
            e.mark = Mark::Reachable;
            e.next = todo.replace(*key);
        }
    }
    while let Some(e) = todo.and_then(|key| sockets.get_mut(&key)) {
        todo = e.next.take();
        let Some(socket) = e.socket.upgrade() else {
            continue;
        };
        each_held(&socket, &mut |held| {
            if let Some(e) = sockets.get_mut(&held)
                && e.mark == Mark::Candidate
            {
                e.mark = Mark::Reachable;
                e.next = todo.replace(held);
            }
        });
    }
}

/// The first socket behind key `at` with that mark.
fn next_socket(sockets: &Sockets, at: Key, mark: Mark) -> Option<(Key, Arc<UnixSocket>)> {
    sockets
        .range((Excluded(at), Unbounded))
        .filter(|(_, e)| e.mark == mark)
        .find_map(|(key, e)| Some((*key, e.socket.upgrade()?)))
}

/// Calls `f` for each reference to a unix socket that waits in a socket or in connections to it.
fn each_held(s: &UnixSocket, f: &mut dyn FnMut(Key)) {
    each_queue(s, &mut |s| {
        for m in &s.rx.lock().messages {
            let files = m.rights.iter().flat_map(|r| r.files());
            files
                .filter(|f| unix_of(f).is_some())
                .map(key_of)
                .for_each(&mut *f);
        }
    });
}

/// Calls `f` for a socket and the connections that wait in it. No connection is taken out meanwhile.
fn each_queue(s: &UnixSocket, f: &mut dyn FnMut(&UnixSocket)) {
    f(s);
    let pending = |i| s.state.lock().pending.get(i).cloned();
    for p in (0..).map_while(pending) {
        f(&p);
    }
}
