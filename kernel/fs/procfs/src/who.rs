//! Which process or thread a node is about, and who may look into it.

use crate::FIRST_PID_INO;
use abi::{Errno, Result};
use alloc::sync::{Arc, Weak};
use task::{Kernel, Process, Task};
use vfs::Cred;
use vfs::cred::cap;

/// Kind bits of the inode number of a process's directory itself.
pub(crate) const DIR: u64 = 0;

/// Inode number of place `kind` (24 bits) of the process or thread `id`.
pub(crate) fn ino(id: i32, kind: u64) -> u64 {
    FIRST_PID_INO + ((id as u64) << 24) + (kind & 0xff_ffff)
}

/// A process, or one thread of it. Nodes may outlive it.
#[derive(Clone)]
pub(crate) struct Who {
    pub kernel: &'static Kernel,
    process: Weak<Process>,
    /// The thread, for /proc/PID/task/TID.
    thread: Option<Weak<Task>>,
    /// tid of the thread, or pid.
    pub id: i32,
}

impl Who {
    /// The process `pid`. [`Errno::ENOENT`]. A tid that is no pid is found too, as on Linux.
    pub fn process(kernel: &'static Kernel, pid: i32) -> Result<Who> {
        let process = match kernel.pids.process(pid) {
            Some(p) => p,
            None => kernel.pids.task(pid).ok_or(Errno::ENOENT)?.process.clone(),
        };
        Ok(Who {
            kernel,
            id: pid,
            process: Arc::downgrade(&process),
            thread: None,
        })
    }
    /// Thread `tid` of this process. [`Errno::ENOENT`].
    pub fn with_thread(&self, tid: i32) -> Result<Who> {
        let p = self.get()?;
        let t = self.kernel.pids.task(tid).ok_or(Errno::ENOENT)?;
        if !Arc::ptr_eq(&t.process, &p) {
            return Err(Errno::ENOENT);
        }
        Ok(Who {
            thread: Some(Arc::downgrade(&t)),
            id: tid,
            ..self.clone()
        })
    }
    /// Whether it is about one thread.
    pub fn is_thread(&self) -> bool {
        self.thread.is_some()
    }
    /// The process. [`Errno::ESRCH`] if it is gone.
    pub fn get(&self) -> Result<Arc<Process>> {
        let p = self.process.upgrade().ok_or(Errno::ESRCH)?;
        // A process that was waited for may be kept alive by others for a while.
        match self.kernel.pids.process(p.pid()) {
            Some(q) if Arc::ptr_eq(&p, &q) => Ok(p),
            _ => Err(Errno::ESRCH),
        }
    }
    /// The thread; for a process its leader, or a living thread if the leader is gone.
    pub fn task(&self) -> Result<Arc<Task>> {
        match &self.thread {
            Some(t) => t.upgrade().ok_or(Errno::ESRCH),
            None => {
                let p = self.get()?;
                p.leader().or_else(|| p.any_thread()).ok_or(Errno::ESRCH)
            }
        }
    }
    /// A thread that has an address space, descriptors and directories: the leader may have ended before the others.
    pub fn live_task(&self) -> Result<Arc<Task>> {
        let t = self.task()?;
        if self.thread.is_some() || t.mm().is_some() {
            return Ok(t);
        }
        Ok(self.get()?.any_thread().unwrap_or(t))
    }
    /// Whether it still exists.
    pub fn exists(&self) -> bool {
        match &self.thread {
            Some(t) => t
                .upgrade()
                .and_then(|t| self.kernel.pids.task(t.tid()))
                .is_some_and(|t| t.tid() == self.id),
            None => self.get().is_ok(),
        }
    }
    /// Owner of its files: effective ids; root for what cannot be looked into (not dumpable).
    pub fn owner(&self) -> (u32, u32) {
        let dumpable = self
            .get()
            .is_ok_and(|p| p.dumpable.load(core::sync::atomic::Ordering::Relaxed) == 1);
        match self.task() {
            Ok(t) if dumpable => {
                let c = t.cred();
                (c.euid, c.egid)
            }
            _ => (0, 0),
        }
    }
    /// Whether it is about the process of the current task.
    pub fn is_current(&self) -> bool {
        core::ptr::eq(self.process.as_ptr(), Arc::as_ptr(&task::current().process))
    }
    /// Whether `cred` may look into its memory and files, ptrace(2) "access mode" read with
    /// file-system ids. [`Errno::EACCES`].
    pub fn may_look(&self, cred: &Cred) -> Result {
        if self.is_current() {
            return Ok(());
        }
        let t = self.task()?;
        let c = t.cred();
        let same = [c.uid, c.euid, c.suid] == [cred.fsuid; 3]
            && [c.gid, c.egid, c.sgid] == [cred.fsgid; 3];
        let dumpable = t
            .process
            .dumpable
            .load(core::sync::atomic::Ordering::Relaxed)
            == 1;
        if (same && dumpable) || cred.capable(cap::SYS_PTRACE) {
            Ok(())
        } else {
            Err(Errno::EACCES)
        }
    }
    /// As [`Who::may_look`], for the current task.
    pub fn current_may_look(&self) -> Result {
        self.may_look(&task::current().cred())
    }
}
