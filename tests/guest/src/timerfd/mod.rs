//! timerfd.

use crate::prelude::*;

tests![
    one_shot,
    periodic,
    absolute,
    errors,
    polling,
    clocks_and_flags,
    across_fork,
    set_again
];

fn set_t(fd: i32, flags: i32, value_ms: u64, interval_ms: u64) -> R {
    let t = itimerspec {
        it_interval: ts(interval_ms),
        it_value: ts(value_ms),
    };
    sys!(timerfd_settime(fd, flags, &t, null_mut()))
}

fn rd(fd: i32) -> String {
    let mut v = 0u64;
    let r = sys!(read(fd, (&raw mut v).cast(), 8));
    if r.failed() {
        r.to_string()
    } else {
        v.to_string()
    }
}

fn new(flags: i32) -> i32 {
    sys!(timerfd_create(CLOCK_MONOTONIC, flags)).fd()
}

fn one_shot() {
    let fd = new(0);
    let (r, when) = took(30, || format!("{} {}", set_t(fd, 0, 30, 0), rd(fd)));
    say!("{r} {when}");
    let mut t: itimerspec = zero();
    sys!(timerfd_gettime(fd, &mut t)).v();
    say!("off {} {}", t.it_value.tv_sec, t.it_value.tv_nsec);
    sys!(fcntl(fd, F_SETFL, O_NONBLOCK));
    say!("once {}", rd(fd));
}

fn periodic() {
    let fd = new(0);
    let (n, when) = took(29, || {
        set_t(fd, 0, 10, 10);
        (0..3).map(|_| rd(fd).parse::<u64>().unwrap()).sum::<u64>()
    });
    say!("{} {when}", n >= 3);
    ms(45);
    say!("expirations add up {}", rd(fd).parse::<u64>().unwrap() >= 3);
    say!("stop {}", set_t(fd, 0, 0, 0));
    sys!(fcntl(fd, F_SETFL, O_NONBLOCK));
    ms(20);
    say!("{}", rd(fd));
}

fn absolute() {
    let fd = new(TFD_NONBLOCK);
    let mut now: timespec = zero();
    unsafe { clock_gettime(CLOCK_MONOTONIC, &mut now) };
    let t = itimerspec {
        it_interval: ts(0),
        // A machine may be younger than a second.
        it_value: timespec {
            tv_sec: (now.tv_sec - 1).max(0),
            tv_nsec: 1,
        },
    };
    say!(
        "past {}",
        sys!(timerfd_settime(fd, TFD_TIMER_ABSTIME, &t, null_mut()))
    );
    ms(2);
    say!("{}", rd(fd));
    let t = itimerspec {
        it_interval: ts(1),
        it_value: t.it_value,
    };
    sys!(timerfd_settime(fd, TFD_TIMER_ABSTIME, &t, null_mut())).v();
    ms(2);
    say!(
        "past with interval counts the missed {}",
        rd(fd).parse::<u64>().is_ok_and(|n| n >= 10)
    );
    let rt = sys!(timerfd_create(CLOCK_REALTIME, 0)).fd();
    let (r, when) = took(28, || {
        unsafe { clock_gettime(CLOCK_REALTIME, &mut now) };
        let n = now.tv_nsec + 30_000_000;
        let t = itimerspec {
            it_interval: ts(0),
            it_value: timespec {
                tv_sec: now.tv_sec + n / 1_000_000_000,
                tv_nsec: n % 1_000_000_000,
            },
        };
        sys!(timerfd_settime(rt, TFD_TIMER_ABSTIME, &t, null_mut())).v();
        rd(rt)
    });
    say!("{r} {when}");
}

fn errors() {
    let fd = new(TFD_NONBLOCK | TFD_CLOEXEC);
    say!("cloexec {} unset {}", sys!(fcntl(fd, F_GETFD)), rd(fd));
    let bad = itimerspec {
        it_interval: ts(0),
        it_value: timespec {
            tv_sec: 0,
            tv_nsec: 1_000_000_000,
        },
    };
    say!("nsec {}", sys!(timerfd_settime(fd, 0, &bad, null_mut())));
    let neg = itimerspec {
        it_interval: ts(0),
        it_value: timespec {
            tv_sec: -1,
            tv_nsec: 0,
        },
    };
    say!(
        "negative {}",
        sys!(timerfd_settime(fd, 0, &neg, null_mut()))
    );
    say!(
        "flags {} null {}",
        set_t(fd, 0x80, 1, 0),
        sys!(timerfd_settime(fd, 0, null(), null_mut()))
    );
    say!("not a timer {}", set_t(pipe()[0], 0, 1, 0));
    say!("bad fd {}", set_t(-1, 0, 1, 0));
    say!(
        "clock {} create flags {}",
        sys!(timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0)),
        sys!(timerfd_create(CLOCK_MONOTONIC, 1))
    );
    set_t(fd, 0, 1, 0);
    ms(5);
    say!("short read {} write {}", read(fd, 4), write(fd, &[0; 8]));
    say!("still readable {}", rd(fd));
}

fn polling() {
    let fd = new(0);
    let mut p = pollfd {
        fd,
        events: POLLIN | POLLOUT,
        revents: 0,
    };
    say!("{}", sys!(poll(&mut p, 1, 0)));
    let (r, when) = took(20, || {
        set_t(fd, 0, 20, 0);
        sys!(poll(&mut p, 1, 3000))
    });
    say!("{r} {} {when}", p.revents);
    say!("{}", sys!(poll(&mut p, 1, 0)));
    rd(fd);
    say!("{}", sys!(poll(&mut p, 1, 0)));
    let ep = sys!(epoll_create1(0)).fd();
    crate::epoll::ctl(ep, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, 1);
    set_t(fd, 0, 5, 5);
    say!(
        "{} {}",
        crate::epoll::got(ep, 3000),
        crate::epoll::got(ep, 50)
    );
}

fn clocks_and_flags() {
    for (n, c) in [
        ("monotonic", CLOCK_MONOTONIC),
        ("realtime", CLOCK_REALTIME),
        ("boottime", CLOCK_BOOTTIME),
    ] {
        let fd = sys!(timerfd_create(c, 0)).fd();
        let (r, when) = took(10, || {
            set_t(fd, 0, 10, 0);
            rd(fd)
        });
        say!("{n} {r} {when}");
    }
}

fn across_fork() {
    let fd = new(0);
    set_t(fd, 0, 20, 0);
    say!("{}", run(|| (rd(fd) != "1") as i32));
    sys!(fcntl(fd, F_SETFL, O_NONBLOCK));
    say!("taken by the child {}", rd(fd));
}

fn set_again() {
    let fd = new(TFD_NONBLOCK);
    set_t(fd, 0, 10_000, 500);
    let mut old: itimerspec = zero();
    let new_t = itimerspec {
        it_interval: ts(0),
        it_value: ts(5),
    };
    say!("{}", sys!(timerfd_settime(fd, 0, &new_t, &mut old)));
    say!(
        "old {} {}",
        old.it_value.tv_sec == 9 || old.it_value.tv_sec == 10,
        old.it_interval.tv_nsec
    );
    ms(10);
    set_t(fd, 0, 10_000, 0);
    say!("setting clears what had expired {}", rd(fd));
    let t = std::thread::spawn(move || {
        sys!(fcntl(fd, F_SETFL, 0));
        rd(fd)
    });
    ms(10);
    set_t(fd, 0, 5, 0);
    say!("wakes a reader {}", t.join().unwrap());
}
