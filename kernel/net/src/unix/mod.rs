//! The unix family, unix(7): stream, datagram and sequenced-packet sockets.
//!
//! - [`addr`]: names: paths, abstract names, none.
//! - [`queue`]: receive queues. [`inflight`]: descriptors on their way, and the
//!   collection of sockets that only reach each other.
//! - [`connect`]: bind, listen, connect, accept, shutdown, close.
//! - [`stream`], [`dgram`]: moving data. [`table`]: /proc/net/unix.
//!
//! A [`UnixSocket`] knows its peer by reference; the receiver's queue is the only
//! buffer. No two sockets are locked at once: each step locks one, and what the
//! other side may have done in between is checked again.

pub mod addr;
mod connect;
mod dgram;
pub mod inflight;
mod options;
mod queue;
mod stream;
mod table;
#[cfg(test)]
mod tests;

use crate::NetNs;
use crate::options::Options;
use crate::socket::{Received, RecvArgs, SendArgs, SockCx, SockKind, Socket};
use abi::io::UCred;
use abi::ioctl;
use abi::{Errno, Result};
use addr::{Binding, Name};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicI32, AtomicU8, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use inflight::{Graveyard, InFlight};
use mm::io::{Sink, Source};
use queue::{Rx, SendAccount};
use sync::{Mutex, SpinLock, WaitQueue, level};
use vfs::file::Caller;
use vfs::{PollEvents, PollTable};

/// `AF_UNIX`.
pub const AF_UNIX: i32 = 1;
/// Bits of [`UnixSocket::shut`].
const RCV: u8 = 1;
const SEND: u8 = 2;
/// Datagrams that may wait in a socket (`net.unix.max_dgram_qlen`).
const MAX_QLEN: usize = 10;

/// What all unix sockets of a machine share.
#[derive(Default)]
pub struct UnixNs {
    /// All sockets that are not closed, by the number that /proc/net/unix shows.
    all: SpinLock<BTreeMap<u64, Weak<UnixSocket>>, { level::IPC }>,
    next_number: AtomicU64,
    names: SpinLock<BTreeMap<(SockKind, Vec<u8>), Weak<UnixSocket>>, { level::IPC }>,
    next_auto: AtomicUsize,
    inflight: InFlight,
    graveyard: Graveyard,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Neither of the others. A datagram socket stays here.
    Idle,
    /// In connect(2).
    Connecting,
    Listening,
    Connected,
    Closed,
}

/// Who a peer is, for SO_PEERCRED and SO_PEERGROUPS.
#[derive(Clone, Default)]
struct PeerCred {
    cred: UCred,
    groups: Arc<[u32]>,
}

impl PeerCred {
    fn of(cx: &dyn Caller) -> PeerCred {
        let c = cx.cred();
        PeerCred {
            cred: UCred {
                pid: cx.pid(),
                uid: c.euid,
                gid: c.egid,
            },
            groups: Arc::from(&c.groups[..]),
        }
    }
}

struct State {
    phase: Phase,
    /// Bound name.
    binding: Option<Arc<Binding>>,
    /// Connected socket. Kept when the peer closes, for getpeername(2).
    peer: Option<Arc<UnixSocket>>,
    /// Credentials at listen(2) or connect(2).
    own_cred: PeerCred,
    peer_cred: Option<PeerCred>,
    /// Connections that nobody has accepted yet.
    pending: VecDeque<Arc<UnixSocket>>,
    backlog: usize,
}

/// A unix socket.
pub struct UnixSocket {
    this: Weak<UnixSocket>,
    ns: Arc<NetNs>,
    /// Key in [`UnixNs::all`].
    number: u64,
    /// Inode number of its open file; 0 = it has none yet.
    ino: AtomicU64,
    kind: SockKind,
    state: SpinLock<State, { level::IPC }>,
    shut: AtomicU8,
    /// Pending error (errno), reported once.
    error: AtomicU16,
    options: Options,
    /// SO_PEEK_OFF: where MSG_PEEK starts; negative = off, always at the front.
    peek_off: AtomicI32,
    rx: Mutex<Rx>,
    /// Mirrors of `rx` for those who only look: data bytes, messages.
    rx_bytes: AtomicUsize,
    rx_count: AtomicUsize,
    /// Woken for data, connections, shutdown, errors.
    read_wait: Arc<WaitQueue>,
    /// What of ours waits in other sockets, and who waits to write.
    account: Arc<SendAccount>,
    /// Woken when there is room in this socket's queue of datagrams or connections.
    space_wait: Arc<WaitQueue>,
}

fn new_socket(ns: &Arc<NetNs>, kind: SockKind) -> Arc<UnixSocket> {
    let number = ns.unix.next_number.fetch_add(1, Ordering::Relaxed) + 1;
    let new = Arc::new_cyclic(|this| UnixSocket {
        this: this.clone(),
        ns: ns.clone(),
        number,
        ino: AtomicU64::new(0),
        kind,
        state: SpinLock::new(State {
            phase: Phase::Idle,
            binding: None,
            peer: None,
            own_cred: PeerCred::default(),
            peer_cred: None,
            pending: VecDeque::new(),
            backlog: 0,
        }),
        shut: AtomicU8::new(0),
        error: AtomicU16::new(0),
        options: Options::default(),
        peek_off: AtomicI32::new(-1),
        rx: Mutex::new(Rx::default()),
        rx_bytes: AtomicUsize::new(0),
        rx_count: AtomicUsize::new(0),
        read_wait: Arc::new(WaitQueue::new()),
        account: Arc::new(SendAccount::default()),
        space_wait: Arc::new(WaitQueue::new()),
    });
    let weak = Arc::downgrade(&new);
    ns.unix.all.lock().insert(number, weak);
    new
}

fn kind_of(kind: SockKind, protocol: i32) -> Result<SockKind> {
    if protocol != 0 && protocol != AF_UNIX {
        return Err(Errno::EPROTONOSUPPORT);
    }
    match kind {
        SockKind::Raw => Ok(SockKind::Dgram),
        SockKind::Rdm => Err(Errno::ESOCKTNOSUPPORT),
        k => Ok(k),
    }
}

/// socket(2).
pub fn create(
    ns: &Arc<NetNs>,
    _cx: &dyn Caller,
    kind: SockKind,
    protocol: i32,
) -> Result<Arc<dyn Socket>> {
    Ok(new_socket(ns, kind_of(kind, protocol)?))
}

/// socketpair(2).
pub fn pair(
    ns: &Arc<NetNs>,
    cx: &dyn Caller,
    kind: SockKind,
    protocol: i32,
) -> Result<(Arc<dyn Socket>, Arc<dyn Socket>)> {
    let kind = kind_of(kind, protocol)?;
    let (a, b) = (new_socket(ns, kind), new_socket(ns, kind));
    let cred = PeerCred::of(cx);
    for (x, y) in [(&a, &b), (&b, &a)] {
        let mut s = x.state.lock();
        s.peer = Some(y.clone());
        s.peer_cred = Some(cred.clone());
        if kind != SockKind::Dgram {
            s.phase = Phase::Connected;
        }
    }
    Ok((a, b))
}

impl UnixSocket {
    fn is_shut(&self, bits: u8) -> bool {
        self.shut.load(Ordering::Acquire) & bits != 0
    }
    fn peer(&self) -> Option<Arc<UnixSocket>> {
        self.state.lock().peer.clone()
    }
    fn phase(&self) -> Phase {
        self.state.lock().phase
    }
    fn name_arc(&self) -> Option<Arc<Name>> {
        self.state.lock().binding.as_ref().map(|b| b.name.clone())
    }
    fn take_error(&self) -> Option<Errno> {
        match self.error.swap(0, Ordering::AcqRel) {
            0 => None,
            e => Some(Errno(e)),
        }
    }
    /// Takes the pending error, if any, as a failure.
    fn check_error(&self) -> Result {
        self.take_error().map_or(Ok(()), Err)
    }
    /// Wakes everybody after a change of state.
    fn wake_all(&self) {
        let all = PollEvents::IN
            | PollEvents::RDNORM
            | PollEvents::OUT
            | PollEvents::WRNORM
            | PollEvents::HUP
            | PollEvents::RDHUP
            | PollEvents::ERR;
        self.read_wait.wake_key(all.bits());
        self.account.wait.wake_key(all.bits());
        self.space_wait.wake_key(all.bits());
    }
    fn wake_readers(&self) {
        let key = PollEvents::IN | PollEvents::RDNORM;
        self.read_wait.wake_key(key.bits());
    }
    /// What our data that nobody has read yet counts.
    fn outstanding(&self) -> usize {
        self.account.bytes.load(Ordering::Acquire)
    }
    /// Whether a poller may write: a quarter of the buffer at most is taken.
    fn writable(&self) -> bool {
        self.outstanding().saturating_mul(4) <= self.options.sndbuf()
    }
    /// Whether the datagram queue of `other` has no room for one more of ours.
    fn queue_full(&self, other: &UnixSocket) -> bool {
        if core::ptr::eq(self, other) || other.rx_count.load(Ordering::Acquire) < MAX_QLEN {
            return false;
        }
        !other
            .peer()
            .is_some_and(|p| core::ptr::eq(Arc::as_ptr(&p), self))
    }
    fn wait_deadline(&self, send: bool) -> Option<u64> {
        self.options.deadline(self.ns.now(), send)
    }
    /// Bytes that MSG_PEEK skips.
    fn peek_start(&self) -> usize {
        usize::try_from(self.peek_off.load(Ordering::Relaxed)).unwrap_or(0)
    }
    /// Whether a receive finds something: behind the place of MSG_PEEK if `peek`.
    fn has_input(&self, peek: bool) -> bool {
        match if peek { self.peek_start() } else { 0 } {
            0 => self.rx_count.load(Ordering::Acquire) > 0,
            skip => self.rx_bytes.load(Ordering::Acquire) > skip,
        }
    }
    /// Moves the place of MSG_PEEK on after `n` bytes were looked at, or back after they were taken.
    fn move_peek(&self, n: usize, back: bool) {
        let n = i32::try_from(n).unwrap_or(i32::MAX);
        let step = |off: i32| match (off < 0, back) {
            (true, _) => None,
            (false, true) => Some(off.saturating_sub(n).max(0)),
            (false, false) => Some(off.saturating_add(n)),
        };
        let _ = self
            .peek_off
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
    }
    /// Errno of an ended wait.
    fn wait_error(e: Errno, deadline: Option<u64>) -> Errno {
        match e {
            Errno::ETIMEDOUT => Errno::EAGAIN,
            Errno::ERESTARTSYS if deadline.is_some() => Errno::EINTR,
            e => e,
        }
    }
}

impl Socket for UnixSocket {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn domain(&self) -> i32 {
        AF_UNIX
    }
    fn kind(&self) -> SockKind {
        self.kind
    }
    fn bind(&self, cx: SockCx<'_>, addr: &[u8]) -> Result {
        self.do_bind(cx, addr)
    }
    fn connect(&self, cx: SockCx<'_>, addr: &[u8], nonblock: bool) -> Result {
        if self.kind == SockKind::Dgram {
            self.connect_dgram(cx, addr)
        } else {
            self.connect_stream(cx, addr, nonblock)
        }
    }
    fn listen(&self, cx: &dyn Caller, backlog: i32) -> Result {
        self.do_listen(cx, backlog)
    }
    fn accept(&self, nonblock: bool) -> Result<Arc<dyn Socket>> {
        Ok(self.do_accept(nonblock)?)
    }
    fn name(&self, peer: bool) -> Result<Vec<u8>> {
        let name = if peer {
            self.peer().ok_or(Errno::ENOTCONN)?.name_arc()
        } else {
            self.name_arc()
        };
        Ok(addr::encode(name.as_deref()))
    }
    fn shutdown(&self, how: i32) -> Result {
        self.do_shutdown(how)
    }
    fn send(&self, cx: SockCx<'_>, src: &mut dyn Source, args: SendArgs<'_>) -> Result<usize> {
        if self.kind == SockKind::Stream {
            self.send_stream(cx, src, args)
        } else {
            self.send_dgram(cx, src, args)
        }
    }
    fn recv(&self, _cx: &dyn Caller, dst: &mut dyn Sink, args: RecvArgs) -> Result<Received> {
        if self.kind == SockKind::Stream {
            self.recv_stream(dst, args)
        } else {
            self.recv_dgram(dst, args)
        }
    }
    fn get_option(&self, _cx: &dyn Caller, level: i32, name: i32) -> Result<Vec<u8>> {
        self.do_get_option(level, name)
    }
    fn set_option(&self, cx: &dyn Caller, level: i32, name: i32, value: &[u8]) -> Result {
        if level != crate::options::SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP);
        }
        if name == crate::options::SO_PEEK_OFF {
            let v = value.first_chunk().copied().ok_or(Errno::EINVAL)?;
            self.peek_off
                .store(i32::from_ne_bytes(v), Ordering::Relaxed);
            return Ok(());
        }
        self.options.set(cx, name, value)
    }
    fn poll(&self, table: Option<&mut PollTable<'_>>) -> PollEvents {
        let (phase, peer, pending) = {
            let s = self.state.lock();
            (s.phase, s.peer.clone(), !s.pending.is_empty())
        };
        let dgram_peer = peer.as_deref().filter(|_| self.kind == SockKind::Dgram);
        if let Some(t) = table {
            t.add(self.read_wait.clone());
            t.add(self.account.wait.clone());
            if let Some(p) = dgram_peer {
                t.add(p.space_wait.clone());
            }
        }
        let mut ev = PollEvents::empty();
        if self.error.load(Ordering::Acquire) != 0 {
            ev |= PollEvents::ERR;
        }
        let shut = self.shut.load(Ordering::Acquire);
        if shut == RCV | SEND {
            ev |= PollEvents::HUP;
        }
        if shut & RCV != 0 {
            ev |= PollEvents::RDHUP | PollEvents::IN | PollEvents::RDNORM;
        }
        if pending || self.rx_count.load(Ordering::Acquire) > 0 {
            ev |= PollEvents::IN | PollEvents::RDNORM;
        }
        if self.kind != SockKind::Dgram && matches!(phase, Phase::Idle | Phase::Connecting) {
            ev |= PollEvents::HUP;
        }
        let room = phase != Phase::Listening
            && self.writable()
            && !dgram_peer.is_some_and(|p| self.queue_full(p));
        if room {
            ev |= PollEvents::OUT | PollEvents::WRNORM | PollEvents::WRBAND;
        }
        ev
    }
    fn ioctl_int(&self, cmd: u32) -> Result<i32> {
        let n = match cmd {
            ioctl::SIOCOUTQ => self.outstanding(),
            ioctl::SIOCINQ => {
                if self.phase() == Phase::Listening {
                    return Err(Errno::EINVAL);
                }
                if self.kind == SockKind::Dgram {
                    self.rx.lock().first_len()
                } else {
                    self.rx_bytes.load(Ordering::Acquire)
                }
            }
            _ => return Err(Errno::ENOTTY),
        };
        Ok(n.min(i32::MAX as usize) as i32)
    }
    fn raises_sigpipe(&self) -> bool {
        self.kind == SockKind::Stream
    }
    fn opened(&self, ino: u64) {
        self.ino.store(ino, Ordering::Relaxed);
    }
    fn descriptor_closed(&self) {
        self.ns.unix.collect_if_due(0);
    }
    fn close(&self) {
        self.do_close(false);
        self.ns.unix.collect_if_due(1);
    }
}
