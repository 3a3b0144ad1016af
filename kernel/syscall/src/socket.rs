//! Sockets: socket(2), bind(2), connect(2), accept(2), send(2), recv(2), socket options.

use crate::args::{Bytes, BytesOut, Fd, Out, Ptr, SockAddr};
use crate::cx::{self, mm};
use crate::decode::FdPair;
use crate::file::pipe_signal;
use crate::flags::{Family, MsgFlags, ShutHow, SockFlags, SockLevel, SockType};
use crate::pipe::install_pair;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use mm::user::UserIo;
use net::NetNs;
use net::file::as_socket;
use net::socket::{RecvArgs, SendArgs, SockCx, Socket};
use task::Ctx;
use vfs::File;
use vfs::fdtable::close_file;

/// Size of `struct sockaddr_storage`.
const ADDR_MAX: usize = 128;
/// Largest value of an option.
const OPTION_MAX: u32 = 4096;

/// The machine's sockets. [`Errno::EAFNOSUPPORT`] if it has none.
pub fn ns(cx: &Ctx) -> Result<Arc<NetNs>> {
    let slot = cx.kernel().slots.net.get().cloned();
    slot.and_then(|s| s.downcast::<NetNs>().ok())
        .ok_or(Errno::EAFNOSUPPORT)
}

/// The socket of a file. [`Errno::ENOTSOCK`].
pub fn socket(f: &File) -> Result<&dyn Socket> {
    as_socket(f).ok_or(Errno::ENOTSOCK)
}

/// Copies an address in. [`Errno::EINVAL`] if its length is none.
pub fn address(cx: &Ctx, addr: u64, len: u32) -> Result<Vec<u8>> {
    if len as usize > ADDR_MAX {
        return Err(Errno::EINVAL);
    }
    mm(cx).get_vec::<u8>(addr, len as usize)
}

/// Stores an address and its true length; a short buffer gets what fits.
pub fn store_address(cx: &Ctx, addr: &[u8], to: Ptr, len: Out<u32>) -> Result {
    let mm = mm(cx);
    let room = len.get(mm)? as i32;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    mm.write(to.0, addr.get(..room).unwrap_or(addr))?;
    len.put(mm, &(addr.len() as u32))
}

/// Makes a socket: `socket(2)`.
pub fn sys_socket(cx: &Ctx, domain: Family, kind: SockType, protocol: i32) -> Result<i32> {
    let file = net::file::create(&ns(cx)?, cx, domain.0, kind.0 as i32, protocol)?;
    cx.install(file, kind.0 & SockFlags::SOCK_CLOEXEC != 0)
}

/// Makes a connected pair: `socketpair(2)`.
pub fn sys_socketpair(
    cx: &Ctx,
    domain: Family,
    kind: SockType,
    protocol: i32,
    sv: Out<FdPair>,
) -> Result {
    let pair = net::file::pair(&ns(cx)?, cx, domain.0, kind.0 as i32, protocol)?;
    install_pair(cx, pair, kind.0 & SockFlags::SOCK_CLOEXEC != 0, sv)
}

/// Gives a socket an address: `bind(2)`.
pub fn sys_bind(cx: &Ctx, fd: Fd, addr: SockAddr, len: u32) -> Result {
    let f = cx::file(cx, fd)?;
    let s = socket(&f)?;
    let addr = address(cx, addr.0, len)?;
    let walk = cx::here(cx);
    let scx = SockCx {
        cx,
        walk: Some(&walk),
    };
    s.bind(scx, &addr)
}

/// Connects a socket: `connect(2)`.
pub fn sys_connect(cx: &Ctx, fd: Fd, addr: SockAddr, len: u32) -> Result {
    let f = cx::file(cx, fd)?;
    let s = socket(&f)?;
    let addr = address(cx, addr.0, len)?;
    let walk = cx::here(cx);
    let scx = SockCx {
        cx,
        walk: Some(&walk),
    };
    s.connect(scx, &addr, f.nonblock())
}

/// Takes connections from now on: `listen(2)`.
pub fn sys_listen(cx: &Ctx, fd: Fd, backlog: i32) -> Result {
    let f = cx::file(cx, fd)?;
    socket(&f)?.listen(cx, backlog)
}

/// Takes a connection: `accept(2)`.
pub fn sys_accept(cx: &Ctx, fd: Fd, addr: Ptr, len: Out<u32>) -> Result<i32> {
    sys_accept4(cx, fd, addr, len, SockFlags(0))
}

/// Takes a connection, with flags: `accept4(2)`.
pub fn sys_accept4(cx: &Ctx, fd: Fd, addr: Ptr, len: Out<u32>, flags: SockFlags) -> Result<i32> {
    if flags.beyond(SockFlags::ALL) {
        return Err(Errno::EINVAL);
    }
    let f = cx::file(cx, fd)?;
    socket(&f)?;
    let (new, peer) = net::file::accept(&ns(cx)?, cx, &f, flags.0)?;
    if addr.0 == 0 {
        return cx.install(new, flags.has(SockFlags::SOCK_CLOEXEC));
    }
    let fd = cx.install(new, flags.has(SockFlags::SOCK_CLOEXEC))?;
    store_address(cx, &peer, addr, len).inspect_err(|_| {
        if let Ok(f) = cx.files().remove(fd) {
            close_file(f, cx::table_owner(cx));
        }
    })?;
    Ok(fd)
}

/// Own address: `getsockname(2)`.
pub fn sys_getsockname(cx: &Ctx, fd: Fd, addr: Ptr, len: Out<u32>) -> Result {
    let f = cx::file(cx, fd)?;
    store_address(cx, &socket(&f)?.name(false)?, addr, len)
}

/// Address of the peer: `getpeername(2)`.
pub fn sys_getpeername(cx: &Ctx, fd: Fd, addr: Ptr, len: Out<u32>) -> Result {
    let f = cx::file(cx, fd)?;
    store_address(cx, &socket(&f)?.name(true)?, addr, len)
}

/// Ends one or both directions: `shutdown(2)`.
pub fn sys_shutdown(cx: &Ctx, fd: Fd, how: ShutHow) -> Result {
    let f = cx::file(cx, fd)?;
    let s = socket(&f)?;
    if !(0..=2).contains(&how.0) {
        return Err(Errno::EINVAL);
    }
    s.shutdown(how.0)
}

/// Sends; EPIPE comes with SIGPIPE as the socket's type says, unless MSG_NOSIGNAL.
pub fn send(cx: &Ctx, f: &File, src: &mut UserIo<'_>, args: SendArgs<'_>) -> Result<usize> {
    let s = socket(f)?;
    let quiet = args.flags & MsgFlags::MSG_NOSIGNAL != 0 || !s.raises_sigpipe();
    let walk = cx::here(cx);
    let scx = SockCx {
        cx,
        walk: Some(&walk),
    };
    let r = s.send(scx, src, args);
    if quiet { r } else { pipe_signal(cx, r) }
}

/// Sends bytes: `sendto(2)`.
pub fn sys_sendto(
    cx: &Ctx,
    fd: Fd,
    buf: Bytes,
    len: u64,
    flags: MsgFlags,
    addr: SockAddr,
    addrlen: u32,
) -> Result<usize> {
    let mm = mm(cx);
    cx::check_range(buf.0, len)?;
    let mut src = UserIo::new(mm, buf.0, len)?;
    let f = cx::file(cx, fd)?;
    socket(&f)?;
    let to = if addr.0 == 0 {
        None
    } else {
        Some(address(cx, addr.0, addrlen)?)
    };
    let args = SendArgs {
        addr: to.as_deref(),
        flags: flags.0,
        nonblock: f.nonblock(),
        ..SendArgs::default()
    };
    send(cx, &f, &mut src, args)
}

/// Receives bytes: `recvfrom(2)`.
pub fn sys_recvfrom(
    cx: &Ctx,
    fd: Fd,
    buf: BytesOut,
    len: u64,
    flags: MsgFlags,
    addr: Ptr,
    addrlen: Out<u32>,
) -> Result<usize> {
    let mm = mm(cx);
    cx::check_range(buf.0, len)?;
    let mut dst = UserIo::new(mm, buf.0, len)?;
    let f = cx::file(cx, fd)?;
    let args = RecvArgs {
        flags: flags.0,
        nonblock: f.nonblock(),
    };
    let mut got = socket(&f)?.recv(cx, &mut dst, args)?;
    // Control data has nowhere to go.
    net::control::emit(&*ns(cx)?, &mut got, 0, |_| Err(Errno::EMFILE));
    if addr.0 != 0 {
        store_address(cx, &got.addr, addr, addrlen)?;
    }
    Ok(got.len)
}

/// Sets an option: `setsockopt(2)`.
pub fn sys_setsockopt(
    cx: &Ctx,
    fd: Fd,
    level: SockLevel,
    name: i32,
    value: Ptr,
    len: u32,
) -> Result {
    if (len as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let f = cx::file(cx, fd)?;
    let s = socket(&f)?;
    let value = mm(cx).get_vec::<u8>(value.0, len.min(OPTION_MAX) as usize)?;
    s.set_option(cx, level.0, name, &value)
}

/// Reads an option: `getsockopt(2)`.
pub fn sys_getsockopt(
    cx: &Ctx,
    fd: Fd,
    level: SockLevel,
    name: i32,
    value: Ptr,
    len: Out<u32>,
) -> Result {
    let f = cx::file(cx, fd)?;
    let s = socket(&f)?;
    let mm = mm(cx);
    let room = len.get(mm)? as i32;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let v = s.get_option(cx, level.0, name)?;
    let v = v.get(..room).unwrap_or(&v);
    mm.write(value.0, v)?;
    len.put(mm, &(v.len() as u32))
}
