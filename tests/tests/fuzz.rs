//! Random system calls with half-valid arguments, from several unprivileged
//! processes and threads: the machine neither crashes nor hangs, ends as its first
//! program does, and leaves nothing behind. `LODGER_SEED` repeats a run.

use libtest_mimic::{Arguments, Failed, Trial};
use lodger_tests::build::{Link, guest};
use lodger_tests::machine::Run;

fn fuzz(seed: u64, secs: u64) -> Result<(), Failed> {
    let out = Run::lodger(&["--cpus", "2", "--mem", "1G"])
        .arg("--")
        .arg(guest(Link::Static))
        .args(["--tool", "fuzz", &seed.to_string(), &secs.to_string()])
        .dir("/")
        .limit(secs + 40)
        .run();
    eprintln!("seed {seed}: {} ({:.1?})", out.out().trim(), out.took);
    if out.code() != 0 || !out.out().starts_with("rounds ") || out.left > 0 {
        return Err(Failed::from(format!(
            "seed {seed}: ended with {}, {} processes left\n{}{}",
            out.code(),
            out.left,
            out.out(),
            out.err_tail()
        )));
    }
    Ok(())
}

fn main() {
    lodger_tests::procs::become_subreaper();
    let mut args = Arguments::from_args();
    args.test_threads = Some(1);
    let (runs, secs) = if lodger_tests::long() {
        (10, 60)
    } else {
        (2, 5)
    };
    let given = std::env::var("LODGER_SEED").ok();
    let first = given.and_then(|s| s.parse().ok()).unwrap_or_else(|| {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        now.as_secs() % 1_000_000
    });
    let trials = (0..runs)
        .map(|n| Trial::test(format!("fuzz_{n}"), move || fuzz(first + n, secs)))
        .collect();
    let end = libtest_mimic::run(&args, trials);
    lodger_tests::build::remove_scratch();
    end.exit();
}
