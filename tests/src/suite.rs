//! What the suites with a `main` of their own share: a list of tests, judged by
//! the suite's list of known failures.

use crate::engine::Engine;
use crate::known::Known;
use crate::{build, procs};
use libtest_mimic::{Arguments, Failed, Trial};
use std::sync::Arc;

/// The tests of one suite.
#[derive(Debug)]
pub struct Suite {
    args: Arguments,
    known: Arc<Known>,
    trials: Vec<Trial>,
    engines: Vec<Engine>,
    /// Counts [`Suite::add_in_turn`].
    turn: usize,
}

impl Suite {
    /// An empty suite whose known failures are in `tests/known/NAME.txt`. Its tests
    /// run one after another unless `--test-threads` asks for more.
    pub fn new(name: &str) -> Suite {
        procs::become_subreaper();
        Suite {
            args: Arguments::from_args(),
            known: Arc::new(Known::load(name)),
            trials: vec![],
            engines: Engine::all(),
            turn: 0,
        }
    }
    /// Its tests run one after another, whatever is asked for.
    pub fn one_by_one(mut self) -> Suite {
        self.args.test_threads = Some(1);
        self
    }

    /// Its tests run two at once unless `--test-threads` asks for another number: for
    /// suites whose machines leave a part of two CPUs idle.
    pub fn two_at_once(mut self) -> Suite {
        self.args.test_threads.get_or_insert(2);
        self
    }

    /// In the short form only under the first engine.
    pub fn mainly_first(mut self) -> Suite {
        if !crate::long() {
            self.engines.truncate(1);
        }
        self
    }

    /// A test of a machine, under each engine as `ENGINE/NAME`: may be a known failure.
    pub fn add<E: Into<Failed>>(
        &mut self,
        name: impl Into<String>,
        test: impl FnOnce() -> Result<(), E> + Clone + Send + 'static,
    ) {
        let name = name.into();
        for engine in self.engines.clone() {
            self.add_under(engine, &name, test.clone());
        }
    }
    /// The same, but in the short form under one engine only, which alternates.
    pub fn add_in_turn<E: Into<Failed>>(
        &mut self,
        name: impl Into<String>,
        test: impl FnOnce() -> Result<(), E> + Clone + Send + 'static,
    ) {
        let name = name.into();
        for engine in Engine::all_or_turn(self.turn) {
            self.add_under(engine, &name, test.clone());
        }
        self.turn += 1;
    }
    /// A test under one engine, nothing if that is not under test.
    pub fn add_under<E: Into<Failed>>(
        &mut self,
        engine: Engine,
        name: &str,
        test: impl FnOnce() -> Result<(), E> + Send + 'static,
    ) {
        if !Engine::all().contains(&engine) {
            return;
        }
        let name = format!("{}/{name}", engine.name());
        let known = self.known.clone();
        let off = known.off().is_some();
        let trial = Trial::test(name.clone(), move || {
            engine.select();
            let text = |e: E| e.into().message().unwrap_or("failed").to_string();
            known.judge(&name, test().map_err(text))?;
            Ok(())
        });
        self.trials.push(trial.with_ignored_flag(off));
    }
    /// A test of the test on the host: must pass.
    pub fn add_on_host(
        &mut self,
        name: impl Into<String>,
        test: impl FnOnce() -> Result<(), Failed> + Send + 'static,
    ) {
        self.trials.push(Trial::test(name, test));
    }

    /// Runs the tests and ends the program.
    pub fn run(mut self) -> ! {
        self.args.test_threads.get_or_insert(1);
        let end = libtest_mimic::run(&self.args, self.trials);
        build::remove_scratch();
        end.exit()
    }
}
