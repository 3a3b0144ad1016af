//! Data of stream sockets.

use super::inflight::Rights;
use super::queue::{Charge, Message, stream_cost, stream_piece};
use super::{PeerCred, Phase, RCV, SEND, UnixSocket};
use crate::options::{SO_PASSCRED, SO_RCVLOWAT};
use crate::socket::{Received, RecvArgs, SendArgs, SockCx, msg};
use abi::io::UCred;
use abi::{Errno, Result};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use mm::io::{Sink, Source};
use vfs::cred::cap;
use vfs::file::Caller;

/// Credentials that go with a message: those given, if the sender may claim them, or its real ones.
pub(super) fn message_cred(cx: &dyn Caller, given: Option<UCred>) -> Result<UCred> {
    let c = cx.cred();
    let Some(g) = given else {
        return Ok(UCred {
            pid: cx.pid(),
            uid: c.uid,
            gid: c.gid,
        });
    };
    let ok = (g.pid == cx.pid() || c.capable(cap::SYS_ADMIN))
        && ([c.uid, c.euid, c.suid].contains(&g.uid) || c.capable(cap::SETUID))
        && ([c.gid, c.egid, c.sgid].contains(&g.gid) || c.capable(cap::SETGID));
    if ok { Ok(g) } else { Err(Errno::EPERM) }
}

impl UnixSocket {
    pub(super) fn send_stream(
        &self,
        cx: SockCx<'_>,
        src: &mut dyn Source,
        args: SendArgs<'_>,
    ) -> Result<usize> {
        if args.flags & msg::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let peer = {
            let s = self.state.lock();
            if args.addr.is_some_and(|a| !a.is_empty()) {
                return Err(if s.phase == Phase::Connected {
                    Errno::EISCONN
                } else {
                    Errno::EOPNOTSUPP
                });
            }
            match (s.phase, &s.peer) {
                (Phase::Connected, Some(p)) => p.clone(),
                _ => return Err(Errno::ENOTCONN),
            }
        };
        let cred = message_cred(cx.cx, args.control.cred)?;
        if self.is_shut(SEND) {
            self.check_error()?;
            return Err(Errno::EPIPE);
        }
        let mut rights = match args.control.files {
            f if f.is_empty() => None,
            f => Some(Rights::new(&self.ns, f)?),
        };
        let nonblock = args.nonblock || args.flags & msg::DONTWAIT != 0;
        let mut deadline = None;
        let mut done = 0;
        // Descriptors need at least one byte to travel with.
        while src.remaining() > 0 {
            let failed = if let Some(e) = self.take_error() {
                Some(e)
            } else if self.is_shut(SEND) || peer.is_shut(RCV) {
                Some(Errno::EPIPE)
            } else if self.outstanding() < self.options.sndbuf() {
                let r = self.append(&peer, src, &mut rights, cred);
                peer.wake_readers();
                match r {
                    Ok(n) => {
                        done += n;
                        continue;
                    }
                    Err(e) => Some(e),
                }
            } else if nonblock {
                Some(Errno::EAGAIN)
            } else {
                deadline = deadline.or_else(|| self.wait_deadline(true));
                // Wake-up proof: a charge is given back before our account's
                // queue is woken; shutdown and close set `shut` before.
                self.account
                    .wait
                    .wait_until(deadline, || {
                        (self.outstanding() < self.options.sndbuf()
                            || self.is_shut(SEND)
                            || peer.is_shut(RCV))
                        .then_some(())
                    })
                    .err()
                    .map(|e| UnixSocket::wait_error(e, deadline))
            };
            match failed {
                Some(e) if done == 0 => return Err(e),
                Some(_) => break,
                None => {}
            }
        }
        Ok(done)
    }
    /// Copies one piece of `src` to the peer's queue.
    fn append(
        &self,
        peer: &UnixSocket,
        src: &mut dyn Source,
        rights: &mut Option<Rights>,
        cred: UCred,
    ) -> Result<usize> {
        let sndbuf = self.options.sndbuf();
        let want = src.remaining().min(stream_piece(sndbuf));
        let from = self.name_arc();
        let mut rx = peer.rx.lock();
        if peer.is_shut(RCV) {
            // Closed meanwhile: nobody will empty the queue again.
            return Err(Errno::EPIPE);
        }
        let mut data = rx.buffer(want).ok_or(Errno::ENOMEM)?;
        data.resize(want, 0);
        let got = src.take(&mut data);
        data.truncate(*got.as_ref().unwrap_or(&0));
        let n = got?;
        if n < want {
            // Nothing of a piece that cannot be read wholly.
            rx.recycle(data);
            return Err(Errno::EFAULT);
        }
        rx.messages.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        rx.messages.push_back(Message {
            data,
            start: 0,
            rights: rights.take(),
            cred,
            from,
            _charge: Charge::new(&self.account, stream_cost(n), sndbuf / 4),
        });
        peer.rx_count.store(rx.messages.len(), Ordering::Release);
        peer.rx_bytes.fetch_add(n, Ordering::AcqRel);
        Ok(n)
    }

    pub(super) fn recv_stream(&self, dst: &mut dyn Sink, args: RecvArgs) -> Result<Received> {
        if args.flags & msg::OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if self.phase() != Phase::Connected {
            return Err(Errno::EINVAL);
        }
        let mut got = Received::default();
        // Without room the call still waits for data, which it leaves.
        let empty = dst.remaining() == 0;
        let peek = args.flags & msg::PEEK != 0;
        if empty && self.has_input(peek) {
            return Ok(got);
        }
        let lowat = self
            .options
            .get(SO_RCVLOWAT)
            .ok()
            .and_then(|v| <[u8; 4]>::try_from(&v[..]).ok())
            .map_or(1, u32::from_ne_bytes) as usize;
        let target = if args.flags & msg::WAITALL != 0 {
            dst.remaining()
        } else {
            lowat.min(dst.remaining())
        };
        let nonblock = args.nonblock || args.flags & msg::DONTWAIT != 0;
        let mut deadline = None;
        let mut writer: Option<UCred> = None;
        let mut rights: Vec<Rights> = Vec::new();
        let end = loop {
            if self.has_input(peek) {
                let r = self.take_data(dst, peek, &mut got, &mut writer, &mut rights);
                match r {
                    Ok(true) => {}
                    Ok(false) => break Ok(()),
                    Err(e) => break Err(e),
                }
            }
            let done = got.len >= target || dst.remaining() == 0;
            if !empty && (done || peek && got.len > 0) {
                break Ok(());
            }
            if empty && self.has_input(peek) {
                break Ok(());
            }
            if let Some(e) = self.take_error() {
                break Err(e);
            }
            if self.is_shut(RCV) {
                if self.has_input(peek) && !peek {
                    continue;
                }
                break Ok(());
            }
            if nonblock {
                break Err(Errno::EAGAIN);
            }
            deadline = deadline.or_else(|| self.wait_deadline(false));
            // Wake-up proof: writers queue, and shutdown, close and errors are
            // noted, before `read_wait` is woken.
            let r = self.read_wait.wait_until(deadline, || {
                (self.has_input(peek)
                    || self.is_shut(RCV)
                    || self.error.load(Ordering::Acquire) != 0)
                    .then_some(())
            });
            if let Err(e) = r {
                break Err(UnixSocket::wait_error(e, deadline));
            }
        };
        for r in rights {
            got.control.files.extend(r.take());
        }
        if self.options.on(SO_PASSCRED) {
            got.control.cred = writer;
        }
        match end {
            Err(e) if got.len == 0 => Err(e),
            _ => Ok(got),
        }
    }
    /// Copies what is there. `false`: the call ends here (descriptors came, another writer follows).
    fn take_data(
        &self,
        dst: &mut dyn Sink,
        peek: bool,
        got: &mut Received,
        writer: &mut Option<UCred>,
        rights: &mut Vec<Rights>,
    ) -> Result<bool> {
        let passcred = self.options.on(SO_PASSCRED);
        let mut rx = self.rx.lock();
        let mut at = 0;
        let mut skip = if peek { self.peek_start() } else { 0 };
        while dst.remaining() > 0 {
            let Some(m) = rx.messages.get_mut(at) else {
                break;
            };
            if skip > 0 && skip >= m.left() {
                skip -= m.left();
                at += 1;
                continue;
            }
            if passcred && writer.is_some_and(|w| w != m.cred) {
                return Ok(false);
            }
            let from = m.start + core::mem::take(&mut skip);
            let want = (m.data.len() - from).min(dst.remaining());
            let n = dst.put(m.data.get(from..from + want).unwrap_or_default())?;
            got.len += n;
            self.move_peek(n, !peek);
            if writer.is_none() {
                *writer = Some(m.cred);
                got.addr = m
                    .from
                    .as_deref()
                    .map(|f| super::addr::encode(Some(f)))
                    .unwrap_or_default();
            }
            if n < want {
                if !peek {
                    m.start += n;
                    self.rx_bytes.fetch_sub(n, Ordering::AcqRel);
                }
                return if got.len > 0 {
                    Ok(false)
                } else {
                    Err(Errno::EFAULT)
                };
            }
            if peek {
                if let Some(r) = &m.rights {
                    got.control.files.extend(r.peek());
                    return Ok(false);
                }
                at += 1;
                continue;
            }
            m.start += n;
            self.rx_bytes.fetch_sub(n, Ordering::AcqRel);
            let came = m.rights.take();
            let stop = came.is_some();
            rights.extend(came);
            if m.left() == 0
                && let Some(m) = rx.messages.pop_front()
            {
                rx.recycle(m.data);
                self.rx_count.store(rx.messages.len(), Ordering::Release);
            }
            if stop {
                return Ok(false);
            }
        }
        Ok(true)
    }
    /// Credentials of the peer.
    pub(super) fn peer_cred(&self) -> Option<PeerCred> {
        self.state.lock().peer_cred.clone()
    }
}
