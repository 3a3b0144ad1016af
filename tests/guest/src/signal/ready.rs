//! Signals of files that become ready: O_ASYNC, F_SETOWN, F_SETSIG.

use crate::prelude::*;

static LAST: [AtomicI32; 4] = [const { AtomicI32::new(0) }; 4];

extern "C" fn note(n: i32, info: *mut siginfo_t, _: *mut c_void) {
    let (code, band, fd) = unsafe {
        let words = info.cast::<i64>();
        (
            (*info).si_code,
            words.add(2).read(),
            words.add(3).cast::<i32>().read(),
        )
    };
    LAST[0].store(n, SeqCst);
    LAST[1].store(code, SeqCst);
    LAST[2].store(band as i32, SeqCst);
    LAST[3].store(fd, SeqCst);
}

/// What the last signal said; `fd` only by whether it is the one expected.
fn last(fd: i32) -> String {
    let [n, code, band, of] = [0, 1, 2, 3].map(|i| LAST[i].swap(0, SeqCst));
    match (n, code) {
        (0, _) => "none".into(),
        (SIGIO, 0x80) => "SIGIO plain".into(),
        _ => format!("{n} code {code} band {band:#x} fd {}", of == fd),
    }
}

fn async_on(fd: i32, signo: i32) {
    say!(
        "own {} sig {} flag {}",
        sys!(fcntl(fd, F_SETOWN, getpid())),
        sys!(fcntl(fd, F_SETSIG, signo)),
        sys!(fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK))
    );
}

pub fn async_pipe() {
    handle(SIGIO, note, SA_SIGINFO);
    handle(SIGRTMIN(), note, SA_SIGINFO);
    let p = pipe();
    async_on(p[0], 0);
    write(p[1], b"x");
    say!("write: {}", last(p[0]));
    write(p[1], b"y");
    say!("again: {}", last(p[0]));
    sys!(fcntl(p[0], F_SETSIG, SIGRTMIN())).v();
    write(p[1], b"z");
    say!("with information: {}", last(p[0]));
    sys!(fcntl(p[0], F_SETFL, O_NONBLOCK)).v();
    write(p[1], b"z");
    say!("off: {}", last(p[0]));
    let on = 1i32;
    say!("FIOASYNC {}", sys!(ioctl(p[0], FIOASYNC, &on)));
    say!("flags {:#o}", sys!(fcntl(p[0], F_GETFL)).v());
    sys!(fcntl(p[0], F_SETOWN, 0)).v();
    write(p[1], b"z");
    say!("nobody: {}", last(p[0]));
    say!("absent {}", sys!(fcntl(p[0], F_SETOWN, 0x3ffffff)));
    say!("signal {}", sys!(fcntl(p[0], F_SETSIG, 65)));
}

pub fn async_socket() {
    handle(SIGIO, note, SA_SIGINFO);
    handle(SIGRTMIN(), note, SA_SIGINFO);
    let s = pair(SOCK_STREAM);
    async_on(s[0], SIGRTMIN());
    LAST[0].store(0, SeqCst);
    write(s[1], b"x");
    say!("data: {}", last(s[0]));
    let child = fork(|| {
        write(s[1], b"from another");
        0
    });
    wait(child);
    say!("from another process: {}", last(s[0]));
}

pub fn async_owner() {
    handle(SIGIO, note, SA_SIGINFO);
    let p = pipe();
    let owner = |kind: i32, id: i32| {
        let ex = [kind, id];
        let set = sys!(fcntl(p[0], 15, ex.as_ptr()));
        let mut back = [0i32; 2];
        let got = sys!(fcntl(p[0], 16, back.as_mut_ptr()));
        let one = sys!(fcntl(p[0], F_GETOWN)).0;
        format!(
            "{set} {got} {} {} {}",
            back[0],
            back[1] == id,
            one == id as i64
        )
    };
    unsafe { setpgid(0, 0) };
    say!("process {}", owner(1, unsafe { getpid() }));
    say!("thread {}", owner(0, gettid()));
    sys!(fcntl(p[0], F_SETFL, O_ASYNC)).v();
    write(p[1], b"x");
    say!("to the thread: {}", last(p[0]));
    say!(
        "group {}",
        owner(2, unsafe { getpgrp() }).starts_with("0 0 2 true")
    );
    write(p[1], b"x");
    say!("to the group: {}", last(p[0]));
    say!("kind {}", owner(3, 1).starts_with("EINVAL"));
    put("file", b"");
    let f = open("file", RDWR).fd();
    sys!(fcntl(f, F_SETFL, O_ASYNC)).v();
    say!("regular file {:#o}", sys!(fcntl(f, F_GETFL)).v());
}
