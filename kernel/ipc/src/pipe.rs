//! Pipes and fifos, pipe(7).
//!
//! A pipe is a queue of slots of one page each. A write appends to the last
//! slot if it fits wholly, else fills new slots; so writes of up to `PIPE_BUF`
//! bytes are atomic, and a free slot means that such a write will not block.
//! Pages that readers have emptied are used again by the next writes.

use crate::Ipc;
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use mm::io::{Sink, Source};
use sync::{Mutex, SpinLock, WaitQueue, level};
use vfs::cred::cap;
use vfs::file::Caller;
use vfs::users::{PipeLimits, Share};
use vfs::{File, FileOps, FileType, InodeRef, OpenFlags, PollEvents, PollTable};

/// Size of a slot, and `PIPE_BUF`.
const SLOT: usize = 4096;
/// Slots of a new pipe.
const DEFAULT_SLOTS: usize = 16;
/// Slots of a new pipe of a user who has too many.
const SMALL_SLOTS: usize = 2;
/// Most slots an unprivileged user may ask for where the machine sets no limit.
const MAX_USER_SLOTS: usize = 256;
/// Most slots anybody may ask for.
const MAX_SLOTS: usize = 1 << 19;

const READABLE: u32 = PollEvents::IN.bits() | PollEvents::RDNORM.bits();
const WRITABLE: u32 = PollEvents::OUT.bits() | PollEvents::WRNORM.bits();

struct Slot {
    page: Box<[u8]>,
    off: usize,
    len: usize,
    /// A packet (O_DIRECT): one read takes it, nothing is appended.
    packet: bool,
}

#[derive(Default)]
struct Ring {
    slots: VecDeque<Slot>,
    spare: Vec<Box<[u8]>>,
}

impl Ring {
    fn page(&mut self) -> Result<Box<[u8]>> {
        if let Some(p) = self.spare.pop() {
            return Ok(p);
        }
        let mut v = Vec::new();
        v.try_reserve_exact(SLOT).map_err(|_| Errno::ENOMEM)?;
        v.resize(SLOT, 0);
        Ok(v.into_boxed_slice())
    }
    fn drop_front(&mut self) -> usize {
        match self.slots.pop_front() {
            Some(s) => {
                self.spare.push(s.page);
                s.len
            }
            None => 0,
        }
    }
}

/// A pipe, shared by its two ends (and all opens of a fifo).
pub struct Pipe {
    ring: Mutex<Ring>,
    /// Mirrors of the ring for those who only look.
    bytes: AtomicUsize,
    used: AtomicUsize,
    limit: AtomicUsize,
    readers: AtomicU32,
    writers: AtomicU32,
    /// Opens so far, for the meeting of fifo openers and POLLHUP.
    reader_opens: AtomicU32,
    writer_opens: AtomicU32,
    read_wait: Arc<WaitQueue>,
    write_wait: Arc<WaitQueue>,
    /// What it counts for the user who made it, while it is open.
    share: SpinLock<Option<Share>, { level::IPC }>,
}

impl Pipe {
    /// A pipe of the caller's. [`Errno::ENFILE`] if its user has too many.
    fn new(cx: &dyn Caller) -> Result<Arc<Pipe>> {
        let pipe = Pipe::unlimited();
        pipe.charge(cx)?;
        Ok(pipe)
    }
    fn unlimited() -> Arc<Pipe> {
        Arc::new(Pipe {
            ring: Mutex::new(Ring::default()),
            bytes: AtomicUsize::new(0),
            used: AtomicUsize::new(0),
            limit: AtomicUsize::new(DEFAULT_SLOTS),
            readers: AtomicU32::new(0),
            writers: AtomicU32::new(0),
            reader_opens: AtomicU32::new(0),
            writer_opens: AtomicU32::new(0),
            read_wait: Arc::new(WaitQueue::new()),
            write_wait: Arc::new(WaitQueue::new()),
            share: SpinLock::new(None),
        })
    }
    /// Counts the pipe for the caller's user if nobody has it, which may make it a small one. [`Errno::ENFILE`].
    fn charge(&self, cx: &dyn Caller) -> Result {
        let Some(limits) = cx.devices().map(|d| &d.pipes) else {
            return Ok(());
        };
        let cred = cx.cred();
        let mut slots = DEFAULT_SLOTS;
        if !cred.capable(cap::SYS_RESOURCE) {
            slots = slots.min(max_slots(limits));
        }
        let total = limits.pages.of(cred.uid);
        let mut held = self.share.lock();
        if held.is_some() {
            return Ok(());
        }
        let mut share = Share::new(total, slots as u64);
        if limits.over_soft(share.total(), &cred) {
            slots = slots.min(SMALL_SLOTS);
            share.resize(slots as u64);
        }
        if limits.over_hard(share.total(), &cred) {
            return Err(Errno::ENFILE);
        }
        self.limit.store(slots, Ordering::Release);
        *held = Some(share);
        Ok(())
    }
    fn empty(&self) -> bool {
        self.used.load(Ordering::Acquire) == 0
    }
    fn full(&self) -> bool {
        self.used.load(Ordering::Acquire) >= self.limit.load(Ordering::Relaxed)
    }
    fn no_readers(&self) -> bool {
        self.readers.load(Ordering::Acquire) == 0
    }
    fn no_writers(&self) -> bool {
        self.writers.load(Ordering::Acquire) == 0
    }
    fn mirror(&self, ring: &Ring) {
        self.used.store(ring.slots.len(), Ordering::Release);
    }

    /// Takes data. Waits for some unless `nonblock`; 0 = all writers are gone.
    pub fn read(&self, dst: &mut dyn Sink, nonblock: bool) -> Result<usize> {
        if dst.remaining() == 0 {
            return Ok(0);
        }
        let mut waited = false;
        loop {
            if !self.empty() {
                let (result, was_full) = self.drain(dst);
                if was_full && !self.full() {
                    self.write_wait.wake(1, WRITABLE);
                }
                if waited && !self.empty() {
                    self.read_wait.wake(1, READABLE);
                }
                match result {
                    Ok(0) => {} // somebody else was faster
                    r => return r,
                }
            }
            if self.no_writers() {
                if self.empty() {
                    return Ok(0);
                }
                continue;
            }
            if nonblock {
                if self.empty() {
                    return Err(Errno::EAGAIN);
                }
                continue;
            }
            // Wake-up proof: `used` and `writers` change before the queue is woken.
            self.read_wait
                .wait_exclusive(|| (!self.empty() || self.no_writers()).then_some(()))?;
            waited = true;
        }
    }
    fn drain(&self, dst: &mut dyn Sink) -> (Result<usize>, bool) {
        let mut ring = self.ring.lock();
        let was_full = self.full();
        let mut done = 0;
        let mut error = None;
        while let Some(slot) = ring.slots.front_mut() {
            let want = slot.len.min(dst.remaining());
            if want == 0 && slot.len > 0 {
                break;
            }
            let packet = slot.packet;
            let got = match slot.page.get(slot.off..slot.off + want) {
                Some(data) => dst.put(data),
                None => Ok(want),
            };
            let n = match got {
                Ok(n) => n,
                Err(e) => {
                    error = Some(e);
                    break;
                }
            };
            // What was copied of a part that does not fit stays in the pipe.
            if n < want {
                error = Some(Errno::EFAULT);
                break;
            }
            done += n;
            if packet {
                let lost = slot.len;
                self.bytes.fetch_sub(lost, Ordering::Relaxed);
                ring.drop_front();
                break;
            }
            slot.off += n;
            slot.len -= n;
            self.bytes.fetch_sub(n, Ordering::Relaxed);
            if slot.len == 0 {
                ring.drop_front();
            }
        }
        self.mirror(&ring);
        match error {
            Some(e) if done == 0 => (Err(e), was_full),
            _ => (Ok(done), was_full),
        }
    }

    /// Appends data, waiting for room unless `nonblock`. `packet`: every page is a packet of its own.
    pub fn write(&self, src: &mut dyn Source, nonblock: bool, packet: bool) -> Result<usize> {
        let mut done = 0;
        let mut waited = false;
        if src.remaining() == 0 {
            return Ok(0);
        }
        let result = loop {
            if self.no_readers() {
                break Err(Errno::EPIPE);
            }
            let before = done;
            let filled = self.fill(src, packet, &mut done);
            if done > before {
                self.read_wait.wake(1, READABLE);
            }
            if let Err(e) = filled {
                break Err(e);
            }
            if src.remaining() == 0 {
                break Ok(());
            }
            if nonblock {
                break Err(Errno::EAGAIN);
            }
            // Wake-up proof: `used`, `limit` and `readers` change before the queue is woken.
            let r = self
                .write_wait
                .wait_exclusive(|| (!self.full() || self.no_readers()).then_some(()));
            if let Err(e) = r {
                break Err(e);
            }
            waited = true;
        };
        if waited && !self.full() {
            self.write_wait.wake(1, WRITABLE);
        }
        match result {
            Err(e) if done == 0 => Err(e),
            _ => Ok(done),
        }
    }
    fn fill(&self, src: &mut dyn Source, packet: bool, done: &mut usize) -> Result {
        let mut ring = self.ring.lock();
        let r = self.fill_ring(&mut ring, src, packet, done);
        self.mirror(&ring);
        r
    }
    fn fill_ring(
        &self,
        ring: &mut Ring,
        src: &mut dyn Source,
        packet: bool,
        done: &mut usize,
    ) -> Result {
        let left = src.remaining();
        if left < SLOT
            && !packet
            && let Some(s) = ring.slots.back_mut()
            && !s.packet
            && s.off + s.len + left <= SLOT
        {
            let at = s.off + s.len;
            let n = src.take(&mut s.page[at..at + left])?;
            s.len += n;
            *done += n;
            self.bytes.fetch_add(n, Ordering::Relaxed);
            return if n < left { Err(Errno::EFAULT) } else { Ok(()) };
        }
        while src.remaining() > 0 && ring.slots.len() < self.limit.load(Ordering::Relaxed) {
            let want = src.remaining().min(SLOT);
            let mut page = ring.page()?;
            let n = match src.take(&mut page[..want]) {
                Ok(n) if n > 0 => n,
                other => {
                    ring.spare.push(page);
                    return Err(other.err().unwrap_or(Errno::EFAULT));
                }
            };
            ring.slots.push_back(Slot {
                page,
                off: 0,
                len: n,
                packet,
            });
            *done += n;
            self.bytes.fetch_add(n, Ordering::Relaxed);
            if n < want {
                return Err(Errno::EFAULT);
            }
        }
        Ok(())
    }

    // --- for splice ---

    /// Waits for room; bytes that fit. [`Errno::EPIPE`], [`Errno::EAGAIN`], ERESTARTSYS.
    pub(crate) fn wait_room(&self, nonblock: bool) -> Result<usize> {
        loop {
            if self.no_readers() {
                return Err(Errno::EPIPE);
            }
            let (used, limit) = (
                self.used.load(Ordering::Acquire),
                self.limit.load(Ordering::Relaxed),
            );
            if used < limit {
                return Ok((limit - used).saturating_mul(SLOT));
            }
            if nonblock {
                return Err(Errno::EAGAIN);
            }
            // Wake-up proof: as in `write`.
            self.write_wait
                .wait_exclusive(|| (!self.full() || self.no_readers()).then_some(()))?;
        }
    }
    /// Appends kernel bytes even beyond the limit (room has been waited for, others may have taken it since).
    pub(crate) fn push(&self, data: &[u8]) -> Result {
        {
            let mut ring = self.ring.lock();
            for chunk in data.chunks(SLOT) {
                let mut page = ring.page()?;
                page[..chunk.len()].copy_from_slice(chunk);
                ring.slots.push_back(Slot {
                    page,
                    off: 0,
                    len: chunk.len(),
                    packet: false,
                });
                self.bytes.fetch_add(chunk.len(), Ordering::Relaxed);
                self.mirror(&ring);
            }
        }
        self.read_wait.wake(1, READABLE);
        Ok(())
    }
    /// Puts bytes that were read back to the front.
    pub(crate) fn unread(&self, data: &[u8]) -> Result {
        {
            let mut ring = self.ring.lock();
            for chunk in data.chunks(SLOT).rev() {
                let mut page = ring.page()?;
                page[..chunk.len()].copy_from_slice(chunk);
                ring.slots.push_front(Slot {
                    page,
                    off: 0,
                    len: chunk.len(),
                    packet: false,
                });
                self.bytes.fetch_add(chunk.len(), Ordering::Relaxed);
                self.mirror(&ring);
            }
        }
        self.read_wait.wake(1, READABLE);
        Ok(())
    }
    /// Copies up to `max` bytes without taking them; waits for some unless `nonblock`. Empty: no writers.
    pub(crate) fn peek(&self, max: usize, nonblock: bool) -> Result<Vec<u8>> {
        loop {
            if !self.empty() {
                let ring = self.ring.lock();
                let mut out = Vec::new();
                for s in &ring.slots {
                    let n = s.len.min(max - out.len());
                    if n == 0 {
                        break;
                    }
                    out.try_reserve(n).map_err(|_| Errno::ENOMEM)?;
                    out.extend_from_slice(s.page.get(s.off..s.off + n).unwrap_or_default());
                }
                if !out.is_empty() {
                    return Ok(out);
                }
            }
            if self.no_writers() {
                return Ok(Vec::new());
            }
            if nonblock {
                return Err(Errno::EAGAIN);
            }
            // Wake-up proof: as in `read`.
            self.read_wait
                .wait(|| (!self.empty() || self.no_writers()).then_some(()))?;
        }
    }

    /// F_GETPIPE_SZ.
    pub fn size(&self) -> usize {
        self.limit.load(Ordering::Relaxed) * SLOT
    }
    /// F_SETPIPE_SZ: the new size. [`Errno::EPERM`], [`Errno::EBUSY`], [`Errno::EINVAL`].
    pub fn set_size(&self, cx: &dyn Caller, bytes: u64) -> Result<usize> {
        if bytes > 1 << 31 {
            return Err(Errno::EINVAL);
        }
        let slots = (bytes as usize).div_ceil(SLOT).max(1).next_power_of_two();
        let limits = cx.devices().map(|d| &d.pipes);
        let cred = cx.cred();
        let most = limits.map_or(MAX_USER_SLOTS, max_slots);
        let now;
        {
            let mut ring = self.ring.lock();
            now = self.limit.load(Ordering::Relaxed);
            if slots > MAX_SLOTS || slots > now && slots > most && !cred.capable(cap::SYS_RESOURCE)
            {
                return Err(Errno::EPERM);
            }
            if slots < ring.slots.len() {
                return Err(Errno::EBUSY);
            }
            if let (Some(limits), Some(share)) = (limits, &mut *self.share.lock()) {
                share.resize(slots as u64);
                let total = share.total();
                if slots > now && (limits.over_soft(total, &cred) || limits.over_hard(total, &cred))
                {
                    share.resize(now as u64);
                    return Err(Errno::EPERM);
                }
            }
            let keep = slots - ring.slots.len();
            ring.spare.truncate(keep);
            self.limit.store(slots, Ordering::Release);
        }
        if slots > now {
            self.write_wait.wake(1, WRITABLE);
        }
        Ok(slots * SLOT)
    }
    /// Bytes to read.
    pub fn available(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Most slots that an unprivileged user may ask for.
fn max_slots(limits: &PipeLimits) -> usize {
    (limits.max_size.load(Ordering::Relaxed) as usize / SLOT).max(1)
}

/// One open of a pipe or fifo. Counted as reader and writer for as long as it lives.
pub struct PipeFile {
    /// The pipe.
    pub pipe: Arc<Pipe>,
    reader: bool,
    writer: bool,
    ino: u64,
    /// `writer_opens` when a reader opened without a writer: no POLLHUP until one has come.
    seen_writers: AtomicU32,
}

impl PipeFile {
    fn new(pipe: &Arc<Pipe>, reader: bool, writer: bool, ino: u64) -> Arc<PipeFile> {
        if reader {
            pipe.readers.fetch_add(1, Ordering::AcqRel);
            pipe.reader_opens.fetch_add(1, Ordering::AcqRel);
        }
        if writer {
            pipe.writers.fetch_add(1, Ordering::AcqRel);
            pipe.writer_opens.fetch_add(1, Ordering::AcqRel);
        }
        Arc::new(PipeFile {
            pipe: pipe.clone(),
            reader,
            writer,
            ino,
            seen_writers: AtomicU32::new(0),
        })
    }
}

impl Drop for PipeFile {
    fn drop(&mut self) {
        let p = &self.pipe;
        if self.reader {
            p.readers.fetch_sub(1, Ordering::AcqRel);
        }
        if self.writer {
            p.writers.fetch_sub(1, Ordering::AcqRel);
        }
        if p.no_readers() && p.no_writers() {
            let mut ring = p.ring.lock();
            // A fifo that nobody has open keeps nothing; an opener that came
            // meanwhile is seen by the counts, as it writes under the lock.
            if p.no_readers() && p.no_writers() {
                *ring = Ring::default();
                p.bytes.store(0, Ordering::Relaxed);
                p.mirror(&ring);
                p.limit.store(DEFAULT_SLOTS, Ordering::Release);
                *p.share.lock() = None;
            }
        }
        let gone = PollEvents::HUP.bits() | PollEvents::ERR.bits();
        p.read_wait.wake_key(READABLE | gone);
        p.write_wait.wake_key(WRITABLE | gone);
    }
}

impl FileOps for PipeFile {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn read(&self, f: &File, _cx: &dyn Caller, _pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        self.pipe.read(dst, f.nonblock())
    }
    fn write(&self, f: &File, _cx: &dyn Caller, _pos: u64, src: &mut dyn Source) -> Result<usize> {
        let flags = f.flags();
        self.pipe.write(
            src,
            flags.contains(OpenFlags::NONBLOCK),
            flags.contains(OpenFlags::DIRECT),
        )
    }
    fn poll(&self, f: &File, table: Option<&mut PollTable<'_>>) -> PollEvents {
        let p = &self.pipe;
        let flags = f.flags();
        let (r, w) = (flags.readable(), flags.writable());
        if let Some(t) = table {
            if r {
                t.add(p.read_wait.clone());
            }
            if w {
                t.add(p.write_wait.clone());
            }
        }
        let mut ev = PollEvents::empty();
        if r {
            if !p.empty() {
                ev |= PollEvents::IN | PollEvents::RDNORM;
            }
            if p.no_writers()
                && p.writer_opens.load(Ordering::Relaxed)
                    != self.seen_writers.load(Ordering::Relaxed)
            {
                ev |= PollEvents::HUP;
            }
        }
        if w {
            if !p.full() {
                ev |= PollEvents::OUT | PollEvents::WRNORM;
            }
            if p.no_readers() {
                ev |= PollEvents::ERR;
            }
        }
        ev
    }
    fn ioctl(&self, _f: &File, cx: &dyn Caller, cmd: u32, arg: u64) -> Result<u64> {
        if cmd != abi::ioctl::FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let n = self.pipe.available().min(i32::MAX as usize) as i32;
        cx.mm().ok_or(Errno::EFAULT)?.put(arg, &n)?;
        Ok(0)
    }
    fn anon_name(&self) -> Option<Vec<u8>> {
        Some(format!("pipe:[{}]", self.ino).into_bytes())
    }
}

/// The pipe behind a file, if it is one.
pub fn as_pipe(f: &File) -> Option<&PipeFile> {
    f.ops.as_any().downcast_ref()
}

impl Ipc {
    /// pipe2(2): the read and the write end. `flags`: O_NONBLOCK, O_DIRECT (O_CLOEXEC is the caller's); else [`Errno::EINVAL`].
    pub fn pipe(&self, cx: &dyn Caller, flags: OpenFlags) -> Result<(Arc<File>, Arc<File>)> {
        let may = OpenFlags::NONBLOCK | OpenFlags::DIRECT;
        if !flags.difference(may | OpenFlags::CLOEXEC).is_empty() {
            return Err(Errno::EINVAL);
        }
        let flags = flags & may;
        let inode = self.anon.pipe_inode(cx);
        let ino = vfs::Inode::ino(&*inode);
        let pipe = Pipe::new(cx)?;
        if let Some(slot) = vfs::Inode::fifo_slot(&*inode) {
            *slot.lock() = Some(pipe.clone());
        }
        let r = PipeFile::new(&pipe, true, false, ino);
        let w = PipeFile::new(&pipe, false, true, ino);
        let cred = cx.cred();
        let rf = File::new(
            r,
            inode.clone(),
            None,
            flags & OpenFlags::NONBLOCK,
            cred.clone(),
        );
        let wf = File::new(w, inode, None, flags | OpenFlags::WRONLY, cred);
        Ok((rf, wf))
    }
}

/// Opens a fifo, fifo(7): waits for the other side unless O_NONBLOCK. Also reopens pipes (/proc/PID/fd).
/// For [`vfs::device::DeviceTable::set_fifo_open`].
pub fn open_fifo(inode: &InodeRef, flags: OpenFlags, cx: &dyn Caller) -> Result<Arc<dyn FileOps>> {
    if inode.file_type() != FileType::Fifo {
        return Err(Errno::ENXIO);
    }
    let Some(slot) = inode.fifo_slot() else {
        // A pipe of the host knows how to be opened.
        return inode.open(inode, flags, cx);
    };
    let fresh = Pipe::unlimited();
    let pipe = {
        let mut s = slot.lock();
        let any = s.get_or_insert_with(|| fresh).clone();
        drop(s);
        any.downcast::<Pipe>().map_err(|_| Errno::ENXIO)?
    };
    pipe.charge(cx)?;
    let (r, w) = (flags.readable(), flags.writable());
    let nonblock = flags.contains(OpenFlags::NONBLOCK);
    // A pipe of pipe(2), reached through /proc/PID/fd, waits for nobody.
    let unnamed = inode.as_any().is::<vfs::anon::AnonInode>();
    if unnamed {
        return Ok(PipeFile::new(&pipe, r, w, inode.ino()));
    }
    let other_opens = |writers: bool| {
        let n = if writers {
            &pipe.writer_opens
        } else {
            &pipe.reader_opens
        };
        n.load(Ordering::Acquire)
    };
    if w && !r && nonblock && pipe.no_readers() {
        return Err(Errno::ENXIO);
    }
    let file = PipeFile::new(&pipe, r, w, inode.ino());
    // Openers of the other side wait on the queue of their own side.
    if r {
        pipe.write_wait.wake_key(WRITABLE);
    }
    if w {
        pipe.read_wait.wake_key(0);
    }
    if r && !w && pipe.no_writers() {
        let before = other_opens(true);
        if nonblock {
            file.seen_writers.store(before, Ordering::Relaxed);
        } else {
            // Wake-up proof: a writer counts itself before it wakes `read_wait`.
            pipe.read_wait
                .wait(|| (!pipe.no_writers() || other_opens(true) != before).then_some(()))?;
        }
    } else if w && !r && pipe.no_readers() {
        let before = other_opens(false);
        // Wake-up proof: a reader counts itself before it wakes `write_wait`.
        pipe.write_wait
            .wait(|| (!pipe.no_readers() || other_opens(false) != before).then_some(()))?;
    }
    Ok(file)
}
