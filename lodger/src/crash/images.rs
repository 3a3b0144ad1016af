//! What a backtrace reads, in a process that may open nothing any more.
//!
//! The standard library names a backtrace's functions from this program's file, which it
//! opens by its name; the confinement refuses that with SIGSYS. So the file is opened
//! early, and after a crash the signal handler answers in the host's place.

use core::ffi::CStr;
use host_sys::{Errno, fd, file};
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;

/// What libc's allocator looks for when it makes another arena or gives memory back. It
/// does well without.
const ALLOCATOR: [&CStr; 3] = [
    c"/sys/devices/system/cpu/online",
    c"/proc/stat",
    c"/proc/sys/vm/overcommit_memory",
];
const MAPS: &CStr = c"/proc/self/maps";
const SELF: &CStr = c"/proc/self/exe";

struct Images {
    /// This program's file, and its name.
    program: i32,
    name: Vec<u8>,
    /// The list of this process's mappings.
    maps: i32,
}

static IMAGES: OnceLock<Images> = OnceLock::new();

/// Opens what backtraces of this process need. Where the host has no /proc, they will
/// show addresses only.
pub fn open() {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    let name = std::env::current_exe().unwrap_or_default();
    let _ = IMAGES.set(Images {
        program: fd::open(SELF, flags, 0).unwrap_or(-1),
        name: name.as_os_str().as_bytes().to_vec(),
        maps: fd::open(MAPS, flags, 0).unwrap_or(-1),
    });
}

/// The result of call `nr` that the host has refused; `None`: nothing in this process
/// makes it. Signal context.
pub fn answer(nr: libc::c_long, args: [usize; 3], crashed: bool) -> Option<isize> {
    let failed = |e: Errno| Some(-(e.0 as isize));
    let (open, path) = match nr {
        libc::SYS_open | libc::SYS_readlink | libc::SYS_stat => (nr == libc::SYS_open, args[0]),
        libc::SYS_openat | libc::SYS_newfstatat | libc::SYS_statx => {
            (nr == libc::SYS_openat, args[1])
        }
        // The standard library's own report of memory that is used up begins so.
        libc::SYS_getcwd => return failed(Errno::EPERM),
        _ if crashed => return failed(Errno::EPERM),
        _ => return None,
    };
    let path: *const core::ffi::c_char = core::ptr::with_exposed_provenance(path);
    // SAFETY: code of this process passes a path to the call. What is none faults, and
    // ends the process as the refused call would.
    let path = unsafe { CStr::from_ptr(path) };
    if open && ALLOCATOR.contains(&path) {
        return failed(Errno::ENOENT);
    }
    if !crashed {
        return None;
    }
    let Some(i) = IMAGES.get() else {
        return failed(Errno::ENOENT);
    };
    let program = path == SELF || path.to_bytes() == i.name;
    match nr {
        libc::SYS_readlink if path == SELF => {
            let n = i.name.len().min(args[2]);
            let to: *mut u8 = core::ptr::with_exposed_provenance_mut(args[1]);
            // SAFETY: the caller's buffer has that size.
            unsafe { to.copy_from_nonoverlapping(i.name.as_ptr(), n) };
            Some(n as isize)
        }
        _ if open && (program || path == MAPS) => {
            let from = if program { i.program } else { i.maps };
            let _ = file::lseek(from, 0, libc::SEEK_SET as u32);
            match file::fcntl(from, libc::F_DUPFD_CLOEXEC, 0) {
                Ok(fd) => Some(fd as isize),
                Err(e) => failed(e),
            }
        }
        _ => failed(Errno::ENOENT),
    }
}
