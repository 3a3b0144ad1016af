//! /proc/sys: settings of the kernel, proc_sys(5).

use abi::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicI32, AtomicU64};
use task::Kernel;
use vfs::file::Caller;
use vfs::inode::FileType;
use vfs::pseudo::Node;

/// A setting: path below /proc/sys, its value, how to set it (if it can be).
struct Row {
    path: &'static str,
    show: fn(&Kernel) -> String,
    set: Option<fn(&Kernel, &str) -> Result>,
}

macro_rules! rows {
    ($($path:literal => $show:expr $(, set $set:expr)?;)*) => {
        const ROWS: &[Row] = &[$(Row { path: $path, show: $show, set: rows!(@ $($set)?) },)*];
    };
    (@) => { None };
    (@ $set:expr) => { Some($set) };
}

rows! {
    "fs/aio-max-nr" => |_| "65536".into();
    "fs/aio-nr" => |_| "0".into();
    "fs/dentry-state" => |_| "0\t0\t45\t0\t0\t0".into();
    "fs/file-max" => |k| format!("{}", k.sysctl.file_max.load(Relaxed));
    "fs/file-nr" => |_| "0\t0\t9223372036854775807".into();
    "fs/inode-nr" => |_| "0\t0".into();
    "fs/inotify/max_queued_events" => |_| "16384".into();
    "fs/inotify/max_user_instances" => |_| "128".into();
    "fs/inotify/max_user_watches" => |_| "65536".into();
    "fs/lease-break-time" => |_| "45".into();
    "fs/leases-enable" => |_| "0".into();
    "fs/nr_open" => |k| format!("{}", k.sysctl.nr_open.load(Relaxed));
    "fs/overflowgid" => |_| "65534".into();
    "fs/overflowuid" => |_| "65534".into();
    "fs/pipe-max-size" => |k| format!("{}", k.devices.pipes.max_size.load(Relaxed)), set set_pipe_max_size;
    "fs/pipe-user-pages-hard" => |k| format!("{}", k.devices.pipes.hard.load(Relaxed)), set |k, s| store_u64(&k.devices.pipes.hard, s);
    "fs/pipe-user-pages-soft" => |k| format!("{}", k.devices.pipes.soft.load(Relaxed)), set |k, s| store_u64(&k.devices.pipes.soft, s);
    "fs/protected_fifos" => |_| "0".into();
    "fs/protected_hardlinks" => |_| "0".into();
    "fs/protected_regular" => |_| "0".into();
    "fs/protected_symlinks" => |_| "0".into();
    "fs/suid_dumpable" => |k| format!("{}", k.sysctl.suid_dumpable.load(Relaxed));
    "kernel/cap_last_cap" => |_| format!("{}", vfs::cred::cap::LAST);
    "kernel/core_pattern" => |k| text(&k.sysctl.core_pattern.lock().clone());
    "kernel/core_uses_pid" => |_| "0".into();
    "kernel/domainname" => |k| text(&k.uts.lock().domainname.clone()), set set_domainname;
    "kernel/hostname" => |k| text(&k.uts.lock().nodename.clone()), set set_hostname;
    "kernel/kptr_restrict" => |_| "0".into();
    "kernel/dmesg_restrict" => |_| "0".into();
    "kernel/modules_disabled" => |_| "1".into();
    "kernel/msgmax" => |_| "8192".into();
    "kernel/msgmnb" => |_| "16384".into();
    "kernel/msgmni" => |_| "32000".into();
    "kernel/ngroups_max" => |_| "65536".into();
    "kernel/osrelease" => |k| k.uts.lock().release.clone();
    "kernel/ostype" => |_| "Linux".into();
    "kernel/overflowgid" => |_| "65534".into();
    "kernel/overflowuid" => |_| "65534".into();
    "kernel/panic" => |_| "0".into();
    "kernel/panic_on_oops" => |_| "1".into();
    "kernel/perf_event_paranoid" => |_| "4".into();
    "kernel/pid_max" => |k| number(&k.sysctl.pid_max), set |k, s| store(&k.sysctl.pid_max, s, 301, 1 << 22);
    "kernel/printk" => |_| "4\t4\t1\t7".into();
    "kernel/random/boot_id" => boot_id;
    "kernel/random/entropy_avail" => |_| "256".into();
    "kernel/random/poolsize" => |_| "256".into();
    "kernel/random/uuid" => |k| uuid(random(k));
    "kernel/random/write_wakeup_threshold" => |_| "256".into();
    "kernel/randomize_va_space" => |k| format!("{}", k.sysctl.randomize_va_space.load(Relaxed)), set set_randomize;
    "kernel/sched_child_runs_first" => |_| "0".into();
    "kernel/sched_rt_period_us" => |k| format!("{}", k.sched.rt_limits.period_us()), set |k, s| k.sched.rt_limits.set_period_us(int(s)?);
    "kernel/sched_rt_runtime_us" => |k| format!("{}", k.sched.rt_limits.runtime_us()), set |k, s| k.sched.rt_limits.set_runtime_us(int(s)?);
    "kernel/sem" => |_| "32000\t1024000000\t500\t32000".into();
    "kernel/shmall" => |_| "18446744073692774399".into();
    "kernel/shmmax" => |_| "18446744073692774399".into();
    "kernel/shmmni" => |_| "4096".into();
    "kernel/sysrq" => |_| "0".into();
    "kernel/tainted" => |_| "0".into();
    "kernel/threads-max" => |k| format!("{}", k.sysctl.threads_max.load(Relaxed));
    "kernel/unprivileged_bpf_disabled" => |_| "2".into();
    "kernel/version" => |k| k.uts.lock().version.clone();
    "net/core/rmem_default" => |_| "212992".into();
    "net/core/rmem_max" => |_| "212992".into();
    "net/core/somaxconn" => |_| "4096".into();
    "net/core/wmem_default" => |_| "212992".into();
    "net/core/wmem_max" => |_| "212992".into();
    "net/unix/max_dgram_qlen" => |_| "10".into();
    "vm/max_map_count" => |_| "65530".into();
    "vm/min_free_kbytes" => |_| "4096".into();
    "vm/mmap_min_addr" => |_| "65536".into();
    "vm/nr_hugepages" => |_| "0".into();
    "vm/overcommit_memory" => |k| format!("{}", k.sysctl.overcommit.load(Relaxed));
    "vm/overcommit_ratio" => |_| "50".into();
    "vm/swappiness" => |_| "60".into();
    "vm/vfs_cache_pressure" => |_| "100".into();
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn number(v: &AtomicI32) -> String {
    format!("{}", v.load(Relaxed))
}

fn int(s: &str) -> Result<i32> {
    s.trim().parse().map_err(|_| Errno::EINVAL)
}

fn store(to: &AtomicI32, s: &str, min: i32, max: i32) -> Result {
    let v = int(s)?;
    if !(min..=max).contains(&v) {
        return Err(Errno::EINVAL);
    }
    to.store(v, Relaxed);
    Ok(())
}

fn store_u64(to: &AtomicU64, s: &str) -> Result {
    to.store(s.trim().parse().map_err(|_| Errno::EINVAL)?, Relaxed);
    Ok(())
}

/// A size in bytes: at least a page, a power of two of pages.
fn set_pipe_max_size(k: &Kernel, s: &str) -> Result {
    let v: u32 = s.trim().parse().map_err(|_| Errno::EINVAL)?;
    if v == 0 || v > 1 << 31 {
        return Err(Errno::EINVAL);
    }
    let size = u64::from(v.max(4096)).next_power_of_two();
    k.devices.pipes.max_size.store(size, Relaxed);
    Ok(())
}

fn set_randomize(k: &Kernel, s: &str) -> Result {
    let v: u32 = s.trim().parse().map_err(|_| Errno::EINVAL)?;
    if v > 2 {
        return Err(Errno::EINVAL);
    }
    k.sysctl.randomize_va_space.store(v, Relaxed);
    Ok(())
}

/// Longest name of uname(2).
const UTS_LEN: usize = 64;

fn uts_name(s: &str) -> Vec<u8> {
    s.bytes().take(UTS_LEN).collect()
}

fn set_hostname(k: &Kernel, s: &str) -> Result {
    let new = uts_name(s);
    let old = core::mem::replace(&mut k.uts.lock().nodename, new);
    drop(old);
    Ok(())
}

fn set_domainname(k: &Kernel, s: &str) -> Result {
    let new = uts_name(s);
    let old = core::mem::replace(&mut k.uts.lock().domainname, new);
    drop(old);
    Ok(())
}

fn random(k: &Kernel) -> [u8; 16] {
    let mut b = [0; 16];
    k.platform.entropy().fill(&mut b);
    b
}

/// The same for the life of the machine.
fn boot_id(k: &Kernel) -> String {
    const KEY: &str = "kernel.random.boot_id";
    let fresh = random(k);
    let mut other = k.sysctl.other.lock();
    let id = other.entry(KEY).or_insert_with(|| fresh.to_vec()).clone();
    drop(other);
    uuid(id.try_into().unwrap_or(fresh))
}

/// A random UUID (RFC 9562, version 4) in its usual form.
fn uuid(mut b: [u8; 16]) -> String {
    b[6] = b[6] & 0x0f | 0x40;
    b[8] = b[8] & 0x3f | 0x80;
    let mut s = String::new();
    for (i, v) in b.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            s.push('-');
        }
        s.push_str(&format!("{v:02x}"));
    }
    s
}

/// The directory /proc/sys. Inode numbers start at `first_ino`.
pub(crate) fn root(kernel: &'static Kernel, first_ino: u64) -> Arc<dyn Node> {
    let mut root = Dir {
        ino: first_ino,
        entries: BTreeMap::new(),
    };
    let mut next = first_ino + 1;
    for row in ROWS {
        root.add(row.path, row, kernel, &mut next);
    }
    Arc::new(root)
}

enum Entry {
    Dir(Arc<Dir>),
    Setting(Arc<Setting>),
}

struct Dir {
    ino: u64,
    entries: BTreeMap<&'static str, Entry>,
}

impl Dir {
    fn add(
        &mut self,
        path: &'static str,
        row: &'static Row,
        kernel: &'static Kernel,
        next: &mut u64,
    ) {
        let ino = *next;
        *next += 1;
        match path.split_once('/') {
            None => {
                let s = Setting { ino, row, kernel };
                self.entries.insert(path, Entry::Setting(Arc::new(s)));
            }
            Some((head, rest)) => {
                let e = self.entries.entry(head).or_insert_with(|| {
                    Entry::Dir(Arc::new(Dir {
                        ino,
                        entries: BTreeMap::new(),
                    }))
                });
                // The tree is built before it is shared, so each directory has one owner.
                if let Entry::Dir(d) = e
                    && let Some(d) = Arc::get_mut(d)
                {
                    d.add(rest, row, kernel, next);
                }
            }
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
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Node>> {
        let name = core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        match self.entries.get(name) {
            Some(Entry::Dir(d)) => Ok(d.clone()),
            Some(Entry::Setting(s)) => Ok(s.clone()),
            None => Err(Errno::ENOENT),
        }
    }
    fn list(&self) -> Result<Vec<(Vec<u8>, FileType, u64)>> {
        Ok(self
            .entries
            .iter()
            .map(|(name, e)| match e {
                Entry::Dir(d) => (name.as_bytes().to_vec(), FileType::Dir, d.ino),
                Entry::Setting(s) => (name.as_bytes().to_vec(), FileType::Regular, s.ino),
            })
            .collect())
    }
}

struct Setting {
    ino: u64,
    row: &'static Row,
    kernel: &'static Kernel,
}

impl Node for Setting {
    fn file_type(&self) -> FileType {
        FileType::Regular
    }
    fn mode(&self) -> u32 {
        if self.row.set.is_some() { 0o644 } else { 0o444 }
    }
    fn ino(&self) -> u64 {
        self.ino
    }
    fn read(&self, _cx: &dyn Caller) -> Result<Vec<u8>> {
        let mut s = (self.row.show)(self.kernel);
        s.push('\n');
        Ok(s.into_bytes())
    }
    fn write(&self, cx: &dyn Caller, pos: u64, data: &[u8]) -> Result<usize> {
        let set = self.row.set.ok_or(Errno::EACCES)?;
        if !cx.cred().capable(vfs::cred::cap::SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
        if pos == 0 {
            let s = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
            set(self.kernel, s.trim_end_matches(['\n', '\0']))?;
        }
        Ok(data.len())
    }
}
