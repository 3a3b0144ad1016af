//! `busy DIR`: works hard in all ways at once and for ever: forks and executions,
//! threads on futexes, memory, files in DIR, the terminal. Says `busy` when all has begun.

use crate::prelude::*;
use std::sync::{Arc, Barrier};

/// Starts a process that does `f` again and again.
fn worker(mut f: impl FnMut()) {
    fork(|| {
        loop {
            f()
        }
    });
}

/// Forks, touches memory that was the parent's, and executes this program anew.
fn forks(exe: &std::ffi::CStr) {
    let mut page = vec![1u8; 64 << 10];
    let pid = fork(|| {
        page.iter_mut().step_by(512).for_each(|b| *b += 1);
        let args = [
            exe.as_ptr(),
            c"--tool".as_ptr(),
            c"exit".as_ptr(),
            c"0".as_ptr(),
            null(),
        ];
        let r = sys!(execv(exe.as_ptr(), args.as_ptr()));
        r.err()
    });
    wait(pid);
}

/// Threads that meet at a barrier, and map, touch and unmap in between.
fn threads() {
    let meet = Arc::new(Barrier::new(4));
    let run = |meet: Arc<Barrier>| {
        for _ in 0..50 {
            let flags = MAP_PRIVATE | MAP_ANONYMOUS;
            let len = 16 << 12;
            let m = sys!(mmap(null_mut(), len, PROT_READ | PROT_WRITE, flags, -1, 0));
            if !m.failed() {
                unsafe { (m.0 as *mut u64).write_volatile(7) };
                sys!(munmap(m.0 as *mut _, len));
            }
            meet.wait();
        }
    };
    let all: Vec<_> = (0..4)
        .map(|_| {
            let meet = meet.clone();
            std::thread::spawn(move || run(meet))
        })
        .collect();
    all.into_iter().for_each(|t| drop(t.join()));
}

/// Changes every file there is, makes new ones, renames and removes them.
fn files(dir: &str) {
    put(&format!("{dir}/a"), b"changed");
    put(&format!("{dir}/new"), &[b'x'; 9000]);
    chmod(&format!("{dir}/a"), 0o600);
    rename(&format!("{dir}/new"), &format!("{dir}/sub/new"));
    unlink(&format!("{dir}/sub/new"));
    unlink(&format!("{dir}/b"));
    symlink("a", &format!("{dir}/link"));
    unlink(&format!("{dir}/link"));
    for d in ["/tmp", "/dev/shm"] {
        put(&format!("{d}/lodger-busy"), b"inside only");
        unlink(&format!("{d}/lodger-busy"));
    }
}

fn terminal(fd: i32) {
    if fd < 0 {
        return ms(50);
    }
    let mut t: termios = zero();
    sys!(tcgetattr(fd, &mut t));
    t.c_lflag ^= ECHO;
    sys!(tcsetattr(fd, TCSANOW, &t));
    write(fd, b"the terminal is in use\n");
    ms(2);
}

pub fn main(args: &[String]) -> i32 {
    let dir = args.first().cloned().unwrap_or_else(|| "/tmp".into());
    let exe = std::env::current_exe().map_or(String::new(), |p| p.to_string_lossy().into_owned());
    let exe = cs(&exe);
    let tty = open("/dev/tty", O_RDWR).0 as i32;
    worker(|| forks(&exe));
    worker(|| forks(&exe));
    worker(threads);
    worker(|| files(&dir));
    worker(|| terminal(tty));
    worker(std::hint::spin_loop);
    files(&dir);
    say!("busy");
    loop {
        ms(1000);
    }
}
