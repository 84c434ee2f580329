//! Waivers: findings silenced until a given time, for a known issue, maintenance or a flaky check.
//!
//! A waiver names findings, an end and a reason. A waived finding is shown as waived, does not count in the verdict, and is not
//! fixed. After the end the finding counts again, and the expiry is reported.

mod file;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{Reported, quantity};

pub use crate::config::waiver::{Tag, Waiver, Which, Window};
pub use file::{change, load};

/// Period after its end in which a waiver is still reported.
const REPORTED_FOR: SignedDuration = SignedDuration::from_hours(30 * 24);

/// All waivers of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waivers {
    /// From the configuration and from `opsctl waive`.
    pub all: Vec<Waiver>,
}

impl Waivers {
    /// Marks a finding that is waived now; a finding with an expired waiver gets a note.
    #[must_use]
    pub fn mark(&self, mut reported: Reported, now: Timestamp) -> Reported {
        let finding = &reported.finding;
        let covering = || self.all.iter().filter(|w| w.which.covers(&finding.code, &finding.subject));
        if let Some(waiver) = covering().find(|w| w.window.holds(now)) {
            reported.waived = Some(waiver.describe(now));
            return reported;
        }
        let over = covering().filter_map(|w| Some((w.window.ended(now)?, w))).max_by_key(|(end, _)| *end);
        if let Some((end, waiver)) = over
            && now.duration_since(end) < REPORTED_FOR
        {
            let ago = quantity::duration(now.duration_since(end));
            reported.finding = reported.finding.cite("waiver", format!("expired {ago} ago: {} ({})", waiver.reason, waiver.by));
        }
        reported
    }

    /// Notes about expired waivers with open findings.
    #[must_use]
    pub fn notes(&self, findings: &[Reported], now: Timestamp) -> Vec<String> {
        let still_open = |w: &&Waiver| findings.iter().filter(|f| f.is_open()).any(|f| w.which.covers(&f.code, &f.subject));
        let recent = |w: &&Waiver| w.window.ended(now).is_some_and(|end| now.duration_since(end) < REPORTED_FOR);
        let note = |w: &Waiver| {
            let ago = w.window.ended(now).map_or_else(String::new, |end| quantity::duration(now.duration_since(end)));
            format!(
                "the waiver of {} ({}) expired {ago} ago and its finding is still open: fix the cause or waive it again",
                w.which, w.reason
            )
        };
        self.all.iter().filter(recent).filter(still_open).map(note).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use opsctl_core::model::{Code, Finding, Kind, Object, Severity};

    use super::*;

    static DOWN: Code = Code { id: "container.down", severities: &[Severity::Crit], when: "", hint: "", ..Code::BASE };

    fn down(name: &str) -> Reported {
        let subject = Object::named(Kind::Container, name);
        Reported::new(Finding::new(&DOWN, Severity::Crit, subject, format!("{name} is down")))
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn waiver(which: &str, from: &str, until: &str) -> Waiver {
        Waiver {
            which: which.to_owned().into(),
            window: Window::Once { from: at(from), until: at(until) },
            tag: Tag::Maintenance,
            reason: "new disk".into(),
            by: "root".into(),
        }
    }

    #[test]
    fn waiver_covers_matching_findings_within_its_window() {
        let w = Waivers { all: vec![waiver("container.*@web*", "2026-01-01T10:00:00Z", "2026-01-01T12:00:00Z")] };
        let noon = at("2026-01-01T11:00:00Z");
        assert_eq!(
            w.mark(down("web-1"), noon).waived.as_deref(),
            Some("maintenance until 2026-01-01 12:00 UTC: new disk (root)")
        );
        for (name, when) in [("db", "2026-01-01T11:00:00Z"), ("web", "2026-01-01T09:59:00Z"), ("web", "2026-01-01T12:00:00Z")] {
            assert_eq!(w.mark(down(name), at(when)).waived, None, "{name} {when}");
        }
        let kinds = Waivers { all: vec![waiver("*@container:web", "2026-01-01T10:00:00Z", "2026-01-01T12:00:00Z")] };
        assert!(kinds.mark(down("web"), noon).waived.is_some());
    }

    #[test]
    fn expired_waiver_is_reported_while_its_finding_is_open() {
        let w = Waivers { all: vec![waiver("container.down@web", "2026-01-01T10:00:00Z", "2026-01-01T12:00:00Z")] };
        let later = at("2026-01-01T12:03:00Z");
        let marked = w.mark(down("web"), later);
        assert_eq!(marked.waived, None);
        assert_eq!(marked.evidence[0].value, "expired 3 min ago: new disk (root)");
        assert!(w.notes(&[marked], later)[0].contains("container.down@web (new disk) expired 3 min ago"));
        assert!(w.notes(&[down("db")], later).is_empty());
        let much_later = at("2026-03-01T12:03:00Z");
        assert!(w.mark(down("web"), much_later).evidence.is_empty());
    }
}
