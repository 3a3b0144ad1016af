//! Puts a machine together and switches to its boot stack.

use crate::cli::EngineName;
use crate::cli::fail;
use crate::crash;
use crate::probe;
use arch_um::{
    Death, EngineOptions, HostFacts, KmlEngine, SeccompEngine, X86_64, Zygote, ZygoteConfig,
};
use boot::BootParams;
use core::sync::atomic::{AtomicU64, Ordering};
use hal::Engine;
use hal::cpu::{self, CpuBlock, IRQ_DEVICE, SavedStack, StackHead};
use hal::mem::PhysMem;
use host_os::clock::{self, HostClock};
use host_os::confine::{self, Handles};
use host_os::dir::HostTree;
use host_os::limits;
use host_os::log;
use host_os::mem::{BOOT_STACK_ADDR, CPU0_ADDR, MemFile, text};
use host_os::platform::{Devs, HostPlatform};
use host_os::shutdown::{self, Processes};
use std::sync::OnceLock;

/// User processes kept ready for fork and exec.
const POOL: u32 = 4;

/// An engine as far as it is made while there is one thread.
pub enum Beginning {
    /// The ancestor of the user processes, and what is needed from there.
    Seccomp(Zygote, EngineOptions),
    /// All but the thread that watches.
    Kml(&'static KmlEngine),
}

/// The parts that exist before the first thread is started.
pub struct Host {
    /// The engine.
    pub engine: Beginning,
    /// Memory file.
    pub memory: MemFile,
    /// Console, streams, events.
    pub devs: Devs,
    /// Host trees: the root, then the binds.
    pub trees: Vec<&'static HostTree>,
    /// Instruction set.
    pub arch: &'static X86_64,
    /// If host calls are to be limited: what they are about.
    pub confined: Option<Handles>,
    /// For tests: what to do to the host then.
    pub probe: Option<String>,
}

/// For the engine `kml`: from now on memory is such that user processes share it.
pub fn share_memory() {
    arch_um::share_memory().unwrap_or_else(|e| fail(&explain(&e)));
}

/// Forks the ancestor of the user processes. This process has one thread.
/// `rewrite`: `kml` may rewrite call sites. `tick_ns`: for tests, time between clock interrupts, 0 = as they are due.
pub fn begin_engine(
    name: EngineName,
    rewrite: bool,
    memory: &MemFile,
    ncpus: u32,
    facts: HostFacts,
    tick_ns: u64,
    confined: Option<Handles>,
) -> Beginning {
    let confine = confined.map(|h| {
        let _ = HANDLES.set(h);
        limit_user_calls as fn() -> host_sys::Result
    });
    shutdown::set_processes(Processes {
        kill: arch_um::kill_all,
        wait: arch_um::wait_for_all,
        stop: arch_um::stop_all,
        resume: arch_um::continue_all,
        kernel: host_sys::task::getpid(),
        no_room: arch_um::NO_ROOM_STATUS,
    });
    let options = EngineOptions {
        pin: true,
        pool: POOL,
        frames: memory.frames() as u64,
        clock: &HostClock,
        tick_ns,
        confine,
        machine_died,
        kernel_fault: crash::fault,
    };
    let begun = match name {
        EngineName::Seccomp => {
            let config = ZygoteConfig {
                mem_fd: memory.fd(),
                ncpus,
                facts,
            };
            Zygote::spawn(&config).map(|z| Beginning::Seccomp(z, options))
        }
        EngineName::Kml => {
            KmlEngine::start(memory.fd(), ncpus, facts, rewrite, options).map(Beginning::Kml)
        }
    };
    begun.unwrap_or_else(|e| fail(&explain(&e)))
}

/// For [`limit_user_calls`].
static HANDLES: OnceLock<Handles> = OnceLock::new();

/// In the ancestor of user processes that share the kernel's image.
fn limit_user_calls() -> host_sys::Result {
    HANDLES.get().map_or(Ok(()), confine::limit_user_calls)
}

/// Why the engine does not start, with the host's words.
fn explain(e: &arch_um::Error) -> String {
    match e {
        arch_um::Error::Host(what, e) => format!("cannot {what}: {}", text(*e)),
        e => e.to_string(),
    }
}

/// How long a machine that is killed waits for room to say so.
const LAST_WORD_MS: i32 = 50;

/// Signals that code causes, not somebody outside: user processes handle these.
const FAULTS: [i32; 5] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGSYS,
];

/// Someone killed a user process: the machine ends whole.
fn machine_died(death: Death) {
    if shutdown::is_ending() {
        // The machine ends anyway, and took the process along.
        shutdown::end(shutdown::NOT_STARTED)
    }
    // First: nobody may be reading what is said below.
    shutdown::stop_machine();
    let Death {
        pid,
        signal,
        status,
    } = death;
    match status {
        arch_um::PANIC_STATUS if signal == 0 => crash::report_elsewhere(),
        arch_um::NO_ROOM_STATUS if signal == 0 => shutdown::no_room(),
        _ => {}
    }
    if FAULTS.contains(&signal) {
        // Its code, or the way to the handler, is destroyed.
        log::plain(&format!(
            "lodger: process {pid} of the machine crashed by signal {signal}"
        ));
        crash::report_elsewhere()
    }
    // Whoever kills a part wants the whole gone soon, read or not.
    log::hurry(LAST_WORD_MS);
    let how = match signal {
        0 => "ended".to_string(),
        n => format!("was killed by signal {n}"),
    };
    fail(&format!(
        "process {pid} of the machine {how} from outside; the machine has ended"
    ))
}

/// Said of a kernel that hangs.
const NO_ANSWER: &str = "the kernel does not answer any more: a program has destroyed its memory, or this is a \
                         bug in Lodger; the machine has ended";

/// What the boot stack starts with.
struct Launch {
    platform: &'static HostPlatform,
    params: BootParams,
}

/// Boots the machine on vCPU 0, embodied by this thread.
pub fn start(host: Host, params: BootParams) -> ! {
    clock::start();
    let group = match &host.engine {
        Beginning::Seccomp(z, _) => z.group(),
        Beginning::Kml(e) => e.group(),
    };
    type Adopt = Box<dyn FnOnce(&'static CpuBlock) -> Result<(), arch_um::Error>>;
    let (engine, adopt): (&'static dyn Engine, Adopt) = match host.engine {
        Beginning::Seccomp(zygote, options) => {
            let e = SeccompEngine::start(zygote, options).unwrap_or_else(|e| fail(&explain(&e)));
            (e, Box::new(|cpu| e.adopt_cpu(cpu)))
        }
        Beginning::Kml(e) => {
            let last = shutdown::LastResort::new(group);
            e.start_watch(move || last.end(NO_ANSWER))
                .unwrap_or_else(|e| fail(&explain(&e)));
            crash::set_kml(e);
            (e, Box::new(|cpu| e.adopt_cpu(cpu)))
        }
    };
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
    if let Err(e) = adopt(cpu0) {
        fail(&explain(&e));
    }
    limits::check_descriptors(platform.mem.fd())
        .unwrap_or_else(|e| fail(&format!("cannot open files of the host: {}", text(e))));
    if let Some(h) = host.confined {
        let handles = Handles { group, ..h };
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
