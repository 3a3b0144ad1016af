//! Measures a machine beside its host: interleaved rounds, medians, ratios with the
//! limits they are to keep. `cargo run --release -p lodger-bench [-- ROUNDS]`.
//!
//! These are measurements, not tests: a busy host makes them worthless, nothing fails.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

type Times = BTreeMap<String, Vec<f64>>;

/// Measured in both places.
const BOTH: &[&str] = &[
    "call", "clock", "touch", "fork", "exec", "pipe", "futex", "python",
];

/// (name, what it is, limit as a ratio to the host).
const LIMITS: &[(&str, &str, f64)] = &[
    ("call", "null call (to the host's futex round trip)", 1.6),
    ("clock", "clock_gettime", 1.6),
    ("touch", "first touch of an anonymous page", 1.6),
    ("fork", "fork, exit, wait", 8.0),
    ("exec", "vfork, exec of a static program, wait", 3.0),
    ("pipe", "pipe round trip between two processes", 8.0),
    ("python", "python3 -c pass", 3.0),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("/"))
}

fn build(args: &[&str], flags: Option<&str>) {
    let mut c = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    c.current_dir(root())
        .args(["build", "-q", "--release"])
        .args(args);
    if let Some(f) = flags {
        c.env("RUSTFLAGS", f);
    }
    assert!(
        c.status().is_ok_and(|s| s.success()),
        "cargo build {args:?}"
    );
}

/// The two programs: `lodger` and the statically linked guest.
fn programs() -> (PathBuf, PathBuf) {
    let exe = std::env::current_exe().expect("path of this program");
    let target = exe
        .ancestors()
        .nth(2)
        .expect("target directory")
        .to_path_buf();
    let dir = target.join("bench-static");
    let dir_arg = dir.to_string_lossy().into_owned();
    build(
        &["-p", "lodger", "--target-dir", &target.to_string_lossy()],
        None,
    );
    build(
        &[
            "-p",
            "lodger-bench",
            "--bin",
            "bench-guest",
            "--target-dir",
            &dir_arg,
        ],
        Some("-C target-feature=+crt-static"),
    );
    (
        target.join("release/lodger"),
        dir.join("release/bench-guest"),
    )
}

/// Runs a command, on one CPU if `pinned`, and reads its `NAME NS` lines.
fn measure(mut c: Command, pinned: bool, into: &mut Times) {
    if pinned {
        use std::os::unix::process::CommandExt;
        // SAFETY: one system call on a local value, between fork and exec.
        unsafe {
            c.pre_exec(|| {
                let mut s: libc::cpu_set_t = std::mem::zeroed();
                libc::CPU_SET(0, &mut s);
                libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &s);
                Ok(())
            })
        };
    }
    let out = c
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("program");
    for line in String::from_utf8_lossy(&out.stdout).lines() {
        if let Some((name, ns)) = line.split_once(' ')
            && let Ok(ns) = ns.parse()
        {
            into.entry(name.to_string()).or_default().push(ns);
        }
    }
}

fn median(v: &[f64]) -> Option<f64> {
    let mut v = v.to_vec();
    v.sort_by(f64::total_cmp);
    v.get(v.len() / 2).copied()
}

fn get(t: &Times, name: &str) -> Option<f64> {
    median(t.get(name)?)
}

fn time(ns: f64) -> String {
    if ns < 1e3 {
        format!("{ns:.0} ns")
    } else if ns < 1e6 {
        format!("{:.2} µs", ns / 1e3)
    } else {
        format!("{:.2} ms", ns / 1e6)
    }
}

/// All processes whose session or parent leads back to `first`.
fn family(first: u32) -> Vec<i32> {
    let mut all: Vec<(i32, i32, i32)> = vec![];
    for e in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = e.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        let Some((_, rest)) = stat.rsplit_once(") ") else {
            continue;
        };
        let f: Vec<&str> = rest.split(' ').collect();
        let n = |i: usize| f.get(i).and_then(|v| v.parse().ok()).unwrap_or(0);
        all.push((pid, n(1), n(3)));
    }
    let mut found = vec![first as i32];
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

/// Sum of a line of `smaps_rollup` in KiB.
fn memory(pids: &[i32], key: &str) -> u64 {
    let one = |p: &i32| {
        let s = std::fs::read_to_string(format!("/proc/{p}/smaps_rollup")).unwrap_or_default();
        let line = s.lines().find(|l| l.starts_with(key)).map(str::to_string)?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    pids.iter().filter_map(one).sum()
}

/// Nanoseconds of CPU time of all threads.
fn cpu_time(pids: &[i32]) -> u64 {
    let mut sum = 0;
    for p in pids {
        for t in std::fs::read_dir(format!("/proc/{p}/task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let s = std::fs::read_to_string(t.path().join("schedstat")).unwrap_or_default();
            sum += s
                .split(' ')
                .next()
                .and_then(|n| n.parse::<u64>().ok())
                .unwrap_or(0);
        }
    }
    sum
}

fn idle(lodger: &Path) {
    let mut c = Command::new(lodger);
    c.args(["run", "--", "/bin/sleep", "60"])
        .stdin(Stdio::null());
    let mut child = c.spawn().expect("lodger");
    std::thread::sleep(Duration::from_secs(2));
    let pids = family(child.id());
    let (pss, rss) = (memory(&pids, "Pss:"), memory(&pids, "Rss:"));
    let before = cpu_time(&pids);
    std::thread::sleep(Duration::from_secs(10));
    let used = cpu_time(&family(child.id())).saturating_sub(before);
    println!(
        "idle machine: {} processes, {:.1} MB resident (limit 15), {:.1} MB with shared pages counted in each",
        pids.len(),
        pss as f64 / 1024.0,
        rss as f64 / 1024.0
    );
    println!(
        "idle machine: {:.2} ms of CPU time in 10 s ({:.4} %)",
        used as f64 / 1e6,
        used as f64 / 1e8
    );
    // SAFETY: ends the child that was started above.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    let _ = child.wait();
}

fn start_time(lodger: &Path, rounds: usize) {
    let v: Vec<f64> = (0..rounds * 4)
        .map(|_| {
            let t = Instant::now();
            let st = Command::new(lodger)
                .args(["run", "--", "/bin/true"])
                .stdin(Stdio::null())
                .status();
            assert!(st.is_ok_and(|s| s.success()), "lodger run -- /bin/true");
            t.elapsed().as_nanos() as f64
        })
        .collect();
    let ours = median(&v).unwrap_or(0.0);
    println!(
        "lodger run -- /bin/true: {} (limit 40 ms where gVisor needs 133 ms)",
        time(ours)
    );
    let runsc = |n: usize| -> Option<f64> {
        let mut v = vec![];
        for _ in 0..n {
            let t = Instant::now();
            let st = Command::new("runsc")
                .args(["do", "/bin/true"])
                .stdin(Stdio::null())
                .status()
                .ok()?;
            st.success()
                .then(|| v.push(t.elapsed().as_nanos() as f64))?;
        }
        median(&v)
    };
    match runsc(rounds) {
        Some(theirs) => println!(
            "  runsc do /bin/true: {}, ratio {:.2} (limit 0.3)",
            time(theirs),
            ours / theirs
        ),
        None => println!("  runsc is not installed"),
    }
}

fn table(title: &str, host: &Times, machine: &Times) {
    println!("\n{title}");
    println!(
        "{:<45} {:>10} {:>10} {:>7} {:>6}",
        "", "host", "machine", "ratio", "limit"
    );
    for (name, what, limit) in LIMITS {
        let base = if *name == "call" {
            get(host, "futex")
        } else {
            get(host, name)
        };
        let (Some(h), Some(m)) = (base, get(machine, name)) else {
            println!("{what:<45} not measured");
            continue;
        };
        let r = m / h;
        let mark = if r <= *limit { "" } else { "  over" };
        println!(
            "{what:<45} {:>10} {:>10} {r:>7.2} {limit:>6}{mark}",
            time(h),
            time(m)
        );
    }
}

fn main() {
    let rounds = std::env::args()
        .nth(1)
        .and_then(|s| s.parse().ok())
        .unwrap_or(7);
    let (lodger, guest) = programs();
    let on_host = || Command::new(&guest);
    let in_machine = |cpus: &str| {
        let mut c = Command::new(&lodger);
        c.args(["run", "--cpus", cpus, "--"]).arg(&guest);
        c
    };
    let mut pinned = [Times::new(), Times::new()];
    let mut free = [Times::new(), Times::new()];
    for r in 0..rounds {
        eprint!("\rround {} of {rounds}", r + 1);
        for (pin, t, cpus) in [(true, &mut pinned, "1"), (false, &mut free, "2")] {
            let mut c = on_host();
            c.args(BOTH);
            measure(c, pin, &mut t[0]);
            let mut c = in_machine(cpus);
            c.args(BOTH);
            measure(c, pin, &mut t[1]);
        }
    }
    eprintln!();
    for _ in 0..rounds.min(3) {
        let mut c = in_machine("2");
        c.args(["spin1", "spin2"]);
        measure(c, false, &mut free[1]);
        let mut c = on_host();
        c.args(["spin1", "spin2"]);
        measure(c, false, &mut free[0]);
    }
    table("pinned to one CPU, one vCPU", &pinned[0], &pinned[1]);
    table("unpinned, two vCPUs", &free[0], &free[1]);
    println!("\nunpinned to pinned in the machine (limit 1.5)");
    for (name, what, _) in LIMITS {
        if let (Some(p), Some(u)) = (get(&pinned[1], name), get(&free[1], name)) {
            let mark = if u <= 1.5 * p { "" } else { "  over" };
            println!("{what:<45} {:.2}{mark}", u / p);
        }
    }
    // `spinN` is the time per thread's work: halved if both run at once.
    for (n, t) in [("host", &free[0]), ("machine", &free[1])] {
        if let (Some(one), Some(two)) = (get(t, "spin1"), get(t, "spin2")) {
            println!(
                "two threads to one, {n}: {:.2} times the work (limit 1.8)",
                one / two
            );
        }
    }
    println!();
    start_time(&lodger, rounds);
    idle(&lodger);
}
