//! [`Tty`]: a terminal as programs see it, and the file that is open on it.

use crate::ldisc::Ldisc;
use crate::termios::{ICANON, TOSTOP, Termios, cc};
use abi::signal::{SIGTTIN, SIGTTOU};
use abi::{Errno, Result, SigInfo};
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, Ordering};
use mm::io::{Sink, Source};
use sync::{SpinLock, WaitQueue, level};
use task::{Kernel, Session};
use vfs::file::Caller;
use vfs::{File, FileOps, PollEvents, PollTable};

/// Input bytes that wait for the line discipline; a pseudo-terminal's master waits beyond.
const PENDING_MAX: usize = 32 << 10;
/// Bytes moved at a time between a caller and the terminal.
const CHUNK: usize = 4096;
/// Code of signals from the kernel.
pub(crate) const SI_KERNEL: i32 = 0x80;

/// What is behind a terminal. Called with no lock held; must not sleep.
pub trait Line: Send + Sync {
    /// There is output, or it may go on.
    fn output(&self, tty: &Tty);
    /// There is room for input again.
    fn input_room(&self, _tty: &Tty) {}
    /// A program reads or changes settings.
    fn used(&self) {}
    /// Whether output goes nowhere (the other side has closed): writes give [`Errno::EIO`].
    fn broken(&self) -> bool {
        false
    }
    /// Bytes accepted but not yet shown, beside the terminal's own.
    fn unsent(&self) -> usize {
        0
    }
    /// Bytes shown since the beginning.
    fn sent(&self) -> u64 {
        0
    }
    /// The host reports something.
    fn device_event(&self, _tty: &Tty, _event: hal::dev::Event) {}
    /// The last open file on the terminal is gone.
    fn closed(&self) {}
    /// Whether it is a pseudo-terminal.
    fn is_pty(&self) -> bool {
        false
    }
}

pub(crate) struct State {
    pub ldisc: Ldisc,
    /// Input that the line discipline has not taken yet.
    pub pending: VecDeque<u8>,
    /// Rows, columns, x pixels, y pixels.
    pub winsize: [u16; 4],
    pub session: Option<Weak<Session>>,
    pub sid: i32,
    /// Foreground process group; 0 = none.
    pub pgrp: i32,
    /// TIOCEXCL.
    pub exclusive: bool,
}

/// A terminal.
pub struct Tty {
    pub(crate) kernel: &'static Kernel,
    /// Device number.
    pub dev: u64,
    pub(crate) line: Arc<dyn Line>,
    pub(crate) state: SpinLock<State, { level::IPC }>,
    pub(crate) read_wait: Arc<WaitQueue>,
    pub(crate) write_wait: Arc<WaitQueue>,
    /// Counts hang-ups: files of an earlier generation are dead.
    pub(crate) generation: AtomicU32,
    /// Open files.
    pub(crate) opens: AtomicU32,
}

pub(crate) const READABLE: u32 = PollEvents::IN.bits() | PollEvents::RDNORM.bits();
pub(crate) const WRITABLE: u32 = PollEvents::OUT.bits() | PollEvents::WRNORM.bits();

impl Tty {
    /// A terminal on `line`.
    pub fn new(
        kernel: &'static Kernel,
        dev: u64,
        line: Arc<dyn Line>,
        termios: Termios,
        winsize: [u16; 4],
    ) -> Arc<Tty> {
        Arc::new(Tty {
            kernel,
            dev,
            line,
            state: SpinLock::new(State {
                ldisc: Ldisc::new(termios),
                pending: VecDeque::new(),
                winsize,
                session: None,
                sid: 0,
                pgrp: 0,
                exclusive: false,
            }),
            read_wait: Arc::new(WaitQueue::new()),
            write_wait: Arc::new(WaitQueue::new()),
            generation: AtomicU32::new(0),
            opens: AtomicU32::new(0),
        })
    }
    /// The settings.
    pub fn termios(&self) -> Termios {
        self.state.lock().ldisc.termios
    }
    /// Foreground process group; 0 = none.
    pub fn foreground(&self) -> i32 {
        self.state.lock().pgrp
    }

    /// Bytes arrive from the line; how many are taken.
    pub fn input(&self, data: &[u8]) -> usize {
        let n = {
            let mut s = self.state.lock();
            let n = data.len().min(PENDING_MAX.saturating_sub(s.pending.len()));
            s.pending.extend(data.iter().take(n));
            n
        };
        self.feed();
        n
    }
    /// Room for input, in bytes.
    pub fn input_room(&self) -> usize {
        PENDING_MAX.saturating_sub(self.state.lock().pending.len())
    }
    /// Passes pending input to the line discipline as far as it has room.
    fn feed(&self) {
        loop {
            let mut signals: Vec<i32> = Vec::new();
            let (pgrp, more, echo, was_stopped, stopped);
            {
                let mut s = self.state.lock();
                was_stopped = s.ldisc.stopped;
                let before = s.ldisc.out.len();
                let epoch = s.ldisc.out_epoch;
                let mut budget = CHUNK;
                while budget > 0 && s.ldisc.room() > 0 {
                    let Some(c) = s.pending.pop_front() else {
                        break;
                    };
                    budget -= 1;
                    if let Some(sig) = s.ldisc.input(c) {
                        signals.push(sig);
                        break;
                    }
                }
                stopped = s.ldisc.stopped;
                echo = s.ldisc.out.len() != before
                    || s.ldisc.out_epoch != epoch
                    || was_stopped && !stopped
                    || s.ldisc.packet_status != 0;
                more = !s.pending.is_empty() && s.ldisc.room() > 0;
                pgrp = s.pgrp;
            }
            for sig in signals {
                self.signal_group(pgrp, sig);
            }
            if echo {
                self.line.output(self);
                self.wake_writers();
            }
            if !more {
                break;
            }
        }
        // Wake-up proof: input is in the buffer before the queue is woken.
        self.read_wait.wake_key(READABLE);
    }
    pub(crate) fn signal_group(&self, pgrp: i32, signo: i32) {
        if pgrp > 0 {
            task::signal::send_group(self.kernel, pgrp, SigInfo::new(signo, SI_KERNEL));
        }
    }
    pub(crate) fn wake_writers(&self) {
        self.write_wait.wake_key(WRITABLE);
    }
    /// The window has a new size: notes it and tells the foreground group.
    pub fn resize(&self, size: [u16; 4]) {
        let pgrp = {
            let mut s = self.state.lock();
            if s.winsize == size {
                return;
            }
            s.winsize = size;
            s.pgrp
        };
        self.signal_group(pgrp, abi::signal::SIGWINCH);
    }
    /// Opens the terminal.
    pub(crate) fn open(self: &Arc<Self>) -> Arc<TtyFile> {
        self.opens.fetch_add(1, Ordering::AcqRel);
        Arc::new(TtyFile {
            tty: self.clone(),
            generation: self.generation.load(Ordering::Acquire),
        })
    }
    /// Minimum count and time of raw reads, or `None` in canonical mode.
    fn raw_mode(&self) -> Option<(usize, u64)> {
        let s = self.state.lock();
        let t = &s.ldisc.termios;
        if t.l(ICANON) {
            None
        } else {
            let tenths = t.cc[cc::TIME] as u64;
            Some((t.cc[cc::MIN] as usize, tenths * 100_000_000))
        }
    }
    /// Takes input for a read of up to `max` bytes if there is a line or `min` bytes.
    fn take(&self, max: usize, min: usize) -> Option<Vec<u8>> {
        let mut s = self.state.lock();
        s.ldisc.readable(min).then(|| s.ldisc.take(max))
    }
    fn after_take(&self) {
        let waiting = !self.state.lock().pending.is_empty();
        if waiting {
            self.feed();
        }
        self.line.input_room(self);
    }
}

/// An open terminal.
pub struct TtyFile {
    /// The terminal.
    pub tty: Arc<Tty>,
    generation: u32,
}

impl Drop for TtyFile {
    fn drop(&mut self) {
        if self.tty.opens.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.tty.state.lock().exclusive = false;
            self.tty.line.closed();
        }
    }
}

impl TtyFile {
    /// Whether the terminal has hung up since this file was opened.
    pub fn dead(&self) -> bool {
        self.tty.generation.load(Ordering::Acquire) != self.generation
    }
    fn read_canonical(&self, f: &File, dst: &mut dyn Sink) -> Result<usize> {
        let t = &self.tty;
        let max = dst.remaining().min(CHUNK);
        loop {
            if let Some(line) = t.take(max, 1) {
                t.after_take();
                return deliver(dst, &line);
            }
            self.check_input(f)?;
            if self.dead() {
                return Ok(0);
            }
            // Wake-up proof: `feed` fills the buffer, and hang-up counts the
            // generation, before `read_wait` is woken.
            t.read_wait.wait(|| {
                (t.state.lock().ldisc.readable(1)
                    || self.dead()
                    || t.line.broken()
                    || t.raw_mode().is_some())
                .then_some(())
            })?;
            if t.raw_mode().is_some() {
                return self.read(f, &Nobody, 0, dst);
            }
        }
    }
    /// Errors that end a read which found nothing.
    fn check_input(&self, f: &File) -> Result {
        if self.tty.line.broken() && !self.dead() {
            return Err(Errno::EIO);
        }
        if f.nonblock() && !self.dead() {
            return Err(Errno::EAGAIN);
        }
        Ok(())
    }
    fn read_raw(&self, f: &File, dst: &mut dyn Sink, min: usize, time_ns: u64) -> Result<usize> {
        let t = &self.tty;
        let mut done = 0;
        let want = min.min(dst.remaining()).max(1);
        let mut deadline = (min == 0).then(|| t.kernel.now().saturating_add(time_ns));
        while dst.remaining() > 0 {
            if let Some(data) = t.take(dst.remaining().min(CHUNK), 1) {
                t.after_take();
                let n = data.len();
                match deliver(dst, &data) {
                    Ok(k) => done += k,
                    Err(e) if done == 0 => return Err(e),
                    Err(_) => break,
                }
                if n == 0 {
                    break;
                }
                if min > 0 && time_ns > 0 {
                    // The timer runs between bytes.
                    deadline = Some(t.kernel.now().saturating_add(time_ns));
                }
                continue;
            }
            if done >= want || done > 0 && min == 0 {
                break;
            }
            if min == 0 && time_ns == 0 {
                break;
            }
            if let Err(e) = self.check_input(f) {
                return if done > 0 { Ok(done) } else { Err(e) };
            }
            if self.dead() {
                break;
            }
            // Wake-up proof: as in `read_canonical`.
            let r = t.read_wait.wait_until(deadline, || {
                (t.state.lock().ldisc.readable(1) || self.dead() || t.line.broken()).then_some(())
            });
            match r {
                Ok(()) => {}
                Err(Errno::ETIMEDOUT) => break,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(done)
    }
}

fn deliver(dst: &mut dyn Sink, data: &[u8]) -> Result<usize> {
    if data.is_empty() {
        return Ok(0);
    }
    dst.put(data)
}

/// The caller of a read whose permission has been checked already.
struct Nobody;

impl Caller for Nobody {
    fn cred(&self) -> Arc<vfs::Cred> {
        Arc::new(vfs::Cred::root())
    }
    fn mm(&self) -> Option<Arc<mm::Mm>> {
        None
    }
    fn pid(&self) -> i32 {
        0
    }
    fn realtime_ns(&self) -> i64 {
        0
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl FileOps for TtyFile {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn read(&self, f: &File, cx: &dyn Caller, _pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        if self.dead() {
            return Ok(0);
        }
        self.tty.check_job(cx, SIGTTIN)?;
        self.tty.line.used();
        if dst.remaining() == 0 {
            return Ok(0);
        }
        match self.tty.raw_mode() {
            None => self.read_canonical(f, dst),
            Some((min, time)) => self.read_raw(f, dst, min, time),
        }
    }
    fn write(&self, f: &File, cx: &dyn Caller, _pos: u64, src: &mut dyn Source) -> Result<usize> {
        let t = &self.tty;
        if self.dead() || t.line.broken() {
            return Err(Errno::EIO);
        }
        let tostop = t.state.lock().ldisc.termios.l(TOSTOP);
        if tostop {
            t.check_job(cx, SIGTTOU)?;
        }
        let mut buf = vec![0; src.remaining().min(CHUNK)];
        let mut done = 0;
        while src.remaining() > 0 {
            let got = match src.take(&mut buf) {
                Ok(n) if n > 0 => n,
                Ok(_) => break,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            };
            let n = t
                .state
                .lock()
                .ldisc
                .write(buf.get(..got).unwrap_or_default());
            src.untake(got - n);
            done += n;
            if n > 0 {
                t.line.output(t);
            }
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
            // Wake-up proof: output leaves the buffer, ^Q starts it and hang-up
            // counts the generation before `write_wait` is woken.
            let r = t.write_wait.wait(|| {
                (t.state.lock().ldisc.writable() || self.dead() || t.line.broken()).then_some(())
            });
            match r {
                Ok(()) if !self.dead() && !t.line.broken() => {}
                _ if done > 0 => return Ok(done),
                Ok(()) => return Err(Errno::EIO),
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }
    fn poll(&self, _f: &File, table: Option<&mut PollTable<'_>>) -> PollEvents {
        let t = &self.tty;
        if let Some(table) = table {
            table.add(t.read_wait.clone());
            table.add(t.write_wait.clone());
        }
        let (r, w) = (
            PollEvents::IN | PollEvents::RDNORM,
            PollEvents::OUT | PollEvents::WRNORM,
        );
        if self.dead() {
            return r | w | PollEvents::ERR | PollEvents::HUP;
        }
        t.line.used();
        let min = match t.raw_mode() {
            Some((min, 0)) => min.max(1),
            _ => 1,
        };
        let s = t.state.lock();
        let mut ev = PollEvents::empty();
        if s.ldisc.readable(min) {
            ev |= r;
        }
        if s.ldisc.writable() {
            ev |= w;
        }
        drop(s);
        if t.line.broken() {
            ev |= PollEvents::HUP | r;
        }
        ev
    }
    fn ioctl(&self, f: &File, cx: &dyn Caller, cmd: u32, arg: u64) -> Result<u64> {
        self.do_ioctl(f, cx, cmd, arg)
    }
}

/// The terminal behind a file, if it is one (not a pseudo-terminal's master).
pub fn as_tty(f: &File) -> Option<&TtyFile> {
    f.ops.as_any().downcast_ref()
}
