//! What a user process has mapped below `USER_END`, as the kernel process sees
//! it: the host has no call that changes the rights of existing mappings only,
//! and the number of mappings is limited.

use crate::sysvec::SysVec;
use hal::{PAGE_SHIFT, Pfn, Prot};

/// One mapping. Neighbours that the host would merge are one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) pfn: u32,
    pub(crate) prot: Prot,
}

impl Entry {
    fn pfn_at(&self, addr: u64) -> u32 {
        self.pfn + ((addr - self.start) >> PAGE_SHIFT) as u32
    }
    /// Whether `next` continues this entry.
    fn joins(&self, next: &Entry) -> bool {
        self.end == next.start && self.prot == next.prot && self.pfn_at(self.end) == next.pfn
    }
}

/// All mappings, by address.
pub(crate) struct Tlb {
    entries: SysVec<Entry>,
}

impl Tlb {
    pub(crate) const fn new() -> Tlb {
        Tlb {
            entries: SysVec::new(),
        }
    }

    /// Number of mappings.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Frame and rights of the page at `addr`.
    pub(crate) fn at(&self, addr: u64) -> Option<(Pfn, Prot)> {
        let e = self.entries.get(self.find(addr))?;
        (e.start <= addr).then(|| (Pfn(e.pfn_at(addr)), e.prot))
    }

    /// Whether nothing is mapped from `start` to `end`.
    pub(crate) fn is_free(&self, start: u64, end: u64) -> bool {
        let next = self.entries.get(self.find(start));
        next.is_none_or(|e| e.start >= end)
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    /// First entry that ends behind `addr`.
    fn find(&self, addr: u64) -> usize {
        self.entries.partition_point(|e| e.end <= addr)
    }

    /// Makes `addr` a border. Returns the index of the first entry from there on.
    fn split(&mut self, addr: u64) -> usize {
        let i = self.find(addr);
        if let Some(e) = self.entries.get_mut(i)
            && e.start < addr
        {
            let tail = Entry {
                start: addr,
                pfn: e.pfn_at(addr),
                ..*e
            };
            e.end = addr;
            self.entries.insert(i + 1, tail);
            return i + 1;
        }
        i
    }

    /// Joins entries `i - 1` and `i` if they fit.
    fn join(&mut self, i: usize) {
        if i > 0 && i < self.entries.len() && self.entries[i - 1].joins(&self.entries[i]) {
            self.entries[i - 1].end = self.entries[i].end;
            self.entries.remove_range(i, i + 1);
        }
    }

    /// Notes a mapping. Returns whether anything changes.
    pub(crate) fn map(&mut self, start: u64, end: u64, pfn: Pfn, prot: Prot) -> bool {
        if let Some(e) = self.entries.get(self.find(start)) {
            let inside = e.start <= start && end <= e.end;
            if inside && e.prot == prot && e.pfn_at(start) == pfn.0 {
                return false;
            }
        }
        self.unmap(start, end);
        let i = self.find(start);
        let pfn = pfn.0;
        self.entries.insert(
            i,
            Entry {
                start,
                end,
                pfn,
                prot,
            },
        );
        self.join(i + 1);
        self.join(i);
        true
    }

    /// Notes a removal. Returns whether there was anything.
    pub(crate) fn unmap(&mut self, start: u64, end: u64) -> bool {
        let at = self.find(start);
        if self.entries.get(at).is_none_or(|e| e.start >= end) {
            return false;
        }
        let from = self.split(start);
        let to = self.split(end);
        self.entries.remove_range(from, to);
        true
    }

    /// Notes a change of rights; `changed` is called with each stretch without
    /// holes whose rights change.
    pub(crate) fn protect(
        &mut self,
        start: u64,
        end: u64,
        prot: Prot,
        mut changed: impl FnMut(u64, u64),
    ) {
        let at = self.find(start);
        if self.entries.get(at).is_none_or(|e| e.start >= end) {
            return;
        }
        let from = self.split(start);
        let to = self.split(end);
        let mut run: Option<(u64, u64)> = None;
        for e in &mut self.entries[from..to] {
            if e.prot == prot {
                continue;
            }
            e.prot = prot;
            run = match run {
                Some((s, t)) if t == e.start => Some((s, e.end)),
                old => {
                    if let Some((s, t)) = old {
                        changed(s, t);
                    }
                    Some((e.start, e.end))
                }
            };
        }
        if let Some((s, t)) = run {
            changed(s, t);
        }
        for i in (from..=to).rev() {
            self.join(i);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const R: Prot = Prot::READ;
    const RW: Prot = Prot::READ.union(Prot::WRITE);

    fn list(t: &Tlb) -> Vec<(u64, u64, u32, Prot)> {
        t.entries
            .iter()
            .map(|e| (e.start >> 12, e.end >> 12, e.pfn, e.prot))
            .collect()
    }
    fn map(t: &mut Tlb, a: u64, b: u64, pfn: u32, p: Prot) -> bool {
        t.map(a << 12, b << 12, Pfn(pfn), p)
    }

    #[test]
    fn neighbours_join_and_split() {
        let mut t = Tlb::new();
        assert!(map(&mut t, 10, 12, 100, RW));
        assert!(map(&mut t, 14, 16, 104, RW));
        assert!(map(&mut t, 12, 14, 102, RW));
        assert_eq!(list(&t), [(10, 16, 100, RW)]);
        assert!(!map(&mut t, 11, 13, 101, RW));
        assert!(map(&mut t, 12, 13, 500, RW));
        assert_eq!(
            list(&t),
            [(10, 12, 100, RW), (12, 13, 500, RW), (13, 16, 103, RW)]
        );
        assert!(t.unmap(11 << 12, 15 << 12));
        assert_eq!(list(&t), [(10, 11, 100, RW), (15, 16, 105, RW)]);
        assert!(!t.unmap(11 << 12, 15 << 12));
        assert!(t.unmap(0, 1 << 40));
        assert_eq!(t.len(), 0);
    }

    #[test]
    fn protect_skips_holes_and_what_has_the_rights() {
        let mut t = Tlb::new();
        map(&mut t, 0, 4, 0, RW);
        map(&mut t, 6, 8, 6, RW);
        map(&mut t, 8, 10, 50, R);
        map(&mut t, 10, 12, 70, RW);
        let mut runs = Vec::new();
        t.protect(1 << 12, 11 << 12, R, |s, e| runs.push((s >> 12, e >> 12)));
        assert_eq!(runs, [(1, 4), (6, 8), (10, 11)]);
        assert_eq!(
            list(&t),
            [
                (0, 1, 0, RW),
                (1, 4, 1, R),
                (6, 8, 6, R),
                (8, 10, 50, R),
                (10, 11, 70, R),
                (11, 12, 71, RW)
            ]
        );
        runs.clear();
        t.protect(0, 12 << 12, RW, |s, e| runs.push((s >> 12, e >> 12)));
        assert_eq!(runs, [(1, 4), (6, 11)]);
        assert_eq!(
            list(&t),
            [
                (0, 4, 0, RW),
                (6, 8, 6, RW),
                (8, 10, 50, RW),
                (10, 12, 70, RW)
            ]
        );
    }
}
