//! The bench works: every row yields a number, and nothing is left behind.

use std::process::Command;

#[test]
fn every_row_yields_a_number() {
    let out = Command::new(env!("CARGO_BIN_EXE_lodger"))
        .args(["bench", "--quick", "--rounds", "1", "--json"])
        .output()
        .expect("lodger");
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{err}");
    let text = String::from_utf8_lossy(&out.stdout);
    let names: Vec<&str> = text.lines().filter_map(|l| field(l, "name")).collect();
    let missing = |p: &str| Command::new(p).arg("--version").output().is_err();
    let mut expected = vec![];
    for f in [
        "getppid",
        "zero",
        "pread",
        "stat",
        "open",
        "pipe-self",
        "pipe-threads",
        "futex-threads",
        "futex",
        "signal",
        "map",
        "thread",
        "call",
        "clock",
        "touch",
        "fork",
        "exec",
        "pipe",
        "untar",
        "git",
        "grep",
        "sqlite",
        "python",
        "loop",
    ] {
        expected.extend([format!("{f}.seccomp"), format!("{f}.kml")]);
        if ["call", "clock", "touch", "fork", "exec", "pipe", "python"].contains(&f) {
            expected.push(format!("{f}.unpinned"));
        }
        if ["untar", "git", "grep", "sqlite", "python", "loop"].contains(&f) {
            let peers = [("uml", "linux.uml"), ("gvisor", "runsc")];
            let there = peers.iter().filter(|(_, program)| !missing(program));
            expected.extend(there.map(|(peer, _)| format!("{f}.{peer}")));
        }
    }
    expected.extend(["start", "start.unpinned", "scaling"].map(String::from));
    expected.extend(["memory", "rss", "ticks", "cpu", "switches"].map(|n| format!("idle.{n}")));
    // Programs that this host does not have are not measured.
    let absent: Vec<&str> = [
        ("python.", "python3"),
        ("sqlite.", "sqlite3"),
        ("git.", "git"),
    ]
    .iter()
    .filter(|(_, program)| missing(program))
    .map(|(prefix, _)| *prefix)
    .collect();
    assert_eq!(names, expected, "{err}");
    for line in text.lines() {
        if absent
            .iter()
            .any(|a| field(line, "name").is_some_and(|n| n.starts_with(a)))
        {
            continue;
        }
        let value = field(line, "value").and_then(|v| v.parse::<f64>().ok());
        let zero = field(line, "name").is_some_and(|n| n.starts_with("idle."));
        let good = value.is_some_and(|v| v.is_finite() && (v > 0.0 || zero && v >= 0.0));
        assert!(good, "{line}\n{err}");
    }
}

#[test]
fn bad_options_are_refused() {
    for args in [&["--wrong"][..], &["nosuchfigure"], &["--rounds", "0"]] {
        let out = Command::new(env!("CARGO_BIN_EXE_lodger"))
            .arg("bench")
            .args(args)
            .output()
            .expect("lodger");
        assert_eq!(out.status.code(), Some(125), "{args:?}");
        assert!(!out.stderr.is_empty(), "{args:?}");
    }
}

/// The value of a key in a flat JSON object, without its quotes.
fn field<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let at = line.find(&format!("\"{key}\":"))? + key.len() + 3;
    let rest = line.get(at..)?;
    match rest.strip_prefix('"') {
        Some(s) => s.split('"').next(),
        None => rest.split([',', '}']).next(),
    }
}
