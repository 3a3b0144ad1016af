//! What a vCPU does that has nothing to run.

use super::{balance, schedule};
use crate::Kernel;
use core::sync::atomic::Ordering;
use hal::cpu;

/// Free frames whose memory an idle machine keeps from the host.
const IDLE_KEEP: usize = 512;
/// How long the machine idles before it gives memory back.
const TIDY_AFTER_NS: u64 = 500_000_000;

/// The life of an idle task: runs whatever becomes runnable, else idles.
pub(crate) fn idle_loop(kernel: &'static Kernel) -> ! {
    cpu::current_stack()
        .relieving
        .store(true, Ordering::Relaxed);
    // Free memory that the host still held when there was last nothing more to give back.
    let mut tidied = 0;
    loop {
        let block = cpu::current_cpu();
        let rq = kernel.sched.rq(block.id);
        let bits = block.take_pending();
        if bits != 0 {
            crate::run::interrupts(kernel, bits);
        }
        if rq.nr.load(Ordering::SeqCst) > 0 || balance::pull(kernel, block.id) {
            schedule();
            continue;
        }
        rq.idle.store(true, Ordering::SeqCst);
        if rq.nr.load(Ordering::SeqCst) > 0 {
            rq.idle.store(false, Ordering::SeqCst);
            continue;
        }
        let deadline = block.deadline.load(Ordering::Relaxed);
        let deadline = (deadline != u64::MAX).then_some(deadline);
        let free = mm::frame::dirty_free();
        let tidy = block.id == 0 && free > IDLE_KEEP && free != tidied;
        let tidy = tidy.then(|| kernel.now() + TIDY_AFTER_NS);
        let until = match (deadline, tidy) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        kernel.platform.engine().idle(block, until);
        rq.idle.store(false, Ordering::SeqCst);
        if tidy.is_some_and(|t| kernel.now() >= t) {
            let busy =
                || rq.nr.load(Ordering::SeqCst) > 0 || block.pending.load(Ordering::Relaxed) != 0;
            while !busy() && mm::frame::trim_step(IDLE_KEEP) {}
            tidied = mm::frame::dirty_free();
        }
        if deadline.is_some_and(|d| kernel.now() >= d)
            && block.pending.load(Ordering::Relaxed) & cpu::IRQ_TIMER == 0
        {
            crate::run::interrupts(kernel, cpu::IRQ_TIMER);
        }
    }
}
