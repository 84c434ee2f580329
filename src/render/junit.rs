//! The report as JUnit XML in the variant that Jenkins and GitLab read: a suite per runbook, a test per check and target.

use std::fmt::Write as _;

use opsctl_core::model::{CheckRow, Report, Reported};

use super::markup::{escape, escape_lines};
use super::view::{self, Outcome};

/// Tests, failures, errors, skipped, milliseconds.
#[derive(Default, Clone, Copy)]
struct Tally {
    tests: usize,
    failures: usize,
    errors: usize,
    skipped: usize,
    ms: u64,
}

impl Tally {
    fn of<'a>(report: &Report, rows: impl IntoIterator<Item = &'a CheckRow>) -> Self {
        rows.into_iter().fold(Self::default(), |mut tally, row| {
            tally.tests += 1;
            tally.ms += row.duration_ms;
            match view::outcome(report, row).0 {
                Outcome::Pass => {}
                Outcome::Fail(_) => tally.failures += 1,
                Outcome::Unknown(_) => tally.errors += 1,
                Outcome::Skip(_) => tally.skipped += 1,
            }
            tally
        })
    }

    fn attributes(self) -> String {
        let Self { tests, failures, errors, ms, .. } = self;
        format!(r#"tests="{tests}" failures="{failures}" errors="{errors}" time="{}""#, seconds(ms))
    }
}

pub(super) fn render(report: &Report) -> String {
    let mut runbooks: Vec<(&str, Vec<&CheckRow>)> = Vec::new();
    for row in &report.checks {
        match runbooks.iter_mut().find(|(name, _)| *name == row.runbook) {
            Some((_, rows)) => rows.push(row),
            None => runbooks.push((&row.runbook, vec![row])),
        }
    }
    let host = escape(&report.host.hostname);
    // the schema requires seconds and forbids a zone; the time is UTC
    let began = report.started_at.strftime("%Y-%m-%dT%H:%M:%S");
    let all = Tally { ms: report.duration_ms, ..Tally::of(report, &report.checks) };
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // the Jenkins schema allows `skipped` only on a suite; writing to a String cannot fail
    let _ = writeln!(out, r#"<testsuites name="opsctl" {}>"#, all.attributes());
    // only suites have properties; those of the run are in the first suite
    let mut properties = report.journal.as_ref().map_or_else(String::new, |journal| {
        let value = escape(&journal.to_string());
        format!("    <properties>\n      <property name=\"journal\" value=\"{value}\"/>\n    </properties>\n")
    });
    for (runbook, rows) in runbooks {
        let tally = Tally::of(report, rows.iter().copied());
        let (tally, skipped) = (tally.attributes(), tally.skipped);
        let _ = writeln!(
            out,
            r#"  <testsuite name="{}" {tally} skipped="{skipped}" hostname="{host}" timestamp="{began}">"#,
            escape(runbook)
        );
        out += &std::mem::take(&mut properties);
        for row in rows {
            out += &case(report, row);
        }
        out += "  </testsuite>\n";
    }
    out + "</testsuites>\n"
}

fn case(report: &Report, row: &CheckRow) -> String {
    let (outcome, waived) = view::outcome(report, row);
    let mut inside = match outcome {
        Outcome::Pass => String::new(),
        // readers use the first failure of a test: there is one, with all findings
        Outcome::Fail(findings) => {
            let (code, message) = findings.first().map_or((row.check.as_str(), row.verdict.as_str()), |f| (&f.code, &f.message));
            let text: Vec<String> = findings.iter().map(|f| failure_text(report, f)).collect();
            let text = escape_lines(&text.join("\n\n"));
            format!("      <failure type=\"{}\" message=\"{}\">{text}</failure>\n", escape(code), escape(message))
        }
        Outcome::Unknown(why) => format!("      <error type=\"unknown\" message=\"could not check: {}\"/>\n", escape(why)),
        Outcome::Skip(why) => format!("      <skipped message=\"{}\"/>\n", escape(why)),
    };
    if !waived.is_empty() {
        let lines: Vec<String> =
            waived.iter().map(|(f, waiver)| format!("waived: {} {} ({waiver})", f.code, f.message)).collect();
        let _ = writeln!(inside, "      <system-out>{}</system-out>", escape_lines(&lines.join("\n")));
    }
    let (check, target) = (escape(&row.check), escape(&row.target));
    let head = format!(r#"    <testcase classname="{check}" name="{target}" time="{}""#, seconds(row.duration_ms));
    if inside.is_empty() { format!("{head}/>\n") } else { format!("{head}>\n{inside}    </testcase>\n") }
}

/// The lines of a finding in a failed test.
fn failure_text(report: &Report, finding: &Reported) -> String {
    let mut text = format!("{} {} {}: {}", finding.severity, finding.code, finding.subject, finding.message);
    if let Some(status) = view::status(report, finding) {
        let _ = write!(text, " [{status}]");
    }
    if let Some(cause) = finding.explained_by.as_deref().and_then(|id| view::find(report, id)) {
        let _ = write!(text, "\ncaused by {} {}: {}", cause.code, cause.subject, cause.message);
    }
    for cited in &finding.evidence {
        let _ = write!(text, "\n{}: {}", cited.label, cited.value);
    }
    if !finding.hint.is_empty() {
        let _ = write!(text, "\nto do: {}", finding.hint);
    }
    text
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn a_report_as_tests() {
        insta::assert_snapshot!(render(&sample::compared()));
    }

    #[test]
    fn foreign_text_cannot_break_the_document() {
        for report in [sample::hostile(), sample::many(200)] {
            let text = render(&report);
            assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
            sample::well_formed(&text);
        }
    }
}
