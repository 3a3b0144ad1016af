//! Conversations with descriptors, on a machine of host threads.

use crate::epoll::{CtlOp, as_epoll};
use crate::pipe::as_pipe;
use crate::poll::{PollItem, poll_files};
use crate::timerfd::as_timerfd;
use crate::{Ipc, splice};
use abi::io::EpollEvent;
use abi::time::{Itimerspec, Timespec};
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;
use hal_fake::machine;
use mm::io::{SliceSink, SliceSource};
use std::sync::{Mutex, MutexGuard};
use sync::timer::TimerQueue;
use vfs::anon::AnonRoot;
use vfs::file::Caller;
use vfs::{Cred, File, OpenFlags, PollEvents};

extern crate std;

/// The clock of the machine belongs to one test at a time.
static CLOCK: Mutex<()> = Mutex::new(());

fn clock() -> MutexGuard<'static, ()> {
    CLOCK.lock().unwrap_or_else(|e| e.into_inner())
}

struct Cx;

impl Caller for Cx {
    fn cred(&self) -> Arc<Cred> {
        Arc::new(Cred::root())
    }
    fn mm(&self) -> Option<Arc<mm::Mm>> {
        None
    }
    fn pid(&self) -> i32 {
        1
    }
    fn realtime_ns(&self) -> i64 {
        0
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn ipc() -> Arc<Ipc> {
    let timers: &'static TimerQueue = Box::leak(Box::new(TimerQueue::new(machine())));
    Ipc::new(machine(), timers, AnonRoot::new())
}

fn write(f: &File, data: &[u8]) -> Result<usize> {
    f.write(&Cx, &mut SliceSource::new(data))
}

fn read(f: &File, n: usize) -> Result<Vec<u8>> {
    let mut buf = vec![0; n];
    let got = f.read(&Cx, &mut SliceSink::new(&mut buf))?;
    buf.truncate(got);
    Ok(buf)
}

fn nonblocking(f: &File) {
    f.set_flags(f.flags() | OpenFlags::NONBLOCK).unwrap();
}

fn ev(events: u32, data: u32) -> EpollEvent {
    EpollEvent {
        events,
        data: [data, 0],
    }
}

fn wait(ep: &File, max: usize) -> Vec<(u32, u32)> {
    let mut out = Vec::new();
    as_epoll(ep).unwrap().wait(max, Some(0), &mut out).unwrap();
    out.iter().map(|e| (e.events, e.data[0])).collect()
}

fn add(ep: &File, f: &Arc<File>, fd: i32, events: u32) -> Result {
    as_epoll(ep)
        .unwrap()
        .ctl(CtlOp::Add(ev(events, fd as u32)), f, fd)
}

const IN: u32 = 1;
const OUT: u32 = 4;
const ET: u32 = 1 << 31;
const ONESHOT: u32 = 1 << 30;

#[test]
fn pipe_carries_bytes_in_order() {
    let ipc = ipc();
    let (r, w) = ipc.pipe(&Cx, OpenFlags::empty()).unwrap();
    assert_eq!(write(&w, b"hello "), Ok(6));
    assert_eq!(write(&w, b"world"), Ok(5));
    assert_eq!(as_pipe(&r).unwrap().pipe.available(), 11);
    assert_eq!(read(&r, 4).unwrap(), b"hell");
    assert_eq!(read(&r, 100).unwrap(), b"o world");
    drop(w);
    assert_eq!(read(&r, 100).unwrap(), b"");
    assert_eq!(r.poll(None), PollEvents::HUP);
}

#[test]
fn pipe_is_full_after_64_kib_and_small_writes_are_atomic() {
    let ipc = ipc();
    let (r, w) = ipc.pipe(&Cx, OpenFlags::NONBLOCK).unwrap();
    assert_eq!(write(&w, &[7; 100_000]), Ok(65536));
    assert_eq!(write(&w, b"x"), Err(Errno::EAGAIN));
    assert!(!w.poll(None).contains(PollEvents::OUT));
    assert_eq!(read(&r, 4095).unwrap().len(), 4095);
    // One slot is not empty yet: no room for PIPE_BUF.
    assert_eq!(write(&w, &[1; 4096]), Err(Errno::EAGAIN));
    assert_eq!(read(&r, 1).unwrap().len(), 1);
    assert!(w.poll(None).contains(PollEvents::OUT));
    assert_eq!(write(&w, &[1; 4096]), Ok(4096));
    assert_eq!(read(&r, 1 << 20).unwrap().len(), 65536);
    assert_eq!(read(&r, 1), Err(Errno::EAGAIN));
}

#[test]
fn pipe_without_readers_breaks() {
    let ipc = ipc();
    let (r, w) = ipc.pipe(&Cx, OpenFlags::empty()).unwrap();
    drop(r);
    assert_eq!(write(&w, b"x"), Err(Errno::EPIPE));
    assert!(w.poll(None).contains(PollEvents::ERR));
}

#[test]
fn pipe_packets_stay_apart() {
    let ipc = ipc();
    let (r, w) = ipc.pipe(&Cx, OpenFlags::DIRECT).unwrap();
    write(&w, b"one").unwrap();
    write(&w, b"two").unwrap();
    assert_eq!(read(&r, 2).unwrap(), b"on");
    assert_eq!(read(&r, 100).unwrap(), b"two");
}

#[test]
fn pipe_size_can_change() {
    let ipc = ipc();
    let (r, w) = ipc.pipe(&Cx, OpenFlags::NONBLOCK).unwrap();
    let p = &as_pipe(&w).unwrap().pipe;
    assert_eq!(p.size(), 65536);
    assert_eq!(p.set_size(&Cx, 5000), Ok(8192));
    assert_eq!(write(&w, &[0; 10_000]), Ok(8192));
    assert_eq!(p.set_size(&Cx, 1), Err(Errno::EBUSY));
    assert_eq!(p.set_size(&Cx, u64::MAX), Err(Errno::EINVAL));
    read(&r, 8192).unwrap();
    assert_eq!(p.set_size(&Cx, 0), Ok(4096));
}

#[test]
fn blocked_reader_and_writer_meet() {
    let ipc = ipc();
    let (r, w) = ipc.pipe(&Cx, OpenFlags::empty()).unwrap();
    let t = std::thread::spawn(move || {
        let mut sum = 0;
        loop {
            let b = read(&r, 1000).unwrap();
            if b.is_empty() {
                return sum;
            }
            sum += b.len();
        }
    });
    for _ in 0..50 {
        assert_eq!(write(&w, &[1; 10_000]), Ok(10_000));
    }
    drop(w);
    assert_eq!(t.join().unwrap(), 500_000);
}

#[test]
fn splice_and_tee_move_bytes() {
    let ipc = ipc();
    let (r1, w1) = ipc.pipe(&Cx, OpenFlags::NONBLOCK).unwrap();
    let (r2, w2) = ipc.pipe(&Cx, OpenFlags::NONBLOCK).unwrap();
    write(&w1, b"abcdef").unwrap();
    assert_eq!(splice::tee(&r1, &w2, 4, 0), Ok(4));
    assert_eq!(
        splice::splice(&Cx, &r1, &mut None, &w2, &mut None, 100, 0),
        Ok(6)
    );
    assert_eq!(read(&r2, 100).unwrap(), b"abcdabcdef");
    assert_eq!(splice::tee(&r1, &w2, 4, 0), Err(Errno::EAGAIN));
}

#[test]
fn eventfd_counts() {
    let ipc = ipc();
    let e = ipc.eventfd(&Cx, 2, OpenFlags::NONBLOCK.bits()).unwrap();
    assert_eq!(write(&e, &3u64.to_ne_bytes()), Ok(8));
    assert_eq!(read(&e, 8).unwrap(), 5u64.to_ne_bytes());
    assert_eq!(read(&e, 8), Err(Errno::EAGAIN));
    assert_eq!(read(&e, 7), Err(Errno::EINVAL));
    assert_eq!(write(&e, &u64::MAX.to_ne_bytes()), Err(Errno::EINVAL));
    assert_eq!(write(&e, &(u64::MAX - 1).to_ne_bytes()), Ok(8));
    assert_eq!(write(&e, &1u64.to_ne_bytes()), Err(Errno::EAGAIN));
    let s = ipc.eventfd(&Cx, 2, 1).unwrap();
    assert_eq!(read(&s, 8).unwrap(), 1u64.to_ne_bytes());
    assert_eq!(read(&s, 8).unwrap(), 1u64.to_ne_bytes());
}

#[test]
fn epoll_level_edge_and_oneshot() {
    let ipc = ipc();
    let ep = ipc.epoll(&Cx).unwrap();
    let (r, w) = ipc.pipe(&Cx, OpenFlags::empty()).unwrap();
    add(&ep, &r, 3, IN).unwrap();
    assert_eq!(add(&ep, &r, 3, IN), Err(Errno::EEXIST));
    add(&ep, &r, 4, IN | ET).unwrap();
    add(&ep, &r, 5, IN | ONESHOT).unwrap();
    assert_eq!(wait(&ep, 10), []);
    write(&w, b"x").unwrap();
    assert_eq!(wait(&ep, 10), [(IN, 3), (IN, 4), (IN, 5)]);
    assert_eq!(wait(&ep, 10), [(IN, 3)]);
    write(&w, b"x").unwrap();
    let mut again = wait(&ep, 10);
    again.sort();
    assert_eq!(again, [(IN, 3), (IN, 4)]);
    let e = as_epoll(&ep).unwrap();
    e.ctl(CtlOp::Mod(ev(IN | ONESHOT, 55)), &r, 5).unwrap();
    let mut again = wait(&ep, 10);
    again.sort();
    assert_eq!(again, [(IN, 3), (IN, 55)]);
    e.ctl(CtlOp::Del, &r, 3).unwrap();
    assert_eq!(e.ctl(CtlOp::Del, &r, 3), Err(Errno::ENOENT));
    assert_eq!(wait(&ep, 10), []);
}

#[test]
fn epoll_forgets_closed_files() {
    let ipc = ipc();
    let ep = ipc.epoll(&Cx).unwrap();
    let (r, w) = ipc.pipe(&Cx, OpenFlags::empty()).unwrap();
    add(&ep, &r, 3, IN).unwrap();
    add(&ep, &w, 4, OUT).unwrap();
    assert_eq!(wait(&ep, 1), [(OUT, 4)]);
    drop(w);
    assert_eq!(wait(&ep, 10), [(0x10, 3)]);
    drop(r);
    assert_eq!(wait(&ep, 10), []);
    assert_eq!(ipc.watches.load(core::sync::atomic::Ordering::Relaxed), 0);
}

#[test]
fn epoll_nests_but_not_in_circles() {
    let ipc = ipc();
    let eps: Vec<_> = (0..6).map(|_| ipc.epoll(&Cx).unwrap()).collect();
    assert_eq!(add(&eps[0], &eps[0], 1, IN), Err(Errno::EINVAL));
    for i in 0..4 {
        add(&eps[i], &eps[i + 1], 1, IN).unwrap();
    }
    assert_eq!(add(&eps[4], &eps[5], 1, IN), Err(Errno::ELOOP));
    assert_eq!(add(&eps[3], &eps[0], 2, IN), Err(Errno::ELOOP));
    let e = ipc.eventfd(&Cx, 0, 0).unwrap();
    add(&eps[4], &e, 9, IN).unwrap();
    assert_eq!(wait(&eps[0], 10), []);
    write(&e, &1u64.to_ne_bytes()).unwrap();
    assert_eq!(wait(&eps[0], 10), [(IN, 1)]);
    read(&e, 8).unwrap();
    assert_eq!(wait(&eps[0], 10), []);
}

#[test]
fn epoll_wakes_its_waiter() {
    let ipc = ipc();
    let ep = ipc.epoll(&Cx).unwrap();
    let e = ipc.eventfd(&Cx, 0, 0).unwrap();
    add(&ep, &e, 7, IN).unwrap();
    let ep2 = ep.clone();
    let t = std::thread::spawn(move || {
        let mut out = Vec::new();
        as_epoll(&ep2).unwrap().wait(4, None, &mut out).unwrap();
        out.len()
    });
    write(&e, &1u64.to_ne_bytes()).unwrap();
    assert_eq!(t.join().unwrap(), 1);
}

#[test]
fn poll_waits_for_any_of_several() {
    let _clock = clock();
    let ipc = ipc();
    let (r, w) = ipc.pipe(&Cx, OpenFlags::empty()).unwrap();
    let e = ipc.eventfd(&Cx, 0, 0).unwrap();
    let item = |f: &Arc<File>, events| PollItem {
        file: Some(f.clone()),
        events,
        revents: PollEvents::empty(),
    };
    let mut items = [item(&r, PollEvents::IN), item(&e, PollEvents::IN)];
    assert_eq!(poll_files(&mut items, Some(0)), Ok(0));
    assert_eq!(poll_files(&mut items, Some(machine().now() + 1000)), Ok(0));
    let t = std::thread::spawn(move || write(&w, b"x").map(|_| w));
    assert_eq!(poll_files(&mut items, None), Ok(1));
    assert_eq!(items[0].revents, PollEvents::IN);
    assert!(items[1].revents.is_empty());
    t.join().unwrap().unwrap();
}

#[test]
fn timerfd_counts_expiries() {
    let _clock = clock();
    let ipc = ipc();
    let t = ipc.timerfd(&Cx, 1, OpenFlags::NONBLOCK.bits()).unwrap();
    let ns = |n| Timespec { sec: 0, nsec: n };
    let set = Itimerspec {
        interval: ns(100),
        value: ns(50),
    };
    as_timerfd(&t).unwrap().set(0, &set).unwrap();
    assert_eq!(read(&t, 8), Err(Errno::EAGAIN));
    machine().advance(50);
    ipc.timers.run();
    assert!(t.poll(None).contains(PollEvents::IN));
    machine().advance(250);
    assert_eq!(read(&t, 8).unwrap(), 3u64.to_ne_bytes());
    assert_eq!(read(&t, 8), Err(Errno::EAGAIN));
    let left = as_timerfd(&t).unwrap().get();
    assert_eq!((left.value, left.interval), (ns(50), ns(100)));
    as_timerfd(&t)
        .unwrap()
        .set(0, &Itimerspec::default())
        .unwrap();
    machine().advance(1000);
    ipc.timers.run();
    assert_eq!(read(&t, 8), Err(Errno::EAGAIN));
}

#[test]
fn timerfd_follows_the_wall_clock() {
    let _clock = clock();
    let ipc = ipc();
    let t = ipc.timerfd(&Cx, 0, OpenFlags::NONBLOCK.bits()).unwrap();
    let wall = hal::dev::Clock::realtime_ns(machine());
    let set = Itimerspec {
        interval: Timespec::default(),
        value: Timespec::from_ns(wall + 5_000_000_000),
    };
    as_timerfd(&t).unwrap().set(1 | 2, &set).unwrap();
    hal::dev::Clock::adjust_realtime(machine(), 6_000_000_000);
    ipc.clock_was_set();
    assert_eq!(read(&t, 8), Err(Errno::ECANCELED));
    ipc.timers.run();
    assert_eq!(read(&t, 8).unwrap(), 1u64.to_ne_bytes());
    hal::dev::Clock::adjust_realtime(machine(), -6_000_000_000);
    nonblocking(&t);
}
