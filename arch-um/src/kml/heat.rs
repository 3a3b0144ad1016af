//! What a process knows of its rewritten pages: how often calls have trapped there, which
//! pages have been exchanged, where calls return into trampolines.

use crate::lock::HostLock;
use crate::sysvec::SysVec;
use crate::x86_64::patch::{REACH, Room};
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};
use hal::PAGE_SIZE;

/// Traps in a page of a process before it is exchanged there.
const WARM: u8 = 3;
/// Pages exchanged in one process at most: each costs three of the host's mappings.
const PAGES: usize = 128;

/// A page of a process that has been exchanged.
#[derive(Clone, Copy)]
pub(crate) struct Exchanged {
    addr: u64,
    /// Its number in the text file's list.
    pub(crate) page: u32,
    /// It is there still. If not, threads may yet be in its trampolines.
    pub(crate) live: bool,
}

/// Why calls of a process go on trapping: all ([`Heat::turn_off`]) or some.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum Why {
    GsBase,
    SingleSteps,
    NoMappings,
    NoRoom,
    Writers,
    Pages,
    Sites,
    /// Somebody wants it so: nothing to tell.
    Asked,
}

/// What the log says, by [`Why`].
const TEXTS: [&str; Why::Asked as usize] = [
    "system calls trap from now on: a GS base of its own",
    "system calls trap from now on: it single-steps itself",
    "system calls trap from now on: the host has no room for more mappings",
    "some system calls trap: no room for trampolines above their code",
    "some system calls trap: others can write to their code",
    "some system calls trap: too many pages with such calls",
    "some system calls trap: they cannot be rewritten safely",
];

/// How often a process's pages have trapped, and what came of it.
pub(crate) struct Heat {
    /// This process keeps its sites.
    off: AtomicBool,
    /// A bit for each [`Why`] that there has been, and those of them that have not been told yet.
    whys: AtomicU8,
    news: AtomicU8,
    traps: [AtomicU8; 256],
    /// Counts when exchanged pages go, or get other trampolines.
    pub(crate) moves: AtomicU32,
    /// Where calls return into trampolines: see [`Heat::way_back`].
    ways_back: [AtomicU64; 64],
    /// Calls at sites that cannot be rewritten, by where they return to: nothing is to be looked for there again.
    kept: [AtomicU64; 64],
    /// Where trampolines are.
    pub(crate) room: Room,
    /// The guest gets something there: all trampolines have to go.
    pub(crate) evict: AtomicBool,
    /// Changed with the process's map locked. Never held over a wait or a call of the host's.
    exchanged: HostLock<SysVec<Exchanged>>,
}

impl Heat {
    pub(crate) fn new() -> Heat {
        Heat {
            off: AtomicBool::new(false),
            whys: AtomicU8::new(0),
            news: AtomicU8::new(0),
            traps: [const { AtomicU8::new(0) }; 256],
            moves: AtomicU32::new(0),
            ways_back: [const { AtomicU64::new(0) }; 64],
            kept: [const { AtomicU64::new(0) }; 64],
            room: Room::new(),
            evict: AtomicBool::new(false),
            exchanged: HostLock::new(SysVec::new()),
        }
    }
    /// Where in a table of 64 what is about `rip` is.
    fn way(rip: u64) -> usize {
        (rip ^ rip >> 6 ^ rip >> 12) as usize % 64
    }
    /// The site whose call returns to `rip` cannot be rewritten, as long as nothing changes there.
    pub(crate) fn keep(&self, rip: u64) {
        self.kept[Self::way(rip)].store(rip, Relaxed);
    }
    /// Whether that is known.
    pub(crate) fn keeps(&self, rip: u64) -> bool {
        self.kept[Self::way(rip)].load(Relaxed) == rip
    }
    /// There may be other code from `addr` to `end`.
    pub(crate) fn forget_kept(&self, addr: u64, end: u64) {
        for k in &self.kept {
            if (addr..end).contains(&k.load(Relaxed)) {
                k.store(0, Relaxed);
            }
        }
    }
    /// A call that ends at `rip` returns to `to`, among its page's trampolines. In one word, so that
    /// vCPUs need no lock: the address and how far from its own place `to` is.
    pub(crate) fn add_way_back(&self, rip: u64, to: u64) {
        let off = to.wrapping_sub(rip + REACH).wrapping_add(PAGE_SIZE as u64);
        self.ways_back[Self::way(rip)].store(rip << 14 | off, SeqCst);
    }
    /// Where in a trampoline a thread at `rip`, which is within a jump, goes on. What is not
    /// known here is found by the signal that it gets.
    pub(crate) fn way_back(&self, rip: u64) -> Option<u64> {
        let w = self.ways_back[Self::way(rip)].load(SeqCst);
        (w != 0 && w >> 14 == rip).then(|| rip + REACH + (w & 0x3fff) - PAGE_SIZE as u64)
    }
    /// From now on calls from `addr` to `end` return to where they came from.
    pub(crate) fn forget_ways(&self, addr: u64, end: u64) {
        for w in &self.ways_back {
            if (addr..end).contains(&(w.load(Relaxed) >> 14)) {
                w.store(0, SeqCst);
            }
        }
    }
    /// What has been at `addr` to `end` is there no longer. With the process's map locked.
    pub(crate) fn forget(&self, addr: u64, end: u64) {
        self.forget_ways(addr, end);
        self.forget_kept(addr, end);
        for e in self.exchanged.lock().iter_mut() {
            if (addr..end).contains(&e.addr) && e.live {
                e.live = false;
                self.moves.fetch_add(1, SeqCst);
            }
        }
    }
    /// Nobody is in a trampoline any more, and nothing is exchanged.
    pub(crate) fn clear(&self) {
        self.exchanged.lock().clear();
        self.room.clear();
    }
    /// For a process that is empty now.
    pub(crate) fn reset(&self) {
        self.off.store(false, Relaxed);
        self.whys.store(0, Relaxed);
        self.news.store(0, Relaxed);
        self.evict.store(false, SeqCst);
        self.forget(0, u64::MAX);
        self.clear();
        if self.traps.iter().any(|t| t.load(Relaxed) != 0) {
            self.traps.iter().for_each(|t| t.store(0, Relaxed));
        }
    }
    /// A call in `page` has trapped. Whether it is time to do something about it.
    pub(crate) fn is_warm(&self, page: u64) -> bool {
        let i = (page >> 12) as usize % self.traps.len();
        let n = self.traps[i].load(Relaxed).saturating_add(1);
        self.traps[i].store(n, Relaxed);
        n >= WARM && !self.off.load(Relaxed)
    }
    /// Whether this process keeps its sites.
    pub(crate) fn is_off(&self) -> bool {
        self.off.load(Relaxed)
    }
    /// No page of this process is exchanged from now on. Returns whether that is news.
    pub(crate) fn turn_off(&self, why: Why) -> bool {
        let news = !self.off.swap(true, Relaxed);
        if news {
            self.tell(why);
        }
        news
    }
    /// Has the log say why calls trap, the first time.
    pub(crate) fn tell(&self, why: Why) {
        let bit = 1 << why as u8;
        if self.whys.fetch_or(bit, Relaxed) & bit == 0 {
            self.news.fetch_or(bit, Relaxed);
        }
    }
    /// What has not been told yet, a line at a time.
    pub(crate) fn notice(&self) -> Option<&'static str> {
        let news = self.news.load(Relaxed);
        if news == 0 {
            return None;
        }
        let why = news.trailing_zeros();
        self.news.fetch_and(!(1 << why), Relaxed);
        TEXTS.get(why as usize).copied()
    }
    /// Whether any page is or was exchanged.
    pub(crate) fn has_exchanged(&self) -> bool {
        !self.exchanged.lock().is_empty()
    }
    /// Whether no other page can be.
    pub(crate) fn is_full(&self) -> bool {
        self.exchanged.lock().len() >= PAGES
    }
    /// Whether any page was exchanged and has gone.
    pub(crate) fn has_gone(&self) -> bool {
        self.exchanged.lock().iter().any(|e| !e.live)
    }
    /// Forgets the pages that have gone: nobody is in their trampolines any more.
    pub(crate) fn bury(&self) {
        let mut exchanged = self.exchanged.lock();
        for i in (0..exchanged.len()).rev() {
            if !exchanged[i].live {
                exchanged.remove_range(i, i + 1);
            }
        }
    }
    /// What the page at `addr` is or was exchanged for.
    pub(crate) fn exchanged_at(&self, addr: u64) -> Option<Exchanged> {
        let exchanged = self.exchanged.lock();
        exchanged.iter().find(|e| e.addr == addr).copied()
    }
    /// The page at `addr` becomes the copy of page `page`.
    pub(crate) fn note(&self, addr: u64, page: u32) {
        let new = Exchanged {
            addr,
            page,
            live: true,
        };
        let mut exchanged = self.exchanged.lock();
        match exchanged.iter_mut().find(|e| e.addr == addr) {
            Some(e) => *e = new,
            None => exchanged.push(new),
        }
    }
}
