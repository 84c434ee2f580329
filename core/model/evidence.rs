//! What a probe brought back, as it is recorded and replayed.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::target::Target;
use crate::probe::Redactor;

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
    Evidence(EvidenceText),
    /// There but could not look; why.
    Unknown(String),
    /// Does not apply; why.
    Skip(String),
}

/// The evidence of one check of one target as JSON text. All of them are held until everything is judged; as trees of values those of
/// a host with hundreds of containers take several times the room.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EvidenceText(Box<RawValue>);

impl EvidenceText {
    /// What a check brought back. Fails for what JSON cannot hold, such as a map whose keys are no strings.
    pub fn of(evidence: &impl Serialize) -> Result<Self, serde_json::Error> {
        to_raw_value(evidence).map(Self)
    }

    /// It again, for the check that brought it. Fails when it has another shape: an old recording, or a hand-made one.
    pub fn typed<E: DeserializeOwned>(&self) -> Result<E, serde_json::Error> {
        serde_json::from_str(self.0.get())
    }

    /// Removes secrets from every string in it.
    pub fn scrub(&mut self, redactor: &Redactor) {
        let scrubbed = self.typed::<serde_json::Value>().and_then(|mut value| {
            let changed = redactor.scrub_json(&mut value);
            Ok(if changed { Some(Self::of(&value)?) } else { None })
        });
        match scrubbed {
            Ok(None) => {}
            Ok(Some(scrubbed)) => *self = scrubbed,
            // it is JSON by construction; were it not, nothing of it may stay
            Err(_) => self.0 = RawValue::NULL.to_owned(),
        }
    }
}

impl PartialEq for EvidenceText {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
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
