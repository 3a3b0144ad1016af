//! Running guest code: the vCPU goes to the space's process if it is not there,
//! then jumps.

use super::KmlEngine;
use super::guard;
use super::heat::Why;
use super::space::Space;
use super::vectors::home;
use crate::x86_64::clock;
use crate::x86_64::kml::{self, Block, cause, exit};
use crate::x86_64::regs::*;
use core::sync::atomic::Ordering::{Relaxed, Release, SeqCst};
use hal::cpu::{self, CpuBlock, mode};
use hal::{After, Trap, USER_END, UserContext, UserRegs};

/// Calls between two looks at whether the guests' clock is due.
const LOOK_AFTER: u32 = 64;

/// A [`kml::Stay`] and what carrying out a system call in it needs.
#[repr(C)]
struct Run<'a> {
    stay: kml::Stay,
    engine: &'static KmlEngine,
    block: &'static Block,
    cpu: &'a CpuBlock,
    space: &'a Space,
    /// Name of the vector state, as long as that stays where it is, and so the task.
    home: u64,
    calls: u32,
    call: &'a mut dyn FnMut(&UserRegs) -> After,
    /// What followed the call that ended the stay.
    after: Option<After>,
}

/// Carries out a system call of a stay, for [`kml::enter`]. Gives where guest code goes on in it, on this thread, as
/// system calls return. 0: the stay ends.
///
/// # Safety
/// The stay is a [`Run`]'s, which nobody else uses meanwhile.
unsafe extern "C" fn carry_out(stay: *mut kml::Stay, regs: &UserRegs) -> u64 {
    // SAFETY: the caller's promise; the stay is a run's first field.
    let run = unsafe { &mut *stay.cast::<Run<'_>>() };
    // The mode stays USER until somebody minds: who kicks this thread makes it KERNEL.
    run.block.set_in_call(true);
    let after = (run.call)(regs);
    if after == After::GoOn
        && let Some(to) = run.goes_on(regs)
    {
        return to;
    }
    run.after = Some(after);
    0
}

impl Run<'_> {
    #[cold]
    fn say_user(&self) {
        // Not counted as a run: that would have to be seen before what is looked at from here on.
        self.cpu.mode.store(mode::USER, SeqCst);
    }

    #[cold]
    fn stay_in_kernel(&self) -> Option<u64> {
        self.cpu.mode.store(mode::KERNEL, Release);
        None
    }

    /// After a call: where guest code goes on, if it does so in this stay. Nothing that [`KmlEngine::run_once`] did before it is to
    /// be done again then. In user mode if so.
    #[inline]
    fn goes_on(&mut self, regs: &UserRegs) -> Option<u64> {
        // SAFETY: the engine's turn with the registers.
        let cx = unsafe { &*regs.get() };
        // The task may have waited, gone on elsewhere, and others have run on this thread; or the call has
        // changed registers.
        if cx.home != self.home || self.stay.is_stepped() {
            return None;
        }
        self.calls = self.calls.wrapping_add(1);
        if self.calls % LOOK_AFTER == 0 {
            self.engine.look_after_clock();
        }
        self.block.set_in_call(false);
        if self.cpu.mode.load(Relaxed) != mode::USER {
            self.say_user();
        }
        if self.space.is_stale() {
            return self.stay_in_kernel();
        }
        let rip = cx.gp[RIP];
        debug_assert!(way(cx) == exit::CALL && (1..USER_END).contains(&rip));
        Some(self.space.process.heat.way_back(rip).unwrap_or(rip))
    }
}

impl KmlEngine {
    /// [`hal::Engine::run_program`].
    pub(crate) fn run_guest(
        &'static self,
        space: &Space,
        regs: &UserRegs,
        call: &mut dyn FnMut(&UserRegs) -> After,
    ) -> Trap {
        loop {
            let (trap, after) = self.run_once(cpu::current_cpu(), space, regs, call);
            if trap != Trap::Syscall || after.unwrap_or_else(|| call(regs)) == After::Look {
                return trap;
            }
        }
    }

    /// Runs guest code until it traps, system calls that it goes on behind at once apart. For others, what follows them if
    /// they have been carried out.
    fn run_once(
        &'static self,
        cpu: &CpuBlock,
        space: &Space,
        regs: &UserRegs,
        call: &mut dyn FnMut(&UserRegs) -> After,
    ) -> (Trap, Option<After>) {
        // SAFETY: the engine's turn with the registers.
        let cx = unsafe { &mut *regs.get() };
        let v = &self.vcpus[cpu.id as usize];
        let mut t = v.current();
        let here = t.process().is_some_and(|p| core::ptr::eq(p, space.process));
        if !here {
            self.fetch_fp(cx);
            match space.process.thread_in_time(cpu.id) {
                Some(to) => t = to,
                None => return (Trap::Lost, None),
            }
            self.hop(cpu, t);
        }
        let Some(b) = t.block() else {
            return (Trap::Lost, None);
        };
        if cx.home != home(t) {
            self.fetch_fp(cx);
            self.load_fp(t, b, cx);
        }
        b.set_in_call(false);
        cpu.mode.store(mode::KERNEL, Release);
        if t.count_run() % LOOK_AFTER == 0 {
            self.look_after_clock();
        }
        // Rewritten sites need the GS base for themselves, and are fewer instructions than what they replace.
        if cx.gp[GS_BASE] != 0 {
            self.restore_sites(space, Why::GsBase);
        } else if cx.gp[EFLAGS] & FLAG_TF != 0 {
            self.restore_sites(space, Why::SingleSteps);
        }
        let mut run = Run {
            stay: kml::Stay::new(b, regs.get(), carry_out),
            engine: self,
            block: b,
            cpu,
            space,
            home: home(t),
            calls: 0,
            call,
            after: None,
        };
        // Where in a trampoline to go on instead of at the registers' rip, as long as trampolines
        // have not moved. Both are asked for in user mode: from then on, who moves them waits.
        let heat = &space.process.heat;
        let mut detour: Option<(u64, u32)> = None;
        let mut again = false;
        loop {
            // SAFETY: as above; guest code has been left.
            let cx = unsafe { &mut *regs.get() };
            if b.stepped.load(Relaxed) {
                b.stepped.store(false, Relaxed);
                cx.gp[EFLAGS] |= FLAG_TF;
            }
            cpu.mode.store(mode::USER, SeqCst);
            if space.is_stale() {
                cpu.mode.store(mode::KERNEL, SeqCst);
                space.apply_here(space.process);
                continue;
            }
            let way = way(cx);
            if !is_canonical(cx.gp[RIP]) {
                cpu.mode.store(mode::KERNEL, SeqCst);
                return (bad_address(cx), None);
            }
            if way != exit::CALL {
                cx.gp[EFLAGS] = clean_flags(cx.gp[EFLAGS]);
            }
            let moves = heat.moves.load(SeqCst);
            let to = match detour.take() {
                Some((to, then)) if then == moves => Some(to),
                _ => heat.way_back(cx.gp[RIP]).filter(|_| !again),
            };
            let to = to.unwrap_or(cx.gp[RIP]);
            again = true;
            // SAFETY: on the thread of block `b`, in the space's process; the vector state has been
            // loaded. A run's first field is its stay.
            let cause = unsafe { kml::enter((&raw mut run).cast(), way, to) };
            if let Some(after) = run.after {
                // Perhaps on another thread.
                return (Trap::Syscall, Some(after));
            }
            // SAFETY: as above.
            let cx = unsafe { &mut *regs.get() };
            let was = match cause {
                cause::CALL => None,
                _ => self.leave_trampoline(space, cx),
            };
            // Who still sees USER kicks a thread that looks at the pending word anyway.
            cpu.mode.store(mode::KERNEL, Release);
            if way == exit::FRAME {
                // It may not have come to the guest at all.
                kml::set_gs_base(b.at() as u64);
            }
            if cause == cause::CALL {
                return (Trap::Syscall, None);
            }
            let mut sig = b.sig;
            if cause == cause::SIGNAL {
                // Programs do not die of what one of them has done to their kernel.
                assert!(
                    b.is_intact() && guard::is_intact(),
                    "a program has written to its kernel's memory"
                );
                if was.is_some_and(|w| sig.addr == w) {
                    if sig.is_fetch() {
                        // The trampolines are gone; the page that they belong to comes back by a fault.
                        space.process.drop_all(&mut space.process.map.lock());
                        continue;
                    }
                    sig.addr = cx.gp[RIP];
                }
                if sig.is_invalid_instruction() {
                    detour = self.detour(space, cx.gp[RIP]);
                    // It may have been in a page that has gone since.
                    if detour.is_some() || heat.moves.load(SeqCst) != moves {
                        continue;
                    }
                }
                let trap = kml::trap_of(&sig, cx);
                if trap == Trap::Syscall {
                    self.consider(space, cx);
                }
                return (trap, None);
            }
            if cpu.pending.load(SeqCst) != 0 {
                return (Trap::Interrupt, None);
            }
        }
    }

    /// Keeps the clock that guests read by themselves right.
    #[cold]
    fn look_after_clock(&self) {
        clock::look_after(&self.next_refresh, self.options.clock);
    }
}

/// What the CPU says to a jump to an address that cannot exist.
fn bad_address(cx: &mut UserContext) -> Trap {
    const VECTOR_GP: u32 = 13;
    const SI_KERNEL: i32 = 0x80;
    cx.gp[TRAPNO] = u64::from(VECTOR_GP);
    cx.gp[ERR] = 0;
    Trap::Exception {
        signo: libc::SIGSEGV,
        code: SI_KERNEL,
        addr: 0,
        vector: VECTOR_GP,
        error: 0,
    }
}

/// How `cx` is entered.
fn way(cx: &UserContext) -> u32 {
    let gp = &cx.gp;
    if gp[EFLAGS] & FLAG_TF != 0 || gp[GS_BASE] != 0 {
        return exit::FRAME;
    }
    if gp[RCX] == gp[RIP] && gp[R11] == gp[EFLAGS] {
        return exit::CALL;
    }
    exit::FULL
}
