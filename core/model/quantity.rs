//! Human-readable numbers and lists.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};

/// Bytes with a binary unit and at most one decimal: `16 MiB`, `1.5 GiB`, `512 B`.
#[must_use]
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1023.95 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    let rounded = (value * 10.0).round() / 10.0;
    if rounded.fract() == 0.0 { format!("{rounded:.0} {}", UNITS[unit]) } else { format!("{rounded:.1} {}", UNITS[unit]) }
}

/// A duration in its largest sensible unit: `0.3 s`, `12 s`, `3 min`, `5 h`, `10 d`. Negative durations count as zero.
#[must_use]
pub fn duration(d: SignedDuration) -> String {
    let secs = d.as_secs_f64().max(0.0);
    match secs {
        s if s < 9.95 => {
            let s = (s * 10.0).round() / 10.0;
            if s.fract() == 0.0 { format!("{s:.0} s") } else { format!("{s:.1} s") }
        }
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 90.0 * 60.0 => format!("{:.0} min", s / 60.0),
        s if s < 36.0 * 3600.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} d", s / 86400.0),
    }
}

/// [`duration`] of a number of seconds, as servers report ages.
#[must_use]
pub fn seconds(s: f64) -> String {
    duration(SignedDuration::try_from_secs_f64(s).unwrap_or_default())
}

/// The time between `then` and `now`: `3 min ago`.
#[must_use]
pub fn ago(now: Timestamp, then: Timestamp) -> String {
    format!("{} ago", duration(now.duration_since(then)))
}

/// A percentage, with one decimal below 1 %: `97 %`, `0.4 %`.
#[must_use]
pub fn percent(p: f64) -> String {
    if p > 0.0 && p < 1.0 { format!("{p:.1} %") } else { format!("{p:.0} %") }
}

/// `1 container`, `2 containers`.
#[must_use]
pub fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// The first `max` entries of a list and the number of others: `a, b and 3 more`.
#[must_use]
pub fn some_of(all: &[impl AsRef<str>], max: usize) -> String {
    let shown: Vec<&str> = all.iter().take(max).map(AsRef::as_ref).collect();
    let more = all.len() - shown.len();
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

/// A timestamp, to the minute: `2026-11-21 20:05 UTC`.
#[must_use]
pub fn minute(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// Bytes in lowercase hexadecimal, as identities and digests are written.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // writing to a String cannot fail
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// A count with a space between thousands: `1 234 567`.
#[must_use]
pub fn count_of(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_human_readable() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(16 << 20), "16 MiB");
        assert_eq!(bytes(1_610_612_736), "1.5 GiB");
        assert_eq!(bytes(u64::MAX), "16384 PiB");
        assert_eq!(duration(SignedDuration::from_millis(312)), "0.3 s");
        assert_eq!(duration(SignedDuration::from_secs(200)), "3 min");
        assert_eq!(duration(SignedDuration::from_secs(-5)), "0 s");
        assert_eq!(duration(SignedDuration::from_hours(240)), "10 d");
        assert_eq!(percent(0.42), "0.4 %");
        assert_eq!(percent(97.4), "97 %");
        assert_eq!(count(1, "container"), "1 container");
        assert_eq!(some_of(&["a", "b"], 2), "a, b");
        assert_eq!((some_of(&["a", "b", "c", "d"], 2), some_of(&[""; 0], 2)), ("a, b and 2 more".to_owned(), String::new()));
        assert_eq!((count_of(7), count_of(1_234_567)), ("7".to_owned(), "1 234 567".to_owned()));
    }
}
