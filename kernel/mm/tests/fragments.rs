//! Free memory in single frames: small objects need no two frames that lie side by side, and
//! for a few larger ones there are runs set aside.

mod common;

use mm::{frame, heap};
use std::alloc::Layout;

#[test]
fn objects_fit_into_single_frames() {
    common::start();
    let page = Layout::from_size_align(4096, 4096).unwrap();
    let mut frames = Vec::new();
    loop {
        let p = heap::alloc(page);
        if p.is_null() {
            break;
        }
        frames.push(p);
    }
    frames.sort();
    // SAFETY: each is freed once: the odd ones here, the others below.
    unsafe {
        for p in frames.iter().skip(1).step_by(2) {
            heap::dealloc(*p, page);
        }
    }
    assert!(frame::stats().free > 1000);
    let two = Layout::from_size_align(8192, 8).unwrap();
    let all = Layout::from_size_align(16 * 4096, 8).unwrap();
    let more = Layout::from_size_align(17 * 4096, 8).unwrap();
    assert!(heap::alloc(more).is_null());
    for l in [two, all, all] {
        let aside: Vec<_> = core::iter::repeat_with(|| heap::alloc_zeroed(l))
            .take_while(|p| !p.is_null())
            .collect();
        assert!((4..20).contains(&aside.len()), "{}", aside.len());
        let slab = frame::stats().slab;
        for p in aside {
            // SAFETY: as long as the layout says, and freed once: the end first, then the rest.
            unsafe {
                assert!((0..l.size()).all(|i| p.add(i).read() == 0));
                p.write_bytes(7, l.size());
                assert_eq!(heap::realloc(p, l, 4096), p);
                heap::dealloc(p, page);
            }
        }
        assert!(frame::stats().slab < slab);
    }

    let mut objects = Vec::new();
    for size in (8..=4096).step_by(8) {
        let l = Layout::from_size_align(size, 8).unwrap();
        let p = heap::alloc(l);
        assert!(!p.is_null(), "no room for {size} bytes");
        objects.push((p, l));
    }
    // SAFETY: each is freed once, with its layout.
    unsafe {
        for (p, l) in objects {
            heap::dealloc(p, l);
        }
        for p in frames.iter().step_by(2) {
            heap::dealloc(*p, page);
        }
    }
    assert!(!heap::alloc(two).is_null());
}
