//! VMAs: which ranges of an address space show what, with which rights.

use super::{Layout, VmFlags};
use crate::page_cache::PageCache;
use crate::{Mm, frame};
use abi::{Errno, Result};
use alloc::collections::{BTreeMap, LinkedList};
use alloc::sync::{Arc, Weak};
use core::any::Any;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use hal::{PAGE_SHIFT, PAGE_SIZE, Pfn, Prot, USER_END, UserSpace};

/// Most VMAs of a space, as Linux's vm.max_map_count.
pub(super) const MAX_VMAS: usize = 65530;
/// Lowest address that a mapping may have, as Linux's vm.mmap_min_addr.
pub(super) const MIN_ADDR: u64 = 65536;
/// Kept free below a stack that grows, in bytes.
pub(super) const STACK_GAP: u64 = 1 << 20;

/// A range of a file.
pub(super) struct FileRange {
    pub(super) cache: Arc<PageCache>,
    /// Byte of the file at the start of the VMA.
    pub(super) offset: u64,
    pub(super) owner: Option<Arc<dyn Any + Send + Sync>>,
    mm: Weak<Mm>,
    id: usize,
    /// See [`VmFlags::is_writer`].
    writer: bool,
}

impl FileRange {
    /// A range that the space `mm` maps, in a VMA with these properties; the cache knows about it as long as it lives.
    pub(super) fn new(
        mm: &Weak<Mm>,
        cache: Arc<PageCache>,
        offset: u64,
        owner: Option<Arc<dyn Any + Send + Sync>>,
        flags: VmFlags,
    ) -> FileRange {
        let (id, writer) = (mm.as_ptr().addr(), flags.is_writer());
        cache.add_mapping(id, mm, writer);
        FileRange {
            cache,
            offset,
            owner,
            mm: mm.clone(),
            id,
            writer,
        }
    }
    fn again(&self, mm: &Weak<Mm>, offset: u64, flags: VmFlags) -> FileRange {
        let (cache, owner) = (self.cache.clone(), self.owner.clone());
        Self::new(mm, cache, offset, owner, flags)
    }
    fn at(&self, skip: u64, flags: VmFlags) -> FileRange {
        self.again(&self.mm, self.offset + skip, flags)
    }
    /// The same for another space.
    pub(super) fn for_mm(&self, mm: &Weak<Mm>, flags: VmFlags) -> FileRange {
        self.again(mm, self.offset, flags)
    }
}

impl Drop for FileRange {
    fn drop(&mut self) {
        self.cache.remove_mapping(self.id, self.writer);
    }
}

/// What a VMA shows.
pub(super) enum Show {
    /// Zero pages, private.
    Anon,
    /// A file; private unless [`VmFlags::SHARED`].
    File(FileRange),
    /// Frames of the kernel from this one on.
    Special(Pfn),
}

impl Show {
    /// The same thing `skip` bytes further on, in a VMA with these properties.
    fn at(&self, skip: u64, flags: VmFlags) -> Show {
        match self {
            Show::Anon => Show::Anon,
            Show::File(f) => Show::File(f.at(skip, flags)),
            Show::Special(p) => Show::Special(p.add((skip >> PAGE_SHIFT) as usize)),
        }
    }
    pub(super) fn file(&self) -> Option<&FileRange> {
        match self {
            Show::File(f) => Some(f),
            _ => None,
        }
    }
}

/// One mapping.
pub(super) struct Vma {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) prot: Prot,
    pub(super) flags: VmFlags,
    pub(super) show: Show,
    pub(super) name: Option<&'static str>,
    /// madvise: -1 random, 0 normal, 1 sequential.
    pub(super) pattern: i8,
    /// Where the last extent of anonymous memory ended, and its size in pages.
    pub(super) next: AtomicU64,
    pub(super) extent: AtomicU32,
}

impl Vma {
    pub(super) fn new(start: u64, end: u64, prot: Prot, flags: VmFlags, show: Show) -> Vma {
        Vma {
            start,
            end,
            prot,
            flags,
            show,
            name: None,
            pattern: 0,
            next: AtomicU64::new(0),
            extent: AtomicU32::new(0),
        }
    }
    pub(super) fn len(&self) -> u64 {
        self.end - self.start
    }
    pub(super) fn pages(&self) -> u64 {
        self.len() >> PAGE_SHIFT
    }
    pub(super) fn is_shared(&self) -> bool {
        self.flags.contains(VmFlags::SHARED)
    }
    pub(super) fn is_special(&self) -> bool {
        matches!(self.show, Show::Special(_))
    }
    /// Index in its file of the page at `addr`.
    pub(super) fn index(&self, f: &FileRange, addr: u64) -> u64 {
        (f.offset + (addr - self.start)) >> PAGE_SHIFT
    }
    /// Private and writable: counts as data.
    pub(super) fn is_data(&self) -> bool {
        self.prot.contains(Prot::WRITE) && !self.is_shared() && !self.is_stack()
    }
    pub(super) fn is_stack(&self) -> bool {
        self.flags.contains(VmFlags::GROWSDOWN)
    }
    /// A copy of the part `[start, end)`.
    pub(super) fn part(&self, start: u64, end: u64) -> Vma {
        Vma {
            name: self.name,
            pattern: self.pattern,
            ..Vma::new(
                start,
                end,
                self.prot,
                self.flags,
                self.show.at(start - self.start, self.flags),
            )
        }
    }
    /// Whether `next` continues it, so that both can be one.
    fn continues(&self, next: &Vma) -> bool {
        self.end == next.start
            && self.prot == next.prot
            && self.flags == next.flags
            && self.name == next.name
            && self.pattern == next.pattern
            && match (&self.show, &next.show) {
                (Show::Anon, Show::Anon) => true,
                (Show::File(a), Show::File(b)) => {
                    Arc::ptr_eq(&a.cache, &b.cache)
                        && a.offset.checked_add(self.len()) == Some(b.offset)
                        && match (&a.owner, &b.owner) {
                            (None, None) => true,
                            (Some(x), Some(y)) => Arc::ptr_eq(x, y),
                            _ => false,
                        }
                }
                _ => false,
            }
    }
}

/// All VMAs of a space and what goes with them.
pub(super) struct VmaSet {
    map: BTreeMap<u64, Vma>,
    /// Hears of every range that gets a mapping.
    space: Arc<dyn UserSpace>,
    /// Pages mapped in all, private and writable, locked.
    pub(super) total: u64,
    pub(super) data: u64,
    pub(super) locked: u64,
    /// Highest address for mappings without a wish.
    pub(super) top: u64,
    pub(super) brk: u64,
    pub(super) layout: Layout,
    /// mlockall(MCL_FUTURE).
    pub(super) lock_future: bool,
    /// The private anonymous mapping that was made last, which may have joined with its neighbours.
    pub(super) latest: (u64, u64),
    /// Between the first and `top` there is no gap of at least the second.
    hint: (u64, u64),
}

impl VmaSet {
    pub(super) fn new(space: Arc<dyn UserSpace>) -> VmaSet {
        VmaSet {
            map: BTreeMap::new(),
            space,
            total: 0,
            data: 0,
            locked: 0,
            top: default_top(8 << 20),
            brk: 0,
            layout: Layout::default(),
            lock_future: false,
            latest: (0, 0),
            hint: (0, u64::MAX),
        }
    }
    pub(super) fn count(&self) -> usize {
        self.map.len()
    }
    pub(super) fn iter(&self) -> impl Iterator<Item = &Vma> {
        self.map.values()
    }
    /// The VMA that contains `addr`.
    pub(super) fn find(&self, addr: u64) -> Option<&Vma> {
        let (_, v) = self.map.range(..=addr).next_back()?;
        (addr < v.end).then_some(v)
    }
    pub(super) fn find_mut(&mut self, addr: u64) -> Option<&mut Vma> {
        let (_, v) = self.map.range_mut(..=addr).next_back()?;
        (addr < v.end).then_some(v)
    }
    /// The VMA that contains `addr`, or the next one above.
    pub(super) fn find_above(&self, addr: u64) -> Option<&Vma> {
        self.find(addr)
            .or_else(|| self.map.range(addr..).next().map(|(_, v)| v))
    }
    /// The VMA that ends at or before `addr`.
    pub(super) fn below(&self, addr: u64) -> Option<&Vma> {
        self.map.range(..addr).next_back().map(|(_, v)| v)
    }
    /// VMAs that overlap `[start, end)`, ascending.
    pub(super) fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = &Vma> {
        let first = self.find(start).map_or(start, |v| v.start);
        self.map.range(first..end.max(first)).map(|(_, v)| v)
    }
    pub(super) fn is_free(&self, start: u64, end: u64) -> bool {
        self.overlapping(start, end).next().is_none()
    }
    /// Whether VMAs cover `[start, end)` without a hole.
    pub(super) fn covers(&self, start: u64, end: u64) -> bool {
        let mut at = start;
        for v in self.overlapping(start, end) {
            if v.start > at {
                return false;
            }
            at = v.end;
        }
        at >= end
    }

    fn account(&mut self, v: &Vma, add: bool) {
        let n = v.pages();
        let locked = if v.flags.contains(VmFlags::LOCKED) {
            n
        } else {
            0
        };
        let data = if v.is_data() { n } else { 0 };
        if add {
            self.total += n;
            self.data += data;
            self.locked += locked;
        } else {
            self.total -= n;
            self.data -= data;
            self.locked -= locked;
        }
    }

    /// Adds a VMA in a free range, merging it with its neighbours.
    pub(super) fn insert(&mut self, v: Vma) -> Gone {
        self.account(&v, true);
        self.space.claim(v.start, v.end);
        let mut gone = Gone::default();
        let start = v.start;
        self.map.insert(start, v);
        self.merge(start, &mut gone);
        gone
    }

    /// Merges the VMA that starts at `start` with its neighbours if they continue each other.
    fn merge(&mut self, start: u64, gone: &mut Gone) {
        let Some(end) = self.map.get(&start).map(|v| v.end) else {
            return;
        };
        self.merge_below(start, gone);
        self.merge_below(end, gone);
    }

    /// Merges the VMA that starts at `start`, if there is one, with the one before it if it continues that.
    fn merge_below(&mut self, start: u64, gone: &mut Gone) {
        if let Some(prev) = self.below(start)
            && let Some(v) = self.map.get(&start)
            && prev.continues(v)
        {
            let p = prev.start;
            if let Some(v) = self.map.remove(&start) {
                if let Some(prev) = self.map.get_mut(&p) {
                    prev.end = v.end;
                    prev.next.store(v.next.load(Relaxed), Relaxed);
                    prev.extent.store(v.extent.load(Relaxed), Relaxed);
                }
                gone.push(v);
            }
        }
    }

    /// Splits the VMA that contains `addr` so that one starts there.
    fn split(&mut self, addr: u64) {
        let Some(v) = self.find_mut(addr) else { return };
        if v.start == addr {
            return;
        }
        let upper = v.part(addr, v.end);
        v.end = addr;
        self.map.insert(addr, upper);
    }

    /// Whether cutting `[start, end)` out (or changing it) keeps the number of VMAs allowed.
    pub(super) fn check_count(&self, start: u64, end: u64) -> Result {
        let cut = |a: u64| self.find(a).is_some_and(|v| v.start != a) as usize;
        if self.count() + cut(start) + cut(end) > MAX_VMAS {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    /// The first VMA that starts in `[start, end)`.
    fn next_key(&self, start: u64, end: u64) -> Option<u64> {
        if start >= end {
            return None;
        }
        self.map.range(start..end).next().map(|(k, _)| *k)
    }

    /// Takes everything in `[start, end)` out.
    pub(super) fn remove(&mut self, start: u64, end: u64) -> Gone {
        self.split(start);
        self.split(end);
        let mut gone = Gone::default();
        while let Some(k) = self.next_key(start, end) {
            if let Some(v) = self.map.remove(&k) {
                self.account(&v, false);
                gone.push(v);
            }
        }
        if let Some(next) = self.find_above(end).map(|v| v.start) {
            // The gap reaches up to the next VMA: nothing above that has changed.
            if self.hint.0 < next {
                self.hint.0 = next;
            }
        } else {
            self.hint = (0, u64::MAX);
        }
        gone
    }

    /// Changes each VMA (part) in `[start, end)` and merges what has become equal.
    pub(super) fn change(&mut self, start: u64, end: u64, mut f: impl FnMut(&mut Vma)) -> Gone {
        self.split(start);
        self.split(end);
        let mut gone = Gone::default();
        let mut at = start;
        while let Some(k) = self.next_key(at, end) {
            let Some(mut v) = self.map.remove(&k) else {
                break;
            };
            self.account(&v, false);
            f(&mut v);
            self.account(&v, true);
            at = v.end;
            self.map.insert(k, v);
            self.merge_below(k, &mut gone);
        }
        self.merge_below(end, &mut gone);
        gone
    }

    /// Moves the lower end of the stack VMA that starts at `old` down to `new`.
    pub(super) fn grow_down(&mut self, old: u64, new: u64) {
        if let Some(mut v) = self.map.remove(&old) {
            self.account(&v, false);
            v.start = new;
            self.account(&v, true);
            self.space.claim(new, old);
            self.map.insert(new, v);
        }
    }

    /// Takes all VMAs out.
    pub(super) fn take_all(&mut self) -> Gone {
        self.total = 0;
        self.data = 0;
        self.locked = 0;
        self.hint = (0, u64::MAX);
        Gone {
            list: LinkedList::new(),
            _all: core::mem::take(&mut self.map),
        }
    }

    /// Highest address for mappings without a wish.
    pub(super) fn set_top(&mut self, top: u64) {
        self.top = top;
        self.hint = (0, u64::MAX);
    }

    /// A free range of `len` bytes, top-down below `self.top`, else anywhere above [`MIN_ADDR`]. [`Errno::ENOMEM`].
    pub(super) fn find_gap(&mut self, len: u64) -> Result<u64> {
        let from = if len >= self.hint.1 {
            self.hint.0.min(self.top)
        } else {
            self.top
        };
        if let Some(a) = self.gap_below(from, len) {
            self.hint = (a + len, len);
            return Ok(a);
        }
        self.gap_below(USER_END, len).ok_or(Errno::ENOMEM)
    }

    fn gap_below(&self, top: u64, len: u64) -> Option<u64> {
        let mut hi = top;
        for (_, v) in self.map.range(..top).rev() {
            if v.end < hi && hi - v.end >= len {
                return Some(hi - len);
            }
            let mut lo = v.start;
            if v.is_stack() {
                lo = lo.saturating_sub(STACK_GAP);
            }
            hi = hi.min(lo);
        }
        (hi >= MIN_ADDR && hi - MIN_ADDR >= len).then(|| hi - len)
    }
}

/// Highest address for mappings with a stack limit of `stack` bytes.
pub(super) fn default_top(stack: u64) -> u64 {
    let gap = stack
        .saturating_add(STACK_GAP)
        .clamp(128 << 20, USER_END / 6 * 5);
    (USER_END - gap) & !(PAGE_SIZE as u64 - 1)
}

/// VMAs taken out. They keep files open, whose release may take other locks:
/// dropped only after the lock of the VMAs has been released. No large
/// allocation even for very many.
#[derive(Default)]
pub(super) struct Gone {
    list: LinkedList<Vma>,
    /// Only to be dropped.
    _all: BTreeMap<u64, Vma>,
}

impl Gone {
    fn push(&mut self, v: Vma) {
        // Anonymous memory keeps nothing.
        if matches!(v.show, Show::File(_)) {
            self.list.push_back(v);
        }
    }
    pub(super) fn append(&mut self, mut other: Gone) {
        self.list.append(&mut other.list);
    }
}

/// Size of the next extent of anonymous memory for a fault at `addr`: grows
/// with sequential use from 64 KiB to 2 MiB.
pub(super) fn extent_pages(v: &Vma, addr: u64) -> u64 {
    if frame::is_tight() {
        return 1;
    }
    let last = v.extent.load(Relaxed) as u64;
    if last != 0 && v.next.load(Relaxed) == addr && v.pattern >= 0 {
        (last * 2).min(512)
    } else {
        16
    }
}
