//! One user process: its threads, its mapper, its end.

use super::mapper::{Answer, DEAD, Go, List, MEM_FD, Mapper, STUB_FD, call};
use super::shared::{Slot, StubFile};
use super::tlb::Tlb;
use super::watchdog::Watchdog;
use crate::lock::HostLock;
use crate::queue::Queue;
use crate::sysvec::{SysVec, leak_slice};
use crate::x86_64::frame::{self, HostFrame};
use crate::x86_64::stub::{self, Op};
use crate::x86_64::switch::{self, NEVER};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64};
use hal::{MapOp, USER_END};
use host_sys::task::{self, CpuSet};
use host_sys::time;

/// How often a thread that has just reported is given time to fall asleep.
const PARK_YIELDS: u32 = 10;
const PARK_NAPS: u32 = 50;
const PARK_NAP_NS: u64 = 100_000;

/// State of a [`Stub`].
pub(crate) mod stub_state {
    /// There is no such thread.
    pub(crate) const NONE: u32 = 0;
    /// Being made.
    pub(crate) const STARTING: u32 = 1;
    /// Has reported at least once.
    pub(crate) const READY: u32 = 2;
}

/// The kernel's side of one stub thread. Only its vCPU changes it, or whoever
/// resets a process that no vCPU runs.
pub(crate) struct Stub {
    pub(crate) state: AtomicU32,
    /// Another guest process's before: on a round through our frame.
    pub(crate) stale: AtomicBool,
    /// Let go and not reported yet.
    pub(crate) released: AtomicBool,
    /// Value of the go word.
    pub(crate) go: AtomicU32,
    /// Number of the owner of the vector state in the frame.
    pub(crate) owner: AtomicU32,
    /// Host thread, as far as the guest may be believed: only for use within the process.
    pub(crate) tid: AtomicI32,
    /// Segment bases that the thread has, unless it lied.
    pub(crate) fs: AtomicU64,
    pub(crate) gs: AtomicU64,
}

/// What the mapper's lock guards.
pub(crate) struct MapState {
    pub(crate) mapper: Mapper,
    tlb: Tlb,
    /// Host CPU that the mapper is bound to, -1 = not bound.
    bound: i32,
    spare: SysVec<MapOp>,
}

/// One slot and the user process in it.
pub(crate) struct Process {
    pub(crate) slot: u32,
    file: &'static StubFile,
    /// Host process, 0 = none or reaped. The lock keeps the number from being
    /// reused between a look at it and a signal.
    pid: HostLock<i32>,
    /// Gone. Set before the words of the process are overwritten with [`DEAD`].
    pub(crate) dead: AtomicBool,
    /// Word to sleep on until `dead` is set.
    dead_word: AtomicU32,
    /// Ended by this process.
    pub(crate) doomed: AtomicBool,
    /// Number of the two owners (whoever uses it, the watcher) that have let go of a dead process.
    pub(crate) let_go: AtomicU32,
    /// Number of [`Use`]s.
    users: AtomicU32,
    pub(crate) stubs: &'static [Stub],
    pub(crate) map: HostLock<MapState>,
}

/// Somebody works with the process: as long as it exists, the slot is not used
/// for another one.
pub(crate) struct Use(&'static Process);

impl Use {
    pub(crate) fn new(p: &'static Process) -> Use {
        p.users.fetch_add(1, SeqCst);
        Use(p)
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, SeqCst);
    }
}

impl core::ops::Deref for Use {
    type Target = &'static Process;
    fn deref(&self) -> &&'static Process {
        &self.0
    }
}

/// The process is dead.
#[derive(Debug)]
pub(crate) struct Gone;

/// Why there is no new stub thread.
#[derive(Debug)]
pub(crate) enum NoStub {
    /// The process is dead.
    Gone,
    /// The host refuses another thread at the moment.
    Refused,
}

impl From<Gone> for NoStub {
    fn from(Gone: Gone) -> NoStub {
        NoStub::Gone
    }
}

impl Stub {
    /// Whether there is a thread.
    pub(crate) fn is_ready(&self) -> bool {
        self.state.load(SeqCst) == stub_state::READY
    }
}

fn new_stub() -> Stub {
    Stub {
        state: AtomicU32::new(stub_state::NONE),
        stale: AtomicBool::new(false),
        released: AtomicBool::new(false),
        go: AtomicU32::new(0),
        owner: AtomicU32::new(0),
        tid: AtomicI32::new(0),
        fs: AtomicU64::new(0),
        gs: AtomicU64::new(0),
    }
}

impl Process {
    pub(crate) fn new(slot: u32, file: &'static StubFile) -> Process {
        let stubs = leak_slice(file.ncpus as usize, |_| new_stub());
        Process {
            slot,
            file,
            pid: HostLock::new(0),
            dead: AtomicBool::new(false),
            dead_word: AtomicU32::new(0),
            doomed: AtomicBool::new(false),
            let_go: AtomicU32::new(0),
            users: AtomicU32::new(0),
            stubs,
            map: HostLock::new(MapState {
                mapper: Mapper::new(file.slot(slot), file.offset(slot)),
                tlb: Tlb::new(),
                bound: -1,
                spare: SysVec::new(),
            }),
        }
    }

    /// Makes the slot ready for another host process. Nobody finds this one
    /// any more; whoever still works with it notices that it is dead.
    pub(crate) fn renew(&self) {
        while self.users.load(SeqCst) != 0 {
            time::sleep_ns(PARK_NAP_NS);
        }
        for s in self.stubs {
            s.state.store(stub_state::NONE, Relaxed);
            s.stale.store(false, Relaxed);
            s.released.store(false, Relaxed);
            s.owner.fetch_add(1, Relaxed);
        }
        let mut m = self.map.lock();
        m.mapper = Mapper::new(self.file.slot(self.slot), self.file.offset(self.slot));
        m.tlb.clear();
        m.bound = -1;
        self.doomed.store(false, Relaxed);
        self.let_go.store(0, Relaxed);
        self.dead_word.store(0, Relaxed);
        self.dead.store(false, SeqCst);
    }

    pub(crate) fn area(&self, cpu: u32) -> Slot {
        self.file.area(self.slot, cpu)
    }

    /// For the mapper: where thread `cpu` waits, and the new value of its go word.
    pub(crate) fn go(&self, cpu: u32, value: u32) -> Go {
        Go {
            offset: self.file.area_offset(self.slot, cpu),
            address: stub::area(cpu),
            value,
        }
    }

    /// Lets thread `cpu` go, waking it if it says that it sleeps.
    pub(crate) fn let_thread_go(&self, cpu: u32, value: u32) {
        let area = self.area(cpu);
        // The thread reads the park word first: if it misses the go word, the
        // park word differs from what it goes to sleep with. It says that it is
        // about to sleep before that comparison: we see it, or it sees the new word.
        area.u32(stub::GO).store(value, Release);
        area.u32(stub::PARK).store(value, SeqCst);
        if area.u32(stub::ASLEEP).load(SeqCst) != 0 {
            self.wake_thread(cpu);
        }
    }

    /// Wakes thread `cpu`, which has been let go, in case it still sleeps.
    pub(crate) fn wake_thread(&self, cpu: u32) {
        time::futex_wake_shared(self.area(cpu).u32(stub::PARK));
    }

    /// Notes the host process.
    pub(crate) fn set_pid(&self, pid: i32) {
        let mut p = self.pid.lock();
        if !self.dead.load(SeqCst) {
            *p = pid;
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        *self.pid.lock()
    }

    /// Ends the host process.
    pub(crate) fn kill(&self) {
        self.doomed.store(true, SeqCst);
        let pid = self.pid.lock();
        if *pid > 0 {
            let _ = task::kill(*pid, libc::SIGKILL);
        }
    }

    /// Takes a stub thread out of guest code.
    pub(crate) fn kick(&self, cpu: u32) {
        let tid = self.stubs[cpu as usize].tid.load(Relaxed);
        let pid = self.pid.lock();
        if *pid > 0 && tid > 0 {
            let _ = task::tgkill(*pid, tid, crate::zygote::KICK);
        }
    }

    fn has_thread(&self, tid: i32) -> bool {
        let pid = self.pid.lock();
        *pid > 0 && tid > 0 && task::tgkill(*pid, tid, 0).is_ok()
    }

    /// For the watcher: the host process is a zombie. Everyone who waits for
    /// it is told; then its number is given up.
    pub(crate) fn bury(&self, pid: i32) {
        let mut p = self.pid.lock();
        self.dead.store(true, SeqCst);
        let _ = task::wait_child(pid, 0);
        *p = 0;
        drop(p);
        let wake = |word: &AtomicU32| {
            word.store(DEAD, SeqCst);
            time::futex_wake_shared(word);
        };
        wake(self.file.slot(self.slot).u32(stub::CTRL_ACK));
        for (cpu, s) in (0..).zip(self.stubs) {
            if s.state.load(SeqCst) != stub_state::NONE {
                wake(self.area(cpu).u32(stub::REPORT));
            }
        }
        self.dead_word.store(1, SeqCst);
        time::futex_wake(&self.dead_word, u32::MAX);
    }

    /// Waits until the host process is gone, and with it its memory; or until
    /// the whole machine is at its end, when nobody watches any more.
    pub(crate) fn wait_until_dead(&self) {
        const LOOK_NS: u64 = 20_000_000;
        while self.dead_word.load(SeqCst) == 0 && !crate::zygote::is_ending() {
            let until = time::monotonic_ns() + LOOK_NS;
            let _ = time::futex_wait(&self.dead_word, 0, Some(until));
        }
    }

    /// Whether all threads are proven to sleep on their park words, with nobody
    /// about to let them go. See the argument in [`stub`], number 5.
    pub(crate) fn all_parked(&self) -> bool {
        (0..).zip(self.stubs).all(|(cpu, s)| {
            s.state.load(SeqCst) == stub_state::NONE
                || (!s.released.load(SeqCst)
                    && time::futex_has_sleeper(self.area(cpu).u32(stub::PARK)))
        })
    }

    /// As [`Process::all_parked`], giving threads that have just reported the
    /// time to fall asleep.
    pub(crate) fn all_parked_soon(&self, patient: bool) -> bool {
        for _ in 0..if patient { PARK_YIELDS } else { 2 } {
            if self.all_parked() {
                return true;
            }
            if self.stubs.iter().any(|s| s.released.load(SeqCst)) {
                return false;
            }
            task::yield_now();
        }
        for _ in 0..if patient { PARK_NAPS } else { 0 } {
            if self.all_parked() {
                return true;
            }
            time::sleep_ns(PARK_NAP_NS);
        }
        self.all_parked()
    }

    /// Makes the thread of vCPU `cpu`. `host_cpu`: bind to it.
    pub(crate) fn make_stub(&self, cpu: u32, host_cpu: Option<i32>) -> Result<(), NoStub> {
        let s = &self.stubs[cpu as usize];
        let area = self.area(cpu);
        let base = stub::area(cpu);
        let mut m = self.map.lock();
        m.settle(self)?;
        m.bind(self, host_cpu);
        s.state.store(stub_state::STARTING, SeqCst);
        area.u32(stub::REPORT).store(0, SeqCst);
        if self.dead.load(SeqCst) {
            return Err(NoStub::Gone);
        }
        s.go.store(1, Relaxed);
        area.u32(stub::GO).store(1, Relaxed);
        area.u32(stub::PARK).store(1, Relaxed);
        frame::prepare_area(area, base);
        write_thread_list(area, base);

        let offset = self.file.area_offset(self.slot, cpu);
        let map = |from: u64, len: u64, prot: i32| {
            let flags = (libc::MAP_SHARED | libc::MAP_FIXED) as u64;
            let args = [base + from, len, prot as u64, flags, STUB_FD, offset + from];
            call(libc::SYS_mmap, args)
        };
        let rw = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::CLONE_VM
            | libc::CLONE_FS
            | libc::CLONE_SIGHAND
            | libc::CLONE_THREAD
            | libc::CLONE_SYSVSEM
            | libc::CLONE_PARENT_SETTID;
        let tid = base + stub::REPORT_TID;
        let mut clone = call(libc::SYS_clone, [flags as u64, 0, tid, 0, 0, 0]);
        clone.child = base + stub::GO_INIT;
        let mut list = m.mapper.begin();
        let alt_len = stub::AREA_SIZE - stub::ALT_STACK;
        for mut op in [
            map(0, stub::ALT_STACK, libc::PROT_READ),
            map(stub::ALT_STACK, alt_len, rw),
            clone,
        ] {
            op.on_error = list.failure();
            list.push(op);
        }
        m.mapper.submit(list, None, None);
        match m.mapper.wait(&self.dead) {
            Answer::Done => {}
            Answer::Failed => {
                s.state.store(stub_state::NONE, SeqCst);
                return Err(NoStub::Refused);
            }
            Answer::Dead => return Err(NoStub::Gone),
        }
        self.wait_report(cpu, 1, None)?;
        // Other threads of the guest may have written there meanwhile. If it is
        // no thread of this process, they have; if it is another, kicks will
        // miss this one, and the watchdog ends them all.
        let tid = area.u32(stub::REPORT_TID).load(Relaxed) as i32;
        s.tid.store(tid, Relaxed);
        if !self.has_thread(tid) {
            drop(m);
            self.kill();
            return Err(NoStub::Gone);
        }
        s.stale.store(false, Relaxed);
        // Not what it has: the first run sets them.
        s.fs.store(u64::MAX, Relaxed);
        s.gs.store(u64::MAX, Relaxed);
        s.state.store(stub_state::READY, SeqCst);
        Ok(())
    }

    /// Waits until thread `cpu` reports for go word `go`. Nothing ends the wait
    /// but the report, death, or the watchdog given with the host's /proc.
    fn wait_report(
        &self,
        cpu: u32,
        go: u32,
        mut watchdog: Option<(Watchdog, i32)>,
    ) -> Result<(), Gone> {
        let word = self.area(cpu).u32(stub::REPORT);
        let nap = watchdog.as_ref().map(|_| Watchdog::NAP);
        loop {
            let seen = word.load(Acquire);
            // Death first: a dead process's word has any value.
            if self.dead.load(SeqCst) {
                return Err(Gone);
            }
            if seen == go {
                return Ok(());
            }
            let cut = switch::sleep(word, libc::FUTEX_WAIT, seen, nap.as_ref(), &NEVER);
            if let Some((w, proc_dir)) = &mut watchdog
                && !cut
                && word.load(Acquire) == seen
                && w.is_silent(*proc_dir, self, &self.stubs[cpu as usize])
            {
                self.kill();
            }
        }
    }

    /// Waits until each thread that another guest process has used has been through our own
    /// frame, on which [`Process::wipe`] has sent it: afterwards its mask and alternate stack
    /// are ours, whatever its past.
    pub(crate) fn refresh(&self, proc_dir: i32) -> Result<(), Gone> {
        // What was mapped goes before any of them runs guest code; the rounds lead to
        // none.
        self.map.lock().settle(self)?;
        for (cpu, s) in (0..).zip(self.stubs) {
            if s.stale.load(Relaxed) {
                let watchdog = Watchdog::for_round();
                self.wait_report(cpu, s.go.load(Relaxed), Some((watchdog, proc_dir)))?;
                s.fs.store(u64::MAX, Relaxed);
                s.gs.store(u64::MAX, Relaxed);
                s.stale.store(false, Relaxed);
            }
        }
        Ok(())
    }

    /// Forgets the guest process that was here: all threads are proven parked, and now make a
    /// round through our own frame, each on its host CPU, for which [`Process::refresh`] waits.
    /// Mappings go before one of them runs guest code; see [`stub`], number 6.
    pub(crate) fn wipe(&self, m: &mut MapState, frame: &HostFrame) {
        for (cpu, s) in (0..).zip(self.stubs) {
            if s.is_ready() {
                frame.reset(self.area(cpu));
                s.owner.fetch_add(1, Relaxed);
                s.stale.store(true, Relaxed);
                frame.aim_at_trap(self.area(cpu), stub::area(cpu));
                self.let_thread_go(cpu, next_go(s));
                // What it says may be its past's.
                self.wake_thread(cpu);
            }
        }
        if m.tlb.len() > 0 {
            m.tlb.clear();
            let mut list = m.mapper.begin();
            list.push(unmap_all());
            m.mapper.submit(list, None, None);
        }
    }
}

/// The next value of a go word. [`DEAD`] is never one.
pub(crate) fn next_go(s: &Stub) -> u32 {
    let go = match s.go.load(Relaxed) {
        g if g >= DEAD - 1 => 1,
        g => g + 1,
    };
    s.go.store(go, Relaxed);
    go
}

fn unmap_all() -> Op {
    call(libc::SYS_munmap, [0, USER_END, 0, 0, 0, 0])
}

/// What a new stub thread does before it makes its first report. Its last call
/// takes it the right to call anything.
fn write_thread_list(area: Slot, base: u64) {
    const SET_MODE_FILTER: u64 = 1;
    let setmask = libc::SIG_SETMASK as u64;
    let die = base + stub::GO_INIT + 5 * stub::OP_SIZE;
    let spec_allow = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    let steps = [
        call(
            libc::SYS_rt_sigprocmask,
            [setmask, base + stub::GO_MASK, 0, 8, 0, 0],
        ),
        call(
            libc::SYS_sigaltstack,
            [base + stub::GO_STACK, 0, 0, 0, 0, 0],
        ),
        call(libc::SYS_close_range, [0, u32::MAX.into(), 0, 0, 0, 0]),
        call(
            libc::SYS_seccomp,
            [SET_MODE_FILTER, spec_allow, stub::CONSTANTS, 0, 0, 0],
        ),
        call(-1, [stub::trap(), 0, 0, 0, 0, 0]),
        call(libc::SYS_exit_group, [1, 0, 0, 0, 0, 0]),
    ];
    for (i, mut op) in (0u64..).zip(steps) {
        op.on_error = if i < 4 { die } else { 0 };
        let words =
            [op.nr as u64]
                .into_iter()
                .chain(op.args)
                .chain([op.child, op.on_error, op.expect]);
        for (j, w) in (0u64..).zip(words) {
            let at = stub::GO_INIT + i * stub::OP_SIZE + 8 * j;
            area.u64(at).store(w, Relaxed);
        }
    }
}

impl MapState {
    /// Waits for the mapper's answer to what it was last asked.
    pub(crate) fn settle(&mut self, p: &Process) -> Result<(), Gone> {
        if p.dead.load(SeqCst) {
            return Err(Gone);
        }
        if self.mapper.answered() {
            return Ok(());
        }
        self.note(p)
    }

    fn note(&mut self, p: &Process) -> Result<(), Gone> {
        match self.mapper.wait(&p.dead) {
            Answer::Done => Ok(()),
            Answer::Failed => {
                self.tlb.clear();
                Ok(())
            }
            Answer::Dead => Err(Gone),
        }
    }

    /// Binds the mapper, and the threads it makes from now on, to a host CPU.
    pub(crate) fn bind(&mut self, p: &Process, host_cpu: Option<i32>) {
        if let Some(cpu) = host_cpu
            && cpu != self.bound
        {
            let pid = p.pid.lock();
            if *pid > 0 && task::set_affinity(*pid, &CpuSet::of(cpu as usize)).is_ok() {
                self.bound = cpu;
            }
        }
    }

    /// Brings the process's mappings up to date with the queue. The mapper has
    /// been settled. `then_go`: thread to let go as soon as that is done; else
    /// it is done on return. Returns whether the mapper has been told to let it go.
    pub(crate) fn apply(
        &mut self,
        p: &Process,
        queue: &Queue,
        limit: usize,
        then_go: Option<Go>,
    ) -> Result<bool, Gone> {
        let drop_all = queue.take(&mut self.spare);
        let mut list = self.mapper.begin();
        if drop_all && self.tlb.len() > 0 {
            self.tlb.clear();
            list.push(unmap_all());
        }
        let mut last: Option<(u64, u64, u64, u64)> = None; // addr, len, prot and flags, offset
        for i in 0..self.spare.len() {
            let op = self.spare[i];
            if !list.has_room(3) {
                flush_map(&mut list, &mut last);
                self.mapper.submit(list, Some(unmap_all()), None);
                self.note(p)?;
                list = self.mapper.begin();
            }
            match op {
                MapOp::Map {
                    addr,
                    len,
                    pfn,
                    prot,
                    populate,
                } => {
                    if !self.tlb.map(addr, addr + len, pfn, prot) {
                        continue;
                    }
                    let fixed = libc::MAP_SHARED | libc::MAP_FIXED;
                    let flags = fixed | if populate { libc::MAP_POPULATE } else { 0 };
                    let kind = u64::from(prot.bits()) << 32 | flags as u64;
                    let offset = pfn.file_offset();
                    match &mut last {
                        Some((a, l, k, o))
                            if *a + *l == addr && *k == kind && *o + *l == offset =>
                        {
                            *l += len;
                        }
                        _ => {
                            flush_map(&mut list, &mut last);
                            last = Some((addr, len, kind, offset));
                        }
                    }
                }
                MapOp::Unmap { addr, len } => {
                    if self.tlb.unmap(addr, addr + len) {
                        flush_map(&mut list, &mut last);
                        let mut op = call(libc::SYS_munmap, [addr, len, 0, 0, 0, 0]);
                        op.on_error = list.failure();
                        list.push(op);
                    }
                }
                MapOp::Protect { addr, len, prot } => {
                    flush_map(&mut list, &mut last);
                    let bits = u64::from(prot.bits());
                    let mut room = true;
                    self.tlb.protect(addr, addr + len, prot, |s, e| {
                        if list.has_room(2) {
                            let mut op = call(libc::SYS_mprotect, [s, e - s, bits, 0, 0, 0]);
                            op.on_error = list.failure();
                            list.push(op);
                        } else {
                            room = false;
                        }
                    });
                    if !room {
                        // Too many pieces: dropping them all is cheaper than more lists.
                        self.tlb.clear();
                        list.push(unmap_all());
                    }
                }
            }
            if self.tlb.len() > limit {
                flush_map(&mut list, &mut last);
                self.tlb.clear();
                list.push(unmap_all());
            }
        }
        flush_map(&mut list, &mut last);
        if list.is_empty() {
            self.mapper.forget(list);
            queue.busy.store(false, SeqCst);
            return Ok(false);
        }
        self.mapper.submit(list, Some(unmap_all()), then_go);
        if then_go.is_none() {
            self.note(p)?;
            queue.busy.store(false, SeqCst);
        }
        Ok(then_go.is_some())
    }
}

fn flush_map(list: &mut List, last: &mut Option<(u64, u64, u64, u64)>) {
    if let Some((addr, len, kind, offset)) = last.take() {
        let args = [addr, len, kind >> 32, kind & 0xffff_ffff, MEM_FD, offset];
        let mut op = call(libc::SYS_mmap, args);
        op.on_error = list.failure();
        list.push(op);
    }
}
