//! The stub: the only code of ours inside a user process, and where it lies.
//!
//! A user process consists of guest pages below [`hal::USER_END`] and of the
//! stub region above it:
//!
//! | what | rights in the user process | contents |
//! |---|---|---|
//! | [`CODE`] | read, execute | the code below |
//! | [`CONSTANTS`] | read | filter of the stub threads |
//! | [`CTRL`] | read | requests to the mapper thread |
//! | [`area`], first page | read | the *go* word of one vCPU's thread and what it starts with |
//! | [`area`], the rest | read, write | the *report* words and the alternate signal stack |
//!
//! The kernel process maps all of it writable. Two kinds of thread run here:
//!
//! - the **mapper**, one per process, sleeps in `mapper`, then interprets a
//!   list of host calls ([`Op`]) that the kernel has put into `CTRL`. It is the
//!   only thread with descriptors and with the right to map.
//! - the **stub threads**, one per vCPU that has run the process, run guest
//!   code. Each trap is a host signal; `handler` reports it, sleeps, and
//!   returns from the signal when the kernel says so.
//!
//! # Why a hostile guest gains nothing
//!
//! Guest code runs in the same address space and may jump anywhere, write
//! everything writable, forge signal frames and race itself with many threads.
//! What protects the host and the other processes of the machine:
//!
//! 1. **A stub thread has no power.** Its filter allows a host call only at
//!    three instructions: sleeping on a park word, waking a report word,
//!    returning from a signal. Everything else outside the stub is a trap, and
//!    inside it death. It has no descriptors. Whatever a guest does to its
//!    registers, masks, frames and stacks, it cannot do more than compute.
//! 2. **The mapper cannot be reached.** It uses registers only: no stack, no
//!    memory the guest can write. Its list lies in pages that only the kernel
//!    can write. A guest that jumps into its code does so on a stub thread and dies
//!    at the first call.
//! 3. **The mapper's answer cannot be forged.** It is written with pwrite(2),
//!    through a descriptor that no stub thread has, into a page that the guest
//!    can only read.
//! 4. **Reports can be forged, so nothing rests on them.** A report only says
//!    "look at the frame". Numbers in it are checked, the frame is where the
//!    kernel knows it to be, and every value is copied once. A lie harms the liar.
//! 5. **That a thread is parked is never believed but proven.** A sleeping
//!    thread is counted by the host on its park word ([futex(2)], requeue onto
//!    itself). The filter lets stub threads sleep on park words only and without a
//!    timeout, so if each of the n threads' n park words has a sleeper, all
//!    threads sleep, one on each. They can only be woken by the kernel: the filter
//!    lets stub threads wake report words only. What runs then depends on `rdi`, which
//!    the host has compared with the word's address, and on `ebp`: if that was
//!    forged, the thread sleeps again, which number 7 settles. Else it leaves
//!    through our frame, whatever its past.
//! 6. **Frames are reused only behind 3 or 5**: the mapper has removed the
//!    mapping, or all threads are proven parked and the mapper will have removed
//!    it before the next of them is let go. While threads are parked the kernel
//!    sends no signal to them either: a forged mask or alternate stack could
//!    make the host write a frame into guest memory. A process is given to
//!    another guest process only in this state, and all of its threads first make one
//!    round through our own frame, which restores mask and alternate stack.
//! 7. **Silence is death.** Threads that do not report after a kick are killed.
//! 8. **What no filter sees is harmless.** Newer hosts let two calls past every filter, those
//!    of their user-space probes: outside a trampoline of the host's own, 335 is an
//!    invalid instruction (reported as a call) and 336 gives ENXIO and does nothing.
//!
//! [futex(2)]: https://man7.org/linux/man-pages/man2/futex.2.html

use core::arch::global_asm;

/// First byte of the stub region. All of it shares the upper half of this address.
pub(crate) const STUB_BASE: u64 = 0x5000_1000_0000;
/// First byte behind the stub region.
pub(crate) const STUB_END: u64 = STUB_BASE + 0x100_0000;
/// Code page.
pub(crate) const CODE: u64 = STUB_BASE;
/// Page of constants.
pub(crate) const CONSTANTS: u64 = STUB_BASE + 0x1000;
/// Control pages.
pub(crate) const CTRL: u64 = STUB_BASE + 0x1_0000;
/// Length of the control pages.
pub(crate) const CTRL_LEN: u64 = 0x8000;
/// Area of vCPU 0.
pub(crate) const AREAS: u64 = STUB_BASE + 0x10_0000;
/// Size and alignment of an area.
pub(crate) const AREA_SIZE: u64 = 0x8000;

/// Address of the area of vCPU `cpu`.
pub(crate) const fn area(cpu: u32) -> u64 {
    AREAS + cpu as u64 * AREA_SIZE
}

/// Control page: the mapper's request number (u32).
pub(crate) const CTRL_REQ: u64 = 0;
/// Control page: address of the list to interpret (u64).
pub(crate) const CTRL_PROG: u64 = 8;
/// Control page: the mapper's answer (u32).
pub(crate) const CTRL_ACK: u64 = 16;
/// Control pages: the two buffers for lists.
pub(crate) const CTRL_BUF: [u64; 2] = [0x1000, 0x3000];
/// Size of such a buffer.
pub(crate) const CTRL_BUF_LEN: u64 = 0x2000;

/// Area: the go word (u32): a new value lets the thread go.
pub(crate) const GO: u64 = 0;
/// Area: FS base to load if [`GO_FLAGS`] bit 0 is set (u64).
pub(crate) const GO_FS: u64 = 8;
/// Area: GS base, likewise (u64).
pub(crate) const GO_GS: u64 = 16;
/// Area: stack pointer for the return from the signal (u64).
pub(crate) const GO_FRAME: u64 = 24;
/// Area: flags (u32).
pub(crate) const GO_FLAGS: u64 = 32;
/// Area: the thread's `stack_t`.
pub(crate) const GO_STACK: u64 = 64;
/// Area: the thread's signal mask (u64).
pub(crate) const GO_MASK: u64 = 96;
/// Area: list that the thread starts with.
pub(crate) const GO_INIT: u64 = 256;
/// Area: first byte of the alternate stack.
pub(crate) const ALT_STACK: u64 = 0x1000;
/// Area: end of the alternate stack, and the report word (u32).
pub(crate) const REPORT: u64 = AREA_SIZE - 64;
/// Area: signal number of the report (u32).
pub(crate) const REPORT_SIG: u64 = REPORT + 4;
/// Area: FS base at the trap (u64).
pub(crate) const REPORT_FS: u64 = REPORT + 8;
/// Area: GS base at the trap (u64).
pub(crate) const REPORT_GS: u64 = REPORT + 16;
/// Area: stack pointer in the handler (u64). Read only while the host's frames are learned.
pub(crate) const REPORT_SP: u64 = REPORT + 24;
/// Area: the thread's host id (i32), written by clone(2).
pub(crate) const REPORT_TID: u64 = REPORT + 32;
/// Area: the park word (u32): what the thread sleeps on, changed behind the go
/// word. It decides nothing. It is not in the read-only page because the host
/// finds such words much more slowly.
pub(crate) const PARK: u64 = REPORT + 40;
/// Area: not 0 while the thread sleeps on the park word or is about to (u32).
/// A hint: whoever relies on the thread to go on wakes it without a look here.
pub(crate) const ASLEEP: u64 = PARK + 4;

/// One host call in a mapper's list.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Op {
    /// Number; negative: jump to `args[0]` instead.
    pub nr: i64,
    /// Arguments.
    pub args: [u64; 6],
    /// Where the new thread or process of clone(2) goes on; 0 = as the caller.
    pub child: u64,
    /// Where to go on after a failure; 0 = ignore it.
    pub on_error: u64,
    /// If not 0: any other result is a failure.
    pub expect: u64,
}

/// Size of an [`Op`].
pub(crate) const OP_SIZE: u64 = size_of::<Op>() as u64;
const _: () = assert!(OP_SIZE == 80);

global_asm!(
    r#"
    .pushsection .rodata.lodger_stub,"a",@progbits
    .p2align 12
    .irp name, begin, interpret, interpret_ret, mapper, mapper_ret, handler, wake_ret, wait_ret, return_ret, trap, end
    .globl lodger_stub_\name
    .hidden lodger_stub_\name
    .endr
lodger_stub_begin:

# Interprets the list at r15.
lodger_stub_interpret:
    mov rax, [r15]
    mov rdi, [r15 + 8]
    mov rsi, [r15 + 16]
    test rax, rax
    js 9f
    mov rdx, [r15 + 24]
    mov r10, [r15 + 32]
    mov r8, [r15 + 40]
    mov r9, [r15 + 48]
    syscall
lodger_stub_interpret_ret:
    mov rcx, [r15 + 56]
    test rcx, rcx
    jz 1f
    test rax, rax
    jz 4f                           # the child of a clone
1:  mov rcx, [r15 + 64]
    test rcx, rcx
    jz 3f
    mov rdx, [r15 + 72]
    test rdx, rdx
    jz 2f
    cmp rax, rdx
    je 3f
    jmp 4f
2:  cmp rax, -4095
    jae 4f
3:  add r15, 80
    jmp lodger_stub_interpret
4:  mov r15, rcx
    jmp lodger_stub_interpret
9:  jmp rdi

# The mapper waits for a request other than esi.
lodger_stub_mapper:
    mov edx, esi
    movabs rdi, {ctrl}
1:  mov eax, 202                    # futex
    xor esi, esi                    # FUTEX_WAIT
    xor r10d, r10d
    syscall
lodger_stub_mapper_ret:
    cmp edx, [rdi]
    je 1b
    mov r15, [rdi + 8]
    jmp lodger_stub_interpret

# The handler of all signals: rdi = number, rsp = frame on the alternate stack.
lodger_stub_handler:
    mov rbx, rsp
    and rbx, -{area_size}
    rdfsbase rax
    mov [rbx + {report} + 8], rax
    rdgsbase rax
    mov [rbx + {report} + 16], rax
    mov [rbx + {report} + 24], rsp
    mov [rbx + {report} + 4], edi
    mov ebp, [rbx]
    lea rdi, [rbx + {report}]
    mov [rdi], ebp
    mov esi, 1                      # FUTEX_WAKE
    mov edx, 1
    mov eax, 202
    syscall
lodger_stub_wake_ret:
    lea rdi, [rbx + {park}]
2:  mov edx, [rdi]
    cmp ebp, [rdi - {park}]
    jne 3f
    mov eax, 1
    xchg [rdi + 4], eax             # before the host compares the park word
    mov eax, 202
    xor esi, esi                    # FUTEX_WAIT
    xor r10d, r10d
    syscall
lodger_stub_wait_ret:               # from here on only rdi and ebp count
    jmp 2b
3:  mov dword ptr [rdi + 4], 0
    test dword ptr [rdi - {park} + 32], 1
    jz 4f
    mov rax, [rdi - {park} + 8]
    wrfsbase rax
    mov rax, [rdi - {park} + 16]
    wrgsbase rax
4:  mov rsp, [rdi - {park} + 24]
    mov eax, 15                     # rt_sigreturn
    syscall
lodger_stub_return_ret:

# Where a thread makes its first report, and a round through our own frame.
lodger_stub_trap:
    ud2
lodger_stub_end:
    .p2align 12
    .popsection
"#,
    ctrl = const CTRL,
    area_size = const AREA_SIZE,
    report = const REPORT,
    park = const PARK,
);

unsafe extern "C" {
    static lodger_stub_begin: u8;
    static lodger_stub_interpret: u8;
    static lodger_stub_interpret_ret: u8;
    static lodger_stub_mapper: u8;
    static lodger_stub_mapper_ret: u8;
    static lodger_stub_handler: u8;
    static lodger_stub_wake_ret: u8;
    static lodger_stub_wait_ret: u8;
    static lodger_stub_return_ret: u8;
    static lodger_stub_trap: u8;
    static lodger_stub_end: u8;
}

macro_rules! entry {
    ($(#[doc = $doc:literal] $name:ident = $label:ident;)*) => {
        $(#[doc = $doc]
        pub(crate) fn $name() -> u64 {
            CODE + ((&raw const $label).addr() - (&raw const lodger_stub_begin).addr()) as u64
        })*
    };
}

entry! {
    #[doc = "Address of the interpreter in a user process."]
    interpret = lodger_stub_interpret;
    #[doc = "Behind the interpreter's call."]
    interpret_ret = lodger_stub_interpret_ret;
    #[doc = "The mapper's wait; expects the last request's number in esi."]
    mapper = lodger_stub_mapper;
    #[doc = "Behind the mapper's wait."]
    mapper_ret = lodger_stub_mapper_ret;
    #[doc = "The signal handler."]
    handler = lodger_stub_handler;
    #[doc = "Behind the wake-up of the report word."]
    wake_ret = lodger_stub_wake_ret;
    #[doc = "Behind the sleep on the go word."]
    wait_ret = lodger_stub_wait_ret;
    #[doc = "Behind the return from a signal."]
    return_ret = lodger_stub_return_ret;
    #[doc = "An invalid instruction."]
    trap = lodger_stub_trap;
}

/// The code, to be copied to [`CODE`].
pub(crate) fn code() -> &'static [u8] {
    let first = &raw const lodger_stub_begin;
    let len = (&raw const lodger_stub_end).addr() - first.addr();
    // SAFETY: the assembly above puts exactly these bytes between the labels, read-only.
    unsafe { core::slice::from_raw_parts(first, len) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_known_system_calls() {
        let code = code();
        assert!(code.len() < 1024);
        let at = |pat: &[u8]| {
            let hits = code.windows(2).enumerate().filter(|(_, w)| *w == pat);
            hits.map(|(i, _)| CODE + i as u64 + 2).collect::<Vec<_>>()
        };
        let known = [
            interpret_ret(),
            mapper_ret(),
            wake_ret(),
            wait_ret(),
            return_ret(),
        ];
        assert_eq!(at(&[0x0f, 0x05]), known);
        assert!(at(&[0xcd, 0x80]).is_empty() && at(&[0x0f, 0x34]).is_empty());
    }
}
