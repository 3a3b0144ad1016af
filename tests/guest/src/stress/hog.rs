//! Fills memory: `hog KIND`, one of anon, shared, file, tmpfs, pipe, fork.

use crate::prelude::*;

/// Touches page after page until something gives.
fn anon(flags: i32) -> i32 {
    let mut n = 0u64;
    loop {
        let r = sys!(mmap(
            null_mut(),
            1 << 20,
            PROT_READ | PROT_WRITE,
            flags | MAP_ANONYMOUS,
            -1,
            0
        ));
        if r.failed() {
            say!("mmap {r}");
            return 3;
        }
        for i in 0..256 {
            unsafe { ((r.0 + i * 4096) as *mut u64).write_volatile(n) };
            n += 1;
        }
    }
}

fn file(dir: &str) -> i32 {
    let fd = open(&format!("{dir}/hog"), RDWR).fd();
    let b = vec![7u8; 1 << 20];
    loop {
        let r = write(fd, &b);
        if r.failed() {
            say!("write {r}");
            unlink(&format!("{dir}/hog"));
            return 3;
        }
    }
}

fn pipes() -> i32 {
    loop {
        let mut p = [0; 2];
        let r = sys!(pipe2(p.as_mut_ptr(), O_NONBLOCK));
        if r.failed() {
            say!("pipe {r}");
            return 3;
        }
        while !write(p[1], &[1; 4096]).failed() {}
    }
}

pub fn main(args: &[String]) -> i32 {
    match args.first().map_or("anon", |s| s.as_str()) {
        "shared" => anon(MAP_SHARED),
        "tmpfs" => file("/dev/shm"),
        "file" => file("/tmp"),
        "pipe" => pipes(),
        _ => anon(MAP_PRIVATE),
    }
}
