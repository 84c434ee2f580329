//! Fuzz targets of packet filter rules.

use super::{Backend, Firewall, native, saved};
use crate::fuzz::Target;

pub(crate) const TARGETS: &[Target] = &[
    Target::text("iptables-save", |text| {
        let mut firewall = Firewall::default();
        saved::add(&mut firewall, Backend::Nft, text);
        assert!(firewall.engine_rules().len() <= text.lines().count(), "a line is at most one rule");
    }),
    Target::text("nft-json", |text| drop(native::add(&mut Firewall::default(), text))),
];
