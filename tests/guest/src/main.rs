//! Guest test programs: `guest FAMILY::TEST` runs one test and prints what the
//! system answered. The same binary runs on the host's Linux and in a machine;
//! both must print the same, so nothing printed depends on process ids,
//! addresses, times or the file system below.
//!
//! - `guest --list`: the names.
//! - `guest [--uid N] [--limit SECONDS] --batch NAME…`: each test in a fresh process
//!   and directory, framed by `=== NAME` and `=== end NAME STATUS`.
//! - `guest --run NAME`: the test itself, in this process and directory.
//!
//! One folder per family; a test is a function in its `tests!` list.

#[macro_use]
mod common;

mod batch;
mod calls;
mod clocks;
mod code;
mod creds;
mod dev;
mod dir;
mod epoll;
mod eventfd;
mod file;
mod fp;
mod futex;
mod inotify;
mod links;
mod locks;
mod memfd;
mod mmap;
mod perms;
mod pipe;
mod poll;
mod prctl;
mod prelude;
mod process;
mod procfs;
mod rename;
mod rlimit;
mod rseq;
mod sched;
mod signal;
mod signalfd;
mod splice;
mod stress;
mod sysinfo;
mod sysv;
mod threads;
mod timerfd;
mod tty;
mod unix;
mod vdso;
mod xattr;

use common::Test;

/// Every family and its tests.
const FAMILIES: &[(&str, &[Test])] = &[
    ("file", file::TESTS),
    ("dir", dir::TESTS),
    ("rename", rename::TESTS),
    ("links", links::TESTS),
    ("perms", perms::TESTS),
    ("xattr", xattr::TESTS),
    ("mmap", mmap::TESTS),
    ("process", process::TESTS),
    ("threads", threads::TESTS),
    ("futex", futex::TESTS),
    ("signal", signal::TESTS),
    ("pipe", pipe::TESTS),
    ("eventfd", eventfd::TESTS),
    ("epoll", epoll::TESTS),
    ("poll", poll::TESTS),
    ("timerfd", timerfd::TESTS),
    ("signalfd", signalfd::TESTS),
    ("tty", tty::TESTS),
    ("unix", unix::TESTS),
    ("locks", locks::TESTS),
    ("inotify", inotify::TESTS),
    ("calls", calls::TESTS),
    ("clocks", clocks::TESTS),
    ("code", code::TESTS),
    ("creds", creds::TESTS),
    ("rlimit", rlimit::TESTS),
    ("rseq", rseq::TESTS),
    ("prctl", prctl::TESTS),
    ("sched", sched::TESTS),
    ("procfs", procfs::TESTS),
    ("fp", fp::TESTS),
    ("vdso", vdso::TESTS),
    ("dev", dev::TESTS),
    ("splice", splice::TESTS),
    ("memfd", memfd::TESTS),
    ("sysinfo", sysinfo::TESTS),
    ("sysv", sysv::TESTS),
    ("stress", stress::TESTS),
];

/// Programs that are no tests by themselves: attacks, floods and helpers that other tests start.
const TOOLS: &[(&str, fn(&[String]) -> i32)] = &[
    ("echo-args", common::echo_args),
    ("exit", common::exit_with),
    ("fuzz", stress::fuzz::main),
    ("busy", stress::busy::main),
    ("hog", stress::hog::main),
    ("bind", stress::bind::main),
    ("addresses", prctl::print_addresses),
    ("hoard", stress::hoard::main),
    ("forks", stress::forks::main),
    ("site", stress::site::main),
    ("spin", stress::spin::main),
    ("steady", stress::steady::main),
    ("storm", stress::storm::main),
    ("race", stress::race::main),
    ("attack", stress::attack::main),
    ("destroy", stress::destroy::main),
];

fn find(name: &str) -> Option<fn()> {
    let (family, test) = name.split_once("::")?;
    let (_, tests) = FAMILIES.iter().find(|(f, _)| *f == family)?;
    tests.iter().find(|(t, _)| *t == test).map(|(_, f)| *f)
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let code = match args.first().map(String::as_str) {
        Some("--list") => {
            for (family, tests) in FAMILIES {
                for (test, _) in *tests {
                    println!("{family}::{test}");
                }
            }
            0
        }
        Some("--run") => match args.get(1).and_then(|n| find(n)) {
            Some(test) => {
                common::prepare();
                test();
                0
            }
            None => 64,
        },
        Some("--tool") => {
            let name = args.get(1).map_or("", String::as_str);
            match TOOLS.iter().find(|(n, _)| *n == name) {
                Some((_, tool)) => {
                    common::prepare();
                    tool(&args[2..])
                }
                None => 64,
            }
        }
        Some(_) => batch::main(&args),
        None => {
            eprintln!("usage: guest --list | FAMILY::TEST | --batch NAME… | --tool NAME [ARG…]");
            64
        }
    };
    std::process::exit(code);
}
