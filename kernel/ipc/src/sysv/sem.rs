//! Semaphore sets, semget(2), semop(2).

use super::{Charge, Object, READ, SysV, Table, WRITE, seconds};
use abi::sysv::{IPC_NOWAIT, SemBuf, SemidDs};
use abi::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::AtomicUsize;
use sync::{SpinLock, WaitQueue, level};
use vfs::file::Caller;

/// Most sets (`SEMMNI`).
pub const MAX_SETS: u32 = 32000;
/// Most semaphores of a set (`SEMMSL`).
pub const MAX_SEMS: usize = 32000;
/// Most operations of a call (`SEMOPM`).
pub const MAX_OPS: usize = 500;
/// Largest value (`SEMVMX`).
pub const MAX_VALUE: i32 = 32767;
const SEM_UNDO: i16 = 0x1000;

#[derive(Clone, Copy, Default)]
struct Sem {
    value: i32,
    /// Process that changed it last.
    pid: i32,
    /// Callers that wait for it to grow, and to become zero.
    waiting: [u32; 2],
}

struct Inner {
    sems: Vec<Sem>,
    otime: i64,
    ctime: i64,
}

/// A semaphore set.
pub struct Set {
    inner: SpinLock<Inner, { level::IPC }>,
    queue: WaitQueue,
    _charge: Charge,
}

/// What SEM_UNDO has noted: by process and set, an adjustment for each semaphore.
pub(crate) type Undos = SpinLock<BTreeMap<(i32, i32), Adjust>, { level::TASK }>;

/// Adjustments of one process for one set.
pub(crate) struct Adjust {
    list: Vec<i32>,
    _charge: Charge,
}

impl Adjust {
    /// [`Errno::ENOMEM`], as semop(2) has it.
    fn new(all: &Arc<AtomicUsize>, count: usize) -> Result<Adjust> {
        let charge = Charge::new(all, count * size_of::<i32>()).ok_or(Errno::ENOMEM)?;
        let mut list = Vec::new();
        list.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        list.resize(count, 0);
        Ok(Adjust {
            list,
            _charge: charge,
        })
    }
}

/// Whether SEM_UNDO makes a note of the operation.
fn noted(op: &SemBuf) -> bool {
    op.flags & SEM_UNDO != 0 && op.op != 0
}

/// Outcome of trying all operations of a call at once.
enum Try {
    Done,
    /// This one has to wait: semaphore, 0 = to grow, 1 = for zero.
    Wait(usize, usize),
    Failed(Errno),
}

impl Set {
    fn attempt(inner: &mut Inner, ops: &[SemBuf], undo: Option<&mut Adjust>, pid: i32) -> Try {
        // Values as they would be, for the semaphores concerned.
        let mut new: BTreeMap<usize, i32> = BTreeMap::new();
        for op in ops {
            let n = op.num as usize;
            let Some(sem) = inner.sems.get(n) else {
                return Try::Failed(Errno::EFBIG);
            };
            let now = *new.get(&n).unwrap_or(&sem.value);
            let next = now + op.op as i32;
            if op.op == 0 && now != 0 {
                return Self::must_wait(op, n, 1);
            }
            if next < 0 {
                return Self::must_wait(op, n, 0);
            }
            if next > MAX_VALUE {
                return Try::Failed(Errno::ERANGE);
            }
            new.insert(n, next);
        }
        if let Some(undo) = undo {
            for op in ops.iter().filter(|op| noted(op)) {
                if let Some(a) = undo.list.get_mut(op.num as usize) {
                    *a = (*a - op.op as i32).clamp(-MAX_VALUE - 1, MAX_VALUE);
                }
            }
        }
        for op in ops {
            let n = op.num as usize;
            if let (Some(sem), Some(v)) = (inner.sems.get_mut(n), new.get(&n)) {
                sem.value = *v;
                sem.pid = pid;
            }
        }
        Try::Done
    }
    fn must_wait(op: &SemBuf, n: usize, kind: usize) -> Try {
        if op.flags as i32 & IPC_NOWAIT != 0 {
            Try::Failed(Errno::EAGAIN)
        } else {
            Try::Wait(n, kind)
        }
    }
    fn wake(&self) {
        self.queue.wake_all();
    }
}

/// `struct semid_ds` of a set.
pub fn stat(o: &Object<Set>) -> SemidDs {
    let perm = o.perm();
    let i = o.value.inner.lock();
    SemidDs {
        perm,
        otime: i.otime,
        ctime: i.ctime,
        nsems: i.sems.len() as u64,
        ..SemidDs::default()
    }
}

/// Number of semaphores.
pub fn count(o: &Object<Set>) -> usize {
    o.value.inner.lock().sems.len()
}

/// What GETVAL, GETPID, GETNCNT and GETZCNT ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs)]
pub enum Ask {
    Value,
    Pid,
    WaitingToGrow,
    WaitingForZero,
}

/// One number of one semaphore. [`Errno::EINVAL`].
pub fn ask(o: &Object<Set>, num: i32, what: Ask) -> Result<i32> {
    let n = usize::try_from(num).map_err(|_| Errno::EINVAL)?;
    let i = o.value.inner.lock();
    let s = i.sems.get(n).ok_or(Errno::EINVAL)?;
    Ok(match what {
        Ask::Value => s.value,
        Ask::Pid => s.pid,
        Ask::WaitingToGrow => s.waiting[0] as i32,
        Ask::WaitingForZero => s.waiting[1] as i32,
    })
}

/// GETALL. [`Errno::ENOMEM`].
pub fn values(o: &Object<Set>) -> Result<Vec<u16>> {
    let mut all = Vec::new();
    all.try_reserve_exact(count(o)).map_err(|_| Errno::ENOMEM)?;
    // The number of semaphores never changes, so nothing is allocated under the lock.
    let i = o.value.inner.lock();
    all.extend(i.sems.iter().map(|s| s.value as u16));
    Ok(all)
}

impl SysV {
    /// semget(2).
    pub fn semget(&self, cx: &dyn Caller, key: i32, nsems: i32, flags: i32) -> Result<i32> {
        let n = usize::try_from(nsems)
            .ok()
            .filter(|n| *n <= MAX_SEMS)
            .ok_or(Errno::EINVAL)?;
        let fits = |s: &Set| {
            if n > s.inner.lock().sems.len() {
                Err(Errno::EINVAL)
            } else {
                Ok(())
            }
        };
        let make = || {
            if n == 0 {
                return Err(Errno::EINVAL);
            }
            let charge = Charge::new(&self.sems, n * size_of::<Sem>()).ok_or(Errno::ENOSPC)?;
            let mut sems = Vec::new();
            sems.try_reserve_exact(n).map_err(|_| Errno::ENOMEM)?;
            sems.resize(n, Sem::default());
            Ok(Set {
                _charge: charge,
                inner: SpinLock::new(Inner {
                    sems,
                    otime: 0,
                    ctime: seconds(cx),
                }),
                queue: WaitQueue::new(),
            })
        };
        self.sem.get(cx, key, flags, MAX_SETS, fits, make)
    }
    /// semtimedop(2): `deadline_ns` monotonic, `None` = wait for ever.
    pub fn semop(
        &self,
        cx: &dyn Caller,
        id: i32,
        ops: &[SemBuf],
        deadline_ns: Option<u64>,
    ) -> Result {
        let o = self.sem.find(id)?;
        let count = count(&o);
        if ops.iter().any(|op| op.num as usize >= count) {
            return Err(Errno::EFBIG);
        }
        let alters = ops.iter().any(|op| op.op != 0);
        o.check(&cx.cred(), if alters { WRITE } else { READ })?;
        let key = (cx.pid(), id);
        if ops.iter().any(noted) && !self.undo.lock().contains_key(&key) {
            let new = Adjust::new(&self.sems, count)?;
            self.undo.lock().entry(key).or_insert(new);
        }
        let now = seconds(cx);
        let mut waits: Option<(usize, usize)> = None;
        let mut step = || -> Option<Result> {
            if o.removed() {
                return Some(Err(Errno::EIDRM));
            }
            let mut inner = o.value.inner.lock();
            let t = {
                let mut undo = self.undo.lock();
                Set::attempt(&mut inner, ops, undo.get_mut(&key), key.0)
            };
            let next = match t {
                Try::Wait(n, kind) => Some((n, kind)),
                _ => None,
            };
            if next != waits {
                for (w, up) in [(waits, false), (next, true)] {
                    if let Some((n, k)) = w
                        && let Some(c) = inner.sems.get_mut(n).and_then(|s| s.waiting.get_mut(k))
                    {
                        *c = if up { *c + 1 } else { c.saturating_sub(1) };
                    }
                }
                waits = next;
            }
            match t {
                Try::Done => {
                    inner.otime = now;
                    Some(Ok(()))
                }
                Try::Failed(e) => Some(Err(e)),
                Try::Wait(..) => None,
            }
        };
        // Wake-up proof: whoever changes a value or removes the set wakes the queue afterwards.
        let r = sync::wait_event(&[&o.value.queue], true, deadline_ns, false, &mut step);
        if let Some((n, k)) = waits {
            let mut inner = o.value.inner.lock();
            if let Some(c) = inner.sems.get_mut(n).and_then(|s| s.waiting.get_mut(k)) {
                *c = c.saturating_sub(1);
            }
        }
        match r {
            Ok(r) => {
                if alters && r.is_ok() {
                    o.value.wake();
                }
                r
            }
            Err(Errno::ETIMEDOUT) => Err(Errno::EAGAIN),
            // semop(2) is never restarted.
            Err(_) => Err(Errno::EINTR),
        }
    }
    /// SETVAL (one value at `first`) and SETALL. [`Errno::EINVAL`], [`Errno::ERANGE`].
    pub fn semset(&self, cx: &dyn Caller, o: &Arc<Object<Set>>, first: i32, new: &[i32]) -> Result {
        let first = usize::try_from(first).map_err(|_| Errno::EINVAL)?;
        if new.iter().any(|v| !(0..=MAX_VALUE).contains(v)) {
            return Err(Errno::ERANGE);
        }
        o.check(&cx.cred(), WRITE)?;
        {
            let mut inner = o.value.inner.lock();
            let end = first.saturating_add(new.len());
            let Some(sems) = inner.sems.get_mut(first..end) else {
                return Err(Errno::EINVAL);
            };
            for (s, v) in sems.iter_mut().zip(new) {
                s.value = *v;
                s.pid = cx.pid();
            }
            inner.ctime = seconds(cx);
            // Adjustments at exit do not survive a set value.
            let mut undo = self.undo.lock();
            for (key, adjust) in undo.iter_mut() {
                if key.1 == o.id
                    && let Some(part) = adjust.list.get_mut(first..end)
                {
                    part.fill(0);
                }
            }
        }
        o.value.wake();
        Ok(())
    }
    /// IPC_RMID: takes the set out and tells those who wait for it. [`Errno::EINVAL`], [`Errno::EPERM`].
    pub fn sem_remove(&self, cx: &dyn Caller, id: i32) -> Result {
        let o = self.sem.remove(cx, id)?;
        o.value.wake();
        self.undo.lock().retain(|key, _| key.1 != id);
        Ok(())
    }
    /// A process has ended: its adjustments are carried out.
    pub fn process_exit(&self, pid: i32) {
        loop {
            let found = {
                let mut undo = self.undo.lock();
                let first = undo.range((pid, i32::MIN)..=(pid, i32::MAX)).next();
                first.map(|(k, _)| *k).and_then(|k| undo.remove_entry(&k))
            };
            let Some(((_, id), adjust)) = found else {
                return;
            };
            let Ok(o) = Table::find(&self.sem, id) else {
                continue;
            };
            {
                let mut inner = o.value.inner.lock();
                for (s, a) in inner.sems.iter_mut().zip(&adjust.list) {
                    if *a != 0 {
                        s.value = (s.value + a).clamp(0, MAX_VALUE);
                        s.pid = pid;
                    }
                }
            }
            o.value.wake();
        }
    }
}
