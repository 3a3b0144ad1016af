//! User processes of the engine `kml`: making them, keeping some, their end.
//!
//! The zygote is forked while the kernel process has one thread; all memory
//! that kernel code writes is shared by then. On request it forks a sibling, whose
//! first thread is the process's *manager*: it makes threads, and changes mappings
//! for those who are in other processes.

use super::heat::Heat;
use super::space::Space;
use super::thread::{self, Thread};
use super::{Death, KmlEngine};
use crate::engine::tlb::Tlb;
use crate::lock::HostLock;
use crate::patience::Patience;
use crate::sysvec::{SysVec, leak, leak_slice};
use crate::x86_64::patch::REACH;
use crate::x86_64::{filter, kml};
use crate::{Error, zygote};
use abi::Errno;
use core::convert::Infallible;
use core::ptr;
use core::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32};
use hal::USER_END;
use hal::mem::MEM_BASE;
use host_sys::raw::{call3, call6};
use host_sys::{mem, misc, signal, task, time};

/// User processes at most.
const MAX: usize = 16384;
/// Idle processes kept at most.
const IDLE_MAX: usize = 32;

/// How long the zygote may take for an answer. By the clock: interrupts end each single wait.
const SILENT_NS: u64 = 10_000_000_000;

/// What the zygote does before it is ready, for the message if the host refuses it.
const STEPS: [&str; 5] = [
    "tie the user processes to this process",
    "map the memory file in user processes",
    "install the signal handlers of user processes",
    "install the seccomp filter of user processes",
    "limit what user processes can do",
];
const STEP_SECCOMP: usize = 3;

/// What [`Nest::done`] tells.
mod done {
    /// The new process has started.
    pub(super) const STARTED: u32 = 1;
    /// The host refused it.
    pub(super) const REFUSED: u32 = 2;
    /// The zygote failed: with the step above bit 16, the host's error number below.
    pub(super) const FAILED: u32 = 1 << 31;
}

/// What is asked of a process's manager.
mod ask {
    pub(super) const NOTHING: u32 = 0;
    pub(super) const THREAD: u32 = 1;
    pub(super) const APPLY: u32 = 2;
    pub(super) const WIPE: u32 = 3;
    pub(super) const EXIT: u32 = 4;
}

/// One user process.
pub(crate) struct Process {
    engine: &'static KmlEngine,
    pub(crate) pid: AtomicI32,
    pub(crate) dead: AtomicBool,
    doomed: AtomicBool,
    /// One for each vCPU.
    pub(crate) threads: &'static [Thread],
    /// What is mapped below [`USER_END`].
    pub(crate) map: HostLock<Tlb>,
    /// Where calls trap.
    pub(crate) heat: Heat,
    /// Who may ask the manager.
    asking: HostLock<()>,
    ask: AtomicU32,
    cpu: AtomicU32,
    space: AtomicPtr<Space>,
    refused: AtomicBool,
}

/// The zygote's mailbox.
pub(crate) struct Nest {
    want: AtomicU32,
    process: AtomicPtr<Process>,
    /// Zero until the zygote or the new process has answered, see [`mod@done`].
    done: AtomicU32,
    pub(crate) pid: AtomicI32,
}

impl Nest {
    pub(crate) fn new() -> Nest {
        Nest {
            want: AtomicU32::new(0),
            process: AtomicPtr::new(ptr::null_mut()),
            done: AtomicU32::new(0),
            pid: AtomicI32::new(0),
        }
    }
}

/// What the pool's lock guards.
pub(crate) struct Pool {
    idle: SysVec<&'static Process>,
    all: SysVec<&'static Process>,
}

impl Pool {
    pub(crate) const fn new() -> Pool {
        Pool {
            idle: SysVec::new(),
            all: SysVec::new(),
        }
    }
}

impl KmlEngine {
    /// Forks the zygote. This process has one thread.
    pub(crate) fn fork_zygote(&'static self, mem_fd: i32) -> Result<(), Error> {
        let parent = task::getpid();
        let program = filter::guest_traps();
        // SAFETY: one thread, as the caller promises; the child never returns.
        match unsafe { misc::fork_sharing_files() } {
            Ok(0) => {
                let mut step = 0;
                let e = match self.become_zygote(parent, mem_fd, &program, &mut step) {
                    Ok(never) => match never {},
                    Err(e) => e,
                };
                self.answer(done::FAILED | (step as u32) << 16 | u32::from(e.0));
                task::exit_group(1)
            }
            Ok(pid) => {
                zygote::set_group(pid);
                self.nest.pid.store(pid, SeqCst);
            }
            Err(e) => return Err(Error::Host("fork the first user process", e)),
        }
        match self.wait_done() {
            done::STARTED => Ok(()),
            n if n & done::FAILED != 0 => {
                let (step, e) = (n >> 16 & 0xff, host_sys::Errno(n as u16));
                Err(match STEPS.get(step as usize) {
                    Some(_) if step as usize == STEP_SECCOMP => Error::NoSeccomp(e),
                    Some(what) => Error::Host(what, e),
                    None => Error::ZygoteDied,
                })
            }
            _ => Err(Error::ZygoteSilent),
        }
    }

    fn answer(&self, what: u32) {
        self.nest.done.store(what, SeqCst);
        time::futex_wake_shared(&self.nest.done);
    }

    fn wait_done(&self) -> u32 {
        let end = time::monotonic_ns() + SILENT_NS;
        loop {
            match self.nest.done.load(SeqCst) {
                0 if time::monotonic_ns() > end => return done::REFUSED,
                0 => {
                    let _ = time::futex_wait_shared(&self.nest.done, 0, Some(100_000_000));
                }
                n => return n,
            }
        }
    }

    fn become_zygote(
        &'static self,
        parent: i32,
        mem_fd: i32,
        program: &[filter::Insn],
        step: &mut usize,
    ) -> Result<Infallible, host_sys::Errno> {
        signal::set_mask(u64::MAX);
        prepare_process(parent)?;
        // SAFETY: plain numbers, about this process only.
        unsafe { task::prctl(libc::PR_SET_NO_NEW_PRIVS, 1)? };
        // Leads the process group of all, as in the other engine. Without a controlling
        // terminal: the host takes calls on the kernel process's from here at any time.
        misc::setsid()?;
        *step += 1;
        let rw = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE;
        let len = (self.options.frames as usize) << hal::PAGE_SHIFT;
        // SAFETY: nothing is replaced.
        let at = unsafe { mem::mmap(MEM_BASE, len, rw, flags, mem_fd, 0) };
        match at {
            Ok(_) | Err(host_sys::Errno::EEXIST) => {}
            Err(e) => return Err(e),
        }
        *step += 1;
        thread::install_all()?;
        *step = STEP_SECCOMP;
        const SET_MODE_FILTER: usize = 1;
        let program = libc::sock_fprog {
            len: program.len() as u16,
            filter: program.as_ptr().cast_mut().cast(),
        };
        let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as usize;
        // SAFETY: reads the program.
        unsafe {
            call3(
                libc::SYS_seccomp,
                SET_MODE_FILTER,
                flags,
                &raw const program as usize,
            )?;
        }
        *step += 1;
        if let Some(confine) = self.options.confine {
            confine()?;
        }
        let nest = &self.nest;
        self.answer(done::STARTED);
        loop {
            while nest.want.swap(0, SeqCst) == 0 {
                let _ = time::futex_wait_shared(&nest.want, 0, None);
            }
            // SAFETY: made from a reference that lives for ever.
            let Some(p) = (unsafe { nest.process.load(SeqCst).as_ref() }) else {
                continue;
            };
            // SAFETY: one thread; the child never returns from `manage`.
            match unsafe { misc::fork_sibling() } {
                Ok(0) => p.manage(parent),
                Ok(_) => {}
                Err(_) => self.answer(done::REFUSED),
            }
        }
    }

    /// An empty process.
    pub(crate) fn acquire(&'static self) -> Result<&'static Process, Errno> {
        let mut pool = self.pool.lock();
        while let Some(p) = pool.idle.pop() {
            if !p.dead.load(SeqCst) {
                return Ok(p);
            }
        }
        if pool.all.len() >= MAX {
            return Err(Errno::EAGAIN);
        }
        let p = Process::make(self);
        self.nest.done.store(0, SeqCst);
        self.nest.process.store(ptr::from_ref(p).cast_mut(), SeqCst);
        self.nest.want.store(1, SeqCst);
        time::futex_wake_shared(&self.nest.want);
        if self.wait_done() != done::STARTED {
            return Err(Errno::EAGAIN);
        }
        pool.all.push(p);
        Ok(p)
    }

    /// Takes a process back that is empty.
    pub(crate) fn release(&'static self, p: &'static Process) {
        let mut pool = self.pool.lock();
        let embodied = self.vcpus.iter().any(|v| {
            let here = v.try_current().and_then(Thread::process);
            here.is_some_and(|q| ptr::eq(p, q))
        });
        if pool.idle.len() < IDLE_MAX || embodied {
            pool.idle.push(p);
            return;
        }
        drop(pool);
        p.doomed.store(true, SeqCst);
        p.request(ask::EXIT);
    }

    /// The thread that waits for the end of user processes.
    pub(crate) fn watch(&'static self) {
        // What programs destroy of the heap does not keep this thread from saying so.
        let (group, machine_died) = (self.nest.pid.load(SeqCst), self.options.machine_died);
        loop {
            let mut info = [0u32; 32];
            let options = libc::WEXITED | libc::__WALL;
            let args = [
                libc::P_PGID as usize,
                group as usize,
                info.as_mut_ptr() as usize,
                options as usize,
                0,
                0,
            ];
            // SAFETY: writes a siginfo_t (128 bytes) to `info`.
            match unsafe { call6(libc::SYS_waitid, args) } {
                Ok(_) => {}
                Err(host_sys::Errno::EINTR) => continue,
                Err(_) => {
                    time::sleep_ns(100_000_000);
                    continue;
                }
            }
            let pid = info[4] as i32;
            let exited = info[2] as i32 == libc::CLD_EXITED;
            let (signal, status) = match exited {
                true => (0, info[6] as i32),
                false => (info[6] as i32, 0),
            };
            // A manager that was asked to end gives no other status. Of the others, one may have died with
            // the pool's lock, and whoever waits for the zygote has it.
            let gone = exited && status == 0 && {
                let mut pool = self.pool.lock();
                let at = pool.all.iter().position(|p| p.pid.load(SeqCst) == pid);
                let doomed = at.is_some_and(|i| pool.all[i].doomed.load(SeqCst));
                if let (Some(i), true) = (at, doomed) {
                    pool.all[i].dead.store(true, SeqCst);
                    pool.all.remove_range(i, i + 1);
                }
                doomed
            };
            if !gone {
                machine_died(Death {
                    pid,
                    signal,
                    status,
                });
            }
        }
    }
}

/// Ties this process's life to the kernel process's.
fn prepare_process(parent: i32) -> host_sys::Result {
    // SAFETY: plain numbers and a name, about this process only.
    unsafe {
        task::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as usize)?;
        let _ = task::prctl(libc::PR_SET_NAME, c"lodger-user".as_ptr() as usize);
    }
    if task::getppid() != parent {
        task::exit_group(1);
    }
    Ok(())
}

impl Process {
    fn make(engine: &'static KmlEngine) -> &'static Process {
        let n = engine.vcpus.len();
        let p = leak(Process {
            engine,
            pid: AtomicI32::new(0),
            dead: AtomicBool::new(false),
            doomed: AtomicBool::new(false),
            threads: leak_slice(n, |i| Thread::new(engine, i as u32)),
            map: HostLock::new(Tlb::new()),
            heat: Heat::new(),
            asking: HostLock::new(()),
            ask: AtomicU32::new(ask::NOTHING),
            cpu: AtomicU32::new(0),
            space: AtomicPtr::new(ptr::null_mut()),
            refused: AtomicBool::new(false),
        });
        for t in p.threads {
            t.set_process(p);
        }
        p
    }

    /// The manager of a new process.
    fn manage(&'static self, parent: i32) -> ! {
        self.pid.store(task::getpid(), SeqCst);
        self.engine.answer(match prepare_process(parent) {
            Ok(()) => done::STARTED,
            Err(_) => done::REFUSED,
        });
        loop {
            let what = self.ask.load(SeqCst);
            let mut refused = false;
            match what {
                ask::NOTHING => {
                    let _ = time::futex_wait_shared(&self.ask, ask::NOTHING, None);
                    continue;
                }
                ask::THREAD => refused = !self.make_thread(self.cpu.load(SeqCst)),
                ask::APPLY => {
                    // SAFETY: the asker holds the space until it is answered.
                    if let Some(s) = unsafe { self.space.load(SeqCst).as_ref() } {
                        s.apply_here(self);
                    }
                }
                ask::WIPE => self.wipe_here(),
                _ => task::exit_group(0),
            }
            self.refused.store(refused, SeqCst);
            self.ask.store(ask::NOTHING, SeqCst);
            time::futex_wake_shared(&self.ask);
        }
    }

    /// Asks the manager and waits until it is done.
    fn request(&self, what: u32) {
        self.ask.store(what, SeqCst);
        time::futex_wake_shared(&self.ask);
        while what != ask::EXIT && self.ask.load(SeqCst) == what {
            let _ = time::futex_wait_shared(&self.ask, what, Some(100_000_000));
        }
    }

    /// The thread for vCPU `cpu`, made if needed. `None`: the host refuses it.
    pub(crate) fn thread(&'static self, cpu: u32) -> Option<&'static Thread> {
        let t = self.threads.get(cpu as usize)?;
        if t.is_ready() {
            return Some(t);
        }
        if t.block().is_none() {
            t.make_block(self.engine.vcpus.get(cpu as usize)?.cpu_block()?)?;
        }
        let _asking = self.asking.lock();
        if t.try_again() {
            return t.wait_ready().then_some(t);
        }
        self.cpu.store(cpu, SeqCst);
        self.request(ask::THREAD);
        (!self.refused.load(SeqCst) && t.wait_ready()).then_some(t)
    }

    /// The same for a guest that comes to another vCPU, and would be lost: the host's limit
    /// on threads may be reached for a moment only.
    pub(crate) fn thread_in_time(&'static self, cpu: u32) -> Option<&'static Thread> {
        let mut patience = Patience::default();
        loop {
            if let Some(t) = self.thread(cpu) {
                return Some(t);
            }
            if !patience.nap() {
                return None;
            }
        }
    }

    fn make_thread(&'static self, cpu: u32) -> bool {
        let Some(t) = self.threads.get(cpu as usize) else {
            return false;
        };
        match t.block() {
            Some(b) => {
                b.set_host_fs();
                kml::start_thread(b, &t.tid, thread::first) > 0
            }
            None => false,
        }
    }

    /// Has the manager bring the mappings up to date.
    pub(crate) fn apply_there(&self, space: &Space) {
        let _asking = self.asking.lock();
        self.space.store(ptr::from_ref(space).cast_mut(), SeqCst);
        self.request(ask::APPLY);
    }

    /// Has the manager remove all mappings.
    pub(crate) fn wipe_there(&self) {
        let _asking = self.asking.lock();
        self.request(ask::WIPE);
    }

    /// In this process: removes all mappings of the guest.
    pub(crate) fn wipe_here(&self) {
        let mut map = self.map.lock();
        if map.len() > 0 || self.heat.has_exchanged() {
            self.drop_all(&mut map);
        }
        self.heat.reset();
    }

    /// In this process: removes all mappings of the guest, and all trampolines. A thread in one of these
    /// gets a fault and goes on in the page that it belongs to; faults bring the pages back.
    pub(crate) fn drop_all(&self, map: &mut Tlb) {
        map.clear();
        self.heat.forget(0, u64::MAX);
        // SAFETY: only the guest's mappings are there.
        let _ = unsafe { mem::munmap(0, (USER_END + REACH) as usize) };
    }
}

/// What one vCPU is embodied by.
pub(crate) struct Vcpu {
    pub(crate) host_cpu: i32,
    current: AtomicPtr<Thread>,
    pub(crate) home: AtomicPtr<Thread>,
    block: AtomicPtr<hal::cpu::CpuBlock>,
}

impl Vcpu {
    pub(crate) fn new(host_cpu: i32) -> Vcpu {
        Vcpu {
            host_cpu,
            current: AtomicPtr::new(ptr::null_mut()),
            home: AtomicPtr::new(ptr::null_mut()),
            block: AtomicPtr::new(ptr::null_mut()),
        }
    }
    pub(crate) fn start(&self, home: &'static Thread, block: &'static hal::cpu::CpuBlock) {
        self.block.store(ptr::from_ref(block).cast_mut(), SeqCst);
        self.home.store(ptr::from_ref(home).cast_mut(), SeqCst);
        self.set_current(block, home);
    }
    /// The thread that embodies the vCPU of `block`, the caller's.
    #[inline]
    pub(crate) fn here(block: &hal::cpu::CpuBlock) -> &'static Thread {
        let t = block.engine.load(Relaxed) as usize;
        // SAFETY: made from a reference that lives for ever, before anything ran on this vCPU.
        unsafe { &*ptr::with_exposed_provenance(t) }
    }
    pub(crate) fn cpu_block(&self) -> Option<&'static hal::cpu::CpuBlock> {
        // SAFETY: null, or made from a reference that lives for ever.
        unsafe { self.block.load(Acquire).as_ref() }
    }
    /// The thread that embodies it, once it has started.
    pub(crate) fn try_current(&self) -> Option<&'static Thread> {
        // SAFETY: null, or made from a reference that lives for ever.
        unsafe { self.current.load(Acquire).as_ref() }
    }
    /// Whether somebody has ever embodied it.
    pub(crate) fn is_started(&self) -> bool {
        !self.current.load(Acquire).is_null()
    }
    /// The vCPU's block and that thread, as they are written there.
    pub(crate) fn words(&self) -> (*const hal::cpu::CpuBlock, *const Thread) {
        (self.block.load(Acquire), self.current.load(Acquire))
    }
    /// The thread that embodies it.
    pub(crate) fn current(&self) -> &'static Thread {
        self.try_current().expect("the vCPU has started")
    }
    /// The thread of the kernel process that embodied it first.
    pub(crate) fn home(&self) -> Option<&'static Thread> {
        // SAFETY: as above.
        unsafe { self.home.load(Acquire).as_ref() }
    }
    /// The vCPU of `block`, the caller's, goes on in `t`.
    pub(crate) fn set_current(&self, block: &hal::cpu::CpuBlock, t: &'static Thread) {
        let at = ptr::from_ref(t).cast_mut();
        block.engine.store(at.expose_provenance() as u64, SeqCst);
        self.current.store(at, SeqCst);
    }
}
