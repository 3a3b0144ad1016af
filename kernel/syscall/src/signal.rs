//! Signals: sigaction(2), sigprocmask(2), kill(2), sigsuspend(2), sigtimedwait(2), sigaltstack(2).

use crate::args::{In, Out, Sig};
use crate::cx::mm;
use crate::flags::MaskHow;
use abi::time::Timespec;
use abi::{Errno, Result, SigAction, SigInfo, SigSet, SigStack};
use task::Ctx;

/// [`Errno::EINVAL`] unless the size of the caller's sigset_t is the kernel's.
fn set_size(size: u64) -> Result {
    if size == size_of::<SigSet>() as u64 {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

/// Sets what a signal does: `sigaction(2)`.
pub fn sys_rt_sigaction(
    cx: &Ctx,
    sig: Sig,
    act: In<SigAction>,
    old: Out<SigAction>,
    size: u64,
) -> Result {
    set_size(size)?;
    let mm = mm(cx);
    let new = act.get_opt(mm)?;
    let was = task::signal::action(cx, sig.0, new)?;
    old.put_opt(mm, &was)
}

/// Blocks and unblocks signals: `sigprocmask(2)`.
pub fn sys_rt_sigprocmask(
    cx: &Ctx,
    how: MaskHow,
    set: In<SigSet>,
    old: Out<SigSet>,
    size: u64,
) -> Result {
    set_size(size)?;
    let mm = mm(cx);
    let t = cx.task();
    let was = t.blocked();
    if let Some(set) = set.get_opt(mm)? {
        let new = match how.0 {
            MaskHow::SIG_BLOCK => was.union(set),
            MaskHow::SIG_UNBLOCK => was.minus(set),
            MaskHow::SIG_SETMASK => set,
            _ => return Err(Errno::EINVAL),
        };
        task::signal::set_blocked(t, new);
    }
    old.put_opt(mm, &was)
}

/// Returns from a handler: `sigreturn(2)`.
pub fn sys_rt_sigreturn(cx: &Ctx) -> Result<u64> {
    task::signal::sigreturn(cx)
}

/// Pending signals: `sigpending(2)`.
pub fn sys_rt_sigpending(cx: &Ctx, set: Out<SigSet>, size: u64) -> Result {
    if size > size_of::<SigSet>() as u64 {
        return Err(Errno::EINVAL);
    }
    let pending = task::signal::pending(cx.task()).0.to_le_bytes();
    let n = usize::try_from(size).unwrap_or(0);
    mm(cx).write(set.0, pending.get(..n).unwrap_or(&[]))
}

/// Waits for a signal: `sigtimedwait(2)`. Returns its number.
pub fn sys_rt_sigtimedwait(
    cx: &Ctx,
    set: In<SigSet>,
    info: Out<SigInfo>,
    timeout: In<Timespec>,
    size: u64,
) -> Result<i32> {
    set_size(size)?;
    let mm = mm(cx);
    let set = set.get(mm)?;
    let deadline = match timeout.get_opt(mm)? {
        Some(t) => {
            let ns = t.to_ns()?;
            Some(cx.kernel().now().saturating_add(ns))
        }
        None => None,
    };
    let got = task::signal::timed_wait(cx, set, deadline)?;
    info.put_opt(mm, &got)?;
    Ok(got.signo)
}

/// A siginfo given by a program: the number is the argument's.
fn given(info: In<SigInfo>, sig: Sig, cx: &Ctx) -> Result<SigInfo> {
    let mut s = info.get(mm(cx))?;
    s.signo = sig.0;
    Ok(s)
}

/// Sends a signal with data to a process: `rt_sigqueueinfo(2)`.
pub fn sys_rt_sigqueueinfo(cx: &Ctx, tgid: i32, sig: Sig, info: In<SigInfo>) -> Result {
    let info = given(info, sig, cx)?;
    task::signal::queue_info(cx, tgid, None, info)
}

/// Sends a signal with data to a thread: `rt_tgsigqueueinfo(2)`.
pub fn sys_rt_tgsigqueueinfo(cx: &Ctx, tgid: i32, tid: i32, sig: Sig, info: In<SigInfo>) -> Result {
    let info = given(info, sig, cx)?;
    task::signal::queue_info(cx, tgid, Some(tid), info)
}

/// Waits for a signal with another mask: `sigsuspend(2)`.
pub fn sys_rt_sigsuspend(cx: &Ctx, mask: In<SigSet>, size: u64) -> Result<u64> {
    set_size(size)?;
    let mask = mask.get(mm(cx))?;
    task::signal::suspend(cx, mask)
}

/// Waits for a signal: `pause(2)`.
pub fn sys_pause(cx: &Ctx) -> Result<u64> {
    task::signal::suspend(cx, cx.task().blocked())
}

/// Sets the alternate stack: `sigaltstack(2)`.
pub fn sys_sigaltstack(cx: &Ctx, ss: In<SigStack>, old: Out<SigStack>) -> Result {
    let mm = mm(cx);
    let new = ss.get_opt(mm)?;
    let was = task::signal::altstack(cx, new)?;
    old.put_opt(mm, &was)
}

/// Sends a signal to a process or a group: `kill(2)`.
pub fn sys_kill(cx: &Ctx, pid: i32, sig: Sig) -> Result {
    task::signal::kill(cx, pid, sig.0)
}

/// Sends a signal to a thread: `tkill(2)`.
pub fn sys_tkill(cx: &Ctx, tid: i32, sig: Sig) -> Result {
    task::signal::tgkill(cx, None, tid, sig.0)
}

/// Sends a signal to a thread of a process: `tgkill(2)`.
pub fn sys_tgkill(cx: &Ctx, tgid: i32, tid: i32, sig: Sig) -> Result {
    task::signal::tgkill(cx, Some(tgid), tid, sig.0)
}

/// Goes on with an interrupted call: `restart_syscall(2)`.
pub fn sys_restart_syscall(cx: &Ctx) -> Result<u64> {
    task::signal::restart_syscall(cx)
}
