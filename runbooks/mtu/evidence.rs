//! Evidence about packet sizes on a host.

use std::collections::{BTreeMap, BTreeSet};

use opsctl_core::probe::network::NetworkRoute;
use opsctl_core::probe::network::firewall::{Backend, Effect, Firewall, Rule};
use opsctl_core::probe::network::path::{PathResult, PathTest, Peer};
use serde::{Deserialize, Serialize};

/// The evidence of `mtu.path`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    /// The default route; `None` without one.
    pub(super) egress: Option<NetworkRoute>,
    /// Engine networks that this host forwards packets of.
    pub(super) bridges: Vec<Bridge>,
    /// Probed paths.
    pub(super) looks: Vec<PathProbe>,
    /// Connections that retransmit the same full packet while smaller ones arrive.
    pub(super) stuck: Vec<Stuck>,
    /// MSS rules, and whether an earlier rule shadows them.
    pub(super) mss_rules: Vec<MssRule>,
    /// Rules that drop ICMP "fragmentation needed", with their counters before and after.
    pub(super) icmp_rules: Vec<IcmpRule>,
    /// The packet filter backend of the container engine.
    pub(super) engine: Option<Backend>,
    /// The program of each backend.
    pub(super) programs: Vec<(Backend, String)>,
    /// Existing nftables chains: the undo removes only chains that the fix created.
    pub(super) nft_chains: BTreeSet<String>,
    /// Packets this host could not forward because of their size, before and after.
    pub(super) frag_fails: (u64, u64),
    /// `net.ipv4.tcp_mtu_probing`, `net.ipv4.ip_no_pmtu_disc`, `net.ipv4.icmp_ratemask`.
    pub(super) sysctls: BTreeMap<String, String>,
    /// Probes that a dry run would send.
    pub(super) would: Vec<Would>,
    /// Parts that could not be checked.
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
    /// Running containers in it.
    pub(super) containers: Vec<String>,
    /// The largest MTU among them, if readable.
    pub(super) inside: Option<u32>,
}

impl Bridge {
    /// Largest packet a container in it sends.
    pub(super) fn sends(&self) -> u32 {
        self.inside.unwrap_or(self.mtu)
    }
}

/// One path from one source.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PathProbe {
    /// The source container, or `None` for this host.
    pub(super) from: Option<String>,
    /// The container's network.
    pub(super) network: Option<String>,
    /// The peer.
    pub(super) peer: Peer,
    /// Named on the command line or in the configuration.
    pub(super) asked: bool,
    /// The route from this host to the peer.
    pub(super) way: NetworkRoute,
    /// The result.
    pub(super) tried: PathTest,
}

impl PathProbe {
    /// `web` or `this host`.
    pub(super) fn source(&self) -> String {
        self.from.clone().unwrap_or_else(|| "this host".to_owned())
    }

    pub(super) fn is_lost(&self) -> bool {
        self.tried.out.is_lost() || self.tried.back.is_lost()
    }

    /// The directions with a clear result, and whether full packets are lost in them.
    pub(super) fn directions(&self) -> Vec<(String, bool)> {
        let of = |direction: &str, result: &PathResult| {
            let is_clear = matches!(result, PathResult::Arrives | PathResult::Vanishes { .. });
            is_clear.then(|| (format!("{direction} {} to {}", self.source(), self.peer.name), result.is_lost()))
        };
        [of("out", &self.tried.out), of("back", &self.tried.back)].into_iter().flatten().collect()
    }
}

/// Stalled connections to one peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stuck {
    /// The container, or `None` for this host.
    pub(super) from: Option<String>,
    /// Address and port of the peer.
    pub(super) peer: String,
    /// Number of connections.
    pub(super) count: usize,
    /// Size of their full packets.
    pub(super) full: u32,
    /// Consecutive retransmission timeouts of the same packet.
    pub(super) backoff: u8,
    /// The route from this host to the peer.
    pub(super) way: NetworkRoute,
}

/// An MSS rule.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct MssRule {
    pub(super) rule: Rule,
    /// The hook of its chain; `None` for a chain reached by jumps.
    pub(super) hook: Option<String>,
    /// An earlier rule that matches every packet.
    pub(super) shadow: Option<String>,
    /// Matched packets before the first probe.
    pub(super) before: Option<u64>,
}

impl MssRule {
    /// Created by opsctl.
    pub(super) fn is_own(&self) -> bool {
        self.rule.text.contains(super::clamp::COMMENT) || self.rule.table.contains(super::clamp::NATIVE_TABLE)
    }
}

/// A rule that drops ICMP "fragmentation needed".
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct IcmpRule {
    pub(super) rule: Rule,
    pub(super) hook: Option<String>,
    pub(super) before: Option<u64>,
}

impl IcmpRule {
    /// Whether the rule matched a packet during the probes.
    pub(super) fn matched(&self) -> bool {
        matches!((self.before, self.rule.packets), (Some(before), Some(after)) if after > before)
    }
}

/// A path that a dry run would probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Would {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) says: String,
}

impl Evidence {
    /// Stores the relevant rules of the packet filter.
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
