//! The mtu runbook: do full packets get through, to where this host talks to, from its containers and from itself?

mod bottleneck;
mod clamp;
mod evidence;
mod findings;
mod path;
mod peers;
mod persistent;

use opsctl_core::model::{KeyKind, Link, Runbook};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[runbooks.mtu]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How many peers that this host or a network of containers has open connections with are tried, each; 0 tries only peers that are named
    /// (on the command line or as `[[endpoint]]`). Only ports of HTTP and TLS are spoken to.
    pub peers: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { peers: 2 }
    }
}

/// What may cause what (catalogue §18).
const LINKS: &[Link] = &[
    Link::confirmed(
        "mtu.icmp-blocked-local",
        "mtu.blackhole",
        KeyKind::Interface,
        "whoever sends too large a packet is not told: the message is dropped here",
    )
    .treatable(),
    Link::confirmed(
        "mtu.icmp-blocked-local",
        "mtu.clamp-missing",
        KeyKind::Interface,
        "only where the message about the size is dropped a rule for it is needed",
    )
    .treatable(),
    Link::confirmed(
        "mtu.clamp-missing",
        "mtu.blackhole",
        KeyKind::Interface,
        "nothing makes the packets small enough, and nobody says that they are too large",
    )
    .treatable(),
    Link::confirmed("mtu.clamp", "mtu.blackhole", KeyKind::Interface, "the rule that should make packets small enough does not")
        .treatable(),
    Link::likely("mtu.blackhole", "healthcheck.http", KeyKind::Address, "full packets do not get through"),
    Link::likely("mtu.blackhole", "healthcheck.content", KeyKind::Address, "full packets do not get through"),
    Link::likely("mtu.blackhole", "healthcheck.slow", KeyKind::Address, "full packets do not get through"),
    Link::likely("mtu.blackhole", "tls.handshake", KeyKind::Address, "the certificate does not fit into a small packet"),
];

/// The runbook with these settings.
#[must_use]
pub fn runbook(settings: &Settings) -> Runbook {
    Runbook {
        id: "mtu",
        about: "Packet sizes: bridges against the way out, full packets that vanish, TCPMSS rules that help or do not",
        checks: vec![Box::new(path::Path { settings: settings.clone() }), Box::new(persistent::Persistent)],
        links: &[LINKS],
        doc: include_str!("RUNBOOK.md"),
    }
}
