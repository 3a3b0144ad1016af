//! Vector and x87 state in signal frames, and what a handler changes in it.

use crate::prelude::*;
use std::arch::{asm, is_x86_feature_detected};

static SEEN: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

extern "C" fn look_control(_: i32, _: *mut siginfo_t, _: *mut c_void) {
    let (c, m) = super::control();
    SEEN[0].store(c as u64, SeqCst);
    SEEN[1].store(m as u64, SeqCst);
    let mut sw = 0u16;
    unsafe { asm!("fnstsw [{}]", in(reg) &mut sw) };
    SEEN[2].store((sw >> 11 & 7) as u64, SeqCst);
}

/// A handler starts with fresh x87 and SSE state; the old comes back.
pub fn handler_starts_fresh() {
    handle(SIGUSR1, look_control, 0);
    let mut out = [0f64; 2];
    super::set_control(0x27f, 0x9f80);
    unsafe {
        asm!("fldpi", "fld1", "syscall", "fstp qword ptr [{o}]", "fstp qword ptr [{o} + 8]",
            o = in(reg) out.as_mut_ptr(), inlateout("rax") SYS_kill => _, in("rdi") getpid(), in("rsi") SIGUSR1,
            out("rcx") _, out("r11") _, out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
            out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _);
    }
    let (c, m) = super::control();
    super::set_control(0x37f, 0x1f80);
    say!(
        "handler {:#x} {:#x} top {}",
        SEEN[0].load(SeqCst),
        SEEN[1].load(SeqCst),
        SEEN[2].load(SeqCst)
    );
    say!("after {c:#x} {m:#x} {:.9} {:.9}", out[0], out[1]);
}

const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;

extern "C" fn look_frame(_: i32, _: *mut siginfo_t, u: *mut c_void) {
    unsafe {
        let fp = (*(u as *mut ucontext_t)).uc_mcontext.fpregs as *mut u8;
        let word = |at: usize| fp.add(at).cast::<u32>().read_unaligned();
        let (extended, features, size) = (word(468), word(472), word(480));
        say!(
            "aligned {} magic {} size holds {}",
            fp as usize % 64 == 0,
            word(464) == MAGIC1,
            extended >= size + 4
        );
        say!("end mark {}", word(size as usize) == MAGIC2);
        say!("x87 and SSE {}", features & 3 == 3);
        say!(
            "frame has AVX {}",
            (features & 4 != 0) == is_x86_feature_detected!("avx")
        );
        say!("written {}", word(512) & !features == 0);
    }
}

/// The layout that the kernel tells of: size, features, magic words.
pub fn frame_layout() {
    handle(SIGUSR1, look_frame, 0);
    unsafe { raise(SIGUSR1) };
    let st = run(|| {
        let size = 64 << 10;
        let p = sys!(mmap(
            null_mut(),
            size,
            PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS,
            -1,
            0
        ))
        .v();
        let ss = stack_t {
            ss_sp: p as *mut _,
            ss_flags: 0,
            ss_size: size,
        };
        sys!(sigaltstack(&ss, null_mut())).v();
        handle(SIGUSR1, look_frame, SA_ONSTACK);
        unsafe { raise(SIGUSR1) };
        0
    });
    say!("alternate stack {st}");
    let min = unsafe { getauxval(51) } as usize;
    say!("AT_MINSIGSTKSZ {}", min >= 1000 && min < 64 << 10);
}

extern "C" fn change_xmm(_: i32, _: *mut siginfo_t, u: *mut c_void) {
    unsafe {
        let fp = (*(u as *mut ucontext_t)).uc_mcontext.fpregs as *mut u8;
        // xmm5 lies in the legacy area, the upper half of ymm5 behind the header.
        fp.add(160 + 5 * 16).cast::<u64>().write_unaligned(0x1111);
        if is_x86_feature_detected!("avx") {
            let xfeatures = fp.add(512).cast::<u64>();
            xfeatures.write_unaligned(xfeatures.read_unaligned() | 4);
            fp.add(576 + 5 * 16).cast::<u64>().write_unaligned(0x2222);
        }
        // The x87 control word.
        fp.cast::<u16>().write_unaligned(0x27f);
    }
}

/// What a handler writes into the frame is there afterwards.
pub fn frame_changes() {
    handle(SIGUSR1, change_xmm, 0);
    let mut out = [0u64; 4];
    let avx = is_x86_feature_detected!("avx");
    unsafe {
        if avx {
            asm!("vpcmpeqd xmm5, xmm5, xmm5", "vinsertf128 ymm5, ymm5, xmm5, 1", "syscall", "vmovdqu [{o}], ymm5", "vzeroupper",
                o = in(reg) out.as_mut_ptr(), inlateout("rax") SYS_kill => _, in("rdi") getpid(), in("rsi") SIGUSR1,
                out("rcx") _, out("r11") _, out("xmm5") _);
        } else {
            asm!("pcmpeqd xmm5, xmm5", "syscall", "movdqu [{o}], xmm5",
                o = in(reg) out.as_mut_ptr(), inlateout("rax") SYS_kill => _, in("rdi") getpid(), in("rsi") SIGUSR1,
                out("rcx") _, out("r11") _, out("xmm5") _);
            (out[2], out[3]) = (0x2222, !0);
        }
    }
    let (c, _) = super::control();
    super::set_control(0x37f, 0x1f80);
    say!("{out:x?} {c:#x}");
}

extern "C" fn reserved_mxcsr(_: i32, _: *mut siginfo_t, u: *mut c_void) {
    unsafe {
        let fp = (*(u as *mut ucontext_t)).uc_mcontext.fpregs as *mut u8;
        fp.add(24).cast::<u32>().write_unaligned(0xffff_ffff);
    }
}

extern "C" fn unknown_feature(_: i32, _: *mut siginfo_t, u: *mut c_void) {
    unsafe {
        let fp = (*(u as *mut ucontext_t)).uc_mcontext.fpregs as *mut u8;
        fp.add(512).cast::<u64>().write_unaligned(1 << 62 | 7);
    }
}

extern "C" fn reserved_header(_: i32, _: *mut siginfo_t, u: *mut c_void) {
    unsafe {
        let fp = (*(u as *mut ucontext_t)).uc_mcontext.fpregs as *mut u8;
        fp.add(512 + 24).cast::<u64>().write_unaligned(1);
    }
}

extern "C" fn no_state(_: i32, _: *mut siginfo_t, u: *mut c_void) {
    unsafe { (*(u as *mut ucontext_t)).uc_mcontext.fpregs = null_mut() };
}

extern "C" fn wild_state(_: i32, _: *mut siginfo_t, u: *mut c_void) {
    unsafe { (*(u as *mut ucontext_t)).uc_mcontext.fpregs = 0x40 as *mut _ };
}

extern "C" fn legacy_only(_: i32, _: *mut siginfo_t, u: *mut c_void) {
    unsafe {
        let fp = (*(u as *mut ucontext_t)).uc_mcontext.fpregs as *mut u8;
        fp.add(464).cast::<u32>().write_unaligned(0);
        fp.add(160 + 5 * 16).cast::<u64>().write_unaligned(0x3333);
    }
}

/// Frames that cannot be restored end the process, harmless ones do not.
pub fn frame_damage() {
    type Handler = extern "C" fn(i32, *mut siginfo_t, *mut c_void);
    let cases: [(&str, Handler); 6] = [
        ("reserved bits of MXCSR", reserved_mxcsr),
        ("unknown feature", unknown_feature),
        ("reserved header", reserved_header),
        ("no state", no_state),
        ("wild pointer", wild_state),
        ("legacy part only", legacy_only),
    ];
    for (name, f) in cases {
        let st = run(|| {
            handle(SIGUSR1, f, 0);
            unsafe { raise(SIGUSR1) };
            0
        });
        say!("{name}: {st}");
    }
}

#[target_feature(enable = "avx512f")]
fn zmm_over_signal(p: &[u64; 8], o: &mut [u64; 10]) {
    unsafe {
        asm!("vmovdqu64 zmm7, [{p}]", "vmovdqu64 zmm29, [{p}]", "mov {k:e}, 0xa5c3", "kmovw k3, {k:e}", "syscall",
            "vmovdqu64 [{o}], zmm29", "vpxorq zmm7, zmm7, zmm29", "vptestmq k4, zmm7, zmm7", "kmovw {k:e}, k3", "mov [{o} + 64], {k}",
            "kmovw {k:e}, k4", "mov [{o} + 72], {k}", "vzeroupper",
            p = in(reg) p.as_ptr(), o = in(reg) o.as_mut_ptr(), k = out(reg) _, inlateout("rax") SYS_kill => _,
            in("rdi") getpid(), in("rsi") SIGUSR1, out("rcx") _, out("r11") _, out("xmm7") _, out("xmm29") _, out("k3") _, out("k4") _);
    }
}

extern "C" fn trash_wide(_: i32, _: *mut siginfo_t, _: *mut c_void) {
    #[target_feature(enable = "avx512f")]
    fn trash() {
        unsafe {
            asm!("vpternlogd zmm7, zmm7, zmm7, 0xff", "vpternlogd zmm29, zmm29, zmm29, 0xff", "kxnorw k3, k3, k3", "vzeroupper",
                out("xmm7") _, out("xmm29") _, out("k3") _)
        };
    }
    unsafe {
        trash();
        syscall(SYS_sched_yield);
    }
}

/// AVX-512 registers and masks over signals, calls and switches.
pub fn avx512_kept() {
    if !is_x86_feature_detected!("avx512f") {
        say!("signal true threads true");
        return;
    }
    handle(SIGUSR1, trash_wide, 0);
    let pattern: [u64; 8] =
        std::array::from_fn(|i| 0x0123_4567_89ab_cdef_u64.rotate_left(i as u32 * 7));
    let check = move || {
        let mut o = [0u64; 10];
        unsafe { zmm_over_signal(&pattern, &mut o) };
        o[..8] == pattern && o[8] == 0xa5c3 && o[9] == 0
    };
    let signal = (0..200).all(|_| check());
    let threads = (0..3)
        .map(|_| std::thread::spawn(move || (0..200).all(|_| check())))
        .collect::<Vec<_>>()
        .into_iter()
        .all(|t| t.join().unwrap());
    say!("signal {signal} threads {threads}");
}

/// Upper halves over a timer's signals that come between any two instructions.
pub fn avx_under_timer() {
    extern "C" fn trash(_: i32, _: *mut siginfo_t, _: *mut c_void) {
        SEEN[3].fetch_add(1, SeqCst);
        if is_x86_feature_detected!("avx") {
            unsafe {
                asm!("vpcmpeqd xmm9, xmm9, xmm9", "vinsertf128 ymm9, ymm9, xmm9, 1", out("xmm9") _)
            };
        }
        unsafe {
            asm!("fninit", "fldpi", "fninit", out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
            out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _)
        };
    }
    handle(SIGALRM, trash, SA_RESTART);
    let every = timeval {
        tv_sec: 0,
        tv_usec: 1000,
    };
    let it = itimerval {
        it_interval: every,
        it_value: every,
    };
    sys!(setitimer(ITIMER_REAL, &it, null_mut())).v();
    let pattern: [u64; 4] = [1, !2, 3 << 40, 0x5555];
    let mut good = true;
    let end = now_ms() + 10_000;
    while SEEN[3].load(SeqCst) < 30 && now_ms() < end {
        let mut o = [0u64; 4];
        let mut x = 0f64;
        unsafe {
            if is_x86_feature_detected!("avx") {
                asm!("vmovdqu ymm9, [{p}]", "fldpi", "mov {n:e}, 20000", "2: dec {n:e}", "jnz 2b",
                    "vmovdqu [{o}], ymm9", "fstp qword ptr [{x}]", "vzeroupper",
                    p = in(reg) pattern.as_ptr(), o = in(reg) o.as_mut_ptr(), x = in(reg) &mut x, n = out(reg) _,
                    out("xmm9") _, out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                    out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _);
            } else {
                (o, x) = (pattern, std::f64::consts::PI);
            }
        }
        good &= o == pattern && x == std::f64::consts::PI;
    }
    let off: itimerval = zero();
    sys!(setitimer(ITIMER_REAL, &off, null_mut())).v();
    say!("kept {good} signals {}", SEEN[3].load(SeqCst) >= 30);
}
