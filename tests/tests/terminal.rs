//! Interactive programs on a terminal that the test drives, on the host and in a
//! machine, and what happens to the terminal around a machine.

use libtest_mimic::Failed;
use lodger_tests::build::{lodger, scratch};
use lodger_tests::engine::Engine;
use lodger_tests::machine::{Run, User};
use lodger_tests::pty::Pty;
use lodger_tests::suite::Suite;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::thread::sleep;
use std::time::Duration;

/// Where an interactive session runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    Host,
    Machine(User),
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn session(on: On, cmd: &[&str]) -> Pty {
    let r = match on {
        On::Host => Run::command(cmd[0]).args(&cmd[1..]),
        On::Machine(user) => Run::lodger_of(user, &["--cpus", "2"]).arg("--").args(cmd),
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

/// The exit code, 128 + n for a signal, as a shell shows it.
fn code(s: ExitStatus) -> i32 {
    s.code().unwrap_or_else(|| 128 + s.signal().unwrap_or(0))
}

fn ends_with(p: &mut Pty, want: i32) -> Result<(), Failed> {
    let got = code(p.wait(15).ok_or("it does not end")?);
    if got != want {
        return Err(format!("exit code {got}, not {want}").into());
    }
    nothing_left(p)
}

/// Within 100 ms of its end, nothing of a machine is left.
fn nothing_left(p: &mut Pty) -> Result<(), Failed> {
    for _ in 0..10 {
        if p.tree.others_alive().is_empty() {
            return Ok(());
        }
        sleep(ms(10));
    }
    Err(format!("{} processes left", p.tree.others_alive().len()).into())
}

fn job_control(on: On) -> Result<(), Failed> {
    let mut p = bash(on)?;
    run_line(&mut p, "echo $((6*7)) $(tty | cut -c1-5)", "42 /dev/")?;
    p.send("sleep 100\n");
    p.settle();
    p.send("\x03");
    p.expect("P$ ", 10)?;
    run_line(&mut p, "echo st=$?", "st=130")?;
    p.send("sleep 100\n");
    p.settle();
    p.send("\x1a");
    p.expect("Stopped", 10)?;
    p.expect("P$ ", 10)?;
    run_line(&mut p, "jobs", "sleep 100")?;
    run_line(&mut p, "bg", "sleep 100 &")?;
    run_line(&mut p, "jobs", "Running")?;
    p.send("fg\n");
    p.expect("sleep 100", 10)?;
    p.settle();
    p.send("\x03");
    p.expect("P$ ", 10)?;
    p.send("cat\n");
    p.expect("cat", 5)?;
    p.settle();
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
    p.settle();
    run_line(&mut p, "stty size", "50 132")?;
    run_line(&mut p, "trap 'echo W''INCH' WINCH; echo set", "set\r")?;
    p.resize(30, 90);
    p.settle();
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
    let mut p = bash(on)?;
    run_line(
        &mut p,
        "cd $(mktemp -d); printf 'one\\ntwo\\n' > f; echo made",
        "made\r",
    )?;
    p.send("vi -u NONE f\n");
    p.expect("one", 15)?;
    p.settle();
    p.send("Gothree\x1b");
    p.settle();
    p.send("1GxiO\x1b");
    p.settle();
    p.send(":wq\r");
    p.expect("P$ ", 15)?;
    run_line(&mut p, "tr '\\n' + < f; echo", "One+two+three+")?;
    run_line(&mut p, "rm f; cd /; echo gone", "gone\r")?;
    Ok(())
}

fn top(on: On) -> Result<(), Failed> {
    let mut p = bash(on)?;
    p.send("top -d 1 -p $$\n");
    p.expect("load average", 15)?;
    p.expect("PID", 10)?;
    p.expect("bash", 10)?;
    p.expect("load average", 10)?;
    p.send("q");
    p.expect("P$ ", 10)?;
    run_line(&mut p, "echo after''top", "aftertop")?;
    Ok(())
}

fn python_repl(on: On) -> Result<(), Failed> {
    let mut p = session(on, &["python3", "-q"]);
    p.expect(">>> ", 30)?;
    p.send("6*7\n");
    p.expect("42", 10)?;
    p.expect(">>> ", 10)?;
    p.send("import time; time.sleep(100)\n");
    p.settle();
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

/// Signals from the keyboard without any shell. Ctrl-Z stops nobody: the
/// process group is orphaned, so nobody could let it go on.
fn keys_without_a_shell(on: On) -> Result<(), Failed> {
    for (key, want) in [("\x03", 130), ("\x1c", 131)] {
        let mut p = session(on, &["sh", "-c", "ulimit -c 0; echo re''ady; exec cat"]);
        p.expect("ready", 20)?;
        p.settle();
        p.send(key);
        ends_with(&mut p, want)?;
    }
    let mut p = session(on, &["sh", "-c", "echo re''ady; sleep 1; echo fin''ished"]);
    p.expect("ready", 20)?;
    p.send("\x1a");
    p.expect("finished", 10)?;
    ends_with(&mut p, 0)
}

/// What is typed before the program reads is not lost.
fn typing_ahead(on: On) -> Result<(), Failed> {
    let mut p = session(on, &["bash", "--norc", "--noprofile", "-i"]);
    p.send("echo ahe''ad\n");
    p.expect("ahead", 20)?;
    p.send("sleep 2; read x\n");
    p.expect("read x\r\n", 10)?;
    // Of what is typed before the shell has left raw mode, Linux loses all but one line.
    p.settle();
    p.send("line\necho x=$x.\n");
    p.expect("x=line.", 10)?;
    p.send("exit 4\n");
    ends_with(&mut p, 4)
}

/// 64 KB at once, by lines and raw.
fn paste(on: On) -> Result<(), Failed> {
    let text: String = (0..1000)
        .map(|i| format!("{i} {}\n", "x".repeat(60)))
        .collect();
    let mut p = bash(on)?;
    p.send("cat | awk '{ s += $1; n += length } END { print \"sum\", NR, s, n }'\n");
    p.settle();
    p.send(&text);
    p.send("\x04");
    p.expect("sum 1000 499500 63890\r", 20)?;
    p.expect("P$ ", 10)?;
    p.send("stty -icanon -echo; head -c 64890 | md5sum; stty sane\n");
    p.settle();
    p.send(&text);
    let seen = p.expect("  -", 20)?;
    let sum = Run::command("md5sum").stdin(text).run().out();
    let sum = sum.split(' ').next().unwrap_or_default();
    if !seen.contains(sum) {
        return Err(format!("not {sum}: {seen}").into());
    }
    p.expect("P$ ", 10)?;
    p.send("exit\n");
    ends_with(&mut p, 0)
}

/// Every byte typed in raw mode arrives as it is, and at once.
fn raw_mode(on: On) -> Result<(), Failed> {
    let mut p = session(
        on,
        &[
            "sh",
            "-c",
            "stty raw -echo; echo re''ady; dd bs=1 count=7 2>/dev/null | od -An -tx1; stty sane; exit 5",
        ],
    );
    p.expect("ready", 20)?;
    p.settle();
    p.send("\x03\x1a\r\n\x04\x11\x7f");
    p.expect("03 1a 0d 0a 04 11 7f", 10)?;
    ends_with(&mut p, 5)
}

/// A reader that does not read for a while: nothing is lost, nobody spins meanwhile.
fn slow_reader(on: On) -> Result<(), Failed> {
    let mut p = session(on, &["seq", "1", "200000"]);
    p.expect("10\r\n", 20)?;
    p.settle();
    let before = p.tree.cpu_ticks();
    sleep(ms(1000));
    let spent = p.tree.cpu_ticks() - before;
    if spent > 20 {
        return Err(format!("{spent} ticks of CPU time in a second of waiting").into());
    }
    let rest = p.expect("\n200000\r\n", 60)?;
    let got = rest.lines().filter_map(|l| l.parse::<u64>().ok());
    if let Some((want, got)) = (11..).zip(got).find(|(a, b)| a != b) {
        return Err(format!("{got} where {want} should be").into());
    }
    ends_with(&mut p, 0)
}

/// A program ends before anybody has read what it wrote: more than the terminal takes,
/// less than it and the machine's own buffer.
fn last_words(on: On) -> Result<(), Failed> {
    let line = "head -c 13000 /dev/zero | tr '\\0' x; echo; seq 1000; echo the end";
    let mut p = session(on, &["sh", "-c", line]);
    sleep(ms(500));
    let out = p.expect("the end\r\n", 20)?;
    let want: String = (1..=1000).map(|n| format!("{n}\r\n")).collect();
    if out != format!("{}\r\n{want}the end\r\n", "x".repeat(13000)) {
        return Err(format!("{} bytes, not what was written", out.len()).into());
    }
    ends_with(&mut p, 0)
}

/// The line is cut while programs read, wait, run in the background.
fn cut(on: On) -> Result<(), Failed> {
    for script in ["cat", "sleep 100", "while :; do :; done"] {
        let line = format!("echo re''ady; {script}");
        let mut p = session(on, &["sh", "-c", &line]);
        p.expect("ready", 20)?;
        // The last one never rests.
        if !script.starts_with("while") {
            p.settle();
        }
        p.cut();
        ends_with(&mut p, 129)?;
    }
    let mut p = bash(on)?;
    p.send("sleep 100 & sleep 200\n");
    p.settle();
    p.cut();
    p.wait(10).ok_or("bash does not end")?;
    nothing_left(&mut p)
}

fn hang_up(on: On) -> Result<(), Failed> {
    let mut p = bash(on)?;
    p.send("(trap '' HUP; sleep 1000) & sleep 2000\n");
    p.settle();
    // SAFETY: signals the program that this test started.
    unsafe { libc::kill(p.child.id() as i32, libc::SIGHUP) };
    p.wait(10).ok_or("no end after the hang-up")?;
    if on == On::Host {
        return Ok(());
    }
    nothing_left(&mut p)
}

/// A terminal multiplexer: a server that lives on, clients that come and go. It
/// would take keys that follow each other within a millisecond for a paste.
fn tmux(on: On) -> Result<(), Failed> {
    let mut p = bash(on)?;
    run_line(
        &mut p,
        "export TMUX_TMPDIR=$(mktemp -d); cd $TMUX_TMPDIR; echo 'set -g assume-paste-time 0' > conf; echo set''up",
        "setup",
    )?;
    let start = "tmux -u -f conf new-session 'PS1=P%\\  bash --norc'\n";
    p.send(start);
    p.expect("P% ", 20)?;
    p.send("echo in''side $((40+2))\n");
    p.expect("inside 42", 10)?;
    p.send("\x02");
    p.settle();
    p.send("\"");
    p.settle();
    p.send("exec bash --norc -c 'echo sec''ond; stty size; read x'\n");
    p.expect("second", 10)?;
    p.send("\x02");
    p.settle();
    p.send("d");
    p.expect("detached", 10)?;
    p.expect("P$ ", 10)?;
    run_line(&mut p, "tmux list-sessions", "1 windows")?;
    p.send("tmux attach\n");
    p.expect("inside 42", 10)?;
    // The second one ends, and leaves its place to the first.
    p.settle();
    p.send("\n");
    p.settle();
    p.send("echo aga''in\n");
    p.expect("again", 10)?;
    p.send("\x02");
    p.settle();
    p.send("d");
    p.expect("detached", 10)?;
    p.expect("P$ ", 10)?;
    run_line(
        &mut p,
        "tmux kill-server; rm -r $TMUX_TMPDIR; echo gone=$?",
        "gone=0",
    )?;
    p.send("exit\n");
    ends_with(&mut p, 0)
}

/// A manual page in its pager, and an editor started by git.
fn helpers(on: On) -> Result<(), Failed> {
    let mut p = bash(on)?;
    run_line(
        &mut p,
        "cd $(mktemp -d); export HOME=$PWD GIT_EDITOR=vi; echo a",
        "a\r",
    )?;
    run_line(
        &mut p,
        "git init -q . && git config user.name n && git config user.email e && echo con''figured",
        "configured",
    )?;
    p.send("git commit --allow-empty\n");
    p.expect("Please enter", 15)?;
    p.settle();
    p.send("imessage\x1b");
    p.settle();
    p.send(":wq\r");
    p.expect("P$ ", 15)?;
    run_line(
        &mut p,
        "git --no-pager log --format=subject=%s",
        "subject=message",
    )?;
    run_line(&mut p, "D=$PWD; cd /; rm -rf $D; echo gone", "gone\r")?;
    p.send("exit\n");
    ends_with(&mut p, 0)
}

/// Whatever ends the machine, the terminal is as it was.
fn restored(how: i32) -> Result<(), Failed> {
    let script = "stty raw -echo; echo re''ady; exec cat";
    let mut p = Pty::start(
        Run::lodger(&["--cpus", "1"]).args(["--", "/bin/sh", "-c", script]),
        24,
        80,
    );
    p.expect("ready", 20)?;
    if p.is_restored().is_ok() {
        return Err("the terminal was never the machine's".into());
    }
    // SAFETY: signals the program that this test started.
    unsafe { libc::kill(p.child.id() as i32, how) };
    let got = code(p.wait(15).ok_or("it does not end")?);
    let want = if how == libc::SIGSEGV { 120 } else { 128 + how };
    if got != want {
        return Err(format!("exit code {got}, not {want}").into());
    }
    nothing_left(&mut p)?;
    Ok(p.is_restored()?)
}

/// A guest that leaves its terminal in a strange state, and a command that is not there.
fn restored_after_exit() -> Result<(), Failed> {
    for (script, want) in [
        ("stty raw -echo; exit 3", 3),
        ("stty -isig; kill -9 $$", 137),
        ("exec /nowhere", 127),
    ] {
        let mut p = session(On::Machine(User::Me), &["sh", "-c", script]);
        ends_with(&mut p, want)?;
        p.is_restored()?;
    }
    Ok(())
}

/// The command line of a machine for a shell of the host.
fn command_line(rest: &str) -> String {
    format!("{} run --cpus 2 -- {rest}\n", lodger().display())
}

/// The machine as a job of a shell on the host: stopped from outside, in the
/// background, brought back.
fn job_of_the_hosts_shell() -> Result<(), Failed> {
    let mut p = bash(On::Host)?;
    p.send(&command_line(
        "bash -c 'while read -r x; do echo =$x=; done; exit 6'",
    ));
    p.send("one\n");
    p.expect("=one=", 20)?;
    let machine = p.tree.named("lodger").ok_or("no machine")?;
    // SAFETY: signals the program that this test started.
    unsafe { libc::kill(machine, libc::SIGTSTP) };
    p.expect("Stopped", 10)?;
    p.expect("P$ ", 10)?;
    run_line(&mut p, "echo $((5*5))", "25")?;
    p.send("fg\n");
    p.expect("lodger", 10)?;
    p.settle();
    p.send("two\n");
    p.expect("=two=", 10)?;
    p.send("\x04");
    p.expect("P$ ", 10)?;
    run_line(&mut p, "echo st=$?", "st=6")?;
    // From the start in the background: it waits for the terminal until it gets it.
    p.send(&command_line("sh -c 'read x; echo got $x; exit 7' &"));
    p.expect("P$ ", 10)?;
    p.settle();
    run_line(&mut p, "echo $((6*6))", "36")?;
    p.send("fg\n");
    p.expect("lodger", 10)?;
    p.settle();
    p.send("late\n");
    p.expect("got late", 10)?;
    p.expect("P$ ", 10)?;
    run_line(&mut p, "echo st=$?", "st=7")?;
    // Two machines in a pipeline share the terminal.
    let line = command_line("sh -c 'read x; echo from $x'");
    p.send(&format!("{} | {}", line.trim(), command_line("tr a-z A-Z")));
    p.settle();
    p.send("keyboard\n");
    p.expect("FROM KEYBOARD", 10)?;
    p.expect("P$ ", 10)?;
    p.send("exit\n");
    p.wait(10).ok_or("bash does not end")?;
    Ok(p.is_restored()?)
}

/// A stopped machine computes nothing.
fn stopped() -> Result<(), Failed> {
    let mut p = bash(On::Host)?;
    p.send(&command_line("sh -c 'echo re\"\"ady; while :; do :; done'"));
    p.expect("ready", 20)?;
    let machine = p.tree.named("lodger").ok_or("no machine")?;
    // SAFETY: signals the program that this test started.
    unsafe { libc::kill(machine, libc::SIGTSTP) };
    p.expect("Stopped", 10)?;
    p.expect("P$ ", 10)?;
    p.settle();
    let shell = p.settings();
    let before = p.tree.cpu_ticks();
    sleep(ms(1000));
    let spent = p.tree.cpu_ticks() - before;
    p.send("fg\n");
    // It goes on when it has the terminal again, with settings of its own.
    if !p.until(10, |p| p.settings() != shell && p.is_restored().is_err()) {
        return Err("the terminal is not the machine's again".into());
    }
    p.send("\x03");
    p.expect("P$ ", 10)?;
    run_line(&mut p, "echo st=$?", "st=130")?;
    if spent > 10 {
        return Err(format!("{spent} ticks of CPU time in a second of rest").into());
    }
    Ok(())
}

type Dialogue = (
    &'static str,
    &'static [&'static str],
    fn(On) -> Result<(), Failed>,
);
const DIALOGUES: &[Dialogue] = &[
    ("job control", &[], job_control),
    ("window", &[], window),
    ("keys without a shell", &[], keys_without_a_shell),
    ("typing ahead", &[], typing_ahead),
    ("paste", &["awk"], paste),
    ("raw mode", &[], raw_mode),
    ("slow reader", &[], slow_reader),
    ("last words", &[], last_words),
    ("cut", &[], cut),
    ("hang-up", &[], hang_up),
    ("less", &["less"], less),
    ("vi", &["vi"], vi),
    ("top", &["top"], top),
    ("python", &["python3"], python_repl),
    ("tmux", &["tmux"], tmux),
    ("git's editor", &["git", "vi"], helpers),
];
/// What happens to the terminal around a machine.
const AROUND: &[(&str, fn() -> Result<(), Failed>)] = &[
    ("restored after exit", restored_after_exit),
    ("restored after SIGKILL", || restored(libc::SIGKILL)),
    ("restored after SIGTERM", || restored(libc::SIGTERM)),
    ("restored after SIGINT", || restored(libc::SIGINT)),
    ("restored after SIGQUIT", || restored(libc::SIGQUIT)),
    ("restored after SIGHUP", || restored(libc::SIGHUP)),
    ("restored after a kernel crash", || restored(libc::SIGSEGV)),
    ("job of the host's shell", job_of_the_hosts_shell),
    ("stopped", stopped),
];

fn main() {
    let mut suite = Suite::new("terminal");
    for (i, (name, needs, f)) in DIALOGUES.iter().enumerate() {
        let missing = |user: User| needs.iter().find(move |p| !user.has(p));
        let checked = move |on: On, user: User| match missing(user) {
            Some(p) => {
                eprintln!("{name}: skipped, {p} is not installed");
                Ok(())
            }
            None => f(on),
        };
        suite.add_on_host(format!("{name} on the host"), move || {
            checked(On::Host, User::Me)
        });
        // The short form has each dialogue under each engine, as one user or the other.
        for (j, user) in User::all().iter().enumerate() {
            for engine in Engine::all_or_turn(i + j) {
                let name = format!("{name} in a machine of {}", user.name());
                suite.add_under(engine, &name, move || checked(On::Machine(*user), *user));
            }
        }
    }
    for (name, f) in AROUND {
        suite.add(*name, f);
    }
    let _ = scratch();
    suite.run();
}
