//! Sessions, controlling terminals, foreground and background.

use super::*;

fn fg(s: i32) -> i32 {
    let mut g = -1i32;
    let r = sys!(ioctl(s, TIOCGPGRP as _, &mut g));
    if r.failed() { r.0 as i32 } else { g }
}

pub fn controlling() {
    let (m, s) = pty();
    let mut n = 0i32;
    sys!(ioctl(m, TIOCGPTN as _, &mut n)).v();
    let name = format!("/dev/pts/{n}");
    let pid = fork(|| {
        say!("not a leader {}", sys!(ioctl(s, TIOCSCTTY as _, 0)));
        sys!(setsid()).v();
        say!(
            "NOCTTY {} none yet {}",
            open(&name, O_RDWR | O_NOCTTY).ok(),
            open("/dev/tty", O_RDWR)
        );
        say!(
            "opening makes it so {} {}",
            open(&name, O_RDWR).ok(),
            open("/dev/tty", O_RDWR).ok()
        );
        let mut sid = 0i32;
        say!(
            "sid {} {}",
            sys!(ioctl(s, TIOCGSID as _, &mut sid)),
            sid == unsafe { getpid() }
        );
        say!("fg {}", fg(s) == unsafe { getpid() });
        let (_, s2) = pty();
        say!("a second one {}", sys!(ioctl(s2, TIOCSCTTY as _, 0)));
        say!("its pgrp {}", R(fg(s2) as i64));
        let st = run(|| {
            say!("child opens /dev/tty {}", open("/dev/tty", O_RDWR).ok());
            say!(
                "child gives it up {} then {}",
                sys!(ioctl(s, TIOCNOTTY as _)),
                open("/dev/tty", O_RDWR)
            );
            0
        });
        say!("{st} still mine {}", open("/dev/tty", O_RDWR).ok());
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let f: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        say!(
            "tty_nr {} tpgid {}",
            f[4] != "0",
            f[5].parse::<i32>().unwrap() == unsafe { getpid() }
        );
        0
    });
    say!("{}", wait(pid));
    let pid = fork(|| {
        sys!(setsid()).v();
        let r = sys!(ioctl(s, TIOCSCTTY as _, 0));
        r.failed() as i32
    });
    say!("free again after the session {}", wait(pid));
}

pub fn foreground() {
    let (m, s) = pty();
    let pid = in_session(s, || {
        handle(SIGTTOU, nop, 0);
        set_action(SIGTTOU, SIG_IGN);
        let g = Gate::new();
        let job = fork(|| {
            set_action(SIGTTOU, SIG_DFL);
            g.pass();
            loop {
                ms(100)
            }
        });
        sys!(setpgid(job, job)).v();
        say!("give {} {}", sys!(tcsetpgrp(s, job)), fg(s) == job);
        g.open();
        write(m, b"\x03");
        say!("interrupt goes there {}", wait(job));
        say!("the group is gone, the terminal keeps it {}", fg(s) == job);
        say!(
            "back {} {}",
            sys!(tcsetpgrp(s, getpgrp())),
            fg(s) == unsafe { getpgrp() }
        );
        say!(
            "no such group {} negative {}",
            sys!(tcsetpgrp(s, 99999)),
            sys!(tcsetpgrp(s, -1))
        );
        say!("master {}", {
            let mut g = 0i32;
            sys!(ioctl(m, TIOCGPGRP as _, &mut g)).0 == 0 && g == unsafe { getpgrp() }
        });
        0
    });
    say!("{}", wait(pid));
    say!("not my terminal {}", sys!(tcsetpgrp(s, getpgrp())));
}

/// A background job of a session on `s` that runs `f`; its end or stop.
fn background(s: i32, f: impl FnOnce() -> i32) -> St {
    let out = pipe();
    let pid = in_session(s, || {
        let job = fork(|| {
            sys!(setpgid(0, 0)).v();
            f()
        });
        sys!(setpgid(job, job));
        let st = wait_opt(job, WUNTRACED);
        if WIFSTOPPED(st.0) {
            unsafe { kill(job, SIGKILL) };
            wait(job);
        }
        write(out[1], &st.0.to_ne_bytes());
        0
    });
    wait(pid);
    let mut st = 0i32;
    sys!(read(out[0], (&raw mut st).cast(), 4)).v();
    St(st)
}

pub fn background_read() {
    let (m, s) = pty();
    write(m, b"line\n");
    say!(
        "{}",
        background(s, || {
            read(s, 10);
            0
        })
    );
    let (m, s) = pty();
    write(m, b"line\n");
    say!(
        "ignored {}",
        background(s, || {
            set_action(SIGTTIN, SIG_IGN);
            (read(s, 10) != "EIO") as i32
        })
    );
    let (m, s) = pty();
    write(m, b"line\n");
    say!(
        "blocked {}",
        background(s, || {
            block(&[SIGTTIN]);
            (read(s, 10) != "EIO") as i32
        })
    );
    let (_m, s) = pty();
    say!(
        "handled {}",
        background(s, || {
            handle(SIGTTIN, nop, 0);
            (read(s, 10) != "EINTR") as i32
        })
    );
}

pub fn background_write() {
    let (_m, s) = pty();
    say!(
        "allowed {}",
        background(s, || (write(s, b"x").0 != 1) as i32)
    );
    let (_m, s) = pty();
    change(s, |t| t.c_lflag |= TOSTOP);
    say!(
        "TOSTOP {}",
        background(s, || {
            write(s, b"x");
            0
        })
    );
    let (_m, s) = pty();
    change(s, |t| t.c_lflag |= TOSTOP);
    say!(
        "TOSTOP ignored {}",
        background(s, || {
            set_action(SIGTTOU, SIG_IGN);
            (write(s, b"x").0 != 1) as i32
        })
    );
}

pub fn background_tcsetpgrp() {
    let (_m, s) = pty();
    say!(
        "tcsetpgrp {}",
        background(s, || {
            sys!(tcsetpgrp(s, getpgrp()));
            0
        })
    );
    let (_m, s) = pty();
    say!(
        "tcsetattr {}",
        background(s, || {
            let t = attr(s);
            sys!(tcsetattr(s, TCSANOW, &t));
            0
        })
    );
    let (_m, s) = pty();
    say!(
        "blocked works {}",
        background(s, || {
            block(&[SIGTTOU]);
            sys!(tcsetpgrp(s, getpgrp())).err()
        })
    );
    let (_m, s) = pty();
    say!(
        "reading attributes is fine {}",
        background(s, || {
            attr(s);
            0
        })
    );
}

pub fn stop_key() {
    let (m, s) = pty();
    let pid = in_session(s, || {
        set_action(SIGTTOU, SIG_IGN);
        let g = Gate::new();
        let job = fork(|| {
            for n in [SIGTTOU, SIGTSTP] {
                set_action(n, SIG_DFL);
            }
            g.pass();
            loop {
                let r = read(s, 100);
                if r == "\"quit\\n\"" {
                    return 5;
                }
            }
        });
        sys!(setpgid(job, job)).v();
        sys!(tcsetpgrp(s, job)).v();
        g.open();
        until_asleep(job);
        write(m, b"\x1a");
        say!("{}", wait_opt(job, WUNTRACED));
        sys!(tcsetpgrp(s, getpgrp())).v();
        sys!(tcsetpgrp(s, job)).v();
        unsafe { kill(-job, SIGCONT) };
        say!("{}", wait_opt(job, WCONTINUED));
        write(m, b"quit\n");
        say!("{}", wait(job));
        0
    });
    say!("{}", wait(pid));
}

static GOT: AtomicI32 = AtomicI32::new(0);
extern "C" fn note(n: i32, _: *mut siginfo_t, _: *mut c_void) {
    GOT.store(n, SeqCst);
}

pub fn session_leader_exit() {
    let (_m, s) = pty();
    let p = pipe();
    let (up, go) = (Gate::new(), Gate::new());
    let pid = in_session(s, || {
        fork(|| {
            handle(SIGHUP, note, 0);
            sys!(fcntl(s, F_SETFL, O_NONBLOCK)).v();
            up.open();
            for _ in 0..2000 {
                if GOT.load(SeqCst) != 0 {
                    break;
                }
                ms(1);
            }
            write(
                p[1],
                format!(
                    "{} tty {} read {}",
                    sig(GOT.load(SeqCst)),
                    open("/dev/tty", O_RDWR),
                    read(s, 1)
                )
                .as_bytes(),
            );
            0
        });
        go.pass();
        0
    });
    up.pass();
    go.open();
    say!("{} foreground member: {}", wait(pid), read(p[0], 100));
}

pub fn orphaned_group() {
    // A stopped job whose parent leaves: SIGHUP, then SIGCONT.
    let p = pipe();
    let st = run(|| {
        sys!(setsid()).v();
        let middle = fork(|| {
            let job = fork(|| {
                sys!(setpgid(0, 0)).v();
                handle(SIGHUP, note, 0);
                unsafe { raise(SIGSTOP) };
                write(
                    p[1],
                    format!("continued after {}", sig(GOT.load(SeqCst))).as_bytes(),
                );
                0
            });
            wait_opt(job, WUNTRACED);
            0
        });
        wait(middle);
        ms(30);
        0
    });
    close(p[1]);
    say!("{st} {}", read(p[0], 100));
    // A member of an orphaned group is not stopped by the terminal's stop signals.
    let st = run(|| {
        sys!(setsid()).v();
        unsafe { raise(SIGTSTP) };
        4
    });
    say!("{st}");
}

pub fn dev_tty() {
    let (m, s) = pty();
    let pid = in_session(s, || {
        let t = open("/dev/tty", O_RDWR).fd();
        write(t, b"through tty");
        say!("{} isatty {}", kind(fstat(t).st_mode), unsafe { isatty(t) });
        say!(
            "rdev {}:{}",
            major(fstat(t).st_rdev),
            minor(fstat(t).st_rdev)
        );
        say!("fg {}", fg(t) == unsafe { getpgrp() });
        let mut b = [0i8; 50];
        unsafe { ctermid(b.as_mut_ptr()) };
        say!(
            "ctermid {}",
            unsafe { std::ffi::CStr::from_ptr(b.as_ptr()) }
                .to_str()
                .unwrap()
        );
        0
    });
    say!("{} {}", wait(pid), now(m));
}

unsafe extern "C" {
    fn ctermid(s: *mut i8) -> *mut i8;
}

pub fn shell_jobs() {
    // A real shell with job control on a terminal.
    let (m, s) = pty();
    change(s, |t| t.c_lflag &= !ECHO);
    let pid = fork(|| {
        sys!(setsid()).v();
        sys!(ioctl(s, TIOCSCTTY as _, 0)).v();
        for fd in 0..3 {
            sys!(dup2(s, fd)).v();
        }
        close(m);
        exec(
            c"/bin/sh",
            &["sh", "-m"],
            &["PATH=/bin:/usr/bin", "PS1=", "PS2="],
        )
        .err()
    });
    close(s);
    let expect = |what: &str| {
        let mut all = String::new();
        let end = now_ms() + 8000;
        while now_ms() < end {
            let mut p = pollfd {
                fd: m,
                events: POLLIN,
                revents: 0,
            };
            if sys!(poll(&mut p, 1, 100)).0 == 1 {
                let mut b = [0u8; 1000];
                let r = sys!(read(m, b.as_mut_ptr().cast(), 1000));
                if r.failed() {
                    break;
                }
                all.push_str(&String::from_utf8_lossy(&b[..r.0 as usize]));
                if all.contains(what) {
                    return "seen".to_string();
                }
            }
        }
        format!("not seen, but {all:?}")
    };
    write(m, b"echo re''ady\n");
    say!("{}", expect("ready"));
    write(m, b"cat\n");
    ms(150);
    write(m, b"\x03");
    ms(100);
    write(m, b"echo al''ive\n");
    say!("interrupt {}", expect("alive"));
    write(m, b"cat\n");
    ms(150);
    write(m, b"\x1a");
    say!("stopped {}", expect("topped"));
    write(m, b"jobs\n");
    say!("jobs {}", expect("topped"));
    write(m, b"fg\n");
    ms(150);
    write(m, b"echo\xc3\xbc\n\x04");
    say!("foreground again {}", expect("echo"));
    write(m, b"sleep 0.05 & wait; echo d''one\n");
    say!("background {}", expect("done"));
    write(m, b"exit 7\n");
    say!("{}", wait(pid));
}
