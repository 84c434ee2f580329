//! From evidence to report: judge, verdict, correlate. Pure; a replay runs the same code.

use jiff::Timestamp;
use opsctl_core::model::{
    AnyCheck, Build, CheckRow, ContainerRef, Finding, FixOffer, Inventory, Judged, Judgement, KeyKind, Kind, Link, Outcome, Plan,
    REPORT_SCHEMA_VERSION, Record, Refusal, Report, Reported, Risk, Runbook, Sample, Severity, Verdict, fix_command, named,
};

use opsctl_core::probe::panics;

use super::{OwnerOf, Recording};
use crate::correlate::{cite, correlate};
use crate::waive::Waivers;

/// A report with the plans, samples and verdicts of the run.
pub struct Assessment {
    /// The report.
    pub report: Report,
    /// The verdict of the whole run.
    pub verdict: Verdict,
    /// The verdicts of `report.checks`, in the same order.
    pub verdicts: Vec<Verdict>,
    /// Available fixes with their plans.
    pub offers: Vec<Offer>,
    /// Samples to store for the next run.
    pub samples: Vec<Sample>,
    /// Checks that may still succeed without intervention.
    pub pending: Vec<Pending>,
    /// Facts that checks could not read.
    pub gaps: Vec<String>,
    /// Names of facts that checks read.
    pub facts: Vec<String>,
}

/// A check that may still succeed without intervention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Check id.
    pub check: String,
    /// Target.
    pub target: String,
    /// The awaited condition.
    pub condition: String,
}

/// A fix that applies to a finding.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// Fix id.
    pub fix: String,
    /// The finding.
    pub finding: Reported,
    /// The plan, or the reason why there is none.
    pub plan: Result<Plan, Refusal>,
    /// The reason why a possible fix is refused now: an open cause elsewhere, maintenance of the object.
    pub refused: Option<String>,
    /// Risk class.
    pub risk: Risk,
}

/// The judgement of one record.
struct JudgedRecord<'a> {
    record: &'a Record,
    check: Option<&'a dyn AnyCheck>,
    runbook: String,
    verdict: Verdict,
    findings: Vec<Reported>,
    /// The rest of the judgement; its findings are in `findings`.
    judgement: Judgement,
}

/// Inputs of judging other than the evidence. Shared with the watchdog, which can judge as well.
pub struct Judging {
    /// The runbooks, with their settings.
    pub runbooks: Vec<Runbook>,
    /// The owner of a subject, by name.
    pub owner_of: OwnerOf,
    /// Waivers.
    pub waivers: Waivers,
    /// Notes about the run itself.
    pub notes: Vec<String>,
}

impl Default for Judging {
    fn default() -> Self {
        Self { runbooks: Vec::new(), owner_of: Box::new(|_| None), waivers: Waivers::default(), notes: Vec::new() }
    }
}

/// Indices of a check: runbook, and check within it.
#[derive(Debug, Clone, Copy)]
pub(super) struct CheckAt(usize, usize);

impl Judging {
    /// Every check with its indices and its runbook, in report order.
    pub(super) fn checks(&self) -> impl Iterator<Item = (CheckAt, &'static str, &dyn AnyCheck)> {
        let of = |(n, r): (usize, &'_ Runbook)| (n, r.id, r.checks.len());
        self.runbooks
            .iter()
            .enumerate()
            .map(of)
            .flat_map(|(n, id, checks)| (0..checks).map(move |m| (CheckAt(n, m), id)))
            .filter_map(|(at, id)| Some((at, id, self.check(at)?)))
    }

    /// The check at these indices.
    pub(super) fn check(&self, at: CheckAt) -> Option<&dyn AnyCheck> {
        self.runbooks.get(at.0)?.checks.get(at.1).map(|c| &**c)
    }

    /// The indices of the check with this id.
    pub(super) fn find(&self, id: &str) -> Option<CheckAt> {
        self.checks().find(|(_, _, check)| check.spec().id == id).map(|(at, ..)| at)
    }
}

/// Judges all records and makes the report.
#[must_use]
pub fn assess(judging: &Judging, recording: &Recording) -> Assessment {
    assess_except(judging, recording, None, &|_| {})
}

/// [`assess`], without judging the record at `but`, of which an earlier judgement did not finish. `begins` is called before each record is
/// judged.
pub(super) fn assess_except(judging: &Judging, recording: &Recording, but: Option<usize>, begins: &dyn Fn(usize)) -> Assessment {
    let Judging { runbooks, owner_of, waivers, .. } = judging;
    let mut judged: Vec<JudgedRecord<'_>> = Vec::with_capacity(recording.records.len());
    for (n, record) in recording.records.iter().enumerate() {
        begins(n);
        judged.push(judge(runbooks, record, waivers, recording.started_at, but == Some(n)));
    }

    // findings in report order: worst first, then in the order of the runbooks
    let mut order: Vec<(usize, usize)> =
        judged.iter().enumerate().flat_map(|(i, j)| (0..j.findings.len()).map(move |k| (i, k))).collect();
    order.sort_by_key(|&(i, k)| (std::cmp::Reverse(judged[i].findings[k].severity), i, k));
    for (n, &(i, k)) in order.iter().enumerate() {
        let reported = &mut judged[i].findings[k];
        reported.id = format!("f{}", n + 1);
        reported.owner = owner_of(&reported.subject.name);
        let key = named(&reported.code, &reported.subject.name);
        reported.finding.keys.push(key);
    }
    let mut findings: Vec<Reported> = order.iter().map(|&(i, k)| judged[i].findings[k].clone()).collect();
    let links = opsctl_core::model::links(runbooks);
    let links: Vec<&Link> = links.iter().collect();
    let mut notes = waivers.notes(&findings, recording.started_at);
    let causes = panics::caught(|| correlate(&mut findings, &links)).unwrap_or_else(|e| {
        notes.push(format!("causes of findings are unknown: {e}"));
        Vec::new()
    });

    let offers: Vec<Offer> = order
        .iter()
        .zip(&findings)
        .flat_map(|(&(i, _), finding)| offers(&judged[i], finding, &findings, &links, recording))
        .collect();
    // targets that could not be discovered have no check, and must not be reported as healthy
    let blind = recording.inventory.gaps.iter().map(|gap| Verdict::Unknown(gap.clone()));
    let verdicts: Vec<Verdict> = judged.iter().map(|j| j.verdict.clone()).chain(blind).collect();
    let verdict = Verdict::roll_up(&verdicts);
    notes.extend(judging.notes.iter().cloned());
    let report = Report {
        schema_version: REPORT_SCHEMA_VERSION,
        opsctl: Build {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("OPSCTL_COMMIT").unwrap_or("unknown").to_owned(),
        },
        host: recording.host.clone(),
        started_at: recording.started_at,
        duration_ms: recording.duration_ms,
        verdict: verdict.word().to_owned(),
        exit_code: verdict.exit_code(),
        checks: judged.iter().map(row).chain(recording.inventory.gaps.iter().map(|gap| gap_row(gap))).collect(),
        findings,
        causes,
        fixes: rows_of(&offers),
        tables: judged.iter().flat_map(|j| j.judgement.tables.clone()).collect(),
        measures: judged.iter().flat_map(|j| j.judgement.measures.clone()).collect(),
        changes: Vec::new(),
        course: None,
        journal: None,
        notes,
    };
    let pending = judged.iter().flat_map(pending).collect();
    let gaps = judged.iter().flat_map(|j| j.judgement.gaps.clone()).collect();
    let facts = judged.iter().flat_map(|j| j.judgement.facts.clone()).collect();
    let samples = judged.into_iter().flat_map(|j| j.judgement.samples).collect();
    let mut assessment = Assessment { report, verdict, verdicts, offers, samples, pending, gaps, facts };
    // after the offers: earlier changes do not affect whether a fix is possible
    assessment.add_changes(recording);
    assessment
}

impl Assessment {
    /// The assessment of a run without results, with the reason.
    #[must_use]
    pub fn unknown(why: String) -> Self {
        let inventory = Inventory { gaps: vec![why], ..Inventory::default() };
        assess(&Judging::default(), &Recording::of_nothing(inventory))
    }

    /// A report that was completed earlier, and the reason why nothing is added to it: an unfinished run is at best unknown.
    pub(super) fn of_report(mut report: Report, verdict: Verdict, why: &str) -> Self {
        report.checks.push(gap_row(why));
        let verdict = Verdict::roll_up(&[verdict, Verdict::Unknown(why.to_owned())]);
        (report.verdict, report.exit_code) = (verdict.word().to_owned(), verdict.exit_code());
        Self {
            report,
            verdict,
            verdicts: Vec::new(),
            offers: Vec::new(),
            samples: Vec::new(),
            pending: Vec::new(),
            gaps: Vec::new(),
            facts: Vec::new(),
        }
    }

    /// Adds the earlier changes that the recording contains.
    pub(super) fn add_changes(&mut self, recording: &Recording) {
        self.report.notes.extend(recording.changes.iter().filter_map(|c| incomplete_note(&c.unknown)));
        let changes = recording.changes.as_ref().map_or(&[][..], |known| known.changes.as_slice());
        self.report.changes = cite(&mut self.report.findings, changes, &recording.inventory, recording.started_at);
        self.report.duration_ms = recording.duration_ms;
    }
}

/// The note about sources of changes that could not be read.
fn incomplete_note(unknown: &[String]) -> Option<String> {
    let first = unknown.first()?;
    let more = if unknown.len() > 1 { format!(" (and {} more: `opsctl changes`)", unknown.len() - 1) } else { String::new() };
    Some(format!("the list of earlier changes is incomplete: {first}{more}"))
}

fn pending<'a>(j: &'a JudgedRecord<'_>) -> impl Iterator<Item = Pending> + 'a {
    let pending = |condition: &String| Pending {
        check: j.record.check.clone(),
        target: j.record.target.to_string(),
        condition: condition.clone(),
    };
    j.judgement.pending.iter().map(pending)
}

fn judge<'a>(runbooks: &'a [Runbook], record: &'a Record, waivers: &Waivers, now: Timestamp, skipped: bool) -> JudgedRecord<'a> {
    let runbook = record.check.split('.').next().unwrap_or_default().to_owned();
    let check = runbooks.iter().flat_map(|r| &r.checks).find(|c| c.spec().id == record.check).map(|c| &**c);
    let judged = Judged { target: &record.target, taken_at: record.taken_at };
    let unjudged = |verdict: Verdict| (verdict, Vec::new(), Judgement::default());
    let (verdict, findings, judgement) = match (&record.outcome, check) {
        (Outcome::Skip(why), _) => unjudged(Verdict::Skip(why.clone())),
        (Outcome::Unknown(why), _) => unjudged(Verdict::Unknown(why.clone())),
        (Outcome::Evidence(_), None) => unjudged(Verdict::Unknown(format!("this opsctl has no check {}", record.check))),
        (Outcome::Evidence(_), Some(_)) if skipped => {
            unjudged(Verdict::Unknown("judging its evidence did not finish by the deadline".to_owned()))
        }
        (Outcome::Evidence(evidence), Some(check)) => match panics::caught(|| check.judge(&judged, evidence)) {
            Ok(Ok(mut judgement)) => {
                let findings = std::mem::take(&mut judgement.findings).into_iter();
                let findings: Vec<Reported> = findings.map(|f| waivers.mark(Reported::new(f), now)).collect();
                (verdict_of(&judgement, &findings), findings, judgement)
            }
            Ok(Err(e)) => unjudged(Verdict::Unknown(e.to_string())),
            Err(e) => unjudged(Verdict::Unknown(e.to_string())),
        },
    };
    JudgedRecord { record, check, runbook, verdict, findings, judgement }
}

/// The verdict of a judgement with these findings.
fn verdict_of(judgement: &Judgement, findings: &[Reported]) -> Verdict {
    // waived findings count as info
    let counts = |f: &Reported| if f.waived.is_some() { Severity::Info } else { f.severity };
    let worst = findings.iter().map(counts).max();
    match (worst, &judgement.skip) {
        (Some(severity @ (Severity::Crit | Severity::Warn)), _) => severity.into(),
        _ if !judgement.gaps.is_empty() => Verdict::Unknown(judgement.gaps.join("; ")),
        (_, Some(why)) => Verdict::Skip(why.clone()),
        (Some(Severity::Info), None) => Verdict::Info,
        (None, None) => Verdict::Ok,
    }
}

fn row(j: &JudgedRecord<'_>) -> CheckRow {
    CheckRow {
        check: j.record.check.clone(),
        runbook: j.runbook.clone(),
        target: j.record.target.to_string(),
        verdict: j.verdict.word().to_owned(),
        reason: j.verdict.reason().map(str::to_owned),
        duration_ms: j.record.duration_ms,
        findings: j.findings.iter().map(|f| f.id.clone()).collect(),
    }
}

/// The row for a failed part of the discovery.
fn gap_row(gap: &str) -> CheckRow {
    CheckRow {
        check: "discovery".to_owned(),
        runbook: "discovery".to_owned(),
        target: "host".to_owned(),
        verdict: "unknown".to_owned(),
        reason: Some(gap.to_owned()),
        duration_ms: 0,
        findings: Vec::new(),
    }
}

/// Plans every fix of a finding.
fn offers(j: &JudgedRecord<'_>, finding: &Reported, all: &[Reported], links: &[&Link], recording: &Recording) -> Vec<Offer> {
    let (Some(check), Outcome::Evidence(evidence)) = (j.check, &j.record.outcome) else { return Vec::new() };
    let judged = Judged { target: &j.record.target, taken_at: j.record.taken_at };
    finding
        .fixes
        .iter()
        .map(|fix| {
            let spec = check.spec().fixes.iter().find(|s| s.id == fix);
            let plan = panics::caught(|| check.plan(fix, finding, &judged, evidence));
            let unplanned = |why: String| Err(Refusal::Precondition(why));
            let plan = plan.map_or_else(|e| unplanned(e.to_string()), |p| p.unwrap_or_else(|e| unplanned(e.to_string())));
            let risk = plan.as_ref().ok().map(|p| p.risk).or(spec.map(|s| s.risk)).unwrap_or(Risk::R4);
            let waived = || finding.waived.as_ref().map(|w| format!("the finding is waived: {w}"));
            let refused = upstream(finding, all, links).or_else(|| maintenance(finding, recording)).or_else(waived);
            Offer { fix: fix.clone(), finding: finding.clone(), plan, refused, risk }
        })
        .collect()
}

/// The refusal of a fix while the cause of its finding is open: it would not help and can do harm.
fn upstream(finding: &Reported, all: &[Reported], links: &[&Link]) -> Option<String> {
    let cause = all.iter().find(|f| Some(&f.id) == finding.explained_by.as_ref())?;
    if links.iter().any(|l| l.treatable && l.cause == cause.code && l.effect == finding.code) {
        // the treatable cause may have a cause of its own that is open
        return upstream(cause, all, links);
    }
    Some(format!("its cause is open: {}: {}", cause.code, cause.message))
}

fn maintenance(finding: &Finding, recording: &Recording) -> Option<String> {
    // maintenance of a container includes the servers in it
    let concerns = |c: &&ContainerRef| {
        let itself = finding.subject.kind == Kind::Container && finding.subject.id.starts_with(&c.id);
        itself || finding.keys.iter().any(|k| k.kind == KeyKind::Container && k.value == c.id)
    };
    recording.inventory.containers.iter().filter(concerns).find_map(|container| {
        let label = container.labels.get("opsctl.maintenance")?;
        (label != "false").then(|| format!("{} is labelled opsctl.maintenance={label}", container.name))
    })
}

/// One row per fix, subject and part of it, for any number of findings.
fn rows_of(offers: &[Offer]) -> Vec<FixOffer> {
    let mut rows: Vec<FixOffer> = Vec::new();
    for offer in offers {
        let subject = offer.finding.subject.to_string();
        let command = fix_command(&offer.fix, &offer.finding.subject.name, &offer.finding.part);
        if rows.iter().any(|r| r.id == offer.fix && r.subject == subject && r.command == command) {
            continue;
        }
        rows.push(FixOffer {
            id: offer.fix.clone(),
            command,
            subject,
            risk: offer.risk,
            refused: offer.refused.clone().or_else(|| offer.plan.as_ref().err().map(ToString::to_string)),
        });
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gap_is_unknown_without_findings() {
        let gap = Judgement { gaps: vec!["needs root".into()], ..Judgement::default() };
        assert_eq!(verdict_of(&gap, &[]), Verdict::Unknown("needs root".into()));
        assert_eq!(verdict_of(&Judgement::skip("no docker"), &[]), Verdict::Skip("no docker".into()));
        assert_eq!(verdict_of(&Judgement::default(), &[]), Verdict::Ok);
    }

    fn nothing_recorded(inventory: opsctl_core::model::Inventory) -> Recording {
        Recording {
            schema_version: 1,
            opsctl: String::new(),
            host: opsctl_core::model::HostInfo::default(),
            started_at: jiff::Timestamp::UNIX_EPOCH,
            duration_ms: 0,
            inventory,
            records: Vec::new(),
            changes: None,
        }
    }

    #[test]
    fn maintenance_of_a_container_includes_its_servers() {
        static CODE: opsctl_core::model::Code = opsctl_core::model::Code {
            id: "redis.x",
            severities: &[Severity::Warn],
            when: "",
            hint: "",
            ..opsctl_core::model::Code::BASE
        };
        let container = ContainerRef {
            id: "a".repeat(64),
            name: "cache".into(),
            image: String::new(),
            state: "running".into(),
            network_mode: String::new(),
            product: None,
            celery: None,
            project: None,
            service: None,
            labels: [("opsctl.maintenance".to_owned(), "true".to_owned())].into(),
        };
        let recording =
            nothing_recorded(opsctl_core::model::Inventory { containers: vec![container.clone()], ..Default::default() });
        let subject = opsctl_core::model::Object::new(Kind::Redis, "cache", "redis:x");
        let finding = Finding::new(&CODE, Severity::Warn, subject, "");
        assert_eq!(maintenance(&finding, &recording), None);
        let tied = finding.key(KeyKind::Container, &container.id);
        assert!(maintenance(&tied, &recording).is_some_and(|why| why.contains("cache is labelled")));
    }

    #[test]
    fn failed_discovery_is_unknown() {
        let inventory = opsctl_core::model::Inventory { gaps: vec!["reading mounts: denied".into()], ..Default::default() };
        let recording = nothing_recorded(inventory);
        let assessment = assess(&Judging::default(), &recording);
        assert_eq!(assessment.verdict, Verdict::Unknown("reading mounts: denied".into()));
        assert_eq!((assessment.report.exit_code, assessment.report.checks.len()), (3, 1));
    }
}
