//! Forks, executions, exits and mappings as fast as they go, in several processes at once,
//! and what a flood of processes leaves of a machine.

use libtest_mimic::Failed;
use lodger_tests::build::{Link, guest};
use lodger_tests::machine::Run;
use lodger_tests::suite::Suite;

/// A storm of `secs` seconds on `cpus` vCPUs: every call gives what it must.
fn storm(cpus: &str, link: Link, options: &[&str], secs: u64) -> Result<(), Failed> {
    let out = Run::lodger(&["--cpus", cpus])
        .args(options)
        .arg("--")
        .arg(guest(link))
        .args(["--tool", "storm", &secs.to_string(), "4"])
        .dir("/")
        .limit(secs + 60)
        .run();
    if out.code() == 0 && out.out() == "calm\n" && out.left == 0 {
        return Ok(());
    }
    let (code, left) = (out.code(), out.left);
    Err(format!(
        "status {code}, {left} left\n{}{}",
        out.out(),
        out.err_tail()
    )
    .into())
}

/// Processes until no more can be had, in little memory; then they end, and all is as before.
fn flood() -> Result<(), Failed> {
    // All are small: who is to be spared must say so.
    let script = "echo -500 > /proc/$$/oom_score_adj
        (echo 500 > /proc/self/oom_score_adj; exec \"$0\" --tool forks 100000)
        echo status $?; \"$0\" --run process::exec_loop; echo alive";
    let out = Run::lodger(&["--cpus", "2", "--mem", "256M"])
        .args(["--", "/bin/sh", "-c", script])
        .arg(guest(Link::Static))
        .dir("/")
        .limit(60)
        .run();
    let alive = out.out().trim_end().ends_with("alive");
    if out.code() == 0 && alive && out.left == 0 {
        return Ok(());
    }
    Err(format!(
        "{} after {:?}\n{}{}",
        out.code(),
        out.took,
        out.out(),
        out.err_tail()
    )
    .into())
}

fn main() {
    let mut suite = Suite::new("storm").one_by_one().mainly_first();
    let secs = if lodger_tests::long() { 120 } else { 4 };
    suite.add("flood", flood);
    for (cpus, link, name, options) in [
        ("1", Link::Static, "cpus1-static", &[][..]),
        ("2", Link::Static, "cpus2-static", &[]),
        ("2", Link::Dynamic, "cpus2-dynamic", &[]),
        ("2", Link::Static, "cpus2-little-memory", &["--mem", "64M"]),
        ("2", Link::Static, "cpus2-interrupts", &["--tick-us", "50"]),
    ] {
        suite.add(name, move || storm(cpus, link, options, secs));
    }
    suite.run();
}
