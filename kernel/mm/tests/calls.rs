//! The system calls' corner cases and errors.

mod common;

use abi::Errno;
use common::*;
use hal::{Prot, USER_END};
use mm::PageCache;
use mm::aspace::{Backing, FaultError, Fixed, Layout, MapRequest, MmLimits, VmFlags, Writers};
use mm::io::SliceSource;

const NONE: Prot = Prot::empty();

#[test]
fn mmap_errors() {
    let mm = new_mm();
    let map = |addr, len, fixed| {
        mm.map(
            MapRequest {
                fixed,
                ..anon(addr, len, RW)
            },
            &LIMITS,
        )
    };
    assert_eq!(map(0, 0, Fixed::No), Err(Errno::EINVAL));
    assert_eq!(map(0, u64::MAX, Fixed::No), Err(Errno::ENOMEM));
    assert_eq!(map(0, USER_END, Fixed::No), Err(Errno::ENOMEM));
    assert_eq!(map(4096, 4096, Fixed::Replace), Err(Errno::EPERM));
    assert_eq!(map(0x10001, 4096, Fixed::Replace), Err(Errno::EINVAL));
    assert_eq!(map(USER_END, 4096, Fixed::Replace), Err(Errno::ENOMEM));
    assert_eq!(map(!4095, 8192, Fixed::Replace), Err(Errno::ENOMEM));
    assert_eq!(map(0x20000, 8192, Fixed::Replace), Ok(0x20000));
    assert_eq!(map(0x21000, 8192, Fixed::NoReplace), Err(Errno::EEXIST));
    assert_eq!(map(0x22000, 8192, Fixed::NoReplace), Ok(0x22000));
    // Both are one now.
    assert_eq!(mm.vmas(false).unwrap().len(), 1);
    // Hints: taken if free, rounded, raised above the guard.
    assert_eq!(map(0x30000, 4096, Fixed::No), Ok(0x30000));
    assert_ne!(map(0x30000, 4096, Fixed::No), Ok(0x30000));
    assert_eq!(map(0x40fff, 4096, Fixed::No), Ok(0x40000));
    assert_eq!(map(1, 4096, Fixed::No), Ok(0x10000));
    let c = PageCache::new_memory();
    let file = |offset, len| {
        mm.map(
            MapRequest {
                backing: Backing::File {
                    cache: c.clone(),
                    offset,
                    owner: None,
                },
                ..anon(0, len, RW)
            },
            &LIMITS,
        )
    };
    assert_eq!(file(1, 4096), Err(Errno::EINVAL));
    assert_eq!(file(!4095, 8192), Err(Errno::EOVERFLOW));
    // Mapping behind the end of the file is allowed, touching it is not.
    let a = file(0, 4096).unwrap();
    assert_eq!(load(&mm, a), Err(FaultError::Bus));
}

#[test]
fn addresses_come_top_down_and_gaps_are_used_again() {
    let mm = new_mm();
    let a = map(&mm, 4 * PAGE);
    let b = map(&mm, 4 * PAGE);
    let c = map(&mm, 4 * PAGE);
    assert!(a < USER_END - (128 << 20) && b == a - 4 * PAGE && c == b - 4 * PAGE);
    mm.unmap(b, 4 * PAGE).unwrap();
    assert_eq!(map(&mm, 5 * PAGE), c - 5 * PAGE);
    assert_eq!(map(&mm, 3 * PAGE), b + PAGE);
    assert_eq!(map(&mm, PAGE), b);
}

#[test]
fn limits_are_obeyed() {
    let mm = new_mm();
    let l = MmLimits {
        address_space: 100 * PAGE,
        data: 50 * PAGE,
        memlock: 10 * PAGE,
        ..LIMITS
    };
    let try_map = |n: u64, prot| mm.map(anon(0, n * PAGE, prot), &l);
    assert_eq!(try_map(101, Prot::READ), Err(Errno::ENOMEM));
    assert_eq!(try_map(51, RW), Err(Errno::ENOMEM));
    let a = try_map(50, RW).unwrap();
    assert_eq!(try_map(1, RW), Err(Errno::ENOMEM));
    try_map(50, Prot::READ).unwrap();
    assert_eq!(try_map(1, Prot::READ), Err(Errno::ENOMEM));
    // Replacing needs no more.
    mm.map(anon(a, 50 * PAGE, RW), &l).unwrap();
    assert_eq!(
        mm.remap(a, 50 * PAGE, 51 * PAGE, 1, 0, &l),
        Err(Errno::ENOMEM)
    );
    assert_eq!(mm.lock(a, 11 * PAGE, true, &l), Err(Errno::ENOMEM));
    mm.lock(a, 10 * PAGE, true, &l).unwrap();
    mm.lock(a, 10 * PAGE, true, &l).unwrap();
    assert_eq!(mm.counts().locked_vm, 10);
    assert_eq!(mm.lock(a + 10 * PAGE, PAGE, true, &l), Err(Errno::ENOMEM));
    assert!(mm.lookup(a + 9 * PAGE).is_some());
    assert_eq!(mm.advise(a, PAGE, 4), Err(Errno::EINVAL));
    assert_eq!(mm.msync(a, PAGE, 2), Err(Errno::EBUSY));
    mm.lock(a, 100 * PAGE, false, &l).unwrap_err();
    mm.lock(a, 50 * PAGE, false, &l).unwrap();
    assert_eq!(mm.counts().locked_vm, 0);
    assert_eq!(
        mm.lock(a, PAGE, true, &MmLimits { memlock: 0, ..l }),
        Err(Errno::EPERM)
    );
    assert_eq!(mm.lock_all(1, &l), Err(Errno::ENOMEM));
    assert_eq!(mm.lock_all(4, &l), Err(Errno::EINVAL));
    assert_eq!(mm.lock_all(8, &l), Err(Errno::EINVAL));
    mm.lock_all(3, &LIMITS).unwrap();
    assert_eq!(mm.counts().locked_vm, 100);
    let b = mm.map(anon(0, 2 * PAGE, RW), &LIMITS).unwrap();
    assert!(mm.lookup(b + PAGE).is_some());
    mm.lock_all(0, &LIMITS).unwrap();
    assert_eq!(mm.counts().locked_vm, 0);
}

#[test]
fn the_break_moves_and_stays_where_it_must() {
    let mm = new_mm();
    assert_eq!(mm.brk(0, &LIMITS), 0);
    mm.set_layout(Layout {
        start_brk: 0x100_0123,
        ..Layout::default()
    });
    assert_eq!(mm.brk(0, &LIMITS), 0x100_0123);
    assert_eq!(mm.brk(0x100_8000, &LIMITS), 0x100_8000);
    store(&mm, 0x100_7fff, 7).unwrap();
    assert_eq!(load(&mm, 0x100_1000), Ok(0));
    assert_eq!(load(&mm, 0x100_0fff), Err(FaultError::Segv(1)));
    assert_eq!(mm.vmas(false).unwrap()[0].name, Some("[heap]"));
    assert_eq!(mm.brk(0x100_1000, &LIMITS), 0x100_1000);
    assert_eq!(load(&mm, 0x100_7fff), Err(FaultError::Segv(1)));
    assert_eq!(mm.brk(0x100_0000, &LIMITS), 0x100_1000);
    mm.map(anon(0x100_4000, PAGE, RW), &LIMITS).unwrap();
    // A page stays free below the next mapping.
    assert_eq!(mm.brk(0x100_4000, &LIMITS), 0x100_1000);
    assert_eq!(mm.brk(0x100_3000, &LIMITS), 0x100_3000);
    assert_eq!(mm.brk(u64::MAX, &LIMITS), 0x100_3000);
    let l = MmLimits {
        data: PAGE,
        ..LIMITS
    };
    assert_eq!(mm.brk(0x100_2fff, &l), 0x100_3000);
    assert_eq!(load(&mm, 0x100_2fff), Ok(0));
}

#[test]
fn stacks_grow_down_to_their_limit() {
    let mm = new_mm();
    let top = 0x2000_0000;
    let req = MapRequest {
        flags: VmFlags::GROWSDOWN | VmFlags::MAYWRITE,
        ..anon(top - 4 * PAGE, 4 * PAGE, RW)
    };
    mm.map(req, &LIMITS).unwrap();
    store(&mm, top - 5 * PAGE, 1).unwrap();
    store(&mm, top - (8 << 20), 2).unwrap();
    assert_eq!(store(&mm, top - (8 << 20) - 1, 1), Err(FaultError::Segv(1)));
    assert_eq!(load(&mm, top - 5 * PAGE), Ok(1));
    assert_eq!(mm.write(top - (9 << 20), b"x"), Err(Errno::EFAULT));
    // Not closer than the gap to what is below.
    let top = 0x3000_0000;
    let req = MapRequest {
        flags: VmFlags::GROWSDOWN | VmFlags::MAYWRITE,
        ..anon(top - 4 * PAGE, 4 * PAGE, RW)
    };
    mm.map(req, &LIMITS).unwrap();
    mm.map(anon(top - (3 << 20), PAGE, RW), &LIMITS).unwrap();
    let low = top - (2 << 20) + PAGE;
    store(&mm, low, 1).unwrap();
    assert_eq!(store(&mm, low - 1, 1), Err(FaultError::Segv(1)));
}

#[test]
fn rights() {
    let mm = new_mm();
    let a = map(&mm, 4 * PAGE);
    store(&mm, a, 5).unwrap();
    mm.protect(a, PAGE, NONE).unwrap();
    assert_eq!(load(&mm, a), Err(FaultError::Segv(2)));
    assert_eq!(mm.read(a, &mut [0; 1]), Err(Errno::EFAULT));
    let mut b = [0; 1];
    assert_eq!(mm.read_partial(a, &mut b, true), 1);
    assert_eq!(b, [5]);
    assert_eq!(mm.write_partial(a, &[6], false), 0);
    assert_eq!(mm.write_partial(a, &[6], true), 1);
    mm.protect(a, PAGE, Prot::EXEC).unwrap();
    // As on a CPU without execute-only pages.
    assert_eq!(load(&mm, a), Ok(6));
    assert!(touch(&mm, a, Prot::EXEC).is_ok());
    mm.protect(a, PAGE, Prot::WRITE).unwrap();
    assert_eq!(load(&mm, a), Ok(6));
    store(&mm, a, 7).unwrap();
    assert!(touch(&mm, a, Prot::EXEC).is_err());
    assert_eq!(mm.protect(a + 1, PAGE, RW), Err(Errno::EINVAL));
    assert_eq!(mm.protect(a, u64::MAX, RW), Err(Errno::ENOMEM));
    assert_eq!(mm.protect(a, 5 * PAGE, RW), Err(Errno::ENOMEM));
    assert_eq!(mm.protect(a, 0, RW), Ok(()));
    let req = MapRequest {
        flags: VmFlags::SHARED,
        ..anon(0, PAGE, Prot::READ)
    };
    let s = mm.map(req, &LIMITS).unwrap();
    assert_eq!(mm.protect(s, PAGE, RW), Err(Errno::EACCES));
    assert_eq!(mm.protect(s, PAGE, Prot::READ), Ok(()));
    // A debugger's break point goes to a private copy of the file's page.
    let c = PageCache::new_memory();
    c.write(0, &mut SliceSource::new(&[0x90; 4096])).unwrap();
    let req = MapRequest {
        backing: Backing::File {
            cache: c.clone(),
            offset: 0,
            owner: None,
        },
        ..anon(0, PAGE, Prot::READ | Prot::EXEC)
    };
    let t = mm.map(req, &LIMITS).unwrap();
    assert_eq!(load(&mm, t + 9), Ok(0x90));
    assert_eq!(mm.write_partial(t + 9, &[0xcc], true), 1);
    assert_eq!(load(&mm, t + 9), Ok(0xcc));
    assert!(store(&mm, t + 9, 0).is_err());
    check_tlb(&mm);
}

#[test]
fn mremap_errors_and_growth() {
    let mm = new_mm();
    let a = 0x5000_0000;
    mm.map(anon(a, 4 * PAGE, RW), &LIMITS).unwrap();
    let remap = |o, ol, nl, f, n| mm.remap(o, ol, nl, f, n, &LIMITS);
    assert_eq!(remap(a + 1, PAGE, PAGE, 1, 0), Err(Errno::EINVAL));
    assert_eq!(remap(a, PAGE, 0, 1, 0), Err(Errno::EINVAL));
    assert_eq!(remap(a, PAGE, PAGE, 2, a), Err(Errno::EINVAL));
    assert_eq!(remap(a, PAGE, PAGE, 8, 0), Err(Errno::EINVAL));
    assert_eq!(remap(a, PAGE, 2 * PAGE, 5, 0), Err(Errno::EINVAL));
    assert_eq!(remap(a, 0, PAGE, 1, 0), Err(Errno::EINVAL));
    assert_eq!(remap(a - PAGE, PAGE, 2 * PAGE, 1, 0), Err(Errno::EFAULT));
    assert_eq!(remap(a, 5 * PAGE, 6 * PAGE, 1, 0), Err(Errno::EFAULT));
    assert_eq!(remap(a, PAGE, u64::MAX, 1, 0), Err(Errno::EINVAL));
    assert_eq!(remap(a, 4 * PAGE, 8 * PAGE, 0, 0), Ok(a));
    assert_eq!(mm.vmas(false).unwrap().len(), 1);
    mm.map(anon(a + 8 * PAGE, PAGE, Prot::READ), &LIMITS)
        .unwrap();
    assert_eq!(remap(a, 8 * PAGE, 9 * PAGE, 0, 0), Err(Errno::ENOMEM));
    for i in 0..8 {
        store(&mm, a + i * PAGE, i as u8).unwrap();
    }
    let b = remap(a, 8 * PAGE, 9 * PAGE, 1, 0).unwrap();
    for i in 0..9 {
        assert_eq!(load(&mm, b + i * PAGE), Ok(if i < 8 { i as u8 } else { 0 }));
    }
    assert_eq!(load(&mm, a), Err(FaultError::Segv(1)));
    // Shared memory of length 0: one more mapping of it.
    let req = MapRequest {
        flags: VmFlags::SHARED | VmFlags::MAYWRITE,
        ..anon(0, 4 * PAGE, RW)
    };
    let s = mm.map(req, &LIMITS).unwrap();
    store(&mm, s + PAGE, 9).unwrap();
    let d = remap(s, 0, 4 * PAGE, 1, 0).unwrap();
    assert_eq!(load(&mm, d + PAGE), Ok(9));
    store(&mm, d, 8).unwrap();
    assert_eq!(load(&mm, s), Ok(8));
    assert_eq!(
        mm.futex_key(s, false).unwrap(),
        mm.futex_key(d, false).unwrap()
    );
    check_tlb(&mm);
}

#[test]
fn advice() {
    let mm = new_mm();
    let a = map(&mm, 8 * PAGE);
    for i in 0..8 {
        store(&mm, a + i * PAGE, 1).unwrap();
    }
    let adv = |addr, n: u64, code| mm.advise(addr, n * PAGE, code);
    assert_eq!(adv(a, 1, 77), Err(Errno::EINVAL));
    assert_eq!(adv(a, 1, -1), Err(Errno::EINVAL));
    assert_eq!(adv(a + 1, 1, 4), Err(Errno::EINVAL));
    assert_eq!(adv(a, 9, 4), Err(Errno::ENOMEM));
    assert_eq!(load(&mm, a + 7 * PAGE), Ok(0));
    for code in [0, 1, 2, 3, 8, 14, 15, 16, 17, 20, 21, 22, 23] {
        assert_eq!(adv(a, 8, code), Ok(()), "advice {code}");
    }
    assert_eq!(adv(a, 8, 9), Err(Errno::EINVAL));
    assert_eq!(adv(a, 8, 12), Err(Errno::EINVAL));
    store(&mm, a, 1).unwrap();
    store(&mm, a + PAGE, 1).unwrap();
    store(&mm, a + 2 * PAGE, 1).unwrap();
    adv(a, 1, 10).unwrap();
    adv(a + PAGE, 1, 18).unwrap();
    assert_eq!(mm.vmas(false).unwrap().len(), 3);
    let child = mm.fork(Writers::None).unwrap();
    assert_eq!(load(&child, a), Err(FaultError::Segv(1)));
    assert_eq!(load(&child, a + PAGE), Ok(0));
    assert_eq!(load(&child, a + 2 * PAGE), Ok(1));
    adv(a, 1, 11).unwrap();
    adv(a + PAGE, 1, 19).unwrap();
    assert_eq!(mm.vmas(false).unwrap().len(), 1);
    assert_eq!(mm.mincore(a, 8 * PAGE).unwrap().len(), 8);
    assert_eq!(mm.mincore(a, 9 * PAGE), Err(Errno::ENOMEM));
    assert_eq!(mm.mincore(a + 1, PAGE), Err(Errno::EINVAL));
    let b = map(&mm, 2 * PAGE);
    assert_eq!(mm.mincore(b, 2 * PAGE).unwrap(), [0, 0]);
    assert_eq!(mm.msync(a, 9 * PAGE, 4), Err(Errno::ENOMEM));
    assert_eq!(mm.msync(a, PAGE, 5), Err(Errno::EINVAL));
    assert_eq!(mm.msync(a, PAGE, 8), Err(Errno::EINVAL));
    assert_eq!(mm.msync(a, PAGE, 4), Ok(()));
    // Shared memory: holes can be punched.
    let req = MapRequest {
        flags: VmFlags::SHARED | VmFlags::MAYWRITE,
        ..anon(0, 4 * PAGE, RW)
    };
    let s = mm.map(req, &LIMITS).unwrap();
    store(&mm, s + PAGE, 1).unwrap();
    adv(s, 4, 4).unwrap();
    assert_eq!(load(&mm, s + PAGE), Ok(1));
    adv(s, 4, 9).unwrap();
    assert_eq!(load(&mm, s + PAGE), Ok(0));
    adv(s, 4, 18).unwrap_err();
}

#[test]
fn too_many_vmas_are_refused() {
    let mm = new_mm();
    let n = 65530u64;
    let base = 0x10_0000_0000;
    mm.map(
        MapRequest {
            flags: VmFlags::NORESERVE | VmFlags::MAYWRITE,
            ..anon(base, 2 * n * PAGE, RW)
        },
        &LIMITS,
    )
    .unwrap();
    let mut i = 0;
    let error = loop {
        // A hole, or other rights, in turn.
        let at = base + (2 * i + 1) * PAGE;
        let r = if i % 2 == 0 {
            mm.unmap(at, PAGE)
        } else {
            mm.protect(at, PAGE, Prot::READ)
        };
        match r {
            Ok(()) => i += 1,
            Err(e) => break e,
        }
    };
    assert_eq!(error, Errno::ENOMEM);
    let count = mm.vmas(false).unwrap().len() as u64;
    assert!(count <= n && count >= n - 2, "{count} VMAs");
    for i in 0..n - count {
        let at = 0x10_0000 + i * 2 * PAGE;
        mm.map(anon(at, PAGE, RW), &LIMITS).unwrap();
    }
    assert_eq!(
        mm.map(anon(0x20_0000, PAGE, RW), &LIMITS),
        Err(Errno::ENOMEM)
    );
    mm.unmap(0x10_0000, base + 2 * n * PAGE - 0x10_0000)
        .unwrap();
    assert_eq!(mm.vmas(false).unwrap().len(), 0);
}
