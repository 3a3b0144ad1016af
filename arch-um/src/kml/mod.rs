//! The engine `kml`: the kernel mapped in every user process, so that a system
//! call is a jump. Data structures, life of a call and lock order: `docs/arch/kml.md`.
//!
//! - [`process`]: user processes and the zygote. [`space`]: the [`hal::UserSpace`].
//! - [`thread`]: host threads, handing a vCPU over, timers, signals.
//! - [`guard`]: the end of a machine whose kernel does not answer.
//! - [`run`]: running guest code. [`patch`]: rewriting its call sites, [`heat`]: what a process knows of that.

mod guard;
mod heat;
mod patch;
mod process;
mod run;
mod space;
mod thread;
mod vectors;

use crate::engine::Death;
use crate::lock::HostLock;
use crate::sysvec::{leak, leak_slice};
use crate::x86_64::{clock, fpu, kml};
use crate::{EngineOptions, Error, HostFacts, cpus, zygote};
use abi::Errno;
use core::convert::Infallible;
use core::hint::black_box;
use core::ptr;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;
use guard::Guard;
use hal::cpu::{CpuBlock, CpuId, SavedStack, mode};
use hal::{After, Engine, Trap, UserContext, UserRegs, UserSpace};
use host_sys::signal::{self, bit};
use host_sys::{arena, task, time};
use patch::Patches;
use process::{Nest, Pool, Vcpu};
use space::Space;
use std::sync::Arc;
use thread::Thread;
use vectors::Components;

/// Exit status of a user process in which kernel code crashed and that could not report it.
pub const PANIC_STATUS: i32 = 120;
/// Exit status of a user process for which the host had no room in the memory file.
pub const NO_ROOM_STATUS: i32 = 121;

/// The engine `kml`.
pub struct KmlEngine {
    options: EngineOptions,
    mem_fd: i32,
    kernel_pid: i32,
    nest: Nest,
    pool: HostLock<Pool>,
    vcpus: &'static [Vcpu],
    clock_offset: AtomicU64,
    min_addr: u64,
    map_limit: usize,
    proc_dir: i32,
    next_refresh: AtomicU64,
    components: Components,
    patches: Patches,
}

/// Makes this process's memory such that user processes share it: the heap
/// from here on, the program's variables, the words of locks. One thread, early.
pub fn share_memory() -> Result<(), Error> {
    let fail = |what| move |e| Error::Host(what, e);
    let exe = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    let exe = exe.to_string_lossy();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut ranges: Vec<(usize, usize)> = vec![];
    for line in maps.lines() {
        let mut f = line.split_ascii_whitespace();
        let (Some(range), Some(rights)) = (f.next(), f.next()) else {
            continue;
        };
        let path = f.nth(3).unwrap_or("");
        let mut ends = range.split('-').map(|n| usize::from_str_radix(n, 16));
        let (Some(Ok(from)), Some(Ok(to))) = (ends.next(), ends.next()) else {
            continue;
        };
        let follows = ranges.last().is_some_and(|r| r.1 == from);
        if rights == "rw-p" && (path == exe || path.is_empty() && follows) {
            ranges.push((from, to));
        }
    }
    if ranges.is_empty() {
        return Err(Error::Frame("the program's variables are not found"));
    }
    arena::start().map_err(fail("make the heap of the user processes"))?;
    time::share_futexes();
    patch::open_text().map_err(fail("make the file of rewritten pages"))?;
    for (from, to) in ranges {
        // SAFETY: the program's own variables; one thread, as the caller promises.
        unsafe { arena::share(from, to) }.map_err(fail("share the program's variables"))?;
    }
    Ok(())
}

impl KmlEngine {
    /// Forks the ancestor of the user processes, sharing `mem_fd`, the memory
    /// file. `rewrite`: call sites may become jumps. One thread, which lives as long as the machine; after [`share_memory`].
    pub fn start(
        mem_fd: i32,
        ncpus: u32,
        facts: HostFacts,
        rewrite: bool,
        options: EngineOptions,
    ) -> Result<&'static KmlEngine, Error> {
        crate::x86_64::string::link();
        // SAFETY: reads the auxiliary vector.
        if unsafe { libc::getauxval(libc::AT_HWCAP2) } & 2 == 0 {
            return Err(Error::NoFsgsbase);
        }
        if fpu::host().size > kml::XSAVE_LEN {
            return Err(Error::Frame("a vector state of unknown size"));
        }
        let host_cpu = cpus::choose(options.pin)?;
        let engine = leak(KmlEngine {
            options,
            mem_fd,
            kernel_pid: task::getpid(),
            nest: Nest::new(),
            pool: HostLock::new(Pool::new()),
            vcpus: leak_slice(ncpus as usize, |i| Vcpu::new(host_cpu(i))),
            clock_offset: AtomicU64::new(0),
            min_addr: facts.min_addr,
            map_limit: facts.map_limit.saturating_sub(400),
            proc_dir: facts.proc_dir,
            next_refresh: AtomicU64::new(0),
            components: Components::new(),
            patches: Patches::new(options.frames, rewrite),
        });
        engine.fork_zygote(mem_fd)?;
        Ok(engine)
    }

    /// Process group of the user processes.
    pub fn group(&self) -> i32 {
        self.nest.pid.load(SeqCst)
    }

    /// Starts the thread that watches for deaths, and one that calls `lost` when the kernel does not answer
    /// any more: it must trust no memory but its own. The machine's clock runs.
    pub fn start_watch(
        &'static self,
        lost: impl FnOnce() -> Infallible + Send + 'static,
    ) -> Result<(), Error> {
        let offset = time::monotonic_ns().wrapping_sub(self.options.clock.monotonic_ns());
        self.clock_offset.store(offset, SeqCst);
        let guard = Guard {
            vcpus: self.vcpus,
            memory: (self.options.frames as usize) << hal::PAGE_SHIFT,
            proc_dir: self.proc_dir,
        };
        start_thread("lodger-guard", move || {
            // A closure lies in the heap.
            let (guard, lost) = black_box((guard, lost));
            guard.watch();
            lost();
        })?;
        start_thread("lodger-watch", || self.watch())
    }

    /// Host CPU for vCPU `cpu`, if bound.
    pub(crate) fn host_cpu(&self, cpu: u32) -> Option<i32> {
        let v = self.vcpus.get(cpu as usize)?;
        (v.host_cpu >= 0).then_some(v.host_cpu)
    }

    /// Whether this is not the kernel process.
    pub fn in_user_process(&self) -> bool {
        task::getpid() != self.kernel_pid
    }

    /// Makes the calling thread vCPU `block.id`, before it switches to its first kernel stack.
    pub fn adopt_cpu(&'static self, block: &'static CpuBlock) -> Result<(), Error> {
        let fail = |what| move |e| Error::Host(what, e);
        let v = self
            .vcpus
            .get(block.id as usize)
            .ok_or(Error::Host("start a vCPU", host_sys::Errno::EINVAL))?;
        let t = leak(Thread::new(self, block.id));
        let no_memory = Error::Host("start a vCPU", host_sys::Errno::ENOMEM);
        let b = t.make_block(block).ok_or(no_memory)?;
        if block.id == 0 {
            // For all threads of this process.
            thread::install(&[libc::SIGALRM, libc::SIGURG])
                .map_err(fail("install a signal handler"))?;
        }
        t.settle(b)?;
        t.set_ready();
        v.start(t, block);
        if self.options.tick_ns > 0 {
            t.arm(time::monotonic_ns() + self.options.tick_ns);
        }
        signal::unblock(bit(libc::SIGALRM) | bit(libc::SIGURG));
        if block.id == 0 {
            // The first user process: its lack would be an error of the command later.
            let lacks = |what| Error::Host(what, host_sys::Errno::EAGAIN);
            let p = self.acquire().map_err(|_| lacks("make a user process"))?;
            p.thread(0).ok_or(lacks("start a user thread"))?;
            self.release(p);
        }
        Ok(())
    }

    fn forever(&self) -> &'static KmlEngine {
        let p = ptr::from_ref(self);
        // SAFETY: engines are only made by `start`, which leaks them.
        unsafe { &*p }
    }
}

/// Starts a thread of the kernel process that no signal reaches but those of its own faults, and that runs before others.
fn start_thread(name: &str, f: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    std::thread::Builder::new()
        .name(name.into())
        .stack_size(128 << 10)
        .spawn(|| {
            signal::set_mask(!zygote::FAULTS);
            task::hurry();
            f();
        })
        .map(|_| ())
        .map_err(|_| Error::Host("start the watching thread", host_sys::Errno::EAGAIN))
}

impl Engine for KmlEngine {
    fn name(&self) -> &'static str {
        "kml"
    }
    fn min_user_addr(&self) -> u64 {
        self.min_addr
    }
    fn new_space(&self) -> Result<Arc<dyn UserSpace>, Errno> {
        let engine = self.forever();
        let p = engine.acquire()?;
        let id = hal::cpu::current_cpu().id;
        if p.thread(id).is_none() {
            engine.release(p);
            return Err(Errno::EAGAIN);
        }
        Ok(Arc::new(Space::new(engine, p)))
    }
    fn run(&self, _cpu: &CpuBlock, space: &dyn UserSpace, cx: &mut UserContext) -> Trap {
        self.run_program(space, UserRegs::from_mut(cx), &mut |_| After::Look)
    }
    fn run_program(
        &self,
        space: &dyn UserSpace,
        regs: &UserRegs,
        call: &mut dyn FnMut(&UserRegs) -> After,
    ) -> Trap {
        match space.as_any().downcast_ref() {
            Some(space) => self.forever().run_guest(space, regs, call),
            None => Trap::Lost,
        }
    }
    fn sync_regs(&self, cx: &mut UserContext) {
        self.fetch_fp(cx);
    }
    fn idle(&self, cpu: &CpuBlock, deadline_ns: Option<u64>) {
        let until = deadline_ns.map(|d| self.host_ns(d));
        cpu.mode.store(mode::IDLE, SeqCst);
        while cpu.pending.load(SeqCst) == 0 && until.is_none_or(|u| time::monotonic_ns() < u) {
            let _ = time::futex_wait(&cpu.pending, 0, until);
        }
        cpu.mode.store(mode::KERNEL, SeqCst);
    }
    fn interrupt(&self, cpu: &CpuBlock, bits: u32) {
        cpu.pending.fetch_or(bits, SeqCst);
        match cpu.mode.load(SeqCst) {
            mode::USER => {
                let v = self.vcpus.get(cpu.id as usize);
                if let Some(t) = v.and_then(|v| v.try_current()) {
                    t.kick();
                }
            }
            mode::IDLE => time::futex_wake(&cpu.pending, 1),
            _ => {}
        }
    }
    fn set_timer(&self, cpu: &CpuBlock, deadline_ns: Option<u64>) {
        let deadline = deadline_ns.unwrap_or(u64::MAX);
        cpu.deadline.store(deadline, SeqCst);
        if deadline != u64::MAX
            && let Some(v) = self.vcpus.get(cpu.id as usize)
        {
            v.current().arm(self.host_ns(deadline));
        }
    }
    fn start_cpu(
        &self,
        id: CpuId,
        block: &'static CpuBlock,
        entry: SavedStack,
    ) -> Result<(), Errno> {
        let engine = self.forever();
        if id as usize >= self.vcpus.len() || block.id != id {
            return Err(Errno::EINVAL);
        }
        cpus::start(id, entry, move || engine.adopt_cpu(block).is_ok())
    }
    fn ticks(&self) -> u64 {
        clock::counter()
    }
    fn short_ticks(&self) -> u64 {
        // 10 µs on a CPU of 2 GHz.
        20_000
    }
    fn mapping_spread(&self) -> u64 {
        // 128 MiB: trampolines are reached by jumps of at most 2 GiB.
        1 << 15
    }
    fn go_home(&self) {
        let cpu = hal::cpu::current_cpu();
        let v = &self.vcpus[cpu.id as usize];
        if let Some(home) = v.home() {
            self.forever().hop(cpu, home);
        }
    }
}
