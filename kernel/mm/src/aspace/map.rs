//! mmap(2), munmap(2), mprotect(2), brk(2).

use super::pt::{Owner, Step, rights};
use super::vma::{FileRange, Gone, MIN_ADDR, Show, Vma, VmaSet, default_top};
use super::{Backing, Fixed, Layout, MapRequest, Mm, MmLimits, PAGE, VmFlags};
use crate::{PageCache, frame};
use abi::{Errno, Result};
use core::sync::atomic::Ordering::Relaxed;
use hal::{PAGE_SHIFT, Pfn, Prot, USER_END};

/// Rounds up to pages; `None` if that overflows.
pub(super) fn round_up(len: u64) -> Option<u64> {
    Some(len.checked_add(PAGE - 1)? & !(PAGE - 1))
}

/// The page-aligned range that a call names. Errors: [`Errno::EINVAL`] (alignment), `bad` (beyond the guest's addresses).
pub(super) fn range(addr: u64, len: u64, bad: Errno) -> Result<(u64, u64)> {
    if addr % PAGE != 0 {
        return Err(Errno::EINVAL);
    }
    let len = round_up(len).ok_or(bad)?;
    match addr.checked_add(len) {
        Some(end) if end <= USER_END => Ok((addr, end)),
        _ => Err(bad),
    }
}

impl Mm {
    /// mmap(2). Returns the address.
    pub fn map(&self, req: MapRequest, limits: &MmLimits) -> Result<u64> {
        self.stack_limit.store(limits.stack, Relaxed);
        if req.len == 0 {
            return Err(Errno::EINVAL);
        }
        let len = round_up(req.len)
            .filter(|l| *l <= USER_END)
            .ok_or(Errno::ENOMEM)?;
        if let Backing::File { offset, .. } = &req.backing {
            if offset % PAGE != 0 {
                return Err(Errno::EINVAL);
            }
            offset
                .checked_add(len)
                .filter(|e| *e <= i64::MAX as u64)
                .ok_or(Errno::EOVERFLOW)?;
        }
        if req.fixed != Fixed::No {
            range(req.addr, len, Errno::ENOMEM)?;
            if req.addr < MIN_ADDR {
                return Err(Errno::EPERM);
            }
        }
        let shared = req.flags.contains(VmFlags::SHARED);
        let charged = match &req.backing {
            Backing::Anon => {
                (shared || req.prot.contains(Prot::WRITE))
                    && !req.flags.contains(VmFlags::NORESERVE)
            }
            Backing::File { .. } => {
                !shared && req.prot.contains(Prot::WRITE) && !req.flags.contains(VmFlags::NORESERVE)
            }
        };
        if charged && len >> PAGE_SHIFT > frame::stats().total {
            return Err(Errno::ENOMEM);
        }
        let mut gone = Gone::default();
        let prot = req.prot;
        let ahead = !shared && !prot.is_empty() && matches!(req.backing, Backing::File { .. });
        let written = match &req.backing {
            Backing::File { cache, .. } if req.flags.is_writer() => Some(cache.clone()),
            _ => None,
        };
        let result = self.map_locked(&mut self.vmas.write(), req, len, limits, &mut gone);
        drop(gone);
        let (addr, populate, write) = result?;
        if let Some(cache) = written {
            cache.changed();
        }
        if populate {
            self.populate(addr, addr + len, write);
        } else if ahead {
            self.map_ahead(addr, addr + len, prot);
        }
        Ok(addr)
    }

    fn map_locked(
        &self,
        vmas: &mut VmaSet,
        req: MapRequest,
        len: u64,
        limits: &MmLimits,
        gone: &mut Gone,
    ) -> Result<(u64, bool, bool)> {
        if vmas.count() == 0 {
            vmas.set_top(default_top(limits.stack.min(16 << 30)));
        }
        let addr = match req.fixed {
            Fixed::No => pick(vmas, req.addr, len)?,
            Fixed::Replace => req.addr,
            Fixed::NoReplace => {
                if !vmas.is_free(req.addr, req.addr + len) {
                    return Err(Errno::EEXIST);
                }
                req.addr
            }
        };
        let end = addr + len;
        let mut flags = req.flags;
        if vmas.lock_future {
            flags |= VmFlags::LOCKED;
        }
        let replaced: u64 = match req.fixed {
            Fixed::Replace => vmas
                .overlapping(addr, end)
                .map(|v| (v.end.min(end) - v.start.max(addr)) >> PAGE_SHIFT)
                .sum(),
            _ => 0,
        };
        let data = req.prot.contains(Prot::WRITE)
            && !flags.intersects(VmFlags::SHARED | VmFlags::GROWSDOWN);
        check_limits(vmas, len, replaced, data, limits)?;
        if flags.contains(VmFlags::LOCKED) {
            check_lock(vmas, len, limits, Errno::EAGAIN)?;
        }
        vmas.check_count(addr, end)?;
        if vmas.count() >= super::vma::MAX_VMAS {
            return Err(Errno::ENOMEM);
        }
        let mut name = None;
        let show = match req.backing {
            Backing::Anon if flags.contains(VmFlags::SHARED) => {
                name = Some("/dev/zero (deleted)");
                let cache = PageCache::new_anon(len);
                Show::File(FileRange::new(&self.me, cache, 0, None, flags))
            }
            Backing::Anon => {
                vmas.latest = (addr, end);
                Show::Anon
            }
            Backing::File {
                cache,
                offset,
                owner,
            } => Show::File(FileRange::new(&self.me, cache, offset, owner, flags)),
        };
        if flags.contains(VmFlags::GROWSDOWN) {
            name = Some("[stack]");
        }
        if req.fixed == Fixed::Replace {
            self.remove_locked(vmas, addr, end, gone);
        }
        let mut v = Vma::new(addr, end, req.prot, flags, show);
        v.name = name;
        gone.append(vmas.insert(v));
        let populate = req.populate || flags.contains(VmFlags::LOCKED);
        Ok((addr, populate, req.prot.contains(Prot::WRITE)))
    }

    /// Unmaps a range: VMAs and pages.
    pub(super) fn remove_locked(&self, vmas: &mut VmaSet, start: u64, end: u64, gone: &mut Gone) {
        gone.append(vmas.remove(start, end));
        self.zap(start, end);
    }

    /// Maps ready-made kernel pages (vDSO, vvar) read-only (`prot`), named as in /proc/PID/maps. The frames stay the kernel's.
    pub fn map_special(
        &self,
        addr: u64,
        first: Pfn,
        pages: u64,
        prot: Prot,
        name: &'static str,
    ) -> Result {
        let len = pages.checked_mul(PAGE).ok_or(Errno::EINVAL)?;
        let (start, end) = range(addr, len, Errno::EINVAL)?;
        let prot = prot - Prot::WRITE;
        let mut vmas = self.vmas.write();
        if start == end || !vmas.is_free(start, end) {
            return Err(Errno::EEXIST);
        }
        {
            let mut pt = self.pt.lock();
            let mut ops = self.ops();
            pt.fill(start, pages as usize, |i| {
                let p = first.add(i);
                ops.map(start + i as u64 * PAGE, 1, p, rights(prot), false);
                Some(super::pt::Pte::new(p, rights(prot), Owner::Special, false))
            })?;
        }
        let mut v = Vma::new(
            start,
            end,
            prot,
            VmFlags::SPECIAL | VmFlags::DONTDUMP,
            Show::Special(first),
        );
        v.name = Some(name);
        let gone = vmas.insert(v);
        drop(vmas);
        drop(gone);
        Ok(())
    }

    /// munmap(2).
    pub fn unmap(&self, addr: u64, len: u64) -> Result {
        if len == 0 {
            return Err(Errno::EINVAL);
        }
        let (start, end) = range(addr, len, Errno::EINVAL)?;
        let mut gone = Gone::default();
        {
            let mut vmas = self.vmas.write();
            vmas.check_count(start, end)?;
            self.remove_locked(&mut vmas, start, end, &mut gone);
        }
        drop(gone);
        frame::trim_if_needed();
        Ok(())
    }

    /// mprotect(2).
    pub fn protect(&self, addr: u64, len: u64, prot: Prot) -> Result {
        let (start, end) = range(addr, len, Errno::ENOMEM)?;
        if start == end {
            return Ok(());
        }
        let mut gone = Gone::default();
        let result = {
            let mut vmas = self.vmas.write();
            self.protect_locked(&mut vmas, start, end, prot, &mut gone)
        };
        drop(gone);
        result
    }

    fn protect_locked(
        &self,
        vmas: &mut VmaSet,
        start: u64,
        end: u64,
        prot: Prot,
        gone: &mut Gone,
    ) -> Result {
        vmas.check_count(start, end)?;
        // What comes before the first hole or forbidden VMA is changed, as on Linux.
        let mut at = start;
        let mut result = Ok(());
        for v in vmas.overlapping(start, end) {
            if v.start > at {
                result = Err(Errno::ENOMEM);
                break;
            }
            let denied = prot.contains(Prot::WRITE) && !v.flags.contains(VmFlags::MAYWRITE)
                || prot.contains(Prot::EXEC)
                    && !v.flags.contains(VmFlags::MAYEXEC)
                    && !v.is_special()
                || prot.contains(Prot::WRITE) && v.is_special();
            if denied && v.prot != prot {
                result = Err(Errno::EACCES);
                break;
            }
            at = v.end.min(end);
        }
        if result.is_ok() && at < end {
            result = Err(Errno::ENOMEM);
        }
        if at == start {
            return result;
        }
        let end = at;
        gone.append(vmas.change(start, end, |v| v.prot = prot));
        let prot = rights(prot);
        let mut taken = false;
        let mut from = Some(start);
        while let Some(a) = from {
            let mut n = 0;
            let mut pt = self.pt.lock();
            let mut ops = self.ops();
            from = pt.update(a, end, |a, e| {
                if n >= super::BATCH {
                    return Step::Stop;
                }
                n += 1;
                let old = e.prot();
                let mut new = prot;
                // The first write to a shared frame is to be seen: a copy, or a dirty page of a file.
                let writable = match e.owner() {
                    Owner::Anon => old.contains(Prot::WRITE) || frame::refs(e.pfn()) == 1,
                    Owner::File => old.contains(Prot::WRITE),
                    Owner::Shmem => old.contains(Prot::WRITE),
                    Owner::Special => false,
                };
                if !writable {
                    new -= Prot::WRITE;
                }
                if new == old {
                    return Step::Keep;
                }
                if new.is_empty() {
                    ops.unmap(a, PAGE);
                } else {
                    ops.protect(a, PAGE, new, 0);
                }
                taken |= !new.contains(old);
                Step::Set(e.with_prot(new))
            });
            drop(ops);
            drop(pt);
            crate::page_cache::yield_if_needed();
        }
        if taken {
            self.space.flush();
        }
        result
    }

    /// brk(2): the new or unchanged break.
    pub fn brk(&self, addr: u64, limits: &MmLimits) -> u64 {
        self.stack_limit.store(limits.stack, Relaxed);
        let mut gone = Gone::default();
        let (brk, more) = {
            let mut vmas = self.vmas.write();
            let old = vmas.brk;
            let locked = self.brk_locked(&mut vmas, addr, limits, &mut gone);
            let more = vmas.brk > old;
            (vmas.brk, more.then_some((old, vmas.brk, locked)))
        };
        drop(gone);
        match more {
            // Whoever asks for more is about to use it.
            Some((a, b, locked)) => {
                let a = a.next_multiple_of(PAGE);
                self.populate(a, if locked { b } else { b.min(a + 1) }, true);
            }
            None => frame::trim_if_needed(),
        }
        brk
    }

    /// Whether new pages are to be locked.
    fn brk_locked(&self, vmas: &mut VmaSet, addr: u64, limits: &MmLimits, gone: &mut Gone) -> bool {
        let start = vmas.layout.start_brk;
        let (Some(new), Some(old)) = (round_up(addr), round_up(vmas.brk)) else {
            return false;
        };
        if start == 0 || addr < start || new > USER_END {
            return false;
        }
        let data = vmas.layout.end_data.saturating_sub(vmas.layout.start_data);
        if (addr - start).saturating_add(data) > limits.data {
            return false;
        }
        if new <= old {
            let floor = round_up(start).unwrap_or(start);
            if new < old && new >= floor {
                if vmas.check_count(new, old).is_err() {
                    return false;
                }
                self.remove_locked(vmas, new, old, gone);
            }
            vmas.brk = addr;
            return false;
        }
        let len = new - old;
        // A page stays free above, and the gap of a stack.
        let above = vmas.find_above(old).map_or(USER_END, |v| {
            if v.is_stack() {
                v.start.saturating_sub(super::vma::STACK_GAP)
            } else {
                v.start
            }
        });
        if new.saturating_add(PAGE) > above
            || check_limits(vmas, len, 0, true, limits).is_err()
            || len >> PAGE_SHIFT > frame::stats().total
            || vmas.count() >= super::vma::MAX_VMAS
        {
            return false;
        }
        let mut flags = VmFlags::MAYWRITE | VmFlags::MAYEXEC;
        if vmas.lock_future {
            if check_lock(vmas, len, limits, Errno::EAGAIN).is_err() {
                return false;
            }
            flags |= VmFlags::LOCKED;
        }
        let mut v = Vma::new(old, new, Prot::READ | Prot::WRITE, flags, Show::Anon);
        v.name = Some("[heap]");
        gone.append(vmas.insert(v));
        vmas.brk = addr;
        flags.contains(VmFlags::LOCKED)
    }

    /// What exec noted down.
    pub fn layout(&self) -> Layout {
        self.vmas.read().layout.clone()
    }
    /// Notes down; `start_brk` also starts the heap.
    pub fn set_layout(&self, layout: Layout) {
        let mut vmas = self.vmas.write();
        if layout.start_brk != vmas.layout.start_brk {
            vmas.brk = layout.start_brk;
        }
        vmas.layout = layout;
    }

    /// Brings all pages of a range in, as far as possible; a signal ends it. Takes no lock for long.
    pub(super) fn populate(&self, start: u64, end: u64, write: bool) {
        let access = if write { Prot::WRITE } else { Prot::READ };
        let mut at = start;
        while at < end {
            let there = self.pt.lock().get(at).is_some_and(|e| e.allows(access));
            if !there && (self.is_victim() || self.resolve(at, access).is_err()) {
                return;
            }
            at += PAGE;
            if at % (256 * PAGE) == 0
                && hal::cpu::current_stack()
                    .waiter
                    .is_some_and(|w| w.interrupted())
            {
                return;
            }
            crate::page_cache::yield_if_needed();
        }
    }
}

/// An address for a mapping without a fixed one: the hint if it is free.
pub(super) fn pick(vmas: &mut VmaSet, hint: u64, len: u64) -> Result<u64> {
    if hint != 0 {
        let hint = (hint & !(PAGE - 1)).max(MIN_ADDR);
        if let Some(end) = hint.checked_add(len)
            && end <= USER_END
            && vmas.is_free(hint, end)
        {
            return Ok(hint);
        }
    }
    vmas.find_gap(len)
}

/// RLIMIT_AS and RLIMIT_DATA for `len` more bytes, of which `replaced` pages take the place of others.
pub(super) fn check_limits(
    vmas: &VmaSet,
    len: u64,
    replaced: u64,
    data: bool,
    limits: &MmLimits,
) -> Result {
    let more = (len >> PAGE_SHIFT).saturating_sub(replaced);
    if vmas.total + more > limits.address_space >> PAGE_SHIFT
        || data && vmas.data + more > limits.data >> PAGE_SHIFT
    {
        return Err(Errno::ENOMEM);
    }
    Ok(())
}

/// RLIMIT_MEMLOCK for `len` more bytes.
pub(super) fn check_lock(vmas: &VmaSet, len: u64, limits: &MmLimits, e: Errno) -> Result {
    if vmas.locked + (len >> PAGE_SHIFT) > limits.memlock >> PAGE_SHIFT {
        return Err(e);
    }
    Ok(())
}
