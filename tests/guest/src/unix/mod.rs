//! Sockets of the unix family.

mod buffers;
mod names;
mod passing;
mod transfer;

use buffers::*;
use names::*;
use passing::*;
use transfer::*;

use crate::prelude::*;

tests![
    bind_connect,
    bind_errors,
    abstract_names,
    autobind,
    connect_errors,
    accept_calls,
    backlog_full,
    names_of_ends,
    reconnect_dgram,
    socket_files,
    stream_transfer,
    stream_eof,
    shutdown_matrix,
    dgram_boundaries,
    dgram_errors,
    seqpacket,
    peek_and_trunc,
    waitall,
    msg_vectors,
    nonblocking,
    big_stream,
    sendmmsg_calls,
    timeouts,
    queue_limits,
    socketpair_kinds,
    options,
    out_of_band,
    ioctls,
    many_pairs,
    threads_on_one,
    scm_rights,
    scm_rights_many,
    scm_rights_errors,
    scm_rights_trunc,
    scm_credentials,
    scm_so_passcred,
    peercred,
    rights_cycle,
    rights_of_sockets,
    cloexec_rights,
    buffer_costs,
    buffer_sizes,
    buffer_blocks,
];

pub fn sock(kind: i32) -> i32 {
    sys!(socket(AF_UNIX, kind, 0)).fd()
}

/// An address; a leading `@` makes it abstract.
pub fn addr(name: &str) -> (sockaddr_un, u32) {
    let mut a: sockaddr_un = zero();
    a.sun_family = AF_UNIX as u16;
    let b = name.as_bytes();
    for (i, c) in b.iter().enumerate() {
        a.sun_path[i] = if i == 0 && *c == b'@' { 0 } else { *c as i8 };
    }
    let end = if b.first() == Some(&b'@') { 0 } else { 1 };
    (a, (2 + b.len() + end) as u32)
}

pub fn bind_to(fd: i32, name: &str) -> R {
    let (a, n) = addr(name);
    sys!(bind(fd, (&raw const a).cast(), n))
}

pub fn connect_to(fd: i32, name: &str) -> R {
    let (a, n) = addr(name);
    sys!(connect(fd, (&raw const a).cast(), n))
}

/// The name in an address as text.
pub fn shown(a: &sockaddr_un, len: u32) -> String {
    if len <= 2 {
        return format!("unnamed/{len}");
    }
    let b: Vec<u8> = a.sun_path[..(len as usize - 2).min(108)]
        .iter()
        .map(|c| *c as u8)
        .collect();
    format!("{}/{len}", show(&b))
}

pub fn own_name(fd: i32) -> String {
    let mut a: sockaddr_un = zero();
    let mut n = size_of::<sockaddr_un>() as u32;
    let r = sys!(getsockname(fd, (&raw mut a).cast(), &mut n));
    if r.failed() {
        r.to_string()
    } else {
        shown(&a, n)
    }
}

pub fn peer_name(fd: i32) -> String {
    let mut a: sockaddr_un = zero();
    let mut n = size_of::<sockaddr_un>() as u32;
    let r = sys!(getpeername(fd, (&raw mut a).cast(), &mut n));
    if r.failed() {
        r.to_string()
    } else {
        shown(&a, n)
    }
}

pub fn listener(kind: i32, name: &str) -> i32 {
    let fd = sock(kind);
    bind_to(fd, name).v();
    sys!(listen(fd, 8)).v();
    fd
}

pub fn send_(fd: i32, b: &[u8], fl: i32) -> R {
    sys!(send(fd, b.as_ptr().cast(), b.len(), fl | MSG_NOSIGNAL))
}

pub fn recv_(fd: i32, n: usize, fl: i32) -> String {
    let mut b = vec![0u8; n];
    let r = sys!(recv(fd, b.as_mut_ptr().cast(), n, fl));
    if r.failed() {
        r.to_string()
    } else {
        format!("{r}:{}", show(&b[..(r.0 as usize).min(n)]))
    }
}

pub fn opt(fd: i32, name: i32) -> String {
    let mut v = -1i32;
    let mut n = 4u32;
    let r = sys!(getsockopt(
        fd,
        SOL_SOCKET,
        name,
        (&raw mut v).cast(),
        &mut n
    ));
    if r.failed() {
        r.to_string()
    } else {
        v.to_string()
    }
}

pub fn set_opt(fd: i32, name: i32, v: i32) -> R {
    sys!(setsockopt(fd, SOL_SOCKET, name, (&raw const v).cast(), 4))
}
