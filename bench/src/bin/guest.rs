//! The measured program: `bench-guest NAME…` prints `NAME NANOSECONDS` per operation.
//! Runs on the host and in a machine alike.

use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Instant;

/// Nanoseconds per operation of `n` operations done by `f`.
fn per(n: u64, f: impl FnOnce()) -> f64 {
    let t = Instant::now();
    f();
    t.elapsed().as_nanos() as f64 / n as f64
}

fn call() -> f64 {
    let n = 20_000;
    per(n, || {
        for _ in 0..n {
            unsafe { libc::syscall(libc::SYS_getppid) };
        }
    })
}

fn clock() -> f64 {
    let n = 500_000;
    let mut t: libc::timespec = unsafe { std::mem::zeroed() };
    per(n, || {
        for _ in 0..n {
            unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
        }
    })
}

fn touch() -> f64 {
    let pages = 8192u64;
    let len = pages as usize * 4096;
    per(pages, || unsafe {
        let p = libc::mmap(
            null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        ) as *mut u8;
        for i in 0..pages as usize {
            p.add(i * 4096).write_volatile(1);
        }
        libc::munmap(p.cast(), len);
    })
}

fn fork() -> f64 {
    let n = 100;
    per(n, || {
        for _ in 0..n {
            unsafe {
                let pid = libc::fork();
                if pid == 0 {
                    libc::_exit(0);
                }
                libc::waitpid(pid, null_mut(), 0);
            }
        }
    })
}

fn exec() -> f64 {
    let n = 60;
    let mut path = [0u8; 4096];
    let len = unsafe { libc::readlink(c"/proc/self/exe".as_ptr(), path.as_mut_ptr().cast(), 4095) };
    assert!(len > 0);
    let args = [c"bench-guest".as_ptr(), c"nothing".as_ptr(), null()];
    let env = [null()];
    per(n, || {
        for _ in 0..n {
            unsafe {
                #[allow(deprecated)]
                let pid = libc::vfork();
                if pid == 0 {
                    libc::execve(path.as_ptr().cast(), args.as_ptr(), env.as_ptr());
                    libc::_exit(1);
                }
                let mut st = 0;
                libc::waitpid(pid, &mut st, 0);
                assert_eq!(st, 0, "exec failed");
            }
        }
    })
}

fn pipe() -> f64 {
    let n = 3000;
    let (mut a, mut b) = ([0; 2], [0; 2]);
    unsafe {
        libc::pipe(a.as_mut_ptr());
        libc::pipe(b.as_mut_ptr());
        let pid = libc::fork();
        let mut c = 0u8;
        if pid == 0 {
            for _ in 0..n {
                libc::read(a[0], (&raw mut c).cast(), 1);
                libc::write(b[1], (&raw const c).cast(), 1);
            }
            libc::_exit(0);
        }
        let r = per(n, || {
            for _ in 0..n {
                libc::write(a[1], (&raw const c).cast(), 1);
                libc::read(b[0], (&raw mut c).cast(), 1);
            }
        });
        libc::waitpid(pid, null_mut(), 0);
        r
    }
}

/// One round trip between two processes by futex: what a trap costs at least.
fn futex() -> f64 {
    let n = 5000u32;
    let shared = unsafe {
        libc::mmap(
            null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        ) as *const AtomicU32
    };
    let (a, b) = unsafe { (&*shared, &*shared.add(32)) };
    let wait = |w: &AtomicU32, n: u32| {
        while w.load(SeqCst) < n {
            unsafe { libc::syscall(libc::SYS_futex, w.as_ptr(), libc::FUTEX_WAIT, n - 1, 0usize) };
        }
    };
    let wake = |w: &AtomicU32, n: u32| {
        w.store(n, SeqCst);
        unsafe { libc::syscall(libc::SYS_futex, w.as_ptr(), libc::FUTEX_WAKE, 1) };
    };
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            for i in 1..=n {
                wait(a, i);
                wake(b, i);
            }
            libc::_exit(0);
        }
        let r = per(n as u64, || {
            for i in 1..=n {
                wake(a, i);
                wait(b, i);
            }
        });
        libc::waitpid(pid, null_mut(), 0);
        r
    }
}

fn work() -> u64 {
    (0..150_000_000u64).fold(1, |a, i| {
        std::hint::black_box(a.wrapping_mul(6364136223846793005).wrapping_add(i))
    })
}

fn spin(threads: usize) -> f64 {
    per(threads as u64, || {
        let h: Vec<_> = (0..threads).map(|_| std::thread::spawn(work)).collect();
        h.into_iter().for_each(|h| drop(h.join()));
    })
}

fn python() -> f64 {
    let n = 5;
    per(n, || {
        for _ in 0..n {
            let st = std::process::Command::new("python3")
                .args(["-c", "pass"])
                .status();
            assert!(st.is_ok_and(|s| s.success()), "python3");
        }
    })
}

fn main() {
    for name in std::env::args().skip(1) {
        let ns = match name.as_str() {
            "nothing" => return,
            "call" => call(),
            "clock" => clock(),
            "touch" => touch(),
            "fork" => fork(),
            "exec" => exec(),
            "pipe" => pipe(),
            "futex" => futex(),
            "spin1" => spin(1),
            "spin2" => spin(2),
            "python" => python(),
            _ => continue,
        };
        println!("{name} {ns:.1}");
    }
}
