//! The figures: what is measured, how, and the limit each is to keep.

/// How a figure comes about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The measured program times it, on the host and in a machine of each engine, on
    /// one CPU with one vCPU; with a limit for the engine seccomp again without binding
    /// and with the default vCPUs. The host's measurement is the second name.
    Guest(&'static str, &'static str),
    /// The same work by one thread and by two, on two vCPUs.
    Scaling,
    /// A whole run of `lodger run -- /bin/true`.
    Start,
    /// Memory of all processes of an idle machine, and the CPU time they use.
    Idle,
}

/// One figure.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// What the filter looks at.
    pub name: &'static str,
    /// What the table calls it.
    pub what: &'static str,
    /// How it comes about.
    pub kind: Kind,
    /// Limit of machine to host with the engine seccomp; for [`Kind::Scaling`] the
    /// least speed-up.
    pub limit: Option<f64>,
    /// The same with the engine kml.
    pub kml: Option<f64>,
    /// Batches a round.
    pub batches: u32,
    /// Real work: also measured with the peers that this host has, in each third round.
    pub work: bool,
}

/// Unpinned against pinned.
pub const UNPINNED_LIMIT: f64 = 1.5;
/// [`Kind::Start`] where there is no other sandbox to compare with.
pub const START_LIMIT_NS: f64 = 40e6;
/// Resident memory of all processes.
pub const MEMORY_LIMIT_MB: f64 = 15.0;

const fn guest(
    name: &'static str,
    host: &'static str,
    what: &'static str,
    limit: Option<f64>,
    kml: Option<f64>,
    batches: u32,
) -> Figure {
    Figure {
        name,
        what,
        kind: Kind::Guest(name, host),
        limit,
        kml,
        batches,
        work: false,
    }
}

/// Real work.
const fn work(name: &'static str, what: &'static str, limit: Option<f64>) -> Figure {
    Figure {
        work: true,
        ..guest(name, name, what, limit, None, 1)
    }
}

/// A figure of the engine kml, shown for both.
const fn fast(name: &'static str, what: &'static str, kml: f64) -> Figure {
    guest(name, name, what, None, Some(kml), 8)
}

/// In the order of the table.
#[rustfmt::skip]
pub const FIGURES: &[Figure] = &[
    Figure {
        kind: Kind::Guest("call", "call"),
        ..fast("getppid", "getppid", 0.12)
    },
    fast("zero", "read of 1 byte from /dev/zero", 0.25),
    fast("pread", "pread of 4 KiB from tmpfs", 0.5),
    fast("stat", "stat", 0.5),
    fast("open", "open, close", 0.6),
    fast("pipe-self", "pipe write, read in one process", 0.4),
    fast("pipe-threads", "pipe round trip of two threads", 0.25),
    fast("futex-threads", "futex round trip of two threads", 0.25),
    fast("futex", "futex round trip of two processes", 1.3),
    fast("signal", "signal to self", 0.3),
    fast("map", "mmap, touch, munmap of 64 KiB", 1.2),
    fast("thread", "thread create, join", 0.5),
    guest("call", "futex", "null call (host: futex round trip)", Some(1.6), None, 12),
    guest("clock", "clock", "clock_gettime", Some(1.6), None, 8),
    guest("touch", "touch", "first touch of an anonymous page", Some(1.6), Some(1.2), 8),
    guest("fork", "fork", "fork, exit, wait", Some(8.0), Some(3.0), 6),
    guest("exec", "exec", "vfork, exec of a static program, wait", Some(3.0), Some(2.0), 6),
    guest("pipe", "pipe", "pipe round trip of two processes", Some(8.0), Some(1.3), 8),
    work("untar", "untar of 20,000 files", None),
    work("git", "git status, 5,000 files", None),
    work("grep", "find, xargs grep in 20,000 files", None),
    work("sqlite", "sqlite3: 3,000 inserts, 3,000 selects", None),
    work("python", "python3 -c pass", Some(3.0)),
    work("loop", "sh: 1,000 times /bin/true", None),
    Figure {
        name: "start",
        what: "lodger run -- /bin/true (host: runsc do)",
        kind: Kind::Start,
        limit: Some(0.3),
        kml: None,
        batches: 2,
        work: false,
    },
    Figure {
        name: "scaling",
        what: "two threads on two vCPUs to one",
        kind: Kind::Scaling,
        limit: Some(1.8),
        kml: None,
        batches: 1,
        work: false,
    },
    Figure {
        name: "idle",
        what: "idle machine",
        kind: Kind::Idle,
        limit: None,
        kml: None,
        batches: 1,
        work: false,
    },
];
