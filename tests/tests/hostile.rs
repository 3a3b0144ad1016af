//! Hostile guest programs: jumps into the engine's part of a user process, forged
//! frames, altered words, odd instructions, exhausted resources. A
//! guest process may die of it; the machine lives, runs another program
//! afterwards, and the host notices nothing: every host call that the engine would
//! let a guest make, other than its own few, is reported by the host ([`sentry`]).

use libtest_mimic::Failed;
use lodger_tests::build::{Link, guest};
use lodger_tests::engine::Engine;
use lodger_tests::machine::Run;
use lodger_tests::sentry::{self, Sites};
use lodger_tests::suite::Suite;
use std::time::Duration;

/// What an escaped host call of the attack program would create.
const CANARY: &str = "/tmp/lodger-escaped";

/// The part of a user process that belongs to the engine.
const STUB: std::ops::Range<u64> = arch_um::STUB_REGION;

/// Runs `tool` in a machine, then another program in the same machine.
fn survives(options: &[&str], tool: &str, limit: u64, done: &str) -> Result<(), Failed> {
    let script = format!(
        "\"$0\" --tool {tool}; echo status $?; \"$0\" --run process::exec_loop; echo alive"
    );
    let mut run = Run::lodger(options)
        .args(["--", "/bin/sh", "-c", &script])
        .arg(guest(Link::Static))
        .limit(limit);
    let watched = match Engine::current() {
        Engine::Seccomp => Some(sentry::watch(&mut run, sites()).map_err(|e| e.to_string())?),
        // Its guests are trusted: only what they do to the machine counts.
        Engine::Kml => None,
    };
    let out = run.run();
    let text = out.out();
    if let Some(watched) = watched {
        let seen = watched.recv_timeout(Duration::from_secs(10));
        let seen = seen.map_err(|_| "no report about host calls")?;
        if !seen.escapes.is_empty() {
            return Err(format!("host calls of guests: {:x?}\n{text}", seen.escapes).into());
        }
        if seen.lists == 0 {
            return Err("the watch over host calls has seen nothing".into());
        }
    }
    let problem = if out.status.is_none() {
        "the machine hangs".to_string()
    } else if out.code() != 0 {
        format!("the machine ended with {}", out.code())
    } else if !text.contains(done) {
        format!("{done:?} is missing")
    } else if !text.trim_end().ends_with("0\nexit 17\nalive") {
        "it runs no other program afterwards".into()
    } else if out.left > 0 {
        format!("{} processes left behind", out.left)
    } else if std::path::Path::new(CANARY).exists() {
        let _ = std::fs::remove_file(CANARY);
        "a host call got through: the canary is on the host".into()
    } else {
        return Ok(());
    };
    Err(format!("{problem}\n{text}\n{}", out.err_tail()).into())
}

/// Where the engine calls the host, by the order of the calls in its code.
fn sites() -> Sites {
    let (base, code) = arch_um::stub_code();
    let calls = code
        .windows(2)
        .enumerate()
        .filter(|(_, w)| *w == [0x0f, 0x05]);
    let behind: Vec<u64> = calls.map(|(i, _)| base + i as u64 + 2).collect();
    let [interpret, mapper, wake, wait, sigreturn] = behind[..] else {
        panic!("other calls than expected: {behind:x?}");
    };
    Sites {
        region: (STUB.start, STUB.end),
        interpret,
        mapper,
        wake,
        wait,
        sigreturn,
    }
}

/// The watch over host calls sees one, if nobody stops it: the probe on the bare host.
fn sentry_sees() -> Result<(), Failed> {
    let mut run = Run::command(guest(Link::Static)).args(["--tool", "attack", "probe"]);
    let watched = sentry::watch(&mut run, sites()).map_err(|e| e.to_string())?;
    let out = run.run();
    let seen = watched.recv_timeout(Duration::from_secs(10));
    let seen = seen.map_err(|_| "no report")?;
    // Each of the first calls, none of which the host has carried out.
    let numbers: Vec<i32> = seen.escapes.iter().map(|e| e.nr).collect();
    if numbers.starts_with(&[0, 1, 2, 3]) && out.out().contains("came to the end") {
        return Ok(());
    }
    Err(format!("{:x?}\n{}{}", seen.escapes, out.out(), out.err_tail()).into())
}

fn attack(kind: &str, cpus: &str) -> Result<(), Failed> {
    let step = if lodger_tests::long() { 1 } else { 17 };
    let limit = if lodger_tests::long() { 1200 } else { 150 };
    survives(
        &["--cpus", cpus],
        &format!("attack {kind} {:x} {:x} {step:x}", STUB.start, STUB.end),
        limit,
        "came to the end",
    )
}

/// The guest's own OOM killer acts; or the call fails; the machine lives.
fn hog(kind: &str) -> Result<(), Failed> {
    survives(
        &["--cpus", "2", "--mem", "256M"],
        &format!("hog {kind}"),
        90,
        "status",
    )
}

/// What `hoard` of the guest program can make.
const OBJECTS: [&str; 25] = [
    "fds",
    "tables",
    "pipes",
    "sockets",
    "passed",
    "inotify",
    "files",
    "xattrs",
    "names",
    "mappings",
    "threads",
    "processes",
    "epoll",
    "sem",
    "shm",
    "msg",
    "timers",
    "timerfds",
    "signals",
    "locks",
    "args",
    "ttys",
    "memfds",
    "futexes",
    "polls",
];

/// Objects of the kernel until there is no memory for more.
fn hoard(kind: &str, memory: &str, seconds: u32) -> Result<(), Failed> {
    survives(
        &["--cpus", "2", "--mem", memory],
        &format!("hoard {kind} {seconds}"),
        120,
        "hoarded",
    )
}

fn main() {
    let mut suite = Suite::new("hostile").two_at_once();
    suite.add_on_host("the watch sees host calls", sentry_sees);
    // What is attacked is this engine's; guests of the other are trusted.
    for kind in ["probe", "jumps", "scribble", "oddities", "exhaust"] {
        for cpus in ["1", "2"] {
            let name = format!("{kind}, cpus {cpus}");
            suite.add_under(Engine::Seccomp, &name, move || attack(kind, cpus));
        }
    }
    for kind in ["anon", "shared", "file", "tmpfs", "pipe"] {
        suite.add_in_turn(format!("memory filled by data, {kind}"), || hog(kind));
    }
    for kind in OBJECTS {
        let name = format!("memory filled by {kind}");
        suite.add_in_turn(name.clone(), || hoard(kind, "64M", 2));
        if lodger_tests::long() {
            suite.add_in_turn(format!("{name}, 256 MiB"), || hoard(kind, "256M", 30));
        }
    }
    suite.run();
}
