//! The `lodger` command: command line, and the wiring of a machine. The only
//! place that names all parts.
//!
//! - [`cli`]: the command line. [`size`], [`bind`], [`users`]: values in it.
//! - [`run`]: `lodger run`.
//! - [`machine`]: puts the parts together and switches to the boot stack.
//! - [`probe`]: attacks on the host, for tests of the confinement.
//! - [`alloc`]: the global allocator. [`crash`]: panics and faults.

mod alloc;
mod bind;
mod cli;
mod crash;
mod machine;
mod probe;
mod run;
mod size;
mod users;

use core::sync::atomic::{AtomicBool, Ordering};

#[global_allocator]
static ALLOCATOR: alloc::Allocator = alloc::Allocator;

/// Standard streams that were closed when this process started.
static CLOSED: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];

/// Runs before Rust's runtime, which opens /dev/null in place of closed streams.
extern "C" fn note_closed_streams() {
    for (i, closed) in CLOSED.iter().enumerate() {
        closed.store(!host_os::limits::is_open(i as i32), Ordering::Relaxed);
    }
}

// SAFETY: an initialiser that only makes three system calls and stores.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = note_closed_streams;

fn main() {
    let cli = cli::parse();
    let signals = host_os::signals::block();
    crash::install();
    let closed = [0, 1, 2].map(|i: usize| CLOSED[i].load(Ordering::Relaxed));
    match cli.command {
        cli::Command::Run(args) => run::run(args, signals, closed),
    }
}
