//! Files: read and write, mappings, truncation, write-back.

mod common;

use abi::{Errno, Result};
use common::*;
use hal::Prot;
use mm::aspace::{Backing, FaultError, MapRequest, VmFlags};
use mm::io::{SliceSink, SliceSource};
use mm::page_cache::{DirtyHook, PageSource};
use mm::{Mm, PageCache};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A file behind a cache.
struct Disk {
    data: Mutex<Vec<u8>>,
    reads: AtomicUsize,
    bytes_read: AtomicUsize,
    writable: bool,
    slow: bool,
}

impl Disk {
    fn new(data: Vec<u8>) -> Arc<Disk> {
        Arc::new(Disk {
            data: Mutex::new(data),
            reads: AtomicUsize::new(0),
            bytes_read: AtomicUsize::new(0),
            writable: true,
            slow: false,
        })
    }
}

impl PageSource for Disk {
    fn read_pages(&self, pos: u64, buf: &mut [u8]) -> Result {
        if self.slow {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.bytes_read.fetch_add(buf.len(), Ordering::SeqCst);
        assert_eq!(buf.len() % 4096, 0);
        let d = self.data.lock().unwrap();
        let start = (pos as usize).min(d.len());
        let end = (start + buf.len()).min(d.len());
        buf.fill(0);
        buf[..end - start].copy_from_slice(&d[start..end]);
        Ok(())
    }
    fn write_pages(&self, pos: u64, data: &[u8]) -> Result {
        if !self.writable {
            return Err(Errno::EROFS);
        }
        let mut d = self.data.lock().unwrap();
        let end = pos as usize + data.len();
        if d.len() < end {
            d.resize(end, 0);
        }
        d[pos as usize..end].copy_from_slice(data);
        Ok(())
    }
}

fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 7 + i / 4096) as u8).collect()
}

fn read(c: &PageCache, pos: u64, n: usize) -> Vec<u8> {
    let mut b = vec![0xaa; n];
    let got = c.read(pos, &mut SliceSink::new(&mut b)).unwrap();
    b.truncate(got);
    b
}

fn write(c: &PageCache, pos: u64, data: &[u8]) {
    assert_eq!(c.write(pos, &mut SliceSource::new(data)), Ok(data.len()));
}

fn map_file(mm: &Mm, c: &Arc<PageCache>, offset: u64, len: u64, prot: Prot, shared: bool) -> u64 {
    let mut flags = VmFlags::MAYWRITE | VmFlags::MAYEXEC;
    if shared {
        flags |= VmFlags::SHARED;
    }
    mm.map(
        MapRequest {
            flags,
            backing: Backing::File {
                cache: c.clone(),
                offset,
                owner: None,
            },
            ..anon(0, len, prot)
        },
        &LIMITS,
    )
    .unwrap()
}

#[test]
fn reading_a_file_reads_each_byte_once() {
    start();
    let data = pattern(1_000_001);
    let disk = Disk::new(data.clone());
    let c = PageCache::new_backed(disk.clone(), data.len() as u64);
    assert_eq!(read(&c, 0, 2_000_000), data);
    assert_eq!(read(&c, 0, 2_000_000), data);
    assert_eq!(read(&c, 999_999, 10), data[999_999..]);
    assert_eq!(read(&c, 1_000_001, 10), b"");
    assert_eq!(read(&c, u64::MAX, 10), b"");
    let pages = data.len().div_ceil(4096);
    assert_eq!(disk.bytes_read.load(Ordering::SeqCst), pages * 4096);
    assert!(disk.reads.load(Ordering::SeqCst) <= pages.div_ceil(32) + 3);
    assert_eq!(c.resident(), pages as u64);
}

#[test]
fn two_readers_of_a_page_read_it_once() {
    start();
    let data = pattern(4096 * 4);
    let disk = Arc::new(Disk {
        slow: true,
        ..Arc::into_inner(Disk::new(data.clone())).unwrap()
    });
    let c = PageCache::new_backed(disk.clone(), data.len() as u64);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (c, data) = (c.clone(), data.clone());
            std::thread::spawn(move || assert_eq!(read(&c, 0, 1 << 20), data))
        })
        .collect();
    for t in threads {
        t.join().unwrap();
    }
    assert_eq!(disk.reads.load(Ordering::SeqCst), 1);
}

#[test]
fn memory_files_have_holes() {
    start();
    let c = PageCache::new_memory();
    write(&c, 10 * PAGE + 5, b"hello");
    assert_eq!(c.size(), 10 * PAGE + 10);
    assert_eq!(c.resident(), 1);
    assert_eq!(read(&c, 0, 8), [0; 8]);
    assert_eq!(read(&c, 10 * PAGE, 100), b"\0\0\0\0\0hello");
    assert_eq!(read(&c, 10 * PAGE - 3, 100), b"\0\0\0\0\0\0\0\0hello");
    assert_eq!(c.next_data(0), Ok(10 * PAGE));
    assert_eq!(c.next_hole(0), Ok(0));
    assert_eq!(c.next_hole(10 * PAGE), Ok(10 * PAGE + 10));
    assert_eq!(c.next_data(10 * PAGE + 10), Err(Errno::ENXIO));
    c.allocate(0, 3 * PAGE).unwrap();
    assert_eq!(c.resident(), 4);
    assert_eq!(c.next_hole(0), Ok(3 * PAGE));
    c.punch_hole(100, 2 * PAGE).unwrap();
    assert_eq!(c.resident(), 3);
    c.truncate(0).unwrap();
    assert_eq!(c.resident(), 0);
    assert_eq!(c.allocate(0, u64::MAX), Err(Errno::EFBIG));
    assert_eq!(c.allocate(0, 1 << 50), Err(Errno::ENOSPC));
    assert_eq!(c.truncate(u64::MAX), Err(Errno::EFBIG));
    assert_eq!(
        c.write(i64::MAX as u64, &mut SliceSource::new(b"x")),
        Err(Errno::EFBIG)
    );
}

#[test]
fn a_shrunk_file_grows_with_zeros() {
    start();
    let c = PageCache::new_memory();
    write(&c, 0, &[1; 10000]);
    c.truncate(5000).unwrap();
    c.truncate(10000).unwrap();
    let mut want = vec![1; 5000];
    want.resize(10000, 0);
    assert_eq!(read(&c, 0, 20000), want);

    // Bytes that a mapping left behind the end do not show either.
    let mm = new_mm();
    c.truncate(5000).unwrap();
    let a = map_file(&mm, &c, 0, 8192, RW, true);
    store(&mm, a + 6000, 9).unwrap();
    write(&c, 7000, b"x");
    assert_eq!(read(&c, 6000, 1), [0]);
    assert_eq!(read(&c, 7000, 1), b"x");
}

#[test]
fn mappings_and_files_show_the_same_bytes() {
    let mm = new_mm();
    let other = new_mm();
    let c = PageCache::new_memory();
    write(&c, 0, &pattern(40 * 4096));
    let a = map_file(&mm, &c, 4 * PAGE, 16 * PAGE, RW, true);
    let b = map_file(&other, &c, 0, 40 * PAGE, Prot::READ, true);
    let p = map_file(&other, &c, 0, 40 * PAGE, RW, false);
    assert_eq!(load(&mm, a), Ok(pattern(40 * 4096)[4 * 4096]));
    store(&mm, a + 3, 0x55).unwrap();
    assert_eq!(load(&other, b + 4 * PAGE + 3), Ok(0x55));
    assert_eq!(load(&other, p + 4 * PAGE + 3), Ok(0x55));
    assert_eq!(read(&c, 4 * PAGE + 3, 1), [0x55]);
    write(&c, 4 * PAGE + 4, b"\x66");
    assert_eq!(load(&mm, a + 4), Ok(0x66));
    // A private write stays private, and hides later changes of the file.
    store(&other, p + 4 * PAGE + 3, 0x77).unwrap();
    assert_eq!(load(&mm, a + 3), Ok(0x55));
    store(&mm, a + 3, 0x56).unwrap();
    assert_eq!(load(&other, p + 4 * PAGE + 3), Ok(0x77));
    assert_eq!(load(&other, b + 4 * PAGE + 3), Ok(0x56));
    assert_eq!(store(&other, b, 1), Err(FaultError::Segv(2)));
    assert_eq!(
        mm.futex_key(a + 4, false).unwrap(),
        other.futex_key(b + 4 * PAGE + 4, false).unwrap()
    );
    assert_ne!(
        mm.futex_key(a + 4, true).unwrap(),
        other.futex_key(b + 4 * PAGE + 4, true).unwrap()
    );
    check_tlb(&mm);
    check_tlb(&other);
}

#[test]
fn truncation_takes_pages_out_of_mappings() {
    let mm = new_mm();
    let c = PageCache::new_memory();
    write(&c, 0, &[1; 10 * 4096]);
    let s = map_file(&mm, &c, 0, 10 * PAGE, RW, true);
    let p = map_file(&mm, &c, 2 * PAGE, 8 * PAGE, RW, false);
    for i in 0..10 {
        store(&mm, s + i * PAGE, 2).unwrap();
    }
    store(&mm, p + 3 * PAGE, 3).unwrap();
    c.truncate(4 * PAGE + 100).unwrap();
    check_tlb(&mm);
    assert_eq!(load(&mm, s + 4 * PAGE), Ok(2));
    assert_eq!(load(&mm, s + 4 * PAGE + 100), Ok(0));
    assert_eq!(load(&mm, s + 5 * PAGE), Err(FaultError::Bus));
    assert_eq!(load(&mm, p + 3 * PAGE), Err(FaultError::Bus));
    assert_eq!(load(&mm, p + 2 * PAGE), Ok(2));
    let mut b = [0; 8];
    assert_eq!(mm.read(s + 5 * PAGE, &mut b), Err(Errno::EFAULT));
    c.truncate(10 * PAGE).unwrap();
    assert_eq!(load(&mm, s + 5 * PAGE), Ok(0));
    assert_eq!(load(&mm, p + 3 * PAGE), Ok(0));
    // A hole, on the other hand, leaves private copies alone.
    store(&mm, p, 7).unwrap();
    store(&mm, s + 3 * PAGE, 8).unwrap();
    c.punch_hole(0, 10 * PAGE).unwrap();
    assert_eq!(load(&mm, p), Ok(7));
    assert_eq!(load(&mm, s + 3 * PAGE), Ok(0));
    check_tlb(&mm);
}

#[test]
fn dirty_pages_are_written_back_and_noticed_again() {
    struct Hook(AtomicUsize);
    impl DirtyHook for Hook {
        fn dirtied(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let mm = new_mm();
    let disk = Disk::new(pattern(8 * 4096));
    let c = PageCache::new_backed(disk.clone(), 8 * PAGE);
    let hook = Arc::new(Hook(AtomicUsize::new(0)));
    c.set_dirty_hook(hook.clone());
    let a = map_file(&mm, &c, 0, 8 * PAGE, RW, true);
    assert_eq!(load(&mm, a), Ok(0));
    assert_eq!(hook.0.load(Ordering::SeqCst), 0);
    store(&mm, a + PAGE, 0xee).unwrap();
    assert_eq!(hook.0.load(Ordering::SeqCst), 1);
    c.sync().unwrap();
    assert_eq!(disk.data.lock().unwrap()[4096], 0xee);
    check_tlb(&mm);
    store(&mm, a + PAGE, 0xef).unwrap();
    assert_eq!(hook.0.load(Ordering::SeqCst), 2);
    mm.msync(a, 8 * PAGE, 4).unwrap();
    assert_eq!(disk.data.lock().unwrap()[4096], 0xef);
    write(&c, 3, b"abc");
    write(&c, 8 * PAGE - 1, b"xyz");
    c.sync().unwrap();
    assert_eq!(disk.data.lock().unwrap().len(), 8 * 4096 + 2);
    assert_eq!(&disk.data.lock().unwrap()[3..6], b"abc");
    assert_eq!(&disk.data.lock().unwrap()[8 * 4096 - 1..], b"xyz");
}

#[test]
fn a_changed_file_is_read_again() {
    let mm = new_mm();
    let disk = Disk::new(pattern(40 * 4096));
    let c = PageCache::new_backed(disk.clone(), 40 * PAGE);
    let a = map_file(&mm, &c, 0, 40 * PAGE, RW, false);
    store(&mm, a + 39 * PAGE, 1).unwrap();
    assert_eq!(load(&mm, a), Ok(0));
    *disk.data.lock().unwrap() = vec![9; 2 * 4096];
    c.invalidate(2 * PAGE);
    check_tlb(&mm);
    assert_eq!(read(&c, 0, 100_000), vec![9; 8192]);
    assert_eq!(load(&mm, a), Ok(9));
    assert_eq!(load(&mm, a + 2 * PAGE), Err(FaultError::Bus));
}

#[test]
fn errors_of_the_source_reach_the_caller() {
    struct Bad;
    impl PageSource for Bad {
        fn read_pages(&self, pos: u64, buf: &mut [u8]) -> Result {
            // The third page cannot be read.
            if pos + buf.len() as u64 > 2 * PAGE {
                return Err(Errno::EIO);
            }
            buf.fill(5);
            Ok(())
        }
    }
    let mm = new_mm();
    let c = PageCache::new_backed(Arc::new(Bad), 3 * PAGE);
    assert_eq!(read(&c, 0, 10), [5; 10]);
    assert_eq!(read(&c, 0, 100_000), vec![5; 8192]);
    let mut b = [0; 4];
    assert_eq!(
        c.read(2 * PAGE, &mut SliceSink::new(&mut b)),
        Err(Errno::EIO)
    );
    let a = map_file(&mm, &c, 0, 3 * PAGE, Prot::READ, false);
    assert_eq!(load(&mm, a), Ok(5));
    assert_eq!(load(&mm, a + 2 * PAGE), Err(FaultError::Bus));
}

#[test]
fn copies_take_data_and_holes_over() {
    start();
    let disk = Disk::new(pattern(300_000));
    let lower = PageCache::new_backed(disk, 300_000);
    let upper = PageCache::new_memory();
    upper.copy_from(&lower, u64::MAX).unwrap();
    assert_eq!(read(&upper, 0, 400_000), pattern(300_000));
    let part = PageCache::new_memory();
    part.copy_from(&upper, 10_000).unwrap();
    assert_eq!(read(&part, 0, 400_000), pattern(300_000)[..10_000]);
    let sparse = PageCache::new_memory();
    write(&sparse, 1 << 20, b"end");
    let copy = PageCache::new_memory();
    copy.copy_from(&sparse, u64::MAX).unwrap();
    assert_eq!(copy.resident(), 1);
    assert_eq!(copy.size(), (1 << 20) + 3);
    assert_eq!(read(&copy, 1 << 20, 10), b"end");
}

#[test]
fn a_file_may_be_read_into_its_own_mapping() {
    let mm = new_mm();
    let disk = Disk::new(pattern(64 * 4096));
    let c = PageCache::new_backed(disk, 64 * PAGE);
    let a = map_file(&mm, &c, 0, 64 * PAGE, RW, true);
    let mut io = mm::user::UserIo::new(&mm, a + 100, 50 * PAGE).unwrap();
    assert_eq!(c.read(0, &mut io), Ok(50 * 4096));
    let p = map_file(&mm, &c, 0, 64 * PAGE, RW, false);
    let mut io = mm::user::UserIo::new(&mm, p, 8 * PAGE).unwrap();
    assert_eq!(c.write(60 * PAGE, &mut io), Ok(8 * 4096));
    assert_eq!(c.size(), 68 * PAGE);
    check_tlb(&mm);
}

#[test]
fn a_write_that_faults_half_way_writes_the_first_half() {
    let mm = new_mm();
    let a = map(&mm, 4 * PAGE);
    mm.unmap(a + 3 * PAGE, PAGE).unwrap();
    for backed in [false, true] {
        mm.write(a, &[3; 3 * 4096]).unwrap();
        let c = if backed {
            PageCache::new_backed(Disk::new(vec![1; 8 * 4096]), 8 * PAGE)
        } else {
            let c = PageCache::new_memory();
            write(&c, 0, &[1; 8 * 4096]);
            c.punch_hole(2 * PAGE, 4 * PAGE).unwrap();
            c
        };
        let mut io = mm::user::UserIo::new(&mm, a + PAGE, 4 * PAGE).unwrap();
        assert_eq!(c.write(2 * PAGE, &mut io), Ok(2 * 4096));
        assert_eq!(read(&c, 2 * PAGE, 8192), vec![3; 8192]);
        let mut io = mm::user::UserIo::new(&mm, a + 2 * PAGE + 96, 4 * PAGE).unwrap();
        assert_eq!(c.write(4 * PAGE, &mut io), Ok(4000));
        let rest = read(&c, 4 * PAGE + 4000, 96);
        assert_eq!(rest, vec![if backed { 1 } else { 0 }; 96]);
        let mut io = mm::user::UserIo::new(&mm, a + 3 * PAGE, PAGE).unwrap();
        assert_eq!(c.write(0, &mut io), Err(Errno::EFAULT));
        let mut io = mm::user::UserIo::new(&mm, a + 2 * PAGE, 3 * PAGE).unwrap();
        assert_eq!(c.read(0, &mut io), Ok(4096));
    }
}
