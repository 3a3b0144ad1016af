//! x86-64.
//!
//! - [`stub`]: the code inside user processes, and why guests cannot abuse it.
//!   [`filter`]: its seccomp filters. [`frame`]: the host's signal frames.
//! - [`switch`]: kernel stacks and the interruptible sleep.
//! - [`regs`]: words of a [`hal::UserContext`]. [`fpu`]: vector state. [`cpuid`].
//! - [`clock`]: the clock in the vvar page.

pub(crate) mod clock;
pub(crate) mod cpuid;
pub(crate) mod filter;
pub(crate) mod fpu;
pub(crate) mod frame;
pub(crate) mod regs;
pub(crate) mod stub;
pub(crate) mod switch;

/// The instruction set. Implements [`hal::Arch`].
pub struct X86_64 {
    _private: (),
}

impl X86_64 {
    /// Looks at this host's CPU. Lives as long as the process.
    pub fn detect() -> &'static X86_64 {
        clock::detect();
        Box::leak(Box::new(X86_64 { _private: () }))
    }
}
