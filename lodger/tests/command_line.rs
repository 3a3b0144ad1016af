//! Mistakes on the command line and limits of the host: one clear line, status
//! 125, and nothing left behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

fn lodger(args: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_lodger"));
    c.args(args).stdin(Stdio::null());
    c
}

fn output(c: &mut Command) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = c.output().expect("lodger starts");
    (
        status.code().unwrap_or(-1),
        String::from_utf8(stdout).expect("text"),
        String::from_utf8(stderr).expect("text"),
    )
}

/// Runs, and expects one line that says `part`.
fn refused(c: &mut Command, part: &str) {
    let (code, out, err) = output(c);
    assert_eq!(code, 125, "{err}");
    assert_eq!(out, "");
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(err.starts_with("lodger: "), "{err}");
    assert!(err.contains(part), "{part:?} is not in {err:?}");
}

fn temp(name: &str) -> PathBuf {
    let p = std::env::temp_dir().join(format!("lodger-cli-{}-{name}", std::process::id()));
    fs::create_dir_all(&p).expect("temporary directory");
    p
}

#[test]
fn unknown_words_get_a_suggestion() {
    refused(&mut lodger(&["run", "--strac", "true"]), "'--strace'");
    refused(&mut lodger(&["rum", "true"]), "'run'");
    refused(
        &mut lodger(&["run", "--engine", "seccom", "true"]),
        "'seccomp'",
    );
    refused(&mut lodger(&["run"]), "CMD");
    refused(&mut lodger(&["run", "--log-level", "loud", "true"]), "loud");
}

#[test]
fn values_are_checked() {
    refused(&mut lodger(&["run", "--cpus", "0", "true"]), "1 to 64");
    refused(&mut lodger(&["run", "--cpus", "65", "true"]), "1 to 64");
    refused(&mut lodger(&["run", "--mem", "1M", "true"]), "at least 32M");
    refused(&mut lodger(&["run", "--mem", "512", "true"]), "512M?");
    refused(&mut lodger(&["run", "--mem", "2T", "true"]), "at most");
    refused(&mut lodger(&["run", "--mem", "12Q", "true"]), "512M");
    refused(
        &mut lodger(&["run", "--root", "/no/such/dir", "true"]),
        "No such file",
    );
    refused(
        &mut lodger(&["run", "--root", "/etc/passwd", "true"]),
        "not a directory",
    );
    refused(
        &mut lodger(&["run", "--bind", "/no/such/dir", "true"]),
        "No such file",
    );
    refused(
        &mut lodger(&["run", "--bind", "/a:b:c:d", "true"]),
        "HOST[:GUEST][:ro]",
    );
    refused(
        &mut lodger(&["run", "--user", "nobody-of-that-name", "true"]),
        "no user",
    );
    refused(
        &mut lodger(&["run", "--workdir", "/a/../b", "true"]),
        "'..'",
    );
}

#[test]
fn help_names_the_exit_statuses() {
    let (code, out, err) = output(&mut lodger(&["run", "--help"]));
    assert_eq!((code, err.as_str()), (0, ""));
    for part in [
        "120",
        "125",
        "126",
        "127",
        "128+N",
        "--memory-file",
        "HOST[:GUEST][:ro]",
    ] {
        assert!(out.contains(part), "{part}");
    }
    let (code, out, _) = output(&mut lodger(&["--version"]));
    assert_eq!(code, 0);
    assert!(out.starts_with("lodger "));
}

#[test]
fn a_memory_file_is_not_any_file() {
    let d = temp("memfile");
    let precious = d.join("precious");
    fs::write(&precious, "do not touch").expect("file");
    let arg = precious.to_str().expect("text");
    refused(
        &mut lodger(&["run", "--memory-file", arg, "true"]),
        "not a memory file",
    );
    assert_eq!(fs::read(&precious).expect("file"), b"do not touch");
    let nowhere = d.join("no/file");
    let arg = nowhere.to_str().expect("text");
    refused(
        &mut lodger(&["run", "--memory-file", arg, "true"]),
        "No such file",
    );
    refused(
        &mut lodger(&["run", "--memory-file", "/dev/null", "true"]),
        "not a memory file",
    );
    fs::remove_dir_all(&d).expect("removed");
}

#[test]
fn limits_of_the_host_are_named() {
    let limited = |resource: libc::__rlimit_resource_t, n: u64| {
        let mut c = lodger(&["run", "--mem", "256M", "true"]);
        let lim = libc::rlimit {
            rlim_cur: n,
            rlim_max: n,
        };
        // SAFETY: setrlimit(2) is safe between fork and exec.
        unsafe {
            c.pre_exec(move || match libc::setrlimit(resource, &lim) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        c
    };
    refused(&mut limited(libc::RLIMIT_FSIZE, 1 << 20), "ulimit -f");
    refused(&mut limited(libc::RLIMIT_AS, 200 << 20), "ulimit -v");
}

#[test]
fn a_root_that_may_not_be_searched() {
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } == 0 {
        // Root may search everything.
        return;
    }
    let d = temp("locked");
    fs::set_permissions(&d, fs::Permissions::from_mode(0o0)).expect("mode");
    let arg = d.to_str().expect("text");
    refused(
        &mut lodger(&["run", "--root", arg, "true"]),
        "Permission denied",
    );
    fs::remove_dir(&d).expect("removed");
}
