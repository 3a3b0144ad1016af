//! Files about the whole machine: /proc/meminfo, /proc/stat and the like; proc(5).

use abi::Result;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering::Relaxed;
use task::Kernel;
use vfs::text::Text;

/// A file of /proc: name, text.
pub(crate) type Row = (&'static str, fn(&Kernel) -> Vec<u8>);

/// Takes letters that make the kernel do something; see [`sysrq`].
pub(crate) const SYSRQ: &str = "sysrq-trigger";

/// May be very long; see [`locks`].
pub(crate) const LOCKS: &str = "locks";

/// A letter written to /proc/sysrq-trigger, which only root may open: `c` crashes
/// the machine, to see what is left of it; `s` writes everything back. Others do nothing.
pub(crate) fn sysrq(k: &Kernel, data: &[u8]) {
    match data.first() {
        Some(b'c') => panic!("sysrq triggered crash"),
        Some(b's') => k.mounts().sync_all(),
        _ => {}
    }
}

pub(crate) const ROWS: &[Row] = &[
    ("cmdline", |k| {
        format!("{}\n", k.params.cmdline).into_bytes()
    }),
    ("consoles", |_| {
        b"console              -W- (EC    )    5:1\n".to_vec()
    }),
    ("cpuinfo", |k| k.platform.arch().cpuinfo(k.ncpus())),
    ("devices", devices),
    ("diskstats", |_| Vec::new()),
    ("filesystems", filesystems),
    ("interrupts", interrupts),
    ("loadavg", loadavg),
    (LOCKS, |_| Vec::new()),
    ("meminfo", meminfo),
    ("misc", |_| Vec::new()),
    ("modules", |_| Vec::new()),
    ("partitions", |_| b"major minor  #blocks  name\n\n".to_vec()),
    ("stat", stat),
    (SYSRQ, |_| Vec::new()),
    ("swaps", |_| {
        b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_vec()
    }),
    ("uptime", uptime),
    ("version", version),
    ("vmstat", vmstat),
];

/// Ticks of USER_HZ in `ns`.
pub(crate) fn ticks(ns: u64) -> u64 {
    ns / (1_000_000_000 / abi::time::USER_HZ)
}

fn devices(k: &Kernel) -> Vec<u8> {
    let mut rows = k.devices.rows();
    rows.sort_by_key(|r| (r.1, r.2));
    rows.dedup();
    let mut s = String::from("Character devices:\n");
    for (name, _, major) in rows.iter().filter(|r| !r.1) {
        let _ = writeln!(s, "{major:3} {name}");
    }
    s.push_str("\nBlock devices:\n");
    for (name, _, major) in rows.iter().filter(|r| r.1) {
        let _ = writeln!(s, "{major:3} {name}");
    }
    s.into_bytes()
}

fn filesystems(k: &Kernel) -> Vec<u8> {
    let mut s = String::new();
    for t in k.fs_types() {
        let _ = writeln!(s, "{}\t{}", if t.needs_dev { "" } else { "nodev" }, t.name);
    }
    s.into_bytes()
}

fn interrupts(k: &Kernel) -> Vec<u8> {
    let mut s = String::from("    ");
    for cpu in 0..k.ncpus() {
        let _ = write!(s, "       CPU{cpu}");
    }
    s.push('\n');
    s.into_bytes()
}

pub(crate) fn locks(k: &Kernel) -> Result<Vec<u8>> {
    let mut s = Text::default();
    for (i, l) in vfs::locks::list(k.mounts().shared())?.iter().enumerate() {
        let kind = match l.lock.kind {
            vfs::locks::LockKind::Read => "READ",
            _ => "WRITE",
        };
        let (major, minor) = (abi::stat::major(l.dev), abi::stat::minor(l.dev));
        let _ = write!(
            s,
            "{}: {}  ADVISORY  {kind} {} {major:02x}:{minor:02x}:{} {} ",
            i + 1,
            l.class,
            l.lock.pid,
            l.ino,
            l.lock.start
        );
        let _ = match l.lock.end {
            u64::MAX => writeln!(s, "EOF"),
            end => writeln!(s, "{end}"),
        };
    }
    s.finish()
}

/// Runnable threads and all threads.
fn task_counts(k: &Kernel) -> (usize, usize) {
    let running = k
        .pids
        .processes()
        .flat_map(|p| p.threads())
        .filter(|t| t.state_char() == 'R')
        .count();
    (running, k.pids.counts().0)
}

fn loadavg(k: &Kernel) -> Vec<u8> {
    let [a, b, c] = k.load_average().map(|v| {
        // Rounded to hundredths as Linux shows it.
        let v = v + (1 << 16) / 200;
        format!("{}.{:02}", v >> 16, ((v & 0xffff) * 100) >> 16)
    });
    let (running, total) = task_counts(k);
    let last = k.pids.last_tid();
    format!("{a} {b} {c} {running}/{total} {last}\n").into_bytes()
}

fn meminfo(_: &Kernel) -> Vec<u8> {
    let m = mm::frame::stats();
    let kib = |frames: u64| frames * 4;
    let available = m.free + m.cached;
    let mut s = String::new();
    let anon = m.anon;
    let file = m.cached;
    let rows: &[(&str, u64)] = &[
        ("MemTotal", kib(m.total)),
        ("MemFree", kib(m.free)),
        ("MemAvailable", kib(available.min(m.total))),
        ("Buffers", 0),
        ("Cached", kib(m.cached + m.shmem)),
        ("SwapCached", 0),
        ("Active", kib(anon + file / 2)),
        ("Inactive", kib(file - file / 2)),
        ("Active(anon)", kib(anon)),
        ("Inactive(anon)", 0),
        ("Active(file)", kib(file / 2)),
        ("Inactive(file)", kib(file - file / 2)),
        ("Unevictable", 0),
        ("Mlocked", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", kib(anon)),
        ("Mapped", kib(m.mapped)),
        ("Shmem", kib(m.shmem)),
        ("KReclaimable", 0),
        ("Slab", kib(m.slab)),
        ("SReclaimable", 0),
        ("SUnreclaim", kib(m.slab)),
        ("KernelStack", kib(m.kernel_stacks)),
        ("PageTables", kib(m.page_tables)),
        ("NFS_Unstable", 0),
        ("Bounce", 0),
        ("WritebackTmp", 0),
        ("CommitLimit", kib(m.total / 2)),
        ("Committed_AS", kib(anon + m.shmem)),
        ("VmallocTotal", 34_359_738_367),
        ("VmallocUsed", 0),
        ("VmallocChunk", 0),
        ("Percpu", 0),
        ("AnonHugePages", 0),
        ("ShmemHugePages", 0),
        ("ShmemPmdMapped", 0),
    ];
    for (name, v) in rows {
        let label = format!("{name}:");
        let _ = writeln!(s, "{label:<15} {v:>8} kB");
    }
    for name in [
        "HugePages_Total",
        "HugePages_Free",
        "HugePages_Rsvd",
        "HugePages_Surp",
    ] {
        let label = format!("{name}:");
        let _ = writeln!(s, "{label:<15} {:>8}", 0);
    }
    let _ = writeln!(s, "{:<15} {:>8} kB", "Hugepagesize:", 2048);
    let _ = writeln!(s, "{:<15} {:>8} kB", "Hugetlb:", 0);
    s.into_bytes()
}

/// Per CPU: user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice.
fn stat(k: &Kernel) -> Vec<u8> {
    let mut lines = String::new();
    let mut sum = [0u64; 4];
    for cpu in 0..k.ncpus() {
        let t = k.cpu_times(cpu);
        let t = [t.user, t.nice, t.system, t.idle].map(ticks);
        for (s, v) in sum.iter_mut().zip(t) {
            *s += v;
        }
        let _ = writeln!(
            lines,
            "cpu{cpu} {} {} {} {} 0 0 0 0 0 0",
            t[0], t[1], t[2], t[3]
        );
    }
    let (running, _) = task_counts(k);
    let c = &k.counters;
    let interrupts = c.interrupts.load(Relaxed);
    format!(
        "cpu  {} {} {} {} 0 0 0 0 0 0\n{lines}intr {interrupts}\nctxt {}\nbtime {}\nprocesses {}\n\
         procs_running {running}\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n",
        sum[0],
        sum[1],
        sum[2],
        sum[3],
        c.context_switches.load(Relaxed),
        k.boot_realtime_ns / 1_000_000_000,
        c.forks.load(Relaxed),
    )
    .into_bytes()
}

fn uptime(k: &Kernel) -> Vec<u8> {
    let hundredths = |ns: u64| ns / 10_000_000;
    let now = hundredths(k.now());
    let idle = hundredths((0..k.ncpus()).map(|c| k.cpu_times(c).idle).sum());
    format!(
        "{}.{:02} {}.{:02}\n",
        now / 100,
        now % 100,
        idle / 100,
        idle % 100
    )
    .into_bytes()
}

fn version(k: &Kernel) -> Vec<u8> {
    let u = k.uts.lock().clone();
    format!(
        "{} version {} (lodger) {}\n",
        u.sysname, u.release, u.version
    )
    .into_bytes()
}

fn vmstat(_: &Kernel) -> Vec<u8> {
    let m = mm::frame::stats();
    format!(
        "nr_free_pages {}\nnr_anon_pages {}\nnr_mapped {}\nnr_file_pages {}\nnr_dirty 0\nnr_writeback 0\n\
         nr_shmem {}\nnr_page_table_pages {}\npgpgin 0\npgpgout 0\npswpin 0\npswpout 0\n",
        m.free,
        m.anon,
        m.mapped,
        m.cached + m.shmem,
        m.shmem,
        m.page_tables,
    )
    .into_bytes()
}
