//! What CPUID says about this host.

use core::arch::x86_64 as intrinsics;

/// One leaf: eax, ebx, ecx, edx.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Leaf {
    pub(crate) a: u32,
    pub(crate) b: u32,
    pub(crate) c: u32,
    pub(crate) d: u32,
}

/// CPUID leaf `n`, sub-leaf `sub`; zeros if the CPU does not have it.
pub(crate) fn leaf(n: u32, sub: u32) -> Leaf {
    #[allow(unused_unsafe, reason = "safe in later versions of Rust")]
    let query = |n, sub| {
        // SAFETY: every x86-64 CPU has the instruction.
        unsafe { intrinsics::__cpuid_count(n, sub) }
    };
    if n & 0x7fff_ffff != 0 && query(n & 0x8000_0000, 0).eax < n {
        return Leaf::default();
    }
    let r = query(n, sub);
    Leaf {
        a: r.eax,
        b: r.ebx,
        c: r.ecx,
        d: r.edx,
    }
}

/// Components of the vector state that programs can use without asking for
/// a permission (all that XCR0 enables but AMX's).
pub(crate) fn user_features() -> u64 {
    const AMX: u64 = 3 << 17;
    if leaf(1, 0).c >> 27 & 1 == 0 {
        return 3;
    }
    let l = leaf(13, 0);
    let supported = u64::from(l.a) | u64::from(l.d) << 32;
    supported & !AMX
}

/// Whether the CPU has AVX-512 with mask registers of 64 bits.
pub(crate) fn has_avx512() -> bool {
    let l = leaf(7, 0);
    l.b >> 16 & 1 != 0 && l.b >> 30 & 1 != 0
}

/// Whether XGETBV tells which components are in use.
pub(crate) fn tells_in_use() -> bool {
    leaf(13, 1).a >> 2 & 1 != 0
}

/// Size and offset of component `i` in the standard XSAVE format.
pub(crate) fn component(i: u32) -> (u32, u32) {
    let l = leaf(13, i);
    (l.a, l.b)
}

/// Whether the time stamp counter runs evenly in all states.
pub(crate) fn has_invariant_tsc() -> bool {
    leaf(0x8000_0007, 0).d >> 8 & 1 != 0
}

/// The maker's name.
pub(crate) fn vendor() -> String {
    let l = leaf(0, 0);
    text(&[l.b, l.d, l.c])
}

/// The model's name.
pub(crate) fn brand() -> String {
    let words: Vec<u32> = (0x8000_0002..=0x8000_0004)
        .map(|n| leaf(n, 0))
        .flat_map(|l| [l.a, l.b, l.c, l.d])
        .collect();
    text(&words)
}

fn text(words: &[u32]) -> String {
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    let shown = bytes[..end]
        .iter()
        .map(|&b| if b.is_ascii_graphic() { b as char } else { ' ' });
    shown.collect::<String>().trim().to_string()
}

/// Family, model, stepping.
pub(crate) fn signature() -> (u32, u32, u32) {
    let a = leaf(1, 0).a;
    let (base, ext) = (a >> 8 & 15, a >> 20 & 255);
    let family = if base == 15 { base + ext } else { base };
    let wide = base == 15 || base == 6;
    let model = (a >> 4 & 15) | if wide { (a >> 16 & 15) << 4 } else { 0 };
    (family, model, a & 15)
}

/// Names of the features that guest programs can use, as /proc/cpuinfo lists them.
pub(crate) fn flags() -> String {
    let (l1, l7, lx) = (leaf(1, 0), leaf(7, 0), leaf(0x8000_0001, 0));
    let (ld, la) = (leaf(13, 1), leaf(7, 1));
    let mut names = Vec::new();
    for (word, table) in [
        (l1.d, LEAF1_D),
        (lx.d & !l1.d, EXT_D),
        (l1.c, LEAF1_C),
        (lx.c, EXT_C),
        (l7.b, LEAF7_B),
        (l7.c, LEAF7_C),
        (l7.d, LEAF7_D),
        (la.a, LEAF7_1_A),
        (ld.a, XSAVE_A),
    ] {
        let set = table.iter().filter(|(bit, _)| word >> bit & 1 != 0);
        names.extend(set.map(|(_, name)| *name));
    }
    names.extend(["rep_good", "nopl", "cpuid"]);
    if has_invariant_tsc() {
        names.extend(["constant_tsc", "nonstop_tsc"]);
    }
    names.join(" ")
}

const LEAF1_D: &[(u32, &str)] = &[
    (0, "fpu"),
    (4, "tsc"),
    (8, "cx8"),
    (11, "sep"),
    (15, "cmov"),
    (19, "clflush"),
    (23, "mmx"),
    (24, "fxsr"),
    (25, "sse"),
    (26, "sse2"),
    (28, "ht"),
];
const EXT_D: &[(u32, &str)] = &[
    (11, "syscall"),
    (20, "nx"),
    (22, "mmxext"),
    (25, "fxsr_opt"),
    (26, "pdpe1gb"),
    (27, "rdtscp"),
    (29, "lm"),
];
const LEAF1_C: &[(u32, &str)] = &[
    (0, "pni"),
    (1, "pclmulqdq"),
    (9, "ssse3"),
    (12, "fma"),
    (13, "cx16"),
    (19, "sse4_1"),
    (20, "sse4_2"),
    (22, "movbe"),
    (23, "popcnt"),
    (25, "aes"),
    (26, "xsave"),
    (28, "avx"),
    (29, "f16c"),
    (30, "rdrand"),
    (31, "hypervisor"),
];
const EXT_C: &[(u32, &str)] = &[
    (0, "lahf_lm"),
    (5, "abm"),
    (6, "sse4a"),
    (7, "misalignsse"),
    (8, "3dnowprefetch"),
];
const LEAF7_B: &[(u32, &str)] = &[
    (0, "fsgsbase"),
    (3, "bmi1"),
    (5, "avx2"),
    (8, "bmi2"),
    (9, "erms"),
    (16, "avx512f"),
    (17, "avx512dq"),
    (18, "rdseed"),
    (19, "adx"),
    (21, "avx512ifma"),
    (23, "clflushopt"),
    (24, "clwb"),
    (28, "avx512cd"),
    (29, "sha_ni"),
    (30, "avx512bw"),
    (31, "avx512vl"),
];
const LEAF7_C: &[(u32, &str)] = &[
    (1, "avx512vbmi"),
    (6, "avx512_vbmi2"),
    (8, "gfni"),
    (9, "vaes"),
    (10, "vpclmulqdq"),
    (11, "avx512_vnni"),
    (12, "avx512_bitalg"),
    (14, "avx512_vpopcntdq"),
    (22, "rdpid"),
];
const LEAF7_D: &[(u32, &str)] = &[(4, "fsrm"), (8, "avx512_vp2intersect"), (23, "avx512_fp16")];
const LEAF7_1_A: &[(u32, &str)] = &[(4, "avx_vnni"), (5, "avx512_bf16")];
const XSAVE_A: &[(u32, &str)] = &[(0, "xsaveopt"), (1, "xsavec"), (2, "xgetbv1")];
