//! Control messages as bytes, cmsg(3).

use crate::NetNs;
use crate::socket::{Control, Received, msg};
use abi::io::UCred;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use vfs::File;
use zerocopy::{FromBytes, IntoBytes};

const SOL_SOCKET: i32 = 1;
const SCM_RIGHTS: i32 = 1;
const SCM_CREDENTIALS: i32 = 2;
/// Size of `struct cmsghdr`.
const HEAD: usize = 16;
/// Most descriptors of one message.
const SCM_MAX_FD: usize = 253;
/// Most control bytes of one message (`net.core.optmem_max`).
pub const MAX_CONTROL: usize = 131_072;

fn align(n: usize) -> usize {
    n.saturating_add(7) & !7
}

/// Takes the control buffer of sendmsg(2) apart. `file`: finds the caller's descriptors.
/// [`Errno::EINVAL`], [`Errno::EBADF`].
pub fn parse(bytes: &[u8], mut file: impl FnMut(i32) -> Result<Arc<File>>) -> Result<Control> {
    let mut c = Control::default();
    let mut rest = bytes;
    while rest.len() >= HEAD {
        let word = |at: usize| {
            rest.get(at..at + 4)
                .and_then(|b| <[u8; 4]>::try_from(b).ok())
                .map_or(0, i32::from_ne_bytes)
        };
        let len = rest
            .get(..8)
            .and_then(|b| <[u8; 8]>::try_from(b).ok())
            .map_or(0, u64::from_ne_bytes) as usize;
        let data = match rest.get(HEAD..len) {
            Some(d) if len >= HEAD => d,
            _ => return Err(Errno::EINVAL),
        };
        if word(8) == SOL_SOCKET {
            match word(12) {
                SCM_RIGHTS => {
                    if data.len() / 4 + c.files.len() > SCM_MAX_FD {
                        return Err(Errno::EINVAL);
                    }
                    for fd in data.chunks_exact(4) {
                        let fd = i32::from_ne_bytes([fd[0], fd[1], fd[2], fd[3]]);
                        c.files.push(file(fd)?);
                    }
                }
                SCM_CREDENTIALS => {
                    let cred = UCred::read_from_bytes(data).map_err(|_| Errno::EINVAL)?;
                    c.cred = Some(cred);
                }
                _ => return Err(Errno::EINVAL),
            }
        }
        rest = rest.get(align(len)..).unwrap_or_default();
    }
    Ok(c)
}

fn put(out: &mut Vec<u8>, room: usize, kind: i32, data: &[u8]) -> bool {
    let len = HEAD + data.len();
    if room.saturating_sub(out.len()) < len {
        return false;
    }
    out.extend_from_slice(&(len as u64).to_ne_bytes());
    out.extend_from_slice(&SOL_SOCKET.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(data);
    let padded = align(out.len()).min(room);
    out.resize(padded, 0);
    true
}

/// Makes the control buffer of recvmsg(2), at most `room` bytes, installing descriptors with `install`
/// (which obeys MSG_CMSG_CLOEXEC). What does not fit is dropped, and MSG_CTRUNC set in `received.flags`.
/// Call it even with `room` 0.
pub fn emit(
    ns: &NetNs,
    received: &mut Received,
    room: usize,
    mut install: impl FnMut(Arc<File>) -> Result<i32>,
) -> Vec<u8> {
    let mut out = Vec::new();
    let control = core::mem::take(&mut received.control);
    if let Some(cred) = control.cred
        && !put(&mut out, room, SCM_CREDENTIALS, cred.as_bytes())
    {
        received.flags |= msg::CTRUNC;
    }
    if control.files.is_empty() {
        return out;
    }
    let fit = room.saturating_sub(out.len()).saturating_sub(HEAD) / 4;
    let mut fds: Vec<u8> = Vec::new();
    let mut rest: Vec<Arc<File>> = Vec::new();
    for f in control.files {
        if fds.len() / 4 >= fit || !rest.is_empty() {
            rest.push(f);
            continue;
        }
        match install(f.clone()) {
            Ok(fd) => fds.extend_from_slice(&fd.to_ne_bytes()),
            Err(_) => rest.push(f),
        }
    }
    if !rest.is_empty() {
        received.flags |= msg::CTRUNC;
        ns.unix.bury(rest);
    }
    if !fds.is_empty() {
        put(&mut out, room, SCM_RIGHTS, &fds);
    }
    out
}
