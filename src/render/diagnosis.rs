//! The diagnosis in words: cause, mechanism, effects, unexplained findings, next step. All text formats print these words.

use std::collections::{HashMap, HashSet};

use opsctl_core::model::{Cause, Confidence, FixOffer, Object, Report, Reported, Severity, fix_command, quantity};

use super::view;

/// Number of names shown in a list; the rest is counted.
const MAX_NAMES: usize = 4;

/// One root cause, or several of the same kind on different objects.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Diagnosis {
    pub(super) severity: Severity,
    pub(super) code: String,
    /// `container:web`, one entry per subject.
    pub(super) subjects: Vec<String>,
    /// The problem, and since when.
    pub(super) problem: String,
    /// A link to an effect is only likely.
    pub(super) likely: bool,
    pub(super) waived: bool,
    /// `container.restart-loop web, db: the kernel kills it …`: each mechanism once, with all its effects.
    pub(super) explains: Vec<String>,
    /// Open findings about other objects with other causes.
    pub(super) not: Option<String>,
    /// The command to paste.
    pub(super) next: Option<String>,
    /// The advice in words.
    pub(super) to_do: String,
}

/// A root cause, its finding, and its effects with the mechanism of each.
struct Rooted<'a> {
    cause: &'a Cause,
    root: &'a Reported,
    effects: Vec<(&'a Reported, &'a str)>,
}

/// The diagnoses of a report, in the order of its root causes.
pub(super) fn diagnoses(report: &Report) -> Vec<Diagnosis> {
    let by_id = view::by_id(report);
    let rooted = view::causes(report).into_iter().map(|(cause, root)| Rooted { cause, root, effects: effects(&by_id, cause) });
    let mut alike: Vec<Vec<Rooted<'_>>> = Vec::new();
    let mut indices = HashMap::new();
    for one in rooted {
        let mut kinds: Vec<(&str, &str)> = one.effects.iter().map(|(f, because)| (f.code.as_str(), *because)).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let (c, r) = (one.cause, one.root);
        // advice that differs only in the name is the same
        let advice = r.hint.replace(&r.subject.name, "\0");
        let same = (r.code.as_str(), r.severity, advice, r.waived.is_some(), c.confidence == Confidence::Likely, kinds);
        let index = *indices.entry(same).or_insert(alike.len());
        match alike.get_mut(index) {
            Some(group) => group.push(one),
            None => alike.push(vec![one]),
        }
    }
    let is_root = |f: &&Reported| f.explained_by.as_deref().is_none_or(|id| !by_id.contains_key(id));
    let roots: Vec<&Reported> = view::open(report).filter(is_root).collect();
    alike.iter().filter_map(|group| diagnosis(report, group, &roots)).collect()
}

/// Findings without cause and effects: codes with the same advice, and that advice.
pub(super) fn alone(report: &Report) -> Vec<(Vec<&str>, &str)> {
    let mut found: Vec<(Vec<&str>, &str)> = Vec::new();
    let causes: HashSet<&str> = report.causes.iter().map(|c| c.root.as_str()).collect();
    let roots = |f: &&Reported| f.explained_by.is_none() && !causes.contains(f.id.as_str());
    let hints: Vec<&str> = view::causes(report).into_iter().map(|(_, root)| root.hint.as_str()).collect();
    for finding in view::open(report).filter(roots).filter(|f| !f.hint.is_empty() && !hints.contains(&f.hint.as_str())) {
        match found.iter_mut().find(|(_, hint)| *hint == finding.hint) {
            Some((codes, _)) if codes.contains(&finding.code.as_str()) => {}
            Some((codes, _)) => codes.push(&finding.code),
            None => found.push((vec![&finding.code], &finding.hint)),
        }
    }
    found
}

fn diagnosis(report: &Report, group: &[Rooted<'_>], roots: &[&Reported]) -> Option<Diagnosis> {
    let Rooted { cause, root, .. } = group.first()?;
    let others: Vec<&str> = group.iter().skip(1).map(|one| one.root.subject.name.as_str()).collect();
    let same =
        if others.is_empty() { String::new() } else { format!("; the same holds for {}", quantity::some_of(&others, MAX_NAMES)) };
    // further findings about the same object are in the table, beside this one
    let is_here = |f: &&Reported| group.iter().any(|one| one.root.id == f.id || same_object(&one.root.subject, &f.subject));
    let unexplained: Vec<&Reported> = roots.iter().copied().filter(|f| !is_here(f)).collect();
    let offered = |r: &Reported| {
        let subject = r.subject.to_string();
        let of_part = |f: &FixOffer| r.part.is_empty() || f.command == fix_command(&f.id, &r.subject.name, &r.part);
        let fits = |f: &&FixOffer| f.refused.is_none() && f.subject == subject && r.fixes.contains(&f.id) && of_part(f);
        report.fixes.iter().find(fits).map(|f| f.command.clone())
    };
    Some(Diagnosis {
        severity: root.severity,
        code: root.code.clone(),
        subjects: group.iter().map(|one| one.root.subject.to_string()).collect(),
        problem: format!("{}{}{same}", root.message, since(report, root)),
        likely: cause.confidence == Confidence::Likely,
        waived: root.waived.is_some(),
        explains: explains(group),
        not: (!unexplained.is_empty()).then(|| named(&unexplained)),
        next: group.iter().find_map(|one| offered(one.root)),
        to_do: root.hint.clone(),
    })
}

/// Whether two subjects are one object: a server is named by its container or its unit.
fn same_object(a: &Object, b: &Object) -> bool {
    fn name(object: &Object) -> &str {
        object.name.strip_suffix(".service").unwrap_or(&object.name)
    }
    name(a) == name(b)
}

/// ` (since 21 Nov 09:58)`, unless the message contains the time.
fn since(report: &Report, root: &Reported) -> String {
    let found = [" ago", "since "].iter().any(|words| root.message.contains(words));
    root.since.filter(|_| !found).map_or_else(String::new, |at| format!(" (since {})", view::moment(report.started_at, at)))
}

/// Each effect of a cause with its mechanism.
fn effects<'a>(by_id: &HashMap<&str, &'a Reported>, cause: &'a Cause) -> Vec<(&'a Reported, &'a str)> {
    let pairs = cause.explains.iter().zip(&cause.because);
    let found = pairs.filter_map(|(id, because)| {
        let effect = *by_id.get(id.as_str())?;
        // the name of the effect precedes the mechanism
        let name = format!("{} {}: ", effect.code, effect.subject.name);
        Some((effect, because.strip_prefix(&name).unwrap_or(because)))
    });
    found.collect()
}

fn explains(group: &[Rooted<'_>]) -> Vec<String> {
    let mut by_mechanism: Vec<(&str, Vec<&Reported>)> = Vec::new();
    for (effect, because) in group.iter().flat_map(|one| one.effects.iter().copied()) {
        match by_mechanism.iter_mut().find(|(b, _)| *b == because) {
            Some((_, found)) => found.push(effect),
            None => by_mechanism.push((because, vec![effect])),
        }
    }
    by_mechanism.into_iter().map(|(because, found)| format!("{}: {because}", named(&found))).collect()
}

/// `container.down web, db and 3 more, disk.space /var`: every code once.
fn named(found: &[&Reported]) -> String {
    let mut by_code: Vec<(&str, Vec<&str>)> = Vec::new();
    for f in found {
        match by_code.iter_mut().find(|(code, _)| *code == f.code) {
            Some((_, names)) if names.contains(&f.subject.name.as_str()) => {}
            Some((_, names)) => names.push(&f.subject.name),
            None => by_code.push((&f.code, vec![&f.subject.name])),
        }
    }
    let each: Vec<String> =
        by_code.iter().map(|(code, names)| format!("{code} {}", quantity::some_of(names, MAX_NAMES))).collect();
    quantity::some_of(&each, MAX_NAMES)
}

#[cfg(test)]
mod tests {
    use opsctl_core::model::Kind;

    use super::*;
    use crate::render::sample;

    #[test]
    fn root_cause_lists_explained_and_unexplained_findings() {
        let found = diagnoses(&sample::five_red_things());
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].explains,
            [
                "container.restart-loop worker: the kernel kills it at its memory limit and its restart policy starts it again",
                "healthcheck.unhealthy worker: it does not live long enough to become healthy",
            ]
        );
        assert_eq!(found[0].not.as_deref(), Some("disk.space /var, healthcheck.command-missing alloy"));
        assert_eq!(found[0].next.as_deref(), Some("opsctl fix container.raise-memory worker"));
    }

    #[test]
    fn same_cause_of_several_objects_is_reported_once() {
        let found = diagnoses(&sample::alike(7));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(
            found[0].problem,
            "c0 was killed by the kernel at its limit (since 1 Jan 00:00); the same holds for c1, c2, c3, c4 and 2 more"
        );
        assert_eq!(found[0].explains, ["container.restart-loop c0, c1, c2, c3 and 3 more: its restart policy starts it again"]);
        assert_eq!((found[0].subjects.len(), found[0].not.as_ref()), (7, None));
    }

    #[test]
    fn independent_causes_stay_several() {
        let mut report = sample::alike(3);
        // another mechanism is another diagnosis
        report.causes[1].because = vec!["container.restart-loop c1: a script restarts it".into()];
        let found = diagnoses(&report);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].not.as_deref(), Some("container.oom-killed c1"));
        assert_eq!(found[1].not.as_deref(), Some("container.oom-killed c0, c2"));
    }

    #[test]
    fn other_findings_about_the_same_object_are_not_listed() {
        let mut report = sample::five_red_things();
        // an nginx in the container of the root cause, and its unit
        let mut upstream = report.findings[3].clone();
        (upstream.id, upstream.finding.code) = ("f6".into(), "nginx.upstream-unreachable".into());
        upstream.finding.subject = Object::new(Kind::Nginx, "worker", "nginx:worker");
        let mut unit = upstream.clone();
        (unit.id, unit.finding.code) = ("f7".into(), "systemd.unit-failed".into());
        unit.finding.subject = Object::named(Kind::Unit, "worker.service");
        report.findings.extend([upstream, unit]);
        let found = diagnoses(&report);
        assert_eq!(found[0].not.as_deref(), Some("disk.space /var, healthcheck.command-missing alloy"));
        report.findings.retain(|f| !matches!(f.id.as_str(), "f4" | "f5"));
        assert_eq!(diagnoses(&report)[0].not, None);
    }

    #[test]
    fn waived_root_cause_is_shown_while_an_effect_is_open() {
        let mut report = sample::five_red_things();
        report.findings[0].waived = Some("until tomorrow".into());
        let found = diagnoses(&report);
        assert!(found[0].waived);
        assert_eq!(alone(&report).len(), 2);
    }
}
