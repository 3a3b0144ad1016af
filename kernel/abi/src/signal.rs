//! Signals: sets, actions, siginfo; signal(7), sigaction(2).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Set of signals; bit n-1 is signal n.
#[derive(
    Clone, Copy, PartialEq, Eq, Default, Debug, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(transparent)]
pub struct SigSet(pub u64);

impl SigSet {
    /// No signal.
    pub const EMPTY: SigSet = SigSet(0);
    /// The set of just `signo` (1..=64).
    pub const fn of(signo: i32) -> SigSet {
        SigSet(1u64 << (signo - 1))
    }
    /// Whether `signo` is in the set.
    pub const fn has(self, signo: i32) -> bool {
        signo >= 1 && signo <= 64 && self.0 & (1u64 << (signo - 1)) != 0
    }
    /// With `signo` added.
    pub const fn with(self, signo: i32) -> SigSet {
        SigSet(self.0 | (1u64 << (signo - 1)))
    }
    /// With `signo` removed.
    pub const fn without(self, signo: i32) -> SigSet {
        SigSet(self.0 & !(1u64 << (signo - 1)))
    }
    /// Signals in `self` but not in `other`.
    pub const fn minus(self, other: SigSet) -> SigSet {
        SigSet(self.0 & !other.0)
    }
    /// Signals in either.
    pub const fn union(self, other: SigSet) -> SigSet {
        SigSet(self.0 | other.0)
    }
    /// Lowest signal of the set.
    pub fn first(self) -> Option<i32> {
        (self.0 != 0).then(|| self.0.trailing_zeros() as i32 + 1)
    }
    /// No signal at all.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The kernel's `struct sigaction` (rt_sigaction): 32 bytes.
#[derive(
    Clone, Copy, PartialEq, Eq, Default, Debug, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
#[expect(missing_docs)]
pub struct SigAction {
    /// Address of the handler; 0 SIG_DFL, 1 SIG_IGN.
    pub handler: u64,
    pub flags: u64,
    pub restorer: u64,
    pub mask: SigSet,
}

/// `stack_t`: 24 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[expect(missing_docs)]
pub struct SigStack {
    pub sp: u64,
    pub flags: i32,
    pub pad: u32,
    pub size: u64,
}

impl Default for SigStack {
    fn default() -> Self {
        SigStack {
            sp: 0,
            flags: 2, /* SS_DISABLE */
            pad: 0,
            size: 0,
        }
    }
}

/// `siginfo_t`: 128 bytes. The union starts at `fields`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SigInfo {
    /// `si_signo`.
    pub signo: i32,
    /// `si_errno`.
    pub errno: i32,
    /// `si_code`.
    pub code: i32,
    /// Padding before the 8-aligned union.
    pub pad: i32,
    /// The union `_sifields`, 112 bytes.
    pub fields: [u64; 14],
}

impl SigInfo {
    /// All-zero fields.
    pub const fn new(signo: i32, code: i32) -> SigInfo {
        SigInfo {
            signo,
            errno: 0,
            code,
            pad: 0,
            fields: [0; 14],
        }
    }
    /// From a process: `si_pid`, `si_uid` (kill, tgkill, sigqueue with value).
    pub const fn from_process(signo: i32, code: i32, pid: i32, uid: u32, value: u64) -> SigInfo {
        let mut s = SigInfo::new(signo, code);
        s.fields[0] = pid as u32 as u64 | (uid as u64) << 32;
        s.fields[1] = value;
        s
    }
    /// SIGCHLD: `si_pid`, `si_uid`, `si_status`, times in clock ticks.
    pub const fn child(
        code: i32,
        pid: i32,
        uid: u32,
        status: i32,
        utime: u64,
        stime: u64,
    ) -> SigInfo {
        let mut s = SigInfo::new(17, code);
        s.fields[0] = pid as u32 as u64 | (uid as u64) << 32;
        s.fields[1] = status as u32 as u64;
        s.fields[2] = utime;
        s.fields[3] = stime;
        s
    }
    /// A fault at `addr`.
    pub const fn fault(signo: i32, code: i32, addr: u64) -> SigInfo {
        let mut s = SigInfo::new(signo, code);
        s.fields[0] = addr;
        s
    }
    /// A file is ready: `si_band`, `si_fd` (F_SETSIG).
    pub const fn poll(signo: i32, code: i32, band: u32, fd: i32) -> SigInfo {
        let mut s = SigInfo::new(signo, code);
        s.fields[0] = band as u64;
        s.fields[1] = fd as u32 as u64;
        s
    }
    /// A POSIX timer: id, overrun, value.
    pub const fn timer(signo: i32, id: i32, overrun: i32, value: u64) -> SigInfo {
        let mut s = SigInfo::new(signo, -2);
        s.fields[0] = id as u32 as u64 | (overrun as u32 as u64) << 32;
        s.fields[1] = value;
        s
    }
}

macro_rules! signals {
    ($($name:ident = $v:literal)*) => { $(#[doc = concat!("`", stringify!($name), "`")] pub const $name: i32 = $v;)* };
}
signals! {
    SIGHUP = 1 SIGINT = 2 SIGQUIT = 3 SIGILL = 4 SIGTRAP = 5 SIGABRT = 6 SIGBUS = 7 SIGFPE = 8 SIGKILL = 9
    SIGUSR1 = 10 SIGSEGV = 11 SIGUSR2 = 12 SIGPIPE = 13 SIGALRM = 14 SIGTERM = 15 SIGSTKFLT = 16 SIGCHLD = 17
    SIGCONT = 18 SIGSTOP = 19 SIGTSTP = 20 SIGTTIN = 21 SIGTTOU = 22 SIGURG = 23 SIGXCPU = 24 SIGXFSZ = 25
    SIGVTALRM = 26 SIGPROF = 27 SIGWINCH = 28 SIGIO = 29 SIGPWR = 30 SIGSYS = 31 SIGRTMIN = 32 SIGRTMAX = 64
}
