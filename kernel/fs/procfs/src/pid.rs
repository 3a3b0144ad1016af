//! Directories of a process (/proc/PID) and of its threads (/proc/PID/task/TID).

use crate::who::{self, Who};
use crate::{Entry, fd, maps, net, text};
use abi::{Errno, Result};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use mm::io::Sink;
use vfs::file::{Caller, OpenFlags};
use vfs::inode::{FileType, MagicLink};
use vfs::namei::name_of;
use vfs::path::Path;
use vfs::pseudo::Node;

/// Who may read a file beside what its mode says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    /// Everybody.
    No,
    /// Those who may look into the process.
    Look,
}

/// A regular file of a process: name, permission bits, guard, text, how it is written.
pub(crate) struct Row {
    pub name: &'static str,
    pub mode: u32,
    pub guard: Guard,
    pub show: fn(&Who) -> Result<Vec<u8>>,
    pub set: Option<fn(&Who, &dyn Caller, &[u8]) -> Result>,
}

const fn row(
    name: &'static str,
    mode: u32,
    guard: Guard,
    show: fn(&Who) -> Result<Vec<u8>>,
) -> Row {
    Row {
        name,
        mode,
        guard,
        show,
        set: None,
    }
}

const fn rw(
    name: &'static str,
    show: fn(&Who) -> Result<Vec<u8>>,
    set: fn(&Who, &dyn Caller, &[u8]) -> Result,
) -> Row {
    Row {
        name,
        mode: 0o644,
        guard: Guard::No,
        show,
        set: Some(set),
    }
}

use Guard::{Look, No};

const ROWS: &[Row] = &[
    row("auxv", 0o400, Look, text::auxv),
    row("cgroup", 0o444, No, |_| Ok(b"0::/\n".to_vec())),
    row("cmdline", 0o444, No, text::cmdline),
    rw("comm", text::comm, text::set_comm),
    rw(
        "coredump_filter",
        |_| Ok(b"00000033\n".to_vec()),
        |_, _, _| Err(Errno::EACCES),
    ),
    row("environ", 0o400, Look, text::environ),
    row("io", 0o400, Look, text::io),
    row("limits", 0o444, No, text::limits),
    rw(
        "loginuid",
        |_| Ok(b"4294967295".to_vec()),
        |_, _, _| Err(Errno::EPERM),
    ),
    row("maps", 0o444, Look, maps::maps),
    row("mountinfo", 0o444, No, text::mountinfo),
    row("mounts", 0o444, No, text::mounts),
    row("mountstats", 0o400, No, text::mountstats),
    row("oom_score", 0o444, No, text::oom_score),
    rw(
        "oom_score_adj",
        text::oom_score_adj,
        text::set_oom_score_adj,
    ),
    row("personality", 0o400, Look, text::personality),
    row("schedstat", 0o444, No, text::schedstat),
    row("sessionid", 0o444, No, |_| Ok(b"4294967295".to_vec())),
    row("smaps", 0o444, Look, maps::smaps),
    row("smaps_rollup", 0o444, Look, maps::smaps_rollup),
    row("stat", 0o444, No, text::stat),
    row("statm", 0o444, No, text::statm),
    row("status", 0o444, No, text::status),
    row("syscall", 0o400, Look, text::syscall),
    row("timerslack_ns", 0o666, No, text::timer_slack),
    row("uid_map", 0o644, No, text::id_map),
    row("gid_map", 0o644, No, text::id_map),
    row("setgroups", 0o644, No, |_| Ok(b"allow\n".to_vec())),
    row("wchan", 0o444, No, |_| Ok(b"0".to_vec())),
];

/// Files only in the directory of a thread.
const THREAD_ROWS: &[Row] = &[row("children", 0o444, No, text::children)];

/// Symbolic links of a process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LinkKind {
    Cwd,
    Root,
    Exe,
}

const LINKS: &[(&str, LinkKind)] = &[
    ("cwd", LinkKind::Cwd),
    ("root", LinkKind::Root),
    ("exe", LinkKind::Exe),
];

/// Directories of a process.
const DIRS: &[(&str, Sub)] = &[
    ("fd", Sub::Fd),
    ("fdinfo", Sub::FdInfo),
    ("task", Sub::Threads),
    ("ns", Sub::Namespaces),
    ("net", Sub::Net),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sub {
    Fd,
    FdInfo,
    Threads,
    Namespaces,
    Net,
}

// Kind bits of inode numbers (see `who::ino`); descriptors use the upper half.
const ROW_KIND: u64 = 0x1_0000;
const LINK_KIND: u64 = 0x2_0000;
const SUB_KIND: u64 = 0x3_0000;
const NS_KIND: u64 = 0x4_0000;
const MEM_KIND: u64 = 0x5_0000;
/// Added for the directories of threads: a leader's tid is its process's pid.
const THREAD: u64 = 0x20_0000;

fn kind_bits(who: &Who) -> u64 {
    if who.is_thread() { THREAD } else { 0 }
}

/// The directory of a process.
pub(crate) fn process_dir(who: Who) -> Arc<dyn Node> {
    Arc::new(PidDir { who })
}

struct PidDir {
    who: Who,
}

impl PidDir {
    fn ino(&self, kind: u64) -> u64 {
        who::ino(self.who.id, kind | kind_bits(&self.who))
    }
    fn rows(&self) -> impl Iterator<Item = (u64, &'static Row)> + use<> {
        let thread = if self.who.is_thread() {
            THREAD_ROWS
        } else {
            &[]
        };
        ROWS.iter()
            .chain(thread)
            .enumerate()
            .map(|(i, r)| (ROW_KIND + i as u64, r))
    }
}

impl Node for PidDir {
    fn file_type(&self) -> FileType {
        FileType::Dir
    }
    fn mode(&self) -> u32 {
        0o555
    }
    fn ino(&self) -> u64 {
        self.ino(who::DIR)
    }
    fn process(&self) -> Option<Result<i32>> {
        (!self.who.is_thread()).then(|| Ok(self.who.get()?.pid()))
    }
    fn owner(&self) -> (u32, u32) {
        self.who.owner()
    }
    fn exists(&self) -> bool {
        self.who.exists()
    }
    fn nlink(&self) -> u32 {
        2 + DIRS.len() as u32
    }
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Node>> {
        if !self.who.exists() {
            return Err(Errno::ENOENT);
        }
        let who = self.who.clone();
        if let Some((kind, row)) = self.rows().find(|(_, r)| r.name.as_bytes() == name) {
            let ino = self.ino(kind);
            return Ok(Arc::new(PidFile { who, row, ino }));
        }
        if let Some(i) = LINKS.iter().position(|l| l.0.as_bytes() == name) {
            return Ok(Arc::new(PidLink {
                who,
                kind: LINKS[i].1,
                ino: self.ino(LINK_KIND + i as u64),
            }));
        }
        if name == b"mem" {
            let ino = self.ino(MEM_KIND);
            return Ok(Arc::new(Mem { who, ino }));
        }
        let i = DIRS
            .iter()
            .position(|d| d.0.as_bytes() == name)
            .filter(|&i| DIRS[i].1 != Sub::Threads || !self.who.is_thread())
            .ok_or(Errno::ENOENT)?;
        let ino = self.ino(SUB_KIND + i as u64);
        Ok(match DIRS[i].1 {
            Sub::Fd => Arc::new(fd::FdDir {
                who,
                ino,
                info: false,
            }),
            Sub::FdInfo => Arc::new(fd::FdDir {
                who,
                ino,
                info: true,
            }),
            Sub::Threads => Arc::new(Threads { who, ino }),
            Sub::Namespaces => Arc::new(Namespaces { who, ino }),
            Sub::Net => Arc::new(net::NetDir { who, ino }),
        })
    }
    fn list(&self) -> Result<Vec<Entry>> {
        if !self.who.exists() {
            return Err(Errno::ENOENT);
        }
        let mut v: Vec<Entry> = Vec::new();
        for (i, (name, sub)) in DIRS.iter().enumerate() {
            if *sub != Sub::Threads || !self.who.is_thread() {
                v.push((
                    name.as_bytes().to_vec(),
                    FileType::Dir,
                    self.ino(SUB_KIND + i as u64),
                ));
            }
        }
        for (i, (name, _)) in LINKS.iter().enumerate() {
            v.push((
                name.as_bytes().to_vec(),
                FileType::Symlink,
                self.ino(LINK_KIND + i as u64),
            ));
        }
        v.push((b"mem".to_vec(), FileType::Regular, self.ino(MEM_KIND)));
        for (kind, row) in self.rows() {
            v.push((
                row.name.as_bytes().to_vec(),
                FileType::Regular,
                self.ino(kind),
            ));
        }
        Ok(v)
    }
}

struct PidFile {
    who: Who,
    row: &'static Row,
    ino: u64,
}

impl Node for PidFile {
    fn file_type(&self) -> FileType {
        FileType::Regular
    }
    fn mode(&self) -> u32 {
        self.row.mode
    }
    fn ino(&self) -> u64 {
        self.ino
    }
    fn owner(&self) -> (u32, u32) {
        self.who.owner()
    }
    fn exists(&self) -> bool {
        self.who.exists()
    }
    fn may_open(&self, cx: &dyn Caller, _flags: OpenFlags) -> Result {
        match self.row.guard {
            Guard::No => Ok(()),
            Guard::Look => self.who.may_look(&cx.cred()),
        }
    }
    fn read(&self, _cx: &dyn Caller) -> Result<Vec<u8>> {
        (self.row.show)(&self.who)
    }
    fn write(&self, cx: &dyn Caller, _pos: u64, data: &[u8]) -> Result<usize> {
        let set = self.row.set.ok_or(Errno::EACCES)?;
        set(&self.who, cx, data)?;
        Ok(data.len())
    }
}

/// /proc/PID/mem: the memory of the process; the position is the address.
struct Mem {
    who: Who,
    ino: u64,
}

impl Node for Mem {
    fn file_type(&self) -> FileType {
        FileType::Regular
    }
    fn mode(&self) -> u32 {
        0o600
    }
    fn ino(&self) -> u64 {
        self.ino
    }
    fn owner(&self) -> (u32, u32) {
        self.who.owner()
    }
    fn exists(&self) -> bool {
        self.who.exists()
    }
    fn may_open(&self, cx: &dyn Caller, _flags: OpenFlags) -> Result {
        self.who.may_look(&cx.cred())
    }
    fn read_at(&self, cx: &dyn Caller, pos: u64, dst: &mut dyn Sink) -> Option<Result<usize>> {
        Some(self.copy_out(cx, pos, dst))
    }
    fn write(&self, cx: &dyn Caller, pos: u64, data: &[u8]) -> Result<usize> {
        self.who.may_look(&cx.cred())?;
        let mm = self.who.live_task()?.mm().ok_or(Errno::EIO)?;
        match mm.write_partial(pos, data, true) {
            0 if !data.is_empty() => Err(Errno::EIO),
            n => Ok(n),
        }
    }
}

impl Mem {
    fn copy_out(&self, cx: &dyn Caller, pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        self.who.may_look(&cx.cred())?;
        let Some(mm) = self.who.live_task()?.mm() else {
            return Ok(0);
        };
        let mut buf = alloc::vec![0; dst.remaining().min(64 << 10)];
        let mut done = 0;
        while dst.remaining() > 0 {
            let want = dst.remaining().min(buf.len());
            let at = pos.checked_add(done as u64).ok_or(Errno::EIO)?;
            let n = mm.read_partial(at, &mut buf[..want], true);
            if n == 0 {
                break;
            }
            done += dst.put(&buf[..n])?;
            if n < want {
                break;
            }
            hal::cpu::current_waiter().yield_if_needed();
        }
        if done == 0 && dst.remaining() > 0 {
            return Err(Errno::EIO);
        }
        Ok(done)
    }
}

struct PidLink {
    who: Who,
    kind: LinkKind,
    ino: u64,
}

impl PidLink {
    fn target(&self) -> Result<Path> {
        self.who.current_may_look()?;
        let t = self.who.live_task()?;
        match self.kind {
            LinkKind::Cwd => Ok(t.fs().ok_or(Errno::ENOENT)?.cwd()),
            LinkKind::Root => Ok(t.fs().ok_or(Errno::ENOENT)?.root()),
            LinkKind::Exe => {
                let exe = t.mm().and_then(|m| m.exe()).ok_or(Errno::ENOENT)?;
                let file = exe.downcast::<vfs::File>().map_err(|_| Errno::ENOENT)?;
                file.path.clone().ok_or(Errno::ENOENT)
            }
        }
    }
}

/// The name of `path` as the current task sees it.
pub(crate) fn visible_name(path: &Path) -> Vec<u8> {
    match task::current().fs() {
        Some(fs) => name_of(path, &fs.root()),
        None => Vec::new(),
    }
}

impl Node for PidLink {
    fn file_type(&self) -> FileType {
        FileType::Symlink
    }
    fn mode(&self) -> u32 {
        0o777
    }
    fn ino(&self) -> u64 {
        self.ino
    }
    fn owner(&self) -> (u32, u32) {
        self.who.owner()
    }
    fn exists(&self) -> bool {
        self.who.exists()
    }
    fn read_link(&self) -> Result<Vec<u8>> {
        Ok(visible_name(&self.target()?))
    }
    fn magic_link(&self) -> Option<Result<MagicLink>> {
        Some(self.target().map(|p| Arc::new(p) as MagicLink))
    }
}

/// /proc/PID/task.
struct Threads {
    who: Who,
    ino: u64,
}

impl Node for Threads {
    fn file_type(&self) -> FileType {
        FileType::Dir
    }
    fn mode(&self) -> u32 {
        0o555
    }
    fn ino(&self) -> u64 {
        self.ino
    }
    fn owner(&self) -> (u32, u32) {
        self.who.owner()
    }
    fn nlink(&self) -> u32 {
        2 + self.who.get().map_or(0, |p| p.thread_count() as u32)
    }
    fn exists(&self) -> bool {
        self.who.exists()
    }
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Node>> {
        let tid = crate::number(name).ok_or(Errno::ENOENT)?;
        Ok(process_dir(self.who.with_thread(tid)?))
    }
    fn list(&self) -> Result<Vec<Entry>> {
        let mut tids: Vec<i32> = self.who.get()?.threads().iter().map(|t| t.tid()).collect();
        if tids.is_empty() {
            tids.push(self.who.id);
        }
        tids.sort_unstable();
        Ok(tids
            .iter()
            .map(|t| {
                let name = format!("{t}").into_bytes();
                (name, FileType::Dir, who::ino(*t, who::DIR | THREAD))
            })
            .collect())
    }
}

/// /proc/PID/ns: there is one namespace of each kind.
struct Namespaces {
    who: Who,
    ino: u64,
}

/// Kinds of namespaces with the numbers of Linux's initial ones.
const NAMESPACES: &[(&str, u64)] = &[
    ("cgroup", 4_026_531_835),
    ("ipc", 4_026_531_839),
    ("mnt", 4_026_531_841),
    ("net", 4_026_531_840),
    ("pid", 4_026_531_836),
    ("pid_for_children", 4_026_531_836),
    ("time", 4_026_531_834),
    ("time_for_children", 4_026_531_834),
    ("user", 4_026_531_837),
    ("uts", 4_026_531_838),
];

impl Node for Namespaces {
    fn file_type(&self) -> FileType {
        FileType::Dir
    }
    fn mode(&self) -> u32 {
        0o511
    }
    fn ino(&self) -> u64 {
        self.ino
    }
    fn owner(&self) -> (u32, u32) {
        self.who.owner()
    }
    fn exists(&self) -> bool {
        self.who.exists()
    }
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Node>> {
        let i = NAMESPACES
            .iter()
            .position(|n| n.0.as_bytes() == name)
            .ok_or(Errno::ENOENT)?;
        Ok(Arc::new(Namespace {
            who: self.who.clone(),
            index: i,
        }))
    }
    fn list(&self) -> Result<Vec<Entry>> {
        self.who.current_may_look()?;
        Ok(NAMESPACES
            .iter()
            .enumerate()
            .map(|(i, n)| {
                let ino = who::ino(self.who.id, NS_KIND + i as u64);
                (n.0.as_bytes().to_vec(), FileType::Symlink, ino)
            })
            .collect())
    }
}

struct Namespace {
    who: Who,
    index: usize,
}

impl Node for Namespace {
    fn file_type(&self) -> FileType {
        FileType::Symlink
    }
    fn mode(&self) -> u32 {
        0o777
    }
    fn ino(&self) -> u64 {
        who::ino(self.who.id, NS_KIND + self.index as u64)
    }
    fn exists(&self) -> bool {
        self.who.exists()
    }
    fn read_link(&self) -> Result<Vec<u8>> {
        self.who.current_may_look()?;
        let (name, number) = NAMESPACES.get(self.index).ok_or(Errno::ENOENT)?;
        let kind = name.strip_suffix("_for_children").unwrap_or(name);
        Ok(format!("{kind}:[{number}]").into_bytes())
    }
}
