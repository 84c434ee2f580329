//! The codes of findings: stable once released.

use super::verdict::Severity;

/// One kind of finding. Declared as a constant beside the check that reports it; a snapshot test lists them all.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// `runbook.name`, for example `container.oom-killed`.
    pub id: &'static str,
    /// The severities it is reported with.
    pub severities: &'static [Severity],
    /// When it is reported, one line; the Verdicts table of RUNBOOK.md says the same.
    pub when: &'static str,
    /// What to do about it, one line for the report.
    pub hint: &'static str,
}
