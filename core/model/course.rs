//! Comparison of a run with earlier runs.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::measure::Trend;
use super::verdict::Severity;

/// State of a finding relative to earlier reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FindingStatus {
    /// Not reported before.
    New,
    /// Reported before and still open.
    Still,
    /// Recurring: it began at least three times within a day.
    Flapping,
}

/// History of an open finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FindingHistory {
    /// Id of the finding in this report.
    pub finding: String,
    /// Its state relative to earlier reports.
    pub standing: FindingStatus,
    /// First time opsctl reported it in this episode.
    pub first_seen: Timestamp,
    /// Number of episodes within the last day, including this one.
    pub times: u32,
}

/// A finding that was open and no longer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Recovered {
    /// Its code.
    pub code: String,
    /// Its subject, as `kind:name`.
    pub subject: String,
    /// Its severity.
    pub severity: Severity,
    /// Its last message.
    pub message: String,
    /// First time it was reported.
    pub first_seen: Timestamp,
    /// Last time it was reported.
    pub last_seen: Timestamp,
    /// Owner of the subject.
    pub owner: Option<String>,
}

/// Comparison of a run with earlier runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct History {
    /// Time of the previous report; `None` for the first.
    pub compared_with: Option<Timestamp>,
    /// One entry per open finding that counts.
    pub findings: Vec<FindingHistory>,
    /// Findings that are no longer open.
    pub recovered: Vec<Recovered>,
    /// Numbers from earlier runs.
    pub trends: Vec<Trend>,
    /// `day`, `week` or `month` for a report over a period; `recovered` then contains every finding that ended in it.
    pub period: Option<String>,
}

impl History {
    /// The history of the finding with this id.
    #[must_use]
    pub fn of(&self, finding: &str) -> Option<&FindingHistory> {
        self.findings.iter().find(|k| k.finding == finding)
    }
}
