//! poll(2) and select(2).

use crate::prelude::*;

tests![
    poll_basic,
    poll_errors,
    poll_files,
    poll_wakes,
    poll_sockets,
    select_basic,
    select_errors,
    select_timeout,
    pselect_ppoll,
    many
];

fn names(e: i16) -> String {
    let mut s = vec![];
    for (n, b) in [
        ("IN", POLLIN),
        ("PRI", POLLPRI),
        ("OUT", POLLOUT),
        ("HUP", POLLHUP),
        ("ERR", POLLERR),
        ("NVAL", POLLNVAL),
        ("RDHUP", POLLRDHUP),
    ] {
        if e & b != 0 {
            s.push(n);
        }
    }
    if s.is_empty() {
        "-".into()
    } else {
        s.join("|")
    }
}

fn pl(v: &[(i32, i16)], t: i32) -> String {
    let mut p: Vec<pollfd> = v
        .iter()
        .map(|(fd, e)| pollfd {
            fd: *fd,
            events: *e,
            revents: 0,
        })
        .collect();
    let r = sys!(poll(p.as_mut_ptr(), p.len() as u64, t));
    format!(
        "{r} {}",
        p.iter()
            .map(|p| names(p.revents))
            .collect::<Vec<_>>()
            .join(" ")
    )
}

fn poll_basic() {
    let (p, q) = (pipe(), pipe());
    say!(
        "{}",
        pl(&[(p[0], POLLIN), (p[1], POLLOUT), (q[0], POLLIN)], 0)
    );
    write(q[1], b"x");
    say!(
        "{}",
        pl(&[(p[0], POLLIN), (p[1], POLLOUT), (q[0], POLLIN)], 0)
    );
    say!(
        "negative fds are skipped {}",
        pl(&[(-1, POLLIN), (q[0], POLLIN)], 0)
    );
    say!("closed {}", pl(&[(500, POLLIN), (500, 0)], 0));
    say!(
        "the same twice {}",
        pl(&[(q[0], POLLIN), (q[0], POLLIN | POLLOUT)], 0)
    );
    say!("no events asked {}", pl(&[(q[0], 0)], 0));
    close(q[1]);
    say!("HUP unasked {}", pl(&[(q[0], 0)], 0));
    let (r, when) = took(30, || pl(&[], 30));
    say!("nothing but time {r} {when}");
}

fn poll_errors() {
    let lim = rlimit {
        rlim_cur: 64,
        rlim_max: 64,
    };
    sys!(setrlimit(RLIMIT_NOFILE, &lim)).v();
    let mut v = vec![
        pollfd {
            fd: -1,
            events: 0,
            revents: 0
        };
        65
    ];
    say!(
        "64 {} 65 {}",
        sys!(poll(v.as_mut_ptr(), 64, 0)),
        sys!(poll(v.as_mut_ptr(), 65, 0))
    );
    say!("bad pointer {}", sys!(poll(8 as *mut _, 1, 0)));
    say!("huge {}", raw!(SYS_poll, v.as_mut_ptr(), usize::MAX, 0));
    say!(
        "ppoll time {}",
        sys!(ppoll(
            v.as_mut_ptr(),
            1,
            &timespec {
                tv_sec: 0,
                tv_nsec: 2_000_000_000
            },
            null()
        ))
    );
}

fn poll_files() {
    put("f", b"");
    let f = open("f", O_RDWR).fd();
    let d = open(".", O_RDONLY).fd();
    let n = open("/dev/null", O_RDWR).fd();
    let z = open("/dev/zero", O_RDWR).fd();
    let all = POLLIN | POLLOUT;
    say!("{}", pl(&[(f, all), (d, all), (n, all), (z, all)], 0));
    let p = open("f", O_PATH).fd();
    say!("O_PATH {}", pl(&[(p, all)], 0));
}

fn poll_wakes() {
    let p = pipe();
    let t = std::thread::spawn(move || pl(&[(p[0], POLLIN)], 5000));
    ms(10);
    write(p[1], b"x");
    say!("data {}", t.join().unwrap());
    read(p[0], 1);
    let t = std::thread::spawn(move || pl(&[(p[0], POLLIN)], -1));
    ms(10);
    close(p[1]);
    say!("hang-up {}", t.join().unwrap());
    let q = pipe();
    sys!(fcntl(q[1], F_SETFL, O_NONBLOCK));
    while !write(q[1], &[0; 4096]).failed() {}
    let t = std::thread::spawn(move || pl(&[(q[1], POLLOUT)], 5000));
    ms(10);
    read(q[0], 8192);
    say!("room {}", t.join().unwrap());
}

fn poll_sockets() {
    let all = POLLIN | POLLOUT | POLLRDHUP;
    let s = pair(SOCK_STREAM);
    say!("new {}", pl(&[(s[0], all)], 0));
    write(s[1], b"x");
    say!("data {}", pl(&[(s[0], all)], 0));
    sys!(shutdown(s[1], SHUT_WR));
    say!("half closed {}", pl(&[(s[0], all)], 0));
    close(s[1]);
    say!("closed {}", pl(&[(s[0], all)], 0));
    let d = pair(SOCK_DGRAM);
    say!("dgram {}", pl(&[(d[0], all)], 0));
    close(d[1]);
    say!("dgram closed {}", pl(&[(d[0], all)], 0));
    let l = sys!(socket(AF_UNIX, SOCK_STREAM, 0)).fd();
    say!("unbound {}", pl(&[(l, all)], 0));
}

fn sel(r: &[i32], w: &[i32], e: &[i32], n: i32, t: Option<(i64, i64)>) -> String {
    let mk = |v: &[i32]| {
        let mut s: fd_set = zero();
        v.iter().for_each(|f| unsafe { FD_SET(*f, &mut s) });
        s
    };
    let (mut a, mut b, mut c) = (mk(r), mk(w), mk(e));
    let mut tv = t.map(|(s, u)| timeval {
        tv_sec: s,
        tv_usec: u,
    });
    let x = sys!(select(
        n,
        &mut a,
        &mut b,
        &mut c,
        tv.as_mut().map_or(null_mut(), |t| t)
    ));
    let shown = |v: &[i32], s: &fd_set| {
        v.iter()
            .map(|f| if unsafe { FD_ISSET(*f, s) } { '1' } else { '0' })
            .collect::<String>()
    };
    format!("{x} r{} w{} e{}", shown(r, &a), shown(w, &b), shown(e, &c))
}

fn select_basic() {
    let p = pipe();
    let n = p[1] + 1;
    say!("{}", sel(&[p[0]], &[p[1]], &[p[0]], n, Some((0, 0))));
    write(p[1], b"x");
    say!("{}", sel(&[p[0]], &[p[1]], &[p[0]], n, Some((0, 0))));
    say!(
        "beyond nfds {}",
        sel(&[p[0]], &[p[1]], &[], p[0], Some((0, 0)))
    );
    close(p[1]);
    read(p[0], 1);
    say!(
        "eof is readable {}",
        sel(&[p[0]], &[], &[], n, Some((0, 0)))
    );
    put("f", b"");
    let f = open("f", O_RDWR).fd();
    say!("file {}", sel(&[f], &[f], &[f], f + 1, None));
}

fn select_errors() {
    let p = pipe();
    say!(
        "closed fd {}",
        sys!(select(
            61,
            &mut {
                let mut s: fd_set = zero();
                unsafe { FD_SET(60, &mut s) };
                s
            },
            null_mut(),
            null_mut(),
            &mut timeval {
                tv_sec: 0,
                tv_usec: 0
            }
        ))
    );
    say!(
        "negative n {}",
        sys!(select(
            -1,
            null_mut(),
            null_mut(),
            null_mut(),
            &mut timeval {
                tv_sec: 0,
                tv_usec: 0
            }
        ))
    );
    say!(
        "negative time {}",
        sys!(select(
            0,
            null_mut(),
            null_mut(),
            null_mut(),
            &mut timeval {
                tv_sec: -1,
                tv_usec: 0
            }
        ))
    );
    say!("bad set {}", raw!(SYS_select, p[1] + 1, 8, 0, 0, 0));
    say!(
        "huge n {}",
        sys!(select(
            100_000,
            null_mut(),
            null_mut(),
            null_mut(),
            &mut timeval {
                tv_sec: 0,
                tv_usec: 0
            }
        ))
    );
}

fn select_timeout() {
    let p = pipe();
    let (r, when) = took(30, || sel(&[p[0]], &[], &[], p[0] + 1, Some((0, 30_000))));
    say!("{r} {when}");
    let mut tv = timeval {
        tv_sec: 5,
        tv_usec: 0,
    };
    write(p[1], b"x");
    let mut s: fd_set = zero();
    unsafe { FD_SET(p[0], &mut s) };
    say!(
        "{}",
        sys!(select(p[0] + 1, &mut s, null_mut(), null_mut(), &mut tv))
    );
    say!(
        "what is left is written back {}",
        tv.tv_sec == 4 || (tv.tv_sec == 5 && tv.tv_usec == 0)
    );
    let (_, when) = took(20, || {
        sys!(select(
            0,
            null_mut(),
            null_mut(),
            null_mut(),
            &mut timeval {
                tv_sec: 0,
                tv_usec: 20_000
            }
        ))
    });
    say!("sleep {when}");
}

fn pselect_ppoll() {
    let p = pipe();
    write(p[1], b"x");
    let mut s: fd_set = zero();
    unsafe { FD_SET(p[0], &mut s) };
    let t = ts(5000);
    say!(
        "{}",
        sys!(pselect(
            p[0] + 1,
            &mut s,
            null_mut(),
            null_mut(),
            &t,
            null()
        ))
    );
    say!("timeout constant to libc {} {}", t.tv_sec, t.tv_nsec);
    let mut raw_t = [5i64, 0];
    let mut f = pollfd {
        fd: p[0],
        events: POLLIN,
        revents: 0,
    };
    say!(
        "{}",
        raw!(SYS_ppoll, &raw mut f, 1, raw_t.as_mut_ptr(), 0, 8)
    );
    say!("kernel writes back {}", raw_t[0] == 4 || raw_t == [5, 0]);
    say!(
        "mask size {}",
        raw!(
            SYS_ppoll,
            &raw mut f,
            1,
            raw_t.as_mut_ptr(),
            &raw const f,
            5
        )
    );
}

fn many() {
    let lim = rlimit {
        rlim_cur: 1024,
        rlim_max: 1024,
    };
    sys!(setrlimit(RLIMIT_NOFILE, &lim)).v();
    let p: Vec<[i32; 2]> = (0..200).map(|_| pipe()).collect();
    for i in (0..200).step_by(17) {
        write(p[i][1], b"x");
    }
    let mut v: Vec<pollfd> = p
        .iter()
        .map(|p| pollfd {
            fd: p[0],
            events: POLLIN,
            revents: 0,
        })
        .collect();
    let r = sys!(poll(v.as_mut_ptr(), 200, 0));
    let which: Vec<usize> = v
        .iter()
        .enumerate()
        .filter(|(_, p)| p.revents != 0)
        .map(|(i, _)| i)
        .collect();
    say!("{r} {which:?}");
    p.iter().for_each(|p| {
        sys!(fcntl(p[0], F_SETFL, O_NONBLOCK));
        read(p[0], 1);
    });
    let last = p[199][1];
    let t = std::thread::spawn(move || {
        ms(20);
        write(last, b"x")
    });
    say!("{}", sys!(poll(v.as_mut_ptr(), 200, 5000)));
    t.join().unwrap();
}
