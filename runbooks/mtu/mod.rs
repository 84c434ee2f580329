//! The mtu runbook: full packets arrive at the peers of this host, from its containers and from the host itself.

mod bottleneck;
mod clamp;
mod evidence;
mod findings;
mod path;
mod peers;
mod persistent;

use opsctl_core::model::{KeyKind, Link, Runbook};

use crate::shared::settings::settings;

settings! {
    /// `[runbooks.mtu]`.
    pub struct Settings {
        /// Number of connected peers to probe, per container network and for this host; 0 probes only peers that are named
        /// (on the command line or as `[[endpoint]]`). Only HTTP and TLS ports are probed.
        peers: usize = 2,
    }
}

/// Causes and effects; docs/causes.md lists all links.
const LINKS: &[Link] = &[
    Link::confirmed(
        "mtu.icmp-blocked-local",
        "mtu.blackhole",
        KeyKind::Interface,
        "senders of oversized packets get no ICMP message: this host drops it",
    )
    .treatable(),
    Link::confirmed(
        "mtu.icmp-blocked-local",
        "mtu.clamp-missing",
        KeyKind::Interface,
        "an MSS rule is needed only where the ICMP message is dropped",
    )
    .treatable(),
    // the absence of a workaround is no cause: it is needed only because of the loss
    Link::confirmed("mtu.blackhole", "mtu.clamp-missing", KeyKind::Interface, "an MSS rule would avoid packets of the lost size")
        .treatable(),
    Link::confirmed("mtu.clamp", "mtu.blackhole", KeyKind::Interface, "the MSS rule has no effect").treatable(),
];

/// The runbook with these settings.
#[must_use]
pub fn runbook(settings: &Settings) -> Runbook {
    Runbook {
        id: "mtu",
        about: "Packet sizes: bridge MTU against egress MTU, dropped full packets, effective and ineffective TCPMSS rules",
        checks: vec![Box::new(path::Path { settings: settings.clone() }), Box::new(persistent::Persistent)],
        links: &[LINKS],
        doc: include_str!("RUNBOOK.md"),
        ..Runbook::default()
    }
}
