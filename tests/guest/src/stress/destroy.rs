//! `destroy KIND THEN`: destroys the kernel that it runs in, where it can: in the engine `kml` that
//! is mapped here. THEN: `calls` goes on with system calls, `spin` without. It never ends by itself.
//!
//! The thread's block, to which the GS base points there, leads to everything: it holds an address within
//! the kernel's image and one on its task's kernel stack, and lies in the engine's heap.

use crate::prelude::*;
use std::arch::asm;
use std::sync::atomic::AtomicBool;

/// The memory file, and the engine's heap.
const MEMORY: usize = 0x6000_0000_0000;
const HEAP: usize = 0x6200_0000_0000;
const HEAP_USED: usize = 16 << 20;
const IMAGE: usize = 32 << 20;
const STACK: usize = 64 << 10;
const PAGE: usize = 4096;

/// Numbers of words of the block.
const KERNEL_STACK: usize = 1;
const ENTRY: usize = 4;

static LANDING: AtomicUsize = AtomicUsize::new(0);
static FAULTED: AtomicBool = AtomicBool::new(false);

extern "C" fn skip(_: i32, _: *mut siginfo_t, context: *mut c_void) {
    FAULTED.store(true, SeqCst);
    let regs = unsafe { &mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs };
    regs[REG_RIP as usize] = LANDING.load(SeqCst) as i64;
}

/// Word `n` of the block.
fn block(n: usize) -> Option<usize> {
    FAULTED.store(false, SeqCst);
    let mut v: usize = 0;
    unsafe {
        asm!(
            "lea {t}, [rip + 2f]", "mov [rip + {landing}], {t}", "mov {v}, gs:[{n} * 8]", "2:",
            t = out(reg) _, v = inout(reg) v, n = in(reg) n, landing = sym LANDING
        );
    }
    (!FAULTED.load(SeqCst)).then_some(v)
}

/// Replaces the word at `at` by what `f` makes of it. False: nothing can be written there.
fn change(at: usize, f: impl Fn(u64) -> u64) -> bool {
    FAULTED.store(false, SeqCst);
    let mut v: u64 = 0;
    unsafe {
        asm!(
            "lea {t}, [rip + 2f]", "mov [rip + {landing}], {t}", "mov {v}, [{at}]", "mov [{at}], {v}", "2:",
            t = out(reg) _, v = inout(reg) v, at = in(reg) at, landing = sym LANDING
        );
        if FAULTED.load(SeqCst) {
            return false;
        }
        (at as *mut u64).write_volatile(f(v));
    }
    true
}

/// Changes all words of the pages that can be written.
fn fill(from: usize, len: usize, f: impl Fn(u64) -> u64) {
    let ok: Vec<usize> = (from..from + len)
        .step_by(PAGE)
        .filter(|p| change(*p, |v| v))
        .collect();
    for page in ok {
        for at in (page..page + PAGE).step_by(8) {
            let p = at as *mut u64;
            unsafe { p.write_volatile(f(p.read_volatile())) };
        }
    }
}

/// Every 32-bit word that is 0, as a free lock is, becomes 2, as one is that others wait for.
fn lock(v: u64) -> u64 {
    let half = |h: u64| if h == 0 { 2 } else { h };
    half(v & 0xffff_ffff) | half(v >> 32) << 32
}

pub fn main(args: &[String]) -> i32 {
    let arg = |n: usize| args.get(n).map_or("", String::as_str);
    let mut stack = vec![0u8; 64 << 10];
    let mut alt: stack_t = zero();
    (alt.ss_sp, alt.ss_size) = (stack.as_mut_ptr().cast(), stack.len());
    sys!(sigaltstack(&alt, null_mut()));
    for n in [SIGSEGV, SIGBUS] {
        handle(n, skip, SA_ONSTACK | SA_NODEFER);
    }
    let (Some(own), Some(entry)) = (block(0), block(ENTRY)) else {
        println!("no kernel is mapped here");
        return 1;
    };
    let mut info: sysinfo = zero();
    sys!(sysinfo(&mut info));
    let size = info.totalram as usize;
    println!("destroying");
    let image = entry & !(PAGE - 1);
    const NOISE: u64 = 0x5a5a_a5a5_5a5a_a5a5;
    match arg(0) {
        "memory" => fill(MEMORY, size, |_| NOISE),
        "zeros" => fill(MEMORY, size, |_| 0),
        "stack" => {
            let at = block(KERNEL_STACK).unwrap_or(0) & !(STACK - 1);
            fill(at, STACK, |_| NOISE);
        }
        "way" => (1..8).for_each(|n| drop(change(own + 8 * n, |_| NOISE))),
        "heap" => fill(HEAP, HEAP_USED, |_| NOISE),
        "variables" => fill(image, IMAGE, |_| NOISE),
        "no-variables" => fill(image, IMAGE, |_| 0),
        "locks" => {
            fill(HEAP, HEAP_USED, lock);
            fill(image, IMAGE, lock);
        }
        other => {
            println!("no kind {other:?}");
            return 1;
        }
    }
    loop {
        match arg(1) {
            "calls" => drop(run(|| 0)),
            _ => std::hint::spin_loop(),
        }
    }
}
