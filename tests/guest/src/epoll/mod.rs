//! epoll(7).

use crate::prelude::*;

tests![
    basic,
    edge_triggered,
    oneshot,
    modify_delete,
    errors,
    nested,
    loops,
    closed_descriptor,
    duplicates,
    many_descriptors,
    timeouts,
    from_thread,
    exclusive,
    sockets_and_hup,
    regular_file,
    fair_order,
    pwait2,
    across_fork,
    busy_edges,
];

pub fn ctl(ep: i32, op: i32, fd: i32, events: i32, data: u64) -> R {
    let mut e = epoll_event {
        events: events as u32,
        u64: data,
    };
    sys!(epoll_ctl(ep, op, fd, &mut e))
}

/// Waits; the events by data value, sorted.
pub fn got(ep: i32, timeout: i32) -> String {
    let mut ev: [epoll_event; 32] = zero();
    let r = sys!(epoll_wait(ep, ev.as_mut_ptr(), 32, timeout));
    if r.failed() {
        return r.to_string();
    }
    let mut v: Vec<(u64, u32)> = ev[..r.0 as usize]
        .iter()
        .map(|e| (e.u64, e.events))
        .collect();
    v.sort();
    let name = |e: u32| {
        let mut s = vec![];
        for (n, b) in [
            ("IN", EPOLLIN),
            ("OUT", EPOLLOUT),
            ("HUP", EPOLLHUP),
            ("ERR", EPOLLERR),
            ("RDHUP", EPOLLRDHUP),
            ("PRI", EPOLLPRI),
        ] {
            if e & b as u32 != 0 {
                s.push(n);
            }
        }
        s.join("|")
    };
    format!(
        "[{}]",
        v.iter()
            .map(|(d, e)| format!("{d}:{}", name(*e)))
            .collect::<Vec<_>>()
            .join(" ")
    )
}

fn new() -> i32 {
    sys!(epoll_create1(EPOLL_CLOEXEC)).fd()
}

fn basic() {
    let ep = new();
    let p = pipe();
    say!("{}", ctl(ep, EPOLL_CTL_ADD, p[0], EPOLLIN, 1));
    say!("{}", ctl(ep, EPOLL_CTL_ADD, p[1], EPOLLOUT, 2));
    say!("{}", got(ep, 0));
    write(p[1], b"x");
    say!("{} {}", got(ep, 0), got(ep, 0));
    read(p[0], 1);
    say!("{}", got(ep, 0));
    close(p[1]);
    say!("{}", got(ep, 0));
}

fn edge_triggered() {
    let ep = new();
    let p = pipe();
    write(p[1], b"before");
    ctl(ep, EPOLL_CTL_ADD, p[0], EPOLLIN | EPOLLET, 1);
    say!("{} {}", got(ep, 0), got(ep, 0));
    write(p[1], b"more");
    say!("{} {}", got(ep, 0), got(ep, 0));
    read(p[0], 2);
    say!("partial read {}", got(ep, 0));
    read(p[0], 100);
    write(p[1], b"a");
    write(p[1], b"b");
    say!("two writes {} {}", got(ep, 0), got(ep, 0));
    say!(
        "MOD rearms {} {}",
        ctl(ep, EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLET, 1),
        got(ep, 0)
    );
    close(p[1]);
    say!("{} {}", got(ep, 0), got(ep, 0));
    let s = pair(SOCK_STREAM);
    ctl(ep, EPOLL_CTL_ADD, s[0], EPOLLIN | EPOLLOUT | EPOLLET, 9);
    say!("{} {}", got(ep, 0), got(ep, 0));
    write(s[1], b"x");
    say!("{} {}", got(ep, 0), got(ep, 0));
}

fn oneshot() {
    let ep = new();
    let p = pipe();
    ctl(ep, EPOLL_CTL_ADD, p[0], EPOLLIN | EPOLLONESHOT, 1);
    write(p[1], b"x");
    say!("{} {}", got(ep, 0), got(ep, 0));
    write(p[1], b"y");
    say!("disabled {}", got(ep, 0));
    say!(
        "rearmed {} {} {}",
        ctl(ep, EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT, 5),
        got(ep, 0),
        got(ep, 0)
    );
}

fn modify_delete() {
    let ep = new();
    let s = pair(SOCK_STREAM);
    ctl(ep, EPOLL_CTL_ADD, s[0], EPOLLIN, 1);
    say!("{}", got(ep, 0));
    ctl(ep, EPOLL_CTL_MOD, s[0], EPOLLOUT, 2);
    say!("{}", got(ep, 0));
    ctl(ep, EPOLL_CTL_MOD, s[0], 0, 3);
    say!("{}", got(ep, 0));
    close(s[1]);
    say!("HUP needs no asking {}", got(ep, 0));
    say!(
        "delete {} {}",
        ctl(ep, EPOLL_CTL_DEL, s[0], 0, 0),
        got(ep, 0)
    );
    say!("event may be null for DEL {}", {
        ctl(ep, EPOLL_CTL_ADD, s[0], EPOLLIN, 1);
        sys!(epoll_ctl(ep, EPOLL_CTL_DEL, s[0], null_mut()))
    });
}

fn errors() {
    let ep = new();
    let p = pipe();
    ctl(ep, EPOLL_CTL_ADD, p[0], EPOLLIN, 1);
    say!("twice {}", ctl(ep, EPOLL_CTL_ADD, p[0], EPOLLIN, 1));
    say!(
        "MOD unknown {} DEL unknown {}",
        ctl(ep, EPOLL_CTL_MOD, p[1], EPOLLIN, 1),
        ctl(ep, EPOLL_CTL_DEL, p[1], 0, 0)
    );
    say!(
        "bad fd {} bad ep {} not an ep {}",
        ctl(ep, EPOLL_CTL_ADD, 999, EPOLLIN, 1),
        ctl(999, EPOLL_CTL_ADD, p[1], EPOLLIN, 1),
        ctl(p[0], EPOLL_CTL_ADD, p[1], EPOLLIN, 1)
    );
    say!("itself {}", ctl(ep, EPOLL_CTL_ADD, ep, EPOLLIN, 1));
    say!("op {}", ctl(ep, 9, p[1], EPOLLIN, 1));
    say!(
        "null event {}",
        sys!(epoll_ctl(ep, EPOLL_CTL_ADD, p[1], null_mut()))
    );
    let mut ev: [epoll_event; 1] = zero();
    say!(
        "maxevents 0 {} -1 {}",
        sys!(epoll_wait(ep, ev.as_mut_ptr(), 0, 0)),
        sys!(epoll_wait(ep, ev.as_mut_ptr(), -1, 0))
    );
    say!(
        "not an ep {} bad {}",
        sys!(epoll_wait(p[0], ev.as_mut_ptr(), 1, 0)),
        sys!(epoll_wait(-1, ev.as_mut_ptr(), 1, 0))
    );
    write(p[1], b"x");
    say!("bad buffer {}", sys!(epoll_wait(ep, 8 as *mut _, 1, 0)));
    say!(
        "create 0 {} -1 {} flags {}",
        sys!(epoll_create(0)),
        sys!(epoll_create(-1)),
        sys!(epoll_create1(1))
    );
    say!("read {} write {}", read(ep, 1), write(ep, b"x"));
    say!("still there {}", got(ep, 0));
}

fn nested() {
    let (outer, inner) = (new(), new());
    let p = pipe();
    ctl(inner, EPOLL_CTL_ADD, p[0], EPOLLIN, 1);
    ctl(outer, EPOLL_CTL_ADD, inner, EPOLLIN, 2);
    say!("{}", got(outer, 0));
    write(p[1], b"x");
    say!("{} {}", got(outer, 0), got(inner, 0));
    let mut f = pollfd {
        fd: outer,
        events: POLLIN,
        revents: 0,
    };
    say!(
        "poll of it {} {}",
        sys!(poll(&mut f, 1, 0)),
        f.revents & POLLIN
    );
    read(p[0], 1);
    say!("{}", got(outer, 0));
    let t = std::thread::spawn(move || got(outer, 3000));
    ms(10);
    write(p[1], b"y");
    say!("wakes through {}", t.join().unwrap());
}

fn loops() {
    let (a, b) = (new(), new());
    say!(
        "{} back {}",
        ctl(a, EPOLL_CTL_ADD, b, EPOLLIN, 1),
        ctl(b, EPOLL_CTL_ADD, a, EPOLLIN, 1)
    );
    let mut chain = vec![new()];
    let mut deep = 0;
    for _ in 0..10 {
        let n = new();
        if ctl(n, EPOLL_CTL_ADD, *chain.last().unwrap(), EPOLLIN, 1).failed() {
            break;
        }
        deep += 1;
        chain.push(n);
    }
    say!("depth limited {}", deep < 10);
}

fn closed_descriptor() {
    let ep = new();
    let p = pipe();
    ctl(ep, EPOLL_CTL_ADD, p[0], EPOLLIN, 1);
    write(p[1], b"x");
    close(p[0]);
    say!("removed with the last close {}", got(ep, 0));
    let p = pipe();
    let d = sys!(dup(p[0])).fd();
    ctl(ep, EPOLL_CTL_ADD, p[0], EPOLLIN, 2);
    write(p[1], b"x");
    close(p[0]);
    say!("a duplicate keeps it {}", got(ep, 0));
    say!(
        "cannot be named any more {}",
        ctl(ep, EPOLL_CTL_DEL, p[0], 0, 0)
    );
    close(d);
    say!("{}", got(ep, 0));
}

fn duplicates() {
    let ep = new();
    let p = pipe();
    let d = sys!(dup(p[0])).fd();
    say!(
        "{} {}",
        ctl(ep, EPOLL_CTL_ADD, p[0], EPOLLIN, 1),
        ctl(ep, EPOLL_CTL_ADD, d, EPOLLIN, 2)
    );
    write(p[1], b"x");
    say!("{}", got(ep, 0));
}

fn many_descriptors() {
    let ep = new();
    let fds: Vec<i32> = (0..100)
        .map(|_| sys!(eventfd(0, EFD_NONBLOCK)).fd())
        .collect();
    for (i, fd) in fds.iter().enumerate() {
        ctl(ep, EPOLL_CTL_ADD, *fd, EPOLLIN, i as u64).v();
    }
    for i in (0..100).step_by(9) {
        write(fds[i], &1u64.to_ne_bytes());
    }
    say!("{}", got(ep, 0));
    let mut ev: [epoll_event; 5] = zero();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let n = sys!(epoll_wait(ep, ev.as_mut_ptr(), 5, 0)).v();
        ev[..n as usize]
            .iter()
            .for_each(|e| drop(seen.insert({ e.u64 })));
    }
    say!("five at a time reach all {}", seen.len());
}

fn timeouts() {
    let ep = new();
    let (r, when) = took(40, || got(ep, 40));
    say!("{r} {when}");
    say!("{}", got(ep, 0));
    let e = sys!(eventfd(0, 0)).fd();
    ctl(ep, EPOLL_CTL_ADD, e, EPOLLIN, 1);
    let pid = fork(|| {
        ms(20);
        write(e, &1u64.to_ne_bytes());
        0
    });
    say!("endless {} {}", got(ep, -1), wait(pid));
}

fn from_thread() {
    let ep = new();
    let t = std::thread::spawn(move || got(ep, 3000));
    ms(10);
    let p = pipe();
    write(p[1], b"x");
    ctl(ep, EPOLL_CTL_ADD, p[0], EPOLLIN, 4);
    say!("added while waiting {}", t.join().unwrap());
    let q = pipe();
    ctl(ep, EPOLL_CTL_DEL, p[0], 0, 0);
    ctl(ep, EPOLL_CTL_ADD, q[0], 0, 5);
    write(q[1], b"x");
    let t = std::thread::spawn(move || got(ep, 3000));
    ms(10);
    ctl(ep, EPOLL_CTL_MOD, q[0], EPOLLIN, 6);
    say!("modified while waiting {}", t.join().unwrap());
}

fn exclusive() {
    let ep = new();
    let p = pipe();
    say!(
        "{}",
        ctl(ep, EPOLL_CTL_ADD, p[0], EPOLLIN | EPOLLEXCLUSIVE, 1)
    );
    say!(
        "MOD {}",
        ctl(ep, EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLEXCLUSIVE, 1)
    );
    say!("MOD plain {}", ctl(ep, EPOLL_CTL_MOD, p[0], EPOLLIN, 1));
    say!(
        "with oneshot {}",
        ctl(
            ep,
            EPOLL_CTL_ADD,
            p[1],
            EPOLLOUT | EPOLLEXCLUSIVE | EPOLLONESHOT,
            1
        )
    );
    write(p[1], b"x");
    say!("{}", got(ep, 0));
}

fn sockets_and_hup() {
    let ep = new();
    let s = pair(SOCK_STREAM);
    ctl(ep, EPOLL_CTL_ADD, s[0], EPOLLIN | EPOLLRDHUP, 1);
    say!("{}", got(ep, 0));
    sys!(shutdown(s[1], SHUT_WR)).v();
    say!("peer stopped writing {}", got(ep, 0));
    sys!(shutdown(s[0], SHUT_WR)).v();
    say!("both {}", got(ep, 0));
    close(s[1]);
    say!("closed {}", got(ep, 0));
}

fn regular_file() {
    let ep = new();
    put("f", b"x");
    say!(
        "file {} dir {}",
        ctl(ep, EPOLL_CTL_ADD, open("f", O_RDONLY).fd(), EPOLLIN, 1),
        ctl(ep, EPOLL_CTL_ADD, open(".", O_RDONLY).fd(), EPOLLIN, 1)
    );
    say!(
        "null {}",
        ctl(
            ep,
            EPOLL_CTL_ADD,
            open("/dev/null", O_RDWR).fd(),
            EPOLLIN,
            2
        )
    );
}

fn fair_order() {
    let ep = new();
    let fds: Vec<i32> = (0..4).map(|_| sys!(eventfd(1, 0)).fd()).collect();
    for (i, fd) in fds.iter().enumerate() {
        ctl(ep, EPOLL_CTL_ADD, *fd, EPOLLIN, i as u64);
    }
    let mut ev: [epoll_event; 1] = zero();
    let mut order = vec![];
    for _ in 0..8 {
        sys!(epoll_wait(ep, ev.as_mut_ptr(), 1, 0)).v();
        order.push({ ev[0].u64 });
    }
    say!("round and round {order:?}");
}

fn pwait2() {
    let ep = new();
    let mut ev: [epoll_event; 1] = zero();
    let t = ts(25);
    let (r, when) = took(25, || raw!(441, ep, ev.as_mut_ptr(), 1, &raw const t, 0, 8));
    say!("{r} {when}");
    let bad = timespec {
        tv_sec: 0,
        tv_nsec: -1,
    };
    say!(
        "{}",
        raw!(441, ep, ev.as_mut_ptr(), 1, &raw const bad, 0, 8)
    );
    say!(
        "mask size {}",
        sys!(syscall(
            SYS_epoll_pwait,
            ep,
            ev.as_mut_ptr(),
            1,
            0,
            &0u64,
            4
        ))
    );
}

fn across_fork() {
    let ep = new();
    let p = pipe();
    ctl(ep, EPOLL_CTL_ADD, p[0], EPOLLIN, 1);
    let pid = fork(|| {
        let s = got(ep, 3000);
        (s != "[1:IN]") as i32
    });
    ms(5);
    write(p[1], b"x");
    say!("{} {}", wait(pid), got(ep, 0));
}

fn busy_edges() {
    // No edge is lost between two threads.
    let ep = new();
    let p = pipe2(O_NONBLOCK);
    ctl(ep, EPOLL_CTL_ADD, p[0], EPOLLIN | EPOLLET, 1);
    let n = 3000;
    let t = std::thread::spawn(move || {
        let mut total = 0;
        while total < n {
            let mut ev: [epoll_event; 1] = zero();
            if sys!(epoll_wait(ep, ev.as_mut_ptr(), 1, 3000)).0 != 1 {
                return format!("lost after {total}");
            }
            let mut b = [0u8; 64];
            loop {
                let r = sys!(read(p[0], b.as_mut_ptr().cast(), 64));
                if r.failed() {
                    break;
                }
                total += r.0;
            }
        }
        format!("all {total}")
    });
    for _ in 0..n {
        while write(p[1], b"x").failed() {
            std::thread::yield_now();
        }
    }
    say!("{}", t.join().unwrap());
}
