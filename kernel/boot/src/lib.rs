//! Brings a machine up: root object, file systems, first task, the CPU loop.
//!
//! - [`params`]: what the command passes in.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod params;

pub use params::{Bind, BootParams};

/// Boots the machine on the boot stack of vCPU 0 and never returns; the machine
/// ends through [`hal::Platform::power_off`].
pub fn start(platform: &'static dyn hal::Platform, params: BootParams) -> ! {
    let _ = params;
    platform.power_off(127 << 8)
}
