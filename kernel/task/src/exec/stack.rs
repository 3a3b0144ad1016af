//! The initial stack of a program: arguments, environment, auxiliary vector, getauxval(3).
//!
//! From the top down: eight zero bytes, the program's path, environment, arguments, the platform's name,
//! sixteen random bytes; then, aligned, the vectors, with the argument count at the stack pointer.

use super::args::Strings;
use abi::{Errno, Result};
use alloc::vec::Vec;
use mm::Mm;

/// Numbers of auxiliary entries.
pub(crate) mod at {
    pub const NULL: u64 = 0;
    pub const PHDR: u64 = 3;
    pub const PHENT: u64 = 4;
    pub const PHNUM: u64 = 5;
    pub const PAGESZ: u64 = 6;
    pub const BASE: u64 = 7;
    pub const FLAGS: u64 = 8;
    pub const ENTRY: u64 = 9;
    pub const UID: u64 = 11;
    pub const EUID: u64 = 12;
    pub const GID: u64 = 13;
    pub const EGID: u64 = 14;
    pub const PLATFORM: u64 = 15;
    pub const HWCAP: u64 = 16;
    pub const CLKTCK: u64 = 17;
    pub const SECURE: u64 = 23;
    pub const RANDOM: u64 = 25;
    pub const HWCAP2: u64 = 26;
    pub const RSEQ_FEATURE_SIZE: u64 = 27;
    pub const RSEQ_ALIGN: u64 = 28;
    pub const EXECFN: u64 = 31;
    pub const SYSINFO_EHDR: u64 = 33;
    pub const MINSIGSTKSZ: u64 = 51;
}

/// What goes onto the stack.
pub(crate) struct Contents<'a> {
    pub argv: &'a Strings,
    pub envp: &'a Strings,
    pub path: &'a [u8],
    pub platform: &'a [u8],
    pub random: [u8; 16],
    /// Pairs, without those that point to the stack.
    pub auxv: Vec<(u64, u64)>,
}

/// Where things came to lie.
#[derive(Clone, Debug, Default)]
pub(crate) struct Placed {
    pub sp: u64,
    pub arg_start: u64,
    pub arg_end: u64,
    pub env_start: u64,
    pub env_end: u64,
    pub auxv: Vec<u64>,
}

impl Contents<'_> {
    /// Bytes needed, with the slack that alignment may take.
    pub(crate) fn size(&self) -> u64 {
        let strings = self.argv.bytes() + self.envp.bytes() + self.path.len() + self.platform.len();
        let words = self.argv.len() + self.envp.len() + 2 * (self.auxv.len() + 4) + 4;
        (strings + words * 8 + 128) as u64
    }
    /// Writes everything below `top` (a multiple of 16).
    pub(crate) fn write(mut self, mm: &Mm, top: u64) -> Result<Placed> {
        let down = |at: u64, n: usize| at.checked_sub(n as u64).ok_or(Errno::E2BIG);
        let path = down(top, 8 + self.path.len() + 1)?;
        let env_start = down(path, self.envp.bytes())?;
        let arg_start = down(env_start, self.argv.bytes())?;
        let platform = down(arg_start, self.platform.len() + 1)?;
        let random = down(platform, 16)? & !15;
        self.auxv.push((at::RANDOM, random));
        self.auxv.push((at::PLATFORM, platform));
        self.auxv.push((at::EXECFN, path));
        self.auxv.push((at::NULL, 0));
        let words = 1 + self.argv.len() + 1 + self.envp.len() + 1 + 2 * self.auxv.len();
        let sp = down(random, words * 8)? & !15;

        mm.write(random, &self.random)?;
        let mut out = Writer::new(mm, platform);
        out.bytes(self.platform)?;
        out.bytes(&[0])?;
        self.argv.write(&mut out)?;
        self.envp.write(&mut out)?;
        out.bytes(self.path)?;
        out.bytes(&[0; 9])?;
        out.flush()?;

        let mut out = Writer::new(mm, sp);
        out.word(self.argv.len() as u64)?;
        self.argv.pointers(&mut out, arg_start)?;
        self.envp.pointers(&mut out, env_start)?;
        let mut auxv = Vec::with_capacity(2 * self.auxv.len());
        for (k, v) in &self.auxv {
            out.word(*k)?;
            out.word(*v)?;
            auxv.push(*k);
            auxv.push(*v);
        }
        out.flush()?;
        Ok(Placed {
            sp,
            arg_start,
            arg_end: env_start,
            env_start,
            env_end: path,
            auxv,
        })
    }
}

/// Bytes that [`Writer`] collects: no long run of memory, which a dying program may not get.
const PIECE: usize = 4096;

/// Writes ascending addresses in large pieces.
pub(crate) struct Writer<'a> {
    mm: &'a Mm,
    at: u64,
    buf: Vec<u8>,
}

impl<'a> Writer<'a> {
    fn new(mm: &'a Mm, at: u64) -> Writer<'a> {
        Writer {
            mm,
            at,
            buf: Vec::with_capacity(PIECE),
        }
    }
    pub(crate) fn bytes(&mut self, b: &[u8]) -> Result {
        if self.buf.len() + b.len() > PIECE {
            self.flush()?;
        }
        if b.len() <= PIECE {
            self.buf.extend_from_slice(b);
            return Ok(());
        }
        self.mm.write(self.at, b)?;
        self.at += b.len() as u64;
        Ok(())
    }
    pub(crate) fn word(&mut self, w: u64) -> Result {
        self.bytes(&w.to_le_bytes())
    }
    fn flush(&mut self) -> Result {
        self.mm.write(self.at, &self.buf)?;
        self.at += self.buf.len() as u64;
        self.buf.clear();
        Ok(())
    }
}
