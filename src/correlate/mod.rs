//! Causes of findings: applies the links of the runbooks to the findings of one run, and cites the changes that preceded them.
//!
//! A link applies to two findings only if both share the object it names (the same container, the same filesystem): independent
//! faults are never merged. A finding that began clearly after another is not its cause, and info findings neither explain nor are
//! explained.

mod before;
#[cfg(test)]
mod groups;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod ties;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use jiff::SignedDuration;
use opsctl_core::model::{Cause, Confidence, Finding, Key, KeyKind, Link, Reported, Severity};

pub use before::{cite, reach};

/// Tolerance for a cause that begins after its effect: probes and log timestamps are not exact.
const SLACK: SignedDuration = SignedDuration::from_mins(2);

/// The cause of a finding, by its index in the report, and the link.
type Parent<'l> = Option<(usize, &'l Link)>;

/// Sets `explained_by` of every finding with a cause, and returns the root causes with their effects: the most severe root first, then
/// the one with the most effects.
pub fn correlate(findings: &mut [Reported], links: &[&Link]) -> Vec<Cause> {
    let (mut parents, _) = parents(findings, links);
    break_cycles(&mut parents);
    for (effect, parent) in parents.iter().enumerate() {
        findings[effect].explained_by = parent.map(|(cause, _)| findings[cause].id.clone());
    }
    let mut causes: BTreeMap<usize, Cause> = BTreeMap::new();
    for (effect, parent) in parents.iter().enumerate() {
        let Some((_, link)) = parent else { continue };
        let (root, confidence) = root_of(&parents, effect);
        let cause = causes.entry(root).or_insert_with(|| Cause {
            root: findings[root].id.clone(),
            explains: Vec::new(),
            because: Vec::new(),
            confidence: Confidence::Confirmed,
        });
        cause.explains.push(findings[effect].id.clone());
        cause.because.push(format!("{} {}: {}", findings[effect].code, findings[effect].subject.name, link.because));
        if confidence == Confidence::Likely {
            cause.confidence = Confidence::Likely;
        }
    }
    let mut causes: Vec<(usize, Cause)> = causes.into_iter().collect();
    causes.sort_by_key(|(root, cause)| (Reverse(findings[*root].severity), Reverse(cause.explains.len()), *root));
    causes.into_iter().map(|(_, cause)| cause).collect()
}

/// The best cause of every finding, and the number of compared candidates, which must not grow quadratically with the number of
/// findings.
fn parents<'l>(findings: &[Reported], links: &[&'l Link]) -> (Vec<Parent<'l>>, usize) {
    let counts = |f: &&Reported| f.severity > Severity::Info;
    let mut of_effect: HashMap<&str, Vec<&'l Link>> = HashMap::new();
    for link in links {
        of_effect.entry(link.effect).or_default().push(link);
    }
    // possible causes by code and shared object; the best first, so that the first match is used
    let mut with: HashMap<(&str, &Key), Vec<usize>> = HashMap::new();
    for (at, cause) in findings.iter().enumerate().filter(|(_, f)| counts(f)) {
        for key in &cause.keys {
            with.entry((&cause.code, key)).or_default().push(at);
        }
    }
    for candidates in with.values_mut() {
        candidates.dedup();
        candidates.sort_by_key(|c| rank(findings, *c));
    }
    let mut compared = 0;
    let mut best = |effect: usize| -> Parent<'l> {
        let e = Some(&findings[effect]).filter(counts)?;
        let mut found: Parent<'l> = None;
        for link in of_effect.get(e.code.as_str()).into_iter().flatten() {
            // an object does not need itself: only the needs of the effect count
            let keys = if link.tie == KeyKind::Requirement { &e.needs } else { &e.keys };
            for key in keys.iter().filter(|k| k.kind == link.tie) {
                let candidates = with.get(&(link.cause, key)).into_iter().flatten();
                let fits = |c: &&usize| {
                    compared += 1;
                    **c != effect && precedes(&findings[**c], e)
                };
                // confirmed links before likely ones, and links of the same object before those of the host
                let order =
                    |(c, l): (usize, &Link)| (l.confidence != Confidence::Confirmed, l.tie == KeyKind::Host, rank(findings, c));
                if let Some(candidate) = candidates.into_iter().find(fits).map(|c| (*c, *link))
                    && found.is_none_or(|known| order(candidate) < order(known))
                {
                    found = Some(candidate);
                }
            }
        }
        found
    };
    let parents = (0..findings.len()).map(&mut best).collect::<Vec<_>>();
    let parents = parents.into_iter().enumerate().map(|(at, parent)| parent.or_else(|| fault_of_same_object(findings, at)));
    (parents.collect(), compared)
}

/// Codes about the log of a running object: errors in it are symptoms of a fault that another check has found at the object.
const SYMPTOMS: &[&str] = &["container.new-errors", "systemd.new-errors"];

static SAME_OBJECT: LazyLock<Vec<Link>> = LazyLock::new(|| {
    let link = |effect, tie| Link::likely("", effect, tie, "the same object has this fault").treatable();
    SYMPTOMS.iter().flat_map(|effect| [link(effect, KeyKind::Container), link(effect, KeyKind::Unit)]).collect()
});

/// The worst fault of the object of a symptom, if it is crit.
fn fault_of_same_object<'l>(findings: &[Reported], effect: usize) -> Parent<'l> {
    let symptom = &findings[effect];
    let links: Vec<&'static Link> = SAME_OBJECT.iter().filter(|l| l.effect == symptom.code).collect();
    if links.is_empty() || !symptom.is_open() {
        return None;
    }
    let is_fault = |f: &Reported| f.severity == Severity::Crit && !SYMPTOMS.contains(&f.code.as_str());
    let shared = |f: &Reported, link: &Link| f.keys.iter().any(|k| k.kind == link.tie && symptom.keys.contains(k));
    let faults = findings.iter().enumerate().filter(|(_, f)| is_fault(f));
    let tied = faults.filter_map(|(at, f)| Some((at, *links.iter().find(|l| shared(f, l))?)));
    tied.min_by_key(|(at, _)| rank(findings, *at))
}

/// Order of causes: by weight, then by severity, then by position in the report.
fn rank(findings: &[Reported], cause: usize) -> (Reverse<u64>, Reverse<Severity>, usize) {
    (Reverse(findings[cause].weight), Reverse(findings[cause].severity), cause)
}

fn precedes(cause: &Finding, effect: &Finding) -> bool {
    match (cause.since, effect.since) {
        (Some(c), Some(e)) => c.duration_since(e) <= SLACK,
        _ => true,
    }
}

/// Breaks cycles. The graph of codes is acyclic (tested) except for an application that needs a server of another container; in a cycle of
/// findings the first one becomes the root.
fn break_cycles(parents: &mut [Parent<'_>]) {
    // the walk that visited a finding
    let mut visited: Vec<usize> = vec![usize::MAX; parents.len()];
    for start in 0..parents.len() {
        let mut at = start;
        while visited[at] == usize::MAX {
            visited[at] = start;
            let Some((cause, _)) = parents[at] else { break };
            at = cause;
        }
        // visited twice in the same walk, and it has a cause: a cycle
        if visited[at] == start && parents[at].is_some() {
            let mut first = at;
            let mut next = at;
            while let Some((cause, _)) = parents[next] {
                first = first.min(cause);
                next = cause;
                if next == at {
                    break;
                }
            }
            parents[first] = None;
        }
    }
}

/// Follows the parents to the root.
fn root_of(parents: &[Parent<'_>], effect: usize) -> (usize, Confidence) {
    let mut at = effect;
    let mut confidence = Confidence::Confirmed;
    while let Some((cause, link)) = parents[at] {
        if link.confidence == Confidence::Likely {
            confidence = Confidence::Likely;
        }
        at = cause;
    }
    (at, confidence)
}
