//! Measures a machine beside its host: interleaved rounds, medians and minima,
//! ratios with the limits they are to keep.
//!
//! - [`figures`]: what is measured, and the limits.
//! - [`mod@measured`], [`calls`], [`work`]: the measured program, which is this one, run again.
//! - [`machine`]: running it, looking at a machine's processes. [`peers`]: other systems.
//! - [`report`]: samples, the table. [`svg`]: the chart.
//!
//! These are measurements, not tests: a busy host makes them worthless, nothing fails.

mod calls;
mod figures;
mod machine;
mod measured;
mod peers;
mod report;
mod svg;
mod work;

pub use measured::main as measured;

use figures::{FIGURES, Figure, Kind, MEMORY_LIMIT_MB, START_LIMIT_NS, UNPINNED_LIMIT};
use machine::{Cpus, Programs};
use peers::Peer;
use report::{Limit, Row, Samples};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What to measure and how to show it.
#[derive(Clone, Default, Debug)]
pub struct Options {
    /// Rounds of all measurements; by default 15, or 2 quick ones.
    pub rounds: Option<usize>,
    /// Short batches: whether it works, rather than how fast.
    pub quick: bool,
    /// One JSON object a line instead of the table.
    pub json: bool,
    /// Where to write the chart.
    pub svg: Option<PathBuf>,
    /// Only figures whose name contains one of these.
    pub filters: Vec<String>,
}

/// Samples by where and what.
#[derive(Default)]
struct Store(BTreeMap<(&'static str, String), Samples>);

const HOST: &str = "host";
const PINNED: &str = "seccomp";
const KML: &str = "kml";
const FREE: &str = "free";
const TWO: &str = "two vCPUs";
const OTHER: &str = "runsc";

impl Store {
    fn add(&mut self, place: &'static str, new: impl IntoIterator<Item = (String, f64)>) {
        for (name, ns) in new {
            self.0.entry((place, name)).or_default().0.push(ns);
        }
    }
    fn get(&self, place: &'static str, name: &str) -> Samples {
        let key = (place, name.to_string());
        self.0.get(&key).cloned().unwrap_or_default()
    }
}

fn round(p: &Programs, peers: &[Peer], f: &Figure, o: &Options, store: &mut Store) {
    let batches = if o.quick { 1 } else { f.batches };
    let arg = |name: &str| {
        let small = (f.work && o.quick).then(|| measured::SMALL.to_string());
        let all = small.into_iter().chain([format!("{name}:{batches}")]);
        all.collect::<Vec<_>>()
    };
    match f.kind {
        Kind::Guest(ours, host) => {
            store.add(HOST, p.on_host(&arg(host), Cpus::One));
            store.add(PINNED, p.in_machine(PINNED, &arg(ours), Cpus::One, None));
            store.add(KML, p.in_machine(KML, &arg(ours), Cpus::One, None));
            if f.limit.is_some() {
                store.add(FREE, p.in_machine(PINNED, &arg(ours), Cpus::All, None));
            }
            for peer in peers.iter().filter(|_| f.work) {
                store.add(peer.name(), peer.run(&p.0, &arg(host)));
            }
        }
        Kind::Start => {
            for _ in 0..batches {
                let named = |v: Option<f64>| v.map(|v| (f.name.to_string(), v));
                store.add(PINNED, named(p.start(Cpus::One)));
                store.add(FREE, named(p.start(Cpus::All)));
                store.add(OTHER, named(p.start_of_runsc()));
            }
        }
        Kind::Scaling => {
            let args = [arg("spin1"), arg("spin2")].concat();
            store.add(HOST, p.on_host(&args, Cpus::All));
            store.add(TWO, p.in_machine(PINNED, &args, Cpus::All, Some(2)));
        }
        Kind::Idle => {}
    }
}

fn rows(f: &Figure, peers: &[Peer], store: &Store) -> Vec<Row> {
    let unpinned = |name: &str| {
        Row::ratio(
            format!("{}.unpinned", f.name),
            "  unpinned (against: pinned)",
            &store.get(PINNED, name),
            &store.get(FREE, name),
            Some(UNPINNED_LIMIT),
        )
    };
    match f.kind {
        Kind::Guest(ours, host) => {
            let base = store.get(HOST, host);
            let of = |engine: &'static str, what: &str, limit| {
                let name = format!("{}.{engine}", f.name);
                Row::ratio(name, what, &base, &store.get(engine, ours), limit)
            };
            let mut rows = vec![
                of(PINNED, f.what, f.limit),
                of(KML, "  with the engine kml", f.kml),
            ];
            if f.limit.is_some() {
                rows.push(unpinned(ours));
            }
            for peer in peers.iter().filter(|_| f.work) {
                let what = format!("  with {}", peer.title());
                rows.push(of(peer.name(), &what, None));
            }
            rows
        }
        Kind::Start => {
            let (other, free) = (store.get(OTHER, f.name), store.get(FREE, f.name));
            let mut main = Row::ratio(f.name.into(), f.what, &other, &free, f.limit);
            if other.0.is_empty() {
                main.what = "lodger run -- /bin/true (no runsc here)".into();
                main.unit = " ms";
                main.value = free.median().map(|v| v / 1e6);
                main.of_min = free.min().map(|v| v / 1e6);
                main.limit = Some(Limit::Max(START_LIMIT_NS / 1e6));
            }
            vec![main, unpinned(f.name)]
        }
        Kind::Scaling => {
            let of = |place| {
                let (one, two) = (store.get(place, "spin1"), store.get(place, "spin2"));
                let of = |a: Option<f64>, b: Option<f64>| Some(a? / b?);
                (of(one.median(), two.median()), of(one.min(), two.min()))
            };
            let (host, ours) = (of(HOST), of(TWO));
            let text = |v: Option<f64>| v.map(|v| format!("{v:.2}"));
            vec![Row {
                name: f.name.into(),
                what: f.what.into(),
                base: text(host.0),
                ours: text(ours.0),
                value: ours.0,
                of_min: ours.1,
                unit: "",
                limit: f.limit.map(Limit::Min),
            }]
        }
        Kind::Idle => vec![],
    }
}

fn idle(p: &Programs, o: &Options) -> Vec<Row> {
    let time = Duration::from_secs(if o.quick { 1 } else { 10 });
    let machine = p.idle();
    std::thread::sleep(Duration::from_secs(2));
    let used = machine.use_in(time);
    let m = machine.memory();
    if m.processes < 3 {
        eprintln!("the idle machine has not started");
        return vec![];
    }
    let row = |name: &str, what: String, value, unit, limit| Row {
        name: name.into(),
        what,
        base: None,
        ours: None,
        value: Some(value),
        of_min: None,
        unit,
        limit,
    };
    let seconds = time.as_secs();
    let n = m.processes;
    vec![
        row(
            "idle.memory",
            format!("resident in all {n} processes (PSS)"),
            m.pss,
            " MB",
            Some(Limit::Max(MEMORY_LIMIT_MB)),
        ),
        row(
            "idle.rss",
            "  shared pages counted in each (RSS)".into(),
            m.rss,
            " MB",
            None,
        ),
        row(
            "idle.ticks",
            format!("idle: utime + stime in {seconds} s"),
            used.ticks as f64,
            " ticks",
            Some(Limit::Max(0.0)),
        ),
        row(
            "idle.cpu",
            format!("  CPU time in {seconds} s (schedstat)"),
            used.cpu_ns as f64 / 1e6,
            " ms",
            None,
        ),
        row(
            "idle.switches",
            format!("  context switches in {seconds} s"),
            used.switches as f64,
            "",
            None,
        ),
    ]
}

fn host_description() -> String {
    let read = |p: &str| std::fs::read_to_string(p).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|l| l.strip_prefix("model name"));
    let model = model.map_or("unknown CPU", |m| m.trim_matches(['\t', ' ', ':']));
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
    let release = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    format!(
        "{model}, {cpus} CPUs, Linux {}, load {}",
        release.trim(),
        load.split(' ').next().unwrap_or("?")
    )
}

/// Measures and prints. `lodger` is the running program, which is run again as
/// `lodger run` and, with [`mod@measured`], as what is measured.
///
/// # Errors
/// A filter that no figure has, or a chart that cannot be written.
pub fn run(lodger: PathBuf, o: &Options) -> Result<(), String> {
    for f in &o.filters {
        if !FIGURES.iter().any(|g| g.name.contains(f.as_str())) {
            let all: Vec<&str> = FIGURES.iter().map(|g| g.name).collect();
            return Err(format!("no figure {f}; there are {}", all.join(", ")));
        }
    }
    let wanted =
        |f: &&Figure| o.filters.is_empty() || o.filters.iter().any(|n| f.name.contains(n.as_str()));
    let figures: Vec<&Figure> = FIGURES.iter().filter(wanted).collect();
    let p = Programs(lodger);
    let host = host_description();
    let rounds = o.rounds.unwrap_or(if o.quick { 2 } else { 15 });
    let mut store = Store::default();
    let mut peers: Vec<Peer> = vec![];
    if figures.iter().any(|f| f.work) {
        peers.extend(Peer::ALL.into_iter().filter(|p| p.is_there()));
    }
    for r in 0..rounds {
        eprint!("\rround {} of {rounds}", r + 1);
        for f in &figures {
            // The longest measurements, and the steadiest.
            let long = f.kind == Kind::Scaling || f.work;
            if !long || r % 3 == 0 {
                round(&p, &peers, f, o, &mut store);
            }
        }
    }
    eprintln!();
    let mut all = vec![];
    let mut bars = vec![];
    for f in &figures {
        let rows = match f.kind {
            Kind::Idle => idle(&p, o),
            _ => rows(f, &peers, &store),
        };
        if let (Kind::Guest(..), [seccomp, kml, ..]) = (f.kind, &rows[..]) {
            bars.push(svg::Group {
                what: f.what,
                ratios: [seccomp.value, kml.value],
            });
        }
        all.extend(rows);
    }
    if o.json {
        print!("{}", report::json(&all));
    } else {
        println!("{host}\n{rounds} rounds, medians\n");
        print!("{}", report::table(&all));
    }
    if let Some(to) = &o.svg {
        let chart = svg::chart(&bars, [PINNED, KML], &host);
        std::fs::write(to, chart).map_err(|e| format!("{}: {e}", to.display()))?;
    }
    Ok(())
}
