//! Pseudo-terminals, pty(7).
//!
//! A [`Pty`] is the line of its slave [`Tty`]: what programs write to the
//! slave collects in the slave's output buffer, from which the master reads;
//! what is written to the master is the slave's input.

use crate::devpts::DevPts;
use crate::root::Terminals;
use crate::termios::Termios;
use crate::tty::{Line, READABLE, Tty, TtyFile, WRITABLE};
use abi::stat::makedev;
use abi::{Errno, Result};
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, Ordering};
use mm::io::{Sink, Source};
use sync::{Once, WaitQueue};
use task::Ctx;
use vfs::file::Caller;
use vfs::namei::WalkFlags;
use vfs::{File, FileOps, OpenFlags, PollEvents, PollTable};

/// Major number of slaves.
pub const PTS_MAJOR: u32 = 136;
/// Most pseudo-terminals of a machine (`kernel.pty.max`).
pub const MAX_PTYS: u32 = 4096;
const CHUNK: usize = 4096;

/// A pseudo-terminal.
pub struct Pty {
    /// Number of the slave: /dev/pts/N.
    pub index: u32,
    this: Weak<Pty>,
    slave: Once<Arc<Tty>>,
    locked: AtomicBool,
    packet: AtomicBool,
    /// The master is open.
    master_open: AtomicBool,
    /// The slave has been open and is not any more.
    slave_gone: AtomicBool,
    read_wait: Arc<WaitQueue>,
    write_wait: Arc<WaitQueue>,
}

impl Pty {
    /// A new pair.
    pub(crate) fn new(root: &Terminals, index: u32) -> Arc<Pty> {
        let pty = Arc::new_cyclic(|this| Pty {
            index,
            this: this.clone(),
            slave: Once::new(),
            locked: AtomicBool::new(true),
            packet: AtomicBool::new(false),
            master_open: AtomicBool::new(true),
            slave_gone: AtomicBool::new(false),
            read_wait: Arc::new(WaitQueue::new()),
            write_wait: Arc::new(WaitQueue::new()),
        });
        let line: Arc<dyn Line> = Arc::new(PtyLine(pty.this.clone()));
        let dev = makedev(PTS_MAJOR, index);
        let tty = Tty::new(root.kernel, dev, line, Termios::default(), [0; 4]);
        let _ = pty.slave.set(tty);
        pty
    }
    /// The slave.
    pub fn slave(&self) -> &Arc<Tty> {
        match self.slave.get() {
            Some(t) => t,
            None => unreachable!("set when the pair is made"),
        }
    }
    pub(crate) fn locked(&self) -> bool {
        self.locked.load(Ordering::Acquire)
    }
    pub(crate) fn set_locked(&self, on: bool) {
        self.locked.store(on, Ordering::Release);
    }
    pub(crate) fn packet(&self) -> bool {
        self.packet.load(Ordering::Acquire)
    }
    pub(crate) fn set_packet(&self, on: bool) {
        if on && !self.packet() {
            self.slave().state.lock().ldisc.packet_status = 0;
        }
        self.packet.store(on, Ordering::Release);
    }
    /// Opens the slave. [`Errno::EIO`]: locked, or the master is gone.
    pub(crate) fn open_slave(&self) -> Result<Arc<TtyFile>> {
        if self.locked() || !self.master_open.load(Ordering::Acquire) {
            return Err(Errno::EIO);
        }
        self.slave_gone.store(false, Ordering::Release);
        Ok(self.slave().open())
    }
    pub(crate) fn slave_closed(&self) {
        self.slave_gone.store(true, Ordering::Release);
        let hup = PollEvents::HUP.bits();
        self.read_wait.wake_key(READABLE | hup);
        self.write_wait.wake_key(WRITABLE | hup);
    }
    /// TIOCGPTPEER: a descriptor of the slave.
    pub(crate) fn open_peer(&self, cx: &dyn Caller, flags: u64) -> Result<u64> {
        let cx = Ctx::from_caller(cx).ok_or(Errno::ENOTTY)?;
        let flags = OpenFlags::from_bits_truncate(flags as u32);
        let path = format!("/dev/pts/{}", self.index);
        let walk = cx.walk(task::ctx::AT_FDCWD)?;
        let file = walk.open(path.as_bytes(), flags, 0, WalkFlags::FOLLOW)?;
        let fd = cx.install(file, flags.contains(OpenFlags::CLOEXEC))?;
        Ok(fd as u64)
    }
    fn status(&self) -> u8 {
        if self.packet() {
            self.slave().state.lock().ldisc.packet_status
        } else {
            0
        }
    }
    fn has_output(&self) -> bool {
        let s = self.slave().state.lock();
        !s.ldisc.out.is_empty() && !s.ldisc.stopped
    }
    fn take_output(&self, max: usize) -> Vec<u8> {
        let data = {
            let mut s = self.slave().state.lock();
            if s.ldisc.stopped {
                return Vec::new();
            }
            let n = s.ldisc.out.len().min(max);
            s.ldisc.out.drain(..n).collect()
        };
        // Wake-up proof: room is made before the queue is woken.
        self.slave().wake_writers();
        data
    }
}

/// The slave's view of its pair; weak, as the pair owns the slave.
struct PtyLine(Weak<Pty>);

impl Line for PtyLine {
    fn output(&self, _tty: &Tty) {
        if let Some(p) = self.0.upgrade() {
            p.read_wait.wake_key(READABLE | PollEvents::PRI.bits());
        }
    }
    fn input_room(&self, _tty: &Tty) {
        if let Some(p) = self.0.upgrade() {
            p.write_wait.wake_key(WRITABLE);
        }
    }
    fn broken(&self) -> bool {
        self.0
            .upgrade()
            .is_none_or(|p| !p.master_open.load(Ordering::Acquire))
    }
    fn closed(&self) {
        if let Some(p) = self.0.upgrade() {
            p.slave_closed();
        }
    }
    fn is_pty(&self) -> bool {
        true
    }
}

/// The open master.
pub struct MasterFile {
    /// The pair.
    pub pty: Arc<Pty>,
    root: Arc<Terminals>,
}

impl Drop for MasterFile {
    fn drop(&mut self) {
        self.pty.master_open.store(false, Ordering::Release);
        self.root.remove_pty(self.pty.index);
        self.pty.slave().hang_up();
    }
}

impl MasterFile {
    /// open(2) of /dev/ptmx: a new pair. `fs`: where the slave appears, owned by the opener.
    pub(crate) fn open(root: &Arc<Terminals>, fs: &DevPts, cx: &dyn Caller) -> Result<Arc<Self>> {
        let pty = root.new_pty()?;
        fs.add(pty.index, &cx.cred(), cx.realtime_ns());
        Ok(Arc::new(MasterFile {
            pty,
            root: root.clone(),
        }))
    }
}

impl FileOps for MasterFile {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn read(&self, f: &File, _cx: &dyn Caller, _pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        let p = &self.pty;
        if dst.remaining() == 0 {
            return Ok(0);
        }
        loop {
            if p.packet() {
                let status = core::mem::take(&mut p.slave().state.lock().ldisc.packet_status);
                if status != 0 {
                    return dst.put(&[status]);
                }
            }
            let room = dst.remaining() - p.packet() as usize;
            let data = p.take_output(room.min(64 << 10));
            if !data.is_empty() {
                let mut n = 0;
                if p.packet() {
                    n = dst.put(&[0])?;
                }
                return Ok(n + dst.put(&data)?);
            }
            if p.packet() && room == 0 && p.has_output() {
                return dst.put(&[0]);
            }
            if p.slave_gone.load(Ordering::Acquire) && !p.has_output() {
                return Err(Errno::EIO);
            }
            if f.nonblock() {
                return Err(Errno::EAGAIN);
            }
            // Wake-up proof: output, status and closing come before the queue is woken.
            p.read_wait.wait(|| {
                (p.has_output() || p.status() != 0 || p.slave_gone.load(Ordering::Acquire))
                    .then_some(())
            })?;
        }
    }
    fn write(&self, f: &File, _cx: &dyn Caller, _pos: u64, src: &mut dyn Source) -> Result<usize> {
        let p = &self.pty;
        let t = p.slave();
        let mut buf = vec![0; src.remaining().min(CHUNK)];
        let mut done = 0;
        while src.remaining() > 0 {
            if !t.opened() {
                return if done > 0 { Ok(done) } else { Err(Errno::EIO) };
            }
            let got = match src.take(&mut buf) {
                Ok(n) if n > 0 => n,
                Ok(_) => break,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            };
            let n = t.input(buf.get(..got).unwrap_or_default());
            src.untake(got - n);
            done += n;
            if n == got {
                continue;
            }
            if f.nonblock() {
                return if done > 0 {
                    Ok(done)
                } else {
                    Err(Errno::EAGAIN)
                };
            }
            // Wake-up proof: readers of the slave make room before the queue is woken.
            let r = p
                .write_wait
                .wait(|| (t.input_room() > 0 || !t.opened()).then_some(()));
            if let Err(e) = r {
                return if done > 0 { Ok(done) } else { Err(e) };
            }
        }
        Ok(done)
    }
    fn poll(&self, _f: &File, table: Option<&mut PollTable<'_>>) -> PollEvents {
        let p = &self.pty;
        if let Some(t) = table {
            t.add(p.read_wait.clone());
            t.add(p.write_wait.clone());
        }
        let mut ev = PollEvents::empty();
        if p.has_output() {
            ev |= PollEvents::IN | PollEvents::RDNORM;
        }
        if p.status() != 0 {
            ev |= PollEvents::PRI | PollEvents::IN | PollEvents::RDNORM;
        }
        if p.slave().input_room() > 0 {
            ev |= PollEvents::OUT | PollEvents::WRNORM;
        }
        if p.slave_gone.load(Ordering::Acquire) {
            ev |= PollEvents::HUP;
        }
        ev
    }
    fn ioctl(&self, _f: &File, cx: &dyn Caller, cmd: u32, arg: u64) -> Result<u64> {
        self.pty.master_ioctl(cx, cmd, arg)
    }
}

/// The master behind a file, if it is one.
pub fn as_master(f: &File) -> Option<&MasterFile> {
    f.ops.as_any().downcast_ref()
}
