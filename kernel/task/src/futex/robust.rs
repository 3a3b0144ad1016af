//! Robust futexes: a dying owner marks its words, get_robust_list(2).

use super::{pi, wake_word};
use crate::task::flag;
use crate::{Ctx, Task, cred};
use abi::process::RobustListHead;
use abi::{Errno, Result, raw};
use core::sync::atomic::Ordering;
use mm::Mm;

/// Longest list that is walked; Linux's limit too.
const LIST_MAX: usize = 2048;

/// set_robust_list(2). [`Errno::EINVAL`] if `len` is not the size of the head.
pub fn set_robust_list(cx: &Ctx, head: u64, len: u64) -> Result {
    if len != size_of::<RobustListHead>() as u64 {
        return Err(Errno::EINVAL);
    }
    cx.task().robust_list.store(head, Ordering::Relaxed);
    Ok(())
}

/// get_robust_list(2): head address and length. [`Errno::ESRCH`], [`Errno::EPERM`].
pub fn get_robust_list(cx: &Ctx, tid: i32) -> Result<(u64, u64)> {
    let len = size_of::<RobustListHead>() as u64;
    if tid == 0 {
        return Ok((cx.task().robust_list.load(Ordering::Relaxed), len));
    }
    let t = cx.kernel().pids.task(tid).ok_or(Errno::ESRCH)?;
    if !cred::may_inspect(cx.task(), &t) {
        return Err(Errno::EPERM);
    }
    Ok((t.robust_list.load(Ordering::Relaxed), len))
}

/// What a word becomes whose owner `tid` dies; `None` if it has another owner.
fn orphaned(v: u32, tid: u32) -> Option<u32> {
    (v & raw::FUTEX_TID_MASK == tid).then_some(v & raw::FUTEX_WAITERS | raw::FUTEX_OWNER_DIED)
}

/// Lets go of all words the exiting (or exec-ing) task owns. Called while it still has its address space.
pub(crate) fn exit(task: &Task) {
    let Some(mm) = task.mm() else { return };
    let head = task.robust_list.swap(0, Ordering::Relaxed);
    if head != 0 {
        // Whatever the guest wrote there: a fault or nonsense ends the walk.
        let _ = walk(task, &mm, head);
    }
    // Words of PI locks come after it: their heirs find the marks of the walk.
    pi::release_owned(task, task.flag(flag::EXITING));
}

/// CLONE_CHILD_CLEARTID: writes 0 to the address and wakes a joiner.
pub(crate) fn clear_child_tid(task: &Task) {
    let addr = task.clear_child_tid.swap(0, Ordering::Relaxed);
    if addr == 0 {
        return;
    }
    if let Some(mm) = task.mm() {
        let _ = mm.put(addr, &0u32);
        wake_word(task, &mm, addr);
    }
}

fn walk(task: &Task, mm: &Mm, head: u64) -> Result {
    let h: RobustListHead = mm.get(head)?;
    let word = |entry: u64| (entry & !1).wrapping_add(h.futex_offset as u64);
    let pending = h.list_op_pending;
    let mut entry = h.list;
    for _ in 0..LIST_MAX {
        if entry & !1 == head {
            break;
        }
        // Read on before the word is let go: another thread may unlink the entry then.
        let next = mm.get::<u64>(entry & !1);
        if entry & !1 != pending & !1 {
            let _ = owner_died(task, mm, word(entry), entry & 1 != 0);
        }
        entry = next?;
        hal::cpu::current_waiter().yield_if_needed();
    }
    if pending & !1 != 0 {
        let _ = owner_died(task, mm, word(pending), pending & 1 != 0);
        // It may have died between unlocking and waking.
        if pending & 1 == 0
            && mm.update_u32(word(pending), &mut |_| None)? & raw::FUTEX_TID_MASK == 0
        {
            wake_word(task, mm, word(pending));
        }
    }
    Ok(())
}

fn owner_died(task: &Task, mm: &Mm, addr: u64, is_pi: bool) -> Result {
    if addr % 4 != 0 {
        return Err(Errno::EINVAL);
    }
    let me = task.tid() as u32;
    let old = mm.update_u32(addr, &mut |v| orphaned(v, me))?;
    // A PI word is handed over, not fought for.
    if !is_pi && old & raw::FUTEX_TID_MASK == me && old & raw::FUTEX_WAITERS != 0 {
        wake_word(task, mm, addr);
    }
    Ok(())
}
