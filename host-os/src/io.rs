//! The thread that waits for the host: console, streams, signals. It turns
//! readiness into device events and does nothing else; data is moved by the
//! kernel's own calls.

use crate::console::HostConsole;
use crate::event::DeviceQueue;
use crate::signals::Signals;
use crate::streams::HostStreams;
use host_sys::{Errno, event};

/// Value of the console in epoll events; streams are 0 to 2.
pub(crate) const CONSOLE: u64 = 8;
/// Value of the signal descriptor.
pub(crate) const SIGNALS: u64 = 9;
/// How often a machine in the background looks whether it got the terminal.
const RETRY_MS: i32 = 300;

/// What the thread looks after.
pub(crate) struct Io {
    pub(crate) epoll: i32,
    pub(crate) console: Option<&'static HostConsole>,
    pub(crate) streams: &'static HostStreams,
    pub(crate) signals: Signals,
    pub(crate) queue: &'static DeviceQueue,
}

impl Io {
    /// Starts the thread.
    pub(crate) fn spawn(mut self) -> std::io::Result<()> {
        let thread = std::thread::Builder::new()
            .name("lodger-io".into())
            .stack_size(256 << 10);
        thread.spawn(move || self.run())?;
        Ok(())
    }

    fn run(&mut self) {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 8];
        loop {
            if let Some(c) = self.console {
                c.try_claim();
            }
            let waiting = self.console.is_some_and(|c| c.is_waiting());
            let timeout = if waiting { RETRY_MS } else { -1 };
            let n = match event::epoll_wait(self.epoll, &mut events, timeout) {
                Ok(n) => n,
                Err(Errno::EINTR) => continue,
                Err(e) => panic!("waiting for the host failed: {e}"),
            };
            for e in events.iter().take(n) {
                match e.u64 {
                    CONSOLE => {
                        if let Some(c) = self.console {
                            c.on_ready(e.events);
                        }
                    }
                    SIGNALS => self.signals.handle(self.console, self.queue),
                    i => self.streams.on_ready(i as u32),
                }
            }
        }
    }
}
