//! Other systems that run programs of the host, where they are installed: the same
//! measured program, in the same files, on a tmpfs of their own.

use crate::machine::{Cpus, batches};
use std::path::Path;
use std::process::{Command, Stdio};

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// User-Mode Linux: `linux.uml`, with the host's root as its own, read-only.
    Uml,
    /// gVisor: `runsc do`.
    Gvisor,
}

impl Peer {
    /// In the order of the table.
    pub const ALL: [Peer; 2] = [Peer::Uml, Peer::Gvisor];

    /// What rows and samples call it.
    pub fn name(self) -> &'static str {
        match self {
            Peer::Uml => "uml",
            Peer::Gvisor => "gvisor",
        }
    }

    /// What the table calls it.
    pub fn title(self) -> &'static str {
        match self {
            Peer::Uml => "User-Mode Linux",
            Peer::Gvisor => "gVisor",
        }
    }

    /// Its command.
    fn program(self) -> &'static str {
        match self {
            Peer::Uml => "linux.uml",
            Peer::Gvisor => "runsc",
        }
    }

    /// Whether this host has it; says so if not.
    pub fn is_there(self) -> bool {
        let version = Command::new(self.program())
            .arg("--version")
            .stdin(Stdio::null())
            .output();
        if version.is_err() {
            let (title, program) = (self.title(), self.program());
            eprintln!("{title} is not measured: there is no {program} in the PATH");
        }
        version.is_ok()
    }

    /// The measured program in it, on one CPU.
    pub fn run(self, measured: &Path, what: &[String]) -> Vec<(String, f64)> {
        match self {
            Peer::Gvisor => {
                let mut c = runsc_do();
                batches(c.arg(measured).arg("bench-measured").args(what), Cpus::One)
            }
            Peer::Uml => {
                let mut c = Command::new(self.program());
                c.stderr(Stdio::null());
                let Some(init) = Init::write(measured, what) else {
                    return vec![];
                };
                c.args(["mem=2G", "rootfstype=hostfs", "rootflags=/", "ro", "quiet"]);
                c.args(["con=null", "con0=null,fd:1"]);
                c.arg(format!("init={}", init.0));
                batches(&mut c, Cpus::One)
            }
        }
    }
}

/// gVisor's command that runs another one, for root as for others.
pub fn runsc_do() -> Command {
    let mut c = Command::new("runsc");
    // SAFETY: no arguments, cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        c.arg("--rootless");
    }
    c.args(["--network=none", "do"]).stderr(Stdio::null());
    c
}

/// The first program of User-Mode Linux: a script, removed when dropped.
struct Init(String);

impl Init {
    fn write(measured: &Path, what: &[String]) -> Option<Init> {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::var("PATH").unwrap_or_default();
        let measured = measured.to_str()?;
        let script = format!(
            "#!/bin/sh\nexport PATH='{path}'\nmount -t proc proc /proc\nmkdir -p /dev/shm\n\
             mount -t tmpfs tmpfs /dev/shm\n'{measured}' bench-measured {}\n\
             echo o > /proc/sysrq-trigger\nsleep 10\n",
            what.join(" ")
        );
        let name = format!("/tmp/lodger-bench-init-{}", std::process::id());
        std::fs::write(&name, script).ok()?;
        let init = Init(name);
        let mode = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&init.0, mode).ok()?;
        Some(init)
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
