//! Names of unix sockets.

use super::{AF_UNIX, UnixNs, UnixSocket};
use crate::socket::{SockCx, SockKind};
use abi::{Errno, Result};
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use vfs::namei::WalkFlags;
use vfs::{FileType, InodeRef};

/// Size of `struct sockaddr_un`.
const SOCKADDR_UN: usize = 110;

/// An address as a program gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A path, without its NUL.
    Path(Vec<u8>),
    /// An abstract name, without its leading NUL.
    Abstract(Vec<u8>),
}

/// A bound name and whose it is. The inode of a path holds one as well.
pub struct Binding {
    pub(super) name: Arc<Name>,
    pub(super) socket: Weak<UnixSocket>,
    /// Keeps the inode of a path, and with it the binding, in memory.
    _inode: Option<InodeRef>,
}

/// `sockaddr` bytes to a name; `None`: just the family (autobind). [`Errno::EINVAL`].
pub(super) fn decode(addr: &[u8]) -> Result<Option<Name>> {
    let (Some(family), Some(path)) = (addr.get(..2), addr.get(2..)) else {
        return Err(Errno::EINVAL);
    };
    if addr.len() > SOCKADDR_UN || family != (AF_UNIX as u16).to_ne_bytes() {
        return Err(Errno::EINVAL);
    }
    Ok(match path {
        [] => None,
        [0, rest @ ..] => Some(Name::Abstract(rest.to_vec())),
        p => {
            let end = p.iter().position(|b| *b == 0).unwrap_or(p.len());
            Some(Name::Path(p.get(..end).unwrap_or_default().to_vec()))
        }
    })
}

/// A name (or none) to `sockaddr` bytes.
pub fn encode(name: Option<&Name>) -> Vec<u8> {
    let mut out = (AF_UNIX as u16).to_ne_bytes().to_vec();
    match name {
        None => {}
        Some(Name::Path(p)) => {
            out.extend_from_slice(p);
            out.push(0);
        }
        Some(Name::Abstract(a)) => {
            out.push(0);
            out.extend_from_slice(a);
        }
    }
    out
}

/// Makes the socket file of a path and ties `socket` to it. [`Errno::EADDRINUSE`].
pub(super) fn bind_path(
    cx: SockCx<'_>,
    path: Vec<u8>,
    socket: &Weak<UnixSocket>,
) -> Result<Arc<Binding>> {
    let walk = cx.walk.ok_or(Errno::EINVAL)?;
    let mode = FileType::Socket.mode_bits() | 0o777;
    let place = walk.mknod(&path, mode, 0).map_err(|e| match e {
        Errno::EEXIST => Errno::EADDRINUSE,
        e => e,
    })?;
    let inode = place.dentry.inode().ok_or(Errno::ENOENT)?;
    let binding = Arc::new(Binding {
        name: Arc::new(Name::Path(path)),
        socket: socket.clone(),
        _inode: Some(inode.clone()),
    });
    // The inode gets a binding of its own, without a reference to itself.
    let known = Arc::new(Binding {
        name: binding.name.clone(),
        socket: socket.clone(),
        _inode: None,
    });
    let slot = inode.socket_slot().ok_or(Errno::EOPNOTSUPP)?;
    let old = slot.lock().replace(known);
    drop(old);
    Ok(binding)
}

impl UnixNs {
    /// Takes an abstract name. [`Errno::EADDRINUSE`].
    pub(super) fn bind_abstract(
        &self,
        kind: SockKind,
        name: Vec<u8>,
        socket: &Weak<UnixSocket>,
    ) -> Result<Arc<Binding>> {
        let mut names = self.names.lock();
        let key = (kind, name);
        if names.get(&key).is_some_and(|w| w.strong_count() > 0) {
            return Err(Errno::EADDRINUSE);
        }
        let binding = Arc::new(Binding {
            name: Arc::new(Name::Abstract(key.1.clone())),
            socket: socket.clone(),
            _inode: None,
        });
        names.insert(key, socket.clone());
        Ok(binding)
    }
    /// Takes a free abstract name of five hex digits. [`Errno::ENOSPC`].
    pub(super) fn autobind(
        &self,
        kind: SockKind,
        socket: &Weak<UnixSocket>,
    ) -> Result<Arc<Binding>> {
        for _ in 0..1 << 20 {
            let n = self.next_auto.fetch_add(1, Ordering::Relaxed) & 0xf_ffff;
            let name = format!("{n:05x}").into_bytes();
            match self.bind_abstract(kind, name, socket) {
                Err(Errno::EADDRINUSE) => {}
                r => return r,
            }
        }
        Err(Errno::ENOSPC)
    }
    /// Gives an abstract name back.
    pub(super) fn unbind(&self, kind: SockKind, binding: &Binding) {
        if let Name::Abstract(a) = &*binding.name {
            let mut names = self.names.lock();
            let key = (kind, a.clone());
            if names
                .get(&key)
                .is_some_and(|w| Weak::ptr_eq(w, &binding.socket))
            {
                names.remove(&key);
            }
        }
    }
    /// The socket of a name. [`Errno::ECONNREFUSED`], [`Errno::EPROTOTYPE`], errors of the walk.
    pub(super) fn find(
        &self,
        cx: SockCx<'_>,
        kind: SockKind,
        name: &Name,
    ) -> Result<Arc<UnixSocket>> {
        match name {
            Name::Abstract(a) => {
                let found = self.names.lock().get(&(kind, a.clone())).cloned();
                found.and_then(|w| w.upgrade()).ok_or(Errno::ECONNREFUSED)
            }
            Name::Path(p) => {
                let walk = cx.walk.ok_or(Errno::ENOENT)?;
                let place = walk.lookup(p, WalkFlags::FOLLOW)?;
                walk.access(&place, 2, false)?;
                let inode = place.dentry.inode().ok_or(Errno::ENOENT)?;
                if inode.file_type() != FileType::Socket {
                    return Err(Errno::ECONNREFUSED);
                }
                let slot = inode.socket_slot().ok_or(Errno::ECONNREFUSED)?;
                let any = slot.lock().clone().ok_or(Errno::ECONNREFUSED)?;
                let binding = any.downcast::<Binding>().map_err(|_| Errno::ECONNREFUSED)?;
                let socket = binding.socket.upgrade().ok_or(Errno::ECONNREFUSED)?;
                if socket.kind != kind {
                    return Err(Errno::EPROTOTYPE);
                }
                Ok(socket)
            }
        }
    }
}
