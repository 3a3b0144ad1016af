//! Readiness and input/output that does not wait: poll, epoll, signalfd,
//! and the forms of read and write that return instead of blocking without
//! O_NONBLOCK on the open file (which other processes may share).

use crate::raw::{Errno, Result, call3, call6};

/// poll(2). `timeout_ms` < 0 waits for ever.
pub fn poll(fds: &mut [libc::pollfd], timeout_ms: i32) -> Result<usize> {
    // SAFETY: reads and writes the array only.
    unsafe {
        call3(
            libc::SYS_poll,
            fds.as_mut_ptr() as usize,
            fds.len(),
            timeout_ms as isize as usize,
        )
    }
}

/// The `POLL*` bits of `events` that hold for `fd` now (and ERR, HUP, NVAL).
pub fn poll_now(fd: i32, events: i16) -> i16 {
    let mut p = [libc::pollfd {
        fd,
        events,
        revents: 0,
    }];
    match poll(&mut p, 0) {
        Ok(_) => p[0].revents,
        Err(_) => 0,
    }
}

/// epoll_create1(2), close-on-exec.
pub fn epoll_create() -> Result<i32> {
    // SAFETY: creates a descriptor only.
    Ok(unsafe { call3(libc::SYS_epoll_create1, libc::EPOLL_CLOEXEC as usize, 0, 0)? } as i32)
}

/// epoll_ctl(2): `EPOLL_CTL_*` with `events` and a value given back by waits.
pub fn epoll_ctl(ep: i32, op: i32, fd: i32, events: u32, value: u64) -> Result {
    let ev = libc::epoll_event { events, u64: value };
    let args = [
        ep as usize,
        op as usize,
        fd as usize,
        &raw const ev as usize,
        0,
        0,
    ];
    // SAFETY: reads one event.
    unsafe { call6(libc::SYS_epoll_ctl, args)? };
    Ok(())
}

/// epoll_wait(2). `timeout_ms` < 0 waits for ever.
pub fn epoll_wait(ep: i32, events: &mut [libc::epoll_event], timeout_ms: i32) -> Result<usize> {
    let args = [
        ep as usize,
        events.as_mut_ptr() as usize,
        events.len(),
        timeout_ms as isize as usize,
        0,
        8,
    ];
    // SAFETY: writes at most `events.len()` events; no mask.
    unsafe { call6(libc::SYS_epoll_pwait, args) }
}

/// signalfd4(2) for the signals in `mask`, non-blocking, close-on-exec.
pub fn signalfd(mask: u64) -> Result<i32> {
    let args = [
        -1isize as usize,
        &raw const mask as usize,
        8,
        (libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) as usize,
        0,
        0,
    ];
    // SAFETY: reads 8 bytes of the mask.
    Ok(unsafe { call6(libc::SYS_signalfd4, args)? } as i32)
}

/// The next signal of a [`signalfd`]: number and sender (pid, 0 if the kernel). `None`: none now.
pub fn read_signal(fd: i32) -> Option<(i32, i32)> {
    let mut info = [0u32; 32];
    // SAFETY: writes at most one signalfd_siginfo (128 bytes) to `info`.
    let r = unsafe { call3(libc::SYS_read, fd as usize, info.as_mut_ptr() as usize, 128) };
    // Words: signo, errno, code, pid.
    matches!(r, Ok(128)).then_some((info[0] as i32, info[3] as i32))
}

fn rw_nowait(nr: libc::c_long, fd: i32, base: usize, len: usize) -> Result<usize> {
    let iov = libc::iovec {
        iov_base: core::ptr::with_exposed_provenance_mut(base),
        iov_len: len,
    };
    let args = [
        fd as usize,
        &raw const iov as usize,
        1,
        -1isize as usize,
        -1isize as usize,
        libc::RWF_NOWAIT as usize,
    ];
    // SAFETY: the two callers pass a live buffer that fits the direction.
    unsafe { call6(nr, args) }
}

/// Reads without waiting, whatever the flags of the open file. `EOPNOTSUPP`:
/// this file cannot. `EAGAIN`: nothing now.
pub fn read_nowait(fd: i32, buf: &mut [u8]) -> Result<usize> {
    let base = buf.as_mut_ptr().expose_provenance();
    rw_nowait(libc::SYS_preadv2, fd, base, buf.len())
}

/// Writes without waiting, as [`read_nowait`].
pub fn write_nowait(fd: i32, buf: &[u8]) -> Result<usize> {
    let base = buf.as_ptr().expose_provenance();
    rw_nowait(libc::SYS_pwritev2, fd, base, buf.len())
}

/// recv(2) without waiting.
pub fn recv_nowait(fd: i32, buf: &mut [u8]) -> Result<usize> {
    let args = [
        fd as usize,
        buf.as_mut_ptr() as usize,
        buf.len(),
        libc::MSG_DONTWAIT as usize,
        0,
        0,
    ];
    // SAFETY: writes at most `buf.len()` bytes to `buf`.
    unsafe { call6(libc::SYS_recvfrom, args) }
}

/// send(2) without waiting and without SIGPIPE.
pub fn send_nowait(fd: i32, buf: &[u8]) -> Result<usize> {
    let args = [
        fd as usize,
        buf.as_ptr() as usize,
        buf.len(),
        (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as usize,
        0,
        0,
    ];
    // SAFETY: reads `buf` only.
    unsafe { call6(libc::SYS_sendto, args) }
}

/// Writes three pieces as one writev(2).
pub fn write3(fd: i32, parts: [&[u8]; 3]) -> Result<usize> {
    let iov = parts.map(|p| libc::iovec {
        iov_base: p.as_ptr().cast_mut().cast(),
        iov_len: p.len(),
    });
    // SAFETY: reads the three live pieces.
    unsafe { call3(libc::SYS_writev, fd as usize, iov.as_ptr() as usize, 3) }
}

/// Fills `buf` from getrandom(2).
pub fn random(buf: &mut [u8]) -> Result {
    let mut done = 0;
    while done < buf.len() {
        let rest = &mut buf[done..];
        // SAFETY: writes at most `rest.len()` bytes to `rest`.
        let r = unsafe {
            call3(
                libc::SYS_getrandom,
                rest.as_mut_ptr() as usize,
                rest.len(),
                0,
            )
        };
        match r {
            Ok(n) => done += n,
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
