//! Restartable sequences.

use crate::args::Ptr;
use crate::flags::RseqFlags;
use abi::Result;
use task::Ctx;

/// Registers the calling thread's area, or takes it back: `rseq(2)`.
pub fn sys_rseq(cx: &Ctx, area: Ptr, len: u32, flags: RseqFlags, signature: u32) -> Result {
    task::rseq::rseq(cx, area.0, len, flags.0, signature)
}
