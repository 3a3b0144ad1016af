//! Real programs: scripts that must print the same in a machine as on the host,
//! and interactive sessions on a terminal.
//!
//! A script runs in the machine first (which changes nothing on the host) and
//! then on the host, in the same directory. A program that is not installed
//! makes both print the same "not installed" line.

use libtest_mimic::{Arguments, Failed, Trial};
use lodger_tests::build::scratch;
use lodger_tests::known::Known;
use lodger_tests::machine::Run;
use lodger_tests::pty::Pty;

/// (name, programs it needs, script, seconds in the machine).
type Script = (&'static str, &'static [&'static str], &'static str, u64);

const SCRIPTS: &[Script] = &[
    ("shell", &["bash"], include_str!("../scripts/shell.sh"), 60),
    (
        "pipeline",
        &["find", "sort", "awk", "sed", "tar", "gzip", "sha256sum"],
        include_str!("../scripts/pipeline.sh"),
        600,
    ),
    (
        "coreutils",
        &["cp", "stat", "dd"],
        include_str!("../scripts/coreutils.sh"),
        60,
    ),
    (
        "python",
        &["python3"],
        include_str!("../scripts/python.sh"),
        120,
    ),
    (
        "make",
        &["make", "gcc"],
        include_str!("../scripts/make.sh"),
        300,
    ),
    ("git", &["git"], include_str!("../scripts/git.sh"), 300),
    ("perl", &["perl"], include_str!("../scripts/perl.sh"), 60),
    (
        "sqlite",
        &["sqlite3"],
        include_str!("../scripts/sqlite.sh"),
        120,
    ),
    (
        "procps",
        &["ps", "free"],
        include_str!("../scripts/procps.sh"),
        60,
    ),
    (
        "busybox",
        &["busybox"],
        include_str!("../scripts/busybox.sh"),
        60,
    ),
    (
        "streams",
        &["bash"],
        include_str!("../scripts/streams.sh"),
        60,
    ),
];

fn installed(p: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|v| std::env::split_paths(&v).any(|d| d.join(p).is_file()))
}

fn script((name, needs, text, limit): Script, cpus: &str) -> Result<(), Failed> {
    if let Some(missing) = needs.iter().find(|p| !installed(p)) {
        eprintln!("{name}: {missing} is not installed");
        return Ok(());
    }
    let dir = scratch().join(format!("{name}-{cpus}"));
    std::fs::create_dir_all(&dir)?;
    let path = dir.join("script.sh");
    std::fs::write(&path, text)?;
    let size = if lodger_tests::long() { "100" } else { "5" };
    let user = if lodger_tests::is_root() {
        vec![]
    } else {
        // SAFETY: no arguments, cannot fail.
        let (u, g) = unsafe { (libc::getuid(), libc::getgid()) };
        vec!["--user".to_string(), format!("{u}:{g}")]
    };
    let mut options = vec!["--cpus".to_string(), cpus.to_string()];
    options.extend(user);
    let with = |r: Run| {
        r.dir(&dir)
            .env("MEGABYTES", size)
            .env("HOME", &dir)
            .env("TZ", "UTC")
            .limit(limit * if lodger_tests::long() { 3 } else { 1 })
    };
    let machine = with(Run::lodger(&options).args(["--", "bash"]).arg(&path)).run();
    let now: Vec<_> = std::fs::read_dir(&dir)?
        .flatten()
        .map(|e| e.file_name())
        .collect();
    if now != ["script.sh"] {
        return Err(format!("the machine wrote to the host: {now:?}").into());
    }
    let host = with(Run::command("bash").arg(&path)).run();
    let _ = std::fs::remove_dir_all(&dir);
    if machine.left > 0 {
        return Err(format!("{} processes left behind", machine.left).into());
    }
    if host.code() == machine.code() && host.stdout == machine.stdout {
        return Ok(());
    }
    let (h, m) = (host.out(), machine.out());
    let at = h
        .lines()
        .zip(m.lines())
        .position(|(a, b)| a != b)
        .unwrap_or(h.lines().count().min(m.lines().count()));
    let show = |s: &str| {
        s.lines()
            .skip(at.saturating_sub(2))
            .take(8)
            .collect::<Vec<_>>()
            .join("\n    ")
    };
    Err(format!(
        "status: host {} machine {} after {:?}\nfrom line {}:\n  host:\n    {}\n  machine:\n    {}\nmachine's stderr: {}",
        host.code(),
        machine.code(),
        machine.took,
        at + 1,
        show(&h),
        show(&m),
        machine.err_tail()
    )
    .into())
}

/// Where an interactive session runs.
#[derive(Clone, Copy)]
enum On {
    Host,
    Machine,
}

fn session(on: On, cmd: &[&str]) -> Pty {
    let r = match on {
        On::Host => Run::command(cmd[0]).args(&cmd[1..]),
        On::Machine => Run::lodger(&["--cpus", "2"]).arg("--").args(cmd),
    };
    Pty::start(
        r.env("PS1", "P$ ").env("HISTFILE", "/dev/null").dir("/"),
        24,
        80,
    )
}

/// An interactive bash with a known prompt.
fn bash(on: On) -> Result<Pty, Failed> {
    let mut p = session(on, &["bash", "--norc", "--noprofile", "-i"]);
    p.expect("P$ ", 20)?;
    Ok(p)
}

fn run_line(p: &mut Pty, line: &str, want: &str) -> Result<(), Failed> {
    p.send(&format!("{line}\n"));
    p.expect(want, 15)?;
    p.expect("P$ ", 15)?;
    Ok(())
}

fn job_control(on: On) -> Result<(), Failed> {
    let mut p = bash(on)?;
    run_line(&mut p, "echo $((6*7)) $(tty | cut -c1-5)", "42 /dev/")?;
    p.send("sleep 100\n");
    std::thread::sleep(std::time::Duration::from_millis(300));
    p.send("\x03");
    p.expect("P$ ", 10)?;
    run_line(&mut p, "echo st=$?", "st=130")?;
    p.send("sleep 100\n");
    std::thread::sleep(std::time::Duration::from_millis(300));
    p.send("\x1a");
    p.expect("Stopped", 10)?;
    p.expect("P$ ", 10)?;
    run_line(&mut p, "jobs", "sleep 100")?;
    run_line(&mut p, "bg", "sleep 100 &")?;
    run_line(&mut p, "jobs", "Running")?;
    p.send("fg\n");
    p.expect("sleep 100", 10)?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    p.send("\x03");
    p.expect("P$ ", 10)?;
    p.send("cat\n");
    p.expect("cat", 5)?;
    p.send("a line\n");
    p.expect("a line\r\na line", 10)?;
    p.send("\x04");
    p.expect("P$ ", 10)?;
    run_line(&mut p, "sleep 0.2 & wait; echo waited", "waited")?;
    run_line(
        &mut p,
        "sleep 100 & kill %1; wait %1; echo killed=$?",
        "killed=143",
    )?;
    run_line(&mut p, "echo abc | (read x; echo got $x)", "got abc")?;
    // Line editing: left arrows, insertion, completion of a path.
    p.send("echo XZ\x1b[DY\n");
    p.expect("XYZ\r\n", 10)?;
    p.expect("P$ ", 10)?;
    p.send("ls -d /etc/hostn\t\n");
    p.expect("\r/etc/hostname", 10)?;
    p.expect("P$ ", 10)?;
    p.send("exit 9\n");
    let st = p.wait(10).ok_or("bash does not end")?;
    if st.code() != Some(9) {
        return Err(format!("exit status {st}").into());
    }
    Ok(())
}

fn window(on: On) -> Result<(), Failed> {
    let mut p = bash(on)?;
    run_line(&mut p, "stty size", "24 80")?;
    p.resize(50, 132);
    std::thread::sleep(std::time::Duration::from_millis(200));
    run_line(&mut p, "stty size", "50 132")?;
    run_line(&mut p, "trap 'echo W''INCH' WINCH; echo set", "set\r")?;
    p.resize(30, 90);
    std::thread::sleep(std::time::Duration::from_millis(200));
    run_line(&mut p, "stty size", "30 90")?;
    run_line(
        &mut p,
        "stty -echo; stty -a | grep -o -e '-echo '; stty echo",
        "-echo ",
    )?;
    run_line(
        &mut p,
        "test -t 0 && test -t 1 && test -t 2 && echo all''tty",
        "alltty",
    )?;
    p.send("exit\n");
    p.wait(10).ok_or("bash does not end")?;
    Ok(())
}

fn less(on: On) -> Result<(), Failed> {
    if !installed("less") {
        return Ok(());
    }
    let mut p = bash(on)?;
    p.send("seq 1 500 | less -X\n");
    p.expect("23", 10)?;
    p.send(" ");
    p.expect("46", 10)?;
    p.send("G");
    p.expect("500", 10)?;
    p.send("/^77$\n");
    p.send("g/^123$\n");
    p.expect("123", 10)?;
    p.send("q");
    p.expect("P$ ", 10)?;
    run_line(
        &mut p,
        "echo after''less; stty -a | grep -c icanon",
        "afterless",
    )?;
    Ok(())
}

fn vi(on: On) -> Result<(), Failed> {
    if !installed("vi") {
        return Ok(());
    }
    let mut p = bash(on)?;
    run_line(
        &mut p,
        "cd $(mktemp -d); printf 'one\\ntwo\\n' > f; echo made",
        "made\r",
    )?;
    p.send("vi -u NONE f\n");
    p.expect("one", 15)?;
    std::thread::sleep(std::time::Duration::from_millis(500));
    p.send("Gothree\x1b");
    std::thread::sleep(std::time::Duration::from_millis(400));
    p.send("1GxiO\x1b");
    std::thread::sleep(std::time::Duration::from_millis(400));
    p.send(":wq\r");
    p.expect("P$ ", 15)?;
    run_line(&mut p, "tr '\\n' + < f; echo", "One+two+three+")?;
    run_line(&mut p, "rm f; cd /; echo gone", "gone\r")?;
    Ok(())
}

fn top(on: On) -> Result<(), Failed> {
    if !installed("top") {
        return Ok(());
    }
    let mut p = bash(on)?;
    p.send("top -d 1\n");
    p.expect("load average", 15)?;
    p.expect("PID", 10)?;
    p.expect("bash", 10)?;
    p.expect("load average", 10)?;
    p.send("q");
    p.expect("P$ ", 10)?;
    run_line(&mut p, "echo after''top", "aftertop")?;
    Ok(())
}

fn hang_up(on: On) -> Result<(), Failed> {
    let mut p = bash(on)?;
    let before = p.tree.look().len();
    p.send("(trap '' HUP; sleep 1000) & sleep 2000\n");
    std::thread::sleep(std::time::Duration::from_millis(300));
    // SAFETY: signals the program that this test started.
    unsafe { libc::kill(p.child.id() as i32, libc::SIGHUP) };
    p.wait(10).ok_or("no end after the hang-up")?;
    std::thread::sleep(std::time::Duration::from_millis(150));
    let left = p.tree.others_alive().len();
    if matches!(on, On::Machine) && left > 0 {
        return Err(format!("{left} of {before} processes left").into());
    }
    Ok(())
}

/// Whatever ends the machine, the terminal is as it was.
fn restored(how: i32) -> Result<(), Failed> {
    let script = "stty raw -echo; echo re''ady; cat";
    let mut p = Pty::start(
        Run::lodger(&["--cpus", "1"]).args(["--", "/bin/sh", "-c", script]),
        24,
        80,
    );
    p.expect("ready", 20)?;
    // SAFETY: signals the program that this test started.
    unsafe { libc::kill(p.child.id() as i32, how) };
    p.wait(10).ok_or("it does not end")?;
    std::thread::sleep(std::time::Duration::from_millis(150));
    let left = p.tree.others_alive().len();
    if left > 0 {
        return Err(format!("{left} processes left").into());
    }
    let (before, now) = (&p.before, p.settings());
    if now != *before {
        return Err(format!("terminal settings {before:?} before, {now:?} after").into());
    }
    Ok(())
}

fn python_repl(on: On) -> Result<(), Failed> {
    if !installed("python3") {
        return Ok(());
    }
    let mut p = session(on, &["python3", "-q"]);
    p.expect(">>> ", 30)?;
    p.send("6*7\n");
    p.expect("42", 10)?;
    p.expect(">>> ", 10)?;
    p.send("import time; time.sleep(100)\n");
    std::thread::sleep(std::time::Duration::from_millis(400));
    p.send("\x03");
    p.expect("KeyboardInterrupt", 10)?;
    p.expect(">>> ", 10)?;
    p.send("exit(3)\n");
    let st = p.wait(10).ok_or("python does not end")?;
    if st.code() == Some(3) {
        Ok(())
    } else {
        Err(format!("{st}").into())
    }
}

fn main() {
    lodger_tests::procs::become_subreaper();
    let mut args = Arguments::from_args();
    args.test_threads = args.test_threads.or(Some(1));
    let mut trials = vec![];
    let mut add =
        |name: String, machine: bool, f: Box<dyn FnOnce() -> Result<(), Failed> + Send>| {
            let known = Known::load("programs");
            let off = machine && known.off().is_some();
            let n = name.clone();
            let t = Trial::test(name, move || {
                let r = f().map_err(|e| e.message().unwrap_or("failed").to_string());
                if machine {
                    known.judge(&n, r).map_err(Failed::from)
                } else {
                    r.map_err(Failed::from)
                }
            });
            trials.push(t.with_ignored_flag(off));
        };
    for s in SCRIPTS {
        for cpus in ["1", "2"] {
            // Long ones once in the short form.
            if cpus == "1" && s.3 > 60 && !lodger_tests::long() {
                continue;
            }
            add(
                format!("{} cpus {cpus}", s.0),
                true,
                Box::new(move || script(*s, cpus)),
            );
        }
    }
    type Dialogue = (&'static str, fn(On) -> Result<(), Failed>);
    let dialogues: [Dialogue; 7] = [
        ("job control", job_control),
        ("window", window),
        ("less", less),
        ("vi", vi),
        ("top", top),
        ("hang-up", hang_up),
        ("python repl", python_repl),
    ];
    for (name, f) in dialogues {
        add(
            format!("{name} on the host"),
            false,
            Box::new(move || f(On::Host)),
        );
        add(
            format!("{name} in a machine"),
            true,
            Box::new(move || f(On::Machine)),
        );
    }
    for (name, n) in [
        ("SIGKILL", libc::SIGKILL),
        ("SIGTERM", libc::SIGTERM),
        ("SIGHUP", libc::SIGHUP),
    ] {
        add(
            format!("terminal after {name}"),
            true,
            Box::new(move || restored(n)),
        );
    }
    let end = libtest_mimic::run(&args, trials);
    lodger_tests::build::remove_scratch();
    end.exit();
}
