//! A kernel of a few lines: memory, one or more vCPUs, a way to run code.

use arch_um::{Death, EngineOptions, HostFacts, SeccompEngine, Zygote, ZygoteConfig};
use hal::cpu::{CpuBlock, KSTACK_SIZE, SavedStack, StackHead, init_stack};
use hal::dev::Clock;
use hal::engine::MapOp;
use hal::{Engine, Pfn, Prot, Trap, UserContext, UserSpace};
use host_sys::{fd, mem, time};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

// Words of a context.
pub const RDI: usize = 0;
pub const RSI: usize = 1;
pub const RDX: usize = 2;
pub const R8: usize = 4;
pub const NUMBER: usize = hal::arch::NUMBER;
pub const RAX: usize = hal::arch::RESULT;
pub const RIP: usize = 8;
pub const RCX: usize = 9;
pub const R11: usize = 11;
pub const RSP: usize = 12;
pub const RBX: usize = 14;
/// All registers that code may load with anything.
pub const GENERAL: [usize; 15] = [
    RDI, RSI, RDX, 3, R8, 5, RAX, RCX, R11, 13, RBX, 15, 16, 17, 18,
];
pub const FS_BASE: usize = 21;
pub const GS_BASE: usize = 22;

pub const RX: Prot = Prot::READ.union(Prot::EXEC);
pub const RW: Prot = Prot::READ.union(Prot::WRITE);
/// Where code and data of the tests lie.
pub const TEXT: u64 = 0x10_0000;
pub const DATA: u64 = 0x20_0000;

const FRAMES: u64 = 16 << 10;

struct HostClock {
    start: AtomicU64,
}

impl Clock for HostClock {
    fn monotonic_ns(&self) -> u64 {
        time::monotonic_ns() - self.start.load(Ordering::Relaxed)
    }
    fn realtime_ns(&self) -> u64 {
        time::clock_ns(libc::CLOCK_REALTIME)
    }
    fn adjust_realtime(&self, _: i64) {}
}

static CLOCK: HostClock = HostClock {
    start: AtomicU64::new(0),
};

/// Signal of the death that ended the machine, -1 before.
pub static DIED: AtomicI32 = AtomicI32::new(-1);

fn died(d: Death) {
    DIED.store(d.signal, Ordering::SeqCst);
}

pub struct Machine {
    pub engine: &'static SeccompEngine,
    pub cpus: Vec<&'static CpuBlock>,
    next_frame: AtomicU32,
}

impl Machine {
    pub fn new(ncpus: u32) -> &'static Machine {
        CLOCK.start.store(time::monotonic_ns(), Ordering::Relaxed);
        let mem_fd = fd::memfd_create(c"guest", 1).unwrap();
        fd::ftruncate(mem_fd, FRAMES << 12).unwrap();
        // SAFETY: nothing else is at the direct map's address.
        unsafe {
            let flags = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE;
            let len = (FRAMES << 12) as usize;
            mem::mmap(hal::mem::MEM_BASE, len, 3, flags, mem_fd, 0).unwrap();
        }
        let zygote = Zygote::spawn(&ZygoteConfig {
            mem_fd,
            ncpus,
            facts: HostFacts::read(),
        })
        .unwrap_or_else(|e| panic!("{e}"));
        let options = EngineOptions {
            pin: std::env::var_os("NOPIN").is_none(),
            pool: 2,
            tick_ns: 0,
            frames: FRAMES,
            clock: &CLOCK,
            confine: None,
            machine_died: died,
            kernel_fault: |signo, addr| panic!("fault {signo} at {addr:#x}"),
        };
        let engine = SeccompEngine::start(zygote, options).unwrap_or_else(|e| panic!("{e}"));
        let cpus = (0..ncpus)
            .map(|i| &*Box::leak(Box::new(CpuBlock::new(i))))
            .collect();
        let m = Box::leak(Box::new(Machine {
            engine,
            cpus,
            next_frame: AtomicU32::new(64),
        }));
        engine.adopt_cpu(m.cpus[0]).unwrap();
        m
    }

    /// `n` zeroed frames.
    pub fn frames(&self, n: u32) -> Pfn {
        let first = self.next_frame.fetch_add(n, Ordering::Relaxed);
        assert!(u64::from(first + n) <= FRAMES);
        Pfn(first)
    }

    pub fn space(&self) -> Arc<dyn UserSpace> {
        self.engine.new_space().unwrap()
    }

    /// A space with `code` at [`TEXT`] and four pages at [`DATA`], whose frame is returned.
    pub fn program(&self, code: &[u8]) -> (Arc<dyn UserSpace>, UserContext, Pfn) {
        let space = self.space();
        let text = self.frames(1);
        write(text, 0, code);
        let data = self.frames(4);
        map(&*space, TEXT, 1, text, RX);
        map(&*space, DATA, 4, data, RW);
        let mut cx = UserContext::new();
        cx.gp[RIP] = TEXT;
        cx.gp[RSP] = DATA + 0x4000;
        (space, cx, data)
    }

    pub fn run(&self, space: &Arc<dyn UserSpace>, cx: &mut UserContext) -> Trap {
        self.run_on(0, space, cx)
    }

    pub fn run_on(&self, cpu: usize, space: &Arc<dyn UserSpace>, cx: &mut UserContext) -> Trap {
        self.engine.run(self.cpus[cpu], &**space, cx)
    }

    /// Starts vCPU `id` with `body` on a kernel stack.
    pub fn start(&'static self, id: u32, body: impl FnOnce() + Send + 'static) {
        let pages = (KSTACK_SIZE >> 12) as u32;
        let first = self.frames(2 * pages).0.next_multiple_of(pages);
        let base = Pfn(first).as_ptr();
        let arg: Box<Box<dyn FnOnce() + Send>> = Box::new(Box::new(body));
        let block = self.cpus[id as usize];
        // SAFETY: aligned frames of its own.
        let entry: SavedStack = unsafe {
            let head = StackHead::new(None);
            head.cpu
                .store(std::ptr::from_ref(block).cast_mut(), Ordering::Relaxed);
            base.cast::<StackHead>().write(head);
            init_stack(base, first_steps, Box::into_raw(arg).expose_provenance())
        };
        self.engine.start_cpu(id, block, entry).unwrap();
    }

    pub fn clock(&self) -> &'static dyn Clock {
        &CLOCK
    }

    pub fn now(&self) -> u64 {
        CLOCK.monotonic_ns()
    }
}

extern "C" fn first_steps(arg: usize) -> ! {
    // SAFETY: made from a box by `start`.
    let body: Box<Box<dyn FnOnce() + Send>> =
        unsafe { Box::from_raw(std::ptr::with_exposed_provenance_mut(arg)) };
    body();
    loop {
        time::sleep_ns(1_000_000_000);
    }
}

pub fn map(space: &dyn UserSpace, addr: u64, pages: u64, pfn: Pfn, prot: Prot) {
    space.queue(&[MapOp::Map {
        addr,
        len: pages << 12,
        pfn,
        prot,
        populate: false,
    }]);
}

pub fn write(pfn: Pfn, offset: usize, bytes: &[u8]) {
    assert!(offset + bytes.len() <= 1 << 14);
    // SAFETY: frames that the tests have reserved.
    unsafe {
        let to = pfn.as_ptr().add(offset);
        to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
    }
}

pub fn word(pfn: Pfn, offset: usize) -> &'static AtomicU64 {
    // SAFETY: as above, aligned.
    unsafe { AtomicU64::from_ptr(pfn.as_ptr().add(offset).cast()) }
}
