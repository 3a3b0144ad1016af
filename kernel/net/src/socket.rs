//! [`Socket`]: what a family implements.

use abi::Result;
use abi::io::UCred;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use mm::io::{Sink, Source};
use vfs::file::Caller;
use vfs::namei::Walk;
use vfs::{File, PollEvents, PollTable};

/// Flags of send(2) and recv(2).
pub mod msg {
    #![expect(missing_docs)]
    pub const OOB: u32 = 0x1;
    pub const PEEK: u32 = 0x2;
    pub const CTRUNC: u32 = 0x8;
    pub const TRUNC: u32 = 0x20;
    pub const DONTWAIT: u32 = 0x40;
    pub const EOR: u32 = 0x80;
    pub const WAITALL: u32 = 0x100;
    pub const ERRQUEUE: u32 = 0x2000;
    pub const NOSIGNAL: u32 = 0x4000;
    pub const MORE: u32 = 0x8000;
    pub const CMSG_CLOEXEC: u32 = 0x4000_0000;
}

/// Type of a socket; values are those of `SOCK_*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
#[repr(i32)]
#[expect(missing_docs)]
pub enum SockKind {
    Stream = 1,
    Dgram = 2,
    Raw = 3,
    Rdm = 4,
    SeqPacket = 5,
}

impl SockKind {
    /// From the type argument of socket(2) without its flags.
    pub fn from_raw(v: i32) -> Option<SockKind> {
        Some(match v {
            1 => SockKind::Stream,
            2 => SockKind::Dgram,
            3 => SockKind::Raw,
            4 => SockKind::Rdm,
            5 => SockKind::SeqPacket,
            _ => return None,
        })
    }
    /// Its number.
    pub fn to_raw(self) -> u32 {
        match self {
            SockKind::Stream => 1,
            SockKind::Dgram => 2,
            SockKind::Raw => 3,
            SockKind::Rdm => 4,
            SockKind::SeqPacket => 5,
        }
    }
}

/// Who calls, and how it walks paths (`None`: it cannot; only pathname sockets need it).
#[derive(Clone, Copy)]
#[expect(missing_docs)]
pub struct SockCx<'a> {
    pub cx: &'a dyn Caller,
    pub walk: Option<&'a Walk<'a>>,
}

/// Control data of a message, in the kernel's terms; see [`crate::control`].
#[derive(Default)]
pub struct Control {
    /// SCM_RIGHTS.
    pub files: Vec<Arc<File>>,
    /// SCM_CREDENTIALS.
    pub cred: Option<UCred>,
}

/// Arguments of sendmsg(2) besides the data.
#[derive(Default)]
pub struct SendArgs<'a> {
    /// Destination; `None` or empty: the peer.
    pub addr: Option<&'a [u8]>,
    /// Control data.
    pub control: Control,
    /// [`msg`] bits.
    pub flags: u32,
    /// O_NONBLOCK of the file (MSG_DONTWAIT is in `flags`).
    pub nonblock: bool,
}

/// Arguments of recvmsg(2) besides the buffer.
#[derive(Clone, Copy, Default, Debug)]
pub struct RecvArgs {
    /// [`msg`] bits.
    pub flags: u32,
    /// O_NONBLOCK of the file.
    pub nonblock: bool,
}

/// What recvmsg(2) returns besides the data.
#[derive(Default)]
pub struct Received {
    /// Return value.
    pub len: usize,
    /// Address of the sender; empty if it has none.
    pub addr: Vec<u8>,
    /// Control data. Credentials are present only if the receiver asked for them.
    pub control: Control,
    /// `msg_flags`: TRUNC, EOR.
    pub flags: u32,
}

/// A socket. Methods may sleep; addresses are `struct sockaddr` bytes.
pub trait Socket: Send + Sync {
    /// For downcasts within a family.
    fn as_any(&self) -> &dyn Any;
    /// `AF_*`.
    fn domain(&self) -> i32;
    /// Type.
    fn kind(&self) -> SockKind;
    /// bind(2).
    fn bind(&self, cx: SockCx<'_>, addr: &[u8]) -> Result;
    /// connect(2).
    fn connect(&self, cx: SockCx<'_>, addr: &[u8], nonblock: bool) -> Result;
    /// listen(2).
    fn listen(&self, cx: &dyn Caller, backlog: i32) -> Result;
    /// accept(2): the new socket; its peer's address is its `name(true)`.
    fn accept(&self, nonblock: bool) -> Result<Arc<dyn Socket>>;
    /// getsockname(2), or getpeername(2) if `peer`.
    fn name(&self, peer: bool) -> Result<Vec<u8>>;
    /// shutdown(2).
    fn shutdown(&self, how: i32) -> Result;
    /// sendmsg(2).
    fn send(&self, cx: SockCx<'_>, src: &mut dyn Source, args: SendArgs<'_>) -> Result<usize>;
    /// recvmsg(2).
    fn recv(&self, cx: &dyn Caller, dst: &mut dyn Sink, args: RecvArgs) -> Result<Received>;
    /// getsockopt(2): the value, at most `len` bytes of it are copied.
    fn get_option(&self, cx: &dyn Caller, level: i32, name: i32) -> Result<Vec<u8>>;
    /// setsockopt(2).
    fn set_option(&self, cx: &dyn Caller, level: i32, name: i32, value: &[u8]) -> Result;
    /// Readiness.
    fn poll(&self, table: Option<&mut PollTable<'_>>) -> PollEvents;
    /// ioctl(2) whose answer is an int. [`abi::Errno::ENOTTY`].
    fn ioctl_int(&self, cmd: u32) -> Result<i32>;
    /// Whether [`abi::Errno::EPIPE`] from sending comes with SIGPIPE.
    fn raises_sigpipe(&self) -> bool;
    /// A descriptor was closed; others may still exist.
    fn descriptor_closed(&self) {}
    /// It has become an open file, whose inode has this number.
    fn opened(&self, _ino: u64) {}
    /// The last reference to the open file is gone.
    fn close(&self);
}
