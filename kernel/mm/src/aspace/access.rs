//! The kernel's access to guest memory.
//!
//! Where the engine can copy by guest addresses (`UserSpace::copy_in`), the host's MMU does
//! the work. Otherwise, and when that meets a fault, bytes are copied through the direct
//! map with the page table locked, a page at a time: the lock keeps the frame where it is,
//! and the copy itself cannot fault. What is missing is faulted in as the guest would.

use super::{Mm, PAGE};
use crate::frame;
use abi::{Errno, Result};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::{Acquire, SeqCst};
use hal::engine::Direct;
use hal::{PAGE_SIZE, Pfn, Prot, USER_END};

/// Attempts at a page that goes away again and again before we give up.
const TRIES: u32 = 1000;

/// Bytes that are looked at for a short string.
const SHORT: usize = 64;

/// Whether `[addr, addr + len)` can be guest memory at all.
fn check(addr: u64, len: usize) -> Result {
    match addr.checked_add(len as u64) {
        Some(end) if end <= USER_END => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

impl Mm {
    /// Calls `f` with the frame at `addr`, which the guest may access, with the page table locked.
    fn with_page<T>(&self, addr: u64, access: Prot, mut f: impl FnMut(Pfn) -> T) -> Result<T> {
        let page = addr & !(PAGE - 1);
        for _ in 0..TRIES {
            {
                let pt = self.pt.lock();
                if let Some(pte) = pt.get(page)
                    && pte.allows(access)
                {
                    return Ok(f(pte.pfn()));
                }
            }
            if self.is_victim() || self.resolve(page, access).is_err() {
                return Err(Errno::EFAULT);
            }
        }
        Err(Errno::EFAULT)
    }

    /// After a copy by guest addresses: whether it is done. If pages in `[addr, addr + len)` are missing on
    /// the host only, they are mapped again for the next one.
    #[inline]
    fn direct(&self, done: Direct, addr: u64, len: usize, access: Prot) -> bool {
        if done == Direct::Fault {
            self.refresh_range(addr, addr + len as u64, access);
        }
        done == Direct::Done
    }

    /// Copies from guest memory. [`Errno::EFAULT`].
    #[inline]
    pub fn read(&self, addr: u64, buf: &mut [u8]) -> Result {
        check(addr, buf.len())?;
        let done = self.space.copy_in(addr, buf);
        if self.direct(done, addr, buf.len(), Prot::READ) {
            return Ok(());
        }
        let mut done = 0;
        while done < buf.len() {
            let a = addr + done as u64;
            let off = (a & (PAGE - 1)) as usize;
            let n = (PAGE_SIZE - off).min(buf.len() - done);
            let part = &mut buf[done..done + n];
            self.with_page(a, Prot::READ, |p| frame::read_frame(p, off, part))?;
            done += n;
        }
        Ok(())
    }

    /// Copies to guest memory. [`Errno::EFAULT`].
    #[inline]
    pub fn write(&self, addr: u64, buf: &[u8]) -> Result {
        check(addr, buf.len())?;
        let done = self.space.copy_out(addr, buf);
        if self.direct(done, addr, buf.len(), Prot::WRITE) {
            return Ok(());
        }
        let mut done = 0;
        while done < buf.len() {
            let a = addr + done as u64;
            let off = (a & (PAGE - 1)) as usize;
            let n = (PAGE_SIZE - off).min(buf.len() - done);
            let part = &buf[done..done + n];
            self.with_page(a, Prot::WRITE, |p| frame::write_frame(p, off, part))?;
            done += n;
        }
        Ok(())
    }

    /// Zeroes guest memory. [`Errno::EFAULT`].
    pub fn clear(&self, addr: u64, len: usize) -> Result {
        check(addr, len)?;
        let mut done = 0;
        while done < len {
            let a = addr + done as u64;
            let off = (a & (PAGE - 1)) as usize;
            let n = (PAGE_SIZE - off).min(len - done);
            self.with_page(a, Prot::WRITE, |p| frame::zero_frame(p, off, n))?;
            done += n;
        }
        Ok(())
    }

    /// As much as is accessible: the number of bytes copied (ptrace, /proc/PID/mem with `force`: regardless of rights, private copy).
    pub fn read_partial(&self, addr: u64, buf: &mut [u8], force: bool) -> usize {
        let len = buf.len();
        self.partial(addr, len, |mm, a, off, r| {
            let part = &mut buf[r];
            if mm
                .with_page(a, Prot::READ, |p| frame::read_frame(p, off, part))
                .is_ok()
            {
                return true;
            }
            force
                && mm.force_page(a, false).is_some_and(|p| {
                    frame::read_frame(p.pfn(), off, part);
                    true
                })
        })
    }

    /// See [`Mm::read_partial`].
    pub fn write_partial(&self, addr: u64, buf: &[u8], force: bool) -> usize {
        self.partial(addr, buf.len(), |mm, a, off, r| {
            let part = &buf[r];
            if mm
                .with_page(a, Prot::WRITE, |p| frame::write_frame(p, off, part))
                .is_ok()
            {
                return true;
            }
            force
                && mm.force_page(a, true).is_some_and(|p| {
                    frame::write_frame(p.pfn(), off, part);
                    mm.code_changed(a);
                    true
                })
        })
    }

    /// Goes over `[addr, addr + len)` page by page as long as `f(mm, address, offset in page, range of buffer)` succeeds.
    fn partial(
        &self,
        addr: u64,
        len: usize,
        mut f: impl FnMut(&Mm, u64, usize, core::ops::Range<usize>) -> bool,
    ) -> usize {
        let mut done = 0;
        while done < len {
            let Some(a) = addr.checked_add(done as u64).filter(|a| *a < USER_END) else {
                break;
            };
            let off = (a & (PAGE - 1)) as usize;
            let n = (PAGE_SIZE - off).min(len - done);
            if !f(self, a, off, done..done + n) {
                break;
            }
            done += n;
        }
        done
    }

    /// A string that a copy by guest addresses of its page's next bytes has whole.
    fn short_cstr<'b>(&self, addr: u64, max: usize, buf: &'b mut [u8; SHORT]) -> Option<&'b [u8]> {
        let n = SHORT.min((PAGE - (addr & (PAGE - 1))) as usize);
        let b = buf.get_mut(..n)?;
        if check(addr, n).is_err() || self.space.copy_in(addr, b) != Direct::Done {
            return None;
        }
        let len = b.iter().position(|b| *b == 0)?;
        b.get(..len).filter(|s| s.len() <= max)
    }

    /// Reads a NUL-terminated string of at most `max` bytes without its NUL. [`Errno::EFAULT`], [`Errno::ENAMETOOLONG`].
    pub fn read_cstr(&self, addr: u64, max: usize) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        if let Some(s) = self.short_cstr(addr, max, &mut [0; SHORT]) {
            out.try_reserve_exact(s.len()).map_err(|_| Errno::ENOMEM)?;
            out.extend_from_slice(s);
            return Ok(out);
        }
        let mut at = addr;
        // One byte more than `max` may be the NUL.
        let mut left = max.saturating_add(1);
        while left > 0 {
            if at >= USER_END {
                return Err(Errno::EFAULT);
            }
            let off = (at & (PAGE - 1)) as usize;
            let n = (PAGE_SIZE - off).min(left);
            let (found, piece) = self.with_page(at, Prot::READ, |p| {
                let len = frame::find_nul(p, off, n);
                let mut piece = alloc::vec![0; len.unwrap_or(n)];
                frame::read_frame(p, off, &mut piece);
                (len.is_some(), piece)
            })?;
            // The guest may have changed it between the search and the copy.
            out.try_reserve(piece.len()).map_err(|_| Errno::ENOMEM)?;
            if let Some(i) = piece.iter().position(|b| *b == 0) {
                out.extend_from_slice(&piece[..i]);
                return Ok(out);
            }
            out.extend_from_slice(&piece);
            if found {
                return Ok(out);
            }
            left -= n;
            at += n as u64;
        }
        Err(Errno::ENAMETOOLONG)
    }

    /// Atomic operation on an aligned 32-bit word of guest memory (futex): applies `f` to the old value until
    /// it can be exchanged; `f` gives `None` to leave it. Returns the old value. [`Errno::EFAULT`].
    pub fn update_u32(&self, addr: u64, f: &mut dyn FnMut(u32) -> Option<u32>) -> Result<u32> {
        if addr % 4 != 0 {
            return Err(Errno::EFAULT);
        }
        check(addr, 4)?;
        let off = (addr & (PAGE - 1)) as usize;
        let mut access = Prot::READ;
        for _ in 0..TRIES {
            let r = self.with_page(addr, access, |p| {
                let w = frame::word(p, off);
                let old = w.load(SeqCst);
                match f(old) {
                    None => Some(Ok(old)),
                    Some(_) if access == Prot::READ => None,
                    Some(new) => Some(w.compare_exchange(old, new, SeqCst, SeqCst)),
                }
            })?;
            match r {
                Some(Ok(old)) => return Ok(old),
                // The guest changed it: again.
                Some(Err(_)) => {}
                None => access = Prot::READ | Prot::WRITE,
            }
        }
        Err(Errno::EAGAIN)
    }

    /// Loads an aligned word *without* faulting or sleeping (may be called with spin locks up to `level::TASK`
    /// held); `None` if it is not resident: call [`Mm::update_u32`] first and try again.
    pub fn peek_u32(&self, addr: u64) -> Option<u32> {
        if addr % 4 != 0 || addr >= USER_END {
            return None;
        }
        let pt = self.pt.lock();
        let pte = pt.get(addr & !(PAGE - 1))?;
        pte.allows(Prot::READ)
            .then(|| frame::word(pte.pfn(), (addr & (PAGE - 1)) as usize).load(Acquire))
    }

    /// Touches the frame of the page at `addr`, if the guest has one there. When the
    /// host cannot store the frame, this is where it becomes known.
    pub fn touch(&self, addr: u64) -> bool {
        let pt = self.pt.lock();
        match pt.get(addr & !(PAGE - 1)) {
            Some(pte) if addr < USER_END => {
                // A store of what is there; adding nothing may be left out by the compiler.
                let w = frame::word(pte.pfn(), 0);
                let old = w.load(Acquire);
                let _ = w.compare_exchange(old, old, SeqCst, SeqCst);
                true
            }
            _ => false,
        }
    }

    /// As [`Mm::update_u32`] without faulting or sleeping, as [`Mm::peek_u32`]; `None` if the word is not
    /// resident and writable: call [`Mm::update_u32`] first and try again.
    pub fn try_update_u32(&self, addr: u64, f: &mut dyn FnMut(u32) -> Option<u32>) -> Option<u32> {
        if addr % 4 != 0 || addr >= USER_END {
            return None;
        }
        let pt = self.pt.lock();
        let pte = pt.get(addr & !(PAGE - 1))?;
        if !pte.allows(Prot::READ | Prot::WRITE) {
            return None;
        }
        let w = frame::word(pte.pfn(), (addr & (PAGE - 1)) as usize);
        Some(match w.fetch_update(SeqCst, SeqCst, f) {
            Ok(old) | Err(old) => old,
        })
    }

    /// Identity of a futex word: (object, byte offset); private ones use the mm itself. Shared mappings of the
    /// same page of the same file agree across spaces. [`Errno::EFAULT`].
    pub fn futex_key(&self, addr: u64, private: bool) -> Result<(usize, u64)> {
        check(addr, 4)?;
        let own = (core::ptr::from_ref(self).addr(), addr);
        if private {
            return Ok(own);
        }
        let vmas = self.vmas.read();
        let v = vmas.find(addr).ok_or(Errno::EFAULT)?;
        Ok(match v.show.file() {
            Some(f) if v.is_shared() => (f.cache.id(), f.offset + (addr - v.start)),
            // Anonymous memory that nobody can write never changes.
            None if !v.is_shared() && !v.prot.contains(Prot::WRITE) => return Err(Errno::EFAULT),
            _ => own,
        })
    }
}
