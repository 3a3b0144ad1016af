//! The point of no return of execve(2), and what changes with it.

use super::Start;
use crate::process::Stop;
use crate::task::flag;
use crate::{Ctx, Task, exit};
use abi::signal::SIGCHLD;
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use mm::Mm;
use vfs::cred::CapSet;
use vfs::mount::MountFlags;
use vfs::{Cred, File};

/// SECBIT_NOROOT, SECBIT_KEEP_CAPS.
const NOROOT: u32 = 1;
const KEEP_CAPS: u32 = 1 << 4;

/// Credentials of the new program.
pub(super) struct Credentials {
    pub new: Cred,
    /// AT_SECURE: it got privileges that its caller may not have.
    pub secure: bool,
    /// User or group changed.
    set_id: bool,
}

impl Credentials {
    /// By the set-id bits of `file`, capabilities(7).
    pub(super) fn for_file(cx: &Ctx, file: &File) -> Result<Credentials> {
        let old = cx.cred();
        let mut c = (*old).clone();
        let attr = file.inode.attr()?;
        let nosuid = file
            .path
            .as_ref()
            .is_some_and(|p| p.mnt.flags().contains(MountFlags::NOSUID));
        if !nosuid && !c.no_new_privs {
            if attr.mode & 0o4000 != 0 {
                c.euid = attr.uid;
            }
            // Without the execute bit of the group it would mean mandatory locking.
            if attr.mode & 0o2010 == 0o2010 {
                c.egid = attr.gid;
            }
        }
        let set_id = c.euid != old.euid || c.egid != old.egid;
        c.suid = c.euid;
        c.fsuid = c.euid;
        c.sgid = c.egid;
        c.fsgid = c.egid;
        if set_id {
            c.ambient = CapSet(0);
        }
        let root = c.securebits & NOROOT == 0;
        if root && (c.uid == 0 || c.euid == 0) {
            c.permitted = CapSet(c.inheritable.0 | c.bounding.0);
            c.effective = if c.euid == 0 { c.permitted } else { c.ambient };
        } else {
            c.permitted = c.ambient;
            c.effective = c.ambient;
        }
        c.securebits &= !KEEP_CAPS;
        let secure = c.uid != c.euid || c.gid != c.egid || set_id;
        Ok(Credentials {
            new: c,
            secure,
            set_id,
        })
    }
}

/// Becomes the new program. Errors only while nothing has changed.
pub(super) fn commit(
    cx: &Ctx,
    mm: Arc<Mm>,
    start: Start,
    creds: Credentials,
    path: &[u8],
) -> Result {
    let t = cx.task();
    let p = cx.process();
    let kernel = cx.kernel();
    let shared_files = || t.files().filter(|f| f.is_shared());
    // A table of descriptors of its own while that can still fail.
    let own_files = shared_files().map(|f| f.duplicate()).transpose()?;
    leave_threads_behind(t)?;
    // The table of threads that have gone is the task's own, and owns the process's locks on files.
    let own_files = own_files.filter(|_| shared_files().is_some());

    // --- no way back ---
    exit::leave_futexes(t);
    t.rseq.clear();
    let arch = kernel.platform.arch();
    cx.with_regs(|r| {
        kernel.platform.engine().sync_regs(r);
        arch.start(r, start.ip, start.sp);
    });
    exit::release_mm(t);
    t.set_mm(Some(mm));
    cx.keep_regs();

    // Signals: handlers become default, the table is ours alone.
    let hand = p.sighand().copy(true);
    let old = core::mem::replace(&mut *p.sighand.lock(), hand);
    drop(old);
    t.sig.lock().altstack = Default::default();
    let restart = t.restart.lock().take();
    drop(restart);
    p.timers.exec(kernel);

    // Descriptors.
    if let Some(own) = own_files {
        drop(t.set_files(Some(own)));
    }
    if let Some(files) = t.files() {
        files.close_cloexec(Arc::as_ptr(&files).addr());
    }

    // Identity.
    let base = path.rsplit(|b| *b == b'/').next().unwrap_or(path);
    t.set_comm(base);
    let dumpable = if creds.secure {
        kernel.sysctl.suid_dumpable.load(Ordering::Relaxed)
    } else {
        1
    };
    p.dumpable.store(dumpable, Ordering::Relaxed);
    if creds.set_id {
        t.pdeath_signal.store(0, Ordering::Relaxed);
        // ADDR_NO_RANDOMIZE and the like do not weaken a privileged program.
        t.personality.fetch_and(!0x0004_0000, Ordering::Relaxed);
    }
    t.set_cred(Arc::new(creds.new));
    p.exit_signal.store(SIGCHLD, Ordering::Relaxed);
    p.did_exec.store(true, Ordering::Relaxed);
    t.clear_flag(flag::FORKNOEXEC | flag::KERNEL);
    Ok(())
}

/// Ends all other threads of the process and makes the caller its leader.
/// [`Errno::EAGAIN`]: the process is ending, or another thread was faster.
fn leave_threads_behind(t: &'static Task) -> Result {
    let p = &t.process;
    {
        let mut i = p.inner.lock();
        if i.group_exit.is_some() || i.exec_thread.is_some() {
            return Err(Errno::EAGAIN);
        }
        if i.threads.len() > 1 {
            i.exec_thread = Some(t.tid());
            i.stop = Stop::Running;
            for other in i.threads.iter().filter(|o| !core::ptr::eq(&***o, t)) {
                exit::kick_dying(other);
            }
        }
    }
    // Wake-up proof: a thread leaves the list, then wakes the queue; we announce, then look.
    let entry = p.exit_events.clone();
    let alone = sync::wait_event(&[&entry], false, None, false, || {
        let i = p.inner.lock();
        if i.group_exit.is_some() {
            Some(false)
        } else {
            (i.threads.len() == 1).then_some(true)
        }
    });
    if alone != Ok(true) {
        p.inner.lock().exec_thread = None;
        return Err(Errno::EAGAIN);
    }
    if !t.is_leader() {
        take_leader_number(t);
    }
    let mut i = p.inner.lock();
    i.exec_thread = None;
    crate::signal::recalc(t, &i);
    Ok(())
}

/// The process keeps its number: the thread that is left takes it over.
fn take_leader_number(t: &'static Task) {
    let p = &t.process;
    let old;
    {
        let mut tree = t.kernel.pids.tree.lock();
        tree.tasks.remove(&t.tid());
        tree.adopt_within(p.pid(), t.tid(), p.pid());
        t.tid.store(p.pid(), Ordering::Relaxed);
        old = tree.tasks.insert(p.pid(), t.arc());
    }
    *p.leader.lock() = Arc::downgrade(&t.arc());
    drop(old);
}
