//! Queries of a report used by several formats: open findings, waived findings, history of a finding.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use opsctl_core::model::{Cause, CheckRow, FindingStatus, Recovered, Report, Reported, Severity, Trend, printable, quantity};

use super::unanswered;

/// Runbooks with checks on every host: a run without one of them is a selection.
const HOST_RUNBOOKS: &[&str] = &["cpu", "memory"];

/// Maximum number of runbooks or targets listed by name.
const MAX_NAMED: usize = 4;

/// Open findings: warn and crit without a waiver.
pub(super) fn open(report: &Report) -> impl Iterator<Item = &Reported> {
    report.findings.iter().filter(|f| f.is_open())
}

/// Findings that would be open without their waiver, and the waiver.
pub(super) fn waived(report: &Report) -> Vec<(&Reported, &str)> {
    let counts = report.findings.iter().filter(|f| f.severity > Severity::Info);
    counts.filter_map(|f| Some((f, f.waived.as_deref()?))).collect()
}

/// The finding with this id.
pub(super) fn find<'a>(report: &'a Report, id: &str) -> Option<&'a Reported> {
    report.findings.iter().find(|f| f.id == id)
}

/// All findings by id.
pub(super) fn by_id(report: &Report) -> HashMap<&str, &Reported> {
    report.findings.iter().map(|f| (f.id.as_str(), f)).collect()
}

/// Causes with their root. A cause with a waived root counts while a finding that it explains is open.
pub(super) fn causes(report: &Report) -> Vec<(&Cause, &Reported)> {
    let by_id = by_id(report);
    let open = |id: &String| by_id.get(id.as_str()).is_some_and(|f| f.is_open());
    let counts = |(cause, root): &(&Cause, &Reported)| root.waived.is_none() || cause.explains.iter().any(open);
    report.causes.iter().filter_map(|c| Some((c, *by_id.get(c.root.as_str())?))).filter(counts).collect()
}

/// The head of the journal as one line.
pub(super) fn journal(report: &Report) -> Option<String> {
    report.journal.as_ref().map(|journal| printable(&format!("journal: {journal}")))
}

/// Roots in report order, each followed by its effects.
pub(super) fn tree<'a>(shown: &[&'a Reported]) -> Vec<(usize, &'a Reported)> {
    type Children<'a> = HashMap<&'a str, Vec<&'a Reported>>;
    fn below<'a>(children: &Children<'a>, parent: &'a Reported, depth: usize, out: &mut Vec<(usize, &'a Reported)>) {
        out.push((depth, parent));
        // the limit guards against a circular recording
        if depth < 16 {
            for child in children.get(parent.id.as_str()).into_iter().flatten() {
                below(children, child, depth + 1, out);
            }
        }
    }
    let ids: HashSet<&str> = shown.iter().map(|f| f.id.as_str()).collect();
    let mut children = Children::new();
    let mut roots = Vec::new();
    for finding in shown {
        match finding.explained_by.as_deref() {
            Some(id) if ids.contains(id) => children.entry(id).or_default().push(finding),
            // a finding without a shown cause is a root
            _ => roots.push(*finding),
        }
    }
    let mut out = Vec::new();
    for root in roots {
        below(&children, root, 0, &mut out);
    }
    out
}

/// `new`, `still 3 d` or `flapping 4x`; `None` without earlier runs.
pub(super) fn status(report: &Report, finding: &Reported) -> Option<String> {
    let known = report.course.as_ref()?.of(&finding.id)?;
    Some(match known.standing {
        FindingStatus::New => "new".to_owned(),
        FindingStatus::Still => format!("still {}", quantity::duration(report.started_at.duration_since(known.first_seen))),
        FindingStatus::Flapping => format!("flapping {}x", known.times),
    })
}

/// Findings that were open and no longer are.
pub(super) fn recovered(report: &Report) -> &[Recovered] {
    report.course.as_ref().map_or(&[], |c| &c.recovered)
}

/// Duration of a recovered finding.
pub(super) fn lasted(recovered: &Recovered) -> String {
    quantity::duration(recovered.last_seen.duration_since(recovered.first_seen))
}

/// Numbers of earlier runs.
pub(super) fn trends(report: &Report) -> &[Trend] {
    report.course.as_ref().map_or(&[], |c| &c.trends)
}

/// Trends with a forecast: `/var: full in 6 d (used 83 %, limit 95 %)`.
pub(super) fn forecasts(report: &Report) -> Vec<String> {
    let with_forecast = trends(report).iter().filter(|t| !t.says.is_empty());
    with_forecast
        .map(|t| {
            let name = t.subject.split_once(':').map_or(t.subject.as_str(), |(_, name)| name);
            let now = t.points.last().map(|(_, v)| format!("{} {}", words(&t.name), t.unit.shown(*v)));
            let limit = t.limit.map(|l| format!("limit {}", t.unit.shown(l)));
            let numbers: Vec<String> = now.into_iter().chain(limit).collect();
            format!("{name}: {} ({})", t.says, numbers.join(", "))
        })
        .collect()
}

/// Recent changes: `21 Nov 10:00 container:web recreated from image shop:2, before shop:1 (by alice)`.
pub(super) fn changes(report: &Report) -> Vec<String> {
    report.changes.iter().map(|c| format!("{} {}", moment(report.started_at, c.at), c.summary())).collect()
}

/// The name of a measure as words.
pub(super) fn words(name: &str) -> String {
    name.replace('_', " ")
}

/// Date and time, or only the date in another year: `21 Nov 10:00`, `3 Feb 2024`.
pub(super) fn moment(now: Timestamp, at: Timestamp) -> String {
    let year = |t: Timestamp| t.strftime("%Y").to_string();
    at.strftime(if year(now) == year(at) { "%-d %b %H:%M" } else { "%-d %b %Y" }).to_string()
}

/// The duration of the run: `312 ms`, `12 s`.
pub(super) fn took(report: &Report) -> String {
    match report.duration_ms {
        ms if ms < 1000 => format!("{ms} ms"),
        ms => quantity::duration(jiff::SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX))),
    }
}

/// Number of checks with this verdict.
pub(super) fn checks(report: &Report, verdict: &str) -> usize {
    report.checks.iter().filter(|c| c.verdict == verdict).count()
}

/// Number of open findings of a severity.
pub(super) fn findings(report: &Report, severity: Severity) -> usize {
    report.findings.iter().filter(|f| f.severity == severity && f.waived.is_none()).count()
}

/// The reasons of one verdict, each once, with the affected checks.
pub(super) fn reasons<'a>(report: &'a Report, verdict: &str) -> Vec<(&'a str, Vec<&'a CheckRow>)> {
    let mut by_reason: Vec<(&str, Vec<&CheckRow>)> = Vec::new();
    for row in report.checks.iter().filter(|c| c.verdict == verdict) {
        let why = row.reason.as_deref().unwrap_or_default();
        match by_reason.iter_mut().find(|(w, _)| *w == why) {
            Some((_, rows)) => rows.push(row),
            None => by_reason.push((why, vec![row])),
        }
    }
    by_reason
}

/// The checks of a run that is no statement about the whole host: `the container checks of container web`. `None` for a run of all
/// runbooks.
#[must_use]
pub fn scope(report: &Report) -> Option<String> {
    let mut runbooks: Vec<&str> = Vec::new();
    for row in report.checks.iter().filter(|c| c.runbook != "discovery") {
        if !runbooks.contains(&row.runbook.as_str()) {
            runbooks.push(&row.runbook);
        }
    }
    if runbooks.is_empty() || HOST_RUNBOOKS.iter().all(|id| runbooks.contains(id)) {
        return None;
    }
    // a selection of targets includes the host and the engine
    let (shared, mut rows): (Vec<&CheckRow>, Vec<&CheckRow>) =
        report.checks.iter().partition(|c| c.target == "host" || c.target.starts_with("engine:"));
    if rows.is_empty() {
        rows = shared;
    }
    let mut targets: Vec<String> = Vec::new();
    for row in &rows {
        let target = if row.target == "host" { "this host".to_owned() } else { row.target.replacen(':', " ", 1) };
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    let objects = if targets.len() <= MAX_NAMED { quantity::some_of(&targets, MAX_NAMED) } else { unanswered::objects(&rows) };
    Some(format!("the {} checks of {objects}", quantity::some_of(&runbooks, MAX_NAMED)))
}

/// Outcome of a check in test formats.
pub(super) enum Outcome<'a> {
    /// Healthy, or no open finding: waived findings are listed separately.
    Pass,
    /// Open findings, worst first; a foreign report may have none.
    Fail(Vec<&'a Reported>),
    /// No result.
    Unknown(&'a str),
    /// Not applicable.
    Skip(&'a str),
}

/// The outcome of one check, and its waived findings.
pub(super) fn outcome<'a>(report: &'a Report, row: &'a CheckRow) -> (Outcome<'a>, Vec<(&'a Reported, &'a str)>) {
    let why = row.reason.as_deref().unwrap_or_default();
    let waived: Vec<_> = waived(report).into_iter().filter(|(f, _)| row.findings.contains(&f.id)).collect();
    let outcome = match row.verdict.as_str() {
        "unknown" => Outcome::Unknown(why),
        "skip" => Outcome::Skip(why),
        "crit" | "warn" => {
            let mut bad: Vec<_> = open(report).filter(|f| row.findings.contains(&f.id)).collect();
            bad.sort_by_key(|f| std::cmp::Reverse(f.severity));
            if bad.is_empty() && !waived.is_empty() { Outcome::Pass } else { Outcome::Fail(bad) }
        }
        _ => Outcome::Pass,
    };
    (outcome, waived)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn waived_cause_stays_the_cause_of_open_findings() {
        let mut report = sample::five_red_things();
        report.findings[0].waived = Some("until tomorrow".into());
        assert_eq!((causes(&report).len(), open(&report).count(), waived(&report).len()), (1, 4, 1));
        // its effects are roots while the cause is not shown
        let shown: Vec<&Reported> = open(&report).collect();
        assert_eq!(tree(&shown).iter().map(|(depth, f)| (*depth, f.id.as_str())).next(), Some((0, "f2")));
        for f in &mut report.findings[1..3] {
            f.waived = Some("until tomorrow".into());
        }
        assert_eq!(causes(&report).len(), 0);
    }

    #[test]
    fn scope_of_a_selection_names_its_objects() {
        let mut report = sample::healthy();
        assert_eq!(scope(&report), None);
        report.checks.retain(|c| c.runbook == "container");
        report.checks.push(CheckRow { target: "engine:docker".into(), ..report.checks[0].clone() });
        assert_eq!(scope(&report).as_deref(), Some("the container checks of container web"));
        let of = |n: usize| CheckRow { target: format!("container:c{n}"), ..report.checks[0].clone() };
        let many: Vec<CheckRow> = (0..5).map(of).collect();
        report.checks.extend(many);
        assert_eq!(scope(&report).as_deref(), Some("the container checks of 6 containers"));
        report.checks.retain(|c| c.target == "engine:docker");
        report.checks[0].target = "host".into();
        assert_eq!(scope(&report).as_deref(), Some("the container checks of this host"));
    }

    #[test]
    fn check_without_open_findings_passes() {
        let mut report = sample::compared();
        let state = |report: &Report| matches!(outcome(report, &report.checks[3]), (Outcome::Fail(bad), _) if bad.len() == 1);
        assert!(state(&report));
        report.findings[3].waived = Some("known".into());
        assert!(matches!(outcome(&report, &report.checks[3]), (Outcome::Pass, w) if w.len() == 1));
    }

    #[test]
    fn moments_of_other_years_have_a_year() {
        let now = Timestamp::from_second(1_795_255_200).unwrap_or_default();
        assert_eq!((moment(now, now), moment(now, Timestamp::UNIX_EPOCH)), ("21 Nov 10:00".into(), "1 Jan 1970".into()));
    }
}
