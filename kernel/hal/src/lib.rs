//! The contract between the generic kernel and the machine it runs on.
//!
//! The kernel (`kernel/*`) never sees the host. What it needs from a machine is
//! stated here as small traits and a few plain types; `arch-um` implements the
//! CPU and the MMU, `host-os` the devices, and `hal-fake` in the tests a machine
//! with virtual time.
//!
//! - [`cpu`]: kernel stacks, the per-vCPU block, switching stacks, interrupts.
//! - [`engine`]: running guest code in an address space, and the traps it ends in.
//! - [`arch`]: what depends on the instruction set (registers, signal frames, vDSO).
//! - [`mem`]: physical frames and the direct map of the memory file.
//! - [`dev`]: clock, entropy, consoles, host streams, host directories.
//! - [`platform`]: the bundle of all of these that a machine is started with.
#![no_std]
extern crate alloc;

pub mod arch;
pub mod cpu;
pub mod dev;
pub mod engine;
pub mod mem;
pub mod platform;

pub use arch::{Arch, UserContext, UserRegs};
pub use cpu::CpuId;
pub use engine::{After, Engine, MapOp, Mappings, Prot, Trap, UserSpace};
pub use mem::Pfn;
pub use platform::Platform;

/// First address that does not belong to guest programs, in every engine.
pub const USER_END: u64 = 0x5000_0000_0000;
/// Size of a page and of a physical frame, in bytes.
pub const PAGE_SIZE: usize = 4096;
/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
