//! The loop a task spends its life in: run guest code, handle its trap.
//!
//! Life of a system call: `Engine::run_program` calls [`Calls::carry_out`]; the time is
//! charged ([`Meter`]); the function of the syscall layer ([`Dispatch`]) gets a [`Ctx`]; its
//! result goes to the return register. If nothing else is to be done guest code goes on;
//! else `run_program` returns, and pending interrupts, signals and a due change of task are handled ([`prepare_user`]).
//!
//! What a brief call goes through lies straight in one function, the rest apart from it: where a call takes some forty CPU
//! cycles in all, each pointer that leads to another counts.

use crate::signal::deliver::{Handled, Interrupted};
use crate::task::flag;
use crate::{Ctx, Kernel, Task, current, exit, oom, rseq, sched, signal};
use abi::signal::{SIGBUS, SIGKILL, SIGSEGV};
use abi::{Errno, SigInfo};
use alloc::format;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use hal::arch::{SyscallArgs, SyscallWords};
use hal::cpu::{self, IRQ_ASYNC, IRQ_DEVICE, IRQ_RESCHED, IRQ_TIMER};
use hal::engine::Engine;
use hal::platform::LogLevel;
use hal::{After, Prot, Trap};
use mm::Mm;
use mm::aspace::FaultError;

/// What a system call gives: its result, or an [`Errno`]'s number. Both are words, so they come in registers.
pub type Outcome = core::result::Result<u64, u64>;

/// Carries out a system call; the arguments as the registers hold them. The result goes to the return register unless
/// [`Ctx::keep_regs`] was called. The restart errors ([`abi::Errno::ERESTARTSYS`]
/// and its kin) are handled by the caller.
pub type Handler = fn(&Ctx, &SyscallArgs) -> Outcome;

/// A system call.
#[derive(Clone, Copy)]
pub struct Call {
    /// Carries it out.
    pub handler: Handler,
    /// With a third argument below this, it usually takes about as long as two looks at the clock, and makes no kernel
    /// objects. 0: never.
    pub brief_below: u64,
}

/// The functions of the syscall layer.
#[derive(Clone, Copy)]
pub struct Dispatch {
    /// System calls by number.
    pub calls: &'static [Option<Call>],
    /// Carries out any other number; any call when calls are traced; and those that are not brief when memory is short.
    pub other: fn(&Ctx) -> Outcome,
}

/// Before there is a syscall layer.
static NO_CALLS: Dispatch = Dispatch {
    calls: &[],
    other: |_| Err(Errno::ENOSYS.0 as u64),
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
const LOOK_EVERY: u32 = 64;

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
        let last = || sched::accounted(self.task);
        self.short != 0 && self.engine.ticks().wrapping_sub(last()) < self.short
    }
    /// Charges the time since the last look. Gives the time.
    fn look(&mut self, user: bool) -> u64 {
        sched::user_transition(self.task, user)
    }
    /// Before guest code runs.
    fn enter_user(&mut self) {
        if sched::is_alone(self.task) && (sched::is_in_user(self.task) || self.is_recent()) {
            return sched::note_mode(self.task, true);
        }
        let now = self.look(true);
        sched::program_tick(self.task.kernel, now);
    }
    /// After a trap that is no system call.
    fn leave_user(&mut self) {
        self.look(false);
    }
    /// After the trap of a system call that is brief.
    #[inline]
    fn begin_brief(&mut self) {
        self.brief_calls = self.brief_calls.wrapping_add(1);
        if self.brief_calls % LOOK_EVERY == 0 {
            self.notice_brief();
        }
    }
    #[cold]
    fn notice_brief(&mut self) {
        let as_user = self.brief_calls % (2 * LOOK_EVERY) == 0;
        if !as_user {
            sched::note_mode(self.task, false);
        } else if !self.is_recent() {
            self.look(true);
        }
    }
    /// After the trap of any other.
    fn begin_call(&mut self) {
        match self.is_recent() {
            true => sched::note_mode(self.task, false),
            false => {
                self.look(false);
            }
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
    let engine = platform.engine();
    let mut calls = Calls::new(task, engine);
    let mut cx = Ctx::of(task);
    // The first program's exec was no system call: the first one's result is stored.
    task.clear_flag(flag::KEEP_REGS);
    loop {
        if prepare_user(task, calls.interrupted.take()) == Handled::Exit {
            return;
        }
        if task.flag(flag::NEW_CONTEXT) {
            task.clear_flag(flag::NEW_CONTEXT);
            cx = Ctx::of(task);
        }
        let Some(mm) = cx.try_mm() else { return };
        calls.meter.enter_user();
        let trap = engine.run_program(mm.space(), &task.regs, &mut |regs| {
            // SAFETY: the task's own registers, which are left to this function.
            #[expect(unsafe_code)]
            let words = unsafe { regs.syscall() };
            calls.carry_out(&cx, words)
        });
        if trap != Trap::Syscall {
            calls.meter.leave_user();
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

/// The system calls of a task.
struct Calls {
    meter: Meter,
    /// Those that are carried out at once, by number.
    by_number: &'static [Option<Call>],
    other: fn(&Ctx) -> Outcome,
    /// What to decide if the last one was interrupted by signals.
    interrupted: Option<Interrupted>,
}

/// What [`prepare_user`] would do something about, or the engine must hear of.
const LOOK: u32 =
    flag::SIGPENDING | flag::EXIT | flag::RESTORE_MASK | flag::NEW_CONTEXT | flag::RSEQ;

impl Calls {
    fn new(task: &'static Task, engine: &'static dyn Engine) -> Calls {
        let kernel = task.kernel;
        let dispatch = kernel.dispatch.get().unwrap_or(&NO_CALLS);
        Calls {
            meter: Meter::new(task, engine),
            by_number: if kernel.params.strace {
                &[]
            } else {
                dispatch.calls
            },
            other: dispatch.other,
            interrupted: None,
        }
    }

    /// Carries out the system call in the registers, and says what follows it. The engine looks at pending interrupts anyway.
    fn carry_out(&mut self, cx: &Ctx, words: &SyscallWords) -> After {
        let task = cx.task();
        // The number is an int: its upper half does not count.
        let call = self.by_number.get(words.number.get() as u32 as usize);
        let outcome = match call.and_then(|c| c.as_ref()) {
            Some(c) if words.args[2].get() < c.brief_below => {
                self.meter.begin_brief();
                (c.handler)(cx, &words.args)
            }
            call => self.carry_out_long(cx, words, call),
        };
        let flags = task.flags.load(Ordering::Acquire);
        match outcome {
            Ok(v) if flags & (flag::KEEP_REGS | LOOK) == 0 => words.result.set(v),
            _ if self.finish(task, words, outcome) => {}
            _ => return After::Look,
        }
        match sched::is_quiet(task) {
            true => After::GoOn,
            false => self.settle(task),
        }
    }

    /// A call that is not brief, or not in the table.
    #[inline(never)]
    fn carry_out_long(&mut self, cx: &Ctx, words: &SyscallWords, call: Option<&Call>) -> Outcome {
        self.meter.begin_call();
        match call {
            Some(c) if !mm::frame::pressure() => (c.handler)(cx, &words.args),
            _ => (self.other)(cx),
        }
    }

    /// After a call: what follows it where there is something to look at.
    #[cold]
    fn settle(&mut self, task: &'static Task) -> After {
        if sched::misplaced(task) || sched::need_resched(task) {
            return After::Look;
        }
        self.meter.enter_user();
        After::GoOn
    }

    /// Puts the result where it belongs. Whether guest code may go on behind the call.
    #[cold]
    fn finish(&mut self, task: &'static Task, words: &SyscallWords, outcome: Outcome) -> bool {
        if task.flags.load(Ordering::Relaxed) & flag::KEEP_REGS != 0 {
            task.clear_flag(flag::KEEP_REGS);
        } else {
            match outcome.map_err(|e| Errno(e as u16)) {
                Ok(v) => words.result.set(v),
                Err(e) => {
                    self.interrupted = Interrupted::from_errno(e, words.number.get());
                    let e = match self.interrupted {
                        Some(_) => Errno::EINTR,
                        None => e,
                    };
                    words.result.set(e.to_return());
                }
            }
        }
        self.interrupted.is_none() && task.flags.load(Ordering::Acquire) & LOOK == 0
    }
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
        if sched::need_resched(task) {
            sched::schedule();
            continue;
        }
        if task.flag(flag::RSEQ) {
            task.clear_flag(flag::RSEQ);
            if task.mm().is_some_and(|mm| rseq::resume(task, &mm).is_err()) {
                signal::force(task, SigInfo::new(SIGSEGV, signal::SI_KERNEL));
            }
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
