//! How much of a CPU the real-time classes may take, sched(7): in each period
//! (`kernel.sched_rt_period_us`) they leave what is beyond `kernel.sched_rt_runtime_us`
//! to the fair tasks that wait on the same vCPU. If none waits, they go on.

use abi::{Errno, Result};
use core::sync::atomic::{AtomicI32, Ordering};

/// The two settings.
pub struct RtLimits {
    period_us: AtomicI32,
    /// -1: all of the period.
    runtime_us: AtomicI32,
}

impl Default for RtLimits {
    fn default() -> RtLimits {
        RtLimits {
            period_us: AtomicI32::new(1_000_000),
            runtime_us: AtomicI32::new(950_000),
        }
    }
}

impl RtLimits {
    /// Length of a period in µs.
    pub fn period_us(&self) -> i32 {
        self.period_us.load(Ordering::Relaxed)
    }
    /// What the real-time classes may use of it, in µs; -1 = all.
    pub fn runtime_us(&self) -> i32 {
        self.runtime_us.load(Ordering::Relaxed)
    }
    /// Sets the period. [`Errno::EINVAL`] if it is not positive, or shorter than the run time.
    pub fn set_period_us(&self, us: i32) -> Result {
        if us <= 0 || us < self.runtime_us() {
            return Err(Errno::EINVAL);
        }
        self.period_us.store(us, Ordering::Relaxed);
        Ok(())
    }
    /// Sets the run time. [`Errno::EINVAL`] if it is less than -1, or more than the period.
    pub fn set_runtime_us(&self, us: i32) -> Result {
        if us < -1 || us > self.period_us() {
            return Err(Errno::EINVAL);
        }
        self.runtime_us.store(us, Ordering::Relaxed);
        Ok(())
    }
}

/// What the real-time tasks of a vCPU have used in the present period. Under its queue's lock.
#[derive(Default)]
pub(super) struct RtBudget {
    since_ns: u64,
    used_ns: u64,
    spent: bool,
}

impl RtBudget {
    /// Adds the time `ran_ns` of a real-time task that ends at `now`, and looks at the clock.
    pub(super) fn charge(&mut self, limits: &RtLimits, now: u64, ran_ns: u64) {
        let ns = |us: i32| us.max(0) as u64 * 1000;
        let period = ns(limits.period_us());
        if now.saturating_sub(self.since_ns) >= period {
            // A run that began in an old period counts in the new one as far as it lies in it.
            self.since_ns = now - (now - self.since_ns) % period.max(1);
            self.used_ns = ran_ns.min(now - self.since_ns);
        } else {
            self.used_ns = self.used_ns.saturating_add(ran_ns);
        }
        self.spent = limits.runtime_us() >= 0 && self.used_ns >= ns(limits.runtime_us());
    }
    /// Whether fair tasks come first until the period ends.
    pub(super) fn spent(&self) -> bool {
        self.spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    const MS: u64 = 1_000_000;

    #[test]
    fn settings() {
        let l = RtLimits::default();
        assert_eq!(l.set_runtime_us(1_000_001), Err(Errno::EINVAL));
        assert_eq!(l.set_runtime_us(-2), Err(Errno::EINVAL));
        assert_eq!(l.set_period_us(900_000), Err(Errno::EINVAL));
        assert_eq!(l.set_period_us(0), Err(Errno::EINVAL));
        l.set_runtime_us(-1).unwrap();
        l.set_period_us(1000).unwrap();
        assert_eq!((l.period_us(), l.runtime_us()), (1000, -1));
    }

    #[test]
    fn a_budget_a_period() {
        let l = RtLimits::default();
        let mut b = RtBudget::default();
        b.charge(&l, 900 * MS, 900 * MS);
        assert!(!b.spent());
        b.charge(&l, 950 * MS, 50 * MS);
        assert!(b.spent());
        // Nothing of them ran since; the period ends.
        b.charge(&l, 999 * MS, 0);
        assert!(b.spent());
        b.charge(&l, 1000 * MS, 0);
        assert!(!b.spent());
        // A run over the end of a period.
        b.charge(&l, 2100 * MS, 1100 * MS);
        assert!(!b.spent());
        b.charge(&l, 2949 * MS, 849 * MS);
        assert!(!b.spent());
        b.charge(&l, 2950 * MS, MS);
        assert!(b.spent());
        l.set_runtime_us(-1).unwrap();
        b.charge(&l, 2999 * MS, 49 * MS);
        assert!(!b.spent());
    }
}
