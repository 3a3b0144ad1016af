//! Short memory: reclaim, the reserve, the OOM handler.

mod common;

use abi::{Errno, Result};
use common::*;
use hal::Prot;
use mm::aspace::{Backing, FaultError, MapRequest, VmFlags, Writers};
use mm::io::{SliceSink, SliceSource};
use mm::page_cache::PageSource;
use mm::{Mm, PageCache, frame};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

struct Zeros;
impl PageSource for Zeros {
    fn read_pages(&self, pos: u64, buf: &mut [u8]) -> Result {
        for (i, p) in buf.chunks_mut(4096).enumerate() {
            p.fill((pos / PAGE + i as u64) as u8);
        }
        Ok(())
    }
}

static VICTIM: Mutex<Option<Arc<Mm>>> = Mutex::new(None);
static KILLS: AtomicUsize = AtomicUsize::new(0);

fn kill() -> bool {
    KILLS.fetch_add(1, Ordering::SeqCst);
    match VICTIM.lock().unwrap().take() {
        Some(mm) => {
            mm.set_oom_victim();
            mm.release();
            true
        }
        None => false,
    }
}

/// Touches pages until there are no more.
fn eat(mm: &Mm, most: u64) -> (u64, Result<(), FaultError>) {
    let len = most * PAGE;
    let req = MapRequest {
        flags: VmFlags::MAYWRITE | VmFlags::NORESERVE,
        ..anon(0, len, RW)
    };
    let a = mm.map(req, &LIMITS).unwrap();
    for i in 0..most {
        if let Err(e) = store(mm, a + i * PAGE, 1) {
            return (i, Err(e));
        }
    }
    (most, Ok(()))
}

#[test]
fn guests_run_out_of_memory_before_the_kernel() {
    start();
    frame::set_oom_handler(kill);
    let total = frame::stats().total;

    // Page cache gives way, even mapped.
    let c = PageCache::new_backed(Arc::new(Zeros), 64 << 20);
    let mut buf = vec![0; 32 << 20];
    c.read(0, &mut SliceSink::new(&mut buf)).unwrap();
    let reader = new_mm();
    let a = reader
        .map(
            MapRequest {
                flags: VmFlags::SHARED,
                backing: Backing::File {
                    cache: c.clone(),
                    offset: 0,
                    owner: None,
                },
                ..anon(0, 64 << 20, Prot::READ)
            },
            &LIMITS,
        )
        .unwrap();
    for i in 0..16384 {
        assert_eq!(load(&reader, a + i * PAGE), Ok(i as u8));
    }
    assert!(frame::stats().cached >= 16384);
    let hog = new_mm();
    let (n, r) = eat(&hog, total);
    assert_eq!(r, Err(FaultError::Oom));
    assert!(n > total * 8 / 10, "only {n} of {total} frames");
    assert!(frame::stats().cached < 512);
    assert_eq!(KILLS.load(Ordering::SeqCst), 1);
    check_tlb(&reader);
    check_tlb(&hog);

    // Guests get errors now, the kernel still has memory.
    let mut b = [0; 8];
    assert_eq!(reader.read(a + 5000 * PAGE, &mut b), Err(Errno::EFAULT));
    let m = PageCache::new_memory();
    assert_eq!(
        m.write(0, &mut SliceSource::new(&[1; 100])),
        Err(Errno::ENOSPC)
    );
    assert_eq!(m.allocate(0, 100 << 20), Err(Errno::ENOSPC));
    assert!(!frame::pressure());
    let stack = frame::alloc_run(16).unwrap();
    frame::free_run(stack, 16);

    // A victim's memory lets others go on.
    *VICTIM.lock().unwrap() = Some(hog);
    let (n, r) = eat(&reader, 1000);
    assert_eq!((n, r), (1000, Ok(())));
    assert!(KILLS.load(Ordering::SeqCst) > 1);
    for i in 0..16384 {
        assert_eq!(load(&reader, a + i * PAGE), Ok(i as u8));
    }
    assert_eq!(eat(&reader, 10).1, Ok(()));

    // What is free goes back to the host.
    let before = hal_fake::machine().discarded();
    reader.release();
    drop(c);
    frame::trim(0);
    assert!(hal_fake::machine().discarded() > before);
    assert_eq!(frame::stats().anon, 0);
    assert_eq!(frame::stats().cached, 0);
    assert_eq!(frame::stats().mapped, 0);
    assert_eq!(frame::stats().page_tables, 0);

    // Obviously too much is refused at once.
    let mm = new_mm();
    assert_eq!(
        mm.map(anon(0, (total + 1) * PAGE, RW), &LIMITS),
        Err(Errno::ENOMEM)
    );
    // Forks that cannot get page tables fail cleanly.
    let (n, _) = eat(&mm, total / 2);
    assert_eq!(n, total / 2);
    let mut children = Vec::new();
    for _ in 0..100_000 {
        match mm.fork(Writers::None) {
            Ok(c) => children.push(c),
            Err(e) => {
                assert_eq!(e, Errno::ENOMEM);
                break;
            }
        }
    }
    assert!(children.len() > 50 && children.len() < 100_000);
    children.clear();
    mm.release();
    assert_eq!(frame::stats().anon, 0);
    assert_eq!(frame::stats().page_tables, 0);

    // Forks that copy what was written do so while there is memory, and share when it is short.
    let mm = new_mm();
    let (n, _) = eat(&mm, 200);
    assert_eq!(n, 200);
    let mut children = Vec::new();
    while children.len() < 2 * total as usize / 200 {
        children.push(mm.fork(Writers::None).unwrap());
    }
    assert!(frame::stats().anon > total / 2);
    children.clear();
    mm.release();
    assert_eq!(frame::stats().anon, 0);
    assert_eq!(frame::stats().page_tables, 0);
}
