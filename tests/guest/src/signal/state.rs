//! Frames: alternate stacks, registers, vector state, changes by the handler.

use crate::prelude::*;
use std::arch::asm;

static COUNT: AtomicI32 = AtomicI32::new(0);
static SP: AtomicUsize = AtomicUsize::new(0);
static ONSTACK: AtomicI32 = AtomicI32::new(0);

extern "C" fn note_stack(_: i32, _: *mut siginfo_t, _: *mut c_void) {
    let here = 0u8;
    SP.store(&raw const here as usize, SeqCst);
    let mut ss: stack_t = zero();
    unsafe { sigaltstack(null(), &mut ss) };
    ONSTACK.store(ss.ss_flags, SeqCst);
    COUNT.fetch_add(1, SeqCst);
}

fn alt(size: usize) -> (usize, stack_t) {
    let p = sys!(mmap(
        null_mut(),
        size,
        PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS,
        -1,
        0
    ))
    .v() as usize;
    (
        p,
        stack_t {
            ss_sp: p as *mut _,
            ss_flags: 0,
            ss_size: size,
        },
    )
}

fn disable() {
    let ss = stack_t {
        ss_sp: null_mut(),
        ss_flags: SS_DISABLE,
        ss_size: 0,
    };
    sys!(sigaltstack(&ss, null_mut())).v();
}

pub fn altstack_basic() {
    disable();
    let mut old: stack_t = zero();
    sys!(sigaltstack(null(), &mut old)).v();
    say!("off {}", old.ss_flags == SS_DISABLE);
    let (base, ss) = alt(64 << 10);
    say!("set {}", sys!(sigaltstack(&ss, null_mut())));
    sys!(sigaltstack(null(), &mut old)).v();
    say!(
        "read back {} {} {}",
        old.ss_sp as usize == base,
        old.ss_size,
        old.ss_flags
    );
    handle(SIGUSR1, note_stack, SA_ONSTACK);
    unsafe { raise(SIGUSR1) };
    let on = |sp: usize| sp >= base && sp < base + (64 << 10);
    say!("used {} flag {}", on(SP.load(SeqCst)), ONSTACK.load(SeqCst));
    handle(SIGUSR1, note_stack, 0);
    unsafe { raise(SIGUSR1) };
    say!(
        "without SA_ONSTACK {} flag {}",
        on(SP.load(SeqCst)),
        ONSTACK.load(SeqCst)
    );
    say!(
        "inherited by fork {}",
        run(|| {
            let mut o: stack_t = zero();
            unsafe { sigaltstack(null(), &mut o) };
            (o.ss_sp as usize != base) as i32
        })
    );
    let t = std::thread::spawn(|| {
        let mut o: stack_t = zero();
        unsafe { sigaltstack(null(), &mut o) };
        o.ss_sp as usize
    })
    .join()
    .unwrap();
    say!("not by a thread {}", t != base);
    let auto = stack_t {
        ss_flags: 1 << 31,
        ..ss
    };
    say!("autodisarm {}", sys!(sigaltstack(&auto, null_mut())));
    handle(SIGUSR1, note_stack, SA_ONSTACK);
    unsafe { raise(SIGUSR1) };
    say!(
        "used {} off inside {}",
        on(SP.load(SeqCst)),
        ONSTACK.load(SeqCst) == SS_DISABLE
    );
    sys!(sigaltstack(null(), &mut old)).v();
    say!("back after {}", old.ss_sp as usize == base);
}

extern "C" fn try_change(_: i32, _: *mut siginfo_t, _: *mut c_void) {
    let (_, ss) = alt(64 << 10);
    say!("inside {}", sys!(sigaltstack(&ss, null_mut())));
}

pub fn altstack_errors() {
    let (_, ss) = alt(64 << 10);
    say!(
        "small {}",
        sys!(sigaltstack(
            &stack_t {
                ss_size: 1024,
                ..ss
            },
            null_mut()
        ))
    );
    say!(
        "flags {}",
        sys!(sigaltstack(
            &stack_t {
                ss_flags: 0x10,
                ..ss
            },
            null_mut()
        ))
    );
    say!(
        "SS_ONSTACK {}",
        sys!(sigaltstack(
            &stack_t {
                ss_flags: SS_ONSTACK,
                ..ss
            },
            null_mut()
        ))
    );
    say!("bad pointer {}", raw!(SYS_sigaltstack, 8, 0));
    sys!(sigaltstack(&ss, null_mut())).v();
    handle(SIGUSR1, try_change, SA_ONSTACK);
    unsafe { raise(SIGUSR1) };
}

extern "C" fn overflowed(_: i32, i: *mut siginfo_t, _: *mut c_void) {
    say!("caught, code {}", unsafe { (*i).si_code });
    unsafe { _exit(7) }
}

#[inline(never)]
fn endless(n: u64) -> u64 {
    let a = [n; 64];
    std::hint::black_box(&a);
    endless(n + 1) + a[n as usize % 64]
}

pub fn altstack_overflow() {
    say!(
        "{}",
        run(|| {
            let (_, ss) = alt(64 << 10);
            sys!(sigaltstack(&ss, null_mut())).v();
            handle(SIGSEGV, overflowed, SA_ONSTACK);
            endless(0) as i32
        })
    );
    say!(
        "without one {}",
        run(|| {
            disable();
            handle(SIGSEGV, overflowed, 0);
            endless(0) as i32
        })
    );
    // No room for the frame on the alternate stack either.
    say!(
        "unmapped altstack {}",
        run(|| {
            let (base, ss) = alt(64 << 10);
            sys!(sigaltstack(&ss, null_mut())).v();
            sys!(munmap(base as *mut _, 64 << 10)).v();
            handle(SIGUSR1, note_stack, SA_ONSTACK);
            unsafe { raise(SIGUSR1) };
            0
        })
    );
}

static ORDER: [AtomicI32; 8] = [const { AtomicI32::new(0) }; 8];

fn mark(v: i32) {
    ORDER[COUNT.fetch_add(1, SeqCst) as usize % 8].store(v, SeqCst);
}

extern "C" fn outer(_: i32, _: *mut siginfo_t, _: *mut c_void) {
    mark(1);
    unsafe { raise(SIGUSR2) };
    mark(3);
}

extern "C" fn inner(_: i32, _: *mut siginfo_t, _: *mut c_void) {
    mark(2);
}

pub fn nested_handlers() {
    handle(SIGUSR1, outer, 0);
    handle(SIGUSR2, inner, 0);
    unsafe { raise(SIGUSR1) };
    mark(4);
    say!(
        "{:?}",
        ORDER[..4]
            .iter()
            .map(|o| o.load(SeqCst))
            .collect::<Vec<_>>()
    );
    let mut sa: sigaction = zero();
    sa.sa_sigaction = outer as *const () as usize;
    sa.sa_flags = SA_SIGINFO;
    sa.sa_mask = set(&[SIGUSR2]);
    sys!(sigaction(SIGUSR1, &sa, null_mut())).v();
    COUNT.store(0, SeqCst);
    unsafe { raise(SIGUSR1) };
    mark(4);
    say!(
        "blocked by sa_mask {:?}",
        ORDER[..4]
            .iter()
            .map(|o| o.load(SeqCst))
            .collect::<Vec<_>>()
    );
}

/// Leaves the handler without sigreturn: mask and stack are set back by hand, as longjmp does.
pub fn siglongjmp_out() {
    static BUF: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];
    extern "C" fn leave(_: i32, _: *mut siginfo_t, _: *mut c_void) {
        unblock(&[SIGUSR1, SIGSEGV]);
        COUNT.fetch_add(1, SeqCst);
        unsafe {
            asm!("mov rsp, {0}", "mov rbp, {1}", "jmp {2}", in(reg) BUF[0].load(SeqCst), in(reg) BUF[1].load(SeqCst), in(reg) BUF[2].load(SeqCst), options(noreturn))
        }
    }
    handle(SIGUSR1, leave, 0);
    handle(SIGSEGV, leave, 0);
    #[inline(never)]
    fn protected(n: i32, fault: bool) {
        let pid = unsafe { getpid() } as u64;
        unsafe {
            asm!(
                "push rbx",
                "push rbp",
                "mov [{b}], rsp",
                "mov [{b} + 8], rbp",
                "lea rax, [rip + 2f]",
                "mov [{b} + 16], rax",
                "test {f:e}, {f:e}",
                "jnz 3f",
                "mov eax, 62",
                "syscall",
                "jmp 2f",
                "3:",
                "mov byte ptr [16], 1",
                "2:",
                "pop rbp",
                "pop rbx",
                b = in(reg) BUF.as_ptr(),
                f = in(reg) fault as u32,
                inlateout("rdi") pid => _,
                inlateout("rsi") n as u64 => _,
                out("rax") _, out("rcx") _, out("rdx") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _,
                out("r12") _, out("r13") _, out("r14") _, out("r15") _,
            );
        }
    }
    for _ in 0..3 {
        protected(SIGUSR1, false);
        protected(0, true);
    }
    say!("left {}", COUNT.load(SeqCst));
}

use std::arch::global_asm;
global_asm!(
    ".globl guest_regs_across_kill",
    "guest_regs_across_kill:",
    // rdi: array of 15 words in and out; rsi: pid; rdx: signal
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "push rdi",
    "mov rax, rsi",
    "mov r11, rdx",
    "mov rbx, [rdi]",
    "mov rbp, [rdi+8]",
    "mov r12, [rdi+16]",
    "mov r13, [rdi+24]",
    "mov r14, [rdi+32]",
    "mov r15, [rdi+40]",
    "mov rdx, [rdi+48]",
    "mov r8, [rdi+56]",
    "mov r9, [rdi+64]",
    "mov r10, [rdi+72]",
    "mov rdi, rax",
    "mov rsi, r11",
    "mov eax, 62",
    "syscall",
    "mov rdi, [rsp]",
    "mov [rdi], rbx",
    "mov [rdi+8], rbp",
    "mov [rdi+16], r12",
    "mov [rdi+24], r13",
    "mov [rdi+32], r14",
    "mov [rdi+40], r15",
    "mov [rdi+48], rdx",
    "mov [rdi+56], r8",
    "mov [rdi+64], r9",
    "mov [rdi+72], r10",
    "pop rdi",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
);
unsafe extern "C" {
    fn guest_regs_across_kill(regs: *mut u64, pid: u64, sig: u64);
}

pub fn sigreturn_registers() {
    handle(SIGUSR1, trash_safe, 0);
    let mut r: [u64; 10] = std::array::from_fn(|i| 0x1111_1111_1111_1111 * (i as u64 + 1));
    let before = r;
    for _ in 0..100 {
        unsafe { guest_regs_across_kill(r.as_mut_ptr(), getpid() as u64, SIGUSR1 as u64) };
    }
    say!("general registers {} {}", r == before, COUNT.load(SeqCst));
}

/// Overwrites what it may.
extern "C" fn trash_safe(a: i32, b: *mut siginfo_t, c: *mut c_void) {
    unsafe { asm!("push rbx", "sub rsp, 8", "mov edi, 5", "add rsp, 8", "pop rbx", out("edi") _) };
    let _ = (a, b, c);
    COUNT.fetch_add(1, SeqCst);
    unsafe {
        asm!("pxor xmm0, xmm0", "pcmpeqd xmm1, xmm1", "pxor xmm15, xmm15", out("xmm0") _, out("xmm1") _, out("xmm15") _)
    };
    if std::arch::is_x86_feature_detected!("avx") {
        unsafe {
            asm!("vxorps ymm0, ymm0, ymm0", "vxorps ymm9, ymm9, ymm9", out("xmm0") _, out("xmm9") _)
        };
    }
}

global_asm!(
    ".globl guest_xmm_across_kill",
    "guest_xmm_across_kill:",
    // rdi: 16 * 16 bytes; rsi: pid; rdx: signal
    "movups xmm0, [rdi]",
    "movups xmm1, [rdi+16]",
    "movups xmm2, [rdi+32]",
    "movups xmm3, [rdi+48]",
    "movups xmm8, [rdi+128]",
    "movups xmm9, [rdi+144]",
    "movups xmm14, [rdi+224]",
    "movups xmm15, [rdi+240]",
    "push rdi",
    "mov rdi, rsi",
    "mov rsi, rdx",
    "mov eax, 62",
    "syscall",
    "pop rdi",
    "movups [rdi], xmm0",
    "movups [rdi+16], xmm1",
    "movups [rdi+32], xmm2",
    "movups [rdi+48], xmm3",
    "movups [rdi+128], xmm8",
    "movups [rdi+144], xmm9",
    "movups [rdi+224], xmm14",
    "movups [rdi+240], xmm15",
    "ret",
    ".globl guest_ymm_across_kill",
    "guest_ymm_across_kill:",
    "vmovups ymm0, [rdi]",
    "vmovups ymm7, [rdi+32]",
    "vmovups ymm9, [rdi+64]",
    "vmovups ymm15, [rdi+96]",
    "push rdi",
    "mov rdi, rsi",
    "mov rsi, rdx",
    "mov eax, 62",
    "syscall",
    "pop rdi",
    "vmovups [rdi], ymm0",
    "vmovups [rdi+32], ymm7",
    "vmovups [rdi+64], ymm9",
    "vmovups [rdi+96], ymm15",
    "vzeroupper",
    "ret",
);
unsafe extern "C" {
    fn guest_xmm_across_kill(area: *mut u8, pid: u64, sig: u64);
    fn guest_ymm_across_kill(area: *mut u8, pid: u64, sig: u64);
}

pub fn sigreturn_vector() {
    handle(SIGUSR1, trash_safe, 0);
    let mut area: [u8; 256] = std::array::from_fn(|i| (i * 7 + 3) as u8);
    let before = area;
    for _ in 0..50 {
        unsafe { guest_xmm_across_kill(area.as_mut_ptr(), getpid() as u64, SIGUSR1 as u64) };
    }
    say!("xmm {} handlers {}", area == before, COUNT.load(SeqCst));
    // Where the CPU has no AVX both sides say the same.
    let good = if std::arch::is_x86_feature_detected!("avx") {
        for _ in 0..50 {
            unsafe { guest_ymm_across_kill(area.as_mut_ptr(), getpid() as u64, SIGUSR1 as u64) };
        }
        area[..128] == before[..128]
    } else {
        true
    };
    say!("ymm {good}");
    let mut cw: u16 = 0;
    let mut mx: u32 = 0;
    unsafe {
        let (c, m) = (0x0f7fu16, 0x5f80u32 | 0x1f80);
        asm!("fldcw [{}]", in(reg) &c);
        asm!("ldmxcsr [{}]", in(reg) &m);
        raise(SIGUSR1);
        asm!("fnstcw [{}]", in(reg) &mut cw);
        asm!("stmxcsr [{}]", in(reg) &mut mx);
        let (c, m) = (0x037fu16, 0x1f80u32);
        asm!("fldcw [{}]", in(reg) &c);
        asm!("ldmxcsr [{}]", in(reg) &m);
    }
    say!("control words {cw:#x} {mx:#x}");
    let x: f64;
    unsafe {
        let v = 1.5f64;
        asm!("fld qword ptr [{0}]", "mov eax, 39", "syscall", "mov edi, eax", "mov esi, 10", "mov eax, 62", "syscall", "fstp qword ptr [{1}]",
            in(reg) &v, in(reg) &raw mut SLOT, out("rax") _, out("rcx") _, out("r11") _, out("rdi") _, out("rsi") _,
            out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _, out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _);
        x = (&raw const SLOT).read();
    }
    say!("x87 stack {x}");
}

static mut SLOT: f64 = 0.0;

extern "C" fn edit(_: i32, _: *mut siginfo_t, u: *mut c_void) {
    let u = u as *mut ucontext_t;
    unsafe {
        let g = &mut (*u).uc_mcontext.gregs;
        match COUNT.fetch_add(1, SeqCst) {
            0 => g[REG_RAX as usize] = 4242,
            1 => g[REG_RIP as usize] += 2, // over the ud2
            _ => {}
        }
    }
}

pub fn ucontext_change() {
    handle(SIGUSR1, edit, 0);
    handle(SIGILL, edit, 0);
    let mut rax = 62u64;
    unsafe {
        asm!("syscall", inlateout("rax") rax, in("rdi") getpid() as u64, in("rsi") SIGUSR1 as u64, out("rcx") _, out("r11") _)
    };
    say!("result set by the handler {rax}");
    unsafe { asm!("ud2") };
    say!("skipped {}", COUNT.load(SeqCst));
    extern "C" fn look(_: i32, _: *mut siginfo_t, u: *mut c_void) {
        let u = u as *mut ucontext_t;
        unsafe {
            say!("mask in the context {}", members(&(*u).uc_sigmask));
            say!("fp state {}", !(*u).uc_mcontext.fpregs.is_null());
            say!(
                "stack flags {} link {}",
                (*u).uc_stack.ss_flags,
                (*u).uc_link.is_null()
            );
            (*u).uc_sigmask = set(&[SIGTERM]);
        }
    }
    block(&[SIGHUP]);
    let mut sa: sigaction = zero();
    sa.sa_sigaction = look as *const () as usize;
    sa.sa_flags = SA_SIGINFO;
    sys!(sigaction(SIGUSR2, &sa, null_mut())).v();
    disable();
    unsafe { raise(SIGUSR2) };
    let mut now = zero();
    sys!(sigprocmask(SIG_BLOCK, null(), &mut now));
    say!("mask taken over {}", members(&now));
}

extern "C" fn block_more(_: i32, _: *mut siginfo_t, _: *mut c_void) {
    block(&[SIGTERM]);
    unblock(&[SIGUSR1]);
}

pub fn handler_changes_mask() {
    handle(SIGUSR1, block_more, 0);
    unsafe { raise(SIGUSR1) };
    let mut now = zero();
    sys!(sigprocmask(SIG_BLOCK, null(), &mut now));
    say!("undone by the return {}", members(&now));
}

pub fn flags_restored() {
    handle(SIGUSR1, trash_safe, 0);
    let mut f: u64;
    let (pid, n) = (unsafe { getpid() } as u64, SIGUSR1 as u64);
    unsafe {
        asm!("std", "mov eax, 62", "syscall", "pushfq", "pop {0}", "cld", out(reg) f, in("rdi") pid, in("rsi") n, out("rax") _, out("rcx") _, out("r11") _);
    }
    say!("direction {}", f >> 10 & 1);
    unsafe {
        asm!("mov eax, 62", "stc", "syscall", "pushfq", "pop {0}", out(reg) f, in("rdi") pid, in("rsi") n, out("rax") _, out("rcx") _, out("r11") _);
    }
    say!("carry {}", f & 1);
    extern "C" fn df(_: i32, _: *mut siginfo_t, _: *mut c_void) {
        let f: u64;
        unsafe { asm!("pushfq", "pop {0}", out(reg) f) };
        SP.store(f as usize, SeqCst);
    }
    handle(SIGUSR2, df, 0);
    unsafe {
        asm!("std", "mov eax, 62", "syscall", "cld", in("rdi") pid, in("rsi") SIGUSR2 as u64, out("rax") _, out("rcx") _, out("r11") _)
    };
    say!("clear in the handler {}", SP.load(SeqCst) >> 10 & 1);
    // Through the frame a program cannot reach what is not its own.
    extern "C" fn iopl(_: i32, _: *mut siginfo_t, u: *mut c_void) {
        unsafe {
            (*(u as *mut ucontext_t)).uc_mcontext.gregs[REG_EFL as usize] |= 0x3000 | 1 << 17
        };
    }
    handle(SIGUSR2, iopl, 0);
    unsafe { raise(SIGUSR2) };
    unsafe { asm!("pushfq", "pop {0}", out(reg) f) };
    say!("privilege bits {:#x}", f & (0x3000 | 1 << 17 | 1 << 9));
}

pub fn red_zone() {
    handle(SIGUSR1, trash_safe, 0);
    let ok: u64;
    let (pid, n) = (unsafe { getpid() } as u64, SIGUSR1 as u64);
    unsafe {
        asm!(
            "mov rax, 0x1234567890abcdef",
            "mov [rsp - 8], rax", "mov [rsp - 64], rax", "mov [rsp - 128], rax",
            "mov eax, 62", "syscall",
            "mov rax, 0x1234567890abcdef",
            "xor {0:e}, {0:e}",
            "cmp [rsp - 8], rax", "jne 2f", "cmp [rsp - 64], rax", "jne 2f", "cmp [rsp - 128], rax", "jne 2f",
            "mov {0:e}, 1", "2:",
            out(reg) ok, in("rdi") pid, in("rsi") n, out("rax") _, out("rcx") _, out("r11") _);
    }
    say!("kept {ok}");
    extern "C" fn align(_: i32, i: *mut siginfo_t, u: *mut c_void) {
        let mut v = [0u128; 2];
        unsafe { asm!("movaps [{}], xmm0", in(reg) v.as_mut_ptr()) };
        SP.store((i as usize % 8) + (u as usize % 8), SeqCst);
        std::hint::black_box(v);
    }
    handle(SIGUSR2, align, 0);
    unsafe { raise(SIGUSR2) };
    say!("aligned {}", SP.load(SeqCst) == 0);
}

pub fn many_signals() {
    handle(SIGUSR1, trash_safe, 0);
    handle(SIGALRM, trash_safe, 0);
    let t = itimerval {
        it_interval: timeval {
            tv_sec: 0,
            tv_usec: 500,
        },
        it_value: timeval {
            tv_sec: 0,
            tv_usec: 500,
        },
    };
    sys!(setitimer(ITIMER_REAL, &t, null_mut())).v();
    // A computation whose result is spoiled by any lost register.
    let (mut a, mut b, mut f) = (1u64, 2u64, 1.0f64);
    let mut good = true;
    let end = now_ms() + 300;
    let mut rounds = 0u64;
    while now_ms() < end || COUNT.load(SeqCst) < 20 {
        let (x, y, g) = (a, b, f);
        for i in 1..2000u64 {
            a = a.wrapping_mul(6364136223846793005).wrapping_add(i);
            b ^= a.rotate_left(17);
            f = f * 1.0000001 + (i as f64).sqrt() * 1e-9;
        }
        let (mut p, mut q, mut h) = (x, y, g);
        for i in 1..2000u64 {
            p = p.wrapping_mul(6364136223846793005).wrapping_add(i);
            q ^= p.rotate_left(17);
            h = h * 1.0000001 + (i as f64).sqrt() * 1e-9;
        }
        good &= a == p && b == q && f == h;
        rounds += 1;
        if rounds > 10_000_000 {
            break;
        }
    }
    sys!(setitimer(ITIMER_REAL, &zero(), null_mut()));
    say!("{good} enough signals {}", COUNT.load(SeqCst) >= 20);
}

pub fn bad_frame() {
    say!(
        "sigreturn without a frame {}",
        run(|| { unsafe { asm!("mov rsp, 16", "mov eax, 15", "syscall", options(noreturn)) } })
    );
    say!(
        "stack pointer lost {}",
        run(|| {
            handle(SIGUSR1, trash_safe, 0);
            let pid = unsafe { getpid() } as u64;
            unsafe {
                asm!("mov rsp, 16", "mov eax, 62", "syscall", "ud2", in("rdi") pid, in("rsi") SIGUSR1 as u64, options(noreturn))
            }
        })
    );
    say!(
        "non-canonical return {}",
        run(|| {
            extern "C" fn far(_: i32, _: *mut siginfo_t, u: *mut c_void) {
                unsafe {
                    (*(u as *mut ucontext_t)).uc_mcontext.gregs[REG_RIP as usize] =
                        0x1234_5678_9abc_def0
                };
            }
            handle(SIGUSR1, far, 0);
            unsafe { raise(SIGUSR1) }
        })
    );
    say!(
        "kernel address {}",
        run(|| {
            extern "C" fn far(_: i32, _: *mut siginfo_t, u: *mut c_void) {
                unsafe {
                    (*(u as *mut ucontext_t)).uc_mcontext.gregs[REG_RIP as usize] =
                        0xffff_ffff_8100_0000u64 as i64
                };
            }
            handle(SIGUSR1, far, 0);
            unsafe { raise(SIGUSR1) }
        })
    );
    say!(
        "segment registers {}",
        run(|| {
            extern "C" fn seg(_: i32, _: *mut siginfo_t, u: *mut c_void) {
                unsafe {
                    (*(u as *mut ucontext_t)).uc_mcontext.gregs[REG_CSGSFS as usize] =
                        0x0008_0000_0000_0010
                };
            }
            handle(SIGUSR1, seg, 0);
            unsafe { raise(SIGUSR1) };
            0
        })
        .to_string()
            != ""
    );
    say!(
        "fp pointer {}",
        run(|| {
            extern "C" fn fp(_: i32, _: *mut siginfo_t, u: *mut c_void) {
                unsafe { (*(u as *mut ucontext_t)).uc_mcontext.fpregs = 24 as *mut _ };
            }
            handle(SIGUSR1, fp, 0);
            unsafe { raise(SIGUSR1) };
            0
        })
    );
    say!(
        "mxcsr {}",
        run(|| {
            extern "C" fn mx(_: i32, _: *mut siginfo_t, u: *mut c_void) {
                unsafe { (*(*(u as *mut ucontext_t)).uc_mcontext.fpregs).mxcsr = 0xffff_ffff };
            }
            handle(SIGUSR1, mx, 0);
            unsafe { raise(SIGUSR1) };
            0
        })
        .to_string()
            != ""
    );
}

extern "C" fn exec_now(_: i32, _: *mut siginfo_t, _: *mut c_void) {
    exec(c"/bin/sh", &["sh", "-c", "exit 33"], &[]);
}

pub fn exec_in_handler() {
    say!(
        "{}",
        run(|| {
            handle(SIGUSR1, exec_now, 0);
            unsafe { raise(SIGUSR1) };
            0
        })
    );
}

extern "C" fn fork_now(_: i32, _: *mut siginfo_t, _: *mut c_void) {
    let st = run(|| 5);
    COUNT.store(WEXITSTATUS(st.0), SeqCst);
}

pub fn fork_in_handler() {
    handle(SIGUSR1, fork_now, 0);
    unsafe { raise(SIGUSR1) };
    say!("{}", COUNT.load(SeqCst));
}
