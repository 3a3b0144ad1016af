//! The machine's log on the host: lines on stderr.
//!
//! Written with raw calls from any thread and any stack. Control characters,
//! which a guest could smuggle in to steer the user's terminal, are replaced.

use crate::{clock, console, shutdown};
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, Ordering};
use hal::platform::LogLevel;
use host_sys::{Errno, event};
use std::borrow::Cow;

const STDERR: i32 = 2;

static LEVEL: AtomicU8 = AtomicU8::new(LogLevel::Warn as u8);
/// Stderr is a terminal in raw mode: a line needs its own carriage return.
static RAW_TERMINAL: AtomicBool = AtomicBool::new(false);
/// How long, in ms, a line waits for room in stderr.
const ROOM_MS: i32 = 1000;
/// The same when the machine is ending; 0 once that was in vain.
static LAST_ROOM_MS: AtomicI32 = AtomicI32::new(ROOM_MS);

/// Sets the least severe level that is printed.
pub fn set_level(level: LogLevel) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// Lets what is said when the machine is ending wait `ms` at most for room in stderr.
pub fn hurry(ms: i32) {
    LAST_ROOM_MS.fetch_min(ms, Ordering::Relaxed);
}

/// Tells whether stderr is a terminal that does no output processing at the moment.
pub(crate) fn set_raw_terminal(raw: bool) {
    RAW_TERMINAL.store(raw, Ordering::Relaxed);
}

/// One line of the log.
pub fn line(level: LogLevel, text: &str) {
    if level as u8 > LEVEL.load(Ordering::Relaxed) {
        return;
    }
    let name = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
    };
    let us = clock::machine_ns() / 1000;
    let mut prefix = Prefix::default();
    let _ = write!(
        prefix,
        "[{:5}.{:06}] {name}: ",
        us / 1_000_000,
        us % 1_000_000
    );
    put(prefix.bytes(), text);
}

/// One line of `--strace` output, without level and time.
pub fn plain(text: &str) {
    put(b"", text);
}

/// A short text on the stack.
struct Prefix {
    buf: [u8; 64],
    len: usize,
}

impl Default for Prefix {
    fn default() -> Self {
        Prefix {
            buf: [0; 64],
            len: 0,
        }
    }
}

impl Prefix {
    fn bytes(&self) -> &[u8] {
        &self.buf[..self.len]
    }
}

impl Write for Prefix {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        let n = s.len().min(self.buf.len() - self.len);
        self.buf[self.len..self.len + n].copy_from_slice(&s.as_bytes()[..n]);
        self.len += n;
        Ok(())
    }
}

fn is_unsafe(c: char) -> bool {
    c.is_control() && c != '\t'
}

/// `text` without what would steer a terminal.
fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(
        text.chars()
            .map(|c| if is_unsafe(c) { '\u{fffd}' } else { c })
            .collect(),
    )
}

fn put(prefix: &[u8], text: &str) {
    let raw = RAW_TERMINAL.load(Ordering::Relaxed);
    let end: &[u8] = if raw { b"\r\n" } else { b"\n" };
    for l in text.lines() {
        let l = printable(l);
        write_all([prefix, l.as_bytes(), end]);
    }
}

/// Writes the pieces as one write where the host allows. Gives up after [`ROOM_MS`]
/// in which stderr takes nothing, if it says so or the machine is ending, so that a stuck
/// reader cannot hang it.
fn write_all(mut parts: [&[u8]; 3]) {
    let ending = shutdown::is_ending();
    let own = ending.then(console::stderr_without_waiting).flatten();
    let to = own.unwrap_or(STDERR);
    while parts.iter().any(|p| !p.is_empty()) {
        if ending && !takes_more(to, ending) {
            return;
        }
        match event::write3(to, parts) {
            Ok(mut n) => {
                for p in &mut parts {
                    let k = n.min(p.len());
                    *p = &p[k..];
                    n -= k;
                }
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if takes_more(to, ending) => {}
            Err(_) => return,
        }
    }
}

/// Waits for room in descriptor `fd`, not for ever.
fn takes_more(fd: i32, ending: bool) -> bool {
    let mut p = [libc::pollfd {
        fd,
        events: libc::POLLOUT,
        revents: 0,
    }];
    let ms = match ending {
        true => LAST_ROOM_MS.load(Ordering::Relaxed),
        false => ROOM_MS,
    };
    let room = matches!(event::poll(&mut p, ms), Ok(1..) | Err(Errno::EINTR));
    if !room && ending {
        hurry(0);
    }
    room
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_sequences_are_defused() {
        assert_eq!(
            printable("a\x1b[2Jb\u{9b}c\td"),
            "a\u{fffd}[2Jb\u{fffd}c\td"
        );
        assert!(matches!(printable("plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_long_prefix_is_cut() {
        let mut p = Prefix::default();
        let _ = write!(p, "{:100}", "x");
        assert_eq!(p.bytes().len(), 64);
    }
}
