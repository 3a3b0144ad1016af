//! The vector state: XSAVE's standard format, as signal frames hold it.

use std::sync::OnceLock;

/// `FP_XSTATE_MAGIC1`: at [`SW_BYTES`], says that more than FXSAVE's 512 bytes follow.
pub(crate) const MAGIC1: u32 = 0x4650_5853;
/// `FP_XSTATE_MAGIC2`: behind the state.
pub(crate) const MAGIC2: u32 = 0x4650_5845;
/// Bytes of the FXSAVE area that are software's: magic, total size, features, state size.
pub(crate) const SW_BYTES: usize = 464;
/// Size of the FXSAVE area.
pub(crate) const LEGACY: usize = 512;
/// FXSAVE area and XSAVE header.
pub(crate) const MIN_SIZE: usize = 576;
const FCW: usize = 0;
/// Control, status, tag words and opcode of a fresh program.
const FRESH_X87: u64 = 0x037f;
const MXCSR: usize = 24;
const XSTATE_BV: usize = 512;
/// x87 and SSE.
pub(crate) const FP_SSE: u64 = 3;
/// SSE.
pub(crate) const SSE: u64 = 2;
/// The xmm registers.
const XMM: core::ops::Range<usize> = 160..416;
/// Bits of MXCSR that every CPU has.
const MXCSR_MASK: u32 = 0xffff;
/// One more that some have.
const MXCSR_MISALIGNED: u32 = 1 << 17;

/// Size and components of the vector state on this host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct XState {
    /// Bytes without the trailing magic.
    pub size: usize,
    /// Components that may be in use.
    pub features: u64,
    /// Length and offset of the components from number 2 on. Kept, because
    /// CPUID is slow in virtual machines.
    parts: [(u32, u32); PARTS],
    /// Bits of MXCSR that there are, as FXSAVE tells.
    mxcsr_mask: u32,
}

/// Components looked at; later ones are for the host's kernel.
const PARTS: usize = 20;

static HOST: OnceLock<XState> = OnceLock::new();

/// Notes what the host's signal frames have.
pub(crate) fn set_host(x: XState) {
    let _ = HOST.set(x);
}

/// What this host has: as its signal frames show, before the first of them
/// by CPUID (the same unless the host keeps something back).
pub(crate) fn host() -> &'static XState {
    static BY_CPUID: OnceLock<XState> = OnceLock::new();
    HOST.get()
        .unwrap_or_else(|| BY_CPUID.get_or_init(XState::detect))
}

pub(crate) fn get_u32(b: &[u8], at: usize) -> u32 {
    b.get(at..at + 4)
        .and_then(|s| s.try_into().ok())
        .map_or(0, u32::from_ne_bytes)
}

pub(crate) fn get_u64(b: &[u8], at: usize) -> u64 {
    b.get(at..at + 8)
        .and_then(|s| s.try_into().ok())
        .map_or(0, u64::from_ne_bytes)
}

pub(crate) fn put(b: &mut [u8], at: usize, v: &[u8]) {
    if let Some(to) = b.get_mut(at..at + v.len()) {
        to.copy_from_slice(v);
    }
}

/// Which components the state in `b` has that are not in their initial state.
pub(crate) fn in_use(b: &[u8]) -> u64 {
    get_u64(b, XSTATE_BV)
}

/// MXCSR of the state in `b`.
pub(crate) fn mxcsr(b: &[u8]) -> u32 {
    get_u32(b, MXCSR)
}

/// The xmm registers of the state in `b`.
pub(crate) fn xmm(b: &[u8]) -> &[u8; 256] {
    let own = b.get(XMM).filter(|_| in_use(b) & SSE != 0);
    own.and_then(|x| x.try_into().ok()).unwrap_or(&[0; 256])
}

/// The components in use of the state in `b` if x87 is not really among them.
pub(crate) fn without_x87(b: &[u8]) -> Option<u64> {
    let used = in_use(b);
    let is_zero = |from, to| (from..to).step_by(8).all(|at| get_u64(b, at) == 0);
    let x87_fresh = || get_u64(b, FCW) == FRESH_X87 && is_zero(8, MXCSR) && is_zero(32, XMM.start);
    (used & 1 == 0 || x87_fresh()).then_some(used & !1)
}

/// Says that x87 and SSE state are not in their initial state, as the host's signal frames do.
pub(crate) fn mark_in_use(b: &mut [u8]) {
    let used = get_u64(b, XSTATE_BV) | FP_SSE;
    put(b, XSTATE_BV, &used.to_ne_bytes());
}

/// Bits of MXCSR that this CPU has.
fn mxcsr_mask() -> u32 {
    #[repr(align(16))]
    struct Area([u8; LEGACY]);
    let mut area = Area([0; LEGACY]);
    // SAFETY: the area is as long and aligned as the instruction asks.
    unsafe { core::arch::x86_64::_fxsave64(area.0.as_mut_ptr()) };
    get_u32(&area.0, MXCSR + 4)
}

impl XState {
    /// A state of `size` bytes with these components.
    pub(crate) fn new(size: usize, features: u64) -> XState {
        let mut parts = [(0, 0); PARTS];
        for (i, part) in parts.iter_mut().enumerate().skip(2) {
            if features >> i & 1 != 0 {
                *part = super::cpuid::component(i as u32);
            }
        }
        XState {
            size,
            features,
            parts,
            mxcsr_mask: mxcsr_mask(),
        }
    }

    /// What the CPU and the host have enabled, by CPUID leaf 13. The engine's
    /// frames are learned from the host; both agree unless components need a permission.
    fn detect() -> XState {
        let mut x = XState::new(MIN_SIZE, super::cpuid::user_features());
        let ends = x.parts.iter().map(|(len, offset)| (len + offset) as usize);
        x.size = ends.max().unwrap_or(0).max(MIN_SIZE);
        x
    }

    /// The state of a fresh program.
    pub(crate) fn initial(&self) -> Vec<u8> {
        let mut b = vec![0; self.size];
        self.make_initial(&mut b);
        b
    }

    /// Makes the first 576 bytes of `b` those of a fresh program, as far as
    /// the CPU looks at them.
    pub(crate) fn make_initial(&self, b: &mut [u8]) {
        let n = MIN_SIZE.min(b.len());
        b[..n].fill(0);
        put(b, FCW, &0x037fu16.to_ne_bytes());
        put(b, MXCSR, &0x1f80u32.to_ne_bytes());
        self.sign(b);
    }

    /// Makes `b`, a whole state, that of a fresh program.
    pub(crate) fn reset(&self, b: &mut [u8]) {
        let dirty = in_use(b);
        self.make_initial(b);
        self.normalize(b, dirty);
    }

    /// Makes `b`, a whole state, one of these registers, with x87 in its initial state. Other
    /// components of `used` are the caller's to fill in.
    pub(crate) fn make_plain(&self, b: &mut [u8], xmm: &[u8; 256], mxcsr: u32, used: u64) {
        let mut legacy = [0; XMM.start];
        put(&mut legacy, FCW, &FRESH_X87.to_ne_bytes());
        put(&mut legacy, MXCSR, &mxcsr.to_ne_bytes());
        put(&mut legacy, MXCSR + 4, &self.mxcsr_mask.to_ne_bytes());
        put(b, 0, &legacy);
        put(b, XMM.start, xmm);
        b[LEGACY..MIN_SIZE].fill(0);
        put(b, XSTATE_BV, &used.to_ne_bytes());
        self.sign(b);
    }

    /// Where component `bit` is in the state `b`.
    pub(crate) fn part(&self, b: &mut [u8], bit: u64) -> *mut u8 {
        let (len, offset) = self.parts[bit.trailing_zeros() as usize];
        b[offset as usize..][..len as usize].as_mut_ptr()
    }

    /// Writes the software bytes.
    pub(crate) fn sign(&self, b: &mut [u8]) {
        let mut sw = [0; 48];
        put(&mut sw, 0, &MAGIC1.to_ne_bytes());
        put(&mut sw, 4, &(self.size as u32 + 4).to_ne_bytes());
        put(&mut sw, 8, &self.features.to_ne_bytes());
        put(&mut sw, 16, &(self.size as u32).to_ne_bytes());
        put(b, SW_BYTES, &sw);
    }

    /// Whether XRSTOR (or, of a state without a header, FXRSTOR) would fault on `b`.
    pub(crate) fn faults(&self, b: &[u8], whole: bool) -> bool {
        let header = |at: usize| get_u64(b, XSTATE_BV + at);
        get_u32(b, MXCSR) & !(MXCSR_MASK | MXCSR_MISALIGNED) != 0
            || whole && (header(0) & !self.features | header(8) | header(16)) != 0
    }

    /// Takes out of `b` what XRSTOR would fault on, and signs it.
    pub(crate) fn clean(&self, b: &mut [u8]) {
        let mxcsr = get_u32(b, MXCSR) & MXCSR_MASK;
        put(b, MXCSR, &mxcsr.to_ne_bytes());
        let used = get_u64(b, XSTATE_BV) & self.features;
        put(b, XSTATE_BV, &used.to_ne_bytes());
        if let Some(header) = b.get_mut(XSTATE_BV + 8..MIN_SIZE) {
            header.fill(0);
        }
        self.sign(b);
    }

    /// Makes `b`, of which only the FXSAVE area is given, a whole state.
    pub(crate) fn extend_legacy(&self, b: &mut Vec<u8>) {
        b.resize(self.size, 0);
        b[LEGACY..].fill(0);
        put(b, XSTATE_BV, &(FP_SSE & self.features).to_ne_bytes());
        self.clean(b);
    }

    /// Zeroes those of the components `dirty` that are in their initial state, so that equal
    /// states have equal bytes and nothing old shows. All contexts have their states so.
    pub(crate) fn normalize(&self, b: &mut [u8], dirty: u64) {
        let used = get_u64(b, XSTATE_BV) | !dirty;
        for (i, (len, offset)) in self.parts.iter().enumerate() {
            if *len != 0 && used >> i & 1 == 0 {
                let (from, to) = (*offset as usize, (*offset + *len) as usize);
                if let Some(part) = b.get_mut(from..to) {
                    part.fill(0);
                }
            }
        }
    }
}
