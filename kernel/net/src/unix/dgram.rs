//! Data of datagram and sequenced-packet sockets.

use super::addr;
use super::inflight::Rights;
use super::queue::{Charge, Message, dgram_cost};
use super::stream::message_cred;
use super::{Phase, RCV, SEND, UnixSocket};
use crate::options::SO_PASSCRED;
use crate::socket::{Received, RecvArgs, SendArgs, SockCx, SockKind, msg};
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use mm::io::{Sink, Source};

impl UnixSocket {
    pub(super) fn send_dgram(
        &self,
        cx: SockCx<'_>,
        src: &mut dyn Source,
        args: SendArgs<'_>,
    ) -> Result<usize> {
        if args.flags & msg::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let seq = self.kind == SockKind::SeqPacket;
        let named = args.addr.filter(|a| !a.is_empty() && !seq);
        let other = match named {
            Some(a) => None.or(addr::decode(a)?),
            None => None,
        };
        if named.is_some() && other.is_none() {
            return Err(Errno::EINVAL);
        }
        let cred = message_cred(cx.cx, args.control.cred)?;
        if seq {
            self.check_error()?;
            if self.phase() != Phase::Connected {
                return Err(Errno::ENOTCONN);
            }
        } else if self.options.on(SO_PASSCRED) {
            self.autobind()?;
        }
        let len = src.remaining();
        if len > self.options.sndbuf().saturating_sub(32) {
            return Err(Errno::EMSGSIZE);
        }
        let mut data = Vec::new();
        data.try_reserve_exact(len).map_err(|_| Errno::ENOBUFS)?;
        data.resize(len, 0);
        if len > 0 && src.take(&mut data)? < len {
            return Err(Errno::EFAULT);
        }
        let rights = match args.control.files {
            f if f.is_empty() => None,
            f => Some(Rights::new(&self.ns, f)?),
        };
        let nonblock = args.nonblock || args.flags & msg::DONTWAIT != 0;
        let deadline = self.wait_deadline(true);
        let limit = self.options.sndbuf();
        let have_room = || self.account.bytes.load(Ordering::Acquire) < limit;
        if !have_room() {
            if nonblock {
                return Err(Errno::EAGAIN);
            }
            // Wake-up proof: a charge is given back before the account's queue is woken.
            self.account
                .wait
                .wait_until(deadline, || {
                    (have_room() || self.is_shut(SEND)).then_some(())
                })
                .map_err(|e| UnixSocket::wait_error(e, deadline))?;
        }
        let mut message = Some(Message {
            data,
            start: 0,
            rights,
            cred,
            from: self.name_arc(),
            _charge: Charge::new(&self.account, dgram_cost(len), limit / 4),
        });
        loop {
            if self.is_shut(SEND) {
                return Err(Errno::EPIPE);
            }
            let target = match &other {
                Some(n) => self.ns.unix.find(cx, self.kind, n)?,
                None => self.peer().ok_or(Errno::ENOTCONN)?,
            };
            if self.deliver(&target, &mut message, named.is_some())? {
                return Ok(len);
            }
            if nonblock {
                return Err(Errno::EAGAIN);
            }
            // Wake-up proof: a reader takes the datagram, and close marks the
            // socket, before `space_wait` is woken.
            target
                .space_wait
                .wait_until(deadline, || {
                    (!self.queue_full(&target) || target.is_shut(RCV) || self.is_shut(SEND))
                        .then_some(())
                })
                .map_err(|e| UnixSocket::wait_error(e, deadline))?;
        }
    }
    /// Puts the message into the queue of `target`; `false`: it is full.
    fn deliver(
        &self,
        target: &Arc<UnixSocket>,
        message: &mut Option<Message>,
        named: bool,
    ) -> Result<bool> {
        if target.phase() == Phase::Closed {
            if self.kind == SockKind::SeqPacket {
                return Err(Errno::EPIPE);
            }
            if !named {
                // The peer is gone: not connected any more.
                let gone = {
                    let mut s = self.state.lock();
                    let same = s.peer.as_ref().is_some_and(|p| Arc::ptr_eq(p, target));
                    if same { s.peer.take() } else { None }
                };
                drop(gone);
            }
            return Err(Errno::ECONNREFUSED);
        }
        if self.kind == SockKind::Dgram && !self.may_send(target) {
            return Err(Errno::EPERM);
        }
        if target.is_shut(RCV) {
            return Err(Errno::EPIPE);
        }
        if self.queue_full(target) {
            return Ok(false);
        }
        {
            let mut rx = target.rx.lock();
            if target.is_shut(RCV) {
                return Err(Errno::EPIPE);
            }
            let n = message.as_ref().map_or(0, |m| m.data.len());
            rx.messages.extend(message.take());
            target.rx_bytes.fetch_add(n, Ordering::AcqRel);
            target.rx_count.store(rx.messages.len(), Ordering::Release);
        }
        target.wake_readers();
        Ok(true)
    }

    pub(super) fn recv_dgram(&self, dst: &mut dyn Sink, args: RecvArgs) -> Result<Received> {
        if args.flags & msg::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let seq = self.kind == SockKind::SeqPacket;
        if seq && self.phase() != Phase::Connected {
            return Err(Errno::ENOTCONN);
        }
        let nonblock = args.nonblock || args.flags & msg::DONTWAIT != 0;
        let peek = args.flags & msg::PEEK != 0;
        let deadline = self.wait_deadline(false);
        loop {
            if self.has_input(peek)
                && let Some(r) = self.take_datagram(dst, args.flags)
            {
                return r;
            }
            self.check_error()?;
            if self.is_shut(RCV) && (seq || !nonblock) {
                if self.has_input(peek) {
                    continue;
                }
                return Ok(Received::default());
            }
            if nonblock {
                return Err(Errno::EAGAIN);
            }
            // Wake-up proof: as for streams.
            sync::wait_event(&[&self.read_wait], true, deadline, false, || {
                (self.has_input(peek)
                    || self.is_shut(RCV)
                    || self.error.load(Ordering::Acquire) != 0)
                    .then_some(())
            })
            .map_err(|e| UnixSocket::wait_error(e, deadline))?;
        }
    }
    /// The first message; `None`: somebody else has taken it.
    fn take_datagram(&self, dst: &mut dyn Sink, flags: u32) -> Option<Result<Received>> {
        if flags & msg::PEEK != 0 {
            let rx = self.rx.lock();
            let mut skip = self.peek_start();
            let m = rx.messages.iter().find(|m| {
                let past = skip > 0 && skip >= m.data.len();
                if past {
                    skip -= m.data.len();
                }
                !past
            })?;
            let mut got = match self.copy_out(m, skip, dst, flags) {
                Ok(g) => g,
                Err(e) => return Some(Err(e)),
            };
            self.move_peek(got.len.min(m.data.len() - skip), false);
            if let Some(r) = &m.rights {
                got.control.files = r.peek();
            }
            return Some(Ok(got));
        }
        let mut m = {
            let mut rx = self.rx.lock();
            let m = rx.messages.pop_front()?;
            self.rx_bytes.fetch_sub(m.data.len(), Ordering::AcqRel);
            self.rx_count.store(rx.messages.len(), Ordering::Release);
            m
        };
        self.space_wait.wake_all();
        self.move_peek(m.data.len(), true);
        let mut got = match self.copy_out(&m, 0, dst, flags) {
            Ok(g) => g,
            Err(e) => return Some(Err(e)),
        };
        if let Some(r) = m.rights.take() {
            got.control.files = r.take();
        }
        Some(Ok(got))
    }
    /// Copies a datagram from byte `skip` on.
    fn copy_out(
        &self,
        m: &Message,
        skip: usize,
        dst: &mut dyn Sink,
        flags: u32,
    ) -> Result<Received> {
        let mut got = Received::default();
        let data = m.data.get(skip..).unwrap_or_default();
        let n = data.len().min(dst.remaining());
        if n > 0 && dst.put(&data[..n])? < n {
            return Err(Errno::EFAULT);
        }
        got.len = n;
        if n < data.len() {
            got.flags |= msg::TRUNC;
            if flags & msg::TRUNC != 0 {
                got.len = data.len();
            }
        }
        if let Some(from) = &m.from {
            got.addr = addr::encode(Some(from));
        }
        if self.options.on(SO_PASSCRED) {
            got.control.cred = Some(m.cred);
        }
        Ok(got)
    }
}
