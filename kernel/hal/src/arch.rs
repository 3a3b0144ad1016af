//! What depends on the instruction set.

use crate::dev::Clock;
use crate::mem::Pfn;
use abi::{Errno, SigAction, SigInfo, SigSet, SigStack};
use alloc::vec::Vec;
use core::cell::{Cell, UnsafeCell};

/// Number of general words in a [`UserContext`].
pub const GP_WORDS: usize = 40;
/// Arguments of a system call: the first of the general words.
pub const ARGS: usize = 6;
/// The word that holds the number of the system call that the context is in (x86: rax, sign bits kept).
pub const NUMBER: usize = 6;
/// The word that a system call's result, or `-errno`, goes to.
pub const RESULT: usize = 7;

/// The user-mode registers of one task. Which word is which register is known
/// to the [`Arch`] and the engine only, apart from those of system calls.
#[repr(C, align(64))]
pub struct UserContext {
    /// General registers, segment bases, the trap's details.
    pub gp: [u64; GP_WORDS],
    /// Vector and floating-point state in the arch's own format (x86: XSAVE
    /// layout as in the host's signal frame). Length [`Arch::fp_size`], or empty = initial state.
    pub fp: Vec<u8>,
    /// Where the engine left the live vector state (0 = in `fp`).
    pub home: u64,
}

impl UserContext {
    /// All zero, initial vector state.
    pub const fn new() -> UserContext {
        UserContext {
            gp: [0; GP_WORDS],
            fp: Vec::new(),
            home: 0,
        }
    }
}

impl Default for UserContext {
    fn default() -> Self {
        Self::new()
    }
}

/// Holds the user-mode registers of a task: the task itself and the engine that runs its program
/// take turns; others come here only while it cannot run.
#[repr(transparent)]
pub struct UserRegs(UnsafeCell<UserContext>);

// SAFETY: a holder of a pointer; who uses it answers for the turns.
unsafe impl Sync for UserRegs {}

impl UserRegs {
    /// Holds `cx`.
    pub const fn new(cx: UserContext) -> UserRegs {
        UserRegs(UnsafeCell::new(cx))
    }
    /// The same for registers that are the caller's alone.
    pub fn from_mut(cx: &mut UserContext) -> &UserRegs {
        // SAFETY: `repr(transparent)`, and nobody else has a reference.
        unsafe { &*core::ptr::from_mut(cx).cast() }
    }
    /// Where they are. References made of it must not outlast the user's turn.
    #[inline]
    pub fn get(&self) -> *mut UserContext {
        self.0.get()
    }
    /// The words of the system call that the registers are of.
    ///
    /// # Safety
    /// It is the caller's turn.
    #[inline]
    pub unsafe fn syscall(&self) -> &SyscallWords {
        // SAFETY: they come first in a context; the caller's promise.
        unsafe { &*self.0.get().cast() }
    }
}

/// The arguments of a system call, in the registers.
pub type SyscallArgs = [Cell<u64>; ARGS];

/// The words of a system call, in the registers: in cells, because the call may change them while somebody looks.
#[repr(C)]
pub struct SyscallWords {
    /// The first of the general words.
    pub args: SyscallArgs,
    /// The word [`NUMBER`].
    pub number: Cell<u64>,
    /// The word [`RESULT`].
    pub result: Cell<u64>,
}

const _: () = assert!(ARGS == NUMBER && NUMBER + 1 == RESULT);

/// User memory as the arch needs it for signal frames.
pub trait UserMem {
    /// Copies from guest memory. [`Errno::EFAULT`] if any byte is unreadable.
    fn read(&mut self, addr: u64, buf: &mut [u8]) -> Result<(), Errno>;
    /// Copies to guest memory. [`Errno::EFAULT`] if any byte is unwritable.
    fn write(&mut self, addr: u64, buf: &[u8]) -> Result<(), Errno>;
}

/// A signal about to be delivered to a handler.
pub struct SignalDelivery<'a> {
    /// Signal number, siginfo and the action.
    pub info: &'a SigInfo,
    /// The action: handler, flags, restorer.
    pub action: &'a SigAction,
    /// Mask to restore at sigreturn.
    pub mask: SigSet,
    /// The task's alternate stack.
    pub altstack: SigStack,
}

/// What sigreturn found in the frame.
pub struct SigReturn {
    /// Mask to restore.
    pub mask: SigSet,
    /// Alternate stack settings to restore.
    pub altstack: SigStack,
}

/// Instruction-set specifics. Implemented for x86-64 in `arch-um/src/x86_64`.
pub trait Arch: Send + Sync {
    /// `uname -m`: `x86_64`.
    fn machine(&self) -> &'static str;
    /// `e_machine` of programs it runs.
    fn elf_machine(&self) -> u16;
    /// `AT_HWCAP` and `AT_HWCAP2`.
    fn hwcap(&self) -> (u64, u64);
    /// Size of the vector state in bytes.
    fn fp_size(&self) -> usize;
    /// `AT_MINSIGSTKSZ`.
    fn min_sigstack(&self) -> usize;

    /// Prepares `cx` for a fresh program: everything zero but these; vector state initial.
    fn start(&self, cx: &mut UserContext, ip: u64, sp: u64);
    /// Makes the task execute system call `nr` again with its original arguments.
    fn restart_syscall(&self, cx: &mut UserContext, nr: u64);
    /// Instruction pointer.
    fn ip(&self, cx: &UserContext) -> u64;
    /// Stack pointer.
    fn sp(&self, cx: &UserContext) -> u64;
    /// Sets the instruction pointer.
    fn set_ip(&self, cx: &mut UserContext, ip: u64);
    /// Sets the stack pointer.
    fn set_sp(&self, cx: &mut UserContext, sp: u64);
    /// Sets the thread pointer (CLONE_SETTLS).
    fn set_tls(&self, cx: &mut UserContext, tls: u64);
    /// `arch_prctl(2)`. `out`: for ARCH_GET_*, the value to store at `addr`.
    fn arch_prctl(&self, cx: &mut UserContext, code: u64, addr: u64) -> Result<Option<u64>, Errno>;

    /// Builds the frame of a signal handler on the guest's stack and points
    /// `cx` to the handler. `cx.fp` is in sync. [`Errno::EFAULT`]: the stack cannot take it (SIGSEGV).
    fn push_signal(
        &self,
        cx: &mut UserContext,
        mem: &mut dyn UserMem,
        s: &SignalDelivery,
    ) -> Result<(), Errno>;
    /// Takes the frame back (rt_sigreturn). Nothing in it is trusted.
    fn pop_signal(&self, cx: &mut UserContext, mem: &mut dyn UserMem) -> Result<SigReturn, Errno>;

    /// `struct user_regs_struct` for ptrace and core dumps.
    fn user_regs(&self, cx: &UserContext) -> Vec<u8>;
    /// Sets the registers from `struct user_regs_struct`, refusing what would harm.
    fn set_user_regs(&self, cx: &mut UserContext, regs: &[u8]) -> Result<(), Errno>;

    /// The vDSO image to map into programs (a whole number of pages), and the
    /// offset of the signal restorer in it if any. Empty: no vDSO.
    fn vdso(&self) -> &[u8];
    /// The page behind the vDSO's data pointer (clock offsets), mapped read-only right before the image.
    fn vvar(&self) -> &[u8];
    /// Tells in which frame the kernel has put the one [`Arch::vvar`] page that
    /// all programs map. From then on it is kept up to date there.
    fn set_vvar_page(&self, _pfn: Pfn) {}
    /// Brings the clock's parameters in the vvar page up to date. Called from
    /// the clock interrupt and at once after `clock` was adjusted; cheap, any CPU.
    fn update_vvar(&self, _clock: &dyn Clock) {}
    /// Text of `/proc/cpuinfo` for `ncpus` CPUs.
    fn cpuinfo(&self, ncpus: u32) -> Vec<u8>;
}
