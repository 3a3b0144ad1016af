//! What the tests share: a machine with memory, and a guest.
#![allow(dead_code)]

use hal::Prot;
use hal_fake::space::FakeSpace;
use mm::Mm;
use mm::aspace::{Backing, FaultError, Fixed, MapRequest, MmLimits, VmFlags};
use std::sync::{Arc, Once};

pub const PAGE: u64 = 4096;
pub const RW: Prot = Prot::READ.union(Prot::WRITE);
pub const LIMITS: MmLimits = MmLimits {
    address_space: u64::MAX,
    data: u64::MAX,
    stack: 8 << 20,
    memlock: u64::MAX,
};

pub fn start() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        let m = hal_fake::machine();
        // SAFETY: the only call, before anything else uses the memory.
        unsafe { mm::frame::init(m) }.unwrap();
    });
}

pub fn new_mm() -> Arc<Mm> {
    start();
    Mm::new(hal_fake::machine()).unwrap()
}

pub fn anon(addr: u64, len: u64, prot: Prot) -> MapRequest {
    MapRequest {
        addr,
        len,
        prot,
        flags: VmFlags::MAYWRITE | VmFlags::MAYEXEC,
        fixed: if addr == 0 { Fixed::No } else { Fixed::Replace },
        populate: false,
        backing: Backing::Anon,
    }
}

pub fn map(mm: &Mm, len: u64) -> u64 {
    mm.map(anon(0, len, RW), &LIMITS).unwrap()
}

pub fn space_of(mm: &Mm) -> &dyn hal::UserSpace {
    mm.space()
}

/// A guest access to one byte: faults as a real one, checks that the host's
/// view and the page table agree, and gives a pointer to the byte.
pub fn touch(mm: &Mm, addr: u64, access: Prot) -> Result<*mut u8, FaultError> {
    let space = mm.space();
    let fake = space.as_any().downcast_ref::<FakeSpace>().unwrap();
    for _ in 0..10 {
        if let Some(pfn) = fake.access(addr, access) {
            let (truth, prot) = mm.lookup(addr).expect("the host maps what is not there");
            assert_eq!(pfn, truth, "the host maps another frame at {addr:#x}");
            assert!(prot.contains(access), "the host allows more at {addr:#x}");
            // SAFETY: within a frame.
            return Ok(unsafe { pfn.as_ptr().add((addr % PAGE) as usize) });
        }
        mm.fault(addr, access, &LIMITS)?;
    }
    panic!("fault at {addr:#x} is not resolved");
}

pub fn load(mm: &Mm, addr: u64) -> Result<u8, FaultError> {
    // SAFETY: the frame is mapped; nobody else writes.
    touch(mm, addr, Prot::READ).map(|p| unsafe { *p })
}

pub fn store(mm: &Mm, addr: u64, v: u8) -> Result<(), FaultError> {
    // SAFETY: the frame is mapped; nobody else writes.
    touch(mm, addr, Prot::WRITE).map(|p| unsafe { *p = v })
}

/// What a CPU reaches that has not heard of queued requests yet.
pub fn stale(mm: &Mm, addr: u64, access: Prot) -> Option<hal::Pfn> {
    let space = mm.space();
    let fake = space.as_any().downcast_ref::<FakeSpace>().unwrap();
    fake.stale_access(addr, access)
}

/// Checks that every mapping of the host is covered by the page table.
pub fn check_tlb(mm: &Mm) {
    let space = mm.space();
    let fake = space.as_any().downcast_ref::<FakeSpace>().unwrap();
    for (a, pfn, prot) in fake.mappings() {
        let (truth, allowed) = mm
            .lookup(a)
            .unwrap_or_else(|| panic!("stale mapping at {a:#x}"));
        assert_eq!(pfn, truth, "stale frame at {a:#x}");
        assert!(allowed.contains(prot), "stale rights at {a:#x}");
    }
}
