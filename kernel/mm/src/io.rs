//! Byte streams to and from a caller's memory, kernel or user.
//!
//! File operations move data through these, so that they never see where it
//! comes from. Implemented by [`crate::user::UserIo`] (iovecs of user memory)
//! and by the kernel-memory variants here.

use abi::{Errno, Result};

/// Takes bytes: the caller's buffer of a read. No spin lock may be held while
/// calling (the copy may fault and sleep).
pub trait Sink {
    /// Bytes that still fit.
    fn remaining(&self) -> usize;
    /// Takes up to `remaining()` bytes of `data` and says how many. Less than
    /// offered and than fits: the memory behind faulted; 0 with room left: [`Errno::EFAULT`].
    fn put(&mut self, data: &[u8]) -> Result<usize>;
    /// Takes `n` zero bytes.
    fn put_zeros(&mut self, n: usize) -> Result<usize> {
        const ZERO: [u8; 512] = [0; 512];
        let mut done = 0;
        while done < n {
            let k = self.put(&ZERO[..(n - done).min(512)])?;
            if k == 0 {
                break;
            }
            done += k;
        }
        Ok(done)
    }
}

/// Gives bytes: the caller's buffer of a write. As for [`Sink`], no spin lock held.
pub trait Source {
    /// Bytes that are left.
    fn remaining(&self) -> usize;
    /// Copies up to `buf.len()` bytes and says how many. Fewer than asked with
    /// bytes left: the memory behind faulted; 0: [`Errno::EFAULT`].
    fn take(&mut self, buf: &mut [u8]) -> Result<usize>;
    /// Takes the last `n` bytes taken back, so that they are given again
    /// (a device accepted fewer than were taken).
    fn untake(&mut self, n: usize);
}

/// A [`Sink`] into kernel memory.
#[derive(Debug)]
pub struct SliceSink<'a> {
    buf: &'a mut [u8],
    pos: usize,
}

impl<'a> SliceSink<'a> {
    /// Fills `buf` from the start.
    pub fn new(buf: &'a mut [u8]) -> Self {
        SliceSink { buf, pos: 0 }
    }
    /// Bytes filled.
    pub fn filled(&self) -> usize {
        self.pos
    }
}

impl Sink for SliceSink<'_> {
    fn remaining(&self) -> usize {
        self.buf.len() - self.pos
    }
    fn put(&mut self, data: &[u8]) -> Result<usize> {
        let n = data.len().min(self.remaining());
        self.buf[self.pos..self.pos + n].copy_from_slice(&data[..n]);
        self.pos += n;
        Ok(n)
    }
}

/// A [`Source`] from kernel memory.
#[derive(Debug)]
pub struct SliceSource<'a> {
    buf: &'a [u8],
    pos: usize,
}

impl<'a> SliceSource<'a> {
    /// Gives `buf` from the start.
    pub fn new(buf: &'a [u8]) -> Self {
        SliceSource { buf, pos: 0 }
    }
}

impl Source for SliceSource<'_> {
    fn remaining(&self) -> usize {
        self.buf.len() - self.pos
    }
    fn take(&mut self, out: &mut [u8]) -> Result<usize> {
        let n = out.len().min(self.remaining());
        out[..n].copy_from_slice(&self.buf[self.pos..self.pos + n]);
        self.pos += n;
        Ok(n)
    }
    fn untake(&mut self, n: usize) {
        self.pos -= n.min(self.pos);
    }
}

/// Limits a [`Sink`] to the next `limit` bytes.
pub struct Limited<'a> {
    inner: &'a mut dyn Sink,
    limit: usize,
}

impl<'a> Limited<'a> {
    /// At most `limit` bytes of `inner`.
    pub fn new(inner: &'a mut dyn Sink, limit: usize) -> Self {
        Limited { inner, limit }
    }
}

impl Sink for Limited<'_> {
    fn remaining(&self) -> usize {
        self.inner.remaining().min(self.limit)
    }
    fn put(&mut self, data: &[u8]) -> Result<usize> {
        let n = data.len().min(self.limit);
        let k = self.inner.put(&data[..n])?;
        self.limit -= k;
        Ok(k)
    }
}

/// Puts `text[offset..]`, for files made of generated text. Returns the count.
pub fn put_at(dst: &mut dyn Sink, text: &[u8], offset: u64) -> Result<usize> {
    let start = usize::try_from(offset)
        .map_err(|_| Errno::EINVAL)?
        .min(text.len());
    dst.put(&text[start..])
}

/// `n` zero bytes, where a guest says how many. [`abi::Errno::ENOMEM`].
pub fn try_zeroed(n: usize) -> abi::Result<alloc::vec::Vec<u8>> {
    let mut v = alloc::vec::Vec::new();
    v.try_reserve_exact(n).map_err(|_| abi::Errno::ENOMEM)?;
    v.resize(n, 0);
    Ok(v)
}
