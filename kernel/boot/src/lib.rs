//! Brings a machine up: root object, file systems, first task, the CPU loop.
//!
//! - [`params`]: what the command passes in.
//! - `mounts`: the tree. `first`: pid 1 and the command.
//!
//! Order: memory and heap; the root object and the subsystems' own
//! roots; the root file system; then the vCPUs and pid 1; everything that may
//! sleep happens in tasks: mounts in pid 1's, streams and exec in the command's.
//!
//! This is the only kernel crate that names all others.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

mod first;
mod mounts;
pub mod params;

pub use params::{Bind, BootParams};

use alloc::sync::Arc;
use hal::platform::{LogLevel, Platform};
use task::kernel::{KernelParams, VdsoFrames};
use task::{Ctx, Kernel};
use vfs::FileType;
use vfs::file::{Caller, FileOps, OpenFlags};
use vfs::inode::InodeRef;

/// Wait status of a machine that could not be brought up: exit code 125.
const FAILED: i32 = 125 << 8;

/// Boots the machine on the boot stack of vCPU 0 and never returns; the machine
/// ends through [`hal::Platform::power_off`].
pub fn start(platform: &'static dyn Platform, params: BootParams) -> ! {
    if let Err(e) = task::start::init_memory(platform) {
        // Nothing can be allocated, not even a text.
        let _ = e;
        platform.log(LogLevel::Error, "not enough memory to boot");
        platform.power_off(FAILED);
    }
    let kernel_params = KernelParams {
        ncpus: params.ncpus,
        cmdline: params.cmdline.clone(),
        strace: params.strace,
        log_level: params.log_level,
    };
    let kernel = Kernel::new(platform, kernel_params, &params.hostname);
    kernel.set_dispatch(kernel_syscall::DISPATCH);
    kernel.set_process_exit(kernel_syscall::sysv::process_exit);
    set_roots(kernel);
    register_devices(kernel);
    if let Err(why) = make_vdso(kernel) {
        platform.log(LogLevel::Error, why);
        platform.power_off(FAILED);
    }
    let ns = match mounts::root(kernel) {
        Ok(ns) => ns,
        Err(e) => {
            let text = alloc::format!("cannot mount {}: {}", e.what, e.errno);
            platform.log(LogLevel::Error, &text);
            platform.power_off(FAILED);
        }
    };
    kernel.set_mounts(ns);
    match task::start::run(kernel, move || first::init(params)) {
        Ok(never) => match never {},
        Err(e) => {
            let text = alloc::format!("cannot start the first process: {e}");
            platform.log(LogLevel::Error, &text);
            platform.power_off(FAILED)
        }
    }
}

/// Root objects of the layers above `task`.
fn set_roots(kernel: &'static Kernel) {
    let ipc = ipc::Ipc::new(kernel.platform, &kernel.timers, kernel.anon.clone());
    ipc.set_current_signals(|| Ctx::current().signals());
    let net = net::NetNs::new(kernel.platform, kernel.anon.clone());
    let _ = kernel.slots.ipc.set(ipc);
    let _ = kernel.slots.net.set(net);
    let _ = kernel
        .slots
        .procfs
        .set(Arc::new(procfs::TtyInfo(tty::session_info)));
    tty::init(kernel);
}

fn register_devices(kernel: &'static Kernel) {
    let platform = kernel.platform;
    let open_mem = move |dev: u64,
                         _: &InodeRef,
                         _: OpenFlags,
                         _: &dyn Caller|
          -> abi::Result<Arc<dyn FileOps>> {
        devfs::mem::open(platform, abi::stat::minor(dev))
    };
    kernel
        .devices
        .register("mem", FileType::Char, 1, 0..=u32::MAX, Arc::new(open_mem));
    kernel.devices.set_fifo_open(ipc::pipe::open_fifo);
}

/// Puts the vDSO and its data into frames that all programs map.
fn make_vdso(kernel: &'static Kernel) -> Result<(), &'static str> {
    const NO_MEMORY: &str = "not enough memory to boot";
    let arch = kernel.platform.arch();
    if arch.vdso().is_empty() {
        return Ok(());
    }
    let (vvar, vvar_pages) = mm::frame::alloc_filled(arch.vvar()).ok_or(NO_MEMORY)?;
    let (image, image_pages) = mm::frame::alloc_filled(arch.vdso()).ok_or(NO_MEMORY)?;
    arch.set_vvar_page(vvar);
    arch.update_vvar(kernel.platform.clock());
    kernel.set_vdso(VdsoFrames {
        vvar,
        vvar_pages,
        image,
        image_pages,
        restorer: None,
    });
    Ok(())
}
