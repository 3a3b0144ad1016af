//! One call of generated code with every register set, and what it left in them.

use std::arch::global_asm;

pub const RAX: usize = 0;
pub const RCX: usize = 1;
pub const RDX: usize = 2;
pub const RSI: usize = 6;
pub const RDI: usize = 7;
pub const R9: usize = 9;
pub const R11: usize = 11;
pub const R13: usize = 13;
pub const R14: usize = 14;
pub const R15: usize = 15;

/// Everything a call may change: general registers in the order of their numbers, flags,
/// what lies below the stack pointer, mask and vector registers.
#[repr(C, align(64))]
#[derive(Clone)]
pub struct State {
    pub gp: [u64; 16],
    pub flags: u64,
    pub zone: [u64; 15],
    pub masks: [u64; 8],
    pub vectors: [[u64; 8]; 32],
}

impl State {
    pub const fn new() -> State {
        State {
            gp: [0; 16],
            flags: 0,
            zone: [0; 15],
            masks: [0; 8],
            vectors: [[0; 8]; 32],
        }
    }
}

/// Which vector registers there are: 0 = xmm0–15, 1 = ymm0–15, 2 = zmm0–31 and masks.
pub fn level() -> u32 {
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
        2
    } else {
        is_x86_feature_detected!("avx") as u32
    }
}

// The words below the stack pointer are as many as a signal leaves alone both
// in the code that is called and here, less the return address.
global_asm!(
    r#"
    .text
race_probe:
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
    sub rsp, 40
    mov [rsp + 8], rsi
    mov [rsp + 16], rdx
    cmp edx, 1
    je 1f
    ja 2f
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movups xmm\n, [rdi + 320 + 64*\n]
    .endr
    jmp 3f
1:  .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vmovups ymm\n, [rdi + 320 + 64*\n]
    .endr
    jmp 3f
2:  .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    vmovups zmm\n, [rdi + 320 + 64*\n]
    .endr
    .irp n, 0,1,2,3,4,5,6,7
    kmovq k\n, [rdi + 256 + 8*\n]
    .endr
3:  .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14
    mov rax, [rdi + 136 + 8*\n]
    mov [rsp - 128 + 8*\n], rax
    .endr
    push [rdi + 128]
    popfq
    mov rax, [rdi]
    mov rcx, [rdi + 8]
    mov rdx, [rdi + 16]
    mov rbx, [rdi + 24]
    mov rbp, [rdi + 40]
    mov rsi, [rdi + 48]
    mov r8, [rdi + 64]
    mov r9, [rdi + 72]
    mov r10, [rdi + 80]
    mov r11, [rdi + 88]
    mov r12, [rdi + 96]
    mov r13, [rdi + 104]
    mov r14, [rdi + 112]
    mov r15, [rdi + 120]
    mov rdi, [rdi + 56]
    call r15
    mov [rsp + 24], rax
    mov rax, [rsp + 8]
    mov [rax + 8], rcx
    mov [rax + 16], rdx
    mov [rax + 24], rbx
    mov [rax + 40], rbp
    mov [rax + 48], rsi
    mov [rax + 56], rdi
    mov [rax + 64], r8
    mov [rax + 72], r9
    mov [rax + 80], r10
    mov [rax + 88], r11
    mov [rax + 96], r12
    mov [rax + 104], r13
    mov [rax + 112], r14
    mov [rax + 120], r15
    mov rcx, [rsp + 24]
    mov [rax], rcx
    pushfq
    pop [rax + 128]
    cld
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14
    mov rcx, [rsp - 128 + 8*\n]
    mov [rax + 136 + 8*\n], rcx
    .endr
    mov edx, [rsp + 16]
    cmp edx, 1
    je 1f
    ja 2f
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movups [rax + 320 + 64*\n], xmm\n
    .endr
    jmp 3f
1:  .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vmovups [rax + 320 + 64*\n], ymm\n
    .endr
    vzeroupper
    jmp 3f
2:  .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    vmovups [rax + 320 + 64*\n], zmm\n
    .endr
    .irp n, 0,1,2,3,4,5,6,7
    kmovq [rax + 256 + 8*\n], k\n
    .endr
    vzeroupper
3:  add rsp, 40
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret
"#
);

unsafe extern "C" {
    fn race_probe(before: *const State, after: *mut State, level: u32);
}

/// Loads `before`, calls what r15 points to, and stores what there is then.
pub fn call(before: &State, after: &mut State, level: u32) {
    unsafe { race_probe(before, after, level) }
}
