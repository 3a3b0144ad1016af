//! The handler of all signals of a user process: it takes guest code back into the kernel.
//! Kernel code never runs here.

use super::*;
use crate::x86_64::patch::{self, REACH};
use hal::USER_END;
use hal::cpu::mode;

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
            let to = &raw const lodger_kml_resume_unsaved;
            redirect_to(b, regs, to, cause::INTERRUPT);
            b.met.fetch_add(1, SeqCst);
        } else if b.in_call.load(Relaxed) && b.cpu.mode.load(Relaxed) == mode::USER {
            b.cpu.mode.store(mode::KERNEL, SeqCst);
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
        && b.cpu.mode.load(SeqCst) == mode::USER
        && !b.in_call.load(Relaxed);
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
        let addr = info_words[2];
        let report = (b.on_fault)(b, signo, addr);
        let sp = regs[libc::REG_RSP as usize] as usize - 8;
        let return_to: *mut u64 = core::ptr::with_exposed_provenance_mut(sp);
        // SAFETY: below what the code at fault had on its kernel stack; it does not go on.
        unsafe { return_to.write(rip + 1) };
        regs[libc::REG_RIP as usize] = addr_of(&raw const lodger_kml_crashed) as i64;
        regs[libc::REG_RSP as usize] = sp as i64;
        regs[libc::REG_RDI as usize] = b.this as i64;
        regs[libc::REG_RSI as usize] = signo.into();
        regs[libc::REG_RDX as usize] = addr as i64;
        regs[libc::REG_RCX as usize] = (report as *const ()).addr() as i64;
        regs[libc::REG_EFL as usize] = FLAGS_FIXED as i64;
        return;
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
