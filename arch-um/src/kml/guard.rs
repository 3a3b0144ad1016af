//! Ends a machine whose kernel does not answer any more.
//!
//! Guest code can write to all that the processes of this engine share. A kernel whose memory it has
//! destroyed mostly faults, and is reported then; but it can also wait for a lock that
//! nobody holds, or run in circles. A thread of the kernel process asks each vCPU for an
//! answer: it raises [`IRQ_PING`] and looks later whether the kernel has taken it. What this thread knows
//! lies on its own stack, which no user process has. Of shared memory it believes
//! nothing, and it calls nothing that takes a lock or memory.

use super::process::Vcpu;
use super::thread::Thread;
use crate::engine::watchdog;
use crate::zygote;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;
use hal::cpu::{IRQ_PING, MAX_CPUS};
use hal::mem::MEM_BASE;
use host_sys::{arena, time};

/// Time between two looks.
const LOOK_NS: u64 = 2_000_000_000;
/// Looks without an answer after which the machine ends: 20 s, as a soft lockup on Linux.
/// Looks are counted and not time, which passes while the machine is stopped.
const LOOKS: u32 = 10;

/// Among the program's variables: who writes over all of them writes over this.
static MARK: AtomicU64 = AtomicU64::new(INTACT);
const INTACT: u64 = 0x4c4f_4447_4552_4f4b;

/// Whether nobody has written over the program's variables.
pub(crate) fn is_intact() -> bool {
    // SAFETY: a word of the program's; volatile, because the compiler knows who writes there: nobody.
    unsafe { MARK.as_ptr().read_volatile() == INTACT }
}

/// What the thread knows.
pub(crate) struct Guard {
    pub(crate) vcpus: &'static [Vcpu],
    /// Bytes of the memory file.
    pub(crate) memory: usize,
    /// The host's `/proc`, -1 if there is none.
    pub(crate) proc_dir: i32,
}

enum Answer {
    Given,
    Missed,
    /// What is written down of the vCPU cannot be.
    Destroyed,
}

impl Guard {
    /// Returns when the kernel does not answer any more.
    pub(crate) fn watch(&self) {
        let mut missed = [0; MAX_CPUS];
        let mut ending = 0;
        while ending < LOOKS && is_intact() && missed.iter().all(|n| *n < LOOKS) {
            time::sleep_ns(LOOK_NS);
            for (i, vcpu) in self.vcpus.iter().enumerate() {
                // The first one has started long before the first look.
                if i == 0 || vcpu.is_started() {
                    match self.ask(vcpu) {
                        Answer::Given => missed[i] = 0,
                        Answer::Missed => missed[i] += 1,
                        Answer::Destroyed => return,
                    }
                }
            }
            ending = if zygote::is_ending() { ending + 1 } else { 0 };
        }
    }

    /// Asks for the next answer, and looks whether the last one has come, or cannot come yet.
    fn ask(&self, v: &Vcpu) -> Answer {
        let (block, thread) = v.words();
        let fits =
            lies_in(block, MEM_BASE, self.memory) && lies_in(thread, arena::BASE, arena::SIZE);
        if !fits {
            return Answer::Destroyed;
        }
        // SAFETY: memory that stays mapped, and aligned; of both only atomics are used.
        let (block, thread) = unsafe { (&*block, &*thread) };
        let taken = block.pending.fetch_or(IRQ_PING, SeqCst) & IRQ_PING == 0;
        let given = taken || self.is_held_up(thread);
        thread.kick();
        match given {
            true => Answer::Given,
            false => Answer::Missed,
        }
    }

    /// Whether the host or a debugger keeps the thread from running.
    fn is_held_up(&self, t: &Thread) -> bool {
        let (pid, tid) = t.ids();
        let state = watchdog::thread_stat(self.proc_dir, pid, tid);
        state.is_some_and(|(s, _)| matches!(s, b'D' | b't' | b'T'))
    }
}

fn lies_in<T>(p: *const T, from: usize, len: usize) -> bool {
    let last = from + len - size_of::<T>();
    p.is_aligned() && (from..=last).contains(&p.addr())
}
