//! Results of an evaluation.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::packet::{Hook, Packet};
use super::writer::Writer;
use crate::probe::network::firewall::Backend;

/// Verdict on a packet or a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It passes.
    Accept,
    /// It is discarded: the client times out.
    Drop,
    /// It is discarded with an ICMP error or a TCP reset: the client fails immediately.
    Reject,
    /// It depends on conditions that are not evaluated.
    Unknown,
}

impl Verdict {
    /// Whether the packet is discarded in any case.
    #[must_use]
    pub fn is_discarded(self) -> bool {
        matches!(self, Self::Drop | Self::Reject)
    }
}

/// The rule or policy that decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Its backend.
    pub backend: Backend,
    /// `filter`, or for nftables `inet filter`.
    pub table: String,
    /// Its chain.
    pub chain: String,
    /// Number in its chain, from 1, as in `iptables -L --line-numbers`; for nftables its handle, as in `nft -a list chain`. `None`
    /// for the policy of a chain.
    pub position: Option<u64>,
    /// The rule as listed by `iptables-save` without counters, or in the syntax of nft; `policy DROP` for a policy.
    pub text: String,
    /// The program that wrote it.
    pub writer: Writer,
    /// The hook at which it was evaluated.
    pub hook: Hook,
    /// It is a rule of IPv6.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ipv6: bool,
}

impl fmt::Display for Decision {
    /// `rule 3 of chain INPUT, table filter (iptables-nft): -A INPUT -j DROP`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = match (self.backend, self.ipv6) {
            (Backend::Nft, true) => "ip6tables-nft",
            (Backend::Legacy, true) => "ip6tables-legacy",
            (backend, _) => backend.program(),
        };
        match (self.position, self.backend) {
            (Some(handle), Backend::Native) => write!(f, "rule with handle {handle} of ")?,
            (Some(number), _) => write!(f, "rule {number} of ")?,
            (None, _) => {}
        }
        write!(f, "chain {}, table {} ({program}): {}", self.chain, self.table, self.text)
    }
}

/// Fate of a packet at one hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fate {
    /// Verdict of all tables of all backends.
    pub verdict: Verdict,
    /// The packet after the hook, with translated addresses and marks. Several if a rule with an unknown condition changes them.
    pub packets: Vec<Packet>,
    /// The rule or policy that discards it, also if it is discarded under unknown conditions only.
    pub decision: Option<Decision>,
    /// The rules with conditions that are not evaluated, if the verdict depends on them.
    pub reasons: Vec<String>,
}

/// Part of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Leg {
    /// Its first packet.
    First,
    /// The reply to it.
    Reply,
    /// Later packets of the client.
    Following,
}

/// The place at which a packet ends.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "at", content = "interface")]
pub enum End {
    /// A process of this host.
    Local,
    /// Sent on an interface.
    Sent(String),
    /// Discarded by a rule or policy.
    Filtered,
    /// No route to its destination, or one that is not known.
    NoRoute,
    /// This host does not forward packets (`net.ipv4.ip_forward`).
    NotForwarded,
    /// Its destination is a loopback address and it did not come from this host (`net.ipv4.conf.*.route_localnet`).
    Martian,
    /// It does not have the addresses of its connection, for example because it is exempt from connection tracking and the
    /// connection is translated.
    Untranslated,
}

/// Fate of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionFate {
    /// `Accept` if packets pass in both directions.
    pub verdict: Verdict,
    /// The part that does not pass, or has an unknown verdict; the last one if all pass.
    pub leg: Leg,
    /// The rule or policy that discards packets of this part, also if it does so under unknown conditions only.
    pub decision: Option<Decision>,
    /// The rules with conditions that are not evaluated, if the verdict depends on them.
    pub reasons: Vec<String>,
    /// Where the first packet ends.
    pub end: End,
    /// Destination of the first packet after translation.
    pub destination: (IpAddr, Option<u16>),
    /// Source of the first packet after translation, as the server sees it.
    pub source: (IpAddr, Option<u16>),
    /// Other courses of the first packet lead to another destination, or have another source: a load balancer, or a translation
    /// under unknown conditions.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_alternatives: bool,
}

impl ConnectionFate {
    /// Whether no packet reaches the server, or no reply the client, in any case.
    #[must_use]
    pub fn is_discarded(&self) -> bool {
        self.verdict.is_discarded()
    }
}
