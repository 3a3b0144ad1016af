//! The end of a machine, on every way out: all its processes die, the
//! terminal is as it was, this process exits.

use crate::console;
use core::sync::atomic::{AtomicI32, Ordering};
use std::sync::OnceLock;

/// Exit status: the command was not found.
pub const NOT_FOUND: i32 = 127;
/// Exit status: the command could not be executed.
pub const NOT_EXECUTABLE: i32 = 126;
/// Exit status: bad command line, or the machine could not be started.
pub const NOT_STARTED: i32 = 125;
/// Exit status: the machine's kernel crashed.
pub const KERNEL_PANIC: i32 = 120;

/// How long the end of a machine may take, reports of a crash included.
const PATIENCE_NS: u64 = 20_000_000_000;

static PROCESSES: OnceLock<Processes> = OnceLock::new();
/// The thread that ends the machine; 0 = it goes on.
static ENDING: AtomicI32 = AtomicI32::new(0);

/// What is done with all user processes of the machine. From any thread.
#[derive(Clone, Copy, Debug)]
pub struct Processes {
    /// Kills them; also after a crash.
    pub kill: fn(),
    /// Waits until the host has nothing left of them, but not for ever.
    pub wait: fn(),
    /// Stops them.
    pub stop: fn(),
    /// Lets them go on.
    pub resume: fn(),
    /// This process's number: kernel code may run in others too.
    pub kernel: i32,
    /// Status with which such another one tells that the memory file has no room.
    pub no_room: i32,
}

/// Sets how to reach the machine's processes.
pub fn set_processes(p: Processes) {
    let _ = PROCESSES.set(p);
}

/// Stops all of the machine, this process included, until SIGCONT.
pub(crate) fn pause() {
    if let Some(p) = PROCESSES.get() {
        (p.stop)();
    }
    let _ = host_sys::task::kill(host_sys::task::getpid(), libc::SIGSTOP);
}

/// After a [`pause`].
pub(crate) fn resume() {
    if let Some(p) = PROCESSES.get() {
        (p.resume)();
    }
}

/// Whether the machine is ending already.
pub fn is_ending() -> bool {
    ENDING.load(Ordering::Acquire) != 0
}

/// Kills everything that runs in the machine and gives the terminal back. The
/// first caller does it and goes on; others never return.
pub fn stop_machine() {
    let me = host_sys::task::gettid();
    match ENDING.compare_exchange(0, me, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {}
        // A crash on the way out: go on with what is left to do.
        Err(tid) if tid == me => {
            console::restore();
            return;
        }
        // Whoever is first ends the process, and this thread with it; unless it hangs.
        Err(_) => {
            let limit = host_sys::time::monotonic_ns() + PATIENCE_NS;
            while host_sys::time::monotonic_ns() < limit {
                host_sys::time::sleep_ns(100_000_000);
            }
            console::restore();
            exit(KERNEL_PANIC)
        }
    }
    if let Some(p) = PROCESSES.get() {
        (p.kill)();
    }
    console::restore();
}

/// Exits with `code`, after [`stop_machine`].
pub fn exit(code: i32) -> ! {
    console::dismiss_guardian();
    host_sys::task::exit_group(code)
}

/// Ends the machine, whose memory file the host cannot extend. From any process; safe in signal handlers.
pub fn no_room() -> ! {
    if let Some(p) = PROCESSES.get()
        && p.kernel != host_sys::task::getpid()
    {
        // Who watches over the user processes says it.
        host_sys::task::exit_group(p.no_room)
    }
    stop_machine();
    crate::log::plain("lodger: the host has no space left for the machine's memory file");
    exit(NOT_STARTED)
}

/// Ends the machine with exit status `code`, whatever it is doing.
pub fn end(code: i32) -> ! {
    stop_machine();
    exit(code)
}

/// What it takes to end a machine whose memory cannot be trusted: a copy for the stack of who watches it.
#[derive(Clone, Copy, Debug)]
pub struct LastResort {
    /// Process group of the user processes.
    group: i32,
    /// The terminal's guardian: this end of its pipe, and its number.
    guardian: Option<(i32, i32)>,
}

impl LastResort {
    /// For the user processes of `group`, of the devices opened by now.
    pub fn new(group: i32) -> LastResort {
        LastResort {
            group,
            guardian: console::guardian(),
        }
    }

    /// Kills all of the machine, has the terminal restored, and says why.
    pub fn end(self, why: &str) -> ! {
        // Who finds the user processes dead leaves it to this thread.
        ENDING.store(host_sys::task::gettid(), Ordering::Release);
        let _ = host_sys::task::kill(-self.group, libc::SIGKILL);
        let _ = host_sys::task::kill(self.group, libc::SIGKILL);
        if let Some((pipe, pid)) = self.guardian {
            // As at the end of this process.
            host_sys::fd::close(pipe);
            let _ = host_sys::task::wait_child(pid, 0);
        }
        let mut stderr = [libc::pollfd {
            fd: 2,
            events: libc::POLLOUT,
            revents: 0,
        }];
        if host_sys::event::poll(&mut stderr, 1000) == Ok(1) {
            let _ = host_sys::event::write3(2, [b"lodger: ", why.as_bytes(), b"\n"]);
        }
        host_sys::task::exit_group(KERNEL_PANIC)
    }
}

/// Ends a machine in which nothing runs any more.
pub(crate) fn power_off(code: i32) -> ! {
    stop_machine();
    wait_for_processes();
    exit(code)
}

/// After [`stop_machine`]: waits until the host has nothing left of the user processes, but not for ever.
pub fn wait_for_processes() {
    if let Some(p) = PROCESSES.get() {
        (p.wait)();
    }
}

/// The exit status for a wait status as of wait(2): the code, or 128 + signal.
pub fn exit_code(wait_status: i32) -> i32 {
    match wait_status & 0x7f {
        0 => (wait_status >> 8) & 0xff,
        signo => 128 + signo,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_status_of_signals_and_codes() {
        assert_eq!(exit_code(0), 0);
        assert_eq!(exit_code(7 << 8), 7);
        assert_eq!(exit_code(NOT_FOUND << 8), 127);
        assert_eq!(exit_code(9), 137);
        assert_eq!(exit_code(11 | 0x80), 139);
    }
}
