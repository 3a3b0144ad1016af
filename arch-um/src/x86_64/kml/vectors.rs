//! Moving the vector registers of guest code. Its xmm registers are in the block while kernel code runs, the others live.

use super::Block;
use core::arch::asm;

/// Component of XSAVE: the mask registers, 8 bytes each.
pub(crate) const OPMASK: u64 = 1 << 5;
/// Component of XSAVE: zmm16 to zmm31.
pub(crate) const HIGH: u64 = 1 << 7;

/// Which components of the live state are not in their initial state. The CPU tells: see
/// [`crate::x86_64::cpuid::tells_in_use`].
pub(crate) fn in_use() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the CPU has the instruction and this register of it.
    unsafe {
        asm!("xgetbv", in("ecx") 1, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags))
    };
    u64::from(low) | u64::from(high) << 32
}

/// The live MXCSR.
pub(crate) fn mxcsr() -> u32 {
    let mut v = 0u32;
    // SAFETY: writes the word.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut v, options(nostack, preserves_flags)) };
    v
}

/// Saves those of [`OPMASK`] and [`HIGH`] that are in `used` to where `part` says for each.
///
/// # Safety
/// On the thread of the guest code, and the CPU has them. The places are large enough.
pub(crate) unsafe fn save(used: u64, mut part: impl FnMut(u64) -> *mut u8) {
    // SAFETY: the caller's promise.
    unsafe {
        if used & OPMASK != 0 {
            asm!(
                ".irp n, 0,1,2,3,4,5,6,7",
                "kmovq [{at} + 8*\\n], k\\n",
                ".endr",
                at = in(reg) part(OPMASK), options(nostack, preserves_flags)
            );
        }
        if used & HIGH != 0 {
            asm!(
                ".irp n, 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
                "vmovdqu64 [{at} + 64*(\\n - 16)], zmm\\n",
                ".endr",
                at = in(reg) part(HIGH), options(nostack, preserves_flags)
            );
        }
    }
}

/// Loads those of [`OPMASK`] and [`HIGH`] that are in `used` from where `part` says for each, and clears
/// those that are only in `live`.
///
/// # Safety
/// As [`save`].
pub(crate) unsafe fn load(used: u64, live: u64, mut part: impl FnMut(u64) -> *mut u8) {
    // SAFETY: the caller's promise. Kernel code uses none of these registers.
    unsafe {
        if used & OPMASK != 0 {
            asm!(
                ".irp n, 0,1,2,3,4,5,6,7",
                "kmovq k\\n, [{at} + 8*\\n]",
                ".endr",
                at = in(reg) part(OPMASK), options(nostack, preserves_flags)
            );
        } else if live & OPMASK != 0 {
            asm!(
                ".irp n, 0,1,2,3,4,5,6,7",
                "kxorq k\\n, k\\n, k\\n",
                ".endr",
                options(nomem, nostack, preserves_flags)
            );
        }
        if used & HIGH != 0 {
            asm!(
                ".irp n, 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
                "vmovdqu64 zmm\\n, [{at} + 64*(\\n - 16)]",
                ".endr",
                at = in(reg) part(HIGH), options(nostack, preserves_flags)
            );
        } else if live & HIGH != 0 {
            asm!(
                ".irp n, 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
                "vpxorq zmm\\n, zmm\\n, zmm\\n",
                ".endr",
                options(nomem, nostack, preserves_flags)
            );
        }
    }
}

/// Makes `xmm` and `mxcsr` the guest's.
///
/// # Safety
/// On the block's thread; MXCSR is valid.
pub(crate) unsafe fn load_xmm(b: &Block, xmm: &[u8; 256], mxcsr: u32) {
    // SAFETY: the caller's promise; the words are this thread's, and nobody borrows them.
    unsafe {
        asm!(
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
            "movups xmm0, [{xmm} + 16*\\n]",
            "movups [{b} + 64 + 16*\\n], xmm0",
            ".endr",
            "ldmxcsr [{mxcsr}]",
            b = in(reg) b.at(), xmm = in(reg) xmm, mxcsr = in(reg) &mxcsr,
            out("xmm0") _, options(nostack, preserves_flags)
        );
    }
}

/// Saves these components of the state to `area`, whose header says then which of them are not in their initial state.
///
/// # Safety
/// On the block's thread; `area` is aligned to 64 bytes, large enough, its header zero.
pub(crate) unsafe fn save_all(b: &Block, area: *mut u8, features: u64) {
    // SAFETY: the caller's promise; kernel code does not rely on vector registers across calls.
    unsafe {
        asm!(
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
            "movups xmm\\n, [{b} + 64 + 16*\\n]",
            ".endr",
            "xsave64 [{area}]",
            b = in(reg) b.at(), area = in(reg) area,
            in("eax") features as u32, in("edx") (features >> 32) as u32,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
            out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            options(nostack, preserves_flags)
        );
    }
}

/// Loads these components of the state in `area`.
///
/// # Safety
/// As [`save_all`]; the area holds a valid state.
pub(crate) unsafe fn load_all(b: &Block, area: *const u8, features: u64) {
    // SAFETY: as above.
    unsafe {
        asm!(
            "xrstor64 [{area}]",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
            "movups [{b} + 64 + 16*\\n], xmm\\n",
            ".endr",
            b = in(reg) b.at(), area = in(reg) area,
            in("eax") features as u32, in("edx") (features >> 32) as u32,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
            out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            options(nostack, preserves_flags)
        );
    }
}
