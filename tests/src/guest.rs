//! Batches of guest tests, on the host or in a machine.

use crate::build::{Link, guest, memory_scratch};
use crate::engine::Engine;
use crate::machine::Run;
use std::collections::HashMap;

/// How the tests are run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Form {
    /// Linking of the program.
    pub link: Link,
    /// As an ordinary user instead of root.
    pub user: bool,
    /// vCPUs of the machine; 0 on the host.
    pub cpus: u32,
    /// Microseconds between clock interrupts; 0 = as they are due.
    pub tick_us: u32,
    /// Engine of the machine; `Seccomp` on the host.
    pub engine: Engine,
}

impl Form {
    /// The same on the host.
    pub fn on_host(self) -> Form {
        Form {
            cpus: 0,
            tick_us: 0,
            engine: Engine::Seccomp,
            ..self
        }
    }
}

/// Output and status of one test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// What it printed.
    pub output: String,
    /// How it ended: `exit 0`, a signal, or what happened to the machine.
    pub end: String,
}

/// Names of all tests.
pub fn list() -> Vec<String> {
    let out = Run::command(guest(Link::Dynamic)).arg("--list").run();
    out.out().lines().map(str::to_string).collect()
}

/// User and group for the ordinary user.
const NOBODY: u32 = 65534;

fn options(form: Form) -> Run {
    let r = if form.cpus == 0 {
        Run::command(guest(form.link)).env("GUEST_TMP", memory_scratch())
    } else {
        let cpus = form.cpus.to_string();
        let engine = form.engine.name().to_string();
        let mut o = vec!["--cpus".to_string(), cpus, "--engine".into(), engine];
        if form.tick_us > 0 {
            o.extend(["--tick-us".to_string(), form.tick_us.to_string()]);
        }
        if !crate::is_root() {
            // SAFETY: no arguments, cannot fail.
            let (u, g) = unsafe { (libc::getuid(), libc::getgid()) };
            o.extend(["--user".to_string(), format!("{u}:{g}")]);
        }
        Run::lodger(&o).arg("--").arg(guest(form.link))
    };
    let r = r.dir("/");
    if form.user && crate::is_root() {
        r.args(["--uid", &NOBODY.to_string()])
    } else {
        r
    }
}

/// Runs these tests one after another, in as few machines as possible. A test that
/// brings the machine down is reported so and the rest goes on in a new one.
pub fn run(form: Form, names: &[String]) -> HashMap<String, Text> {
    let mut done = HashMap::new();
    let mut todo: Vec<String> = names.to_vec();
    while !todo.is_empty() {
        let slow = if form.tick_us > 0 { 3 } else { 1 };
        let limit = 30 + slow * 25 * todo.len().min(12) as u64;
        let out = options(form)
            .args([
                "--limit",
                if form.tick_us > 0 { "60" } else { "20" },
                "--batch",
            ])
            .args(&todo)
            .limit(limit)
            .run();
        let (ended, open) = parse(&out.out());
        let progress = !ended.is_empty();
        done.extend(ended);
        todo.retain(|n| !done.contains_key(n));
        let how = || {
            let status = out.status.map_or("reached the time limit".into(), |s| {
                format!("ended with {s}")
            });
            format!("the run {status}\n{}", out.err_tail())
        };
        if let Some((name, output)) = open {
            todo.retain(|n| *n != name);
            done.insert(name, Text { output, end: how() });
        } else if !progress {
            for name in todo.drain(..) {
                done.insert(
                    name,
                    Text {
                        output: String::new(),
                        end: how(),
                    },
                );
            }
        }
        if todo.is_empty()
            && out.left > 0
            && let Some(last) = names.last().and_then(|n| done.get_mut(n))
        {
            last.end = format!("{} processes were left behind", out.left);
        }
    }
    done
}

type Ended = HashMap<String, Text>;

/// The tests that ended, and the one that did not.
fn parse(text: &str) -> (Ended, Option<(String, String)>) {
    let mut done = HashMap::new();
    let mut open: Option<(String, String)> = None;
    for line in text.split_inclusive('\n') {
        let l = line.trim_end_matches(['\r', '\n']);
        if let Some(rest) = l.strip_prefix("=== end ") {
            if let Some((name, output)) = open.take() {
                let end = rest.strip_prefix(&name).unwrap_or(rest).trim().to_string();
                done.insert(name, Text { output, end });
            }
        } else if let Some(name) = l.strip_prefix("=== ") {
            open = Some((name.to_string(), String::new()));
        } else if let Some((_, output)) = &mut open {
            output.push_str(line);
        }
    }
    (done, open)
}

/// The first differing lines, for a report.
pub fn difference(host: &Text, machine: &Text) -> Option<String> {
    if host == machine {
        return None;
    }
    let mut s = String::new();
    if host.end != machine.end {
        s.push_str(&format!(
            "end: host {:?}, machine {}\n",
            host.end, machine.end
        ));
    }
    let (h, m): (Vec<&str>, Vec<&str>) = (
        host.output.lines().collect(),
        machine.output.lines().collect(),
    );
    let mut shown = 0;
    for i in 0..h.len().max(m.len()) {
        let (a, b) = (
            h.get(i).copied().unwrap_or("(nothing)"),
            m.get(i).copied().unwrap_or("(nothing)"),
        );
        if a != b {
            s.push_str(&format!(
                "line {}: host    {a}\n{:width$}machine {b}\n",
                i + 1,
                "",
                width = 7 + (i + 1).to_string().len()
            ));
            shown += 1;
            if shown == 12 {
                s.push_str("…\n");
                break;
            }
        }
    }
    Some(s)
}
