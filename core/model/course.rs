//! How a run compares with earlier ones.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::measure::Trend;
use super::verdict::Severity;

/// How a finding stands to what was reported before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Not reported before.
    New,
    /// Reported before, and still so.
    Still,
    /// Comes and goes: it began at least three times within a day.
    Flapping,
}

/// How one open finding stands to earlier runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Known {
    /// Id of the finding in this report.
    pub finding: String,
    /// How it stands.
    pub standing: Standing,
    /// When opsctl saw it first, this time.
    pub first_seen: Timestamp,
    /// How often it began within the last day, this time included.
    pub times: u32,
}

/// Something that was open and no longer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Recovered {
    /// Its code.
    pub code: String,
    /// Its subject, as `kind:name`.
    pub subject: String,
    /// How much it mattered.
    pub severity: Severity,
    /// What was said of it last.
    pub message: String,
    /// When it was seen first.
    pub first_seen: Timestamp,
    /// When it was seen last.
    pub last_seen: Timestamp,
    /// Who owns the subject.
    pub owner: Option<String>,
}

/// How a run compares with earlier ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Course {
    /// When the report before this one was made; none for the first.
    pub compared_with: Option<Timestamp>,
    /// One for each open finding that counts.
    pub findings: Vec<Known>,
    /// What was open and no longer is.
    pub recovered: Vec<Recovered>,
    /// Numbers of earlier runs.
    pub trends: Vec<Trend>,
    /// `day`, `week` or `month` when this sums up a period; `recovered` then holds everything that ended in it.
    pub period: Option<String>,
}

impl Course {
    /// How a finding of this id stands.
    #[must_use]
    pub fn of(&self, finding: &str) -> Option<&Known> {
        self.findings.iter().find(|k| k.finding == finding)
    }
}
