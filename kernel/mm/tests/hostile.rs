//! Calls with any numbers whatsoever: errors, never a panic.

mod common;

use common::*;
use hal::Prot;
use mm::PageCache;
use mm::aspace::{Backing, Fixed, Layout, MapRequest, MmLimits, VmFlags, Writers};
use mm::io::{SliceSink, SliceSource};
use proptest::prelude::*;

/// Numbers that hurt.
fn num() -> impl Strategy<Value = u64> {
    let base = prop_oneof![
        Just(0u64),
        Just(1 << 63),
        Just(u64::MAX),
        Just(i64::MAX as u64),
        Just(hal::USER_END),
        Just(0x10_0000_0000),
        (12..64u32).prop_map(|s| 1u64 << s),
        any::<u64>(),
    ];
    (base, -3..4i64, prop_oneof![Just(1i64), Just(4096)])
        .prop_map(|(b, d, k)| b.wrapping_add_signed(d * k))
}

/// Addresses and lengths that hit something.
fn near() -> impl Strategy<Value = u64> {
    prop_oneof![
        1 => num(),
        3 => (0..64u64).prop_map(|p| 0x10_0000_0000 + p * PAGE),
        2 => (0..20u64).prop_map(|p| p * PAGE),
        1 => 0..100_000u64,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: std::env::var("CASES").map_or(64, |v| v.parse().unwrap()), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn nothing_panics(calls in prop::collection::vec(
        (0..24u32, near(), near(), near(), near(), any::<u32>()), 1..60)) {
        let mm = new_mm();
        let c = PageCache::new_memory();
        let l = MmLimits { stack: calls[0].1, ..LIMITS };
        let mut buf = vec![0u8; 10_000];
        for (what, a, b, d, e, f) in calls {
            let prot = Prot::from_bits_truncate(f & 7);
            let part = &mut buf[..(b % 10_000) as usize];
            match what {
                0..=4 => {
                    let backing = if f & 8 == 0 {
                        Backing::Anon
                    } else {
                        Backing::File { cache: c.clone(), offset: d, owner: None }
                    };
                    let fixed = [Fixed::No, Fixed::Replace, Fixed::NoReplace][(f >> 4) as usize % 3];
                    let mut flags = VmFlags::from_bits_truncate(f >> 8) - VmFlags::SPECIAL;
                    // A locked mapping of terabytes would be brought in page by page.
                    if b > 1 << 24 {
                        flags -= VmFlags::LOCKED;
                    }
                    let _ = mm.map(MapRequest { addr: a, len: b, prot, flags, fixed, populate: false, backing }, &l);
                }
                5 => drop(mm.unmap(a, b)),
                6 => drop(mm.protect(a, b, prot)),
                7 => drop(mm.remap(a, b, d, f & 7, e, &l)),
                8 => drop(mm.advise(a, b.min(1 << 30), (f % 26) as i32)),
                9 => { mm.brk(a, &l); }
                10 => drop(mm.msync(a, b, (f % 9) as i32)),
                11 => drop(mm.mincore(a, b.min(1 << 30))),
                12 => drop(mm.lock(a, b.min(1 << 24), f & 1 == 0, &l)),
                13 => drop(mm.fault(a, prot, &l)),
                14 => drop(mm.read(a, part)),
                15 => drop(mm.write(a, part)),
                16 => drop(mm.read_cstr(a, b as usize % 20_000)),
                17 => {
                    let _ = mm.update_u32(a, &mut |v| Some(v.wrapping_add(1)));
                    mm.peek_u32(b);
                    let _ = mm.futex_key(d, f & 1 == 0);
                }
                18 => {
                    mm.read_partial(a, part, f & 1 == 0);
                    mm.write_partial(d, part, f & 1 == 0);
                }
                19 => mm.set_layout(Layout { start_brk: a, start_data: b, end_data: d, ..Layout::default() }),
                20 => {
                    let _ = c.read(a, &mut SliceSink::new(part));
                    let _ = c.write(d, &mut SliceSource::new(&part[..part.len().min(5000)]));
                    let _ = c.next_data(e);
                    let _ = c.next_hole(e);
                }
                21 => {
                    let _ = c.truncate(a);
                    let _ = c.punch_hole(b, d);
                    let _ = c.allocate(e, b.min(1 << 20));
                }
                22 => {
                    let child = mm.fork(Writers::Others).unwrap();
                    child.vmas(true).unwrap();
                    child.counts();
                }
                _ => drop(mm.clear(a, b as usize % 20_000)),
            }
        }
        check_tlb(&mm);
        mm.vmas(true).unwrap();
        mm.release();
        prop_assert_eq!(mm.counts().page_tables, 0);
    }
}
