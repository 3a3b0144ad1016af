//! What is peculiar to the engine `kml`: call sites that are rewritten while threads are in them, and
//! programs that destroy their kernel.

use libtest_mimic::Failed;
use lodger_tests::build::{self, Link, guest};
use lodger_tests::engine::Engine;
use lodger_tests::host::Marker;
use lodger_tests::machine::{Outcome, Run};
use lodger_tests::suite::Suite;
use std::time::{SystemTime, UNIX_EPOCH};

/// One run of the guest's `race`.
#[derive(Clone, Copy)]
struct Race {
    cpus: &'static str,
    threads: &'static str,
    storms: &'static [&'static str],
    calls: u64,
}

/// Another one in each run, unless `LODGER_SEED` says which.
fn seed() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let random = now.map_or(1, |d| d.subsec_nanos());
    std::env::var("LODGER_SEED").unwrap_or(random.to_string())
}

impl Race {
    /// With `program` in front of the guest's command line.
    fn run(self, program: Run) -> Result<(), Failed> {
        let seed = seed();
        let calls = self.calls.to_string();
        let out = program
            .arg(guest(Link::Static))
            .args(["--tool", "race", &calls, self.threads, &seed])
            .args(self.storms)
            .dir(build::memory_scratch())
            .limit(60 + self.calls / 500)
            .run();
        if std::env::var_os("LODGER_VERBOSE").is_some() {
            eprintln!("{:?} {}", out.took, out.out());
        }
        let clean = out.out().ends_with("\nclean\n");
        if out.code() == 0 && clean && out.left == 0 {
            return Ok(());
        }
        Err(format!("seed {seed}: {}", text(&out)).into())
    }
    fn in_machine(self) -> Result<(), Failed> {
        self.run(Run::lodger(&["--tick-us", "50", "--cpus", self.cpus, "--"]))
    }
}

/// What the line says with which such a machine ends.
const REPORTS: [&str; 4] = [
    "lodger: kernel panic: ",
    "lodger: kernel fault",
    " crashed by signal ",
    "lodger: the kernel does not answer",
];
/// Exit status of a machine whose kernel has crashed.
const KERNEL_PANIC: i32 = 120;

/// A guest that destroys its kernel: the machine ends with a report, and nothing else happens.
fn destroy(kind: &str, then: &str, cpus: &str) -> Result<(), Failed> {
    let marker = Marker::new(&format!("destroy-{kind}")).map_err(|e| e.to_string())?;
    // The program may lose its way into the kernel, and die of that: others go on.
    let script = "\"$0\" --tool destroy \"$1\" \"$2\"; while :; do :; done";
    let out = Run::lodger(&[
        "--mem", "64M", "--cpus", cpus, "--", "/bin/sh", "-c", script,
    ])
    .arg(guest(Link::Static))
    .args([kind, then])
    .dir(&marker.dir)
    .run();
    if std::env::var_os("LODGER_VERBOSE").is_some() {
        eprintln!("{:?} {}", out.took, text(&out));
    }
    let changes = marker.changes();
    let reported = REPORTS.iter().any(|r| out.err().contains(r));
    let destroyed = out.out().starts_with("destroying\n");
    if out.code() == KERNEL_PANIC && reported && out.left == 0 && destroyed && changes.is_empty() {
        return Ok(());
    }
    Err(format!("{kind} {then} {cpus}: {changes:?} {}", text(&out)).into())
}

/// All kinds at once: some are found out only after 20 s.
fn destroy_all(n: usize) -> Result<(), Failed> {
    const KINDS: [&str; 8] = [
        "memory",
        "zeros",
        "stack",
        "way",
        "heap",
        "variables",
        "no-variables",
        "locks",
    ];
    const FORMS: [(&str, &str); 4] = [("calls", "1"), ("spin", "2"), ("calls", "2"), ("spin", "1")];
    let engine = Engine::current();
    std::thread::scope(|s| {
        let started = KINDS.iter().enumerate().map(|(i, kind)| {
            let (then, cpus) = FORMS[(i + n) % FORMS.len()];
            s.spawn(move || {
                engine.select();
                destroy(kind, then, cpus)
            })
        });
        let started: Vec<_> = started.collect();
        let ended = started.into_iter().map(|t| t.join().expect("no panic"));
        ended.collect::<Vec<_>>().into_iter().collect()
    })
}

/// A program with a GS base of its own, one that single-steps itself, one that has its code mapped for writing: a line each in the log.
fn falls_back() -> Result<(), Failed> {
    let gs = "my $a = \"x\" x 4096; syscall 158, 0x1001, $a; syscall 39 for 1..9; print 'ran'";
    let out = Run::lodger(&["--log-level", "info", "--", "perl", "-e", gs]).run();
    let lines = |o: &Outcome, part: &str| o.err().lines().filter(|l| l.contains(part)).count();
    let told = lines(&out, "system calls trap from now on: a GS base of its own");
    if out.code() != 0 || out.out() != "ran" || told != 1 {
        return Err(text(&out).into());
    }
    let run = |test: &str| {
        Run::lodger(&["--log-level", "info", "--"])
            .arg(guest(Link::Static))
            .arg(test)
            .dir(build::memory_scratch())
            .run()
    };
    for (test, line) in [
        (
            "calls::single_steps",
            "system calls trap from now on: it single-steps itself",
        ),
        (
            "code::alias",
            "some system calls trap: others can write to their code",
        ),
    ] {
        let out = run(test);
        if out.code() != 0 || lines(&out, line) == 0 {
            return Err(text(&out).into());
        }
    }
    // Pages that have gone take no place.
    let out = run("code::at_many_places");
    match (out.code(), lines(&out, "too many pages")) {
        (0, 0) if out.out() == "400\n" => Ok(()),
        _ => Err(text(&out).into()),
    }
}

fn text(o: &Outcome) -> String {
    let (code, left) = (o.code(), o.left);
    format!("status {code}, {left} left\n{}{}", o.out(), o.err_tail())
}

fn main() {
    let mut suite = Suite::new("kml").one_by_one();
    let calls = if lodger_tests::long() {
        1_000_000
    } else {
        40_000
    };
    let race = move |cpus, threads, storms| Race {
        cpus,
        threads,
        storms,
        calls,
    };
    let all = &["all"][..];
    suite.add_on_host("race_on_host", move || {
        race("", "3", all).run(Run::command("env"))
    });
    let mut races = vec![
        ("race_cpus1", race("1", "2", &[])),
        ("race_all_cpus1", race("1", "2", all)),
        ("race_all_cpus2", race("2", "3", all)),
        ("race_all_cpus4", race("4", "4", all)),
    ];
    if lodger_tests::long() {
        races.extend([
            ("race_cpus2", race("2", "3", &[])),
            ("race_cpus4", race("4", "4", &[])),
            ("race_signals", race("2", "3", &["signals"])),
            ("race_forks", race("2", "2", &["forks"])),
            ("race_maps", race("2", "3", &["maps", "rights"])),
            ("race_room", race("2", "3", &["room"])),
            ("race_files", race("2", "3", &["files"])),
        ]);
    }
    for (name, r) in races {
        suite.add_under(Engine::Kml, name, move || r.in_machine());
    }
    suite.add_under(Engine::Kml, "falls_back", falls_back);
    // In the short form each kind once.
    let forms = if lodger_tests::long() { 4 } else { 1 };
    for n in 0..forms {
        suite.add_under(Engine::Kml, &format!("destroy_{n}"), move || destroy_all(n));
    }
    suite.run();
}
