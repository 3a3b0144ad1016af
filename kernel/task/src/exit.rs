//! exit(2), exit_group(2), the end of threads and processes.

use crate::Ctx;
use abi::Result;

/// exit(2): the calling thread ends on its way back to user mode, with exit
/// code `code` (low 8 bits). The caller returns the result.
pub fn exit_thread(cx: &Ctx, code: i32) -> Result<u64> {
    let _ = (cx, code);
    Ok(0)
}

/// exit_group(2): the same for the whole process.
pub fn exit_group(cx: &Ctx, code: i32) -> Result<u64> {
    let _ = (cx, code);
    Ok(0)
}
