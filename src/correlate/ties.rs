//! Every link ties recorded evidence: evidence of its cause and of its effect, about the same object, is judged by the real checks
//! and correlated; evidence about different objects is not.

use std::path::Path;

use opsctl_core::model::{EvidenceText, HostInfo, Inventory, Judged, Object, Outcome, Record, Runbook, links};
use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::*;
use crate::engine::{Judging, RECORDING_SCHEMA_VERSION, Recording, assess};

/// A recorded case in `runbooks/*/fixtures/*.json`.
#[derive(Clone, Deserialize)]
struct Case {
    check: String,
    target: Value,
    taken_at: jiff::Timestamp,
    evidence: Value,
    #[serde(skip)]
    file: String,
}

impl Case {
    fn all() -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("runbooks");
        let directories = opsctl_runbooks::NAMES.iter().map(|n| root.join(n).join("fixtures"));
        let files = directories.flat_map(|f| std::fs::read_dir(&f).unwrap_or_else(|e| panic!("{}: {e}", f.display())));
        let mut paths: Vec<_> = files.filter_map(Result::ok).map(|e| e.path()).collect();
        paths.sort();
        paths
            .iter()
            .map(|path| {
                let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                let case: Self = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                Self { file: path.strip_prefix(&root).unwrap_or(path).display().to_string(), ..case }
            })
            .collect()
    }

    /// The findings of its check.
    fn judge(&self, runbooks: &[Runbook]) -> Vec<Finding> {
        let check = runbooks.iter().flat_map(|r| &r.checks).find(|c| c.spec().id == self.check);
        let target: Object = serde_json::from_value(self.target.clone()).unwrap_or_else(|e| panic!("{}: {e}", self.file));
        let judged = Judged { target: &target, taken_at: self.taken_at };
        let judgement = check.map(|c| c.judge(&judged, &self.text()));
        // a case that was rewritten for another object can be invalid
        judgement.and_then(Result::ok).map(|j| j.findings).unwrap_or_default()
    }

    fn text(&self) -> EvidenceText {
        EvidenceText::of(&self.evidence).unwrap_or_else(|e| panic!("{}: {e}", self.file))
    }

    /// The same case about another object: replaces its name in all strings and numbers.
    fn about(&self, old: &str, new: &str) -> Self {
        let mut case = self.clone();
        let parts = |name: &str| name.split([':', '/', '@']).map(str::to_owned).collect::<Vec<_>>();
        let mut pairs = vec![(old.to_owned(), new.to_owned())];
        // the parts of a composite name are replaced, too
        if parts(old).len() == parts(new).len() {
            pairs.extend(parts(old).into_iter().zip(parts(new)).filter(|(o, n)| o != n && !o.is_empty()));
        }
        for (old, new) in pairs {
            let word = Regex::new(&format!(r"(^|[^0-9A-Za-z]){}($|[^0-9A-Za-z])", regex::escape(&old)));
            let word = word.unwrap_or_else(|e| panic!("{e}"));
            for part in ["name", "id", "identity"] {
                if let Some(value) = case.target.get_mut(part) {
                    rename(value, &word, &old, &new);
                }
            }
            rename(&mut case.evidence, &word, &old, &new);
        }
        case
    }
}

fn rename(value: &mut Value, word: &Regex, old: &str, new: &str) {
    match value {
        Value::String(text) if text.contains(old) => {
            // twice: adjacent matches share the character between them
            for _ in 0..2 {
                *text = word.replace_all(text, format!("${{1}}{}${{2}}", new.replace('$', "$$"))).into_owned();
            }
        }
        Value::Number(number) if number.to_string() == old => {
            if let Ok(new) = new.parse::<i64>() {
                *value = new.into();
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|v| rename(v, word, old, new)),
        Value::Object(map) => {
            let keys: Vec<String> = map.keys().filter(|k| word.is_match(k)).cloned().collect();
            for key in keys {
                if let Some(inner) = map.remove(&key) {
                    map.insert(word.replace_all(&key, format!("${{1}}{new}${{2}}")).into_owned(), inner);
                }
            }
            map.values_mut().for_each(|v| rename(v, word, old, new));
        }
        _ => {}
    }
}

/// Other objects of the same form: each part of the name changed in turn.
fn others(name: &str) -> Vec<String> {
    let ends = |(at, c): &(usize, char)| {
        let next = name[at + c.len_utf8()..].chars().next();
        c.is_ascii_alphanumeric() && next.is_none_or(|n| !n.is_ascii_alphanumeric())
    };
    let change = |(at, c): (usize, char)| {
        let changed = match c {
            '0' => '1',
            '1'..='9' => '0',
            'a' => 'b',
            _ => 'a',
        };
        format!("{}{changed}{}", &name[..at], &name[at + c.len_utf8()..])
    };
    name.char_indices().filter(ends).map(change).collect()
}

/// Whether `link` alone ties these two.
fn ties(link: &Link, cause: &Finding, effect: &Finding) -> bool {
    // the cases were recorded at different times
    let mut both = [cause, effect].map(|f| Reported::new(f.clone().since(None)));
    for (n, f) in both.iter_mut().enumerate() {
        f.id = format!("f{n}");
    }
    !correlate(&mut both, &[link]).is_empty()
}

/// A relevant finding, and its case.
type Found<'a> = (&'a Case, &'a Finding);

/// Two recorded cases, rewritten for one object, that prove a link; or the reason why there are none.
type Tied = Result<(Case, Case), String>;

fn tied(runbooks: &[Runbook], link: &Link, causes: &[Found<'_>], effects: &[Found<'_>]) -> Tied {
    let of_effect = |f: &Finding| if link.tie == KeyKind::Requirement { f.needs.clone() } else { f.keys.clone() };
    let of_cause = |f: &Finding| f.keys.clone();
    let of_tie = |keys: Vec<Key>| keys.into_iter().filter(|k| k.kind == link.tie).map(|k| k.value).collect::<Vec<_>>();
    let keyed = |found: &[Found<'_>], is_cause: bool| {
        let keys = |f: &Finding| of_tie(if is_cause { of_cause(f) } else { of_effect(f) });
        found.iter().filter(|(_, f)| !keys(f).is_empty()).count()
    };
    for (code, found, is_cause) in [(link.cause, causes, true), (link.effect, effects, false)] {
        match keyed(found, is_cause) {
            0 if found.is_empty() => return Err(format!("{code} is in no fixture")),
            0 => return Err(format!("{code} has no {:?} key in any of its {} fixtures", link.tie, found.len())),
            _ => {}
        }
    }
    let mut too_much = false;
    for (cause, effect) in causes.iter().flat_map(|c| effects.iter().map(move |e| (c, e))) {
        for (c, e) in
            of_tie(of_cause(cause.1)).iter().flat_map(|c| of_tie(of_effect(effect.1)).into_iter().map(move |e| (c.clone(), e)))
        {
            let effect_is = |case: &Case| case.judge(runbooks).iter().any(|f| f.code == link.effect && ties(link, cause.1, f));
            let cause_is = |case: &Case| case.judge(runbooks).iter().any(|f| f.code == link.cause && ties(link, f, effect.1));
            // there is only one machine
            let alone = matches!(link.tie, KeyKind::Host | KeyKind::Names);
            let renamed = effect.0.about(&e, &c);
            if effect_is(&renamed) {
                if alone || others(&c).iter().any(|other| !effect_is(&effect.0.about(&e, other))) {
                    return Ok((cause.0.clone(), renamed));
                }
                too_much = true;
            }
            // the object of the effect may be the same on every host
            let renamed = cause.0.about(&c, &e);
            if cause_is(&renamed) {
                if others(&e).iter().any(|other| !cause_is(&cause.0.about(&c, other))) {
                    return Ok((renamed, effect.0.clone()));
                }
                too_much = true;
            }
        }
    }
    Err(if too_much { "ties another object as well".to_owned() } else { "no pair of fixtures can be made one object".to_owned() })
}

/// Every selected link with the two cases that prove it, or the reason why there are none.
fn all_tied(runbooks: &[Runbook], selected: impl Fn(&[Found<'_>]) -> bool) -> Vec<(Link, Tied)> {
    let cases = Case::all();
    let judged: Vec<(&Case, Vec<Finding>)> = cases.iter().map(|c| (c, c.judge(runbooks))).collect();
    let found = |code: &str| -> Vec<Found<'_>> {
        let counts = |f: &&Finding| f.code == code && f.severity > Severity::Info;
        judged.iter().flat_map(|(case, findings)| findings.iter().filter(counts).map(move |f| (*case, f))).collect()
    };
    let links = links(runbooks).into_iter().map(|link| {
        let effects = found(link.effect);
        (link, effects)
    });
    let links = links.filter(|(_, effects)| selected(effects));
    links
        .map(|(link, effects)| {
            let tied = tied(runbooks, &link, &found(link.cause), &effects);
            (link, tied)
        })
        .collect()
}

#[test]
fn every_link_ties_evidence_of_one_object_only() {
    let runbooks = opsctl_runbooks::all(&opsctl_runbooks::Settings::default());
    let untied: Vec<String> = all_tied(&runbooks, |_| true)
        .into_iter()
        .filter_map(|(l, tied)| Some(format!("{} -> {} [{:?}]: {}", l.cause, l.effect, l.tie, tied.err()?)))
        .collect();
    assert!(untied.is_empty(), "{} links without proof:\n{}", untied.len(), untied.join("\n"));
}

/// A recording of a host with these cases.
fn host_with(cases: &[&Case]) -> Recording {
    let records = cases.iter().map(|case| Record {
        check: case.check.clone(),
        target: serde_json::from_value(case.target.clone()).unwrap_or_else(|e| panic!("{}: {e}", case.file)),
        taken_at: case.taken_at,
        duration_ms: 0,
        outcome: Outcome::Evidence(case.text()),
    });
    Recording {
        schema_version: RECORDING_SCHEMA_VERSION,
        opsctl: String::new(),
        host: HostInfo::default(),
        started_at: cases.iter().map(|c| c.taken_at).max().unwrap_or_default(),
        duration_ms: 0,
        inventory: Inventory::default(),
        records: records.collect(),
        changes: None,
    }
}

/// The cause that prevents a fix of this finding: the first one in the chain without a treatable link.
fn hindrance<'f>(finding: &'f Reported, all: &'f [Reported], links: &[&Link]) -> Option<&'f Reported> {
    let cause = all.iter().find(|f| Some(&f.id) == finding.explained_by.as_ref())?;
    let harmless = links.iter().any(|l| l.treatable && l.cause == cause.code && l.effect == finding.code);
    if harmless { hindrance(cause, all, links) } else { Some(cause) }
}

/// Checks every offer of a host; returns the number of offers refused for an open cause, and of those available despite one.
fn refusals(judging: &Judging, links: &[&Link], recording: &Recording) -> (usize, usize) {
    let assessment = assess(judging, recording);
    let (mut refused, mut offered) = (0, 0);
    for offer in &assessment.offers {
        let cause = hindrance(&offer.finding, &assessment.report.findings, links);
        let why = cause.map(|c| format!("its cause is open: {}: {}", c.code, c.message));
        assert_eq!(offer.refused, why, "{} of {}", offer.fix, offer.finding.code);
        refused += usize::from(cause.is_some());
        offered += usize::from(cause.is_none() && offer.finding.explained_by.is_some());
    }
    (refused, offered)
}

#[test]
fn no_fix_of_an_effect_is_offered_while_its_cause_is_open() {
    let judging = Judging { runbooks: opsctl_runbooks::all(&opsctl_runbooks::Settings::default()), ..Judging::default() };
    let links = links(&judging.runbooks);
    let links: Vec<&Link> = links.iter().collect();
    let recordings = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    let files = |directory: &Path| std::fs::read_dir(directory).unwrap_or_else(|e| panic!("{e}")).filter_map(Result::ok);
    for file in files(&recordings).chain(files(&recordings.join("incidents"))).map(|f| f.path()) {
        // some have a file of assertions beside them
        if file.is_dir() || file.to_string_lossy().ends_with(".asserted.json") {
            continue;
        }
        let recording = Recording::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        refusals(&judging, &links, &recording);
    }
    // and for every link the two cases that prove it
    let (mut refused, mut offered) = (0, 0);
    let has_fixes = |effects: &[Found<'_>]| effects.iter().any(|(_, f)| !f.fixes.is_empty());
    for (cause, effect) in all_tied(&judging.runbooks, has_fixes).into_iter().filter_map(|(_, tied)| tied.ok()) {
        let (r, o) = refusals(&judging, &links, &host_with(&[&cause, &effect]));
        (refused, offered) = (refused + r, offered + o);
    }
    assert!(refused > 30 && offered > 0, "{refused} refused, {offered} offered");
}
