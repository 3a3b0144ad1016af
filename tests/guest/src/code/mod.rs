//! Code that changes under a program by other ways than the mapping that it runs from.

use crate::prelude::*;
use std::arch::x86_64::__cpuid;
use std::sync::atomic::AtomicBool;

tests![
    alias,
    alias_later,
    written,
    punched,
    moved,
    by_another_process,
    while_it_runs,
    own_memory,
    at_many_places
];

const PAGE: usize = 4096;
/// Where in its page the function is.
const OFFSET: usize = 0x120;
/// So many calls that an engine that learns has learnt.
const OFTEN: usize = 20;
const RW: i32 = PROT_READ | PROT_WRITE;
const RX: i32 = PROT_READ | PROT_EXEC;

/// Makes system call `number` and returns its result.
fn function(number: i64) -> [u8; 8] {
    // mov eax, number; syscall; ret
    [0xb8, number as u8, 0, 0, 0, 0x0f, 0x05, 0xc3]
}

/// A page with the function.
#[derive(Clone, Copy)]
struct Code(usize);

impl Code {
    fn map(fd: i32, prot: i32, flags: i32) -> Code {
        Code(sys!(mmap(null_mut(), PAGE, prot, flags, fd, 0)).v() as usize)
    }
    fn call(self) -> i64 {
        let f: extern "C" fn(i64) -> i64 = unsafe { std::mem::transmute(self.0 + OFFSET) };
        f(-1)
    }
    /// Which call it makes, every time.
    fn says(self) -> &'static str {
        let results: Vec<i64> = (0..OFTEN).map(|_| self.call()).collect();
        let name = |r| match r {
            r if r == sys!(getpid()).0 => "getpid",
            r if r == sys!(getppid()).0 => "getppid",
            r if r == -i64::from(EBADF) => "read",
            _ => "something else",
        };
        let mut names: Vec<&str> = results.into_iter().map(name).collect();
        names.dedup();
        if names.len() == 1 {
            names[0]
        } else {
            "now this, now that"
        }
    }
    fn store(self, number: i64) {
        let at = (self.0 + OFFSET) as *mut u8;
        for (i, b) in function(number).into_iter().enumerate() {
            unsafe { at.add(i).write_volatile(b) };
        }
    }
}

fn write_to(fd: i32, number: i64) {
    let b = function(number);
    sys!(pwrite(fd, b.as_ptr().cast(), b.len(), OFFSET as i64)).v();
}

/// A file in memory with the function, and a descriptor of it that only reads.
fn memory() -> (i32, i32) {
    let fd = sys!(memfd_create(cs("code").as_ptr(), 0)).fd();
    sys!(ftruncate(fd, PAGE as i64)).v();
    write_to(fd, SYS_getpid);
    (fd, open(&format!("/proc/self/fd/{fd}"), O_RDONLY).fd())
}

/// A file with the function.
fn file() -> (i32, i32) {
    let fd = open_mode("code", O_RDWR | O_CREAT, 0o700).fd();
    sys!(ftruncate(fd, PAGE as i64)).v();
    write_to(fd, SYS_getpid);
    (fd, open("code", O_RDONLY).fd())
}

/// Written through a mapping that was there before.
fn alias() {
    for (fd, read_only) in [memory(), file()] {
        let rw = Code::map(fd, RW, MAP_SHARED);
        for rx in [
            Code::map(fd, RX, MAP_SHARED),
            Code::map(read_only, RX, MAP_SHARED),
            Code::map(read_only, RX, MAP_PRIVATE),
        ] {
            rw.store(SYS_getpid);
            let first = rx.says();
            rw.store(SYS_getppid);
            say!("{first} {}", rx.says());
        }
    }
}

/// Has `change` make the code another call, again and again: a descriptor that writes, the code, the call's number.
fn each_change(change: impl Fn(i32, Code, i64)) {
    for (fd, read_only) in [memory(), file()] {
        for flags in [MAP_SHARED, MAP_PRIVATE] {
            let rx = Code::map(read_only, RX, flags);
            for number in [SYS_getppid, SYS_getpid, SYS_getppid, SYS_getpid] {
                change(fd, rx, number);
            }
        }
    }
}

/// Written through a mapping that is made later, and goes again.
fn alias_later() {
    each_change(|fd, rx, number| {
        let first = rx.says();
        let rw = Code::map(fd, RW, MAP_SHARED);
        rw.store(number);
        let now = rx.says();
        sys!(munmap(rw.0 as *mut _, PAGE)).v();
        say!("{first} {now} {}", rx.says());
    });
}

fn written() {
    each_change(|fd, rx, number| {
        let first = rx.says();
        write_to(fd, number);
        say!("{first} {}", rx.says());
    });
}

/// A hole that takes the call's number away, but not the call.
fn punched() {
    let (fd, read_only) = memory();
    let rx = Code::map(read_only, RX, MAP_SHARED);
    let first = rx.says();
    let mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    sys!(fallocate(fd, mode, OFFSET as i64 + 1, 4)).v();
    say!("{first} {}", rx.says());
}

fn moved() {
    let (fd, read_only) = memory();
    let rx = Code::map(read_only, RX, MAP_SHARED);
    let first = rx.says();
    let to = Code::map(-1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS);
    let flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    sys!(mremap(rx.0 as *mut _, PAGE, PAGE, flags, to.0)).v();
    let there = to.says();
    write_to(fd, SYS_getppid);
    say!("{first} {there} {}", to.says());
}

fn by_another_process() {
    for (fd, read_only) in [memory(), file()] {
        for by_map in [true, false] {
            write_to(fd, SYS_getpid);
            let rx = Code::map(read_only, RX, MAP_PRIVATE);
            let first = rx.says();
            let pid = fork(|| {
                let own = rx.says();
                match by_map {
                    true => Code::map(fd, RW, MAP_SHARED).store(SYS_getppid),
                    false => write_to(fd, SYS_getppid),
                }
                say!("child: {own} {}", rx.says());
                0
            });
            wait(pid);
            say!("{first} {}", rx.says());
        }
    }
}

/// What write(2) has written when it returns is what another thread runs from then on.
fn while_it_runs() {
    const ROUNDS: u32 = 300;
    let (fd, read_only) = memory();
    let rx = Code::map(read_only, RX, MAP_SHARED);
    let (asked, answered, wrong) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    let stop = AtomicBool::new(false);
    let (pid, parent) = (sys!(getpid()).0, sys!(getppid()).0);
    std::thread::scope(|s| {
        s.spawn(|| {
            let mut seen = 0;
            while !stop.load(SeqCst) {
                let round = asked.load(SeqCst);
                // Whoever runs code that another CPU has changed has to serialise.
                __cpuid(0);
                let r = rx.call();
                if round == seen {
                    continue;
                }
                let expected = [pid, parent][round as usize % 2];
                wrong.fetch_add((r != expected) as u32, SeqCst);
                seen = round;
                answered.store(round, SeqCst);
            }
        });
        for round in 1..=ROUNDS {
            write_to(fd, [SYS_getpid, SYS_getppid][round as usize % 2]);
            asked.store(round, SeqCst);
            while answered.load(SeqCst) != round {
                sys!(sched_yield());
            }
            // Time to learn.
            if round % 8 == 0 {
                rx.says();
            }
        }
        stop.store(true, SeqCst);
    });
    say!("{} wrong of {ROUNDS}", wrong.load(SeqCst));
}

/// Written as debuggers do.
fn own_memory() {
    let (_, read_only) = memory();
    let anon = Code::map(-1, RW, MAP_PRIVATE | MAP_ANONYMOUS);
    anon.store(SYS_getpid);
    sys!(mprotect(anon.0 as *mut _, PAGE, RX)).v();
    let mem = open("/proc/self/mem", O_RDWR).fd();
    for rx in [anon, Code::map(read_only, RX, MAP_PRIVATE)] {
        for number in [SYS_getppid, SYS_getpid, SYS_getppid] {
            let first = rx.says();
            let b = function(number);
            let at = (rx.0 + OFFSET) as i64;
            let n = sys!(pwrite(mem, b.as_ptr().cast(), b.len(), at)).0;
            say!("{first} {n} {}", rx.says());
        }
    }
}

/// One place after another, each for a while.
fn at_many_places() {
    let (_, read_only) = memory();
    let flags = MAP_PRIVATE | MAP_ANONYMOUS;
    let base = sys!(mmap(null_mut(), 400 * PAGE, PROT_NONE, flags, -1, 0)).v() as usize;
    let good = (0..400).filter(|i| {
        let at = base + i * PAGE;
        let flags = MAP_SHARED | MAP_FIXED;
        let rx = Code(sys!(mmap(at as *mut _, PAGE, RX, flags, read_only, 0)).v() as usize);
        let says = rx.says();
        sys!(munmap(rx.0 as *mut _, PAGE)).v();
        says == "getpid"
    });
    say!("{}", good.count());
}
