//! Rewritten call sites of the engine `kml`: which bytes are one, and what is put there.
//!
//! A site is a `syscall` that has trapped. The instructions before it that make up five
//! bytes, the *span*, become a jump to a trampoline, which holds them, puts the
//! return address into rcx, and jumps to the kernel's entry. The `syscall` stays where the
//! span is long enough without it: whoever jumps to it traps as before.
//!
//! Where less than three bytes can go before the `syscall`, the jump covers that and the instruction
//! behind it, and the call returns into the trampoline, which executes that one and jumps back.
//!
//! Only a jump's first byte is ever a place where code goes on by design. Whoever gets to
//! another instruction of the span (a thread that was between two of them, a jump, a
//! return from a signal handler) must not execute the rest of the jump. Trampolines lie where
//! the jump has a byte at every such place that no instruction starts with: that gives
//! SIGILL, and the engine goes on at the same instruction in the trampoline.

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use hal::{PAGE_SIZE, USER_END};
use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction};

mod evidence;

pub(crate) use evidence::Seen;
pub(crate) use iced_x86::Register;

/// How far above a page its trampolines lie. The upper two bytes of every jump's distance
/// are 60 06, neither of which starts an instruction.
pub(crate) const REACH: u64 = 0x6006_1000;
/// Bytes of a jump.
pub(crate) const JUMP: usize = 5;
/// Bytes of a trampoline behind the instructions of the span: `lea rcx`, `jmp gs:[32]`.
const TAIL: usize = 15;
/// The last instruction of a trampoline.
const LEAVE: [u8; 8] = [0x65, 0xff, 0x24, 0x25, 32, 0, 0, 0];
/// Bytes before a `syscall` from which it is decoded, at most and at least.
const FROM: usize = 88;
const UP_TO: usize = 40;
/// Code behind data begins at multiples of so many bytes.
const ALIGN: usize = 8;
/// Bytes of a span at most.
const SPAN: usize = 24;
/// Bytes of context that [`plan`] likes to have before a page and behind it.
pub(crate) const BEFORE: usize = FROM;
pub(crate) const BEHIND: usize = 16;

/// Where a process's trampolines are: beyond the guest's end, and in chunks below it that the guest has nothing in.
pub(crate) struct Room {
    /// Starts of chunks, up to the first 0.
    chunks: [AtomicU64; 16],
}

impl Room {
    /// Bytes of a chunk, and its alignment.
    pub(crate) const CHUNK: u64 = 2 << 20;

    pub(crate) const fn new() -> Room {
        Room {
            chunks: [const { AtomicU64::new(0) }; 16],
        }
    }
    /// Whether `ip` is where trampolines are. Also in signal context.
    pub(crate) fn contains(&self, ip: u64) -> bool {
        let chunk = ip & !(Room::CHUNK - 1);
        (USER_END..USER_END + REACH).contains(&ip) || self.used().any(|c| c == chunk)
    }
    fn used(&self) -> impl Iterator<Item = u64> {
        let starts = self.chunks.iter().map(|c| c.load(SeqCst));
        starts.take_while(|c| *c != 0)
    }
    /// Whether any chunk overlaps `start..end`.
    pub(crate) fn overlaps(&self, start: u64, end: u64) -> bool {
        self.used().any(|c| c < end && start < c + Room::CHUNK)
    }
    /// Puts `new` for the first chunk that is `old`. Returns whether there was one. With the process's
    /// map locked; only what was added last is removed, so there are no gaps.
    pub(crate) fn replace(&self, old: u64, new: u64) -> bool {
        let change = |c: &AtomicU64| c.compare_exchange(old, new, SeqCst, SeqCst).is_ok();
        self.chunks.iter().any(change)
    }
    pub(crate) fn clear(&self) {
        self.chunks.iter().for_each(|c| c.store(0, SeqCst));
    }
}

/// Whether the code at `ip` leaves a trampoline.
///
/// # Safety
/// The instruction there has been fetched.
pub(crate) unsafe fn leaves(ip: u64) -> bool {
    let p: *const [u8; 8] = core::ptr::with_exposed_provenance(ip as usize);
    // SAFETY: what is fetched can be read; it is read only as far as it is equal, so
    // not beyond the one instruction.
    unsafe { (0..8).all(|i| p.cast::<u8>().add(i).read_volatile() == LEAVE[i]) }
}

/// Makes what the decoder makes once.
pub(crate) fn prepare() {
    let mut d = Decoder::new(64, &[0x90], DecoderOptions::NONE);
    assert!(d.decode().code() == Code::Nopd);
}

/// A site of a page. Offsets are those in the page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Site {
    pub(crate) start: u16,
    /// Bytes up to the `syscall`.
    pub(crate) len: u8,
    /// Bit `k`: an instruction starts at `start + k`.
    borders: u32,
    /// Bytes of the instruction behind the `syscall` if the jump covers that too.
    behind: u8,
    /// Where in the span the one displacement relative to rip is, 0 = none.
    relative: u8,
    /// What the jump replaces.
    old: [u8; JUMP],
    /// Where in the page of trampolines.
    pub(crate) slot: u16,
}

impl Site {
    /// For a table's free rows.
    pub(crate) const NONE: Site = Site {
        start: 0,
        len: 0,
        borders: 0,
        behind: 0,
        relative: 0,
        old: [0; JUMP],
        slot: 0,
    };
    /// What the page has where the jump is.
    pub(crate) fn original(&self, at: usize) -> Option<u8> {
        let k = at.checked_sub(self.start as usize)?;
        self.old.get(k).copied()
    }
    /// Bytes of its trampoline.
    fn size(&self) -> usize {
        let back = if self.behind > 0 { JUMP } else { 0 };
        self.len as usize + TAIL + self.behind as usize + back
    }
    /// Where the call returns to if that is in the trampoline: offsets in the page and among the trampolines.
    pub(crate) fn way_back(&self) -> Option<(usize, usize)> {
        let len = self.len as usize;
        (self.behind > 0).then(|| (self.syscall() + 2, self.slot as usize + len + TAIL))
    }
    /// Offset of its `syscall`.
    pub(crate) fn syscall(&self) -> usize {
        self.start as usize + self.len as usize
    }
    /// For an instruction of the span that the jump covers, not the first: its place among the trampolines.
    pub(crate) fn inside(&self, at: usize) -> Option<usize> {
        let k = at.checked_sub(self.start as usize)?;
        (1..JUMP).contains(&k).then_some(())?;
        (self.borders >> k & 1 == 1).then_some(())?;
        let over = if k > self.len as usize { TAIL - 2 } else { 0 };
        Some(self.slot as usize + k + over)
    }
    /// For a place in its trampoline: the instruction of the page.
    pub(crate) fn outside(&self, at: usize) -> Option<usize> {
        let k = at.checked_sub(self.slot as usize)?;
        let len = self.len as usize;
        let to = match k.checked_sub(len + TAIL) {
            None => k.min(len),
            Some(0) => len + 2,
            Some(_) => len + 2 + self.behind as usize,
        };
        (k < self.size()).then_some(self.start as usize + to)
    }
    /// The jump, with the trampoline at `slot`.
    fn jump_to(start: usize, slot: usize) -> [u8; JUMP] {
        let rel = (REACH as usize + slot) as i64 - (start + JUMP) as i64;
        let r = (rel as i32).to_le_bytes();
        [0xe9, r[0], r[1], r[2], r[3]]
    }
    /// The jump to the trampoline.
    pub(crate) fn jump(&self) -> [u8; JUMP] {
        Site::jump_to(self.start as usize, self.slot as usize)
    }
    /// Writes the trampoline into its page; `page` is what the site is in.
    pub(crate) fn write(&self, page: &[u8], trampolines: &mut [u8]) {
        let (start, len) = (self.start as usize, self.len as usize);
        let mut code = [0u8; SPAN + TAIL + 16 + JUMP];
        code[..len].copy_from_slice(&page[start..start + len]);
        let shift = REACH as i64 + i64::from(self.slot) - start as i64;
        if self.relative != 0 {
            let at = self.relative as usize;
            let mut d = [0; 4];
            d.copy_from_slice(&code[at..at + 4]);
            let new = i64::from(i32::from_le_bytes(d)) - shift;
            code[at..at + 4].copy_from_slice(&(new as i32).to_le_bytes());
        }
        // lea rcx, [rip + distance to the instruction behind the site]
        let back = (len + 2) as i64 - (len + 7) as i64 - shift;
        code[len..len + 3].copy_from_slice(&[0x48, 0x8d, 0x0d]);
        code[len + 3..len + 7].copy_from_slice(&(back as i32).to_le_bytes());
        code[len + 7..len + TAIL].copy_from_slice(&LEAVE);
        if self.behind > 0 {
            let (at, n) = (len + TAIL, self.behind as usize);
            code[at..at + n].copy_from_slice(&page[start + len + 2..start + len + 2 + n]);
            let back = (len + 2 + n) as i64 - (at + n + JUMP) as i64 - shift;
            code[at + n] = 0xe9;
            code[at + n + 1..at + n + JUMP].copy_from_slice(&(back as i32).to_le_bytes());
        }
        let slot = self.slot as usize;
        trampolines[slot..slot + self.size()].copy_from_slice(&code[..self.size()]);
    }
}

/// Bytes that start no instruction in 64-bit mode.
fn is_invalid(b: u8) -> bool {
    [
        0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x60, 0x61, 0x9a, 0xce,
        0xd4, 0xd5, 0xd6, 0xea,
    ]
    .contains(&b)
}

/// Finds room for the trampoline of `s` beside those of `sites`. `None`: there is none, or its jump would lie over one of theirs.
pub(crate) fn place(mut s: Site, sites: &[Site]) -> Option<Site> {
    let near = |o: &Site| usize::from(o.start.abs_diff(s.start)) < JUMP;
    if sites.iter().any(near) {
        return None;
    }
    let fits = |slot: usize| {
        let j = Site::jump_to(s.start as usize, slot);
        let borders = (1..JUMP).all(|k| s.borders >> k & 1 == 0 || is_invalid(j[k]));
        let size = s.size();
        borders
            && sites
                .iter()
                .all(|o| slot + size <= o.slot as usize || o.slot as usize + o.size() <= slot)
    };
    s.slot = (0..=PAGE_SIZE - s.size()).find(|&o| fits(o))? as u16;
    Some(s)
}

/// Decodes from `from` on. Bit `k`: an instruction starts `k` bytes before the `syscall` at `to`.
/// `None`: not code, or it misses the `syscall`.
fn chain(
    code: &[u8],
    from: usize,
    to: usize,
    mut each: impl FnMut(&Decoder<'_>, &Instruction, usize),
) -> Option<u64> {
    let mut d = Decoder::with_ip(64, code.get(from..to)?, from as u64, DecoderOptions::NONE);
    let mut i = Instruction::default();
    let mut starts = 0;
    while d.can_decode() {
        let at = from + d.position();
        d.decode_out(&mut i);
        if i.is_invalid() || is_filler(&i, code.get(at..at + 2)?) {
            return None;
        }
        if to - at < 64 {
            starts |= 1 << (to - at);
        }
        each(&d, &i, at);
    }
    Some(starts)
}

/// Whether this is rather what lies between functions: zeros, breakpoints, what programs
/// may not do. Where the next function starts it does not tell.
fn is_filler(i: &Instruction, bytes: &[u8]) -> bool {
    bytes == [0, 0] || i.code() == Code::Int3 || i.is_privileged()
}

/// The site from `start` on, one movable instruction before the `syscall`, that includes the one behind it.
fn with_next(code: &[u8], page: usize, at: usize, start: usize) -> Option<Site> {
    let mut d = Decoder::with_ip(64, code.get(at + 2..)?, at as u64 + 2, DecoderOptions::NONE);
    let next = d.decode();
    let (len, behind) = (at - start, next.len());
    let movable = !next.is_invalid() && is_movable(&next) && !next.is_ip_rel_memory_operand();
    let inside = start >= page && at + 2 + behind <= page + PAGE_SIZE;
    if !movable || !inside || len + 2 + behind < JUMP || len + 2 >= JUMP {
        return None;
    }
    let mut old = [0; JUMP];
    old.copy_from_slice(code.get(start..start + JUMP)?);
    Some(Site {
        start: (start - page) as u16,
        len: len as u8,
        borders: 1 | 1 << len | 1 << (len + 2) | 1 << (len + 2 + behind),
        behind: behind as u8,
        old,
        ..Site::NONE
    })
}

/// The site that is nothing but `mov eax, imm32; syscall`, where no more is known than the number `rax` that it was
/// called with.
fn plain(code: &[u8], page: usize, at: usize, rax: u64) -> Option<Site> {
    let start = at.checked_sub(JUMP)?;
    // What the bytes before show: not the tail of a longer instruction, one with a REX
    // prefix, or one with a displacement of one byte and a constant.
    let head = code.get(start.checked_sub(3)?..start)?;
    let longer = [head[0], head[1]];
    if head[2] & 0xf0 == 0x40 || longer.iter().any(|b| [0xc7, 0x81, 0x69, 0xf7].contains(b)) {
        return None;
    }
    let mut old = [0; JUMP];
    old.copy_from_slice(code.get(start..at)?);
    let number = u32::from_le_bytes([old[1], old[2], old[3], old[4]]);
    let fits = start >= page && start + JUMP <= page + PAGE_SIZE;
    (fits && old[0] == 0xb8 && u64::from(number) == rax).then_some(Site {
        start: (start - page) as u16,
        len: JUMP as u8,
        borders: 1 | 1 << JUMP,
        old,
        ..Site::NONE
    })
}

/// Whether the instruction does the same elsewhere, `relative` to rip or not.
fn is_movable(i: &Instruction) -> bool {
    let gs = i.segment_prefix() == Register::GS;
    let bases = matches!(
        i.code(),
        Code::Wrgsbase_r32 | Code::Wrgsbase_r64 | Code::Popfq | Code::Popfw
    );
    i.flow_control() == FlowControl::Next && !gs && !bases
}

/// Plans the site whose `syscall` is at `at` of `code` and has found `seen`. The page starts at `code[page]`;
/// what is before and behind it are the pages there, as far as they are known to be code.
pub(crate) fn plan(code: &[u8], page: usize, at: usize, seen: &dyn Seen) -> Option<Site> {
    if code.get(at..at + 2)? != [0x0f, 0x05] {
        return None;
    }
    let rax = seen.register(Register::RAX).unwrap_or(u64::MAX);
    decoded(code, page, at, rax, seen).or_else(|| plain(code, page, at, rax))
}

/// Whether what lies from `p` up to the `syscall` puts the number into rax that it was called with: hardly data.
fn sets(code: &[u8], p: usize, at: usize, rax: u64) -> bool {
    match code.get(p..at) {
        Some(&[0xb8, a, b, c, d]) => rax == u64::from(u32::from_le_bytes([a, b, c, d])),
        Some([0x31, 0xc0]) => rax == 0,
        _ => false,
    }
}

/// Places where code may begin behind data, as far as they decode up to the `syscall`: with what [`chain`] tells.
fn entries(code: &[u8], page: usize, at: usize) -> [Option<(usize, u64)>; FROM / ALIGN + 1] {
    let first = at.saturating_sub(FROM);
    let aligned = (first..at).filter(|q| q % ALIGN == page % ALIGN);
    let mut list = [None; _];
    for (e, q) in list.iter_mut().zip(aligned) {
        *e = chain(code, q, at, |_, _, _| {}).map(|starts| (q, starts));
    }
    list
}

/// As [`plan`], from what the decoding shows.
fn decoded(code: &[u8], page: usize, at: usize, rax: u64, seen: &dyn Seen) -> Option<Site> {
    // Of so many starts in a row, one is where an instruction really starts (none has more
    // than fifteen bytes), and from there on the decoding is the real one, which meets the `syscall`.
    // So a place where all that meet it agree is a real one.
    let first = at.saturating_sub(FROM);
    let last = at.checked_sub(UP_TO)?;
    if last < first + 16 {
        return None;
    }
    let mut common = u64::MAX;
    let mut any = None;
    for from in first..last {
        if let Some(starts) = chain(code, from, at, |_, _, _| {}) {
            common &= starts;
            any = Some(from);
        }
    }
    let from = any?;
    // The instructions behind which all agree, and the places that jumps nearby go to.
    let mut list = [(0usize, false, 0usize); 32];
    let mut n = 0;
    let mut instructions = [Instruction::default(); 32];
    let mut targets = [usize::MAX; 32];
    let mut t = 0;
    let mut note = |i: &Instruction| {
        if i.near_branch_target() != 0 && t < targets.len() {
            targets[t] = i.near_branch_target() as usize;
            t += 1;
        }
    };
    chain(code, from, at, |d, i, p| {
        note(i);
        if at - p > SPAN || common >> (at - p) & 1 == 0 || n >= list.len() {
            return;
        }
        let mut relative = 0;
        let mut movable = is_movable(i);
        if i.is_ip_rel_memory_operand() {
            let c = d.get_constant_offsets(i);
            // The distance after the move still has four bytes.
            let distance = i.memory_displacement64().wrapping_sub(i.next_ip()) as i64;
            movable &= i.memory_base() == Register::RIP
                && c.displacement_size() == 4
                && i32::try_from(distance - REACH as i64 - PAGE_SIZE as i64).is_ok();
            relative = c.displacement_offset();
        }
        list[n] = (p, movable, relative);
        instructions[n] = *i;
        n += 1;
    })?;
    let mut after = Decoder::with_ip(64, code.get(at..)?, at as u64, DecoderOptions::NONE);
    for _ in 0..24 {
        let i = after.decode();
        if i.is_invalid() {
            break;
        }
        note(&i);
    }
    let list = &list[..n];
    let moved = seen.rip().wrapping_sub(at as u64 + 2);
    let witness = evidence::first(&instructions[..n], moved, seen).map_or(at, |i| list[i].0);
    // What all agree about may still be data, and the code begin behind it, where they do not see it.
    let entries = entries(code, page, at);
    let is_real = |p: usize, borders: u64| {
        let agrees = |&(q, starts): &(usize, u64)| match q <= p {
            true => starts >> (at - p) & 1 == 1,
            false => borders >> (at - q) & 1 == 1,
        };
        sets(code, p, at, rax) || p >= witness && entries.iter().flatten().all(agrees)
    };
    let mut best: Option<(u32, Site)> = None;
    let mut borders = 0u64;
    let mut relative: Option<usize> = None;
    for &(p, movable, rel) in list.iter().rev() {
        let len = at - p;
        if !movable || p < page {
            break;
        }
        borders |= 1 << len;
        if rel != 0 {
            if relative.is_some() {
                break;
            }
            relative = Some(p + rel);
        }
        if len < 3 || !is_real(p, borders) {
            continue;
        }
        let whole = len >= JUMP;
        if p + JUMP > page + PAGE_SIZE {
            continue;
        }
        let mut old = [0; JUMP];
        old.copy_from_slice(code.get(p..p + JUMP)?);
        let mut starts = 0u32;
        for k in 0..=len {
            if borders >> (len - k) & 1 == 1 || k == len {
                starts |= 1 << k;
            }
        }
        let met = targets.iter().any(|t| (p + 1..p + JUMP).contains(t));
        let inner = (1..JUMP).filter(|k| starts >> k & 1 == 1).count() as u32;
        // Best: nobody jumps into it, the `syscall` stays, few instructions.
        let cost = u32::from(met) * 100 + u32::from(!whole) * 10 + inner;
        let site = Site {
            start: (p - page) as u16,
            len: len as u8,
            borders: starts,
            relative: relative.map_or(0, |r| (r - p) as u8),
            old,
            ..Site::NONE
        };
        if best.is_none_or(|(c, _)| cost < c) {
            best = Some((cost, site));
        }
        if whole && cost < 10 {
            break;
        }
    }
    let last = list.last().filter(|l| l.1 && l.2 == 0);
    let last = last.filter(|l| is_real(l.0, 1 << (at - l.0)));
    best.map(|(_, s)| s)
        .or_else(|| with_next(code, page, at, last?.0))
}

#[cfg(test)]
mod tests;
