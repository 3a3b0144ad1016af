//! [`Terminals`]: the terminals of a machine.

use crate::console;
use crate::devpts::DevPts;
use crate::pty::{MAX_PTYS, MasterFile, PTS_MAJOR, Pty};
use crate::stream::Stream;
use crate::tty::Tty;
use abi::stat::{makedev, minor};
use abi::{Errno, Result, SigInfo};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use hal::dev::Event;
use sync::{Once, SpinLock, level};
use task::kernel::DeviceHandler;
use task::{Ctx, Kernel, Process};
use vfs::anon::AnonFs;
use vfs::cred::cap;
use vfs::file::Caller;
use vfs::{FileOps, FileType, InodeRef, OpenFlags};

/// Root object of this layer; one a machine, in [`task::kernel::Slots::tty`].
pub struct Terminals {
    pub(crate) kernel: &'static Kernel,
    console: Once<Arc<Tty>>,
    ptys: SpinLock<BTreeMap<u32, Arc<Pty>>, { level::IPC }>,
    /// /dev/pts.
    pub devpts: Arc<DevPts>,
    pub(crate) streams: Vec<Arc<Stream>>,
    pub(crate) stream_fs: Arc<AnonFs>,
}

impl Terminals {
    /// The terminals of a machine: the console if the host has one. `dev`: `st_dev` of devpts.
    pub fn new(kernel: &'static Kernel, dev: u64) -> Arc<Terminals> {
        let host = kernel.platform.streams();
        let root = Arc::new(Terminals {
            kernel,
            console: Once::new(),
            ptys: SpinLock::new(BTreeMap::new()),
            devpts: DevPts::new(dev, kernel.realtime() as i64),
            streams: (0..3).map(|i| Stream::new(i, host)).collect(),
            stream_fs: AnonFs::new("hostio", 0x484f_5354, makedev(0, 12)),
        });
        if let Some(t) = console::new(&root) {
            let _ = root.console.set(t);
        }
        root
    }
    /// As [`Terminals::new`], and makes them known: kernel slot, drivers, device events. At boot.
    pub fn install(kernel: &'static Kernel, dev: u64) -> Arc<Terminals> {
        let root = Terminals::new(kernel, dev);
        let any: Arc<dyn Any + Send + Sync> = root.clone();
        let _ = kernel.slots.tty.set(any);
        kernel.set_device_handler(root.clone());
        kernel.set_session_exit(crate::job::session_exit);
        root.register();
        root
    }
    /// The terminals of `kernel`, after [`Terminals::install`].
    pub fn of(kernel: &Kernel) -> Option<Arc<Terminals>> {
        kernel.slots.tty.get()?.clone().downcast().ok()
    }
    /// The host terminal.
    pub fn console(&self) -> Option<&Arc<Tty>> {
        self.console.get()
    }
    /// Whether the machine was started with the host terminal as stream `i`.
    pub(crate) fn is_terminal(&self, i: usize) -> bool {
        let host = self.kernel.platform.streams();
        self.console().is_some() && host.kind(i as u32) == hal::dev::StreamKind::Terminal
    }
    /// Makes the console the controlling terminal of the first program, its group in the foreground.
    pub fn adopt_console(&self, p: &Process) {
        if let Some(t) = self.console() {
            t.take_control(p);
        }
    }

    fn register(self: &Arc<Self>) {
        type Open = fn(&Arc<Terminals>, u64, OpenFlags, &dyn Caller) -> Result<Arc<dyn FileOps>>;
        let rows: [(&'static str, u32, u32, u32, Open); 5] = [
            ("/dev/tty", 5, 0, 0, open_current),
            ("/dev/console", 5, 1, 1, open_console),
            ("/dev/ptmx", 5, 2, 2, open_ptmx),
            ("/dev/tty1", 4, 1, 1, open_console),
            ("pts", PTS_MAJOR, 0, MAX_PTYS - 1, open_slave),
        ];
        for (name, major, first, last, open) in rows {
            let root = self.clone();
            let driver = move |dev: u64, _: &InodeRef, flags: OpenFlags, cx: &dyn Caller| {
                open(&root, dev, flags, cx)
            };
            let table = &self.kernel.devices;
            table.register(name, FileType::Char, major, first..=last, Arc::new(driver));
        }
    }

    pub(crate) fn new_pty(&self) -> Result<Arc<Pty>> {
        loop {
            let index = {
                let ptys = self.ptys.lock();
                (0..MAX_PTYS).find(|i| !ptys.contains_key(i))
            };
            let index = index.ok_or(Errno::ENOSPC)?;
            let pty = Pty::new(self, index);
            let mut ptys = self.ptys.lock();
            if let alloc::collections::btree_map::Entry::Vacant(v) = ptys.entry(index) {
                v.insert(pty.clone());
                return Ok(pty);
            }
        }
    }
    pub(crate) fn remove_pty(&self, index: u32) {
        self.devpts.remove(index);
        let gone = self.ptys.lock().remove(&index);
        drop(gone);
    }
    /// The pair of slave `index`.
    pub fn pty(&self, index: u32) -> Option<Arc<Pty>> {
        self.ptys.lock().get(&index).cloned()
    }
}

/// Opens `tty` as open(2) does: TIOCEXCL, the controlling terminal.
fn open_tty(
    tty: &Arc<Tty>,
    file: Arc<crate::tty::TtyFile>,
    flags: OpenFlags,
    cx: &dyn Caller,
    may_control: bool,
) -> Result<Arc<dyn FileOps>> {
    let exclusive = tty.state.lock().exclusive;
    if exclusive && !cx.cred().capable(cap::SYS_ADMIN) {
        return Err(Errno::EBUSY);
    }
    if may_control && !flags.contains(OpenFlags::NOCTTY) {
        tty.take_if_free(cx);
    }
    Ok(file)
}

/// /dev/tty: the controlling terminal of the caller.
fn open_current(
    _root: &Arc<Terminals>,
    _dev: u64,
    flags: OpenFlags,
    cx: &dyn Caller,
) -> Result<Arc<dyn FileOps>> {
    let ctx = Ctx::from_caller(cx).ok_or(Errno::ENXIO)?;
    let tty = crate::job::tty_of_process(ctx.process()).ok_or(Errno::ENXIO)?;
    let file = tty.open();
    open_tty(&tty, file, flags, cx, false)
}

fn open_console(
    root: &Arc<Terminals>,
    dev: u64,
    flags: OpenFlags,
    cx: &dyn Caller,
) -> Result<Arc<dyn FileOps>> {
    let tty = root.console().ok_or(Errno::ENODEV)?;
    let file = tty.open();
    // /dev/console never becomes a controlling terminal by being opened.
    open_tty(tty, file, flags, cx, dev != makedev(5, 1))
}

fn open_ptmx(
    root: &Arc<Terminals>,
    _dev: u64,
    _flags: OpenFlags,
    cx: &dyn Caller,
) -> Result<Arc<dyn FileOps>> {
    Ok(MasterFile::open(root, &root.devpts, cx)?)
}

fn open_slave(
    root: &Arc<Terminals>,
    dev: u64,
    flags: OpenFlags,
    cx: &dyn Caller,
) -> Result<Arc<dyn FileOps>> {
    let pty = root.pty(minor(dev)).ok_or(Errno::EIO)?;
    let file = pty.open_slave()?;
    open_tty(pty.slave(), file, flags, cx, true)
}

impl DeviceHandler for Terminals {
    fn event(&self, event: Event) {
        match event {
            Event::Stream(i) => {
                if let Some(s) = self.streams.get(i as usize) {
                    s.event();
                }
            }
            Event::HostSignal(signo) => self
                .kernel
                .signal_main(SigInfo::new(signo, crate::tty::SI_KERNEL)),
            e => {
                if let Some(t) = self.console() {
                    t.line.device_event(t, e);
                }
            }
        }
    }
}
