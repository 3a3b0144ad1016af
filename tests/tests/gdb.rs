//! gdb on the kernel process, as the README shows it: a breakpoint on a system
//! call's function stops, locals and a backtrace are there, and no signal gets in the way.

use lodger_tests::build::{cargo, root, target_dir};
use std::process::{Command, Stdio};

#[test]
fn breakpoint_on_a_system_call() {
    let installed = Command::new("gdb")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if !installed.is_ok_and(|s| s.success()) {
        eprintln!("gdb is not installed");
        return;
    }
    // Locals need the debug build, whatever profile the tests have.
    let dir = target_dir();
    let built = cargo()
        .args(["build", "-q", "-p", "lodger", "--target-dir"])
        .arg(&dir)
        .status()
        .expect("cargo");
    assert!(built.success(), "the debug build fails");
    let out = Command::new("timeout")
        .args(["-s", "KILL", "120", "gdb", "-q", "-nx", "-batch"])
        .args([
            "-ex",
            "set confirm off",
            "-ex",
            "set breakpoint pending off",
        ])
        .args(["-ex", "set debuginfod enabled off"])
        .args(["-ex", "handle SIGALRM SIGURG nostop noprint pass"])
        .args([
            "-ex",
            "break kernel_syscall::ids::sys_getppid",
            "-ex",
            "run",
        ])
        .args([
            "-ex",
            "info locals",
            "-ex",
            "info args",
            "-ex",
            "backtrace",
            "-ex",
            "delete",
            "-ex",
            "continue",
        ])
        .arg("--args")
        .arg(dir.join("debug/lodger"))
        .args(["run", "--cpus", "1", "--", "/bin/sh", "-c", "exit 7"])
        .current_dir(root())
        .stdin(Stdio::null())
        .output()
        .expect("gdb");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    let has = |s: &str| assert!(text.contains(s), "{s:?} is missing in:\n{text}");
    has("Breakpoint 1, kernel_syscall::ids::sys_getppid");
    has("cx = ");
    has("dispatch");
    has("exited with code 07");
    for bad in ["SIGSEGV", "corrupt stack", "Backtrace stopped", "SIGTRAP"] {
        assert!(!text.contains(bad), "{bad:?} in:\n{text}");
    }
}
