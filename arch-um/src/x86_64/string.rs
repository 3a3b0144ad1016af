//! The memory functions that compilers call. These replace libc's in the whole
//! program, because libc's use vector registers that may hold a guest's state
//! while kernel code runs: here only general registers and xmm0 to xmm3 change.

core::arch::global_asm!(
    r#"
    .text
    .macro lodger_function name
    .p2align 5
    .globl \name
    .type \name,@function
\name:
    .cfi_startproc
    .endm
    .macro lodger_end name
    .cfi_endproc
    .size \name, . - \name
    .endm

lodger_function memcpy
    mov rax, rdi
    cmp rdx, 16
    jb 2f
    cmp rdx, 32
    ja 1f
    movups xmm0, [rsi]
    movups xmm1, [rsi + rdx - 16]
    movups [rdi], xmm0
    movups [rdi + rdx - 16], xmm1
    ret
1:  cmp rdx, 64
    ja 5f
    movups xmm0, [rsi]
    movups xmm1, [rsi + 16]
    movups xmm2, [rsi + rdx - 32]
    movups xmm3, [rsi + rdx - 16]
    movups [rdi], xmm0
    movups [rdi + 16], xmm1
    movups [rdi + rdx - 32], xmm2
    movups [rdi + rdx - 16], xmm3
    ret
2:  cmp edx, 8
    jb 3f
    mov rcx, [rsi]
    mov r8, [rsi + rdx - 8]
    mov [rdi], rcx
    mov [rdi + rdx - 8], r8
    ret
3:  cmp edx, 4
    jb 4f
    mov ecx, [rsi]
    mov r8d, [rsi + rdx - 4]
    mov [rdi], ecx
    mov [rdi + rdx - 4], r8d
    ret
4:  test edx, edx
    jz 6f
    movzx ecx, byte ptr [rsi]
    movzx r8d, byte ptr [rsi + rdx - 1]
    mov [rdi], cl
    mov [rdi + rdx - 1], r8b
    cmp edx, 3
    jne 6f
    movzx ecx, byte ptr [rsi + 1]
    mov [rdi + 1], cl
6:  ret
5:  mov rcx, rdx
    rep movsb
    ret
lodger_end memcpy

lodger_function memmove
    mov rax, rdi
    mov rcx, rdi
    sub rcx, rsi
    cmp rcx, rdx
    jae memcpy
    # The target starts inside the source: from the end.
    mov rcx, rdx
1:  cmp rcx, 16
    jb 2f
    movups xmm0, [rsi + rcx - 16]
    movups [rdi + rcx - 16], xmm0
    sub rcx, 16
    jmp 1b
2:  test rcx, rcx
    jz 4f
3:  movzx edx, byte ptr [rsi + rcx - 1]
    mov [rdi + rcx - 1], dl
    dec rcx
    jnz 3b
4:  ret
lodger_end memmove

lodger_function memset
    mov r8, rdi
    movzx eax, sil
    cmp rdx, 16
    jb 2f
    cmp rdx, 64
    ja 1f
    movd xmm0, eax
    punpcklbw xmm0, xmm0
    pshuflw xmm0, xmm0, 0
    punpcklqdq xmm0, xmm0
    movups [rdi], xmm0
    movups [rdi + rdx - 16], xmm0
    cmp rdx, 32
    jbe 3f
    movups [rdi + 16], xmm0
    movups [rdi + rdx - 32], xmm0
3:  mov rax, r8
    ret
2:  mov rcx, rdx
    test rcx, rcx
    jz 3b
4:  mov [rdi + rcx - 1], al
    dec rcx
    jnz 4b
    mov rax, r8
    ret
1:  cmp rdx, 1024
    ja 6f
    movd xmm0, eax
    punpcklbw xmm0, xmm0
    pshuflw xmm0, xmm0, 0
    punpcklqdq xmm0, xmm0
    lea rcx, [rdi + rdx - 64]
5:  movups [rdi], xmm0
    movups [rdi + 16], xmm0
    movups [rdi + 32], xmm0
    movups [rdi + 48], xmm0
    add rdi, 64
    cmp rdi, rcx
    jb 5b
    movups [rcx], xmm0
    movups [rcx + 16], xmm0
    movups [rcx + 32], xmm0
    movups [rcx + 48], xmm0
    mov rax, r8
    ret
6:  mov rcx, rdx
    rep stosb
    mov rax, r8
    ret
lodger_end memset

lodger_function bcmp
    jmp memcmp
lodger_end bcmp

lodger_function memcmp
    xor ecx, ecx
    mov r9, rdx
    sub r9, 8
    jb 2f
1:  mov rax, [rdi + rcx]
    mov r8, [rsi + rcx]
    cmp rax, r8
    jne 4f
    add rcx, 8
    cmp rcx, r9
    jbe 1b
2:  cmp rcx, rdx
    jae 3f
    movzx eax, byte ptr [rdi + rcx]
    movzx r8d, byte ptr [rsi + rcx]
    inc rcx
    sub eax, r8d
    jz 2b
    ret
3:  xor eax, eax
    ret
4:  bswap rax
    bswap r8
    cmp rax, r8
    sbb eax, eax
    or eax, 1
    ret
lodger_end memcmp
"#
);

/// Called once, so that the linker takes this module's functions.
pub(crate) fn link() {}
