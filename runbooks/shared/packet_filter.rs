//! Whether the packet filter of this host discards the packets of a request or their replies.
//!
//! An evaluator of concrete packets can replace the body of [`discarded`]. Only certain drops are reported: a rule with a condition that is not known, and every rule behind an accepting one of that kind, decides nothing.

use std::net::{IpAddr, Ipv4Addr};

use opsctl_core::probe::ProbeCx;
use opsctl_core::probe::network::firewall::{Backend, Effect, Firewall, Rule};

/// Depth limit of chains that jump to chains.
const MAX_DEPTH: u8 = 16;

/// A request of a client on this host or behind one of its bridges.
#[derive(Debug, Clone)]
pub(crate) struct Request<'a> {
    /// The bridge of the client; `None` for a client in the network namespace of this host.
    pub(crate) bridge: Option<&'a str>,
    /// Address of the client, if it is known.
    pub(crate) source: Option<IpAddr>,
    /// Address of the server.
    pub(crate) destination: IpAddr,
    /// The server is this host.
    pub(crate) to_host: bool,
    /// Interface by which this host reaches the server.
    pub(crate) output: &'a str,
    /// `tcp` or `udp`.
    pub(crate) protocol: &'static str,
}

/// A packet at one hook.
struct Packet<'a> {
    input: Option<&'a str>,
    output: Option<&'a str>,
    source: Option<IpAddr>,
    protocol: &'static str,
    is_reply: bool,
}

/// The rule or policy that certainly discards packets of the request, or their replies; `None` if there is none, or if that is unknown.
pub(crate) async fn discarded(cx: &ProbeCx, request: &Request<'_>) -> Option<String> {
    let firewall = cx.firewall().await.ok().filter(|firewall| !firewall.programs.is_empty())?;
    // the rules of IPv6 are not read
    request.destination.is_ipv4().then(|| of_request(&firewall, request)).flatten()
}

fn of_request(firewall: &Firewall, request: &Request<'_>) -> Option<String> {
    let packet = |input, output, source, is_reply| Packet { input, output, source, protocol: request.protocol, is_reply };
    let (own, server) = (request.source, Some(request.destination));
    let hooks = match (request.bridge, request.to_host) {
        (None, true) => {
            vec![("OUTPUT", packet(None, Some("lo"), server, false)), ("INPUT", packet(Some("lo"), None, server, false))]
        }
        (None, false) => vec![
            ("OUTPUT", packet(None, Some(request.output), own, false)),
            ("INPUT", packet(Some(request.output), None, server, true)),
        ],
        (Some(bridge), true) => {
            vec![("INPUT", packet(Some(bridge), None, own, false)), ("OUTPUT", packet(None, Some(bridge), server, true))]
        }
        (Some(bridge), false) => vec![
            ("FORWARD", packet(Some(bridge), Some(request.output), own, false)),
            ("FORWARD", packet(Some(request.output), Some(bridge), server, true)),
        ],
    };
    hooks.iter().find_map(|(hook, packet)| at_hook(firewall, hook, packet))
}

fn at_hook(firewall: &Firewall, hook: &str, packet: &Packet<'_>) -> Option<String> {
    let filters = |table: &str| table == "filter" || (table.contains(' ') && !table.starts_with("ip6 "));
    for base in firewall.chains.iter().filter(|c| c.hook.as_deref() == Some(hook) && filters(&c.table)) {
        let of = if packet.is_reply { "its replies" } else { "its packets" };
        let at = format!("chain {}, table {} ({})", base.name, base.table, base.backend.program());
        match of_chain(firewall, base.backend, &base.table, &base.name, packet, 0) {
            Fate::Dropped(rule) => return Some(format!("the rule `{}` drops {of} ({at})", rule.text)),
            Fate::Undecided if !base.accepts => return Some(format!("the policy drops {of} ({at})")),
            Fate::Undecided | Fate::Accepted | Fate::Unknown => {}
        }
    }
    None
}

/// Verdict of a chain.
enum Fate<'a> {
    Accepted,
    Dropped(&'a Rule),
    Undecided,
    Unknown,
}

/// Whether a rule matches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    Yes,
    No,
    Unknown,
}

fn of_chain<'a>(
    firewall: &'a Firewall,
    backend: Backend,
    table: &'a str,
    chain: &'a str,
    packet: &Packet<'_>,
    depth: u8,
) -> Fate<'a> {
    for rule in firewall.chain(backend, table, chain) {
        let fit = fit(rule, packet);
        match &rule.effect {
            _ if fit == Fit::No => {}
            Effect::Other | Effect::ClampMss | Effect::SetMss(_) | Effect::Masquerade => {}
            // a later rule may still drop the packet for certain
            Effect::Drop if fit == Fit::Unknown => {}
            _ if fit == Fit::Unknown => return Fate::Unknown,
            Effect::Drop => return Fate::Dropped(rule),
            Effect::Accept => return Fate::Accepted,
            Effect::Return => return Fate::Undecided,
            Effect::External => return Fate::Unknown,
            Effect::Jump(_) if depth >= MAX_DEPTH => return Fate::Unknown,
            Effect::Jump(to) => match of_chain(firewall, backend, table, to, packet, depth + 1) {
                Fate::Undecided => {}
                fate => return fate,
            },
        }
    }
    Fate::Undecided
}

fn fit(rule: &Rule, packet: &Packet<'_>) -> Fit {
    let interface = |patterns: &mut dyn Iterator<Item = &String>, name: Option<&str>| {
        let patterns: Vec<&String> = patterns.collect();
        let one = |pattern: &str| name.is_some_and(|name| matches_interface(pattern, name));
        match patterns.first() {
            None => true,
            Some(first) if first.starts_with('!') => patterns.iter().all(|p| !one(p.trim_start_matches('!'))),
            Some(_) => patterns.iter().any(|p| one(p)),
        }
    };
    if !interface(&mut rule.input.iter().chain(&rule.inputs), packet.input)
        || !interface(&mut rule.output.iter().chain(&rule.outputs), packet.output)
        || (rule.established && !packet.is_reply)
    {
        return Fit::No;
    }
    // a rule for new connections only
    let has_state = rule.text.contains("--ctstate") || rule.text.contains("--state") || rule.text.contains("\"state\"");
    if packet.is_reply && has_state && !rule.text.to_ascii_uppercase().contains("ESTABLISHED") {
        return Fit::No;
    }
    if let Some(protocol) = &rule.protocol {
        let (listed, not) = protocol.strip_prefix('!').map_or((protocol.as_str(), false), |rest| (rest, true));
        if listed.split(", ").any(|p| p == packet.protocol || p == "all") == not {
            return Fit::No;
        }
    }
    let source = rule.source.as_deref().map_or(Fit::Yes, |condition| source_fits(condition, packet.source));
    if source == Fit::No || (!rule.conditional && !rule.icmp) { source } else { Fit::Unknown }
}

/// `203.0.113.9/32`, `!10.0.0.0/8`, `10.0.0.1, 10.0.0.2`; a set or range is unknown.
fn source_fits(condition: &str, source: Option<IpAddr>) -> Fit {
    let Some(IpAddr::V4(source)) = source else { return Fit::Unknown };
    let (listed, not) = condition.strip_prefix('!').map_or((condition, false), |rest| (rest, true));
    let networks: Option<Vec<(u32, u32)>> = listed.trim().split(", ").map(network).collect();
    let Some(networks) = networks else { return Fit::Unknown };
    let has = networks.iter().any(|(address, mask)| (address ^ source.to_bits()) & mask == 0);
    if has == not { Fit::No } else { Fit::Yes }
}

/// Address and mask of `10.0.0.0/8`, `10.0.0.0/255.0.0.0` or a single address.
pub(crate) fn network(text: &str) -> Option<(u32, u32)> {
    let (address, length) = text.split_once('/').unwrap_or((text, "32"));
    let mask = match length.parse::<u32>() {
        Ok(length) => u32::MAX.checked_shl(32_u32.checked_sub(length)?).unwrap_or(0),
        Err(_) => length.parse::<Ipv4Addr>().ok()?.to_bits(),
    };
    Some((address.parse::<Ipv4Addr>().ok()?.to_bits(), mask))
}

/// `br+` and `br*` match every name with that prefix.
pub(crate) fn matches_interface(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix(['+', '*']) {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use opsctl_core::probe::network::firewall::recorded;

    use super::*;

    fn request(bridge: Option<&'static str>, to_host: bool) -> Request<'static> {
        let output = if to_host { "lo" } else { "eth0" };
        Request {
            bridge,
            source: Some("172.18.0.2".parse().unwrap()),
            destination: "10.0.0.2".parse().unwrap(),
            to_host,
            output,
            protocol: "udp",
        }
    }

    fn verdict(rules: &str, request: &Request<'_>) -> Option<String> {
        let chains = ":INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:DOCKER-USER - [0:0]";
        of_request(&recorded(&format!("*filter\n{chains}\n{rules}\nCOMMIT\n")), request)
    }

    const CONTAINER: Option<&str> = Some("br-app");

    #[test]
    fn replies_of_containers_are_followed() {
        // a rule for incoming connections that also drops the replies to outgoing ones
        let rules = "-A FORWARD -j DOCKER-USER\n-A FORWARD -o br-app -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
            -A FORWARD -i br-app -j ACCEPT\n-A DOCKER-USER -i eth0 ! -s 203.0.113.9/32 -j DROP";
        let dropped = verdict(rules, &request(CONTAINER, false)).unwrap();
        assert!(
            dropped.starts_with("the rule `-A DOCKER-USER -i eth0 ! -s 203.0.113.9/32 -j DROP` drops its replies"),
            "{dropped}"
        );
        let recommended = rules
            .replace("-A DOCKER-USER", "-A DOCKER-USER -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A DOCKER-USER");
        assert_eq!(verdict(&recommended, &request(CONTAINER, false)), None);
        let new_only = rules.replace("-i eth0 !", "-i eth0 -m conntrack --ctstate NEW !");
        assert_eq!(verdict(&new_only, &request(CONTAINER, false)), None);
    }

    #[test]
    fn policy_without_an_accepting_rule_drops() {
        let policy = |hook: &str| format!(":{hook} DROP [0:0]");
        let rules = format!("{}\n-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", policy("INPUT"));
        let dropped = verdict(&rules, &request(CONTAINER, true)).unwrap();
        assert!(dropped.contains("policy drops its packets"), "{dropped}");
        assert_eq!(verdict(&format!("{rules}\n-A INPUT -p udp -m udp --dport 53 -j ACCEPT"), &request(CONTAINER, true)), None);
        assert_eq!(verdict(&format!("{rules}\n-A INPUT -i lo -j ACCEPT"), &request(None, true)), None);
        assert_eq!(verdict(&rules, &request(None, false)), None, "replies of this host's own requests");
    }

    #[test]
    fn conditional_drop_is_not_certain() {
        for rule in ["-m limit --limit 3/min", "-d 10.9.0.0/16", "-p tcp", "-s 172.19.0.0/16", "-m mark --mark 0x1", "-i wg0"] {
            assert_eq!(verdict(&format!("-A FORWARD {rule} -j DROP"), &request(CONTAINER, false)), None, "{rule}");
        }
        assert!(verdict("-A FORWARD -s 172.18.0.0/16 -j DROP", &request(CONTAINER, false)).is_some());
    }

    #[test]
    fn outgoing_drop_of_this_host() {
        assert!(verdict("-A OUTPUT -o eth0 -p udp -j DROP", &request(None, false)).is_some());
        assert_eq!(verdict("-A OUTPUT -o eth0 -p tcp -j DROP", &request(None, false)), None);
        assert!(verdict("-A INPUT -i eth0 -j DROP", &request(None, false)).is_some_and(|text| text.contains("its replies")));
    }
}
