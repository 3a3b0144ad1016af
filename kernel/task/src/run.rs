//! The loop a task spends its life in: run guest code, handle its trap.
//!
//! Life of a system call: `Engine::run_program` calls [`syscall`]; the time is
//! charged ([`Meter`]); the function of the syscall layer ([`Dispatch`]) gets a [`Ctx`]; its
//! result goes to the return register. If nothing else is to be done ([`is_settled`]) guest code goes on;
//! else `run_program` returns, and pending interrupts, signals and a due change of task are handled ([`prepare_user`]).

use crate::signal::deliver::{Handled, Interrupted};
use crate::task::flag;
use crate::{Ctx, Kernel, Task, current, exit, oom, sched, signal};
use abi::signal::{SIGBUS, SIGKILL, SIGSEGV};
use abi::{Errno, Result, SigInfo};
use alloc::format;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use hal::arch::SyscallArgs;
use hal::cpu::{self, IRQ_ASYNC, IRQ_DEVICE, IRQ_RESCHED, IRQ_TIMER};
use hal::engine::Engine;
use hal::platform::LogLevel;
use hal::{After, Arch, Prot, Trap};
use mm::Mm;
use mm::aspace::FaultError;

/// Carries out a system call; the arguments as the registers hold them. The result goes to the return register unless
/// [`Ctx::keep_regs`] was called. The restart errors ([`abi::Errno::ERESTARTSYS`]
/// and its kin) are handled by the caller.
pub type Handler = fn(&Ctx, &[u64; 6]) -> Result<u64>;

/// A system call.
#[derive(Clone, Copy)]
pub struct Call {
    /// Carries it out.
    pub handler: Handler,
    /// Whether it usually takes about as long as two looks at the clock.
    pub brief: Brief,
}

/// When a system call is brief.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Brief {
    /// Perhaps never.
    Never,
    /// Always.
    Always,
    /// With a third argument of so much at most.
    UpTo(u64),
}

/// The functions of the syscall layer.
#[derive(Clone, Copy)]
pub struct Dispatch {
    /// System calls by number.
    pub calls: &'static [Option<Call>],
    /// Carries out any other number, and any call when that is traced or memory is short.
    pub other: fn(&Ctx, &SyscallArgs) -> Result<u64>,
}

/// Before there is a syscall layer.
static NO_CALLS: Dispatch = Dispatch {
    calls: &[],
    other: |_, _| Err(Errno::ENOSYS),
};

/// When the clock is looked at to charge a task's time to user and system mode.
///
/// At every change of mode; but where a trap is cheap, system calls cause it only every few microseconds, and
/// the time is charged to the mode in which that is noticed.
///
/// Brief calls count as user mode. One in [`LOOK_EVERY`] may be noticed, by turns as user mode and
/// as system mode: programs that do nothing else are charged half in each.
struct Meter {
    task: &'static Task,
    engine: &'static dyn Engine,
    /// Engine ticks within which no new look is due.
    short: u64,
    brief_calls: u32,
}

/// One in so many brief calls is looked at.
const LOOK_EVERY: u32 = 16;

impl Meter {
    fn new(task: &'static Task, engine: &'static dyn Engine) -> Meter {
        Meter {
            task,
            engine,
            short: engine.short_ticks(),
            brief_calls: 0,
        }
    }
    fn is_recent(&self) -> bool {
        let last = || sched::accounted(self.task.kernel);
        self.short != 0 && self.engine.ticks().wrapping_sub(last()) < self.short
    }
    /// Charges the time since the last look. Gives the time.
    fn look(&mut self, user: bool) -> u64 {
        sched::user_transition(self.task, user)
    }
    /// Before guest code runs.
    fn enter_user(&mut self) {
        let kernel = self.task.kernel;
        if sched::is_alone(kernel) && (sched::is_in_user(self.task) || self.is_recent()) {
            return sched::note_mode(self.task, true);
        }
        let now = self.look(true);
        sched::program_tick(kernel, now);
    }
    /// After a trap that is no system call.
    fn leave_user(&mut self) {
        self.look(false);
    }
    /// After the trap of a system call.
    fn begin_call(&mut self, brief: bool) {
        if !brief {
            match self.is_recent() {
                true => sched::note_mode(self.task, false),
                false => {
                    self.look(false);
                }
            }
            return;
        }
        self.brief_calls = self.brief_calls.wrapping_add(1);
        match self.brief_calls % (2 * LOOK_EVERY) {
            0 if !self.is_recent() => {
                self.look(true);
            }
            LOOK_EVERY => sched::note_mode(self.task, false),
            _ => {}
        }
    }
}

/// Handles interrupts of this vCPU.
pub(crate) fn interrupts(kernel: &'static Kernel, bits: u32) {
    kernel.counters.interrupts.fetch_add(1, Ordering::Relaxed);
    if bits & IRQ_TIMER != 0 {
        kernel.timers.run();
        let now = kernel.now();
        sched::tick(kernel, now);
        let next = match (kernel.timers.next_deadline(), sched::next_tick(kernel, now)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        kernel.platform.engine().set_timer(cpu::current_cpu(), next);
    }
    if bits & IRQ_RESCHED != 0 {
        sched::set_need_resched(kernel, cpu::current_cpu().id);
    }
    if bits & IRQ_ASYNC != 0 {
        crate::sigio::run(kernel);
    }
    if bits & IRQ_DEVICE != 0 {
        let mut events = Vec::new();
        kernel.platform.devices().take_events(&mut events);
        for e in events {
            match (e, kernel.device_handler.get()) {
                (hal::dev::Event::HostSignal(n), _) => {
                    kernel.signal_main(SigInfo::new(n, signal::SI_KERNEL));
                }
                (e, Some(h)) => h.event(e),
                (_, None) => {}
            }
        }
    }
}

/// First code of every task but the idle ones.
pub(crate) extern "C" fn task_entry(_arg: usize) -> ! {
    sched::finish_switch();
    let task = current();
    let entry = task.entry.lock().take();
    if let Some(f) = entry {
        f();
    }
    // A thread of the kernel may have become a program.
    if !task.is_kernel() {
        user_loop(task);
    }
    exit::finish(task)
}

/// First code of the idle tasks.
pub(crate) extern "C" fn idle_entry(_arg: usize) -> ! {
    sched::idle_loop(current().kernel)
}

/// Code of SIGBUS: no memory behind the address.
const BUS_ADRERR: i32 = 2;

/// Runs the task's program until the task ends. All that it holds is released
/// when it returns.
fn user_loop(task: &'static Task) {
    let platform = task.kernel.platform;
    let (engine, arch) = (platform.engine(), platform.arch());
    let mut meter = Meter::new(task, engine);
    let mut cx = Ctx::of(task);
    // The first program's exec was no system call: the first one's result is stored.
    task.clear_flag(flag::KEEP_REGS);
    let mut interrupted = None;
    loop {
        if prepare_user(task, interrupted.take()) == Handled::Exit {
            return;
        }
        if task.flag(flag::NEW_CONTEXT) {
            task.clear_flag(flag::NEW_CONTEXT);
            cx = Ctx::of(task);
        }
        let Some(mm) = cx.try_mm() else { return };
        meter.enter_user();
        let trap = engine.run_program(mm.space(), &task.regs, &mut || {
            interrupted = syscall(&cx, arch, &mut meter);
            if interrupted.is_some() || !is_settled(task) {
                return After::Look;
            }
            meter.enter_user();
            After::GoOn
        });
        if trap != Trap::Syscall {
            meter.leave_user();
        }
        if let Some(what) = mm.space().notice() {
            let comm = task.comm();
            let text = format!("{}[{}]: {what}", comm.escape_ascii(), task.tid());
            task.kernel.log(LogLevel::Info, text);
        }
        match trap {
            Trap::Syscall => {}
            Trap::PageFault { addr, access } => page_fault(task, mm, addr, access),
            // Every page that a program can reach has its frame: it is the host that has no
            // room for this one. If it still has none, the machine ends here; else
            // the program tries again.
            Trap::Exception {
                signo: SIGBUS,
                code: BUS_ADRERR,
                addr,
                ..
            } if mm.touch(addr) => {}
            Trap::Exception {
                signo, code, addr, ..
            } => signal::force(task, SigInfo::fault(signo, code, addr)),
            Trap::Interrupt => {}
            Trap::Lost => signal::kill_process(&task.process, SIGKILL),
        }
    }
}

/// Carries out the system call in the registers. Gives what to decide if signals interrupted it.
fn syscall(cx: &Ctx, arch: &dyn Arch, meter: &mut Meter) -> Option<Interrupted> {
    let (task, kernel) = (cx.task(), cx.kernel());
    let args = task.with_regs(|r| arch.syscall(r));
    let dispatch = kernel.dispatch.get().unwrap_or(&NO_CALLS);
    // The number is an int: its upper half does not count.
    let call = dispatch.calls.get(args.nr as u32 as usize);
    let call = call.and_then(|c| c.as_ref());
    meter.begin_call(call.is_some_and(|c| match c.brief {
        Brief::Never => false,
        Brief::Always => true,
        Brief::UpTo(n) => args.args[2] <= n,
    }));
    task.syscall_nr.store(args.nr, Ordering::Relaxed);
    let result = match call {
        Some(c) if !kernel.params.strace && !mm::frame::pressure() => (c.handler)(cx, &args.args),
        _ => (dispatch.other)(cx, &args),
    };
    task.syscall_nr.store(u64::MAX, Ordering::Relaxed);
    if task.flags.load(Ordering::Relaxed) & flag::KEEP_REGS != 0 {
        task.clear_flag(flag::KEEP_REGS);
        return None;
    }
    match result {
        Ok(v) => task.with_regs(|r| arch.set_return(r, v)),
        Err(e) => {
            if let Some(i) = Interrupted::from_errno(e, args.nr) {
                task.with_regs(|r| arch.set_return(r, Errno::EINTR.to_return()));
                return Some(i);
            }
            task.with_regs(|r| arch.set_return(r, e.to_return()));
        }
    }
    None
}

/// Whether guest code may go on behind a system call: [`prepare_user`] would find nothing to do, and the
/// address space is the same. The engine looks at pending interrupts anyway.
fn is_settled(task: &Task) -> bool {
    const LOOK: u32 = flag::SIGPENDING | flag::EXIT | flag::RESTORE_MASK | flag::NEW_CONTEXT;
    task.flags.load(Ordering::Acquire) & LOOK == 0
        && !sched::misplaced(task)
        && !sched::need_resched(task.kernel)
}

/// Everything that has to happen before guest code runs: interrupts, signals,
/// the change to another task.
fn prepare_user(task: &'static Task, mut interrupted: Option<Interrupted>) -> Handled {
    let kernel = task.kernel;
    loop {
        let bits = cpu::current_cpu().take_pending();
        if bits != 0 {
            interrupts(kernel, bits);
        }
        if task.flags.load(Ordering::Acquire) & (flag::SIGPENDING | flag::EXIT | flag::RESTORE_MASK)
            != 0
        {
            if task.flag(flag::EXIT) {
                return Handled::Exit;
            }
            if signal::deliver::handle(task, interrupted.take()) == Handled::Exit {
                return Handled::Exit;
            }
            // Handlers are set up; what comes from here on is not of this system call.
            continue;
        }
        if sched::misplaced(task) {
            sched::migrate();
            continue;
        }
        if sched::need_resched(kernel) {
            sched::schedule();
            continue;
        }
        if let Some(i) = interrupted.take() {
            // No signal was there after all.
            i.restart(task);
        }
        return Handled::Done;
    }
}

fn page_fault(task: &'static Task, mm: &Mm, addr: u64, access: Prot) {
    let limits = task.process.mm_limits(task);
    match mm.fault(addr, access, &limits) {
        Ok(()) => {
            task.minflt.fetch_add(1, Ordering::Relaxed);
        }
        Err(FaultError::Segv(code)) => signal::force(task, SigInfo::fault(SIGSEGV, code, addr)),
        Err(FaultError::Bus) => signal::force(task, SigInfo::fault(SIGBUS, BUS_ADRERR, addr)),
        // Somebody else is on the way out, but slowly: the program tries again.
        Err(FaultError::Oom) if oom::kill_something() => {}
        Err(FaultError::Oom) => signal::kill_process(&task.process, SIGKILL),
    }
}
