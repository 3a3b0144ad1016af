//! Which processes of the host belong to one run.
//!
//! A run is started in a session of its own and this process is a subreaper, so
//! what the run leaves behind either still has that session, was seen below the
//! run while it lived, or becomes a child of ours.

use std::collections::HashMap;

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
    })
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
}

impl Tree {
    /// Of the run whose first process and session is `root`.
    pub fn new(root: i32) -> Tree {
        Tree {
            root,
            seen: HashMap::new(),
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
                if (known || below || p.sid == self.root || p.pid == self.root)
                    && !found.contains(p)
                {
                    found.push(*p);
                    self.seen.insert(p.pid, p.start);
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
            std::thread::sleep(std::time::Duration::from_millis(5));
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
