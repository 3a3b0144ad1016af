//! Host files: a Landlock rule set.
//!
//! Below the root directory and read-only binds files may be read; below writable binds
//! also written, made, renamed and removed; nothing else may be opened, and descriptors
//! opened before stay what they are. Signals and abstract sockets lead to
//! the machine's own processes only.
//!
//! Where the root is the host's own, its `/proc`, `/sys`, `/dev` and `/run` are left out:
//! the machine has its own.

use crate::dir::HostTree;
use crate::dir::fds::HostFd;
use host_sys::landlock::{self, Handled, access};
use host_sys::{Errno, file};
use std::ffi::CString;

const READ_FILE: u64 = access::READ_FILE;
const READ: u64 = READ_FILE | access::READ_DIR;
const WRITE_FILE: u64 = READ_FILE | access::WRITE_FILE | access::TRUNCATE;
const WRITE: u64 = READ
    | WRITE_FILE
    | access::REMOVE_DIR
    | access::REMOVE_FILE
    | access::MAKE_DIR
    | access::MAKE_REG
    | access::MAKE_SOCK
    | access::MAKE_FIFO
    | access::MAKE_SYM
    | access::REFER;
/// Version 1 refuses every move between directories.
const FIRST_WITH_MOVES: u32 = 2;
/// First version that keeps signals within the machine.
const FIRST_WITH_SIGNALS: u32 = 6;
/// What a machine has of its own, at the top of the host's tree.
const NOT_OF_THE_HOST: [&[u8]; 4] = [b"proc", b"sys", b"dev", b"run"];

/// What the host lacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lack {
    /// Nothing.
    None,
    /// Signals go anywhere that the user's rights allow.
    Signals,
    /// Files are as open as the user's rights make them, and signals.
    All,
}

/// Restricts this process, which has one thread, to `trees` and to reading the
/// files below the directories `readable`.
pub(crate) fn restrict(trees: &[&HostTree], readable: &[i32]) -> Result<Lack, Errno> {
    let abi = match landlock::abi() {
        Ok(n) => n,
        Err(_) => return Ok(Lack::All),
    };
    if abi < FIRST_WITH_MOVES && trees.iter().any(|t| t.is_writable()) {
        return Ok(Lack::All);
    }
    let handled = Handled::all(abi);
    let set = HostFd::new(landlock::create(&handled, abi)?);
    let allow = |object, rights| landlock::allow(set.get(), object, rights & handled.fs);
    for t in trees {
        match t.only_file() {
            None if t.is_host_root() && !t.is_writable() => each_entry(t.top(), &allow)?,
            None => allow(t.top(), if t.is_writable() { WRITE } else { READ })?,
            Some(name) => {
                let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
                let f = open(t.top(), &name)?;
                let rights = if t.is_writable() {
                    WRITE_FILE
                } else {
                    READ_FILE
                };
                allow(f.get(), rights)?;
            }
        }
    }
    for dir in readable {
        if *dir >= 0 {
            allow(*dir, READ_FILE)?;
        }
    }
    landlock::restrict_self(set.get())?;
    Ok(match abi >= FIRST_WITH_SIGNALS {
        true => Lack::None,
        false => Lack::Signals,
    })
}

fn open(dir: i32, name: &std::ffi::CStr) -> Result<HostFd, Errno> {
    let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    file::openat(dir, name, flags, 0).map(HostFd::new)
}

/// Allows reading of everything in the host's root but [`NOT_OF_THE_HOST`], and the
/// names of directories everywhere.
fn each_entry(top: i32, allow: &impl Fn(i32, u64) -> Result<(), Errno>) -> Result<(), Errno> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let list = HostFd::new(file::openat(top, c".", flags, 0)?);
    for e in crate::dir::list(list.get()).map_err(|e| Errno(e.0))? {
        let may_be_file = match e.kind {
            _ if NOT_OF_THE_HOST.contains(&&*e.name) => continue,
            libc::DT_DIR => false,
            libc::DT_REG | libc::DT_UNKNOWN => true,
            _ => continue,
        };
        let Ok(name) = CString::new(e.name) else {
            continue;
        };
        // What has gone meanwhile, or may not be looked at, cannot be read later either.
        let Ok(f) = open(top, &name) else { continue };
        match allow(f.get(), READ) {
            // Rights of directories are no rights of files.
            Err(Errno::EINVAL) if may_be_file => allow(f.get(), READ_FILE)?,
            r => r?,
        }
    }
    allow(top, access::READ_DIR)
}
