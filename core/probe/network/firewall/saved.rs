//! Parser of `iptables-save -c`.

use crate::probe::network::firewall::{Backend, Chain, Effect, Firewall, Rule};

/// Adds the tables in `text`.
pub(super) fn add(firewall: &mut Firewall, backend: Backend, text: &str) {
    let mut table = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            name.trim().clone_into(&mut table);
        } else if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split_whitespace();
            let (Some(name), Some(policy)) = (words.next(), words.next()) else { continue };
            // a chain with a policy is built-in and named like its hook
            let hook = (policy != "-").then(|| name.to_owned());
            firewall.chains.push(Chain { backend, table: table.clone(), name: name.to_owned(), hook, accepts: policy != "DROP" });
        } else if let Some(rule) = rule(backend, &table, line) {
            firewall.rules.push(rule);
        }
    }
}

/// `[3:180] -A FORWARD -i eth0 ! -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT`.
fn rule(backend: Backend, table: &str, line: &str) -> Option<Rule> {
    let (packets, text) = match line.strip_prefix('[') {
        Some(rest) => {
            let (counters, text) = rest.split_once("] ")?;
            (counters.split_once(':')?.0.parse().ok(), text)
        }
        None => (None, line),
    };
    let words = words(text);
    let mut at = words.iter().map(String::as_str).peekable();
    if at.next() != Some("-A") {
        return None;
    }
    let rule = Rule::new(backend, table.to_owned(), at.next()?.to_owned());
    let mut rule = Rule { packets, text: text.trim().to_owned(), ..rule };
    let (mut icmp_type, mut not) = ("any", false);
    while let Some(word) = at.next() {
        let negated = std::mem::take(&mut not);
        let named = |value: Option<&str>| value.map(|v| if negated { format!("!{v}") } else { v.to_owned() });
        match word {
            "!" => {
                not = true;
                continue;
            }
            "-i" | "-o" => {
                *(if word == "-i" { &mut rule.input } else { &mut rule.output }) = named(at.next());
                rule.every = false;
                continue;
            }
            "-s" | "-p" => {
                *(if word == "-s" { &mut rule.source } else { &mut rule.protocol }) = named(at.next());
                (rule.every, rule.plain) = (false, false);
                continue;
            }
            // the elements of the set are not listed
            "--match-set" => {
                let set = named(at.next().map(|name| format!("@{name}")).as_deref());
                if at.next() == Some("src") && rule.source.is_none() {
                    (rule.source, rule.every, rule.plain) = (set, false, false);
                    continue;
                }
            }
            "--icmp-type" => icmp_type = at.next().unwrap_or_default(),
            "--ctstate" | "--state" => {
                let states: Vec<&str> = at.next().unwrap_or_default().split(',').collect();
                if states.contains(&"NEW") != negated {
                    rule.every = false;
                    continue;
                }
                rule.established = negated || states.iter().all(|s| matches!(*s, "ESTABLISHED" | "RELATED"));
            }
            // comments, names of matches and options of targets match nothing by themselves
            "--comment" | "-m" | "--reject-with" | "--to-destination" | "--to-source" | "--log-prefix" | "--log-level"
            | "--queue-num" | "--queue-balance" => {
                at.next();
                continue;
            }
            "--queue-bypass" | "--queue-cpu-fanout" => continue,
            "-j" | "-g" => {
                rule.effect = effect(at.next().unwrap_or_default());
                continue;
            }
            "--set-mss" => {
                rule.effect = at.next().and_then(|n| n.parse().ok()).map_or(Effect::Other, Effect::SetMss);
                continue;
            }
            "--clamp-mss-to-pmtu" => {
                rule.effect = Effect::ClampMss;
                continue;
            }
            _ => {}
        }
        (rule.every, rule.plain, rule.conditional) = (false, false, true);
    }
    // type 3 is "unreachable", code 4 "fragmentation needed" (RFC 792, RFC 1191)
    let types = ["any", "255", "3", "3/4", "destination-unreachable", "fragmentation-needed"];
    rule.icmp = matches!(rule.protocol.as_deref(), Some("icmp" | "1")) && types.contains(&icmp_type);
    Some(rule)
}

fn effect(target: &str) -> Effect {
    match target {
        "ACCEPT" => Effect::Accept,
        "DROP" | "REJECT" => Effect::Drop,
        "RETURN" => Effect::Return,
        "MASQUERADE" | "SNAT" => Effect::Masquerade,
        "NFQUEUE" | "QUEUE" => Effect::External,
        "LOG" | "NFLOG" | "DNAT" | "REDIRECT" | "MARK" | "CONNMARK" | "TCPMSS" | "CT" | "NOTRACK" | "TRACE" | "" => Effect::Other,
        chain => Effect::Jump(chain.to_owned()),
    }
}

/// Splits a line into words: iptables-save quotes arguments that contain blanks.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quoted, mut any) = (String::new(), false, false);
    let mut letters = text.chars();
    while let Some(c) = letters.next() {
        match c {
            '"' => (quoted, any) = (!quoted, true),
            '\\' => word.extend(letters.next()),
            c if c.is_whitespace() && !quoted => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            c => word.push(c),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn one(line: &str) -> Rule {
        rule(Backend::Nft, "mangle", line).unwrap()
    }

    #[test]
    fn mss_clamp_and_fixed_mss_are_distinguished() {
        let clamp = one(
            "[7:420] -A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -m comment --comment \"a b\" -j TCPMSS --clamp-mss-to-pmtu",
        );
        assert_eq!((clamp.effect, clamp.packets, clamp.every), (Effect::ClampMss, Some(7), false));
        let set = one("-A FORWARD -o eth0 -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1360");
        assert_eq!((set.effect, set.output.as_deref(), set.packets), (Effect::SetMss(1360), Some("eth0"), None));
    }

    #[test]
    fn unconditional_rules_match_every_packet() {
        assert!(one("-A FORWARD -j ACCEPT").every);
        assert!(one("-A FORWARD -m comment --comment x -j REJECT --reject-with icmp-port-unreachable").every);
        assert!(!one("-A FORWARD ! -i eth0 -j ACCEPT").every);
        let docker = one("-A FORWARD -i docker0 ! -o docker0 -j ACCEPT");
        assert_eq!((docker.input.as_deref(), docker.output.as_deref()), (Some("docker0"), Some("!docker0")));
        assert!(one("-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT").established);
        assert_eq!(one("-A FORWARD -j DOCKER-USER").effect, Effect::Jump("DOCKER-USER".into()));
    }

    #[test]
    fn conditions_besides_interfaces_are_distinguished() {
        let of = |line: &str| {
            let rule = one(&format!("-A FORWARD {line}"));
            (rule.plain, rule.conditional, rule.established)
        };
        assert_eq!(of("-i docker0 -m conntrack --ctstate NEW,RELATED,ESTABLISHED -j ACCEPT"), (true, false, false));
        assert_eq!(of("-m conntrack ! --ctstate INVALID -j ACCEPT"), (true, false, false));
        assert_eq!(of("-m state ! --state NEW -j ACCEPT"), (false, true, true));
        assert_eq!(of("-m conntrack --ctstate INVALID -j DROP"), (false, true, false));
        assert_eq!(of("-s 172.17.0.0/16 -p tcp -m tcp -j ACCEPT"), (false, false, false));
        assert_eq!(of("-p tcp -m tcp --dport 443 -j ACCEPT"), (false, true, false));
        assert_eq!(of("-m set --match-set blocklist src -j DROP"), (false, false, false));
        assert_eq!(of("-m set --match-set hosts dst -j DROP"), (false, true, false));
        assert_eq!(one("-A FORWARD -m set ! --match-set a src -j DROP").source.as_deref(), Some("!@a"));
        assert_eq!(one("-A FORWARD ! -p icmp -j ACCEPT").protocol.as_deref(), Some("!icmp"));
        assert_eq!(one("-A FORWARD -j NFQUEUE --queue-num 0 --queue-bypass").effect, Effect::External);
    }

    #[test]
    fn icmp_rules_are_recognized() {
        for yes in ["-p icmp -j DROP", "-p icmp -m icmp --icmp-type 3/4 -j DROP", "-p icmp -m icmp --icmp-type 3 -j REJECT"] {
            assert!(one(&format!("-A OUTPUT {yes}")).icmp, "{yes}");
        }
        for no in ["-p icmp -m icmp --icmp-type 8 -j DROP", "-p tcp -j DROP", "-j DROP"] {
            assert!(!one(&format!("-A OUTPUT {no}")).icmp, "{no}");
        }
    }

    #[test]
    fn chains_have_hooks_and_policies() {
        let mut firewall = Firewall::default();
        add(&mut firewall, Backend::Legacy, "*filter\n:FORWARD DROP [0:0]\n:DOCKER - [0:0]\n[1:2] -A DOCKER -j RETURN\nCOMMIT\n");
        let hooks: Vec<_> = firewall.chains.iter().map(|c| (c.name.as_str(), c.hook.as_deref(), c.accepts)).collect();
        assert_eq!(hooks, [("FORWARD", Some("FORWARD"), false), ("DOCKER", None, true)]);
        assert_eq!(firewall.rules.len(), 1);
    }
}
