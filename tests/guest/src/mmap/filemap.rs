//! Mapped files.

use super::*;

fn mapped(name: &str, len: usize, prot: i32, flags: i32) -> *mut u8 {
    let fd = open(
        name,
        if prot & PROT_WRITE != 0 {
            O_RDWR
        } else {
            O_RDONLY
        },
    )
    .fd();
    let r = map(0, len, prot, flags, fd, 0);
    close(fd);
    r.v() as *mut u8
}

pub fn file_private() {
    put("f", &[b'a'; 10000]);
    let p = mapped("f", 10000, RW, MAP_PRIVATE);
    say!("{} {}", peek(p, 0) as char, peek(p, 9999) as char);
    poke(p, 0, b'P');
    poke(p, 5000, b'Q');
    say!("mine {} file {}", peek(p, 0) as char, get("f"));
    let fd = open("f", O_RDWR).fd();
    sys!(pwrite(fd, b"NEW".as_ptr().cast(), 3, 9000)).v();
    say!("untouched page follows the file {}", peek(p, 9000) as char);
    sys!(pwrite(fd, b"NEW".as_ptr().cast(), 3, 0)).v();
    say!("copied page does not {}", peek(p, 0) as char);
    let q = mapped("f", 10000, PROT_READ, MAP_PRIVATE);
    say!(
        "second view {} {}",
        peek(q, 0) as char,
        peek(q, 5000) as char
    );
}

pub fn file_shared() {
    put("f", &[b'a'; 9000]);
    let p = mapped("f", 9000, RW, MAP_SHARED);
    poke(p, 0, b'X');
    poke(p, 8999, b'Z');
    say!("{}", get("f"));
    let fd = open("f", O_RDWR).fd();
    sys!(pwrite(fd, b"middle".as_ptr().cast(), 6, 4093)).v();
    say!(
        "write shows {}{}",
        peek(p, 4095) as char,
        peek(p, 4096) as char
    );
    poke(p, 4093, b'M');
    let mut b = [0u8; 6];
    sys!(pread(fd, b.as_mut_ptr().cast(), 6, 4093)).v();
    say!("store shows {}", show(&b));
    say!("mtime {}", stat("f").unwrap().st_mtime > 0);
    sys!(munmap(p.cast(), 9000)).v();
    say!("{}", get("f"));
}

pub fn file_shared_fork() {
    put("f", &[0; 8192]);
    let p = mapped("f", 8192, RW, MAP_SHARED);
    let st = run(|| {
        poke(p, 0, b'c');
        poke(p, 5000, b'd');
        0
    });
    say!("{st} {} {}", peek(p, 0) as char, peek(p, 5000) as char);
    let q = mapped("f", 8192, RW, MAP_PRIVATE);
    let st = run(|| {
        poke(q, 0, b'p');
        poke(p, 1, b's');
        0
    });
    say!(
        "{st} private {} shared {}",
        peek(q, 0) as char,
        peek(p, 1) as char
    );
}

pub fn file_partial_page() {
    put("f", b"short");
    let p = mapped("f", 4096, RW, MAP_SHARED);
    say!("tail zero {}", (5..4096).all(|i| peek(p, i) == 0));
    poke(p, 100, 1);
    say!("store past the end is not in the file {}", get("f"));
    let fd = open("f", O_RDWR).fd();
    sys!(ftruncate(fd, 200)).v();
    say!("grown size {}", std::fs::read("f").unwrap().len());
    say!("{}", touch_read(p));
}

pub fn file_sigbus() {
    put("f", &[1; 5000]);
    let p = mapped("f", 4 * PAGE, RW, MAP_SHARED);
    say!("last page {}", touch_read((p as usize + 8191) as *mut u8));
    say!("past it {}", touch_read((p as usize + 8192) as *mut u8));
    say!(
        "write past it {}",
        touch_write((p as usize + 3 * PAGE) as *mut u8)
    );
    let q = mapped("f", 4 * PAGE, RW, MAP_PRIVATE);
    say!("private {}", touch_read((q as usize + 8192) as *mut u8));
    put("e", b"");
    let e = mapped("e", PAGE, PROT_READ, MAP_PRIVATE);
    say!("empty file {}", touch_read(e));
    let fd = open("f", O_RDWR).fd();
    sys!(ftruncate(fd, 16384)).v();
    say!(
        "after growing {}",
        touch_read((p as usize + 8192) as *mut u8)
    );
    let out = pipe();
    sys!(ftruncate(fd, 0)).v();
    say!("kernel reads {}", sys!(write(out[1], p.cast(), 10)));
}

pub fn file_truncate_mapped() {
    put("f", &[7; 3 * PAGE]);
    let p = mapped("f", 3 * PAGE, RW, MAP_SHARED);
    let q = mapped("f", 3 * PAGE, RW, MAP_PRIVATE);
    poke(q, 2 * PAGE, 9);
    say!("{} {} {}", peek(p, 0), peek(p, 2 * PAGE), peek(q, 2 * PAGE));
    let fd = open("f", O_RDWR).fd();
    sys!(ftruncate(fd, 5000)).v();
    say!("kept {} tail zero {}", peek(p, 4999), peek(p, 5001));
    say!(
        "shared beyond {}",
        touch_read((p as usize + 2 * PAGE) as *mut u8)
    );
    say!(
        "private copy beyond {}",
        touch_read((q as usize + 2 * PAGE) as *mut u8)
    );
    sys!(ftruncate(fd, 3 * PAGE as i64)).v();
    say!("grown {} {}", peek(p, 5001), peek(p, 2 * PAGE));
}

pub fn file_rights() {
    put("f", b"x");
    let ro = open("f", O_RDONLY).fd();
    let wo = open("f", O_WRONLY).fd();
    let rw = open("f", O_RDWR).fd();
    for (n, fd) in [("ro", ro), ("wo", wo), ("rw", rw)] {
        for (m, fl) in [("private", MAP_PRIVATE), ("shared", MAP_SHARED)] {
            say!(
                "{n} {m}: r {} w {} rw {}",
                map(0, PAGE, PROT_READ, fl, fd, 0).ok(),
                map(0, PAGE, PROT_WRITE, fl, fd, 0).ok(),
                map(0, PAGE, RW, fl, fd, 0).ok()
            );
        }
    }
    let p = map(0, PAGE, PROT_READ, MAP_SHARED, ro, 0).v() as *mut u8;
    say!(
        "raise shared {} exec {}",
        prot(p, 1, RW),
        prot(p, 1, PROT_READ | PROT_EXEC)
    );
    let p = map(0, PAGE, PROT_READ, MAP_PRIVATE, ro, 0).v() as *mut u8;
    say!("raise private {}", prot(p, 1, RW));
    poke(p, 0, b'y');
    say!("{} {}", peek(p, 0) as char, get("f"));
}

pub fn file_errors() {
    put("f", &[0; 8192]);
    let fd = open("f", O_RDWR).fd();
    say!(
        "offset unaligned {}",
        raw!(SYS_mmap, 0, PAGE, RW, MAP_SHARED, fd, 100)
    );
    say!(
        "offset overflow {}",
        map(0, PAGE * 2, RW, MAP_SHARED, fd, i64::MAX & !4095)
    );
    say!(
        "dir {}",
        map(0, PAGE, PROT_READ, MAP_PRIVATE, open(".", O_RDONLY).fd(), 0)
    );
    say!(
        "pipe {}",
        map(0, PAGE, PROT_READ, MAP_PRIVATE, pipe()[0], 0)
    );
    say!(
        "socket {}",
        map(0, PAGE, PROT_READ, MAP_PRIVATE, pair(SOCK_STREAM)[0], 0)
    );
    say!("closed {}", map(0, PAGE, PROT_READ, MAP_PRIVATE, 999, 0));
    say!("length 0 {}", map(0, 0, PROT_READ, MAP_PRIVATE, fd, 0));
    say!(
        "SHARED_VALIDATE {} unknown flag {}",
        map(0, PAGE, RW, MAP_SHARED_VALIDATE, fd, 0).ok(),
        map(0, PAGE, RW, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0)
    );
    say!(
        "null device {}",
        map(0, PAGE, RW, MAP_PRIVATE, open("/dev/null", O_RDWR).fd(), 0)
    );
}

pub fn file_offset() {
    let data: Vec<u8> = (0..20 * PAGE).map(|i| (i / PAGE) as u8).collect();
    put("f", &data);
    let fd = open("f", O_RDWR).fd();
    let p = map(0, 3 * PAGE, RW, MAP_SHARED, fd, 7 * PAGE as i64).v() as *mut u8;
    say!("{} {} {}", peek(p, 0), peek(p, PAGE), peek(p, 2 * PAGE));
    poke(p, PAGE, 200);
    let q = map(0, 20 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0).v() as *mut u8;
    say!("{} {}", peek(q, 8 * PAGE), peek(q, 19 * PAGE));
    // Mappings of one file side by side, in reverse.
    let base = anon_pages(4) as usize;
    for i in 0..4 {
        map(
            base + i * PAGE,
            PAGE,
            RW,
            MAP_SHARED | MAP_FIXED,
            fd,
            ((3 - i) * PAGE) as i64,
        )
        .v();
    }
    say!(
        "{:?}",
        (0..4)
            .map(|i| peek(base as *mut u8, i * PAGE))
            .collect::<Vec<_>>()
    );
}

pub fn file_closed_and_unlinked() {
    put("f", b"persistent");
    let p = mapped("f", PAGE, RW, MAP_SHARED);
    unlink("f");
    say!("{}", peek(p, 0) as char);
    poke(p, 0, b'P');
    let st = run(|| (peek(p, 0) != b'P') as i32);
    say!("{st}");
    put("f", b"other");
    say!("{} {}", peek(p, 0) as char, get("f"));
    rename("f", "g");
    say!("{}", sys!(munmap(p.cast(), PAGE)));
}

pub fn file_exec() {
    // mov eax, 42; ret
    let mut code = vec![0x90u8; PAGE];
    code[..6].copy_from_slice(&[0xb8, 42, 0, 0, 0, 0xc3]);
    put("code", &code);
    let fd = open("code", O_RDWR).fd();
    let p = map(0, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0).v() as usize;
    let f: extern "C" fn() -> i32 = unsafe { std::mem::transmute(p) };
    say!("{}", f());
    let s = map(0, PAGE, RW, MAP_SHARED, fd, 0).v() as *mut u8;
    let x = map(0, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0).v() as usize;
    poke(s, 1, 43);
    let f: extern "C" fn() -> i32 = unsafe { std::mem::transmute(x) };
    say!("{}", f());
    let r = map(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0).v() as usize;
    let g: extern "C" fn() -> i32 = unsafe { std::mem::transmute(r) };
    say!("not executable {}", run(|| g()));
}

pub fn msync_calls() {
    put("f", &[0; 8192]);
    let p = mapped("f", 8192, RW, MAP_SHARED);
    poke(p, 0, b'm');
    say!(
        "sync {} async {} inval {}",
        sys!(msync(p.cast(), 8192, MS_SYNC)),
        sys!(msync(p.cast(), 8192, MS_ASYNC)),
        sys!(msync(p.cast(), 8192, MS_INVALIDATE))
    );
    say!("both {}", sys!(msync(p.cast(), 8192, MS_SYNC | MS_ASYNC)));
    say!(
        "flags {} unaligned {}",
        sys!(msync(p.cast(), 8192, 0x40)),
        sys!(msync((p as usize + 1) as *mut _, 10, MS_SYNC))
    );
    sys!(munmap(p.cast(), 4096));
    say!("hole {}", sys!(msync(p.cast(), 8192, MS_SYNC)));
}

pub fn shared_writes_two_maps() {
    put("f", &[0; 4 * PAGE]);
    let p = mapped("f", 4 * PAGE, RW, MAP_SHARED);
    let q = mapped("f", 4 * PAGE, RW, MAP_SHARED);
    for i in 0..4 {
        poke(p, i * PAGE + i, i as u8 + 1);
    }
    say!(
        "{:?}",
        (0..4).map(|i| peek(q, i * PAGE + i)).collect::<Vec<_>>()
    );
    let (a, b) = (p as usize, q as usize);
    // Two threads count in the same word through different mappings.
    std::thread::scope(|s| {
        for base in [a, b] {
            s.spawn(move || {
                let w = unsafe { &*((base + 2 * PAGE + 8) as *const AtomicU32) };
                for _ in 0..20000 {
                    w.fetch_add(1, SeqCst);
                }
            });
        }
    });
    say!("{}", unsafe {
        ((a + 2 * PAGE + 8) as *const u32).read_volatile()
    });
}

pub fn dev_zero() {
    let fd = open("/dev/zero", O_RDWR).fd();
    let p = map(0, 2 * PAGE, RW, MAP_PRIVATE, fd, 0).v() as *mut u8;
    say!("{}", peek(p, PAGE));
    poke(p, 0, 1);
    let s = map(0, PAGE, RW, MAP_SHARED, fd, 0).v() as *mut u8;
    let st = run(|| {
        poke(s, 0, 5);
        0
    });
    say!("{st} {} {}", peek(p, 0), peek(s, 0));
}

pub fn proc_maps() {
    put("f", &[0; 8192]);
    let p = mapped("f", 8192, PROT_READ, MAP_PRIVATE) as usize;
    let a = map(0, 3 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0).v() as usize;
    let none = map(0, PAGE, PROT_NONE, ANON, -1, 0).v() as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let find = |addr: usize| {
        maps.lines().find(|l| {
            let (r, _) = l.split_once(' ').unwrap();
            let (s, e) = r.split_once('-').unwrap();
            usize::from_str_radix(s, 16).unwrap() <= addr
                && addr < usize::from_str_radix(e, 16).unwrap()
        })
    };
    let f: Vec<&str> = find(p).unwrap().split_whitespace().collect();
    say!("file {} {} {}", f[1], f[2], f[5].ends_with("/f"));
    say!(
        "inode {}",
        f[4].parse::<u64>().unwrap() == stat("f").unwrap().st_ino
    );
    say!(
        "shared {}",
        find(a).unwrap().split_whitespace().nth(1).unwrap()
    );
    say!(
        "none {}",
        find(none).unwrap().split_whitespace().nth(1).unwrap()
    );
    let local = 0u8;
    say!(
        "stack {}",
        find(&raw const local as usize).unwrap().contains("[stack]")
    );
    say!(
        "own code {}",
        find(proc_maps as *const () as usize)
            .unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
    );
    say!("vdso {}", maps.contains("[vdso]"));
    let sorted = maps
        .lines()
        .map(|l| usize::from_str_radix(l.split('-').next().unwrap(), 16).unwrap_or(usize::MAX))
        .collect::<Vec<_>>();
    say!("sorted {}", sorted.windows(2).all(|w| w[0] < w[1]));
}
