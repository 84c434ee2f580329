//! Conditions of rules.

use std::net::IpAddr;

use super::host::{AddressType, HostView, Routed};
use super::packet::{ICMP, ICMPV6, Packet, State};
use super::rule::NamedSet;

/// Bits of states, as in `ct state` of nftables (`NF_CT_STATE_BIT`).
pub(super) const STATES: &[(&str, u128)] =
    &[("invalid", 1), ("established", 2), ("related", 4), ("new", 8), ("untracked", 64), ("snat", SNAT), ("dnat", DNAT)];

/// States of translated connections, which only iptables has.
const SNAT: u128 = 1 << 16;
const DNAT: u128 = 1 << 17;

/// Bits of `ct status` (`IPS_*`, `nf_conntrack_common.h`).
pub(super) const STATUS: &[(&str, u128)] =
    &[("expected", 1), ("seen-reply", 2), ("assured", 4), ("confirmed", 8), ("snat", 16), ("dnat", 32), ("dying", 512)];

/// Source or destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
}

/// A property of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    Input,
    Output,
    /// Address; of this family only (`ip saddr`), if it is given.
    Address(Side, Option<bool>),
    /// IP protocol number.
    Protocol,
    /// 2 for IPv4, 10 for IPv6 (`AF_INET`, `AF_INET6`).
    Family,
    /// Port of this protocol; of any protocol with ports if none is given.
    Port(Side, Option<u8>),
    IcmpType(u8),
    IcmpCode(u8),
    TcpFlags,
    /// Bits of [`STATES`] without those of translations.
    CtState,
    /// Bits of [`STATES`].
    CtStateOfXt,
    CtStatus,
    /// 0 for packets of the client, 1 for replies.
    CtDirection,
    CtAddress(Side),
    CtPort(Side),
    Mark,
    CtMark,
    /// Number of [`AddressType`].
    AddressType(Side),
    /// 1 if the route to the source leads over the input interface.
    ReversePath,
    /// 0 for packets to this host's link address, 1 broadcast, 2 multicast (`PACKET_*`).
    PacketType,
    /// A property that is not evaluated.
    Open,
    Masked(Box<Key>, u128),
}

/// The value of a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u128),
    Name(&'a str),
    /// The packet has no such property: no condition on it holds, negated or not.
    Absent,
    Unknown,
}

/// Values of a property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Span {
    Any,
    Range(u128, u128),
    /// Value and mask.
    Masked(u128, u128),
    /// One of these bits is set.
    AnyBit(u128),
    Name(String),
    /// Names with this prefix.
    Prefix(String),
    /// Values that are not evaluated.
    Open,
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Yes,
    No,
    /// It is not evaluated.
    Open,
}

impl Answer {
    pub(super) fn of(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }

    pub(super) fn negated_if(self, not: bool) -> Self {
        match (self, not) {
            (Self::Yes, true) => Self::No,
            (Self::No, true) => Self::Yes,
            _ => self,
        }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Open,
        }
    }

    pub(super) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Yes, _) | (_, Self::Yes) => Self::Yes,
            (Self::No, Self::No) => Self::No,
            _ => Self::Open,
        }
    }
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    /// A property has one of these values.
    In { key: Key, spans: Vec<Span>, not: bool },
    /// These properties are together an element of a set; the index is that of the set.
    Set { keys: Vec<Key>, set: usize, not: bool },
    /// One of them holds, or none if it is negated.
    Any(Vec<Condition>, bool),
    /// It never holds.
    Never,
    /// It is not evaluated.
    Open,
}

/// A packet at a hook, beside its host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) packet: &'a Packet,
    /// Connection tracking has seen it: not yet in table `raw`.
    pub(super) tracked: bool,
    pub(super) host: &'a HostView,
    pub(super) sets: &'a [NamedSet],
}

/// Whether connection tracking has an entry for a packet.
pub(super) fn has_entry(packet: &Packet, tracked: bool) -> bool {
    tracked && !matches!(packet.state, State::Invalid | State::Untracked)
}

pub(super) fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

impl<'a> Scene<'a> {
    pub(super) fn answer(&self, condition: &Condition) -> Answer {
        match condition {
            Condition::In { key, spans, not } => {
                let value = self.value(key);
                if value == Value::Absent {
                    return Answer::No;
                }
                let any = spans.iter().fold(Answer::No, |answer, span| answer.or(fits(value, span)));
                any.negated_if(*not)
            }
            Condition::Set { keys, set, not } => match self.sets.get(*set) {
                Some(set) => match self.lookup(keys, set) {
                    None => Answer::No,
                    Some(answer) => answer.negated_if(*not),
                },
                None => Answer::Open,
            },
            Condition::Any(all, not) => {
                all.iter().fold(Answer::No, |answer, condition| answer.or(self.answer(condition))).negated_if(*not)
            }
            Condition::Never => Answer::No,
            Condition::Open => Answer::Open,
        }
    }

    /// Whether the values of the keys are in the set; `None` if the packet has no such property.
    fn lookup(&self, keys: &[Key], set: &NamedSet) -> Option<Answer> {
        let values: Vec<Value<'_>> = keys.iter().map(|key| self.value(key)).collect();
        if values.contains(&Value::Absent) {
            return None;
        }
        let listed = set.elements.iter().filter(|e| !e.is_excluded).fold(Answer::No, |a, e| a.or(fit(&values, &e.spans)));
        let excluded = set.elements.iter().filter(|e| e.is_excluded).fold(Answer::No, |a, e| a.or(fit(&values, &e.spans)));
        let listed = if set.is_complete { listed } else { listed.or(Answer::Open) };
        Some(listed.and(excluded.negated_if(true)))
    }

    /// The value of a property of this packet.
    pub(super) fn value(&self, key: &Key) -> Value<'a> {
        let packet = self.packet;
        let known = |number: Option<u128>| number.map_or(Value::Unknown, Value::Number);
        match key {
            Key::Input => Value::Name(packet.input.as_deref().unwrap_or_default()),
            Key::Output => Value::Name(packet.output.as_deref().unwrap_or_default()),
            Key::Address(side, family) => {
                let ip = if *side == Side::Source { packet.source } else { packet.destination };
                if family.is_some_and(|v6| v6 != ip.is_ipv6()) { Value::Absent } else { Value::Number(number(ip)) }
            }
            Key::Protocol => Value::Number(packet.protocol.into()),
            Key::Family => Value::Number(if packet.is_ipv6() { 10 } else { 2 }),
            Key::Port(side, protocol) => match (protocol, packet.protocol) {
                (Some(of), actual) if *of != actual => Value::Absent,
                // the bytes of ports are other fields of ICMP
                (None, ICMP | ICMPV6) => Value::Unknown,
                _ => {
                    let port = if *side == Side::Source { packet.source_port } else { packet.destination_port };
                    known(port.map(u128::from))
                }
            },
            Key::IcmpType(of) | Key::IcmpCode(of) if *of != packet.protocol => Value::Absent,
            Key::IcmpType(_) => known(packet.icmp.map(|(kind, _)| kind.into())),
            Key::IcmpCode(_) => known(packet.icmp.map(|(_, code)| code.into())),
            Key::TcpFlags if packet.protocol != super::packet::TCP => Value::Absent,
            Key::TcpFlags => Value::Number(packet.tcp_flags.into()),
            Key::CtState => Value::Number(self.state()),
            Key::CtStateOfXt => {
                let translated = if packet.snat { SNAT } else { 0 } | if packet.dnat { DNAT } else { 0 };
                Value::Number(self.state() | if self.has_entry() { translated } else { 0 })
            }
            Key::CtStatus | Key::CtDirection | Key::CtAddress(_) | Key::CtPort(_) | Key::CtMark if !self.has_entry() => {
                Value::Absent
            }
            // `confirmed` and others depend on the hook: only translations are compared, by [`Span::AnyBit`]
            Key::CtStatus => Value::Number(if packet.snat { 16 } else { 0 } | if packet.dnat { 32 } else { 0 }),
            Key::CtDirection => Value::Number(packet.is_reply.into()),
            Key::CtAddress(Side::Source) => Value::Number(number(packet.original.source)),
            Key::CtAddress(Side::Destination) => Value::Number(number(packet.original.destination)),
            Key::CtPort(Side::Source) => known(packet.original.source_port.map(u128::from)),
            Key::CtPort(Side::Destination) => known(packet.original.destination_port.map(u128::from)),
            Key::Mark => known(packet.mark.map(u128::from)),
            Key::CtMark => known(packet.ct_mark.map(u128::from)),
            Key::AddressType(side) => {
                let ip = if *side == Side::Source { packet.source } else { packet.destination };
                Value::Number(self.host.address_type(ip) as u128)
            }
            Key::ReversePath => self.reverse_path(),
            Key::PacketType => match self.host.address_type(packet.destination) {
                AddressType::Broadcast => Value::Number(1),
                AddressType::Multicast => Value::Number(2),
                AddressType::Local | AddressType::Unicast => Value::Number(0),
            },
            Key::Open => Value::Unknown,
            Key::Masked(inner, mask) => match self.value(inner) {
                Value::Number(n) => Value::Number(n & mask),
                other => other,
            },
        }
    }

    fn has_entry(&self) -> bool {
        has_entry(self.packet, self.tracked)
    }

    fn state(&self) -> u128 {
        match self.packet.state {
            State::Untracked => 64,
            _ if !self.tracked => 1,
            State::Invalid => 1,
            State::Established => 2,
            State::Related => 4,
            State::New => 8,
        }
    }

    fn reverse_path(&self) -> Value<'a> {
        let Some(input) = self.packet.input.as_deref() else { return Value::Unknown };
        match self.host.route(self.packet.source) {
            Routed::Via(interfaces) if interfaces.contains(&input) => Value::Number(1),
            Routed::Local if input == "lo" => Value::Number(1),
            _ => Value::Unknown,
        }
    }
}

/// Whether values fit an element with as many spans.
pub(super) fn fit(values: &[Value<'_>], spans: &[Span]) -> Answer {
    if values.len() != spans.len() {
        return Answer::Open;
    }
    values.iter().zip(spans).fold(Answer::Yes, |answer, (value, span)| answer.and(fits(*value, span)))
}

fn fits(value: Value<'_>, span: &Span) -> Answer {
    match (span, value) {
        (Span::Any, _) => Answer::Yes,
        (Span::Range(first, last), Value::Number(n)) => Answer::of((*first..=*last).contains(&n)),
        (Span::Masked(wanted, mask), Value::Number(n)) => Answer::of((n ^ wanted) & mask == 0),
        (Span::AnyBit(bits), Value::Number(n)) => Answer::of(n & bits != 0),
        (Span::Name(name), Value::Name(own)) => Answer::of(name == own),
        (Span::Prefix(prefix), Value::Name(own)) => Answer::of(own.starts_with(prefix.as_str())),
        // also values of another kind, which a parser did not expect
        _ => Answer::Open,
    }
}
