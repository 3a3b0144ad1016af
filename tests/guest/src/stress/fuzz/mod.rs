//! `fuzz SEED SECONDS [DIR [root]]`: random system calls with half-valid arguments, in DIR
//! and in a directory of its own. `fuzz list`: the numbers of the calls.
//!
//! The first process only starts workers, kills them after a while and counts.
//! Started as root it lets the workers be user 65534, so that none of their calls
//! can reach it; or, with `root`, lets them keep their rights and leaves out what
//! could. It ends with 0, or with 3 if a killed worker does not go away.

mod args;
mod calls;

use crate::prelude::*;
use args::{Fuzzer, Rng};
use std::ffi::CStr;

const NOBODY: u32 = 65534;
const WORKERS: usize = 3;
/// Descriptors a worker may have.
const FILES: u64 = 40;

/// What a worker is given.
#[derive(Clone, Copy)]
struct Order<'a> {
    seed: u64,
    parent: i32,
    calls: &'static AtomicU64,
    dir: &'a str,
    root: bool,
}

/// One descriptor of each kind.
fn some_of_each() {
    let mut p = [0; 2];
    unsafe {
        libc::pipe2(p.as_mut_ptr(), O_NONBLOCK);
        for kind in [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET] {
            socketpair(AF_UNIX, kind | SOCK_NONBLOCK, 0, p.as_mut_ptr());
        }
        epoll_create1(0);
        eventfd(1, EFD_NONBLOCK);
        timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
        inotify_init1(IN_NONBLOCK);
        let mut set: sigset_t = zero();
        sigaddset(&mut set, SIGUSR2);
        signalfd(-1, &set, SFD_NONBLOCK);
        memfd_create(c"m".as_ptr(), MFD_ALLOW_SEALING);
        syscall(SYS_pidfd_open, getpid(), 0);
        for path in [
            c".",
            c"/dev/zero",
            c"/dev/ptmx",
            c"/proc/self/maps",
            c"/proc/self/mem",
        ] {
            open_raw(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
        }
        libc::open(c"a".as_ptr(), O_RDWR | O_CREAT, 0o644);
        libc::mkdir(c"b".as_ptr(), 0o755);
        open_raw(c"b", O_PATH);
        libc::symlink(c"a".as_ptr(), c"l".as_ptr());
    }
}

fn worker(order: Order) -> ! {
    let Order {
        seed,
        parent,
        calls,
        dir,
        root,
    } = order;
    unsafe {
        setsid();
        let null = open_raw(c"/dev/null", O_RDWR);
        for fd in 0..3 {
            dup2(null, fd);
        }
        for (what, limit) in [
            (RLIMIT_NOFILE, FILES),
            (RLIMIT_FSIZE, 4 << 20),
            (RLIMIT_AS, 1 << 30),
            (RLIMIT_CORE, 0),
        ] {
            let l = rlimit {
                rlim_cur: limit,
                rlim_max: limit,
            };
            setrlimit(what, &l);
        }
        if geteuid() == 0 && !root {
            let l = rlimit {
                rlim_cur: 40,
                rlim_max: 40,
            };
            setrlimit(RLIMIT_NPROC, &l);
            setgroups(0, null_mut());
            setresgid(NOBODY, NOBODY, NOBODY);
            setresuid(NOBODY, NOBODY, NOBODY);
        }
        let own = format!("/tmp/fuzz.{}", getpid());
        mkdir(&own);
        let dir = cs(if seed % 2 == 0 && !dir.is_empty() {
            dir
        } else {
            &own
        });
        chdir(dir.as_ptr());
        some_of_each();
        for s in [SIGALRM, SIGUSR1, SIGUSR2, SIGCHLD, SIGPIPE, SIGXFSZ] {
            handle(s, nop, 0);
        }
        let every = itimerval {
            it_interval: timeval {
                tv_sec: 0,
                tv_usec: 4000,
            },
            it_value: timeval {
                tv_sec: 0,
                tv_usec: 4000,
            },
        };
        setitimer(ITIMER_REAL, &every, null_mut());
    }
    let run = move |seed| {
        let mut f = Fuzzer::new(seed, parent, root);
        loop {
            f.call();
            calls.fetch_add(1, SeqCst);
        }
    };
    for n in 1..3 {
        let _ = std::thread::Builder::new()
            .stack_size(128 << 10)
            .spawn(move || run(seed ^ n << 56));
    }
    run(seed)
}

unsafe fn open_raw(path: &CStr, flags: i32) -> i32 {
    unsafe { libc::open(path.as_ptr(), flags) }
}

/// Collects children until there are none. Whether that worked in time.
fn collect() -> bool {
    for _ in 0..2000 {
        unsafe {
            if geteuid() == 0 {
                kill(-1, SIGKILL);
            }
            loop {
                match waitpid(-1, null_mut(), WNOHANG) {
                    0 => break,
                    -1 if errno() == ECHILD => return true,
                    _ => {}
                }
            }
        }
        ms(5);
    }
    false
}

pub fn main(args: &[String]) -> i32 {
    if args.first().is_some_and(|a| a == "list") {
        let mut numbers: Vec<_> = calls::CALLS.iter().map(|c| c.0).collect();
        numbers.sort();
        numbers.dedup();
        numbers.iter().for_each(|n| say!("{n}"));
        return 0;
    }
    let dir = args.get(2).map_or("", String::as_str);
    let root = args.get(3).is_some_and(|a| a == "root");
    let number = |i: usize, d| args.get(i).and_then(|s| s.parse().ok()).unwrap_or(d);
    let (seed, seconds): (u64, u64) = (number(0, 1), number(1, 10));
    let mut rng = Rng(seed);
    let page = unsafe {
        let flags = MAP_SHARED | MAP_ANONYMOUS;
        mmap(null_mut(), 4096, PROT_READ | PROT_WRITE, flags, -1, 0)
    };
    // SAFETY: a page of zeros that stays mapped.
    let calls: &'static AtomicU64 = unsafe { &*page.cast() };
    unsafe { prctl(PR_SET_CHILD_SUBREAPER, 1) };
    let me = unsafe { getpid() };
    let end = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    // Calls of a round at most. The workers' calls may write anything to the counter, too.
    const PLAUSIBLE: u64 = 1 << 20;
    let (mut rounds, mut total, mut uncounted) = (0, 0, 0);
    while std::time::Instant::now() < end {
        let mut children = vec![];
        for _ in 0..WORKERS {
            let seed = rng.next();
            match unsafe { libc::fork() } {
                0 => worker(Order {
                    seed,
                    parent: me,
                    calls,
                    dir,
                    root,
                }),
                pid => children.push(pid),
            }
        }
        ms(100 + rng.below(500));
        for &pid in children.iter().filter(|p| **p > 0) {
            unsafe { kill(pid, SIGKILL) };
        }
        if !collect() {
            say!("HANG: killed processes do not end, seed {seed}, round {rounds}");
            return 3;
        }
        rounds += 1;
        match calls.swap(0, SeqCst) {
            n @ 1..PLAUSIBLE => total += n,
            _ => uncounted += 1,
        }
    }
    say!("rounds {rounds} calls {total} ({uncounted} rounds not counted)");
    0
}
