//! futex_waitv(2): waiting for any of several words.
//!
//! The task has one waiter a word, queued one after the other; each word is compared
//! under its bucket's lock as in futex(2), so a change of any of them is either seen
//! here or finds the waiter there. The first wake-up ends the wait.

use super::{Queued, Waiter, key_of, wait_until};
use crate::Ctx;
use crate::clock;
use abi::process::FutexWaitv;
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

/// futex_waitv(2): the index of a word that was woken. `timeout` (guest address, 0 = none) is absolute on `clock`.
pub fn waitv(
    cx: &Ctx,
    entries: u64,
    count: u32,
    flags: u32,
    timeout: u64,
    clock: i32,
) -> Result<u64> {
    if flags != 0 || count == 0 || count > raw::FUTEX_WAITV_MAX || entries == 0 {
        return Err(Errno::EINVAL);
    }
    let deadline = deadline(cx, timeout, clock)?;
    let mm = cx.mm();
    let mut words = Vec::with_capacity(count as usize);
    for i in 0..u64::from(count) {
        let at = entries.checked_add(i * size_of::<FutexWaitv>() as u64);
        let e: FutexWaitv = mm.get(at.ok_or(Errno::EFAULT)?)?;
        let known = raw::FUTEX2_SIZE_MASK | raw::FUTEX2_PRIVATE;
        if e.flags & !known != 0
            || e.reserved != 0
            || e.flags & raw::FUTEX2_SIZE_MASK != raw::FUTEX2_SIZE_U32
        {
            return Err(Errno::EINVAL);
        }
        let val = u32::try_from(e.val).map_err(|_| Errno::EINVAL)?;
        words.push((e.uaddr, val, e.flags & raw::FUTEX2_PRIVATE != 0));
    }
    let mut keys = Vec::with_capacity(words.len());
    for &(addr, _, private) in &words {
        keys.push(key_of(mm, addr, private)?);
    }
    let mut waiters = Vec::with_capacity(words.len());
    let mut failed = None;
    for (&(addr, val, _), &key) in words.iter().zip(&keys) {
        match enqueue(cx, addr, val, key) {
            Ok(w) => waiters.push(w),
            Err(e) => {
                failed = Some(e);
                break;
            }
        }
    }
    let result = match failed {
        Some(e) => Err(e),
        None => wait_until(deadline, || {
            waiters.iter().any(|w| w.woken.load(Ordering::SeqCst))
        }),
    };
    // Takes the rest out; whoever was woken meanwhile counts, so that no wake-up is lost.
    let mut woken = None;
    for (i, w) in waiters.iter().enumerate() {
        if !cx.kernel().futexes.remove(w) {
            woken = Some(i as u64);
        }
    }
    match (woken, result) {
        (Some(i), _) => Ok(i),
        (None, Err(e)) => Err(e),
        // Unreachable: without an error one of them was woken.
        (None, Ok(())) => Err(Errno::EINTR),
    }
}

/// The deadline of an absolute time on `clock`, the real-time or the monotonic one.
fn deadline(cx: &Ctx, timeout: u64, clock: i32) -> Result<Option<u64>> {
    if timeout == 0 {
        return Ok(None);
    }
    if !matches!(
        u32::try_from(clock),
        Ok(raw::CLOCK_REALTIME | raw::CLOCK_MONOTONIC)
    ) {
        return Err(Errno::EINVAL);
    }
    let ts: abi::time::Timespec = cx.mm().get(timeout)?;
    clock::deadline(cx, clock, ts.to_ns()?).map(Some)
}

/// Queues a waiter for a word that still has its value. [`Errno::EAGAIN`].
fn enqueue(cx: &Ctx, addr: u64, val: u32, key: super::Key) -> Result<Arc<Waiter>> {
    let table = &cx.kernel().futexes;
    let index = table.index(key);
    let waiter = Waiter::new(cx.task(), u32::MAX, None, index);
    table.enqueue(
        cx.mm(),
        addr,
        val,
        index,
        Queued {
            key,
            waiter: waiter.clone(),
        },
    )?;
    Ok(waiter)
}
