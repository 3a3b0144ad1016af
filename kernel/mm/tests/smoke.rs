//! First steps of an address space.

mod common;
use common::*;
use hal::Prot;
use mm::aspace::{FaultError, Writers};

#[test]
fn anonymous_memory_reads_as_zero_and_keeps_what_is_written() {
    let mm = new_mm();
    let a = map(&mm, 1 << 20);
    for i in (0..1 << 20).step_by(4096) {
        assert_eq!(load(&mm, a + i), Ok(0));
        store(&mm, a + i + 5, (i >> 12) as u8).unwrap();
    }
    for i in (0..1 << 20).step_by(4096) {
        assert_eq!(load(&mm, a + i + 5), Ok((i >> 12) as u8));
    }
    mm.unmap(a, 1 << 20).unwrap();
    assert_eq!(load(&mm, a), Err(FaultError::Segv(1)));
    check_tlb(&mm);
}

#[test]
fn fork_shares_until_written() {
    let mm = new_mm();
    let a = map(&mm, 64 * 4096);
    for i in 0..64 {
        store(&mm, a + i * PAGE, i as u8).unwrap();
    }
    let child = mm.fork(Writers::Others).unwrap();
    // No CPU may write any more, even one that has not heard of the queue.
    assert_eq!(stale(&mm, a, Prot::WRITE), None);
    check_tlb(&mm);
    check_tlb(&child);
    store(&mm, a, 100).unwrap();
    store(&child, a + PAGE, 101).unwrap();
    assert_eq!(load(&mm, a), Ok(100));
    assert_eq!(load(&child, a), Ok(0));
    assert_eq!(load(&mm, a + PAGE), Ok(1));
    assert_eq!(load(&child, a + PAGE), Ok(101));
    child.release();
    for i in 0..64 {
        store(&mm, a + i * PAGE, 7).unwrap();
    }
    check_tlb(&mm);
    assert_eq!(mm.lookup(a).unwrap().1, Prot::READ | Prot::WRITE);
}

#[test]
fn fork_copies_what_a_single_writer_has_written() {
    const RW: Prot = Prot::READ.union(Prot::WRITE);
    let mm = new_mm();
    let a = map(&mm, 1024 * PAGE);
    store(&mm, a, 1).unwrap();
    store(&mm, a + 5 * PAGE, 2).unwrap();
    let child = mm.fork(Writers::None).unwrap();
    for page in [a, a + 5 * PAGE] {
        let (ours, theirs) = (mm.lookup(page).unwrap(), child.lookup(page).unwrap());
        assert_eq!((ours.1, theirs.1), (RW, RW));
        assert_ne!(ours.0, theirs.0);
        assert_eq!(load(&child, page), load(&mm, page));
        store(&child, page, 9).unwrap();
    }
    assert_eq!((load(&mm, a), load(&child, a)), (Ok(1), Ok(9)));
    check_tlb(&mm);
    check_tlb(&child);
    child.release();

    // Too much to copy: everything is shared, and what is written from then on is copied.
    for i in 0..1024 {
        store(&mm, a + i * PAGE, 3).unwrap();
    }
    let child = mm.fork(Writers::None).unwrap();
    assert_eq!(mm.lookup(a + 7 * PAGE), child.lookup(a + 7 * PAGE));
    assert_eq!(stale(&mm, a, Prot::WRITE), None);
    store(&mm, a + 512 * PAGE, 4).unwrap();
    let second = mm.fork(Writers::None).unwrap();
    let at = |m: &mm::Mm, i| m.lookup(a + i * PAGE).unwrap();
    assert_ne!(at(&mm, 512).0, at(&second, 512).0);
    assert_eq!(at(&mm, 512).1, RW);
    assert_eq!(at(&mm, 7), at(&second, 7));
    assert_eq!(load(&second, a + 512 * PAGE), Ok(4));
    assert_eq!(load(&child, a + 512 * PAGE), Ok(3));
    second.release();
    child.release();
}

#[test]
fn kernel_copies_fault_pages_in() {
    let mm = new_mm();
    let a = map(&mm, 1 << 16);
    let text: Vec<u8> = (0..10000).map(|i| i as u8).collect();
    mm.write(a + 100, &text).unwrap();
    let mut back = vec![0; text.len()];
    mm.read(a + 100, &mut back).unwrap();
    assert_eq!(text, back);
    assert!(mm.write(0, &text).is_err());
    assert!(mm.read(u64::MAX - 3, &mut back).is_err());
    mm.write(a + 4090, b"hello world\0").unwrap();
    assert_eq!(mm.read_cstr(a + 4090, 100).unwrap(), b"hello world");
    assert_eq!(mm.read_cstr(a + 4090, 5), Err(abi::Errno::ENAMETOOLONG));
    assert_eq!(mm.update_u32(a + 8, &mut |v| Some(v + 1)), Ok(0));
    assert_eq!(mm.peek_u32(a + 8), Some(1));
}
