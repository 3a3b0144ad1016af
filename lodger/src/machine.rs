//! Puts a machine together and switches to its boot stack.

use crate::cli::fail;
use crate::probe;
use arch_um::{Death, EngineOptions, HostFacts, SeccompEngine, X86_64, Zygote, ZygoteConfig};
use boot::BootParams;
use core::sync::atomic::{AtomicU64, Ordering};
use hal::Engine;
use hal::cpu::{self, CpuBlock, IRQ_DEVICE, SavedStack, StackHead};
use hal::mem::PhysMem;
use host_os::clock::{self, HostClock};
use host_os::confine::{self, Handles};
use host_os::console::HostConsole;
use host_os::dir::HostTree;
use host_os::mem::{BOOT_STACK_ADDR, CPU0_ADDR, MemFile, text};
use host_os::platform::{Devs, HostPlatform};
use host_os::shutdown::{self, Processes};

/// User processes kept ready for fork and exec.
const POOL: u32 = 4;

/// The parts that exist before the first thread is started.
pub struct Host {
    /// Ancestor of the user processes.
    pub zygote: Zygote,
    /// Memory file.
    pub memory: MemFile,
    /// Console, streams, events.
    pub devs: Devs,
    /// Host trees: the root, then the binds.
    pub trees: Vec<&'static HostTree>,
    /// Instruction set.
    pub arch: &'static X86_64,
    /// Whether host calls are to be limited.
    pub confined: bool,
    /// For tests: what to do to the host then.
    pub probe: Option<String>,
    /// For tests: time between clock interrupts, 0 = as they are due.
    pub tick_ns: u64,
}

/// Forks the ancestor of the user processes. This process has one thread.
pub fn spawn_zygote(memory: &MemFile, ncpus: u32, facts: HostFacts) -> Zygote {
    shutdown::set_processes(Processes {
        kill: arch_um::kill_all,
        stop: arch_um::stop_all,
        resume: arch_um::continue_all,
    });
    let config = ZygoteConfig {
        mem_fd: memory.fd(),
        ncpus,
        facts,
    };
    Zygote::spawn(&config).unwrap_or_else(|e| fail(&explain(&e)))
}

/// Why the engine does not start, with the host's words.
fn explain(e: &arch_um::Error) -> String {
    match e {
        arch_um::Error::Host(what, e) => format!("cannot {what}: {}", text(*e)),
        e => e.to_string(),
    }
}

/// Someone killed a user process: the machine ends whole.
fn machine_died(death: Death) {
    if shutdown::is_ending() {
        // The machine ends anyway, and took the process along.
        shutdown::end(shutdown::NOT_STARTED)
    }
    // First: nobody may be reading what is said below.
    shutdown::stop_machine();
    let Death { pid, signal } = death;
    let how = match signal {
        0 => "ended".to_string(),
        n => format!("was killed by signal {n}"),
    };
    fail(&format!(
        "process {pid} of the machine {how} from outside; the machine has ended"
    ))
}

/// What the boot stack starts with.
struct Launch {
    platform: &'static HostPlatform,
    params: BootParams,
}

/// Boots the machine on vCPU 0, embodied by this thread.
pub fn start(host: Host, params: BootParams) -> ! {
    clock::start();
    let options = EngineOptions {
        pin: true,
        pool: POOL,
        frames: host.memory.frames() as u64,
        clock: &HostClock,
        tick_ns: host.tick_ns,
        machine_died,
    };
    let handles = Handles {
        memory: host.memory.fd(),
        console: host.devs.console().map(HostConsole::descriptor),
        group: host.zygote.group(),
        writes: host.trees.iter().any(|t| t.is_writable()),
    };
    let engine = SeccompEngine::start(host.zygote, options).unwrap_or_else(|e| fail(&explain(&e)));
    let platform: &'static HostPlatform = Box::leak(Box::new(HostPlatform {
        mem: host.memory,
        devs: host.devs,
        trees: host.trees,
        engine,
        arch: host.arch,
    }));
    let cpu0 = cpu0();
    let queue = platform.devs.queue();
    queue.connect(Box::new(move || engine.interrupt(cpu0, IRQ_DEVICE)));
    if let Err(e) = platform.devs.start() {
        fail(&e.to_string());
    }
    if let Err(e) = engine.adopt_cpu(cpu0) {
        fail(&explain(&e));
    }
    if host.confined {
        confine::limit_calls(&handles).unwrap_or_else(|e| fail(&e.to_string()));
    }
    if let Some(attack) = host.probe {
        probe::run(&attack, &platform.trees);
    }
    let launch = Box::new(Launch { platform, params });
    switch_to_boot_stack(cpu0, launch)
}

/// Makes the block of vCPU 0 in its reserved frame.
fn cpu0() -> &'static CpuBlock {
    let at: *mut CpuBlock = core::ptr::with_exposed_provenance_mut(CPU0_ADDR);
    // SAFETY: a reserved frame of the memory file, mapped for ever and used for nothing else.
    unsafe {
        at.write(CpuBlock::new(0));
        &*at
    }
}

fn switch_to_boot_stack(cpu0: &'static CpuBlock, launch: Box<Launch>) -> ! {
    let base: *mut u8 = core::ptr::with_exposed_provenance_mut(BOOT_STACK_ADDR);
    let head = StackHead::new(None);
    let block = core::ptr::from_ref(cpu0).cast_mut();
    head.cpu.store(block, Ordering::Relaxed);
    let arg = Box::into_raw(launch).expose_provenance();
    let here = SavedStack(AtomicU64::new(0));
    // SAFETY: the reserved frames of the boot stack: aligned, writable, unused.
    // Nothing switches back: `here` and this stack stay untouched.
    unsafe {
        base.cast::<StackHead>().write(head);
        let first = cpu::init_stack(base, on_boot_stack, arg);
        cpu::switch_stack(&here, &first);
    }
    unreachable!("the boot stack came back")
}

extern "C" fn on_boot_stack(arg: usize) -> ! {
    // SAFETY: made from a box by `switch_to_boot_stack`, used once.
    let launch = unsafe { Box::from_raw(core::ptr::with_exposed_provenance_mut::<Launch>(arg)) };
    let Launch { platform, params } = *launch;
    boot::start(platform, params)
}
