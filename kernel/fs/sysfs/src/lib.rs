//! sysfs: /sys.
//!
//! A fixed tree made once from [`ROWS`]: what libc, runtimes and system tools
//! read of a machine without hardware (CPU lists, topology, one memory node,
//! transparent huge pages), and the directories they expect to exist.
//!
//! Neighbours: `vfs::pseudo` below, `boot` above (mounts it).
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

use abi::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use vfs::file::Caller;
use vfs::inode::{FileType, TimeNs};
use vfs::pseudo::{Node, PseudoFs};

/// `f_type` of statfs(2).
pub const SYSFS_MAGIC: u64 = 0x6265_6572;

/// What the tree shows of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Number of vCPUs.
    pub ncpus: u32,
}

/// A row of the tree: path, and text of the file; no text: a directory.
/// `{cpu}` in a path stands for each CPU in turn.
type Row = (&'static str, Option<fn(&Facts, u32) -> String>);

const ROWS: &[Row] = &[
    ("block", None),
    ("bus", None),
    ("class/net", None),
    ("class/tty", None),
    ("class/block", None),
    ("class/mem", None),
    ("dev/block", None),
    ("dev/char", None),
    ("firmware", None),
    ("fs/cgroup", None),
    ("kernel/debug", None),
    ("kernel/mm/hugepages", None),
    (
        "kernel/mm/transparent_hugepage/enabled",
        Some(|_, _| "always madvise [never]\n".into()),
    ),
    (
        "kernel/mm/transparent_hugepage/defrag",
        Some(|_, _| "always defer defer+madvise madvise [never]\n".into()),
    ),
    (
        "kernel/mm/transparent_hugepage/shmem_enabled",
        Some(|_, _| "always within_size advise [never] deny force\n".into()),
    ),
    (
        "kernel/mm/transparent_hugepage/hpage_pmd_size",
        Some(|_, _| "2097152\n".into()),
    ),
    ("kernel/uevent_seqnum", Some(|_, _| "0\n".into())),
    ("module", None),
    ("power", None),
    ("devices/virtual", None),
    ("devices/system/cpu/online", Some(cpu_list)),
    ("devices/system/cpu/possible", Some(cpu_list)),
    ("devices/system/cpu/present", Some(cpu_list)),
    ("devices/system/cpu/offline", Some(|_, _| "\n".into())),
    ("devices/system/cpu/isolated", Some(|_, _| "\n".into())),
    (
        "devices/system/cpu/kernel_max",
        Some(|_, _| format!("{}\n", hal::cpu::MAX_CPUS - 1)),
    ),
    (
        "devices/system/cpu/cpu{cpu}/topology/core_id",
        Some(|_, n| format!("{n}\n")),
    ),
    (
        "devices/system/cpu/cpu{cpu}/topology/physical_package_id",
        Some(|_, _| "0\n".into()),
    ),
    (
        "devices/system/cpu/cpu{cpu}/topology/thread_siblings",
        Some(|f, n| mask(f, 1 << n)),
    ),
    (
        "devices/system/cpu/cpu{cpu}/topology/thread_siblings_list",
        Some(|_, n| format!("{n}\n")),
    ),
    (
        "devices/system/cpu/cpu{cpu}/topology/core_cpus_list",
        Some(|_, n| format!("{n}\n")),
    ),
    (
        "devices/system/cpu/cpu{cpu}/topology/core_siblings",
        Some(all_mask),
    ),
    (
        "devices/system/cpu/cpu{cpu}/topology/core_siblings_list",
        Some(cpu_list),
    ),
    (
        "devices/system/cpu/cpu{cpu}/topology/package_cpus_list",
        Some(cpu_list),
    ),
    ("devices/system/node/online", Some(|_, _| "0\n".into())),
    ("devices/system/node/possible", Some(|_, _| "0\n".into())),
    ("devices/system/node/has_cpu", Some(|_, _| "0\n".into())),
    ("devices/system/node/has_memory", Some(|_, _| "0\n".into())),
    ("devices/system/node/node0/cpulist", Some(cpu_list)),
    ("devices/system/node/node0/cpumap", Some(all_mask)),
    (
        "devices/system/node/node0/distance",
        Some(|_, _| "10\n".into()),
    ),
    ("devices/system/node/node0/meminfo", Some(node_meminfo)),
];

fn cpu_list(f: &Facts, _: u32) -> String {
    match f.ncpus {
        0 | 1 => "0\n".into(),
        n => format!("0-{}\n", n - 1),
    }
}

fn all_mask(f: &Facts, _: u32) -> String {
    mask(f, u64::MAX >> (64 - f.ncpus.clamp(1, 64)))
}

/// A CPU mask: comma-separated groups of 32 bits, highest first.
fn mask(f: &Facts, bits: u64) -> String {
    if f.ncpus > 32 {
        format!("{:08x},{:08x}\n", bits >> 32, bits as u32)
    } else {
        format!(
            "{:0w$x}\n",
            bits as u32,
            w = f.ncpus.div_ceil(4).max(1) as usize
        )
    }
}

fn node_meminfo(_: &Facts, _: u32) -> String {
    let s = mm::frame::stats();
    format!(
        "Node 0 MemTotal:       {} kB\nNode 0 MemFree:        {} kB\nNode 0 MemUsed:        {} kB\n",
        s.total * 4,
        s.free * 4,
        s.total.saturating_sub(s.free) * 4
    )
}

/// The file system for a machine with these facts. `dev`: its `st_dev`; `born`: time stamps.
pub fn new(facts: Facts, dev: u64, born: TimeNs) -> Arc<PseudoFs> {
    let mut root = Dir {
        ino: 1,
        entries: BTreeMap::new(),
    };
    let mut next = 2;
    for (path, text) in ROWS {
        if path.contains("{cpu}") {
            for cpu in 0..facts.ncpus {
                root.add(
                    &path.replace("{cpu}", &format!("{cpu}")),
                    *text,
                    facts,
                    cpu,
                    &mut next,
                );
            }
        } else {
            root.add(path, *text, facts, 0, &mut next);
        }
    }
    PseudoFs::new("sysfs", SYSFS_MAGIC, dev, born, false, Arc::new(root))
}

enum Entry {
    Dir(Arc<Dir>),
    Text(Arc<Text>),
}

struct Dir {
    ino: u64,
    entries: BTreeMap<Vec<u8>, Entry>,
}

impl Dir {
    fn add(
        &mut self,
        path: &str,
        text: Option<fn(&Facts, u32) -> String>,
        facts: Facts,
        cpu: u32,
        next: &mut u64,
    ) {
        let mut ino = || {
            *next += 1;
            *next - 1
        };
        match (path.split_once('/'), text) {
            (None, Some(show)) => {
                let t = Text {
                    ino: ino(),
                    facts,
                    cpu,
                    show,
                };
                self.entries.insert(path.into(), Entry::Text(Arc::new(t)));
            }
            (None, None) => {
                self.subdir(path, ino());
            }
            (Some((head, rest)), text) => {
                let n = ino();
                // The tree is built before it is shared, so each directory has one owner.
                if let Some(d) = Arc::get_mut(self.subdir(head, n)) {
                    d.add(rest, text, facts, cpu, next);
                }
            }
        }
    }
    fn subdir(&mut self, name: &str, ino: u64) -> &mut Arc<Dir> {
        let e = self.entries.entry(name.into()).or_insert_with(|| {
            Entry::Dir(Arc::new(Dir {
                ino,
                entries: BTreeMap::new(),
            }))
        });
        match e {
            Entry::Dir(d) => d,
            Entry::Text(_) => unreachable!("a row is below a file"),
        }
    }
}

impl Node for Dir {
    fn file_type(&self) -> FileType {
        FileType::Dir
    }
    fn mode(&self) -> u32 {
        0o555
    }
    fn ino(&self) -> u64 {
        self.ino
    }
    fn nlink(&self) -> u32 {
        2 + self
            .entries
            .values()
            .filter(|e| matches!(e, Entry::Dir(_)))
            .count() as u32
    }
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Node>> {
        match self.entries.get(name) {
            Some(Entry::Dir(d)) => Ok(d.clone()),
            Some(Entry::Text(t)) => Ok(t.clone()),
            None => Err(Errno::ENOENT),
        }
    }
    fn list(&self) -> Result<Vec<(Vec<u8>, FileType, u64)>> {
        Ok(self
            .entries
            .iter()
            .map(|(name, e)| match e {
                Entry::Dir(d) => (name.clone(), FileType::Dir, d.ino),
                Entry::Text(t) => (name.clone(), FileType::Regular, t.ino),
            })
            .collect())
    }
}

struct Text {
    ino: u64,
    facts: Facts,
    cpu: u32,
    show: fn(&Facts, u32) -> String,
}

impl Node for Text {
    fn file_type(&self) -> FileType {
        FileType::Regular
    }
    fn mode(&self) -> u32 {
        0o444
    }
    fn ino(&self) -> u64 {
        self.ino
    }
    fn read(&self, _cx: &dyn Caller) -> Result<Vec<u8>> {
        Ok((self.show)(&self.facts, self.cpu).into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_and_lists() {
        let f = |n| Facts { ncpus: n };
        assert_eq!(cpu_list(&f(1), 0), "0\n");
        assert_eq!(cpu_list(&f(4), 0), "0-3\n");
        assert_eq!(all_mask(&f(2), 0), "3\n");
        assert_eq!(all_mask(&f(64), 0), "ffffffff,ffffffff\n");
        assert_eq!(mask(&f(8), 1 << 5), "20\n");
    }
}
