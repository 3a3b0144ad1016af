//! Running guest code: the handover between a vCPU's thread and its stub threads.
//!
//! The order of words, for vCPU thread (k) and stub (s):
//!
//! 1. k fills the frame, sets `released`, then [`mode::USER`], then looks at
//!    `pending`: an interrupt sender sets `pending` first and looks at the mode
//!    then, so one of the two sees the other.
//! 2. k writes the go word and wakes s, or has the mapper do so behind a list.
//!    The host mostly runs k as soon as s wakes it: then s does not sleep yet,
//!    has not said so, and finds the go word without being woken.
//! 3. k sleeps on the report word, unless `pending` is set. A signal to k cuts
//!    the sleep short even if it comes before it begins (`switch::sleep`).
//! 4. If `pending` got set, k kicks the stub: once, not before it has woken it
//!    whatever s has said of its sleep, and only when the mapper has answered,
//!    because until then frames of other owners may still be mapped, where a
//!    hijacked thread could make the host write a signal frame.
//! 5. s reports, or is found silent by the watchdog, or is dead.

use super::SeccompEngine;
use super::process::{Gone, NoStub, Process, Stub, Use, next_go, stub_state};
use super::space::Space;
use super::watchdog::Watchdog;
use crate::patience::Patience;
use crate::x86_64::regs::{FS_BASE, GS_BASE};
use crate::x86_64::switch::{self, NEVER};
use crate::x86_64::{clock, stub};
use core::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use hal::cpu::{CpuBlock, mode};
use hal::{Trap, UserContext, UserSpace};

impl SeccompEngine {
    pub(crate) fn run_guest(
        &'static self,
        cpu: &CpuBlock,
        space: &dyn UserSpace,
        cx: &mut UserContext,
    ) -> Trap {
        let Some(space) = space.as_any().downcast_ref::<Space>() else {
            return Trap::Lost;
        };
        match self.run_in(cpu, space, cx) {
            Ok(trap) => trap,
            Err(Gone) => Trap::Lost,
        }
    }

    fn run_in(
        &'static self,
        cpu: &CpuBlock,
        space: &Space,
        cx: &mut UserContext,
    ) -> Result<Trap, Gone> {
        let id = cpu.id;
        let (held, s) = self.ready_thread(space, id)?;
        let p = *held;
        self.bring_fp(p, id, s, cx);
        clock::look_after(&self.next_refresh, self.options.clock);
        loop {
            let trap = self.run_once(cpu, space, p, s, cx)?;
            // A kick that was meant for an earlier run, or a stray signal.
            if trap != Trap::Interrupt || cpu.pending.load(SeqCst) != 0 {
                return Ok(trap);
            }
        }
    }

    /// The space's process, with a thread for vCPU `id`.
    fn ready_thread(&'static self, space: &Space, id: u32) -> Result<(Use, &'static Stub), Gone> {
        let mut patience = Patience::default();
        loop {
            let Some(held) = space.hold() else {
                space.attach(self.acquire(id).map_err(|_| Gone)?);
                continue;
            };
            let p = *held;
            let s = p.stubs.get(id as usize).ok_or(Gone)?;
            if s.state.load(Relaxed) != stub_state::READY {
                match p.make_stub(id, self.host_cpu(id)) {
                    Ok(()) => {}
                    Err(NoStub::Refused) if patience.nap() => continue,
                    Err(_) => return Err(Gone),
                }
            }
            return Ok((held, s));
        }
    }

    fn run_once(
        &'static self,
        cpu: &CpuBlock,
        space: &Space,
        p: &'static Process,
        s: &Stub,
        cx: &mut UserContext,
    ) -> Result<Trap, Gone> {
        let id = cpu.id;
        let area = p.area(id);
        let (fs, gs) = (cx.gp[FS_BASE], cx.gp[GS_BASE]);
        let bases = s.fs.load(Relaxed) != fs || s.gs.load(Relaxed) != gs;
        self.frame().load(area, stub::area(id), cx, bases);

        s.released.store(true, SeqCst);
        cpu.mode.store(mode::USER, SeqCst);
        let leave = || {
            cpu.mode.store(mode::KERNEL, SeqCst);
            s.released.store(false, SeqCst);
        };
        if cpu.pending.load(SeqCst) != 0 {
            leave();
            return Ok(Trap::Interrupt);
        }
        let result = self.release_and_wait(cpu, space, p, s);
        leave();
        result?;
        let trap = self.frame().save(area, cx);
        s.fs.store(cx.gp[FS_BASE], Relaxed);
        s.gs.store(cx.gp[GS_BASE], Relaxed);
        Ok(trap)
    }

    fn release_and_wait(
        &'static self,
        cpu: &CpuBlock,
        space: &Space,
        p: &'static Process,
        s: &Stub,
    ) -> Result<(), Gone> {
        let id = cpu.id;
        let area = p.area(id);
        let go = next_go(s);
        let queue = &space.queue;
        let mut by_mapper = false;
        if queue.dirty.load(SeqCst) || queue.busy.load(SeqCst) {
            let mut m = p.map.lock();
            m.settle(p)?;
            queue.busy.store(false, SeqCst);
            if queue.dirty.load(SeqCst) {
                m.bind(p, self.host_cpu(id));
                by_mapper = m.apply(p, queue, self.map_limit, Some(p.go(id, go)))?;
            }
        }
        if !by_mapper {
            p.let_thread_go(id, go);
        }

        let report = area.u32(stub::REPORT);
        let mut watchdog: Option<Watchdog> = None;
        loop {
            let seen = report.load(Acquire);
            if p.dead.load(SeqCst) {
                return Err(Gone);
            }
            if seen == go {
                return Ok(());
            }
            match &mut watchdog {
                None => {
                    if switch::sleep(report, libc::FUTEX_WAIT, seen, None, &cpu.pending)
                        && cpu.pending.load(SeqCst) != 0
                    {
                        match by_mapper {
                            true => p.map.lock().settle(p)?,
                            // Another thread of the guest may have denied its sleep.
                            false => p.wake_thread(id),
                        }
                        p.kick(id);
                        watchdog = Some(Watchdog::new());
                    }
                }
                Some(w) => {
                    let nap = Watchdog::NAP;
                    let cut = switch::sleep(report, libc::FUTEX_WAIT, seen, Some(&nap), &NEVER);
                    if !cut && report.load(Acquire) == seen && w.is_silent(self.proc_dir, p, s) {
                        p.kill();
                    }
                }
            }
        }
    }

    /// The name of the vector state in `s`'s frame.
    fn home(p: &Process, id: u32, s: &Stub) -> u64 {
        u64::from(s.owner.load(Relaxed)) << 32 | u64::from(p.slot) << 8 | u64::from(id) << 1 | 1
    }

    /// Makes the vector state in the frame that of `cx`.
    fn bring_fp(&self, p: &Process, id: u32, s: &Stub, cx: &mut UserContext) {
        if cx.home != 0 && cx.home == Self::home(p, id, s) {
            return;
        }
        self.fetch_fp(cx);
        s.owner.fetch_add(1, Relaxed);
        self.frame().load_fp(p.area(id), &cx.fp);
        cx.home = Self::home(p, id, s);
    }

    /// Copies the vector state from where it was left to `cx`. A state whose
    /// thread has got another owner meanwhile is lost with its process.
    pub(crate) fn fetch_fp(&self, cx: &mut UserContext) {
        let home = core::mem::take(&mut cx.home);
        if home == 0 {
            return;
        }
        let (slot, id) = ((home >> 8) as u32 & 0xff_ffff, (home >> 1) as u32 & 0x7f);
        let Some(p) = self.process_in(slot) else {
            return;
        };
        let Some(s) = p.stubs.get(id as usize) else {
            return;
        };
        if home == Self::home(p, id, s) {
            self.frame().save_fp(p.area(id), &mut cx.fp);
        }
    }
}
