//! Known failures: `tests/known/SUITE.txt`, one line each, `NAME: reason`.
//!
//! - `NAME` may end in `*`. A line `*: reason` switches the machine's part of the whole suite off.
//! - `?NAME` may fail or pass: for what depends on the host or on chance.
//! - Lists only shrink: an entry whose test passes fails the run.

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
    /// It may do either.
    Either(String),
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
            let (either, k) = k
                .strip_prefix('?')
                .map_or((false, k.as_str()), |k| (true, k));
            let one = |name: &str| {
                k.strip_suffix('*')
                    .map_or(k == name, |p| !p.is_empty() && name.starts_with(p))
            };
            let hit = one(name) || one(short);
            if hit {
                return if either {
                    Expect::Either(reason.clone())
                } else {
                    Expect::Fail(reason.clone())
                };
            }
        }
        Expect::Pass
    }

    /// The verdict on a test that ended like this.
    pub fn judge(&self, name: &str, result: Result<(), String>) -> Result<(), String> {
        match (self.expect(name), result) {
            (Expect::Pass, r) => r,
            (Expect::Either(_), _) => Ok(()),
            (Expect::Fail(_), Err(_)) => Ok(()),
            (Expect::Fail(reason), Ok(())) => Err(format!(
                "{name} passes now; take it off the list of known failures ({reason})"
            )),
        }
    }
}
