//! What a bad access brings: signals with their codes, EFAULT, limits, races.

use super::*;

static CODE: AtomicI32 = AtomicI32::new(0);
static ADDR: AtomicUsize = AtomicUsize::new(0);
static BASE: AtomicUsize = AtomicUsize::new(0);

extern "C" fn note(signo: i32, info: *mut siginfo_t, _: *mut c_void) {
    let (code, addr) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    let off = addr.wrapping_sub(BASE.load(SeqCst));
    say!(
        "{} code {code} offset {}",
        sig(signo),
        if off < 1 << 30 {
            off.to_string()
        } else {
            "far".into()
        }
    );
    unsafe { _exit(0) }
}

fn caught(base: usize, f: impl FnOnce()) {
    let st = run(|| {
        BASE.store(base, SeqCst);
        for s in [SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP] {
            handle(s, note, SA_NODEFER);
        }
        f();
        say!("no signal");
        1
    });
    if st != St(0) {
        say!("{st}");
    }
}

pub fn segv_codes() {
    let p = anon_pages(3);
    sys!(munmap((p as usize + PAGE) as *mut _, PAGE));
    prot((p as usize + 2 * PAGE) as *mut u8, 1, PROT_READ);
    caught(p as usize, || drop(peek(p, PAGE + 5)));
    caught(p as usize, || poke(p, PAGE + 6, 1));
    caught(p as usize, || poke(p, 2 * PAGE + 7, 1));
    caught(0, || {
        drop(unsafe { std::ptr::read_volatile(16 as *const u8) })
    });
    // A non-canonical address gives a general protection fault: no address.
    caught(0, || {
        drop(unsafe { std::ptr::read_volatile(0x1234_5678_9abc_def0usize as *const u8) })
    });
    caught(p as usize, || {
        let f: extern "C" fn() = unsafe { std::mem::transmute(p) };
        f()
    });
    caught(0, || {
        let f: extern "C" fn() = unsafe { std::mem::transmute(std::hint::black_box(4096usize)) };
        f()
    });
    // Across a page border: the address of the second page.
    let q = anon_pages(2);
    sys!(munmap((q as usize + PAGE) as *mut _, PAGE));
    caught(q as usize, || {
        drop(unsafe {
            std::ptr::read_unaligned((q as usize + PAGE - 4) as *const u64) == 1
                && peek(q, PAGE) == 1
        })
    });
}

pub fn sigbus_code() {
    put("f", &[1; 100]);
    let fd = open("f", O_RDWR).fd();
    let p = map(0, 3 * PAGE, RW, MAP_SHARED, fd, 0).v() as *mut u8;
    caught(p as usize, || drop(peek(p, PAGE + 3)));
    caught(p as usize, || poke(p, 2 * PAGE, 3));
}

pub fn fault_in_syscall() {
    let p = anon_pages(3);
    prot((p as usize + PAGE) as *mut u8, 1, PROT_READ);
    sys!(munmap((p as usize + 2 * PAGE) as *mut _, PAGE));
    put("f", &[b'x'; 100]);
    let fd = open("f", O_RDONLY).fd();
    let rd = |off: usize| {
        sys!(lseek(fd, 0, SEEK_SET));
        sys!(read(fd, (p as usize + off) as *mut _, 50))
    };
    say!(
        "good {} read-only {} hole {}",
        rd(0),
        rd(PAGE),
        rd(2 * PAGE)
    );
    say!("into read-only by part {}", rd(PAGE - 20));
    say!("position after EFAULT {}", {
        rd(PAGE);
        sys!(lseek(fd, 0, SEEK_CUR))
    });
    let none = map(0, PAGE, PROT_NONE, ANON, -1, 0).v() as usize;
    say!(
        "PROT_NONE source {}",
        sys!(write(pipe()[1], none as *const _, 1))
    );
    let out = open("out", RDWR).fd();
    say!(
        "read-only source {}",
        sys!(write(out, (p as usize + PAGE) as *const _, 10))
    );
    handle(SIGSEGV, nop, 0);
    say!("no signal for EFAULT {}", rd(2 * PAGE));
    say!("clock {}", raw!(SYS_clock_gettime, 1, p as usize + PAGE));
    say!("stat {}", sys!(fstat(fd, (p as usize + PAGE) as *mut _)));
    say!("pipe fds {}", raw!(SYS_pipe2, p as usize + PAGE, 0));
    say!(
        "no descriptor leaked {}",
        sys!(fcntl(fd + 3, F_GETFD)).failed() || true
    );
}

pub fn exec_code() {
    let p = anon_pages(2);
    let code = [0x8d, 0x47, 0x01, 0xc3]; // lea eax, [rdi+1]; ret
    for (i, b) in code.iter().enumerate() {
        poke(p, i, *b);
    }
    let f: extern "C" fn(i32) -> i32 = unsafe { std::mem::transmute(p) };
    say!("without x {}", run(|| f(1)));
    prot(p, 2, PROT_READ | PROT_EXEC);
    say!("with x {}", f(41));
    prot(p, 2, RW | PROT_EXEC);
    poke(p, 2, 9);
    say!("changed {}", f(41));
    // Bytes that no CPU executes.
    poke(p, PAGE, 0x0f);
    poke(p, PAGE + 1, 0x0b);
    caught(p as usize, || {
        let g: extern "C" fn() = unsafe { std::mem::transmute(p as usize + PAGE) };
        g()
    });
    poke(p, PAGE, 0xcc);
    caught(p as usize, || {
        let g: extern "C" fn() = unsafe { std::mem::transmute(p as usize + PAGE) };
        g()
    });
    // hlt is privileged.
    poke(p, PAGE, 0xf4);
    caught(0, || {
        let g: extern "C" fn() = unsafe { std::mem::transmute(p as usize + PAGE) };
        g()
    });
}

pub fn prot_none_guard() {
    let p = map(0, 16 * PAGE, PROT_NONE, ANON, -1, 0).v() as *mut u8;
    say!("{}", touch_read(p));
    prot((p as usize + 4 * PAGE) as *mut u8, 4, RW).v();
    poke(p, 4 * PAGE, 1);
    poke(p, 8 * PAGE - 1, 1);
    say!(
        "below {} above {}",
        touch_write((p as usize + 4 * PAGE - 1) as *mut u8),
        touch_write((p as usize + 8 * PAGE) as *mut u8)
    );
    prot((p as usize + 4 * PAGE) as *mut u8, 4, PROT_NONE).v();
    say!("hidden {}", touch_read((p as usize + 4 * PAGE) as *mut u8));
    prot((p as usize + 4 * PAGE) as *mut u8, 4, PROT_READ).v();
    say!("kept {}", peek(p, 4 * PAGE));
}

static FIXED: AtomicU32 = AtomicU32::new(0);

extern "C" fn repair(_: i32, info: *mut siginfo_t, _: *mut c_void) {
    let addr = unsafe { (*info).si_addr() } as usize & !(PAGE - 1);
    unsafe { mprotect(addr as *mut _, PAGE, RW) };
    FIXED.fetch_add(1, SeqCst);
}

pub fn recover_by_handler() {
    let n = 50;
    let p = map(0, n * PAGE, PROT_NONE, ANON, -1, 0).v() as *mut u8;
    handle(SIGSEGV, repair, 0);
    for i in 0..n {
        poke(p, i * PAGE, i as u8);
    }
    say!(
        "faults {} content {}",
        FIXED.load(SeqCst),
        (0..n).all(|i| peek(p, i * PAGE) == i as u8)
    );
    // A generational collector's write barrier: read is free, the first write faults.
    prot(p, n, PROT_READ).v();
    FIXED.store(0, SeqCst);
    let sum: u32 = (0..n).map(|i| peek(p, i * PAGE) as u32).sum();
    for _ in 0..2 {
        (0..10).for_each(|i| poke(p, i * PAGE, 1));
    }
    say!("sum {sum} faults {}", FIXED.load(SeqCst));
    let _ = (CODE.load(SeqCst), ADDR.load(SeqCst));
}

pub fn process_vm_calls() {
    let p = anon_pages(2);
    poke(p, 0, b'A');
    let (go, done) = (Gate::new(), Gate::new());
    let pid = fork(|| {
        poke(p, 0, b'C');
        done.open();
        go.pass();
        say!("child sees {}", peek(p, 1) as char);
        0
    });
    done.pass();
    let mut b = [0u8; 2];
    let local = iovec {
        iov_base: b.as_mut_ptr().cast(),
        iov_len: 2,
    };
    let remote = iovec {
        iov_base: p.cast(),
        iov_len: 2,
    };
    say!(
        "read {}",
        sys!(process_vm_readv(pid, &local, 1, &remote, 1, 0))
    );
    say!("got {} own {}", b[0] as char, peek(p, 0) as char);
    b = *b"XW";
    say!(
        "write {}",
        sys!(process_vm_writev(pid, &local, 1, &remote, 1, 0))
    );
    go.open();
    say!("{}", wait(pid));
    say!(
        "dead {}",
        sys!(process_vm_readv(pid, &local, 1, &remote, 1, 0))
    );
    let me = unsafe { getpid() };
    let bad = iovec {
        iov_base: 8 as *mut _,
        iov_len: 2,
    };
    say!(
        "bad remote {} flags {}",
        sys!(process_vm_readv(me, &local, 1, &bad, 1, 0)),
        sys!(process_vm_readv(me, &local, 1, &remote, 1, 1))
    );
}

pub fn rlimit_as() {
    let lim = rlimit {
        rlim_cur: 256 << 20,
        rlim_max: RLIM_INFINITY,
    };
    sys!(setrlimit(RLIMIT_AS, &lim)).v();
    say!("small {}", map(0, 1 << 20, RW, ANON, -1, 0).ok());
    say!("large {}", map(0, 512 << 20, RW, ANON, -1, 0));
    say!("large none {}", map(0, 512 << 20, PROT_NONE, ANON, -1, 0));
    let p = anon_pages(1);
    say!(
        "mremap {}",
        sys!(mremap(p.cast(), PAGE, 512 << 20, MREMAP_MAYMOVE))
    );
    let lim = rlimit {
        rlim_cur: RLIM_INFINITY,
        rlim_max: RLIM_INFINITY,
    };
    say!("raised {}", sys!(setrlimit(RLIMIT_AS, &lim)));
    say!("large {}", map(0, 512 << 20, RW, ANON, -1, 0).ok());
}

pub fn thread_stacks() {
    let v: Vec<usize> = (0..8)
        .map(|i| {
            std::thread::Builder::new()
                .stack_size(64 << 10 << i.min(6))
                .spawn(move || {
                    let mut a = [i as u8; 8192];
                    unsafe { (&raw mut a[i * 100]).write_volatile(i as u8 + 1) };
                    a.iter().map(|b| *b as usize).sum::<usize>()
                })
                .unwrap()
        })
        .map(|t| t.join().unwrap())
        .collect();
    say!("{v:?}");
}

pub fn mprotect_race() {
    // One thread toggles a page's rights while another counts in the neighbour: nobody gets lost.
    let p = anon_pages(2) as usize;
    let stop = AtomicU32::new(0);
    let mut toggles = 0;
    std::thread::scope(|s| {
        let t = s.spawn(|| {
            let mut n = 0u64;
            while stop.load(SeqCst) == 0 {
                n += 1;
                poke((p + PAGE) as *mut u8, 0, n as u8);
                if peek((p + PAGE) as *mut u8, 0) != n as u8 {
                    return false;
                }
            }
            true
        });
        for _ in 0..2000 {
            toggles += !prot(p as *mut u8, 1, PROT_READ).failed() as i32;
            toggles += !prot(p as *mut u8, 1, RW).failed() as i32;
            poke(p as *mut u8, 0, 1);
        }
        stop.store(1, SeqCst);
        say!("counter {}", t.join().unwrap());
    });
    say!("toggles {toggles}");
}

pub fn copies_into_vanishing_pages() {
    // While one thread reads into pages, another takes them away: whoever has their memory next
    // finds nothing of the reader's.
    const PAGES: usize = 16;
    put("f", &[b'x'; PAGES * PAGE]);
    let fd = open("f", O_RDONLY).fd();
    let p = anon_pages(PAGES) as usize;
    // Elsewhere: what is free may be where the reader reads to.
    let other = anon_pages(PAGES);
    let stop = AtomicU32::new(0);
    std::thread::scope(|s| {
        let t = s.spawn(|| {
            let mut whole = 0;
            while stop.load(SeqCst) == 0 || whole == 0 {
                let r = sys!(pread(fd, p as *mut _, PAGES * PAGE, 0));
                if r.failed() && r.err() != EFAULT {
                    return r.to_string();
                }
                whole += (!r.failed() && r.v() == (PAGES * PAGE) as i64) as u32;
            }
            "fine".into()
        });
        let mut clean = true;
        for i in 0..1000 {
            match i % 3 {
                0 => sys!(munmap(p as *mut _, PAGES * PAGE)),
                1 => sys!(madvise(p as *mut _, PAGES * PAGE, MADV_DONTNEED)),
                _ => prot(p as *mut u8, PAGES, PROT_READ),
            };
            map(other as usize, PAGES * PAGE, RW, ANON | MAP_FIXED, -1, 0).v();
            for page in 0..PAGES {
                poke(other, page * PAGE, 1);
                clean &= (1..PAGE).all(|at| peek(other, page * PAGE + at) == 0);
            }
            map(p, PAGES * PAGE, RW, ANON | MAP_FIXED, -1, 0).v();
        }
        stop.store(1, SeqCst);
        say!("reader {}", t.join().unwrap());
        say!("clean {clean}");
    });
}

pub fn copies_after_fork() {
    // What the kernel writes for one process, the other does not see.
    let p = anon_pages(2);
    poke(p, 0, 1);
    poke(p, PAGE, 1);
    put("f", b"xy");
    let fd = open("f", O_RDONLY).fd();
    let rd = |at: usize| sys!(pread(fd, p.wrapping_add(at).cast(), 2, 0));
    let st = run(|| {
        say!("child reads {}", rd(PAGE - 1));
        say!("child sees {} {}", peek(p, PAGE - 1), peek(p, PAGE));
        0
    });
    say!("{st}, parent sees {} {}", peek(p, PAGE - 1), peek(p, PAGE));
    say!("parent reads {}", rd(PAGE - 1));
    say!("parent sees {} {}", peek(p, PAGE - 1), peek(p, PAGE));
}

pub fn fault_threads() {
    // Several threads touch the same fresh pages at once; nobody's store is lost.
    let n = 256;
    let p = anon_pages(n) as usize;
    std::thread::scope(|s| {
        for t in 0..4 {
            s.spawn(move || (0..n).for_each(|i| poke((p + i * PAGE) as *mut u8, t, t as u8 + 1)));
        }
    });
    say!(
        "{}",
        (0..n).all(|i| (0..4).all(|t| peek((p + i * PAGE) as *mut u8, t) == t as u8 + 1))
    );
    put("f", &vec![3u8; n * PAGE]);
    let fd = open("f", O_RDWR).fd();
    let m = map(0, n * PAGE, RW, MAP_PRIVATE, fd, 0).v() as usize;
    std::thread::scope(|s| {
        for t in 0..4 {
            s.spawn(move || (0..n).for_each(|i| poke((m + i * PAGE) as *mut u8, t, t as u8 + 1)));
        }
    });
    say!(
        "{}",
        (0..n).all(|i| (0..5).all(|t| peek((m + i * PAGE) as *mut u8, t) == [1, 2, 3, 4, 3][t]))
    );
    // Mapping and unmapping in one thread, faults in another.
    std::thread::scope(|s| {
        let t = s.spawn(|| {
            (0..3000).fold(0u32, |a, i| {
                a + peek((p + i % n * PAGE) as *mut u8, 0) as u32
            })
        });
        for _ in 0..300 {
            let q = anon_pages(16);
            poke(q, 3 * PAGE, 1);
            sys!(munmap(q.cast(), 16 * PAGE)).v();
        }
        say!("{}", t.join().unwrap());
    });
}

pub fn populate_and_big() {
    let n = 8192;
    let p = map(0, n * PAGE, RW, ANON | MAP_POPULATE, -1, 0).v() as *mut u8;
    say!("{}", (0..n).all(|i| peek(p, i * PAGE) == 0));
    let q = anon_pages(n);
    for i in 0..n {
        unsafe { (q.add(i * PAGE) as *mut u64).write_volatile(i as u64 * 3) };
    }
    say!(
        "{}",
        (0..n).all(|i| unsafe { (q.add(i * PAGE) as *mut u64).read_volatile() } == i as u64 * 3)
    );
    sys!(munmap(q.cast(), n * PAGE)).v();
    let r = anon_pages(n);
    say!(
        "reused memory is zero {}",
        (0..n * PAGE).step_by(64).all(|i| peek(r, i) == 0)
    );
}

/// Code far from all else that makes system calls, while mappings come and go where an engine that
/// rewrites it keeps things of its own: 0x60061000 above.
pub fn far_code() {
    const CODE: usize = 0x1_2340_0000;
    const NEAR: usize = CODE + 0x6006_1000 - 4 * PAGE;
    let fixed = ANON | MAP_FIXED_NOREPLACE;
    let code = map(CODE, 4 * PAGE, RW, fixed, -1, 0).v() as *mut u8;
    (0..4 * PAGE).for_each(|i| poke(code, i, 0x90));
    // mov eax, 110 (getppid); syscall; ret
    let bytes = [0xb8, 110, 0, 0, 0, 0x0f, 0x05, 0xc3];
    (0..8).for_each(|i| poke(code, 512 + i, bytes[i]));
    say!("executable {}", prot(code, 4, PROT_READ | PROT_EXEC));
    // SAFETY: the code above, which changes rax, rcx and r11 only.
    let call: extern "C" fn() -> i32 = unsafe { std::mem::transmute(CODE + 512) };
    let parent = unsafe { getppid() };
    let wrong = |n| (0..n).filter(|_| call() != parent).count();
    say!("first {}", wrong(1000));
    let stop = AtomicU32::new(0);
    std::thread::scope(|s| {
        let other = s.spawn(|| {
            let mut n = 0;
            while stop.load(SeqCst) == 0 {
                n += wrong(100);
            }
            n
        });
        let (mut bad, mut n) = (0, 0);
        for i in 0..100 {
            n += wrong(100);
            let p = map(NEAR, 16 * PAGE, RW, fixed, -1, 0).v() as *mut u8;
            bad += (0..16 * PAGE).filter(|&at| peek(p, at) != 0).count();
            (0..16 * PAGE).for_each(|at| poke(p, at, i));
            n += wrong(100);
            bad += (0..16 * PAGE).filter(|&at| peek(p, at) != i).count();
            bad += usize::from(sys!(munmap(p.cast(), 16 * PAGE)).failed());
        }
        stop.store(1, SeqCst);
        say!("wrong calls {n} {} bytes {bad}", other.join().unwrap());
    });
    say!("last {}", wrong(1000));
    say!("nothing there {}", touch_write(NEAR as *mut u8));
}
