//! Standard streams of a machine: terminals, pipes and files in every mixture,
//! closed ones, readers and writers that are slow or gone.

use libtest_mimic::Failed;
use lodger_tests::build::{lodger, scratch};
use lodger_tests::machine::Run;
use lodger_tests::procs::Tree;
use lodger_tests::pty::Pty;
use lodger_tests::suite::Suite;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A program and arguments, to be run on the host and in a machine.
type Cmd<'a> = &'a [&'a str];

fn on_host(cmd: Cmd) -> Run {
    Run::command(cmd[0]).args(&cmd[1..])
}

fn in_machine(cmd: Cmd) -> Run {
    Run::lodger(&["--cpus", "2"]).arg("--").args(cmd)
}

fn same<T: PartialEq + std::fmt::Debug>(host: T, machine: T) -> Result<(), Failed> {
    if host == machine {
        return Ok(());
    }
    Err(format!("host:    {host:?}\nmachine: {machine:?}").into())
}

/// What a stream is connected to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Terminal,
    Pipe,
    File,
}

const ENDS: [End; 3] = [End::Terminal, End::Pipe, End::File];

/// Tells what its streams are, copies a line, complains.
const FACTS: &str = r#"
facts() {
  for f in 0 1 2; do
    test -t $f && echo "$f is a terminal"
    stat -L -c "$f %F" /proc/self/fd/$f
  done
  stty -a < /dev/fd/1 2>/dev/null | grep -c icanon
  read -r line; echo "read $line"; echo again > /dev/stdout
}
facts; echo complaint >&2; echo more > /dev/stderr; exit 3
"#;

/// Exit code and what arrived at the terminal, at the pipes, in the files.
fn mixture(run: Run, ends: [End; 3]) -> Result<(i32, [String; 3]), Failed> {
    let dir = scratch().join("mixture");
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("0"), "from the file\n")?;
    let mut ours: [Option<File>; 3] = [None, None, None];
    let mut stream = |i: usize| -> Result<Option<Stdio>, Failed> {
        Ok(match ends[i] {
            End::Terminal => None,
            End::File if i == 0 => Some(File::open(dir.join("0"))?.into()),
            End::File => Some(File::create(dir.join(i.to_string()))?.into()),
            End::Pipe => {
                let (r, w) = std::io::pipe()?;
                let (theirs, mine): (Stdio, File) = match i {
                    0 => (r.into(), std::os::fd::OwnedFd::from(w).into()),
                    _ => (w.into(), std::os::fd::OwnedFd::from(r).into()),
                };
                ours[i] = Some(mine);
                Some(theirs)
            }
        })
    };
    let streams = [stream(0)?, stream(1)?, stream(2)?];
    let mut p = Pty::mixed(run.dir("/"), 24, 80, streams);
    match ends[0] {
        End::Terminal => p.send("from the keyboard\n"),
        End::Pipe => {
            if let Some(mut f) = ours[0].take() {
                f.write_all(b"from the pipe\n")?;
            }
        }
        End::File => {}
    }
    let status = p.wait(20).ok_or("it does not end")?;
    let status = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    p.pull(20);
    let mut out = [const { String::new() }; 3];
    // The echo comes when it comes.
    out[0] = p
        .unread
        .lines()
        .filter(|l| *l != "from the keyboard")
        .map(|l| format!("{l}\n"))
        .collect();
    // The command's shell has left its end, so these come to an end.
    drop(p);
    for i in 1..3 {
        match (ends[i], ours[i].as_mut()) {
            (End::Pipe, Some(f)) => drop(f.read_to_string(&mut out[i])?),
            (End::File, _) => out[i] = std::fs::read_to_string(dir.join(i.to_string()))?,
            _ => {}
        }
    }
    Ok((status, out))
}

fn mixtures(stdin: End) -> Result<(), Failed> {
    let cmd = ["bash", "-c", FACTS];
    let mut bad = String::new();
    for ends in ENDS.iter().flat_map(|o| ENDS.map(|e| [stdin, *o, e])) {
        let host = mixture(on_host(&cmd), ends)?;
        let machine = mixture(in_machine(&cmd), ends)?;
        if host != machine {
            bad += &format!("{ends:?}\n  host:    {host:?}\n  machine: {machine:?}\n");
        }
    }
    if bad.is_empty() {
        Ok(())
    } else {
        Err(bad.into())
    }
}

/// Runs `lodger` or the command itself below a shell, with redirections that only a shell has.
fn redirected(what: &str, script: &str) -> Result<(), Failed> {
    let run = |words: String| {
        let r = Run::command("bash").args(["-c", &what.replace("CMD", &words)]);
        let r = r.env("SCRIPT", script).limit(30).run();
        (r.code(), r.out(), r.left)
    };
    let host = run("bash -c \"$SCRIPT\"".into());
    let machine = run(format!(
        "{} run --cpus 2 -- bash -c \"$SCRIPT\"",
        lodger().display()
    ));
    same(host, machine)
}

fn closed() -> Result<(), Failed> {
    let facts = "for f in 0 1 2; do test -e /proc/self/fd/$f && echo $f; done";
    let tell = format!("f=$({facts}); echo $f >&2; echo $f; read x; echo $?");
    for how in ["0<&-", "1>&- 2>&1", "2>&-", "0<&- 2>&-"] {
        redirected(&format!("CMD {how} 2>&1"), &tell)?;
        redirected(&format!("CMD {how}"), &tell)?;
    }
    redirected("CMD <&- >&- 2>&-; echo $?", "exit 6")
}

/// A reader that has gone: the writer gets SIGPIPE, or the error if it wants none.
fn reader_gone() -> Result<(), Failed> {
    redirected("CMD | head -1; echo ${PIPESTATUS[*]}", "exec yes")?;
    redirected(
        "{ CMD | true; echo ${PIPESTATUS[*]}; } 2>&1",
        "trap '' PIPE; sleep 0.3; for i in 1 2 3; do echo x || exit 9; done",
    )?;
    redirected("CMD 2>&1 | head -c 3", "while :; do echo abc; done")?;
    redirected(
        "set -o pipefail; CMD | head -c 100000 | md5sum; echo $?",
        "exec seq 1 1000000",
    )
}

fn special() -> Result<(), Failed> {
    redirected("CMD < /dev/null > /dev/null; echo $?", "cat; echo x")?;
    redirected("CMD < /dev/zero | md5sum", "head -c 100000")?;
    redirected("CMD 2>&1 > /dev/full; echo $?", "echo x")?;
    redirected("CMD <<< 'here string'; echo $?", "cat; exit 3")?;
    redirected("echo a | CMD | cat | tr a b", "cat; cat; echo end")?;
    redirected(
        "D=$(mktemp -d); CMD >> $D/f; CMD >> $D/f; cat $D/f; CMD <> $D/f; cat $D/f; rm -r $D",
        "echo line; echo more",
    )?;
    redirected(
        "D=$(mktemp -d); mkfifo $D/p; echo through > $D/p & CMD < $D/p; rm -r $D",
        "cat",
    )?;
    redirected(
        "CMD",
        "ulimit -f 1; trap '' XFSZ; yes > /dev/null & kill $!; echo ok",
    )?;
    redirected(
        // Later than the slowest start of a machine on a busy host.
        "(sleep 3; echo late) | CMD",
        "read -t 0.1 x; echo $?; read -t 5 x; echo $? $x",
    )
}

fn spawn(mut run: Run) -> Result<(Child, Tree), Failed> {
    let c = run.raw().stdin(Stdio::piped()).stdout(Stdio::piped());
    let child = c.spawn()?;
    let tree = Tree::new(child.id() as i32);
    Ok((child, tree))
}

/// CPU time of a machine during a second, in ticks.
fn ticks_in_a_second(tree: &mut Tree) -> u64 {
    let before = tree.cpu_ticks();
    std::thread::sleep(Duration::from_millis(1000));
    tree.cpu_ticks() - before
}

/// Slow ends of pipes: nothing is lost, nobody spins.
fn slow_pipes() -> Result<(), Failed> {
    let (mut child, mut tree) = spawn(in_machine(&["sh", "-c", "seq 1 300000; cat"]))?;
    let mut out = child.stdout.take().ok_or("stdout")?;
    let mut stdin = child.stdin.take().ok_or("stdin")?;
    let mut got = vec![0; 100];
    out.read_exact(&mut got)?;
    std::thread::sleep(Duration::from_millis(300));
    let full = ticks_in_a_second(&mut tree);
    let want: String = (1..=300_000).map(|i| format!("{i}\n")).collect();
    let mut rest = vec![0; want.len() - 100];
    for part in rest.chunks_mut(40_000) {
        out.read_exact(part)?;
        std::thread::sleep(Duration::from_millis(2));
    }
    got.extend(rest);
    if got != want.as_bytes() {
        return Err("the output differs".into());
    }
    let empty = ticks_in_a_second(&mut tree);
    for c in b"slowly\n" {
        stdin.write_all(&[*c])?;
        std::thread::sleep(Duration::from_millis(30));
    }
    drop(stdin);
    let mut end = String::new();
    out.read_to_string(&mut end)?;
    let status = child.wait()?;
    if end != "slowly\n" || !status.success() {
        return Err(format!("{status}, {end:?}").into());
    }
    // A tick is 10 ms.
    if full > 10 || empty > 10 {
        return Err(format!("{full} ticks with a full pipe, {empty} with an empty one").into());
    }
    Ok(())
}

/// Large data both ways at once, through pipes and sockets.
fn both_ways() -> Result<(), Failed> {
    let data: Vec<u8> = (0..4_000_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    for cmd in [&["cat"][..], &["sh", "-c", "tee /dev/null | cat"]] {
        let r = in_machine(cmd).stdin(data.clone()).limit(60).run();
        if r.stdout != data || r.code() != 0 {
            return Err(format!("{cmd:?}: {} bytes, {}", r.stdout.len(), r.code()).into());
        }
    }
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    let theirs = std::os::fd::OwnedFd::from(theirs);
    let mut run = in_machine(&["cat"]);
    let c = run.raw().stdin(theirs.try_clone()?).stdout(theirs);
    let mut child = c.spawn()?;
    drop(run);
    let mut to = ours.try_clone()?;
    let copy = data.clone();
    let feeder = std::thread::spawn(move || {
        to.write_all(&copy)?;
        to.shutdown(std::net::Shutdown::Write)
    });
    let mut back = vec![];
    (&ours).read_to_end(&mut back)?;
    feeder.join().map_err(|_| "feeder")??;
    if back != data || !child.wait()?.success() {
        return Err(format!("socket: {} bytes", back.len()).into());
    }
    Ok(())
}

/// A command in the background does not keep the streams of a machine that has ended.
fn ends_with_the_command() -> Result<(), Failed> {
    let begin = Instant::now();
    let r = in_machine(&["sh", "-c", "sleep 100 & echo $0"])
        .limit(20)
        .run();
    if r.out() != "sh\n" || r.left > 0 || begin.elapsed() > Duration::from_secs(15) {
        return Err(format!("{r:?}").into());
    }
    Ok(())
}

const TESTS: &[(&str, fn() -> Result<(), Failed>)] = &[
    ("terminal and others", || mixtures(End::Terminal)),
    ("pipe and others", || mixtures(End::Pipe)),
    ("file and others", || mixtures(End::File)),
    ("closed", closed),
    ("reader gone", reader_gone),
    ("special files", special),
    ("slow pipes", slow_pipes),
    ("both ways", both_ways),
    ("ends with the command", ends_with_the_command),
];

fn main() {
    let mut suite = Suite::new("streams");
    for (name, f) in TESTS {
        suite.add(*name, f);
    }
    suite.run();
}
