//! Attacks on what is not the guest's: `attack KIND BASE END STEP`, where the range is the
//! part of a user process that belongs to the engine.
//!
//! Each attempt runs in a child that may die of it. What counts is that this
//! program comes to its end, and that the file named in [`CANARY`] does not
//! appear on the host.

use crate::prelude::*;
use std::arch::asm;

/// A path that an escaped host call would create.
pub const CANARY: &std::ffi::CStr = c"/tmp/lodger-escaped";

static TARGET: AtomicU64 = AtomicU64::new(0);

/// rax rbx rcx rdx rsi rbp r8 … r15 rsp rdi, in this order.
type Regs = [u64; 16];

/// Loads all registers and jumps.
fn jump(to: u64, regs: &Regs) -> ! {
    TARGET.store(to, SeqCst);
    unsafe {
        asm!(
            "mov rax, [rdi]", "mov rbx, [rdi+8]", "mov rcx, [rdi+16]", "mov rdx, [rdi+24]", "mov rsi, [rdi+32]",
            "mov rbp, [rdi+40]", "mov r8, [rdi+48]", "mov r9, [rdi+56]", "mov r10, [rdi+64]", "mov r11, [rdi+72]",
            "mov r12, [rdi+80]", "mov r13, [rdi+88]", "mov r14, [rdi+96]", "mov r15, [rdi+104]", "mov rsp, [rdi+112]",
            "mov rdi, [rdi+120]", "jmp qword ptr [rip + {t}]",
            t = sym TARGET, in("rdi") regs.as_ptr(), options(noreturn)
        )
    }
}

extern "C" fn spin() -> ! {
    loop {
        std::hint::spin_loop()
    }
}

/// A signal frame as the host lays it out, asking for all signals blocked and for `rip`.
fn forged(rip: u64, mask: u64) -> u64 {
    let m = sys!(mmap(
        null_mut(),
        65536,
        PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS,
        -1,
        0
    ))
    .v() as u64;
    let uc = m + 32768;
    let put = |off: u64, v: u64| unsafe { ((uc + off) as *mut u64).write(v) };
    put(0, 7);
    put(40 + 15 * 8, m + 16384); // rsp
    put(40 + 16 * 8, rip);
    put(40 + 17 * 8, 0x202); // flags
    put(40 + 18 * 8, 0x002b_0000_0000_0033); // ss, cs
    put(296, mask);
    uc
}

fn regs(set: u64, base: u64, area: u64) -> Regs {
    let path = CANARY.as_ptr() as u64;
    let sp = forged(spin as *const () as u64, u64::MAX);
    let mut r = [0u64; 16];
    match set {
        // Creates a file, if the host listened.
        0 => {
            r = [
                0x101,
                0,
                0,
                (O_CREAT | O_RDWR) as u64,
                path,
                0,
                0,
                0,
                0o666,
                0,
                0,
                0,
                0,
                0,
                sp,
                AT_FDCWD as u32 as u64,
            ];
            r[0] = SYS_openat as u64;
        }
        // Returns from a signal that never was, with everything blocked.
        1 => {
            r[0] = SYS_rt_sigreturn as u64;
            r[14] = sp;
        }
        // Kills whoever can be reached.
        2 => {
            r[0] = SYS_kill as u64;
            r[15] = u64::MAX;
            r[4] = SIGKILL as u64;
            r[14] = sp;
        }
        // Pointers into the engine's own pages.
        3 => {
            r = [area; 16];
            r[0] = SYS_futex as u64;
            r[14] = area + 0x4000;
            r[15] = area;
        }
        4 => {
            r = [base; 16];
            r[0] = SYS_mmap as u64;
            r[14] = sp;
        }
        _ => r = [u64::MAX; 16],
    }
    r
}

/// Lets a child try; kills it if it is still there after `patience` ms.
fn attempt(patience: u64, f: impl FnOnce() -> i32) -> String {
    let pid = sys!(fork());
    if pid.0 == 0 {
        let c = f();
        unsafe { _exit(c) }
    }
    if pid.failed() {
        ms(2);
        return "no child".into();
    }
    let end = now_ms() + patience;
    let mut st = 0;
    loop {
        let r = sys!(waitpid(pid.0 as i32, &mut st, WNOHANG));
        if r.0 != 0 {
            return St(st).to_string();
        }
        if now_ms() > end {
            sys!(kill(pid.0 as i32, SIGKILL));
            wait(pid.0 as i32);
            return "killed by us".into();
        }
        std::thread::yield_now();
    }
}

struct Tally(std::collections::BTreeMap<String, u32>);

impl Tally {
    fn add(&mut self, s: String) {
        *self.0.entry(s).or_default() += 1;
    }
}

fn pages(base: u64, end: u64) -> (Vec<u64>, Vec<u64>) {
    let (mut readable, mut writable) = (vec![], vec![]);
    let probe = |p: u64, w: bool| {
        attempt(500, || {
            unsafe {
                let v = (p as *const u8).read_volatile();
                if w {
                    (p as *mut u8).write_volatile(v);
                }
            }
            0
        }) == "exit 0"
    };
    // Sparse: a window at the start of each larger step is enough to find what is mapped.
    let mut p = base;
    while p < end {
        if probe(p, false) {
            readable.push(p);
            if probe(p, true) {
                writable.push(p);
            }
        }
        p += if p < base + 0x2_0000 || (p >= base + 0x10_0000 && p < base + 0x12_0000) {
            4096
        } else {
            0x8000
        };
    }
    (readable, writable)
}

fn jumps(base: u64, end: u64, step: u64, t: &mut Tally) {
    let area = base + 0x10_0000;
    let _ = end;
    for set in 0..6 {
        let mut p = base;
        while p < base + 4096 {
            t.add(attempt(30, || jump(p, &regs(set, base, area))));
            p += step;
        }
    }
}

/// Overwrites every writable byte of the region while the same thread, and others, go on trapping.
fn scribble(base: u64, end: u64, t: &mut Tally) {
    let (readable, writable) = pages(base, end);
    say!(
        "readable pages {} writable {}",
        !readable.is_empty(),
        writable.len() < 100
    );
    for fill in [0u8, 0xff, 0x41] {
        for p in &writable {
            t.add(attempt(200, || {
                for i in 0..4096 {
                    unsafe { ((p + i) as *mut u8).write_volatile(fill) };
                }
                for _ in 0..20 {
                    unsafe { syscall(SYS_getppid) };
                }
                0
            }));
        }
    }
    for seed in 1..12u64 {
        t.add(attempt(800, || {
            let w = writable.clone();
            std::thread::spawn(move || {
                let mut x = seed;
                loop {
                    for p in &w {
                        x = x
                            .wrapping_mul(6364136223846793005)
                            .wrapping_add(1442695040888963407);
                        let at = p + (x >> 33) % 4088;
                        unsafe { (at as *mut u64).write_unaligned(x) };
                    }
                }
            });
            let h: Vec<_> = (0..2)
                .map(|_| {
                    std::thread::spawn(|| {
                        for i in 0..3000u64 {
                            unsafe { syscall(SYS_getppid) };
                            let m = sys!(mmap(
                                null_mut(),
                                4096,
                                PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS,
                                -1,
                                0
                            ));
                            if !m.failed() {
                                unsafe { (m.0 as *mut u64).write_volatile(i) };
                                sys!(munmap(m.0 as *mut _, 4096));
                            }
                        }
                    })
                })
                .collect();
            h.into_iter().for_each(|h| drop(h.join()));
            0
        }));
    }
}

/// Instructions and register states that a handler might not expect.
fn oddities(base: u64, t: &mut Tally) {
    unsafe fn call() {
        unsafe { asm!("mov eax, 39", "syscall", out("rax") _, out("rcx") _, out("r11") _) };
    }
    t.add(attempt(500, || unsafe {
        asm!("mov eax, 20", "int 0x80", out("rax") _);
        0
    }));
    t.add(attempt(500, || unsafe {
        asm!("xor ecx, ecx", "sysenter", options(noreturn))
    }));
    t.add(attempt(500, || unsafe {
        // Alignment checks on.
        asm!("pushfq", "or dword ptr [rsp], 0x40000", "popfq", "mov eax, 39", "syscall", "pushfq", "and dword ptr [rsp], 0xfffbffff", "popfq", out("rax") _, out("rcx") _, out("r11") _);
        0
    }));
    t.add(attempt(500, || unsafe {
        // Single steps.
        asm!("pushfq", "or dword ptr [rsp], 0x100", "popfq", "mov eax, 39", "syscall", "nop", out("rax") _, out("rcx") _, out("r11") _);
        0
    }));
    t.add(attempt(500, || unsafe {
        asm!("pushfq", "or dword ptr [rsp], 0x4000", "popfq", "mov eax, 39", "syscall", out("rax") _, out("rcx") _, out("r11") _);
        0
    }));
    t.add(attempt(500, || unsafe {
        asm!("std", "mov eax, 39", "syscall", "cld", out("rax") _, out("rcx") _, out("r11") _);
        0
    }));
    // A thread that denies itself all memory.
    t.add(attempt(500, || unsafe {
        asm!("wrpkru", "mov eax, 39", "syscall", "ud2", in("eax") 1, in("ecx") 0, in("edx") 0, options(noreturn))
    }));
    t.add(attempt(500, || unsafe {
        asm!("wrpkru", "mov byte ptr [rsp - 8], 1", "ud2", in("eax") 3, in("ecx") 0, in("edx") 0, options(noreturn))
    }));
    for sp in [
        0u64,
        8,
        base,
        base + 0x10_0000,
        0x5000_0000_0000,
        0x7fff_ffff_f000,
        0xffff_ffff_ffff_fff8,
        0x8000_0000_0000_0000,
    ] {
        t.add(attempt(500, || unsafe { asm!("mov rsp, {0}", "mov eax, 39", "syscall", "mov eax, 231", "xor edi, edi", "syscall", "ud2", in(reg) sp, options(noreturn)) }));
        t.add(attempt(500, || unsafe {
            asm!("mov rsp, {0}", "push rax", "ud2", in(reg) sp, options(noreturn))
        }));
        t.add(attempt(500, || unsafe {
            asm!("jmp {0}", in(reg) sp, options(noreturn))
        }));
        t.add(attempt(500, || unsafe {
            syscall(SYS_arch_prctl, 0x1001, sp);
            syscall(SYS_arch_prctl, 0x1002, sp);
            call();
            0
        }));
        t.add(attempt(500, || {
            sys!(mmap(
                sp as *mut _,
                4096,
                PROT_READ | PROT_WRITE,
                MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS,
                -1,
                0
            ))
            .failed() as i32
        }));
        t.add(attempt(500, || {
            sys!(munmap((sp & !4095) as *mut _, 1 << 30)).failed() as i32
        }));
        t.add(attempt(500, || {
            sys!(mprotect(
                (sp & !4095) as *mut _,
                65536,
                PROT_READ | PROT_WRITE | PROT_EXEC
            ))
            .failed() as i32
        }));
        t.add(attempt(500, || {
            let s = stack_t {
                ss_sp: sp as *mut _,
                ss_flags: 0,
                ss_size: 65536,
            };
            sys!(sigaltstack(&s, null_mut()));
            handle(SIGUSR1, nop, SA_ONSTACK);
            unsafe { raise(SIGUSR1) };
            0
        }));
    }
    // The call at the very end of guest addresses: what follows is not the guest's.
    t.add(attempt(500, || {
        let last = 0x5000_0000_0000u64 - 4096;
        let m = sys!(mmap(
            last as *mut _,
            4096,
            PROT_READ | PROT_WRITE | PROT_EXEC,
            MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS,
            -1,
            0
        ));
        if m.failed() {
            return 9;
        }
        unsafe {
            ((last + 4094) as *mut u16).write(0x050f);
            asm!("mov eax, 39", "jmp {0}", in(reg) last + 4094, options(noreturn))
        }
    }));
}

/// Calls of all kinds from a page of low addresses: native numbers, those of x32 (bit 30),
/// those that hosts let past filters, 32-bit ones, the legacy page of calls.
fn probe(t: &mut Tally) {
    let at = 0x1000_0000u64;
    let m = sys!(mmap(
        at as *mut _,
        4096,
        PROT_READ | PROT_WRITE | PROT_EXEC,
        MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS,
        -1,
        0
    ));
    m.v();
    let code: [&[u8]; 3] = [
        &[0x0f, 0x05, 0xc3],             // syscall; ret
        &[0xcd, 0x80, 0xc3],             // int 0x80; ret
        &[0x0f, 0x34, 0x0f, 0x0b, 0xc3], // sysenter; ud2
    ];
    for (i, c) in code.iter().enumerate() {
        let to = (at as usize + 64 * i) as *mut u8;
        unsafe { to.copy_from_nonoverlapping(c.as_ptr(), c.len()) };
    }
    let call = |entry: u64, nr: u64| -> i64 {
        let r: i64;
        unsafe {
            asm!("call {e}", e = in(reg) entry, inlateout("rax") nr as i64 => r,
                in("rdi") 0u64, in("rsi") 0u64, in("rdx") 0u64, in("r10") 0u64,
                out("rcx") _, out("r11") _)
        };
        r
    };
    let numbers = (0..470u64)
        .filter(|n| ![15, 56, 57, 58, 60, 231, 34].contains(n))
        .chain([39])
        .chain(
            (0..560)
                .map(|n| n | 0x4000_0000)
                .filter(|n| n & 0xfff != 15),
        )
        .chain([1 << 31, 1 << 32, (1 << 32) | 39, u64::MAX, u64::MAX >> 1]);
    for nr in numbers {
        t.add(attempt(300, || {
            call(at, nr);
            0
        }));
    }
    for nr in (0..450).filter(|n| ![1, 2, 119, 120, 173, 190, 252, 29].contains(n)) {
        t.add(attempt(300, || {
            call(at + 64, nr);
            0
        }));
    }
    t.add(attempt(300, || {
        call(at + 128, 20);
        0
    }));
    for page in [0, 0x400, 0x800, 0xc00, 2] {
        t.add(attempt(300, || {
            call(0xffff_ffff_ff60_0000 + page, 39);
            0
        }));
    }
}

/// Uses up what the host may have little of: descriptors, mappings, processes.
fn exhaust(t: &mut Tally) {
    t.add(attempt(20_000, || {
        let n = 40_000u64;
        let p = sys!(mmap(
            null_mut(),
            n as usize * 4096,
            PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
            -1,
            0
        ))
        .v() as u64;
        for i in 0..n {
            unsafe { ((p + i * 4096) as *mut u64).write_volatile(i) };
            if i % 2 == 0 {
                sys!(mprotect((p + i * 4096) as *mut _, 4096, PROT_READ));
            }
        }
        (0..n).any(|i| unsafe { ((p + i * 4096) as *const u64).read_volatile() } != i) as i32
    }));
    t.add(attempt(10_000, || {
        let mut n = 0;
        while !sys!(dup(0)).failed() && n < 100_000 {
            n += 1;
        }
        let mut k = 0;
        while !sys!(socketpair(AF_UNIX, SOCK_STREAM, 0, [0; 2].as_mut_ptr())).failed() && k < 1000 {
            k += 1;
        }
        0
    }));
    t.add(attempt(20_000, || {
        crate::stress::forks::main(&["300".into()])
    }));
    t.add(attempt(20_000, || {
        let h: Vec<_> = (0..200)
            .filter_map(|_| {
                std::thread::Builder::new()
                    .stack_size(65536)
                    .spawn(|| ms(100))
                    .ok()
            })
            .collect();
        h.into_iter().for_each(|h| drop(h.join()));
        0
    }));
}

pub fn main(args: &[String]) -> i32 {
    let hex = |i: usize| {
        args.get(i)
            .and_then(|s| u64::from_str_radix(s.trim_start_matches("0x"), 16).ok())
            .unwrap_or(0)
    };
    let (base, end, step) = (hex(1), hex(2), hex(3).max(1));
    let mut t = Tally(Default::default());
    match args.first().map_or("", |s| s.as_str()) {
        "probe" => probe(&mut t),
        "jumps" => jumps(base, end, step, &mut t),
        "scribble" => scribble(base, end, &mut t),
        "oddities" => oddities(base, &mut t),
        "exhaust" => exhaust(&mut t),
        k => {
            say!("no attack {k}");
            return 64;
        }
    }
    say!("{:?}", t.0);
    say!("came to the end");
    0
}
