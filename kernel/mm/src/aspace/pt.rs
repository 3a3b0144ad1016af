//! The page table of an address space.
//!
//! Four levels of 512 words, like the hardware's, but ours: no hardware walks
//! it. It is the truth about which frame is where with which rights; the
//! host's mappings only follow it.

use crate::frame::{alloc_table, desc, free_table};
use abi::{Errno, Result};
use core::sync::atomic::Ordering::Relaxed;
use hal::{PAGE_SHIFT, PAGE_SIZE, Pfn, Prot, USER_END};

const PAGE: u64 = PAGE_SIZE as u64;
/// Bytes that one lowest table covers.
pub(super) const LEAF_SPAN: u64 = 512 * PAGE;

/// A page table entry: what is mapped at one page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pte(u64);

/// Whose a mapped frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    /// Private memory of address spaces.
    Anon,
    /// A page of a file behind a source.
    File,
    /// A page of a file in memory.
    Shmem,
    /// The kernel's; not counted.
    Special,
}

impl Pte {
    const PRESENT: u64 = 1 << 3;
    const OWNER_SHIFT: u64 = 4;
    const DIRTY: u64 = 1 << 6;

    /// Bits 0–2 are the rights that the guest has now; see [`rights`].
    pub(crate) fn new(pfn: Pfn, prot: Prot, owner: Owner, dirty: bool) -> Pte {
        let d = if dirty { Self::DIRTY } else { 0 };
        Pte(prot.bits() as u64
            | Self::PRESENT
            | (owner as u64) << Self::OWNER_SHIFT
            | d
            | (pfn.0 as u64) << 12)
    }
    pub(crate) fn pfn(self) -> Pfn {
        Pfn((self.0 >> 12) as u32)
    }
    pub(crate) fn prot(self) -> Prot {
        Prot::from_bits_truncate(self.0 as u32 & 7)
    }
    pub(crate) fn owner(self) -> Owner {
        match self.0 >> Self::OWNER_SHIFT & 3 {
            0 => Owner::Anon,
            1 => Owner::File,
            2 => Owner::Shmem,
            _ => Owner::Special,
        }
    }
    /// Was writable at some time since it was cleaned.
    pub(crate) fn is_dirty(self) -> bool {
        self.0 & Self::DIRTY != 0
    }
    pub(crate) fn with_prot(self, prot: Prot) -> Pte {
        let d = if prot.contains(Prot::WRITE) {
            Self::DIRTY
        } else {
            0
        };
        Pte(self.0 & !7 | prot.bits() as u64 | d)
    }
    pub(crate) fn cleaned(self) -> Pte {
        Pte(self.0 & !Self::DIRTY)
    }
    pub(crate) fn allows(self, access: Prot) -> bool {
        self.prot().contains(access)
    }
}

/// Rights as the CPU gives them: whatever is accessible is readable.
pub(crate) fn rights(prot: Prot) -> Prot {
    if prot.is_empty() {
        prot
    } else {
        prot | Prot::READ
    }
}

/// The tables. Methods that change need the space's lock.
pub(crate) struct PageTable {
    /// Top table, 0 = none.
    root: u32,
    /// Tables in use.
    tables: u64,
}

fn slot(table: u32, i: usize) -> *mut u64 {
    debug_assert!(i < 512);
    // SAFETY: the table is a frame of 512 words.
    unsafe { Pfn(table).as_ptr().cast::<u64>().add(i) }
}

fn load(table: u32, i: usize) -> u64 {
    // SAFETY: a word of a table, read under the space's lock.
    unsafe { slot(table, i).read() }
}

/// Stores a word and keeps the number of used ones.
fn store(table: u32, i: usize, v: u64) {
    let old = load(table, i);
    // SAFETY: a word of a table, written under the space's lock.
    unsafe { slot(table, i).write(v) };
    if (old == 0) != (v == 0) {
        let used = &desc(table).data;
        let n = used.load(Relaxed);
        used.store(if v == 0 { n - 1 } else { n + 1 }, Relaxed);
    }
}

fn used(table: u32) -> u64 {
    desc(table).data.load(Relaxed)
}

fn index(addr: u64, level: u32) -> usize {
    (addr >> (PAGE_SHIFT + 9 * level)) as usize & 511
}

impl PageTable {
    pub(crate) const fn new() -> PageTable {
        PageTable { root: 0, tables: 0 }
    }
    pub(crate) fn tables(&self) -> u64 {
        self.tables
    }

    /// The lowest table for `addr`.
    fn leaf(&self, addr: u64) -> Option<u32> {
        let mut t = self.root;
        if t == 0 || addr >= USER_END {
            return None;
        }
        for level in (1..=3).rev() {
            t = load(t, index(addr, level)) as u32;
            if t == 0 {
                return None;
            }
        }
        Some(t)
    }

    fn leaf_or_new(&mut self, addr: u64) -> Result<u32> {
        if let Some(t) = self.leaf(addr) {
            return Ok(t);
        }
        debug_assert!(addr < USER_END);
        if self.root == 0 {
            self.root = alloc_table().ok_or(Errno::ENOMEM)?.0;
            self.tables += 1;
        }
        let mut t = self.root;
        for level in (1..=3).rev() {
            let i = index(addr, level);
            let mut next = load(t, i) as u32;
            if next == 0 {
                next = alloc_table().ok_or(Errno::ENOMEM)?.0;
                self.tables += 1;
                store(t, i, next as u64);
            }
            t = next;
        }
        Ok(t)
    }

    /// The entry for `addr`.
    pub(crate) fn get(&self, addr: u64) -> Option<Pte> {
        let v = load(self.leaf(addr)?, index(addr, 0));
        (v != 0).then_some(Pte(v))
    }

    /// Sets an entry. [`Errno::ENOMEM`]: no frame for a table.
    pub(crate) fn set(&mut self, addr: u64, pte: Pte) -> Result {
        let t = self.leaf_or_new(addr)?;
        store(t, index(addr, 0), pte.0);
        Ok(())
    }

    /// For setting entries one after the other.
    pub(crate) fn cursor(&mut self) -> Cursor<'_> {
        Cursor {
            pt: self,
            base: u64::MAX,
            table: 0,
        }
    }

    /// Makes the tables for `addr`, so that [`PageTable::set`] cannot fail there.
    pub(crate) fn prepare(&mut self, addr: u64) -> Result {
        self.leaf_or_new(addr).map(|_| ())
    }

    /// Sets contiguous entries from `addr` on where there is none; `f(i)` gives the entry for page `i`.
    /// Stops early (with the error) if there is no frame for a table.
    pub(crate) fn fill(
        &mut self,
        addr: u64,
        n: usize,
        mut f: impl FnMut(usize) -> Option<Pte>,
    ) -> Result {
        let mut i = 0;
        while i < n {
            let a = addr + i as u64 * PAGE;
            let t = self.leaf_or_new(a)?;
            let k = (512 - index(a, 0)).min(n - i);
            for j in 0..k {
                let e = index(a, 0) + j;
                if load(t, e) == 0
                    && let Some(pte) = f(i + j)
                {
                    store(t, e, pte.0);
                }
            }
            i += k;
        }
        Ok(())
    }

    /// Calls `f(addr, entry)` for each entry of `[start, end)`, ascending; what it returns replaces the entry.
    /// Tables that become empty are freed. `f` returning `None` as the outer value stops; the address to go on at is returned.
    pub(crate) fn update(
        &mut self,
        start: u64,
        end: u64,
        mut f: impl FnMut(u64, Pte) -> Step,
    ) -> Option<u64> {
        let end = end.min(USER_END);
        if self.root == 0 || start >= end {
            return None;
        }
        let (root, freed, stop) = walk(self.root, 3, start, end, &mut f);
        self.tables -= freed;
        if root {
            free_table(Pfn(self.root));
            self.tables -= 1;
            self.root = 0;
        }
        stop
    }

    /// Calls `f(addr, entry)` for each entry of `[start, end)`.
    pub(crate) fn each(&self, start: u64, end: u64, mut f: impl FnMut(u64, Pte)) {
        let end = end.min(USER_END);
        if self.root != 0 && start < end {
            let _ = walk(self.root, 3, start, end, &mut |a, p| {
                f(a, p);
                Step::Keep
            });
        }
    }
}

/// Remembers the lowest table of the last entry set.
pub(crate) struct Cursor<'a> {
    pt: &'a mut PageTable,
    base: u64,
    table: u32,
}

impl Cursor<'_> {
    /// As [`PageTable::set`].
    pub(crate) fn set(&mut self, addr: u64, pte: Pte) -> Result {
        let base = addr & !(LEAF_SPAN - 1);
        if base != self.base {
            self.table = self.pt.leaf_or_new(addr)?;
            self.base = base;
        }
        store(self.table, index(addr, 0), pte.0);
        Ok(())
    }
}

/// What to do with an entry.
pub(crate) enum Step {
    /// Leave it.
    Keep,
    /// Replace it.
    Set(Pte),
    /// Clear it.
    Clear,
    /// Clear it and stop behind it.
    ClearStop,
    /// Leave it and stop before it.
    Stop,
}

/// Walks `[start, end)` of a table at `level`. Returns: whether the table is empty now, tables freed below, where it stopped.
fn walk(
    table: u32,
    level: u32,
    start: u64,
    end: u64,
    f: &mut dyn FnMut(u64, Pte) -> Step,
) -> (bool, u64, Option<u64>) {
    let span = PAGE << (9 * level);
    let mut at = start;
    let mut freed = 0;
    let mut stop = None;
    while at < end && stop.is_none() {
        let i = index(at, level);
        let v = load(table, i);
        let next = (at & !(span - 1)) + span;
        if v != 0 {
            if level > 0 {
                let (empty, n, s) = walk(v as u32, level - 1, at, end.min(next), f);
                freed += n;
                stop = s;
                if empty {
                    store(table, i, 0);
                    free_table(Pfn(v as u32));
                    freed += 1;
                }
            } else {
                match f(at, Pte(v)) {
                    Step::Keep => {}
                    Step::Set(p) => store(table, i, p.0),
                    Step::Clear => store(table, i, 0),
                    Step::ClearStop => {
                        store(table, i, 0);
                        stop = Some(next);
                    }
                    Step::Stop => stop = Some(at),
                }
            }
        }
        at = next;
    }
    (used(table) == 0, freed, stop)
}
