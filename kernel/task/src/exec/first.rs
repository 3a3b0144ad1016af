//! Becoming the machine's first program: the look-up and the exit codes of a shell.

use super::exec_kernel;
use crate::{Ctx, exit};
use abi::{Errno, Result};
use alloc::format;
use alloc::vec::Vec;
use mm::io::SliceSource;
use vfs::namei::WalkFlags;

/// Where programs are looked for without PATH.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Turns the calling kernel task into the program, or ends it with 127 (not found) or 126 (cannot be run).
pub(crate) fn run(cx: &Ctx, argv: Vec<Vec<u8>>, envp: Vec<Vec<u8>>) {
    let name = argv.first().cloned().unwrap_or_default();
    let Err(e) = find_and_exec(cx, &name, argv, envp) else {
        return;
    };
    let why = match e {
        Errno::ENOENT => "command not found",
        Errno::EACCES => "Permission denied",
        Errno::ENOEXEC => "Exec format error",
        Errno::ENOTDIR => "Not a directory",
        Errno::ENOMEM => "Cannot allocate memory",
        Errno::E2BIG => "Argument list too long",
        Errno::ELOOP => "Too many levels of symbolic links",
        Errno::ELIBBAD => "Accessing a corrupted shared library",
        e => e.name(),
    };
    let line = format!(
        "lodger: {}: {why}\n",
        alloc::string::String::from_utf8_lossy(&name)
    );
    if let Ok(f) = cx.file(2) {
        let _ = f.write(cx, &mut SliceSource::new(line.as_bytes()));
    }
    let code = if e == Errno::ENOENT { 127 } else { 126 };
    let _ = exit::exit_group(cx, code);
}

fn find_and_exec(cx: &Ctx, name: &[u8], argv: Vec<Vec<u8>>, envp: Vec<Vec<u8>>) -> Result {
    if name.contains(&b'/') {
        return try_exec(cx, name, argv, envp);
    }
    if name.is_empty() {
        return Err(Errno::ENOENT);
    }
    let path = envp
        .iter()
        .find_map(|v| v.strip_prefix(b"PATH="))
        .unwrap_or(DEFAULT_PATH)
        .to_vec();
    let mut error = Errno::ENOENT;
    for dir in path.split(|b| *b == b':') {
        let full = match dir {
            [] => name.to_vec(),
            d => [d, b"/", name].concat(),
        };
        match try_exec(cx, &full, argv.clone(), envp.clone()) {
            Ok(()) => return Ok(()),
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            // Remember that it is there, but look on. Of a directory that may not be
            // searched nothing is known: shells go on, too.
            Err(Errno::EACCES) if exists(cx, &full) => error = Errno::EACCES,
            Err(Errno::EACCES) => {}
            Err(e) => return Err(e),
        }
    }
    Err(error)
}

/// A file that is neither a program nor a script with a `#!` line is given to the
/// shell, unless it is a program that is damaged or for other machines.
fn try_exec(cx: &Ctx, path: &[u8], argv: Vec<Vec<u8>>, envp: Vec<Vec<u8>>) -> Result {
    match exec_kernel(cx, path, argv.clone(), envp.clone()) {
        Err(Errno::ENOEXEC) if !starts_as_elf(cx, path) => {
            let mut shell = alloc::vec![b"/bin/sh".to_vec(), path.to_vec()];
            shell.extend(argv.into_iter().skip(1));
            exec_kernel(cx, b"/bin/sh", shell, envp)
        }
        r => r,
    }
}

fn exists(cx: &Ctx, path: &[u8]) -> bool {
    let walk = cx.walk_at(crate::ctx::AT_FDCWD, path);
    walk.and_then(|w| w.lookup(path, WalkFlags::FOLLOW)).is_ok()
}

/// Whether the file at `path` claims to be a program in ELF.
fn starts_as_elf(cx: &Ctx, path: &[u8]) -> bool {
    let head = super::open(cx, crate::ctx::AT_FDCWD, path, 0).and_then(|f| super::head(&f));
    head.is_ok_and(|h| h.starts_with(b"\x7fELF"))
}
