//! eventfd(2).

use crate::prelude::*;

tests![
    counting,
    semaphore,
    limits,
    errors,
    blocking,
    across_fork,
    polling
];

fn rd(fd: i32) -> String {
    let mut v = 0u64;
    let r = sys!(read(fd, (&raw mut v).cast(), 8));
    if r.failed() {
        r.to_string()
    } else {
        format!("{v}")
    }
}

fn wr(fd: i32, v: u64) -> R {
    write(fd, &v.to_ne_bytes())
}

fn counting() {
    let fd = sys!(eventfd(5, EFD_NONBLOCK)).fd();
    say!("{} {}", rd(fd), rd(fd));
    say!("{} {} {} {}", wr(fd, 1), wr(fd, 2), wr(fd, 0), rd(fd));
    say!("{} {}", wr(fd, 0), rd(fd));
}

fn semaphore() {
    let fd = sys!(eventfd(2, EFD_NONBLOCK | EFD_SEMAPHORE)).fd();
    say!("{} {} {}", rd(fd), rd(fd), rd(fd));
    wr(fd, 3);
    say!("{} {} {} {}", rd(fd), rd(fd), rd(fd), rd(fd));
}

fn limits() {
    let fd = sys!(eventfd(0, EFD_NONBLOCK)).fd();
    say!("max {} over {}", wr(fd, u64::MAX - 1), wr(fd, 1));
    say!("{}", rd(fd));
    say!("all ones {}", wr(fd, u64::MAX));
    say!("{} {}", wr(fd, u64::MAX - 2), wr(fd, 2));
    say!("{} {}", wr(fd, 1), rd(fd));
}

fn errors() {
    let fd = sys!(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)).fd();
    say!(
        "short read {} short write {}",
        read(fd, 7),
        write(fd, &[1; 7])
    );
    say!(
        "pread {}",
        sys!(pread(fd, [0u8; 8].as_mut_ptr().cast(), 8, 0))
    );
    say!(
        "cloexec {} flags {}",
        sys!(fcntl(fd, F_GETFD)),
        sys!(eventfd(0, 0x10))
    );
    say!("mode {}", fstat(fd).st_mode & S_IFMT);
    say!("ftruncate {}", sys!(ftruncate(fd, 0)));
}

fn blocking() {
    let fd = sys!(eventfd(0, 0)).fd();
    let t = std::thread::spawn(move || rd(fd));
    ms(10);
    wr(fd, 7);
    say!("{}", t.join().unwrap());
    wr(fd, u64::MAX - 1);
    let t = std::thread::spawn(move || wr(fd, 5));
    ms(10);
    say!("{}", rd(fd));
    say!("{} {}", t.join().unwrap(), rd(fd));
}

fn across_fork() {
    let fd = sys!(eventfd(0, 0)).fd();
    let pid = fork(|| {
        (0..10).for_each(|_| drop(wr(fd, 3)));
        0
    });
    say!("{}", wait(pid));
    say!("{}", rd(fd));
}

fn polling() {
    let fd = sys!(eventfd(0, 0)).fd();
    let p = |fd| {
        let mut p = pollfd {
            fd,
            events: POLLIN | POLLOUT,
            revents: 0,
        };
        sys!(poll(&mut p, 1, 0));
        format!(
            "in {} out {}",
            p.revents & POLLIN != 0,
            p.revents & POLLOUT != 0
        )
    };
    say!("{}", p(fd));
    wr(fd, 1);
    say!("{}", p(fd));
    wr(fd, u64::MAX - 2);
    say!("{}", p(fd));
    rd(fd);
    say!("{}", p(fd));
}
