//! What boot calls.

use crate::root::Terminals;
use abi::{Errno, Result};
use alloc::sync::Arc;
use task::ctx::AT_FDCWD;
use task::{Ctx, Kernel};
use vfs::file::Caller;
use vfs::namei::WalkFlags;
use vfs::{File, OpenFlags, SuperBlock};

/// Makes the layer's root object, registers the drivers of /dev/tty, /dev/console,
/// /dev/ptmx and the pseudo-terminals, and takes device events. Once, at boot.
pub fn init(kernel: &'static Kernel) {
    Terminals::install(kernel, kernel.devices.next_anon_dev());
}

/// devpts for mount(2), a [`vfs::mount::FsType::mount`].
pub fn mount_devpts(cx: &dyn Caller, _source: &[u8], _data: &[u8]) -> Result<Arc<dyn SuperBlock>> {
    let cx = Ctx::from_caller(cx).ok_or(Errno::ENODEV)?;
    let root = Terminals::of(cx.kernel()).ok_or(Errno::ENODEV)?;
    Ok(root.devpts.clone())
}

/// Waits until the host's terminal has taken what the machine's programs have
/// written so far. Before the machine ends: output that a program has got rid of
/// is not lost with it, however slowly it is read.
pub fn finish_output(kernel: &Kernel) {
    if let Some(console) = Terminals::of(kernel).as_ref().and_then(|t| t.console()) {
        console.finish_output();
    }
}

/// Installs descriptors 0 to 2 of the first program: the host's streams, or the
/// console, which becomes the controlling terminal of the caller's session with
/// the caller's process group in the foreground. A stream that is closed on the
/// host stays closed.
pub fn open_streams(cx: &Ctx) -> Result {
    let root = Terminals::of(cx.kernel()).ok_or(Errno::ENODEV)?;
    let mut files = root.stream_files(&cx.cred());
    root.adopt_console(cx.process());
    let mut console: Option<Arc<File>> = None;
    for (i, f) in files.iter_mut().enumerate() {
        if root.is_terminal(i) {
            if console.is_none() {
                let walk = cx.walk(AT_FDCWD)?;
                let file = walk.open(b"/dev/console", OpenFlags::RDWR, 0, WalkFlags::FOLLOW)?;
                console = Some(file);
            }
            *f = console.clone();
        }
    }
    for (fd, f) in (0..).zip(files) {
        if let Some(f) = f {
            let old = cx.files().install_at(f, fd, u64::MAX, false)?;
            drop(old);
        }
    }
    Ok(())
}
