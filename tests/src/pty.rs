//! Drives an interactive program through a pseudo-terminal, as expect(1) does.

use crate::machine::Run;
use crate::procs::{self, Tree};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A program on a terminal of its own.
#[derive(Debug)]
pub struct Pty {
    master: File,
    slave: File,
    /// The program.
    pub child: Child,
    /// Everything below it.
    pub tree: Tree,
    /// What came out and was not matched yet.
    pub unread: String,
    /// The terminal's settings before the program started.
    pub before: Vec<u8>,
}

impl Pty {
    /// Starts `run` on a terminal of this size, which is all of its streams.
    pub fn start(run: Run, rows: u16, cols: u16) -> Pty {
        Pty::mixed(run, rows, cols, [None, None, None])
    }

    /// Starts `run` with the terminal as those streams that are not given. It
    /// controls the program's session in any case.
    pub fn mixed(mut run: Run, rows: u16, cols: u16, streams: [Option<Stdio>; 3]) -> Pty {
        let (mut m, mut s) = (0, 0);
        let size = libc::winsize {
            ws_row: rows,
            ws_col: cols,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: valid pointers to two integers and a size; the other two may be null.
        let r = unsafe {
            libc::openpty(
                &mut m,
                &mut s,
                std::ptr::null_mut(),
                std::ptr::null(),
                &size,
            )
        };
        assert_eq!(r, 0, "openpty");
        // SAFETY: both descriptors are new and owned by nobody else.
        let (master, slave) = unsafe { (File::from_raw_fd(m), File::from_raw_fd(s)) };
        // SAFETY: sets flags on descriptors of ours.
        unsafe {
            libc::fcntl(m, libc::F_SETFD, libc::FD_CLOEXEC);
            libc::fcntl(m, libc::F_SETFL, libc::O_NONBLOCK);
            libc::fcntl(s, libc::F_SETFD, libc::FD_CLOEXEC);
        }
        let before = settings(&slave);
        let [i, o, e] = streams.map(|given| {
            given.unwrap_or_else(|| Stdio::from(slave.try_clone().expect("dup of the terminal")))
        });
        let c = run.raw();
        c.stdin(i).stdout(o).stderr(e).env("TERM", "vt100");
        // SAFETY: all three are async-signal-safe and touch no memory.
        unsafe {
            c.pre_exec(move || {
                procs::prepare_child();
                libc::setsid();
                libc::ioctl(s, libc::TIOCSCTTY, 0);
                Ok(())
            })
        };
        let child = c
            .spawn()
            .unwrap_or_else(|e| panic!("starting {:?}: {e}", c.get_program()));
        let tree = Tree::new(child.id() as i32);
        Pty {
            master,
            slave,
            child,
            tree,
            unread: String::new(),
            before,
        }
    }

    /// Types; reads on meanwhile, as a terminal's window does.
    pub fn send(&mut self, text: &str) {
        let mut rest = text.as_bytes();
        let end = Instant::now() + Duration::from_secs(60);
        while !rest.is_empty() {
            match self.master.write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    assert!(Instant::now() < end, "the terminal takes no input");
                    self.pull(5);
                }
                Err(e) => panic!("write to the terminal: {e}"),
            }
        }
    }

    /// Closes the terminal: its line is cut.
    pub fn cut(&mut self) {
        let null = || File::open("/dev/null").expect("/dev/null");
        self.slave = null();
        self.master = null();
    }

    /// Waits for `what` in the output and returns all up to and with it. Notes the
    /// processes there are: those with sessions of their own are not found later.
    pub fn expect(&mut self, what: &str, secs: u64) -> Result<String, String> {
        let end = Instant::now() + Duration::from_secs(secs);
        loop {
            if let Some(at) = self.unread.find(what) {
                let rest = self.unread.split_off(at + what.len());
                self.tree.look();
                return Ok(std::mem::replace(&mut self.unread, rest));
            }
            if Instant::now() > end || !self.pull(100) {
                let from = self.unread.len().saturating_sub(700);
                let from = (from..).find(|i| self.unread.is_char_boundary(*i));
                let tail = &self.unread[from.unwrap_or(0)..];
                return Err(format!("waited for {what:?}, got {tail:?}"));
            }
        }
    }

    /// Reads what comes within `ms` milliseconds; false at the end of the terminal.
    pub fn pull(&mut self, ms: i32) -> bool {
        let mut p = libc::pollfd {
            fd: self.master.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one valid entry.
        if unsafe { libc::poll(&mut p, 1, ms) } <= 0 {
            return true;
        }
        let mut b = [0; 65536];
        match self.master.read(&mut b) {
            Ok(n) if n > 0 => {
                self.unread.push_str(&String::from_utf8_lossy(&b[..n]));
                true
            }
            Err(e) => e.kind() == ErrorKind::WouldBlock,
            Ok(_) => false,
        }
    }

    /// Changes the size of the window.
    pub fn resize(&self, rows: u16, cols: u16) {
        let size = libc::winsize {
            ws_row: rows,
            ws_col: cols,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: a valid pointer to a size.
        unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &size) };
    }

    /// Waits until everything on the terminal sleeps. What has come out is not read.
    ///
    /// # Panics
    /// If that is not so within half a minute.
    pub fn settle(&mut self) {
        assert!(self.tree.settle(30), "it never comes to rest");
    }

    /// Waits for `done`; reads on meanwhile. False: it is not so within `secs` seconds.
    pub fn until(&mut self, secs: u64, done: impl Fn(&Pty) -> bool) -> bool {
        let end = Instant::now() + Duration::from_secs(secs);
        while !done(self) {
            if Instant::now() > end {
                return false;
            }
            self.pull(10);
        }
        true
    }

    /// All of the terminal's settings.
    pub fn settings(&self) -> Vec<u8> {
        settings(&self.slave)
    }

    /// An error if the settings are not those of the start.
    pub fn is_restored(&self) -> Result<(), String> {
        let now = self.settings();
        if now == self.before {
            return Ok(());
        }
        let before = &self.before;
        Err(format!(
            "terminal settings {before:?} before, {now:?} after"
        ))
    }

    /// Reads what comes for `ms` milliseconds, without waiting for anything.
    pub fn drain(&mut self, ms: u64) {
        let end = Instant::now() + Duration::from_millis(ms);
        while Instant::now() < end {
            self.pull(5);
        }
    }

    /// Waits for the end of the program.
    pub fn wait(&mut self, secs: u64) -> Option<ExitStatus> {
        let end = Instant::now() + Duration::from_secs(secs);
        while Instant::now() < end {
            if let Ok(Some(s)) = self.child.try_wait() {
                return Some(s);
            }
            self.pull(20);
        }
        None
    }
}

fn settings(terminal: &File) -> Vec<u8> {
    // SAFETY: plain data, filled by the call.
    let t = unsafe {
        let mut t: libc::termios = std::mem::zeroed();
        libc::tcgetattr(terminal.as_raw_fd(), &mut t);
        t
    };
    let flags = [
        t.c_iflag, t.c_oflag, t.c_cflag, t.c_lflag, t.c_ispeed, t.c_ospeed,
    ];
    let flags = flags.into_iter().flat_map(u32::to_ne_bytes);
    flags.chain([t.c_line]).chain(t.c_cc).collect()
}

impl Drop for Pty {
    fn drop(&mut self) {
        self.tree.kill();
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.tree.reap();
    }
}
