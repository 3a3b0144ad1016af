//! The machine's clock: the host's monotonic clock, starting near 0 at boot,
//! and the host's wall clock plus the guest's own offset.
//!
//! The computation can be replaced ([`set_source`]) by the one that guest
//! programs do themselves in the vDSO, so that both always agree.

use core::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use hal::dev::Clock;
use host_sys::time::{clock_ns, monotonic_ns};
use std::sync::OnceLock;

/// Host's monotonic time at which the machine's clock reads 0.
static BOOT_NS: AtomicU64 = AtomicU64::new(0);
/// What `clock_settime` has added to the wall clock.
static ADJUST_NS: AtomicI64 = AtomicI64::new(0);
static SOURCE: OnceLock<Source> = OnceLock::new();

/// A replacement for the computation of this module.
#[derive(Clone, Copy)]
pub struct Source {
    /// Monotonic time of the host in ns.
    pub host_monotonic_ns: fn() -> u64,
    /// Wall-clock time of the host in ns.
    pub host_realtime_ns: fn() -> u64,
    /// Told the new sum of all adjustments of the wall clock, for the vDSO's data.
    pub realtime_adjusted: fn(total_ns: i64),
}

/// Starts the machine's clock now. Returns the host's monotonic time of its
/// zero, which the engine needs to program host timers.
pub fn start() -> u64 {
    let now = monotonic_ns();
    BOOT_NS.store(now, Ordering::Relaxed);
    now
}

/// Host's monotonic time at which the machine's clock reads 0.
pub fn boot_ns() -> u64 {
    BOOT_NS.load(Ordering::Relaxed)
}

/// Replaces the computation; once, before the machine runs.
pub fn set_source(source: Source) {
    let _ = SOURCE.set(source);
}

/// Time since the start of the machine.
pub fn machine_ns() -> u64 {
    let now = match SOURCE.get() {
        Some(s) => (s.host_monotonic_ns)(),
        None => monotonic_ns(),
    };
    now.saturating_sub(boot_ns())
}

/// The clock of this machine.
#[derive(Debug, Default)]
pub struct HostClock;

impl Clock for HostClock {
    fn monotonic_ns(&self) -> u64 {
        machine_ns()
    }
    fn realtime_ns(&self) -> u64 {
        let now = match SOURCE.get() {
            Some(s) => (s.host_realtime_ns)(),
            None => clock_ns(libc::CLOCK_REALTIME),
        };
        now.saturating_add_signed(ADJUST_NS.load(Ordering::Relaxed))
    }
    fn adjust_realtime(&self, delta_ns: i64) {
        let total = ADJUST_NS
            .fetch_add(delta_ns, Ordering::Relaxed)
            .wrapping_add(delta_ns);
        if let Some(s) = SOURCE.get() {
            (s.realtime_adjusted)(total);
        }
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
        let boot = start();
        assert_eq!(boot, boot_ns());
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
