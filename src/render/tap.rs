//! The report as TAP (Test Anything Protocol): a test point per check and target.
//!
//! The output declares version 13, of which 14 is an extension: it has the same meaning in both, and the parser shipped with Perl
//! rejects version 14.

use std::fmt::Write as _;

use opsctl_core::model::{CheckRow, Report, Reported, printable};

use super::view::{self, Outcome};

pub(super) fn render(report: &Report) -> String {
    let mut out = String::from("TAP version 13\n");
    // writing to a String cannot fail
    if report.checks.is_empty() {
        out += "1..0 # SKIP nothing was checked\n";
        return out;
    }
    let _ = writeln!(out, "1..{}", report.checks.len());
    for (n, row) in report.checks.iter().enumerate() {
        out += &point(report, row, n + 1);
    }
    out + &view::journal(report).map(|line| format!("# {line}\n")).unwrap_or_default()
}

fn point(report: &Report, row: &CheckRow, n: usize) -> String {
    let name = format!("{} {}", description(&row.check), description(&row.target));
    let (outcome, waived) = view::outcome(report, row);
    let waivers: Vec<Vec<(&str, String)>> =
        waived.iter().map(|(f, w)| [about(f), vec![("waived", (*w).to_owned())]].concat()).collect();
    let (state, head, findings) = match outcome {
        Outcome::Pass if waivers.is_empty() => return format!("ok {n} - {name}\n"),
        Outcome::Skip(why) => return format!("ok {n} - {name} # SKIP {}\n", description(why)),
        Outcome::Pass => (format!("ok {n} - {name}"), Vec::new(), Vec::new()),
        // a TODO would pass; a check without a result must not
        Outcome::Unknown(why) => {
            let head = vec![("severity", "unknown".to_owned()), ("message", format!("could not check: {why}"))];
            (format!("not ok {n} - {name} (could not check)"), head, Vec::new())
        }
        Outcome::Fail(findings) => {
            let head = vec![("severity", row.verdict.clone())];
            (format!("not ok {n} - {name}"), head, findings.iter().map(|f| finding(report, f)).collect())
        }
    };
    format!("{state}\n  ---\n{}{}{}  ...\n", pairs(&head, "  "), list("findings", &findings), list("waived", &waivers))
}

/// The diagnostics of a finding.
fn finding(report: &Report, finding: &Reported) -> Vec<(&'static str, String)> {
    let mut fields = about(finding);
    let cause = finding.explained_by.as_deref().and_then(|id| view::find(report, id));
    fields.extend(cause.map(|c| ("caused_by", format!("{} {}", c.code, c.subject))));
    fields.extend(view::status(report, finding).map(|s| ("standing", s)));
    fields.extend(Some(("hint", finding.hint.clone())).filter(|(_, h)| !h.is_empty()));
    fields
}

fn about(finding: &Reported) -> Vec<(&'static str, String)> {
    vec![
        ("code", finding.code.clone()),
        ("severity", finding.severity.to_string()),
        ("subject", finding.subject.to_string()),
        ("message", finding.message.clone()),
    ]
}

/// A list of a YAML block.
fn list(title: &str, items: &[Vec<(&str, String)>]) -> String {
    if items.is_empty() {
        return String::new();
    }
    let mut out = format!("  {title}:\n");
    for item in items {
        // the first field follows the dash
        out += &pairs(item, "      ").replacen("      ", "    - ", 1);
    }
    out
}

fn pairs(fields: &[(&str, String)], indent: &str) -> String {
    fields.iter().fold(String::new(), |mut out, (name, value)| {
        let value = printable(value).replace('\\', "\\\\").replace('"', "\\\"");
        let _ = writeln!(out, "{indent}{name}: \"{value}\"");
        out
    })
}

/// Foreign text in the line of a test point, where `#` starts a directive.
fn description(text: &str) -> String {
    printable(text).replace('\\', "\\\\").replace('#', "\\#")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn a_report_as_test_points() {
        insta::assert_snapshot!(render(&sample::compared()));
    }

    #[test]
    fn plan_matches_the_test_points() {
        for mut report in [sample::hostile(), sample::many(200), sample::five_red_things(), sample::healthy()] {
            report.checks[0].target = "container:a # TODO b\nok 9 - c\\# SKIP".to_owned();
            let text = render(&report);
            assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
            let points = text.lines().filter(|l| l.starts_with("ok ") || l.starts_with("not ok ")).count();
            assert_eq!(text.lines().nth(1), Some(format!("1..{points}").as_str()));
            assert_eq!(points, report.checks.len());
            assert!(!text.contains(" # TODO"), "{text}");
        }
    }

    #[test]
    fn nothing_checked_is_a_skipped_plan() {
        let mut report = sample::healthy();
        report.checks.clear();
        assert_eq!(render(&report), "TAP version 13\n1..0 # SKIP nothing was checked\n");
    }
}
