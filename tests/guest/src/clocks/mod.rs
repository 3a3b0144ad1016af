//! Clocks, sleeping, POSIX timers.

use crate::prelude::*;

tests![
    monotonic_moves,
    resolutions,
    cpu_clocks,
    realtime_agrees,
    nanosleep_calls,
    clock_nanosleep_abs,
    settime_rights,
    timer_signal,
    timer_forms,
    timer_thread_and_none,
    timer_errors,
    many_timers,
    times_and_clock,
    alarm_precision
];

fn get_ns(c: i32) -> i64 {
    let mut t: timespec = zero();
    sys!(clock_gettime(c, &mut t)).v();
    t.tv_sec * 1_000_000_000 + t.tv_nsec
}

fn monotonic_moves() {
    for (n, c) in [
        ("monotonic", CLOCK_MONOTONIC),
        ("raw", CLOCK_MONOTONIC_RAW),
        ("boottime", CLOCK_BOOTTIME),
        ("coarse", CLOCK_MONOTONIC_COARSE),
        ("realtime", CLOCK_REALTIME),
        ("realtime coarse", CLOCK_REALTIME_COARSE),
        ("tai", CLOCK_TAI),
    ] {
        let mut last = get_ns(c);
        let mut back = 0;
        for _ in 0..2000 {
            let now = get_ns(c);
            back += (now < last) as i32;
            last = now;
        }
        let a = get_ns(c);
        ms(30);
        let d = get_ns(c) - a;
        say!(
            "{n} back {back} moved {}",
            (20_000_000..4_000_000_000).contains(&d)
        );
    }
    say!(
        "bad {} {}",
        sys!(clock_gettime(77, &mut zero())),
        sys!(clock_gettime(-1, &mut zero()))
    );
}

fn resolutions() {
    let mut t: timespec = zero();
    for c in [
        CLOCK_REALTIME,
        CLOCK_MONOTONIC,
        CLOCK_PROCESS_CPUTIME_ID,
        CLOCK_BOOTTIME,
    ] {
        say!(
            "{} {}.{}",
            sys!(clock_getres(c, &mut t)),
            t.tv_sec,
            t.tv_nsec
        );
    }
    say!(
        "coarse {} {}",
        sys!(clock_getres(CLOCK_MONOTONIC_COARSE, &mut t)),
        t.tv_nsec <= 10_000_000 && t.tv_nsec > 1
    );
    say!(
        "bad {} null {}",
        sys!(clock_getres(77, &mut t)),
        sys!(clock_getres(CLOCK_MONOTONIC, null_mut()))
    );
}

fn cpu_clocks() {
    let (p0, t0) = (
        get_ns(CLOCK_PROCESS_CPUTIME_ID),
        get_ns(CLOCK_THREAD_CPUTIME_ID),
    );
    ms(50);
    let slept = get_ns(CLOCK_PROCESS_CPUTIME_ID) - p0;
    say!("sleep costs little {}", slept < 40_000_000);
    let end = now_ms() + 10_000;
    let worked = |n: i64| {
        get_ns(CLOCK_PROCESS_CPUTIME_ID) - p0 > n && get_ns(CLOCK_THREAD_CPUTIME_ID) - t0 > n
    };
    while !worked(50_000_000) && now_ms() < end {}
    say!("work counts {}", worked(50_000_000));
    std::thread::spawn(|| {
        say!(
            "a new thread starts near zero {}",
            get_ns(CLOCK_THREAD_CPUTIME_ID) < 50_000_000
        );
    })
    .join()
    .unwrap();
    let mut c = 0;
    say!(
        "clock of pid {} {}",
        unsafe { clock_getcpuclockid(0, &mut c) },
        get_ns(c) > 0
    );
    let child = fork(|| {
        ms(200);
        0
    });
    say!(
        "child's {} {}",
        unsafe { clock_getcpuclockid(child, &mut c) },
        get_ns(c) < 150_000_000
    );
    unsafe { kill(child, SIGKILL) };
    wait(child);
    say!(
        "gone {}",
        errno_name(unsafe { clock_getcpuclockid(child, &mut c) })
    );
}

fn realtime_agrees() {
    let mut tv: timeval = zero();
    sys!(gettimeofday(&mut tv, null_mut())).v();
    let t = unsafe { time(null_mut()) };
    let c = get_ns(CLOCK_REALTIME) / 1_000_000_000;
    say!("{} {}", (c - t).abs() <= 1, (c - tv.tv_sec).abs() <= 1);
    say!("after 2020 {}", t > 1_577_836_800);
    put("f", b"");
    say!(
        "file times agree {}",
        (stat("f").unwrap().st_mtime - c).abs() <= 2
    );
    let up = get_ns(CLOCK_BOOTTIME) - get_ns(CLOCK_MONOTONIC);
    say!("boot time is not before monotonic {}", up >= -1_000_000);
}

fn nanosleep_calls() {
    for n in [0u64, 1, 15] {
        let (r, when) = took(n, || sys!(nanosleep(&ts(n), null_mut())));
        say!("{n} {r} {when}");
    }
    let t0 = get_ns(CLOCK_MONOTONIC);
    for _ in 0..20 {
        sys!(nanosleep(
            &timespec {
                tv_sec: 0,
                tv_nsec: 100_000
            },
            null_mut()
        ));
    }
    let d = get_ns(CLOCK_MONOTONIC) - t0;
    say!("short ones {}", d >= 2_000_000 && d < 1_000_000_000);
    let (r, when) = took(20, || unsafe { usleep(20_000) });
    say!("usleep {r} {when}");
}

fn clock_nanosleep_abs() {
    let at = |c, plus: i64| {
        let n = get_ns(c) + plus;
        timespec {
            tv_sec: n / 1_000_000_000,
            tv_nsec: n % 1_000_000_000,
        }
    };
    for c in [CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME] {
        let (r, when) = took(29, || unsafe {
            let t = at(c, 30_000_000);
            clock_nanosleep(c, TIMER_ABSTIME, &t, null_mut())
        });
        say!("{r} {when}");
    }
    let (r, when) = took(0, || unsafe {
        clock_nanosleep(
            CLOCK_MONOTONIC,
            TIMER_ABSTIME,
            &timespec {
                tv_sec: 0,
                tv_nsec: 5,
            },
            null_mut(),
        )
    });
    say!("past {r} {when}");
    say!(
        "thread clock {}",
        errno_name(unsafe { clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &ts(1), null_mut()) })
    );
    say!(
        "bad clock {} nsec {}",
        errno_name(unsafe { clock_nanosleep(99, 0, &ts(1), null_mut()) }),
        errno_name(unsafe {
            clock_nanosleep(
                CLOCK_MONOTONIC,
                0,
                &timespec {
                    tv_sec: 0,
                    tv_nsec: -1,
                },
                null_mut(),
            )
        })
    );
}

fn settime_rights() {
    if is_root() {
        say!("as a user EPERM EPERM");
    } else {
        let mut t: timespec = zero();
        unsafe { clock_gettime(CLOCK_REALTIME, &mut t) };
        say!(
            "as a user {} {}",
            sys!(clock_settime(CLOCK_REALTIME, &t)),
            sys!(settimeofday(
                &timeval {
                    tv_sec: t.tv_sec,
                    tv_usec: 0
                },
                null()
            ))
        );
    }
    say!("monotonic {}", sys!(clock_settime(CLOCK_MONOTONIC, &ts(1))));
    say!(
        "bad {}",
        sys!(clock_settime(
            CLOCK_REALTIME,
            &timespec {
                tv_sec: 0,
                tv_nsec: -1
            }
        ))
        .failed()
    );
    // Before the clock could have begun, and when it would soon run over.
    let at = |tv_sec| {
        let t = timespec { tv_sec, tv_nsec: 0 };
        sys!(clock_settime(CLOCK_REALTIME, &t))
    };
    say!(
        "early {} late {} {}",
        at(0).failed(),
        at(9_200_000_000),
        at(i64::MAX)
    );
}

static COUNT: AtomicI32 = AtomicI32::new(0);
static VALUE: AtomicI32 = AtomicI32::new(0);
static CODE: AtomicI32 = AtomicI32::new(0);

extern "C" fn tick(_: i32, i: *mut siginfo_t, _: *mut c_void) {
    VALUE.store(unsafe { (*i).si_value().sival_ptr } as i32, SeqCst);
    CODE.store(unsafe { (*i).si_code }, SeqCst);
    COUNT.fetch_add(1, SeqCst);
}

fn timer(clock: i32, signo: i32, value: usize) -> Result<timer_t, R> {
    let mut e: sigevent = zero();
    e.sigev_notify = SIGEV_SIGNAL;
    e.sigev_signo = signo;
    e.sigev_value = sigval {
        sival_ptr: value as *mut c_void,
    };
    let mut t: timer_t = null_mut();
    let r = sys!(timer_create(clock, &mut e, &mut t));
    if r.failed() { Err(r) } else { Ok(t) }
}

fn start(t: timer_t, value: u64, interval: u64) -> R {
    sys!(timer_settime(
        t,
        0,
        &itimerspec {
            it_interval: ts(interval),
            it_value: ts(value)
        },
        null_mut()
    ))
}

fn until(n: i32) -> bool {
    let end = now_ms() + 4000;
    while COUNT.load(SeqCst) < n && now_ms() < end {
        ms(2);
    }
    COUNT.load(SeqCst) >= n
}

fn timer_signal() {
    handle(SIGUSR1, tick, 0);
    let t = timer(CLOCK_MONOTONIC, SIGUSR1, 77).unwrap();
    say!("{}", start(t, 20, 0));
    say!(
        "{} value {} code {}",
        until(1),
        VALUE.load(SeqCst),
        CODE.load(SeqCst)
    );
    ms(30);
    say!("once {}", COUNT.load(SeqCst));
    start(t, 5, 5);
    say!("periodic {}", until(5));
    start(t, 0, 0);
    let n = COUNT.load(SeqCst);
    ms(30);
    say!("stopped {}", COUNT.load(SeqCst) - n <= 1);
    say!(
        "delete {} again {}",
        sys!(timer_delete(t)),
        raw!(SYS_timer_delete, 12345)
    );
}

fn timer_forms() {
    handle(SIGUSR1, tick, 0);
    for c in [
        CLOCK_REALTIME,
        CLOCK_MONOTONIC,
        CLOCK_BOOTTIME,
        CLOCK_PROCESS_CPUTIME_ID,
        CLOCK_THREAD_CPUTIME_ID,
    ] {
        COUNT.store(0, SeqCst);
        let t = timer(c, SIGUSR1, 1).unwrap();
        start(t, 10, 0).v();
        let end = now_ms() + 4000;
        while COUNT.load(SeqCst) == 0 && now_ms() < end {
            std::hint::spin_loop();
        }
        say!("{c} {}", COUNT.load(SeqCst));
        sys!(timer_delete(t)).v();
    }
    let t = timer(CLOCK_MONOTONIC, SIGUSR1, 1).unwrap();
    let n = get_ns(CLOCK_MONOTONIC) + 20_000_000;
    let at = itimerspec {
        it_interval: ts(0),
        it_value: timespec {
            tv_sec: n / 1_000_000_000,
            tv_nsec: n % 1_000_000_000,
        },
    };
    COUNT.store(0, SeqCst);
    say!(
        "absolute {} {}",
        sys!(timer_settime(t, TIMER_ABSTIME, &at, null_mut())),
        until(1)
    );
    let mut cur: itimerspec = zero();
    start(t, 50_000, 100);
    sys!(timer_gettime(t, &mut cur)).v();
    say!(
        "left {} interval {}",
        cur.it_value.tv_sec == 49 || cur.it_value.tv_sec == 50,
        cur.it_interval.tv_nsec
    );
    // Blocked: expirations are counted as overruns of one signal.
    block(&[SIGUSR1]);
    start(t, 2, 2);
    ms(60);
    COUNT.store(0, SeqCst);
    start(t, 0, 0);
    unblock(&[SIGUSR1]);
    say!("one signal {}", COUNT.load(SeqCst) <= 1);
}

fn timer_thread_and_none() {
    let mut e: sigevent = zero();
    e.sigev_notify = SIGEV_NONE;
    let mut t: timer_t = null_mut();
    say!(
        "none {}",
        sys!(timer_create(CLOCK_MONOTONIC, &mut e, &mut t))
    );
    start(t, 5, 0);
    ms(15);
    let mut cur: itimerspec = zero();
    sys!(timer_gettime(t, &mut cur)).v();
    say!("expired {} {}", cur.it_value.tv_sec, cur.it_value.tv_nsec);
    handle(SIGUSR2, tick, 0);
    e.sigev_notify = SIGEV_THREAD_ID;
    e.sigev_signo = SIGUSR2;
    e.sigev_notify_thread_id = gettid();
    say!(
        "thread id {}",
        sys!(timer_create(CLOCK_MONOTONIC, &mut e, &mut t))
    );
    start(t, 5, 0);
    say!("{}", until(1));
    e.sigev_notify_thread_id = 99999;
    say!(
        "no such thread {}",
        sys!(timer_create(CLOCK_MONOTONIC, &mut e, &mut t))
    );
    say!(
        "not inherited {}",
        run(|| raw!(SYS_timer_delete, 0).err()) == St(EINVAL << 8)
    );
}

fn timer_errors() {
    say!(
        "clock {} signal {} {}",
        timer(77, SIGUSR1, 0).unwrap_err(),
        timer(CLOCK_MONOTONIC, 65, 0).unwrap_err(),
        timer(CLOCK_MONOTONIC, -1, 0).unwrap_err()
    );
    let mut e: sigevent = zero();
    e.sigev_notify = 55;
    let mut t: timer_t = null_mut();
    say!(
        "notify {}",
        sys!(timer_create(CLOCK_MONOTONIC, &mut e, &mut t))
    );
    say!(
        "pointer {}",
        raw!(SYS_timer_create, CLOCK_MONOTONIC, 8, &raw mut t)
    );
    let t = timer(CLOCK_MONOTONIC, SIGUSR1, 0).unwrap();
    say!(
        "nsec {}",
        sys!(timer_settime(
            t,
            0,
            &itimerspec {
                it_interval: ts(0),
                it_value: timespec {
                    tv_sec: 0,
                    tv_nsec: 1_000_000_000
                }
            },
            null_mut()
        ))
    );
    say!(
        "null {} unknown {} overrun {}",
        raw!(SYS_timer_settime, 0, 0, 0, 0),
        raw!(SYS_timer_gettime, 4321, &raw const e),
        sys!(timer_getoverrun(t))
    );
}

fn many_timers() {
    handle(40, tick, 0);
    let v: Vec<timer_t> = (0..50)
        .map(|i| timer(CLOCK_MONOTONIC, 40, i).unwrap())
        .collect();
    for (i, t) in v.iter().enumerate() {
        start(*t, 5 + i as u64 % 10, 0).v();
    }
    say!("{}", until(50));
    for t in v {
        sys!(timer_delete(t)).v();
    }
    ms(10);
    say!("{}", COUNT.load(SeqCst));
}

fn times_and_clock() {
    let mut t: tms = zero();
    let a = unsafe { times(&mut t) };
    ms(60);
    let b = unsafe { times(&mut t) };
    say!("ticks {}", (4..400).contains(&(b - a)));
    say!("sysconf {}", unsafe { sysconf(_SC_CLK_TCK) });
}

fn alarm_precision() {
    let mut late = 0;
    for _ in 0..10 {
        let t0 = get_ns(CLOCK_MONOTONIC);
        ms(10);
        let d = get_ns(CLOCK_MONOTONIC) - t0;
        if d < 10_000_000 {
            say!("early by {}", 10_000_000 - d);
        }
        late += (d > 500_000_000) as i32;
    }
    say!("late {late}");
}
