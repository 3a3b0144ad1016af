//! The engine `kml`: the way into guest code and back, in assembly; [`signal`]: the
//! handler of all signals of a user process; [`vectors`]: the vector registers.
//!
//! A thread's block ([`Block`]) starts with the words that the code below uses.
//! While guest code runs, the GS base points to it. A trap of any kind puts the
//! registers into the [`hal::UserContext`] and makes [`enter`] return, if it is not a system call after which
//! guest code goes on.
//!
//! - A rewritten call site jumps to `entry` with the return address in rcx. The call is carried out from
//!   there, below [`enter`], and not after its return: so each return goes where the CPU expects it.
//! - A signal that finds guest code copies the registers out of the host's frame,
//!   aims the frame at `resume` and returns, so that kernel code never runs in
//!   signal context.
//! - An interrupt that finds the way out (`exit_begin` to `exit_end`) aims it at
//!   `resume_unsaved`: nothing was lost, all registers are still in the context.
//! - A fault of [`copy`] on guest memory makes it return.
//! - A fault of other kernel code is reported on its own stack ([`Block::on_fault`]).
//! - An interrupt that finds other code of the kernel changes nothing: the kernel looks
//!   at the pending bits before it enters guest code again. A trampoline is guest code.

mod signal;
pub(crate) mod vectors;

pub(crate) use signal::on_signal;

use super::frame;
use super::patch::Room;
use super::regs::*;
use core::arch::{asm, global_asm};
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, compiler_fence};
use hal::cpu::CpuBlock;
use hal::{UserContext, UserRegs};

/// Size and alignment of a [`Block`] with its stacks.
pub(crate) const BLOCK_SIZE: usize = 0x2_0000;
/// XSAVE area in the block.
pub(crate) const XSAVE: usize = 0x1000;
/// Bytes of the XSAVE area.
pub(crate) const XSAVE_LEN: usize = 0x4000;
/// End of the stack that the thread waits on.
pub(crate) const PARK_TOP: usize = 0xa000;
/// Alternate signal stack: from here to the end.
pub(crate) const ALT_STACK: usize = 0xa000;

/// How [`enter`] leaves the kernel.
pub(crate) mod exit {
    /// rcx and r11 are as a system call leaves them.
    pub(crate) const CALL: u32 = 0;
    /// All registers.
    pub(crate) const FULL: u32 = 1;
    /// All registers through a signal frame: trap flag, GS base.
    pub(crate) const FRAME: u32 = 2;
}

/// Why [`enter`] returned.
pub(crate) mod cause {
    /// A system call: carried out, unless a signal has brought it.
    pub(crate) const CALL: u32 = 0;
    /// A signal: see [`super::Block::sig`].
    pub(crate) const SIGNAL: u32 = 1;
    /// An interrupt is pending.
    pub(crate) const INTERRUPT: u32 = 2;
}

/// Reports a fault of kernel code: signal, address.
pub(crate) type Reporter = extern "C" fn(&'static Block, i32, u64) -> !;

/// One stay of a thread in guest code, as the code below knows it.
#[repr(C)]
pub(crate) struct Stay {
    block: &'static Block,
    gp: *mut u64,
    pending: *const AtomicU32,
    /// Carries out a system call. Gives where guest code goes on in this stay, on this thread, as system calls return; 0: [`enter`] returns.
    carry_out: CarryOut,
}

/// See [`Stay`].
pub(crate) type CarryOut = unsafe extern "C" fn(*mut Stay, &UserRegs) -> u64;

impl Stay {
    /// On the thread of block `b`, with the registers `cx`.
    pub(crate) fn new(b: &'static Block, cx: *mut UserContext, carry_out: CarryOut) -> Stay {
        Stay {
            block: b,
            // The general registers come first.
            gp: cx.cast(),
            pending: &raw const b.cpu.pending,
            carry_out,
        }
    }
    /// Whether the guest single-steps, and has come into the kernel.
    pub(crate) fn is_stepped(&self) -> bool {
        self.block.stepped.load(Relaxed)
    }
}

/// What a signal frame told about a trap.
#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
pub(crate) struct Sig {
    pub(crate) signo: i32,
    pub(crate) code: i32,
    pub(crate) vector: u64,
    pub(crate) error: u64,
    pub(crate) cr2: u64,
    pub(crate) addr: u64,
    pub(crate) what: u64,
}

impl Sig {
    /// Whether code was to be fetched from where there is none.
    pub(crate) fn is_fetch(&self) -> bool {
        self.signo == libc::SIGSEGV && self.error & 16 != 0
    }
    /// Whether the CPU knows no such instruction.
    pub(crate) fn is_invalid_instruction(&self) -> bool {
        self.signo == libc::SIGILL && self.code > 0 && self.vector == 6
    }
}

/// What user processes and the kernel know of one host thread.
#[repr(C, align(64))]
pub(crate) struct Block {
    this: u64,
    ksp: u64,
    cx: u64,
    exit_rip: u64,
    entry: u64,
    /// The [`Stay`] that guest code runs in.
    stay: u64,
    pad: [u64; 2],
    xmm: [u8; 256],
    /// The trap, if [`enter`] returned [`cause::SIGNAL`].
    pub(crate) sig: Sig,
    /// Counts when a signal has found this thread in guest code outside of all trampolines, or on the way there.
    pub(crate) met: AtomicU32,
    /// The guest single-steps and was met on its way into the kernel.
    pub(crate) stepped: AtomicBool,
    /// See [`Block::set_in_call`].
    in_call: AtomicBool,
    /// Stack pointer of the kernel context that this thread is to continue.
    pub(crate) handed: AtomicU64,
    /// 1: continue it.
    /// Whether there is one.
    pub(crate) go: AtomicU32,
    /// FS base that libc has given the thread's process.
    host_fs: AtomicU64,
    host_fs_set: AtomicBool,
    /// The pending word of the vCPU.
    pub(crate) cpu: &'static CpuBlock,
    /// Called for SIGALRM, in signal context.
    pub(crate) on_alarm: fn(&'static Block),
    /// Called for a fault of kernel code (signal, address), in signal context. Gives the function that
    /// reports it, to be called on the kernel stack as if by the code at fault.
    pub(crate) on_fault: fn(&'static Block, i32, u64) -> Reporter,
    /// Where trampolines are in the thread's process.
    pub(crate) room: &'static Room,
    /// The engine's own.
    pub(crate) owner: *const (),
}

// SAFETY: words of the thread itself, atomics, and what never changes.
unsafe impl Sync for Block {}
// SAFETY: as above.
unsafe impl Send for Block {}

impl Block {
    /// Makes the block at `at`.
    ///
    /// # Safety
    /// [`BLOCK_SIZE`] zeroed bytes, so aligned, that live for ever.
    pub(crate) unsafe fn make(
        at: usize,
        cpu: &'static CpuBlock,
        on_alarm: fn(&'static Block),
        on_fault: fn(&'static Block, i32, u64) -> Reporter,
        room: &'static Room,
        owner: *const (),
    ) -> &'static Block {
        let p: *mut Block = core::ptr::with_exposed_provenance_mut(at);
        // SAFETY: the caller's promise.
        unsafe {
            p.write(Block {
                this: at as u64,
                ksp: 0,
                cx: 0,
                exit_rip: 0,
                entry: (&raw const lodger_kml_entry).addr() as u64,
                stay: 0,
                pad: [0; 2],
                xmm: [0; 256],
                sig: Sig::default(),
                met: AtomicU32::new(0),
                stepped: AtomicBool::new(false),
                in_call: AtomicBool::new(false),
                handed: AtomicU64::new(0),
                go: AtomicU32::new(0),
                host_fs: AtomicU64::new(fs_base()),
                host_fs_set: AtomicBool::new(false),
                cpu,
                on_alarm,
                on_fault,
                room,
                owner,
            });
            &*p
        }
    }
    /// Says whether a kick that finds kernel code on this thread, with the vCPU's mode still USER, may set that to KERNEL:
    /// nothing that waits for the mode is being done. On the block's thread only.
    #[inline]
    pub(crate) fn set_in_call(&self, on: bool) {
        compiler_fence(SeqCst);
        self.in_call.store(on, Relaxed);
        compiler_fence(SeqCst);
    }
    /// See [`Block::set_in_call`].
    pub(crate) fn is_in_call(&self) -> bool {
        self.in_call.load(Relaxed)
    }
    /// Notes the FS base that libc uses in this process.
    pub(crate) fn set_host_fs(&self) {
        self.host_fs.store(fs_base(), Relaxed);
    }
    /// Whether the words are there that nobody changes.
    pub(crate) fn is_intact(&self) -> bool {
        self.at() == core::ptr::from_ref(self).addr()
            && self.entry == (&raw const lodger_kml_entry).addr() as u64
    }
    /// The guest's xmm registers while kernel code runs. On the block's thread only.
    pub(crate) fn xmm(&self) -> &[u8; 256] {
        &self.xmm
    }
    /// Address of the block.
    pub(crate) fn at(&self) -> usize {
        self.this as usize
    }
}

global_asm!(
    r#"
    .text
    .irp name, entry, enter, resume, resume_unsaved, exit_begin, exit_end, frame_exit, hop, start_thread, restore, restorer, copy, copy_end, copy_failed, crashed
    .globl lodger_kml_\name
    .hidden lodger_kml_\name
    .endr

    .macro save_xmm
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movups gs:[64 + 16*\n], xmm\n
    .endr
    .endm

    .p2align 6
# From a rewritten site: rcx = return address, everything else the guest's.
lodger_kml_entry:
    .cfi_startproc
    # Of the frame that `enter` has left.
    .cfi_def_cfa rsp, 64
    .cfi_offset rbp, -16
    .cfi_offset rbx, -24
    .cfi_offset r12, -32
    .cfi_offset r13, -40
    .cfi_offset r14, -48
    .cfi_offset r15, -56
    mov r11, gs:[16]
    mov [r11 + 8*{RSP}], rsp
    mov rsp, gs:[8]
    pushfq
    cld
    mov [r11 + 8*{ORIG_RAX}], rax
    mov [r11 + 8*{RCX}], rcx
    mov [r11 + 8*{RIP}], rcx
    mov [r11 + 8*{RDI}], rdi
    mov [r11 + 8*{RSI}], rsi
    mov [r11 + 8*{RDX}], rdx
    mov [r11 + 8*{R10}], r10
    mov [r11 + 8*{R8}], r8
    mov [r11 + 8*{R9}], r9
    mov [r11 + 8*{RBX}], rbx
    mov [r11 + 8*{RBP}], rbp
    mov [r11 + 8*{R12}], r12
    mov [r11 + 8*{R13}], r13
    mov [r11 + 8*{R14}], r14
    mov [r11 + 8*{R15}], r15
    pop rax
    mov [r11 + 8*{EFLAGS}], rax
    mov [r11 + 8*{R11}], rax
    save_xmm
    mov rbx, gs:[40]
    mov rdi, rbx
    mov rsi, r11
    call [rbx + 24]
    test rax, rax
    jz lodger_kml_resume_unsaved
    # As `enter` has left it, but for where to go.
    mov rdi, [rbx]
    mov rsi, [rbx + 8]
    mov rcx, [rbx + 16]
    mov [rdi + 24], rax
    xor edx, edx
    jmp lodger_kml_exit_begin
    .cfi_endproc
# From a signal handler: rax = cause, rsp = the kernel's, vector state the guest's.
lodger_kml_resume:
    save_xmm
lodger_kml_resume_unsaved:
    pop rdi
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret

    .p2align 6
# enter(rdi = stay, esi = way, rdx = where to go)
lodger_kml_enter:
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
    push rdi
    mov r8, rdx
    mov r9, rdi
    mov edx, esi
    mov rsi, [rdi + 8]
    mov rcx, [rdi + 16]
    mov rdi, [rdi]
    mov [rdi + 40], r9
    mov [rdi + 8], rsp
    mov [rdi + 16], rsi
    mov [rdi + 24], r8
lodger_kml_exit_begin:
    mov eax, 2
    cmp dword ptr [rcx], 0
    jne lodger_kml_resume_unsaved
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movups xmm\n, [rdi + 64 + 16*\n]
    .endr
    mov r11, rsi
    cmp edx, 2
    je lodger_kml_frame_exit
    mov rax, [r11 + 8*{EFLAGS}]
    test edx, edx
    jnz 1f
    test eax, 0x40400
    jnz 1f
    # Carry, parity, adjust, zero, sign; overflow by an addition.
    mov ecx, eax
    shr ecx, 11
    and ecx, 1
    mov ah, al
    mov al, cl
    add al, 0x7f
    sahf
    jmp 2f
1:  push rax
    popfq
2:  mov rax, [r11 + 8*{RAX}]
    mov rcx, [r11 + 8*{RCX}]
    mov rdi, [r11 + 8*{RDI}]
    mov rsi, [r11 + 8*{RSI}]
    mov r10, [r11 + 8*{R10}]
    mov r8, [r11 + 8*{R8}]
    mov r9, [r11 + 8*{R9}]
    mov rbx, [r11 + 8*{RBX}]
    mov rbp, [r11 + 8*{RBP}]
    mov r12, [r11 + 8*{R12}]
    mov r13, [r11 + 8*{R13}]
    mov r14, [r11 + 8*{R14}]
    mov r15, [r11 + 8*{R15}]
    mov rdx, [r11 + 8*{RDX}]
    mov rsp, [r11 + 8*{RSP}]
    mov r11, [r11 + 8*{R11}]
    jmp gs:[24]
lodger_kml_frame_exit:
    ud2
lodger_kml_exit_end:

    .p2align 4
# hop(rdi = where to save the stack pointer, rsi = stack to go on with, rdx = function, rcx, r8 = its arguments)
lodger_kml_hop:
    .cfi_startproc
    push rbp
    .cfi_adjust_cfa_offset 8
    push rbx
    .cfi_adjust_cfa_offset 8
    push r12
    .cfi_adjust_cfa_offset 8
    push r13
    .cfi_adjust_cfa_offset 8
    push r14
    .cfi_adjust_cfa_offset 8
    push r15
    .cfi_adjust_cfa_offset 8
    mov [rdi], rsp
    mov rsp, rsi
    mov rdi, rcx
    mov rsi, r8
    xor ebp, ebp
    call rdx
    ud2
    .cfi_endproc

    .p2align 5
# copy(rdi = to, rsi = from, rdx = number of bytes): 1, or 0 if a page is not there.
lodger_kml_copy:
    mov rcx, rdx
    cmp rdx, 64
    jae 4f
    shr rcx, 3
    jz 2f
1:  mov rax, [rsi]
    mov [rdi], rax
    add rsi, 8
    add rdi, 8
    dec rcx
    jnz 1b
2:  and edx, 7
    jz 5f
3:  mov al, [rsi]
    mov [rdi], al
    inc rsi
    inc rdi
    dec edx
    jnz 3b
    jmp 5f
4:  rep movsb
5:  mov eax, 1
    ret
lodger_kml_copy_end:
lodger_kml_copy_failed:
    xor eax, eax
    ret

    .p2align 4
# As if called by code that has faulted, at any place: rdi, rsi, rdx are for the function in rcx.
lodger_kml_crashed:
    .cfi_startproc
    push rbp
    .cfi_adjust_cfa_offset 8
    mov rbp, rsp
    .cfi_def_cfa_register rbp
    and rsp, -16
    call rcx
    ud2
    .cfi_endproc

    .p2align 4
lodger_kml_restorer:
    mov eax, 15                     # rt_sigreturn
    syscall
    ud2

    .p2align 4
# Continues the context saved by hop: rdi = its stack pointer.
lodger_kml_restore:
    mov rsp, rdi
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret

    .p2align 4
# start_thread(rdi = flags, rsi = top of its stack, rdx = where to note its number, rcx = function, r8 = argument)
lodger_kml_start_thread:
    mov r9, rcx
    sub rsi, 16
    mov r10, 0
    mov [rsi], r9
    mov [rsi + 8], r8
    mov r8, 0
    mov eax, 56
    syscall
    test rax, rax
    jz 1f
    ret
1:  xor ebp, ebp
    pop rax
    pop rdi
    call rax
    ud2
"#,
    RDI = const RDI,
    RSI = const RSI,
    RDX = const RDX,
    R10 = const R10,
    R8 = const R8,
    R9 = const R9,
    ORIG_RAX = const ORIG_RAX,
    RAX = const RAX,
    RIP = const RIP,
    RCX = const RCX,
    EFLAGS = const EFLAGS,
    R11 = const R11,
    RSP = const RSP,
    RBP = const RBP,
    RBX = const RBX,
    R12 = const R12,
    R13 = const R13,
    R14 = const R14,
    R15 = const R15,
);

#[expect(improper_ctypes, reason = "the assembly passes addresses on")]
unsafe extern "C" {
    static lodger_kml_entry: u8;
    static lodger_kml_resume: u8;
    static lodger_kml_resume_unsaved: u8;
    static lodger_kml_exit_begin: u8;
    static lodger_kml_exit_end: u8;
    static lodger_kml_frame_exit: u8;
    static lodger_kml_restorer: u8;
    static lodger_kml_crashed: u8;
    static lodger_kml_copy_end: u8;
    static lodger_kml_copy_failed: u8;
    fn lodger_kml_copy(to: usize, from: usize, len: usize) -> u32;
    fn lodger_kml_enter(stay: *mut Stay, way: u32, to: u64) -> u32;
    fn lodger_kml_hop(
        save: *mut u64,
        stack: u64,
        f: extern "C" fn(&'static Block, &'static Block) -> !,
        a: &'static Block,
        b: &'static Block,
    );
    fn lodger_kml_restore(sp: u64) -> !;
    fn lodger_kml_start_thread(
        flags: u64,
        stack: u64,
        tid: *mut i32,
        f: extern "C" fn(&'static Block) -> !,
        arg: &'static Block,
    ) -> isize;
}

/// Copies `len` bytes. False: a page of guest memory is not there, or not with these rights;
/// some bytes may have been copied.
///
/// # Safety
/// One of `to` and `from` is guest memory, below [`hal::USER_END`], the other the kernel's own, which it may access.
pub(crate) unsafe fn copy(to: usize, from: usize, len: usize) -> bool {
    // SAFETY: the caller's promise; `on_signal` ends the copy at a fault.
    unsafe { lodger_kml_copy(to, from, len) != 0 }
}

/// Address of the code that returns from a signal.
pub(crate) fn restorer() -> u64 {
    (&raw const lodger_kml_restorer).addr() as u64
}

/// FS base of this thread.
pub(crate) fn fs_base() -> u64 {
    let v;
    // SAFETY: reads a register; the engine's start has checked that it may.
    unsafe { asm!("rdfsbase {}", out(reg) v, options(nomem, nostack, preserves_flags)) };
    v
}

/// Sets the FS base of this thread.
pub(crate) fn set_fs_base(v: u64) {
    // SAFETY: kernel code does not use FS; `v` is canonical.
    unsafe { asm!("wrfsbase {}", in(reg) v, options(nomem, nostack, preserves_flags)) };
}

fn gs_base() -> u64 {
    let v;
    // SAFETY: as in `fs_base`.
    unsafe { asm!("rdgsbase {}", out(reg) v, options(nomem, nostack, preserves_flags)) };
    v
}

/// Sets the GS base of this thread.
pub(crate) fn set_gs_base(v: u64) {
    // SAFETY: only this module's assembly uses GS; `v` is canonical.
    unsafe { asm!("wrgsbase {}", in(reg) v, options(nomem, nostack, preserves_flags)) };
}

/// Runs guest code from `to` on, with its other registers, until it traps. Gives the [`cause`].
///
/// # Safety
/// On the thread of the stay's block, in the address space; the live vector state and FS base are the guest's. Until it returns
/// nobody has a reference to the registers or the stay but `carry_out`, while that runs.
pub(crate) unsafe fn enter(stay: *mut Stay, way: u32, to: u64) -> u32 {
    // SAFETY: the caller's promise.
    unsafe {
        let cx: *const UserContext = (*stay).gp.cast();
        if way == exit::FRAME {
            set_gs_base(clean_base((*cx).gp[GS_BASE]));
        }
        lodger_kml_enter(stay, way, to)
    }
}

/// Leaves the running kernel context to thread `to`, and this thread to `f`.
///
/// # Safety
/// `from` is this thread's block, `to` that of a thread that waits.
pub(crate) unsafe fn hop(
    from: &'static Block,
    to: &'static Block,
    f: extern "C" fn(&'static Block, &'static Block) -> !,
) {
    let stack = (from.at() + PARK_TOP) as u64;
    // SAFETY: the caller's promise: nothing else is on the thread's own stack.
    unsafe { lodger_kml_hop(to.handed.as_ptr(), stack, f, from, to) }
}

/// Continues the context that was handed to this thread.
pub(crate) fn continue_handed(b: &'static Block) -> ! {
    // SAFETY: saved by `hop`, continued once, by the one thread that it was handed to.
    unsafe { lodger_kml_restore(b.handed.load(SeqCst)) }
}

/// Makes a host thread of this process that runs `f` on the block's own stack. The host's error number if refused.
pub(crate) fn start_thread(
    b: &'static Block,
    tid: &'static core::sync::atomic::AtomicI32,
    f: extern "C" fn(&'static Block) -> !,
) -> isize {
    let flags = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM
        | libc::CLONE_PARENT_SETTID;
    let stack = (b.at() + PARK_TOP) as u64;
    // SAFETY: the stack is the new thread's alone; `f` never returns.
    unsafe { lodger_kml_start_thread(flags as u64, stack, tid.as_ptr(), f, b) }
}

/// What `sig` means for the task with the registers `cx`.
pub(crate) fn trap_of(sig: &Sig, cx: &mut UserContext) -> hal::Trap {
    frame::decode(sig, cx)
}
