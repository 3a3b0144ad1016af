//! What a machine is started with: the command line of `lodger run` in the kernel's terms.

use alloc::string::String;
use alloc::vec::Vec;

/// A tree of the host shown inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Index for [`hal::Platform::host_dir`] (0 is the root; binds start at 1).
    pub host_dir: u32,
    /// Absolute path in the guest at which it appears.
    pub guest: Vec<u8>,
    /// Mounted read-only.
    pub read_only: bool,
}

/// Parameters of a boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootParams {
    /// The first program and its arguments; `argv[0]` is looked up in `PATH` if it has no slash. Not empty.
    pub argv: Vec<Vec<u8>>,
    /// Its environment, `NAME=value`.
    pub envp: Vec<Vec<u8>>,
    /// Its working directory in the guest.
    pub cwd: Vec<u8>,
    /// A missing working directory ends the machine; else the command starts in `/`.
    pub cwd_required: bool,
    /// User of the first program.
    pub uid: u32,
    /// Group of the first program.
    pub gid: u32,
    /// Supplementary groups of the first program.
    pub groups: Vec<u32>,
    /// umask(2) of the first program.
    pub umask: u32,
    /// Host name.
    pub hostname: Vec<u8>,
    /// Number of vCPUs, 1 to [`hal::cpu::MAX_CPUS`].
    pub ncpus: u32,
    /// Print every system call of the guest.
    pub strace: bool,
    /// Least severe kernel message that reaches the host's log.
    pub log_level: hal::platform::LogLevel,
    /// Host trees to mount besides the root.
    pub binds: Vec<Bind>,
    /// The words of `/proc/cmdline`.
    pub cmdline: String,
}
