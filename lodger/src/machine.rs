//! Puts a machine together and switches to its boot stack.

use crate::cli::fail;
use boot::BootParams;
use core::sync::atomic::{AtomicU64, Ordering};
use hal::Engine;
use hal::cpu::{self, CpuBlock, IRQ_DEVICE, SavedStack, StackHead};
use host_os::clock;
use host_os::dir::HostTree;
use host_os::mem::{BOOT_STACK_ADDR, CPU0_ADDR, MemFile};
use host_os::platform::{Devs, HostPlatform};

/// The parts that exist when the machine starts.
pub struct Host {
    /// Ancestor of the user processes.
    pub ancestor: Ancestor,
    /// Memory file.
    pub memory: MemFile,
    /// Console, streams, events.
    pub devs: Devs,
    /// Host trees: the root, then the binds.
    pub trees: Vec<&'static HostTree>,
}

/// Ancestor of the user processes.
pub struct Ancestor;

/// Forks the ancestor of the user processes. This process has one thread.
pub fn spawn_ancestor() -> Ancestor {
    Ancestor
}

fn engine(host: &Host) -> (&'static dyn Engine, &'static dyn hal::Arch) {
    let _ = (&host.ancestor, host.memory.fd(), clock::start());
    fail("the engine 'seccomp' is missing in this build")
}

/// What the boot stack starts with.
struct Launch {
    platform: &'static HostPlatform,
    params: BootParams,
}

/// Boots the machine on vCPU 0, embodied by this thread.
pub fn start(host: Host, params: BootParams) -> ! {
    let (engine, arch) = engine(&host);
    let platform: &'static HostPlatform = Box::leak(Box::new(HostPlatform {
        mem: host.memory,
        devs: host.devs,
        trees: host.trees,
        engine,
        arch,
    }));
    let cpu0 = cpu0();
    let queue = platform.devs.queue();
    queue.connect(Box::new(move || engine.interrupt(cpu0, IRQ_DEVICE)));
    if let Err(e) = platform.devs.start() {
        fail(&e.to_string());
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
