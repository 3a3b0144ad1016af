//! The engine `seccomp`: guest code in processes of its own.
//!
//! - [`mapper`]: lists of host calls for a process's mapper thread.
//! - [`shared`]: the memory behind the stubs. [`tlb`]: what a process has mapped.
//! - [`process`]: one user process. [`space`]: the [`hal::UserSpace`] that owns it.
//! - [`pool`]: making processes, keeping some ready, watching for their end.
//! - [`run`]: running guest code. [`watchdog`]: threads that do not answer a kick.
//! - [`vcpu`]: the host threads that embody vCPUs, their signals, timers, sleep.
//!
//! The protection argument is in `x86_64/stub.rs`. Lock order: pool, then a
//! process's map lock, then a queue's; a process's pid lock is innermost.

pub(crate) mod mapper;
mod pool;
pub(crate) mod process;
mod run;
pub(crate) mod shared;
mod space;
pub(crate) mod tlb;
mod vcpu;
pub(crate) mod watchdog;

use crate::lock::HostLock;
use crate::sysvec::{SysVec, leak, leak_slice};
use crate::x86_64::frame::HostFrame;
use crate::x86_64::{fpu, stub};
use crate::{Error, Zygote, cpus, zygote};
use abi::Errno;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use hal::cpu::{CpuBlock, CpuId, SavedStack};
use hal::{Engine, Trap, UserContext, UserSpace};
use host_sys::{task, time};
use pool::Pool;
use process::Process;
use shared::StubFile;
use space::Space;
use std::sync::{Arc, OnceLock};
use vcpu::Vcpu;

/// A user process that ended and that nobody in the machine had ended.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    /// Its host process id.
    pub pid: i32,
    /// The signal that ended it, 0 if it exited.
    pub signal: i32,
    /// Its exit status.
    pub status: i32,
}

/// Settings of the engine.
#[derive(Clone, Copy)]
pub struct EngineOptions {
    /// Bind each vCPU and its user threads to one host CPU.
    pub pin: bool,
    /// User processes kept ready.
    pub pool: u32,
    /// Size of the memory file in frames.
    pub frames: u64,
    /// The machine's clock; a constant offset from the host's `CLOCK_MONOTONIC`.
    pub clock: &'static dyn hal::dev::Clock,
    /// For tests: a clock interrupt at least this often on a vCPU that is not
    /// idle, whether one is due or not. 0 = only when due.
    pub tick_ns: u64,
    /// Called in the ancestor of user processes that share the kernel's image, before it
    /// makes any: limits what the kernel can do in them.
    pub confine: Option<fn() -> host_sys::Result>,
    /// Called by the watching thread when the machine is broken beyond repair:
    /// a user process was killed from outside. Must end this process.
    pub machine_died: fn(Death),
    /// Called where kernel code has faulted in a user process that shares the kernel's image:
    /// signal and address. Runs in the kernel process if that can be. Must end the machine.
    pub kernel_fault: fn(i32, usize) -> !,
}

/// The engine `seccomp`.
pub struct SeccompEngine {
    options: EngineOptions,
    file: &'static StubFile,
    kernel_pid: i32,
    zygote_pid: i32,
    zygote_dead: AtomicBool,
    pool: HostLock<Pool>,
    /// Slots that have been used and are free.
    free: HostLock<SysVec<&'static Process>>,
    /// Processes by slot.
    processes: &'static [AtomicPtr<Process>],
    /// Process that the zygote is making.
    starting: AtomicPtr<Process>,
    frame: OnceLock<HostFrame>,
    vcpus: &'static [Vcpu],
    /// The host's monotonic clock minus the machine's.
    clock_offset: u64,
    /// Lowest address that can be mapped.
    min_addr: u64,
    /// Frames of the memory file.
    frames: u64,
    /// Mappings of a process at which everything is dropped.
    map_limit: usize,
    /// `/proc` of the host, -1 if there is none.
    proc_dir: i32,
    /// When the vDSO's clock should be looked after, in TSC ticks.
    next_refresh: AtomicU64,
}

impl SeccompEngine {
    /// Makes the first user process, learns the host's signal frames from it,
    /// starts the watching thread.
    pub fn start(zygote: Zygote, options: EngineOptions) -> Result<&'static SeccompEngine, Error> {
        let (file, facts) = (zygote.file, zygote.facts);
        let host_cpu = cpus::choose(options.pin)?;
        let engine = leak(SeccompEngine {
            options,
            file,
            kernel_pid: task::getpid(),
            zygote_pid: zygote.pid,
            zygote_dead: AtomicBool::new(false),
            pool: HostLock::new(Pool::new(zygote)),
            free: HostLock::new(SysVec::new()),
            processes: leak_slice(shared::SLOTS as usize, |_| AtomicPtr::new(ptr::null_mut())),
            starting: AtomicPtr::new(ptr::null_mut()),
            frame: OnceLock::new(),
            vcpus: leak_slice(file.ncpus as usize, |i| {
                Vcpu::new(host_cpu(i), options.tick_ns)
            }),
            clock_offset: time::monotonic_ns().wrapping_sub(options.clock.monotonic_ns()),
            min_addr: facts.min_addr,
            frames: options.frames,
            map_limit: facts.map_limit,
            proc_dir: facts.proc_dir,
            next_refresh: AtomicU64::new(0),
        });
        std::thread::Builder::new()
            .name("lodger-watch".into())
            .stack_size(128 << 10)
            .spawn(|| {
                // Reports of its own faults excepted.
                host_sys::signal::set_mask(!zygote::FAULTS);
                // The machine must not run on for long when a part of it is dead.
                task::hurry();
                engine.watch();
            })
            .map_err(|_| Error::Host("start the watching thread", host_sys::Errno::EAGAIN))?;

        let p = engine
            .acquire(0)
            .map_err(|_| Error::Host("make a user process", host_sys::Errno::EAGAIN))?;
        if p.make_stub(0, engine.host_cpu(0)).is_err() {
            return Err(match p.dead.load(Ordering::SeqCst) {
                true => Error::Host("start a user thread", host_sys::Errno::EPERM),
                false => Error::Host("start a user thread", host_sys::Errno::EAGAIN),
            });
        }
        let frame = HostFrame::learn(p.area(0), stub::area(0))?;
        fpu::set_host(frame.xstate);
        let _ = engine.frame.set(frame);
        p.wipe(&mut p.map.lock(), engine.frame());
        engine.release(p);
        Ok(engine)
    }

    /// Where the host leaves registers.
    fn frame(&self) -> &HostFrame {
        self.frame.get().expect("the engine has started")
    }
}

/// An engine that lives for ever: what [`SeccompEngine::start`] returns.
impl SeccompEngine {
    fn forever(&self) -> &'static SeccompEngine {
        let p = ptr::from_ref(self);
        // SAFETY: engines are only made by `start`, which leaks them.
        unsafe { &*p }
    }
}

impl Engine for SeccompEngine {
    fn name(&self) -> &'static str {
        "seccomp"
    }
    fn min_user_addr(&self) -> u64 {
        self.min_addr
    }
    fn new_space(&self) -> Result<Arc<dyn UserSpace>, Errno> {
        let engine = self.forever();
        let cpu = engine.this_cpu();
        let p = engine.acquire(cpu)?;
        // The thread that will be needed first: now its lack is an error, later it
        // would be the guest process's end.
        let ready = p.stubs.get(cpu as usize).is_some_and(|s| s.is_ready());
        if !ready && p.make_stub(cpu, engine.host_cpu(cpu)).is_err() {
            p.kill();
            engine.let_go(p);
            return Err(Errno::EAGAIN);
        }
        Ok(Arc::new(Space::new(engine, p)))
    }
    fn run(&self, cpu: &CpuBlock, space: &dyn UserSpace, cx: &mut UserContext) -> Trap {
        self.forever().run_guest(cpu, space, cx)
    }
    fn keeps_fp(&self) -> bool {
        true
    }
    fn sync_regs(&self, cx: &mut UserContext) {
        self.fetch_fp(cx);
    }
    fn idle(&self, cpu: &CpuBlock, deadline_ns: Option<u64>) {
        self.sleep_idle(cpu, deadline_ns);
    }
    fn interrupt(&self, cpu: &CpuBlock, bits: u32) {
        self.raise(cpu, bits);
    }
    fn set_timer(&self, cpu: &CpuBlock, deadline_ns: Option<u64>) {
        self.program_timer(cpu, deadline_ns);
    }
    fn start_cpu(
        &self,
        id: CpuId,
        block: &'static CpuBlock,
        entry: SavedStack,
    ) -> Result<(), Errno> {
        self.forever().spawn_cpu(id, block, entry)
    }
}
