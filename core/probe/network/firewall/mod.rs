//! The packet filter of this host's network namespace: both backends of iptables, and nftables itself.
//!
//! Rules are listed with programs, because the legacy tables have no other stable interface and that of nftables is not stable.
//! Listing a legacy table creates it, and with it the warning that both variants are in use: only tables in
//! `/proc/net/ip_tables_names` are listed.

#[cfg(any(test, feature = "fuzz"))]
pub(in crate::probe) mod fuzz;
mod listing;
mod native;
mod observed;
mod persisted;
pub mod ruleset;
mod saved;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use listing::{Ipv6Rules, read};
pub use observed::HostViewCache;
pub use persisted::{Persisted, persisted};

use ruleset::{ConnectionFate, Fate, Flow, Hook, HostView, Packet, Ruleset};

/// Owner of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// iptables that writes to nftables (`iptables-nft`).
    Nft,
    /// iptables with tables of its own (`iptables-legacy`).
    Legacy,
    /// nftables itself (`nft`).
    Native,
}

impl Backend {
    /// The command line program.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Nft => "iptables-nft",
            Self::Legacy => "iptables-legacy",
            Self::Native => "nft",
        }
    }
}

/// Effect of a rule on a matching packet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do", content = "to")]
pub enum Effect {
    /// Accepts it; the rest of the chain is skipped.
    Accept,
    /// Drops or rejects it.
    Drop,
    /// Returns to the calling chain.
    Return,
    /// Continues in another chain.
    Jump(String),
    /// Clamps the MSS in a SYN to the path MTU known to this host.
    ClampMss,
    /// Sets the MSS to a number.
    SetMss(u32),
    /// Replaces its source address by one of this host.
    Masquerade,
    /// Decided outside of the listed rules: by a program in user space (NFQUEUE), or by a map or set without its elements.
    External,
    /// Anything else.
    #[default]
    Other,
}

impl Effect {
    /// Whether later rules of the chain do not see a packet that this one matched.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Accept | Self::Drop | Self::Return)
    }
}

/// A rule.
#[expect(clippy::struct_excessive_bools, reason = "independent properties of a rule")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Its backend.
    pub backend: Backend,
    /// `mangle`, or for nftables `inet filter`.
    pub table: String,
    /// Its chain.
    pub chain: String,
    /// Input interface; a leading `!` negates.
    pub input: Option<String>,
    /// Output interface; a leading `!` negates.
    pub output: Option<String>,
    /// Several input interfaces, each with a leading `!` if they are excluded; `input` is then empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
    /// Several output interfaces, as `inputs`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<String>,
    /// Source network.
    pub source: Option<String>,
    /// Protocol: `tcp`, `icmp`; a leading `!` negates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// It matches every packet.
    pub every: bool,
    /// It matches every first packet of a connection through its interfaces.
    pub plain: bool,
    /// It has conditions besides interfaces, source, protocol and states that include new connections. Unknown in old recordings.
    #[serde(default = "unknown_conditions")]
    pub conditional: bool,
    /// It matches packets of established connections only.
    pub established: bool,
    /// It matches ICMP "fragmentation needed", and little else.
    pub icmp: bool,
    /// Its effect.
    pub effect: Effect,
    /// Number of matched packets.
    pub packets: Option<u64>,
    /// Its text, without counters.
    pub text: String,
}

/// Recordings without the field do not tell a protocol from another condition.
fn unknown_conditions() -> bool {
    true
}

impl Rule {
    /// A rule that matches every packet and has no effect, to be refined by the parser.
    fn new(backend: Backend, table: String, chain: String) -> Self {
        Self {
            backend,
            table,
            chain,
            input: None,
            output: None,
            inputs: Vec::new(),
            outputs: Vec::new(),
            source: None,
            protocol: None,
            every: true,
            plain: true,
            conditional: false,
            established: false,
            icmp: false,
            effect: Effect::Other,
            packets: None,
            text: String::new(),
        }
    }
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Its backend.
    pub backend: Backend,
    /// Its table.
    pub table: String,
    /// Name.
    pub name: String,
    /// `PREROUTING`, `INPUT`, `FORWARD`, `OUTPUT`, `POSTROUTING`; `None` for a chain without a hook.
    pub hook: Option<String>,
    /// Policy for packets that no rule decided; true accepts them.
    pub accepts: bool,
}

/// The packet filter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Firewall {
    /// Chains.
    pub chains: Vec<Chain>,
    /// Rules, in evaluation order of each chain.
    pub rules: Vec<Rule>,
    /// Chains of nftables, including those of iptables: `ip mangle FORWARD`.
    pub nft_chains: BTreeSet<String>,
    /// The program that changes rules, by iptables backend.
    pub programs: Vec<(Backend, String)>,
    /// Parts that could not be read, with the reason.
    pub gaps: Vec<String>,
    /// The rules as they are evaluated; not recorded. IPv6 rules of iptables are read by [`Ipv6Rules`].
    #[serde(skip)]
    pub ruleset: Arc<Ruleset>,
}

impl Firewall {
    /// The fate of an IPv4 packet at one hook; see [`Ruleset::fate`].
    #[must_use]
    pub fn fate(&self, packet: &Packet, hook: Hook, host: &HostView) -> Fate {
        self.ruleset.fate(packet, hook, host)
    }

    /// The fate of an IPv4 connection and its replies; see [`Ruleset::connection`].
    #[must_use]
    pub fn connection(&self, flow: &Flow, host: &HostView) -> ConnectionFate {
        self.ruleset.connection(flow, host)
    }

    /// The backend that contains the rules of the container engine, if there are any.
    #[must_use]
    pub fn of_engine(&self) -> Option<Backend> {
        self.chains.iter().find(|c| is_of_engine(c)).map(|c| c.backend)
    }

    /// Every chain and rule that refers to chains of the container engine, each prefixed with its table: `nat -A PREROUTING … -j
    /// DOCKER`.
    #[must_use]
    pub fn engine_rules(&self) -> Vec<String> {
        let chains = self.chains.iter().filter(|c| c.name.contains("DOCKER")).map(|c| format!("{} :{} -", c.table, c.name));
        let rules = self.rules.iter().filter(|r| r.text.contains("DOCKER")).map(|r| format!("{} {}", r.table, r.text));
        chains.chain(rules).collect()
    }

    /// The rules of one chain, in order.
    pub fn chain<'a>(&'a self, backend: Backend, table: &'a str, name: &'a str) -> impl Iterator<Item = &'a Rule> {
        self.rules.iter().filter(move |r| r.backend == backend && r.table == table && r.chain == name)
    }

    /// The hook of a rule's chain; `None` for a chain that is only reached by jumps.
    #[must_use]
    pub fn hook_of(&self, rule: &Rule) -> Option<&str> {
        let own = |c: &&Chain| c.backend == rule.backend && c.table == rule.table && c.name == rule.chain;
        self.chains.iter().find(own)?.hook.as_deref()
    }

    /// The earlier rule of its chain that keeps all packets from reaching `rule`, if there is one.
    #[must_use]
    pub fn shadow_of(&self, rule: &Rule) -> Option<&Rule> {
        let same = |r: &&Rule| r.backend == rule.backend && r.table == rule.table && r.chain == rule.chain;
        let before = self.rules.iter().filter(same).take_while(|r| !std::ptr::eq(*r, rule));
        before.into_iter().find(|r| r.every && r.effect.is_final())
    }

    /// The program that changes the rules of a backend.
    #[must_use]
    pub fn program(&self, backend: Backend) -> Option<&str> {
        self.programs.iter().find(|(b, _)| *b == backend).map(|(_, program)| program.as_str())
    }
}

fn is_of_engine(chain: &Chain) -> bool {
    let own = chain.name == "DOCKER" || chain.name.starts_with("DOCKER-");
    // custom rules for containers do not indicate an engine; Docker 29 has its own tables in nftables
    (own && chain.name != "DOCKER-USER") || (chain.backend == Backend::Native && chain.table.ends_with(" docker-bridges"))
}

/// The rules in the output of `nft --json list ruleset` or `iptables-save`, for tests.
#[cfg(any(test, feature = "fuzz"))]
#[must_use]
pub fn recorded(text: &str) -> Firewall {
    let mut firewall = Firewall::default();
    let mut rules = ruleset::Listings::default();
    let (parsed, iptables): (serde_json::Value, _);
    if text.trim_start().starts_with('{') {
        let _ = native::add(&mut firewall, text);
        parsed = serde_json::from_str(text).unwrap_or_default();
        (rules.nft, rules.nft_has_elements) = (Some(&parsed), true);
    } else {
        saved::add(&mut firewall, Backend::Nft, text);
        iptables = [(Backend::Nft, text)];
        rules.iptables = &iptables;
    }
    firewall.ruleset = Arc::new(Ruleset::parse(&rules));
    firewall
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_rules_are_listed_without_counters() {
        let saved = "# Generated by DOCKER fan\n*nat\n:PREROUTING ACCEPT [5:300]\n:DOCKER - [12:7]\n[3:4] -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n[0:0] -A INPUT -p tcp --dport 22 -j ACCEPT\nCOMMIT\n";
        let mut firewall = Firewall::default();
        saved::add(&mut firewall, Backend::Nft, saved);
        assert_eq!(firewall.engine_rules(), ["nat :DOCKER -", "nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER"]);
        assert_eq!(firewall.of_engine(), Some(Backend::Nft));
    }
}
