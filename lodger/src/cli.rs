//! The command line.

use crate::size;
use clap::builder::{OsStringValueParser, TypedValueParser, ValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand, ValueEnum};
use hal::platform::LogLevel;
use host_os::shutdown::NOT_STARTED;
use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;

const EXIT_STATUS: &str = "\
Exit status:
  The command's own; 128+N if signal N ended it; and
  120  the machine's kernel crashed (a bug in Lodger)
  125  bad command line, or the machine could not be started or was destroyed
       from outside
  126  CMD could not be executed
  127  CMD was not found";

/// A Linux-ABI kernel that runs as an ordinary host process.
#[derive(Parser, Debug)]
#[command(name = "lodger", version, after_help = EXIT_STATUS, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Boot a machine on a copy-on-write view of a host directory and run a command in it.
    Run(RunArgs),
    /// Measure machines beside this host: calls, processes, programs.
    Bench(BenchArgs),
    /// The measured program of `bench`.
    #[command(hide = true)]
    BenchMeasured {
        /// `NAME:BATCHES`.
        what: Vec<String>,
    },
}

/// Options of `lodger bench`.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// Rounds of all measurements [default: 15, with --quick 2].
    #[arg(long, value_name = "N")]
    pub rounds: Option<NonZeroU32>,
    /// Short batches: whether it works, rather than how fast.
    #[arg(long)]
    pub quick: bool,
    /// Print one JSON object a line instead of the table.
    #[arg(long)]
    pub json: bool,
    /// Draw the ratios to the host as a bar chart into FILE.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Only figures whose name contains one of these.
    #[arg(value_name = "FILTER")]
    pub filters: Vec<String>,
}

/// How guest code is run.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineName {
    /// Isolated: guest code in processes that hold nothing but guest pages.
    Seccomp,
    /// Kernel mode, experimental: the kernel is mapped into the user processes, which
    /// can damage it; for programs that are trusted.
    Kml,
}

impl EngineName {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            EngineName::Seccomp => "seccomp",
            EngineName::Kml => "kml",
        }
    }
}

/// Whether the kernel process is confined.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confine {
    /// It gives up all rights, files and host calls that it does not need.
    On,
    /// It stays an ordinary process of its user, for debugging.
    Off,
}

/// Values of `--log-level`.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

impl From<Level> for LogLevel {
    fn from(l: Level) -> LogLevel {
        match l {
            Level::Error => LogLevel::Error,
            Level::Warn => LogLevel::Warn,
            Level::Info => LogLevel::Info,
            Level::Debug => LogLevel::Debug,
        }
    }
}

/// Options of `lodger run`.
#[derive(Args, Debug)]
#[command(after_help = EXIT_STATUS)]
pub struct RunArgs {
    /// Directory of the host that is the guest's root; it is never written.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Show a directory or file of the host at GUEST [default: the same path],
    /// writable unless `:ro` is given. Repeatable.
    #[arg(long, value_name = "HOST[:GUEST][:ro]")]
    pub bind: Vec<OsString>,
    /// Working directory in the guest; must exist there [default: the caller's, or / if
    /// that does not].
    #[arg(long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// Set a variable, or pass the caller's on. Repeatable.
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = variable())]
    pub env: Vec<OsString>,
    /// Start from an empty environment instead of the caller's.
    #[arg(long)]
    pub clean_env: bool,
    /// User to run as, by the guest's /etc/passwd and /etc/group.
    #[arg(long, value_name = "NAME|UID[:GID]", default_value = "0")]
    pub user: String,
    /// Host name of the machine.
    #[arg(long, value_name = "NAME", default_value = "lodger", value_parser = hostname)]
    pub hostname: String,
    /// Memory of the machine, such as 512M; used as far as needed
    /// [default: a quarter of the host's, 512M to 4G].
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub mem: Option<u64>,
    /// Number of virtual CPUs, 1 to 64 [default: the host CPUs that may be used].
    #[arg(long, value_name = "N", value_parser = cpus)]
    pub cpus: Option<u32>,
    /// How guest code is run.
    #[arg(
        long,
        value_enum,
        value_name = "NAME",
        default_value = "seccomp",
        env = "LODGER_ENGINE"
    )]
    pub engine: EngineName,
    /// With the engine kml: leave the call sites of programs as they are, so that each
    /// call traps.
    #[arg(long)]
    pub no_patch: bool,
    /// Keep the machine's memory in this file (for debugging, also after a crash).
    #[arg(long, value_name = "PATH")]
    pub memory_file: Option<PathBuf>,
    /// Confine the kernel process to what it needs of the host; `off` is for debugging.
    #[arg(long, value_enum, value_name = "WHAT", default_value = "on")]
    pub confine: Confine,
    /// Least severe kernel messages to print on stderr.
    #[arg(long, value_enum, value_name = "LEVEL", default_value = "warn")]
    pub log_level: Level,
    /// Print the guest's system calls on stderr.
    #[arg(long)]
    pub strace: bool,
    /// For tests: a clock interrupt every N microseconds, due or not.
    #[arg(long, hide = true, value_name = "N", default_value_t = 0)]
    pub tick_us: u32,
    /// For tests: does this to the host from inside the confined kernel process.
    #[arg(long, hide = true, value_name = "ATTACK")]
    pub confine_probe: Option<String>,
    /// Command to run, and its arguments.
    #[arg(required = true, value_name = "CMD", trailing_var_arg = true)]
    pub command: Vec<OsString>,
}

fn cpus(text: &str) -> Result<u32, String> {
    let max = hal::cpu::MAX_CPUS;
    match text.parse::<u32>() {
        Ok(n) if n >= 1 && n as usize <= max => Ok(n),
        _ => Err(format!("expected a number from 1 to {max}")),
    }
}

fn hostname(text: &str) -> Result<String, String> {
    // HOST_NAME_MAX is 64.
    if text.is_empty() || text.len() > 64 || text.bytes().any(|b| b <= b' ' || b == 0x7f) {
        return Err("expected 1 to 64 characters without spaces".into());
    }
    Ok(text.into())
}

fn variable() -> ValueParser {
    OsStringValueParser::new()
        .try_map(|v| {
            let bad = v.is_empty() || v.as_encoded_bytes().starts_with(b"=");
            if bad {
                Err("expected NAME or NAME=VALUE")
            } else {
                Ok(v)
            }
        })
        .into()
}

/// Parses the process's arguments. Help goes to stdout; a mistake is one line
/// on stderr and ends the process.
pub fn parse() -> Cli {
    Cli::try_parse().unwrap_or_else(|e| match e.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = e.print();
            std::process::exit(0)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = e.print();
            std::process::exit(NOT_STARTED)
        }
        _ => fail(&one_line(&e)),
    })
}

/// Reports that the machine cannot be started, and ends this process.
pub fn fail(why: &str) -> ! {
    host_os::log::plain(&format!("lodger: {why}"));
    host_os::shutdown::end(NOT_STARTED)
}

/// A mistake on the command line in one line, with what was probably meant.
fn one_line(e: &clap::Error) -> String {
    let text = e.render().to_string();
    let what: Vec<&str> = text
        .lines()
        .take_while(|l| !l.trim().is_empty())
        .map(str::trim)
        .collect();
    let what = what.join(" ");
    let mut line = what.strip_prefix("error: ").unwrap_or(&what).to_string();
    let suggestion = [
        ContextKind::SuggestedArg,
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedValue,
    ]
    .into_iter()
    .find_map(|k| match e.get(k)? {
        ContextValue::String(s) => Some(s.clone()),
        ContextValue::Strings(v) => v.first().cloned(),
        _ => None,
    });
    match suggestion {
        Some(s) => line.push_str(&format!(" (did you mean '{s}'?)")),
        None => line.push_str(" (try 'lodger run --help')"),
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn run(args: &[&str]) -> Result<RunArgs, String> {
        let all = ["lodger", "run"].iter().chain(args);
        match Cli::try_parse_from(all) {
            Ok(Cli {
                command: Command::Run(r),
            }) => Ok(r),
            Ok(c) => panic!("{c:?}"),
            Err(e) => Err(one_line(&e)),
        }
    }

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_end_at_the_command() {
        let r = run(&["--mem", "64M", "sh", "-c", "true", "--mem"]).unwrap();
        assert_eq!(r.mem, Some(64 << 20));
        assert_eq!(r.command, ["sh", "-c", "true", "--mem"]);
        let r = run(&["--env", "A=1", "--env", "B", "--", "--odd"]).unwrap();
        assert_eq!(r.command, ["--odd"]);
        assert_eq!(r.env, ["A=1", "B"]);
        let r = run(&["ls", "--", "-l"]).unwrap();
        assert_eq!(r.command, ["ls", "--", "-l"]);
    }

    #[test]
    fn mistakes_are_one_line_with_a_suggestion() {
        for (args, part) in [
            (
                &["--hostnam", "x", "true"][..],
                "did you mean '--hostname'?",
            ),
            (&["--engine", "secomp", "true"], "did you mean 'seccomp'?"),
            (&["--cpus", "0", "true"], "from 1 to 64"),
            (&["--cpus", "65", "true"], "from 1 to 64"),
            (&["--mem", "lots", "true"], "such as 512M"),
            (&["--hostname", "", "true"], "--hostname"),
            (&["--env", "=x", "true"], "NAME=VALUE"),
            (&[], "CMD"),
        ] {
            let e = run(args).unwrap_err();
            assert!(e.contains(part), "{e}");
            assert_eq!(e.lines().count(), 1, "{e}");
        }
    }
}
