//! madvise(2), mlock(2), mincore(2), msync(2).

use super::map::{check_lock, range, round_up};
use super::pt::Owner;
use super::vma::{Gone, Show, Vma};
use super::{FaultError, Mm, MmLimits, PAGE, VmFlags};
use crate::PageCache;
use crate::frame;
use crate::page_cache::fill::Ahead;
use crate::page_cache::pages::CHUNK;
use crate::page_cache::yield_if_needed;
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use alloc::vec::Vec;
use hal::{PAGE_SHIFT, Prot, USER_END};

/// Most pages that one [`Mm::mincore`] reports on.
const MINCORE_MAX: u64 = 1 << 18;
/// Most pages that MADV_WILLNEED reads.
const WILLNEED_MAX: u64 = 4096;

const MS_ASYNC: i32 = 1;
const MS_INVALIDATE: i32 = 2;
const MS_SYNC: i32 = 4;
const MCL_CURRENT: i32 = 1;
const MCL_FUTURE: i32 = 2;
const MCL_ONFAULT: i32 = 4;

/// madvise(2), by what it does.
enum Advice {
    /// Changes the VMA.
    Mark(fn(&mut Vma)),
    /// Nothing to do but to check the range.
    Hint,
    WillNeed,
    /// `locked`: even if the range is locked.
    DontNeed {
        locked: bool,
    },
    Free,
    Remove,
    Populate(Prot),
}

fn advice(code: i32) -> Option<Advice> {
    Some(match u32::try_from(code).ok()? {
        raw::MADV_NORMAL => Advice::Mark(|v| v.pattern = 0),
        raw::MADV_RANDOM => Advice::Mark(|v| v.pattern = -1),
        raw::MADV_SEQUENTIAL => Advice::Mark(|v| v.pattern = 1),
        raw::MADV_WILLNEED => Advice::WillNeed,
        raw::MADV_DONTNEED => Advice::DontNeed { locked: false },
        raw::MADV_DONTNEED_LOCKED => Advice::DontNeed { locked: true },
        raw::MADV_FREE => Advice::Free,
        raw::MADV_REMOVE => Advice::Remove,
        raw::MADV_DONTFORK => Advice::Mark(|v| v.flags |= VmFlags::DONTFORK),
        raw::MADV_DOFORK => Advice::Mark(|v| v.flags -= VmFlags::DONTFORK),
        raw::MADV_DONTDUMP => Advice::Mark(|v| v.flags |= VmFlags::DONTDUMP),
        raw::MADV_DODUMP => Advice::Mark(|v| v.flags -= VmFlags::DONTDUMP),
        raw::MADV_WIPEONFORK => Advice::Mark(|v| v.flags |= VmFlags::WIPEONFORK),
        raw::MADV_KEEPONFORK => Advice::Mark(|v| v.flags -= VmFlags::WIPEONFORK),
        // The host decides on the size of its pages, and there is no swap.
        raw::MADV_HUGEPAGE | raw::MADV_NOHUGEPAGE | raw::MADV_COLD | raw::MADV_PAGEOUT => {
            Advice::Hint
        }
        raw::MADV_POPULATE_READ => Advice::Populate(Prot::READ),
        raw::MADV_POPULATE_WRITE => Advice::Populate(Prot::WRITE),
        _ => return None,
    })
}

impl Mm {
    /// madvise(2).
    pub fn advise(&self, addr: u64, len: u64, code: i32) -> Result {
        let what = advice(code).ok_or(Errno::EINVAL)?;
        if addr % PAGE != 0 {
            return Err(Errno::EINVAL);
        }
        let len = round_up(len).ok_or(Errno::EINVAL)?;
        let end = addr.checked_add(len).ok_or(Errno::EINVAL)?;
        if len == 0 {
            return Ok(());
        }
        if end > USER_END {
            return Err(Errno::ENOMEM);
        }
        match what {
            Advice::Mark(f) => self.mark(addr, end, code as u32, f),
            Advice::Populate(access) => self.populate_checked(addr, end, access),
            Advice::Remove => self.remove_pages(addr, end),
            Advice::WillNeed => self.will_need(addr, end),
            Advice::Hint => self.check_mapped(addr, end),
            Advice::Free => self.drop_range(addr, end, |v| {
                !v.flags.contains(VmFlags::LOCKED) && matches!(v.show, Show::Anon)
            }),
            Advice::DontNeed { locked } => self.drop_range(addr, end, |v| {
                (locked || !v.flags.contains(VmFlags::LOCKED)) && !v.is_special()
            }),
        }
    }

    fn check_mapped(&self, start: u64, end: u64) -> Result {
        if self.vmas.read().covers(start, end) {
            Ok(())
        } else {
            Err(Errno::ENOMEM)
        }
    }

    fn mark(&self, start: u64, end: u64, code: u32, f: fn(&mut Vma)) -> Result {
        let mut gone = Gone::default();
        let result = {
            let mut vmas = self.vmas.write();
            let bad = vmas.overlapping(start, end).any(|v| match code {
                raw::MADV_WIPEONFORK => v.is_shared() || !matches!(v.show, Show::Anon),
                raw::MADV_DOFORK | raw::MADV_DODUMP => v.is_special(),
                _ => false,
            });
            if bad {
                Err(Errno::EINVAL)
            } else {
                vmas.check_count(start, end)?;
                gone = vmas.change(start, end, f);
                if vmas.covers(start, end) {
                    Ok(())
                } else {
                    Err(Errno::ENOMEM)
                }
            }
        };
        drop(gone);
        result
    }

    /// Takes the pages of all VMAs of the range out; up to the first that is not `allowed`: [`Errno::EINVAL`].
    fn drop_range(&self, start: u64, end: u64, allowed: impl Fn(&Vma) -> bool) -> Result {
        let result = {
            let vmas = self.vmas.read();
            let mut result = if vmas.covers(start, end) {
                Ok(())
            } else {
                Err(Errno::ENOMEM)
            };
            for v in vmas.overlapping(start, end) {
                if !allowed(v) {
                    result = Err(Errno::EINVAL);
                    break;
                }
                self.zap(v.start.max(start), v.end.min(end));
            }
            result
        };
        frame::trim_if_needed();
        result
    }

    /// Ranges of files that `[start, end)` shows: (cache, first byte, length).
    fn file_ranges(
        &self,
        start: u64,
        end: u64,
        mut check: impl FnMut(&Vma) -> Result,
    ) -> Result<Vec<(Arc<PageCache>, u64, u64)>> {
        let vmas = self.vmas.read();
        let mut out = Vec::new();
        for v in vmas.overlapping(start, end) {
            check(v)?;
            if let Some(f) = v.show.file() {
                let (a, b) = (v.start.max(start), v.end.min(end));
                out.push((f.cache.clone(), f.offset + (a - v.start), b - a));
            }
        }
        Ok(out)
    }

    fn remove_pages(&self, start: u64, end: u64) -> Result {
        let ranges = self.file_ranges(start, end, |v| {
            if v.flags.contains(VmFlags::LOCKED) || v.show.file().is_none() {
                Err(Errno::EINVAL)
            } else if !v.is_shared() || !v.flags.contains(VmFlags::MAYWRITE) {
                Err(Errno::EACCES)
            } else {
                Ok(())
            }
        })?;
        for (cache, pos, len) in ranges {
            cache.punch_hole(pos, len)?;
        }
        self.check_mapped(start, end)
    }

    fn will_need(&self, start: u64, end: u64) -> Result {
        let ranges = self.file_ranges(start, end, |_| Ok(()))?;
        let mut left = WILLNEED_MAX;
        for (cache, pos, len) in ranges {
            if cache.is_memory() {
                continue;
            }
            let mut i = pos >> PAGE_SHIFT;
            let end = (i + (len >> PAGE_SHIFT)).min(cache.size_pages());
            while i < end && left > 0 && !frame::is_tight() {
                // An error is for whoever needs the page.
                let _ = cache.page(i, Ahead::Chunk, false);
                let next = (i / CHUNK + 1) * CHUNK;
                left = left.saturating_sub(next - i);
                i = next;
                yield_if_needed();
            }
        }
        self.check_mapped(start, end)
    }

    fn populate_checked(&self, start: u64, end: u64, access: Prot) -> Result {
        let mut at = start;
        while at < end {
            let there = self.pt.lock().get(at).is_some_and(|e| e.allows(access));
            if !there {
                self.resolve(at, access).map_err(|e| match e {
                    FaultError::Segv(1) | FaultError::Oom => Errno::ENOMEM,
                    FaultError::Segv(_) => Errno::EINVAL,
                    FaultError::Bus => Errno::EFAULT,
                })?;
            }
            at += PAGE;
            yield_if_needed();
        }
        Ok(())
    }

    /// msync(2), `flags` as there.
    pub fn msync(&self, addr: u64, len: u64, flags: i32) -> Result {
        if flags & !(MS_ASYNC | MS_INVALIDATE | MS_SYNC) != 0
            || flags & MS_ASYNC != 0 && flags & MS_SYNC != 0
        {
            return Err(Errno::EINVAL);
        }
        let (start, end) = range(addr, len, Errno::ENOMEM)?;
        let ranges = self.file_ranges(start, end, |v| {
            if flags & MS_INVALIDATE != 0 && v.flags.contains(VmFlags::LOCKED) {
                Err(Errno::EBUSY)
            } else {
                Ok(())
            }
        })?;
        if flags & MS_SYNC != 0 {
            for (cache, pos, len) in ranges {
                let first = pos >> PAGE_SHIFT;
                cache.sync_range(first, first + (len >> PAGE_SHIFT))?;
            }
        }
        if start == end {
            return Ok(());
        }
        self.check_mapped(start, end)
    }

    /// mincore(2): one byte a page. The caller asks for at most 2^18 pages at once ([`Errno::ENOMEM`] beyond).
    pub fn mincore(&self, addr: u64, len: u64) -> Result<Vec<u8>> {
        let (start, end) = range(addr, len, Errno::ENOMEM)?;
        let n = (end - start) >> PAGE_SHIFT;
        let vmas = self.vmas.read();
        if n > MINCORE_MAX || start < end && !vmas.covers(start, end) {
            return Err(Errno::ENOMEM);
        }
        let mut out = crate::io::try_zeroed(n as usize)?;
        for v in vmas.overlapping(start, end) {
            let (a, b) = (v.start.max(start), v.end.min(end));
            if let Some(f) = v.show.file() {
                let first = v.index(f, a);
                let base = ((a - start) >> PAGE_SHIFT) as usize;
                f.cache
                    .lock_pages()
                    .for_present(first, first + ((b - a) >> PAGE_SHIFT), |i, _| {
                        out[base + (i - first) as usize] = 1;
                    });
            }
            self.pt
                .lock()
                .each(a, b, |at, _| out[((at - start) >> PAGE_SHIFT) as usize] = 1);
        }
        Ok(out)
    }

    /// mlock(2), munlock(2).
    pub fn lock(&self, addr: u64, len: u64, lock: bool, limits: &MmLimits) -> Result {
        let start = addr & !(PAGE - 1);
        let len = len
            .checked_add(addr - start)
            .and_then(round_up)
            .ok_or(Errno::EINVAL)?;
        let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
        if lock && limits.memlock == 0 {
            return Err(Errno::EPERM);
        }
        if len == 0 {
            return Ok(());
        }
        if end > USER_END {
            return Err(Errno::ENOMEM);
        }
        let mut gone = Gone::default();
        let covered = {
            let mut vmas = self.vmas.write();
            if lock {
                let already: u64 = vmas
                    .overlapping(start, end)
                    .filter(|v| v.flags.contains(VmFlags::LOCKED))
                    .map(|v| v.end.min(end) - v.start.max(start))
                    .sum();
                check_lock(&vmas, len - already, limits, Errno::ENOMEM)?;
            }
            vmas.check_count(start, end)?;
            gone.append(vmas.change(start, end, |v| {
                if !v.is_special() {
                    v.flags.set(VmFlags::LOCKED, lock);
                }
            }));
            vmas.covers(start, end)
        };
        drop(gone);
        if !covered {
            return Err(Errno::ENOMEM);
        }
        if lock {
            self.populate_locked(start, end);
        }
        Ok(())
    }

    /// Brings in what is locked, writable private pages as our own.
    fn populate_locked(&self, start: u64, end: u64) {
        // One at a time, looked for anew: they may change meanwhile, and be very many.
        let mut at = start;
        while at < end {
            let next = {
                let vmas = self.vmas.read();
                let mut locked = (vmas.overlapping(at, end))
                    .filter(|v| !v.prot.is_empty() && v.flags.contains(VmFlags::LOCKED));
                locked.next().map(|v| {
                    let write = v.prot.contains(Prot::WRITE) && !v.is_shared();
                    (v.start.max(at), v.end.min(end), write)
                })
            };
            let Some((a, b, write)) = next else { return };
            self.populate(a, b, write);
            at = b;
        }
    }

    /// mlockall(2) flags; 0 = munlockall(2).
    pub fn lock_all(&self, flags: i32, limits: &MmLimits) -> Result {
        if flags & !(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0 || flags == MCL_ONFAULT {
            return Err(Errno::EINVAL);
        }
        if flags != 0 && limits.memlock == 0 {
            return Err(Errno::EPERM);
        }
        let mut gone = Gone::default();
        {
            let mut vmas = self.vmas.write();
            if flags & MCL_CURRENT != 0 && vmas.total > limits.memlock >> PAGE_SHIFT {
                return Err(Errno::ENOMEM);
            }
            vmas.lock_future = flags & MCL_FUTURE != 0;
            if flags == 0 || flags & MCL_CURRENT != 0 {
                gone.append(vmas.change(0, USER_END, |v| {
                    if !v.is_special() {
                        v.flags.set(VmFlags::LOCKED, flags != 0);
                    }
                }));
            }
        }
        drop(gone);
        if flags & MCL_CURRENT != 0 && flags & MCL_ONFAULT == 0 {
            self.populate_locked(0, USER_END);
        }
        Ok(())
    }

    /// A page for a debugger, whatever its rights: the frame, made private if it is to be written. `None`: nothing is mapped.
    pub(super) fn force_page(&self, addr: u64, write: bool) -> Option<frame::Pinned> {
        let page = addr & !(PAGE - 1);
        for _ in 0..16 {
            let present = {
                let pt = self.pt.lock();
                let e = pt.get(page);
                if let Some(e) = e
                    && (!write || e.owner() == Owner::Anon && frame::refs(e.pfn()) == 1)
                    && e.owner() != Owner::Special
                {
                    frame::get(e.pfn());
                    return Some(frame::Pinned::from_ref(e.pfn()));
                }
                e.is_some()
            };
            self.force_resolve(page, write, present)?;
        }
        None
    }

    /// The page at `addr`, this space's own, has been written regardless of its rights: a copy of the engine's is gone when this returns.
    pub(super) fn code_changed(&self, addr: u64) {
        let page = addr & !(PAGE - 1);
        {
            let pt = self.pt.lock();
            if let Some(e) = pt.get(page) {
                let mut ops = self.ops();
                ops.unmap_sparse(page, PAGE);
                ops.map(page, 1, e.pfn(), e.prot(), false);
            }
        }
        self.space.flush();
    }
}
