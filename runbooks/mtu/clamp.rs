//! `mtu.clamp`: which rule helps, and where it is kept.

use opsctl_core::model::{Action, Finding, FixSpec, Judged, Plan, Refusal};
use opsctl_core::probe::firewall::{Backend, Effect};
use opsctl_core::probe::path::{BUDGET, Fate};

use super::bottleneck::{self, Bottleneck, HEADERS};
use super::evidence::{Evidence, Look};
use super::findings::arrived;
use super::path::{FIX, SPEC};

/// What marks a rule of opsctl.
pub(super) const COMMENT: &str = "opsctl-mss";

/// The table of nftables that opsctl keeps its rules in, where iptables is not used.
pub(super) const NATIVE_TABLE: &str = "opsctl_mss";

/// No smaller segments are asked for: IPv4 carries packets of 576 bytes everywhere (RFC 1122 3.3.3).
const LEAST_MSS: u32 = 536;

/// A rule that is wanted: what to do with the SYNs that pass a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    hook: &'static str,
    effect: Effect,
}

pub(super) fn plan(finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
    let interface = &finding.subject.name;
    let lost: Vec<&Look> = e.looks.iter().filter(|l| l.is_lost() && l.way.interface == *interface).collect();
    if lost.is_empty() {
        return Err(Refusal::Precondition(
            "no path was tried and seen to lose full packets; name a peer that speaks HTTP or TLS".to_owned(),
        ));
    }
    if let Some(v6) = lost.iter().find(|l| l.peer.address.is_ipv6()) {
        return Err(Refusal::ByHand(format!(
            "the path to {} is IPv6: ip6tables -t mangle -I FORWARD 1 -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
            v6.peer.name
        )));
    }
    let backend = backend(e)?;
    let wanted = wanted(&lost, e)?;
    let there = |w: &Wanted| {
        let hook = |h: Option<&String>| h.is_some_and(|h| h.eq_ignore_ascii_case(w.hook));
        e.mss_rules.iter().any(|r| r.is_ours() && r.rule.backend == backend && hook(r.hook.as_ref()) && r.rule.effect == w.effect)
    };
    if wanted.iter().all(there) {
        return Err(Refusal::Precondition("the rule is there already, and does not help".to_owned()));
    }
    let (actions, undo) = actions(backend, &wanted.into_iter().filter(|w| !there(w)).collect::<Vec<_>>(), e);
    let peers: Vec<&str> = lost.iter().map(|l| l.peer.name.as_str()).collect();
    Ok(build(&FIX, finding, judged, actions, undo).affects([
        "new TCP connections through this host; those that are open stay as they are, and UDP is not touched".to_owned(),
        format!("verified by new connections to {}: at most {} KiB to each, as before", peers.join(", "), BUDGET >> 10),
    ]))
}

fn build(fix: &FixSpec, finding: &Finding, judged: &Judged<'_>, actions: Vec<Action>, undo: Vec<Action>) -> Plan {
    Plan::new(fix, &SPEC, finding, judged.target, actions)
        .undo(undo)
        .recurs("a reboot removes the rule: `opsctl fix mtu.persist` keeps it")
}

/// Where the engine keeps its rules; without one, where this host can keep any.
fn backend(e: &Evidence) -> Result<Backend, Refusal> {
    let has = |b: Backend| e.programs.iter().any(|(p, _)| *p == b);
    if let Some(engine) = e.engine {
        return if has(engine) {
            Ok(engine)
        } else {
            Err(Refusal::Precondition(format!("the engine keeps its rules with {}, which is not installed", engine.program())))
        };
    }
    let known = e.mss_rules.first().map(|r| r.rule.backend).filter(|b| has(*b));
    let first = [Backend::Nft, Backend::Native, Backend::Legacy].into_iter().find(|b| has(*b));
    known.or(first).ok_or_else(|| Refusal::Precondition("neither iptables nor nft is installed".to_owned()))
}

/// The rules that make packets small enough, by what was measured.
fn wanted(lost: &[&Look], e: &Evidence) -> Result<Vec<Wanted>, Refusal> {
    if lost.iter().all(|l| bottleneck::of(l) == Some(Bottleneck::Here)) {
        // the kernel takes the smaller of both directions' interfaces (net/netfilter/xt_TCPMSS.c): a SYN and its answer are both lowered
        return Ok(vec![Wanted { hook: "FORWARD", effect: Effect::ClampMss }]);
    }
    // the peer's side of the bottleneck is known to nobody here: only a number helps
    let sizes: Option<Vec<u32>> = lost.iter().map(|l| arrived(l)).collect();
    let size = sizes.and_then(|s| s.into_iter().min()).ok_or_else(|| {
        Refusal::Precondition("the size that gets through was not found within the budget; run it again".to_owned())
    })?;
    let mss = size.saturating_sub(HEADERS);
    if mss < LEAST_MSS {
        return Err(Refusal::Precondition(format!(
            "only packets of {size} bytes get through: that is no matter of segment sizes"
        )));
    }
    let effect = Effect::SetMss(mss);
    let own = lost.iter().any(|l| l.from.is_none());
    let forwarded = lost.iter().any(|l| l.from.is_some());
    let containers = e.bridges.iter().any(|b| !b.containers.is_empty());
    let fine =
        e.looks.iter().any(|l| l.from.is_some() && l.way.interface == lost[0].way.interface && l.tried.out == Fate::Arrives);
    let mut all = Vec::new();
    // containers leave by the same way as the host
    if forwarded || (containers && !fine) {
        all.push(Wanted { hook: "FORWARD", effect: effect.clone() });
    }
    if own {
        // what this host announces, and what is announced to it
        all.push(Wanted { hook: "OUTPUT", effect: effect.clone() });
        all.push(Wanted { hook: "INPUT", effect });
    }
    Ok(all)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| (*w).to_owned()).collect()
}

/// What adds the rules, and what takes them back, in the opposite order.
fn actions(backend: Backend, wanted: &[Wanted], e: &Evidence) -> (Vec<Action>, Vec<Action>) {
    if backend == Backend::Native {
        return native(wanted, e);
    }
    let program = e.programs.iter().find(|(b, _)| *b == backend).map_or_else(String::new, |(_, p)| p.clone());
    let (mut actions, mut undo) = (Vec::new(), Vec::new());
    for w in wanted {
        let rule = [
            words(&["-p", "tcp", "--tcp-flags", "SYN,RST", "SYN", "-m", "comment", "--comment", COMMENT, "-j", "TCPMSS"]),
            how(&w.effect),
        ]
        .concat();
        let (table, chain) = ("mangle".to_owned(), w.hook.to_owned());
        // a chain that only our rule brought into being goes with it
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

fn how(effect: &Effect) -> Vec<String> {
    match effect {
        Effect::SetMss(mss) => vec!["--set-mss".to_owned(), mss.to_string()],
        _ => vec!["--clamp-mss-to-pmtu".to_owned()],
    }
}

/// What nft is told of a chain that packets pass at `hook`.
pub(super) fn native_hook(hook: &str) -> String {
    format!("{{ type filter hook {hook} priority -150 ; }}")
}

/// What nft is told of a rule for segments.
pub(super) fn native_rule(effect: &Effect) -> String {
    let size = match effect {
        Effect::SetMss(mss) => mss.to_string(),
        _ => "rt mtu".to_owned(),
    };
    format!("tcp flags & (syn|rst) == syn counter tcp option maxseg size set {size} comment \"{COMMENT}\"")
}

/// A table of our own: deleting it leaves nothing behind.
fn native(wanted: &[Wanted], e: &Evidence) -> (Vec<Action>, Vec<Action>) {
    let nft = |rest: &[&str]| Action::Run { argv: [words(&["nft"]), words(rest)].concat() };
    let mut actions = vec![nft(&["add", "table", "ip", NATIVE_TABLE])];
    for w in wanted {
        let hook = w.hook.to_lowercase();
        actions.push(nft(&["add", "chain", "ip", NATIVE_TABLE, &hook, &native_hook(&hook)]));
        actions.push(nft(&["add", "rule", "ip", NATIVE_TABLE, &hook, &native_rule(&w.effect)]));
    }
    let had = e.nft_chains.iter().any(|c| c.starts_with(&format!("ip {NATIVE_TABLE} ")));
    let undo = if had { Vec::new() } else { vec![nft(&["delete", "table", "ip", NATIVE_TABLE])] };
    (actions, undo)
}
