//! x86-64.
//!
//! - [`stub`]: the code inside user processes, and why guests cannot abuse it.
//!   [`filter`]: its seccomp filters. [`frame`]: the host's signal frames.
//! - [`switch`]: kernel stacks and the interruptible sleep.
//! - [`arch`]: [`hal::Arch`]. [`regs`]: words of a [`hal::UserContext`].
//!   [`fpu`]: vector state. [`signal`]: the guest's signal frames. [`cpuid`].
//! - [`kml`]: entry, exit and signals of the engine `kml`. [`patch`]: its trampolines.
//!   [`string`]: memory functions that leave a guest's vector state alone.
//! - [`vdso`]: the object that programs read the clock with, [`clock`]: its data.

mod arch;
pub(crate) mod clock;
pub(crate) mod cpuid;
pub(crate) mod filter;
pub(crate) mod fpu;
pub(crate) mod frame;
pub(crate) mod kml;
pub(crate) mod patch;
pub(crate) mod regs;
mod signal;
pub(crate) mod string;
pub(crate) mod stub;
pub(crate) mod switch;
mod vdso;

pub use arch::X86_64;
