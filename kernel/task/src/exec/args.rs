//! Argument and environment strings on their way to a new program.

use super::stack::Writer;
use abi::{Errno, Result};
use alloc::vec::Vec;
use mm::Mm;

/// Longest string, with its NUL.
const MAX_STRING: usize = 128 << 10;
/// Least room for all strings and pointers.
const MIN_TOTAL: u64 = 128 << 10;
/// Most room, whatever the stack limit.
const MAX_TOTAL: u64 = 6 << 20;

/// Room for arguments and environment together: a quarter of the stack limit.
pub(crate) fn room(stack_limit: u64) -> u64 {
    (stack_limit / 4).clamp(MIN_TOTAL, MAX_TOTAL)
}

/// A list of strings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Strings {
    list: Vec<Vec<u8>>,
    bytes: usize,
}

impl Strings {
    /// Of the kernel's making. [`Errno::E2BIG`].
    pub(crate) fn from_list(list: Vec<Vec<u8>>) -> Result<Strings> {
        if list.iter().any(|s| s.len() >= MAX_STRING) {
            return Err(Errno::E2BIG);
        }
        let bytes = list.iter().map(|s| s.len() + 1).sum();
        Ok(Strings { list, bytes })
    }
    /// Reads a NULL-terminated array of pointers to strings (0 = empty). `room`
    /// is what may still be used. [`Errno::EFAULT`], [`Errno::E2BIG`].
    pub(crate) fn read(mm: &Mm, addr: u64, room: &mut u64) -> Result<Strings> {
        let mut s = Strings::default();
        if addr == 0 {
            return Ok(s);
        }
        let mut at = addr;
        loop {
            let p: u64 = mm.get(at)?;
            if p == 0 {
                return Ok(s);
            }
            let text = mm.read_cstr(p, MAX_STRING - 1).map_err(|e| match e {
                Errno::ENAMETOOLONG => Errno::E2BIG,
                e => e,
            })?;
            let need = text.len() as u64 + 1 + 8;
            *room = room.checked_sub(need).ok_or(Errno::E2BIG)?;
            s.list.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            s.push(text);
            at = at.checked_add(8).ok_or(Errno::EFAULT)?;
        }
    }
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }
    /// Bytes of all strings with their NULs.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
    pub(crate) fn push(&mut self, s: Vec<u8>) {
        self.bytes += s.len() + 1;
        self.list.push(s);
    }
    /// Replaces the first string by `by` (a script's interpreter, its argument, the script).
    pub(crate) fn replace_first(&mut self, by: Vec<Vec<u8>>) {
        let n = self.list.len().min(1);
        self.list.splice(..n, by);
        self.bytes = self.list.iter().map(|s| s.len() + 1).sum();
    }
    pub(crate) fn write(&self, out: &mut Writer<'_>) -> Result {
        for s in &self.list {
            out.bytes(s)?;
            out.bytes(&[0])?;
        }
        Ok(())
    }
    /// Writes the pointers, and a NULL, for strings that start at `at`.
    pub(crate) fn pointers(&self, out: &mut Writer<'_>, mut at: u64) -> Result {
        for s in &self.list {
            out.word(at)?;
            at += s.len() as u64 + 1;
        }
        out.word(0)
    }
}
