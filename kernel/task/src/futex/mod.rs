//! futex(2): waiting for a word of memory to change.
//!
//! A word has a *key*, (object, offset): the address space for private words,
//! the page cache for shared ones. Waiters of a key hang in one of the
//! [`FutexTable`]'s buckets.
//!
//! No wake-up is lost: a waiter looks at the word and joins the bucket under the
//! bucket's lock; a waker has changed the word before it takes the same lock. So
//! either the waiter sees the new word, or the waker sees the waiter.
//!
//! - [`pi`]: words that name their owner; [`owners`]: who owns what, boosts, circles.
//! - [`requeue_pi`]: from a condition to such a word.
//! - [`robust`]: what happens when an owner dies.
//! - [`mod@waitv`]: several words at once.

mod owners;
mod pi;
mod requeue_pi;
pub(crate) mod robust;
mod waitv;

pub(crate) use pi::priority_changed;
pub use robust::{get_robust_list, set_robust_list};
pub use waitv::waitv;

use crate::clock;
use crate::level;
use crate::{Ctx, Task};
use abi::{Errno, Result, raw};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use hal::cpu::Waiter as _;
use mm::Mm;
use sync::SpinLock;

/// Number of buckets; a power of two.
const BUCKETS: usize = 256;
/// Most waiters taken out of a bucket at a time: lists made under its lock stay short.
const BATCH: usize = 128;

/// Not in any bucket.
const NOWHERE: u32 = u32::MAX;

/// Identity of a word.
type Key = (usize, u64);

/// One waiting task.
struct Waiter {
    task: Arc<Task>,
    /// Bits of FUTEX_WAIT_BITSET; a wake must share one.
    bitset: u32,
    /// The PI word that it wants to own in the end (FUTEX_WAIT_REQUEUE_PI): no plain wake for it.
    lock: Option<Key>,
    /// Bucket it is in; [`NOWHERE`] once woken, on its way between two (requeue), or if it waits for a PI word.
    bucket: AtomicU32,
    /// It was woken, or given the PI word.
    woken: AtomicBool,
    /// The PI word was a dead task's; valid once `woken`.
    inherits: AtomicBool,
}

/// A waiter in a bucket.
struct Queued {
    key: Key,
    waiter: Arc<Waiter>,
}

type Bucket = SpinLock<Vec<Queued>, { level::TASK }>;

/// All futex buckets of a machine.
pub struct FutexTable {
    buckets: Box<[Bucket]>,
    /// Owners of PI words that somebody waits for.
    owners: owners::Owners,
}

impl FutexTable {
    pub(crate) fn new() -> FutexTable {
        FutexTable {
            buckets: (0..BUCKETS).map(|_| SpinLock::new(Vec::new())).collect(),
            owners: owners::Owners::default(),
        }
    }
    fn index(&self, key: Key) -> usize {
        // Fibonacci hashing of both halves.
        let h = (key.0 as u64 ^ key.1.rotate_left(32) ^ key.1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (h >> 32) as usize & (BUCKETS - 1)
    }
    fn bucket(&self, index: usize) -> &Bucket {
        &self.buckets[index & (BUCKETS - 1)]
    }
    /// Puts a waiter for the word at `addr` into its bucket if the word is `val`; else [`Errno::EAGAIN`].
    fn enqueue(&self, mm: &Mm, addr: u64, val: u32, index: usize, queued: Queued) -> Result {
        loop {
            // Faults the page in; the answer is looked at again under the lock.
            if mm.update_u32(addr, &mut |_| None)? != val {
                return Err(Errno::EAGAIN);
            }
            let mut b = self.bucket(index).lock();
            b.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            match mm.peek_u32(addr) {
                None => continue,
                Some(v) if v != val => return Err(Errno::EAGAIN),
                Some(_) => {}
            }
            b.push(queued);
            return Ok(());
        }
    }
    /// Wakes up to `n` waiters of `key` that share a bit with `bitset`. [`Errno::EINVAL`] if
    /// one of them waits for a PI word.
    fn wake(&self, key: Key, n: usize, bitset: u32) -> Result<usize> {
        if self.owners.contended(key) {
            return Err(Errno::EINVAL);
        }
        let mut count = 0;
        loop {
            let most = (n - count).min(BATCH);
            let mut gone: Vec<Queued> = Vec::new();
            let mut b = self.bucket(self.index(key)).lock();
            let mut i = 0;
            while i < b.len() && gone.len() < most {
                let q = &b[i];
                if q.key == key && q.waiter.lock.is_some() {
                    return Err(Errno::EINVAL);
                }
                if q.key == key && q.waiter.bitset & bitset != 0 {
                    let q = b.remove(i);
                    q.waiter.finish();
                    gone.push(q);
                } else {
                    i += 1;
                }
            }
            drop(b);
            count += gone.len();
            if gone.len() < BATCH {
                return Ok(count);
            }
        }
    }
    /// Takes a waiter out before it was woken; `false`: it has been woken.
    fn remove(&self, w: &Arc<Waiter>) -> bool {
        loop {
            if w.woken.load(Ordering::Acquire) {
                return false;
            }
            let at = w.bucket.load(Ordering::Acquire);
            if at == NOWHERE {
                // Between two buckets, or just being woken: another vCPU is about to say.
                core::hint::spin_loop();
                continue;
            }
            let mut b = self.bucket(at as usize).lock();
            if let Some(i) = b.iter().position(|q| Arc::ptr_eq(&q.waiter, w)) {
                let q = b.remove(i);
                drop(b);
                drop(q);
                return true;
            }
        }
    }
}

impl Waiter {
    fn new(task: &Task, bitset: u32, lock: Option<Key>, bucket: usize) -> Arc<Waiter> {
        Arc::new(Waiter {
            task: task.arc(),
            bitset,
            lock,
            bucket: AtomicU32::new(bucket as u32),
            woken: AtomicBool::new(false),
            inherits: AtomicBool::new(false),
        })
    }
    /// Wakes it; it has just been taken out of its bucket or of a PI word's waiters, whose lock is held.
    fn finish(&self) {
        self.bucket.store(NOWHERE, Ordering::Release);
        // The waiter announces its wait before it looks at this flag, and wake()
        // looks at the announcement after the store.
        self.woken.store(true, Ordering::SeqCst);
        self.task.wake();
    }
    /// Waits until woken. Errors: [`Errno::ERESTARTSYS`], [`Errno::ETIMEDOUT`]; the waiter may be woken all the same.
    fn wait(&self, deadline_ns: Option<u64>) -> Result {
        wait_until(deadline_ns, || self.woken.load(Ordering::SeqCst))
    }
}

/// Waits until a waiter of this task was woken, which `woken` says. Errors as [`Waiter::wait`].
fn wait_until(deadline_ns: Option<u64>, woken: impl Fn() -> bool) -> Result {
    let me = crate::current();
    loop {
        me.prepare_wait(true);
        if woken() {
            me.cancel_wait();
            return Ok(());
        }
        if me.interrupted() {
            me.cancel_wait();
            return Err(Errno::ERESTARTSYS);
        }
        if deadline_ns.is_some_and(|d| me.kernel.now() >= d) {
            me.cancel_wait();
            return Err(Errno::ETIMEDOUT);
        }
        me.wait(deadline_ns);
    }
}

/// futex(2) with its raw arguments: `timeout` is a guest address or `val2` as the operation has it.
pub fn futex(
    cx: &Ctx,
    addr: u64,
    op: u32,
    val: u32,
    timeout: u64,
    addr2: u64,
    val3: u32,
) -> Result<u64> {
    let command = op & raw::FUTEX_CMD_MASK as u32;
    let private = op & raw::FUTEX_PRIVATE_FLAG != 0;
    let realtime = op & raw::FUTEX_CLOCK_REALTIME != 0;
    if realtime
        && !matches!(
            command,
            raw::FUTEX_WAIT
                | raw::FUTEX_WAIT_BITSET
                | raw::FUTEX_WAIT_REQUEUE_PI
                | raw::FUTEX_LOCK_PI2
        )
    {
        return Err(Errno::ENOSYS);
    }
    let val2 = timeout as u32;
    match command {
        raw::FUTEX_WAIT => {
            let deadline = relative(cx, timeout)?;
            let r = wait(cx, addr, private, val, u32::MAX, deadline);
            if r == Err(Errno::ERESTARTSYS) && deadline.is_some() {
                cx.task().set_restart(Box::new(move |cx| {
                    let r = wait(cx, addr, private, val, u32::MAX, deadline);
                    // A second interruption ends the call.
                    r.map_err(|e| {
                        if e == Errno::ERESTARTSYS {
                            Errno::EINTR
                        } else {
                            e
                        }
                    })
                }));
                return Err(Errno::ERESTART_RESTARTBLOCK);
            }
            r
        }
        raw::FUTEX_WAIT_BITSET => {
            let deadline = absolute(cx, timeout, realtime)?;
            wait(cx, addr, private, val, val3, deadline)
        }
        raw::FUTEX_WAKE => wake(cx, addr, private, val, u32::MAX),
        raw::FUTEX_WAKE_BITSET => wake(cx, addr, private, val, val3),
        raw::FUTEX_REQUEUE => requeue(cx, addr, private, val, val2, addr2, None),
        raw::FUTEX_CMP_REQUEUE => requeue(cx, addr, private, val, val2, addr2, Some(val3)),
        raw::FUTEX_WAKE_OP => wake_op(cx, addr, private, val, val2, addr2, val3),
        raw::FUTEX_LOCK_PI => {
            let deadline = absolute(cx, timeout, true)?;
            pi::lock(cx, addr, private, deadline)
        }
        raw::FUTEX_LOCK_PI2 => {
            let deadline = absolute(cx, timeout, realtime)?;
            pi::lock(cx, addr, private, deadline)
        }
        raw::FUTEX_TRYLOCK_PI => pi::try_lock(cx, addr, private),
        raw::FUTEX_UNLOCK_PI => pi::unlock(cx, addr, private),
        raw::FUTEX_WAIT_REQUEUE_PI => {
            let deadline = absolute(cx, timeout, realtime)?;
            requeue_pi::wait(cx, addr, private, val, deadline, addr2)
        }
        raw::FUTEX_CMP_REQUEUE_PI => requeue_pi::requeue(cx, addr, private, val, val2, addr2, val3),
        _ => Err(Errno::ENOSYS),
    }
}

/// Deadline of a relative timeout at guest address `timeout` (0 = none).
fn relative(cx: &Ctx, timeout: u64) -> Result<Option<u64>> {
    if timeout == 0 {
        return Ok(None);
    }
    let ts: abi::time::Timespec = cx.mm().get(timeout)?;
    Ok(Some(cx.kernel().now().saturating_add(ts.to_ns()?)))
}

/// Deadline of an absolute timeout.
fn absolute(cx: &Ctx, timeout: u64, realtime: bool) -> Result<Option<u64>> {
    if timeout == 0 {
        return Ok(None);
    }
    let ts: abi::time::Timespec = cx.mm().get(timeout)?;
    let ns = ts.to_ns()?;
    if !realtime {
        return Ok(Some(ns));
    }
    clock::deadline(cx, raw::CLOCK_REALTIME as i32, ns).map(Some)
}

/// Checks the address as all operations do. [`Errno::EINVAL`] if it is not aligned.
fn key_of(mm: &Mm, addr: u64, private: bool) -> Result<Key> {
    if addr % 4 != 0 {
        return Err(Errno::EINVAL);
    }
    mm.futex_key(addr, private)
}

fn wait(
    cx: &Ctx,
    addr: u64,
    private: bool,
    val: u32,
    bitset: u32,
    deadline_ns: Option<u64>,
) -> Result<u64> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    let mm = cx.mm();
    let table = &cx.kernel().futexes;
    let key = key_of(mm, addr, private)?;
    let index = table.index(key);
    let waiter = Waiter::new(cx.task(), bitset, None, index);
    let queued = Queued {
        key,
        waiter: waiter.clone(),
    };
    table.enqueue(mm, addr, val, index, queued)?;
    match waiter.wait(deadline_ns) {
        Err(e) if table.remove(&waiter) => Err(e),
        // Woken, perhaps while giving up: the wake must not be lost.
        _ => Ok(0),
    }
}

fn wake(cx: &Ctx, addr: u64, private: bool, n: u32, bitset: u32) -> Result<u64> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    let mm = cx.mm();
    let key = key_of(mm, addr, private)?;
    Ok(cx.kernel().futexes.wake(key, wake_count(n), bitset)? as u64)
}

/// The argument is an `int`: Linux wakes one waiter even when asked for none or fewer.
fn wake_count(n: u32) -> usize {
    (n as i32).max(1) as usize
}

fn requeue(
    cx: &Ctx,
    addr: u64,
    private: bool,
    wake_n: u32,
    requeue_n: u32,
    addr2: u64,
    expect: Option<u32>,
) -> Result<u64> {
    if (wake_n as i32) < 0 || (requeue_n as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let mm = cx.mm();
    let table = &cx.kernel().futexes;
    let key = key_of(mm, addr, private)?;
    let key2 = key_of(mm, addr2, private)?;
    let (from, to) = (table.index(key), table.index(key2));
    if table.owners.contended(key) {
        return Err(Errno::EINVAL);
    }
    let mut woken: Vec<Queued> = Vec::new();
    let mut moving: Vec<Queued> = Vec::new();
    let mut refused = false;
    loop {
        if let Some(v) = expect
            && mm.update_u32(addr, &mut |_| None)? != v
        {
            return Err(Errno::EAGAIN);
        }
        let mut b = table.bucket(from).lock();
        if let Some(v) = expect {
            match mm.peek_u32(addr) {
                None => continue,
                Some(now) if now != v => return Err(Errno::EAGAIN),
                Some(_) => {}
            }
        }
        for (list, n) in [(&mut woken, wake_n), (&mut moving, requeue_n)] {
            list.try_reserve(b.len().min(n as usize))
                .map_err(|_| Errno::ENOMEM)?;
        }
        let mut i = 0;
        while i < b.len() && (woken.len() < wake_n as usize || moving.len() < requeue_n as usize) {
            if b[i].key != key {
                i += 1;
                continue;
            }
            if b[i].waiter.lock.is_some() {
                refused = true;
                break;
            }
            let mut q = b.remove(i);
            if woken.len() < wake_n as usize {
                q.waiter.finish();
                woken.push(q);
            } else {
                q.waiter.bucket.store(NOWHERE, Ordering::Release);
                q.key = key2;
                moving.push(q);
            }
        }
        break;
    }
    let count = woken.len() + moving.len();
    if !moving.is_empty() {
        let mut b = table.bucket(to).lock();
        let room = b.try_reserve(moving.len()).is_ok();
        for q in moving {
            if room {
                q.waiter.bucket.store(to as u32, Ordering::Release);
                b.push(q);
            } else {
                // No memory: it looks for itself. Waiters may be woken without reason.
                q.waiter.finish();
            }
        }
    }
    drop(woken);
    if refused {
        return Err(Errno::EINVAL);
    }
    Ok(count as u64)
}

/// FUTEX_WAKE_OP: changes the second word, wakes waiters of the first, and of the second if its old value compares.
fn wake_op(
    cx: &Ctx,
    addr: u64,
    private: bool,
    n: u32,
    n2: u32,
    addr2: u64,
    code: u32,
) -> Result<u64> {
    /// FUTEX_OP_ARG_SHIFT: the argument is a bit number.
    const ARG_SHIFT: u32 = 8;
    let signed12 = |v: u32| ((v << 20) as i32) >> 20;
    let (op, cmp) = (code >> 28 & 0xf, code >> 24 & 0xf);
    let mut arg = signed12(code >> 12 & 0xfff);
    let cmp_arg = signed12(code & 0xfff);
    if op & ARG_SHIFT != 0 {
        arg = 1i32.wrapping_shl(arg as u32 & 31);
    }
    let change: fn(u32, u32) -> u32 = match op & 7 {
        0 => |_, a| a,
        1 => u32::wrapping_add,
        2 => |v, a| v | a,
        3 => |v, a| v & !a,
        4 => |v, a| v ^ a,
        _ => return Err(Errno::ENOSYS),
    };
    let compare: fn(&i32, &i32) -> bool = match cmp {
        0 => i32::eq,
        1 => i32::ne,
        2 => i32::lt,
        3 => i32::le,
        4 => i32::gt,
        5 => i32::ge,
        _ => return Err(Errno::ENOSYS),
    };
    let mm = cx.mm();
    let table = &cx.kernel().futexes;
    let key = key_of(mm, addr, private)?;
    let key2 = key_of(mm, addr2, private)?;
    let old = mm.update_u32(addr2, &mut |v| Some(change(v, arg as u32)))?;
    let mut woken = table.wake(key, wake_count(n), u32::MAX)?;
    if compare(&(old as i32), &cmp_arg) {
        woken += table.wake(key2, wake_count(n2), u32::MAX)?;
    }
    Ok(woken as u64)
}

/// Wakes one waiter of a word in shared memory or of this space (CLONE_CHILD_CLEARTID, robust lists).
pub(crate) fn wake_word(task: &Task, mm: &Mm, addr: u64) {
    for private in [true, false] {
        if let Ok(key) = key_of(mm, addr, private)
            && task
                .kernel
                .futexes
                .wake(key, 1, u32::MAX)
                .is_ok_and(|n| n > 0)
        {
            return;
        }
    }
}
