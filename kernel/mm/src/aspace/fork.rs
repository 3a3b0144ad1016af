//! fork(2): a copy of an address space that shares its private pages until one side writes.
//!
//! Sharing costs both sides a fault on each page that they go on writing, far
//! more than a copy. So what a single thread has written since its last fork is
//! copied at once, unless it is much: then everything is shared, and what is
//! written from then on shows which pages are worth it the next time.

use super::ops::Ops;
use super::pt::{LEAF_SPAN, Owner, PageTable, Pte, Step};
use super::vma::{Show, Vma, VmaSet};
use super::{Mm, PAGE, VmFlags};
use crate::frame::{self, Contents, Kind};
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;
use hal::{Pfn, Prot};

/// Mapping requests made for the child before it runs: each saves it a fault.
const EAGER: usize = 48;
/// Pages of a shared mapping that are copied; larger ones fault in anew.
const SHARED_PAGES: u64 = 1024;
/// Written pages that are copied rather than shared: 1 MiB.
const COPIED: usize = 256;
/// Frames for copies that are allocated together.
const COPY_RUN: usize = 16;
/// Entries looked at with the page table locked once.
const LOOK: u64 = 16 * LEAF_SPAN;

/// Who may write to the address space while it is copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Writers {
    /// Only the task that forks.
    None,
    /// Other tasks with the same address space: a page may not be copied
    /// while they write to it, because its bytes would be of different times.
    Others,
}

/// Frames for copies of written pages.
struct Copies {
    run: Option<(Pfn, usize)>,
    /// Frames that may still be taken.
    left: usize,
}

impl Copies {
    /// The next frame, with a reference. `None`: share the page.
    fn next(&mut self) -> Option<Pfn> {
        if self.left == 0 {
            return None;
        }
        if self.run.is_none_or(|(_, used)| used == COPY_RUN) {
            self.drop_run();
            let run = frame::alloc_user(COPY_RUN, Kind::Anon, Contents::Undefined, false);
            if run.is_none() {
                self.left = 0;
            }
            self.run = Some((run?, 0));
        }
        let (first, used) = self.run.as_mut()?;
        let p = first.add(*used);
        frame::get(p);
        *used += 1;
        self.left -= 1;
        Some(p)
    }

    /// Gives up the references of the allocation.
    fn drop_run(&mut self) {
        if let Some((first, _)) = self.run.take() {
            frame::put_run(first, COPY_RUN);
        }
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        self.drop_run();
    }
}

impl Mm {
    /// A copy for fork(2): private pages copy-on-write, or copied.
    pub fn fork(&self, writers: Writers) -> Result<Arc<Mm>> {
        let child = Mm::new(self.engine)?;
        let registered = self.membarrier.load(Relaxed);
        child.membarrier.store(registered, Relaxed);
        if self.keeps_code() {
            child.keep_code();
        }
        child
            .stack_limit
            .store(self.stack_limit.load(Relaxed), Relaxed);
        match self.copy_to(&child, writers) {
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

    fn copy_to(&self, child: &Arc<Mm>, writers: Writers) -> Result {
        let from = self.vmas.write();
        let mut to = child.vmas.write();
        to.set_top(from.top);
        to.brk = from.brk;
        to.layout = from.layout.clone();
        let weak = Arc::downgrade(child);
        let mut table = PageTable::new();
        let mut counts = [0; 4];
        let mut eager = EAGER;
        let mut copies = Copies {
            run: None,
            left: match writers {
                Writers::None => self.worth_copying(&from),
                Writers::Others => 0,
            },
        };
        let mut result = Ok(());
        for v in from.iter() {
            if v.flags.contains(VmFlags::DONTFORK) {
                continue;
            }
            let mut copy = v.part(v.start, v.end);
            if let Show::File(f) = &copy.show {
                copy.show = Show::File(f.for_mm(&weak, v.flags));
            }
            // Locks are not inherited.
            copy.flags -= VmFlags::LOCKED;
            copy.next.store(v.next.load(Relaxed), Relaxed);
            copy.extent.store(v.extent.load(Relaxed), Relaxed);
            append(&mut to, copy);
            if v.flags.contains(VmFlags::WIPEONFORK) || v.is_shared() && v.pages() > SHARED_PAGES {
                continue;
            }
            result = self.copy_pages(v, &mut table, child, &mut counts, &mut eager, &mut copies);
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

    /// How many written pages are to be copied: all, or none if there are many
    /// or memory is short.
    fn worth_copying(&self, vmas: &VmaSet) -> usize {
        if frame::is_tight() {
            return 0;
        }
        let mut n = 0;
        for v in vmas.iter() {
            if v.is_shared() || v.flags.intersects(VmFlags::DONTFORK | VmFlags::WIPEONFORK) {
                continue;
            }
            let mut at = v.start;
            while at < v.end {
                let end = at.saturating_add(LOOK).min(v.end);
                self.pt.lock().update(at, end, |_, e| {
                    n += usize::from(is_written(e));
                    if n > COPIED { Step::Stop } else { Step::Keep }
                });
                if n > COPIED {
                    return 0;
                }
                at = end;
            }
        }
        n
    }

    /// Copies the entries of a VMA, taking the right to write private pages from both sides.
    fn copy_pages(
        &self,
        v: &Vma,
        table: &mut PageTable,
        child: &Mm,
        counts: &mut [i64; 4],
        eager: &mut usize,
        copies: &mut Copies,
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
                    let copy = match private && is_written(e) {
                        true => copies.next(),
                        false => None,
                    };
                    let mut prot = e.prot();
                    if private && copy.is_none() {
                        prot -= Prot::WRITE;
                    }
                    let new = e.with_prot(prot);
                    let (pfn, entry) = match copy {
                        Some(p) => (p, Pte::new(p, prot, Owner::Anon, true)),
                        None => (e.pfn(), new),
                    };
                    if theirs.set(a, entry).is_err() {
                        if let Some(p) = copy {
                            frame::put(p);
                        }
                        failed = true;
                        return Step::Keep;
                    }
                    match copy {
                        Some(p) => frame::copy_page(p, e.pfn(), 1),
                        None if e.owner() != Owner::Special => frame::get(e.pfn()),
                        None => {}
                    }
                    counts[e.owner() as usize] += 1;
                    match &mut run {
                        Some((b, n, p, r))
                            if *b + *n as u64 * PAGE == a && p.add(*n) == pfn && *r == prot =>
                        {
                            *n += 1;
                        }
                        _ => {
                            submit(&mut ops, &mut run, eager);
                            run = Some((a, 1, pfn, prot));
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

/// Whether an entry of a private mapping has been written since the last fork.
fn is_written(e: Pte) -> bool {
    e.owner() == Owner::Anon && e.prot().contains(Prot::WRITE)
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
