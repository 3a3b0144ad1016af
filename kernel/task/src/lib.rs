//! Tasks: scheduler, fork, exec, exit, wait, signals, futexes, credentials, timers.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
