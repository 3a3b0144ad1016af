//! Runs guest code for real. Each test is a process of its own, because the
//! zygote must be forked while there is one thread.

#[path = "guest/basic.rs"]
mod basic;
#[path = "guest/code.rs"]
mod code;
#[path = "guest/hostile.rs"]
mod hostile;
#[path = "guest/machine.rs"]
mod machine;

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

type Test = (&'static str, fn());

fn main() -> ExitCode {
    let tests: Vec<Test> = [basic::TESTS, hostile::TESTS].concat();
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name] = &args[..]
        && flag == "--one"
    {
        let test = tests.iter().find(|t| t.0 == name);
        test.expect("a known test").1();
        arch_um::kill_all();
        return ExitCode::SUCCESS;
    }
    if args.iter().any(|a| a == "--list") {
        tests.iter().for_each(|t| println!("{}: test", t.0));
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&String> = args.iter().filter(|a| !a.starts_with('-')).collect();
    let mut failed = 0;
    for (name, _) in tests {
        if !filters.is_empty() && !filters.iter().any(|f| name.contains(f.as_str())) {
            continue;
        }
        let began = Instant::now();
        let ok = run_one(name);
        let ms = began.elapsed().as_millis();
        println!(
            "test {name} ... {} ({ms} ms)",
            if ok { "ok" } else { "FAILED" }
        );
        failed += u32::from(!ok);
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run_one(name: &str) -> bool {
    let exe = std::env::current_exe().expect("own path");
    let mut child = Command::new(exe)
        .args(["--one", name])
        .spawn()
        .expect("a process for the test");
    let deadline = Instant::now() + LIMIT;
    loop {
        match child.try_wait().expect("the test's process") {
            Some(status) => return status.success(),
            None if Instant::now() > deadline => {
                println!("{name}: takes too long");
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}
