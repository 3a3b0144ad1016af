//! Real programs: scripts that must print the same in a machine as on the host.
//!
//! A script runs in the machine first (which changes nothing on the host) and
//! then on the host, in the same directory. A program that is not installed
//! skips its script with a line that says so. Interactive programs: `terminal`.

use libtest_mimic::Failed;
use lodger_tests::build::scratch;
use lodger_tests::engine::Engine;
use lodger_tests::machine::{Run, User};
use lodger_tests::suite::Suite;

/// (name, programs it needs, script, seconds in the machine).
type Script = (&'static str, &'static [&'static str], &'static str, u64);

macro_rules! scripts {
    ($($name:ident: $needs:expr, $limit:expr;)*) => {
        &[$((
            stringify!($name),
            &$needs,
            include_str!(concat!("../scripts/", stringify!($name), ".sh")),
            $limit,
        )),*]
    };
}

const SCRIPTS: &[Script] = scripts! {
    shell: ["bash"], 60;
    pipeline: ["find", "sort", "awk", "sed", "tar", "gzip", "sha256sum"], 600;
    coreutils: ["cp", "stat", "dd"], 60;
    python: ["python3"], 120;
    make: ["make", "gcc"], 300;
    project: ["make", "gcc"], 300;
    git: ["git"], 300;
    perl: ["perl"], 60;
    sqlite: ["sqlite3"], 120;
    procps: ["ps", "free"], 60;
    busybox: ["busybox"], 60;
    streams: ["bash"], 60;
    archives: ["xz", "bzip2", "zip", "unzip"], 120;
    crypto: ["openssl", "ssh-keygen"], 120;
    tools: ["jq", "bc", "file", "script"], 60;
    vim: ["vim"], 60;
    dpkg: ["dpkg", "apt"], 120;
    node: ["node"], 120;
    java: ["javac", "java"], 300;
    rust: ["cargo", "rustc"], 300;
};

/// Scripts whose output tells who runs them: not run as different users on the host and inside.
const TELL_USER: [&str; 2] = ["procps", "streams"];

/// Who runs a script: on the host, and inside.
#[derive(Clone, Copy, PartialEq, Eq)]
enum As {
    /// The user of the tests, as the same number inside.
    Me,
    /// An ordinary user, as the same number inside.
    Ordinary,
    /// An ordinary user, who is root inside, as without `--user`.
    Lodger,
}

impl As {
    fn host(self) -> User {
        match self {
            As::Me => User::Me,
            _ => User::Ordinary,
        }
    }
    fn name(self) -> &'static str {
        match self {
            As::Lodger => "user as root",
            _ => self.host().name(),
        }
    }
}

fn script((name, needs, text, limit): Script, who: As, cpus: &str) -> Result<(), Failed> {
    let user = who.host();
    if let Some(missing) = needs.iter().find(|p| !user.has(p)) {
        eprintln!("{name}: skipped, {missing} is not installed");
        return Ok(());
    }
    let form = format!("{name} {} {cpus} {}", who.name(), Engine::current().name());
    let dir = scratch().join(form.replace(' ', "-"));
    std::fs::create_dir_all(&dir)?;
    let path = dir.join("script.sh");
    std::fs::write(&path, text)?;
    if who != As::Me {
        lodger_tests::give(&dir);
    }
    let size = if lodger_tests::long() { "100" } else { "5" };
    let mut options = vec!["--cpus".to_string(), cpus.to_string()];
    if who != As::Lodger {
        let (u, g) = user.ids();
        options.extend(["--user".into(), format!("{u}:{g}")]);
    }
    let with = |r: Run| {
        r.dir(&dir)
            .env("MEGABYTES", size)
            .env("HOME", &dir)
            .env("TZ", "UTC")
            .limit(limit * if lodger_tests::long() { 3 } else { 1 })
    };
    let machine = Run::lodger_of(user, &options).args(["--", "bash"]);
    let machine = with(machine.arg(&path)).run();
    let now: Vec<_> = std::fs::read_dir(&dir)?
        .flatten()
        .map(|e| e.file_name())
        .collect();
    if now != ["script.sh"] {
        return Err(format!("the machine wrote to the host: {now:?}").into());
    }
    let host = with(Run::command("bash").of(user).arg(&path)).run();
    let _ = std::fs::remove_dir_all(&dir);
    if machine.left > 0 {
        return Err(format!("{} processes left behind", machine.left).into());
    }
    if host.code() == machine.code() && host.stdout == machine.stdout {
        return Ok(());
    }
    let (h, m) = (host.out(), machine.out());
    let at = h
        .lines()
        .zip(m.lines())
        .position(|(a, b)| a != b)
        .unwrap_or(h.lines().count().min(m.lines().count()));
    let show = |s: &str| {
        s.lines()
            .skip(at.saturating_sub(2))
            .take(8)
            .collect::<Vec<_>>()
            .join("\n    ")
    };
    Err(format!(
        "status: host {} machine {} after {:?}\nfrom line {}:\n  host:\n    {}\n  machine:\n    {}\nmachine's stderr: {}",
        host.code(),
        machine.code(),
        machine.took,
        at + 1,
        show(&h),
        show(&m),
        machine.err_tail()
    )
    .into())
}

/// The forms in which a script runs. The short form takes each script as each
/// user once, with one vCPU or two, under either engine; the long form takes everything.
fn forms(i: usize) -> Vec<(Engine, As, &'static str)> {
    let mut all = vec![];
    let users = match lodger_tests::is_root() {
        true => &[As::Me, As::Ordinary, As::Lodger][..],
        false => &[As::Ordinary, As::Lodger],
    };
    let tells = TELL_USER.contains(&SCRIPTS[i].0);
    let users = users.iter().filter(|u| !(tells && **u == As::Lodger));
    for (j, who) in users.enumerate() {
        match (lodger_tests::long(), who) {
            (true, _) => {
                for engine in Engine::all() {
                    all.extend([(engine, *who, "1"), (engine, *who, "2")]);
                }
            }
            (false, As::Lodger) if !i.is_multiple_of(4) => {}
            (false, _) => all.push((Engine::turn(i / 2 + j), *who, ["2", "1"][(i + j) % 2])),
        }
    }
    all
}

fn main() {
    let mut suite = Suite::new("programs").two_at_once();
    for (i, s) in SCRIPTS.iter().enumerate() {
        for (engine, who, cpus) in forms(i) {
            let name = format!("{} {} cpus {cpus}", s.0, who.name());
            suite.add_under(engine, &name, move || script(*s, who, cpus));
        }
    }
    suite.run();
}
