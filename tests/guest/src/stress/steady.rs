//! `guest --tool steady CALLS`: one call site, entered again and again with the same values in all registers, which all
//! but those of the call must still have behind it. A timer's signals come all the time.

use crate::prelude::*;
use std::arch::global_asm;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

/// General registers but rsp, then xmm0 to xmm15, then 16 bytes below the stack pointer.
#[repr(C, align(16))]
#[derive(Clone, Copy, PartialEq, Eq)]
struct Registers {
    general: [u64; 16],
    xmm: [[u64; 2]; 16],
    red_zone: [u64; 2],
}

global_asm!(
    // guest_steady(rdi = what to load, rsi = where to store)
    ".globl guest_steady",
    "guest_steady:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "push rsi",
    "mov rbx, [rdi + 8]",
    "mov rdx, [rdi + 16]",
    "mov rsi, [rdi + 24]",
    "mov rbp, [rdi + 40]",
    "mov r8, [rdi + 48]",
    "mov r9, [rdi + 56]",
    "mov r10, [rdi + 64]",
    "mov r12, [rdi + 72]",
    "mov r13, [rdi + 80]",
    "mov r14, [rdi + 88]",
    "mov r15, [rdi + 96]",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "movups xmm\\n, [rdi + 128 + 16*\\n]",
    ".endr",
    "mov rax, [rdi + 384]",
    "mov [rsp - 16], rax",
    "mov rax, [rdi + 392]",
    "mov [rsp - 8], rax",
    "mov rdi, [rdi + 32]",
    "xor eax, eax",
    "mov eax, 110",
    "syscall",
    ".globl guest_steady_behind",
    "guest_steady_behind:",
    // rcx and r11 are the call's; rax is its result.
    "xchg rax, [rsp]",
    "mov [rax + 8], rbx",
    "mov [rax + 16], rdx",
    "mov [rax + 24], rsi",
    "mov [rax + 32], rdi",
    "mov [rax + 40], rbp",
    "mov [rax + 48], r8",
    "mov [rax + 56], r9",
    "mov [rax + 64], r10",
    "mov [rax + 72], r12",
    "mov [rax + 80], r13",
    "mov [rax + 88], r14",
    "mov [rax + 96], r15",
    "mov [rax + 104], rcx",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "movups [rax + 128 + 16*\\n], xmm\\n",
    ".endr",
    "mov rdx, [rsp - 16]",
    "mov [rax + 384], rdx",
    "mov rdx, [rsp - 8]",
    "mov [rax + 392], rdx",
    "pop rax",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
);

unsafe extern "C" {
    fn guest_steady(load: *const Registers, store: *mut Registers) -> i64;
    static guest_steady_behind: u8;
}

static SIGNALS: AtomicI32 = AtomicI32::new(0);

extern "C" fn count(_: i32) {
    SIGNALS.fetch_add(1, Relaxed);
}

pub fn main(args: &[String]) -> i32 {
    let calls: u64 = args.first().and_then(|a| a.parse().ok()).unwrap_or(1000);
    let parent = i64::from(unsafe { getppid() });
    set_action(SIGALRM, count as *const () as usize);
    let t = libc::timeval {
        tv_sec: 0,
        tv_usec: 20_000,
    };
    let every = libc::itimerval {
        it_interval: t,
        it_value: t,
    };
    sys!(setitimer(ITIMER_REAL, &every, std::ptr::null_mut()));
    let mut given: Registers = zero();
    for (i, v) in given.general[1..13].iter_mut().enumerate() {
        *v = 0x0101_0101_0101_0101 * (i as u64 + 1);
    }
    given.general[13] = std::ptr::addr_of!(guest_steady_behind) as u64;
    for (i, v) in given.xmm.iter_mut().enumerate() {
        *v = [0x1111_2222_3333_4444 * (i as u64 + 1), !(i as u64)];
    }
    given.red_zone = [0xfeed_face, 0xdead_beef];
    for n in 0..calls {
        let mut got: Registers = zero();
        let result = unsafe { guest_steady(&given, &mut got) };
        if result != parent || got != given {
            println!("call {n}: result {result}");
            for (i, (g, w)) in got.general.iter().zip(&given.general).enumerate() {
                if g != w {
                    println!("register {i}: {g:#x}, not {w:#x}");
                }
            }
            return 1;
        }
    }
    println!("steady, signals {}", SIGNALS.load(Relaxed) > 0);
    0
}
