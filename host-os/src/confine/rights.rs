//! Capabilities that a kernel process which root has started keeps.

use host_sys::rights::{self, cap};
use host_sys::{Errno, task};

/// For host files: reading all of them, and leaving their access times alone.
const READING: [u32; 3] = [cap::DAC_READ_SEARCH, cap::DAC_OVERRIDE, cap::FOWNER];
/// For writable binds: what is made there belongs to whom the machine says.
const WRITING: [u32; 4] = [cap::CHOWN, cap::DAC_OVERRIDE, cap::FOWNER, cap::FSETID];
/// Best nice value as a resource limit, getrlimit(2).
const NICE_LIMIT: u64 = 40;

fn bit(n: u32) -> u64 {
    1 << n
}

/// The capabilities to keep of those in `have`. One that reads everything is enough
/// to read; some hosts give only the one that also writes.
fn kept(have: u64, writes: bool) -> u64 {
    let mut want = READING.iter().fold(0, |s, n| s | bit(*n));
    if have & bit(cap::DAC_READ_SEARCH) != 0 {
        want &= !bit(cap::DAC_OVERRIDE);
    }
    if writes {
        want |= WRITING.iter().fold(0, |s, n| s | bit(*n));
    }
    have & want
}

/// Whether this thread has capability `n` now.
pub(crate) fn has(n: u32) -> bool {
    rights::capabilities().is_ok_and(|(effective, _)| effective & bit(n) != 0)
}

/// Gives up all capabilities but those that host files need. This process has one thread.
pub(crate) fn drop(writes: bool) -> Result<(), Errno> {
    let (effective, permitted) = rights::capabilities()?;
    if effective & bit(cap::SYS_NICE) != 0 {
        // Threads that must be quick may ask for it themselves.
        let _ = task::set_limit(libc::RLIMIT_NICE, NICE_LIMIT, NICE_LIMIT);
    }
    rights::keep_capabilities(kept(effective & permitted, writes))?;
    // So the set that bounds executed programs need not be cut down as well.
    rights::no_new_privileges()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_files_need() {
        let b = |n: &[u32]| n.iter().fold(0, |s, n| s | bit(*n));
        assert_eq!(kept(!0, false), b(&[cap::DAC_READ_SEARCH, cap::FOWNER]));
        assert_eq!(kept(!0, true), b(&[0, 1, 2, 3, 4]));
        let container = !bit(cap::DAC_READ_SEARCH);
        assert_eq!(kept(container, false), b(&[cap::DAC_OVERRIDE, cap::FOWNER]));
        assert_eq!(kept(0, true), 0);
    }
}
