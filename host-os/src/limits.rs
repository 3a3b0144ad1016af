//! What the host allows this process: descriptors.

use host_sys::{Errno, fd, file, task};

/// Descriptors of the kernel process that are not for host files: the
/// engine's (per user process and vCPU), devices, and a reserve.
const RESERVE: u64 = 256;
/// Descriptors that host directories need at least.
const FILES_MIN: u64 = 8;

/// Raises the soft limit on descriptors to the hard one. Returns how many
/// descriptors the host directories may hold.
pub fn raise_descriptors() -> usize {
    let Ok((mut soft, hard)) = task::limit(libc::RLIMIT_NOFILE) else {
        return 16;
    };
    if soft < hard && task::set_limit(libc::RLIMIT_NOFILE, hard, hard).is_ok() {
        soft = hard;
    }
    file_budget(soft)
}

/// The share of `limit` descriptors that host directories may hold: half of
/// what is left beside the reserve, but some even if the limit is tiny.
fn file_budget(limit: u64) -> usize {
    let share = if limit >= 2 * RESERVE {
        (limit - RESERVE) / 2
    } else {
        limit / 4
    };
    share.clamp(FILES_MIN, 8192) as usize
}

/// Whether the host directories can still hold some descriptors; `any` is an open one.
///
/// # Errors
/// EMFILE.
pub fn check_descriptors(any: i32) -> Result<(), Errno> {
    let (soft, _) = task::limit(libc::RLIMIT_NOFILE)?;
    // The host gives the lowest free number.
    let next = file::fcntl(any, libc::F_DUPFD_CLOEXEC, 0).map_err(|_| Errno::EMFILE)?;
    fd::close(next as i32);
    match next as u64 + FILES_MIN > soft {
        true => Err(Errno::EMFILE),
        false => Ok(()),
    }
}

/// Whether descriptor `fd` is open.
pub fn is_open(fd: i32) -> bool {
    file::fcntl(fd, libc::F_GETFD, 0).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_fits_the_limit() {
        assert_eq!(file_budget(32), 8);
        assert_eq!(file_budget(256), 64);
        assert_eq!(file_budget(1024), 384);
        assert_eq!(file_budget(1 << 20), 8192);
    }
}
