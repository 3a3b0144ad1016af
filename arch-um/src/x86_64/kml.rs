//! The engine `kml`: the way into guest code and back, in assembly, and the
//! handler of all signals of a user process.
//!
//! A thread's block ([`Block`]) starts with the words that the code below uses.
//! While guest code runs, the GS base points to it. A trap of any kind puts the
//! registers into the [`hal::UserContext`] and makes [`enter`] return.
//!
//! - A rewritten call site jumps to `entry` with the return address in rcx.
//! - A signal that finds guest code copies the registers out of the host's frame,
//!   aims the frame at `resume` and returns, so that kernel code never runs in
//!   signal context.
//! - An interrupt that finds the way out (`exit_begin` to `exit_end`) aims it at
//!   `resume_unsaved`: nothing was lost, all registers are still in the context.
//! - A fault of [`copy`] on guest memory makes it return.
//! - An interrupt that finds other code of the kernel changes nothing: the kernel looks
//!   at the pending bits before it enters guest code again. A trampoline is guest code.

use super::frame;
use super::patch::{self, REACH, Room};
use super::regs::*;
use core::arch::{asm, global_asm};
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use hal::cpu::CpuBlock;
use hal::{USER_END, UserContext};

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
    /// A system call through a rewritten site.
    pub(crate) const CALL: u32 = 0;
    /// A signal: see [`super::Block::sig`].
    pub(crate) const SIGNAL: u32 = 1;
    /// An interrupt is pending.
    pub(crate) const INTERRUPT: u32 = 2;
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
    pad: [u64; 3],
    xmm: [u8; 256],
    /// The trap, if [`enter`] returned [`cause::SIGNAL`].
    pub(crate) sig: Sig,
    /// Counts when a signal has found this thread in guest code outside of all trampolines, or on the way there.
    pub(crate) met: AtomicU32,
    /// The guest single-steps and was met on its way into the kernel.
    pub(crate) stepped: AtomicBool,
    /// Stack pointer of the kernel context that this thread is to continue.
    pub(crate) handed: AtomicU64,
    /// 1: continue it.
    pub(crate) go: AtomicU32,
    /// FS base that libc has given the thread's process.
    host_fs: AtomicU64,
    host_fs_set: AtomicBool,
    /// The pending word of the vCPU.
    pub(crate) cpu: &'static CpuBlock,
    /// Called for SIGALRM, in signal context.
    pub(crate) on_alarm: fn(&'static Block),
    /// Called for a fault of kernel code, in signal context. Does not return.
    pub(crate) on_fault: fn(&'static Block, i32, u64, u64, u64) -> !,
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
        on_fault: fn(&'static Block, i32, u64, u64, u64) -> !,
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
                pad: [0; 3],
                xmm: [0; 256],
                sig: Sig::default(),
                met: AtomicU32::new(0),
                stepped: AtomicBool::new(false),
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
    /// Notes the FS base that libc uses in this process.
    pub(crate) fn set_host_fs(&self) {
        self.host_fs.store(fs_base(), Relaxed);
    }
    /// Address of the block.
    pub(crate) fn at(&self) -> usize {
        self.this as usize
    }
}

global_asm!(
    r#"
    .text
    .irp name, entry, enter, resume, resume_unsaved, exit_begin, exit_end, frame_exit, hop, start_thread, restore, restorer, copy, copy_end, copy_failed
    .globl lodger_kml_\name
    .hidden lodger_kml_\name
    .endr

    .p2align 6
# From a rewritten site: rcx = return address, everything else the guest's.
lodger_kml_entry:
    mov r11, gs:[16]
    mov [r11 + 8*19], rsp
    mov rsp, gs:[8]
    pushfq
    cld
    mov [r11 + 8*10], rax
    mov [r11 + 8*15], rax
    mov [r11 + 8*11], rcx
    mov [r11 + 8*16], rcx
    mov [r11 + 8*14], rdi
    mov [r11 + 8*13], rsi
    mov [r11 + 8*12], rdx
    mov [r11 + 8*7], r10
    mov [r11 + 8*9], r8
    mov [r11 + 8*8], r9
    mov [r11 + 8*5], rbx
    mov [r11 + 8*4], rbp
    mov [r11 + 8*3], r12
    mov [r11 + 8*2], r13
    mov [r11 + 8*1], r14
    mov [r11 + 8*0], r15
    rdfsbase rax
    mov [r11 + 8*21], rax
    pop rax
    mov [r11 + 8*18], rax
    mov [r11 + 8*6], rax
    xor eax, eax
# From a signal handler: rax = cause, rsp = the kernel's, vector state the guest's.
lodger_kml_resume:
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movups gs:[64 + 16*\n], xmm\n
    .endr
lodger_kml_resume_unsaved:
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret

    .p2align 6
# enter(rdi = block, rsi = registers, edx = way, rcx = pending word, r8 = where to)
lodger_kml_enter:
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
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
    mov rax, [r11 + 8*18]
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
2:  mov rax, [r11 + 8*10]
    mov rcx, [r11 + 8*11]
    mov rdi, [r11 + 8*14]
    mov rsi, [r11 + 8*13]
    mov r10, [r11 + 8*7]
    mov r8, [r11 + 8*9]
    mov r9, [r11 + 8*8]
    mov rbx, [r11 + 8*5]
    mov rbp, [r11 + 8*4]
    mov r12, [r11 + 8*3]
    mov r13, [r11 + 8*2]
    mov r14, [r11 + 8*1]
    mov r15, [r11 + 8*0]
    mov rdx, [r11 + 8*12]
    mov rsp, [r11 + 8*19]
    mov r11, [r11 + 8*6]
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
"#
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
    static lodger_kml_copy_end: u8;
    static lodger_kml_copy_failed: u8;
    fn lodger_kml_copy(to: usize, from: usize, len: usize) -> u32;
    fn lodger_kml_enter(
        block: *const Block,
        gp: *mut u64,
        way: u32,
        pending: *mut u32,
        to: u64,
    ) -> u32;
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
/// One of `to` and `from` is guest memory, below [`USER_END`], the other the kernel's own, which it may access.
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

fn set_fs_base(v: u64) {
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

/// Runs guest code with the registers `cx`, but from `to` on, until it traps. Gives the [`cause`].
///
/// # Safety
/// On a thread of the address space, whose block is `b`; the live vector state is the guest's.
pub(crate) unsafe fn enter(b: &'static Block, cx: &mut UserContext, way: u32, to: u64) -> u32 {
    let fs = clean_base(cx.gp[FS_BASE]);
    if fs_base() != fs {
        set_fs_base(fs);
    }
    if way == exit::FRAME {
        set_gs_base(clean_base(cx.gp[GS_BASE]));
    }
    // SAFETY: the caller's promise; registers and block outlive the call.
    unsafe { lodger_kml_enter(b, cx.gp.as_mut_ptr(), way, b.cpu.pending.as_ptr(), to) }
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

/// Which components of the vector state are not in their initial state. The CPU tells: see [`super::cpuid::tells_in_use`].
pub(crate) fn vectors_in_use() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the CPU has the instruction and this register of it.
    unsafe {
        asm!("xgetbv", in("ecx") 1, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags))
    };
    u64::from(low) | u64::from(high) << 32
}

/// Saves these components of the live vector state, xmm registers as they were at the trap, to `area`,
/// whose header says then which of them are not in their initial state.
///
/// # Safety
/// On the block's thread; `area` is aligned to 64 bytes, large enough, its header zero.
pub(crate) unsafe fn save_vectors(b: &Block, area: *mut u8, features: u64) {
    // SAFETY: the caller's promise; kernel code does not rely on vector registers across calls.
    unsafe {
        asm!(
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
            "movups xmm\\n, [{b} + 64 + 16*\\n]",
            ".endr",
            "xsave64 [{area}]",
            b = in(reg) b.at(), area = in(reg) area,
            in("eax") features as u32, in("edx") (features >> 32) as u32,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
            out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            options(nostack, preserves_flags)
        );
    }
}

/// Loads these components of the vector state in `area`.
///
/// # Safety
/// As [`save_vectors`]; the area holds a valid state.
pub(crate) unsafe fn load_vectors(b: &Block, area: *const u8, features: u64) {
    // SAFETY: as above.
    unsafe {
        asm!(
            "xrstor64 [{area}]",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
            "movups [{b} + 64 + 16*\\n], xmm\\n",
            ".endr",
            b = in(reg) b.at(), area = in(reg) area,
            in("eax") features as u32, in("edx") (features >> 32) as u32,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
            out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            options(nostack, preserves_flags)
        );
    }
}

/// The handler of all signals of a vCPU's threads. Signal context.
pub(crate) extern "C" fn on_signal(
    signo: i32,
    info: *mut libc::siginfo_t,
    context: *mut core::ffi::c_void,
) {
    let here = 0u8;
    let at = (&raw const here).addr() & !(BLOCK_SIZE - 1);
    let p: *mut Block = core::ptr::with_exposed_provenance_mut(at);
    // SAFETY: all threads with this handler have their alternate stack in
    // their block, so aligned. Only this thread touches its `sig`.
    let b: &'static Block = unsafe { &*p };
    // SAFETY: the host passes valid structures.
    let (regs, info_words) = unsafe {
        (
            &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs,
            &*info.cast::<[u64; 16]>(),
        )
    };
    let code = info_words[1] as i32;
    let rip = regs[libc::REG_RIP as usize] as u64;
    if signo == libc::SIGALRM && code == libc::SI_TIMER {
        (b.on_alarm)(b);
    }
    let addr_of = |label: *const u8| label.addr() as u64;
    let (begin, end) = (
        addr_of(&raw const lodger_kml_exit_begin),
        addr_of(&raw const lodger_kml_exit_end),
    );
    let frame_exit = addr_of(&raw const lodger_kml_frame_exit);
    let mut redirect = |label: *const u8, cause: u32| {
        regs[libc::REG_RIP as usize] = label.addr() as i64;
        regs[libc::REG_RSP as usize] = b.ksp as i64;
        regs[libc::REG_RAX as usize] = i64::from(cause);
        regs[libc::REG_EFL as usize] = FLAGS_FIXED as i64;
    };
    // SAFETY: while a thread is in or near guest code its block holds the
    // address of the task's registers.
    let gp: &mut [u64; 40] = unsafe { &mut *core::ptr::with_exposed_provenance_mut(b.cx as usize) };
    if signo == libc::SIGURG || signo == libc::SIGALRM {
        if rip < USER_END + REACH {
            // A trampoline is left at once: whoever waits for that counts on it.
            if b.cpu.pending.load(SeqCst) != 0 || b.room.contains(rip) {
                take_over(b, regs, gp);
                redirect_to(b, regs, &raw const lodger_kml_resume, cause::INTERRUPT);
            } else {
                b.met.fetch_add(1, SeqCst);
            }
        } else if (begin..end).contains(&rip) {
            if gs_base() != b.this {
                set_gs_base(b.this);
            }
            redirect(&raw const lodger_kml_resume_unsaved, cause::INTERRUPT);
            b.met.fetch_add(1, SeqCst);
        }
        return;
    }
    if rip == frame_exit && signo == libc::SIGILL {
        for (r, w) in FROM_FRAME {
            regs[r as usize] = gp[w] as i64;
        }
        regs[libc::REG_RIP as usize] = b.exit_rip as i64;
        regs[libc::REG_EFL as usize] = clean_flags(gp[EFLAGS]) as i64;
        return;
    }
    let entry = addr_of(&raw const lodger_kml_entry);
    // A jump of the guest's to where it has nothing shows as a fetch from there.
    let fetch = regs[libc::REG_ERR as usize] as u64 & 16 != 0
        && regs[libc::REG_CR2 as usize] as u64 == rip
        && signo == libc::SIGSEGV
        && b.cpu.mode.load(SeqCst) == hal::cpu::mode::USER;
    let in_guest = fetch || rip < USER_END + REACH;
    // SAFETY: guest code that has been fetched.
    let leaves = || unsafe { in_guest && !fetch && patch::leaves(rip) };
    if signo == libc::SIGSEGV && gs_base() != b.this && (rip == entry || leaves()) {
        // The guest has a GS base that the kernel has not seen yet: a call it is.
        take_over(b, regs, gp);
        gp[RIP] = gp[RCX];
        gp[R11] = gp[EFLAGS];
        gp[ORIG_RAX] = gp[RAX];
        redirect_to(b, regs, &raw const lodger_kml_resume, cause::CALL);
        return;
    }
    if signo == libc::SIGTRAP && (!in_guest || b.room.contains(rip)) {
        // Single steps on the way into the kernel or out of it.
        regs[libc::REG_EFL as usize] &= !(FLAG_TF as i64);
        b.stepped.store(true, Relaxed);
        return;
    }
    let copy = (lodger_kml_copy as *const ()).addr() as u64;
    if (copy..addr_of(&raw const lodger_kml_copy_end)).contains(&rip)
        && matches!(signo, libc::SIGSEGV | libc::SIGBUS)
        && info_words[2] < USER_END
    {
        regs[libc::REG_RIP as usize] = addr_of(&raw const lodger_kml_copy_failed) as i64;
        return;
    }
    if !in_guest {
        if !b.host_fs_set.swap(true, Relaxed) && fs_base() != b.host_fs.load(Relaxed) {
            // A report of a panic that looks for its thread: it goes on with libc's.
            set_fs_base(b.host_fs.load(Relaxed));
            return;
        }
        let (addr, sp) = (info_words[2], regs[libc::REG_RSP as usize] as u64);
        (b.on_fault)(b, signo, rip, addr, sp)
    }
    if code <= 0 {
        return;
    }
    take_over(b, regs, gp);
    let sig = Sig {
        signo,
        code,
        vector: regs[libc::REG_TRAPNO as usize] as u64,
        error: regs[libc::REG_ERR as usize] as u64,
        cr2: regs[libc::REG_CR2 as usize] as u64,
        addr: info_words[2],
        what: info_words[3],
    };
    // SAFETY: this thread's own; nobody borrows it while guest code runs.
    unsafe { (*p).sig = sig };
    redirect_to(b, regs, &raw const lodger_kml_resume, cause::SIGNAL);
}

const FROM_FRAME: [(i32, usize); 17] = [
    (libc::REG_R8, R8),
    (libc::REG_R9, R9),
    (libc::REG_R10, R10),
    (libc::REG_R11, R11),
    (libc::REG_R12, R12),
    (libc::REG_R13, R13),
    (libc::REG_R14, R14),
    (libc::REG_R15, R15),
    (libc::REG_RDI, RDI),
    (libc::REG_RSI, RSI),
    (libc::REG_RBP, RBP),
    (libc::REG_RBX, RBX),
    (libc::REG_RDX, RDX),
    (libc::REG_RAX, RAX),
    (libc::REG_RCX, RCX),
    (libc::REG_RSP, RSP),
    (libc::REG_RIP, RIP),
];

/// Signal context: the guest's registers leave the frame.
fn take_over(b: &Block, regs: &[i64; 23], gp: &mut [u64; 40]) {
    for (r, w) in FROM_FRAME {
        gp[w] = regs[r as usize] as u64;
    }
    gp[EFLAGS] = regs[libc::REG_EFL as usize] as u64;
    gp[FS_BASE] = fs_base();
    let gs = gs_base();
    if gs != b.this {
        gp[GS_BASE] = gs;
        set_gs_base(b.this);
    }
    gp[CS] = USER_CS;
    gp[SS] = USER_SS;
    gp[ORIG_RAX] = u64::MAX;
}

/// Signal context.
fn redirect_to(b: &Block, regs: &mut [i64; 23], label: *const u8, cause: u32) {
    regs[libc::REG_RIP as usize] = label.addr() as i64;
    regs[libc::REG_RSP as usize] = b.ksp as i64;
    regs[libc::REG_RAX as usize] = i64::from(cause);
    regs[libc::REG_EFL as usize] = FLAGS_FIXED as i64;
}

/// What `sig` means for the task with the registers `cx`.
pub(crate) fn trap_of(sig: &Sig, cx: &mut UserContext) -> hal::Trap {
    frame::decode(sig, cx)
}
