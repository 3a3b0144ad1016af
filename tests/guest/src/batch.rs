//! Runs tests one after another, each in its own process, directory and process
//! group, with a time limit.

use crate::common::*;

struct Options {
    uid: Option<u32>,
    limit_ms: u64,
    framed: bool,
    names: Vec<String>,
}

fn parse(args: &[String]) -> Option<Options> {
    let mut o = Options {
        uid: None,
        limit_ms: 20_000,
        framed: false,
        names: vec![],
    };
    let mut it = args.iter();
    while let Some(a) = it.next() {
        match a.as_str() {
            "--uid" => o.uid = Some(it.next()?.parse().ok()?),
            "--limit" => o.limit_ms = it.next()?.parse::<u64>().ok()? * 1000,
            "--batch" => o.framed = true,
            _ => o.names.push(a.clone()),
        }
    }
    Some(o)
}

pub fn main(args: &[String]) -> i32 {
    let Some(o) = parse(args) else { return 64 };
    // Orphans of a test become our children, so that sweep() finds them.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
    let mut code = 0;
    for name in &o.names {
        if crate::find(name).is_none() {
            eprintln!("guest: no test {name}");
            code = 64;
            continue;
        }
        if o.framed {
            say!("=== {name}");
        }
        let how = one(name, &o);
        if o.framed {
            say!("=== end {name} {how}");
        } else if how != "exit 0" {
            eprintln!("guest: {name}: {how}");
            code = 1;
        }
    }
    code
}

fn one(name: &str, o: &Options) -> String {
    let base = std::env::var("GUEST_TMP").unwrap_or_else(|_| "/tmp".into());
    let mut dir = format!("{base}/guest-XXXXXX\0").into_bytes();
    if unsafe { libc::mkdtemp(dir.as_mut_ptr().cast()) }.is_null() {
        return format!("no directory: {}", errno_name(errno()));
    }
    dir.pop();
    let dir = String::from_utf8(dir).unwrap();
    let exe = me();
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        child(name, &dir, o.uid, &exe);
    }
    if pid < 0 {
        return format!("no child: {}", errno_name(errno()));
    }
    unsafe { libc::setpgid(pid, pid) };
    let end = now_ms() + o.limit_ms;
    let mut st = 0;
    let how = loop {
        match unsafe { libc::waitpid(pid, &mut st, libc::WNOHANG) } {
            0 if now_ms() > end => {
                unsafe { libc::kill(-pid, libc::SIGKILL) };
                unsafe { libc::waitpid(pid, &mut st, 0) };
                break "time limit".to_string();
            }
            0 => ms(2),
            r if r == pid => break St(st).to_string(),
            _ => break format!("no child: {}", errno_name(errno())),
        }
    };
    // What the test left behind dies with it, so that the next one starts alone.
    unsafe { libc::kill(-pid, libc::SIGKILL) };
    sweep();
    if std::fs::remove_dir_all(&dir).is_err() {
        let _ = std::process::Command::new("/bin/chmod")
            .args(["-R", "u+rwx", &dir])
            .status();
        let _ = std::fs::remove_dir_all(&dir);
    }
    how
}

/// Kills and collects the children that a test left behind.
fn sweep() {
    let me = std::process::id().to_string();
    for _ in 0..50 {
        let mut found = false;
        for e in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = e.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else {
                continue;
            };
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if stat
                .rsplit_once(") ")
                .is_some_and(|(_, r)| r.split(' ').nth(1) == Some(&me))
            {
                found = true;
                unsafe { libc::kill(pid, libc::SIGKILL) };
                unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
            }
        }
        if !found {
            return;
        }
    }
}

fn child(name: &str, dir: &str, uid: Option<u32>, exe: &std::ffi::CStr) -> ! {
    unsafe {
        libc::setpgid(0, 0);
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        libc::dup2(null, 0);
        libc::dup2(1, 2);
        if let Some(uid) = uid {
            libc::chown(cs(dir).as_ptr(), uid, uid);
            libc::setgroups(0, std::ptr::null());
            libc::setgid(uid);
            libc::setuid(uid);
        }
    }
    sys!(chdir(cs(dir).as_ptr())).v();
    let r = exec(
        exe,
        &["guest", "--run", name],
        &["PATH=/usr/bin:/bin", "LC_ALL=C"],
    );
    say!("cannot execute: {r}");
    unsafe { libc::_exit(97) }
}
