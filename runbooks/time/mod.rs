//! The time runbook: synchronisation, offset and jumps of the system clock.

mod clock;
mod reference;

use opsctl_core::model::{KeyKind, Link, Runbook};

use crate::shared::settings::settings;

settings! {
    /// `[runbooks.time]`.
    pub struct Settings {
        /// Seconds after boot in which the clock may be unsynchronised (netdata health.d/timex.conf: 17 min).
        grace_s: i64 = 17 * 60,
        /// Remaining correction of the kernel clock in milliseconds that is warn (mixin: 50).
        offset_warn_ms: f64 = 50.0,
        /// Difference from the references in seconds that is warn (`check_postgres` timesync: 2).
        reference_warn_s: f64 = 2.0,
        /// The same for crit (`check_postgres` timesync: 5).
        reference_crit_s: f64 = 5.0,
        /// Step of the clock since the last run of opsctl in seconds that is warn (judgement: 1).
        jump_warn_s: f64 = 1.0,
        /// HTTP servers with a `Date` header to compare with this clock, as `http://host:port/`; at least two must agree.
        references: Vec<String> = Vec::new(),
    }
    limits {
        reference: Seconds more_than(reference_warn_s, reference_crit_s),
    }
}

/// Causal links between findings.
const LINKS: &[Link] = &[Link::confirmed("time.unsynced", "time.offset", KeyKind::Host, "the clock is not synchronised")];

/// Builds the runbook from its settings.
#[must_use]
pub fn runbook(settings: &Settings) -> Runbook {
    let settings = settings.clone();
    Runbook {
        id: "time",
        about: "A clock that is not synchronised, is wrong, or jumped",
        checks: vec![Box::new(clock::Clock { settings: settings.clone() }), Box::new(reference::Reference { settings })],
        links: &[LINKS],
        doc: include_str!("RUNBOOK.md"),
        ..Runbook::default()
    }
}
