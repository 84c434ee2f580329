//! Do full packets get through, and if not, whose fault is it?

use std::time::Duration;

use futures_util::future::join_all;
use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, FixSpec, Judged, Judgement, KeyKind, Kind, Plan, Refusal, Risk, Severity, Subject, Table,
    Target,
};
use opsctl_core::probe::firewall::{self, Effect};
use opsctl_core::probe::network::counters::counters;
use opsctl_core::probe::path::{self, BUDGET, Fate, Speech};
use opsctl_core::probe::setup::Tree;
use opsctl_core::probe::{ProbeCx, ProbeError};

use super::bottleneck::{self, Bottleneck, HEADERS};
use super::evidence::{Bridge, Evidence, IcmpRule, Look, MssRule, Stuck, Would};
use super::{Settings, clamp, peers};

const EXCEEDS: Code = Code {
    id: "mtu.bridge-exceeds-egress",
    severities: &[Severity::Info, Severity::Warn],
    when: "containers of a network send larger packets than the interface they leave by takes (info where this was seen to work, or a rule lowers their segments); works as long as ICMP does",
    hint: "make the network anew with `com.docker.network.driver.mtu`, or lower TCP segments with a rule; `mtu` in daemon.json is for docker0 only",
};

const BLACKHOLE: Code = Code {
    id: "mtu.blackhole",
    severities: &[Severity::Crit],
    when: "full packets to a peer vanish, in one direction or the other, while small ones arrive",
    hint: "lower the segments of new TCP connections: `opsctl fix mtu.clamp`",
};

const ICMP: Code = Code {
    id: "mtu.icmp-blocked-local",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "a rule of this host drops the ICMP message that a packet was too large (crit when packets vanish for it, warn when containers send larger packets than the way out takes and no rule lowers their segments)",
    hint: "let ICMP type 3 code 4 through: path MTU discovery (RFC 1191) needs it, and it does no harm",
};

const MISSING: Code = Code {
    id: "mtu.clamp-missing",
    severities: &[Severity::Crit],
    when: "full packets vanish and no rule lowers the segments of TCP connections",
    hint: "`opsctl fix mtu.clamp`",
};

const CLAMP: Code = Code {
    id: "mtu.clamp",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "a rule for segment sizes does not do what it is for: it cannot know a bottleneck behind this host, its number is too large, packets do not come to it, it is for one direction only, or it is kept where the engine does not keep its rules (warn); it has matched nothing although connections were made (warn, crit when opsctl made it); its number is lower than needed (info)",
    hint: "`--clamp-mss-to-pmtu` knows this host's own interfaces and what ICMP told it; for what lies behind only `--set-mss` helps",
};

const PROBING: Code = Code {
    id: "mtu.probing",
    severities: &[Severity::Info],
    when: "full packets vanish and net.ipv4.tcp_mtu_probing is 0: connections do not find a smaller size by themselves",
    hint: "1 lets this host's own connections recover after some seconds; containers have the setting to themselves (`--sysctl`)",
};

pub(super) const FIX: FixSpec =
    FixSpec { id: "mtu.clamp", risk: Risk::R1, title: "lower the segments of new TCP connections to what gets through" };
const NETWORK: FixSpec = FixSpec { id: "mtu.network", risk: Risk::R4, title: "make a network anew with a smaller MTU" };

pub(super) static SPEC: CheckSpec = CheckSpec {
    id: "mtu.path",
    title: "full packets get through",
    codes: &[EXCEEDS, BLACKHOLE, ICMP, MISSING, CLAMP, PROBING],
    fixes: &[FIX, NETWORK],
    timeout: Duration::from_secs(9),
};

/// Settings that matter.
const SYSCTLS: &[&str] = &["net.ipv4.tcp_mtu_probing", "net.ipv4.ip_no_pmtu_disc"];

pub(super) struct Path {
    pub(super) settings: Settings,
}

impl Check for Path {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Target) -> Result<Evidence, ProbeError> {
        let around = Box::pin(peers::around(cx, self.settings.peers)).await?;
        let mut e = Evidence {
            egress: around.egress,
            bridges: around.bridges,
            stuck: around.stuck,
            gaps: around.gaps,
            sysctls: Tree::default().sysctls(SYSCTLS),
            ..Evidence::default()
        };
        if cx.ask.dry_run {
            e.would = around.plans.iter().map(would).collect();
            return Ok(e);
        }
        let before = cx.firewall().await;
        e.frag_fails.0 = frag_fails();
        let tried = join_all(
            around.plans.iter().map(|plan| path::try_path(plan.from.pid, plan.peer.clone(), Some(plan.way.limit()), plan.asked)),
        )
        .await;
        for (plan, tried) in around.plans.into_iter().zip(tried) {
            match tried {
                Ok(tried) => e.looks.push(Look {
                    from: plan.from.container,
                    network: plan.from.network,
                    peer: plan.peer,
                    asked: plan.asked,
                    way: plan.way,
                    tried,
                }),
                Err(ProbeError::Skip(_)) => {}
                Err(error) => e.gaps.push(error.to_string()),
            }
        }
        e.frag_fails.1 = frag_fails();
        match before {
            // what the rules counted meanwhile is looked at only where it matters
            Ok(before) if e.looks.iter().any(Look::is_lost) || has_mss_rule(&before) => match firewall::read().await {
                Ok(after) => e.keep(&before, &after),
                Err(error) => e.gaps.push(error.to_string()),
            },
            Ok(before) => e.keep(&before, &before),
            Err(error) => e.gaps.push(error.to_string()),
        }
        e.gaps.sort();
        e.gaps.dedup();
        Ok(e)
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut judgement = Judgement { gaps: e.gaps.clone(), ..Judgement::default() };
        if !e.would.is_empty() {
            judgement.skip = Some(format!(
                "a dry run: nothing was sent. It would make up to {} connections for each of {}, and send at most {} KiB each",
                CONNECTIONS,
                opsctl_core::model::quantity::count(e.would.len(), "path"),
                BUDGET >> 10
            ));
            judgement.tables.push(would_table(&e.would));
            return judgement;
        }
        judgement.findings.extend(bridges(e));
        judgement.findings.extend(blackholes(e));
        judgement.findings.extend(filters(e));
        judgement.findings.extend(rules(e));
        if judgement.findings.iter().any(|f| f.code == BLACKHOLE.id)
            && e.sysctls.get("net.ipv4.tcp_mtu_probing").is_some_and(|v| v == "0")
        {
            judgement.findings.push(
                Finding::new(&PROBING, Severity::Info, Subject::host(), "net.ipv4.tcp_mtu_probing is 0").cite(
                    "what it does",
                    "1 makes a connection try smaller packets after some were lost; off by default (tcp(7))",
                ),
            );
        }
        if !e.looks.is_empty() {
            judgement.tables.push(table(e));
        }
        judgement
    }

    fn plan(&self, fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        if fix == NETWORK.id {
            return Err(Refusal::ByHand(by_hand(finding, e)));
        }
        clamp::plan(finding, judged, e)
    }
}

/// A path takes no more: the first connection, one with small segments, the proof, and the steps of the search.
const CONNECTIONS: usize = 9;

fn frag_fails() -> u64 {
    counters().get("Ip.FragFails").copied().unwrap_or(0)
}

fn has_mss_rule(firewall: &firewall::Firewall) -> bool {
    firewall.rules.iter().any(|r| matches!(r.effect, Effect::ClampMss | Effect::SetMss(_)))
}

fn would(plan: &peers::Plan) -> Would {
    let says = match &plan.peer.speech {
        Speech::Http { .. } => "an HTTP request with padding",
        Speech::Tls { .. } => "the first message of a TLS handshake",
        Speech::Silence => "nothing: a connection only",
    };
    let from = plan.from.container.clone().unwrap_or_else(|| "this host".to_owned());
    Would { from, to: plan.peer.name.clone(), says: says.to_owned() }
}

fn would_table(all: &[Would]) -> Table {
    Table {
        title: "What would be sent".to_owned(),
        columns: ["from", "to", "what"].map(str::to_owned).to_vec(),
        rows: all.iter().map(|w| vec![w.from.clone(), w.to.clone(), w.says.clone()]).collect(),
        note: Some(format!("at most {} KiB each, in at most {CONNECTIONS} connections", BUDGET >> 10)),
    }
}

fn table(e: &Evidence) -> Table {
    let said = |fate: &Fate| match fate {
        Fate::Arrives => "arrive".to_owned(),
        Fate::Vanishes { lost, arrived: Some(arrived) } => format!("{lost} vanish, {arrived} arrive"),
        Fate::Vanishes { lost, arrived: None } => format!("{lost} vanish"),
        Fate::Unclear { why } => why.clone(),
        Fate::Untried => String::new(),
    };
    let out = |l: &Look| match &l.tried.no_connection {
        Some(_) => "no connection".to_owned(),
        None => said(&l.tried.out),
    };
    Table {
        title: "Full packets".to_owned(),
        columns: ["from", "to", "way", "out", "back"].map(str::to_owned).to_vec(),
        rows: e
            .looks
            .iter()
            .map(|l| {
                let way = format!("{} {}", l.way.interface, l.way.limit());
                vec![l.place(), l.peer.name.clone(), way, out(l), said(&l.tried.back)]
            })
            .collect(),
        note: None,
    }
}

/// The interface packets leave by.
fn subject(interface: &str) -> Subject {
    Subject { kind: Kind::Interface, name: interface.to_owned(), identity: interface.to_owned() }
}

/// A rule that lowers the segments of what containers send, as far as that can be told from the rule alone.
fn lowers(e: &Evidence) -> bool {
    e.mss_rules.iter().any(|r| r.shadow.is_none() && r.rule.output.is_none() && r.rule.input.is_none())
}

fn bridges(e: &Evidence) -> Vec<Finding> {
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
    match names.len() {
        0..=5 => names.join(", "),
        n => format!("{} and {} more", names[..5].join(", "), n - 5),
    }
}

fn by_hand(finding: &Finding, e: &Evidence) -> String {
    let bridge = e.bridges.iter().find(|b| b.interface == finding.subject.name);
    let limit = e.egress.as_ref().map_or(1450, opsctl_core::probe::network::Way::limit);
    match bridge {
        Some(Bridge { network, .. }) if network == "bridge" => {
            format!(
                "set \"mtu\": {limit} in /etc/docker/daemon.json and restart Docker; containers on docker0 then start with it"
            )
        }
        Some(Bridge { network, containers, .. }) => format!(
            "docker network create -o com.docker.network.driver.mtu={limit} NEW, move its {} there, remove {network} (compose: `driver_opts` of the network, then down and up)",
            opsctl_core::model::quantity::count(containers.len(), "container")
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

fn blackholes(e: &Evidence) -> Vec<Finding> {
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
            f = f.cite(format!("{} to {}", l.place(), l.peer.name), said(l)).key(KeyKind::Address, &l.peer.name);
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
    let again = opsctl_core::model::quantity::count(t.retransmitted as usize, "segment");
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
fn filters(e: &Evidence) -> Vec<Finding> {
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
            f = f.cite("rule", format!("{} {}, chain {}", rule.backend.program(), rule.table, rule.chain)).cite(
                "matched meanwhile",
                opsctl_core::model::quantity::count(usize::try_from(meanwhile).unwrap_or(0), "packet"),
            );
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
fn rules(e: &Evidence) -> Vec<Finding> {
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
    let limit = e.egress.as_ref().map(opsctl_core::probe::network::Way::limit);
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
    if e.engine.is_some_and(|engine| engine != r.backend) && r.backend == opsctl_core::probe::firewall::Backend::Legacy {
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
