//! Tasks: scheduler, fork, exec, exit, wait, signals, futexes, credentials, timers.
//!
//! - [`kernel`]: [`Kernel`], the root object of a machine.
//! - [`task`]: [`Task`], a thread with its kernel stack; [`current`].
//! - [`process`]: [`Process`], a thread group; sessions; limits; usage.
//! - [`pid`]: [`pid::PidTable`]: who exists, who is whose child, process groups.
//! - [`sched`]: run queues, classes, switching, placement.
//! - [`run`]: the loop a task spends its life in: run guest code, handle its trap.
//! - [`ctx`]: [`Ctx`], what a system call handler gets.
//! - [`clone`], [`exec`], [`exit`], [`wait`]: life and death.
//! - [`start`]: bringing the vCPUs up.
//! - [`signal`], [`futex`], [`rseq`], [`timer`], [`clock`], [`cred`], [`pidfd`], [`oom`].
//!
//! # Lock order
//! Levels as in `sync`; within this crate, outermost first:
//! ```text
//! 30 TREE     PidTable: the tree of processes, groups, sessions
//! 32 TASK     futex buckets, timers of a process
//! 33 PI       owners of PI futexes
//! 34 PROCESS  Process: threads, shared signals, stops, usage of the dead
//! 35 THREAD   Task: its own pending signals
//! 36 ACTIONS  SigHand
//! 40 WAIT     wait queues
//! 44 TIMER    the timer queue
//! 48 RUNQUEUE one at a time
//! 54 LEAF     slots of a task or process (credentials, files, names)
//! ```
#![no_std]
#![deny(unsafe_code)]
extern crate alloc;

pub mod clock;
pub mod clone;
pub mod cred;
pub mod ctx;
pub mod exec;
pub mod exit;
pub mod futex;
pub mod kernel;
pub mod oom;
pub mod pid;
pub mod pidfd;
pub mod process;
pub mod rseq;
pub mod run;
pub mod sched;
pub mod sigio;
pub mod signal;
pub mod start;
pub mod task;
pub mod timer;
pub mod wait;

pub use ctx::Ctx;
pub use kernel::Kernel;
pub use process::{Process, Session};
pub use run::{Call, Dispatch, Handler, Outcome};
pub use task::{Task, current};

/// Lock levels of this crate, between those of [`sync::level`].
#[expect(missing_docs)]
pub mod level {
    pub const TREE: u8 = 30;
    pub const TASK: u8 = 32;
    pub const PI: u8 = 33;
    pub const PROCESS: u8 = 34;
    pub const THREAD: u8 = 35;
    pub const ACTIONS: u8 = 36;
    pub const RUNQUEUE: u8 = 48;
    /// Slots; inside it only the heap.
    pub const LEAF: u8 = 54;
}
