//! Guests that attack the stub. Whatever they do, every run ends, the machine
//! lives, and nobody else's memory changes.

use crate::code;
use crate::machine::*;
use hal::cpu::IRQ_NOTIFY;
use hal::engine::MapOp;
use hal::{Engine, Trap, UserContext};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub const TESTS: &[(&str, fn())] = &[
    ("hostile_jumps_into_the_stub", jumps),
    ("hostile_blocked_signals", blocked_signals),
    ("hostile_alternate_stack", foreign_altstack),
    ("hostile_parks_itself", parks_itself),
    ("hostile_spoils_the_process", spoils),
    ("hostile_spoils_a_thread_of_another_cpu", spoils_elsewhere),
    ("hostile_sibling_scribbles", scribbles),
    ("hostile_forged_reports_and_flush", forged_reports),
    ("hostile_calls_from_everywhere", calls),
];

const AREA0: u64 = 0x5000_1010_0000;
const AREA: u64 = 0x8000;
const REPORT: u64 = AREA - 64;
const PARK: u64 = REPORT + 40;
const RBP: usize = 4;
const EVERYTHING: u64 = u64::MAX;

/// Address of the byte behind the first occurrence of `pattern` in the stub.
fn find(pattern: &[u8]) -> u64 {
    let (base, code) = arch_um::stub_code();
    let at = code.windows(pattern.len()).position(|w| w == pattern);
    base + at.expect("a known instruction") as u64
}

/// `mov eax, 15; syscall`.
fn sigreturn() -> u64 {
    find(&[0xb8, 15, 0, 0, 0, 0x0f, 0x05])
}

/// Puts a frame for rt_sigreturn at DATA + 0x1000 and aims `cx` at it.
fn forge(cx: &mut UserContext, data: hal::Pfn, regs: &[(usize, u64)], mask: u64, alt: u64) {
    let frame = data.add(1);
    let set = |at: usize, v: u64| word(frame, at).store(v, Ordering::SeqCst);
    for at in (0..440).step_by(8) {
        set(at, 0);
    }
    set(24, alt);
    set(40, 0x4000);
    // Registers in the order of struct sigcontext.
    let order = [9, 8, 7, 6, 3, 2, 1, 0, 14, 13, 4, 5, 12, 10, 11, 19, 16];
    for (i, r) in order.into_iter().enumerate() {
        let v = regs.iter().find(|v| v.0 == r).map_or(0, |v| v.1);
        set(48 + 8 * i, v);
    }
    set(48 + 17 * 8, 0x202);
    set(48 + 18 * 8, 0x2b << 48 | 0x33);
    set(304, mask);
    cx.gp[RSP] = DATA + 0x1008;
    cx.gp[RIP] = sigreturn();
}

/// Runs until something happens, but not for ever.
fn run(m: &Machine, space: &std::sync::Arc<dyn hal::UserSpace>, cx: &mut UserContext) -> Trap {
    let mut t = Trap::Interrupt;
    // On a busy host an interrupt may come before the guest has done anything.
    for _ in 0..5 {
        m.engine.set_timer(m.cpus[0], Some(m.now() + 5_000_000));
        t = m.run(space, cx);
        m.cpus[0].take_pending();
        assert_eq!(DIED.load(Ordering::SeqCst), -1);
        if t != Trap::Interrupt {
            break;
        }
    }
    t
}

/// The machine still works.
fn check(m: &Machine) {
    let (space, mut cx, _) = m.program(code::spin());
    m.engine.interrupt(m.cpus[0], IRQ_NOTIFY);
    assert_eq!(m.run(&space, &mut cx), Trap::Interrupt);
    assert_eq!(m.cpus[0].take_pending() & IRQ_NOTIFY, IRQ_NOTIFY);
    m.engine.set_timer(m.cpus[0], Some(m.now() + 1_000_000));
    assert_eq!(m.run(&space, &mut cx), Trap::Interrupt);
    m.cpus[0].take_pending();
    let (space, mut cx, _) = m.program(code::syscalls());
    assert_eq!(m.run(&space, &mut cx), Trap::Syscall);
}

fn jumps() {
    let m = Machine::new(1);
    let (base, code) = arch_um::stub_code();
    let mut lost = 0;
    for offset in 0..code.len() as u64 + 16 {
        for value in [DATA, AREA0 + 0x4000, AREA0 + PARK, 231] {
            let (space, mut cx, data) = m.program(code::jump());
            for i in GENERAL {
                cx.gp[i] = value;
            }
            for at in (0..0x1000).step_by(8) {
                word(data, at).store(39, Ordering::SeqCst);
            }
            cx.gp[RIP] = base + offset;
            let t = run(m, &space, &mut cx);
            lost += u32::from(t == Trap::Lost);
        }
    }
    assert!(lost > 0);
    check(m);
}

fn blocked_signals() {
    let m = Machine::new(1);
    // Deaf and busy.
    let (space, mut cx, data) = m.program(code::spin());
    forge(
        &mut cx,
        data,
        &[(RIP, TEXT), (RSP, DATA + 0x4000)],
        EVERYTHING,
        0,
    );
    let began = Instant::now();
    assert_eq!(run(m, &space, &mut cx), Trap::Lost);
    assert!(began.elapsed() < Duration::from_secs(10));
    // Deaf, and a system call.
    let (space, mut cx, data) = m.program(code::syscalls());
    forge(
        &mut cx,
        data,
        &[(RIP, TEXT), (RSP, DATA + 0x4000)],
        EVERYTHING,
        0,
    );
    assert_eq!(run(m, &space, &mut cx), Trap::Lost);
    // The same frame without the mask is nothing special.
    let (space, mut cx, data) = m.program(code::syscalls());
    forge(
        &mut cx,
        data,
        &[(RIP, TEXT), (RSP, DATA + 0x4000)],
        0,
        AREA0 + 0x1000,
    );
    let _ = run(m, &space, &mut cx);
    drop(space);
    check(m);
}

fn foreign_altstack() {
    let m = Machine::new(2);
    for alt in [
        DATA,
        DATA + 0x8000,
        AREA0 + AREA + 0x1000,
        0x5000_1001_0000,
        0x6000_0000_0000,
    ] {
        let (space, mut cx, data) = m.program(code::syscalls());
        forge(&mut cx, data, &[(RIP, TEXT), (RSP, DATA + 0x4000)], 0, alt);
        assert_eq!(run(m, &space, &mut cx), Trap::Lost, "{alt:x}");
    }
    check(m);
}

/// Goes to sleep on its own park word, deaf, without having reported.
fn parks_itself() {
    let m = Machine::new(1);
    // `mov edx, [rdi]` before the sleep.
    let park = find(&[0x8b, 0x17]);
    for ebp in [0, 1, 2, 3] {
        let (space, mut cx, data) = m.program(code::spin());
        let regs = [(RIP, park), (RDI, AREA0 + PARK), (RBP, ebp)];
        forge(&mut cx, data, &regs, EVERYTHING, DATA);
        let began = Instant::now();
        run(m, &space, &mut cx);
        assert!(began.elapsed() < Duration::from_secs(10));
        drop(space);
        check(m);
    }
}

/// Reports, parks deaf with a foreign alternate stack, and leaves the process to another guest.
fn spoils() {
    let m = Machine::new(1);
    let park = find(&[0x8b, 0x17]);
    // Copies the go word to the report word, then jumps on with a forged frame.
    for ebp in [None, Some(77)] {
        let (space, mut cx, data) = m.program(code::spoil());
        let mut regs = vec![(RIP, park), (RDI, AREA0 + PARK)];
        regs.extend(ebp.map(|v| (RBP, v)));
        forge(&mut cx, data, &regs, EVERYTHING, DATA);
        cx.gp[RSI] = AREA0;
        cx.gp[RDI] = AREA0 + REPORT;
        cx.gp[RDX] = u64::from(ebp.is_none());
        cx.gp[RAX] = sigreturn();
        // Where rbp is saved in the frame.
        cx.gp[R8] = DATA + 0x1000 + 48 + 8 * 10;
        cx.gp[RIP] = TEXT;
        let t = run(m, &space, &mut cx);
        println!("spoiled: {t:?}");
        drop(space);
        for _ in 0..4 {
            check(m);
        }
    }
}

/// The same on vCPU 1. The next guest process starts on vCPU 0 and comes to vCPU 1
/// while it runs: it must not die of what was done there before.
fn spoils_elsewhere() {
    let m = Machine::new(2);
    type Job = Box<dyn FnOnce() + Send>;
    let (to_other, jobs) = std::sync::mpsc::channel::<Job>();
    m.start(1, move || jobs.into_iter().for_each(|j| j()));
    let on_other = |job: Job| {
        let (tell, told) = std::sync::mpsc::channel();
        let job = move || {
            job();
            tell.send(()).unwrap();
        };
        to_other.send(Box::new(job)).unwrap();
        told
    };
    let park = find(&[0x8b, 0x17]);
    let area1 = AREA0 + AREA;
    for _ in 0..3 {
        let (space, mut cx, _) = m.program(code::syscalls());
        assert_eq!(m.run(&space, &mut cx), Trap::Syscall);
        let (text, data) = (m.frames(1), m.frames(4));
        write(text, 0, code::spoil());
        map(&*space, TEXT + 0x1000, 1, text, RX);
        map(&*space, DATA + 0x8000, 4, data, RW);
        let mut cx = UserContext::new();
        let regs = [(RIP, park), (RDI, area1 + PARK), (RBP, 77)];
        forge(&mut cx, data, &regs, EVERYTHING, DATA);
        cx.gp[RSP] = DATA + 0x9008;
        cx.gp[RSI] = area1;
        cx.gp[RDI] = area1 + REPORT;
        cx.gp[RDX] = 0;
        cx.gp[RAX] = sigreturn();
        cx.gp[RIP] = TEXT + 0x1000;
        let same = space.clone();
        let done = on_other(Box::new(move || {
            m.engine.set_timer(m.cpus[1], Some(m.now() + 5_000_000));
            println!("spoiled: {:?}", m.run_on(1, &same, &mut cx));
            m.cpus[1].take_pending();
        }));
        done.recv().unwrap();
        drop(space);
        for _ in 0..3 {
            let (space, mut cx, data) = m.program(code::count());
            let mut other = UserContext::new();
            other.gp = cx.gp;
            (cx.gp[RDI], other.gp[RDI]) = (DATA, DATA + 0x1000);
            let same = space.clone();
            m.engine.set_timer(m.cpus[0], Some(m.now() + 20_000_000));
            let done = on_other(Box::new(move || {
                while word(data, 0).load(Ordering::SeqCst) == 0 {
                    std::thread::yield_now();
                }
                m.engine.set_timer(m.cpus[1], Some(m.now() + 5_000_000));
                assert_eq!(m.run_on(1, &same, &mut other), Trap::Interrupt);
                m.cpus[1].take_pending();
            }));
            assert_eq!(m.run(&space, &mut cx), Trap::Interrupt);
            m.cpus[0].take_pending();
            done.recv().expect("the other vCPU's guest has lived");
        }
    }
    assert_eq!(DIED.load(Ordering::SeqCst), -1);
    check(m);
}

fn scribbles() {
    let m = Machine::new(2);
    let targets = (0..AREA).step_by(8).filter(|at| *at >= AREA - 0x1000);
    let stop = &*Box::leak(Box::new(AtomicBool::new(false)));
    // The other vCPU overwrites one word of this one's area after the other.
    let shared: &'static std::sync::Mutex<Option<std::sync::Arc<dyn hal::UserSpace>>> =
        Box::leak(Box::new(std::sync::Mutex::new(None)));
    let word_now = &*Box::leak(Box::new(AtomicU64::new(AREA0 + REPORT)));
    let text = m.frames(1);
    write(text, 0, code::scribble());
    m.start(1, move || {
        let values = [0, 1, EVERYTHING, 0x8000_0000_0000, AREA0, DATA, 0x11];
        let mut n = 0;
        while !stop.load(Ordering::SeqCst) {
            let space = shared.lock().unwrap().clone();
            let Some(space) = space else { continue };
            let mut cx = UserContext::new();
            cx.gp[RIP] = TEXT + 0x1000;
            cx.gp[RDI] = word_now.load(Ordering::SeqCst);
            cx.gp[RSI] = values[n % values.len()];
            n += 1;
            m.engine.set_timer(m.cpus[1], Some(m.now() + 300_000));
            let _ = m.run_on(1, &space, &mut cx);
            m.cpus[1].take_pending();
        }
    });
    let mut ends = [0; 2];
    let fresh = || {
        let (space, cx, _) = m.program(code::syscalls());
        map(&*space, TEXT + 0x1000, 1, text, RX);
        *shared.lock().unwrap() = Some(space.clone());
        (space, cx)
    };
    let (mut space, mut cx) = fresh();
    let began = Instant::now();
    for at in targets.cycle() {
        if began.elapsed() > Duration::from_secs(4) {
            break;
        }
        word_now.store(AREA0 + at, Ordering::SeqCst);
        for _ in 0..20 {
            m.engine.set_timer(m.cpus[0], Some(m.now() + 2_000_000));
            let t = m.run(&space, &mut cx);
            m.cpus[0].take_pending();
            ends[usize::from(t == Trap::Lost)] += 1;
            cx.gp[RIP] = TEXT;
            if t == Trap::Lost {
                (space, cx) = fresh();
                break;
            }
        }
    }
    stop.store(true, Ordering::SeqCst);
    println!("scribbled: {} traps, {} lost", ends[0], ends[1]);
    assert!(ends[0] > 100);
    assert_eq!(DIED.load(Ordering::SeqCst), -1);
    check(m);
}

/// A thread makes the kernel believe that it is parked, and runs on. A frame
/// that has been unmapped and flushed must not change all the same.
fn forged_reports() {
    let m = Machine::new(2);
    let (space, _, data) = m.program(code::count_and_forge());
    let stop = &*Box::leak(Box::new(AtomicBool::new(false)));
    let forged = &*Box::leak(Box::new(AtomicU64::new(0)));
    let same = space.clone();
    m.start(1, move || {
        let mut cx = UserContext::new();
        while !stop.load(Ordering::SeqCst) {
            cx.gp[RIP] = TEXT;
            cx.gp[RDI] = DATA;
            cx.gp[RSI] = AREA0 + AREA;
            cx.gp[R8] = AREA0 + AREA + REPORT;
            m.engine.set_timer(m.cpus[1], Some(m.now() + 500_000));
            match m.run_on(1, &same, &mut cx) {
                Trap::Lost => break,
                Trap::PageFault { .. } => {}
                _ => {
                    forged.fetch_add(1, Ordering::SeqCst);
                    // The thread that is believed parked runs on meanwhile.
                    std::thread::sleep(Duration::from_millis(3));
                }
            }
            m.cpus[1].take_pending();
        }
    });
    let began = Instant::now();
    let mut counted = 0;
    // A busy host lets few rounds happen in the same time.
    let enough = |counted| counted > 10 && forged.load(Ordering::SeqCst) > 10;
    let limit = |counted| Duration::from_secs(if enough(counted) { 4 } else { 60 });
    while began.elapsed() < limit(counted) && space.alive() {
        map(&*space, DATA, 1, data, RW);
        let before = word(data, 0).load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(2));
        space.queue(&[MapOp::Unmap {
            addr: DATA,
            len: 0x1000,
        }]);
        space.flush();
        let v = word(data, 0).load(Ordering::SeqCst);
        counted += u64::from(v != before);
        let until = Instant::now() + Duration::from_millis(1);
        while Instant::now() < until {
            let now = word(data, 0).load(Ordering::SeqCst);
            assert_eq!(now, v, "written after the flush");
        }
    }
    stop.store(true, Ordering::SeqCst);
    println!(
        "{} reports, counted in {counted} rounds",
        forged.load(Ordering::SeqCst)
    );
    assert!(enough(counted));
    assert_eq!(DIED.load(Ordering::SeqCst), -1);
}

/// System calls of all kinds from guest pages never reach the host.
fn calls() {
    let m = Machine::new(1);
    let (space, mut cx, _) = m.program(code::syscalls());
    for nr in (0..500).chain([0x4000_0000, 0x4000_0027, u64::MAX, 1 << 40]) {
        cx.gp[RIP] = TEXT + 5;
        cx.gp[RAX] = nr;
        for r in [RDI, RSI, RDX, R8] {
            cx.gp[r] = DATA;
        }
        assert_eq!(m.run(&space, &mut cx), Trap::Syscall);
    }
    // The legacy vsyscall page.
    let (space, mut cx, data) = m.program(code::syscalls());
    cx.gp[RIP] = 0xffff_ffff_ff60_0400;
    cx.gp[RSP] = DATA;
    cx.gp[RDI] = 0;
    word(data, 0).store(TEXT, Ordering::SeqCst);
    let t = m.run(&space, &mut cx);
    assert!(
        matches!(
            t,
            Trap::Syscall | Trap::PageFault { .. } | Trap::Exception { .. }
        ),
        "{t:?}"
    );
    check(m);
}
