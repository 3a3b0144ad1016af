//! Event polling, epoll(7).

use crate::args::{Fd, In};
use crate::cx::{self, mm};
use crate::flags::{EpollEvents, EpollFlags, EpollOp};
use crate::poll::{Limit, from_ms};
use abi::io::EpollEvent;
use abi::time::Timespec;
use abi::{Errno, Result, SigSet};
use alloc::vec::Vec;
use ipc::epoll::{CtlOp, as_epoll};
use task::Ctx;
use zerocopy::IntoBytes;

/// Most events that one call gives.
const MAX_BATCH: usize = 4096;

/// Makes an epoll: `epoll_create(2)`.
pub fn sys_epoll_create(cx: &Ctx, size: i32) -> Result<i32> {
    if size <= 0 {
        return Err(Errno::EINVAL);
    }
    sys_epoll_create1(cx, EpollFlags(0))
}

/// Makes an epoll, with flags: `epoll_create1(2)`.
pub fn sys_epoll_create1(cx: &Ctx, flags: EpollFlags) -> Result<i32> {
    if flags.beyond(EpollFlags::ALL) {
        return Err(Errno::EINVAL);
    }
    let file = cx::ipc(cx)?.epoll(cx)?;
    cx.install(file, flags.has(EpollFlags::EPOLL_CLOEXEC))
}

/// Changes the interests of an epoll: `epoll_ctl(2)`.
pub fn sys_epoll_ctl(cx: &Ctx, epfd: Fd, op: EpollOp, fd: Fd, event: In<EpollEvent>) -> Result {
    let op = match op.0 {
        EpollOp::EPOLL_CTL_DEL => Ok(CtlOp::Del),
        o => {
            let event = event.get(mm(cx))?;
            match o {
                EpollOp::EPOLL_CTL_ADD => Ok(CtlOp::Add(event)),
                EpollOp::EPOLL_CTL_MOD => Ok(CtlOp::Mod(event)),
                _ => Err(Errno::EINVAL),
            }
        }
    };
    let ep = cx::file(cx, epfd)?;
    let target = cx::file(cx, fd)?;
    as_epoll(&ep).ok_or(Errno::EINVAL)?.ctl(op?, &target, fd.0)
}

fn wait(cx: &Ctx, epfd: Fd, events: EpollEvents, max: i32, limit: Limit) -> Result<usize> {
    let max = usize::try_from(max).map_err(|_| Errno::EINVAL)?;
    if max == 0 || max > i32::MAX as usize / size_of::<EpollEvent>() {
        return Err(Errno::EINVAL);
    }
    cx::check_range(events.0, (max * size_of::<EpollEvent>()) as u64)?;
    let ep = cx::file(cx, epfd)?;
    let epoll = as_epoll(&ep).ok_or(Errno::EINVAL)?;
    let mut out: Vec<EpollEvent> = Vec::new();
    epoll.wait(max.min(MAX_BATCH), limit.0, &mut out)?;
    mm(cx).write(events.0, out.as_slice().as_bytes())?;
    Ok(out.len())
}

/// Waits for events: `epoll_wait(2)`.
pub fn sys_epoll_wait(
    cx: &Ctx,
    epfd: Fd,
    events: EpollEvents,
    max: i32,
    timeout: i32,
) -> Result<usize> {
    wait(cx, epfd, events, max, from_ms(cx, timeout))
}

/// Waits for events with a signal mask: `epoll_pwait(2)`.
pub fn sys_epoll_pwait(
    cx: &Ctx,
    epfd: Fd,
    events: EpollEvents,
    max: i32,
    timeout: i32,
    mask: In<SigSet>,
    size: u64,
) -> Result<usize> {
    cx::with_mask(cx, mask, size, || {
        wait(cx, epfd, events, max, from_ms(cx, timeout))
    })
}

/// Waits for events with a signal mask and a fine time limit: `epoll_pwait2(2)`.
pub fn sys_epoll_pwait2(
    cx: &Ctx,
    epfd: Fd,
    events: EpollEvents,
    max: i32,
    timeout: In<Timespec>,
    mask: In<SigSet>,
    size: u64,
) -> Result<usize> {
    let limit = Limit::from_spec(cx, timeout.get_opt(mm(cx))?)?;
    cx::with_mask(cx, mask, size, || wait(cx, epfd, events, max, limit))
}
