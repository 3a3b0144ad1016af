//! gdb on the kernel process, as the README shows it: a breakpoint on a system
//! call's function stops, locals and a backtrace are there, and no signal gets in the way.

use lodger_tests::build::{Link, cargo, guest, lodger, root, target_dir};
use std::path::Path;
use std::process::{Command, Stdio};

/// What gdb says when it runs `args` with these commands; `None` if it is not installed.
fn gdb(commands: &[&str], program: &Path, args: &[&str]) -> Option<String> {
    let installed = Command::new("gdb")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if !installed.is_ok_and(|s| s.success()) {
        eprintln!("skipped: gdb is not installed");
        return None;
    }
    let mut c = Command::new("timeout");
    c.args(["-s", "KILL", "120", "gdb", "-q", "-nx", "-batch"]);
    for x in ["set breakpoint pending off", "set debuginfod enabled off"] {
        c.args(["-ex", x]);
    }
    for x in commands {
        c.args(["-ex", x]);
    }
    c.arg("--args").arg(program).args(args);
    let out = c.current_dir(root()).stdin(Stdio::null()).output();
    let out = out.expect("gdb");
    let text = [out.stdout, out.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    // What `handle` answers is a table that names the signals.
    let is_answer = |l: &&str| l.starts_with("SIGSEGV ") && l.ends_with("Segmentation fault");
    let events: Vec<&str> = text.lines().filter(|l| !is_answer(l)).collect();
    let events = events.join("\n");
    for bad in [
        "SIGSEGV",
        "received signal",
        "corrupt stack",
        "Backtrace stopped",
        "SIGTRAP",
        "Traceback",
    ] {
        assert!(!events.contains(bad), "{bad:?} in:\n{text}");
    }
    Some(text)
}

/// All of these are in what gdb says.
fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

#[test]
fn breakpoint_on_a_system_call() {
    // Locals need the debug build, whatever profile the tests have.
    let dir = target_dir();
    let built = cargo()
        .args(["build", "-q", "-p", "lodger", "--target-dir"])
        .arg(&dir)
        .status()
        .expect("cargo");
    assert!(built.success(), "the debug build fails");
    let commands = [
        "break kernel_syscall::open::sys_openat",
        "run",
        "next 3",
        "info locals",
        "info args",
        "backtrace",
        "delete",
        "continue",
    ];
    let args = ["run", "--", "true"];
    let Some(text) = gdb(&commands, &dir.join("debug/lodger"), &args) else {
        return;
    };
    let parts = [
        "Breakpoint 1, kernel_syscall::open::sys_openat",
        "cx = ",
        "flags = ",
        "creates = false",
        "task::run::Calls::carry_out (self=",
        "user_loop",
        "exited normally",
    ];
    assert_has(&text, &parts);
}

fn line_of_getppid() -> usize {
    let mut lines = include_str!("../../kernel/syscall/src/ids.rs").lines();
    let before = lines.position(|l| l.starts_with("pub fn sys_getppid"));
    before.expect("sys_getppid") + 1
}

/// Line tables are enough for a place and a backtrace.
#[test]
fn breakpoint_in_the_build_under_test() {
    let at = format!("break ids.rs:{}", line_of_getppid());
    let commands = [at.as_str(), "run", "backtrace", "delete", "continue"];
    let args = ["run", "--", "/bin/sh", "-c", "exit 7"];
    let Some(text) = gdb(&commands, lodger(), &args) else {
        return;
    };
    let parts = [
        "sys_getppid",
        "carry_out ()",
        "user_loop",
        "exited with code 07",
    ];
    assert_has(&text, &parts);
}

/// In the engine `kml` a system call's function runs in a user process: gdb follows all.
#[test]
fn breakpoint_in_a_user_process() {
    let line = line_of_getppid();
    let at = format!("break ids.rs:{line}");
    let commands = [
        "set detach-on-fork off",
        "set schedule-multiple on",
        "handle SIGSEGV SIGSYS SIGILL nostop noprint pass",
        at.as_str(),
        "run",
        "backtrace",
        "delete",
        // The zygote and the program: gdb says of one of them how the machine's end kills it.
        "detach inferiors 2 3",
        "inferior 1",
        "continue",
    ];
    let args = ["run", "--engine", "kml", "--", "/bin/sh", "-c", "exit 7"];
    let Some(text) = gdb(&commands, lodger(), &args) else {
        return;
    };
    let parts = [
        "\"lodger-user\" hit Breakpoint 1",
        "sys_getppid",
        "carry_out ()",
        "user_loop",
        "exited with code 07",
    ];
    assert_has(&text, &parts);
}

/// A kick of a vCPU may find its thread at any instruction of the way into the kernel and out of it.
#[test]
fn kicks_at_each_instruction() {
    let line = line_of_getppid();
    let at = format!("break ids.rs:{line}");
    let commands = [
        "set detach-on-fork off",
        "set schedule-multiple on",
        "handle SIGSEGV SIGSYS SIGILL SIGURG SIGALRM nostop noprint pass",
        at.as_str(),
        "run",
        "source tests/gdb/each_instruction.py",
        "detach inferiors 2 3",
        "inferior 1",
        "continue",
    ];
    let guest = guest(Link::Static);
    let guest = guest.to_string_lossy();
    let args = ["run", "--engine", "kml", "--cpus", "1", "--", &guest];
    let args = [&args[..], &["--tool", "steady", "2000000"]].concat();
    let Some(text) = gdb(&commands, lodger(), &args) else {
        return;
    };
    assert_has(
        &text,
        &["kicked at ", "steady, signals true", "exited normally"],
    );
    let kicked = text.lines().find_map(|l| l.strip_prefix("kicked at "));
    let (hit, all) = kicked.and_then(|k| k.split_once(" of ")).expect("numbers");
    assert!(hit == all && hit.len() == 3, "not at each of them:\n{text}");
}
