//! A number with its limits: for perfdata, for metrics, and for how it grows between runs.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::target::Target;

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Percent of what there is, 0 to 100.
    Percent,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// Things.
    Count,
}

impl Unit {
    /// The number as a person reads it: `97 %`, `1.5 GiB`, `12 d`, `17`.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the casts saturate; a measure is shown rounded")]
    pub fn shown(self, value: f64) -> String {
        match self {
            Self::Percent => super::quantity::percent(value),
            Self::Bytes => super::quantity::bytes(value as u64),
            // a second more or less is what clocks differ by
            Self::Seconds if value > -0.05 && value < 0.05 => "0 s".to_owned(),
            Self::Seconds if value < 0.0 => {
                format!("-{}", super::quantity::duration(jiff::SignedDuration::from_millis((-value * 1000.0) as i64)))
            }
            Self::Seconds => super::quantity::duration(jiff::SignedDuration::from_millis((value * 1000.0) as i64)),
            Self::Count => super::quantity::count_of(value as u64),
        }
    }
}

/// A number that a check read, and its limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Measure {
    /// Of what, as `kind:name` (`host` for the machine).
    pub subject: String,
    /// What is measured, a word or two with underscores: `used`, `connections`, `expires_in`.
    pub name: String,
    /// What it counts.
    pub unit: Unit,
    /// The number.
    pub value: f64,
    /// From where on it is a warning.
    pub warn: Option<f64>,
    /// From where on it is critical.
    pub crit: Option<f64>,
    /// The limits are lower ones: less is worse (days a certificate lasts, free memory).
    pub falling: bool,
    /// The largest it can be.
    pub max: Option<f64>,
}

// equality is only asked for in tests and for whole reports, whose numbers are finite
impl Eq for Measure {}

impl Measure {
    /// A number without limits yet.
    #[must_use]
    pub fn new(target: &Target, name: &str, unit: Unit, value: f64) -> Self {
        let max = (unit == Unit::Percent).then_some(100.0);
        let (subject, name) = (target.to_string(), name.to_owned());
        Self { subject, name, unit, value, warn: None, crit: None, falling: false, max }
    }

    /// From where on it is too much.
    #[must_use]
    pub fn limits(mut self, warn: f64, crit: f64) -> Self {
        (self.warn, self.crit) = (Some(warn), Some(crit));
        self
    }

    /// From where on it is too little.
    #[must_use]
    pub fn lower_limits(mut self, warn: f64, crit: f64) -> Self {
        self.falling = true;
        self.limits(warn, crit)
    }
}

/// Where a number was and where it goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Trend {
    /// Of what, as in [`Measure::subject`].
    pub subject: String,
    /// What is measured, as in [`Measure::name`].
    pub name: String,
    /// What it counts.
    pub unit: Unit,
    /// When and how much, oldest first.
    pub points: Vec<(Timestamp, f64)>,
    /// The limit it grows towards (critical, or the largest it can be).
    pub limit: Option<f64>,
    /// Seconds until it gets there if it goes on like this; none when it does not.
    pub reaches_limit_in_s: Option<u64>,
    /// For people: `full in 6 d`; empty when there is nothing to say.
    pub says: String,
}

// as for `Measure`
impl Eq for Trend {}
