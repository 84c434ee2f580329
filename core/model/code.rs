//! Codes of findings. A released code does not change.

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
}
