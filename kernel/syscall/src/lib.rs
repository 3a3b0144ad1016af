//! System calls: the table, argument decoding, the handlers by family.
//!
//! [`dispatch`] is what the task layer calls for each trap. It looks the number
//! up in [`table`] and calls the handler behind the row, which gets typed
//! arguments and the calling task's [`task::Ctx`]. With `--strace` the same row
//! gives the line of text ([`decode`]); [`docs`] makes the support page of it.
//!
//! A handler is called `sys_NAME`, lives in the file of its family, checks in
//! Linux's order and returns the man page's errors; what it does is done by the
//! layers below (vfs, mm, ipc, net, task). Guest memory is reached through
//! [`args::In`], [`args::Out`] and `mm::user` only, never with a spin lock held.
//! This layer has no locks of its own and keeps almost no state: the numbers of
//! missing calls that were logged, and the file system of memfd_create(2).
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
#[cfg(test)]
extern crate std;
#[cfg(test)]
use hal_fake as _;

pub mod args;
pub mod decode;
pub mod docs;
pub mod flags;
pub mod table;

mod cx;
mod state;

mod copy;
mod cred;
mod dir;
mod epoll;
mod eventfd;
mod fcntl;
mod file;
mod futex;
mod ids;
mod inotify;
mod limits;
mod mem;
mod memfd;
mod message;
mod mount;
mod names;
mod numa;
mod open;
mod pidfd;
mod pipe;
mod poll;
mod prctl;
mod process;
mod random;
mod rseq;
mod sched;
mod shortage;
mod signal;
mod socket;
mod splice;
mod stat;
mod sys;
pub mod sysv;
mod time;
mod timer;
mod vmcopy;
mod xattr;

use abi::{Errno, Result};
use alloc::format;
use core::cell::Cell;
use decode::Trace;
use hal::platform::LogLevel;
use task::{Ctx, Dispatch, Outcome};

/// For [`task::Kernel::set_dispatch`].
pub const DISPATCH: Dispatch = Dispatch {
    calls: &table::BY_NUMBER,
    other: dispatch,
};

/// Carries out the system call in the registers.
pub fn dispatch(cx: &Ctx) -> Outcome {
    if cx.kernel().params.strace {
        return traced(cx);
    }
    run(cx, number(cx))
}

/// The number is an int: its upper half does not count.
fn number(cx: &Ctx) -> u64 {
    cx.task().syscall().number.get() & 0xffff_ffff
}

fn run(cx: &Ctx, nr: u64) -> Outcome {
    if mm::frame::pressure() && shortage::refuses(nr) {
        return Err(Errno::ENOMEM.0.into());
    }
    match table::handler(nr) {
        Some(handler) => handler(cx, &cx.task().syscall().args),
        None => table::word_of(missing(cx, nr)),
    }
}

/// A number without a row: one line in the log, however often it is called.
#[cold]
fn missing(cx: &Ctx, nr: u64) -> Result<u64> {
    if state::of(cx).first_miss(nr) {
        let comm = cx.task().comm();
        let text = format!(
            "{}[{}]: system call {nr} is not implemented",
            comm.escape_ascii(),
            cx.task().tid()
        );
        cx.kernel().log(LogLevel::Warn, text);
    }
    Err(Errno::ENOSYS)
}

#[cold]
fn traced(cx: &Ctx) -> Outcome {
    let platform = cx.kernel().platform;
    let tid = cx.task().tid();
    let nr = number(cx);
    let row = table::row(nr);
    let args = cx.task().syscall().args.each_ref().map(Cell::get);
    let trace = Trace::enter(row, nr, &args, Some(cx.mm()));
    if row.is_some_and(|r| matches!(r.name, "exit" | "exit_group")) {
        platform.strace(&trace.without_result(tid));
        return run(cx, nr);
    }
    let outcome = run(cx, nr);
    let result = outcome.map_err(|e| Errno(e as u16));
    platform.strace(&trace.leave(tid, cx.task().mm().as_deref(), result));
    outcome
}
