//! Life and death: fork(2), clone(2), execve(2), exit(2), wait(2), unshare(2), arch_prctl(2).

use crate::args::{DirFd, Fd, Hex, In, Out, PathPtr, Ptr, StrVec};
use crate::cx::{self, CWD, mm};
use crate::decode::WaitStatus;
use crate::flags::{ArchCode, CloneArg, CloneFlags, ExecFlags, IdType, WaitFlags};
use abi::process::{CloneArgs, Rusage};
use abi::{Errno, Result, SigInfo, signal};
use task::Ctx;
use task::wait::{WaitFor, WaitOptions, Waited};

/// Makes a child process: `fork(2)`.
pub fn sys_fork(cx: &Ctx) -> Result<u64> {
    let args = CloneArgs {
        exit_signal: signal::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    task::clone::clone(cx, &args, true)
}

/// Makes a child process that borrows the memory: `vfork(2)`.
pub fn sys_vfork(cx: &Ctx) -> Result<u64> {
    let args = CloneArgs {
        flags: CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK,
        exit_signal: signal::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    task::clone::clone(cx, &args, true)
}

/// Makes a child process or a thread: `clone(2)`.
pub fn sys_clone(
    cx: &Ctx,
    flags: CloneArg,
    stack: Ptr,
    parent_tid: Ptr,
    child_tid: Ptr,
    tls: Hex,
) -> Result<u64> {
    const EXIT_SIGNAL: u64 = 0xff;
    // The upper half is for clone3 only.
    let low = flags.0 & 0xffff_ffff;
    let args = CloneArgs {
        flags: low & !EXIT_SIGNAL,
        // With CLONE_PIDFD the pidfd goes where the tid would.
        pidfd: parent_tid.0,
        parent_tid: parent_tid.0,
        child_tid: child_tid.0,
        exit_signal: low & EXIT_SIGNAL,
        stack: stack.0,
        tls: tls.0,
        ..CloneArgs::default()
    };
    let both = CloneFlags::CLONE_PIDFD | CloneFlags::CLONE_PARENT_SETTID;
    if args.flags & both == both {
        return Err(Errno::EINVAL);
    }
    task::clone::clone(cx, &args, true)
}

/// Makes a child process or a thread, from a structure: `clone3(2)`.
pub fn sys_clone3(cx: &Ctx, args: In<CloneArgs>, size: u64) -> Result<u64> {
    let args = crate::open::sized::<CloneArgs>(cx, args.0, size, 64)?;
    let known = CloneFlags::ALL;
    if args.flags & !known != 0
        || args.flags & CloneFlags::CLONE_DETACHED != 0
        || args.exit_signal > 64
        || (args.stack == 0) != (args.stack_size == 0)
        || args.set_tid_size > 32
        || (args.set_tid == 0) != (args.set_tid_size == 0)
    {
        return Err(Errno::EINVAL);
    }
    if args.flags & (CloneFlags::CLONE_THREAD | CloneFlags::CLONE_PARENT) != 0
        && args.exit_signal != 0
    {
        return Err(Errno::EINVAL);
    }
    let clears = CloneFlags::CLONE_SIGHAND | CloneFlags::CLONE_CLEAR_SIGHAND;
    if args.flags & clears == clears {
        return Err(Errno::EINVAL);
    }
    task::clone::clone(cx, &args, false)
}

/// Runs another program: `execve(2)`.
pub fn sys_execve(cx: &Ctx, path: PathPtr, argv: StrVec, envp: Ptr) -> Result<u64> {
    sys_execveat(cx, CWD, path, argv, envp, ExecFlags(0))
}

/// Runs another program, relative to a directory: `execveat(2)`.
pub fn sys_execveat(
    cx: &Ctx,
    dir: DirFd,
    path: PathPtr,
    argv: StrVec,
    envp: Ptr,
    flags: ExecFlags,
) -> Result<u64> {
    let name = cx::path(cx, path)?;
    if name.is_empty() && !flags.has(ExecFlags::AT_EMPTY_PATH) {
        return Err(Errno::ENOENT);
    }
    if flags.beyond(ExecFlags::ALL) {
        return Err(Errno::EINVAL);
    }
    task::exec::execveat(cx, dir.0, &name, argv.0, envp.0, flags.0)
}

/// Ends the thread: `exit(2)`.
pub fn sys_exit(cx: &Ctx, status: i32) -> Result<u64> {
    task::exit::exit_thread(cx, status)
}

/// Ends the process: `exit_group(2)`.
pub fn sys_exit_group(cx: &Ctx, status: i32) -> Result<u64> {
    task::exit::exit_group(cx, status)
}

fn options(flags: u32) -> WaitOptions {
    WaitOptions::from_bits_truncate(flags)
}

/// Waits for a child: `wait4(2)`.
pub fn sys_wait4(
    cx: &Ctx,
    pid: i32,
    wstatus: Out<WaitStatus>,
    flags: WaitFlags,
    rusage: Out<Rusage>,
) -> Result<i32> {
    type F = WaitFlags;
    let known = F::WNOHANG | F::WSTOPPED | F::WCONTINUED | F::__WNOTHREAD | F::__WCLONE | F::__WALL;
    if flags.beyond(known) {
        return Err(Errno::EINVAL);
    }
    let who = match pid {
        i32::MIN => return Err(Errno::ESRCH),
        -1 => WaitFor::Any,
        0 => WaitFor::Group(cx.process().pgid()),
        p if p < 0 => WaitFor::Group(-p),
        p => WaitFor::Pid(p),
    };
    let w = task::wait::wait(cx, who, options(flags.0) | WaitOptions::EXITED)?;
    let Some(w) = w else { return Ok(0) };
    let mm = mm(cx);
    wstatus.put_opt(mm, &WaitStatus(w.status))?;
    rusage.put_opt(mm, &w.usage.to_abi())?;
    Ok(w.pid)
}

/// Waits for a child, with more choice: `waitid(2)`.
pub fn sys_waitid(
    cx: &Ctx,
    idtype: IdType,
    id: i32,
    info: Out<SigInfo>,
    flags: WaitFlags,
    rusage: Out<Rusage>,
) -> Result {
    type F = WaitFlags;
    if flags.beyond(F::ALL) || !flags.has(F::WEXITED | F::WSTOPPED | F::WCONTINUED) {
        return Err(Errno::EINVAL);
    }
    let who = match idtype.0 {
        IdType::P_ALL => WaitFor::Any,
        IdType::P_PID if id > 0 => WaitFor::Pid(id),
        IdType::P_PGID if id == 0 => WaitFor::Group(cx.process().pgid()),
        IdType::P_PGID if id > 0 => WaitFor::Group(id),
        IdType::P_PIDFD if id >= 0 => {
            let f = cx::file(cx, Fd(id))?;
            WaitFor::PidFd(task::pidfd::process_of(&f)?, f.nonblock())
        }
        _ => return Err(Errno::EINVAL),
    };
    let w = task::wait::wait(cx, who, options(flags.0))?;
    let mm = mm(cx);
    if let Some(w) = &w {
        rusage.put_opt(mm, &w.usage.to_abi())?;
    }
    if !info.is_null() {
        store_info(cx, info, w.as_ref())?;
    }
    Ok(())
}

/// Stores the members of siginfo_t that waitid(2) sets, and no others.
fn store_info(cx: &Ctx, info: Out<SigInfo>, w: Option<&Waited>) -> Result {
    let s = match w {
        Some(w) => [
            signal::SIGCHLD,
            0,
            w.code,
            0,
            w.pid,
            w.uid as i32,
            w.si_status(),
        ],
        None => [0; 7],
    };
    let mm = mm(cx);
    // si_signo, si_errno, si_code; then, behind padding, si_pid, si_uid, si_status.
    mm.put(info.0, &[s[0], s[1], s[2]])?;
    mm.put(info.0.wrapping_add(16), &[s[4], s[5], s[6]])
}

/// Stops sharing: `unshare(2)`.
pub fn sys_unshare(cx: &Ctx, flags: CloneFlags) -> Result {
    task::clone::unshare(cx, flags.0)
}

/// Joins a namespace: `setns(2)`. No file is a namespace.
pub fn sys_setns(cx: &Ctx, fd: Fd, _nstype: Hex) -> Result {
    cx::file(cx, fd)?;
    Err(Errno::EINVAL)
}

/// State of the processor: `arch_prctl(2)`.
pub fn sys_arch_prctl(cx: &Ctx, code: ArchCode, addr: Hex) -> Result {
    let arch = cx.kernel().platform.arch();
    let code = u64::from(code.0 as u32);
    let engine = cx.kernel().platform.engine();
    let value = cx.with_regs(|r| {
        engine.sync_regs(r);
        arch.arch_prctl(r, code, addr.0)
    });
    if let Some(v) = value? {
        mm(cx).put(addr.0, &v)?;
    }
    Ok(())
}
