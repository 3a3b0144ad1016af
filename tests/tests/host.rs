//! What a machine does to the host: writes through `--bind`, and how a crash ends.

use libtest_mimic::Failed;
use lodger_tests::build::{Link, guest, scratch};
use lodger_tests::machine::Run;
use lodger_tests::suite::Suite;
use std::path::Path;
use std::time::{Duration, Instant};

/// Exit status after a panic or a fault of the kernel.
const KERNEL_PANIC: i32 = 120;

fn check(ok: bool, what: impl FnOnce() -> String) -> Result<(), Failed> {
    if ok { Ok(()) } else { Err(what().into()) }
}

/// Waits for `file` to start with `text`.
fn comes(file: &Path, text: &str, seconds: u64) -> Result<(), Failed> {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        let now = std::fs::read(file).unwrap_or_default();
        if now.starts_with(text.as_bytes()) {
            return Ok(());
        }
        check(Instant::now() < end, || {
            let start = &now[..now.len().min(16)];
            format!("{}: {start:?}, not {text:?}", file.display())
        })?;
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a program writes to a bind is in the host's files after fsync, sync and
/// msync; after some seconds without any; and after the end of the machine.
fn write_back() -> Result<(), Failed> {
    let dir = scratch().join("bound");
    // The test runs once for each engine.
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir)?;
    let program = guest(Link::Static);
    let bind = format!("{}:/bound", dir.display());
    let run = Run::lodger(&["--bind", &bind, "--"])
        .arg(program)
        .args(["--tool", "bind", "/bound"])
        .start();
    let is = |name: &str, text: &str, seconds| comes(&dir.join(name), text, seconds);
    let end = Instant::now() + Duration::from_secs(20);
    while !dir.join("ready").exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    is("fsync", "by fsync", 0)?;
    is("sync", "by sync", 0)?;
    let end = Instant::now() + Duration::from_secs(20);
    while !dir.join("written").exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    is("open", "by time", 30)?;
    is("mapped", "later", 30)?;
    std::fs::write(dir.join("go"), "")?;
    let out = run.finish();
    check(out.code() == 0, || {
        format!("ended with {}\n{}", out.code(), out.err_tail())
    })?;
    is("mapped", "ended", 0)
}

/// A panic of the kernel: message, place, backtrace, memory file, exit status; nothing left.
fn panic() -> Result<(), Failed> {
    let memory = scratch().join("memory");
    let path = memory.to_string_lossy().into_owned();
    let out = Run::lodger(&["--memory-file", &path, "--"])
        .args(["/bin/sh", "-c", "echo c > /proc/sysrq-trigger; echo alive"])
        .run();
    let text = out.err();
    let says = |what: &str| {
        check(text.contains(what), || {
            format!("{what:?} is missing\n{text}")
        })
    };
    says("kernel panic: sysrq triggered crash")?;
    says("machine.rs:")?;
    says("sysrq\n")?;
    says("user_loop\n")?;
    says("memory file kept")?;
    check(out.code() == KERNEL_PANIC, || {
        format!("ended with {}\n{text}", out.code())
    })?;
    check(out.left == 0 && out.stdout.is_empty(), || {
        "something of it lived on".into()
    })?;
    check(memory.exists(), || "the memory file is gone".into())?;
    std::fs::remove_file(memory)?;
    Ok(())
}

/// A fault of the kernel process, while it idles and while a guest runs.
fn fault(script: &str) -> Result<(), Failed> {
    let run = Run::lodger(&["--"]).args(["/bin/sh", "-c", script]).start();
    std::thread::sleep(Duration::from_millis(1000));
    // SAFETY: a signal to a child of ours that has not been waited for.
    unsafe { libc::kill(run.child.id() as i32, libc::SIGSEGV) };
    let out = run.finish();
    let text = out.err();
    check(text.contains("kernel fault: SIGSEGV"), || {
        format!("no report\n{text}")
    })?;
    check(out.code() == KERNEL_PANIC && out.left == 0, || {
        format!("ended with {}, {} left\n{text}", out.code(), out.left)
    })
}

fn main() {
    let mut suite = Suite::new("host");
    suite.add("write-back", write_back);
    suite.add("kernel panic", panic);
    suite.add("kernel fault, idle", || fault("sleep 20"));
    suite.add("kernel fault, busy", || fault("while :; do :; done"));
    suite.run();
}
