//! The dns runbook: does everybody whom this host and its containers ask for names answer, in time, and the same?

mod asking;
mod container;
mod leak;
mod resolvers;
mod search;
mod standing;
mod stub;

use opsctl_core::model::{KeyKind, Link, Runbook};
use opsctl_core::probe::names::Patience;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[runbooks.dns]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Names that every name server of this host should know, at most four; without any only the root is asked for.
    #[schemars(example = ["db.corp.example"])]
    pub names: Vec<String>,
    /// How slow a name server may be, in milliseconds (catalogue §15: 500).
    pub latency_ms: u64,
    /// How long an answer may take, in milliseconds, at most 2500; the question is sent twice in that time (catalogue §15: 2 s, 2 tries).
    pub timeout_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { names: Vec::new(), latency_ms: 500, timeout_ms: 2000 }
    }
}

impl Settings {
    /// The same for all checks, so that they share what the host's servers answered.
    fn patience(&self) -> Patience {
        Patience { timeout_ms: self.timeout_ms, slow_ms: self.latency_ms, tries: 2 }
    }
}

/// What may cause what (catalogue §18).
const LINKS: &[Link] = &[
    Link::confirmed("dns.stub", "dns.resolve", KeyKind::Host, "whom this machine is told to ask is not there"),
    Link::confirmed("dns.resolve", "dns.container", KeyKind::Host, "the container's questions end at the same name servers"),
    Link::confirmed("systemd.unit-failed", "dns.stub", KeyKind::Unit, "it is the name server that does not run").treatable(),
    Link::likely("dns.resolve", "time.unsynced", KeyKind::Names, "time servers are found by name"),
    Link::likely("dns.resolve", "nginx.config-test", KeyKind::Names, "names of upstreams cannot be looked up"),
    Link::likely("dns.resolve", "tls.renewal-failing", KeyKind::Names, "the authority is found by name"),
    Link::likely(
        "container.network-detached",
        "dns.container",
        KeyKind::Names,
        "outside of its networks it reaches no name server",
    ),
];

/// The runbook with these settings.
#[must_use]
pub fn runbook(settings: &Settings) -> Runbook {
    let settings = settings.clone();
    Runbook {
        id: "dns",
        about: "Name servers that are silent, slow or disagree, on the host and in containers",
        checks: vec![
            Box::new(resolvers::Resolvers { settings: settings.clone() }),
            Box::new(stub::Stub { settings: settings.clone() }),
            Box::new(search::Search { settings: settings.clone() }),
            Box::new(container::Container { settings }),
        ],
        links: &[LINKS],
        doc: include_str!("RUNBOOK.md"),
    }
}
