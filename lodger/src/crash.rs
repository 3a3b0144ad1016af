//! Kernel panics and faults of the kernel process: everything of the machine
//! dies, the terminal is given back, and what is known is printed.
//!
//! - [`images`]: what a backtrace reads, in a process that may open nothing.

mod images;

use crate::alloc;
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use host_os::shutdown::{self, KERNEL_PANIC};
use host_os::{log, mem};
pub use images::open as open_images;
use std::backtrace::Backtrace;
use std::ffi::c_void;
use std::panic::PanicHookInfo;
use std::path::PathBuf;
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

/// Alternate signal stack of the thread that embodies vCPU 0: room for a backtrace.
const ALT_STACK: usize = 256 << 10;
/// How long a backtrace may take.
const TRACE_TIMEOUT: Duration = Duration::from_secs(10);

type Handler = extern "C" fn(i32, *mut libc::siginfo_t, *mut c_void);

static MEMORY_FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
static CRASHED: AtomicBool = AtomicBool::new(false);
/// The thread that has faulted last.
static FAULTED: AtomicI32 = AtomicI32::new(0);

/// Takes panics and faults over, for this process.
pub fn install() {
    std::panic::set_hook(Box::new(on_panic));
    let stack: &'static mut [u8] = Box::leak(vec![0; ALT_STACK].into_boxed_slice());
    // SAFETY: the stack lives for ever and is used for nothing else.
    let _ = unsafe { host_sys::signal::set_altstack(stack.as_mut_ptr().addr(), stack.len()) };
    for (signo, handler) in [
        (libc::SIGSEGV, on_fault as Handler),
        (libc::SIGBUS, on_fault),
        (libc::SIGILL, on_fault),
        (libc::SIGFPE, on_fault),
        (libc::SIGABRT, on_fault),
        (libc::SIGSYS, on_refused),
    ] {
        // SAFETY: the handlers end the process or answer for the host; an all-zero mask is valid.
        unsafe {
            let mut action: libc::sigaction = core::mem::zeroed();
            action.sa_sigaction = handler as *const () as usize;
            // The report itself makes calls that are refused, and may fault.
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
            libc::sigaction(signo, &action, core::ptr::null_mut());
        }
    }
}

/// From now on the standard library leaves backtraces to this module: when memory runs out it
/// would make one of its own first, whatever state this process is in. The caller is the only thread.
pub fn take_backtraces() {
    // SAFETY: nobody else reads or writes the environment.
    unsafe { std::env::remove_var("RUST_BACKTRACE") };
}

/// Tells where the machine's memory is, for the message.
pub fn set_memory_file(path: Option<PathBuf>) {
    let _ = MEMORY_FILE.set(path);
}

fn on_panic(info: &PanicHookInfo) {
    come_home();
    let payload = info.payload();
    let what = match (
        payload.downcast_ref::<&str>(),
        payload.downcast_ref::<String>(),
    ) {
        (Some(s), _) => *s,
        (None, Some(s)) => s,
        (None, None) => "(no message)",
    };
    let at = match info.location() {
        Some(l) => format!("{}:{}:{}", l.file(), l.line(), l.column()),
        None => "unknown place".into(),
    };
    let thread = std::thread::current();
    let from = match (alloc::on_kernel_stack(), thread.name()) {
        (true, _) => "kernel panic".to_string(),
        (false, Some(t)) => format!("panic in thread '{t}'"),
        (false, None) => "panic".into(),
    };
    crash(&|| format!("{from}: {what}\n  at {at}"), Trace::Named)
}

extern "C" fn on_fault(signo: i32, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: the host passes a valid structure.
    let addr = unsafe { (*info).si_addr() }.addr();
    if signo == libc::SIGBUS && hal::mem::is_direct_map(addr) {
        shutdown::no_room();
    }
    fault(signo, addr)
}

/// Code of this process, or the kernel's in another, has faulted.
pub fn fault(signo: i32, addr: usize) -> ! {
    let me = host_sys::task::gettid();
    if FAULTED.swap(me, Ordering::AcqRel) == me {
        // What reports a fault uses what may be destroyed.
        say("lodger: kernel fault while another is reported");
        host_sys::task::exit_group(KERNEL_PANIC);
    }
    let name = match signo {
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGBUS => "SIGBUS",
        libc::SIGILL => "SIGILL",
        libc::SIGFPE => "SIGFPE",
        libc::SIGSYS => "SIGSYS",
        _ => "SIGABRT",
    };
    crash(
        &|| format!("kernel fault: {name}, address {addr:#x}"),
        Trace::Named,
    )
}

/// In place of the C library's, whose host calls the confinement does not allow. The standard
/// library ends here when memory runs out, or when a panic panics, and has said so.
#[unsafe(no_mangle)]
extern "C" fn abort() -> ! {
    crash(&|| "kernel fault: aborted".to_string(), Trace::Addresses)
}

/// A host call that the confinement does not allow.
extern "C" fn on_refused(_signo: i32, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the host passes valid structures.
    let (nr, code, regs) = unsafe {
        let words: *const i32 = info.cast();
        // siginfo_t of SIGSYS: signo, errno, code, -, address (8), number, instruction set.
        let (code, nr) = (words.add(2).read(), words.add(6).read());
        (
            nr,
            code,
            &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs,
        )
    };
    const SYS_SECCOMP: i32 = 1;
    if code != SYS_SECCOMP {
        crash(&|| "kernel fault: SIGSYS".to_string(), Trace::Named)
    }
    let arg = |r: i32| regs[r as usize] as usize;
    let args = [arg(libc::REG_RDI), arg(libc::REG_RSI), arg(libc::REG_RDX)];
    let answer = images::answer(nr.into(), args, CRASHED.load(Ordering::Acquire));
    let Some(answer) = answer else {
        crash(
            &|| {
                let [a, b, c] = args;
                format!(
                    "the kernel process made host call {nr} ({a:#x}, {b:#x}, {c:#x}), which it never needs"
                )
            },
            Trace::Named,
        )
    };
    regs[libc::REG_RAX as usize] = answer as i64;
}

/// Kinds of backtrace.
enum Trace {
    /// Functions, files and lines.
    Named,
    /// Addresses only: the standard library may hold its backtrace lock.
    Addresses,
}

/// The engine `kml`, in which kernel code also runs in other processes than this.
static KML: OnceLock<&'static arch_um::KmlEngine> = OnceLock::new();

/// Says that the machine runs with the engine `kml`.
pub fn set_kml(engine: &'static arch_um::KmlEngine) {
    let _ = KML.set(engine);
}

/// Kernel code has crashed in a user process, which has said what it knew.
pub fn report_elsewhere() -> ! {
    farewell()
}

/// Kernel code that crashes in a user process of the engine `kml` goes on in the kernel process,
/// on its stack. Whether this is the kernel process then.
fn come_home() -> bool {
    alloc::abandon_kernel_heap();
    let elsewhere = KML.get().filter(|e| e.in_user_process());
    elsewhere.is_none_or(|e| alloc::on_kernel_stack() && e.come_home())
}

/// The end of a broken machine.
fn crash(what: &dyn Fn() -> String, trace: Trace) -> ! {
    if !come_home() {
        // The watcher does the rest.
        say(&format!("lodger: {}", what()));
        addresses();
        host_sys::task::exit_group(KERNEL_PANIC);
    }
    shutdown::stop_machine();
    if CRASHED.swap(true, Ordering::AcqRel) {
        say("lodger: another crash while reporting the first");
        shutdown::exit(KERNEL_PANIC);
    }
    say(&format!("lodger: {}", what()));
    // Looking names up needs more stack than a kernel stack has, and a crash
    // can have broken what is needed for it: another thread does the rest, with a time limit.
    let (tx, rx) = mpsc::channel::<Backtrace>();
    let reporter = std::thread::Builder::new().spawn(move || report(&rx));
    if let (Ok(_), Trace::Named) = (reporter, trace) {
        let _ = tx.send(Backtrace::force_capture());
        loop {
            std::thread::park();
        }
    }
    addresses();
    farewell()
}

/// Prints the backtrace that comes, and ends the process.
fn report(trace: &mpsc::Receiver<Backtrace>) {
    match trace.recv_timeout(TRACE_TIMEOUT) {
        Ok(t) => say(from_crash(&t.to_string())),
        // The crashing thread reports on its own.
        Err(mpsc::RecvTimeoutError::Disconnected) => return,
        Err(mpsc::RecvTimeoutError::Timeout) => say("(no backtrace)"),
    }
    farewell()
}

/// The part of a backtrace below this module's and the standard library's own frames.
fn from_crash(trace: &str) -> &str {
    let own = [
        "rust_begin_unwind\n",
        "on_fault\n",
        "on_refused\n",
        "lodger_kml_crashed\n",
    ];
    let Some(at) = own.iter().filter_map(|n| trace.rfind(n)).max() else {
        return trace;
    };
    // The rest of that frame: its name, and perhaps the line with its place.
    let mut rest = &trace[at..];
    rest = rest.split_once('\n').map_or(rest, |(_, r)| r);
    match rest.split_once('\n') {
        Some((place, r)) if place.trim_start().starts_with("at ") => r,
        _ => rest,
    }
}

/// Prints the callers' addresses, for addr2line.
fn addresses() {
    let mut frames = [core::ptr::null_mut(); 128];
    // SAFETY: writes at most as many entries as there are, prints them.
    unsafe {
        let n = libc::backtrace(frames.as_mut_ptr(), frames.len() as i32);
        libc::backtrace_symbols_fd(frames.as_ptr(), n, 2);
    }
}

fn farewell() -> ! {
    if let Some(path) = MEMORY_FILE.get() {
        let remains = mem::remains(path.as_deref());
        say(&format!("lodger: {remains}"));
    }
    say(match KML.get() {
        None => "lodger: this is a bug in Lodger, whatever the guest did",
        Some(_) => {
            "lodger: this is a bug in Lodger, unless a program has written to its kernel's memory"
        }
    });
    shutdown::wait_for_processes();
    shutdown::exit(KERNEL_PANIC)
}

fn say(text: &str) {
    log::plain(text);
}

#[cfg(test)]
mod tests {
    use super::from_crash;

    #[test]
    fn own_frames_are_left_out() {
        let t = "   0: lodger::crash::crash\n             at x.rs:1\n   1: rust_begin_unwind\n             \
                 at y.rs:2\n   2: boot::start\n             at z.rs:3\n";
        assert!(from_crash(t).starts_with("   2: boot::start"));
        assert_eq!(from_crash("   0: a\n"), "   0: a\n");
    }
}
