//! User processes: making them, keeping some ready, watching for their end.

use super::mapper::Answer;
use super::process::{Process, Stub};
use super::{Death, SeccompEngine};
use crate::sysvec::{SysVec, leak};
use crate::zygote::Zygote;
use abi::Errno;
use core::cmp::Reverse;
use core::ptr;
use core::sync::atomic::Ordering::{Acquire, Release, SeqCst};
use host_sys::task::{self, Ended};
use host_sys::time;

/// Idle processes kept at most; further ones are ended.
const IDLE_MAX: usize = 32;
/// How many idle processes are looked at for one that the vCPU has used before.
const LOOK: usize = 8;

/// What the pool's lock guards. Lock order: pool, then the
/// list of free slots or a process's map lock.
pub(crate) struct Pool {
    pub(crate) zygote: Zygote,
    idle: SysVec<&'static Process>,
    /// Slots used so far, the zygote's included.
    slots: u32,
    /// Process that is being made.
    starting: Option<&'static Process>,
}

impl Pool {
    pub(crate) fn new(zygote: Zygote) -> Pool {
        Pool {
            zygote,
            idle: SysVec::new(),
            slots: 1,
            starting: None,
        }
    }
}

impl SeccompEngine {
    /// An empty process for use on vCPU `cpu`, none of whose threads was spoilt by
    /// the guest process before. All are looked at now: one that is found deaf
    /// later, on another vCPU, would take an innocent process along.
    pub(crate) fn acquire(&'static self, cpu: u32) -> Result<&'static Process, Errno> {
        loop {
            let p = self.take(cpu)?;
            if p.refresh(self.proc_dir).is_ok() {
                return Ok(p);
            }
            p.kill();
            self.let_go(p);
        }
    }

    /// An empty process, its threads as they were left.
    fn take(&'static self, cpu: u32) -> Result<&'static Process, Errno> {
        let mut pool = self.pool.lock();
        let p = loop {
            if let Some(p) = self.take_idle(&mut pool, cpu) {
                break p;
            }
            if pool.starting.is_none() {
                self.begin_start(&mut pool)?;
            }
            if let Some(p) = self.finish_start(&mut pool, true)? {
                break p;
            }
        };
        self.refill(&mut pool);
        Ok(p)
    }

    /// An idle process, preferably one that vCPU `cpu` has used before, and no other: threads
    /// on other host CPUs take long to wake.
    fn take_idle(&'static self, pool: &mut Pool, cpu: u32) -> Option<&'static Process> {
        loop {
            let n = pool.idle.len();
            let from = n.saturating_sub(LOOK);
            let worth = |i: &usize| {
                let stubs = pool.idle[*i].stubs;
                let here = stubs.get(cpu as usize).is_some_and(Stub::is_ready);
                let all = stubs.iter().filter(|s| s.is_ready()).count();
                (here, Reverse(all))
            };
            // The last one of equals.
            let i = (from..n).max_by_key(worth)?;
            let p = pool.idle[i];
            pool.idle.remove_range(i, i + 1);
            if !p.dead.load(SeqCst) {
                return Some(p);
            }
            // Died while idle: nobody uses it, so this is the second owner.
            self.let_go(p);
        }
    }

    /// Gives back a process that has been wiped.
    pub(crate) fn release(&'static self, p: &'static Process) {
        let mut pool = self.pool.lock();
        if pool.idle.len() < IDLE_MAX && !p.dead.load(SeqCst) {
            pool.idle.push(p);
            return;
        }
        drop(pool);
        p.kill();
        self.let_go(p);
    }

    /// One of the two owners of a dying process lets go; the second frees the slot.
    pub(crate) fn let_go(&'static self, p: &'static Process) {
        if p.let_go.fetch_add(1, SeqCst) == 1 {
            self.free_slot(p);
        }
    }

    /// Makes the slot of a process that is no more free for another. Needs no lock of the
    /// pool: the watcher must not wait for one who holds that and waits for a process
    /// whose death only the watcher can tell.
    fn free_slot(&self, p: &'static Process) {
        p.renew();
        self.free.lock().push(p);
    }

    /// Starts another process in the background if few are left.
    fn refill(&'static self, pool: &mut Pool) {
        if pool.starting.is_some() {
            if let Ok(Some(p)) = self.finish_start(pool, false) {
                pool.idle.insert(0, p);
            }
        }
        if pool.starting.is_none() && pool.idle.len() < self.options.pool as usize {
            let _ = self.begin_start(pool);
        }
    }

    /// Asks the zygote for a process.
    fn begin_start(&'static self, pool: &mut Pool) -> Result<(), Errno> {
        if self.zygote_dead.load(SeqCst) || pool.zygote.wait(&self.zygote_dead) == Answer::Dead {
            return Err(Errno::EAGAIN);
        }
        let p = match self.free.lock().pop() {
            Some(p) => p,
            None => {
                if pool.slots >= super::shared::SLOTS {
                    return Err(Errno::EAGAIN);
                }
                let p = leak(Process::new(pool.slots, self.file));
                let entry = &self.processes[pool.slots as usize];
                entry.store(ptr::from_ref(p).cast_mut(), Release);
                pool.slots += 1;
                p
            }
        };
        let mut m = p.map.lock();
        let parent = self.kernel_pid;
        self.starting.store(ptr::from_ref(p).cast_mut(), SeqCst);
        pool.zygote.request(p.slot, &mut m.mapper, parent);
        pool.starting = Some(p);
        Ok(())
    }

    /// Takes the process that the zygote makes. `None`: not ready yet (only without `wait`).
    fn finish_start(
        &'static self,
        pool: &mut Pool,
        wait: bool,
    ) -> Result<Option<&'static Process>, Errno> {
        let Some(p) = pool.starting else {
            return Ok(None);
        };
        let answer = if wait {
            pool.zygote.wait(&self.zygote_dead)
        } else {
            match pool.zygote.poll() {
                Some(a) => a,
                None => return Ok(None),
            }
        };
        if answer != Answer::Done {
            pool.starting = None;
            self.starting.store(ptr::null_mut(), SeqCst);
            self.free_slot(p);
            return Err(Errno::EAGAIN);
        }
        p.set_pid(pool.zygote.last_child());
        let mut m = p.map.lock();
        let answer = if wait {
            m.mapper.wait(&p.dead)
        } else {
            match m.mapper.poll() {
                Some(a) => a,
                None => return Ok(None),
            }
        };
        drop(m);
        pool.starting = None;
        self.starting.store(ptr::null_mut(), SeqCst);
        if answer == Answer::Done {
            return Ok(Some(p));
        }
        // Its end is the watcher's business.
        self.let_go(p);
        Err(Errno::EAGAIN)
    }

    /// The process in slot `n`, if there has been one.
    pub(crate) fn process_in(&self, n: u32) -> Option<&'static Process> {
        let entry = self.processes.get(n as usize)?;
        // SAFETY: null, or made from a reference that lives for ever.
        unsafe { entry.load(Acquire).as_ref() }
    }

    /// The process with host number `pid`.
    fn process_of(&self, pid: i32) -> Option<&'static Process> {
        let of = |p: &&'static Process| p.pid() == pid;
        let known = (1..).map_while(|n| self.process_in(n)).find(of);
        known.or_else(|| {
            // Made a moment ago, and nobody has asked for its number yet.
            if self
                .file
                .area(0, 0)
                .u32(crate::x86_64::stub::ALT_STACK)
                .load(Acquire) as i32
                != pid
            {
                return None;
            }
            // SAFETY: as in `process_in`.
            unsafe { self.starting.load(SeqCst).as_ref() }
        })
    }

    /// The watcher thread: waits for the end of user processes.
    pub(crate) fn watch(&'static self) {
        loop {
            let Some(Ended { pid, code, status }) = wait_in_group(self.zygote_pid) else {
                // No child is left: cannot be while the zygote is not reaped.
                time::sleep_ns(100_000_000);
                continue;
            };
            let signal = if code == libc::CLD_EXITED { 0 } else { status };
            let exit = if code == libc::CLD_EXITED { status } else { 0 };
            let death = Death {
                pid,
                signal,
                status: exit,
            };
            if pid == self.zygote_pid {
                // Not reaped: its number stays that of the process group.
                self.zygote_dead.store(true, SeqCst);
                (self.options.machine_died)(death);
                return;
            }
            let Some(p) = self.process_of(pid) else {
                (self.options.machine_died)(death);
                return;
            };
            let own_fault = [
                libc::SIGSYS,
                libc::SIGSEGV,
                libc::SIGBUS,
                libc::SIGILL,
                libc::SIGFPE,
                libc::SIGTRAP,
            ];
            let expected = p.doomed.load(SeqCst) || own_fault.contains(&signal);
            if !expected {
                (self.options.machine_died)(death);
            }
            p.bury(pid);
            self.let_go(p);
        }
    }
}

/// Waits until a process of group `group` has ended, and leaves it a zombie.
/// `None`: there is no process in it.
fn wait_in_group(group: i32) -> Option<Ended> {
    loop {
        match task::wait_group(group, libc::WNOWAIT) {
            Ok(ended) => return ended,
            Err(host_sys::Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}
