//! Running guest code in an address space, and the traps it ends in.

use crate::arch::{UserContext, UserRegs};
use crate::cpu::{self, CpuBlock, CpuId};
use crate::mem::Pfn;
use abi::Errno;
use alloc::sync::{Arc, Weak};

bitflags::bitflags! {
    /// Access rights of a mapping; same bits as `PROT_*` of mmap(2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
    pub struct Prot: u32 {
        /// Readable.
        const READ = 1;
        /// Writable.
        const WRITE = 2;
        /// Executable.
        const EXEC = 4;
    }
}

/// One change to the host's mappings of a user process. Addresses and lengths
/// are multiples of the page size and below [`crate::USER_END`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapOp {
    /// Map `len` bytes at `addr` to the contiguous frames from `pfn`, replacing
    /// what was there. `populate`: enter all pages into the host's page table now.
    Map {
        /// Guest address.
        addr: u64,
        /// Length in bytes.
        len: u64,
        /// First frame.
        pfn: Pfn,
        /// Rights.
        prot: Prot,
        /// Fill the host's page table at once.
        populate: bool,
    },
    /// Remove all mappings in the range.
    Unmap {
        /// Guest address.
        addr: u64,
        /// Length in bytes.
        len: u64,
    },
    /// Change the rights of the existing mappings in the range; holes are skipped.
    Protect {
        /// Guest address.
        addr: u64,
        /// Length in bytes.
        len: u64,
        /// New rights.
        prot: Prot,
    },
}

/// Why guest code stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trap {
    /// A system call. The context's instruction pointer is behind it, as
    /// hardware leaves it; number and arguments through [`crate::Arch`].
    Syscall,
    /// Access to a page that the host has not mapped, or not with these rights.
    PageFault {
        /// Address accessed. May be anything, also above [`crate::USER_END`].
        addr: u64,
        /// What was tried: exactly one of READ, WRITE, EXEC.
        access: Prot,
    },
    /// Another CPU exception.
    Exception {
        /// Signal that Linux sends for it (SIGILL, SIGFPE, SIGTRAP, SIGBUS, SIGSEGV).
        signo: i32,
        /// `si_code` of that signal.
        code: i32,
        /// `si_addr`.
        addr: u64,
        /// Hardware exception number, for the signal frame.
        vector: u32,
        /// Hardware error code, for the signal frame.
        error: u64,
    },
    /// Nothing of the guest's doing: look at the pending interrupts.
    Interrupt,
    /// The user process died or broke the rules of the engine. The guest
    /// process must be killed (SIGKILL); its `UserSpace` is of no more use.
    Lost,
}

/// What follows a system call that has been carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum After {
    /// Guest code may go on at once in the same space.
    GoOn,
    /// There is something to look at first.
    Look,
}

/// What became of a copy by guest addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direct {
    /// All bytes are copied.
    Done,
    /// The host has not mapped a page, or not with these rights: the page tables may know more.
    Fault,
    /// The space's mappings are not at hand, or not up to date.
    Elsewhere,
}

/// What an engine asks about the mappings of a guest address space. Never sleeps; `None`: that cannot be told now.
pub trait Mappings: Send + Sync {
    /// Whether the guest has nothing from `start` to `end`. What it has there later is told by [`UserSpace::claim`].
    fn is_vacant(&self, start: u64, end: u64) -> Option<bool>;
    /// Whether nobody can write to the page at `addr`, which the guest has mapped without that right, by another mapping. If so, the
    /// engine may run a copy that it makes of the page after this: before a call ends that changes the page, or
    /// maps it for writing, the page is taken out of this space.
    fn is_steady(&self, addr: u64) -> Option<bool>;
}

/// The host's side of one guest address space: a software TLB.
///
/// The kernel's page tables are the truth. The engine may drop any mapping at
/// any time (the host's limit on mappings comes near, the host refused one);
/// the next access then ends in [`Trap::PageFault`] and is mapped again. So an
/// operation can be late, but never fail.
pub trait UserSpace: Send + Sync {
    /// Queues changes, in order. They are carried out at the latest before
    /// guest code runs in this space again on the calling vCPU. Adding rights
    /// or pages needs no more than this. May be called with spin locks up to
    /// `level::MM` held; takes only the queue's own lock.
    fn queue(&self, ops: &[MapOp]);
    /// As [`UserSpace::queue`] for mappings that save later faults: they are in
    /// the order of all changes, but may wait until another change makes the
    /// host's calls necessary, or for ever. Must not contain anything else.
    fn queue_ahead(&self, ops: &[MapOp]) {
        self.queue(ops);
    }
    /// When it returns, no guest code on any vCPU sees what was mapped before
    /// the changes queued so far. Called before frames are reused or rights
    /// that were taken are relied on; with no spin lock held. Costs nothing
    /// while no other vCPU runs guest code in this space.
    fn flush(&self);
    /// Forgets the queue and removes every mapping below [`crate::USER_END`]
    /// (exec, exit). As [`UserSpace::flush`].
    fn clear(&self);
    /// Copies from guest memory at `addr`, below [`crate::USER_END`], by its address, as guest code on the calling
    /// vCPU would. With no spin lock held. What `buf` holds is unknown unless it is [`Direct::Done`].
    fn copy_in(&self, _addr: u64, _buf: &mut [u8]) -> Direct {
        Direct::Elsewhere
    }
    /// As [`UserSpace::copy_in`], to guest memory. It may be done in part when it is not [`Direct::Done`].
    fn copy_out(&self, _addr: u64, _buf: &[u8]) -> Direct {
        Direct::Elsewhere
    }
    /// Whether the user process still lives. If not, runs give [`Trap::Lost`].
    fn alive(&self) -> bool;
    /// Whom the engine asks about the guest's mappings. Once, before the first run.
    fn set_mappings(&self, _of: Weak<dyn Mappings>) {}
    /// The guest has a mapping from `start` to `end` from now on: when it returns, nothing of the engine's own
    /// is there. Called with the lock held that [`Mappings::is_vacant`] tries; no spin lock.
    fn claim(&self, _start: u64, _end: u64) {}
    /// From now on guest code here stays as it is mapped: the engine rewrites nothing of it, and takes back
    /// what it has. As [`UserSpace::flush`].
    fn keep_code(&self) {}
    /// What the engine cannot do any more for this space, and why: for the machine's log, told once.
    fn notice(&self) -> Option<&'static str> {
        None
    }
    /// For the engine itself.
    fn as_any(&self) -> &dyn core::any::Any;
}

/// How guest code is run.
pub trait Engine: Send + Sync {
    /// Name as on the command line (`seccomp`).
    fn name(&self) -> &'static str;
    /// Lowest guest address that can be mapped (the host's `vm.mmap_min_addr`).
    fn min_user_addr(&self) -> u64 {
        0x1_0000
    }
    /// A counter that costs next to nothing to read, for deciding whether the clock
    /// should be looked at. Engines whose traps cost much more than that have none.
    fn ticks(&self) -> u64 {
        0
    }
    /// How far [`Engine::ticks`] goes in some microseconds; 0 = there is no counter.
    fn short_ticks(&self) -> u64 {
        0
    }
    /// Number of pages within which the place of mappings may be random.
    fn mapping_spread(&self) -> u64 {
        1 << 28
    }
    /// An empty address space. Errors: [`Errno::EAGAIN`] (no process),
    /// [`Errno::ENFILE`] (no descriptor), [`Errno::ENOMEM`].
    /// Dropping it gives the user process back to the pool, or ends it.
    fn new_space(&self) -> Result<Arc<dyn UserSpace>, Errno>;
    /// Runs `cx` in `space` on this vCPU until it traps. The caller has set
    /// nothing but the registers; the engine sets [`CpuBlock::mode`] to `USER`, re-checks
    /// [`CpuBlock::pending`] and returns [`Trap::Interrupt`] if there is any,
    /// and sets the mode back to `KERNEL` before it returns.
    fn run(&self, cpu: &CpuBlock, space: &dyn UserSpace, cx: &mut UserContext) -> Trap;
    /// Runs the program of the calling task, as [`Engine::run`] on whatever vCPU the task is, but carries out its system
    /// calls by `call`, until that says [`After::Look`]; then the trap is [`Trap::Syscall`]. `call` uses
    /// the registers by itself and may wait. Before it changes others than the call's result it calls [`Engine::sync_regs`].
    fn run_program(
        &self,
        space: &dyn UserSpace,
        regs: &UserRegs,
        call: &mut dyn FnMut(&UserRegs) -> After,
    ) -> Trap {
        loop {
            // SAFETY: the engine's turn, until `call` begins.
            let cx = unsafe { &mut *regs.get() };
            let trap = self.run(cpu::current_cpu(), space, cx);
            if trap != Trap::Syscall || call(regs) == After::Look {
                return trap;
            }
        }
    }
    /// Makes `cx` complete: the engine may have left the vector and floating-point state in the user process, and segment
    /// bases in the CPU. Called before these are read, copied or
    /// changed, and when the task leaves the CPU for another one, but see [`Engine::keeps_fp`].
    fn sync_regs(&self, cx: &mut UserContext);
    /// Whether the state of a task off the CPU may stay where it was left as long as no
    /// other task runs in its space.
    fn keeps_fp(&self) -> bool {
        false
    }
    /// Waits until an interrupt is pending on `cpu` or `deadline_ns` (monotonic) is reached.
    fn idle(&self, cpu: &CpuBlock, deadline_ns: Option<u64>);
    /// Sets `bits` in the CPU's pending word and makes it look soon: kicks it
    /// out of guest mode, ends idling. Safe from any thread, also from host signal handlers.
    fn interrupt(&self, cpu: &CpuBlock, bits: u32);
    /// Programs the clock of this vCPU: raise [`crate::cpu::IRQ_TIMER`] at
    /// `deadline_ns` (monotonic), `None` switches it off. Only for `cpu` itself.
    fn set_timer(&self, cpu: &CpuBlock, deadline_ns: Option<u64>);
    /// Starts vCPU `id` on the prepared stack `entry` (its head's `cpu` is set).
    /// Returns when its host thread exists.
    fn start_cpu(
        &self,
        id: CpuId,
        block: &'static CpuBlock,
        entry: crate::cpu::SavedStack,
    ) -> Result<(), Errno>;
    /// Goes on in the kernel process, where the vCPU started; for what ends
    /// the whole machine. Engines whose kernel code runs nowhere else do nothing.
    fn go_home(&self) {}
}
