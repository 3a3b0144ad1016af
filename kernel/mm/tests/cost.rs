//! What the common operations cost, without the host's part. Run with
//! `cargo test --release -p lodger-mm --test cost -- --ignored --nocapture`.

mod common;

use common::*;
use hal::Prot;
use mm::aspace::{Backing, MapRequest, VmFlags, Writers};
use mm::io::{SliceSink, SliceSource};
use mm::{PageCache, heap};
use std::alloc::Layout;
use std::time::Instant;

fn time(name: &str, n: u64, mut f: impl FnMut(u64)) {
    f(0);
    let t = Instant::now();
    for i in 1..=n {
        f(i);
    }
    let ns = t.elapsed().as_nanos() as u64 / n;
    println!("{name:40} {ns:8} ns");
}

#[test]
#[ignore = "prints times"]
fn costs() {
    let mm = new_mm();
    let l = Layout::from_size_align(100, 8).unwrap();
    time("heap: alloc and free 100 bytes", 1_000_000, |_| {
        let p = heap::alloc(l);
        // SAFETY: just allocated.
        unsafe { heap::dealloc(p, l) };
    });
    time("frames: run of 16", 200_000, |_| {
        let p = mm::frame::alloc_run(16).unwrap();
        mm::frame::free_run(p, 16);
    });
    let raw: Vec<_> = (0..20)
        .map(|_| mm::frame::alloc_run(512).unwrap())
        .collect();
    time("host: first touch, a page", 8000, |i| {
        // SAFETY: within the runs just allocated.
        unsafe {
            *raw[i as usize / 512].add(i as usize % 512).as_ptr() = 1;
        }
    });
    let a = map(&mm, 16 << 20);
    time("fault alone, 64 KiB to 2 MiB each", 4000, |i| {
        mm.read(a + i * PAGE, &mut []).unwrap();
        if mm.lookup(a + i * PAGE).is_none() {
            mm.fault(a + i * PAGE, RW, &LIMITS).unwrap();
        }
    });
    time("fault: first touch, a page", 4000, |i| {
        mm.write(a + i * PAGE, &[1]).unwrap();
    });
    let mut buf = vec![0u8; 64 << 10];
    time("read 8 bytes", 1_000_000, |_| {
        mm.read(a + 8, &mut buf[..8]).unwrap();
    });
    time("write 8 bytes", 1_000_000, |_| {
        mm.write(a + 8, &buf[..8]).unwrap();
    });
    time("read 64 KiB", 20_000, |_| {
        mm.read(a, &mut buf).unwrap();
    });
    let c = PageCache::new_memory();
    c.write(0, &mut SliceSource::new(&vec![1; 8 << 20]))
        .unwrap();
    time("file: read 64 KiB", 20_000, |_| {
        c.read(0, &mut SliceSink::new(&mut buf)).unwrap();
    });
    time("file: read 1 byte", 200_000, |_| {
        c.read(0, &mut SliceSink::new(&mut buf[..1])).unwrap();
    });
    time("mmap and munmap, untouched", 100_000, |_| {
        let a = map(&mm, 64 << 10);
        mm.unmap(a, 64 << 10).unwrap();
    });
    // A shell: 24 VMAs of files, 1000 pages of text, 100 of data.
    let shell = new_mm();
    let mut data = Vec::new();
    for i in 0..8u64 {
        for (prot, pages) in [(5, 125), (1, 50), (3, 6)] {
            let a = shell
                .map(
                    MapRequest {
                        flags: VmFlags::MAYWRITE | VmFlags::MAYEXEC,
                        backing: Backing::File {
                            cache: c.clone(),
                            offset: i * 200 * PAGE,
                            owner: None,
                        },
                        ..anon(0, pages * PAGE, Prot::from_bits_truncate(prot))
                    },
                    &LIMITS,
                )
                .unwrap();
            for p in 0..pages {
                if prot == 3 {
                    store(&shell, a + p * PAGE, 1).unwrap();
                    data.push(a + p * PAGE);
                } else {
                    load(&shell, a + p * PAGE).unwrap();
                }
            }
        }
    }
    let h = map(&shell, 200 * PAGE);
    for p in 0..50 {
        store(&shell, h + p * PAGE, 1).unwrap();
    }
    let n = shell.counts();
    println!("shell: {} anon, {} shmem pages", n.rss_anon, n.rss_shmem);
    time("fork and release a shell", 2000, |_| {
        let child = shell.fork(Writers::None).unwrap();
        child.release();
    });
    time("the same, both write 10 pages", 2000, |_| {
        let child = shell.fork(Writers::None).unwrap();
        for a in data.iter().step_by(5) {
            child.write(*a, &[2]).unwrap();
            shell.write(*a, &[2]).unwrap();
        }
        child.release();
    });
}
