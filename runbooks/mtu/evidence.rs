//! What is known about packet sizes on a host.

use std::collections::{BTreeMap, BTreeSet};

use opsctl_core::probe::firewall::{Backend, Effect, Firewall, Rule};
use opsctl_core::probe::network::Way;
use opsctl_core::probe::path::{Peer, Tried};
use serde::{Deserialize, Serialize};

/// Everything.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    /// How packets to the world leave this host; none without a route to it.
    pub(super) egress: Option<Way>,
    /// Networks of the engine whose packets this host forwards.
    pub(super) bridges: Vec<Bridge>,
    /// Paths that were tried.
    pub(super) looks: Vec<Look>,
    /// Connections that sent the same full packet again and again while smaller ones arrived.
    pub(super) stuck: Vec<Stuck>,
    /// Rules that change segment sizes, and whether a rule before them keeps packets away.
    pub(super) mss_rules: Vec<MssRule>,
    /// Rules that drop the message that a packet was too large, with their counters before and after.
    pub(super) icmp_rules: Vec<IcmpRule>,
    /// Where the container engine keeps its rules.
    pub(super) engine: Option<Backend>,
    /// The program that changes rules of each backend.
    pub(super) programs: Vec<(Backend, String)>,
    /// Chains of nftables that exist already: what a fix makes, its undo removes.
    pub(super) nft_chains: BTreeSet<String>,
    /// Packets this host could not forward for their size, before and after.
    pub(super) frag_fails: (u64, u64),
    /// `net.ipv4.tcp_mtu_probing`, `net.ipv4.ip_no_pmtu_disc`, `net.ipv4.icmp_ratemask`.
    pub(super) sysctls: BTreeMap<String, String>,
    /// What would be sent, when the person only wants to know that.
    pub(super) would: Vec<Would>,
    /// What could not be looked at.
    pub(super) gaps: Vec<String>,
}

/// A network of the engine.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Bridge {
    /// Its name in the engine.
    pub(super) network: String,
    /// Its interface here.
    pub(super) interface: String,
    /// Index of that interface.
    pub(super) index: u32,
    /// Its MTU.
    pub(super) mtu: u32,
    /// Containers that run in it.
    pub(super) containers: Vec<String>,
    /// The largest MTU among them, where they could be looked into.
    pub(super) inside: Option<u32>,
}

impl Bridge {
    /// Largest packet a container in it sends.
    pub(super) fn sends(&self) -> u32 {
        self.inside.unwrap_or(self.mtu)
    }
}

/// One path from one place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Look {
    /// The container it was tried from; none is this host.
    pub(super) from: Option<String>,
    /// The container's network.
    pub(super) network: Option<String>,
    /// The peer.
    pub(super) peer: Peer,
    /// A person or the configuration named it.
    pub(super) asked: bool,
    /// How this host would send packets there.
    pub(super) way: Way,
    /// What came of it.
    pub(super) tried: Tried,
}

impl Look {
    /// `web` or `this host`.
    pub(super) fn place(&self) -> String {
        self.from.clone().unwrap_or_else(|| "this host".to_owned())
    }

    pub(super) fn is_lost(&self) -> bool {
        self.tried.out.is_lost() || self.tried.back.is_lost()
    }
}

/// Connections to one peer that do not get on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stuck {
    /// The container they are of; none is this host.
    pub(super) from: Option<String>,
    /// Address and port of the peer.
    pub(super) peer: String,
    /// How many.
    pub(super) count: usize,
    /// Size of their full packets.
    pub(super) full: u32,
    /// How often in a row the same one was sent again by the clock.
    pub(super) backoff: u8,
    /// How this host would send packets there.
    pub(super) way: Way,
}

/// A rule that changes segment sizes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct MssRule {
    pub(super) rule: Rule,
    /// Where its chain is asked; none for a chain that others jump to.
    pub(super) hook: Option<String>,
    /// The rule before it that takes every packet.
    pub(super) shadow: Option<String>,
    /// Packets it had matched before anything was sent.
    pub(super) before: Option<u64>,
}

impl MssRule {
    /// It was made by opsctl.
    pub(super) fn is_ours(&self) -> bool {
        self.rule.text.contains(super::clamp::COMMENT) || self.rule.table.contains(super::clamp::NATIVE_TABLE)
    }
}

/// A rule that drops "fragmentation needed".
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct IcmpRule {
    pub(super) rule: Rule,
    pub(super) hook: Option<String>,
    pub(super) before: Option<u64>,
}

impl IcmpRule {
    /// It matched something while paths were tried.
    pub(super) fn matched(&self) -> bool {
        matches!((self.before, self.rule.packets), (Some(before), Some(after)) if after > before)
    }
}

/// A path that would be tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Would {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) says: String,
}

impl Evidence {
    /// Keeps of the packet filter what matters here.
    pub(super) fn keep(&mut self, before: &Firewall, after: &Firewall) {
        let earlier = |rule: &Rule| {
            let same =
                |r: &&Rule| (r.backend, &r.table, &r.chain, &r.text) == (rule.backend, &rule.table, &rule.chain, &rule.text);
            before.rules.iter().find(same).and_then(|r| r.packets)
        };
        for rule in &after.rules {
            let hook = after.hook_of(rule).map(str::to_owned);
            match rule.effect {
                Effect::ClampMss | Effect::SetMss(_) => self.mss_rules.push(MssRule {
                    hook,
                    shadow: after.shadow_of(rule).map(|r| r.text.clone()),
                    before: earlier(rule),
                    rule: rule.clone(),
                }),
                Effect::Drop if rule.icmp => self.icmp_rules.push(IcmpRule { hook, before: earlier(rule), rule: rule.clone() }),
                _ => {}
            }
        }
        self.engine = after.of_engine();
        self.programs.clone_from(&after.programs);
        self.nft_chains.clone_from(&after.nft_chains);
        self.gaps.extend(after.gaps.iter().cloned());
    }
}
