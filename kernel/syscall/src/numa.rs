//! Memory policy, numa(7), of a machine with one node: mbind(2), set_mempolicy(2), get_mempolicy(2).

use crate::args::{Hex, Out, Ptr};
use crate::cx::mm;
use abi::{Errno, Result};
use task::Ctx;

/// `MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES | MPOL_F_NUMA_BALANCING`.
const MODE_FLAGS: u32 = 0xe000;
/// `MPOL_DEFAULT`, `MPOL_PREFERRED`, `MPOL_LOCAL`; the last mode is `MPOL_WEIGHTED_INTERLEAVE`.
const DEFAULT: u32 = 0;
const PREFERRED: u32 = 1;
const LOCAL: u32 = 4;
const LAST: u32 = 6;
/// Most bits of a node mask (a page of them).
const MAX_BITS: u64 = 4096 * 8;

/// Whether the mask holds node 0, and whether it holds any other.
fn nodes(cx: &Ctx, mask: Ptr, maxnode: u64) -> Result<(bool, bool)> {
    let bits = maxnode.saturating_sub(1);
    if mask.0 == 0 || bits == 0 {
        return Ok((false, false));
    }
    if bits > MAX_BITS {
        return Err(Errno::EINVAL);
    }
    let words = mm(cx).get_vec::<u64>(mask.0, bits.div_ceil(64) as usize)?;
    let first = words.first().copied().unwrap_or(0);
    let in_range = if bits >= 64 {
        u64::MAX
    } else {
        (1 << bits) - 1
    };
    let others = first & in_range & !1 != 0 || words.iter().skip(1).any(|w| *w != 0);
    Ok((first & 1 != 0, others))
}

/// Any policy means node 0; what names other nodes, or none, is refused.
fn check(cx: &Ctx, mode: u32, mask: Ptr, maxnode: u64) -> Result {
    let plain = mode & !MODE_FLAGS;
    if plain > LAST {
        return Err(Errno::EINVAL);
    }
    let (node0, others) = nodes(cx, mask, maxnode)?;
    match plain {
        DEFAULT | LOCAL if node0 || others => Err(Errno::EINVAL),
        DEFAULT | LOCAL => Ok(()),
        PREFERRED if !node0 && !others => Ok(()),
        _ if !node0 => Err(Errno::EINVAL),
        _ => Ok(()),
    }
}

/// Sets the policy of a range: `mbind(2)`.
pub fn sys_mbind(
    cx: &Ctx,
    addr: Ptr,
    len: u64,
    mode: Hex,
    mask: Ptr,
    maxnode: u64,
    flags: u32,
) -> Result {
    /// `MPOL_MF_STRICT | MPOL_MF_MOVE | MPOL_MF_MOVE_ALL`.
    const VALID: u32 = 7;
    if flags & !VALID != 0 || addr.0 % hal::PAGE_SIZE as u64 != 0 {
        return Err(Errno::EINVAL);
    }
    check(cx, mode.0 as u32, mask, maxnode)?;
    let end = addr.0.checked_add(len).ok_or(Errno::EINVAL)?;
    // The whole range must be mapped.
    let mut at = addr.0;
    for v in mm(cx).vmas(false)? {
        if v.end <= at {
            continue;
        }
        if v.start > at || at >= end {
            break;
        }
        at = v.end;
    }
    if at < end { Err(Errno::EFAULT) } else { Ok(()) }
}

/// Sets the policy of the thread: `set_mempolicy(2)`.
pub fn sys_set_mempolicy(cx: &Ctx, mode: i32, mask: Ptr, maxnode: u64) -> Result {
    check(cx, mode as u32, mask, maxnode)
}

/// Reads a policy: `get_mempolicy(2)`. It is always the default one.
pub fn sys_get_mempolicy(
    cx: &Ctx,
    mode: Out<i32>,
    mask: Ptr,
    maxnode: u64,
    addr: Ptr,
    flags: u64,
) -> Result {
    const NODE: u64 = 1;
    const ADDR: u64 = 2;
    const ALLOWED: u64 = 4;
    if flags & !(NODE | ADDR | ALLOWED) != 0 || flags & ALLOWED != 0 && flags & (NODE | ADDR) != 0 {
        return Err(Errno::EINVAL);
    }
    if mask.0 != 0 && !(1..=MAX_BITS).contains(&maxnode) {
        return Err(Errno::EINVAL);
    }
    let mm = mm(cx);
    if flags & ADDR != 0 {
        if !mm
            .vmas(false)?
            .iter()
            .any(|v| v.start <= addr.0 && addr.0 < v.end)
        {
            return Err(Errno::EFAULT);
        }
    } else if addr.0 != 0 || flags & NODE != 0 {
        return Err(Errno::EINVAL);
    }
    mode.put_opt(mm, &0)?;
    if mask.0 != 0 {
        let mut bits = alloc::vec![0u8; maxnode.div_ceil(64) as usize * 8];
        if flags & ALLOWED != 0
            && let Some(b) = bits.first_mut()
        {
            *b = 1;
        }
        mm.write(mask.0, &bits)?;
    }
    Ok(())
}
