//! sendfile, splice, tee, vmsplice.

use crate::prelude::*;

tests![
    sendfile_files,
    sendfile_sockets,
    sendfile_errors,
    splice_pipes,
    splice_files,
    splice_errors,
    tee_calls,
    vmsplice_calls,
    big_splice
];

fn sendfile_files() {
    put("a", b"0123456789");
    let a = open("a", O_RDONLY).fd();
    let b = open("b", RDWR).fd();
    say!("{} {}", sys!(sendfile(b, a, null_mut(), 4)), get("b"));
    let mut off = 7i64;
    say!(
        "{} off {off} position {}",
        sys!(sendfile(b, a, &mut off, 100)),
        sys!(lseek(a, 0, SEEK_CUR))
    );
    say!("off {off} {}", get("b"));
    say!(
        "at end {} zero {}",
        {
            let mut e = 10i64;
            sys!(sendfile(b, a, &mut e, 5))
        },
        sys!(sendfile(b, a, null_mut(), 0))
    );
    let p = pipe();
    say!(
        "to a pipe {} {}",
        sys!(sendfile(p[1], a, null_mut(), 3)),
        read(p[0], 10)
    );
}

fn sendfile_sockets() {
    let data: Vec<u8> = (0..300_000u32).map(|i| (i * 7) as u8).collect();
    put("big", &data);
    let f = open("big", O_RDONLY).fd();
    let s = pair(SOCK_STREAM);
    let pid = fork(|| {
        close(s[1]);
        let mut left = 300_000;
        while left > 0 {
            left -= sys!(sendfile(s[0], f, null_mut(), left)).v() as usize;
        }
        0
    });
    close(s[0]);
    let mut got = vec![];
    let mut b = vec![0u8; 10_000];
    loop {
        let n = sys!(read(s[1], b.as_mut_ptr().cast(), 10_000)).v() as usize;
        if n == 0 {
            break;
        }
        got.extend_from_slice(&b[..n]);
    }
    say!("{} {}", wait(pid), got == data);
}

fn sendfile_errors() {
    put("a", b"x");
    let a = open("a", O_RDONLY).fd();
    let w = open("b", O_WRONLY | O_CREAT).fd();
    say!(
        "from a writer {} to a reader {}",
        sys!(sendfile(w, w, null_mut(), 1)),
        sys!(sendfile(a, a, null_mut(), 1))
    );
    say!(
        "from a pipe {} bad {}",
        sys!(sendfile(w, pipe()[0], null_mut(), 1)),
        sys!(sendfile(-1, a, null_mut(), 1))
    );
    say!(
        "append {}",
        sys!(sendfile(
            open("b", O_WRONLY | O_APPEND).fd(),
            a,
            null_mut(),
            1
        ))
    );
    say!(
        "pointer {} negative {}",
        sys!(sendfile(w, a, 8 as *mut i64, 1)),
        {
            let mut o = -5i64;
            sys!(sendfile(w, a, &mut o, 1))
        }
    );
}

fn splice_pipes() {
    let (p, q) = (pipe(), pipe());
    write(p[1], b"through two pipes");
    say!(
        "{} {} {}",
        sys!(splice(p[0], null_mut(), q[1], null_mut(), 7, 0)),
        read(q[0], 50),
        read(p[0], 50)
    );
    say!(
        "empty {}",
        sys!(splice(
            p[0],
            null_mut(),
            q[1],
            null_mut(),
            7,
            SPLICE_F_NONBLOCK
        ))
    );
    close(p[1]);
    say!(
        "eof {}",
        sys!(splice(p[0], null_mut(), q[1], null_mut(), 7, 0))
    );
    let r = pipe();
    let pid = fork(|| {
        ms(20);
        write(r[1], b"late");
        0
    });
    say!(
        "waits {} {}",
        sys!(splice(r[0], null_mut(), q[1], null_mut(), 100, 0)),
        wait(pid)
    );
    say!("{}", read(q[0], 10));
}

fn splice_files() {
    put("a", b"0123456789");
    let a = open("a", O_RDWR).fd();
    let p = pipe();
    let mut o = 3i64;
    say!(
        "in {} off {}",
        sys!(splice(a, &mut o, p[1], null_mut(), 4, 0)),
        0
    );
    say!("off {o} {}", read(p[0], 10));
    say!(
        "position {} {}",
        sys!(splice(a, null_mut(), p[1], null_mut(), 4, 0)),
        sys!(lseek(a, 0, SEEK_CUR))
    );
    let b = open("b", RDWR).fd();
    let mut o = 2i64;
    say!(
        "out {} {}",
        sys!(splice(p[0], null_mut(), b, &mut o, 100, 0)),
        get("b")
    );
    let s = pair(SOCK_STREAM);
    write(p[1], b"to a socket");
    say!(
        "{} {}",
        sys!(splice(p[0], null_mut(), s[0], null_mut(), 100, 0)),
        read(s[1], 50)
    );
    write(s[1], b"from a socket");
    say!(
        "{} {}",
        sys!(splice(s[0], null_mut(), p[1], null_mut(), 100, 0)),
        read(p[0], 50)
    );
    let z = open("/dev/null", O_WRONLY).fd();
    write(p[1], b"gone");
    say!(
        "to null {}",
        sys!(splice(p[0], null_mut(), z, null_mut(), 100, 0))
    );
}

fn splice_errors() {
    put("a", b"x");
    let (a, b) = (open("a", O_RDWR).fd(), open("a", O_RDWR).fd());
    let p = pipe();
    write(p[1], b"x");
    let mut o = 0i64;
    say!(
        "no pipe {} offset of a pipe {}",
        sys!(splice(a, null_mut(), b, null_mut(), 1, 0)),
        sys!(splice(p[0], &mut o, a, null_mut(), 1, 0))
    );
    say!(
        "same pipe {} flags {}",
        sys!(splice(p[0], null_mut(), p[1], null_mut(), 1, 0)),
        sys!(splice(p[0], null_mut(), a, null_mut(), 1, 0x100))
    );
    say!(
        "wrong end {} bad {}",
        sys!(splice(p[1], null_mut(), a, null_mut(), 1, 0)),
        sys!(splice(-1, null_mut(), p[1], null_mut(), 1, 0))
    );
    say!(
        "append {}",
        sys!(splice(
            p[0],
            null_mut(),
            open("a", O_WRONLY | O_APPEND).fd(),
            null_mut(),
            1,
            0
        ))
    );
    say!(
        "zero {}",
        sys!(splice(a, null_mut(), p[1], null_mut(), 0, 0))
    );
}

fn tee_calls() {
    let (p, q) = (pipe(), pipe());
    write(p[1], b"copied");
    say!(
        "{} {} {}",
        sys!(tee(p[0], q[1], 100, 0)),
        read(q[0], 20),
        read(p[0], 20)
    );
    say!(
        "empty {} same {} file {}",
        sys!(tee(p[0], q[1], 1, SPLICE_F_NONBLOCK)),
        sys!(tee(p[0], p[1], 1, 0)),
        sys!(tee(open("f", RDWR).fd(), q[1], 1, 0))
    );
    write(p[1], b"abcdef");
    say!("part {} {}", sys!(tee(p[0], q[1], 3, 0)), read(q[0], 20));
}

fn vmsplice_calls() {
    let p = pipe();
    let (a, b) = (b"from ".as_slice(), b"memory".as_slice());
    let v = [
        iovec {
            iov_base: a.as_ptr() as *mut _,
            iov_len: 5,
        },
        iovec {
            iov_base: b.as_ptr() as *mut _,
            iov_len: 6,
        },
    ];
    say!(
        "{} {}",
        sys!(vmsplice(p[1], v.as_ptr(), 2, 0)),
        read(p[0], 20)
    );
    write(p[1], b"to memory");
    let mut out = [0u8; 20];
    let w = iovec {
        iov_base: out.as_mut_ptr().cast(),
        iov_len: 20,
    };
    say!("{} {}", sys!(vmsplice(p[0], &w, 1, 0)), show(&out[..9]));
    say!(
        "file {} pointer {}",
        sys!(vmsplice(open("f", RDWR).fd(), v.as_ptr(), 1, 0)),
        sys!(vmsplice(
            p[1],
            &iovec {
                iov_base: 8 as *mut _,
                iov_len: 5
            },
            1,
            0
        ))
    );
}

fn big_splice() {
    let data: Vec<u8> = (0..1_000_000u32)
        .map(|i| (i.wrapping_mul(2654435761) >> 9) as u8)
        .collect();
    put("in", &data);
    let (i, o) = (open("in", O_RDONLY).fd(), open("out", RDWR).fd());
    let p = pipe();
    let mut total = 0;
    loop {
        let n = sys!(splice(i, null_mut(), p[1], null_mut(), 40_000, 0)).v();
        if n == 0 {
            break;
        }
        let mut left = n;
        while left > 0 {
            left -= sys!(splice(p[0], null_mut(), o, null_mut(), left as usize, 0)).v();
        }
        total += n;
    }
    say!("{total} {}", std::fs::read("out").unwrap() == data);
}
