//! Clocks, per-thread timers, futexes.

use crate::raw::{Errno, Result, call3, call6};
use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// `FUTEX_PRIVATE_FLAG`, or 0 when other processes share this one's memory.
static PRIVATE: AtomicI32 = AtomicI32::new(libc::FUTEX_PRIVATE_FLAG);

/// From now on the words of [`futex_wait`] are those of several processes.
pub fn share_futexes() {
    PRIVATE.store(0, Ordering::SeqCst);
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Timespec {
    sec: i64,
    nsec: i64,
}

impl Timespec {
    fn from_ns(ns: u64) -> Timespec {
        Timespec {
            sec: (ns / 1_000_000_000) as i64,
            nsec: (ns % 1_000_000_000) as i64,
        }
    }
}

/// clock_gettime(2) in ns, through the host's vDSO.
pub fn clock_ns(clock: i32) -> u64 {
    let mut ts = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes one timespec; with a valid clock it cannot fail, so libc
    // does not touch errno.
    unsafe { libc::clock_gettime(clock, &mut ts) };
    (ts.tv_sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(ts.tv_nsec as u64)
}

/// The host's monotonic clock, in ns.
pub fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// nanosleep(2); returns early on a signal.
pub fn sleep_ns(ns: u64) {
    let ts = Timespec::from_ns(ns);
    // SAFETY: reads one timespec.
    let _ = unsafe { call3(libc::SYS_nanosleep, &raw const ts as usize, 0, 0) };
}

/// Number of a POSIX timer of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerId(pub i32);

/// timer_create(2) on the monotonic clock: sends `signo` with `value` to thread `tid`.
pub fn timer_create(signo: i32, tid: i32, value: usize) -> Result<TimerId> {
    #[repr(C)]
    struct Sigevent {
        value: usize,
        signo: i32,
        notify: i32,
        tid: i32,
        pad: [i32; 11],
    }
    let ev = Sigevent {
        value,
        signo,
        notify: libc::SIGEV_THREAD_ID,
        tid,
        pad: [0; 11],
    };
    let mut id = 0i32;
    // SAFETY: reads the event, writes the timer's number.
    unsafe {
        call3(
            libc::SYS_timer_create,
            libc::CLOCK_MONOTONIC as usize,
            &raw const ev as usize,
            &raw mut id as usize,
        )?;
    }
    Ok(TimerId(id))
}

/// timer_settime(2): one expiry at `at_ns` of the host's monotonic clock; `None` disarms.
pub fn timer_set(timer: TimerId, at_ns: Option<u64>) -> Result {
    let spec = [
        Timespec::default(),
        at_ns.map_or(Timespec::default(), |t| Timespec::from_ns(t.max(1))),
    ];
    let args = [
        timer.0 as usize,
        libc::TIMER_ABSTIME as usize,
        spec.as_ptr() as usize,
        0,
        0,
        0,
    ];
    // SAFETY: reads one itimerspec.
    unsafe { call6(libc::SYS_timer_settime, args)? };
    Ok(())
}

/// Waits while `*word == val`, at most until `deadline_ns` of the host's
/// monotonic clock. `Ok`: woken or changed; may also be spurious.
/// [`Errno::ETIMEDOUT`], [`Errno::EINTR`]. Words of this process only, unless
/// [`share_futexes`] was called.
pub fn futex_wait(word: &AtomicU32, val: u32, deadline_ns: Option<u64>) -> Result {
    let ts = Timespec::from_ns(deadline_ns.unwrap_or(0));
    let tsp = if deadline_ns.is_some() {
        &raw const ts as usize
    } else {
        0
    };
    let op = libc::FUTEX_WAIT_BITSET | PRIVATE.load(Ordering::Relaxed);
    let args = [
        word.as_ptr() as usize,
        op as usize,
        val as usize,
        tsp,
        0,
        libc::FUTEX_BITSET_MATCH_ANY as u32 as usize,
    ];
    // SAFETY: reads the word and the timespec.
    match unsafe { call6(libc::SYS_futex, args) } {
        Ok(_) | Err(Errno::EAGAIN) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Wakes up to `n` waiters of [`futex_wait`] on `word`. Usable in signal handlers.
pub fn futex_wake(word: &AtomicU32, n: u32) {
    let op = libc::FUTEX_WAKE | PRIVATE.load(Ordering::Relaxed);
    let n = n.min(i32::MAX as u32);
    // SAFETY: the word's address only names the queue.
    let _ = unsafe {
        call3(
            libc::SYS_futex,
            word.as_ptr() as usize,
            op as usize,
            n as usize,
        )
    };
}

/// Waits while `*word == val`, for words that processes share, at most
/// `timeout_ns`. Results as for [`futex_wait`].
pub fn futex_wait_shared(word: &AtomicU32, val: u32, timeout_ns: Option<u64>) -> Result {
    let ts = Timespec::from_ns(timeout_ns.unwrap_or(0));
    let tsp = match timeout_ns {
        Some(_) => &raw const ts as usize,
        None => 0,
    };
    let op = libc::FUTEX_WAIT as usize;
    let args = [word.as_ptr() as usize, op, val as usize, tsp, 0, 0];
    // SAFETY: reads the word and the timespec.
    match unsafe { call6(libc::SYS_futex, args) } {
        Ok(_) | Err(Errno::EAGAIN) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Wakes one thread of any process that waits on `word`. Usable in signal handlers.
pub fn futex_wake_shared(word: &AtomicU32) {
    let (at, op) = (word.as_ptr() as usize, libc::FUTEX_WAKE as usize);
    // SAFETY: the word's address only names the queue.
    let _ = unsafe { call3(libc::SYS_futex, at, op, 1) };
}

/// Whether at least one thread of any process sleeps on `word`. Moves a
/// sleeper from the word's queue to the same queue, which the host counts.
pub fn futex_has_sleeper(word: &AtomicU32) -> bool {
    let at = word.as_ptr() as usize;
    let args = [at, libc::FUTEX_REQUEUE as usize, 0, 1, at, 0];
    // SAFETY: the word's address only names the queue.
    unsafe { call6(libc::SYS_futex, args) }.is_ok_and(|n| n == 1)
}

/// CPU time that process `pid` has used, in ns.
pub fn process_cpu_ns(pid: i32) -> Result<u64> {
    let mut ts = Timespec::default();
    let clock = (!pid << 3) | 2;
    let (clock, at) = (clock as isize as usize, &raw mut ts as usize);
    // SAFETY: writes one timespec.
    unsafe { call3(libc::SYS_clock_gettime, clock, at, 0)? };
    Ok((ts.sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(ts.nsec as u64))
}
