//! Priority-inheritance futexes: the word holds the owner's tid, futex(2).
//!
//! An uncontended lock or unlock is the guest's own compare-and-exchange. When
//! there are waiters the word has FUTEX_WAITERS set, and unlock comes here: it
//! hands ownership to the waiter of the highest priority by writing its tid
//! while the bucket is locked. Owners are not boosted: a waiter of a real-time
//! class waits for as long as the scheduler lets its owner wait.

use super::{Key, Queued, Waiter, key_of, robust};
use crate::{Ctx, Task, sched};
use abi::{Errno, Result, raw};
use core::sync::atomic::Ordering;
use mm::Mm;

const TID: u32 = raw::FUTEX_TID_MASK;
const WAITERS: u32 = raw::FUTEX_WAITERS;
const DIED: u32 = raw::FUTEX_OWNER_DIED;

/// What an attempt to take the word found.
enum Found {
    Taken,
    /// Held by this tid; the waiters bit is set now.
    Held(u32),
}

/// Takes the word if nobody owns it; else marks that there are waiters.
fn attempt(mm: &Mm, addr: u64, me: u32, mark: bool) -> Result<Found> {
    let old = mm.update_u32(addr, &mut |v| {
        if v & TID == 0 {
            // Waiters and a dead owner's mark stay for the new owner to see.
            Some(me | v & (WAITERS | DIED))
        } else if mark {
            Some(v | WAITERS)
        } else {
            None
        }
    })?;
    match old & TID {
        0 => Ok(Found::Taken),
        t if t == me => Err(Errno::EDEADLK),
        t => Ok(Found::Held(t)),
    }
}

/// FUTEX_TRYLOCK_PI. [`Errno::EAGAIN`] if it is held.
pub(super) fn try_lock(cx: &Ctx, addr: u64, private: bool) -> Result<u64> {
    let mm = cx.mm();
    key_of(&mm, addr, private)?;
    match attempt(&mm, addr, cx.task().tid() as u32, false)? {
        Found::Taken => Ok(0),
        Found::Held(_) => Err(Errno::EAGAIN),
    }
}

/// FUTEX_LOCK_PI, FUTEX_LOCK_PI2.
pub(super) fn lock(cx: &Ctx, addr: u64, private: bool, deadline_ns: Option<u64>) -> Result<u64> {
    let mm = cx.mm();
    let table = &cx.kernel().futexes;
    let key = key_of(&mm, addr, private)?;
    let index = table.index(key);
    let me = cx.task().tid() as u32;
    let waiter = Waiter::new(cx.task(), u32::MAX, true, index);
    loop {
        let Found::Held(owner) = attempt(&mm, addr, me, true)? else {
            return Ok(0);
        };
        let alive = cx.kernel().pids.task(owner as i32).is_some();
        let mut b = table.bucket(index).lock();
        b.reserve(1);
        match mm.peek_u32(addr) {
            // Changed meanwhile: the owner let go, or the guest wrote something else.
            Some(v) if v != owner | WAITERS && v != owner | WAITERS | DIED => continue,
            None => continue,
            Some(_) => {}
        }
        if !alive {
            return Err(Errno::ESRCH);
        }
        // Counted before it is visible, so that an exiting owner that sees no
        // waiter has left a word that the look above would have refused.
        table.pi_waiters.fetch_add(1, Ordering::SeqCst);
        b.push(Queued {
            key,
            waiter: waiter.clone(),
        });
        break;
    }
    let r = match waiter.wait(deadline_ns) {
        Err(e) if table.remove(&waiter) => Err(match e {
            Errno::ERESTARTSYS => Errno::ERESTARTNOINTR,
            e => e,
        }),
        // Woken means handed over: the word holds our tid.
        _ => Ok(0),
    };
    table.pi_waiters.fetch_sub(1, Ordering::SeqCst);
    r
}

/// FUTEX_UNLOCK_PI. [`Errno::EPERM`] if the caller does not own the word.
pub(super) fn unlock(cx: &Ctx, addr: u64, private: bool) -> Result<u64> {
    let mm = cx.mm();
    let key = key_of(&mm, addr, private)?;
    let me = cx.task().tid() as u32;
    hand_over(cx.task(), &mm, addr, key, &mut |v| {
        if v & TID == me {
            Ok(v & !DIED & WAITERS)
        } else {
            Err(Errno::EPERM)
        }
    })?;
    Ok(0)
}

/// Whether somebody waits for the ownership of `key`.
pub(super) fn has_waiters(task: &Task, key: Key) -> bool {
    let table = &task.kernel.futexes;
    let b = table.bucket(table.index(key)).lock();
    b.iter().any(|q| q.key == key && q.waiter.pi)
}

/// Gives the word to its foremost waiter, or frees it. `check` sees the old
/// value and says which mark bits besides the tid the new one keeps.
pub(super) fn hand_over(
    task: &Task,
    mm: &Mm,
    addr: u64,
    key: Key,
    check: &mut dyn FnMut(u32) -> Result<u32>,
) -> Result {
    let table = &task.kernel.futexes;
    loop {
        // Makes the page writable and present, so that the update below need not sleep.
        let mut refused = None;
        mm.update_u32(addr, &mut |v| match check(v) {
            Ok(_) => Some(v),
            Err(e) => {
                refused = Some(e);
                None
            }
        })?;
        if let Some(e) = refused {
            return Err(e);
        }
        let mut b = table.bucket(table.index(key)).lock();
        let ours = |q: &Queued| q.key == key && q.waiter.pi;
        let next = b
            .iter()
            .enumerate()
            .filter(|(_, q)| ours(q))
            // The longest waiting of the highest priority: max_by_key takes the last maximum.
            .rev()
            .max_by_key(|(_, q)| sched::params(&q.waiter.task).priority)
            .map(|(i, q)| (i, q.waiter.task.tid() as u32));
        let more = b.iter().filter(|q| ours(q)).count() > 1;
        let mut refused = None;
        let done = mm.try_update_u32(addr, &mut |v| match check(v) {
            Ok(keep) => Some(match next {
                Some((_, tid)) if more => tid | WAITERS | keep & DIED,
                Some((_, tid)) => tid | keep & DIED,
                None => keep & DIED,
            }),
            Err(e) => {
                refused = Some(e);
                None
            }
        });
        if done.is_none() {
            continue;
        }
        if let Some(e) = refused {
            return Err(e);
        }
        let gone = next.map(|(i, _)| b.remove(i));
        if let Some(q) = &gone {
            q.waiter.finish();
        }
        drop(b);
        drop(gone);
        return Ok(());
    }
}

/// An exiting task leaves the words it owns to their waiters, marked as orphaned.
/// Words without waiters in the kernel are the robust list's business.
pub(super) fn release_owned(task: &Task, mm: &Mm) {
    let table = &task.kernel.futexes;
    if table.pi_waiters.load(Ordering::SeqCst) == 0 {
        return;
    }
    let me = task.tid() as u32;
    for index in 0..super::BUCKETS {
        let keys: alloc::vec::Vec<Key> = {
            let b = table.bucket(index).lock();
            b.iter().filter(|q| q.waiter.pi).map(|q| q.key).collect()
        };
        for key in keys {
            // Only private words can be found from their key; shared ones are left to the robust list.
            if key.0 == core::ptr::from_ref(mm).addr() {
                let _ = hand_over(task, mm, key.1, key, &mut |v| robust::orphaned(v, me));
            }
        }
    }
}
