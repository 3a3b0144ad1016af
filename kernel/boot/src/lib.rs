//! Brings a machine up: root object, file systems, first task, the CPU loop.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
