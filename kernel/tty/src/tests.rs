//! Conversations with the line discipline and pseudo-terminals.

use crate::Terminals;
use crate::ldisc::{Ldisc, packet};
use crate::pty::{MasterFile, as_master};
use crate::termios::*;
use abi::signal::{SIGINT, SIGTSTP};
use abi::{Errno, Result};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;
use hal::platform::LogLevel;
use hal_fake::machine;
use mm::io::{SliceSink, SliceSource};
use task::Kernel;
use task::kernel::KernelParams;
use vfs::file::Caller;
use vfs::{Cred, File, OpenFlags, PollEvents, SuperBlock};

extern crate std;

fn cooked() -> Ldisc {
    Ldisc::new(Termios::default())
}

fn typed(l: &mut Ldisc, keys: &[u8]) -> Vec<i32> {
    keys.iter().filter_map(|c| l.input(*c)).collect()
}

fn shown(l: &mut Ldisc) -> Vec<u8> {
    l.out.drain(..).collect()
}

/// What is read after `keys`, and what the screen shows.
fn line(keys: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut l = cooked();
    typed(&mut l, keys);
    let screen = shown(&mut l);
    (l.take(100), screen)
}

#[test]
fn lines_are_edited() {
    assert_eq!(line(b"hi\r"), (b"hi\n".to_vec(), b"hi\r\n".to_vec()));
    assert_eq!(
        line(b"ab\x7fc\n"),
        (b"ac\n".to_vec(), b"ab\x08 \x08c\r\n".to_vec())
    );
    assert_eq!(line(b"one two\x17\n").0, b"one \n");
    assert_eq!(line(b"one two\x15x\n").0, b"x\n");
    // A control character takes two columns.
    assert_eq!(
        line(b"\x01\x7f\n"),
        (b"\n".to_vec(), b"^A\x08 \x08\x08 \x08\r\n".to_vec())
    );
    // Literal next.
    assert_eq!(
        line(b"\x16\x03\n"),
        (b"\x03\n".to_vec(), b"^\x08^C\r\n".to_vec())
    );
    // Erasing a tab goes back to where the text before it ended.
    assert_eq!(
        line(b"abc\t\x7f\n").1,
        b"abc\t\x08\x08\x08\x08\x08\r\n".to_vec()
    );
    assert_eq!(line(b"ab\x12\n").1, b"ab^R\r\nab\r\n");
}

#[test]
fn utf8_is_erased_as_a_whole() {
    let mut l = cooked();
    l.termios.iflag |= IUTF8;
    typed(&mut l, "aß€\x7f\x7f\n".as_bytes());
    assert_eq!(l.take(100), b"a\n");
    assert_eq!(shown(&mut l), "aß€\x08 \x08\x08 \x08\r\n".as_bytes());
}

#[test]
fn end_of_file_is_not_data() {
    let mut l = cooked();
    typed(&mut l, b"ab\x04cd\x04\x04");
    assert_eq!(l.available(), 4);
    assert_eq!(l.take(2), b"ab");
    assert_eq!(l.take(1), b"c");
    assert_eq!(l.take(100), b"d");
    assert!(l.readable(1));
    assert_eq!(l.take(100), b"");
    assert!(!l.readable(1));
}

#[test]
fn signals_flush_unless_told_not_to() {
    let mut l = cooked();
    l.write(b"output");
    assert_eq!(typed(&mut l, b"half\x03"), [SIGINT]);
    assert_eq!(shown(&mut l), b"^C");
    typed(&mut l, b"\n");
    assert_eq!(l.take(100), b"\n");
    l.termios.lflag |= NOFLSH;
    assert_eq!(typed(&mut l, b"ab\x1a\n"), [SIGTSTP]);
    assert_eq!(l.take(100), b"ab\n");
    l.termios.lflag &= !ISIG;
    assert_eq!(typed(&mut l, b"\x03\n"), []);
    assert_eq!(l.take(100), b"\x03\n");
}

#[test]
fn raw_mode_passes_everything() {
    let mut l = cooked();
    typed(&mut l, b"begun");
    let mut t = l.termios;
    t.lflag = 0;
    t.iflag = 0;
    t.oflag = 0;
    l.set_termios(t);
    shown(&mut l);
    assert_eq!(l.take(100), b"begun");
    typed(&mut l, b"\r\x03\x04\x7f\x11");
    assert_eq!(l.take(100), b"\r\x03\x04\x7f\x11");
    assert!(l.out.is_empty());
    assert_eq!(l.write(b"a\nb"), 3);
    assert_eq!(shown(&mut l), b"a\nb");
    // Back: what was there is a line.
    typed(&mut l, b"xy");
    l.set_termios(Termios::default());
    assert!(l.readable(1));
    assert_eq!(l.take(100), b"xy");
}

#[test]
fn flow_stops_and_goes_on() {
    let mut l = cooked();
    typed(&mut l, b"\x13");
    assert_eq!(l.write(b"x"), 0);
    typed(&mut l, b"\x11");
    assert_eq!(l.write(b"x"), 1);
    assert_eq!(l.packet_status, packet::START);
}

#[test]
fn output_is_processed() {
    let mut l = cooked();
    l.termios.oflag |= XTABS;
    l.write(b"ab\tc\n\td");
    assert_eq!(shown(&mut l), b"ab      c\r\n        d");
}

#[test]
fn an_endless_line_is_cut() {
    let mut l = cooked();
    for _ in 0..5000 {
        assert!(l.room() > 0);
        l.input(b'x');
    }
    l.input(b'\n');
    let line = l.take(10_000);
    assert_eq!((line.len(), line.last()), (4096, Some(&b'\n')));
    assert_eq!(l.room(), 4095);
}

#[test]
fn speeds_follow_the_flags() {
    let mut b = [0u8; 36];
    b[8..12].copy_from_slice(&0o10002u32.to_ne_bytes());
    let t = Termios::from_old(&b);
    assert_eq!((t.ospeed, t.ispeed), (115_200, 115_200));
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

struct Pair {
    root: Arc<Terminals>,
    master: Arc<File>,
    slave: Arc<File>,
}

fn file(root: &Terminals, ops: Arc<dyn vfs::FileOps>) -> Arc<File> {
    let inode = root.kernel.anon.anon_inode(&Cx);
    File::new(ops, inode, None, OpenFlags::RDWR, Cx.cred())
}

fn pair() -> Pair {
    let params = KernelParams {
        ncpus: 1,
        cmdline: String::new(),
        strace: false,
        log_level: LogLevel::Error,
    };
    let kernel = Kernel::new(machine(), params, b"test");
    let root = Terminals::new(kernel, 99);
    let m = MasterFile::open(&root, &root.devpts, &Cx).unwrap();
    assert_eq!(m.pty.open_slave().err(), Some(Errno::EIO));
    m.pty.set_locked(false);
    let s = m.pty.open_slave().unwrap();
    Pair {
        master: file(&root, m),
        slave: file(&root, s),
        root,
    }
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

#[test]
fn pty_talks_both_ways() {
    let p = pair();
    assert_eq!(p.root.devpts.root().lookup(b"0").unwrap().ino(), 3);
    assert!(p.root.devpts.root().lookup(b"00").is_err());
    assert_eq!(write(&p.slave, b"hello\n"), Ok(6));
    assert_eq!(read(&p.master, 100).unwrap(), b"hello\r\n");
    assert_eq!(write(&p.master, b"ls\r"), Ok(3));
    assert_eq!(read(&p.master, 100).unwrap(), b"ls\r\n");
    assert_eq!(read(&p.slave, 100).unwrap(), b"ls\n");
    nonblocking(&p.slave);
    assert_eq!(read(&p.slave, 1), Err(Errno::EAGAIN));
    write(&p.master, b"half").unwrap();
    assert_eq!(p.slave.poll(None), PollEvents::OUT | PollEvents::WRNORM);
    write(&p.master, b"\n").unwrap();
    assert!(p.slave.poll(None).contains(PollEvents::IN));
}

#[test]
fn pty_ends() {
    let p = pair();
    write(&p.slave, b"last words").unwrap();
    drop(p.slave);
    assert!(
        p.master
            .poll(None)
            .contains(PollEvents::HUP | PollEvents::IN)
    );
    assert_eq!(read(&p.master, 100).unwrap(), b"last words");
    assert_eq!(read(&p.master, 100), Err(Errno::EIO));
    assert_eq!(write(&p.master, b"x"), Err(Errno::EIO));
    let slave = file(
        &p.root,
        as_master(&p.master).unwrap().pty.open_slave().unwrap(),
    );
    assert_eq!(write(&slave, b"again"), Ok(5));
    assert_eq!(read(&p.master, 100).unwrap(), b"again");
    drop(p.master);
    assert!(p.root.devpts.root().lookup(b"0").is_err());
    assert!(slave.poll(None).contains(PollEvents::HUP));
    assert_eq!(read(&slave, 1).unwrap(), b"");
    assert_eq!(write(&slave, b"x"), Err(Errno::EIO));
}

#[test]
fn pty_waits_for_room() {
    let p = pair();
    let n = 300_000;
    let slave = p.slave.clone();
    let t = std::thread::spawn(move || write(&slave, &vec![b'x'; n]));
    let mut got = 0;
    while got < n {
        got += read(&p.master, 7000).unwrap().len();
    }
    assert_eq!(t.join().unwrap(), Ok(n));
    // The other way, raw.
    let tty = as_master(&p.master).unwrap().pty.slave().clone();
    let mut t = tty.termios();
    t.lflag = 0;
    tty.set_termios(t, false);
    let master = p.master.clone();
    let w = std::thread::spawn(move || write(&master, &vec![b'y'; n]));
    let mut got = 0;
    while got < n {
        got += read(&p.slave, 7000).unwrap().len();
    }
    assert_eq!(w.join().unwrap(), Ok(n));
}

#[test]
fn raw_reads_obey_minimum_and_time() {
    let p = pair();
    let tty = as_master(&p.master).unwrap().pty.slave().clone();
    let mut t = tty.termios();
    t.lflag = 0;
    t.cc[cc::MIN] = 0;
    t.cc[cc::TIME] = 0;
    tty.set_termios(t, false);
    assert_eq!(read(&p.slave, 10).unwrap(), b"");
    t.cc[cc::TIME] = 5;
    tty.set_termios(t, false);
    let before = machine().now();
    assert_eq!(read(&p.slave, 10).unwrap(), b"");
    assert!(machine().now() >= before + 500_000_000);
    t.cc[cc::MIN] = 3;
    t.cc[cc::TIME] = 0;
    tty.set_termios(t, false);
    write(&p.master, b"ab").unwrap();
    assert!(!p.slave.poll(None).contains(PollEvents::IN));
    let master = p.master.clone();
    let w = std::thread::spawn(move || write(&master, b"c"));
    assert_eq!(read(&p.slave, 10).unwrap(), b"abc");
    w.join().unwrap().unwrap();
}

#[test]
fn packet_mode_tells_of_flow() {
    let p = pair();
    let pty = &as_master(&p.master).unwrap().pty;
    pty.set_packet(true);
    write(&p.slave, b"data").unwrap();
    assert_eq!(read(&p.master, 100).unwrap(), b"\0data");
    write(&p.master, b"\x13").unwrap();
    assert!(p.master.poll(None).contains(PollEvents::PRI));
    assert_eq!(read(&p.master, 100).unwrap(), [packet::STOP]);
}
