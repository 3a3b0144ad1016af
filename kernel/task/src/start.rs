//! Bringing the vCPUs up: memory, idle tasks, the first process.
//!
//! Boot runs on a stack without a task. It sets up memory ([`init_memory`]),
//! makes the root object, and calls [`run()`], which makes an idle task for each
//! vCPU and the first process, and becomes the idle task of vCPU 0.
#![expect(unsafe_code)]

use crate::clone::{kernel_process, kernel_task};
use crate::process::{Process, Session};
use crate::sched::stack::no_stack;
use crate::signal::SigHand;
use crate::{Kernel, Task, exec, oom, run, sched};
use abi::Result;
use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use hal::Platform;
use hal::cpu::{self, CpuBlock, SavedStack};
use vfs::{FdTable, FsContext};

/// Sets up physical memory and the heap; before anything allocates.
pub fn init_memory(platform: &'static dyn Platform) -> Result {
    // SAFETY: boot calls this once, first of all; the memory file is fresh.
    unsafe { mm::frame::init(platform) }
}

/// Starts the vCPUs and the first process (pid 1), which runs `first`; never returns.
pub fn run(
    kernel: &'static Kernel,
    first: impl FnOnce() + Send + Sync + 'static,
) -> Result<core::convert::Infallible> {
    mm::frame::set_oom_handler(oom::kill_something);
    mm::frame::set_shrinker(oom::shrink_caches);
    let boot_block = boot_block();
    let idle0 = idle_task(kernel, boot_block)?;
    let init = kernel_process(kernel, b"init", None, None, first)?;
    init.sched.affinity.store(u64::MAX, Ordering::Relaxed);
    sched::start(&init);
    drop(init);
    idle0.stack.set_cpu(boot_block);
    let here = no_stack();
    let there = core::ptr::from_ref(&idle0.saved_sp);
    drop(idle0);
    // SAFETY: the run queue keeps the idle task for ever; its stack was prepared
    // and runs nowhere. Nobody returns to the boot stack.
    unsafe { cpu::switch_stack(&here, &*there) };
    unreachable!("the boot stack ran again")
}

/// Starts the other vCPUs. Called by the first process.
pub fn start_cpus(kernel: &'static Kernel) {
    for id in 1..kernel.ncpus() {
        let block: &'static CpuBlock = Box::leak(Box::new(CpuBlock::new(id)));
        let started = idle_task(kernel, block).and_then(|idle| {
            let entry = SavedStack(idle.saved_sp.0.load(Ordering::Relaxed).into());
            kernel.platform.engine().start_cpu(id, block, entry)
        });
        if let Err(e) = started {
            kernel.log(
                hal::platform::LogLevel::Error,
                format!("vCPU {id} cannot be started: {e}"),
            );
            return;
        }
        kernel.sched.set_online(id);
    }
}

/// Block of the vCPU that boots.
fn boot_block() -> &'static CpuBlock {
    let p = cpu::current_stack().cpu.load(Ordering::Relaxed);
    if p.is_null() {
        return Box::leak(Box::new(CpuBlock::new(0)));
    }
    cpu::current_cpu()
}

fn idle_task(kernel: &'static Kernel, block: &'static CpuBlock) -> Result<Arc<Task>> {
    let stack = kernel.sched.stacks.alloc()?;
    let process = Process::new(kernel, 0, Session::new(0), 0, SigHand::new(), None);
    let name = format!("swapper/{}", block.id);
    let t = kernel_task(kernel, process, 0, name.as_bytes(), None, None, stack);
    t.sched.affinity.store(1 << block.id, Ordering::Relaxed);
    let sp = t.stack.prepare(&t, run::idle_entry);
    t.saved_sp
        .0
        .store(sp.0.load(Ordering::Relaxed), Ordering::Relaxed);
    t.stack.set_cpu(block);
    kernel.sched.add_cpu(block, t.clone());
    Ok(t)
}

/// What the command of a machine is started with.
pub struct FirstProgram {
    /// Program and arguments; `argv[0]` is looked up in PATH if it has no slash. Not empty.
    pub argv: Vec<Vec<u8>>,
    /// Environment.
    pub envp: Vec<Vec<u8>>,
    /// Credentials.
    pub cred: Arc<vfs::Cred>,
    /// Root, working directory, umask.
    pub fs: Arc<FsContext>,
    /// Descriptors 0 to 2.
    pub files: Arc<FdTable>,
    /// Called in the new process before it becomes the program (controlling
    /// terminal). False: it has ended the process instead.
    pub setup: Box<dyn FnOnce(&crate::Ctx) -> bool + Send + Sync>,
}

/// Starts a thread of the kernel as a process of its own (a child of pid 1).
pub fn spawn_kernel(
    kernel: &'static Kernel,
    name: &[u8],
    f: impl FnOnce() + Send + Sync + 'static,
) -> Result<i32> {
    let t = kernel_process(kernel, name, None, None, f)?;
    sched::start(&t);
    Ok(t.tid())
}

/// Starts the machine's command as a child of pid 1, leader of its own session;
/// returns its pid. When exec fails the process ends with 127 (not found) or 126.
pub fn spawn_first(kernel: &'static Kernel, program: FirstProgram) -> Result<i32> {
    let FirstProgram {
        argv,
        envp,
        cred,
        fs,
        files,
        setup,
    } = program;
    let body = move || {
        let cx = crate::Ctx::current();
        if setup(&cx) {
            exec::first::run(&cx, argv, envp);
        }
    };
    let t = kernel_process(kernel, b"lodger", Some(fs), Some(files), body)?;
    t.set_cred(cred);
    t.blocked.store(0, Ordering::Release);
    let pid = t.tid();
    kernel.main_pid.store(pid, Ordering::Release);
    sched::start(&t);
    Ok(pid)
}
