//! The report: what every renderer gets and what `--format json` prints.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{change::Change, course::Course, finding::Finding, fix::Risk, link::Cause, measure::Measure, table::Table};

/// Version of the report's JSON shape; raised when a field changes its meaning or goes.
pub const REPORT_SCHEMA_VERSION: u32 = 1;

/// One run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// [`REPORT_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Which opsctl.
    pub opsctl: Build,
    /// Which host.
    pub host: HostInfo,
    /// When the run began.
    pub started_at: Timestamp,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
    /// `ok`, `warn`, `crit` or `unknown`.
    pub verdict: String,
    /// The exit code that goes with it (before `--fail-on`).
    pub exit_code: u8,
    /// Every check that ran.
    pub checks: Vec<CheckRow>,
    /// Everything found, worst first.
    pub findings: Vec<Finding>,
    /// Root causes and what they explain.
    pub causes: Vec<Cause>,
    /// Fixes on offer, and those refused with the reason.
    pub fixes: Vec<FixOffer>,
    /// Tables such as the usage of a filesystem.
    pub tables: Vec<Table>,
    /// Numbers with their limits.
    #[serde(default)]
    pub measures: Vec<Measure>,
    /// What was changed before something went wrong, as far as it has to do with what was found, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// How this run compares with earlier ones; only `opsctl report` says so.
    #[serde(default)]
    pub course: Option<Course>,
    /// The journal of changes after this run: a copy of its head outside the host shows when entries are removed or rewritten. Absent
    /// when no journal could be read, and in a replay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<JournalHead>,
    /// One line each about the run itself: history not available, an endpoint not tried.
    pub notes: Vec<String>,
}

/// The head of the journal of changes (`opsctl audit verify --head ENTRIES:HEAD` compares it with the journal).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JournalHead {
    /// The file that was read.
    pub file: String,
    /// Number of its last entry; 0 without an entry.
    pub entries: u64,
    /// SHA-256 of the line of its last entry, in hex; zeros without an entry.
    pub head: String,
    /// Id of the key and Ed25519 signature of `opsctl journal head 1`, a line end and `ENTRIES:HEAD`; with `[audit] signing_key` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// Absent as long as the journal is as opsctl wrote it; otherwise one line that names the difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl JournalHead {
    /// `12:HASH`, as `opsctl audit verify --head` reads it; with the signature, when there is one.
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

/// Which opsctl made the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Build {
    /// Crate version.
    pub version: String,
    /// Commit it was built from, or `unknown`.
    pub commit: String,
}

/// Which host the evidence comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostInfo {
    /// Node name.
    pub hostname: String,
    /// Kernel release.
    pub kernel: String,
    /// Identity of this boot.
    pub boot_id: String,
}

/// One check on one target.
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
    /// Why it is unknown or skipped.
    pub reason: Option<String>,
    /// Time of the probe in milliseconds.
    pub duration_ms: u64,
    /// Ids of its findings.
    pub findings: Vec<String>,
}

/// A fix that applies to a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FixOffer {
    /// Fix id.
    pub id: String,
    /// `kind:name`.
    pub subject: String,
    /// What it may interrupt.
    pub risk: Risk,
    /// The command to paste.
    pub command: String,
    /// Why it is not offered now, for example that its cause is open elsewhere.
    pub refused: Option<String>,
}
