//! Assertions of a test on one run of opsctl. They fill the table of the incident lab, and the replay of the run's recording has
//! to pass the same assertions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::report::Run;

/// Assertions on a run that held.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Asserted {
    /// Configuration of the run.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) config: String,
    /// The exact set of root causes.
    pub(super) roots: Option<BTreeSet<String>>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) must: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) must_not: BTreeSet<String>,
    /// Cause and effect.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) explains: BTreeSet<(String, String)>,
    /// Root and effect, with any number of findings between them.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) traces: BTreeSet<(String, String)>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) says: BTreeMap<String, BTreeSet<String>>,
    /// Check, target, verdict.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) verdicts: BTreeSet<(String, String, String)>,
    /// Fix and subject that are not offered.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) not_offered: BTreeSet<(String, String)>,
}

impl Asserted {
    /// Repeats the assertions on another run.
    #[track_caller]
    pub(crate) fn again(&self, run: &Run) {
        if let Some(roots) = &self.roots {
            run.roots(&words(roots));
        }
        run.must(&words(&self.must)).must_not(&words(&self.must_not));
        for (cause, effect) in &self.explains {
            run.explains(cause, effect);
        }
        for (root, effect) in &self.traces {
            run.traces(root, effect);
        }
        for (finding, texts) in &self.says {
            run.mentions(finding, &words(texts));
        }
        for (check, target, verdict) in &self.verdicts {
            run.verdict(check, target, verdict);
        }
        for (fix, subject) in &self.not_offered {
            run.offers_no(fix, subject);
        }
    }
}

fn words(set: &BTreeSet<String>) -> Vec<&str> {
    set.iter().map(String::as_str).collect()
}

/// Adds a line for the table (`tests/incidents/run`): assertion, result, object.
pub(super) fn add_row(assertion: &str, held: bool, of: &str) {
    let Some(directory) = std::env::var_os("OPSCTL_LAB_TABLE") else { return };
    // the test harness names a thread after the path of its test
    let test = std::thread::current().name().unwrap_or("main").to_owned();
    let file = PathBuf::from(directory).join(test);
    let file = File::options().create(true).append(true).open(&file);
    let held = if held { "held" } else { "failed" };
    file.and_then(|mut f| writeln!(f, "{assertion}\t{held}\t{of}")).unwrap_or_else(|e| panic!("OPSCTL_LAB_TABLE: {e}"));
}
