//! Waiting for a host that refuses threads: its limit may be reached for a moment only.

use host_sys::time;

const LIMIT_NS: u64 = 200_000_000;
const NAP_NS: u64 = 5_000_000;

/// How much longer somebody who was refused tries again. By the clock, because interrupts end each
/// nap; it is looked at after a refusal only.
#[derive(Default)]
pub(crate) struct Patience {
    end_ns: Option<u64>,
}

impl Patience {
    /// Waits a little after a refusal. `false`: it has lasted too long.
    pub(crate) fn nap(&mut self) -> bool {
        let now = time::monotonic_ns();
        if now > *self.end_ns.get_or_insert(now + LIMIT_NS) {
            return false;
        }
        time::sleep_ns(NAP_NS);
        true
    }
}
