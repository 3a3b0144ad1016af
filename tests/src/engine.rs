//! The engine of the machines under test: one dimension of every suite.

use std::cell::Cell;

/// How a machine runs guest code, see `docs/arch`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs)]
pub enum Engine {
    Seccomp,
    Kml,
}

/// The variable in which a machine, and who runs the tests, names an engine.
pub const VARIABLE: &str = "LODGER_ENGINE";

thread_local! {
    static CURRENT: Cell<Engine> = const { Cell::new(Engine::Seccomp) };
}

impl Engine {
    /// Those under test: both, or the one that `LODGER_ENGINE` names.
    ///
    /// # Panics
    /// If it names none.
    pub fn all() -> Vec<Engine> {
        let both = [Engine::Seccomp, Engine::Kml];
        let Ok(wanted) = std::env::var(VARIABLE) else {
            return both.to_vec();
        };
        let one: Vec<_> = both.into_iter().filter(|e| e.name() == wanted).collect();
        assert!(!one.is_empty(), "{VARIABLE}: no engine {wanted:?}");
        one
    }
    /// One of those under test: `n` and `n + 1` are different ones, if there are two.
    pub fn turn(n: usize) -> Engine {
        let all = Engine::all();
        all[n % all.len()]
    }
    /// All of them in the long form, else one in turn.
    pub fn all_or_turn(n: usize) -> Vec<Engine> {
        if crate::long() {
            Engine::all()
        } else {
            vec![Engine::turn(n)]
        }
    }
    /// As in `--engine`.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Seccomp => "seccomp",
            Engine::Kml => "kml",
        }
    }
    /// From now on machines that this thread starts, also through a program of the
    /// host, have this engine.
    pub fn select(self) {
        CURRENT.set(self);
    }
    /// The one selected last.
    pub fn current() -> Engine {
        CURRENT.get()
    }
}
