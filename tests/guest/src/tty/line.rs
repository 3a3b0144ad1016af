//! The line discipline.

use super::*;

/// Output speed; the C library's own function has a versioned name that does not link statically.
fn speed(t: &termios) -> speed_t {
    t.c_cflag & CBAUD
}

pub fn open_pair() {
    let (m, s) = pty();
    say!("{} {}", kind(fstat(m).st_mode), kind(fstat(s).st_mode));
    say!("isatty {} {}", unsafe { isatty(m) }, unsafe { isatty(s) });
    say!("owner {}", fstat(s).st_uid == unsafe { getuid() });
    let (m2, _) = pty();
    let n = |m| {
        let mut n = 0i32;
        sys!(ioctl(m, TIOCGPTN as _, &mut n)).v();
        n
    };
    say!("different {}", n(m) != n(m2));
    let m3 = open("/dev/ptmx", O_RDWR | O_NOCTTY).fd();
    say!(
        "locked {}",
        open(&format!("/dev/pts/{}", n(m3)), O_RDWR | O_NOCTTY)
    );
    say!(
        "grantpt {} unlockpt {}",
        sys!(grantpt(m3)),
        sys!(unlockpt(m3))
    );
    say!(
        "open {}",
        open(&format!("/dev/pts/{}", n(m3)), O_RDWR | O_NOCTTY).ok()
    );
    let k = n(m3);
    close(m3);
    say!(
        "gone {}",
        open(&format!("/dev/pts/{k}"), O_RDWR | O_NOCTTY).failed()
    );
    say!(
        "peer {}",
        sys!(ioctl(m, TIOCGPTPEER as _, O_RDWR | O_NOCTTY)).ok()
    );
    say!(
        "listed {}",
        describe(&format!("/dev/pts/{}", n(m))).starts_with("char")
    );
    let (mut a, mut b) = (0, 0);
    say!(
        "openpty {}",
        sys!(openpty(&mut a, &mut b, null_mut(), null(), null()))
    );
    close(s);
}

pub fn defaults() {
    let (_m, s) = pty();
    let t = attr(s);
    say!(
        "iflag {:#o} oflag {:#o} cflag {:#o} lflag {:#o}",
        t.c_iflag,
        t.c_oflag,
        t.c_cflag,
        t.c_lflag
    );
    say!("cc {:?}", &t.c_cc[..17]);
    let mut w: winsize = zero();
    say!(
        "{} {}x{}",
        sys!(ioctl(s, TIOCGWINSZ as _, &mut w)),
        w.ws_row,
        w.ws_col
    );
    say!("speed {} {}", speed(&t) == B38400, t.c_cflag & CIBAUD);
    let mut d = 0i32;
    say!("ldisc {} {d}", sys!(ioctl(s, TIOCGETD as _, &mut d)));
}

pub fn canonical() {
    let (m, s) = pty();
    change(s, |t| t.c_lflag &= !ECHO);
    write(m, b"par");
    say!("no line yet {}", now(s));
    write(m, b"tial\n");
    say!("{}", now(s));
    write(m, b"one\ntwo\nthree");
    say!("{} {} {}", now(s), now(s), now(s));
    write(m, b"\n");
    say!("in pieces {} {}", read(s, 2), read(s, 100));
    change(s, |t| t.c_cc[VEOL] = b';');
    write(m, b"a;b\n");
    say!("eol {} {}", now(s), now(s));
}

pub fn editing() {
    let (m, s) = pty();
    change(s, |t| t.c_lflag &= !ECHO);
    let line = |b: &[u8]| {
        write(m, b);
        now(s)
    };
    say!("erase {}", line(b"abcx\x7f\n"));
    say!("erase more than there is {}", line(b"a\x7f\x7f\x7fb\n"));
    say!("kill {}", line(b"all gone\x15kept\n"));
    say!("word erase {}", line(b"one two  \x17three\n"));
    say!("word erase twice {}", line(b"one two three\x17\x17x\n"));
    say!("literal {}", line(b"a\x16\x7fb\n"));
    say!("literal interrupt {}", line(b"a\x16\x03b\n"));
    write(m, b"kept\n");
    settle();
    say!(
        "erase does not reach the line before {}",
        line(b"\x7f\x7fnext\n")
    );
    say!("{}", now(s));
    change(s, |t| t.c_iflag |= IUTF8);
    say!("utf-8 erase {}", line("aü\x7fb\n".as_bytes()));
    change(s, |t| t.c_cc[VERASE] = b'#');
    say!("changed key {}", line(b"ab#c\x7f\n"));
}

pub fn echo() {
    let (m, s) = pty();
    let typed = |b: &[u8]| {
        write(m, b);
        now(m)
    };
    say!("plain {}", typed(b"ab"));
    say!("newline {}", typed(b"\n"));
    say!("control {}", typed(b"\x01\x1b"));
    say!("erase {}", typed(b"xy\x7f"));
    say!("erase of a control {}", typed(b"\x01\x7f"));
    say!("kill {}", typed(b"\x15"));
    say!("tab {}", typed(b"\t"));
    say!("reprint {}", typed(b"zz\x12"));
    now(s);
    change(s, |t| t.c_lflag &= !ECHOCTL);
    say!("no ECHOCTL {}", typed(b"\x02"));
    change(s, |t| t.c_lflag &= !ECHO);
    say!("off {}", typed(b"secret\n"));
    change(s, |t| t.c_lflag |= ECHONL);
    say!("ECHONL {}", typed(b"secret\n"));
    change(s, |t| t.c_lflag = (t.c_lflag | ECHO) & !ECHOE);
    say!("no ECHOE {}", typed(b"ab\x7f"));
}

fn raw(t: &mut termios) {
    unsafe { cfmakeraw(t) }
}

pub fn raw_mode() {
    let (m, s) = pty();
    change(s, raw);
    write(m, b"a");
    say!("{}", now(s));
    write(m, b"\r\n\x03\x7f\x04\x1a\x00\xff");
    say!("{}", now(s));
    say!("no echo {}", now(m));
    write(s, b"a\nb");
    say!("no output processing {}", now(m));
    change(s, |t| t.c_lflag |= ICANON);
    write(m, b"line\n");
    say!("canonical again {}", now(s));
    change(s, |t| t.c_lflag &= !ICANON);
    write(m, b"left over");
    settle();
    change(s, |t| t.c_lflag |= ICANON);
    say!("switching keeps input {}", now(s));
}

pub fn output_processing() {
    let (m, s) = pty();
    let out = |b: &[u8]| {
        let r = write(s, b);
        format!("{r} {}", now(m))
    };
    say!("{}", out(b"a\nb\n"));
    change(s, |t| t.c_oflag |= OCRNL);
    say!("OCRNL {}", out(b"a\rb"));
    change(s, |t| t.c_oflag = OPOST | ONOCR);
    say!("ONOCR {}", out(b"\r"));
    change(s, |t| t.c_oflag = OPOST | OLCUC);
    say!("OLCUC {}", out(b"abC"));
    change(s, |t| t.c_oflag = OPOST | XTABS);
    say!("tabs {}", out(b"\r\tx"));
    change(s, |t| t.c_oflag = 0);
    say!("off {}", out(b"a\n\r\t"));
    change(s, |t| t.c_oflag = OPOST | ONLRET | ONLCR);
    say!("{}", out(b"x\ny"));
}

pub fn input_flags() {
    let (m, s) = pty();
    change(s, |t| t.c_lflag &= !(ECHO | ICANON));
    let inp = |b: &[u8]| {
        write(m, b);
        now(s)
    };
    say!("ICRNL {}", inp(b"a\rb"));
    change(s, |t| t.c_iflag = IGNCR);
    say!("IGNCR {}", inp(b"a\rb"));
    change(s, |t| t.c_iflag = INLCR);
    say!("INLCR {}", inp(b"a\nb"));
    change(s, |t| t.c_iflag = ISTRIP);
    say!("ISTRIP {}", inp(b"\xe1\xff"));
    change(s, |t| t.c_iflag = IUCLC);
    change(s, |t| t.c_lflag |= IEXTEN);
    say!("IUCLC {}", inp(b"ABc"));
    change(s, |t| t.c_iflag = 0);
    say!("none {}", inp(b"\r\n\xff"));
    change(s, |t| t.c_iflag = IXON);
    say!("stop {}", inp(b"\x13x"));
    say!("held output {}", {
        let pid = fork(|| {
            write(s, b"out");
            0
        });
        ms(15);
        let before = now(m);
        write(m, b"\x11");
        let st = wait(pid);
        ms(2);
        format!("{before} {st} {}", now(m))
    });
}

static GOT: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(n: i32, _: *mut siginfo_t, _: *mut c_void) {
    GOT.store(n, SeqCst);
}

/// Runs `f` as the leader of a new session with `s` as its terminal.
pub fn in_session(s: i32, f: impl FnOnce() -> i32) -> i32 {
    fork(|| {
        sys!(setsid()).v();
        sys!(ioctl(s, TIOCSCTTY as _, 0)).v();
        f()
    })
}

pub fn signals_from_keys() {
    let (m, s) = pty();
    for (key, n) in [(3u8, SIGINT), (0x1c, SIGQUIT), (0x1a, SIGTSTP)] {
        let g = Gate::new();
        let pid = in_session(s, || {
            handle(n, note, 0);
            g.open();
            while GOT.load(SeqCst) == 0 {
                ms(1);
            }
            (GOT.load(SeqCst) != n) as i32
        });
        g.pass();
        write(m, b"typed");
        now(m);
        write(m, &[key]);
        say!(
            "{} {} echo {} input flushed {}",
            sig(n),
            wait(pid),
            now(m),
            now(s)
        );
    }
    let g = Gate::new();
    let pid = in_session(s, || {
        g.open();
        loop {
            ms(100)
        }
    });
    g.pass();
    change(s, |t| t.c_lflag |= NOFLSH);
    write(m, b"ab\n");
    settle();
    write(m, b"\x03");
    say!("default {} noflsh {}", wait(pid), now(s));
    change(s, |t| t.c_lflag &= !ISIG);
    write(m, b"\x03\n");
    say!("ISIG off {}", now(s));
}

pub fn eof_key() {
    let (m, s) = pty();
    change(s, |t| t.c_lflag &= !ECHO);
    write(m, b"\x04");
    say!("empty line {}", now(s));
    write(m, b"abc\x04");
    say!("pushes the line {}", now(s));
    write(m, b"abc\x04\x04");
    say!("{} {}", now(s), now(s));
    write(m, b"x\n\x04");
    say!("{} {}", now(s), now(s));
    write(m, b"a\x04b\n");
    say!("{} {}", now(s), now(s));
}

pub fn vmin_vtime() {
    let (m, s) = pty();
    let mode = |min: u8, time: u8| {
        change(s, |t| {
            raw(t);
            t.c_cc[VMIN] = min;
            t.c_cc[VTIME] = time;
        })
    };
    mode(0, 0);
    say!("0/0 empty {}", read(s, 10));
    write(m, b"abc");
    settle();
    say!("0/0 {}", read(s, 10));
    mode(0, 1);
    let (r, when) = took(90, || read(s, 10));
    say!("0/1 {r} {when}");
    mode(3, 0);
    let pid = fork(|| {
        for c in b"xyz" {
            ms(10);
            write(m, &[*c]);
        }
        0
    });
    say!("3/0 {} {}", read(s, 10), wait(pid));
    mode(5, 1);
    write(m, b"ab");
    let (r, when) = took(90, || read(s, 10));
    say!("5/1 gap {r} {when}");
    mode(2, 0);
    write(m, b"q");
    settle();
    say!("poll below VMIN {}", now(s));
    write(m, b"r");
    say!("{}", now(s));
}

pub fn window_size() {
    let (m, s) = pty();
    let w = winsize {
        ws_row: 33,
        ws_col: 101,
        ws_xpixel: 5,
        ws_ypixel: 6,
    };
    let g = Gate::new();
    let pid = in_session(s, || {
        handle(SIGWINCH, note, 0);
        g.open();
        while GOT.load(SeqCst) == 0 {
            ms(1);
        }
        let mut w: winsize = zero();
        sys!(ioctl(0, TIOCGWINSZ as _, &mut w));
        sys!(ioctl(s, TIOCGWINSZ as _, &mut w)).v();
        (w.ws_col != 101) as i32
    });
    g.pass();
    say!("{}", sys!(ioctl(m, TIOCSWINSZ as _, &w)));
    say!("signal {}", wait(pid));
    let mut r: winsize = zero();
    sys!(ioctl(s, TIOCGWINSZ as _, &mut r)).v();
    say!("{} {} {} {}", r.ws_row, r.ws_col, r.ws_xpixel, r.ws_ypixel);
    say!(
        "by the slave {}",
        sys!(ioctl(s, TIOCSWINSZ as _, &winsize { ws_row: 9, ..w }))
    );
    sys!(ioctl(m, TIOCGWINSZ as _, &mut r)).v();
    say!("{}", r.ws_row);
    say!("pipe {}", sys!(ioctl(pipe()[0], TIOCGWINSZ as _, &mut r)));
}

pub fn hangup_master() {
    let (m, s) = pty();
    write(m, b"last\n");
    settle();
    let g = Gate::new();
    let pid = fork(|| {
        close(m);
        sys!(setsid()).v();
        sys!(ioctl(s, TIOCSCTTY as _, 0)).v();
        handle(SIGHUP, note, 0);
        handle(SIGCONT, nop, 0);
        g.open();
        while GOT.load(SeqCst) == 0 {
            ms(1);
        }
        say!("read {} {}", read(s, 10), read(s, 10));
        say!("write {}", write(s, b"x"));
        let mut t: termios = zero();
        say!("tcgetattr {}", sys!(tcgetattr(s, &mut t)));
        (GOT.load(SeqCst) != SIGHUP) as i32
    });
    g.pass();
    close(s);
    close(m);
    say!("{}", wait(pid));
}

pub fn hangup_slave() {
    let (m, s) = pty();
    write(s, b"bye");
    settle();
    close(s);
    say!("{} then {}", read(m, 10), read(m, 10));
    let mut p = pollfd {
        fd: m,
        events: POLLIN | POLLOUT,
        revents: 0,
    };
    sys!(poll(&mut p, 1, 0)).v();
    say!("poll hup {}", p.revents & POLLHUP != 0);
    let mut n = 0i32;
    sys!(ioctl(m, TIOCGPTN as _, &mut n)).v();
    let s = open(&format!("/dev/pts/{n}"), O_RDWR | O_NOCTTY).fd();
    write(s, b"again");
    say!("reopened {}", read(m, 10));
}

pub fn poll_states() {
    let (m, s) = pty();
    let p = |fd| {
        let mut p = pollfd {
            fd,
            events: POLLIN | POLLOUT,
            revents: 0,
        };
        sys!(poll(&mut p, 1, 0)).v();
        format!(
            "in {} out {}",
            p.revents & POLLIN != 0,
            p.revents & POLLOUT != 0
        )
    };
    say!("{} / {}", p(m), p(s));
    write(m, b"x");
    settle();
    say!("half a line {} / {}", p(m), p(s));
    write(m, b"\n");
    settle();
    say!("a line {}", p(s));
    read(s, 10);
    now(m);
    write(s, b"o");
    settle();
    say!("output {}", p(m));
    let t = std::thread::spawn(move || {
        let mut p = pollfd {
            fd: s,
            events: POLLIN,
            revents: 0,
        };
        sys!(poll(&mut p, 1, 4000))
    });
    ms(10);
    write(m, b"wake\n");
    say!("{}", t.join().unwrap());
}

pub fn nonblocking() {
    let (m, s) = pty();
    sys!(fcntl(s, F_SETFL, O_NONBLOCK)).v();
    sys!(fcntl(m, F_SETFL, O_NONBLOCK)).v();
    say!("{} {}", read(s, 10), read(m, 10));
    write(m, b"no newline");
    settle();
    say!("{}", read(s, 10));
    now(m);
    let mut n = 0;
    loop {
        let r = write(s, &[b'o'; 1000]);
        if r.failed() {
            say!("full {r}");
            break;
        }
        n += r.0;
    }
    say!("some kilobytes {}", n >= 1000);
    while now(m) != "nothing" {}
    say!("room {}", write(s, b"x"));
}

pub fn packet_mode() {
    let (m, s) = pty();
    say!("{}", sys!(ioctl(m, TIOCPKT as _, &1i32)));
    write(s, b"data");
    say!("{}", read(m, 100));
    sys!(tcflush(s, TCIFLUSH)).v();
    say!("flush {}", now(m));
    sys!(ioctl(m, TIOCPKT as _, &0i32)).v();
    write(s, b"plain");
    say!("{}", now(m));
}

pub fn ioctls() {
    let (m, s) = pty();
    let mut v = 0i32;
    write(m, b"abc");
    settle();
    say!(
        "FIONREAD half a line {} {v}",
        sys!(ioctl(s, FIONREAD as _, &mut v))
    );
    write(m, b"\n");
    settle();
    sys!(ioctl(s, FIONREAD as _, &mut v)).v();
    say!("FIONREAD {v}");
    say!("TIOCOUTQ {} {v}", sys!(ioctl(s, TIOCOUTQ as _, &mut v)));
    say!(
        "TIOCSTI {}",
        sys!(ioctl(s, TIOCSTI as _, b"z".as_ptr())).failed() || true
    );
    say!(
        "TIOCGPTN on a slave {}",
        sys!(ioctl(s, TIOCGPTN as _, &mut v))
    );
    say!("TIOCGPTLCK {} {v}", sys!(ioctl(m, TIOCGPTLCK as _, &mut v)));
    say!("unknown {}", sys!(ioctl(s, 0x5499, 0)));
    say!(
        "TIOCGSID without a session {} pgrp {}",
        sys!(ioctl(s, TIOCGSID as _, &mut v)),
        sys!(ioctl(s, TIOCGPGRP as _, &mut v))
    );
    say!("bad pointer {}", sys!(ioctl(s, TCGETS as _, 8)));
    say!("TIOCNOTTY without one {}", sys!(ioctl(s, TIOCNOTTY as _)));
    say!(
        "sendbreak {} drain {} flow {}",
        sys!(tcsendbreak(s, 0)),
        sys!(tcdrain(s)),
        sys!(tcflow(s, TCOON))
    );
    say!(
        "bad flush {} bad flow {}",
        sys!(tcflush(s, 9)),
        sys!(tcflow(s, 9))
    );
}

pub fn isatty_names() {
    let (m, s) = pty();
    put("f", b"");
    for (n, fd) in [
        ("slave", s),
        ("master", m),
        ("file", open("f", O_RDWR).fd()),
        ("null", open("/dev/null", O_RDWR).fd()),
        ("pipe", pipe()[0]),
        ("closed", 777),
    ] {
        let r = unsafe { isatty(fd) };
        say!("{n} {r} {}", if r == 0 { errno_name(errno()) } else { "" });
    }
    let mut b = [0u8; 64];
    let e = unsafe { ttyname_r(s, b.as_mut_ptr().cast(), 64) };
    say!(
        "{} {}",
        errno_name(e),
        String::from_utf8_lossy(&b).starts_with("/dev/pts/")
    );
    say!(
        "link {}",
        std::fs::read_link(format!("/proc/self/fd/{s}"))
            .unwrap()
            .starts_with("/dev/pts")
    );
    say!("ptsname_r {}", unsafe {
        ptsname_r(m, b.as_mut_ptr().cast(), 64)
    });
}

pub fn flush_and_queue() {
    let (m, s) = pty();
    change(s, |t| t.c_lflag &= !ECHO);
    write(m, b"thrown away\n");
    settle();
    say!("{} {}", sys!(tcflush(s, TCIFLUSH)), now(s));
    write(m, b"kept\n");
    settle();
    sys!(tcflush(s, TCOFLUSH)).v();
    say!("{}", now(s));
    write(m, b"kept by TCSADRAIN\n");
    settle();
    sys!(tcsetattr(s, TCSADRAIN, &attr(s))).v();
    say!("{}", now(s));
}

pub fn long_lines() {
    let (m, s) = pty();
    change(s, |t| t.c_lflag &= !ECHO);
    sys!(fcntl(m, F_SETFL, O_NONBLOCK));
    let mut n = 0;
    while n < 6000 {
        let r = write(m, &[b'l'; 100]);
        if r.failed() {
            break;
        }
        n += r.0;
    }
    write(m, b"\n");
    let got = now(s);
    say!("a line has at most 4096 bytes {got}");
}

pub fn big_output() {
    let (m, s) = pty();
    change(s, |t| t.c_oflag = 0);
    let n = 200_000;
    let pid = fork(|| {
        close(m);
        let data: Vec<u8> = (0..n).map(|i| (i % 251) as u8).collect();
        let mut at = 0;
        while at < n {
            at += write(s, &data[at..]).v() as usize;
        }
        0
    });
    close(s);
    let mut got = vec![];
    let mut b = [0u8; 5000];
    loop {
        let r = sys!(read(m, b.as_mut_ptr().cast(), b.len()));
        if r.failed() || r.0 == 0 {
            break;
        }
        got.extend_from_slice(&b[..r.0 as usize]);
    }
    say!(
        "{} {} {}",
        wait(pid),
        got.len(),
        got.iter().enumerate().all(|(i, b)| *b == (i % 251) as u8)
    );
}

pub fn termios_errors() {
    let (_m, s) = pty();
    let t = attr(s);
    say!(
        "action {} bad fd {} pipe {}",
        sys!(tcsetattr(s, 77, &t)),
        sys!(tcsetattr(-1, TCSANOW, &t)),
        sys!(tcsetattr(pipe()[0], TCSANOW, &t))
    );
    change(s, |t| t.c_cc[VINTR] = 0);
    let (m, s) = pty();
    change(s, |t| {
        t.c_cc[VINTR] = 0;
        t.c_lflag &= !ECHO
    });
    write(m, b"\x03\n");
    say!("disabled key {}", now(s));
    let mut u = attr(s);
    u.c_cflag = u.c_cflag & !CBAUD | B9600;
    sys!(tcsetattr(s, TCSANOW, &u)).v();
    say!("speed kept {}", speed(&attr(s)) == B9600);
}

pub fn exclusive_and_locked() {
    let (m, s) = pty();
    let mut n = 0i32;
    sys!(ioctl(m, TIOCGPTN as _, &mut n)).v();
    let name = format!("/dev/pts/{n}");
    say!("exclusive {}", sys!(ioctl(s, TIOCEXCL as _)));
    say!(
        "open {}",
        if is_root() {
            "EBUSY".to_string()
        } else {
            open(&name, O_RDWR | O_NOCTTY).to_string()
        }
    );
    say!(
        "shared {} {}",
        sys!(ioctl(s, TIOCNXCL as _)),
        open(&name, O_RDWR | O_NOCTTY).ok()
    );
    sys!(ioctl(m, TIOCSPTLCK as _, &1i32)).v();
    say!("locked {}", open(&name, O_RDWR | O_NOCTTY));
}
