//! Changes that need be atomic only where there are several vCPUs.
//!
//! With one, all kernel code runs on that, and nothing interrupts it but the host's signal handlers, which come to none of
//! these words: a load and a store do, and cost a tenth.

use crate::base::atomic::{AtomicU32, Ordering, fence};
use core::sync::atomic::AtomicU64;

/// Whether this is the machine's one vCPU.
#[inline]
pub(crate) fn is_alone() -> bool {
    #[cfg(loom)]
    return false;
    #[cfg(not(loom))]
    crate::base::cpu::current_stack().alone
}

/// Puts `to` where `from` is: acquires. False: there is something else.
#[inline]
pub(crate) fn replace(word: &AtomicU32, from: u32, to: u32) -> bool {
    if !is_alone() {
        let r = word.compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed);
        return r.is_ok();
    }
    let free = word.load(Ordering::Acquire) == from;
    if free {
        word.store(to, Ordering::Relaxed);
    }
    free
}

/// Takes 1 off: releases. What was there.
#[inline]
pub(crate) fn decrement(word: &AtomicU32) -> u32 {
    if !is_alone() {
        return word.fetch_sub(1, Ordering::Release);
    }
    let was = word.load(Ordering::Relaxed);
    word.store(was.wrapping_sub(1), Ordering::Release);
    was
}

/// Orders stores before loads, for a wake-up proof.
#[inline]
pub(crate) fn barrier() {
    if !is_alone() {
        fence(Ordering::SeqCst);
    }
}

/// Adds to statistics that only kernel code adds to.
#[inline]
pub fn count<const N: usize>(counters: [(&AtomicU64, u64); N]) {
    let alone = is_alone();
    for (counter, n) in counters {
        if alone {
            let was = counter.load(Ordering::Relaxed);
            counter.store(was.wrapping_add(n), Ordering::Relaxed);
        } else {
            counter.fetch_add(n, Ordering::Relaxed);
        }
    }
}
