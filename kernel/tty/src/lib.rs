//! Terminals: line discipline, pseudo-terminals, the console, job control.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

use abi::{Errno, Result};
use alloc::sync::Arc;
use task::{Ctx, Kernel, Session};
use vfs::SuperBlock;
use vfs::file::Caller;

/// Makes the layer's root object, registers the drivers of /dev/tty, /dev/console,
/// /dev/ptmx and the pseudo-terminals, and takes device events. Once, at boot.
pub fn init(kernel: &'static Kernel) {
    let _ = kernel;
}

/// devpts for mount(2), a [`vfs::mount::FsType::mount`].
pub fn mount_devpts(cx: &dyn Caller, source: &[u8], data: &[u8]) -> Result<Arc<dyn SuperBlock>> {
    let _ = (cx, source, data);
    Err(Errno::ENODEV)
}

/// Installs descriptors 0 to 2 of the first program: the host's streams, or the
/// console, which becomes the controlling terminal of the caller's session with
/// the caller's process group in the foreground.
pub fn open_streams(cx: &Ctx) -> Result {
    let _ = cx;
    Err(Errno::ENODEV)
}

/// Device number of a session's controlling terminal and its foreground process group, for /proc.
pub fn session_info(session: &Session) -> Option<(u64, i32)> {
    let _ = session;
    None
}
