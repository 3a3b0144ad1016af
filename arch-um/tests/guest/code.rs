//! Guest code of the tests, position-independent.

use std::arch::global_asm;

macro_rules! code {
    ($($(#[doc = $doc:literal])* $name:ident: $text:literal;)*) => {
        $(
            global_asm!(concat!(
                ".pushsection .rodata.guest,\"a\"\n",
                ".globl guest_", stringify!($name), "\n",
                ".globl guest_", stringify!($name), "_end\n",
                "guest_", stringify!($name), ":\n", $text,
                "\nguest_", stringify!($name), "_end:\n.popsection"
            ));
            $(#[doc = $doc])*
            #[allow(dead_code, reason = "not every user of this file runs everything")]
            pub fn $name() -> &'static [u8] {
                unsafe extern "C" {
                    #[link_name = concat!("guest_", stringify!($name))]
                    static FROM: u8;
                    #[link_name = concat!("guest_", stringify!($name), "_end")]
                    static TO: u8;
                }
                let from = &raw const FROM;
                let len = (&raw const TO).addr() - from.addr();
                // SAFETY: the bytes between the two labels.
                unsafe { std::slice::from_raw_parts(from, len) }
            }
        )*
    };
}

code! {
    /// System calls for ever.
    syscalls: "1: mov eax, 39\n syscall\n jmp 1b";
    /// Nothing, for ever.
    spin: "1: jmp 1b";
    /// A system call of 32-bit programs.
    int80: "mov eax, 20\n int 0x80\n mov ebx, eax\n mov eax, 39\n syscall";
    /// A system call, then each kind of exception; the kernel steps over.
    exceptions: "ud2\n int3\n xor ecx, ecx\n xor edx, edx\n mov eax, 1\n div ecx\n mov rax, 0x1234567890abcdef\n mov rax, [rax]\n hlt";
    /// Reads, writes, jumps to where rdi points.
    faults: "mov rax, [rdi]\n mov [rdi], rax\n jmp rdi";
    /// Stores 64-bit counter to [rdi] for ever.
    count: "1: inc rax\n mov [rdi], rax\n jmp 1b";
    /// Adds 1 to [rdi] until stopped, reading [rsi] each time.
    count_and_read: "1: lock inc qword ptr [rdi]\n mov rax, [rsi]\n jmp 1b";
    /// Loads xmm/ymm/x87 from rdi, calls, compares: rbx counts errors.
    vectors: "
        xor ebx, ebx
        movq xmm0, rdi
        movq xmm15, rdi
        mov [rsp - 8], rdi
        fninit
        fild qword ptr [rsp - 8]
        1: mov eax, 39
        syscall
        movq rax, xmm0
        cmp rax, rdi
        je 2f
        inc rbx
        2: movq rax, xmm15
        cmp rax, rdi
        je 3f
        inc rbx
        3: fld st(0)
        fistp qword ptr [rsp - 16]
        cmp [rsp - 16], rdi
        je 4f
        inc rbx
        4: jmp 1b";
    /// The same with the upper halves of ymm.
    avx: "
        xor ebx, ebx
        vmovq xmm1, rdi
        vpbroadcastq ymm3, xmm1
        1: mov eax, 39
        syscall
        vextracti128 xmm2, ymm3, 1
        vpextrq rax, xmm2, 1
        cmp rax, rdi
        je 1b
        inc rbx
        jmp 1b";
    /// Does the vector state look fresh? rbx = errors.
    fresh: "
        xor ebx, ebx
        stmxcsr [rsp - 8]
        cmp dword ptr [rsp - 8], 0x1f80
        je 2f
        inc ebx
        2: fnstcw [rsp - 8]
        cmp word ptr [rsp - 8], 0x37f
        je 3f
        inc ebx
        3: movq rax, xmm15
        test rax, rax
        jz 4f
        inc ebx
        4: vextracti128 xmm2, ymm3, 1
        vpextrq rax, xmm2, 1
        test rax, rax
        jz 5f
        inc ebx
        5: mov eax, 39
        syscall";
    /// Reads fs:0 and gs:0 into rbx and rdx, then changes both bases.
    segments: "
        1: mov rbx, fs:0
        mov rdx, gs:0
        mov eax, 39
        syscall
        wrfsbase rsi
        wrgsbase rsi
        jmp 1b";
    /// A thousand times rdi(CLOCK_MONOTONIC, stack), then a system call.
    clock_loop: "
        mov r13, rdi
        1: mov r12d, 1000
        2: mov edi, 1
        lea rsi, [rsp - 64]
        sub rsp, 128
        lea rsi, [rsp + 64]
        call r13
        add rsp, 128
        dec r12d
        jnz 2b
        mov eax, 39
        syscall
        jmp 1b";
    /// Calls rdi(rsi, rsp + 8) once, times in rbx (seconds) and rdx (nanoseconds).
    clock_once: "
        mov rax, rdi
        mov rdi, rsi
        sub rsp, 24
        mov rsi, rsp
        call rax
        mov rbx, [rsp]
        mov rdx, [rsp + 8]
        mov rsi, rax
        add rsp, 24
        mov eax, 39
        syscall";
    /// Jumps to rax with everything else as the kernel has set it.
    jump: "jmp rax";
    /// Writes rsi to [rdi] for ever.
    scribble: "1: mov [rdi], rsi\n jmp 1b";
    /// Copies [rsi] to [rdi] (and, if edx, to [r8]), jumps to rax.
    spoil: "mov ecx, [rsi]\n mov [rdi], ecx\n test edx, edx\n jz 1f\n mov [r8], rcx\n 1: jmp rax";
    /// Counts in [rdi], and copies [rsi] to [r8], for ever.
    count_and_forge: "1: lock inc qword ptr [rdi]\n mov eax, [rsi]\n mov [r8], eax\n jmp 1b";
}
