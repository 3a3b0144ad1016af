//! Kernel panics and faults of the kernel process: everything of the machine
//! dies, the terminal is given back, and what is known is printed.

use crate::alloc;
use core::sync::atomic::{AtomicBool, Ordering};
use host_os::shutdown::{self, KERNEL_PANIC, NOT_STARTED};
use host_os::{log, mem};
use std::backtrace::Backtrace;
use std::ffi::c_void;
use std::fmt::Write;
use std::panic::PanicHookInfo;
use std::path::PathBuf;
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

/// Alternate signal stack of the thread that embodies vCPU 0: room for a backtrace.
const ALT_STACK: usize = 256 << 10;
/// How long finding the names of a backtrace may take.
const NAMES_TIMEOUT: Duration = Duration::from_secs(10);

static MEMORY_FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
static CRASHED: AtomicBool = AtomicBool::new(false);

/// Takes panics and faults over, for this process.
pub fn install() {
    std::panic::set_hook(Box::new(on_panic));
    let stack: &'static mut [u8] = Box::leak(vec![0; ALT_STACK].into_boxed_slice());
    // SAFETY: the stack lives for ever and is used for nothing else.
    let _ = unsafe { host_sys::signal::set_altstack(stack.as_mut_ptr().addr(), stack.len()) };
    for signo in [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGILL,
        libc::SIGFPE,
        libc::SIGABRT,
    ] {
        // SAFETY: the handler ends the process; an all-zero mask is valid.
        unsafe {
            let mut action: libc::sigaction = core::mem::zeroed();
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(signo, &action, core::ptr::null_mut());
        }
    }
}

/// Tells where the machine's memory is, for the message.
pub fn set_memory_file(path: Option<PathBuf>) {
    let _ = MEMORY_FILE.set(path);
}

fn on_panic(info: &PanicHookInfo) {
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
    crash(&|| format!("{what}\n  at {at}"))
}

extern "C" fn on_fault(signo: i32, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: the host passes a valid structure.
    let addr = unsafe { (*info).si_addr() }.addr();
    if signo == libc::SIGBUS && hal::mem::is_direct_map(addr) {
        shutdown::stop_machine();
        say("lodger: the host has no space left for the machine's memory file");
        shutdown::exit(NOT_STARTED);
    }
    let name = match signo {
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGBUS => "SIGBUS",
        libc::SIGILL => "SIGILL",
        libc::SIGFPE => "SIGFPE",
        _ => "SIGABRT",
    };
    crash(&|| match signo {
        libc::SIGABRT => format!("{name} in the kernel process"),
        _ => format!("{name} in the kernel process, address {addr:#x}"),
    })
}

/// The end of a broken machine.
fn crash(what: &dyn Fn() -> String) -> ! {
    let kernel = alloc::on_kernel_stack();
    alloc::abandon_kernel_heap();
    shutdown::stop_machine();
    if CRASHED.swap(true, Ordering::AcqRel) {
        say("lodger: another crash while reporting the first");
        shutdown::exit(KERNEL_PANIC);
    }
    let where_from = match (kernel, std::thread::current().name()) {
        (true, _) => "kernel panic".to_string(),
        (false, Some(t)) => format!("panic in thread '{t}'"),
        (false, None) => "panic".into(),
    };
    say(&format!("lodger: {where_from}: {}", what()));
    say(&names(Backtrace::force_capture()));
    if let Some(path) = MEMORY_FILE.get() {
        let remains = mem::remains(path.as_deref());
        say(&format!("lodger: {remains}"));
    }
    say("lodger: this is a bug in Lodger, whatever the guest did");
    shutdown::exit(KERNEL_PANIC)
}

/// The text of a backtrace. Looking names up needs more stack than a kernel
/// stack has, so another thread does it.
fn names(trace: Backtrace) -> String {
    let (tx, rx) = mpsc::channel();
    let work = move || {
        let mut s = String::new();
        let _ = write!(s, "{trace}");
        let _ = tx.send(s);
    };
    match std::thread::Builder::new().spawn(work) {
        Ok(_) => rx
            .recv_timeout(NAMES_TIMEOUT)
            .unwrap_or_else(|_| "(no backtrace)".into()),
        Err(e) => format!("(no backtrace: {e})"),
    }
}

fn say(text: &str) {
    log::plain(text);
}
