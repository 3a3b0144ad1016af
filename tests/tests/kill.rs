//! `kill -9` of any part of a busy machine, at a random moment: within 100 ms no
//! process of it runs any more, and nothing of the host has changed.

use libtest_mimic::{Arguments, Failed, Trial};
use lodger_tests::build::scratch;
use lodger_tests::machine::Run;
use lodger_tests::procs::Proc;
use std::time::{Duration, Instant};

/// What is killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Victim {
    Kernel,
    UserProcess,
    StubThread,
    Zygote,
}

const BUSY: &str = "
while :; do /bin/true & /bin/true; wait; done &
while :; do echo x > $MARK/a; echo y >> $MARK/new; mv $MARK/new $MARK/n2; rm -f $MARK/n2; done &
while :; do :; done &
while :; do (sleep 0.01 | cat); done
";

/// A random number below `n`.
fn random(n: u64) -> u64 {
    let mut b = [0; 8];
    // SAFETY: fills the array.
    unsafe { libc::getrandom(b.as_mut_ptr().cast(), b.len(), 0) };
    u64::from_ne_bytes(b) % n
}

fn threads(pid: i32) -> Vec<i32> {
    let Ok(d) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return vec![];
    };
    d.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// Picks the process and the thread to kill; none if that kind does not exist now.
fn choose(victim: Victim, kernel: i32, others: &[Proc]) -> Option<(i32, i32)> {
    // The zygote leads the process group of all user processes.
    let pick = |v: Vec<i32>| (!v.is_empty()).then(|| v[random(v.len() as u64) as usize]);
    match victim {
        Victim::Kernel => Some((kernel, kernel)),
        Victim::Zygote => others
            .iter()
            .find(|p| p.pgid == p.pid)
            .map(|p| (p.pid, p.pid)),
        Victim::UserProcess => {
            let pid = pick(
                others
                    .iter()
                    .filter(|p| p.pgid != p.pid)
                    .map(|p| p.pid)
                    .collect(),
            )?;
            Some((pid, pid))
        }
        Victim::StubThread => {
            let all = others.iter().filter(|p| p.pgid != p.pid);
            let all: Vec<(i32, i32)> = all
                .flat_map(|p| threads(p.pid).into_iter().map(|t| (p.pid, t)))
                .filter(|(p, t)| p != t)
                .collect();
            (!all.is_empty()).then(|| all[random(all.len() as u64) as usize])
        }
    }
}

fn contents(dir: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let mut v: Vec<_> = std::fs::read_dir(dir)
        .expect("marker directory")
        .filter_map(Result::ok)
        .map(|e| {
            let name = e.file_name().to_string_lossy().into_owned();
            (name, std::fs::read(e.path()).unwrap_or_default())
        })
        .collect();
    v.sort();
    v
}

fn round(victim: Victim) -> Result<(), String> {
    let mark = scratch().join(format!("mark-{victim:?}"));
    std::fs::create_dir_all(&mark).map_err(|e| e.to_string())?;
    std::fs::write(mark.join("a"), "unchanged").map_err(|e| e.to_string())?;
    let before = contents(&mark);
    let mut run = Run::lodger(&["--cpus", "2"])
        .args(["--", "/bin/sh", "-c", BUSY])
        .env("MARK", &mark)
        .dir("/")
        .limit(30)
        .start();
    let kernel = run.child.id() as i32;
    std::thread::sleep(Duration::from_millis(300 + random(400)));
    let mut chosen = None;
    for _ in 0..200 {
        let others = run.tree.others_alive();
        chosen = choose(victim, kernel, &others);
        if let Some((pid, tid)) = chosen {
            // SAFETY: signals one thread of the run; SIGKILL ends its process.
            if unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, libc::SIGKILL) } == 0 {
                break;
            }
            chosen = None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let killed = Instant::now();
    if chosen.is_none() {
        run.tree.kill();
        run.finish();
        return Err("nothing to kill was found".into());
    }
    let status = loop {
        if let Ok(Some(s)) = run.child.try_wait() {
            break Some(s);
        }
        if killed.elapsed() > Duration::from_secs(5) {
            break None;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let ended = killed.elapsed();
    while !run.tree.others_alive().is_empty() && killed.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let gone = killed.elapsed();
    let left = run.tree.others_alive().len();
    let out = run.finish();
    // A loaded host may be slow to reap; the machine has no part in that.
    let bound = if victim == Victim::Kernel { 100 } else { 1000 };
    let limit = Duration::from_millis(bound);
    if status.is_none() || left > 0 || gone.max(ended) > limit {
        return Err(format!(
            "{victim:?} {chosen:?}: status {status:?} after {ended:?}, {left} left, last gone after {gone:?}\n{}",
            out.err_tail()
        ));
    }
    if contents(&mark) != before {
        return Err(format!("{victim:?}: the marker directory has changed"));
    }
    Ok(())
}

fn main() {
    lodger_tests::procs::become_subreaper();
    let mut args = Arguments::from_args();
    args.test_threads = Some(1);
    let rounds = if lodger_tests::long() { 50 } else { 5 };
    let all = [
        ("kernel", Victim::Kernel),
        ("user_process", Victim::UserProcess),
        ("stub_thread", Victim::StubThread),
        ("zygote", Victim::Zygote),
    ];
    let trials = all
        .into_iter()
        .map(|(name, victim)| {
            Trial::test(name, move || {
                for n in 0..rounds {
                    round(victim).map_err(|e| Failed::from(format!("round {n}: {e}")))?;
                }
                Ok(())
            })
        })
        .collect();
    let end = libtest_mimic::run(&args, trials);
    lodger_tests::build::remove_scratch();
    end.exit();
}
