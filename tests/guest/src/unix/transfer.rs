//! Moving data.

use super::*;

pub fn stream_transfer() {
    let p = pair(SOCK_STREAM);
    write(p[0], b"one");
    write(p[0], b"two");
    say!("{} {}", recv_(p[1], 4, 0), recv_(p[1], 100, 0));
    say!("both ways {} {}", write(p[1], b"back"), recv_(p[0], 10, 0));
    say!("zero {} {}", write(p[0], b""), recv_(p[1], 0, MSG_DONTWAIT));
    say!("dontwait {}", recv_(p[1], 10, MSG_DONTWAIT));
    say!("to an address {}", {
        let (a, n) = addr("x");
        sys!(sendto(
            p[0],
            b"x".as_ptr().cast(),
            1,
            MSG_NOSIGNAL,
            (&raw const a).cast(),
            n
        ))
    });
    say!(
        "unconnected {} {}",
        send_(sock(SOCK_STREAM), b"x", 0),
        recv_(sock(SOCK_STREAM), 1, 0)
    );
    say!(
        "lseek {} pread {}",
        sys!(lseek(p[0], 0, SEEK_SET)),
        sys!(pread(p[0], [0u8; 1].as_mut_ptr().cast(), 1, 0))
    );
}

pub fn stream_eof() {
    let p = pair(SOCK_STREAM);
    write(p[0], b"rest");
    close(p[0]);
    say!(
        "{} {} {}",
        read(p[1], 10),
        read(p[1], 10),
        send_(p[1], b"x", 0)
    );
    let p = pair(SOCK_STREAM);
    write(p[0], b"unread");
    close(p[1]);
    say!(
        "closed with unread data {} {}",
        read(p[0], 10),
        read(p[0], 10)
    );
    say!("write {}", send_(p[0], b"x", 0));
    let l = listener(SOCK_STREAM, "l");
    let c = sock(SOCK_STREAM);
    connect_to(c, "l").v();
    close(l);
    say!("never accepted {} {}", read(c, 5), send_(c, b"x", 0));
}

pub fn shutdown_matrix() {
    for (n, how) in [("RD", SHUT_RD), ("WR", SHUT_WR), ("RDWR", SHUT_RDWR)] {
        let p = pair(SOCK_STREAM);
        write(p[1], b"queued");
        say!(
            "{n}: {} own read {} own write {} peer read {} peer write {}",
            sys!(shutdown(p[0], how)),
            recv_(p[0], 10, MSG_DONTWAIT),
            send_(p[0], b"x", 0),
            recv_(p[1], 10, MSG_DONTWAIT),
            send_(p[1], b"y", 0)
        );
        say!("   again {}", recv_(p[0], 10, MSG_DONTWAIT));
    }
    say!(
        "how {} unconnected {} pipe {}",
        sys!(shutdown(pair(SOCK_STREAM)[0], 9)),
        sys!(shutdown(sock(SOCK_STREAM), SHUT_RD)),
        sys!(shutdown(pipe()[0], 0))
    );
    let p = pair(SOCK_STREAM);
    let t = std::thread::spawn(move || read(p[0], 1));
    ms(10);
    sys!(shutdown(p[0], SHUT_RD)).v();
    say!("wakes a reader {}", t.join().unwrap());
    let d = pair(SOCK_DGRAM);
    say!(
        "dgram {} {} {}",
        sys!(shutdown(d[0], SHUT_WR)),
        send_(d[0], b"x", 0),
        send_(d[1], b"x", 0)
    );
}

pub fn dgram_boundaries() {
    let p = pair(SOCK_DGRAM);
    for m in [&b"first"[..], b"", b"third message"] {
        say!("{}", send_(p[0], m, 0));
    }
    say!(
        "{} {} {}",
        recv_(p[1], 100, 0),
        recv_(p[1], 100, 0),
        recv_(p[1], 5, 0)
    );
    say!("{}", recv_(p[1], 100, MSG_DONTWAIT));
    let (a, b) = (sock(SOCK_DGRAM), sock(SOCK_DGRAM));
    bind_to(a, "a").v();
    bind_to(b, "b").v();
    let (ad, n) = addr("a");
    say!(
        "sendto {}",
        sys!(sendto(
            b,
            b"hi".as_ptr().cast(),
            2,
            0,
            (&raw const ad).cast(),
            n
        ))
    );
    let mut from: sockaddr_un = zero();
    let mut len = 110u32;
    let mut buf = [0u8; 10];
    say!(
        "{} from {}",
        sys!(recvfrom(
            a,
            buf.as_mut_ptr().cast(),
            10,
            0,
            (&raw mut from).cast(),
            &mut len
        )),
        shown(&from, len)
    );
    let u = sock(SOCK_DGRAM);
    sys!(sendto(
        u,
        b"anon".as_ptr().cast(),
        4,
        0,
        (&raw const ad).cast(),
        n
    ))
    .v();
    len = 110;
    say!(
        "{} from {}",
        sys!(recvfrom(
            a,
            buf.as_mut_ptr().cast(),
            10,
            0,
            (&raw mut from).cast(),
            &mut len
        )),
        shown(&from, len)
    );
}

pub fn dgram_errors() {
    let s = sock(SOCK_DGRAM);
    say!("no destination {}", send_(s, b"x", 0));
    let (a, n) = addr("none");
    say!(
        "missing {}",
        sys!(sendto(
            s,
            b"x".as_ptr().cast(),
            1,
            0,
            (&raw const a).cast(),
            n
        ))
    );
    let l = listener(SOCK_STREAM, "l");
    let _ = l;
    let (a, n) = addr("l");
    say!(
        "a stream {}",
        sys!(sendto(
            s,
            b"x".as_ptr().cast(),
            1,
            0,
            (&raw const a).cast(),
            n
        ))
    );
    let p = pair(SOCK_DGRAM);
    say!("too long {}", send_(p[0], &vec![0; 10 << 20], 0));
    close(p[1]);
    say!("peer gone {}", send_(p[0], b"x", 0));
    say!("recv {}", recv_(p[0], 10, MSG_DONTWAIT));
    put("file", b"");
    let (a, n) = addr("file");
    say!(
        "file {}",
        sys!(sendto(
            s,
            b"x".as_ptr().cast(),
            1,
            0,
            (&raw const a).cast(),
            n
        ))
    );
}

pub fn seqpacket() {
    let p = pair(SOCK_SEQPACKET);
    send_(p[0], b"alpha", 0);
    send_(p[0], b"beta", 0);
    say!("{} {}", recv_(p[1], 3, 0), recv_(p[1], 100, 0));
    close(p[0]);
    say!("eof {} write {}", recv_(p[1], 10, 0), send_(p[1], b"x", 0));
    let l = listener(SOCK_SEQPACKET, "q");
    let c = sock(SOCK_SEQPACKET);
    say!("{}", connect_to(c, "q"));
    let a = sys!(accept(l, null_mut(), null_mut())).fd();
    send_(c, b"via name", MSG_EOR);
    let mut b = [0u8; 20];
    let mut v = iovec {
        iov_base: b.as_mut_ptr().cast(),
        iov_len: 20,
    };
    let mut m: msghdr = zero();
    m.msg_iov = &mut v;
    m.msg_iovlen = 1;
    say!("{} flags {:#x}", sys!(recvmsg(a, &mut m, 0)), m.msg_flags);
    v.iov_len = 3;
    send_(c, b"truncated", 0);
    say!(
        "{} trunc {}",
        sys!(recvmsg(a, &mut m, 0)),
        m.msg_flags & MSG_TRUNC != 0
    );
}

pub fn peek_and_trunc() {
    let p = pair(SOCK_STREAM);
    write(p[0], b"peekable");
    say!(
        "{} {} {}",
        recv_(p[1], 4, MSG_PEEK),
        recv_(p[1], 100, MSG_PEEK),
        recv_(p[1], 100, 0)
    );
    let d = pair(SOCK_DGRAM);
    send_(d[0], b"a datagram", 0);
    say!(
        "{} real length {}",
        recv_(d[1], 3, MSG_PEEK),
        recv_(d[1], 3, MSG_PEEK | MSG_TRUNC)
    );
    say!("{}", recv_(d[1], 3, MSG_TRUNC));
    say!("peek off {}", set_opt(p[1], SO_PEEK_OFF, 2));
    write(p[0], b"abcdef");
    say!("{} {}", recv_(p[1], 2, MSG_PEEK), recv_(p[1], 2, MSG_PEEK));
}

pub fn waitall() {
    let p = pair(SOCK_STREAM);
    let t = std::thread::spawn(move || recv_(p[1], 9, MSG_WAITALL));
    for part in [b"abc", b"def", b"ghi"] {
        ms(5);
        write(p[0], part);
    }
    say!("{}", t.join().unwrap());
    let t = std::thread::spawn(move || recv_(p[1], 9, MSG_WAITALL));
    write(p[0], b"short");
    ms(5);
    close(p[0]);
    say!("{}", t.join().unwrap());
}

pub fn msg_vectors() {
    let p = pair(SOCK_STREAM);
    let parts = [&b"gather "[..], b"", b"these"];
    let v: Vec<iovec> = parts
        .iter()
        .map(|b| iovec {
            iov_base: b.as_ptr() as *mut _,
            iov_len: b.len(),
        })
        .collect();
    let mut m: msghdr = zero();
    m.msg_iov = v.as_ptr() as *mut _;
    m.msg_iovlen = 3;
    say!("{}", sys!(sendmsg(p[0], &m, 0)));
    let (mut a, mut b) = ([0u8; 5], [0u8; 30]);
    let mut r = [
        iovec {
            iov_base: a.as_mut_ptr().cast(),
            iov_len: 5,
        },
        iovec {
            iov_base: b.as_mut_ptr().cast(),
            iov_len: 30,
        },
    ];
    m.msg_iov = r.as_mut_ptr();
    m.msg_iovlen = 2;
    say!(
        "{} {} {}",
        sys!(recvmsg(p[1], &mut m, 0)),
        show(&a),
        show(&b[..7])
    );
    m.msg_iovlen = 1025;
    say!("too many {}", sys!(sendmsg(p[0], &m, 0)));
    m.msg_iovlen = 1;
    m.msg_iov = 8 as *mut _;
    say!("pointer {}", sys!(sendmsg(p[0], &m, 0)));
    say!(
        "writev {} readv {}",
        sys!(writev(p[0], v.as_ptr(), 3)),
        sys!(readv(p[1], r.as_ptr(), 2))
    );
}

pub fn nonblocking() {
    let p = pair(SOCK_STREAM | SOCK_NONBLOCK);
    say!("{}", read(p[0], 1));
    let mut n = 0;
    let r = loop {
        let r = send_(p[0], &[0; 4096], 0);
        if r.failed() {
            break r;
        }
        n += r.0;
    };
    say!("{r} after tens of kilobytes {}", n > 30_000);
    let mut left = n;
    let mut b = vec![0u8; 65536];
    while left > 0 {
        left -= sys!(read(p[1], b.as_mut_ptr().cast(), b.len())).v();
    }
    say!("room {}", send_(p[0], b"x", 0));
    let d = pair(SOCK_DGRAM | SOCK_NONBLOCK);
    let mut k = 0;
    let r = loop {
        let r = send_(d[0], b"x", 0);
        if r.failed() || k > 100_000 {
            break r;
        }
        k += 1;
    };
    say!("dgram {r} {}", k >= 10);
}

pub fn big_stream() {
    let p = pair(SOCK_STREAM);
    let data: Vec<u8> = (0..2_000_000u32)
        .map(|i| (i.wrapping_mul(40503) >> 7) as u8)
        .collect();
    let pid = fork(|| {
        close(p[1]);
        let mut at = 0;
        while at < data.len() {
            at += send_(p[0], &data[at..(at + 100_003).min(data.len())], 0).v() as usize;
        }
        0
    });
    close(p[0]);
    let mut got = vec![];
    let mut b = vec![0u8; 33_333];
    loop {
        let n = sys!(read(p[1], b.as_mut_ptr().cast(), b.len())).v() as usize;
        if n == 0 {
            break;
        }
        got.extend_from_slice(&b[..n]);
    }
    say!("{} {} {}", wait(pid), got.len(), got == data);
}

pub fn sendmmsg_calls() {
    let p = pair(SOCK_DGRAM);
    let bufs = [b"m1", b"m2", b"m3"];
    let mut v: Vec<iovec> = bufs
        .iter()
        .map(|b| iovec {
            iov_base: b.as_ptr() as *mut _,
            iov_len: 2,
        })
        .collect();
    let mut m: Vec<mmsghdr> = v
        .iter_mut()
        .map(|v| {
            let mut h: mmsghdr = zero();
            h.msg_hdr.msg_iov = v;
            h.msg_hdr.msg_iovlen = 1;
            h
        })
        .collect();
    say!(
        "{} {:?}",
        sys!(sendmmsg(p[0], m.as_mut_ptr(), 3, 0)),
        m.iter().map(|m| m.msg_len).collect::<Vec<_>>()
    );
    let mut out = [[0u8; 8]; 4];
    let mut v: Vec<iovec> = out
        .iter_mut()
        .map(|b| iovec {
            iov_base: b.as_mut_ptr().cast(),
            iov_len: 8,
        })
        .collect();
    let mut m: Vec<mmsghdr> = v
        .iter_mut()
        .map(|v| {
            let mut h: mmsghdr = zero();
            h.msg_hdr.msg_iov = v;
            h.msg_hdr.msg_iovlen = 1;
            h
        })
        .collect();
    say!(
        "{} {}",
        sys!(recvmmsg(p[1], m.as_mut_ptr(), 4, MSG_DONTWAIT, null_mut())),
        show(&out[2][..2])
    );
    say!(
        "empty {}",
        sys!(recvmmsg(p[1], m.as_mut_ptr(), 4, MSG_DONTWAIT, null_mut()))
    );
    send_(p[0], b"one", 0);
    say!(
        "waitforone {}",
        sys!(recvmmsg(
            p[1],
            m.as_mut_ptr(),
            4,
            MSG_WAITFORONE,
            null_mut()
        ))
    );
}

pub fn timeouts() {
    let p = pair(SOCK_STREAM);
    let t = timeval {
        tv_sec: 0,
        tv_usec: 30_000,
    };
    say!(
        "{}",
        sys!(setsockopt(
            p[0],
            SOL_SOCKET,
            SO_RCVTIMEO,
            (&raw const t).cast(),
            16
        ))
    );
    let (r, when) = took(28, || read(p[0], 1));
    say!("{r} {when}");
    sys!(setsockopt(
        p[0],
        SOL_SOCKET,
        SO_SNDTIMEO,
        (&raw const t).cast(),
        16
    ))
    .v();
    let (r, when) = took(28, || {
        loop {
            let r = send_(p[0], &[0; 60_000], 0);
            if r.failed() {
                break r;
            }
        }
    });
    say!("{r} {when}");
    let bad = timeval {
        tv_sec: 0,
        tv_usec: 2_000_000,
    };
    say!(
        "bad {} short {}",
        sys!(setsockopt(
            p[0],
            SOL_SOCKET,
            SO_RCVTIMEO,
            (&raw const bad).cast(),
            16
        )),
        sys!(setsockopt(
            p[0],
            SOL_SOCKET,
            SO_RCVTIMEO,
            (&raw const bad).cast(),
            4
        ))
    );
}

pub fn queue_limits() {
    let p = pair(SOCK_STREAM);
    say!(
        "set {} {}",
        set_opt(p[0], SO_SNDBUF, 8192),
        opt(p[0], SO_SNDBUF)
    );
    sys!(fcntl(p[0], F_SETFL, O_NONBLOCK)).v();
    let mut n = 0;
    loop {
        let r = send_(p[0], &[0; 1024], 0);
        if r.failed() {
            break;
        }
        n += r.0;
    }
    say!("smaller buffer {}", n < 40_000);
    say!(
        "minimum {} {}",
        set_opt(p[0], SO_SNDBUF, 1),
        opt(p[0], SO_SNDBUF).parse::<i32>().unwrap() >= 1000
    );
}

pub fn socketpair_kinds() {
    let mut p = [0; 2];
    for (n, k) in [
        ("stream", SOCK_STREAM),
        ("dgram", SOCK_DGRAM),
        ("seqpacket", SOCK_SEQPACKET),
        ("raw", SOCK_RAW),
        ("rdm", SOCK_RDM),
        ("77", 77),
    ] {
        say!("{n} {}", sys!(socketpair(AF_UNIX, k, 0, p.as_mut_ptr())));
    }
    say!(
        "protocol 1 {} 2 {}",
        sys!(socketpair(AF_UNIX, SOCK_STREAM, 1, p.as_mut_ptr())),
        sys!(socketpair(AF_UNIX, SOCK_STREAM, 2, p.as_mut_ptr()))
    );
    say!(
        "flags {}",
        sys!(socketpair(
            AF_UNIX,
            SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
            0,
            p.as_mut_ptr()
        ))
    );
    say!(
        "{} {}",
        sys!(fcntl(p[0], F_GETFD)),
        sys!(fcntl(p[1], F_GETFL)).0 & O_NONBLOCK as i64 != 0
    );
    say!(
        "pointer {} family {}",
        sys!(socketpair(AF_UNIX, SOCK_STREAM, 0, 8 as *mut i32)),
        sys!(socketpair(99, SOCK_STREAM, 0, p.as_mut_ptr()))
    );
}

pub fn options() {
    let p = pair(SOCK_STREAM);
    say!(
        "type {} domain {} protocol {} error {} accept {}",
        opt(p[0], SO_TYPE),
        opt(p[0], SO_DOMAIN),
        opt(p[0], SO_PROTOCOL),
        opt(p[0], SO_ERROR),
        opt(p[0], SO_ACCEPTCONN)
    );
    say!(
        "listener {}",
        opt(listener(SOCK_STREAM, "l"), SO_ACCEPTCONN)
    );
    say!(
        "reuse {} {} keepalive {} broadcast {}",
        set_opt(p[0], SO_REUSEADDR, 1),
        opt(p[0], SO_REUSEADDR),
        set_opt(p[0], SO_KEEPALIVE, 1),
        opt(p[0], SO_BROADCAST)
    );
    say!("linger {}", {
        let l = linger {
            l_onoff: 1,
            l_linger: 3,
        };
        sys!(setsockopt(
            p[0],
            SOL_SOCKET,
            SO_LINGER,
            (&raw const l).cast(),
            8
        ))
    });
    say!("unknown {} {}", opt(p[0], 9999), set_opt(p[0], 9999, 1));
    say!(
        "level {} pipe {}",
        sys!(setsockopt(p[0], 255, 1, (&raw const p).cast(), 4)),
        opt(pipe()[0], SO_TYPE)
    );
    say!(
        "read-only {} short {}",
        set_opt(p[0], SO_TYPE, 1),
        sys!(setsockopt(
            p[0],
            SOL_SOCKET,
            SO_REUSEADDR,
            (&raw const p).cast(),
            2
        ))
    );
    let mut v = 0i32;
    let mut n = 2u32;
    say!(
        "short get {} {n}",
        sys!(getsockopt(
            p[0],
            SOL_SOCKET,
            SO_TYPE,
            (&raw mut v).cast(),
            &mut n
        ))
    );
}

pub fn out_of_band() {
    let d = pair(SOCK_DGRAM);
    say!("dgram {}", send_(d[0], b"x", MSG_OOB));
    say!("recv {}", recv_(d[1], 1, MSG_OOB | MSG_DONTWAIT));
}

pub fn ioctls() {
    let p = pair(SOCK_STREAM);
    let mut v = -1i32;
    write(p[0], b"12345");
    write(p[0], b"678");
    say!("FIONREAD {} {v}", sys!(ioctl(p[1], FIONREAD as _, &mut v)));
    say!("FIONREAD value {v}");
    read(p[1], 5);
    sys!(ioctl(p[1], FIONREAD as _, &mut v)).v();
    say!("{v}");
    let d = pair(SOCK_DGRAM);
    send_(d[0], b"abc", 0);
    send_(d[0], b"defgh", 0);
    sys!(ioctl(d[1], FIONREAD as _, &mut v)).v();
    say!("the first datagram {v}");
    say!("tty ioctl {}", sys!(ioctl(p[0], TCGETS as _, &mut v)));
    say!(
        "FIONBIO {} {}",
        sys!(ioctl(p[0], FIONBIO as _, &1i32)),
        read(p[0], 1)
    );
}

pub fn many_pairs() {
    let v: Vec<[i32; 2]> = (0..100).map(|_| pair(SOCK_STREAM)).collect();
    for (i, p) in v.iter().enumerate() {
        write(p[0], format!("{i}").as_bytes());
    }
    say!(
        "{}",
        v.iter()
            .enumerate()
            .all(|(i, p)| read(p[1], 10) == format!("\"{i}\""))
    );
    let l = listener(SOCK_STREAM, "l");
    let pid = fork(|| {
        for i in 0..60u8 {
            let c = sock(SOCK_STREAM);
            connect_to(c, "l").v();
            write(c, &[i]);
            let mut b = 0u8;
            sys!(read(c, (&raw mut b).cast(), 1)).v();
            if b != i.wrapping_mul(2) {
                return 1;
            }
            close(c);
        }
        0
    });
    for _ in 0..60 {
        let a = sys!(accept(l, null_mut(), null_mut())).fd();
        let mut b = 0u8;
        sys!(read(a, (&raw mut b).cast(), 1)).v();
        write(a, &[b.wrapping_mul(2)]);
        close(a);
    }
    say!("{}", wait(pid));
}

pub fn threads_on_one() {
    let p = pair(SOCK_DGRAM);
    let sum = AtomicU32::new(0);
    std::thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                loop {
                    let mut b = [0u8; 4];
                    sys!(read(p[1], b.as_mut_ptr().cast(), 4)).v();
                    let v = u32::from_ne_bytes(b);
                    if v == 0 {
                        return;
                    }
                    sum.fetch_add(v, SeqCst);
                }
            });
        }
        for i in 1..=300u32 {
            send_(p[0], &i.to_ne_bytes(), 0).v();
        }
        for _ in 0..3 {
            send_(p[0], &0u32.to_ne_bytes(), 0).v();
        }
    });
    say!("{}", sum.load(SeqCst));
}
