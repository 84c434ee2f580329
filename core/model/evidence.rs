//! Evidence of probes, as it is recorded and replayed.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::object::Object;
use crate::probe::Redactor;

/// One probe of one target: the complete input of `judge`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Check id.
    pub check: String,
    /// The probed target.
    pub target: Object,
    /// Time of the probe. Ages are relative to it, so that a replay gives the same result as the live run.
    pub taken_at: Timestamp,
    /// Duration of the probe in milliseconds.
    pub duration_ms: u64,
    /// Result of the probe.
    pub outcome: Outcome,
}

/// Result of a probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Evidence of the check, as JSON without secrets.
    Evidence(EvidenceText),
    /// The target exists but could not be read, with the reason.
    Unknown(String),
    /// The check does not apply, with the reason.
    Skip(String),
}

/// Evidence of one check of one target, as JSON text. All evidence stays in memory until everything is judged; for a host with
/// hundreds of containers, trees of values take several times the memory.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EvidenceText(Box<RawValue>);

impl EvidenceText {
    /// Serializes evidence. Fails for values that JSON cannot represent, such as a map with keys other than strings.
    pub fn of(evidence: &impl Serialize) -> Result<Self, serde_json::Error> {
        to_raw_value(evidence).map(Self)
    }

    /// Deserializes the evidence. Fails when its type does not match: an old or a handwritten recording.
    pub fn typed<E: DeserializeOwned>(&self) -> Result<E, serde_json::Error> {
        serde_json::from_str(self.0.get())
    }

    /// Redacts secrets in every string.
    pub fn scrub(&mut self, redactor: &Redactor) {
        let scrubbed = self.typed::<serde_json::Value>().and_then(|mut value| {
            let changed = redactor.scrub_json(&mut value);
            Ok(if changed { Some(Self::of(&value)?) } else { None })
        });
        match scrubbed {
            Ok(None) => {}
            Ok(Some(scrubbed)) => *self = scrubbed,
            // JSON by construction; if it were not, none of it may be kept
            Err(_) => self.0 = RawValue::NULL.to_owned(),
        }
    }
}

impl PartialEq for EvidenceText {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

/// A number stored for the next run, to compute growth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Identity of the measured object: numbers of another object with the same name must not be compared.
    pub object: String,
    /// Metric name.
    pub metric: String,
    /// Time of the reading.
    pub at: Timestamp,
    /// The number.
    pub value: f64,
}

impl Sample {
    /// A sample of a counter.
    #[must_use]
    pub fn count(object: impl Into<String>, metric: &str, at: Timestamp, value: u64) -> Self {
        Self { object: object.into(), metric: metric.to_owned(), at, value: value as f64 }
    }

    /// The value as a count.
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

/// Growth of a counter since an earlier run; 0 without an earlier value, or when the counter was reset.
#[must_use]
pub fn grown(now: Option<u64>, before: Option<&Sample>) -> u64 {
    match (now, before) {
        (Some(now), Some(before)) => now.saturating_sub(before.as_count()),
        _ => 0,
    }
}
