//! Running the measured programs, and looking at a machine from outside.

use crate::peers::runsc_do;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Whether a run is bound to one CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cpus {
    /// One host CPU, one vCPU.
    One,
    /// No binding, the machine's default.
    All,
}

/// The programs under measurement: this one, as `lodger run` and as what is measured.
#[derive(Debug)]
pub struct Programs(pub PathBuf);

impl Programs {
    /// The measured program on the host: batches in nanoseconds per operation.
    pub fn on_host(&self, what: &[String], cpus: Cpus) -> Vec<(String, f64)> {
        let mut c = Command::new(&self.0);
        c.arg("bench-measured").args(what).stderr(Stdio::inherit());
        batches(&mut c, cpus)
    }

    /// The measured program in a machine.
    pub fn in_machine(
        &self,
        engine: &str,
        what: &[String],
        cpus: Cpus,
        vcpus: Option<u32>,
    ) -> Vec<(String, f64)> {
        let mut c = self.run(engine, cpus, vcpus);
        c.arg(&self.0).arg("bench-measured").args(what);
        c.stderr(Stdio::inherit());
        batches(&mut c, cpus)
    }

    fn run(&self, engine: &str, cpus: Cpus, vcpus: Option<u32>) -> Command {
        let mut c = Command::new(&self.0);
        c.args(["run", "--engine", engine]);
        let one = (cpus == Cpus::One).then_some(1);
        if let Some(n) = vcpus.or(one) {
            c.arg(format!("--cpus={n}"));
        }
        c.arg("--");
        c
    }

    /// Nanoseconds of a whole machine that runs `/bin/true`.
    pub fn start(&self, cpus: Cpus) -> Option<f64> {
        let mut c = self.run("seccomp", cpus, None);
        c.arg("/bin/true");
        whole(c, cpus)
    }

    /// The same with gVisor's command, if it is installed and works.
    pub fn start_of_runsc(&self) -> Option<f64> {
        let mut c = runsc_do();
        c.arg("/bin/true");
        whole(c, Cpus::All)
    }

    /// A machine that does nothing.
    pub fn idle(&self) -> Running {
        let mut c = self.run("seccomp", Cpus::All, None);
        c.args(["/bin/sleep", "1000"]);
        prepare(&mut c, Cpus::All);
        Running(c.spawn().expect("lodger"))
    }
}

/// The child dies with this program, and runs on the CPUs wanted.
fn prepare(c: &mut Command, cpus: Cpus) {
    c.stdin(Stdio::null());
    let first = (cpus == Cpus::One).then(first_cpu);
    // SAFETY: system calls on local values, between fork and exec.
    unsafe {
        c.pre_exec(move || {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            if let Some(cpu) = first {
                let mut s: libc::cpu_set_t = std::mem::zeroed();
                libc::CPU_SET(cpu, &mut s);
                libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &s);
            }
            Ok(())
        })
    };
}

/// The first CPU that this program may use.
fn first_cpu() -> usize {
    // SAFETY: a system call on a local value.
    unsafe {
        let mut s: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut s);
        (0..libc::CPU_SETSIZE as usize)
            .find(|c| libc::CPU_ISSET(*c, &s))
            .unwrap_or(0)
    }
}

/// Runs the measured program as `c` says: batches in nanoseconds per operation.
pub fn batches(c: &mut Command, cpus: Cpus) -> Vec<(String, f64)> {
    prepare(c, cpus);
    let out = c.output().expect("program");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    text.lines()
        .filter_map(|l| {
            let (name, ns) = l.split_once(' ')?;
            Some((name.to_string(), ns.parse().ok()?))
        })
        .collect()
}

fn whole(mut c: Command, cpus: Cpus) -> Option<f64> {
    prepare(&mut c, cpus);
    let t = Instant::now();
    let st = c.stdout(Stdio::null()).status().ok()?;
    st.success().then(|| t.elapsed().as_nanos() as f64)
}

/// A machine under observation, ended when dropped.
#[derive(Debug)]
pub struct Running(Child);

/// What the processes of a machine have used.
#[derive(Clone, Copy, Default, Debug)]
pub struct Use {
    /// CPU time of all threads, as the scheduler counts it.
    pub cpu_ns: u64,
    /// User and system time of all processes in clock ticks.
    pub ticks: u64,
    /// Context switches of all threads.
    pub switches: u64,
}

/// Resident memory of all processes.
#[derive(Clone, Copy, Default, Debug)]
pub struct Memory {
    /// Processes.
    pub processes: usize,
    /// MB, a shared page counted once in all (`Pss` of smaps_rollup).
    pub pss: f64,
    /// MB, a shared page counted in each process that has it (`Rss`).
    pub rss: f64,
}

impl Drop for Running {
    fn drop(&mut self) {
        // SAFETY: ends the child that this program started and has not waited for.
        unsafe { libc::kill(self.0.id() as i32, libc::SIGTERM) };
        let _ = self.0.wait();
    }
}

fn text(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Numbers behind `key` at the start of lines.
fn numbers(text: &str, key: &str) -> u64 {
    let of = |l: &str| {
        l.strip_prefix(key)?
            .split_whitespace()
            .next()?
            .parse::<u64>()
            .ok()
    };
    text.lines().filter_map(of).sum()
}

impl Running {
    /// All processes whose parent or session leads back to the first one.
    fn family(&self) -> Vec<i32> {
        let mut all: Vec<(i32, i32, i32)> = vec![];
        for e in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = e.file_name().to_str().and_then(|n| n.parse().ok());
            let stat = text(e.path().join("stat"));
            let Some((pid, (_, rest))) = pid.zip(stat.rsplit_once(") ")) else {
                continue;
            };
            let f: Vec<&str> = rest.split(' ').collect();
            let n = |i: usize| f.get(i).and_then(|v| v.parse().ok()).unwrap_or(0);
            all.push((pid, n(1), n(3)));
        }
        let mut found = vec![self.0.id() as i32];
        loop {
            let before = found.len();
            for (pid, parent, session) in &all {
                if !found.contains(pid) && (found.contains(parent) || found.contains(session)) {
                    found.push(*pid);
                }
            }
            if found.len() == before {
                return found;
            }
        }
    }

    /// What is resident now.
    pub fn memory(&self) -> Memory {
        let mut m = Memory::default();
        for pid in self.family() {
            let s = text(format!("/proc/{pid}/smaps_rollup"));
            m.processes += 1;
            m.pss += numbers(&s, "Pss:") as f64 / 1024.0;
            m.rss += numbers(&s, "Rss:") as f64 / 1024.0;
        }
        m
    }

    /// What has been used so far.
    fn used(&self) -> Use {
        let mut u = Use::default();
        for pid in self.family() {
            let stat = text(format!("/proc/{pid}/stat"));
            let fields = stat.rsplit_once(") ").map_or("", |s| s.1);
            let times = fields.split(' ').skip(11).take(2);
            u.ticks += times.filter_map(|v| v.parse::<u64>().ok()).sum::<u64>();
            let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
            for t in threads.into_iter().flatten().flatten() {
                u.cpu_ns += numbers(&text(t.path().join("schedstat")), "");
                let status = text(t.path().join("status"));
                u.switches += numbers(&status, "voluntary_ctxt_switches:");
                u.switches += numbers(&status, "nonvoluntary_ctxt_switches:");
            }
        }
        u
    }

    /// What is used in `time`.
    pub fn use_in(&self, time: Duration) -> Use {
        let a = self.used();
        std::thread::sleep(time);
        let b = self.used();
        Use {
            cpu_ns: b.cpu_ns.saturating_sub(a.cpu_ns),
            ticks: b.ticks.saturating_sub(a.ticks),
            switches: b.switches.saturating_sub(a.switches),
        }
    }
}
