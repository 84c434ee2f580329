//! Fuzz targets of packet filter rules.

use crate::fuzz::Target;
use crate::probe::network::firewall::ruleset::{Flow, HostView, Listings, Ruleset};
use crate::probe::network::firewall::{Backend, Firewall, native, recorded, saved};

pub(crate) const TARGETS: &[Target] = &[
    Target::text("iptables-save", |text| {
        let mut firewall = Firewall::default();
        saved::add(&mut firewall, Backend::Nft, text);
        assert!(firewall.engine_rules().len() <= text.lines().count(), "a line is at most one rule");
        evaluated(&recorded(text));
        let _ = Ruleset::parse(&Listings { ipset: Some(text), ..Listings::default() });
    }),
    Target::text("nft-json", |text| {
        let _ = native::add(&mut Firewall::default(), text);
        evaluated(&recorded(text));
    }),
];

/// Every ruleset has a verdict on a connection.
fn evaluated(firewall: &Firewall) {
    let (from, to) = ([192, 0, 2, 1].into(), [127, 0, 0, 1].into());
    for input in [None, Some("eth0")] {
        let _ = firewall.connection(&Flow::tcp(input, from, to, 80), &HostView::default());
    }
}
