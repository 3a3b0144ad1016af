//! Builds what the tests run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Root of the source tree.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("/"))
}

/// `target` of this build: three levels above the test executable
/// (`target/PROFILE/deps/NAME`), so that it follows `CARGO_TARGET_DIR`.
pub fn target_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("path of this program");
    exe.ancestors()
        .nth(3)
        .expect("target directory")
        .to_path_buf()
}

/// `release` or `debug`, as this program was built.
pub fn profile() -> &'static str {
    static P: OnceLock<String> = OnceLock::new();
    P.get_or_init(|| {
        let exe = std::env::current_exe().expect("path of this program");
        let dir = exe.ancestors().nth(2).and_then(|d| d.file_name());
        dir.map_or("debug".into(), |n| n.to_string_lossy().into_owned())
    })
}

/// A nested cargo. It uses target directories of its own where flags differ.
pub fn cargo() -> Command {
    let mut c = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    c.current_dir(root());
    for (k, _) in std::env::vars_os() {
        let s = k.to_string_lossy();
        if s.starts_with("CARGO_PKG_") || s.starts_with("CARGO_MANIFEST") || s == "CARGO_CRATE_NAME"
        {
            c.env_remove(&k);
        }
    }
    c
}

fn run(mut c: Command, what: &str) {
    let out = c.output().unwrap_or_else(|e| panic!("{what}: {e}"));
    if !out.status.success() {
        panic!("{what} failed:\n{}", String::from_utf8_lossy(&out.stderr));
    }
}

fn build(package: &str, bin: &str, dir: &Path, static_crt: bool) -> PathBuf {
    let mut c = cargo();
    c.args(["build", "-q", "-p", package, "--bin", bin, "--target-dir"])
        .arg(dir);
    if profile() == "release" {
        c.arg("--release");
    }
    if static_crt {
        c.env_remove("CARGO_ENCODED_RUSTFLAGS");
        c.env("RUSTFLAGS", "-C target-feature=+crt-static");
    }
    run(c, &format!("building {bin}"));
    dir.join(if profile() == "release" {
        "release"
    } else {
        "debug"
    })
    .join(bin)
}

/// The `lodger` binary under test.
pub fn lodger() -> &'static Path {
    static P: OnceLock<PathBuf> = OnceLock::new();
    P.get_or_init(|| match std::env::var_os("LODGER_BIN") {
        Some(p) => p.into(),
        None => build("lodger", "lodger", &target_dir(), false),
    })
}

/// The same, in a place that every user can reach.
pub fn public_lodger() -> &'static Path {
    static P: OnceLock<PathBuf> = OnceLock::new();
    P.get_or_init(|| {
        let to = scratch().join("lodger");
        std::fs::copy(lodger(), &to).expect("copy of lodger");
        to
    })
}

/// How a guest program is linked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs)]
pub enum Link {
    Static,
    Dynamic,
}

/// Directories of test runs, as `NAME` + process id.
const SCRATCH: &str = "lodger-tests-";

/// A directory that everybody may read, removed when the process ends normally
/// through [`remove_scratch`].
pub fn scratch() -> &'static Path {
    static P: OnceLock<PathBuf> = OnceLock::new();
    P.get_or_init(|| own_directory(&std::env::temp_dir()))
}

/// As [`scratch`], on a tmpfs if the host has one.
pub fn memory_scratch() -> &'static Path {
    let shm = Path::new("/dev/shm");
    static P: OnceLock<PathBuf> = OnceLock::new();
    P.get_or_init(|| {
        if shm.is_dir() {
            own_directory(shm)
        } else {
            scratch().to_path_buf()
        }
    })
}

/// A directory named after this process; those of runs that were killed go.
fn own_directory(base: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    for e in std::fs::read_dir(base).into_iter().flatten().flatten() {
        let name = e.file_name();
        let pid = (name.to_str())
            .and_then(|n| n.strip_prefix(SCRATCH))
            .and_then(|n| n.parse::<u32>().ok());
        if pid.is_some_and(|p| !Path::new(&format!("/proc/{p}")).exists()) {
            let _ = std::fs::remove_dir_all(e.path());
        }
    }
    let p = base.join(format!("{SCRATCH}{}", std::process::id()));
    std::fs::create_dir_all(&p).expect("scratch directory");
    std::fs::set_permissions(&p, std::fs::Permissions::from_mode(0o755))
        .expect("scratch directory");
    p
}

/// Removes the directories of this run.
pub fn remove_scratch() {
    let name = format!("{SCRATCH}{}", std::process::id());
    for base in [std::env::temp_dir(), "/dev/shm".into()] {
        let _ = std::fs::remove_dir_all(base.join(&name));
    }
}

/// The guest test program, copied to a place that every user can reach.
pub fn guest(link: Link) -> PathBuf {
    static P: OnceLock<[PathBuf; 2]> = OnceLock::new();
    let both = P.get_or_init(|| {
        [Link::Static, Link::Dynamic].map(|l| {
            let from = build(
                "lodger-guest",
                "guest",
                &target_dir().join(if l == Link::Static {
                    "guest-static"
                } else {
                    "guest-dynamic"
                }),
                l == Link::Static,
            );
            let dir = scratch().join(if l == Link::Static {
                "static"
            } else {
                "dynamic"
            });
            std::fs::create_dir_all(&dir).expect("scratch directory");
            let to = dir.join("guest");
            std::fs::copy(&from, &to).expect("copy of the guest program");
            to
        })
    });
    both[(link == Link::Dynamic) as usize].clone()
}
