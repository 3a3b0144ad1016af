//! What `lodger run` promises around the machine: exit statuses, streams,
//! binds, identity, crashes. What happens inside is tested in `tests/`.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn lodger(options: &[&str], command: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_lodger"));
    c.args(["run", "--mem", "256M", "--cpus", "2"]);
    c.args(options).arg("--").args(command);
    c.stdin(Stdio::null());
    c
}

fn sh(options: &[&str], script: &str) -> Command {
    lodger(options, &["/bin/sh", "-c", script])
}

#[track_caller]
fn text(c: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = c.output().expect("lodger starts");
    let err = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{status}: {err}");
    String::from_utf8(stdout).expect("text")
}

#[track_caller]
fn code(c: &mut Command) -> i32 {
    let s = c.stderr(Stdio::null()).status().expect("lodger starts");
    assert_eq!(s.signal(), None);
    s.code().expect("exit status")
}

struct Temp(PathBuf);

impl Temp {
    fn new(name: &str) -> Temp {
        let p = std::env::temp_dir().join(format!("lodger-run-{}-{name}", std::process::id()));
        fs::create_dir_all(&p).expect("temporary directory");
        Temp(p)
    }
    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("text").into()
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn exit_statuses() {
    assert_eq!(code(&mut lodger(&[], &["true"])), 0);
    assert_eq!(code(&mut sh(&[], "exit 7")), 7);
    assert_eq!(code(&mut sh(&[], "kill -TERM $$")), 143);
    assert_eq!(code(&mut sh(&[], "kill -KILL $$")), 137);
    assert_eq!(code(&mut lodger(&[], &["no-such-command"])), 127);
    assert_eq!(code(&mut lodger(&[], &["/no/such/command"])), 127);
    assert_eq!(code(&mut lodger(&[], &["/etc/passwd"])), 126);
    assert_eq!(code(&mut lodger(&[], &["/etc"])), 126);
}

#[test]
fn the_host_is_not_written() {
    let t = Temp::new("cow");
    let f = t.path("f");
    fs::write(&f, "host").expect("file");
    fs::create_dir_all(t.path("d/e")).expect("directories");
    let dir = t.path("d");
    let script = format!("echo guest > {f}; echo new > {f}.new; rm -r {dir}; cat {f} {f}.new");
    assert_eq!(text(&mut sh(&[], &script)), "guest\nnew\n");
    assert_eq!(fs::read_to_string(&f).expect("file"), "host");
    assert_eq!(fs::read_dir(&t.0).expect("directory").count(), 2);
    assert!(fs::metadata(t.path("d/e")).is_ok());
}

#[test]
fn binds_write_through_or_not() {
    let t = Temp::new("bind");
    let dir = t.path("");
    let bind = format!("{dir}:/mnt");
    text(&mut sh(
        &["--bind", &bind],
        "umask 022; echo through > /mnt/f",
    ));
    assert_eq!(fs::read_to_string(t.path("f")).expect("file"), "through\n");
    let ro = format!("{dir}:/mnt:ro");
    let mut c = sh(&["--bind", &ro], "cat /mnt/f; echo x > /mnt/f");
    assert_ne!(code(c.stdout(Stdio::null())), 0);
    assert_eq!(fs::read_to_string(t.path("f")).expect("file"), "through\n");
}

#[test]
fn environment_identity_and_place() {
    let mut c = lodger(&["--clean-env", "--env", "A=b c"], &["/usr/bin/env"]);
    assert_eq!(text(&mut c), "A=b c\n");
    let mut c = sh(
        &["--hostname", "h1", "--workdir", "/usr"],
        "uname -n; pwd; id -u",
    );
    assert_eq!(text(&mut c), "h1\n/usr\n0\n");
    let mut c = sh(&["--user", "1234:77"], "id -u; id -g");
    assert_eq!(text(&mut c), "1234\n77\n");
    let mut c = sh(&[], "pwd; umask");
    // SAFETY: umask(2) is safe between fork and exec.
    unsafe {
        c.pre_exec(|| {
            libc::umask(0o027);
            Ok(())
        });
    }
    let out = text(c.current_dir("/usr/share"));
    assert_eq!(out, "/usr/share\n0027\n");
}

#[test]
fn pipes_in_and_out() {
    let data: Vec<u8> = (0..3_000_000u32)
        .map(|i| (i.wrapping_mul(i) >> 7) as u8)
        .collect();
    let mut c = lodger(&[], &["cat"]);
    let mut child = c
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("lodger starts");
    let mut stdin = child.stdin.take().expect("stdin");
    let copy = data.clone();
    let feeder = std::thread::spawn(move || stdin.write_all(&copy));
    let out = child.wait_with_output().expect("output");
    feeder.join().expect("thread").expect("all taken");
    assert!(out.status.success());
    assert!(out.stdout == data, "{} of {}", out.stdout.len(), data.len());
}

/// Several programs write to one file and read from one, each going on where
/// the last stopped, inside and outside of the machine.
#[test]
fn files_share_their_position() {
    let t = Temp::new("pos");
    let out = File::create(t.path("out")).expect("file");
    fs::write(t.path("in"), "1\n2\n3\n").expect("file");
    let input = File::open(t.path("in")).expect("file");
    for _ in 0..2 {
        let mut c = sh(
            &[],
            "read a; echo got $a; cat /etc/hostname >/dev/null; /bin/echo end",
        );
        c.stdin(input.try_clone().expect("dup"));
        c.stdout(out.try_clone().expect("dup"));
        assert_eq!(code(&mut c), 0);
        (&out).write_all(b"host\n").expect("write");
    }
    let got = fs::read_to_string(t.path("out")).expect("file");
    assert_eq!(got, "got 1\nend\nhost\ngot 2\nend\nhost\n");
}

#[test]
fn few_descriptors_are_enough() {
    let t = Temp::new("fds");
    for i in 0..300 {
        fs::write(t.path(&format!("f{i}")), "x").expect("file");
    }
    let mut c = sh(&[], &format!("cd {}; cat f* | wc -c", t.path("")));
    let lim = libc::rlimit {
        rlim_cur: 64,
        rlim_max: 64,
    };
    // SAFETY: setrlimit(2) is safe between fork and exec.
    unsafe {
        c.pre_exec(move || match libc::setrlimit(libc::RLIMIT_NOFILE, &lim) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    assert_eq!(text(&mut c).trim(), "300");
}

/// A fault in the kernel process: report, status 120, memory file kept, nothing left.
#[test]
fn a_crash_is_reported() {
    let t = Temp::new("crash");
    let file = t.path("memory");
    let mut c = lodger(&["--memory-file", &file], &["sleep", "100"]);
    let child = c
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("lodger starts");
    let pid = child.id() as i32;
    let end = Instant::now() + Duration::from_secs(20);
    // Both: the file with its header, and the command running.
    while fs::metadata(&file).map_or(0, |m| m.len()) == 0 {
        assert!(Instant::now() < end, "no machine");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(500));
    // SAFETY: no memory involved.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGSEGV) }, 0);
    let out = child.wait_with_output().expect("output");
    let err = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(120), "{err}");
    assert!(err.contains("kernel fault: SIGSEGV"), "{err}");
    assert!(err.contains(&format!("memory file kept: {file}")), "{err}");
    let memory = fs::read(&file).expect("memory file");
    assert!(memory.starts_with(b"LODGERMF"));
    // Its pipe is closed: no process of the machine holds it any more.
}

#[test]
fn a_second_sigterm_ends_a_deaf_machine() {
    let mut c = sh(&[], "trap '' TERM; echo ready; while :; do sleep 1; done");
    let mut child = c.stdout(Stdio::piped()).spawn().expect("lodger starts");
    let mut line = [0; 6];
    let mut out = child.stdout.take().expect("stdout");
    std::io::Read::read_exact(&mut out, &mut line).expect("ready");
    for _ in 0..2 {
        // SAFETY: no memory involved.
        assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGTERM) }, 0);
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(child.wait().expect("end").code(), Some(143));
}
