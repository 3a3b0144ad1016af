//! Random file operations against a vector of bytes.

mod common;

use abi::{Errno, Result};
use common::*;
use mm::PageCache;
use mm::aspace::{Backing, FaultError, MapRequest, VmFlags};
use mm::io::{SliceSink, SliceSource};
use mm::page_cache::PageSource;
use proptest::prelude::*;
use std::sync::{Arc, Mutex};

/// Largest file played with.
const MAX: u64 = 300_000;

#[derive(Clone, Debug)]
enum Op {
    Read { pos: u64, len: usize },
    Write { pos: u64, len: usize, v: u8 },
    Append { len: usize, v: u8 },
    Truncate { size: u64 },
    Punch { pos: u64, len: u64 },
    Allocate { pos: u64, len: u64 },
    Load { pos: u64 },
    Store { pos: u64, v: u8 },
    Sync,
    Reclaim,
    Copy { len: u64 },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let pos = prop_oneof![0..MAX, (0..MAX / PAGE).prop_map(|p| p * PAGE)];
    let len = prop_oneof![
        1..100usize,
        1..20_000usize,
        (1..40usize).prop_map(|p| p * 4096)
    ];
    let op = prop_oneof![
        4 => (pos.clone(), len.clone()).prop_map(|(pos, len)| Op::Read { pos, len }),
        4 => (pos.clone(), len.clone(), 1..=255u8).prop_map(|(pos, len, v)| Op::Write { pos, len, v }),
        2 => (len.clone(), 1..=255u8).prop_map(|(len, v)| Op::Append { len, v }),
        2 => pos.clone().prop_map(|size| Op::Truncate { size }),
        1 => (pos.clone(), len.clone()).prop_map(|(pos, len)| Op::Punch { pos, len: len as u64 }),
        1 => (pos.clone(), len.clone()).prop_map(|(pos, len)| Op::Allocate { pos, len: len as u64 }),
        3 => pos.clone().prop_map(|pos| Op::Load { pos }),
        3 => (pos.clone(), 1..=255u8).prop_map(|(pos, v)| Op::Store { pos, v }),
        1 => Just(Op::Sync),
        1 => Just(Op::Reclaim),
        1 => pos.prop_map(|len| Op::Copy { len }),
    ];
    prop::collection::vec(op, 1..60)
}

struct Disk(Mutex<Vec<u8>>);

impl PageSource for Disk {
    fn read_pages(&self, pos: u64, buf: &mut [u8]) -> Result {
        let d = self.0.lock().unwrap();
        let start = (pos as usize).min(d.len());
        let end = (start + buf.len()).min(d.len());
        buf.fill(0);
        buf[..end - start].copy_from_slice(&d[start..end]);
        Ok(())
    }
    fn write_pages(&self, pos: u64, data: &[u8]) -> Result {
        let mut d = self.0.lock().unwrap();
        let end = pos as usize + data.len();
        if d.len() < end {
            d.resize(end, 0);
        }
        d[pos as usize..end].copy_from_slice(data);
        Ok(())
    }
}

fn content(c: &PageCache, pos: u64, len: usize) -> Vec<u8> {
    let mut b = vec![0xaa; len];
    let n = c.read(pos, &mut SliceSink::new(&mut b)).unwrap();
    b.truncate(n);
    b
}

fn run(ops: Vec<Op>, backed: bool) {
    // Reclaim works on all files of the machine.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    start();
    let mut model: Vec<u8> = Vec::new();
    let disk = Arc::new(Disk(Mutex::new(Vec::new())));
    let c = if backed {
        model = (0..100_000).map(|i| (i / 100) as u8).collect();
        *disk.0.lock().unwrap() = model.clone();
        PageCache::new_backed(disk.clone(), model.len() as u64)
    } else {
        PageCache::new_memory()
    };
    let mm = new_mm();
    let window = 2 * MAX;
    let a = mm
        .map(
            MapRequest {
                flags: VmFlags::SHARED | VmFlags::MAYWRITE,
                backing: Backing::File {
                    cache: c.clone(),
                    offset: 0,
                    owner: None,
                },
                ..anon(0, window, RW)
            },
            &LIMITS,
        )
        .unwrap();
    for op in ops {
        match op {
            Op::Read { pos, len } => {
                let lo = (pos as usize).min(model.len());
                let hi = (lo + len).min(model.len());
                assert_eq!(content(&c, pos, len), model[lo..hi]);
            }
            Op::Write { pos, len, v } => {
                let data = vec![v; len];
                assert_eq!(c.write(pos, &mut SliceSource::new(&data)), Ok(len));
                let end = pos as usize + len;
                if model.len() < end {
                    model.resize(end, 0);
                }
                model[pos as usize..end].fill(v);
            }
            Op::Append { len, v } => {
                if model.len() + len < MAX as usize {
                    let data = vec![v; len];
                    let pos = model.len() as u64;
                    assert_eq!(c.write(pos, &mut SliceSource::new(&data)), Ok(len));
                    model.extend(data);
                }
            }
            Op::Truncate { size } => {
                c.truncate(size).unwrap();
                model.resize(size as usize, 0);
                if backed {
                    // The file system tells the disk.
                    disk.0.lock().unwrap().truncate(size as usize);
                }
            }
            Op::Punch { pos, len } => {
                let r = c.punch_hole(pos, len);
                if backed {
                    assert_eq!(r, Err(Errno::EOPNOTSUPP));
                } else {
                    r.unwrap();
                    let lo = (pos as usize).min(model.len());
                    let hi = (lo + len as usize).min(model.len());
                    model[lo..hi].fill(0);
                }
            }
            Op::Allocate { pos, len } => {
                assert_eq!(c.allocate(pos, len).is_ok(), !backed);
            }
            Op::Load { pos } => {
                let want = if pos / PAGE * PAGE < model.len() as u64 {
                    Ok(())
                } else {
                    Err(FaultError::Bus)
                };
                let got = load(&mm, a + pos);
                assert_eq!(got.map(|_| ()), want);
                if let Some(v) = model.get(pos as usize) {
                    assert_eq!(got, Ok(*v));
                }
            }
            Op::Store { pos, v } => {
                let ok = pos / PAGE * PAGE < model.len() as u64;
                assert_eq!(store(&mm, a + pos, v).is_ok(), ok);
                if let Some(b) = model.get_mut(pos as usize) {
                    *b = v;
                }
            }
            Op::Sync => {
                c.sync().unwrap();
                if backed {
                    let mut d = disk.0.lock().unwrap().clone();
                    d.resize(model.len(), 0);
                    assert_eq!(d, model);
                }
            }
            Op::Reclaim => mm::frame::drop_caches(),
            Op::Copy { len } => {
                let d = PageCache::new_memory();
                d.copy_from(&c, len).unwrap();
                let n = model.len().min(len as usize);
                assert_eq!(content(&d, 0, MAX as usize * 2), model[..n]);
            }
        }
        assert_eq!(c.size(), model.len() as u64);
    }
    check_tlb(&mm);
    assert_eq!(content(&c, 0, 2 * MAX as usize), model);
    if !backed {
        // Everything that is not zero lies in data, and the two alternate.
        let mut at = 0;
        while let Ok(data) = c.next_data(at) {
            assert!(model[at as usize..data as usize].iter().all(|b| *b == 0));
            at = c.next_hole(data).unwrap();
            assert!(at > data);
        }
        assert!(
            model[(at as usize).min(model.len())..]
                .iter()
                .all(|b| *b == 0)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: std::env::var("CASES").map_or(128, |v| v.parse().unwrap()), max_shrink_iters: 4000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn memory_files_behave_like_a_vector(ops in ops()) {
        run(ops, false);
    }
    #[test]
    fn backed_files_behave_like_a_vector(ops in ops()) {
        run(ops, true);
    }
}
