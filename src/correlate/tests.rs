//! Properties that are independent of the links and findings.

use jiff::Timestamp;
use opsctl_core::model::{Code, Kind, Object};
use std::borrow::Cow;

use proptest::prelude::*;

use super::*;

static A: Code = Code { id: "x.a", severities: &[Severity::Crit], when: "", hint: "", ..Code::BASE };
static B: Code = Code { id: "x.b", severities: &[Severity::Crit], when: "", hint: "", ..Code::BASE };
static C: Code = Code { id: "x.c", severities: &[Severity::Crit], when: "", hint: "", ..Code::BASE };
static AB: Link = Link {
    cause: "x.a",
    effect: "x.b",
    tie: KeyKind::Container,
    confidence: Confidence::Confirmed,
    because: Cow::Borrowed("a makes b"),
    treatable: false,
};
static BC: Link = Link {
    cause: "x.b",
    effect: "x.c",
    tie: KeyKind::Filesystem,
    confidence: Confidence::Likely,
    because: Cow::Borrowed("b makes c"),
    treatable: false,
};

fn finding(code: &'static Code, name: &str) -> Finding {
    let subject = Object::named(Kind::Container, name);
    Finding::new(code, Severity::Crit, subject, "")
}

/// These findings as reported, with the names of their subjects as ids.
fn reported(findings: impl IntoIterator<Item = Finding>) -> Vec<Reported> {
    findings.into_iter().map(|f| Reported { id: f.subject.name.clone(), ..Reported::new(f) }).collect()
}

#[test]
fn chain_has_one_root_and_the_confidence_of_its_weakest_link() {
    let mut f = reported([
        finding(&C, "f1").key(KeyKind::Filesystem, "8:1"),
        finding(&B, "f2").key(KeyKind::Container, "k").key(KeyKind::Filesystem, "8:1"),
        finding(&A, "f3").key(KeyKind::Container, "k"),
    ]);
    let causes = correlate(&mut f, &[&AB, &BC]);
    assert_eq!(causes.len(), 1);
    assert_eq!((causes[0].root.as_str(), causes[0].explains.join(" ").as_str()), ("f3", "f1 f2"));
    assert_eq!(causes[0].confidence, Confidence::Likely);
    let explained_by: Vec<Option<&str>> = f.iter().map(|f| f.explained_by.as_deref()).collect();
    assert_eq!(explained_by, [Some("f2"), Some("f3"), None]);
}

#[test]
fn findings_of_different_objects_are_never_merged() {
    let f = [finding(&A, "f1").key(KeyKind::Container, "one"), finding(&B, "f2").key(KeyKind::Container, "two")];
    assert!(correlate(&mut reported(f), &[&AB]).is_empty());
    // equal text of another kind is no tie either
    let f = [finding(&A, "f1").key(KeyKind::Filesystem, "one"), finding(&B, "f2").key(KeyKind::Filesystem, "one")];
    assert!(correlate(&mut reported(f), &[&AB]).is_empty());
}

#[test]
fn cause_does_not_begin_after_its_effect() {
    let at = |s| Timestamp::from_second(s).ok();
    let pair = |cause, effect| {
        let f = [
            finding(&A, "f1").key(KeyKind::Container, "k").since(at(cause)),
            finding(&B, "f2").key(KeyKind::Container, "k").since(at(effect)),
        ];
        correlate(&mut reported(f), &[&AB]).len()
    };
    assert_eq!((pair(1000, 1000), pair(1060, 1000), pair(5000, 1000)), (1, 1, 0));
}

#[test]
fn cause_with_the_largest_weight_explains() {
    let mut f = reported([
        finding(&B, "f1").key(KeyKind::Container, "k"),
        finding(&A, "f2").key(KeyKind::Container, "k").weight(5),
        finding(&A, "f3").key(KeyKind::Container, "k").weight(50),
    ]);
    correlate(&mut f, &[&AB]);
    assert_eq!(f[0].explained_by.as_deref(), Some("f3"));
}

#[test]
fn info_neither_explains_nor_is_explained() {
    let pair = |cause, effect| {
        let mut f = [finding(&A, "f1").key(KeyKind::Container, "k"), finding(&B, "f2").key(KeyKind::Container, "k")];
        (f[0].severity, f[1].severity) = (cause, effect);
        correlate(&mut reported(f), &[&AB]).len()
    };
    assert_eq!(pair(Severity::Info, Severity::Crit), 0);
    assert_eq!(pair(Severity::Warn, Severity::Info), 0);
    assert_eq!(pair(Severity::Warn, Severity::Crit), 1);
}

#[test]
fn roots_are_ordered_by_severity_and_number_of_effects() {
    let mut f = [
        finding(&A, "f1").key(KeyKind::Container, "one"),
        finding(&A, "f2").key(KeyKind::Container, "two"),
        finding(&A, "f3").key(KeyKind::Container, "three"),
        finding(&B, "f4").key(KeyKind::Container, "one"),
        finding(&B, "f5").key(KeyKind::Container, "two"),
        finding(&B, "f6").key(KeyKind::Container, "two"),
        finding(&B, "f7").key(KeyKind::Container, "three"),
    ];
    f[0].severity = Severity::Warn;
    let roots: Vec<String> = correlate(&mut reported(f), &[&AB]).into_iter().map(|c| c.root).collect();
    assert_eq!(roots, ["f2", "f3", "f1"]);
}

#[test]
fn root_of_a_cycle_is_its_first_finding() {
    static CA: Link = Link::confirmed("x.c", "x.a", KeyKind::Container, "c makes a");
    static BC_SAME: Link = Link::confirmed("x.b", "x.c", KeyKind::Container, "b makes c");
    let f = [finding(&C, "f1"), finding(&B, "f2"), finding(&A, "f3"), finding(&B, "f4")];
    let f = f.map(|f| f.key(KeyKind::Container, "k"));
    let causes = correlate(&mut reported(f), &[&AB, &BC_SAME, &CA]);
    assert_eq!(causes.len(), 1);
    assert_eq!((causes[0].root.as_str(), causes[0].explains.len()), ("f1", 3));
}

#[test]
fn number_of_comparisons_is_linear() {
    // 500 containers with the same faults, and one shared fault
    static LINKS: [Link; 3] = [
        Link::confirmed("x.a", "x.b", KeyKind::Container, "a makes b"),
        Link::likely("x.b", "x.c", KeyKind::Container, "b makes c"),
        Link::likely("x.a", "x.c", KeyKind::Host, "a makes c"),
    ];
    let links: Vec<&Link> = LINKS.iter().collect();
    let mut all: Vec<Finding> = Vec::new();
    for n in 0..500 {
        for (code, name) in [(&A, "a"), (&B, "b"), (&C, "c")] {
            all.push(finding(code, &format!("{name}{n}")).key(KeyKind::Container, format!("{n}")).key(KeyKind::Host, "host"));
        }
    }
    let mut all = reported(all);
    let (_, compared) = parents(&all, &links);
    assert!(compared <= 4 * all.len(), "{compared} candidates for {} findings", all.len());
    // each finding is explained within its own container, although all are tied through the host as well
    let causes = correlate(&mut all, &links);
    assert_eq!((causes.len(), causes[0].explains.len()), (500, 2));
}

proptest! {
    /// For any findings and links: every finding has at most one cause, which is an open finding, and roots have no cause.
    #[test]
    fn every_finding_has_one_root(
        made in proptest::collection::vec((0..4_usize, 0..3_u8, 0..3_u8, 0..2_u8, proptest::option::of(0..2000_i64)), 0..40),
        ties in proptest::collection::vec((0..4_usize, 0..4_usize, proptest::bool::ANY), 0..12),
    ) {
        static D: Code = Code { id: "x.d", severities: &[Severity::Crit], when: "", hint: "", ..Code::BASE };
        let codes = [&A, &B, &C, &D];
        let links: Vec<Link> = ties
            .iter()
            .map(|(cause, effect, sure)| {
                let tie = if cause < effect { KeyKind::Container } else { KeyKind::Host };
                let link = if *sure { Link::confirmed } else { Link::likely };
                link(codes[*cause].id, codes[*effect].id, tie, "")
            })
            .collect();
        let links: Vec<&Link> = links.iter().collect();
        let severities = [Severity::Info, Severity::Warn, Severity::Crit];
        let findings: Vec<Finding> = made
            .iter()
            .enumerate()
            .map(|(n, (code, severity, container, host, since))| {
                let mut f = finding(codes[*code], &format!("f{n}")).key(KeyKind::Container, container.to_string());
                if *host == 0 {
                    f = f.key(KeyKind::Host, "host");
                }
                f.severity = severities[usize::from(*severity)];
                f.since(since.and_then(|s| Timestamp::from_second(s).ok()))
            })
            .collect();
        let mut findings = reported(findings);
        let mut again = findings.clone();
        let causes = correlate(&mut findings, &links);
        prop_assert_eq!(&causes, &correlate(&mut again, &links));
        let explained: Vec<&Reported> = findings.iter().filter(|f| f.explained_by.is_some()).collect();
        prop_assert_eq!(explained.len(), causes.iter().map(|c| c.explains.len()).sum::<usize>());
        for cause in &causes {
            prop_assert!(findings.iter().any(|f| f.id == cause.root && f.explained_by.is_none()));
            prop_assert_eq!(cause.explains.len(), cause.because.len());
        }
        for effect in explained {
            let cause = findings.iter().find(|f| Some(&f.id) == effect.explained_by.as_ref());
            let tied = cause.is_some_and(|c| links.iter().any(|l| {
                l.cause == c.code && l.effect == effect.code
                    && c.keys.iter().any(|k| k.kind == l.tie && effect.keys.contains(k))
                    && precedes(c, effect)
            }));
            prop_assert!(tied);
            prop_assert!(effect.severity > Severity::Info && cause.is_some_and(|c| c.severity > Severity::Info));
        }
    }
}
