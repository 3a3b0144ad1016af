//! Kernel stacks: the link-time functions that `hal` declares, and the
//! interruptible host sleep.

use core::arch::global_asm;
use core::ptr;
use core::sync::atomic::AtomicU32;
use hal::cpu::{KSTACK_SIZE, SavedStack, StackHead};
use host_sys::time;

global_asm!(
    r#"
    .text
    .p2align 4
    .hidden lodger_um_switch
    .globl lodger_um_switch
    .type lodger_um_switch,@function
# rdi: where to save the stack pointer, rsi: where to load it from. The control words of the vector state stay
# as they are: they may be a guest's, with an exception that is pending, and kernel code does not calculate.
lodger_um_switch:
    .cfi_startproc
    push rbp
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset rbp, 0
    push rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset rbx, 0
    push r12
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset r12, 0
    push r13
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset r13, 0
    push r14
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset r14, 0
    push r15
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset r15, 0
    mov [rdi], rsp
    mov rsp, [rsi]
    pop r15
    .cfi_adjust_cfa_offset -8
    .cfi_restore r15
    pop r14
    .cfi_adjust_cfa_offset -8
    .cfi_restore r14
    pop r13
    .cfi_adjust_cfa_offset -8
    .cfi_restore r13
    pop r12
    .cfi_adjust_cfa_offset -8
    .cfi_restore r12
    pop rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore rbx
    pop rbp
    .cfi_adjust_cfa_offset -8
    .cfi_restore rbp
    ret
    .cfi_endproc
    .size lodger_um_switch, . - lodger_um_switch

    .p2align 4
    .hidden lodger_um_first
    .globl lodger_um_first
    .type lodger_um_first,@function
# The first frame of a stack: calls r12 with r13. Backtraces end here.
lodger_um_first:
    .cfi_startproc
    .cfi_undefined rip
    mov rdi, r13
    call r12
    ud2
    .cfi_endproc
    .size lodger_um_first, . - lodger_um_first

    .p2align 4
    .hidden lodger_um_sleep
    .globl lodger_um_sleep
    .type lodger_um_sleep,@function
# futex(rdi, esi, edx, rcx, , r9d), unless *r8 != 0. A signal whose handler
# finds the instruction pointer in [begin, end) makes it return -EINTR.
lodger_um_sleep:
    .cfi_startproc
    mov r10, rcx
    mov eax, 202
    .hidden lodger_um_sleep_begin
    .globl lodger_um_sleep_begin
lodger_um_sleep_begin:
    cmp dword ptr [r8], 0
    jne lodger_um_sleep_end
    syscall
    ret
    .hidden lodger_um_sleep_end
    .globl lodger_um_sleep_end
lodger_um_sleep_end:
    mov rax, -4
    ret
    .cfi_endproc
    .size lodger_um_sleep, . - lodger_um_sleep
"#
);

unsafe extern "C" {
    fn lodger_um_switch(save: *mut u64, load: *const u64);
    fn lodger_um_first();
    fn lodger_um_sleep(
        word: *const u32,
        op: i32,
        val: u32,
        timeout: *const libc::timespec,
        unless: *const u32,
        mask: u32,
    ) -> isize;
    static lodger_um_sleep_begin: u8;
    static lodger_um_sleep_end: u8;
}

/// Where code outside kernel stacks (host threads) finds its head.
static HOST_HEAD: Head = Head(StackHead {
    magic: hal::cpu::KSTACK_MAGIC,
    cpu: core::sync::atomic::AtomicPtr::new(ptr::null_mut()),
    held: core::sync::atomic::AtomicU64::new(0),
    lock_depth: AtomicU32::new(0),
    relieving: core::sync::atomic::AtomicBool::new(false),
    alone: false,
    waiter: None,
});

struct Head(StackHead);
// SAFETY: atomics, and a shared reference to something Sync.
unsafe impl Sync for Head {}

#[unsafe(no_mangle)]
fn lodger_hal_host_head() -> &'static StackHead {
    &HOST_HEAD.0
}

#[unsafe(no_mangle)]
fn lodger_hal_switch(save: &SavedStack, load: &SavedStack) {
    // SAFETY: hal's caller promises that `load` holds a stack pointer of a stack at rest.
    unsafe { lodger_um_switch(save.0.as_ptr(), load.0.as_ptr()) }
}

#[unsafe(no_mangle)]
fn lodger_hal_init_stack(base: *mut u8, entry: extern "C" fn(usize) -> !, arg: usize) -> u64 {
    let first = lodger_um_first as unsafe extern "C" fn();
    // As lodger_um_switch pops it: r15, r14, r13, r12, rbx, rbp, return address.
    let words = [
        0,
        0,
        arg as u64,
        entry as usize as u64,
        0,
        0,
        first as usize as u64,
    ];
    // SAFETY: hal's caller promises KSTACK_SIZE writable bytes. After the
    // return the stack pointer is at the end, which is aligned as for a call.
    unsafe {
        let sp = base.add(KSTACK_SIZE - size_of_val(&words));
        sp.cast::<[u64; 7]>().write(words);
        sp.expose_provenance() as u64
    }
}

#[unsafe(no_mangle)]
fn lodger_hal_futex_wait(word: &AtomicU32, val: u32) {
    let _ = time::futex_wait(word, val, None);
}

#[unsafe(no_mangle)]
fn lodger_hal_futex_wake(word: &AtomicU32, n: u32) {
    time::futex_wake(word, n);
}

/// A word that is never set, for [`sleep`].
pub(crate) static NEVER: AtomicU32 = AtomicU32::new(0);

/// Sleeps while `*word == val`, as futex operation `op` with `timeout`, unless
/// `*unless != 0`. A signal that arrives at any time after the caller's last look
/// at `unless`'s reasons either shows in `unless` or ends the sleep: whether it is
/// set is tested inside the stretch that [`end_sleep`] cuts short.
/// Returns whether a signal (or `unless`) ended it.
pub(crate) fn sleep(
    word: &AtomicU32,
    op: i32,
    val: u32,
    timeout: Option<&libc::timespec>,
    unless: &AtomicU32,
) -> bool {
    let timeout = timeout.map_or(ptr::null(), ptr::from_ref);
    let any = libc::FUTEX_BITSET_MATCH_ANY as u32;
    // SAFETY: a futex wait reads its word and the timeout.
    let r = unsafe { lodger_um_sleep(word.as_ptr(), op, val, timeout, unless.as_ptr(), any) };
    r == -(libc::EINTR as isize)
}

/// In a signal handler: if `ip` is inside [`sleep`] before or at its call, where to go on instead.
pub(crate) fn end_sleep(ip: u64) -> Option<u64> {
    let begin = (&raw const lodger_um_sleep_begin).addr() as u64;
    let end = (&raw const lodger_um_sleep_end).addr() as u64;
    // Two instructions behind the begin is the call; behind the call the result counts.
    (begin..end - 1).contains(&ip).then_some(end)
}
