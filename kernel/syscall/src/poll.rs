//! Waiting for descriptors: poll(2), select(2).

use crate::args::{In, Out, Ptr};
use crate::cx::{self, mm};
use crate::flags::{PollFds, Resource};
use abi::io::PollFd;
use abi::time::{NSEC_PER_SEC, Timespec, Timeval};
use abi::{Errno, Result, SigSet};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use ipc::poll::{PollItem, poll_files};
use task::Ctx;
use vfs::PollEvents;
use zerocopy::IntoBytes;

/// Elements copied in at a time.
const BATCH: usize = 512;
/// Bytes from `struct pollfd` to `revents`.
const REVENTS: u64 = 6;

/// A time limit: none, already over, or a deadline of the monotonic clock.
#[derive(Clone, Copy)]
pub struct Limit(pub Option<u64>);

impl Limit {
    /// After `ns` from now. 0: do not wait.
    pub fn after(cx: &Ctx, ns: u64) -> Limit {
        Limit(Some(if ns == 0 {
            0
        } else {
            cx.kernel().now().saturating_add(ns)
        }))
    }
    /// From a `timespec` in guest memory; NULL is for ever.
    pub fn from_spec(cx: &Ctx, t: Option<Timespec>) -> Result<Limit> {
        match t {
            Some(t) => Ok(Limit::after(cx, t.to_ns()?)),
            None => Ok(Limit(None)),
        }
    }
    /// Nanoseconds left.
    fn left(self, cx: &Ctx) -> u64 {
        self.0.unwrap_or(0).saturating_sub(cx.kernel().now())
    }
}

/// Milliseconds of poll(2) and epoll_wait(2); negative is for ever.
pub fn from_ms(cx: &Ctx, ms: i32) -> Limit {
    match u64::try_from(ms) {
        Ok(ms) => Limit::after(cx, ms * 1_000_000),
        Err(_) => Limit(None),
    }
}

/// Waits for descriptors: `poll(2)`. Interrupted, it goes on with the time that is left.
pub fn sys_poll(cx: &Ctx, fds: PollFds, nfds: u32, timeout: i32) -> Result<u64> {
    poll_until(cx, fds, nfds, from_ms(cx, timeout))
}

fn poll_until(cx: &Ctx, fds: PollFds, nfds: u32, limit: Limit) -> Result<u64> {
    match poll_fds(cx, fds, nfds, limit) {
        Err(Errno::ERESTARTNOHAND) => {
            cx.task()
                .set_restart(Box::new(move |cx| poll_until(cx, fds, nfds, limit)));
            Err(Errno::ERESTART_RESTARTBLOCK)
        }
        r => r,
    }
}

fn poll_fds(cx: &Ctx, fds: PollFds, nfds: u32, limit: Limit) -> Result<u64> {
    if u64::from(nfds) > cx::limit(cx, Resource::RLIMIT_NOFILE) {
        return Err(Errno::EINVAL);
    }
    let mm = mm(cx);
    let files = cx.files();
    let mut items: Vec<PollItem> = Vec::new();
    items
        .try_reserve_exact(nfds as usize)
        .map_err(|_| Errno::ENOMEM)?;
    let entry = |i: usize| fds.0.wrapping_add((i * size_of::<PollFd>()) as u64);
    while items.len() < nfds as usize {
        let n = (nfds as usize - items.len()).min(BATCH);
        for p in mm.get_vec::<PollFd>(entry(items.len()), n)? {
            let file = if p.fd < 0 {
                None
            } else {
                files.get_io(p.fd).ok()
            };
            let bad = p.fd >= 0 && file.is_none();
            items.push(PollItem {
                file,
                events: PollEvents::from_bits_retain(u32::from(p.events as u16)),
                revents: if bad {
                    PollEvents::NVAL
                } else {
                    PollEvents::empty()
                },
            });
        }
    }
    let n = poll_files(&mut items, limit.0)?;
    // Only `revents` is the kernel's to write.
    for (i, item) in items.iter().enumerate() {
        let at = entry(i).wrapping_add(REVENTS);
        mm.put(at, &(item.revents.bits() as i16))?;
    }
    Ok(n as u64)
}

/// Waits for descriptors with a signal mask: `ppoll(2)`. The time left is stored.
pub fn sys_ppoll(
    cx: &Ctx,
    fds: PollFds,
    nfds: u32,
    timeout: Out<Timespec>,
    mask: In<SigSet>,
    size: u64,
) -> Result<u64> {
    let limit = Limit::from_spec(cx, timeout.get_opt(mm(cx))?)?;
    cx::with_mask(cx, mask, size, || {
        let r = poll_fds(cx, fds, nfds, limit);
        store_left(cx, timeout, limit, r)
    })
}

/// Stores the time left. A call that cannot is not restarted.
fn store_left(cx: &Ctx, to: Out<Timespec>, limit: Limit, r: Result<u64>) -> Result<u64> {
    let stored = to.put_opt(mm(cx), &Timespec::from_ns(limit.left(cx)));
    match r {
        Err(Errno::ERESTARTNOHAND) if stored.is_err() => Err(Errno::EINTR),
        r => r,
    }
}

const READ: PollEvents = PollEvents::IN
    .union(PollEvents::RDNORM)
    .union(PollEvents::RDBAND)
    .union(PollEvents::HUP)
    .union(PollEvents::ERR);
const WRITE: PollEvents = PollEvents::OUT
    .union(PollEvents::WRNORM)
    .union(PollEvents::WRBAND)
    .union(PollEvents::ERR);
const EXCEPT: PollEvents = PollEvents::PRI;

/// The three sets of select(2): addresses, and one bit per descriptor.
struct Sets {
    addr: [u64; 3],
    bits: [Vec<u64>; 3],
}

fn bit(words: &[u64], fd: usize) -> bool {
    words.get(fd / 64).is_some_and(|w| w >> (fd % 64) & 1 != 0)
}

fn select(cx: &Ctx, nfds: i32, addr: [u64; 3], limit: Limit) -> Result<u64> {
    let mut n = usize::try_from(nfds).map_err(|_| Errno::EINVAL)?;
    // Beyond the table nothing is looked at, as on Linux.
    n = n.min(cx.files().end().next_multiple_of(64).max(64));
    let words = n.div_ceil(64);
    let mm = mm(cx);
    let mut sets = Sets {
        addr,
        bits: [vec![0; words], vec![0; words], vec![0; words]],
    };
    for (bits, addr) in sets.bits.iter_mut().zip(addr) {
        if addr != 0 {
            *bits = mm.get_vec::<u64>(addr, words)?;
        }
    }
    let files = cx.files();
    let mut fds: Vec<usize> = Vec::new();
    let mut items: Vec<PollItem> = Vec::new();
    let count: usize = sets
        .bits
        .iter()
        .flatten()
        .map(|w| w.count_ones() as usize)
        .sum();
    fds.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    items.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    for fd in 0..n {
        let mut events = PollEvents::empty();
        for (bits, mask) in sets.bits.iter().zip([READ, WRITE, EXCEPT]) {
            if bit(bits, fd) {
                events |= mask;
            }
        }
        if events.is_empty() {
            continue;
        }
        fds.push(fd);
        items.push(PollItem {
            file: Some(files.get_io(fd as i32)?),
            events,
            revents: PollEvents::empty(),
        });
    }
    loop {
        let ready = poll_files(&mut items, limit.0)?;
        let mut out = [vec![0u64; words], vec![0u64; words], vec![0u64; words]];
        let mut count = 0;
        for (fd, item) in fds.iter().zip(&items) {
            for i in 0..3 {
                let mask = [READ, WRITE, EXCEPT][i];
                if bit(&sets.bits[i], *fd)
                    && item.revents.intersects(mask)
                    && let Some(w) = out[i].get_mut(fd / 64)
                {
                    *w |= 1 << (fd % 64);
                    count += 1;
                }
            }
        }
        if count == 0 && ready > 0 {
            // A hang-up that none of the sets shows; it would never end the wait.
            for item in &mut items {
                if !item.revents.is_empty() {
                    item.file = None;
                    item.revents = PollEvents::empty();
                }
            }
            continue;
        }
        for (bits, addr) in out.iter().zip(sets.addr) {
            if addr != 0 {
                mm.write(addr, bits.as_slice().as_bytes())?;
            }
        }
        return Ok(count);
    }
}

/// Waits for sets of descriptors: `select(2)`. The time left is stored.
pub fn sys_select(
    cx: &Ctx,
    nfds: i32,
    read: Ptr,
    write: Ptr,
    except: Ptr,
    timeout: Out<Timeval>,
) -> Result<u64> {
    let limit = match timeout.get_opt(mm(cx))? {
        Some(t) => {
            let (s, us) = (t.sec.checked_add(t.usec / 1_000_000), t.usec % 1_000_000);
            let spec = Timespec {
                sec: s.ok_or(Errno::EINVAL)?,
                nsec: us * 1000,
            };
            Limit::from_spec(cx, Some(spec))?
        }
        None => Limit(None),
    };
    let r = select(cx, nfds, [read.0, write.0, except.0], limit);
    let left = limit.left(cx);
    let stored = timeout.put_opt(
        mm(cx),
        &Timeval {
            sec: (left / NSEC_PER_SEC) as i64,
            usec: (left % NSEC_PER_SEC / 1000) as i64,
        },
    );
    match r {
        Err(Errno::ERESTARTNOHAND) if stored.is_err() => Err(Errno::EINTR),
        r => r,
    }
}

/// Waits for sets of descriptors with a signal mask: `pselect6(2)`. `sigmask` points to address and size of the mask.
pub fn sys_pselect6(
    cx: &Ctx,
    nfds: i32,
    read: Ptr,
    write: Ptr,
    except: Ptr,
    timeout: Out<Timespec>,
    sigmask: Ptr,
) -> Result<u64> {
    let mm = mm(cx);
    let [mask, size] = if sigmask.0 == 0 {
        [0, 0]
    } else {
        mm.get::<[u64; 2]>(sigmask.0)?
    };
    let limit = Limit::from_spec(cx, timeout.get_opt(mm)?)?;
    cx::with_mask(cx, In::at(mask), size, || {
        let r = select(cx, nfds, [read.0, write.0, except.0], limit);
        store_left(cx, timeout, limit, r)
    })
}
