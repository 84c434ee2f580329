//! What the evidence says: bridges that are too large, packets that vanish, messages that are dropped, rules that help or do not.

use opsctl_core::model::{Finding, KeyKind, Kind, Severity, Subject, quantity};
use opsctl_core::probe::firewall::{Backend, Effect};
use opsctl_core::probe::network::Way;
use opsctl_core::probe::path::Fate;

use super::bottleneck::{self, Bottleneck, HEADERS};
use super::evidence::{Bridge, Evidence, IcmpRule, Look, MssRule, Stuck};
use super::path::{BLACKHOLE, CLAMP, EXCEEDS, FIX, ICMP, MISSING, NETWORK};

/// The interface packets leave by.
fn subject(interface: &str) -> Subject {
    Subject { kind: Kind::Interface, name: interface.to_owned(), identity: interface.to_owned() }
}

/// A rule that lowers the segments of what containers send, as far as that can be told from the rule alone.
fn lowers(e: &Evidence) -> bool {
    e.mss_rules.iter().any(|r| r.shadow.is_none() && r.rule.output.is_none() && r.rule.input.is_none())
}

pub(super) fn bridges(e: &Evidence) -> Vec<Finding> {
    let Some(egress) = &e.egress else { return Vec::new() };
    let limit = egress.limit();
    let mut findings = Vec::new();
    for bridge in e.bridges.iter().filter(|b| b.sends() > limit && !b.containers.is_empty()) {
        let from = |l: &&Look| l.network.as_ref() == Some(&bridge.network) && l.way.interface == egress.interface;
        let works = e.looks.iter().filter(from).any(|l| l.tried.out == Fate::Arrives);
        let fine = (works && !e.looks.iter().any(|l| from(&l) && l.is_lost())) || lowers(e);
        let how = if lowers(e) { "a rule lowers the segments of TCP" } else { "full packets were seen to get through" };
        findings.push(
            Finding::new(
                &EXCEEDS,
                if fine { Severity::Info } else { Severity::Warn },
                Subject {
                    kind: Kind::Interface,
                    name: bridge.interface.clone(),
                    identity: format!("{}@{}", bridge.interface, bridge.index),
                },
                format!(
                    "containers of network {} send packets of up to {} bytes, {} takes {limit}",
                    bridge.network,
                    bridge.sends(),
                    egress.interface
                ),
            )
            .cite("containers", some(&bridge.containers))
            .cite("it works", if fine { how } else { "" })
            .fix(NETWORK.id),
        );
    }
    findings
}

/// The first few names, and how many more.
fn some(names: &[String]) -> String {
    quantity::some_of(names, 5)
}

pub(super) fn by_hand(finding: &Finding, e: &Evidence) -> String {
    let bridge = e.bridges.iter().find(|b| b.interface == finding.subject.name);
    let limit = e.egress.as_ref().map_or(1450, Way::limit);
    match bridge {
        Some(Bridge { network, .. }) if network == "bridge" => {
            format!(
                "set \"mtu\": {limit} in /etc/docker/daemon.json and restart Docker; containers on docker0 then start with it"
            )
        }
        Some(Bridge { network, containers, .. }) => format!(
            "docker network create -o com.docker.network.driver.mtu={limit} NEW, move its {} there, remove {network} (compose: `driver_opts` of the network, then down and up)",
            quantity::count(containers.len(), "container")
        ),
        None => "make the network anew with the option com.docker.network.driver.mtu".to_owned(),
    }
}

/// Lost paths by the interface they leave by: one bottleneck is one finding, however many containers suffer from it.
pub(super) fn lost_by_interface(e: &Evidence) -> Vec<(String, Vec<&Look>)> {
    let mut groups: Vec<(String, Vec<&Look>)> = Vec::new();
    for look in e.looks.iter().filter(|l| l.is_lost()) {
        match groups.iter_mut().find(|(name, _)| *name == look.way.interface) {
            Some((_, group)) => group.push(look),
            None => groups.push((look.way.interface.clone(), vec![look])),
        }
    }
    groups
}

pub(super) fn blackholes(e: &Evidence) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (interface, looks) in lost_by_interface(e) {
        let worst = looks.iter().filter_map(|l| arrived(l)).min();
        let lost = looks.iter().filter_map(|l| lost(l)).min().unwrap_or(0);
        let over = worst.unwrap_or_else(|| lost.saturating_sub(1));
        let directions = match (looks.iter().any(|l| l.tried.out.is_lost()), looks.iter().any(|l| l.tried.back.is_lost())) {
            (true, true) => "in both directions",
            (false, true) => "on the way back",
            _ => "on the way there",
        };
        let peers = distinct(looks.iter().map(|l| l.peer.name.clone()));
        let places = distinct(looks.iter().map(|l| l.place()));
        let here = looks.iter().all(|l| bottleneck::of(l) == Some(Bottleneck::Here));
        let mut f = Finding::new(
            &BLACKHOLE,
            Severity::Crit,
            subject(&interface),
            format!("packets over {over} bytes vanish {directions} between {} and {}", some(&places), some(&peers)),
        )
        .key(KeyKind::Interface, &interface);
        if worst.is_none() {
            f = f.likely();
        }
        for l in &looks {
            f = f
                .cite(format!("{} to {}", l.place(), l.peer.name), said(l))
                .key(KeyKind::Address, &l.peer.name)
                .key(KeyKind::Address, l.peer.address.to_string());
        }
        f = f.cite(
            "the bottleneck",
            if here {
                format!("{interface} itself takes {}: this host should tell the sender by ICMP", looks[0].way.limit())
            } else {
                format!(
                    "behind {interface}, which takes {}: a router there drops without a word, or its word is dropped",
                    looks[0].way.limit()
                )
            },
        );
        let fine = e.looks.iter().filter(|l| l.way.interface == interface && l.tried.out == Fate::Arrives && !l.is_lost());
        let fine = distinct(fine.map(|l| format!("{} to {}", l.place(), l.peer.name)));
        findings.push(f.cite("gets through", some(&fine)).fix(FIX.id));
    }
    // a database is spoken to by nobody but its clients: their own connections tell
    for stuck in e.stuck.iter().filter(|s| !known(s, e)) {
        let Stuck { from, peer, count, full, backoff, way } = stuck;
        let place = from.clone().unwrap_or_else(|| "this host".to_owned());
        findings.push(
            Finding::new(
                &BLACKHOLE,
                Severity::Crit,
                subject(&way.interface),
                format!("full packets of {full} bytes from {place} to {peer} vanish, smaller ones arrive"),
            )
            .cite("connections", format!("{count}, the same packet sent again {backoff} times in a row and never acknowledged"))
            .hint("find out the size: `opsctl mtu HOST:PORT` with a peer on the same way that speaks HTTP or TLS")
            .key(KeyKind::Interface, &way.interface)
            .key(KeyKind::Address, peer)
            .likely(),
        );
    }
    findings
}

/// Whether a path from the same place over the same interface was seen to be lost, which then tells more.
fn known(stuck: &Stuck, e: &Evidence) -> bool {
    e.looks.iter().any(|l| l.is_lost() && l.way.interface == stuck.way.interface)
}

fn said(look: &Look) -> String {
    let direction = |name: &str, fate: &Fate| match fate {
        Fate::Vanishes { lost, arrived: Some(a) } => Some(format!("{name}: {lost} bytes vanish, {a} arrive")),
        Fate::Vanishes { lost, arrived: None } => Some(format!("{name}: {lost} bytes vanish")),
        _ => None,
    };
    let t = &look.tried;
    let both: Vec<String> = [direction("out", &t.out), direction("back", &t.back)].into_iter().flatten().collect();
    let again = quantity::count(t.retransmitted as usize, "segment");
    format!("{}; {again} sent again, {} bytes in {} connections", both.join("; "), t.sent, t.connections)
}

pub(super) fn arrived(look: &Look) -> Option<u32> {
    [&look.tried.out, &look.tried.back]
        .into_iter()
        .filter_map(|f| if let Fate::Vanishes { arrived, .. } = f { *arrived } else { None })
        .min()
}

fn lost(look: &Look) -> Option<u32> {
    [&look.tried.out, &look.tried.back]
        .into_iter()
        .filter_map(|f| if let Fate::Vanishes { lost, .. } = f { Some(*lost) } else { None })
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

/// Rules and settings of this host that keep the message about the size from its receiver.
pub(super) fn filters(e: &Evidence) -> Vec<Finding> {
    let groups = lost_by_interface(e);
    let mut findings = Vec::new();
    for (interface, looks) in &groups {
        let here = looks.iter().any(|l| bottleneck::of(l) == Some(Bottleneck::Here));
        let tried_to_tell = e.frag_fails.1.saturating_sub(e.frag_fails.0);
        // this host's own message leaves by OUTPUT; a router's comes in by INPUT for this host, and by FORWARD for containers
        let hooks: &[&str] = if here { &["OUTPUT", "POSTROUTING"] } else { &["INPUT", "FORWARD", "PREROUTING"] };
        let on_the_way = |r: &&IcmpRule| r.hook.as_deref().is_none_or(|h| hooks.contains(&h));
        let rule = e.icmp_rules.iter().filter(on_the_way).find(|r| r.matched());
        if rule.is_none() && !(here && tried_to_tell > 0) {
            continue;
        }
        let mut f = Finding::new(
            &ICMP,
            Severity::Crit,
            Subject::host(),
            match rule {
                Some(r) => format!("the message that a packet was too large is dropped here: {}", r.rule.text),
                None => {
                    "the message that a packet was too large does not reach its sender, although this host sends it".to_owned()
                }
            },
        )
        .key(KeyKind::Interface, interface)
        .weight(3);
        if let Some(IcmpRule { rule, before, .. }) = rule {
            let meanwhile = rule.packets.unwrap_or(0).saturating_sub(before.unwrap_or(0));
            f = f
                .cite("rule", format!("{} {}, chain {}", rule.backend.program(), rule.table, rule.chain))
                .cite("matched meanwhile", quantity::count(usize::try_from(meanwhile).unwrap_or(0), "packet"));
        } else {
            f = f
                .likely()
                .hint("look for a rule that drops ICMP: in nftables, on the bridge (ebtables), or inside the container");
        }
        findings.push(
            f.cite("packets this host could not forward meanwhile", if here { tried_to_tell.to_string() } else { String::new() }),
        );
    }
    if groups.is_empty() {
        findings.extend(latent_filter(e));
    }
    findings
}

/// A rule that will matter on the day a packet is too large.
fn latent_filter(e: &Evidence) -> Option<Finding> {
    let limit = e.egress.as_ref()?.limit();
    let exceeds = e.bridges.iter().any(|b| b.sends() > limit && !b.containers.is_empty());
    let severity = if exceeds && !lowers(e) { Severity::Warn } else { Severity::Info };
    let rule = e.icmp_rules.iter().find(|r| r.hook.as_deref().is_none_or(|h| h != "POSTROUTING"))?;
    let message = format!("the message that a packet was too large would be dropped here: {}", rule.rule.text);
    Some(
        Finding::new(&ICMP, severity, Subject::host(), message)
            .cite("rule", format!("{} {}, chain {}", rule.rule.backend.program(), rule.rule.table, rule.rule.chain)),
    )
}

/// What the rules for segment sizes are worth, and whether there is one where it is needed.
pub(super) fn rules(e: &Evidence) -> Vec<Finding> {
    let groups = lost_by_interface(e);
    let mut findings = Vec::new();
    for (interface, looks) in &groups {
        if e.mss_rules.is_empty() {
            // a path that could not be named has no rule of its own yet
            findings.push(
                Finding::new(
                    &MISSING,
                    Severity::Crit,
                    subject(interface),
                    format!("no rule lowers the segments of TCP connections that leave by {interface}"),
                )
                .key(KeyKind::Interface, interface)
                .weight(2),
            );
            continue;
        }
        for rule in &e.mss_rules {
            findings.push(
                Finding::new(&CLAMP, Severity::Warn, subject(interface), useless(rule, looks))
                    .cite("rule", described(rule))
                    .key(KeyKind::Interface, interface)
                    .weight(2),
            );
        }
    }
    if groups.is_empty() {
        findings.extend(e.mss_rules.iter().filter_map(|r| doubtful(r, e)));
    }
    findings
}

fn described(rule: &MssRule) -> String {
    let r = &rule.rule;
    let packets = r.packets.map_or_else(String::new, |p| format!(", {p} packets so far"));
    format!("{} {}: {}{packets}", r.backend.program(), r.table, r.text)
}

/// Why a rule that is there does not help.
fn useless(rule: &MssRule, looks: &[&Look]) -> String {
    let r = &rule.rule;
    let small_enough = looks.iter().filter_map(|l| arrived(l)).min().map(|a| a.saturating_sub(HEADERS));
    if let Some(shadow) = &rule.shadow {
        return format!("no packet comes to the rule for segment sizes in {}: `{shadow}` is before it", r.chain);
    }
    if r.packets == Some(0) {
        return format!("the rule for segment sizes in {} has matched no packet", r.chain);
    }
    if r.output.is_some() || r.input.is_some() {
        return format!(
            "the rule for segment sizes in {} is for one interface, and so for one end of a connection only",
            r.chain
        );
    }
    match (&r.effect, small_enough) {
        (Effect::SetMss(n), Some(fits)) if *n > fits => {
            format!("the rule for segment sizes sets {n}, and only {fits} get through")
        }
        (Effect::ClampMss, _) if looks.iter().any(|l| bottleneck::of(l) != Some(Bottleneck::Here)) => {
            let knows = looks.first().map_or(0, |l| l.way.limit());
            format!("the rule that clamps segments only knows what this host knows, {knows}: the bottleneck is behind it")
        }
        _ => format!("the rule for segment sizes in {} does not help", r.chain),
    }
}

/// A rule that does nothing wrong today and may not do what it is for.
fn doubtful(rule: &MssRule, e: &Evidence) -> Option<Finding> {
    let r = &rule.rule;
    let name = e.egress.as_ref().map_or("all", |w| w.interface.as_str());
    let finding = |severity, message: String| {
        Finding::new(&CLAMP, severity, subject(name), message).cite("rule", described(rule)).key(KeyKind::Interface, name)
    };
    let limit = e.egress.as_ref().map(Way::limit);
    let exceeds = e.bridges.iter().any(|b| Some(b.sends()) > limit && !b.containers.is_empty());
    // connections that came to it: of containers to FORWARD, of this host to OUTPUT
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
        return Some(finding(
            Severity::Warn,
            format!("no packet comes to the rule for segment sizes in {}: `{shadow}` is before it", r.chain),
        ));
    }
    if tried && r.packets.is_some() && r.packets == rule.before {
        let severity = if rule.is_ours() { Severity::Crit } else { Severity::Warn };
        let message = format!("the rule for segment sizes in {} matched none of the connections just made", r.chain);
        return Some(finding(severity, message));
    }
    if exceeds && let Some(output) = &r.output {
        let message = format!(
            "the rule for segment sizes in {} is for packets to {output}: the answers of peers pass it by, and containers send as before",
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
            "the rule for segment sizes is a legacy one, and the engine keeps its rules in nftables: whoever looks at one does not see the other".to_owned(),
        ));
    }
    match (&r.effect, limit) {
        (Effect::SetMss(n), Some(limit)) if *n + HEADERS + GENEROUS < limit && !rule.is_ours() => {
            Some(finding(Severity::Info, format!("the rule for segment sizes sets {n}, where {name} takes {}", limit - HEADERS)))
        }
        _ => None,
    }
}

/// A number this much lower costs a few percent of throughput (catalogue §11: 1360 for 1410 is a small loss), in bytes.
const GENEROUS: u32 = 20;
