//! Names, listening, connecting.

use super::*;

pub fn bind_connect() {
    let l = listener(SOCK_STREAM, "s");
    say!("{}", describe("s").starts_with("sock"));
    let c = sock(SOCK_STREAM);
    say!("{}", connect_to(c, "s"));
    let a = sys!(accept(l, null_mut(), null_mut())).fd();
    say!("{} {}", write(c, b"to server"), read(a, 20));
    say!("{} {}", write(a, b"to client"), read(c, 20));
    let d = sock(SOCK_STREAM);
    say!(
        "before accept {} {}",
        connect_to(d, "s"),
        write(d, b"early")
    );
    let b = sys!(accept(l, null_mut(), null_mut())).fd();
    say!("{}", read(b, 20));
    close(l);
    say!(
        "closed listener {} old ones live {} {}",
        connect_to(sock(SOCK_STREAM), "s"),
        write(c, b"x"),
        read(a, 5)
    );
    unlink("s");
    say!("unlinked {}", connect_to(sock(SOCK_STREAM), "s"));
}

pub fn bind_errors() {
    let s = sock(SOCK_STREAM);
    put("file", b"");
    mkdir("dir");
    say!(
        "exists {} dir {} missing {} below file {}",
        bind_to(s, "file"),
        bind_to(s, "dir"),
        bind_to(s, "no/s"),
        bind_to(s, "file/s")
    );
    say!("first {} twice {}", bind_to(s, "a"), bind_to(s, "b"));
    say!("taken {}", bind_to(sock(SOCK_STREAM), "a"));
    let (mut a, n) = addr("x");
    a.sun_family = AF_INET as u16;
    let t = sock(SOCK_STREAM);
    say!("family {}", sys!(bind(t, (&raw const a).cast(), n)));
    say!(
        "length 1 {} 0 {} long {}",
        sys!(bind(t, (&raw const a).cast(), 1)),
        sys!(bind(t, (&raw const a).cast(), 0)),
        sys!(bind(t, (&raw const a).cast(), 111))
    );
    say!(
        "pointer {} not a socket {} bad fd {}",
        sys!(bind(t, 8 as *const _, 10)),
        sys!(bind(pipe()[0], (&raw const a).cast(), n)),
        sys!(bind(-1, (&raw const a).cast(), n))
    );
    let full = "p".repeat(108);
    let (b, _) = addr(&full);
    say!(
        "108 bytes without end {}",
        sys!(bind(t, (&raw const b).cast(), 110))
    );
    say!("{}", describe(&full).starts_with("sock"));
    say!("name {}", own_name(t));
    say!(
        "bind connected pair {}",
        bind_to(pair(SOCK_STREAM)[0], "z").ok()
    );
    say!("{}", ls("."));
}

pub fn abstract_names() {
    let me = unsafe { getpid() };
    let n = format!("@guest-{me}");
    let l = sock(SOCK_STREAM);
    say!(
        "{} taken {}",
        bind_to(l, &n),
        bind_to(sock(SOCK_STREAM), &n)
    );
    say!(
        "other type is another name {}",
        bind_to(sock(SOCK_DGRAM), &n)
    );
    sys!(listen(l, 1)).v();
    let c = sock(SOCK_STREAM);
    say!("{}", connect_to(c, &n));
    say!("nothing in the directory {}", ls("."));
    say!(
        "prefix is another name {}",
        connect_to(sock(SOCK_STREAM), &n[..n.len() - 1])
    );
    close(l);
    say!("gone with the socket {}", bind_to(sock(SOCK_STREAM), &n));
    let mut a: sockaddr_un = zero();
    a.sun_family = AF_UNIX as u16;
    let s = sock(SOCK_STREAM);
    let bytes = format!("\0g{me}\0\0x");
    bytes
        .bytes()
        .enumerate()
        .for_each(|(i, b)| a.sun_path[i] = b as i8);
    say!(
        "zero bytes inside {}",
        sys!(bind(s, (&raw const a).cast(), 2 + bytes.len() as u32))
    );
    say!("{}", connect_to(sock(SOCK_STREAM), &format!("@g{me}")));
}

pub fn autobind() {
    let s = sock(SOCK_DGRAM);
    let (a, _) = addr("");
    say!("{}", sys!(bind(s, (&raw const a).cast(), 2)));
    let n = own_name(s);
    say!(
        "abstract of five digits {}",
        n.starts_with("\"\\x00") && n.ends_with("/8")
    );
    let t = sock(SOCK_DGRAM);
    sys!(bind(t, (&raw const a).cast(), 2)).v();
    say!("different {}", own_name(t) != n);
    let d = sock(SOCK_DGRAM);
    say!("passcred binds when sending {}", {
        set_opt(d, SO_PASSCRED, 1).v();
        let r = sock(SOCK_DGRAM);
        bind_to(r, "r").v();
        connect_to(d, "r").v();
        send_(d, b"x", 0).v();
        own_name(d).starts_with("\"\\x00")
    });
}

pub fn connect_errors() {
    put("file", b"");
    let s = sock(SOCK_STREAM);
    say!(
        "missing {} file {} dir {}",
        connect_to(s, "no"),
        connect_to(s, "file"),
        connect_to(s, ".")
    );
    let b = sock(SOCK_STREAM);
    bind_to(b, "b").v();
    say!("not listening {}", connect_to(s, "b"));
    let d = sock(SOCK_DGRAM);
    bind_to(d, "d").v();
    say!(
        "wrong type {} {}",
        connect_to(s, "d"),
        connect_to(sock(SOCK_DGRAM), "b")
    );
    listener(SOCK_STREAM, "l");
    say!("{} again {}", connect_to(s, "l"), connect_to(s, "l"));
    say!("a pair {}", connect_to(pair(SOCK_STREAM)[0], "l"));
    let l = listener(SOCK_STREAM, "l2");
    say!("a listener {}", connect_to(l, "l"));
    if is_root() {
        say!("no write permission EACCES");
    } else {
        chmod("l", 0o555);
        say!("no write permission {}", connect_to(sock(SOCK_STREAM), "l"));
    }
    let (a, n) = addr("l");
    say!(
        "not a socket {} pointer {}",
        sys!(connect(pipe()[0], (&raw const a).cast(), n)),
        sys!(connect(sock(SOCK_STREAM), 8 as *const _, n))
    );
    say!(
        "abstract nobody {}",
        connect_to(sock(SOCK_STREAM), "@nobody-has-this")
    );
}

pub fn accept_calls() {
    let l = listener(SOCK_STREAM, "l");
    sys!(fcntl(l, F_SETFL, O_NONBLOCK)).v();
    say!("nobody {}", sys!(accept(l, null_mut(), null_mut())));
    let c = sock(SOCK_STREAM);
    bind_to(c, "client").v();
    connect_to(c, "l").v();
    let mut a: sockaddr_un = zero();
    let mut n = 110u32;
    let r = sys!(accept4(
        l,
        (&raw mut a).cast(),
        &mut n,
        SOCK_CLOEXEC | SOCK_NONBLOCK
    ))
    .fd();
    say!(
        "{} cloexec {} nonblock {}",
        shown(&a, n),
        sys!(fcntl(r, F_GETFD)),
        sys!(fcntl(r, F_GETFL)).0 & O_NONBLOCK as i64 != 0
    );
    let d = sock(SOCK_STREAM);
    connect_to(d, "l").v();
    n = 110;
    let r = sys!(accept(l, (&raw mut a).cast(), &mut n)).fd();
    say!(
        "unnamed {} flags not inherited {}",
        shown(&a, n),
        sys!(fcntl(r, F_GETFL)).0 & O_NONBLOCK as i64
    );
    say!(
        "flags {} not listening {} dgram {}",
        sys!(accept4(l, null_mut(), null_mut(), 1)),
        sys!(accept(c, null_mut(), null_mut())),
        sys!(accept(sock(SOCK_DGRAM), null_mut(), null_mut()))
    );
    connect_to(sock(SOCK_STREAM), "l").v();
    n = 3;
    say!(
        "short buffer {} {n}",
        sys!(accept(l, (&raw mut a).cast(), &mut n)).ok()
    );
    say!(
        "listen on unbound {} dgram {} connected {}",
        sys!(listen(sock(SOCK_STREAM), 1)),
        sys!(listen(sock(SOCK_DGRAM), 1)),
        sys!(listen(d, 1))
    );
    sys!(fcntl(l, F_SETFL, 0)).v();
    let t = std::thread::spawn(move || sys!(accept(l, null_mut(), null_mut())).ok());
    ms(10);
    connect_to(sock(SOCK_STREAM), "l").v();
    say!("blocking {}", t.join().unwrap());
}

pub fn backlog_full() {
    let l = sock(SOCK_STREAM);
    bind_to(l, "l").v();
    sys!(listen(l, 2)).v();
    let mut made = 0;
    let r = loop {
        let c = sock(SOCK_STREAM | SOCK_NONBLOCK);
        let r = connect_to(c, "l");
        if r.failed() || made > 20 {
            break r;
        }
        made += 1;
    };
    say!("{made} then {r}");
    let t = std::thread::spawn(|| connect_to(sock(SOCK_STREAM), "l"));
    ms(10);
    say!(
        "room again {}",
        sys!(accept(l, null_mut(), null_mut())).ok()
    );
    say!("{}", t.join().unwrap());
}

pub fn names_of_ends() {
    let l = listener(SOCK_STREAM, "l");
    let c = sock(SOCK_STREAM);
    say!("fresh {} {}", own_name(c), peer_name(c));
    connect_to(c, "l").v();
    let a = sys!(accept(l, null_mut(), null_mut())).fd();
    say!("client {} {}", own_name(c), peer_name(c));
    say!("server {} {}", own_name(a), peer_name(a));
    let p = pair(SOCK_STREAM);
    say!("pair {} {}", own_name(p[0]), peer_name(p[0]));
    say!("absent peer {}", peer_name(l));
    say!("pipe {} {}", own_name(pipe()[0]), peer_name(pipe()[0]));
    close(a);
    say!("after the peer left {}", peer_name(c));
}

pub fn reconnect_dgram() {
    let (a, b) = (sock(SOCK_DGRAM), sock(SOCK_DGRAM));
    bind_to(a, "a").v();
    bind_to(b, "b").v();
    let c = sock(SOCK_DGRAM);
    say!(
        "{} {} {}",
        connect_to(c, "a"),
        send_(c, b"1", 0),
        connect_to(c, "b")
    );
    send_(c, b"2", 0);
    say!("{} {}", recv_(a, 9, 0), recv_(b, 9, 0));
    let mut u: sockaddr_un = zero();
    u.sun_family = AF_UNSPEC as u16;
    say!(
        "dissolve {} {}",
        sys!(connect(c, (&raw const u).cast(), 2)),
        send_(c, b"3", 0)
    );
    connect_to(a, "b").v();
    say!("a connected one hears only its peer {}", connect_to(c, "a"));
    close(b);
    say!("peer gone {} {}", send_(a, b"x", 0), send_(a, b"x", 0));
}

pub fn socket_files() {
    let s = sock(SOCK_STREAM);
    unsafe { umask(0o077) };
    bind_to(s, "s").v();
    say!("{}", describe("s"));
    say!(
        "open {} stat of fd {}",
        open("s", O_RDWR),
        kind(fstat(s).st_mode)
    );
    say!("rename {} {}", rename("s", "t"), {
        sys!(listen(s, 1)).v();
        connect_to(sock(SOCK_STREAM), "t")
    });
    say!(
        "link {} {}",
        link("t", "u"),
        connect_to(sock(SOCK_STREAM), "u")
    );
    symlink("t", "v");
    let st = run(|| connect_to(sock(SOCK_STREAM | SOCK_NONBLOCK), "v").err());
    say!(
        "symlink reaches it {}",
        st == St(0) || st == St(EAGAIN << 8)
    );
    say!("own name stays {}", own_name(s));
    say!("fchmod {} {}", sys!(fchmod(s, 0o600)), describe("t"));
}
