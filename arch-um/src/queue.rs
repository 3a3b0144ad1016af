//! Changes of a guest's mappings that the host has not heard of yet; both engines queue them alike.

use crate::lock::HostLock;
use crate::sysvec::SysVec;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::SeqCst;
use hal::{MapOp, PAGE_SIZE, Prot, USER_END};

/// Changes queued before everything is dropped instead.
const QUEUE_MAX: usize = 512;

/// When changes have to be carried out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    BeforeNextRun,
    /// Together with others that have to be.
    WithOthers,
}

/// Changes of one address space, in order.
pub(crate) struct Queue {
    changes: HostLock<Changes>,
    /// There are changes in the queue that the guest must not run before.
    pub(crate) dirty: AtomicBool,
    /// Changes have been taken from the queue and may not be carried out yet.
    pub(crate) busy: AtomicBool,
}

/// What [`Queue`]'s lock guards.
struct Changes {
    /// First remove everything.
    drop_all: bool,
    /// Then do these.
    ops: SysVec<MapOp>,
}

impl Queue {
    pub(crate) fn new() -> Queue {
        Queue {
            changes: HostLock::new(Changes {
                drop_all: false,
                ops: SysVec::new(),
            }),
            dirty: AtomicBool::new(false),
            busy: AtomicBool::new(false),
        }
    }

    /// Adds changes. The machine has `frames` frames and maps nothing below `min_addr`.
    pub(crate) fn add(&self, ops: &[MapOp], when: When, min_addr: u64, frames: u64) {
        let mut q = self.changes.lock();
        for op in ops {
            if !valid(op, min_addr, frames) {
                debug_assert!(false, "impossible mapping {op:x?}");
                continue;
            }
            let op = readable(*op);
            if let Some(last) = q.ops.last_mut()
                && merge(last, &op)
            {
                continue;
            }
            if q.ops.len() >= QUEUE_MAX {
                q.ops.clear();
                q.drop_all = true;
            }
            q.ops.push(op);
        }
        // Under the queue's lock, so that whoever takes the queue answers for it.
        if q.drop_all || when == When::BeforeNextRun && !q.ops.is_empty() {
            self.dirty.store(true, SeqCst);
        }
    }

    /// Takes all changes into `ops`, which loses what it had. Returns whether
    /// everything is to be removed first. Until the caller clears `busy`, who
    /// finds the queue clean must wait for what was taken.
    pub(crate) fn take(&self, ops: &mut SysVec<MapOp>) -> bool {
        let mut q = self.changes.lock();
        core::mem::swap(&mut q.ops, ops);
        q.ops.clear();
        self.busy.store(true, SeqCst);
        self.dirty.store(false, SeqCst);
        core::mem::take(&mut q.drop_all)
    }

    /// Whether nothing waits to be carried out.
    pub(crate) fn is_empty(&self) -> bool {
        let q = self.changes.lock();
        !q.drop_all && q.ops.is_empty()
    }

    /// Forgets all changes.
    pub(crate) fn forget(&self) {
        let mut q = self.changes.lock();
        q.ops.clear();
        q.drop_all = false;
        self.dirty.store(false, SeqCst);
    }
}

/// Whether the host can be asked for `op`, in a machine of `frames` frames.
fn valid(op: &MapOp, min_addr: u64, frames: u64) -> bool {
    let page = PAGE_SIZE as u64;
    let (MapOp::Map { addr, len, .. }
    | MapOp::Unmap { addr, len }
    | MapOp::Protect { addr, len, .. }) = *op;
    let range = len != 0
        && addr % page == 0
        && len % page == 0
        && addr.checked_add(len).is_some_and(|end| end <= USER_END);
    match *op {
        MapOp::Map { pfn, .. } => {
            range && addr >= min_addr && u64::from(pfn.0) + len / page <= frames
        }
        _ => range,
    }
}

/// Pages that may be executed only can be read, too, as on a CPU without protection
/// keys. A host with keys would take one of them to forbid it.
fn readable(mut op: MapOp) -> MapOp {
    if let MapOp::Map { prot, .. } | MapOp::Protect { prot, .. } = &mut op
        && *prot == Prot::EXEC
    {
        *prot |= Prot::READ;
    }
    op
}

/// Extends `last` by `op` if they are of one kind and adjacent.
fn merge(last: &mut MapOp, op: &MapOp) -> bool {
    match (last, *op) {
        (
            MapOp::Map {
                addr,
                len,
                pfn,
                prot,
                populate,
            },
            MapOp::Map {
                addr: a,
                len: l,
                pfn: f,
                prot: p,
                populate: q,
            },
        ) => {
            let next = pfn.file_offset() + *len == f.file_offset();
            let fits = *addr + *len == a && next && *prot == p && *populate == q;
            if fits {
                *len += l;
            }
            fits
        }
        (MapOp::Unmap { addr, len }, MapOp::Unmap { addr: a, len: l }) => {
            let fits = *addr + *len == a;
            if fits {
                *len += l;
            }
            fits
        }
        (
            MapOp::Protect { addr, len, prot },
            MapOp::Protect {
                addr: a,
                len: l,
                prot: p,
            },
        ) => {
            let fits = *addr + *len == a && *prot == p;
            if fits {
                *len += l;
            }
            fits
        }
        _ => false,
    }
}
