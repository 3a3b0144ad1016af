//! Finds stub threads that will never report.
//!
//! A guest can make its thread deaf: by a forged return from a signal it
//! blocks the kick. Such a thread computes for ever, or sleeps in the stub.
//! A healthy one reports as soon as the host lets it run. So it is not time
//! that counts, but what the thread does with it: it is silent if it has used
//! [`CPU_TICKS`] of CPU time since the kick, or has been seen asleep [`NAPS`]
//! times in a row. A thread that waits for a CPU, for memory or for SIGCONT is neither.

use super::process::{Process, Stub};
use core::fmt::Write;
use core::sync::atomic::Ordering::Relaxed;
use host_sys::{fd, file, time};

/// One second, in the host's USER_HZ.
const CPU_TICKS: u64 = 100;
const NAPS: u32 = 20;
/// The same for a thread that has nothing to do but to report.
const ROUND_NAPS: u32 = 4;
/// Without /proc: CPU time of the whole process, per thread, and looks without any.
const CPU_NS: u64 = 1_000_000_000;
const IDLE_NAPS: u32 = 200;

pub(crate) struct Watchdog {
    ticks_at_kick: Option<u64>,
    cpu_at_kick: Option<u64>,
    asleep: u32,
    naps: u32,
    naps_max: u32,
}

impl Watchdog {
    /// Time between two looks.
    pub(crate) const NAP: libc::timespec = libc::timespec {
        tv_sec: 0,
        tv_nsec: 50_000_000,
    };

    /// The thread has just been kicked.
    pub(crate) fn new() -> Watchdog {
        Watchdog {
            ticks_at_kick: None,
            cpu_at_kick: None,
            asleep: 0,
            naps: 0,
            naps_max: NAPS,
        }
    }

    /// The thread has been sent through our own frame.
    pub(crate) fn for_round() -> Watchdog {
        Watchdog {
            naps_max: ROUND_NAPS,
            ..Watchdog::new()
        }
    }

    /// Called each time that [`Watchdog::NAP`] has passed without a report.
    pub(crate) fn is_silent(&mut self, proc_dir: i32, p: &Process, s: &Stub) -> bool {
        self.naps += 1;
        match thread_stat(proc_dir, p.pid(), s.tid.load(Relaxed)) {
            Some((state, ticks)) => {
                self.asleep = if state == b'S' { self.asleep + 1 } else { 0 };
                let at_kick = *self.ticks_at_kick.get_or_insert(ticks);
                ticks.saturating_sub(at_kick) >= CPU_TICKS || self.asleep >= self.naps_max
            }
            // Not a thread of this process: its number was forged.
            None if thread_stat(proc_dir, p.pid(), p.pid()).is_some() => true,
            None => {
                let now = time::process_cpu_ns(p.pid()).unwrap_or(0);
                let used = now.saturating_sub(*self.cpu_at_kick.get_or_insert(now));
                let threads = p.stubs.len() as u64;
                used >= CPU_NS * threads || (self.naps >= IDLE_NAPS && used < CPU_NS / 100)
            }
        }
    }
}

struct Path {
    buf: [u8; 64],
    len: usize,
}

impl Write for Path {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        let to = self.buf.get_mut(self.len..self.len + s.len());
        to.ok_or(core::fmt::Error)?.copy_from_slice(s.as_bytes());
        self.len += s.len();
        Ok(())
    }
}

/// State and CPU time (in USER_HZ) of a host thread.
pub(crate) fn thread_stat(proc_dir: i32, pid: i32, tid: i32) -> Option<(u8, u64)> {
    if proc_dir < 0 || pid <= 0 {
        return None;
    }
    let mut path = Path {
        buf: [0; 64],
        len: 0,
    };
    write!(path, "{pid}/task/{tid}/stat\0").ok()?;
    let path = core::ffi::CStr::from_bytes_until_nul(&path.buf).ok()?;
    let stat = file::openat(proc_dir, path, libc::O_RDONLY | libc::O_CLOEXEC, 0).ok()?;
    let mut buf = [0; 512];
    let n = fd::read(stat, &mut buf);
    fd::close(stat);
    let text = buf.get(..n.ok()?)?;
    // "tid (name) state ppid …": the name may contain anything.
    let after = text.iter().rposition(|&b| b == b')')?;
    let text = core::str::from_utf8(text.get(after + 2..)?).ok()?;
    let mut fields = text.split(' ');
    let state = *fields.next()?.as_bytes().first()?;
    let mut times = fields.skip(10).map(|f| f.parse::<u64>());
    let (user, system) = (times.next()?.ok()?, times.next()?.ok()?);
    Some((state, user + system))
}
