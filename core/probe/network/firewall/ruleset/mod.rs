//! The rules of a packet filter as they are evaluated: which packets pass, and which rule discards the others.
//!
//! [`Firewall`](super::Firewall) has the rules of a host; [`Ruleset::connection`] computes the fate of a connection and of its
//! replies, [`Ruleset::fate`] that of a packet at one hook. Both are pure: addresses and routes come from a [`HostView`]. Conditions
//! that depend on time, rate or state are not evaluated: if the verdict depends on one, it is [`Verdict::Unknown`].

mod condition;
mod connection;
mod evaluate;
mod fate;
mod host;
mod ipset;
mod native;
mod packet;
mod rule;
mod saved;
#[cfg(test)]
mod tests;
mod traversal;
mod writer;

pub use fate::{ConnectionFate, Decision, End, Fate, Leg, Verdict};
pub use host::{AddressType, HostInterface, HostRoute, HostView, Routed};
pub use packet::{EPHEMERAL_PORT, Flow, Hook, ICMP, ICMPV6, Original, Packet, State, TCP, UDP};
pub use writer::Writer;

use serde_json::Value;

use rule::Builder;

use super::Backend;

/// The rules of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset {
    rules: Builder,
}

/// Listings of a host's rules.
#[derive(Debug, Clone, Copy, Default)]
pub struct Listings<'a> {
    /// Output of `ipset save`.
    pub ipset: Option<&'a str>,
    /// Outputs of `iptables-save` by their backend.
    pub iptables: &'a [(Backend, &'a str)],
    /// Outputs of `ip6tables-save` by their backend.
    pub ip6tables: &'a [(Backend, &'a str)],
    /// Output of `nft --json list ruleset`.
    pub nft: Option<&'a Value>,
    /// That listing has the elements of named sets and maps: it is not one with `--terse`.
    pub nft_has_elements: bool,
}

impl Ruleset {
    /// Parses listings. An unknown part is an unknown condition of its rule.
    #[must_use]
    pub fn parse(listings: &Listings<'_>) -> Self {
        let mut rules = Builder::default();
        let ipsets = ipset::add(&mut rules, listings.ipset.unwrap_or_default());
        for (backend, text) in listings.iptables {
            saved::add(&mut rules, *backend, text, &ipsets, false);
        }
        for (backend, text) in listings.ip6tables {
            saved::add(&mut rules, *backend, text, &ipsets, true);
        }
        if let Some(all) = listings.nft {
            native::add(&mut rules, all, listings.nft_has_elements);
        }
        // equal priorities: in the order of registration
        rules.bases.sort_by_key(|base| base.priority);
        Self { rules }
    }

    /// These rules with those of ip6tables, which replace what nft lists of them.
    #[must_use]
    pub fn with_ip6tables(&self, ip6tables: &[(Backend, &str)], ipset: Option<&str>) -> Self {
        let mut rules = self.rules.clone();
        let ipsets = ipset::add(&mut rules, ipset.unwrap_or_default());
        let before = rules.chains.len();
        for (backend, text) in ip6tables {
            saved::add(&mut rules, *backend, text, &ipsets, true);
        }
        let listed: Vec<String> =
            rules.chains[before..].iter().filter(|c| c.backend == Backend::Nft).map(|c| format!("ip6 {}", c.table)).collect();
        let chains = &rules.chains;
        rules.bases.retain(|base| {
            let chain = &chains[base.chain];
            chain.backend != Backend::Native || !listed.contains(&chain.table)
        });
        rules.bases.sort_by_key(|base| base.priority);
        Self { rules }
    }

    /// Whether there is no rule and no policy that discards: every packet passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.bases.iter().all(|base| base.accepts && self.rules.chains[base.chain].rules.is_empty())
    }

    /// Parts that are not evaluated.
    #[must_use]
    pub fn gaps(&self) -> &[String] {
        &self.rules.gaps
    }

    /// Number of rules.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        self.rules.chains.iter().map(|chain| chain.rules.len()).sum()
    }
}
