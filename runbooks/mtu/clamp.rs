//! `mtu.clamp`: choice of the rule and of its packet filter backend.

use opsctl_core::model::{Action, Finding, FixSpec, Judged, Plan, Refusal};
use opsctl_core::probe::network::firewall::{Backend, Effect};
use opsctl_core::probe::network::path::{MAX_SENT_BYTES, PathResult};

use super::bottleneck::{self, Bottleneck, HEADERS};
use super::evidence::{Evidence, PathProbe};
use super::findings::arrived;
use super::path::{FIX, SPEC};

/// Comment that marks a rule of opsctl.
pub(super) const COMMENT: &str = "opsctl-mss";

/// The nftables table for opsctl's rules on hosts without iptables.
pub(super) const NATIVE_TABLE: &str = "opsctl_mss";

/// Lower bound of the MSS: IPv4 carries packets of 576 bytes everywhere (RFC 1122 3.3.3).
const MIN_MSS: u32 = 536;

/// A required rule: the effect on SYN packets at a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RequiredRule {
    hook: &'static str,
    effect: Effect,
}

pub(super) fn plan(finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
    let interface = &finding.subject.name;
    let lost: Vec<&PathProbe> = e.looks.iter().filter(|l| l.is_lost() && l.way.interface == *interface).collect();
    if lost.is_empty() {
        return Err(Refusal::Precondition("no probed path drops full packets; name a peer that uses HTTP or TLS".to_owned()));
    }
    if let Some(v6) = lost.iter().find(|l| l.peer.address.is_ipv6()) {
        return Err(Refusal::ByHand(format!(
            "the path to {} is IPv6: ip6tables -t mangle -I FORWARD 1 -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
            v6.peer.name
        )));
    }
    let backend = backend(e)?;
    let required = required_rules(&lost, e)?;
    let exists = |w: &RequiredRule| {
        let hook = |h: Option<&String>| h.is_some_and(|h| h.eq_ignore_ascii_case(w.hook));
        e.mss_rules.iter().any(|r| r.is_own() && r.rule.backend == backend && hook(r.hook.as_ref()) && r.rule.effect == w.effect)
    };
    if required.iter().all(exists) {
        return Err(Refusal::Precondition("the rule exists already and has no effect".to_owned()));
    }
    let (actions, undo) = actions(backend, &required.into_iter().filter(|w| !exists(w)).collect::<Vec<_>>(), e);
    let peers: Vec<&str> = lost.iter().map(|l| l.peer.name.as_str()).collect();
    Ok(build(&FIX, finding, judged, actions, undo).affects([
        "new TCP connections through this host; open connections and UDP are not changed".to_owned(),
        format!("verified by new connections to {}: at most {} KiB to each, as before", peers.join(", "), MAX_SENT_BYTES >> 10),
    ]))
}

fn build(fix: &FixSpec, finding: &Finding, judged: &Judged<'_>, actions: Vec<Action>, undo: Vec<Action>) -> Plan {
    Plan::new(fix, &SPEC, finding, judged.target, actions)
        .undo(undo)
        .recurs("a reboot removes the rule: `opsctl fix mtu.persist` makes it persistent")
}

/// The packet filter backend of the engine; without an engine, an installed one.
fn backend(e: &Evidence) -> Result<Backend, Refusal> {
    let has = |b: Backend| e.programs.iter().any(|(p, _)| *p == b);
    if let Some(engine) = e.engine {
        return if has(engine) {
            Ok(engine)
        } else {
            Err(Refusal::Precondition(format!("the engine uses {}, which is not installed", engine.program())))
        };
    }
    let known = e.mss_rules.first().map(|r| r.rule.backend).filter(|b| has(*b));
    let first = [Backend::Nft, Backend::Native, Backend::Legacy].into_iter().find(|b| has(*b));
    known.or(first).ok_or_else(|| Refusal::Precondition("neither iptables nor nft is installed".to_owned()))
}

/// The rules that limit packets to the measured size.
fn required_rules(lost: &[&PathProbe], e: &Evidence) -> Result<Vec<RequiredRule>, Refusal> {
    if lost.iter().all(|l| bottleneck::of(l) == Some(Bottleneck::Here)) {
        // the smaller MTU of both interfaces is used (net/netfilter/xt_TCPMSS.c): it clamps SYN and SYN-ACK
        return Ok(vec![RequiredRule { hook: "FORWARD", effect: Effect::ClampMss }]);
    }
    // the MTU behind the bottleneck is unknown to this host: only a fixed MSS helps
    let sizes: Option<Vec<u32>> = lost.iter().map(|l| arrived(l)).collect();
    let size = sizes.and_then(|s| s.into_iter().min()).ok_or_else(|| {
        Refusal::Precondition("the largest size that arrives was not found within the budget; run it again".to_owned())
    })?;
    let mss = size.saturating_sub(HEADERS);
    if mss < MIN_MSS {
        return Err(Refusal::Precondition(format!("only packets of {size} bytes arrive: MSS clamping cannot fix that")));
    }
    let effect = Effect::SetMss(mss);
    let own = lost.iter().any(|l| l.from.is_none());
    let forwarded = lost.iter().any(|l| l.from.is_some());
    let containers = e.bridges.iter().any(|b| !b.containers.is_empty());
    let fine = e
        .looks
        .iter()
        .any(|l| l.from.is_some() && l.way.interface == lost[0].way.interface && l.tried.out == PathResult::Arrives);
    let mut all = Vec::new();
    // containers and host share the egress
    if forwarded || (containers && !fine) {
        all.push(RequiredRule { hook: "FORWARD", effect: effect.clone() });
    }
    if own {
        // the MSS announced by this host, and the MSS announced to it
        all.push(RequiredRule { hook: "OUTPUT", effect: effect.clone() });
        all.push(RequiredRule { hook: "INPUT", effect });
    }
    Ok(all)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| (*w).to_owned()).collect()
}

/// Actions that add the rules, and the undo in reverse order.
fn actions(backend: Backend, required: &[RequiredRule], e: &Evidence) -> (Vec<Action>, Vec<Action>) {
    if backend == Backend::Native {
        return native(required, e);
    }
    let program = e.programs.iter().find(|(b, _)| *b == backend).map_or_else(String::new, |(_, p)| p.clone());
    let (mut actions, mut undo) = (Vec::new(), Vec::new());
    for w in required {
        let rule = [
            words(&["-p", "tcp", "--tcp-flags", "SYN,RST", "SYN", "-m", "comment", "--comment", COMMENT, "-j", "TCPMSS"]),
            target_args(&w.effect),
        ]
        .concat();
        let (table, chain) = ("mangle".to_owned(), w.hook.to_owned());
        // the undo also removes a chain that was created for the rule
        let tidy = backend == Backend::Nft && !e.nft_chains.contains(&format!("ip mangle {chain}"));
        actions.push(Action::AddRule {
            program: program.clone(),
            table: table.clone(),
            chain: chain.clone(),
            rule: rule.clone(),
        });
        undo.insert(0, Action::RemoveRule { program: program.clone(), table, chain, rule, tidy });
    }
    (actions, undo)
}

fn target_args(effect: &Effect) -> Vec<String> {
    match effect {
        Effect::SetMss(mss) => vec!["--set-mss".to_owned(), mss.to_string()],
        _ => vec!["--clamp-mss-to-pmtu".to_owned()],
    }
}

/// nft specification of a chain at `hook`.
pub(super) fn native_hook(hook: &str) -> String {
    format!("{{ type filter hook {hook} priority -150 ; }}")
}

/// nft specification of an MSS rule.
pub(super) fn native_rule(effect: &Effect) -> String {
    let size = match effect {
        Effect::SetMss(mss) => mss.to_string(),
        _ => "rt mtu".to_owned(),
    };
    format!("tcp flags & (syn|rst) == syn counter tcp option maxseg size set {size} comment \"{COMMENT}\"")
}

/// A separate table: deleting it removes all rules of opsctl.
fn native(required: &[RequiredRule], e: &Evidence) -> (Vec<Action>, Vec<Action>) {
    let nft = |rest: &[&str]| Action::Run { argv: [words(&["nft"]), words(rest)].concat() };
    let mut actions = vec![nft(&["add", "table", "ip", NATIVE_TABLE])];
    for w in required {
        let hook = w.hook.to_lowercase();
        actions.push(nft(&["add", "chain", "ip", NATIVE_TABLE, &hook, &native_hook(&hook)]));
        actions.push(nft(&["add", "rule", "ip", NATIVE_TABLE, &hook, &native_rule(&w.effect)]));
    }
    let had = e.nft_chains.iter().any(|c| c.starts_with(&format!("ip {NATIVE_TABLE} ")));
    let undo = if had { Vec::new() } else { vec![nft(&["delete", "table", "ip", NATIVE_TABLE])] };
    (actions, undo)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use opsctl_core::model::{Check, Object};
    use opsctl_core::probe::network::firewall::Rule;

    use super::super::Settings;
    use super::super::evidence::MssRule;
    use super::super::path::{BLACKHOLE, Path};
    use super::*;

    fn fixture(text: &str, change: impl FnOnce(&mut Evidence)) -> Evidence {
        let fixture: serde_json::Value = serde_json::from_str(text).unwrap();
        let mut e: Evidence = serde_json::from_value(fixture["evidence"].clone()).unwrap();
        change(&mut e);
        e
    }

    /// Packets over 1400 bytes from the container web are dropped behind ens3.
    fn lost(change: impl FnOnce(&mut Evidence)) -> Evidence {
        fixture(include_str!("fixtures/remote-no-rule.json"), change)
    }

    /// The plan of the fix, if the finding offers it.
    fn offered(e: &Evidence) -> Option<Result<Plan, Refusal>> {
        let target = Object::host();
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let check = Path { settings: Settings::default() };
        let findings = check.judge(&judged, e).findings;
        let finding = findings.iter().find(|f| f.code == BLACKHOLE.id && f.fixes.contains(&FIX.id.to_owned()))?;
        Some(check.plan(FIX.id, finding, &judged, e))
    }

    fn refused(change: impl FnOnce(&mut Evidence)) -> String {
        offered(&lost(change)).unwrap().unwrap_err().to_string()
    }

    #[test]
    fn segments_are_clamped_to_the_measured_size() {
        let plan = offered(&lost(|_| {})).unwrap().unwrap();
        let sets =
            |action: &Action| matches!(action, Action::AddRule { rule, .. } if rule.ends_with(&words(&["--set-mss", "1360"])));
        assert!(plan.actions.iter().all(sets) && plan.undo.len() == plan.actions.len(), "{plan:?}");
        assert!(plan.blast[0].contains("open connections and UDP are not changed"), "{:?}", plan.blast);
    }

    #[test]
    fn clamp_of_an_unmeasured_path_is_not_offered() {
        assert!(offered(&fixture(include_str!("fixtures/stuck-database.json"), |_| {})).is_none());
    }

    #[test]
    fn clamp_that_cannot_help_is_refused() {
        let without_backend = refused(|e| e.programs.clear());
        assert!(without_backend.contains("the engine uses iptables-nft, which is not installed"), "{without_backend}");
        let unknown = refused(|e| e.looks[0].tried.out = PathResult::Vanishes { lost: 1410, arrived: None });
        assert!(unknown.contains("the largest size that arrives was not found"), "{unknown}");
        let tiny = refused(|e| e.looks[0].tried.out = PathResult::Vanishes { lost: 560, arrived: Some(556) });
        assert!(tiny.contains("MSS clamping cannot fix that"), "{tiny}");
        let exists = refused(|e| {
            let text = format!("-A FORWARD -p tcp -m comment --comment {COMMENT} -j TCPMSS --set-mss 1360");
            let (backend, chain) = (Backend::Nft, "FORWARD".to_owned());
            let mut rule: Rule = rule_of(text);
            (rule.backend, rule.chain, rule.effect) = (backend, chain, Effect::SetMss(1360));
            e.mss_rules.push(MssRule { rule, hook: Some("FORWARD".into()), shadow: None, before: Some(1) });
        });
        assert!(exists.contains("the rule exists already and has no effect"), "{exists}");
    }

    /// A rule of the fixture `number-too-large`, with another text.
    fn rule_of(text: String) -> Rule {
        let e = fixture(include_str!("fixtures/number-too-large.json"), |_| {});
        Rule { text, ..e.mss_rules[0].rule.clone() }
    }

    #[test]
    fn clamp_of_ipv6_is_left_to_the_operator() {
        let e = fixture(include_str!("fixtures/ipv6.json"), |_| {});
        assert!(matches!(offered(&e), Some(Err(Refusal::ByHand(why))) if why.contains("ip6tables")));
    }

    #[test]
    fn clamp_is_verified_by_the_paths_that_were_lost() {
        let target = Object::host();
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let check = Path { settings: Settings::default() };
        let findings = check.judge(&judged, &lost(|_| {})).findings;
        let before = findings.iter().find(|f| f.code == BLACKHOLE.id).unwrap();
        assert_eq!(before.facts, ["out web to 203.0.113.9:443"]);
        // the engine does not respond any more, and the path was measured nevertheless
        let after = check.judge(
            &judged,
            &lost(|e| {
                e.looks[0].tried.out = PathResult::Arrives;
                e.gaps.push("the container engine does not respond".into());
            }),
        );
        assert!(after.findings.iter().all(|f| f.code != BLACKHOLE.id));
        assert!(before.facts.iter().all(|fact| after.facts.contains(fact)), "{:?}", after.facts);
    }
}
