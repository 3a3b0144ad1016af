//! Anonymous memory: layout calls and copy-on-write.

use super::*;

pub fn anon_zero() {
    let p = anon_pages(8);
    say!("zero {}", (0..8 * PAGE).all(|i| peek(p, i) == 0));
    for i in 0..8 {
        poke(p, i * PAGE + i, i as u8 + 1);
    }
    say!(
        "kept {}",
        (0..8).all(|i| peek(p, i * PAGE + i) == i as u8 + 1)
    );
    say!("aligned {}", p as usize % PAGE == 0);
    say!("odd length {}", map(0, 5000, RW, ANON, -1, 0).ok());
    say!(
        "unmap {} again {}",
        sys!(munmap(p.cast(), 8 * PAGE)),
        sys!(munmap(p.cast(), 8 * PAGE))
    );
    say!("gone {}", touch_read(p));
    let ro = map(0, PAGE, PROT_READ, ANON, -1, 0).v() as *mut u8;
    say!("read-only zero {} write {}", peek(ro, 100), touch_write(ro));
    prot(ro, 1, RW);
    poke(ro, 0, 9);
    say!("after mprotect {}", peek(ro, 0));
}

pub fn anon_errors() {
    say!("length 0 {}", map(0, 0, RW, ANON, -1, 0));
    say!("no type {}", map(0, PAGE, RW, MAP_ANONYMOUS, -1, 0));
    say!(
        "both types {}",
        map(0, PAGE, RW, MAP_ANONYMOUS | 3, -1, 0).ok()
    );
    say!(
        "fixed unaligned {}",
        map(0x10001, PAGE, RW, ANON | MAP_FIXED, -1, 0)
    );
    say!(
        "fixed in kernel half {}",
        map(0xffff_8000_0000_0000, PAGE, RW, ANON | MAP_FIXED, -1, 0)
    );
    say!("too long {}", map(0, 1 << 60, RW, ANON, -1, 0));
    say!(
        "length overflow {}",
        map(0, usize::MAX - 100, RW, ANON, -1, 0)
    );
    say!("bad fd {}", map(0, PAGE, RW, MAP_PRIVATE, -1, 0));
    say!("anon ignores fd {}", map(0, PAGE, RW, ANON, 12345, 0).ok());
    say!(
        "unaligned offset {}",
        raw!(SYS_mmap, 0, PAGE, RW, ANON, -1i64, 100)
    );
    say!("munmap length 0 {}", sys!(munmap(0x10000 as *mut _, 0)));
    say!(
        "munmap wrap {}",
        sys!(munmap(0x10000 as *mut _, usize::MAX))
    );
    say!(
        "munmap kernel {}",
        sys!(munmap(0xffff_8000_0000_0000usize as *mut _, PAGE))
    );
}

pub fn fixed_replaces() {
    let p = anon_pages(4);
    for i in 0..4 {
        poke(p, i * PAGE, 1);
    }
    let q = map(p as usize + PAGE, 2 * PAGE, RW, ANON | MAP_FIXED, -1, 0).v() as *mut u8;
    say!("there {}", q as usize == p as usize + PAGE);
    say!(
        "{} {} {} {}",
        peek(p, 0),
        peek(p, PAGE),
        peek(p, 2 * PAGE),
        peek(p, 3 * PAGE)
    );
}

pub fn fixed_noreplace() {
    let p = anon_pages(4);
    poke(p, PAGE, 7);
    let f = ANON | MAP_FIXED_NOREPLACE;
    say!("taken {}", map(p as usize + PAGE, PAGE, RW, f, -1, 0));
    say!(
        "overlap {}",
        map(p as usize + 3 * PAGE, 8 * PAGE, RW, f, -1, 0)
    );
    say!("kept {}", peek(p, PAGE));
    sys!(munmap(p.add_(PAGE), PAGE)).v();
    let r = map(p as usize + PAGE, PAGE, RW, f, -1, 0);
    say!("free {} there {}", r.ok(), r.0 == p as i64 + PAGE as i64);
}

trait Off {
    fn add_(self, n: usize) -> *mut c_void;
}
impl Off for *mut u8 {
    fn add_(self, n: usize) -> *mut c_void {
        (self as usize + n) as *mut c_void
    }
}

pub fn hints() {
    let p = anon_pages(16);
    sys!(munmap(p.cast(), 16 * PAGE));
    let q = map(p as usize, 4 * PAGE, RW, ANON, -1, 0);
    say!("free hint taken {}", q.0 == p as i64);
    let r = map(p as usize, 4 * PAGE, RW, ANON, -1, 0);
    say!("busy hint moved {}", r.0 != p as i64 && !r.failed());
    let u = map(p as usize + 8 * PAGE + 77, PAGE, RW, ANON, -1, 0);
    say!("unaligned hint {}", u.0 == (p as usize + 8 * PAGE) as i64);
    say!(
        "hint in kernel half {}",
        map(0xffff_8000_0000_0000, PAGE, RW, ANON, -1, 0).ok()
    );
    say!(
        "32bit {}",
        (map(0, PAGE, RW, ANON | MAP_32BIT, -1, 0).v() as usize) < 1 << 31
    );
}

pub fn munmap_parts() {
    let p = anon_pages(8);
    for i in 0..8 {
        poke(p, i * PAGE, i as u8);
    }
    say!("middle {}", sys!(munmap(p.add_(3 * PAGE), 2 * PAGE)));
    let v: Vec<String> = (0..8)
        .map(|i| touch_read(p.add_(i * PAGE).cast()))
        .collect();
    say!("{v:?}");
    say!("over holes {}", sys!(munmap(p.cast(), 8 * PAGE)));
    say!("all gone {}", touch_read(p.add_(7 * PAGE).cast()));
    let q = anon_pages(2);
    say!("part of a page {}", sys!(munmap(q.cast(), 1)));
    say!("{} {}", touch_read(q), touch_read(q.add_(PAGE).cast()));
}

pub fn mprotect_matrix() {
    let p = anon_pages(1);
    poke(p, 0, 5);
    for (n, pr) in [
        ("none", 0),
        ("r", PROT_READ),
        ("w", PROT_WRITE),
        ("rw", RW),
        ("rx", PROT_READ | PROT_EXEC),
    ] {
        say!(
            "{n}: {} read {} write {}",
            prot(p, 1, pr),
            touch_read(p),
            touch_write(p)
        );
    }
    // Where the CPU has protection keys, one of them makes such pages unreadable.
    let keys = sys!(syscall(SYS_pkey_alloc, 0, 0));
    let read = if !keys.failed() {
        "killed SIGSEGV"
    } else {
        "exit 0"
    };
    say!(
        "x: {} read as it should be {} write {}",
        prot(p, 1, PROT_EXEC),
        touch_read(p) == read,
        touch_write(p)
    );
    prot(p, 1, RW);
    say!("value {}", peek(p, 0));
    let q = anon_pages(6);
    for i in 0..6 {
        poke(q, i * PAGE, 1);
    }
    prot(q.add_(2 * PAGE).cast(), 2, PROT_READ);
    let v: String = (0..6)
        .map(|i| {
            if touch_write(q.add_(i * PAGE).cast()) == "exit 0" {
                'w'
            } else {
                'r'
            }
        })
        .collect();
    say!("{v}");
    prot(q, 6, RW);
    let v: String = (0..6)
        .map(|i| {
            if touch_write(q.add_(i * PAGE).cast()) == "exit 0" {
                'w'
            } else {
                'r'
            }
        })
        .collect();
    say!("{v}");
}

pub fn mprotect_errors() {
    let p = anon_pages(4);
    sys!(munmap(p.add_(2 * PAGE), PAGE));
    say!("over a hole {}", prot(p, 4, PROT_READ));
    say!(
        "before the hole changed {} after not {}",
        touch_write(p),
        touch_write(p.add_(3 * PAGE).cast())
    );
    say!("unaligned {}", sys!(mprotect(p.add_(1), PAGE, RW)));
    say!("length 0 {}", sys!(mprotect(p.cast(), 0, RW)));
    say!("bad prot {}", prot(p, 1, 0x7000));
    say!("unmapped {}", sys!(mprotect(p.add_(2 * PAGE), PAGE, RW)));
    say!("wrap {}", sys!(mprotect(p.cast(), usize::MAX - PAGE, RW)));
}

pub fn mremap_grow() {
    let p = anon_pages(20);
    sys!(munmap(p.add_(4 * PAGE), 16 * PAGE));
    for i in 0..4 {
        poke(p, i * PAGE, i as u8 + 1);
    }
    let r = sys!(mremap(p.cast(), 4 * PAGE, 8 * PAGE, 0));
    say!("in place {}", r.0 == p as i64);
    say!(
        "new is zero {} old kept {}",
        peek(p, 7 * PAGE),
        peek(p, 3 * PAGE)
    );
    say!(
        "shrink {}",
        sys!(mremap(p.cast(), 8 * PAGE, 2 * PAGE, 0)).0 == p as i64
    );
    say!("cut off {}", touch_read(p.add_(3 * PAGE).cast()));
    say!(
        "same {}",
        sys!(mremap(p.cast(), 2 * PAGE, 2 * PAGE, 0)).0 == p as i64
    );
}

pub fn mremap_move() {
    let p = anon_pages(8);
    for i in 0..4 {
        poke(p, i * PAGE + 1, i as u8 + 10);
    }
    say!("blocked {}", sys!(mremap(p.cast(), 4 * PAGE, 5 * PAGE, 0)));
    let r = sys!(mremap(p.cast(), 4 * PAGE, 100 * PAGE, MREMAP_MAYMOVE));
    let q = r.v() as *mut u8;
    say!(
        "moved {} content {}",
        q != p,
        (0..4).all(|i| peek(q, i * PAGE + 1) == i as u8 + 10)
    );
    say!(
        "rest zero {} old gone {}",
        peek(q, 99 * PAGE),
        touch_read(p)
    );
    say!("neighbour stays {}", touch_read(p.add_(5 * PAGE).cast()));
    let big = sys!(mremap(q.cast(), 100 * PAGE, 5000 * PAGE, MREMAP_MAYMOVE)).v() as *mut u8;
    poke(big, 4999 * PAGE, 1);
    say!("{} {}", peek(big, PAGE + 1), peek(big, 4999 * PAGE));
}

pub fn mremap_fixed() {
    let p = anon_pages(2);
    let t = anon_pages(4);
    poke(p, 0, 42);
    poke(t, 0, 1);
    let r = sys!(mremap(
        p.cast(),
        2 * PAGE,
        2 * PAGE,
        MREMAP_MAYMOVE | MREMAP_FIXED,
        t.cast::<c_void>()
    ));
    say!(
        "there {} {} old {}",
        r.0 == t as i64,
        peek(t, 0),
        touch_read(p)
    );
    let a = anon_pages(2);
    poke(a, 0, 9);
    let r = sys!(mremap(
        a.cast(),
        2 * PAGE,
        2 * PAGE,
        MREMAP_MAYMOVE | MREMAP_DONTUNMAP,
        null_mut::<c_void>()
    ));
    say!(
        "dontunmap {} new {} old {}",
        r.ok(),
        peek(r.v() as *mut u8, 0),
        peek(a, 0)
    );
    let s = map(0, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0).v() as *mut u8;
    poke(s, 0, 77);
    let d = sys!(mremap(s.cast(), 0, PAGE, MREMAP_MAYMOVE)).v() as *mut u8;
    poke(d, 1, 78);
    say!("duplicate {} {}", peek(d, 0), peek(s, 1));
}

pub fn mremap_errors() {
    let p = anon_pages(4);
    say!(
        "unmapped {}",
        sys!(mremap(0x10000 as *mut _, PAGE, 2 * PAGE, MREMAP_MAYMOVE))
    );
    say!("unaligned {}", sys!(mremap(p.add_(1), PAGE, PAGE, 0)));
    say!("new length 0 {}", sys!(mremap(p.cast(), PAGE, 0, 0)));
    say!(
        "old length 0 private {}",
        sys!(mremap(p.cast(), 0, PAGE, MREMAP_MAYMOVE))
    );
    say!("bad flags {}", sys!(mremap(p.cast(), PAGE, PAGE, 0x80)));
    say!(
        "fixed without maymove {}",
        sys!(mremap(
            p.cast(),
            PAGE,
            PAGE,
            MREMAP_FIXED,
            p.cast::<c_void>()
        ))
    );
    say!(
        "overlap {}",
        sys!(mremap(
            p.cast(),
            2 * PAGE,
            2 * PAGE,
            MREMAP_FIXED | MREMAP_MAYMOVE,
            p.add_(PAGE)
        ))
    );
    say!(
        "fixed unaligned {}",
        sys!(mremap(
            p.cast(),
            PAGE,
            PAGE,
            MREMAP_FIXED | MREMAP_MAYMOVE,
            p.add_(5)
        ))
    );
    say!(
        "too long {}",
        sys!(mremap(p.cast(), PAGE, 1 << 60, MREMAP_MAYMOVE))
    );
    prot(p.add_(PAGE).cast(), 1, PROT_READ);
    say!(
        "over two mappings {}",
        sys!(mremap(p.cast(), 3 * PAGE, 9 * PAGE, MREMAP_MAYMOVE))
    );
}

pub fn madvise_dontneed() {
    let p = anon_pages(4);
    for i in 0..4 {
        poke(p, i * PAGE, 9);
    }
    say!("{}", sys!(madvise(p.add_(PAGE), 2 * PAGE, MADV_DONTNEED)));
    say!(
        "{} {} {} {}",
        peek(p, 0),
        peek(p, PAGE),
        peek(p, 2 * PAGE),
        peek(p, 3 * PAGE)
    );
    put("f", &[b'f'; 8192]);
    let fd = open("f", O_RDWR).fd();
    let m = map(0, 8192, RW, MAP_PRIVATE, fd, 0).v() as *mut u8;
    poke(m, 0, b'X');
    say!("private {}", peek(m, 0) as char);
    sys!(madvise(m.cast(), 8192, MADV_DONTNEED)).v();
    say!("back to file {}", peek(m, 0) as char);
    let s = map(0, 8192, RW, MAP_SHARED, fd, 0).v() as *mut u8;
    poke(s, 0, b'S');
    sys!(madvise(s.cast(), 8192, MADV_DONTNEED)).v();
    say!("shared stays {} file {}", peek(s, 0) as char, get("f"));
    let a = map(0, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0).v() as *mut u8;
    poke(a, 0, 3);
    sys!(madvise(a.cast(), PAGE, MADV_DONTNEED)).v();
    say!("shared anonymous stays {}", peek(a, 0));
    say!(
        "remove {} {}",
        sys!(madvise(a.cast(), PAGE, MADV_REMOVE)),
        peek(a, 0)
    );
}

pub fn madvise_kinds() {
    let p = anon_pages(4);
    poke(p, 0, 1);
    for (n, a) in [
        ("normal", MADV_NORMAL),
        ("random", MADV_RANDOM),
        ("sequential", MADV_SEQUENTIAL),
        ("willneed", MADV_WILLNEED),
        ("dontfork", MADV_DONTFORK),
        ("dofork", MADV_DOFORK),
        ("dontdump", MADV_DONTDUMP),
        ("dodump", MADV_DODUMP),
        ("free", MADV_FREE),
        ("cold", MADV_COLD),
    ] {
        say!("{n} {}", sys!(madvise(p.cast(), PAGE, a)));
    }
    poke(p, 0, 2);
    say!("written after free {}", peek(p, 0));
    say!(
        "unaligned {} hole {}",
        sys!(madvise(p.add_(1), PAGE, MADV_NORMAL)),
        {
            sys!(munmap(p.add_(PAGE), PAGE));
            sys!(madvise(p.cast(), 4 * PAGE, MADV_DONTNEED))
        }
    );
    say!("still done after the hole {}", peek(p, 0));
    say!(
        "length 0 {} unknown {}",
        sys!(madvise(p.cast(), 0, MADV_NORMAL)),
        sys!(madvise(p.cast(), PAGE, 12345))
    );
    say!(
        "populate {}",
        sys!(madvise(p.cast(), PAGE, MADV_POPULATE_WRITE))
    );
    say!(
        "populate hole {}",
        sys!(madvise(p.add_(PAGE), PAGE, MADV_POPULATE_READ))
    );
}

pub fn brk_moves() {
    let start = raw!(SYS_brk, 0).v() as usize;
    let brk = |n: usize| raw!(SYS_brk, n).0 as usize;
    say!("grow {}", brk(start + 3 * PAGE + 5) == start + 3 * PAGE + 5);
    poke(start as *mut u8, 3 * PAGE, 1);
    say!("fresh zero {}", peek(start as *mut u8, PAGE));
    poke(start as *mut u8, PAGE, 8);
    say!("shrink {}", brk(start) == start);
    say!(
        "grow again {} zero {}",
        brk(start + 2 * PAGE) == start + 2 * PAGE,
        peek(start as *mut u8, PAGE + 100)
    );
    say!("below the start {}", brk(0x1000) == start + 2 * PAGE);
    say!("absurd {}", brk(1 << 62) == start + 2 * PAGE);
    let lim = rlimit {
        rlim_cur: 1 << 20,
        rlim_max: 1 << 20,
    };
    sys!(setrlimit(RLIMIT_DATA, &lim)).v();
    say!(
        "over RLIMIT_DATA {}",
        brk(start + (4 << 20)) == start + 2 * PAGE
    );
}

pub fn mincore_pages() {
    let p = anon_pages(4);
    poke(p, 0, 1);
    poke(p, 2 * PAGE, 1);
    let mut v = [9u8; 4];
    say!(
        "{}",
        sys!(mincore(p.cast(), 4 * PAGE, v.as_mut_ptr().cast()))
    );
    say!("touched {} {}", v[0] & 1, v[2] & 1);
    say!(
        "unaligned {} unmapped {}",
        sys!(mincore(p.add_(1), PAGE, v.as_mut_ptr().cast())),
        sys!(mincore(0x10000 as *mut _, PAGE, v.as_mut_ptr().cast()))
    );
    say!(
        "length 0 {}",
        sys!(mincore(p.cast(), 0, v.as_mut_ptr().cast()))
    );
}

pub fn mlock_calls() {
    let p = anon_pages(4);
    say!(
        "lock {} unlock {}",
        sys!(mlock(p.cast(), 2 * PAGE)),
        sys!(munlock(p.cast(), 2 * PAGE))
    );
    say!("unmapped {}", sys!(mlock(0x10000 as *mut _, PAGE)));
    say!(
        "mlock2 onfault {} flags {}",
        raw!(SYS_mlock2, p, PAGE, 1),
        raw!(SYS_mlock2, p, PAGE, 8)
    );
    say!("all flags {}", sys!(mlockall(0)));
    say!("munlockall {}", sys!(munlockall()));
    let locked = map(0, PAGE, RW, ANON | MAP_LOCKED, -1, 0);
    say!("MAP_LOCKED {}", locked.ok());
}

pub fn large_mapping() {
    // Much more than is ever touched.
    let n = 64usize << 30;
    let p = map(0, n, RW, ANON | MAP_NORESERVE, -1, 0).v() as *mut u8;
    for at in [0, n / 3, n / 2, n - 1] {
        poke(p, at, 0xaa);
    }
    say!("{} {} {}", peek(p, n / 3), peek(p, n - 1), peek(p, n / 4));
    say!("punch {}", sys!(munmap(p.add_(n / 3 & !4095), PAGE)));
    say!("{} {}", touch_read(p.add_(n / 3).cast()), peek(p, n / 2));
    say!("unmap {}", sys!(munmap(p.cast(), n)));
}

pub fn many_mappings() {
    let n = 2000;
    let p = anon_pages(n);
    // Parts of a mapping become one again only if a page was touched before they came apart.
    poke(p, PAGE, 0);
    for i in (0..n).step_by(2) {
        prot(p.add_(i * PAGE).cast(), 1, PROT_READ).v();
    }
    for i in (1..n).step_by(2) {
        poke(p, i * PAGE, i as u8);
    }
    say!(
        "kept {}",
        (1..n).step_by(2).all(|i| peek(p, i * PAGE) == i as u8)
    );
    say!("zero {}", (0..n).step_by(2).all(|i| peek(p, i * PAGE) == 0));
    let lines = std::fs::read_to_string("/proc/self/maps")
        .unwrap()
        .lines()
        .count();
    say!("split {}", lines > n - 10);
    prot(p, n, RW).v();
    let lines = std::fs::read_to_string("/proc/self/maps")
        .unwrap()
        .lines()
        .count();
    say!("merged {}", lines < 100);
}

#[inline(never)]
fn recurse(depth: usize) -> usize {
    let mut pad = [0u8; 4000];
    unsafe { (&raw mut pad[depth % 4000]).write_volatile(1) };
    if depth == 0 {
        0
    } else {
        recurse(depth - 1) + pad[depth % 4000] as usize
    }
}

pub fn stack_growth() {
    say!("5 MiB {}", recurse(1200));
    let st = run(|| {
        recurse(1_000_000);
        0
    });
    say!("endless {st}");
    let st = run(|| {
        let lim = rlimit {
            rlim_cur: 1 << 20,
            rlim_max: RLIM_INFINITY,
        };
        sys!(setrlimit(RLIMIT_STACK, &lim)).v();
        recurse(1000);
        0
    });
    say!("lower limit {st}");
}

pub fn growsdown() {
    // Room below, further than the gap that is kept before the next mapping.
    let p = anon_pages(2048);
    sys!(munmap(p.cast(), 2048 * PAGE));
    let top = p as usize + 2000 * PAGE;
    let g = map(top, PAGE, RW, ANON | MAP_GROWSDOWN | MAP_FIXED, -1, 0);
    say!("{}", g.ok());
    say!("next below {}", touch_write((top - 8) as *mut u8));
}

pub fn shared_anon_fork() {
    let p = map(0, 4 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0).v() as *mut u8;
    poke(p, 0, 1);
    let st = run(|| {
        say!("child sees {} {}", peek(p, 0), peek(p, PAGE));
        poke(p, 0, 2);
        poke(p, 3 * PAGE, 3);
        let st = run(|| {
            poke(p, PAGE, 4);
            0
        });
        say!("grandchild {st}");
        0
    });
    say!(
        "{st} {} {} {}",
        peek(p, 0),
        peek(p, PAGE),
        peek(p, 3 * PAGE)
    );
}

pub fn cow_both_sides() {
    let p = anon_pages(16);
    for i in 0..16 {
        poke(p, i * PAGE, 1);
    }
    let (go, done) = (Gate::new(), Gate::new());
    let pid = fork(|| {
        go.pass();
        let before: u32 = (0..16).map(|i| peek(p, i * PAGE) as u32).sum();
        for i in 0..16 {
            poke(p, i * PAGE, 3);
        }
        done.open();
        go.pass();
        let after: u32 = (0..16).map(|i| peek(p, i * PAGE) as u32).sum();
        say!("child {before} {after}");
        0
    });
    for i in 0..8 {
        poke(p, i * PAGE, 2);
    }
    go.open();
    done.pass();
    let mine: u32 = (0..16).map(|i| peek(p, i * PAGE) as u32).sum();
    for i in 8..16 {
        poke(p, i * PAGE, 4);
    }
    go.open();
    let st = wait(pid);
    let end: u32 = (0..16).map(|i| peek(p, i * PAGE) as u32).sum();
    say!("parent {mine} {end} {st}");
}

pub fn cow_chain() {
    let p = anon_pages(1);
    poke(p, 0, 1);
    fn deeper(p: *mut u8, n: u8) -> i32 {
        if n == 12 {
            return peek(p, 0) as i32;
        }
        poke(p, 0, peek(p, 0) + 1);
        let st = run(|| deeper(p, n + 1));
        // What the child wrote is not seen here.
        if peek(p, 0) != n + 2 {
            255
        } else {
            WEXITSTATUS(st.0)
        }
    }
    say!("{} {}", deeper(p, 0), peek(p, 0));
}

pub fn cow_by_kernel() {
    // The kernel writes into a page shared by fork: only one side changes.
    put("f", b"fromfile");
    let p = anon_pages(2);
    unsafe { std::ptr::write_bytes(p, b'o', 2 * PAGE) };
    let st = run(|| {
        let fd = open("f", O_RDONLY).fd();
        say!("read {}", sys!(read(fd, p.add_(PAGE - 4), 8)));
        say!(
            "child {}{}",
            peek(p, PAGE - 4) as char,
            peek(p, PAGE) as char
        );
        0
    });
    say!(
        "{st} parent {}{}",
        peek(p, PAGE - 4) as char,
        peek(p, PAGE) as char
    );
    // Into a page that was never touched and is mapped read-only by the zero page.
    let q = anon_pages(1);
    say!("zero {}", peek(q, 0));
    let fd = open("f", O_RDONLY).fd();
    sys!(read(fd, q.cast(), 8)).v();
    let r = anon_pages(1);
    say!("{} fresh {}", peek(q, 0) as char, peek(r, 0));
}

pub fn fork_large() {
    let n = 4096;
    let p = anon_pages(n);
    for i in 0..n {
        unsafe { (p.add(i * PAGE) as *mut u32).write_volatile(i as u32) };
    }
    let kids: Vec<i32> = (0..3)
        .map(|k| {
            fork(|| {
                let mut good = true;
                for i in 0..n {
                    let w = unsafe { p.add(i * PAGE) as *mut u32 };
                    unsafe {
                        good &= w.read_volatile() == i as u32;
                        w.write_volatile(w.read_volatile() + k);
                        good &= w.read_volatile() == i as u32 + k;
                    }
                }
                !good as i32
            })
        })
        .collect();
    for k in kids {
        say!("{}", wait(k));
    }
    say!(
        "{}",
        (0..n).all(|i| unsafe { (p.add(i * PAGE) as *mut u32).read_volatile() } == i as u32)
    );
}

pub fn pipe_from_fresh_pages() {
    let p = anon_pages(16);
    let q = pipe();
    say!(
        "untouched as source {}",
        sys!(write(q[1], p.cast(), 3 * PAGE))
    );
    say!(
        "untouched as target {}",
        sys!(read(q[0], p.add_(4 * PAGE), 3 * PAGE))
    );
    say!("{}", (0..8 * PAGE).all(|i| peek(p, i) == 0));
}

pub fn wipe_on_fork() {
    let p = anon_pages(2);
    poke(p, 0, 1);
    poke(p, PAGE, 1);
    say!("{}", sys!(madvise(p.cast(), PAGE, MADV_WIPEONFORK)));
    let st = run(|| {
        say!("child {} {}", peek(p, 0), peek(p, PAGE));
        0
    });
    say!("{st} parent {}", peek(p, 0));
    let s = map(0, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0).v();
    say!(
        "shared {}",
        sys!(madvise(s as *mut _, PAGE, MADV_WIPEONFORK))
    );
}

pub fn dont_fork() {
    let p = anon_pages(2);
    poke(p, 0, 1);
    sys!(madvise(p.cast(), PAGE, MADV_DONTFORK)).v();
    say!("{} {}", touch_read(p), touch_read(p.add_(PAGE).cast()));
    sys!(madvise(p.cast(), PAGE, MADV_DOFORK)).v();
    say!("{}", touch_read(p));
}
