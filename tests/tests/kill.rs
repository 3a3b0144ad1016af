//! `kill -9` of any part of a machine that works hard, at a random moment.
//!
//! 100 ms later no process is seen that can run any more code: each has ended, is about
//! to, or has SIGKILL waiting. (A process that the host has not yet come to reap
//! cannot do anything any more; on a busy host its end may take longer, but not
//! seconds.) Nothing of the host has changed, its terminal is as it was, and the
//! exit status is the documented one.

use lodger_tests::build::{Link, guest};
use lodger_tests::host::Marker;
use lodger_tests::machine::Run;
use lodger_tests::procs::Proc;
use lodger_tests::pty::Pty;
use lodger_tests::suite::Suite;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

/// No code runs any more after this time.
const LIMIT: Duration = Duration::from_millis(100);
/// Everything is gone after this time, however busy the host is.
const GONE: Duration = Duration::from_secs(5);
const NOT_STARTED: i32 = 125;
const KERNEL_PANIC: i32 = 120;

/// What is killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Victim {
    Kernel,
    UserProcess,
    StubThread,
    Zygote,
    /// The process that restores the terminal: the machine goes on without it.
    Guardian,
    /// Not by SIGKILL: by a signal that the kernel process takes for a crash of its own.
    Crash,
}

/// A random number below `n`.
fn random(n: u64) -> u64 {
    let mut b = [0; 8];
    // SAFETY: fills the array.
    unsafe { libc::getrandom(b.as_mut_ptr().cast(), b.len(), 0) };
    u64::from_ne_bytes(b) % n
}

fn threads(pid: i32) -> Vec<i32> {
    let Ok(d) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return vec![];
    };
    d.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

fn name(pid: i32) -> String {
    let s = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    s.trim_end().into()
}

/// Picks the process and the thread to kill; none if that kind does not exist now.
fn choose(victim: Victim, kernel: i32, others: &[Proc]) -> Option<(i32, i32)> {
    let named = |n: &str| -> Vec<Proc> {
        let all = others.iter().copied();
        all.filter(|p| name(p.pid) == n).collect()
    };
    let pick = |v: Vec<(i32, i32)>| (!v.is_empty()).then(|| v[random(v.len() as u64) as usize]);
    let itself = |p: &Proc| (p.pid, p.pid);
    // The zygote leads the process group of all user processes.
    let users = named("lodger-user");
    let user = users.iter().filter(|p| p.pgid != p.pid);
    match victim {
        Victim::Kernel | Victim::Crash => Some((kernel, kernel)),
        Victim::Zygote => users.iter().find(|p| p.pgid == p.pid).map(itself),
        Victim::UserProcess => pick(user.map(itself).collect()),
        Victim::Guardian => named("lodger-tty").first().map(itself),
        Victim::StubThread => {
            let all = user.flat_map(|p| threads(p.pid).into_iter().map(|t| (p.pid, t)));
            pick(all.filter(|(p, t)| p != t).collect())
        }
    }
}

/// Kills what is to be killed, as soon as it exists.
fn kill(victim: Victim, p: &mut Pty) -> Result<(i32, i32), String> {
    let kernel = p.child.id() as i32;
    let signal = match victim {
        Victim::Crash => libc::SIGSEGV,
        _ => libc::SIGKILL,
    };
    for _ in 0..200 {
        let others = p.tree.others_alive();
        if let Some((pid, tid)) = choose(victim, kernel, &others) {
            // SAFETY: signals one thread of the run; its process ends of it.
            if unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) } == 0 {
                return Ok((pid, tid));
            }
        }
        p.drain(5);
    }
    Err(format!("{victim:?}: nothing to kill was found"))
}

/// Waits until nothing can run any more; says how long after the kill something was
/// last seen that could, and what.
fn watch(p: &mut Pty, killed: Instant, draining: bool) -> Result<(Duration, String), String> {
    let mut last = String::new();
    let mut seen = Duration::ZERO;
    loop {
        // The look itself may take long, if the host lets this process wait.
        let now = killed.elapsed();
        let running = p.tree.can_run();
        if running.is_empty() {
            return Ok((seen, last));
        }
        if now > GONE {
            return Err(format!("{} processes run on: {running:?}", running.len()));
        }
        seen = now;
        last = running
            .iter()
            .map(|p| format!("{} {} {}; ", p.pid, name(p.pid), p.state))
            .collect();
        if draining {
            p.drain(1);
        } else {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn round(victim: Victim) -> Result<(), String> {
    let marker = Marker::new(&format!("{victim:?}")).map_err(|e| e.to_string())?;
    let run = Run::lodger(&["--cpus", "2"])
        .arg("--")
        .arg(guest(Link::Static))
        .args(["--tool", "busy"])
        .arg(&marker.dir)
        .dir("/");
    let mut p = Pty::start(run, 24, 80);
    let before = p.before.clone();
    p.expect("busy", 30)?;
    for _ in 0..1000 {
        if p.settings() != before {
            break;
        }
        p.drain(2);
    }
    if p.settings() == before {
        return Err("the machine has not claimed its terminal".into());
    }
    // Sometimes nobody reads the terminal, and what is written there waits.
    let draining = random(2) == 0;
    let delay = random(400);
    if draining {
        p.drain(delay);
    } else {
        std::thread::sleep(Duration::from_millis(delay));
    }
    let chosen = kill(victim, &mut p)?;
    let mut killed = Instant::now();
    if victim == Victim::Guardian {
        p.drain(50);
        if !p
            .tree
            .can_run()
            .iter()
            .any(|x| x.pid == p.child.id() as i32)
        {
            return Err("the machine has ended with its guardian".into());
        }
        // SAFETY: signals the program that this test started.
        unsafe { libc::kill(p.child.id() as i32, libc::SIGTERM) };
        killed = Instant::now();
    }
    let what = format!("{victim:?} {chosen:?}, terminal read: {draining}");
    let (stopped, last) = watch(&mut p, killed, draining).map_err(|e| format!("{what}: {e}"))?;
    // Those that end the machine in order may look names up for a backtrace first.
    let limit = match victim {
        Victim::Guardian | Victim::Crash => GONE,
        _ => LIMIT,
    };
    if stopped > limit {
        return Err(format!("{what}: something ran on for {stopped:?}: {last}"));
    }
    let status = p.wait(5).ok_or(format!("{what}: no exit status"))?;
    let left = loop {
        let left = p.tree.others_alive().len();
        if left == 0 || killed.elapsed() > GONE {
            break left;
        }
        p.drain(1);
    };
    let expected = match victim {
        Victim::Kernel => status.signal() == Some(libc::SIGKILL),
        Victim::Guardian => status.code() == Some(128 + libc::SIGTERM),
        Victim::Crash => status.code() == Some(KERNEL_PANIC),
        _ => status.code() == Some(NOT_STARTED),
    };
    p.drain(20);
    let message = match victim {
        Victim::Kernel | Victim::Guardian => "",
        Victim::Crash => "kernel fault: SIGSEGV",
        _ => "from outside",
    };
    if left > 0 {
        return Err(format!("{what}: {left} processes left after {GONE:?}"));
    }
    if !expected {
        return Err(format!("{what}: {status}"));
    }
    // A message that found no room on the terminal is given up.
    if draining && !p.unread.contains(message) {
        return Err(format!("{what}: no message in {:?}", p.unread));
    }
    p.is_restored().map_err(|e| format!("{what}: {e}"))?;
    let changes = marker.changes();
    if !changes.is_empty() {
        return Err(format!("{what}: {changes:?}"));
    }
    if std::env::var_os("LODGER_VERBOSE").is_some() {
        eprintln!("{what}: stopped after {stopped:?}");
    }
    Ok(())
}

/// Nobody reads the terminal, and it is full: there is no room for the message either.
fn full_terminal() -> Result<(), String> {
    let script = "while :; do echo busy; done";
    let run = Run::lodger(&["--", "/bin/sh", "-c", script]).dir("/");
    let mut p = Pty::start(run, 24, 80);
    p.expect("busy", 30)?;
    std::thread::sleep(Duration::from_millis(500));
    kill(Victim::UserProcess, &mut p)?;
    let (stopped, last) = watch(&mut p, Instant::now(), false)?;
    if stopped > LIMIT {
        return Err(format!("something ran on for {stopped:?}: {last}"));
    }
    match p.wait(5).and_then(|s| s.code()) {
        Some(NOT_STARTED) => Ok(()),
        other => Err(format!("ended with {other:?}")),
    }
}

fn main() {
    lodger_tests::host::private_directories();
    let mut suite = Suite::new("kill").one_by_one().mainly_first();
    for (name, victim, short, long) in [
        ("kernel", Victim::Kernel, 6, 60),
        ("user_process", Victim::UserProcess, 5, 50),
        ("stub_thread", Victim::StubThread, 5, 50),
        ("zygote", Victim::Zygote, 4, 40),
        ("guardian", Victim::Guardian, 1, 10),
        ("crash", Victim::Crash, 1, 10),
    ] {
        let rounds = if lodger_tests::long() { long } else { short };
        suite.add(name, move || {
            (0..rounds).try_for_each(|n| round(victim).map_err(|e| format!("round {n}: {e}")))
        });
    }
    suite.add("full_terminal", full_terminal);
    suite.run();
}
