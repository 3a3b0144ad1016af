//! The vDSO: its functions, and that they agree with the system calls.

use crate::prelude::*;

tests![
    present,
    agrees_with_calls,
    monotonic_over_threads,
    fast,
    gettimeofday_time,
    getcpu_call,
    after_fork_and_exec,
    coarse_steps,
];

fn by_call(c: i32) -> i64 {
    let mut t = [0i64; 2];
    raw!(SYS_clock_gettime, c, t.as_mut_ptr()).v();
    t[0] * 1_000_000_000 + t[1]
}

fn by_libc(c: i32) -> i64 {
    let mut t: timespec = zero();
    unsafe { clock_gettime(c, &mut t) };
    t.tv_sec * 1_000_000_000 + t.tv_nsec
}

fn present() {
    let base = unsafe { getauxval(AT_SYSINFO_EHDR) } as *const u8;
    let magic = unsafe { std::slice::from_raw_parts(base, 4) };
    say!("{}", show(magic));
    // The dynamic symbols lie in the first page or two: their names are enough here.
    let bytes = unsafe { std::slice::from_raw_parts(base, 4096) };
    for n in [
        "__vdso_clock_gettime",
        "__vdso_gettimeofday",
        "__vdso_time",
        "__vdso_getcpu",
    ] {
        say!("{n} {}", bytes.windows(n.len()).any(|w| w == n.as_bytes()));
    }
    say!(
        "read-only {}",
        run(|| {
            unsafe { (base as *mut u8).write_volatile(0) };
            0
        })
    );
}

fn agrees_with_calls() {
    for c in [
        CLOCK_MONOTONIC,
        CLOCK_REALTIME,
        CLOCK_MONOTONIC_RAW,
        CLOCK_BOOTTIME,
    ] {
        let mut bad = 0;
        for _ in 0..500 {
            let a = by_call(c);
            let b = by_libc(c);
            let d = by_call(c);
            bad += (b < a || d < b) as i32;
        }
        say!("{c}: out of order {bad}");
    }
}

fn monotonic_over_threads() {
    let last = AtomicU64::new(0);
    let bad = AtomicU32::new(0);
    std::thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                for _ in 0..20_000 {
                    let before = last.load(SeqCst);
                    let now = by_libc(CLOCK_MONOTONIC) as u64;
                    if now < before {
                        bad.fetch_add(1, SeqCst);
                    }
                    last.fetch_max(now, SeqCst);
                }
            });
        }
    });
    say!("backward {}", bad.load(SeqCst));
}

fn fast() {
    // Not a benchmark: a trap for each call would take a hundred times as long.
    let t0 = by_libc(CLOCK_MONOTONIC);
    for _ in 0..100_000 {
        std::hint::black_box(by_libc(CLOCK_MONOTONIC));
    }
    say!("{}", by_libc(CLOCK_MONOTONIC) - t0 < 300_000_000);
}

fn gettimeofday_time() {
    let mut tv: timeval = zero();
    sys!(gettimeofday(&mut tv, null_mut())).v();
    let t = unsafe { time(null_mut()) };
    say!("{}", (t - tv.tv_sec).abs() <= 1);
    let mut r = [0i64; 2];
    raw!(SYS_gettimeofday, r.as_mut_ptr(), 0).v();
    say!(
        "{} usec {}",
        (r[0] - tv.tv_sec).abs() <= 1,
        (0..1_000_000).contains(&tv.tv_usec)
    );
    say!("null {}", sys!(gettimeofday(null_mut(), null_mut())));
}

fn getcpu_call() {
    let c = unsafe { sched_getcpu() };
    say!("{}", c >= 0);
    let mut one: cpu_set_t = zero();
    unsafe { CPU_SET(0, &mut one) };
    sys!(sched_setaffinity(0, size_of::<cpu_set_t>(), &one)).v();
    let mut raw_c = 9u32;
    raw!(SYS_getcpu, &raw mut raw_c, 0, 0).v();
    say!("{} {raw_c}", unsafe { sched_getcpu() });
}

fn after_fork_and_exec() {
    let a = by_libc(CLOCK_MONOTONIC);
    let st = run(|| (by_libc(CLOCK_MONOTONIC) < a) as i32);
    say!("{st}");
    say!(
        "{}",
        run(|| exec(&me(), &["guest", "--run", "vdso::agrees_with_calls"], &[]).err())
    );
    say!("{}", by_libc(CLOCK_MONOTONIC) > a);
}

fn coarse_steps() {
    for c in [CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE] {
        for read in [by_libc, by_call] {
            let mut seen: Vec<i64> = (0..1000).map(|_| read(c)).collect();
            seen.dedup();
            let before = read(c);
            let fine = by_libc(if c == 5 {
                CLOCK_REALTIME
            } else {
                CLOCK_MONOTONIC
            });
            say!("{c} few {} behind {}", seen.len() < 100, before <= fine);
        }
    }
}
