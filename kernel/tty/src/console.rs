//! The console: the terminal of the host, console(4).

use crate::root::Terminals;
use crate::termios::Termios;
use crate::tty::{Line, Tty};
use abi::Errno;
use abi::stat::makedev;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use hal::dev::Console;
use sync::{SpinLock, level};

/// Bytes given to the host at a time.
const CHUNK: usize = 8192;

/// The host terminal as the line of a [`Tty`].
pub(crate) struct ConsoleLine {
    host: &'static dyn Console,
    /// Somebody is writing to the host; and was asked to look again.
    pump: SpinLock<Pump, { level::IPC }>,
    in_transit: AtomicUsize,
    /// Bytes that the host has taken in all.
    sent: AtomicU64,
    pulling: AtomicBool,
    pull_again: AtomicBool,
    gone: AtomicBool,
}

#[derive(Default)]
struct Pump {
    busy: bool,
    again: bool,
}

/// The console of a machine that has one.
pub(crate) fn new(root: &Terminals) -> Option<Arc<Tty>> {
    let host = root.kernel.platform.console()?;
    let line = Arc::new(ConsoleLine {
        host,
        pump: SpinLock::new(Pump::default()),
        in_transit: AtomicUsize::new(0),
        sent: AtomicU64::new(0),
        pulling: AtomicBool::new(false),
        pull_again: AtomicBool::new(false),
        gone: AtomicBool::new(false),
    });
    let termios = host
        .initial_termios()
        .map_or_else(Termios::default, |b| Termios::from_old(&b));
    Some(Tty::new(
        root.kernel,
        makedev(5, 1),
        line,
        termios,
        host.window_size(),
    ))
}

impl ConsoleLine {
    /// Writes output to the host until it is all out or the host takes no more.
    fn pump(&self, tty: &Tty) {
        {
            let mut p = self.pump.lock();
            if p.busy {
                p.again = true;
                return;
            }
            p.busy = true;
        }
        loop {
            let (data, epoch): (Vec<u8>, u32) = {
                let mut s = tty.state.lock();
                let n = if s.ldisc.stopped {
                    0
                } else {
                    s.ldisc.out.len().min(CHUNK)
                };
                self.in_transit.store(n, Ordering::Release);
                (s.ldisc.out.drain(..n).collect(), s.ldisc.out_epoch)
            };
            let sent = match data.len() {
                0 => 0,
                n => match self.host.write(&data) {
                    Ok(k) => k.min(n),
                    // Gone: output goes nowhere, as it does behind a pulled plug.
                    Err(_) => n,
                },
            };
            if sent < data.len() {
                let mut s = tty.state.lock();
                if s.ldisc.out_epoch == epoch {
                    for c in data.iter().skip(sent).rev() {
                        s.ldisc.out.push_front(*c);
                    }
                }
            }
            self.sent.fetch_add(sent as u64, Ordering::Release);
            self.in_transit.store(0, Ordering::Release);
            if !data.is_empty() {
                // Wake-up proof: room is made before the queue is woken.
                tty.wake_writers();
            }
            // Only a host that takes nothing reports when it takes output again.
            let full = sent == 0;
            let mut p = self.pump.lock();
            let again = core::mem::take(&mut p.again);
            // A full host reports when it takes output again; then we are called.
            if !again && full {
                p.busy = false;
                return;
            }
            // Asked for meanwhile: the report may have come in between.
        }
    }
    /// Takes what was typed, as far as the terminal has room. One at a time, to keep the order.
    fn pull(&self, tty: &Tty) {
        // Proof that nothing stays: whoever finds `pulling` set has set
        // `pull_again` before, and the other looks at it after it has finished.
        loop {
            self.pull_again.store(true, Ordering::SeqCst);
            if self.pulling.swap(true, Ordering::SeqCst) {
                return;
            }
            while self.pull_again.swap(false, Ordering::SeqCst) {
                self.pull_some(tty);
            }
            self.pulling.store(false, Ordering::SeqCst);
            if !self.pull_again.load(Ordering::SeqCst) {
                return;
            }
        }
    }
    fn pull_some(&self, tty: &Tty) {
        let mut buf = vec![0; 1024];
        loop {
            let room = tty.input_room().min(buf.len());
            if room == 0 {
                return;
            }
            let Some(part) = buf.get_mut(..room) else {
                return;
            };
            match self.host.read(part) {
                Ok(0) => return,
                Ok(n) => {
                    tty.input(part.get(..n).unwrap_or_default());
                }
                Err(Errno::EIO) => {
                    self.hang_up(tty);
                    return;
                }
                Err(_) => return,
            }
        }
    }
    fn hang_up(&self, tty: &Tty) {
        if !self.gone.swap(true, Ordering::AcqRel) {
            tty.hang_up();
        }
    }
}

impl Line for ConsoleLine {
    fn output(&self, tty: &Tty) {
        self.pump(tty);
    }
    fn input_room(&self, tty: &Tty) {
        self.pull(tty);
    }
    fn used(&self) {
        self.host.claim_input();
    }
    fn broken(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
    fn unsent(&self) -> usize {
        self.in_transit.load(Ordering::Acquire)
    }
    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }
    fn device_event(&self, tty: &Tty, event: hal::dev::Event) {
        use hal::dev::Event;
        match event {
            Event::ConsoleInput => self.pull(tty),
            Event::ConsoleOutput => self.pump(tty),
            Event::ConsoleResize => tty.resize(self.host.window_size()),
            Event::ConsoleHangup => self.hang_up(tty),
            Event::Stream(_) | Event::HostSignal(_) => {}
        }
    }
}
