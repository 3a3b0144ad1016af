//! The host threads of the engine `kml`: handing a vCPU over, timers, signals.

use super::process::Process;
use super::{KmlEngine, NO_ROOM_STATUS, PANIC_STATUS};
use crate::Error;
use crate::x86_64::kml::{self, ALT_STACK, BLOCK_SIZE, Block, Reporter};
use crate::x86_64::patch::Room;
use crate::zygote::{GUEST_MASK, HANDLED};
use core::alloc::Layout;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64};
use hal::cpu::{CpuBlock, IRQ_TIMER, mode};
use host_sys::signal::{self, Action, SA_RESTORER, bit};
use host_sys::task::{self, CpuSet};
use host_sys::{arena, fd, time};

/// Guest code may have changed what of the vector state is in use.
const LIVE: u64 = u64::MAX;

/// Of threads that run no guest code.
static NO_ROOM: Room = Room::new();

/// One host thread that can embody a vCPU.
pub(crate) struct Thread {
    engine: &'static KmlEngine,
    /// The process it belongs to; null: the kernel process.
    process: AtomicPtr<Process>,
    pub(crate) pid: AtomicI32,
    pub(crate) tid: AtomicI32,
    cpu: u32,
    timer: AtomicI32,
    /// When its timer goes off (host's monotonic clock); `u64::MAX` = not.
    armed_ns: AtomicU64,
    block: AtomicPtr<Block>,
    /// 1: waits in [`park`]; 2: the host has refused what it needs.
    ready: AtomicU32,
    owner: AtomicU64,
    /// See [`Thread::leave_vectors`].
    left: AtomicU64,
    runs: AtomicU32,
    /// Kernel code has faulted on it.
    crashed: AtomicBool,
}

impl Thread {
    pub(crate) fn new(engine: &'static KmlEngine, cpu: u32) -> Thread {
        Thread {
            engine,
            process: AtomicPtr::new(core::ptr::null_mut()),
            pid: AtomicI32::new(0),
            tid: AtomicI32::new(0),
            cpu,
            timer: AtomicI32::new(-1),
            armed_ns: AtomicU64::new(u64::MAX),
            block: AtomicPtr::new(core::ptr::null_mut()),
            ready: AtomicU32::new(0),
            owner: AtomicU64::new(0),
            left: AtomicU64::new(LIVE),
            runs: AtomicU32::new(0),
            crashed: AtomicBool::new(false),
        }
    }

    /// The user process it belongs to.
    pub(crate) fn process(&self) -> Option<&'static Process> {
        // SAFETY: null, or made from a reference that lives for ever.
        unsafe { self.process.load(Acquire).as_ref() }
    }

    /// Says which process it belongs to.
    pub(crate) fn set_process(&self, p: &'static Process) {
        self.process
            .store(core::ptr::from_ref(p).cast_mut(), SeqCst);
    }

    /// Counts a run of guest code. On this thread only.
    pub(crate) fn count_run(&self) -> u32 {
        let n = self.runs.load(Relaxed);
        self.runs.store(n.wrapping_add(1), Release);
        n
    }

    /// Number of the owner of the vector state in this thread's registers.
    pub(crate) fn owner(&self) -> u64 {
        self.owner.load(Relaxed)
    }

    /// There is another owner. On this thread only.
    pub(crate) fn count_owner(&self) {
        self.owner.store(self.owner() + 1, Relaxed);
    }

    /// Notes that the vector state has been copied, while these components were in use. On this thread only.
    pub(crate) fn leave_vectors(&self, in_use: u64) {
        self.left.store(in_use, Relaxed);
    }

    /// Which components are in use, if guest code has not run since the last copy was made; it will now. On this thread only.
    pub(crate) fn left_vectors(&self) -> Option<u64> {
        let left = self.left.load(Relaxed);
        self.left.store(LIVE, Relaxed);
        (left != LIVE).then_some(left)
    }

    /// How often guest code was run, for other threads.
    pub(crate) fn runs(&self) -> u32 {
        self.runs.load(Acquire)
    }

    /// Whether it has been set up.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(SeqCst) == 1
    }

    /// Notes that it is set up.
    pub(crate) fn set_ready(&self) {
        self.ready.store(1, SeqCst);
    }

    /// The block, once there is one.
    pub(crate) fn block(&self) -> Option<&'static Block> {
        // SAFETY: null, or a block, which lives for ever.
        unsafe { self.block.load(Acquire).as_ref() }
    }

    /// Makes the block. `None`: no memory.
    pub(crate) fn make_block(&'static self, cpu: &'static CpuBlock) -> Option<&'static Block> {
        let layout = Layout::from_size_align(BLOCK_SIZE, BLOCK_SIZE).ok()?;
        let p = arena::alloc(layout);
        if p.is_null() {
            return None;
        }
        let room = self.process().map_or(&NO_ROOM, |p| &p.heat.room);
        let owner = core::ptr::from_ref(self).cast();
        // SAFETY: a fresh block of memory that is never given back.
        let b = unsafe {
            p.write_bytes(0, BLOCK_SIZE);
            Block::make(p.expose_provenance(), cpu, on_alarm, on_fault, room, owner)
        };
        self.block.store(core::ptr::from_ref(b).cast_mut(), SeqCst);
        Some(b)
    }

    /// Sets this thread up to embody its vCPU.
    pub(crate) fn settle(&'static self, b: &'static Block) -> Result<(), Error> {
        let fail = |what| move |e| Error::Host(what, e);
        // SAFETY: the stack is in the block, which is this thread's.
        unsafe { signal::set_altstack(b.at() + ALT_STACK, BLOCK_SIZE - ALT_STACK) }
            .map_err(fail("set a vCPU's signal stack"))?;
        if let Some(c) = self.engine.host_cpu(self.cpu) {
            task::set_affinity(0, &CpuSet::of(c as usize)).map_err(fail("bind a vCPU"))?;
        }
        let tid = task::gettid();
        let at = core::ptr::from_ref(self).expose_provenance();
        let timer = time::timer_create(libc::SIGALRM, tid, at);
        let timer = timer.map_err(fail("make a vCPU's timer"))?;
        self.timer.store(timer.0, Relaxed);
        self.pid.store(task::getpid(), Relaxed);
        self.tid.store(tid, SeqCst);
        Ok(())
    }

    /// Sets the timer, if it would not go off early enough by itself. On this thread only.
    pub(crate) fn arm(&self, host_ns: u64) {
        if self.armed_ns.load(Relaxed) <= host_ns {
            return;
        }
        self.armed_ns.store(host_ns, Relaxed);
        let _ = time::timer_set(time::TimerId(self.timer.load(Relaxed)), Some(host_ns));
    }

    /// If it has been made but could not be set up: lets it try again.
    pub(crate) fn try_again(&self) -> bool {
        let failed = self.ready.compare_exchange(2, 0, SeqCst, SeqCst).is_ok();
        if failed {
            time::futex_wake_shared(&self.ready);
        }
        failed
    }

    /// Waits until the new thread can be handed a vCPU. False: it could not be set up.
    pub(crate) fn wait_ready(&self) -> bool {
        loop {
            match self.ready.load(SeqCst) {
                0 => {
                    let _ = time::futex_wait_shared(&self.ready, 0, Some(100_000_000));
                }
                n => return n == 1,
            }
        }
    }

    /// Process and thread number.
    pub(crate) fn ids(&self) -> (i32, i32) {
        (self.pid.load(SeqCst), self.tid.load(SeqCst))
    }

    pub(crate) fn kick(&self) {
        let (pid, tid) = self.ids();
        if tid > 0 {
            let _ = task::tgkill(pid, tid, crate::zygote::KICK);
        }
    }
}

/// The thread that a block belongs to.
fn thread_of(b: &Block) -> &'static Thread {
    // SAFETY: `make_block` wrote the address of one that lives for ever.
    unsafe { &*b.owner.cast::<Thread>() }
}

/// First code of a user process's thread.
pub(crate) extern "C" fn first(b: &'static Block) -> ! {
    let t = thread_of(b);
    kml::set_gs_base(b.at() as u64);
    while t.settle(b).is_err() {
        t.ready.store(2, SeqCst);
        time::futex_wake_shared(&t.ready);
        while t.ready.load(SeqCst) == 2 {
            let _ = time::futex_wait_shared(&t.ready, 2, None);
        }
    }
    signal::set_mask(GUEST_MASK & !bit(libc::SIGALRM));
    t.ready.store(1, SeqCst);
    time::futex_wake_shared(&t.ready);
    park(b)
}

/// Waits until a vCPU is handed to this thread, and continues it.
pub(crate) fn park(b: &'static Block) -> ! {
    // Where a vCPU goes to and fro between processes, it is soon back: the threads' host CPU goes to the other one
    // at once, and a wake-up is saved.
    for _ in 0..YIELDS {
        task::yield_now();
        if b.go.load(SeqCst) == go::HANDED {
            break;
        }
    }
    // Wake-up proof: who hands over either finds that this thread sleeps, or this thread finds that it has been handed something,
    // which one of the two exchanges comes first.
    while b.go.swap(go::SLEEPS, SeqCst) != go::HANDED {
        let _ = time::futex_wait_shared(&b.go, go::SLEEPS, None);
    }
    b.go.store(go::AWAKE, SeqCst);
    kml::continue_handed(b)
}

/// What [`Block::go`] says.
mod go {
    pub(super) const AWAKE: u32 = 0;
    pub(super) const HANDED: u32 = 1;
    pub(super) const SLEEPS: u32 = 2;
}

/// How often a thread gives its host CPU to the one that it has handed the vCPU to, before it sleeps. The host may
/// come back to it too early once.
const YIELDS: u32 = 3;

extern "C" fn hand_over(from: &'static Block, to: &'static Block) -> ! {
    if to.go.swap(go::HANDED, SeqCst) == go::SLEEPS {
        time::futex_wake_shared(&to.go);
    }
    park(from)
}

impl KmlEngine {
    /// Goes on in thread `to`, which waits; the running thread waits from now on.
    pub(crate) fn hop(&'static self, cpu: &CpuBlock, to: &'static Thread) {
        let v = &self.vcpus[cpu.id as usize];
        let from = v.current();
        if core::ptr::eq(from, to) {
            return;
        }
        let (Some(f), Some(t)) = (from.block(), to.block()) else {
            panic!("a vCPU's thread without a block");
        };
        f.set_in_call(false);
        cpu.mode.store(mode::KERNEL, Release);
        v.set_current(cpu, to);
        // SAFETY: this is thread `from`; `to` has been set up and waits.
        unsafe { kml::hop(f, t, hand_over) };
        let deadline = cpu.deadline.load(SeqCst);
        if deadline != u64::MAX {
            to.arm(self.host_ns(deadline));
        }
        if self.options.tick_ns > 0 {
            to.arm(time::monotonic_ns() + self.options.tick_ns);
        }
    }

    /// After a crash of kernel code in a user process, on its kernel stack: goes on in the
    /// kernel process, which can report it. False: the calling thread embodies no vCPU.
    pub fn come_home(&self) -> bool {
        let cpu = hal::cpu::current_cpu();
        let v = self.vcpus.get(cpu.id as usize);
        let here = v.and_then(|v| v.try_current());
        let here = here.is_some_and(|t| t.tid.load(SeqCst) == task::gettid());
        match v.and_then(|v| v.home()).filter(|_| here) {
            Some(home) => self.forever().hop(cpu, home),
            None => return false,
        }
        true
    }

    /// The host's time of a deadline of the machine's clock.
    pub(crate) fn host_ns(&self, deadline: u64) -> u64 {
        deadline
            .saturating_add(self.clock_offset.load(Relaxed))
            .min(u64::MAX - 1)
    }
}

/// Signal context.
fn on_alarm(b: &'static Block) {
    let t = thread_of(b);
    t.armed_ns.store(u64::MAX, Relaxed);
    let engine = t.engine;
    let Some(v) = engine.vcpus.get(t.cpu as usize) else {
        return;
    };
    if !core::ptr::eq(v.current(), t) {
        return;
    }
    let block = b.cpu;
    let tick = engine.options.tick_ns;
    if tick > 0 {
        if block.mode.load(SeqCst) != mode::IDLE {
            block.pending.fetch_or(IRQ_TIMER, SeqCst);
        }
        t.arm(time::monotonic_ns() + tick);
    }
    let deadline = block.deadline.load(SeqCst);
    if deadline == u64::MAX {
        return;
    }
    if time::monotonic_ns().wrapping_sub(engine.clock_offset.load(Relaxed)) >= deadline {
        block.pending.fetch_or(IRQ_TIMER, SeqCst);
    } else {
        t.arm(engine.host_ns(deadline));
    }
}

/// Signal context: kernel code has faulted.
fn on_fault(b: &'static Block, signo: i32, addr: u64) -> Reporter {
    let t = thread_of(b);
    if signo == libc::SIGBUS && hal::mem::is_direct_map(addr as usize) {
        task::exit_group(NO_ROOM_STATUS)
    }
    // Once: what reports a fault can fault itself if the kernel's memory is damaged.
    if t.crashed.swap(true, SeqCst) {
        let _ = fd::write(2, b"lodger: kernel fault while another is reported\n");
        task::exit_group(PANIC_STATUS)
    }
    report
}

/// On the kernel stack on which the fault happened.
extern "C" fn report(b: &'static Block, signo: i32, addr: u64) -> ! {
    let engine = thread_of(b).engine;
    engine.come_home();
    (engine.options.kernel_fault)(signo, addr as usize)
}

/// Installs the handler of a vCPU's threads for `signals` in this process.
pub(crate) fn install(signals: &[i32]) -> host_sys::Result {
    for &signo in signals {
        let action = Action {
            handler: kml::on_signal as *const () as usize,
            flags: (libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART) as u64 | SA_RESTORER,
            restorer: kml::restorer() as usize,
            mask: u64::MAX,
        };
        // SAFETY: the handler does only what one may do.
        unsafe { signal::set_action(signo, &action)? };
    }
    Ok(())
}

/// All signals of a user process.
pub(crate) fn install_all() -> host_sys::Result {
    install(&HANDLED)?;
    install(&[libc::SIGALRM])
}
