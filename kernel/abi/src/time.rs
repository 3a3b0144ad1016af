//! Times and timers; clock_gettime(2), setitimer(2), timer_settime(2), adjtimex(2).

use crate::{Errno, Result};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Nanoseconds in a second.
pub const NSEC_PER_SEC: u64 = 1_000_000_000;
/// Clock ticks a second as programs see them (`sysconf(_SC_CLK_TCK)`).
pub const USER_HZ: u64 = 100;

/// `struct timespec`.
#[derive(
    Clone, Copy, PartialEq, Eq, Default, Debug, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
#[expect(missing_docs)]
pub struct Timespec {
    pub sec: i64,
    pub nsec: i64,
}

impl Timespec {
    /// From nanoseconds.
    pub const fn from_ns(ns: u64) -> Timespec {
        Timespec {
            sec: (ns / NSEC_PER_SEC) as i64,
            nsec: (ns % NSEC_PER_SEC) as i64,
        }
    }
    /// From nanoseconds that may be negative (time stamps before 1970).
    pub const fn from_ns_signed(ns: i64) -> Timespec {
        Timespec {
            sec: ns.div_euclid(NSEC_PER_SEC as i64),
            nsec: ns.rem_euclid(NSEC_PER_SEC as i64),
        }
    }
    /// Nanoseconds; [`Errno::EINVAL`] if negative or not normalised. Saturates far in the future.
    pub fn to_ns(self) -> Result<u64> {
        if self.sec < 0 || !(0..NSEC_PER_SEC as i64).contains(&self.nsec) {
            return Err(Errno::EINVAL);
        }
        Ok((self.sec as u64)
            .saturating_mul(NSEC_PER_SEC)
            .saturating_add(self.nsec as u64)
            .min(i64::MAX as u64))
    }
    /// As a time stamp, which may lie before 1970.
    pub fn to_ns_signed(self) -> Result<i64> {
        if !(0..NSEC_PER_SEC as i64).contains(&self.nsec) {
            return Err(Errno::EINVAL);
        }
        Ok(self
            .sec
            .saturating_mul(NSEC_PER_SEC as i64)
            .saturating_add(self.nsec))
    }
}

/// `struct timeval`.
#[derive(
    Clone, Copy, PartialEq, Eq, Default, Debug, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
#[expect(missing_docs)]
pub struct Timeval {
    pub sec: i64,
    pub usec: i64,
}

impl Timeval {
    /// From nanoseconds, rounded down.
    pub const fn from_ns(ns: u64) -> Timeval {
        Timeval {
            sec: (ns / NSEC_PER_SEC) as i64,
            usec: (ns % NSEC_PER_SEC / 1000) as i64,
        }
    }
    /// Nanoseconds; [`Errno::EINVAL`] if negative or not normalised. Saturates far in the future.
    pub fn to_ns(self) -> Result<u64> {
        if !(0..1_000_000).contains(&self.usec) {
            return Err(Errno::EINVAL);
        }
        Timespec {
            sec: self.sec,
            nsec: self.usec * 1000,
        }
        .to_ns()
    }
}

/// `struct itimerspec`.
#[derive(
    Clone, Copy, PartialEq, Eq, Default, Debug, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
#[expect(missing_docs)]
pub struct Itimerspec {
    pub interval: Timespec,
    pub value: Timespec,
}

/// `struct itimerval`.
#[derive(
    Clone, Copy, PartialEq, Eq, Default, Debug, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
#[expect(missing_docs)]
pub struct Itimerval {
    pub interval: Timeval,
    pub value: Timeval,
}

/// `struct timezone`; always zero.
#[derive(
    Clone, Copy, PartialEq, Eq, Default, Debug, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
#[expect(missing_docs)]
pub struct Timezone {
    pub minuteswest: i32,
    pub dsttime: i32,
}

/// `struct tms`, in clock ticks.
#[derive(
    Clone, Copy, PartialEq, Eq, Default, Debug, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
#[expect(missing_docs)]
pub struct Tms {
    pub utime: i64,
    pub stime: i64,
    pub cutime: i64,
    pub cstime: i64,
}

/// `struct utimbuf`.
#[derive(
    Clone, Copy, PartialEq, Eq, Default, Debug, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
#[expect(missing_docs)]
pub struct Utimbuf {
    pub actime: i64,
    pub modtime: i64,
}

/// `struct sigevent`, 64 bytes; the union holds the thread id first.
#[derive(
    Clone, Copy, PartialEq, Eq, Default, Debug, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
#[expect(missing_docs)]
pub struct Sigevent {
    pub value: u64,
    pub signo: i32,
    pub notify: i32,
    pub tid: i32,
    pub pad: [i32; 11],
}

/// `struct timex`, 208 bytes.
#[derive(
    Clone, Copy, PartialEq, Eq, Default, Debug, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
#[expect(missing_docs)]
pub struct Timex {
    pub modes: u32,
    pub pad0: u32,
    pub offset: i64,
    pub freq: i64,
    pub maxerror: i64,
    pub esterror: i64,
    pub status: i32,
    pub pad1: i32,
    pub constant: i64,
    pub precision: i64,
    pub tolerance: i64,
    pub time: Timeval,
    pub tick: i64,
    pub ppsfreq: i64,
    pub jitter: i64,
    pub shift: i32,
    pub pad2: i32,
    pub stabil: i64,
    pub jitcnt: i64,
    pub calcnt: i64,
    pub errcnt: i64,
    pub stbcnt: i64,
    pub tai: i32,
    pub pad3: [i32; 11],
}

const _: () = assert!(size_of::<Timex>() == 208 && size_of::<Sigevent>() == 64);
