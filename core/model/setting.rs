//! Values of settings in texts: `{key}` in a condition stands for the configured value of this key.

use serde_json::Value;

use super::measure::Unit;
use super::quantity;

/// The text with each `{key}` replaced by its value in `settings`, in the unit that the name of the key contains. Unknown keys stay.
#[must_use]
pub fn with_values(text: &str, settings: &Value) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let found = after.split_once('}').and_then(|(key, tail)| Some((shown(key, value(settings, key)?), tail)));
        let (shown, tail) = found.unwrap_or_else(|| ("{".to_owned(), after));
        out.push_str(&shown);
        rest = tail;
    }
    out + rest
}

/// The number of a key; `key.1` is the second element of a list.
fn value(settings: &Value, key: &str) -> Option<f64> {
    match key.split_once('.') {
        Some((list, at)) => settings.get(list)?.get(at.parse::<usize>().ok()?)?.as_f64(),
        None => settings.get(key)?.as_f64(),
    }
}

/// A value in the unit that the name of its key contains: `space_warn_percent`, `starting_s`, `slot_warn_bytes`.
#[must_use]
pub fn shown(key: &str, value: f64) -> String {
    if key.split('_').any(|part| part == "percent") {
        return quantity::percent(value);
    }
    match key.rsplit('_').next().unwrap_or_default() {
        "bytes" => Unit::Bytes.shown(value),
        "ms" if value < 1000.0 => format!("{} ms", number(value)),
        "ms" => duration(value / 1000.0),
        "s" => duration(value),
        "min" | "minutes" => duration(value * 60.0),
        "h" | "hours" => duration(value * 3600.0),
        "days" => format!("{} d", number(value)),
        _ => number(value),
    }
}

/// A duration in the largest unit that shows it exactly: `90 s`, `20 min`, `1 h`.
fn duration(seconds: f64) -> String {
    let units = [(86400.0, 2.0, "d"), (3600.0, 1.0, "h"), (60.0, 2.0, "min")];
    let exact = units.into_iter().find(|(unit, least, _)| seconds >= unit * least && seconds % unit == 0.0);
    exact.map_or_else(|| quantity::seconds(seconds), |(unit, _, word)| format!("{} {word}", number(seconds / unit)))
}

/// A count, with at most two decimals.
fn number(value: f64) -> String {
    if value.fract() == 0.0 {
        return Unit::Count.shown(value);
    }
    format!("{value:.2}").trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_replaced_by_values_in_their_unit() {
        let settings = json!({
            "space_warn_percent": 90.0, "bgsave_warn_s": 600, "latency_warn_ms": 100.0, "slot_warn_bytes": 1_073_741_824_u64,
            "backlog_crit": 10_000, "per_cpu": 1.5, "full_in_warn_hours": 24.0, "min_requests": 60, "idle_crit_s": 3600, "starting_s": 60, "stalled_crit_percent_10s": 5.0, "crit_days": 3.0, "loads": [8.0, 4.0]
        });
        let text = "{space_warn_percent}, {bgsave_warn_s}, {latency_warn_ms}, {slot_warn_bytes}, {backlog_crit}, {per_cpu}, \
            {full_in_warn_hours}, {stalled_crit_percent_10s}, {crit_days}, {min_requests}, {idle_crit_s}, {starting_s}, {loads.1}, {unknown}, {";
        let expected = "90 %, 10 min, 100 ms, 1 GiB, 10 000, 1.5, 24 h, 5 %, 3 d, 60, 1 h, 60 s, 4, {unknown}, {";
        assert_eq!(with_values(text, &settings), expected);
    }
}
