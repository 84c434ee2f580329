//! Statements of nftables rules.

use serde_json::Value;

use super::elements::Content;
use super::{Parser, TableName, expression, word};
use crate::probe::network::firewall::ruleset::condition::{Condition, Key, Span};
use crate::probe::network::firewall::ruleset::rule::{Action, MarkChange, NatAddress, NatPorts, Step, Translation};

/// Statements without a condition, that change nothing that rules compare.
const NEUTRAL: &[&str] = &[
    "comment",
    "continue",
    "counter",
    "ct expectation",
    "ct helper",
    "ct timeout",
    "dup",
    "flow",
    "last",
    "log",
    "reset",
    "secmark",
];

/// Targets of iptables in a table that only nft lists, after which the next rule is evaluated.
const NEUTRAL_TARGETS: &[&str] = &["CHECKSUM", "CLASSIFY", "LOG", "NFLOG", "TCPMSS", "TRACE"];

impl<'a> Parser<'a> {
    /// The steps of a rule.
    pub(super) fn steps(&mut self, table: TableName<'a>, expressions: &'a [Value]) -> Vec<Step> {
        let mut steps = Vec::new();
        for expression in expressions {
            // `{"counter": null}` and the plain word are both in use
            let (name, body) = match expression {
                Value::String(name) => (name.as_str(), &Value::Null),
                other => match other.as_object().and_then(|o| o.iter().next()) {
                    Some((name, body)) => (name.as_str(), body),
                    None => continue,
                },
            };
            let step = match name {
                neutral if NEUTRAL.contains(&neutral) => continue,
                "match" => Step::Test(self.condition(table, body)),
                "vmap" => self.map(table, body),
                "accept" | "drop" | "return" | "jump" | "goto" => Step::Do(self.verdict(table, expression)),
                "reject" => Step::Do(Action::Reject),
                "notrack" => Step::Do(Action::NoTrack),
                "masquerade" | "snat" | "redirect" | "dnat" => Step::Do(Action::Nat(self.translation(table, name, body))),
                "mangle" => match mangle(body) {
                    Some(action) => Step::Do(action),
                    None => continue,
                },
                // an element is added, unless the set is full or a statement restricts it
                "set" if body.get("stmt").is_none() => continue,
                "queue" | "tproxy" | "synproxy" | "fwd" => Step::Do(Action::External),
                "xt" if NEUTRAL_TARGETS.contains(&word(body, "name")) => continue,
                "xt" if word(body, "type") == "target" => Step::Do(Action::External),
                // `limit`, `quota`, `ct count`, `meter`, matches of iptables, and later inventions
                _ => Step::Test(Condition::Open),
            };
            steps.push(step);
        }
        steps
    }

    fn condition(&mut self, table: TableName<'a>, body: &'a Value) -> Condition {
        let (Some(left), Some(right)) = (body.get("left"), body.get("right")) else { return Condition::Open };
        let op = word(body, "op");
        let not = matches!(op, "!=" | "!");
        let keys = expression::keys(left);
        let is_compared = matches!(op, "==" | "!=" | "in" | "!" | "");
        if right.as_str().is_some_and(|name| name.starts_with('@')) && is_compared {
            let set = self.set(table, right, &keys, Content::None);
            return Condition::Set { keys, set, not };
        }
        let [key] = keys.as_slice() else {
            if right.get("set").is_some() || right.get("concat").is_some() {
                let set = self.set_of_concatenation(table, right, &keys);
                return Condition::Set { keys, set, not };
            }
            return Condition::Open;
        };
        if *key == Key::Open {
            return Condition::Open;
        }
        let spans = if is_compared { expression::spans(right, key, op) } else { ordered(right, key, op).map(|s| vec![s]) };
        match spans {
            Some(spans) => Condition::In { key: key.clone(), spans, not },
            None => Condition::Open,
        }
    }

    fn set_of_concatenation(&mut self, table: TableName<'a>, right: &'a Value, keys: &[Key]) -> usize {
        self.set(table, right, keys, Content::None)
    }

    fn map(&mut self, table: TableName<'a>, body: &'a Value) -> Step {
        let (Some(key), Some(data)) = (body.get("key"), body.get("data")) else { return Step::Do(Action::External) };
        let keys = expression::keys(key);
        let set = self.set(table, data, &keys, Content::Verdicts);
        self.note_exhaustive(key, set);
        Step::Do(Action::Map { keys, set })
    }

    /// A random number is one of those of the map, if the map has as many elements.
    fn note_exhaustive(&mut self, key: &Value, set: usize) {
        let modulus = ["numgen", "jhash", "symhash"].iter().find_map(|kind| key.get(*kind)?.get("mod")?.as_u64());
        let set = &mut self.rules.sets[set];
        let single = |spans: &[Span]| matches!(spans, [Span::Open | Span::Range(..)]);
        let count = set.elements.iter().filter(|e| single(&e.spans)).count();
        set.is_exhaustive = modulus.is_some_and(|modulus| u64::try_from(count).is_ok_and(|count| count >= modulus));
    }

    fn translation(&mut self, table: TableName<'a>, name: &str, body: &'a Value) -> Translation {
        let is_source = matches!(name, "masquerade" | "snat");
        let interface = matches!(name, "masquerade" | "redirect");
        let to = match body.get("addr") {
            _ if interface => NatAddress::Interface,
            None => NatAddress::Same,
            Some(address) => self.nat_address(table, address),
        };
        let ports = match body.get("port") {
            None => NatPorts::Same,
            Some(port) => nat_ports(port),
        };
        Translation { is_source, to, ports }
    }

    fn nat_address(&mut self, table: TableName<'a>, address: &'a Value) -> NatAddress {
        if let Some(map) = address.get("map") {
            let (Some(key), Some(data)) = (map.get("key"), map.get("data")) else { return NatAddress::Open };
            let keys = expression::keys(key);
            let set = self.set(table, data, &keys, Content::Data);
            self.note_exhaustive(key, set);
            return NatAddress::Mapped { keys, set };
        }
        let any = Key::Address(crate::probe::network::firewall::ruleset::condition::Side::Source, None);
        match expression::atom(address, &any) {
            Some(Span::Range(first, last)) => NatAddress::Range(first, last),
            // `snat ip prefix to` keeps the host part
            Some(Span::Masked(network, mask)) => NatAddress::Network(network, mask),
            _ => NatAddress::Open,
        }
    }
}

/// `tcp dport > 1023`.
fn ordered(right: &Value, key: &Key, op: &str) -> Option<Span> {
    let limit = expression::scalar(right, key)?;
    match op {
        ">" => Some(Span::Range(limit.checked_add(1)?, u128::MAX)),
        ">=" => Some(Span::Range(limit, u128::MAX)),
        "<" => Some(Span::Range(0, limit.checked_sub(1)?)),
        "<=" => Some(Span::Range(0, limit)),
        _ => None,
    }
}

fn nat_ports(port: &Value) -> NatPorts {
    let number = |value: &Value| value.as_u64().and_then(|n| u16::try_from(n).ok());
    let range = port.get("range").map_or((port, port), |range| (&range[0], &range[1]));
    match (number(range.0), number(range.1)) {
        (Some(first), Some(last)) => NatPorts::Range(first, last),
        _ => NatPorts::Open,
    }
}

/// A change of a packet; `None` if no rule compares it.
fn mangle(body: &Value) -> Option<Action> {
    let (key, value) = (body.get("key")?, body.get("value")?);
    let of_connection = match expression::key(key) {
        Key::Mark => false,
        Key::CtMark => true,
        // the addresses of a packet change without connection tracking
        Key::Address(..) | Key::Port(..) => return Some(Action::External),
        _ => return None,
    };
    let change = |keep: u32, toggle: u32| {
        if of_connection { MarkChange::Connection { keep, toggle } } else { MarkChange::Packet { keep, toggle } }
    };
    let unknown = if of_connection { MarkChange::ConnectionUnknown } else { MarkChange::PacketUnknown };
    let number = |value: &Value| expression::scalar(value, &Key::Mark).and_then(|n| u32::try_from(n).ok());
    if let Some(mark) = number(value) {
        return Some(Action::SetMark(change(0, mark)));
    }
    let (other, copy) = if of_connection {
        (Key::Mark, MarkChange::Save { keep: 0, of: u32::MAX })
    } else {
        (Key::CtMark, MarkChange::Restore { keep: 0, of: u32::MAX })
    };
    if expression::key(value) == other && value.get("&").is_none() {
        return Some(Action::SetMark(copy));
    }
    let own = |left: &Value| expression::key(left) == expression::key(key);
    // `mark & keep`, `mark | set`, `mark ^ toggle`, and `(mark & keep) | set`
    let changed = value.as_object().and_then(|o| o.iter().next()).and_then(|(op, operands)| {
        let (left, right) = (operands.get(0)?, number(operands.get(1)?)?);
        let keep = if own(left) {
            u32::MAX
        } else {
            let masked = left.get("&")?;
            number(masked.get(1)?).filter(|_| masked.get(0).is_some_and(own))?
        };
        match op.as_str() {
            "&" => Some(change(keep & right, 0)),
            "|" => Some(change(keep & !right, right)),
            "^" => Some(change(keep, right)),
            _ => None,
        }
    });
    Some(Action::SetMark(changed.unwrap_or(unknown)))
}
