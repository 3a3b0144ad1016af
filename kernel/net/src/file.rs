//! Sockets as open files.

use crate::ns::{NetNs, family};
use crate::socket::{RecvArgs, SendArgs, SockCx, SockKind, Socket};
use abi::ioctl;
use abi::{Errno, Result};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use mm::io::{Sink, Source};
use vfs::file::Caller;
use vfs::{File, FileOps, Inode, OpenFlags, PollEvents, PollTable};

/// An open socket.
pub struct SocketFile {
    /// The socket.
    pub socket: Arc<dyn Socket>,
    ns: Arc<NetNs>,
    ino: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.socket.close();
    }
}

impl FileOps for SocketFile {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn read(&self, f: &File, cx: &dyn Caller, _pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        let args = RecvArgs {
            flags: 0,
            nonblock: f.nonblock(),
        };
        let got = self.socket.recv(cx, dst, args)?;
        // Descriptors that come with plain reads are lost, as unix(7) says.
        self.ns.unix.bury(got.control.files);
        Ok(got.len)
    }
    fn write(&self, f: &File, cx: &dyn Caller, _pos: u64, src: &mut dyn Source) -> Result<usize> {
        let args = SendArgs {
            nonblock: f.nonblock(),
            ..SendArgs::default()
        };
        self.socket.send(SockCx { cx, walk: None }, src, args)
    }
    fn poll(&self, _f: &File, table: Option<&mut PollTable<'_>>) -> PollEvents {
        self.socket.poll(table)
    }
    fn ioctl(&self, _f: &File, cx: &dyn Caller, cmd: u32, arg: u64) -> Result<u64> {
        if !matches!(cmd, ioctl::SIOCINQ | ioctl::SIOCOUTQ) {
            return Err(Errno::ENOTTY);
        }
        let v = self.socket.ioctl_int(cmd)?;
        cx.mm().ok_or(Errno::EFAULT)?.put(arg, &v)?;
        Ok(0)
    }
    fn flush(&self, _f: &File) {
        self.socket.descriptor_closed();
    }
    fn anon_name(&self) -> Option<Vec<u8>> {
        Some(format!("socket:[{}]", self.ino).into_bytes())
    }
}

/// The socket behind a file, if it is one; else [`Errno::ENOTSOCK`] is due.
pub fn as_socket(f: &File) -> Option<&dyn Socket> {
    let s: &SocketFile = f.ops.as_any().downcast_ref()?;
    Some(&*s.socket)
}

fn wrap(ns: &Arc<NetNs>, cx: &dyn Caller, socket: Arc<dyn Socket>, flags: OpenFlags) -> Arc<File> {
    let inode = ns.anon.socket_inode(cx);
    socket.opened(inode.ino());
    let ops = Arc::new(SocketFile {
        socket,
        ns: ns.clone(),
        ino: inode.ino(),
    });
    let flags = flags & OpenFlags::NONBLOCK | OpenFlags::RDWR;
    File::new(ops, inode, None, flags, cx.cred())
}

/// Splits the type argument of socket(2). [`Errno::EINVAL`].
fn split_kind(kind: i32) -> Result<(SockKind, OpenFlags)> {
    let flags = OpenFlags::from_bits_retain((kind & !0xf) as u32);
    let may = OpenFlags::NONBLOCK | OpenFlags::CLOEXEC;
    if !flags.difference(may).is_empty() {
        return Err(Errno::EINVAL);
    }
    let kind = SockKind::from_raw(kind & 0xf).ok_or(Errno::EINVAL)?;
    Ok((kind, flags))
}

/// socket(2); SOCK_CLOEXEC is the caller's.
pub fn create(
    ns: &Arc<NetNs>,
    cx: &dyn Caller,
    domain: i32,
    kind: i32,
    protocol: i32,
) -> Result<Arc<File>> {
    let (kind, flags) = split_kind(kind)?;
    let socket = (family(domain)?.create)(ns, cx, kind, protocol)?;
    Ok(wrap(ns, cx, socket, flags))
}

/// socketpair(2).
pub fn pair(
    ns: &Arc<NetNs>,
    cx: &dyn Caller,
    domain: i32,
    kind: i32,
    protocol: i32,
) -> Result<(Arc<File>, Arc<File>)> {
    let (kind, flags) = split_kind(kind)?;
    let make = family(domain)?.pair.ok_or(Errno::EOPNOTSUPP)?;
    let (a, b) = make(ns, cx, kind, protocol)?;
    Ok((wrap(ns, cx, a, flags), wrap(ns, cx, b, flags)))
}

/// accept4(2): the new file and the peer's address. `flags`: SOCK_NONBLOCK (SOCK_CLOEXEC is the caller's);
/// [`Errno::EINVAL`], [`Errno::ENOTSOCK`].
pub fn accept(
    ns: &Arc<NetNs>,
    cx: &dyn Caller,
    f: &File,
    flags: u32,
) -> Result<(Arc<File>, Vec<u8>)> {
    let flags = OpenFlags::from_bits_retain(flags);
    if !flags
        .difference(OpenFlags::NONBLOCK | OpenFlags::CLOEXEC)
        .is_empty()
    {
        return Err(Errno::EINVAL);
    }
    let listener = as_socket(f).ok_or(Errno::ENOTSOCK)?;
    let socket = listener.accept(f.nonblock())?;
    let new = wrap(ns, cx, socket.clone(), flags);
    let addr = socket.name(true).unwrap_or_default();
    Ok((new, addr))
}
