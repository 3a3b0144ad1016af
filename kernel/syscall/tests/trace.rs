//! Trace lines of calls with arguments in guest memory.

use abi::{Errno, Result};
use kernel_syscall::decode::Trace;
use kernel_syscall::table;
use mm::Mm;
use mm::aspace::{Backing, Fixed, MapRequest, MmLimits, VmFlags};
use std::sync::{Arc, Once};

/// A space with these bytes at 1 MiB.
fn space(bytes: &[u8]) -> Arc<Mm> {
    static INIT: Once = Once::new();
    let machine = hal_fake::machine();
    INIT.call_once(|| {
        // SAFETY: the only call, before anything else uses the memory.
        unsafe { mm::frame::init(machine) }.unwrap();
    });
    let mm = Mm::new(machine).unwrap();
    let limits = MmLimits {
        address_space: u64::MAX,
        data: u64::MAX,
        stack: 8 << 20,
        memlock: u64::MAX,
    };
    let req = MapRequest {
        addr: AT,
        len: 4096,
        prot: hal::Prot::READ | hal::Prot::WRITE,
        flags: VmFlags::MAYWRITE,
        fixed: Fixed::Replace,
        populate: false,
        backing: Backing::Anon,
    };
    mm.map(req, &limits).unwrap();
    mm.write(AT, bytes).unwrap();
    mm
}

const AT: u64 = 1 << 20;

fn line(nr: u32, args: [u64; 6], mm: &Mm, result: Result<u64>) -> String {
    let nr = u64::from(nr);
    Trace::enter(table::row(nr), nr, &args, Some(mm)).leave(12, Some(mm), result)
}

#[test]
fn lines_are_like_strace() {
    let mm = space(b"/etc/passwd\0");
    let cwd = abi::raw::AT_FDCWD as u64;
    let cloexec = 0o2000000;
    assert_eq!(
        line(257, [cwd, AT, cloexec, 0, 0, 0], &mm, Ok(3)),
        "[12] openat(AT_FDCWD, \"/etc/passwd\", O_RDONLY|O_CLOEXEC) = 3"
    );
    assert_eq!(
        line(2, [AT, 0o102, 0o644, 0, 0, 0], &mm, Err(Errno::EACCES)),
        "[12] open(\"/etc/passwd\", O_RDWR|O_CREAT, 0644) = -1 EACCES"
    );
    assert_eq!(
        line(0, [3, AT, 100, 0, 0, 0], &mm, Ok(4)),
        "[12] read(3, \"/etc\", 100) = 4"
    );
    assert_eq!(
        line(0, [3, AT, 100, 0, 0, 0], &mm, Err(Errno::EIO)),
        "[12] read(3, 0x100000, 100) = -1 EIO"
    );
    assert_eq!(
        line(1, [1, AT, 5, 0, 0, 0], &mm, Ok(5)),
        "[12] write(1, \"/etc/\", 5) = 5"
    );
    assert_eq!(
        line(72, [3, 3, 0, 0, 0, 0], &mm, Ok(2)),
        "[12] fcntl(3, F_GETFL) = 2"
    );
    assert_eq!(
        line(62, [7, 9, 0, 0, 0, 0], &mm, Ok(0)),
        "[12] kill(7, SIGKILL) = 0"
    );
    assert_eq!(
        line(4, [0xdead_beef, 0, 0, 0, 0, 0], &mm, Err(Errno::EFAULT)),
        "[12] stat(0xdeadbeef, NULL) = -1 EFAULT"
    );
}

#[test]
fn structures_are_shown_in_brief() {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&1i64.to_le_bytes());
    bytes.extend_from_slice(&500i64.to_le_bytes());
    let mm = space(&bytes);
    assert_eq!(
        line(35, [AT, 0, 0, 0, 0, 0], &mm, Ok(0)),
        "[12] nanosleep({tv_sec=1, tv_nsec=500}, NULL) = 0"
    );
    let mm = space(&[3, 0, 0, 0, 1, 0, 1, 0]);
    assert_eq!(
        line(7, [AT, 1, u64::MAX, 0, 0, 0], &mm, Ok(1)),
        "[12] poll([{fd=3, events=POLLIN, revents=POLLIN}], 1, -1) = 1"
    );
    let mm = space(&[0, 1, 0, 0]);
    assert_eq!(
        line(61, [u64::MAX, AT, 0, 0, 0, 0], &mm, Ok(9)),
        "[12] wait4(-1, [{WIFEXITED(s) && WEXITSTATUS(s) == 1}], 0, NULL) = 9"
    );
}

#[test]
fn addresses_are_hexadecimal() {
    let mm = space(b"");
    let args = [0, 4096, 3, 0x22, u64::MAX, 0];
    assert_eq!(
        line(9, args, &mm, Ok(0x7000)),
        "[12] mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0x0) = 0x7000"
    );
}
