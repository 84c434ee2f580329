//! Limits of a number.

use super::measure::Unit;
use super::verdict::Severity;

/// The side on which a number exceeds its limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Side {
    /// At the limit or above it.
    #[default]
    AtLeast,
    /// Above the limit.
    MoreThan,
    /// Below the limit.
    LessThan,
}

/// The warning and the critical limit of a number, as configured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Unit of the number and of both limits.
    pub unit: Unit,
    /// The side on which the limits are exceeded.
    pub side: Side,
    /// Warning limit.
    pub warn: Option<f64>,
    /// Critical limit.
    pub crit: Option<f64>,
}

impl Limits {
    /// Limits that are exceeded by numbers at or above them.
    pub fn at_least(unit: Unit, warn: impl Into<Option<f64>>, crit: impl Into<Option<f64>>) -> Self {
        Self { unit, side: Side::AtLeast, warn: warn.into(), crit: crit.into() }
    }

    /// Limits that are exceeded by larger numbers.
    pub fn more_than(unit: Unit, warn: impl Into<Option<f64>>, crit: impl Into<Option<f64>>) -> Self {
        Self { unit, side: Side::MoreThan, warn: warn.into(), crit: crit.into() }
    }

    /// Limits that are exceeded by smaller numbers.
    pub fn less_than(unit: Unit, warn: impl Into<Option<f64>>, crit: impl Into<Option<f64>>) -> Self {
        Self { unit, side: Side::LessThan, warn: warn.into(), crit: crit.into() }
    }

    /// Whether a limit is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.warn.or(self.crit).is_some()
    }

    /// The severity of a number, and the limit it exceeds.
    #[must_use]
    pub fn exceeded(&self, value: f64) -> Option<(Severity, f64)> {
        let exceeds = |limit: &f64| match self.side {
            Side::AtLeast => value >= *limit,
            Side::MoreThan => value > *limit,
            Side::LessThan => value < *limit,
        };
        let crit = self.crit.filter(exceeds).map(|l| (Severity::Crit, l));
        crit.or_else(|| self.warn.filter(exceeds).map(|l| (Severity::Warn, l)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_exceeded_on_their_side() {
        let used = Limits::at_least(Unit::Percent, 90.0, 95.0);
        assert_eq!(
            [89.9, 90.0, 95.0].map(|v| used.exceeded(v)),
            [None, Some((Severity::Warn, 90.0)), Some((Severity::Crit, 95.0))]
        );
        let wait = Limits::more_than(Unit::Seconds, 1.0, None);
        assert_eq!([1.0, 1.1].map(|v| wait.exceeded(v)), [None, Some((Severity::Warn, 1.0))]);
        let free = Limits::less_than(Unit::Percent, 10.0, 5.0);
        assert_eq!([10.0, 9.0, 4.0].map(|v| free.exceeded(v)), [None, Some((Severity::Warn, 10.0)), Some((Severity::Crit, 5.0))]);
    }
}
