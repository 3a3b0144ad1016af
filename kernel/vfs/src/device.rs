//! Devices that files stand for: [`DeviceTable`], by major and minor number.
//!
//! One table a machine, reached through [`Caller::devices`]. Drivers register
//! at boot, one row each; opening a device node asks the row's driver for the
//! [`FileOps`]. The table also knows how fifos are opened and what time it is,
//! for file systems that mount(2) makes.

use crate::file::{Caller, FileOps, OpenFlags};
use crate::inode::{FileType, InodeRef};
use abi::stat::{major, minor};
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicU32, Ordering};
use hal::dev::Clock;
use sync::{Once, SpinLock, level};

/// Lower minors of major 0 are given to the machine's own file systems by number.
const FIRST_ANON_MINOR: u32 = 40;

/// A driver: makes the behaviour of an open device.
pub trait Driver: Send + Sync {
    /// Opens device `dev` (Linux's user-space encoding) through the node `inode`.
    fn open(
        &self,
        dev: u64,
        inode: &InodeRef,
        flags: OpenFlags,
        cx: &dyn Caller,
    ) -> Result<Arc<dyn FileOps>>;
}

impl<F> Driver for F
where
    F: Fn(u64, &InodeRef, OpenFlags, &dyn Caller) -> Result<Arc<dyn FileOps>> + Send + Sync,
{
    fn open(
        &self,
        dev: u64,
        inode: &InodeRef,
        flags: OpenFlags,
        cx: &dyn Caller,
    ) -> Result<Arc<dyn FileOps>> {
        self(dev, inode, flags, cx)
    }
}

/// How the ipc layer opens fifos. May wait for the other end.
pub type FifoOpen = fn(&InodeRef, OpenFlags, &dyn Caller) -> Result<Arc<dyn FileOps>>;

#[derive(Clone)]
struct Row {
    name: &'static str,
    kind: FileType,
    major: u32,
    minors: RangeInclusive<u32>,
    driver: Arc<dyn Driver>,
}

/// The drivers of a machine.
pub struct DeviceTable {
    clock: &'static dyn Clock,
    rows: SpinLock<Vec<Row>, { level::IPC }>,
    fifo: Once<FifoOpen>,
    anon: AtomicU32,
    /// How large the pipes of a user may be.
    pub pipes: crate::users::PipeLimits,
}

impl DeviceTable {
    /// No drivers yet.
    pub fn new(clock: &'static dyn Clock) -> DeviceTable {
        DeviceTable {
            clock,
            rows: SpinLock::new(Vec::new()),
            fifo: Once::new(),
            anon: AtomicU32::new(FIRST_ANON_MINOR),
            pipes: Default::default(),
        }
    }
    /// The machine's clock.
    pub fn clock(&self) -> &'static dyn Clock {
        self.clock
    }
    /// A device number (`st_dev`) for a file system without a device, never given before.
    pub fn next_anon_dev(&self) -> u64 {
        abi::stat::makedev(0, self.anon.fetch_add(1, Ordering::Relaxed))
    }
    /// Adds a row: `kind` is `Char` or `Block`. A later row wins over an earlier one.
    pub fn register(
        &self,
        name: &'static str,
        kind: FileType,
        major: u32,
        minors: RangeInclusive<u32>,
        driver: Arc<dyn Driver>,
    ) {
        let row = Row {
            name,
            kind,
            major,
            minors,
            driver,
        };
        let mut rows = self.rows.lock();
        rows.push(row);
    }
    /// Sets how fifos are opened; once, at boot.
    pub fn set_fifo_open(&self, open: FifoOpen) {
        let _ = self.fifo.set(open);
    }
    /// Opens a device node. [`Errno::ENXIO`]: no driver.
    pub fn open(
        &self,
        kind: FileType,
        dev: u64,
        inode: &InodeRef,
        flags: OpenFlags,
        cx: &dyn Caller,
    ) -> Result<Arc<dyn FileOps>> {
        let driver = {
            let rows = self.rows.lock();
            rows.iter()
                .rev()
                .find(|r| r.kind == kind && r.major == major(dev) && r.minors.contains(&minor(dev)))
                .map(|r| r.driver.clone())
        };
        driver.ok_or(Errno::ENXIO)?.open(dev, inode, flags, cx)
    }
    /// Opens a fifo. [`Errno::ENXIO`]: nobody can.
    pub fn open_fifo(
        &self,
        inode: &InodeRef,
        flags: OpenFlags,
        cx: &dyn Caller,
    ) -> Result<Arc<dyn FileOps>> {
        let open = *self.fifo.get().ok_or(Errno::ENXIO)?;
        open(inode, flags, cx)
    }
    /// Rows for /proc/devices: name, whether it is a block device, major number.
    pub fn rows(&self) -> Vec<(&'static str, bool, u32)> {
        let rows = self.rows.lock();
        rows.iter()
            .map(|r| (r.name, r.kind == FileType::Block, r.major))
            .collect()
    }
}
