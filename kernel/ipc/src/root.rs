//! [`Ipc`]: what the communication of a machine has in common.

use crate::sysv::SysV;
use crate::timerfd::TimerState;
use abi::Result;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::AtomicUsize;
use hal::Platform;
use sync::timer::TimerQueue;
use sync::{Mutex, Once, SpinLock, level};
use vfs::anon::AnonRoot;
use vfs::file::{Caller, SignalSource};
use vfs::{File, FileOps, OpenFlags};

/// Gives the pending signals of the calling task.
pub type CurrentSignals = fn() -> Option<Arc<dyn SignalSource>>;

/// Root object of this layer; one a machine.
pub struct Ipc {
    pub(crate) this: Weak<Ipc>,
    pub(crate) platform: &'static dyn Platform,
    pub(crate) timers: &'static TimerQueue,
    /// Anonymous inodes.
    pub anon: Arc<AnonRoot>,
    /// Held while the structure of nested epolls changes.
    pub(crate) nest: Mutex<()>,
    /// Interests of all epolls.
    pub(crate) watches: AtomicUsize,
    /// Armed timers that follow the real-time clock.
    pub(crate) realtime: SpinLock<Vec<Weak<TimerState>>, { level::IPC }>,
    current_signals: Once<CurrentSignals>,
    /// System V objects.
    pub sysv: SysV,
}

impl Ipc {
    /// Nothing exists yet.
    pub fn new(
        platform: &'static dyn Platform,
        timers: &'static TimerQueue,
        anon: Arc<AnonRoot>,
    ) -> Arc<Ipc> {
        Arc::new_cyclic(|this| Ipc {
            this: this.clone(),
            platform,
            timers,
            anon,
            nest: Mutex::new(()),
            watches: AtomicUsize::new(0),
            realtime: SpinLock::new(Vec::new()),
            current_signals: Once::new(),
            sysv: SysV::default(),
        })
    }
    /// Tells how to find the signals of the calling task (poll of a signalfd has no other way). Once, at boot.
    pub fn set_current_signals(&self, f: CurrentSignals) {
        let _ = self.current_signals.set(f);
    }
    pub(crate) fn current_signals(&self) -> Option<Arc<dyn SignalSource>> {
        self.current_signals.get().and_then(|f| f())
    }
    /// An open description of `ops` with an anonymous inode. `flags`: access mode and O_NONBLOCK.
    pub(crate) fn anon_file(
        &self,
        cx: &dyn Caller,
        ops: Arc<dyn FileOps>,
        flags: OpenFlags,
    ) -> Result<Arc<File>> {
        let inode = self.anon.anon_inode(cx);
        Ok(File::new(ops, inode, None, flags, cx.cred()))
    }
}
