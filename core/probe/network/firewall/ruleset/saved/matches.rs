//! Matches of iptables (iptables-extensions(8)).

use super::Words;
use crate::probe::network::firewall::ruleset::condition::{Condition, Key, STATES, Side, Span};
use crate::probe::network::firewall::ruleset::ipset::{self, IpSets};
use crate::probe::network::firewall::ruleset::packet::{ICMP, ICMPV6, TCP, UDP};

/// Bits of TCP flags.
const FLAGS: &[(&str, u128)] =
    &[("FIN", 1), ("SYN", 2), ("RST", 4), ("PSH", 8), ("ACK", 16), ("URG", 32), ("ALL", 63), ("NONE", 0)];

/// Types of addresses (`RTN_*`).
pub(in super::super) const ADDRESS_TYPES: &[(&str, u128)] = &[
    ("UNSPEC", 0),
    ("UNICAST", 1),
    ("LOCAL", 2),
    ("BROADCAST", 3),
    ("ANYCAST", 4),
    ("MULTICAST", 5),
    ("BLACKHOLE", 6),
    ("UNREACHABLE", 7),
    ("PROHIBIT", 8),
    ("THROW", 9),
    ("NAT", 10),
    ("XRESOLVE", 11),
];

/// Number of a protocol by its name in /etc/protocols.
pub(in super::super) fn protocol_number(name: &str) -> Option<u8> {
    Some(match name {
        "icmp" => ICMP,
        "igmp" => 2,
        "ipencap" | "ipip" => 4,
        "tcp" => TCP,
        "udp" => UDP,
        "dccp" => 33,
        "ipv6" => 41,
        "gre" => 47,
        "esp" | "ipv6-crypt" => 50,
        "ah" | "ipv6-auth" => 51,
        "ipv6-icmp" | "icmpv6" | "icmp6" => ICMPV6,
        "ospf" | "ospfigp" => 89,
        "pim" => 103,
        "vrrp" => 112,
        "l2tp" => 115,
        "sctp" => 132,
        "udplite" => 136,
        number => number.parse().ok()?,
    })
}

/// `80`, `80:90`, `:90`, `80:`.
pub(in super::super) fn range(text: &str, separator: char) -> Option<Span> {
    let number = |text: &str, default: u128| if text.is_empty() { Some(default) } else { text.parse().ok() };
    match text.split_once(separator) {
        Some((first, last)) => Some(Span::Range(number(first, 0)?, number(last, u128::from(u16::MAX))?)),
        None => text.parse().ok().map(|port| Span::Range(port, port)),
    }
}

/// A target, and whether it is a goto.
type Target<'a> = Option<(&'a str, bool)>;

/// The conditions of a rule, up to its target.
pub(super) fn parse<'a>(words: &mut Words<'a>, sets: &IpSets, ipv6: bool) -> (Vec<Condition>, Target<'a>) {
    let (mut conditions, mut protocol, mut not, mut module) = (Vec::new(), None, false, "");
    // a port of `-m multiport` or `-m tcp` is that of the protocol
    while let Some(word) = words.next() {
        let negated = std::mem::take(&mut not);
        let condition = match word {
            "!" => {
                not = true;
                continue;
            }
            "-j" | "-g" => return (conditions, words.next().map(|target| (target, word == "-g"))),
            "-m" => {
                module = words.next().unwrap_or_default();
                // the presence of a module has no meaning unless its options are unknown, or it has none
                if matches!(module, "socket" | "rpfilter") && words.peek().is_none_or(|w| !w.starts_with("--")) {
                    rpfilter(module, false)
                } else {
                    continue;
                }
            }
            "-i" | "-o" => interface(word, words.next().unwrap_or_default(), negated),
            "-s" | "-d" => {
                let side = if word == "-s" { Side::Source } else { Side::Destination };
                let network = ipset::network(words.next().unwrap_or_default());
                in_or_open(Key::Address(side, None), network.map(|n| vec![n]), negated)
            }
            "-p" => {
                let name = words.next().unwrap_or_default();
                if matches!(name, "all" | "0") {
                    if negated { Condition::Never } else { continue }
                } else {
                    protocol = protocol_number(name).filter(|_| !negated);
                    let number = protocol_number(name).map(u128::from);
                    in_or_open(Key::Protocol, number.map(|n| vec![Span::Range(n, n)]), negated)
                }
            }
            // no fragments
            "-f" if negated => continue,
            "-f" => Condition::Never,
            option => match option_of(module, option, negated, words, protocol, sets, ipv6) {
                Some(condition) => condition,
                None => continue,
            },
        };
        conditions.push(condition);
    }
    (conditions, None)
}

fn in_or_open(key: Key, spans: Option<Vec<Span>>, not: bool) -> Condition {
    spans.map_or(Condition::Open, |spans| Condition::In { key, spans, not })
}

fn interface(word: &str, name: &str, not: bool) -> Condition {
    let key = if word == "-i" { Key::Input } else { Key::Output };
    let span = name.strip_suffix('+').map_or_else(|| Span::Name(name.to_owned()), |prefix| Span::Prefix(prefix.to_owned()));
    Condition::In { key, spans: vec![span], not }
}

/// A reverse path that leads over another interface is not known for certain.
fn rpfilter(module: &str, inverted: bool) -> Condition {
    if module == "rpfilter" {
        Condition::In { key: Key::ReversePath, spans: vec![Span::Range(1, 1)], not: inverted }
    } else {
        Condition::Open
    }
}

/// Comma separated values, each parsed by `one`.
fn list(text: &str, one: impl Fn(&str) -> Option<Span>) -> Option<Vec<Span>> {
    text.split(',').map(one).collect()
}

/// A condition of a module; `None` for an option that matches nothing by itself.
fn option_of(
    module: &str,
    option: &str,
    not: bool,
    words: &mut Words<'_>,
    protocol: Option<u8>,
    sets: &IpSets,
    ipv6: bool,
) -> Option<Condition> {
    let port = |side: Side, text: Option<&str>| {
        let spans = list(text.unwrap_or_default(), |one| range(one, ':'));
        in_or_open(Key::Port(side, protocol), spans, not)
    };
    Some(match (module, option) {
        ("comment" | "nfacct", _) => {
            words.next();
            return None;
        }
        (
            "tcp" | "udp" | "sctp" | "dccp" | "udplite" | "multiport",
            "--sport" | "--source-port" | "--sports" | "--source-ports",
        ) => port(Side::Source, words.next()),
        (
            "tcp" | "udp" | "sctp" | "dccp" | "udplite" | "multiport",
            "--dport" | "--destination-port" | "--dports" | "--destination-ports",
        ) => port(Side::Destination, words.next()),
        ("multiport", "--ports") => {
            let spans = list(words.next().unwrap_or_default(), |one| range(one, ':'));
            let of = |side| in_or_open(Key::Port(side, protocol), spans.clone(), false);
            Condition::Any(vec![of(Side::Source), of(Side::Destination)], not)
        }
        ("tcp", "--tcp-flags") => {
            let bits = |text: Option<&str>| {
                text.unwrap_or_default()
                    .split(',')
                    .map(|flag| FLAGS.iter().find(|(name, _)| *name == flag).map(|(_, bit)| bit))
                    .sum()
            };
            let (mask, wanted): (Option<u128>, Option<u128>) = (bits(words.next()), bits(words.next()));
            let spans = mask.zip(wanted).map(|(mask, wanted)| vec![Span::Masked(wanted, mask)]);
            in_or_open(Key::TcpFlags, spans, not)
        }
        ("tcp", "--syn") => in_or_open(Key::TcpFlags, Some(vec![Span::Masked(2, 23)]), not),
        ("icmp", "--icmp-type") | ("icmp6", "--icmpv6-type") => return icmp(words.next().unwrap_or_default(), not, ipv6),
        ("conntrack", "--ctstate") | ("state", "--state") => {
            let bit = |name: &str| STATES.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, bit)| *bit);
            let bits: Option<u128> = words.next().unwrap_or_default().split(',').map(bit).sum();
            in_or_open(Key::CtStateOfXt, bits.map(|bits| vec![Span::AnyBit(bits)]), not)
        }
        ("conntrack", "--ctorigsrc" | "--ctorigdst") => {
            let side = if option == "--ctorigsrc" { Side::Source } else { Side::Destination };
            in_or_open(Key::CtAddress(side), ipset::network(words.next().unwrap_or_default()).map(|n| vec![n]), not)
        }
        ("conntrack", "--ctorigsrcport" | "--ctorigdstport") => {
            let side = if option == "--ctorigsrcport" { Side::Source } else { Side::Destination };
            in_or_open(Key::CtPort(side), range(words.next().unwrap_or_default(), ':').map(|n| vec![n]), not)
        }
        ("conntrack", "--ctproto") => {
            let number = protocol_number(words.next().unwrap_or_default()).map(u128::from);
            in_or_open(Key::Protocol, number.map(|n| vec![Span::Range(n, n)]), not)
        }
        ("conntrack", "--ctdir") => {
            let reply = u128::from(words.next() == Some("REPLY"));
            in_or_open(Key::CtDirection, Some(vec![Span::Range(reply, reply)]), not)
        }
        ("mark" | "connmark", "--mark") => {
            let key = if module == "mark" { Key::Mark } else { Key::CtMark };
            in_or_open(
                key,
                mark(words.next().unwrap_or_default()).map(|(value, mask)| vec![Span::Masked(value.into(), mask.into())]),
                not,
            )
        }
        ("addrtype", "--src-type" | "--dst-type") => {
            let side = if option == "--src-type" { Side::Source } else { Side::Destination };
            let kind = |name: &str| ADDRESS_TYPES.iter().find(|(own, _)| *own == name).map(|(_, n)| Span::Range(*n, *n));
            in_or_open(Key::AddressType(side), list(words.next().unwrap_or_default(), kind), not)
        }
        ("iprange", "--src-range" | "--dst-range") => {
            let side = if option == "--src-range" { Side::Source } else { Side::Destination };
            let spans = ipset::network(words.next().unwrap_or_default()).map(|n| vec![n]);
            in_or_open(Key::Address(side, None), spans, not)
        }
        ("pkttype", "--pkt-type") => {
            let kind = match words.next() {
                Some("unicast" | "host") => Some(0),
                Some("broadcast") => Some(1),
                Some("multicast") => Some(2),
                _ => None,
            };
            in_or_open(Key::PacketType, kind.map(|n| vec![Span::Range(n, n)]), not)
        }
        ("rpfilter", "--invert") => rpfilter(module, true),
        ("set", "--match-set") => set(words, not, sets),
        // options that do not restrict the match of the set
        ("set", "--return-nomatch") => Condition::Open,
        ("set", "!" | "--update-counters" | "--update-subcounters") => return None,
        _ => {
            skip_values(words);
            Condition::Open
        }
    })
}

/// Skips the values of an option that is not evaluated.
fn skip_values(words: &mut Words<'_>) {
    while words.peek().is_some_and(|word| word != "!" && !word.starts_with('-')) {
        words.next();
    }
}

/// `0x1/0xff`.
pub(super) fn mark(text: &str) -> Option<(u32, u32)> {
    let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
    Some((hexadecimal(value)?, hexadecimal(mask)?))
}

fn hexadecimal(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// `any`, `8`, `3/4`. Names are not listed by iptables-save.
fn icmp(text: &str, not: bool, ipv6: bool) -> Option<Condition> {
    let of = if ipv6 { ICMPV6 } else { ICMP };
    if matches!(text, "any" | "255") {
        return not.then_some(Condition::Never);
    }
    let (kind, code) = text.split_once('/').map_or((text, None), |(kind, code)| (kind, Some(code)));
    let one = |key: Key, text: &str| in_or_open(key, text.parse().ok().map(|n| vec![Span::Range(n, n)]), true);
    // not (type and code) is (not type or not code)
    let differs = std::iter::once(one(Key::IcmpType(of), kind)).chain(code.map(|code| one(Key::IcmpCode(of), code)));
    Some(Condition::Any(differs.collect(), !not))
}

/// `--match-set NAME src,dst`.
fn set(words: &mut Words<'_>, not: bool, sets: &IpSets) -> Condition {
    let (name, sides) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let Some(ipset) = sets.get(name) else { return Condition::Open };
    let kinds = ipset.kind.strip_prefix("hash:").unwrap_or_default().split(',');
    let mut keys = Vec::new();
    let mut sides = sides.split(',');
    for kind in kinds {
        let Some(is_source) = sides.next().map(|side| side == "src") else { return Condition::Open };
        let side = if is_source { Side::Source } else { Side::Destination };
        match kind {
            "ip" | "net" => keys.push(Key::Address(side, None)),
            "port" => keys.extend([Key::Protocol, Key::Port(side, None)]),
            "iface" => keys.push(if is_source { Key::Input } else { Key::Output }),
            _ => return Condition::Open,
        }
    }
    Condition::Set { keys, set: ipset.set, not }
}
