//! Descriptors and credentials in messages.

use super::*;

/// A control buffer with room for everything here.
#[repr(C, align(8))]
struct Control([u8; 1024]);

/// Sends one byte (or `data`) with this control message.
fn send_ctl(fd: i32, data: &[u8], ty: i32, payload: &[u8]) -> R {
    let mut c = Control([0; 1024]);
    let v = iovec {
        iov_base: data.as_ptr() as *mut _,
        iov_len: data.len(),
    };
    let mut m: msghdr = zero();
    m.msg_iov = &raw const v as *mut _;
    m.msg_iovlen = 1;
    m.msg_control = c.0.as_mut_ptr().cast();
    unsafe {
        m.msg_controllen = CMSG_SPACE(payload.len() as u32) as usize;
        let h = CMSG_FIRSTHDR(&m);
        (*h).cmsg_level = SOL_SOCKET;
        (*h).cmsg_type = ty;
        (*h).cmsg_len = CMSG_LEN(payload.len() as u32) as usize;
        std::ptr::copy_nonoverlapping(payload.as_ptr(), CMSG_DATA(h), payload.len());
    }
    sys!(sendmsg(fd, &m, MSG_NOSIGNAL))
}

fn send_fds(fd: i32, fds: &[i32]) -> R {
    let b: Vec<u8> = fds.iter().flat_map(|f| f.to_ne_bytes()).collect();
    send_ctl(fd, b"F", SCM_RIGHTS, &b)
}

struct Got {
    n: R,
    data: Vec<u8>,
    fds: Vec<i32>,
    cred: Option<ucred>,
    flags: i32,
}

fn recv_ctl(fd: i32, room: usize, flags: i32) -> Got {
    let mut c = Control([0; 1024]);
    let mut data = vec![0u8; 100];
    let mut v = iovec {
        iov_base: data.as_mut_ptr().cast(),
        iov_len: 100,
    };
    let mut m: msghdr = zero();
    m.msg_iov = &mut v;
    m.msg_iovlen = 1;
    m.msg_control = if room == 0 {
        null_mut()
    } else {
        c.0.as_mut_ptr().cast()
    };
    m.msg_controllen = room;
    let n = sys!(recvmsg(fd, &mut m, flags));
    let mut g = Got {
        n,
        data: vec![],
        fds: vec![],
        cred: None,
        flags: m.msg_flags,
    };
    if n.failed() {
        return g;
    }
    data.truncate(n.0 as usize);
    g.data = data;
    unsafe {
        let mut h = CMSG_FIRSTHDR(&m);
        while !h.is_null() {
            let len = (*h).cmsg_len - CMSG_LEN(0) as usize;
            if (*h).cmsg_type == SCM_RIGHTS {
                for i in 0..len / 4 {
                    g.fds
                        .push((CMSG_DATA(h) as *const i32).add(i).read_unaligned());
                }
            } else if (*h).cmsg_type == SCM_CREDENTIALS {
                g.cred = Some((CMSG_DATA(h) as *const ucred).read_unaligned());
            }
            h = CMSG_NXTHDR(&m, h);
        }
    }
    g
}

pub fn scm_rights() {
    put("f", b"passed content");
    let p = pair(SOCK_STREAM);
    let fd = open("f", O_RDONLY).fd();
    say!("{}", send_fds(p[0], &[fd]));
    close(fd);
    unlink("f");
    let g = recv_ctl(p[1], 64, 0);
    say!(
        "{} {} fds {} {}",
        g.n,
        show(&g.data),
        g.fds.len(),
        read(g.fds[0], 6)
    );
    // To another process; the open file is shared.
    let (q, pos) = (pipe(), Gate::new());
    let pid = fork(|| {
        let g = recv_ctl(p[1], 64, 0);
        write(g.fds[0], b"from child");
        pos.open();
        0
    });
    send_fds(p[0], &[q[1]]);
    say!("{} {}", read(q[0], 20), wait(pid));
    // The message that carries descriptors ends a read on a stream.
    write(p[0], b"plain ");
    send_fds(p[0], &[q[1]]);
    write(p[0], b" after");
    let a = recv_ctl(p[1], 64, MSG_DONTWAIT);
    let b = recv_ctl(p[1], 64, MSG_DONTWAIT);
    let c = recv_ctl(p[1], 64, MSG_DONTWAIT);
    say!(
        "{}/{} {}/{} {}/{}",
        show(&a.data),
        a.fds.len(),
        show(&b.data),
        b.fds.len(),
        show(&c.data),
        c.fds.len()
    );
    while !recv_ctl(p[1], 64, MSG_DONTWAIT).n.failed() {}
    send_fds(p[0], &[q[1]]);
    say!("a plain read drops them {}", read(p[1], 10));
}

pub fn scm_rights_many() {
    let p = pair(SOCK_DGRAM);
    let fds: Vec<i32> = (0..100).map(|_| sys!(dup(0)).fd()).collect();
    let mut big = vec![];
    big.extend_from_slice(&fds);
    say!("100 {}", send_fds(p[0], &big));
    let g = recv_ctl(p[1], 1024, 0);
    say!("{} flags {:#x}", g.fds.len(), g.flags);
    let e: Vec<[i32; 2]> = (0..5).map(|_| pipe()).collect();
    send_fds(p[0], &e.iter().map(|p| p[1]).collect::<Vec<_>>());
    let g = recv_ctl(p[1], 1024, 0);
    for (i, fd) in g.fds.iter().enumerate() {
        write(*fd, format!("{i}").as_bytes());
    }
    say!(
        "{}",
        e.iter()
            .map(|p| read(p[0], 5))
            .collect::<Vec<_>>()
            .join(" ")
    );
}

pub fn scm_rights_errors() {
    let p = pair(SOCK_STREAM);
    say!(
        "bad fd {} negative {}",
        send_fds(p[0], &[999]),
        send_fds(p[0], &[-1])
    );
    say!("no fds {}", send_ctl(p[0], b"x", SCM_RIGHTS, &[]));
    say!(
        "254 {}",
        send_ctl(p[0], b"x", SCM_RIGHTS, &[0; 1000][..4 * 240].to_vec())
    );
    say!("unknown type {}", send_ctl(p[0], b"x", 99, &[0; 4]));
    let c = Control([0; 1024]);
    let v = iovec {
        iov_base: b"x".as_ptr() as *mut _,
        iov_len: 1,
    };
    let mut m: msghdr = zero();
    m.msg_iov = &raw const v as *mut _;
    m.msg_iovlen = 1;
    m.msg_control = c.0.as_ptr() as *mut _;
    m.msg_controllen = 24;
    say!("length 0 in the header {}", sys!(sendmsg(p[0], &m, 0)));
    m.msg_control = 8 as *mut _;
    say!("pointer {}", sys!(sendmsg(p[0], &m, 0)));
    m.msg_controllen = usize::MAX / 2;
    say!("huge {}", sys!(sendmsg(p[0], &m, 0)));
    say!(
        "an O_PATH descriptor {}",
        send_fds(p[0], &[open(".", O_PATH).fd()])
    );
}

pub fn scm_rights_trunc() {
    let p = pair(SOCK_STREAM);
    let q = pipe();
    let fds = [q[1], q[1], q[1]];
    send_fds(p[0], &fds);
    let before = sys!(dup(0)).fd();
    close(before);
    let g = recv_ctl(p[1], 24, 0);
    say!(
        "room for two: {} ctrunc {}",
        g.fds.len(),
        g.flags & MSG_CTRUNC != 0
    );
    g.fds.iter().for_each(|f| drop(close(*f)));
    send_fds(p[0], &fds);
    let g = recv_ctl(p[1], 0, 0);
    say!(
        "no room: {} ctrunc {}",
        g.fds.len(),
        g.flags & MSG_CTRUNC != 0
    );
    let after = sys!(dup(0)).fd();
    say!("nothing leaked {}", before == after);
    // At the descriptor limit the rest is dropped.
    let lim = rlimit {
        rlim_cur: after as u64 + 2,
        rlim_max: after as u64 + 2,
    };
    send_fds(p[0], &fds);
    sys!(setrlimit(RLIMIT_NOFILE, &lim)).v();
    let g = recv_ctl(p[1], 64, 0);
    say!(
        "limit: {} ctrunc {}",
        g.fds.len(),
        g.flags & MSG_CTRUNC != 0
    );
}

fn cred_bytes(pid: i32, uid: u32, gid: u32) -> Vec<u8> {
    [pid as u32, uid, gid]
        .iter()
        .flat_map(|v| v.to_ne_bytes())
        .collect()
}

pub fn scm_credentials() {
    let p = pair(SOCK_STREAM);
    let (pid, uid, gid) = unsafe { (getpid(), getuid(), getgid()) };
    set_opt(p[1], SO_PASSCRED, 1).v();
    say!(
        "own {}",
        send_ctl(p[0], b"c", SCM_CREDENTIALS, &cred_bytes(pid, uid, gid))
    );
    let g = recv_ctl(p[1], 64, 0);
    let c = g.cred.unwrap();
    say!(
        "pid {} uid {} gid {}",
        c.pid == pid,
        c.uid == uid,
        c.gid == gid
    );
    say!(
        "no such process {}",
        send_ctl(p[0], b"c", SCM_CREDENTIALS, &cred_bytes(99999, uid, gid))
    );
    if is_root() {
        say!("another user EPERM EPERM");
        if send_ctl(p[0], b"c", SCM_CREDENTIALS, &cred_bytes(pid, 1234, 5678)).failed() {
            say!("root may");
        }
    } else {
        say!(
            "another user {} {}",
            send_ctl(p[0], b"c", SCM_CREDENTIALS, &cred_bytes(pid, 0, gid)),
            send_ctl(p[0], b"c", SCM_CREDENTIALS, &cred_bytes(pid, uid, 0))
        );
    }
    say!("short {}", send_ctl(p[0], b"c", SCM_CREDENTIALS, &[0; 8]));
}

pub fn scm_so_passcred() {
    let p = pair(SOCK_DGRAM);
    send_(p[0], b"before", 0);
    set_opt(p[1], SO_PASSCRED, 1).v();
    say!("get {}", opt(p[1], SO_PASSCRED));
    let g = recv_ctl(p[1], 64, 0);
    say!(
        "sent before it was on: {} {}",
        show(&g.data),
        g.cred.is_some()
    );
    send_(p[0], b"after", 0);
    let g = recv_ctl(p[1], 64, 0);
    say!(
        "implicit {} {}",
        show(&g.data),
        g.cred.is_some_and(|c| c.pid == unsafe { getpid() })
    );
    let pid = fork(|| {
        send_(p[0], b"child", 0);
        0
    });
    let g = recv_ctl(p[1], 64, 0);
    say!(
        "the sender's {} {}",
        g.cred.is_some_and(|c| c.pid == pid),
        wait(pid)
    );
}

pub fn peercred() {
    let get = |fd| {
        let mut c: ucred = zero();
        let mut n = 12u32;
        let r = sys!(getsockopt(
            fd,
            SOL_SOCKET,
            SO_PEERCRED,
            (&raw mut c).cast(),
            &mut n
        ));
        r.v();
        c
    };
    let me = unsafe { getpid() };
    let p = pair(SOCK_STREAM);
    say!("pair {}", get(p[0]).pid == me);
    let l = listener(SOCK_STREAM, "l");
    let pid = fork(|| {
        let c = sock(SOCK_STREAM);
        connect_to(c, "l").v();
        let parent = unsafe { getppid() };
        let ok = get(c).pid == parent;
        read(c, 1);
        !ok as i32
    });
    let a = sys!(accept(l, null_mut(), null_mut())).fd();
    say!(
        "accepted {} uid {}",
        get(a).pid == pid,
        get(a).uid == unsafe { getuid() }
    );
    write(a, b"x");
    say!("the listener's for the client {}", wait(pid));
    let c = get(sock(SOCK_STREAM));
    say!("none {} {} {}", c.pid, c.uid as i32, c.gid as i32);
}

pub fn rights_cycle() {
    // Sockets in flight that hold each other must not leak for ever; the descriptors at least are free.
    for _ in 0..50 {
        let p = pair(SOCK_STREAM);
        send_fds(p[0], &[p[0], p[1]]);
        send_fds(p[1], &[p[0], p[1]]);
        close(p[0]);
        close(p[1]);
    }
    let p = pair(SOCK_STREAM);
    say!("{}", p[1] < 20);
    let a = pair(SOCK_STREAM);
    let b = pair(SOCK_STREAM);
    send_fds(a[0], &[b[1]]);
    send_fds(b[0], &[a[1]]);
    close(a[1]);
    close(b[1]);
    close(a[0]);
    say!("peer of the lost end {}", read(b[0], 1).len() < 12);
}

pub fn rights_of_sockets() {
    let (p, q) = (pair(SOCK_STREAM), pair(SOCK_STREAM));
    send_fds(p[0], &[q[1]]);
    close(q[1]);
    write(q[0], b"waits in the socket in flight");
    let g = recv_ctl(p[1], 64, 0);
    say!("{}", read(g.fds[0], 50));
    close(q[0]);
    say!("{}", read(g.fds[0], 5));
    let r = pair(SOCK_STREAM);
    send_fds(p[0], &[r[1]]);
    close(r[1]);
    let t = pollfd {
        fd: r[0],
        events: POLLIN,
        revents: 0,
    };
    let mut t = t;
    say!("not closed while in flight {}", sys!(poll(&mut t, 1, 0)));
    close(p[0]);
    close(p[1]);
    say!(
        "closed with the queue {} {}",
        sys!(poll(&mut t, 1, 1000)),
        read(r[0], 1)
    );
}

pub fn cloexec_rights() {
    let p = pair(SOCK_STREAM);
    let fd = sys!(dup(0)).fd();
    send_fds(p[0], &[fd]);
    say!(
        "plain {}",
        sys!(fcntl(recv_ctl(p[1], 64, 0).fds[0], F_GETFD))
    );
    send_fds(p[0], &[fd]);
    say!(
        "MSG_CMSG_CLOEXEC {}",
        sys!(fcntl(recv_ctl(p[1], 64, MSG_CMSG_CLOEXEC).fds[0], F_GETFD))
    );
    send_fds(p[0], &[fd]);
    let a = recv_ctl(p[1], 64, MSG_PEEK);
    let b = recv_ctl(p[1], 64, MSG_DONTWAIT);
    say!("peek gives them too {} {}", a.fds.len(), b.fds.len());
}
