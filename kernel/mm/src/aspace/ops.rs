//! Collects mapping requests for the host and merges neighbours.

use hal::{MapOp, PAGE_SIZE, Pfn, Prot, UserSpace};

const MAX: usize = 16;

/// Requests of one critical section. They are queued when it is full and on
/// drop, that is before the lock of the page table is released: the host sees
/// changes in the order of the page table's.
pub(super) struct Ops<'a> {
    space: &'a dyn UserSpace,
    buf: [MapOp; MAX],
    len: usize,
    when: When,
    /// Requests made in all.
    pub(super) count: usize,
}

/// When the host has to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum When {
    /// Before the guest runs again.
    Now,
    /// With the next requests, whenever those come: pages mapped ahead of their use.
    Later,
}

impl<'a> Ops<'a> {
    pub(super) fn new(space: &'a dyn UserSpace, when: When) -> Ops<'a> {
        Ops {
            space,
            when,
            buf: [MapOp::Unmap { addr: 0, len: 0 }; MAX],
            len: 0,
            count: 0,
        }
    }
    fn push(&mut self, op: MapOp) {
        if self.len == MAX {
            self.submit();
        }
        self.buf[self.len] = op;
        self.len += 1;
        self.count += 1;
    }
    fn last(&mut self) -> Option<&mut MapOp> {
        self.buf[..self.len].last_mut()
    }
    /// Hands over what was collected.
    pub(super) fn submit(&mut self) {
        if self.len > 0 {
            let ops = &self.buf[..self.len];
            match self.when {
                When::Now => self.space.queue(ops),
                When::Later => self.space.queue_ahead(ops),
            }
            self.len = 0;
        }
    }
    /// One page, or several contiguous ones. Nothing if there are no rights.
    pub(super) fn map(&mut self, addr: u64, pages: usize, pfn: Pfn, prot: Prot, populate: bool) {
        let bytes = (pages * PAGE_SIZE) as u64;
        if prot.is_empty() {
            return;
        }
        if let Some(MapOp::Map {
            addr: a,
            len: l,
            pfn: p,
            prot: r,
            populate: o,
        }) = self.last()
            && *a + *l == addr
            && p.add((*l as usize) / PAGE_SIZE) == pfn
            && *r == prot
            && *o == populate
        {
            *l += bytes;
            return;
        }
        self.push(MapOp::Map {
            addr,
            len: bytes,
            pfn,
            prot,
            populate,
        });
    }
    pub(super) fn unmap(&mut self, addr: u64, bytes: u64) {
        if let Some(MapOp::Unmap { addr: a, len: l }) = self.last()
            && *a + *l == addr
        {
            *l += bytes;
            return;
        }
        self.push(MapOp::Unmap { addr, len: bytes });
    }
    /// As [`Ops::unmap`], for ascending addresses with nothing mapped in between.
    pub(super) fn unmap_sparse(&mut self, addr: u64, bytes: u64) {
        if let Some(MapOp::Unmap { addr: a, len: l }) = self.last()
            && addr >= *a + *l
        {
            *l = addr + bytes - *a;
            return;
        }
        self.push(MapOp::Unmap { addr, len: bytes });
    }
    /// New rights for a page or range; holes in between may be passed over by merging up to `gap` bytes.
    pub(super) fn protect(&mut self, addr: u64, bytes: u64, prot: Prot, gap: u64) {
        if let Some(MapOp::Protect {
            addr: a,
            len: l,
            prot: r,
        }) = self.last()
            && *r == prot
            && addr >= *a + *l
            && addr - (*a + *l) <= gap
        {
            *l = addr + bytes - *a;
            return;
        }
        self.push(MapOp::Protect {
            addr,
            len: bytes,
            prot,
        });
    }
}

impl Drop for Ops<'_> {
    fn drop(&mut self) {
        self.submit();
    }
}
