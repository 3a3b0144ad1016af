//! flock(2), fcntl(2) record locks, open file description locks.

use crate::prelude::*;

tests![
    flock_basic,
    flock_inheritance,
    flock_convert,
    posix_ranges,
    posix_getlk,
    posix_owner,
    posix_close_releases,
    posix_whence,
    posix_deadlock,
    posix_exec_with_threads,
    posix_errors,
    ofd_basic,
    ofd_against_posix,
    blocking_wakes,
    released_by_exit,
    lockf_calls,
    many_ranges,
];

fn fl(fd: i32, op: i32) -> R {
    sys!(flock(fd, op))
}

fn lk(ty: i32, start: i64, len: i64) -> libc::flock {
    libc::flock {
        l_type: ty as i16,
        l_whence: SEEK_SET as i16,
        l_start: start,
        l_len: len,
        l_pid: 0,
    }
}

fn set_lk(fd: i32, ty: i32, start: i64, len: i64) -> R {
    sys!(fcntl(fd, F_SETLK, &lk(ty, start, len)))
}

fn ofd(fd: i32, ty: i32, start: i64, len: i64) -> R {
    sys!(fcntl(fd, F_OFD_SETLK, &lk(ty, start, len)))
}

/// What another process would meet.
fn probe(name: &str, ty: i32, start: i64, len: i64) -> String {
    let parent = unsafe { getpid() };
    let p = pipe();
    let st = run(|| {
        let fd = open(name, O_RDWR).fd();
        let mut l = lk(ty, start, len);
        let r = sys!(fcntl(fd, F_GETLK, &mut l));
        let s = if r.failed() {
            r.to_string()
        } else if l.l_type == F_UNLCK as i16 {
            "free".into()
        } else {
            let t = if l.l_type == F_RDLCK as i16 {
                "read"
            } else {
                "write"
            };
            let who = if l.l_pid == parent {
                "parent"
            } else if l.l_pid == -1 {
                "-1"
            } else {
                "other"
            };
            format!("{t} {}+{} by {who}", l.l_start, l.l_len)
        };
        write(p[1], s.as_bytes());
        0
    });
    let _ = st;
    close(p[1]);
    let s = read(p[0], 100);
    close(p[0]);
    s
}

fn flock_basic() {
    put("f", b"");
    let (a, b) = (open("f", O_RDWR).fd(), open("f", O_RDONLY).fd());
    say!(
        "ex {} other {} sh {}",
        fl(a, LOCK_EX),
        fl(b, LOCK_EX | LOCK_NB),
        fl(b, LOCK_SH | LOCK_NB)
    );
    say!(
        "again {} unlock {} other {}",
        fl(a, LOCK_EX),
        fl(a, LOCK_UN),
        fl(b, LOCK_EX | LOCK_NB)
    );
    say!("unlock unlocked {}", fl(a, LOCK_UN));
    fl(b, LOCK_UN);
    say!(
        "two shared {} {} then ex {}",
        fl(a, LOCK_SH),
        fl(b, LOCK_SH),
        fl(a, LOCK_EX | LOCK_NB)
    );
    close(b);
    say!("after close {}", fl(a, LOCK_EX | LOCK_NB));
    say!(
        "bad op {} bad fd {} path fd {}",
        fl(a, 0),
        fl(-1, LOCK_SH),
        fl(open("f", O_PATH).fd(), LOCK_SH)
    );
    say!("directory {}", fl(open(".", O_RDONLY).fd(), LOCK_EX));
    say!("pipe {}", fl(pipe()[0], LOCK_EX));
}

fn flock_inheritance() {
    put("f", b"");
    let a = open("f", O_RDWR).fd();
    fl(a, LOCK_EX).v();
    let d = sys!(dup(a)).fd();
    say!("duplicate shares it {}", fl(d, LOCK_EX | LOCK_NB));
    let st = run(|| {
        let r = fl(a, LOCK_EX | LOCK_NB);
        let own = open("f", O_RDWR).fd();
        say!(
            "child inherits {} own open {}",
            r,
            fl(own, LOCK_SH | LOCK_NB)
        );
        close(a);
        0
    });
    let c = open("f", O_RDWR).fd();
    say!("{st} still locked {}", fl(c, LOCK_EX | LOCK_NB));
    let st = run(|| fl(a, LOCK_UN).err());
    say!("{st} unlocked by the child {}", fl(c, LOCK_EX | LOCK_NB));
}

fn flock_convert() {
    put("f", b"");
    let (a, b) = (open("f", O_RDWR).fd(), open("f", O_RDWR).fd());
    fl(a, LOCK_SH).v();
    say!(
        "up {} down {} other shared {}",
        fl(a, LOCK_EX | LOCK_NB),
        fl(a, LOCK_SH | LOCK_NB),
        fl(b, LOCK_SH | LOCK_NB)
    );
    say!("up with another {}", fl(a, LOCK_EX | LOCK_NB));
    say!("posix locks do not see flock {}", set_lk(b, F_WRLCK, 0, 0));
}

fn posix_ranges() {
    put("f", &[0; 100]);
    let fd = open("f", O_RDWR).fd();
    say!(
        "{} {}",
        set_lk(fd, F_WRLCK, 10, 10),
        set_lk(fd, F_RDLCK, 30, 10)
    );
    for (t, s, l) in [
        (F_RDLCK, 0, 10),
        (F_RDLCK, 5, 10),
        (F_WRLCK, 19, 1),
        (F_WRLCK, 20, 10),
        (F_RDLCK, 30, 5),
        (F_WRLCK, 35, 100),
        (F_WRLCK, 40, 0),
    ] {
        say!("{t} {s}+{l}: {}", probe("f", t, s, l));
    }
    set_lk(fd, F_UNLCK, 14, 2).v();
    say!(
        "hole {} | {} | {}",
        probe("f", F_WRLCK, 14, 2),
        probe("f", F_WRLCK, 10, 5),
        probe("f", F_WRLCK, 16, 1)
    );
    set_lk(fd, F_WRLCK, 14, 2).v();
    say!("joined {}", probe("f", F_WRLCK, 0, 100));
    set_lk(fd, F_RDLCK, 12, 4).v();
    say!(
        "split by type {} {} {}",
        probe("f", F_RDLCK, 10, 1),
        probe("f", F_RDLCK, 13, 1),
        probe("f", F_WRLCK, 13, 1)
    );
    set_lk(fd, F_UNLCK, 0, 0).v();
    say!("all gone {}", probe("f", F_WRLCK, 0, 0));
    set_lk(fd, F_WRLCK, 50, 0).v();
    say!(
        "to the end of time {} {}",
        probe("f", F_WRLCK, 1 << 40, 1),
        probe("f", F_WRLCK, 49, 1)
    );
}

fn posix_getlk() {
    put("f", b"");
    let fd = open("f", O_RDWR).fd();
    set_lk(fd, F_WRLCK, 0, 5).v();
    let mut l = lk(F_WRLCK, 0, 5);
    say!(
        "own lock is no conflict {} {}",
        sys!(fcntl(fd, F_GETLK, &mut l)),
        l.l_type == F_UNLCK as i16
    );
    l = lk(F_UNLCK, 0, 5);
    say!("asking for UNLCK {}", sys!(fcntl(fd, F_GETLK, &mut l)));
    l = lk(9, 0, 5);
    say!("bad type {}", sys!(fcntl(fd, F_GETLK, &mut l)));
}

fn posix_owner() {
    put("f", b"");
    let (a, b) = (open("f", O_RDWR).fd(), open("f", O_RDWR).fd());
    say!(
        "one process {} {}",
        set_lk(a, F_WRLCK, 0, 0),
        set_lk(b, F_WRLCK, 0, 0)
    );
    let st = run(|| {
        say!("child {}", set_lk(a, F_RDLCK, 0, 0));
        0
    });
    say!("{st}");
    let r = std::thread::spawn(move || set_lk(b, F_RDLCK, 0, 0))
        .join()
        .unwrap();
    say!("a thread is the same owner {r}");
}

fn posix_close_releases() {
    put("f", b"");
    let a = open("f", O_RDWR).fd();
    set_lk(a, F_WRLCK, 0, 0).v();
    let b = open("f", O_RDONLY).fd();
    say!("{}", probe("f", F_WRLCK, 0, 0));
    close(b);
    say!(
        "any close of the file drops them {}",
        probe("f", F_WRLCK, 0, 0)
    );
    set_lk(a, F_WRLCK, 0, 0).v();
    let st = run(|| exec(c"/bin/sh", &["sh", "-c", "exit 3"], &[]).err());
    say!("{st} a child's exec does not {}", probe("f", F_WRLCK, 0, 0));
}

fn posix_whence() {
    put("f", &[0; 50]);
    let fd = open("f", O_RDWR).fd();
    sys!(lseek(fd, 20, SEEK_SET));
    let go = |w: i32, s, l| {
        let k = libc::flock {
            l_type: F_WRLCK as i16,
            l_whence: w as i16,
            l_start: s,
            l_len: l,
            l_pid: 0,
        };
        sys!(fcntl(fd, F_SETLK, &k))
    };
    say!("cur {} {}", go(SEEK_CUR, 5, 5), probe("f", F_WRLCK, 0, 0));
    set_lk(fd, F_UNLCK, 0, 0);
    say!("end {} {}", go(SEEK_END, -10, 5), probe("f", F_WRLCK, 0, 0));
    set_lk(fd, F_UNLCK, 0, 0);
    say!(
        "negative length {} {}",
        go(SEEK_SET, 30, -10),
        probe("f", F_WRLCK, 0, 0)
    );
    say!(
        "before 0 {} {} whence {}",
        go(SEEK_SET, -1, 5),
        go(SEEK_SET, 5, -10),
        go(9, 0, 1)
    );
    say!("overflow {}", go(SEEK_END, i64::MAX, 5));
}

fn posix_deadlock() {
    put("f", b"");
    let (a_has, b_has) = (Gate::new(), Gate::new());
    let pid = fork(|| {
        let fd = open("f", O_RDWR).fd();
        set_lk(fd, F_WRLCK, 1, 1).v();
        b_has.open();
        a_has.pass();
        let r = sys!(fcntl(fd, F_SETLKW, &lk(F_WRLCK, 0, 1)));
        if r.err() == EDEADLK { 1 } else { 0 }
    });
    let fd = open("f", O_RDWR).fd();
    set_lk(fd, F_WRLCK, 0, 1).v();
    b_has.pass();
    a_has.open();
    until_asleep(pid);
    let r = sys!(fcntl(fd, F_SETLKW, &lk(F_WRLCK, 1, 1)));
    say!("{r}");
    set_lk(fd, F_UNLCK, 0, 0);
    say!("{}", wait(pid));
}

fn posix_exec_with_threads() {
    put("f", b"");
    for leader in [true, false] {
        let (input, output) = (pipe(), pipe());
        let pid = fork(|| {
            set_lk(open("f", O_RDWR).fd(), F_WRLCK, 0, 5);
            sys!(dup2(input[0], 0));
            sys!(dup2(output[1], 1));
            for fd in [input, output].concat() {
                close(fd);
            }
            let cat = || exec(c"/bin/cat", &["cat"], &[]);
            if leader {
                std::thread::spawn(|| forever());
                cat();
            } else {
                std::thread::spawn(cat);
                forever();
            }
            99
        });
        close(input[0]);
        close(output[1]);
        write(input[1], b"!");
        let began = read(output[0], 1);
        say!("leader {leader}: {began} {}", probe("f", F_WRLCK, 0, 0));
        close(input[1]);
        close(output[0]);
        say!("{}, then {}", wait(pid), probe("f", F_WRLCK, 0, 0));
    }
}

fn posix_errors() {
    put("f", b"");
    let (r, w) = (open("f", O_RDONLY).fd(), open("f", O_WRONLY).fd());
    say!(
        "write lock on a reader {} read lock on a writer {}",
        set_lk(r, F_WRLCK, 0, 0),
        set_lk(w, F_RDLCK, 0, 0)
    );
    say!(
        "bad fd {} pointer {} type {}",
        set_lk(-1, F_RDLCK, 0, 0),
        sys!(fcntl(r, F_SETLK, 8)),
        set_lk(r, 7, 0, 0)
    );
    say!("pipe {}", set_lk(pipe()[0], F_RDLCK, 0, 0).ok());
    say!("O_PATH {}", set_lk(open("f", O_PATH).fd(), F_RDLCK, 0, 0));
}

fn ofd_basic() {
    put("f", &[0; 10]);
    let (a, b) = (open("f", O_RDWR).fd(), open("f", O_RDWR).fd());
    say!(
        "{} conflict in one process {}",
        ofd(a, F_WRLCK, 0, 5),
        ofd(b, F_WRLCK, 3, 5)
    );
    say!("beside {}", ofd(b, F_WRLCK, 5, 5));
    let st = run(|| ofd(a, F_WRLCK, 0, 3).err());
    say!("shared with a child {st}");
    let c = open("f", O_RDWR).fd();
    close(c);
    say!("another close does not release {}", ofd(b, F_WRLCK, 0, 1));
    close(a);
    say!("the last close does {}", ofd(b, F_WRLCK, 0, 1));
    let mut l = lk(F_WRLCK, 0, 1);
    l.l_pid = 5;
    say!("pid must be 0 {}", sys!(fcntl(b, F_OFD_SETLK, &l)));
}

fn ofd_against_posix() {
    put("f", b"");
    let (a, b) = (open("f", O_RDWR).fd(), open("f", O_RDWR).fd());
    say!(
        "{} posix of the same process {}",
        ofd(a, F_WRLCK, 0, 0),
        set_lk(b, F_WRLCK, 0, 0)
    );
    say!("seen as {}", probe("f", F_WRLCK, 0, 0));
    ofd(a, F_UNLCK, 0, 0);
    say!("{}", set_lk(b, F_WRLCK, 0, 0));
    say!("{}", ofd(a, F_WRLCK, 0, 0));
}

fn blocking_wakes() {
    put("f", b"");
    let fd = open("f", O_RDWR).fd();
    set_lk(fd, F_WRLCK, 0, 10).v();
    let pid = fork(|| {
        let o = open("f", O_RDWR).fd();
        sys!(fcntl(o, F_SETLKW, &lk(F_RDLCK, 5, 1))).err()
    });
    until_asleep(pid);
    set_lk(fd, F_UNLCK, 0, 5).v();
    ms(5);
    let mut st = 0;
    say!("other half {}", sys!(waitpid(pid, &mut st, WNOHANG)));
    set_lk(fd, F_RDLCK, 5, 5).v();
    say!("a downgrade lets it in {}", wait(pid));
    fl(fd, LOCK_EX).v();
    let t = std::thread::spawn(|| {
        let o = open("f", O_RDWR).fd();
        fl(o, LOCK_SH)
    });
    ms(10);
    fl(fd, LOCK_UN).v();
    say!("flock {}", t.join().unwrap());
}

fn released_by_exit() {
    put("f", b"");
    let g = Gate::new();
    let pid = fork(|| {
        let fd = open("f", O_RDWR).fd();
        set_lk(fd, F_WRLCK, 0, 0).v();
        let gd = open("f", O_RDWR).fd();
        fl(gd, LOCK_EX).v();
        g.open();
        loop {
            ms(1000)
        }
    });
    g.pass();
    let fd = open("f", O_RDWR).fd();
    say!(
        "{} {}",
        set_lk(fd, F_WRLCK, 0, 0),
        fl(fd, LOCK_EX | LOCK_NB)
    );
    unsafe { kill(pid, SIGKILL) };
    wait(pid);
    say!(
        "{} {}",
        set_lk(fd, F_WRLCK, 0, 0),
        fl(fd, LOCK_EX | LOCK_NB)
    );
}

fn lockf_calls() {
    put("f", &[0; 20]);
    let fd = open("f", O_RDWR).fd();
    say!(
        "{} {}",
        sys!(lockf(fd, F_LOCK, 5)),
        probe("f", F_RDLCK, 0, 0)
    );
    say!(
        "own test {} child {}",
        sys!(lockf(fd, F_TEST, 0)),
        run(|| {
            let o = open("f", O_RDWR).fd();
            sys!(lockf(o, F_TEST, 0)).err()
        }) == St(EACCES << 8)
    );
    say!(
        "unlock {} {}",
        sys!(lockf(fd, F_ULOCK, 0)),
        probe("f", F_RDLCK, 0, 0)
    );
}

fn many_ranges() {
    put("f", b"");
    let fd = open("f", O_RDWR).fd();
    for i in 0..300 {
        set_lk(fd, if i % 3 == 0 { F_RDLCK } else { F_WRLCK }, i * 10, 5).v();
    }
    say!(
        "{} {} {}",
        probe("f", F_WRLCK, 1500, 1),
        probe("f", F_RDLCK, 1505, 4),
        probe("f", F_RDLCK, 1510, 100)
    );
    for i in (0..300).step_by(2) {
        set_lk(fd, F_UNLCK, i * 10, 5).v();
    }
    say!(
        "{} {}",
        probe("f", F_WRLCK, 100, 5),
        probe("f", F_WRLCK, 110, 5)
    );
}
