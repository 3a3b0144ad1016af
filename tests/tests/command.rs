//! The options of `lodger run` and what it promises about the host: what is
//! shown inside, to whom, and what is never written.

use lodger_tests::build::{Link, guest, scratch};
use lodger_tests::engine::Engine;
use lodger_tests::machine::{Outcome, Run, User};
use lodger_tests::suite::Suite;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

fn run_as(user: User, options: &[&str], cmd: &[&str]) -> Run {
    let mut all = vec!["--cpus", "2", "--mem", "256M"];
    all.extend(options);
    Run::lodger_of(user, &all).dir("/").arg("--").args(cmd)
}

fn sh(options: &[&str], script: &str) -> Run {
    run_as(User::Me, options, &["/bin/sh", "-c", script])
}

#[track_caller]
fn out(r: Run) -> String {
    let o: Outcome = r.run();
    assert_eq!(o.code(), 0, "{}", o.err_tail());
    assert_eq!(o.left, 0);
    o.out()
}

/// A new directory that everybody may read, for the test under this engine.
fn dir(name: &str) -> PathBuf {
    let d = scratch().join(format!("command-{}-{name}", Engine::current().name()));
    fs::create_dir_all(&d).expect("directory");
    d
}

fn text(p: &Path) -> &str {
    p.to_str().expect("text")
}

/// Everything below a directory: name, size, mode, modification.
fn picture(d: &Path) -> Vec<(String, u64, u32, i64)> {
    let mut v = vec![];
    for e in fs::read_dir(d).expect("directory").flatten() {
        let m = e.path().symlink_metadata().expect("attributes");
        v.push((text(&e.path()).into(), m.size(), m.mode(), m.mtime_nsec()));
        if m.is_dir() {
            v.extend(picture(&e.path()));
        }
    }
    v.sort();
    v
}

fn root_is_any_directory() {
    let d = dir("root");
    fs::create_dir_all(d.join("etc")).expect("directory");
    fs::write(d.join("etc/mark"), "here\n").expect("file");
    fs::copy(guest(Link::Static), d.join("guest")).expect("copy");
    let before = picture(&d);
    // The host's directories as mount points that do not exist below the root.
    let options = [
        "--root",
        text(&d),
        "--bind",
        "/usr:/usr:ro",
        "--bind",
        "/bin:/bin:ro",
    ];
    let mut options: Vec<&str> = options.to_vec();
    for lib in ["/lib:/lib:ro", "/lib64:/lib64:ro"] {
        options.extend(["--bind", lib]);
    }
    let o = sh(
        &options,
        "cat /etc/mark; echo x > /etc/new; ls /etc; ls -d /dev/null /proc/self; ls / | wc -l",
    );
    assert_eq!(out(o), "here\nmark\nnew\n/dev/null\n/proc/self\n10\n");
    // A machine of one static program.
    let o = run_as(User::Me, &["--root", text(&d)], &["/guest", "--list"]).run();
    assert!(o.code() < 120, "{}", o.err_tail());
    let o = run_as(User::Me, &["--root", text(&d)], &["sh"]).run();
    assert_eq!(o.code(), 127);
    assert_eq!(picture(&d), before);
}

fn nothing_of_the_host_is_written() {
    let d = dir("cow");
    fs::create_dir_all(d.join("sub/deep")).expect("directory");
    for f in ["a", "b", "sub/c", "sub/deep/d"] {
        fs::write(d.join(f), f).expect("file");
    }
    symlink("a", d.join("link")).expect("link");
    let before = picture(&d);
    let script = "
        echo x >> a; : > b; rm sub/c; mv sub sub2; ln a hard; chmod 600 b; touch -d @1 sub2/deep/d
        chown 1:1 a; ln -sf b link; mkdir new; echo y > new/z; mkfifo fifo; cp a sub2/e
        python3 -c 'pass' 2>/dev/null; echo t > /tmp/lodger-test-new; rm -rf /etc/hostname
        cat a b sub2/deep/d link; ls; stat -c %u:%a a b; echo x > /usr/bin/new; ls /etc/hostname 2>/dev/null
        echo end";
    let o = sh(&["--workdir", text(&d)], script);
    let want = "ax\nsub/deep/da\nb\nfifo\nhard\nlink\nnew\nsub2\n1:644\n0:600\nend\n";
    let mode = fs::metadata(d.join("a")).expect("file").mode() & 0o777;
    assert_eq!(mode, 0o644);
    if lodger_tests::is_root() {
        assert_eq!(out(o), want);
    } else {
        assert_eq!(o.run().code(), 0);
    }
    assert_eq!(picture(&d), before);
    assert!(Path::new("/etc/hostname").exists());
    for new in ["/tmp/lodger-test-new", "/usr/bin/new"] {
        assert!(!Path::new(new).exists(), "{new}");
    }
}

fn owners_are_true_and_secrets_are_secret() {
    let d = dir("owners");
    let secret = d.join("secret");
    fs::write(&secret, "s").expect("file");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("mode");
    fs::create_dir_all(d.join("closed/in")).expect("directory");
    let closed = fs::Permissions::from_mode(0o700);
    fs::set_permissions(d.join("closed"), closed).expect("mode");
    let who = |p: &Path| fs::metadata(p).expect("file").uid();
    let script = format!(
        "cd {}; id -u; stat -c %u:%a secret closed; cat secret 2>/dev/null; echo $?; ls closed 2>/dev/null; echo $?",
        text(&d)
    );
    let me = who(&secret);
    let seen = out(sh(&[], &script));
    assert_eq!(seen, format!("0\n{me}:600\n{me}:700\ns0\nin\n0\n"));
    if !lodger_tests::is_root() {
        return;
    }
    // Root of the machine, but nobody on the host: sees them, may not read them.
    let o = run_as(User::Ordinary, &[], &["/bin/sh", "-c", &script]);
    assert_eq!(out(o), "0\n0:600\n0:700\n1\n2\n");
    let o = run_as(User::Ordinary, &[], &["cat", "/etc/shadow"]).run();
    assert_eq!((o.code(), o.out()), (1, String::new()));
    // An ordinary user inside a machine of root: the guest's own rules.
    let o = run_as(User::Me, &["--user", "1234"], &["/bin/sh", "-c", &script]);
    assert_eq!(out(o), "1234\n0:600\n0:700\n1\n2\n");
    chown(&secret, Some(1234), Some(1234)).expect("owner");
    let o = run_as(User::Me, &["--user", "1234"], &["cat", text(&secret)]);
    assert_eq!(out(o), "s");
}

fn nothing_is_left_when_it_has_ended() {
    let script = "for i in 1 2 3 4 5 6 7 8; do sleep 100 & sleep 100 & sleep 100 & done; exit 3";
    for _ in 0..5 {
        let mut run = sh(&[], script).start();
        run.child.wait().expect("end");
        let left = run.tree.others_alive();
        assert_eq!(run.finish().code(), 3);
        assert!(left.is_empty(), "{left:?}");
    }
}

fn the_machines_own_directories() {
    let script = "
        cat /proc/1/comm; ls /proc | grep -c '^[0-9]'; cut -d' ' -f1,3 /proc/version; hostname 2>/dev/null || uname -n
        ls /run; ls /dev | tr '\\n' ' '; echo; test -d /sys/devices/system/cpu/cpu1 && echo two
        test -e /sys/class/net/eth0 || echo no net; ls /dev/shm; stat -f -c %T /proc /dev /run";
    let got = out(sh(&[], script));
    let mut l = got.lines();
    assert_eq!(l.next(), Some("init"));
    let n: u32 = l.next().and_then(|n| n.parse().ok()).expect("number");
    assert!(n < 8, "{n} processes");
    assert!(
        l.next()
            .expect("version")
            .starts_with("Linux 6.12.0-lodger"),
        "{got}"
    );
    assert_eq!(l.next(), Some("lodger"));
    let dev = l.next().expect("devices");
    for d in [
        "null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "fd", "stdin",
    ] {
        assert!(dev.split(' ').any(|n| n == d), "{d} is not in {dev}");
    }
    let rest: Vec<&str> = l.collect();
    assert_eq!(rest, ["two", "no net", "proc", "tmpfs", "tmpfs"]);
}

fn binds() {
    let d = dir("bind");
    let outside = d.join("outside");
    let inside = d.join("inside");
    fs::create_dir_all(&inside).expect("directory");
    fs::write(&outside, "outside").expect("file");
    fs::write(inside.join("f"), "f").expect("file");
    symlink("../outside", inside.join("out")).expect("link");
    symlink("/etc/hostname", inside.join("abs")).expect("link");
    let bind = format!("{}:/mnt/x", text(&inside));
    let script = "
        umask 022; cd /mnt/x; echo new > n; mkdir d; mv n d/; echo more >> f; rm -f gone; ln f g; chmod 640 g
        echo escaped > out; echo escaped > abs; cat /mnt/outside; stat -c %h f; ln -s f s; touch -d @5 f";
    assert_eq!(out(sh(&["--bind", &bind], script)), "escaped\n2\n");
    assert_eq!(
        fs::read_to_string(inside.join("d/n")).expect("file"),
        "new\n"
    );
    assert_eq!(
        fs::read_to_string(inside.join("f")).expect("file"),
        "fmore\n"
    );
    let m = fs::metadata(inside.join("g")).expect("file");
    assert_eq!((m.mode() & 0o777, m.nlink(), m.mtime()), (0o640, 2, 5));
    assert_eq!(
        fs::read_link(inside.join("s")).expect("link"),
        Path::new("f")
    );
    // Links that lead out of the directory lead to the machine's files.
    assert_eq!(fs::read_to_string(&outside).expect("file"), "outside");
    assert_ne!(
        fs::read_to_string("/etc/hostname").expect("file"),
        "escaped\n"
    );
    // Read-only; a single file; the same path; several.
    let ro = format!("{bind}:ro");
    let o = sh(
        &["--bind", &ro],
        "cd /mnt/x; cat d/n; echo x > y; rm f; mkdir z; touch f; exit 0",
    )
    .run();
    assert_eq!(o.out(), "new\n");
    assert_eq!(
        o.err().matches("Read-only file system").count(),
        4,
        "{}",
        o.err_tail()
    );
    let file = format!("{}:/etc/hostname", text(&outside));
    let o = sh(
        &["--bind", &file, "--bind", text(&inside)],
        &format!(
            "cat /etc/hostname; echo replaced > /etc/hostname; ls {}",
            text(&inside)
        ),
    );
    assert_eq!(out(o), "outsideabs\nd\nf\ng\nout\ns\n");
    assert_eq!(fs::read_to_string(&outside).expect("file"), "replaced\n");
    // What the host changes is seen.
    let r = sh(
        &["--bind", &bind],
        "cat /mnt/x/f; echo started; read x; sleep 1.2; cat /mnt/x/f; ls /mnt/x/late",
    );
    let f = inside.join("f");
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(700));
        fs::write(&f, "changed\n").expect("file");
        fs::write(f.with_file_name("late"), "").expect("file");
    });
    let got = out(r.stdin("x\n"));
    writer.join().expect("writer");
    assert_eq!(got, "fmore\nstarted\nchanged\n/mnt/x/late\n");
}

fn owners_of_what_is_written() {
    if !lodger_tests::is_root() {
        return;
    }
    let d = dir("given");
    fs::set_permissions(&d, fs::Permissions::from_mode(0o777)).expect("mode");
    let bind = format!("{}:/mnt", text(&d));
    let write = |user, inside, script| {
        let options = ["--user", inside, "--bind", &bind];
        let o = run_as(user, &options, &["/bin/sh", "-c", script]).run();
        (o.code(), o.out())
    };
    let owner = |name: &str| {
        let m = fs::metadata(d.join(name)).expect("file");
        (m.uid(), m.gid())
    };
    write(User::Me, "1234:77", "echo > /mnt/a");
    write(User::Me, "0", "echo > /mnt/b; chown 5:6 /mnt/b");
    let tell =
        "echo > /mnt/c; chown 5:6 /mnt/c; echo $?; echo x > /mnt/b; echo $?; stat -c %u /mnt/c";
    assert_eq!(write(User::Ordinary, "0", tell).1, "1\n2\n65534\n");
    assert_eq!(
        (owner("a"), owner("b"), owner("c")),
        ((1234, 77), (5, 6), (65534, 65534))
    );
}

fn who_and_where() {
    assert_eq!(
        out(sh(&["--user", "nobody"], "id -un; id -u")),
        "nobody\n65534\n"
    );
    assert_eq!(
        out(sh(
            &["--user", "12:34"],
            "id -u; id -g; id -G; cat /proc/self/status | grep -E '^CapEff' | tr -d '\\t'"
        )),
        "12\n34\n34\nCapEff:0000000000000000\n"
    );
    assert_eq!(
        out(sh(
            &["--user", "root"],
            "id -u; grep CapEff /proc/self/status | tr -d '\\t' | cut -c1-12"
        )),
        "0\nCapEff:00000\n"
    );
    assert_eq!(
        out(sh(
            &["--hostname", "box", "--workdir", "/usr/bin"],
            "uname -n; pwd; cat /proc/sys/kernel/hostname"
        )),
        "box\n/usr/bin\nbox\n"
    );
    let o = sh(&["--workdir", "bin"], "pwd").dir("/usr");
    assert_eq!(out(o), "/usr/bin\n");
    let o = sh(&["--workdir", "/no/such/dir"], "pwd").run();
    assert_eq!(
        (o.code(), o.out()),
        (125, String::new()),
        "{}",
        o.err_tail()
    );
    assert!(o.err().contains("/no/such/dir"), "{}", o.err_tail());
    // The environment is the caller's, in its order and bytes.
    let o = run_as(User::Me, &["--env", "B=2", "--env", "A"], &["env"]);
    let got = out(o.env("A", "1 x").env("C", "a\nb"));
    for part in ["A=1 x\n", "B=2\n", "C=a\nb\n", "LC_ALL=C\n"] {
        assert!(got.contains(part), "{part} is not in {got}");
    }
    // Found without PATH in the environment.
    assert_eq!(out(run_as(User::Me, &["--clean-env"], &["env"])), "");
    assert_eq!(
        out(run_as(User::Me, &["--clean-env", "--env", "A"], &["env"]).env("A", "x")),
        "A=x\n"
    );
    let o = run_as(
        User::Me,
        &[],
        &[
            "printf", "<%s>", "", "a b", "-c", "--", "\u{fc}\n", "--cpus",
        ],
    );
    assert_eq!(out(o), "<><a b><-c><--><\u{fc}\n><--cpus>");
}

fn sizes() {
    let script = "nproc; grep -c ^processor /proc/cpuinfo; awk '/MemTotal/ { print int($2 / 1024 / 10) }' /proc/meminfo";
    assert_eq!(out(sh(&[], script)), "2\n2\n25\n");
    let o = Run::lodger(&["--cpus", "1", "--mem", "1G", "--engine", "seccomp"]);
    assert_eq!(out(o.args(["--", "/bin/sh", "-c", script])), "1\n1\n102\n");
    // More memory than there is: the program dies, the machine goes on.
    let hog = "head -c 400M /dev/zero | tail > /dev/null; echo status $?; sleep 0.1; echo alive";
    let o = sh(&[], hog).run();
    assert!(o.out().ends_with("alive\n"), "{} {}", o.out(), o.err_tail());
    let o = Run::lodger(&["--mem", "32M", "--cpus", "1"]).args(["--", "/bin/echo", "small"]);
    assert_eq!(out(o), "small\n");
    let o = Run::lodger(&["--mem", "64M", "--cpus", "64"])
        .args(["--", "nproc"])
        .limit(60);
    assert_eq!(out(o), "64\n");
}

fn memory_file_stays() {
    let d = dir("memory");
    let f = d.join("m");
    let options = ["--memory-file", text(&f)];
    assert_eq!(
        out(sh(
            &options,
            "echo in it; x=a-word-in-memory-$((40+2)); sleep 0.1"
        )),
        "in it\n"
    );
    let m = fs::read(&f).expect("memory file");
    assert_eq!(m.len(), 256 << 20);
    let word = b"a-word-in-memory-42";
    assert!(m.windows(word.len()).any(|w| w == word));
    // Used again by the next machine.
    assert_eq!(out(sh(&options, "echo again")), "again\n");
    let mode = fs::metadata(&f).expect("file").mode() & 0o777;
    assert_eq!(mode, 0o600, "others could read the guest's memory");
}

fn messages() {
    let quiet = sh(&["--log-level", "error"], "true").run();
    assert_eq!(quiet.err(), "");
    let plain = sh(&[], "true").run();
    assert_eq!(plain.err(), "");
    let debug = sh(
        &["--log-level", "debug", "--bind", "/usr/share:/mnt"],
        "true",
    )
    .run();
    assert!(debug.err().contains("/mnt"), "{}", debug.err_tail());
    let o = sh(
        &["--strace"],
        "read x < /etc/hostname; cd /usr; exec /bin/false",
    )
    .run();
    let log = o.err();
    assert_eq!(o.code(), 1);
    for part in [
        "execve(\"/bin/false\", [\"/bin/false\"]",
        "openat(AT_FDCWD, \"/etc/hostname\", O_RDONLY",
        "chdir(\"/usr\") = 0",
        "exit_group(1)",
        "= -1 ENOENT",
        "mmap(NULL, ",
        "PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS",
    ] {
        assert!(log.contains(part), "{part} is not in\n{log}");
    }
    // A call that is not there: one line, however often it is made.
    let o = sh(&[], "true; echo $?").run();
    assert_eq!(o.out(), "0\n");
}

fn exit_codes() {
    let d = dir("codes");
    let make = |name: &str, text: &[u8], mode| {
        let p = d.join(name);
        fs::write(&p, text).expect("file");
        fs::set_permissions(&p, fs::Permissions::from_mode(mode)).expect("mode");
        p.to_str().expect("text").to_string()
    };
    let code = |cmd: &[&str]| {
        let o = run_as(User::Me, &[], cmd).dir(dir("codes")).run();
        (o.code(), o.err().lines().count())
    };
    assert_eq!(code(&[&make("noexec", b"#!/bin/sh\n", 0o644)]), (126, 1));
    assert_eq!(code(&[&make("plain", b"exit 8\n", 0o755)]), (8, 0));
    assert_eq!(code(&[&make("empty", b"", 0o755)]), (0, 0));
    assert_eq!(
        code(&[&make("nointerp", b"#!/no/such/sh\n", 0o755)]),
        (127, 1)
    );
    assert_eq!(code(&[&make("ok", b"#!/bin/sh\nexit 9\n", 0o755)]), (9, 0));
    assert_eq!(code(&["./ok"]), (9, 0));
    assert_eq!(code(&["ok"]), (127, 1));
    // What is found may not be executed; of a directory that may not be searched nothing is known.
    let hidden = d.join("hidden");
    fs::create_dir_all(&hidden).expect("directory");
    fs::write(hidden.join("ok"), "").expect("file");
    let with_path = |user, dir: &std::path::Path, cmd: &str| {
        let path = format!("PATH={}:/bin", dir.display());
        run_as(user, &["--env", &path], &[cmd]).run().code()
    };
    assert_eq!(with_path(User::Me, &d, "noexec"), 126);
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o000)).expect("mode");
    assert_eq!(with_path(User::Ordinary, &hidden, "ok"), 127);
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o755)).expect("mode");
    assert_eq!(code(&[""]), (127, 1));
    assert_eq!(code(&["/"]), (126, 1));
    assert_eq!(code(&["./ok/x"]), (126, 1));
    assert_eq!(code(&["sh", "-c", "exit 300"]), (300 & 255, 0));
    for (name, n) in [
        ("HUP", 1),
        ("ABRT", 6),
        ("KILL", 9),
        ("SEGV", 11),
        ("TERM", 15),
        ("RTMIN", 34),
    ] {
        let script = format!("kill -{name} $$; sleep 1");
        assert_eq!(code(&["bash", "-c", &script]), (128 + n, 0), "{name}");
    }
}

/// Call sites are rewritten by the engine kml only, and not if that is unwanted.
fn call_sites() {
    let site = |options: &[&str], args: &[&str]| {
        let program = guest(Link::Static);
        let cmd = [&[text(&program), "--tool", "site"][..], args].concat();
        out(run_as(User::Me, options, &cmd))
    };
    let changed = match Engine::current() {
        Engine::Seccomp => "as in the file, kept 0\n",
        Engine::Kml => "changed, kept 0\n",
    };
    assert_eq!(site(&[], &[]), changed);
    assert_eq!(site(&["--no-patch"], &[]), "as in the file, kept 0\n");
    assert_eq!(site(&[], &["keep"]), "prctl 0\nas in the file, kept 1\n");
}

const TESTS: &[(&str, fn())] = &[
    ("root_is_any_directory", root_is_any_directory),
    (
        "nothing_of_the_host_is_written",
        nothing_of_the_host_is_written,
    ),
    (
        "owners_are_true_and_secrets_are_secret",
        owners_are_true_and_secrets_are_secret,
    ),
    (
        "nothing_is_left_when_it_has_ended",
        nothing_is_left_when_it_has_ended,
    ),
    ("the_machines_own_directories", the_machines_own_directories),
    ("binds", binds),
    ("owners_of_what_is_written", owners_of_what_is_written),
    ("who_and_where", who_and_where),
    ("sizes", sizes),
    ("memory_file_stays", memory_file_stays),
    ("messages", messages),
    ("exit_codes", exit_codes),
    ("call_sites", call_sites),
];

fn main() {
    let mut suite = Suite::new("command");
    for (name, test) in TESTS {
        suite.add_in_turn(*name, || {
            test();
            Ok::<(), String>(())
        });
    }
    suite.run();
}
