//! `lodger run`: from the command line to a running machine.
//!
//! The order matters: check everything that can be wrong; make the memory file; open
//! what has a name on the host; fork the terminal's guardian; give up rights and files;
//! fork the ancestor of the user processes, which inherits that; start threads; give up
//! host calls; switch to the boot stack.

use crate::bind::{self, Spec};
use crate::cli::{Confine, EngineName, RunArgs, fail};
use crate::machine::{self, Host};
use crate::{crash, users};
use arch_um::{HostFacts, X86_64};
use boot::{Bind, BootParams};
use host_os::confine::{self, Attributes, Handles};
use host_os::console::HostConsole;
use host_os::dir::HostTree;
use host_os::dir::fds::Fds;
use host_os::mem::{MIN_SIZE, MemFile};
use host_os::platform::Devs;
use host_os::{limits, log};
use host_sys::{file, misc, task};
use std::ffi::{CString, OsString};
use std::io::Read;
use std::os::fd::FromRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest /etc/passwd or /etc/group looked at.
const USER_FILE_MAX: u64 = 16 << 20;

/// Runs the machine. `signal_mask` and `closed` describe how this process was started.
pub fn run(args: RunArgs, signal_mask: u64, closed: [bool; 3]) -> ! {
    log::set_level(args.log_level.into());
    if args.memory_file.is_some() {
        fix_addresses(closed);
    }
    if args.engine == EngineName::Kml {
        machine::share_memory();
    }
    let umask = file::umask(0);
    let mem = memory_size(args.mem);
    let ncpus = args.cpus.unwrap_or_else(host_cpus);
    let cwd = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let binds = binds(&args.bind, &cwd);
    let fds = Arc::new(Fds::new(limits::raise_descriptors()));
    let confined = args.confine == Confine::On;
    let (trees, attributes) = open_trees(&args.root, &binds, &fds, confined);
    let who = identity(&args.user, &args.root);
    if !misc::has_seccomp_trap() {
        fail("this host has no seccomp filters, which the engine 'seccomp' needs");
    }
    let params = BootParams {
        argv: args.command.into_iter().map(OsString::into_vec).collect(),
        envp: environment(&args.env, args.clean_env),
        cwd: match &args.workdir {
            Some(d) => match bind::normal(cwd.join(d).as_os_str().as_bytes()) {
                Ok(d) => d,
                Err(e) => fail(&format!("--workdir: {e}")),
            },
            None => cwd.into_os_string().into_vec(),
        },
        cwd_required: args.workdir.is_some(),
        uid: who.uid,
        gid: who.gid,
        groups: who.groups,
        umask,
        hostname: args.hostname.into_bytes(),
        ncpus,
        strace: args.strace,
        log_level: args.log_level.into(),
        binds: (1..)
            .zip(binds)
            .map(|(i, b)| Bind {
                host_dir: i,
                guest: b.guest,
                read_only: b.read_only,
            })
            .collect(),
        cmdline: format!(
            "lodger mem={}M cpus={ncpus} engine={}",
            mem >> 20,
            args.engine.name()
        ),
    };
    crash::take_backtraces();

    let memory = MemFile::create(mem, args.memory_file.as_deref())
        .unwrap_or_else(|e| fail(&memory_error(&e, &args.memory_file)));
    crash::set_memory_file(memory.path().map(Path::to_path_buf));
    let devs = Devs::open(signal_mask, closed).unwrap_or_else(|e| fail(&e.to_string()));
    let facts = HostFacts::read();
    let arch = X86_64::detect();
    if confined {
        // From here on nothing is opened by its name.
        crash::open_images();
        confine::enter(&trees, &[facts.proc_dir()], attributes)
            .unwrap_or_else(|e| fail(&e.to_string()));
    }
    let tick_ns = u64::from(args.tick_us) * 1000;
    let confined = confined.then(|| Handles {
        memory: memory.fd(),
        console: devs.console().map(HostConsole::descriptor),
        group: 0,
        writes: trees.iter().any(|t| t.is_writable()),
    });
    let engine = machine::begin_engine(
        args.engine,
        !args.no_patch,
        &memory,
        ncpus,
        facts,
        tick_ns,
        confined,
    );
    machine::start(
        Host {
            engine,
            memory,
            devs,
            trees,
            arch,
            confined,
            probe: args.confine_probe,
        },
        params,
    )
}

fn memory_error(e: &host_os::mem::Error, path: &Option<PathBuf>) -> String {
    use host_os::mem::Error as E;
    match (e, path) {
        (E::TooSmall { .. } | E::TooLarge { .. }, _) => format!("--mem: {e}"),
        (_, Some(_)) => format!("--memory-file: {e}"),
        _ => e.to_string(),
    }
}

/// Makes addresses of code and constants the same in every run, for whoever
/// reads the memory file later: starts this program anew without randomisation.
fn fix_addresses(closed: [bool; 3]) {
    let Ok(now) = misc::personality(u64::from(u32::MAX)) else {
        return;
    };
    if now & misc::ADDR_NO_RANDOMIZE != 0 {
        return;
    }
    if misc::personality(now | misc::ADDR_NO_RANDOMIZE).is_err() {
        return;
    }
    for (i, closed) in closed.into_iter().enumerate() {
        if closed {
            host_sys::fd::close(i as i32);
        }
    }
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_else(|| "lodger".into());
    // Comes back only if it fails; then the addresses stay random.
    let _ = std::process::Command::new("/proc/self/exe")
        .arg0(name)
        .args(args)
        .exec();
    let _ = misc::personality(now);
}

/// Size of the memory file: as asked, or a quarter of the host's memory within 512M to 4G.
fn memory_size(asked: Option<u64>) -> u64 {
    let size = asked.unwrap_or_else(|| {
        let quarter = misc::total_ram().unwrap_or(0) / 4;
        quarter.clamp(512 << 20, 4 << 30) & !((1 << 20) - 1)
    });
    if size < MIN_SIZE {
        let hint = if size > 0 && size < 1 << 16 {
            format!("; {size} bytes given, did you mean {size}M?")
        } else {
            String::new()
        };
        fail(&format!(
            "--mem: too little memory to boot: at least {}M{hint}",
            MIN_SIZE >> 20
        ));
    }
    size
}

fn host_cpus() -> u32 {
    let n = task::affinity(0).map_or(1, |s| s.iter().count());
    n.clamp(1, hal::cpu::MAX_CPUS) as u32
}

fn binds(texts: &[OsString], cwd: &Path) -> Vec<Spec> {
    let parse = |t: &OsString| {
        bind::parse(t, cwd)
            .unwrap_or_else(|e| fail(&format!("--bind {}: {e}", t.to_string_lossy())))
    };
    texts.iter().map(parse).collect()
}

fn open_trees(
    root: &Path,
    binds: &[Spec],
    fds: &Arc<Fds>,
    confined: bool,
) -> (Vec<&'static HostTree>, Attributes) {
    let open = |option: &str, path: &Path, writable, id| {
        HostTree::open(path, writable, id, fds.clone()).unwrap_or_else(|e| {
            fail(&format!("{option} {}: {}", path.display(), reason(&e)));
        })
    };
    let top = open("--root", root, false, 0);
    if !top.is_dir() {
        fail(&format!(
            "--root {}: not a directory",
            root.to_string_lossy()
        ));
    }
    let mut trees = vec![top];
    for (id, b) in (1..).zip(binds) {
        trees.push(open("--bind", &b.host, !b.read_only, id));
    }
    let attributes = match confined {
        true => confine::detach(&mut trees),
        false => Attributes::Safe,
    };
    let leaked = trees.into_iter().map(|t| &*Box::leak(Box::new(t)));
    (leaked.collect(), attributes)
}

fn reason(e: &std::io::Error) -> String {
    match e.raw_os_error() {
        Some(n) => host_os::mem::text(host_sys::Errno(n as u16)),
        None => e.to_string(),
    }
}

fn environment(set: &[OsString], clean: bool) -> Vec<Vec<u8>> {
    let mut vars: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    if !clean {
        vars.extend(std::env::vars_os().map(|(n, v)| (n.into_vec(), v.into_vec())));
    }
    for item in set {
        let bytes = item.as_bytes();
        let (name, value) = match bytes.iter().position(|&b| b == b'=') {
            Some(n) => (&bytes[..n], bytes[n + 1..].to_vec()),
            None => match std::env::var_os(item) {
                Some(v) => (bytes, v.into_vec()),
                None => continue,
            },
        };
        vars.retain(|(n, _)| n != name);
        vars.push((name.to_vec(), value));
    }
    vars.into_iter()
        .map(|(n, v)| [&n[..], b"=", &v[..]].concat())
        .collect()
}

/// Whom the command runs as. Numbers work without the guest's user files.
fn identity(spec: &str, root: &Path) -> users::Identity {
    if spec == "0" {
        return users::Identity::default();
    }
    let passwd = read_in_root(root, "etc/passwd");
    let group = read_in_root(root, "etc/group");
    users::resolve(spec, &passwd, &group).unwrap_or_else(|e| fail(&format!("--user {spec}: {e}")))
}

/// Text of a file of the guest's root; links in it are taken as the guest takes
/// them. Empty if it cannot be read.
fn read_in_root(root: &Path, name: &str) -> String {
    let open = || {
        let dir = CString::new(root.as_os_str().as_bytes()).ok()?;
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let dir = host_sys::fd::open(&dir, flags, 0).ok()?;
        let name = CString::new(name).ok()?;
        let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
        let fd = match file::openat2(dir, &name, flags, 0, libc::RESOLVE_IN_ROOT) {
            Err(host_sys::Errno::ENOSYS) => {
                file::openat(dir, &name, flags | libc::O_NOFOLLOW, 0).ok()
            }
            r => r.ok(),
        };
        host_sys::fd::close(dir);
        // SAFETY: just opened, owned by nobody else.
        Some(unsafe { std::fs::File::from_raw_fd(fd?) })
    };
    let mut text = Vec::new();
    if let Some(f) = open() {
        let _ = f.take(USER_FILE_MAX).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_is_the_callers_with_changes() {
        let set = |v: &[&str]| v.iter().map(OsString::from).collect::<Vec<_>>();
        let e = environment(&set(&["A=1", "B=", "A=2=3", "LODGER_UNSET_VARIABLE"]), true);
        assert_eq!(e, [b"B=".to_vec(), b"A=2=3".to_vec()]);
        let all = environment(&set(&["PATH=/x"]), false);
        assert!(all.contains(&b"PATH=/x".to_vec()));
        let named = |n: &[u8]| all.iter().filter(|v| v.starts_with(n)).count();
        assert_eq!(named(b"PATH="), 1);
    }

    #[test]
    fn reads_the_guests_files() {
        assert!(read_in_root(Path::new("/"), "etc/passwd").contains("root:"));
        assert_eq!(read_in_root(Path::new("/nowhere"), "etc/passwd"), "");
    }
}
