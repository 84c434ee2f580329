//! Trends of numbers.

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{Measure, Trend, quantity};

/// Maximum number of points of a plot.
const MAX_POINTS: usize = 48;

/// Minimum data of a forecast: number of points and period (judgement: three hours distinguish a leak from a job).
const MIN_POINTS: usize = 6;
const MIN_PERIOD: SignedDuration = SignedDuration::from_hours(3);

/// Forecasts beyond this are omitted (judgement).
const MAX_FORECAST_S: f64 = 30.0 * 86400.0;

/// Share of pairs of points that must rise for steady growth: a sawtooth rises in half of them.
const MIN_RISING_SHARE: f64 = 0.7;

/// The trend of a measure; `None` without earlier values.
pub(super) fn trend(measure: &Measure, past: Vec<(Timestamp, f64)>, now: Timestamp) -> Option<Trend> {
    let mut points = past;
    points.retain(|(at, _)| *at < now);
    points.push((now, measure.value));
    let points = thinned(points);
    if points.len() < 2 {
        return None;
    }
    let limit = match (measure.falling, measure.max) {
        (true, _) => None,
        (false, Some(max)) => Some(max),
        (false, None) => measure.crit,
    };
    // a number that falls by itself (the remaining validity of a certificate) needs no forecast
    let seconds_to_limit = limit.and_then(|limit| seconds_to_limit(&points, limit)).filter(|s| *s <= MAX_FORECAST_S);
    let forecast = match (seconds_to_limit, limit) {
        (Some(seconds), Some(limit)) => {
            let span = quantity::duration(SignedDuration::try_from_secs_f64(seconds).unwrap_or_default());
            let full = measure.max == Some(limit);
            if full { format!("full in {span}") } else { format!("{} in {span}", measure.unit.shown(limit)) }
        }
        _ => String::new(),
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 30 days")]
    let reaches_limit_in_s = seconds_to_limit.map(|s| s as u64);
    let (subject, name) = (measure.subject.clone(), measure.name.clone());
    Some(Trend { subject, name, unit: measure.unit, points, limit: limit.or(measure.crit), reaches_limit_in_s, says: forecast })
}

/// Every n-th point; the last one is kept.
fn thinned(points: Vec<(Timestamp, f64)>) -> Vec<(Timestamp, f64)> {
    let step = points.len().div_ceil(MAX_POINTS).max(1);
    let last = points.len().saturating_sub(1);
    points.into_iter().enumerate().filter(|(i, _)| (last - i).is_multiple_of(step)).map(|(_, p)| p).collect()
}

/// Seconds until a steadily growing number is at its limit: the median of all slopes (Theil and Sen), which is robust against one
/// jump.
fn seconds_to_limit(points: &[(Timestamp, f64)], limit: f64) -> Option<f64> {
    let (first, last) = (points.first()?, points.last()?);
    if points.len() < MIN_POINTS || last.0.duration_since(first.0) < MIN_PERIOD || last.1 >= limit {
        return None;
    }
    let mut slopes: Vec<f64> = Vec::new();
    for (i, (at, value)) in points.iter().enumerate() {
        for (later, more) in &points[i + 1..] {
            let seconds = later.duration_since(*at).as_secs_f64();
            if seconds > 0.0 {
                slopes.push((more - value) / seconds);
            }
        }
    }
    slopes.sort_by(f64::total_cmp);
    let rising = slopes.iter().filter(|s| **s > 0.0).count() as f64 / slopes.len().max(1) as f64;
    let median = *slopes.get(slopes.len() / 2)?;
    (rising >= MIN_RISING_SHARE && median > 0.0).then(|| (limit - last.1) / median)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use opsctl_core::model::{Kind, Object, Unit};

    use super::*;

    fn forecast(values: &[f64], step_minutes: i64) -> String {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let n = i64::try_from(values.len()).unwrap();
        let at = |i: usize| now - SignedDuration::from_mins((n - 1 - i64::try_from(i).unwrap()) * step_minutes);
        let past = values.iter().enumerate().map(|(i, v)| (at(i), *v)).collect();
        let target = Object::named(Kind::Mount, "/var");
        let measure = Measure::new(&target, "used", Unit::Percent, *values.last().unwrap()).limits(85.0, 95.0);
        trend(&measure, past, now).map_or_else(|| "nothing".to_owned(), |t| t.says)
    }

    #[test]
    fn steady_growth_has_a_forecast_and_a_sawtooth_has_none() {
        let growing: Vec<f64> = (0..24).map(|i| 60.0 + f64::from(i)).collect();
        // 17 % left, 1 % an hour
        assert_eq!(forecast(&growing, 60), "full in 17 h");
        let sawtooth: Vec<f64> = (0..24).map(|i| 60.0 + f64::from(i % 4)).collect();
        assert_eq!(forecast(&sawtooth, 60), "");
        assert_eq!(forecast(&[60.0; 24], 60), "");
        // decreasing, too short, too few
        assert_eq!(forecast(&growing.iter().rev().copied().collect::<Vec<_>>(), 60), "");
        assert_eq!(forecast(&growing, 2), "");
        assert_eq!(forecast(&[60.0, 70.0, 80.0], 600), "");
        assert_eq!(forecast(&[60.0], 600), "nothing");
        // one jump is no steady growth
        let jump: Vec<f64> = (0..24).map(|i| if i < 12 { 40.0 } else { 80.0 }).collect();
        assert_eq!(forecast(&jump, 60), "");
        // growth slower than a month has no forecast
        let slow: Vec<f64> = (0..24).map(|i| 10.0 + f64::from(i) / 100.0).collect();
        assert_eq!(forecast(&slow, 60), "");
    }

    #[test]
    fn number_of_points_is_bounded() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let many = (0..5000).map(|i| (now - SignedDuration::from_mins(5000 - i), 1.0)).collect();
        let thin = thinned(many);
        assert!(thin.len() <= MAX_POINTS && thin.last().unwrap().0 == now - SignedDuration::from_mins(1));
    }

    proptest::proptest! {
        #[test]
        fn any_numbers_are_accepted(values in proptest::collection::vec(proptest::num::f64::ANY, 0..60)) {
            let now = Timestamp::from_second(1_800_000_000).unwrap();
            let past = values.iter().enumerate().map(|(i, v)| (now - SignedDuration::from_mins(600 - i64::try_from(i).unwrap() * 10), *v)).collect();
            let m = Measure::new(&Object::host(), "x", Unit::Percent, values.last().copied().unwrap_or(0.0)).limits(1.0, 2.0);
            let _ = trend(&m, past, now);
        }
    }
}
