//! The healthcheck runbook: health of containers, validity of their health tests, and responses of the services.

mod classify;
mod command;
mod endpoint;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod http;
mod propose;
mod proxy;
mod state;
mod tcp;
mod walk;

use jiff::SignedDuration;
use opsctl_core::model::{KeyKind, Link, Runbook};
use opsctl_core::probe::docker::Container;

use crate::shared::settings::settings;

settings! {
    /// `[runbooks.healthcheck]`.
    pub struct Settings {
        /// Time limit of a response to opsctl's own HTTP request, in milliseconds (judgement: 5 s).
        http_timeout_ms: u64 = 5000,
        /// Time limit of a connection, in milliseconds (judgement: 2 s).
        connect_timeout_ms: u64 = 2000,
        /// Seconds after its start in which a container may still be starting (judgement).
        starting_s: i64 = 60,
        /// Seconds after which a container with published ports and no health test is reported (judgement).
        absent_after_s: i64 = 600,
    }
}

/// Causes and effects; docs/causes.md lists all links.
const LINKS: &[Link] = &[
    Link::confirmed(
        "healthcheck.command-missing",
        "healthcheck.unhealthy",
        KeyKind::Container,
        "the health test cannot be run, independent of the service",
    ),
    Link::confirmed("healthcheck.timeout", "healthcheck.unhealthy", KeyKind::Container, "the health test does not end in time"),
    Link::confirmed(
        "healthcheck.localhost-ipv6",
        "healthcheck.unhealthy",
        KeyKind::Container,
        "the health test connects to ::1, where the service does not listen",
    ),
    Link::confirmed(
        "healthcheck.port-mismatch",
        "healthcheck.unhealthy",
        KeyKind::Container,
        "the health test connects to a port without a listener",
    ),
    Link::confirmed(
        "healthcheck.port-mismatch",
        "healthcheck.http",
        KeyKind::Port,
        "its health test requests a port without a listener, while the service listens on another",
    ),
    Link::confirmed(
        "healthcheck.proxied",
        "healthcheck.unhealthy",
        KeyKind::Container,
        "the health test sends its request to a proxy instead of to the service",
    ),
    Link::confirmed(
        "healthcheck.auth",
        "healthcheck.unhealthy",
        KeyKind::Container,
        "the health test is rejected for missing credentials",
    ),
    Link::confirmed(
        "healthcheck.http",
        "healthcheck.unhealthy",
        KeyKind::Container,
        "the service itself does not respond as expected",
    ),
    Link::confirmed(
        "healthcheck.command-missing",
        "container.restart-loop",
        KeyKind::Restarter,
        "it is restarted because of a health test that can never pass",
    ),
];

/// Whether a container may still be starting: recently started, or in the start period of its health test.
fn starting(c: &Container, settings: &Settings, now: jiff::Timestamp) -> bool {
    let age = c.state.started_at.map_or(SignedDuration::ZERO, |t| now.duration_since(t));
    let period = c.health_test.as_ref().map_or(0, |t| t.start_period_ms);
    age < SignedDuration::from_secs(settings.starting_s) || age < SignedDuration::from_millis(period)
}

/// The runbook with these settings.
#[must_use]
pub fn runbook(settings: &Settings) -> Runbook {
    let settings = settings.clone();
    Runbook {
        id: "healthcheck",
        about: "Health tests that fail, cannot run or prove nothing, and responses of the services themselves",
        checks: vec![
            Box::new(state::State { settings: settings.clone() }),
            Box::new(http::Http { settings: settings.clone() }),
            Box::new(tcp::Tcp { settings: settings.clone() }),
            Box::new(endpoint::Endpoints { settings }),
        ],
        links: &[LINKS],
        doc: include_str!("RUNBOOK.md"),
        ..Runbook::default()
    }
}
