//! Random changes of address spaces against a byte map.

mod common;

use abi::Errno;
use common::*;
use hal::Prot;
use hal_fake::space::FakeSpace;
use mm::aspace::{Backing, FaultError, Fixed, MapRequest, VmFlags, Writers};
use mm::io::SliceSource;
use mm::{Mm, PageCache};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

const BASE: u64 = 0x10_0000_0000;
/// Pages of the window that is played in.
const N: u64 = 96;

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Anon,
    Shared,
    FilePrivate,
    FileShared,
}

#[derive(Clone, Debug)]
enum Op {
    Map {
        at: u64,
        n: u64,
        prot: u32,
        what: What,
    },
    MapAnywhere {
        n: u64,
    },
    Unmap {
        at: u64,
        n: u64,
    },
    Protect {
        at: u64,
        n: u64,
        prot: u32,
    },
    Store {
        at: u64,
        v: u8,
    },
    Load {
        at: u64,
    },
    KernelWrite {
        at: u64,
        off: u64,
        len: usize,
        v: u8,
    },
    Remap {
        at: u64,
        n: u64,
        to: u64,
        m: u64,
        keep: bool,
    },
    Grow {
        at: u64,
        n: u64,
        m: u64,
    },
    DontNeed {
        at: u64,
        n: u64,
    },
    DropTlb,
    Fork,
    Switch,
    Exit,
    FileWrite {
        at: u64,
        v: u8,
    },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let at = 0..N;
    let n = prop_oneof![1..4u64, 1..40u64];
    let prot = prop_oneof![Just(3u32), Just(3), Just(1), Just(0), Just(7), Just(5)];
    let what = prop_oneof![
        3 => Just(What::Anon),
        1 => Just(What::Shared),
        1 => Just(What::FilePrivate),
        1 => Just(What::FileShared)
    ];
    let op = prop_oneof![
        4 => (at.clone(), n.clone(), prot.clone(), what)
            .prop_map(|(at, n, prot, what)| Op::Map { at, n, prot, what }),
        1 => n.clone().prop_map(|n| Op::MapAnywhere { n }),
        2 => (at.clone(), n.clone()).prop_map(|(at, n)| Op::Unmap { at, n }),
        2 => (at.clone(), n.clone(), prot).prop_map(|(at, n, prot)| Op::Protect { at, n, prot }),
        12 => (at.clone(), any::<u8>()).prop_map(|(at, v)| Op::Store { at, v }),
        8 => at.clone().prop_map(|at| Op::Load { at }),
        2 => (at.clone(), 0..4096u64, 0..20000usize, any::<u8>())
            .prop_map(|(at, off, len, v)| Op::KernelWrite { at, off, len, v }),
        2 => (at.clone(), 1..8u64, at.clone(), 1..12u64, any::<bool>())
            .prop_map(|(at, n, to, m, keep)| Op::Remap { at, n, to, m, keep }),
        1 => (at.clone(), 1..8u64, 1..12u64).prop_map(|(at, n, m)| Op::Grow { at, n, m }),
        2 => (at.clone(), n).prop_map(|(at, n)| Op::DontNeed { at, n }),
        1 => Just(Op::DropTlb),
        2 => Just(Op::Fork),
        2 => Just(Op::Switch),
        1 => Just(Op::Exit),
        1 => (at, any::<u8>()).prop_map(|(at, v)| Op::FileWrite { at, v }),
    ];
    prop::collection::vec(op, 1..120)
}

/// Where the bytes of a page are: only the first byte of each page is followed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Store {
    /// Private byte.
    Own(u8),
    /// Page of the file, not written privately.
    File(u64),
    /// Shared anonymous page, by identity.
    Shared(usize, u64),
}

#[derive(Clone, Copy, Debug)]
struct Page {
    prot: u32,
    store: Store,
    /// What DONTNEED goes back to.
    origin: Store,
    private: bool,
}

#[derive(Clone, Default)]
struct Space {
    pages: BTreeMap<u64, Page>,
}

struct World {
    file: Vec<u8>,
    shared: BTreeMap<(usize, u64), u8>,
    next: usize,
}

impl World {
    fn get(&self, p: &Page) -> u8 {
        match p.store {
            Store::Own(v) => v,
            Store::File(i) => self.file[i as usize],
            Store::Shared(id, i) => self.shared.get(&(id, i)).copied().unwrap_or(0),
        }
    }
    fn set(&mut self, p: &mut Page, v: u8) {
        if p.private {
            p.store = Store::Own(v);
        } else {
            match p.store {
                Store::Own(_) => unreachable!(),
                Store::File(i) => self.file[i as usize] = v,
                Store::Shared(id, i) => {
                    self.shared.insert((id, i), v);
                }
            }
        }
    }
}

fn clip(at: u64, n: u64) -> u64 {
    n.min(N - at)
}

fn addr(at: u64) -> u64 {
    BASE + at * PAGE
}

fn expect(p: Option<&Page>, access: u32) -> Result<(), FaultError> {
    match p {
        None => Err(FaultError::Segv(1)),
        Some(p) => {
            let prot = if p.prot == 0 { 0 } else { p.prot | 1 };
            if prot & access == access {
                Ok(())
            } else {
                Err(FaultError::Segv(2))
            }
        }
    }
}

fn run(ops: Vec<Op>) {
    start();
    let cache = PageCache::new_memory();
    let init: Vec<u8> = (0..N * PAGE).map(|i| (i / PAGE) as u8).collect();
    cache.write(0, &mut SliceSource::new(&init)).unwrap();
    let mut world = World {
        file: (0..N).map(|i| i as u8).collect(),
        shared: BTreeMap::new(),
        next: 0,
    };
    let mut spaces: Vec<(Arc<Mm>, Space)> = vec![(new_mm(), Space::default())];
    let mut cur = 0;
    for op in ops {
        let (mm, model) = &mut spaces[cur];
        match op {
            Op::Map { at, n, prot, what } => {
                let n = clip(at, n);
                let shared = matches!(what, What::Shared | What::FileShared);
                let mut flags = VmFlags::MAYWRITE | VmFlags::MAYEXEC;
                if shared {
                    flags |= VmFlags::SHARED;
                }
                let backing = match what {
                    What::Anon | What::Shared => Backing::Anon,
                    _ => Backing::File {
                        cache: cache.clone(),
                        offset: at * PAGE,
                        owner: None,
                    },
                };
                let req = MapRequest {
                    addr: addr(at),
                    len: n * PAGE - 7,
                    prot: Prot::from_bits_truncate(prot),
                    flags,
                    fixed: Fixed::Replace,
                    populate: false,
                    backing,
                };
                assert_eq!(mm.map(req, &LIMITS), Ok(addr(at)));
                world.next += 1;
                for i in at..at + n {
                    let store = match what {
                        What::Anon => Store::Own(0),
                        What::Shared => Store::Shared(world.next, i),
                        _ => Store::File(i),
                    };
                    model.pages.insert(
                        i,
                        Page {
                            prot,
                            store,
                            origin: store,
                            private: !shared,
                        },
                    );
                }
            }
            Op::MapAnywhere { n } => {
                let a = mm.map(anon(0, n * PAGE, RW), &LIMITS).unwrap();
                assert!(!(BASE..addr(N)).contains(&a));
                store(mm, a, 1).unwrap();
                mm.unmap(a, n * PAGE).unwrap();
            }
            Op::Unmap { at, n } => {
                mm.unmap(addr(at), clip(at, n) * PAGE).unwrap();
                for i in at..at + clip(at, n) {
                    model.pages.remove(&i);
                }
            }
            Op::Protect { at, n, prot } => {
                let n = clip(at, n);
                let r = mm.protect(addr(at), n * PAGE, Prot::from_bits_truncate(prot));
                let mut want = Ok(());
                for i in at..at + n {
                    match model.pages.get_mut(&i) {
                        Some(p) => p.prot = prot,
                        None => {
                            want = Err(Errno::ENOMEM);
                            break;
                        }
                    }
                }
                assert_eq!(r, want);
            }
            Op::Store { at, v } => {
                let want = expect(model.pages.get(&at), 2);
                assert_eq!(store(mm, addr(at), v), want);
                if want.is_ok() {
                    world.set(model.pages.get_mut(&at).unwrap(), v);
                }
            }
            Op::Load { at } => {
                let want = expect(model.pages.get(&at), 1);
                let got = load(mm, addr(at));
                assert_eq!(got, want.map(|()| world.get(&model.pages[&at])));
            }
            Op::KernelWrite { at, off, len, v } => {
                let buf = vec![v; len];
                let r = mm.write(addr(at) + off, &buf);
                let mut ok = true;
                if len > 0 {
                    let last = (addr(at) + off + len as u64 - 1 - BASE) / PAGE;
                    for i in at..=last {
                        match model.pages.get_mut(&i) {
                            Some(p) if expect(Some(&*p), 2).is_ok() => {
                                if i > at || off == 0 {
                                    world.set(p, v);
                                } else if p.private && !matches!(p.store, Store::Own(_)) {
                                    let old = world.get(p);
                                    world.set(p, old);
                                }
                            }
                            _ => {
                                ok = false;
                                break;
                            }
                        }
                    }
                }
                assert_eq!(r, if ok { Ok(()) } else { Err(Errno::EFAULT) });
            }
            Op::Remap { at, n, to, m, keep } => {
                let n = clip(at, n);
                let m = clip(to, if keep { n } else { m });
                let n = if keep { m } else { n };
                let flags = 1 | 2 | if keep { 4 } else { 0 };
                let r = mm.remap(addr(at), n * PAGE, m * PAGE, flags, addr(to), &LIMITS);
                let overlap = at < to + m && to < at + n;
                // One VMA must cover all: pages of the same kind, contiguous in their object.
                let vmas = mm.vmas(false).unwrap();
                if overlap {
                    assert_eq!(r, Err(Errno::EINVAL));
                    continue;
                }
                match r {
                    Ok(a) => {
                        assert_eq!(a, addr(to));
                        let moved: Vec<Page> = (at..at + n)
                            .map(|i| *model.pages.get(&i).expect("moved what was not there"))
                            .collect();
                        for i in to..to + m {
                            model.pages.remove(&i);
                        }
                        for (k, p) in moved.iter().enumerate() {
                            let k = k as u64;
                            if k < m {
                                model.pages.insert(to + k, *p);
                            }
                            if keep {
                                model.pages.get_mut(&(at + k)).unwrap().store = p.origin;
                            } else {
                                model.pages.remove(&(at + k));
                            }
                        }
                        // What has been added continues the last page.
                        let last = moved[n as usize - 1];
                        for k in n..m {
                            let more = k - (n - 1);
                            let s = match last.origin {
                                Store::Own(_) => Store::Own(0),
                                Store::File(i) => Store::File(i + more),
                                Store::Shared(id, i) => Store::Shared(id, i + more),
                            };
                            let beyond = match s {
                                Store::File(i) => i >= N,
                                // Shared anonymous memory does not grow by moving.
                                Store::Shared(..) => true,
                                Store::Own(_) => false,
                            };
                            if beyond {
                                mm.unmap(addr(to + k), PAGE).unwrap();
                                continue;
                            }
                            model.pages.insert(
                                to + k,
                                Page {
                                    store: s,
                                    origin: s,
                                    ..last
                                },
                            );
                        }
                    }
                    Err(Errno::EFAULT) => {
                        let a = addr(at);
                        let one = vmas.iter().any(|v| v.start <= a && a + n * PAGE <= v.end);
                        assert!(!one, "EFAULT for a single VMA");
                    }
                    Err(e) => panic!("mremap: {e}"),
                }
            }
            Op::Grow { at, n, m } => {
                let n = clip(at, n);
                let r = mm.remap(addr(at), n * PAGE, m * PAGE, 0, 0, &LIMITS);
                match r {
                    Ok(a) => {
                        assert_eq!(a, addr(at));
                        if m < n {
                            for i in at + m..at + n {
                                model.pages.remove(&i);
                            }
                        } else if m > n {
                            // Grown: may have left the window; take it back.
                            mm.unmap(addr(at + n), (m - n) * PAGE).unwrap();
                            for i in at + n..at + m {
                                assert!(!model.pages.contains_key(&i));
                            }
                        }
                    }
                    Err(e) => assert!(matches!(e, Errno::ENOMEM | Errno::EFAULT), "{e}"),
                }
            }
            Op::DontNeed { at, n } => {
                let n = clip(at, n);
                let r = mm.advise(addr(at), n * PAGE, 4);
                let mut want = Ok(());
                for i in at..at + n {
                    match model.pages.get_mut(&i) {
                        Some(p) => p.store = p.origin,
                        None => want = Err(Errno::ENOMEM),
                    }
                }
                assert_eq!(r, want);
            }
            Op::DropTlb => {
                let s = mm.space();
                s.as_any()
                    .downcast_ref::<FakeSpace>()
                    .unwrap()
                    .drop_mappings();
            }
            Op::Fork => {
                if spaces.len() < 4 {
                    let child = spaces[cur].0.fork(Writers::None).unwrap();
                    let model = spaces[cur].1.clone();
                    spaces.push((child, model));
                }
            }
            Op::Switch => cur = (cur + 1) % spaces.len(),
            Op::Exit => {
                if spaces.len() > 1 {
                    let (mm, _) = spaces.remove(cur);
                    mm.release();
                    assert_eq!(mm.counts().total_vm, 0);
                    assert_eq!(mm.counts().rss_anon, 0);
                    assert_eq!(mm.counts().page_tables, 0);
                    cur %= spaces.len();
                }
            }
            Op::FileWrite { at, v } => {
                cache.write(at * PAGE, &mut SliceSource::new(&[v])).unwrap();
                world.file[at as usize] = v;
            }
        }
    }
    for (mm, model) in &spaces {
        check_tlb(mm);
        for i in 0..N {
            let want = expect(model.pages.get(&i), 1);
            assert_eq!(
                load(mm, addr(i)),
                want.map(|()| world.get(&model.pages[&i])),
                "page {i}"
            );
        }
        check_tlb(mm);
        let total: u64 = mm
            .vmas(false)
            .unwrap()
            .iter()
            .map(|v| (v.end - v.start) / PAGE)
            .sum();
        assert_eq!(mm.counts().total_vm, total);
        assert_eq!(total, model.pages.len() as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: std::env::var("CASES").map_or(256, |v| v.parse().unwrap()), max_shrink_iters: 4000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn address_spaces_behave_like_a_byte_map(ops in ops()) {
        run(ops);
    }
}
