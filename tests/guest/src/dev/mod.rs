//! The device nodes every system has.

use crate::prelude::*;

tests![
    null_zero_full,
    random_nodes,
    std_links,
    node_facts,
    tty_none,
    shm_dir,
    seek_and_poll,
    mem_nodes
];

fn null_zero_full() {
    let n = open("/dev/null", O_RDWR).fd();
    say!(
        "null {} {} {}",
        read(n, 10),
        write(n, b"abc"),
        write(n, b"")
    );
    let z = open("/dev/zero", O_RDWR).fd();
    say!("zero {} {}", read(z, 20), write(z, b"abc"));
    let f = open("/dev/full", O_RDWR).fd();
    say!(
        "full {} {} {}",
        read(f, 20),
        write(f, b"abc"),
        write(f, b"")
    );
    let mut big = vec![1u8; 300_000];
    say!(
        "large {} {}",
        sys!(read(z, big.as_mut_ptr().cast(), big.len())),
        big.iter().all(|b| *b == 0)
    );
    say!(
        "truncate {} trunc open {}",
        sys!(ftruncate(n, 0)),
        open("/dev/null", O_WRONLY | O_TRUNC).ok()
    );
    say!(
        "create over {} append {}",
        open("/dev/null", RDWR).ok(),
        open("/dev/null", O_WRONLY | O_APPEND).ok()
    );
    say!("excl {}", open("/dev/null", RDWR | O_EXCL));
    say!(
        "as directory {} below {}",
        open("/dev/null", O_RDONLY | O_DIRECTORY),
        open("/dev/null/x", O_RDONLY)
    );
    say!("readv {}", {
        let v = iovec {
            iov_base: big.as_mut_ptr().cast(),
            iov_len: 100,
        };
        sys!(readv(z, &v, 1))
    });
}

fn random_nodes() {
    for p in ["/dev/random", "/dev/urandom"] {
        let fd = open(p, O_RDWR).fd();
        let (mut a, mut b) = ([0u8; 32], [0u8; 32]);
        say!(
            "{p} {} {} differ {} write {}",
            sys!(read(fd, a.as_mut_ptr().cast(), 32)),
            sys!(read(fd, b.as_mut_ptr().cast(), 32)),
            a != b,
            write(fd, b"seed")
        );
        let mut big = vec![0u8; 1 << 20];
        let mut n = 0;
        while n < big.len() {
            let r = sys!(read(fd, big[n..].as_mut_ptr().cast(), big.len() - n)).v() as usize;
            n += r;
        }
        let ones: u32 = big.iter().map(|b| b.count_ones()).sum();
        say!("even {}", (ones as i64 - (4 << 20)).abs() < 20_000);
    }
}

fn std_links() {
    for (l, t) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        say!(
            "{l} {}",
            std::fs::read_link(l).is_ok_and(|p| p.to_string_lossy() == t)
        );
    }
    let p = pipe();
    sys!(dup2(p[0], 20)).v();
    write(p[1], b"through /dev/fd");
    say!("{}", read(open("/dev/fd/20", O_RDONLY).fd(), 30));
    say!("closed {}", open("/dev/fd/77", O_RDONLY));
}

fn node_facts() {
    for p in [
        "/dev/null",
        "/dev/zero",
        "/dev/full",
        "/dev/random",
        "/dev/urandom",
        "/dev/tty",
        "/dev/ptmx",
    ] {
        let st = stat(p).unwrap();
        let st = if kind(st.st_mode) == "link" {
            let mut s: libc::stat = zero();
            let c = cs(p);
            sys!(stat(c.as_ptr(), &mut s)).v();
            s
        } else {
            st
        };
        say!(
            "{p} {} {}:{} {:o}",
            kind(st.st_mode),
            major(st.st_rdev),
            minor(st.st_rdev),
            st.st_mode & 0o777
        );
    }
    say!(
        "pts {} shm {}",
        describe("/dev/pts").starts_with("dir"),
        describe("/dev/shm").starts_with("dir")
    );
}

fn tty_none() {
    let st = run(|| {
        unsafe { setsid() };
        open("/dev/tty", O_RDWR).err()
    });
    say!("{}", st == St(ENXIO << 8));
}

fn shm_dir() {
    let name = cs(&format!("/guest-{}", unsafe { getpid() }));
    let fd = sys!(shm_open(name.as_ptr(), RDWR | O_EXCL, 0o600)).fd();
    say!(
        "again {}",
        sys!(shm_open(name.as_ptr(), RDWR | O_EXCL, 0o600))
    );
    sys!(ftruncate(fd, 8192)).v();
    let p = sys!(mmap(
        null_mut(),
        8192,
        PROT_READ | PROT_WRITE,
        MAP_SHARED,
        fd,
        0
    ))
    .v() as *mut u8;
    let st = run(|| {
        let g = sys!(shm_open(name.as_ptr(), O_RDWR, 0)).fd();
        let q = sys!(mmap(
            null_mut(),
            8192,
            PROT_READ | PROT_WRITE,
            MAP_SHARED,
            g,
            0
        ))
        .v() as *mut u8;
        unsafe { q.add(5000).write_volatile(9) };
        0
    });
    say!("{st} {}", unsafe { p.add(5000).read_volatile() });
    say!(
        "unlink {} gone {}",
        sys!(shm_unlink(name.as_ptr())),
        sys!(shm_open(name.as_ptr(), O_RDWR, 0))
    );
    let mut s: statfs = zero();
    sys!(statfs(c"/dev/shm".as_ptr(), &mut s)).v();
    say!("tmpfs {:#x}", s.f_type);
    say!("sticky {:o}", stat("/dev/shm").unwrap().st_mode & 0o7777);
}

fn seek_and_poll() {
    for p in ["/dev/null", "/dev/zero", "/dev/full"] {
        let fd = open(p, O_RDWR).fd();
        let mut f = pollfd {
            fd,
            events: POLLIN | POLLOUT,
            revents: 0,
        };
        say!(
            "{p} seek {} {} poll {} {}",
            sys!(lseek(fd, 10, SEEK_SET)),
            sys!(lseek(fd, 0, SEEK_END)),
            sys!(poll(&mut f, 1, 0)),
            f.revents
        );
        say!("tty {}", sys!(ioctl(fd, TCGETS as _, 0)));
    }
    for p in ["/dev/null", "/dev/zero", "/dev/full", "/dev/urandom"] {
        let fd = open(p, O_RDWR).fd();
        let mut b = [0u8; 10];
        let n = sys!(read(fd, b.as_mut_ptr().cast(), 10));
        let at = sys!(pread(fd, b.as_mut_ptr().cast(), 10, i64::MAX - 5));
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
        say!(
            "{p} read {n} written {} {at} {} then {:?}",
            sys!(write(fd, b.as_ptr().cast(), 3)),
            sys!(pwrite(fd, b.as_ptr().cast(), 3, 1000)),
            info.lines().next()
        );
    }
}

fn mem_nodes() {
    for p in ["/dev/mem", "/dev/kmem", "/dev/port", "/dev/nothing"] {
        say!("{p} {}", is_root() || open(p, O_RDWR).failed());
    }
}
