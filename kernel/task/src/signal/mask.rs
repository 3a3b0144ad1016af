//! Masks, waiting for signals, alternate stacks, sigreturn.

use super::deliver::{FrameMem, dequeue};
use super::{UNBLOCKABLE, force, recalc};
use crate::task::flag;
use crate::{Ctx, Task};
use abi::signal::SIGSEGV;
use abi::{Errno, Result, SigInfo, SigSet, SigStack};
use core::sync::atomic::Ordering;

/// Replaces the mask of the calling thread (SIGKILL and SIGSTOP are dropped from it); returns the old one.
pub fn set_blocked(t: &Task, set: SigSet) -> SigSet {
    let set = set.minus(UNBLOCKABLE);
    let old = t.blocked();
    if old == set {
        return old;
    }
    let i = t.process.inner.lock();
    t.blocked.store(set.0, Ordering::Release);
    recalc(t, &i);
    // Signals that we now block and others do not go to them.
    super::retarget(&i);
    old
}

/// Sets a mask for the rest of this system call (ppoll, pselect, epoll_pwait); it is put back on the
/// way out, after handlers have been set up if the call ends with EINTR. See [`restore_mask`].
pub fn set_temporary_mask(t: &Task, set: SigSet) {
    let old = t.blocked();
    t.sig.lock().saved_mask = old;
    t.set_flag(flag::RESTORE_MASK);
    set_blocked(t, set);
}

/// Puts the mask back at once: the call that had set a temporary one ends without having been interrupted.
pub fn restore_mask(t: &Task) {
    if t.clear_flag(flag::RESTORE_MASK) {
        let old = t.sig.lock().saved_mask;
        set_blocked(t, old);
    }
}

/// Pending signals of thread and process that are blocked: sigpending(2).
pub fn pending(t: &Task) -> SigSet {
    let all = t.pending().union(t.process.shared_pending());
    SigSet(all.0 & t.blocked().0)
}

/// rt_sigsuspend(2). Never `Ok`.
pub fn suspend(cx: &Ctx, mask: SigSet) -> Result<u64> {
    let t = cx.task();
    set_temporary_mask(t, mask);
    let me = hal::cpu::current_waiter();
    loop {
        me.prepare_wait(true);
        if me.interrupted() {
            me.cancel_wait();
            return Err(Errno::ERESTARTNOHAND);
        }
        me.wait(None);
    }
}

/// rt_sigtimedwait(2): `deadline_ns` monotonic, `None` = forever. [`Errno::EAGAIN`] at the deadline, [`Errno::EINTR`].
pub fn timed_wait(cx: &Ctx, set: SigSet, deadline_ns: Option<u64>) -> Result<SigInfo> {
    let t = cx.task();
    let set = set.minus(UNBLOCKABLE);
    if let Some(info) = dequeue(t, set) {
        return Ok(info);
    }
    if deadline_ns == Some(0) {
        return Err(Errno::EAGAIN);
    }
    {
        let _i = t.process.inner.lock();
        t.sig.lock().waiting = set;
    }
    let me = hal::cpu::current_waiter();
    let result = loop {
        // Wake-up proof: the sender queues the signal, then ends the wait of a
        // thread whose `waiting` has it; we announce the wait, then look.
        me.prepare_wait(true);
        if let Some(info) = dequeue(t, set) {
            me.cancel_wait();
            break Ok(info);
        }
        if me.interrupted() {
            me.cancel_wait();
            break Err(Errno::EINTR);
        }
        if deadline_ns.is_some_and(|d| cx.kernel().now() >= d) {
            me.cancel_wait();
            break Err(Errno::EAGAIN);
        }
        me.wait(deadline_ns);
    };
    let i = t.process.inner.lock();
    t.sig.lock().waiting = SigSet::EMPTY;
    recalc(t, &i);
    result
}

const SS_ONSTACK: i32 = 1;
const SS_DISABLE: i32 = 2;
const SS_AUTODISARM: i32 = 1 << 31;

/// sigaltstack(2): sets if `new` is there; returns the old one (with SS_ONSTACK if in use).
pub fn altstack(cx: &Ctx, new: Option<SigStack>) -> Result<SigStack> {
    let t = cx.task();
    let arch = cx.kernel().platform.arch();
    let sp = t.with_regs(|r| arch.sp(r));
    let mut s = t.sig.lock();
    let old = s.altstack;
    let inside = old.flags & SS_DISABLE == 0
        && old.flags & SS_AUTODISARM == 0
        && sp > old.sp
        && sp - old.sp <= old.size;
    if let Some(n) = new {
        if inside {
            return Err(Errno::EPERM);
        }
        let mode = n.flags & !SS_AUTODISARM;
        if mode != 0 && mode != SS_ONSTACK && mode != SS_DISABLE {
            return Err(Errno::EINVAL);
        }
        s.altstack = if mode == SS_DISABLE {
            SigStack {
                flags: n.flags,
                ..SigStack::default()
            }
        } else {
            if n.size < 2048 {
                return Err(Errno::ENOMEM);
            }
            SigStack {
                sp: n.sp,
                flags: n.flags & SS_AUTODISARM,
                pad: 0,
                size: n.size,
            }
        };
    }
    let mut out = old;
    if old.size == 0 {
        out.flags = old.flags & SS_AUTODISARM | SS_DISABLE;
    } else if inside {
        out.flags |= SS_ONSTACK;
    }
    Ok(out)
}

/// rt_sigreturn(2). Replaces the registers.
pub fn sigreturn(cx: &Ctx) -> Result<u64> {
    let t = cx.task();
    let mm = cx.mm();
    let arch = cx.kernel().platform.arch();
    cx.keep_regs();
    let popped = t.with_regs(|r| {
        // The frame's vector state replaces what the engine has.
        arch.pop_signal(r, &mut FrameMem { task: t, mm })
    });
    match popped {
        Ok(back) => {
            set_blocked(t, back.mask);
            let s = back.altstack;
            let mode = s.flags & !SS_AUTODISARM;
            if mode & SS_DISABLE != 0 || s.size >= 2048 {
                t.sig.lock().altstack = SigStack {
                    flags: s.flags & (SS_AUTODISARM | SS_DISABLE),
                    pad: 0,
                    ..s
                };
            }
        }
        Err(_) => force(t, SigInfo::new(SIGSEGV, super::SI_KERNEL)),
    }
    Ok(0)
}

/// restart_syscall(2).
pub fn restart_syscall(cx: &Ctx) -> Result<u64> {
    let r = cx.task().restart.lock().take();
    match r {
        Some(f) => f(cx),
        None => Err(Errno::EINTR),
    }
}
