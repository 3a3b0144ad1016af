//! Permission rules between processes.

use crate::Task;
use vfs::Cred;
use vfs::cred::cap;

/// Whether `cred` may send a signal to `target`, kill(2).
pub fn may_signal(cred: &Cred, target: &Cred) -> bool {
    cred.euid == target.suid
        || cred.euid == target.uid
        || cred.uid == target.suid
        || cred.uid == target.uid
        || cred.capable(cap::KILL)
}

/// The ptrace access check (ptrace(2), "PTRACE_MODE_READ_FSCREDS"): whether `by` may look into `target`.
pub fn may_inspect(by: &Task, target: &Task) -> bool {
    if alloc::sync::Arc::ptr_eq(&by.process, &target.process) {
        return true;
    }
    let (c, t) = (by.cred(), target.cred());
    let same = [t.uid, t.euid, t.suid].iter().all(|u| *u == c.fsuid)
        && [t.gid, t.egid, t.sgid].iter().all(|g| *g == c.fsgid);
    let dumpable = target
        .process
        .dumpable
        .load(core::sync::atomic::Ordering::Relaxed)
        == 1;
    (same && dumpable && t.permitted.0 & !c.permitted.0 == 0) || c.capable(cap::SYS_PTRACE)
}
