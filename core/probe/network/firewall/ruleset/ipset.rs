//! Parser of `ipset save` (ipset(8)).

use std::collections::HashMap;
use std::net::IpAddr;

use super::condition::{Span, number};
use super::rule::{Builder, Element, NamedSet};

/// Limit of elements of one set that are kept; a set with more is not evaluated.
const MAX_ELEMENTS: usize = 50_000;

/// A set of ipset.
#[derive(Debug, Clone)]
pub(super) struct IpSet {
    /// Index of the set.
    pub(super) set: usize,
    /// `hash:ip,port`.
    pub(super) kind: String,
}

/// Sets by name.
pub(super) type IpSets = HashMap<String, IpSet>;

/// Adds the sets in `text`.
pub(super) fn add(rules: &mut Builder, text: &str) -> IpSets {
    let mut sets: IpSets = HashMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["create", name, kind, options @ ..] => {
                let is_evaluated = kind.strip_prefix("hash:").is_some_and(is_evaluated) && !options.contains(&"markmask");
                // a list of sets or a bitmap is not evaluated, and elements with a timeout still count
                let set = rules.add_set(NamedSet { is_complete: is_evaluated, ..NamedSet::default() });
                sets.insert((*name).to_owned(), IpSet { set, kind: (*kind).to_owned() });
            }
            ["add", name, element, options @ ..] => {
                let Some(ipset) = sets.get(*name) else { continue };
                let set = &mut rules.sets[ipset.set];
                let is_excluded = options.contains(&"nomatch");
                let kinds = ipset.kind.strip_prefix("hash:").unwrap_or_default();
                match spans(kinds, element) {
                    Some(spans) if set.elements.len() < MAX_ELEMENTS => {
                        set.elements.push(Element { spans, is_excluded, ..Element::default() });
                    }
                    _ => set.is_complete = false,
                }
            }
            _ => {}
        }
    }
    sets
}

/// Whether elements of this type are parsed.
fn is_evaluated(kinds: &str) -> bool {
    kinds.split(',').all(|kind| matches!(kind, "ip" | "net" | "port" | "iface"))
}

/// The values of an element: a port is a protocol and a number.
fn spans(kinds: &str, element: &str) -> Option<Vec<Span>> {
    let parts: Vec<&str> = element.split(',').collect();
    let kinds: Vec<&str> = kinds.split(',').collect();
    if parts.len() != kinds.len() {
        return None;
    }
    let mut spans = Vec::new();
    for (part, kind) in parts.iter().zip(kinds) {
        match kind {
            "ip" | "net" => spans.push(network(part)?),
            "port" => {
                let (protocol, port) = part.split_once(':').unwrap_or(("tcp", part));
                let protocol = u128::from(super::saved::protocol_number(protocol)?);
                spans.push(Span::Range(protocol, protocol));
                spans.push(super::saved::range(port, '-')?);
            }
            "iface" => spans.push(Span::Name((*part).to_owned())),
            _ => return None,
        }
    }
    Some(spans)
}

/// `10.0.0.0/8`, `10.0.0.1` or `10.0.0.1-10.0.0.9`.
pub(super) fn network(text: &str) -> Option<Span> {
    if let Some((first, last)) = text.split_once('-') {
        let (first, last): (IpAddr, IpAddr) = (first.parse().ok()?, last.parse().ok()?);
        return Some(Span::Range(number(first), number(last)));
    }
    let (address, mask) = text.split_once('/').map_or((text, None), |(address, mask)| (address, Some(mask)));
    let address: IpAddr = address.parse().ok()?;
    let bits: u32 = if address.is_ipv4() { 32 } else { 128 };
    let all = if bits == 32 { u128::from(u32::MAX) } else { u128::MAX };
    let mask = match mask {
        None => all,
        Some(mask) => match mask.parse::<u32>() {
            Ok(length) if length <= bits => all.checked_shl(bits - length).unwrap_or(0) & all,
            Ok(_) => return None,
            Err(_) => number(mask.parse().ok()?),
        },
    };
    Some(Span::Masked(number(address) & mask, mask))
}
