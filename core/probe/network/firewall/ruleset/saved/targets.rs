//! Targets of iptables (iptables-extensions(8)).

use super::Words;
use super::matches::mark;
use crate::probe::network::firewall::ruleset::condition::Span;
use crate::probe::network::firewall::ruleset::ipset;
use crate::probe::network::firewall::ruleset::rule::{Action, MarkChange, Names, NatAddress, NatPorts, Translation};

/// Targets after which the next rule is evaluated, and that change nothing that rules compare.
const CONTINUING: &[&str] = &[
    "AUDIT",
    "CHECKSUM",
    "CLASSIFY",
    "CONNSECMARK",
    "DSCP",
    "ECN",
    "HL",
    "HMARK",
    "IDLETIMER",
    "LED",
    "LOG",
    "NFLOG",
    "RATEEST",
    "SECMARK",
    "SET",
    "TCPMSS",
    "TCPOPTSTRIP",
    "TEE",
    "TOS",
    "TRACE",
    "TTL",
    "ULOG",
];

/// The action of a target; `None` if the next rule is evaluated.
pub(super) fn parse(target: &str, is_goto: bool, words: &mut Words<'_>, names: &Names) -> Option<Action> {
    if let Some(chain) = names.get(target) {
        return Some(if is_goto { Action::Goto(*chain) } else { Action::Jump(*chain) });
    }
    Some(match target {
        "ACCEPT" => Action::Accept,
        "DROP" | "STEAL" | "TARPIT" => Action::Drop,
        "REJECT" => Action::Reject,
        "RETURN" => Action::Return,
        "NOTRACK" => Action::NoTrack,
        "CT" => {
            let mut is_exempt = false;
            while let Some(word) = words.next() {
                is_exempt |= word == "--notrack";
            }
            return is_exempt.then_some(Action::NoTrack);
        }
        "DNAT" | "SNAT" | "REDIRECT" | "MASQUERADE" | "NETMAP" => Action::Nat(nat(target, words)),
        "MARK" => Action::SetMark(packet_mark(words)),
        "CONNMARK" => return connection_mark(words).map(Action::SetMark),
        continuing if CONTINUING.contains(&continuing) => return None,
        // NFQUEUE, TPROXY, SYNPROXY, and targets of other modules
        _ => Action::External,
    })
}

fn nat(target: &str, words: &mut Words<'_>) -> Translation {
    let is_source = matches!(target, "SNAT" | "MASQUERADE");
    let to = if matches!(target, "REDIRECT" | "MASQUERADE") { NatAddress::Interface } else { NatAddress::Same };
    let mut nat = Translation { is_source, to, ports: NatPorts::Same };
    while let Some(word) = words.next() {
        match word {
            "--to-destination" | "--to-source" => (nat.to, nat.ports) = destination(words.next().unwrap_or_default()),
            "--to-ports" => nat.ports = ports(words.next().unwrap_or_default()),
            "--to" => {
                // NETMAP: the hook decides whether it is the source
                nat.to = match ipset::network(words.next().unwrap_or_default()) {
                    Some(Span::Masked(network, mask)) => NatAddress::Network(network, mask),
                    _ => NatAddress::Open,
                };
            }
            _ => {}
        }
    }
    nat
}

/// `10.0.0.1-10.0.0.9:80-90/8080`, `[fd00::1]:80`, `:80`.
fn destination(text: &str) -> (NatAddress, NatPorts) {
    let (address, port) = if let Some(rest) = text.strip_prefix('[') {
        match rest.split_once(']') {
            Some((address, port)) => (address, port.strip_prefix(':')),
            None => return (NatAddress::Open, NatPorts::Open),
        }
    } else if text.matches(':').count() > 1 {
        (text, None)
    } else {
        text.split_once(':').map_or((text, None), |(address, port)| (address, Some(port)))
    };
    let to = match ipset::network(address) {
        _ if address.is_empty() => NatAddress::Same,
        Some(Span::Masked(one, _)) if !address.contains('/') => NatAddress::Range(one, one),
        Some(Span::Range(first, last)) => NatAddress::Range(first, last),
        _ => NatAddress::Open,
    };
    (to, port.map_or(NatPorts::Same, ports))
}

/// `80`, `80-90`, `80-90/8080`.
fn ports(text: &str) -> NatPorts {
    let (range, shift) = text.split_once('/').map_or((text, None), |(range, base)| (range, Some(base)));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    match (first.parse(), last.parse(), shift.map(str::parse)) {
        (Ok(first), Ok(last), None) => NatPorts::Range(first, last),
        (Ok(first), Ok(_), Some(Ok(base))) => NatPorts::Shift(first, base),
        _ => NatPorts::Open,
    }
}

fn packet_mark(words: &mut Words<'_>) -> MarkChange {
    let (option, value) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    match (option, mark(value)) {
        // new = (mark & ~mask) ^ value
        ("--set-xmark", Some((value, mask))) => MarkChange::Packet { keep: !mask, toggle: value },
        // new = (mark & ~mask) | value
        ("--set-mark", Some((value, mask))) => MarkChange::Packet { keep: !(mask | value), toggle: value },
        ("--and-mark", Some((value, _))) => MarkChange::Packet { keep: value, toggle: 0 },
        ("--or-mark", Some((value, _))) => MarkChange::Packet { keep: !value, toggle: value },
        ("--xor-mark", Some((value, _))) => MarkChange::Packet { keep: u32::MAX, toggle: value },
        _ => MarkChange::PacketUnknown,
    }
}

fn connection_mark(words: &mut Words<'_>) -> Option<MarkChange> {
    let option = words.next()?;
    if matches!(option, "--save-mark" | "--restore-mark") {
        let (mut packet, mut connection) = (u32::MAX, u32::MAX);
        while let Some(word) = words.next() {
            let value = words.next().and_then(mark).map(|(value, _)| value);
            match (word, value) {
                ("--nfmask", Some(mask)) => packet = mask,
                ("--ctmask", Some(mask)) => connection = mask,
                ("--mask", Some(mask)) => (packet, connection) = (mask, mask),
                _ => {}
            }
        }
        // xt_connmark.c: restore: mark = (mark & ~nfmask) ^ (ctmark & ctmask); save the other way round
        return Some(match option {
            "--restore-mark" => MarkChange::Restore { keep: !packet, of: connection },
            _ => MarkChange::Save { keep: !connection, of: packet },
        });
    }
    Some(match (option, words.next().and_then(mark)) {
        ("--set-xmark", Some((value, mask))) => MarkChange::Connection { keep: !mask, toggle: value },
        ("--set-mark", Some((value, mask))) => MarkChange::Connection { keep: !(mask | value), toggle: value },
        ("--and-mark", Some((value, _))) => MarkChange::Connection { keep: value, toggle: 0 },
        ("--or-mark", Some((value, _))) => MarkChange::Connection { keep: !value, toggle: value },
        ("--xor-mark", Some((value, _))) => MarkChange::Connection { keep: u32::MAX, toggle: value },
        _ => MarkChange::ConnectionUnknown,
    })
}
