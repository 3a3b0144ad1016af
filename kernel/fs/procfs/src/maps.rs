//! /proc/PID/maps, smaps, smaps_rollup.

use crate::pid::visible_name;
use crate::who::Who;
use abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use hal::Prot;
use mm::Mm;
use mm::aspace::{VmFlags, VmaInfo};
use vfs::File;
use vfs::text::Text;

fn space(who: &Who) -> Result<Option<Arc<Mm>>> {
    who.current_may_look()?;
    Ok(who.live_task()?.mm())
}

/// One line of maps, as proc_pid_maps(5) lays it out.
fn line(v: &VmaInfo, out: &mut Text) -> fmt::Result {
    let bit = |p: Prot, c: char| if v.prot.contains(p) { c } else { '-' };
    let share = if v.flags.contains(VmFlags::SHARED) {
        's'
    } else {
        'p'
    };
    let file = v.owner.clone().and_then(|o| o.downcast::<File>().ok());
    let (dev, ino) = match file.as_ref().map(|f| f.inode.attr()) {
        Some(Ok(a)) => (a.dev, a.ino),
        _ => (0, 0),
    };
    let start = out.len();
    write!(
        out,
        "{:08x}-{:08x} {}{}{}{share} {:08x} {:02x}:{:02x} {ino} ",
        v.start,
        v.end,
        bit(Prot::READ, 'r'),
        bit(Prot::WRITE, 'w'),
        bit(Prot::EXEC, 'x'),
        v.offset,
        abi::stat::major(dev),
        abi::stat::minor(dev),
    )?;
    let name = match (&file, v.name) {
        (_, Some(n)) => n.as_bytes().to_vec(),
        (Some(f), None) => match &f.path {
            Some(p) => visible_name(p),
            None => f.ops.anon_name().unwrap_or_default(),
        },
        (None, None) => Vec::new(),
    };
    if !name.is_empty() {
        // The name starts in column 73.
        out.pad(start + 73, b' ')?;
        for part in name.split_inclusive(|b| *b == b'\n') {
            match part.split_last() {
                Some((b'\n', line)) => {
                    out.bytes(line)?;
                    out.bytes(b"\\012")?;
                }
                _ => out.bytes(part)?,
            }
        }
    }
    out.bytes(b"\n")
}

pub(crate) fn maps(who: &Who) -> Result<Vec<u8>> {
    let mut out = Text::default();
    if let Some(mm) = space(who)? {
        for v in mm.vmas(false)? {
            if line(&v, &mut out).is_err() {
                break;
            }
        }
    }
    out.finish()
}

/// Sizes of one VMA, or of several added up, in KiB.
#[derive(Default)]
struct Sizes {
    size: u64,
    rss: u64,
    dirty: u64,
    anon: u64,
    shared: bool,
    locked: bool,
}

impl Sizes {
    fn add(&mut self, v: &VmaInfo) {
        let rss = v.resident_pages * 4;
        let dirty = v.dirty_pages * 4;
        self.size += (v.end - v.start) / 1024;
        self.rss += rss;
        self.dirty += dirty;
        self.anon += if v.owner.is_none() { rss } else { dirty };
        self.shared |= v.flags.contains(VmFlags::SHARED);
        self.locked |= v.flags.contains(VmFlags::LOCKED);
    }
    /// The rows; which of them only rollup or only smaps has is the caller's.
    fn rows(&self, out: &mut Text) -> fmt::Result {
        let clean = self.rss.saturating_sub(self.dirty);
        let (sc, sd, pc, pd) = if self.shared {
            (clean, self.dirty, 0, 0)
        } else {
            (0, 0, clean, self.dirty)
        };
        let rows: &[(&str, u64)] = &[
            ("Rss", self.rss),
            ("Pss", self.rss),
            ("Pss_Dirty", self.dirty),
            ("Shared_Clean", sc),
            ("Shared_Dirty", sd),
            ("Private_Clean", pc),
            ("Private_Dirty", pd),
            ("Referenced", self.rss),
            ("Anonymous", self.anon),
            ("LazyFree", 0),
            ("AnonHugePages", 0),
            ("ShmemPmdMapped", 0),
            ("FilePmdMapped", 0),
            ("Shared_Hugetlb", 0),
            ("Private_Hugetlb", 0),
            ("Swap", 0),
            ("SwapPss", 0),
            ("Locked", if self.locked { self.rss } else { 0 }),
        ];
        for (name, kib) in rows {
            row(name, *kib, out)?;
        }
        Ok(())
    }
}

fn row(name: &str, kib: u64, out: &mut Text) -> fmt::Result {
    let start = out.len();
    write!(out, "{name}:")?;
    out.pad(start + 16, b' ')?;
    writeln!(out, " {kib:>7} kB")
}

fn flag_words(v: &VmaInfo, out: &mut Text) -> fmt::Result {
    let _ = out.write_str("VmFlags:");
    // A failure shows in the end.
    let mut add = |on: bool, word: &str| {
        if on {
            let _ = write!(out, " {word}");
        }
    };
    add(v.prot.contains(Prot::READ), "rd");
    add(v.prot.contains(Prot::WRITE), "wr");
    add(v.prot.contains(Prot::EXEC), "ex");
    add(v.flags.contains(VmFlags::SHARED), "sh");
    add(true, "mr");
    add(v.flags.contains(VmFlags::MAYWRITE), "mw");
    add(v.flags.contains(VmFlags::MAYEXEC), "me");
    add(v.flags.contains(VmFlags::GROWSDOWN), "gd");
    add(v.flags.contains(VmFlags::LOCKED), "lo");
    add(v.flags.contains(VmFlags::DONTFORK), "dc");
    add(v.flags.contains(VmFlags::WIPEONFORK), "wf");
    add(v.flags.contains(VmFlags::DONTDUMP), "dd");
    add(v.flags.contains(VmFlags::NORESERVE), "nr");
    out.write_str(" \n")
}

/// What smaps has for one VMA.
fn block(v: &VmaInfo, out: &mut Text) -> fmt::Result {
    line(v, out)?;
    let mut s = Sizes::default();
    s.add(v);
    for (name, kib) in [("Size", s.size), ("KernelPageSize", 4), ("MMUPageSize", 4)] {
        row(name, kib, out)?;
    }
    s.rows(out)?;
    out.write_str("THPeligible:           0\n")?;
    flag_words(v, out)
}

pub(crate) fn smaps(who: &Who) -> Result<Vec<u8>> {
    let mut out = Text::default();
    if let Some(mm) = space(who)? {
        for v in mm.vmas(true)? {
            if block(&v, &mut out).is_err() {
                break;
            }
        }
    }
    out.finish()
}

pub(crate) fn smaps_rollup(who: &Who) -> Result<Vec<u8>> {
    let mm = space(who)?.ok_or(Errno::ESRCH)?;
    let vmas = mm.vmas(true)?;
    let mut s = Sizes::default();
    for v in &vmas {
        s.add(v);
    }
    s.shared = false;
    let start = vmas.first().map_or(0, |v| v.start);
    let end = vmas.last().map_or(0, |v| v.end);
    let mut out = Text::default();
    let _ = write!(out, "{start:08x}-{end:08x} ---p 00000000 00:00 0 ");
    let _ = out.pad(73, b' ');
    let _ = out.write_str("[rollup]\n");
    let _ = s.rows(&mut out);
    out.finish()
}
