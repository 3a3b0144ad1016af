//! The `lodger` command: command line, and the wiring of a machine. The only
//! place that names all parts.
//!
//! - [`cli`]: the command line. [`size`], [`bind`], [`users`]: values in it.
//! - [`run`]: `lodger run`.
//! - [`lodger_bench`]: `lodger bench`.
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
    let args = match cli::parse().command {
        cli::Command::Run(args) => args,
        cli::Command::Bench(args) => return bench(args),
        cli::Command::BenchMeasured { what } => return lodger_bench::measured(&what),
    };
    let signals = host_os::signals::block();
    crash::install();
    let closed = [0, 1, 2].map(|i: usize| CLOSED[i].load(Ordering::Relaxed));
    run::run(args, signals, closed)
}

fn bench(args: cli::BenchArgs) {
    let this = std::env::current_exe().unwrap_or_else(|e| cli::fail(&e.to_string()));
    let options = lodger_bench::Options {
        rounds: args.rounds.map(|n| n.get() as usize),
        quick: args.quick,
        json: args.json,
        svg: args.svg,
        filters: args.filters,
    };
    lodger_bench::run(this, &options).unwrap_or_else(|e| cli::fail(&e));
}
