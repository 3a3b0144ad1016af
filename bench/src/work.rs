//! Real work of the measured program: commands of the PATH on files in a tmpfs
//! (`/dev/shm`). Only the command is timed, not what it works on.

use crate::measured::per;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Files of [`untar`] and [`grep`].
const FILES: usize = 20_000;
/// Files of [`git`].
const TRACKED: usize = 5_000;
/// Statements of either kind of [`sqlite`].
const STATEMENTS: usize = 3_000;
/// Files in one directory.
const FOLDER: usize = 100;

/// Nanoseconds of the work called `name`; nothing if its command is not there. `small`:
/// a twentieth of it.
pub fn measure(name: &str, small: bool) -> Option<f64> {
    let of = |n: usize| if small { n / 20 } else { n };
    match name {
        "untar" => untar(of(FILES)),
        "git" => git(of(TRACKED)),
        "grep" => grep(of(FILES)),
        "sqlite" => sqlite(of(STATEMENTS)),
        "python" => timed(&mut command("python3", &["-c", "pass"])),
        "loop" => {
            let n = of(1000);
            let script = format!("i=0; while [ $i -lt {n} ]; do /bin/true; i=$((i+1)); done");
            timed(&mut command("sh", &["-c", &script]))
        }
        _ => panic!("no measurement {name}"),
    }
}

fn untar(files: usize) -> Option<f64> {
    let dir = Dir::new("untar");
    let archive = dir.0.join("archive");
    fs::write(&archive, tar(files)).expect("archive");
    fs::create_dir(dir.0.join("out")).expect("directory");
    let mut c = command("tar", &["-xf", "../archive"]);
    timed(c.current_dir(dir.0.join("out")))
}

fn git(files: usize) -> Option<f64> {
    let dir = Dir::new("git");
    tree(&dir.0, files);
    let git = |args: &[&str]| {
        let mut c = command("git", args);
        c.current_dir(&dir.0).env("HOME", &dir.0);
        timed(&mut c)
    };
    // Files that are as new as the index are read again each time: where one is fast, all of them.
    std::thread::sleep(Duration::from_millis(1100));
    git(&["init", "-q"])?;
    git(&["add", "."])?;
    let who = ["-c", "user.name=x", "-c", "user.email=x"];
    git(&[&who[..], &["commit", "-q", "-m", "all"]].concat())?;
    // The first one also refreshes the index.
    git(&["status", "--porcelain"])?;
    git(&["status", "--porcelain"])
}

fn grep(files: usize) -> Option<f64> {
    let dir = Dir::new("grep");
    tree(&dir.0, files);
    // The words are in no file.
    let script = "find . -type f -print0 | xargs -0 grep -l 'no such words' || true";
    timed(command("sh", &["-c", script]).current_dir(&dir.0))
}

fn sqlite(statements: usize) -> Option<f64> {
    let dir = Dir::new("sqlite");
    let mut sql = String::from("create table t(a integer primary key, b text);\n");
    for i in 0..statements {
        let _ = writeln!(
            sql,
            "insert into t values({i}, hex({i} * 7919));\nselect b from t where a = {};",
            i / 2
        );
    }
    let script = dir.0.join("script");
    fs::write(&script, sql).expect("script");
    let mut c = command("sqlite3", &["base"]);
    c.stdin(fs::File::open(&script).expect("script"));
    timed(c.current_dir(&dir.0))
}

fn command(name: &str, args: &[&str]) -> Command {
    let mut c = Command::new(name);
    c.args(args).stdin(Stdio::null()).stdout(Stdio::null());
    c
}

/// A command from start to end; nothing if it is not there or fails.
fn timed(c: &mut Command) -> Option<f64> {
    let mut ok = false;
    let ns = per(1, || ok = c.status().is_ok_and(|s| s.success()));
    ok.then_some(ns)
}

/// A directory of this process, removed when dropped.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let id = std::process::id();
        let dir = PathBuf::from(format!("/dev/shm/lodger-bench-{id}-{name}"));
        fs::create_dir(&dir).expect("directory in /dev/shm");
        Dir(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Name and text of file `i`: some 200 to 2,000 bytes.
fn file(i: usize) -> (String, String) {
    let mut text = String::new();
    for line in 0..=i % 37 {
        let _ = writeln!(
            text,
            "line {line} of the file with the number {i}, and {}",
            i * line
        );
    }
    (format!("d{:03}/f{:02}", i / FOLDER, i % FOLDER), text)
}

fn tree(dir: &Path, files: usize) {
    for i in 0..files {
        let (name, text) = file(i);
        let path = dir.join(name);
        if i % FOLDER == 0 {
            fs::create_dir(path.parent().expect("a directory")).expect("directory");
        }
        fs::write(path, text).expect("file");
    }
}

/// The same files as an archive: ustar, as in pax(1) of POSIX.
fn tar(files: usize) -> Vec<u8> {
    const BLOCK: usize = 512;
    let mut all = vec![];
    for i in 0..files {
        let (name, text) = file(i);
        let mut head = [0u8; BLOCK];
        let mut put = |at: usize, s: &str| head[at..at + s.len()].copy_from_slice(s.as_bytes());
        put(0, &name);
        put(100, "0000644");
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", text.len()));
        put(136, "14000000000");
        put(148, "        ");
        put(156, "0");
        put(257, "ustar");
        put(263, "00");
        let sum: u32 = head.iter().map(|b| u32::from(*b)).sum();
        head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        all.extend(head);
        all.extend(text.as_bytes());
        all.resize(all.len().next_multiple_of(BLOCK), 0);
    }
    all.resize(all.len() + 2 * BLOCK, 0);
    all
}
