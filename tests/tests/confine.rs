//! What is left of the host to someone who has taken over the kernel process.
//!
//! `lodger run --confine-probe` makes host calls from inside the confined kernel process,
//! right before the guest's first instruction, when nothing will be tightened any more. A call that the
//! kernel never makes ends the machine with a report; others fail where they
//! lead out of the machine.

use libtest_mimic::Failed;
use lodger_tests::build::scratch;
use lodger_tests::engine::Engine;
use lodger_tests::machine::{Run, User};
use lodger_tests::suite::Suite;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const KERNEL_PANIC: i32 = 120;
const EPERM: i32 = libc::EPERM;
const EACCES: i32 = libc::EACCES;
const ENOENT: i32 = libc::ENOENT;
const EROFS: i32 = libc::EROFS;
const EXDEV: i32 = libc::EXDEV;
const ENOSYS: i32 = libc::ENOSYS;

fn check(ok: bool, what: impl FnOnce() -> String) -> Result<(), Failed> {
    if ok { Ok(()) } else { Err(what().into()) }
}

/// Host calls that end the machine, with what they are.
const FATAL: &[(&str, &str)] = &[
    ("openat of an absolute name", "257 -100 '/etc/passwd' 0"),
    ("openat for writing", "257 @0 'etc/passwd' 1"),
    (
        "openat that makes a file",
        "257 @0 'tmp/lodger-probe' 0x40 0x1ff",
    ),
    ("openat of a nameless file", "257 @0 'tmp' 0x410001 0x1ff"),
    (
        "openat2 of an absolute name",
        "437 -100 '/etc/passwd' '' 24",
    ),
    ("open", "2 '/etc/passwd' 0"),
    ("creat", "85 '/tmp/lodger-probe' 0x1ff"),
    ("stat of an absolute name", "262 -100 '/etc/passwd' 0 0"),
    ("open_by_handle_at", "304 @0 0 0"),
    (
        "mkdirat without a writable bind",
        "258 @0 'tmp/lodger-probe' 0x1ff",
    ),
    (
        "mknodat without a writable bind",
        "259 @0 'tmp/lodger-probe' 0x81ff 0",
    ),
    (
        "fchmodat2 without a writable bind",
        "452 @0 'etc' 0x1ff 0x100",
    ),
    ("fchownat without a writable bind", "260 @0 'etc' 1 1 0x100"),
    ("utimensat without a writable bind", "280 @0 'etc' 0 0x100"),
    (
        "unlinkat without a writable bind",
        "263 @0 'tmp/lodger-probe' 0",
    ),
    ("setxattr", "188 '/tmp' 'user.x' 'x' 1 0"),
    ("fsetxattr", "190 @0 'user.x' 'x' 1 0"),
    ("truncate", "76 '/tmp/lodger-probe' 0"),
    ("socket", "41 2 1 0"),
    ("socket, on another thread", "thread 41 1 1 0"),
    ("socketpair", "53 1 1 0 0"),
    ("connect", "42 0 0 0"),
    ("sendto an address", "44 0 'x' 1 0 'aaaaaaaaaaaaaaaa' 16"),
    ("sendmsg", "46 0 0 0"),
    ("execve", "59 '/bin/true' 0 0"),
    ("execveat", "322 @0 'bin/true' 0 0 0"),
    ("fork", "57"),
    ("vfork", "58"),
    ("clone of a process", "56 17"),
    ("clone with a namespace", "56 0x103d0f00"),
    ("ptrace", "101 16 1"),
    ("process_vm_readv", "310 1 0 0 0 0 0"),
    ("process_vm_writev", "311 1 0 0 0 0 0"),
    ("pidfd_open", "434 1 0"),
    ("kill with another signal", "62 1 15"),
    ("kill of everyone", "62 -1 9"),
    ("kill of another group", "62 -2 9"),
    ("tgkill with another signal", "234 1 1 9"),
    ("rt_sigqueueinfo", "129 1 9 0"),
    ("mmap of code", "9 0 4096 5 0x22 -1 0"),
    ("mmap of writable code", "9 0 4096 7 0x22 -1 0"),
    ("mprotect to code", "10 0x10000 4096 4"),
    ("pkey_mprotect", "329 0x10000 4096 4 -1"),
    (
        "rt_sigaction",
        "13 11 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' 0 8",
    ),
    ("prctl", "157 4 1"),
    ("seccomp", "317 1 0 0"),
    ("arch_prctl", "158 0x1001 0"),
    ("prlimit64 of a limit", "302 0 7 'aaaaaaaaaaaaaaaa' 0"),
    ("ioctl that types", "16 0 0x5412 'x'"),
    ("fcntl that tells signals", "72 0 8 1"),
    ("dup2", "33 0 9"),
    ("memfd_create", "319 'x' 0"),
    ("fallocate", "285 0 0 0 4096"),
    ("mount", "165 'x' '/' 'tmpfs' 0 0"),
    ("umount2", "166 '/' 0"),
    ("pivot_root", "155 '.' '.'"),
    ("chroot", "161 '.'"),
    ("chdir", "80 '/'"),
    ("fchdir", "81 @0"),
    ("unshare", "272 0x10000000"),
    ("setns", "308 @0 0"),
    ("open_tree", "428 @0 '' 0x1000"),
    ("setuid", "105 0"),
    ("capset", "126 0 0"),
    ("personality", "135 0x400000"),
    ("bpf", "321 0 0 0"),
    ("perf_event_open", "298 0 0 0 0 0"),
    ("io_uring_setup", "425 8 0"),
    ("userfaultfd", "323 0"),
    ("keyctl", "250 0 0"),
    ("init_module", "175 0 0 0"),
    ("kexec_load", "246 0 0 0 0"),
    ("reboot", "169 0 0 0"),
    ("syslog", "103 3 0 0"),
    ("settimeofday", "164 0 0"),
    ("clock_settime", "227 0 0"),
    ("swapon", "167 '/tmp' 0"),
    ("iopl", "172 3"),
    ("modify_ldt", "154 1 0 0"),
    ("inotify_init1", "294 0"),
    ("fanotify_init", "300 0 0"),
    ("sched_setscheduler", "144 0 1 0"),
    ("setpriority", "141 0 0 5"),
    ("a call of the x32 interface", "0x40000001 1 'x' 1"),
    ("a call that does not exist", "999"),
];

fn fatal(user: User, attack: &str) -> Result<(), Failed> {
    let out = Run::lodger_of(user, &["--confine-probe", attack, "--"])
        .args(["/bin/echo", "the guest runs"])
        .run();
    let text = out.err();
    check(out.code() == KERNEL_PANIC, || {
        format!("ended with {}\n{text}", out.code())
    })?;
    check(out.stdout.is_empty() && out.left == 0, || {
        format!("it went on: {:?}, {} left", out.out(), out.left)
    })?;
    for part in ["made host call", "which it never needs", "probe.rs:"] {
        check(text.contains(part), || {
            format!("{part:?} is missing\n{text}")
        })?;
    }
    Ok(())
}

/// Code that aborts ends the machine with a report, although it may not signal itself.
fn aborts() -> Result<(), Failed> {
    let out = Run::lodger(&["--confine-probe", "abort", "--"])
        .args(["/bin/echo", "the guest runs"])
        .env("RUST_BACKTRACE", "1")
        .run();
    let text = out.err();
    let reported = [
        "kernel fault: aborted",
        "/lodger(",
        "this is a bug in Lodger",
    ];
    let told = reported.iter().all(|part| text.contains(part));
    check(
        out.code() == KERNEL_PANIC && told && out.stdout.is_empty() && out.left == 0,
        || format!("ended with {}, {} left\n{text}", out.code(), out.left),
    )
}

/// Makes calls that do not end the machine and compares their results (errors negative).
fn results(user: User, options: &[&str], calls: &[(&str, i32)]) -> Result<(), Failed> {
    results_without(&[], user, options, calls)
}

/// The same on a host without the calls `lacking`.
fn results_without(
    lacking: &'static [u32],
    user: User,
    options: &[&str],
    calls: &[(&str, i32)],
) -> Result<(), Failed> {
    let attack: Vec<&str> = calls.iter().map(|c| c.0).collect();
    let attack = attack.join(";");
    let mut all = options.to_vec();
    all.extend(["--confine-probe", &attack, "--", "/bin/true"]);
    // The guest has no command where its root is a directory of ours: only the calls count.
    let mut run = Run::lodger_of(user, &all).dir("/");
    without(&mut run, lacking);
    let out = run.run();
    let text = out.err();
    let lines: Vec<&str> = text.lines().filter(|l| l.starts_with("probe: ")).collect();
    check(lines.len() == calls.len(), || {
        format!("ended early\n{text}")
    })?;
    for (line, (call, want)) in lines.into_iter().zip(calls) {
        let got: i32 = line.rsplit(' ').next().unwrap_or("").parse()?;
        let fine = match *want {
            0 => got >= 0,
            e => got == -e,
        };
        check(fine, || format!("{call}: {got}, not {want}"))?;
    }
    Ok(())
}

/// A process of `user`'s to be killed.
fn victim(user: User) -> std::io::Result<Child> {
    let mut c = Command::new("sleep");
    c.arg("100").stdin(Stdio::null());
    if user == User::Ordinary && lodger_tests::is_root() {
        let (u, g) = user.ids();
        c.uid(u).gid(g);
    }
    c.spawn()
}

/// Signals reach the machine's own processes only.
fn signals(user: User) -> Result<(), Failed> {
    let mut v = victim(user)?;
    let pid = v.id();
    let kill = format!("62 {pid} 9");
    let thread = format!("234 {pid} {pid} 23");
    let there = format!("234 {pid} {pid} 0");
    let calls = [(kill.as_str(), EPERM), (&thread, EPERM), (&there, EPERM)];
    let r = results(user, &[], &calls);
    let alive = v.try_wait()?.is_none();
    v.kill()?;
    v.wait()?;
    check(alive, || "the victim is dead".into())?;
    r
}

/// A directory of its own for `user`.
fn own_dir(name: &str, user: User) -> Result<PathBuf, Failed> {
    let dir = scratch().join(format!("{name}-{}", user.name()));
    std::fs::create_dir_all(&dir)?;
    if user == User::Ordinary {
        lodger_tests::give(&dir);
    }
    Ok(dir)
}

fn file(path: &Path, user: User) -> Result<(), Failed> {
    std::fs::write(path, "as it was\n")?;
    if user == User::Ordinary {
        lodger_tests::give(path);
    }
    Ok(())
}

/// What the host's file systems are to a machine with a root directory and a
/// writable bind: the one is read, the other written, all else is closed.
fn files(user: User) -> Result<(), Failed> {
    let (root, bind) = (own_dir("root", user)?, own_dir("bind", user)?);
    let outside = own_dir("outside", user)?;
    for d in [&root, &bind, &outside] {
        file(&d.join("file"), user)?;
    }
    let up = "../".repeat(20);
    let secret = format!("{up}{}/file", outside.display());
    let host = format!("{}/file", outside.display());
    let read = |dir: &str, name: &str| format!("257 {dir} '{name}' 0");
    let write = |dir: &str, name: &str| format!("257 {dir} '{name}' 1");
    let made = |dir: &str, name: &str| format!("259 {dir} '{name}' 0x81a4 0");
    // Names lead nowhere where root has started the machine, else Landlock is in the way.
    let (away, below, across) = match user.ids().0 {
        0 => (ENOENT, EROFS, EXDEV),
        _ => (EACCES, EACCES, EACCES),
    };
    let calls = [
        (read("@0", "file"), 0),
        (read("@1", "file"), 0),
        (write("@1", "file"), 0),
        (made("@1", "made"), 0),
        ("316 @1 'made' @1 'moved'".into(), 0),
        ("263 @1 'moved' 0".into(), 0),
        // Below the root.
        (write("@0", "file"), below),
        (made("@0", "made"), below),
        ("258 @0 'dir' 0x1ff".into(), below),
        ("266 'x' @0 'link'".into(), below),
        ("263 @0 'file' 0".into(), below),
        ("265 @0 'file' @1 'linked' 0".into(), EXDEV),
        ("316 @1 'file' @0 'moved' 0".into(), across),
        // Outside.
        (read("@0", &secret), away),
        (read("@1", &secret), away),
        (write("@1", &secret), away),
        (made("@1", &format!("{secret}-made")), away),
        ("263 @1 '".to_string() + &secret + "' 0", away),
        (read("@1", &host), away),
        (read("@0", "/etc/passwd"), away),
        (write("@1", "/dev/null"), away),
        // libc's threads are made with clone(2), whose flags can be checked.
        ("435 0 0".into(), ENOSYS),
    ];
    let mut calls = calls.to_vec();
    if user.ids().0 == 0 {
        let set = |call: &str| (call.to_string(), EROFS);
        calls.extend([
            set("452 @0 'file' 0x1ff 0x100"),
            set("260 @0 'file' 1 1 0x100"),
            set("280 @0 'file' 0 0x100"),
            (format!("452 @1 '{secret}' 0x1ff 0x100"), ENOENT),
            (format!("452 @1 '{host}' 0x1ff 0x100"), ENOENT),
            (format!("262 @1 '{secret}' '{}' 0", "a".repeat(160)), ENOENT),
        ]);
    } else {
        // An ordinary user's is kept from setting modes and times by nothing but his rights;
        // what it has set opens nothing.
        calls.extend([
            (format!("452 @1 '{secret}' 0x1ff 0x100"), 0),
            (format!("280 @1 '{secret}' 0 0x100"), 0),
            (format!("452 @1 '{host}' 0x1ff 0x100"), 0),
            (read("@1", &secret), away),
            (write("@1", &host), away),
            (format!("452 @1 '{up}etc/passwd' 0x1ff 0x100"), EPERM),
            (format!("280 @1 '{up}etc/passwd' 0 0x100"), EACCES),
        ]);
    }
    let calls: Vec<(&str, i32)> = calls.iter().map(|(c, r)| (c.as_str(), *r)).collect();
    let bind_option = format!("{}:/bound", bind.display());
    let root_option = root.to_string_lossy();
    let r = results(
        user,
        &["--root", &root_option, "--bind", &bind_option],
        &calls,
    );
    for d in [&root, &outside] {
        let names: Vec<_> = std::fs::read_dir(d)?
            .flatten()
            .map(|e| e.file_name())
            .collect();
        check(names == ["file"], || format!("{}: {names:?}", d.display()))?;
        let text = std::fs::read_to_string(d.join("file"))?;
        check(text == "as it was\n", || format!("{}: {text}", d.display()))?;
    }
    r
}

/// A field of a `/proc/PID/task/TID/status`.
fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|l| l.strip_prefix(name));
    let word = line.map_or("", |l| l.trim_start_matches(':').trim());
    let radix = if name.starts_with("Cap") { 16 } else { 10 };
    u64::from_str_radix(word, radix).unwrap_or(u64::MAX)
}

/// Runs a busy machine and gives the status of each thread of each of its processes:
/// whether it is of the kernel process, and the text.
fn threads(user: User, options: &[&str]) -> Result<Vec<(bool, String)>, Failed> {
    let mut all = options.to_vec();
    all.extend(["--cpus", "2", "--", "/bin/sh", "-c"]);
    let mut run = Run::lodger_of(user, &all)
        .arg("sleep 30 & sleep 30 & wait")
        .dir("/")
        .start();
    let kernel = run.child.id() as i32;
    std::thread::sleep(std::time::Duration::from_millis(700));
    let mut found = vec![];
    let mut pids: Vec<i32> = run.tree.others_alive().iter().map(|p| p.pid).collect();
    pids.push(kernel);
    for pid in pids {
        for t in std::fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
            if let Ok(s) = std::fs::read_to_string(t.path().join("status")) {
                found.push((pid == kernel, s));
            }
        }
    }
    run.tree.kill();
    run.finish();
    Ok(found)
}

/// All threads of all processes of a machine have given up what they are to give up.
fn all_threads(user: User) -> Result<(), Failed> {
    // CAP_DAC_READ_SEARCH or CAP_DAC_OVERRIDE, and CAP_FOWNER.
    let few = 0b1110;
    let found = threads(user, &[])?;
    check(found.len() > 8, || format!("{} threads", found.len()))?;
    check(found.iter().filter(|t| t.0).count() >= 4, || {
        "no kernel".into()
    })?;
    for (kernel, s) in &found {
        // In the engine `kml` the kernel reads files in user processes, too.
        let shares = Engine::current() == Engine::Kml && !kernel;
        let caps = if *kernel || shares { few } else { 0 };
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            check(field(s, set) & !caps == 0, || format!("{set}\n{s}"))?;
        }
        check(field(s, "NoNewPrivs") == 1, || format!("privileges\n{s}"))?;
        check(field(s, "Seccomp") == 2, || format!("no filter\n{s}"))?;
        // One for what guests do, one for what the kernel does there.
        let filters = field(s, "Seccomp_filters");
        check(!shares || filters == 2, || format!("filters\n{s}"))?;
    }
    Ok(())
}

/// `--confine off`: the kernel process is an ordinary one, and nothing ends it.
fn off(user: User) -> Result<(), Failed> {
    let found = threads(user, &["--confine", "off"])?;
    let kernel = found.iter().filter(|t| t.0);
    for (_, s) in kernel {
        check(field(s, "Seccomp") == 0, || format!("a filter\n{s}"))?;
    }
    results(
        user,
        &["--confine", "off"],
        &[("257 -100 '/etc/passwd' 0", 0)],
    )
}

/// Makes the host of `run` one without these calls.
fn without(run: &mut Run, lacking: &'static [u32]) {
    if lacking.is_empty() {
        return;
    }
    // SAFETY: raw calls only, on memory of the closure's own.
    unsafe {
        run.raw().pre_exec(move || {
            let insn = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
            let mut p = [insn(0x06, 0, 0, libc::SECCOMP_RET_ALLOW); 16];
            p[0] = insn(0x20, 0, 0, 0);
            for (i, nr) in lacking.iter().enumerate() {
                p[1 + 2 * i] = insn(0x15, 0, 1, *nr);
                p[2 + 2 * i] = insn(0x06, 0, 0, libc::SECCOMP_RET_ERRNO | ENOSYS as u32);
            }
            let f = libc::sock_fprog {
                len: p.len() as u16,
                filter: p.as_mut_ptr(),
            };
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            match libc::prctl(libc::PR_SET_SECCOMP, 2, &raw const f) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
}

/// On a host that lacks means of confinement, one line says so, and the machine runs.
fn poor_host(user: User, lacking: &'static [u32], part: &str) -> Result<(), Failed> {
    let mut run = Run::lodger_of(user, &["--"]).args(["/bin/echo", "ran"]);
    without(&mut run, lacking);
    let out = run.run();
    let text = out.err();
    check(out.code() == 0 && out.out() == "ran\n", || {
        format!("ended with {}\n{text}", out.code())
    })?;
    check(text.lines().count() == 1 && text.contains(part), || {
        format!("{part:?} is not the one line of {text:?}")
    })
}

/// Without Landlock, root's machine reaches its trees through copies of mounts, which lead
/// nowhere else and cannot be written.
fn files_by_mounts() -> Result<(), Failed> {
    let (root, bind) = (own_dir("root2", User::Me)?, own_dir("bind2", User::Me)?);
    let outside = own_dir("outside2", User::Me)?;
    for d in [&root, &bind, &outside] {
        file(&d.join("file"), User::Me)?;
    }
    let host = format!("{}/file", outside.display());
    let up = format!("{}{host}", "../".repeat(20));
    let calls = [
        ("257 @0 'file' 0".to_string(), 0),
        ("257 @1 'file' 1".into(), 0),
        ("257 @0 'file' 1".into(), EROFS),
        ("259 @0 'made' 0x81a4 0".into(), EROFS),
        ("452 @0 'file' 0x1ff 0x100".into(), EROFS),
        (format!("257 @0 '{host}' 0"), ENOENT),
        (format!("257 @1 '{host}' 1"), ENOENT),
        (format!("257 @0 '{up}' 0"), ENOENT),
        (format!("257 @1 '{up}' 1"), ENOENT),
    ];
    let calls: Vec<(&str, i32)> = calls.iter().map(|(c, r)| (c.as_str(), *r)).collect();
    let bind_option = format!("{}:/bound", bind.display());
    let root_option = root.to_string_lossy();
    let options = ["--root", &root_option, "--bind", &bind_option];
    results_without(LANDLOCK, User::Me, &options, &calls)
}

const LANDLOCK: &[u32] = &[444];
const MOUNTS: &[u32] = &[430];

fn main() {
    let mut suite = Suite::new("confine");
    for &user in User::all() {
        let of = |name: &str| format!("{}/{name}", user.name());
        for (i, (name, attack)) in FATAL.iter().enumerate() {
            for engine in Engine::all_or_turn(i) {
                suite.add_under(engine, &of(name), move || fatal(user, attack));
            }
        }
        suite.add(of("signals"), move || signals(user));
        suite.add(of("files"), move || files(user));
        suite.add(of("all threads"), move || all_threads(user));
        suite.add(of("off"), move || off(user));
        let part = "does not confine the kernel process's files and signals";
        suite.add(of("no landlock"), move || poor_host(user, LANDLOCK, part));
    }
    suite.add("aborts", aborts);
    if lodger_tests::is_root() {
        let part = "does not confine the kernel process's names of files";
        suite.add("root/files by mounts", files_by_mounts);
        suite.add("root/no mounts", move || poor_host(User::Me, MOUNTS, part));
    }
    suite.run();
}
