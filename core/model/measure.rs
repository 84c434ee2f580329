//! Numbers with limits, for perfdata, for metrics, and for trends between runs.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limits::{Limits, Side};
use super::object::Object;

/// Unit of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Percent of the total, 0 to 100.
    Percent,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// A count.
    Count,
}

impl Unit {
    /// The formatted number: `97 %`, `1.5 GiB`, `12 d`, `17`.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the casts saturate; a measure is shown rounded")]
    pub fn shown(self, value: f64) -> String {
        match self {
            Self::Percent => super::quantity::percent(value),
            Self::Bytes => super::quantity::bytes(value as u64),
            // clocks differ by fractions of a second
            Self::Seconds if value > -0.05 && value < 0.05 => "0 s".to_owned(),
            Self::Seconds if value < 0.0 => {
                format!("-{}", super::quantity::duration(jiff::SignedDuration::from_millis((-value * 1000.0) as i64)))
            }
            Self::Seconds => super::quantity::duration(jiff::SignedDuration::from_millis((value * 1000.0) as i64)),
            Self::Count => super::quantity::count_of(value as u64),
        }
    }
}

/// A number read by a check, with its limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Measure {
    /// Measured object, as `kind:name` (`host` for the machine).
    pub subject: String,
    /// Metric name, one or two words with underscores: `used`, `connections`, `expires_in`.
    pub name: String,
    /// Its unit.
    pub unit: Unit,
    /// The number.
    pub value: f64,
    /// Warning limit.
    pub warn: Option<f64>,
    /// Critical limit.
    pub crit: Option<f64>,
    /// The limits are lower limits: smaller is worse (days until a certificate expires, free memory).
    pub falling: bool,
    /// Maximum possible value.
    pub max: Option<f64>,
}

// equality is needed in tests and for whole reports only; their numbers are finite
impl Eq for Measure {}

impl Measure {
    /// A number without limits.
    #[must_use]
    pub fn new(target: &Object, name: &str, unit: Unit, value: f64) -> Self {
        let max = (unit == Unit::Percent).then_some(100.0);
        let (subject, name) = (target.to_string(), name.to_owned());
        Self { subject, name, unit, value, warn: None, crit: None, falling: false, max }
    }

    /// Sets its limits.
    #[must_use]
    pub fn within(mut self, limits: Limits) -> Self {
        (self.warn, self.crit, self.falling) = (limits.warn, limits.crit, limits.side == Side::LessThan);
        self
    }

    /// Sets upper limits.
    #[must_use]
    pub fn limits(mut self, warn: f64, crit: f64) -> Self {
        (self.warn, self.crit) = (Some(warn), Some(crit));
        self
    }

    /// Sets lower limits.
    #[must_use]
    pub fn lower_limits(mut self, warn: f64, crit: f64) -> Self {
        self.falling = true;
        self.limits(warn, crit)
    }
}

/// Past values of a number and its extrapolation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Trend {
    /// Measured object, as in [`Measure::subject`].
    pub subject: String,
    /// Metric name, as in [`Measure::name`].
    pub name: String,
    /// Its unit.
    pub unit: Unit,
    /// Times and values, oldest first.
    pub points: Vec<(Timestamp, f64)>,
    /// The limit it grows towards (the critical limit or the maximum).
    pub limit: Option<f64>,
    /// Seconds until it reaches the limit at the current rate; `None` if it does not.
    pub reaches_limit_in_s: Option<u64>,
    /// Summary: `full in 6 d`; empty if there is none.
    pub says: String,
}

// as for `Measure`
impl Eq for Trend {}
