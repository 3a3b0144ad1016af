//! SO_SNDBUF: how much a socket takes before it blocks, and when it takes more.

use super::*;

const KINDS: [(&str, i32); 3] = [
    ("stream", SOCK_STREAM),
    ("dgram", SOCK_DGRAM),
    ("seqpacket", SOCK_SEQPACKET),
];

fn outq(fd: i32) -> i32 {
    let mut n = 0;
    sys!(ioctl(fd, TIOCOUTQ, &mut n)).v();
    n
}

fn may_write(fd: i32) -> bool {
    let mut p = pollfd {
        fd,
        events: POLLOUT,
        revents: 0,
    };
    sys!(poll(&mut p, 1, 0)).v();
    p.revents & POLLOUT != 0
}

pub fn buffer_costs() {
    for (name, kind) in KINDS {
        for size in [
            1, 100, 192, 193, 704, 705, 1728, 1729, 3776, 3777, 7872, 7873, 20000, 36544, 50000,
            100_000,
        ] {
            let p = pair(kind | SOCK_NONBLOCK);
            let data = vec![7u8; size];
            let first = send_(p[0], &data, 0);
            let one = outq(p[0]);
            let (mut n, mut bytes) = (1, first.0);
            let end = loop {
                let r = send_(p[0], &data, 0);
                if r.failed() {
                    break r;
                }
                n += 1;
                bytes += r.0;
            };
            say!(
                "{name} {size}: {first} counts {one}, {n} writes, {bytes} bytes, {end}, other side {}",
                outq(p[1])
            );
            close(p[0]);
            close(p[1]);
        }
    }
}

pub fn buffer_sizes() {
    for (name, kind) in KINDS {
        for sndbuf in [1, 8192, 100_000] {
            for size in [1usize, 2000, 20000] {
                let p = pair(kind | SOCK_NONBLOCK);
                set_opt(p[0], SO_SNDBUF, sndbuf).v();
                let data = vec![7u8; size];
                let (mut n, mut bytes) = (0, 0);
                let end = loop {
                    let r = send_(p[0], &data, 0);
                    if r.failed() {
                        break r;
                    }
                    n += 1;
                    bytes += r.0;
                };
                let mut reads = 0;
                let mut b = vec![0u8; if kind == SOCK_STREAM { 1000 } else { 1 << 17 }];
                while !may_write(p[0])
                    && !sys!(recv(p[1], b.as_mut_ptr().cast(), b.len(), 0)).failed()
                {
                    reads += 1;
                }
                say!(
                    "{name} {sndbuf} {size}: {n} writes {bytes} bytes {end}, writable after {reads} reads"
                );
                close(p[0]);
                close(p[1]);
            }
        }
    }
}

pub fn buffer_blocks() {
    // A writer that blocks goes on when three quarters have been read, not before.
    for (name, kind) in KINDS {
        let p = pair(kind);
        set_opt(p[0], SO_SNDBUF, 8192).v();
        let done = AtomicU32::new(0);
        let tid = AtomicI32::new(0);
        std::thread::scope(|s| {
            s.spawn(|| {
                tid.store(gettid(), SeqCst);
                for _ in 0..12 {
                    send_(p[0], &[1; 2000], 0).v();
                    done.fetch_add(1, SeqCst);
                }
            });
            let sleeps = || {
                while tid.load(SeqCst) == 0 {
                    ms(1);
                }
                let path = format!("/proc/self/task/{}/stat", tid.load(SeqCst));
                for _ in 0..5000 {
                    if std::fs::read_to_string(&path).is_ok_and(|s| s.contains(") S")) {
                        return done.load(SeqCst);
                    }
                    ms(1);
                }
                999
            };
            let mut seen = vec![sleeps()];
            for _ in 0..5 {
                recv_(p[1], 2000, 0);
                seen.push(sleeps());
            }
            say!("{name} {seen:?}");
            for _ in 0..7 {
                recv_(p[1], 2000, 0);
            }
        });
        say!("all {}", done.load(SeqCst));
    }
}
