//! Which processes of the host belong to one run.
//!
//! A run is started in a session of its own and this process is a subreaper, so
//! what the run leaves behind either still has that session, was seen below the
//! run while it lived, or becomes a child of ours.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// One process as `/proc/PID/stat` shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Proc {
    /// Process id.
    pub pid: i32,
    /// Parent.
    pub ppid: i32,
    /// Process group.
    pub pgid: i32,
    /// Session.
    pub sid: i32,
    /// Start time in ticks: tells a reused id.
    pub start: u64,
    /// State letter.
    pub state: char,
    /// It is on its way out (`PF_EXITING`).
    pub exiting: bool,
}

impl Proc {
    /// Whether it can run any more code of its own: it has not ended, is not about to,
    /// and has no SIGKILL waiting, which no thread outruns.
    pub fn can_run(&self) -> bool {
        !matches!(self.state, 'Z' | 'X') && !self.exiting && !is_killed(self.pid)
    }
}

/// Whether SIGKILL has been sent to the process.
fn is_killed(pid: i32) -> bool {
    const KILL: u64 = 1 << (libc::SIGKILL - 1);
    let Ok(s) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
        return true;
    };
    let pending = |l: &str| {
        let mask = l.strip_prefix("SigPnd:").or(l.strip_prefix("ShdPnd:"));
        mask.is_some_and(|m| u64::from_str_radix(m.trim(), 16).unwrap_or(0) & KILL != 0)
    };
    s.lines().any(pending)
}

/// Flag of a process on its way out, in the host's `stat` files.
const PF_EXITING: u32 = 4;

/// Between fork and exec. What whoever started the tests ignored (a shell does
/// so with SIGINT and SIGQUIT for its background jobs) is not ignored any more. And
/// when the tests are killed, so is the run: one that they watched could not
/// even end without their answers. The thread that starts a run must outlive it.
pub fn prepare_child() {
    // SAFETY: changes one attribute of this process.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    for n in 1..32 {
        if n != libc::SIGKILL && n != libc::SIGSTOP {
            // SAFETY: signal(2) is async-signal-safe; SIG_DFL is no handler of ours.
            unsafe { libc::signal(n, libc::SIG_DFL) };
        }
    }
}

/// Makes this process the parent of orphans below it.
pub fn become_subreaper() {
    // SAFETY: changes one attribute of this process.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
}

/// Reads one process.
pub fn read(pid: i32) -> Option<Proc> {
    let s = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let f: Vec<&str> = s.rsplit_once(") ")?.1.split(' ').collect();
    Some(Proc {
        pid,
        state: f.first()?.chars().next()?,
        ppid: f.get(1)?.parse().ok()?,
        pgid: f.get(2)?.parse().ok()?,
        sid: f.get(3)?.parse().ok()?,
        start: f.get(19)?.parse().ok()?,
        exiting: f.get(6)?.parse::<u32>().ok()? & PF_EXITING != 0,
    })
}

/// CPU time of one process, in ticks.
fn cpu_ticks(pid: i32) -> Option<u64> {
    let s = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let f: Vec<&str> = s.rsplit_once(") ")?.1.split(' ').collect();
    Some(f.get(11)?.parse::<u64>().ok()? + f.get(12)?.parse::<u64>().ok()?)
}

/// All processes.
pub fn all() -> Vec<Proc> {
    let Ok(d) = std::fs::read_dir("/proc") else {
        return vec![];
    };
    d.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(read)
        .collect()
}

/// The processes of one run, as far as they were ever seen.
#[derive(Debug)]
pub struct Tree {
    root: i32,
    seen: HashMap<i32, u64>,
    /// Sessions that processes of the run have made.
    sessions: HashSet<i32>,
}

impl Tree {
    /// Of the run whose first process and session is `root`.
    pub fn new(root: i32) -> Tree {
        Tree {
            root,
            seen: HashMap::new(),
            sessions: HashSet::new(),
        }
    }

    /// Looks again; returns those alive, zombies included.
    pub fn look(&mut self) -> Vec<Proc> {
        let all = all();
        let mut found: Vec<Proc> = vec![];
        loop {
            let before = found.len();
            for p in &all {
                let known = self.seen.get(&p.pid) == Some(&p.start);
                let below = found.iter().any(|f| f.pid == p.ppid);
                let session = p.sid == self.root || self.sessions.contains(&p.sid);
                if (known || below || session || p.pid == self.root) && !found.contains(p) {
                    found.push(*p);
                    self.seen.insert(p.pid, p.start);
                    if p.sid == p.pid {
                        self.sessions.insert(p.sid);
                    }
                }
            }
            if found.len() == before {
                return found;
            }
        }
    }

    /// Those that run, without the first process and without zombies.
    pub fn others_alive(&mut self) -> Vec<Proc> {
        let root = self.root;
        self.look()
            .into_iter()
            .filter(|p| p.pid != root && p.state != 'Z' && p.state != 'X')
            .collect()
    }

    /// Those, the first process included, that can still run code.
    pub fn can_run(&mut self) -> Vec<Proc> {
        self.look().into_iter().filter(Proc::can_run).collect()
    }

    /// CPU time of all that lives, in ticks.
    pub fn cpu_ticks(&mut self) -> u64 {
        self.look().iter().filter_map(|p| cpu_ticks(p.pid)).sum()
    }

    /// Waits until nothing of it runs or is about to: all threads sleep, and none has been
    /// awake between several looks. False: that was not so within `secs` seconds.
    pub fn settle(&mut self, secs: u64) -> bool {
        const LOOKS: u32 = 4;
        let end = Instant::now() + Duration::from_secs(secs);
        let (mut last, mut same) = (None, 0);
        while same < LOOKS {
            if Instant::now() > end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
            let now = self.switches();
            same = if now.is_some() && now == last {
                same + 1
            } else {
                0
            };
            last = now;
        }
        true
    }

    /// How often all of its threads have been switched to; `None` if one of them runs.
    fn switches(&mut self) -> Option<u64> {
        let mut sum = 0;
        for p in self.look().iter().filter(|p| p.state != 'Z') {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", p.pid)).ok()?;
            for t in tasks {
                let status = std::fs::read_to_string(t.ok()?.path().join("status")).ok()?;
                let field = |name: &str| {
                    let l = status.lines().find_map(|l| l.strip_prefix(name))?;
                    l.trim().split(' ').next().map(String::from)
                };
                if !matches!(field("State:")?.as_str(), "S" | "T" | "t" | "I") {
                    return None;
                }
                sum += field("voluntary_ctxt_switches:")?.parse::<u64>().ok()?;
            }
        }
        Some(sum)
    }

    /// A living process with this name.
    pub fn named(&mut self, name: &str) -> Option<i32> {
        let is = |p: &&Proc| {
            let comm = std::fs::read_to_string(format!("/proc/{}/comm", p.pid));
            comm.is_ok_and(|c| c.trim_end() == name) && p.state != 'Z'
        };
        self.look().iter().find(is).map(|p| p.pid)
    }

    /// Kills everything, by id, until nothing is left; collects adopted zombies.
    pub fn kill(&mut self) {
        for _ in 0..200 {
            let mut alive = 0;
            for p in self.look() {
                if p.state != 'Z' && p.state != 'X' {
                    alive += 1;
                    // SAFETY: signals one process that this run started.
                    unsafe { libc::kill(p.pid, libc::SIGKILL) };
                }
            }
            self.reap();
            if alive == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Collects zombies that became our children; the first process is the caller's to wait for.
    pub fn reap(&mut self) {
        let me = std::process::id() as i32;
        for p in self.look() {
            if p.state == 'Z' && p.ppid == me && p.pid != self.root {
                // SAFETY: waits for one child, no result wanted.
                unsafe { libc::waitpid(p.pid, std::ptr::null_mut(), libc::WNOHANG) };
            }
        }
    }
}
