//! The dns runbook: availability, latency and consistency of the name servers of this host and its containers.

mod container;
mod egress;
mod leak;
mod nsswitch;
mod queries;
mod resolvers;
mod search;
mod status;
mod stub;

use opsctl_core::model::{KeyKind, Link, Runbook};
use opsctl_core::probe::names::QueryLimits;

use crate::shared::settings::settings;

settings! {
    /// `[runbooks.dns]`.
    pub struct Settings {
        /// Names that every name server of this host should resolve, at most four; if empty, only the root is queried.
        #[schemars(example = ["db.corp.example"])]
        names: Vec<String> = Vec::new(),
        /// Latency of a name server that is warn, in milliseconds (judgement: 500).
        latency_ms: u64 = 500,
        /// Time limit of a response, in milliseconds, at most 2500; the query is sent twice in that time (judgement: 2 s, 2
        /// tries).
        timeout_ms: u64 = 2000,
    }
}

impl Settings {
    /// The same for all checks, so that they share the responses of the host's servers.
    fn query_limits(&self) -> QueryLimits {
        QueryLimits { timeout_ms: self.timeout_ms, slow_ms: self.latency_ms, tries: 2 }
    }
}

/// Causes and effects; docs/causes.md lists all links.
const LINKS: &[Link] = &[
    Link::confirmed("dns.stub", "dns.resolve", KeyKind::Host, "the name server of this machine does not run"),
    Link::confirmed(
        "dns.resolve",
        "dns.container",
        KeyKind::Host,
        "queries of the container are forwarded to the same name servers",
    ),
    Link::likely(
        "container.network-detached",
        "dns.container",
        KeyKind::Names,
        "without a network the container reaches no name server",
    ),
    // systemd-resolved, if nsswitch.conf relies on it alone; masked it is on purpose, and no finding of its own
    Link::confirmed("systemd.unit-failed", "dns.nsswitch", KeyKind::Unit, "its name service has failed"),
    Link::confirmed("systemd.enabled-inactive", "dns.nsswitch", KeyKind::Unit, "its name service is inactive"),
    Link::confirmed("systemd.restart-loop", "dns.nsswitch", KeyKind::Unit, "its name service restarts in a loop"),
];

/// The runbook with these settings.
#[must_use]
pub fn runbook(settings: &Settings) -> Runbook {
    let settings = settings.clone();
    Runbook {
        id: "dns",
        about: "Name servers that time out, are slow or inconsistent, on the host and in containers",
        checks: vec![
            Box::new(resolvers::Resolvers { settings: settings.clone() }),
            Box::new(stub::Stub { settings: settings.clone() }),
            Box::new(nsswitch::Nsswitch { settings: settings.clone() }),
            Box::new(search::Search { settings: settings.clone() }),
            Box::new(container::Container { settings }),
        ],
        links: &[LINKS],
        doc: include_str!("RUNBOOK.md"),
        ..Runbook::default()
    }
}
