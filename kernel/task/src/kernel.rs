//! [`Kernel`]: the root object of a machine. Everything is reachable from it.

use crate::level;
use crate::pid::PidTable;
use crate::process::Process;
use crate::sched::Scheduler;
use crate::{futex::FutexTable, run::Dispatch};
use abi::SigInfo;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use hal::Pfn;
use hal::dev::Event;
use hal::platform::{LogLevel, Platform};
use sync::timer::TimerQueue;
use sync::{Once, SpinLock};
use vfs::anon::AnonRoot;
use vfs::device::DeviceTable;
use vfs::mount::{FsType, MountNs};

/// Parameters of the boot that outlive it.
#[derive(Clone, Debug)]
pub struct KernelParams {
    /// Number of vCPUs.
    pub ncpus: u32,
    /// Text of `/proc/cmdline`, without newline.
    pub cmdline: String,
    /// Print system calls.
    pub strace: bool,
    /// Least severe message that reaches the host's log.
    pub log_level: LogLevel,
}

/// Names of uname(2), at most 64 bytes each.
#[derive(Clone, Debug)]
#[expect(missing_docs)]
pub struct UtsNames {
    pub sysname: String,
    pub nodename: Vec<u8>,
    pub release: String,
    pub version: String,
    pub machine: String,
    pub domainname: Vec<u8>,
}

/// Pages of the vDSO and its data, made at boot.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs)]
pub struct VdsoFrames {
    pub vvar: Pfn,
    pub vvar_pages: u64,
    pub image: Pfn,
    pub image_pages: u64,
    /// Offset of the signal restorer in the image, if any.
    pub restorer: Option<u64>,
}

/// Values of /proc/sys that programs may change.
#[expect(missing_docs)]
pub struct Sysctl {
    pub pid_max: AtomicI32,
    pub threads_max: AtomicU32,
    /// `fs.file-max`.
    pub file_max: AtomicU64,
    /// `fs.nr_open`.
    pub nr_open: AtomicU64,
    /// `vm.overcommit_memory`.
    pub overcommit: AtomicU32,
    /// `kernel.randomize_va_space`.
    pub randomize_va_space: AtomicU32,
    /// `kernel.core_pattern`.
    pub core_pattern: SpinLock<Vec<u8>, { level::LEAF }>,
    /// `fs.suid_dumpable`.
    pub suid_dumpable: AtomicU32,
    /// `kernel.sysrq`, `kernel.printk` and others that only remember.
    pub other: SpinLock<alloc::collections::BTreeMap<&'static str, Vec<u8>>, { level::LEAF }>,
}

/// Counters for /proc/stat.
#[derive(Default)]
#[expect(missing_docs)]
pub struct Counters {
    pub forks: AtomicU64,
    pub context_switches: AtomicU64,
    pub interrupts: AtomicU64,
}

/// Time of one vCPU by kind, in nanoseconds, for /proc/stat.
#[derive(Clone, Copy, Default, Debug)]
#[expect(missing_docs)]
pub struct CpuTimes {
    pub user: u64,
    pub nice: u64,
    pub system: u64,
    pub idle: u64,
}

/// Takes device events. Registered by the layer that owns terminals and streams.
pub trait DeviceHandler: Send + Sync {
    /// One event, on some vCPU, in the context of whatever task runs there, no
    /// lock held. May take locks of level [`sync::level::IPC`] and inner; must not sleep.
    fn event(&self, event: Event);
}

/// Called when the leader of a session ends, with no lock held; may sleep. The tty layer hangs the
/// terminal up: SIGHUP and SIGCONT to the foreground group, and the terminal is free again.
pub type SessionExit = fn(&Arc<crate::Session>);

/// Called when the last thread of a process ends, with no lock held; may sleep.
pub type ProcessExit = fn(&crate::Process);

/// A place for state of a layer above, set once at boot.
pub type Slot = Once<Arc<dyn Any + Send + Sync>>;

/// Slots for the layers above this one.
#[derive(Default)]
#[expect(missing_docs)]
pub struct Slots {
    pub net: Slot,
    pub tty: Slot,
    pub ipc: Slot,
    pub procfs: Slot,
    pub devfs: Slot,
    pub syscall: Slot,
    pub inotify: Slot,
}

/// One machine. Made once at boot, lives as long as the machine; from a task: [`crate::Task::kernel`].
pub struct Kernel {
    /// The machine's services.
    pub platform: &'static dyn Platform,
    /// Boot parameters.
    pub params: KernelParams,
    /// Who exists.
    pub pids: PidTable,
    /// Run queues.
    pub sched: Scheduler,
    /// Timers on the monotonic clock.
    pub timers: TimerQueue,
    /// Futex buckets.
    pub futexes: FutexTable,
    /// Drivers of device nodes.
    pub devices: DeviceTable,
    /// Anonymous inodes.
    pub anon: Arc<AnonRoot>,
    /// Names of uname(2).
    pub uts: SpinLock<UtsNames, { level::LEAF }>,
    /// Values of /proc/sys.
    pub sysctl: Sysctl,
    /// Counters.
    pub counters: Counters,
    /// Queued signals and timers of each user (RLIMIT_SIGPENDING).
    pub queued_signals: vfs::users::PerUser,
    /// State of other layers.
    pub slots: Slots,
    /// Run length of the load averages, fixed point with 11 bits as in getloadavg.
    pub(crate) load: SpinLock<crate::sched::LoadAvg, { level::LEAF }>,
    pub(crate) mounts: Once<Arc<MountNs>>,
    pub(crate) fs_types: Once<Vec<FsType>>,
    pub(crate) dispatch: Once<Dispatch>,
    pub(crate) device_handler: Once<Arc<dyn DeviceHandler>>,
    pub(crate) vdso: Once<VdsoFrames>,
    pub(crate) session_exit: Once<SessionExit>,
    pub(crate) process_exit: Once<ProcessExit>,
    /// Process whose end ends the machine (the command); 0 = none yet.
    pub main_pid: AtomicI32,
    /// The OOM killer has said that it finds nobody to kill, since the last time it did.
    pub(crate) oom_helpless: AtomicBool,
    pub(crate) sigio: crate::sigio::Pending,
    /// `CLOCK_REALTIME` at boot, in ns since 1970.
    pub boot_realtime_ns: u64,
    log: SpinLock<LogRing, { level::LEAF }>,
}

/// The kernel's message buffer, for syslog(2) and /dev/kmsg.
#[derive(Default)]
struct LogRing {
    lines: alloc::collections::VecDeque<LogLine>,
    next_seq: u64,
}

/// One line of the message buffer.
#[derive(Clone, Debug)]
#[expect(missing_docs)]
pub struct LogLine {
    pub seq: u64,
    pub level: LogLevel,
    pub time_ns: u64,
    pub text: String,
}

/// Lines kept in the message buffer.
const LOG_LINES: usize = 512;

impl Kernel {
    /// The root object of a fresh machine. The vCPUs' blocks are made here too.
    pub fn new(
        platform: &'static dyn Platform,
        params: KernelParams,
        hostname: &[u8],
    ) -> &'static Kernel {
        let clock = platform.clock();
        let machine = String::from(platform.arch().machine());
        let now_mono = clock.monotonic_ns();
        let kernel = Kernel {
            platform,
            pids: PidTable::new(),
            sched: Scheduler::new(params.ncpus),
            timers: TimerQueue::new(platform),
            futexes: FutexTable::new(),
            devices: DeviceTable::new(clock),
            anon: AnonRoot::new(),
            uts: SpinLock::new(UtsNames {
                sysname: String::from("Linux"),
                nodename: hostname.iter().copied().take(64).collect(),
                release: String::from("6.12.0-lodger"),
                version: String::from("#1 SMP PREEMPT_DYNAMIC"),
                machine,
                domainname: b"(none)".to_vec(),
            }),
            sysctl: Sysctl {
                pid_max: AtomicI32::new(32768),
                threads_max: AtomicU32::new(16384),
                file_max: AtomicU64::new(i64::MAX as u64),
                nr_open: AtomicU64::new(1 << 20),
                overcommit: AtomicU32::new(0),
                randomize_va_space: AtomicU32::new(2),
                core_pattern: SpinLock::new(b"core".to_vec()),
                suid_dumpable: AtomicU32::new(0),
                other: SpinLock::new(Default::default()),
            },
            counters: Counters::default(),
            queued_signals: Default::default(),
            slots: Slots::default(),
            load: SpinLock::new(Default::default()),
            mounts: Once::new(),
            fs_types: Once::new(),
            dispatch: Once::new(),
            device_handler: Once::new(),
            vdso: Once::new(),
            session_exit: Once::new(),
            process_exit: Once::new(),
            main_pid: AtomicI32::new(0),
            oom_helpless: AtomicBool::new(false),
            sigio: SpinLock::new(Vec::new()),
            boot_realtime_ns: clock.realtime_ns().saturating_sub(now_mono),
            log: SpinLock::new(LogRing::default()),
            params,
        };
        Box::leak(Box::new(kernel))
    }
    /// The machine's mounts (there is one mount namespace).
    ///
    /// # Panics
    /// Before boot has mounted the root.
    pub fn mounts(&self) -> &Arc<MountNs> {
        match self.mounts.get() {
            Some(m) => m,
            None => panic!("no root file system yet"),
        }
    }
    /// Sets the mounts; once, at boot.
    pub fn set_mounts(&self, ns: Arc<MountNs>) {
        let _ = self.mounts.set(ns);
    }
    /// Table of file-system types, for mount(2) and /proc/filesystems.
    pub fn fs_types(&self) -> &[FsType] {
        self.fs_types.get().map_or(&[], |v| v)
    }
    /// Sets the table; once, at boot.
    pub fn set_fs_types(&self, types: Vec<FsType>) {
        let _ = self.fs_types.set(types);
    }
    /// Sets the functions of the syscall layer; once, at boot.
    pub fn set_dispatch(&self, d: Dispatch) {
        let _ = self.dispatch.set(d);
    }
    /// Sets who gets device events; once, at boot.
    pub fn set_device_handler(&self, h: Arc<dyn DeviceHandler>) {
        let _ = self.device_handler.set(h);
    }
    /// Sets what happens when the leader of a session ends; once, at boot.
    pub fn set_session_exit(&self, f: SessionExit) {
        let _ = self.session_exit.set(f);
    }
    /// Sets what else happens when a process has ended; once, at boot.
    pub fn set_process_exit(&self, f: ProcessExit) {
        let _ = self.process_exit.set(f);
    }
    /// Sets the pages of the vDSO; once, at boot.
    pub fn set_vdso(&self, v: VdsoFrames) {
        let _ = self.vdso.set(v);
    }
    /// The pages of the vDSO.
    pub fn vdso(&self) -> Option<VdsoFrames> {
        self.vdso.get().copied()
    }
    /// Monotonic clock, ns.
    pub fn now(&self) -> u64 {
        self.platform.clock().monotonic_ns()
    }
    /// `CLOCK_REALTIME`, ns since 1970.
    pub fn realtime(&self) -> u64 {
        self.platform.clock().realtime_ns()
    }
    /// One line for the message buffer and, if severe enough, the host's log.
    pub fn log(&self, level: LogLevel, text: String) {
        if level <= self.params.log_level {
            self.platform.log(level, &text);
        }
        let time_ns = self.now();
        let old;
        {
            let mut ring = self.log.lock();
            let seq = ring.next_seq;
            ring.next_seq += 1;
            ring.lines.push_back(LogLine {
                seq,
                level,
                time_ns,
                text,
            });
            old = (ring.lines.len() > LOG_LINES).then(|| ring.lines.pop_front());
        }
        drop(old);
    }
    /// Lines of the message buffer from sequence number `from` on, at most `max`.
    pub fn log_lines(&self, from: u64, max: usize) -> Vec<LogLine> {
        let ring = self.log.lock();
        ring.lines
            .iter()
            .filter(|l| l.seq >= from)
            .take(max)
            .cloned()
            .collect()
    }
    /// Load averages over 1, 5 and 15 minutes, fixed point with `1 << 16` = 1.0 (as in sysinfo(2)).
    pub fn load_average(&self) -> [u64; 3] {
        self.load.lock().values()
    }
    /// Times of vCPU `cpu`, for /proc/stat.
    pub fn cpu_times(&self, cpu: u32) -> CpuTimes {
        self.sched.cpu_times(self, cpu)
    }
    /// Number of vCPUs.
    pub fn ncpus(&self) -> u32 {
        self.params.ncpus
    }
    /// Sends a signal from the kernel to the foreground of nothing in particular:
    /// the machine's main program (the host asked it to end).
    pub fn signal_main(&self, info: SigInfo) {
        let pid = self.main_pid.load(Ordering::Acquire);
        if let Some(p) = self.pids.process(pid) {
            crate::signal::send_process(&p, info);
        }
    }
    /// The process that adopts orphans (pid 1).
    pub fn init(&self) -> Option<Arc<Process>> {
        self.pids.process(1)
    }
}
