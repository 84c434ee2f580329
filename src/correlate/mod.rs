//! Which finding causes which. Links are data beside the runbooks; here they meet the findings of one run.
//!
//! A link holds between two findings only when both share the object it names (the same container, the same filesystem):
//! independent faults are never merged. A cause that began clearly after its effect is none.

use jiff::SignedDuration;
use opsctl_core::model::{Cause, Confidence, Finding, Link, Severity};

/// How much later than its effect a cause may seem to begin: probes and log timestamps are not exact.
const SLACK: SignedDuration = SignedDuration::from_mins(2);

/// Sets `explained_by` of every finding that another one causes, and says what each root explains.
pub fn correlate(findings: &mut [Finding], links: &[&Link]) -> Vec<Cause> {
    let parents: Vec<Option<(usize, &Link)>> = (0..findings.len()).map(|e| parent(findings, links, e)).collect();
    for (effect, parent) in parents.iter().enumerate() {
        findings[effect].explained_by = parent.map(|(cause, _)| findings[cause].id.clone());
    }
    let mut causes: Vec<(usize, Cause)> = Vec::new();
    for (effect, parent) in parents.iter().enumerate() {
        let Some((_, link)) = parent else { continue };
        let (root, confidence) = root_of(&parents, effect);
        let because = format!("{} {}: {}", findings[effect].code, findings[effect].subject.name, link.because);
        let id = findings[effect].id.clone();
        match causes.iter_mut().find(|(r, _)| *r == root) {
            Some((_, cause)) => {
                cause.explains.push(id);
                cause.because.push(because);
                if confidence == Confidence::Likely {
                    cause.confidence = Confidence::Likely;
                }
            }
            None => causes
                .push((root, Cause { root: findings[root].id.clone(), explains: vec![id], because: vec![because], confidence })),
        }
    }
    causes.sort_by_key(|(root, _)| *root);
    causes.into_iter().map(|(_, cause)| cause).collect()
}

/// The best cause of one finding: confirmed before likely, then the one that accounts for most, then the more severe.
fn parent<'l>(findings: &[Finding], links: &[&'l Link], effect: usize) -> Option<(usize, &'l Link)> {
    let e = &findings[effect];
    if e.severity == Severity::Info {
        return None;
    }
    links
        .iter()
        .filter(|l| l.effect == e.code)
        .flat_map(|l| findings.iter().enumerate().map(move |(i, c)| (i, c, *l)))
        .filter(|(i, c, l)| *i != effect && c.code == l.cause && c.severity > Severity::Info && tied(c, e, l) && in_order(c, e))
        .max_by_key(|(i, c, l)| (l.confidence == Confidence::Confirmed, c.weight, c.severity, std::cmp::Reverse(*i)))
        .map(|(i, _, l)| (i, l))
}

fn tied(cause: &Finding, effect: &Finding, link: &Link) -> bool {
    cause.keys.iter().any(|k| k.kind == link.tie && effect.keys.contains(k))
}

fn in_order(cause: &Finding, effect: &Finding) -> bool {
    match (cause.since, effect.since) {
        (Some(c), Some(e)) => c.duration_since(e) <= SLACK,
        _ => true,
    }
}

/// Follows the parents up. The graph of codes is acyclic (tested), so this ends; the bound guards a bad link all the same.
fn root_of(parents: &[Option<(usize, &Link)>], effect: usize) -> (usize, Confidence) {
    let mut at = effect;
    let mut confidence = Confidence::Confirmed;
    for _ in 0..parents.len() {
        let Some((cause, link)) = parents[at] else { break };
        if link.confidence == Confidence::Likely {
            confidence = Confidence::Likely;
        }
        at = cause;
    }
    (at, confidence)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use opsctl_core::model::{Code, KeyKind, Kind, Subject};

    use super::*;

    static A: Code = Code { id: "x.a", severities: &[Severity::Crit], when: "", hint: "" };
    static B: Code = Code { id: "x.b", severities: &[Severity::Crit], when: "", hint: "" };
    static C: Code = Code { id: "x.c", severities: &[Severity::Crit], when: "", hint: "" };
    static AB: Link = Link {
        cause: "x.a",
        effect: "x.b",
        tie: KeyKind::Container,
        confidence: Confidence::Confirmed,
        because: "a makes b",
        treatable: false,
    };
    static BC: Link = Link {
        cause: "x.b",
        effect: "x.c",
        tie: KeyKind::Filesystem,
        confidence: Confidence::Likely,
        because: "b makes c",
        treatable: false,
    };

    fn finding(code: &'static Code, id: &str) -> Finding {
        let subject = Subject { kind: Kind::Container, name: id.into(), identity: id.into() };
        let mut f = Finding::new(code, Severity::Crit, subject, "");
        f.id = id.into();
        f
    }

    #[test]
    fn a_chain_has_one_root_and_is_as_sure_as_its_weakest_link() {
        let mut f = [
            finding(&C, "f1").key(KeyKind::Filesystem, "8:1"),
            finding(&B, "f2").key(KeyKind::Container, "k").key(KeyKind::Filesystem, "8:1"),
            finding(&A, "f3").key(KeyKind::Container, "k"),
        ];
        let causes = correlate(&mut f, &[&AB, &BC]);
        assert_eq!(causes.len(), 1);
        assert_eq!((causes[0].root.as_str(), causes[0].explains.join(" ").as_str()), ("f3", "f1 f2"));
        assert_eq!(causes[0].confidence, Confidence::Likely);
        assert_eq!(f.map(|f| f.explained_by), [Some("f2".into()), Some("f3".into()), None]);
    }

    #[test]
    fn other_objects_are_never_merged() {
        let mut f = [finding(&A, "f1").key(KeyKind::Container, "one"), finding(&B, "f2").key(KeyKind::Container, "two")];
        assert!(correlate(&mut f, &[&AB]).is_empty());
        // nor does the same text of another kind tie them
        let mut f = [finding(&A, "f1").key(KeyKind::Filesystem, "one"), finding(&B, "f2").key(KeyKind::Filesystem, "one")];
        assert!(correlate(&mut f, &[&AB]).is_empty());
    }

    #[test]
    fn a_cause_does_not_come_after_its_effect() {
        let at = |s| Timestamp::from_second(s).ok();
        let pair = |cause, effect| {
            let mut f = [
                finding(&A, "f1").key(KeyKind::Container, "k").since(at(cause)),
                finding(&B, "f2").key(KeyKind::Container, "k").since(at(effect)),
            ];
            correlate(&mut f, &[&AB]).len()
        };
        assert_eq!((pair(1000, 1000), pair(1060, 1000), pair(5000, 1000)), (1, 1, 0));
    }

    #[test]
    fn the_largest_cause_explains() {
        let mut f = [
            finding(&B, "f1").key(KeyKind::Container, "k"),
            finding(&A, "f2").key(KeyKind::Container, "k").weight(5),
            finding(&A, "f3").key(KeyKind::Container, "k").weight(50),
        ];
        correlate(&mut f, &[&AB]);
        assert_eq!(f[0].explained_by.as_deref(), Some("f3"));
    }
}
