//! Locks with levels, wait queues, timers.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
