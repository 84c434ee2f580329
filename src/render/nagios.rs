//! The report as the output of a monitoring plugin: one line with perfdata, then the details.

use std::fmt::Write as _;

use opsctl_core::model::{Measure, Report, Severity, Unit, printable};

use super::unanswered::unanswered;
use super::view;

/// Nagios reads this much of a plugin's output (`MAX_PLUGIN_OUTPUT_LENGTH`), and a truncated number would be a wrong number.
const MAX_OUTPUT_BYTES: usize = 8192;
/// Maximum size of the perfdata; the rest is for text.
const MAX_PERFDATA_BYTES: usize = 5120;

pub(super) fn render(report: &Report) -> String {
    let (numbers, left_out) = perfdata(report);
    let word = match report.exit_code {
        0 => "OK",
        1 => "WARNING",
        2 => "CRITICAL",
        _ => "UNKNOWN",
    };
    let mut out = format!("OPSCTL {word} - {} | {numbers}\n", text(&headline(report)));
    let mut lines = details(report);
    if left_out > 0 {
        lines.insert(
            0,
            format!(
                "{left_out} numbers are left out here: monitoring reads only {MAX_OUTPUT_BYTES} bytes (`--format json` has all)"
            ),
        );
    }
    let all = lines.len();
    for (n, line) in lines.iter().enumerate() {
        let line = text(line) + "\n";
        let more = format!("and {} lines more: `opsctl diagnose` there shows all\n", all - n);
        if out.len() + line.len() + more.len() >= MAX_OUTPUT_BYTES {
            out += &more;
            break;
        }
        out += &line;
    }
    out
}

/// Output of a plugin that failed.
#[must_use]
pub fn nagios_error(error: &str) -> String {
    let mut lines = error.lines().map(text);
    let first = lines.next().unwrap_or_default();
    let rest: String = lines.map(|l| l + "\n").collect();
    format!("OPSCTL UNKNOWN - {first}\n{rest}")
}

/// The root cause first, then the counts.
fn headline(report: &Report) -> String {
    let causes = view::causes(report);
    let mut parts = Vec::new();
    if let Some((cause, root)) = causes.first() {
        parts.push(format!("{} ({}, explains {} more)", root.message, root.code, cause.explains.len()));
    } else if let Some(first) = view::open(report).next() {
        parts.push(format!("{} ({})", first.message, first.code));
    } else if let Some(one) = unanswered(report).first() {
        parts.push(format!("could not check {}: {}", one.subjects(), one.why()));
    } else {
        let scope = view::scope(report).map(|scope| format!(" in {scope}")).unwrap_or_default();
        parts.push(format!("nothing needs attention{scope}"));
    }
    let (crit, warn) = (view::findings(report, Severity::Crit), view::findings(report, Severity::Warn));
    let unknown = view::checks(report, "unknown");
    let counts = [(crit, "crit"), (warn, "warn"), (unknown, "unknown"), (view::waived(report).len(), "waived")];
    let counts: Vec<String> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    parts.extend(Some(counts.join(", ")).filter(|c| !c.is_empty()));
    format!("{}; {} checks in {}", parts.join("; "), report.checks.len(), view::took(report))
}

fn details(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    let shown: Vec<_> = view::open(report).collect();
    for (depth, f) in view::tree(&shown) {
        let status = view::status(report, f).map(|s| format!(" [{s}]")).unwrap_or_default();
        lines.push(format!("{}{} {} {}: {}{status}", "  ".repeat(depth), f.severity, f.code, f.subject, f.message));
        if depth == 0 && !f.hint.is_empty() {
            lines.push(format!("  to do: {}", f.hint));
        }
    }
    lines.extend(unanswered(report).iter().map(|one| format!("unknown {}: {}", one.subjects(), one.why())));
    for (f, waiver) in view::waived(report) {
        lines.push(format!("waived {} {}: {} ({waiver})", f.code, f.subject, f.message));
    }
    for r in view::recovered(report) {
        lines.push(format!("recovered {} {}: {} (lasted {})", r.code, r.subject, r.message, view::lasted(r)));
    }
    lines.extend(view::forecasts(report).into_iter().map(|f| format!("trend {f}")));
    lines.extend(view::journal(report).filter(|_| report.journal.as_ref().is_some_and(|j| j.entries > 0)));
    lines
}

/// All numbers that fit, and the number of the omitted ones.
fn perfdata(report: &Report) -> (String, usize) {
    let mut out = String::new();
    // writing to a String cannot fail
    for severity in [Severity::Crit, Severity::Warn] {
        let _ = write!(out, "'{severity}'={};;;0 ", view::findings(report, severity));
    }
    let (checks, took) = (report.checks.len(), number(report.duration_ms as f64 / 1000.0));
    let _ = write!(out, "'unknown'={};;;0;{checks} 'duration'={took}s;;;0", view::checks(report, "unknown"));
    let mut left_out = 0;
    // numbers with limits come first
    let (limited, free): (Vec<&Measure>, Vec<&Measure>) =
        report.measures.iter().partition(|m| m.warn.is_some() || m.crit.is_some());
    for item in limited.into_iter().chain(free).map(datum) {
        if out.len() + 1 + item.len() > MAX_PERFDATA_BYTES {
            left_out += 1;
        } else {
            out.push(' ');
            out += &item;
        }
    }
    (out, left_out)
}

/// `'label'=value[UOM];warn;crit;min;max`
fn datum(m: &Measure) -> String {
    let unit = match m.unit {
        Unit::Percent => "%",
        Unit::Bytes => "B",
        Unit::Seconds => "s",
        Unit::Count => "",
    };
    // readers do not agree on how to quote these inside a label
    let label = printable(&format!("{} {}", m.subject, m.name)).replace(['\'', '=', '|'], "_");
    let range = |limit: Option<f64>| match limit {
        None => String::new(),
        // too low
        Some(l) if m.falling => format!("{}:", number(l)),
        // a bare number would report values below 0 as too high
        Some(l) if m.value < 0.0 || l < 0.0 => format!("~:{}", number(l)),
        Some(l) => number(l),
    };
    // only a duration can be below zero: an expired certificate, a clock that is late
    let min = if m.unit == Unit::Seconds { "" } else { "0" };
    let max = m.max.map(number).unwrap_or_default();
    let item = format!("'{label}'={}{unit};{};{};{min};{max}", number(m.value), range(m.warn), range(m.crit));
    item.trim_end_matches(';').to_owned()
}

/// Plain decimals; `U` is the plugin notation of an unknown number.
fn number(value: f64) -> String {
    if value.is_finite() { ((value * 1e6).round() / 1e6).to_string() } else { "U".to_owned() }
}

/// Foreign text before the bar that separates the perfdata.
fn text(text: &str) -> String {
    printable(text).replace('|', "\u{a6}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn a_plugin_output() {
        insta::assert_snapshot!(render(&sample::compared()));
        let ok = "OPSCTL OK - nothing needs attention; 6 checks in 312 ms | 'crit'=0;;;0 'warn'=0;;;0 'unknown'=0;;;0;6 'duration'=0.312s;;;0\n";
        assert_eq!(render(&sample::healthy()), ok);
    }

    #[test]
    fn output_has_one_bar() {
        for mut report in [sample::hostile(), sample::many(200), sample::compared()] {
            if let Some(f) = report.findings.first_mut() {
                f.finding.message += " a|b";
                f.finding.hint = "x | y".to_owned();
            }
            let text = render(&report);
            assert_eq!(text.matches('|').count(), 1, "{text}");
            assert!(text.lines().next().is_some_and(|l| l.contains('|')));
            assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
            assert!(text.len() <= MAX_OUTPUT_BYTES, "{}", text.len());
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_omitted_whole() {
        let mut report = sample::compared();
        report.measures =
            (0..400).map(|i| Measure { subject: format!("container:c{i}"), ..report.measures[0].clone() }).collect();
        let text = render(&report);
        let line = text.lines().next().unwrap_or_default();
        assert!(line.ends_with(";90;95;0;100"), "{line}");
        assert!(text.lines().nth(1).is_some_and(|l| l.contains("numbers are left out")), "{text}");
        assert!(text.len() <= MAX_OUTPUT_BYTES);
    }

    #[test]
    fn labels_and_ranges() {
        let m = |value, falling| Measure {
            subject: "queue:it's a=b|c".into(),
            name: "age".into(),
            unit: Unit::Seconds,
            value,
            warn: Some(10.0),
            crit: Some(5.5),
            falling,
            max: None,
        };
        assert_eq!(datum(&m(1e21, true)), "'queue:it_s a_b_c age'=1000000000000000000000s;10:;5.5:");
        assert_eq!(datum(&m(-2.0, false)), "'queue:it_s a_b_c age'=-2s;~:10;~:5.5");
        assert_eq!(datum(&m(f64::NAN, false)), "'queue:it_s a_b_c age'=Us;10;5.5");
    }

    #[test]
    fn error_is_unknown() {
        assert_eq!(nagios_error("a|b\n  c"), "OPSCTL UNKNOWN - a\u{a6}b\n  c\n");
    }
}
