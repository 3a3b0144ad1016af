//! pidfd_open(2), pidfd_send_signal(2).

use crate::{Ctx, Process, signal};
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt::Write;
use vfs::file::{FileOps, OpenFlags};
use vfs::poll::{PollEvents, PollTable};
use vfs::pseudo::PseudoInode;
use vfs::text::Text;
use vfs::{File, InodeRef};

/// Behaviour of a pidfd: readable once the process has ended.
struct PidFd {
    process: Arc<Process>,
}

impl PidFd {
    /// The process's number while it can be signalled or waited for.
    fn pid(&self) -> Option<i32> {
        let pid = self.process.pid();
        let there = self.process.kernel.pids.process(pid)?;
        Arc::ptr_eq(&there, &self.process).then_some(pid)
    }
}

impl FileOps for PidFd {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn poll(&self, _f: &File, table: Option<&mut PollTable<'_>>) -> PollEvents {
        // The queue is woken after the process has become a zombie, so a
        // registration before the look below misses nothing.
        if let Some(t) = table {
            t.add(self.process.exit_queue());
        }
        match self.process.is_zombie() || self.pid().is_none() {
            true => PollEvents::IN | PollEvents::RDNORM,
            false => PollEvents::empty(),
        }
    }
    fn fdinfo(&self, _f: &File, out: &mut Text) -> core::fmt::Result {
        let pid = self.pid().unwrap_or(-1);
        write!(out, "Pid:\t{pid}\nNSpid:\t{pid}\n")
    }
    fn anon_name(&self) -> Option<Vec<u8>> {
        Some(b"anon_inode:[pidfd]".to_vec())
    }
}

/// A file that stands for a process. [`Errno::ESRCH`], [`Errno::EINVAL`].
pub fn open(cx: &Ctx, pid: i32, nonblock: bool) -> Result<Arc<File>> {
    if pid <= 0 {
        return Err(Errno::EINVAL);
    }
    let pids = &cx.kernel().pids;
    let process = match pids.process(pid) {
        Some(p) => p,
        // A thread that leads no process.
        None if pids.task(pid).is_some() => return Err(Errno::EINVAL),
        None => return Err(Errno::ESRCH),
    };
    Ok(file_of(cx, process, nonblock))
}

/// A pidfd for `process`; also for CLONE_PIDFD.
pub(crate) fn file_of(cx: &Ctx, process: Arc<Process>, nonblock: bool) -> Arc<File> {
    let mut flags = OpenFlags::RDWR;
    if nonblock {
        flags |= OpenFlags::NONBLOCK;
    }
    let inode: InodeRef = cx.kernel().anon.anon_inode(cx);
    File::new(Arc::new(PidFd { process }), inode, None, flags, cx.cred())
}

/// The process behind a pidfd; [`Errno::EBADF`] if `file` is none.
pub fn process_of(file: &File) -> Result<Arc<Process>> {
    match file.ops.as_any().downcast_ref::<PidFd>() {
        Some(p) => Ok(p.process.clone()),
        None => Err(Errno::EBADF),
    }
}

/// pidfd_send_signal(2) to a pidfd or a process's directory in /proc; `info` as given by the caller, if any.
pub fn send_signal(cx: &Ctx, file: &File, signo: i32, info: Option<abi::SigInfo>) -> Result {
    let pid = match file.ops.as_any().downcast_ref::<PidFd>() {
        Some(fd) => fd.pid().ok_or(Errno::ESRCH)?,
        None => {
            let inode = file.inode.as_any().downcast_ref::<PseudoInode>();
            inode
                .and_then(|i| i.node().process())
                .ok_or(Errno::EBADF)??
        }
    };
    match info {
        Some(i) if i.signo != signo => Err(Errno::EINVAL),
        Some(i) => signal::queue_info(cx, pid, None, i),
        None => signal::kill(cx, pid, signo),
    }
}
