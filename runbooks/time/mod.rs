//! The time runbook: is the clock right, does anybody keep it right, and did it jump.

mod clock;
mod reference;

use opsctl_core::model::{KeyKind, Link, Runbook};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[runbooks.time]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How long after boot the clock may be unsynchronised, in seconds (netdata health.d/timex.conf: 17 min).
    pub grace_s: i64,
    /// What the kernel still has to correct, in milliseconds, that is warn (mixin: 50).
    pub offset_warn_ms: f64,
    /// Difference from the references in seconds that is warn (`check_postgres` timesync: 2).
    pub reference_warn_s: f64,
    /// The same for crit (`check_postgres` timesync: 5).
    pub reference_crit_s: f64,
    /// How far the clock may have been set since the last run of opsctl, in seconds (judgement: 1).
    pub jump_warn_s: f64,
    /// HTTP servers whose `Date` is compared with this clock, as `http://host:port/`; at least two that agree count.
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

/// What may cause what: a clock that nobody keeps right goes wrong.
const LINKS: &[Link] = &[Link::confirmed("time.unsynced", "time.offset", KeyKind::Host, "nobody keeps the clock right")];

/// The runbook with these settings.
#[must_use]
pub fn runbook(settings: &Settings) -> Runbook {
    let settings = settings.clone();
    Runbook {
        id: "time",
        about: "A clock that nobody keeps right, that is wrong, or that jumped",
        checks: vec![Box::new(clock::Clock { settings: settings.clone() }), Box::new(reference::Reference { settings })],
        links: &[LINKS],
        doc: include_str!("RUNBOOK.md"),
    }
}
