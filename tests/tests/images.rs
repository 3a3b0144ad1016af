//! The recipes of `images/` make roots that machines run from.

use lodger_tests::build::{root, scratch};
use lodger_tests::engine::Engine;
use lodger_tests::machine::Run;
use lodger_tests::suite::Suite;
use std::process::{Command, Stdio};

fn busybox_root() -> Result<(), String> {
    let recipe = root().join("images/busybox");
    let dir = scratch().join(format!("busybox root {}", Engine::current().name()));
    let made = Command::new(&recipe)
        .arg(&dir)
        .stderr(Stdio::piped())
        .output()
        .expect("the recipe runs");
    let complaint = String::from_utf8_lossy(&made.stderr).into_owned();
    if complaint.contains("no busybox in PATH") || complaint.contains("is not a static program") {
        eprintln!("skipped: {complaint}");
        return Ok(());
    }
    assert!(made.status.success(), "{complaint}");

    let script = "grep -c . /etc/passwd; cd /tmp; echo text > file; ls /; cat file; touch /bin/new && echo made";
    let got = Run::lodger(&["--workdir", "/"])
        .arg("--root")
        .arg(&dir)
        .args(["--", "/bin/sh", "-c", script])
        .limit(60)
        .run();
    assert_eq!(
        (got.code(), got.out().as_str()),
        (
            0,
            "2\nbin\ndev\netc\nhome\nproc\nroot\nrun\nsbin\nsys\ntmp\nusr\nvar\ntext\nmade\n"
        ),
        "{}",
        got.err_tail()
    );
    // The machine's writes went to its own layer.
    assert!(!dir.join("bin/new").exists() && !dir.join("tmp/file").exists());

    let again = Command::new(&recipe)
        .arg(&dir)
        .output()
        .expect("the recipe runs");
    assert_eq!(again.status.code(), Some(1), "a full directory is refused");
    Ok(())
}

fn main() {
    let mut suite = Suite::new("images");
    suite.add("busybox_root", busybox_root);
    suite.run();
}
