//! The measured program: prints a line `NAME NANOSECONDS` for each batch, per
//! operation. It is the same on the host and in a machine.

use crate::{calls, work};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Instant;

/// Nanoseconds per operation of `n` operations done by `f`.
pub fn per(n: u64, f: impl FnOnce()) -> f64 {
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

/// A static program for x86-64 that exits at once: the header of the file, one
/// segment (elf(5)), and `mov eax, 60; xor edi, edi; syscall`.
fn nothing() -> Vec<u8> {
    const AT: u64 = 0x40_0000;
    let mut f = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    f.extend([AT + 120, 64, 0].map(|w| w.to_le_bytes()).concat());
    // No flags; sizes: this header, a segment's; one segment; no sections.
    f.extend(0u32.to_le_bytes());
    f.extend([64u16, 56, 1, 64, 0, 0].map(|w| w.to_le_bytes()).concat());
    // PT_LOAD, readable and executable.
    f.extend([1u32, 5].map(|w| w.to_le_bytes()).concat());
    f.extend(
        [0, AT, AT, 129, 129, 0x1000u64]
            .map(|w| w.to_le_bytes())
            .concat(),
    );
    f.extend(b"\xb8\x3c\0\0\0\x31\xff\x0f\x05");
    f
}

/// Runs a static program that does nothing.
fn exec() -> f64 {
    let n = 10;
    let name = format!("/tmp/lodger-bench-{}", std::process::id());
    let mut to = std::fs::OpenOptions::new();
    let file = to.write(true).create_new(true).mode(0o700).open(&name);
    let written = file.and_then(|mut f| f.write_all(&nothing()));
    written.expect("program in /tmp");
    let path = std::ffi::CString::new(name.as_str()).expect("no null");
    let args = [path.as_ptr(), null()];
    let env = [null()];
    let ns = per(n, || {
        for _ in 0..n {
            // SAFETY: the child only executes a program or exits; all pointers end with a null.
            unsafe {
                #[allow(deprecated)]
                let pid = libc::vfork();
                if pid == 0 {
                    libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr());
                    libc::_exit(1);
                }
                let mut st = 0;
                libc::waitpid(pid, &mut st, 0);
                assert_eq!(st, 0, "exec");
            }
        }
    });
    let _ = std::fs::remove_file(name);
    ns
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

/// The argument that makes real work short.
pub const SMALL: &str = "small";

/// Does what `args` name, `NAME:BATCHES` each.
pub fn main(args: &[String]) {
    let small = args.iter().any(|a| a == SMALL);
    for arg in args.iter().filter(|a| *a != SMALL) {
        let (name, batches) = arg.split_once(':').unwrap_or((arg, "1"));
        for _ in 0..batches.parse().unwrap_or(1u32) {
            let ns = match name {
                "call" => call(),
                "zero" => calls::zero(),
                "pread" => calls::pread(),
                "stat" => calls::stat(),
                "open" => calls::open(),
                "pipe-self" => calls::pipe_self(),
                "pipe-threads" => calls::pipe_threads(),
                "futex-threads" => calls::futex_threads(),
                "signal" => calls::signal(),
                "map" => calls::map(),
                "thread" => calls::thread(),
                "clock" => clock(),
                "touch" => touch(),
                "fork" => fork(),
                "exec" => exec(),
                "pipe" => pipe(),
                "futex" => futex(),
                "spin1" => spin(1),
                "spin2" => spin(2),
                _ => match work::measure(name, small) {
                    Some(ns) => ns,
                    None => continue,
                },
            };
            println!("{name} {ns:.1}");
        }
    }
}
