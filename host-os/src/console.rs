//! The host terminal that the machine was started on.
//!
//! The machine *claims* it: raw mode, so that every byte typed goes to the
//! guest's line discipline, Ctrl-C and Ctrl-Z included. It does so only while
//! it is in the terminal's foreground and no other machine has claimed it; at
//! the start if stdin is the terminal, else when a guest program wants to read it
//! ([`Console::claim_input`]). The settings found are restored on every way out:
//! by [`restore`] in this process, by the guardian if it is killed.

use crate::dir::errno;
use crate::event::DeviceQueue;
use crate::guardian::Guardian;
use crate::lock::HostMutex;
use crate::log;
use abi::Errno;
use core::sync::atomic::{AtomicBool, Ordering};
use hal::dev::{Console, Event};
use host_sys::Errno as E;
use host_sys::tty::{self, Termios};
use host_sys::{event, fd, file};
use std::ffi::CString;
use std::sync::OnceLock;

/// Bytes written at once where a write could wait.
const SMALL_WRITE: usize = 256;

static CONSOLE: OnceLock<HostConsole> = OnceLock::new();

/// The host terminal.
pub struct HostConsole {
    /// An open file of our own with O_NONBLOCK, or else the inherited one.
    fd: i32,
    own: bool,
    /// Its device number.
    device: u32,
    initial: Termios,
    /// Stderr is this terminal: log lines need a carriage return in raw mode.
    is_stderr: bool,
    claim: HostMutex<()>,
    claimed: AtomicBool,
    wanted: AtomicBool,
    hung_up: AtomicBool,
    output_blocked: AtomicBool,
    guardian: Guardian,
    epoll: i32,
    queue: &'static DeviceQueue,
}

/// The device number of the terminal that descriptor `fd` refers to, if it is one.
pub(crate) fn terminal_device(fd: i32) -> Option<u32> {
    tty::get(fd).ok()?;
    match tty::device(fd) {
        Ok(d) => Some(d),
        Err(_) => Some(file::fstat(fd).ok()?.st_rdev as u32),
    }
}

/// Finds the terminal among the streams and starts its guardian. Before any thread exists.
pub(crate) fn open(
    epoll: i32,
    queue: &'static DeviceQueue,
) -> Result<Option<&'static HostConsole>, E> {
    let Some((stream, device)) = (0..3).find_map(|i| Some((i, terminal_device(i)?))) else {
        return Ok(None);
    };
    let (fd, own) = match open_again(stream, device) {
        Some(fd) => (fd, true),
        None => (file::fcntl(stream, libc::F_DUPFD_CLOEXEC, 3)? as i32, false),
    };
    let console = HostConsole {
        fd,
        own,
        device,
        initial: tty::get(fd)?,
        is_stderr: terminal_device(2) == Some(device),
        claim: HostMutex::new(()),
        claimed: AtomicBool::new(false),
        wanted: AtomicBool::new(terminal_device(0) == Some(device)),
        hung_up: AtomicBool::new(false),
        output_blocked: AtomicBool::new(false),
        guardian: Guardian::start(fd)?,
        epoll,
        queue,
    };
    let console = CONSOLE.get_or_init(|| console);
    event::epoll_ctl(
        epoll,
        libc::EPOLL_CTL_ADD,
        fd,
        console.interest(),
        crate::io::CONSOLE,
    )?;
    Ok(Some(console))
}

/// Opens the terminal behind `stream` anew: flags on an inherited open file
/// would be seen by every process that shares it.
fn open_again(stream: i32, device: u32) -> Option<i32> {
    let minor = u64::from(device & 0xff) | u64::from(device >> 12 & 0xf_ff00);
    let major = u64::from(device >> 8 & 0xfff);
    let mut names = vec![format!("/proc/self/fd/{stream}")];
    if major == 136 {
        names.push(format!("/dev/pts/{minor}"));
    }
    names.push("/dev/tty".into());
    let flags = libc::O_RDWR | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    for name in names {
        let Ok(c) = CString::new(name) else { continue };
        if let Ok(fd) = fd::open(&c, flags, 0) {
            if fd > 2 && terminal_device(fd) == Some(device) {
                return Some(fd);
            }
            fd::close(fd);
        }
    }
    None
}

/// Gives the terminal back as it was found. Any thread, also after a crash; idempotent.
pub fn restore() {
    if let Some(c) = CONSOLE.get() {
        c.restore_settings();
    }
}

/// Stderr's terminal, through a descriptor on which writes never wait.
pub(crate) fn stderr_without_waiting() -> Option<i32> {
    let c = CONSOLE.get()?;
    (c.own && c.is_stderr).then_some(c.fd)
}

/// Ends the guardian process. After [`restore`], right before exit.
pub(crate) fn dismiss_guardian() {
    if let Some(c) = CONSOLE.get() {
        c.guardian.dismiss();
    }
}

/// The guardian process: our end of its pipe, and its number.
pub(crate) fn guardian() -> Option<(i32, i32)> {
    Some(CONSOLE.get()?.guardian.handle())
}

impl HostConsole {
    /// Its descriptor.
    pub fn descriptor(&self) -> i32 {
        self.fd
    }

    /// Its device number.
    pub(crate) fn device(&self) -> u32 {
        self.device
    }

    /// Events to wait for. Input of a terminal that is not ours is not looked at.
    fn interest(&self) -> u32 {
        let input = if self.claimed.load(Ordering::Relaxed) {
            libc::EPOLLIN
        } else {
            0
        };
        (libc::EPOLLOUT | libc::EPOLLET | input) as u32
    }

    /// Whether this process may set and read the terminal: it is in the
    /// foreground, or the terminal does not control it (no job control). The
    /// kernel process asks for the machine; its user processes always may.
    fn in_foreground(&self) -> bool {
        match tty::foreground(self.fd) {
            Ok(pgrp) => pgrp == tty::process_group(),
            Err(_) => true,
        }
    }

    /// Wants the terminal but has not got it: worth another try later.
    pub(crate) fn is_waiting(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
            && !self.claimed.load(Ordering::Relaxed)
            && !self.hung_up.load(Ordering::Relaxed)
    }

    /// Claims the terminal if it is wanted and can be had now.
    pub(crate) fn try_claim(&self) {
        if !self.is_waiting() {
            return;
        }
        let _guard = self.claim.lock();
        if self.claimed.load(Ordering::Relaxed)
            || crate::shutdown::is_ending()
            || !self.in_foreground()
        {
            return;
        }
        // One machine at a time: the lock is on the terminal, and goes with this process.
        if self.own && file::flock(self.fd, libc::LOCK_EX | libc::LOCK_NB) == Err(E::EAGAIN) {
            return;
        }
        let Ok(found) = tty::get(self.fd) else { return };
        self.guardian.page.arm(&found);
        if tty::set(self.fd, &found.raw()).is_err() {
            self.guardian.page.disarm();
            return;
        }
        log::set_raw_terminal(self.is_stderr);
        self.claimed.store(true, Ordering::Relaxed);
        // Reports input that is there already.
        self.watch();
        // The end of the machine may have overtaken us: it found nothing to restore.
        if crate::shutdown::is_ending() {
            self.restore_settings();
        }
    }

    fn watch(&self) {
        let _ = event::epoll_ctl(
            self.epoll,
            libc::EPOLL_CTL_MOD,
            self.fd,
            self.interest(),
            crate::io::CONSOLE,
        );
    }

    fn restore_settings(&self) {
        if self.guardian.page.is_armed() {
            let _ = tty::set(self.fd, &self.guardian.page.saved());
            self.guardian.page.disarm();
            log::set_raw_terminal(false);
        }
    }

    /// Gives the terminal up, for a stop of this process.
    pub(crate) fn release(&self) {
        let _guard = self.claim.lock();
        self.restore_settings();
        if self.claimed.swap(false, Ordering::Relaxed) {
            if self.own {
                let _ = file::flock(self.fd, libc::LOCK_UN);
            }
            self.watch();
        }
    }

    /// This process goes on after a stop, or was put into the foreground: the
    /// shell may have changed the settings.
    pub(crate) fn resumed(&self) {
        if self.claimed.load(Ordering::Relaxed) {
            let _guard = self.claim.lock();
            if !self.in_foreground() {
                self.guardian.page.disarm();
                self.claimed.store(false, Ordering::Relaxed);
                log::set_raw_terminal(false);
                self.watch();
            } else if let Ok(now) = tty::get(self.fd) {
                if now != self.guardian.page.saved().raw() {
                    self.guardian.page.arm(&now);
                    let _ = tty::set(self.fd, &now.raw());
                }
            }
        } else {
            self.try_claim();
        }
        self.queue.push(Event::ConsoleResize);
    }

    /// The host reports readiness.
    pub(crate) fn on_ready(&self, events: u32) {
        if events & (libc::EPOLLHUP | libc::EPOLLERR) as u32 != 0 {
            self.hang_up();
            return;
        }
        if events & libc::EPOLLIN as u32 != 0 {
            self.queue.push(Event::ConsoleInput);
        }
        if events & libc::EPOLLOUT as u32 != 0 && self.output_blocked.swap(false, Ordering::AcqRel)
        {
            self.queue.push(Event::ConsoleOutput);
        }
    }

    fn hang_up(&self) {
        if !self.hung_up.swap(true, Ordering::AcqRel) {
            let _ = event::epoll_ctl(self.epoll, libc::EPOLL_CTL_DEL, self.fd, 0, 0);
            self.queue.push(Event::ConsoleHangup);
        }
    }

    /// Writes to a terminal that is not ours, and so still ends lines its own
    /// way: what the guest's line discipline has made of them is undone.
    fn write_cooked(&self, buf: &[u8]) -> host_sys::Result<usize> {
        let lines = libc::OPOST | libc::ONLCR;
        if self.claimed.load(Ordering::Relaxed)
            || !tty::get(self.fd).is_ok_and(|t| t.oflag & lines == lines)
        {
            return self.write_some(buf);
        }
        let (mut out, mut len, mut at) = ([0; 1024], 0, 0);
        while at < buf.len() && len < out.len() {
            match buf[at..] {
                [b'\r', b'\n', ..] => at += 1,
                // What follows is not known yet.
                [b'\r'] if at > 0 => break,
                _ => {}
            }
            out[len] = buf[at];
            at += 1;
            len += 1;
        }
        let n = self.write_some(&out[..len])?;
        // The bytes of `buf` that those were.
        let mut used = 0;
        for _ in 0..n {
            used += 1 + usize::from(buf[used..].starts_with(b"\r\n"));
        }
        Ok(used)
    }

    fn write_some(&self, buf: &[u8]) -> host_sys::Result<usize> {
        if self.own {
            return fd::write(self.fd, buf);
        }
        if event::poll_now(self.fd, libc::POLLOUT) & libc::POLLOUT == 0 {
            return Err(E::EAGAIN);
        }
        fd::write(self.fd, &buf[..buf.len().min(SMALL_WRITE)])
    }
}

impl Console for HostConsole {
    fn read(&self, buf: &mut [u8]) -> Result<usize, Errno> {
        if self.hung_up.load(Ordering::Acquire) {
            return Err(Errno::EIO);
        }
        if buf.is_empty() || !self.claimed.load(Ordering::Relaxed) {
            return Ok(0);
        }
        loop {
            if !self.own && event::poll_now(self.fd, libc::POLLIN) == 0 {
                return Ok(0);
            }
            match fd::read(self.fd, buf) {
                // In raw mode the end of the file means that the other side is gone.
                Ok(0) => {}
                Ok(n) => return Ok(n),
                Err(E::EINTR) => continue,
                Err(E::EAGAIN) => return Ok(0),
                // The shell has put us into the background.
                Err(E::EIO) if !self.in_foreground() => return Ok(0),
                Err(_) => {}
            }
            self.hang_up();
            return Err(Errno::EIO);
        }
    }

    fn write(&self, buf: &[u8]) -> Result<usize, Errno> {
        if self.hung_up.load(Ordering::Acquire) {
            return Err(Errno::EIO);
        }
        if buf.is_empty() {
            return Ok(0);
        }
        let mut announced = false;
        loop {
            match self.write_cooked(buf) {
                Ok(n) => return Ok(n),
                Err(E::EINTR) => {}
                // Wake-up proof: the flag is set before the second try. Room that
                // appears before the flag lets that try succeed; room that
                // appears after it finds the flag and makes an event.
                Err(E::EAGAIN) if !announced => {
                    self.output_blocked.store(true, Ordering::Release);
                    announced = true;
                }
                Err(E::EAGAIN) => return Ok(0),
                Err(e) => return Err(errno(e)),
            }
        }
    }

    fn window_size(&self) -> [u16; 4] {
        tty::window_size(self.fd).unwrap_or([24, 80, 0, 0])
    }

    fn initial_termios(&self) -> Option<[u8; 36]> {
        Some(self.initial.to_bytes())
    }

    fn claim_input(&self) {
        if !self.wanted.swap(true, Ordering::Relaxed) {
            // Reports that there is room for output, and so wakes the thread that
            // claims: whether that is allowed, only the kernel process can tell.
            // The lock: it may be claiming already, and look for input from then on.
            let _guard = self.claim.lock();
            self.watch();
        }
    }
}
