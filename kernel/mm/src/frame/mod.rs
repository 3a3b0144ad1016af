//! Physical frames.
//!
//! - `desc`: the page descriptors, and which frames read as zero.
//! - `buddy`: the free lists. `aside`: what is left when they are in pieces.
//! - here: allocation for kernel and guest, reference counts, giving memory
//!   back to the host, what happens when memory is short.
//!
//! Guest pages leave the last `reserve` frames to the kernel: their
//! allocation fails first, which leads to reclaim and then to the OOM handler
//! (`make_room`). Page tables and kernel stacks leave half of it to the heap.

pub(crate) mod aside;
pub(crate) mod buddy;
pub(crate) mod desc;

use crate::state::{STATE_FRAMES, STATE_PFN, State, place, state};
use abi::{Errno, Result};
use alloc::vec::Vec;
use buddy::{Buddy, MAX_ORDER};
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use core::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, AtomicUsize};
use desc::Desc;
pub(crate) use desc::{Kind, desc};
use hal::{PAGE_SIZE, Pfn, Platform};
use sync::SpinLock;

/// Numbers for /proc/meminfo, sysinfo(2), the OOM decision. In frames of 4 KiB.
#[derive(Clone, Copy, Default, Debug)]
#[expect(missing_docs)]
pub struct MemStats {
    pub total: u64,
    pub free: u64,
    /// Page cache of files that can be read again (reclaimable).
    pub cached: u64,
    /// tmpfs and shared anonymous memory.
    pub shmem: u64,
    pub anon: u64,
    /// Kernel heap.
    pub slab: u64,
    pub page_tables: u64,
    pub kernel_stacks: u64,
    pub mapped: u64,
}

/// Sets up the frame allocator and the heap in the memory file, once per
/// machine, before anything allocates on a kernel stack. Touches only what it
/// must: a fresh machine of 4 GiB costs a few pages.
///
/// # Errors
/// [`Errno::ENOMEM`]: too little memory to run anything.
///
/// # Safety
/// The memory file is mapped at [`hal::mem::MEM_BASE`], reads as zero, and nobody else uses it.
pub unsafe fn init(platform: &'static dyn Platform) -> Result {
    let frames = platform.mem().frames();
    let kept = platform.mem().reserved_frames();
    assert!(kept <= STATE_PFN, "the machine keeps too many frames");
    let map_at = STATE_PFN + STATE_FRAMES;
    let map_frames = (frames * size_of::<Desc>()).div_ceil(PAGE_SIZE);
    let dirty_at = map_at + map_frames;
    let dirty_frames = frames.div_ceil(64).div_ceil(PAGE_SIZE / 8);
    let first = dirty_at + dirty_frames;
    if first + 1024 > frames || frames > u32::MAX as usize {
        return Err(Errno::ENOMEM);
    }
    let reserve = (frames / 32).clamp(512, 8192);
    let trim_high = (frames / 32).clamp(512, 4096);
    let s = State {
        platform: Some(platform),
        frames,
        reserve,
        trim_high,
        trim_low: trim_high / 2,
        map: Pfn(map_at as u32).as_ptr().cast(),
        dirty: Pfn(dirty_at as u32).as_ptr().cast(),
        free: AtomicUsize::new(frames - first),
        dirty_free: AtomicUsize::new(0),
        used: [const { AtomicI64::new(0) }; desc::KINDS],
        mapped: AtomicI64::new(0),
        oom: AtomicUsize::new(0),
        shrinker: AtomicUsize::new(0),
        reclaiming: AtomicU32::new(0),
        buddy: SpinLock::new(Buddy::new(first as u32, frames as u32)),
        aside: aside::Aside::default(),
        slabs: crate::heap::Slabs::new(),
        caches: SpinLock::new(crate::page_cache::registry::Registry::new()),
    };
    // SAFETY: the caller's promise: the frames behind the machine's own are
    // unused, and there is no other user of the state yet.
    unsafe { place().write(s) };
    // SAFETY: as above.
    unsafe { (*place()).aside.first = take(1 << aside::ORDER, 0, false).ok_or(Errno::ENOMEM)? };
    let st = state();
    if kept < STATE_PFN {
        st.buddy.lock().give(kept as u32, STATE_PFN - kept);
    }
    Ok(())
}

/// Current numbers.
pub fn stats() -> MemStats {
    let st = state();
    let used = |k: Kind| st.used[k as usize].load(Relaxed).max(0) as u64;
    MemStats {
        total: st.frames as u64,
        free: st.free.load(Relaxed) as u64,
        cached: used(Kind::File),
        shmem: used(Kind::Shmem),
        anon: used(Kind::Anon),
        slab: used(Kind::Heap),
        page_tables: used(Kind::Table),
        kernel_stacks: used(Kind::Run),
        mapped: st.mapped.load(Relaxed).max(0) as u64,
    }
}

/// A contiguous run of `n` frames (a power of two, naturally aligned), contents
/// undefined; for kernel stacks and the like. `None`: no memory (after
/// reclaim). May sleep.
pub fn alloc_run(n: usize) -> Option<Pfn> {
    if n == 0 || !n.is_power_of_two() {
        return None;
    }
    for _ in 0..3 {
        if let Some(p) = alloc_raw(n, Kind::Run, state().reserve / 2, true, false) {
            return Some(p);
        }
        if !reclaim(n.max(64)) {
            return None;
        }
    }
    None
}

/// Pages of the kernel's that hold `bytes` and zeros behind: first frame and
/// number of pages, for [`crate::Mm::map_special`]. Free them with [`free_run`],
/// rounded up to a power of two. `None` as for [`alloc_run`], or if `bytes` is empty.
pub fn alloc_filled(bytes: &[u8]) -> Option<(Pfn, u64)> {
    let pages = bytes.len().div_ceil(PAGE_SIZE);
    let run = pages.checked_next_power_of_two().filter(|_| pages > 0)?;
    let first = alloc_run(run)?;
    for i in 0..run {
        zero_frame(first.add(i), 0, PAGE_SIZE);
    }
    for (i, page) in bytes.chunks(PAGE_SIZE).enumerate() {
        write_frame(first.add(i), 0, page);
    }
    Some((first, pages as u64))
}

/// Gives a run back.
pub fn free_run(first: Pfn, n: usize) {
    free_raw(first, n, Kind::Run);
}

/// Called (from any task, no lock held) when memory is short and page cache
/// reclaim did not help: kill something. Returns whether waiting makes sense. Set by the task layer.
pub type OomHandler = fn() -> bool;

/// Sets the handler.
pub fn set_oom_handler(h: OomHandler) {
    state().oom.store(h as usize, Relaxed);
}

/// Frees up to so many kernel objects that can be made again (dentries and
/// their inodes); how many. Called when page cache reclaim did not free
/// enough, from any task, with no spin lock held. Set by the task layer.
pub type Shrinker = fn(usize) -> usize;

/// Sets the shrinker.
pub fn set_shrinker(s: Shrinker) {
    state().shrinker.store(s as usize, Relaxed);
}

/// Whether memory for the kernel itself is short. Calls that make kernel
/// objects for a guest should then call [`relieve`] and fail with ENOMEM if it cannot help.
#[inline]
pub fn pressure() -> bool {
    let st = state();
    st.free.load(Relaxed) < st.reserve / 2
}

/// Reclaims, or kills, until the pressure is gone. Whether it is. May sleep; no lock held.
#[cold]
pub fn relieve() -> bool {
    if !pressure() {
        return true;
    }
    reclaim(256);
    !pressure() || kill_until(&|| !pressure())
}

/// Free frames that the host still holds memory for.
pub fn dirty_free() -> usize {
    state().dirty_free.load(Relaxed)
}

/// Gives free memory beyond `keep` frames that the host still holds for us back to it. May take long; no spin lock held.
pub fn trim(keep: usize) {
    while trim_step(keep) {}
}

/// A step of [`trim`], up to 16 MiB; `false`: there is nothing more to do. For the idle loop.
pub fn trim_step(keep: usize) -> bool {
    let st = state();
    let Some(platform) = st.platform else {
        return false;
    };
    if dirty_free() <= keep {
        return false;
    }
    let Some((pfn, n)) = st.buddy.lock().take_for_trim() else {
        return false;
    };
    platform.mem().discard(Pfn(pfn), n);
    desc::mark_clean(pfn, n);
    st.buddy.lock().give(pfn, n);
    true
}

/// Frees all clean pages of files that nobody maps, and unused objects (drop_caches).
pub fn drop_caches() {
    shrink(usize::MAX / 8);
    while crate::page_cache::registry::reclaim(1 << 16) > 0 {}
    trim(0);
}

/// [`trim`] if it is time. Called where memory was given back and no spin lock is held.
pub(crate) fn trim_if_needed() {
    let st = state();
    if st.dirty_free.load(Relaxed) > st.trim_high {
        trim(st.trim_low);
    }
}

/// Frees page cache, then kernel objects. Whether any was freed. May sleep.
fn reclaim(n: usize) -> bool {
    let freed = crate::page_cache::registry::reclaim(n);
    if freed >= n.max(1) {
        return true;
    }
    // A few objects share a frame.
    shrink(n.saturating_mul(4)) > 0 || freed > 0
}

fn shrink(n: usize) -> usize {
    let s = state().shrinker.load(Relaxed);
    if s == 0 {
        return 0;
    }
    // SAFETY: only `set_shrinker` stores here, and it stores a `Shrinker`.
    let shrinker: Shrinker = unsafe { core::mem::transmute::<usize, Shrinker>(s) };
    shrinker(n)
}

/// Pages of the page cache that programs need for running at all. When fewer can be taken,
/// each is faulted in again at once, and taking them is no way to make room.
const WORKING_SET: usize = 64;

/// Makes room for more guest frames: reclaims page cache, then kernel objects, then calls
/// the OOM handler and waits for what it killed. `false`: there is no more memory.
/// May sleep: called with no spin lock held.
pub(crate) fn make_room() -> bool {
    let st = state();
    let enough = || st.free.load(Relaxed) > st.reserve + WORKING_SET;
    if crate::page_cache::registry::reclaim(256) >= WORKING_SET {
        return true;
    }
    shrink(1024);
    enough() || kill_until(&enough)
}

/// Kills until it is `enough`, but does not wait long. Whether it is worth another try.
fn kill_until(enough: &dyn Fn() -> bool) -> bool {
    let h = state().oom.load(Relaxed);
    if h == 0 {
        return false;
    }
    // SAFETY: only `set_oom_handler` stores here, and it stores an `OomHandler`.
    let handler: OomHandler = unsafe { core::mem::transmute::<usize, OomHandler>(h) };
    if !handler() {
        return false;
    }
    let Some(me) = hal::cpu::current_stack().waiter else {
        return false;
    };
    // The victim gives its memory back without telling us: look now and then. It may not
    // be enough: the handler kills another when it is gone. If we are the victim
    // ourselves, it says that there is nothing to wait for.
    for _ in 0..200 {
        if enough() {
            return true;
        }
        me.prepare_wait(false);
        me.wait(Some(sync::timer::monotonic_ns() + 2_000_000));
        if !handler() {
            return false;
        }
    }
    enough()
}

/// A run of more frames than this is long: see [`alloc_heap`].
const LONG_RUN: usize = aside::LEN;

/// `n` frames for the heap. Most objects are allocated infallibly, and this is
/// what keeps them from using memory up: whoever holds no spin lock waits here
/// while the OOM killer works, so that the last frames are left for short
/// sections under spin locks, and for victims that exit; a few runs are set aside for
/// when these are in pieces. Long runs get none of either; whoever asks for one without being able to wait must be ready to get none.
pub(crate) fn alloc_heap(n: usize, zeroed: bool) -> Option<Pfn> {
    let last = state().reserve / 4;
    let leave = if n > LONG_RUN { last } else { 0 };
    let take = |leave| alloc_raw(n, Kind::Heap, leave, !zeroed, zeroed);
    take(last)
        .or_else(|| wait_for_heap(n, last, &take))
        .or_else(|| take(leave))
        .or_else(|| aside::take(n, zeroed))
}

/// Whether the heap is down to its last frames: loops that allocate under spin
/// locks only call [`wait_for_frames`] between them.
#[inline]
pub fn nearly_empty() -> bool {
    let st = state();
    st.free.load(Relaxed) < st.reserve / 4
}

/// Waits while [`nearly_empty`], if the caller can wait.
#[cold]
pub fn wait_for_frames() {
    let last = state().reserve / 4;
    let take = |leave| alloc_raw(1, Kind::Heap, leave, true, false);
    if let Some(p) = wait_for_heap(1, last, &take) {
        free_raw(p, 1, Kind::Heap);
    }
}

#[cold]
fn wait_for_heap(n: usize, last: usize, take: &dyn Fn(usize) -> Option<Pfn>) -> Option<Pfn> {
    let head = hal::cpu::current_stack();
    let may_wait = head.lock_depth.load(Relaxed) == 0
        && !head.relieving.load(Relaxed)
        && head.waiter.is_some_and(|w| w.may_wait());
    // Nobody dies for a long run that there would hardly be.
    if !may_wait || n > state().reserve / 2 {
        return None;
    }
    head.relieving.store(true, Relaxed);
    // The caller may hold any sleeping lock: nothing that takes one is reclaimed.
    crate::page_cache::registry::reclaim_clean(n.max(128));
    let mut got = take(last);
    if got.is_none() {
        let found = core::cell::Cell::new(None);
        kill_until(&|| {
            found.set(take(last));
            found.get().is_some()
        });
        got = found.get();
    }
    head.relieving.store(false, Relaxed);
    got
}

/// `n` contiguous frames for the kernel, aligned to the next power of two,
/// contents undefined unless `zeroed`. Leaves `leave` frames to others.
pub(crate) fn alloc_raw(
    n: usize,
    kind: Kind,
    leave: usize,
    want_dirty: bool,
    zeroed: bool,
) -> Option<Pfn> {
    take(n, leave, want_dirty).map(|p| put_to_use(p, n, kind, zeroed))
}

/// Notes what a run that is free no longer is used for.
fn put_to_use(p: u32, n: usize, kind: Kind, zeroed: bool) -> Pfn {
    if zeroed {
        desc::zero(p, n);
    }
    desc::mark_dirty(p, n);
    desc(p).set_kind(kind);
    state().used[kind as usize].fetch_add(n as i64, Relaxed);
    Pfn(p)
}

/// Takes `n` frames out of the buddy allocator.
fn take(n: usize, leave: usize, want_dirty: bool) -> Option<u32> {
    let st = state();
    let order = n.checked_next_power_of_two()?.ilog2();
    if n == 0 || order > MAX_ORDER || st.free.load(Relaxed) < leave + n {
        return None;
    }
    let mut b = st.buddy.lock();
    let p = b.take(order, want_dirty)?;
    let size = 1usize << order;
    if size > n {
        b.give(p + n as u32, size - n);
    }
    Some(p)
}

/// Gives back a run allocated by [`alloc_raw`], or a part of one.
pub(crate) fn free_raw(first: Pfn, n: usize, kind: Kind) {
    if kind == Kind::Heap && aside::give(first, n) {
        return;
    }
    let st = state();
    desc(first.0).set_kind(Kind::None);
    st.used[kind as usize].fetch_sub(n as i64, Relaxed);
    st.buddy.lock().give(first.0, n);
}

/// A zeroed frame for a page table.
pub(crate) fn alloc_table() -> Option<Pfn> {
    let p = alloc_raw(1, Kind::Table, state().reserve / 2, true, true)?;
    desc(p.0).data.store(0, Relaxed);
    Some(p)
}

/// Gives a page table back.
pub(crate) fn free_table(p: Pfn) {
    free_raw(p, 1, Kind::Table);
}

/// Whether memory is so short that nothing should be allocated ahead of need.
pub(crate) fn is_tight() -> bool {
    let st = state();
    st.free.load(Relaxed) < st.reserve * 2 + 512
}

/// What new frames for guest pages hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Contents {
    /// Anything: the caller fills them.
    Undefined,
    /// They read as zero.
    Zero,
    /// They read as zero and are all used at once.
    ZeroUsed,
}

/// `n` contiguous frames for guest pages, each with one reference.
/// `spare`: may use the kernel's reserve (the OOM killer's victim).
pub(crate) fn alloc_user(n: usize, kind: Kind, contents: Contents, spare: bool) -> Option<Pfn> {
    let st = state();
    let leave = if spare { st.reserve / 2 } else { st.reserve };
    // For what is used soon, memory that the host holds for us already is
    // cheaper; small runs are. Long ones may never be touched: memory that
    // needs no zeroing is.
    const SMALL: usize = 16;
    let want_dirty = contents != Contents::Zero || n <= SMALL;
    let p = take(n, leave, want_dirty)?;
    if contents != Contents::Undefined {
        desc::zero(p, n);
    }
    desc::mark_dirty(p, n);
    for i in 0..n as u32 {
        let d = desc(p + i);
        d.set_kind(kind);
        d.refs.store(1, Relaxed);
    }
    st.used[kind as usize].fetch_add(n as i64, Relaxed);
    Some(Pfn(p))
}

/// A frame with this many references keeps them for ever, so that the count
/// cannot run over. Half of what fits leaves room for all that count at once.
const STUCK: u32 = 1 << 31;

/// One more reference to a guest page; the caller has one or holds the lock of what has.
pub(crate) fn get(p: Pfn) {
    let d = desc(p.0);
    let old = d.refs.fetch_add(1, Relaxed);
    debug_assert!(old > 0, "reference to a free frame");
    if old >= STUCK {
        d.refs.store(STUCK, Relaxed);
    }
}

/// References to a guest page.
pub(crate) fn refs(p: Pfn) -> u32 {
    desc(p.0).refs.load(Acquire)
}

/// Drops one reference; whether it was the last, and the frame is the caller's to free.
fn put_ref(p: Pfn) -> bool {
    let d = desc(p.0);
    let old = d.refs.fetch_sub(1, AcqRel);
    debug_assert!(old > 0, "reference dropped twice");
    if old >= STUCK {
        d.refs.store(STUCK, Relaxed);
    }
    old == 1
}

/// Drops a reference to a guest page.
pub(crate) fn put(p: Pfn) {
    if put_ref(p) {
        let d = desc(p.0);
        let st = state();
        st.used[d.kind() as usize].fetch_sub(1, Relaxed);
        d.set_kind(Kind::None);
        st.buddy.lock().give(p.0, 1);
    }
}

/// Drops a reference to each of `n` contiguous frames.
pub(crate) fn put_run(first: Pfn, n: usize) {
    let mut b = Release::new();
    for i in 0..n {
        b.put(first.add(i));
    }
}

/// Frees what it was given when dropped; runs of frames go back together.
pub(crate) struct Release {
    run: u32,
    len: u32,
    counts: [i64; desc::KINDS],
}

impl Release {
    pub(crate) fn new() -> Release {
        Release {
            run: 0,
            len: 0,
            counts: [0; desc::KINDS],
        }
    }
    /// Drops a reference.
    pub(crate) fn put(&mut self, p: Pfn) {
        if !put_ref(p) {
            return;
        }
        let d = desc(p.0);
        self.counts[d.kind() as usize] += 1;
        d.set_kind(Kind::None);
        if self.len > 0 && self.run + self.len == p.0 {
            self.len += 1;
            return;
        }
        self.free();
        self.run = p.0;
        self.len = 1;
    }
    fn free(&mut self) {
        if self.len > 0 {
            state().buddy.lock().give(self.run, self.len as usize);
            self.len = 0;
        }
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        self.free();
        for (k, c) in self.counts.iter().enumerate() {
            if *c != 0 {
                state().used[k].fetch_sub(*c, Relaxed);
            }
        }
    }
}

/// References to be dropped once the host's mappings are gone, as runs.
#[derive(Default)]
pub(crate) struct Gathered {
    runs: Vec<(u32, u32)>,
    pages: usize,
}

impl Gathered {
    /// Runs after which it is time to flush: their list grows under spin locks, and fits into a frame.
    pub(crate) const FULL: usize = 512;

    pub(crate) fn add(&mut self, p: Pfn) {
        self.pages += 1;
        if let Some(l) = self.runs.last_mut()
            && l.0 + l.1 == p.0
        {
            l.1 += 1;
            return;
        }
        self.runs.push((p.0, 1));
    }
    pub(crate) fn is_full(&self) -> bool {
        self.runs.len() >= Self::FULL
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
    /// Drops the references. The caller has flushed.
    pub(crate) fn release(&mut self) {
        let mut r = Release::new();
        for (p, n) in self.runs.drain(..) {
            for i in 0..n {
                r.put(Pfn(p + i));
            }
        }
        self.pages = 0;
    }
}

/// A reference to a guest page for the length of a scope.
pub(crate) struct Pinned(Pfn);

impl Pinned {
    /// Takes over a reference.
    pub(crate) fn from_ref(p: Pfn) -> Pinned {
        Pinned(p)
    }
    /// The frame.
    pub(crate) fn pfn(&self) -> Pfn {
        self.0
    }
    /// Gives the reference up without dropping it.
    pub(crate) fn into_ref(self) -> Pfn {
        let p = self.0;
        core::mem::forget(self);
        p
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        put(self.0);
    }
}

/// Copies a page.
pub(crate) fn copy_page(to: Pfn, from: Pfn, n: usize) {
    // SAFETY: both are frames that the caller holds references to; `to` is new,
    // so they do not overlap. The guest may write `from` at the same time: any mix of bytes is fine.
    unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), to.as_ptr(), n * PAGE_SIZE) };
}

/// Copies `buf.len()` bytes out of a frame from byte `off` on.
pub(crate) fn read_frame(p: Pfn, off: usize, buf: &mut [u8]) {
    debug_assert!(off + buf.len() <= PAGE_SIZE);
    // SAFETY: within the frame, to which the caller holds a reference. `buf`
    // may be the same frame: a file read into its own mapping.
    unsafe { core::ptr::copy(p.as_ptr().add(off), buf.as_mut_ptr(), buf.len()) };
}

/// Copies `buf` into a frame from byte `off` on.
pub(crate) fn write_frame(p: Pfn, off: usize, buf: &[u8]) {
    debug_assert!(off + buf.len() <= PAGE_SIZE);
    // SAFETY: within the frame, to which the caller holds a reference. `buf`
    // may be the same frame: a file written from its own mapping.
    unsafe { core::ptr::copy(buf.as_ptr(), p.as_ptr().add(off), buf.len()) };
}

/// Zeroes bytes of a frame.
pub(crate) fn zero_frame(p: Pfn, off: usize, len: usize) {
    debug_assert!(off + len <= PAGE_SIZE);
    // SAFETY: within the frame, to which the caller holds a reference.
    unsafe { core::ptr::write_bytes(p.as_ptr().add(off), 0, len) };
}

/// An aligned word of a frame, shared with the guest.
pub(crate) fn word(p: Pfn, off: usize) -> &'static AtomicU32 {
    debug_assert!(off % 4 == 0 && off < PAGE_SIZE);
    // SAFETY: aligned, in the memory file, which stays mapped; callers use it
    // only while they hold a reference to the frame or the lock of what does.
    unsafe { &*p.as_ptr().add(off).cast::<AtomicU32>() }
}

const _: () = assert!(size_of::<AtomicU64>() == 8);

/// Position of the first NUL among `len` bytes of a frame from byte `off` on.
pub(crate) fn find_nul(p: Pfn, off: usize, len: usize) -> Option<usize> {
    debug_assert!(off + len <= PAGE_SIZE);
    // SAFETY: within the frame, kept in place by the caller's lock; the guest
    // may change bytes meanwhile, so the answer is only a hint.
    let bytes = unsafe { core::slice::from_raw_parts(p.as_ptr().add(off), len) };
    bytes.iter().position(|b| *b == 0)
}
