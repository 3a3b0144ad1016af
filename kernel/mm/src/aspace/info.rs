//! What /proc shows.

use super::pt::{Owner, rights};
use super::vma::Show;
use super::{Mm, MmCounts, PAGE, VmaInfo};
use abi::{Errno, Result};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use hal::{Pfn, Prot};

impl Mm {
    /// All VMAs, ascending. `pages`: count resident pages too.
    pub fn vmas(&self, pages: bool) -> Result<Vec<VmaInfo>> {
        let vmas = self.vmas.read();
        let mut out = Vec::new();
        for v in vmas.iter() {
            let (mut resident, mut dirty) = (0, 0);
            if pages {
                self.pt.lock().each(v.start, v.end, |_, e| {
                    resident += 1;
                    dirty += e.is_dirty() as u64;
                });
            }
            let file = v.show.file();
            out.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            out.push(VmaInfo {
                start: v.start,
                end: v.end,
                prot: v.prot,
                flags: v.flags,
                offset: file.map_or(0, |f| f.offset),
                owner: file.and_then(|f| f.owner.clone()),
                name: v.name,
                resident_pages: resident,
                dirty_pages: dirty,
            });
        }
        Ok(out)
    }

    /// Frames that it holds: pages and page tables. Does not sleep.
    pub fn footprint(&self) -> u64 {
        let owners = [Owner::Anon, Owner::File, Owner::Shmem];
        let pages = owners.map(|o| self.rss[o as usize].load(Relaxed).max(0) as u64);
        pages.iter().sum::<u64>() + self.pt.lock().tables()
    }

    /// Counts. Waits for who changes the space.
    pub fn counts(&self) -> MmCounts {
        let vmas = self.vmas.read();
        let rss = |o: Owner| self.rss[o as usize].load(Relaxed).max(0) as u64;
        let mut c = MmCounts {
            total_vm: vmas.total,
            rss_anon: rss(Owner::Anon),
            rss_file: rss(Owner::File),
            rss_shmem: rss(Owner::Shmem),
            peak_rss: self.peak.load(Relaxed),
            data_vm: vmas.data,
            locked_vm: vmas.locked,
            page_tables: self.pt.lock().tables(),
            min_flt: self.min_flt.load(Relaxed),
            maj_flt: self.maj_flt.load(Relaxed),
            ..MmCounts::default()
        };
        for v in vmas.iter() {
            if v.is_stack() {
                c.stack_vm += v.pages();
            } else if v.prot.contains(Prot::EXEC) && matches!(v.show, Show::File(_)) {
                c.exec_vm += v.pages();
            }
        }
        c
    }

    /// The frame and rights that the page table has for `addr`; for tests.
    #[doc(hidden)]
    pub fn lookup(&self, addr: u64) -> Option<(Pfn, Prot)> {
        let e = self.pt.lock().get(addr & !(PAGE - 1))?;
        Some((e.pfn(), rights(e.prot())))
    }
}
