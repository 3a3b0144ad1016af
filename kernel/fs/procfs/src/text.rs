//! Texts about one process or thread, proc(5).

use crate::machine::ticks;
use crate::who::Who;
use abi::process::RLIM_INFINITY;
use abi::{Errno, Result, SigSet, raw};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering::Relaxed;
use mm::Mm;
use mm::aspace::MmCounts;
use task::sched;
use task::{Process, Session, Task};
use vfs::cred::cap;
use vfs::file::Caller;
use vfs::mount::{MountFlags, MountInfo};
use vfs::text::Text;

/// Longest command line or environment shown, in bytes.
const TEXT_MAX: u64 = 256 << 10;
/// Longest write to a setting of a process.
const SET_MAX: usize = 128;

/// What the terminal layer knows of a session, for `tty_nr` and `tpgid`; set by
/// boot in [`task::kernel::Slots::procfs`].
pub struct TtyInfo(pub fn(&Session) -> Option<(u64, i32)>);

/// Device number of the controlling terminal and its foreground process group; (0, -1) without one.
fn tty_of(p: &Process) -> (u64, i32) {
    p.kernel
        .slots
        .procfs
        .get()
        .and_then(|s| s.downcast_ref::<TtyInfo>())
        .and_then(|t| (t.0)(&p.session()))
        .unwrap_or((0, -1))
}

fn counts(t: &Task) -> MmCounts {
    t.mm().map_or(MmCounts::default(), |m| m.counts())
}

fn resident(c: &MmCounts) -> u64 {
    c.rss_anon + c.rss_file + c.rss_shmem
}

/// Priority as in stat: 20 + nice, or -1 - real-time priority, be it lent.
fn priority(t: &Task) -> i64 {
    match sched::effective_priority(t) {
        0 => 20 + sched::params(t).nice as i64,
        p => -1 - p as i64,
    }
}

fn state(who: &Who, p: &Process, t: &Task) -> char {
    if !who.is_thread() && p.is_zombie() {
        'Z'
    } else {
        t.state_char()
    }
}

pub(crate) fn stat(who: &Who) -> Result<Vec<u8>> {
    let p = who.get()?;
    let t = who.task()?;
    let c = counts(&*who.live_task()?);
    let layout = t.mm().map(|m| m.layout()).unwrap_or_default();
    let look = who.current_may_look().is_ok();
    let own = |v: u64| if look { v } else { 0 };
    let (utime, stime) = if who.is_thread() {
        t.cpu_time()
    } else {
        p.cpu_time()
    };
    let children = p.children_usage();
    let usage = if who.is_thread() {
        t.usage()
    } else {
        p.usage()
    };
    let (tty, tpgid) = tty_of(&p);
    let params = sched::params(&t);
    let (ignored, caught) = p.sighand().sets();
    let pending = t.pending().union(p.shared_pending());
    let mut s = format!("{} (", who.id).into_bytes();
    s.extend_from_slice(&t.comm());
    let mut rest = String::new();
    let _ = write!(
        rest,
        ") {} {} {} {} {} {} {} {} {} {} {} ",
        state(who, &p, &t),
        p.ppid(),
        p.pgid(),
        p.sid(),
        tty as i32,
        tpgid,
        0x0040_0000, // PF_RANDOMIZE
        usage.minflt,
        children.minflt,
        usage.majflt,
        children.majflt,
    );
    let _ = write!(
        rest,
        "{} {} {} {} {} {} {} 0 {} {} {} {} ",
        ticks(utime),
        ticks(stime),
        ticks(children.utime),
        ticks(children.stime),
        priority(&t),
        params.nice,
        p.thread_count().max(1),
        ticks(t.start_ns),
        c.total_vm * 4096,
        resident(&c),
        p.rlimit(raw::RLIMIT_RSS).cur,
    );
    let _ = write!(
        rest,
        "{} {} {} 0 0 {} {} {} {} 0 0 0 17 {} {} {} 0 0 0 ",
        own(layout.start_code),
        own(layout.end_code),
        own(layout.start_stack),
        pending.0 & 0x7fff_ffff,
        t.blocked().0 & 0x7fff_ffff,
        ignored.0 & 0x7fff_ffff,
        caught.0 & 0x7fff_ffff,
        t.last_cpu(),
        params.priority,
        params.policy as u32,
    );
    let _ = writeln!(
        rest,
        "{} {} {} {} {} {} {} {}",
        own(layout.start_data),
        own(layout.end_data),
        own(layout.start_brk),
        own(layout.arg_start),
        own(layout.arg_end),
        own(layout.env_start),
        own(layout.env_end),
        if p.is_zombie() && look {
            p.exit_status()
        } else {
            0
        },
    );
    s.extend_from_slice(rest.as_bytes());
    Ok(s)
}

pub(crate) fn statm(who: &Who) -> Result<Vec<u8>> {
    let c = counts(&*who.live_task()?);
    Ok(format!(
        "{} {} {} {} 0 {} 0\n",
        c.total_vm,
        resident(&c),
        c.rss_file + c.rss_shmem,
        c.exec_vm,
        c.data_vm + c.stack_vm,
    )
    .into_bytes())
}

pub(crate) fn status(who: &Who) -> Result<Vec<u8>> {
    let p = who.get()?;
    let t = who.task()?;
    let live = who.live_task()?;
    let cred = t.cred();
    let mut s = Vec::from(&b"Name:\t"[..]);
    for b in t.comm() {
        match b {
            b'\n' => s.extend_from_slice(b"\\n"),
            b'\\' => s.extend_from_slice(b"\\\\"),
            _ => s.push(b),
        }
    }
    let st = state(who, &p, &t);
    let word = match st {
        'R' => "running",
        'S' => "sleeping",
        'D' => "disk sleep",
        'T' => "stopped",
        'Z' => "zombie",
        'I' => "idle",
        _ => "dead",
    };
    let umask = live.fs().map_or(0, |f| f.umask());
    let slots = live.files().map_or(0, |f| {
        // The table grows in powers of two from 64.
        (f.end() as u64).max(64).next_power_of_two()
    });
    let mut r = String::new();
    let _ = write!(
        r,
        "\nUmask:\t{umask:04o}\nState:\t{st} ({word})\nTgid:\t{}\nNgid:\t0\nPid:\t{}\nPPid:\t{}\nTracerPid:\t0\n\
         Uid:\t{}\t{}\t{}\t{}\nGid:\t{}\t{}\t{}\t{}\nFDSize:\t{slots}\nGroups:\t",
        p.pid(),
        who.id,
        p.ppid(),
        cred.uid,
        cred.euid,
        cred.suid,
        cred.fsuid,
        cred.gid,
        cred.egid,
        cred.sgid,
        cred.fsgid,
    );
    for g in &cred.groups {
        let _ = write!(r, "{g} ");
    }
    let _ = write!(
        r,
        "\nNStgid:\t{}\nNSpid:\t{}\nNSpgid:\t{}\nNSsid:\t{}\nKthread:\t{}\n",
        p.pid(),
        who.id,
        p.pgid(),
        p.sid(),
        u32::from(t.is_kernel()),
    );
    if let Some(mm) = live.mm() {
        memory_rows(&mm, &mut r);
    }
    let (ignored, caught) = p.sighand().sets();
    let limit = p.rlimit(raw::RLIMIT_SIGPENDING).cur;
    let queued = p.kernel.queued_signals.of(t.cred().uid).load(Relaxed);
    let set = |v: SigSet| format!("{:016x}", v.0);
    let _ = write!(
        r,
        "Threads:\t{}\nSigQ:\t{queued}/{limit}\nSigPnd:\t{}\nShdPnd:\t{}\nSigBlk:\t{}\nSigIgn:\t{}\nSigCgt:\t{}\n",
        p.thread_count().max(1),
        set(t.pending()),
        set(p.shared_pending()),
        set(t.blocked()),
        set(ignored),
        set(caught),
    );
    let affinity = sched::affinity(&t);
    let usage = t.usage();
    let _ = write!(
        r,
        "CapInh:\t{:016x}\nCapPrm:\t{:016x}\nCapEff:\t{:016x}\nCapBnd:\t{:016x}\nCapAmb:\t{:016x}\n\
         NoNewPrivs:\t{}\nSeccomp:\t0\nSeccomp_filters:\t0\nSpeculation_Store_Bypass:\tvulnerable\n\
         SpeculationIndirectBranch:\talways enabled\nCpus_allowed:\t{affinity:x}\nCpus_allowed_list:\t{}\n\
         Mems_allowed:\t1\nMems_allowed_list:\t0\nvoluntary_ctxt_switches:\t{}\nnonvoluntary_ctxt_switches:\t{}\n",
        cred.inheritable.0,
        cred.permitted.0,
        cred.effective.0,
        cred.bounding.0,
        cred.ambient.0,
        u32::from(cred.no_new_privs),
        ranges(affinity),
        usage.nvcsw,
        usage.nivcsw,
    );
    s.extend_from_slice(r.as_bytes());
    Ok(s)
}

fn memory_rows(mm: &Mm, r: &mut String) {
    let c = mm.counts();
    let rss = resident(&c);
    let rows: &[(&str, u64)] = &[
        ("VmPeak", c.total_vm),
        ("VmSize", c.total_vm),
        ("VmLck", c.locked_vm),
        ("VmPin", 0),
        ("VmHWM", c.peak_rss.max(rss)),
        ("VmRSS", rss),
        ("RssAnon", c.rss_anon),
        ("RssFile", c.rss_file),
        ("RssShmem", c.rss_shmem),
        ("VmData", c.data_vm),
        ("VmStk", c.stack_vm),
        ("VmExe", c.exec_vm),
        ("VmLib", 0),
        ("VmPTE", c.page_tables),
        ("VmSwap", 0),
    ];
    for (name, pages) in rows {
        let _ = writeln!(r, "{name}:\t{:>8} kB", pages * 4);
    }
    r.push_str("HugetlbPages:\t       0 kB\nCoreDumping:\t0\nTHP_enabled:\t0\n");
}

/// A CPU set as a list of ranges: `0-1,3`.
fn ranges(bits: u64) -> String {
    let mut s = String::new();
    let mut i = 0;
    while i < 64 {
        if bits >> i & 1 == 0 {
            i += 1;
            continue;
        }
        let run = (!(bits >> i)).trailing_zeros().max(1);
        if !s.is_empty() {
            s.push(',');
        }
        let _ = match run {
            1 => write!(s, "{i}"),
            n => write!(s, "{i}-{}", i + n - 1),
        };
        i += run;
    }
    s
}

pub(crate) fn comm(who: &Who) -> Result<Vec<u8>> {
    let mut c = who.task()?.comm();
    c.push(b'\n');
    Ok(c)
}

pub(crate) fn set_comm(who: &Who, _cx: &dyn Caller, data: &[u8]) -> Result {
    let t = who.task()?;
    // Only threads of the same process may rename each other.
    if !core::ptr::eq(
        Arc::as_ptr(&t.process),
        Arc::as_ptr(&task::current().process),
    ) {
        return Err(Errno::EINVAL);
    }
    t.set_comm(data.strip_suffix(b"\n").unwrap_or(data));
    Ok(())
}

/// Bytes `[start, end)` of the process's memory, as far as they can be read.
fn memory(mm: &Mm, start: u64, end: u64) -> Result<Vec<u8>> {
    let len = end.saturating_sub(start).min(TEXT_MAX);
    let mut v = mm::io::try_zeroed(len as usize)?;
    let n = mm.read_partial(start, &mut v, true);
    v.truncate(n);
    Ok(v)
}

pub(crate) fn cmdline(who: &Who) -> Result<Vec<u8>> {
    let Some(mm) = who.live_task()?.mm() else {
        return Ok(Vec::new());
    };
    let l = mm.layout();
    let mut v = memory(&mm, l.arg_start, l.arg_end)?;
    // A program that overwrote the end of its arguments (setproctitle) goes on into its environment.
    if v.last().is_some_and(|&b| b != 0) {
        let mut more = memory(&mm, l.arg_start, l.env_end)?;
        if let Some(n) = more.iter().position(|&b| b == 0) {
            more.truncate(n);
        }
        if more.len() > v.len() {
            v = more;
        }
    }
    Ok(v)
}

pub(crate) fn environ(who: &Who) -> Result<Vec<u8>> {
    let Some(mm) = who.live_task()?.mm() else {
        return Ok(Vec::new());
    };
    let l = mm.layout();
    memory(&mm, l.env_start, l.env_end)
}

pub(crate) fn auxv(who: &Who) -> Result<Vec<u8>> {
    let Some(mm) = who.live_task()?.mm() else {
        return Ok(Vec::new());
    };
    Ok(mm
        .layout()
        .auxv
        .iter()
        .flat_map(|w| w.to_le_bytes())
        .collect())
}

pub(crate) fn io(who: &Who) -> Result<Vec<u8>> {
    const NAMES: [&str; 6] = [
        "rchar",
        "wchar",
        "syscr",
        "syscw",
        "read_bytes",
        "write_bytes",
    ];
    let p = who.get()?;
    let mut s = String::new();
    for (name, v) in NAMES.iter().zip(&p.io) {
        let _ = writeln!(s, "{name}: {}", v.load(Relaxed));
    }
    s.push_str("cancelled_write_bytes: 0\n");
    Ok(s.into_bytes())
}

/// Rows of limits: name, unit, number.
const LIMITS: &[(&str, &str, u32)] = &[
    ("Max cpu time", "seconds", raw::RLIMIT_CPU),
    ("Max file size", "bytes", raw::RLIMIT_FSIZE),
    ("Max data size", "bytes", raw::RLIMIT_DATA),
    ("Max stack size", "bytes", raw::RLIMIT_STACK),
    ("Max core file size", "bytes", raw::RLIMIT_CORE),
    ("Max resident set", "bytes", raw::RLIMIT_RSS),
    ("Max processes", "processes", raw::RLIMIT_NPROC),
    ("Max open files", "files", raw::RLIMIT_NOFILE),
    ("Max locked memory", "bytes", raw::RLIMIT_MEMLOCK),
    ("Max address space", "bytes", raw::RLIMIT_AS),
    ("Max file locks", "locks", raw::RLIMIT_LOCKS),
    ("Max pending signals", "signals", raw::RLIMIT_SIGPENDING),
    ("Max msgqueue size", "bytes", raw::RLIMIT_MSGQUEUE),
    ("Max nice priority", "", raw::RLIMIT_NICE),
    ("Max realtime priority", "", raw::RLIMIT_RTPRIO),
    ("Max realtime timeout", "us", raw::RLIMIT_RTTIME),
];

pub(crate) fn limits(who: &Who) -> Result<Vec<u8>> {
    let p = who.get()?;
    let show = |v: u64| match v {
        RLIM_INFINITY => String::from("unlimited"),
        v => format!("{v}"),
    };
    let mut s = format!(
        "{:<25} {:<20} {:<20} {:<10}\n",
        "Limit", "Soft Limit", "Hard Limit", "Units"
    );
    for (name, unit, n) in LIMITS {
        let l = p.rlimit(*n);
        let _ = writeln!(
            s,
            "{name:<25} {:<20} {:<20} {unit:<10}",
            show(l.cur),
            show(l.max)
        );
    }
    Ok(s.into_bytes())
}

/// A word of mounts: blanks and backslashes as octal escapes, fstab(5).
fn escaped(word: &[u8], out: &mut Text) {
    for &b in word {
        let _ = match b {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => write!(out, "\\{b:03o}"),
            _ => out.bytes(&[b]),
        };
    }
}

fn source(m: &MountInfo) -> &[u8] {
    if m.source.is_empty() {
        b"none"
    } else {
        &m.source
    }
}

fn mount_list(who: &Who) -> Result<Vec<MountInfo>> {
    let fs = who.live_task()?.fs().ok_or(Errno::EINVAL)?;
    Ok(who.kernel.mounts().list(&fs.root()))
}

fn flag_words(flags: MountFlags) -> String {
    let mut s = String::from(if flags.contains(MountFlags::RDONLY) {
        "ro"
    } else {
        "rw"
    });
    for (f, word) in [
        (MountFlags::NOSUID, ",nosuid"),
        (MountFlags::NODEV, ",nodev"),
        (MountFlags::NOEXEC, ",noexec"),
        (MountFlags::NOATIME, ",noatime"),
        (MountFlags::NODIRATIME, ",nodiratime"),
        (MountFlags::RELATIME, ",relatime"),
    ] {
        if flags.contains(f) {
            s.push_str(word);
        }
    }
    s
}

fn options(m: &MountInfo, out: &mut Text) {
    if !m.options.is_empty() {
        let _ = out.bytes(b",");
        let _ = out.bytes(m.options.strip_prefix(b",").unwrap_or(&m.options));
    }
}

pub(crate) fn mounts(who: &Who) -> Result<Vec<u8>> {
    let mut s = Text::default();
    for m in mount_list(who)? {
        escaped(source(&m), &mut s);
        let _ = s.bytes(b" ");
        escaped(&m.target, &mut s);
        let _ = write!(s, " {} {}", m.fs_type, flag_words(m.flags));
        options(&m, &mut s);
        let _ = s.bytes(b" 0 0\n");
    }
    s.finish()
}

pub(crate) fn mountinfo(who: &Who) -> Result<Vec<u8>> {
    let mut s = Text::default();
    for m in mount_list(who)? {
        let (major, minor) = (abi::stat::major(m.dev), abi::stat::minor(m.dev));
        let _ = write!(s, "{} {} {major}:{minor} ", m.id, m.parent_id);
        escaped(&m.root, &mut s);
        let _ = s.bytes(b" ");
        escaped(&m.target, &mut s);
        let _ = write!(s, " {} - {} ", flag_words(m.flags), m.fs_type);
        escaped(source(&m), &mut s);
        let ro = m.flags.contains(MountFlags::RDONLY);
        let _ = s.bytes(if ro { b" ro" } else { b" rw" });
        options(&m, &mut s);
        let _ = s.bytes(b"\n");
    }
    s.finish()
}

pub(crate) fn mountstats(who: &Who) -> Result<Vec<u8>> {
    let mut s = Text::default();
    for m in mount_list(who)? {
        let _ = s.bytes(b"device ");
        escaped(source(&m), &mut s);
        let _ = s.bytes(b" mounted on ");
        escaped(&m.target, &mut s);
        let _ = writeln!(s, " with fstype {}", m.fs_type);
    }
    s.finish()
}

pub(crate) fn oom_score(who: &Who) -> Result<Vec<u8>> {
    Ok(format!("{}\n", task::oom::score(&*who.get()?)).into_bytes())
}

pub(crate) fn oom_score_adj(who: &Who) -> Result<Vec<u8>> {
    Ok(format!("{}\n", who.get()?.oom_score_adj.load(Relaxed)).into_bytes())
}

pub(crate) fn set_oom_score_adj(who: &Who, cx: &dyn Caller, data: &[u8]) -> Result {
    let v: i32 = number(data)?;
    if !(-1000..=1000).contains(&v) {
        return Err(Errno::EINVAL);
    }
    who.may_look(&cx.cred())?;
    let p = who.get()?;
    if v < p.oom_score_adj.load(Relaxed) && !cx.cred().capable(cap::SYS_RESOURCE) {
        return Err(Errno::EACCES);
    }
    p.oom_score_adj.store(v, Relaxed);
    Ok(())
}

fn number(data: &[u8]) -> Result<i32> {
    if data.len() > SET_MAX {
        return Err(Errno::EINVAL);
    }
    let s = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
    s.trim().parse().map_err(|_| Errno::EINVAL)
}

pub(crate) fn personality(who: &Who) -> Result<Vec<u8>> {
    Ok(format!("{:08x}\n", who.task()?.personality.load(Relaxed)).into_bytes())
}

/// Time on a CPU in ns, time waiting for one (not measured), number of slices.
pub(crate) fn schedstat(who: &Who) -> Result<Vec<u8>> {
    let t = who.task()?;
    let (u, s) = t.cpu_time();
    let n = t.usage();
    Ok(format!("{} 0 {}\n", u + s, n.nvcsw + n.nivcsw).into_bytes())
}

pub(crate) fn syscall(who: &Who) -> Result<Vec<u8>> {
    let t = who.task()?;
    if t.state_char() == 'R' {
        return Ok(b"running\n".to_vec());
    }
    // Registers of another task cannot be read while it may run.
    Ok(match t.current_syscall() {
        Some(nr) => format!("{nr} 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0\n"),
        None => String::from("-1 0x0 0x0\n"),
    }
    .into_bytes())
}

pub(crate) fn timer_slack(who: &Who) -> Result<Vec<u8>> {
    Ok(format!("{}\n", who.task()?.timer_slack_ns.load(Relaxed)).into_bytes())
}

/// The one user namespace maps every id to itself, user_namespaces(7).
pub(crate) fn id_map(_: &Who) -> Result<Vec<u8>> {
    Ok(b"         0          0 4294967295\n".to_vec())
}

pub(crate) fn children(who: &Who) -> Result<Vec<u8>> {
    let mut s = String::new();
    // Children are those of the process; they are listed with its leader.
    if who.task()?.is_leader() {
        for c in who.get()?.children() {
            let _ = write!(s, "{} ", c.pid());
        }
    }
    Ok(s.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_ranges() {
        assert_eq!(ranges(0), "");
        assert_eq!(ranges(1), "0");
        assert_eq!(ranges(0b1011), "0-1,3");
        assert_eq!(ranges(u64::MAX), "0-63");
        assert_eq!(ranges(1 << 63), "63");
    }

    #[test]
    fn blanks_in_mounts_are_escaped() {
        let mut v = Text::default();
        escaped(b"/a b\\c", &mut v);
        assert_eq!(v.finish().unwrap(), b"/a\\040b\\134c");
    }
}
