//! Options of level SOL_SOCKET that every family has, socket(7).

use abi::io::Linger;
use abi::time::Timeval;
use abi::{Errno, Result};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use vfs::file::Caller;
use zerocopy::{FromBytes, IntoBytes};

/// Level of these options.
pub const SOL_SOCKET: i32 = 1;

macro_rules! options {
    ($($name:ident = $v:literal)*) => { $(#[doc = concat!("`", stringify!($name), "`")] pub const $name: i32 = $v;)* };
}
options! {
    SO_DEBUG = 1 SO_REUSEADDR = 2 SO_TYPE = 3 SO_ERROR = 4 SO_DONTROUTE = 5 SO_BROADCAST = 6 SO_SNDBUF = 7
    SO_RCVBUF = 8 SO_KEEPALIVE = 9 SO_OOBINLINE = 10 SO_PRIORITY = 12 SO_LINGER = 13 SO_REUSEPORT = 15
    SO_PASSCRED = 16 SO_PEERCRED = 17 SO_RCVLOWAT = 18 SO_SNDLOWAT = 19 SO_RCVTIMEO = 20 SO_SNDTIMEO = 21
    SO_PEERNAME = 28 SO_TIMESTAMP = 29 SO_ACCEPTCONN = 30 SO_SNDBUFFORCE = 32 SO_RCVBUFFORCE = 33
    SO_PASSSEC = 34 SO_TIMESTAMPNS = 35 SO_MARK = 36 SO_PROTOCOL = 38 SO_DOMAIN = 39 SO_PEEK_OFF = 42
    SO_COOKIE = 57 SO_PEERGROUPS = 59 SO_RCVTIMEO_NEW = 66 SO_SNDTIMEO_NEW = 67
}

/// Default and largest unprivileged buffer size (`net.core.wmem_max`).
pub const DEFAULT_BUF: usize = 212_992;
const MIN_SNDBUF: usize = 4608;
const MIN_RCVBUF: usize = 2304;
const MAX_FORCED: usize = 64 << 20;
/// `CAP_NET_ADMIN`.
const CAP_NET_ADMIN: u32 = 12;

/// Switches that are kept as bits of their number.
const SWITCHES: &[i32] = &[
    SO_DEBUG,
    SO_REUSEADDR,
    SO_DONTROUTE,
    SO_BROADCAST,
    SO_KEEPALIVE,
    SO_OOBINLINE,
    SO_REUSEPORT,
    SO_PASSCRED,
    SO_TIMESTAMP,
    SO_TIMESTAMPNS,
    SO_PASSSEC,
];

/// Values of the options.
pub struct Options {
    switches: AtomicU64,
    sndbuf: AtomicUsize,
    rcvbuf: AtomicUsize,
    /// 0 = for ever.
    rcvtimeo_ns: AtomicU64,
    sndtimeo_ns: AtomicU64,
    /// -1 = off.
    linger: AtomicU32,
    priority: AtomicU32,
    rcvlowat: AtomicU32,
    mark: AtomicU32,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            switches: AtomicU64::new(0),
            sndbuf: AtomicUsize::new(DEFAULT_BUF),
            rcvbuf: AtomicUsize::new(DEFAULT_BUF),
            rcvtimeo_ns: AtomicU64::new(0),
            sndtimeo_ns: AtomicU64::new(0),
            linger: AtomicU32::new(u32::MAX),
            priority: AtomicU32::new(0),
            rcvlowat: AtomicU32::new(1),
            mark: AtomicU32::new(0),
        }
    }
}

fn int(v: i32) -> Result<Vec<u8>> {
    Ok(v.to_ne_bytes().to_vec())
}

fn timeval(ns: u64) -> Result<Vec<u8>> {
    Ok(Timeval::from_ns(ns).as_bytes().to_vec())
}

impl Options {
    /// Whether a switch is on.
    pub fn on(&self, name: i32) -> bool {
        self.switches.load(Ordering::Relaxed) >> (name & 63) & 1 != 0
    }
    /// Bytes that may be on their way.
    pub fn sndbuf(&self) -> usize {
        self.sndbuf.load(Ordering::Relaxed)
    }
    /// When a receive (or send) that starts at `now` gives up.
    pub fn deadline(&self, now: u64, send: bool) -> Option<u64> {
        let t = if send {
            &self.sndtimeo_ns
        } else {
            &self.rcvtimeo_ns
        };
        match t.load(Ordering::Relaxed) {
            0 => None,
            ns => Some(now.saturating_add(ns)),
        }
    }
    /// A generic option. [`Errno::ENOPROTOOPT`]: not one of these.
    pub fn get(&self, name: i32) -> Result<Vec<u8>> {
        match name {
            n if SWITCHES.contains(&n) => int(self.on(n) as i32),
            SO_SNDBUF => int(self.sndbuf() as i32),
            SO_RCVBUF => int(self.rcvbuf.load(Ordering::Relaxed) as i32),
            SO_PRIORITY => int(self.priority.load(Ordering::Relaxed) as i32),
            SO_RCVLOWAT => int(self.rcvlowat.load(Ordering::Relaxed) as i32),
            SO_SNDLOWAT => int(1),
            SO_MARK => int(self.mark.load(Ordering::Relaxed) as i32),
            SO_RCVTIMEO | SO_RCVTIMEO_NEW => timeval(self.rcvtimeo_ns.load(Ordering::Relaxed)),
            SO_SNDTIMEO | SO_SNDTIMEO_NEW => timeval(self.sndtimeo_ns.load(Ordering::Relaxed)),
            SO_LINGER => {
                let v = self.linger.load(Ordering::Relaxed);
                let l = Linger {
                    onoff: (v != u32::MAX) as i32,
                    linger: if v == u32::MAX { 0 } else { v as i32 },
                };
                Ok(l.as_bytes().to_vec())
            }
            _ => Err(Errno::ENOPROTOOPT),
        }
    }
    /// Sets a generic option.
    pub fn set(&self, cx: &dyn Caller, name: i32, value: &[u8]) -> Result {
        if name == SO_LINGER {
            let (l, _) = Linger::read_from_prefix(value).map_err(|_| Errno::EINVAL)?;
            let v = if l.onoff == 0 {
                u32::MAX
            } else {
                l.linger.clamp(0, i32::MAX - 1) as u32
            };
            self.linger.store(v, Ordering::Relaxed);
            return Ok(());
        }
        if matches!(
            name,
            SO_RCVTIMEO | SO_RCVTIMEO_NEW | SO_SNDTIMEO | SO_SNDTIMEO_NEW
        ) {
            let (t, _) = Timeval::read_from_prefix(value).map_err(|_| Errno::EINVAL)?;
            if !(0..1_000_000).contains(&t.usec) {
                return Err(Errno::EDOM);
            }
            // A negative time does not wait at all: one nanosecond.
            let ns = if t.sec < 0 { 1 } else { t.to_ns()? };
            let to = if matches!(name, SO_RCVTIMEO | SO_RCVTIMEO_NEW) {
                &self.rcvtimeo_ns
            } else {
                &self.sndtimeo_ns
            };
            to.store(ns, Ordering::Relaxed);
            return Ok(());
        }
        let v = value
            .get(..4)
            .and_then(|b| <[u8; 4]>::try_from(b).ok())
            .map(i32::from_ne_bytes)
            .ok_or(Errno::EINVAL)?;
        match name {
            n if SWITCHES.contains(&n) => {
                let bit = 1u64 << (n & 63);
                if v != 0 {
                    self.switches.fetch_or(bit, Ordering::Relaxed);
                } else {
                    self.switches.fetch_and(!bit, Ordering::Relaxed);
                }
            }
            SO_SNDBUF | SO_RCVBUF | SO_SNDBUFFORCE | SO_RCVBUFFORCE => {
                let forced = matches!(name, SO_SNDBUFFORCE | SO_RCVBUFFORCE);
                if forced && !cx.cred().capable(CAP_NET_ADMIN) {
                    return Err(Errno::EPERM);
                }
                // A negative size counts as a huge one.
                let most = if forced { MAX_FORCED } else { DEFAULT_BUF };
                let size = (v as u32 as usize).min(most) * 2;
                if matches!(name, SO_SNDBUF | SO_SNDBUFFORCE) {
                    self.sndbuf.store(size.max(MIN_SNDBUF), Ordering::Relaxed);
                } else {
                    self.rcvbuf.store(size.max(MIN_RCVBUF), Ordering::Relaxed);
                }
            }
            SO_PRIORITY => {
                if !(0..=6).contains(&v) && !cx.cred().capable(CAP_NET_ADMIN) {
                    return Err(Errno::EPERM);
                }
                self.priority.store(v as u32, Ordering::Relaxed);
            }
            SO_RCVLOWAT => {
                let v = if v < 0 { i32::MAX } else { v.max(1) };
                self.rcvlowat.store(v as u32, Ordering::Relaxed);
            }
            SO_MARK => {
                if !cx.cred().capable(CAP_NET_ADMIN) {
                    return Err(Errno::EPERM);
                }
                self.mark.store(v as u32, Ordering::Relaxed);
            }
            SO_TYPE | SO_ERROR | SO_PROTOCOL | SO_DOMAIN | SO_ACCEPTCONN | SO_PEERCRED
            | SO_SNDLOWAT | SO_COOKIE | SO_PEERGROUPS => return Err(Errno::ENOPROTOOPT),
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }
}
