//! bind(2), listen(2), connect(2), accept(2), shutdown(2), close.

use super::addr::{self, Name};
use super::queue::Message;
use super::{PeerCred, Phase, RCV, SEND, UnixSocket, new_socket};
use crate::options::SO_PASSCRED;
use crate::socket::{SockCx, SockKind};
use abi::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use vfs::file::Caller;

/// Largest backlog (`net.core.somaxconn`).
const MAX_BACKLOG: usize = 4096;

/// Empties the receive queue; the caller drops the messages with no lock held.
pub(super) fn drain(s: &UnixSocket) -> VecDeque<Message> {
    let mut rx = s.rx.lock();
    s.rx_bytes.store(0, Ordering::Release);
    s.rx_count.store(0, Ordering::Release);
    core::mem::take(&mut rx.messages)
}

impl UnixSocket {
    pub(super) fn do_bind(&self, cx: SockCx<'_>, addr: &[u8]) -> Result {
        let name = addr::decode(addr)?;
        if self.state.lock().binding.is_some() {
            return Err(Errno::EINVAL);
        }
        let unix = &self.ns.unix;
        let binding = match name {
            None => return self.autobind(),
            Some(Name::Abstract(a)) => unix.bind_abstract(self.kind, a, &self.this)?,
            Some(Name::Path(p)) => addr::bind_path(cx, p, &self.this)?,
        };
        let lost = {
            let mut s = self.state.lock();
            if s.binding.is_some() {
                Some(binding)
            } else {
                s.binding = Some(binding);
                None
            }
        };
        match lost {
            Some(b) => {
                unix.unbind(self.kind, &b);
                Err(Errno::EINVAL)
            }
            None => Ok(()),
        }
    }
    /// Takes an abstract name if there is none yet.
    pub(super) fn autobind(&self) -> Result {
        if self.state.lock().binding.is_some() {
            return Ok(());
        }
        let b = self.ns.unix.autobind(self.kind, &self.this)?;
        let lost = {
            let mut s = self.state.lock();
            match s.binding {
                Some(_) => Some(b),
                None => {
                    s.binding = Some(b);
                    None
                }
            }
        };
        if let Some(b) = lost {
            self.ns.unix.unbind(self.kind, &b);
        }
        Ok(())
    }

    pub(super) fn do_listen(&self, cx: &dyn Caller, backlog: i32) -> Result {
        if self.kind == SockKind::Dgram {
            return Err(Errno::EOPNOTSUPP);
        }
        let cred = PeerCred::of(cx);
        {
            let mut s = self.state.lock();
            if s.binding.is_none() || !matches!(s.phase, Phase::Idle | Phase::Listening) {
                return Err(Errno::EINVAL);
            }
            s.phase = Phase::Listening;
            // A negative backlog counts as a huge one.
            s.backlog = (backlog as u32 as usize).min(MAX_BACKLOG);
            s.own_cred = cred;
        }
        self.space_wait.wake_all();
        Ok(())
    }

    /// Stream and seqpacket.
    pub(super) fn connect_stream(&self, cx: SockCx<'_>, addr: &[u8], nonblock: bool) -> Result {
        let name = addr::decode(addr)?.ok_or(Errno::EINVAL)?;
        if self.options.on(SO_PASSCRED) {
            self.autobind()?;
        }
        let deadline = self.wait_deadline(true);
        loop {
            let listener = self.ns.unix.find(cx, self.kind, &name)?;
            {
                let mut s = self.state.lock();
                match s.phase {
                    Phase::Idle => s.phase = Phase::Connecting,
                    Phase::Connecting => return Err(Errno::EALREADY),
                    Phase::Connected => return Err(Errno::EISCONN),
                    Phase::Listening | Phase::Closed => return Err(Errno::EINVAL),
                }
            }
            let result = self.try_connect(cx.cx, &listener);
            if result.is_err() {
                self.state.lock().phase = Phase::Idle;
            }
            match result {
                // The backlog is full.
                Err(Errno::EAGAIN) if !nonblock => {}
                r => return r,
            }
            // Wake-up proof: accept and close change the queue before they wake `space_wait`.
            listener
                .space_wait
                .wait_until(deadline, || {
                    let s = listener.state.lock();
                    (s.phase != Phase::Listening || s.pending.len() <= s.backlog).then_some(())
                })
                .map_err(|e| UnixSocket::wait_error(e, deadline))?;
        }
    }
    /// Queues the other end of this socket at `listener`. [`Errno::EAGAIN`]: no room.
    fn try_connect(&self, cx: &dyn Caller, listener: &Arc<UnixSocket>) -> Result {
        let me = self.this.upgrade().ok_or(Errno::EINVAL)?;
        let cred = PeerCred::of(cx);
        let end = new_socket(&self.ns, self.kind);
        {
            let mut s = end.state.lock();
            s.phase = Phase::Connected;
            s.peer = Some(me);
            s.peer_cred = Some(cred);
        }
        // The new end has the listener's name.
        let name = listener.state.lock().binding.clone();
        end.state.lock().binding = name;
        let listener_cred;
        let refused = {
            let mut l = listener.state.lock();
            listener_cred = l.own_cred.clone();
            if l.phase != Phase::Listening || listener.is_shut(RCV) {
                Some(Errno::ECONNREFUSED)
            } else if l.pending.len() > l.backlog {
                Some(Errno::EAGAIN)
            } else {
                l.pending.push_back(end.clone());
                None
            }
        };
        if let Some(e) = refused {
            // Break the circle: the unused end refers to us.
            let gone = end.state.lock().peer.take();
            drop(gone);
            return Err(e);
        }
        {
            let mut s = self.state.lock();
            s.phase = Phase::Connected;
            s.peer = Some(end);
            s.peer_cred = Some(listener_cred);
        }
        listener.wake_readers();
        // Whoever waited to write or polled for HUP before.
        self.account.wake();
        Ok(())
    }

    pub(super) fn connect_dgram(&self, cx: SockCx<'_>, addr: &[u8]) -> Result {
        let unspec = addr.get(..2) == Some(&[0, 0]);
        let peer = if unspec {
            None
        } else {
            let name = addr::decode(addr)?.ok_or(Errno::EINVAL)?;
            if self.options.on(SO_PASSCRED) {
                self.autobind()?;
            }
            let other = self.ns.unix.find(cx, self.kind, &name)?;
            if !self.may_send(&other) {
                return Err(Errno::EPERM);
            }
            Some(other)
        };
        let old = core::mem::replace(&mut self.state.lock().peer, peer);
        if let Some(old) = old {
            // What another peer sent before is not for this connection.
            let stale = drain(self);
            drop(stale);
            old.space_wait.wake_all();
        }
        self.account.wake();
        Ok(())
    }
    /// Whether `other` takes datagrams from us: it has no peer, or us as its peer.
    pub(super) fn may_send(&self, other: &UnixSocket) -> bool {
        other
            .peer()
            .is_none_or(|p| core::ptr::eq(Arc::as_ptr(&p), self))
    }

    pub(super) fn do_accept(&self, nonblock: bool) -> Result<Arc<UnixSocket>> {
        if self.kind == SockKind::Dgram {
            return Err(Errno::EOPNOTSUPP);
        }
        let deadline = self.wait_deadline(false);
        let take = || -> Option<Result<Arc<UnixSocket>>> {
            let mut s = self.state.lock();
            if s.phase != Phase::Listening || self.is_shut(RCV) && s.pending.is_empty() {
                return Some(Err(Errno::EINVAL));
            }
            s.pending.pop_front().map(Ok)
        };
        let got = match take() {
            Some(r) => r,
            None if nonblock => Err(Errno::EAGAIN),
            // Wake-up proof: connect queues before it wakes `read_wait`.
            None => sync::wait_event(&[&self.read_wait], true, deadline, true, take)
                .map_err(|e| UnixSocket::wait_error(e, deadline))?,
        };
        if got.is_ok() {
            self.space_wait.wake_all();
        }
        got
    }

    pub(super) fn do_shutdown(&self, how: i32) -> Result {
        let mine = match how {
            0 => RCV,
            1 => SEND,
            2 => RCV | SEND,
            _ => return Err(Errno::EINVAL),
        };
        self.shut.fetch_or(mine, Ordering::AcqRel);
        if self.kind != SockKind::Dgram
            && let Some(peer) = self.peer()
        {
            let theirs = match mine {
                RCV => SEND,
                SEND => RCV,
                both => both,
            };
            peer.shut.fetch_or(theirs, Ordering::AcqRel);
            peer.wake_all();
        }
        self.wake_all();
        Ok(())
    }

    /// `lost`: a connection that nobody accepted.
    pub(super) fn do_close(&self, lost: bool) {
        self.shut.store(RCV | SEND, Ordering::Release);
        let (phase, peer, pending, binding) = {
            let mut s = self.state.lock();
            (
                core::mem::replace(&mut s.phase, Phase::Closed),
                s.peer.take(),
                core::mem::take(&mut s.pending),
                s.binding.clone(),
            )
        };
        if phase == Phase::Closed {
            return;
        }
        self.ns.unix.all.lock().remove(&self.number);
        // A connection shares its name with the listener, which owns it.
        if let Some(b) = binding
            && core::ptr::eq(b.socket.as_ptr(), self)
        {
            self.ns.unix.unbind(self.kind, &b);
        }
        let unread = drain(self);
        if let Some(peer) = &peer
            && self.kind != SockKind::Dgram
        {
            if lost || !unread.is_empty() {
                peer.error.store(Errno::ECONNRESET.0, Ordering::Release);
            }
            peer.shut.store(RCV | SEND, Ordering::Release);
            peer.wake_all();
        }
        for p in &pending {
            p.do_close(true);
        }
        self.wake_all();
        drop(unread);
    }
}
