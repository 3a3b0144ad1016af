//! Random system calls with half-valid arguments, from several processes and threads:
//! the machine neither crashes nor hangs, ends as its first program does, leaves
//! nothing behind, and neither files nor processes of the host change.
//! `LODGER_SEED` repeats a run.

use lodger_tests::build::{Link, guest};
use lodger_tests::engine::Engine;
use lodger_tests::host::Marker;
use lodger_tests::machine::Run;
use lodger_tests::suite::Suite;
use std::process::{Child, Command, Stdio};

/// A process of the host that no call of a guest may reach.
struct Bystander(Child);

impl Bystander {
    fn start() -> Result<Bystander, String> {
        let c = Command::new("sleep")
            .arg("100000")
            .stdin(Stdio::null())
            .spawn();
        c.map(Bystander).map_err(|e| format!("sleep: {e}"))
    }
    /// Whether it sleeps on, with the properties it was started with.
    fn is_unharmed(&self) -> bool {
        let of = |who: &str, file: &str| {
            let text = std::fs::read_to_string(format!("/proc/{who}/{file}"));
            text.unwrap_or_default()
        };
        let pid = self.0.id().to_string();
        let state = lodger_tests::procs::read(self.0.id() as i32).map(|p| p.state);
        let same = |file| of(&pid, file) == of("self", file);
        state == Some('S') && same("limits") && same("cgroup") && same("oom_score_adj")
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn fuzz(seed: u64, secs: u64, root: bool) -> Result<(), String> {
    let marker = Marker::new(&format!("fuzz-{seed}")).map_err(|e| e.to_string())?;
    let bystander = Bystander::start()?;
    let mut run = Run::lodger(&["--cpus", "2", "--mem", "1G", "--log-level", "error"])
        .arg("--")
        .arg(guest(Link::Static))
        .args(["--tool", "fuzz", &seed.to_string(), &secs.to_string()])
        .arg(&marker.dir);
    if root {
        run = run.arg("root");
    }
    let out = run.dir("/").limit(secs + 60).run();
    eprintln!("seed {seed}: {} ({:.1?})", out.out().trim(), out.took);
    let problem = if out.status.is_none() {
        "it hangs".into()
    } else if out.code() != 0 || !out.out().contains("rounds ") {
        format!("ended with {}", out.code())
    } else if out.left > 0 {
        format!("{} processes left", out.left)
    } else if !bystander.is_unharmed() {
        "another process of the host was changed".into()
    } else if let changes @ [_, ..] = &marker.changes()[..] {
        format!("files of the host were changed: {changes:?}")
    } else {
        return Ok(());
    };
    Err(format!(
        "seed {seed}: {problem}\n{}{}",
        out.out(),
        out.err_tail()
    ))
}

/// The fuzzer knows every call of the table.
fn complete() -> Result<(), String> {
    let out = Run::command(guest(Link::Static))
        .args(["--tool", "fuzz", "list"])
        .run();
    let text = out.out();
    let known: Vec<&str> = text.lines().collect();
    let page = lodger_tests::build::root().join("docs/syscalls.md");
    let page = std::fs::read_to_string(page).map_err(|e| e.to_string())?;
    let rows = page.lines().filter_map(|l| {
        let f: Vec<&str> = l.split('|').map(str::trim).collect();
        let [_, nr, name, support, ..] = f[..] else {
            return None;
        };
        let there = ["full", "partial"].contains(&support);
        nr.parse::<u32>().ok().map(|_| (nr, name, there))
    });
    let rows: Vec<_> = rows.collect();
    let missing: Vec<_> = rows
        .iter()
        .filter(|(nr, _, there)| *there && !known.contains(nr))
        .map(|r| &r.1)
        .collect();
    if rows.len() < 250 {
        return Err(format!("only {} rows in docs/syscalls.md", rows.len()));
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("calls without a signature: {missing:?}"))
}

fn main() {
    lodger_tests::host::private_directories();
    let mut suite = Suite::new("fuzz").one_by_one();
    let (runs, secs) = if lodger_tests::long() {
        (10, 60)
    } else {
        (2, 6)
    };
    let given = std::env::var("LODGER_SEED").ok();
    let first = given.and_then(|s| s.parse().ok()).unwrap_or_else(|| {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        now.as_secs() % 1_000_000
    });
    let kinds = [("user", false), ("root", true)];
    let kinds = kinds.iter().filter(|k| !k.1 || lodger_tests::is_root());
    suite.add_on_host("every_call_has_a_signature", || {
        complete().map_err(Into::into)
    });
    for &(name, root) in kinds {
        // All rights, fewer runs: it is the ordinary user that must be kept in.
        let runs = if root { (runs / 2).max(1) } else { runs };
        for n in 0..runs {
            let test = move || fuzz(first + n, secs, root);
            for engine in Engine::all_or_turn(n as usize + usize::from(root)) {
                suite.add_under(engine, &format!("{name}_{n}"), test);
            }
        }
    }
    suite.run();
}
