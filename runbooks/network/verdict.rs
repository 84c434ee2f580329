//! Verdict of a chain on the first packet of a connection from a container to the outside.
//!
//! A chain passes the connections of a network if a rule accepts all of them. A narrower rule (ICMP, an address, a mark) passes
//! none: every stock firewall accepts some packets before it drops the rest. A narrower rule for this network alone, or for
//! everything that leaves through the egress interface, is a restriction that the administrator chose, for example to one port, and
//! passes. So does one that returns from an allow-list, as those in `DOCKER-USER` usually do.

use opsctl_core::probe::network::firewall::{Chain, Effect, Firewall, Rule};

use crate::shared::packet_filter::{matches_interface, network};

/// Depth limit of chains that jump to chains.
const MAX_DEPTH: u8 = 16;

/// Egress of a network.
pub(super) struct Egress<'a> {
    /// Its bridge.
    pub(super) input: &'a str,
    /// The egress interface.
    pub(super) output: &'a str,
    /// Subnets of the network.
    pub(super) subnets: &'a [String],
}

/// Verdict on the first packet of a connection.
#[derive(Debug, PartialEq)]
pub(super) enum Fate<'a> {
    Passes,
    /// The rule that drops it.
    Dropped(&'a Rule),
    /// The rule that hands the decision over to a program or to a map that is not listed.
    External(&'a Rule),
    /// No rule of this chain decides.
    Undecided,
}

/// Part of the first packets of a network's connections that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// All of them.
    All,
    /// Some of them, by a condition for this network or for the egress interface.
    OfNetwork,
    /// Some of them, or none.
    Some,
}

/// Evaluates a chain and those it jumps to.
pub(super) fn of_chain<'a>(firewall: &'a Firewall, base: &Chain, chain: &str, egress: &Egress<'_>, depth: u8) -> Fate<'a> {
    // some connections of the network return to the calling chain, which decides about them
    let mut leaves = false;
    for rule in firewall.rules.iter().filter(|r| r.backend == base.backend && r.table == base.table && r.chain == chain) {
        if rule.established || !fits(rule, egress) {
            continue;
        }
        let scope = scope(rule, egress);
        let all = scope == Scope::All;
        // a source or a protocol leaves out some connections, of which no drop can be concluded
        let decides = all && rule.source.is_none() && rule.protocol.is_none();
        match &rule.effect {
            Effect::Accept if scope != Scope::Some => return Fate::Passes,
            Effect::Drop if decides => return if leaves { Fate::Undecided } else { Fate::Dropped(rule) },
            Effect::External if all => return Fate::External(rule),
            Effect::Return if decides => return Fate::Undecided,
            Effect::Return if scope != Scope::Some => leaves = true,
            Effect::Jump(to) if depth < MAX_DEPTH => match of_chain(firewall, base, to, egress, depth + 1) {
                Fate::Undecided => {}
                Fate::Passes if scope == Scope::Some => {}
                // a conditional jump does not drop for certain
                Fate::Dropped(_) if !decides => {}
                Fate::External(_) if !all => {}
                Fate::Dropped(_) if leaves => return Fate::Undecided,
                fate => return fate,
            },
            _ => {}
        }
    }
    Fate::Undecided
}

/// Whether a rule accepts packets of this egress, but not all of its connections.
pub(super) fn is_narrower(rule: &Rule, egress: &Egress<'_>) -> bool {
    rule.effect == Effect::Accept && !rule.established && fits(rule, egress) && scope(rule, egress) == Scope::Some
}

/// Whether the interfaces of a rule are those of the egress.
fn fits(rule: &Rule, egress: &Egress<'_>) -> bool {
    let one = |pattern: &String, name: &str| match pattern.strip_prefix('!') {
        Some(not) => !matches_interface(not, name),
        None => matches_interface(pattern, name),
    };
    // of excluded interfaces all have to differ, of the others one has to match
    let several = |all: &[String], name: &str| match all.first() {
        None => true,
        Some(first) if first.starts_with('!') => all.iter().all(|p| one(p, name)),
        Some(_) => all.iter().any(|p| one(p, name)),
    };
    rule.input.as_ref().is_none_or(|p| one(p, egress.input))
        && rule.output.as_ref().is_none_or(|p| one(p, egress.output))
        && several(&rule.inputs, egress.input)
        && several(&rule.outputs, egress.output)
}

fn scope(rule: &Rule, egress: &Egress<'_>) -> Scope {
    if rule.plain {
        return Scope::All;
    }
    let source = rule.source.as_deref().map(|source| meets(source, egress.subnets));
    let tcp = carries(rule.protocol.as_deref(), &["tcp", "6"]);
    if !rule.conditional && tcp && source != Some(false) {
        return Scope::All;
    }
    let own = |pattern: &String| pattern == egress.input;
    let leaving = |pattern: &String| pattern == egress.output;
    let any_input = rule.input.is_none() && rule.inputs.is_empty();
    let named = rule.input.as_ref().is_some_and(own)
        || rule.inputs.iter().any(own)
        || any_input && (rule.output.as_ref().is_some_and(leaving) || rule.outputs.iter().any(leaving));
    let connects = tcp || carries(rule.protocol.as_deref(), &["udp", "17"]);
    let of_network = named && source != Some(false) || source == Some(true);
    if of_network && connects && !rule.icmp { Scope::OfNetwork } else { Scope::Some }
}

/// Whether a condition on the protocol leaves one of these; `!` negates.
fn carries(condition: Option<&str>, protocols: &[&str]) -> bool {
    let Some(condition) = condition else { return true };
    let (listed, not) = condition.strip_prefix('!').map_or((condition, false), |rest| (rest, true));
    let any = |p: &str| matches!(p, "all" | "0") || protocols.contains(&p);
    listed.split(", ").any(any) != not
}

/// Whether packets of these subnets can have a source that the condition matches. A set without its elements and a range may contain
/// them, as every source may if the subnets are unknown; any other text that is no network counts as none of them.
fn meets(condition: &str, subnets: &[String]) -> bool {
    let (listed, not) = condition.strip_prefix('!').map_or((condition, false), |rest| (rest, true));
    let own: Vec<(u32, u32)> = subnets.iter().filter_map(|s| network(s)).collect();
    if listed.starts_with('@') || listed.split(", ").any(|one| one == "range") || own.is_empty() {
        return true;
    }
    let overlap = |(address, mask): (u32, u32)| own.iter().any(|(a, m)| (a ^ address) & mask & m == 0);
    let listed: Option<Vec<(u32, u32)>> = listed.split(", ").map(network).collect();
    listed.is_some_and(|all| all.into_iter().any(overlap) != not)
}

#[cfg(test)]
mod tests {
    use opsctl_core::corpus;
    use opsctl_core::probe::network::firewall::recorded;

    use super::*;

    fn verdict(rules: &str) -> String {
        let text = format!("*filter\n:FORWARD DROP [0:0]\n:X - [0:0]\n{rules}\nCOMMIT\n");
        shown(&text, "docker0 172.17.0.0/16 eth0")
    }

    /// The verdicts of all chains at the forward hook; `given` is a bridge, its subnet and the egress interface.
    fn shown(text: &str, given: &str) -> String {
        let firewall = recorded(text);
        let words: Vec<&str> = given.split(' ').collect();
        let [input, subnet, output] = words[..] else { panic!("{given}: no bridge, subnet and egress") };
        let subnets = [subnet.to_owned()];
        let egress = Egress { input, output, subnets: &subnets };
        let base = firewall.chains.iter().filter(|c| c.hook.as_deref() == Some("FORWARD"));
        let one = |chain: &Chain| match of_chain(&firewall, chain, &chain.name, &egress, 0) {
            Fate::Passes => "passes".to_owned(),
            Fate::Dropped(rule) => format!("dropped by {}", rule.text),
            Fate::External(rule) => format!("open, {}", rule.text),
            Fate::Undecided if chain.accepts => "passes by policy".to_owned(),
            Fate::Undecided => "dropped by policy".to_owned(),
        };
        base.map(one).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn icmp_rule_passes_no_connection() {
        assert_eq!(verdict("-A FORWARD -p icmp -m icmp --icmp-type 8 -j ACCEPT"), "dropped by policy");
        assert_eq!(verdict("-A FORWARD -p icmp -j X\n-A X -j ACCEPT"), "dropped by policy");
    }

    #[test]
    fn rule_for_some_packets_passes_no_connection() {
        for rule in
            ["-d 10.0.0.0/8", "-m mark --mark 0x1", "-p tcp -m tcp --dport 22", "-m limit --limit 3/min", "-s 10.8.0.0/24"]
        {
            assert_eq!(verdict(&format!("-A FORWARD {rule} -j ACCEPT")), "dropped by policy", "{rule}");
        }
    }

    #[test]
    fn rule_for_all_connections_of_the_network_passes() {
        for rule in ["", "-i docker0 ! -o docker0", "-s 172.16.0.0/12", "-p tcp", "-i docker+ -m conntrack --ctstate NEW"] {
            assert_eq!(verdict(&format!("-A FORWARD {rule} -j ACCEPT")), "passes", "{rule}");
        }
    }

    #[test]
    fn restriction_of_this_network_is_intended() {
        assert_eq!(verdict("-A FORWARD -i docker0 -p tcp -m tcp --dport 443 -j ACCEPT\n-A FORWARD -i docker0 -j DROP"), "passes");
        assert_eq!(
            verdict("-A FORWARD -i docker0 -p icmp -j ACCEPT\n-A FORWARD -i docker0 -j DROP"),
            "dropped by -A FORWARD -i docker0 -j DROP"
        );
        assert_eq!(verdict("-A FORWARD -s 172.17.0.5/32 -m tcp -p tcp --dport 443 -j ACCEPT"), "passes");
    }

    #[test]
    fn restriction_of_the_egress_interface_is_intended() {
        for rule in ["-o eth0 -p tcp -m tcp --dport 443", "-o eth0 ! -d 10.0.0.0/8", "-i docker0 -o eth0 -d 192.0.2.7/32"] {
            assert_eq!(verdict(&format!("-A FORWARD {rule} -j ACCEPT\n-A FORWARD -o eth0 -j DROP")), "passes", "{rule}");
        }
        assert_eq!(verdict("-A FORWARD -o eth0 -p icmp -j ACCEPT"), "dropped by policy");
        assert_eq!(verdict("-A FORWARD -s 10.8.0.0/24 -o eth0 -j ACCEPT"), "dropped by policy");
    }

    /// Allow-lists in `DOCKER-USER` end in a drop, and Docker's rules accept the connections that return from them.
    #[test]
    fn allow_list_that_returns_is_intended() {
        let of = |rule: &str| {
            verdict(&format!(
                "-A FORWARD -j X\n-A FORWARD -i docker0 ! -o docker0 -j ACCEPT\n-A X {rule} -j RETURN\n-A X -j DROP"
            ))
        };
        for rule in ["-s 172.16.0.0/12", "-i docker0 -p udp -m udp --dport 53", "-o eth0 -d 192.0.2.7/32", "-i docker0"] {
            assert_eq!(of(rule), "passes", "{rule}");
        }
        // allow-lists of clients only
        for rule in ["-p tcp -m tcp --dport 443", "-s 203.0.113.0/24", "-i eth0 -s 203.0.113.9/32"] {
            assert_eq!(of(rule), "dropped by -A X -j DROP", "{rule}");
        }
    }

    #[test]
    fn return_to_a_policy_that_drops_passes_nothing() {
        let returned = verdict("-A FORWARD -j X\n-A X -i docker0 -d 192.0.2.7/32 -j RETURN\n-A X -j DROP");
        assert_eq!(returned, "dropped by policy");
    }

    #[test]
    fn set_of_sources_may_contain_the_network() {
        assert_eq!(verdict("-A FORWARD -m set --match-set containers src -j ACCEPT"), "passes");
        assert_eq!(verdict("-A FORWARD -m set --match-set blocklist src -j DROP\n-A FORWARD -j ACCEPT"), "passes");
        assert_eq!(verdict("-A FORWARD -m set --match-set hosts dst -j ACCEPT"), "dropped by policy");
    }

    #[test]
    fn drop_of_some_packets_decides_nothing() {
        for rule in ["-s 172.17.0.5/32", "-p tcp", "-m conntrack --ctstate INVALID", "-d 10.0.0.0/8"] {
            assert_eq!(verdict(&format!("-A FORWARD {rule} -j DROP\n-A FORWARD -j ACCEPT")), "passes", "{rule}");
            let logged = format!("-A FORWARD {rule} -j X\n-A FORWARD -j ACCEPT\n-A X -j LOG\n-A X -j DROP");
            assert_eq!(verdict(&logged), "passes", "{rule}");
        }
    }

    #[test]
    fn decision_of_a_program_is_open() {
        assert_eq!(verdict("-A FORWARD -j NFQUEUE --queue-num 0"), "open, -A FORWARD -j NFQUEUE --queue-num 0");
    }

    #[test]
    fn sources_in_every_form() {
        let own = ["172.17.0.0/16".to_owned()];
        assert!(meets("10.0.0.0/8", &[]) && meets("range", &own), "unknown");
        for yes in ["172.17.0.0/16", "172.17.3.4", "172.16.0.0/255.240.0.0", "0.0.0.0/0", "10.0.0.0/8, 172.17.0.9", "!10.0.0.0/8"]
        {
            assert!(meets(yes, &own), "{yes}");
        }
        for no in ["10.0.0.0/8", "!172.16.0.0/12", "172.17.0.0/33", ""] {
            assert!(!meets(no, &own), "{no}");
        }
    }

    #[test]
    fn corpus_of_packet_filters() {
        corpus::check_items("packet-filter", 16, |item| {
            let firewall = recorded(&item.text);
            vec![
                ("chains", firewall.chains.len().to_string()),
                ("rules", firewall.rules.len().to_string()),
                ("forward", shown(&item.text, &item.given)),
            ]
        });
    }
}
