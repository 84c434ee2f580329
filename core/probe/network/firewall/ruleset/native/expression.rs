//! Expressions of nftables: properties of packets, and their values.

use std::net::IpAddr;

use serde_json::Value;

use super::word;
use crate::probe::network::firewall::ruleset::condition::{Key, STATES, STATUS, Side, Span, number};
use crate::probe::network::firewall::ruleset::packet::{ICMP, ICMPV6, TCP, UDP};
use crate::probe::network::firewall::ruleset::saved::protocol_number;

/// The bits of `snat` and `dnat`: others depend on the hook.
const TRANSLATED: u128 = 0x30;

/// Bits of TCP flags.
const FLAGS: &[(&str, u128)] =
    &[("fin", 1), ("syn", 2), ("rst", 4), ("psh", 8), ("ack", 16), ("urg", 32), ("ecn", 64), ("cwr", 128)];

/// Types of ICMP (nft describe icmp type).
const ICMP_TYPES: &[(&str, u128)] = &[
    ("echo-reply", 0),
    ("destination-unreachable", 3),
    ("source-quench", 4),
    ("redirect", 5),
    ("echo-request", 8),
    ("router-advertisement", 9),
    ("router-solicitation", 10),
    ("time-exceeded", 11),
    ("parameter-problem", 12),
    ("timestamp-request", 13),
    ("timestamp-reply", 14),
    ("info-request", 15),
    ("info-reply", 16),
    ("address-mask-request", 17),
    ("address-mask-reply", 18),
];

/// Types of `ICMPv6` (nft describe icmpv6 type).
const ICMPV6_TYPES: &[(&str, u128)] = &[
    ("destination-unreachable", 1),
    ("packet-too-big", 2),
    ("time-exceeded", 3),
    ("parameter-problem", 4),
    ("echo-request", 128),
    ("echo-reply", 129),
    ("mld-listener-query", 130),
    ("mld-listener-report", 131),
    ("mld-listener-done", 132),
    ("mld-listener-reduction", 132),
    ("nd-router-solicit", 133),
    ("nd-router-advert", 134),
    ("nd-neighbor-solicit", 135),
    ("nd-neighbor-advert", 136),
    ("nd-redirect", 137),
    ("router-renumbering", 138),
    ("ind-neighbor-solicit", 141),
    ("ind-neighbor-advert", 142),
    ("mld2-listener-report", 143),
];

/// Kinds of link-layer destinations (`PACKET_*`).
const PACKET_TYPES: &[(&str, u128)] = &[("host", 0), ("unicast", 0), ("broadcast", 1), ("multicast", 2), ("other", 3)];

/// Kinds of addresses (`RTN_*`).
const ADDRESS_TYPES: &[(&str, u128)] = &[
    ("unspec", 0),
    ("unicast", 1),
    ("local", 2),
    ("broadcast", 3),
    ("anycast", 4),
    ("multicast", 5),
    ("blackhole", 6),
    ("unreachable", 7),
    ("prohibit", 8),
];

/// The properties of an expression: several for a concatenation.
pub(super) fn keys(expression: &Value) -> Vec<Key> {
    match expression.get("concat").and_then(Value::as_array) {
        Some(parts) => parts.iter().map(key).collect(),
        None => vec![key(expression)],
    }
}

/// A property; [`Key::Open`] for others.
pub(super) fn key(expression: &Value) -> Key {
    let Some((kind, body)) = expression.as_object().and_then(|o| o.iter().next()) else { return Key::Open };
    match kind.as_str() {
        "meta" => meta(word(body, "key")),
        "payload" => payload(word(body, "protocol"), word(body, "field")),
        "ct" => conntrack(word(body, "key"), word(body, "dir")),
        "fib" => fib(body),
        "&" => {
            let (left, right) = (body.get(0), body.get(1));
            let inner = left.map_or(Key::Open, key);
            match right.and_then(|right| bits(right, &inner)) {
                Some(mask) => Key::Masked(Box::new(inner), mask),
                None => Key::Open,
            }
        }
        _ => Key::Open,
    }
}

fn meta(name: &str) -> Key {
    match name {
        "iifname" | "iif" => Key::Input,
        "oifname" | "oif" => Key::Output,
        "l4proto" => Key::Protocol,
        "nfproto" | "protocol" => Key::Family,
        "mark" => Key::Mark,
        "pkttype" => Key::PacketType,
        _ => Key::Open,
    }
}

fn payload(protocol: &str, field: &str) -> Key {
    let port = |of: Option<u8>| match field {
        "sport" => Key::Port(Side::Source, of),
        "dport" => Key::Port(Side::Destination, of),
        "flags" if of == Some(TCP) => Key::TcpFlags,
        _ => Key::Open,
    };
    match (protocol, field) {
        ("ip", "saddr") => Key::Address(Side::Source, Some(false)),
        ("ip", "daddr") => Key::Address(Side::Destination, Some(false)),
        ("ip6", "saddr") => Key::Address(Side::Source, Some(true)),
        ("ip6", "daddr") => Key::Address(Side::Destination, Some(true)),
        ("ip", "protocol") | ("ip6", "nexthdr") => Key::Protocol,
        ("icmp", "type") => Key::IcmpType(ICMP),
        ("icmp", "code") => Key::IcmpCode(ICMP),
        ("icmpv6", "type") => Key::IcmpType(ICMPV6),
        ("icmpv6", "code") => Key::IcmpCode(ICMPV6),
        ("tcp", _) => port(Some(TCP)),
        ("udp", _) => port(Some(UDP)),
        ("udplite" | "sctp" | "dccp", _) => port(protocol_number(protocol)),
        ("th", _) => port(None),
        _ => Key::Open,
    }
}

fn conntrack(name: &str, direction: &str) -> Key {
    let original = direction == "original";
    match name {
        "state" => Key::CtState,
        "status" => Key::CtStatus,
        "direction" => Key::CtDirection,
        "mark" => Key::CtMark,
        "protocol" => Key::Protocol,
        "saddr" | "ip saddr" | "ip6 saddr" if original => Key::CtAddress(Side::Source),
        "daddr" | "ip daddr" | "ip6 daddr" if original => Key::CtAddress(Side::Destination),
        "proto-src" if original => Key::CtPort(Side::Source),
        "proto-dst" if original => Key::CtPort(Side::Destination),
        _ => Key::Open,
    }
}

fn fib(body: &Value) -> Key {
    let flags: Vec<&str> = match body.get("flags") {
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(one)) => vec![one],
        _ => Vec::new(),
    };
    let side = if flags.contains(&"saddr") { Side::Source } else { Side::Destination };
    match word(body, "result") {
        "type" if !flags.iter().any(|flag| matches!(*flag, "iif" | "oif")) => Key::AddressType(side),
        "oif" | "oifname" if side == Side::Source && flags.contains(&"iif") => Key::ReversePath,
        _ => Key::Open,
    }
}

/// The values on the right of a comparison. `None` if they are not evaluated.
pub(super) fn spans(right: &Value, key: &Key, op: &str) -> Option<Vec<Span>> {
    let base = unmasked(key);
    // a list of flags
    if matches!(base, Key::CtState | Key::CtStatus | Key::TcpFlags) && right.get("set").is_none() {
        let bits = bits(right, base)?;
        let one = if matches!(op, "in" | "!") { Span::AnyBit(bits) } else { Span::Range(bits, bits) };
        let is_known = *base != Key::CtStatus || matches!(one, Span::AnyBit(bits) if bits & !TRANSLATED == 0);
        return is_known.then(|| vec![one]);
    }
    if let Some(all) = right.get("set") {
        return match all {
            Value::Array(all) => Some(all.iter().map(|one| atom(one, base).unwrap_or(Span::Open)).collect()),
            one => Some(vec![atom(one, base)?]),
        };
    }
    if let Value::Array(all) = right {
        return all.iter().map(|one| atom(one, base)).collect();
    }
    Some(vec![atom(right, base)?])
}

fn unmasked(key: &Key) -> &Key {
    match key {
        Key::Masked(inner, _) => unmasked(inner),
        key => key,
    }
}

/// One value, range or prefix.
pub(super) fn atom(value: &Value, key: &Key) -> Option<Span> {
    if value.as_str() == Some("*") {
        return Some(Span::Any);
    }
    if let Some(inner) = value.pointer("/elem/val") {
        return atom(inner, key);
    }
    if matches!(key, Key::Input | Key::Output) {
        let name = value.as_str()?;
        return Some(match name.strip_suffix('*') {
            Some(prefix) => Span::Prefix(prefix.replace('\\', "")),
            None => Span::Name(name.to_owned()),
        });
    }
    if let Some(range) = value.get("range") {
        return Some(Span::Range(scalar(range.get(0)?, key)?, scalar(range.get(1)?, key)?));
    }
    if let Some(prefix) = value.get("prefix") {
        let address = prefix.get("addr")?;
        let bits: u32 = if address.as_str().is_some_and(|a| a.contains(':')) { 128 } else { 32 };
        let length = u32::try_from(prefix.get("len")?.as_u64()?).ok().filter(|length| *length <= bits)?;
        let all = if bits == 32 { u128::from(u32::MAX) } else { u128::MAX };
        let mask = all.checked_shl(bits - length).unwrap_or(0) & all;
        return Some(Span::Masked(scalar(address, key)? & mask, mask));
    }
    let one = scalar(value, key)?;
    Some(Span::Range(one, one))
}

/// A number, address or name.
pub(super) fn scalar(value: &Value, key: &Key) -> Option<u128> {
    if let Some(number) = value.as_u64() {
        return Some(number.into());
    }
    if let Some(exists) = value.as_bool() {
        return matches!(key, Key::ReversePath).then_some(exists.into());
    }
    if value.get("|").is_some() || value.is_array() {
        return bits(value, key);
    }
    let name = value.as_str()?;
    let named = |names: &[(&str, u128)]| names.iter().find(|(own, _)| *own == name).map(|(_, n)| *n);
    let by_name = match unmasked(key) {
        Key::Address(..) | Key::CtAddress(_) => return name.parse::<IpAddr>().ok().map(number),
        Key::Protocol => return protocol_number(name).map(u128::from),
        // protocols of the link that no evaluated packet has
        Key::Family => match name {
            "ipv4" | "ip" => Some(2),
            "ipv6" | "ip6" => Some(10),
            _ => Some(u128::MAX),
        },
        Key::TcpFlags => named(FLAGS),
        Key::CtState => named(STATES),
        Key::CtStatus => named(STATUS),
        Key::CtDirection => named(&[("original", 0), ("reply", 1)]),
        Key::IcmpType(ICMP) => named(ICMP_TYPES),
        Key::IcmpType(_) => named(ICMPV6_TYPES),
        Key::IcmpCode(ICMP) => named(&[("net-unreachable", 0), ("host-unreachable", 1), ("prot-unreachable", 2)])
            .or_else(|| named(&[("port-unreachable", 3), ("frag-needed", 4), ("admin-prohibited", 13)])),
        Key::AddressType(_) => named(ADDRESS_TYPES),
        Key::PacketType => named(PACKET_TYPES),
        _ => None,
    };
    by_name.or_else(|| match name.strip_prefix("0x") {
        Some(digits) => u128::from_str_radix(digits, 16).ok(),
        None => name.parse().ok(),
    })
}

/// The bits of `syn | ack`, of a list, or of one value.
fn bits(value: &Value, key: &Key) -> Option<u128> {
    let all = match value.get("|") {
        Some(all) => all,
        None => value,
    };
    match all {
        Value::Array(all) => all.iter().try_fold(0, |sum, one| Some(sum | bits(one, key)?)),
        one => scalar(one, key),
    }
}
