//! One run of a command, usually `lodger run`, under a time limit.

use crate::engine::{self, Engine};
use crate::procs::{self, Tree};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What came out of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Exit status of the first process; `None` if the limit was reached.
    pub status: Option<ExitStatus>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// Processes that lived on 100 ms after the first one had ended.
    pub left: usize,
    /// How long it took.
    pub took: Duration,
}

impl Outcome {
    /// Exit code, 128 + n for a signal, 999 for the time limit.
    pub fn code(&self) -> i32 {
        match self.status {
            Some(s) => s.code().unwrap_or_else(|| 128 + s.signal().unwrap_or(0)),
            None => 999,
        }
    }
    /// Standard output as text.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
    /// Standard error as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
    /// The end of standard error, for a message: what a test checks is [`Outcome::err`].
    pub fn err_tail(&self) -> String {
        let s = self.err();
        let at = s.len().saturating_sub(3000);
        let at = (at..s.len())
            .find(|i| s.is_char_boundary(*i))
            .unwrap_or(s.len());
        s[at..].to_string()
    }
}

/// Who starts a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum User {
    /// The user who runs the tests.
    Me,
    /// An ordinary user: nobody if root runs the tests.
    Ordinary,
}

/// User and group of [`User::Ordinary`] where root runs the tests.
pub const NOBODY: u32 = 65534;
/// Where an ordinary user finds programs.
pub const ORDINARY_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

impl User {
    /// Those that differ here.
    pub fn all() -> &'static [User] {
        if crate::is_root() {
            &[User::Me, User::Ordinary]
        } else {
            &[User::Ordinary]
        }
    }
    /// User and group number.
    pub fn ids(self) -> (u32, u32) {
        if self == User::Ordinary && crate::is_root() {
            return (NOBODY, NOBODY);
        }
        // SAFETY: no arguments, cannot fail.
        unsafe { (libc::getuid(), libc::getgid()) }
    }
    /// For the name of a test.
    pub fn name(self) -> &'static str {
        match self.ids() {
            (0, _) => "root",
            _ => "user",
        }
    }
    /// Whether a program is installed for this user.
    pub fn has(self, program: &str) -> bool {
        let path = match self {
            User::Ordinary if crate::is_root() => ORDINARY_PATH.into(),
            _ => std::env::var_os("PATH").unwrap_or_default(),
        };
        std::env::split_paths(&path).any(|d| d.join(program).is_file())
    }
}

/// A command to run.
#[derive(Debug)]
pub struct Run {
    command: Command,
    stdin: Vec<u8>,
    limit: Duration,
}

impl Run {
    /// Any command.
    pub fn command<S: AsRef<OsStr>>(program: S) -> Run {
        let mut command = Command::new(program);
        command.env_remove("LD_PRELOAD").env("LC_ALL", "C");
        command.env(engine::VARIABLE, Engine::current().name());
        Run {
            command,
            stdin: vec![],
            limit: Duration::from_secs(60),
        }
    }
    /// `lodger run` with these options; add `--` and the command with [`Run::arg`].
    pub fn lodger<S: AsRef<OsStr>>(options: &[S]) -> Run {
        let mut r = Run::command(crate::build::lodger());
        r.command.arg("run").args(options);
        r
    }
    /// `lodger run` with these options, started by `user`.
    pub fn lodger_of<S: AsRef<OsStr>>(user: User, options: &[S]) -> Run {
        let mut r = match user {
            User::Me => Run::command(crate::build::lodger()),
            User::Ordinary => Run::command(crate::build::public_lodger()).of(user),
        };
        r.command.arg("run").args(options);
        r
    }
    /// Started by `user`.
    pub fn of(mut self, user: User) -> Run {
        if user == User::Ordinary && crate::is_root() {
            // Removes the supplementary groups, too.
            self.command.uid(NOBODY).gid(NOBODY);
            // What root has in its own directory is not for others.
            self.command.env("PATH", ORDINARY_PATH);
            self.command.env("HOME", crate::user_dir());
        }
        self
    }
    /// One more argument.
    pub fn arg<S: AsRef<OsStr>>(mut self, a: S) -> Run {
        self.command.arg(a);
        self
    }
    /// More arguments.
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, a: I) -> Run {
        self.command.args(a);
        self
    }
    /// A variable of the environment.
    pub fn env<K: AsRef<OsStr>, V: AsRef<OsStr>>(mut self, k: K, v: V) -> Run {
        self.command.env(k, v);
        self
    }
    /// Working directory.
    pub fn dir<P: AsRef<std::path::Path>>(mut self, p: P) -> Run {
        self.command.current_dir(p);
        self
    }
    /// What it reads.
    pub fn stdin(mut self, data: impl Into<Vec<u8>>) -> Run {
        self.stdin = data.into();
        self
    }
    /// Kills all of it after so long.
    pub fn limit(mut self, secs: u64) -> Run {
        self.limit = Duration::from_secs(secs);
        self
    }
    /// The command itself, for what has no method here.
    pub fn raw(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Starts it in its own session and returns the handle for those who want to interfere.
    pub fn start(mut self) -> Started {
        self.command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // SAFETY: both are async-signal-safe and touch no memory.
        unsafe {
            self.command.pre_exec(|| {
                procs::prepare_child();
                libc::setsid();
                Ok(())
            })
        };
        let begin = Instant::now();
        let mut child = self
            .command
            .spawn()
            .unwrap_or_else(|e| panic!("starting {:?}: {e}", self.command.get_program()));
        let mut stdin = child.stdin.take().expect("piped");
        let data = std::mem::take(&mut self.stdin);
        std::thread::spawn(move || drop(stdin.write_all(&data)));
        let tree = Tree::new(child.id() as i32);
        let stdout = collect(child.stdout.take().expect("piped"));
        let stderr = collect(child.stderr.take().expect("piped"));
        Started {
            child,
            tree,
            stdout,
            stderr,
            begin,
            limit: self.limit,
        }
    }

    /// Runs it to its end.
    pub fn run(self) -> Outcome {
        self.start().finish()
    }
}

type Collected = std::sync::mpsc::Receiver<Vec<u8>>;

fn collect(mut from: impl Read + Send + 'static) -> Collected {
    let (tx, rx) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut v = vec![];
        let mut chunk = vec![0; 65536];
        while let Ok(n) = from.read(&mut chunk) {
            if n == 0 {
                break;
            }
            // A run gone wild must not fill the memory of the host.
            if v.len() < 256 << 20 {
                v.extend_from_slice(&chunk[..n]);
            }
        }
        let _ = tx.send(v);
    });
    rx
}

/// A run under way.
#[derive(Debug)]
pub struct Started {
    /// The first process.
    pub child: Child,
    /// Everything below it.
    pub tree: Tree,
    stdout: Collected,
    stderr: Collected,
    begin: Instant,
    limit: Duration,
}

impl Started {
    /// Waits for the end or the limit, then makes sure that nothing is left.
    pub fn finish(mut self) -> Outcome {
        let mut next_look = Instant::now();
        let status = loop {
            if let Ok(Some(s)) = self.child.try_wait() {
                break Some(s);
            }
            if self.begin.elapsed() > self.limit {
                break None;
            }
            if Instant::now() >= next_look {
                self.tree.look();
                next_look = Instant::now() + Duration::from_millis(200);
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let took = self.begin.elapsed();
        let mut left = self.tree.others_alive().len();
        let end = Instant::now() + Duration::from_millis(100);
        while status.is_some() && left > 0 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
            left = self.tree.others_alive().len();
        }
        self.tree.kill();
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.tree.reap();
        let get = |c: &Collected| c.recv_timeout(Duration::from_secs(5)).unwrap_or_default();
        Outcome {
            status,
            stdout: get(&self.stdout),
            stderr: get(&self.stderr),
            left,
            took,
        }
    }
}
