//! Rewriting call sites: copies of pages with jumps in them, beside the pristine frames.
//!
//! A page with a site has a copy and a page of trampolines in the *text file*. Both
//! depend on the page's contents only, so all processes use them, and what has been found out about
//! a page stays with its frame. A page gets a new copy for each new site; trampolines are added in
//! place. A process maps the copy over the page when calls there have trapped [`WARM`](super::heat) times, the
//! trampolines [`REACH`] above it, beyond the guest's end or in [`Room`] that the guest leaves. So no byte is ever changed where a thread may be: the host
//! exchanges the page on all CPUs before its call returns, and a thread goes on at the same address in
//! the other page. If that is within a jump, it gets SIGILL ([`crate::x86_64::patch`]) and a *detour*.
//!
//! Registers that the kernel sees are never those within a trampoline: [`KmlEngine::leave_trampoline`].
//! Reads of the file, and the page tables, know the pristine frame only. The descriptor
//! cannot write, so no change of rights can either.

use super::KmlEngine;
use super::heat::Why;
use super::process::Process;
use super::space::Space;
use super::thread::Thread;
use crate::engine::tlb::Tlb;
use crate::lock::HostLock;
use crate::sysvec::SysVec;
use crate::x86_64::patch::{self, BEFORE, BEHIND, REACH, Room, Seen, Site};
use crate::x86_64::regs::*;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32};
use hal::cpu::mode;
use hal::{PAGE_SIZE, Pfn, Prot, USER_END, UserContext};
use host_sys::{Errno, fd, mem};

/// Where the text file is mapped, for the kernel.
const TEXT: usize = 0x6380_0000_0000;
/// Frames of the text file.
const FRAMES: usize = 1 << 16;
const PAGE: u64 = PAGE_SIZE as u64;
const MASK: u64 = PAGE - 1;
/// Rights of pages with sites.
const CODE: Prot = Prot::READ.union(Prot::EXEC);
/// Sites of a page at most, and calls in it that are known to be none.
const SITES: usize = 48;
const REFUSED: usize = 8;

/// Descriptor of the text file that cannot write.
static TEXT_FD: AtomicI32 = AtomicI32::new(-1);

/// Makes the text file. Early: reaches it by a name.
pub(super) fn open_text() -> host_sys::Result {
    const MFD_EXEC: u32 = 0x10;
    let name = c"lodger-text";
    let file = fd::memfd_create(name, libc::MFD_CLOEXEC | MFD_EXEC)
        .or_else(|_| fd::memfd_create(name, libc::MFD_CLOEXEC))?;
    fd::ftruncate(file, (FRAMES * PAGE_SIZE) as u64)?;
    let path = format!("/proc/self/fd/{file}\0");
    let path = core::ffi::CStr::from_bytes_with_nul(path.as_bytes()).map_err(|_| Errno::EINVAL)?;
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE;
    // SAFETY: NOREPLACE: nothing that exists is replaced.
    let at = unsafe { mem::mmap(TEXT, FRAMES * PAGE_SIZE, prot, flags, file, 0) }?;
    if at != TEXT {
        return Err(Errno::EEXIST);
    }
    let read_only = fd::open(path, libc::O_RDONLY | libc::O_CLOEXEC, 0)?;
    fd::close(file);
    TEXT_FD.store(read_only, Relaxed);
    Ok(())
}

/// What is known of one page.
#[derive(Clone, Copy)]
struct Page {
    /// In the text file; `u32::MAX` = not yet.
    copy: u32,
    trampolines: u32,
    sites: u8,
    list: [Site; SITES],
    refused: [u16; REFUSED],
}

impl Page {
    const NEW: Page = Page {
        copy: u32::MAX,
        trampolines: u32::MAX,
        sites: 0,
        list: [Site::NONE; SITES],
        refused: [u16::MAX; REFUSED],
    };
    fn sites(&self) -> &[Site] {
        self.list.get(..self.sites as usize).unwrap_or(&[])
    }
    fn refuse(&mut self, at: usize) {
        if let Some(r) = self.refused.iter_mut().find(|r| **r == u16::MAX) {
            *r = at as u16;
        }
    }
}

struct Text {
    used: u32,
    pages: SysVec<Page>,
    /// A page with what is around it.
    scratch: [u8; BEFORE + PAGE_SIZE + BEHIND],
}

/// All rewritten pages of the machine.
pub(crate) struct Patches {
    text: HostLock<Text>,
    /// Number of the page with sites of each frame, from 1; 0 = none.
    by_frame: &'static [AtomicU32],
    on: AtomicBool,
}

fn frame(n: u32) -> &'static mut [u8] {
    let p: *mut u8 = core::ptr::with_exposed_provenance_mut(TEXT + n as usize * PAGE_SIZE);
    // SAFETY: within the mapped text file; frames are handed out once, and
    // the kernel's accesses are under the text's lock.
    unsafe { core::slice::from_raw_parts_mut(p, PAGE_SIZE) }
}

/// The bytes of a guest's frame.
fn bytes(pfn: Pfn) -> &'static [u8] {
    // SAFETY: a frame that a user process has mapped; others may write
    // there, as to any memory of a guest: what counts is copied once.
    unsafe { core::slice::from_raw_parts(pfn.as_ptr(), PAGE_SIZE) }
}

impl Text {
    fn take(&mut self) -> Option<u32> {
        let n = self.used;
        if n as usize >= FRAMES {
            return None;
        }
        self.used += 1;
        Some(n)
    }

    /// Whether the copy is still that of `pristine`.
    fn is_current(p: &Page, pristine: &[u8]) -> bool {
        if p.copy == u32::MAX {
            return false;
        }
        let copy = frame(p.copy);
        let same = |i: usize| {
            let old = p.sites().iter().find_map(|s| s.original(i));
            old.unwrap_or(copy[i]) == pristine[i]
        };
        copy.chunks(64)
            .zip(pristine.chunks(64))
            .enumerate()
            .all(|(c, (a, b))| {
                a == b
                    && !p
                        .sites()
                        .iter()
                        .any(|s| s.start as usize / 64 == c || (s.start as usize + 4) / 64 == c)
                    || (c * 64..c * 64 + 64).all(same)
            })
    }

    /// Adds the site with the `syscall` at `at` of `page`, whose bytes are `pristine`, to it.
    fn add(
        &mut self,
        page: &mut Page,
        around: [Option<Pfn>; 2],
        pristine: &[u8],
        at: usize,
        seen: &dyn Seen,
    ) -> Option<()> {
        if page.sites as usize >= SITES {
            return None;
        }
        let (before, behind) = (around[0].map(bytes), around[1].map(bytes));
        let s = &mut self.scratch;
        s[BEFORE..BEFORE + PAGE_SIZE].copy_from_slice(pristine);
        let (mut from, mut to) = (BEFORE, BEFORE + PAGE_SIZE);
        if let Some(b) = before {
            s[..BEFORE].copy_from_slice(&b[PAGE_SIZE - BEFORE..]);
            from = 0;
        }
        if let Some(b) = behind {
            s[to..to + BEHIND].copy_from_slice(&b[..BEHIND]);
            to += BEHIND;
        }
        let site = patch::plan(&s[from..to], BEFORE - from, BEFORE - from + at, seen)?;
        let site = patch::place(site, page.sites())?;
        if page.trampolines == u32::MAX {
            page.trampolines = self.take()?;
            frame(page.trampolines).fill(0xcc);
        }
        let copy = self.take()?;
        let new = frame(copy);
        let pristine = &self.scratch[BEFORE..BEFORE + PAGE_SIZE];
        site.write(pristine, frame(page.trampolines));
        new.copy_from_slice(pristine);
        page.list[page.sites as usize] = site;
        page.sites += 1;
        for s in page.sites() {
            let start = s.start as usize;
            new[start..start + patch::JUMP].copy_from_slice(&s.jump());
        }
        page.copy = copy;
        Some(())
    }
}

impl Patches {
    pub(crate) fn new(frames: u64, on: bool) -> Patches {
        patch::prepare();
        Patches {
            text: HostLock::new(Text {
                used: 0,
                pages: SysVec::new(),
                scratch: [0; _],
            }),
            by_frame: crate::sysvec::leak_slice(frames as usize, |_| AtomicU32::new(0)),
            on: AtomicBool::new(on && TEXT_FD.load(Relaxed) >= 0),
        }
    }

    /// Whether another process has met the site whose `syscall` is at `at` of frame `pfn`: then no more traps are waited for.
    fn knows(&self, pfn: Pfn, at: usize) -> bool {
        let entry = self.by_frame.get(pfn.0 as usize);
        let page = entry.and_then(|e| e.load(Relaxed).checked_sub(1));
        let same = |s: &Site| (s.syscall() == at).then_some(());
        page.is_some_and(|i| self.find(i, same).is_some())
    }

    /// What there is of the page in frame `pfn`, with the site whose `syscall` is at `at`. `None`: it is none.
    fn with_site(
        &self,
        pfn: Pfn,
        around: [Option<Pfn>; 2],
        at: usize,
        seen: &dyn Seen,
    ) -> Option<(u32, Page)> {
        let entry = self.by_frame.get(pfn.0 as usize)?;
        let pristine = bytes(pfn);
        let mut text = self.text.lock();
        let known = (entry.load(Relaxed) as usize).checked_sub(1);
        let known = known.and_then(|i| Some((i, *text.pages.get(i)?)));
        let known = known.filter(|(_, p)| Text::is_current(p, pristine));
        let (i, mut page) = match known {
            Some((i, p)) if p.sites().iter().any(|s| s.syscall() == at) => {
                return Some((i as u32, p));
            }
            Some((_, p)) if p.refused.contains(&(at as u16)) => return None,
            Some((i, p)) => (Some(i), p),
            None => (None, Page::NEW),
        };
        let added = text.add(&mut page, around, pristine, at, seen);
        if added.is_none() {
            page.refuse(at);
            if page.copy == u32::MAX {
                // Nothing but the knowledge that there is nothing.
                page.copy = text.take()?;
                frame(page.copy).copy_from_slice(pristine);
            }
        }
        let i = match i {
            Some(i) => i,
            None => {
                text.pages.push(page);
                entry.store(text.pages.len() as u32, Relaxed);
                text.pages.len() - 1
            }
        };
        *text.pages.get_mut(i)? = page;
        added.map(|()| (i as u32, page))
    }

    fn find<T>(&self, page: u32, f: impl FnMut(&Site) -> Option<T>) -> Option<T> {
        let text = self.text.lock();
        text.pages.get(page as usize)?.sites().iter().find_map(f)
    }
}

/// Maps page `n` of the text file at `addr`.
fn map_text(addr: u64, n: u32) -> host_sys::Result<usize> {
    let rights = libc::PROT_READ | libc::PROT_EXEC;
    let flags = libc::MAP_SHARED | libc::MAP_FIXED;
    let (fd, offset) = (TEXT_FD.load(Relaxed), u64::from(n) * PAGE_SIZE as u64);
    // SAFETY: beyond what guests have, or a guest's page that gets the same code.
    unsafe { mem::mmap(addr as usize, PAGE_SIZE, rights, flags, fd, offset) }
}

/// What a call of guest code has found.
struct Caller<'a> {
    cx: &'a UserContext,
    map: &'a Tlb,
}

impl Seen for Caller<'_> {
    fn rip(&self) -> u64 {
        self.cx.gp[RIP]
    }
    fn register(&self, n: patch::Register) -> Option<u64> {
        // As the CPU numbers them. A call changes rcx and r11.
        const NONE: usize = usize::MAX;
        const WORDS: [usize; 16] = [
            RAX, NONE, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, NONE, R12, R13, R14, R15,
        ];
        let word = WORDS.get(n.number()).filter(|_| n.is_gpr64())?;
        self.cx.gp.get(*word).copied()
    }
    fn memory(&self, addr: u64, len: usize) -> Option<u64> {
        let (pfn, prot) = self.map.at(addr)?;
        let at = (addr & MASK) as usize;
        let own = bytes(pfn)
            .get(at..at + len)
            .filter(|_| prot.contains(Prot::READ))?;
        let mut v = [0; 8];
        v.get_mut(..len)?.copy_from_slice(own);
        Some(u64::from_le_bytes(v))
    }
}

/// Whether trampolines may come to `to`: beyond the guest's end, or where the guest has nothing, and no change of
/// mappings from before, done or not. With the map locked, as for [`KmlEngine::evict`].
fn has_room(space: &Space, map: &Tlb, to: u64) -> bool {
    if to >= USER_END {
        return true;
    }
    let start = to & !(Room::CHUNK - 1);
    let end = start + Room::CHUNK;
    if !space.queue.is_empty() {
        return false;
    }
    let heat = &space.process.heat;
    let known = heat.room.contains(to);
    // First noted, then asked: who maps something there after the answer finds the note.
    if !map.is_free(start, end) || !known && !heat.room.replace(0, start) {
        heat.tell(Why::NoRoom);
        return false;
    }
    if known {
        return true;
    }
    let vacant = space.allows(Why::NoRoom, |g| g.is_vacant(start, end));
    if !vacant {
        heat.room.replace(start, 0);
    }
    vacant
}

impl KmlEngine {
    /// In this process: takes all trampolines away, since the guest gets something where they are.
    pub(crate) fn evict(&self, p: &Process, map: &mut Tlb) {
        p.drop_all(map);
        self.settle(p);
        p.heat.clear();
    }

    /// In this process, from now on, all calls trap.
    pub(crate) fn restore_sites(&self, space: &Space, why: Why) {
        let p = space.process;
        if p.heat.turn_off(why) && p.heat.has_exchanged() {
            p.drop_all(&mut p.map.lock());
        }
    }

    /// A call of guest code in this process has trapped: next time it may be a jump.
    pub(crate) fn consider(&self, space: &Space, cx: &UserContext) {
        let (rip, p) = (cx.gp[RIP], space.process);
        let at = rip.wrapping_sub(2);
        let addr = at & !MASK;
        if addr >= USER_END || !self.patches.on.load(Relaxed) || p.heat.keeps(rip) {
            return;
        }
        let warm = p.heat.is_warm(addr);
        let mut map = p.map.lock();
        let frame_at = |a: u64| map.at(a).filter(|m| m.1 == CODE).map(|m| m.0);
        let Some(pfn) = frame_at(addr) else {
            return;
        };
        let around = [
            frame_at(addr.wrapping_sub(PAGE)),
            frame_at(addr.wrapping_add(PAGE)),
        ];
        let at = (at & MASK) as usize;
        let worth = !p.heat.is_off() && (warm || self.patches.knows(pfn, at));
        if !worth || !has_room(space, &map, addr + REACH) {
            return;
        }
        // The map stays locked until the page is exchanged: if the kernel takes it away again, it does so after that.
        if !space.allows(Why::Writers, |g| g.is_steady(addr)) {
            return;
        }
        let found = self
            .patches
            .with_site(pfn, around, at, &Caller { cx, map: &map });
        match found {
            Some((page, info)) => self.exchange(p, &mut map, addr, pfn, page, &info),
            None => {
                p.heat.keep(rip);
                p.heat.tell(Why::Sites);
            }
        }
    }

    /// In this process: exchanges the page at `addr`, which is frame `pfn`, for the copy of page `page`.
    fn exchange(&self, p: &Process, map: &mut Tlb, addr: u64, pfn: Pfn, page: u32, info: &Page) {
        match p.heat.exchanged_at(addr) {
            Some(old) if old.page != page => {
                // Other trampolines come to where threads may be in the old ones.
                p.heat.forget(addr, addr + PAGE);
                if self.map_pristine(addr, pfn).is_err() {
                    p.heat.turn_off(Why::NoMappings);
                    return p.drop_all(map);
                }
                self.settle(p);
            }
            None if p.heat.is_full() => {
                if !p.heat.has_gone() {
                    return p.heat.tell(Why::Pages);
                }
                // Nobody gets into the trampolines of pages that have gone.
                self.settle(p);
                p.heat.bury();
            }
            _ => {}
        }
        // It is noted before any thread can get into the trampolines.
        let to = addr + REACH;
        let mut done = map_text(to, info.trampolines);
        if done.is_ok() {
            p.heat.note(addr, page);
            done = map_text(addr, info.copy);
        }
        if done.is_err() {
            // The host has removed what was there, and has no room for more.
            p.heat.turn_off(Why::NoMappings);
            return p.drop_all(map);
        }
        for (rip, slot) in info.sites().iter().filter_map(Site::way_back) {
            p.heat.add_way_back(addr + rip as u64, to + slot as u64);
        }
    }

    fn map_pristine(&self, addr: u64, pfn: Pfn) -> host_sys::Result<usize> {
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        let (at, prot) = (addr as usize, CODE.bits() as i32);
        // SAFETY: what the guest has there.
        unsafe { mem::mmap(at, PAGE_SIZE, prot, flags, self.mem_fd, pfn.file_offset()) }
    }

    /// Waits until every thread of process `p` that runs guest code has been met outside
    /// of all trampolines, or has left guest code with its registers translated. The caller
    /// has seen to it that nobody gets into those in question again.
    ///
    /// With the process's map locked. The wait ends: while a vCPU's mode is USER, its thread is in
    /// guest code, or in straight code of the kernel on the way there or back, which takes no lock but the
    /// list's, a short one that the caller does not hold, or in a system call. Kicks are never blocked: the
    /// first one that finds the thread in guest code or on the last part of the way there is counted in `met`, or
    /// takes it out of a trampoline, and the mode changes; so it does when one finds a system call
    /// ([`set_in_call`](crate::x86_64::kml::Block::set_in_call)). A thread that comes and goes between
    /// two looks has another number of runs; one whose vCPU has gone on in another process has left guest code, and is
    /// not waited for, since the mode is that one's. In mode KERNEL a thread may well wait for the caller's lock.
    fn settle(&self, p: &Process) {
        for v in self.vcpus {
            let Some(cpu) = v.cpu_block() else { continue };
            let here = |t: &&Thread| t.process().is_some_and(|q| core::ptr::eq(p, q));
            let Some(t) = v.try_current().filter(here) else {
                continue;
            };
            let Some(block) = t.block() else { continue };
            let (met, runs) = (block.met.load(SeqCst), t.runs());
            let is_there = || v.try_current().is_some_and(|c| core::ptr::eq(c, t));
            while cpu.mode.load(SeqCst) == mode::USER
                && is_there()
                && block.met.load(SeqCst) == met
                && t.runs() == runs
            {
                t.kick();
                host_sys::time::sleep_ns(20_000);
            }
        }
    }

    /// If the registers are those within a trampoline: sets rip to the instruction of the guest's. Returns where it was.
    /// Still in user mode, for [`KmlEngine::settle`].
    pub(crate) fn leave_trampoline(&self, space: &Space, cx: &mut UserContext) -> Option<u64> {
        let rip = cx.gp[RIP];
        if !space.process.heat.room.contains(rip) {
            return None;
        }
        let addr = (rip & !MASK) - REACH;
        let page = space.process.heat.exchanged_at(addr)?.page;
        let at = (rip & MASK) as usize;
        let to = self.patches.find(page, |s| s.outside(at))?;
        cx.gp[RIP] = addr + to as u64;
        Some(rip)
    }

    /// Where to go on for a thread that has met an invalid instruction at `rip`, if that is
    /// in a jump: the same instruction in the trampoline. Holds as long as [`moves`](super::heat::Heat::moves) is what is returned, too.
    pub(crate) fn detour(&self, space: &Space, rip: u64) -> Option<(u64, u32)> {
        let (addr, heat) = (rip & !MASK, &space.process.heat);
        let _map = space.process.map.lock();
        let moves = heat.moves.load(SeqCst);
        let page = heat.exchanged_at(addr).filter(|e| e.live)?.page;
        let at = (rip & MASK) as usize;
        let to = self.patches.find(page, |s| s.inside(at))?;
        Some((addr + REACH + to as u64, moves))
    }
}
