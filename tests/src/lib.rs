//! What the tests share: building the programs, running a machine under a time
//! limit, comparing with the host, the lists of known failures, a terminal driver.
//!
//! - [`build`]: the `lodger` binary and the guest programs, built by a nested cargo.
//! - [`engine`]: which engine runs the machines.
//! - [`machine`]: one run of a command in its own session, with everything it started.
//! - [`procs`]: which processes belong to such a run, read from `/proc`.
//! - [`guest`]: batches of guest tests, on the host or in a machine.
//! - [`host`]: what a machine must not change.
//! - [`known`]: known failures, one list per suite.
//! - [`pty`]: drives an interactive program, as expect(1) does.
//! - [`sentry`]: which host calls guests get through.
//! - [`suite`]: a list of tests that is judged by known failures.
//!
//! The long forms of the tests run when `LODGER_LONG` is set; `LODGER_BIN` names another binary to test.

pub mod build;
pub mod engine;
pub mod guest;
pub mod host;
pub mod known;
pub mod machine;
pub mod procs;
pub mod pty;
pub mod sentry;
pub mod suite;

/// Whether the long forms are wanted.
pub fn long() -> bool {
    std::env::var_os("LODGER_LONG").is_some_and(|v| v != "0")
}

/// Whether the tests themselves run as root.
pub fn is_root() -> bool {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// A directory of the ordinary user's own.
pub fn user_dir() -> std::path::PathBuf {
    let dir = build::scratch().join("home");
    if std::fs::create_dir(&dir).is_ok() {
        give(&dir);
    }
    dir
}

/// Gives a file to the ordinary user, if root runs the tests.
pub fn give(path: &std::path::Path) {
    if is_root() {
        let (u, g) = machine::User::Ordinary.ids();
        std::os::unix::fs::chown(path, Some(u), Some(g)).expect("change of owner");
    }
}
