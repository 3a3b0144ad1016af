//! What the engine wants to know from the host's file system. It is read once, before
//! the kernel process gives up its access there.

use host_sys::fd;

/// Facts about the host, and a way to look at its processes.
#[derive(Clone, Copy, Debug)]
pub struct HostFacts {
    /// Lowest address that can be mapped.
    pub(crate) min_addr: u64,
    /// Mappings of a process at which everything is dropped.
    pub(crate) map_limit: usize,
    /// Where the vDSO and its pages are; both 0 if there is none.
    pub(crate) vdso: (u64, u64),
    /// `/proc`, -1 if there is none.
    pub(crate) proc_dir: i32,
}

impl HostFacts {
    /// Reads them.
    pub fn read() -> HostFacts {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        HostFacts {
            min_addr: number_in(c"/proc/sys/vm/mmap_min_addr")
                .unwrap_or(0x1_0000)
                .next_multiple_of(hal::PAGE_SIZE as u64)
                .max(hal::PAGE_SIZE as u64),
            map_limit: number_in(c"/proc/sys/vm/max_map_count")
                .unwrap_or(65_530)
                .saturating_sub(600)
                .max(200) as usize,
            vdso: vdso_range(),
            proc_dir: fd::open(c"/proc", flags, 0).unwrap_or(-1),
        }
    }

    /// Descriptor of the directory below which the engine reads files, -1 if there is
    /// none: the host's `/proc`, which tells what threads of user processes do.
    pub fn proc_dir(&self) -> i32 {
        self.proc_dir
    }
}

/// Where the host has put its vDSO and the pages that belong to it.
fn vdso_range() -> (u64, u64) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut range = (u64::MAX, 0);
    for line in maps.lines() {
        if line.ends_with("[vdso]") || line.contains("[vvar") {
            let parts = line.split([' ', '-']).map(|s| u64::from_str_radix(s, 16));
            if let [Ok(from), Ok(to)] = parts.take(2).collect::<Vec<_>>()[..] {
                range = (range.0.min(from), range.1.max(to));
            }
        }
    }
    if range.0 < range.1 { range } else { (0, 0) }
}

/// A decimal number in a small file.
fn number_in(path: &core::ffi::CStr) -> Option<u64> {
    let file = fd::open(path, libc::O_RDONLY | libc::O_CLOEXEC, 0).ok()?;
    let mut buf = [0; 24];
    let n = fd::read(file, &mut buf);
    fd::close(file);
    core::str::from_utf8(buf.get(..n.ok()?)?)
        .ok()?
        .trim()
        .parse()
        .ok()
}
