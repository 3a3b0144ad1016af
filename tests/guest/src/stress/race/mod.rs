//! `race CALLS THREADS SEED [STORM…]`: threads that all call the same generated functions, each of
//! which makes a system call that nobody has made before, while storms change what is around
//! them. Every call is checked: its result, and every register. Prints `clean` after so
//! many calls, or the first thing that is not as it must be.
//!
//! - [`code`]: the functions. [`probe`]: one call. [`storms`]: what else happens meanwhile.
//!
//! The code is in four regions: a file where the system maps it, the same at a low address, anonymous memory, and
//! a file that is written where it is mapped. In each round all have new contents.

mod code;
mod probe;
mod storms;

use crate::prelude::*;
use code::{Code, FLAGS, PAGE, Random, Who};
use probe::{R11, State};
use std::sync::atomic::{AtomicBool, AtomicPtr};

const REGIONS: usize = 4;
/// Those of files.
const FILES: [usize; 3] = [0, 1, 3];
/// Pages of a region.
const PAGES: usize = 6;
const LEN: usize = PAGES * PAGE;
/// The low address.
const LOW: usize = 0x2_0000_0000;
/// Calls of each function by each thread in a round.
const PASSES: usize = 6;

/// Something is not as it must be.
fn bad(what: &str) -> ! {
    crate::common::emit(&format!("BAD {what}"));
    unsafe { _exit(1) }
}

/// Where the code of one region is, and what it is now.
struct Region {
    at: usize,
    /// The file it is in; none: anonymous memory.
    fd: i32,
    /// It is mapped once, and nobody writes to it but to the file.
    in_place: bool,
    code: AtomicPtr<Code>,
}

impl Region {
    fn code(&self) -> &'static Code {
        unsafe { &*self.code.load(SeqCst) }
    }
    fn map(&self, at: usize, flags: i32) -> R {
        let flags = flags | MAP_PRIVATE;
        sys!(mmap(
            at as *mut _,
            LEN,
            PROT_READ | PROT_EXEC,
            flags,
            self.fd,
            0
        ))
    }
    /// Puts the code where it belongs, in one step.
    fn put(&self) {
        if self.in_place {
            return self.write();
        }
        if self.fd >= 0 {
            self.write();
            self.map(self.at, MAP_FIXED).v();
            return;
        }
        let m = self.copy();
        let flags = MREMAP_MAYMOVE | MREMAP_FIXED;
        sys!(mremap(m as *mut _, LEN, LEN, flags, self.at)).v();
    }
    /// By a call; where it runs in place, now and then through another mapping.
    fn write(&self) {
        let b = &self.code().bytes;
        if self.in_place && b.iter().fold(0, |a, b| a ^ b) % 2 == 1 {
            return self.write_by_mapping();
        }
        if sys!(pwrite(self.fd, b.as_ptr().cast(), b.len(), 0)).0 != b.len() as i64 {
            bad("write of the code");
        }
    }
    fn write_by_mapping(&self) {
        let b = &self.code().bytes;
        let rw = PROT_READ | PROT_WRITE;
        let m = sys!(mmap(null_mut(), LEN, rw, MAP_SHARED, self.fd, 0)).v() as usize;
        for i in (0..LEN).step_by(8) {
            let word = u64::from_ne_bytes(std::array::from_fn(|j| b[i + j]));
            unsafe { ((m + i) as *mut u64).write_volatile(word) };
        }
        sys!(munmap(m as *mut _, LEN)).v();
    }
    /// The code in fresh anonymous memory.
    fn copy(&self) -> usize {
        let (rw, flags) = (PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
        let m = sys!(mmap(null_mut(), LEN, rw, flags, -1, 0)).v() as usize;
        unsafe { std::ptr::copy_nonoverlapping(self.code().bytes.as_ptr(), m as *mut u8, LEN) };
        sys!(mprotect(m as *mut _, LEN, PROT_READ | PROT_EXEC)).v();
        m
    }
}

/// What all threads share.
struct Shared {
    regions: [Region; REGIONS],
    /// Who changes mappings of code, or forks, holds it.
    gate: AtomicBool,
    stop: AtomicBool,
    children: AtomicUsize,
    calls: AtomicU64,
    meeting: AtomicUsize,
    /// A file for calls to work on.
    fd: i32,
    level: u32,
    workers: Vec<AtomicI32>,
}

impl Shared {
    fn gate<T>(&self, f: impl FnOnce() -> T) -> T {
        while self.gate.swap(true, SeqCst) {
            sys!(sched_yield());
        }
        let v = f();
        self.gate.store(false, SeqCst);
        v
    }
    /// Waits until the `n`th time that all `of` have come here.
    fn meet(&self, n: &mut usize, of: usize) {
        *n += 1;
        self.meeting.fetch_add(1, SeqCst);
        while self.meeting.load(SeqCst) < *n * of {
            sys!(sched_yield());
        }
    }
}

/// One thread's way of calling functions.
struct Caller {
    before: State,
    after: State,
    words: [u64; 3],
    expected_words: [u64; 3],
    level: u32,
    who: Who,
}

impl Caller {
    fn new(s: &Shared) -> Box<Caller> {
        Box::new(Caller {
            before: State::new(),
            after: State::new(),
            words: [0; 3],
            expected_words: [0; 3],
            level: s.level,
            who: Who::me(s.fd),
        })
    }

    /// Calls function `n` of `code`, which is at `base`, and checks what comes of it.
    fn call(&mut self, code: &Code, base: usize, n: usize, r: &mut Random) {
        let site = &code.sites[n];
        let from = site.entry(r);
        let b = &mut self.before;
        let seed = r.next();
        for (i, v) in b.gp.iter_mut().enumerate() {
            *v = seed.rotate_left(i as u32 * 4);
        }
        b.flags = seed & FLAGS | 0x202;
        b.zone
            .iter_mut()
            .enumerate()
            .for_each(|(i, v)| *v = seed ^ i as u64);
        b.masks
            .iter_mut()
            .enumerate()
            .for_each(|(i, v)| *v = seed + i as u64);
        for (i, v) in b.vectors.iter_mut().enumerate() {
            *v = std::array::from_fn(|k| seed ^ (i * 8 + k) as u64 * 0x0101_0101_0101);
        }
        self.words = [0, seed ^ 77, seed ^ 99];
        site.prepare(b, base as u64, from, &mut self.words, &self.who);
        self.expected_words = self.words;
        probe::call(b, &mut self.after, self.level);
        let a = &self.after;
        let (zone, masks) = (a.zone == b.zone, self.level < 2 || a.masks == b.masks);
        let (count, width) = [(16, 2), (16, 4), (32, 8)][self.level as usize];
        let vectors = (0..count).all(|i| a.vectors[i][..width] == b.vectors[i][..width]);
        let given = b.gp;
        let certain = site.expect(
            b,
            code,
            base as u64,
            from,
            &mut self.expected_words,
            &self.who,
        );
        let mut wrong: Vec<String> = vec![];
        for i in 0..16 {
            let mask = match i {
                4 => 0,
                R11 => certain[1] & FLAGS,
                _ => u64::MAX,
            };
            if (a.gp[i] ^ b.gp[i]) & mask != 0 {
                wrong.push(format!(
                    "register {i} is {:#x}, not {:#x}",
                    a.gp[i], b.gp[i]
                ));
            }
        }
        if (a.flags ^ b.flags) & certain[0] != 0 || a.gp[R11] & 0x202 != 0x202 {
            wrong.push(format!("flags {:#x}, not {:#x}", a.flags, b.flags));
        }
        if self.words != self.expected_words {
            wrong.push(format!(
                "memory {:x?}, not {:x?}",
                self.words, self.expected_words
            ));
        }
        for (what, fine) in [("red zone", zone), ("masks", masks), ("vectors", vectors)] {
            if !fine {
                wrong.push(format!("{what} changed"));
            }
        }
        if !wrong.is_empty() {
            let (at, end) = (site.ops[0].0, site.ops[site.ops.len() - 1].0);
            bad(&format!(
                "call of {:#x} from instruction {from} on, at {:#x}: {wrong:?}\ngiven {given:x?}\ncode {:02x?}",
                base + at,
                base + site.ops[from].0,
                &code.bytes[at..=end]
            ));
        }
    }
}

/// One of the threads that call.
fn work(s: &Shared, me: usize, threads: usize, calls: u64, seed: u64) {
    s.workers[me].store(gettid(), SeqCst);
    let mut c = Caller::new(s);
    let mut r = Random(seed ^ (me as u64) << 32);
    let (mut inner, all) = (0, threads + 1);
    loop {
        s.meet(&mut inner, all);
        if s.stop.load(SeqCst) {
            return;
        }
        for pass in 0..PASSES {
            for region in &s.regions {
                let code = region.code();
                for i in 0..code.sites.len() {
                    // First all call the same function at once.
                    let n = if pass == 0 {
                        i
                    } else {
                        r.below(code.sites.len())
                    };
                    c.call(code, region.at, n, &mut r);
                    if r.below(64) == 0 {
                        sys!(sched_yield());
                    }
                }
                s.calls.fetch_add(code.sites.len() as u64, SeqCst);
            }
            if s.calls.load(SeqCst) >= calls {
                break;
            }
        }
        s.meet(&mut inner, all);
    }
}

/// Gives all regions new contents. Those from before are not freed: who was interrupted looks at them.
fn new_code(s: &Shared, r: &mut Random) {
    let new = s
        .regions
        .each_ref()
        .map(|_| Box::into_raw(Box::new(Code::make(PAGES, r))));
    let mut done = false;
    while !done {
        done = s.gate(|| {
            // A child has the same file in its memory.
            let alone = s.children.load(SeqCst) == 0;
            if alone {
                for (region, code) in s.regions.iter().zip(new) {
                    region.code.store(code, SeqCst);
                    region.put();
                }
            }
            alone
        });
        sys!(sched_yield());
    }
}

fn file(name: &str) -> i32 {
    let fd = open_mode(name, O_RDWR | O_CREAT | O_TRUNC, 0o700).fd();
    sys!(ftruncate(fd, LEN as i64)).v();
    fd
}

pub fn main(args: &[String]) -> i32 {
    let number = |i: usize, d| args.get(i).and_then(|s| s.parse().ok()).unwrap_or(d);
    let (calls, threads, seed): (u64, usize, u64) =
        (number(0, 100_000), number(1, 4) as usize, number(2, 1));
    let chosen: Vec<&str> = args.iter().skip(3).map(String::as_str).collect();
    let mut r = Random(seed);
    let region = |at: usize, fd: i32| Region {
        at: sys!(mmap(
            at as *mut _,
            LEN,
            PROT_NONE,
            MAP_PRIVATE | MAP_ANONYMOUS,
            -1,
            0
        ))
        .v() as usize,
        fd,
        in_place: false,
        code: AtomicPtr::new(null_mut()),
    };
    let mut in_place = region(0, file("race-d"));
    in_place.map(in_place.at, MAP_FIXED).v();
    in_place.in_place = true;
    let s: &'static Shared = Box::leak(Box::new(Shared {
        regions: [
            region(0, file("race-a")),
            region(LOW, file("race-b")),
            region(0, -1),
            in_place,
        ],
        gate: AtomicBool::new(false),
        stop: AtomicBool::new(false),
        children: AtomicUsize::new(0),
        calls: AtomicU64::new(0),
        meeting: AtomicUsize::new(0),
        fd: file("race-c"),
        level: probe::level(),
        workers: (0..threads).map(|_| AtomicI32::new(0)).collect(),
    }));
    new_code(s, &mut r);
    storms::handle_signals(s);
    let workers: Vec<_> = (0..threads)
        .map(|i| std::thread::spawn(move || work(s, i, threads, calls, seed)))
        .collect();
    let storms = storms::start(s, &chosen, seed);
    let mut inner = 0;
    while s.calls.load(SeqCst) < calls {
        s.meet(&mut inner, threads + 1);
        s.meet(&mut inner, threads + 1);
        new_code(s, &mut r);
    }
    s.stop.store(true, SeqCst);
    s.meet(&mut inner, threads + 1);
    workers.into_iter().for_each(|t| drop(t.join()));
    let told = storms.into_iter().map(|t| t.join().unwrap_or_default());
    let told: Vec<String> = told.collect();
    say!("{} calls {}", s.calls.load(SeqCst), told.join(" "));
    say!("clean");
    0
}
