//! Findings of `mtu.path`: bridges with too large an MTU, dropped full packets, dropped ICMP messages, and ineffective MSS rules.

use opsctl_core::model::{Finding, KeyKind, Kind, Object, Severity, quantity};
use opsctl_core::probe::network::NetworkRoute;
use opsctl_core::probe::network::firewall::{Backend, Effect};
use opsctl_core::probe::network::path::PathResult;

use super::bottleneck::{self, Bottleneck, HEADERS};
use super::evidence::{Bridge, Evidence, IcmpRule, MssRule, PathProbe, Stuck};
use super::path::{BLACKHOLE, CLAMP, EXCEEDS, FIX, ICMP, MISSING, NETWORK};

/// The egress interface.
fn subject(interface: &str) -> Object {
    Object::named(Kind::Interface, interface)
}

/// Whether a rule clamps the MSS of containers' connections, judged by the rule alone.
fn lowers(e: &Evidence) -> bool {
    e.mss_rules.iter().any(|r| r.shadow.is_none() && r.rule.output.is_none() && r.rule.input.is_none())
}

pub(super) fn bridges(e: &Evidence) -> Vec<Finding> {
    let Some(egress) = &e.egress else { return Vec::new() };
    let limit = egress.limit();
    let mut findings = Vec::new();
    for bridge in e.bridges.iter().filter(|b| b.sends() > limit && !b.containers.is_empty()) {
        let from = |l: &&PathProbe| l.network.as_ref() == Some(&bridge.network) && l.way.interface == egress.interface;
        let works = e.looks.iter().filter(from).any(|l| l.tried.out == PathResult::Arrives);
        let fine = (works && !e.looks.iter().any(|l| from(&l) && l.is_lost())) || lowers(e);
        let how = if lowers(e) { "a rule clamps the MSS" } else { "full packets arrived" };
        findings.push(
            Finding::new(
                &EXCEEDS,
                if fine { Severity::Info } else { Severity::Warn },
                Object {
                    kind: Kind::Interface,
                    name: bridge.interface.clone(),
                    id: format!("{}@{}", bridge.interface, bridge.index),
                },
                format!(
                    "containers of network {} send packets of up to {} bytes, the MTU of {} is {limit}",
                    bridge.network,
                    bridge.sends(),
                    egress.interface
                ),
            )
            .cite("containers", some(&bridge.containers))
            .cite("why it works", if fine { how } else { "" })
            .fix(NETWORK.id),
        );
    }
    findings
}

/// The first few names, and the number of further ones.
fn some(names: &[String]) -> String {
    quantity::some_of(names, 5)
}

pub(super) fn by_hand(finding: &Finding, e: &Evidence) -> String {
    let bridge = e.bridges.iter().find(|b| b.interface == finding.subject.name);
    let limit = e.egress.as_ref().map_or(1450, NetworkRoute::limit);
    match bridge {
        Some(Bridge { network, .. }) if network == "bridge" => {
            format!(
                "set \"mtu\": {limit} in /etc/docker/daemon.json and restart Docker; containers on docker0 use it from their next start"
            )
        }
        Some(Bridge { network, containers, .. }) => format!(
            "docker network create -o com.docker.network.driver.mtu={limit} NEW, move its {} to it, remove {network} (compose: `driver_opts` of the network, then down and up)",
            quantity::count(containers.len(), "container")
        ),
        None => "recreate the network with the option com.docker.network.driver.mtu".to_owned(),
    }
}

/// Lost paths by egress interface: one bottleneck is one finding, for any number of affected containers.
pub(super) fn lost_by_interface(e: &Evidence) -> Vec<(String, Vec<&PathProbe>)> {
    let mut groups: Vec<(String, Vec<&PathProbe>)> = Vec::new();
    for probe in e.looks.iter().filter(|l| l.is_lost()) {
        match groups.iter_mut().find(|(name, _)| *name == probe.way.interface) {
            Some((_, group)) => group.push(probe),
            None => groups.push((probe.way.interface.clone(), vec![probe])),
        }
    }
    groups
}

pub(super) fn blackholes(e: &Evidence) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (interface, probes) in lost_by_interface(e) {
        let worst = probes.iter().filter_map(|l| arrived(l)).min();
        let lost = probes.iter().filter_map(|l| lost(l)).min().unwrap_or(0);
        let over = worst.unwrap_or_else(|| lost.saturating_sub(1));
        let directions = match (probes.iter().any(|l| l.tried.out.is_lost()), probes.iter().any(|l| l.tried.back.is_lost())) {
            (true, true) => "in both directions",
            (false, true) => "on the way from the peer",
            _ => "on the way to the peer",
        };
        let peers = distinct(probes.iter().map(|l| l.peer.name.clone()));
        let sources = distinct(probes.iter().map(|l| l.source()));
        let here = probes.iter().all(|l| bottleneck::of(l) == Some(Bottleneck::Here));
        let mut f = Finding::new(
            &BLACKHOLE,
            Severity::Crit,
            subject(&interface),
            format!("packets larger than {over} bytes between {} and {} are dropped {directions}", some(&sources), some(&peers)),
        )
        .key(KeyKind::Interface, &interface);
        if worst.is_none() {
            f = f.likely();
        }
        for l in &probes {
            f = l.directions().into_iter().filter(|(_, lost)| *lost).fold(f, |f, (name, _)| f.fact(name));
            f = f
                .cite(format!("{} to {}", l.source(), l.peer.name), loss_summary(l))
                .key(KeyKind::Address, &l.peer.name)
                .key(KeyKind::Address, l.peer.address.to_string());
        }
        f = f.cite(
            "bottleneck",
            if here {
                format!(
                    "{interface} itself, MTU {}: this host should send ICMP type 3 code 4 to the sender",
                    probes[0].way.limit()
                )
            } else {
                format!(
                    "behind {interface}, MTU {}: a router drops packets without ICMP, or its ICMP messages are dropped",
                    probes[0].way.limit()
                )
            },
        );
        let fine = e.looks.iter().filter(|l| l.way.interface == interface && l.tried.out == PathResult::Arrives && !l.is_lost());
        let fine = distinct(fine.map(|l| format!("{} to {}", l.source(), l.peer.name)));
        findings.push(f.cite("full packets arrive", some(&fine)).fix(FIX.id));
    }
    // databases are not probed: the connections of their clients are inspected
    for stuck in e.stuck.iter().filter(|s| !known(s, e)) {
        let Stuck { from, peer, count, full, backoff, way: route } = stuck;
        let source = from.clone().unwrap_or_else(|| "this host".to_owned());
        findings.push(
            Finding::new(
                &BLACKHOLE,
                Severity::Crit,
                subject(&route.interface),
                format!("full packets of {full} bytes from {source} to {peer} are dropped, smaller ones arrive"),
            )
            .cite(
                "connections",
                format!("{count}, the same packet retransmitted {backoff} times in a row and never acknowledged"),
            )
            .hint("measure the size: `opsctl mtu HOST:PORT` with a peer on the same route that uses HTTP or TLS")
            .key(KeyKind::Interface, &route.interface)
            .key(KeyKind::Address, peer)
            .likely(),
        );
    }
    findings
}

/// Whether a probed path over the same interface is lost too, which is the better evidence.
fn known(stuck: &Stuck, e: &Evidence) -> bool {
    e.looks.iter().any(|l| l.is_lost() && l.way.interface == stuck.way.interface)
}

fn loss_summary(probe: &PathProbe) -> String {
    let direction = |name: &str, fate: &PathResult| match fate {
        PathResult::Vanishes { lost, arrived: Some(a) } => Some(format!("{name}: {lost} bytes dropped, {a} arrive")),
        PathResult::Vanishes { lost, arrived: None } => Some(format!("{name}: {lost} bytes dropped")),
        _ => None,
    };
    let t = &probe.tried;
    let both: Vec<String> = [direction("out", &t.out), direction("back", &t.back)].into_iter().flatten().collect();
    let again = quantity::count(t.retransmitted as usize, "segment");
    format!("{}; {again} retransmitted, {} bytes in {} connections", both.join("; "), t.sent, t.connections)
}

pub(super) fn arrived(probe: &PathProbe) -> Option<u32> {
    [&probe.tried.out, &probe.tried.back]
        .into_iter()
        .filter_map(|f| if let PathResult::Vanishes { arrived, .. } = f { *arrived } else { None })
        .min()
}

fn lost(probe: &PathProbe) -> Option<u32> {
    [&probe.tried.out, &probe.tried.back]
        .into_iter()
        .filter_map(|f| if let PathResult::Vanishes { lost, .. } = f { Some(*lost) } else { None })
        .min()
}

fn distinct(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    names.for_each(|n| {
        if !all.contains(&n) {
            all.push(n);
        }
    });
    all
}

/// Rules and settings of this host that drop ICMP "fragmentation needed".
pub(super) fn filters(e: &Evidence) -> Vec<Finding> {
    let groups = lost_by_interface(e);
    let mut findings = Vec::new();
    for (interface, probes) in &groups {
        let here = probes.iter().any(|l| bottleneck::of(l) == Some(Bottleneck::Here));
        let not_forwarded = e.frag_fails.1.saturating_sub(e.frag_fails.0);
        // a message of this host passes OUTPUT; a router's passes INPUT for this host, and FORWARD for containers
        let hooks: &[&str] = if here { &["OUTPUT", "POSTROUTING"] } else { &["INPUT", "FORWARD", "PREROUTING"] };
        let on_path = |r: &&IcmpRule| r.hook.as_deref().is_none_or(|h| hooks.contains(&h));
        let rule = e.icmp_rules.iter().filter(on_path).find(|r| r.matched());
        if rule.is_none() && !(here && not_forwarded > 0) {
            continue;
        }
        let mut f = Finding::new(
            &ICMP,
            Severity::Crit,
            Object::host(),
            match rule {
                Some(r) => format!("this host drops ICMP type 3 code 4 (fragmentation needed): {}", r.rule.text),
                None => "ICMP type 3 code 4 (fragmentation needed) of this host does not reach the sender".to_owned(),
            },
        )
        .key(KeyKind::Interface, interface)
        .weight(3);
        if let Some(IcmpRule { rule, before, .. }) = rule {
            let meanwhile = rule.packets.unwrap_or(0).saturating_sub(before.unwrap_or(0));
            f = f
                .cite("rule", format!("{} {}, chain {}", rule.backend.program(), rule.table, rule.chain))
                .cite("matched during the probes", quantity::count(usize::try_from(meanwhile).unwrap_or(0), "packet"));
        } else {
            f = f.likely().hint("find the rule that drops ICMP: in nftables, on the bridge (ebtables), or inside the container");
        }
        findings.push(
            f.cite("packets not forwarded during the probes", if here { not_forwarded.to_string() } else { String::new() }),
        );
    }
    if groups.is_empty() {
        findings.extend(latent_filter(e));
    }
    findings
}

/// A drop rule that takes effect once a packet is too large.
fn latent_filter(e: &Evidence) -> Option<Finding> {
    let limit = e.egress.as_ref()?.limit();
    let exceeds = e.bridges.iter().any(|b| b.sends() > limit && !b.containers.is_empty());
    let severity = if exceeds && !lowers(e) { Severity::Warn } else { Severity::Info };
    let rule = e.icmp_rules.iter().find(|r| r.hook.as_deref().is_none_or(|h| h != "POSTROUTING"))?;
    let message = format!("this host would drop ICMP type 3 code 4 (fragmentation needed): {}", rule.rule.text);
    Some(
        Finding::new(&ICMP, severity, Object::host(), message)
            .cite("rule", format!("{} {}, chain {}", rule.rule.backend.program(), rule.rule.table, rule.rule.chain)),
    )
}

/// Ineffective MSS rules, and missing ones.
pub(super) fn rules(e: &Evidence) -> Vec<Finding> {
    let groups = lost_by_interface(e);
    let mut findings = Vec::new();
    for (interface, probes) in &groups {
        if e.mss_rules.is_empty() {
            // no MSS rule exists on this host
            findings.push(
                Finding::new(
                    &MISSING,
                    Severity::Crit,
                    subject(interface),
                    format!("no rule clamps the MSS of TCP connections via {interface}"),
                )
                .key(KeyKind::Interface, interface)
                .weight(2),
            );
            continue;
        }
        for rule in &e.mss_rules {
            findings.push(
                Finding::new(&CLAMP, Severity::Warn, subject(interface), why_ineffective(rule, probes))
                    .cite("rule", rule_text(rule))
                    .key(KeyKind::Interface, interface)
                    .weight(2),
            );
        }
    }
    if groups.is_empty() {
        findings.extend(e.mss_rules.iter().filter_map(|r| possibly_ineffective(r, e)));
    }
    findings
}

fn rule_text(rule: &MssRule) -> String {
    let r = &rule.rule;
    let packets = r.packets.map_or_else(String::new, |p| format!(", {p} packets matched"));
    format!("{} {}: {}{packets}", r.backend.program(), r.table, r.text)
}

/// Why an existing rule has no effect.
fn why_ineffective(rule: &MssRule, probes: &[&PathProbe]) -> String {
    let r = &rule.rule;
    let small_enough = probes.iter().filter_map(|l| arrived(l)).min().map(|a| a.saturating_sub(HEADERS));
    if let Some(shadow) = &rule.shadow {
        return format!("no packet reaches the MSS rule in {}: `{shadow}` precedes it", r.chain);
    }
    if r.packets == Some(0) {
        return format!("the MSS rule in {} has matched no packet", r.chain);
    }
    if r.output.is_some() || r.input.is_some() {
        return format!("the MSS rule in {} matches one interface, and so only one end of a connection", r.chain);
    }
    match (&r.effect, small_enough) {
        (Effect::SetMss(n), Some(fits)) if *n > fits => {
            format!("the MSS rule sets {n}, but only {fits} arrive")
        }
        (Effect::ClampMss, _) if probes.iter().any(|l| bottleneck::of(l) != Some(Bottleneck::Here)) => {
            let mtu = probes.first().map_or(0, |l| l.way.limit());
            format!("the MSS rule clamps to the MTU of this host, {mtu}: the bottleneck is behind it")
        }
        _ => format!("the MSS rule in {} has no effect", r.chain),
    }
}

/// A rule that may be ineffective although no packets are lost now.
fn possibly_ineffective(rule: &MssRule, e: &Evidence) -> Option<Finding> {
    let r = &rule.rule;
    let name = e.egress.as_ref().map_or("all", |w| w.interface.as_str());
    let finding = |severity, message: String| {
        Finding::new(&CLAMP, severity, subject(name), message).cite("rule", rule_text(rule)).key(KeyKind::Interface, name)
    };
    let limit = e.egress.as_ref().map(NetworkRoute::limit);
    let exceeds = e.bridges.iter().any(|b| Some(b.sends()) > limit && !b.containers.is_empty());
    // connections that reached it: of containers at FORWARD, of this host at OUTPUT
    let hook = rule.hook.as_deref().unwrap_or_default();
    let tried = e.looks.iter().any(|l| {
        let forwarded = l.from.is_some();
        l.tried.connections > 0
            && l.tried.no_connection.is_none()
            && match hook {
                "FORWARD" => forwarded,
                "OUTPUT" | "INPUT" => !forwarded,
                _ => false,
            }
            && r.output.as_ref().is_none_or(|o| *o == l.way.interface)
    });
    if let Some(shadow) = &rule.shadow {
        return Some(finding(Severity::Warn, format!("no packet reaches the MSS rule in {}: `{shadow}` precedes it", r.chain)));
    }
    if tried && r.packets.is_some() && r.packets == rule.before {
        let severity = if rule.is_own() { Severity::Crit } else { Severity::Warn };
        let message = format!("the MSS rule in {} matched none of the probe connections", r.chain);
        return Some(finding(severity, message));
    }
    if exceeds && let Some(output) = &r.output {
        let message = format!(
            "the MSS rule in {} matches packets to {output} only: SYN-ACKs of peers bypass it, and containers send full packets",
            r.chain
        );
        let other = |o: &&MssRule| o.rule.text != r.text && (o.rule.output.is_none() || o.rule.output != r.output);
        if !e.mss_rules.iter().any(|o| other(&o)) {
            return Some(finding(Severity::Warn, message));
        }
    }
    if e.engine.is_some_and(|engine| engine != r.backend) && r.backend == Backend::Legacy {
        return Some(finding(
            Severity::Warn,
            "the MSS rule is in legacy iptables, but the engine uses nftables: neither tool lists the rules of the other"
                .to_owned(),
        ));
    }
    match (&r.effect, limit) {
        (Effect::SetMss(n), Some(limit)) if *n + HEADERS + MAX_LOWER_MSS < limit && !rule.is_own() => {
            Some(finding(Severity::Info, format!("the MSS rule sets {n}, {name} allows {}", limit - HEADERS)))
        }
        _ => None,
    }
}

/// An MSS this much lower costs a few percent of throughput (judgement: 1360 for 1410 is a small loss), in bytes.
const MAX_LOWER_MSS: u32 = 20;
