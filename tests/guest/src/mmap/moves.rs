//! mremap(2) and madvise(2) beyond the plain cases.

use super::*;

fn remap(p: *mut u8, old: usize, new: usize, flags: i32) -> R {
    raw!(SYS_mremap, p, old * PAGE, new * PAGE, flags, 0)
}

fn remap_to(p: *mut u8, old: usize, new: usize, flags: i32, to: *mut u8) -> R {
    sys!(mremap(
        p.cast(),
        old * PAGE,
        new * PAGE,
        flags | MREMAP_MAYMOVE,
        to.cast::<c_void>()
    ))
}

/// Answers `moved` for an address, which differs between runs.
fn moved(r: R) -> String {
    r.ok()
}

fn holes(p: *mut u8, pages: usize) -> String {
    (0..pages)
        .map(|i| {
            let mut v = 0u8;
            match sys!(mincore(p.wrapping_add(i * PAGE).cast(), PAGE, &mut v)).err() {
                0 => 'm',
                _ => '-',
            }
        })
        .collect()
}

pub fn mremap_dontunmap() {
    let p = anon_pages(4);
    (0..4).for_each(|i| poke(p, i * PAGE, i as u8 + 1));
    let r = remap(p, 4, 4, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
    say!("{} elsewhere {}", moved(r), r.0 != p as i64);
    let q = r.v() as *mut u8;
    say!(
        "contents moved {:?} old place {:?} {}",
        [0, 1, 2, 3].map(|i| peek(q, i * PAGE)),
        [0, 1, 2, 3].map(|i| peek(p, i * PAGE)),
        holes(p, 4)
    );
    poke(p, 0, 77);
    say!("apart {} {}", peek(p, 0), peek(q, 0));
    say!(
        "other length {} without maymove {}",
        moved(remap(p, 4, 8, MREMAP_MAYMOVE | MREMAP_DONTUNMAP)),
        moved(remap(p, 4, 4, MREMAP_DONTUNMAP))
    );
    let room = anon_pages(4);
    let flags = MREMAP_DONTUNMAP | MREMAP_FIXED;
    say!(
        "to a place {} {} {}",
        remap_to(q, 4, 4, flags, room).0 == room as i64,
        peek(room, 3 * PAGE),
        holes(q, 4)
    );
}

pub fn mremap_old_length_0() {
    let p = map(0, 2 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0).v() as *mut u8;
    poke(p, 0, 5);
    let q = remap(p, 0, 2, MREMAP_MAYMOVE);
    say!("shared: a second mapping {}", moved(q));
    let q = q.v() as *mut u8;
    poke(q, PAGE, 6);
    say!("same pages {} {}", peek(q, 0), peek(p, PAGE));
    say!("without maymove {}", moved(remap(p, 0, 2, 0)));
    let f = open("f", RDWR).fd();
    write(f, &[7; 2 * PAGE]);
    let m = map(0, 2 * PAGE, PROT_READ, MAP_SHARED, f, 0).v() as *mut u8;
    let n = remap(m, 0, 1, MREMAP_MAYMOVE);
    say!("file {} {}", moved(n), peek(n.v() as *mut u8, 10));
}

pub fn mremap_parts() {
    // The middle moves, the ends stay.
    let p = anon_pages(6);
    (0..6).for_each(|i| poke(p, i * PAGE, i as u8 + 1));
    let room = anon_pages(8);
    let r = remap_to(
        p.wrapping_add(2 * PAGE),
        2,
        2,
        MREMAP_FIXED,
        room.wrapping_add(PAGE),
    );
    say!("{} {}", r.0 == room as i64 + PAGE as i64, holes(p, 6));
    say!(
        "{:?} {}",
        [0, 1, 2, 3].map(|i| peek(room, i * PAGE)),
        holes(room, 8)
    );
    let room = anon_pages(8);
    // Shrinking cuts off the end, in place.
    say!(
        "shrink {} {}",
        remap(room, 8, 3, 0).0 == room as i64,
        holes(room, 8)
    );
    // Growing into the freed room needs no move.
    say!(
        "grow {} {} fresh {}",
        remap(room, 3, 6, 0).0 == room as i64,
        holes(room, 8),
        peek(room, 5 * PAGE)
    );
    // No room, and not allowed to move.
    let q = anon_pages(4);
    sys!(mprotect(
        q.wrapping_add(2 * PAGE).cast(),
        2 * PAGE,
        PROT_READ
    ))
    .v();
    say!("in the way {}", moved(remap(q, 2, 4, 0)));
    let r = remap(q, 2, 4, MREMAP_MAYMOVE);
    say!("moves {} {}", r.0 != q as i64, holes(q, 4));
    // Not only one mapping.
    let q = anon_pages(4);
    sys!(mprotect(
        q.wrapping_add(2 * PAGE).cast(),
        2 * PAGE,
        PROT_READ
    ))
    .v();
    say!(
        "over two, growing {}",
        moved(remap(q, 4, 8, MREMAP_MAYMOVE))
    );
    say!(
        "over two, shrinking {} {}",
        moved(remap(q, 4, 1, 0)),
        holes(q, 4)
    );
}

pub fn mremap_file() {
    let f = open("f", RDWR).fd();
    for i in 0..6u8 {
        write(f, &[i + b'a'; PAGE]);
    }
    let p = map(0, 2 * PAGE, RW, MAP_SHARED, f, PAGE as i64).v() as *mut u8;
    let q = remap(p, 2, 4, MREMAP_MAYMOVE).v() as *mut u8;
    say!("{:?}", [0, 1, 2, 3].map(|i| peek(q, i * PAGE) as char));
    poke(q, 3 * PAGE, b'X');
    let mut b = [0u8; 1];
    sys!(pread(f, b.as_mut_ptr().cast(), 1, 4 * PAGE as i64)).v();
    say!("seen in the file {}", b[0] as char);
    let r = remap(q, 4, 8, MREMAP_MAYMOVE).v() as *mut u8;
    say!(
        "beyond the end: {} {}",
        touch_read(r.wrapping_add(4 * PAGE)),
        touch_read(r.wrapping_add(5 * PAGE))
    );
    // Private changes move along.
    let p = map(0, 2 * PAGE, RW, MAP_PRIVATE, f, 0).v() as *mut u8;
    poke(p, PAGE, b'!');
    let room = anon_pages(2);
    let q = remap_to(p, 2, 2, MREMAP_FIXED, room).v() as *mut u8;
    say!("private {} {}", peek(q, 0) as char, peek(q, PAGE) as char);
    sys!(pread(f, b.as_mut_ptr().cast(), 1, PAGE as i64)).v();
    say!("file unchanged {}", b[0] as char);
}

pub fn mremap_shares_after_fork() {
    let p = anon_pages(3);
    (0..3).for_each(|i| poke(p, i * PAGE, 10 + i as u8));
    let gate = Gate::new();
    let pid = fork(|| {
        gate.pass();
        (peek(p, 0) + peek(p, PAGE) + peek(p, 2 * PAGE)) as i32
    });
    let q = remap(p, 3, 6, MREMAP_MAYMOVE).v() as *mut u8;
    (0..6).for_each(|i| poke(q, i * PAGE, 1));
    gate.open();
    say!("child sees the old {}", wait(pid));
    say!("parent {:?}", [0, 2, 5].map(|i| peek(q, i * PAGE)));
}

pub fn madvise_remove() {
    let adv = |p: *mut u8, a| sys!(madvise(p.cast(), PAGE, a));
    let s = map(0, 3 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0).v() as *mut u8;
    (0..3).for_each(|i| poke(s, i * PAGE, 9));
    say!("shared {}", adv(s.wrapping_add(PAGE), MADV_REMOVE));
    say!("{:?}", [0, 1, 2].map(|i| peek(s, i * PAGE)));
    say!(
        "dontneed keeps shared {} {}",
        adv(s, MADV_DONTNEED),
        peek(s, 0)
    );
    let p = anon_pages(1);
    poke(p, 0, 9);
    say!("private {} {}", adv(p, MADV_REMOVE), peek(p, 0));
    let fd = sys!(memfd_create(c"m".as_ptr(), 0)).fd();
    write(fd, &[4; 3 * PAGE]);
    let m = map(0, 3 * PAGE, RW, MAP_SHARED, fd, 0).v() as *mut u8;
    say!(
        "memfd {} {}",
        adv(m.wrapping_add(PAGE), MADV_REMOVE),
        peek(m, PAGE)
    );
    say!("size stays {}", fstat(fd).st_size);
    let r = map(0, PAGE, PROT_READ, MAP_SHARED, fd, 0).v() as *mut u8;
    say!("read only {}", adv(r, MADV_REMOVE));
}

pub fn madvise_private_file() {
    let f = open("f", RDWR).fd();
    write(f, &[b'f'; 2 * PAGE]);
    let p = map(0, 2 * PAGE, RW, MAP_PRIVATE, f, 0).v() as *mut u8;
    poke(p, 0, b'c');
    poke(p, PAGE, b'c');
    say!(
        "{} {} {}",
        sys!(madvise(p.cast(), PAGE, MADV_DONTNEED)),
        peek(p, 0) as char,
        peek(p, PAGE) as char
    );
    say!("free {}", sys!(madvise(p.cast(), PAGE, MADV_FREE)));
    // Free memory may read as zero or as before, and holds what is written next.
    let q = anon_pages(2);
    poke(q, 0, 3);
    say!("{}", sys!(madvise(q.cast(), 2 * PAGE, MADV_FREE)));
    let v = peek(q, 0);
    say!("old or zero {}", v == 3 || v == 0);
    poke(q, 0, 8);
    say!("kept {}", peek(q, 0));
    for (n, a) in [
        ("willneed", MADV_WILLNEED),
        ("cold", MADV_COLD),
        ("pageout", MADV_PAGEOUT),
        ("populate read", MADV_POPULATE_READ),
        ("populate write", MADV_POPULATE_WRITE),
        ("wipe on fork", MADV_WIPEONFORK),
        ("keep on fork", MADV_KEEPONFORK),
    ] {
        say!("{n} {}", sys!(madvise(p.cast(), 2 * PAGE, a)));
    }
    let ro = map(0, PAGE, PROT_READ, ANON, -1, 0).v() as *mut u8;
    say!(
        "populate for writing, read only {}",
        sys!(madvise(ro.cast(), PAGE, MADV_POPULATE_WRITE))
    );
    let none = map(0, PAGE, PROT_NONE, ANON, -1, 0).v() as *mut u8;
    say!(
        "populate, no rights {}",
        sys!(madvise(none.cast(), PAGE, MADV_POPULATE_READ))
    );
    let end = map(0, 4 * PAGE, PROT_READ, MAP_SHARED, f, 0).v() as *mut u8;
    say!(
        "populate beyond the end {}",
        sys!(madvise(end.cast(), 4 * PAGE, MADV_POPULATE_READ))
    );
}

pub fn madvise_ranges() {
    let p = anon_pages(4);
    (0..4).for_each(|i| poke(p, i * PAGE, 1));
    let adv = |at: usize, len: usize, a| sys!(madvise(p.wrapping_add(at).cast(), len, a));
    say!("length is rounded up {}", adv(PAGE, 1, MADV_DONTNEED));
    say!("{:?}", [0, 1, 2, 3].map(|i| peek(p, i * PAGE)));
    say!(
        "wraps {} huge {} unaligned 0 {}",
        adv(0, usize::MAX, MADV_DONTNEED),
        adv(0, usize::MAX & !(PAGE - 1), MADV_DONTNEED),
        adv(1, 0, MADV_NORMAL)
    );
    say!(
        "unmapped {}",
        sys!(madvise(0x10000 as *mut _, PAGE, MADV_DONTNEED))
    );
    say!(
        "locked {} {}",
        sys!(mlock(p.cast(), PAGE)),
        adv(0, PAGE, MADV_DONTNEED)
    );
    sys!(munlock(p.cast(), PAGE)).v();
    say!("unlocked {}", adv(0, PAGE, MADV_DONTNEED));
}
