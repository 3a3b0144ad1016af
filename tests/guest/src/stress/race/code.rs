//! Generated code: functions that make system calls in as many forms as compilers and people write them,
//! and what each must leave in the registers.

use super::probe::{R9, R11, R13, R14, R15, RAX, RCX, RDI, RDX, RSI, State};
use crate::prelude::*;

pub const PAGE: usize = 4096;
/// Where each page has a word of data.
const CELL: usize = 2048;
/// Flags that are compared: all a program has but adjust, which some instructions leave undefined.
pub const FLAGS: u64 = 0xcc5;
const ZERO_AND_PARITY: u64 = 0x44;
const GETPID: i64 = SYS_getpid;
const GETTID: i64 = SYS_gettid;
const GETPPID: i64 = SYS_getppid;
const LSEEK: i64 = SYS_lseek;
const READ: i64 = SYS_read;
/// Registers that code may change freely.
const FREE: [usize; 7] = [3, 5, 8, 10, 12, R14, RSI];

/// Splitmix.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// An instruction, and what it does.
#[derive(Clone, Copy, PartialEq)]
pub enum Op {
    Imm(usize, u32),
    /// Sign-extended.
    ImmWide(usize, i32),
    Zero(usize),
    Move(usize, usize),
    /// The lower half.
    MoveHalf(usize, usize),
    /// The address of the cell of its page.
    Lea(usize),
    /// The cell of its page.
    LoadCell(usize),
    /// Word `n` of the caller's.
    Load(usize, u8),
    /// To the caller's word 2.
    Store(usize),
    Nop(usize),
    ClearDirection,
    /// To the next instruction.
    Jump,
    JumpIfEqual,
    Compare,
    Test,
    Call,
    Return,
}

use Op::*;

impl Op {
    /// Its bytes at offset `at` of the code.
    fn bytes(self, at: usize) -> Vec<u8> {
        let rex =
            |w: u8, r: usize, b: usize| 0x40 | w << 3 | ((r >> 3) as u8) << 2 | (b >> 3) as u8;
        let modrm = |m: u8, r: usize, b: usize| m << 6 | ((r & 7) as u8) << 3 | (b & 7) as u8;
        let mut v = vec![];
        let cell = (at / PAGE * PAGE + CELL) as i32;
        match self {
            Imm(r, x) => {
                if r > 7 {
                    v.push(0x41);
                }
                v.push(0xb8 + (r & 7) as u8);
                v.extend(x.to_le_bytes());
            }
            ImmWide(r, x) => {
                v.extend([rex(1, 0, r), 0xc7, modrm(3, 0, r)]);
                v.extend(x.to_le_bytes());
            }
            Zero(r) if r > 7 => v.extend([rex(0, r, r), 0x31, modrm(3, r, r)]),
            Zero(r) => v.extend([0x31, modrm(3, r, r)]),
            Move(d, s) => v.extend([rex(1, s, d), 0x89, modrm(3, s, d)]),
            MoveHalf(d, s) if d > 7 || s > 7 => v.extend([rex(0, s, d), 0x89, modrm(3, s, d)]),
            MoveHalf(d, s) => v.extend([0x89, modrm(3, s, d)]),
            Lea(r) | LoadCell(r) => {
                let op = if self == Lea(r) { 0x8d } else { 0x8b };
                v.extend([rex(1, r, 0), op, modrm(0, r, 5)]);
                v.extend((cell - at as i32 - 7).to_le_bytes());
            }
            Load(r, n) => v.extend([rex(1, r, R13), 0x8b, modrm(1, r, R13), n * 8]),
            Store(r) => v.extend([rex(1, r, R13), 0x89, modrm(1, r, R13), 16]),
            Nop(n) => v.extend(
                [
                    &[0x90][..],
                    &[0x66, 0x90],
                    &[0x0f, 0x1f, 0],
                    &[0x0f, 0x1f, 0x40, 0],
                    &[0x0f, 0x1f, 0x44, 0, 0],
                ][n],
            ),
            ClearDirection => v.push(0xfc),
            Jump => v.extend([0xeb, 0]),
            JumpIfEqual => v.extend([0x74, 0]),
            Compare => v.extend([0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff]),
            Test => v.extend([0x48, 0x85, 0xc0]),
            Call => v.extend([0x0f, 0x05]),
            Return => v.push(0xc3),
        }
        v
    }
}

/// One function: instructions with their offsets, and the number of its first call.
pub struct Site {
    pub ops: Vec<(usize, Op)>,
    pub number: u64,
    /// How many of the instructions one may start with.
    entries: usize,
}

/// The code of one region.
pub struct Code {
    pub bytes: Vec<u8>,
    pub sites: Vec<Site>,
    /// Where instructions start.
    pub starts: Vec<bool>,
}

/// Who calls.
#[derive(Clone, Copy)]
pub struct Who {
    pub pid: u64,
    pub tid: u64,
    pub parent: u64,
    /// A file that can be positioned.
    pub fd: u64,
}

impl Who {
    pub fn me(fd: i32) -> Who {
        Who {
            pid: sys!(getpid()).0 as u64,
            tid: gettid() as u64,
            parent: sys!(getppid()).0 as u64,
            fd: fd as u64,
        }
    }
}

const fn minus(e: i32) -> u64 {
    -(e as i64) as u64
}

/// What a call must return.
fn result(who: &Who, gp: &[u64; 16]) -> u64 {
    match gp[RAX] as i64 {
        GETPID => who.pid,
        GETTID => who.tid,
        GETPPID => who.parent,
        LSEEK if gp[RDI] == who.fd && gp[RDX] == 0 => gp[RSI],
        READ if gp[RDI] as i32 == -1 => minus(EBADF),
        n if n >= 100_000 => minus(ENOSYS),
        n => panic!("no such call was planned: {n}"),
    }
}

impl Site {
    fn make(at: usize, r: &mut Random) -> Site {
        let number = r.pick(&[
            GETPID,
            GETTID,
            GETPPID,
            LSEEK,
            READ,
            100_000,
            GETPID | 0x4000_0000,
        ]) as u64;
        let with_args = number < 10;
        let other = |r: &mut Random| {
            let reg = match with_args {
                true => r.pick(&FREE[..6]),
                false => r.pick(&[&FREE[..], &[RDX, RDI]].concat()),
            };
            match r.below(11) {
                0 | 1 => Imm(reg, r.next() as u32),
                // Not the call that it looks like.
                2 => Imm(reg, 0x050f_050f),
                3 => ImmWide(reg, r.next() as i32),
                4 => Zero(reg),
                5 => Move(reg, r.pick(&FREE[..6])),
                6 => MoveHalf(reg, r.pick(&FREE[..6])),
                7 => Lea(reg),
                8 => LoadCell(reg),
                9 => Load(reg, 1),
                _ => Nop(r.below(5)),
            }
        };
        let mut ops = vec![];
        for _ in 0..r.below(4) {
            ops.push(other(r));
        }
        if r.below(3) == 0 {
            ops.push(r.pick(&[Jump, JumpIfEqual, ClearDirection]));
        }
        ops.push(match r.below(8) {
            _ if number == 0 => Zero(RAX),
            0..4 => Imm(RAX, number as u32),
            4 => ImmWide(RAX, number as i32),
            5 => Load(RAX, 0),
            6 => Move(RAX, R9),
            _ => MoveHalf(RAX, R9),
        });
        for _ in 0..r.pick(&[0, 0, 0, 1, 1, 2]) {
            ops.push(other(r));
        }
        ops.push(Call);
        let entries = ops.len();
        match r.below(9) {
            0 => {}
            1 | 2 => ops.extend([Compare, JumpIfEqual]),
            3 => ops.push(Test),
            4 => ops.push(Move(R14, RAX)),
            5 => ops.push(Store(RAX)),
            6 => ops.push(r.pick(&[Jump, Nop(0), Nop(4), ClearDirection])),
            7 => ops.extend([Imm(RAX, GETTID as u32), Call]),
            _ => ops.extend([Move(3, RAX), Zero(RAX), Imm(RAX, GETPPID as u32), Call]),
        }
        ops.push(Return);
        let mut p = at;
        let placed = ops.into_iter().map(|op| {
            let start = p;
            p += op.bytes(start).len();
            (start, op)
        });
        Site {
            ops: placed.collect(),
            number,
            entries,
        }
    }

    fn begin(&self) -> usize {
        self.ops[0].0
    }
    fn move_by(&mut self, n: usize) {
        self.ops.iter_mut().for_each(|o| o.0 += n);
    }
    fn end(&self) -> usize {
        self.ops.last().map_or(0, |o| o.0 + 1)
    }

    /// Registers for the call of this function from instruction `from` on, if its code is at `base`
    /// and the caller's words at `words`.
    pub fn prepare(&self, s: &mut State, base: u64, from: usize, words: &mut [u64; 3], who: &Who) {
        words[0] = self.number;
        s.gp[RAX] = self.number;
        s.gp[R9] = self.number;
        s.gp[R13] = words.as_ptr() as u64;
        s.gp[R15] = base + self.ops[from].0 as u64;
        match self.number as i64 {
            LSEEK => {
                s.gp[RDI] = who.fd;
                s.gp[RSI] &= 0xffff_ffff;
                s.gp[RDX] = 0;
            }
            READ => s.gp[RDI] = u64::MAX,
            _ => {}
        }
    }

    /// One of the instructions that one may start with, mostly the first.
    pub fn entry(&self, r: &mut Random) -> usize {
        match r.below(4) {
            0 => r.below(self.entries),
            _ => 0,
        }
    }

    /// What the call makes of the registers `s`; which bits of flags and r11 are certain.
    pub fn expect(
        &self,
        s: &mut State,
        code: &Code,
        base: u64,
        from: usize,
        words: &mut [u64; 3],
        who: &Who,
    ) -> [u64; 2] {
        let (mut certain, mut in_r11) = (FLAGS, u64::MAX);
        for (at, op) in &self.ops[from..] {
            let gp = &mut s.gp;
            let cell = at / PAGE * PAGE + CELL;
            let mut flags = |v: u64, mask: u64| {
                s.flags = s.flags & !mask | v;
                certain = certain & !mask | mask;
            };
            match *op {
                Imm(r, x) => gp[r] = u64::from(x),
                ImmWide(r, x) => gp[r] = x as i64 as u64,
                Zero(r) => {
                    gp[r] = 0;
                    flags(ZERO_AND_PARITY, FLAGS & !0x400);
                }
                Move(d, s) => gp[d] = gp[s],
                MoveHalf(d, s) => gp[d] = gp[s] & 0xffff_ffff,
                Lea(r) => gp[r] = base + cell as u64,
                LoadCell(r) => {
                    let mut b = [0; 8];
                    b.copy_from_slice(&code.bytes[cell..cell + 8]);
                    gp[r] = u64::from_le_bytes(b);
                }
                Load(r, n) => gp[r] = words[n as usize],
                Store(r) => words[2] = gp[r],
                ClearDirection => flags(0, 0x400),
                Compare | Test => certain &= 0x400,
                Nop(_) | Jump | JumpIfEqual | Return => {}
                Call => {
                    gp[RAX] = result(who, gp);
                    gp[RCX] = base + *at as u64 + 2;
                    gp[R11] = s.flags & FLAGS;
                    in_r11 = certain;
                }
            }
        }
        [certain, in_r11]
    }
}

impl Code {
    /// `pages` pages of code.
    pub fn make(pages: usize, r: &mut Random) -> Code {
        let len = pages * PAGE;
        let mut c = Code {
            bytes: vec![0xcc; len],
            sites: vec![],
            starts: vec![false; len],
        };
        for page in 0..pages {
            let cell = page * PAGE + CELL;
            c.bytes[cell..cell + 8].copy_from_slice(&r.next().to_le_bytes());
        }
        let mut at = 0;
        loop {
            let mut site = Site::make(at, r);
            // Often at the page's edge or across it.
            let call = site.ops.iter().find(|o| o.1 == Call).map_or(at, |o| o.0);
            let edge = (at / PAGE + 1) * PAGE;
            if (call..call + 150).contains(&edge) && r.below(4) > 0 {
                let to = edge + 4 - r.below(12);
                site.move_by(to.saturating_sub(call));
            }
            let cell = site.begin() / PAGE * PAGE + CELL;
            if site.begin() < cell + 8 && site.end() > cell {
                site.move_by(cell + 8 - site.begin());
            }
            if site.end() + 16 > len {
                return c;
            }
            c.fill(at, site.begin(), r);
            for (p, op) in &site.ops {
                let b = op.bytes(*p);
                c.bytes[*p..*p + b.len()].copy_from_slice(&b);
                c.starts[*p] = true;
            }
            at = site.end() + r.pick(&[0, 0, 3, 16, 60, 100]);
            c.sites.push(site);
        }
    }

    /// The function that `at` is in: where it begins, its bytes.
    pub fn describe(&self, at: usize) -> String {
        let mut all = self.sites.iter();
        let site = all.find(|s| (s.begin()..s.end()).contains(&at));
        site.map_or(String::new(), |s| {
            format!("{:#x} {:02x?}", s.begin(), &self.bytes[s.begin()..s.end()])
        })
    }

    /// What lies between functions.
    fn fill(&mut self, from: usize, to: usize, r: &mut Random) {
        let byte = r.pick(&[0xcc, 0, 0x90]);
        for at in from..to {
            if !(CELL..CELL + 8).contains(&(at % PAGE)) {
                self.bytes[at] = byte;
            }
        }
    }
}
