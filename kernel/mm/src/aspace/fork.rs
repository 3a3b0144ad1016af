//! fork(2): a copy of an address space that shares its private pages until one side writes.

use super::ops::Ops;
use super::pt::{LEAF_SPAN, Owner, PageTable, Step};
use super::vma::{Show, Vma, VmaSet};
use super::{Mm, PAGE, VmFlags};
use crate::frame;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;
use hal::{Pfn, Prot};

/// Mapping requests made for the child before it runs: each saves it a fault.
const EAGER: usize = 48;
/// Pages of a shared mapping that are copied; larger ones fault in anew.
const SHARED_PAGES: u64 = 1024;

impl Mm {
    /// A copy for fork(2): private pages copy-on-write.
    pub fn fork(&self) -> Result<Arc<Mm>> {
        let child = Mm::new(self.engine)?;
        let registered = self.membarrier.load(Relaxed);
        child.membarrier.store(registered, Relaxed);
        child
            .stack_limit
            .store(self.stack_limit.load(Relaxed), Relaxed);
        match self.copy_to(&child) {
            Ok(()) => {
                *child.exe.lock() = self.exe();
                Ok(child)
            }
            Err(e) => {
                child.release();
                Err(e)
            }
        }
    }

    fn copy_to(&self, child: &Arc<Mm>) -> Result {
        let from = self.vmas.write();
        let mut to = child.vmas.write();
        to.set_top(from.top);
        to.brk = from.brk;
        to.layout = from.layout.clone();
        let weak = Arc::downgrade(child);
        let mut table = PageTable::new();
        let mut counts = [0; 4];
        let mut eager = EAGER;
        let mut result = Ok(());
        for v in from.iter() {
            if v.flags.contains(VmFlags::DONTFORK) {
                continue;
            }
            let mut copy = v.part(v.start, v.end);
            if let Show::File(f) = &copy.show {
                copy.show = Show::File(f.for_mm(&weak));
            }
            // Locks are not inherited.
            copy.flags -= VmFlags::LOCKED;
            copy.next.store(v.next.load(Relaxed), Relaxed);
            copy.extent.store(v.extent.load(Relaxed), Relaxed);
            append(&mut to, copy);
            if v.flags.contains(VmFlags::WIPEONFORK) || v.is_shared() && v.pages() > SHARED_PAGES {
                continue;
            }
            result = self.copy_pages(v, &mut table, child, &mut counts, &mut eager);
            if result.is_err() {
                break;
            }
        }
        *child.pt.lock() = table;
        child.count(counts);
        // With the VMAs still locked: a write through a stale right is lost if
        // another thread copies the page meanwhile.
        self.space.flush();
        result
    }

    /// Copies the entries of a VMA, taking the right to write private pages from both sides.
    fn copy_pages(
        &self,
        v: &Vma,
        table: &mut PageTable,
        child: &Mm,
        counts: &mut [i64; 4],
        eager: &mut usize,
    ) -> Result {
        let private = !v.is_shared();
        let mut failed = false;
        // The child's first requests: one for each run of frames.
        let mut ops = child.ops();
        let mut run: Option<(u64, usize, Pfn, Prot)> = None;
        let mut at = v.start;
        while at < v.end {
            let end = ((at & !(LEAF_SPAN - 1)) + LEAF_SPAN).min(v.end);
            let mut written: Option<(u64, u64, Prot)> = None;
            {
                let mut pt = self.pt.lock();
                let mut theirs = table.cursor();
                pt.update(at, end, |a, e| {
                    if failed {
                        return Step::Keep;
                    }
                    let mut prot = e.prot();
                    if private {
                        prot -= Prot::WRITE;
                    }
                    let new = e.with_prot(prot);
                    if theirs.set(a, new).is_err() {
                        failed = true;
                        return Step::Keep;
                    }
                    if e.owner() != Owner::Special {
                        frame::get(e.pfn());
                    }
                    counts[e.owner() as usize] += 1;
                    match &mut run {
                        Some((b, n, p, r))
                            if *b + *n as u64 * PAGE == a && p.add(*n) == e.pfn() && *r == prot =>
                        {
                            *n += 1;
                        }
                        _ => {
                            submit(&mut ops, &mut run, eager);
                            run = Some((a, 1, e.pfn(), prot));
                        }
                    }
                    if prot == e.prot() {
                        return Step::Keep;
                    }
                    written = Some((written.map_or(a, |w| w.0), a + PAGE, prot));
                    Step::Set(new)
                });
                // All entries of the VMA that the host has mapped have these
                // rights or none: one request does for all.
                if let Some((a, b, prot)) = written {
                    self.ops().protect(a, b - a, prot, 0);
                }
            }
            if failed {
                return Err(Errno::ENOMEM);
            }
            at = end;
            crate::page_cache::yield_if_needed();
        }
        submit(&mut ops, &mut run, eager);
        Ok(())
    }
}

fn submit(ops: &mut Ops<'_>, run: &mut Option<(u64, usize, Pfn, Prot)>, eager: &mut usize) {
    if let Some((a, n, p, prot)) = run.take()
        && *eager > 0
        && !prot.is_empty()
    {
        *eager -= 1;
        ops.map(a, n, p, prot, false);
    }
}

fn append(to: &mut VmaSet, v: Vma) {
    // Neighbours did not merge in the parent either, or may now: both are fine.
    let gone = to.insert(v);
    drop(gone);
}
