//! The host threads that embody vCPUs: starting them, their signals, their
//! timers, idling.
//!
//! Two host signals reach these threads: SIGALRM (the clock) and SIGURG
//! (another thread wants attention; a signal that debuggers pass on silently). The
//! handler runs in signal context: atomics and raw host calls only. It restarts
//! whatever host call it interrupts, except the sleeps of `switch::sleep`.

use super::SeccompEngine;
use crate::x86_64::switch;
use crate::{Error, cpus};
use abi::Errno;
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64};
use hal::cpu::{CpuBlock, CpuId, IRQ_TIMER, SavedStack, mode};
use host_sys::signal::{self, bit};
use host_sys::task::{self, CpuSet};
use host_sys::time::{self, TimerId};
use host_sys::{mem, raw};

const ATTENTION: i32 = libc::SIGURG;
/// Alternate stack of a vCPU's thread: room for a crash report.
const ALT_STACK: usize = 256 << 10;

/// The host thread of one vCPU.
pub(crate) struct Vcpu {
    /// Host CPU it is bound to, -1 = none.
    host_cpu: i32,
    /// Its host thread, 0 before it starts.
    tid: AtomicI32,
    timer: AtomicI32,
    /// When the host's timer goes off (host's monotonic clock); `u64::MAX` = not.
    armed_ns: AtomicU64,
    block: AtomicPtr<CpuBlock>,
    clock_offset: AtomicU64,
    /// See [`super::EngineOptions::tick_ns`].
    tick_ns: u64,
}

impl Vcpu {
    pub(crate) fn new(host_cpu: i32, tick_ns: u64) -> Vcpu {
        Vcpu {
            host_cpu,
            tid: AtomicI32::new(0),
            timer: AtomicI32::new(-1),
            armed_ns: AtomicU64::new(u64::MAX),
            block: AtomicPtr::new(ptr::null_mut()),
            clock_offset: AtomicU64::new(0),
            tick_ns,
        }
    }

    /// Sets the host's timer, if it would not go off early enough by itself.
    fn arm(&self, host_ns: u64) {
        if self.armed_ns.load(Relaxed) <= host_ns {
            // Goes off early and is then set again by the handler.
            return;
        }
        // First: a timer that goes off in between takes the note back.
        self.armed_ns.store(host_ns, Relaxed);
        let timer = TimerId(self.timer.load(Relaxed));
        if timer.0 >= 0 {
            let _ = time::timer_set(timer, Some(host_ns));
        }
    }
}

impl SeccompEngine {
    /// Host CPU for vCPU `cpu`, if bound.
    pub(crate) fn host_cpu(&self, cpu: u32) -> Option<i32> {
        let v = self.vcpus.get(cpu as usize)?;
        (v.host_cpu >= 0).then_some(v.host_cpu)
    }

    /// The vCPU that this host thread embodies; 0 for others.
    pub(crate) fn this_cpu(&self) -> u32 {
        let tid = task::gettid();
        let mine = self.vcpus.iter().position(|v| v.tid.load(Relaxed) == tid);
        mine.unwrap_or(0) as u32
    }

    /// Makes the calling thread vCPU `block.id` (0), before it switches to the boot stack.
    pub fn adopt_cpu(&'static self, block: &'static CpuBlock) -> Result<(), Error> {
        let fail = |what| move |e| Error::Host(what, e);
        let id = block.id as usize;
        let v = self
            .vcpus
            .get(id)
            .ok_or(Error::Host("start a vCPU", raw::Errno::EINVAL))?;
        // Handlers are the process's: those of vCPU 0 serve all.
        for signo in [libc::SIGALRM, ATTENTION].into_iter().filter(|_| id == 0) {
            install(signo).map_err(fail("install a signal handler"))?;
        }
        if v.host_cpu >= 0 {
            task::set_affinity(0, &CpuSet::of(v.host_cpu as usize))
                .map_err(fail("bind a vCPU to a host CPU"))?;
        }
        let tid = task::gettid();
        let timer = time::timer_create(libc::SIGALRM, tid, ptr::from_ref(v).expose_provenance())
            .map_err(fail("make a vCPU's timer"))?;
        v.clock_offset.store(self.clock_offset, Relaxed);
        v.block.store(ptr::from_ref(block).cast_mut(), Relaxed);
        v.timer.store(timer.0, Relaxed);
        v.tid.store(tid, SeqCst);
        if v.tick_ns > 0 {
            v.arm(time::monotonic_ns() + v.tick_ns);
        }
        signal::unblock(bit(libc::SIGALRM) | bit(ATTENTION));
        Ok(())
    }

    pub(crate) fn spawn_cpu(
        &'static self,
        id: CpuId,
        block: &'static CpuBlock,
        entry: SavedStack,
    ) -> Result<(), Errno> {
        if id as usize >= self.vcpus.len() || block.id != id {
            return Err(Errno::EINVAL);
        }
        cpus::start(id, entry, move || {
            let prot = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            // SAFETY: a new mapping, which becomes this thread's alternate
            // stack and nothing else, for ever.
            let stack = unsafe {
                mem::mmap(0, ALT_STACK, prot, flags, -1, 0)
                    .and_then(|base| signal::set_altstack(base, ALT_STACK))
            };
            stack.is_ok() && self.adopt_cpu(block).is_ok()
        })
    }

    pub(crate) fn raise(&self, cpu: &CpuBlock, bits: u32) {
        cpu.pending.fetch_or(bits, SeqCst);
        // The CPU announces its mode before it looks at `pending`: it sees the
        // bits, or we see the mode.
        match cpu.mode.load(SeqCst) {
            mode::USER => {
                let tid = self
                    .vcpus
                    .get(cpu.id as usize)
                    .map_or(0, |v| v.tid.load(SeqCst));
                if tid > 0 {
                    let _ = task::tgkill(self.kernel_pid, tid, ATTENTION);
                }
            }
            // It sleeps on `pending` itself, and only while that is 0.
            mode::IDLE => time::futex_wake(&cpu.pending, 1),
            _ => {}
        }
    }

    pub(crate) fn sleep_idle(&self, cpu: &CpuBlock, deadline_ns: Option<u64>) {
        let until = deadline_ns.map(|d| d.saturating_add(self.clock_offset));
        let timeout = until.map(|ns| libc::timespec {
            tv_sec: (ns / 1_000_000_000).min(i64::MAX as u64) as i64,
            tv_nsec: (ns % 1_000_000_000) as i64,
        });
        cpu.mode.store(mode::IDLE, SeqCst);
        while cpu.pending.load(SeqCst) == 0 && until.is_none_or(|u| time::monotonic_ns() < u) {
            let op = libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG;
            switch::sleep(&cpu.pending, op, 0, timeout.as_ref(), &cpu.pending);
        }
        cpu.mode.store(mode::KERNEL, SeqCst);
    }

    pub(crate) fn program_timer(&self, cpu: &CpuBlock, deadline_ns: Option<u64>) {
        let deadline = deadline_ns.unwrap_or(u64::MAX);
        // Seen by the handler, which runs on this thread.
        cpu.deadline.store(deadline, SeqCst);
        if deadline != u64::MAX
            && let Some(v) = self.vcpus.get(cpu.id as usize)
        {
            v.arm(deadline.saturating_add(self.clock_offset).min(u64::MAX - 1));
        }
    }
}

fn install(signo: i32) -> raw::Result {
    // SAFETY: all-zero is a valid sigaction; the handler does only what a
    // signal handler may do.
    unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        libc::sigaddset(&mut action.sa_mask, libc::SIGALRM);
        libc::sigaddset(&mut action.sa_mask, ATTENTION);
        match libc::sigaction(signo, &action, ptr::null_mut()) {
            0 => Ok(()),
            _ => Err(raw::Errno::EINVAL),
        }
    }
}

/// Signal context: atomics and raw host calls only.
extern "C" fn on_signal(signo: i32, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the host passes valid structures. A timer's value is a pointer
    // to a Vcpu, which lives for ever.
    unsafe {
        if signo == libc::SIGALRM && (*info).si_code == libc::SI_TIMER {
            let v: *const Vcpu = (*info).si_value().sival_ptr.cast_const().cast();
            if let Some(v) = v.as_ref() {
                clock_interrupt(v);
            }
        }
        let regs = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let ip = &mut regs[libc::REG_RIP as usize];
        if let Some(end) = switch::end_sleep(*ip as u64) {
            *ip = end as i64;
        }
    }
}

/// Signal context.
fn clock_interrupt(v: &Vcpu) {
    v.armed_ns.store(u64::MAX, Relaxed);
    // SAFETY: null, or a block that lives for ever.
    let Some(block) = (unsafe { v.block.load(Relaxed).as_ref() }) else {
        return;
    };
    if v.tick_ns > 0 {
        if block.mode.load(SeqCst) != mode::IDLE {
            block.pending.fetch_or(IRQ_TIMER, SeqCst);
        }
        v.arm(time::monotonic_ns() + v.tick_ns);
    }
    let deadline = block.deadline.load(SeqCst);
    if deadline == u64::MAX {
        return;
    }
    let offset = v.clock_offset.load(Relaxed);
    if time::monotonic_ns().wrapping_sub(offset) >= deadline {
        block.pending.fetch_or(IRQ_TIMER, SeqCst);
    } else {
        v.arm(deadline.saturating_add(offset).min(u64::MAX - 1));
    }
}
