//! The measured program: `bench-guest NAME:BATCHES…` prints a line
//! `NAME NANOSECONDS` for each batch, per operation. It is the same on the host
//! and in a machine.

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
    let n = 1000;
    per(n, || {
        for _ in 0..n {
            // SAFETY: no arguments, cannot fail.
            unsafe { libc::syscall(libc::SYS_getppid) };
        }
    })
}

fn clock() -> f64 {
    let n = 100_000;
    // SAFETY: plain data, for which zeros are valid.
    let mut t: libc::timespec = unsafe { std::mem::zeroed() };
    per(n, || {
        for _ in 0..n {
            // SAFETY: writes a timespec that is ours.
            unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
        }
    })
}

/// Without the end of the mapping, which is another figure.
fn touch() -> f64 {
    let pages = 2048u64;
    let len = pages as usize * 4096;
    let (prot, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    let mut p = null_mut();
    // SAFETY: a new mapping of `len` bytes, written within them.
    let ns = per(pages, || unsafe {
        p = libc::mmap(null_mut(), len, prot, flags, -1, 0).cast::<u8>();
        assert_ne!(p.cast(), libc::MAP_FAILED, "mmap");
        for i in 0..pages as usize {
            p.add(i * 4096).write_volatile(1);
        }
    });
    // SAFETY: the mapping from above, used no more.
    unsafe { libc::munmap(p.cast(), len) };
    ns
}

fn fork() -> f64 {
    let n = 20;
    per(n, || {
        for _ in 0..n {
            // SAFETY: one thread; the child only exits.
            unsafe {
                let pid = libc::fork();
                if pid == 0 {
                    libc::_exit(0);
                }
                assert!(pid > 0, "fork");
                libc::waitpid(pid, null_mut(), 0);
            }
        }
    })
}

/// Runs this (static) program, which does nothing.
fn exec() -> f64 {
    let n = 10;
    let mut path = [0u8; 4096];
    // SAFETY: at most 4095 bytes into 4096, the last one stays 0.
    let len = unsafe { libc::readlink(c"/proc/self/exe".as_ptr(), path.as_mut_ptr().cast(), 4095) };
    assert!(len > 0, "readlink");
    let args = [c"bench-guest".as_ptr(), null()];
    let env = [null()];
    per(n, || {
        for _ in 0..n {
            // SAFETY: the child only executes a program or exits; all pointers end with a null.
            unsafe {
                #[allow(deprecated)]
                let pid = libc::vfork();
                if pid == 0 {
                    libc::execve(path.as_ptr().cast(), args.as_ptr(), env.as_ptr());
                    libc::_exit(1);
                }
                let mut st = 0;
                libc::waitpid(pid, &mut st, 0);
                assert_eq!(st, 0, "exec");
            }
        }
    })
}

fn pipe() -> f64 {
    let n = 500;
    let (mut a, mut b) = ([0; 2], [0; 2]);
    // SAFETY: one thread; descriptors of our own, and one byte that outlives the calls.
    unsafe {
        assert_eq!(libc::pipe(a.as_mut_ptr()) | libc::pipe(b.as_mut_ptr()), 0);
        let mut c = 0u8;
        let pid = libc::fork();
        if pid == 0 {
            for _ in 0..=n {
                libc::read(a[0], (&raw mut c).cast(), 1);
                libc::write(b[1], (&raw const c).cast(), 1);
            }
            libc::_exit(0);
        }
        let mut turn = || {
            libc::write(a[1], (&raw const c).cast(), 1);
            libc::read(b[0], (&raw mut c).cast(), 1);
        };
        // The child is there, and has its memory.
        turn();
        let ns = per(n, || (0..n).for_each(|_| turn()));
        libc::waitpid(pid, null_mut(), 0);
        for fd in a.into_iter().chain(b) {
            libc::close(fd);
        }
        ns
    }
}

/// A round trip between two processes by futex: what a trap costs at least.
fn futex() -> f64 {
    let n = 1000u32;
    // SAFETY: a new mapping, page aligned, of zeros.
    let shared = unsafe {
        let p = libc::mmap(
            null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        assert_ne!(p, libc::MAP_FAILED, "mmap");
        p as *const AtomicU32
    };
    // SAFETY: both lie in that page, which is never unmapped, and are only used as atomics.
    let (a, b) = unsafe { (&*shared, &*shared.add(32)) };
    let wait = |w: &AtomicU32, n: u32| {
        while w.load(SeqCst) < n {
            // SAFETY: the word is mapped.
            unsafe { libc::syscall(libc::SYS_futex, w.as_ptr(), libc::FUTEX_WAIT, n - 1, 0usize) };
        }
    };
    let wake = |w: &AtomicU32, n: u32| {
        w.store(n, SeqCst);
        // SAFETY: the word is mapped.
        unsafe { libc::syscall(libc::SYS_futex, w.as_ptr(), libc::FUTEX_WAKE, 1) };
    };
    // SAFETY: one thread; the child only uses the shared words and exits.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            for i in 1..=n + 1 {
                wait(a, i);
                wake(b, i);
            }
            libc::_exit(0);
        }
        let turn = |i| {
            wake(a, i);
            wait(b, i);
        };
        turn(1);
        let ns = per(n.into(), || (2..=n + 1).for_each(turn));
        libc::waitpid(pid, null_mut(), 0);
        libc::munmap(shared.cast_mut().cast(), 4096);
        ns
    }
}

fn work() -> u64 {
    (0..100_000_000u64).fold(1, |a, i| {
        std::hint::black_box(a.wrapping_mul(6364136223846793005).wrapping_add(i))
    })
}

/// Time of one thread's work: halved if two run at once.
fn spin(threads: usize) -> f64 {
    per(threads as u64, || {
        let h: Vec<_> = (0..threads).map(|_| std::thread::spawn(work)).collect();
        h.into_iter().for_each(|h| drop(h.join()));
    })
}

fn python() -> f64 {
    per(1, || {
        let st = std::process::Command::new("python3")
            .args(["-c", "pass"])
            .status();
        assert!(st.is_ok_and(|s| s.success()), "python3");
    })
}

fn main() {
    for arg in std::env::args().skip(1) {
        let (name, batches) = arg.split_once(':').unwrap_or((&arg, "1"));
        for _ in 0..batches.parse().unwrap_or(1u32) {
            let ns = match name {
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
                _ => panic!("no measurement {name}"),
            };
            println!("{name} {ns:.1}");
        }
    }
}
