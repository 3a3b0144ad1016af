//! Known failures: `tests/known/SUITE.txt`, one line each, `NAME: reason`.
//!
//! - `NAME` may end in `*`. A line `*: reason` switches the machine's part of the whole suite off.
//! - Lists only shrink: an entry whose test passes, or that names none, fails the run.

use std::collections::BTreeMap;

/// The list of one suite.
#[derive(Debug, Default)]
pub struct Known {
    entries: BTreeMap<String, String>,
}

/// What the list says about a test.
#[derive(Debug, PartialEq, Eq)]
pub enum Expect {
    /// It must pass.
    Pass,
    /// It must fail, with this reason.
    Fail(String),
}

impl Known {
    /// Reads the list of `suite`. Lines without a reason are an error.
    pub fn load(suite: &str) -> Known {
        let path = crate::build::root().join(format!("tests/known/{suite}.txt"));
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let mut entries = BTreeMap::new();
        for line in text.lines() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, reason) = line
                .split_once(": ")
                .unwrap_or_else(|| panic!("{path:?}: no reason in {line:?}"));
            entries.insert(name.to_string(), reason.trim().to_string());
        }
        Known { entries }
    }

    /// The reason for which the whole suite is off.
    pub fn off(&self) -> Option<&str> {
        self.entries.get("*").map(String::as_str)
    }

    /// What to expect of `name`.
    pub fn expect(&self, name: &str) -> Expect {
        // An entry without a form counts for every form.
        let short = name.split_once('/').map_or(name, |(_, n)| n);
        for (k, reason) in &self.entries {
            if names(k, name) || names(k, short) {
                return Expect::Fail(reason.clone());
            }
        }
        Expect::Pass
    }

    /// An entry that names none of these tests.
    pub fn stale(&self, tests: &[String]) -> Option<&str> {
        let hit = |k: &str| {
            tests
                .iter()
                .any(|t| names(k, t) || t.split_once('/').is_some_and(|(_, n)| names(k, n)))
        };
        self.entries
            .keys()
            .map(String::as_str)
            .find(|k| *k != "*" && !hit(k))
    }

    /// The verdict on a test that ended like this.
    pub fn judge(&self, name: &str, result: Result<(), String>) -> Result<(), String> {
        match (self.expect(name), result) {
            (Expect::Pass, r) => r,
            (Expect::Fail(_), Err(_)) => Ok(()),
            (Expect::Fail(reason), Ok(())) => Err(format!(
                "{name} passes now; take it off the list of known failures ({reason})"
            )),
        }
    }
}

/// Whether the entry `key` names this test.
fn names(key: &str, test: &str) -> bool {
    key.strip_suffix('*')
        .map_or(key == test, |p| !p.is_empty() && test.starts_with(p))
}
