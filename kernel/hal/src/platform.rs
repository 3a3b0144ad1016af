//! The bundle of services a machine is started with.

use crate::dev::{Clock, Console, Devices, Entropy, HostDir, Streams};
use crate::mem::PhysMem;
use crate::{Arch, Engine};

/// Severity of a log line, as in syslog(2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[expect(missing_docs)]
pub enum LogLevel {
    Error = 3,
    Warn = 4,
    Info = 6,
    Debug = 7,
}

/// Everything the kernel may ask of its machine.
pub trait Platform: Send + Sync {
    /// Physical memory.
    fn mem(&self) -> &dyn PhysMem;
    /// CPU and MMU.
    fn engine(&self) -> &dyn Engine;
    /// Instruction set.
    fn arch(&self) -> &'static dyn Arch;
    /// Time.
    fn clock(&self) -> &'static dyn Clock;
    /// Random numbers.
    fn entropy(&self) -> &dyn Entropy;
    /// The host terminal, if any of the streams is one.
    fn console(&self) -> Option<&'static dyn Console>;
    /// Standard streams.
    fn streams(&self) -> &'static dyn Streams;
    /// Device events.
    fn devices(&self) -> &dyn Devices;
    /// Host directory tree number `i` of the configuration (0 = root, then the binds in order).
    fn host_dir(&self, i: u32) -> Option<&'static dyn HostDir>;
    /// One line to the machine's log on the host.
    fn log(&self, level: LogLevel, line: &str);
    /// One line of `--strace` output.
    fn strace(&self, line: &str);
    /// Ends the machine: all its host processes, then this one. Wait status as of wait(2): `code << 8` or signal.
    fn power_off(&self, wait_status: i32) -> !;
}
