//! Time intervals of Alertmanager: those that never occur again, and those that always apply
//! (<https://prometheus.io/docs/alerting/latest/configuration/#time_interval>).

use std::ops::RangeInclusive;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, ToSpan, tz::TimeZone};
use serde_json::Value;

use super::yaml::texts;

/// Days that are compared with an interval: a leap year and all weekdays of each month are within four years.
const DAYS: i64 = 4 * 366;

const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
const MONTHS: [&str; 12] =
    ["january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december"];

/// When an interval applies from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coverage {
    /// It does not occur again.
    Never,
    /// At all times.
    Always,
    /// At some times, or unknown.
    Sometimes,
}

/// The coverage of an interval with this name; `None` if it is not defined.
pub(super) fn coverage(definitions: &Value, name: &str, now: Timestamp) -> Option<Coverage> {
    let named = |d: &&Value| d.get("name").and_then(Value::as_str) == Some(name);
    let definition = definitions.as_array()?.iter().find(named)?;
    let elements = definition.get("time_intervals").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let parts: Vec<Coverage> = elements.iter().map(|e| element(e, now).unwrap_or(Coverage::Sometimes)).collect();
    Some(match () {
        () if parts.contains(&Coverage::Always) => Coverage::Always,
        () if parts.iter().all(|p| *p == Coverage::Never) => Coverage::Never,
        () => Coverage::Sometimes,
    })
}

/// The coverage of one element; `None` if its layout is unknown.
fn element(value: &Value, now: Timestamp) -> Option<Coverage> {
    let lists = ["weekdays", "days_of_month", "months", "years"];
    let [weekdays, days, months, years] = lists.map(|key| texts(value, key).map(|t| range(key, t)).collect::<Option<Vec<_>>>());
    let (weekdays, days, months, years) = (weekdays?, days?, months?, years?);
    let is_in = |ranges: &[RangeInclusive<i64>], n: i64| ranges.is_empty() || ranges.iter().any(|r| r.contains(&n));
    let today = now.to_zoned(TimeZone::UTC).date();
    // the interval may be defined in another time zone
    let first = today.checked_sub(1.day()).ok()?;
    let matches = |date: Date| {
        let length = i64::from(date.days_in_month());
        let day = i64::from(date.day());
        let from_end = |n: i64| if n < 0 { n + length + 1 } else { n };
        let in_days = days.is_empty() || days.iter().any(|r| (from_end(*r.start())..=from_end(*r.end())).contains(&day));
        in_days
            && is_in(&weekdays, i64::from(date.weekday().to_sunday_zero_offset()))
            && is_in(&months, i64::from(date.month()))
            && is_in(&years, i64::from(date.year()))
    };
    let mut dates = (0..DAYS).filter_map(|n| first.checked_add(SignedDuration::from_hours(24 * n)).ok());
    if !dates.clone().any(matches) {
        return Some(Coverage::Never);
    }
    let times = value.get("times").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let text = |t: &Value, key: &str| t.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let whole_day = times.is_empty() || times.iter().any(|t| text(t, "start_time") == "00:00" && text(t, "end_time") == "24:00");
    Some(if whole_day && dates.all(matches) { Coverage::Always } else { Coverage::Sometimes })
}

/// `monday:friday`, `3:5`, `-3:-1`, `january`.
fn range(key: &str, text: &str) -> Option<RangeInclusive<i64>> {
    let (start, end) = text.split_once(':').unwrap_or((text, text));
    let number = |word: &str| {
        let word = word.trim().to_ascii_lowercase();
        let position = |names: &[&str], first: i64| {
            let at = names.iter().position(|n| *n == word)?;
            Some(i64::try_from(at).ok()? + first)
        };
        match key {
            "weekdays" => position(&WEEKDAYS, 0),
            "months" => position(&MONTHS, 1).or_else(|| word.parse().ok()),
            _ => word.parse().ok(),
        }
    };
    Some(number(start)?..=number(end)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;

    #[test]
    fn intervals_that_never_occur_or_always_apply() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        for (elements, expected) in [
            (json!([]), Coverage::Never),
            (json!([{"years": ["2020:2025"]}]), Coverage::Never),
            (json!([{"years": ["2026"], "months": ["1:3"]}]), Coverage::Never),
            (json!([{"months": ["february"], "days_of_month": ["30:31"]}]), Coverage::Never),
            (json!([{"months": ["february"], "days_of_month": ["29"]}]), Coverage::Sometimes),
            (json!([{"years": ["2020:2025"]}, {"weekdays": ["monday:friday"]}]), Coverage::Sometimes),
            (json!([{"days_of_month": ["-3:-1"]}]), Coverage::Sometimes),
            (json!([{"times": [{"start_time": "00:00", "end_time": "24:00"}]}]), Coverage::Always),
            (json!([{"weekdays": ["sunday:saturday"], "months": ["1:12"]}]), Coverage::Always),
            (json!([{"times": [{"start_time": "22:00", "end_time": "24:00"}]}]), Coverage::Sometimes),
            (json!([{"weekdays": ["lundi"]}]), Coverage::Sometimes),
        ] {
            let definitions = json!([{"name": "x", "time_intervals": elements}]);
            assert_eq!(coverage(&definitions, "x", now), Some(expected), "{definitions}");
        }
        assert_eq!(coverage(&json!([]), "x", now), None);
    }
}
