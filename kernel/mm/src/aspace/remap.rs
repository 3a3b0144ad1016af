//! mremap(2).

use super::map::{check_limits, check_lock, pick, range, round_up};
use super::pt::Step;
use super::vma::{Gone, MIN_ADDR, Show, VmaSet};
use super::{Mm, MmLimits, PAGE, VmFlags};
use crate::frame;
use abi::{Errno, Result};
use alloc::vec::Vec;
use hal::{PAGE_SHIFT, Prot, USER_END};

const MAYMOVE: u32 = 1;
const FIXED: u32 = 2;
const DONTUNMAP: u32 = 4;
/// Pages moved with the lock held once.
const BATCH: usize = 512;

struct Move {
    old: u64,
    old_len: u64,
    new_len: u64,
    /// Where to, if fixed.
    to: Option<u64>,
    keep_old: bool,
}

impl Mm {
    /// mremap(2); `flags` and `new_addr` as there.
    pub fn remap(
        &self,
        old: u64,
        old_len: u64,
        new_len: u64,
        flags: u32,
        new_addr: u64,
        limits: &MmLimits,
    ) -> Result<u64> {
        let fixed = flags & FIXED != 0;
        let keep_old = flags & DONTUNMAP != 0;
        if flags & !(MAYMOVE | FIXED | DONTUNMAP) != 0
            || (fixed || keep_old) && flags & MAYMOVE == 0
            || old % PAGE != 0
            || keep_old && old_len != new_len
        {
            return Err(Errno::EINVAL);
        }
        let old_len = round_up(old_len).ok_or(Errno::EINVAL)?;
        let new_len = round_up(new_len)
            .filter(|l| *l > 0 && *l <= USER_END)
            .ok_or(Errno::EINVAL)?;
        let m = Move {
            old,
            old_len,
            new_len,
            to: (fixed || keep_old && new_addr != 0).then_some(new_addr),
            keep_old,
        };
        if let Some(to) = m.to.filter(|_| fixed) {
            let (a, b) = range(to, new_len, Errno::EINVAL)?;
            if a < MIN_ADDR {
                return Err(Errno::EPERM);
            }
            if old.checked_add(old_len).is_none_or(|e| a < e && old < b) {
                return Err(Errno::EINVAL);
            }
        }
        let mut gone = Gone::default();
        let result = {
            let mut vmas = self.vmas.write();
            self.remap_locked(&mut vmas, &m, flags, limits, &mut gone)
        };
        drop(gone);
        frame::trim_if_needed();
        let (addr, populate) = result?;
        if populate {
            self.populate(addr, addr + new_len, true);
        }
        Ok(addr)
    }

    /// The new address, and whether its pages are locked.
    fn remap_locked(
        &self,
        vmas: &mut VmaSet,
        m: &Move,
        flags: u32,
        limits: &MmLimits,
        gone: &mut Gone,
    ) -> Result<(u64, bool)> {
        let fixed = flags & FIXED != 0;
        let v = vmas.find(m.old).ok_or(Errno::EFAULT)?;
        let locked = v.flags.contains(VmFlags::LOCKED);
        let (v_end, v_start) = (v.end, v.start);
        if v.is_special() {
            return Err(Errno::EINVAL);
        }
        if m.old_len == 0 && !v.is_shared() {
            return Err(Errno::EINVAL);
        }
        let old_end = m.old.checked_add(m.old_len).ok_or(Errno::EINVAL)?;
        if m.new_len <= m.old_len && !fixed && !m.keep_old {
            // Shrinking may cross VMAs.
            if old_end > USER_END {
                return Err(Errno::EINVAL);
            }
            if m.new_len < m.old_len {
                vmas.check_count(m.old + m.new_len, old_end)?;
                self.remove_locked(vmas, m.old + m.new_len, old_end, gone);
            }
            return Ok((m.old, false));
        }
        if old_end > v_end {
            return Err(Errno::EFAULT);
        }
        let more = m.new_len.saturating_sub(m.old_len);
        if let Some(f) = v.show.file() {
            f.offset
                .checked_add(m.old - v_start)
                .and_then(|o| o.checked_add(m.new_len))
                .filter(|e| *e <= i64::MAX as u64)
                .ok_or(Errno::EINVAL)?;
        }
        let data = v.is_data();
        if locked {
            check_lock(vmas, more, limits, Errno::EAGAIN)?;
        }
        let more_vm = if m.keep_old { m.new_len } else { more };
        check_limits(vmas, more_vm, 0, data, limits)?;
        if data
            && !v.flags.contains(VmFlags::NORESERVE)
            && more >> PAGE_SHIFT > frame::stats().total
        {
            return Err(Errno::ENOMEM);
        }
        let new_end = m.old.checked_add(m.new_len).filter(|e| *e <= USER_END);
        if !fixed
            && !m.keep_old
            && m.old_len > 0
            && old_end == v_end
            && let Some(new_end) = new_end
            && vmas.is_free(old_end, new_end)
        {
            self.extend(vmas, m.old, old_end, new_end, gone);
            return Ok((m.old, locked));
        }
        if flags & MAYMOVE == 0 {
            return Err(Errno::ENOMEM);
        }
        if vmas.count() + 4 > super::vma::MAX_VMAS {
            return Err(Errno::ENOMEM);
        }
        let to = if fixed {
            m.to.unwrap_or(0)
        } else {
            pick(vmas, m.to.unwrap_or(0), m.new_len)?
        };
        if fixed {
            self.remove_locked(vmas, to, to + m.new_len, gone);
            // A longer old range: its tail goes.
            if m.old_len > m.new_len {
                self.remove_locked(vmas, m.old + m.new_len, old_end, gone);
            }
        }
        self.prepare_move(m, to)?;
        let kept = m.old_len.min(m.new_len);
        let Some(v) = vmas.find(m.old) else {
            return Err(Errno::EFAULT);
        };
        let mut part = v.part(m.old, v.end);
        part.start = to;
        part.end = to + m.new_len;
        if m.keep_old {
            // The old one stays, empty and unlocked.
            gone.append(vmas.change(m.old, old_end, |v| v.flags -= VmFlags::LOCKED));
        } else if m.old_len > 0 {
            gone.append(vmas.remove(m.old, m.old + kept));
        }
        gone.append(vmas.insert(part));
        if m.old_len > 0 {
            self.move_pages(m.old, to, kept);
        }
        Ok((to, locked))
    }

    /// Lengthens the VMA that ends at `old_end`.
    fn extend(&self, vmas: &mut VmaSet, addr: u64, old_end: u64, new_end: u64, gone: &mut Gone) {
        let Some(v) = vmas.find(addr) else { return };
        let more = v.part(old_end, new_end);
        if let Show::File(f) = &more.show
            && f.cache.is_shared_anon()
        {
            f.cache.grow_anon(f.offset + (new_end - old_end));
        }
        gone.append(vmas.insert(more));
    }

    /// Makes the tables that the pages of the old range will need at the new place.
    fn prepare_move(&self, m: &Move, to: u64) -> Result {
        let mut need: Vec<u64> = Vec::new();
        let end = m.old + m.old_len.min(m.new_len);
        let mut pt = self.pt.lock();
        pt.each(m.old, end, |a, _| {
            let leaf = (to + (a - m.old)) & !(super::pt::LEAF_SPAN - 1);
            if need.last() != Some(&leaf) {
                need.push(leaf);
            }
        });
        for a in need {
            pt.prepare(a.max(to))?;
        }
        Ok(())
    }

    /// Moves the page table entries of `[from, from + len)` to `to`. The tables are there.
    fn move_pages(&self, from: u64, to: u64, len: u64) {
        let mut at = Some(from);
        let mut eager = 64;
        while let Some(a) = at {
            let mut batch: Vec<(u64, super::pt::Pte)> = Vec::new();
            let mut pt = self.pt.lock();
            let mut ops = self.ops();
            at = pt.update(a, from + len, |a, e| {
                if batch.len() == BATCH {
                    return Step::Stop;
                }
                batch.push((a, e));
                ops.unmap_sparse(a, PAGE);
                Step::Keep
            });
            // First there, then away: the tables made ahead do not become empty in between.
            for (a, e) in &batch {
                let new = to + (a - from);
                if pt.set(new, *e).is_err() {
                    debug_assert!(false, "page table vanished");
                    continue;
                }
                let prot: Prot = e.prot();
                if eager > 0 && !prot.is_empty() {
                    let before = ops.count;
                    ops.map(new, 1, e.pfn(), prot, false);
                    eager -= (ops.count - before).min(eager);
                }
            }
            if let (Some((first, _)), Some((last, _))) = (batch.first(), batch.last()) {
                pt.update(*first, *last + PAGE, |_, _| Step::Clear);
            }
        }
        self.space.flush();
    }
}
