//! Which calls go on after a handler and which end in EINTR.

use crate::prelude::*;

static COUNT: AtomicI32 = AtomicI32::new(0);

extern "C" fn count(_: i32, _: *mut siginfo_t, _: *mut c_void) {
    COUNT.fetch_add(1, SeqCst);
}

/// Runs `f` in a child that gets SIGUSR1 while asleep in it and is then helped out by `help`.
fn during(flags: i32, f: impl FnOnce() -> String, help: impl FnOnce()) -> String {
    let out = pipe();
    let pid = fork(|| {
        handle(SIGUSR1, count, flags);
        let s = f();
        write(
            out[1],
            format!("{s}, handlers {}", COUNT.load(SeqCst)).as_bytes(),
        );
        0
    });
    until_asleep(pid);
    ms(2);
    until_asleep(pid);
    unsafe { kill(pid, SIGUSR1) };
    ms(20);
    help();
    let mut b = [0u8; 200];
    let t = ts(6000);
    let mut p = pollfd {
        fd: out[0],
        events: POLLIN,
        revents: 0,
    };
    let r = sys!(ppoll(&mut p, 1, &t, null()));
    let s = if r.0 == 1 {
        let n = sys!(read(out[0], b.as_mut_ptr().cast(), 200)).v() as usize;
        String::from_utf8_lossy(&b[..n]).into_owned()
    } else {
        "hangs".into()
    };
    unsafe { kill(pid, SIGKILL) };
    wait(pid);
    close(out[0]);
    close(out[1]);
    s
}

pub fn restart_matrix() {
    for (name, fl) in [("plain", 0), ("restart", SA_RESTART)] {
        let p = pipe();
        say!(
            "{name} read pipe: {}",
            during(fl, || read(p[0], 5), || drop(write(p[1], b"late")))
        );
        let full = pipe();
        sys!(fcntl(full[1], F_SETFL, O_NONBLOCK));
        while !write(full[1], &[0; 4096]).failed() {}
        sys!(fcntl(full[1], F_SETFL, 0));
        say!(
            "{name} write pipe: {}",
            during(
                fl,
                || write(full[1], b"x").to_string(),
                || drop(read(full[0], 8192))
            )
        );
        let s = pair(SOCK_STREAM);
        say!(
            "{name} recv: {}",
            during(fl, || read(s[0], 5), || drop(write(s[1], b"sock")))
        );
        say!(
            "{name} wait: {}",
            during(
                fl,
                || {
                    let k = fork(|| {
                        ms(60);
                        3
                    });
                    let mut st = 0;
                    let r = sys!(waitpid(k, &mut st, 0));
                    if r.failed() {
                        r.to_string()
                    } else {
                        St(st).to_string()
                    }
                },
                || ()
            )
        );
        let q = pipe();
        say!(
            "{name} poll: {}",
            during(
                fl,
                || sys!(poll(
                    &mut pollfd {
                        fd: q[0],
                        events: POLLIN,
                        revents: 0
                    },
                    1,
                    3000
                ))
                .to_string(),
                || ()
            )
        );
        say!(
            "{name} select: {}",
            during(
                fl,
                || {
                    let mut s: fd_set = zero();
                    unsafe { FD_SET(q[0], &mut s) };
                    sys!(select(
                        q[0] + 1,
                        &mut s,
                        null_mut(),
                        null_mut(),
                        &mut timeval {
                            tv_sec: 3,
                            tv_usec: 0
                        }
                    ))
                    .to_string()
                },
                || ()
            )
        );
        say!(
            "{name} epoll: {}",
            during(
                fl,
                || {
                    let e = sys!(epoll_create1(0)).fd();
                    let mut ev: [epoll_event; 1] = zero();
                    sys!(epoll_wait(e, ev.as_mut_ptr(), 1, 3000)).to_string()
                },
                || ()
            )
        );
        say!(
            "{name} nanosleep: {}",
            during(
                fl,
                || sys!(nanosleep(&ts(3000), null_mut())).to_string(),
                || ()
            )
        );
        say!(
            "{name} pause: {}",
            during(fl, || sys!(pause()).to_string(), || ())
        );
        let e = sys!(eventfd(0, 0)).fd();
        say!(
            "{name} eventfd: {}",
            during(
                fl,
                || read(e, 8).len().to_string(),
                || drop(write(e, &1u64.to_ne_bytes()))
            )
        );
        put("lock", b"");
        let l = open("lock", O_RDWR).fd();
        sys!(flock(l, LOCK_EX)).v();
        say!(
            "{name} flock: {}",
            during(
                fl,
                || {
                    let o = open("lock", O_RDWR).fd();
                    sys!(flock(o, LOCK_EX)).to_string()
                },
                || drop(sys!(flock(l, LOCK_UN)))
            )
        );
        sys!(flock(l, LOCK_UN));
        let lk = flock {
            l_type: F_WRLCK as i16,
            l_whence: 0,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        sys!(fcntl(l, F_SETLK, &lk)).v();
        say!(
            "{name} fcntl lock: {}",
            during(
                fl,
                || {
                    let o = open("lock", O_RDWR).fd();
                    sys!(fcntl(o, F_SETLKW, &lk)).to_string()
                },
                || drop(sys!(fcntl(
                    l,
                    F_SETLK,
                    &flock {
                        l_type: F_UNLCK as i16,
                        ..lk
                    }
                )))
            )
        );
        let lis = sys!(socket(AF_UNIX, SOCK_STREAM, 0)).fd();
        let mut a: sockaddr_un = zero();
        a.sun_family = AF_UNIX as u16;
        sys!(bind(lis, (&raw const a).cast(), 2)).v();
        sys!(listen(lis, 1)).v();
        let mut len = size_of::<sockaddr_un>() as u32;
        sys!(getsockname(lis, (&raw mut a).cast(), &mut len)).v();
        say!(
            "{name} accept: {}",
            during(
                fl,
                || sys!(accept(lis, null_mut(), null_mut())).ok(),
                || {
                    let c = sys!(socket(AF_UNIX, SOCK_STREAM, 0)).fd();
                    sys!(connect(c, (&raw const a).cast(), len));
                }
            )
        );
        close(lis);
        let st = sys!(mkfifo(c"fifo".as_ptr(), 0o600));
        let _ = st;
        say!(
            "{name} open fifo: {}",
            during(
                fl,
                || open("fifo", O_RDONLY).ok(),
                || {
                    let _ = open("fifo", O_RDWR | O_NONBLOCK);
                }
            )
        );
        unlink("fifo");
    }
}

pub fn restart_read_partial() {
    // What has been transferred is returned, not EINTR.
    let s = pair(SOCK_STREAM);
    say!(
        "{}",
        during(
            0,
            || {
                let mut b = [0u8; 10];
                write(s[1], b"half");
                sys!(recv(s[0], b.as_mut_ptr().cast(), 10, MSG_WAITALL)).to_string()
            },
            || ()
        )
    );
    let p = pipe();
    say!(
        "{}",
        during(
            0,
            || {
                let big = vec![1u8; 100_000];
                write(p[1], &big).to_string()
            },
            || ()
        )
    );
}

pub fn nanosleep_remaining() {
    say!(
        "{}",
        during(
            SA_RESTART,
            || {
                let mut rem = ts(0);
                let r = sys!(nanosleep(&ts(5000), &mut rem));
                format!("{r} {}", rem.tv_sec == 4 || rem.tv_sec == 5)
            },
            || ()
        )
    );
    say!(
        "{}",
        during(
            0,
            || {
                let mut rem = ts(77_000);
                let mut t: timespec = zero();
                unsafe { clock_gettime(CLOCK_MONOTONIC, &mut t) };
                t.tv_sec += 5;
                let r = unsafe { clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, &mut rem) };
                format!("{} untouched {}", errno_name(r), rem.tv_sec == 77)
            },
            || ()
        )
    );
}

pub fn eintr_kinds() {
    say!(
        "sem: {}",
        during(
            0,
            || {
                let mut s: sem_t = zero();
                unsafe { sem_init(&mut s, 0, 0) };
                sys!(sem_wait(&mut s)).to_string()
            },
            || ()
        )
    );
    say!(
        "sigtimedwait: {}",
        during(
            0,
            || {
                block(&[SIGUSR2]);
                sys!(sigtimedwait(&set(&[SIGUSR2]), null_mut(), &ts(3000))).to_string()
            },
            || ()
        )
    );
    say!(
        "waitid: {}",
        during(
            0,
            || {
                fork(|| {
                    ms(3000);
                    0
                });
                let mut i: siginfo_t = zero();
                sys!(waitid(P_ALL, 0, &mut i, WEXITED)).to_string()
            },
            || ()
        )
    );
    say!(
        "recv with timeout: {}",
        during(
            SA_RESTART,
            || {
                let s = pair(SOCK_STREAM);
                let t = timeval {
                    tv_sec: 3,
                    tv_usec: 0,
                };
                sys!(setsockopt(
                    s[0],
                    SOL_SOCKET,
                    SO_RCVTIMEO,
                    (&raw const t).cast(),
                    16
                ))
                .v();
                read(s[0], 1)
            },
            || ()
        )
    );
}

pub fn restart_wait() {
    handle(SIGCHLD, count, SA_RESTART);
    let slow = fork(|| {
        ms(60);
        2
    });
    let _quick = fork(|| 1);
    say!("{} {}", wait(slow), COUNT.load(SeqCst) >= 1);
    let mut st = 0;
    while sys!(waitpid(-1, &mut st, 0)).0 > 0 {}
    handle(SIGCHLD, count, 0);
    let k = fork(|| {
        ms(20);
        0
    });
    let r = sys!(nanosleep(&ts(3000), null_mut()));
    say!("{r} {}", wait(k));
}

/// Stop and continue are invisible to restartable calls and to sleeps.
pub fn stop_restarts() {
    let check = |f: &dyn Fn() -> String| {
        loop {
            let out = pipe();
            let pid = fork(|| {
                let s = f();
                write(out[1], s.as_bytes());
                0
            });
            until_asleep(pid);
            unsafe { kill(pid, SIGSTOP) };
            // On a busy machine its sleep may be over before we come to this.
            if !WIFSTOPPED(wait_opt(pid, WUNTRACED).0) {
                continue;
            }
            unsafe { kill(pid, SIGCONT) };
            let s = read(out[0], 100);
            wait(pid);
            return s;
        }
    };
    say!(
        "nanosleep {}",
        check(&|| {
            let t0 = now_ms();
            let r = sys!(nanosleep(&ts(80), null_mut()));
            format!("{r} {}", now_ms() - t0 >= 79)
        })
    );
    say!(
        "poll {}",
        check(&|| {
            let t0 = now_ms();
            let r = sys!(poll(null_mut(), 0, 80));
            format!("{r} {}", now_ms() - t0 >= 79)
        })
    );
    say!(
        "futex {}",
        check(&|| {
            let w = 0u32;
            let t = ts(80);
            raw!(SYS_futex, &raw const w, FUTEX_WAIT, 0, &raw const t).to_string()
        })
    );
    let p = pipe();
    let q = p;
    let pid = fork(|| {
        ms(100);
        write(q[1], b"data");
        0
    });
    say!("read {}", check(&|| read(p[0], 10)));
    wait(pid);
}

pub fn sigcont_poll() {
    let pid = fork(|| {
        handle(SIGCONT, count, 0);
        let r = sys!(poll(null_mut(), 0, 3000));
        if r.err() == EINTR && COUNT.load(SeqCst) == 1 {
            4
        } else {
            5
        }
    });
    until_asleep(pid);
    unsafe { kill(pid, SIGSTOP) };
    wait_opt(pid, WUNTRACED);
    unsafe { kill(pid, SIGCONT) };
    say!("{}", wait(pid));
}

pub fn thread_storm() {
    handle(SIGUSR1, count, SA_RESTART);
    let stop = AtomicI32::new(0);
    let tids: [AtomicI32; 3] = [const { AtomicI32::new(0) }; 3];
    let sums: Vec<u64> = std::thread::scope(|s| {
        let h: Vec<_> = tids
            .iter()
            .map(|t| {
                let stop = &stop;
                s.spawn(move || {
                    t.store(gettid(), SeqCst);
                    let p = pipe();
                    let mut n = 0u64;
                    while stop.load(SeqCst) == 0 {
                        write(p[1], &n.to_ne_bytes());
                        let mut b = [0u8; 8];
                        if sys!(read(p[0], b.as_mut_ptr().cast(), 8)).0 != 8
                            || u64::from_ne_bytes(b) != n
                        {
                            return u64::MAX;
                        }
                        n += 1;
                    }
                    n.min(1)
                })
            })
            .collect();
        let end = now_ms() + 200;
        while now_ms() < end || COUNT.load(SeqCst) < 30 {
            for t in &tids {
                let t = t.load(SeqCst);
                if t != 0 {
                    unsafe { syscall(SYS_tgkill, getpid(), t, SIGUSR1) };
                }
            }
            std::thread::yield_now();
        }
        stop.store(1, SeqCst);
        h.into_iter().map(|h| h.join().unwrap()).collect()
    });
    say!("{sums:?} {}", COUNT.load(SeqCst) >= 30);
}
