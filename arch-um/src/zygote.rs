//! The first user process.
use crate::Error;

/// What the user processes are made from.
#[derive(Clone, Copy, Debug)]
pub struct ZygoteConfig {
    /// Descriptor of the memory file. Stays the caller's.
    pub mem_fd: i32,
    /// Number of vCPUs the machine will have, 1 to [`hal::cpu::MAX_CPUS`].
    pub ncpus: u32,
}

/// The ancestor of all user processes.
#[derive(Debug)]
pub struct Zygote {
    _private: (),
}

impl Zygote {
    /// Forks the zygote. This process must have one thread, which must live as
    /// long as the machine: its end ends all user processes.
    pub fn spawn(_config: &ZygoteConfig) -> Result<Zygote, Error> {
        Err(Error::ZygoteDied)
    }
}

/// Ends every user process of this process's machine at once. For every way
/// out; also in signal handlers and after a crash.
pub fn kill_all() {}
