//! The report as metrics for the textfile collector of node_exporter.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use opsctl_core::model::{FindingStatus, Measure, Report, Reported, Severity, Unit, printable};

use super::view;

/// Labels in order, and the value.
type Sample = (Vec<(&'static str, String)>, f64);

pub(super) fn render(report: &Report) -> String {
    let mut out = String::new();
    let one = |value: f64| vec![(Vec::new(), value)];
    let ended = report.started_at.as_millisecond() as f64 / 1000.0 + report.duration_ms as f64 / 1000.0;
    let build = vec![("version", report.opsctl.version.clone()), ("commit", report.opsctl.commit.clone())];
    out += &family("opsctl_build_info", "Version of the opsctl that wrote this file.", vec![(build, 1.0)]);
    // a cron job that failed writes nothing: only the age of this metric shows it
    let help = "End of the last run; alert when time() minus this is more than two runs apart.";
    out += &family("opsctl_last_run_timestamp_seconds", help, one(ended));
    out += &family("opsctl_run_duration_seconds", "Duration of the last run.", one(report.duration_ms as f64 / 1000.0));
    out += &family("opsctl_verdict", "Verdict of the last run: 0 ok, 1 warn, 2 crit, 3 unknown.", one(report.exit_code.into()));
    let checks = ["ok", "info", "warn", "crit", "unknown", "skip"];
    let checks = checks.map(|v| (vec![("verdict", v.to_owned())], view::checks(report, v) as f64)).to_vec();
    out += &family("opsctl_checks", "Checks of the last run by verdict.", checks);
    let findings = [Severity::Info, Severity::Warn, Severity::Crit];
    let findings = findings.map(|s| (vec![("severity", s.to_string())], view::findings(report, s) as f64)).to_vec();
    out += &family("opsctl_findings", "Findings that are open and not waived, by severity.", findings);
    let waived = view::waived(report).len() as f64;
    out += &family("opsctl_waived_findings", "Findings that a waiver covers.", one(waived));
    out += &family("opsctl_finding", "1 for each finding that needs attention; root is true for causes.", open(report));
    if let Some(journal) = &report.journal {
        let help = "Entries of the journal of changes; a decrease means that it was truncated or removed.";
        out += &family("opsctl_journal_entries", help, one(journal.entries as f64));
        let help = "1 while the journal of changes is unmodified, as far as this host can detect.";
        out += &family("opsctl_journal_intact", help, one(f64::from(u8::from(journal.problem.is_none()))));
        let help = "Always 1; the label is the value for opsctl audit verify --head.";
        out += &family("opsctl_journal_head_info", help, vec![(vec![("head", journal.mark())], 1.0)]);
    }
    for (unit, name, unit_text) in UNITS {
        let of_unit: Vec<&Measure> = report.measures.iter().filter(|m| m.unit == *unit).collect();
        let values = of_unit.iter().map(|m| (measure(m), scaled(m.unit, m.value))).collect();
        out += &family(&format!("opsctl_measure_{name}"), &format!("Value read by a check, {unit_text}."), values);
        let limits = of_unit.iter().flat_map(|m| limits(m)).collect();
        let help =
            format!("Limits of opsctl_measure_{name}: warn and crit apply on that side of the limit, max is the capacity.");
        out += &family(&format!("opsctl_measure_limit_{name}"), &help, limits);
    }
    out
}

/// Metric names use base units; a share is a ratio from 0 to 1.
const UNITS: &[(Unit, &str, &str)] = &[
    (Unit::Percent, "ratio", "as a share of the capacity"),
    (Unit::Bytes, "bytes", "in bytes"),
    (Unit::Seconds, "seconds", "in seconds"),
    (Unit::Count, "number", "as a count"),
];

fn open(report: &Report) -> Vec<Sample> {
    let status = |id: &str| match report.course.as_ref().and_then(|c| c.of(id)).map(|k| k.standing) {
        Some(FindingStatus::New) => "new",
        Some(FindingStatus::Still) => "still",
        Some(FindingStatus::Flapping) => "flapping",
        None => "",
    };
    let sample = |f: &Reported| {
        let labels = vec![
            ("code", f.code.clone()),
            ("severity", f.severity.to_string()),
            ("kind", f.subject.kind.to_string()),
            ("name", f.subject.name.clone()),
            ("root", f.explained_by.is_none().to_string()),
            ("owner", f.owner.clone().unwrap_or_default()),
            ("standing", status(&f.id).to_owned()),
        ];
        (labels, 1.0)
    };
    view::open(report).map(sample).collect()
}

fn measure(m: &Measure) -> Vec<(&'static str, String)> {
    vec![("subject", m.subject.clone()), ("name", m.name.clone())]
}

fn limits(m: &Measure) -> Vec<Sample> {
    let side = if m.falling { "below" } else { "above" };
    let known = [("warn", m.warn, side), ("crit", m.crit, side), ("max", m.max, "")];
    let sample = |(limit, value, side): (&str, Option<f64>, &str)| {
        let labels = [measure(m), vec![("limit", limit.to_owned()), ("side", side.to_owned())]].concat();
        Some((labels, scaled(m.unit, value?)))
    };
    known.into_iter().filter_map(sample).collect()
}

fn scaled(unit: Unit, value: f64) -> f64 {
    if unit == Unit::Percent { value / 100.0 } else { value }
}

/// One metric: help, type, samples. Without a sample there is no metric.
fn family(name: &str, help: &str, samples: Vec<Sample>) -> String {
    let mut out = String::new();
    let mut seen = BTreeSet::new();
    for (labels, value) in samples {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", label(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        // two findings about two objects of one name are one series, and a duplicate series invalidates the whole file
        if seen.insert(labels.clone()) {
            // writing to a String cannot fail
            let _ = writeln!(out, "{name}{labels} {}", number(value));
        }
    }
    if out.is_empty() { out } else { format!("# HELP {name} {help}\n# TYPE {name} gauge\n{out}") }
}

fn number(value: f64) -> String {
    match value {
        v if v.is_nan() => "NaN".to_owned(),
        v if v.is_infinite() => if v > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
        v => v.to_string(),
    }
}

/// Foreign text as the value of a label.
fn label(text: &str) -> String {
    printable(text).replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn metrics_of_a_report() {
        insta::assert_snapshot!(render(&sample::compared()));
    }

    #[test]
    fn families_and_series_are_unique() {
        let mut twice = sample::many(200);
        for f in &mut twice.findings {
            f.finding.subject.name = "same \"name\" \\ \n".to_owned();
        }
        for report in [sample::hostile(), sample::many(200), sample::compared(), twice] {
            let text = render(&report);
            let mut seen = BTreeSet::new();
            for line in text.lines() {
                assert!(seen.insert(line.rsplit_once(' ').map_or(line, |(series, _)| series)), "{line}");
                assert!(!line.chars().any(char::is_control), "{line:?}");
            }
            let types: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")).collect();
            assert_eq!(types.len(), types.iter().collect::<BTreeSet<_>>().len());
        }
    }
}
