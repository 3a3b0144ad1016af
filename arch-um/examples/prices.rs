//! What the engine's primitives cost on this host, next to a futex ping-pong
//! between two processes on the same CPU. Minimum and median of short batches.

#[path = "../tests/guest/code.rs"]
mod code;
#[path = "../tests/guest/machine.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod machine;

use hal::engine::MapOp;
use hal::{Arch, Engine, Trap, UserContext};
use host_sys::task::{self, CpuSet};
use host_sys::{fd, mem, misc, time};
use machine::*;
use std::sync::atomic::{AtomicU32, Ordering};

/// Runs `f` in batches of `n`; prints ns per turn.
fn measure(what: &str, n: u32, mut f: impl FnMut()) -> f64 {
    let mut all: Vec<f64> = (0..200)
        .map(|_| {
            let began = time::monotonic_ns();
            (0..n).for_each(|_| f());
            (time::monotonic_ns() - began) as f64 / f64::from(n)
        })
        .collect();
    all.sort_by(f64::total_cmp);
    println!(
        "{what:40} {:9.0} ns   (median {:.0})",
        all[0],
        all[all.len() / 2]
    );
    all[all.len() / 2]
}

fn ping_pong() -> f64 {
    let file = fd::memfd_create(c"words", 1).unwrap();
    fd::ftruncate(file, 8192).unwrap();
    // SAFETY: a new mapping; the words in it are only used as atomics.
    let words: [&'static AtomicU32; 2] = unsafe {
        let at = mem::mmap(0, 8192, 3, libc::MAP_SHARED, file, 0).unwrap();
        [at, at + 4096].map(|a| AtomicU32::from_ptr(std::ptr::with_exposed_provenance_mut(a)))
    };
    let wait_for = |w: &AtomicU32, v: u32| loop {
        let seen = w.load(Ordering::Acquire);
        if seen == v {
            break;
        }
        let _ = time::futex_wait_shared(w, seen, None);
    };
    // SAFETY: one thread so far.
    let child = unsafe { misc::fork() }.unwrap();
    if child == 0 {
        let mut n = 0;
        loop {
            n += 1;
            wait_for(words[0], n);
            words[1].store(n, Ordering::Release);
            time::futex_wake_shared(words[1]);
        }
    }
    let mut n = 0;
    let r = measure("futex ping-pong of two processes", 100, || {
        n += 1;
        words[0].store(n, Ordering::Release);
        time::futex_wake_shared(words[0]);
        wait_for(words[1], n);
    });
    task::kill(child, libc::SIGKILL).unwrap();
    let _ = task::wait_child(child, 0);
    r
}

fn main() {
    let all = task::affinity(0).unwrap();
    let cpu = all.iter().next().unwrap();
    task::set_affinity(0, &CpuSet::of(cpu)).unwrap();
    let base = ping_pong();
    let m = Machine::new(1);
    let arch = arch_um::X86_64::detect();

    let (space, mut cx, data) = m.program(code::syscalls());
    let null = measure("system call that does nothing", 100, || {
        assert_eq!(m.run(&space, &mut cx), Trap::Syscall);
    });
    println!(
        "{:40} {:9.2}",
        "  as a multiple of the ping-pong",
        null / base
    );

    let mut other = UserContext::new();
    other.gp = cx.gp;
    measure("  of two tasks by turns", 500, || {
        for cx in [&mut cx, &mut other] {
            assert_eq!(m.run(&space, cx), Trap::Syscall);
            m.engine.sync_regs(cx);
        }
    });
    measure("  with one page to unmap and flush", 500, || {
        map(&*space, DATA, 1, data, RW);
        space.queue(&[MapOp::Unmap {
            addr: DATA,
            len: 4096,
        }]);
        space.flush();
        assert_eq!(m.run(&space, &mut cx), Trap::Syscall);
    });

    let (space, mut cx, data) = m.program(code::scribble());
    measure("page fault, one page", 200, || {
        space.queue(&[MapOp::Unmap {
            addr: DATA,
            len: 4096,
        }]);
        cx.gp[RDI] = DATA;
        assert!(matches!(m.run(&space, &mut cx), Trap::PageFault { .. }));
        map(&*space, DATA, 1, data, RW);
        cx.gp[RDI] = 0;
        cx.gp[RIP] = TEXT;
    });

    measure("new space, one call, drop", 20, || {
        let (space, mut cx, _) = program(m, code::syscalls());
        assert_eq!(m.run(&space, &mut cx), Trap::Syscall);
    });
    let spaces = std::cell::RefCell::new(Vec::new());
    measure("new space, one call, keep", 1, || {
        let (space, mut cx, _) = program(m, code::syscalls());
        assert_eq!(m.run(&space, &mut cx), Trap::Syscall);
        spaces.borrow_mut().push(space);
    });

    // The vDSO's clock: rbx = ticks of a thousand calls.
    let (space, mut cx, _) = m.program(code::clock_loop());
    let vdso = m.frames(2);
    write(vdso.add(1), 0, arch.vdso());
    arch.set_vvar_page(vdso);
    map(&*space, 0x30_0000, 2, vdso, RX);
    cx.gp[RDI] = 0x30_1000 + clock_gettime_offset(arch.vdso());
    time::sleep_ns(10_000_000);
    arch.update_vvar(m.clock());
    time::sleep_ns(10_000_000);
    arch.update_vvar(m.clock());
    let mut n = 0u64;
    let guest = measure("clock_gettime in the guest, 1000 calls", 5, || {
        assert_eq!(m.run(&space, &mut cx), Trap::Syscall);
        assert_eq!(cx.gp[hal::arch::NUMBER], 39);
        n += 1;
    });
    let host = measure("clock_gettime on the host, 1000 calls", 5, || {
        for _ in 0..1000 {
            std::hint::black_box(time::monotonic_ns());
        }
    });
    println!(
        "{:40} {:9.2}",
        "  as a multiple of the host's",
        guest / host
    );
    arch_um::kill_all();
}

/// A program whose frames are always the same.
fn program(m: &Machine, code: &[u8]) -> (std::sync::Arc<dyn hal::UserSpace>, UserContext, ()) {
    let space = m.space();
    let text = hal::Pfn(8);
    write(text, 0, code);
    map(&*space, TEXT, 1, text, RX);
    let mut cx = UserContext::new();
    cx.gp[RIP] = TEXT;
    (space, cx, ())
}

/// Offset of the symbol `__vdso_clock_gettime`, the first in the table.
pub fn clock_gettime_offset(image: &[u8]) -> u64 {
    let at = 0x100 + 24 + 8;
    u64::from_le_bytes(image[at..at + 8].try_into().unwrap())
}
