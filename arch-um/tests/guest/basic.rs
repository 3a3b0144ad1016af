//! What every guest needs.

use crate::code;
use crate::machine::*;
use hal::cpu::{IRQ_NOTIFY, IRQ_TIMER};
use hal::engine::MapOp;
use hal::{Arch, Engine, Pfn, Prot, Trap, UserContext};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub const TESTS: &[(&str, fn())] = &[
    ("syscall", syscall),
    ("int80_is_enosys", int80),
    ("page_faults", page_faults),
    ("exceptions", exceptions),
    ("kick_from_another_thread", kick),
    ("timer_interrupts_guest", timer),
    ("idle", idle),
    ("vector_state_of_two_tasks", vectors),
    ("vector_state_starts_fresh", fresh),
    ("segment_bases", segments),
    ("two_cpus_in_one_space", two_cpus),
    ("unmap_and_flush_reach_the_other_cpu", unmap_other),
    ("rights_change", rights),
    ("mapped_ahead", mapped_ahead),
    ("many_mappings", many_mappings),
    ("reuse_shows_nothing_old", reuse),
    ("many_spaces", many_spaces),
    ("vdso_clock", vdso_clock),
    ("kill_from_outside_is_noticed", killed),
    ("nothing_survives_the_kernel", survives),
];

fn syscall() {
    let m = Machine::new(1);
    let (space, mut cx, _) = m.program(code::syscalls());
    for i in 0..1000u64 {
        cx.gp[RDI] = i;
        assert_eq!(m.run(&space, &mut cx), Trap::Syscall);
        assert_eq!(cx.gp[RAX], 39);
        assert_eq!(cx.gp[NUMBER], 39);
        assert_eq!(cx.gp[RDI], i);
        assert_eq!(cx.gp[RIP], TEXT + 7);
        assert_eq!(cx.gp[RCX], TEXT + 7);
        assert_eq!(cx.gp[RSP], DATA + 0x4000);
    }
}

fn int80() {
    let m = Machine::new(1);
    let (space, mut cx, _) = m.program(code::int80());
    assert_eq!(m.run(&space, &mut cx), Trap::Syscall);
    assert_eq!((cx.gp[NUMBER], cx.gp[RIP]), (u64::MAX, TEXT + 7));
    cx.gp[RAX] = -38i64 as u64;
    assert_eq!(m.run(&space, &mut cx), Trap::Syscall);
    assert_eq!((cx.gp[NUMBER], cx.gp[RBX]), (39, 0xffff_ffda));
}

fn page_faults() {
    let m = Machine::new(1);
    let (space, mut cx, _) = m.program(code::faults());
    let at = 0x4000_0000_0000 + 8;
    let page = m.frames(1);
    cx.gp[RDI] = at;
    let fault = |access| Trap::PageFault { addr: at, access };
    assert_eq!(m.run(&space, &mut cx), fault(Prot::READ));
    map(&*space, at & !0xfff, 1, page, Prot::READ);
    assert_eq!(m.run(&space, &mut cx), fault(Prot::WRITE));
    map(&*space, at & !0xfff, 1, page, RW);
    assert_eq!(m.run(&space, &mut cx), fault(Prot::EXEC));
    write(page, 8, code::syscalls());
    map(&*space, at & !0xfff, 1, page, RX);
    assert_eq!(m.run(&space, &mut cx), Trap::Syscall);
    // The kernel's own addresses and the stub are out of reach.
    for addr in [
        0u64,
        8,
        0x5000_1001_0000,
        0x6000_0000_0000,
        0x7fff_ffff_e000,
    ] {
        let (space, mut cx, _) = m.program(code::scribble());
        cx.gp[RDI] = addr;
        let access = Prot::WRITE;
        assert_eq!(m.run(&space, &mut cx), Trap::PageFault { addr, access });
    }
}

fn exceptions() {
    let m = Machine::new(1);
    let (space, mut cx, _) = m.program(code::exceptions());
    let mut next = |skip: u64| {
        let t = m.run(&space, &mut cx);
        cx.gp[RIP] += skip;
        match t {
            Trap::Exception {
                signo,
                code,
                vector,
                addr,
                ..
            } => (signo, code, vector, addr),
            t => panic!("{t:?}"),
        }
    };
    assert_eq!(next(2), (libc::SIGILL, 2, 6, TEXT));
    let (signo, code, vector, _) = next(0);
    assert_eq!((signo, code, vector), (libc::SIGTRAP, 0x80, 3));
    let (signo, code, vector, _) = next(2);
    assert_eq!((signo, code, vector), (libc::SIGFPE, 1, 0));
    assert_eq!(next(3), (libc::SIGSEGV, 0x80, 13, 0));
    assert_eq!(next(0), (libc::SIGSEGV, 0x80, 13, 0));
}

fn kick() {
    let m = Machine::new(1);
    let (space, mut cx, _) = m.program(code::spin());
    for _ in 0..50 {
        let sender = std::thread::spawn(|| {
            std::thread::sleep(Duration::from_millis(2));
            m.engine.interrupt(m.cpus[0], IRQ_NOTIFY);
        });
        assert_eq!(m.run(&space, &mut cx), Trap::Interrupt);
        assert_eq!(m.cpus[0].take_pending(), IRQ_NOTIFY);
        sender.join().unwrap();
    }
    // One that comes before the run.
    m.engine.interrupt(m.cpus[0], IRQ_NOTIFY);
    assert_eq!(m.run(&space, &mut cx), Trap::Interrupt);
    assert_eq!(m.cpus[0].take_pending(), IRQ_NOTIFY);
    // Many at any moment: none gets lost.
    let stop = &*Box::leak(Box::new(AtomicBool::new(false)));
    let turns = &*Box::leak(Box::new(AtomicU64::new(0)));
    let sender = std::thread::spawn(|| {
        let mut sent = 0;
        while !stop.load(Ordering::SeqCst) {
            m.engine.interrupt(m.cpus[0], IRQ_NOTIFY);
            sent += 1;
            let deadline = Instant::now() + Duration::from_secs(5);
            while turns.load(Ordering::SeqCst) < sent {
                assert!(Instant::now() < deadline, "lost interrupt {sent}");
                std::thread::yield_now();
            }
        }
    });
    for _ in 0..3000 {
        assert_eq!(m.run(&space, &mut cx), Trap::Interrupt);
        assert_eq!(m.cpus[0].take_pending(), IRQ_NOTIFY);
        turns.fetch_add(1, Ordering::SeqCst);
    }
    stop.store(true, Ordering::SeqCst);
    turns.fetch_add(1, Ordering::SeqCst);
    sender.join().unwrap();
}

fn timer() {
    let m = Machine::new(1);
    let (space, mut cx, _) = m.program(code::spin());
    for _ in 0..20 {
        let deadline = m.now() + 3_000_000;
        m.engine.set_timer(m.cpus[0], Some(deadline));
        assert_eq!(m.run(&space, &mut cx), Trap::Interrupt);
        assert_eq!(m.cpus[0].take_pending(), IRQ_TIMER);
        let late = m.now() as i64 - deadline as i64;
        assert!((0..50_000_000).contains(&late), "{late} ns late");
    }
    // A later deadline replaces an earlier one.
    let now = m.now();
    m.engine.set_timer(m.cpus[0], Some(now + 2_000_000));
    m.engine.set_timer(m.cpus[0], Some(now + 20_000_000));
    assert_eq!(m.run(&space, &mut cx), Trap::Interrupt);
    assert!(m.now() >= now + 20_000_000);
}

fn idle() {
    let m = Machine::new(1);
    let cpu = m.cpus[0];
    let began = m.now();
    m.engine.idle(cpu, Some(began + 5_000_000));
    assert!(m.now() >= began + 5_000_000);
    m.engine.set_timer(cpu, Some(m.now() + 5_000_000));
    m.engine.idle(cpu, None);
    assert_eq!(cpu.take_pending(), IRQ_TIMER);
    for _ in 0..200 {
        let sender = std::thread::spawn(|| m.engine.interrupt(cpu, IRQ_NOTIFY));
        m.engine.idle(cpu, None);
        assert_eq!(cpu.take_pending(), IRQ_NOTIFY);
        sender.join().unwrap();
    }
}

fn vectors() {
    let m = Machine::new(1);
    for code in [code::vectors(), code::avx()] {
        let (space, mut a, _) = m.program(code);
        let mut b = UserContext::new();
        b.gp = a.gp;
        b.gp[RSP] = DATA + 0x2000;
        a.gp[RDI] = 0x1111_2222_3333_4444;
        b.gp[RDI] = 0x5555_6666_7777_8888;
        for _ in 0..200 {
            for cx in [&mut a, &mut b] {
                for _ in 0..2 {
                    assert_eq!(m.run(&space, cx), Trap::Syscall);
                }
                assert_eq!(cx.gp[RBX], 0);
                m.engine.sync_regs(cx);
                assert_eq!(cx.home, 0);
            }
        }
    }
}

fn fresh() {
    let m = Machine::new(1);
    let (space, mut cx, _) = m.program(code::avx());
    cx.gp[RDI] = 0xdead_beef;
    assert_eq!(m.run(&space, &mut cx), Trap::Syscall);
    let (other, mut two, _) = m.program(code::fresh());
    assert_eq!(m.run(&other, &mut two), Trap::Syscall);
    assert_eq!(two.gp[RBX], 0);
    // In the same space, on the same thread.
    let text = m.frames(1);
    write(text, 0, code::fresh());
    map(&*space, TEXT + 0x1000, 1, text, RX);
    let mut three = UserContext::new();
    three.gp[RIP] = TEXT + 0x1000;
    three.gp[RSP] = DATA + 0x1000;
    m.engine.sync_regs(&mut cx);
    assert_eq!(m.run(&space, &mut three), Trap::Syscall);
    assert_eq!(three.gp[RBX], 0);
}

fn segments() {
    let m = Machine::new(1);
    let (space, mut cx, data) = m.program(code::segments());
    for i in 0..4 {
        word(data, i * 0x100).store(i as u64 + 70, Ordering::Relaxed);
    }
    cx.gp[FS_BASE] = DATA;
    cx.gp[GS_BASE] = DATA + 0x100;
    cx.gp[RSI] = DATA + 0x200;
    assert_eq!(m.run(&space, &mut cx), Trap::Syscall);
    assert_eq!((cx.gp[RBX], cx.gp[RDX]), (70, 71));
    assert_eq!(m.run(&space, &mut cx), Trap::Syscall);
    assert_eq!((cx.gp[RBX], cx.gp[RDX]), (72, 72));
    assert_eq!(
        (cx.gp[FS_BASE], cx.gp[GS_BASE]),
        (DATA + 0x200, DATA + 0x200)
    );
    cx.gp[GS_BASE] = DATA + 0x300;
    cx.gp[RSI] = 0xffff_8000_0000_0000;
    cx.gp[RIP] = TEXT;
    assert_eq!(m.run(&space, &mut cx), Trap::Syscall);
    assert_eq!((cx.gp[RBX], cx.gp[RDX]), (72, 73));
}

fn two_cpus() {
    let m = Machine::new(2);
    let (space, mut cx, data) = m.program(code::count());
    let mut other = UserContext::new();
    other.gp = cx.gp;
    cx.gp[RDI] = DATA;
    other.gp[RDI] = DATA + 0x1000;
    let same = space.clone();
    let done = &*Box::leak(Box::new(AtomicBool::new(false)));
    m.start(1, move || {
        m.engine.set_timer(m.cpus[1], Some(m.now() + 200_000_000));
        assert_eq!(m.run_on(1, &same, &mut other), Trap::Interrupt);
        done.store(true, Ordering::SeqCst);
    });
    m.engine.set_timer(m.cpus[0], Some(m.now() + 200_000_000));
    assert_eq!(m.run(&space, &mut cx), Trap::Interrupt);
    while !done.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
    let counts = [word(data, 0), word(data, 0x1000)].map(|w| w.load(Ordering::Relaxed));
    assert!(counts.iter().all(|&c| c > 1000), "{counts:?}");
}

fn unmap_other() {
    const ROUNDS: u64 = 200;
    let m = Machine::new(2);
    let (space, mut cx, data) = m.program(code::count());
    cx.gp[RDI] = DATA;
    let same = space.clone();
    let faults = &*Box::leak(Box::new(AtomicU64::new(0)));
    let ended = &*Box::leak(Box::new(AtomicBool::new(false)));
    m.start(1, move || {
        // The last fault is the end: the machine is taken down after that.
        for i in 0..ROUNDS {
            match m.run_on(1, &same, &mut cx) {
                Trap::PageFault { addr, access } => {
                    assert_eq!((addr, access), (DATA, Prot::WRITE));
                    faults.fetch_add(1, Ordering::SeqCst);
                    while i + 1 < ROUNDS && faults.load(Ordering::SeqCst) % 2 == 1 {
                        std::thread::yield_now();
                    }
                }
                t => panic!("{t:?}"),
            }
        }
        ended.store(true, Ordering::SeqCst);
    });
    for i in 0..ROUNDS {
        let before = word(data, 0).load(Ordering::SeqCst);
        while word(data, 0).load(Ordering::SeqCst) == before {
            std::thread::yield_now();
        }
        space.queue(&[MapOp::Unmap {
            addr: DATA,
            len: 0x1000,
        }]);
        space.flush();
        // From here on the frame is ours.
        word(data, 0).store(7, Ordering::SeqCst);
        while faults.load(Ordering::SeqCst) < 2 * i + 1 {
            assert_eq!(word(data, 0).load(Ordering::SeqCst), 7);
        }
        assert_eq!(word(data, 0).load(Ordering::SeqCst), 7);
        map(&*space, DATA, 1, data, RW);
        faults.fetch_add(1, Ordering::SeqCst);
    }
    while !ended.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
}

fn rights() {
    let m = Machine::new(1);
    let (space, mut cx, data) = m.program(code::faults());
    // Four pages with a hole: rights change around it.
    space.queue(&[
        MapOp::Unmap {
            addr: DATA + 0x1000,
            len: 0x1000,
        },
        MapOp::Protect {
            addr: DATA,
            len: 0x4000,
            prot: Prot::READ,
        },
    ]);
    for page in [0, 2, 3] {
        let addr = DATA + page * 0x1000;
        cx.gp[RDI] = addr;
        cx.gp[RIP] = TEXT;
        let access = Prot::WRITE;
        assert_eq!(m.run(&space, &mut cx), Trap::PageFault { addr, access });
    }
    cx.gp[RDI] = DATA + 0x1000;
    cx.gp[RIP] = TEXT;
    let t = m.run(&space, &mut cx);
    assert!(
        matches!(
            t,
            Trap::PageFault {
                access: Prot::READ,
                ..
            }
        ),
        "{t:?}"
    );
    map(&*space, DATA + 0x1000, 1, data, RW);
    let t = m.run(&space, &mut cx);
    assert!(
        matches!(
            t,
            Trap::PageFault {
                access: Prot::EXEC,
                ..
            }
        ),
        "{t:?}"
    );
}

fn mapped_ahead() {
    const AHEAD: u64 = DATA + 0x10_0000;
    let m = Machine::new(1);
    let (space, mut cx, data) = m.program(code::faults());
    let at = |cx: &mut UserContext, addr| {
        cx.gp[RDI] = addr;
        cx.gp[RIP] = TEXT;
    };
    // Nothing else is waited for yet.
    at(&mut cx, DATA + 0x8000);
    assert!(matches!(m.run(&space, &mut cx), Trap::PageFault { .. }));
    space.queue_ahead(&[MapOp::Map {
        addr: AHEAD,
        len: 0x1000,
        pfn: data,
        prot: RW,
        populate: false,
    }]);
    at(&mut cx, AHEAD);
    let access = Prot::READ;
    let missed = Trap::PageFault {
        addr: AHEAD,
        access,
    };
    assert_eq!(m.run(&space, &mut cx), missed);
    // It goes along with whatever comes next, in the order of all changes.
    map(&*space, AHEAD + 0x4000, 1, data, RW);
    at(&mut cx, AHEAD);
    assert_ne!(m.run(&space, &mut cx), missed);
    space.queue_ahead(&[MapOp::Map {
        addr: AHEAD + 0x2000,
        len: 0x1000,
        pfn: data,
        prot: RW,
        populate: false,
    }]);
    space.queue(&[MapOp::Unmap {
        addr: AHEAD + 0x2000,
        len: 0x1000,
    }]);
    at(&mut cx, AHEAD + 0x2000);
    let gone = Trap::PageFault {
        addr: AHEAD + 0x2000,
        access,
    };
    assert_eq!(m.run(&space, &mut cx), gone);
}

fn many_mappings() {
    let m = Machine::new(1);
    let (space, mut cx, data) = m.program(code::syscalls());
    let text = m.frames(1);
    write(text, 0, code::count_and_read());
    let base = 0x1_0000_0000u64;
    let mut drops = 0;
    // Alternating rights: no two merge. More than the host allows in one process.
    for i in 0..70_000u64 {
        let prot = if i % 2 == 0 { RW } else { Prot::READ };
        map(
            &*space,
            base + (i << 12),
            1,
            Pfn(data.0 + (i % 3) as u32),
            prot,
        );
        if i % 400 == 0 {
            match m.run(&space, &mut cx) {
                Trap::Syscall => {}
                // The code was dropped with everything else.
                Trap::PageFault { addr, .. } if addr & !0xfff == TEXT => {
                    let text = m.frames(1);
                    write(text, 0, code::syscalls());
                    map(&*space, TEXT, 1, text, RX);
                    drops += 1;
                }
                t => panic!("{t:?}"),
            }
        }
    }
    assert!(drops > 0);
    map(&*space, TEXT, 1, text, RX);
    cx.gp[RIP] = TEXT;
    // Whatever was dropped comes back by faults.
    cx.gp[RDI] = base;
    cx.gp[RSI] = base + 0x2000;
    let mut faults = 0;
    m.engine.set_timer(m.cpus[0], Some(m.now() + 20_000_000));
    loop {
        match m.run(&space, &mut cx) {
            Trap::PageFault { addr, .. } if addr < base => {
                map(&*space, TEXT, 1, text, RX);
                faults += 1;
            }
            Trap::PageFault { addr, .. } => {
                map(&*space, addr & !0xfff, 1, data, RW);
                faults += 1;
            }
            Trap::Interrupt => break,
            t => panic!("{t:?}"),
        }
        assert!(faults < 10);
    }
    assert!(word(data, 0).load(Ordering::Relaxed) > 1000);
}

fn reuse() {
    let m = Machine::new(1);
    for i in 0..40 {
        let (space, mut cx, _) = m.program(code::faults());
        cx.gp[RDI] = 0x7000_0000;
        let fault = m.run(&space, &mut cx);
        assert!(
            matches!(
                fault,
                Trap::PageFault {
                    addr: 0x7000_0000,
                    ..
                }
            ),
            "{i}: {fault:?}"
        );
        map(&*space, 0x7000_0000, 1, m.frames(1), RW);
        assert!(matches!(
            m.run(&space, &mut cx),
            Trap::PageFault {
                access: Prot::EXEC,
                ..
            }
        ));
        if i % 2 == 0 {
            space.clear();
            cx.gp[RIP] = TEXT;
            let access = Prot::EXEC;
            assert_eq!(
                m.run(&space, &mut cx),
                Trap::PageFault { addr: TEXT, access }
            );
        }
    }
}

fn many_spaces() {
    let m = Machine::new(1);
    let mut all = Vec::new();
    for _ in 0..100 {
        all.push(m.program(code::syscalls()));
    }
    for _ in 0..3 {
        for (space, cx, _) in &mut all {
            assert_eq!(m.run(space, cx), Trap::Syscall);
        }
    }
    drop(all);
    let (space, mut cx, _) = m.program(code::syscalls());
    assert_eq!(m.run(&space, &mut cx), Trap::Syscall);
}

/// Value of a function's symbol in the vDSO, found like libc does.
fn symbol(image: &[u8], name: &str) -> u64 {
    let u16 = |at: usize| u64::from(u16::from_le_bytes(image[at..at + 2].try_into().unwrap()));
    let u32 = |at: usize| u64::from(u32::from_le_bytes(image[at..at + 4].try_into().unwrap()));
    let u64 = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().unwrap());
    let text = |at: usize| {
        let end = image[at..].iter().position(|&b| b == 0).unwrap();
        std::str::from_utf8(&image[at..at + end]).unwrap()
    };
    assert_eq!(&image[..4], b"\x7fELF");
    let headers = (0..u16(56) as usize).map(|i| u64(32) as usize + 56 * i);
    let dynamic = headers.clone().find(|&h| u32(h) == 2).unwrap();
    let entries = (0..).map(|i| u64(dynamic + 8) as usize + 16 * i);
    let tags: Vec<(u64, u64)> = entries
        .map(|e| (u64(e), u64(e + 8)))
        .take_while(|t| t.0 != 0)
        .collect();
    let tag = |t: u64| tags.iter().find(|e| e.0 == t).unwrap().1 as usize;
    let (hash, strings, symbols) = (tag(4), tag(5), tag(6));
    let (versions, definitions) = (tag(0x6fff_fff0), tag(0x6fff_fffc));
    let second = definitions + u32(definitions + 16) as usize;
    assert_eq!(text(strings + u32(second + 20) as usize), "LINUX_2.6");
    assert_eq!(u32(second + 8), 61_765_110);
    let n = u32(hash + 4) as usize;
    let i = (1..n).find(|i| text(strings + u32(symbols + 24 * i) as usize) == name);
    let i = i.unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(u16(versions + 2 * i), u16(second + 4));
    u64(symbols + 24 * i + 8)
}

fn vdso_clock() {
    let m = Machine::new(1);
    let arch = arch_um::X86_64::detect();
    let image = arch.vdso();
    assert_eq!((image.len() % 4096, arch.vvar().len()), (0, 4096));
    let frames = m.frames(2);
    write(frames, 0, arch.vvar());
    write(frames.add(1), 0, image);
    let (space, mut cx, _) = m.program(code::clock_once());
    map(&*space, 0x30_0000, 1, frames, Prot::READ);
    map(&*space, 0x30_1000, 1, frames.add(1), RX);
    let function = 0x30_1000 + symbol(image, "__vdso_clock_gettime");
    for name in ["gettimeofday", "time", "clock_getres", "getcpu"] {
        symbol(image, &format!("__vdso_{name}"));
    }
    let mut call = |clock: u64| {
        cx.gp[RIP] = TEXT;
        cx.gp[RSP] = DATA + 0x3000;
        cx.gp[RDI] = function;
        cx.gp[RSI] = clock;
        assert_eq!(m.run(&space, &mut cx), Trap::Syscall);
        match cx.gp[NUMBER] {
            39 => {
                assert_eq!(cx.gp[RSI], 0);
                Some(cx.gp[RBX] * 1_000_000_000 + cx.gp[RDX])
            }
            228 => None,
            nr => panic!("system call {nr}"),
        }
    };
    // Before there is a page: the system call.
    assert_eq!(call(1), None);
    arch.set_vvar_page(frames);
    std::thread::sleep(Duration::from_millis(10));
    arch.update_vvar(m.clock());
    std::thread::sleep(Duration::from_millis(10));
    arch.update_vvar(m.clock());
    if call(1).is_none() {
        println!("the host does not trust its time stamp counter");
        return;
    }
    assert_eq!(
        (call(2), call(3), call(11), call(1000)),
        (None, None, None, None)
    );
    let mut last = 0;
    let began = Instant::now();
    let mut worst = 0;
    while began.elapsed() < Duration::from_secs(2) {
        let before = m.now();
        let inside = call(1).unwrap();
        let after = m.now();
        assert!(inside >= last, "{last} then {inside}");
        worst = worst
            .max(before.saturating_sub(inside))
            .max(inside.saturating_sub(after));
        last = inside;
    }
    println!("at most {worst} ns off");
    assert!(worst < 5_000);
    let wall = call(0).unwrap() as i64 - m.clock().realtime_ns() as i64;
    assert!(wall.abs() < 50_000_000, "{wall}");
    assert!(call(4).unwrap() >= last && call(7).unwrap() >= last);
    // The coarse clock stands at the tick before.
    let (coarse, tick) = (call(6).unwrap(), 4_000_000);
    assert!(coarse % tick == 0 && coarse + tick > last && coarse <= call(1).unwrap());
}

/// Host processes that are children of this one.
pub fn children() -> Vec<i32> {
    let me = std::process::id();
    let all = std::fs::read_to_string(format!("/proc/{me}/task/{me}/children")).unwrap();
    all.split_whitespace().map(|p| p.parse().unwrap()).collect()
}

fn killed() {
    let m = Machine::new(1);
    let (space, mut cx, _) = m.program(code::spin());
    let killer = std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(20));
        for pid in children().into_iter().skip(1) {
            host_sys::task::kill(pid, libc::SIGKILL).unwrap();
        }
    });
    m.engine
        .set_timer(m.cpus[0], Some(m.now() + 10_000_000_000));
    assert_eq!(m.run(&space, &mut cx), Trap::Lost);
    killer.join().unwrap();
    let deadline = Instant::now() + Duration::from_secs(1);
    while DIED.load(Ordering::SeqCst) != libc::SIGKILL {
        assert!(Instant::now() < deadline);
    }
    assert!(!space.alive());
}

/// A machine is killed at a random moment; its processes must be gone soon.
fn survives() {
    if std::env::var_os("VICTIM").is_some() {
        let m = Machine::new(1);
        let (_keep, _, _) = m.program(code::syscalls());
        let (space, mut cx, _) = m.program(code::syscalls());
        println!("{:?}", children());
        loop {
            let (_more, _, _) = m.program(code::syscalls());
            m.run(&space, &mut cx);
        }
    }
    use std::io::BufRead;
    for i in 0..20 {
        let exe = std::env::current_exe().unwrap();
        let mut victim = std::process::Command::new(exe)
            .args(["--one", "nothing_survives_the_kernel"])
            .env("VICTIM", "1")
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = std::io::BufReader::new(victim.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        std::thread::sleep(Duration::from_micros(i * 777));
        victim.kill().unwrap();
        victim.wait().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        for pid in line.trim().trim_matches(['[', ']']).split(", ") {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
            let alive = stat.is_ok_and(|s| s.contains("lodger-user") && !s.contains(") Z"));
            assert!(!alive, "{pid} survives");
        }
    }
}
