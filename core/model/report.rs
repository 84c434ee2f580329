//! The report: the input of every renderer and the output of `--format json`.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{change::Change, course::History, fix::Risk, link::Cause, measure::Measure, reported::Reported, table::Table};

/// Version of the JSON format of the report; incremented when a field changes its meaning or is removed.
pub const REPORT_SCHEMA_VERSION: u32 = 1;

/// One run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// [`REPORT_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Build of opsctl.
    pub opsctl: Build,
    /// The host.
    pub host: HostInfo,
    /// Start of the run.
    pub started_at: Timestamp,
    /// Duration of the run in milliseconds.
    pub duration_ms: u64,
    /// `ok`, `warn`, `crit` or `unknown`.
    pub verdict: String,
    /// The corresponding exit code (before `--fail-on`).
    pub exit_code: u8,
    /// Every check that ran.
    pub checks: Vec<CheckRow>,
    /// All findings, worst first.
    pub findings: Vec<Reported>,
    /// Root causes and the findings they explain.
    pub causes: Vec<Cause>,
    /// Available fixes, and refused fixes with the reason.
    pub fixes: Vec<FixOffer>,
    /// Tables such as the usage of a filesystem.
    pub tables: Vec<Table>,
    /// Numbers with their limits.
    #[serde(default)]
    pub measures: Vec<Measure>,
    /// Changes before the faults that may be related to the findings, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// Comparison with earlier runs; set by `opsctl report` only.
    #[serde(default)]
    pub course: Option<History>,
    /// The change journal after this run: a copy of its head outside the host shows whether entries were removed or rewritten.
    /// Absent when no journal could be read, and in a replay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<JournalHead>,
    /// Notes about the run itself, one line each: no history available, an endpoint that was not tried.
    pub notes: Vec<String>,
}

/// The head of the change journal (`opsctl audit verify --head ENTRIES:HEAD` compares it with the journal).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JournalHead {
    /// The journal file.
    pub file: String,
    /// Number of its last entry; 0 if it is empty.
    pub entries: u64,
    /// SHA-256 of the line of its last entry, in hex; zeros if it is empty.
    pub head: String,
    /// Key id and Ed25519 signature of `opsctl journal head 1`, a line end and `ENTRIES:HEAD`; with `[audit] signing_key` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// Absent if the journal is intact; otherwise one line that names the difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl JournalHead {
    /// `12:HASH`, as accepted by `opsctl audit verify --head`; with the signature, if there is one.
    #[must_use]
    pub fn mark(&self) -> String {
        let signature = self.signature.as_ref().map(|s| format!(":{s}")).unwrap_or_default();
        format!("{}:{}{signature}", self.entries, self.head)
    }
}

impl std::fmt::Display for JournalHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.entries {
            0 => write!(f, "no entry")?,
            1 => write!(f, "1 entry, head {}", self.mark())?,
            n => write!(f, "{n} entries, head {}", self.mark())?,
        }
        self.problem.as_ref().map_or(Ok(()), |problem| write!(f, "; {problem}"))
    }
}

/// The build of opsctl that wrote the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Build {
    /// Crate version.
    pub version: String,
    /// Commit it was built from, or `unknown`.
    pub commit: String,
}

/// The host of the evidence.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostInfo {
    /// Node name.
    pub hostname: String,
    /// Kernel release.
    pub kernel: String,
    /// Boot id.
    pub boot_id: String,
}

/// One check of one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckRow {
    /// Check id.
    pub check: String,
    /// Its runbook.
    pub runbook: String,
    /// `kind:name`.
    pub target: String,
    /// `ok`, `info`, `warn`, `crit`, `unknown` or `skip`.
    pub verdict: String,
    /// Reason why it is unknown or skipped.
    pub reason: Option<String>,
    /// Duration of the probe in milliseconds.
    pub duration_ms: u64,
    /// Ids of its findings.
    pub findings: Vec<String>,
}

/// A fix for a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FixOffer {
    /// Fix id.
    pub id: String,
    /// `kind:name`.
    pub subject: String,
    /// Its impact.
    pub risk: Risk,
    /// The command to apply it.
    pub command: String,
    /// Reason why it is not available now, for example an open cause elsewhere.
    pub refused: Option<String>,
}
