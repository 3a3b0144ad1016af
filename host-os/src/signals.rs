//! Signals that other processes and the terminal send to the kernel process.
//!
//! They are blocked in all threads and read from a descriptor, so that they
//! interrupt nothing. Most are passed on to the guest's main program.

use crate::console::HostConsole;
use crate::event::DeviceQueue;
use crate::shutdown;
use hal::dev::Event;
use host_sys::{Errno, event, signal, time};

/// Signals that are passed on to the machine's main program.
const PASSED_ON: [i32; 6] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
];
/// Signals about the terminal.
const TERMINAL: [i32; 3] = [libc::SIGWINCH, libc::SIGCONT, libc::SIGTSTP];
/// A second SIGTERM within this time ends the machine.
const INSIST_NS: u64 = 10_000_000_000;
/// A machine that has not looked at a signal for this long hangs: the next one ends it.
const DEAF_NS: u64 = 1_000_000_000;

/// Blocks the signals that this module reads, for this thread and those it
/// starts. First thing in the process. Returns the mask to read.
///
/// Signals that the caller wants ignored (nohup) stay ignored.
pub fn block() -> u64 {
    let mut mask = 0;
    for s in PASSED_ON.into_iter().chain(TERMINAL) {
        let ignored = signal::action(s).is_ok_and(|a| a.handler == libc::SIG_IGN);
        if !ignored || TERMINAL.contains(&s) {
            mask |= signal::bit(s);
        }
    }
    // Reads from the background fail instead of stopping the machine.
    signal::block(mask | signal::bit(libc::SIGTTIN));
    // Errors of the calls say the same without ending the machine.
    let _ = signal::ignore(libc::SIGPIPE);
    let _ = signal::ignore(libc::SIGXFSZ);
    mask
}

/// Receiver of the signals.
#[derive(Clone, Copy)]
pub(crate) struct Signals {
    fd: i32,
    last: Option<(i32, u64)>,
}

impl Signals {
    /// Reads the signals in `mask` through `epoll`.
    pub(crate) fn open(mask: u64, epoll: i32) -> Result<Signals, Errno> {
        let fd = event::signalfd(mask)?;
        let add = libc::EPOLL_CTL_ADD;
        event::epoll_ctl(epoll, add, fd, libc::EPOLLIN as u32, crate::io::SIGNALS)?;
        Ok(Signals { fd, last: None })
    }

    /// Handles what has arrived.
    pub(crate) fn handle(&mut self, console: Option<&HostConsole>, queue: &DeviceQueue) {
        while let Some((signo, _sender)) = event::read_signal(self.fd) {
            match signo {
                libc::SIGWINCH => {
                    if console.is_some() {
                        queue.push(Event::ConsoleResize);
                    }
                }
                libc::SIGCONT => {
                    shutdown::resume();
                    if let Some(c) = console {
                        c.resumed();
                    }
                }
                libc::SIGTSTP => {
                    if let Some(c) = console {
                        c.release();
                    }
                    // Stops all threads; SIGCONT lets them go on here.
                    shutdown::pause();
                }
                _ => self.pass_on(signo, queue),
            }
        }
    }

    fn pass_on(&mut self, signo: i32, queue: &DeviceQueue) {
        let now = time::monotonic_ns();
        let before = self.last.replace((signo, now));
        let unheard = !queue.push(Event::HostSignal(signo));
        if let Some((last, at)) = before {
            let ago = now.saturating_sub(at);
            let insists = signo == libc::SIGTERM && last == signo && ago < INSIST_NS;
            if insists || (unheard && last == signo && ago > DEAF_NS) {
                shutdown::end(128 + signo);
            }
        }
    }
}
