//! What bad input gets: one clear line, the documented exit status, and nothing left behind.

use lodger_tests::build::{Link, guest, scratch};
use lodger_tests::machine::{Outcome, Run};
use lodger_tests::suite::Suite;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

const NOT_STARTED: i32 = 125;
/// The first of some users that have no other processes.
const LONER: u32 = 64_321;

/// Checks that `out` is a refusal: status, one line that contains `part`, nothing else.
fn refused(out: &Outcome, part: &str) -> Result<(), String> {
    ended(out, NOT_STARTED, part)?;
    if out.stdout.is_empty() {
        Ok(())
    } else {
        Err(format!("output: {:?}", out.out()))
    }
}

/// Checks the status and that standard error is one line that contains `part`.
fn ended(out: &Outcome, code: i32, part: &str) -> Result<(), String> {
    let text = out.err();
    let problem = if out.code() != code {
        format!("status {} instead of {code}", out.code())
    } else if text.lines().count() != 1 {
        "not one line".into()
    } else if !text.contains(part) {
        format!("{part:?} is missing")
    } else if out.left > 0 {
        format!("{} processes left", out.left)
    } else {
        return Ok(());
    };
    Err(format!("{problem}: {text:?}, output {:?}", out.out()))
}

/// Runs `lodger run` with these arguments.
fn lodger(args: &[&str]) -> Outcome {
    Run::lodger(args).dir("/").limit(30).run()
}

/// Command lines and what the one line about each must say.
const MISTAKES: &[(&[&str], &str)] = &[
    (&["--hostnam", "x", "true"], "did you mean '--hostname'?"),
    (&["--worksdir=/", "true"], "did you mean '--workdir'?"),
    (&["--no-such-thing", "true"], "--no-such-thing"),
    (&["--engine", "secomp", "true"], "did you mean 'seccomp'?"),
    (&["--engine", "kvm", "true"], "kvm"),
    (&["--log-level", "loud", "true"], "loud"),
    (&[], "CMD"),
    (
        &["--root", "/nowhere", "true"],
        "--root /nowhere: No such file",
    ),
    (&["--root", "/etc/passwd", "true"], "not a directory"),
    (&["--root", "", "true"], "--root"),
    (
        &["--mem", "0", "true"],
        "too little memory to boot: at least 32M",
    ),
    (
        &["--mem", "31M", "true"],
        "too little memory to boot: at least 32M",
    ),
    (&["--mem", "512", "true"], "did you mean 512M?"),
    (&["--mem", "100T", "true"], "--mem: too much memory"),
    (&["--mem", "99999999T", "true"], "the number is too large"),
    (&["--mem", "-1", "true"], "-1"),
    (&["--mem", "lots", "true"], "such as 512M"),
    (&["--cpus", "0", "true"], "from 1 to 64"),
    (&["--cpus", "65", "true"], "from 1 to 64"),
    (&["--cpus", "4294967297", "true"], "from 1 to 64"),
    (&["--cpus", "two", "true"], "from 1 to 64"),
    (&["--bind", "/nowhere", "true"], "/nowhere"),
    (&["--bind", "", "true"], "--bind"),
    (&["--user", "no-such-user", "true"], "no-such-user"),
    (&["--hostname", "", "true"], "--hostname"),
    (&["--env", "=x", "true"], "NAME=VALUE"),
    (&["--workdir", "/nowhere", "true"], "--workdir /nowhere"),
    (
        &["--workdir", "/etc/passwd", "true"],
        "--workdir /etc/passwd",
    ),
    (&["--memory-file", "/nowhere/m", "true"], "No such file"),
    (&["--memory-file", "/etc/passwd", "true"], "/etc/passwd"),
    (&["--memory-file", "/", "true"], "--memory-file"),
    (&["--memory-file", "/dev/full", "true"], "--memory-file"),
];

fn mistakes() -> Result<(), String> {
    for (args, part) in MISTAKES {
        refused(&lodger(args), part).map_err(|e| format!("{args:?}: {e}"))?;
    }
    let file = scratch().join("no memory");
    std::fs::write(&file, "something else").map_err(|e| e.to_string())?;
    let name = file.to_string_lossy();
    let args = ["--memory-file", &name, "true"];
    refused(&lodger(&args), "not a memory file")?;
    if std::fs::read(&file).map_err(|e| e.to_string())? != b"something else" {
        return Err("a file that is no memory file was changed".into());
    }
    let mut run = Run::command(lodger_tests::build::lodger()).arg("ruin");
    run = run.args(["--", "true"]);
    refused(&run.run(), "did you mean 'run'?")
}

fn commands() -> Result<(), String> {
    let dir = scratch().join("commands");
    std::fs::create_dir_all(&dir).map_err(|e| e.to_string())?;
    let file = |name: &str, content: &[u8], mode: u32| -> Result<String, String> {
        use std::os::unix::fs::PermissionsExt;
        let p = dir.join(name);
        std::fs::write(&p, content).map_err(|e| e.to_string())?;
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&p, mode).map_err(|e| e.to_string())?;
        Ok(p.to_string_lossy().into_owned())
    };
    let elf = std::fs::read(guest(Link::Static)).map_err(|e| e.to_string())?;
    let mut foreign = elf[..4096].to_vec();
    foreign[18] = 0xb7;
    let cases = [
        ("no-such-command".to_string(), 127),
        ("/nowhere/at/all".into(), 127),
        ("/etc".into(), 126),
        (file("plain", b"#!/bin/sh\n", 0o644)?, 126),
        (file("cut", &elf[..40], 0o755)?, 126),
        (file("foreign", &foreign, 0o755)?, 126),
        (file("interpreter", b"#!/nowhere/sh\n", 0o755)?, 127),
    ];
    for (name, code) in cases {
        ended(&lodger(&[&name]), code, "").map_err(|e| format!("{name}: {e}"))?;
    }
    Ok(())
}

/// One instruction of a seccomp filter.
const fn insn(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// Lets the host refuse a call with `errno`: `nr`, if its first argument is `arg` (or any).
fn refuse(run: &mut Run, nr: libc::c_long, arg: Option<u32>, errno: i32) {
    let answer = insn(0x06, 0, 0, 0x0005_0000 | errno as u32);
    let allow = insn(0x06, 0, 0, 0x7fff_0000);
    let load = |at| insn(0x20, 0, 0, at);
    let filter = match arg {
        None => vec![load(0), insn(0x15, 0, 1, nr as u32), answer, allow],
        Some(a) => vec![
            load(0),
            insn(0x15, 0, 3, nr as u32),
            load(16),
            insn(0x15, 0, 1, a),
            answer,
            allow,
        ],
    };
    // SAFETY: only raw calls between fork and exec; the filter lives in the closure.
    unsafe {
        run.raw().pre_exec(move || {
            let program = libc::sock_fprog {
                len: filter.len() as u16,
                filter: filter.as_ptr().cast_mut(),
            };
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            match libc::syscall(libc::SYS_seccomp, 1, 0, &raw const program) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
}

/// Hosts that lack something that the machine cannot do without.
fn poor_hosts() -> Result<(), String> {
    let cases: [(_, Option<u32>, i32, &str); 8] = [
        (libc::SYS_seccomp, None, libc::ENOSYS, "seccomp"),
        (libc::SYS_seccomp, None, libc::EPERM, "seccomp"),
        // Filters may be asked about, but not set.
        (libc::SYS_seccomp, Some(1), libc::EPERM, "seccomp"),
        (libc::SYS_seccomp, Some(1), libc::EINVAL, "seccomp"),
        (libc::SYS_memfd_create, None, libc::ENOMEM, "memory"),
        (libc::SYS_clone, None, libc::EAGAIN, "ulimit -u"),
        (libc::SYS_timer_create, None, libc::EAGAIN, "timer"),
        (libc::SYS_epoll_create1, None, libc::EMFILE, "ulimit -n"),
    ];
    for (nr, arg, errno, part) in cases {
        let mut run = Run::lodger(&["--", "true"]).dir("/").limit(30);
        refuse(&mut run, nr, arg, errno);
        refused(&run.run(), part).map_err(|e| format!("call {nr} gives {errno}: {e}"))?;
    }
    Ok(())
}

/// Lets the run start with a limit, and as `user` if given.
fn limited(run: &mut Run, what: libc::__rlimit_resource_t, limit: u64, user: Option<u32>) {
    // SAFETY: only raw calls between fork and exec.
    unsafe {
        run.raw().pre_exec(move || {
            let l = libc::rlimit {
                rlim_cur: limit,
                rlim_max: limit,
            };
            if libc::setrlimit(what, &l) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            if let Some(user) = user {
                libc::setgroups(0, std::ptr::null());
                libc::setresgid(user, user, user);
                libc::setresuid(user, user, user);
            }
            Ok(())
        });
    }
}

/// A machine under a limit either does its work, or says in one line why not.
fn works_or_says(out: &Outcome, part: &str) -> Result<bool, String> {
    if out.code() == 0 && out.out() == "works\n" && out.left == 0 {
        return Ok(true);
    }
    refused(out, part).map(|()| false)
}

fn few_descriptors() -> Result<(), String> {
    let mut worked = 0;
    for n in 3..40 {
        let mut run = Run::lodger(&["--", "/bin/echo", "works"])
            .dir("/")
            .limit(30);
        limited(&mut run, libc::RLIMIT_NOFILE, n, None);
        let out = run.run();
        // So few that not even the program's libraries can be opened.
        if n < 5 && out.code() == 127 && out.left == 0 {
            continue;
        }
        let ok = works_or_says(&out, "").map_err(|e| format!("{n} descriptors: {e}"))?;
        if worked > 0 && !ok {
            return Err(format!("{n} descriptors are too few, fewer were not"));
        }
        worked += u32::from(ok);
    }
    if worked == 0 {
        return Err("40 descriptors are too few".into());
    }
    Ok(())
}

/// A copy of the program where everybody may run it.
fn public_lodger() -> Result<PathBuf, String> {
    let to = scratch().join("lodger");
    std::fs::copy(lodger_tests::build::lodger(), &to).map_err(|e| e.to_string())?;
    Ok(to)
}

fn few_processes() -> Result<(), String> {
    if !lodger_tests::is_root() {
        return Ok(());
    }
    let lodger = public_lodger()?;
    let mut worked = 0;
    for n in (2..24).chain([40]) {
        let mut run = Run::command(&lodger).args(["run", "--cpus", "2", "--"]);
        run = run.args(["/bin/echo", "works"]).dir("/").limit(30);
        limited(&mut run, libc::RLIMIT_NPROC, n, Some(LONER + n as u32));
        let ok = works_or_says(&run.run(), "").map_err(|e| format!("{n} processes: {e}"))?;
        worked += u32::from(ok);
    }
    if worked == 0 {
        return Err("40 processes are too few".into());
    }
    // Inside, the lack is an error of fork; the machine lives.
    let script =
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do sleep 1 & done; wait; echo end";
    for n in [12, 14, 16] {
        let mut run = Run::command(&lodger).args(["run", "--cpus", "2", "--"]);
        run = run.args(["/bin/sh", "-c", script]).dir("/").limit(60);
        limited(&mut run, libc::RLIMIT_NPROC, n, Some(LONER + n as u32));
        let out = run.run();
        if out.status.is_none() || out.code() == 120 || out.left > 0 {
            let tail = out.err_tail();
            return Err(format!("{n} processes, shell: {} {tail}", out.code()));
        }
    }
    Ok(())
}

fn small_limits() -> Result<(), String> {
    let file = scratch().join("limited");
    let cases = [
        (libc::RLIMIT_FSIZE, 1 << 20, "ulimit -f"),
        (libc::RLIMIT_AS, 256 << 20, "ulimit -v"),
    ];
    for (what, limit, part) in cases {
        for named in [false, true] {
            let mut run = Run::lodger(&["--mem", "512M"]);
            if named {
                run = run.arg("--memory-file").arg(&file);
            }
            run = run.args(["--", "true"]).dir("/").limit(30);
            limited(&mut run, what, limit, None);
            refused(&run.run(), part).map_err(|e| format!("{part}, named {named}: {e}"))?;
            if file.exists() {
                return Err(format!("{part}: the memory file was left behind"));
            }
        }
    }
    Ok(())
}

/// A file system of `size` in a directory of this process's own mounts.
fn tiny(size: &str) -> Result<PathBuf, String> {
    let dir = scratch().join("tiny");
    std::fs::create_dir_all(&dir).map_err(|e| e.to_string())?;
    let at = std::ffi::CString::new(dir.to_string_lossy().as_ref()).map_err(|e| e.to_string())?;
    let options = std::ffi::CString::new(format!("size={size}")).map_err(|e| e.to_string())?;
    let kind = c"tmpfs".as_ptr();
    // SAFETY: mounts in this process's own name space; all strings are valid.
    match unsafe { libc::mount(kind, at.as_ptr(), kind, 0, options.as_ptr().cast()) } {
        0 => Ok(dir),
        _ => Err(std::io::Error::last_os_error().to_string()),
    }
}

/// The host's disk fills up under a machine.
fn disk_full() -> Result<(), String> {
    if !lodger_tests::host::has_own_mounts() {
        eprintln!("no mounts of its own: the full disk is not tried");
        return Ok(());
    }
    for (size, tool) in [
        ("64k", "anon"),
        ("1M", "anon"),
        ("24M", "anon"),
        ("24M", "tmpfs"),
        ("24M", "file"),
    ] {
        let dir = tiny(size)?;
        let mut run = Run::lodger(&["--mem", "256M", "--memory-file"]).arg(dir.join("m"));
        run = run.arg("--").arg(guest(Link::Static));
        let out = run.args(["--tool", "hog", tool]).dir("/").limit(60).run();
        let r = refused(&out, "no space left").map_err(|e| format!("disk of {size}, {tool}: {e}"));
        let at =
            std::ffi::CString::new(dir.to_string_lossy().as_ref()).map_err(|e| e.to_string())?;
        // SAFETY: a valid string.
        unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) };
        r?;
    }
    Ok(())
}

/// Closed and odd standard streams.
fn streams() -> Result<(), String> {
    for closed in 1..8u32 {
        let mut run = Run::lodger(&["--", "/bin/sh", "-c", "exit 7"])
            .dir("/")
            .limit(30);
        // SAFETY: closes descriptors between fork and exec.
        unsafe {
            run.raw().pre_exec(move || {
                (0..3).filter(|i| closed & 1 << i != 0).for_each(|i| {
                    libc::close(i);
                });
                Ok(())
            });
        }
        let out = run.run();
        if out.code() != 7 || out.left > 0 {
            return Err(format!(
                "streams {closed:b} closed: {} {}",
                out.code(),
                out.err_tail()
            ));
        }
    }
    Ok(())
}

type Case = (&'static str, fn() -> Result<(), String>);

const CASES: &[Case] = &[
    ("mistakes_on_the_command_line", mistakes),
    ("commands_that_cannot_run", commands),
    ("poor_hosts", poor_hosts),
    ("few_descriptors", few_descriptors),
    ("few_processes", few_processes),
    ("small_limits", small_limits),
    ("disk_full", disk_full),
    ("closed_streams", streams),
];

fn main() {
    lodger_tests::host::private_directories();
    let mut suite = Suite::new("bad_input").one_by_one().mainly_first();
    for (name, f) in CASES {
        suite.add(*name, f);
    }
    suite.run();
}
