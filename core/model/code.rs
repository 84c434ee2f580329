//! Codes of findings. A released code does not change.

use super::role::{DependsOn, Impact};
use super::verdict::Severity;

/// Code of a kind of finding. Declared as a constant next to the check that reports it; a snapshot test lists all codes.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// `runbook.name`, for example `container.oom-killed`.
    pub id: &'static str,
    /// The severities it is reported with.
    pub severities: &'static [Severity],
    /// Condition for it, in one line; the same as in the Verdicts table of RUNBOOK.md.
    pub when: &'static str,
    /// Recommended action, one line for the report.
    pub hint: &'static str,
    /// Its meaning for all that depend on its object.
    pub impacts: &'static [Impact],
    /// The roles of other findings that explain it.
    pub depends_on: &'static [&'static [DependsOn]],
}

impl Code {
    /// A code without effects and dependencies, to be completed.
    pub const BASE: Self = Self { id: "", severities: &[], when: "", hint: "", impacts: &[], depends_on: &[] };

    /// All dependencies.
    pub fn dependencies(&self) -> impl Iterator<Item = &'static DependsOn> + use<> {
        self.depends_on.iter().copied().flatten()
    }
}
