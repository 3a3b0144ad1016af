//! Checks of the source tree: layers, no std and no mutable statics in the kernel,
//! unsafe code where it may be and with its reason, files that can be read in one go.

use lodger_tests::build::{cargo, root, target_dir};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Layer of each kernel crate: it may depend on lower ones only.
const LAYERS: &[(&str, u32)] = &[
    ("lodger-abi", 0),
    ("lodger-hal", 1),
    ("lodger-sync", 2),
    ("lodger-mm", 3),
    ("lodger-vfs", 4),
    ("lodger-tmpfs", 5),
    ("lodger-hostfs", 5),
    ("lodger-ipc", 5),
    ("lodger-net", 5),
    ("lodger-overlay", 6),
    ("lodger-task", 7),
    ("lodger-tty", 8),
    ("lodger-procfs", 8),
    ("lodger-sysfs", 8),
    ("lodger-devfs", 8),
    ("lodger-syscall", 9),
    ("lodger-boot", 10),
];

/// Crates from outside that the kernel may use.
const KERNEL_MAY_USE: &[&str] = &[
    "bitflags",
    "hashbrown",
    "linux-raw-sys",
    "zerocopy",
    "lock_api",
    "intrusive-collections",
    "rand_chacha",
    "crc",
];

/// What the crates beside the kernel may use of the tree.
const BESIDE: &[(&str, &[&str])] = &[
    ("lodger-host-sys", &[]),
    (
        "lodger-host-os",
        &["lodger-abi", "lodger-hal", "lodger-host-sys"],
    ),
    (
        "lodger-arch-um",
        &["lodger-abi", "lodger-hal", "lodger-host-sys"],
    ),
    ("lodger-hal-fake", &["lodger-abi", "lodger-hal"]),
    ("lodger-guest", &[]),
    ("lodger-bench", &[]),
];

/// Kernel crates that may contain unsafe code.
const MAY_BE_UNSAFE: &[&str] = &[
    "kernel/hal/",
    "kernel/hal-fake/",
    "kernel/mm/",
    "kernel/sync/",
];

/// Direct dependencies of every package, as cargo resolves them.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let out = cargo()
        .args([
            "tree",
            "--workspace",
            "--depth",
            "1",
            "-e",
            "normal",
            "--prefix",
            "depth",
            "--no-dedupe",
            "--offline",
        ])
        .output()
        .expect("cargo tree");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let mut map: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut last = String::new();
    for line in String::from_utf8_lossy(&out.stdout).lines() {
        let Some(name) = line.get(1..).and_then(|l| l.split(' ').next()) else {
            continue;
        };
        if line.starts_with('0') {
            last = name.to_string();
            map.entry(last.clone()).or_default();
        } else if line.starts_with('1') {
            map.entry(last.clone()).or_default().push(name.to_string());
        }
    }
    map
}

#[test]
fn layers() {
    let all = dependencies();
    let layer: BTreeMap<&str, u32> = LAYERS.iter().copied().collect();
    let mut wrong = vec![];
    for (name, deps) in &all {
        for d in deps {
            let ours = all.contains_key(d);
            let good = match (layer.get(name.as_str()), layer.get(d.as_str())) {
                (Some(a), Some(b)) => a > b,
                (Some(_), None) => KERNEL_MAY_USE.contains(&d.as_str()),
                (None, _) => {
                    !ours
                        || BESIDE
                            .iter()
                            .find(|(n, _)| n == name)
                            .is_none_or(|(_, ok)| ok.contains(&d.as_str()))
                }
            };
            if !good {
                wrong.push(format!("{name} must not depend on {d}"));
            }
        }
        let known = layer.contains_key(name.as_str())
            || BESIDE.iter().any(|(n, _)| n == name)
            || ["lodger", "lodger-tests"].contains(&name.as_str());
        if !known {
            wrong.push(format!("{name} has no place in the table of layers"));
        }
    }
    assert!(all.len() > 15, "cargo tree shows too little: {all:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Builds the kernel without std, then looks for statics that could change.
#[test]
fn no_std_and_no_mutable_statics() {
    let dir = target_dir().join("nostd");
    let out = cargo()
        .args([
            "build",
            "-q",
            "--offline",
            "--manifest-path",
            "tests/nostd/Cargo.toml",
            "--target-dir",
        ])
        .arg(&dir)
        .env_remove("RUSTFLAGS")
        .output()
        .expect("cargo");
    assert!(
        out.status.success(),
        "the kernel does not build without std:\n{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let deps = dir.join("debug/deps");
    let crates = [
        "abi",
        "hal",
        "sync",
        "mm",
        "vfs",
        "ipc",
        "net",
        "task",
        "tty",
        "kernel_syscall",
        "boot",
        "tmpfs",
        "hostfs",
        "overlay",
        "procfs",
        "sysfs",
        "devfs",
    ];
    let mut wrong = vec![];
    for name in crates {
        let prefix = format!("lib{name}-");
        let rlibs: Vec<PathBuf> = std::fs::read_dir(&deps)
            .expect("built crates")
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.extension().is_some_and(|e| e == "rlib"))
            .filter(|p| {
                p.file_name()
                    .is_some_and(|n| n.to_string_lossy().starts_with(&prefix))
            })
            .collect();
        // Of several builds the newest counts.
        let newest = rlibs
            .iter()
            .max_by_key(|p| p.metadata().and_then(|m| m.modified()).ok());
        let rlib = newest.unwrap_or_else(|| panic!("{name} was not built"));
        let Ok(out) = Command::new("objdump").arg("-t").arg(rlib).output() else {
            eprintln!("objdump is not installed: statics are not checked");
            return;
        };
        for line in String::from_utf8_lossy(&out.stdout).lines() {
            let f: Vec<&str> = line.split_whitespace().collect();
            let Some(at) = f.iter().position(|w| {
                [".data", ".bss", ".tdata", ".tbss"]
                    .iter()
                    .any(|s| *w == *s || w.starts_with(&format!("{s}.")))
            }) else {
                continue;
            };
            // Relocated constants are not written after the program has started.
            let size = f
                .get(at + 1)
                .and_then(|s| u64::from_str_radix(s, 16).ok())
                .unwrap_or(0);
            if size > 0 && !f[at].starts_with(".data.rel.ro") {
                wrong.push(format!("{name}: {}", f[at..].join(" ")));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "statics that could change:\n{}",
        wrong.join("\n")
    );
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for e in std::fs::read_dir(dir).expect("directory").flatten() {
        let p = e.path();
        let name = e.file_name();
        let name = name.to_string_lossy();
        if p.is_dir() {
            if name != "target" && !name.starts_with(".git") {
                walk(&p, found);
            }
        } else {
            found.push(p);
        }
    }
}

/// Text files of the tree with their path from the root.
fn sources(extensions: &[&str]) -> Vec<(String, String)> {
    let mut found = vec![];
    walk(root(), &mut found);
    found.sort();
    found
        .into_iter()
        .filter(|p| {
            p.extension()
                .is_some_and(|e| extensions.contains(&e.to_string_lossy().as_ref()))
        })
        .filter_map(|p| {
            let name = p.strip_prefix(root()).ok()?.to_string_lossy().into_owned();
            Some((name, std::fs::read_to_string(&p).ok()?))
        })
        .collect()
}

#[test]
fn files_have_readable_length() {
    let list =
        std::fs::read_to_string(root().join("tests/known/length.txt")).expect("list of exceptions");
    let allowed: BTreeMap<&str, &str> = list
        .lines()
        .filter(|l| !l.starts_with('#'))
        .filter_map(|l| l.split_once(": "))
        .collect();
    let mut wrong = vec![];
    for (name, text) in sources(&["rs"]) {
        let n = text.lines().count();
        match (n > 800, allowed.contains_key(name.as_str())) {
            (true, false) => wrong.push(format!("{name} has {n} lines")),
            (false, true) => wrong.push(format!(
                "{name} is short enough now; take it off tests/known/length.txt"
            )),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether the code at byte `at` of this line is inside a string or comment.
fn quoted(line: &str, at: usize) -> bool {
    let before = &line[..at];
    before.contains("//") || before.matches('"').count() % 2 == 1
}

#[test]
fn unsafe_code_states_why() {
    let mut wrong = vec![];
    for (name, text) in sources(&["rs"]) {
        // Raw calls are what these programs are about; see the manifest.
        if name.starts_with("tests/guest/") {
            continue;
        }
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            let block = line.find("unsafe {").or_else(|| line.find("unsafe impl"));
            let Some(at) = block else { continue };
            if quoted(line, at) || line.contains("unsafe extern") {
                continue;
            }
            let near = &lines[i.saturating_sub(12)..=i];
            if !near
                .iter()
                .any(|l| l.contains("SAFETY") || l.contains("# Safety"))
            {
                wrong.push(format!("{name}:{}: {}", i + 1, line.trim()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "unsafe without SAFETY:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn unsafe_code_has_an_address() {
    let mut wrong = vec![];
    for (name, text) in sources(&["rs"]) {
        let is_root = name.starts_with("kernel/") && name.ends_with("/src/lib.rs");
        if !is_root || MAY_BE_UNSAFE.iter().any(|p| name.starts_with(p)) {
            continue;
        }
        let deny = name.starts_with("kernel/task/") && text.contains("#![deny(unsafe_code)]");
        if !deny && !text.contains("#![forbid(unsafe_code)]") {
            wrong.push(name.clone());
        }
        if !text.contains("#![no_std]") {
            wrong.push(format!("{name}: no #![no_std]"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Neither the place where the tree happens to lie nor a home directory belongs into it.
#[test]
fn no_path_of_one_machine() {
    let here = format!("{}/", root().display());
    // Put together, so that this file does not contain them.
    let words = [here, ["/ro", "ot/."].concat(), ["/wo", "rk/"].concat()];
    let mut wrong = vec![];
    for (name, text) in sources(&["rs", "toml", "md", "sh", "txt"]) {
        for (i, line) in text.lines().enumerate() {
            if let Some(w) = words.iter().find(|w| line.contains(w.as_str())) {
                wrong.push(format!("{name}:{}: {w}", i + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every crate opens with what it is.
#[test]
fn crates_introduce_themselves() {
    let wrong: Vec<String> = sources(&["rs"])
        .into_iter()
        .filter(|(n, _)| n.ends_with("src/lib.rs") || n.ends_with("src/main.rs"))
        .filter(|(_, t)| !t.starts_with("//!"))
        .map(|(n, _)| n)
        .collect();
    assert!(wrong.is_empty(), "no //! at the top: {wrong:?}");
}
