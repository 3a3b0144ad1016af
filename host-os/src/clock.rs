//! The machine's clock: the host's monotonic clock, starting near 0 at boot,
//! and the host's wall clock plus the guest's own offset.

use core::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use hal::dev::Clock;
use host_sys::time::{clock_ns, monotonic_ns};

/// Host's monotonic time at which the machine's clock reads 0.
static BOOT_NS: AtomicU64 = AtomicU64::new(0);
/// What `clock_settime` has added to the wall clock.
static ADJUST_NS: AtomicI64 = AtomicI64::new(0);

/// Starts the machine's clock now.
pub fn start() {
    BOOT_NS.store(monotonic_ns(), Ordering::Relaxed);
}

/// Time since the start of the machine.
pub fn machine_ns() -> u64 {
    monotonic_ns().saturating_sub(BOOT_NS.load(Ordering::Relaxed))
}

/// The clock of this machine.
#[derive(Debug, Default)]
pub struct HostClock;

impl Clock for HostClock {
    fn monotonic_ns(&self) -> u64 {
        machine_ns()
    }
    fn realtime_ns(&self) -> u64 {
        clock_ns(libc::CLOCK_REALTIME).saturating_add_signed(ADJUST_NS.load(Ordering::Relaxed))
    }
    fn coarse_realtime_ns(&self) -> u64 {
        clock_ns(libc::CLOCK_REALTIME_COARSE)
            .saturating_add_signed(ADJUST_NS.load(Ordering::Relaxed))
    }
    fn adjust_realtime(&self, delta_ns: i64) {
        ADJUST_NS.fetch_add(delta_ns, Ordering::Relaxed);
    }
}

/// The monotonic clock for kernel code that has no clock at hand (`kernel/sync`).
#[expect(unsafe_code, reason = "a symbol that kernel/sync declares")]
#[unsafe(no_mangle)]
fn lodger_monotonic_ns() -> u64 {
    machine_ns()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_near_zero_and_advances() {
        start();
        let a = lodger_monotonic_ns();
        assert!(a < 1_000_000_000);
        assert!(HostClock.monotonic_ns() >= a);
    }

    #[test]
    fn wall_clock_is_the_hosts_plus_an_offset() {
        let c = HostClock;
        let before = c.realtime_ns();
        c.adjust_realtime(3_600_000_000_000);
        let after = c.realtime_ns();
        c.adjust_realtime(-3_600_000_000_000);
        let moved = after - before;
        assert!((3_600_000_000_000..3_601_000_000_000).contains(&moved));
    }
}
