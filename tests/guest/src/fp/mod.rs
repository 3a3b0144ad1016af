//! Floating-point and vector state over switches, forks, threads and exec.

mod frames;

use crate::prelude::*;
use frames::*;
use std::arch::asm;

tests![
    control_words_inherit,
    pending_exception,
    threads_keep_own,
    processes_keep_own,
    exec_resets,
    fpe_signals,
    avx_kept,
    math_results,
    x87_stack,
    fork_copies,
    handler_starts_fresh,
    frame_layout,
    frame_changes,
    frame_damage,
    avx512_kept,
    avx_under_timer
];

fn control() -> (u16, u32) {
    let (mut c, mut m) = (0u16, 0u32);
    unsafe {
        asm!("fnstcw [{}]", in(reg) &mut c);
        asm!("stmxcsr [{}]", in(reg) &mut m);
    }
    (c, m)
}

fn set_control(c: u16, m: u32) {
    unsafe {
        asm!("fldcw [{}]", in(reg) &c);
        asm!("ldmxcsr [{}]", in(reg) &m);
    }
}

fn control_words_inherit() {
    let (c, m) = control();
    say!("start {c:#x} {m:#x}");
    set_control(0x27f, 0x7f80);
    let st = run(|| (control() != (0x27f, 0x7f80)) as i32);
    say!("fork {st}");
    let t = std::thread::spawn(control).join().unwrap();
    say!("thread {:#x} {:#x}", t.0, t.1);
    ms(5);
    unsafe { syscall(SYS_getppid) };
    let n = control();
    say!("kept {:#x} {:#x}", n.0, n.1);
    set_control(c, m);
}

/// An x87 exception waits for the next x87 instruction of the program's own, and all SSE exceptions are unmasked:
/// the kernel must not take them for its own.
fn pending_exception() {
    let (c, m) = control();
    let (zero_divide, zero) = (0x37bu16, 0f32);
    let pending = || {
        let mut s = 0u16;
        unsafe { asm!("fnstsw [{}]", in(reg) &mut s) };
        s & 0x80ff
    };
    set_control(c, 0);
    unsafe {
        asm!("fninit", "fldcw [{}]", "fld1", "fdiv dword ptr [{}]", in(reg) &zero_divide, in(reg) &zero,
            out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
            out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _);
    }
    let before = pending();
    ms(5);
    unsafe { syscall(SYS_sched_yield) };
    let child = run(|| (pending() != before) as i32);
    let file = std::fs::read("/proc/self/stat").is_ok_and(|f| !f.is_empty());
    let after = pending();
    unsafe { asm!("fnclex", "fninit") };
    set_control(c, m);
    say!("{before:#x} {child} {file} {after:#x}");
}

/// A sum that any lost bit of vector or x87 state changes.
fn grind(seed: f64, n: u32) -> u64 {
    let mut v = [seed, seed * 1.5, seed / 3.0, seed + 7.0];
    for i in 0..n {
        for (k, x) in v.iter_mut().enumerate() {
            *x = (*x * 1.000001 + k as f64).sqrt() + (i % 7) as f64;
        }
    }
    v.iter().fold(0, |a, x| a ^ x.to_bits().rotate_left(7))
}

fn threads_keep_own() {
    let want: Vec<u64> = (0..4).map(|i| grind(i as f64 + 1.0, 200_000)).collect();
    let got: Vec<u64> = (0..4)
        .map(|i| {
            std::thread::spawn(move || {
                let mut last = 0;
                for _ in 0..5 {
                    last = grind(i as f64 + 1.0, 200_000);
                    std::thread::yield_now();
                }
                last
            })
        })
        .collect::<Vec<_>>()
        .into_iter()
        .map(|t| t.join().unwrap())
        .collect();
    say!("{}", want == got);
}

fn processes_keep_own() {
    let want = grind(2.5, 300_000);
    let kids: Vec<i32> = (0..4)
        .map(|_| {
            fork(|| {
                for _ in 0..4 {
                    if grind(2.5, 300_000) != want {
                        return 1;
                    }
                    ms(1);
                }
                0
            })
        })
        .collect();
    for k in kids {
        say!("{}", wait(k));
    }
}

fn exec_resets() {
    set_control(0x27f, 0x7f80);
    say!(
        "{}",
        run(|| exec(&me(), &["guest", "--run", "fp::control_words_inherit"], &[]).err())
    );
    set_control(0x37f, 0x1f80);
}

static CODE: AtomicI32 = AtomicI32::new(0);

extern "C" fn fpe(n: i32, i: *mut siginfo_t, _: *mut c_void) {
    say!("{} code {}", sig(n), unsafe { (*i).si_code });
    unsafe { _exit(0) }
}

fn fpe_signals() {
    let go = |f: &dyn Fn()| {
        let st = run(|| {
            handle(SIGFPE, fpe, 0);
            f();
            1
        });
        if st != St(0) {
            say!("{st}");
        }
    };
    go(&|| unsafe {
        asm!("xor edx, edx", "mov eax, 1", "xor ecx, ecx", "div ecx", out("eax") _, out("ecx") _, out("edx") _)
    });
    go(&|| unsafe {
        asm!("mov eax, 0x80000000", "cdq", "mov ecx, -1", "idiv ecx", out("eax") _, out("ecx") _, out("edx") _)
    });
    go(&|| unsafe {
        let m = 0x1f80u32 & !(1 << 9);
        let (a, b) = (1.0f64, 0.0f64);
        asm!("ldmxcsr [{0}]", "movsd xmm0, [{1}]", "divsd xmm0, [{2}]", in(reg) &m, in(reg) &a, in(reg) &b, out("xmm0") _);
    });
    go(&|| unsafe {
        let m = 0x1f80u32 & !(1 << 7);
        let a = -1.0f64;
        asm!("ldmxcsr [{0}]", "movsd xmm0, [{1}]", "sqrtsd xmm0, xmm0", in(reg) &m, in(reg) &a, out("xmm0") _);
    });
    go(&|| unsafe {
        let c = 0x37fu16 & !4;
        asm!("fldcw [{0}]", "fld1", "fldz", "fdivp", "fwait", in(reg) &c, out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _, out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _);
    });
    say!(
        "uncaught {} {}",
        run(|| {
            unsafe {
                asm!("xor edx, edx", "mov eax, 1", "xor ecx, ecx", "div ecx", out("eax") _, out("ecx") _, out("edx") _)
            };
            0
        }),
        CODE.load(SeqCst)
    );
}

fn avx_kept() {
    if !std::arch::is_x86_feature_detected!("avx") {
        say!("true true");
        return;
    }
    let check = || {
        let pat: [u64; 8] =
            std::array::from_fn(|i| 0x0123_4567_89ab_cdef_u64.rotate_left(i as u32 * 5));
        let mut out = [0u64; 8];
        unsafe {
            asm!(
                "vmovdqu ymm3, [{p}]", "vmovdqu ymm12, [{p} + 32]",
                "mov eax, 24", "syscall", // sched_yield
                "mov eax, 110", "syscall", // getppid
                "vmovdqu [{o}], ymm3", "vmovdqu [{o} + 32], ymm12", "vzeroupper",
                p = in(reg) pat.as_ptr(), o = in(reg) out.as_mut_ptr(),
                out("rax") _, out("rcx") _, out("r11") _, out("xmm3") _, out("xmm12") _,
            );
        }
        out == pat
    };
    say!("{} {}", (0..200).all(|_| check()), {
        let h: Vec<_> = (0..3)
            .map(|_| std::thread::spawn(move || (0..300).all(|_| check())))
            .collect();
        h.into_iter().all(|h| h.join().unwrap())
    });
}

fn math_results() {
    let v = std::hint::black_box([0.1f64, 2.0, 1e300, -3.5]);
    say!(
        "{:?}",
        v.iter()
            .map(|x| x.sin())
            .map(|x| format!("{x:.12}"))
            .collect::<Vec<_>>()
    );
    say!(
        "{:e} {:?} {:?}",
        v[2] * 1e10,
        (v[1] - 2.0) / 0.0 + 1.0,
        1.0 / (v[1] - 2.0)
    );
    say!(
        "{} {}",
        f64::MIN_POSITIVE / std::hint::black_box(4.0) > 0.0,
        (v[0] as f32 * 3.0) as f64
    );
}

fn x87_stack() {
    let mut out = 0.0f64;
    unsafe {
        asm!("fldpi", "fld1", "faddp", "mov eax, 110", "syscall", "mov eax, 24", "syscall", "fstp qword ptr [{o}]", o = in(reg) &mut out,
            out("rax") _, out("rcx") _, out("r11") _, out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _, out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _);
    }
    say!("{out:.12}");
}

fn fork_copies() {
    let mut child = [0u8; 16];
    let mut pid: i64;
    let pat = *b"kept over fork!!";
    unsafe {
        asm!("movdqu xmm6, [{p}]", "mov eax, 57", "syscall", "movdqu [{o}], xmm6", p = in(reg) pat.as_ptr(), o = in(reg) child.as_mut_ptr(),
            out("rax") pid, out("rcx") _, out("r11") _, out("xmm6") _);
    }
    if pid == 0 {
        unsafe { _exit((child != pat) as i32) }
    }
    say!("parent {} child {}", child == pat, wait(pid as i32));
}
