//! [`PidTable`]: who exists. One lock guards the tree of processes, the process
//! groups and the sessions; it is held for look-ups and for the moments in which
//! the tree changes (fork, exit, wait, setpgid, setsid).

use crate::level;
use crate::{Process, Session, Task};
use abi::{Errno, Result};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound::{Excluded, Unbounded};
use core::sync::atomic::Ordering;
use sync::SpinLock;

/// First tid given out again after the numbers have wrapped.
const FIRST_AFTER_WRAP: i32 = 300;

/// A process in the tree.
pub(crate) struct Node {
    pub process: Arc<Process>,
    pub children: BTreeSet<i32>,
}

/// Under the table's lock.
#[derive(Default)]
pub(crate) struct Tree {
    last: i32,
    pub tasks: BTreeMap<i32, Arc<Task>>,
    pub procs: BTreeMap<i32, Node>,
    /// Members of each process group.
    pub groups: BTreeMap<i32, BTreeSet<i32>>,
    /// Processes of each session.
    pub sessions: BTreeMap<i32, BTreeSet<i32>>,
    /// Numbers taken by tasks that are being made.
    reserved: BTreeSet<i32>,
}

/// Who exists in a machine.
pub struct PidTable {
    pub(crate) tree: SpinLock<Tree, { level::TREE }>,
}

impl Tree {
    fn in_use(&self, n: i32) -> bool {
        self.tasks.contains_key(&n)
            || self.procs.contains_key(&n)
            || self.groups.contains_key(&n)
            || self.sessions.contains_key(&n)
            || self.reserved.contains(&n)
    }
    fn alloc(&mut self, max: i32) -> Result<i32> {
        let max = max.max(FIRST_AFTER_WRAP + 1);
        let mut n = self.last;
        for _ in 0..max {
            n += 1;
            if n >= max {
                n = FIRST_AFTER_WRAP;
            }
            if !self.in_use(n) {
                self.last = n;
                self.reserved.insert(n);
                return Ok(n);
            }
        }
        Err(Errno::EAGAIN)
    }
    /// Whether process group `pgid` is orphaned (setpgid(2)): no member has a parent
    /// in another group of the same session. `without`: as if that process were gone.
    pub(crate) fn group_orphaned(&self, pgid: i32, without: Option<i32>) -> bool {
        let Some(members) = self.groups.get(&pgid) else {
            return true;
        };
        for pid in members {
            if Some(*pid) == without {
                continue;
            }
            let Some(n) = self.procs.get(pid) else {
                continue;
            };
            if n.process.is_zombie() || n.process.ppid() == 1 {
                continue;
            }
            if let Some(parent) = self.procs.get(&n.process.ppid())
                && parent.process.pgid() != pgid
                && parent.process.sid() == n.process.sid()
            {
                return false;
            }
        }
        true
    }
    fn leave(map: &mut BTreeMap<i32, BTreeSet<i32>>, key: i32, pid: i32) {
        if let Some(set) = map.get_mut(&key) {
            set.remove(&pid);
            if set.is_empty() {
                map.remove(&key);
            }
        }
    }
    pub(crate) fn insert_process(&mut self, p: &Arc<Process>) {
        let pid = p.pid();
        self.reserved.remove(&pid);
        self.groups.entry(p.pgid()).or_default().insert(pid);
        self.sessions.entry(p.sid()).or_default().insert(pid);
        if let Some(parent) = self.procs.get_mut(&p.ppid()) {
            parent.children.insert(pid);
        }
        self.procs.insert(
            pid,
            Node {
                process: p.clone(),
                children: BTreeSet::new(),
            },
        );
    }
    pub(crate) fn insert_task(&mut self, t: &Arc<Task>) {
        self.reserved.remove(&t.tid());
        self.tasks.insert(t.tid(), t.clone());
    }
    /// Takes a dead process out. The caller drops the result without the lock.
    pub(crate) fn remove_process(&mut self, pid: i32) -> (Option<Node>, Option<Arc<Task>>) {
        let node = self.procs.remove(&pid);
        if let Some(n) = &node {
            Self::leave(&mut self.groups, n.process.pgid(), pid);
            Self::leave(&mut self.sessions, n.process.sid(), pid);
            if let Some(parent) = self.procs.get_mut(&n.process.ppid()) {
                parent.children.remove(&pid);
            }
        }
        (node, self.tasks.remove(&pid))
    }
    /// Thread `from` of process `pid` ends or changes its number: its children are those of thread `to`.
    pub(crate) fn adopt_within(&self, pid: i32, from: i32, to: i32) {
        let Some(n) = self.procs.get(&pid) else {
            return;
        };
        for c in n.children.iter().filter_map(|c| self.procs.get(c)) {
            let _ = c.process.parent_tid.compare_exchange(
                from,
                to,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
    }
    pub(crate) fn move_group(&mut self, p: &Process, pgid: i32) {
        Self::leave(&mut self.groups, p.pgid(), p.pid());
        p.pgid.store(pgid, Ordering::Relaxed);
        self.groups.entry(pgid).or_default().insert(p.pid());
    }
}

impl PidTable {
    pub(crate) fn new() -> PidTable {
        PidTable {
            tree: SpinLock::new(Tree::default()),
        }
    }
    /// The thread `tid`, also a zombie leader.
    pub fn task(&self, tid: i32) -> Option<Arc<Task>> {
        self.tree.lock().tasks.get(&tid).cloned()
    }
    /// The process `pid`, also a zombie.
    pub fn process(&self, pid: i32) -> Option<Arc<Process>> {
        self.tree.lock().procs.get(&pid).map(|n| n.process.clone())
    }
    /// All processes, ascending by pid, zombies included. The lock is taken for each anew and
    /// nothing is allocated: who comes or goes meanwhile may be among them or not.
    pub fn processes(&self) -> impl Iterator<Item = Arc<Process>> + '_ {
        let mut last = i32::MIN;
        core::iter::from_fn(move || {
            let t = self.tree.lock();
            let (pid, n) = t.procs.range((Excluded(last), Unbounded)).next()?;
            last = *pid;
            Some(n.process.clone())
        })
    }
    /// Members of a process group.
    pub fn group(&self, pgid: i32) -> Vec<Arc<Process>> {
        let t = self.tree.lock();
        let Some(set) = t.groups.get(&pgid) else {
            return Vec::new();
        };
        set.iter()
            .filter_map(|p| t.procs.get(p).map(|n| n.process.clone()))
            .collect()
    }
    /// Processes of a session.
    pub fn session_members(&self, sid: i32) -> Vec<Arc<Process>> {
        let t = self.tree.lock();
        let Some(set) = t.sessions.get(&sid) else {
            return Vec::new();
        };
        set.iter()
            .filter_map(|p| t.procs.get(p).map(|n| n.process.clone()))
            .collect()
    }
    /// Children of a process.
    pub fn children(&self, pid: i32) -> Vec<Arc<Process>> {
        let t = self.tree.lock();
        let Some(n) = t.procs.get(&pid) else {
            return Vec::new();
        };
        n.children
            .iter()
            .filter_map(|p| t.procs.get(p).map(|n| n.process.clone()))
            .collect()
    }
    /// Whether process group `pgid` exists and belongs to session `sid`.
    pub fn group_in_session(&self, pgid: i32, sid: i32) -> bool {
        let t = self.tree.lock();
        t.groups.get(&pgid).is_some_and(|set| {
            set.iter()
                .any(|p| t.procs.get(p).is_some_and(|n| n.process.sid() == sid))
        })
    }
    /// Whether a process group exists.
    pub fn group_exists(&self, pgid: i32) -> bool {
        self.tree.lock().groups.contains_key(&pgid)
    }
    /// Whether process group `pgid` is orphaned (nobody could continue it).
    pub fn group_orphaned(&self, pgid: i32) -> bool {
        self.tree.lock().group_orphaned(pgid, None)
    }
    /// Number of threads and of processes.
    pub fn counts(&self) -> (usize, usize) {
        let t = self.tree.lock();
        (t.tasks.len(), t.procs.len())
    }
    /// The last tid given out.
    pub fn last_tid(&self) -> i32 {
        self.tree.lock().last
    }
    /// Reserves the next free number. [`Errno::EAGAIN`].
    pub(crate) fn alloc(&self, max: i32) -> Result<i32> {
        self.tree.lock().alloc(max)
    }
    /// Reserves a given number (clone3 set_tid). [`Errno::EEXIST`], [`Errno::EINVAL`].
    pub(crate) fn alloc_exact(&self, n: i32, max: i32) -> Result<i32> {
        if n < 1 || n >= max {
            return Err(Errno::EINVAL);
        }
        let mut t = self.tree.lock();
        if t.in_use(n) {
            return Err(Errno::EEXIST);
        }
        t.reserved.insert(n);
        Ok(n)
    }
    /// Gives a reserved number back.
    pub(crate) fn free(&self, n: i32) {
        self.tree.lock().reserved.remove(&n);
    }

    /// setpgid(2) with its checks, in Linux's order.
    pub fn setpgid(&self, caller: &Process, pid: i32, pgid: i32) -> Result {
        let pid = if pid == 0 { caller.pid() } else { pid };
        let pgid = if pgid == 0 { pid } else { pgid };
        if pgid < 0 {
            return Err(Errno::EINVAL);
        }
        let mut t = self.tree.lock();
        let p = t.procs.get(&pid).ok_or(Errno::ESRCH)?.process.clone();
        if p.ppid() == caller.pid() {
            if p.sid() != caller.sid() {
                return Err(Errno::EPERM);
            }
            if p.did_exec() {
                return Err(Errno::EACCES);
            }
        } else if pid != caller.pid() {
            return Err(Errno::ESRCH);
        }
        if p.sid() == pid {
            return Err(Errno::EPERM);
        }
        if pgid != pid {
            let ok = t.groups.get(&pgid).is_some_and(|set| {
                set.iter().any(|m| {
                    t.procs
                        .get(m)
                        .is_some_and(|n| n.process.sid() == caller.sid())
                })
            });
            if !ok {
                return Err(Errno::EPERM);
            }
        }
        if p.pgid() != pgid {
            t.move_group(&p, pgid);
        }
        Ok(())
    }
    /// setsid(2): the new session id. [`Errno::EPERM`] for the leader of a process group.
    pub fn setsid(&self, caller: &Process) -> Result<i32> {
        let pid = caller.pid();
        let session = Session::new(pid);
        let old;
        {
            let mut t = self.tree.lock();
            if t.groups.contains_key(&pid) || t.sessions.contains_key(&pid) {
                return Err(Errno::EPERM);
            }
            t.move_group(caller, pid);
            Tree::leave(&mut t.sessions, caller.sid(), pid);
            t.sessions.entry(pid).or_default().insert(pid);
            old = caller.set_session(session);
        }
        drop(old);
        Ok(pid)
    }
}
