//! Memory devices (major 1): null, zero, full, random, urandom, kmsg.

use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use hal::Platform;
use hal::platform::LogLevel;
use mm::io::{Sink, Source};
use vfs::file::{Caller, File, FileOps, MmapBacking, Traits};

/// Bytes moved in one step between waits for other tasks.
const STEP: usize = 4096;
/// Longest message that kmsg takes in one write.
const KMSG_MAX: usize = 1024;
/// `ioctl` RNDGETENTCNT: bits of entropy.
const RNDGETENTCNT: u32 = 0x8004_5200;
/// Bits reported by it: always full.
const ENTROPY_BITS: i32 = 256;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    Zero,
    Full,
    Random,
    Kmsg,
}

struct MemDevice {
    kind: Kind,
    platform: &'static dyn Platform,
}

/// Opens the memory device with this minor number. [`Errno::ENXIO`]: there is none.
pub fn open(platform: &'static dyn Platform, minor: u32) -> Result<Arc<dyn FileOps>> {
    let kind = match minor {
        3 => Kind::Null,
        5 => Kind::Zero,
        7 => Kind::Full,
        8 | 9 => Kind::Random,
        11 => Kind::Kmsg,
        _ => return Err(Errno::ENXIO),
    };
    Ok(Arc::new(MemDevice { kind, platform }))
}

impl MemDevice {
    fn fill_random(&self, dst: &mut dyn Sink) -> Result<usize> {
        let want = dst.remaining();
        let mut buf: Vec<u8> = alloc::vec![0; want.min(STEP)];
        let mut done = 0;
        while done < want {
            let n = (want - done).min(STEP);
            self.platform.entropy().fill(&mut buf[..n]);
            let k = match dst.put(&buf[..n]) {
                Ok(k) => k,
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            };
            done += k;
            let me = hal::cpu::current_waiter();
            me.yield_if_needed();
            if k < n || me.interrupted() {
                break;
            }
        }
        Ok(done)
    }
    fn fill_zeros(&self, dst: &mut dyn Sink) -> Result<usize> {
        let want = dst.remaining();
        let mut done = 0;
        while done < want {
            let n = (want - done).min(1 << 20);
            let k = match dst.put_zeros(n) {
                Ok(k) => k,
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            };
            done += k;
            if done == want {
                break;
            }
            let me = hal::cpu::current_waiter();
            me.yield_if_needed();
            if k < n || me.interrupted() {
                break;
            }
        }
        Ok(done)
    }
    /// Takes one message, `<level>text` as printk has it, to the machine's log.
    fn log(&self, src: &mut dyn Source) -> Result<usize> {
        let len = src.remaining();
        if len > KMSG_MAX {
            return Err(Errno::EINVAL);
        }
        let mut buf = alloc::vec![0; len];
        let n = src.take(&mut buf)?;
        let mut text = &buf[..n];
        let mut level = LogLevel::Warn;
        if let [b'<', rest @ ..] = text
            && let Some(end) = rest.iter().position(|&c| c == b'>')
            && let Some(v) = core::str::from_utf8(&rest[..end])
                .ok()
                .and_then(|s| s.parse::<u32>().ok())
        {
            level = match v & 7 {
                0..=3 => LogLevel::Error,
                4 => LogLevel::Warn,
                5 | 6 => LogLevel::Info,
                _ => LogLevel::Debug,
            };
            text = &rest[end + 1..];
        }
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        // One line, printable: a guest must not forge lines or drive the host's terminal.
        let mut line = alloc::string::String::new();
        for &b in text {
            if b.is_ascii_graphic() || b == b' ' {
                line.push(b as char);
            } else {
                let _ = core::fmt::Write::write_fmt(&mut line, format_args!("\\x{b:02x}"));
            }
        }
        self.platform.log(level, &line);
        Ok(n)
    }
}

impl FileOps for MemDevice {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn traits(&self) -> Traits {
        match self.kind {
            Kind::Kmsg => Traits::empty(),
            _ => Traits::SEEKABLE,
        }
    }
    fn pollable(&self) -> bool {
        matches!(self.kind, Kind::Kmsg | Kind::Random)
    }
    fn seek(&self, _f: &File, _offset: i64, _whence: u32) -> Option<Result<u64>> {
        Some(Ok(0))
    }
    fn read(&self, f: &File, _cx: &dyn Caller, _pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        match self.kind {
            Kind::Null => Ok(0),
            Kind::Zero | Kind::Full => self.fill_zeros(dst),
            Kind::Random => self.fill_random(dst),
            // Nothing is kept for readers: the log is the host's.
            Kind::Kmsg if f.nonblock() => Err(Errno::EAGAIN),
            Kind::Kmsg => Ok(0),
        }
    }
    fn write(&self, _f: &File, _cx: &dyn Caller, _pos: u64, src: &mut dyn Source) -> Result<usize> {
        match self.kind {
            Kind::Null | Kind::Zero => Ok(src.remaining()),
            Kind::Full => Err(Errno::ENOSPC),
            Kind::Kmsg => self.log(src),
            // The host's generator needs no help; the bytes are looked at and dropped.
            Kind::Random => {
                let want = src.remaining();
                let mut buf: Vec<u8> = alloc::vec![0; want.min(STEP)];
                let mut done = 0;
                while done < want {
                    let n = (want - done).min(STEP);
                    let k = match src.take(&mut buf[..n]) {
                        Ok(k) => k,
                        Err(_) if done > 0 => break,
                        Err(e) => return Err(e),
                    };
                    done += k;
                    hal::cpu::current_waiter().yield_if_needed();
                    if k < n {
                        break;
                    }
                }
                Ok(done)
            }
        }
    }
    fn ioctl(&self, _f: &File, cx: &dyn Caller, cmd: u32, arg: u64) -> Result<u64> {
        if self.kind == Kind::Random && cmd == RNDGETENTCNT {
            let mm = cx.mm().ok_or(Errno::EFAULT)?;
            mm.put(arg, &ENTROPY_BITS)?;
            return Ok(0);
        }
        Err(Errno::ENOTTY)
    }
    /// Shared mappings of /dev/zero are anonymous memory too, that forks share.
    fn mmap(&self, _f: &File, _shared: bool) -> Result<MmapBacking> {
        match self.kind {
            Kind::Zero => Ok(MmapBacking::Anon),
            _ => Err(Errno::ENODEV),
        }
    }
}
