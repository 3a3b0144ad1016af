//! The engine `seccomp`.
use crate::{Error, Zygote};
use abi::Errno;
use hal::cpu::{CpuBlock, CpuId, SavedStack};
use hal::{Engine, Trap, UserContext, UserSpace};
use std::sync::Arc;

/// A user process that ended and that nobody in the machine had ended.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    /// Its host process id.
    pub pid: i32,
    /// The signal that ended it, 0 if it exited.
    pub signal: i32,
}

/// Settings of the engine.
#[derive(Clone, Copy)]
pub struct EngineOptions {
    /// Bind each vCPU and its user threads to one host CPU.
    pub pin: bool,
    /// User processes kept ready.
    pub pool: u32,
    /// The machine's clock; a constant offset from the host's `CLOCK_MONOTONIC`.
    pub clock: &'static dyn hal::dev::Clock,
    /// Called by the watching thread when the machine is broken beyond repair:
    /// a user process was killed from outside. Must end this process.
    pub machine_died: fn(Death),
}

/// The engine `seccomp`.
pub struct SeccompEngine {
    _private: (),
}

impl SeccompEngine {
    /// Starts the engine.
    pub fn start(
        _zygote: Zygote,
        _options: EngineOptions,
    ) -> Result<&'static SeccompEngine, Error> {
        Err(Error::ZygoteDied)
    }
    /// Makes the calling thread vCPU `block.id` (0), before it switches to the boot stack.
    pub fn adopt_cpu(&'static self, _block: &'static CpuBlock) -> Result<(), Error> {
        Err(Error::ZygoteDied)
    }
}

impl Engine for SeccompEngine {
    fn name(&self) -> &'static str {
        "seccomp"
    }
    fn new_space(&self) -> Result<Arc<dyn UserSpace>, Errno> {
        Err(Errno::EAGAIN)
    }
    fn run(&self, _cpu: &CpuBlock, _space: &dyn UserSpace, _cx: &mut UserContext) -> Trap {
        Trap::Lost
    }
    fn sync_fp(&self, _cx: &mut UserContext) {}
    fn idle(&self, _cpu: &CpuBlock, _deadline_ns: Option<u64>) {}
    fn interrupt(&self, _cpu: &CpuBlock, _bits: u32) {}
    fn set_timer(&self, _cpu: &CpuBlock, _deadline_ns: Option<u64>) {}
    fn start_cpu(&self, _id: CpuId, _b: &'static CpuBlock, _e: SavedStack) -> Result<(), Errno> {
        Err(Errno::EAGAIN)
    }
}
