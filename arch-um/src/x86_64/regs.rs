//! Which word of a [`UserContext`] is which register.
//!
//! First come those of a system call ([`hal::arch::NUMBER`]). What a way in or out moves together is near.

use hal::UserContext;
use hal::arch;

pub(crate) const RDI: usize = 0;
pub(crate) const RSI: usize = 1;
pub(crate) const RDX: usize = 2;
pub(crate) const R10: usize = 3;
pub(crate) const R8: usize = 4;
pub(crate) const R9: usize = 5;
/// Number of the system call that the context is in, or -1.
pub(crate) const ORIG_RAX: usize = arch::NUMBER;
pub(crate) const RAX: usize = arch::RESULT;
pub(crate) const RIP: usize = 8;
pub(crate) const RCX: usize = 9;
pub(crate) const EFLAGS: usize = 10;
pub(crate) const R11: usize = 11;
pub(crate) const RSP: usize = 12;
pub(crate) const RBP: usize = 13;
pub(crate) const RBX: usize = 14;
pub(crate) const R12: usize = 15;
pub(crate) const R13: usize = 16;
pub(crate) const R14: usize = 17;
pub(crate) const R15: usize = 18;
pub(crate) const CS: usize = 19;
pub(crate) const SS: usize = 20;
pub(crate) const FS_BASE: usize = 21;
pub(crate) const GS_BASE: usize = 22;
const DS: usize = 23;
const ES: usize = 24;
const FS: usize = 25;
const GS: usize = 26;
/// The words in the order of `struct user_regs_struct`.
pub(crate) const USER_REGS: [usize; 27] = [
    R15, R14, R13, R12, RBP, RBX, R11, R10, R9, R8, RAX, RCX, RDX, RSI, RDI, ORIG_RAX, RIP, CS,
    EFLAGS, RSP, SS, FS_BASE, GS_BASE, DS, ES, FS, GS,
];
/// Exception number of the last trap.
pub(crate) const TRAPNO: usize = 27;
/// Error code of the last trap.
pub(crate) const ERR: usize = 28;
/// Address of the last page fault.
pub(crate) const CR2: usize = 29;

/// Selectors of 64-bit user code and data.
pub(crate) const USER_CS: u64 = 0x33;
pub(crate) const USER_SS: u64 = 0x2b;

/// Interrupts enabled, and the bit that is always set.
pub(crate) const FLAGS_FIXED: u64 = 0x202;
/// Trap flag.
pub(crate) const FLAG_TF: u64 = 0x100;
/// Direction flag.
pub(crate) const FLAG_DF: u64 = 0x400;
/// Resume flag.
pub(crate) const FLAG_RF: u64 = 0x1_0000;
/// Flags that a signal frame can set: AC, RF, OF, DF, TF, SF, ZF, AF, PF, CF.
pub(crate) const FLAGS_USER: u64 = 0x5_0dd5;

/// `flags` with only what user code may choose.
pub(crate) fn clean_flags(flags: u64) -> u64 {
    flags & FLAGS_USER | FLAGS_FIXED
}

/// Whether `addr` is an address at all (48 bits, sign-extended).
pub(crate) fn is_canonical(addr: u64) -> bool {
    ((addr as i64) << 16 >> 16) as u64 == addr
}

/// A segment base as the CPU takes it.
pub(crate) fn clean_base(base: u64) -> u64 {
    if is_canonical(base) { base } else { 0 }
}

/// General registers in the order of `struct sigcontext`: r8 to r15, rdi, rsi,
/// rbp, rbx, rdx, rax, rcx, rsp, rip, flags.
pub(crate) const SIGCONTEXT: [usize; 18] = [
    R8, R9, R10, R11, R12, R13, R14, R15, RDI, RSI, RBP, RBX, RDX, RAX, RCX, RSP, RIP, EFLAGS,
];

/// Marks `cx` as not in a system call.
pub(crate) fn leave_syscall(cx: &mut UserContext) {
    cx.gp[ORIG_RAX] = u64::MAX;
}
