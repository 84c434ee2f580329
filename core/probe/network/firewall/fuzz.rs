//! Fuzz targets of packet filter rules.

use crate::fuzz::Target;
use crate::probe::network::firewall::{Backend, Firewall, native, saved};

pub(crate) const TARGETS: &[Target] = &[
    Target::text("iptables-save", |text| {
        let mut firewall = Firewall::default();
        saved::add(&mut firewall, Backend::Nft, text);
        assert!(firewall.engine_rules().len() <= text.lines().count(), "a line is at most one rule");
    }),
    Target::text("nft-json", |text| drop(native::add(&mut Firewall::default(), text))),
];
