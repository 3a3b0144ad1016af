//! `storm SECONDS PROCESSES`: forks, executions, exits, waits and mappings as fast as they go,
//! in several processes at once. Whatever is not as it must be ends it with 1.

use crate::prelude::*;
use std::time::{Duration, Instant};

const PAGES: usize = 24;

/// Something is not as it must be.
fn bad(what: &str, r: R) -> ! {
    say!("BAD {what}: {r}");
    unsafe { _exit(1) }
}

fn map() -> *mut u64 {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS;
    let m = sys!(mmap(
        null_mut(),
        PAGES << 12,
        PROT_READ | PROT_WRITE,
        flags,
        -1,
        0
    ));
    if m.failed() {
        bad("mmap", m);
    }
    m.0 as *mut u64
}

/// Each page of `m` holds `v`.
fn fill(m: *mut u64, v: u64) {
    (0..PAGES).for_each(|i| unsafe { m.add(i * 512).write_volatile(v) });
}
fn check(m: *mut u64, v: u64) {
    for i in 0..PAGES {
        let got = unsafe { m.add(i * 512).read_volatile() };
        if got != v {
            bad("memory", R((got ^ v) as i64));
        }
    }
}

#[expect(deprecated, reason = "vfork is what is tried")]
fn worker(seed: u64, end: Instant) -> i32 {
    let exe = cs(&std::env::current_exe().map_or(String::new(), |p| p.to_string_lossy().into()));
    let args = [
        exe.as_ptr(),
        c"--tool".as_ptr(),
        c"exit".as_ptr(),
        c"7".as_ptr(),
        null(),
    ];
    let mut n = seed;
    while Instant::now() < end {
        n += 1;
        let m = map();
        fill(m, n);
        let pid = match n % 4 {
            3 => sys!(vfork()),
            _ => sys!(fork()),
        };
        if pid.0 == 0 {
            if n % 4 < 3 {
                check(m, n);
                fill(m, !n);
                check(m, !n);
            }
            if n % 2 == 1 {
                unsafe { execv(exe.as_ptr(), args.as_ptr()) };
                unsafe { _exit(100) }
            }
            unsafe { _exit(7) }
        }
        if pid.failed() {
            bad("fork", pid);
        }
        check(m, n);
        let mut st = 0;
        let r = sys!(waitpid(pid.0 as i32, &mut st, 0));
        if r != pid || st != 7 << 8 {
            say!("status {}", St(st));
            bad("wait", r);
        }
        check(m, n);
        let r = sys!(munmap(m.cast(), PAGES << 12));
        if r.failed() {
            bad("munmap", r);
        }
    }
    (n - seed > 0) as i32 - 1
}

pub fn main(args: &[String]) -> i32 {
    let number = |i: usize, d| args.get(i).and_then(|s| s.parse().ok()).unwrap_or(d);
    let (seconds, processes): (u64, u64) = (number(0, 10), number(1, 4));
    let end = Instant::now() + Duration::from_secs(seconds);
    let all: Vec<i32> = (0..processes)
        .map(|i| fork(|| worker(i << 32, end)))
        .collect();
    let ends: Vec<String> = all.into_iter().map(|p| wait(p).to_string()).collect();
    let good = ends.iter().all(|e| e == "exit 0");
    say!(
        "{}",
        if good {
            "calm".into()
        } else {
            format!("{ends:?}")
        }
    );
    !good as i32
}
