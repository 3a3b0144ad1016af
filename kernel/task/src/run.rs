//! The loop a task spends its life in: run guest code, handle its trap.

use crate::Ctx;
use abi::Result;
use hal::arch::SyscallArgs;

/// Carries out a system call: the function of the syscall layer. The result
/// goes to the return register unless [`Ctx::keep_regs`] was called. The
/// restart errors ([`abi::Errno::ERESTARTSYS`] and its kin) are handled by the caller.
pub type Dispatch = fn(&Ctx, SyscallArgs) -> Result<u64>;
