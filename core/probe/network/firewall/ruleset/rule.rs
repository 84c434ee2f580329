//! Rules, chains and sets.

use std::collections::HashMap;

use super::condition::{Condition, Key, Span};
use super::packet::Hook;
use crate::probe::network::firewall::Backend;

/// Families of packets that a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Families {
    pub(super) ipv4: bool,
    pub(super) ipv6: bool,
}

/// Kind of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Filter,
    /// It sees the first packet of a connection only, and the first translation of all chains at a hook is used.
    Nat,
}

/// A chain that is called by a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) families: Families,
    pub(super) hook: Hook,
    pub(super) priority: i32,
    pub(super) kind: Kind,
    /// Policy.
    pub(super) accepts: bool,
    /// Index of its chain.
    pub(super) chain: usize,
    /// Interfaces of an ingress chain.
    pub(super) devices: Vec<String>,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChainRules {
    pub(super) backend: Backend,
    /// `filter`, or for nftables `inet filter`.
    pub(super) table: String,
    pub(super) name: String,
    /// It is a chain of ip6tables.
    pub(super) ipv6: bool,
    pub(super) rules: Vec<FilterRule>,
}

/// A rule: conditions and actions in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FilterRule {
    pub(super) steps: Vec<Step>,
    /// Number in its chain, or handle.
    pub(super) position: u64,
    pub(super) text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Test(Condition),
    Do(Action),
}

/// Action of a rule on a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Accept,
    Drop,
    Reject,
    Return,
    /// To the chain of this index, and back.
    Jump(usize),
    /// To the chain of this index, and from there back to the caller of this one.
    Goto(usize),
    /// Translates an address.
    Nat(Translation),
    NoTrack,
    SetMark(MarkChange),
    /// Decided outside of the rules, or by a target that is not evaluated: it may pass or not, or continue with the next rule.
    External,
    /// Decided by the element of a set that contains the keys.
    Map {
        keys: Vec<Key>,
        set: usize,
    },
}

/// A change of a mark: `(mark & keep) ^ toggle`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MarkChange {
    Packet {
        keep: u32,
        toggle: u32,
    },
    Connection {
        keep: u32,
        toggle: u32,
    },
    /// `CONNMARK --restore-mark`, `meta mark set ct mark`: new = (packet & keep) ^ (connection & of).
    Restore {
        keep: u32,
        of: u32,
    },
    /// `CONNMARK --save-mark`.
    Save {
        keep: u32,
        of: u32,
    },
    PacketUnknown,
    ConnectionUnknown,
}

/// A translation of the source or destination of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Translation {
    /// It is the source.
    pub(super) is_source: bool,
    pub(super) to: NatAddress,
    pub(super) ports: NatPorts,
}

/// New address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NatAddress {
    /// Unchanged.
    Same,
    /// One of a range.
    Range(u128, u128),
    /// The address of the interface: of the input interface for REDIRECT, of the output interface for MASQUERADE.
    Interface,
    /// The host part of the address remains (NETMAP); the mask of the network.
    Network(u128, u128),
    /// Address, and port if there are two values, of the element of a set that contains the keys.
    Mapped {
        keys: Vec<Key>,
        set: usize,
    },
    Open,
}

/// New port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NatPorts {
    /// Unchanged.
    Same,
    /// One of a range.
    Range(u16, u16),
    /// Shifted: the first port of the new range, and the one of the old range.
    Shift(u16, u16),
    Open,
}

/// A set or map.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NamedSet {
    pub(super) elements: Vec<Element>,
    /// All elements are listed, and none is added or removed by packets.
    pub(super) is_complete: bool,
    /// One of the elements fits every packet: those of a random number.
    pub(super) is_exhaustive: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) spans: Vec<Span>,
    /// An exception from other elements (`nomatch`).
    pub(super) is_excluded: bool,
    /// Verdict of a map.
    pub(super) action: Option<Action>,
    /// Values of a map.
    pub(super) data: Vec<u128>,
}

/// Collects chains and sets while rules are parsed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Builder {
    pub(super) bases: Vec<Base>,
    pub(super) chains: Vec<ChainRules>,
    pub(super) sets: Vec<NamedSet>,
    pub(super) gaps: Vec<String>,
}

/// Names of the chains of one table.
pub(super) type Names = HashMap<String, usize>;

impl Builder {
    pub(super) fn add_chain(&mut self, backend: Backend, table: &str, name: &str, ipv6: bool) -> usize {
        let (table, name) = (table.to_owned(), name.to_owned());
        self.chains.push(ChainRules { backend, table, name, ipv6, rules: Vec::new() });
        self.chains.len() - 1
    }

    pub(super) fn add_set(&mut self, set: NamedSet) -> usize {
        self.sets.push(set);
        self.sets.len() - 1
    }
}
