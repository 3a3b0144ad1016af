//! A machine for unit tests: it implements [`hal`] on plain host threads.
//!
//! - [`machine`]: the machine of this test process: memory, platform, clock.
//! - [`space`]: [`FakeSpace`] records the mapping requests and simulates the host's TLB.
//! - [`thread`]: every host thread is a kernel stack with a waiter of its own;
//!   kernel stacks in the memory file work too.
//! - [`arch`]: a made-up instruction set: registers are words of the context.
//!
//! Time is virtual: it moves when a test calls [`Machine::advance`], and jumps
//! to the deadline when a thread waits for one and nothing wakes it for a millisecond.
//!
//! A crate that uses this as a dev-dependency must name it (`use hal_fake as _;`),
//! so that the `lodger_hal_*` functions are linked. Tests of one process share the machine.

pub mod arch;
pub mod space;
pub mod thread;

use abi::Errno;
use arch::FakeArch;
use hal::cpu::{CpuBlock, SavedStack};
use hal::dev::{Clock, Console, Devices, Entropy, Event, HostDir, HostStat, StreamKind, Streams};
use hal::mem::{MEM_BASE, PhysMem};
use hal::platform::LogLevel;
use hal::{Arch, CpuId, Engine, PAGE_SIZE, Pfn, Platform, Trap, UserContext, UserSpace};
use space::FakeSpace;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, RwLock};
use std::time::Duration;

/// Frames of the machine: 256 MiB, of which only what is touched costs anything.
pub const FRAMES: usize = 1 << 16;

/// What [`Engine::run`] does.
pub type Runner = dyn Fn(&CpuBlock, &FakeSpace, &mut UserContext) -> Trap + Send + Sync;

/// The machine of this process.
pub struct Machine {
    time_ns: AtomicU64,
    wall_offset_ns: AtomicI64,
    seed: AtomicU64,
    runner: RwLock<Option<Box<Runner>>>,
    dirs: RwLock<Vec<&'static dyn HostDir>>,
    events: Mutex<Vec<Event>>,
    log: Mutex<Vec<String>>,
    discarded: AtomicUsize,
    idle: (Mutex<()>, Condvar),
}

/// The machine, made on first use.
pub fn machine() -> &'static Machine {
    static MACHINE: OnceLock<Machine> = OnceLock::new();
    MACHINE.get_or_init(|| {
        map_memory();
        Machine {
            time_ns: AtomicU64::new(1_000_000_000),
            wall_offset_ns: AtomicI64::new(1_700_000_000_000_000_000),
            seed: AtomicU64::new(0x9e37_79b9_7f4a_7c15),
            runner: RwLock::new(None),
            dirs: RwLock::new(Vec::new()),
            events: Mutex::new(Vec::new()),
            log: Mutex::new(Vec::new()),
            discarded: AtomicUsize::new(0),
            idle: (Mutex::new(()), Condvar::new()),
        }
    })
}

fn map_memory() {
    let len = FRAMES * PAGE_SIZE;
    // SAFETY: MAP_FIXED_NOREPLACE maps nothing over.
    let p = unsafe {
        libc::mmap(
            std::ptr::with_exposed_provenance_mut(MEM_BASE),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED
                | libc::MAP_ANONYMOUS
                | libc::MAP_NORESERVE
                | libc::MAP_FIXED_NOREPLACE,
            -1,
            0,
        )
    };
    assert_eq!(
        p.expose_provenance(),
        MEM_BASE,
        "no room for the memory file"
    );
}

impl Machine {
    /// Moves the clock.
    pub fn advance(&self, ns: u64) {
        self.time_ns.fetch_add(ns, Ordering::SeqCst);
        thread::nudge();
        self.idle.1.notify_all();
    }
    /// Moves the clock to `ns` if it is not there yet.
    pub fn advance_to(&self, ns: u64) {
        self.time_ns.fetch_max(ns, Ordering::SeqCst);
    }
    /// Monotonic time in nanoseconds.
    pub fn now(&self) -> u64 {
        self.time_ns.load(Ordering::SeqCst)
    }
    /// Sets what guest code does when it is run.
    pub fn set_runner(&self, f: Box<Runner>) {
        *self.runner.write().unwrap() = Some(f);
    }
    /// Sets the host directories.
    pub fn set_host_dirs(&self, dirs: Vec<&'static dyn HostDir>) {
        *self.dirs.write().unwrap() = dirs;
    }
    /// Queues a device event. The test raises the interrupt.
    pub fn push_event(&self, e: Event) {
        self.events.lock().unwrap().push(e);
    }
    /// Takes the lines logged so far.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }
    /// Frames given back to the host so far.
    pub fn discarded(&self) -> usize {
        self.discarded.load(Ordering::Relaxed)
    }
}

impl PhysMem for Machine {
    fn frames(&self) -> usize {
        FRAMES
    }
    fn reserved_frames(&self) -> usize {
        1
    }
    fn discard(&self, first: Pfn, n: usize) {
        assert!(first.0 as usize + n <= FRAMES);
        self.discarded.fetch_add(n, Ordering::Relaxed);
        // SAFETY: the caller gives the contents up.
        let r = unsafe { libc::madvise(first.as_ptr().cast(), n * PAGE_SIZE, libc::MADV_REMOVE) };
        assert_eq!(r, 0, "madvise: {}", std::io::Error::last_os_error());
    }
}

impl Clock for Machine {
    fn monotonic_ns(&self) -> u64 {
        self.now()
    }
    fn realtime_ns(&self) -> u64 {
        self.now()
            .wrapping_add_signed(self.wall_offset_ns.load(Ordering::Relaxed))
    }
    fn adjust_realtime(&self, delta_ns: i64) {
        self.wall_offset_ns.fetch_add(delta_ns, Ordering::Relaxed);
    }
}

impl Entropy for Machine {
    fn fill(&self, buf: &mut [u8]) {
        for b in buf {
            let mut x = self.seed.load(Ordering::Relaxed);
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            self.seed.store(x, Ordering::Relaxed);
            *b = (x >> 32) as u8;
        }
    }
}

impl Streams for Machine {
    fn kind(&self, _i: u32) -> StreamKind {
        StreamKind::None
    }
    fn stat(&self, _i: u32) -> Result<HostStat, Errno> {
        Err(Errno::EBADF)
    }
    fn access(&self, _i: u32) -> (bool, bool, bool) {
        (false, false, false)
    }
    fn read(&self, _i: u32, _buf: &mut [u8], _offset: Option<u64>) -> Result<usize, Errno> {
        Err(Errno::EBADF)
    }
    fn write(&self, _i: u32, _buf: &[u8], _offset: Option<u64>) -> Result<usize, Errno> {
        Err(Errno::EBADF)
    }
    fn ready(&self, _i: u32) -> (bool, bool, bool) {
        (false, false, false)
    }
    fn watch(&self, _i: u32, _read: bool, _write: bool) {}
    fn seek(&self, _i: u32, _offset: i64, _whence: u32) -> Result<u64, Errno> {
        Err(Errno::EBADF)
    }
}

impl Devices for Machine {
    fn take_events(&self, out: &mut Vec<Event>) {
        out.append(&mut self.events.lock().unwrap());
    }
}

impl Engine for Machine {
    fn name(&self) -> &'static str {
        "fake"
    }
    fn new_space(&self) -> Result<Arc<dyn UserSpace>, Errno> {
        Ok(Arc::new(FakeSpace::new()))
    }
    fn run(&self, cpu: &CpuBlock, space: &dyn UserSpace, cx: &mut UserContext) -> Trap {
        if cpu.pending.load(Ordering::SeqCst) != 0 {
            return Trap::Interrupt;
        }
        let space = space
            .as_any()
            .downcast_ref::<FakeSpace>()
            .expect("a space of this engine");
        match &*self.runner.read().unwrap() {
            Some(f) => f(cpu, space, cx),
            None => Trap::Lost,
        }
    }
    fn sync_regs(&self, _cx: &mut UserContext) {}
    fn idle(&self, cpu: &CpuBlock, deadline_ns: Option<u64>) {
        let mut g = self.idle.0.lock().unwrap();
        while cpu.pending.load(Ordering::SeqCst) == 0 && deadline_ns.is_none_or(|d| self.now() < d)
        {
            let (h, t) = self
                .idle
                .1
                .wait_timeout(g, Duration::from_millis(1))
                .unwrap();
            g = h;
            if t.timed_out()
                && let Some(d) = deadline_ns
            {
                self.advance_to(d);
            }
        }
    }
    fn interrupt(&self, cpu: &CpuBlock, bits: u32) {
        cpu.pending.fetch_or(bits, Ordering::SeqCst);
        let _g = self.idle.0.lock().unwrap();
        self.idle.1.notify_all();
    }
    fn set_timer(&self, cpu: &CpuBlock, deadline_ns: Option<u64>) {
        cpu.deadline
            .store(deadline_ns.unwrap_or(u64::MAX), Ordering::SeqCst);
    }
    fn start_cpu(
        &self,
        _id: CpuId,
        _block: &'static CpuBlock,
        entry: SavedStack,
    ) -> Result<(), Errno> {
        std::thread::Builder::new()
            .spawn(move || {
                let back = SavedStack(AtomicU64::new(0));
                // SAFETY: the caller prepared the stack for this CPU.
                unsafe { hal::cpu::switch_stack(&back, &entry) };
            })
            .map_err(|_| Errno::EAGAIN)?;
        Ok(())
    }
}

impl Platform for Machine {
    fn mem(&self) -> &dyn PhysMem {
        self
    }
    fn engine(&self) -> &dyn Engine {
        self
    }
    fn arch(&self) -> &'static dyn Arch {
        &FakeArch
    }
    fn clock(&self) -> &'static dyn Clock {
        machine()
    }
    fn entropy(&self) -> &dyn Entropy {
        self
    }
    fn console(&self) -> Option<&'static dyn Console> {
        None
    }
    fn streams(&self) -> &'static dyn Streams {
        machine()
    }
    fn devices(&self) -> &dyn Devices {
        self
    }
    fn host_dir(&self, i: u32) -> Option<&'static dyn HostDir> {
        self.dirs.read().unwrap().get(i as usize).copied()
    }
    fn log(&self, _level: LogLevel, line: &str) {
        self.log.lock().unwrap().push(line.to_string());
    }
    fn strace(&self, line: &str) {
        self.log.lock().unwrap().push(line.to_string());
    }
    fn power_off(&self, wait_status: i32) -> ! {
        panic!("the machine powered off with status {wait_status:#x}")
    }
}
