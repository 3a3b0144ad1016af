//! The figures: what is measured, how, and the limit each is to keep.

/// How a figure comes about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `bench-guest` times it, on the host and in a machine, on one CPU with one
    /// vCPU and again without binding and with the default vCPUs.
    /// The host's measurement is the second name.
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
    /// Limit of machine to host; for [`Kind::Scaling`] the least speed-up.
    pub limit: f64,
    /// Batches a round.
    pub batches: u32,
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
    limit: f64,
    batches: u32,
) -> Figure {
    Figure {
        name,
        what,
        kind: Kind::Guest(name, host),
        limit,
        batches,
    }
}

/// In the order of the table.
pub const FIGURES: &[Figure] = &[
    guest(
        "call",
        "futex",
        "null call (host: futex round trip)",
        1.6,
        12,
    ),
    guest("clock", "clock", "clock_gettime", 1.6, 8),
    guest("touch", "touch", "first touch of an anonymous page", 1.6, 8),
    guest("fork", "fork", "fork, exit, wait", 8.0, 6),
    guest(
        "exec",
        "exec",
        "vfork, exec of a static program, wait",
        3.0,
        6,
    ),
    guest("pipe", "pipe", "pipe round trip of two processes", 8.0, 8),
    guest("python", "python", "python3 -c pass", 3.0, 2),
    Figure {
        name: "start",
        what: "lodger run -- /bin/true (host: runsc do)",
        kind: Kind::Start,
        limit: 0.3,
        batches: 2,
    },
    Figure {
        name: "scaling",
        what: "two threads on two vCPUs to one",
        kind: Kind::Scaling,
        limit: 1.8,
        batches: 1,
    },
    Figure {
        name: "idle",
        what: "idle machine",
        kind: Kind::Idle,
        limit: MEMORY_LIMIT_MB,
        batches: 1,
    },
];
