//! A machine that has just been started holds little memory of the host.

mod common;

use common::*;

#[test]
fn a_fresh_machine_touches_few_pages() {
    let mm = new_mm();
    let a = map(&mm, 64 << 20);
    store(&mm, a, 1).unwrap();
    let l = std::alloc::Layout::from_size_align(64, 8).unwrap();
    for _ in 0..100 {
        assert!(!mm::heap::alloc(l).is_null());
    }
    let len = hal_fake::FRAMES * 4096;
    let mut there = vec![0u8; hal_fake::FRAMES];
    // SAFETY: asks about the memory file; one byte a page.
    let r = unsafe { libc::mincore(hal::Pfn(0).as_ptr().cast(), len, there.as_mut_ptr().cast()) };
    assert_eq!(r, 0);
    let n = there.iter().filter(|b| **b & 1 != 0).count();
    assert!(n <= 40, "{n} pages resident");
}
