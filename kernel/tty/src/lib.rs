//! Terminals: line discipline, pseudo-terminals, the console, job control.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
