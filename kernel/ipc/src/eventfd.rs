//! eventfd(2): a counter to wait for.

use crate::Ipc;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};
use mm::io::{Sink, Source};
use sync::WaitQueue;
use vfs::file::Caller;
use vfs::text::Text;
use vfs::{File, FileOps, OpenFlags, PollEvents, PollTable};

/// `EFD_SEMAPHORE`.
const EFD_SEMAPHORE: u32 = 1;
/// Largest value of the counter.
const MAX: u64 = u64::MAX - 1;

struct EventFd {
    count: AtomicU64,
    semaphore: bool,
    queue: Arc<WaitQueue>,
}

impl EventFd {
    fn take(&self) -> Option<u64> {
        let step = |c: u64| match (c, self.semaphore) {
            (0, _) => None,
            (c, true) => Some(c - 1),
            (_, false) => Some(0),
        };
        let old = self
            .count
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, step)
            .ok()?;
        Some(if self.semaphore { 1 } else { old })
    }
    fn add(&self, v: u64) -> Option<()> {
        let step = |c: u64| c.checked_add(v).filter(|s| *s <= MAX);
        self.count
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, step)
            .ok()
            .map(|_| ())
    }
}

impl FileOps for EventFd {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn read(&self, f: &File, _cx: &dyn Caller, _pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        if dst.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let v = match self.take() {
            Some(v) => v,
            None if f.nonblock() => return Err(Errno::EAGAIN),
            // Wake-up proof: the counter changes before the queue is woken.
            None => self.queue.wait(|| self.take())?,
        };
        self.queue
            .wake_key((PollEvents::OUT | PollEvents::WRNORM).bits());
        if dst.put(&v.to_ne_bytes())? < 8 {
            return Err(Errno::EFAULT);
        }
        Ok(8)
    }
    fn write(&self, f: &File, _cx: &dyn Caller, _pos: u64, src: &mut dyn Source) -> Result<usize> {
        // Exactly one counter, as Linux has it.
        if src.remaining() != 8 {
            return Err(Errno::EINVAL);
        }
        let mut b = [0; 8];
        if src.take(&mut b)? < 8 {
            return Err(Errno::EFAULT);
        }
        let v = u64::from_ne_bytes(b);
        if v == u64::MAX {
            return Err(Errno::EINVAL);
        }
        match self.add(v) {
            Some(()) => {}
            None if f.nonblock() => return Err(Errno::EAGAIN),
            // Wake-up proof: as in `read`.
            None => self.queue.wait(|| self.add(v))?,
        }
        self.queue
            .wake_key((PollEvents::IN | PollEvents::RDNORM).bits());
        Ok(8)
    }
    fn poll(&self, _f: &File, table: Option<&mut PollTable<'_>>) -> PollEvents {
        if let Some(t) = table {
            t.add(self.queue.clone());
        }
        let c = self.count.load(Ordering::Acquire);
        let mut ev = PollEvents::empty();
        if c > 0 {
            ev |= PollEvents::IN;
        }
        if c < MAX {
            ev |= PollEvents::OUT;
        }
        ev
    }
    fn fdinfo(&self, _f: &File, out: &mut Text) -> core::fmt::Result {
        let c = self.count.load(Ordering::Relaxed);
        writeln!(out, "eventfd-count: {c:16x}")
    }
    fn anon_name(&self) -> Option<Vec<u8>> {
        Some(b"anon_inode:[eventfd]".to_vec())
    }
}

impl Ipc {
    /// eventfd2(2). `flags`: EFD_SEMAPHORE, EFD_NONBLOCK (EFD_CLOEXEC is the caller's); else [`Errno::EINVAL`].
    pub fn eventfd(&self, cx: &dyn Caller, count: u32, flags: u32) -> Result<Arc<File>> {
        let file_flags = OpenFlags::NONBLOCK | OpenFlags::CLOEXEC;
        if flags & !(EFD_SEMAPHORE | file_flags.bits()) != 0 {
            return Err(Errno::EINVAL);
        }
        let ops = Arc::new(EventFd {
            count: AtomicU64::new(count as u64),
            semaphore: flags & EFD_SEMAPHORE != 0,
            queue: Arc::new(WaitQueue::new()),
        });
        let f = OpenFlags::from_bits_retain(flags) & OpenFlags::NONBLOCK;
        self.anon_file(cx, ops, f | OpenFlags::RDWR)
    }
}
