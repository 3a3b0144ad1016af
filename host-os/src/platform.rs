//! The host side of a machine, put together.

use crate::clock::HostClock;
use crate::console::{self, HostConsole};
use crate::dir::HostTree;
use crate::entropy::HostEntropy;
use crate::event::DeviceQueue;
use crate::io::Io;
use crate::mem::MemFile;
use crate::signals::Signals;
use crate::streams::HostStreams;
use crate::{log, shutdown};
use core::fmt;
use hal::dev::{Clock, Console, Devices, Entropy, HostDir, Streams};
use hal::mem::PhysMem;
use hal::platform::LogLevel;
use hal::{Arch, Engine, Platform};
use host_sys::{Errno, event};

/// Console, streams and events, opened before any thread exists.
pub struct Devs {
    epoll: i32,
    console: Option<&'static HostConsole>,
    streams: &'static HostStreams,
    queue: &'static DeviceQueue,
    signals: Signals,
}

/// Why the devices could not be set up.
#[derive(Debug)]
#[expect(missing_docs)]
pub enum Error {
    Events(Errno),
    Console(Errno),
    Signals(Errno),
    Thread(Errno),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, why) = match self {
            Error::Events(e) => ("cannot watch the host's events", crate::mem::text(*e)),
            Error::Console(e) => ("cannot take the terminal", crate::mem::text(*e)),
            Error::Signals(e) => ("cannot receive signals", crate::mem::text(*e)),
            Error::Thread(e) => ("cannot start a thread", crate::mem::text(*e)),
        };
        write!(f, "{what}: {why}")
    }
}

impl std::error::Error for Error {}

impl Devs {
    /// Opens them. `signal_mask` as [`crate::signals::block`] returned it;
    /// `closed`: streams that were closed at the start. Forks the terminal's
    /// guardian, so no thread may exist yet.
    pub fn open(signal_mask: u64, closed: [bool; 3]) -> Result<Devs, Error> {
        let epoll = event::epoll_create().map_err(Error::Events)?;
        let queue: &'static DeviceQueue = Box::leak(Box::default());
        let console = console::open(epoll, queue).map_err(Error::Console)?;
        let streams = HostStreams::open(closed, console, epoll, queue);
        let signals = Signals::open(signal_mask, epoll).map_err(Error::Signals)?;
        Ok(Devs {
            epoll,
            console,
            streams: Box::leak(Box::new(streams)),
            queue,
            signals,
        })
    }

    /// Claims the terminal if stdin is one, and starts the thread that waits for the host.
    pub fn start(&self) -> Result<(), Error> {
        if let Some(c) = self.console {
            c.try_claim();
        }
        let io = Io {
            epoll: self.epoll,
            console: self.console,
            streams: self.streams,
            signals: self.signals,
            queue: self.queue,
        };
        io.spawn().map_err(|e| {
            let n = e.raw_os_error().unwrap_or(libc::EAGAIN);
            Error::Thread(Errno(n as u16))
        })
    }

    /// The terminal, if any stream is one.
    pub fn console(&self) -> Option<&'static HostConsole> {
        self.console
    }
    /// The streams.
    pub fn streams(&self) -> &'static HostStreams {
        self.streams
    }
    /// The queue, to connect it to the device interrupt.
    pub fn queue(&self) -> &'static DeviceQueue {
        self.queue
    }
}

/// Everything a machine is started with.
pub struct HostPlatform {
    /// Physical memory.
    pub mem: MemFile,
    /// Console, streams, events.
    pub devs: Devs,
    /// Host trees: the root, then the binds.
    pub trees: Vec<&'static HostTree>,
    /// CPU and MMU.
    pub engine: &'static dyn Engine,
    /// Instruction set.
    pub arch: &'static dyn Arch,
}

impl Platform for HostPlatform {
    fn mem(&self) -> &dyn PhysMem {
        &self.mem
    }
    fn engine(&self) -> &dyn Engine {
        self.engine
    }
    fn arch(&self) -> &'static dyn Arch {
        self.arch
    }
    fn clock(&self) -> &'static dyn Clock {
        &HostClock
    }
    fn entropy(&self) -> &dyn Entropy {
        &HostEntropy
    }
    fn console(&self) -> Option<&'static dyn Console> {
        self.devs.console.map(|c| c as &dyn Console)
    }
    fn streams(&self) -> &'static dyn Streams {
        self.devs.streams
    }
    fn devices(&self) -> &dyn Devices {
        self.devs.queue
    }
    fn host_dir(&self, i: u32) -> Option<&'static dyn HostDir> {
        let tree: &'static HostTree = self.trees.get(i as usize)?;
        Some(tree)
    }
    fn log(&self, level: LogLevel, line: &str) {
        log::line(level, line);
    }
    fn strace(&self, line: &str) {
        log::plain(line);
    }
    fn power_off(&self, wait_status: i32) -> ! {
        self.engine.go_home();
        shutdown::power_off(shutdown::exit_code(wait_status))
    }
}
