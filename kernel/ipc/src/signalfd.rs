//! signalfd(2): pending signals as something to read.

use crate::Ipc;
use abi::signal::{SIGKILL, SIGSTOP};
use abi::{Errno, Result, SigInfo, SigSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};
use mm::io::Sink;
use vfs::file::{Caller, SignalSource};
use vfs::text::Text;
use vfs::{File, FileOps, OpenFlags, PollEvents, PollTable};

/// Size of `struct signalfd_siginfo`.
const SIGINFO: usize = 128;

/// A signalfd. Reads and polls see the signals of whoever calls, as signalfd(2) says.
pub struct SignalFd {
    mask: AtomicU64,
    ipc: Arc<Ipc>,
    /// Who made it; only asked if the caller cannot be told.
    maker: Option<Arc<dyn SignalSource>>,
}

/// Signals that can be waited for.
fn clean(mask: SigSet) -> SigSet {
    mask.without(SIGKILL).without(SIGSTOP)
}

impl SignalFd {
    fn mask(&self) -> SigSet {
        SigSet(self.mask.load(Ordering::Relaxed))
    }
    /// signalfd(2) on an existing descriptor.
    pub fn set_mask(&self, mask: SigSet) {
        self.mask.store(clean(mask).0, Ordering::Relaxed);
    }
}

/// `struct signalfd_siginfo` of a signal.
fn encode(s: &SigInfo) -> [u8; SIGINFO] {
    let mut b = [0; SIGINFO];
    let mut put = |at: usize, v: &[u8]| b[at..at + v.len()].copy_from_slice(v);
    let f = &s.fields;
    put(0, &s.signo.to_ne_bytes());
    put(4, &s.errno.to_ne_bytes());
    put(8, &s.code.to_ne_bytes());
    let lo = |v: u64| (v as u32).to_ne_bytes();
    let hi = |v: u64| ((v >> 32) as u32).to_ne_bytes();
    const SI_TIMER: i32 = -2;
    match (s.code, s.signo) {
        (SI_TIMER, _) => {
            put(24, &lo(f[0])); // tid
            put(32, &hi(f[0])); // overrun
            put(44, &lo(f[1])); // int
            put(48, &f[1].to_ne_bytes()); // ptr
        }
        // Faults by the CPU: an address.
        (1.., abi::signal::SIGSEGV)
        | (1.., abi::signal::SIGBUS)
        | (1.., abi::signal::SIGILL)
        | (1.., abi::signal::SIGFPE)
        | (1.., abi::signal::SIGTRAP) => put(72, &f[0].to_ne_bytes()),
        // Readiness of a descriptor: band, fd.
        (1.., abi::signal::SIGIO) => {
            put(28, &lo(f[0]));
            put(20, &lo(f[1]));
        }
        (_, abi::signal::SIGCHLD) => {
            put(12, &lo(f[0])); // pid
            put(16, &hi(f[0])); // uid
            put(40, &lo(f[1])); // status
            put(56, &f[2].to_ne_bytes()); // utime
            put(64, &f[3].to_ne_bytes()); // stime
        }
        _ => {
            put(12, &lo(f[0]));
            put(16, &hi(f[0]));
            put(44, &lo(f[1]));
            put(48, &f[1].to_ne_bytes());
        }
    }
    b
}

impl FileOps for SignalFd {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn read(&self, f: &File, cx: &dyn Caller, _pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        if dst.remaining() < SIGINFO {
            return Err(Errno::EINVAL);
        }
        let source = cx
            .signals()
            .or_else(|| self.maker.clone())
            .ok_or(Errno::EAGAIN)?;
        let mut done = 0;
        while dst.remaining() >= SIGINFO {
            let next = match source.take(self.mask()) {
                Some(s) => s,
                None if done > 0 => break,
                None if f.nonblock() => return Err(Errno::EAGAIN),
                // Wake-up proof: a signal is pending before the source's queue is woken.
                None => {
                    let q = source.queue();
                    q.queue().wait(|| source.take(self.mask()))?
                }
            };
            if dst.put(&encode(&next))? < SIGINFO {
                return if done > 0 {
                    Ok(done)
                } else {
                    Err(Errno::EFAULT)
                };
            }
            done += SIGINFO;
        }
        Ok(done)
    }
    fn poll(&self, _f: &File, table: Option<&mut PollTable<'_>>) -> PollEvents {
        let Some(source) = self.ipc.current_signals().or_else(|| self.maker.clone()) else {
            return PollEvents::empty();
        };
        if let Some(t) = table {
            t.add(source.queue());
        }
        if source.pending().0 & self.mask().0 != 0 {
            PollEvents::IN | PollEvents::RDNORM
        } else {
            PollEvents::empty()
        }
    }
    fn fdinfo(&self, _f: &File, out: &mut Text) -> core::fmt::Result {
        writeln!(out, "sigmask:\t{:016x}", self.mask().0)
    }
    fn anon_name(&self) -> Option<Vec<u8>> {
        Some(b"anon_inode:[signalfd]".to_vec())
    }
}

/// The signalfd behind a file, if it is one.
pub fn as_signalfd(f: &File) -> Option<&SignalFd> {
    f.ops.as_any().downcast_ref()
}

impl Ipc {
    /// signalfd4(2), new descriptor. `flags`: SFD_NONBLOCK (SFD_CLOEXEC is the caller's); else [`Errno::EINVAL`].
    pub fn signalfd(
        self: &Arc<Self>,
        cx: &dyn Caller,
        mask: SigSet,
        flags: u32,
    ) -> Result<Arc<File>> {
        let may = OpenFlags::NONBLOCK | OpenFlags::CLOEXEC;
        if flags & !may.bits() != 0 {
            return Err(Errno::EINVAL);
        }
        let ops = Arc::new(SignalFd {
            mask: AtomicU64::new(clean(mask).0),
            ipc: self.clone(),
            maker: cx.signals(),
        });
        let f = OpenFlags::from_bits_retain(flags) & OpenFlags::NONBLOCK;
        self.anon_file(cx, ops, f | OpenFlags::RDWR)
    }
}
