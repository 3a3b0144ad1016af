//! Measured programs of single calls: each gives nanoseconds per operation.

use crate::measured::per;
use std::ffi::CStr;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// A file of the tmpfs that both the host and a machine have.
struct TmpFile(std::ffi::CString, i32);

impl TmpFile {
    fn new() -> TmpFile {
        let name = format!("/dev/shm/lodger-bench-{}\0", std::process::id());
        let name = CStr::from_bytes_with_nul(name.as_bytes()).expect("one null at the end");
        let block = [7u8; 4096];
        // SAFETY: the name ends with a null; writes from an array of that length.
        let fd = unsafe {
            let fd = libc::open(name.as_ptr(), libc::O_RDWR | libc::O_CREAT, 0o600);
            assert!(fd >= 0, "open in /dev/shm");
            assert_eq!(libc::write(fd, block.as_ptr().cast(), 4096), 4096, "write");
            fd
        };
        TmpFile(name.into(), fd)
    }
}

impl Drop for TmpFile {
    fn drop(&mut self) {
        // SAFETY: its own descriptor and name.
        unsafe {
            libc::close(self.1);
            libc::unlink(self.0.as_ptr());
        }
    }
}

/// read(2) of one byte from /dev/zero.
pub fn zero() -> f64 {
    let mut c = 1u8;
    // SAFETY: a name that ends with a null.
    let fd = unsafe { libc::open(c"/dev/zero".as_ptr(), libc::O_RDONLY) };
    assert!(fd >= 0, "open /dev/zero");
    let ns = per(1000, || {
        for _ in 0..1000 {
            // SAFETY: one byte into a byte.
            let n = unsafe { libc::read(fd, (&raw mut c).cast(), 1) };
            assert_eq!(n, 1, "read");
        }
    });
    // SAFETY: the descriptor from above.
    unsafe { libc::close(fd) };
    ns
}

/// pread(2) of 4 KiB from a file of a tmpfs.
pub fn pread() -> f64 {
    let f = TmpFile::new();
    let mut b = [0u8; 4096];
    per(1000, || {
        for _ in 0..1000 {
            // SAFETY: into an array of that length.
            let n = unsafe { libc::pread(f.1, b.as_mut_ptr().cast(), 4096, 0) };
            assert_eq!(n, 4096, "pread");
        }
    })
}

/// stat(2) of a file of a tmpfs.
pub fn stat() -> f64 {
    let f = TmpFile::new();
    // SAFETY: plain data, for which zeros are valid.
    let mut s: libc::stat = unsafe { std::mem::zeroed() };
    per(1000, || {
        for _ in 0..1000 {
            // SAFETY: a name that ends with a null, and a structure of its own.
            assert_eq!(unsafe { libc::stat(f.0.as_ptr(), &mut s) }, 0, "stat");
        }
    })
}

/// open(2) and close(2) of a file of a tmpfs.
pub fn open() -> f64 {
    let f = TmpFile::new();
    per(1000, || {
        for _ in 0..1000 {
            // SAFETY: a name that ends with a null; the new descriptor is closed.
            unsafe {
                let fd = libc::open(f.0.as_ptr(), libc::O_RDONLY);
                assert_eq!(libc::close(fd), 0, "open");
            }
        }
    })
}

fn new_pipe() -> [i32; 2] {
    let mut p = [0; 2];
    // SAFETY: two descriptors into an array of two.
    assert_eq!(unsafe { libc::pipe(p.as_mut_ptr()) }, 0, "pipe");
    p
}

fn send(fd: i32) {
    // SAFETY: one byte of a static string.
    assert_eq!(unsafe { libc::write(fd, c"x".as_ptr().cast(), 1) }, 1);
}

fn receive(fd: i32) {
    let mut c = 0u8;
    // SAFETY: one byte into a byte.
    assert_eq!(unsafe { libc::read(fd, (&raw mut c).cast(), 1) }, 1);
}

fn close(fds: &[i32]) {
    for fd in fds {
        // SAFETY: a descriptor of the caller's.
        unsafe { libc::close(*fd) };
    }
}

/// One byte into a pipe and out of it, in one process.
pub fn pipe_self() -> f64 {
    let p = new_pipe();
    let ns = per(1000, || {
        for _ in 0..1000 {
            send(p[1]);
            receive(p[0]);
        }
    });
    close(&p);
    ns
}

/// A round trip over pipes between two threads.
pub fn pipe_threads() -> f64 {
    let (a, b) = (new_pipe(), new_pipe());
    let n = 500;
    let other = std::thread::spawn(move || {
        for _ in 0..=n {
            receive(a[0]);
            send(b[1]);
        }
    });
    let turn = || {
        send(a[1]);
        receive(b[0]);
    };
    // The thread is there.
    turn();
    let ns = per(n, || (0..n).for_each(|_| turn()));
    other.join().expect("thread");
    close(&[a, b].concat());
    ns
}

/// A round trip by futex between two threads.
pub fn futex_threads() -> f64 {
    let words = [AtomicU32::new(0), AtomicU32::new(0)];
    let private = libc::FUTEX_PRIVATE_FLAG;
    let wait = |w: &AtomicU32, n: u32| {
        let op = libc::FUTEX_WAIT | private;
        while w.load(SeqCst) < n {
            // SAFETY: the word is mapped.
            unsafe { libc::syscall(libc::SYS_futex, w.as_ptr(), op, n - 1, 0usize) };
        }
    };
    let wake = |w: &AtomicU32, n: u32| {
        w.store(n, SeqCst);
        let op = libc::FUTEX_WAKE | private;
        // SAFETY: the word is mapped.
        unsafe { libc::syscall(libc::SYS_futex, w.as_ptr(), op, 1) };
    };
    let n = 1000;
    std::thread::scope(|s| {
        s.spawn(|| {
            for i in 1..=n + 1 {
                wait(&words[0], i);
                wake(&words[1], i);
            }
        });
        let turn = |i| {
            wake(&words[0], i);
            wait(&words[1], i);
        };
        turn(1);
        per(n.into(), || (2..=n + 1).for_each(turn))
    })
}

extern "C" fn handler(_: i32) {}

/// A signal that the thread sends itself and handles.
pub fn signal() -> f64 {
    let f = handler as extern "C" fn(i32);
    // SAFETY: a handler that does nothing.
    unsafe { libc::signal(libc::SIGUSR1, f as libc::sighandler_t) };
    per(1000, || {
        for _ in 0..1000 {
            // SAFETY: the signal has a handler.
            assert_eq!(unsafe { libc::raise(libc::SIGUSR1) }, 0);
        }
    })
}

/// mmap(2) of 64 KiB, a byte into each page, munmap(2).
pub fn map() -> f64 {
    const LEN: usize = 65536;
    let (prot, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    per(100, || {
        for _ in 0..100 {
            // SAFETY: a new mapping, written within it and then used no more.
            unsafe {
                let p = libc::mmap(null_mut(), LEN, prot, flags, -1, 0);
                assert_ne!(p, libc::MAP_FAILED, "mmap");
                for at in (0..LEN).step_by(4096) {
                    p.cast::<u8>().add(at).write_volatile(1);
                }
                libc::munmap(p, LEN);
            }
        }
    })
}

/// A thread that does nothing, until it has been waited for.
pub fn thread() -> f64 {
    per(100, || {
        for _ in 0..100 {
            std::thread::spawn(|| ()).join().expect("thread");
        }
    })
}
