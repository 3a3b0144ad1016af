//! Many threads in one address space, and truncation against faults.

mod common;

use common::*;
use hal::Prot;
use mm::PageCache;
use mm::aspace::{Backing, FaultError, MapRequest, VmFlags, Writers};
use mm::io::SliceSource;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// As the guest, through whatever the host maps; a page fault if it maps nothing. No checks: others change things.
fn guest_add(mm: &mm::Mm, addr: u64) -> Result<(), FaultError> {
    let space = mm.space();
    let fake = space
        .as_any()
        .downcast_ref::<hal_fake::space::FakeSpace>()
        .unwrap();
    loop {
        let hit = fake.with_access(addr, Prot::WRITE, |p| {
            // SAFETY: within a frame; the fake TLB is locked, so it stays mapped.
            let w = unsafe {
                &*p.as_ptr()
                    .add((addr % PAGE) as usize)
                    .cast::<std::sync::atomic::AtomicU32>()
            };
            w.fetch_add(1, Ordering::Relaxed);
        });
        if hit.is_some() {
            return Ok(());
        }
        mm.fault(addr, Prot::WRITE, &LIMITS)?;
    }
}

#[test]
fn no_write_is_lost_while_a_space_is_forked_and_changed() {
    let mm = new_mm();
    let pages = 200u64;
    let a = map(&mm, pages * PAGE);
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..3u64)
        .map(|t| {
            let (mm, stop) = (mm.clone(), stop.clone());
            std::thread::spawn(move || {
                let mut i = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    let page = (i * 7 + t * 13) % pages;
                    if i % 5 == 0 {
                        mm.update_u32(a + page * PAGE + 4 * t, &mut |v| Some(v + 1))
                            .unwrap();
                    } else {
                        guest_add(&mm, a + page * PAGE + 4 * t).unwrap();
                    }
                    i += 1;
                }
                i
            })
        })
        .collect();
    for n in 0..500u64 {
        let child = mm.fork(Writers::Others).unwrap();
        let mut b = [0; 4];
        child.read(a + n % pages * PAGE, &mut b).unwrap();
        child.write(a + n % pages * PAGE, &b).unwrap();
        mm.protect(a + n % 100 * PAGE, 50 * PAGE, RW).unwrap();
        let x = map(&mm, 10 * PAGE);
        mm.write(x, &[1; 8192]).unwrap();
        mm.unmap(x, 10 * PAGE).unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let counts: Vec<u64> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    check_tlb(&mm);
    for t in 0..3u64 {
        let mut sum = 0u64;
        for p in 0..pages {
            let v: u32 = mm.get(a + p * PAGE + 4 * t).unwrap();
            sum += v as u64;
        }
        assert_eq!(sum, counts[t as usize], "thread {t}");
    }
}

#[test]
fn truncation_leaves_no_mapping_behind() {
    start();
    let c = PageCache::new_memory();
    let stop = Arc::new(AtomicBool::new(false));
    let hits = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..3)
        .map(|t| {
            let (c, stop, hits) = (c.clone(), stop.clone(), hits.clone());
            std::thread::spawn(move || {
                let mm = new_mm();
                let a = mm
                    .map(
                        MapRequest {
                            flags: VmFlags::SHARED | VmFlags::MAYWRITE,
                            backing: Backing::File {
                                cache: c.clone(),
                                offset: 0,
                                owner: None,
                            },
                            ..anon(0, 64 * PAGE, RW)
                        },
                        &LIMITS,
                    )
                    .unwrap();
                let mut i = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    i += 1;
                    match guest_add(&mm, a + (i * 11 + t) % 64 * PAGE) {
                        Ok(()) => drop(hits.fetch_add(1, Ordering::Relaxed)),
                        Err(e) => assert_eq!(e, FaultError::Bus),
                    }
                    if i % 100 == 0 {
                        let child = mm.fork(Writers::Others).unwrap();
                        drop(child);
                    }
                }
                (mm, a)
            })
        })
        .collect();
    let mut i = 0u64;
    while i < 6000 || hits.load(Ordering::Relaxed) < 1000 {
        i += 1;
        c.truncate(i * 37 % 65 * PAGE).unwrap();
        if i % 3 == 0 {
            c.write(i * 17 % 64 * PAGE, &mut SliceSource::new(&[7; 5000]))
                .unwrap();
        }
    }
    c.truncate(0).unwrap();
    stop.store(true, Ordering::Relaxed);
    for t in threads {
        let (mm, a) = t.join().unwrap();
        check_tlb(&mm);
        assert_eq!(mm.counts().rss_shmem, 0);
        assert_eq!(load(&mm, a), Err(FaultError::Bus));
    }
    assert_eq!(c.resident(), 0);
}
