//! Reading, writing, positions, sizes.

use crate::prelude::*;

pub fn read_write() {
    let fd = open("f", RDWR).fd();
    say!("write: {}", write(fd, b"hello world"));
    say!("read at end: {}", read(fd, 5));
    say!("seek: {}", sys!(lseek(fd, 0, SEEK_SET)));
    say!("read: {}", read(fd, 5));
    say!("rest: {}", read(fd, 100));
    say!("eof: {}", read(fd, 100));
    say!("zero write: {}", write(fd, b""));
    say!("zero read: {}", read(fd, 0));
    sys!(lseek(fd, 6, SEEK_SET));
    say!("overwrite: {}", write(fd, b"W"));
    say!("content {}", get("f"));
    let r = open("f", O_RDONLY).fd();
    write(fd, b"!!");
    say!("seen by other: {}", read(r, 100));
    say!("{}", describe("f"));
}

pub fn short_reads() {
    put("f", b"0123456789");
    let fd = open("f", O_RDONLY).fd();
    for n in [3, 0, 4, 10, 1] {
        say!("{n}: {}", read(fd, n));
    }
    let mut out = String::new();
    sys!(lseek(fd, 0, SEEK_SET));
    while let s = read(fd, 1) {
        if s == "\"\"" {
            break;
        }
        out.push_str(&s);
    }
    say!("{out}");
}

pub fn pread_pwrite() {
    put("f", b"0123456789");
    let fd = open("f", O_RDWR).fd();
    let mut b = [0u8; 20];
    let r = sys!(pread(fd, b.as_mut_ptr().cast(), 4, 3));
    say!("pread: {r} {}", show(&b[..4]));
    say!(
        "pread at end: {}",
        sys!(pread(fd, b.as_mut_ptr().cast(), 4, 10))
    );
    say!(
        "pread beyond: {}",
        sys!(pread(fd, b.as_mut_ptr().cast(), 4, 1000))
    );
    say!(
        "pread negative: {}",
        sys!(pread(fd, b.as_mut_ptr().cast(), 4, -1))
    );
    say!("pwrite: {}", sys!(pwrite(fd, b"XY".as_ptr().cast(), 2, 5)));
    say!(
        "pwrite negative: {}",
        sys!(pwrite(fd, b"XY".as_ptr().cast(), 2, -5))
    );
    say!(
        "pwrite beyond: {}",
        sys!(pwrite(fd, b"E".as_ptr().cast(), 1, 15))
    );
    say!("position: {}", sys!(lseek(fd, 0, SEEK_CUR)));
    say!("{}", get("f"));
    let p = pipe();
    say!(
        "pread pipe: {}",
        sys!(pread(p[0], b.as_mut_ptr().cast(), 4, 0))
    );
    say!(
        "pwrite pipe: {}",
        sys!(pwrite(p[1], b"x".as_ptr().cast(), 1, 0))
    );
    let a = open("f", O_RDWR | O_APPEND).fd();
    say!(
        "pwrite append: {}",
        sys!(pwrite(a, b"Z".as_ptr().cast(), 1, 0))
    );
    say!("{}", get("f"));
}

fn iov(b: &[u8]) -> iovec {
    iovec {
        iov_base: b.as_ptr() as *mut _,
        iov_len: b.len(),
    }
}

pub fn vectored() {
    let fd = open("f", RDWR).fd();
    let v = [iov(b"one "), iov(b""), iov(b"two "), iov(b"three")];
    say!("writev: {}", sys!(writev(fd, v.as_ptr(), 4)));
    say!("writev none: {}", sys!(writev(fd, v.as_ptr(), 0)));
    say!("writev negative: {}", sys!(writev(fd, v.as_ptr(), -1)));
    sys!(lseek(fd, 0, SEEK_SET));
    let (a, b, c) = ([0u8; 3], [0u8; 5], [0u8; 50]);
    let r = [iov(&a), iov(&b), iov(&c)];
    say!("readv: {}", sys!(readv(fd, r.as_ptr(), 3)));
    say!("{} {} {}", show(&a), show(&b), show(&c[..6]));
    let many = vec![iov(b"x"); 1025];
    say!("1024: {}", sys!(writev(fd, many.as_ptr(), 1024)));
    say!("1025: {}", sys!(writev(fd, many.as_ptr(), 1025)));
    let bad = [
        iov(b"good"),
        iovec {
            iov_base: 8 as *mut _,
            iov_len: 5,
        },
    ];
    say!("bad second: {}", sys!(writev(fd, bad.as_ptr(), 2)));
    let neg = [
        iov(b"good"),
        iovec {
            iov_base: b"x".as_ptr() as *mut _,
            iov_len: usize::MAX,
        },
    ];
    say!("huge second: {}", sys!(writev(fd, neg.as_ptr(), 2)));
    say!("bad vector: {}", sys!(writev(fd, 8 as *const _, 1)));
    say!("pwritev: {}", sys!(pwritev(fd, v.as_ptr(), 4, 100)));
    say!("preadv: {}", sys!(preadv(fd, r.as_ptr(), 1, 104)));
    say!("{}", show(&a));
    say!("preadv negative: {}", sys!(preadv(fd, r.as_ptr(), 1, -7)));
    say!(
        "bad fd before bad vector: {}",
        sys!(writev(-1, 8 as *const _, 1))
    );
}

pub fn preadv2_flags() {
    put("f", b"0123456789");
    let fd = open("f", O_RDWR).fd();
    let b = [0u8; 4];
    let v = [iov(&b)];
    say!(
        "current position: {}",
        sys!(preadv2(fd, v.as_ptr(), 1, -1, 0))
    );
    say!("position: {}", sys!(lseek(fd, 0, SEEK_CUR)));
    say!(
        "hipri bits: {}",
        sys!(preadv2(fd, v.as_ptr(), 1, 0, 0x4000_0000))
    );
    let w = [iov(b"AB")];
    say!(
        "append: {}",
        sys!(pwritev2(fd, w.as_ptr(), 1, 0, RWF_APPEND))
    );
    say!("dsync: {}", sys!(pwritev2(fd, w.as_ptr(), 1, 0, RWF_DSYNC)));
    say!("offset -2: {}", sys!(pwritev2(fd, w.as_ptr(), 1, -2, 0)));
    say!("{}", get("f"));
}

pub fn lseek_basic() {
    put("f", b"0123456789");
    let fd = open("f", O_RDWR).fd();
    let s = |o: i64, w| sys!(lseek(fd, o, w));
    say!("set 5: {}", s(5, SEEK_SET));
    say!("cur +2: {}", s(2, SEEK_CUR));
    say!("cur -8: {}", s(-8, SEEK_CUR));
    say!("end: {}", s(0, SEEK_END));
    say!("end -3: {}", s(-3, SEEK_END));
    say!("end -11: {}", s(-11, SEEK_END));
    say!("set -1: {}", s(-1, SEEK_SET));
    say!("beyond: {}", s(1000, SEEK_SET));
    say!("whence 9: {}", s(0, 9));
    say!("overflow: {}", s(i64::MAX, SEEK_END));
    say!("still: {}", s(0, SEEK_CUR));
    let p = pipe();
    say!("pipe: {}", sys!(lseek(p[0], 0, SEEK_SET)));
    let n = open("/dev/null", O_RDWR).fd();
    say!("null: {}", sys!(lseek(n, 5, SEEK_SET)));
    say!("bad: {}", sys!(lseek(-1, 0, SEEK_SET)));
    let d = open(".", O_RDONLY).fd();
    say!("dir: {}", sys!(lseek(d, 0, SEEK_SET)));
}

pub fn lseek_hole() {
    put("full", b"0123456789");
    let fd = open("full", O_RDWR).fd();
    say!("data 0: {}", sys!(lseek(fd, 0, SEEK_DATA)));
    say!("data 5: {}", sys!(lseek(fd, 5, SEEK_DATA)));
    say!("hole 0: {}", sys!(lseek(fd, 0, SEEK_HOLE)));
    say!("data at end: {}", sys!(lseek(fd, 10, SEEK_DATA)));
    say!("hole at end: {}", sys!(lseek(fd, 10, SEEK_HOLE)));
    say!("data negative: {}", sys!(lseek(fd, -1, SEEK_DATA)));
    put("empty", b"");
    let fd = open("empty", O_RDWR).fd();
    say!(
        "empty: {} {}",
        sys!(lseek(fd, 0, SEEK_DATA)),
        sys!(lseek(fd, 0, SEEK_HOLE))
    );
}

pub fn append() {
    put("f", b"start");
    let fd = open("f", O_RDWR | O_APPEND).fd();
    say!("position: {}", sys!(lseek(fd, 0, SEEK_CUR)));
    say!("write: {}", write(fd, b"+1"));
    say!("position: {}", sys!(lseek(fd, 0, SEEK_CUR)));
    sys!(lseek(fd, 0, SEEK_SET));
    write(fd, b"+2");
    say!("{}", get("f"));
    let other = open("f", O_WRONLY).fd();
    write(other, b"S");
    write(fd, b"+3");
    say!("{}", get("f"));
    say!("clear: {}", sys!(fcntl(fd, F_SETFL, 0)));
    sys!(lseek(fd, 1, SEEK_SET));
    write(fd, b"T");
    say!("{}", get("f"));
    say!("set: {}", sys!(fcntl(other, F_SETFL, O_APPEND)));
    write(other, b"!");
    say!("{}", get("f"));
}

pub fn append_shared() {
    let fd = open("f", RDWR | O_APPEND).fd();
    let kids: Vec<i32> = (0..4)
        .map(|i| {
            fork(|| {
                for _ in 0..50 {
                    write(fd, &[b'a' + i as u8; 16]);
                }
                0
            })
        })
        .collect();
    for k in kids {
        say!("{}", wait(k));
    }
    let v = std::fs::read("f").unwrap();
    say!("size {}", v.len());
    say!(
        "whole records: {}",
        v.chunks(16).all(|c| c.iter().all(|b| *b == c[0]))
    );
}

pub fn truncate_grow() {
    put("f", b"0123456789");
    let fd = open("f", O_RDWR).fd();
    say!("shrink: {}", sys!(ftruncate(fd, 4)));
    say!("{}", get("f"));
    say!("grow: {}", sys!(ftruncate(fd, 8)));
    say!("{}", get("f"));
    say!("by name: {}", sys!(truncate(c"f".as_ptr(), 10000)));
    say!("size {} {}", fstat(fd).st_size, get("f"));
    say!("zero: {}", sys!(truncate(c"f".as_ptr(), 0)));
    say!("{}", get("f"));
    sys!(lseek(fd, 3, SEEK_SET));
    write(fd, b"x");
    say!("{}", get("f"));
    // Old bytes beyond a cut must not come back.
    put("g", &[b'x'; 9000]);
    let g = open("g", O_RDWR).fd();
    sys!(ftruncate(g, 4100));
    sys!(ftruncate(g, 9000));
    say!("{}", get("g"));
}

pub fn truncate_errors() {
    put("f", b"abc");
    mkdir("d");
    let t = |p: &str, n| {
        let p = cs(p);
        sys!(truncate(p.as_ptr(), n))
    };
    say!("negative: {}", t("f", -1));
    say!("dir: {}", t("d", 0));
    say!("missing: {}", t("no", 0));
    say!("file as dir: {}", t("f/x", 0));
    let p = pipe();
    say!("pipe: {}", sys!(ftruncate(p[1], 0)));
    let fd = open("f", O_RDWR).fd();
    say!("ftruncate negative: {}", sys!(ftruncate(fd, -1)));
    say!("ftruncate bad: {}", sys!(ftruncate(-1, 0)));
    let d = open("d", O_RDONLY).fd();
    say!("ftruncate dir: {}", sys!(ftruncate(d, 0)));
    let n = open("/dev/null", O_RDWR).fd();
    say!("ftruncate null: {}", sys!(ftruncate(n, 0)));
}

pub fn sparse() {
    let fd = open("f", RDWR).fd();
    sys!(lseek(fd, 1 << 30, SEEK_SET));
    say!("write: {}", write(fd, b"end"));
    say!("size {}", fstat(fd).st_size);
    say!("few blocks: {}", fstat(fd).st_blocks < 1000);
    let mut b = [1u8; 8];
    sys!(pread(fd, b.as_mut_ptr().cast(), 8, 1 << 29));
    say!("middle {b:?}");
    sys!(pread(fd, b.as_mut_ptr().cast(), 8, (1 << 30) - 4));
    say!("edge {}", show(&b));
}

pub fn big_offsets() {
    let fd = open("f", RDWR).fd();
    let mut b = [0u8; 8];
    say!(
        "pread max: {}",
        sys!(pread(fd, b.as_mut_ptr().cast(), 8, i64::MAX))
    );
    say!(
        "pwrite max: {}",
        sys!(pwrite(fd, b.as_ptr().cast(), 8, i64::MAX))
    );
    say!(
        "pwrite near max: {}",
        sys!(pwrite(fd, b.as_ptr().cast(), 8, i64::MAX - 4))
    );
    say!(
        "read huge count at eof: {}",
        raw!(SYS_read, fd, b.as_mut_ptr(), isize::MAX)
    );
    say!(
        "read negative count: {}",
        raw!(SYS_read, fd, b.as_mut_ptr(), -1i64)
    );
    write(fd, b"12345678");
    sys!(lseek(fd, 0, SEEK_SET));
    // On the heap: a stack may lie less than 2 GiB below the end of the addresses.
    let mut h = vec![0u8; 8];
    say!(
        "read 2 GiB: {}",
        raw!(SYS_read, fd, h.as_mut_ptr(), 0x7fff_f000usize)
    );
    say!(
        "fallocate overflow: {}",
        sys!(fallocate(fd, 0, i64::MAX - 1, 100))
    );
    say!("copy overflow: {}", sys!(ftruncate(fd, i64::MIN)));
}

pub fn fallocate_modes() {
    let fd = open("f", RDWR).fd();
    write(fd, &[b'a'; 12288]);
    say!("extend: {}", sys!(fallocate(fd, 0, 0, 20000)));
    say!("size {}", fstat(fd).st_size);
    say!(
        "keep size: {}",
        sys!(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 40000))
    );
    say!("size {}", fstat(fd).st_size);
    say!(
        "punch: {}",
        sys!(fallocate(
            fd,
            FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
            4096,
            4096
        ))
    );
    say!(
        "punch part: {}",
        sys!(fallocate(
            fd,
            FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
            10,
            20
        ))
    );
    say!("{}", get("f"));
    say!(
        "punch alone: {}",
        sys!(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10))
    );
    say!("zero length: {}", sys!(fallocate(fd, 0, 0, 0)));
    say!("negative: {}", sys!(fallocate(fd, 0, -1, 10)));
    say!("unknown mode: {}", sys!(fallocate(fd, 0x4000, 0, 10)));
    let p = pipe();
    say!("pipe: {}", sys!(fallocate(p[1], 0, 0, 10)));
    say!("bad fd: {}", sys!(fallocate(-1, 0, 0, 10)));
    say!("posix: {}", unsafe { posix_fallocate(fd, 0, 100) });
}

pub fn fsync_kinds() {
    let fd = open("f", RDWR).fd();
    write(fd, b"x");
    say!("fsync: {}", sys!(fsync(fd)));
    say!("fdatasync: {}", sys!(fdatasync(fd)));
    let d = open(".", O_RDONLY).fd();
    say!("fsync dir: {}", sys!(fsync(d)));
    let p = pipe();
    say!("fsync pipe: {}", sys!(fsync(p[0])));
    say!("fsync bad: {}", sys!(fsync(-1)));
    say!(
        "range: {}",
        sys!(sync_file_range(fd, 0, 1, SYNC_FILE_RANGE_WRITE))
    );
    say!(
        "range bad flags: {}",
        sys!(sync_file_range(fd, 0, 1, 0x100))
    );
    let s = open("s", RDWR | O_SYNC).fd();
    say!("O_SYNC write: {}", write(s, b"abc"));
}

pub fn copy_range() {
    put("a", b"0123456789");
    let a = open("a", O_RDONLY).fd();
    let b = open("b", RDWR).fd();
    let null = std::ptr::null_mut();
    say!("all: {}", sys!(copy_file_range(a, null, b, null, 100, 0)));
    say!("{}", get("b"));
    say!(
        "at eof: {}",
        sys!(copy_file_range(a, null, b, null, 100, 0))
    );
    let (mut i, mut o) = (2i64, 20i64);
    say!(
        "offsets: {}",
        sys!(copy_file_range(a, &mut i, b, &mut o, 3, 0))
    );
    say!("moved {i} {o} {}", get("b"));
    say!("flags: {}", sys!(copy_file_range(a, null, b, null, 1, 7)));
    let p = pipe();
    say!("pipe: {}", sys!(copy_file_range(a, null, p[1], null, 1, 0)));
    say!(
        "to reader: {}",
        sys!(copy_file_range(b, null, a, null, 1, 0))
    );
    let d = open(".", O_RDONLY).fd();
    say!("dir: {}", sys!(copy_file_range(d, null, b, null, 1, 0)));
    let app = open("b", O_WRONLY | O_APPEND).fd();
    say!(
        "append: {}",
        sys!(copy_file_range(a, null, app, null, 1, 0))
    );
    let rw = open("a", O_RDWR).fd();
    let (mut i, mut o) = (0i64, 2i64);
    say!(
        "overlap: {}",
        sys!(copy_file_range(rw, &mut i, rw, &mut o, 5, 0))
    );
}

pub fn partial_fault() {
    // A buffer that ends in an unmapped page: what fits is transferred.
    let m = sys!(mmap(
        std::ptr::null_mut(),
        8192,
        PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS,
        -1,
        0
    ))
    .v();
    sys!(munmap((m + 4096) as *mut _, 4096)).v();
    let edge = (m + 4096 - 10) as *mut u8;
    put("f", b"0123456789abcdefghij");
    let fd = open("f", O_RDWR).fd();
    say!("read over the edge: {}", sys!(read(fd, edge.cast(), 20)));
    say!("at the edge: {}", sys!(read(fd, (m + 4096) as *mut _, 5)));
    let w = open("w", RDWR).fd();
    say!("write over the edge: {}", sys!(write(w, edge.cast(), 20)));
    say!("{}", describe("w"));
    let p = pipe();
    write(p[1], b"pipe data of some length");
    say!(
        "pipe read over the edge: {}",
        sys!(read(p[0], edge.cast(), 20))
    );
    say!("stat to the edge: {}", sys!(fstat(fd, edge.cast())));
    say!("path over the edge: {}", {
        unsafe { std::ptr::write_bytes(edge, b'a', 10) };
        sys!(open(edge.cast(), O_RDONLY))
    });
}

pub fn large_io() {
    let data: Vec<u8> = (0..5_000_000u32)
        .map(|i| (i.wrapping_mul(2654435761) >> 13) as u8)
        .collect();
    let fd = open("f", RDWR).fd();
    let mut done = 0;
    while done < data.len() {
        done += write(fd, &data[done..]).v() as usize;
    }
    say!("written {done}");
    say!("same {}", std::fs::read("f").unwrap() == data);
    // Odd sizes across page borders.
    let mut pos = 1usize;
    let mut good = true;
    for n in [1usize, 4095, 4096, 4097, 8191, 65537, 1_000_003] {
        let mut b = vec![0u8; n];
        let r = sys!(pread(fd, b.as_mut_ptr().cast(), n, pos as i64)).v() as usize;
        good &= r == n && b[..] == data[pos..pos + n];
        pos += n;
    }
    say!("pieces {good}");
    let patch = vec![7u8; 10_001];
    sys!(pwrite(fd, patch.as_ptr().cast(), patch.len(), 999_999)).v();
    let now = std::fs::read("f").unwrap();
    say!(
        "patched {}",
        now[999_999..1_010_000] == patch[..]
            && now[..999_999] == data[..999_999]
            && now[1_010_000..] == data[1_010_000..]
    );
}

pub fn concurrent_append() {
    let fd = open("f", RDWR | O_APPEND).fd();
    std::thread::scope(|s| {
        for i in 0..4u8 {
            s.spawn(move || (0..100).for_each(|_| drop(write(fd, &[b'0' + i; 10]))));
        }
    });
    let v = std::fs::read("f").unwrap();
    say!(
        "size {} whole {}",
        v.len(),
        v.chunks(10).all(|c| c.iter().all(|b| *b == c[0]))
    );
    // Threads that share one position never lose a byte.
    let g = open("g", RDWR).fd();
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(move || (0..100).for_each(|_| drop(write(g, b"0123456789"))));
        }
    });
    say!("size {}", fstat(g).st_size);
}

pub fn fadvise_readahead() {
    put("f", &[1; 10000]);
    let fd = open("f", O_RDONLY).fd();
    for a in [
        POSIX_FADV_NORMAL,
        POSIX_FADV_SEQUENTIAL,
        POSIX_FADV_RANDOM,
        POSIX_FADV_WILLNEED,
        POSIX_FADV_DONTNEED,
        POSIX_FADV_NOREUSE,
        99,
    ] {
        say!("{a}: {}", errno_name(unsafe { posix_fadvise(fd, 0, 0, a) }));
    }
    let p = pipe();
    say!(
        "pipe: {}",
        errno_name(unsafe { posix_fadvise(p[0], 0, 0, 0) })
    );
    say!("bad: {}", errno_name(unsafe { posix_fadvise(-1, 0, 0, 0) }));
    say!("readahead: {}", sys!(readahead(fd, 0, 4096)));
    say!("readahead pipe: {}", sys!(readahead(p[0], 0, 4096)));
}
