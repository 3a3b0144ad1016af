//! The CPU and MMU: vCPU threads, traps, engines, signal frames, vDSO.
//!
//! A machine is wired together like this, in this order:
//!
//! 1. While the kernel process has one thread: [`Zygote::spawn`], with the
//!    memory file's descriptor. The calling thread is the one whose end ends
//!    all user processes, so it must live as long as the machine (the main thread).
//! 2. [`SeccompEngine::start`] makes the first user process, learns the host's
//!    signal frames from it, and starts the thread that watches for deaths.
//! 3. vCPU 0: the calling thread becomes it ([`SeccompEngine::adopt_cpu`])
//!    and then switches to the boot stack. All others: [`hal::Engine::start_cpu`].
//! 4. On every way out: [`kill_all`]. Around a stop of the machine: [`stop_all`], [`continue_all`].
//!
//! With the engine `kml` it is [`share_memory`] early, [`KmlEngine::start`] in place
//! of 1 and 2, then [`KmlEngine::start_watch`].
//!
//! Key types: [`SeccompEngine`] and [`KmlEngine`] ([`hal::Engine`]s), [`X86_64`] (the [`hal::Arch`]).
//! The functions that `hal` wants at link time (`lodger_hal_*`) are in `switch`.
//!
//! Neighbours: `kernel/hal` (the contract), `host-os/sys` (raw host calls).
//! Everything that is x86-64 is below `x86_64/`.

mod cpus;
mod engine;
mod error;
mod facts;
mod kml;
mod lock;
mod patience;
mod queue;
mod sysvec;
mod x86_64;
mod zygote;

pub use engine::{Death, EngineOptions, SeccompEngine};
pub use error::Error;
pub use facts::HostFacts;
pub use kml::{KmlEngine, NO_ROOM_STATUS, PANIC_STATUS, share_memory};
pub use x86_64::X86_64;
pub use zygote::{Zygote, ZygoteConfig, continue_all, kill_all, stop_all, wait_for_all};

/// Address and bytes of the code inside user processes, for tests that attack it.
#[doc(hidden)]
pub fn stub_code() -> (u64, &'static [u8]) {
    (x86_64::stub::CODE, x86_64::stub::code())
}

/// Addresses of a user process that belong to the engine, for tests that attack them.
pub const STUB_REGION: core::ops::Range<u64> = x86_64::stub::STUB_BASE..x86_64::stub::STUB_END;
