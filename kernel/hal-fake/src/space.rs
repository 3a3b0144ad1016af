//! [`FakeSpace`]: a recorded software TLB.

use hal::{MapOp, PAGE_SIZE, Pfn, Prot, USER_END, UserSpace};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const PAGE: u64 = PAGE_SIZE as u64;

/// Requests carried out so far, by kind.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[expect(missing_docs)]
pub struct OpCounts {
    pub map: usize,
    pub unmap: usize,
    pub protect: usize,
}

#[derive(Default)]
struct State {
    queue: Vec<MapOp>,
    tlb: BTreeMap<u64, (Pfn, Prot)>,
    counts: OpCounts,
}

/// The host's mappings of one address space. Requests wait in the queue until
/// they are flushed or the guest makes an access.
#[derive(Default)]
pub struct FakeSpace {
    state: Mutex<State>,
    flushes: AtomicUsize,
}

impl FakeSpace {
    pub(crate) fn new() -> FakeSpace {
        FakeSpace::default()
    }
    /// The frame that the guest reaches at `addr`, or `None`: a page fault.
    pub fn access(&self, addr: u64, access: Prot) -> Option<Pfn> {
        let mut s = self.state.lock().unwrap();
        s.apply();
        let (pfn, prot) = *s.tlb.get(&(addr & !(PAGE - 1)))?;
        prot.contains(access).then_some(pfn)
    }
    /// Calls `f` with the frame while nothing can be flushed: an access of another CPU that may not have heard of the
    /// queue yet. The queue is carried out only if the access would fault.
    pub fn with_access<T>(&self, addr: u64, access: Prot, f: impl FnOnce(Pfn) -> T) -> Option<T> {
        let mut s = self.state.lock().unwrap();
        let page = addr & !(PAGE - 1);
        let hit = |s: &State| {
            s.tlb
                .get(&page)
                .filter(|(_, p)| p.contains(access))
                .map(|(p, _)| *p)
        };
        if hit(&s).is_none() {
            s.apply();
        }
        hit(&s).map(f)
    }
    /// As [`FakeSpace::access`], as another CPU sees it that has not heard of the queue yet.
    pub fn stale_access(&self, addr: u64, access: Prot) -> Option<Pfn> {
        let s = self.state.lock().unwrap();
        let (pfn, prot) = *s.tlb.get(&(addr & !(PAGE - 1)))?;
        prot.contains(access).then_some(pfn)
    }
    /// Drops mappings as a real engine may at any time.
    pub fn drop_mappings(&self) {
        let mut s = self.state.lock().unwrap();
        s.apply();
        s.tlb.clear();
    }
    /// All mappings, after the queue has been carried out.
    pub fn mappings(&self) -> Vec<(u64, Pfn, Prot)> {
        let mut s = self.state.lock().unwrap();
        s.apply();
        s.tlb.iter().map(|(a, (p, r))| (*a, *p, *r)).collect()
    }
    /// Requests so far.
    pub fn counts(&self) -> OpCounts {
        let mut s = self.state.lock().unwrap();
        s.apply();
        s.counts
    }
    /// Calls of `flush` so far.
    pub fn flushes(&self) -> usize {
        self.flushes.load(Ordering::Relaxed)
    }
}

impl State {
    fn apply(&mut self) {
        for op in std::mem::take(&mut self.queue) {
            match op {
                MapOp::Map {
                    addr,
                    len,
                    pfn,
                    prot,
                    ..
                } => {
                    check(addr, len);
                    assert!(!prot.is_empty(), "mapping without rights");
                    self.counts.map += 1;
                    for i in 0..len / PAGE {
                        self.tlb
                            .insert(addr + i * PAGE, (pfn.add(i as usize), prot));
                    }
                }
                MapOp::Unmap { addr, len } => {
                    check(addr, len);
                    self.counts.unmap += 1;
                    let keys: Vec<u64> = self.tlb.range(addr..addr + len).map(|e| *e.0).collect();
                    for k in keys {
                        self.tlb.remove(&k);
                    }
                }
                MapOp::Protect { addr, len, prot } => {
                    check(addr, len);
                    self.counts.protect += 1;
                    for e in self.tlb.range_mut(addr..addr + len) {
                        e.1.1 = prot;
                    }
                }
            }
        }
    }
}

fn check(addr: u64, len: u64) {
    assert!(
        addr % PAGE == 0 && len % PAGE == 0 && len > 0,
        "request is not aligned: {addr:#x}+{len:#x}"
    );
    assert!(
        addr + len <= USER_END,
        "request beyond the guest's addresses"
    );
}

impl UserSpace for FakeSpace {
    fn queue(&self, ops: &[MapOp]) {
        self.state.lock().unwrap().queue.extend_from_slice(ops);
    }
    fn flush(&self) {
        assert_eq!(
            hal::cpu::current_stack().lock_depth.load(Ordering::Relaxed),
            0,
            "flush with a spin lock held"
        );
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.state.lock().unwrap().apply();
    }
    fn clear(&self) {
        let mut s = self.state.lock().unwrap();
        s.queue.clear();
        s.tlb.clear();
    }
    fn alive(&self) -> bool {
        true
    }
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
