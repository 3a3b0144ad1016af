//! Console, streams and signals of a real process on a real pseudo-terminal.
//!
//! Each test starts this program again as a small "machine" (`--machine`) that
//! reports what happens to it as lines, and looks at the terminal from outside.

use hal::dev::{Console, Devices, Event, StreamKind, Streams};
use host_os::platform::Devs;
use host_os::{shutdown, signals};
use host_sys::tty::{self, Termios};
use libtest_mimic::{Arguments, Trial};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

// ---- the machine ----

fn machine() -> ! {
    let mask = signals::block();
    let devs = Devs::open(mask, [false; 3]).expect("devices");
    let (tx, rx) = mpsc::channel();
    devs.queue().connect(Box::new(move || {
        let _ = tx.send(());
    }));
    devs.start().expect("thread");
    let console = devs.console();
    let streams = devs.streams();
    say(&format!(
        "ready {:?} {:?} {:?}",
        streams.kind(0),
        streams.kind(1),
        streams.kind(2)
    ));
    if streams.kind(0) == StreamKind::Pipe {
        read_pipe(streams);
    }
    let mut events = Vec::new();
    loop {
        rx.recv().expect("events");
        devs.queue().take_events(&mut events);
        for e in events.drain(..) {
            match e {
                Event::ConsoleInput => type_in(console.expect("console"), streams),
                Event::Stream(0) => read_pipe(streams),
                Event::Stream(_) => write_pipe(streams),
                Event::ConsoleResize => {
                    let w = console.expect("console").window_size();
                    say(&format!("size {} {}", w[0], w[1]));
                }
                Event::ConsoleHangup => shutdown::end(4),
                Event::HostSignal(n) => say(&format!("signal {n}")),
                Event::ConsoleOutput => {}
            }
        }
    }
}

/// A line for the test, on stderr (a pipe in most tests).
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn type_in(c: &dyn Console, streams: &'static dyn Streams) {
    let mut b = [0; 64];
    loop {
        match c.read(&mut b) {
            Ok(0) => return,
            Ok(n) => {
                say(&format!("typed {:02x?}", &b[..n]));
                match b[0] {
                    b'q' => shutdown::end(3),
                    b'w' => write_pipe(streams),
                    b'e' => assert_eq!(c.write(b"echo\n"), Ok(5)),
                    _ => {}
                }
            }
            Err(e) => return say(&format!("error {e}")),
        }
    }
}

fn read_pipe(s: &'static dyn Streams) {
    let mut b = [0; 64];
    loop {
        match s.read(0, &mut b, None) {
            Ok(0) => return say("end"),
            Ok(n) if b[..n] == *b"claim" => {}
            Ok(n) if b[..n] == *b"fill" => write_pipe(s),
            Ok(n) => say(&format!("read {:?}", String::from_utf8_lossy(&b[..n]))),
            Err(e) => {
                say(&format!("wait {e}"));
                return s.watch(0, true, false);
            }
        }
    }
}

/// Writes until stdout takes no more.
fn write_pipe(s: &'static dyn Streams) {
    let data = vec![b'x'; 100_000];
    let mut total = 0;
    loop {
        match s.write(1, &data, None) {
            Ok(n) => total += n,
            Err(e) => {
                say(&format!("full {total} {e}"));
                return s.watch(1, false, true);
            }
        }
    }
}

/// A shell that starts the machine in the background of its terminal and puts
/// it into the foreground when told to by a byte on stdin (a pipe).
fn shell() -> ! {
    let mut m = Command::new(std::env::current_exe().expect("path"));
    m.arg("--machine").process_group(0);
    m.stdin(File::open("/dev/tty").expect("terminal"));
    m.stdout(File::create("/dev/tty").expect("terminal"));
    let mut m = m.spawn().expect("machine");
    let mut b = [0];
    let _ = std::io::stdin().read(&mut b);
    let pgrp = m.id() as i32;
    // SAFETY: ioctl on our terminal with a live word.
    unsafe {
        libc::signal(libc::SIGTTOU, libc::SIG_IGN);
        libc::ioctl(1, libc::TIOCSPGRP, &pgrp);
    }
    let status = m.wait().expect("wait");
    std::process::exit(status.code().unwrap_or(1))
}

// ---- the tests' side ----

struct Pty {
    master: File,
    slave: OwnedFd,
    name: String,
}

impl Pty {
    fn new() -> Pty {
        // SAFETY: plain calls; the buffer outlives its use.
        unsafe {
            let m = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
            assert!(m >= 0 && libc::grantpt(m) == 0 && libc::unlockpt(m) == 0);
            let mut name = [0; 64];
            assert_eq!(libc::ptsname_r(m, name.as_mut_ptr(), 64), 0);
            let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
            let s = libc::open(name.as_ptr(), flags);
            assert!(s >= 0);
            Pty {
                master: File::from_raw_fd(m),
                slave: OwnedFd::from_raw_fd(s),
                name: std::ffi::CStr::from_ptr(name.as_ptr())
                    .to_str()
                    .expect("name")
                    .into(),
            }
        }
    }
    fn termios(&self) -> Termios {
        tty::get(self.slave.as_raw_fd()).expect("settings")
    }
    fn stdio(&self) -> Stdio {
        self.slave.try_clone().expect("dup").into()
    }
    fn type_bytes(&mut self, b: &[u8]) {
        self.master.write_all(b).expect("typing");
    }
    fn resize(&self, rows: u16, cols: u16) {
        let w = [rows, cols, 0, 0];
        // SAFETY: reads 8 bytes.
        let r = unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &w) };
        assert_eq!(r, 0);
    }
    /// Processes that have the terminal open, besides this one.
    fn users(&self) -> usize {
        let mut n = 0;
        for p in std::fs::read_dir("/proc").expect("proc").flatten() {
            let pid = p.file_name().to_string_lossy().into_owned();
            if pid == std::process::id().to_string() || pid.parse::<u32>().is_err() {
                continue;
            }
            let Ok(fds) = std::fs::read_dir(p.path().join("fd")) else {
                continue;
            };
            let uses = fds
                .flatten()
                .filter_map(|f| std::fs::read_link(f.path()).ok())
                .any(|l| l.to_str() == Some(&self.name));
            n += usize::from(uses);
        }
        n
    }
}

struct Machine {
    child: Child,
    lines: Receiver<String>,
}

impl Machine {
    fn start(mut c: Command) -> Machine {
        let mut child = c.stderr(Stdio::piped()).spawn().expect("machine");
        let err = child.stderr.take().expect("stderr");
        let (tx, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for l in std::io::BufRead::lines(std::io::BufReader::new(err)).map_while(Result::ok) {
                if tx.send(l).is_err() {
                    return;
                }
            }
        });
        Machine { child, lines }
    }
    /// On the terminal, as its session leader.
    fn on(p: &Pty) -> Machine {
        let mut c = command("--machine");
        c.stdin(p.stdio()).stdout(p.stdio());
        leader(&mut c, 0);
        let m = Machine::start(c);
        m.expect("ready");
        m
    }
    #[track_caller]
    fn expect(&self, start: &str) -> String {
        loop {
            let l = self
                .lines
                .recv_timeout(Duration::from_secs(10))
                .unwrap_or_else(|_| panic!("no line '{start}'"));
            if l.starts_with(start) {
                return l;
            }
        }
    }
    fn signal(&self, n: i32) {
        // SAFETY: no memory involved.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, n) }, 0);
    }
    fn code(mut self) -> Option<i32> {
        self.child.wait().expect("wait").code()
    }
}

fn command(mode: &str) -> Command {
    let mut c = Command::new(std::env::current_exe().expect("path"));
    c.arg(mode);
    // A shell has its background jobs ignore them; so this test, if it is one.
    // SAFETY: signal(2) is safe between fork and exec.
    unsafe {
        c.pre_exec(|| {
            for n in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
                libc::signal(n, libc::SIG_DFL);
            }
            Ok(())
        });
    }
    c
}

/// Makes the process a session leader whose terminal is descriptor `fd`.
fn leader(c: &mut Command, fd: i32) {
    // SAFETY: calls that are safe between fork and exec.
    unsafe {
        c.pre_exec(move || {
            if libc::setsid() < 0 || libc::ioctl(fd, libc::TIOCSCTTY, 0) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

#[track_caller]
fn eventually(what: &str, mut f: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !f() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// No process is left at the terminal. (A child that another test is just
/// starting holds all of this program's descriptors for a moment.)
#[track_caller]
fn no_user(p: &Pty) {
    eventually("a process is left", || p.users() == 0);
}

fn orderly_end() {
    let mut p = Pty::new();
    let before = p.termios();
    let m = Machine::on(&p);
    assert_eq!(p.termios(), before.raw());
    p.type_bytes(b"\x03\x1a");
    assert_eq!(m.expect("typed"), "typed [03, 1a]");
    p.type_bytes(b"\x04\r");
    assert_eq!(m.expect("typed"), "typed [04, 0d]");
    p.type_bytes(b"q");
    assert_eq!(m.code(), Some(3));
    assert_eq!(p.termios(), before);
    no_user(&p);
}

fn output_is_raw() {
    let mut p = Pty::new();
    let m = Machine::on(&p);
    p.type_bytes(b"e");
    m.expect("typed");
    let mut b = [0; 64];
    let n = p.master.read(&mut b).expect("output");
    assert_eq!(&b[..n], b"echo\n");
    p.type_bytes(b"q");
    assert_eq!(m.code(), Some(3));
}

fn killed() {
    for _ in 0..10 {
        let p = Pty::new();
        let before = p.termios();
        let m = Machine::on(&p);
        assert_ne!(p.termios(), before);
        m.signal(libc::SIGKILL);
        assert_eq!(m.code(), None);
        eventually("restored", || p.termios() == before);
        no_user(&p);
    }
}

fn window_size_and_hang_up() {
    let p = Pty::new();
    p.resize(30, 100);
    let m = Machine::on(&p);
    p.resize(40, 120);
    assert_eq!(m.expect("size"), "size 40 120");
    drop(p);
    assert_eq!(m.code(), Some(4));
}

fn passed_signals() {
    let p = Pty::new();
    let before = p.termios();
    let m = Machine::on(&p);
    for s in [libc::SIGINT, libc::SIGQUIT, libc::SIGUSR1, libc::SIGTERM] {
        m.signal(s);
        assert_eq!(m.expect("signal"), format!("signal {s}"));
    }
    m.signal(libc::SIGTERM);
    assert_eq!(m.code(), Some(143));
    assert_eq!(p.termios(), before);
    no_user(&p);
}

fn stop_and_continue() {
    let mut p = Pty::new();
    let before = p.termios();
    let m = Machine::on(&p);
    for _ in 0..3 {
        m.signal(libc::SIGTSTP);
        eventually("given back", || p.termios() == before);
        m.signal(libc::SIGCONT);
        eventually("claimed again", || p.termios() == before.raw());
    }
    p.type_bytes(b"q");
    assert_eq!(m.code(), Some(3));
    assert_eq!(p.termios(), before);
}

fn background() {
    let mut p = Pty::new();
    let before = p.termios();
    let mut c = command("--shell");
    c.stdin(Stdio::piped()).stdout(p.stdio());
    leader(&mut c, 1);
    let mut m = Machine::start(c);
    m.expect("ready");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(p.termios(), before, "set from the background");
    let mut stdin = m.child.stdin.take().expect("stdin");
    stdin.write_all(b"f").expect("told");
    eventually("claimed", || p.termios() == before.raw());
    p.type_bytes(b"q");
    assert_eq!(m.code(), Some(3));
    assert_eq!(p.termios(), before);
}

fn one_machine_at_a_time() {
    let mut p = Pty::new();
    let before = p.termios();
    let first = Machine::on(&p);
    let mut c = command("--machine");
    c.stdin(p.stdio()).stdout(p.stdio());
    let second = Machine::start(c);
    second.expect("ready");
    p.type_bytes(b"q");
    assert_eq!(first.code(), Some(3));
    eventually("the second's turn", || p.termios() == before.raw());
    p.type_bytes(b"q");
    assert_eq!(second.code(), Some(3));
    assert_eq!(p.termios(), before);
}

fn pipes() {
    let mut c = command("--machine");
    c.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut m = Machine::start(c);
    assert_eq!(m.expect("ready"), "ready Pipe Pipe Pipe");
    m.expect("wait EAGAIN");
    let mut stdin = m.child.stdin.take().expect("stdin");
    let mut stdout = m.child.stdout.take().expect("stdout");
    // SAFETY: no memory involved.
    let flags = unsafe { libc::fcntl(stdin.as_raw_fd(), libc::F_GETFL) };
    assert_eq!(flags & libc::O_NONBLOCK, 0);
    stdin.write_all(b"one").expect("write");
    assert_eq!(m.expect("read"), "read \"one\"");
    m.expect("wait EAGAIN");
    stdin.write_all(b"fill").expect("write");
    let full = m.expect("full");
    let words: Vec<&str> = full.split(' ').collect();
    assert_eq!(words[2], "EAGAIN");
    let n: usize = words[1].parse().expect("number");
    assert!(n >= 4096);
    stdout.read_exact(&mut vec![0; n]).expect("read");
    m.expect("full");
    drop(stdin);
    m.expect("end");
    m.signal(libc::SIGTERM);
    m.expect("signal 15");
    m.signal(libc::SIGTERM);
    assert_eq!(m.code(), Some(143));
}

/// `a | machine` on a terminal: the terminal is left alone.
fn terminal_behind_a_pipe() {
    let p = Pty::new();
    let before = p.termios();
    let mut c = command("--machine");
    c.stdin(Stdio::piped()).stdout(p.stdio());
    leader(&mut c, 1);
    let m = Machine::start(c);
    assert_eq!(m.expect("ready"), "ready Pipe Terminal Pipe");
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(p.termios(), before);
    m.signal(libc::SIGKILL);
    assert_eq!(m.code(), None);
    no_user(&p);
    assert_eq!(p.termios(), before);
}

fn ignored_signals_stay_ignored() {
    let mut c = command("--machine");
    c.stdin(Stdio::piped()).stdout(Stdio::null());
    // SAFETY: signal(2) is safe between fork and exec.
    unsafe {
        c.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            Ok(())
        });
    }
    let m = Machine::start(c);
    m.expect("ready");
    m.signal(libc::SIGHUP);
    m.signal(libc::SIGTERM);
    assert_eq!(m.expect("signal"), "signal 15");
    m.signal(libc::SIGTERM);
    assert_eq!(m.code(), Some(143));
}

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("--machine") => machine(),
        Some("--shell") => shell(),
        _ => {}
    }
    let tests: [(&str, fn()); 11] = [
        ("orderly_end", orderly_end),
        ("output_is_raw", output_is_raw),
        ("killed", killed),
        ("window_size_and_hang_up", window_size_and_hang_up),
        ("passed_signals", passed_signals),
        ("stop_and_continue", stop_and_continue),
        ("background", background),
        ("one_machine_at_a_time", one_machine_at_a_time),
        ("pipes", pipes),
        ("terminal_behind_a_pipe", terminal_behind_a_pipe),
        ("ignored_signals_stay_ignored", ignored_signals_stay_ignored),
    ];
    let trials = tests.map(|(name, f)| {
        Trial::test(name, move || {
            f();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}
