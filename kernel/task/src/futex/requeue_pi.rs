//! FUTEX_WAIT_REQUEUE_PI and FUTEX_CMP_REQUEUE_PI, futex(2): waiting for a condition, and then
//! for the PI lock that guards it, in one call.
//!
//! Such a waiter hangs in the bucket of the first word and knows the second one.
//! It is moved under the first bucket's lock and that of the owners, both held: whoever finds
//! it gone from the bucket finds it among the waiters of the lock, or as its owner.

use super::pi::{self, Step, WAITERS};
use super::{Queued, Waiter, key_of};
use crate::Ctx;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// FUTEX_WAIT_REQUEUE_PI: waits on the word at `addr`, of value `val`, until it owns the one at `addr2`.
///
/// Errors: [`Errno::EAGAIN`] (another value; a signal came when it already waited for the lock),
/// [`Errno::ETIMEDOUT`], [`Errno::EINVAL`], a restart.
pub(super) fn wait(
    cx: &Ctx,
    addr: u64,
    private: bool,
    val: u32,
    deadline_ns: Option<u64>,
    addr2: u64,
) -> Result<u64> {
    let mm = cx.mm();
    let table = &cx.kernel().futexes;
    let key2 = key_of(mm, addr2, private)?;
    let key = key_of(mm, addr, private)?;
    if key == key2 {
        return Err(Errno::EINVAL);
    }
    let index = table.index(key);
    let waiter = Waiter::new(cx.task(), u32::MAX, Some(key2), index);
    let queued = Queued {
        key,
        waiter: waiter.clone(),
    };
    table.enqueue(mm, addr, val, index, queued)?;
    let end = waiter.wait(deadline_ns);
    if let Err(e) = end {
        let mut bucket = table.bucket(index).lock();
        let at = bucket.iter().position(|q| Arc::ptr_eq(&q.waiter, &waiter));
        if let Some(at) = at {
            let q = bucket.remove(at);
            drop(bucket);
            drop(q);
            return Err(match e {
                Errno::ERESTARTSYS => Errno::ERESTARTNOINTR,
                e => e,
            });
        }
    }
    pi::finish(cx, addr2, key2, &waiter, end).map_err(|e| match e {
        // The condition has come true: the call cannot be begun again.
        Errno::ERESTARTSYS => Errno::EAGAIN,
        e => e,
    })
}

/// FUTEX_CMP_REQUEUE_PI: makes up to 1 + `requeue_n` waiters of the word at `addr`, if it is `val`, wait for
/// the lock at `addr2`; if that is free, the first of them gets it. How many of them.
///
/// Errors: [`Errno::EAGAIN`] (another value), [`Errno::EINVAL`] (also: somebody waits who does not want
/// this lock), those of [`pi::attempt`], [`Errno::EDEADLK`].
pub(super) fn requeue(
    cx: &Ctx,
    addr: u64,
    private: bool,
    wake_n: u32,
    requeue_n: u32,
    addr2: u64,
    val: u32,
) -> Result<u64> {
    if wake_n != 1 || (requeue_n as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let mm = cx.mm();
    let table = &cx.kernel().futexes;
    let key = key_of(mm, addr, private)?;
    let key2 = key_of(mm, addr2, private)?;
    if key == key2 {
        return Err(Errno::EINVAL);
    }
    let mark = if requeue_n > 0 { WAITERS } else { 0 };
    let most = u64::from(requeue_n) + 1;
    let mut count = 0;
    loop {
        if mm.update_u32(addr, &mut |_| None)? != val {
            return if count > 0 {
                Ok(count)
            } else {
                Err(Errno::EAGAIN)
            };
        }
        let mut seen = pi::look(cx, mm, addr2)?;
        let plain = pi::has_plain(&table.bucket(table.index(key2)).lock(), key2);
        let mut gone: Vec<Queued> = Vec::new();
        let mut bucket = table.bucket(table.index(key)).lock();
        match mm.peek_u32(addr) {
            Some(v) if v == val => {}
            _ => continue,
        }
        loop {
            let at = bucket.iter().position(|q| q.key == key);
            let Some((at, q)) = at.and_then(|at| Some((at, bucket.get(at)?))) else {
                return Ok(count);
            };
            let waiter = &q.waiter;
            if waiter.lock != Some(key2) {
                return Err(Errno::EINVAL);
            }
            gone.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            let step = table.owners.with(|o| {
                let task = &waiter.task;
                let step = pi::attempt(o, mm, addr2, key2, &mut seen, task, mark, plain)?;
                match &step {
                    Step::Again => {}
                    Step::Taken => waiter.finish(),
                    Step::Held(owner) => o.block(key2, owner.clone(), waiter.clone())?,
                }
                Ok(step)
            })?;
            if matches!(step, Step::Again) {
                // The lock's word has changed, or its page has gone.
                break;
            }
            gone.push(bucket.remove(at));
            count += 1;
            if count == most {
                return Ok(count);
            }
        }
    }
}
