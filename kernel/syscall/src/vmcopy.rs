//! Memory of other processes: process_vm_readv(2), process_vm_writev(2).

use crate::args::In;
use crate::cx::mm;
use abi::io::{IOV_MAX, IoVec, MAX_RW_COUNT};
use abi::{Errno, Result};
use alloc::sync::Arc;
use mm::Mm;
use mm::io::{Sink, Source};
use mm::user::UserIo;
use task::Ctx;

/// Bytes copied at a time.
const CHUNK: usize = 16 << 10;

/// Reads from another process: `process_vm_readv(2)`.
pub fn sys_process_vm_readv(
    cx: &Ctx,
    pid: i32,
    local: In<IoVec>,
    liovcnt: u64,
    remote: In<IoVec>,
    riovcnt: u64,
    flags: u64,
) -> Result<usize> {
    transfer(cx, pid, (local, liovcnt), (remote, riovcnt), flags, false)
}

/// Writes to another process: `process_vm_writev(2)`.
pub fn sys_process_vm_writev(
    cx: &Ctx,
    pid: i32,
    local: In<IoVec>,
    liovcnt: u64,
    remote: In<IoVec>,
    riovcnt: u64,
    flags: u64,
) -> Result<usize> {
    transfer(cx, pid, (local, liovcnt), (remote, riovcnt), flags, true)
}

fn transfer(
    cx: &Ctx,
    pid: i32,
    (local, nl): (In<IoVec>, u64),
    (remote, nr): (In<IoVec>, u64),
    flags: u64,
    write: bool,
) -> Result<usize> {
    if flags != 0 || nl > IOV_MAX as u64 || nr > IOV_MAX as u64 {
        return Err(Errno::EINVAL);
    }
    let own = mm(cx);
    let here = local.get_vec(own, nl as usize, IOV_MAX, Errno::EINVAL)?;
    let mut io = UserIo::from_iov(own, here)?;
    if Sink::remaining(&io) == 0 {
        return Ok(0);
    }
    let there = remote.get_vec(own, nr as usize, IOV_MAX, Errno::EINVAL)?;
    if there.iter().any(|v| v.len > i64::MAX as u64) {
        return Err(Errno::EINVAL);
    }
    let t = cx.kernel().pids.task(pid).ok_or(Errno::ESRCH)?;
    if !task::cred::may_inspect(cx.task(), &t) {
        return Err(Errno::EPERM);
    }
    let other: Arc<Mm> = t.mm().ok_or(Errno::ESRCH)?;
    let mut buf = alloc::vec![0u8; CHUNK];
    let mut done = 0usize;
    'all: for v in there {
        let mut at = 0u64;
        while at < v.len {
            let left = (v.len - at).min((MAX_RW_COUNT - done) as u64);
            let n = usize::try_from(left)
                .unwrap_or(CHUNK)
                .min(CHUNK)
                .min(Sink::remaining(&io));
            if n == 0 {
                break 'all;
            }
            let addr = v.base.wrapping_add(at);
            let k = if write {
                let got = io.take(&mut buf[..n]).unwrap_or(0);
                other.write_partial(addr, &buf[..got.min(n)], false)
            } else {
                let got = other.read_partial(addr, &mut buf[..n], false);
                io.put(&buf[..got.min(n)]).unwrap_or(0)
            };
            done += k;
            at += k as u64;
            if k < n {
                break 'all;
            }
            hal::cpu::current_waiter().yield_if_needed();
        }
    }
    if done == 0 {
        return Err(Errno::EFAULT);
    }
    Ok(done)
}
