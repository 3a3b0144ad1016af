//! Typed access to guest memory. The only way data crosses the boundary.

use crate::Mm;
use crate::io::{Sink, Source};
use abi::io::IoVec;
use abi::{Errno, Result};
use alloc::vec::Vec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Where Linux's user addresses end. A buffer that reaches beyond is refused at once; one
/// that reaches beyond [`hal::USER_END`] only when the bytes there are needed.
pub const ADDR_END: u64 = 0x7fff_ffff_f000;

impl Mm {
    /// Reads one ABI structure.
    pub fn get<T: FromBytes + IntoBytes + Immutable>(&self, addr: u64) -> Result<T> {
        let mut v = T::new_zeroed();
        self.read(addr, v.as_mut_bytes())?;
        Ok(v)
    }
    /// Writes one ABI structure.
    pub fn put<T: IntoBytes + Immutable>(&self, addr: u64, v: &T) -> Result {
        self.write(addr, v.as_bytes())
    }
    /// Reads `n` ABI structures. The caller bounds `n`. Also [`Errno::ENOMEM`].
    pub fn get_vec<T: FromBytes + IntoBytes + Immutable + Clone>(
        &self,
        addr: u64,
        n: usize,
    ) -> Result<Vec<T>> {
        let mut v = Vec::new();
        v.try_reserve_exact(n).map_err(|_| Errno::ENOMEM)?;
        v.resize(n, T::new_zeroed());
        self.read(addr, v.as_mut_slice().as_mut_bytes())?;
        Ok(v)
    }
}

/// Buffers of guest memory as a [`Sink`] (read) or [`Source`] (write).
pub struct UserIo<'a> {
    mm: &'a Mm,
    /// The only buffer while `iov` is empty: most calls have one and need no allocation.
    single: IoVec,
    iov: Vec<IoVec>,
    idx: usize,
    off: u64,
    left: usize,
}

impl<'a> UserIo<'a> {
    /// One buffer. The length is cut to MAX_RW_COUNT. [`Errno::EFAULT`] if it reaches beyond the guest's addresses.
    #[inline]
    pub fn new(mm: &'a Mm, addr: u64, len: u64) -> Result<UserIo<'a>> {
        let len = len.min(abi::io::MAX_RW_COUNT as u64);
        if len > 0 && addr.checked_add(len).is_none_or(|e| e > ADDR_END) {
            return Err(Errno::EFAULT);
        }
        Ok(UserIo {
            mm,
            single: IoVec { base: addr, len },
            iov: Vec::new(),
            idx: 0,
            off: 0,
            left: len as usize,
        })
    }
    /// Several buffers, readv(2): [`Errno::EINVAL`] for a negative length; the total is cut to MAX_RW_COUNT.
    pub fn from_iov(mm: &'a Mm, mut iov: Vec<IoVec>) -> Result<UserIo<'a>> {
        let mut left = 0usize;
        for v in &mut iov {
            if v.len > i64::MAX as u64 {
                return Err(Errno::EINVAL);
            }
            let room = (abi::io::MAX_RW_COUNT - left) as u64;
            v.len = v.len.min(room);
            if v.len > 0 && v.base.checked_add(v.len).is_none_or(|e| e > ADDR_END) {
                return Err(Errno::EFAULT);
            }
            left += v.len as usize;
        }
        Ok(UserIo {
            mm,
            single: IoVec::default(),
            iov,
            idx: 0,
            off: 0,
            left,
        })
    }
    fn buffer(&self, idx: usize) -> Option<IoVec> {
        if self.iov.is_empty() {
            (idx == 0).then_some(self.single)
        } else {
            self.iov.get(idx).copied()
        }
    }
    /// Moves on over `n` bytes in pieces; `f(addr, range of the caller's buffer)`.
    fn step(
        &mut self,
        n: usize,
        mut f: impl FnMut(&Mm, u64, core::ops::Range<usize>) -> Result,
    ) -> Result<usize> {
        let n = n.min(self.left);
        let mut done = 0;
        while done < n {
            let Some(v) = self.buffer(self.idx) else {
                break;
            };
            let room = (v.len - self.off) as usize;
            if room == 0 {
                self.idx += 1;
                self.off = 0;
                continue;
            }
            // Piecewise up to page ends, so that a fault loses nothing before it.
            let addr = v.base + self.off;
            let page = (4096 - (addr & 4095)) as usize;
            let k = (n - done).min(room).min(page.max(1));
            let k = if k == page {
                (n - done).min(room).min(64 << 10)
            } else {
                k
            };
            match f(self.mm, addr, done..done + k) {
                Ok(()) => {}
                Err(_) if k > page => {
                    if f(self.mm, addr, done..done + page).is_ok() {
                        self.advance(page);
                        done += page;
                        continue;
                    }
                    return if done > 0 {
                        Ok(done)
                    } else {
                        Err(Errno::EFAULT)
                    };
                }
                Err(_) => {
                    return if done > 0 {
                        Ok(done)
                    } else {
                        Err(Errno::EFAULT)
                    };
                }
            }
            self.advance(k);
            done += k;
        }
        Ok(done)
    }
    /// Where the next `n` bytes are, if they are all in the only buffer.
    #[inline]
    fn whole(&self, n: usize) -> Option<u64> {
        (self.iov.is_empty() && n <= self.left).then_some(self.single.base + self.off)
    }
    fn advance(&mut self, k: usize) {
        self.off += k as u64;
        self.left -= k;
    }
}

impl Sink for UserIo<'_> {
    fn remaining(&self) -> usize {
        self.left
    }
    fn put(&mut self, data: &[u8]) -> Result<usize> {
        let n = data.len();
        if let Some(addr) = self.whole(n)
            && self.mm.write(addr, data).is_ok()
        {
            self.advance(n);
            return Ok(n);
        }
        self.step(n, |mm, a, r| mm.write(a, &data[r]))
    }
}

impl Source for UserIo<'_> {
    fn remaining(&self) -> usize {
        self.left
    }
    fn take(&mut self, buf: &mut [u8]) -> Result<usize> {
        let n = buf.len();
        if let Some(addr) = self.whole(n)
            && self.mm.read(addr, buf).is_ok()
        {
            self.advance(n);
            return Ok(n);
        }
        self.step(n, |mm, a, r| mm.read(a, &mut buf[r]))
    }
    fn untake(&mut self, mut n: usize) {
        while n > 0 {
            if self.off == 0 {
                if self.idx == 0 {
                    return;
                }
                self.idx -= 1;
                self.off = self.buffer(self.idx).map_or(0, |v| v.len);
                continue;
            }
            let k = (n as u64).min(self.off);
            self.off -= k;
            self.left += k as usize;
            n -= k as usize;
        }
    }
}
