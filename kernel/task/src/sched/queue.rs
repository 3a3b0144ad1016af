//! The two kinds of run queue: by virtual runtime, by priority.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Weight of nice 0.
pub(crate) const NICE_0_WEIGHT: u64 = 1024;
/// Weight of SCHED_IDLE.
pub(crate) const IDLE_WEIGHT: u64 = 3;

/// Weight of a nice value: a step of one is a factor of 1.25.
pub(crate) fn weight(nice: i32) -> u64 {
    let mut w = NICE_0_WEIGHT << 10;
    let n = nice.clamp(-20, 19);
    for _ in 0..n.unsigned_abs() {
        w = if n < 0 { w * 5 / 4 } else { w * 4 / 5 };
    }
    (w >> 10).max(1)
}

/// Waiting tasks of the fair class: the one with the least virtual runtime runs next.
pub(crate) struct FairQueue<T> {
    /// Descending, so that the next one is at the end: (virtual runtime, ticket, task).
    list: Vec<(u64, u64, T)>,
    ticket: u64,
    /// Never goes back; new-comers start here.
    pub(crate) min_vruntime: u64,
}

impl<T> FairQueue<T> {
    pub(crate) const fn new() -> FairQueue<T> {
        FairQueue {
            list: Vec::new(),
            ticket: 0,
            min_vruntime: 0,
        }
    }
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }
    /// Adds `task`; equal virtual runtimes keep their order.
    pub(crate) fn push(&mut self, vruntime: u64, task: T) {
        self.ticket += 1;
        let key = (vruntime, self.ticket);
        let at = self.list.partition_point(|e| (e.0, e.1) > key);
        self.list.insert(at, (key.0, key.1, task));
    }
    /// Least virtual runtime.
    pub(crate) fn first_vruntime(&self) -> Option<u64> {
        self.list.last().map(|e| e.0)
    }
    pub(crate) fn pop(&mut self) -> Option<T> {
        self.list.pop().map(|e| e.2)
    }
    /// Takes out the waiting task that `f` likes, the longest to wait for its turn first.
    pub(crate) fn take(&mut self, f: impl Fn(&T) -> bool) -> Option<T> {
        let i = self.list.iter().position(|e| f(&e.2))?;
        Some(self.list.remove(i).2)
    }
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.list.iter().map(|e| &e.2)
    }
    /// Moves the floor on: `running` is the virtual runtime of the running task, if it is a fair one.
    pub(crate) fn advance(&mut self, running: Option<u64>) {
        let least = match (running, self.first_vruntime()) {
            (Some(a), Some(b)) => a.min(b),
            (Some(a), None) => a,
            (None, Some(b)) => b,
            (None, None) => return,
        };
        self.min_vruntime = self.min_vruntime.max(least);
    }
}

/// Waiting tasks of the real-time classes: the highest priority first, in order of arrival.
pub(crate) struct RtQueue<T> {
    /// Descending by priority; few in practice.
    list: VecDeque<(i32, T)>,
}

impl<T> RtQueue<T> {
    pub(crate) const fn new() -> RtQueue<T> {
        RtQueue {
            list: VecDeque::new(),
        }
    }
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }
    /// Adds behind those of its priority; `front`: before them (it was preempted).
    pub(crate) fn push(&mut self, priority: i32, task: T, front: bool) {
        let at = if front {
            self.list.partition_point(|e| e.0 > priority)
        } else {
            self.list.partition_point(|e| e.0 >= priority)
        };
        self.list.insert(at, (priority, task));
    }
    pub(crate) fn first_priority(&self) -> Option<i32> {
        self.list.front().map(|e| e.0)
    }
    pub(crate) fn pop(&mut self) -> Option<T> {
        self.list.pop_front().map(|e| e.1)
    }
    pub(crate) fn take(&mut self, f: impl Fn(&T) -> bool) -> Option<T> {
        let i = self.list.iter().position(|e| f(&e.1))?;
        self.list.remove(i).map(|e| e.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_fall_by_a_quarter_per_step() {
        assert_eq!(weight(0), 1024);
        for n in -20..19 {
            let (a, b) = (weight(n), weight(n + 1));
            assert!(a > b, "nice {n}");
            let ratio = a * 100 / b;
            assert!((115..=140).contains(&ratio), "nice {n}: {ratio}");
        }
        assert_eq!(weight(100), weight(19));
    }

    #[test]
    fn fair_queue_is_ordered_and_stable() {
        let mut q = FairQueue::new();
        for (v, n) in [(30, 'c'), (10, 'a'), (20, 'x'), (20, 'y')] {
            q.push(v, n);
        }
        assert_eq!(q.first_vruntime(), Some(10));
        q.advance(None);
        assert_eq!(q.min_vruntime, 10);
        assert_eq!(q.pop(), Some('a'));
        assert_eq!(q.pop(), Some('x'));
        assert_eq!(q.take(|c| *c == 'c'), Some('c'));
        q.advance(Some(15));
        assert_eq!(q.min_vruntime, 15);
        q.advance(Some(5));
        assert_eq!(q.min_vruntime, 15);
        assert_eq!(q.pop(), Some('y'));
        assert_eq!(q.pop(), None);
    }

    #[test]
    fn rt_queue_is_fifo_within_a_priority() {
        let mut q = RtQueue::new();
        q.push(10, 'a', false);
        q.push(50, 'b', false);
        q.push(10, 'c', false);
        q.push(10, 'd', true);
        assert_eq!(q.first_priority(), Some(50));
        let order: alloc::string::String = core::iter::from_fn(|| q.pop()).collect();
        assert_eq!(order, "bdac");
    }
}
