//! Page faults.
//!
//! The life of one: the page table may allow the access already (the host
//! dropped the mapping): map the surroundings again. Else the VMA says what
//! belongs there: new zero pages in an extent, pages of a file with those
//! around that are resident, or a private copy. All of them are installed with
//! the page table locked, after a second look, and the host is told before it is unlocked.

use super::pt::{Owner, PageTable, Pte, rights};
use super::vma::{FileRange, STACK_GAP, Show, Vma, extent_pages};
use super::{FaultError, Mm, MmLimits, Ops, PAGE, VmFlags, When};
use crate::frame::{self, Contents, Gathered, Kind, Pinned};
use crate::page_cache::fill::Ahead;
use crate::page_cache::yield_if_needed;
use abi::Errno;
use core::sync::atomic::Ordering::Relaxed;
use hal::{PAGE_SHIFT, Pfn, Prot, USER_END};

/// Pages around a fault that are looked at together: 64 KiB.
const AROUND: u64 = 16;
/// Pages of a mapping that are not worth to be mapped ahead.
const FEW: usize = 4;
/// Resident pages of a file mapped by one fault: 512 KiB. An entry costs
/// little, a fault much.
const FILE: u64 = 128;
/// The same for executable code: 2 MiB.
const CODE: u64 = 512;

/// How an attempt to resolve a fault ended.
enum Outcome {
    Done,
    /// Something changed meanwhile.
    Again,
    /// Frames are missing.
    NoMemory,
    Fail(FaultError),
}

impl Mm {
    /// Resolves a page fault of the guest so that the access succeeds when tried again.
    pub fn fault(&self, addr: u64, access: Prot, limits: &MmLimits) -> Result<(), FaultError> {
        self.stack_limit.store(limits.stack, Relaxed);
        if self.is_victim() {
            return Err(FaultError::Oom);
        }
        if addr >= USER_END {
            return Err(FaultError::Segv(1));
        }
        let page = addr & !(PAGE - 1);
        if self.refresh(page, access) {
            return Ok(());
        }
        self.resolve(page, access)
    }

    /// As [`Mm::refresh`] for all pages in `[addr, end)` that the page table has.
    pub(super) fn refresh_range(&self, addr: u64, end: u64, access: Prot) {
        let mut page = addr & !(PAGE - 1);
        while page < end {
            page = match self.refresh(page, access) {
                // The whole window.
                true => (page & !(AROUND * PAGE - 1)) + AROUND * PAGE,
                false => page + PAGE,
            };
        }
    }

    /// If the page table allows the access: maps the surroundings on the host again.
    fn refresh(&self, page: u64, access: Prot) -> bool {
        let pt = self.pt.lock();
        match pt.get(page) {
            Some(pte) if pte.allows(access) => {}
            _ => return false,
        }
        let mut ops = self.ops();
        let (lo, hi) = run_around(&pt, page);
        let window = page & !(AROUND * PAGE - 1);
        pt.each(lo.min(window), hi.max(window + AROUND * PAGE), |a, p| {
            if !p.prot().is_empty() {
                ops.map(a, 1, p.pfn(), p.prot(), false);
            }
        });
        true
    }

    /// Makes the page accessible. `Err` as for [`Mm::fault`].
    pub(super) fn resolve(&self, page: u64, access: Prot) -> Result<(), FaultError> {
        self.min_flt.fetch_add(1, Relaxed);
        loop {
            let outcome = {
                let vmas = self.vmas.read();
                match vmas.find(page) {
                    Some(v) if !rights(v.prot).contains(access) => {
                        Outcome::Fail(FaultError::Segv(2))
                    }
                    Some(v) => self.resolve_in(v, vmas.latest, page, access),
                    None => Outcome::Fail(FaultError::Segv(1)),
                }
            };
            match outcome {
                Outcome::Done => return Ok(()),
                Outcome::Again => yield_if_needed(),
                Outcome::Fail(FaultError::Segv(1)) => {
                    if !self.grow_stack(page) {
                        return Err(FaultError::Segv(1));
                    }
                }
                Outcome::Fail(e) => return Err(e),
                Outcome::NoMemory => {
                    if self.is_victim() || !frame::make_room() {
                        return Err(FaultError::Oom);
                    }
                    if self.is_victim() {
                        return Err(FaultError::Oom);
                    }
                }
            }
        }
    }

    fn resolve_in(&self, v: &Vma, latest: (u64, u64), page: u64, access: Prot) -> Outcome {
        let pte = self.pt.lock().get(page);
        if let Some(p) = pte
            && p.allows(access)
        {
            return Outcome::Done;
        }
        let write = access.contains(Prot::WRITE);
        match &v.show {
            Show::Special(_) => Outcome::Fail(FaultError::Segv(2)),
            Show::Anon => match pte {
                None => self.new_extent(v, latest, page),
                Some(_) => self.own(v, None, page),
            },
            Show::File(f) if write && !v.is_shared() => match pte {
                Some(p) if p.owner() == Owner::Anon => self.own(v, None, page),
                _ => self.own(v, Some(f), page),
            },
            Show::File(f) => self.file_page(v, f, page, write, When::Now),
        }
    }

    /// New zero pages. `latest`: the mapping that was made last.
    fn new_extent(&self, v: &Vma, latest: (u64, u64), page: u64) -> Outcome {
        let want = extent_pages(v, page);
        let sequential = want > AROUND || v.next.load(Relaxed) == page;
        let begins = page == latest.0;
        let (lo, hi) = if begins {
            (page, page.saturating_add(want * PAGE).min(latest.1))
        } else if sequential {
            (page, page.saturating_add(want * PAGE))
        } else {
            let lo = page & !(want * PAGE - 1);
            (lo, lo + want * PAGE)
        };
        let (lo, hi) = (lo.max(v.start), hi.min(v.end));
        let (lo, hi) = absent_around(&self.pt.lock(), page, lo, hi);
        let n = ((hi - lo) >> PAGE_SHIFT) as usize;
        // What has been touched from end to end so far goes on being so, most likely, and so does a small
        // mapping that is touched from its beginning: all pages are mapped present.
        let small = begins && hi == latest.1 && n >= FEW;
        let whole = sequential && n as u64 > AROUND || small;
        let contents = if whole {
            Contents::ZeroUsed
        } else {
            Contents::Zero
        };
        let spare = self.is_victim();
        let (lo, n, run) = match frame::alloc_user(n, Kind::Anon, contents, spare) {
            Some(run) => (lo, n, run),
            None => match frame::alloc_user(1, Kind::Anon, Contents::Zero, spare) {
                Some(run) => (page, 1, run),
                None => return Outcome::NoMemory,
            },
        };
        let prot = rights(v.prot);
        let dirty = prot.contains(Prot::WRITE);
        let populate = whole || v.flags.contains(VmFlags::LOCKED);
        let mut used = 0;
        let result = {
            let mut pt = self.pt.lock();
            let mut ops = self.ops();
            pt.fill(lo, n, |i| {
                let p = run.add(i);
                used += 1;
                // A frame whose place was taken meanwhile is found by its reference below.
                frame::get(p);
                ops.map(lo + i as u64 * PAGE, 1, p, prot, populate);
                Some(Pte::new(p, prot, Owner::Anon, dirty))
            })
        };
        // The entries have references of their own: drop the allocation's.
        frame::put_run(run, n);
        self.count([used, 0, 0, 0]);
        v.next.store(lo + n as u64 * PAGE, Relaxed);
        v.extent.store(n as u32, Relaxed);
        match result {
            Ok(()) => Outcome::Done,
            Err(_) => Outcome::NoMemory,
        }
    }

    /// Makes a private page writable: by reuse if nobody else has it, else by
    /// copying it and its neighbours. `file`: the page is (still) the file's.
    fn own(&self, v: &Vma, file: Option<&FileRange>, page: u64) -> Outcome {
        if file.is_none() && self.reuse(v, page) {
            return Outcome::Done;
        }
        // Not around pages of files in memory: what is written to them later is
        // to be seen in the pages that are still theirs.
        let memory = file.is_some_and(|f| f.cache.is_memory());
        let around = if frame::is_tight() || memory {
            1
        } else {
            AROUND
        };
        let lo = (page & !(around * PAGE - 1)).max(v.start);
        let hi = ((page & !(around * PAGE - 1)) + around * PAGE).min(v.end);
        let mut src: [Option<Pinned>; AROUND as usize] = [const { None }; AROUND as usize];
        let slot = |a: u64| ((a - lo) >> PAGE_SHIFT) as usize;
        if let Some(f) = file {
            match f
                .cache
                .page(v.index(f, page), Ahead::Around, self.is_victim())
            {
                Ok(p) => src[slot(page)] = Some(p),
                Err(e) => return self.io_outcome(e),
            }
            let mut pages = f.cache.lock_pages();
            let pt = self.pt.lock();
            let first = v.index(f, lo);
            let end = (first + ((hi - lo) >> PAGE_SHIFT)).min(f.cache.size_pages());
            pages.for_present(first, end, |i, p| {
                let a = lo + (i - first) * PAGE;
                let theirs = pt.get(a).is_none_or(|e| e.owner() != Owner::Anon);
                if theirs && a != page {
                    frame::get(p);
                    src[slot(a)] = Some(Pinned::from_ref(p));
                }
            });
        } else {
            let pt = self.pt.lock();
            pt.each(lo, hi, |a, e| {
                let shared = e.owner() == Owner::Anon
                    && !e.prot().contains(Prot::WRITE)
                    && (a == page || frame::refs(e.pfn()) > 1);
                if shared {
                    frame::get(e.pfn());
                    src[slot(a)] = Some(Pinned::from_ref(e.pfn()));
                }
            });
        }
        // The run of pages around the fault that have a source.
        let at = slot(page);
        if src[at].is_none() {
            return Outcome::Again;
        }
        let mut first = at;
        while first > 0 && src[first - 1].is_some() {
            first -= 1;
        }
        let mut end = at + 1;
        while end < src.len() && src[end].is_some() {
            end += 1;
        }
        let spare = self.is_victim();
        let (first, end, run) =
            match frame::alloc_user(end - first, Kind::Anon, Contents::Undefined, spare) {
                Some(run) => (first, end, run),
                None => match frame::alloc_user(1, Kind::Anon, Contents::Undefined, spare) {
                    Some(run) => (at, at + 1, run),
                    None => return Outcome::NoMemory,
                },
            };
        copy_run(run, &src[first..end]);
        let start = lo + first as u64 * PAGE;
        self.install_copies(v, start, run, &src[first..end], page, file.is_some())
    }

    /// Puts copies in the place of `src`, where that is still what is there.
    fn install_copies(
        &self,
        v: &Vma,
        start: u64,
        run: Pfn,
        src: &[Option<Pinned>],
        page: u64,
        file: bool,
    ) -> Outcome {
        let prot = rights(v.prot);
        let mut gone = Gathered::default();
        let mut counts = [0; 4];
        let mut outcome = Outcome::Again;
        {
            let mut pt = self.pt.lock();
            let mut ops = self.ops();
            for (i, s) in src.iter().enumerate() {
                let Some(s) = s else { continue };
                let a = start + i as u64 * PAGE;
                let old = pt.get(a);
                // Is what was copied still what is there? The page of a file
                // may not have been mapped, or an older one of the same file.
                let same = match old {
                    Some(e) if e.owner() == Owner::Anon => {
                        e.pfn() == s.pfn() && !e.prot().contains(Prot::WRITE)
                    }
                    _ => file,
                };
                if !same {
                    continue;
                }
                let p = run.add(i);
                if pt
                    .set(
                        a,
                        Pte::new(p, prot, Owner::Anon, prot.contains(Prot::WRITE)),
                    )
                    .is_err()
                {
                    outcome = Outcome::NoMemory;
                    break;
                }
                frame::get(p);
                counts[Owner::Anon as usize] += 1;
                if let Some(e) = old {
                    counts[e.owner() as usize] -= 1;
                    gone.add(e.pfn());
                }
                ops.map(a, 1, p, prot, true);
                if a == page {
                    outcome = Outcome::Done;
                }
            }
        }
        if !gone.is_empty() {
            self.space.flush();
            gone.release();
        }
        frame::put_run(run, src.len());
        self.count(counts);
        outcome
    }

    /// Makes anonymous pages writable that only this space has.
    fn reuse(&self, v: &Vma, page: u64) -> bool {
        let prot = rights(v.prot);
        let mut pt = self.pt.lock();
        let mine = |e: Pte| {
            e.owner() == Owner::Anon && !e.prot().contains(Prot::WRITE) && frame::refs(e.pfn()) == 1
        };
        if !pt.get(page).is_some_and(mine) {
            return false;
        }
        let window = page & !(4 * AROUND * PAGE - 1);
        let lo = window.max(v.start);
        let hi = (window + 4 * AROUND * PAGE).min(v.end);
        let mut ops = self.ops();
        pt.update(lo, hi, |a, e| {
            if !mine(e) {
                return super::pt::Step::Keep;
            }
            ops.protect(a, PAGE, prot, 0);
            super::pt::Step::Set(e.with_prot(prot))
        });
        // The host may never have mapped it, which a change of rights passes over.
        if let Some(e) = pt.get(page) {
            ops.map(page, 1, e.pfn(), prot, true);
        }
        true
    }

    /// A page of a file, for reading, or for writing through a shared mapping.
    fn file_page(&self, v: &Vma, f: &FileRange, page: u64, write: bool, when: When) -> Outcome {
        let code = v.prot.contains(Prot::EXEC);
        let window = match v.pattern {
            _ if code => CODE,
            -1 => 1,
            _ => FILE,
        };
        let index = v.index(f, page);
        let ahead = match v.pattern {
            _ if code => Ahead::Chunk,
            -1 => Ahead::None,
            1 => Ahead::Chunk,
            _ => Ahead::Around,
        };
        if f.cache.lock_pages().present(index).is_none() && !f.cache.is_memory() {
            self.maj_flt.fetch_add(1, Relaxed);
        }
        let pinned = match f.cache.page(index, ahead, self.is_victim()) {
            Ok(p) => p,
            Err(e) => return self.io_outcome(e),
        };
        let memory = f.cache.is_memory();
        let mut prot = rights(v.prot);
        if !v.is_shared() || !memory {
            prot -= Prot::WRITE;
        }
        let owner = if memory { Owner::Shmem } else { Owner::File };
        let base = page & !(window * PAGE - 1);
        let lo = base.max(v.start);
        let hi = base.saturating_add(window * PAGE).min(v.end);
        let first = v.index(f, lo);
        let end = (first + ((hi - lo) >> PAGE_SHIFT)).min(f.cache.size_pages());
        let mut added = 0;
        let mut ok = true;
        let mut dirtied = false;
        let mut stale = false;
        let outcome = {
            let mut pages = f.cache.lock_pages();
            let mut pt = self.pt.lock();
            let mut ops = Ops::new(&*self.space, when);
            pages.for_present(first, end, |i, p| {
                let a = lo + (i - first) * PAGE;
                if !ok || pt.get(a).is_some() {
                    return;
                }
                if pt.set(a, Pte::new(p, prot, owner, false)).is_err() {
                    ok = false;
                    return;
                }
                frame::get(p);
                added += 1;
                ops.map(a, 1, p, prot, false);
            });
            match pt.get(page) {
                Some(e) if write && !e.prot().contains(Prot::WRITE) => {
                    // First write to a page of a file that is written back.
                    if pages.set_dirty(index, e.pfn()) {
                        let prot = rights(v.prot);
                        dirtied = true;
                        ops.map(page, 1, e.pfn(), prot, true);
                        match pt.set(page, e.with_prot(prot)) {
                            Ok(()) => Outcome::Done,
                            Err(_) => Outcome::NoMemory,
                        }
                    } else {
                        stale = true;
                        Outcome::Again
                    }
                }
                Some(_) => Outcome::Done,
                None if !ok => Outcome::NoMemory,
                // Truncated meanwhile, or behind the end.
                None => Outcome::Again,
            }
        };
        drop(pinned);
        if stale {
            // A page that the cache has given up; whoever did so is about to do this too.
            self.zap(page, page + PAGE);
        }
        let mut counts = [0; 4];
        counts[owner as usize] = added;
        self.count(counts);
        if dirtied && let Some(h) = f.cache.dirty_hook() {
            h.dirtied();
        }
        outcome
    }

    /// Maps resident pages of a new mapping of a file ahead of the faults that
    /// are likely to come: much of code, the beginning of anything else.
    pub(super) fn map_ahead(&self, start: u64, end: u64, prot: Prot) {
        // Code is run soon, and is not worth a fault; the rest goes along with it.
        let (window, windows, when) = match prot.contains(Prot::EXEC) {
            true => (CODE, 4, When::Now),
            false => (FILE, 1, When::Later),
        };
        let end = end.min(start.saturating_add(windows * window * PAGE));
        let mut at = start;
        while at < end {
            let vmas = self.vmas.read();
            let Some(v) = vmas.find(at) else { return };
            let Show::File(f) = &v.show else { return };
            let resident = f.cache.lock_pages().present(v.index(f, at)).is_some();
            if resident && !matches!(self.file_page(v, f, at, false, when), Outcome::Done) {
                return;
            }
            at = (at & !(window * PAGE - 1)) + window * PAGE;
        }
    }

    fn io_outcome(&self, e: Errno) -> Outcome {
        match e {
            Errno::ENOMEM if self.is_victim() => Outcome::Fail(FaultError::Oom),
            Errno::ENOMEM => Outcome::NoMemory,
            _ => Outcome::Fail(FaultError::Bus),
        }
    }

    /// Extends a stack down to `page`; whether it makes sense to look again.
    fn grow_stack(&self, page: u64) -> bool {
        {
            // The usual answer without waiting for writers.
            let vmas = self.vmas.read();
            match vmas.find_above(page) {
                Some(v) if v.is_stack() || v.start <= page => {}
                _ => return false,
            }
        }
        let limit = self.stack_limit.load(Relaxed);
        let mut vmas = self.vmas.write();
        let Some(v) = vmas.find_above(page) else {
            return false;
        };
        if v.start <= page {
            return true;
        }
        if !v.is_stack() || v.end - page > limit {
            return false;
        }
        let (start, end) = (v.start, v.end);
        let floor = vmas.below(start).map_or(0, |b| {
            if b.is_stack() {
                b.end
            } else {
                b.end.saturating_add(STACK_GAP)
            }
        });
        if page < floor || page < super::vma::MIN_ADDR {
            return false;
        }
        // Some pages more, so that a growing stack does not fault on each.
        let more = (page & !(AROUND * PAGE - 1))
            .max(floor.next_multiple_of(PAGE))
            .max(super::vma::MIN_ADDR);
        let new = if more <= page && end - more <= limit {
            more
        } else {
            page
        };
        vmas.grow_down(start, new);
        true
    }
}

/// The range around `page` whose entries map contiguous frames with the same rights, within 2 MiB.
fn run_around(pt: &PageTable, page: u64) -> (u64, u64) {
    let base = page & !(super::pt::LEAF_SPAN - 1);
    let Some(here) = pt.get(page) else {
        return (page, page);
    };
    let fits = |a: u64| {
        pt.get(a).is_some_and(|e| {
            e.prot() == here.prot()
                && e.pfn().0 as i64 - here.pfn().0 as i64 == (a as i64 - page as i64) >> PAGE_SHIFT
        })
    };
    let mut lo = page;
    while lo > base && fits(lo - PAGE) {
        lo -= PAGE;
    }
    let mut hi = page + PAGE;
    while hi < base + super::pt::LEAF_SPAN && fits(hi) {
        hi += PAGE;
    }
    (lo, hi)
}

/// The range around `page` within `[lo, hi)` without entries; `page` alone if it has one.
fn absent_around(pt: &PageTable, page: u64, lo: u64, hi: u64) -> (u64, u64) {
    let (mut a, mut b) = (lo, hi);
    pt.each(lo, hi, |at, _| {
        if at < page {
            a = at + PAGE;
        } else if at > page && at < b {
            b = at;
        }
    });
    (a.min(page), b.max(page + PAGE))
}

/// Copies the pages of `src` to the frames from `run` on, contiguous ones together.
fn copy_run(run: Pfn, src: &[Option<Pinned>]) {
    let mut i = 0;
    while i < src.len() {
        let Some(s) = &src[i] else {
            i += 1;
            continue;
        };
        let mut n = 1;
        while let Some(Some(next)) = src.get(i + n)
            && next.pfn() == s.pfn().add(n)
        {
            n += 1;
        }
        frame::copy_page(run.add(i), s.pfn(), n);
        i += n;
    }
}

impl Mm {
    /// For [`Mm::force_page`]: resolves a fault as if the VMA had all rights. `None`: it cannot be.
    pub(super) fn force_resolve(&self, page: u64, write: bool, _present: bool) -> Option<()> {
        let outcome = {
            let vmas = self.vmas.read();
            let v = vmas.find(page)?;
            let pte = self.pt.lock().get(page);
            match &v.show {
                Show::Special(_) => return None,
                // A debugger does not write to what others see.
                Show::File(_) if write && v.is_shared() => return None,
                Show::Anon if pte.is_none() => self.new_extent(v, vmas.latest, page),
                Show::Anon => self.own(v, None, page),
                Show::File(f) if write => match pte {
                    Some(p) if p.owner() == Owner::Anon => self.own(v, None, page),
                    _ => self.own(v, Some(f), page),
                },
                Show::File(f) => self.file_page(v, f, page, false, When::Now),
            }
        };
        match outcome {
            Outcome::Done | Outcome::Again => Some(()),
            Outcome::NoMemory => frame::make_room().then_some(()),
            Outcome::Fail(_) => None,
        }
    }
}
