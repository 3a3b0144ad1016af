//! The system-call instruction and the host's error numbers.

use core::arch::asm;
use core::fmt;

/// A host error number; positive, never 0. Same numbers as the guest's.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Errno(pub u16);

/// Result of a host call.
pub type Result<T = ()> = core::result::Result<T, Errno>;

macro_rules! errnos {
    ($($name:ident)*) => {
        #[expect(missing_docs)]
        impl Errno {
            $(pub const $name: Errno = Errno(libc::$name as u16);)*
        }
        impl fmt::Debug for Errno {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $(Errno::$name => f.write_str(stringify!($name)),)*
                    Errno(n) => write!(f, "errno {n}"),
                }
            }
        }
    };
}

errnos! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT
    EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG
    ENOSPC ESPIPE EROFS EMLINK EPIPE ERANGE ENAMETOOLONG ENOSYS ENOTEMPTY ELOOP
    ETIMEDOUT EOPNOTSUPP EDQUOT ENODATA
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl core::error::Error for Errno {}

/// Turns a raw return value into a result.
pub fn check(ret: isize) -> Result<usize> {
    if (-4095..0).contains(&ret) {
        Err(Errno(-ret as u16))
    } else {
        Ok(ret as usize)
    }
}

/// Repeats `f` as long as it fails with EINTR.
pub fn no_eintr<T>(mut f: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match f() {
            Err(Errno::EINTR) => {}
            r => return r,
        }
    }
}

/// A system call with six arguments.
///
/// # Safety
/// Whatever the call does to memory, descriptors and threads must be sound.
pub unsafe fn syscall6(
    nr: libc::c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> isize {
    let ret;
    // SAFETY: the x86-64 convention: arguments in rdi, rsi, rdx, r10, r8, r9;
    // rcx and r11 are clobbered; the caller answers for the effects.
    unsafe {
        asm!("syscall", inlateout("rax") nr as isize => ret, in("rdi") a, in("rsi") b, in("rdx") c,
             in("r10") d, in("r8") e, in("r9") f, lateout("rcx") _, lateout("r11") _,
             options(nostack));
    }
    ret
}

/// A system call with at most three arguments.
///
/// # Safety
/// As for [`syscall6`].
pub unsafe fn syscall3(nr: libc::c_long, a: usize, b: usize, c: usize) -> isize {
    let ret;
    // SAFETY: as in `syscall6`.
    unsafe {
        asm!("syscall", inlateout("rax") nr as isize => ret, in("rdi") a, in("rsi") b, in("rdx") c,
             lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    ret
}

/// A system call with no argument.
///
/// # Safety
/// As for [`syscall6`].
pub unsafe fn syscall0(nr: libc::c_long) -> isize {
    // SAFETY: the caller's promise.
    unsafe { syscall3(nr, 0, 0, 0) }
}

/// A checked call with up to three arguments.
///
/// # Safety
/// As for [`syscall6`].
pub unsafe fn call3(nr: libc::c_long, a: usize, b: usize, c: usize) -> Result<usize> {
    // SAFETY: the caller's promise.
    check(unsafe { syscall3(nr, a, b, c) })
}

/// A checked call with up to six arguments.
///
/// # Safety
/// As for [`syscall6`].
pub unsafe fn call6(nr: libc::c_long, a: [usize; 6]) -> Result<usize> {
    // SAFETY: the caller's promise.
    check(unsafe { syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5]) })
}
