//! The time runbook: synchronisation, offset and jumps of the system clock.

mod clock;
mod reference;

use opsctl_core::model::{KeyKind, Link, Runbook};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[runbooks.time]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seconds after boot in which the clock may be unsynchronised (netdata health.d/timex.conf: 17 min).
    pub grace_s: i64,
    /// Remaining correction of the kernel clock in milliseconds that is warn (mixin: 50).
    pub offset_warn_ms: f64,
    /// Difference from the references in seconds that is warn (`check_postgres` timesync: 2).
    pub reference_warn_s: f64,
    /// The same for crit (`check_postgres` timesync: 5).
    pub reference_crit_s: f64,
    /// Step of the clock since the last run of opsctl in seconds that is warn (judgement: 1).
    pub jump_warn_s: f64,
    /// HTTP servers with a `Date` header to compare with this clock, as `http://host:port/`; at least two must agree.
    pub references: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            grace_s: 17 * 60,
            offset_warn_ms: 50.0,
            reference_warn_s: 2.0,
            reference_crit_s: 5.0,
            jump_warn_s: 1.0,
            references: Vec::new(),
        }
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
    }
}
