//! signalfd(2).

use crate::prelude::*;

tests![
    basic,
    values_and_order,
    change_mask,
    errors,
    polling,
    child_signals,
    thread_directed
];

fn new(s: &[i32]) -> i32 {
    block(s);
    sys!(signalfd(-1, &set(s), SFD_NONBLOCK)).fd()
}

fn rd(fd: i32) -> String {
    let mut v: [signalfd_siginfo; 8] = zero();
    let r = sys!(read(fd, v.as_mut_ptr().cast(), size_of_val(&v)));
    if r.failed() {
        return r.to_string();
    }
    let n = r.0 as usize / 128;
    v[..n]
        .iter()
        .map(|i| format!("{} code {}", sig(i.ssi_signo as i32), i.ssi_code))
        .collect::<Vec<_>>()
        .join(", ")
}

fn basic() {
    let fd = new(&[SIGUSR1, SIGUSR2]);
    say!("{}", rd(fd));
    unsafe {
        kill(getpid(), SIGUSR1);
        kill(getpid(), SIGUSR1);
        kill(getpid(), SIGUSR2);
    }
    say!("{}", rd(fd));
    say!("{} pending {}", rd(fd), pending());
    let mut i: signalfd_siginfo = zero();
    unsafe { kill(getpid(), SIGUSR1) };
    sys!(read(fd, (&raw mut i).cast(), 128)).v();
    say!(
        "sender {} {}",
        i.ssi_pid == unsafe { getpid() } as u32,
        i.ssi_uid == unsafe { getuid() }
    );
}

fn values_and_order() {
    let fd = new(&[40, 41, SIGTERM]);
    for (n, v) in [(41, 1), (40, 2), (40, 3), (SIGTERM, 4)] {
        sys!(sigqueue(
            getpid(),
            n,
            sigval {
                sival_ptr: v as *mut c_void
            }
        ))
        .v();
    }
    let mut i: signalfd_siginfo = zero();
    for _ in 0..4 {
        sys!(read(fd, (&raw mut i).cast(), 128)).v();
        say!("{} {}", sig(i.ssi_signo as i32), i.ssi_int);
    }
}

fn change_mask() {
    let fd = new(&[SIGUSR1]);
    block(&[SIGUSR2]);
    unsafe { raise(SIGUSR2) };
    say!("{}", rd(fd));
    say!("{}", sys!(signalfd(fd, &set(&[SIGUSR2]), 0)).0 == fd as i64);
    say!("{}", rd(fd));
    say!(
        "not a signalfd {} bad {}",
        sys!(signalfd(pipe()[0], &set(&[]), 0)),
        sys!(signalfd(999, &set(&[]), 0))
    );
}

fn errors() {
    let fd = new(&[SIGUSR1]);
    say!("short {} write {}", read(fd, 100), write(fd, &[0; 128]));
    say!(
        "flags {} size {}",
        sys!(signalfd(-1, &set(&[]), 1)),
        raw!(SYS_signalfd4, -1i64, &raw const fd, 7, 0)
    );
    let k = sys!(signalfd(
        -1,
        &set(&[SIGKILL, SIGSTOP, SIGUSR1]),
        SFD_CLOEXEC
    ));
    say!("{} cloexec {}", k.ok(), sys!(fcntl(k.fd(), F_GETFD)));
}

fn polling() {
    let fd = new(&[SIGUSR1]);
    let mut p = pollfd {
        fd,
        events: POLLIN | POLLOUT,
        revents: 0,
    };
    say!("{}", sys!(poll(&mut p, 1, 0)));
    let me = unsafe { getpid() };
    let pid = fork(|| {
        ms(20);
        unsafe { kill(me, SIGUSR1) };
        0
    });
    say!(
        "{} {} {}",
        sys!(poll(&mut p, 1, 3000)),
        p.revents,
        wait(pid)
    );
    sys!(fcntl(fd, F_SETFL, 0));
    say!("{}", rd(fd));
    let pid = fork(|| {
        ms(20);
        unsafe { kill(me, SIGUSR1) };
        0
    });
    say!("blocking {} {}", rd(fd), wait(pid));
}

fn child_signals() {
    let fd = new(&[SIGCHLD]);
    let pid = fork(|| 7);
    wait(pid);
    let mut i: signalfd_siginfo = zero();
    say!("{}", sys!(read(fd, (&raw mut i).cast(), 128)));
    say!(
        "{} code {} status {} {}",
        sig(i.ssi_signo as i32),
        i.ssi_code,
        i.ssi_status,
        i.ssi_pid == pid as u32
    );
}

fn thread_directed() {
    let fd = new(&[SIGUSR1]);
    unsafe { raise(SIGUSR1) };
    let other = std::thread::spawn(move || rd(fd)).join().unwrap();
    say!("another thread sees {other}");
    say!("this one {}", rd(fd));
    unsafe { kill(getpid(), SIGUSR1) };
    say!(
        "process directed {}",
        std::thread::spawn(move || rd(fd)).join().unwrap()
    );
}
