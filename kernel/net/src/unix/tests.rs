//! Conversations between sockets, on a machine of host threads.

use crate::options::*;
use crate::socket::{Control, Received, RecvArgs, SendArgs, SockCx, msg};
use crate::{NetNs, accept, as_socket, create, pair};
use abi::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;
use hal_fake::machine;
use mm::io::{SliceSink, SliceSource};
use vfs::anon::AnonRoot;
use vfs::file::Caller;
use vfs::{Cred, File, PollEvents};

extern crate std;

struct Cx(i32);

impl Caller for Cx {
    fn cred(&self) -> Arc<Cred> {
        Arc::new(Cred::root())
    }
    fn mm(&self) -> Option<Arc<mm::Mm>> {
        None
    }
    fn pid(&self) -> i32 {
        self.0
    }
    fn realtime_ns(&self) -> i64 {
        0
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

const STREAM: i32 = 1;
const DGRAM: i32 = 2;
const SEQ: i32 = 5;
const NONBLOCK: i32 = 0o4000;

fn ns() -> Arc<NetNs> {
    NetNs::new(machine(), AnonRoot::new())
}

fn cx(c: &Cx) -> SockCx<'_> {
    SockCx { cx: c, walk: None }
}

/// An abstract address.
fn addr(name: &str) -> Vec<u8> {
    let mut a = vec![1, 0, 0];
    a.extend_from_slice(name.as_bytes());
    a
}

fn send(f: &File, data: &[u8]) -> Result<usize> {
    f.write(&Cx(1), &mut SliceSource::new(data))
}

fn recv(f: &File, n: usize) -> Result<Vec<u8>> {
    let mut buf = vec![0; n];
    let got = f.read(&Cx(1), &mut SliceSink::new(&mut buf))?;
    buf.truncate(got);
    Ok(buf)
}

fn recvmsg(f: &File, n: usize, flags: u32) -> Result<(Vec<u8>, Received)> {
    let mut buf = vec![0; n];
    let args = RecvArgs {
        flags,
        nonblock: f.nonblock(),
    };
    let got = as_socket(f)
        .unwrap()
        .recv(&Cx(1), &mut SliceSink::new(&mut buf), args)?;
    buf.truncate(got.len);
    Ok((buf, got))
}

fn send_files(f: &File, data: &[u8], files: Vec<Arc<File>>) -> Result<usize> {
    let args = SendArgs {
        control: Control { files, cred: None },
        nonblock: f.nonblock(),
        ..SendArgs::default()
    };
    as_socket(f)
        .unwrap()
        .send(cx(&Cx(1)), &mut SliceSource::new(data), args)
}

fn sendto(f: &File, to: &[u8], data: &[u8]) -> Result<usize> {
    let args = SendArgs {
        addr: Some(to),
        nonblock: f.nonblock(),
        ..SendArgs::default()
    };
    as_socket(f)
        .unwrap()
        .send(cx(&Cx(1)), &mut SliceSource::new(data), args)
}

fn new(ns: &Arc<NetNs>, kind: i32) -> Arc<File> {
    create(ns, &Cx(1), 1, kind, 0).unwrap()
}

fn two(ns: &Arc<NetNs>, kind: i32) -> (Arc<File>, Arc<File>) {
    pair(ns, &Cx(1), 1, kind, 0).unwrap()
}

#[test]
fn unknown_families_and_types_are_refused() {
    let ns = ns();
    let e = |d, k, p| create(&ns, &Cx(1), d, k, p).err();
    assert_eq!(e(2, STREAM, 0), Some(Errno::EAFNOSUPPORT));
    assert_eq!(e(16, 3, 0), Some(Errno::EAFNOSUPPORT));
    assert_eq!(e(1, 4, 0), Some(Errno::ESOCKTNOSUPPORT));
    assert_eq!(e(1, 1, 6), Some(Errno::EPROTONOSUPPORT));
    assert_eq!(e(1, 0x100 | 1, 0), Some(Errno::EINVAL));
}

#[test]
fn stream_pair_talks_and_ends() {
    let ns = ns();
    let (a, b) = two(&ns, STREAM);
    assert_eq!(send(&a, b"hello"), Ok(5));
    assert_eq!(send(&a, b" world"), Ok(6));
    assert_eq!(recvmsg(&b, 4, msg::PEEK).unwrap().0, b"hell");
    assert_eq!(recv(&b, 100).unwrap(), b"hello world");
    assert_eq!(
        recvmsg(&b, 4, msg::DONTWAIT).map(|_| ()),
        Err(Errno::EAGAIN)
    );
    as_socket(&a).unwrap().shutdown(1).unwrap();
    assert!(
        b.poll(None)
            .contains(PollEvents::RDHUP | PollEvents::IN | PollEvents::OUT)
    );
    assert_eq!(recv(&b, 100).unwrap(), b"");
    assert_eq!(send(&a, b"x"), Err(Errno::EPIPE));
    assert_eq!(send(&b, b"back"), Ok(4));
    assert_eq!(recv(&a, 100).unwrap(), b"back");
    drop(b);
    assert!(a.poll(None).contains(PollEvents::HUP));
    assert_eq!(recv(&a, 100).unwrap(), b"");
}

#[test]
fn unread_data_resets_the_peer() {
    let ns = ns();
    let (a, b) = two(&ns, STREAM);
    send(&a, b"lost").unwrap();
    drop(b);
    assert!(a.poll(None).contains(PollEvents::ERR));
    assert_eq!(recv(&a, 1), Err(Errno::ECONNRESET));
    assert_eq!(recv(&a, 1).unwrap(), b"");
    assert_eq!(send(&a, b"x"), Err(Errno::EPIPE));
}

#[test]
fn stream_fills_up_and_drains() {
    let ns = ns();
    let (a, b) = two(&ns, STREAM | NONBLOCK);
    let n = send(&a, &vec![5; 1 << 20]).unwrap();
    // Six pieces, the last of which begins below the limit.
    assert_eq!(n, 6 * 36544);
    assert_eq!(send(&a, b"x"), Err(Errno::EAGAIN));
    assert!(!a.poll(None).contains(PollEvents::OUT));
    assert_eq!(recv(&b, 1 << 20).unwrap().len(), n);
    assert!(a.poll(None).contains(PollEvents::OUT));
}

#[test]
fn blocked_writer_and_reader_meet() {
    let ns = ns();
    let (a, b) = two(&ns, STREAM);
    let t = std::thread::spawn(move || {
        let mut sum = 0;
        loop {
            match recv(&b, 10_000).unwrap().len() {
                0 => return sum,
                n => sum += n,
            }
        }
    });
    assert_eq!(send(&a, &vec![1; 3 << 20]), Ok(3 << 20));
    drop(a);
    assert_eq!(t.join().unwrap(), 3 << 20);
}

#[test]
fn listen_connect_accept() {
    let ns = ns();
    let l = new(&ns, STREAM | NONBLOCK);
    let s = as_socket(&l).unwrap();
    assert_eq!(s.listen(&Cx(7), 1), Err(Errno::EINVAL));
    s.bind(cx(&Cx(7)), &addr("srv")).unwrap();
    s.listen(&Cx(7), 1).unwrap();
    let other = new(&ns, STREAM);
    let o = as_socket(&other).unwrap();
    assert_eq!(o.bind(cx(&Cx(1)), &addr("srv")), Err(Errno::EADDRINUSE));
    assert_eq!(
        o.connect(cx(&Cx(1)), &addr("nobody"), false),
        Err(Errno::ECONNREFUSED)
    );
    assert_eq!(accept(&ns, &Cx(7), &l, 0).err(), Some(Errno::EAGAIN));
    let c = new(&ns, STREAM);
    let k = as_socket(&c).unwrap();
    k.connect(cx(&Cx(9)), &addr("srv"), false).unwrap();
    assert_eq!(
        k.connect(cx(&Cx(9)), &addr("srv"), false),
        Err(Errno::EISCONN)
    );
    send(&c, b"early").unwrap();
    assert!(l.poll(None).contains(PollEvents::IN));
    let (a, peer) = accept(&ns, &Cx(7), &l, 0).unwrap();
    assert_eq!(peer, [1, 0]);
    assert_eq!(as_socket(&a).unwrap().name(false).unwrap(), addr("srv"));
    assert_eq!(k.name(true).unwrap(), addr("srv"));
    assert_eq!(recv(&a, 100).unwrap(), b"early");
    let pid = |f: &File| {
        let v = as_socket(f)
            .unwrap()
            .get_option(&Cx(1), SOL_SOCKET, SO_PEERCRED)
            .unwrap();
        i32::from_ne_bytes([v[0], v[1], v[2], v[3]])
    };
    assert_eq!((pid(&a), pid(&c)), (9, 7));
    // The backlog of one holds two.
    let more: Vec<_> = (0..3).map(|_| new(&ns, STREAM)).collect();
    let r: Vec<_> = more
        .iter()
        .map(|f| {
            as_socket(f)
                .unwrap()
                .connect(cx(&Cx(1)), &addr("srv"), true)
        })
        .collect();
    assert_eq!(r, [Ok(()), Ok(()), Err(Errno::EAGAIN)]);
    drop(l);
    assert_eq!(recv(&more[0], 1), Err(Errno::ECONNRESET));
    assert_eq!(send(&a, b"still here"), Ok(10));
    let again = new(&ns, STREAM);
    as_socket(&again)
        .unwrap()
        .bind(cx(&Cx(1)), &addr("srv"))
        .unwrap();
}

#[test]
fn datagrams_keep_their_bounds_and_senders() {
    let ns = ns();
    let (s, c) = (new(&ns, DGRAM | NONBLOCK), new(&ns, DGRAM | NONBLOCK));
    as_socket(&s)
        .unwrap()
        .bind(cx(&Cx(1)), &addr("sink"))
        .unwrap();
    as_socket(&c).unwrap().bind(cx(&Cx(1)), &[1, 0]).unwrap();
    let me = as_socket(&c).unwrap().name(false).unwrap();
    assert_eq!(me.len(), 8);
    assert_eq!(send(&c, b"x"), Err(Errno::ENOTCONN));
    assert_eq!(sendto(&c, &addr("sink"), b"first"), Ok(5));
    assert_eq!(sendto(&c, &addr("sink"), b""), Ok(0));
    let (data, got) = recvmsg(&s, 3, msg::TRUNC).unwrap();
    assert_eq!((data.len(), got.len, got.flags), (3, 5, msg::TRUNC));
    assert_eq!(got.addr, me);
    assert_eq!(recvmsg(&s, 3, 0).unwrap().0, b"");
    assert_eq!(recv(&s, 3), Err(Errno::EAGAIN));
    for _ in 0..super::MAX_QLEN {
        sendto(&c, &addr("sink"), b"x").unwrap();
    }
    assert_eq!(sendto(&c, &addr("sink"), b"x"), Err(Errno::EAGAIN));
    as_socket(&c)
        .unwrap()
        .connect(cx(&Cx(1)), &addr("sink"), false)
        .unwrap();
    assert!(!c.poll(None).contains(PollEvents::OUT));
    recv(&s, 1).unwrap();
    assert!(c.poll(None).contains(PollEvents::OUT));
    drop(s);
    assert_eq!(send(&c, b"x"), Err(Errno::ECONNREFUSED));
    assert_eq!(send(&c, b"x"), Err(Errno::ENOTCONN));
}

#[test]
fn connected_datagram_sockets_filter() {
    let ns = ns();
    let (a, b) = two(&ns, DGRAM);
    as_socket(&a).unwrap().bind(cx(&Cx(1)), &addr("a")).unwrap();
    let c = new(&ns, DGRAM);
    assert_eq!(sendto(&c, &addr("a"), b"x"), Err(Errno::EPERM));
    assert_eq!(send(&b, b"y"), Ok(1));
    assert_eq!(recv(&a, 5).unwrap(), b"y");
}

#[test]
fn seqpacket_keeps_bounds_and_ends() {
    let ns = ns();
    let (a, b) = two(&ns, SEQ);
    send(&a, b"one").unwrap();
    send(&a, b"two").unwrap();
    let (d, got) = recvmsg(&b, 2, 0).unwrap();
    assert_eq!((&d[..], got.flags), (&b"on"[..], msg::TRUNC));
    assert_eq!(recv(&b, 10).unwrap(), b"two");
    drop(a);
    assert_eq!(recv(&b, 10).unwrap(), b"");
    assert_eq!(send(&b, b"x"), Err(Errno::EPIPE));
}

#[test]
fn credentials_come_if_asked_for() {
    let ns = ns();
    let (a, b) = two(&ns, STREAM);
    as_socket(&b)
        .unwrap()
        .set_option(&Cx(1), SOL_SOCKET, SO_PASSCRED, &1i32.to_ne_bytes())
        .unwrap();
    let s = as_socket(&a).unwrap();
    for (pid, data) in [(4, b"aa"), (5, b"bb")] {
        s.send(
            cx(&Cx(pid)),
            &mut SliceSource::new(data),
            SendArgs::default(),
        )
        .unwrap();
    }
    let (d, got) = recvmsg(&b, 10, 0).unwrap();
    assert_eq!((&d[..], got.control.cred.unwrap().pid), (&b"aa"[..], 4));
    let (d, got) = recvmsg(&b, 10, 0).unwrap();
    assert_eq!((&d[..], got.control.cred.unwrap().pid), (&b"bb"[..], 5));
}

#[test]
fn descriptors_travel() {
    let ns = ns();
    let (a, b) = two(&ns, STREAM);
    let (x, y) = two(&ns, STREAM);
    send(&a, b"..").unwrap();
    send_files(&a, b"fd", vec![x]).unwrap();
    send(&a, b"tail").unwrap();
    let (d, mut got) = recvmsg(&b, 100, 0).unwrap();
    assert_eq!(d, b"..fd");
    let mut fds = Vec::new();
    let bytes = crate::control::emit(&ns, &mut got, 64, |f| {
        fds.push(f);
        Ok(42)
    });
    assert_eq!(bytes.len(), 24);
    assert_eq!(bytes[16..20], 42i32.to_ne_bytes());
    send(&fds[0], b"through").unwrap();
    assert_eq!(recv(&y, 100).unwrap(), b"through");
    assert_eq!(recv(&b, 100).unwrap(), b"tail");
    // No room: the descriptor is closed.
    send_files(&a, b"fd", fds).unwrap();
    let (_, mut got) = recvmsg(&b, 100, 0).unwrap();
    let bytes = crate::control::emit(&ns, &mut got, 19, |_| Ok(42));
    assert!(bytes.is_empty() && got.flags & msg::CTRUNC != 0);
    drop(got);
    assert_eq!(recv(&y, 1).unwrap(), b"");
}

#[test]
fn control_bytes_are_checked() {
    let none = |_| -> Result<Arc<File>> { Err(Errno::EBADF) };
    let mut m = vec![0u8; 24];
    m[0] = 20;
    m[8] = 1;
    m[12] = 1;
    assert_eq!(crate::control::parse(&m, none).err(), Some(Errno::EBADF));
    m[0] = 15;
    assert_eq!(crate::control::parse(&m, none).err(), Some(Errno::EINVAL));
    m[0] = 25;
    assert_eq!(crate::control::parse(&m, none).err(), Some(Errno::EINVAL));
    m[..8].fill(0xff);
    assert_eq!(crate::control::parse(&m, none).err(), Some(Errno::EINVAL));
}

#[test]
fn circles_of_sockets_are_collected() {
    let ns = ns();
    let (a, b) = two(&ns, STREAM);
    // a goes into its own queue, and into that of another socket in flight.
    let (x, y) = two(&ns, DGRAM);
    send_files(&b, b"1", vec![a.clone(), x.clone()]).unwrap();
    send_files(&y, b"2", vec![a.clone(), y.clone()]).unwrap();
    let (c, d) = two(&ns, STREAM);
    let kept = two(&ns, STREAM);
    send_files(&kept.0, b"3", vec![c.clone()]).unwrap();
    send_files(&d, b"4", vec![d.clone(), b.clone()]).unwrap();
    let weak: Vec<Weak<File>> = [&a, &x, &y].map(Arc::downgrade).to_vec();
    let alive: Vec<Weak<File>> = [&b, &c, &d].map(Arc::downgrade).to_vec();
    drop((a, x, y));
    ns.unix.collect();
    assert!(weak.iter().all(|w| w.strong_count() == 0));
    drop((b, c, d));
    ns.unix.collect();
    assert!(alive.iter().all(|w| w.strong_count() > 0));
    let (_, got) = recvmsg(&kept.1, 1, 0).unwrap();
    assert_eq!(got.control.files.len(), 1);
    drop(got);
    ns.unix.collect();
    assert!(alive.iter().all(|w| w.strong_count() == 0));
}

#[test]
fn a_long_chain_of_descriptors_ends_without_recursion() {
    let ns = ns();
    let (mut head, mut tail) = two(&ns, STREAM);
    let first = Arc::downgrade(&head);
    for _ in 0..20_000 {
        let (a, b) = two(&ns, STREAM);
        send_files(&b, b"x", vec![head, tail]).unwrap();
        (head, tail) = (a, b);
    }
    drop((head, tail));
    assert_eq!(first.strong_count(), 0);
}
