//! The differential runner: every guest test prints the same on the host's Linux
//! and in a machine.
//!
//! Some families also run in a storm of clock interrupts: one every 50 µs.
//!
//! Names are `FORM/FAMILY::TEST`; `cargo test --test diff -- file::` runs one family,
//! `-- host-` only the host's side (each test must pass there).

use libtest_mimic::{Arguments, Failed, Trial};
use lodger_tests::build::Link;
use lodger_tests::engine::Engine;
use lodger_tests::guest::{self, Form, Text};
use lodger_tests::known::Known;
use std::collections::HashMap;
use std::panic::catch_unwind;
use std::sync::{Arc, Condvar, Mutex, OnceLock};

/// The tests of one family in one form, which run one after another.
struct Batch {
    form: Form,
    family: String,
    names: Vec<String>,
    texts: OnceLock<HashMap<String, Text>>,
}

/// All batches, in the order in which the tests ask for them. Whoever finds that his has not
/// ended runs the next that nobody has begun, so there are as many at once as threads of tests.
#[derive(Default)]
struct Batches {
    all: Vec<Batch>,
    begun: Mutex<usize>,
    ended: Condvar,
}

fn family(name: &str) -> &str {
    name.split("::").next().unwrap_or("")
}

impl Batches {
    fn place(&self, form: Form, name: &str) -> Option<usize> {
        (self.all.iter()).position(|b| b.form == form && b.family == family(name))
    }

    fn add(&mut self, form: Form, name: &str) {
        let at = self.place(form, name).unwrap_or(self.all.len());
        if at == self.all.len() {
            self.all.push(Batch {
                form,
                family: family(name).to_string(),
                names: vec![],
                texts: OnceLock::new(),
            });
        }
        let names = &mut self.all[at].names;
        if !names.iter().any(|n| n == name) {
            names.push(name.to_string());
        }
    }

    fn text(&self, form: Form, name: &str) -> Text {
        let wanted = &self.all[self.place(form, name).expect("a test in the plan")];
        let mut begun = self.begun.lock().unwrap();
        loop {
            if let Some(texts) = wanted.texts.get() {
                return texts.get(name).cloned().unwrap_or(Text {
                    output: String::new(),
                    end: "not run".into(),
                });
            }
            let Some(next) = self.all.get(*begun) else {
                // Begun by another, who wakes all when it has ended.
                begun = self.ended.wait(begun).unwrap();
                continue;
            };
            *begun += 1;
            drop(begun);
            let texts = catch_unwind(|| guest::run(next.form, &next.names)).unwrap_or_default();
            begun = self.begun.lock().unwrap();
            next.texts.get_or_init(|| texts);
            self.ended.notify_all();
        }
    }
}

/// Time between clock interrupts in a storm of them, and what is run under one.
const STORM_US: u32 = 50;
const STORM: [&str; 8] = [
    "signal", "process", "futex", "threads", "pipe", "mmap", "rseq", "code",
];

fn label(f: Form) -> String {
    let link = if f.link == Link::Static {
        "static"
    } else {
        "dynamic"
    };
    let user = if f.user { "user" } else { "root" };
    let engine = f.engine.name();
    if f.tick_us > 0 {
        format!("{engine}-storm-cpus{}-{link}-{user}", f.cpus)
    } else if f.cpus == 0 {
        format!("host-{link}-{user}")
    } else {
        format!("{engine}-cpus{}-{link}-{user}", f.cpus)
    }
}

/// The long form is the full product. The short one has each link, user and number of vCPUs under
/// the first engine, and under the last, where call sites of dynamic programs are rewritten,
/// those on two vCPUs. Who is not root runs all as himself.
fn forms() -> Vec<Form> {
    let root = lodger_tests::is_root();
    let f = |engine, link, user: bool, cpus| Form {
        link,
        user: user || !root,
        cpus,
        tick_us: 0,
        engine,
    };
    let storm = |engine, link, user| Form {
        tick_us: STORM_US,
        ..f(engine, link, user, 2)
    };
    let (stat, dynamic) = (Link::Static, Link::Dynamic);
    let mut all = vec![];
    if lodger_tests::long() {
        for engine in Engine::all() {
            for link in [stat, dynamic] {
                for user in [false, true] {
                    all.extend([1, 2].map(|cpus| f(engine, link, user, cpus)));
                    all.push(storm(engine, link, user));
                }
            }
        }
    } else {
        let (first, last) = (Engine::turn(0), Engine::turn(1));
        all.extend([
            f(first, stat, false, 2),
            f(first, dynamic, true, 1),
            storm(first, stat, false),
            f(last, dynamic, false, 2),
        ]);
    }
    let mut seen = std::collections::HashSet::new();
    all.retain(|f| seen.insert(*f));
    all
}

fn selected(args: &Arguments, name: &str) -> bool {
    let hit = |p: &String| {
        if args.exact {
            name == p
        } else {
            name.contains(p.as_str())
        }
    };
    args.filter.as_ref().is_none_or(hit) && !args.skip.iter().any(hit)
}

fn main() {
    lodger_tests::procs::become_subreaper();
    let mut args = Arguments::from_args();
    // Machines are as parallel as the host has CPUs for.
    args.test_threads = args.test_threads.or(Some(2));
    let names = guest::list();
    let known = Arc::new(Known::load("diff"));
    let forms = forms();
    let mut batches = Batches::default();
    let mut plan: Vec<(String, Form, String)> = vec![];
    let mut host: Vec<Form> = vec![];
    for &form in &forms {
        let h = form.on_host();
        if !host.contains(&h) {
            host.push(h);
        }
    }
    for form in host.into_iter().chain(if known.off().is_some() {
        vec![]
    } else {
        forms.clone()
    }) {
        let calm = |n: &str| form.tick_us == 0 || STORM.contains(&family(n));
        for n in names.iter().filter(|n| calm(n)) {
            let full = format!("{}/{n}", label(form));
            if selected(&args, &full) {
                batches.add(form.on_host(), n);
                batches.add(form, n);
                plan.push((full, form, n.clone()));
            }
        }
    }
    let all: Vec<String> = (forms.iter())
        .flat_map(|f| names.iter().map(|n| format!("{}/{n}", label(*f))))
        .collect();
    if let Some(entry) = known.stale(&all) {
        eprintln!("tests/known/diff.txt: {entry} names no test");
        std::process::exit(101);
    }
    if let Some(reason) = known.off() {
        eprintln!("the machine's part is off: {reason}");
    }
    let batches = Arc::new(batches);
    let trials = plan
        .into_iter()
        .map(|(full, form, name)| {
            let (batches, known) = (batches.clone(), known.clone());
            Trial::test(full.clone(), move || {
                let host = batches.text(form.on_host(), &name);
                let r = if host.end != "exit 0" {
                    Err(format!("on the host: {}\n{}", host.end, host.output))
                } else if form.cpus == 0 {
                    Ok(())
                } else {
                    let r = guest::difference(&host, &batches.text(form, &name));
                    known.judge(&full, r.map_or(Ok(()), Err))
                };
                r.map_err(Failed::from)
            })
        })
        .collect();
    let end = libtest_mimic::run(&args, trials);
    lodger_tests::build::remove_scratch();
    end.exit();
}
