//! Frames and heap, with several threads at once.

mod common;

use mm::{frame, heap};
use std::alloc::Layout;
use std::collections::HashMap;

/// A small generator, so that runs repeat.
struct Rng(u64);
impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

fn fill(p: *mut u8, len: usize, v: u8) {
    // SAFETY: the test's own object.
    unsafe { p.write_bytes(v, len) };
}

fn check(p: *mut u8, len: usize, v: u8) {
    // SAFETY: the test's own object.
    let s = unsafe { std::slice::from_raw_parts(p, len) };
    assert!(s.iter().all(|b| *b == v), "object was overwritten");
}

fn churn(seed: u64, rounds: usize) {
    let mut rng = Rng(seed);
    let mut live: Vec<(*mut u8, Layout, u8)> = Vec::new();
    for i in 0..rounds {
        match rng.below(3) {
            0 | 1 if live.len() < 500 => {
                let size = match rng.below(10) {
                    0 => 1 + rng.below(200_000),
                    1..=3 => 1 + rng.below(5000),
                    _ => 1 + rng.below(300),
                } as usize;
                let align = 1usize << rng.below(13);
                let l = Layout::from_size_align(size, align).unwrap();
                let p = heap::alloc(l);
                assert!(!p.is_null());
                assert_eq!(p.addr() % align, 0, "alignment of {l:?}");
                fill(p, size, i as u8);
                live.push((p, l, i as u8));
            }
            2 if !live.is_empty() && rng.below(2) == 0 => {
                let k = rng.below(live.len() as u64) as usize;
                let (p, l, v) = live[k];
                let new = 1 + rng.below(l.size() as u64 * 2) as usize;
                // SAFETY: our object with its layout.
                let q = unsafe { heap::realloc(p, l, new) };
                assert!(!q.is_null());
                check(q, l.size().min(new), v);
                fill(q, new, v);
                live[k] = (q, Layout::from_size_align(new, l.align()).unwrap(), v);
            }
            _ if !live.is_empty() => {
                let k = rng.below(live.len() as u64) as usize;
                let (p, l, v) = live.swap_remove(k);
                check(p, l.size(), v);
                // SAFETY: our object with its layout.
                unsafe { heap::dealloc(p, l) };
            }
            _ => {}
        }
    }
    for (p, l, v) in live {
        check(p, l.size(), v);
        // SAFETY: our object with its layout.
        unsafe { heap::dealloc(p, l) };
    }
}

#[test]
fn objects_do_not_overlap_and_all_memory_comes_back() {
    common::start();
    churn(1, 2000);
    let before = frame::stats();
    let threads: Vec<_> = (0..4)
        .map(|i| std::thread::spawn(move || churn(1000 + i, 20_000)))
        .collect();
    for t in threads {
        t.join().unwrap();
    }
    churn(77, 20_000);
    let after = frame::stats();
    // Each class may keep an empty slab.
    assert!(
        after.slab <= before.slab + 4 * 16,
        "slabs: {} before, {} after",
        before.slab,
        after.slab
    );

    // Runs, in the same test because the numbers are the machine's.
    let free = frame::stats().free;
    let mut rng = Rng(5);
    let mut runs = HashMap::new();
    for _ in 0..3000 {
        let n = 1usize << rng.below(9);
        if runs.len() < 40 {
            let p = frame::alloc_run(n).unwrap();
            assert_eq!(p.0 as usize % n, 0);
            for q in 0..n {
                fill(p.add(q).as_ptr(), 8, n as u8);
            }
            assert!(runs.insert(p, n).is_none());
        } else {
            let (&p, &n) = runs.iter().nth(rng.below(40) as usize).unwrap();
            runs.remove(&p);
            for q in 0..n {
                check(p.add(q).as_ptr(), 8, n as u8);
            }
            frame::free_run(p, n);
        }
    }
    for (p, n) in runs {
        frame::free_run(p, n);
    }
    assert_eq!(frame::stats().free, free);
    assert!(frame::alloc_run(3).is_none());
    assert!(frame::alloc_run(0).is_none());
    assert!(frame::alloc_run(1 << 30).is_none());

    // Given back to the host, memory reads as zero.
    frame::trim(0);
    let l = Layout::from_size_align(1 << 20, 4096).unwrap();
    let p = heap::alloc_zeroed(l);
    check(p, 1 << 20, 0);
    // SAFETY: our object with its layout.
    unsafe { heap::dealloc(p, l) };
    assert!(heap::alloc(Layout::from_size_align(1 << 40, 16).unwrap()).is_null());
}

#[cfg(debug_assertions)]
#[test]
#[should_panic(expected = "freed twice")]
fn double_free_is_noticed() {
    common::start();
    let l = Layout::from_size_align(40, 8).unwrap();
    let p = heap::alloc(l);
    // SAFETY: deliberately wrong; the heap notices before anything is changed.
    unsafe {
        heap::dealloc(p, l);
        heap::dealloc(p, l);
    }
}
