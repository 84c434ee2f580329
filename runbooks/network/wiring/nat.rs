//! The path of the first packet of a connection through the nat table of iptables.

use std::net::{IpAddr, Ipv4Addr};

use opsctl_core::probe::network::firewall::{Backend, Firewall};
use serde::{Deserialize, Serialize};

use super::Subnet;

/// Nested chains; iptables permits more, and no program writes them.
const MAX_DEPTH: usize = 12;

/// A rule of the nat table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NatRule {
    pub(super) backend: Backend,
    pub(super) chain: String,
    /// Number in its chain, from 1, as in `iptables -t nat -L --line-numbers`.
    pub(super) position: usize,
    /// As listed by iptables-save, without counters.
    pub(super) text: String,
}

/// A packet that arrives from another machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packet<'a> {
    /// Interface on which it arrives.
    pub(super) input: &'a str,
    /// `tcp` or `udp`.
    pub(super) protocol: &'a str,
    /// Its destination: an address of this host.
    pub(super) to: Ipv4Addr,
    /// Its destination port.
    pub(super) port: u16,
}

/// The fate of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate<'a> {
    /// Translated by this rule to an address of the range, and to a port if the rule sets one.
    Translated { rule: &'a NatRule, first: Ipv4Addr, last: Ipv4Addr, port: Option<u16> },
    /// Not translated to another address.
    Kept,
    /// Decided by conditions that are not evaluated.
    Unknown,
}

/// Result of a chain; `None` if its end was reached.
type Walked<'a> = Option<Fate<'a>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Match {
    Yes,
    No,
    Maybe,
}

/// The rules of the nat table that may match one of the packets: those of a cluster can be many thousands.
pub(super) fn relevant(firewall: &Firewall, packets: &[Packet<'_>]) -> Vec<NatRule> {
    let mut positions: std::collections::HashMap<(Backend, &str), usize> = std::collections::HashMap::new();
    let mut found = Vec::new();
    for rule in firewall.rules.iter().filter(|r| r.table == "nat" && r.backend != Backend::Native) {
        let position = positions.entry((rule.backend, rule.chain.as_str())).or_default();
        *position += 1;
        let words = words(&rule.text);
        if packets.iter().any(|packet| matches(&words, packet) != Match::No) {
            found.push(NatRule {
                backend: rule.backend,
                chain: rule.chain.clone(),
                position: *position,
                text: rule.text.clone(),
            });
        }
    }
    found
}

/// The fate of a packet in the PREROUTING chain of a backend.
pub(super) fn fate<'a>(rules: &'a [NatRule], backend: Backend, packet: &Packet<'_>) -> Fate<'a> {
    walk(rules, backend, "PREROUTING", packet, 0).unwrap_or(Fate::Kept)
}

fn walk<'a>(rules: &'a [NatRule], backend: Backend, chain: &str, packet: &Packet<'_>, depth: usize) -> Walked<'a> {
    if depth > MAX_DEPTH {
        return Some(Fate::Unknown);
    }
    for rule in rules.iter().filter(|r| r.backend == backend && r.chain == chain) {
        let words = words(&rule.text);
        let matched = matches(&words, packet);
        if matched == Match::No {
            continue;
        }
        let (target, goes) = target(&words);
        let end = match target {
            // targets that do not end the chain
            "" | "LOG" | "NFLOG" | "ULOG" | "MARK" | "CONNMARK" | "TRACE" | "SET" | "KUBE-MARK-MASQ" => continue,
            "RETURN" => None,
            "DNAT" => match translation(&words) {
                Some((first, last, port)) => Some(Fate::Translated { rule, first, last, port }),
                None => Some(Fate::Unknown),
            },
            "ACCEPT" | "REDIRECT" => Some(Fate::Kept),
            "DROP" | "REJECT" | "NETMAP" | "TPROXY" | "QUEUE" | "NFQUEUE" => Some(Fate::Unknown),
            chain => match walk(rules, backend, chain, packet, depth + 1) {
                None if goes => None,
                None => continue,
                decided => decided,
            },
        };
        return if matched == Match::Maybe { Some(Fate::Unknown) } else { end };
    }
    None
}

/// Words of a rule. Comments are quoted, and the only arguments with blanks.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for (at, part) in text.split('"').enumerate() {
        if at % 2 == 1 {
            words.push(part);
        } else {
            words.extend(part.split_ascii_whitespace());
        }
    }
    words
}

/// The target, and whether it is entered without a return (`-g`).
fn target<'a>(words: &[&'a str]) -> (&'a str, bool) {
    let at = words.iter().position(|w| matches!(*w, "-j" | "-g"));
    at.and_then(|at| Some((*words.get(at + 1)?, words[at] == "-g"))).unwrap_or_default()
}

/// `--to-destination 172.17.0.9:8080`, `--to-destination 10.0.0.1-10.0.0.5`.
fn translation(words: &[&str]) -> Option<(Ipv4Addr, Ipv4Addr, Option<u16>)> {
    let at = words.iter().position(|w| *w == "--to-destination")?;
    let (addresses, port) = words.get(at + 1)?.split_once(':').map_or((words[at + 1], None), |(a, p)| (a, Some(p)));
    let (first, last) = addresses.split_once('-').unwrap_or((addresses, addresses));
    // a range of ports has no single one
    Some((first.parse().ok()?, last.parse().ok()?, port.and_then(|p| p.parse().ok())))
}

/// Whether a packet of an ordinary client matches: a rule for particular sources does not apply to it.
fn matches(words: &[&str], packet: &Packet<'_>) -> Match {
    let (mut all, mut not) = (Match::Yes, false);
    let mut at = words.iter().copied();
    while let Some(word) = at.next() {
        let negated = std::mem::take(&mut not);
        let is = |yes: bool| if yes == negated { Match::No } else { Match::Yes };
        let found = match word {
            "!" => {
                not = true;
                continue;
            }
            "-A" | "-m" | "--comment" => {
                at.next();
                continue;
            }
            // options of the target follow
            "-j" | "-g" => break,
            "-p" => is(matches!(at.next(), Some(p) if p == packet.protocol || p == "all")),
            "-i" => is(at.next().is_some_and(|name| is_interface(name, packet.input))),
            "-d" => at.next().and_then(Subnet::parse).map_or(Match::Maybe, |net| is(net.has(packet.to))),
            "-s" => match at.next().and_then(Subnet::parse) {
                Some(any) if any.prefix == 0 => is(true),
                Some(_) => is(false),
                None => Match::Maybe,
            },
            "--dport" | "--dports" => ports(at.next().unwrap_or_default(), packet.port).map_or(Match::Maybe, is),
            "--dst-type" => is(at.next() == Some("LOCAL")),
            "--src-type" => is(at.next() == Some("UNICAST")),
            "--ctstate" | "--state" => is(at.next().is_some_and(|states| states.split(',').any(|s| s == "NEW"))),
            other if other.starts_with('-') => Match::Maybe,
            // the value of an option that is not evaluated
            _ => continue,
        };
        match found {
            Match::No => return Match::No,
            Match::Maybe => all = Match::Maybe,
            Match::Yes => {}
        }
    }
    all
}

/// `eth0`, or `br-+` for every name with this beginning.
fn is_interface(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('+').map_or(pattern == name, |start| name.starts_with(start))
}

/// `80`, `80:90`, `80,443,8000:8100`; `None` for the name of a service.
fn ports(list: &str, port: u16) -> Option<bool> {
    let mut found = false;
    for part in list.split(',') {
        let (from, to) = part.split_once(':').unwrap_or((part, part));
        let number = |text: &str, default: u16| if text.is_empty() { Some(default) } else { text.parse().ok() };
        found |= (number(from, 0)?..=number(to, u16::MAX)?).contains(&port);
    }
    Some(found)
}

/// Whether a translation leads to one of these addresses.
pub(super) fn leads_to(first: Ipv4Addr, last: Ipv4Addr, addresses: &[IpAddr]) -> bool {
    addresses.iter().any(|a| matches!(a, IpAddr::V4(ip) if (first..=last).contains(ip)))
}

#[cfg(test)]
mod tests {
    use opsctl_core::probe::network::firewall::recorded;

    use super::*;

    const PACKET: Packet<'static> = Packet { input: "eth0", protocol: "tcp", to: Ipv4Addr::new(10, 0, 0, 1), port: 18080 };

    /// Destination of the packet, `-` if it is kept and `?` if that is unknown.
    fn to(rules: &[&str]) -> String {
        let lines: Vec<String> = rules.iter().map(|r| format!("-A {r}")).collect();
        let lines = lines.join("\n");
        let firewall = recorded(&format!("*nat\n:PREROUTING ACCEPT [0:0]\n:DOCKER - [0:0]\n{lines}\nCOMMIT\n"));
        let rules = relevant(&firewall, &[PACKET]);
        match fate(&rules, Backend::Nft, &PACKET) {
            Fate::Translated { first, port, .. } => port.map_or_else(|| first.to_string(), |port| format!("{first}:{port}")),
            Fate::Kept => "-".to_owned(),
            Fate::Unknown => "?".to_owned(),
        }
    }

    const JUMP: &str = "PREROUTING -m addrtype --dst-type LOCAL -j DOCKER";
    const OWN: &str = "DOCKER ! -i br-1 -p tcp -m tcp --dport 18080 -j DNAT --to-destination 172.18.0.2:80";
    const OLD: &str = "DOCKER ! -i docker0 -p tcp -m tcp --dport 18080 -j DNAT --to-destination 172.17.0.9:8080";

    #[test]
    fn first_matching_rule_translates() {
        assert_eq!(to(&[JUMP, OWN]), "172.18.0.2:80");
        assert_eq!(to(&[JUMP, OLD, OWN]), "172.17.0.9:8080");
        assert_eq!(to(&[JUMP, OWN, OLD]), "172.18.0.2:80");
        assert_eq!(to(&[OWN]), "-", "without the jump of Docker");
        assert_eq!(to(&[]), "-");
    }

    #[test]
    fn rules_for_other_packets_do_not_match() {
        for other in [
            "DOCKER -i eth1 -p tcp --dport 18080 -j DNAT --to-destination 9.9.9.9",
            "DOCKER ! -i eth+ -p tcp --dport 18080 -j DNAT --to-destination 9.9.9.9",
            "DOCKER -p udp --dport 18080 -j DNAT --to-destination 9.9.9.9",
            "DOCKER -p tcp --dport 18081:18090 -j DNAT --to-destination 9.9.9.9",
            "DOCKER -p tcp -m multiport --dports 80,443 -j DNAT --to-destination 9.9.9.9",
            "DOCKER -d 10.0.0.2/32 -p tcp --dport 18080 -j DNAT --to-destination 9.9.9.9",
            "DOCKER -s 192.0.2.0/24 -p tcp --dport 18080 -j DNAT --to-destination 9.9.9.9",
            "DOCKER -m conntrack --ctstate DNAT -p tcp --dport 18080 -j DNAT --to-destination 9.9.9.9",
            "DOCKER -m addrtype ! --dst-type LOCAL -j DNAT --to-destination 9.9.9.9",
            "DOCKER -i docker0 -j RETURN",
        ] {
            assert_eq!(to(&[JUMP, other, OWN]), "172.18.0.2:80", "{other}");
        }
    }

    #[test]
    fn every_form_of_a_condition_matches() {
        for rule in [
            "DOCKER -i eth+ -p tcp -m multiport --dports 443,18000:19000 -j DNAT --to-destination 9.9.9.9",
            "DOCKER -d 10.0.0.0/24 ! -s 192.0.2.0/24 -p tcp -j DNAT --to-destination 9.9.9.9",
            "DOCKER -p tcp -m tcp --dport 18080 -m comment --comment \"old -j RETURN\" -j DNAT --to-destination 9.9.9.9",
            "PREROUTING -j DNAT --to-destination 9.9.9.9",
        ] {
            assert_eq!(to(&[rule, JUMP, OWN]).replace("172.18.0.2:80", "9.9.9.9"), "9.9.9.9", "{rule}");
        }
    }

    #[test]
    fn conditions_that_are_not_evaluated_are_unknown() {
        for rule in [
            "PREROUTING -p tcp --dport 18080 -m statistic --mode random --probability 0.5 -j DNAT --to-destination 9.9.9.9",
            "PREROUTING -m set --match-set blocked src -j RETURN",
            "PREROUTING -m mark --mark 0x1 -j ACCEPT",
        ] {
            assert_eq!(to(&[rule, JUMP, OWN]), "?", "{rule}");
        }
        assert_eq!(to(&["PREROUTING -m mark --mark 0x1 -j LOG", JUMP, OWN]), "172.18.0.2:80");
    }

    #[test]
    fn chains_return_and_redirects_keep_the_packet() {
        assert_eq!(to(&["PREROUTING -p tcp --dport 18080 -j REDIRECT --to-ports 3128", JUMP, OLD]), "-");
        assert_eq!(to(&["PREROUTING -j OTHER", "OTHER -j RETURN", JUMP, OWN]), "172.18.0.2:80");
        assert_eq!(to(&["PREROUTING -g OTHER", JUMP, OWN]), "-");
        assert_eq!(to(&["PREROUTING -j PREROUTING"]), "?", "endless");
    }
}
