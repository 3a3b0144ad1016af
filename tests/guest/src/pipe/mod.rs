//! Pipes and FIFOs.

use crate::prelude::*;

tests![
    basic,
    eof_and_epipe,
    capacity,
    atomic_writes,
    nonblocking,
    set_size,
    packet_mode,
    fifo_open,
    fifo_data,
    blocking_both_ways,
    poll_states,
    many_writers,
    big_transfer,
    fionread,
    proc_reopen,
    read_write_fifo,
    stat_of_pipe,
    close_wakes,
    pages_of_user,
];

fn basic() {
    let p = pipe();
    say!("{} {}", write(p[1], b"hello"), read(p[0], 3));
    say!("{} {}", write(p[1], b" world"), read(p[0], 100));
    say!("wrong ends {} {}", read(p[1], 1), write(p[0], b"x"));
    say!("zero {} {}", write(p[1], b""), read(p[0], 0));
    let q = pipe();
    say!("numbers {} {}", p[1] - p[0], q[0] - p[1]);
    let st = run(|| {
        write(p[1], b"from child");
        0
    });
    say!("{st} {}", read(p[0], 50));
    say!("bad pointer {}", raw!(SYS_pipe2, 8, 0));
    say!("flags {}", raw!(SYS_pipe2, q.as_ptr(), 1));
}

fn eof_and_epipe() {
    let p = pipe();
    write(p[1], b"rest");
    close(p[1]);
    say!("{} {} {}", read(p[0], 10), read(p[0], 10), read(p[0], 10));
    let p = pipe();
    set_action(SIGPIPE, SIG_IGN);
    close(p[0]);
    say!("{} {}", write(p[1], b"x"), write(p[1], b""));
    let p = pipe();
    let d = sys!(dup(p[1])).fd();
    close(p[1]);
    let pid = fork(|| {
        ms(20);
        write(d, b"late");
        0
    });
    close(d);
    say!("{} {} {}", read(p[0], 10), wait(pid), read(p[0], 10));
}

fn fill(fd: i32, chunk: usize) -> usize {
    sys!(fcntl(fd, F_SETFL, O_NONBLOCK)).v();
    let b = vec![b'f'; chunk];
    let mut n = 0;
    loop {
        let r = write(fd, &b);
        if r.failed() {
            return n;
        }
        n += r.0 as usize;
    }
}

fn capacity() {
    for chunk in [4096, 1024, 65536, 100_000] {
        say!("{chunk}: {}", fill(pipe()[1], chunk));
    }
    let p = pipe();
    fill(p[1], 4096);
    say!("full {}", write(p[1], b"x"));
    read(p[0], 100);
    say!("a hundred bytes are not a page {}", write(p[1], &[0; 200]));
    read(p[0], 4096);
    say!("room {}", write(p[1], &[0; 50]));
}

fn atomic_writes() {
    let p = pipe();
    sys!(fcntl(p[1], F_SETFL, O_NONBLOCK));
    let n = fill(p[1], 65536);
    read(p[0], 8192);
    say!(
        "full at {n}; PIPE_BUF fits {} then {}",
        write(p[1], &[1; 4096]),
        write(p[1], &[1; 4096])
    );
    say!("not atomic above {}", write(p[1], &[1; 5000]));
    read(p[0], 4096);
    say!("partial {}", write(p[1], &[1; 5000]));
    let p = pipe();
    let kids: Vec<i32> = (0..4u8)
        .map(|k| {
            fork(|| {
                (0..100).for_each(|_| drop(write(p[1], &[k + 1; 500])));
                0
            })
        })
        .collect();
    close(p[1]);
    let mut all = vec![];
    let mut b = [0u8; 777];
    loop {
        let n = sys!(read(p[0], b.as_mut_ptr().cast(), 777)).v();
        if n == 0 {
            break;
        }
        all.extend_from_slice(&b[..n as usize]);
    }
    kids.iter().for_each(|k| drop(wait(*k)));
    say!(
        "{} whole {}",
        all.len(),
        all.chunks(500).all(|c| c.iter().all(|b| *b == c[0]))
    );
}

fn nonblocking() {
    let p = pipe2(O_NONBLOCK);
    say!("empty {}", read(p[0], 1));
    write(p[1], b"abc");
    say!("{} {}", read(p[0], 10), read(p[0], 10));
    close(p[1]);
    say!("eof {}", read(p[0], 1));
}

fn set_size() {
    let p = pipe();
    say!("{}", sys!(fcntl(p[0], F_GETPIPE_SZ)));
    say!(
        "{} {}",
        sys!(fcntl(p[1], F_SETPIPE_SZ, 5000)),
        sys!(fcntl(p[0], F_GETPIPE_SZ))
    );
    say!("{}", fill(p[1], 4096));
    say!(
        "smaller than content {}",
        sys!(fcntl(p[1], F_SETPIPE_SZ, 4096))
    );
    say!(
        "larger {} room {}",
        sys!(fcntl(p[1], F_SETPIPE_SZ, 16384)),
        fill(p[1], 4096)
    );
    say!(
        "zero {} huge {}",
        sys!(fcntl(p[1], F_SETPIPE_SZ, 0)),
        sys!(fcntl(p[1], F_SETPIPE_SZ, -1))
    );
    say!(
        "not a pipe {}",
        sys!(fcntl(open("f", RDWR).fd(), F_GETPIPE_SZ))
    );
    if !is_root() {
        say!(
            "over the limit {}",
            sys!(fcntl(p[1], F_SETPIPE_SZ, 64 << 20))
        );
    } else {
        say!("over the limit EPERM");
    }
}

fn packet_mode() {
    let p = pipe2(O_DIRECT);
    write(p[1], b"first");
    write(p[1], b"second");
    say!("{} {}", read(p[0], 100), read(p[0], 3));
    write(p[1], b"third");
    say!("rest of a packet is dropped {}", read(p[0], 100));
    write(p[1], b"");
    write(p[1], b"x");
    say!("empty ones vanish {}", read(p[0], 10));
}

fn fifo_open() {
    say!(
        "{} again {}",
        sys!(mkfifo(c"f".as_ptr(), 0o644)),
        sys!(mkfifo(c"f".as_ptr(), 0o644))
    );
    say!("writer alone {}", open("f", O_WRONLY | O_NONBLOCK));
    let r = open("f", O_RDONLY | O_NONBLOCK).fd();
    say!("reader alone, eof {}", read(r, 1));
    let w = open("f", O_WRONLY | O_NONBLOCK);
    say!("writer now {}", w.ok());
    say!("empty {}", read(r, 1));
    close(r);
    close(w.fd());
    let pid = fork(|| {
        let w = open("f", O_WRONLY).fd();
        write(w, b"met");
        0
    });
    let r = open("f", O_RDONLY).fd();
    say!("{} {} {}", read(r, 10), wait(pid), read(r, 10));
    say!("rdwr never blocks {}", open("f", O_RDWR).ok());
}

fn fifo_data() {
    sys!(mkfifo(c"f".as_ptr(), 0o644)).v();
    let rw = open("f", O_RDWR).fd();
    write(rw, b"kept");
    let r = open("f", O_RDONLY).fd();
    say!("{}", read(r, 10));
    write(rw, b"unlinked");
    unlink("f");
    say!("{}", read(r, 10));
    sys!(mkfifo(c"g".as_ptr(), 0o644)).v();
    let a = open("g", O_RDWR).fd();
    write(a, b"gone");
    close(a);
    let b = open("g", O_RDWR | O_NONBLOCK).fd();
    say!("nothing survives the last close {}", read(b, 10));
}

fn blocking_both_ways() {
    let (a, b) = (pipe(), pipe());
    let pid = fork(|| {
        for i in 0..500u32 {
            let mut v = [0u8; 4];
            sys!(read(a[0], v.as_mut_ptr().cast(), 4)).v();
            if u32::from_ne_bytes(v) != i {
                return 1;
            }
            write(b[1], &(i * 2).to_ne_bytes());
        }
        0
    });
    let mut good = true;
    for i in 0..500u32 {
        write(a[1], &i.to_ne_bytes());
        let mut v = [0u8; 4];
        sys!(read(b[0], v.as_mut_ptr().cast(), 4)).v();
        good &= u32::from_ne_bytes(v) == i * 2;
    }
    say!("{good} {}", wait(pid));
}

fn polled(fd: i32, ev: i16) -> String {
    let mut p = pollfd {
        fd,
        events: ev,
        revents: 0,
    };
    let r = sys!(poll(&mut p, 1, 0));
    let mut s = vec![];
    for (n, b) in [
        ("IN", POLLIN),
        ("OUT", POLLOUT),
        ("HUP", POLLHUP),
        ("ERR", POLLERR),
        ("NVAL", POLLNVAL),
        ("RDHUP", POLLRDHUP),
    ] {
        if p.revents & b != 0 {
            s.push(n);
        }
    }
    format!(
        "{r}{}",
        if s.is_empty() {
            String::new()
        } else {
            format!(" {}", s.join("|"))
        }
    )
}

fn poll_states() {
    let p = pipe();
    say!("empty {} / {}", polled(p[0], POLLIN), polled(p[1], POLLOUT));
    write(p[1], b"x");
    say!("data {}", polled(p[0], POLLIN));
    fill(p[1], 4096);
    say!("full {}", polled(p[1], POLLOUT));
    read(p[0], 100);
    say!("a bit read {}", polled(p[1], POLLOUT));
    read(p[0], 8192);
    say!("a page free {}", polled(p[1], POLLOUT));
    close(p[1]);
    say!("no writer, data {}", polled(p[0], POLLIN));
    let q = pipe();
    close(q[1]);
    say!("no writer {}", polled(q[0], POLLIN));
    let q = pipe();
    close(q[0]);
    say!("no reader {}", polled(q[1], POLLOUT));
    say!("closed {}", polled(500, POLLIN));
}

fn many_writers() {
    let p = pipe();
    let kids: Vec<i32> = (0..10u8)
        .map(|k| {
            fork(|| {
                write(p[1], &[k]);
                0
            })
        })
        .collect();
    close(p[1]);
    let mut sum = 0;
    let mut n = 0;
    let mut b = 0u8;
    while sys!(read(p[0], (&raw mut b).cast(), 1)).v() == 1 {
        sum += b as u32;
        n += 1;
    }
    kids.iter().for_each(|k| drop(wait(*k)));
    say!("{n} {sum}");
}

fn big_transfer() {
    let p = pipe();
    let data: Vec<u8> = (0..3_000_000u32)
        .map(|i| (i.wrapping_mul(2654435761) >> 11) as u8)
        .collect();
    let pid = fork(|| {
        close(p[0]);
        let mut at = 0;
        while at < data.len() {
            at += write(p[1], &data[at..]).v() as usize;
        }
        0
    });
    close(p[1]);
    let mut got = vec![];
    let mut b = vec![0u8; 70_001];
    loop {
        let n = sys!(read(p[0], b.as_mut_ptr().cast(), b.len())).v() as usize;
        if n == 0 {
            break;
        }
        got.extend_from_slice(&b[..n]);
    }
    say!("{} {} {}", wait(pid), got.len(), got == data);
}

fn fionread() {
    let p = pipe();
    let n = |fd| {
        let mut v = -1i32;
        let r = sys!(ioctl(fd, FIONREAD as _, &mut v));
        format!("{r} {v}")
    };
    say!("{}", n(p[0]));
    write(p[1], &[0; 5000]);
    write(p[1], &[0; 77]);
    say!("{} {}", n(p[0]), n(p[1]));
    read(p[0], 100);
    say!("{}", n(p[0]));
    say!("other ioctl {}", sys!(ioctl(p[0], TCGETS as _, 0)));
}

fn proc_reopen() {
    let p = pipe();
    write(p[1], b"shared");
    let r = open(&format!("/proc/self/fd/{}", p[0]), O_RDONLY).fd();
    say!("{}", read(r, 3));
    let w = open(&format!("/proc/self/fd/{}", p[0]), O_WRONLY).fd();
    write(w, b"!");
    say!("{}", read(p[0], 10));
    close(p[1]);
    sys!(fcntl(p[0], F_SETFL, O_NONBLOCK));
    say!("still a writer {}", read(p[0], 1));
    close(w);
    say!("none {}", read(p[0], 1));
}

fn read_write_fifo() {
    sys!(mkfifo(c"f".as_ptr(), 0o600)).v();
    let kids: Vec<i32> = (0..3)
        .map(|i| {
            fork(|| {
                let fd = open("f", O_WRONLY).fd();
                (0..20).for_each(|_| drop(write(fd, format!("{i}").as_bytes())));
                0
            })
        })
        .collect();
    let fd = open("f", O_RDONLY).fd();
    let mut count = [0; 3];
    let mut total = 0;
    while total < 60 {
        let mut b = [0u8; 16];
        let n = sys!(read(fd, b.as_mut_ptr().cast(), 16)).v() as usize;
        b[..n].iter().for_each(|c| count[(c - b'0') as usize] += 1);
        total += n;
        if n == 0 {
            ms(1);
        }
    }
    kids.iter().for_each(|k| drop(wait(*k)));
    say!("{count:?}");
}

fn stat_of_pipe() {
    let p = pipe();
    let (a, b) = (fstat(p[0]), fstat(p[1]));
    say!(
        "{} {:o} size {} same {}",
        kind(a.st_mode),
        a.st_mode & 0o777,
        a.st_size,
        a.st_ino == b.st_ino
    );
    say!("owner {}", a.st_uid == unsafe { geteuid() });
    say!(
        "fchmod {} {:o}",
        sys!(fchmod(p[0], 0o644)),
        fstat(p[1]).st_mode & 0o777
    );
}

fn close_wakes() {
    let p = pipe();
    let t = std::thread::spawn(move || read(p[0], 1));
    ms(10);
    close(p[1]);
    say!("reader {}", t.join().unwrap());
    set_action(SIGPIPE, SIG_IGN);
    let q = pipe();
    let t = std::thread::spawn(move || {
        let b = vec![0u8; 200_000];
        let r = write(q[1], &b);
        (r, write(q[1], &b))
    });
    ms(10);
    read(q[0], 4096);
    close(q[0]);
    let (a, b) = t.join().unwrap();
    say!("writer: partial {} then {b}", a.0 > 0);
}

fn pages_of_user() {
    // The soft limit: 16384 pages by default.
    if !is_root() {
        return skip_root();
    }
    let st = run(|| {
        let size = |fd: i32| sys!(fcntl(fd, F_GETPIPE_SZ));
        let set = |fd: i32, n: i32| sys!(fcntl(fd, F_SETPIPE_SZ, n));
        sys!(setresgid(54_323, 54_323, 54_323)).v();
        sys!(setgroups(0, null())).v();
        sys!(setresuid(54_323, 54_323, 54_323)).v();
        let soft: i32 = get("/proc/sys/fs/pipe-user-pages-soft")
            .trim_matches('"')
            .trim_end_matches("\\n")
            .parse()
            .unwrap();
        let hard = get("/proc/sys/fs/pipe-user-pages-hard");
        say!("soft {soft} hard {hard}");
        let mut all = vec![];
        for _ in 0..soft / 256 - 1 {
            let p = pipe();
            set(p[0], 1 << 20).v();
            all.push(p);
        }
        // 256 pages are left.
        let p = pipe();
        say!(
            "new {} to its half {} all {}",
            size(p[0]),
            set(p[0], 1 << 19),
            set(p[0], 1 << 20)
        );
        let q = pipe();
        say!(
            "over the limit: new {} grow {} {}",
            size(q[0]),
            set(q[0], 16384),
            size(q[0])
        );
        say!("shrink {} same {}", set(q[0], 4096), set(q[0], 4096));
        say!(
            "another shrinks {} back {}",
            set(p[0], 1 << 19),
            set(p[0], 1 << 20)
        );
        say!("grow {}", set(q[0], 65536));
        let r = pipe();
        say!("new {}", size(r[0]));
        say!("writes {} of {}", write(r[1], &[0; 100]), size(r[0]));
        // Whoever has the descriptors: who made it, counts. A child is the same user.
        say!("{}", run(|| (size(pipe()[0]).0 != 8192) as i32));
        for p in all.drain(..10) {
            close(p[0]);
            close(p[1]);
        }
        say!(
            "some closed: new {} grow {}",
            size(pipe()[0]),
            set(q[0], 65536)
        );
        0
    });
    say!("{st}");
}
