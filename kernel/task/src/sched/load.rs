//! Load averages, getloadavg(3).

/// Time between two samples.
const PERIOD_NS: u64 = 5_000_000_000;
/// What stays of the old value per sample, in 1/65536: e^(-5/60), e^(-5/300), e^(-5/900).
const KEEP: [u64; 3] = [60_296, 64_453, 65_173];

/// Exponentially decaying numbers of runnable tasks, `1 << 16` = one task.
#[derive(Default)]
pub(crate) struct LoadAvg {
    values: [u64; 3],
    next_ns: u64,
}

impl LoadAvg {
    pub(crate) fn values(&self) -> [u64; 3] {
        self.values
    }
    /// Takes the samples that are due by `now_ns`, all with the same number of tasks.
    pub(crate) fn sample(&mut self, now_ns: u64, tasks: u64) {
        if self.next_ns == 0 {
            self.next_ns = now_ns.saturating_add(PERIOD_NS);
            return;
        }
        let mut n = 0;
        while self.next_ns <= now_ns && n < 1000 {
            for (v, k) in self.values.iter_mut().zip(KEEP) {
                *v = (*v * k + (tasks << 16) * (65_536 - k)) >> 16;
            }
            self.next_ns += PERIOD_NS;
            n += 1;
        }
        if self.next_ns <= now_ns {
            self.next_ns = now_ns.saturating_add(PERIOD_NS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converges_and_decays() {
        let mut l = LoadAvg::default();
        l.sample(1, 0);
        l.sample(3600 * 1_000_000_000, 2);
        assert!((l.values()[0] as i64 - (2 << 16)).abs() < 700);
        let before = l.values()[2];
        l.sample(2 * 3600 * 1_000_000_000, 0);
        assert!(l.values()[2] < before / 10);
    }
}
