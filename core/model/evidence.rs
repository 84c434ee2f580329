//! What a probe brought back, as it is recorded and replayed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::target::Target;

/// One probe of one target: everything `judge` may know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Check id.
    pub check: String,
    /// What was probed.
    pub target: Target,
    /// When; ages are counted from here, so that a replay judges as the live run did.
    pub taken_at: Timestamp,
    /// How long the probe took, in milliseconds.
    pub duration_ms: u64,
    /// What came back.
    pub outcome: Outcome,
}

/// What came back from a probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The evidence of the check, as JSON, with secrets removed.
    Evidence(serde_json::Value),
    /// There but could not look; why.
    Unknown(String),
    /// Does not apply; why.
    Skip(String),
}

/// One number remembered for the next run, so that growth can be told from size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// What it belongs to, by identity: a number of another object with the same name must not be compared.
    pub object: String,
    /// What it measures.
    pub metric: String,
    /// When it was read.
    pub at: Timestamp,
    /// The number.
    pub value: f64,
}

impl Sample {
    /// A count, for the next run to compare with.
    #[must_use]
    pub fn count(object: impl Into<String>, metric: &str, at: Timestamp, value: u64) -> Self {
        Self { object: object.into(), metric: metric.to_owned(), at, value: value as f64 }
    }

    /// The count it holds.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it was a count when it was written; the cast saturates"
    )]
    pub fn as_count(&self) -> u64 {
        self.value as u64
    }
}

/// How much a counter grew since an earlier look; nothing without one, or when it began anew.
#[must_use]
pub fn grown(now: Option<u64>, before: Option<&Sample>) -> u64 {
    match (now, before) {
        (Some(now), Some(before)) => now.saturating_sub(before.as_count()),
        _ => 0,
    }
}
