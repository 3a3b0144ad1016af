//! The system call instruction itself: registers, flags and stacks that engines must not rely on.

use crate::prelude::*;
use std::arch::asm;

tests![bad_stack, flags, single_steps, numbers];

/// getppid(2), so often that an engine that learns has learnt.
const OFTEN: usize = 20;

/// A call with this stack pointer.
#[inline(never)]
fn call_on(sp: u64) -> i64 {
    let r: i64;
    unsafe {
        asm!(
            "mov r12, rsp", "mov rsp, {sp}", "mov eax, 110", "syscall", "mov rsp, r12",
            sp = in(reg) sp, out("rax") r, out("rcx") _, out("r11") _, out("r12") _
        );
    }
    r
}

fn bad_stack() {
    let parent = sys!(getppid()).0;
    for sp in [
        0,
        1,
        8,
        0x7fff_ffff_ffff,
        0x8000_0000_0000_0000,
        0xffff_ffff_ffff_fff8,
    ] {
        let good = (0..OFTEN).filter(|_| call_on(sp) == parent).count();
        say!("{sp:#x} {good}");
    }
}

/// A call with these flags set. The flags behind it.
#[inline(never)]
fn call_with(set: u64) -> u64 {
    let after: u64;
    unsafe {
        asm!(
            "pushfq", "or [rsp], {set}", "popfq", "mov eax, 110", "syscall", "pushfq", "pop {after}", "push 0x202", "popfq",
            set = in(reg) set, after = out(reg) after, out("rax") _, out("rcx") _, out("r11") _
        );
    }
    after
}

fn flags() {
    const ALL: u64 = 0x24_4cd5;
    for set in [
        0, 1, 4, 0x10, 0x40, 0x80, 0x400, 0x800, 0x4000, 0x4_0000, 0x20_0000, 0xcd5,
    ] {
        let mut seen: Vec<u64> = (0..OFTEN).map(|_| call_with(set) & ALL & set).collect();
        seen.dedup();
        say!("{set:#x} {seen:x?}");
    }
}

static STEPS: [AtomicUsize; 32] = [const { AtomicUsize::new(0) }; 32];
static STEP: AtomicUsize = AtomicUsize::new(0);

extern "C" fn step(_: i32, _: *mut siginfo_t, context: *mut c_void) {
    let regs = unsafe { &(*context.cast::<ucontext_t>()).uc_mcontext.gregs };
    let n = STEP.fetch_add(1, SeqCst);
    if n < STEPS.len() {
        STEPS[n].store(regs[REG_RIP as usize] as usize, SeqCst);
    }
}

/// A call while single-stepping if `flag` is the trap flag. The address of the code.
#[inline(never)]
fn stepped(flag: u64) -> usize {
    let start: usize;
    unsafe {
        asm!(
            "lea {start}, [rip + 2f]", "pushfq", "or [rsp], {flag}", "popfq", "2:", "nop", "mov eax, 110", "syscall", "nop", "nop",
            "pushfq", "and qword ptr [rsp], -257", "popfq", "nop",
            start = out(reg) start, flag = in(reg) flag, out("rax") _, out("rcx") _, out("r11") _
        );
    }
    start
}

fn single_steps() {
    const TRAP: u64 = 0x100;
    handle(SIGTRAP, step, 0);
    for round in 0..4 {
        STEP.store(0, SeqCst);
        let start = stepped(TRAP);
        let n = STEP.load(SeqCst);
        let at: Vec<isize> = STEPS[..n.min(STEPS.len())]
            .iter()
            .map(|s| s.load(SeqCst) as isize - start as isize)
            .collect();
        say!("{round} {n} {at:?}");
        (0..OFTEN).for_each(|_| drop(stepped(0)));
    }
}

fn numbers() {
    let call = |nr: u64| {
        let r: i64;
        unsafe { asm!("syscall", inout("rax") nr => r, out("rcx") _, out("r11") _) };
        r
    };
    let parent = call(110);
    for nr in [
        0x4000_006e,
        0x8000_006e,
        0xffff_ffff,
        u64::MAX,
        1000,
        1 << 32 | 110,
    ] {
        let r = call(nr);
        let what = if r == parent {
            "parent".into()
        } else {
            r.to_string()
        };
        say!("{nr:#x} {what}");
    }
}
