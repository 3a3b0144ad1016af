//! devfs: /dev.
//!
//! The file system itself is a tmpfs that boot fills from [`NODES`] and
//! [`LINKS`]; this crate has the drivers of the memory devices ([`mem`]).
//! Terminals are the tty crate's.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod mem;

/// A device node of /dev: name, major, minor, permission bits.
pub type NodeRow = (&'static [u8], u32, u32, u32);

/// The character devices of a machine, null(4), random(4), tty(4), console(4).
pub const NODES: &[NodeRow] = &[
    (b"null", 1, 3, 0o666),
    (b"zero", 1, 5, 0o666),
    (b"full", 1, 7, 0o666),
    (b"random", 1, 8, 0o666),
    (b"urandom", 1, 9, 0o666),
    (b"kmsg", 1, 11, 0o644),
    (b"tty", 5, 0, 0o666),
    (b"console", 5, 1, 0o600),
    (b"ptmx", 5, 2, 0o666),
];

/// Symbolic links of /dev: name, target.
pub const LINKS: &[(&[u8], &[u8])] = &[
    (b"fd", b"/proc/self/fd"),
    (b"stdin", b"/proc/self/fd/0"),
    (b"stdout", b"/proc/self/fd/1"),
    (b"stderr", b"/proc/self/fd/2"),
];

/// Directories of /dev on which boot mounts: name, permission bits.
pub const DIRS: &[(&[u8], u32)] = &[(b"pts", 0o755), (b"shm", 0o1777), (b"mqueue", 0o1777)];
