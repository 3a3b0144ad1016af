//! Messages with control data: sendmsg(2), recvmsg(2) and their batch forms.

use crate::args::{Fd, In, Out, Ptr};
use crate::cx::{self, mm};
use crate::file::vectors;
use crate::flags::MsgFlags;
use crate::socket::{address, ns, send, socket};
use abi::io::{IOV_MAX, MMsgHdr, MsgHdr};
use abi::time::Timespec;
use abi::{Errno, Result};
use mm::Mm;
use mm::user::UserIo;
use net::control::{self, MAX_CONTROL};
use net::socket::{Control, RecvArgs, SendArgs};
use task::Ctx;
use vfs::File;

/// Largest `sockaddr` of a message; longer lengths are cut to it.
const ADDR_MAX: u32 = 128;
/// Bytes from `struct msghdr` to its members.
const NAMELEN: u64 = 8;
const CONTROLLEN: u64 = 40;
const FLAGS: u64 = 48;
/// Bytes from `struct mmsghdr` to `msg_len`.
const MSG_LEN: u64 = 56;

fn buffers<'a>(mm: &'a Mm, h: &MsgHdr) -> Result<UserIo<'a>> {
    if h.iovlen > IOV_MAX as u64 {
        return Err(Errno::EMSGSIZE);
    }
    vectors(mm, h.iov, h.iovlen)
}

fn send_one(cx: &Ctx, f: &File, h: &MsgHdr, flags: u32) -> Result<usize> {
    let mm = mm(cx);
    if h.namelen < 0 {
        return Err(Errno::EINVAL);
    }
    let to = if h.name == 0 || h.namelen == 0 {
        None
    } else {
        Some(address(cx, h.name, (h.namelen as u32).min(ADDR_MAX))?)
    };
    let mut src = buffers(mm, h)?;
    let control = if h.controllen == 0 || h.control == 0 {
        Control::default()
    } else {
        if h.controllen > MAX_CONTROL as u64 {
            return Err(Errno::ENOBUFS);
        }
        let bytes = mm.get_vec::<u8>(h.control, h.controllen as usize)?;
        let c = control::parse(&bytes, |fd| cx.files().get(fd))?;
        check_sender(cx, &c)?;
        c
    };
    let args = SendArgs {
        addr: to.as_deref(),
        control,
        flags,
        nonblock: f.nonblock(),
    };
    send(cx, f, &mut src, args)
}

/// Sends a message: `sendmsg(2)`.
pub fn sys_sendmsg(cx: &Ctx, fd: Fd, msg: In<MsgHdr>, flags: MsgFlags) -> Result<usize> {
    let f = cx::file(cx, fd)?;
    socket(&f)?;
    send_one(cx, &f, &msg.get(mm(cx))?, flags.0)
}

/// Sends several messages: `sendmmsg(2)`. The number sent, or the error of the first.
pub fn sys_sendmmsg(cx: &Ctx, fd: Fd, vec: Ptr, vlen: u32, flags: MsgFlags) -> Result<u32> {
    let f = cx::file(cx, fd)?;
    socket(&f)?;
    let mm = mm(cx);
    let mut done = 0;
    while done < vlen.min(IOV_MAX as u32) {
        let at = element(vec, done);
        let one = mm
            .get::<MMsgHdr>(at)
            .and_then(|m| send_one(cx, &f, &m.hdr, flags.0))
            .and_then(|n| mm.put(at.wrapping_add(MSG_LEN), &(n as u32)));
        match one {
            Ok(()) => done += 1,
            Err(e) if done == 0 => return Err(e),
            Err(_) => break,
        }
        hal::cpu::current_waiter().yield_if_needed();
    }
    Ok(done)
}

fn element(vec: Ptr, i: u32) -> u64 {
    vec.0
        .wrapping_add(u64::from(i) * size_of::<MMsgHdr>() as u64)
}

/// Receives into the message at `at`.
fn recv_one(cx: &Ctx, f: &File, at: u64, flags: u32) -> Result<usize> {
    let mm = mm(cx);
    let h: MsgHdr = mm.get(at)?;
    if h.namelen < 0 {
        return Err(Errno::EINVAL);
    }
    let mut dst = buffers(mm, &h)?;
    let args = RecvArgs {
        flags,
        nonblock: f.nonblock(),
    };
    let mut got = socket(f)?.recv(cx, &mut dst, args)?;
    let room = if h.control == 0 {
        0
    } else {
        usize::try_from(h.controllen)
            .unwrap_or(usize::MAX)
            .min(MAX_CONTROL)
    };
    let cloexec = flags & MsgFlags::MSG_CMSG_CLOEXEC != 0;
    let out = control::emit(&*ns(cx)?, &mut got, room, |file| cx.install(file, cloexec));
    if h.name != 0 {
        let n = got.addr.len().min(h.namelen as usize);
        mm.write(h.name, got.addr.get(..n).unwrap_or(&[]))?;
        mm.put(at.wrapping_add(NAMELEN), &(got.addr.len() as i32))?;
    }
    mm.write(h.control, &out)?;
    mm.put(at.wrapping_add(CONTROLLEN), &(out.len() as u64))?;
    let back = flags & MsgFlags::MSG_CMSG_CLOEXEC;
    mm.put(at.wrapping_add(FLAGS), &(got.flags | back))?;
    Ok(got.len)
}

/// Receives a message: `recvmsg(2)`.
pub fn sys_recvmsg(cx: &Ctx, fd: Fd, msg: Out<MsgHdr>, flags: MsgFlags) -> Result<usize> {
    let f = cx::file(cx, fd)?;
    socket(&f)?;
    recv_one(cx, &f, msg.0, flags.0)
}

/// Receives several messages: `recvmmsg(2)`. The time limit is looked at after each message only, as on Linux.
pub fn sys_recvmmsg(
    cx: &Ctx,
    fd: Fd,
    vec: Ptr,
    vlen: u32,
    flags: MsgFlags,
    timeout: Out<Timespec>,
) -> Result<u32> {
    let mm = mm(cx);
    let limit = match timeout.get_opt(mm)? {
        Some(t) => Some(cx.kernel().now().saturating_add(t.to_ns()?)),
        None => None,
    };
    let f = cx::file(cx, fd)?;
    socket(&f)?;
    let for_one = flags.has(MsgFlags::MSG_WAITFORONE);
    let mut flags = flags.0 & !MsgFlags::MSG_WAITFORONE;
    let mut done = 0;
    let mut error = None;
    while done < vlen {
        let at = element(vec, done);
        let one =
            recv_one(cx, &f, at, flags).and_then(|n| mm.put(at.wrapping_add(MSG_LEN), &(n as u32)));
        if let Err(e) = one {
            error = Some(e);
            break;
        }
        done += 1;
        if for_one {
            flags |= MsgFlags::MSG_DONTWAIT;
        }
        if limit.is_some_and(|d| cx.kernel().now() >= d) {
            break;
        }
        hal::cpu::current_waiter().yield_if_needed();
    }
    if let Some(d) = limit {
        let left = d.saturating_sub(cx.kernel().now());
        timeout.put(mm, &Timespec::from_ns(left))?;
    }
    match error {
        Some(e) if done == 0 => Err(e),
        _ => Ok(done),
    }
}

/// Who may claim any process as the sender must name one that exists. [`Errno::ESRCH`].
fn check_sender(cx: &Ctx, c: &Control) -> Result {
    let Some(cred) = &c.cred else { return Ok(()) };
    let other = cred.pid != cx.process().pid();
    if other
        && cx.cred().capable(vfs::cred::cap::SYS_ADMIN)
        && cx.kernel().pids.task(cred.pid).is_none()
    {
        return Err(Errno::ESRCH);
    }
    Ok(())
}
