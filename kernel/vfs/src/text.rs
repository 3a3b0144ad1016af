//! Texts whose length a guest decides: they fail for want of memory, they do not end the machine.

use abi::{Errno, Result};
use alloc::vec::Vec;
use core::fmt;

/// A text that is being made. A write that finds no memory fails, and so does [`Text::finish`] then.
#[derive(Default)]
pub struct Text {
    bytes: Vec<u8>,
    failed: bool,
}

impl Text {
    /// Adds bytes.
    pub fn bytes(&mut self, b: &[u8]) -> fmt::Result {
        if self.failed || self.bytes.try_reserve(b.len()).is_err() {
            self.failed = true;
            return Err(fmt::Error);
        }
        self.bytes.extend_from_slice(b);
        Ok(())
    }
    /// Adds `byte` until the text has `len` bytes.
    pub fn pad(&mut self, len: usize, byte: u8) -> fmt::Result {
        while self.bytes.len() < len {
            self.bytes(&[byte])?;
        }
        Ok(())
    }
    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
    /// Whether there is nothing yet.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
    /// Whether a write has failed: there is no use in going on.
    pub fn failed(&self) -> bool {
        self.failed
    }
    /// The whole text. [`Errno::ENOMEM`] if a part of it found no room.
    pub fn finish(self) -> Result<Vec<u8>> {
        if self.failed {
            return Err(Errno::ENOMEM);
        }
        Ok(self.bytes)
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.bytes(s.as_bytes())
    }
}

/// All of `items`. [`Errno::ENOMEM`]: not enough memory for so many. Nothing but the heap's locks is taken.
pub fn try_vec<T>(items: impl Iterator<Item = T>) -> Result<Vec<T>> {
    let mut v = Vec::new();
    v.try_reserve(items.size_hint().0)
        .map_err(|_| Errno::ENOMEM)?;
    for i in items {
        v.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        v.push(i);
    }
    Ok(v)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Write;

    #[test]
    fn text() {
        let mut t = Text::default();
        write!(t, "{}-", 5).unwrap();
        t.pad(4, b' ').unwrap();
        t.bytes(&[0xff]).unwrap();
        assert_eq!(t.finish().unwrap(), b"5-  \xff");
    }
}
