//! Priority-inheritance futexes: the word holds the owner's tid, futex(2).
//!
//! An uncontended lock or unlock is the guest's own compare-and-exchange. Who
//! finds the word taken comes here, sets FUTEX_WAITERS in it and waits; from then
//! on unlocking comes here too, and gives the word to the waiter of the highest
//! priority by writing its tid. [`owners`](super::owners) keeps who owns what.
//!
//! The word of a dead owner cannot be written by it where only the waiter can
//! reach it. So the waiter becomes the owner in the table, and writes the word
//! itself, with FUTEX_OWNER_DIED, before it returns; whoever looks in between
//! finds the table, not the word, to be right.
//!
//! Every operation looks at the word without a lock first, to make its page present
//! and to find the owner's task, then again under the bucket's lock and that of the
//! owners; if the word is another one by then, it starts anew.

use super::owners::PiTable;
use super::{FutexTable, Key, Queued, Waiter, key_of};
use crate::task::flag;
use crate::{Ctx, Task};
use abi::{Errno, Result, raw};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use hal::cpu::Waiter as _;
use mm::Mm;

pub(super) const TID: u32 = raw::FUTEX_TID_MASK;
pub(super) const WAITERS: u32 = raw::FUTEX_WAITERS;
pub(super) const DIED: u32 = raw::FUTEX_OWNER_DIED;

/// What an attempt to take a word led to.
pub(super) enum Step {
    /// The word was free and now has the tid.
    Taken,
    /// It is held by this task; its waiters bit is set.
    Held(Arc<Task>),
    /// The word has changed, or is not resident: look again.
    Again,
}

/// A word as it was seen without a lock.
pub(super) struct Seen {
    value: u32,
    owner: Option<Arc<Task>>,
}

/// Looks at the word and makes it present, and `writable` if it is so by its mapping.
pub(super) fn look(cx: &Ctx, mm: &Mm, addr: u64) -> Result<Seen> {
    cx.task().yield_if_needed();
    let value = loop {
        match mm.update_u32(addr, &mut Some) {
            // The guest changes it all the time.
            Err(Errno::EAGAIN) => cx.task().yield_if_needed(),
            r => break r?,
        }
    };
    let owner = match value & TID {
        0 => None,
        t => cx.kernel().pids.task(t as i32),
    };
    Ok(Seen { value, owner })
}

/// Exchanges the word if it is `old`, without sleeping.
fn exchange(mm: &Mm, addr: u64, old: u32, new: u32) -> bool {
    mm.try_update_u32(addr, &mut |v| (v == old).then_some(new)) == Some(old)
}

/// Whether a task waits on the word for a plain wake-up.
pub(super) fn has_plain(bucket: &[Queued], key: Key) -> bool {
    bucket.iter().any(|q| q.key == key)
}

/// Takes the word for `task` if it is free, else finds its owner. `mark`: bits that a word newly taken gets.
/// `plain`: some task waits on it with FUTEX_WAIT.
///
/// Errors: [`Errno::EDEADLK`] (it is the task's already), [`Errno::EINVAL`] (word and waiters do not
/// fit together), [`Errno::ESRCH`] (no such owner), [`Errno::EPERM`] (the owner is no program).
/// `seen` is then what the word has become.
#[expect(clippy::too_many_arguments)]
pub(super) fn attempt(
    pi: &PiTable,
    mm: &Mm,
    addr: u64,
    key: Key,
    seen: &mut Seen,
    task: &Task,
    mark: u32,
    plain: bool,
) -> Result<Step> {
    let v = seen.value;
    if mm.peek_u32(addr) != Some(v) {
        return Ok(Step::Again);
    }
    let me = task.tid() as u32;
    if v & TID == me {
        return Err(Errno::EDEADLK);
    }
    if let Some(s) = pi.state(key) {
        if !s.inherited && v & TID != s.owner.tid() as u32 {
            return Err(Errno::EINVAL);
        }
        return Ok(Step::Held(s.owner.clone()));
    }
    if plain {
        return Err(Errno::EINVAL);
    }
    let (new, step) = if v & TID == 0 {
        (me | v & DIED | mark, Step::Taken)
    } else {
        let owner = seen.owner.clone().ok_or(Errno::ESRCH)?;
        if owner.is_kernel() {
            return Err(Errno::EPERM);
        }
        // It has let go of all it had, this word was not among it, and it will not come back.
        if owner.flag(flag::FUTEX_DEAD) {
            return Err(Errno::ESRCH);
        }
        (v | WAITERS, Step::Held(owner))
    };
    if !exchange(mm, addr, v, new) {
        return Ok(Step::Again);
    }
    seen.value = new;
    if matches!(step, Step::Taken) {
        seen.owner = Some(task.arc());
    }
    Ok(step)
}

/// FUTEX_TRYLOCK_PI. [`Errno::EAGAIN`] if it is held; else as [`attempt`].
pub(super) fn try_lock(cx: &Ctx, addr: u64, private: bool) -> Result<u64> {
    match start(cx, addr, private, None)? {
        None => Ok(0),
        Some(_) => Err(Errno::EAGAIN),
    }
}

/// FUTEX_LOCK_PI, FUTEX_LOCK_PI2. Errors: as [`attempt`], [`Errno::ETIMEDOUT`], a restart.
pub(super) fn lock(cx: &Ctx, addr: u64, private: bool, deadline_ns: Option<u64>) -> Result<u64> {
    let waiter = Waiter::new(cx.task(), u32::MAX, None, super::NOWHERE as usize);
    let Some(key) = start(cx, addr, private, Some(&waiter))? else {
        return Ok(0);
    };
    let end = waiter.wait(deadline_ns);
    finish(cx, addr, key, &waiter, end).map_err(|e| match e {
        Errno::ERESTARTSYS => Errno::ERESTARTNOINTR,
        e => e,
    })
}

/// Takes the word, or makes `waiter`, if there is one, wait for it: the key of a word that is held.
fn start(cx: &Ctx, addr: u64, private: bool, waiter: Option<&Arc<Waiter>>) -> Result<Option<Key>> {
    let mm = cx.mm();
    let table = &cx.kernel().futexes;
    let key = key_of(mm, addr, private)?;
    loop {
        let mut seen = look(cx, mm, addr)?;
        let bucket = table.bucket(table.index(key)).lock();
        let plain = has_plain(&bucket, key);
        let r = table.owners.with(|pi| {
            let step = attempt(pi, mm, addr, key, &mut seen, cx.task(), 0, plain)?;
            if let (Step::Held(owner), Some(w)) = (&step, waiter) {
                pi.block(key, owner.clone(), w.clone())?;
            }
            Ok(step)
        });
        drop(bucket);
        match r? {
            Step::Taken => return Ok(None),
            Step::Held(_) => return Ok(Some(key)),
            Step::Again => {}
        }
    }
}

/// The end of a wait for the word: `end` says why it ended. An heir writes the word.
/// Errors: that of `end`, if the word was not given to it; [`Errno::EFAULT`].
pub(super) fn finish(cx: &Ctx, addr: u64, key: Key, w: &Arc<Waiter>, end: Result) -> Result<u64> {
    let table = &cx.kernel().futexes;
    if let Err(e) = end {
        let given = table.owners.with(|pi| {
            let given = w.woken.load(Ordering::SeqCst);
            if !given {
                pi.unblock(key, w);
            }
            given
        });
        if !given {
            return Err(e);
        }
    }
    if w.inherits.load(Ordering::Relaxed) {
        inherit(cx, table, addr, key)?;
    }
    Ok(0)
}

/// Writes the tid of the current task, the heir of a dead owner, to the word. If it
/// cannot, the next waiter inherits. [`Errno::EFAULT`].
fn inherit(cx: &Ctx, table: &FutexTable, addr: u64, key: Key) -> Result {
    let mm = cx.mm();
    let word = cx.task().tid() as u32 | WAITERS | DIED;
    loop {
        if let Err(e) = look(cx, mm, addr) {
            table.owners.with(|pi| pi.hand_over(key, true));
            return Err(e);
        }
        let written = table.owners.with(|pi| {
            let written = mm.try_update_u32(addr, &mut |_| Some(word)).is_some();
            if written {
                pi.settle(key);
            }
            written
        });
        if written {
            return Ok(());
        }
    }
}

/// FUTEX_UNLOCK_PI. [`Errno::EPERM`] if the caller does not own the word, [`Errno::EINVAL`] if word
/// and waiters do not fit together.
pub(super) fn unlock(cx: &Ctx, addr: u64, private: bool) -> Result<u64> {
    let mm = cx.mm();
    let table = &cx.kernel().futexes;
    let key = key_of(mm, addr, private)?;
    let me = cx.task().tid() as u32;
    loop {
        let v = look(cx, mm, addr)?.value;
        if v & TID != me {
            return Err(Errno::EPERM);
        }
        let bucket = table.bucket(table.index(key)).lock();
        let done = table.owners.with(|pi| {
            let Some(s) = pi.state(key) else {
                if has_plain(&bucket, key) {
                    return Err(Errno::EINVAL);
                }
                return Ok(exchange(mm, addr, v, 0));
            };
            if !core::ptr::eq(&*s.owner, cx.task()) {
                return Err(Errno::EINVAL);
            }
            let heir = s.next().map_or(0, |w| w.task.tid() as u32 | WAITERS);
            let done = exchange(mm, addr, v, heir);
            if done {
                pi.hand_over(key, false);
            }
            Ok(done)
        })?;
        drop(bucket);
        if done {
            return Ok(0);
        }
    }
}

/// The current task ends (`ends`) or begins a new program: its words go to their waiters.
pub(super) fn release_owned(task: &Task, ends: bool) {
    let owners = &task.kernel.futexes.owners;
    owners.with(|pi| pi.release(task, ends));
}

/// A task's priority was set: it may wait elsewhere in the lists, and boost another.
pub(crate) fn priority_changed(task: &Task) {
    let owners = &task.kernel.futexes.owners;
    owners.with(|pi| pi.priority_changed(task));
}
