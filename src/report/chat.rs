//! A report in a few lines, for a chat message or the subject of a mail. The markup of bold and code differs between services;
//! the lines are the same.

use opsctl_core::model::{FindingStatus, Report, Reported, printable, quantity};

use crate::render::scope;

/// Maximum number of lines of one kind; the rest is counted.
const MAX_LINES: usize = 8;

/// A line and its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// The first line.
    Title(String),
    /// An ordinary line.
    Text(String),
    /// A command to paste.
    Command(String),
    /// The last line. It is kept when a long message is truncated.
    Footer(String),
}

/// The head of the journal, for the end of a message.
#[must_use]
pub fn footer(report: &Report) -> Option<String> {
    report.journal.as_ref().map(|journal| printable(&format!("journal: {journal}")))
}

/// Open findings, worst first.
fn open(report: &Report) -> Vec<&Reported> {
    report.findings.iter().filter(|f| f.is_open()).collect()
}

/// Open findings without a cause.
fn roots(report: &Report) -> Vec<&Reported> {
    open(report).into_iter().filter(|f| f.explained_by.is_none()).collect()
}

/// One line: the verdict, the root cause, and the number of further ones.
#[must_use]
pub fn headline(report: &Report) -> String {
    let alarm = report.journal.as_ref().is_some_and(|journal| journal.problem.is_some());
    verdict_line(report) + if alarm { "; check the journal of changes (opsctl audit verify)" } else { "" }
}

fn verdict_line(report: &Report) -> String {
    let host = printable(&report.host.hostname);
    let roots = roots(report);
    let Some(first) = roots.first() else {
        let over = report.course.as_ref().map_or(0, |c| c.recovered.len());
        let over = if over > 0 { format!(", {} over", quantity::count(over, "finding")) } else { String::new() };
        // one runbook proves nothing about the others
        return match (report.verdict.as_str(), scope(report)) {
            ("ok", None) => format!("{host}: all is well{over}"),
            ("ok", Some(scope)) => format!("{host}: nothing needs attention in {}{over}", printable(&scope)),
            (verdict, _) => format!("{host}: {verdict}{over}"),
        };
    };
    let more = if roots.len() > 1 { format!(" (and {} more)", roots.len() - 1) } else { String::new() };
    format!("{host}: {}: {}{more}", report.verdict, printable(&first.message))
}

/// The report in a few lines.
#[must_use]
pub fn chat(report: &Report) -> Vec<Line> {
    let mut lines = vec![Line::Title(headline(report))];
    let all = open(report);
    let shown = |f: &&&Reported| f.explained_by.is_none();
    for finding in all.iter().filter(shown).take(MAX_LINES) {
        lines.push(Line::Text(format!(
            "• {}{} {}: {}",
            status_prefix(report, finding),
            finding.severity,
            finding.code,
            printable(&finding.message)
        )));
        let explained = report.causes.iter().find(|c| c.root == finding.id).map_or(0, |c| c.explains.len());
        if explained > 0 {
            lines.push(Line::Text(format!("   explains {}", quantity::count(explained, "other finding"))));
        }
        if let Some(owner) = &finding.owner {
            lines.push(Line::Text(format!("   owner: {}", printable(owner))));
        }
    }
    let roots = all.iter().filter(shown).count();
    if roots > MAX_LINES {
        lines.push(Line::Text(format!("• and {} more", roots - MAX_LINES)));
    }
    if let Some(course) = &report.course {
        for over in course.recovered.iter().take(MAX_LINES) {
            lines.push(Line::Text(format!("✓ over: {} {}: {}", over.code, printable(&over.subject), printable(&over.message))));
        }
        for trend in course.trends.iter().filter(|t| !t.says.is_empty()).take(MAX_LINES) {
            lines.push(Line::Text(format!("↗ {} {}: {}", printable(&trend.subject), trend.name, printable(&trend.says))));
        }
    }
    let fixes = report.fixes.iter().filter(|f| f.refused.is_none() && all.iter().any(|o| o.fixes.contains(&f.id)));
    lines.extend(fixes.take(MAX_LINES).map(|f| Line::Command(printable(&f.command))));
    lines.extend(footer(report).map(Line::Footer));
    lines
}

fn status_prefix(report: &Report, finding: &Reported) -> String {
    let Some(known) = report.course.as_ref().and_then(|c| c.of(&finding.id)) else { return String::new() };
    match known.standing {
        FindingStatus::New => "new: ".to_owned(),
        FindingStatus::Still => {
            format!("still open, for {}: ", quantity::duration(report.started_at.duration_since(known.first_seen)))
        }
        FindingStatus::Flapping => format!("flapping, {} times a day: ", known.times),
    }
}

#[cfg(test)]
mod tests {
    use opsctl_core::model::{CheckRow, JournalHead, Severity};

    use super::super::fixtures::report;
    use super::*;

    #[test]
    fn headline_names_the_cause() {
        assert_eq!(
            headline(&report(&[("web", Severity::Crit), ("db", Severity::Crit)])),
            "web-1: crit: web is down (and 1 more)"
        );
        let mut healthy = report(&[]);
        healthy.verdict = "ok".into();
        healthy.checks.clear();
        assert_eq!(headline(&healthy), "web-1: all is well");
    }

    #[test]
    fn headline_of_one_runbook_is_no_statement_about_the_host() {
        let mut r = report(&[]);
        r.verdict = "ok".into();
        r.checks = vec![CheckRow {
            check: "container.state".into(),
            runbook: "container".into(),
            target: "container:web".into(),
            verdict: "ok".into(),
            reason: None,
            duration_ms: 1,
            findings: vec![],
        }];
        assert_eq!(headline(&r), "web-1: nothing needs attention in the container checks of container web");
    }

    #[test]
    fn tampered_journal_is_in_the_headline() {
        let mut r = report(&[]);
        r.verdict = "ok".into();
        r.checks.clear();
        let head = JournalHead { file: "j".into(), entries: 0, head: "0".repeat(64), signature: None, problem: None };
        r.journal = Some(head.clone());
        assert_eq!(headline(&r), "web-1: all is well");
        assert_eq!(chat(&r).last(), Some(&Line::Footer("journal: no entry".into())));
        r.journal = Some(JournalHead { problem: Some("it was removed".into()), ..head });
        assert_eq!(headline(&r), "web-1: all is well; check the journal of changes (opsctl audit verify)");
        assert_eq!(chat(&r).last(), Some(&Line::Footer("journal: no entry; it was removed".into())));
    }

    #[test]
    fn long_report_is_a_short_message() {
        let names: Vec<String> = (0..200).map(|i| format!("c{i}")).collect();
        let many: Vec<(&str, Severity)> = names.iter().map(|n| (n.as_str(), Severity::Crit)).collect();
        let lines = chat(&report(&many));
        assert!(lines.len() < 12);
        assert_eq!(lines.last(), Some(&Line::Text("• and 192 more".into())));
    }
}
