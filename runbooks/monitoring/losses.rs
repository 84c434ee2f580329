//! Data that a server rejected or dropped, from counters with a reason.

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{Severity, quantity};

use super::counters::Counters;

/// A counter of lost data.
#[derive(Debug)]
pub(super) struct Loss {
    /// Name of the counter.
    pub(super) metric: &'static str,
    /// After the name of the server: `rejected`, `dropped`.
    pub(super) verb: &'static str,
    /// The data: `lines`, `spans`.
    pub(super) data: &'static str,
    /// Meaning of a reason; empty if the name of the reason is enough.
    pub(super) meaning: fn(&str) -> &'static str,
    /// Reasons that the configuration intends.
    pub(super) intended: &'static [&'static str],
}

/// A loss for one reason.
#[derive(Debug, PartialEq)]
pub(super) struct FoundLoss<'a> {
    pub(super) severity: Severity,
    pub(super) text: String,
    pub(super) reason: &'a str,
}

impl Loss {
    /// The losses: warn if the counter grows, info if it only grew earlier.
    pub(super) fn found<'a>(&'a self, counters: &'a Counters, name: &str, now: Timestamp) -> Vec<FoundLoss<'a>> {
        let lost = counters.of(self.metric).filter(|(reason, all, _)| *all > 0.0 && !self.intended.contains(reason));
        lost.map(|(reason, all, grown)| {
            let (verb, data) = (self.verb, self.data);
            if grown > 0.0 {
                let meaning = (self.meaning)(reason);
                let clause = match (reason, meaning) {
                    ("", "") => String::new(),
                    ("", meaning) => format!(": {meaning}"),
                    (reason, "") => format!(": {reason}"),
                    (reason, meaning) => format!(": {reason} ({meaning})"),
                };
                let text = format!("{name} {verb} {grown:.0} {data} {}{clause}", period(counters, now));
                return FoundLoss { severity: Severity::Warn, text, reason };
            }
            let clause = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            let text = format!("{name} {verb} {all:.0} {data} since its start, none since the last run{clause}");
            FoundLoss { severity: Severity::Info, text, reason }
        })
        .collect()
    }
}

/// The time between the two samples of a counter.
pub(super) fn period(counters: &Counters, now: Timestamp) -> String {
    counters
        .since(now)
        .map_or_else(|| "during this run".to_owned(), |s| format!("within {}", quantity::duration(SignedDuration::from_secs(s))))
}

/// No reason needs an explanation.
pub(super) fn without_meaning(_reason: &str) -> &'static str {
    ""
}
